# SPDX-License-Identifier: Apache-2.0
"""What the image head asks for, against projections in float64, and how a detector is taught by it."""

import math

import numpy as np
import pytest
import torch

from pcperc.geometry import transform_boxes
from pcperc.models.bevfusion.box_coder import BoxCoder
from pcperc.models.bevfusion.image_head import MIN_SIGMA, ImageHead
from pcperc.models.bevfusion.truth import Truth
from pcperc.registry import MODELS
from tests.models.bevfusion_small import POINT_RANGE, build_model, make_batch, run_model, scene_points, small_config
from tests.models.camera_rig import as_inputs, make_points, make_rig, see

CODER = BoxCoder((-12.0, -8.0, -5.0, 12.0, 8.0, 3.0), (1.0, 1.0))
BOUND = (0.5, 12.5, 1.0)


def make_head(**options) -> ImageHead:
    return ImageHead(6, 3, CODER, upright_classes=(2,), depth_bound=BOUND, **options)


def make_samples(rng, *, batch=2, count=12) -> list[dict]:
    samples = []
    for _ in range(batch):
        boxes = np.zeros((count, 9))
        boxes[:, :3] = rng.uniform((-11, -7, -1), (11, 7, 1), (count, 3))
        boxes[:, 3:6], boxes[:, 6] = rng.uniform(0.4, 4, (count, 3)), rng.uniform(-3, 3, count)
        labels = torch.from_numpy(rng.integers(0, 3, count))
        samples.append({"boxes": torch.from_numpy(boxes).float(), "labels": labels})
    return samples


def truth_of(samples, device="cpu") -> Truth:
    return Truth.of(samples, CODER, device, batch_size=len(samples), num_classes=3, op="test")


def test_targets_equal_loop(device):
    rng = np.random.default_rng(0)
    rig, samples = make_rig(rng), make_samples(rng)
    targets = make_head().targets(truth_of(samples, device), as_inputs(rig, device=device), (4, 6))
    expected = np.zeros((2, 3, 3, 4, 6))
    in_sight = 0
    for row, (b, k, v) in enumerate(np.ndindex(2, 12, 3)):
        box = samples[b]["boxes"][k].double().numpy()
        pixel, depth = see(rig, b, v, box[:3])
        column, line = pixel * [5 / 47, 3 / 31]
        seen = 0.5 <= depth < 12.5 and -0.5 < column < 5.5 and -0.5 < line < 3.5
        assert bool(targets.seen.flatten()[row]) == seen
        if not seen:
            continue
        in_sight += 1
        column, line = round(column), round(line)
        assert targets.cell.flatten()[row] == ((b * 3 + v) * 4 + line) * 6 + column
        ahead = box[:3] + 1e-4 * np.array([math.cos(box[6]), math.sin(box[6]), 0])
        shift = see(rig, b, v, ahead)[0][0] - pixel[0]
        right, away = targets.facing.view(-1, 2)[row].tolist()
        assert math.hypot(right, away) == pytest.approx(1, abs=1e-5)
        if abs(right) > 0.3:  # what turns to the right in the image as it now is
            assert np.sign(right) == np.sign(shift)
        if abs(away) > 0.3:
            assert np.sign(away) == np.sign(np.linalg.norm(ahead - camera_of(rig, b, v)) - depth_of(rig, b, v, box))
        size = box[3:6].mean() / abs(np.linalg.det(rig["lidar_aug"][b][:3, :3])) ** (1 / 3)
        focal = math.sqrt(abs(np.linalg.det((rig["image_aug"][b, v] @ rig["camera2image"][b, v])[:2, :2])))
        sigma = max(focal * (5 / 47 + 3 / 31) / 2 * size / depth / 6, MIN_SIGMA)
        distance = np.hypot(np.arange(4)[:, None] - line, np.arange(6) - column)
        own = expected[b, v, samples[b]["labels"][k]]
        np.maximum(own, np.exp(-0.5 * (distance / sigma) ** 2), out=own)
    assert in_sight > 10
    np.testing.assert_allclose(targets.heatmap.cpu().numpy(), expected, rtol=1e-4, atol=1e-6)
    assert (targets.heatmap.max() == 1) and (targets.heatmap == 1).sum() <= in_sight


def camera_of(rig, b, v) -> np.ndarray:
    """Place of a camera in the frame of the augmented points."""
    recorded = np.linalg.solve(rig["lidar2camera"][b, v], [0, 0, 0, 1])
    return (rig["lidar_aug"][b] @ recorded)[:3]


def depth_of(rig, b, v, box) -> float:
    """Distance of a box from a camera, in the frame of the augmented points."""
    return float(np.linalg.norm(box[:3] - camera_of(rig, b, v)))


