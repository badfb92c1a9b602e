# SPDX-License-Identifier: Apache-2.0
"""SPVCNN of SemanticKITTI at full width: 21.8M parameters; the points at their true place within voxels of 5 cm."""

from pcperc.models import Segmentor, VoxelPreprocessor
from pcperc.models.losses import SegmentationLoss
from pcperc.models.spvcnn import SPVCNN

model = dict(
    type=Segmentor,
    data_preprocessor=dict(type=VoxelPreprocessor, voxel_size=0.05, max_voxels=80_000),
    backbone=dict(type=SPVCNN, in_channels=4, num_classes=19),
    loss=dict(type=SegmentationLoss),
)
