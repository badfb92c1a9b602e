# SPDX-License-Identifier: Apache-2.0
"""Every config is read and checked; the published recipe's numbers; a step of the demonstration models."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pcperc.datasets import collate
from pcperc.engine.config import load_config, plain_config, restored_config
from pcperc.engine.loading import build_model, open_checkpoint
from pcperc.engine.optim_wrapper import CheckedOptimWrapper
from pcperc.registry import MODELS

DETECTION = ["configs/bevfusion.py", *sorted(map(str, Path("configs/bevfusion").glob("*.py")))]
CALORIMETER = ["configs/calo_spvcnn.py", *sorted(map(str, Path("configs/calo").glob("*.py")))]
SEGMENTATION = ["configs/spvcnn.py", *sorted(map(str, Path("configs/spvnas").glob("*.py")))]
RANGE_51_2 = ("camera_only", "pointpillars", "lidar_map", "fusion_map")  # the published range of these; 54 m of others
LIDAR = sorted(str(p) for name in ("argoverse2", "waymo") for p in Path("configs", name).glob("*.py"))
CLOUDS = ["configs/pvcnn.py", *sorted(map(str, Path("configs/pvcnn").glob("*.py")))]
CONFIGS = sorted(str(p) for p in [*Path("configs").glob("*.py"), *Path("configs").glob("[!_]*/*.py")])


@pytest.mark.parametrize("path", CONFIGS)
def test_every_config_is_read_and_survives_a_checkpoint(path):
    cfg = load_config(path)
    assert {"model", "train_dataloader", "test_dataloader", "optim_wrapper", "train_cfg"} <= set(cfg)
    plain = plain_config(cfg)
    assert plain_config(restored_config(json.loads(json.dumps(plain)))) == plain
    root = cfg.data_root
    for loader in ("train_dataloader", "test_dataloader"):
        dataset = cfg[loader].dataset
        assert (dataset.root, dataset.get("version")) == (root, cfg.get("data_version"))
        for transform in dataset.transforms:
            assert str(transform.get("database", root)).startswith(root)
    # A stage, profile or file that a config names exists beside it.
    named = [cfg.get("first_stage"), *cfg.get("profiles", {}).values()]
    assert all((Path(path).parent / name).is_file() for name in named if name)


@pytest.mark.parametrize("config", ["configs/bevfusion.py", "configs/bevfusion/demo_weights.py"])
def test_the_shipped_weights_fit(config):
    """By the config's demonstration profile, and as they were made; `make demo` and the pages need it."""
    weights = "configs/bevfusion/demo_weights.safetensors"
    opened = open_checkpoint(weights, config, compared=("model",))
    assert opened.simulated and not build_model(opened, torch.device("cpu")).training
    moved = open_checkpoint(weights, config, data_root="data/simulated/nuscenes")
    assert moved.cfg["test_dataloader"]["dataset"]["root"] == "data/simulated/nuscenes"


@pytest.mark.parametrize("path", DETECTION)
def test_the_lidar_range_is_one_everywhere(path):
    """The voxelizer, the filters and the head must mean the same box of space."""
    cfg = load_config(path)
    ranges = set()

    def collect(value):
        if isinstance(value, dict):
            ranges.update([tuple(value["point_range"])] if "point_range" in value else [])
            for item in value.values():
                collect(item)
        elif isinstance(value, list | tuple):
            for item in value:
                collect(item)

    collect({key: cfg[key] for key in ("model", "train_dataloader", "test_dataloader")})
    extent = 51.2 if Path(path).stem.startswith(RANGE_51_2) and not path.endswith("_map_demo.py") else 54.0
    no_points_no_boxes = Path(path).stem.startswith("camera_map")
    assert ranges == (set() if no_points_no_boxes else {(-extent, -extent, -5.0, extent, extent, 3.0)})


