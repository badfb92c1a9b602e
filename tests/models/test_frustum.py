# SPDX-License-Identifier: Apache-2.0
"""F-PVCNN: its loss against plain loops, boxes there and back, augmentation, and what a detector says of frustums."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.optim import OptimWrapper

from pcperc.datasets import collate
from pcperc.geometry import box_corners, rotation_z
from pcperc.models import FrustumDetector, FrustumLoss, FrustumPreprocessor
from pcperc.models.frustum_detector import from_network, to_network, turned_heading
from pcperc.models.losses.frustum import FrustumTargets, frustum_corners, heading_bins
from pcperc.models.pvcnn import KITTI_SIZE_TEMPLATES, FrustumBoxes, frustum_pvcnn_kitti
from tests import oracles_frustum

TEMPLATES = [[3.9, 1.6, 1.5], [0.8, 0.7, 1.8], [1.8, 0.6, 1.7]]


def random_boxes(batch=5, points=30, bins=12, sizes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape, scale=1.0):
        return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)

    first = randn(batch, 3, scale=3)
    scores = (randn(batch, bins), randn(batch, bins), randn(batch, sizes), randn(batch, sizes, 3, scale=0.3))
    return FrustumBoxes(randn(points, 2), first, first + randn(batch, 3), *scores)


def random_targets(boxes, seed=1):
    generator = torch.Generator().manual_seed(seed)
    batch, points = len(boxes.center), len(boxes.mask_logits)
    mask = torch.randint(0, 2, (points,), generator=generator)
    mask[::7] = 255
    near = boxes.center.detach() + torch.randn(batch, 3, generator=generator, dtype=torch.float64)
    size = torch.rand(batch, 3, generator=generator, dtype=torch.float64) * 3 + 0.5
    heading = torch.rand(batch, generator=generator, dtype=torch.float64) * 14 - 7
    return FrustumTargets(mask, near, size, heading, torch.randint(0, 3, (batch,), generator=generator))


def to_arrays(named):
    return {name: getattr(named, name).detach().cpu().numpy() for name in named._fields}


def test_losses_equal_plain_loops(device):
    boxes = random_boxes()
    targets = random_targets(boxes)
    factors = dict(corners=7.0, heading_residual=5.0, size_residual=3.0)
    templates = np.array(TEMPLATES, np.float32).astype(np.float64)
    expected = oracles_frustum.losses(to_arrays(boxes), to_arrays(targets), templates, factors)
    found = FrustumLoss(TEMPLATES, box=2.0, **factors).to(device)(
        FrustumBoxes(*[t.to(device) for t in boxes]), FrustumTargets(*[t.to(device) for t in targets])
    )
    assert found.keys() == expected.keys()
    for name, value in found.items():
        times = 1 if name == "loss_mask" else 2
        assert value.item() == pytest.approx(times * expected[name], rel=1e-6 if name == "loss_mask" else 1e-12), name


def test_the_defaults_are_the_published_factors():
    loss = FrustumLoss(KITTI_SIZE_TEMPLATES)
    assert (loss.box, loss.corners, loss.heading_residual, loss.size_residual) == (1, 10, 20, 20)


def test_gradients_of_the_loss():
    boxes = random_boxes(batch=3, points=6, seed=2)
    targets = random_targets(boxes)
    loss = FrustumLoss(TEMPLATES)

    def total(*tensors):
        return sum(value for name, value in loss(FrustumBoxes(*tensors), targets).items())

    assert torch.autograd.gradcheck(total, [t.requires_grad_() for t in boxes], atol=1e-4)


def test_a_perfect_box_has_no_loss_but_of_its_scores():
    boxes = random_boxes()
    targets = random_targets(boxes)
    bins, rest = heading_bins(targets.heading, 12)
    rows = torch.arange(5)
    boxes.heading_residuals[rows, bins] = rest
    templates = torch.tensor(TEMPLATES)[targets.template].double()
    boxes.size_residuals[rows, targets.template] = targets.size / templates - 1
    boxes = boxes._replace(center=targets.center, first_center=targets.center)
    for name in ("loss_center", "loss_first_center", "loss_size_residual", "loss_heading_residual", "loss_corners"):
        assert FrustumLoss(TEMPLATES)(boxes, targets)[name] == pytest.approx(0, abs=1e-9)
    boxes.heading_residuals[rows, bins] = rest + 12  # the box turned round: its corners are the true ones all the same
    turned = FrustumLoss(TEMPLATES)(boxes, targets)
    assert turned["loss_corners"] == pytest.approx(0, abs=1e-9) and turned["loss_heading_residual"] > 100


@given(st.floats(-20, 20), st.integers(1, 16))
def test_bins_and_rests_make_the_angle_again(angle, bins):
    index, rest = heading_bins(torch.tensor([angle], dtype=torch.float64), bins)
    assert 0 <= index < bins and abs(rest) <= 1 + 1e-9
    again = (2 * index + rest) * math.pi / bins
    assert math.cos(again - angle) == pytest.approx(1, abs=1e-12)


def test_corners_in_the_networks_axes_are_those_of_the_box():
    box = torch.tensor([[9.0, 2, -1, 4, 1.5, 1.2, 0.7], [5, 0, 0, 1, 1, 2, -2.5]], dtype=torch.float64)
    expected = box_corners(box).sort(1).values
    center, heading = to_network(box[:, :3]), turned_heading(box[:, 6])
    corners = from_network(frustum_corners(center, box[:, 3:6], heading))
    for own, other in zip(corners, box_corners(box), strict=True):
        assert torch.cdist(own, other).amin(1).max() < 1e-9 and torch.cdist(other, own).amin(1).max() < 1e-9
    assert expected.shape == corners.shape and torch.equal(from_network(to_network(box[:, :3])), box[:, :3])


def frustum(index, *, count=200, angle=0.6, labelled=True):
    """A car before a wall; the points of the car fill its box."""
    rng = np.random.default_rng(index)
    box = np.array([12 + index % 5, 0.5, -0.8, 4.0, 1.7, 1.5, 0.4 + index], np.float32)
    on_car = rng.uniform(-0.5, 0.5, (count // 2, 3)) * box[3:6]
    on_car = on_car @ rotation_z(float(box[6]))[:3, :3].T + box[:3]
    wall = rng.uniform((20, -3, -2), (20.2, 3, 2), (count - count // 2, 3))
    points = np.concatenate([np.concatenate([on_car, wall]), rng.uniform(0, 1, (count, 1))], 1).astype(np.float32)
    sample = {"points": points, "class_index": 0, "sample_token": f"{index:06d}/0", "score_2d": 0.5}
    sample["frustum2lidar"] = rotation_z(angle)
    if labelled:
        sample |= {"box": box, "point_labels": (np.arange(count) < count // 2).astype(np.int64)}
    return sample


def test_augmentation_keeps_points_and_boxes_together():
    """What lies in the truth before lies in it after; mirror images and moves do occur."""
    batch = collate([frustum(i) for i in range(40)])
    torch.manual_seed(0)
    inputs = FrustumPreprocessor(64)(batch, True)["inputs"]
    points, targets = inputs["frustums"], inputs["targets"]
    item = points.coords[:, 0].long()
    local = from_network(points.feats[:, :3] - targets.center[item])
    yaw = turned_heading(targets.heading)[item]
    along = local[:, 0] * yaw.cos() + local[:, 1] * yaw.sin()
    across = local[:, 1] * yaw.cos() - local[:, 0] * yaw.sin()
    inside = (torch.stack([along, across, local[:, 2]], 1).abs() <= targets.size[item] / 2 + 1e-3).all(1)
    assert torch.equal(inside, targets.mask == 1) and 0.3 < inside.float().mean() < 0.7
    plain = FrustumPreprocessor(64, flip=False, shift=0.0)(batch, True)["inputs"]["targets"]
    mirrored = (targets.center[:, 0] * plain.center[:, 0] < 0).float().mean()
    moved = (targets.center - plain.center)[:, 2]
    assert 0.2 < mirrored < 0.8 and 0.3 < moved.std() < 3 and torch.equal(points.coords[:, 1:], points.feats[:, :3])


def test_what_is_mirrored_heads_the_other_way_about():
    """y of the frustum frame changes sign, so the yaw about z does; a box turned round holds the same points."""
    samples = [frustum(i) for i in range(40)]
    torch.manual_seed(0)
    targets = FrustumPreprocessor(4, shift=0.0)(collate(samples), True)["inputs"]["targets"]
    boxes = torch.from_numpy(np.stack([sample["box"] for sample in samples]))
    side = (from_network(targets.center)[:, 1] / boxes[:, 1]).round()
    assert set(side.tolist()) == {-1.0, 1.0}
    yaw = turned_heading(targets.heading)
    torch.testing.assert_close(yaw.cos(), boxes[:, 6].cos(), rtol=0, atol=1e-5)
    torch.testing.assert_close(yaw.sin(), side * boxes[:, 6].sin(), rtol=0, atol=1e-5)


def test_moves_end_at_four_deviations(monkeypatch):
    samples = [frustum(i) for i in range(3)]
    monkeypatch.setattr(torch, "randn", lambda count, device: torch.tensor([9.0, -50.0, 0.5], device=device))
    center, distance = {}, np.linalg.norm(np.stack([sample["box"][:3] for sample in samples]), axis=1)
    for shift in (0.05, 0.0):
        preprocessor = FrustumPreprocessor(4, flip=False, shift=shift)
        center[shift] = preprocessor(collate(samples), True)["inputs"]["targets"].center
    moved = from_network(center[0.05] - center[0.0])
    np.testing.assert_allclose(moved[:, 0], np.array([4, -4, 0.5]) * 0.05 * distance, rtol=1e-4)
    assert (moved[:, 1:] == 0).all()


def test_a_frustum_of_which_no_point_is_the_objects_has_no_box(device):
    samples = [frustum(0), frustum(1), frustum(2)]
    model = FrustumDetector(FrustumPreprocessor(32), Answer(), FrustumLoss(KITTI_SIZE_TEMPLATES)).to(device)
    model.network.truth = torch.tensor(np.stack([s["box"] for s in samples]), device=device)
    model.network.object_logit = torch.tensor([2.0, 0.0, -1.0], device=device)  # of background and object: a tie is not
    found = model(**model.data_preprocessor(collate(samples)), mode="predict")
    assert [len(f) for f in found] == [1, 0, 0] and found[1].boxes.shape == (0, 9)


def test_detections_are_in_the_recorded_frame(device):
    """With the truth in place of the network's answer the truth comes out, in the frame of the LiDAR."""
    samples = [frustum(0), frustum(1, angle=-1.1), frustum(2, count=0, labelled=False)]
    model = FrustumDetector(FrustumPreprocessor(32), Answer(), FrustumLoss(KITTI_SIZE_TEMPLATES)).to(device)
    model.network.truth = torch.tensor(np.stack([s.get("box", np.ones(7, np.float32)) for s in samples]), device=device)
    found = model(**model.data_preprocessor(collate(samples)), mode="predict")
    assert [len(f) for f in found] == [1, 1, 0]
    for detections, sample in zip(found[:2], samples, strict=False):
        matrix = sample["frustum2lidar"]
        expected = np.append(matrix[:3, :3] @ sample["box"][:3], sample["box"][3:6])
        np.testing.assert_allclose(detections.boxes[0, :6].cpu(), expected, atol=1e-4)
        yaw = sample["box"][6] + math.atan2(matrix[1, 0], matrix[0, 0])
        assert math.cos(detections.boxes[0, 6].item() - yaw) == pytest.approx(1, abs=1e-5)
        assert detections.labels.tolist() == [0]
        sure = 1 / (1 + math.exp(-2))  # of the points; heading and size are all but certain
        assert detections.scores.item() == pytest.approx(0.5 * sure, rel=1e-3)


