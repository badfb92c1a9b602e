# SPDX-License-Identifier: Apache-2.0
"""Build ``pcperc._C`` (CPU, always) and ``pcperc._C_cuda`` (where nvcc and a CUDA torch are found).

Both are plain shared libraries on PyTorch's stable ABI: importing them runs the static
initialisers that register the operators, so one build serves every Python >= 3.10 and torch >= 2.10.

Environment:
    PCPERC_NO_CUDA=1       never build ``_C_cuda``.
    PCPERC_FORCE_CUDA=1    build ``_C_cuda`` with nvcc alone, also where torch is a CPU build.
    TORCH_CUDA_ARCH_LIST   architectures, as torch reads it; default "8.0;9.0+PTX". Sources *_warpgroup.cu are
                           compiled for sm_90a whatever it says.
    DEBUG=1                -O0 -g instead of -O3.
    CXX                    C++ compiler, with options if need be ("ccache g++"); default g++.
"""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
STABLE_ABI = ["-DTORCH_TARGET_VERSION=0x020a000000000000", "-DTORCH_STABLE_ONLY"]
DEBUG = os.environ.get("DEBUG") == "1"
CXX = shlex.split(os.environ.get("CXX") or "g++")


def find_nvcc() -> str | None:
    """Return the path of nvcc from CUDA_HOME, PATH or /usr/local/cuda, or None."""
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    return shutil.which("nvcc", path=f"{home}/bin") or shutil.which("nvcc")


def wants_cuda() -> bool:
    """Decide whether ``_C_cuda`` is built, and say why not where it was asked for in vain."""
    if os.environ.get("PCPERC_NO_CUDA") == "1":
        return False
    if os.environ.get("PCPERC_FORCE_CUDA") == "1":
        if find_nvcc() is None:
            sys.exit("PCPERC_FORCE_CUDA=1 needs nvcc: put it on PATH or set CUDA_HOME")
        return True
    import torch

    return torch.version.cuda is not None and find_nvcc() is not None


def cuda_arch_flags(source: str) -> list[str]:
    """Translate TORCH_CUDA_ARCH_LIST ("8.0;9.0+PTX") into -gencode flags; warpgroup products are Hopper's alone."""
    if source.endswith("_warpgroup.cu"):
        return ["-gencode=arch=compute_90a,code=sm_90a"]
    flags = []
    for entry in (os.environ.get("TORCH_CUDA_ARCH_LIST") or "8.0;9.0+PTX").replace(";", " ").split():
        number = entry.removesuffix("+PTX").replace(".", "")
        flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if entry.endswith("+PTX"):
            flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return flags


class BuildStableLibraries(build_ext):
    """Compile each source in its own process, all cores, and link against libtorch's stable symbols."""

    def finalize_options(self) -> None:
        if wants_cuda():
            cuda = Extension("pcperc._C_cuda", sources("cuda", "*.cu"), py_limited_api=True)
            self.distribution.ext_modules.append(cuda)
        super().finalize_options()

    def run(self) -> None:
        # setuptools packs whatever lies in build_lib: without this a library of an earlier build, with CUDA, stays in.
        for stale in Path(self.build_lib, "pcperc").glob("_C*.so"):
            stale.unlink()
        # Nor may one stay beside a new _C whose operators take other arguments: without nvcc, or where its build fails.
        for stale in (ROOT / "pcperc").glob("_C_cuda*.so") if self.inplace else []:
            stale.unlink()
        super().run()

    def build_extension(self, ext: Extension) -> None:
        import torch

        torch_dir = Path(torch.__file__).parent
        includes = [f"-I{torch_dir / 'include'}", "-Icsrc"]
        objects_dir = ROOT / "build" / f"objects-torch{torch.__version__}" / ext.name
        objects_dir.mkdir(parents=True, exist_ok=True)
        commands = {s: self.compile_command(s, objects_dir, includes) for s in ext.sources}
        stale = [c for s, c in commands.items() if self.force or self.is_stale(Path(s), Path(c[-1]))]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(self.execute, stale))
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = f"{target}.{os.getpid()}.partial"
        link = [*CXX, "-shared", "-o", partial]
        link += [c[-1] for c in commands.values()]
        link += [f"-L{torch_dir / 'lib'}", "-Wl,--no-as-needed", "-ltorch", "-ltorch_cpu", "-pthread"]
        if ext.name.endswith("_cuda"):
            cuda_home = Path(find_nvcc()).resolve().parent.parent
            link += [f"-L{cuda_home / 'lib64'}", "-lcudart_static", "-lrt", "-ldl"]
        self.execute(link)
        os.replace(partial, target)  # a process that has the old library mapped keeps its copy

    @staticmethod
    def compile_command(source: str, objects_dir: Path, includes: list[str]) -> list[str]:
        """Return the compiler call for one source; its last word is the object file, a new one for other options."""
        optimise = ["-O0", "-g"] if DEBUG else ["-O3"]
        common = ["-std=c++17", *optimise, *STABLE_ABI, *includes]
        if source.endswith(".cu"):
            host = ["-Xcompiler", "-fPIC,-Wall,-Wno-unknown-pragmas", "-DUSE_CUDA", "--expt-relaxed-constexpr"]
            command = [find_nvcc(), *common, *host, *cuda_arch_flags(source), "-c", source, "-o"]
        else:
            command = [*CXX, *common, "-fPIC", "-Wall", "-Werror", "-c", source, "-o"]
        options = hashlib.sha256(" ".join(command).encode()).hexdigest()[:8]
        return [*command, str(objects_dir / f"{source.replace('/', '_')}.{options}.o")]

    @staticmethod
    def is_stale(source: Path, target: Path) -> bool:
        """True where the object is missing or older than its source, a header that it includes or this file."""
        if not target.exists():
            return True
        return max(p.stat().st_mtime for p in [ROOT / "setup.py", *included(ROOT / source)]) > target.stat().st_mtime

    @staticmethod
    def execute(command: list[str]) -> None:
        print(" ".join(command), flush=True)
        if shutil.which(command[0]) is None:
            sys.exit(f"the compiler {command[0]} was not found: apt install g++, or set CXX")
        if subprocess.run(command, cwd=ROOT).returncode:
            sys.exit(f"failed: {' '.join(command)}")


def included(source: Path) -> set[Path]:
    """Return ``source`` and all headers of csrc/ that it includes, directly or not."""
    found, left = set(), [source]
    while left:
        path = left.pop()
        if path not in found:
            found.add(path)
            names = re.findall(r'^#include "(.+)"', path.read_text(), re.MULTILINE)
            left += [ROOT / "csrc" / name for name in names]
    return found


def sources(folder: str, pattern: str) -> list[str]:
    return sorted(str(p.relative_to(ROOT)) for p in (ROOT / "csrc" / folder).glob(pattern))


setup(
    ext_modules=[Extension("pcperc._C", ["csrc/registration.cpp", *sources("cpu", "*.cpp")], py_limited_api=True)],
    cmdclass={"build_ext": BuildStableLibraries},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
