# SPDX-License-Identifier: Apache-2.0
"""Nothing is read or written beside the tensors of an operator, whatever stands in its tables.

Features stand between NaNs in memory: a read next to them shows in the result. A read or write far away ends the
process, and tools/sanitize_cpu.sh finds every one of them. Results are of no use. Tables of convolutions are in
test_sparse_conv.py and test_sparse_conv_cpu.py.
"""

import pytest
import torch

from pcperc import ops

ROWS, CHANNELS, TAPS, SEGMENTS = 7, 3, 4, 5
OPS = torch.ops.pcperc


class Draw:
    """Features between NaNs, and tables of which half of the values are wrong."""

    def __init__(self, seed, device):
        self.generator, self.device = torch.Generator().manual_seed(seed), device

    def feats(self, *shape, dtype=torch.float32):
        buffer = torch.full((3, 64, *shape[1:]), torch.nan, dtype=dtype)
        buffer[1, : shape[0]] = torch.rand(shape, generator=self.generator)
        buffer[1, shape[0] :] = torch.nan
        return buffer.to(self.device)[1, : shape[0]]

    def table(self, *shape, count=ROWS, dtype=torch.int32):
        top = torch.iinfo(dtype).max
        wrong = torch.tensor([-top - 1, -(10**8), -2, -1, count, count + 1, count + 50, 10**8, top], dtype=dtype)
        wrong = wrong[torch.randint(len(wrong), shape, generator=self.generator)]
        good = torch.randint(count, shape, generator=self.generator).to(dtype)
        is_good = torch.rand(shape, generator=self.generator) < 0.5
        return torch.where(is_good, good, wrong).to(self.device)

    def segments(self):
        return self.table(ROWS, count=SEGMENTS), self.table(ROWS), self.table(SEGMENTS + 1)

    def pool_segments(self, entries=6):
        tables = self.table(entries), self.table(entries), self.table(SEGMENTS + 1, count=entries)
        return [*tables, self.table(SEGMENTS, dtype=torch.int64)]

    def gather(self):
        rows, entries = self.table(SEGMENTS, 2), self.table(2 * SEGMENTS, count=2 * SEGMENTS)
        return rows, self.feats(SEGMENTS, 2), entries, self.table(ROWS + 1, count=2 * SEGMENTS)


def gathered(draw):
    rows, weights, order, starts = draw.gather()
    feats, grad = draw.feats(ROWS, CHANNELS), draw.feats(SEGMENTS, CHANNELS)
    return [
        OPS.weighted_gather(feats, rows, weights, None, None),
        OPS.weighted_scatter(grad, rows, weights, order, starts),
        OPS.weighted_gather_dot(grad, feats, rows, None, None),
    ]


def pooled(draw):
    feats, table = draw.feats(ROWS, CHANNELS), draw.table(TAPS, ROWS)
    counts = draw.table(ROWS)
    return [
        OPS.neighbor_counts(table, ROWS),
        OPS.sparse_sum_pool(feats, table, None, counts, counts),
        *OPS.sparse_max_pool(feats, table, None),
        OPS.sparse_max_unpool(feats, draw.table(ROWS, CHANNELS), table),
        OPS.sparse_max_take(feats, draw.table(ROWS, CHANNELS), table),
    ]


def reduced(draw):
    feats, scale, segments = draw.feats(ROWS, CHANNELS), draw.feats(SEGMENTS, CHANNELS), draw.segments()
    return [
        OPS.segment_dot(feats, feats, *segments),
        *OPS.segment_max(feats, *segments),
        OPS.segment_affine(feats, scale, scale, *segments),
    ]


def averaged(draw):
    order, starts, counts = draw.table(ROWS), draw.table(SEGMENTS), draw.table(SEGMENTS).clamp(min=1)
    return [
        OPS.segment_mean(draw.feats(ROWS, CHANNELS), order, starts, counts),
        OPS.segment_mean_backward(draw.feats(SEGMENTS, CHANNELS), order, starts, counts, ROWS),
    ]


def bev_pooled(draw):
    feats, weight = draw.feats(ROWS, CHANNELS), draw.feats(ROWS)
    return [
        OPS.bev_pool(feats, weight, draw.pool_segments(), [], ROWS),
        OPS.bev_pool_weight_grad(feats, draw.feats(ROWS, CHANNELS), draw.pool_segments(), ROWS),
    ]


def searched(draw):
    _, order, starts = draw.segments()
    points, queries, item = draw.feats(ROWS, 3), draw.feats(ROWS, 3), draw.table(ROWS, count=SEGMENTS)
    tables = [
        OPS.furthest_point_sample(points, order, starts, 9),
        OPS.ball_query(points, order, starts, queries, item, 0.5, 3),
        OPS.three_nearest(points, order, starts, queries, item)[0],
        OPS.k_nearest(points, order, starts, queries, item, 4)[0],
        OPS.condense(points, draw.feats(ROWS), order, starts, 0.5, 0.1),
    ]
    assert all(((table >= -1) & (table < ROWS)).all() for table in tables)
    return tables


def voxelized(draw):
    box = [0.0] * 3, [1.0] * 3, [0.25] * 3, [4] * 3
    keys = OPS.voxel_keys(draw.feats(ROWS, 3), draw.table(ROWS, count=2), *box, 2)
    assert ((keys >= -1) & (keys < 2 * 4**3)).all()
    keys = draw.table(ROWS, dtype=torch.int64)
    order, _, values, inverse = OPS.group_by_key(keys, ROWS)
    assert ((order >= 0) & (order < ROWS)).all() and ((inverse >= -1) & (inverse < len(values))).all()
    return [OPS.voxel_coords(keys, [4] * 3)]


CALLS = {
    call.__name__: call for call in (gathered, pooled, reduced, averaged, bev_pooled, searched, voxelized)
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_wrong_tables_lead_nowhere(call, device):
    for seed in range(50):
        for result in call(Draw(seed, device)):
            assert not result.is_floating_point() or result.isfinite().all(), seed


def test_a_plan_with_wrong_rows_reads_nothing_and_its_gradient_neither(device):
    """The public way to such a table: rows of the caller's own."""
    for seed in range(20):
        draw = Draw(seed, device)
        rows, weights, *_ = draw.gather()
        feats = draw.feats(ROWS, CHANNELS).requires_grad_()
        out = ops.weighted_gather(feats, ops.GatherPlan(rows, weights.requires_grad_(), ROWS))
        grads = torch.autograd.grad(out.square().sum(), [feats, weights])
        assert all(value.isfinite().all() for value in (out, *grads))
        right = torch.where((rows >= 0) & (rows < ROWS), rows, -1)
        same = ops.weighted_gather(feats, ops.GatherPlan(right, weights, ROWS))
        assert torch.equal(out, same)
