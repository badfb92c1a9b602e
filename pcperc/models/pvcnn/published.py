# SPDX-License-Identifier: Apache-2.0
"""The networks at their published sizes.

Source: Liu, Tang, Lin and Han, "Point-Voxel CNN for Efficient 3D Deep Learning", NeurIPS 2019, and the code published
with it; the PointNets as in Qi et al., CVPR 2017 and NeurIPS 2017, and the Frustum PointNets of CVPR 2018.
"""

from pcperc.models.pvcnn.frustum import FrustumPVCNN
from pcperc.models.pvcnn.network import PVCNN, PVCNNClassifier
from pcperc.models.pvcnn.plus_plus import PVCNN2, Down, Up
from pcperc.registry import MODELS

# Mean length, width and height in metres of KITTI's labelled objects: Car, Van, Truck, Pedestrian, Person_sitting,
# Cyclist, Tram, Misc. Source: the code published with Frustum PointNets, whose weights are relative to these numbers.
KITTI_SIZE_TEMPLATES = (
    (3.88311640418, 1.62856739989, 1.52563191462),
    (5.06763659, 1.9007158, 2.20532825),
    (10.13586957, 2.58549199, 3.2520595),
    (0.84422524, 0.66068622, 1.76255119),
    (0.80057803, 0.5983815, 1.27450867),
    (1.76282397, 0.59706367, 1.73698127),
    (16.17150617, 2.53246914, 3.53079012),
    (3.64300781, 1.54298177, 1.92320313),
)


@MODELS.register_module()
def pvcnn_s3dis(num_classes: int = 13, *, width: float = 1.0, resolution_scale: float = 1.0) -> PVCNN:
    """PVCNN for rooms: points with 9 features, x, y, z in metres, red, green, blue, x, y, z as parts of the room."""
    return PVCNN(
        9,
        num_classes,
        blocks=((64, 1, 32), (64, 2, 16), (128, 1, 16), (1024, 1, None)),
        cloud_channels=(256, 128),
        classifier=(512, 0.3, 256, 0.3),
        width=width,
        resolution_scale=resolution_scale,
    )


@MODELS.register_module()
def pvcnn2_s3dis(num_classes: int = 13, *, width: float = 1.0, resolution_scale: float = 1.0) -> PVCNN2:
    """PVCNN++ for rooms; points as for :func:`pvcnn_s3dis`, coordinates in metres."""
    return PVCNN2(
        9,
        num_classes,
        downs=(
            Down([(32, 2, 32)], (32, 64), 1024, 0.1, 32),
            Down([(64, 3, 16)], (64, 128), 256, 0.2, 32),
            Down([(128, 3, 8)], (128, 256), 64, 0.4, 32),
            Down([], (256, 256, 512), 16, 0.8, 32),
        ),
        ups=(
            Up((256, 256), [(256, 1, 8)]),
            Up((256, 256), [(256, 1, 8)]),
            Up((256, 128), [(128, 2, 16)]),
            Up((128, 128, 64), [(64, 1, 32)]),
        ),
        classifier=(128, 0.5),
        with_se=True,
        width=width,
        resolution_scale=resolution_scale,
    )


@MODELS.register_module()
def pvcnn_shapenet(
    num_classes: int = 50, num_categories: int = 16, *, width: float = 1.0, resolution_scale: float = 1.0
) -> PVCNN:
    """PVCNN for parts of shapes in the unit sphere: points with 6 features, x, y, z and the normal."""
    return PVCNN(
        6,
        num_classes,
        blocks=((64, 1, 32), (128, 2, 16), (512, 1, None), (2048, 1, None)),
        classifier=(256, 0.2, 256, 0.2, 128),
        num_categories=num_categories,
        with_se=True,
        normalize=False,
        width=width,
        resolution_scale=resolution_scale,
    )


@MODELS.register_module()
def frustum_pvcnn_kitti(num_categories: int = 3, *, width: float = 1.0) -> FrustumPVCNN:
    """F-PVCNN for KITTI: points with 4 features, x, y, z in metres in the frustum's frame and intensity."""
    segmentation = PVCNN(
        4,
        2,
        blocks=((64, 2, 16), (64, 1, 12), (128, 1, 12), (1024, 1, None)),
        classifier=(512, 256, 128, 128, 0.5),
        num_categories=num_categories,
        concat_layers=False,
        width=width,
    )
    return FrustumPVCNN(segmentation, num_sizes=len(KITTI_SIZE_TEMPLATES), width=width)


@MODELS.register_module()
def pvcnn_modelnet(num_classes: int = 40, *, width: float = 1.0, resolution_scale: float = 1.0) -> PVCNNClassifier:
    """PVCNN for the category of a shape; points as for :func:`pvcnn_shapenet`, whose layers these are.

    Nothing of the kind was published: the head is that of PointNet's classifier.
    """
    return PVCNNClassifier(
        6,
        num_classes,
        blocks=((64, 1, 32), (128, 2, 16), (512, 1, None), (2048, 1, None)),
        head=(512, 256, 0.3),
        with_se=True,
        normalize=False,
        width=width,
        resolution_scale=resolution_scale,
    )


@MODELS.register_module()
def pointnet_s3dis(num_classes: int = 13, *, width: float = 1.0) -> PVCNN:
    """PointNet for rooms; points as for :func:`pvcnn_s3dis`."""
    return PVCNN(
        9,
        num_classes,
        blocks=((64, 3, None), (128, 1, None), (1024, 1, None)),
        cloud_channels=(256, 128),
        classifier=(512, 256, 0.3),
        concat_layers=False,
        width=width,
    )


@MODELS.register_module()
def pointnet_shapenet(num_classes: int = 50, num_categories: int = 16, *, width: float = 1.0) -> PVCNN:
    """PointNet, without its learned transforms, for parts of shapes; points as for :func:`pvcnn_shapenet`."""
    return PVCNN(
        6,
        num_classes,
        blocks=((64, 1, None), (128, 2, None), (512, 1, None), (2048, 1, None)),
        classifier=(256, 0.2, 256, 0.2, 128),
        num_categories=num_categories,
        width=width,
    )


@MODELS.register_module()
def pointnet2_shapenet(num_classes: int = 50, num_categories: int = 16, *, width: float = 1.0) -> PVCNN2:
    """PointNet++ with single-scale grouping for parts of shapes; points as for :func:`pvcnn_shapenet`."""
    return PVCNN2(
        6,
        num_classes,
        downs=(
            Down([], (64, 64, 128), 512, 0.2, 64),
            Down([], (128, 128, 256), 128, 0.4, 64),
            Down([], (256, 512, 1024)),
        ),
        ups=(Up((256, 256)), Up((256, 128)), Up((128, 128, 128))),
        classifier=(128, 0.5),
        num_categories=num_categories,
        skip_first=0,
        width=width,
    )
