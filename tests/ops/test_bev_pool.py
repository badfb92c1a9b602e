# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from pcperc import ops
from tests import oracles
from tests.op_contract import DifferentiableOpContract, Mistake, Sample, assert_twice_differentiable

GRID = {"lower": (-2.0, -1.0, 0.0), "cell_size": (1.0, 0.5, 2.0), "grid_shape": (4, 3, 2)}


def random_points(batch_size, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(batch_size, count, 3, generator=generator) * torch.tensor([6.0, 3, 5]) - torch.tensor(
        [3.0, 1.5, 0.5]
    )
    return torch.round(points * 8) / 8 + 1 / 64  # clear of the borders of cells


def sample_of(name, points, *, channels=3, num_rows=None, weighted=True):
    """num_rows: features shared by many points (a pixel and its ray), else one row a point."""
    generator = torch.Generator().manual_seed(5)
    total = points.shape[0] * points.shape[1]
    rows = None if num_rows is None else torch.randint(num_rows, (total,), generator=generator)
    tensors = {"feats": torch.randn(total if rows is None else num_rows, channels, generator=generator)}
    if weighted:
        tensors["weight"] = torch.rand(total, generator=generator)
    return Sample(name, tensors, {"points": points, "rows": rows}, terms_summed=max(1, total))


def cells_of(points):
    lower, size = np.array(GRID["lower"]), np.array(GRID["cell_size"])
    cells = []
    for b, item in enumerate(points.double().numpy()):
        for point in item:
            if np.isfinite(point).all():
                cells.append((b, *np.floor((point - lower) / size).astype(int)))
            else:
                cells.append((b, -1, -1, -1))
    return cells


class BevPoolContract(DifferentiableOpContract):
    @staticmethod
    def plan(sample):
        feats = sample.tensors["feats"]
        points, rows = sample.options["points"].to(feats.device), sample.options["rows"]
        rows = None if rows is None else rows.to(feats.device)
        return ops.make_bev_pool_plan(points, rows=rows, num_rows=None if rows is None else len(feats), **GRID)

    @classmethod
    def call(cls, sample):
        return (ops.bev_pool(sample.tensors["feats"], cls.plan(sample), sample.tensors.get("weight")),)

    @classmethod
    def overloads(cls, sample):
        plan, feats = cls.plan(sample), sample.tensors["feats"].clone().requires_grad_()
        weight = sample.tensors.get("weight")
        segments = (list(plan.by_cell), list(plan.by_row), plan.num_cells)
        grad = torch.ones(plan.num_cells, feats.shape[1], device=feats.device)
        return [
            (torch.ops.pcperc.bev_pool.default, (feats, weight, *segments)),
            (torch.ops.pcperc.bev_pool_weight_grad.default, (grad, feats.detach(), list(plan.by_row), plan.num_points)),
        ]

    @staticmethod
    def oracle(sample):
        points, rows, feats = sample.options["points"], sample.options["rows"], sample.tensors["feats"]
        total = points.shape[0] * points.shape[1]
        rows = range(total) if rows is None else rows.tolist()
        weight = sample.tensors.get("weight", torch.ones(total))
        return (oracles.bev_pool(feats, cells_of(points), rows, weight, len(points), GRID["grid_shape"]),)


class TestBevPoolPlain(BevPoolContract):
    differentiable = ("feats",)

    @staticmethod
    def samples():
        broken = random_points(1, 6)
        broken[0, 2, 1], broken[0, 4, 0] = float("nan"), float("inf")
        return [
            sample_of("one_item", random_points(1, 40), weighted=False),
            sample_of("batch", random_points(3, 20), weighted=False),
            sample_of("shared_rows", random_points(2, 40), num_rows=7, weighted=False),
            sample_of("no_points", random_points(2, 0), weighted=False),
            sample_of("all_outside", random_points(1, 4) + 100, weighted=False),
            sample_of("not_finite", broken, weighted=False),
        ]

    @staticmethod
    def mistakes():
        points = random_points(1, 4)
        plan = ops.make_bev_pool_plan(points, **GRID)

        def make(points=points, **options):
            return lambda: ops.make_bev_pool_plan(points, **GRID | options)

        return [
            Mistake("no_tensor", make(points.numpy()), TypeError, "points must be a tensor, got ndarray"),
            Mistake("rows_list", make(rows=[0] * 4), TypeError, "rows must be a tensor, got list"),
            Mistake("grid_number", make(grid_shape=4), ValueError, "grid_shape must be 3 whole numbers"),
            Mistake(
                "weight_list", lambda: ops.bev_pool(torch.zeros(4, 2), plan, [1.0] * 4), TypeError, "weight must be"
            ),
            Mistake("plan", lambda: ops.bev_pool(torch.zeros(4, 2), None), TypeError, "plan must be a BevPoolPlan"),
            Mistake("shape", make(torch.zeros(4, 3)), ValueError, r"points must be \(B, P_b, 3\)"),
            Mistake("cell", make(cell_size=(1, 1, 0)), ValueError, "cell_size must be > 0"),
            Mistake("grid", make(grid_shape=(1 << 11, 1 << 11, 1 << 11)), ValueError, "fewer than 2\\^31 cells"),
            Mistake("rows", make(rows=torch.tensor([0, 1, 2, 9]), num_rows=4), ValueError, r"rows must be in \[0, 4\)"),
            Mistake(
                "no_rows",
                make(rows=torch.arange(4), check_rows=False),
                ValueError,
                "num_rows must be given under torch.compile or without check_rows",
            ),
            Mistake("few_rows", lambda: ops.bev_pool(torch.zeros(3, 2), plan), ValueError, "plan's 4 rows"),
            Mistake("weight", lambda: ops.bev_pool(torch.zeros(4, 2), plan, torch.ones(5)), ValueError, "plan's 4"),
        ]


class TestBevPoolWeighted(BevPoolContract):
    differentiable = ("feats", "weight")

    @staticmethod
    def samples():
        return [
            sample_of("own_rows", random_points(2, 20)),
            sample_of("shared_rows", random_points(2, 40), num_rows=6, channels=5),
            sample_of("no_points", random_points(1, 0)),
        ]

    @staticmethod
    def mistakes():
        plan = ops.make_bev_pool_plan(random_points(1, 4), **GRID)
        whole = torch.ones(4, dtype=torch.int32)
        return [Mistake("integers", lambda: ops.bev_pool(torch.zeros(4, 2), plan, whole), ValueError, "floating point")]


@pytest.mark.parametrize("channels", [1, 8, 80])
def test_channels_of_the_model(channels, device):
    sample = sample_of("", random_points(2, 300), num_rows=50, channels=channels).to(device, torch.float32)
    (out,), (wanted,) = (
        BevPoolContract.call(sample),
        BevPoolContract.oracle(sample.to(torch.device("cpu"), torch.float64)),
    )
    torch.testing.assert_close(out.double().cpu(), torch.from_numpy(wanted), rtol=1e-5, atol=1e-5)
    assert out.shape == (2, 2 * channels, 4, 3)


def test_rows_out_of_range_add_nothing_where_nobody_looks(device):
    points, rows = random_points(1, 40).to(device), torch.arange(40, device=device) - 3
    plan = ops.make_bev_pool_plan(points, **GRID, rows=rows, num_rows=30, check_rows=False)
    feats = torch.randn(30, 2, device=device)
    inside = (rows >= 0) & (rows < 30)
    right = ops.make_bev_pool_plan(points[:, inside], **GRID, rows=rows[inside], num_rows=30)
    assert torch.equal(ops.bev_pool(feats, plan), ops.bev_pool(feats, right))


def test_features_are_twice_differentiable_and_the_gradient_of_weight_says_that_it_is_not():
    sample = sample_of("", random_points(1, 12), num_rows=5).to(torch.device("cpu"), torch.float64)
    plan, weight = BevPoolContract.plan(sample), sample.tensors["weight"].requires_grad_()
    feats = sample.tensors["feats"].requires_grad_()
    assert_twice_differentiable(lambda f: ops.bev_pool(f, plan, weight.detach()), feats)
    (grad,) = torch.autograd.grad(ops.bev_pool(feats, plan, weight).square().sum(), weight, create_graph=True)
    with pytest.raises(NotImplementedError, match="gradient of weight is not differentiable"):
        grad.sum().backward()


def test_a_compiled_program_leaves_out_rows_that_are_none():
    def program(points, rows, feats):
        return ops.bev_pool(feats, ops.make_bev_pool_plan(points, rows=rows, num_rows=6, **GRID))

    torch._dynamo.reset()
    compiled = torch.compile(program, backend="eager", fullgraph=True, dynamic=True)
    points, rows, feats = random_points(1, 30), torch.randint(6, (1, 30)), torch.randn(6, 3)
    torch.testing.assert_close(compiled(points, rows, feats), program(points, rows, feats))
    kept = program(points[:, 3:], rows[:, 3:], feats)
    rows[0, :3] = torch.tensor([-1, 6, 2**32])
    torch.testing.assert_close(compiled(points, rows, feats), kept)
