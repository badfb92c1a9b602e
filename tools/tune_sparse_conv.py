# SPDX-License-Identifier: Apache-2.0
"""Time every tile of the CUDA convolution, with and without an order of the rows, and check each against float64.

usage: python tools/tune_sparse_conv.py SWEEP.npz [--voxel 0.1] [--dtype float16]
           [--widths 16,32,64,128,256] [--weight-gradient]

Kernels by number as in csrc/cuda/sparse_conv_selection.h, -1 is its choice; with 1000 s more, s blocks
share a tile.
SWEEP.npz holds (N, 3+) points under "pc". Times are medians over graph replays of ten launches on rotating features.
"""

import argparse
import statistics

import numpy as np
import torch

from pcperc import ops

TILES = [0, 1, 2, 3]
DIRECT = 10
WARPGROUP_TILES = {100: 64, 101: 64, 102: 128, 103: 128, 104: 256, 105: 256, 106: 96, 107: 96}  # their columns
SPLITS = [2, 4, 8]
# Tiles of the weight gradient, and their columns.
WEIGHT_TILES = {0: 16, 1: 32, 2: 64, 3: 128, 4: 64, 100: 64, 101: 128, 102: 128, 103: 128, 104: 128, 105: 256}
GEOMETRIES = {
    "subm k3": dict(kernel_size=3, stride=1, padding=1, dilation=1),
    "down k2s2": dict(kernel_size=2, stride=2, padding=0, dilation=1),
    "down k3s2": dict(kernel_size=3, stride=2, padding=1, dilation=1),
}


def load_coords(path: str, voxel: float) -> torch.Tensor:
    points = np.load(path)["pc"][:, :3].astype(np.float32)
    cells = np.unique(np.floor((points - points.min(0)) / voxel).astype(np.int64), axis=0)
    cells = np.random.default_rng(0).permutation(cells)
    return torch.from_numpy(np.pad(cells, ((0, 0), (1, 0)))).int().cuda()


def time_ms(run, count: int = 10, repeats: int = 15) -> float:
    """Median time of one run(i), out of graphs of ``count`` of them."""
    run(0)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(count):
            run(i)
    times = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(True), torch.cuda.Event(True)
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / count)
    return statistics.median(times)


def kernels_for(cin: int, cout: int, taps: int, rows: int, dtype: torch.dtype) -> list[int]:
    """The kernels worth a measurement."""
    kernels, row_bytes = list(TILES), cin * dtype.itemsize
    if taps <= 32 and row_bytes <= 128 and cout <= (32 if row_bytes > 64 else 64):
        kernels.append(DIRECT)
    if dtype.itemsize == 2 and min(cin, cout) >= 48 and torch.cuda.get_device_capability()[0] == 9:
        wide = [tile for tile, cols in WARPGROUP_TILES.items() if cols <= max(cout, 64) + 32]
        kernels += wide
        if rows < 40_000:
            kernels += [1000 * splits + tile for splits in SPLITS for tile in wide if tile in (100, 102, 106)]
    return kernels


def sampled_error(out, feats, weight, table) -> float:
    rows = torch.randint(table.shape[1], (2000,), device="cuda")
    expected = torch.zeros(len(rows), weight.shape[2], dtype=torch.float64, device="cuda")
    for tap, entries in enumerate(table[:, rows]):
        present = entries >= 0
        expected[present] += feats[entries[present]].double() @ weight[tap].double()
    return ((out[rows].double() - expected).norm() / expected.norm()).item()


def tune_forward(name: str, table: torch.Tensor, num_in: int, cin: int, cout: int, dtype: torch.dtype) -> None:
    ordered, order = torch.ops.pcperc.order_rows(table)
    assert torch.equal(ordered, table[:, order.long()])
    pairs = (table >= 0).sum().item()
    feats = [torch.randn(num_in, cin, device="cuda", dtype=dtype) for _ in range(3)]
    weight = torch.randn(len(table), cin, cout, device="cuda").to(dtype)
    limit = 3e-3 if dtype == torch.bfloat16 else 5e-4
    results = []
    for tile in [-1, *kernels_for(cin, cout, len(table), table.shape[1], dtype)]:
        for rows, neighbors in ((None, table), (order, ordered)):

            def run(i, tile=tile, rows=rows, neighbors=neighbors):
                arguments = (feats[i % 3], weight, neighbors, None, None, 1, True, 1.0, rows, tile)
                return torch.ops.pcperc.sparse_conv_tiled(*arguments)

            error = sampled_error(run(0), feats[0], weight, table)
            ms = time_ms(run)
            results.append((ms, tile, rows is not None, error))
            note = "" if error < limit else "  WRONG"
            flops = 2 * pairs * cin * cout / ms / 1e9
            print(
                f"{name:10} {cin:4}->{cout:<4} tile {tile:4} {'ordered' if rows is not None else 'plain  '} "
                f"{ms:.4f} ms {flops:7.1f} TFLOP/s on pairs, error {error:.1e}{note}"
            )
    best = min(results)
    print(f"BEST {name} {cin}->{cout}: {best[0]:.4f} ms, tile {best[1]}, {'ordered' if best[2] else 'plain'}")


