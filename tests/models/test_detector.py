# SPDX-License-Identifier: Apache-2.0
"""BEVFusion as a whole: sizes of the shipped configurations, learning, frames, modalities, odd batches."""

import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from pcperc.geometry import rotation_z
from pcperc.models.bevfusion.detector import BEVFusion, to_recorded_frame
from pcperc.registry import MODELS
from tests.models.bevfusion_small import BOXES, LABELS, make_batch, scene_points, small_config

CONFIGS = Path(__file__).parents[2] / "configs/_base_/models"


def build(modalities=("camera", "lidar")) -> BEVFusion:
    return MODELS.build(small_config(modalities=modalities))


def run(model, batch, mode):
    return model(**model.data_preprocessor(batch, model.training), mode=mode)


def with_statistics(model: BEVFusion) -> BEVFusion:
    """Set the running statistics from one batch; untouched ones let the signal fade from layer to layer. Eval mode."""
    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the plain average
    with torch.no_grad():
        run(model.train(), make_batch([scene_points(seed=7), scene_points(seed=8)]), "tensor")
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


def build_from_file(name: str) -> BEVFusion:
    with torch.device("meta"):
        return MODELS.build(Config.fromfile(CONFIGS / name).model)


def test_published_parameter_counts():
    model = build_from_file("bevfusion.py")
    parts = {
        "backbone": (model.encoders["camera"].backbone, 27.52),
        "neck": (model.encoders["camera"].neck, 1.59),
        "view transform": (model.encoders["camera"].view_transform, 1.61),
        "lidar": (model.encoders["lidar"], 2.69),
        "fuser": (model.fuser, 0.775),
        "decoder backbone": (model.decoder.backbone, 4.28),
        "decoder neck": (model.decoder.neck, 0.296),
        "head": (model.heads["object"], 1.035),
    }
    found = {name: count(part) / 1e6 for name, (part, _) in parts.items()}
    assert found == pytest.approx({name: millions for name, (_, millions) in parts.items()}, abs=0.006)
    assert count(model) == sum(count(part) for part, _ in parts.values())
    assert count(model) / 1e6 == pytest.approx(39.8, abs=0.05)


def test_published_parameter_count_of_lidar_alone():
    model = build_from_file("bevfusion_lidar.py")
    assert list(model.encoders) == ["lidar"]
    assert count(model) / 1e6 == pytest.approx(8.31, abs=0.006)


def test_demonstration_size():
    assert count(build_from_file("bevfusion_demo.py")) <= 1_200_000
    assert list(build_from_file("bevfusion_lidar_demo.py").encoders) == ["lidar"]


@pytest.mark.parametrize("name", ["bevfusion_demo.py", "bevfusion_lidar_demo.py"])
def test_demonstration_model_runs(name):
    """One step at the shipped demonstration size, images of 128 x 352."""
    model = MODELS.build(Config.fromfile(CONFIGS / name).model)
    batch = make_batch([scene_points()], images="camera" in model.encoders)
    if "camera" in model.encoders:
        batch["inputs"]["images"] = torch.zeros(1, 2, 3, 128, 352, dtype=torch.uint8)
    losses = run(model, batch, "loss")
    sum(value for key, value in losses.items() if "loss" in key).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), parameter_name


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
        losses = run(model, batch, "loss")
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
        results = run(model, batch, "predict")
    for detections, boxes in zip(results, [BOXES, moved], strict=True):
        assert detections.scores.diff().max() <= 0
        assert sorted(detections.labels[:2].tolist()) == sorted(LABELS)
        for box, label in zip(boxes, LABELS, strict=True):
            best = detections.boxes[:2][detections.labels[:2] == label][0].tolist()
            assert best[:3] == pytest.approx(box[:3], abs=0.4)
            assert best[3:6] == pytest.approx(box[3:6], rel=0.2)
            assert math.cos(best[6] - box[6]) > 0.9


