# SPDX-License-Identifier: Apache-2.0
"""Recipes made of the toy config."""

from pathlib import Path

import pytest

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
