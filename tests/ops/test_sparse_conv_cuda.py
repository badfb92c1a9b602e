# SPDX-License-Identifier: Apache-2.0
"""What can go wrong on a GPU alone: tiles, alignment, streams, offsets, TF32; the rest is tested on both devices."""

import pytest
import torch

from pcperc import ops
from tests.oracles_sparse_conv import convolve, random_tables, truncate_to_tf32
from tests.tolerances import tolerances

pytestmark = pytest.mark.gpu

CUDA = torch.device("cuda")
HALF = [torch.float16, torch.bfloat16]
DTYPES = [torch.float64, torch.float32, *HALF]
# Two of them are enough for tools/sanitize_gpu.sh.
FEW_SANITIZED = [
    pytest.param(dtype, marks=[pytest.mark.sanitizer] if dtype in (torch.float32, torch.bfloat16) else [])
    for dtype in DTYPES
]
# Widths around the tiles' 32, 64 and 128 columns, their 16 and 32 channels of depth and the 8 values of a 16-byte copy.
WIDTHS = [(1, 1), (3, 17), (17, 65), (65, 3), (8, 8), (16, 32), (24, 72), (64, 64), (136, 128), (33, 200)]
# Several taps to one product in half precision.
WIDTHS += [(3, 16), (4, 32), (5, 64)]
GROUPS = [(1, 1, 1), (3, 3, 3), (17, 17, 17), (65, 65, 65), (64, 64, 64), (32, 64, 32), (64, 32, 32), (24, 40, 8)]
GROUPS += [(64, 64, 4), (34, 18, 2), (160, 48, 2)]
GROUPS += [(8, 32, 2)]
TAPS = [1, 8, 27, 33, 125]
ROWS = [(0, 0), (0, 5), (5, 0), (1, 1), (63, 65), (64, 64), (129, 127), (2000, 9001)]


@pytest.fixture
def tf32():
    """Give a function that sets torch's switch; afterwards it stands as before."""
    yield lambda on: setattr(torch.backends.cuda.matmul, "allow_tf32", on)
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.set_float32_matmul_precision("highest")


