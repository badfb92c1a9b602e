# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest
import torch

from pcperc import ops
from tests import oracles_pool
from tests.op_contract import Mistake, OpContract, Sample
from tests.ops.clouds import CLOUDS, KEY_LIMITS

OPS = torch.ops.pcperc
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


def quarters(count, *, dims=3, reach=40.0, seed=0):
    """(P, 1 + dims) float64 points on quarters: none is so near to the border of a cell that float32 moves it over."""
    rng = np.random.default_rng(seed)
    xyz = np.round(rng.uniform(-reach, reach, (count, dims)) * 4) / 4
    batch = rng.integers(0, 3, (count, 1)) + rng.choice([-0.25, 0.0, 0.25], (count, 1))
    return torch.as_tensor(np.concatenate([batch, xyz], 1))


def edges(dims, stride=1):
    """Points on both sides of each limit of the range, along one axis each, and what is no number."""
    max_batch, low, high = KEY_LIMITS[dims]
    far = [low * stride - 0.25, low * stride, (high + 1) * stride - 0.25, (high + 1) * stride]
    far += [np.inf, -np.inf, np.nan, 1e30, -1e30, 2.0**31, 2.0**32, -(2.0**63)]
    rows = [[1.0, *[0.5] * axis, v, *[0.5] * (dims - 1 - axis)] for axis in range(dims) for v in far]
    batches = [-1.0, -0.75, -0.25, max_batch + 0.25, max_batch + 0.75, max_batch + 1, 2.0**32, np.inf, -np.inf, np.nan]
    rows += [[batch, *[2.5] * dims] for batch in batches]
    return torch.tensor(rows, dtype=torch.float64)


def sample_of(name, points, **options):
    return Sample(name, {"points": points}, options)


def spread(stride, dims):
    return (stride,) * dims if isinstance(stride, int) else tuple(stride)


