# SPDX-License-Identifier: Apache-2.0
"""Look at predictions beside the truth: an interactive Open3D scene, or pictures with --save (needs no display)."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pcperc.engine.messages import run_tool  # noqa: E402


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, help="of it and its profiles the first that fits is taken")
    parser.add_argument("checkpoint", type=Path, nargs="?", help="predict with it; without it and --results: the truth")
    parser.add_argument(
        "--results",
        type=Path,
        help="results_nusc.json, results_tracking.json or the folder of sequences/ that tools/test.py wrote; or "
        "<file>.json of tools/infer.py, or its folder, to look at files without a data set",
    )
    parser.add_argument("--save", type=Path, metavar="DIR", help="write PNG files there instead of opening a window")
    parser.add_argument("--gif", type=Path, metavar="FILE", help="write a scene, seen from above, as an animation")
    parser.add_argument("--scene", help="only this scene; with --gif the first, unless named")
    parser.add_argument("--split", help="default: the one that the config tests on")
    parser.add_argument(
        "--max-samples", type=int, default=10, help="with --save, spread over the split; 0 is all; default %(default)s"
    )
    parser.add_argument("--score-threshold", type=float, default=0.2, help="hide what is below; default %(default)s")
    parser.add_argument(
        "--map-threshold", type=float, default=0.5, help="a map class is predicted from this probability; %(default)s"
    )
    parser.add_argument(
        "--color-by",
        choices=("height", "intensity", "class", "truth", "error", "instance", "cluster"),
        help="colours of the points; default: class where points have one, else height; of hits: cluster or class",
    )
    parser.add_argument("--data-root", help="where the data set is now, if not where the config says")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; default: the GPU where there is one")
    return parser.parse_intermixed_args()  # a checkpoint may stand behind an option


def main() -> None:
    arguments = vars(parse_arguments())
    from pcperc.engine.visualizing import VisualizeOptions, visualize

    visualize(VisualizeOptions(**arguments))


if __name__ == "__main__":
    sys.exit(run_tool(main))
