# SPDX-License-Identifier: Apache-2.0
"""SPVNAS: a super network, its space of subnets, and how a subnet is described."""

from pcperc.models.spvnas.search_space import SearchSpace as SearchSpace
from pcperc.models.spvnas.subnet import Subnet as Subnet
from pcperc.models.spvnas.super_network import SPVNAS as SPVNAS
from pcperc.models.spvnas.super_network import sort_inner_channels as sort_inner_channels
from pcperc.models.spvnas.super_segmentor import SuperSegmentor as SuperSegmentor
