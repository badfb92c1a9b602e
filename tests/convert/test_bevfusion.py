# SPDX-License-Identifier: Apache-2.0
"""BEVFusion of both repositories at the published sizes: no key is left over, every layer has the values it had."""

import math

import pytest
import torch

from pcperc.convert import convert_bevfusion, find_origin
from pcperc.engine.config import load_config
from pcperc.registry import MODELS
from tests import bevfusion_names
from tests.test_tools import ROOT

LIDAR, FUSION, CAMERA = "configs/bevfusion/lidar_only.py", "configs/bevfusion.py", "configs/bevfusion/camera_only.py"
# Where some of their layers are here: (mit-han-lab's name, mmdetection3d's, ours).
PLACES = (
    ("fuser.0.weight", "fusion_layer.0.weight", "fuser.conv.conv.weight"),
    ("fuser.1.running_var", "fusion_layer.1.running_var", "fuser.conv.norm.running_var"),
    (
        "encoders.camera.neck.lateral_convs.1.bn.bias",
        "img_neck.lateral_convs.1.bn.bias",
        "encoders.camera.neck.lateral_convs.1.norm.bias",
    ),
    (
        "encoders.camera.vtransform.depthnet.3.bias",
        "view_transform.depthnet.3.bias",
        "encoders.camera.view_transform.depthnet.1.conv.bias",
    ),
    (
        "encoders.camera.vtransform.depthnet.6.weight",
        "view_transform.depthnet.6.weight",
        "encoders.camera.view_transform.depthnet.2.weight",
    ),
    (
        "encoders.camera.backbone.stages.2.blocks.5.ffn.layers.1.weight",
        "img_backbone.stages.2.blocks.5.ffn.layers.1.weight",
        "encoders.camera.backbone.stages.2.blocks.5.mlp.2.weight",
    ),
    (
        "encoders.lidar.backbone.encoder_layers.encoder_layer3.2.1.weight",
        "pts_middle_encoder.encoder_layers.encoder_layer3.2.1.weight",
        "encoders.lidar.encoder_layers.2.3.weight",
    ),
    (
        "encoders.lidar.backbone.encoder_layers.encoder_layer4.1.bn2.bias",
        "pts_middle_encoder.encoder_layers.encoder_layer4.1.bn2.bias",
        "encoders.lidar.encoder_layers.3.1.bn2.bias",
    ),
    (
        "decoder.backbone.blocks.1.15.weight",
        "pts_backbone.blocks.1.15.weight",
        "decoder.backbone.blocks.1.5.conv.weight",
    ),
    ("decoder.backbone.blocks.0.4.bias", "pts_backbone.blocks.0.4.bias", "decoder.backbone.blocks.0.1.norm.bias"),
    (
        "heads.object.decoder.0.multihead_attn.in_proj_weight",
        "bbox_head.decoder.0.cross_attn.attn.in_proj_weight",
        "heads.object.decoder.0.multihead_attn.in_proj_weight",
    ),
    (
        "heads.object.decoder.0.linear2.bias",
        "bbox_head.decoder.0.ffn.layers.1.bias",
        "heads.object.decoder.0.linear2.bias",
    ),
    (
        "heads.object.decoder.0.norm3.weight",
        "bbox_head.decoder.0.norms.2.weight",
        "heads.object.decoder.0.norm3.weight",
    ),
    (
        "heads.object.decoder.0.cross_posembed.position_embedding_head.3.weight",
        "bbox_head.decoder.0.cross_posembed.position_embedding_head.3.weight",
        "heads.object.decoder.0.cross_posembed.layers.3.weight",
    ),
    (
        "heads.object.prediction_heads.0.vel.0.bn.weight",
        "bbox_head.prediction_heads.0.vel.0.bn.weight",
        "heads.object.prediction_heads.0.vel.1.weight",
    ),
)


@pytest.fixture(scope="module")
def models():
    made = {}

    def get(config):
        if config not in made:
            made[config] = MODELS.build(load_config(ROOT / config)["model"])
        return made[config]

    return get


def check_values(theirs, converted, *, turned=()):
    """Each of their tensors is in the result once, the same numbers; sparse layers tap by tap."""
    left = {fingerprint(value): value for value in converted.values()}
    assert len(left) == len(converted)
    derived = ("dx", "bx", "nx", "frustum", "relative_position_index")
    for name, value in theirs.items():
        if name.rpartition(".")[2] in derived:
            continue
        ours = left.pop(fingerprint(value), None)
        assert ours is not None, name
        if value.ndim == 5:
            taps = value if theirs.layout == "spconv1" else value.permute(1, 2, 3, 4, 0)
            assert torch.equal(ours, taps), name
        elif ".downsample." not in name and not any(part in name for part in turned):
            assert torch.equal(ours, value), name
    assert not left


def fingerprint(value) -> tuple:
    """What a tensor keeps when its numbers change place or sign."""
    size = value.abs()
    return value.numel(), size.max().item(), size.min().item()


def test_camera_and_lidar_of_mit_han_lab(models):
    theirs = bevfusion_names.mit_weights()
    model = models(FUSION)
    converted = convert_bevfusion(theirs, source="bevfusion", model=model)
    model.load_state_dict(converted)
    check_values(theirs, converted, turned=(".dim.1.", ".rot.1."))
    for name, _, ours in PLACES:
        assert torch.equal(converted[ours], theirs[name]), ours


