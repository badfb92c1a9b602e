# SPDX-License-Identifier: Apache-2.0
"""Score a checkpoint with the official evaluation. Options are explained in tools/README.md."""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TQDM_DISABLE", "1")  # the devkit's bars; read when torch imports tqdm
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pcperc.engine.messages import run_tool  # noqa: E402


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "config",
        type=Path,
        nargs="?",
        help="default: configs/bevfusion.py, or the one for the data set of --eval; a CHECKPOINT alone brings its own",
    )
    parser.add_argument("checkpoint", type=Path, nargs="?", help="default: the newest finished one of the work dir")
    parser.add_argument(
        "--eval",
        dest="evaluation",
        help="nuscenes (bbox), tracking, map, argoverse2, waymo, semantickitti, lidarseg, shapenet, s3dis, kitti, "
        "modelnet, calo",
    )
    parser.add_argument("--tracker", help="with --eval tracking: greedy or kalman, the default")
    parser.add_argument("--split", help="default: the one that the checkpoint's config tests on")
    parser.add_argument("--work-dir", type=Path, help="receives scores and results; default work_dirs/<config>")
    parser.add_argument("--data-root", help="where the data set is now, if not where the checkpoint was trained")
    parser.add_argument("--blank-images", action="store_true", help="make all images black")
    parser.add_argument(
        "--votes", type=int, default=0, metavar="N", help="segmentation: N turns and mirror images; of clouds: N draws"
    )
    parser.add_argument(
        "--tta",
        type=float,
        nargs="*",
        metavar="DEG",
        help="BEVFusion: also mirror images, each turned by +-DEG too; boxes and maps are merged",
    )
    parser.add_argument("--precision", default="float32", help="float32, float16 or bfloat16 (by autocast)")
    parser.add_argument(
        "--detections", metavar="PATH", help="KITTI's frustums: a detector's 2D boxes in place of the labelled ones"
    )
    parser.add_argument("--format-only", action="store_true", help="segmentation, KITTI: write results, score nothing")
    parser.add_argument("--fuse", action="store_true", help="fold norms into the layers before them (pcperc.nn.fuse)")
    parser.add_argument(
        "--cuda-graph",
        type=int,
        metavar="ROWS",
        help="CUDA graphs, for batches of at most so many voxels (BEVFusion), points (segmentation) or hits",
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:N; default: the GPU where there is one")
    return parser.parse_intermixed_args()  # a checkpoint may stand behind an option


def main() -> None:
    arguments = vars(parse_arguments())
    from pcperc.engine.testing import DEFAULT_CONFIGS, TestOptions, test

    if arguments["config"] is not None and arguments["config"].suffix in (".pth", ".safetensors"):
        if arguments["checkpoint"] is not None:
            raise ValueError(f"CONFIG must be a .py file, got {arguments['config']}")
        arguments |= {"config": None, "checkpoint": arguments["config"]}
        arguments["work_dir"] = arguments["work_dir"] or arguments["checkpoint"].parent
    elif arguments["config"] is None:
        arguments["config"] = DEFAULT_CONFIGS.get(arguments["evaluation"], Path("configs/bevfusion.py"))
    test(TestOptions(**arguments))


if __name__ == "__main__":
    sys.exit(run_tool(main))
