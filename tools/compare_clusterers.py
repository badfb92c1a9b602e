# SPDX-License-Identifier: Apache-2.0
"""Train networks of calorimeter hits alike, score them on the same events and time them. See tools/README.md."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pcperc.engine.messages import run_tool  # noqa: E402

CONFIGS = (Path("configs/calo/spvcnn.py"), Path("configs/calo/gravnet.py"))


def parse_arguments() -> argparse.Namespace:
    from tools.train import ConfigOptions

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configs", type=Path, nargs="*", default=CONFIGS, help="default: both networks of configs/calo")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8], help="events at once, for the speed")
    parser.add_argument("--runs", type=int, default=5, help="timed rounds")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/clusterers"), help="default %(default)s")
    parser.add_argument(
        "--cfg-options",
        dest="overrides",
        nargs="+",
        action=ConfigOptions,
        default={},
        metavar="KEY=VALUE",
        help="of all",
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:N; default: the GPU where there is one")
    return parser.parse_args()


def main() -> None:
    arguments = vars(parse_arguments())
    from pcperc.benchmark.clusterers import CompareOptions, compare_clusterers
    from tools.train import simulate

    compare_clusterers(CompareOptions(**arguments), simulate=simulate)


if __name__ == "__main__":
    sys.exit(run_tool(main, when_stopped="stopped; the same command goes on with the runs that are not finished"))
