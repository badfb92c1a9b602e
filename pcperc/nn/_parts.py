# SPDX-License-Identifier: Apache-2.0
"""Parameters, buffers and layers of a module without the search of ``nn.Module.__getattr__``, which is Python.

A network asks for some ten of them a block, at 0.4 us each. Where one is not where modules keep it (a parametrized
weight, a norm of None) the attribute is read as usual.
"""

from torch import Tensor, nn


def own_parameter(module: nn.Module, name: str) -> Tensor | None:
    """``module.<name>``."""
    own = module._parameters
    return own[name] if name in own else getattr(module, name)


def own_buffer(module: nn.Module, name: str) -> Tensor | None:
    """``module.<name>``."""
    own = module._buffers
    return own[name] if name in own else getattr(module, name)


def own_layer(module: nn.Module, name: str) -> nn.Module | None:
    """``module.<name>``."""
    own = module._modules
    return own[name] if name in own else getattr(module, name)
