# SPDX-License-Identifier: Apache-2.0
"""BEVFusion for inference with its parts as CUDA graphs."""

import logging
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from pcperc import nn as spnn
from pcperc.models.bevfusion.camera_encoder import CameraEncoder
from pcperc.models.bevfusion.detector import BEVFusion
from pcperc.models.bevfusion.lidar_encoder import SparseEncoder
from pcperc.models.bevfusion.view_transform import LSSTransform
from pcperc.nn.cuda_graph import SideStream, require_cuda
from pcperc.ops._checks import positive_int
from pcperc.sparse import SparseTensor


def capture_frame(model: BEVFusion, *, capacity: int) -> None:
    """Put the parts of a model into CUDA graphs, in place, and the model into eval mode, for good.

    Five graphs: the camera's backbone and neck; the view transform up to its pooling; the convolutions behind the
    pooling; the LiDAR encoder; fuser, decoder and heads. Between them run what depends on the points: voxelization, the
    drawing and the pooling of the view transform, and the decoding of boxes. The first graph has a stream of its own,
    beside the drawing and the plan of the pooling. Each graph is captured by the first call for a form of its input and
    gives the results that the part gives. An encoder that is neither a ``SparseEncoder`` nor a ``CameraEncoder`` with
    an ``LSSTransform`` runs as it is, with a warning.

    The graphs are in ``model.captured``. They own no parameters: the model's state dict stays what it is. Hooks of
    modules that a graph replays are not called.

    Args:
        model: its parameters may change in place, but must stay where they are.
        capacity: voxels of a batch that the LiDAR encoder's graph has room for; without the graph it runs above.
    Raises:
        TypeError: another model, or a capacity that is no whole number.
        ValueError: a capacity below 1, or a model that is captured already; of a call: images or voxels that are not on
            a CUDA device.
        RuntimeError: this machine has no CUDA device.
    """
    if not isinstance(model, BEVFusion):
        raise TypeError(f"capture_frame: model must be a BEVFusion, got a {type(model).__name__}")
    capacity = positive_int("capture_frame", "capacity", capacity)
    if model.captured:
        raise ValueError("capture_frame: model must be one that is not captured yet")
    require_cuda("capture_frame")
    model.eval()
    parts: dict[str, nn.Module] = {"read_out": spnn.capture_dense(_Part(model, model.read_out))}
    for name, encoder in model.encoders.items():
        if isinstance(encoder, CameraEncoder) and isinstance(encoder.view_transform, LSSTransform):
            parts[name] = CapturedCameraEncoder(encoder)
        elif isinstance(encoder, SparseEncoder):
            parts[name] = CapturedSparseEncoder(encoder, capacity=capacity)
        else:
            message = "capture_frame: the encoder '%s' runs without a CUDA graph, which a %s does not have"
            logging.getLogger(__name__).warning(message, name, type(encoder).__name__)
    model.captured.update(parts)
    model.captured.eval()


class CapturedSparseEncoder(nn.Module):
    """A :class:`SparseEncoder` in eval mode as a CUDA graph; arguments and errors of :func:`pcperc.nn.capture`."""

    def __init__(self, encoder: SparseEncoder, *, capacity: int):
        super().__init__()
        self._eager = encoder.forward
        self.captured = spnn.capture(_OfVoxels(encoder, encoder.forward), capacity=capacity)

    def forward(self, inputs: dict) -> Tensor:
        return self.captured(inputs["voxels"]) if "voxels" in inputs else self._eager(inputs)


class CapturedCameraEncoder(nn.Module):
    """A :class:`CameraEncoder` in eval mode as CUDA graphs: image features, the lift, and what lies behind the pooling.

    The features need the images alone, so they are made beside the drawing and the plan, which wait for the GPU.
    """

    def __init__(self, encoder: CameraEncoder):
        super().__init__()
        view_transform = encoder.view_transform
        self.__dict__["_view_transform"] = view_transform  # not a child: its state has its place in the model
        behind = view_transform.downsample
        self.image_feats = spnn.capture_dense(_Part(encoder, encoder.image_feats))
        self.lift = spnn.capture_dense(_Part(view_transform, view_transform.lift))
        is_empty = isinstance(behind, nn.Identity)
        self.downsample = behind if is_empty else spnn.capture_dense(_Part(behind, behind.forward))
        self._side = SideStream("capture_frame")

    def forward(self, inputs: dict) -> Tensor:
        view_transform = self._view_transform
        join = self._side.start(self.image_feats, inputs["images"])
        drawn, plan = view_transform.drawn(inputs), view_transform.plan(inputs)
        image_feats = join()
        view_transform.check_image_feats(image_feats, inputs)
        context, weight = self.lift(image_feats, *drawn)
        return self.downsample(view_transform.pool(context, weight, plan))


class _Part(nn.Module):
    """A method of a module as a module, in the same mode, without parameters of its own."""

    def __init__(self, owner: nn.Module, method: Callable[..., Any]):
        super().__init__()
        self._method = method
        self.train(any(module.training for module in owner.modules()))

    def forward(self, *inputs: Any) -> Any:
        return self._method(*inputs)


class _OfVoxels(_Part):
    """The forward pass of a :class:`SparseEncoder`, of voxels."""

    def forward(self, voxels: SparseTensor) -> Tensor:
        return self._method({"voxels": voxels})