def test_scores_are_products_of_what_is_sure():
    """Mean probability of the object's points, best heading bin, best template and the 2D box's score, by hand."""
    model = FrustumDetector(FrustumPreprocessor(4), Answer(), FrustumLoss(KITTI_SIZE_TEMPLATES))
    model.network.truth = torch.from_numpy(frustum(0)["box"])[None]
    model.network.heading_logit, model.network.size_logit = math.log(11), math.log(21)  # 11 of 22, 21 of 28
    found = model(**model.data_preprocessor(collate([frustum(0)])), mode="predict")[0]
    assert found.scores.item() == pytest.approx(0.5 * 0.5 * 0.75 / (1 + math.exp(-2)), rel=1e-6)


def test_a_frustum_tilted_against_the_lidar_keeps_its_heading_upright_in_its_own_frame():
    """As KITTI's labels stand upright in the rectified camera frame and not in that of the LiDAR."""
    tilt = np.eye(4)
    tilt[:3, :3] = [[1, 0, 0], [0, math.cos(0.3), -math.sin(0.3)], [0, math.sin(0.3), math.cos(0.3)]]
    sample = frustum(2) | {"frustum2lidar": tilt}
    model = FrustumDetector(FrustumPreprocessor(32), Answer(), FrustumLoss(KITTI_SIZE_TEMPLATES))
    model.network.truth = torch.from_numpy(sample["box"])[None]
    found = model(**model.data_preprocessor(collate([sample])), mode="predict")[0].boxes[0]
    along = tilt[:3, :3] @ (math.cos(sample["box"][6]), math.sin(sample["box"][6]), 0)
    assert math.cos(found[6].item() - math.atan2(along[1], along[0])) == pytest.approx(1, abs=1e-6)


