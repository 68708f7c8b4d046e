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

# Each block of memory by itself, so that an access past its end is one that the sanitizer can see. A sanitizer makes a launch a
# thousand times as slow, on one core: each test file has a process of its own, as many at once as there are cores, the long
# ones first.
sanitize() { # TOOL TEST_FILE
    local log=$report/sanitize/$1-$(basename "$2" .cc) only=()
    # Races in our own kernels: cuBLAS's use means of the chip that racecheck does not know.
    [ "$1" = racecheck ] && only=(--kernel-name kernel_substring=parabola)
    PARABOLA_TEST_DEVICE=cuda PARABOLA_SEPARATE_BLOCKS=1 "$sanitizer" --tool "$1" "${only[@]}" \
        --error-exitcode 86 "$build/tests" --source-file="*$2" >"$log.log" 2>&1
    echo $? >"$log.code"
}
if wanted sanitize; then
    sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
    files=$(ls -S tests/ops/*_test.cc)
    rm -rf "$report/sanitize" "$report/failed" && mkdir "$report/sanitize"
    export report build sanitizer
    export -f sanitize
    [ -z "$sanitizer" ] || for tool in memcheck racecheck; do printf "$tool %s\n" $files; done |
        timeout 440 xargs -P "$(nproc)" -n 2 bash -c 'sanitize "$0" "$1"'
    {
        [ -n "$sanitizer" ] || echo 'Skipped: no compute-sanitizer on this machine.'
        for tool in ${sanitizer:+memcheck racecheck}; do
            cat "$report/sanitize/$tool"-*.log >"$report/$tool.log" 2>/dev/null
            refused=$(grep -iE '=========.*(not supported|insufficient permissions|initialization failed)' "$report/$tool.log" | head -n 1)
            echo "**$tool** over the op tests:"
            echo
            if [ -n "$refused" ] && ! grep -lx 0 "$report/sanitize/$tool"-*.code >/dev/null 2>&1; then
                echo "skipped, since this machine refuses it: $refused"
            else
                # Tests that use no device end the sanitizer with an error of its own.
                idle=$(grep -l 'terminated before first instrumented API call' "$report/sanitize/$tool"-*.log 2>/dev/null)
                for log in $idle; do grep -q '^tests: .* 0 failed' "$log" && echo 0 >"${log%.log}.code"; done
                ended=$(ls "$report/sanitize/$tool"-*.code 2>/dev/null | wc -l)
                bad=$(grep -Lx 0 "$report/sanitize/$tool"-*.code 2>/dev/null)
                {
                    echo "$ended of $(echo "$files" | wc -l) files of tests ended, $(echo -n "$bad" | grep -c .) of them with errors;" \
                        "$(echo -n "$idle" | grep -c .) use no device"
                    awk '/^tests: / { passed += $2; failed += $4; skipped += $6 }
                        END { printf "tests: %d passed, %d failed, %d skipped\n", passed, failed, skipped }' "$report/$tool.log"
                    grep -hE '=========.*(Invalid|Race|SUMMARY)' "$report/$tool.log" | sort | uniq -c | head -n 20
                } | fenced
                for code in $bad; do echo "- $(basename "$code" .code): exit code $(cat "$code")"; done
                [ -z "$bad" ] && ! grep -qE '=========.*(Invalid|Race)' "$report/$tool.log" || touch "$report/failed"
                for file in $files; do
                    [ -e "$report/sanitize/$tool-$(basename "$file" .cc).code" ] || echo "- $(basename "$file"): not ended in time"
                done
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
            echo 'same run, in the faster of its memory formats; ratio: its time over ours.'
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
                theirs= format=
                for format_tried in ${has_torch:+nchw channels_last}; do
                    ms=$(cd "$peers" && "$python" bench_models.py --model $model --batch $batch --device cuda --dtype $dtype \
                        --format $format_tried --seconds 1 2>>"$report/bench.log" | number ms)
                    awk -v new="${ms:-0}" -v best="${theirs:-1e9}" 'BEGIN { exit !(new > 0 && new < best) }' &&
                        theirs=$ms format=$format_tried
                done
                ratio=$(awk -v a="${theirs:-0}" -v b="${ours:-0}" 'BEGIN { if (a > 0 && b > 0) printf "%.2f", a / b; else printf "-" }')
                [ -z "$ours" ] || ours=$(printf %.2f "$ours")
                echo "| $model | $batch | $dtype | ${ours:-failed} | ${theirs:--} $format | $ratio |"
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
