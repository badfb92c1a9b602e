# SPDX-License-Identifier: Apache-2.0
"""TransFusion head: box code, heatmap targets, matching, proposals, losses, predictions."""

import itertools
import math

import numpy as np
import pytest
import torch

from pcperc.models.bevfusion.box_coder import BoxCoder
from pcperc.models.bevfusion.target_assigner import HungarianAssigner, draw_heatmap, gaussian_radius
from pcperc.models.bevfusion.transformer import TransFusionDecoderLayer
from pcperc.models.bevfusion.transfusion_head import TransFusionHead
from pcperc.models.bevfusion.transfusion_loss import HeadOutput, TransFusionLoss

RANGE = (-8.0, -6.0, -5.0, 8.0, 6.0, 3.0)
CODER = BoxCoder(RANGE, (1.0, 1.0))  # 16 x 12 cells
NAN = float("nan")


def make_head(**changes) -> TransFusionHead:
    settings = dict(hidden_channels=16, num_proposals=12, num_heads=2, ffn_channels=32, branch_channels=8, dropout=0.0)
    settings |= dict(crowded_classes=(2,), num_classes=3)
    return TransFusionHead(
        6, box_coder=CODER, criterion=TransFusionLoss(HungarianAssigner(RANGE)), **settings | changes
    )


def sample(boxes, labels) -> dict:
    return {"boxes": torch.tensor(boxes, dtype=torch.float32).view(-1, 9), "labels": torch.tensor(labels).long()}


TWO_OBJECTS = sample([[2.3, -1.2, 0.5, 4, 2, 1.5, 0.7, 1, 0], [-5.6, 3.1, -1, 1, 1, 2, -2.5, NAN, NAN]], [0, 2])
NOTHING = sample([], [])


def random_boxes(count: int, dtype=torch.float64) -> torch.Tensor:
    boxes = torch.rand(count, 9, dtype=dtype)
    boxes[:, :3] = boxes[:, :3] * torch.tensor([16, 12, 4]) + torch.tensor([-8, -6, -3])
    boxes[:, 3:6] = boxes[:, 3:6] * 5 + 0.1
    boxes[:, 6] = (boxes[:, 6] * 2 - 1) * math.pi
    return boxes


def test_box_code_by_hand():
    box = torch.tensor([[2.5, -6.0, 1.0, math.e, 1.0, math.e**2, math.pi / 2, 3.0, -4.0]], dtype=torch.float64)
    code = BoxCoder(RANGE, (0.5, 2.0)).encode(box)[0].tolist()
    assert code == pytest.approx([21.0, 0.0, 1.0, 1.0, 0.0, 2.0, 1.0, 0.0, 3.0, -4.0], abs=1e-12)


def test_decode_undoes_encode():
    boxes = random_boxes(50)
    torch.testing.assert_close(CODER.decode(CODER.encode(boxes)), boxes, rtol=1e-12, atol=1e-12)
    codes = CODER.encode(boxes)
    codes[:, 6:8] *= torch.rand(50, 1, dtype=torch.float64) * 3 + 0.1  # only the direction of (sin, cos) counts
    torch.testing.assert_close(CODER.decode(codes), boxes, rtol=1e-12, atol=1e-12)


def test_decode_of_diverged_sizes_is_finite():
    assert CODER.decode(torch.full((1, 10), 1e4)).isfinite().all()


def test_usable_boxes():
    good = [1.0, 1.0, 0.0, 4.0, 2.0, 1.5, 0.0, NAN, NAN]
    rows = {"good": good, "no length": [*good[:3], 0.0, *good[4:]], "negative height": [*good[:5], -1.0, *good[6:]]}
    rows |= {"upper edge": [8.0, *good[1:]], "lower edge": [-8.0, *good[1:]], "outside": [1.0, 6.5, *good[2:]]}
    rows |= {"high above": [1.0, 1.0, 9.0, *good[3:]], "nan yaw": [*good[:6], NAN, NAN, NAN], "nan x": [NAN, *good[1:]]}
    usable = CODER.usable(torch.tensor(list(rows.values())))
    assert [name for name, ok in zip(rows, usable, strict=True) if ok] == ["good", "lower edge", "high above"]