@pytest.mark.parametrize(
    ("path", "millions"),
    [
        ("configs/bevfusion.py", 39.80),
        ("configs/bevfusion/lidar_only.py", 8.31),
        ("configs/bevfusion/camera_only.py", 27.52 + 1.59 + 0.224 + 11.039 + 1.345 + 1.520),
        ("configs/bevfusion/lidar_centerhead.py", 2.69 + 4.28 + 0.296 + 1.667),
        ("configs/bevfusion/pointpillars.py", 0.005 + 4.208 + 0.181 + 0.888),
        ("configs/bevfusion/fusion_centerhead.py", 39.80 - 1.035 + 1.667),
        ("configs/bevfusion/camera_map.py", 27.52 + 1.59 + 0.224 + 17.214 + 0.205 + 1.181 + 1.182),
        ("configs/bevfusion/lidar_map.py", 2.69 + 4.28 + 0.296 + 4.724),
        ("configs/bevfusion/fusion_map.py", 27.52 + 1.59 + 0.224 + 2.69 + 0.775 + 4.28 + 0.296 + 4.724),
        ("configs/bevfusion/joint.py", 39.80 + 4.724),
    ],
)
def test_parameters_of_the_published_variants(path, millions):
    """Published totals, or sums of published parts and of formulas (tests/models/test_center_head.py and others)."""
    with torch.device("meta"):
        model = MODELS.build(load_config(path).model)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


def curve(path: str, batches_per_epoch: int) -> list[tuple[float, float]]:
    """Learning rate and momentum before each iteration, as MMEngine's schedulers set them."""
    from mmengine.registry import PARAM_SCHEDULERS

    cfg = load_config(path)
    epochs = cfg.train_cfg.max_epochs
    optimizer = torch.optim.AdamW(nn.Linear(1, 1).parameters(), lr=cfg.optim_wrapper.optimizer.lr)
    wrapper = CheckedOptimWrapper(optimizer=optimizer)
    schedulers = []
    for entry in cfg.param_scheduler:
        entry = {"end": epochs, **entry} if entry.get("by_epoch", True) else dict(entry)
        arguments = {"optimizer": wrapper, "epoch_length": batches_per_epoch}
        schedulers.append(PARAM_SCHEDULERS.build(entry, default_args=arguments))
    points = []
    for _ in range(epochs * batches_per_epoch):
        group = optimizer.param_groups[0]
        points.append((group["lr"], group["betas"][0]))
        wrapper.step()
        for scheduler in schedulers:
            scheduler.step()
    return points


def cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def test_schedule_of_the_lidar_stage():
    """20 epochs; the rate 1e-4 -> 1e-3 -> 1e-8 with the turn at epoch 8, momentum 0.9 -> 0.805 -> 0.9."""
    points = curve("configs/bevfusion/lidar_only.py", 50)
    for iteration in (0, 100, 200, 399, 400, 600, 999):
        up = iteration < 400
        share = iteration / 400 if up else (iteration - 400) / 600
        rate = cosine(1e-4, 1e-3, share) if up else cosine(1e-3, 1e-8, share)
        low = 0.9 * 0.85 / 0.95
        momentum = cosine(0.9, low, share) if up else cosine(low, 0.9, share)
        assert points[iteration] == pytest.approx((rate, momentum), rel=1e-2), iteration
    cfg = load_config("configs/bevfusion/lidar_only.py")
    assert (cfg.optim_wrapper.optimizer.weight_decay, cfg.optim_wrapper.clip_grad.max_norm) == (0.01, 35)
    paste = cfg.train_dataloader.dataset.transforms[0]
    assert (paste.type.__name__, paste.stop_epoch, cfg.train_dataloader.batch_size) == ("GTPaste", 15, 4)


