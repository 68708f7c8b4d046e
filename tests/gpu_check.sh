#!/usr/bin/env bash
# make gpu-check: proves the CUDA backend on the GPU of this machine and times it. Made for a bare machine: needs what make
# needs, and nothing else; compute-sanitizer and PyTorch are used where they are.
#   gpu_check.sh PART REPORT PEERS     PART: tests, sanitize, bench or all; run by make, from the repository's root
# Writes REPORT/gpu-report.md (a part replaces its own section) and ends with 1 where a test failed.
set -uo pipefail
part=$1 report=$2 peers=$3
build=build/bin
mkdir -p "$report/parts" && report=$(cd "$report" && pwd) || exit 2
status=0

section() { # FILE TITLE: standard input becomes that section of the report
    { echo "## $2"; echo; cat; echo; } >"$report/parts/$1.md"
}
fenced() { echo '```'; cat; echo '```'; }
wanted() { [ "$part" = all ] || [ "$part" = "$1" ]; }

gpu=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | head -n 1)
[ -n "$gpu" ] || {
    echo "gpu-check: no GPU found: nvidia-smi answers nothing; expected an NVIDIA GPU and its driver" >&2
    exit 2
}

# Asked of the driver, not left to nvcc's "native", which builds for something old where it cannot tell.
arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
"$MAKE" CUDA=1 CUDA_ARCHS="$arch" all chapters "$build/tests" || exit 1

if wanted tests; then
    log=$report/tests.log
    PARABOLA_TEST_DEVICE=cuda PARABOLA_LONG=1 timeout 480 tests/suites.sh build rest apps ops >"$log" 2>&1
    code=$?
    counts=$(awk '{ passed += $1; failed += $2; skipped += $3 }
        END { printf "tests: %d passed, %d failed, %d skipped\n", passed, failed, skipped; exit failed > 0 }' build/{rest,apps,ops}-counts) ||
        status=1
    {
        echo '`PARABOLA_TEST_DEVICE=cuda`, the whole suite with its long cases:'
        echo
        echo "$counts" | fenced
        if grep -q '^skipped: ' "$log"; then
            echo
            echo 'Skipped:'
            echo
            grep '^skipped: ' "$log" | sort | uniq | sed 's/^skipped: /- /'
        fi
        [ $code -ne 124 ] || echo 'It ran out of its 480 seconds: not all tests were seen.'
        [ $status -eq 0 ] || { echo; echo 'What failed:'; echo; grep -E 'ERROR|error:' "$log" | head -n 40 | fenced; }
    } | section 1-tests Tests
    echo "$counts"
fi

# Each block of memory by itself, so that an access past its end is one that the sanitizer can see.
sanitize() { # TOOL LOG
    # Races in our own kernels: cuBLAS's use means of the chip that racecheck does not know.
    local only=()
    [ "$1" = racecheck ] && only=(--kernel-name kernel_substring=parabola)
    PARABOLA_TEST_DEVICE=cuda PARABOLA_SEPARATE_BLOCKS=1 timeout 440 "$sanitizer" --tool "$1" "${only[@]}" \
        --error-exitcode 86 "$build/tests" --source-file='*tests/ops/*' >"$2" 2>&1
    echo $? >"$2.code"
}
if wanted sanitize; then
    sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
    [ -z "$sanitizer" ] || for tool in memcheck racecheck; do sanitize $tool "$report/$tool.log" & done
    wait
    {
        [ -n "$sanitizer" ] || echo 'Skipped: no compute-sanitizer on this machine.'
        for tool in ${sanitizer:+memcheck racecheck}; do
            log=$report/$tool.log
            code=$(cat "$log.code")
            echo "**$tool** over the op tests:"
            echo
            refused=$(grep -iE '=========.*(not supported|insufficient permissions|initialization failed)' "$log" | head -n 1)
            if [ -n "$refused" ]; then
                echo "skipped, since this machine refuses it: $refused"
            else
                { grep '^tests: ' "$log"; grep -E 'ERROR SUMMARY|RACECHECK SUMMARY|Error:|Invalid' "$log" | head -n 20; } | fenced
                [ "$code" -eq 124 ] && echo 'It ran out of its 440 seconds: not all op tests were seen.'
                [ "$code" -eq 0 ] || { [ "$code" -eq 124 ] && ! grep -qE '=========.*(Invalid|Error:|Race)' "$log"; } || touch "$report/failed"
            fi
            echo
        done
    } | section 2-sanitize Sanitizers
    [ -e "$report/failed" ] && { rm "$report/failed"; status=1; }
    cat "$report/parts/2-sanitize.md"
fi

if wanted bench; then
    {
        for dtype in f32 tf32; do
            echo "Every op, $dtype; shares are of ceilings measured in the same run:"
            echo
            "$build/bench" --op all --device cuda --dtype $dtype 2>&1 | fenced
            echo
        done
    } | section 3-ops Ops
    cat "$report/parts/3-ops.md"
    python=$(command -v python3)
    has_torch=$([ -n "$python" ] && [ -f "$peers/bench_models.py" ] && "$python" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null && echo yes)
    {
        if [ -n "$has_torch" ]; then
            echo "A training step, milliseconds (median), beside PyTorch $("$python" -c 'import torch; print(torch.__version__)') in the"
            echo 'same run; ratio: its time over ours.'
        else
            echo 'A training step, milliseconds (median). PyTorch is not here (or PEERS names no folder with its programs).'
        fi
        echo
        echo '| model | batch | dtype | Parabola | PyTorch | ratio |'
        echo '| --- | --- | --- | --- | --- | --- |'
        number() { sed -n "s/.*\"$1\": *\([0-9.]*\).*/\1/p" | tail -n 1; }
        for model in resnet20 qresnet14 quadranet_cifar convnext_cifar qmlp; do
            batch=128
            [ $model = qmlp ] && batch=256
            for dtype in f32 tf32; do
                ours=$("$build/bench" --model $model --batch $batch --device cuda --dtype $dtype --checkpoint none --json - 2>>"$report/bench.log" | number step_ms_median)
                theirs=
                [ -n "$has_torch" ] && theirs=$(cd "$peers" && "$python" bench_models.py --model $model --batch $batch --device cuda \
                    --dtype $dtype --format channels_last 2>>"$report/bench.log" | number ms)
                ratio=$(awk -v a="${theirs:-0}" -v b="${ours:-0}" 'BEGIN { if (a > 0 && b > 0) printf "%.2f", a / b; else printf "-" }')
                echo "| $model | $batch | $dtype | ${ours:-failed} | ${theirs:--} | $ratio |"
            done
        done
    } | section 4-models Models
    cat "$report/parts/4-models.md"
    grep -qE '^error: |\| failed \|' "$report"/parts/[34]-*.md && status=1
fi

{
    echo "# On a GPU"
    echo
    echo "$(date -u +%Y-%m-%d), $gpu, CUDA $NVCC_VERSION, commit ${COMMIT:-$(git rev-parse --short HEAD 2>/dev/null || echo unknown)}"
    echo
    cat "$report"/parts/*.md
} >"$report/gpu-report.md"
echo "report: $report/gpu-report.md"
exit $status
