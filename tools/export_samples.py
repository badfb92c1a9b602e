# SPDX-License-Identifier: Apache-2.0
"""Write samples of a data set as raw files: points, images and the calibration that tools/infer.py reads."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pcperc.engine.messages import run_tool  # noqa: E402


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, help="says which data set; of it and its profiles the first with data")
    parser.add_argument("--index", type=int, nargs="+", default=[0], help="which samples of the split; default 0")
    parser.add_argument("--out", type=Path, default=Path("samples"), help="folder; default %(default)s")
    parser.add_argument("--split", help="default: the one that the config tests on")
    parser.add_argument("--data-root", help="where the data set is now, if not where the config says")
    return parser.parse_args()


def main() -> None:
    arguments = vars(parse_arguments())
    from pcperc.engine.exporting import ExportOptions, export_samples

    export_samples(ExportOptions(**arguments))


if __name__ == "__main__":
    sys.exit(run_tool(main))
