# SPDX-License-Identifier: Apache-2.0
"""Name, in one message, everything that a machine lacks for building pcperc; runs on a bare Python, also an old one."""

import importlib.util
import os
import shlex
import shutil
import sys


def missing():
    """Return one line a missing thing, with the Debian package that brings it."""
    # No annotations: list[str] would stop a Python of 3.8 or before, which must be told that it is too old.
    lines = []
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        lines.append(f"Python 3.10 to 3.13, got {sys.version.split()[0]} (set PYTHON=python3.12, say)")
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            lines.append(f"Python's {module} (apt install python3-venv)")
            break
    compiler = shlex.split(os.environ.get("CXX") or "g++")[0]
    if shutil.which(compiler) is None:
        lines.append(f"the C++ compiler {compiler} (apt install g++)")
    return lines


if __name__ == "__main__":
    found = missing()
    if found:
        sys.exit("pcperc cannot be built here; missing: " + "; ".join(found))
