#!/usr/bin/env bash
# tests/suites.sh BUILD SUITE...: runs parts of the tests beside each other, one for each core, in the order given; with
# the longest first, the cores end together. Each leaves its counts (passed, failed, skipped) in BUILD/SUITE-counts. What
# the first has to say is seen at once, what another has when it has ended.
#   apps: the cases of the programs   ops: those of the ops   rest: all others
#   emulated: every CUDA kernel on the emulated grid (tests_emulated)
# A suite counts as one failure until it has said otherwise, and so does one that ends badly without a failed case (a
# sanitizer's report).
set -euo pipefail
build=$1 first=$2
shift
for suite in "$@"; do echo 0 1 0 >"$build/$suite-counts"; done

run() {
  case $1 in
    apps) set -- apps tests --source-file='*tests/apps/*' ;;
    ops) set -- ops tests --source-file='*tests/ops/*' ;;
    rest) set -- rest tests --source-file-exclude='*tests/apps/*,*tests/ops/*' ;;
    # Fibres would make the search for uses of dead stack frames several times as slow.
    emulated) set -- emulated tests_emulated && export ASAN_OPTIONS=exitcode=86:detect_stack_use_after_return=0 ;;
  esac
  local counts=$build/$1-counts program=$build/bin/$2
  shift 2
  PARABOLA_TEST_COUNTS=$counts "$program" "$@" || sed -i 's/^\([0-9]*\) 0 /\1 1 /' "$counts"
}

run_and_show() {
  if [ "$1" = "$first" ]; then
    run "$1"
  else
    run "$1" >"$build/$1-log" 2>&1
    cat "$build/$1-log"
  fi
}
export build first
export -f run run_and_show
printf '%s\n' "$@" | xargs -P "$(nproc)" -n 1 bash -c 'run_and_show "$0"'
