# SPDX-License-Identifier: Apache-2.0
"""PVCNN and PVCNN++, F-PVCNN for frustums, and the networks of points that they are compared with."""

from pcperc.models.pvcnn.frustum import FrustumBoxes as FrustumBoxes
from pcperc.models.pvcnn.frustum import FrustumPVCNN as FrustumPVCNN
from pcperc.models.pvcnn.network import PVCNN as PVCNN
from pcperc.models.pvcnn.network import PVCNNClassifier as PVCNNClassifier
from pcperc.models.pvcnn.plus_plus import PVCNN2 as PVCNN2
from pcperc.models.pvcnn.plus_plus import Down as Down
from pcperc.models.pvcnn.plus_plus import Up as Up
from pcperc.models.pvcnn.published import KITTI_SIZE_TEMPLATES as KITTI_SIZE_TEMPLATES
from pcperc.models.pvcnn.published import frustum_pvcnn_kitti as frustum_pvcnn_kitti
from pcperc.models.pvcnn.published import pointnet2_shapenet as pointnet2_shapenet
from pcperc.models.pvcnn.published import pointnet_s3dis as pointnet_s3dis
from pcperc.models.pvcnn.published import pointnet_shapenet as pointnet_shapenet
from pcperc.models.pvcnn.published import pvcnn2_s3dis as pvcnn2_s3dis
from pcperc.models.pvcnn.published import pvcnn_modelnet as pvcnn_modelnet
from pcperc.models.pvcnn.published import pvcnn_s3dis as pvcnn_s3dis
from pcperc.models.pvcnn.published import pvcnn_shapenet as pvcnn_shapenet