def test_moving_the_scene_changes_nothing_that_images_show():
    rng = np.random.default_rng(1)
    rig = make_rig(rng)
    samples = make_samples(rng, count=6)
    plain = {**rig, "lidar_aug": np.tile(np.eye(4), (2, 1, 1))}
    # Small enough that no object leaves the grid on the way.
    for sample in samples:
        sample["boxes"][:, :2] *= 0.4
    moved = [
        {**sample, "boxes": torch.from_numpy(transform_boxes(sample["boxes"].double().numpy(), aug)).float()}
        for sample, aug in zip(samples, rig["lidar_aug"], strict=True)
    ]
    head = make_head()
    first = head.targets(truth_of(samples), as_inputs(plain), (4, 6))
    second = head.targets(truth_of(moved), as_inputs(rig), (4, 6))
    assert torch.equal(first.seen, second.seen) and first.seen.any()
    assert torch.equal(first.cell[first.seen], second.cell[first.seen])
    torch.testing.assert_close(first.facing, second.facing, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(first.heatmap, second.heatmap, rtol=1e-3, atol=1e-3)


class Knows(ImageHead):
    """Says what it is told to."""

    def forward(self, image_feats):
        return self.logits, self.facing


def test_losses_are_of_what_is_in_sight_alone():
    rng = np.random.default_rng(2)
    inputs, samples = as_inputs(make_rig(rng)), make_samples(rng)
    head = Knows(6, 3, CODER, upright_classes=(2,), depth_bound=BOUND, depth_weight=0.0)
    truth = truth_of(samples)
    targets = head.targets(truth, inputs, (4, 6))
    head.logits = torch.where(targets.heatmap == 1, 9.0, -9.0)
    head.facing = torch.zeros(2, 3, 2, 4, 6)
    counted = targets.seen & (truth.labels != 2)[:, None]
    losses = head.loss(None, None, inputs, samples)
    assert set(losses) == {"loss_heatmap", "loss_facing"}
    assert losses["loss_heatmap"] < 0.01
    expected = 0.5 * targets.facing[counted].abs().sum() / counted.sum()
    torch.testing.assert_close(losses["loss_facing"], expected)
    empty = [{"boxes": torch.zeros(0, 9), "labels": torch.zeros(0, dtype=torch.int64)}] * 2
    head.logits = torch.full_like(head.logits, -9.0)
    losses = head.loss(None, None, inputs, empty)
    assert losses["loss_facing"] == 0 and losses["loss_heatmap"] < 0.01


def test_depths_are_those_of_the_nearest_points(device):
    rng = np.random.default_rng(4)
    rig, clouds = make_rig(rng), [make_points(rng, 150), make_points(rng, 0)]
    expected = np.full((2, 3, 4, 6), np.inf)
    for v in range(3):
        for point in clouds[0][:, :3].double().numpy():
            pixel, depth = see(rig, 0, v, point)
            column, line = round(pixel[0]) // 8, round(pixel[1]) // 8
            if depth > 0 and 0 <= column < 6 and 0 <= line < 4:
                expected[0, v, line, column] = min(expected[0, v, line, column], depth)
    wanted = np.round(expected - 0.5)
    wanted[~((wanted >= 0) & (wanted < 12))] = -1
    inputs, head = as_inputs(rig, points=clouds, device=device), make_head()
    targets = head.depth_targets(inputs, (4, 6))
    assert torch.equal(targets.cpu(), torch.from_numpy(wanted).long()) and (targets >= 0).sum() > 20
    right = torch.nn.functional.one_hot(targets.clamp(min=0), 12).movedim(-1, 2).float()
    assert head._depth_loss(right, inputs) == 0
    assert head._depth_loss(torch.full_like(right, 1 / 12), inputs).item() == pytest.approx(math.log(12))
    steps = targets.unique()[1:]
    # Wrong for one step alone: its cells count as much as those of any other, however many they are.
    unsure = torch.where((targets == steps[0])[:, :, None], 0.5 * right, right)
    assert head._depth_loss(unsure, inputs).item() == pytest.approx(math.log(2) / len(steps))
    nothing = as_inputs(rig, device=device)
    assert head._depth_loss(right, nothing) == 0


def test_arguments_are_checked():
    with pytest.raises(ValueError, match=r"upright_classes must be below 3, got \(3,\)"):
        ImageHead(6, 3, CODER, upright_classes=(3,))
    with pytest.raises(ValueError, match="ImageHead: samples must be 1, got 2"):
        rng = np.random.default_rng(3)
        inputs = as_inputs(make_rig(rng, batch=1))
        make_head().loss(torch.zeros(1, 3, 6, 4, 6), None, inputs, make_samples(rng))
    with pytest.raises(ValueError, match=r"depths must have the 12 steps of .*, got \(1, 3, 8, 4, 6\)"):
        make_head().loss(torch.zeros(1, 3, 6, 4, 6), torch.ones(1, 3, 8, 4, 6), inputs, make_samples(rng, batch=1))


def taught_config() -> dict:
    head = dict(type=ImageHead, in_channels=8, num_classes=3, upright_classes=(2,), hidden_channels=16)
    coder = dict(type=BoxCoder, point_range=POINT_RANGE, cell_size=(1.0, 1.0))
    return small_config() | {"image_head": head | {"box_coder": coder, "depth_bound": (1.0, 12.0, 1.0)}}


def test_a_detector_is_taught_by_its_image_head(device):
    torch.manual_seed(0)
    model = MODELS.build(taught_config()).to(device)
    batch = make_batch([scene_points(), scene_points(seed=3)])
    losses = run_model(model, batch, "loss")
    names = {"object/loss_heatmap", "object/loss_cls", "object/loss_box", "object/matched_iou"}
    assert set(losses) == names | {f"image/loss_{name}" for name in ("heatmap", "facing", "depth")}
    own = sum(value for name, value in losses.items() if name.startswith("image/"))
    own.backward()
    reached = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert reached == {"encoders", "image_head"}
    reached = {name for name, p in model.encoders["camera"].named_parameters() if p.grad is not None}
    assert reached == {name for name, _ in model.encoders["camera"].named_parameters()}


def test_predictions_and_other_losses_are_those_without_it():
    model = MODELS.build(taught_config()).eval()
    bare = build_model().eval()
    weights = {key: value for key, value in model.state_dict().items() if not key.startswith("image_head.")}
    bare.load_state_dict(weights)
    batch = make_batch([scene_points()])
    with torch.no_grad():
        taught, plain = (run_model(one, batch, "predict")[0] for one in (model, bare))
        losses, expected = (run_model(one, batch, "loss") for one in (model, bare))
    assert torch.equal(taught.boxes, plain.boxes) and torch.equal(taught.scores, plain.scores)
    assert all(torch.equal(losses[name], value) for name, value in expected.items())
