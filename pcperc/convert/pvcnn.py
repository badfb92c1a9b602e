# SPDX-License-Identifier: Apache-2.0
"""PVCNN, PVCNN++, F-PVCNN and PointNet of mit-han-lab/pvcnn, by the names that their modules have there."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

# Their number of each class of S3DIS in our order: clutter is 0 there, and door stands before window.
S3DIS_ROWS = (1, 2, 3, 4, 5, 7, 6, 8, 9, 10, 11, 12, 0)


def pvcnn_name(key: str) -> str | None:
    """Their name to ours, None for what we keep elsewhere; one that no rule knows stays, and is then left over."""
    parts = key.split(".")
    match parts:
        case ["size_templates"]:
            return None  # pcperc.models.pvcnn.KITTI_SIZE_TEMPLATES
        case ["inst_seg_net", *rest]:
            return f"segmentation.{pvcnn_name('.'.join(rest))}"
        case [("center_reg_net" | "box_est_net") as net, "features", k, "layers", j, leaf]:
            return f"{_REGRESSORS[net]}.mlp.{3 * int(k) + int(j)}.{leaf}"
        case [("center_reg_net" | "box_est_net") as net, ("regression" | "classifier"), *rest]:
            return f"{_REGRESSORS[net]}.head.{'.'.join(rest)}"
        case ["point_features", i, *rest]:
            return f"point_layers.{i}.{_in_layer(rest)}"
        case ["cloud_features", i, leaf]:
            return f"cloud_layers.{i}.{leaf}"
        case ["cloud_features", k, j, leaf]:
            return f"cloud_layers.{3 * int(k) + int(j)}.{leaf}"
        case ["classifier", k, *rest]:
            return f"classifier.{k}.{_in_layer(rest)}"
        case ["sa_layers", i, *rest] if "mlps" in rest:
            return f"abstractions.{i}.mlp.{'.'.join(rest[-2:])}"
        case ["sa_layers", i, j, *rest]:
            return f"down_layers.{i}.{j}.{_in_layer(rest)}"
        case ["fp_layers", i, *rest] if "mlp" in rest:
            return f"propagations.{i}.mlp.{'.'.join(rest[-2:])}"
        case ["fp_layers", i, j, *rest]:
            return f"up_layers.{i}.{int(j) - 1}.{_in_layer(rest)}"
    return key


def pvcnn_values(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Lay the weights out as ours are: linear layers for convolutions of kernel size 1, the first layer of a
    classifier that is told the category, which it gets before the features there and before the cloud's here, and the
    classes of S3DIS, which are numbered otherwise there. A network of 13 classes is taken for one of S3DIS.

    Args:
        state: theirs, without a leading ``module.``.
        model: ours, of which the classifier's inputs are read off.
    """
    told = {prefix: net for prefix, net in (("", model), ("inst_seg_net.", getattr(model, "segmentation", None)))}
    first = {f"{prefix}classifier.0.layers.0.weight": net for prefix, net in told.items() if _is_told(net)}
    values = {}
    for key, value in state.items():
        if isinstance(value, Tensor) and value.ndim > 2 and value.shape[2:].numel() == 1 and key.endswith(".weight"):
            value = value.flatten(1)
        if key in first and isinstance(value, Tensor):
            net = first[key]
            cloud = (net.point_layers[-1] if net.cloud_layers is None else net.cloud_layers).out_channels
            split = [net.num_categories, value.shape[1] - net.num_categories - cloud, cloud]
            if min(split) >= 0:
                categories, of_points, of_cloud = value.split(split, 1)
                value = torch.cat([of_points, categories, of_cloud], 1)
        values[key] = value
    last = _last_of_classifier(values)
    for key in (f"{last}.weight", f"{last}.bias"):
        value = values.get(key)
        if isinstance(value, Tensor) and value.ndim > 0 and len(value) == len(S3DIS_ROWS):
            values[key] = value[list(S3DIS_ROWS)]
    return values


def _last_of_classifier(state: Mapping[str, Tensor]) -> str | None:
    """The name of the layer that gives the classes of points or rooms."""
    numbers = [parts[1] for parts in (key.split(".") for key in state) if parts[0] == "classifier" and len(parts) > 2]
    return max((f"classifier.{k}" for k in numbers if k.isdecimal()), key=lambda name: int(name[11:]), default=None)


def _is_told(net: nn.Module | None) -> bool:
    """True for a PVCNN with categories; the other networks here have no layer of a whole cloud."""
    return getattr(net, "num_categories", 0) > 0 and hasattr(net, "cloud_layers")


def _in_layer(parts: list[str]) -> str:
    """Names inside a PVConv, a SharedMLP or a plain layer."""
    match parts:
        case ["voxel_layers", i, "fc", n, leaf]:
            return f"voxel_layers.{i}.{'squeeze' if n == '0' else 'excite'}.{leaf}"
        case ["point_features", "layers", *rest]:
            return f"point_layers.{'.'.join(rest)}"
        case ["layers", *rest]:
            return ".".join(rest)
    return ".".join(parts)


_REGRESSORS = {"center_reg_net": "center_regressor", "box_est_net": "box_estimator"}
