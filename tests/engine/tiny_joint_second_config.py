# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F403  (what a config imports becomes part of it)
"""A second stage behind tiny_joint_config.py: the same once more, from its weights."""

from mmengine.config import read_base

with read_base():
    from .tiny_joint_config import *

first_stage = "tiny_joint_config.py"
