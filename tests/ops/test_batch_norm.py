# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from pcperc import ops
from tests import oracles_batch_norm
from tests.op_contract import DifferentiableOpContract, Mistake, Sample, assert_twice_differentiable

OPS = torch.ops.pcperc


def sample_of(name, rows, channels, *, training, residual=True, affine=True, slope=0.0, mean=0.0):
    tensors = {"feats": torch.randn(rows, channels) + mean, "mean": torch.randn(channels) + mean}
    tensors["var"] = torch.rand(channels) + 0.5
    if affine:
        tensors |= {"weight": torch.rand(channels) + 0.5, "bias": torch.randn(channels)}
    if residual:
        tensors["residual"] = torch.randn(rows, channels)
    options = {"training": training, "negative_slope": slope}
    return Sample(name, tensors, options, terms_summed=rows if training else 1)


def arguments(sample):
    t = sample.tensors
    statistics = (None, None) if sample.options["training"] else (t["mean"], t["var"])
    return t["feats"], *statistics, t.get("weight"), t.get("bias"), t.get("residual")


class TestBatchNorm(DifferentiableOpContract):
    differentiable = ("feats",)

    @staticmethod
    def samples():
        torch.manual_seed(1)
        return [
            sample_of("train", 7, 3, training=True),
            sample_of("train_plain", 5, 8, training=True, residual=False, affine=False, slope=1.0),
            sample_of("train_two_rows", 2, 4, training=True, residual=False, slope=0.1),
            sample_of("given", 6, 3, training=False),
            sample_of("given_plain", 6, 8, training=False, residual=False, affine=False, slope=1.0),
            sample_of("given_one_row", 1, 5, training=False, slope=0.1),
            sample_of("given_no_rows", 0, 5, training=False),
        ]

    @staticmethod
    def call(sample):
        return (ops.batch_norm(*arguments(sample), **sample.options),)

    @staticmethod
    def oracle(sample):
        feats, mean, var, *rest = (None if t is None else t.numpy() for t in arguments(sample))
        if sample.options["training"]:
            mean, var = oracles_batch_norm.moments(feats)
        slope = sample.options["negative_slope"]
        return (oracles_batch_norm.batch_norm(feats, mean, var, *rest, eps=1e-5, negative_slope=slope),)

    @staticmethod
    def overloads(sample):
        feats, _, _, weight, bias, residual = arguments(sample)
        statistics = sample.tensors["mean"], sample.tensors["var"]
        if sample.name != "train":
            return [(OPS.batch_norm_inference.default, (feats, residual, *statistics, weight, bias, 1e-5, 0.0))]
        tracked = torch.zeros((), dtype=torch.long, device=feats.device)
        running = [t.clone() for t in statistics]
        return [
            (OPS.batch_norm_train.default, (feats, residual, weight, bias, *running, tracked, 0.1, 1e-5, 0.0)),
            (OPS.batch_norm_backward.default, (feats, feats, feats, *statistics, weight, True, 0.0)),
        ]

    @staticmethod
    def mistakes():
        feats, vector = torch.randn(4, 3), torch.ones(3)

        def norm(*values, **options):
            return lambda: ops.batch_norm(*values, **options)

        return [
            Mistake("list", norm([1.0], vector, vector), TypeError, "feats must be a tensor, got list"),
            Mistake("whole", norm(feats.long(), vector, vector), TypeError, "feats must have a floating point dtype"),
            Mistake("width", norm(feats, vector[:2], vector), ValueError, r"running_mean must be \(3,\)"),
            Mistake("dtype", norm(feats, vector, vector, vector.half()), ValueError, "weight must be .* or float32"),
            Mistake("none", norm(feats, None, None), ValueError, "running_mean and running_var must be given"),
            Mistake("one_row", norm(feats[:1], None, None, training=True), ValueError, "at least 2 rows in training"),
            Mistake("slope", norm(feats, vector, vector, negative_slope=-1.0), ValueError, "negative_slope must be"),
            Mistake(
                "slope_type", norm(feats, vector, vector, negative_slope="0"), TypeError, "negative_slope .* got str"
            ),
            Mistake("slope_bool", norm(feats, vector, vector, negative_slope=True), TypeError, "number, got bool"),
            Mistake(
                "eps", norm(feats, vector, vector, eps=-1e-5), ValueError, "eps must be finite and >= 0, got -1e-05"
            ),
            Mistake("eps_nan", norm(feats, vector, vector, eps=float("nan")), ValueError, "eps must be .* got nan"),
            Mistake("eps_type", norm(feats, vector, vector, eps=None), TypeError, "eps must be a number, got NoneType"),
            Mistake(
                "momentum", norm(feats, vector, vector, momentum=-1.0), ValueError, r"in \[0, 1\] or None, got -1.0"
            ),
            Mistake("momentum_type", norm(feats, vector, vector, momentum="0"), TypeError, "momentum must be a number"),
            *(
                Mistake(f"half_{training}", norm(feats, *half, training=training), ValueError, "must both be given or")
                for training in (True, False)
                for half in ((vector, None), (None, vector))
            ),
            Mistake(
                "residual", norm(feats, vector, vector, residual=feats[:2]), ValueError, "residual must be like feats"
            ),
            Mistake(
                "average",
                norm(feats, vector, vector, training=True, momentum=None),
                ValueError,
                "num_batches_tracked must be given where momentum is None",
            ),
        ]


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("training", [True, False])
def test_all_gradients_twice(slope, training, device):
    def norm(feats, residual, weight, bias):
        mean, var = (None, None) if training else (torch.zeros_like(bias), torch.ones_like(bias))
        return ops.batch_norm(feats, mean, var, weight, bias, residual, training=training, negative_slope=slope)

    shapes = [(5, 3), (5, 3), (3,), (3,)]
    leaves = [torch.randn(shape, dtype=torch.float64, device=device, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(norm, leaves, nondet_tol=0.0)
    assert_twice_differentiable(norm, leaves, nondet_tol=0.0)


DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])


