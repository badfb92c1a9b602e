# SPDX-License-Identifier: Apache-2.0
"""Several threads that run a network on one new tensor at once build its kernel maps together."""

import threading

import torch

from pcperc import SparseTensor, ops
from pcperc import nn as spnn

THREADS = 3


def test_threads_share_a_new_tensor(device, monkeypatch):
    """They end with the same features; of tables built twice, one was used with the pairs of the other."""
    torch.manual_seed(0)
    coords = torch.randint(0, 12, (400, 3)).unique(dim=0)
    x = SparseTensor(torch.nn.functional.pad(coords, (1, 0)).int(), torch.randn(len(coords), 8)).to(device)
    up = spnn.SparseGenerativeConvTranspose3d(8, 8, 2, stride=2)
    net = torch.nn.Sequential(
        spnn.SubMConv3d(8, 8, 3), spnn.SparseConv3d(8, 8, 2, stride=2), spnn.SparseInverseConv3d(8, 8, 2), up
    )
    net.to(device)
    expected = net(x.replace(feats=x.feats)).feats
    x = SparseTensor(x.coords, x.feats)  # without maps

    plain, barrier = ops.build_kernel_map, threading.Barrier(THREADS, timeout=20)
    waited = threading.local()

    def together(*arguments, **options):
        if not getattr(waited, "once", False):  # all are in here before the first goes on
            waited.once = True
            barrier.wait()
        return plain(*arguments, **options)

    monkeypatch.setattr(ops, "build_kernel_map", together)
    found, errors = [], []

    def work():
        try:
            out = net(x)
            out.feats.sum().backward()
            found.append(out.feats.detach())
        except Exception as error:  # of a thread, which would be lost
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and len(found) == THREADS
    for feats in found:
        torch.testing.assert_close(feats, expected)