def inputs_of(widths, taps, num_in, num_out, dtype, *, groups=1, density=0.3):
    cin, cout = widths
    neighbors, reverse = random_tables(taps, num_in, num_out, density=density)
    tensors = {
        "feats": torch.randn(num_in, cin).to(dtype),
        "weight": torch.randn(taps, cin // groups, cout).to(dtype),
        "neighbors": neighbors,
        "reverse_neighbors": reverse,
        "bias": torch.randn(cout).to(dtype),
    }
    return {name: tensor.to(CUDA) for name, tensor in tensors.items()}


def with_gradients(run, tensors, upstream):
    """The output of run(feats, weight, bias) and its gradients."""
    leaves = [tensors[name].detach().clone().requires_grad_() for name in ("feats", "weight", "bias")]
    out = run(*leaves)
    return out.detach(), *torch.autograd.grad(out, leaves, upstream.to(out.device, out.dtype))


def run_op(tensors, upstream, **options):
    tables = {name: tensors[name] for name in ("neighbors", "reverse_neighbors")}
    return with_gradients(lambda f, w, b: ops.sparse_conv(f, w, bias=b, **tables, **options), tensors, upstream)


def check_against_oracle(tensors, dtype, *, groups=1):
    """Output and gradients are those of the oracle, as far as the dtype's rounding and float32 sums can say."""
    taps, num_out = tensors["neighbors"].shape
    cin, cout = tensors["feats"].shape[1] // groups, tensors["weight"].shape[2]
    upstream = torch.randn(num_out, cout).to(dtype)
    found = run_op(tensors, upstream, groups=groups)
    exact = {name: t.cpu().double() if t.is_floating_point() else t.cpu() for name, t in tensors.items()}
    table = exact["neighbors"]
    wanted = with_gradients(lambda f, w, b: convolve(f, w, table, b, groups=groups), exact, upstream)
    terms = (taps * cin + 1, taps * cout // groups, num_out, num_out)
    for got, expected, count in zip(found, wanted, terms, strict=True):
        assert got.dtype == dtype
        torch.testing.assert_close(got.double().cpu(), expected, **tolerances(dtype, max(count, 1)))


@pytest.mark.parametrize("taps", TAPS)
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_width_and_number_of_taps(widths, taps, dtype):
    check_against_oracle(inputs_of(widths, taps, 150, 200, dtype), dtype)


@pytest.mark.parametrize("taps", [8, 27])
@pytest.mark.parametrize("grouping", GROUPS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_grouping(grouping, taps, dtype):
    *widths, groups = grouping
    check_against_oracle(inputs_of(widths, taps, 300, 200, dtype, groups=groups), dtype, groups=groups)


@pytest.mark.parametrize(
    "rows", [(0, 0), (0, 5), (5, 0), (1, 1), (63, 65), (64, 64), (129, 127), (2000, 9001)], ids=str
)
@pytest.mark.parametrize("grouping", [(16, 40, 1), (24, 24, 24)], ids=str)
@pytest.mark.parametrize("dtype", FEW_SANITIZED, ids=str)
def test_any_number_of_rows(rows, grouping, dtype):
    *widths, groups = grouping
    check_against_oracle(inputs_of(widths, 9, *rows, dtype, groups=groups), dtype, groups=groups)


@pytest.mark.parametrize("widths", [(16, 72), (64, 128), (96, 264)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, *HALF], ids=str)
def test_wide_tiles_give_the_bits_of_small_ones(widths, dtype, tf32):
    """The same rows in parts are too few for the widest tiles, but enough that no blocks share one."""
    tf32(True)
    tensors = inputs_of(widths, 8, 20000, 70000, dtype)
    del tensors["reverse_neighbors"]
    whole = ops.sparse_conv(**tensors)
    rows = 4000 if dtype == torch.float32 or widths[0] < 48 else 20000
    parts = tensors["neighbors"].split(rows, dim=1)
    for i, part in enumerate(parts[:3]):
        assert torch.equal(ops.sparse_conv(**tensors | {"neighbors": part}), whole[i * rows : (i + 1) * rows])
    residual = torch.randn_like(whole)
    options = dict(residual=residual, negative_slope=0.25)
    fused = ops.sparse_conv_fused(**tensors, **options)
    expected = torch.nn.functional.leaky_relu(whole.double() + residual, 0.25)
    torch.testing.assert_close(fused.double(), expected, **tolerances(dtype, 4))


@pytest.mark.parametrize("grouping", [(16, 32, 1), (64, 64, 1), (64, 64, 64), (64, 64, 2)], ids=str)
@pytest.mark.parametrize("name", ["feats", "weight", "residual", "bias"])
@pytest.mark.parametrize("dtype", FEW_SANITIZED, ids=str)
def test_tensors_that_start_anywhere(name, grouping, dtype):
    """A slice of a larger storage is contiguous but off the 16 bytes that vector loads need."""
    *widths, groups = grouping
    tensors = inputs_of(widths, 9, 200, 200, dtype, groups=groups)
    del tensors["reverse_neighbors"]
    tensors["residual"] = torch.randn(200, widths[1], device=CUDA).to(dtype)
    expected = ops.sparse_conv_fused(**tensors, groups=groups)
    source = tensors[name]
    storage = torch.empty(source.numel() + 1, dtype=dtype, device=CUDA)
    storage[1:] = source.flatten()
    moved = storage[1:].view(source.shape)
    assert moved.is_contiguous() and moved.data_ptr() % 16
    # Rows off the 16 bytes are multiplied by other kernels than aligned ones.
    found = ops.sparse_conv_fused(**tensors | {name: moved}, groups=groups)
    torch.testing.assert_close(found, expected, **tolerances(dtype, 9 * widths[0] // groups + 2))


@pytest.mark.sanitizer
@pytest.mark.parametrize("groups", [1, 64])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradients_of_tensors_that_start_anywhere(groups, dtype):
    tensors = inputs_of((64, 64), 9, 200, 200, dtype, groups=groups)
    upstream = torch.randn(200, 64, device=CUDA).to(dtype)
    arguments = (tensors["neighbors"], None, True, groups)
    expected = torch.ops.pcperc.sparse_conv_weight_grad(tensors["feats"], upstream, *arguments)
    for moved in range(2):
        pair = [tensors["feats"], upstream]
        storage = torch.empty(200 * 64 + 1, dtype=dtype, device=CUDA)
        storage[1:] = pair[moved].flatten()
        pair[moved] = storage[1:].view(200, 64)
        for got, wanted in zip(torch.ops.pcperc.sparse_conv_weight_grad(*pair, *arguments), expected, strict=True):
            torch.testing.assert_close(got, wanted, **tolerances(got.dtype, 200))


@pytest.mark.parametrize("grouping", [(64, 128, 1), (48, 48, 48)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_repeats_bit_for_bit_over_many_rows(grouping, dtype, tf32):
    tf32(True)
    *widths, groups = grouping
    tensors = inputs_of(widths, 27, 30000, 30000, dtype, groups=groups, density=0.2)
    upstream = torch.randn(30000, widths[1]).to(dtype)
    first = run_op(tensors, upstream, groups=groups)
    for _ in range(3):
        for got, wanted in zip(run_op(tensors, upstream, groups=groups), first, strict=True):
            assert torch.equal(got, wanted)


def test_runs_on_the_current_stream():
    """The features are written late on a stream of their own: a launch on another one would read zeros."""
    tensors = inputs_of((64, 64), 27, 5000, 5000, torch.float16)
    upstream = torch.randn(5000, 64, device=CUDA).half()
    expected = run_op(tensors, upstream)
    late = tensors | {"feats": torch.zeros_like(tensors["feats"])}
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(200_000_000)
        late["feats"].copy_(tensors["feats"])
        found = run_op(late, upstream)
    stream.synchronize()
    for got, wanted in zip(found, expected, strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="GPU: one device only")
def test_runs_on_the_device_of_its_tensors():
    tensors = inputs_of((64, 64), 27, 5000, 5000, torch.float16)
    expected = ops.sparse_conv(**tensors)
    moved = ops.sparse_conv(**{name: tensor.to("cuda:1") for name, tensor in tensors.items()})
    assert moved.device == torch.device("cuda:1")
    assert torch.equal(moved.to(CUDA), expected)


def test_is_captured_in_a_graph():
    """No layer waits for the GPU, so that a whole network can be recorded."""
    tensors = inputs_of((64, 128), 27, 20000, 20000, torch.float16)
    upstream = torch.randn(20000, 128, device=CUDA).half()

    def run():
        relu = ops.sparse_conv_fused(*(tensors[n] for n in ("feats", "weight", "neighbors", "bias")), negative_slope=0)
        return relu, *run_op(tensors, upstream)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        recorded = run()
    tensors["feats"].copy_(torch.randn_like(tensors["feats"]))
    graph.replay()
    for got, wanted in zip(recorded, run(), strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("grouping", [(16, 16, 1), (16, 16, 16)], ids=str)
def test_weight_gradient_beyond_float16(grouping):
    """Float32 parameters get the gradient that float16 cannot hold."""
    *widths, groups = grouping
    tensors = inputs_of(widths, 1, 5000, 5000, torch.float16, groups=groups, density=1)
    tensors["weight"], tensors["bias"] = tensors["weight"].float(), tensors["bias"].float()
    tensors["feats"] = torch.full_like(tensors["feats"], 100)
    upstream = torch.full((5000, 16), 8.0)
    _, _, grad_weight, grad_bias = run_op(tensors, upstream, groups=groups)
    assert torch.equal(grad_weight, torch.full_like(grad_weight, 100 * 8 * 5000))
    assert torch.equal(grad_bias, torch.full_like(grad_bias, 8 * 5000))


@pytest.mark.parametrize("taps", [1, 27, 125])
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_tf32_is_exact_on_what_it_holds(widths, taps, tf32):
    """Products of values of 11 bits are exact, so that only the float32 sums round."""
    tf32(True)
    tensors = inputs_of(widths, taps, 150, 200, torch.float32)
    for name in ("feats", "weight"):
        tensors[name] = truncate_to_tf32(tensors[name])
    upstream = truncate_to_tf32(torch.randn(200, widths[1]))
    found = run_op(tensors, upstream)
    exact = {name: t.cpu().double() if t.is_floating_point() else t.cpu() for name, t in tensors.items()}
    wanted = with_gradients(lambda f, w, b: convolve(f, w, exact["neighbors"], b), exact, upstream)
    for got, expected in zip(found, wanted, strict=True):
        limits = tolerances(torch.float32, max(taps * max(widths) + 1, 200))
        torch.testing.assert_close(got.double().cpu(), expected, **limits)


def set_by_flag():
    torch.backends.cuda.matmul.allow_tf32 = True


def set_by_name():
    torch.backends.cuda.matmul.fp32_precision = "tf32"


def set_for_all_devices():
    torch.set_float32_matmul_precision("high")


@pytest.mark.parametrize("switch", [set_by_flag, set_by_name, set_for_all_devices])
def test_tf32_follows_every_switch_of_torch(switch, tf32):
    tensors = inputs_of((64, 64), 27, 500, 500, torch.float32)
    upstream = torch.randn(500, 64)
    exact = run_op(tensors, upstream)
    switch()
    rounded = run_op(tensors, upstream)
    fused = ops.sparse_conv_fused(*(tensors[n] for n in ("feats", "weight", "neighbors", "bias")))
    assert torch.equal(fused, rounded[0])
    for got, wanted in zip(rounded[:3], exact[:3], strict=True):
        assert not torch.allclose(got, wanted, **tolerances(torch.float32, 27 * 64))
        # TF32 keeps as many bits of an operand as float16.
        torch.testing.assert_close(got, wanted, **tolerances(torch.float16, 27 * 64))


def test_gradients_are_computed_as_the_forward_pass(tf32):
    tensors = inputs_of((32, 48), 27, 500, 500, torch.float32)
    upstream = torch.randn(500, 48)
    tables = [tensors[name] for name in ("neighbors", "reverse_neighbors")]
    results = {}
    for forward in (False, True):
        for backward in (False, True):
            leaves = [tensors[name].clone().requires_grad_() for name in ("feats", "weight")]
            tf32(forward)
            out = ops.sparse_conv(*leaves, *tables)
            tf32(backward)
            results[forward, backward] = torch.autograd.grad(out, leaves, upstream.to(CUDA))
    for index in range(2):
        for forward in (False, True):
            assert torch.equal(results[forward, False][index], results[forward, True][index])
        assert not torch.equal(results[False, False][index], results[True, True][index])


@pytest.mark.large
@pytest.mark.parametrize("groups", [1, 64])
def test_more_values_than_an_int_counts(groups):
    """(34M, 64) bfloat16: row offsets beyond 2^31; tap 0 meets the row itself, tap 1 the rows from behind."""
    rows, width = 2**31 // 64 + 100_003, 64
    feats = torch.randn(rows, width, device=CUDA, dtype=torch.bfloat16)
    weight = torch.randn(2, width // groups, width, device=CUDA).bfloat16()
    forwards = torch.arange(rows, dtype=torch.int32, device=CUDA)
    neighbors = torch.stack([forwards, forwards.flip(0)])
    out = ops.sparse_conv(feats, weight, neighbors, groups=groups)
    sampled = torch.cat([torch.arange(70), torch.randint(rows, (500,)), torch.arange(rows - 70, rows)])
    compact, table = neighbors[:, sampled.to(CUDA)].cpu().unique(return_inverse=True)
    expected = convolve(feats[compact.to(CUDA)], weight, table, groups=groups)
    limits = tolerances(torch.bfloat16, 2 * width)
    torch.testing.assert_close(out[sampled.to(CUDA)].double().cpu(), expected, **limits)
    # The map is its own reverse, so that the output can stand in for a gradient.
    grad_weight, grad_bias = torch.ops.pcperc.sparse_conv_weight_grad(feats, out, neighbors, None, True, groups)
    pairs = [torch.zeros(width, width, dtype=torch.float64, device=CUDA) for _ in range(2)]
    sums = torch.zeros(width, dtype=torch.float64, device=CUDA)
    for part in torch.arange(rows, device=CUDA).split(2_000_000):
        values = out[part].double()
        pairs[0] += feats[part].double().T @ values
        pairs[1] += feats[rows - 1 - part].double().T @ values
        sums += values.sum(0)
    expected = torch.stack([pair.diagonal()[None] if groups == width else pair for pair in pairs])
    largest = expected.abs().max().item()
    # Sums of 34M products in 32 or 64 float32 parts.
    assert (grad_weight.double() - expected).abs().max().item() <= 1e-3 * largest
    assert (grad_bias.double() - sums).abs().max().item() <= 1e-3 * sums.abs().max().item()


# Kernels by number (csrc/cuda/sparse_conv_selection.h). Those of a row add the same products in the same order.
KINDS = {"tiles": [0, 1, 2, 3], "direct": [10], "warpgroups": [*range(100, 108)]}
SHAPES = [((16, 16), 1, 27), ((32, 64), 1, 27), ((64, 24), 1, 3), ((64, 264), 1, 9), ((96, 96), 1, 27)]
# Columns, rows and depths that fill no tile.
SHAPES += [pytest.param(s, marks=pytest.mark.sanitizer) for s in (((24, 40), 1, 8), ((96, 48), 2, 40))]
IS_HOPPER = torch.cuda.is_available() and torch.cuda.get_device_capability()[0] == 9


def kernels_for(kind, widths, groups, taps, dtype):
    """The kernels of a kind that take such sizes."""
    cin, cout = (width // groups for width in widths)
    if kind == "direct":
        row_bytes = cin * dtype.itemsize
        fits = taps <= 32 and row_bytes <= 128 and cout <= (32 if row_bytes > 64 else 64)
        return KINDS[kind] if fits else []
    if kind == "warpgroups" and (dtype == torch.float32 or not IS_HOPPER):
        return []
    return KINDS[kind]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, *HALF], ids=str)
def test_every_kernel_in_any_order(dtype, kind, shape):
    widths, groups, taps = shape
    kernels = kernels_for(kind, widths, groups, taps, dtype)
    if not kernels:
        pytest.skip(f"GPU: no kernel of this kind takes {shape} in {dtype} here")
    tensors = inputs_of(widths, taps, 1000, 1500, dtype, groups=groups, density=0.2)
    feats, weight, neighbors, bias = (tensors[name] for name in ("feats", "weight", "neighbors", "bias"))
    if dtype == torch.float32:
        feats, weight = truncate_to_tf32(feats), truncate_to_tf32(weight)
    residual = torch.randn(1500, widths[1], device=CUDA).to(dtype)
    exact = convolve(feats.cpu().double(), weight.cpu().double(), neighbors.cpu(), bias.cpu().double(), groups=groups)
    exact = torch.nn.functional.leaky_relu(exact + residual.cpu().double(), 0.25)
    ordered, order = torch.ops.pcperc.order_rows(neighbors)
    transposed = weight.transpose(1, 2).contiguous().transpose(1, 2)
    outs = []
    for kernel in kernels:
        for w, table, rows in ((weight, neighbors, None), (weight, ordered, order), (transposed, ordered, order)):
            arguments = (feats, w, table, bias, residual, groups, True, 0.25, rows, kernel)
            outs.append(torch.ops.pcperc.sparse_conv_tiled(*arguments))
    limits = tolerances(dtype, taps * widths[0] // groups + 2)
    torch.testing.assert_close(outs[0].double().cpu(), exact, **limits)
    for out in outs[1:]:
        assert torch.equal(out, outs[0])


@pytest.mark.sanitizer
@pytest.mark.skipif(not IS_HOPPER, reason="GPU: no Hopper")
@pytest.mark.parametrize("kernel", [100, 101, 102, 103, 104, 106, 107])
@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_blocks_that_share_a_tile(dtype, kernel):
    tensors = inputs_of((96, 200), 40, 700, 900, dtype, density=0.2)
    arguments = [tensors[name] for name in ("feats", "weight", "neighbors", "bias")]

    def run(splits):
        options = (None, 1, True, 1.0, None, kernel + 1000 * splits)
        return torch.ops.pcperc.sparse_conv_tiled(*arguments, *options)

    whole = run(1)
    for splits in (2, 4, 8):
        outs = [run(splits) for _ in range(3)]
        torch.testing.assert_close(outs[0], whole, **tolerances(dtype, 40 * 96))
        assert torch.equal(outs[0], outs[1]) and torch.equal(outs[0], outs[2])
