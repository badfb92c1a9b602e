# SPDX-License-Identifier: Apache-2.0
"""Captured passes of tools/benchmark.py clouds."""

import weakref
from functools import partial

import pytest
import torch

from pcperc.benchmark.clouds import _captured


@pytest.mark.gpu
def test_a_captured_pass_holds_the_inputs_that_its_graph_reads():
    values = torch.ones(1 << 20, device="cuda")
    held = weakref.ref(values)
    replay, _ = _captured(partial(torch.mul, values, 2), values.device)
    del values
    assert held() is not None
    assert (replay() == 2).all()
