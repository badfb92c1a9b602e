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
        "config", type=Path, nargs="?", default=Path("configs/bevfusion.py"), help="default: configs/bevfusion.py"
    )
    parser.add_argument("checkpoint", type=Path, nargs="?", help="default: the newest finished one of the work dir")
    parser.add_argument("--eval", dest="evaluation", default="nuscenes", help="nuscenes or bbox: the same")
    parser.add_argument("--split", help="default: the one that the checkpoint's config tests on")
    parser.add_argument("--work-dir", type=Path, help="receives results_nusc.json; default work_dirs/<config>")
    parser.add_argument("--data-root", help="where the data set is now, if not where the checkpoint was trained")
    parser.add_argument("--blank-images", action="store_true", help="make all images black")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; default: the GPU where there is one")
    return parser.parse_intermixed_args()  # a checkpoint may stand behind an option


def main() -> None:
    arguments = vars(parse_arguments())
    from pcperc.engine.testing import TestOptions, test

    test(TestOptions(**arguments))


if __name__ == "__main__":
    sys.exit(run_tool(main))
