# SPDX-License-Identifier: Apache-2.0
"""How the time of a prediction is spread over the stages of BEVFusion."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from pcperc.models.bevfusion import BEVFusion


def time_stages(
    model: nn.Module, predict: Callable[[], object], *, device: torch.device, runs: int
) -> list[dict[str, Any]]:
    """Time the parts of a prediction; on a GPU each part is waited for, so that their sum is more than the whole takes.

    Args:
        predict: one prediction of ``model``, from a batch on the host to boxes.
        runs: predictions that count, after one that does not.
    Returns:
        ``stage``, ``median_ms`` and ``p95_ms`` in the order of the stages; the last, "boxes", is what no module does:
        the decoding and suppression of boxes and what lies between the modules. Nothing for another model.
    """
    if not isinstance(model, BEVFusion):
        return []
    stages = stage_modules(model)
    spent: dict[str, list[float]] = {name: [] for name in (*stages, "boxes")}
    clock = _Clock(device)
    hooks = [hook for name, module in stages.items() for hook in clock.watch(name, module)]
    try:
        for run in range(runs + 1):
            clock.spent = dict.fromkeys(stages, 0.0)
            start = clock.now()
            predict()
            whole = clock.now() - start
            if run == 0:
                continue
            for name, value in clock.spent.items():
                spent[name].append(value)
            spent["boxes"].append(whole - sum(clock.spent.values()))
    finally:
        for hook in hooks:
            hook.remove()
    medians = {name: np.percentile(values, (50, 95)) * 1e3 for name, values in spent.items()}
    return [{"stage": name, "median_ms": float(m), "p95_ms": float(p)} for name, (m, p) in medians.items()]


def stage_modules(model: BEVFusion) -> dict[str, nn.Module]:
    """Return the modules of the paper's stages by name, in the order in which they run."""
    found: dict[str, nn.Module] = {"preprocessor": model.data_preprocessor}
    if "camera" in model.encoders:
        camera = model.encoders["camera"]
        found |= {"camera backbone": camera.backbone, "camera neck": camera.neck}
        found["view transform"] = camera.view_transform
    if "lidar" in model.encoders:
        found["lidar encoder"] = model.encoders["lidar"]
    if model.fuser is not None:
        found["fuser"] = model.fuser
    found["decoder"] = model.decoder
    return found | {f"{task} head": head for task, head in model.heads.items()}


class _Clock:
    """Sums up how long modules take in a call."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.spent: dict[str, float] = {}
        self._started: dict[str, float] = {}

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def watch(self, name: str, module: nn.Module) -> list:
        def before(*_) -> None:
            self._started[name] = self.now()

        def after(*_) -> None:
            self.spent[name] += self.now() - self._started[name]

        return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
