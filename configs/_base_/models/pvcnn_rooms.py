# SPDX-License-Identifier: Apache-2.0
"""PVCNN of S3DIS at full width: 2.572M parameters, 4096 points of blocks of 1.5 m, 8 blocks of each room in a step."""

from pcperc.models import CloudSegmentor, RoomPreprocessor
from pcperc.models.pvcnn import pvcnn_s3dis

model = dict(
    type=CloudSegmentor,
    data_preprocessor=dict(type=RoomPreprocessor, num_points=4096, block=1.5, blocks=8),
    backbone=dict(type=pvcnn_s3dis),
)