@pytest.mark.parametrize(
    ("point_range", "cell", "message"),
    [
        (RANGE, (0.7, 1.0), "cell_size must divide"),
        (RANGE[:5], (1, 1), "point_range must be"),
        ((1,) * 6, (1, 1), "grow"),
    ],
)
def test_box_coder_names_wrong_arguments(point_range, cell, message):
    with pytest.raises(ValueError, match=message):
        BoxCoder(point_range, cell)


def three_case_radius(length: float, width: float, overlap: float) -> float:
    """The released formula, case by case."""
    cases = [
        (1, length + width, length * width * (1 - overlap) / (1 + overlap)),
        (4, 2 * (length + width), (1 - overlap) * length * width),
        (4 * overlap, -2 * overlap * (length + width), (overlap - 1) * length * width),
    ]
    return min((b + math.sqrt(b * b - 4 * a * c)) / 2 for a, b, c in cases)


@pytest.mark.parametrize("overlap", [0.1, 0.5, 0.9])
def test_gaussian_radius_is_the_least_of_three_cases(overlap):
    sizes = np.random.rand(200, 2) * [20, 5] + 0.01
    found = gaussian_radius(*torch.tensor(sizes).unbind(1), min_overlap=overlap)
    expected = [three_case_radius(length, width, overlap) for length, width in sizes]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_gaussian_radius_against_a_search_for_the_overlap():
    """A box that grows by r on each side overlaps the old one by lw / ((l + 2r)(w + 2r)); search r by halving."""
    length, width, overlap = 7.7, 3.1, 0.1
    low, high = 0.0, 100.0
    for _ in range(80):
        middle = (low + high) / 2
        iou = length * width / ((length + 2 * middle) * (width + 2 * middle))
        low, high = (middle, high) if iou > overlap else (low, middle)
    found = gaussian_radius(torch.tensor(length), torch.tensor(width), min_overlap=overlap)
    assert found.item() == pytest.approx(4 * overlap * low, rel=1e-5)


def test_heatmap_equals_loops():
    centers = torch.tensor([[3.2, 4.9], [5.0, 5.0], [15.9, 0.1], [3.9, 4.0]], dtype=torch.float64)
    sizes = torch.tensor([[12.0, 9.0], [1.0, 1.0], [30.0, 30.0], [2.0, 2.0]], dtype=torch.float64)
    labels = [0, 0, 1, 0]
    expected = np.zeros((3, 16, 12))
    for (cx, cy), (length, width), label in zip(centers.tolist(), sizes.tolist(), labels, strict=True):
        radius = max(2, int(three_case_radius(length, width, 0.1)))
        sigma = (2 * radius + 1) / 6
        for x, y in itertools.product(range(16), range(12)):
            dx, dy = x - int(cx), y - int(cy)
            if max(abs(dx), abs(dy)) <= radius:
                value = math.exp(-(dx * dx + dy * dy) / (2 * sigma * sigma))
                expected[label, x, y] = max(expected[label, x, y], value)
    found = draw_heatmap(
        centers, sizes, torch.tensor(labels), num_classes=3, grid_shape=(16, 12), min_overlap=0.1, min_radius=2
    )
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    # two centres of class 0 share the cell (3, 4): one peak; peaks are exactly 1, also in float32
    assert (found == 1).nonzero().tolist() == [[0, 3, 4], [0, 5, 5], [1, 15, 0]]


