# SPDX-License-Identifier: Apache-2.0
"""Captured modules give what the module gives; on a CPU the graph's stand-in runs it again over the same buffers."""

import subprocess
import sys
from dataclasses import dataclass, is_dataclass
from typing import NamedTuple

import pytest
import torch

import pcperc.nn as spnn
from pcperc.nn.capture_dense import CapturedModule
from pcperc.nn.cuda_graph import CudaGraph, SideStream
from pcperc.sparse import SparseTensor


class RunsAgain:
    """Stands in for the graph: the same function over the same buffers, into the same memory."""

    made = 0

    def __init__(self, op, function, device):
        type(self).made += 1
        self.function, self.result = function, function()

    def replay(self):
        for kept, new in zip(leaves(self.result), leaves(self.function()), strict=True):
            kept.copy_(new)
        return self.result


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


@dataclass(frozen=True)
class Output:
    logits: torch.Tensor
    parts: list


class Net(torch.nn.Module):
    """Convolutions, and a result of every container."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8)
        self.linear = torch.nn.Linear(8, 5)

    def forward(self, tasks, images, scale):
        x = self.norm(self.conv(images)).relu() * scale.to(images.dtype)
        logits = self.linear(x.mean((2, 3)))
        return {task: Output(logits, [x, (logits + 1, Pair(x, x.flatten(1)))]) for task in tasks}


def leaves(value):
    if isinstance(value, torch.Tensor | float):
        return [value] if isinstance(value, torch.Tensor) else []
    if is_dataclass(value):
        value = vars(value)
    return [leaf for item in (value.values() if isinstance(value, dict) else value) for leaf in leaves(item)]


def inputs(seed, *, size=(6, 10), device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2, 3, *size, generator=generator).to(device)
    return ("a", "b"), images, torch.rand(1, generator=generator).to(device)


@pytest.fixture
def on_cpu(monkeypatch):
    monkeypatch.setattr(sys.modules["pcperc.nn.capture_dense"], "CudaGraph", RunsAgain)
    monkeypatch.setattr(RunsAgain, "made", 0)
    return RunsAgain


def check_captured(captured, net, device, count_graphs):
    kept = []
    for seed in (0, 1, 2):
        given = inputs(seed, device=device)
        with torch.inference_mode(seed % 2 == 1):
            found = captured(*given)
        with torch.no_grad():
            wanted = net(*given)
        assert type(found["b"]) is Output and type(found["b"].parts[1][1]) is Pair and list(found) == ["a", "b"]
        kept.append((found, wanted))
    assert count_graphs() == 1
    for found, wanted in kept:  # later calls have left earlier results alone
        torch.testing.assert_close(leaves(found), leaves(wanted))
        assert not any(leaf.requires_grad or leaf.is_inference() for leaf in leaves(found))

    given = inputs(3, device=device)
    with torch.no_grad():
        net.linear.weight.mul_(2)
        torch.testing.assert_close(leaves(captured(*given)), leaves(net(*given)))
    assert count_graphs() == 1

    tasks, images, scale = given
    others = [
        (("b",), images, scale),
        (tasks, images[:, :, :4].contiguous(), scale),
        (tasks, images.contiguous(memory_format=torch.channels_last), scale),
        (tasks, images, scale.double()),
    ]
    for number, other in enumerate(others):
        with torch.no_grad():
            torch.testing.assert_close(leaves(captured(*other)), leaves(net(*other)))
        assert count_graphs() == 2 + number
    captured(*given)
    assert count_graphs() == 1 + len(others)


def test_each_form_of_input_has_its_graph(on_cpu):
    net = Net().eval()
    check_captured(CapturedModule(net), net, "cpu", lambda: on_cpu.made)


@pytest.mark.gpu
def test_a_graph_gives_the_modules_result():
    net = Net().eval().cuda()
    captured = spnn.capture_dense(net)
    check_captured(captured, net, "cuda", lambda: len(captured._graphs))


@pytest.mark.gpu
def test_autocast_is_a_form_of_its_own():
    net = Net().eval().cuda()
    captured, given = spnn.capture_dense(net), inputs(0, device="cuda")
    for dtype in (torch.float16, torch.bfloat16, None, torch.float16):
        with torch.no_grad(), torch.autocast("cuda", dtype or torch.float16, enabled=dtype is not None):
            net.linear.weight.add_(0.1)  # autocast's own copy of the weight is not the graph's
            torch.clear_autocast_cache()
            found, wanted = captured(*given), net(*given)
        torch.testing.assert_close(leaves(found), leaves(wanted))
        assert found["a"].logits.dtype == (dtype or torch.float32)
    assert len(captured._graphs) == 3


READS_VALUES = """
import torch, pcperc.nn as spnn
class ReadsValues(torch.nn.Module):
    def forward(self, x):
        return x * float(x.sum())
