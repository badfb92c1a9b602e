# SPDX-License-Identifier: Apache-2.0
"""F-PVCNN of KITTI: 3.358M parameters, 1024 points of a frustum, 512 of the object."""

from pcperc.models import FrustumDetector, FrustumLoss, FrustumPreprocessor
from pcperc.models.pvcnn import KITTI_SIZE_TEMPLATES, frustum_pvcnn_kitti

model = dict(
    type=FrustumDetector,
    data_preprocessor=dict(type=FrustumPreprocessor, num_points=1024),
    network=dict(type=frustum_pvcnn_kitti),
    loss=dict(type=FrustumLoss, templates=KITTI_SIZE_TEMPLATES),
)