def aligned_iou(a, b) -> float:
    """Intersection over union of two boxes with yaw 0."""
    shared = 1.0
    for axis in range(3):
        low = max(a[axis] - a[axis + 3] / 2, b[axis] - b[axis + 3] / 2)
        high = min(a[axis] + a[axis + 3] / 2, b[axis] + b[axis + 3] / 2)
        shared *= max(high - low, 0.0)
    return shared / (math.prod(a[3:6]) + math.prod(b[3:6]) - shared)


def pair_cost(proposal, logits, box, label) -> float:
    p = 1 / (1 + math.exp(-logits[label]))
    focal = -0.25 * (1 - p) ** 2 * math.log(p) + 0.75 * p**2 * math.log(1 - p)
    center = abs(proposal[0] - box[0]) / 16 + abs(proposal[1] - box[1]) / 12
    return 0.15 * focal + 0.25 * center - 0.25 * aligned_iou(proposal, box)


@pytest.mark.parametrize(("num_proposals", "num_objects"), [(5, 3), (4, 4), (3, 5), (4, 1)])
def test_assignment_is_the_cheapest_of_all(num_proposals, num_objects):
    for seed in range(5):
        torch.manual_seed(seed)
        proposals, boxes = random_boxes(num_proposals).float(), random_boxes(num_objects).float()
        proposals[:, 6], boxes[:, 6] = 0, 0
        near = min(num_proposals, num_objects)
        proposals[:near, :6] = boxes[:near, :6] + torch.randn(near, 6) * 0.05
        logits, labels = torch.randn(num_proposals, 3) * 2, torch.randint(0, 3, (num_objects,))
        cost = [
            [pair_cost(p, row, b, c) for b, c in zip(boxes.tolist(), labels.tolist(), strict=True)]
            for p, row in zip(proposals.tolist(), logits.tolist(), strict=True)
        ]
        pairings = [
            list(zip(rows, columns, strict=True))
            for rows in itertools.combinations(range(num_proposals), near)
            for columns in itertools.permutations(range(num_objects), near)
        ]
        best = min(pairings, key=lambda pairs: sum(cost[p][k] for p, k in pairs))
        match = HungarianAssigner(RANGE).assign(proposals, logits, boxes, labels)
        found = list(zip(match.proposal_index.tolist(), match.object_index.tolist(), strict=True))
        assert sorted(found) == sorted(best)
        expected = [aligned_iou(proposals[p].tolist(), boxes[k].tolist()) for p, k in found]
        assert match.iou.tolist() == pytest.approx(expected, abs=1e-5)


def test_assignment_survives_a_diverged_prediction():
    boxes = random_boxes(2).float()
    proposals = boxes.clone().repeat(2, 1)
    proposals[:2] = NAN
    logits = torch.zeros(4, 3)
    logits[0] = torch.inf
    match = HungarianAssigner(RANGE).assign(proposals, logits, boxes, torch.tensor([0, 1]))
    assert sorted(match.proposal_index.tolist()) == [2, 3]


def test_proposals_are_the_highest_local_maxima():
    head = make_head(num_proposals=20)
    heatmap = torch.randn(2, 3, 16, 12)
    expected = []
    for b in range(2):
        found = []
        for c, x, y in itertools.product(range(3), range(16), range(12)):
            window = heatmap[b, c, max(x - 1, 0) : x + 2, max(y - 1, 0) : y + 2]
            inside = 0 < x < 15 and 0 < y < 11
            if c == 2 or (inside and heatmap[b, c, x, y] == window.max()):
                found.append((heatmap[b, c, x, y].sigmoid().item(), c, x * 12 + y))
        expected.append(sorted(found, reverse=True)[:20])
    labels, cells, scores = head.select_proposals(heatmap)
    for b in range(2):
        found = list(zip(scores[b].tolist(), labels[b].tolist(), cells[b].tolist(), strict=True))
        assert [row[1:] for row in found] == [row[1:] for row in expected[b]]
        assert [row[0] for row in found] == pytest.approx([row[0] for row in expected[b]])


