#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The marked operator tests on a GPU under compute-sanitizer: memcheck, racecheck, synccheck, initcheck, side by side. Prints
# a line for each tool and the first findings; status 0 where no tool found anything in pcperc's kernels and every test passed.
# PYTHON is the interpreter (python3), PARTS the processes of each tool (3; racecheck, the slowest, has twice as many; all of
# them use one core each and some GB of GPU memory), TIME_LIMIT the seconds that all may take (480), LOGS where the logs go,
# TESTS the tests (tests/ops).
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
PARTS=${PARTS:-3}
TIME_LIMIT=${TIME_LIMIT:-480}
TESTS=${TESTS:-tests/ops}
LOGS=${LOGS:-build/sanitize_gpu}
TOOLS="memcheck synccheck racecheck initcheck"
SANITIZER=$(command -v compute-sanitizer || echo "${CUDA_HOME:-/usr/local/cuda}/bin/compute-sanitizer")
[ -x "$SANITIZER" ] || { echo "compute-sanitizer was not found: put it on PATH or set CUDA_HOME"; exit 1; }
mkdir -p "$LOGS"
rm -f "$LOGS"/*.log

# Each tensor gets an allocation of its own, so that what is read or written beside it is seen.
export PYTORCH_NO_CUDA_MEMORY_CACHING=1 OMP_NUM_THREADS=1

parts_of() { [ "$1" = racecheck ] && echo $((2 * PARTS)) || echo "$PARTS"; }

run_part() {
  local tool=$1 part=$2 only=(--kernel-name kns=pcperc)
  # initcheck must see what every kernel writes, torch's too; of its findings those in our kernels count.
  [ "$tool" = initcheck ] && only=()
  PCPERC_TEST_PART=$part/$(parts_of "$tool") timeout "$TIME_LIMIT" "$SANITIZER" --tool "$tool" "${only[@]}" --target-processes all \
    --report-api-errors no --print-limit 1000 --log-file "$LOGS/$tool.$part.log" \
    "$PYTHON" -m pytest $TESTS -m "sanitizer and gpu" -q -p tests.part -p no:cacheprovider --durations=8 > "$LOGS/$tool.$part.tests.log" 2>&1
  echo $? > "$LOGS/$tool.$part.status.log"
}

for tool in $TOOLS; do
  parts=$(parts_of "$tool")
  for ((part = 0; part < parts; ++part)); do run_part "$tool" "$part" & done
done
wait

status=0
for tool in $TOOLS; do
  findings=0 passed=0 unfinished=0 parts=$(parts_of "$tool")
  for ((part = 0; part < parts; ++part)); do
    log="$LOGS/$tool.$part.log" tests="$LOGS/$tool.$part.tests.log"
    # A finding names its kernel in a line "at [void] pcperc::...", racecheck's in "in [void] pcperc::...".
    found=$(grep -sE '=+ +(at|in) .*pcperc' "$log" | wc -l)
    # Where only our kernels were looked at, the tool's own count holds too, whatever its lines look like.
    if [ "$tool" != initcheck ] && [ "$found" = 0 ]; then found=$(grep -sE 'SUMMARY: [1-9]' "$log" | wc -l); fi
    if [ "$found" != 0 ]; then grep -E -m 5 -B 1 -A 3 '=+ +(at|in) .*pcperc|SUMMARY' "$log"; fi
    findings=$((findings + found))
    # The status of a run without a filter is torch's too; the tests' own words decide there.
    count=$(grep -oE '^=* ?[0-9]+ passed' "$tests" | grep -oE '[0-9]+')
    passed=$((passed + ${count:-0}))
    ended=$(cat "$LOGS/$tool.$part.status.log")
    # 5: there were fewer tests than parts, and none for this one.
    if [ -z "$count" ] && [ "$ended" != 5 ]; then unfinished=$((unfinished + 1)); tail -n 5 "$tests"; fi
    if [ "$ended" = 124 ]; then echo "$tool, part $part: stopped, $TIME_LIMIT s are over"; fi
  done
  echo "$tool: $findings findings in pcperc's kernels; $passed tests passed, $unfinished of $parts parts not finished"
  if [ "$findings" != 0 ] || [ "$unfinished" != 0 ] || [ "$passed" = 0 ]; then status=1; fi
done
[ $status = 0 ] && echo "compute-sanitizer found nothing ($SECONDS s)" || echo "compute-sanitizer: see $LOGS"
exit $status
