# SPDX-License-Identifier: Apache-2.0
import torch

from pcperc import ops
from tests import oracles_clouds
from tests.op_contract import DifferentiableOpContract, Mistake, OpContract, Sample
from tests.ops.batches import BATCH_SIZE, batch_of, items_of, lattice_batch, with_gaps

NAMES = ("points", "batch", "queries", "query_batch")


def sample_of(name, cloud, query, **options):
    tensors = dict(zip(NAMES, (*cloud, *query), strict=True))
    return Sample(name, tensors | {"feats": torch.rand(len(cloud[0]), 2)}, options, terms_summed=3)


def samples_with(**options):
    return [
        sample_of("random", batch_of(40, 7, 20), batch_of(5, 9, 6, seed=1), **options),
        sample_of("few_points", batch_of(2, 0, 1), batch_of(2, 2, 2, seed=1), **options),
        sample_of("equal_distances", lattice_batch(), lattice_batch(), **options),
        sample_of("gaps", with_gaps(), with_gaps(), **options),
        sample_of("no_points", batch_of(0, 0, 0), batch_of(1, 0, 1), **options),
        sample_of("no_queries", batch_of(3, 2, 1), batch_of(0, 0, 0), **options),
    ]


def arguments(sample):
    points, batch, queries, query_batch = (sample.tensors[n] for n in NAMES)
    return points, items_of(batch), queries, items_of(query_batch)


def registered(sample):
    points, items, queries, query_items = arguments(sample)
    return points, items.order, items.starts, queries, query_items.index


def arrays(sample):
    return [*(sample.tensors[n].numpy() for n in NAMES), BATCH_SIZE]


def mistakes_of(call):
    points, batch = batch_of(4, 4, 4)
    items = items_of(batch)
    return [
        Mistake("queries", lambda: call(points, items, points[:, :1], items), ValueError, r"queries must be \(N, 3\)"),
        Mistake(
            "rows", lambda: call(points, items, points[1:], items), ValueError, "items of queries must have its 11"
        ),
        Mistake("segments", lambda: call(points, items, points, batch), TypeError, "items of queries must be Segments"),
        Mistake(
            "clouds",
            lambda: call(points, items, points, items_of(batch, 2)),
            ValueError,
            "queries must have as many clouds as points, 3, got 2",
        ),
        Mistake("dtype", lambda: call(points.long(), items, points, items), TypeError, "floating point dtype"),
    ]


class TestBallQuery(OpContract):
    dtypes = (torch.float64, torch.float32)

    @staticmethod
    def samples():
        more_than_a_warp = sample_of(
            "many", batch_of(90, 70, 3), batch_of(4, 4, 4, seed=1), radius=0.7, num_neighbors=40
        )
        return [*samples_with(radius=0.3, num_neighbors=4), more_than_a_warp]

    @staticmethod
    def call(sample):
        return (ops.ball_query(*arguments(sample), **sample.options),)

    @staticmethod
    def oracle(sample):
        return (oracles_clouds.ball_query(*arrays(sample), **sample.options),)

    @staticmethod
    def overloads(sample):
        return [(torch.ops.pcperc.ball_query.default, (*registered(sample), *sample.options.values()))]

    @staticmethod
    def mistakes():
        points, batch = batch_of(4, 4, 4)
        cloud = (points, items_of(batch)) * 2
        return [
            *mistakes_of(lambda *tensors: ops.ball_query(*tensors, radius=1, num_neighbors=2)),
            Mistake(
                "radius",
                lambda: ops.ball_query(*cloud, radius=0, num_neighbors=2),
                ValueError,
                "ball_query: radius must be a finite number > 0, got 0",
            ),
            Mistake(
                "nan",
                lambda: ops.ball_query(*cloud, radius=float("nan"), num_neighbors=2),
                ValueError,
                "radius must be",
            ),
            Mistake(
                "none", lambda: ops.ball_query(*cloud, radius=1, num_neighbors=0), ValueError, "num_neighbors must be"
            ),
        ]


class TestThreeNearest(OpContract):
    dtypes = (torch.float64, torch.float32)

    @staticmethod
    def samples():
        return samples_with()

    @staticmethod
    def call(sample):
        return ops.three_nearest(*arguments(sample))

    @staticmethod
    def oracle(sample):
        return oracles_clouds.three_nearest(*arrays(sample))

    @staticmethod
    def overloads(sample):
        return [(torch.ops.pcperc.three_nearest.default, registered(sample))]

    @staticmethod
    def mistakes():
        return mistakes_of(ops.three_nearest)


class TestThreeNearestPlan(DifferentiableOpContract):
    dtypes = (torch.float64, torch.float32)
    differentiable = ("feats",)

    @staticmethod
    def samples():
        return samples_with()

    @staticmethod
    def call(sample):
        return (ops.weighted_gather(sample.tensors["feats"], ops.make_three_nearest_plan(*arguments(sample))),)

    @staticmethod
    def oracle(sample):
        return (oracles_clouds.interpolate_three(sample.tensors["feats"].numpy(), *arrays(sample)),)

    @staticmethod
    def overloads(sample):
        return []

    @staticmethod
    def mistakes():
        return mistakes_of(ops.make_three_nearest_plan)


def test_a_point_at_the_radius_is_outside(device):
    points = torch.tensor([[0.0, 0, 0], [0.5, 0, 0], [0.25, 0, 0]], device=device)
    items = items_of(torch.zeros(3, device=device).int(), 1)
    found = ops.ball_query(points, items, points[:1], items_of(items.index[:1], 1), radius=0.5, num_neighbors=3)
    assert found.tolist() == [[0, 2, -1]]


def test_float64_queries_are_compared_in_float64(device):
    points = torch.zeros(1, 3, device=device)
    items = items_of(torch.zeros(1, device=device).int(), 1)
    queries = torch.full((1, 3), 1 + 1e-12, dtype=torch.float64, device=device)
    _, squares = ops.three_nearest(points, items, queries, items)
    assert squares.dtype == torch.float64 and squares[0, 0].item() != 3


def test_segments_that_are_wrong_stay_inside_the_buffers(device):
    points, item = torch.rand(4, 3), torch.tensor([0, 7, -7, 2**31 - 1], dtype=torch.int32)
    order = torch.tensor([9, -9, 2**31 - 1, 1], dtype=torch.int32)
    for starts in ([-5, 9, 2, 2**31 - 1], [4, 3, 2, 1]):
        tensors = (points, order, torch.tensor(starts, dtype=torch.int32), points, item)
        tensors = [t.to(device) for t in tensors]
        for found in (torch.ops.pcperc.ball_query(*tensors, 9.0, 5), torch.ops.pcperc.three_nearest(*tensors)[0]):
            assert set(found.flatten().tolist()) <= {-1, 1}
