# SPDX-License-Identifier: Apache-2.0
"""The camera view transform as a module: published sizes, learning, half precision, the kept plan, wrong arguments."""

import numpy as np
import pytest
import torch
from torch import nn

from pcperc.models.bevfusion.camera_encoder import CameraEncoder
from pcperc.models.bevfusion.depth_view_transform import DepthLSSTransform
from pcperc.models.bevfusion.lss_fpn import GeneralizedLSSFPN
from pcperc.models.bevfusion.swin import SwinTransformer
from pcperc.models.bevfusion.view_transform import LSSTransform
from tests.models.camera_rig import MATRICES, TINY, as_inputs, make_points, make_rig


def test_published_size():
    model = DepthLSSTransform()
    assert sum(p.numel() for p in model.parameters()) == 1_610_726
    assert model.num_depths == 118 and model.grid_shape == (360, 360, 1) and model.out_channels == 80
    convs = [conv for conv in model.modules() if isinstance(conv, nn.Conv2d)]
    steps = [(conv.stride[0], conv.padding[0]) for conv in convs]
    assert steps == [(1, 0), (4, 2), (2, 2), (1, 1), (1, 1), (1, 0), (1, 1), (2, 1), (1, 1)]
    assert [tuple(conv.weight.shape) for conv in convs] == [
        (8, 1, 1, 1),
        (32, 8, 5, 5),
        (64, 32, 5, 5),
        (256, 320, 3, 3),
        (256, 256, 3, 3),
        (198, 256, 1, 1),
        *[(80, 80, 3, 3)] * 3,
    ]


def test_published_size_without_lidar():
    """256 x 198 weights and biases of depth and context, three 3 x 3 convolutions of 80 channels with their norms."""
    model = LSSTransform(x_bound=(-51.2, 51.2, 0.4), y_bound=(-51.2, 51.2, 0.4))
    count = sum(p.numel() for p in model.parameters())
    assert count == 256 * 198 + 198 + 3 * (80 * 80 * 9 + 160) == 224_166
    assert model.num_depths == 118 and model.grid_shape == (256, 256, 1)


def make_case(seed=6, *, batch=2, **changes):
    rng = np.random.default_rng(seed)
    model = DepthLSSTransform(**{**TINY, **changes})
    inputs = as_inputs(make_rig(rng, batch=batch), points=[make_points(rng) for _ in range(batch)])
    return model, torch.randn(batch, 3, 6, 4, 6), inputs


def test_order_of_cameras_and_points_does_not_matter():
    model, feats, inputs = make_case()
    model.eval()
    order = torch.tensor([2, 0, 1])
    other = {key: inputs[key][:, order] for key in ("images", *MATRICES[:3])}
    other |= {"lidar_aug": inputs["lidar_aug"], "points": [cloud.flip(0) for cloud in inputs["points"]]}
    torch.testing.assert_close(model(feats[:, order], other), model(feats, inputs))


def test_samples_do_not_mix():
    model, feats, inputs = make_case()
    model.eval()
    alone = {key: value[1:] for key, value in inputs.items()}
    torch.testing.assert_close(model(feats[1:], alone), model(feats, inputs)[1:])


def test_gradients_reach_everything():
    model, feats, inputs = make_case()
    feats.requires_grad_()
    out = model.train()(feats, inputs)
    assert out.shape == (2, 4, 12, 8)
    out.pow(3).sum().backward()
    for name, tensor in (("features", feats), *model.named_parameters()):
        assert tensor.grad is not None and tensor.grad.isfinite().all() and tensor.grad.abs().sum() > 0, name