def test_queries_start_at_the_features_and_the_place_of_their_peak():
    """x comes first in the map; a decoder that passes queries through shows what it was given."""
    head = make_head(num_proposals=1, num_classes=3).eval()

    class Recorder(torch.nn.Module):
        def forward(self, queries, cells, positions, cell_positions):
            self.seen = queries, cells, positions, cell_positions
            return queries

    head.decoder[0] = recorder = Recorder()
    bev = torch.randn(1, 6, 16, 12)
    heatmap = torch.full((1, 3, 16, 12), -9.0)
    heatmap[0, 1, 4, 7] = 3.0
    head.heatmap_head = torch.nn.Module()
    head.heatmap_head.forward = lambda shared: heatmap
    with torch.no_grad():
        output = head(bev)
        shared = head.shared_conv(bev)
    queries, cells, positions, cell_positions = recorder.seen
    assert output.query_labels.tolist() == [[1]]
    assert output.query_scores.item() == pytest.approx(1 / (1 + math.exp(-3)))
    assert positions.tolist() == [[[4.5], [7.5]]]
    assert cell_positions[0, :, 4 * 12 + 7].tolist() == [4.5, 7.5]
    torch.testing.assert_close(cells[0, 4 * 12 + 7], shared[0, :, 4, 7])
    encoding = head.class_encoding.weight[:, 1, 0] + head.class_encoding.bias
    torch.testing.assert_close(queries[0, 0], shared[0, :, 4, 7] + encoding)
    center = head.prediction_heads[0]["center"](queries.transpose(1, 2))[0, :, 0]
    torch.testing.assert_close(output.codes[0][0, 0, :2], center + torch.tensor([4.5, 7.5]))


def attention(layer, queries, keys) -> torch.Tensor:
    """Multi-head attention of one sample by its formula; keys are values."""
    wq, wk, wv = layer.in_proj_weight.double().chunk(3)
    bq, bk, bv = layer.in_proj_bias.double().chunk(3)
    q, k, v = queries @ wq.T + bq, keys @ wk.T + bk, keys @ wv.T + bv
    width = q.shape[1] // layer.num_heads
    out = []
    for h in range(layer.num_heads):
        part = slice(h * width, (h + 1) * width)
        out.append((q[:, part] @ k[:, part].T / math.sqrt(width)).softmax(1) @ v[:, part])
    return torch.cat(out, 1) @ layer.out_proj.weight.double().T + layer.out_proj.bias.double()


def test_decoder_layer_equals_its_formula():
    layer = TransFusionDecoderLayer(8, num_heads=2, ffn_channels=12, dropout=0.1).eval()
    for norm in (layer.norm1, layer.norm2, layer.norm3):
        torch.nn.init.normal_(norm.weight)
    queries, cells = torch.randn(2, 5, 8), torch.randn(2, 30, 8)
    positions, cell_positions = torch.rand(2, 2, 5) * 10, torch.rand(1, 2, 30) * 10
    with torch.no_grad():
        found = layer(queries, cells, positions, cell_positions)
        embed = layer.self_posembed(positions).double()
        keys = cells.double() + layer.cross_posembed(cell_positions).double()
        for b in range(2):
            q = queries[b].double()
            q = layer.norm1.double()(q + attention(layer.self_attn, q + embed[b], q + embed[b]))
            q = layer.norm2.double()(q + attention(layer.multihead_attn, q + embed[b], keys[b]))
            hidden = (q @ layer.linear1.weight.double().T + layer.linear1.bias.double()).relu()
            q = layer.norm3.double()(q + hidden @ layer.linear2.weight.double().T + layer.linear2.bias.double())
            torch.testing.assert_close(found[b].double(), q, rtol=1e-4, atol=1e-5)


def output_for(codes, logits=None, labels=None, scores=None) -> HeadOutput:
    batch, count = codes.shape[:2]
    return HeadOutput(
        torch.zeros(batch, 3, *CODER.grid_shape),
        torch.zeros(batch, count, dtype=torch.int64) if labels is None else labels,
        torch.ones(batch, count) if scores is None else scores,
        [codes],
        [torch.zeros(batch, count, 3) if logits is None else logits],
    )


