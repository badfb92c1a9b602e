# SPDX-License-Identifier: Apache-2.0
"""PVCNN of ShapeNet-Part at full width: 4.200M parameters, 2048 points, ten votes."""

from pcperc.models import CloudSegmentor, ShapePreprocessor
from pcperc.models.cloud_segmentor import SHAPENET_PARTS
from pcperc.models.pvcnn import pvcnn_shapenet

model = dict(
    type=CloudSegmentor,
    data_preprocessor=dict(type=ShapePreprocessor, num_points=2048, votes=10),
    backbone=dict(type=pvcnn_shapenet),
    parts=SHAPENET_PARTS,
)
