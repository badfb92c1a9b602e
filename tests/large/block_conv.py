# SPDX-License-Identifier: Apache-2.0
"""One 3x3x3 submanifold layer, 64 -> 64 channels in bfloat16, on a full block of voxels.

usage: python -m tests.large.block_conv EDGE DEVICE. Prints JSON: whether sampled voxels are right, their largest error;
the largest resident size of the process, or of torch's CUDA allocator, in GB (10^9 bytes); seconds of map and layer.
"""

import itertools
import json
import resource
import sys
import time

import torch

import pcperc
import pcperc.nn as spnn
from tests.tolerances import tolerances

CHANNELS = 64


def block_coords(edge: int, device: torch.device) -> torch.Tensor:
    """(edge**3, 4) int32 rows, x slowest, from -edge // 2 on."""
    axis = torch.arange(edge, dtype=torch.int32, device=device) - edge // 2
    coords = torch.zeros((edge, edge, edge, 4), dtype=torch.int32, device=device)
    coords[..., 1] = axis[:, None, None]
    coords[..., 2] = axis[None, :, None]
    coords[..., 3] = axis
    return coords.view(-1, 4)


def expected_rows(rows: torch.Tensor, edge: int, feats: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(R, 64) float64 output at the voxels ``rows``, whose neighbours' rows follow from the block's order."""
    place = torch.stack([rows // edge**2, rows // edge % edge, rows % edge], 1)
    out = torch.zeros(len(rows), CHANNELS, dtype=torch.float64)
    for tap, shift in enumerate(itertools.product((-1, 0, 1), repeat=3)):
        near = place + torch.tensor(shift)
        inside = ((near >= 0) & (near < edge)).all(1)
        source = (near[inside, 0] * edge + near[inside, 1]) * edge + near[inside, 2]
        out[inside] += feats[source.to(feats.device)].cpu().double() @ weight[tap].double()
    return out


def sampled_rows(count: int, generator: torch.Generator) -> torch.Tensor:
    """Both ends, where offsets are smallest and largest, and 2000 voxels between them."""
    return torch.cat(
        [torch.arange(100), torch.randint(count, (2000,), generator=generator), torch.arange(count - 100, count)]
    )


@torch.inference_mode()
def main(edge: int, device: torch.device) -> dict:
    generator = torch.Generator(device).manual_seed(0)
    coords = block_coords(edge, device)
    feats = torch.empty((edge**3, CHANNELS), dtype=torch.bfloat16, device=device).uniform_(-1, 1, generator=generator)
    layer = spnn.SubMConv3d(CHANNELS, CHANNELS, 3, bias=False).to(device, torch.bfloat16)
    x = pcperc.SparseTensor(coords, feats)
    start = time.perf_counter()
    neighbors = layer.kernel_map(x).neighbors
    synchronize(device)
    with_map = time.perf_counter()
    out = layer(x).feats
    synchronize(device)
    end = time.perf_counter()
    rows = sampled_rows(edge**3, torch.Generator().manual_seed(1))
    wanted = expected_rows(rows, edge, feats, layer.tap_weights.detach().cpu())
    found = out[rows.to(device)].cpu().double()
    limits = tolerances(torch.bfloat16, neighbors.shape[0] * CHANNELS)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "voxels": edge**3,
        "elements": out.numel(),
        "right": torch.allclose(found, wanted, **limits),
        "max_error": (found - wanted).abs().max().item(),
        "pairs": int(sum((row >= 0).sum() for row in neighbors)),
        "map_seconds": with_map - start,
        "layer_seconds": end - with_map,
        "peak_gb": (torch.cuda.max_memory_allocated() if device.type == "cuda" else peak) / 1e9,
    }


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), torch.device(sys.argv[2]))))
