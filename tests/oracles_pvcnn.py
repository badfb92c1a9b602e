# SPDX-License-Identifier: Apache-2.0
"""PVConv, PVCNN, PVCNN++ and F-PVCNN by their formulas in float64, with NumPy and one torch convolution. Never imports
pcperc.

``state`` is a network's state_dict as float64 arrays; only its key names are shared with the implementation. A cloud is
``xyz`` (N, 3), ``batch`` (N,) and ``feats`` (N, C).
"""

import numpy as np
import torch

from tests import oracles_clouds


def norm(state, key, x, training, eps=1e-5):
    """Batch norm over all axes but the second."""
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    shape = (1, -1) + (1,) * (x.ndim - 2)
    use_batch = training and x.size > x.shape[1]
    mean, var = (
        (x.mean(axes), x.var(axes)) if use_batch else (state[f"{key}.running_mean"], state[f"{key}.running_var"])
    )
    scale = state[f"{key}.weight"] / np.sqrt(var + eps)
    return (x - mean.reshape(shape)) * scale.reshape(shape) + state[f"{key}.bias"].reshape(shape)


def linear(state, key, x):
    bias = state.get(f"{key}.bias", 0.0)
    return x @ state[f"{key}.weight"].T + bias


def shared_mlp(state, key, x, training):
    layer = 0
    while f"{key}.{layer}.weight" in state:
        x = np.maximum(norm(state, f"{key}.{layer + 1}", linear(state, f"{key}.{layer}", x), training), 0)
        layer += 3
    return x


def head(state, key, x, training):
    """Perceptrons and, last, a linear layer; dropout must be off."""
    layers = sorted({int(name[len(key) + 1 :].split(".")[0]) for name in state if name.startswith(f"{key}.")})
    for layer in layers[:-1]:
        x = shared_mlp(state, f"{key}.{layer}", x, training)
    return linear(state, f"{key}.{layers[-1]}", x)


def conv3d(state, key, volume):
    tensors = (volume, state[f"{key}.weight"], state[f"{key}.bias"])
    return torch.nn.functional.conv3d(*(torch.from_numpy(t) for t in tensors), padding=1).numpy()


def pv_conv(state, key, xyz, batch, feats, *, batch_size, resolution, normalize, training):
    place = oracles_clouds.places(xyz, batch, batch_size, resolution, normalize)
    volume = oracles_clouds.avg_voxelize(feats, place, batch, batch_size, resolution)
    for layer in (0, 3):
        volume = conv3d(state, f"{key}.voxel_layers.{layer}", volume)
        volume = norm(state, f"{key}.voxel_layers.{layer + 1}", volume, training, eps=1e-4)
        volume = np.where(volume >= 0, volume, 0.1 * volume)
    if f"{key}.voxel_layers.6.squeeze.weight" in state:
        hidden = np.maximum(linear(state, f"{key}.voxel_layers.6.squeeze", volume.mean((2, 3, 4))), 0)
        gates = 1 / (1 + np.exp(-linear(state, f"{key}.voxel_layers.6.excite", hidden)))
        volume = volume * gates[:, :, None, None, None]
    read = oracles_clouds.trilinear_devoxelize(volume, place, batch)
    return read + shared_mlp(state, f"{key}.point_layers", feats, training)


def point_layers(state, key, xyz, batch, feats, blocks, resolution_scale=1.0, **options):
    """The outputs of all layers; blocks are (channels, layers, resolution or None)."""
    outputs, layer = [], 0
    for _, count, resolution in blocks:
        for _ in range(count):
            name = f"{key}.{layer}"
            if resolution is None:
                feats = shared_mlp(state, name, feats, options["training"])
            else:
                side = int(resolution * resolution_scale)
                feats = pv_conv(state, name, xyz, batch, feats, resolution=side, **options)
            outputs.append(feats)
            layer += 1
    return outputs


def cloud_max(feats, batch, batch_size):
    out = np.zeros((batch_size, feats.shape[1]))
    for cloud in range(batch_size):
        if (batch == cloud).any():
            out[cloud] = feats[batch == cloud].max(0)
    return out


def pvcnn(state, xyz, batch, feats, one_hot=None, *, blocks, concat_layers=True, key="", **options):
    outputs = point_layers(state, f"{key}point_layers", xyz, batch, feats, blocks, **options)
    cloud = cloud_max(outputs[-1], batch, options["batch_size"])
    cloud = shared_mlp(state, f"{key}cloud_layers", cloud, options["training"])
    if one_hot is not None:
        cloud = np.concatenate([one_hot, cloud], 1)
    seen = outputs if concat_layers else outputs[-1:]
    return head(state, f"{key}classifier", np.concatenate([*seen, cloud[batch]], 1), options["training"])


