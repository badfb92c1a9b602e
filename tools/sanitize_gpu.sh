#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The marked operator tests on a GPU under compute-sanitizer: memcheck, racecheck, synccheck, initcheck. Prints a line for
# each tool and the first findings; status 0 where no tool found anything in pcperc's kernels and every test passed.
# PYTHON is the interpreter (python3), TIME_LIMIT the seconds that all may take together (480), LOGS where the logs go.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
TIME_LIMIT=${TIME_LIMIT:-480}
LOGS=${LOGS:-build/sanitize_gpu}
SANITIZER=$(command -v compute-sanitizer || echo "${CUDA_HOME:-/usr/local/cuda}/bin/compute-sanitizer")
[ -x "$SANITIZER" ] || { echo "compute-sanitizer was not found: put it on PATH or set CUDA_HOME"; exit 1; }
mkdir -p "$LOGS"

# Each tensor gets an allocation of its own, so that what is read or written beside it is seen.
export PYTORCH_NO_CUDA_MEMORY_CACHING=1
status=0
for tool in memcheck synccheck racecheck initcheck; do
  # initcheck must see what every kernel writes, torch's too; of its findings those in our kernels count.
  only=(--kernel-name kns=pcperc)
  [ $tool = initcheck ] && only=()
  start=$SECONDS left=$((TIME_LIMIT > SECONDS ? TIME_LIMIT - SECONDS : 1))
  timeout "$left" "$SANITIZER" --tool $tool "${only[@]}" --target-processes all --report-api-errors no \
    --print-limit 1000 --log-file "$LOGS/$tool.log" \
    "$PYTHON" -m pytest tests/ops -m "sanitizer and gpu" -q -p no:cacheprovider > "$LOGS/$tool.tests.log" 2>&1
  ended=$?
  # A finding names its kernel in a line "at [void] pcperc::...", racecheck's in "in [void] pcperc::...".
  findings=$(grep -cE '=+ +(at|in) .*pcperc' "$LOGS/$tool.log")
  # Where only our kernels were looked at, the tool's own count holds too, whatever its lines look like.
  if [ $tool != initcheck ] && [ "$findings" = 0 ]; then findings=$(grep -cE 'SUMMARY: [1-9]' "$LOGS/$tool.log"); fi
  summary=$(tail -n 1 "$LOGS/$tool.tests.log")
  if [ $ended = 124 ]; then summary="stopped: $TIME_LIMIT s are over"; fi
  echo "$tool: $findings findings in pcperc's kernels; tests: $summary ($((SECONDS - start)) s)"
  if [ "$findings" != 0 ]; then grep -E -m 5 -B 1 -A 3 '=+ +(at|in) .*pcperc|SUMMARY' "$LOGS/$tool.log"; fi
  if [ $ended != 0 ]; then tail -n 5 "$LOGS/$tool.log" "$LOGS/$tool.tests.log"; fi
  # The status of a run without a filter is torch's too; the tests' own words decide there.
  passed=$(grep -cE '^[0-9]+ passed' "$LOGS/$tool.tests.log")
  if [ "$findings" != 0 ] || [ $ended = 124 ] || [ "$passed" = 0 ]; then status=1; fi
done
[ $status = 0 ] && echo "compute-sanitizer found nothing" || echo "compute-sanitizer: see $LOGS"
exit $status