@pytest.mark.parametrize("modalities", [("lidar",), ("camera",), ("camera", "lidar")], ids="+".join)
def test_modes(modalities, device):
    model = build(modalities).eval().to(device)
    batch = make_batch([scene_points(), scene_points(seed=3)], images="camera" in modalities)
    assert run(model, batch, "tensor")["object"].heatmap.shape == (2, 3, 16, 16)
    losses = run(model, batch, "loss")
    assert set(losses) == {f"object/{name}" for name in ("loss_heatmap", "loss_cls", "loss_box", "matched_iou")}
    total, logged = model.parse_losses(losses)
    assert total.item() == pytest.approx(sum(v.item() for k, v in losses.items() if "loss" in k))
    assert len(run(model, batch, "predict")) == 2


def test_order_of_points_does_not_matter():
    model = with_statistics(build())
    cloud = scene_points(per_box=20, ground=300)  # below the ten points a voxel keeps
    with torch.no_grad():
        first = run(model, make_batch([cloud]), "tensor")["object"]
        second = run(model, make_batch([cloud[torch.randperm(len(cloud))]]), "tensor")["object"]
    torch.testing.assert_close(first.heatmap, second.heatmap, rtol=1e-4, atol=1e-4)


def test_samples_of_a_batch_do_not_mix():
    model = with_statistics(build())
    clouds = [scene_points(), torch.zeros(0, 5), scene_points(seed=5)]
    batch = make_batch(clouds)
    with torch.no_grad():
        together = run(model, batch, "tensor")["object"]
        for index in range(3):
            alone = {key: value[index : index + 1] for key, value in batch["inputs"].items()}
            single = run(model, {"inputs": alone, "samples": []}, "tensor")["object"]
            torch.testing.assert_close(together.heatmap[index], single.heatmap[0], rtol=1e-4, atol=1e-4)


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
    model = build(modalities).to(device)
    batch = make_batch(clouds, boxes=boxes, labels=labels, images="camera" in modalities)
    losses = run(model, batch, "loss")
    assert all(value.isfinite() for value in losses.values()), losses
    sum(value for name, value in losses.items() if "loss" in name).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    model.eval()
    for detections in run(model, batch, "predict"):
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
    model = build(modalities).to(kind)
    batch = make_batch([scene_points(), scene_points(seed=2)], images="camera" in modalities)
    with torch.autocast(kind, dtype=dtype):
        losses = run(model, batch, "loss")
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values()), losses
    sum(value for name, value in losses.items() if "loss" in name).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.gpu
def test_gpu_equals_cpu():
    model = with_statistics(build())
    batch = make_batch([scene_points(), scene_points(seed=2)])
    with torch.no_grad():
        cpu = run(model, batch, "tensor")["object"]
        gpu = run(model.cuda(), batch, "tensor")["object"]
        losses = model.heads["object"].loss(gpu, batch["samples"])
        expected = model.cpu().heads["object"].loss(cpu, batch["samples"])
    torch.testing.assert_close(gpu.heatmap.cpu(), cpu.heatmap, rtol=1e-3, atol=1e-3)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name].cpu(), value, rtol=1e-2, atol=1e-3)


