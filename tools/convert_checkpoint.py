# SPDX-License-Identifier: Apache-2.0
"""Take over the weights of a network that another project published. Options are explained in tools/README.md."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pcperc.engine.messages import run_tool  # noqa: E402


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, help="whose model is the network, such as configs/bevfusion.py")
    parser.add_argument("file", type=Path, help="their checkpoint: torch.save's, or .safetensors")
    sources = ("bevfusion", "mmdet3d", "spvnas", "torchsparse", "pvcnn", "pcperc")
    parser.add_argument("--from", dest="source", choices=sources, help="whose names; default: told by the names")
    parser.add_argument(
        "--to", dest="target", choices=("safetensors", "pth"), default="safetensors", help="default %(default)s"
    )
    parser.add_argument("--out", type=Path, help="the file that is written; default: FILE with the other ending")
    return parser.parse_args()


def main() -> None:
    arguments = vars(parse_arguments())
    from pcperc.engine.converting import ConvertOptions, convert_checkpoint

    convert_checkpoint(ConvertOptions(**arguments))


if __name__ == "__main__":
    sys.exit(run_tool(main))
