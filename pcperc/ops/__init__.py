# SPDX-License-Identifier: Apache-2.0
"""Operators on plain tensors: one file a concept, the same stem in csrc/, tests/ops/ and here."""

from pcperc.ops import _library as _library
