# SPDX-License-Identifier: Apache-2.0
"""Run under torchrun by test_distributed.py: gradients of BEVFusion at demonstration size over two processes.

Prints, from the first process, how far they are from those of one process at twice the batch. It runs in float64: in
float32 the ReLUs of a new network turn rounding errors of 1e-7 into gradients that differ by 0.5 % and more, and one
process at twice the batch is no nearer to the gradients in float64 than two are.
"""

import sys

import numpy as np
import torch
import torch.distributed as dist
from mmengine.config import Config
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pcperc.datasets import collate
from pcperc.engine.distributed import pick_device, start_process_group, stop_process_group
from pcperc.nn.sync_norm import convert_sync_batchnorm
from pcperc.registry import MODELS

# Numbers of boxes in four samples; the first two samples belong to the first process.
CASES = {"unequal": (3, 1, 2, 7), "second process without boxes": (2, 5, 0, 0), "no boxes": (0, 0, 0, 0)}
VIEWS = 2


def use_float64() -> None:
    """Let every part of the model that asks for float32 have float64."""
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double


def make_model() -> nn.Module:
    torch.manual_seed(0)
    model = Config.fromfile("configs/_base_/models/bevfusion_demo.py").model
    assert model["encoders"]["camera"]["backbone"]["drop_path"] == 0
    model["heads"]["object"]["dropout"] = 0.0
    return MODELS.build(model).double()


def make_sample(index: int, num_boxes: int) -> dict:
    """Points, boxes and images by a seed of their own; the higher the index, the more points."""
    rng = np.random.default_rng(index)
    count = 1500 + 700 * index
    points = np.c_[rng.uniform((-50, -50, -3), (50, 50, 1), (count, 3)), rng.random((count, 2))]
    boxes = np.zeros((num_boxes, 9))
    boxes[:, :7] = rng.uniform((-50, -50, -2, 0.5, 0.5, 1, -3), (50, 50, 0, 8, 3, 3, 3), (num_boxes, 7))
    forward = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    return {
        "points": points.astype(np.float32),
        "boxes": boxes.astype(np.float32),
        "labels": rng.integers(0, 10, num_boxes),
        "lidar_aug": np.eye(4),
        "images": [rng.integers(0, 255, (64, 176, 3), np.uint8) for _ in range(VIEWS)],
        "lidar2camera": np.tile(forward, (VIEWS, 1, 1)),
        "camera2image": np.tile([[100.0, 0, 88], [0, 100, 32], [0, 0, 1]], (VIEWS, 1, 1)),
        "image_aug": np.tile(np.eye(3), (VIEWS, 1, 1)),
    }


def make_samples(case: str) -> list[dict]:
    return [make_sample(index, number) for index, number in enumerate(CASES[case])]


def gradients(model: nn.Module, bare: nn.Module, samples: list[dict]) -> dict[str, torch.Tensor]:
    """Gradients of the sum of all losses; ``bare`` is ``model`` without its wrapper."""
    model.zero_grad()
    batch = bare.data_preprocessor(collate(samples), training=True)
    voxels = batch["inputs"]["voxels"]
    batch["inputs"]["voxels"] = voxels.replace(feats=voxels.feats.double())
    losses = model(**batch, mode="loss")
    sum(value for name, value in losses.items() if "loss" in name).backward()
    return {name: parameter.grad.clone() for name, parameter in bare.named_parameters()}


def compare(case: str, found: dict, expected: dict) -> None:
    """Print how far ``found`` is from ``expected``, each tensor relative to its own largest value.

    Where a normalisation follows, some gradients are zero but for rounding (those of a convolution's bias, say).
    These tensors are compared with the largest gradient of all instead.
    """
    assert found.keys() == expected.keys()
    largest = max(gradient.abs().max().item() for gradient in expected.values())
    differences, vanishing = {}, {}
    for name, gradient in expected.items():
        own, difference = gradient.abs().max().item(), (found[name] - gradient).abs().max().item()
        if own > 1e-9 * largest:
            differences[name] = difference / own
        else:
            vanishing[name] = difference / largest
    name = max(differences, key=differences.get)
    print(f"{case} | largest {largest} | tensors {len(differences)} | difference {differences[name]} | of {name}")
    print(f"{case}, vanishing | tensors {len(vanishing)} | difference {max(vanishing.values())}")


def main() -> None:
    torch.set_num_threads(1)
    start_process_group(pick_device("cpu"))
    rank = dist.get_rank()
    use_float64()
    model = convert_sync_batchnorm(make_model())
    shared = DistributedDataParallel(model)
    found = {case: gradients(shared, model, make_samples(case)[2 * rank :][:2]) for case in CASES}
    dist.barrier()  # a process that leaves first pulls the connection from under the others
    stop_process_group()
    if rank == 0:
        alone = make_model()
        for case in CASES:
            compare(case, found[case], gradients(alone, alone, make_samples(case)))


if __name__ == "__main__":
    sys.exit(main())