def test_losses_by_hand():
    """Three proposals, two objects; the first proposal is 0.4 cells off in x, its velocity (2, 0) off."""
    head, truth = make_head(), TWO_OBJECTS
    codes = CODER.encode(truth["boxes"])
    codes = torch.cat([codes, codes[:1] + 5.0]).nan_to_num(123.0)[None].requires_grad_()
    offset = torch.zeros(1, 3, 10)
    offset[0, 0, 0], offset[0, 0, 8] = 0.4, 2.0
    losses = head.loss(output_for(codes + offset), [truth])
    # box: 0.25 * (0.4 + 0.2 * 2) / 2 positives; the second object's unknown velocity is free
    assert losses["loss_box"].item() == pytest.approx(0.25 * 0.8 / 2, rel=1e-5)
    # class logits 0: 2 positives (0.25 weight), 7 other entries (0.75), all with p = 0.5; over 2 positives
    entry = 0.25 * math.log(2)
    assert losses["loss_cls"].item() == pytest.approx((2 * 0.25 + 7 * 0.75) * entry / 2, rel=1e-5)
    # heatmap logits 0: peaks cost 0.25 log 2, the rest (1 - t)^4 of that; two peaks
    target = draw_heatmap(
        CODER.to_cells(truth["boxes"][:, :2]),
        truth["boxes"][:, 3:5],
        truth["labels"],
        num_classes=3,
        grid_shape=CODER.grid_shape,
        min_overlap=0.1,
        min_radius=2,
    )
    expected = entry * (2 + ((1 - target) ** 4).sum().item()) / 2
    assert losses["loss_heatmap"].item() == pytest.approx(expected, rel=1e-5)
    # a 0.4 m shift along x of a box 4 x 2 m turned by 0.7 rad still overlaps well; the other is exact
    assert 0.7 < losses["matched_iou"].item() < 0.95
    losses["loss_box"].backward()
    assert codes.grad[0, 1, 8:].tolist() == [0.0, 0.0]
    assert codes.grad[0, 2].abs().max() == 0


def test_losses_average_over_the_batch():
    head = make_head()
    codes = CODER.encode(TWO_OBJECTS["boxes"]).nan_to_num(0.0)[None]
    codes = torch.cat([codes + 0.1, codes])
    one = head.loss(output_for(codes[:1]), [TWO_OBJECTS])
    both = head.loss(output_for(codes), [TWO_OBJECTS, TWO_OBJECTS])
    assert both["loss_box"].item() == pytest.approx(one["loss_box"].item() / 2, rel=1e-4)
    assert both["loss_cls"].item() == pytest.approx(one["loss_cls"].item(), rel=1e-5)


@pytest.mark.parametrize(
    "samples",
    [
        [NOTHING, NOTHING],
        [NOTHING, TWO_OBJECTS],
        [sample([[2, 2, 0, 0, 2, 1.5, 0, 0, 0]], [0]), sample([[99, 2, 0, 4, 2, 1.5, 0, 0, 0]], [1])],
        [sample(random_boxes(30).tolist(), [1] * 30), TWO_OBJECTS],
    ],
    ids=["no-objects", "one-empty", "useless-boxes", "more-objects-than-proposals"],
)
@pytest.mark.parametrize("layers", [1, 2])
def test_every_batch_has_finite_losses_and_gradients(samples, layers):
    head = make_head(num_decoder_layers=layers)
    losses = head.loss(head(torch.randn(2, 6, 16, 12)), samples)
    assert set(losses) >= {"loss_heatmap", "loss_cls", "loss_box", "matched_iou"}
    assert ("loss_box_layer0" in losses) == (layers == 2)
    sum(value for name, value in losses.items() if "loss" in name).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_half_precision(dtype):
    head = make_head().eval()
    bev = torch.randn(2, 6, 16, 12)
    with torch.autocast("cpu", dtype=dtype):
        output = head(bev)
        losses = head.loss(output, [TWO_OBJECTS, NOTHING])
    assert output.heatmap.dtype == dtype
    assert output.codes[0].dtype == output.logits[0].dtype == torch.float32
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())
    # The heatmap decides which proposals there are, so compare it: bfloat16 has 8 digits, over two convolutions.
    torch.testing.assert_close(output.heatmap.float(), head(bev).heatmap, rtol=0.05, atol=0.05)