def test_camera_and_lidar_of_mmdetection3d(models):
    theirs = bevfusion_names.mmdet3d_weights()
    model = models(FUSION)
    wrapped = {f"module.{name}": value for name, value in theirs.items()}
    converted = convert_bevfusion(wrapped, source="mmdet3d", model=model)
    model.load_state_dict(converted)
    for _, name, ours in PLACES:
        assert torch.equal(converted[ours], theirs[name]), ours
    for number in range(3):
        for leaf in ("weight", "bias"):
            ours, name = f"decoder.0.norm{number + 1}.{leaf}", f"decoder.0.norms.{number}.{leaf}"
            assert torch.equal(converted[f"heads.object.{ours}"], theirs[f"bbox_head.{name}"])
    for branch in ("dim", "rot"):  # boxes of 1.0 and later are as ours
        name = f"prediction_heads.0.{branch}"
        assert torch.equal(converted[f"heads.object.{name}.3.weight"], theirs[f"bbox_head.{name}.1.weight"])


@pytest.mark.parametrize("layout", ["spconv1", "spconv2"])
def test_lidar_only_in_both_layouts(models, layout):
    theirs = bevfusion_names.mmdet3d_weights(camera=False, layout=layout)
    converted = convert_bevfusion(theirs, source="mmdet3d", model=models(LIDAR))
    check_values(theirs, converted)


def test_camera_only(models):
    theirs = bevfusion_names.camera_only_weights()
    model = models(CAMERA)
    converted = convert_bevfusion(theirs, source="bevfusion", model=model)
    model.load_state_dict(converted)
    check_values(theirs, converted, turned=(".dim.1.", ".rot.1."))
    for task in range(6):
        for leaf in ("weight", "bias"):
            dim, rot = (f"heads.object.task_heads.{task}.{branch}.1.{leaf}" for branch in ("dim", "rot"))
            assert torch.equal(converted[dim], theirs[dim][[1, 0, 2]])
            assert torch.equal(converted[rot], -theirs[rot][[1, 0]])
    assert torch.equal(converted["decoder.neck.fuse.1.norm.bias"], theirs["decoder.neck.fuse.4.bias"])
    assert torch.equal(converted["decoder.neck.upsample.1.conv.weight"], theirs["decoder.neck.upsample.1.weight"])


def test_map_segmentation(models):
    """LiDAR-only: the map head has the names and shapes that it has there."""
    theirs = bevfusion_names.mit_weights(camera=False)
    theirs = bevfusion_names.with_map_head(theirs)
    model = models("configs/bevfusion/lidar_map.py")
    converted = convert_bevfusion(theirs, source="bevfusion", model=model)
    model.load_state_dict(converted)
    check_values(theirs, converted)


def test_the_maps_first_axis_is_x_in_both(models):
    """A kernel that looks along +x in theirs looks along +x in ours: the last axes are not exchanged."""
    theirs = bevfusion_names.mit_weights(camera=False)
    theirs["heads.object.shared_conv.weight"].zero_()
    theirs["heads.object.shared_conv.weight"][:, :, 2, 1] = 1
    converted = convert_bevfusion(theirs, source="bevfusion", model=models(LIDAR))
    assert converted["heads.object.shared_conv.weight"][:, :, 2, 1].eq(1).all()
    assert converted["heads.object.shared_conv.weight"].sum() == 128 * 512


def test_boxes_of_mit_han_lab_become_ours(models):
    """Their last layers say (log w, log l, log h) and sine and cosine of a yaw that is -yaw - pi / 2."""
    theirs = bevfusion_names.mit_weights(camera=False)
    model = models(LIDAR)
    yaw, size = 0.7, (4.5, 1.9, 1.6)
    their_yaw = -yaw - math.pi / 2
    says = {"dim": [math.log(size[1]), math.log(size[0]), math.log(size[2])]}
    says["rot"] = [math.sin(their_yaw), math.cos(their_yaw)]
    for branch, values in says.items():
        theirs[f"heads.object.prediction_heads.0.{branch}.1.weight"].zero_()
        theirs[f"heads.object.prediction_heads.0.{branch}.1.bias"] = torch.tensor(values)
    model.load_state_dict(convert_bevfusion(theirs, source="bevfusion", model=model))
    head = model.heads["object"].eval()
    with torch.inference_mode():
        codes, _ = head.prediction_heads[0](torch.randn(1, 128, 3), torch.zeros(1, 2, 3))
    boxes = head.box_coder.decode(codes)[0]
    torch.testing.assert_close(boxes[:, 3:7], torch.tensor([[*size, yaw]]).expand(3, 4))


def test_the_other_repository_is_named(models):
    theirs = bevfusion_names.mit_weights(camera=False)
    assert find_origin(theirs) == "bevfusion" and find_origin(bevfusion_names.mmdet3d_weights()) == "mmdet3d"
    del theirs["decoder.neck.deblocks.0.0.weight"]
    with pytest.raises(ValueError, match="missing: decoder.neck.deblocks.0.conv.weight; left over: none"):
        convert_bevfusion(theirs, source="bevfusion", model=models(LIDAR))
    with pytest.raises(ValueError, match="source must be one of bevfusion, mmdet3d, got 'x'"):
        convert_bevfusion(theirs, source="x", model=models(LIDAR))
