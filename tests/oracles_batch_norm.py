# SPDX-License-Identifier: Apache-2.0
"""Batch norm as its equations say, in float64."""

import numpy as np


def batch_norm(feats, mean, var, weight, bias, residual, *, eps, negative_slope):
    """act((feats - mean) / sqrt(var + eps) * weight + bias + residual); what is None is left out."""
    out = np.empty_like(feats)
    for m in range(feats.shape[0]):
        for c in range(feats.shape[1]):
            value = (feats[m, c] - mean[c]) / np.sqrt(var[c] + eps)
            value = value * (1 if weight is None else weight[c]) + (0 if bias is None else bias[c])
            value += 0 if residual is None else residual[m, c]
            out[m, c] = value if value > 0 else negative_slope * value
    return out


def moments(feats):
    """Mean and biased variance of each column."""
    mean = feats.sum(0) / len(feats)
    return mean, ((feats - mean) ** 2).sum(0) / len(feats)
