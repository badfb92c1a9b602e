# SPDX-License-Identifier: Apache-2.0
"""With which weights the camera backbone of a model starts to train, and what the user is told about it."""

from collections.abc import Callable
from pathlib import Path

from mmengine.config import Config
from torch import nn

from pcperc.engine.config import ConfigError
from pcperc.engine.messages import say
from pcperc.models.bevfusion.swin import SwinTransformer
from pcperc.models.pretrained import load_pretrained_backbone


def check_backbone_option(cfg: Config, config: Path, file: Path | None) -> None:
    """Raise ConfigError where --pretrained-backbone names no file, or the model of the config has no cameras."""
    if file is None:
        return
    if not file.is_file():
        raise ConfigError(f"--pretrained-backbone {file}: no such file")
    if not has_cameras(cfg):
        raise ConfigError(f"--pretrained-backbone: {config} has no camera encoder")


def warn_of_random_backbone(cfg: Config) -> None:
    """Say in one line, before days are spent, that a camera model on real data starts without pretrained weights."""
    if has_cameras(cfg) and cfg.get("simulation") is None:
        say(
            "warning: the camera backbone starts from random weights, the published figures from a Swin-T trained on "
            "nuImages: --pretrained-backbone FILE (tools/README.md says where to get one)"
        )


def backbone_starter(file: Path | None, *, has_weights: bool) -> Callable[[nn.Module], None]:
    """Return what gives a model's camera backbone the weights of ``file``, or says that it has none.

    Args:
        has_weights: the whole model starts from a checkpoint.
    """

    def start(model: nn.Module) -> None:
        backbone = next((module for module in model.modules() if isinstance(module, SwinTransformer)), None)
        if backbone is None:
            return
        if file is not None:
            layout = load_pretrained_backbone(backbone, file)
            say(f"camera backbone: {file} ({layout} names)")
        elif not has_weights:
            say("camera backbone: trained from scratch (--pretrained-backbone FILE starts from Swin weights)")

    return start


def has_cameras(cfg: Config) -> bool:
    """True where the model of a config has a camera encoder."""
    return "camera" in cfg.get("model", {}).get("encoders", {})
