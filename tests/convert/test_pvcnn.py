# SPDX-License-Identifier: Apache-2.0
"""Weights of mit-han-lab/pvcnn on made-up files: nothing is left over, and every layer has the values it had there."""

import pytest
import torch

from pcperc.convert import convert_network
from pcperc.datasets.room_labels import S3DIS_BLOCK_CLASSES, S3DIS_CLASSES
from pcperc.engine.loading import build_model, open_checkpoint
from pcperc.engine.messages import run_tool
from pcperc.models import pvcnn
from tests.models.pvcnn_clouds import cloud_of
from tests.test_tools import tool

WIDTH = 0.25
S3DIS = ((64, 1, True), (64, 2, True), (128, 1, True), (1024, 1, False))
SHAPENET = ((64, 1, True), (128, 2, True), (512, 1, False), (2048, 1, False))
POINTNET = ((64, 3, False), (128, 1, False), (1024, 1, False))
KITTI = ((64, 2, True), (64, 1, True), (128, 1, True), (1024, 1, False))
DOWNS = (((32, 2), (32, 64)), ((64, 3), (64, 128)), ((128, 3), (128, 256)), (None, (256, 256, 512)))
UPS = (((256, 256), (256, 1)), ((256, 256), (256, 1)), ((256, 128), (128, 2)), ((128, 128, 64), (64, 1)))


