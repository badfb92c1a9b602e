# SPDX-License-Identifier: Apache-2.0
"""Configs of toy networks of clouds, as text: COMMON with a root, then one of the others; and their training."""

from pcperc.engine.training import TrainOptions, train

COMMON = """
from mmengine.optim import ConstantLR
from torch.optim import Adam

from pcperc.datasets import S3DIS, EpochSampler, KITTIFrustums, ModelNet40, ShapeNetPart, collate
from pcperc.engine.hooks import SafeCheckpointHook
from pcperc.engine.loop import EpochLoop
from pcperc.engine.optim_wrapper import CheckedOptimWrapper
from pcperc.evaluation import ClassificationMetric, KITTIMetric, S3DISMetric, ShapeNetPartMetric
from pcperc.models import (
    CloudClassifier, CloudSegmentor, FrustumDetector, FrustumLoss, FrustumPreprocessor, RoomPreprocessor,
    ShapePreprocessor,
)
from pcperc.models.cloud_segmentor import SHAPENET_PARTS
from pcperc.models.pvcnn import KITTI_SIZE_TEMPLATES, frustum_pvcnn_kitti, pvcnn_modelnet, pvcnn_s3dis, pvcnn_shapenet

data_root = {root!r}


def loader(kind, split, size, shuffle):
    return dict(
        dataset=dict(type=kind, root=data_root, split=split, transforms=[]),
        sampler=dict(type=EpochSampler, shuffle=shuffle),
        batch_size=size,
        collate_fn=dict(type=collate),
    )


test_cfg = dict()
train_cfg = dict(type=EpochLoop, max_epochs=2)
optim_wrapper = dict(type=CheckedOptimWrapper, optimizer=dict(type=Adam, lr=1e-2))
default_hooks = dict(checkpoint=dict(type=SafeCheckpointHook))
seed = 0
"""
PARTS = """
train_dataloader = loader(ShapeNetPart, "sim_train", 8, True)
test_dataloader = loader(ShapeNetPart, "sim_test", 8, False)
test_evaluator = dict(type=ShapeNetPartMetric)
model = dict(
    type=CloudSegmentor,
    data_preprocessor=dict(type=ShapePreprocessor, num_points=64),
    backbone=dict(type=pvcnn_shapenet, width=0.125, resolution_scale=0.125),
    parts=SHAPENET_PARTS,
)
"""
SHAPES = """
train_dataloader = loader(ModelNet40, "train", 4, True)
test_dataloader = loader(ModelNet40, "test", 3, False)
test_evaluator = dict(type=ClassificationMetric)
model = dict(
    type=CloudClassifier,
    data_preprocessor=dict(type=ShapePreprocessor, num_points=32, num_categories=0, replace=False),
    backbone=dict(type=pvcnn_modelnet, width=0.125, resolution_scale=0.125),
)
"""
ROOMS = """
train_dataloader = loader(S3DIS, "sim_train", 2, True)
test_dataloader = loader(S3DIS, "sim_val", 3, False)
test_evaluator = dict(type=S3DISMetric)
model = dict(
    type=CloudSegmentor,
    data_preprocessor=dict(type=RoomPreprocessor, num_points=64, block=None),
    backbone=dict(type=pvcnn_s3dis, width=0.125, resolution_scale=0.125),
)
"""
FRUSTUMS = """
train_dataloader = loader(KITTIFrustums, "sim_train", 4, True)
test_dataloader = loader(KITTIFrustums, "sim_val", 4, False)
test_evaluator = dict(type=KITTIMetric)
model = dict(
    type=FrustumDetector,
    data_preprocessor=dict(type=FrustumPreprocessor, num_points=64),
    network=dict(type=frustum_pvcnn_kitti, width=0.125),
    loss=dict(type=FrustumLoss, templates=KITTI_SIZE_TEMPLATES),
)
"""


def trained_on(root, folder, config):
    """Train a network of ``config`` on the CPU; return the paths of the config and of its checkpoint."""
    path = folder / "tiny.py"
    path.write_text(COMMON.format(root=str(root)) + config)
    return path, train(TrainOptions(path, work_dir=folder / "work", device="cpu"))
