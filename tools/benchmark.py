# SPDX-License-Identifier: Apache-2.0
"""Measure layers (op), models (model, stages), a first call (first), networks of hits (hits) and of points (clouds).

Op, model and first stand beside other libraries; tune measures the kernels of a GPU. See tools/README.md.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pcperc.engine.messages import run_tool  # noqa: E402

DTYPES = ("float64", "float32", "tf32", "float16", "bfloat16")

INPUT_HELP = (
    "LiDAR sweep, an array pc (N, 3 or more) in metres, or a .bin of nuScenes or KITTI; without it "
    "waymo/benchmark-pc.npz of $PCPERC_REALDATA, else a synthetic sweep"
)


GRAPH_HELP = "as CUDA graphs, for batches of at most so many voxels (BEVFusion), points (segmentation) or hits"
VOXELS_HELP = "the N voxels nearest to the middle, or sweeps beside each other; without it the sweep as it is"


def channel_pair(text: str) -> tuple[int, int]:
    """Return (64, 128) for "64-128" and (64, 64) for "64"."""
    first, _, second = text.partition("-")
    return int(first), int(second or first)


def parse_arguments() -> argparse.Namespace:
    from pcperc.benchmark.clouds import MODES
    from pcperc.benchmark.layers import CASES, PASSES
    from pcperc.benchmark.tune import CHANNELS, VOXELS
    from pcperc.benchmark.tune import DTYPES as TUNED_DTYPES
    from pcperc.benchmark.tune import PASSES as TUNED_PASSES
    from pcperc.benchmark.unet import CASES as MODEL_CASES

    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    op = commands.add_parser("op", help="single layers", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    op.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=", ".join(CASES))
    op.add_argument(
        "--passes",
        nargs="+",
        choices=PASSES,
        default=["forward", "forward_backward", "map"],
        metavar="PASS",
        help=f"{', '.join(PASSES)}; the first two with the kernel map ready, map is the kernel map alone",
    )
    op.add_argument(
        "--channels",
        nargs="+",
        type=channel_pair,
        default=[(c, c) for c in (16, 32, 64, 128, 256)],
        metavar="C",
        help="numbers, or pairs as 64-128",
    )
    model = commands.add_parser(
        "model",
        help="MinkUNet of 42 convolutions, or predictions of the model of a config",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    model.add_argument("config", nargs="?", type=Path, help="without it MinkUNet; its kernel maps are in the time")
    model.add_argument(
        "--cases",
        nargs="+",
        choices=MODEL_CASES,
        default=list(MODEL_CASES),
        metavar="CASE",
        help=f"{', '.join(MODEL_CASES)}; a config has inference alone",
    )
    first = commands.add_parser(
        "first",
        help="MinkUNet's first call in a new process, after import and with the GPU in use",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    stages = commands.add_parser(
        "stages",
        help="a prediction of a config's model by its stages, which sum to the total, and its sparse layers",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    stages.add_argument("config", type=Path)
    for command in (model, stages):
        command.add_argument("--cuda-graph", type=int, metavar="ROWS", help=GRAPH_HELP)
    clouds = commands.add_parser(
        "clouds", help="networks of points against points", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    clouds.add_argument("configs", nargs="+", type=Path, metavar="CONFIG", help="ratios are to the first one")
    clouds.add_argument("--points", nargs="+", type=int, default=[2048, 8192], metavar="N", help="of each cloud")
    clouds.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), metavar="MODE", help=", ".join(MODES))
    clouds.add_argument("--copies", nargs="+", type=int, default=[1, 32], metavar="N", help="batch items")
    clouds.add_argument("--fused", action="store_true", help="the networks that pcperc.nn.fuse makes of them")
    for command in (op, model, first, stages, clouds):
        add = command.add_argument
        add("--dtype", nargs="+", choices=DTYPES, default=["float32"], metavar="TYPE", help=", ".join(DTYPES))
        if command is not clouds:
            add("--voxels", nargs="+", type=int, default=[None], metavar="N", help=VOXELS_HELP)
            add("--copies", nargs="+", type=int, default=[1], metavar="N", help="batch items, each the same sweep")
            add("--peers", type=lambda text: text.split(","), default=[], help="spconv,spconv_triton,torchsparse")
        add("--runs", type=int, default=10, help="timed rounds; all libraries take turns in each")
    tune = commands.add_parser(
        "tune",
        help="time every kernel of the convolution that may run, and write the fastest into the file of this GPU",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = tune.add_argument
    add("--cases", nargs="+", choices=list(CHANNELS), default=list(CHANNELS), metavar="CASE", help=", ".join(CHANNELS))
    add("--passes", nargs="+", choices=TUNED_PASSES, default=TUNED_PASSES, metavar="PASS", help=", ".join(TUNED_PASSES))
    add("--dtype", nargs="+", choices=TUNED_DTYPES, default=TUNED_DTYPES, metavar="TYPE", help=", ".join(TUNED_DTYPES))
    help_text = "numbers, or pairs as 64-128; without it those of the networks in pcperc"
    add("--channels", nargs="+", type=channel_pair, metavar="C", help=help_text)
    add("--voxels", nargs="+", type=int, default=VOXELS, metavar="N", help=VOXELS_HELP.partition(";")[0])
    add("--output", type=Path, metavar="FILE", help="without it that of this GPU in $PCPERC_SELECTION or the package")
    add("--again", action="store_true", help="measure sizes that the file has, too")
    for command in (op, model, first, stages, clouds, tune):
        add = command.add_argument
        if command is not clouds:
            add("--input", type=Path, metavar="FILE", help=INPUT_HELP)
            add("--voxel-size", type=float, default=0.1, metavar="METRES")
        add("--device", help="cpu, cuda or cuda:N; without it the GPU where there is one")
        add("--json", type=Path, metavar="FILE", help="write everything that was measured")
    hits = commands.add_parser(
        "hits", help="networks of calorimeter hits", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = hits.add_argument
    add("models", nargs="+", type=Path, help="checkpoints of train.py, or configs (initial weights)")
    add("--input", nargs="+", type=Path, required=True, metavar="FILE", help="events as of tools/infer.py")
    add("--hits", nargs="+", type=int, default=(), metavar="N", help="so many hits, made of the first event, instead")
    add("--runs", type=int, default=3, help="timed rounds")
    add("--cuda-graph", type=int, metavar="ROWS", help="as CUDA graphs, for events of at most so many hits")
    add(
        "--max-seconds",
        type=float,
        default=60.0,
        help="leave out a row that takes longer by the network's last one, if time grows like the hits",
    )
    add("--device", help="cpu, cuda or cuda:N; without it the GPU where there is one")
    add("--json", type=Path, metavar="FILE", help="write everything that was measured")
    return parser.parse_args()


def main() -> None:
    arguments = vars(parse_arguments())
    from pcperc.benchmark.clouds import CloudOptions, measure_clouds
    from pcperc.benchmark.config_model import measure_config
    from pcperc.benchmark.first_call import measure_first_call
    from pcperc.benchmark.hits import HitsOptions, measure_hits
    from pcperc.benchmark.op import OpOptions, measure_ops
    from pcperc.benchmark.stages import measure_stages
    from pcperc.benchmark.tune import TuneOptions, tune
    from pcperc.benchmark.unet import ModelOptions, measure_unet

    command = arguments.pop("command")
    if command == "op":
        measure_ops(OpOptions(**arguments))
    elif command == "hits":
        measure_hits(HitsOptions(**arguments))
    elif command == "clouds":
        measure_clouds(CloudOptions(**arguments))
    elif command == "tune":
        tune(TuneOptions(**arguments))
    else:
        model = measure_unet if arguments.get("config") is None else measure_config
        measure = {"model": model, "first": measure_first_call, "stages": measure_stages}[command]
        measure(ModelOptions(**arguments))


if __name__ == "__main__":
    sys.exit(run_tool(main))
