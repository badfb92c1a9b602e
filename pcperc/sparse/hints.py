# SPDX-License-Identifier: Apache-2.0
"""Errors that lead on who writes for another library's tensor, or hands a sparse tensor to torch."""

import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import torch
from torch import nn

from pcperc.foreign_names import layer_for


class _Foreign:
    """An attribute that another library's tensor has. Unlike ``__getattr__`` it costs other attributes no time."""

    def __init__(self, name: str, answer: str):
        self.name, self.answer = name, answer

    def __get__(self, x: object, kind: type) -> NoReturn:
        called = f"{kind.__name__}.{self.name}"
        raise AttributeError(f"{called}: no such attribute; write {self.answer} (docs/migrate.md)")

    def __set__(self, x: object, value: object) -> NoReturn:
        called = f"{type(x).__name__}.{self.name}"
        advice = "features change by x = x.replace(feats=f), voxels never"
        raise AttributeError(f"{called}: cannot be set; {advice} (docs/migrate.md)")


class _Dim:
    """``dim``, which torch's norms look at before they call a function."""

    def __get__(self, x: object, kind: type) -> NoReturn:
        called, advice = _where("dim")
        raise AttributeError(f"{called}: input must be a tensor, got a {kind.__name__}; {advice}")


class Hints:
    """Mixed into ``SparseTensor`` and ``PointTensor``; ``foreign`` says what to write for which attribute."""

    dim = _Dim()

    def __init_subclass__(cls, *, foreign: Mapping[str, str] | None = None, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        for name, answer in (foreign or {}).items():
            setattr(cls, name, _Foreign(name, answer))

    def __dir__(self) -> list[str]:
        """Names that exist: what completes them needs no others."""
        kinds = {name: inspect.getattr_static(self, name, None) for name in super().__dir__()}
        return [name for name, value in kinds.items() if not isinstance(value, _Foreign | _Dim)]

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> NoReturn:
        called, advice = _where(func.__name__)
        raise TypeError(f"{called}: input must be a tensor, got a {cls.__name__}; {advice}")


def _where(function: str) -> tuple[str, str]:
    """Name the layer of torch that got such a tensor, or else the function, and what to do instead."""
    on_feats = "give it x.feats, and put features back by x.replace(feats=...)"
    if torch.compiler.is_compiling():  # which follows no frames
        return function, on_feats
    running = _running_layers()
    layer, parent = next(running, None), next(running, None)
    if not type(layer).__module__.startswith("torch.nn."):
        return function, on_feats
    name, children = type(layer).__name__, [] if parent is None else parent.named_children()
    places = [f" (layer {place} of {type(parent).__name__})" for place, child in children if child is layer]
    return f"torch.nn.{name}{''.join(places)}", f"use {layer_for(name) or 'x.feats'}"


def _running_layers() -> Iterator[nn.Module]:
    """Modules whose forward is running, the innermost first."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "forward" and frame.f_code.co_argcount:
            layer = frame.f_locals.get(frame.f_code.co_varnames[0])
            if isinstance(layer, nn.Module):
                yield layer
        frame = frame.f_back
