# SPDX-License-Identifier: Apache-2.0
"""Read a config and check every key in it; turn a config into plain data for a checkpoint and compare two of them."""

import difflib
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.config.lazy import LazyAttr, LazyObject

from pcperc.registry import ALL, resolve_type

# What the tools read; helper variables of a config file start with an underscore.
TOP_KEYS = frozenset(
    """
    model train_dataloader val_dataloader test_dataloader val_evaluator test_evaluator train_cfg val_cfg test_cfg
    optim_wrapper param_scheduler default_hooks custom_hooks find_unused_parameters log_interval seed work_dir
    data_root data_version first_stage profiles load_from simulation description
    """.split()
)
# Keys that MMEngine itself takes out of a dict before its class sees it.
BUILDER_KEYS = frozenset({"type", "_scope_", "priority", "convert_to_iter_based", "constructor", "paramwise_cfg"})


class ConfigError(ValueError):
    """A config cannot be used; the message names file, key and what was expected."""


def load_config(path: str | Path, overrides: dict | None = None) -> Config:
    """Read a pure-Python config and check it without building anything.

    Args:
        path: the .py file.
        overrides: dotted keys and values, ``{"optim_wrapper.optimizer.lr": 1e-4}``; a key must exist already, or be
            an argument of the class whose dict it is in.
    Raises:
        ConfigError: no such file, Python errors in it, a missing import, an unknown key or type.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such config file{_similar_files(path)}")
    try:
        # Nothing in a config may depend on the folder that the tool is called from.
        cfg = Config.fromfile(path, format_python_code=False)
        if overrides and "data_root" in overrides and "data_root" in cfg:
            moved = with_data_root(cfg._cfg_dict, cfg.data_root, str(overrides["data_root"]))
            cfg = Config(moved, filename=str(path), format_python_code=False)
        if overrides:
            cfg.merge_from_dict(_checked_paths(cfg, overrides, path))
        for key in list(cfg):
            value = dict.get(cfg._cfg_dict, key)
            imported = callable(value) or isinstance(value, LazyObject | LazyAttr | ModuleType)
            if key.startswith("_") or (imported and not isinstance(value, dict)):
                dict.pop(cfg._cfg_dict, key)  # ConfigDict.pop would import it
    except ConfigError:
        raise
    except Exception as error:  # a config is code: anything can happen in it
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from error
    _check_top_keys(cfg, path)
    check_arguments(cfg._cfg_dict, where=str(path))
    return cfg


def check_arguments(value: Any, *, where: str) -> None:
    """Check the keys of every dict with a ``type`` in ``value`` against the arguments of that class.

    Raises:
        ConfigError: an unknown key or type; ``where`` and the path of keys to it are named.
    """
    if isinstance(value, dict):
        items = dict.items(value)
        if "type" in value:
            cls = _class_of(dict.get(value, "type"), where)
            known = _arguments(cls)
            for key, _ in items:
                if known is not None and key not in known and key not in BUILDER_KEYS:
                    raise ConfigError(f"{where}: {cls.__name__} has no argument '{key}'{_nearest(key, known)}")
        for key, item in items:
            check_arguments(item, where=f"{where}: {key}" if ".py" in where[-4:] else f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            check_arguments(item, where=f"{where}[{number}]")


def plain_config(value: Any) -> Any:
    """Turn a config into dicts, lists, numbers and strings; a class or function becomes its registered name.

    A tuple becomes ``{"tuple": [...]}``, so that ``restored_config`` gives constructors what the config gave them.
    """
    if isinstance(value, Config):
        value = value._cfg_dict
    if isinstance(value, LazyObject | LazyAttr):
        value = value.build()
    if isinstance(value, dict):
        return {str(key): plain_config(item) for key, item in dict.items(value)}
    if isinstance(value, tuple):
        return {"tuple": [plain_config(item) for item in value]}
    if isinstance(value, list):
        return [plain_config(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if callable(value) and hasattr(value, "__name__"):
        return value.__name__
    raise ConfigError(f"config: cannot be stored in a checkpoint: {value!r} of type {type(value).__name__}")


def restored_config(value: Any) -> Any:
    """Turn what ``plain_config`` gave back into a config; names stay names, nothing is imported."""
    if isinstance(value, dict):
        if set(value) == {"tuple"}:
            return tuple(restored_config(item) for item in value["tuple"])
        return ConfigDict({key: restored_config(item) for key, item in value.items()})
    if isinstance(value, list):
        return [restored_config(item) for item in value]
    return value


def with_data_root(value: Any, old: str, new: str) -> Any:
    """Return the config with every path at or below ``old`` moved to ``new``."""
    if isinstance(value, dict):
        return ConfigDict({key: with_data_root(item, old, new) for key, item in dict.items(value)})
    if isinstance(value, list | tuple):
        return type(value)(with_data_root(item, old, new) for item in value)
    if isinstance(value, str) and (value == old or value.startswith(old.rstrip("/") + "/")):
        return new.rstrip("/") + value[len(old.rstrip("/")) :]
    return value


def first_difference(ours: Any, theirs: Any, *, where: str = "") -> str | None:
    """Name the first place where two plain configs differ and both values, or return None."""
    ours, theirs = _untupled(ours), _untupled(theirs)
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in [*ours, *(k for k in theirs if k not in ours)]:
            place = f"{where}.{key}" if where else key
            if key not in ours or key not in theirs:
                return f"{place}: {_short(ours.get(key, 'absent'))} here, {_short(theirs.get(key, 'absent'))} there"
            if difference := first_difference(ours[key], theirs[key], where=place):
                return difference
        return None
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return next((d for i, (a, b) in pairs if (d := first_difference(a, b, where=f"{where}[{i}]"))), None)
    return None if ours == theirs else f"{where}: {_short(ours)} here, {_short(theirs)} there"


def _untupled(value: Any) -> Any:
    return value["tuple"] if isinstance(value, dict) and set(value) == {"tuple"} else value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _check_top_keys(cfg: Config, path: Path) -> None:
    for key in cfg:
        if key not in TOP_KEYS:
            raise ConfigError(
                f"{path}: unknown key '{key}'{_nearest(key, TOP_KEYS)}; a helper variable starts with an underscore"
            )


def _checked_paths(cfg: Config, overrides: dict, path: Path) -> dict:
    """Refuse an override that would silently add a key where nobody reads it."""
    for dotted in overrides:
        node: Any = cfg._cfg_dict
        for key in dotted.split("."):
            if isinstance(node, list | tuple) and key.isdigit() and int(key) < len(node):
                node = node[int(key)]
                continue
            if not isinstance(node, dict):
                raise ConfigError(f"--cfg-options {dotted}: '{key}' is inside a value that is no dict in {path}")
            known = set(dict.keys(node)) | (TOP_KEYS if node is cfg._cfg_dict else set())
            if "type" in node:
                known |= _arguments(_class_of(dict.get(node, "type"), str(path))) or {key}
            if key not in known:
                raise ConfigError(f"--cfg-options {dotted}: {path} has no key '{key}' there{_nearest(key, known)}")
            node = dict.get(node, key, {})
    return overrides


def _class_of(type_: Any, where: str) -> Any:
    try:
        return resolve_type(type_, ALL[0])
    except ImportError as error:
        raise ConfigError(f"{where}: {_import_advice(type_, error)}") from error
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{where}: {error.args[0]}") from error


def _import_advice(type_: Any, error: ImportError) -> str:
    """Name the nearest existing name in the module that a config imports from in vain."""
    name, module = str(type_), getattr(type_, "module", "")
    try:
        names = dir(__import__(module, fromlist=["*"]))
    except ImportError:
        return str(error)
    return f"there is no '{name}' in {module}{_nearest(name, names)}"


def _arguments(cls: Any) -> set[str] | None:
    """Return the argument names of a class or function, or None where it takes any.

    MMEngine's schedulers pass ``**kwargs`` on to their base classes, so these are followed as long as they do.
    """
    if not inspect.isclass(cls):
        parameters = inspect.signature(cls).parameters.values()
        return None if any(p.kind is p.VAR_KEYWORD for p in parameters) else {p.name for p in parameters}
    names: set[str] = set()
    passes_on = False
    for base in cls.__mro__:
        if base is object:
            return None if passes_on else names
        if "__init__" not in vars(base):
            continue
        parameters = list(inspect.signature(base.__init__).parameters.values())[1:]
        names |= {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        passes_on = any(p.kind is p.VAR_KEYWORD for p in parameters)
        if not passes_on:
            return names
    return names


def _nearest(key: str, known: Any) -> str:
    near = difflib.get_close_matches(key, sorted(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else f" (known: {', '.join(sorted(known))})"


def _similar_files(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path(".")
    near = difflib.get_close_matches(path.name, [p.name for p in folder.glob("*.py")], n=1)
    return f"; did you mean {folder / near[0]}?" if near else ""
