# SPDX-License-Identifier: Apache-2.0
"""The depth view transform against loops in float64, under random augmentations of images and points."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from pcperc.models.bevfusion.camera_encoder import CameraEncoder
from pcperc.models.bevfusion.depth_view_transform import DepthLSSTransform, render_depth
from pcperc.models.bevfusion.lss_fpn import GeneralizedLSSFPN
from pcperc.models.bevfusion.swin import SwinTransformer
from pcperc.models.bevfusion.view_transform import LSSTransform, frustum_points

MATRICES = ("lidar2camera", "camera2image", "image_aug", "lidar_aug")
TINY = dict(
    in_channels=6,
    out_channels=4,
    x_bound=(-12.0, 12.0, 1.0),
    y_bound=(-8.0, 8.0, 1.0),
    z_bound=(-10.0, 10.0, 20.0),
    depth_bound=(1.0, 9.0, 1.0),
)


def rotation(axis: int, angle: float) -> np.ndarray:
    i, j = [k for k in range(3) if k != axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = math.cos(angle)
    matrix[i, j], matrix[j, i] = -math.sin(angle), math.sin(angle)
    return matrix


def make_rig(rng, *, batch=2, views=3, image_size=(32, 48)) -> dict[str, np.ndarray]:
    """Cameras all round a car, recorded at twice ``image_size``, and strong augmentations; float64."""
    height, width = image_size
    rig = {key: [] for key in MATRICES}
    for _ in range(batch):
        for v in range(views):
            # Camera axes (x right, y down, z forward) from those of the LiDAR (x right, y forward, z up).
            matrix = np.eye(4)
            turn = rotation(2, 2 * math.pi * v / views + rng.uniform(-0.2, 0.2)) @ rotation(0, rng.uniform(-0.1, 0.1))
            matrix[:3, :3] = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]) @ turn
            matrix[:3, 3] = rng.uniform(-0.5, 0.5, 3)
            rig["lidar2camera"].append(matrix)
            focal = rng.uniform(0.8, 1.2) * 2 * width
            rig["camera2image"].append([[focal, 0, width + 3.3], [0, focal * 1.01, height - 2.7], [0, 0, 1]])
            flip = np.diag([-1.0, 1, 1]) if rng.random() < 0.5 else np.eye(3)
            flip[0, 2] = width - 1 if flip[0, 0] < 0 else 0
            resize = np.diag([0.5, 0.5, 1]) * [[rng.uniform(0.9, 1.2)], [rng.uniform(0.9, 1.2)], [1]]
            resize[:2, 2] = rng.uniform(-5, 5, 2)
            rig["image_aug"].append(flip @ rotation(2, rng.uniform(-0.1, 0.1)) @ resize)
        matrix = np.eye(4)
        mirror = np.diag([rng.choice([-1.0, 1.0]), rng.choice([-1.0, 1.0]), 1])
        matrix[:3, :3] = rng.uniform(0.9, 1.1) * mirror @ rotation(2, rng.uniform(-0.8, 0.8))
        matrix[:3, 3] = rng.normal(0, 0.5, 3)
        rig["lidar_aug"].append(matrix)
    arrays = {key: np.array(value) for key, value in rig.items()}
    return {
        key: value if key == "lidar_aug" else value.reshape(batch, views, *value.shape[1:])
        for key, value in arrays.items()
    }


def as_inputs(rig, *, points=None, image_size=(32, 48), device="cpu") -> dict:
    batch, views = rig["lidar2camera"].shape[:2]
    inputs = {key: torch.tensor(rig[key], dtype=torch.float32, device=device) for key in MATRICES}
    inputs["images"] = torch.zeros(batch, views, 3, *image_size, device=device)
    if points is None:
        points = [torch.zeros(0, 5) for _ in range(batch)]
    inputs["points"] = [cloud.to(device) for cloud in points]
    return inputs


def see(rig, b, v, point):
    """Pixel (u, v) and depth of one augmented point, from the definitions of the matrices."""
    recorded = np.linalg.solve(rig["lidar_aug"][b], np.append(point, 1))
    camera = (rig["lidar2camera"][b, v] @ recorded)[:3]
    image = rig["camera2image"][b, v] @ camera
    return (rig["image_aug"][b, v] @ (image / image[2]))[:2], camera[2]


def lift_pixel(rig, b, v, pixel, depth):
    """The augmented point that is seen at ``pixel`` at ``depth``."""
    recorded_pixel = np.linalg.solve(rig["image_aug"][b, v], [*pixel, 1])
    ray = np.linalg.solve(rig["camera2image"][b, v], recorded_pixel)
    recorded = np.linalg.solve(rig["lidar2camera"][b, v], np.append(ray / ray[2] * depth, 1))
    return (rig["lidar_aug"][b] @ recorded)[:3]


def make_points(rng, count=400):
    points = np.zeros((count, 5), np.float32)
    points[:, :3] = rng.uniform((-12, -8, -2), (12, 8, 2), (count, 3))
    return torch.from_numpy(points)


# ---------------------------------------------------------------------------------------------------- depth images


def test_depth_image_equals_loop(device):
    rng = np.random.default_rng(1)
    rig = {key: value.astype(np.float32).astype(np.float64) for key, value in make_rig(rng).items()}
    clouds = [make_points(rng), make_points(rng, 150)]
    expected = np.zeros((2, 3, 1, 32, 48))
    for b, cloud in enumerate(clouds):
        for v in range(3):
            for point in cloud[:, :3].double().numpy():
                (u, w), depth = see(rig, b, v, point)
                column, row = round(u), round(w)
                if depth > 1e-3 and 0 <= column < 48 and 0 <= row < 32:
                    drawn = expected[b, v, 0, row, column]
                    expected[b, v, 0, row, column] = depth if drawn == 0 else min(drawn, depth)
    assert (expected > 0).sum() > 50
    inputs = as_inputs(rig, points=clouds, device=device)
    got = render_depth(inputs["points"], **{key: inputs[key] for key in MATRICES}, image_size=(32, 48))
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.cpu().numpy(), expected, rtol=1e-6)


def straight_camera() -> dict[str, torch.Tensor]:
    """One camera whose axes are those of the LiDAR, focal length 10 pixels, centre at pixel (2, 1)."""
    return dict(
        lidar2camera=torch.eye(4)[None, None],
        camera2image=torch.tensor([[[[10.0, 0, 2], [0, 10, 1], [0, 0, 1]]]]),
        image_aug=torch.eye(3)[None, None],
        lidar_aug=torch.eye(4)[None],
    )


def test_nearest_point_stays_in_any_order():
    points = torch.tensor([[0.0, 0, 5], [0, 0, 2], [0, 0, 9], [0, 0, -1], [0.2, 0, 2], [9, 9, 1], [0, 0.2, 4.0]])
    expected = torch.zeros(3, 4)
    expected[1, 2], expected[1, 3] = 2, 2  # 10 * 0.2 / 2 = 1 pixel to the right
    expected[2, 2] = 4  # 10 * 0.2 / 4 = 0.5 pixel down: pixel 2 covers [1.5, 2.5)
    for order in (range(7), reversed(range(7))):
        got = render_depth([points[list(order)]], **straight_camera(), image_size=(3, 4))
        assert torch.equal(got[0, 0, 0], expected)


def test_no_points_and_points_that_are_not_numbers():
    empty = render_depth([torch.zeros(0, 5)], **straight_camera(), image_size=(3, 4))
    assert empty.shape == (1, 1, 1, 3, 4) and empty.eq(0).all()
    bad = torch.tensor([[math.nan, 0, 1], [0, 0, math.nan], [0, math.inf, 1], [0, 0, 0], [0, 0, 3.0]])
    got = render_depth([bad], **straight_camera(), image_size=(3, 4))
    assert got.sum() == 3 and got[0, 0, 0, 1, 2] == 3


def test_what_no_camera_sees_leaves_no_trace(device):
    """More such points than pixels, each with a cell of its own past the images: none waits for another's."""
    points = torch.tensor([[0.0, 0, -1]] * 50 + [[0.1, 0.1, 1]] + [[9, 9, 1]] * 50)
    rig = {key: value.to(device) for key, value in straight_camera().items()}
    with Targets() as mode:
        got = render_depth([points.to(device)], **rig, image_size=(3, 4))
    assert got[0, 0, 0, 2, 3] == 1 and got.count_nonzero() == 1
    assert mode.found.unique().numel() == len(points) and (mode.found < 12).sum() == 1