def test_a_size_below_nothing_is_a_centimetre():
    model = FrustumDetector(FrustumPreprocessor(4), Answer(), FrustumLoss(KITTI_SIZE_TEMPLATES))
    model.network.truth = torch.tensor([[12.0, 0, 0, -1, 2, 1.5, 0]])
    found = model(**model.data_preprocessor(collate([frustum(0)])), mode="predict")[0]
    torch.testing.assert_close(found.boxes[0, 3:6], torch.tensor([0.01, 2, 1.5]))


def test_points_to_train_on_are_drawn_with_replacement():
    batch, rows = collate([frustum(0)]), {}
    torch.manual_seed(0)
    for training in (True, False):
        points = FrustumPreprocessor(200, flip=False, shift=0.0)(batch, training)["inputs"]["frustums"]
        rows[training] = {tuple(row) for row in points.feats.tolist()}
    assert len(rows[False]) == 200 and 90 < len(rows[True]) < 160  # 1 - 1 / e of them


class Answer(torch.nn.Module):
    """FrustumBoxes that say what ``truth`` (B, 7) says."""

    heading_logit = size_logit = 50.0
    object_logit = None  # (B,), of all points of a frustum; None is 2

    def forward(self, points, categories):
        center, heading = to_network(self.truth[:, :3]), turned_heading(self.truth[:, 6])
        count = len(center)
        bins, rest = heading_bins(heading, 12)
        rows = torch.arange(count, device=center.device)
        headings, residuals, sizes = center.new_zeros(3, count, 12).unbind()
        headings[rows, bins], residuals[rows, bins] = self.heading_logit, rest
        sizes = sizes[:, :8].clone()
        sizes[:, 0] = self.size_logit
        size = center.new_zeros(count, 8, 3)
        size[:, 0] = self.truth[:, 3:6] / torch.tensor(KITTI_SIZE_TEMPLATES[0], device=center.device) - 1
        logits = center.new_tensor([0.0, 2.0]).repeat(len(points), 1)
        if self.object_logit is not None:
            logits[:, 1] = self.object_logit[points.items.index.long()]
        return FrustumBoxes(logits, center, center, headings, residuals, sizes, size)


