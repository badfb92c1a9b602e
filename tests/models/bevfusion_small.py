# SPDX-License-Identifier: Apache-2.0
"""A BEVFusion of a few thousand parameters and a made-up scene for it, shared by the tests of its parts."""

import math

import torch

from pcperc.models.bevfusion.bev_decoder import SECOND, SECONDFPN, BEVDecoder
from pcperc.models.bevfusion.box_coder import BoxCoder
from pcperc.models.bevfusion.camera_encoder import CameraEncoder
from pcperc.models.bevfusion.data_preprocessor import BEVFusionPreprocessor, HardVoxelizer
from pcperc.models.bevfusion.depth_view_transform import DepthLSSTransform
from pcperc.models.bevfusion.detector import BEVFusion
from pcperc.models.bevfusion.fuser import ConvFuser
from pcperc.models.bevfusion.lidar_encoder import SparseEncoder
from pcperc.models.bevfusion.lss_fpn import GeneralizedLSSFPN
from pcperc.models.bevfusion.swin import SwinTransformer
from pcperc.models.bevfusion.target_assigner import HungarianAssigner
from pcperc.models.bevfusion.transfusion_head import TransFusionHead
from pcperc.models.bevfusion.transfusion_loss import TransFusionLoss
from pcperc.registry import MODELS

POINT_RANGE = (-8.0, -8.0, -3.0, 8.0, 8.0, 1.0)
BOXES = [[3.2, -2.4, -1.0, 4.0, 1.8, 1.6, 0.5, 2, 1], [-4.1, 4.3, -1.2, 0.7, 0.6, 1.7, 2.0, 0, 0.5]]
LABELS = [0, 1]
IMAGE_SIZE = (32, 64)


def small_config(*, modalities=("camera", "lidar")) -> dict:
    """Cells of 1 m on a 16 x 16 grid, three classes."""
    voxelizer = dict(type=HardVoxelizer, voxel_size=(0.25,) * 3, point_range=POINT_RANGE, spatial_shape=(64, 64, 17))
    encoders = dict(
        lidar=dict(
            type=SparseEncoder, stages=((16, 16), (16, 24), (24,)), strided_paddings=(1, (1, 1, 0)), out_channels=24
        ),
        camera=dict(
            type=CameraEncoder,
            backbone=dict(type=SwinTransformer, embed_channels=8, depths=(1, 1), num_heads=(1, 2), out_stages=(0, 1)),
            neck=dict(type=GeneralizedLSSFPN, in_channels=(8, 16), out_channels=8),
            view_transform=dict(
                type=DepthLSSTransform,
                in_channels=8,
                out_channels=8,
                x_bound=(-8.0, 8.0, 1.0),
                y_bound=(-8.0, 8.0, 1.0),
                depth_bound=(1.0, 12.0, 1.0),
                downsample=1,
                feature_stride=4,
            ),
        ),
    )
    channels = {"camera": 8, "lidar": 24}
    fused = channels[modalities[-1]]
    fuser = dict(type=ConvFuser, in_channels=tuple(channels[name] for name in modalities), out_channels=fused)
    return dict(
        type=BEVFusion,
        data_preprocessor=dict(type=BEVFusionPreprocessor, voxelizer=voxelizer if "lidar" in modalities else None),
        encoders={name: encoders[name] for name in modalities},
        fuser=fuser if len(modalities) > 1 else None,
        decoder=dict(
            type=BEVDecoder,
            backbone=dict(type=SECOND, in_channels=fused, out_channels=(24, 24), num_convs=(1, 1)),
            neck=dict(type=SECONDFPN, in_channels=(24, 24), out_channels=(16, 16)),
        ),
        heads=dict(
            object=dict(
                type=TransFusionHead,
                in_channels=32,
                num_classes=3,
                hidden_channels=32,
                num_proposals=16,
                num_heads=2,
                ffn_channels=32,
                branch_channels=16,
                crowded_classes=(2,),
                box_coder=dict(type=BoxCoder, point_range=POINT_RANGE, cell_size=(1.0, 1.0)),
                criterion=dict(type=TransFusionLoss, assigner=dict(type=HungarianAssigner, point_range=POINT_RANGE)),
            )
        ),
    )


