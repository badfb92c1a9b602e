# SPDX-License-Identifier: Apache-2.0
"""torch.compile and torch.export of whole networks: no graph break, one graph for every number of voxels, same results.

The backends "eager" and "aot_eager" trace as inductor does and generate no code, which keeps these tests short.
"""

import copy
import io

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

import pcperc.nn as spnn
from pcperc import SparseTensor
from tests.models import test_lidar_encoder, test_minkunet
from tests.ops.clouds import coords_of, random_coords

LATTICE = (21, 18, 17)


class OnTensors(nn.Module):
    """A program over (coords, feats), as it is compiled and exported."""

    def __init__(self, network, call):
        super().__init__()
        self.network, self.call = network, call

    def forward(self, coords, feats):
        return self.call(self.network, coords, feats)


def minkunet():
    """All stages, with one residual block in each instead of two: tracing takes time for every layer."""
    inner_widths = [(channels,) for channels in test_minkunet.SMALL[1:]]
    network = test_minkunet.small_net(num_classes=3, inner_widths=inner_widths)
    return OnTensors(network, lambda net, coords, feats: net(SparseTensor(coords, feats, 2)).feats)


def second_encoder(**changes):
    def call(network, coords, feats):
        return network({"voxels": SparseTensor(coords, feats, 2, spatial_shape=LATTICE)})

    return OnTensors(test_lidar_encoder.small_encoder(**changes).eval(), call)


def inputs(count, *, channels):
    voxels = test_lidar_encoder.random_voxels(LATTICE, count, channels=channels)
    return voxels.coords, voxels.feats


def compiled(module, backend):
    """Compile, with no graph break allowed and no second compilation for another number of voxels."""
    torch._dynamo.reset()
    counter, calls = CompileCounterWithBackend(backend), []
    program = torch.compile(module, backend=counter, fullgraph=True, dynamic=True)

    def run(*arguments):
        result = program(*arguments)
        calls.append(counter.frame_count)
        assert calls[-1] == calls[0], "compiled again"
        return result

    return run


NETWORKS = {"minkunet": (minkunet, 4), "second_encoder": (second_encoder, 5)}


@pytest.mark.parametrize(("make", "channels"), NETWORKS.values(), ids=NETWORKS)
def test_compiles_once_for_every_number_of_voxels(make, channels):
    module = make()
    program = compiled(module, "eager")
    with torch.no_grad():
        for count in (60, 200, 333):
            arguments = inputs(count, channels=channels)
            torch.testing.assert_close(program(*arguments), module(*arguments))


@pytest.mark.parametrize(("make", "channels"), NETWORKS.values(), ids=NETWORKS)
def test_exported_program_is_saved_and_runs_on_other_sizes(make, channels):
    module, arguments = make(), inputs(100, channels=channels)
    voxels, file = torch.export.Dim("voxels"), io.BytesIO()
    with torch.no_grad():
        torch.export.save(torch.export.export(module, arguments, dynamic_shapes=({0: voxels}, {0: voxels})), file)
        file.seek(0)
        program = torch.export.load(file).module()
        for count in (2, 50, 300):
            arguments = inputs(count, channels=channels)
            torch.testing.assert_close(program(*arguments), module(*arguments))
        arguments[0][7, 0] = 2
        with pytest.raises(RuntimeError, match="SparseTensor: coords must be inside batch_size 2"):
            program(*arguments)


def down_and_up():
    """A block of each kind of layer, in training."""
    down = spnn.ConvBlock(spnn.SparseConv3d(4, 6, 2, 2, bias=False), spnn.BatchNorm(6), spnn.ReLU())
    network = nn.Sequential(spnn.SubMConv3d(4, 4, 3), down, spnn.SparseInverseConv3d(6, 3, 2))
    return OnTensors(network, lambda net, coords, feats: net(SparseTensor(coords, feats, 2)).feats)