def test_schedule_of_the_fusion_stage():
    """6 epochs; 500 iterations from a third of 2e-4, a cosine to 1e-3 of it."""
    points = curve("configs/bevfusion.py", 1000)
    assert points[0][0] == pytest.approx(2e-4 / 3)
    assert points[250][0] == pytest.approx(cosine(2e-4, 2e-7, 250 / 6000) * (1 / 3 + 2 / 3 / 2), rel=2e-2)
    for iteration in (600, 3000, 5999):
        assert points[iteration][0] == pytest.approx(cosine(2e-4, 2e-7, iteration / 6000), rel=2e-2), iteration
    cfg = load_config("configs/bevfusion.py")
    names = [transform.type.__name__ for transform in cfg.train_dataloader.dataset.transforms]
    assert "GTPaste" not in names and cfg.train_dataloader.sampler.type.__name__ == "ClassBalancedSampler"


def test_schedule_of_the_camera_only_recipe():
    """20 epochs, 2e-4 -> 1e-3 -> 1e-8 with the turn at epoch 8; a tenth of it for the backbone."""
    points = curve("configs/bevfusion/camera_only.py", 50)
    for iteration in (0, 200, 399, 600, 999):
        up = iteration < 400
        rate = cosine(2e-4, 1e-3, iteration / 400) if up else cosine(1e-3, 1e-8, (iteration - 400) / 600)
        assert points[iteration][0] == pytest.approx(rate, rel=1e-2), iteration
    cfg = load_config("configs/bevfusion/camera_only.py")
    keys = cfg.optim_wrapper.paramwise_cfg.custom_keys
    assert keys["encoders.camera.backbone"].lr_mult == 0.1
    assert keys["relative_position_bias_table"].decay_mult == 0.0
    turn = cfg.train_dataloader.dataset.transforms[1]
    assert (turn.scale_range, turn.rotate_range[1], turn.translate_std) == ((0.95, 1.05), 0.3925, 0.0)
    assert cfg.train_dataloader.batch_size == 6 and cfg.test_dataloader.dataset.modalities == ("camera",)


def demo_batch(with_images: bool) -> dict:
    """One made-up sample: a floor of points, a car, six grey images that look forward."""
    rng = np.random.default_rng(0)
    points = np.c_[rng.uniform(-50, 50, (4000, 2)), rng.uniform(-2, 0, 4000), np.full((4000, 2), 1.0)]
    sample = {
        "points": points.astype(np.float32),
        "boxes": np.array([[10, 5, -1, 4, 2, 1.5, 0.3, 1, 0]], np.float32),
        "labels": np.array([0]),
        "lidar_aug": np.eye(4),
        "map_masks": np.indices((6, 100, 100))[1] < 40,
    }
    if with_images:
        forward = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
        sample["images"] = [np.full((128, 352, 3), 90, np.uint8)] * 6
        sample["lidar2camera"] = np.tile(forward, (6, 1, 1))
        sample["camera2image"] = np.tile([[200.0, 0, 176], [0, 200, 64], [0, 0, 1]], (6, 1, 1))
        sample["image_aug"] = np.tile(np.eye(3), (6, 1, 1))
    return collate([sample, sample])


@pytest.mark.parametrize(
    "name", ["demo", "lidar_only_demo", "camera_only_demo", "pointpillars_demo", "camera_map_demo", "joint_demo"]
)
def test_a_step_of_the_demonstration_model(name):
    """Every parameter gets a finite gradient, and a few steps lower the loss on one batch."""
    torch.manual_seed(0)
    model = MODELS.build(load_config(f"configs/bevfusion/{name}.py").model).train()
    assert sum(p.numel() for p in model.parameters()) * 4 < 5e6, "the shipped weights must stay below 5 MB"
    wrapper = CheckedOptimWrapper(optimizer=torch.optim.AdamW(model.parameters(), lr=1e-3), clip_grad={"max_norm": 35})
    batch = demo_batch(with_images=name != "lidar_only_demo")
    losses = []
    for step in range(4):
        with wrapper.optim_context(model):
            loss, _ = model.parse_losses(model(**model.data_preprocessor(batch, True), mode="loss"))
        if step == 0:
            loss.backward(retain_graph=True)
            without = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
            assert not without, "DistributedDataParallel waits for a gradient of every parameter"
            model.zero_grad()
        wrapper.update_params(loss)
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_no_config_is_of_another_kind():
    assert sorted(DETECTION + SEGMENTATION + CALORIMETER + LIDAR + CLOUDS) == CONFIGS


