# SPDX-License-Identifier: Apache-2.0
"""Pairs of a table that several weight gradients share: the same bits, listed once, gone with their last user."""

import gc
import weakref

import pytest
import torch

import pcperc.nn as spnn
from pcperc import SparseTensor, ops
from tests.ops.clouds import random_coords
from tests.oracles_sparse_conv import random_tables

OPS = torch.ops.pcperc
READ_AHEAD = 1024  # kReadAhead of csrc/cuda/sparse_conv_pairs.h


def table_of(taps, num_in, num_out, device, *, density=0.2):
    table = random_tables(taps, num_in, num_out, density=density)[0]
    table[0] = -1
    table[-1, num_out // 2 :] = -1
    return table.to(device)


def with_outsiders(table, num_in):
    """Entries that name no row, above and below."""
    table = table.clone()
    table[:, ::5] = num_in
    table[:, 1::7] = -3
    return table


@pytest.mark.gpu
@pytest.mark.sanitizer
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize(("taps", "num_in", "num_out"), [(1, 1, 1), (3, 5, 7), (27, 3000, 2049), (8, 100, 70_001)])
def test_lists_the_entries_tap_by_tap(taps, num_in, num_out, ordered):
    table = with_outsiders(table_of(taps, num_in, num_out, "cuda"), num_in)
    order = torch.randperm(num_out, device="cuda").int() if ordered else None
    if ordered:
        order[::11] = num_out  # columns of no row
    storage = OPS.list_pairs(table, num_in, order)
    rows = torch.arange(num_out, device="cuda") if order is None else order.long()
    named = (table >= 0) & (table < num_in) & (rows < num_out)
    expected = torch.stack([table[named], rows.expand(taps, -1)[named].int()], 1)
    room = taps * num_out + READ_AHEAD
    starts = storage[2 * room :][: taps + 1]
    assert starts.tolist() == [0, *named.sum(1).cumsum(0).tolist()]
    assert torch.equal(storage[: 2 * len(expected)].view(-1, 2), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("widths", [(16, 32), (64, 64), (128, 256), (5, 33), (4, 4)], ids=str)
def test_a_gradient_over_listed_pairs_has_the_same_bits(widths, ordered, dtype):
    num_in, num_out = 900, 1100
    table, order = table_of(27, num_in, num_out, "cuda"), None
    if ordered:
        table, order = OPS.order_rows(table)
    feats, grad = (torch.randn(n, c, device="cuda").to(dtype) for n, c in zip((num_in, num_out), widths, strict=True))
    arguments = (feats, grad, table, None, True, 1, False, order, None)
    pairs = ops.TapPairs(table, num_in, order)
    expected = OPS.sparse_conv_weight_grad(*arguments)
    for _ in range(2):
        found = OPS.sparse_conv_weight_grad(*arguments, pairs.listed())
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert pairs.listed() is pairs.listed()


@pytest.mark.gpu
def test_opcheck():
    table = table_of(8, 50, 60, "cuda")
    # Not the fourth check, which compares results: what lies behind the pairs of a list is not written.
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(OPS.list_pairs.default, (table, 50, None), test_utils=checks)
    feats, grad = torch.randn(50, 16, device="cuda"), torch.randn(60, 16, device="cuda")
    arguments = (feats, grad, table, None, True, 1, False, None, None, OPS.list_pairs(table, 50, None))
    torch.library.opcheck(OPS.sparse_conv_weight_grad.default, arguments)


@pytest.mark.gpu
def test_another_stream_lists_its_own():
    pairs = ops.TapPairs(table_of(3, 20, 30, "cuda"), 20)
    first = pairs.listed()
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        other = pairs.listed()
    torch.cuda.synchronize()
    assert other is not first and torch.equal(other[:8], first[:8])  # there are 4 pairs or more


@pytest.mark.gpu
def test_a_list_that_is_captured_is_not_kept():
    pairs = ops.TapPairs(table_of(3, 20, 30, "cuda"), 20)
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    with torch.cuda.graph(graph, stream=stream):
        captured = pairs.listed()
    with torch.cuda.stream(stream):
        assert pairs.listed() is not captured


@pytest.mark.gpu
def test_nothing_is_kept_of_tables_without_entries_or_with_too_many():
    for shape in ((3, 0), (0, 5), (4096, 8193)):
        table = torch.zeros(shape, dtype=torch.int32, device="cuda")
        assert OPS.list_pairs(table, 1, None).shape == (0,)
    assert OPS.list_pairs(torch.zeros(4096, 8192, dtype=torch.int32, device="cuda"), 1, None).numel() > 2**26
    feats, grad = torch.randn(9, 16, device="cuda"), torch.randn(9001, 16, device="cuda")
    table = torch.randint(-9, 9, (4096, 9001), dtype=torch.int32, device="cuda")
    arguments = (feats, grad, table, None, False, 1, False, None, None)
    found = OPS.sparse_conv_weight_grad(*arguments, ops.TapPairs(table, 9).listed())[0]
    assert torch.equal(found, OPS.sparse_conv_weight_grad(*arguments)[0])


@pytest.mark.gpu
def test_a_list_of_another_size_is_refused():
    table = table_of(8, 50, 60, "cuda")
    feats, grad = torch.randn(50, 16, device="cuda"), torch.randn(60, 16, device="cuda")
    arguments = (feats, grad, table, None, False, 1, False, None, None)
    for wrong in (torch.zeros(8, dtype=torch.int32, device="cuda"), OPS.list_pairs(table, 50, None).float()):
        with pytest.raises(RuntimeError, match="sparse_conv_weight_grad: pairs must"):
            OPS.sparse_conv_weight_grad(*arguments, wrong)


def test_a_cpu_lists_nothing():
    assert ops.TapPairs(table_of(3, 20, 30, "cpu"), 20).listed() is None


def test_pairs_of_another_table_are_refused():
    table, order = table_of(3, 20, 30, "cpu"), torch.arange(30).int()
    inputs = {"feats": torch.randn(20, 4), "weight": torch.randn(3, 4, 4), "neighbors": table}
    others = [(table.clone(), 20, None), (table, 19, None), (table, 20, order)]
    for op in (ops.sparse_conv, ops.sparse_conv_norm):
        for other in others:
            with pytest.raises(ValueError, match=f"{op.__name__}: pairs must be those of neighbors, row_order and 20"):
                op(**inputs, pairs=ops.TapPairs(*other))
        with pytest.raises(TypeError, match=f"{op.__name__}: pairs must be TapPairs or None, got .3, 30. int32"):
            op(**inputs, pairs=table)
    with pytest.raises(ValueError, match="TapPairs: neighbors must be"):
        ops.TapPairs(table.long(), 20)


def block():
    return spnn.ConvBlock(spnn.SubMConv3d(8, 8, 3, bias=False), spnn.BatchNorm(8), spnn.ReLU())


def test_layers_share_the_pairs_of_their_map_until_the_last_of_them_is_done(device, monkeypatch):
    asked, listed = [], ops.TapPairs.listed

    def note(pairs):
        asked.append((id(pairs), weakref.ref(pairs)))
        return listed(pairs)

    monkeypatch.setattr(ops.TapPairs, "listed", note)
    net = torch.nn.Sequential(block(), spnn.SubMConv3d(8, 8, 3), block()).to(device)
    coords = random_coords(400).to(device)
    loss = net(SparseTensor(coords, torch.randn(len(coords), 8, device=device), 2)).feats.square().mean()
    assert not asked
    loss.backward()
    numbers, references = zip(*asked, strict=True)
    assert len(numbers) == 3 and len(set(numbers)) == 1
    gc.collect()
    assert references[0]() is None  # though the loss, and with it autograd's graph, is still there


def test_a_second_backward_pass_gives_the_same_bits(device):
    net = torch.nn.Sequential(block(), spnn.SubMConv3d(8, 8, 3), block()).to(device)
    coords = random_coords(400).to(device)
    loss = net(SparseTensor(coords, torch.randn(len(coords), 8, device=device), 2)).feats.square().mean()
    found = [torch.autograd.grad(loss, list(net.parameters()), retain_graph=True) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
