# SPDX-License-Identifier: Apache-2.0
"""Running statistics of batch norm measured anew."""

from collections.abc import Iterable
from itertools import chain

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def recalibrate_batch_norm(model: nn.Module, batches: Iterable) -> None:
    """Replace the running statistics of every batch norm by their plain mean over ``batches``.

    For a subnet, whose statistics are not those of the super network that it shares weights with, and for averaged
    weights. All other layers run as in evaluation: torch.optim.swa_utils.update_bn leaves dropout on, which changes the
    variances that later layers see. Batches count equally, whatever their size.

    Args:
        model: any network; of its layers only the batch norms change, and the modes of all are as before.
        batches: what ``model(batch)`` takes, at least one; more than 1000 points each are advisable.
    Raises:
        ValueError: no batch norm with running statistics, or no batch.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if not norms:
        raise ValueError("recalibrate_batch_norm: model must have a batch norm with running statistics, got none")
    batches = iter(batches)
    try:
        first = next(batches)
    except StopIteration:
        raise ValueError("recalibrate_batch_norm: batches must be at least one, got none") from None
    modes = [(module, module.training) for module in model.modules()]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # torch's plain average
            norm.training = True
        for batch in chain([first], batches):
            model(batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes:
            module.training = mode
