# SPDX-License-Identifier: Apache-2.0
"""Freed memory: kept for the next tensor, and given back when asked for."""

import platform
import subprocess
import sys

import pytest

CODE = """
import resource
import torch
from pathlib import Path
from pcperc.engine.memory import keep_freed_memory, return_freed_memory

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    [torch.ones(mib << 20, dtype=torch.uint8) for mib in (40, 64, 48, 56, 40, 64)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20

print(*[new_pages() for _ in range(5)])
print(keep_freed_memory())
print(*[new_pages() for _ in range(5)])
kept = resident_mib()
return_freed_memory()
print(kept - resident_mib())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="sets options of glibc's malloc")
def test_memory_is_used_again_and_given_back():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    before, was_set, kept, returned = done.stdout.splitlines()
    assert was_set == "True"
    assert int(kept.split()[-1]) < int(before.split()[-1]) / 2
    assert int(returned) > 250
