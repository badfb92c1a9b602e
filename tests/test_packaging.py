# SPDX-License-Identifier: Apache-2.0
"""What a source archive and a wheel hold, and what is said where the compiler is missing."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def setup(*arguments, root=ROOT, **environment):
    command = [sys.executable, "setup.py", "-q", *map(str, arguments)]
    return subprocess.run(command, cwd=root, env=os.environ | environment, capture_output=True, text=True)


def test_a_source_archive_holds_all_of_csrc_and_the_tables_of_kernels(tmp_path):
    done = setup("egg_info", "--egg-base", tmp_path, "sdist", "--dist-dir", tmp_path, PCPERC_NO_CUDA="1")
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        packed = {name.partition("/")[2] for name in tar.getnames()}
    files = [*(ROOT / "csrc").rglob("*"), *(ROOT / "pcperc/ops/selection").iterdir()]
    assert {str(p.relative_to(ROOT)) for p in files if p.is_file()} <= packed
    assert not any(name.endswith(".so") for name in packed)


def test_a_wheel_is_one_for_every_python_and_torch(tmp_path):
    folders = ("--bdist-dir", tmp_path / "files", "--dist-dir", tmp_path)
    done = setup("egg_info", "--egg-base", tmp_path, "bdist_wheel", *folders, PCPERC_NO_CUDA="1")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith("pcperc-") and "-cp310-abi3-linux_" in wheel.name
    with zipfile.ZipFile(wheel) as files:
        names = files.namelist()
        (metadata,) = (files.read(name).decode() for name in names if name.endswith("dist-info/METADATA"))
        library = Path(files.extract("pcperc/_C.abi3.so", tmp_path))
    assert [name for name in names if name.endswith(".so")] == ["pcperc/_C.abi3.so"] and "pcperc/nn/conv.py" in names
    assert {f"pcperc/ops/selection/{path.name}" for path in (ROOT / "pcperc/ops/selection").glob("*.txt")} <= set(names)
    assert not any(name.startswith(("tests", "csrc", "tools")) for name in names)
    assert "Requires-Dist: torch>=2.10" in metadata and "Requires-Python: <3.14,>=3.10" in metadata
    # Of Python, and of torch but for its stable C interface, nothing is asked: their C++ changes between versions.
    symbols = subprocess.run(
        ["nm", "-D", "--undefined-only", library], capture_output=True, text=True, check=True
    ).stdout
    needed = {line.split()[-1] for line in symbols.splitlines()}
    assert {name for name in needed if name.startswith(("aoti_torch_", "torch_"))}
    assert not {name for name in needed if re.match("_?Py|_ZNK?(2at|3c10|5torch)", name)}


def test_a_build_in_place_without_cuda_leaves_no_cuda_library_of_an_earlier_one(tmp_path):
    project = ("csrc", "setup.py", "pyproject.toml", "README.md", "LICENSE", "pcperc/__init__.py")
    for name in (*project, "pcperc/_C_cuda.abi3.so"):
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(exist_ok=True)
        if source.suffix == ".so":
            target.touch()
        else:
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)
    (tmp_path / "build").mkdir()
    for objects in (ROOT / "build").glob("objects-*"):  # compiled already: what is left is to link them
        shutil.copytree(objects, tmp_path / "build" / objects.name)
    done = setup("build_ext", "--inplace", root=tmp_path, PCPERC_NO_CUDA="1")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "pcperc").glob("*.so")] == ["_C.abi3.so"]


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
