# SPDX-License-Identifier: Apache-2.0
"""TransFusion head: proposals, queries, the decoder layer, predictions, and what is wrong by name."""

import itertools
import math

import pytest
import torch

from pcperc.models.bevfusion.target_assigner import HungarianAssigner
from pcperc.models.bevfusion.transformer import TransFusionDecoderLayer
from pcperc.models.bevfusion.transfusion_loss import HeadOutput, TransFusionLoss
from tests.models.transfusion_small import CODER, NOTHING, RANGE, TWO_OBJECTS, make_head, output_for, random_boxes


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


def test_every_layer_begins_where_the_one_before_says():
    """Of several layers the last one's boxes and scores are the prediction."""
    head = make_head(num_decoder_layers=3, bn_momentum=0.3).eval()
    given = []
    for layer in head.decoder:
        layer.register_forward_pre_hook(lambda layer, inputs: given.append(inputs))
    with torch.no_grad():
        output = head(torch.randn(2, 6, 16, 12))
    assert len(given) == len(output.codes) == len(output.logits) == 3
    for (_, _, positions, cell_positions), codes in zip(given[1:], output.codes, strict=False):
        torch.testing.assert_close(positions, codes[..., :2].transpose(1, 2))
        torch.testing.assert_close(cell_positions, given[0][3])
    last = HeadOutput(output.heatmap, output.query_labels, output.query_scores, output.codes[2:], output.logits[2:])
    for found, expected in zip(head.predict(output), head.predict(last), strict=True):
        torch.testing.assert_close(found.boxes, expected.boxes)
        torch.testing.assert_close(found.scores, expected.scores)
    momenta = {module.momentum for module in head.modules() if hasattr(module, "momentum")}
    assert momenta == {0.3}


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
