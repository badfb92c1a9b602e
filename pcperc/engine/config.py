# SPDX-License-Identifier: Apache-2.0
"""Read a config; turn a config into plain data for a checkpoint and compare two of them."""

import difflib
import linecache
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.config.lazy import LazyAttr, LazyObject

from pcperc.engine.config_check import (
    ConfigError,
    check_arguments,
    check_loaders,
    check_top_keys,
    checked_overrides,
)


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
            cfg.merge_from_dict(checked_overrides(cfg, overrides, path))
        for key in list(cfg):
            value = dict.get(cfg._cfg_dict, key)
            imported = callable(value) or isinstance(value, LazyObject | LazyAttr | ModuleType)
            if key.startswith("_") or (imported and not isinstance(value, dict)):
                dict.pop(cfg._cfg_dict, key)  # ConfigDict.pop would import it
    except ConfigError:
        raise
    except Exception as error:  # a config is code: anything can happen in it
        raise ConfigError(f"{path}: {type(error).__name__}: {error}{_place_and_nearest(error)}") from error
    check_top_keys(cfg, path)
    check_loaders(cfg, path)
    check_arguments(cfg._cfg_dict, where=str(path))
    return cfg


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


def _place_and_nearest(error: Exception) -> str:
    """Return the line of a config that raised, and the name that it may have meant, as far as they can be told."""
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    of_modules = [(frame, line) for frame, line in frames if frame.f_code.co_name == "<module>"]
    said = ""
    if of_modules:
        frame, line = of_modules[-1]
        text = linecache.getline(frame.f_code.co_filename, line).strip()
        said = f"; line {line} of {frame.f_code.co_filename}: {text}" if text else ""
    known: list[str] = []
    if isinstance(error, NameError) and of_modules:
        known = list(of_modules[-1][0].f_globals)
    elif isinstance(error, AttributeError) and error.obj is not None:
        known = [*dir(error.obj), *(dict.keys(error.obj) if isinstance(error.obj, dict) else ())]
    elif isinstance(error, KeyError):  # of the dict that was asked, whose method is the innermost frame
        asked = frames[-1][0].f_locals.get("self")
        known = list(dict.keys(asked)) if isinstance(asked, dict) else []
    wanted = getattr(error, "name", None) or (error.args[0] if error.args else "")
    near = difflib.get_close_matches(str(wanted), [str(name) for name in known], n=1)
    return f"{said}; did you mean '{near[0]}'?" if near else said


def _similar_files(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path(".")
    near = difflib.get_close_matches(path.name, [p.name for p in folder.glob("*.py")], n=1)
    return f"; did you mean {folder / near[0]}?" if near else ""
