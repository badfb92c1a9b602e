# SPDX-License-Identifier: Apache-2.0
"""A BEVFusion in CUDA graphs finds what it finds without; on a CPU the graphs' stand-ins run the parts again."""

import copy
import logging
import sys

import pytest
import torch

from pcperc.models.bevfusion import capture_frame
from pcperc.models.bevfusion.captured import CapturedCameraEncoder, CapturedSparseEncoder
from pcperc.nn.cuda_graph import SideStream, require_cuda
from pcperc.registry import MODELS
from tests.models.bevfusion_small import make_batch, scene_points, small_model
from tests.nn.test_capture import GraphOnCpu
from tests.nn.test_capture_dense import RunsAgain
from tests.tolerances import tolerances

CAPACITY = 4000


class InOrder:
    """Stands in for the side stream."""

    def __init__(self, op):
        pass

    def start(self, function, x):
        result = function(x)
        return lambda: result


@pytest.fixture
def on_cpu(monkeypatch):
    monkeypatch.setattr(RunsAgain, "made", 0)
    for name in ("pcperc.nn.capture", "pcperc.nn.capture_dense", "pcperc.models.bevfusion.captured"):
        monkeypatch.setattr(sys.modules[name], "require_cuda", lambda op: None)
    monkeypatch.setattr(sys.modules["pcperc.models.bevfusion.captured"], "SideStream", InOrder)
    monkeypatch.setattr(sys.modules["pcperc.nn.capture"], "CudaGraph", GraphOnCpu)
    monkeypatch.setattr(sys.modules["pcperc.nn.capture_dense"], "CudaGraph", RunsAgain)


def frame(seed, *, height=32):
    clouds = [scene_points(per_box=100 + 20 * seed, ground=400 + 90 * seed, seed=seed)]
    batch = make_batch(clouds)
    shape = (1, 2, 3, height, 64)
    batch["inputs"]["images"] = torch.randint(
        0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )
    return batch


def check_frames(model, captured, frames, *, same=True):
    """``same``: to the tolerance of a kernel; else what stands for all, since proposals of like score may change."""
    found_heatmaps = []
    for batch in frames:
        with torch.inference_mode():
            wanted, found = (one(**one.data_preprocessor(batch, False)) for one in (model, captured))
            boxes = captured(**captured.data_preprocessor(batch, False), mode="predict")[0]
        wanted, found = wanted["object"], found["object"]
        close = tolerances(found.heatmap.dtype, 1000)
        torch.testing.assert_close(found.heatmap, wanted.heatmap, **close)
        torch.testing.assert_close(found.query_scores, wanted.query_scores, **close)
        if same:
            assert torch.equal(found.query_labels, wanted.query_labels)
            torch.testing.assert_close(found.codes, wanted.codes, **close)
            torch.testing.assert_close(found.logits, wanted.logits, **close)
        assert len(boxes) > 0 and boxes.boxes.device == boxes.scores.device == found.heatmap.device
        found_heatmaps.append(found.heatmap)
    assert all(not torch.equal(one, other) for one, other in zip(found_heatmaps, found_heatmaps[1:], strict=False))


@pytest.mark.parametrize("downsample", [1, 2])
@pytest.mark.parametrize("modalities", [("camera",), ("camera", "lidar")], ids=["camera", "both"])
def test_frames_give_the_models_result(on_cpu, caplog, modalities, downsample):
    model = small_model(downsample=downsample, modalities=modalities)
    captured = copy.deepcopy(model)
    capture_frame(captured, capacity=CAPACITY)
    assert isinstance(captured.captured["camera"], CapturedCameraEncoder)
    assert "lidar" not in modalities or isinstance(captured.captured["lidar"], CapturedSparseEncoder)
    check_frames(model, captured, [frame(seed) for seed in range(3)])
    assert RunsAgain.made == 2 + downsample
    check_frames(model, captured, [frame(3, height=48)])
    assert RunsAgain.made == 4 + downsample  # the images have another size, the map has not
    assert not caplog.records


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("modalities", [("camera",), ("camera", "lidar")], ids=["camera", "both"])
def test_graphs_give_the_models_result(modalities, dtype):
    model = small_model(modalities=modalities).cuda()
    captured = copy.deepcopy(model)
    capture_frame(captured, capacity=CAPACITY)
    with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
        check_frames(model, captured, [frame(seed) for seed in range(3)], same=modalities == ("camera",))
        check_frames(model, captured, [frame(3, height=48)], same=modalities == ("camera",))
    camera, read_out = captured.captured["camera"], captured.captured["read_out"]
    assert len(camera.lift._graphs) == 2 and len(read_out._graphs) == 1
    check_frames(model, captured, [frame(0)], same=modalities == ("camera",))  # without autocast, or again
    assert len(read_out._graphs) == 1 + (dtype != torch.float32)
    with torch.no_grad():
        for one in (model, captured):
            one.heads["object"].shared_conv.weight.mul_(1.5)
    check_frames(model, captured, [frame(1)], same=modalities == ("camera",))