@pytest.mark.parametrize("path", LIDAR)
def test_vehicle_frames_have_one_box_of_space_and_a_class_for_each_category(path):
    cfg = load_config(path)
    head, space = cfg.model.heads.object, (-54.0, -54.0, -3.0, 54.0, 54.0, 5.0)  # the origin is near the road
    ranges = [part.point_range for part in (cfg.model.data_preprocessor.voxelizer, head.box_coder)]
    ranges += [head.criterion.assigner.point_range]
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        ranges += [t.point_range for t in loader.dataset.transforms if "point_range" in t]
    assert len(ranges) == 7 and {tuple(r) for r in ranges} == {space}
    train, test = cfg.train_dataloader.dataset, cfg.test_dataloader.dataset
    found = (train.type.__name__, train.split, test.split, head.num_classes)
    assert found in (("Argoverse2", "train", "val", 26), ("Waymo", "training", "validation", 3))


@pytest.mark.parametrize("path", SEGMENTATION)
def test_a_class_for_every_point(path):
    """The network has as many outputs as the data set has classes, and the published figures of parameters hold."""
    cfg = load_config(path)
    with torch.device("meta"):
        backbone = MODELS.build(cfg.model.backbone)
    outputs = {p.shape[0] for name, p in backbone.named_parameters() if name.endswith("classifier.bias")}
    assert outputs == {16 if "lidarseg" in path else 19}
    published = {"minkunet_cr0p5": 5.435, "minkunet_cr0p64": 8.771, "minkunet_cr1": 21.723}
    published |= {"spvcnn_cr0p5": 5.45, "spvcnn_cr0p64": 8.79, "spvcnn_cr1": 21.78, "spvcnn": 21.78}
    if Path(path).stem in published:
        count = sum(p.numel() for p in backbone.parameters()) / 1e6
        assert count == pytest.approx(published[Path(path).stem], abs=0.005)


def test_published_weights_are_read_as_they_were_trained():
    """One rounded row a voxel, the authors' labels, and the places at which SPVCNN reads voxels."""
    for name in ("spvcnn_cr1", "minkunet_cr1"):
        own, published = (load_config(f"configs/spvnas/{name}{suffix}.py") for suffix in ("", "_published"))
        assert published.model.data_preprocessor.points == "one_per_voxel"
        assert published.model.data_preprocessor.rounding == "round"
        assert published.test_dataloader.dataset.label_map == published.train_dataloader.dataset.label_map == "spvnas"
        assert own.model.data_preprocessor.get("points", "all") == "all"
        assert own.test_dataloader.dataset.label_map == "official"
    assert load_config("configs/spvnas/spvcnn_cr1_published.py").model.backbone.quantized is True


@pytest.mark.parametrize("path", CALORIMETER)
def test_networks_of_calorimeters(path):
    """The network has the grouping's channels and the data set's classes, and the parameters that are asked for."""
    cfg = load_config(path)
    model = MODELS.build(cfg.model)
    expected = {"spvcnn": 5.744, "gravnet": 0.424, "spvcnn_mean_shift": 5.744, "spvcnn_offset": 5.744}
    if Path(path).stem in expected:
        count = sum(p.numel() for p in model.backbone.parameters()) / 1e6
        assert count == pytest.approx(expected[Path(path).stem], abs=0.0015)
    found = model.backbone.eval()(model.data_preprocessor.prepare([torch.zeros(0, 9)]).points)
    assert found.logits.shape == (0, 3) and found.embedding.shape == (0, model.grouping.channels)


def test_the_networks_that_are_compared_are_trained_alike():
    ours, baseline = (load_config(f"configs/calo/{name}.py") for name in ("spvcnn", "gravnet"))
    same = "train_dataloader test_dataloader simulation optim_wrapper param_scheduler train_cfg seed"
    for key in same.split():
        assert plain_config(ours[key]) == plain_config(baseline[key]), key
    for key in ("grouping", "loss"):
        assert plain_config(ours.model[key]) == plain_config(baseline.model[key])


