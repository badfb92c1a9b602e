# SPDX-License-Identifier: Apache-2.0
"""Detect objects in raw point files, or clusters in files of hits. Options are explained in tools/README.md."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pcperc.engine.messages import run_tool  # noqa: E402


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, help="it, or one of its profiles, must have the checkpoint's model")
    parser.add_argument("checkpoint", type=Path, help=".pth or .safetensors of train.py")
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE", help=".pcd.bin, .bin, .npy, .npz, .txt, .ply")
    parser.add_argument("--calibration", type=Path, nargs="+", default=(), help="JSON of cameras, one or one a file")
    parser.add_argument("--out", type=Path, default=Path("predictions"), help="folder of the JSON results, %(default)s")
    parser.add_argument("--columns", type=int, choices=(4, 5), help="floats a point in a .bin")
    parser.add_argument("--intensity-scale", type=float, default=1.0, help="to 0..255; 255 for files with 0..1")
    parser.add_argument("--min-score", type=float, help="leave out boxes below; default 0.1")
    parser.add_argument("--ray", action="store_true", help="many frames by many workers, as parquet; resumes")
    parser.add_argument("--workers", type=int, help="with --ray: default one a GPU, or one")
    parser.add_argument("--frames-per-part", type=int, help="with --ray: of a file, default 16")
    parser.add_argument("--split", help="with --ray, without FILE: of the data set; default: the one tested on")
    parser.add_argument("--data-root", help="with --ray, without FILE: where the data set is now")
    parser.add_argument("--category", help="what the files show, for parts of shapes (Chair) and frustums (Car)")
    parser.add_argument("--fuse", action="store_true", help="fold norms into the layers before them (pcperc.nn.fuse)")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; default: the GPU where there is one")
    return parser.parse_intermixed_args()  # a checkpoint may stand behind an option


def refuse(given: dict, names: Iterable[str], why: str) -> None:
    """Raise ValueError for the first of these options that is given."""
    for name in names:
        if name in given:
            raise ValueError(f"--{name.replace('_', '-')}: {why}")


def main() -> None:
    arguments = vars(parse_arguments())
    of_ray = {name: arguments.pop(name) for name in ("workers", "frames_per_part", "split", "data_root")}
    of_ray = {name: value for name, value in of_ray.items() if value is not None}
    if arguments.pop("ray"):
        if arguments["files"]:
            refuse(of_ray, ("split", "data_root"), "is of a data set, and FILEs are given")
        from pcperc.engine.batch_inference import BatchOptions, infer_on_ray

        if arguments.pop("category") is not None:
            raise ValueError("--category: is not for detectors, which --ray runs")
        infer_on_ray(BatchOptions(**{k: v for k, v in arguments.items() if v is not None}, **of_ray))
        return
    from pcperc.engine.inference import InferOptions, infer

    refuse(of_ray, of_ray, "needs --ray")
    if not arguments["files"]:
        raise ValueError(
            f"infer: give at least one FILE behind the checkpoint ({arguments['checkpoint']} was taken for it), "
            "or --ray for all frames of a data set"
        )
    infer(InferOptions(**arguments))


if __name__ == "__main__":
    sys.exit(run_tool(main))
