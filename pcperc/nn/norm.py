# SPDX-License-Identifier: Apache-2.0
"""Normalisation over the features of a sparse tensor."""

import torch
from torch import Tensor, nn

from pcperc import ops
from pcperc.nn._checks import Rows, TellsArguments, check_dtype, check_input, check_rows
from pcperc.nn._parts import own_buffer, own_parameter
from pcperc.nn.activation import OnFeats
from pcperc.ops._checks import positive_int, sum_dtype
from pcperc.ops._layer_calls import layer_batch_norm
from pcperc.sparse import SparseTensor


class _RowNorm(TellsArguments, nn.BatchNorm1d):
    """Batch norm over rows, of any number."""

    def normalise_rows(self, feats: Tensor) -> Tensor:
        """Normalise (M, C), traced or not."""
        return traceable_batch_norm(self, feats) if torch.compiler.is_compiling() else self.normalise(feats)

    def normalise(self, feats: Tensor, residual: Tensor | None = None, negative_slope: float = 1.0) -> Tensor:
        """Normalise (M, C), then add a residual and apply a (leaky) ReLU, as :func:`pcperc.ops.batch_norm` does."""
        try:
            mean, var = own_buffer(self, "running_mean"), own_buffer(self, "running_var")
            weight, bias = own_parameter(self, "weight"), own_parameter(self, "bias")
            is_given = mean is not None and not self.training
            if not is_given and feats.shape[0] < 2:
                is_given, (mean, var) = True, self._stand_in(feats)
            if is_given:
                return layer_batch_norm(feats, mean, var, weight, bias, residual, self.eps, negative_slope)
            is_recorded = self.training and self.track_running_stats
            return ops.batch_norm(
                feats,
                mean if is_recorded else None,
                var if is_recorded else None,
                weight,
                bias,
                residual,
                training=True,
                num_batches_tracked=self.num_batches_tracked if is_recorded else None,
                momentum=self.momentum,
                eps=self.eps,
                negative_slope=negative_slope,
            )
        except ValueError:
            check_dtype(self, feats)
            raise

    def _stand_in(self, feats: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance where there are too few rows to have any."""
        if self.running_mean is not None:
            # Copies: a later batch changes the statistics in place, which must not reach this batch's gradient.
            return self.running_mean.clone(), self.running_var.clone()
        dtype = feats.dtype if self.weight is None else self.weight.dtype
        return feats.new_zeros(self.num_features, dtype=dtype), feats.new_ones(self.num_features, dtype=dtype)


class BatchNorm(_RowNorm):
    """torch.nn.BatchNorm1d over the voxels, or points, of all clouds of the batch.

    Arguments, parameters and state names are those of ``torch.nn.BatchNorm1d``. In training with fewer than two voxels,
    where a variance cannot be estimated and torch raises, the running statistics are used and left as they are (without
    running statistics: mean 0 and variance 1), so that an empty cloud stops no run. On a CPU results, and in training
    gradients, are the same for every number of threads, but under torch.compile (see ``pcperc.ops.batch_norm``).

    Shape: SparseTensor or PointTensor with (M, num_features) features to one of the same coordinates.
    Raises:
        TypeError: neither of the two.
        ValueError: an input with other channels.
    """

    def forward(self, x: Rows) -> Rows:
        check_rows(self, x, channels=self.num_features)
        return x.replace(feats=self.normalise_rows(x.feats))


class RowBatchNorm(_RowNorm):
    """:class:`BatchNorm` for plain features, (rows, num_features) to (rows, num_features), of any number of rows."""

    def forward(self, feats: Tensor) -> Tensor:
        return self.normalise_rows(feats)


def traceable_batch_norm(norm: nn.modules.batchnorm._BatchNorm, feats: Tensor) -> Tensor:
    """Batch norm by its formula, without a branch on the number of rows: torch's own asks whether there are any."""
    wide = feats.to(torch.promote_types(feats.dtype, torch.float32))
    mean, var = norm.running_mean, norm.running_var
    if norm.training or mean is None:
        mean, var = _batch_statistics(norm, wide)
    scale = (var + norm.eps).rsqrt()
    if not norm.affine:
        return ((wide - mean) * scale).to(feats.dtype)
    return ((wide - mean) * (scale * norm.weight) + norm.bias).to(feats.dtype)


def _batch_statistics(norm: nn.modules.batchnorm._BatchNorm, wide: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the batch, also recorded; with fewer than two rows what is recorded already."""
    count = torch.sym_max(wide.shape[0], 1)
    mean = wide.sum(0) / count
    var = (wide - mean).square().sum(0) / count
    enough = torch.scalar_tensor(count, device=wide.device) >= 2
    if norm.running_mean is None:
        return torch.where(enough, mean, 0.0), torch.where(enough, var, 1.0)
    mean, var = torch.where(enough, mean, norm.running_mean), torch.where(enough, var, norm.running_var)
    if norm.track_running_stats:
        norm.num_batches_tracked += enough
        weight = norm.momentum if norm.momentum is not None else 1 / norm.num_batches_tracked.clamp(min=1)
        unbiased = count / torch.sym_max(count - 1, 1)  # 1 where there are too few rows
        for running, new in ((norm.running_mean, mean), (norm.running_var, var * unbiased)):
            running.lerp_(new.detach().to(running.dtype), weight)
    return mean, var


class GroupNorm(nn.GroupNorm):
    """torch.nn.GroupNorm over the voxels of each batch item: on a tensor that is full everywhere the two are equal.

    Each group of channels of an item is normalised by its own mean and variance, in training and evaluation alike.
    Sums and parameters are used in float32 (float64 for float64 features).

    Args:
        num_groups: divides num_channels.
        num_channels, eps, affine, device, dtype: as in ``torch.nn.GroupNorm``.
    Shape: SparseTensor with (M, num_channels) features to one of the same voxels and dtype. An item without voxels
        takes no part; where a group is one value (one voxel, one channel) its variance is 0 and it becomes the bias.
    Raises:
        TypeError, ValueError: an argument; an input that is no SparseTensor or has other channels.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        name = type(self).__name__
        num_groups = positive_int(name, "num_groups", num_groups)
        num_channels = positive_int(name, "num_channels", num_channels)
        if num_channels % num_groups:
            raise ValueError(f"{name}: num_groups must divide {num_channels} channels, got {num_groups}")
        super().__init__(num_groups, num_channels, eps, affine, device, dtype)

    def forward(self, x: SparseTensor) -> SparseTensor:
        check_input(self, x, channels=self.num_channels)
        items = x.kernel_maps.batch_segments(x.topology)
        feats = x.feats.to(sum_dtype(x.dtype))
        mean = self._group_means(ops.segment_dot(feats, items), items)
        centred = ops.segment_affine(feats, items, shift=-mean)
        scale = torch.rsqrt(self._group_means(ops.segment_dot(centred, items, centred), items) + self.eps)
        shift = None
        if self.affine:
            scale, shift = scale * self.weight, self.bias.expand(scale.shape)
        return x.replace(feats=ops.segment_affine(centred, items, scale=scale, shift=shift).to(x.dtype))

    def _group_means(self, sums: Tensor, items: ops.Segments) -> Tensor:
        """(B, C) sums over an item's voxels to the mean over its voxels and the channels of the group, (B, C)."""
        means = sums / items.starts.diff().clamp(min=1)[:, None]
        of_group = means.unflatten(1, (self.num_groups, -1)).mean(2)
        return of_group.repeat_interleave(self.num_channels // self.num_groups, dim=1)


class InstanceNorm(GroupNorm):
    """torch.nn.InstanceNorm3d over the voxels of each batch item: :class:`GroupNorm` with a group for each channel.

    There are no running statistics: an item is normalised by its own in evaluation too, torch's default. torch raises
    for an item of one voxel in training; here it becomes the bias, or 0.

    Args:
        num_features: channels.
        eps, affine, device, dtype: as in ``torch.nn.InstanceNorm3d``.
    Shape, Raises: as :class:`GroupNorm`.
    """

    def __init__(
        self,
        num_features: int,
        *,
        eps: float = 1e-5,
        affine: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        num_features = positive_int(type(self).__name__, "num_features", num_features)
        super().__init__(num_features, num_features, eps=eps, affine=affine, device=device, dtype=dtype)

    def extra_repr(self) -> str:
        return f"{self.num_channels}, eps={self.eps}, affine={self.affine}"


class LayerNorm(OnFeats, nn.LayerNorm):
    """torch.nn.LayerNorm on the features: each voxel or point is normalised over its channels, others take no part."""

    def forward(self, x: Rows) -> Rows:
        check_rows(self, x, channels=self.normalized_shape[-1])
        return super().forward(x)
