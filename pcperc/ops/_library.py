# SPDX-License-Identifier: Apache-2.0
"""Load the compiled operators: ``_C`` always, ``_C_cuda`` where it was built and torch has CUDA."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def _load(name: str) -> bool:
    """Load ``pcperc/<name>*.so``; False where it was not built."""
    files = sorted(Path(__file__).parent.parent.glob(f"{name}.*so"))
    if not files:
        return False
    torch.ops.load_library(str(files[0]))
    return True


if not _load("_C"):
    raise ImportError(
        f"pcperc in {Path(__file__).parent.parent} has no compiled operators; build them there (`make build`, or "
        "`pip install --no-build-isolation -e .`), or run from another folder if an installed pcperc is meant"
    )


def direct(name: str) -> Callable[..., Any]:
    """The operator without the Python of torch.ops (0.4 us a call), for calls that no compiler traces."""
    operator = getattr(torch.ops.pcperc, name)
    return getattr(operator, "_op", operator)


HAS_CUDA_OPS = torch.version.cuda is not None and _load("_C_cuda")

if torch.cuda.is_available() and not HAS_CUDA_OPS:
    logging.getLogger(__name__).warning(
        "pcperc was built without CUDA operators and refuses GPU tensors; PCPERC_FORCE_CUDA=1 pip install . builds them"
    )
