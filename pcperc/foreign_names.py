# SPDX-License-Identifier: Apache-2.0
"""What spconv, torchsparse, MinkowskiEngine, mit-han-lab/pvcnn and torch call otherwise; see docs/migrate.md."""

import re
import sys
from typing import NoReturn

from torch.nn.modules import activation

# Attributes of their tensors, and what to write on a tensor x of ours.
ATTRIBUTES_OF_ROWS = {
    **dict.fromkeys(("features", "F"), "x.feats"),
    **dict.fromkeys(("indices", "coordinates", "C"), "x.coords"),
    "replace_feature": "x.replace(feats=f)",
}
ATTRIBUTES = {
    **ATTRIBUTES_OF_ROWS,
    **dict.fromkeys(("stride", "s"), "x.tensor_stride"),
    **dict.fromkeys(("dimension", "D"), "x.dims"),
    **dict.fromkeys(("to_dense", "todense"), "x.dense()"),
    **dict.fromkeys(("indice_dict", "coordinate_manager", "kmaps"), "x.kernel_maps"),
    **dict.fromkeys(("decomposed_features", "decomposed_coordinates"), "x.unbind(), a sparse tensor for each cloud"),
    "coordinate_map_key": "x.topology",
    "shape": "x.size(), the shape of x.dense(), or x.feats.shape",
    "spatial_range": "x.batch_size and x.spatial_shape",
}

# Arguments of their tensors, and what they are here; "" is nothing that is needed.
ARGUMENTS = {
    **dict.fromkeys(("features", "F"), "feats"),
    **dict.fromkeys(("indices", "coordinates", "C"), "coords"),
    **dict.fromkeys(("stride", "s"), "tensor_stride"),
    "spatial_range": "(batch_size, *spatial_shape)",
    **dict.fromkeys(("coordinate_manager", "coordinate_map_key"), "y.replace(feats=f), on the voxels of a tensor y"),
    "quantization_mode": "pcperc.nn.point_to_voxel of a PointTensor",
    "device": "SparseTensor(...).to(device)",
    "requires_grad": "SparseTensor(...).requires_grad_()",
    **dict.fromkeys("grid voxel_num indice_dict benchmark permanent_thrust_allocator enable_timer".split(), ""),
    **dict.fromkeys("force_algo allocator_type minkowski_algorithm cache idx_query weights".split(), ""),
}

# Layers that bear torch's name in pcperc.nn.
OF_THE_SAME_NAME = frozenset(
    "ELU GELU SELU Dropout Hardswish LeakyReLU Linear LogSoftmax Mish PReLU ReLU ReLU6 Sigmoid SiLU Softmax Softplus "
    "Tanh GroupNorm LayerNorm SyncBatchNorm".split()
)
# Other layers, without Minkowski or Sparse in front and 3d behind; {axes} is what stood behind.
_CONV = "pcperc.nn.SubMConv{axes}, or pcperc.nn.SparseConv{axes} where the voxels change"
_TRANSPOSED = "pcperc.nn.SparseInverseConv{axes} back to earlier voxels, or pcperc.nn.SparseConvTranspose{axes}"
LAYERS = {
    **{name: f"torch.nn.{name}" for name in ("Sequential", "Module", "ModuleList", "Identity")},
    "Network": "torch.nn.Module",
    **dict.fromkeys(("Conv", "Convolution"), _CONV),
    **dict.fromkeys(("ConvTranspose", "ConvolutionTranspose"), _TRANSPOSED),
    "GenerativeConvolutionTranspose": "pcperc.nn.SparseGenerativeConvTranspose{axes}",
    "ChannelwiseConvolution": "pcperc.nn.SubMConv{axes} with groups=in_channels",
    **dict.fromkeys(("BatchNorm", "InstanceNorm"), "pcperc.nn.{stem}"),
    **dict.fromkeys(("MaxPool", "MaxPooling"), "pcperc.nn.SparseMaxPool{axes}"),
    **dict.fromkeys(("AvgPool", "AvgPooling"), "pcperc.nn.SparseAvgPool{axes}"),
    "SumPooling": "pcperc.nn.SparseSumPool{axes}",
    **dict.fromkeys(("PoolingTranspose", "Upsample"), "pcperc.nn.SparseUnpool{axes}"),
    **dict.fromkeys(("GlobalMaxPool", "GlobalMaxPooling", "AdaptiveMaxPool"), 'pcperc.nn.GlobalPool("max")'),
    **dict.fromkeys(("GlobalAvgPool", "GlobalAvgPooling", "AdaptiveAvgPool"), 'pcperc.nn.GlobalPool("mean")'),
    "GlobalSumPooling": 'pcperc.nn.GlobalPool("sum")',
    "AddTable": "x + y",
    "JoinTable": "pcperc.cat([x, y])",
    "Union": "pcperc.union([x, y])",
    "Pruning": "pcperc.prune(x, mask)",
    "Interpolation": "pcperc.nn.Interpolate",
    **dict.fromkeys(("ToDense", "ToDenseTensor"), "x.dense()"),
    "ToSparseTensor": "pcperc.SparseTensor.from_dense(grid)",
    **dict.fromkeys(("ConvTensor", "Tensor"), "pcperc.SparseTensor(coords, feats, batch_size, spatial_shape=...)"),
    "PointNetSAModule": "pcperc.nn.SetAbstraction, or pcperc.nn.GlobalAbstraction where all points are one group",
    "PointNetFPModule": "pcperc.nn.FeaturePropagation",
    "PointToVoxel": "pcperc.ops.voxelize_mean or pcperc.ops.voxelize_hard",
}
_NAME = re.compile(r"(?:Minkowski|Sparse)?(?P<stem>.*?)(?P<axes>[1-4]d)?")


def layer_for(name: str) -> str | None:
    """Say what to use for a layer of another library or of torch; None where the name is none that is known."""
    stem, axes = _NAME.fullmatch(name).group("stem", "axes")
    if stem in LAYERS:
        return LAYERS[stem].format(stem=stem, axes=axes or "3d")
    if stem in OF_THE_SAME_NAME:
        return f"pcperc.nn.{stem}"
    if name.removeprefix("Minkowski") in _ROWWISE_OF_TORCH:
        name = name.removeprefix("Minkowski")
        return f"torch.nn.{name} on x.feats, as a layer: class {name}(pcperc.nn.OnFeats, torch.nn.{name}): pass"
    return None


def lead_on(module: str, name: str, answer: str, *, kind: str) -> NoReturn:
    """Refuse a name of a module, from the module's ``__getattr__``, and say what to use.

    Raises:
        AttributeError; ImportError in ``from module import name``, where Python forgets the former and what it said.
    """
    is_import = sys._getframe(2).f_code.co_name == "_handle_fromlist"
    error = ImportError if is_import else AttributeError
    raise error(f"{module}.{name}: no such {kind}; use {answer} (docs/migrate.md)")


# Layers of torch that treat every row alone.
_ROWWISE_OF_TORCH = {*activation.__all__, "AlphaDropout"} - {"MultiheadAttention"}
