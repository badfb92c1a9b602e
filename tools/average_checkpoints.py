# SPDX-License-Identifier: Apache-2.0
"""Average the weights of several checkpoints of one model. Options are explained in tools/README.md."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pcperc.engine.messages import run_tool  # noqa: E402


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", type=Path, nargs="+", help=".pth or .safetensors that train.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file that is written")
    return parser.parse_args()


def main() -> None:
    arguments = vars(parse_arguments())
    from pcperc.engine.averaging import AverageOptions, average_checkpoints

    average_checkpoints(AverageOptions(**arguments))


if __name__ == "__main__":
    sys.exit(run_tool(main))
