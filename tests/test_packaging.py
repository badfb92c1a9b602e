# SPDX-License-Identifier: Apache-2.0
"""What a source archive holds, and what is said where the compiler is missing."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def setup(*arguments, **environment):
    command = [sys.executable, "setup.py", "-q", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True)


def test_a_source_archive_holds_all_of_csrc(tmp_path):
    done = setup("egg_info", "--egg-base", tmp_path, "sdist", "--dist-dir", tmp_path, PCPERC_NO_CUDA="1")
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        packed = {name.partition("/")[2] for name in tar.getnames()}
    wanted = {str(p.relative_to(ROOT)) for p in (ROOT / "csrc").rglob("*") if p.is_file()}
    assert wanted <= packed
    assert not any(name.endswith(".so") for name in packed)


def test_a_missing_compiler_is_named(tmp_path):
    built = setup("build_ext", "--build-lib", tmp_path, CXX="no-such-compiler -O1", PCPERC_NO_CUDA="1")
    assert built.returncode != 0 and "the compiler no-such-compiler was not found" in built.stderr
    assert "Traceback" not in built.stderr
    checked = subprocess.run(
        [sys.executable, "tools/check_machine.py"],
        cwd=ROOT,
        env=os.environ | {"CXX": "no-such-compiler -O1"},
        capture_output=True,
        text=True,
    )
    assert checked.returncode != 0 and "the C++ compiler no-such-compiler (apt install g++)" in checked.stderr
