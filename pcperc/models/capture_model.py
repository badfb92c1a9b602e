# SPDX-License-Identifier: Apache-2.0
"""Models for inference with what can be launched together as CUDA graphs."""

from torch import nn

from pcperc.models.bevfusion.captured import capture_frame
from pcperc.models.bevfusion.detector import BEVFusion
from pcperc.models.calorimeter.clusterer import HitClusterer
from pcperc.models.segmentor import Segmentor
from pcperc.nn.capture import CapturedNetwork, capture

CAPTURED_MODELS = (BEVFusion, Segmentor, HitClusterer)


def capture_model(model: nn.Module, *, capacity: int) -> None:
    """Put a model into CUDA graphs, in place, and into eval mode, for good.

    Of a ``BEVFusion`` its parts, see :func:`pcperc.models.bevfusion.capture_frame`; of a ``Segmentor`` and a
    ``HitClusterer`` the backbone, see :func:`pcperc.nn.capture`: what prepares points and groups hits runs as it is,
    and the backbone's names in the state dict begin with ``backbone.model.``, so weights are loaded before.

    Args:
        model: one of `CAPTURED_MODELS`.
        capacity: of a batch at most: voxels of a BEVFusion, points of a Segmentor, hits of a HitClusterer.
    Raises:
        TypeError: another model, or a capacity that is no whole number. ValueError: a capacity below 1, or a model that
            is captured already. RuntimeError: this machine has no CUDA device.
    """
    if not isinstance(model, CAPTURED_MODELS):
        known = ", ".join(kind.__name__ for kind in CAPTURED_MODELS)
        raise TypeError(f"capture_model: model must be one of {known}, got a {type(model).__name__}")
    if isinstance(model, BEVFusion):
        capture_frame(model, capacity=capacity)
        return
    if isinstance(model.backbone, CapturedNetwork):
        raise ValueError("capture_model: model must be one that is not captured yet")
    model.eval()
    model.backbone = capture(model.backbone, capacity=capacity)
