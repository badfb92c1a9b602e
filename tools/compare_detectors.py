# SPDX-License-Identifier: Apache-2.0
"""Train the BEVFusion family alike on simulated scenes at full size, score, track and time it. See tools/README.md."""

import argparse
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pcperc.engine.messages import run_tool  # noqa: E402


def parse_arguments() -> argparse.Namespace:
    from pcperc.benchmark.detector_options import PARTS
    from tools.comparison_options import add_comparison_options

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), metavar="PART", help=f"{', '.join(PARTS)}; all")
    parser.add_argument("--networks", nargs="+", default=(), metavar="NAME", help="of these parts only such; all")
    parser.add_argument(
        "--stages", action="store_true", help="only time predictions of the published sizes by stages, on GPU and CPU"
    )
    parser.add_argument(
        "--input", type=Path, metavar="FILE", help="LiDAR sweep of --stages, as of benchmark.py; default as there"
    )
    parser.add_argument(
        "--runs", type=int, default=10, help="timed rounds of --stages, on a CPU at most 3; default %(default)s"
    )
    add_comparison_options(parser, work_dir="work_dirs/detectors")
    return parser.parse_args()


def main() -> None:
    options = vars(parse_arguments())
    from pcperc.benchmark.detector_stages import compare_stages
    from pcperc.benchmark.detectors import CompareOptions, compare_detectors
    from tools.train import simulate

    options = CompareOptions(**options)
    if options.stages:
        compare_stages(options)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended by another program: its runs end too
    compare_detectors(options, simulate=simulate)


if __name__ == "__main__":
    sys.exit(run_tool(main, when_stopped="stopped; the same command goes on with what is not finished"))