def small_model(*, downsample=2, **options) -> BEVFusion:
    """In eval mode, with random statistics; ``downsample`` is that of the view transform, over the same space."""
    torch.manual_seed(0)
    cfg = small_config(**options)
    if "camera" in cfg["encoders"]:
        side = 0.5 if downsample == 2 else 1.0
        bounds = dict(x_bound=(-8.0, 8.0, side), y_bound=(-8.0, 8.0, side))
        cfg["encoders"]["camera"]["view_transform"].update(downsample=downsample, **bounds)
    model = MODELS.build(cfg).eval()
    for module in model.modules():
        if hasattr(module, "running_var"):
            module.running_mean.normal_(0, 0.1), module.running_var.uniform_(0.5, 1.5)
    return model


def scene_points(boxes=BOXES, *, per_box: int = 150, ground: int = 600, seed: int = 0) -> torch.Tensor:
    """Points (N, 5) inside upright boxes and on the ground."""
    generator = torch.Generator().manual_seed(seed)
    clouds = []
    for x, y, z, length, width, height, yaw, *_ in boxes:
        local = (torch.rand(per_box, 3, generator=generator) - 0.5) * torch.tensor([length, width, height])
        cos, sin = math.cos(yaw), math.sin(yaw)
        turn = torch.tensor([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        clouds.append(local @ turn.T + torch.tensor([x, y, z]))
    flat = torch.rand(ground, 3, generator=generator) * torch.tensor([16, 16, 0.05]) + torch.tensor([-8, -8, -2.2])
    xyz = torch.cat([*clouds, flat])
    return torch.cat([xyz, torch.full_like(xyz[:, :1], 20.0), torch.zeros_like(xyz[:, :1])], 1)


def camera_matrices(views: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """``lidar2camera`` (V, 4, 4) of cameras in the LiDAR looking along +x, -x, ... and ``camera2image`` (V, 3, 3)."""
    lidar2camera = []
    for view in range(views):
        yaw = 2 * math.pi * view / views
        forward, left = (math.cos(yaw), math.sin(yaw), 0.0), (-math.sin(yaw), math.cos(yaw), 0.0)
        rows = [[-v for v in left], [0.0, 0.0, -1.0], list(forward)]
        matrix = torch.eye(4)
        matrix[:3, :3] = torch.tensor(rows)
        lidar2camera.append(matrix)
    camera2image = torch.tensor([[30.0, 0, 31.5], [0, 30.0, 15.5], [0, 0, 1]]).expand(views, 3, 3)
    return torch.stack(lidar2camera), camera2image.clone()


def make_batch(clouds, *, boxes=None, labels=None, images: bool = True, lidar_aug=None) -> dict:
    """A batch as ``collate`` gives it, with noise for images."""
    count = len(clouds)
    boxes = [BOXES] * count if boxes is None else boxes
    labels = [LABELS] * count if labels is None else labels
    inputs = {"points": list(clouds), "lidar_aug": torch.eye(4).repeat(count, 1, 1) if lidar_aug is None else lidar_aug}
    if images:
        lidar2camera, camera2image = camera_matrices()
        generator = torch.Generator().manual_seed(1)
        inputs["images"] = torch.randint(0, 256, (count, 2, 3, *IMAGE_SIZE), generator=generator, dtype=torch.uint8)
        inputs["lidar2camera"] = lidar2camera.repeat(count, 1, 1, 1)
        inputs["camera2image"] = camera2image.repeat(count, 1, 1, 1)
        inputs["image_aug"] = torch.eye(3).repeat(count, 2, 1, 1)
    samples = [
        {"boxes": torch.tensor(b, dtype=torch.float32).view(-1, 9), "labels": torch.tensor(c, dtype=torch.int64)}
        for b, c in zip(boxes, labels, strict=True)
    ]
    return {"inputs": inputs, "samples": samples}


def build_model(modalities=("camera", "lidar")) -> BEVFusion:
    """The model of ``small_config`` in training mode."""
    return MODELS.build(small_config(modalities=modalities))


def run_model(model, batch, mode):
    """What the model gives in a mode, after its own preprocessor."""
    return model(**model.data_preprocessor(batch, model.training), mode=mode)


def with_statistics(model: BEVFusion) -> BEVFusion:
    """Set the running statistics from one batch; untouched ones let the signal fade from layer to layer. Eval mode."""
    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the plain average
    with torch.no_grad():
        run_model(model.train(), make_batch([scene_points(seed=7), scene_points(seed=8)]), "tensor")
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()
