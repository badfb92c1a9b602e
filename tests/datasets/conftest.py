# SPDX-License-Identifier: Apache-2.0
"""A tiny prepared nuScenes root, and copies of it to break."""

import shutil

import pytest

from tests import nuscenes_root as tiny
from tests.datasets.nuscenes_helpers import prepare


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tiny.write_tiny_root(tmp_path_factory.mktemp("tiny"))
    prepare(root)
    return root


@pytest.fixture
def copy(prepared, tmp_path):
    """A root of one's own, to break."""
    root = tmp_path / "nuscenes"
    shutil.copytree(prepared, root)
    return root