@DTYPES
@pytest.mark.parametrize("rows, channels", [(2, 1), (1500, 3), (5000, 96), (3000, 300), (700, 2056), (3, 1027)])
def test_gradients_of_many_rows_are_those_of_float64(rows, channels, dtype, device):
    assert_gradients_of_float64(rows, channels, dtype, device)


@pytest.mark.gpu
@DTYPES
@pytest.mark.parametrize("rows, channels", [(200_001, 40), (9000, 1030), (9, 1024), (300_000, 1)])
def test_gradients_with_several_pieces_a_block_or_none(rows, channels, dtype):
    """More pieces of rows and channels than a GPU holds blocks at once, or fewer than there are channels to add up."""
    assert_gradients_of_float64(rows, channels, dtype, "cuda")


def assert_gradients_of_float64(rows, channels, dtype, device):
    feats, grad, residual = (torch.randn(rows, channels, device=device).to(dtype) for _ in range(3))
    feats = feats + 3
    weight, bias = torch.rand(channels, device=device) + 0.5, torch.randn(channels, device=device)
    found = []
    for number, parameter in ((dtype, torch.float32), (torch.float64, torch.float64)):
        values = [feats.to(number), residual.to(number), weight.to(parameter), bias.to(parameter)]
        if dtype == torch.float64:
            values[2:] = [value.double() for value in values[2:]]
        x, added, w, b = leaves = [value.detach().requires_grad_() for value in values]
        if len(found) == 0:
            out = ops.batch_norm(x, None, None, w, b, added, training=True, negative_slope=0.0)
            kept = (out > 0).double()
        else:  # the same cells below zero: rounding may move one across
            out = torch.nn.functional.batch_norm(x, None, None, w, b, True) * kept + added * kept
        found.append([out, *torch.autograd.grad(out, leaves, grad.to(number))])
    condition = 1 / (x.detach().var(0, correction=0) + 1e-5)  # few rows may lie close together, and gradients cancel
    for ours, exact in zip(*found, strict=True):
        rounding = {torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float32: 2e-6, torch.float64: 1e-14}[dtype]
        columns = torch.maximum(exact.abs().amax(0), condition.clamp(min=1))
        scale = columns if exact.ndim == 2 else exact.abs().clamp(min=rows**0.5)
        assert ((ours.double() - exact).abs() / scale).max() < (4 if ours.ndim == 2 else 40) * rounding


