# SPDX-License-Identifier: Apache-2.0
"""Fixtures of every test: real samples, devices, seeds; and the count of what was skipped for want of them."""

import importlib.util
import os
import random
import warnings
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl
import torch
from hypothesis import settings

from tests import op_contract

# The same cases in every run, so that what fails fails again; HYPOTHESIS_PROFILE=default draws others.
settings.register_profile("repeated", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeated"))

torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False


@pytest.fixture(autouse=True)
def _seed():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Folder of the real samples; the test is skipped where $PCPERC_REALDATA does not name one."""
    folder = os.environ.get("PCPERC_REALDATA", "")
    if not folder or not Path(folder, "README.md").is_file():
        pytest.skip("real samples: $PCPERC_REALDATA does not name their folder")
    return Path(folder)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request) -> torch.device:
    """Each test that takes it runs on the CPU and, under ``-m gpu``, on the GPU."""
    return torch.device(request.param)


@pytest.fixture
def spconv():
    """spconv.pytorch, an oracle where it is installed. On one thread: the CPU sums of spconv 2.3.8 race on several."""
    if importlib.util.find_spec("spconv") is None:
        pytest.skip("peer: spconv is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = importlib.import_module("spconv.pytorch")  # where it is there but does not import, tests fail
    with threadpoolctl.threadpool_limits(1, user_api="openmp"):
        yield peer


@pytest.fixture
def sweep_file(tmp_path) -> Path:
    """A file of 400 points as tools/benchmark.py reads one."""
    np.savez(tmp_path / "sweep.npz", pc=np.random.default_rng(0).uniform(0, 10, (400, 4)))
    return tmp_path / "sweep.npz"


def pytest_generate_tests(metafunc):
    op_contract.parametrize(metafunc)


def pytest_collection_modifyitems(config, items):
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="GPU: no CUDA device")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.write_line(f"skipped: {len(skipped)} (reasons above)")
