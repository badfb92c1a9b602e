# SPDX-License-Identifier: Apache-2.0
"""What every operator is tested for. An operator's test class inherits ``OpContract`` and gives samples and an oracle.

A class fills in ``samples``, ``call``, ``oracle`` and ``overloads`` (and ``mistakes``); it inherits the tests below:
equal to the oracle in every type on CPU and GPU, the same bits twice, strided inputs, torch.library.opcheck and its
error messages; ``DifferentiableOpContract`` adds gradcheck in float64.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.tolerances import tolerances

IS_SANITIZED = "PCPERC_TEST_PART" in os.environ  # see part.py


@dataclass(frozen=True)
class Sample:
    """One input: ``tensors`` by argument name (floating ones take the tested dtype) and plain ``options``."""

    name: str
    tensors: dict[str, Tensor]
    options: dict[str, Any] = field(default_factory=dict)
    terms_summed: int = 1

    def to(self, device: torch.device, dtype: torch.dtype) -> "Sample":
        def move(tensor):
            return tensor.to(device, dtype) if tensor.is_floating_point() else tensor.to(device)

        return replace(self, tensors={name: move(tensor) for name, tensor in self.tensors.items()})


@dataclass(frozen=True)
class Mistake:
    """A call that must fail, and what its message must say."""

    name: str
    call: Callable[[], Any]
    error: type[Exception]
    match: str


class OpContract:
    dtypes: tuple[torch.dtype, ...] = (torch.float64, torch.float32, torch.float16, torch.bfloat16)

    @staticmethod
    def samples() -> list[Sample]:
        raise NotImplementedError

    @staticmethod
    def call(sample: Sample) -> tuple[Tensor, ...]:
        """The public function on the sample; a tuple of tensors."""
        raise NotImplementedError

    @staticmethod
    def oracle(sample: Sample) -> tuple[np.ndarray, ...]:
        """The same results from tests/oracles.py, given numpy-readable float64 or integer inputs."""
        raise NotImplementedError

    @staticmethod
    def overloads(sample: Sample) -> list[tuple[Any, tuple]]:
        """(torch.ops overload, positional arguments) pairs for opcheck, one for each registered operator in use."""
        raise NotImplementedError

    @staticmethod
    def mistakes() -> list[Mistake]:
        return []

    def test_equals_the_oracle(self, sample, dtype, device):
        sample = sample.to(device, dtype)
        exact = sample.to(torch.device("cpu"), torch.float64)  # the rounded inputs, exactly
        results, expected = self.call(sample), self.oracle(exact)
        assert len(results) == len(expected)
        for result, wanted in zip(results, expected, strict=True):
            wanted = torch.as_tensor(wanted)
            assert tuple(result.shape) == tuple(wanted.shape)
            if result.is_floating_point():
                limits = tolerances(result.dtype, sample.terms_summed)
                torch.testing.assert_close(result.double().cpu(), wanted.double(), **limits)
            else:
                assert torch.equal(result.cpu(), wanted.to(result.dtype))

    def test_repeats_bit_for_bit(self, sample, device):
        sample = sample.to(device, self.dtypes[-1])
        for first, second in zip(self.call(sample), self.call(sample), strict=True):
            assert torch.equal(first, second)

    def test_takes_strided_tensors(self, sample, device):
        sample = sample.to(device, self.dtypes[0])
        strided = {name: torch.stack([t, t], -1)[..., 0] for name, t in sample.tensors.items()}
        for plain, other in zip(self.call(sample), self.call(replace(sample, tensors=strided)), strict=True):
            assert torch.equal(plain, other)

    def test_opcheck(self, sample, device):
        for overload, arguments in self.overloads(sample.to(device, torch.float32)):
            torch.library.opcheck(overload, arguments)

    def test_says_what_is_wrong(self, mistake):
        with pytest.raises(mistake.error, match=mistake.match):
            mistake.call()


class DifferentiableOpContract(OpContract):
    differentiable: tuple[str, ...]  # names of the tensors that gradcheck perturbs

    def test_gradients(self, sample, device):
        sample = sample.to(device, torch.float64)
        names = self.differentiable
        leaves = [sample.tensors[name].clone().requires_grad_() for name in names]

        def run(*values):
            tensors = {**sample.tensors, **dict(zip(names, values, strict=True))}
            return tuple(t for t in self.call(replace(sample, tensors=tensors)) if t.is_floating_point())

        # Entry by entry it launches thousands of kernels, which takes minutes under compute-sanitizer.
        assert torch.autograd.gradcheck(run, leaves, nondet_tol=0.0, fast_mode=IS_SANITIZED)


def assert_twice_differentiable(run: Callable, leaves: Tensor | Sequence[Tensor], **options: Any) -> None:
    """torch.autograd.gradgradcheck, which passes over first gradients that autograd does not follow any further."""
    leaves = [leaves] if isinstance(leaves, Tensor) else leaves
    outputs = run(*leaves)
    outputs = [outputs] if isinstance(outputs, Tensor) else outputs
    upstream = [torch.randn_like(output).requires_grad_() for output in outputs]
    first = torch.autograd.grad(outputs, leaves, upstream, create_graph=True)
    assert all(gradient.requires_grad for gradient in first)
    assert torch.autograd.gradgradcheck(run, leaves, **options)


def parametrize(metafunc) -> None:
    """Give a contract's tests their samples, types and mistakes; conftest.py calls it for every test."""
    cls = metafunc.cls
    if cls is None or not issubclass(cls, OpContract):
        return
    for name, values in (("sample", cls.samples), ("mistake", cls.mistakes)):
        if name in metafunc.fixturenames:
            found = values()
            # For tools/sanitize_gpu.sh the gradients of one sample are enough.
            few = found[:1] if metafunc.function.__name__ == "test_gradients" else []
            metafunc.parametrize(name, _sanitized(found, few), ids=lambda value: value.name)
    if "dtype" in metafunc.fixturenames:
        few = [torch.bfloat16] if torch.bfloat16 in cls.dtypes else cls.dtypes[:1]
        metafunc.parametrize("dtype", _sanitized(cls.dtypes, few), ids=lambda dtype: str(dtype).removeprefix("torch."))


def _sanitized(values: Sequence[Any], few: Sequence[Any]) -> list:
    """The values as parameters, those in ``few`` marked for tools/sanitize_gpu.sh."""
    marks = [[pytest.mark.sanitizer] if any(value is chosen for chosen in few) else [] for value in values]
    return [pytest.param(value, marks=mark) for value, mark in zip(values, marks, strict=True)]