class Targets(TorchFunctionMode):
    """Keeps where ``scatter_reduce_`` writes."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.scatter_reduce_:
            self.found = args[2]
        return function(*args, **(kwargs or {}))


def test_number_of_clouds_is_checked():
    with pytest.raises(ValueError, match="points must be a list of 1 tensors, got 2"):
        render_depth([torch.zeros(0, 5)] * 2, **straight_camera(), image_size=(3, 4))


# -------------------------------------------------------------------------------------------------------- geometry


def test_frustum_is_seen_where_it_was_lifted_from():
    """At full size: float32 matrices and points, within 0.01 pixel of the float64 projection."""
    rng = np.random.default_rng(2)
    rig = make_rig(rng, batch=1, views=2, image_size=(256, 704))
    inputs = as_inputs(rig)
    points = frustum_points(
        torch.tensor([1.0, 59.5]),
        feature_size=(5, 7),
        image_size=(256, 704),
        **{key: inputs[key] for key in MATRICES},
    )
    assert points.shape == (1, 2, 2, 5, 7, 3)
    for v, d, row, column in np.ndindex(2, 2, 5, 7):
        pixel, depth = see(rig, 0, v, points[0, v, d, row, column].double().numpy())
        assert depth == pytest.approx([1.0, 59.5][d], abs=1e-4)
        assert pixel == pytest.approx([column * 703 / 6, row * 255 / 4], abs=0.01)


class OneHot(DepthLSSTransform):
    """Every cell of every image is empty but one, which holds ``channel`` at one depth."""

    def place(self, index, channel):
        self.index, self.channel = index, channel
        return self

    def lift(self, image_feats, depth_images):
        b, v, _, h, w = image_feats.shape
        context = torch.zeros(b, v, h, w, self.context_channels, device=image_feats.device)
        weight = torch.zeros(b, v, self.num_depths, h, w, device=image_feats.device)
        where_b, where_v, where_d, row, column = self.index
        context[where_b, where_v, row, column, self.channel] = 3.0
        weight[where_b, where_v, where_d, row, column] = 0.5
        return context.flatten(0, 3), weight.flatten()


def test_one_cell_at_a_known_depth_lands_in_its_bev_cell(device):
    rng = np.random.default_rng(3)
    model = OneHot(**TINY, downsample=1)
    landed = 0
    for _ in range(40):
        rig = make_rig(rng)
        index = tuple(int(rng.integers(n)) for n in (2, 3, 8, 4, 6))
        b, v, d, row, column = index
        point = lift_pixel(rig, b, v, (column * 47 / 5, row * 31 / 3), 1.0 + d)
        steps = (point - [-12, -8, -10]) / [1, 1, 20]
        if np.abs(steps - np.round(steps)).min() < 1e-4:
            continue  # on an edge, where rounding may decide
        x, y, z = np.floor(steps).astype(int)
        expected = torch.zeros(2, 4, 24, 16)
        if 0 <= x < 24 and 0 <= y < 16 and z == 0:
            expected[b, 2, x, y] = 1.5
            landed += 1
        got = model.place(index, channel=2)(torch.zeros(2, 3, 6, 4, 6, device=device), as_inputs(rig, device=device))
        assert torch.equal(got.cpu(), expected), (index, point)
    assert landed > 20


def test_a_lidar_point_and_its_pixel_share_a_cell():
    """Drawn into the image and lifted from there again, a point of the augmented cloud comes back to itself."""
    rng = np.random.default_rng(4)
    rig = make_rig(rng, batch=1)
    inputs = as_inputs(rig, points=[make_points(rng)])
    matrices = {key: inputs[key] for key in MATRICES}
    images = render_depth(inputs["points"], **matrices, image_size=(32, 48))
    found = 0
    for v, row, column in images[0, :, 0].nonzero().tolist():
        depth = images[0, v, 0, row, column]
        lifted = frustum_points(depth[None], feature_size=(32, 48), image_size=(32, 48), **matrices)
        distance = (inputs["points"][0][:, :3] - lifted[0, v, 0, row, column]).norm(dim=1).min()
        # Half a pixel's diagonal at focal lengths above 0.3 image widths, and scale up to 1.1.
        assert distance < 1.1 * 0.75 * depth / (0.3 * 48)
        found += 1
    assert found > 50


@pytest.mark.parametrize("with_lidar", [True, False])
def test_pooled_map_equals_loop(with_lidar, device):
    rng = np.random.default_rng(5)
    transform = DepthLSSTransform if with_lidar else LSSTransform
    model = transform(**{**TINY, "z_bound": (-2.0, 2.0, 2.0)}, downsample=1).to(device).eval()
    assert model.grid_shape == (24, 16, 2) and model.out_channels == 8
    rig = make_rig(rng)
    inputs = as_inputs(rig, points=[make_points(rng), make_points(rng, 0)], device=device)
    if not with_lidar:
        del inputs["points"]
    feats = torch.randn(2, 3, 6, 4, 6, device=device)
    matrices = {key: inputs[key] for key in MATRICES}
    with torch.no_grad():
        got = model(feats, inputs)
        if with_lidar:
            images = render_depth(inputs["points"], **matrices, image_size=(32, 48))
            context, weight = (part.cpu().double().numpy() for part in model.lift(feats, images))
        else:
            kernel = model.depthnet.weight[:, :, 0, 0]
            logits = torch.einsum("oc,bvchw->bvhwo", kernel, feats) + model.depthnet.bias
            weight = logits[..., :8].softmax(-1).movedim(-1, 2).cpu().double().numpy()
            context = logits[..., 8:].cpu().double().numpy()
    context, weight = context.reshape(2, 3, 4, 6, 4), weight.reshape(2, 3, 8, 4, 6)
    np.testing.assert_allclose(weight.sum(2), 1, rtol=1e-5)
    expected = np.zeros((2, 2, 4, 24, 16))
    for b, v, d, row, column in np.ndindex(2, 3, 8, 4, 6):
        point = lift_pixel(rig, b, v, (column * 47 / 5, row * 31 / 3), 1.0 + d)
        x, y, z = np.floor((point - [-12, -8, -2]) / [1, 1, 2]).astype(int)
        if 0 <= x < 24 and 0 <= y < 16 and 0 <= z < 2:
            expected[b, z, :, x, y] += weight[b, v, d, row, column] * context[b, v, row, column]
    np.testing.assert_allclose(got.cpu().numpy(), expected.reshape(2, 8, 24, 16), rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------------------------------------------- module


def test_published_size():
    model = DepthLSSTransform()
    assert sum(p.numel() for p in model.parameters()) == 1_610_726
    assert model.num_depths == 118 and model.grid_shape == (360, 360, 1) and model.out_channels == 80
    shapes = [tuple(conv.weight.shape) for conv in model.modules() if isinstance(conv, nn.Conv2d)]
    assert shapes == [
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
    other = model.pooling_plan(*sizes, moved)
    assert model.pooling_plan((2, 3), sizes[1], moved) is not other
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