class TestPointCells(OpContract):
    dtypes = (torch.float64, torch.float32)

    @staticmethod
    def samples():
        found = []
        for dims in (1, 2, 3, 4):
            found.append(sample_of(f"{dims}d", quarters(60, dims=dims)))
            found.append(sample_of(f"{dims}d_quantized", quarters(60, dims=dims), stride=3, shift=0.5, quantized=True))
            found.append(sample_of(f"{dims}d_edges", edges(dims)))
        huge = quarters(60) * torch.tensor([1.0, *[2.0**31] * 3])
        points = quarters(100)
        return [
            *found,
            sample_of("more_points_than_a_thread_has", quarters(9000), stride=3),
            sample_of("strides", points, stride=(3, 1, 7)),
            sample_of("a_list", points, stride=[1, 7, 2], shift=0.5),
            sample_of("middle", points, stride=3, shift=0.5),
            sample_of("towards_the_last", points, stride=7, shift=-0.5),
            sample_of("quarter_quantized", points, stride=(2, 3, 4), shift=0.25, quantized=True),
            sample_of("edges_with_stride", edges(3, 7), stride=7),
            sample_of("edges_quantized", edges(3, 3), stride=3, quantized=True),
            sample_of("huge", huge, stride=2**33),
            sample_of("huge_from_the_middle", huge, stride=(3 * 2**31, 2**33, 1), shift=0.5),
            sample_of("larger_than_all_points", points, stride=2**62, quantized=True),
            sample_of("no_points", points[:0], stride=3, shift=0.5),
        ]

    @staticmethod
    def call(sample):
        return (ops.point_cells(sample.tensors["points"], **sample.options),)

    @staticmethod
    def oracle(sample):
        points = sample.tensors["points"].numpy()
        dims = points.shape[1] - 1
        options = {"stride": 1, "shift": 0.0, "quantized": False} | sample.options
        options["stride"] = spread(options["stride"], dims)
        return (oracles_pool.point_cells(points, **options, limits=KEY_LIMITS[dims]),)

    @staticmethod
    def overloads(sample):
        points = sample.tensors["points"]
        dims = points.shape[1] - 1
        table = torch.randint(-1, 9, (2**dims, len(points)), dtype=torch.int32, device=points.device)
        read = spread(sample.options.get("stride", 1), dims), 0.5, True
        return [(OPS.point_cells.default, (points, *read)), (OPS.corner_weights.default, (points, table, *read, True))]

    @staticmethod
    def mistakes():
        points = torch.zeros(2, 4)

        def call(points=points, **options):
            return lambda: ops.point_cells(points, **options)

        def plan(**options):
            return lambda: ops.make_interpolation_plan(CLOUDS["one"], points, **options)

        wanted = r"must be a whole number >= 1 or 3 of them, got"
        return [
            Mistake("list", call([[0.0, 1.0]]), TypeError, "point_cells: points must be a tensor, got list"),
            Mistake("int", call(points.int()), TypeError, "points must have a floating point dtype, got .* int32"),
            Mistake("half", call(points.half()), ValueError, "points must be .* float32 or float64, .*got .* float16"),
            Mistake(
                "vector", call(points[0]), ValueError, r"points must be \(P, 1 \+ D\) with D from 1 to 4, got \(4,"
            ),
            Mistake("one_column", call(points[:, :1]), ValueError, r"with D from 1 to 4, got \(2, 1\)"),
            Mistake("six_columns", call(torch.zeros(2, 6)), ValueError, r"D from 1 to 4, got \(2, 6\)"),
            Mistake("stride", call(stride=0), ValueError, f"point_cells: stride {wanted} 0"),
            Mistake("shift", call(shift="x"), TypeError, "point_cells: shift must be a number, got str"),
            Mistake("nan", plan(shift=float("nan")), ValueError, "plan: shift must be finite, got nan"),
            Mistake("one_negative", call(stride=(1, -1, 1)), ValueError, rf"stride {wanted} \(1, -1, 1\)"),
            Mistake("length", call(stride=(1, 2)), ValueError, rf"stride {wanted} \(1, 2\)"),
            Mistake("part", call(stride=1.5), TypeError, "stride must be a whole number or 3 of them, got 1.5"),
            Mistake("plan", plan(stride=0), ValueError, f"make_interpolation_plan: stride {wanted} 0"),
            Mistake("plan_length", plan(stride=[2] * 4, mode="nearest"), ValueError, f"plan: stride {wanted}"),
            Mistake("plan_part", plan(stride=(1, 2.0, 1)), TypeError, "stride must be a whole number or 3 of them"),
        ]


