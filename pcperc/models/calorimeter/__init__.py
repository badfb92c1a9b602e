# SPDX-License-Identifier: Apache-2.0
"""Networks that find the showers in calorimeter hits."""

from pcperc.models.calorimeter.calo_spvcnn import CaloSPVCNN, HitOutputs
from pcperc.models.calorimeter.clusterer import HitClusterer
from pcperc.models.calorimeter.clustering import condense, mean_shift
from pcperc.models.calorimeter.gravnet import GravNet
from pcperc.models.calorimeter.grouping import CentreOffset, DiscriminativeEmbedding, ObjectCondensation
from pcperc.models.calorimeter.preprocessor import HitPreprocessor, PreparedHits

__all__ = [
    "CaloSPVCNN",
    "CentreOffset",
    "DiscriminativeEmbedding",
    "GravNet",
    "HitClusterer",
    "HitOutputs",
    "HitPreprocessor",
    "ObjectCondensation",
    "PreparedHits",
    "condense",
    "mean_shift",
]