@pytest.mark.parametrize("how", ["autocast", "cast"])
def test_half_precision_leaves_the_geometry_alone(how):
    model, feats, inputs = make_case(7, batch=1, downsample=1)
    model.eval()
    with torch.no_grad():
        expected = model(feats, inputs)
        if how == "autocast":
            with torch.autocast("cpu", dtype=torch.bfloat16):
                got = model(feats, inputs)
        else:
            got = model.bfloat16()(feats.bfloat16(), inputs)
            assert got.dtype == torch.bfloat16
            lifted = model.lift(feats.bfloat16(), *model.drawn(inputs))
            assert {part.dtype for part in lifted} == {torch.float32}
    # bfloat16 keeps 8 bits: a point moved to another cell would be off by its whole value.
    torch.testing.assert_close(got.float(), expected, rtol=0.05, atol=0.05 * expected.abs().max().item())


def test_plan_is_kept_only_in_eval_and_only_while_nothing_changes():
    model, feats, inputs = make_case(cache_plan=True)
    matrices = {key: inputs[key] for key in MATRICES}
    sizes = (4, 6), (32, 48)
    model.eval()
    with torch.inference_mode():
        plan = model.pooling_plan(*sizes, matrices)
        first = model(feats, inputs)
    assert model.pooling_plan(*sizes, {key: value.clone() for key, value in matrices.items()}) is plan
    feats.requires_grad_()
    again = model(feats, inputs)  # a plan made in inference mode serves a pass that records gradients
    torch.testing.assert_close(again, first)
    again.sum().backward()
    moved = {**matrices, "lidar_aug": matrices["lidar_aug"] + 0.01}
    assert model.pooling_plan(*sizes, moved) is not plan
    for key in MATRICES:
        other = model.pooling_plan(*sizes, moved)
        assert model.pooling_plan(*sizes, {**moved, key: moved[key] + 0.01}) is not other, key
    for other_sizes in (((2, 3), sizes[1]), (sizes[0], (32, 50))):
        other = model.pooling_plan(*sizes, moved)
        assert model.pooling_plan(*other_sizes, moved) is not other
    model.train()
    assert model.pooling_plan(*sizes, moved) is not model.pooling_plan(*sizes, moved)
    assert not any("plan" in key for key in model.state_dict())


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(x_bound=(-12, 12, 0.7)), r"x_bound must be \(first, end, step\) of whole steps, got \(-12, 12, 0.7\)"),
        (dict(depth_bound=(1, 60, 0)), r"depth_bound must be .*got \(1, 60, 0\)"),
        (dict(downsample=3), "downsample must be 1 or 2, got 3"),
        (dict(feature_stride=32), "feature_stride must be 4, 8 or 16, got 32"),
    ],
)
def test_constructor_names_what_is_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        DepthLSSTransform(**{**TINY, **change})


def test_features_must_fit_the_images():
    model, feats, inputs = make_case()
    with pytest.raises(ValueError, match=r"must be \(2, 3, 6, 4, 6\) for images of \(32, 48\).*got \(2, 3, 6, 5, 6\)"):
        model(torch.zeros(2, 3, 6, 5, 6), inputs)


def test_camera_encoder_end_to_end():
    encoder = CameraEncoder(
        backbone=SwinTransformer(
            embed_channels=4, depths=(1, 2, 1), num_heads=(1, 1, 2), window_size=3, out_stages=(1, 2)
        ),
        neck=GeneralizedLSSFPN(in_channels=(8, 16), out_channels=6),
        view_transform=DepthLSSTransform(**TINY),
    )
    _, _, inputs = make_case()
    inputs["images"] = torch.randn(2, 3, 3, 32, 48, requires_grad=True)
    out = encoder(inputs)
    assert out.shape == (2, encoder.out_channels, 12, 8)
    out.pow(3).sum().backward()
    assert inputs["images"].grad.abs().amax(dim=(2, 3, 4)).gt(0).all()
    with pytest.raises(ValueError, match=r"normalised floats, got \(2, 3, 3, 32, 48\) torch.uint8"):
        encoder({**inputs, "images": torch.zeros(2, 3, 3, 32, 48, dtype=torch.uint8)})
