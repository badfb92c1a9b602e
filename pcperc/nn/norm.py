# SPDX-License-Identifier: Apache-2.0
"""Normalisation over the features of a sparse tensor."""

import torch.nn.functional as F
from torch import nn

from pcperc.sparse import SparseTensor


class BatchNorm(nn.BatchNorm1d):
    """torch.nn.BatchNorm1d over the voxels of all clouds of the batch.

    Arguments, parameters and state names are those of ``torch.nn.BatchNorm1d``. In training with fewer than two voxels,
    where a variance cannot be estimated and torch raises, the running statistics are used and left as they are (without
    running statistics: mean 0 and variance 1), so that an empty cloud stops no run.

    Shape: SparseTensor with (M, num_features) features to one of the same voxels.
    Raises:
        TypeError: not a SparseTensor.
        ValueError: an input with other channels.
    """

    def forward(self, x: SparseTensor) -> SparseTensor:
        if not isinstance(x, SparseTensor):
            raise TypeError(f"BatchNorm: input must be a SparseTensor, got {type(x).__name__}")
        if x.feats.shape[1] != self.num_features:
            raise ValueError(f"BatchNorm: input must have {self.num_features} channels, got {x.feats.shape[1]}")
        if len(x) < 2 and (self.training or self.running_mean is None):
            return x.replace(feats=self._without_batch_statistics(x.feats))
        return x.replace(feats=super().forward(x.feats))

    def _without_batch_statistics(self, feats):
        if self.running_mean is not None:
            # Copies: a later batch changes the statistics in place, which must not reach this batch's gradient.
            mean, var = self.running_mean.clone(), self.running_var.clone()
        else:
            dtype = feats.dtype if self.weight is None else self.weight.dtype
            mean, var = feats.new_zeros(self.num_features, dtype=dtype), feats.new_ones(self.num_features, dtype=dtype)
        return F.batch_norm(feats, mean, var, self.weight, self.bias, False, 0.0, self.eps)
