# SPDX-License-Identifier: Apache-2.0
"""Losses, clusterings and a GravNet convolution as plain loops in float64; never imports pcperc."""

import math

import numpy as np


def condensation(beta, x, objects, q_min, noise_weight):
    """Attraction, repulsion and the loss of beta of one event."""
    hits = range(len(beta))
    charge = [math.atanh(b / 1.002) ** 2 + q_min for b in beta]
    known = sorted({k for k in objects if k >= 0})
    attraction = repulsion = missing = 0.0
    for k in known:
        a = max((i for i in hits if objects[i] == k), key=lambda i: (charge[i], -i))
        missing += (1 - beta[a]) / len(known)
        for i in hits:
            d = math.dist(x[i], x[a])
            strength = charge[i] * charge[a] / len(beta)
            if objects[i] == k:
                attraction += strength * (d**2 if d <= 4 else 8 * d - 16)
            else:
                repulsion += strength * max(0.0, 1 - d)
    noise = [beta[i] for i in hits if objects[i] < 0]
    return attraction, repulsion, missing + noise_weight * (sum(noise) / len(noise) if noise else 0.0)


def discriminative(x, objects, pull_margin, push_margin):
    """Pull and push of one event."""
    known = sorted({k for k in objects if k >= 0})
    unit = [np.asarray(row, np.float64) / np.linalg.norm(row) for row in x]
    own = [[unit[i] for i in range(len(x)) if objects[i] == k] for k in known]
    means = [np.mean(rows, axis=0) for rows in own]
    pulls = [
        np.mean([max(0.0, np.abs(mean - row).sum() - pull_margin) ** 2 for row in rows])
        for mean, rows in zip(means, own, strict=True)
    ]
    pushes = [
        max(0.0, 2 * push_margin - np.abs(a - b).sum()) ** 2
        for i, a in enumerate(means)
        for j, b in enumerate(means)
        if i != j
    ]
    return (np.mean(pulls) if pulls else 0.0), (np.mean(pushes) if pushes else 0.0)


def offset(offsets, xyz, objects):
    """Mean L1 distance to the middles of the boxes around objects."""
    errors = []
    for i, k in enumerate(objects):
        if k >= 0:
            own = np.array([xyz[j] for j in range(len(xyz)) if objects[j] == k], np.float64)
            middle = (own.min(axis=0) + own.max(axis=0)) / 2
            errors.append(np.abs(xyz[i] + offsets[i] - middle).sum())
    return float(np.mean(errors)) if errors else 0.0


def condense(x, beta, group, radius, min_beta):
    """The row of each hit's centre, -1 for none."""
    centre = np.full(len(x), -1)
    for i in sorted(range(len(x)), key=lambda i: (-beta[i], i)):
        if beta[i] <= min_beta or centre[i] >= 0 or group[i] < 0:
            continue
        for j in range(len(x)):
            near = math.dist(x[i], x[j]) < radius
            if centre[j] < 0 and group[j] == group[i] and (near or i == j):
                centre[j] = i
    return centre


def mean_shift(x, bandwidth, max_iterations=300):
    """Numbers of clusters of the points of one group."""
    x = np.asarray(x, np.float64)
    seeds = sorted({tuple(np.round(row / bandwidth) * bandwidth) for row in x})
    if len(seeds) == len(x):
        seeds = [tuple(row) for row in x]
    modes = []
    for seed in seeds:
        place = np.array(seed)
        if not (np.linalg.norm(x - place, axis=1) <= bandwidth).any():
            continue
        for _ in range(max_iterations):
            moved = x[np.linalg.norm(x - place, axis=1) <= bandwidth].mean(axis=0)
            step, place = np.linalg.norm(moved - place), moved
            if step <= 1e-3 * bandwidth:
                break
        modes.append((int((np.linalg.norm(x - place, axis=1) <= bandwidth).sum()), tuple(place)))
    kept = []
    for _, mode in sorted(modes, reverse=True):
        if all(math.dist(mode, other) >= bandwidth for other in kept):
            kept.append(mode)
    return np.array([int(np.argmin([math.dist(row, mode) for mode in kept])) for row in x])


def nearest(x, items, count):
    """Rows of the nearest points of the same item, nearest first, -1 behind them."""
    rows = np.full((len(x), count), -1)
    for i in range(len(x)):
        own = [j for j in range(len(x)) if items[j] == items[i]]
        own.sort(key=lambda j: (math.dist(x[i], x[j]), j))
        rows[i, : min(count, len(own))] = own[:count]
    return rows


def gravnet_conv(feats, items, weights, count):
    """A GravNet convolution; weights are place, send, own and heard, each (matrix, bias or None) as in torch."""
    place, sent, own = (feats @ m.T + (0 if b is None else b) for m, b in weights[:3])
    rows = nearest(place, items, count)
    out = []
    for i in range(len(feats)):
        near = [j for j in rows[i] if j >= 0]
        messages = np.array([sent[j] * math.exp(-10 * np.sum((place[i] - place[j]) ** 2)) for j in near])
        heard = np.concatenate([messages.mean(axis=0), messages.max(axis=0)])
        out.append(own[i] + weights[3][0] @ heard + weights[3][1])
    return np.array(out)


def gravnet(feats, items, state, blocks, count):
    """The published network in evaluation, from its parameters by name (arrays of float64): (N, outputs)."""

    def linear(x, name):
        return x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0.0)

    def norm(x, name):
        mean, var, weight, bias = (state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
        return (x - mean) / np.sqrt(var + 1e-5) * weight + bias

    def exchange(x):
        own = [np.array([row for row, item in zip(x, items, strict=True) if item == k]) for k in items]
        return np.array([np.concatenate([r.mean(0), r.min(0), r.max(0), row]) for r, row in zip(own, x, strict=True)])

    x, after = linear(exchange(norm(feats, "norm")), "enter"), []
    for k in range(blocks):
        names = [f"blocks.{k}.conv.{name}" for name in ("place", "send", "own", "heard")]
        x = gravnet_conv(x, items, [(state[f"{n}.weight"], state.get(f"{n}.bias")) for n in names], count)
        x = np.tanh(linear(norm(x, f"blocks.{k}.after.0"), f"blocks.{k}.after.1"))
        x = np.tanh(linear(norm(x, f"blocks.{k}.after.3"), f"blocks.{k}.after.4"))
        x = norm(np.tanh(linear(exchange(x), f"blocks.{k}.exchange.0")), f"blocks.{k}.exchange.2")
        after.append(x)
    x = np.concatenate(after, axis=1)
    for k in (0, 3, 6, 9):
        x = norm(np.maximum(linear(x, f"head.{k}"), 0), f"head.{k + 2}")
    return linear(np.maximum(linear(np.maximum(linear(x, "head.12"), 0), "head.14"), 0), "head.16")


def same_partition(one, other):
    """True where two labellings group alike; negative labels are no group."""
    one, other = list(map(int, one)), list(map(int, other))
    pairs = {(a, b) for a, b in zip(one, other, strict=True) if a >= 0 or b >= 0}
    return all(a >= 0 and b >= 0 for a, b in pairs) and len(pairs) == len({a for a, _ in pairs}) == len(
        {b for _, b in pairs}
    )
