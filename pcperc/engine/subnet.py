# SPDX-License-Identifier: Apache-2.0
"""The subnet that tools/search.py found, in a config that fine-tunes it."""

from pathlib import Path

from pcperc.engine.config import ConfigError, load_config
from pcperc.models.spvnas import Subnet

# Arguments of SPVCNN that a subnet decides; a config with the key ``subnet`` fits a checkpoint whatever they are.
SUBNET_ARGUMENTS = ("widths", "transitions", "inner_widths", "project_first")


def read_subnet(path: str | Path) -> Subnet:
    """Read a subnet's JSON.

    Raises:
        ConfigError: no such file, or it holds something else; the message names it.
    """
    try:
        return Subnet.from_json(Path(path).read_text())
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(f"--subnet {path}: must be a file that tools/search.py wrote ({error})") from error


def subnet_overrides(path: str | Path, config: str | Path) -> dict:
    """Return what ``load_config`` must override so that the backbone of ``config`` becomes the subnet.

    Raises:
        ConfigError: as of `read_subnet`, or the config has no key ``subnet``.
    """
    if "subnet" not in load_config(config):
        raise ConfigError(f"--subnet: {config} must have the key 'subnet', as configs/spvnas/spvnas_subnet.py has")
    return {f"model.backbone.{key}": value for key, value in read_subnet(path).options.items()}


def without_subnet(model: dict) -> dict:
    """Return a plain config of a model without what its subnet decides."""
    backbone = {key: value for key, value in model.get("backbone", {}).items() if key not in SUBNET_ARGUMENTS}
    return {**model, "backbone": backbone}