def test_a_frustum_is_learnt():
    loss = FrustumLoss(KITTI_SIZE_TEMPLATES)
    network = frustum_pvcnn_kitti(width=0.125)
    network.segmentation.classifier[4].p = 0.0
    model = FrustumDetector(FrustumPreprocessor(128, flip=False, shift=0.0), network, loss)
    batch = collate([frustum(0), frustum(1)])
    optim = OptimWrapper(torch.optim.Adam(model.parameters(), lr=5e-3))
    first = last = None
    for _ in range(30):
        last = sum(value.item() for value in model.train_step(batch, optim).values() if value.ndim == 0)
        first = last if first is None else first
    assert last < first / 4
    found = model.eval().test_step(batch)
    assert all(len(f) == 1 and f.boxes.isfinite().all() for f in found)


def test_empty_frustums_and_clouds_smaller_than_the_sample_train():
    model = FrustumDetector(
        FrustumPreprocessor(16), frustum_pvcnn_kitti(width=0.125), FrustumLoss(KITTI_SIZE_TEMPLATES)
    )
    batch = collate([frustum(0, count=3), frustum(1, count=0)])
    losses = model(**model.data_preprocessor(batch, True), mode="loss")
    assert all(value.isfinite() for value in losses.values())
    sum(losses.values()).backward()


def test_says_what_is_wrong():
    preprocessor = FrustumPreprocessor(8)
    with pytest.raises(ValueError, match=r"FrustumPreprocessor: class_index of sample .* must be in \[0, 3\), got 3"):
        preprocessor(collate([frustum(0) | {"class_index": 3}]))
    with pytest.raises(ValueError, match="samples must have box and point_labels to train on, got none"):
        preprocessor(collate([frustum(0, labelled=False)]), True)
    bad = frustum(0)
    bad["points"][5, 1] = np.inf
    with pytest.raises(ValueError, match="points of sample 000000/0 must be finite, got .* at point 5"):
        preprocessor(collate([bad]))
    model = FrustumDetector(preprocessor, Answer(), FrustumLoss(KITTI_SIZE_TEMPLATES))
    model.network.truth = torch.ones(1, 7)
    unlabelled = preprocessor(collate([frustum(0, labelled=False)]))
    with pytest.raises(ValueError, match="samples must have box and point_labels for a loss, got none"):
        model(**unlabelled, mode="loss")
    with pytest.raises(ValueError, match="mode must be 'tensor', 'loss' or 'predict', got 'x'"):
        model(**unlabelled, mode="x")
    with pytest.raises(ValueError, match=r"templates must be \(S, 3\) and > 0"):
        FrustumLoss([[1.0, 2.0]])
    with pytest.raises(ValueError, match="templates must be .* got .*nan"):
        FrustumLoss([[1.0, float("nan"), 2.0]])
    with pytest.raises(ValueError, match="factors must be >= 0, got box 1.0, corners -1"):
        FrustumLoss(TEMPLATES, corners=-1)
    with pytest.raises(ValueError, match="factors must be >= 0, got .* size_residual nan"):
        FrustumLoss(TEMPLATES, size_residual=float("nan"))
    with pytest.raises(ValueError, match="class_templates must name one or more"):
        FrustumPreprocessor(class_templates=())
