# SPDX-License-Identifier: Apache-2.0
"""Take over the weights of a network that another project published. Options are explained in tools/README.md."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pcperc.engine.messages import run_tool  # noqa: E402


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, help="whose model is the network, such as configs/spvnas/spvcnn_*.py")
    parser.add_argument("file", type=Path, help="their checkpoint: torch.save's, or .safetensors")
    parser.add_argument(
        "--from", dest="source", required=True, choices=("spvnas", "torchsparse", "pvcnn"), help="whose names"
    )
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file that is written")
    return parser.parse_args()


def main() -> None:
    arguments = vars(parse_arguments())
    from pcperc.engine.converting import ConvertOptions, convert_checkpoint

    convert_checkpoint(ConvertOptions(**arguments))


if __name__ == "__main__":
    sys.exit(run_tool(main))
