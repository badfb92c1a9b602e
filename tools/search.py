# SPDX-License-Identifier: Apache-2.0
"""Search a super network for the subnets that score best under a limit. Options are explained in tools/README.md."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pcperc.engine.messages import run_tool  # noqa: E402


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "config", type=Path, help="configs/spvnas/spvnas_supernet.py, say; a CHECKPOINT alone brings its own"
    )
    parser.add_argument(
        "checkpoint", type=Path, nargs="?", help="default: the newest finished one of the work dir, else it is trained"
    )
    parser.add_argument("--max-gmacs", type=float, metavar="G", help="10^9 multiply-adds a scan, the mean over --scans")
    parser.add_argument("--max-mparams", type=float, metavar="M", help="10^6 parameters")
    parser.add_argument("--max-latency-ms", type=float, metavar="MS", help="time a scan, measured on this machine")
    parser.add_argument("--population", type=int, default=50, help="default %(default)s")
    parser.add_argument("--generations", type=int, default=20, help="after the first, default %(default)s")
    parser.add_argument("--scans", type=int, default=20, help="that each subnet is scored on, default %(default)s")
    parser.add_argument(
        "--calibration-scans", type=int, default=8, help="of the training split, for batch norms, default %(default)s"
    )
    parser.add_argument("--split", help="of --scans; default: the one that the config tests on")
    parser.add_argument("--amp", action="store_true", help="score in half precision, as of train.py")
    parser.add_argument(
        "--random", type=int, default=0, metavar="N", help="no search: score N subnets drawn at the first limit"
    )
    parser.add_argument("--work-dir", type=Path, help="results go into its folder search; default work_dirs/<config>")
    parser.add_argument("--data-root", help="where the data set is now, if not where the checkpoint was trained")
    parser.add_argument("--resume", action="store_true", help="continue the search of the work dir")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; default: the GPU where there is one")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_intermixed_args()


def main() -> None:
    arguments = vars(parse_arguments())
    from pcperc.search import SearchOptions, search
    from tools.train import simulate

    if arguments["config"].suffix in (".pth", ".safetensors"):
        if arguments["checkpoint"] is not None:
            raise ValueError(f"CONFIG must be a .py file, got {arguments['config']}")
        arguments |= {"config": None, "checkpoint": arguments["config"]}
    search(SearchOptions(**arguments), simulate=simulate)


if __name__ == "__main__":
    sys.exit(run_tool(main, when_stopped="stopped; the same command with --resume goes on after the last generation"))