@pytest.mark.parametrize("autocast", [False, True])
def test_compiled_training_gives_the_same_gradients_and_statistics(autocast):
    module = down_and_up()
    reference = copy.deepcopy(module)
    program = compiled(module, "aot_eager")
    limits = dict(rtol=0.05, atol=0.02) if autocast else dict(rtol=1e-4, atol=1e-4)  # rounded at other places
    for count in (150, 220):
        arguments, results = inputs(count, channels=4), []
        for run in (program, reference):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                results.append(run(*arguments))
        assert results[0].dtype == (torch.bfloat16 if autocast else torch.float32)
        upstream = torch.randn_like(results[0])
        for result in results:
            result.backward(upstream)
        torch.testing.assert_close(*results, **limits)
        for (name, got), wanted in zip(module.named_parameters(), reference.parameters(), strict=True):
            assert (got.grad - wanted.grad).abs().max() <= limits["rtol"] * wanted.grad.abs().max(), name
        torch.testing.assert_close(dict(module.named_buffers()), dict(reference.named_buffers()), **limits)
        module.zero_grad(), reference.zero_grad()


NORMS = {
    "plain": lambda: spnn.BatchNorm(6),
    "average": lambda: spnn.BatchNorm(6, momentum=None, affine=False),
    "no_statistics": lambda: spnn.BatchNorm(6, track_running_stats=False),
    "synchronised": lambda: spnn.SyncBatchNorm(6),
}


@pytest.mark.parametrize("make", NORMS.values(), ids=NORMS)
def test_batch_norm_of_few_rows_compiles_to_the_same(make):
    """Behind a strided layer the number of rows is known to the program alone, and may be 0 or 1."""
    module = OnTensors(
        nn.Sequential(spnn.SparseConv3d(4, 6, 1, 4), make()),
        lambda net, coords, feats: net(SparseTensor(coords, feats, 2)).feats,
    )
    reference = copy.deepcopy(module)
    program = compiled(module, "eager")
    one, none = coords_of((0, 4, 0, 0), (0, 1, 0, 0)), coords_of((0, 1, 0, 0), (0, 2, 0, 0))
    for coords in (random_coords(40), one, none, random_coords(90, seed=1)):
        feats = torch.randn(len(coords), 4)
        torch.testing.assert_close(program(coords, feats), reference(coords, feats), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(dict(module.named_buffers()), dict(reference.named_buffers()))


def test_batch_size_must_be_given():
    program = compiled(lambda coords, feats: SparseTensor(coords, feats).feats, "eager")
    with pytest.raises(Exception, match="batch_size must be given under torch.compile, got None"):
        program(*inputs(10, channels=4))


LAYERS = {
    "down": lambda: spnn.SparseConv3d(4, 4, 2, 2),
    "up": lambda: spnn.SparseConvTranspose3d(4, 4, 2, 2),
    "generative": lambda: spnn.SparseGenerativeConvTranspose3d(4, 4, 3, 2),
    "network": lambda: down_and_up().network.eval(),
}


@pytest.mark.parametrize("options", [{}, {"tensor_stride": 3, "spatial_shape": LATTICE}], ids=str)
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_a_layer_takes_a_sparse_tensor_made_outside(make, options):
    layer = make()
    program = compiled(layer, "eager")
    with torch.no_grad():
        for count in (40, 70):
            coords, feats = inputs(count, channels=4)
            traced, plain = (run(SparseTensor(coords, feats, 2, **options)) for run in (program, layer))
            assert torch.equal(traced.coords, plain.coords) and traced.tensor_stride == plain.tensor_stride
            assert traced.spatial_shape == plain.spatial_shape
            torch.testing.assert_close(traced.feats, plain.feats)


def test_layers_on_the_same_voxels_share_one_kernel_map():
    network, programs = nn.Sequential(*(spnn.SubMConv3d(4, 4, 3) for _ in range(3)), spnn.SparseConv3d(4, 4, 2, 2)), []

    def backend(graph, example_inputs):
        programs.append([str(node.target) for node in graph.graph.nodes])
        return graph

    torch._dynamo.reset()
    arguments = inputs(40, channels=4)
    torch.compile(lambda x: network(x).feats, backend=backend, fullgraph=True)(SparseTensor(*arguments, 2))
    (program,) = programs
    assert sum("build_kernel_map" in target for target in program) == 2  # where the layers stay, and the way down


def test_fused_network_compiles():
    network = spnn.fuse(test_minkunet.randomised(spnn.ResidualBlock(4, 6)))
    module = OnTensors(network, lambda net, coords, feats: net(SparseTensor(coords, feats, 2)).feats)
    program = compiled(module, "aot_eager")
    with torch.no_grad():
        for count in (40, 70):
            arguments = inputs(count, channels=4)
            torch.testing.assert_close(program(*arguments), module(*arguments))
