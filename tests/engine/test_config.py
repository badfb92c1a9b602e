# SPDX-License-Identifier: Apache-2.0
"""Configs: every key is checked, a misspelt one is named with its nearest neighbour, and they survive a checkpoint."""

import json
import re
from pathlib import Path

import pytest

from pcperc.engine.config import (
    ConfigError,
    check_arguments,
    first_difference,
    load_config,
    plain_config,
    restored_config,
    with_data_root,
)

TOY = Path("tests/engine/toy_config.py")


def write(tmp_path, text: str) -> Path:
    path = tmp_path / "cfg.py"
    path.write_text(f"from mmengine.config import read_base\nfrom tests.engine.toy import ToyModel\n{text}\n")
    return path


def test_toy_config_is_fine():
    cfg = load_config(TOY, {"optim_wrapper.optimizer.lr": 0.5, "model.noise": 0.0})
    assert cfg.optim_wrapper.optimizer.lr == 0.5 and cfg.model.noise == 0
    assert cfg.model.type.__name__ == "ToyModel"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modle = dict(type=ToyModel)", "unknown key 'modle'; did you mean 'model'?; a helper variable starts with"),
        ("log_interval = 10", "unknown key 'log_interval'"),
        ("model = dict(type=ToyModel, widht=3)", "model: ToyModel has no argument 'widht'; did you mean 'width'?"),
        ("model = dict(type='ToyModl')", "cfg.py: model: type 'ToyModl' is not registered; nearest known: ToyModel"),
        ("model = dict(type=3)", "cfg.py: model: 'type' must be a class or a registered name, got 3"),
        (
            "custom_hooks = [dict(type='SafeCheckpointHook', keeep=1)]",
            "custom_hooks[0]: SafeCheckpointHook has no argum",
        ),
        ("train_dataloader = dict(batch_size=0)", "train_dataloader.batch_size must be a whole number >= 1, got 0"),
        (
            "val_dataloader = dict(batch_size=1, num_worker=2)",
            "cfg.py: val_dataloader has no key 'num_worker'; did you mean 'num_workers'?",
        ),
        (
            "test_dataloader = dict(shuffle=True)",
            "test_dataloader has no key 'shuffle' (known: batch_size, collate_fn, ",
        ),
        ("train_dataloader = [1]", "train_dataloader must be a dict, got [1]"),
        ("model = dict(", "SyntaxError"),
        ("model = 1 / 0", "ZeroDivisionError: division by zero"),
        (
            "model = dict(width=3)\nmodle['width'] = 2",
            "name 'modle' is not defined; line {last} of {path}: modle['width'] = 2; did you mean 'model'?",
        ),
        ("with read_base():\n    from .nowhere import model", "nowhere.py not found"),
    ],
)
def test_mistakes(tmp_path, text, message):
    import pcperc.engine.hooks  # noqa: F401  (registers the hook that a case names)

    path = write(tmp_path, text)
    message = message.format(last=len(path.read_text().splitlines()), path=path)
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        load_config(path)
    assert str(error.value).startswith(str(path)), "the file is named first"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("model['haed']['width'] = 2", "KeyError: 'haed'; line 5 of {path}: {line}; did you mean 'head'?"),
        ("model.mrge(dict(width=2))", "no attribute 'mrge'; line 5 of {path}: {line}; did you mean 'merge'?"),
        ("modle['width'] = 2", "name 'modle' is not defined; line 5 of {path}: {line}; did you mean 'model'?"),
        ("x = [1][2]", "IndexError: list index out of range; line 5 of {path}: {line}"),
    ],
)
def test_a_mistake_in_code_behind_a_base_names_line_and_nearest(tmp_path, line, message):
    (tmp_path / "base.py").write_text("model = dict(head=dict(width=3))\n")
    path = tmp_path / "cfg.py"
    path.write_text(
        f"from mmengine.config import read_base\n\nwith read_base():\n    from .base import model\n{line}\n"
    )
    with pytest.raises(ConfigError, match=re.escape(message.format(path=path, line=line)) + "$"):
        load_config(path)


def test_misspelt_import_names_the_nearest(tmp_path):
    path = tmp_path / "cfg.py"
    path.write_text("from pcperc.engine.loop import EpochLop\ntrain_cfg = dict(type=EpochLop, max_epochs=1)\n")
    with pytest.raises(ConfigError, match="there is no 'EpochLop' in pcperc.engine.loop; did you mean 'EpochLoop'?"):
        load_config(path)


