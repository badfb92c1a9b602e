#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The CPU operators under AddressSanitizer and UndefinedBehaviorSanitizer: builds _C with both into build/sanitized and runs
# the operator tests on it. Status 0 where nothing is found. PYTHON is the interpreter (python3); arguments replace the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=$(command -v "${PYTHON:-python3}")
COMPILER=${CXX:-g++}
folder=build/sanitized
mkdir -p build

CXX="$COMPILER -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g" \
  PCPERC_NO_CUDA=1 "$PYTHON" setup.py -q build --build-lib "$folder" > build/sanitized.log 2>&1 || { tail -n 20 build/sanitized.log; exit 1; }
# The tests stand beside the sanitized package, so that the checkout's own is out of sight.
rm -rf "$folder/tests" && cp -r tests pyproject.toml "$folder"
cd "$folder"
library() { $COMPILER -print-file-name="$1"; }  # libstdc++ too, or the exceptions of libtorch are not seen
run() {
  LD_PRELOAD="$(library libasan.so) $(library libubsan.so) $(library libstdc++.so)" \
    ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 "$PYTHON" "$@"
}
run -c "import os, pcperc; assert os.path.dirname(pcperc.__file__) == os.path.join(os.getcwd(), 'pcperc')"
if [ $# = 0 ]; then set -- tests/ops tests/sparse tests/nn; fi
# A sanitizer writes to the stream itself and ends the process, which would lose what pytest holds back.
run -m pytest -q --capture=sys -m "not gpu and not large" -p no:cacheprovider "$@"
