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


class SubnetCosts:
    """Costs of the subnets of one super network.

    The kernel maps of a layer are the same in every subnet, so they are counted once, in the largest. What a layer
    multiplies is proportional to its weights: ``macs = macs of the largest x weights / weights of the largest``,
    without rounding and without a pass.

    Args:
        net: the super network; it is left as its largest subnet.
        scans: what it reads, in batches of any size; multiply-adds are the mean over their items.
    """

    def __init__(self, net: SPVNAS, scans: Sequence[PointTensor]):
        self._net, self._num_scans = net, sum(batch.batch_size for batch in scans)
        self._known: dict[Subnet, tuple[int, int]] = {}
        net.set_subnet(net.largest())
        self._of_largest = sum((Counter(_macs_by_layer(net, scan)) for scan in scans), Counter())
        self._weights_of_largest, _ = self._weights(net.largest())

    def gmacs(self, subnet: Subnet) -> float:
        """Return 10^9 multiply-adds a scan."""
        return self._macs_and_parameters(subnet)[0] / self._num_scans / 1e9

    def mparams(self, subnet: Subnet) -> float:
        """Return 10^6 parameters."""
        return self._macs_and_parameters(subnet)[1] / 1e6

    def _macs_and_parameters(self, subnet: Subnet) -> tuple[int, int]:
        if subnet not in self._known:
            weights, parameters = self._weights(subnet)
            whole = self._weights_of_largest
            macs = sum(
                weights[name] * macs // whole[name] for name, macs in self._of_largest.items() if name in weights
            )
            self._known[subnet] = macs, parameters
        return self._known[subnet]

    def _weights(self, subnet: Subnet) -> tuple[dict[str, int], int]:
        """Return how many weights each layer has, and how many parameters all have."""
        self._net.space.check(subnet, op="SPVNAS")
        with torch.device("meta"):
            net = SPVCNN(**self._net.head_options, **subnet.options)
        suffix = ".weight"
        named = {name.removesuffix(suffix): w.numel() for name, w in net.named_parameters() if name.endswith(suffix)}
        return named, count_parameters(net)


def _macs_by_layer(net: SPVNAS, points: PointTensor) -> dict[str, int]:
    return {layer.name: layer.macs for layer in count_macs(net, points).layers}


def latency_ms(net: SPVCNN, points: PointTensor, *, runs: int = 5) -> float:
    """Return the median time of a fused network from points to classes, its kernel maps made anew each time."""
    net = spnn.fuse(net.eval())

    @torch.inference_mode()
    def predict() -> torch.Tensor:
        return net(PointTensor(points.coords, points.feats, points.batch_size)).feats

    times = [call_ms(predict, points.device) for _ in range(2 + runs)]
    return float(np.median(times[2:]))
