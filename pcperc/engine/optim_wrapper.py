# SPDX-License-Identifier: Apache-2.0
"""The optimizer step: mixed precision on GPU and CPU, gradient clipping, and a stop where the loss is no number."""

import contextlib
import math

import torch
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import Tensor, nn

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class TrainingDiverged(FloatingPointError):
    """The loss or the gradient is NaN or infinite; the weights are those before this step."""


@OPTIM_WRAPPERS.register_module()
class CheckedOptimWrapper(OptimWrapper):
    """An optimizer with optional automatic mixed precision, also on a CPU, where MMEngine's refuses to work.

    Args:
        amp: run the forward pass in half precision.
        amp_dtype: "float16" (with loss scaling) or "bfloat16"; by default float16 on a GPU, bfloat16 on a CPU.
        clip_grad: as MMEngine's, ``dict(max_norm=35)``.
        **kwargs: of ``mmengine.optim.OptimWrapper`` (``optimizer``, ``accumulative_counts``).
    """

    def __init__(
        self, *, optimizer, amp: bool = False, amp_dtype: str | None = None, clip_grad: dict | None = None, **kwargs
    ) -> None:
        super().__init__(optimizer=optimizer, clip_grad=clip_grad, **kwargs)
        self.device_type = optimizer.param_groups[0]["params"][0].device.type
        if amp_dtype is None:
            amp_dtype = "float16" if self.device_type == "cuda" else "bfloat16"
        if amp_dtype not in DTYPES:
            raise ValueError(f"CheckedOptimWrapper: amp_dtype must be one of {', '.join(DTYPES)}, got '{amp_dtype}'")
        self.amp = amp
        self.amp_dtype = DTYPES[amp_dtype]
        scales = amp and self.amp_dtype == torch.float16
        self.loss_scaler = torch.amp.GradScaler(self.device_type, enabled=scales)

    @contextlib.contextmanager
    def optim_context(self, model: nn.Module):
        """Autocast in the forward pass; no gradient exchange while gradients are being accumulated."""
        with super().optim_context(model), torch.autocast(self.device_type, self.amp_dtype, enabled=self.amp):
            yield

    def update_params(self, loss: Tensor, step_kwargs: dict | None = None, zero_kwargs: dict | None = None) -> None:
        if not torch.isfinite(loss):
            raise TrainingDiverged(f"the loss is {loss.item()} at {self._moment()}; {_ADVICE}")
        super().update_params(loss, step_kwargs, zero_kwargs)

    def backward(self, loss: Tensor, **kwargs) -> None:
        self.loss_scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs) -> None:
        self.loss_scaler.unscale_(self.optimizer)
        norm = self._clip_grad()
        if not self.loss_scaler.is_enabled() and norm is not None and not math.isfinite(norm):
            raise TrainingDiverged(f"the gradient's norm is {norm} at {self._moment()}; {_ADVICE}")
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update()

    def _clip_grad(self) -> float | None:
        """Clip where asked for; return the norm before clipping."""
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not self.clip_grad_kwargs or not parameters:
            return None
        norm = float(nn.utils.clip_grad_norm_(parameters, **self.clip_grad_kwargs))
        self.message_hub.update_scalar(f"train/{self.grad_name}", norm)
        return norm

    def state_dict(self) -> dict:
        return {**super().state_dict(), "loss_scaler": self.loss_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        state_dict = dict(state_dict)
        scaler = state_dict.pop("loss_scaler", None)
        if scaler and self.loss_scaler.is_enabled():
            self.loss_scaler.load_state_dict(scaler)
        super().load_state_dict(state_dict)

    @staticmethod
    def _moment() -> str:
        info = MessageHub.get_current_instance().runtime_info
        return f"iteration {info.get('iter', 0) + 1} (epoch {info.get('epoch', 0) + 1})"


_ADVICE = "lower optim_wrapper.optimizer.lr, or look at this batch; the last checkpoint is from before it"
