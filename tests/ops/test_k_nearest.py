# SPDX-License-Identifier: Apache-2.0
import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcperc import ops
from tests import oracles_clouds
from tests.op_contract import Mistake, OpContract, Sample
from tests.ops.batches import BATCH_SIZE, batch_of, items_of, lattice_batch, with_gaps

NAMES = ("points", "batch", "queries", "query_batch")


def with_columns(cloud, columns, seed=0):
    """A cloud of points with other coordinates behind their first three, or with fewer."""
    points, batch = cloud
    more = torch.rand(len(points), columns, generator=torch.Generator().manual_seed(seed))
    return torch.cat([points, more], 1)[:, :columns].contiguous(), batch


def sample_of(name, cloud, query, columns, count):
    tensors = zip(NAMES, (*with_columns(cloud, columns), *with_columns(query, columns, 1)), strict=True)
    return Sample(name, dict(tensors), {"num_neighbors": count}, terms_summed=columns)


def arguments(sample):
    points, batch, queries, query_batch = (sample.tensors[n] for n in NAMES)
    return points, items_of(batch), queries, items_of(query_batch)


def both_devices(points, batch, queries, query_batch, count, device, batch_size=BATCH_SIZE):
    """The result on a device, once it has the same bits as on the CPU."""
    results = []
    for place in ("cpu", device):
        cloud = points.to(place), items_of(batch.to(place), batch_size)
        query = queries.to(place), items_of(query_batch.to(place), batch_size)
        results.append([t.cpu() for t in ops.k_nearest(*cloud, *query, num_neighbors=count)])
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])
    return results[1]


class TestKNearest(OpContract):
    dtypes = (torch.float64, torch.float32)

    @staticmethod
    def samples():
        some, few = batch_of(40, 7, 20), batch_of(5, 9, 6, seed=1)
        return [
            sample_of("random", some, few, 4, 5),
            sample_of("one_column", some, few, 1, 3),
            sample_of("three_columns", some, few, 3, 40),
            sample_of("seven_columns", some, few, 7, 1),
            sample_of("sixteen_columns", some, few, 16, 33),
            sample_of("more_than_a_tile", batch_of(90, 600, 1), few, 5, 65),
            sample_of("more_than_a_warp_holds", batch_of(150, 140, 270), batch_of(2, 2, 2), 2, 140),
            sample_of("few_points", batch_of(2, 0, 1), batch_of(2, 2, 2, seed=1), 4, 4),
            sample_of("equal_distances", lattice_batch(), lattice_batch(), 3, 7),
            sample_of("all_equal", (torch.ones(300, 3), torch.zeros(300).int()), batch_of(2, 1, 0), 3, 40),
            sample_of("gaps", with_gaps(), with_gaps(), 3, 6),
            sample_of("no_points", batch_of(0, 0, 0), batch_of(1, 0, 1), 4, 2),
            sample_of("no_queries", batch_of(3, 2, 1), batch_of(0, 0, 0), 4, 2),
        ]

    @staticmethod
    def call(sample):
        return ops.k_nearest(*arguments(sample), **sample.options)

    @staticmethod
    def oracle(sample):
        arrays = (sample.tensors[n].numpy() for n in NAMES)
        return oracles_clouds.k_nearest(*arrays, BATCH_SIZE, **sample.options)

    @staticmethod
    def overloads(sample):
        points, items, queries, query_items = arguments(sample)
        registered = points, items.order, items.starts, queries, query_items.index
        return [(torch.ops.pcperc.k_nearest.default, (*registered, *sample.options.values()))]

    @staticmethod
    def mistakes():
        points, batch = with_columns(batch_of(4, 4, 4), 4)
        items = items_of(batch)

        def call(points=points, items=items, queries=points, query_items=items, num_neighbors=2):
            return lambda: ops.k_nearest(points, items, queries, query_items, num_neighbors=num_neighbors)

        wide = torch.zeros(12, 17)
        return [
            Mistake(
                "columns",
                call(wide, queries=wide),
                ValueError,
                r"points must be \(N, S\) with S from 1 to 16, got \(12, 17",
            ),
            Mistake("no_columns", call(points[:, :0]), ValueError, r"k_nearest: points must be \(N, S\) with S from 1"),
            Mistake("queries", call(queries=points[:, :3]), ValueError, r"queries must be \(N, 4\), got \(12, 3\)"),
            Mistake("dtype", call(points.int()), TypeError, "points must have a floating point dtype"),
            Mistake("rows", call(queries=points[1:]), ValueError, "items of queries must have its 11 rows, got 12"),
            Mistake("segments", call(items=batch), TypeError, "items of points must be Segments"),
            Mistake("clouds", call(query_items=items_of(batch, 2)), ValueError, "as many clouds as points, 3, got 2"),
            Mistake("device", call(queries=points.to("meta")), ValueError, "items of queries must be on meta"),
            Mistake("none", call(num_neighbors=0), ValueError, "num_neighbors must be a whole number > 0, got 0"),
            Mistake("part", call(num_neighbors=2.0), TypeError, "num_neighbors must be a whole number > 0, got 2.0"),
        ]


