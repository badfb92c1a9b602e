# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from pcperc.models import pvcnn
from pcperc.models.pvcnn.frustum import object_points
from pcperc.registry import MODELS
from pcperc.sparse import PointTensor
from tests import oracles_pvcnn
from tests.models.pvcnn_clouds import arrays, cloud_of, randomize, state_of

PUBLISHED = [
    ("pvcnn_s3dis", 0.125, 43_365, "0.043"),
    ("pvcnn_s3dis", 0.25, 166_205, "0.166"),
    ("pvcnn_s3dis", 1, 2_572_493, "2.57"),
    ("pvcnn2_s3dis", 0.5, 3_436_429, "3.436"),
    ("pvcnn2_s3dis", 1, 13_709_837, "13.71"),
    ("pvcnn_shapenet", 0.25, 268_898, "0.269"),
    ("pvcnn_shapenet", 0.5, 1_058_578, "1.059"),
    ("pvcnn_shapenet", 1, 4_200_434, "4.200"),
    ("frustum_pvcnn_kitti", 1, 3_358_336, "3.358"),
]
S3DIS = ((64, 1, 32), (64, 2, 16), (128, 1, 16), (1024, 1, None))
SHAPENET = ((64, 1, 32), (128, 2, 16), (512, 1, None), (2048, 1, None))
KITTI = ((64, 2, 16), (64, 1, 12), (128, 1, 12), (1024, 1, None))
DOWNS = (
    ([(32, 2, 32)], 1024, 0.1, 32),
    ([(64, 3, 16)], 256, 0.2, 32),
    ([(128, 3, 8)], 64, 0.4, 32),
    ([], 16, 0.8, 32),
)
UPS = ([(256, 1, 8)], [(256, 1, 8)], [(128, 2, 16)], [(64, 1, 32)])
POINTNET_DOWNS = (([], 512, 0.2, 64), ([], 128, 0.4, 64), ([], None, None, None))


@pytest.mark.parametrize(("name", "width", "exact", "millions"), PUBLISHED)
def test_parameters_are_as_published(name, width, exact, millions):
    with torch.device("meta"):
        model = MODELS.build(dict(type=name, width=width))
    count = sum(p.numel() for p in model.parameters())
    assert count == exact
    assert f"{count / 1e6:.{len(millions.partition('.')[2])}f}" == millions


def test_parts_of_the_frustum_network_have_the_published_sizes():
    model = pvcnn.frustum_pvcnn_kitti()
    parts = (model.segmentation, model.center_regressor, model.box_estimator)
    assert [round(sum(p.numel() for p in part.parameters()) / 1e6, 3) for part in parts] == [2.611, 0.152, 0.596]


