# SPDX-License-Identifier: Apache-2.0
"""The head of map segmentation: its grid, its loss, its size, and that it learns a map."""

import math

import pytest
import torch
import torch.nn.functional as F

from pcperc.geometry import BEVGrid
from pcperc.models.bevfusion import BEVGridTransform, BEVSegmentationHead
from pcperc.models.losses import binary_focal_loss

COARSE = ((-4.0, 4.0, 1.0), (-2.0, 2.0, 1.0))
FINE = ((-3.0, 3.0, 0.5), (-1.5, 1.5, 0.25))


def head(channels=8, classes=("street", "line")):
    return BEVSegmentationHead(in_channels=channels, classes=classes, grid_transform=BEVGridTransform(COARSE, FINE))


def centres(bounds):
    return torch.from_numpy(BEVGrid(*bounds).centres())


def test_a_plane_is_read_where_the_cells_are(device):
    """x and y are not exchanged, and the centre of a cell is at its middle."""
    x, y = centres(COARSE).unbind(-1)
    plane = torch.stack([2 * x + 3 * y, x - 0.5 * y]).float().expand(2, -1, -1, -1)
    found = BEVGridTransform(COARSE, FINE).to(device)(plane.to(device)).cpu()
    x, y = centres(FINE).unbind(-1)
    expected = torch.stack([2 * x + 3 * y, x - 0.5 * y]).float().expand(2, -1, -1, -1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


PUBLISHED = ((-51.2, 51.2, 0.8),) * 2, ((-50.0, 50.0, 0.5),) * 2


@pytest.mark.parametrize("bounds", [PUBLISHED, (FINE, COARSE), (COARSE, ((-8.0, 8.0, 0.4), (-3.0, 3.0, 0.2)))])
def test_it_is_torchs_grid_sample(bounds, device):
    """Values and gradients, also beyond the input."""
    source, grid = BEVGrid(*bounds[0]), BEVGrid(*bounds[1])
    places = (torch.from_numpy(source.to_index(grid.centres())) + 0.5) / torch.tensor(source.shape) * 2 - 1
    places = places.flip(-1).expand(2, -1, -1, -1).to(device)
    bev = torch.randn(2, 3, *source.shape, dtype=torch.float64, device=device, requires_grad=True)
    expected = F.grid_sample(bev, places, mode="bilinear", align_corners=False)
    found = BEVGridTransform(*bounds)(bev)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    weight = torch.randn_like(found)
    gradients = [torch.autograd.grad((out * weight).sum(), bev)[0] for out in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


def test_half_precision_does_not_move_the_grid():
    published = BEVGridTransform(*PUBLISHED)
    bev = torch.randn(1, 2, 128, 128).half()
    found = published.half()(bev)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), published(bev.float()), rtol=2e-3, atol=2e-3)


def test_outside_of_the_input_is_zero():
    wide = ((-8.0, 8.0, 1.0), (-2.0, 2.0, 1.0))
    found = BEVGridTransform(COARSE, wide)(torch.ones(1, 1, 8, 4))[0, 0]
    assert (found[4:12] - 1).abs().max() < 1e-6 and found[:4].max() < 1e-6 and found[12:].max() < 1e-6


def focal_by_hand(logits, target, gamma):
    total = 0.0
    for value, positive in zip(logits.flatten().tolist(), target.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-value))
        p = p if positive else 1 - p
        total -= (1 - p) ** gamma * math.log(p)
    return total / logits.numel()


@pytest.mark.parametrize("gamma", [0.0, 2.0, 3.5])
def test_focal_loss_is_the_formula(gamma, device):
    logits = (torch.randn(3, 4, 5, dtype=torch.float64) * 2).to(device).requires_grad_()
    target = torch.rand(3, 4, 5, device=device) < 0.3
    found = binary_focal_loss(logits, target, gamma=gamma)
    assert found.item() == pytest.approx(focal_by_hand(logits, target, gamma), rel=1e-12)
    assert torch.autograd.gradcheck(lambda x: binary_focal_loss(x, target, gamma=gamma), logits)


