# SPDX-License-Identifier: Apache-2.0
"""What a subnet costs and scores by itself: multiply-adds, parameters, time, mIoU over every recorded point."""

import numpy as np
import pytest
import torch

from pcperc import nn as spnn
from pcperc import ops
from pcperc.benchmark.macs import count_macs
from pcperc.datasets import SemanticKITTI, collate
from pcperc.models import SPVCNN, VoxelPreprocessor
from pcperc.models.spvnas import SPVNAS, SearchSpace
from pcperc.search.costs import SubnetCosts, latency_ms
from pcperc.search.scores import SubnetScores
from pcperc.sparse import PointTensor
from pcperc.transforms import PointsRangeFilter
from tests import oracles_segmentation as oracle
from tests.planes import Planes
from tests.semantickitti_root import scan_of, write_root


def points_of(count: int, seed: int = 0) -> PointTensor:
    generator = torch.Generator().manual_seed(seed)
    coords = torch.cat([torch.zeros(count, 1), torch.rand(count, 3, generator=generator) * 12], 1)
    return PointTensor(coords, torch.randn(count, 4, generator=generator), 1)


def test_costs_of_a_subnet_are_those_of_the_extracted_network():
    net = SPVNAS(4, 5, space=SearchSpace((16,) + (32, 48) * 4, (16,) * 9)).eval()
    scans = [points_of(300), points_of(500, seed=1)]
    costs, rng = SubnetCosts(net, scans), np.random.default_rng(0)
    for subnet in (net.largest(), net.smallest(), net.sample(rng), net.sample(rng)):
        own = net.extract(subnet)
        counted = [count_macs(own, scan) for scan in scans]
        assert costs.gmacs(subnet) == sum(cost.macs for cost in counted) / 2e9
        assert costs.mparams(subnet) == counted[0].parameters / 1e6
    assert latency_ms(net.extract(net.smallest()), scans[0], runs=1) > 0


def test_latency_is_the_median_of_fused_runs_that_build_their_kernel_maps(monkeypatch):
    net, points = SPVCNN(4, 3, width=0.125), points_of(60)
    net(points)  # what these points keep is not used
    times, built, fused = iter([90.0, 80.0, 5.0, 1.0, 3.0]), [], []
    build, fuse = ops.build_kernel_map, spnn.fuse

    def call_ms(predict, device):
        before = len(built)
        predict()
        assert len(built) > before
        return next(times)

    monkeypatch.setattr("pcperc.search.costs.call_ms", call_ms)
    monkeypatch.setattr(ops, "build_kernel_map", lambda *a, **k: built.append(1) or build(*a, **k))
    monkeypatch.setattr(spnn, "fuse", lambda model: fused.append(model) or fuse(model))
    assert latency_ms(net, points, runs=3) == 3.0  # the first two warm up
    assert next(times, None) is None and fused == [net]


def test_a_score_is_the_miou_over_every_recorded_point(tmp_path):
    """Of scans that a transform leaves points out of, too; what is left out is a miss."""
    transforms = [PointsRangeFilter(point_range=(-9, -30, -5, 30, 30, 5))]
    data = SemanticKITTI(root=write_root(tmp_path), split="sim_val", transforms=transforms, test_mode=True)
    net, preprocessor = Planes(19), VoxelPreprocessor(0.5)
    found = SubnetScores(preprocessor, [data[0]], [data[0], data[1]], 19)(net)
    truth, said = [], []
    for index in (0, 1):
        scan = torch.from_numpy(scan_of(20 + index))
        labels = (scan @ net.weight).argmax(1).masked_fill(scan[:, 0] < -9, 255)
        truth, said = truth + data.read_point_labels(index).tolist(), said + labels.tolist()
    assert 0 < said.count(255) < 60
    expected = oracle.mean_of(oracle.iou_by_sets(truth, said, 19), "skip")
    assert found == pytest.approx(expected) and found > 0


def samples_of(*sizes: int) -> list[dict]:
    found = []
    for seed, size in enumerate(sizes):
        points = np.pad(scan_of(seed, size), ((0, 0), (0, 1)))
        labels = np.random.default_rng(seed).integers(0, 5, size)
        found.append({"sample_token": str(seed), "points": points, "point_labels": labels})
    return found


def test_scans_are_scored_several_at_once_as_one_by_one(device, monkeypatch):
    torch.manual_seed(0)
    samples, preprocessor = samples_of(60, 80, 0, 70, 90, 50), VoxelPreprocessor(2.0).to(device)
    net = SPVNAS(4, 5, space=SearchSpace((16,) + (32, 48) * 4, (16,) * 9)).to(device)
    subnet = net.smallest()
    scores = SubnetScores(preprocessor, samples[:5], samples, 5)
    assert [points.batch_size for points in scores.points] == [4, 2] and scores.first.batch_size == 1
    assert [points.batch_size for points in scores.calibration] == [4, 1]
    own = scores.calibrate(net.extract(subnet))
    by_hand = net.extract(subnet)
    spnn.recalibrate_batch_norm(
        by_hand, [preprocessor(collate(part))["inputs"]["prepared"].points for part in (samples[:4], samples[4:5])]
    )
    for name, value in by_hand.state_dict().items():
        torch.testing.assert_close(own.state_dict()[name], value, msg=name)
    costs = SubnetCosts(net.eval(), scores.points).gmacs(subnet)
    monkeypatch.setattr("pcperc.search.scores.SCANS_AT_ONCE", 1)
    alone = SubnetScores(preprocessor, samples[:5], samples, 5)
    assert [points.batch_size for points in alone.points] == [1] * 6 and len(alone.calibration) == 4
    assert alone(own) == pytest.approx(scores(own)) and scores(own) > 0
    assert SubnetCosts(net, alone.points).gmacs(subnet) == costs


def test_half_precision_changes_a_score_a_little_and_no_weights(device):
    torch.manual_seed(0)
    samples, preprocessor = samples_of(300, 400), VoxelPreprocessor(2.0).to(device)
    net = SPVNAS(4, 5, space=SearchSpace((16,) + (32, 48) * 4, (16,) * 9)).to(device)
    scores, dtypes = SubnetScores(preprocessor, samples, samples, 5), []
    whole = scores.calibrate(net.extract(net.smallest()))
    own = net.extract(net.smallest())
    own.classifier.register_forward_hook(lambda module, args, out: dtypes.append(out.feats.dtype))
    half = scores.calibrate(own, half=True)
    found = scores(half, half=True)
    assert set(dtypes) == {torch.float16 if device.type == "cuda" else torch.bfloat16}
    for name, value in whole.state_dict().items():
        assert half.state_dict()[name].dtype == value.dtype
        torch.testing.assert_close(half.state_dict()[name], value, rtol=0.1, atol=0.05, msg=name)
    assert abs(found - scores(whole)) < 0.05
    # What scans keep of their first pass, in half precision here, is none of later ones.
    later = SubnetScores(preprocessor, samples, samples, 5)
    later.calibrate(net.extract(net.smallest()), half=True)
    own = later.calibrate(net.extract(net.smallest()))
    assert all(value.equal(own.state_dict()[name]) for name, value in whole.state_dict().items())


def test_scans_without_a_class_are_refused():
    samples = samples_of(20, 0)
    for sample in samples:
        sample["point_labels"][:] = 255
    with pytest.raises(ValueError, match="search: none of 2 scans has a point with a class to be scored on"):
        SubnetScores(VoxelPreprocessor(2.0), samples, samples, 5)