def tune_weight_grad(name: str, table: torch.Tensor, num_in: int, cin: int, cout: int, dtype: torch.dtype) -> None:
    pairs = (table >= 0).sum().item()
    feats = [torch.randn(num_in, cin, device="cuda", dtype=dtype) for _ in range(3)]
    grad = torch.randn(table.shape[1], cout, device="cuda", dtype=dtype)
    expected = torch.stack([feats[0][rows[rows >= 0]].double().T @ grad[rows >= 0].double() for rows in table])
    ordered, order = torch.ops.pcperc.order_rows(table)
    has_warpgroups = torch.cuda.get_device_capability()[0] == 9 and dtype.itemsize == 2
    tiles = [
        tile
        for tile, columns in WEIGHT_TILES.items()
        if columns / 2 <= max(cin, cout) <= 4 * columns and (tile < 100 or has_warpgroups)
    ]
    choices = [(-1, 0, None), (-1, 0, order)] + [(tile, blocks, None) for tile in tiles for blocks in range(5)]
    results = []
    for tile, blocks, rows in choices:

        def run(i, tile=tile, blocks=blocks, rows=rows):
            neighbors = table if rows is None else ordered
            arguments = (feats[i % 3], grad, neighbors, None, False, 1, True, rows, tile, blocks)
            return torch.ops.pcperc.sparse_conv_weight_grad_tiled(*arguments)[0]

        error = ((run(0).double() - expected).norm() / expected.norm()).item()
        ms = time_ms(run)
        results.append((ms, tile, blocks))
        note = "" if error < (1e-3 if dtype == torch.float32 else 2e-5) else "  WRONG"
        print(
            f"{name:10} {cin:4}->{cout:<4} weight gradient, tile {tile:3}, {blocks} blocks "
            f"{'plain  ' if rows is None else 'ordered'} {ms:.4f} ms "
            f"{2 * pairs * cin * cout / ms / 1e9:7.1f} TFLOP/s on pairs, error {error:.1e}{note}"
        )
    print(f"BEST weight gradient {name} {cin}->{cout}: %.4f ms, tile %d, %d blocks to a multiprocessor" % min(results))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep")
    parser.add_argument("--voxel", type=float, default=0.1)
    parser.add_argument("--dtype", default="float16", choices=["float16", "bfloat16", "float32"])
    parser.add_argument("--widths", default="16,32,64,128,256")
    parser.add_argument("--weight-gradient", action="store_true", help="that alone")
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    coords = load_coords(options.sweep, options.voxel)
    parts = [tune_weight_grad] if options.weight_gradient else [tune_forward, tune_weight_grad]

    def tune(*arguments):
        for part in parts:
            part(*arguments, dtype)

    for name, geometry in GEOMETRIES.items():
        is_down = geometry["stride"] > 1
        outs = ops.downsample_coords(coords, **geometry) if is_down else coords
        table = ops.build_kernel_map(coords, outs, **geometry)
        if is_down:
            tune(name, table, len(coords), 64, 128)
            reverse = ops.reverse_kernel_map(table, num_inputs=len(coords))
            tune(name.replace("down", "up"), reverse, len(outs), 128, 64)
        else:
            print(f"{len(coords)} voxels, {(table >= 0).sum().item()} pairs")
            ms = time_ms(lambda i, table=table: torch.ops.pcperc.order_rows(table))
            print(f"order_rows {ms:.4f} ms")
            for width in map(int, options.widths.split(",")):
                tune(name, table, len(coords), width, width)


if __name__ == "__main__":
    main()
