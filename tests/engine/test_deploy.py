# SPDX-License-Identifier: Apache-2.0
"""Packages of detectors give the model's boxes in a process that knows torch and the library of operators alone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pcperc
from pcperc.engine.config import ConfigError
from pcperc.engine.packaging import PackageOptions, example_sample, export_program, package_model, packaged
from pcperc.models.bevfusion import BEVGridTransform, BEVSegmentationHead
from pcperc.models.bevfusion.program import IMAGE_INPUTS, DetectorProgram
from pcperc.registry import MODELS
from tests.models.bevfusion_small import IMAGE_SIZE, make_batch, scene_points, small_config

LIBRARY = next(Path(pcperc.__file__).parent.glob("_C.*so"))
# What a user of a package writes, and what of the project came along.
RUN = """
import sys, torch
torch.ops.load_library(sys.argv[1])
if sys.argv[3] == "compiled":
    program = torch._inductor.aoti_load_package(sys.argv[2])
else:
    program = torch.export.load(sys.argv[2]).module()
with torch.no_grad():
    results = [program(sample) for sample in torch.load(sys.argv[4])]
torch.save([{key: value for key, value in result.items()} for result in results], sys.argv[5])
assert not [name for name in sys.modules if name.startswith(("pcperc", "mmengine", "scipy"))]
"""


GRID = ((-8.0, 8.0, 1.0),) * 2
MAP_HEAD = dict(
    type=BEVSegmentationHead,
    classes=("road", "walk"),
    grid_transform=dict(type=BEVGridTransform, input_bounds=GRID, output_bounds=((-6.0, 6.0, 0.5),) * 2),
)


def program_with_statistics(modalities, *, heads=("object",), **options) -> DetectorProgram:
    """In eval mode, with the running statistics of a batch."""
    config = small_config(modalities=modalities)
    config["heads"]["map"] = MAP_HEAD | {"in_channels": config["heads"]["object"]["in_channels"]}
    config["heads"] = {name: config["heads"][name] for name in heads}
    model = MODELS.build(config).train()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    batch = make_batch([scene_points(seed=7), scene_points(seed=8)])
    with torch.no_grad():
        model(**model.data_preprocessor(batch, True), mode="tensor")
    return DetectorProgram(model.eval(), **options)


def sample_of(program: DetectorProgram, points: torch.Tensor) -> dict:
    inputs = make_batch([points])["inputs"]
    return {key: inputs[key][0] for key in program.input_names}


def packaged_results(program, tmp_path, form: str, samples: list[dict]) -> list[dict]:
    path = tmp_path / "small.pt2"
    exported = export_program(program, sample_of(program, scene_points(ground=100)))
    with packaged(exported, path, compiled=form == "compiled"):
        assert not path.exists()  # before it is looked at
    assert [file.name for file in tmp_path.iterdir()] == ["small.pt2"]
    torch.save(samples, tmp_path / "samples.pt")
    arguments = [str(LIBRARY), str(path), form, str(tmp_path / "samples.pt"), str(tmp_path / "results.pt")]
    run = subprocess.run([sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    return torch.load(tmp_path / "results.pt")


@pytest.mark.parametrize(
    ("modalities", "form"),
    [
        (("camera", "lidar"), "exported"),
        pytest.param(("lidar",), "exported", marks=pytest.mark.large),
        pytest.param(("lidar",), "compiled", marks=pytest.mark.large),
        pytest.param(("camera", "lidar"), "compiled", marks=pytest.mark.large),
    ],
    ids=["fusion-exported", "lidar-exported", "lidar-compiled", "fusion-compiled"],
)
def test_a_package_gives_the_boxes_of_the_model(modalities, form, tmp_path):
    """On clouds of other sizes than the one it was traced on, and on one with nothing in range."""
    program = program_with_statistics(modalities)
    assert program.input_names == (("points", *IMAGE_INPUTS) if "camera" in modalities else ("points",))
    clouds = [scene_points(seed=1), scene_points(seed=2, ground=1500), scene_points()[:5] + 100]
    samples = [sample_of(program, cloud) for cloud in clouds]
    results = packaged_results(program, tmp_path, form, samples)
    for sample, found in zip(samples, results, strict=True):
        with torch.no_grad():
            wanted = program(sample)
        assert set(found) == {"boxes", "scores", "labels"} and len(wanted["scores"]) == 16
        assert torch.equal(found["labels"], wanted["labels"])
        torch.testing.assert_close(found["scores"], wanted["scores"], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found["boxes"], wanted["boxes"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("heads", [("object", "map"), ("map",)], ids="+".join)
def test_a_package_gives_the_map_of_the_model(heads, tmp_path):
    program = program_with_statistics(("lidar",), heads=heads)
    samples = [sample_of(program, cloud) for cloud in (scene_points(seed=1), scene_points(seed=2, ground=1500))]
    results = packaged_results(program, tmp_path, "exported", samples)
    for sample, found in zip(samples, results, strict=True):
        with torch.no_grad():
            wanted = program(sample)
        assert set(found) == ({"boxes", "scores", "labels", "map"} if "object" in heads else {"map"})
        assert found["map"].shape == (2, 24, 24) and 0 < found["map"].min() < found["map"].max() < 1
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert not torch.equal(results[0]["map"], results[1]["map"])


def test_the_program_says_what_the_model_says():
    program = program_with_statistics(("camera", "lidar"))
    model = MODELS.build(small_config()).eval()
    state = {re.sub("^head[.]", "heads.object.", name): value for name, value in program.state_dict().items()}
    assert not model.load_state_dict(state, strict=False).missing_keys
    batch = make_batch([scene_points(seed=3)])
    with torch.no_grad():
        (wanted,) = model(**model.data_preprocessor(batch, False), mode="predict")
        found = program(sample_of(program, scene_points(seed=3)))
    torch.testing.assert_close(found["scores"], wanted.scores)
    torch.testing.assert_close(found["boxes"], wanted.boxes, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_near_and_gives_float32(dtype, device):
    """Half the digits in the layers, all of them in the boxes: the best scores agree to a few of the last digits."""
    program = program_with_statistics(("camera", "lidar")).to(device)
    half = program_with_statistics(("camera", "lidar"), dtype=dtype).to(device)
    half.load_state_dict(program.state_dict())
    sample = {key: value.to(device) for key, value in sample_of(program, scene_points(seed=3)).items()}
    with torch.no_grad():
        found, wanted = half(sample), program(sample)
    assert found["boxes"].dtype == found["scores"].dtype == torch.float32
    assert not torch.equal(found["scores"], wanted["scores"]), "autocast must take part"
    torch.testing.assert_close(found["scores"], wanted["scores"], rtol=0.1, atol=0.02)


def test_the_example_is_the_same_each_time():
    program = program_with_statistics(("camera", "lidar"))
    first, second = (example_sample(program, IMAGE_SIZE, torch.device("cpu")) for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in ("points", *IMAGE_INPUTS))
    assert first["images"].shape == (6, 3, *IMAGE_SIZE)


def test_mistakes_are_named(tmp_path):
    weights = Path("configs/bevfusion/demo_weights.safetensors")
    options = dict(config=Path("configs/bevfusion.py"), checkpoint=weights, device="cpu")
    for changes, message in (
        ({"format": "onnx"}, "--format must be of exported, compiled"),
        ({"precision": "int8"}, "--precision of float32, float16, bfloat16, got exported and int8"),
        ({"out": tmp_path / "model.bin"}, "--out must be a .pt2 file"),
    ):
        with pytest.raises(ConfigError, match=message):
            package_model(PackageOptions(**{**options, "out": tmp_path / "model.pt2", **changes}))
    with pytest.raises(ValueError, match="dtype must be float32, float16 or bfloat16, got torch.float64"):
        DetectorProgram(MODELS.build(small_config()), dtype=torch.float64)
    assert not list(tmp_path.iterdir())