@pytest.mark.parametrize("change", [dict(), dict(quantized=True)], ids=["whole", "quantized"])
@DTYPES
def test_cells_of_whole_numbers_are_their_floor_division(dtype, change, device):
    low, high = -131072, 131071
    for step in [*range(1, 1001), 2**17 - 1, 2**17, 2**17 + 1, 2**24 + 1, 2**31, 2**33, 2**63 - 1]:
        multiples = np.arange(low // step, high // step + 1) * step
        whole = np.concatenate([[low, -1, high], *(multiples + beside for beside in (-1, 0, 1))])
        whole = whole[(whole >= low) & (whole <= high)]
        xyz = torch.as_tensor(whole, dtype=dtype)
        if change:
            xyz = torch.cat([xyz, xyz + 63 / 64])  # float32 holds the sum
            whole = np.concatenate([whole, whole])
        points = torch.stack([torch.zeros_like(xyz), xyz], 1).to(device)
        found = ops.point_cells(points, stride=step, **change)
        assert np.array_equal(found[:, 1].cpu().numpy(), whole // step), step
        assert not found[:, 0].any()


@DTYPES
def test_a_quantized_point_is_floored_before_a_division_makes_it_0(dtype, device):
    below = -np.finfo(str(dtype).removeprefix("torch.")).smallest_subnormal
    points = torch.tensor([[0.0, below, 0.0]], dtype=dtype, device=device)
    assert ops.point_cells(points, stride=3, quantized=True).tolist() == [[0, -1, 0]]


def test_operators_refuse_what_would_leave_their_buffers():
    points, table = torch.zeros(5, 3), torch.zeros(4, 5, dtype=torch.int32)
    read = [1, 1], 0.0, False
    for wrong, message in [
        (torch.zeros(8, 5, dtype=torch.int32), r"neighbors must be \(4, 5\), got \(8, 5\)"),
        (torch.zeros(4, 4, dtype=torch.int32), r"neighbors must be \(4, 5\), got \(4, 4\)"),
        (table.flatten(), "neighbors must have 2 dimensions, got 1"),
        (table.long(), "neighbors must have dtype Int, got Long"),
    ]:
        with pytest.raises(RuntimeError, match=f"corner_weights: {message}"):
            OPS.corner_weights(points, wrong, *read, True)
    for wrong, stride, message in [
        (points[0], [1, 1], "points must have 2 dimensions, got 1"),
        (points[:, :1], [], "points must have 2 to 5 columns, got 1"),
        (torch.zeros(5, 6), [1] * 5, "points must have 2 to 5 columns, got 6"),
        (points, [1], "stride must have 2 values, got 1"),
        (points, [1, 0], "stride must be >= 1, got 0"),
        (points.half(), [1, 1], "points must be float32 or float64"),
    ]:
        with pytest.raises(RuntimeError, match=f"point_cells: {message}"):
            OPS.point_cells(wrong, stride, 0.0, False)
        with pytest.raises(RuntimeError, match=f"corner_weights: {message}"):
            OPS.corner_weights(wrong, table, stride, 0.0, False, False)


def test_points_without_a_cell_keep_their_numbers_without_padding(device):
    far = [1e30, -1e30, torch.inf, torch.nan, 131072.0, 2.0**31, -(2.0**31), -1.5]
    rows = [[0.0, value, 3.25] for value in far] + [[-1.0, 2.0, 3.25], [5000.0, 2.0, 3.25]]
    top, bottom = 2**31 - 1, -(2**31)
    expected = [[0, x, 3] for x in (top, bottom, top, bottom, 131072, top, bottom, -2)] + [[-1, 2, 3], [5000, 2, 3]]
    for dtype in (torch.float32, torch.float64):
        cells = ops.point_cells(torch.tensor(rows, dtype=dtype, device=device), padding=False)
        assert cells.tolist() == expected
    for row in (0, 3, 4, 9):
        with pytest.raises(ValueError, match="unique_coords: coords row 0 = .* is out of range"):
            ops.unique_coords(cells[row : row + 1])


@pytest.mark.gpu
@DTYPES
def test_a_gpu_gives_the_bits_of_the_cpu(dtype):
    points = torch.cat([torch.randint(0, 3, (5000, 1)), torch.randn(5000, 3) * 50], 1).to(dtype)
    table = torch.randint(-1, 9, (8, 5000), dtype=torch.int32)
    for read in (([1, 1, 1], 0.0, False), ([3, 7, 2], 0.5, False), ([3, 5, 7], 0.0, True)):
        assert torch.equal(OPS.point_cells(points.cuda(), *read).cpu(), OPS.point_cells(points, *read))
        for renormalize in (False, True):
            ours = OPS.corner_weights(points, table, *read, renormalize)
            theirs = OPS.corner_weights(points.cuda(), table.cuda(), *read, renormalize)
            assert all(torch.equal(one.cpu(), other) for one, other in zip(theirs, ours, strict=True))


@pytest.mark.gpu
def test_neighbors_on_another_device_are_refused():
    with pytest.raises(RuntimeError, match="one CUDA device"):
        OPS.corner_weights(torch.zeros(5, 3).cuda(), torch.zeros(4, 5, dtype=torch.int32), [1, 1], 0.0, False, False)
