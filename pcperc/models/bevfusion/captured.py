# SPDX-License-Identifier: Apache-2.0
"""BEVFusion for inference with its parts as CUDA graphs."""

import logging

from torch import Tensor, nn

from pcperc import nn as spnn
from pcperc.models.bevfusion.camera_encoder import CameraEncoder
from pcperc.models.bevfusion.detector import BEVFusion
from pcperc.models.bevfusion.lidar_encoder import SparseEncoder
from pcperc.models.bevfusion.view_transform import LSSTransform
from pcperc.nn.cuda_graph import SideStream
from pcperc.sparse import SparseTensor


def capture_frame(model: BEVFusion, *, capacity: int) -> None:
    """Put the parts of a model into CUDA graphs, in place, and the model into eval mode, for good.

    Five graphs: the camera's backbone and neck; the view transform up to its pooling; the convolutions behind the
    pooling; the LiDAR encoder; fuser, decoder and heads. Between them run what depends on the points: voxelization, the
    drawing and the pooling of the view transform, and the decoding of boxes. The first graph has a stream of its own,
    beside the drawing and the plan of the pooling. Each graph is captured by the first call for a form of its input and
    gives the results that the part gives. An encoder that is neither a ``SparseEncoder`` nor a ``CameraEncoder`` with
    an ``LSSTransform`` runs as it is, with a warning.

    Args:
        model: its parameters may change in place, but must stay where they are.
        capacity: voxels of a batch that the LiDAR encoder's graph has room for; without the graph it runs above.
    Raises:
        RuntimeError: this machine has no CUDA device.
    """
    model.eval()
    for name, encoder in model.encoders.items():
        if isinstance(encoder, CameraEncoder) and isinstance(encoder.view_transform, LSSTransform):
            model.encoders[name] = CapturedCameraEncoder(encoder)
        elif isinstance(encoder, SparseEncoder):
            model.encoders[name] = CapturedSparseEncoder(encoder, capacity=capacity)
        else:
            message = "capture_frame: the encoder '%s' runs without a CUDA graph, which a %s does not have"
            logging.getLogger(__name__).warning(message, name, type(encoder).__name__)
    model.captured_read_out = spnn.capture_dense(_ReadOut(model).eval())
    model.eval()  # what was put in, too


class CapturedSparseEncoder(nn.Module):
    """A :class:`SparseEncoder` in eval mode as a CUDA graph; arguments and errors of :func:`pcperc.nn.capture`."""

    def __init__(self, encoder: SparseEncoder, *, capacity: int):
        super().__init__()
        self.encoder = encoder
        self.captured = spnn.capture(_OfVoxels(encoder).eval(), capacity=capacity)

    def forward(self, inputs: dict) -> Tensor:
        return self.captured(inputs["voxels"]) if "voxels" in inputs else self.encoder(inputs)


class CapturedCameraEncoder(nn.Module):
    """A :class:`CameraEncoder` in eval mode as CUDA graphs: image features, the lift, and what lies behind the pooling.

    The features need the images alone, so they are made beside the drawing and the plan, which wait for the GPU.
    """

    def __init__(self, encoder: CameraEncoder):
        super().__init__()
        self.encoder = encoder
        self.image_feats = spnn.capture_dense(_ImageFeats(encoder).eval())
        self.lift = spnn.capture_dense(_Lift(encoder.view_transform).eval())
        behind = encoder.view_transform.downsample
        self.downsample = behind if isinstance(behind, nn.Identity) else spnn.capture_dense(behind)
        self._side = SideStream()

    @property
    def out_channels(self) -> int:
        return self.encoder.out_channels

    def forward(self, inputs: dict) -> Tensor:
        view_transform = self.encoder.view_transform
        image_feats = self._side.start(self.image_feats, inputs["images"])
        drawn, plan = view_transform.drawn(inputs), view_transform.plan(inputs)
        context, weight = self.lift(image_feats(), *drawn)
        return self.downsample(view_transform.pool(context, weight, plan))


class _OfVoxels(nn.Module):
    def __init__(self, encoder: SparseEncoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, voxels: SparseTensor) -> Tensor:
        return self.encoder({"voxels": voxels})


class _ImageFeats(nn.Module):
    def __init__(self, encoder: CameraEncoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        return self.encoder.image_feats(images)


class _Lift(nn.Module):
    def __init__(self, view_transform: LSSTransform):
        super().__init__()
        self.view_transform = view_transform

    def forward(self, image_feats: Tensor, *drawn: Tensor) -> tuple[Tensor, Tensor]:
        return self.view_transform.lift(image_feats, *drawn)


class _ReadOut(nn.Module):
    """``BEVFusion.read_out`` without the encoders."""

    def __init__(self, model: BEVFusion):
        super().__init__()
        self.fuser, self.decoder, self.heads = model.fuser, model.decoder, model.heads

    def forward(self, tasks: tuple[str, ...], *features: Tensor) -> dict:
        return BEVFusion.read_out(self, tasks, *features)