def test_the_published_recipe_of_segmentation():
    cfg = load_config("configs/spvcnn.py")
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.momentum, optimizer.nesterov, optimizer.weight_decay) == (0.24, 0.9, True, 1e-4)
    assert cfg.train_cfg.max_epochs == 15 and cfg.train_dataloader.batch_size == 2 and cfg.optim_wrapper.amp
    assert (cfg.model.data_preprocessor.voxel_size, cfg.model.data_preprocessor.max_voxels) == (0.05, 80_000)
    (transform,) = cfg.train_dataloader.dataset.transforms
    assert transform.scale_range == (0.95, 1.05) and transform.rotate_range[1] == pytest.approx(math.pi)


@pytest.mark.parametrize("path", CLOUDS)
def test_networks_of_clouds(path):
    """The published figures of parameters hold, and the network fits the data set, preprocessor and parts."""
    cfg = load_config(path)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    published = {"pvcnn": 4.200, "shapenet_c1": 4.200, "shapenet_c0p5": 1.059, "shapenet_c0p25": 0.269}
    published |= {"s3dis_c0p125": 0.043, "s3dis_c0p25": 0.166, "s3dis_c1": 2.572, "kitti_frustum": 3.358}
    published |= {"s3dis_pvcnn2_c0p5": 3.436, "s3dis_pvcnn2_c1": 13.710, "parts_simulated_pvcnn": 0.269}
    if Path(path).stem in published:
        count = sum(p.numel() for p in model.parameters()) / 1e6
        assert count == pytest.approx(published[Path(path).stem], abs=0.0006)
    dataset, preprocessor = cfg.test_dataloader.dataset, model.data_preprocessor
    outputs = {"ShapeNetPart": 50, "S3DIS": 13, "ScanNet": 20, "ModelNet40": 40, "KITTIFrustums": 2}
    if dataset.type.__name__ == "KITTIFrustums":
        network, categories = model.network.segmentation, 3
        assert model.network.num_sizes == len(model.loss.templates) == 8 and len(preprocessor.class_templates) == 3
    else:
        network, categories = model.backbone, getattr(model.backbone, "num_categories", 0)
        assert dataset.type.__name__ != "ShapeNetPart" or len(model.class_category) == 50
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    assert last.out_features == outputs[dataset.type.__name__]
    assert preprocessor.num_categories == categories and len(preprocessor.columns) == network.in_channels


def test_the_networks_of_parts_that_are_compared_are_trained_alike():
    ours, *others = (load_config(f"configs/pvcnn/parts_simulated_{n}.py") for n in ("pvcnn", "pointnet", "pointnet2"))
    for other in others:
        same = "train_dataloader test_dataloader simulation optim_wrapper param_scheduler train_cfg seed"
        for key in same.split():
            assert plain_config(ours[key]) == plain_config(other[key]), key
        assert plain_config(ours.model.data_preprocessor) == plain_config(other.model.data_preprocessor)


def test_the_published_recipe_of_parts():
    cfg = load_config("configs/pvcnn.py")
    assert cfg.optim_wrapper.optimizer.type.__name__ == "Adam" and cfg.optim_wrapper.optimizer.lr == 1e-3
    assert cfg.train_cfg.max_epochs == 250 and cfg.train_dataloader.batch_size == 32
    model = MODELS.build(cfg.model)
    preprocessor = model.data_preprocessor
    assert (preprocessor.num_points, preprocessor.votes, preprocessor.jitter) == (2048, 10, (0.01, 0.05))
    rooms = load_config("configs/pvcnn/s3dis_c1.py")
    assert rooms.train_cfg.max_epochs == 50 and rooms.optim_wrapper.optimizer.weight_decay == 1e-5
    assert rooms.model.data_preprocessor.blocks * rooms.train_dataloader.batch_size == 32
