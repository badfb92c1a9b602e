# SPDX-License-Identifier: Apache-2.0
"""Errors of a call whose arguments do not fit, such as those of another library. Nothing is looked at before one."""

import functools
import inspect
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import torch

from pcperc.foreign_names import ARGUMENTS
from pcperc.ops._checks import describe

Method = TypeVar("Method", bound=Callable)
# What to write instead of a constructor, or a method, that was called as another library's.
NEW_SPARSE = "SparseTensor(coords, feats, batch_size, spatial_shape=..., tensor_stride=...)"
NEW_POINTS = "PointTensor(coords, feats, batch_size)"
DENSE = "x.dense(), of size x.size() and channels first; channels last is x.dense().movedim(1, -1)"
REPLACE = "x.replace(feats=f); other voxels are a new SparseTensor"
REPLACE_OF_POINTS = "x.replace(feats=f); other points are a new PointTensor"


def check_call(called: str, function: Callable, args: Sequence, kwargs: Mapping[str, Any], advice: str) -> None:
    """Require arguments that fit a function, which is bound to its object; ``advice`` may say {arguments}.

    Raises:
        TypeError: begins with ``called``, names the first argument that does not fit, and ends with ``advice``.
    """
    signature = inspect.signature(function)
    try:
        signature.bind_partial(*args, **kwargs)  # what it has not comes before what is missing
        signature.bind(*args, **kwargs)
    except TypeError as error:
        own = inspect.Signature([p.replace(annotation=p.empty) for p in signature.parameters.values()])
        raise TypeError(f"{called}: {error}; {advice.replace('{arguments}', str(own))}") from None


def tells_arguments(write: str) -> Callable[[Method], Method]:
    """Make a method say what to ``write`` where arguments do not fit it; every other error passes as it is."""

    def decorate(method: Method) -> Method:
        @functools.wraps(method)
        def telling(self: object, /, *args: Any, **kwargs: Any) -> Any:
            try:
                return method(self, *args, **kwargs)
            except TypeError:
                if not torch.compiler.is_compiling():  # which follows no signatures
                    bound = method.__get__(self)
                    check_call(_called(self, method.__name__), bound, args, kwargs, _advice(write, args, kwargs))
                raise

        return telling

    return decorate


def refuse_call(x: object, method: str, write: str, args: Sequence, kwargs: Mapping[str, Any]) -> NoReturn:
    """Refuse arguments that a method does not have, one that is called too often to be wrapped."""
    raise TypeError(f"{_called(x, method)}: {_advice(write, args, kwargs)}")


def _called(x: object, method: str) -> str:
    return type(x).__name__ + ("" if method == "__init__" else f".{method}")


def _advice(write: str, args: Sequence, kwargs: Mapping[str, Any]) -> str:
    """Say what was given, what to write, and what the names of other libraries among the given are here."""
    given = ", ".join([*map(_shown, args), *(f"{name}={_shown(value)}" for name, value in kwargs.items())])
    known = [f"{name} is {ARGUMENTS[name]}" for name in kwargs if ARGUMENTS.get(name)]
    idle = [name for name in kwargs if ARGUMENTS.get(name) == ""]
    words = [", ".join(known)] * bool(known) + [f"leave out {', '.join(idle)}"] * bool(idle)
    return f"given ({given}), write {'; '.join([write, *words])} (docs/migrate.md)"


def _shown(value: object) -> str:
    is_plain = value is None or isinstance(value, bool | int | float | str | list | tuple)
    return reprlib.repr(value) if is_plain else describe(value)