def test_predictions():
    head = make_head(score_threshold=0.1, post_range=(-8, -6, -2, 8, 6, 2))
    boxes = random_boxes(5).float()
    boxes[:, 2] = torch.tensor([0.0, 3.0, 0.0, 0.0, 0.0])  # the second is too high
    logits = torch.tensor([[0.0, 9, 9], [3, 0, 0], [0, 0, 3.0], [0, -9, 9], [0, 0, 1.0]])[None]
    labels, scores = torch.tensor([[0, 0, 2, 1, 2]]), torch.tensor([[1.0, 1.0, 0.9, 1.0, 0.5]])
    found = head.predict(output_for(CODER.encode(boxes)[None], logits, labels, scores))[0]
    # the fourth is sure of another class than its peak's: sigmoid(-9) is below the threshold
    assert found.labels.tolist() == [2, 0, 2]
    expected = [0.9 / (1 + math.exp(-3)), 0.5, 0.5 / (1 + math.exp(-1))]
    assert found.scores.tolist() == pytest.approx(expected)
    torch.testing.assert_close(found.boxes, boxes[[2, 0, 4]])


def test_circle_nms_where_asked_for():
    head = make_head(circle_nms_distance={2: 1.0})
    boxes = torch.tensor([[0.0, 0, 0, 1, 1, 1, 0, 0, 0]]).repeat(4, 1)
    boxes[:, 0] = torch.tensor([0.0, 0.5, 0.6, 3.0])
    labels, scores = torch.tensor([[2, 2, 0, 2]]), torch.tensor([[0.8, 0.9, 0.7, 0.6]])
    found = head.predict(output_for(CODER.encode(boxes)[None], None, labels, scores))[0]
    assert found.boxes[:, 0].tolist() == pytest.approx([0.5, 0.6, 3.0])
    assert found.labels.tolist() == [2, 0, 2]


def test_nothing_found_is_empty():
    head = make_head(score_threshold=1.0)
    found = head.predict(head(torch.randn(2, 6, 16, 12)))
    assert [len(detections) for detections in found] == [0, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(peak_kernel=4), "peak_kernel must be odd"),
        (dict(num_proposals=577), r"num_proposals must be in 1\.\.576, got 577"),
        (dict(crowded_classes=(3,)), "crowded_classes must be below 3"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        make_head(**changes)


def test_wrong_inputs_are_named():
    head = make_head()
    with pytest.raises(ValueError, match=r"bev must be \(B, C, 16, 12\), got \(1, 6, 12, 16\)"):
        head(torch.zeros(1, 6, 12, 16))
    output = head(torch.randn(2, 6, 16, 12))
    with pytest.raises(ValueError, match="samples must be 2, got 1"):
        head.loss(output, [NOTHING])
    with pytest.raises(ValueError, match=r"got \(2, 9\) and \(1,\)"):
        head.loss(output, [NOTHING, {**TWO_OBJECTS, "labels": torch.zeros(1).long()}])
    with pytest.raises(ValueError, match="must be 10, got 9"):
        TransFusionLoss(HungarianAssigner(RANGE), code_weights=(1.0,) * 9)
    head.criterion = None
    with pytest.raises(ValueError, match="criterion must be given"):
        head.loss(output, [NOTHING, NOTHING])
