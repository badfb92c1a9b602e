# SPDX-License-Identifier: Apache-2.0
"""Has a network as many classes as its data? Too few fail in some step of the training, too many are never noticed."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pcperc.engine.config import ConfigError
from pcperc.engine.config_check import arguments_of
from pcperc.models.bevfusion import BEVSegmentationHead, CenterHead


def check_class_counts(model: dict, dataset: Any, path: Path) -> None:
    """Compare what a model's config says of the number of classes, by defaults too, with the classes of a data set.

    These are each ``num_classes`` of backbone and heads, the classes of a center head's tasks and of a map head, of a
    network of parts the categories that it and its preprocessor are told, and of a network of frustums these and the
    preprocessor's ``class_templates``. Data sets that do not say their classes (``metainfo["classes"]``, of maps
    ``["map_classes"]``, of parts ``["categories"]`` too) agree with every model.

    Args:
        model: config, with classes or registered names as types.
        path: of the config or checkpoint, for the message.
    Raises:
        ConfigError: they differ, or of a model of parts the parts of each category (``metainfo["parts"]``) do; key and
            both numbers are named.
    """
    meta = getattr(dataset, "metainfo", {})
    if not {"classes", "map_classes", "categories"} & set(meta):
        return
    _check_parts(model, meta, type(dataset).__name__, path)
    for key, count, kind in _counts(model):
        names = meta.get(kind)
        if names is not None and count != len(names):
            whose = f"{type(dataset).__name__} has {len(names)} {kind.replace('_', ' ')}"
            raise ConfigError(f"{path}: {key} must be {len(names)}, {whose} ({', '.join(names)}), got {count}")


def _check_parts(model: dict, meta: dict, whose: str, path: Path) -> None:
    """Compare how many parts a model of parts is told of each category with the part numbers of a data set."""
    told, parts = model.get("parts"), meta.get("parts")
    if told is None or parts is None:
        return
    wanted = tuple(len(numbers) for numbers in parts.values())
    if tuple(told) != wanted:
        each = ", ".join(f"{name} {count}" for name, count in zip(parts, wanted, strict=True))
        raise ConfigError(f"{path}: model.parts must be {wanted}, {whose} has parts of {each}; got {tuple(told)}")


def _counts(model: dict) -> Iterator[tuple[str, int, str]]:
    """Yield the place of each number of classes in a model's config, the number, and of which kind the classes are."""
    yield from _told_categories(model)
    for part in ("backbone", "heads", "network", "data_preprocessor"):
        for where, cls, arguments in _typed(model.get(part), f"model.{part}"):
            if part in ("backbone", "heads") and isinstance(arguments.get("num_classes"), int):
                yield f"{where}.num_classes", arguments["num_classes"], "classes"
            elif part == "network" and arguments.get("num_categories"):  # 0: it is told none
                yield f"{where}.num_categories", arguments["num_categories"], "classes"
            elif part == "data_preprocessor" and "class_templates" in arguments:
                yield f"number of {where}.class_templates", len(arguments["class_templates"]), "classes"
            elif _is(cls, CenterHead):
                tasks = (task if isinstance(task, dict) else vars(task) for task in arguments["tasks"])
                count = sum(len(dict.get(task, "classes", ())) for task in tasks)
                yield f"number of classes of {where}.tasks", count, "classes"
            elif _is(cls, BEVSegmentationHead):
                yield f"number of {where}.classes", len(arguments["classes"]), "map_classes"


def _told_categories(model: dict) -> Iterator[tuple[str, int, str]]:
    """The same of the categories of shapes: of backbone and preprocessor, where one of them is told any."""
    parts = [typed for part in ("backbone", "data_preprocessor") for typed in _typed(model.get(part), f"model.{part}")]
    told = [(where, given["num_categories"]) for where, _, given in parts if "num_categories" in given]
    if any(count for _, count in told):  # one that is told none stops at the first batch of the other
        yield from ((f"{where}.num_categories", count, "categories") for where, count in told)


def _typed(value: Any, where: str) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Yield place, class and arguments, defaults too, of each dict with a ``type`` in a part of a config."""
    if not isinstance(value, dict):
        return
    if "type" in value:
        yield where, *arguments_of(value, where)
    for key, item in dict.items(value):
        yield from _typed(item, f"{where}.{key}")


def _is(cls: Any, kind: type) -> bool:
    return inspect.isclass(cls) and issubclass(cls, kind)
