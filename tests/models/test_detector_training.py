# SPDX-License-Identifier: Apache-2.0
"""BEVFusion learns: two scenes by heart, odd batches, half precision, weights of the first stage."""

import math

import pytest
import torch

from pcperc.registry import MODELS
from tests.models.bevfusion_small import BOXES, LABELS, build_model, make_batch, run_model, scene_points, small_config


@pytest.mark.parametrize("modalities", [("lidar",), ("camera", "lidar")], ids="+".join)
def test_overfits_a_scene(modalities):
    """After 80 steps on two scenes the loss has collapsed and the best predictions are the objects."""
    config = small_config(modalities=modalities)
    config["heads"]["object"]["dropout"] = 0.0
    model = MODELS.build(config)
    moved = [[-b[0], b[1], *b[2:6], math.pi - b[6], -b[7], b[8]] for b in BOXES]
    clouds = [scene_points(BOXES, per_box=60, ground=300), scene_points(moved, per_box=60, ground=300, seed=1)]
    batch = make_batch(clouds, boxes=[BOXES, moved], images="camera" in modalities)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=80)
    history = []
    for _ in range(80):
        losses = run_model(model, batch, "loss")
        total = sum(value for name, value in losses.items() if "loss" in name)
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 35)
        optimizer.step()
        schedule.step()
        history.append(total.item())
    assert history[-1] < 0.1 * history[0], history[::10]
    # Still in training mode: the batch norms' running statistics, of momentum 0.01, lag behind 80 steps.
    with torch.no_grad():
        results = run_model(model, batch, "predict")
    for detections, boxes in zip(results, [BOXES, moved], strict=True):
        assert detections.scores.diff().max() <= 0
        assert sorted(detections.labels[:2].tolist()) == sorted(LABELS)
        for box, label in zip(boxes, LABELS, strict=True):
            best = detections.boxes[:2][detections.labels[:2] == label][0].tolist()
            assert best[:3] == pytest.approx(box[:3], abs=0.4)
            assert best[3:6] == pytest.approx(box[3:6], rel=0.2)
            assert math.cos(best[6] - box[6]) > 0.9


NOTHING = torch.zeros(0, 5)
FAR = scene_points() + torch.tensor([500.0, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("clouds", "boxes", "labels"),
    [
        ([NOTHING, NOTHING], None, None),
        ([NOTHING, scene_points()], None, None),
        ([FAR, FAR], None, None),
        ([scene_points(), scene_points()], [[], []], [[], []]),
        ([scene_points()[:1], NOTHING], [[], BOXES], [[], LABELS]),
    ],
    ids=["empty-clouds", "one-empty-cloud", "all-out-of-range", "no-objects", "one-point"],
)
@pytest.mark.parametrize("modalities", [("lidar",), ("camera", "lidar")], ids="+".join)
def test_odd_batches_train_and_predict(clouds, boxes, labels, modalities, device):
    model = build_model(modalities).to(device)
    batch = make_batch(clouds, boxes=boxes, labels=labels, images="camera" in modalities)
    losses = run_model(model, batch, "loss")
    assert all(value.isfinite() for value in losses.values()), losses
    sum(value for name, value in losses.items() if "loss" in name).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    model.eval()
    for detections in run_model(model, batch, "predict"):
        assert detections.boxes.isfinite().all() and detections.scores.isfinite().all()


@pytest.mark.parametrize("modalities", [("lidar",), ("camera", "lidar")], ids="+".join)
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("cpu", torch.bfloat16),
        pytest.param("cuda", torch.bfloat16, marks=pytest.mark.gpu),
        pytest.param("cuda", torch.float16, marks=pytest.mark.gpu),
    ],
    ids=str,
)
def test_trains_in_half_precision(modalities, kind, dtype):
    model = build_model(modalities).to(kind)
    batch = make_batch([scene_points(), scene_points(seed=2)], images="camera" in modalities)
    with torch.autocast(kind, dtype=dtype):
        losses = run_model(model, batch, "loss")
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values()), losses
    sum(value for name, value in losses.items() if "loss" in name).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_save_and_load(tmp_path):
    model = build_model()
    run_model(model, make_batch([scene_points()]), "loss")  # moves the running statistics
    torch.save(model.state_dict(), tmp_path / "model.pth")
    torch.manual_seed(99)
    other = build_model()
    other.load_state_dict(torch.load(tmp_path / "model.pth", weights_only=True))
    model.eval(), other.eval()
    batch = make_batch([scene_points(seed=4)])
    with torch.no_grad():
        first, second = run_model(model, batch, "predict")[0], run_model(other, batch, "predict")[0]
    assert torch.equal(first.boxes, second.boxes) and torch.equal(first.scores, second.scores)


def test_lidar_weights_load_into_the_fusion_model():
    """The second stage of the recipe starts from the first one's weights."""
    report = build_model().load_state_dict(build_model(("lidar",)).state_dict(), strict=False)
    assert not report.unexpected_keys
    assert {key.split(".")[0] for key in report.missing_keys} == {"encoders", "fuser"}
    assert not any(key.startswith("encoders.lidar") for key in report.missing_keys)


def test_mmengine_initialisation_leaves_the_weights():
    model = build_model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.init_weights()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
