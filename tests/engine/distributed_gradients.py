# SPDX-License-Identifier: Apache-2.0
"""Run under torchrun by test_distributed.py: gradients of a sparse and dense model over two processes.

Prints, from the first process, the largest difference to the gradients of one process at twice the batch.
"""

import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import pcperc.nn as spnn
from pcperc import SparseTensor
from pcperc.engine.distributed import pick_device, start_process_group, stop_process_group
from pcperc.nn.sync_norm import convert_sync_batchnorm


class SparseAndDense(nn.Module):
    """Submanifold and strided sparse layers, a dense map, batch norms on both sides."""

    def __init__(self) -> None:
        super().__init__()
        self.sparse = nn.Sequential(
            spnn.SubMConv3d(2, 6, 3, bias=False), spnn.BatchNorm(6), spnn.ReLU(),
            spnn.SparseConv3d(6, 4, 3, stride=2, padding=1, bias=False), spnn.BatchNorm(4), spnn.ReLU(),
        )  # fmt: skip
        self.dense = nn.Sequential(nn.Conv2d(8, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 1, 1))

    def forward(self, x: SparseTensor) -> torch.Tensor:
        volume = self.sparse(x).dense()
        return self.dense(volume.permute(0, 1, 4, 2, 3).flatten(1, 2)).square().mean()


def make_clouds(number: int) -> list[torch.Tensor]:
    """Clouds of different sizes: coords (M, 3) int32 in 8 x 8 x 4, by a seed of their own."""
    clouds = []
    for i in range(number):
        generator = torch.Generator().manual_seed(i)
        cells = torch.randperm(8 * 8 * 4, generator=generator)[: 5 + 40 * i]
        clouds.append(torch.stack([cells // 32, cells // 4 % 8, cells % 4], 1).int())
    return clouds


def make_batch(clouds: list[torch.Tensor]) -> SparseTensor:
    coords = torch.cat([torch.cat([torch.full_like(c[:, :1], i), c], 1) for i, c in enumerate(clouds)])
    feats = torch.cat([torch.stack([c.sum(1) - 7.0, c[:, 0] * 0.5], 1) for c in clouds]).double()
    return SparseTensor(coords, feats, len(clouds), spatial_shape=(8, 8, 4))


def gradients(model: nn.Module, batch: SparseTensor) -> dict[str, torch.Tensor]:
    model(batch).backward()
    return {name.removeprefix("module."): p.grad for name, p in model.named_parameters()}


def main() -> None:
    torch.set_num_threads(1)
    device = pick_device("cpu")
    start_process_group(device)
    torch.manual_seed(0)
    model = SparseAndDense().double()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    rank, clouds = dist.get_rank(), make_clouds(4)
    shared = gradients(DistributedDataParallel(convert_sync_batchnorm(model)), make_batch(clouds[2 * rank :][:2]))
    stop_process_group()
    if rank == 0:
        alone = SparseAndDense().double()
        alone.load_state_dict(weights)
        expected = gradients(alone, make_batch(clouds))
        assert shared.keys() == expected.keys()
        print("largest gradient", max(g.abs().max().item() for g in expected.values()))
        print("difference", max((shared[key] - expected[key]).abs().max().item() for key in expected))
        running = max(
            (model.state_dict()[k] - alone.state_dict()[k]).abs().max().item() for k in weights if "running" in k
        )
        print("running", running)


if __name__ == "__main__":
    sys.exit(main())
