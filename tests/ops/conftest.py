# SPDX-License-Identifier: Apache-2.0
"""Torch's switch for TF32, for a test."""

import pytest
import torch


@pytest.fixture
def tf32():
    """Give a function that sets torch's switch; afterwards it stands as before."""
    yield lambda on: setattr(torch.backends.cuda.matmul, "allow_tf32", on)
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.set_float32_matmul_precision("highest")
