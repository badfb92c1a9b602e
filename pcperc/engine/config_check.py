# SPDX-License-Identifier: Apache-2.0
"""Is every key of a config, and of an override on the command line, one that somebody reads?"""

import difflib
import inspect
from pathlib import Path
from typing import Any

from mmengine.config import Config

from pcperc.registry import ALL, resolve_type

# What the tools read; helper variables of a config file start with an underscore.
TOP_KEYS = frozenset(
    """
    model train_dataloader val_dataloader test_dataloader val_evaluator test_evaluator train_cfg val_cfg test_cfg
    optim_wrapper param_scheduler default_hooks custom_hooks find_unused_parameters seed work_dir
    data_root data_version first_stage profiles load_from simulation subnet
    """.split()
)
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
LOADER_KEYS = frozenset(
    "dataset sampler batch_size drop_last num_workers persistent_workers pin_memory prefetch_factor collate_fn".split()
)
# Keys that MMEngine itself takes out of a dict before its class sees it.
BUILDER_KEYS = frozenset({"type", "_scope_", "priority", "convert_to_iter_based", "constructor", "paramwise_cfg"})


class ConfigError(ValueError):
    """A config cannot be used; the message names file, key and what was expected."""


def check_top_keys(cfg: Config, path: Path) -> None:
    """Raise ConfigError where a key of the config itself is unknown."""
    for key in cfg:
        if key not in TOP_KEYS:
            raise ConfigError(
                f"{path}: unknown key '{key}'{nearest(key, TOP_KEYS)}; a helper variable starts with an underscore"
            )


def check_loaders(cfg: Config, path: Path) -> None:
    """Raise ConfigError where a loader has a key that nobody reads, or is to make batches of no sample."""
    for key in LOADERS:
        loader = cfg.get(key) or {}
        if not isinstance(loader, dict):
            raise ConfigError(f"{path}: {key} must be a dict, got {loader!r}")
        for name in loader:
            if name not in LOADER_KEYS:
                raise ConfigError(f"{path}: {key} has no key '{name}'{nearest(name, LOADER_KEYS)}")
        size = loader.get("batch_size", 1)
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ConfigError(f"{path}: {key}.batch_size must be a whole number >= 1, got {size!r}")


