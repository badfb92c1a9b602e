# SPDX-License-Identifier: Apache-2.0
"""Train networks of calorimeter hits alike, score them on the same events and time them. See tools/README.md."""

import argparse
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pcperc.engine.messages import run_tool  # noqa: E402

CONFIGS = (Path("configs/calo/spvcnn_condensation.py"), Path("configs/calo/gravnet.py"))


def parse_arguments() -> argparse.Namespace:
    from tools.comparison_options import add_comparison_options

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configs", type=Path, nargs="*", default=CONFIGS, help="default: both networks of configs/calo")
    parser.add_argument("--epochs", type=int, help="of every training; default: what its config says")
    parser.add_argument(
        "--rates",
        type=float,
        nargs="+",
        default=(),
        metavar="R",
        help="learning rates, of which each network takes the one that suits it best; default: what its config says",
    )
    parser.add_argument(
        "--rates-split", default="sim_val", metavar="SPLIT", help="on which that is judged, default %(default)s"
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="events at once, to time")
    parser.add_argument("--runs", type=int, default=5, help="timed rounds, of the comparison on a CPU at most 2")
    parser.add_argument(
        "--events",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="only time the first CONFIG's network of the first seed, trained before, on each FILE",
    )
    add_comparison_options(parser, work_dir="work_dirs/clusterers")
    return parser.parse_args()


def main() -> None:
    options = vars(parse_arguments())
    from pcperc.benchmark.clusterers import CompareOptions, compare_clusterers, compare_speed
    from tools.train import simulate

    options = CompareOptions(**options)
    if options.events is not None:
        compare_speed(options)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended by another program: its runs end too
    compare_clusterers(options, simulate=simulate)


if __name__ == "__main__":
    sys.exit(run_tool(main, when_stopped="stopped; the same command goes on with what is not finished"))
