# SPDX-License-Identifier: Apache-2.0
"""Batch norm whose statistics span all processes, over sparse features and dense maps, on CPU and GPU.

torch's own ``SyncBatchNorm`` refuses CPU tensors and a rank without rows; sparse features need both.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from pcperc.nn._checks import TellsArguments, check_dtype
from pcperc.nn.norm import traceable_batch_norm
from pcperc.ops._checks import check_tensor, describe
from pcperc.sparse import PointTensor, SparseTensor


class SyncBatchNorm(TellsArguments, nn.modules.batchnorm._BatchNorm):
    """Batch norm of (M, C) features, (B, C, L) or (B, C, H, W) maps, a ``SparseTensor`` or a ``PointTensor``.

    In eval mode, and where no process group is running, it equals ``torch.nn.BatchNorm1d/2d``. In training every
    process must call it the same number of times, and its output must reach the loss on every process, also where M
    is 0 there: otherwise the others wait for its part of the sums. Parameters and state names are those of
    ``BatchNorm1d``. Statistics are computed in float32 (float64 for float64 input); the output has the input's dtype.

    Raises:
        TypeError: another input.
        ValueError: other channels; fewer than two values per channel over all processes in training, as torch's batch
            norm. For a SparseTensor or PointTensor the running statistics are used then, as ``pcperc.nn.BatchNorm``
            does: an empty cloud stops no run.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        check_tensor("SyncBatchNorm", "input", input)
        if input.ndim < 2 or input.shape[1] != self.num_features:
            raise ValueError(f"SyncBatchNorm: input must be (M, {self.num_features}, ...), got {tuple(input.shape)}")

    def forward(self, input):
        if isinstance(input, SparseTensor | PointTensor):
            try:
                feats = self._normalise(input.feats, may_be_empty=True)
            except RuntimeError:
                check_dtype(self, input.feats)
                raise
            return input.replace(feats=feats)
        return self._normalise(input, may_be_empty=False)

    def _normalise(self, x: Tensor, *, may_be_empty: bool) -> Tensor:
        self._check_input_dim(x)
        if not (self.training and is_synchronised()):
            if may_be_empty and torch.compiler.is_compiling():
                return traceable_batch_norm(self, x)
            if may_be_empty and (self.training or self.running_mean is None) and len(x) < 2:
                mean, var = self._stand_in(x)
                return F.batch_norm(x, mean, var, self.weight, self.bias, False, 0.0, self.eps)
            return self._local_forward(x)
        stand_in = self._stand_in(x) if may_be_empty else None
        output, mean, var, count = _SyncNormalise.apply(x, self.weight, self.bias, self.eps, stand_in)
        # With two rows here there are two in all: only a nearly empty process must look (and wait for the device).
        enough = x.numel() >= 2 * x.shape[1] or bool(count.isfinite())
        if self.track_running_stats and enough:
            self._update_running_stats(mean, var, count)
        return output

    def _stand_in(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance where the batch is too small to have any."""
        if self.running_mean is not None:
            return self.running_mean.clone(), self.running_var.clone()
        return x.new_zeros(self.num_features, dtype=torch.float32), x.new_ones(self.num_features, dtype=torch.float32)

    def _local_forward(self, x: Tensor) -> Tensor:
        if self.training and self.track_running_stats:
            self.num_batches_tracked.add_(1)
        use_batch = self.training or self.running_mean is None
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, use_batch, self._factor(), self.eps
        )

    @torch.no_grad()
    def _update_running_stats(self, mean: Tensor, var: Tensor, count: Tensor) -> None:
        self.num_batches_tracked.add_(1)
        factor = self._factor()
        unbiased = var * (count / (count - 1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), factor)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), factor)

    def _factor(self) -> float:
        """Weight of the newest batch; ``momentum=None`` is the plain average, as in torch."""
        if self.momentum is not None:
            return self.momentum
        return 1.0 / max(float(self.num_batches_tracked), 1.0)


def is_synchronised() -> bool:
    """True where a process group of more than one process is running."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def convert_sync_batchnorm(module: nn.Module) -> nn.Module:
    """Replace every batch norm inside ``module`` (dense or sparse) by ``SyncBatchNorm`` with the same parameters.

    The parameters are shared, not copied; names in ``state_dict`` stay. Returns ``module``, or its replacement
    where it is a batch norm itself.

    Raises:
        TypeError: no module.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"convert_sync_batchnorm: module must be a module, got {describe(module)}")
    if isinstance(module, SyncBatchNorm):
        return module
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return _converted(module)
    for name, child in module.named_children():
        replacement = convert_sync_batchnorm(child)
        if replacement is not child:
            setattr(module, name, replacement)
    return module


def _converted(old: nn.modules.batchnorm._BatchNorm) -> SyncBatchNorm:
    new = SyncBatchNorm(
        old.num_features, old.eps, old.momentum, affine=old.affine, track_running_stats=old.track_running_stats
    )
    new.weight, new.bias = old.weight, old.bias
    new.running_mean, new.running_var = old.running_mean, old.running_var
    new.num_batches_tracked = old.num_batches_tracked
    return new.train(old.training)


class _SyncNormalise(torch.autograd.Function):
    """Normalise by the mean and variance over all processes; one all-reduce each way.

    With ``n`` values, ``z = (x - mean) / std`` and the gradient ``g`` of ``z``, all sums over every process:
    ``dx = (g - sum(g) / n - z * sum(g * z) / n) / std`` (Ioffe and Szegedy, 2015, section 3).
    """

    @staticmethod
    def forward(ctx, x, weight, bias, eps, stand_in):
        values = x.double() if x.dtype == torch.float64 else x.float()
        dims = [d for d in range(x.ndim) if d != 1]
        mean, var, count = _global_moments(values, dims)
        if values.numel() < 2 * x.shape[1] and count.item() < 2:
            if stand_in is None:
                raise ValueError(
                    "SyncBatchNorm: more than one value per channel is needed in training, got "
                    f"{int(count)} over all processes (here: {tuple(x.shape)})"
                )
            mean, var = (statistic.to(values.dtype) for statistic in stand_in)
            count = torch.full_like(count, torch.inf)  # constants: the terms of the mean vanish from the gradient
        invstd = (var + eps).rsqrt()
        ctx.save_for_backward(x, mean, invstd, weight, count)
        ctx.dims = dims
        scale = invstd if weight is None else invstd * weight
        output = (values - _shaped(mean, x)) * _shaped(scale, x)
        if bias is not None:
            output = output + _shaped(bias.to(output.dtype), x)
        ctx.mark_non_differentiable(mean, var, count)
        return output.to(x.dtype), mean, var, count

    @staticmethod
    def backward(ctx, grad, *_):
        x, mean, invstd, weight, count = ctx.saved_tensors
        z = (x.to(mean.dtype) - _shaped(mean, x)) * _shaped(invstd, x)
        grad = grad.to(mean.dtype)
        sums = torch.stack([grad.sum(ctx.dims), (grad * z).sum(ctx.dims)])
        # The parameters' gradients stay local: DistributedDataParallel averages them with all others.
        grad_bias, grad_weight = (sums[0], sums[1]) if weight is not None else (None, None)
        totals = sums.clone()
        dist.all_reduce(totals)
        totals = totals / count
        grad = grad - _shaped(totals[0], x) - z * _shaped(totals[1], x)
        scale = invstd if weight is None else invstd * weight
        grad_x = (grad * _shaped(scale, x)).to(x.dtype)
        if weight is not None:
            grad_bias, grad_weight = grad_bias.to(weight.dtype), grad_weight.to(weight.dtype)
        return grad_x, grad_weight, grad_bias, None, None


def _global_moments(values: Tensor, dims: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean (C,), biased variance (C,) and count () over all processes.

    Each process puts (count, mean, sum of squared deviations) in its own row of a table that is then summed, and the
    rows are combined about the common mean: exact also where the mean is much larger than the deviation.
    """
    channels = values.shape[1]
    count = values.numel() // max(channels, 1)
    table = values.new_zeros(dist.get_world_size(), 2 * channels + 1)
    if count:
        mean = values.mean(dims)
        deviation = (values - _shaped(mean, values)).square().sum(dims)
        table[dist.get_rank()] = torch.cat([values.new_tensor([count]), mean, deviation])
    dist.all_reduce(table)
    counts, means, deviations = table[:, :1], table[:, 1 : channels + 1], table[:, channels + 1 :]
    total = counts.sum()
    mean = (counts * means).sum(0) / total.clamp(min=1)
    var = (deviations + counts * (means - mean).square()).sum(0) / total.clamp(min=1)
    return mean, var, total


def _shaped(vector: Tensor, like: Tensor) -> Tensor:
    """View (C,) so that it broadcasts over dimension 1 of ``like``."""
    return vector.view(1, -1, *[1] * (like.ndim - 2))
