# SPDX-License-Identifier: Apache-2.0
"""Models of points in CUDA graphs predict what they predict without; on a CPU the graphs' stand-ins run them again."""

import copy
import logging
import sys

import numpy as np
import pytest
import torch
from torch import nn

from pcperc.datasets import collate
from pcperc.models.calorimeter import CaloSPVCNN, HitClusterer, HitPreprocessor, ObjectCondensation
from pcperc.models.capture_model import capture_model
from pcperc.models.minkunet import MinkUNet
from pcperc.models.on_voxels import OnVoxels
from pcperc.models.segmentor import Segmentor, Votes
from pcperc.models.spvcnn import SPVCNN
from pcperc.models.voxel_preprocessor import VoxelPreprocessor
from pcperc.nn.capture import CapturedNetwork
from tests.calorimeter_events import made_event
from tests.nn.test_capture import GraphOnCpu


@pytest.fixture
def graphs(device, monkeypatch):
    if device.type == "cpu":
        monkeypatch.setattr(sys.modules["pcperc.nn.capture"], "require_cuda", lambda op: None)
        monkeypatch.setattr(sys.modules["pcperc.nn.capture"], "CudaGraph", GraphOnCpu)
    return device


def scans(*sizes, seed=0):
    g = torch.Generator().manual_seed(seed)
    clouds = [torch.rand(size, 4, generator=g) * torch.tensor([12.0, 12.0, 3.0, 1.0]) for size in sizes]
    return collate([{"sample_token": str(i), "points": cloud} for i, cloud in enumerate(clouds)])


def predict(model, batch):
    with torch.inference_mode():
        return model(**model.data_preprocessor(batch, False), mode="predict")


@pytest.mark.parametrize("kind", ["points", "voxels"])
def test_scans_get_the_same_classes(kind, graphs, caplog):
    torch.manual_seed(0)
    net = SPVCNN(4, 5, width=0.25) if kind == "points" else OnVoxels(MinkUNet(4, 5, width=0.25))
    votes = Votes(1) if kind == "points" else None
    model = Segmentor(VoxelPreprocessor(0.4), net, votes=votes).to(graphs).eval()
    captured = copy.deepcopy(model)
    capture_model(captured, capacity=700)
    with caplog.at_level(logging.WARNING):
        for batch in (scans(300, 250), scans(350, 350, seed=1), scans(1, 0, seed=2), scans(500, seed=3)):
            for found, wanted in zip(predict(captured, batch), predict(model, batch), strict=True):
                torch.testing.assert_close(found.scores, wanted.scores, rtol=1e-4, atol=1e-5)
                assert (found.labels == wanted.labels).float().mean() > 0.99 or len(found.labels) == 0
    assert not caplog.records


def test_hits_get_the_same_clusters(graphs, caplog):
    torch.manual_seed(0)
    network = CaloSPVCNN(5, 3, 3, width=0.25)
    model = HitClusterer(HitPreprocessor(), network, ObjectCondensation(2)).to(graphs).eval()
    captured = copy.deepcopy(model)
    capture_model(captured, capacity=400)
    rng = np.random.default_rng(0)
    with caplog.at_level(logging.WARNING):
        for count in (4, 2, 3):
            events = [made_event(rng, count), made_event(rng, 1)]
            batch = collate([{"sample_token": str(i), "hits": event["hits"]} for i, event in enumerate(events)])
            for found, wanted in zip(predict(captured, batch), predict(model, batch), strict=True):
                assert torch.equal(found.instances, wanted.instances) and torch.equal(found.labels, wanted.labels)
                torch.testing.assert_close(found.scores, wanted.scores, rtol=1e-4, atol=1e-5)
    assert not caplog.records


def test_what_is_no_model_for_graphs(graphs):
    with pytest.raises(TypeError, match="must be one of BEVFusion, Segmentor, HitClusterer, got a Linear"):
        capture_model(nn.Linear(1, 1), capacity=10)
    model = Segmentor(VoxelPreprocessor(0.4), SPVCNN(4, 5, width=0.25)).to(graphs)
    with pytest.raises(ValueError, match="capture: capacity must be a whole number > 0, got 0"):
        capture_model(model, capacity=0)
    capture_model(model, capacity=10)
    assert isinstance(model.backbone, CapturedNetwork) and not model.training
    with pytest.raises(ValueError, match="capture_model: model must be one that is not captured yet"):
        capture_model(model, capacity=10)
    with pytest.raises(ValueError, match="cannot be put into training mode"):
        model.train()


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA: a GPU is there")
def test_graphs_without_a_gpu():
    with pytest.raises(RuntimeError, match="capture: a CUDA graph needs a CUDA device, and torch sees none"):
        capture_model(Segmentor(VoxelPreprocessor(0.4), SPVCNN(4, 5, width=0.25)), capacity=10)
