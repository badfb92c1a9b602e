# SPDX-License-Identifier: Apache-2.0
"""Networks. Importing this package puts all of them into the registry."""

from pcperc.models import bevfusion as bevfusion
from pcperc.models import calorimeter as calorimeter
from pcperc.models import pvcnn as pvcnn
from pcperc.models.capture_model import capture_model as capture_model
from pcperc.models.cloud_classifier import CloudClassifier as CloudClassifier
from pcperc.models.cloud_rooms import RoomPreprocessor as RoomPreprocessor
from pcperc.models.cloud_segmentor import CloudSegmentor as CloudSegmentor
from pcperc.models.cloud_shapes import ShapePreprocessor as ShapePreprocessor
from pcperc.models.frustum_detector import FrustumDetector as FrustumDetector
from pcperc.models.frustum_detector import FrustumPreprocessor as FrustumPreprocessor
from pcperc.models.losses import FrustumLoss as FrustumLoss
from pcperc.models.losses import SegmentationLoss as SegmentationLoss
from pcperc.models.minkunet import MinkUNet as MinkUNet
from pcperc.models.on_voxels import OnVoxels as OnVoxels
from pcperc.models.segmentor import Segmentor as Segmentor
from pcperc.models.segmentor import Votes as Votes
from pcperc.models.spvcnn import SPVCNN as SPVCNN
from pcperc.models.spvnas import SPVNAS as SPVNAS
from pcperc.models.spvnas import SuperSegmentor as SuperSegmentor
from pcperc.models.voxel_preprocessor import VoxelPreprocessor as VoxelPreprocessor
