#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Prepare a data set for training.

python tools/prepare_data.py nuscenes --root data/nuscenes --version v1.0-mini
python tools/prepare_data.py s3dis --root data/s3dis      rooms as published in text to arrays
"""

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pcperc.datasets.nuscenes_index import NUM_SWEEPS  # noqa: E402
from pcperc.datasets.nuscenes_prepare import prepare_nuscenes_for_training  # noqa: E402
from pcperc.datasets.s3dis import prepare_s3dis  # noqa: E402
from pcperc.engine.messages import run_tool  # noqa: E402


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Prepare a data set for training. May be stopped and called again.")
    datasets = parser.add_subparsers(dest="dataset", required=True)
    nuscenes = datasets.add_parser("nuscenes", help="index of each split, GT-paste database of the training split")
    nuscenes.add_argument("--root", default="data/nuscenes", help="folder with samples/, sweeps/ and the tables")
    nuscenes.add_argument("--version", default="v1.0-trainval", help="v1.0-mini, v1.0-trainval, v1.0-test or your own")
    nuscenes.add_argument("--splits", nargs="+", help="default: all that have scenes")
    nuscenes.add_argument("--num-sweeps", type=int, default=NUM_SWEEPS, help="older sweeps a sample, %(default)s")
    nuscenes.add_argument("--no-gt-database", action="store_true", help="leave the GT-paste database out")
    nuscenes.add_argument("--overwrite", action="store_true", help="make anew what is complete")
    s3dis = datasets.add_parser("s3dis", help="rooms as published in text to arrays, which are read at once")
    s3dis.add_argument("--root", default="data/s3dis", help="folder with Area_1/ to Area_6/")
    s3dis.add_argument("--overwrite", action="store_true", help="make anew what is complete")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.dataset == "s3dis":
        print(f"{args.root}: {len(prepare_s3dis(args.root, overwrite=args.overwrite))} rooms written")
        return
    paths = prepare_nuscenes_for_training(
        args.root,
        args.version,
        splits=args.splits,
        num_sweeps=args.num_sweeps,
        gt_database=not args.no_gt_database,
        overwrite=args.overwrite,
    )
    for split, path in paths.items():
        print(f"{split}: {path}")


if __name__ == "__main__":
    sys.exit(run_tool(main, when_stopped="stopped; the same command goes on from here"))
