# SPDX-License-Identifier: Apache-2.0
"""Work on a stream beside the current one, and the switches of arithmetic that a graph depends on."""

import pytest
import torch

from pcperc.nn.cuda_graph import SideStream, number_settings


@pytest.mark.gpu
def test_work_beside_the_current_stream():
    side, count = SideStream("test"), 1 << 20

    def slow(x):
        torch.cuda._sleep(100_000_000)
        return 2 * x

    side.start(slow, torch.ones(count, device="cuda"))().sum().item()  # the first launch of a kernel may wait for all
    for number in range(1, 5):
        torch.cuda._sleep(10_000_000)
        join = side.start(slow, torch.full((count,), number, dtype=torch.float32, device="cuda"))  # done after the nap
        other = torch.full((count,), -1.0, device="cuda")  # not where the argument still is
        assert other.sum().item() == -count  # waits for the current stream alone
        (stream,) = side._streams.values()
        assert not stream.query() and stream != torch.cuda.current_stream()
        assert join().sum().item() == 2 * number * count


def switched():
    """Functions that set a switch of torch's arithmetic, with its value now."""
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    sums = "allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction", "allow_fp16_accumulation"
    for name in sums:
        yield name, lambda on, name=name: setattr(cuda.matmul, name, on), getattr(cuda.matmul, name)
    for name in ("flash_sdp", "mem_efficient_sdp", "math_sdp", "cudnn_sdp"):
        yield name, getattr(cuda, f"enable_{name}"), getattr(cuda, f"{name}_enabled")()
    reduction = cuda.fp16_bf16_reduction_math_sdp_allowed()
    yield "reduction of attention", cuda.allow_fp16_bf16_reduction_math_sdp, reduction
    yield "cudnn", lambda on: setattr(cudnn, "enabled", on), cudnn.enabled


def test_each_switch_of_arithmetic_makes_another_form():
    before = number_settings()
    for name, switch, value in switched():
        try:
            switch(not value)
            assert number_settings() != before, name
        finally:
            switch(value)
    assert number_settings() == before