def assert_equals(result, expected):
    torch.testing.assert_close(result.detach().cpu(), torch.from_numpy(expected), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
def test_pvcnn_for_rooms_equals_the_formulas(training, device):
    model = randomize(pvcnn.pvcnn_s3dis(width=0.125)).train(training).to(device)
    points = cloud_of(50, 1, 20, channels=9, device=device)
    options = dict(blocks=S3DIS, batch_size=3, normalize=True, training=training)
    expected = oracles_pvcnn.pvcnn(state_of(model), *arrays(points), **options)
    assert expected.shape == (71, 13)
    assert_equals(model(points).feats, expected)


def test_pvcnn_for_parts_equals_the_formulas(device):
    model = randomize(pvcnn.pvcnn_shapenet(width=0.125)).eval().to(device)
    points, categories = cloud_of(50, 0, 20, channels=6, device=device), torch.tensor([3, 0, 15], device=device)
    options = dict(blocks=SHAPENET, batch_size=3, normalize=False, training=False)
    expected = oracles_pvcnn.pvcnn(state_of(model), *arrays(points), np.eye(16)[[3, 0, 15]], **options)
    assert_equals(model(points, categories).feats, expected)


@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
def test_pvcnn2_equals_the_formulas(training, device):
    """Clouds of more points than the third level has centres, so that all of what a level does takes part."""
    model = randomize(pvcnn.pvcnn2_s3dis(width=0.125, resolution_scale=0.25)).train(training).to(device)
    points = cloud_of(80, 3, channels=9, device=device)
    options = dict(downs=DOWNS, ups=UPS, batch_size=2, normalize=True, training=training, resolution_scale=0.25)
    expected = oracles_pvcnn.pvcnn2(state_of(model), *arrays(points), **options)
    assert_equals(model(points).feats, expected)


def test_pointnet2_equals_the_formulas(device):
    model = randomize(pvcnn.pointnet2_shapenet(width=0.25)).eval().to(device)
    points, categories = cloud_of(140, 2, channels=6, device=device), torch.tensor([3, 1], device=device)
    options = dict(downs=POINTNET_DOWNS, ups=([], [], []), skip_first=0, batch_size=2, training=False)
    expected = oracles_pvcnn.pvcnn2(state_of(model), *arrays(points), np.eye(16)[[3, 1]], **options)
    assert_equals(model(points, categories).feats, expected)


@pytest.mark.parametrize("name", ["pointnet_s3dis", "pointnet_shapenet"])
def test_pointnet_equals_the_formulas(name, device):
    model = randomize(getattr(pvcnn, name)(width=0.125)).eval().to(device)
    points = cloud_of(30, 10, channels=model.in_channels, device=device)
    categories = torch.tensor([3, 1], device=device) if model.num_categories else None
    one_hot = None if categories is None else np.eye(16)[[3, 1]]
    blocks = [(layer.out_channels, 1, None) for layer in model.point_layers]
    options = dict(blocks=blocks, batch_size=2, training=False, concat_layers=model.concat_layers)
    expected = oracles_pvcnn.pvcnn(state_of(model), *arrays(points), one_hot, **options)
    assert_equals(model(points, categories).feats, expected)


@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
def test_classifier_equals_the_formulas(training, device):
    """A cloud without points too: its class is what the head makes of features 0."""
    model = randomize(pvcnn.pvcnn_modelnet(width=0.125)).train(training).to(device)
    points = cloud_of(50, 0, 20, channels=6, device=device)
    options = dict(batch_size=3, normalize=False, training=training)
    layers = oracles_pvcnn.point_layers(state_of(model), "point_layers", *arrays(points), SHAPENET, **options)
    cloud = oracles_pvcnn.cloud_max(layers[-1], arrays(points)[1], 3)
    expected = oracles_pvcnn.head(state_of(model), "head", cloud, training)
    assert expected.shape == (3, 40)
    assert_equals(model(points), expected)


def test_the_classifiers_head_is_that_of_pointnet():
    head = pvcnn.pvcnn_modelnet().head
    assert [module.out_features for module in head.modules() if isinstance(module, torch.nn.Linear)] == [512, 256, 40]


@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
def test_frustum_network_equals_the_formulas(training, device):
    model = randomize(pvcnn.frustum_pvcnn_kitti(width=0.125)).train(training).to(device)
    model.object_points = 9
    points, categories = cloud_of(60, 8, 0, channels=4, device=device), torch.tensor([2, 0, 1], device=device)
    options = dict(blocks=KITTI, concat_layers=False, batch_size=3, normalize=True, training=training)
    one_hot = np.eye(3)[[2, 0, 1]]
    with torch.no_grad():  # about half of the points shall be taken for the object
        logits = model.segmentation(points, categories).feats
        model.segmentation.classifier[-1].bias[1] -= (logits[:, 1] - logits[:, 0]).mean()
    expected = oracles_pvcnn.frustum_boxes(state_of(model), *arrays(points), one_hot, object_points=9, **options)
    logits, first_center, box = expected
    assert 9 < (logits[arrays(points)[1] == 0, 1] > logits[arrays(points)[1] == 0, 0]).sum() < 60  # a choice is made
    boxes = model(points, categories)
    assert_equals(boxes.mask_logits, logits)
    assert_equals(boxes.first_center, first_center)
    rest = (boxes.center, boxes.heading_scores, boxes.heading_residuals, boxes.size_scores)
    assert_equals(torch.cat([*rest, boxes.size_residuals.flatten(1)], 1), box)


def test_heading_and_size_of_a_box():
    scores = torch.zeros(1, 12)
    scores[0, 3] = 1
    residuals = torch.zeros(1, 12)
    residuals[0, 3] = 0.5
    sizes = torch.zeros(1, 8, 3)
    sizes[0, 5] = torch.tensor([0.5, 0, -0.5])
    center = torch.zeros(1, 3)
    box = pvcnn.FrustumBoxes(torch.zeros(0, 2), center, center, scores, residuals, torch.eye(8)[5:6], sizes)
    torch.testing.assert_close(box.heading(), torch.tensor([torch.pi / 2 + torch.pi / 24]))
    templates = torch.tensor(pvcnn.KITTI_SIZE_TEMPLATES)
    torch.testing.assert_close(box.size(templates), torch.tensor([[1.76282397 * 1.5, 0.59706367, 1.73698127 * 0.5]]))


def test_object_points_are_the_first_of_each_cloud(device):
    coords = torch.tensor([[1, 1.0, 0, 0], [0, 2, 0, 0], [1, 3, 0, 0], [1, 8, 0, 0], [0, 4, 0, 0]], device=device)
    points = PointTensor(coords, coords[:, 1:], batch_size=3)
    mask = torch.tensor([True, False, True, True, False], device=device)
    objects, mean = object_points(points, mask, 2)
    assert objects.coords.tolist() == [[1, 1, 0, 0], [1, 3, 0, 0]] and objects.batch_size == 3
    assert mean.tolist() == [[0, 0, 0], [4, 0, 0], [0, 0, 0]]  # of all three, not of the two that are looked at


@pytest.mark.parametrize("name", ["pvcnn_s3dis", "pvcnn2_s3dis", "pvcnn_shapenet", "frustum_pvcnn_kitti"])
@pytest.mark.parametrize("sizes", [(0, 0), (1,), (0, 1), (6, 0, 6)], ids=str)
def test_small_and_empty_clouds_train(name, sizes, device):
    model = getattr(pvcnn, name)(width=0.125).to(device)
    in_channels = getattr(model, "in_channels", 4)
    points = cloud_of(*sizes, channels=in_channels, dtype=torch.float32, device=device)
    coords = points.coords.clone()
    coords[:, 1:] = 0.0  # all points of a cloud are equal
    points = PointTensor(coords, points.feats, batch_size=len(sizes))
    categories = (torch.zeros(len(sizes), device=device).long(),) if "s3dis" not in name else ()
    out = model(points, *categories)
    tensors = list(out) if isinstance(out, tuple) else [out.feats]
    assert len(tensors[0]) == sum(sizes) and all(t.isfinite().all() for t in tensors)
    sum(t.sum() for t in tensors).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert all(buffer.isfinite().all() for buffer in model.buffers())


def test_a_training_step_repeats_bit_for_bit(device):
    points = cloud_of(60, 40, channels=9, dtype=torch.float32, device=device)
    model = pvcnn.pvcnn2_s3dis(width=0.125, resolution_scale=0.25).to(device).train()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradients = []
    for _ in range(2):
        model.load_state_dict(state)
        torch.manual_seed(0)
        model.zero_grad()
        with torch.backends.cudnn.flags(deterministic=True):  # torch's dense convolution
            model(points).feats.square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_says_what_is_wrong():
    points = cloud_of(3, 2, channels=6, dtype=torch.float32)
    parts = pvcnn.pvcnn_shapenet(width=0.125)
    rooms = pvcnn.pvcnn_s3dis(width=0.125)
    with pytest.raises(TypeError, match="PVCNN: points must be a PointTensor, got Tensor"):
        rooms(points.feats)
    with pytest.raises(ValueError, match="PVCNN: points must have 3 axes and 9 channels, got 3 axes and 6 channels"):
        rooms(points)
    with pytest.raises(TypeError, match="PVCNN: categories must be a tensor, got NoneType"):
        parts(points)
    with pytest.raises(ValueError, match=r"PVCNN: categories must be \(2,\) int64, got \(1,\) torch.int64"):
        parts(points, torch.zeros(1).long())
    with pytest.raises(ValueError, match=r"PVCNN: categories must be in \[0, 16\), got \[0, 16\]"):
        parts(points, torch.tensor([0, 16]))
    with pytest.raises(TypeError, match="PVCNN: categories must be None for a network without categories"):
        rooms(cloud_of(3, channels=9), torch.zeros(1).long())
    with pytest.raises(ValueError, match="PVCNN: width must leave one channel or more"):
        pvcnn.pvcnn_s3dis(width=0.001)
    with pytest.raises(ValueError, match=r"PVCNN: classifier must not begin with dropout, got \(0.5, 4\)"):
        pvcnn.PVCNN(6, 2, blocks=[(4, 1, None)], classifier=(0.5, 4))
    with pytest.raises(ValueError, match="PVCNN2: downs must be as many as ups, got 1 and 0"):
        pvcnn.PVCNN2(6, 2, downs=[([], (4,))], ups=[], classifier=[])
    with pytest.raises(ValueError, match="FrustumPVCNN: segmentation must have 2 classes and categories, got 13"):
        pvcnn.FrustumPVCNN(rooms)
