# SPDX-License-Identifier: Apache-2.0
"""SPVNAS, the super network whose subnets tools/search.py compares."""

from mmengine.config import read_base

from pcperc.models.spvnas import SPVNAS, SuperSegmentor

with read_base():
    from .spvcnn import model

model.merge(dict(type=SuperSegmentor, backbone=dict(_delete_=True, type=SPVNAS, in_channels=4, num_classes=19)))
