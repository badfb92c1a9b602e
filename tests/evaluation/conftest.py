# SPDX-License-Identifier: Apache-2.0
"""A tiny prepared nuScenes root, and its validation split."""

import pytest

from tests import nuscenes_root as tiny
from tests.datasets.nuscenes_helpers import dataset, prepare


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tiny.write_tiny_root(tmp_path_factory.mktemp("tiny"))
    prepare(root)
    return root


@pytest.fixture(scope="module")
def data(root):
    return dataset(root, "sim_val", modalities=("lidar",), num_sweeps=0)
