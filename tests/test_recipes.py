# SPDX-License-Identifier: Apache-2.0
"""The published recipes: schedules, augmentation, sizes of batches; what is compared is trained alike."""

import math

import pytest
import torch
from torch import nn

from pcperc.engine.config import load_config, plain_config
from pcperc.engine.optim_wrapper import CheckedOptimWrapper
from pcperc.registry import MODELS


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


def test_the_networks_that_are_compared_are_trained_alike():
    ours, baseline = (load_config(f"configs/calo/{name}.py") for name in ("spvcnn_condensation", "gravnet"))
    same = "train_dataloader test_dataloader simulation optim_wrapper param_scheduler train_cfg seed"
    for key in same.split():
        assert plain_config(ours[key]) == plain_config(baseline[key]), key
    assert plain_config(ours.model.loss) == plain_config(baseline.model.loss)
    own = {"radius": 1.0, "dims": 3}  # each has its own published ones
    assert plain_config(ours.model.grouping) | own == plain_config(baseline.model.grouping)


def test_the_published_values_of_groupings():
    """Of CMS's SPVCNN (space, thresholds), pytorch_cmspepr (charges; GravNet's own) and calo-cluster (the others)."""
    for name, dims, radius in (("spvcnn_condensation", 6, 0.7), ("gravnet", 3, 1.0)):
        grouping = MODELS.build(load_config(f"configs/calo/{name}.py").model.grouping)
        assert (grouping.channels, grouping.q_min, grouping.noise_weight, grouping.weight) == (1 + dims, 1.0, 0.1, 1.0)
        assert (grouping.radius, grouping.min_beta) == (radius, 0.1)
    embedding = MODELS.build(load_config("configs/calo/spvcnn_mean_shift.py").model.grouping)
    assert (embedding.channels, embedding.pull_margin, embedding.push_margin, embedding.weight) == (8, 0.5, 1.5, 1.0)
    assert MODELS.build(load_config("configs/calo/spvcnn_offset.py").model.grouping).weight == 0.1


def test_the_published_recipe_of_segmentation():
    cfg = load_config("configs/spvcnn.py")
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.momentum, optimizer.nesterov, optimizer.weight_decay) == (0.24, 0.9, True, 1e-4)
    assert cfg.train_cfg.max_epochs == 15 and cfg.train_dataloader.batch_size == 2 and cfg.optim_wrapper.amp
    assert (cfg.model.data_preprocessor.voxel_size, cfg.model.data_preprocessor.max_voxels) == (0.05, 80_000)
    (transform,) = cfg.train_dataloader.dataset.transforms
    assert transform.scale_range == (0.95, 1.05) and transform.rotate_range[1] == pytest.approx(math.pi)


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
    for name in ("s3dis_pvcnn2_c0p5", "s3dis_pvcnn2_c1", "s3dis_c0p125", "s3dis_c0p25"):
        cfg, points = load_config(f"configs/pvcnn/{name}.py"), 8192 if "pvcnn2" in name else 4096
        assert cfg.train_cfg.max_epochs == 50 and cfg.optim_wrapper.optimizer.weight_decay == 1e-5
        assert cfg.model.data_preprocessor.num_points == points and cfg.train_dataloader.batch_size == 4
    blocks = load_config("configs/pvcnn/s3dis_blocks.py")
    assert blocks.train_cfg.max_epochs == 50 and blocks.optim_wrapper.optimizer.weight_decay == 1e-5
    assert blocks.train_dataloader.batch_size == 32 and blocks.test_evaluator.votes == "highest"
    preprocessor = MODELS.build(blocks.model).data_preprocessor
    assert (preprocessor.num_points, preprocessor.block) == (4096, None)


def test_the_published_recipe_of_frustums():
    cfg = load_config("configs/pvcnn/kitti_frustum.py")
    optimizer, train = cfg.optim_wrapper.optimizer, cfg.train_dataloader
    assert (cfg.train_cfg.max_epochs, train.batch_size, optimizer.lr) == (209, 32, 1e-3)
    model = MODELS.build(cfg.model)
    network, points = model.network, model.data_preprocessor.num_points
    assert (points, network.object_points, network.num_headings, network.num_sizes) == (1024, 512, 12, 8)
    assert model.data_preprocessor.flip and cfg.train_dataloader.dataset.min_height == 25
