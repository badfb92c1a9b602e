# SPDX-License-Identifier: Apache-2.0
"""Options that the comparisons of trained networks share: of segmenters, of clusterers, of detectors."""

import argparse
from pathlib import Path


def add_comparison_options(parser: argparse._ActionsContainer, *, work_dir: str) -> None:
    """Add --seeds, --jobs, --amp, --work-dir, --cfg-options and --device."""
    from tools.train import ConfigOptions

    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, spread over the GPUs; default in turn")
    parser.add_argument("--amp", action="store_true", help="train in half precision, as of train.py")
    parser.add_argument("--work-dir", type=Path, default=Path(work_dir), help="default %(default)s")
    parser.add_argument(
        "--cfg-options",
        dest="overrides",
        nargs="+",
        action=ConfigOptions,
        default={},
        metavar="KEY=VALUE",
        help="of all trainings",
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:N; default: all GPUs, or the CPU where there is none")
