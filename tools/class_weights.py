# SPDX-License-Identifier: Apache-2.0
"""Count the labels that a config trains with and print the class weights for its loss."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pcperc.engine.messages import run_tool, say  # noqa: E402


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, help="of a segmentation network; its training data is counted")
    parser.add_argument("--exponent", type=float, default=0.5, help="0: all alike, 1: same part each; default 0.5")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    from mmengine.config import Config

    from pcperc.datasets import class_weights, count_labels
    from pcperc.registry import DATASETS

    dataset = DATASETS.build({**Config.fromfile(arguments.config).train_dataloader.dataset, "transforms": []})
    counts = count_labels(dataset, show_progress=True)
    weights = class_weights(counts, exponent=arguments.exponent)
    for name, count, weight in zip(dataset.classes, counts, weights, strict=True):
        say(f"{name:22} {count:15,} points   weight {weight:.4f}")
    say(f"class_weights=[{', '.join(f'{weight:.4f}' for weight in weights)}]")


if __name__ == "__main__":
    sys.exit(run_tool(main))