def test_predictions_undo_the_augmentation():
    """A model that has learned nothing still says the same boxes, seen from another frame."""
    model = build(("lidar",)).eval()
    aug = torch.from_numpy(rotation_z(0.3)).float() * 1.05
    aug[1] *= -1  # mirrored
    aug[:3, 3], aug[3, 3] = torch.tensor([0.5, -0.2, 0.1]), 1.0
    batch = make_batch([scene_points()], images=False)
    turned = make_batch([scene_points()], images=False, lidar_aug=aug[None])
    with torch.no_grad():
        plain, undone = run(model, batch, "predict")[0], run(model, turned, "predict")[0]
    assert len(plain) > 5
    torch.testing.assert_close(undone.scores, plain.scores)
    homogeneous = torch.cat([undone.boxes[:, :3], torch.ones(len(undone), 1)], 1)
    torch.testing.assert_close((homogeneous @ aug.T)[:, :3], plain.boxes[:, :3], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(undone.boxes[:, 3:6] * 1.05, plain.boxes[:, 3:6], rtol=1e-4, atol=1e-4)
    heading = torch.stack([undone.boxes[:, 6].cos(), undone.boxes[:, 6].sin()], 1) @ aug[:2, :2].T / 1.05
    expected = torch.stack([plain.boxes[:, 6].cos(), plain.boxes[:, 6].sin()], 1)
    torch.testing.assert_close(heading, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(undone.boxes[:, 7:] @ aug[:2, :2].T, plain.boxes[:, 7:], rtol=1e-4, atol=1e-4)
    again = to_recorded_frame(plain, torch.eye(4))
    torch.testing.assert_close(again.boxes, plain.boxes, rtol=1e-5, atol=1e-5)


def test_save_and_load(tmp_path):
    model = build()
    run(model, make_batch([scene_points()]), "loss")  # moves the running statistics
    torch.save(model.state_dict(), tmp_path / "model.pth")
    torch.manual_seed(99)
    other = build()
    other.load_state_dict(torch.load(tmp_path / "model.pth", weights_only=True))
    model.eval(), other.eval()
    batch = make_batch([scene_points(seed=4)])
    with torch.no_grad():
        first, second = run(model, batch, "predict")[0], run(other, batch, "predict")[0]
    assert torch.equal(first.boxes, second.boxes) and torch.equal(first.scores, second.scores)


def test_lidar_weights_load_into_the_fusion_model():
    """The second stage of the recipe starts from the first one's weights."""
    report = build().load_state_dict(build(("lidar",)).state_dict(), strict=False)
    assert not report.unexpected_keys
    assert {key.split(".")[0] for key in report.missing_keys} == {"encoders", "fuser"}
    assert not any(key.startswith("encoders.lidar") for key in report.missing_keys)


def test_the_camera_counts():
    model = with_statistics(build())
    batch = make_batch([scene_points()])
    blank = make_batch([scene_points()])
    blank["inputs"]["images"] = torch.zeros_like(batch["inputs"]["images"])
    with torch.no_grad():
        seen, unseen = (run(model, b, "tensor")["object"].heatmap for b in (batch, blank))
    assert (seen - unseen).abs().max() > 0.01


def test_several_heads_give_a_dict_for_each_sample():
    class CountingHead(torch.nn.Module):
        def forward(self, bev):
            return bev.mean((1, 2, 3))

        def loss(self, output, samples):
            return {"loss_mean": output.mean()}

        def predict(self, output):
            return output.tolist()

    parts = {k: MODELS.build(v) for k, v in small_config()["encoders"].items()}
    config = small_config()
    decoder, head = MODELS.build(config["decoder"]), MODELS.build(config["heads"]["object"])
    model = BEVFusion(
        parts,
        decoder,
        {"object": head, "map": CountingHead()},
        fuser=MODELS.build(config["fuser"]),
        data_preprocessor=MODELS.build(config["data_preprocessor"]),
    ).eval()
    batch = make_batch([scene_points(), scene_points()])
    assert "map/loss_mean" in run(model, batch, "loss")
    results = run(model, batch, "predict")
    assert [sorted(result) for result in results] == [["map", "object"]] * 2
    assert isinstance(results[0]["map"], float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(encoders={}), "encoders must be some of"),
        (dict(encoders={"radar": torch.nn.Identity()}), r"got \['radar'\]"),
        (dict(encoders={"camera": None}), "encoders must be some of"),
        (dict(fuser=None), r"fuser must be given for the encoders \['camera', 'lidar'\]"),
        (dict(heads={}), "heads must name at least one task"),
    ],
)
def test_wrong_parts_are_named(change, message):
    part = torch.nn.Identity
    parts = dict(encoders={"lidar": part(), "camera": part()}, decoder=part(), heads={"object": part()}, fuser=part())
    with pytest.raises(ValueError, match=message):
        BEVFusion(**parts | change)


def test_wrong_calls_are_named():
    model = build(("lidar",))
    with pytest.raises(ValueError, match="mode must be 'tensor', 'loss' or 'predict', got 'train'"):
        model({}, [], mode="train")
    with pytest.raises(ValueError, match="samples must be given for a loss"):
        model({}, None, mode="loss")
    with pytest.raises(ValueError, match=r"SparseEncoder: inputs must hold 'voxels'.*got \['points'\]"):
        model({"points": []}, [], mode="tensor")


def test_mmengine_initialisation_leaves_the_weights():
    model = build()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.init_weights()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
