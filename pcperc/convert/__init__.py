# SPDX-License-Identifier: Apache-2.0
"""Weights of networks that were trained with other sparse-convolution libraries."""

from pcperc.convert.bevfusion import BEVFUSION_SOURCES, convert_bevfusion
from pcperc.convert.networks import NETWORKS, convert_network, spvnas_options
from pcperc.convert.origin import SOURCES_OF_NETWORKS, find_origin
from pcperc.convert.state_dict import convert_state_dict
from pcperc.convert.weights import SOURCES, convert_weight

__all__ = [
    "BEVFUSION_SOURCES",
    "NETWORKS",
    "SOURCES",
    "SOURCES_OF_NETWORKS",
    "convert_bevfusion",
    "convert_network",
    "convert_state_dict",
    "convert_weight",
    "find_origin",
    "spvnas_options",
]