@st.composite
def searches(draw):
    """Clouds on a lattice, so that many distances are equal and exact; some coordinates are not finite."""
    columns, dtype = (
        draw(st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 16])),
        draw(st.sampled_from([torch.float32, torch.float64])),
    )
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    values = torch.tensor([0, 1, 2, 3], dtype=dtype) / 4
    if draw(st.booleans()):
        values = torch.cat([values.repeat(16), torch.tensor([torch.nan, torch.inf, -torch.inf], dtype=dtype)])
    clouds = []
    for rows in (draw(st.sampled_from([0, 1, 2, 31, 33, 70])), draw(st.sampled_from([0, 1, 5, 9]))):
        points = values[torch.randint(len(values), (rows, columns), generator=generator)]
        batch = torch.randint(-1, 4, (rows,), generator=generator)
        clouds += [points, batch.sort().values if draw(st.booleans()) else batch]
    return *clouds, draw(st.sampled_from([1, 2, 31, 32, 33, 64, 65, 129]))


@pytest.mark.parametrize("place", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@settings(max_examples=60, deadline=None)
@given(search=searches())
def test_equals_sorting_all_distances(place, search):
    *clouds, count = search
    rows, squares = both_devices(*clouds, count, place)
    expected = oracles_clouds.k_nearest(*(t.numpy() for t in clouds), BATCH_SIZE, count)
    assert torch.equal(rows, torch.from_numpy(expected[0]).int())
    assert torch.equal(squares, torch.from_numpy(expected[1]).to(squares.dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_distance_that_overflows_is_behind_all_others(device, dtype):
    far = torch.finfo(dtype).max
    points = torch.tensor([[far], [-far], [1.0], [torch.inf]], dtype=dtype, device=device)
    items = items_of(torch.zeros(4, dtype=torch.int32, device=device), 1)
    rows, squares = ops.k_nearest(points, items, points, items, num_neighbors=4)
    assert rows.tolist() == [[0, 1, 2, -1], [1, 0, 2, -1], [2, 0, 1, -1], [-1] * 4]
    assert squares[2].tolist() == [0, torch.inf, torch.inf, 0]


def test_half_precision_points_are_compared_in_float32(device):
    points, batch = (t.to(device) for t in lattice_batch())
    items = items_of(batch)
    expected = ops.k_nearest(points, items, points, items, num_neighbors=4)
    for dtype in (torch.float16, torch.bfloat16):
        found = ops.k_nearest(points.to(dtype), items, points.to(dtype), items, num_neighbors=4)
        assert found[1].dtype == torch.float32 and all(map(torch.equal, found, expected))


def test_equals_three_nearest(device):
    (points, batch), (queries, query_batch) = batch_of(200, 3, 90), batch_of(40, 30, 20, seed=1)
    clouds = [points.to(device), items_of(batch.to(device)), queries.to(device), items_of(query_batch.to(device))]
    for found, wanted in zip(ops.k_nearest(*clouds, num_neighbors=3), ops.three_nearest(*clouds), strict=True):
        assert torch.equal(found, wanted)


def test_segments_that_are_wrong_stay_inside_the_buffers(device):
    points, item = torch.rand(4, 5), torch.tensor([0, 7, -7, 2**31 - 1], dtype=torch.int32)
    order = torch.tensor([9, -9, 2**31 - 1, 1], dtype=torch.int32)
    for starts in ([-5, 9, 2, 2**31 - 1], [4, 3, 2, 1]):
        tensors = [t.to(device) for t in (points, order, torch.tensor(starts, dtype=torch.int32), points, item)]
        assert set(torch.ops.pcperc.k_nearest(*tensors, 5)[0].flatten().tolist()) <= {-1, 1}


@pytest.mark.gpu
@pytest.mark.parametrize("count", [40, 128, 200])
def test_an_event_has_the_same_bits_on_a_gpu(count):
    """20,000 rows of 4 coordinates that are normal, as a network learns them: distances of all sizes, and rounded."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(20_000, 4, generator=generator)
    batch = (torch.arange(20_000) >= 13_000).int()
    both_devices(points, batch, points[::10], batch[::10], count, "cuda", 2)


@pytest.mark.gpu
def test_a_captured_search_follows_its_inputs():
    points, batch = (t.cuda() for t in with_columns(batch_of(900, 300, 2), 4))
    items = items_of(batch)
    search = functools.partial(ops.k_nearest, points, items, points, items, num_neighbors=40)
    search()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = search()
    points.copy_(points.flip(0) * 2)
    graph.replay()
    assert all(map(torch.equal, captured, search()))
