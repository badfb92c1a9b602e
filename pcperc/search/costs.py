# SPDX-License-Identifier: Apache-2.0
"""What a subnet costs: multiply-adds on given scans, parameters, time on this machine."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from pcperc import nn as spnn
from pcperc.benchmark.macs import count_macs, count_parameters
from pcperc.benchmark.timing import call_ms
from pcperc.models.spvcnn import SPVCNN
from pcperc.models.spvnas import SPVNAS, Subnet
from pcperc.sparse import PointTensor

_FEW = 64  # points; every layer has a kernel map on them


class SubnetCosts:
    """Costs of the subnets of one super network.

    The kernel maps of a layer are the same in every subnet, so they are counted once, on the largest. A subnet's own
    pass over a few points then tells the channels of its layers: ``macs = pairs on the scans x macs on the few points /
    pairs on the few points``, without rounding, in milliseconds.

    Args:
        net: the super network; it is left as the subnet that was asked for last.
        scans: what it reads; multiply-adds are the mean over them.
    """

    def __init__(self, net: SPVNAS, scans: Sequence[PointTensor]):
        self._net, self._num_scans = net, len(scans)
        generator = torch.Generator().manual_seed(0)
        coords = torch.cat([torch.zeros(_FEW, 1), torch.rand(_FEW, 3, generator=generator) * 8], 1)
        feats = torch.zeros(_FEW, scans[0].num_channels)
        self._few = PointTensor(coords, feats, 1).to(scans[0].device)
        self._few_of_largest = self._count(net.largest(), self._few)
        self._of_largest = sum((self._count(net.largest(), scan) for scan in scans), Counter())

    def gmacs(self, subnet: Subnet) -> float:
        """Return 10^9 multiply-adds a scan."""
        few, whole, own = self._few_of_largest, self._of_largest, self._count(subnet, self._few)
        return sum(own[name] * whole[name] // few[name] for name in own) / self._num_scans / 1e9

    def mparams(self, subnet: Subnet) -> float:
        """Return 10^6 parameters."""
        with torch.device("meta"):
            net = SPVCNN(**self._net.head_options, **subnet.options)
        return count_parameters(net) / 1e6

    def _count(self, subnet: Subnet, points: PointTensor) -> Counter:
        self._net.set_subnet(subnet)
        cost = count_macs(self._net, points)
        return Counter({layer.name: layer.macs for layer in cost.layers})


def latency_ms(net: SPVCNN, points: PointTensor, *, runs: int = 5) -> float:
    """Return the median time of a fused network from points to classes, its kernel maps made anew each time."""
    net = spnn.fuse(net.eval())

    @torch.inference_mode()
    def predict() -> torch.Tensor:
        return net(PointTensor(points.coords, points.feats, points.batch_size)).feats

    times = [call_ms(predict, points.device) for _ in range(2 + runs)]
    return float(np.median(times[2:]))
