# SPDX-License-Identifier: Apache-2.0
"""Training of a super network so that every subnet is good as it is."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pcperc.models.segmentor import Segmentor, point_labels_of
from pcperc.models.spvnas.subnet import Subnet
from pcperc.registry import MODELS


@MODELS.register_module()
class SuperSegmentor(Segmentor):
    """Trains SPVNAS by the sandwich rule with in-place distillation; predicts as its largest subnet.

    Each step runs the largest subnet, the smallest and some random ones on the same batch, and takes the mean of their
    gradients. The two ends bound all others: a step that improves both keeps what lies between from falling behind,
    where random subnets alone leave the ends, which the search's front begins and ends with, almost untrained (a draw
    of more than 30 numbers hardly ever comes near them), and the largest gives every weight a gradient in every step.
    The largest learns from the labels, the others from its probabilities: these say more of a point than its class,
    also where it has none, are there for free, and keep small subnets from pulling the shared weights towards a fit of
    the labels that they cannot reach.

    Running statistics of batch norm are the largest subnet's alone; others measure their own before they are used.

    Args:
        backbone: an SPVNAS.
        num_random: random subnets in each step, drawn from the number of the step, so that all processes draw the same
            ones and a resumed run goes on as it would have.
        data_preprocessor, loss, votes: as of `Segmentor`.
    Raises:
        ValueError: num_random < 0.
    Source: Yu and Huang, "Universally Slimmable Networks and Improved Training Techniques", ICCV 2019, sections 3.2 and
        3.3; Yu et al., "BigNAS", ECCV 2020, section 3.1.
    """

    def __init__(
        self,
        data_preprocessor: nn.Module,
        backbone: nn.Module,
        loss: nn.Module | None = None,
        *,
        num_random: int = 2,
        votes: nn.Module | None = None,
    ):
        super().__init__(data_preprocessor, backbone, loss, votes=votes)
        if num_random < 0:
            raise ValueError(f"SuperSegmentor: num_random must be >= 0, got {num_random}")
        self.num_random = int(num_random)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def subnets(self, step: int) -> list[Subnet]:
        """Return the subnets of a step, the largest first."""
        rng = np.random.default_rng(step)
        net = self.backbone
        return [net.largest(), net.smallest(), *(net.sample(rng) for _ in range(self.num_random))]

    def forward(self, inputs: dict, samples: list[dict] | None = None, mode: str = "tensor"):
        """As of `Segmentor`; the loss adds ``loss_distillation``, and its sum is the mean over the subnets."""
        if mode != "loss":
            return super().forward(inputs, samples, mode)
        largest, *others = self.subnets(int(self.step))
        logits = self.backbone(inputs["prepared"].points).feats
        labels = point_labels_of("SuperSegmentor", inputs, samples)
        losses = self.loss(logits, labels[inputs["prepared"].row_point])
        distillation = logits.new_zeros(())
        with _statistics_kept(self.backbone):
            for subnet in others:
                self.backbone.set_subnet(subnet)
                taught = self.backbone(inputs["prepared"].points).feats
                distillation = distillation + _distillation_loss(taught, logits.detach())
        self.backbone.set_subnet(largest)
        if self.training:
            self.step += 1
        count = 1 + len(others)
        losses = {name: value / count if "loss" in name else value for name, value in losses.items()}
        return losses | {"loss_distillation": distillation / count}


def _distillation_loss(logits: Tensor, teacher: Tensor) -> Tensor:
    """Mean cross entropy of the teacher's probabilities, their own entropy taken off: 0 where both say the same."""
    if len(logits) == 0:
        return logits.sum()
    own, wanted = logits.float().log_softmax(1), teacher.float().log_softmax(1)
    return F.kl_div(own, wanted, reduction="batchmean", log_target=True)


@contextmanager
def _statistics_kept(model: nn.Module) -> Iterator[None]:
    """Batch norms normalise by the batch and leave their running statistics alone."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
