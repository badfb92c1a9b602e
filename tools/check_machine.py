# SPDX-License-Identifier: Apache-2.0
"""Name, in one message, everything that a machine lacks for building pcperc; runs on a bare Python."""

import importlib.util
import os
import shutil
import sys


def missing() -> list[str]:
    """Return one line a missing thing, with the Debian package that brings it."""
    lines = []
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        lines.append(f"Python 3.10 to 3.13, got {sys.version.split()[0]} (set PYTHON=python3.12, say)")
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            lines.append(f"Python's {module} (apt install python3-venv)")
            break
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        lines.append(f"the C++ compiler {compiler} (apt install g++)")
    return lines


if __name__ == "__main__":
    found = missing()
    if found:
        sys.exit("pcperc cannot be built here; missing: " + "; ".join(found))