spnn.capture_dense(ReadsValues().eval())(torch.ones(3, device="cuda"))
"""


@pytest.mark.gpu
def test_a_look_at_values_cannot_be_captured():
    """In a process of its own: torch does not promise what works behind a capture that failed."""
    done = subprocess.run([sys.executable, "-c", READS_VALUES], capture_output=True, text=True)
    assert done.returncode == 1 and "RuntimeError: CudaGraph: this work cannot be captured: " in done.stderr


def test_inputs_on_a_cpu_are_refused():
    with pytest.raises(ValueError, match="^capture_dense: inputs must be on a CUDA device, got cpu"):
        CapturedModule(Net().eval())(*inputs(0))


def test_what_is_wrong_is_said(on_cpu):
    with pytest.raises(ValueError, match=r"capture_dense: model must be in eval mode \(model.eval\(\)\)"):
        CapturedModule(Net())
    captured, one = CapturedModule(Net().eval()), torch.ones(1)
    assert captured.eval() is captured
    with pytest.raises(ValueError, match="capture_dense: .* cannot be put into training mode"):
        captured.train()
    with pytest.raises(ValueError, match="inputs must be tensors of one device, got no tensor"):
        captured(("a",))
    with pytest.raises(ValueError, match="inputs must be tensors of one device, got .'cpu', 'meta'."):
        captured(("a",), torch.ones(1), torch.ones(1, device="meta"))
    for start in (lambda: CudaGraph("op", lambda: None, torch.device("cpu")), lambda: SideStream("op").start(abs, one)):
        with pytest.raises(ValueError, match="^op: inputs must be on a CUDA device, got cpu"):
            start()
    cloud = SparseTensor(torch.zeros(1, 4).int(), torch.ones(1, 1), 1)
    wrong = {"list": [one], "Tensor": (1, (one,)), "Parameter": Frozen(torch.nn.Parameter(one)), "SparseTensor": cloud}
    for name, value in wrong.items():
        with pytest.raises(TypeError, match=f"^capture_dense: inputs must be .* without tensors, got a {name}$"):
            captured(value, one)
    with pytest.raises(TypeError, match="results must be tensors, also in containers, got float"):
        CapturedModule(Floats().eval())(torch.ones(1))
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="capture_dense: a CUDA graph needs a CUDA device, and torch sees none"):
            spnn.capture_dense(Net().eval())


@dataclass(frozen=True)
class Frozen:
    value: object


class Scaled(torch.nn.Module):
    def forward(self, x, scale):
        while not isinstance(scale, bool | int | float):
            (scale,) = scale if isinstance(scale, tuple | frozenset) else (scale.value,)
        return x * scale


@pytest.mark.parametrize(
    "wrapped", [lambda k: k, lambda k: ((k,),), lambda k: frozenset([k]), Frozen], ids=["bare", "tuple", "set", "class"]
)
def test_equal_values_of_another_type_have_their_own_graphs(on_cpu, wrapped):
    net, x = Scaled().eval(), torch.tensor([3])
    captured = CapturedModule(net)
    for _ in range(2):
        for scale in (1, 1.0, True, 0.0, -0.0, float("nan")):
            found, wanted = captured(x, wrapped(scale)), net(x, scale)
            assert found.dtype == wanted.dtype and str(found) == str(wanted)
    assert on_cpu.made == 6


class Floats(torch.nn.Module):
    def forward(self, x):
        return [x, 1.0]