def test_missing_file_names_the_nearest():
    message = re.escape("tests/engine/toy_confg.py: no such config file; did you mean tests/engine/toy_config.py?")
    with pytest.raises(ConfigError, match=f"^{message}$"):
        load_config("tests/engine/toy_confg.py")


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("model.widht", "width"),
        ("optim_wraper.lr", "optim_wrapper"),
        ("train_cfg.max_epoch", "max_epochs"),
        ("train_dataloader.pinmemory", "pin_memory"),
    ],
)
def test_override_of_a_key_that_nobody_reads(key, nearest):
    last = re.escape(key.split(".")[0 if key.startswith("optim") else -1])
    with pytest.raises(ConfigError, match=rf"--cfg-options {re.escape(key)}: .* no key '{last}' there; .*'{nearest}'"):
        load_config(TOY, {key: 1})


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("optim_wrapper.optimizer.lr", "fast", "a number, such as 0.01"),
        ("train_cfg.max_epochs", "[1", "a whole number, such as 3"),
        ("train_cfg.max_epochs", 1.5, "a whole number, such as 3"),
        ("train_cfg.max_epochs", True, "a whole number, such as 3"),
        ("model.dropout", "much", "a number, such as 0.2"),  # not in the config: the class's own default tells
        ("optim_wrapper.amp", "maybe", "True or False"),
        ("param_scheduler.1.T_max", "x", "a number, such as 3"),
        ("model", 5, "a dict with type, width"),
    ],
)
def test_override_of_another_kind(key, value, expected):
    message = f"--cfg-options {key}: must be {expected}, got {value!r}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        load_config(TOY, {key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optim_wrapper.clip_grad.max_norm", 0.5),
        ("seed", None),
        ("model.width", [3]),
        ("default_hooks.checkpoint", None),
        ("train_dataloader.pin_memory", True),  # not in the config
    ],
)
def test_override_that_only_looks_different(key, value):
    node = load_config(TOY, {key: value})
    for part in key.split("."):
        node = node[part]
    assert node == value


def test_helpers_and_imports_are_dropped(tmp_path):
    cfg = load_config(write(tmp_path, "_width = 5\nmodel = dict(type=ToyModel, width=_width)"))
    assert list(cfg) == ["model"] and cfg.model.width == 5


def test_a_scheduler_passes_its_arguments_on():
    from mmengine.optim import CosineAnnealingLR

    check_arguments(dict(type=CosineAnnealingLR, T_max=3, eta_min=0.1, convert_to_iter_based=True), where="x")
    with pytest.raises(ConfigError, match="x: CosineAnnealingLR has no argument 'Tmax'; did you mean 'T_max'?"):
        check_arguments(dict(type=CosineAnnealingLR, Tmax=3), where="x")


def test_plain_config_survives_json_and_keeps_tuples():
    plain = json.loads(json.dumps(plain_config(load_config(TOY))))
    assert plain["model"] == {"type": "ToyModel", "width": 8}
    assert plain["train_dataloader"]["collate_fn"] == {"type": "toy_collate"}
    restored = restored_config(plain_config({"shape": (1, (2, 3)), "list": [(4,)], "empty": ()}))
    assert restored == {"shape": (1, (2, 3)), "list": [(4,)], "empty": ()}
    assert type(restored["shape"]) is tuple and type(restored["list"]) is list


def test_first_difference():
    ours = plain_config({"a": {"b": (1, 2), "c": 3}})
    assert first_difference(ours, {"a": {"b": [1, 2], "c": 3}}) is None, "a list equals a tuple"
    assert first_difference(ours, {"a": {"b": [1, 5], "c": 3}}) == "a.b[1]: 2 here, 5 there"
    assert first_difference(ours, {"a": {"b": [1, 2]}}) == "a.c: 3 here, 'absent' there"
    assert first_difference(ours, {"a": {"b": [1], "c": 3}}) == "a.b: [1, 2] here, [1] there"


def test_moving_the_data_moves_every_path():
    cfg = {"data_root": "data/x", "loader": [{"root": "data/x", "db": "data/x/y", "other": "data/xy"}]}
    assert with_data_root(cfg, "data/x", "/new/") == {
        "data_root": "/new",
        "loader": [{"root": "/new", "db": "/new/y", "other": "data/xy"}],
    }
