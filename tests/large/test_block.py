# SPDX-License-Identifier: Apache-2.0
"""A cloud so large that its features have more than 2^31 elements, in a process of its own for the sake of its peak."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
EDGE = 331  # 36,264,691 voxels, 2,320,940,224 elements
PEAK_GB = 20


def free_gb() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) * 1024 / 1e9


def convolve_block(edge: int, device) -> dict:
    command = [sys.executable, "-m", "tests.large.block_conv", str(edge), str(device)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return json.loads(done.stdout)


def test_a_small_block(device):
    """What the large one relies on: the check itself, and the number of pairs of a full block."""
    result = convolve_block(7, device)
    assert result["right"] and result["pairs"] == (3 * 7 - 2) ** 3


@pytest.mark.large
def test_more_than_two_to_the_31_elements(device):
    if device.type == "cpu" and free_gb() < PEAK_GB + 1:
        pytest.skip(f"memory: {PEAK_GB + 1} GB must be free, got {free_gb():.1f}")
    result = convolve_block(EDGE, device)
    assert result["elements"] > 2**31
    assert result["pairs"] == (3 * EDGE - 2) ** 3
    assert result["right"], result
    assert device.type == "cuda" or result["peak_gb"] <= PEAK_GB, result