def check_arguments(value: Any, *, where: str) -> None:
    """Check the keys of every dict with a ``type`` in ``value`` against the arguments of that class.

    Raises:
        ConfigError: an unknown key or type; ``where`` and the path of keys to it are named.
    """
    if isinstance(value, dict):
        items = dict.items(value)
        if "type" in value:
            cls = _class_of(dict.get(value, "type"), where)
            known = _parameters(cls)
            for key, _ in items:
                if known is not None and key not in known and key not in BUILDER_KEYS:
                    raise ConfigError(f"{where}: {cls.__name__} has no argument '{key}'{nearest(key, known)}")
        for key, item in items:
            check_arguments(item, where=f"{where}: {key}" if ".py" in where[-4:] else f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            check_arguments(item, where=f"{where}[{number}]")


def checked_overrides(cfg: Config, overrides: dict, path: Path) -> dict:
    """Return the overrides if each names a key that somebody reads and has a value of the kind that stands there.

    Raises:
        ConfigError: an unknown key, or, say, text for a number; key, value and what was expected are named.
    """
    for dotted, value in overrides.items():
        node: Any = cfg._cfg_dict
        parameter = None
        for key in dotted.split("."):
            parameter = None
            if isinstance(node, list | tuple) and key.isdigit() and int(key) < len(node):
                node = node[int(key)]
                continue
            if not isinstance(node, dict):
                raise ConfigError(f"--cfg-options {dotted}: '{key}' is inside a value that is no dict in {path}")
            known = set(dict.keys(node)) | (TOP_KEYS if node is cfg._cfg_dict else set())
            known |= LOADER_KEYS if any(node is dict.get(cfg._cfg_dict, loader) for loader in LOADERS) else set()
            if "type" in node:
                parameters = _parameters(_class_of(dict.get(node, "type"), str(path)))
                known |= {key} if parameters is None else parameters.keys()
                parameter = (parameters or {}).get(key)
            if key not in known:
                raise ConfigError(f"--cfg-options {dotted}: {path} has no key '{key}' there{nearest(key, known)}")
            node = dict.get(node, key, {} if parameter is None else parameter.default)
        expected = _expected_instead(value, node, parameter)
        if expected:
            raise ConfigError(f"--cfg-options {dotted}: must be {expected}, got {value!r}")
    return overrides


def _expected_instead(value: Any, present: Any, parameter: inspect.Parameter | None) -> str | None:
    """Say of which kind ``value`` must be to stand for ``present``, or return None where it fits or nobody knows."""
    if value is None or present is None or present is inspect.Parameter.empty:
        return None
    if isinstance(present, bool):
        return None if isinstance(value, bool) else "True or False"
    if isinstance(present, int | float):
        whole = parameter is not None and parameter.annotation in (int, "int")
        fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        # A class that takes one number for all axes often takes one for each too, and says so itself if not.
        return None if fits or isinstance(value, list | tuple) else f"a {'whole ' * whole}number, such as {present}"
    if isinstance(present, str):
        return None if isinstance(value, str | Path) else f"text, such as '{present}'"
    if isinstance(present, list | tuple):
        fits = isinstance(value, list | tuple | int | float)
        return None if fits else f"a list, such as {list(present)}"
    if isinstance(present, dict) and present:
        return None if isinstance(value, dict) else f"a dict with {', '.join(map(str, dict.keys(present)))}"
    return None


def _class_of(type_: Any, where: str) -> Any:
    try:
        return resolve_type(type_, ALL[0])
    except ImportError as error:
        raise ConfigError(f"{where}: {_import_advice(type_, error)}") from error
    except (KeyError, TypeError) as error:
        known_by = f"{ALL[0].name}: "  # the registry in which it was looked up first, whatever it is
        raise ConfigError(f"{where}: {error.args[0].removeprefix(known_by)}") from error


def _import_advice(type_: Any, error: ImportError) -> str:
    """Name the nearest existing name in the module that a config imports from in vain."""
    name, module = str(type_), getattr(type_, "module", "")
    try:
        names = dir(__import__(module, fromlist=["*"]))
    except ImportError:
        return str(error)
    return f"there is no '{name}' in {module}{nearest(name, names)}"


def _parameters(cls: Any) -> dict[str, inspect.Parameter] | None:
    """Return the arguments of a class or function by name, or None where it takes any.

    MMEngine's schedulers pass ``**kwargs`` on to their base classes, so these are followed as long as they do.
    """
    if not inspect.isclass(cls):
        parameters = inspect.signature(cls).parameters
        return None if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) else dict(parameters)
    found: dict[str, inspect.Parameter] = {}
    passes_on = False
    for base in cls.__mro__:
        if base is object:
            return None if passes_on else found
        if "__init__" not in vars(base):
            continue
        parameters = list(inspect.signature(base.__init__).parameters.values())[1:]
        named = {p.name: p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        found = {**named, **found}  # a class's own words count before those of its bases
        passes_on = any(p.kind is p.VAR_KEYWORD for p in parameters)
        if not passes_on:
            return found
    return found


def arguments_of(entry: dict, where: str) -> tuple[Any, dict[str, Any]]:
    """Return the class that an entry of a config is of, and its arguments by name with the defaults of those not given.

    Raises:
        ConfigError: an unknown type; ``where`` is named.
    """
    cls = _class_of(dict.get(entry, "type"), where)
    parameters = (_parameters(cls) or {}).values()
    defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    return cls, defaults | {key: entry[key] for key in dict.keys(entry) if key != "type"}  # imports are resolved so


def nearest(key: str, known: Any) -> str:
    """Name the known key that is spelt most alike, or all of them."""
    near = difflib.get_close_matches(key, sorted(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else f" (known: {', '.join(sorted(known))})"
