# SPDX-License-Identifier: Apache-2.0
"""tools/benchmark.py model CONFIG: parameters, MACs, latency and memory of the model of a config, on one sweep."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import nn

from pcperc.benchmark.inputs import Sweep, load_sweep
from pcperc.benchmark.libraries import Pcperc
from pcperc.benchmark.macs import count_macs
from pcperc.benchmark.map_time import kernel_map_time
from pcperc.benchmark.memory import peak_memory
from pcperc.benchmark.peak import torch_dtype
from pcperc.benchmark.report import Report, start_report
from pcperc.benchmark.timing import WARM_UP, time_in_turns, with_tf32
from pcperc.benchmark.unet import COLUMNS, ModelOptions
from pcperc.datasets import collate
from pcperc.engine.cloud_inference import made_up_sample, reads_clouds
from pcperc.engine.config import load_config
from pcperc.engine.distributed import pick_device
from pcperc.engine.inference import raw_transforms
from pcperc.engine.progress import ProgressDisplay
from pcperc.engine.raw_files import raw_sample
from pcperc.models.capture_model import CAPTURED_MODELS, capture_model
from pcperc.ops._checks import positive_int
from pcperc.registry import MODELS, resolve_type

_IMAGE_SIZE = 900, 1600  # height and width, as nuScenes records
_FOCAL_LENGTH = 1266.0  # pixels


def measure_config(options: ModelOptions) -> Report:
    """Time predictions of a config's model, with initial weights, from points and images to boxes or labels.

    The sample is the sweep, with six cameras of noise where the model has cameras, behind the config's own test
    transforms; of shapes, rooms and frustums a made-up cloud. Half types are torch.autocast's.
    """
    device = pick_device(options.device)
    sweep = load_sweep(options.input, options.voxel_size)
    report = start_report("model", device, [Pcperc()], sweep, options.dtype)
    report.input["config"] = str(options.config)
    functions = {}
    for copies in options.copies:
        for dtype in options.dtype:
            model, predict, sample = build_prediction(options, device, copies, dtype)
            if not functions:  # the same for all
                cost = count_macs(model, **model.data_preprocessor(collate([sample]), False))
            if options.cuda_graph is not None:
                capture_model(model, capacity=options.cuda_graph)
            functions[copies, dtype] = partial(with_tf32, dtype == "tf32", predict)
    with ProgressDisplay("measuring", len(functions) * (WARM_UP + options.runs)) as display:
        times = time_in_turns(functions, device=device, runs=options.runs, on_run=display.advance)
    for (copies, dtype), function in functions.items():
        row = {"case": "inference", "dtype": dtype, "copies": copies, "library": "pcperc"}
        row |= {"num_points": copies * len(sample["points"]), "parameters": cost.parameters}
        row |= {"gmacs": copies * cost.macs / 1e9, "map_ms": kernel_map_time(function, device)} | times[copies, dtype]
        report.rows.append(row | {"peak_mib": peak_memory(function, device)})
    for layer in cost.layers:
        row = {"layer": layer.name, "kind": layer.kind, "parameters": layer.parameters, "macs": layer.macs}
        report.layers.append(row | {"pairs": layer.pairs or None})
    report.compare_libraries(("case", "copies"))
    report.finish(COLUMNS, options.json)
    return report


def build_prediction(
    options: ModelOptions, device: torch.device, copies: int, dtype: str
) -> tuple[nn.Module, Callable[[], object], dict]:
    """The model of a config, a function that predicts by it, and the sample that it predicts for.

    Raises:
        ValueError: options.voxels or peers, which are for layers and MinkUNet: a config's model sees all points;
            options.cuda_graph below 1 or for a model that is none of `CAPTURED_MODELS`.
    """
    for name, given in (("--voxels", any(options.voxels)), ("--peers", options.peers)):
        if given:
            raise ValueError(f"{name}: is not for the model of a config, which sees the whole sweep and has no peers")
    cfg = load_config(options.config)
    if options.cuda_graph is not None:
        positive_int("benchmark", "--cuda-graph", options.cuda_graph)
        kind = resolve_type(cfg.model["type"], MODELS)
        if not (isinstance(kind, type) and issubclass(kind, CAPTURED_MODELS)):
            known = ", ".join(each.__name__ for each in CAPTURED_MODELS)
            raise ValueError(f"--cuda-graph: is for {known}, and {options.config} has a {kind.__name__}")
    model = MODELS.build(cfg.model).to(device).eval()
    dataset = cfg.test_dataloader.dataset
    if reads_clouds(dataset):
        sample = made_up_sample(dataset)
    else:
        sweep = load_sweep(options.input, options.voxel_size)
        sample = _sample(sweep, with_cameras="camera" in cfg.model.get("encoders", {}))
    for transform in raw_transforms(dataset):
        sample = transform(sample)
    return model, _predict(model, sample, copies, dtype, device), sample


def _predict(model: nn.Module, sample: dict, copies: int, dtype: str, device: torch.device) -> Callable[[], object]:
    batch = collate([sample] * copies)
    number = torch_dtype(dtype)
    is_half = number in (torch.float16, torch.bfloat16)

    @torch.inference_mode()
    def predict() -> object:
        with torch.autocast(device.type, number if is_half else torch.bfloat16, enabled=is_half):
            return model(**model.data_preprocessor(batch, False), mode="predict")

    return predict


def _sample(sweep: Sweep, *, with_cameras: bool) -> dict:
    """A sample of docs/conventions.md: the sweep without intensity and time, and images of noise all around."""
    points = np.zeros((len(sweep.points), 5), np.float32)
    points[:, :3] = sweep.points
    sample = raw_sample(points, sweep.name, None)
    if not with_cameras:
        return sample
    height, width = _IMAGE_SIZE
    rng = np.random.default_rng(0)
    directions = np.radians([90, 30, 150, -90, -30, -150])
    matrices = np.zeros((6, 4, 4))
    for matrix, angle in zip(matrices, directions, strict=True):
        c, s = np.cos(angle), np.sin(angle)
        matrix[:] = [[s, -c, 0, 0], [0, 0, -1, 0], [c, s, 0, 0], [0, 0, 0, 1]]  # right, down, forward
    camera2image = np.array([[_FOCAL_LENGTH, 0, width / 2], [0, _FOCAL_LENGTH, height / 2], [0, 0, 1]])
    return sample | {
        "images": [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in directions],
        "lidar2camera": matrices,
        "camera2image": np.tile(camera2image, (6, 1, 1)),
        "image_aug": np.tile(np.eye(3), (6, 1, 1)),
    }
