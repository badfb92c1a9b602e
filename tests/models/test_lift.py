# SPDX-License-Identifier: Apache-2.0
"""Where image features land in the map, against loops in float64, under random augmentations."""

import numpy as np
import pytest
import torch

from pcperc.models.bevfusion.depth_view_transform import DepthLSSTransform, render_depth
from pcperc.models.bevfusion.view_transform import LSSTransform, frustum_points
from tests.models.camera_rig import MATRICES, TINY, as_inputs, lift_pixel, make_points, make_rig, see


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


def test_the_depth_net_reads_depth_features_then_image_features():
    """In this order published weights have the channels of its first convolution."""
    model = DepthLSSTransform(**TINY).eval()
    weight = model.depthnet[0].conv.weight
    assert weight.shape[1] == 64 + 6
    feats, depths = torch.randn(1, 2, 6, 4, 6), torch.rand(1, 2, 1, 32, 48) * 30
    parts = torch.cat([model.dtransform(depths[0]), feats[0]], 1)
    for unread, names in ((slice(0, 64), "feats"), (slice(64, 70), "depths")):
        with torch.no_grad():
            kept = weight.clone()
            weight[:, unread] = 0
        found = [model.lift(feats, depths), model.lift(-feats, depths), model.lift(feats, depths / 2)]
        same = [torch.equal(found[0][0], other[0]) for other in found[1:]]
        assert same == ([False, True] if names == "feats" else [True, False])
        with torch.no_grad():
            weight.copy_(kept)
    context, _ = model._split(model.depthnet(parts))
    torch.testing.assert_close(model.lift(feats, depths)[0], context)


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
