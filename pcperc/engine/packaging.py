# SPDX-License-Identifier: Apache-2.0
"""A BEVFusion as one file that runs without the code that trained it: a graph of torch.export, or machine code.

What runs it imports torch and loads the library of operators, nothing else (docs/deploy.md).
"""

import contextlib
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pcperc import nn as spnn
from pcperc.engine.config import ConfigError
from pcperc.engine.distributed import pick_device
from pcperc.engine.file_samples import classes_of
from pcperc.engine.loading import PRECISIONS, build_model, open_checkpoint
from pcperc.engine.messages import say
from pcperc.engine.package_check import CELLS, check_agreement, check_map_agreement
from pcperc.files import write_text, written_whole
from pcperc.models.bevfusion import BEVFusion, SparseEncoder
from pcperc.models.bevfusion.program import DetectorProgram

FORMATS = ("exported", "compiled")
NUM_POINTS = 4000  # of the made-up cloud with which the program is traced and compared
Program = Callable[[dict[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True)
class PackageOptions:
    """What the command line says; see tools/README.md."""

    config: Path
    checkpoint: Path
    out: Path = Path("detector.pt2")
    format: str = "exported"
    precision: str = "float32"
    fuse: bool = False
    device: str | None = None


def package_model(options: PackageOptions) -> Path:
    """Write the model of a checkpoint as a program, and beside it a JSON file that tells what goes in and comes out.

    The program takes any number of points. It is run once and compared with the model before it gets its name.

    Returns:
        ``options.out``.
    Raises:
        ConfigError: the model is no BEVFusion of boxes or maps, or has nothing to fuse; another format or precision,
            or a suffix other than .pt2.
        RuntimeError: the program gives other scores, boxes or maps than the model (`TOLERANCES`); nothing is written.
    """
    if options.format not in FORMATS or options.precision not in PRECISIONS:
        raise ConfigError(
            f"--format must be of {', '.join(FORMATS)} and --precision of {', '.join(PRECISIONS)}, "
            f"got {options.format} and {options.precision}"
        )
    if options.out.suffix != ".pt2":
        raise ConfigError(f"--out must be a .pt2 file, got {options.out}")
    device = pick_device(options.device)
    opened = open_checkpoint(options.checkpoint, options.config, compared=("model",))
    model = build_model(opened, device)
    if not isinstance(model, BEVFusion) or not {"object", "map"} & set(model.heads):
        raise ConfigError(f"{options.checkpoint}: must be a BEVFusion of boxes or maps, got {type(model).__name__}")
    if options.fuse:
        if "lidar" not in model.encoders or not isinstance(model.encoders["lidar"], SparseEncoder):
            raise ConfigError(f"{options.checkpoint}: --fuse is for sparse LiDAR encoders, its model has none")
        model.encoders["lidar"] = spnn.fuse(model.encoders["lidar"])
    program = DetectorProgram(model, dtype=PRECISIONS[options.precision]).to(device)
    sample = example_sample(program, _image_size(opened.cfg), device)
    say(f"tracing {options.checkpoint} on {device}")
    exported = export_program(program, sample)
    compiled = options.format == "compiled"
    if compiled:
        say("compiling; this takes minutes")
    with packaged(exported, options.out, compiled=compiled) as run, torch.no_grad():
        try:
            said = _check(run(sample), program(sample), options.precision)
        except RuntimeError as error:
            raise RuntimeError(f"{options.out}: {error}") from error
    facts = {
        **{"format": options.format, "precision": options.precision, "device": device.type},
        "inputs": {key: [list(value.shape), str(value.dtype)] for key, value in sample.items()},
        "classes": list(classes_of(dataset)) if (dataset := _test_dataset(opened.cfg)) else [],
        "checkpoint": str(options.checkpoint),
        "trained_on_simulated_data": opened.simulated,
    }
    if program.map_head is not None:
        grid = program.map_head.transform.grid
        facts["map"] = {"classes": program.map_head.classes, "x_bound": grid.x_bound, "y_bound": grid.y_bound}
    write_text(options.out.with_suffix(".json"), json.dumps(facts, indent=1) + "\n")
    say(f"{options.out}: {said}")
    return options.out


def _check(found: dict[str, Tensor], wanted: dict[str, Tensor], precision: str) -> str:
    """Compare what a package and its model give for one sample; return in words how near they are."""
    said = []
    if "boxes" in wanted:
        near = check_agreement(found, wanted, precision)
        boxes = f"{'' if precision == 'float32' else 'half of the '}boxes within {near.boxes:.2g} (m, rad, m/s)"
        said.append(f"{near.count} boxes of a made-up scene, scores within {near.scores:.2g} of the model's, {boxes}")
    if "map" in wanted:
        near_map = check_map_agreement(found["map"], wanted["map"], precision)
        said.append(f"{CELLS:.0%} of a map of it within {near_map:.2g} of the model's")
    return "; ".join(said)


def export_program(program: DetectorProgram, sample: dict[str, Tensor]) -> torch.export.ExportedProgram:
    """Trace a program on a sample; the number of points stays open."""
    shapes = {key: {0: torch.export.Dim.DYNAMIC} if key == "points" else None for key in sample}
    with torch.no_grad():
        return torch.export.export(program, (sample,), dynamic_shapes=(shapes,))


@contextlib.contextmanager
def packaged(exported: torch.export.ExportedProgram, out: Path, *, compiled: bool) -> Iterator[Program]:
    """Write a program, as its graph or as machine code for the device it was traced on, and give what runs it.

    It gets its name at the end; where anything fails before, ``out`` is what it was.
    """
    with written_whole(out) as partial:
        whole = partial.with_name(f"{partial.stem}.pt2")  # both writers insist on the suffix
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's own, of its deprecated parts
                if compiled:
                    torch._inductor.aoti_compile_and_package(exported, package_path=str(whole))
                else:
                    torch.export.save(exported, whole)
            yield load_package(whole, compiled=compiled)
            whole.replace(partial)
        finally:
            whole.unlink(missing_ok=True)


def load_package(path: Path, *, compiled: bool) -> Program:
    """Return what runs a package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch._inductor.aoti_load_package(str(path)) if compiled else torch.export.load(path).module()


def example_sample(program: DetectorProgram, image_size: Sequence[int], device: torch.device) -> dict[str, Tensor]:
    """Make up a sample: points all over the range, grey images that look forward; the same each time."""
    sample = {}
    if "points" in program.input_names:
        generator = torch.Generator().manual_seed(0)
        low, high = torch.tensor(program.preprocessor.voxelizer.point_range).view(2, 3)
        xyz = low + torch.rand(NUM_POINTS, 3, generator=generator) * (high - low)
        sample["points"] = torch.cat([xyz, torch.zeros(NUM_POINTS, 2)], 1)
    if "images" in program.input_names:
        height, width = image_size
        forward = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
        camera2image = torch.tensor([[0.8 * width, 0, width / 2], [0, 0.8 * width, height / 2], [0, 0, 1]])
        sample["images"] = torch.full((6, 3, height, width), 90, dtype=torch.uint8)
        sample["lidar2camera"] = forward.repeat(6, 1, 1)
        sample["camera2image"], sample["image_aug"] = camera2image.repeat(6, 1, 1), torch.eye(3).repeat(6, 1, 1)
    return {key: value.to(device) for key, value in sample.items()}


def _image_size(cfg: dict) -> Sequence[int]:
    """The size of the images that the network was tested on; (0, 0) without cameras."""
    transforms = _test_dataset(cfg).get("transforms", ())
    return next((transform["final_size"] for transform in transforms if "final_size" in transform), (0, 0))


def _test_dataset(cfg: dict) -> dict:
    """The data set that the network was tested on, as its config describes it; empty where there was none."""
    return cfg.get("test_dataloader", {}).get("dataset", {})