class Published:
    """A state_dict in their names, its layers in the order in which ``forward`` uses them."""

    def __init__(self):
        self.state, self.order = {}, []

    def linear(self, key, inputs, outputs, *, kernel=(), bias=True):
        self.state[f"{key}.weight"] = torch.randn(outputs, inputs, *kernel)
        if bias:
            self.state[f"{key}.bias"] = torch.randn(outputs)
        self.order.append(key)

    def norm(self, key, channels):
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.state[f"{key}.{name}"] = torch.rand(channels)
        self.state[f"{key}.num_batches_tracked"] = torch.tensor(7)
        self.order.append(key)

    def shared_mlp(self, key, inputs, *channels, dims=1):
        for i, outputs in enumerate(channels):
            self.linear(f"{key}.layers.{3 * i}", inputs, outputs, kernel=(1,) * dims)
            self.norm(f"{key}.layers.{3 * i + 1}", outputs)
            inputs = outputs
        return inputs

    def pv_conv(self, key, inputs, outputs, with_se):
        self.shared_mlp(f"{key}.point_features", inputs, outputs)
        for i in (0, 3):
            self.linear(f"{key}.voxel_layers.{i}", inputs if i == 0 else outputs, outputs, kernel=(3, 3, 3))
            self.norm(f"{key}.voxel_layers.{i + 1}", outputs)
        if with_se:
            self.linear(f"{key}.voxel_layers.6.fc.0", outputs, outputs // 8, bias=False)
            self.linear(f"{key}.voxel_layers.6.fc.2", outputs // 8, outputs, bias=False)
        return outputs

    def points(self, key, inputs, blocks, with_se=False):
        widths, layer = [], 0
        for channels, count, has_voxels in blocks:
            for _ in range(count):
                outputs = int(WIDTH * channels)
                if has_voxels:
                    inputs = self.pv_conv(f"{key}.{layer}", inputs, outputs, with_se)
                else:
                    inputs = self.shared_mlp(f"{key}.{layer}", inputs, outputs)
                widths.append(inputs)
                layer += 1
        return widths

    def head(self, key, inputs, layers, outputs, *, of_clouds=False):
        for i, layer in enumerate(layers):
            if layer >= 1 and of_clouds:
                self.linear(f"{key}.{i}.0", inputs, int(WIDTH * layer))
                self.norm(f"{key}.{i}.1", int(WIDTH * layer))
            elif layer >= 1:
                self.shared_mlp(f"{key}.{i}", inputs, int(WIDTH * layer))
            inputs = int(WIDTH * layer) if layer >= 1 else inputs
        self.linear(f"{key}.{len(layers)}", inputs, outputs, kernel=() if of_clouds else (1,))


def s3dis(nested=False):
    """``nested`` is the PointNet, whose perceptron of the cloud is written otherwise."""
    made = Published()
    widths = made.points("point_features", 9, POINTNET if nested else S3DIS)
    for i, (inputs, outputs) in enumerate(((widths[-1], 64), (64, 32))):
        linear, norm = (f"{i}.0", f"{i}.1") if nested else (f"{3 * i}", f"{3 * i + 1}")
        made.linear(f"cloud_features.{linear}", inputs, outputs)
        made.norm(f"cloud_features.{norm}", outputs)
    inputs = 32 + (widths[-1] if nested else sum(widths))
    made.head("classifier", inputs, (512, 256, 0.3) if nested else (512, 0.3, 256, 0.3), 13)
    return made


def shapenet():
    made = Published()
    widths = made.points("point_features", 6, SHAPENET, with_se=True)
    made.head("classifier", 16 + sum(widths) + widths[-1], (256, 0.2, 256, 0.2, 128), 50)
    return made


def s3dis2():
    made, inputs, skips = Published(), 9, []
    for i, (blocks, channels) in enumerate(DOWNS):
        skips.append(inputs)
        for j in range(blocks[1] if blocks else 0):
            inputs = made.pv_conv(f"sa_layers.{i}.{j}", inputs, int(WIDTH * blocks[0]), True)
        key = f"sa_layers.{i}.{blocks[1]}" if blocks else f"sa_layers.{i}"
        inputs = made.shared_mlp(f"{key}.mlps.0", inputs + 3, *[int(WIDTH * c) for c in channels], dims=2)
    skips[0] = 6
    for i, (channels, blocks) in enumerate(UPS):
        inputs = made.shared_mlp(f"fp_layers.{i}.0.mlp", inputs + skips.pop(), *[int(WIDTH * c) for c in channels])
        for j in range(blocks[1]):
            inputs = made.pv_conv(f"fp_layers.{i}.{j + 1}", inputs, int(WIDTH * blocks[0]), True)
    made.head("classifier", inputs, (128, 0.5), 13)
    return made


def frustum():
    made = Published()
    widths = made.points("inst_seg_net.point_features", 4, KITTI)
    made.head("inst_seg_net.classifier", 3 + 2 * widths[-1], (512, 256, 128, 128, 0.5), 2)
    for net, channels, head, layers, outputs in (
        ("center_reg_net", (128, 128, 256), "regression", (256, 128), 3),
        ("box_est_net", (128, 128, 256, 512), "classifier", (512, 256), 59),
    ):
        inputs = 3
        for i, channel in enumerate(channels):
            inputs = made.shared_mlp(f"{net}.features.{i}", inputs, int(WIDTH * channel))
        made.head(f"{net}.{head}", inputs + 3, layers, outputs, of_clouds=True)
    made.state["size_templates"] = torch.tensor(pvcnn.KITTI_SIZE_TEMPLATES)[None]
    return made


CASES = {
    "s3dis": (s3dis, pvcnn.pvcnn_s3dis),
    "s3dis2": (s3dis2, pvcnn.pvcnn2_s3dis),
    "pointnet": (lambda: s3dis(nested=True), pvcnn.pointnet_s3dis),
    "shapenet": (shapenet, pvcnn.pvcnn_shapenet),
    "frustum": (frustum, pvcnn.frustum_pvcnn_kitti),
}
WITH_VALUES = (torch.nn.Linear, torch.nn.Conv3d, torch.nn.modules.batchnorm._BatchNorm)


def layers_as_run(model):
    """The layers with values, walked through the modules and not by names."""
    if isinstance(model, pvcnn.PVCNN2):
        levels = zip(model.down_layers, model.abstractions, strict=True)
        parts = [part for level in levels for part in level]
        parts += [part for level in zip(model.propagations, model.up_layers, strict=True) for part in level]
        parts.append(model.classifier)
    else:
        parts = list(model.children())
    found = []
    for part in parts:
        for module in part.modules():
            if hasattr(module, "voxel_layers"):
                found += [m for half in (module.point_layers, module.voxel_layers) for m in half.modules()]
            elif isinstance(module, WITH_VALUES):
                found.append(module)
    return list(dict.fromkeys(m for m in found if isinstance(m, WITH_VALUES)))


@pytest.mark.parametrize("name", CASES)
def test_no_key_is_left_over_and_every_layer_has_its_values(name):
    make, network = CASES[name]
    made, model = make(), network(width=WIDTH)
    wrapped = {f"module.{key}": value for key, value in made.state.items()}
    model.load_state_dict(convert_network(wrapped, source="pvcnn", model=model), strict=True)
    layers = layers_as_run(model)
    assert len(layers) == len(made.order) and sum(len(m.state_dict()) for m in layers) == len(model.state_dict())
    for layer, key in zip(layers, made.order, strict=True):
        for part, value in layer.state_dict().items():
            expected = made.state[f"{key}.{part}"].reshape(value.shape)
            if key in ("classifier.0.layers.0", "inst_seg_net.classifier.0.layers.0") and name in (
                "shapenet",
                "frustum",
            ):
                expected, value = expected.sort().values, value.sort().values  # the order is the next test's
            if key == made.order[-1] and len(expected) == 13:
                expected = torch.stack([expected[S3DIS_BLOCK_CLASSES.index(name)] for name in S3DIS_CLASSES])
            assert torch.equal(value, expected), f"{key}.{part}"


@pytest.mark.parametrize("name", ["shapenet", "frustum"])
def test_the_classifier_multiplies_each_feature_as_it_did_there(name):
    """Theirs reads category, points, cloud; the sum must be that of the same products here."""
    make, network = CASES[name]
    made, model = make(), network(width=WIDTH).eval().double()
    model.load_state_dict(convert_network(made.state, source="pvcnn", model=model))
    net, prefix = (model, "") if name == "shapenet" else (model.segmentation, "inst_seg_net.")
    points, seen = cloud_of(30, channels=net.in_channels), {}
    for i, layer in enumerate(net.point_layers):
        layer.register_forward_hook(lambda _, __, out, i=i: seen.update({i: out.feats}))
    net.classifier[0][1].register_forward_pre_hook(lambda _, given: seen.update(first=given[0]))
    with torch.no_grad():
        net(points, torch.tensor([2]))
    first = seen.pop("first")
    outputs = [seen[i] for i in sorted(seen)]
    one_hot = torch.zeros(30, net.num_categories).double()
    one_hot[:, 2] = 1
    of_points = outputs if name == "shapenet" else outputs[-1:]
    inputs = torch.cat([one_hot, *of_points, outputs[-1].amax(0, keepdim=True).expand(30, -1)], 1)
    weight, bias = (made.state[f"{prefix}classifier.0.layers.0.{part}"].double() for part in ("weight", "bias"))
    torch.testing.assert_close(first, inputs @ weight[..., 0].T + bias, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("classifier.5.bias"), r"missing: classifier\.5\.bias; left over: none"),
        (lambda s: s.update({"transformer.0.weight": torch.ones(1)}), r"left over: transformer\.0\.weight"),
        (lambda s: s.update({"point_features.0.voxel_layers.0.bias": torch.ones(9)}), r"must become \(16,\)"),
        (lambda s: s.update({"classifier.0.layers.0.weight": torch.ones(64, 5, 1)}), r"must become \(64, 1248\)"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    state = shapenet().state
    change(state)
    with pytest.raises(ValueError, match=message):
        convert_network(state, source="pvcnn", model=pvcnn.pvcnn_shapenet(width=WIDTH))


CONFIG = """
from pcperc.models import FrustumDetector, FrustumLoss, FrustumPreprocessor
from pcperc.models.pvcnn import KITTI_SIZE_TEMPLATES, frustum_pvcnn_kitti

model = dict(
    type=FrustumDetector,
    data_preprocessor=dict(type=FrustumPreprocessor),
    network=dict(type=frustum_pvcnn_kitti, width=0.25),
    loss=dict(type=FrustumLoss, templates=KITTI_SIZE_TEMPLATES),
)
"""


def test_the_tool_writes_what_the_other_tools_read(tmp_path, monkeypatch, capsys):
    made = frustum()
    torch.save({"model": {f"module.{k}": v for k, v in made.state.items()}, "epoch": 3}, tmp_path / "best.pth.tar")
    (tmp_path / "net.py").write_text(CONFIG)
    out = tmp_path / "net.safetensors"
    arguments = [tmp_path / "net.py", tmp_path / "best.pth.tar", "--from", "pvcnn", "--out", out]
    monkeypatch.setattr("sys.argv", ["convert_checkpoint.py", *map(str, arguments)])
    assert run_tool(tool("convert_checkpoint").main) == 0
    assert "best.pth.tar" in capsys.readouterr().out
    model = build_model(open_checkpoint(out, compared=("model",)), torch.device("cpu"))
    key = "box_est_net.classifier.2.bias"
    assert torch.equal(model.network.box_estimator.head[2].bias, made.state[key])
