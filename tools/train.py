# SPDX-License-Identifier: Apache-2.0
"""Train what a config describes. Options are explained in tools/README.md."""

import argparse
import importlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmengine.config import DictAction  # noqa: E402

from pcperc.engine.messages import run_tool, say  # noqa: E402


class ConfigOptions(DictAction):
    """MMEngine's ``key=value`` options; what is none of that is named."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        for text in values:
            key, equals, value = text.partition("=")
            if not key or not equals:
                raise ValueError(f"--cfg-options: must be KEY=VALUE, got '{text}'")
            try:
                super().__call__(parser, namespace, [text], option_string)
            except (ValueError, AssertionError) as error:
                raise ValueError(f"--cfg-options {key}: must be a value with closed brackets, got '{value}'") from error


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, help="configs/bevfusion.py, say")
    parser.add_argument("--work-dir", type=Path, help="checkpoints go directly in it; default work_dirs/<config>")
    parser.add_argument("--resume", action="store_true", help="continue the last run of the work dir")
    parser.add_argument("--amp", action="store_true", help="half precision: float16 on a GPU, bfloat16 on a CPU")
    parser.add_argument("--profile", help="full, or a name in the config's profiles (demo)")
    parser.add_argument(
        "--load-from",
        type=Path,
        action="append",
        metavar="FILE",
        help="start from these weights and skip the first stages; a second one gives the encoders that the first lacks",
    )
    parser.add_argument("--pretrained-backbone", type=Path, help="Swin weights of mmdet, torchvision or timm")
    parser.add_argument("--subnet", type=Path, help="JSON of tools/search.py, for configs/spvnas/spvnas_subnet.py")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=ConfigOptions,
        default={},
        metavar="KEY=VALUE",
        help="override keys of the config: train_cfg.max_epochs=3 data_root=/data/nuscenes",
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:N; default: the GPU where there is one")
    parser.add_argument("--seed", type=int, help="0 to 2**32 - 1; default: the config's")
    return parser.parse_args()


def main() -> None:
    arguments = vars(parse_arguments())
    if not 0 <= (arguments["seed"] or 0) < 2**32:
        raise ValueError(f"--seed must be in 0 .. 2**32 - 1, got {arguments['seed']}")
    from pcperc.engine.training import TrainOptions, train

    arguments["load_from"] = tuple(arguments["load_from"] or ())
    train(TrainOptions(overrides=arguments.pop("cfg_options"), **arguments), simulate=simulate)


# The module of pcperc.simulation whose Settings write a format.
SIMULATORS = {
    "nuscenes": "driving",
    "argoverse2": "argoverse2_generate",
    "semantickitti": "semantickitti_generate",
    "calorimeter": "calorimeter",
    "shapenet_part": "shapes",
    "kitti_object": "kitti_generate",
    "s3dis": "rooms",
}


def simulate(*, root: str, size: str, seed: int, format: str = "nuscenes", **counts: int) -> None:
    """Write the simulated data set that a config asks for: so many scenes, events of a calorimeter, or shapes."""
    from pcperc.engine.progress import shown_from_first_report
    from pcperc.simulation import data_set

    settings = importlib.import_module(f"pcperc.simulation.{SIMULATORS[format]}").Settings
    what = settings.parts
    if list(counts) != [what]:
        raise ValueError(f"simulation of {format} must say how many {what}, got {counts}")
    with shown_from_first_report(f"simulating {what}") as report:
        data_set.simulate(
            root,
            settings(counts[what], size, seed),
            workers=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            progress=report,
            compiling=lambda: say(data_set.COMPILING),
        )


if __name__ == "__main__":
    sys.exit(run_tool(main))
