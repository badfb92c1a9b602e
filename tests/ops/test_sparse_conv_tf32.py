# SPDX-License-Identifier: Apache-2.0
"""How the switch for TF32 is read; what it does is in test_sparse_conv_tf32_cuda.py, for only a GPU has TF32."""

import pytest
import torch

from pcperc.ops._conv_arguments import _tf32_is_on


def flag(on):
    torch.backends.cuda.matmul.allow_tf32 = on


def name(on):
    torch.backends.cuda.matmul.fp32_precision = "tf32" if on else "ieee"


def all_devices(on):
    torch.set_float32_matmul_precision("high" if on else "highest")


@pytest.fixture(autouse=True)
def _as_before():
    yield
    name(False)
    all_devices(False)


@pytest.mark.parametrize("switch", [flag, name, all_devices])
def test_every_way_to_set_it(switch):
    assert not _tf32_is_on()
    for on in (True, False):
        switch(on)
        assert _tf32_is_on() == on


def test_both_interfaces_used_together():
    flag(False)
    name(True)
    assert _tf32_is_on()


def test_compiled_code_follows_it():
    compiled = torch.compile(lambda x: x + _tf32_is_on(), fullgraph=True, backend="eager")
    for on in (False, True, False):
        flag(on)
        assert compiled(torch.zeros(1)).item() == on
