# SPDX-License-Identifier: Apache-2.0
"""Calo-SPVCNN at half the width of SPVCNN, voxels of 1 cm, trained and clustered by object condensation.

All losses have weight 1, condensation as published with GravNet. CMS's SPVCNN has 0.08 for condensation and 0.3 for
each of the others; its code was not at hand, so that how it sums condensation up is not known.
"""

from pcperc.models import SegmentationLoss
from pcperc.models.calorimeter import CaloSPVCNN, HitClusterer, HitPreprocessor, ObjectCondensation

model = dict(
    type=HitClusterer,
    data_preprocessor=dict(type=HitPreprocessor, voxel_size=1.0),
    backbone=dict(type=CaloSPVCNN, in_channels=5, num_classes=3, embedding_channels=7, width=0.5),
    grouping=dict(type=ObjectCondensation, dims=6),
    loss=dict(type=SegmentationLoss, cross_entropy=1.0, lovasz=1.0),
)
