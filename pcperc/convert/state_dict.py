# SPDX-License-Identifier: Apache-2.0
"""All weights of a network that another library trained, under our names and in our layouts."""

import re
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from pcperc.convert.weights import SOURCES, convert_weight
from pcperc.nn.conv_base import SparseConvBase

# What a library calls parameters inside its layers: pattern in the key, and what ours has there.
_NAMES = {
    "spconv1": (),
    "spconv2": (),
    "torchsparse": ((r"(^|\.)kernel$", r"\1weight"),),
    "minkowski": (
        (r"(^|\.)kernel$", r"\1weight"),
        (r"\.(?:bn|linear)\.(weight|bias|running_mean|running_var|num_batches_tracked)$", r".\1"),
    ),
}
_DERIVED = re.compile(r"(^|\.)_max_num_voxels_during_training$")  # spconv 2.3 counts voxels for TensorRT


def convert_state_dict(
    state: Mapping[str, Tensor],
    *,
    source: str,
    model: nn.Module,
    reverse_axes: bool = False,
    rename: Callable[[str], str | None] | None = None,
) -> dict[str, Tensor]:
    """Make of another library's ``state_dict`` one for ``model``, built of ``pcperc.nn`` layers.

    Weights of convolutions are reordered by :func:`convert_weight`, with kernel size and stride of the layer of that
    name; everything else is taken as it is. Parameters that are called otherwise inside a layer get our name
    (``kernel`` of torchsparse and MinkowskiEngine, ``.bn.weight`` of MinkowskiBatchNorm).

    Args:
        state: name to tensor, from a file that was read with ``weights_only=True`` or from safetensors.
        source: one of :data:`SOURCES`.
        model: the network that is to load the result; it is only looked at.
        reverse_axes: see :func:`convert_weight`.
        rename: gives the model's name for a key of ``state``, for networks whose modules are called otherwise; None
            leaves a key out.
    Returns:
        A dict with exactly the keys of ``model.state_dict()``, on the devices and in the dtypes of ``state``.
    Raises:
        TypeError: model is no module, or a value of ``state`` no tensor.
        ValueError: an unknown source; a weight of another shape; keys that are missing, left over or come twice, which
            are named.
    """
    op = "convert_state_dict"
    if source not in SOURCES:
        raise ValueError(f"{op}: source must be one of {', '.join(SOURCES)}, got {source!r}")
    if not isinstance(model, nn.Module):
        raise TypeError(f"{op}: model must be a torch.nn.Module, got {type(model).__name__}")
    convolutions = {
        f"{name}.weight" if name else "weight": module
        for name, module in model.named_modules()
        if isinstance(module, SparseConvBase)
    }
    own = model.state_dict()
    converted: dict[str, Tensor] = {}
    for key, value in state.items():
        name = _our_name(key, source, rename, own)
        if name is None:
            continue
        if not isinstance(value, Tensor):
            raise TypeError(f"{op}: {key} must be a tensor, got {type(value).__name__}")
        if name in converted:
            raise ValueError(f"{op}: two keys of state become {name}, the second is {key}")
        if name in own:
            converted[name] = _convert(key, value, own[name], convolutions.get(name), source, reverse_axes)
        else:
            converted[name] = value
    _check_complete(own, converted)
    return converted


def _our_name(
    key: str, source: str, rename: Callable[[str], str | None] | None, own: Mapping[str, Tensor]
) -> str | None:
    if _DERIVED.search(key):
        return None
    name = rename(key) if rename else key
    if name is None or name in own:
        return name
    for pattern, replacement in _NAMES[source]:
        name = re.sub(pattern, replacement, name)
    return name


def _convert(
    key: str, value: Tensor, own: Tensor, layer: SparseConvBase | None, source: str, reverse_axes: bool
) -> Tensor:
    if layer is not None:
        geometry = {"kernel_size": layer.kernel_size, "stride": layer.stride}
        try:
            value = convert_weight(value, source=source, **geometry, reverse_axes=reverse_axes)
        except ValueError as error:
            raise ValueError(f"convert_state_dict: {key}: {error}") from error
    elif source == "minkowski" and value.shape == (1, *own.shape):  # the bias of a convolution
        value = value.squeeze(0)
    if value.shape != own.shape:
        raise ValueError(
            f"convert_state_dict: {key} must become {tuple(own.shape)} as in the model, got {tuple(value.shape)}"
        )
    return value


def _check_complete(own: Mapping[str, Tensor], converted: Mapping[str, Tensor]) -> None:
    missing = [name for name in own if name not in converted]
    left_over = [name for name in converted if name not in own]
    if missing or left_over:
        raise ValueError(
            f"convert_state_dict: state must have the keys of the model; missing: {_list(missing)}; left over: "
            f"{_list(left_over)}; rename= maps names that differ"
        )


def _list(names: list[str], count: int = 8) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return (", ".join(names[:count]) or "none") + more
