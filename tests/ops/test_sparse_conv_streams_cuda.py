# SPDX-License-Identifier: Apache-2.0
"""Convolutions on a stream of their own, on another device and in a CUDA graph."""

import pytest
import torch

from pcperc import ops
from tests.ops.conv_on_cuda import CUDA, inputs_of, run_op

pytestmark = pytest.mark.gpu


def test_runs_on_the_current_stream():
    """The features are written late on a stream of their own: a launch on another one would read zeros."""
    tensors = inputs_of((64, 64), 27, 5000, 5000, torch.float16)
    upstream = torch.randn(5000, 64, device=CUDA).half()
    expected = run_op(tensors, upstream)
    late = tensors | {"feats": torch.zeros_like(tensors["feats"])}
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(200_000_000)
        late["feats"].copy_(tensors["feats"])
        found = run_op(late, upstream)
    stream.synchronize()
    for got, wanted in zip(found, expected, strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="GPU: one device only")
def test_runs_on_the_device_of_its_tensors():
    tensors = inputs_of((64, 64), 27, 5000, 5000, torch.float16)
    expected = ops.sparse_conv(**tensors)
    moved = ops.sparse_conv(**{name: tensor.to("cuda:1") for name, tensor in tensors.items()})
    assert moved.device == torch.device("cuda:1")
    assert torch.equal(moved.to(CUDA), expected)


def test_is_captured_in_a_graph():
    """No layer waits for the GPU, so that a whole network can be recorded."""
    tensors = inputs_of((64, 128), 27, 20000, 20000, torch.float16)
    upstream = torch.randn(20000, 128, device=CUDA).half()

    def run():
        relu = ops.sparse_conv_fused(*(tensors[n] for n in ("feats", "weight", "neighbors", "bias")), negative_slope=0)
        return relu, *run_op(tensors, upstream)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        recorded = run()
    tensors["feats"].copy_(torch.randn_like(tensors["feats"]))
    graph.replay()
    for got, wanted in zip(recorded, run(), strict=True):
        assert torch.equal(got, wanted)
