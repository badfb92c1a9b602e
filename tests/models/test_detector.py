# SPDX-License-Identifier: Apache-2.0
"""BEVFusion as a whole: modes, modalities, frames, several heads, and what is wrong by name."""

import pytest
import torch

from pcperc.geometry import rotation_z
from pcperc.models.bevfusion.detector import BEVFusion, to_recorded_frame
from pcperc.registry import MODELS
from tests.models.bevfusion_small import build_model, make_batch, run_model, scene_points, small_config, with_statistics


@pytest.mark.parametrize("modalities", [("lidar",), ("camera",), ("camera", "lidar")], ids="+".join)
def test_modes(modalities, device):
    model = build_model(modalities).eval().to(device)
    batch = make_batch([scene_points(), scene_points(seed=3)], images="camera" in modalities)
    assert run_model(model, batch, "tensor")["object"].heatmap.shape == (2, 3, 16, 16)
    losses = run_model(model, batch, "loss")
    assert set(losses) == {f"object/{name}" for name in ("loss_heatmap", "loss_cls", "loss_box", "matched_iou")}
    total, logged = model.parse_losses(losses)
    assert total.item() == pytest.approx(sum(v.item() for k, v in losses.items() if "loss" in k))
    assert len(run_model(model, batch, "predict")) == 2


def test_order_of_points_does_not_matter():
    model = with_statistics(build_model())
    cloud = scene_points(per_box=20, ground=300)  # below the ten points a voxel keeps
    with torch.no_grad():
        first = run_model(model, make_batch([cloud]), "tensor")["object"]
        second = run_model(model, make_batch([cloud[torch.randperm(len(cloud))]]), "tensor")["object"]
    torch.testing.assert_close(first.heatmap, second.heatmap, rtol=1e-4, atol=1e-4)


def test_samples_of_a_batch_do_not_mix():
    model = with_statistics(build_model())
    clouds = [scene_points(), torch.zeros(0, 5), scene_points(seed=5)]
    batch = make_batch(clouds)
    with torch.no_grad():
        together = run_model(model, batch, "tensor")["object"]
        for index in range(3):
            alone = {key: value[index : index + 1] for key, value in batch["inputs"].items()}
            single = run_model(model, {"inputs": alone, "samples": []}, "tensor")["object"]
            torch.testing.assert_close(together.heatmap[index], single.heatmap[0], rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
def test_gpu_equals_cpu():
    model = with_statistics(build_model())
    batch = make_batch([scene_points(), scene_points(seed=2)])
    with torch.no_grad():
        cpu = run_model(model, batch, "tensor")["object"]
        gpu = run_model(model.cuda(), batch, "tensor")["object"]
        losses = model.heads["object"].loss(gpu, batch["samples"])
        expected = model.cpu().heads["object"].loss(cpu, batch["samples"])
    torch.testing.assert_close(gpu.heatmap.cpu(), cpu.heatmap, rtol=1e-3, atol=1e-3)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name].cpu(), value, rtol=1e-2, atol=1e-3)


def test_predictions_undo_the_augmentation():
    """A model that has learned nothing still says the same boxes, seen from another frame."""
    model = build_model(("lidar",)).eval()
    aug = torch.from_numpy(rotation_z(0.3)).float() * 1.05
    aug[1] *= -1  # mirrored
    aug[:3, 3], aug[3, 3] = torch.tensor([0.5, -0.2, 0.1]), 1.0
    batch = make_batch([scene_points()], images=False)
    turned = make_batch([scene_points()], images=False, lidar_aug=aug[None])
    with torch.no_grad():
        plain, undone = run_model(model, batch, "predict")[0], run_model(model, turned, "predict")[0]
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


def test_the_camera_counts():
    model = with_statistics(build_model())
    batch = make_batch([scene_points()])
    blank = make_batch([scene_points()])
    blank["inputs"]["images"] = torch.zeros_like(batch["inputs"]["images"])
    with torch.no_grad():
        seen, unseen = (run_model(model, b, "tensor")["object"].heatmap for b in (batch, blank))
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
    assert "map/loss_mean" in run_model(model, batch, "loss")
    results = run_model(model, batch, "predict")
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
        (
            dict(encoders={"lidar": torch.nn.Identity()}, image_head=torch.nn.Identity()),
            r"image_head must come with a camera encoder, got the encoders \['lidar'\]",
        ),
    ],
)
def test_wrong_parts_are_named(change, message):
    part = torch.nn.Identity
    parts = dict(encoders={"lidar": part(), "camera": part()}, decoder=part(), heads={"object": part()}, fuser=part())
    with pytest.raises(ValueError, match=message):
        BEVFusion(**parts | change)


def test_wrong_calls_are_named():
    model = build_model(("lidar",))
    with pytest.raises(ValueError, match="mode must be 'tensor', 'loss' or 'predict', got 'train'"):
        model({}, [], mode="train")
    with pytest.raises(ValueError, match="samples must be given for a loss"):
        model({}, None, mode="loss")
    with pytest.raises(ValueError, match=r"SparseEncoder: inputs must hold 'voxels'.*got \['points'\]"):
        model({"points": []}, [], mode="tensor")
