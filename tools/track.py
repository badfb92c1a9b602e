# SPDX-License-Identifier: Apache-2.0
"""Follow detections through the scenes of a data set and score the tracks. Options are explained in tools/README.md."""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TQDM_DISABLE", "1")  # the devkit's bars; read when torch imports tqdm
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pcperc.engine.messages import run_tool  # noqa: E402


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, help="of it and its profiles the first that fits is taken")
    parser.add_argument("results", type=Path, nargs="?", help="results_nusc.json of a detector; without it: the truth")
    parser.add_argument("--tracker", default="kalman", help="greedy or kalman; default %(default)s")
    parser.add_argument("--split", help="default: the one that the config tests on")
    parser.add_argument("--work-dir", type=Path, help="receives tracks and scores; default work_dirs/<config>")
    parser.add_argument("--data-root", help="where the data set is now, if not where the config says")
    return parser.parse_intermixed_args()


def main() -> None:
    arguments = vars(parse_arguments())
    from pcperc.engine.tracking import TrackOptions, track

    track(TrackOptions(**arguments))


if __name__ == "__main__":
    sys.exit(run_tool(main))
