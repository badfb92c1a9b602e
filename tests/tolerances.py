# SPDX-License-Identifier: Apache-2.0
"""One tolerance function for every numerical comparison, with its reasons."""

import math

import torch

# Unit round-off of each type, and of the type that its sums are kept in (docs/architecture.md: fp32 accumulation).
_ROUND_OFF = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
_SUM_ROUND_OFF = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.float16: 2.0**-24, torch.bfloat16: 2.0**-24}


def tolerances(dtype: torch.dtype, terms_summed: int = 1) -> dict[str, float]:
    """Return rtol and atol for ``torch.testing.assert_close`` against a float64 oracle fed the same rounded inputs.

    A sum of n products of order one, kept in the accumulator's type, drifts by about sqrt(n) round-offs around values
    of size sqrt(n); the result is then rounded once to ``dtype``. The factor 8 covers the tail of a few thousand draws.
    """
    rounding = _ROUND_OFF[dtype]
    summing = _SUM_ROUND_OFF[dtype] * math.sqrt(terms_summed)
    return {"rtol": 8 * (rounding + summing), "atol": 8 * (rounding + summing) * math.sqrt(terms_summed)}
