# SPDX-License-Identifier: Apache-2.0
"""Weights of networks that were trained with other sparse-convolution libraries."""

from pcperc.convert.state_dict import convert_state_dict
from pcperc.convert.weights import SOURCES, convert_weight

__all__ = ["SOURCES", "convert_state_dict", "convert_weight"]
