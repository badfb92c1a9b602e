# SPDX-License-Identifier: Apache-2.0
"""Points to voxels, back, and SPVCNN by their formulas in float64, with NumPy alone. Never imports pcperc.

``state`` is a network's state_dict as arrays; only its key names are shared with the implementation.
"""

import itertools

import numpy as np

EPS = 1e-5  # of batch norm


def cells(coords, stride=1):
    """The voxel of each point, [batch, floor(floor(xyz) / stride)]."""
    lattice = np.floor(coords).astype(np.int64)
    lattice[:, 1:] = np.floor_divide(lattice[:, 1:], stride)
    return lattice


def scatter_mean(coords, feats, voxels, stride=1):
    """Mean of the features of the points in each of ``voxels``; 0 where there is none."""
    row_of = {tuple(voxel): m for m, voxel in enumerate(voxels.tolist())}
    sums, counts = np.zeros((len(voxels), feats.shape[1])), np.zeros(len(voxels))
    for cell, feat in zip(cells(coords, stride).tolist(), feats, strict=True):
        if tuple(cell) in row_of:
            sums[row_of[tuple(cell)]] += feat
            counts[row_of[tuple(cell)]] += 1
    return sums / np.maximum(counts, 1)[:, None]


def trilinear(coords, voxels, feats, stride=1, *, quantized=False):
    """Value at each point of the voxels around it, weights of those that are there divided by their sum."""
    row_of = {tuple(voxel): m for m, voxel in enumerate(voxels.tolist())}
    out = np.zeros((len(coords), feats.shape[1]))
    for n, (batch, *xyz) in enumerate(np.asarray(coords, np.float64)):
        place = np.floor(xyz) / stride if quantized else np.array(xyz) / stride - 0.5
        low = np.floor(place)
        total = 0.0
        for step in itertools.product((0, 1), repeat=len(xyz)):
            row = row_of.get((int(batch), *(low + step).astype(int).tolist()))
            if row is not None:
                weight = np.prod(1 - np.abs(place - low - step))
                out[n] += weight * feats[row]
                total += weight
        out[n] /= total if total > 0 else 1
    return out


def norm(state, key, x, *, training):
    """Batch norm by its running statistics or by the mean and variance of the rows."""
    mean, var = (x.mean(0), x.var(0)) if training else (state[f"{key}.running_mean"], state[f"{key}.running_var"])
    return (x - mean) / np.sqrt(var + EPS) * state[f"{key}.weight"] + state[f"{key}.bias"]


def relu(x):
    return np.maximum(x, 0)


def conv(weight, voxels_in, feats, voxels_out, *, stride=1, transposed=False):
    """out[o] = sum over taps of feats[stride * o + tap - centre] @ weight[tap], centre 1 of three taps and 0 of two."""
    size = weight.shape[0]
    centre = size // 2 if size % 2 else 0
    row_of = {tuple(voxel): m for m, voxel in enumerate(voxels_in.tolist())}
    out = np.zeros((len(voxels_out), weight.shape[-1]))
    for m, (batch, *xyz) in enumerate(voxels_out.tolist()):
        for tap in itertools.product(range(size), repeat=3):
            if transposed:  # the fine voxel xyz is tap of the coarse one
                near = [divmod(v - t, stride) for v, t in zip(xyz, tap, strict=True)]
                if any(rest for _, rest in near):
                    continue
                near = [v for v, _ in near]
            else:
                near = [stride * v + t - centre for v, t in zip(xyz, tap, strict=True)]
            row = row_of.get((batch, *near))
            if row is not None:
                out[m] += feats[row] @ weight[tap]
    return out


class SPVCNN:
    """The network layer by layer; ``layers`` records what each named layer gave."""

    def __init__(self, state, *, quantized=False, training=False):
        self.state, self.quantized, self.training, self.layers = state, quantized, training, {}

    def block(self, key, voxels_in, x, voxels_out, *, shortcut=0, activated=True, **geometry):
        x = conv(self.state[f"{key}.conv.weight"], voxels_in, x, voxels_out, **geometry)
        x = norm(self.state, f"{key}.norm", x, training=self.training) + shortcut
        return relu(x) if activated else x

    def residuals(self, key, voxels, x):
        for number in itertools.count():
            block = f"{key}.{number}"
            if f"{block}.block1.conv.weight" not in self.state:
                return x
            shortcut = x
            if f"{block}.shortcut.conv.weight" in self.state:
                shortcut = self.block(f"{block}.shortcut", voxels, x, voxels, activated=False)
            inner = self.block(f"{block}.block1", voxels, x, voxels)
            x = self.block(f"{block}.block2", voxels, inner, voxels, shortcut=shortcut)
            self.layers[block] = x

    def read(self, coords, voxels, x, stride, name):
        self.layers[name] = trilinear(coords, voxels, x, stride, quantized=self.quantized)
        return self.layers[name]

    def perceptron(self, number, z):
        key = f"point_transforms.{number}"
        z = z @ self.state[f"{key}.0.weight"].T + self.state[f"{key}.0.bias"]
        self.layers[key] = relu(norm(self.state, f"{key}.1", z, training=self.training))
        return self.layers[key]

    def __call__(self, coords, feats):
        voxels = {s: np.unique(cells(coords, s), axis=0) for s in (1, 2, 4, 8, 16)}
        x = scatter_mean(coords, feats, voxels[1])
        self.layers["voxels"] = x
        for number in range(2):
            x = self.layers[f"stem.{number}"] = self.block(f"stem.{number}", voxels[1], x, voxels[1])
        z = self.read(coords, voxels[1], x, 1, "z0")
        skips = [x]
        x = scatter_mean(coords, z, voxels[1])
        for number, s in enumerate((2, 4, 8, 16)):
            key = f"down_stages.{number}"
            x = self.layers[f"{key}.down"] = self.block(f"{key}.down", voxels[s // 2], x, voxels[s], stride=2)
            x = self.residuals(f"{key}.blocks", voxels[s], x)
            skips.append(x)
        skips.pop()
        for meeting, bottom in enumerate((16, 4)):
            z = self.read(coords, voxels[bottom], x, bottom, f"z{meeting + 1}") + self.perceptron(meeting, z)
            x = scatter_mean(coords, z, voxels[bottom], bottom)
            for step, s in enumerate((bottom // 2, bottom // 4)):
                key = f"up_stages.{2 * meeting + step}"
                up = self.block(f"{key}.up", voxels[2 * s], x, voxels[s], stride=2, transposed=True)
                self.layers[f"{key}.up"] = up
                x = self.residuals(f"{key}.blocks", voxels[s], np.concatenate([up, skips.pop()], 1))
        z = self.read(coords, voxels[1], x, 1, "z3") + self.perceptron(2, z)
        return z @ self.state["classifier.weight"].T + self.state["classifier.bias"]