def test_focal_loss_of_sure_answers_is_finite():
    logits = torch.tensor([200.0, -200.0, 200.0], dtype=torch.float16, requires_grad=True)
    loss = binary_focal_loss(logits, torch.tensor([True, False, False]))
    loss.backward()
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(200 / 3) and logits.grad.isfinite().all()
    with pytest.raises(ValueError, match=r"logits and target must have one shape, got \(3,\) and \(2,\)"):
        binary_focal_loss(logits, torch.tensor([True, False]))


def test_published_sizes_and_names():
    """4.72M parameters on LiDAR or both, 1.18M on the camera's 256 channels; the names are those of checkpoints."""
    sizes = {c: sum(p.numel() for p in head(c, tuple("abcdef")).parameters()) for c in (512, 256)}
    assert sizes == {512: 4_723_718, 256: 1_182_214}
    names = {name.rsplit(".", 1)[0] for name in head().state_dict()}
    assert names == {f"classifier.{k}" for k in (0, 1, 3, 4, 6)}


def test_the_head_hands_its_gamma_on():
    model = BEVSegmentationHead(classes=("a", "b"), grid_transform=BEVGridTransform(COARSE, FINE), focal_gamma=0.5)
    logits, masks = torch.randn(2, 2, 12, 12), torch.rand(2, 2, 12, 12) < 0.3
    losses = model.loss(logits, [{"map_masks": own} for own in masks])
    towards = torch.where(masks, logits, -logits)
    expected = ((1 - towards.sigmoid()) ** 0.5 * -towards.sigmoid().log()).mean((0, 2, 3))
    torch.testing.assert_close(torch.stack([losses["loss_a"], losses["loss_b"]]), expected)


def test_learns_a_map_by_heart():
    torch.manual_seed(0)
    model, grid = head(), BEVGrid(*FINE)
    x, y = torch.from_numpy(grid.centres()).unbind(-1)
    masks = torch.stack([y.abs() < 0.6, (x - y).abs() < 0.5])
    coarse_x, coarse_y = centres(COARSE).unbind(-1)
    bev = torch.stack([coarse_x, coarse_y, *(torch.randn(8, 4) for _ in range(6))])[None].float()
    samples = [{"sample_token": "t", "map_masks": masks}]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(60):
        losses = model.loss(model(bev), samples)
        assert set(losses) == {"loss_street", "loss_line"}
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        (found,) = model.predict(model(bev))
    assert found.grid == grid and ((found.probabilities >= 0.5) == masks).float().mean() > 0.97


def test_predictions_are_probabilities_of_each_sample():
    model = head().eval()
    logits = model(torch.randn(3, 8, 8, 4))
    found = model.predict(logits.half())
    assert len(found) == 3 and found[0].probabilities.dtype == torch.float32
    torch.testing.assert_close(found[1].probabilities, logits[1].sigmoid(), rtol=2e-3, atol=2e-3)
    assert found[2].to("cpu").numpy().probabilities.shape == (2, 12, 12)


@pytest.mark.parametrize(
    ("masks", "got"), [(None, "none"), (torch.zeros(3, 12, 12, dtype=torch.bool), r"\(3, 12, 12\)")]
)
def test_samples_without_fitting_masks_are_named(masks, got):
    sample = {"sample_token": "t9"} | ({} if masks is None else {"map_masks": masks})
    with pytest.raises(ValueError, match=rf"sample t9 must have map_masks of \(2, 12, 12\) .*got {got}"):
        head().loss(torch.zeros(1, 2, 12, 12), [sample])


def test_a_map_of_another_size_is_named():
    with pytest.raises(ValueError, match=r"bev must be \(B, C, 8, 4\) for input_bounds, got \(1, 8, 4, 8\)"):
        head()(torch.zeros(1, 8, 4, 8))
    with pytest.raises(ValueError, match="BEVGrid: x_bound must be"):
        BEVGridTransform(((0, 1, 0.3), (0, 1, 0.5)), FINE)
