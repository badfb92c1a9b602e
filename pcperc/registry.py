# SPDX-License-Identifier: Apache-2.0
"""Registries of everything that a config can name, as children of MMEngine's.

``REGISTRY.build(cfg)`` builds a dict with a ``type`` and, first, every such dict nested inside it, so that a
constructor receives built parts and plain values, never a config. A ``type`` is a class, or the name of a registered
one; a name is only ever looked up, never imported, so that the config inside a checkpoint cannot run code.
"""

import difflib
import inspect
from typing import Any

from mmengine import registry as mmengine_registry
from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.registry import Registry


def build_parts(cfg: dict, registry: Registry, default_args: dict | None = None) -> Any:
    """Build ``cfg`` and the parts nested in it, innermost first.

    Args:
        cfg: a dict with the key ``type`` (a class or a registered name); the other keys are constructor arguments.
        registry: where a name is looked up first; then in all of pcperc's registries and in their MMEngine parents.
        default_args: constructor arguments that ``cfg`` may override.
    Raises:
        TypeError: ``cfg`` is no dict, a key is not an argument of the class, a required one is missing, or a value is
            of a type that the class cannot work with.
        KeyError: no ``type``, or an unknown name; the message lists the nearest known ones.
    """
    if not isinstance(cfg, dict):
        raise TypeError(f"{registry.name}: config must be a dict with the key 'type', got {type(cfg).__name__}")
    arguments = {**(default_args or {}), **dict(cfg.items())}
    if "type" not in arguments:
        raise KeyError(f"{registry.name}: config needs the key 'type', got the keys {sorted(arguments)}")
    cls = resolve_type(arguments.pop("type"), registry)
    built = {key: _build_nested(value, registry) for key, value in arguments.items()}
    check_arguments(cls, built)
    try:
        return cls(**built)
    except TypeError as error:
        name = getattr(cls, "__name__", str(cls))
        if str(error).startswith(name):
            raise
        # A string for a number, say: Python's own message does not tell whose it is.
        raise TypeError(f"{name}: a value in its config is of the wrong type: {error}") from error


def resolve_type(type_: Any, registry: Registry) -> Any:
    """Return the class or function that ``type_`` (class, lazy import or registered name) stands for."""
    if isinstance(type_, LazyObject | LazyAttr):
        type_ = type_.build()
    if not isinstance(type_, str):
        if not callable(type_):
            raise TypeError(f"{registry.name}: 'type' must be a class or a registered name, got {type_!r}")
        return type_
    name = type_.rpartition(".")[2]
    known: dict[str, Any] = {}
    for candidate in (registry, *ALL):
        while candidate is not None:
            known = {**candidate.module_dict, **known}
            candidate = candidate.parent
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or sorted(registry.module_dict)
        raise KeyError(f"{registry.name}: type '{type_}' is not registered; nearest known: {', '.join(near) or 'none'}")
    return known[name]


def check_arguments(cls: Any, arguments: dict) -> None:
    """Raise TypeError naming the class where a key is unknown or a required argument is missing."""
    parameters = inspect.signature(cls).parameters
    name = getattr(cls, "__name__", str(cls))
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for key in arguments:
            if key not in parameters:
                near = difflib.get_close_matches(key, parameters, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                raise TypeError(f"{name}: unknown key '{key}'{hint} (known: {', '.join(parameters)})")
    for key, parameter in parameters.items():
        required = parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_KEYWORD,
            parameter.VAR_POSITIONAL,
        )
        if required and key not in arguments:
            raise TypeError(f"{name}: key '{key}' is required but missing (given: {', '.join(arguments) or 'none'})")


def _build_nested(value: Any, registry: Registry) -> Any:
    """Build every dict with a ``type`` inside ``value``; containers keep their kind."""
    if isinstance(value, LazyObject | LazyAttr):
        return value.build()
    if isinstance(value, dict):
        if "type" in value:
            return build_parts(value, registry)
        return {key: _build_nested(item, registry) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_build_nested(item, registry) for item in value)
    return value


def _child(name: str, parent: Registry) -> Registry:
    return Registry(name, parent=parent, scope="pcperc", build_func=build_parts)


MODELS = _child("model", mmengine_registry.MODELS)
DATASETS = _child("dataset", mmengine_registry.DATASETS)
DATA_SAMPLERS = _child("data sampler", mmengine_registry.DATA_SAMPLERS)
TRANSFORMS = _child("transform", mmengine_registry.TRANSFORMS)
METRICS = _child("metric", mmengine_registry.METRICS)
HOOKS = _child("hook", mmengine_registry.HOOKS)

ALL = (MODELS, DATASETS, DATA_SAMPLERS, TRANSFORMS, METRICS, HOOKS)
