# SPDX-License-Identifier: Apache-2.0
"""The instruction set that the CPU operators use."""

import torch

import pcperc.ops._library  # noqa: F401


def cpu_capability() -> str:
    """Return the instruction set in use: "base", "avx2", "avx512" or "avx512_bf16".

    It is the best one that the processor has, found when first asked for. Each includes those before it, and "base" is
    what the compiler assumes of every processor of the architecture. The result of an operator may differ between them
    in the last digits.
    """
    return torch.ops.pcperc.cpu_capability()


def set_cpu_capability(name: str) -> None:
    """Use another instruction set from now on, in all threads: for tests and measurements.

    Raises:
        TypeError: not a string.
        ValueError: a name that is unknown, or an instruction set that the processor lacks.
    """
    if not isinstance(name, str):
        raise TypeError(f"set_cpu_capability: name must be a string, got {type(name).__name__}")
    torch.ops.pcperc.set_cpu_capability(name)
