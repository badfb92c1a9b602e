# SPDX-License-Identifier: Apache-2.0
"""Recipes made of the toy config; networks of parts, rooms and frustums, each trained once for all files here."""

from pathlib import Path

import pytest

from pcperc.simulation import rooms, shapes
from pcperc.simulation.data_set import simulate
from tests import kitti_root
from tests.engine.cloud_configs import FRUSTUMS, PARTS, ROOMS, trained_on
from tests.engine.helpers import TOY

RECIPE = """
from mmengine.config import read_base
with read_base():
    from {base} import *
{text}
"""


@pytest.fixture
def configs(tmp_path):
    """A folder with the toy config as stage.py, and recipes made of it."""
    (tmp_path / "stage.py").write_text(Path(TOY).read_text())

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(RECIPE.format(base=".stage", text="train_cfg.merge(dict(max_epochs=1))\n" + text))
        return path

    return write


@pytest.fixture(scope="session")
def parts(tmp_path_factory):
    """The folder of simulated shapes, a config of parts and its checkpoint."""
    root = tmp_path_factory.mktemp("shapes") / "root"
    simulate(root, shapes.Settings(48, "tiny", 0))
    return root, *trained_on(root, tmp_path_factory.mktemp("parts"), PARTS)


@pytest.fixture(scope="session")
def blocks(tmp_path_factory):
    """The folder of simulated rooms, a config of their blocks and its checkpoint."""
    root = tmp_path_factory.mktemp("rooms") / "root"
    simulate(root, rooms.Settings(6, "tiny", 0))
    return root, *trained_on(root, tmp_path_factory.mktemp("blocks"), ROOMS)


@pytest.fixture(scope="session")
def frustums(tmp_path_factory):
    """The folder of frames, a config of their frustums and its checkpoint."""
    root = kitti_root.write_root(tmp_path_factory.mktemp("frames"))
    return root, *trained_on(root, tmp_path_factory.mktemp("frustums"), FRUSTUMS)
