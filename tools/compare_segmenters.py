# SPDX-License-Identifier: Apache-2.0
"""Train MinkUNet, SPVCNN and a searched SPVNAS alike, score and time them on the same scans. See tools/README.md."""

import argparse
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pcperc.engine.messages import run_tool  # noqa: E402


def parse_arguments() -> argparse.Namespace:
    from tools.comparison_options import add_comparison_options

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10, help="that all weights see, default %(default)s")
    parser.add_argument(
        "--finetune-epochs", type=int, default=4, help="of these, for the subnet after the super network's; %(default)s"
    )
    parser.add_argument("--population", type=int, default=50, help="of each search, default %(default)s")
    parser.add_argument("--generations", type=int, default=20, help="after the first, default %(default)s")
    parser.add_argument("--search-split", default="sim_test", help="on which subnets are chosen, default %(default)s")
    parser.add_argument("--random", type=int, default=20, help="random subnets a seed, default %(default)s")
    parser.add_argument(
        "--limits",
        type=float,
        nargs="*",
        default=[20, 25, 35, 65],
        help="GMACs of subnets beside the published ones, of the first seed; nothing behind it leaves them out",
    )
    parser.add_argument(
        "--frames", type=Path, metavar="SCAN", help="only time the networks of the first seed, trained before, on SCAN"
    )
    parser.add_argument(
        "--runs", type=int, default=20, help="timed rounds of --frames, on a CPU at most 5; %(default)s"
    )
    add_comparison_options(parser, work_dir="work_dirs/segmenters")
    return parser.parse_args()


def main() -> None:
    options = vars(parse_arguments())
    from pcperc.benchmark.segmenters import CompareOptions, compare_segmenters, compare_speed
    from tools.train import simulate

    options = CompareOptions(**options)
    if options.frames is not None:
        compare_speed(options)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended by another program: its runs end too
    compare_segmenters(options, simulate=simulate)


if __name__ == "__main__":
    sys.exit(run_tool(main, when_stopped="stopped; the same command goes on with what is not finished"))
