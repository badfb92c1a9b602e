# SPDX-License-Identifier: Apache-2.0
"""Losses that bring the hits of a shower together, each of one event: N hits, K objects, ``objects`` (N,) int64 in
[0, K) with at least one hit each, -1 for noise. Sums are float32 (float64 for float64)."""

from typing import NamedTuple

import torch
from torch import Tensor

BETA_SCALE = 1.002  # keeps arctanh finite at beta = 1
FAR = 4.0  # beyond this distance attraction grows linearly


class CondensationLoss(NamedTuple):
    """The parts of `object_condensation_loss`, scalars."""

    attraction: Tensor
    repulsion: Tensor
    beta: Tensor


def object_condensation_loss(
    beta: Tensor, coords: Tensor, objects: Tensor, *, q_min: float = 1.0, noise_weight: float = 0.1
) -> CondensationLoss:
    """Draw hits to the hit of their object with the largest charge, and away from those of other objects.

    With the charge ``q_i = arctanh(beta_i / 1.002)^2 + q_min`` and ``a(k)`` the hit of object k with the largest one
    (of equal ones the first), at the distance ``d_ik`` from hit i:

        attraction = 1/N sum_k sum_{i in k} q_i q_a(k) h(d_ik)         h(d) = d^2, and 8 d - 16 beyond d = 4
        repulsion = 1/N sum_k sum_{i not in k} q_i q_a(k) max(0, 1 - d_ik)
        beta = mean_k (1 - beta_a(k)) + noise_weight * mean of beta over noise

    Args:
        beta: (N,) in [0, 1]. coords: (N, D). Differentiable. objects: (N,), see above.
    Returns:
        0, still attached to the graph, for what there is nothing of: N = 0, no object, no noise.
    Raises:
        ValueError: shapes that differ.
    Source: Kieseler, "Object condensation", Eur. Phys. J. C 80 (2020), equations 4 to 9; h, and the scale of beta, from
        the code that its group published.
    Deterministic: yes.
    """
    beta, coords, count = _checked("object_condensation_loss", beta, coords, objects)
    nothing = beta.sum() * 0 + coords.sum() * 0
    noise = objects < 0
    noise_beta = beta[noise].mean() if bool(noise.any()) else nothing
    if count == 0:
        return CondensationLoss(nothing, nothing, noise_weight * noise_beta + nothing)
    charge = (beta / BETA_SCALE).arctanh().square() + q_min
    centres = _first_largest(charge.detach(), objects, count)
    distance = _distances(coords, coords[centres])
    strength = charge[:, None] * charge[centres] / len(beta)
    member = objects[:, None] == torch.arange(count, device=objects.device)
    near = torch.where(distance > FAR, 2 * FAR * distance - FAR**2, distance.square())
    attraction = torch.where(member, strength * near, 0).sum()
    repulsion = torch.where(member, 0, strength * (1 - distance).clamp(min=0)).sum()
    return CondensationLoss(attraction, repulsion, (1 - beta[centres]).mean() + noise_weight * noise_beta)


class DiscriminativeLoss(NamedTuple):
    """The parts of `discriminative_loss`, scalars."""

    pull: Tensor
    push: Tensor


def discriminative_loss(
    embedding: Tensor, objects: Tensor, *, pull_margin: float = 0.5, push_margin: float = 1.5
) -> DiscriminativeLoss:
    """Pull embeddings to the mean of their object, and push the means of objects apart; noise takes no part.

    With embeddings of length 1 and ``m_k`` their mean over object k, in the L1 norm:

        pull = mean_k mean_{i in k} max(0, |m_k - x_i| - pull_margin)^2
        push = mean_{k != l} max(0, 2 push_margin - |m_k - m_l|)^2

    Args:
        embedding: (N, D). Differentiable. objects: (N,), see above.
    Returns:
        0, still attached to the graph, for no object, or no two of them.
    Raises:
        ValueError: shapes that differ.
    Source: De Brabandere, Neven and Van Gool, "Semantic instance segmentation with a discriminative loss function",
        2017, equations 1 and 2; norm and length as in the code published for calorimeters.
    """
    _, embedding, count = _checked("discriminative_loss", embedding[:, 0], embedding, objects)
    nothing = embedding.sum() * 0
    if count == 0:
        return DiscriminativeLoss(nothing, nothing)
    own = objects[objects >= 0]
    x = torch.nn.functional.normalize(embedding[objects >= 0], dim=1)
    member = torch.nn.functional.one_hot(own, count).to(x)  # sums by matrix products, which repeat bit for bit
    hits = member.sum(0)
    means = member.T @ x / hits[:, None]
    pull = ((member @ means - x).abs().sum(1) - pull_margin).clamp(min=0).square()
    pull = (member.T @ pull / hits).mean()
    if count == 1:
        return DiscriminativeLoss(pull, nothing)
    apart = (means[:, None] - means[None]).abs().sum(2)
    others = ~torch.eye(count, dtype=torch.bool, device=x.device)
    return DiscriminativeLoss(pull, (2 * push_margin - apart[others]).clamp(min=0).square().mean())


def offset_loss(offsets: Tensor, xyz: Tensor, objects: Tensor) -> Tensor:
    """Mean L1 distance of ``xyz + offsets`` to the middle of the box around each hit's object; noise takes no part.

    Args:
        offsets: (N, D). Differentiable. xyz: (N, D), in the same unit. objects: (N,), see above.
    Returns:
        Scalar; 0, still attached to the graph, without objects.
    Raises:
        ValueError: shapes that differ.
    """
    _, offsets, count = _checked("offset_loss", offsets[:, 0], offsets, objects)
    if xyz.shape != offsets.shape:
        raise ValueError(f"offset_loss: xyz must be {tuple(offsets.shape)}, got {tuple(xyz.shape)}")
    if count == 0:
        return offsets.sum() * 0
    inside = objects >= 0
    own = objects[inside, None].expand(-1, xyz.shape[1])
    ends = xyz.new_zeros(2, count, xyz.shape[1])
    for end, reduce in zip(ends, ("amin", "amax"), strict=True):
        end.scatter_reduce_(0, own, xyz[inside], reduce, include_self=False)
    return ((xyz + offsets)[inside] - ends.mean(0)[objects[inside]]).abs().sum(1).mean()


def _checked(op: str, values: Tensor, coords: Tensor, objects: Tensor) -> tuple[Tensor, Tensor, int]:
    """Return values and coords in float32 or wider, and the number of objects."""
    if coords.ndim != 2 or values.shape != coords.shape[:1] or objects.shape != coords.shape[:1]:
        shapes = [tuple(tensor.shape) for tensor in (values, coords, objects)]
        raise ValueError(f"{op}: hits must be as many in each argument, one of which is (N, D), got {shapes}")
    wide = torch.float64 if coords.dtype == torch.float64 else torch.float32
    count = int(objects.max()) + 1 if len(objects) else 0
    return values.to(wide), coords.to(wide), count


def _first_largest(values: Tensor, objects: Tensor, count: int) -> Tensor:
    """Return the row with the largest value of each object, (K,) int64, the first of equal ones."""
    order = values.argsort(descending=True, stable=True)
    order = order[objects[order].argsort(stable=True)]
    return order[torch.searchsorted(objects[order], torch.arange(count, device=objects.device))]


def _distances(x: Tensor, centres: Tensor) -> Tensor:
    """Return (N, K) distances, not by a matrix product, which loses the small ones; the gradient at 0 is 0."""
    return torch.cdist(x, centres, compute_mode="donot_use_mm_for_euclid_dist")
