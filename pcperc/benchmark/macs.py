# SPDX-License-Identifier: Apache-2.0
"""Parameters and multiply-adds of any model, layer by layer, counted while it runs on real input."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, register_flop_formula

import pcperc.ops  # noqa: F401  (registers the operators)


@dataclass(frozen=True)
class LayerCost:
    """What one module does by itself, its children left out."""

    name: str  # as in the state_dict, "" for the model itself
    kind: str  # name of its class
    parameters: int
    pairs: int  # entries of the kernel maps, summed over calls; 0 for a dense layer
    macs: int


@dataclass(frozen=True)
class ModelCost:
    """What a model does on one input. ``macs`` and ``pairs`` are the sums over ``layers``, which are those with any."""

    parameters: int
    macs: int
    layers: tuple[LayerCost, ...]


def count_macs(model: nn.Module, *args, **kwargs) -> ModelCost:
    """Call the model once, in eval mode and without gradients, and count.

    A sparse convolution is counted by the pairs that its kernel map really has on this input, times input channels of a
    group, times output channels; a dense layer, matrix product or attention by torch's own formulas. One multiply-add
    counts 1, half of what torch counts. Norms, activations, pooling, interpolation and scattering are no products of
    matrices and count 0, as in published figures. The pairs of a batch are those of its items.

    Args:
        model: any module; those of pcperc on CPU and GPU, fused or not.
        *args, **kwargs: what ``model(...)`` takes.
    Returns:
        Layers in the order of their first call. One that is called through another module than the model's own, such
        as a subnet of SPVNAS, has the name that it has there.
    Raises:
        TypeError: no module. What the model raises.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"count_macs: model must be a torch.nn.Module, got {type(model).__name__}")
    counter = _Counter({module: name for name, module in model.named_modules()})
    with _in_eval_mode(model), torch.no_grad(), counter.watching_modules(), counter:
        model(*args, **kwargs)
    layers = tuple(
        LayerCost(
            counter.names[module],
            type(module).__name__,
            count_parameters(module, recurse=False),
            counts.pairs,
            counts.flop // 2,
        )
        for module, counts in counter.counts.items()
    )
    return ModelCost(count_parameters(model), sum(layer.macs for layer in layers), layers)


def count_parameters(module: nn.Module, *, recurse: bool = True) -> int:
    """Return how many numbers the parameters have; a shared one counts once."""
    return sum(math.prod(parameter.shape) for parameter in module.parameters(recurse))


@dataclass
class _Counts:
    flop: int = 0
    pairs: int = 0


@dataclass
class _Counter(TorchDispatchMode):
    """Sees every operator that runs and gives its cost to the innermost module that is running."""

    names: dict[nn.Module, str]
    counts: dict[nn.Module, _Counts] = field(default_factory=dict)
    _running: list[nn.Module] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    @contextmanager
    def watching_modules(self) -> Iterator[None]:
        with ExitStack() as stack:
            stack.callback(nn.modules.module.register_module_forward_pre_hook(self._enter).remove)
            stack.callback(nn.modules.module.register_module_forward_hook(self._leave).remove)
            stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
            torch.backends.mha.set_fastpath_enabled(False)  # one operator of which torch has no formula
            yield

    def _enter(self, module: nn.Module, args: tuple) -> None:
        if module not in self.names:  # the root of another tree, such as the network that a subnet is computed by
            self.names |= {child: name for name, child in module.named_modules() if child not in self.names}
        self._running.append(module)

    def _leave(self, module: nn.Module, args: tuple, output: object) -> None:
        self._running.pop()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        packet = func._overloadpacket
        if packet not in flop_registry:
            with self:  # linear or einsum, say, is made of products
                out = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if out is NotImplemented else out
        out = func(*args, **kwargs)
        counts = self.counts.setdefault(self._running[-1], _Counts())
        counts.flop += flop_registry[packet](*args, **kwargs, out_val=out)
        if packet in _SPARSE:
            counts.pairs += _num_pairs(*args[:3])
        return out


@contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _num_pairs(feats: Tensor, weight: Tensor, neighbors: Tensor) -> int:
    return int(((neighbors >= 0) & (neighbors < len(feats))).sum())


def _sparse_conv_flop(feats: Tensor, weight: Tensor, neighbors: Tensor, *others, **options) -> int:
    return 2 * _num_pairs(feats, weight, neighbors) * math.prod(weight.shape[1:])


_SPARSE = (torch.ops.pcperc.sparse_conv, torch.ops.pcperc.sparse_conv_fused)
# With these torch's own FlopCounterMode counts our layers too.
register_flop_formula(_SPARSE, get_raw=True)(_sparse_conv_flop)
_aten = torch.ops.aten
flop_registry[_aten.addmm_] = flop_registry[_aten.addmm]
flop_registry[_aten._scaled_dot_product_flash_attention_for_cpu] = flop_registry[
    _aten._scaled_dot_product_flash_attention
]
