# SPDX-License-Identifier: Apache-2.0
"""Weights of networks that were trained with other sparse-convolution libraries."""

from pcperc.convert.networks import NETWORKS, convert_network, spvnas_options
from pcperc.convert.state_dict import convert_state_dict
from pcperc.convert.weights import SOURCES, convert_weight

__all__ = ["NETWORKS", "SOURCES", "convert_network", "convert_state_dict", "convert_weight", "spvnas_options"]
