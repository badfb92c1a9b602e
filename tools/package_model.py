# SPDX-License-Identifier: Apache-2.0
"""Write a BEVFusion as one file that runs without the code that trained it. Options: see tools/README.md."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pcperc.engine.messages import run_tool  # noqa: E402


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("checkpoint", type=Path, help=".pth or .safetensors that train.py wrote")
    parser.add_argument("--out", type=Path, default=Path("detector.pt2"), help="default %(default)s")
    parser.add_argument("--format", default="exported", help="exported (torch.export) or compiled (AOTInductor)")
    parser.add_argument("--precision", default="float32", help="float32, float16 or bfloat16")
    parser.add_argument("--fuse", action="store_true", help="fold the batch norms of the LiDAR encoder")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; default: the GPU where there is one")
    return parser.parse_args()


def main() -> None:
    arguments = vars(parse_arguments())
    from pcperc.engine.packaging import PackageOptions, package_model

    package_model(PackageOptions(**arguments))


if __name__ == "__main__":
    sys.exit(run_tool(main))
