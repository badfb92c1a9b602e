# SPDX-License-Identifier: Apache-2.0
"""Synchronised batch norm against torch's own on the whole batch, in processes that see parts of it."""

import datetime
import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from pcperc import SparseTensor
from pcperc.nn.sync_norm import SyncBatchNorm, convert_sync_batchnorm

SHAPES = {"features": (12, 5), "lines": (4, 5, 7), "maps": (4, 5, 6, 3)}


def reference(x, grad, dtype):
    """torch's batch norm of the whole batch; returns output, gradients and running statistics."""
    norm = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[x.ndim](x.shape[1], momentum=0.3).to(dtype)
    _set_affine(norm)
    x = x.clone().requires_grad_()
    output = norm(x)
    output.backward(grad)
    return output.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var


def _set_affine(norm):
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, norm.num_features))
        norm.bias.copy_(torch.linspace(-1, 1, norm.num_features))


def _worker(rank, world, port, cases, results):
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, world, rank == 0, timeout=datetime.timedelta(seconds=60))
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    try:
        results[rank] = [_synchronised(rank, *case) for case in cases]
    finally:
        dist.destroy_process_group()


def _synchronised(rank, x, grad, cuts, dtype):
    """The part of ``x`` between this rank's two cuts, through SyncBatchNorm."""
    norm = SyncBatchNorm(x.shape[1], momentum=0.3).to(dtype)
    _set_affine(norm)
    part = x[cuts[rank] : cuts[rank + 1]].clone().requires_grad_()
    output = norm(part)
    output.backward(grad[cuts[rank] : cuts[rank + 1]])
    tensors = (output.detach(), part.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var)
    return [tensor.clone() for tensor in tensors]


def _run(cases):
    with mp.Manager() as manager:
        results = manager.dict()
        server = dist.TCPStore("127.0.0.1", 0, 1, True)
        port = server.port
        del server
        mp.spawn(_worker, (2, port, cases, results), nprocs=2)
        return [list(zip(results[0][i], results[1][i], strict=True)) for i in range(len(cases))]


def test_two_processes_equal_one_at_twice_the_batch():
    torch.manual_seed(1)
    cases, names = [], []
    for name, shape in SHAPES.items():
        for dtype in (torch.float64, torch.float32):
            for cuts in ((0, shape[0] // 2, shape[0]), (0, 1, shape[0]), (0, shape[0], shape[0])):
                # A mean far from zero: a one-pass variance would lose its digits here.
                x = torch.randn(shape, dtype=dtype) + 50
                cases.append((x, torch.randn(shape, dtype=dtype), cuts, dtype))
                names.append(f"{name} {dtype} {cuts}")
    for name, (x, grad, _, dtype), parts in zip(names, cases, _run(cases), strict=True):
        expected = reference(x.double(), grad.double(), torch.float64)
        tolerance = 1e-11 if dtype == torch.float64 else 2e-4  # x near 50 in float32 is itself good to 4e-6
        output, grad_x = (torch.cat([a, b]) for a, b in parts[:2])
        # Each process has the gradients of its part; DistributedDataParallel averages them.
        grad_weight, grad_bias = (a + b for a, b in parts[2:4])
        for got, want in zip((output, grad_x, grad_weight, grad_bias), expected[:4], strict=True):
            torch.testing.assert_close(
                got.double(), want, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n} {m}"
            )
        for (a, b), want in zip(parts[4:], expected[4:], strict=True):
            assert torch.equal(a, b), f"{name}: running statistics differ between processes"
            torch.testing.assert_close(a.double(), want, rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=1e-5)


def _sparse_worker(rank, world, port, results):
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, world, rank == 0, timeout=datetime.timedelta(seconds=60))
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    try:
        norm = SyncBatchNorm(2)
        counts = []
        for rows in ((0, 0), (1, 0), (0, 3)):  # of the two processes
            feats = torch.arange(2.0 * rows[rank]).view(-1, 2).requires_grad_()
            coords = torch.zeros(rows[rank], 4, dtype=torch.int32)
            coords[:, 1] = torch.arange(rows[rank])
            norm(SparseTensor(coords, feats, 1)).feats.sum().backward()
            counts.append((int(norm.num_batches_tracked), feats.grad.tolist()))
        results[rank] = counts
        try:
            norm(torch.zeros(1 - rank, 2))
        except ValueError as error:
            results[f"error {rank}"] = str(error)
    finally:
        dist.destroy_process_group()


def test_nearly_empty_clouds_stop_no_run():
    with mp.Manager() as manager:
        results = manager.dict()
        server = dist.TCPStore("127.0.0.1", 0, 1, True)
        port = server.port
        del server
        mp.spawn(_sparse_worker, (2, port, results), nprocs=2)
        results = dict(results)
    unit = 1 / math.sqrt(1 + 1e-5)  # running statistics: mean 0, variance 1
    assert results[0][0] == results[1][0] == (0, [])
    assert results[0][1] == (0, [pytest.approx([unit, unit])]) and results[1][1] == (0, [])
    assert results[0][2] == (1, []) and results[1][2][0] == 1
    assert results["error 0"].startswith("SyncBatchNorm: more than one value per channel is needed in training, got 1")


@pytest.mark.parametrize("training", [True, False])
def test_one_process_equals_torch(training):
    x = torch.randn(9, 4, dtype=torch.float64)
    ours, theirs = SyncBatchNorm(4).double().train(training), nn.BatchNorm1d(4).double().train(training)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=0)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=0, atol=0)
    assert ours.num_batches_tracked == theirs.num_batches_tracked


def test_convert_replaces_every_batch_norm_and_shares_parameters():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, eps=1e-3, momentum=0.01), nn.Sequential(nn.BatchNorm2d(4)))
    weight, names = model[1].weight, list(model.state_dict())
    converted = convert_sync_batchnorm(model)
    kinds = [type(m) for m in converted.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert kinds == [SyncBatchNorm, SyncBatchNorm]
    assert converted[1].weight is weight and (converted[1].eps, converted[1].momentum) == (1e-3, 0.01)
    assert list(converted.state_dict()) == names
    assert isinstance(convert_sync_batchnorm(nn.BatchNorm1d(2)), SyncBatchNorm)


def test_wrong_channels():
    with pytest.raises(ValueError, match=r"SyncBatchNorm: input must be \(M, 4, ...\), got \(2, 3\)"):
        SyncBatchNorm(4)(torch.zeros(2, 3))


def test_wrong_types():
    with pytest.raises(TypeError, match="SyncBatchNorm: input must be a tensor, got list"):
        SyncBatchNorm(4)([1.0])
    with pytest.raises(TypeError, match="convert_sync_batchnorm: module must be a module, got NoneType"):
        convert_sync_batchnorm(None)


def test_momentum_none_is_the_plain_average():
    ours, theirs = SyncBatchNorm(2, momentum=None), nn.BatchNorm1d(2, momentum=None)
    for _ in range(3):
        x = torch.randn(6, 2)
        ours(x), theirs(x)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    assert math.isfinite(float(ours.running_var.sum()))