@pytest.mark.gpu
def test_the_side_stream_changes_no_bit():
    captured = small_model().cuda()
    capture_frame(captured, capacity=CAPACITY)
    camera = captured.captured["camera"]
    inputs = [captured.data_preprocessor(frame(seed), False)["inputs"] for seed in range(20)]
    with torch.inference_mode():
        found = [camera(one) for one in inputs]  # one behind the other, the next before the last is done
        camera._side = InOrder("test")
        for one, wanted in zip(inputs, found, strict=True):
            assert torch.equal(camera(one), wanted)


def test_votes_and_lidar_alone_are_captured_too(on_cpu):
    model = small_model(modalities=("lidar",))
    model.votes = MODELS.build(dict(type="DetectionVotes", turns_deg=(10.0,)))
    captured = copy.deepcopy(model)
    capture_frame(captured, capacity=CAPACITY)
    with torch.inference_mode():
        wanted, found = (one(**one.data_preprocessor(frame(0), False), mode="predict")[0] for one in (model, captured))
    torch.testing.assert_close(found.boxes, wanted.boxes, **tolerances(torch.float32, 1000))
    assert RunsAgain.made == 1


def test_an_encoder_of_another_kind_runs_with_a_warning(on_cpu, caplog):
    model = small_model(modalities=("lidar",))
    model.encoders["lidar"] = OtherEncoder(model.encoders["lidar"])
    captured = copy.deepcopy(model)
    with caplog.at_level(logging.WARNING):
        capture_frame(captured, capacity=CAPACITY)
        check_frames(model, captured, [frame(0)])
    (warning,) = caplog.records
    assert "encoder 'lidar' runs without a CUDA graph, which a OtherEncoder does not have" in warning.message


def test_the_state_stays_the_models(on_cpu):
    model, captured = small_model(), small_model()
    before = {name: value.data_ptr() for name, value in captured.state_dict().items()}
    capture_frame(captured, capacity=CAPACITY)
    check_frames(model, captured, [frame(0)])
    assert {name: value.data_ptr() for name, value in captured.state_dict().items()} == before
    assert len(list(captured.parameters())) == len(list(model.parameters()))
    with torch.no_grad():
        model.heads["object"].shared_conv.weight.mul_(1.5)
    captured.load_state_dict(model.state_dict())
    check_frames(model, captured, [frame(1)])
    model.load_state_dict(captured.state_dict())
    graphs = {"captured.camera.image_feats", "captured.camera.lift", "captured.lidar", "captured.read_out"}
    assert graphs < dict(captured.named_modules()).keys()  # what tools/benchmark.py stages puts hooks to
    moved = copy.deepcopy(captured).double()
    assert {parameter.dtype for parameter in moved.parameters()} == {torch.float64}
    owner = moved.captured["read_out"].model._method.__self__
    assert owner is moved and moved.captured["camera"]._view_transform is moved.encoders["camera"].view_transform


def test_a_captured_model_does_not_train(on_cpu):
    captured = small_model()
    capture_frame(captured, capacity=CAPACITY)
    captured.decoder.train()
    modes = [module.training for module in captured.modules()]
    with pytest.raises(ValueError, match="BEVFusion: a captured model is for inference, and cannot be put into train"):
        captured.train()
    assert [module.training for module in captured.modules()] == modes
    assert captured.eval() is captured and not any(module.training for module in captured.modules())


@pytest.mark.parametrize("modalities", [("camera",), ("camera", "lidar")], ids=["camera", "both"])
def test_what_cannot_be_captured_stays_as_it_is(on_cpu, monkeypatch, modalities):
    model = small_model(modalities=modalities).train()
    for error, capacity in ((ValueError, 0), (ValueError, -1), (TypeError, 1.5), (TypeError, True)):
        with pytest.raises(error, match=f"^capture_frame: capacity must be a whole number > 0, got {capacity}"):
            capture_frame(model, capacity=capacity)
    with pytest.raises(TypeError, match="^capture_frame: model must be a BEVFusion, got a OtherEncoder"):
        capture_frame(OtherEncoder(model), capacity=1)
    with monkeypatch.context() as without_gpu:
        without_gpu.setattr(sys.modules["pcperc.models.bevfusion.captured"], "require_cuda", require_cuda)
        without_gpu.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(RuntimeError, match="^capture_frame: a CUDA graph needs a CUDA device"):
            capture_frame(model, capacity=1)
    assert all(module.training for module in model.modules()) and not model.captured
    capture_frame(model, capacity=1)
    parts = dict(model.captured)
    with pytest.raises(ValueError, match="^capture_frame: model must be one that is not captured yet"):
        capture_frame(model, capacity=1)
    assert dict(model.captured) == parts


def test_a_captured_camera_names_what_is_wrong(on_cpu, monkeypatch):
    captured = small_model(modalities=("camera",))
    captured.encoders["camera"].view_transform.in_channels = 9  # other features than it is told of
    capture_frame(captured, capacity=CAPACITY)
    inputs = captured.data_preprocessor(frame(0), False)["inputs"]
    with torch.no_grad(), pytest.raises(ValueError, match="DepthLSSTransform: image_feats must be .* got .1, 2, 8"):
        captured(inputs)
    captured.captured["camera"]._side = SideStream("capture_frame")
    with pytest.raises(ValueError, match="^capture_frame: inputs must be on a CUDA device, got cpu"):
        captured(inputs)


class OtherEncoder(torch.nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, inputs):
        return self.encoder(inputs)
