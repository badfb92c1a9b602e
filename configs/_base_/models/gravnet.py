# SPDX-License-Identifier: Apache-2.0
"""GravNet at its published size, trained by object condensation and clustered by it at the radius published with it.

As published it gives each hit a charge and 3 coordinates; beside them three classes, as SPVCNN does.
"""

from pcperc.models import SegmentationLoss
from pcperc.models.calorimeter import GravNet, HitClusterer, HitPreprocessor, ObjectCondensation

model = dict(
    type=HitClusterer,
    data_preprocessor=dict(type=HitPreprocessor),
    backbone=dict(type=GravNet, in_channels=5, num_classes=3, embedding_channels=4),
    grouping=dict(type=ObjectCondensation, dims=3, radius=1.0),
    loss=dict(type=SegmentationLoss, cross_entropy=1.0, lovasz=1.0),
)