def set_abstraction(state, key, xyz, batch, feats, *, batch_size, num_centers, radius, num_neighbors, training):
    """Coordinates, clouds and features of the centres."""
    samples = oracles_clouds.furthest_point_sample(xyz, batch, batch_size, num_centers)
    rows = samples[samples >= 0]
    table = oracles_clouds.ball_query(xyz, batch, xyz[rows], batch[rows], batch_size, radius, num_neighbors)
    table = np.where(table < 0, table[:, :1], table)
    grouped = np.concatenate([xyz[table] - xyz[rows][:, None], feats[table]], 2)
    reduced = shared_mlp(state, f"{key}.mlp", grouped.reshape(-1, grouped.shape[2]), training)
    return xyz[rows], batch[rows], reduced.reshape(*table.shape, -1).max(1)


def global_abstraction(state, key, xyz, batch, feats, *, batch_size, training):
    reduced = shared_mlp(state, f"{key}.mlp", np.concatenate([xyz, feats], 1), training)
    return np.zeros((batch_size, 3)), np.arange(batch_size), cloud_max(reduced, batch, batch_size)


def propagate(state, key, centers, points, *, batch_size, training):
    """``centers`` and ``points`` are (xyz, batch, feats)."""
    (xyz, batch, feats), (to_xyz, to_batch, skip) = centers, points
    read = oracles_clouds.interpolate_three(feats, xyz, batch, to_xyz, to_batch, batch_size)
    return shared_mlp(state, f"{key}.mlp", np.concatenate([read, skip], 1), training)


def pvcnn2(state, xyz, batch, feats, one_hot=None, *, downs, ups, skip_first=3, **options):
    """``downs`` are (blocks, centres or None, radius, neighbours), ``ups`` are blocks."""
    reduce = {name: options[name] for name in ("batch_size", "training")}
    again = feats[:, skip_first:]
    again = again if one_hot is None else np.concatenate([one_hot[batch], again], 1)
    cloud, skips = (xyz, batch, feats), []
    for level, (blocks, num_centers, radius, neighbors) in enumerate(downs):
        skips.append(cloud if level else (xyz, batch, again))
        outputs = point_layers(state, f"down_layers.{level}", *cloud, blocks, **options)
        cloud = (*cloud[:2], outputs[-1] if outputs else cloud[2])
        key = f"abstractions.{level}"
        if num_centers is None:
            cloud = global_abstraction(state, key, *cloud, **reduce)
        else:
            balls = {"num_centers": num_centers, "radius": radius, "num_neighbors": neighbors}
            cloud = set_abstraction(state, key, *cloud, **balls, **reduce)
    for level, blocks in enumerate(ups):
        points = skips.pop()
        cloud = (*points[:2], propagate(state, f"propagations.{level}", cloud, points, **reduce))
        outputs = point_layers(state, f"up_layers.{level}", *cloud, blocks, **options)
        cloud = (*cloud[:2], outputs[-1] if outputs else cloud[2])
    return head(state, "classifier", cloud[2], options["training"])


def frustum_boxes(state, xyz, batch, feats, one_hot, *, object_points, **options):
    """Logits of the mask, first centre, and the 59 numbers of the box whose first three are made the centre."""
    batch_size, training = options["batch_size"], options["training"]
    logits = pvcnn(state, xyz, batch, feats, one_hot, key="segmentation.", **options)
    chosen = [np.flatnonzero((batch == b) & (logits[:, 1] > logits[:, 0])) for b in range(batch_size)]
    mean = np.stack([xyz[rows].mean(0) if len(rows) else np.zeros(3) for rows in chosen])
    rows = np.concatenate([rows[:object_points] for rows in chosen])

    def regress(key, local):
        features = cloud_max(shared_mlp(state, f"{key}.mlp", local, training), batch[rows], batch_size)
        return head(state, f"{key}.head", np.concatenate([features, one_hot], 1), training)

    local = xyz[rows] - mean[batch[rows]]
    delta = regress("center_regressor", local)
    box = regress("box_estimator", local - delta[batch[rows]])
    box[:, :3] += mean + delta
    return logits, mean + delta, box