def test_running_statistics_follow_torchs(device):
    for momentum in (0.1, None):
        ours = [torch.zeros(40, device=device), torch.ones(40, device=device), torch.tensor(0, device=device)]
        layer = torch.nn.BatchNorm1d(40, momentum=momentum, affine=False).to(device)
        for rows in (2, 3000):
            feats = torch.randn(rows, 40, device=device) * 2 + 1
            ops.batch_norm(
                feats, *ours[:2], training=True, num_batches_tracked=ours[2], momentum=momentum, negative_slope=0.0
            )
            layer(feats)
        for own, theirs in zip(ours, (layer.running_mean, layer.running_var, layer.num_batches_tracked), strict=True):
            torch.testing.assert_close(own, theirs)


def test_a_mean_far_from_zero_costs_no_digits(device):
    feats = torch.randn(5000, 8, device=device) + 4096
    out = ops.batch_norm(feats, None, None, training=True)
    exact = torch.nn.functional.batch_norm(feats.double(), None, None, training=True)
    torch.testing.assert_close(out.double(), exact, rtol=1e-3, atol=1e-3)  # float32 holds 4096 to 2e-4


def test_nan_stays_and_infinity_below_zero_ends_at_zero():
    feats = torch.tensor([[float("nan"), -float("inf"), -2.0]])
    out = ops.batch_norm(feats, torch.zeros(3), torch.ones(3), negative_slope=0.0)
    assert out[0, 0].isnan() and out[0, 1] == 0 and out[0, 2] == 0


def test_any_number_of_threads_gives_the_same_bits():
    feats, grad = torch.randn(6000, 24), torch.randn(6000, 24)
    found, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            x, weight = feats.clone().requires_grad_(), torch.ones(24, requires_grad=True)
            out = ops.batch_norm(x, None, None, weight, training=True, negative_slope=0.0)
            found.append([out, *torch.autograd.grad(out, (x, weight), grad)])
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def training_step(feats, *running):
    """Both operators of a training step with residual and leaky ReLU, and all that they return."""
    affine = torch.linspace(0.5, 1.5, feats.shape[1], device=feats.device), torch.ones_like(feats[0], dtype=torch.float)
    out, mean, invstd = OPS.batch_norm_train(feats, feats, *affine, *(running or [None] * 3), 0.1, 1e-5, 0.1)
    return out, mean, invstd, *OPS.batch_norm_backward(feats, feats, out, mean, invstd, affine[0], True, 0.1)


@pytest.mark.gpu
@pytest.mark.parametrize("rows, channels", [(2, 1), (7, 1500), (3000, 33), (20_000, 256), (200_000, 40)])
def test_bits_repeat_while_the_gpu_has_other_work(rows, channels):
    """A launch whose blocks wait for one another begins where there is room for all of them."""
    feats, other = torch.randn(rows, channels, device="cuda"), torch.randn(3000, 3000, device="cuda")
    expected = training_step(feats)
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    for _ in range(20):
        with torch.cuda.stream(side):
            other @ other
        for found, wanted in zip(training_step(feats), expected, strict=True):
            assert torch.equal(found, wanted)
    torch.cuda.current_stream().wait_stream(side)


@pytest.mark.gpu
@pytest.mark.parametrize("rows, channels", [(5, 3), (30_000, 64)])
def test_a_training_step_in_a_graph(rows, channels):
    static = torch.randn(rows, channels, device="cuda")

    def statistics():
        tensors = torch.zeros(channels), torch.ones(channels), torch.tensor(0)
        return [tensor.cuda() for tensor in tensors]

    running, eager = statistics(), statistics()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        training_step(static)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        recorded = training_step(static, *running)
    for seed in range(3):
        static.copy_(torch.randn(rows, channels) * (seed + 1) + seed)
        graph.replay()
        for found, wanted in zip(recorded, training_step(static, *eager), strict=True):
            assert torch.equal(found, wanted)
    for found, wanted in zip(running, eager, strict=True):
        assert torch.equal(found, wanted)
    assert running[2] == 3


@pytest.mark.gpu
def test_each_way_is_one_launch():
    feats = torch.randn(5000, 64, device="cuda")
    training_step(feats)
    torch.cuda.synchronize()
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities, acc_events=True) as profile:
        training_step(feats)
        torch.cuda.synchronize()
    launches = sorted(event.name for event in profile.events() if "pcperc" in event.name and "kernel" in event.name)
    assert len(launches) == 2 and "backward_kernel" in launches[0] and "train_kernel" in launches[1]
