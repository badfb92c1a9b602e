# SPDX-License-Identifier: Apache-2.0
"""Clouds and states for the tests of PVCNN and its layers."""

import torch

from pcperc.sparse import PointTensor


def cloud_of(*sizes, channels, seed=0, dtype=torch.float64, device="cpu"):
    """PointTensor of clouds of these sizes, its points in shuffled order; the first three features are x, y, z."""
    generator = torch.Generator().manual_seed(seed)
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    batch = batch[torch.randperm(len(batch), generator=generator)]
    xyz = torch.rand(len(batch), 3, generator=generator, dtype=torch.float64) * 2 - 1
    feats = torch.randn(len(batch), channels, generator=generator, dtype=torch.float64)
    feats[:, :3] = xyz[:, :channels]
    coords = torch.cat([batch[:, None], xyz], 1)
    return PointTensor(coords.to(device, dtype), feats.to(device, dtype), batch_size=len(sizes))


def randomize(model, seed=0):
    """Give the norms statistics and parameters that differ from those of a new layer, and switch dropout off."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            for tensor, low in ((module.running_mean, -0.5), (module.running_var, 0.5), (module.bias, -0.5)):
                tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + low)
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model.double()


def arrays(points):
    """xyz (N, 3), batch (N,) and feats (N, C) for the oracles."""
    coords = points.coords.detach().cpu().double().numpy()
    return coords[:, 1:], coords[:, 0].astype(int), points.feats.detach().cpu().double().numpy()


def state_of(model):
    return {name: tensor.detach().cpu().double().numpy().copy() for name, tensor in model.state_dict().items()}
