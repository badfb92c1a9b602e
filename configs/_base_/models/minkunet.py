# SPDX-License-Identifier: Apache-2.0
"""MinkUNet of SemanticKITTI at full width: 21.7M parameters; each point takes the class of its voxel."""

from mmengine.config import read_base

from pcperc.models import MinkUNet, OnVoxels

with read_base():
    from .spvcnn import model

model.merge(dict(backbone=dict(_delete_=True, type=OnVoxels, net=dict(type=MinkUNet, in_channels=4, num_classes=19))))
