# SPDX-License-Identifier: Apache-2.0
"""SPVNAS: one set of weights that many SPVCNNs of other widths and depths share.

Source: Tang et al., "Searching Efficient 3D Architectures with Sparse Point-Voxel Convolution", ECCV 2020, section
3.2; Cai, Gan, Wang, Zhang and Han, "Once-for-All: Train One Network and Specialize it for Efficient Deployment",
ICLR 2020.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from pcperc import nn as spnn
from pcperc.models.spvcnn import SPVCNN
from pcperc.models.spvnas.search_space import SearchSpace
from pcperc.models.spvnas.subnet import Subnet
from pcperc.registry import MODELS
from pcperc.sparse import PointTensor


@MODELS.register_module()
class SPVNAS(nn.Module):
    """A super network, which runs as the subnet that was set last; at first that is the largest.

    ``net`` is the largest ``SPVCNN`` and holds all weights. A subnet uses the first channels of each layer and the
    first blocks of each stage; where a layer reads a concatenation, the first channels of each of its two parts. It is
    computed by a plain SPVCNN over these parts of the weights, the same that :meth:`extract` gives as a copy. The first
    block of each stage always projects its shortcut. In training, running statistics of batch norm mix those of all
    subnets that ran: measure them with ``pcperc.nn.recalibrate_batch_norm`` before a subnet is evaluated.

    Under DistributedDataParallel the blocks that a subnet leaves out have no gradient (``find_unused_parameters``).

    Args:
        in_channels, num_classes, dropout, quantized: as in ``SPVCNN``.
        space: the subnets; None is the published space.
    Shape: as ``SPVCNN``.
    Raises:
        TypeError, ValueError: a subnet that is not in ``space`` (the value is named), and as ``SPVCNN``.
    """

    def __init__(
        self,
        in_channels: int = 4,
        num_classes: int | None = None,
        *,
        space: SearchSpace | None = None,
        dropout: float = 0.3,
        quantized: bool = False,
    ):
        super().__init__()
        self.space = SearchSpace() if space is None else space
        # Arguments of SPVCNN that all subnets share.
        self.head_options = dict(in_channels=in_channels, num_classes=num_classes, dropout=dropout, quantized=quantized)
        self.net = SPVCNN(**self.head_options, **self.space.largest().options)
        self.set_subnet(self.space.largest())

    @property
    def subnet(self) -> Subnet:
        """The subnet as which the network runs."""
        return self._subnet

    def set_subnet(self, subnet: Subnet) -> None:
        """Run as this subnet from now on."""
        self._active = (self._without_weights(subnet),)  # in a tuple: its weights are those of ``net``
        self._subnet = subnet

    def sample(self, rng: np.random.Generator) -> Subnet:
        """Draw a subnet of the space; :meth:`set_subnet` makes the network run as it."""
        return self.space.sample(rng)

    def largest(self) -> Subnet:
        return self.space.largest()

    def smallest(self) -> Subnet:
        return self.space.smallest()

    def extract(self, subnet: Subnet | None = None) -> SPVCNN:
        """Return a subnet, by default the one that is set, as a network with weights and statistics of its own."""
        subnet = self._subnet if subnet is None else subnet
        net = self._mirrored(self._without_weights(subnet))
        weights = {name: part.detach().clone() for name, part in self._parts(subnet, net)}
        net.load_state_dict(weights, assign=True)
        return net

    def forward(self, points: PointTensor) -> PointTensor:
        net = self._mirrored(*self._active)
        self._active = (net,)
        return torch.func.functional_call(net, dict(self._parts(self._subnet, net)), (points,))

    def _without_weights(self, subnet: Subnet) -> SPVCNN:
        self.space.check(subnet, op="SPVNAS")
        with torch.device("meta"):
            return SPVCNN(**self.head_options, **subnet.options)

    def _mirrored(self, net: SPVCNN) -> SPVCNN:
        """Take over the modes of ``self.net``, and momentum and kind of its batch norms."""
        own = dict(self.net.named_modules())
        if any(isinstance(module, spnn.SyncBatchNorm) for module in own.values()):
            net = spnn.convert_sync_batchnorm(net)
        for name, module in net.named_modules():
            if type(own.get(name)) is not type(module):
                raise RuntimeError(
                    f"SPVNAS: net must be as it was built, got {type(own.get(name)).__name__} for net.{name}; "
                    "fuse or change what extract() returns"
                )
            module.training = own[name].training
            if hasattr(module, "momentum"):
                module.momentum = own[name].momentum
        return net

    def _parts(self, subnet: Subnet, net: SPVCNN) -> Iterator[tuple[str, Tensor]]:
        """The parts of the weights and statistics that ``net`` uses: views, which gradients and updates go through."""
        own = {**dict(self.net.named_parameters()), **dict(self.net.named_buffers())}
        joined = _joined_inputs(self.space.largest(), subnet)
        for name, wanted in (*net.named_parameters(), *net.named_buffers()):
            part = own[name]
            if name in joined:
                start, (from_below, from_skip) = joined[name]
                axis = part.ndim - 2
                part = torch.cat([part.narrow(axis, 0, from_below), part.narrow(axis, start, from_skip)], axis)
            for axis, size in enumerate(wanted.shape):
                part = part.narrow(axis, 0, size)
            yield name, part


def _joined_inputs(largest: Subnet, subnet: Subnet) -> dict[str, tuple[int, tuple[int, int]]]:
    """Weights that read a concatenation: where its second part starts, and the channels used of each part."""
    joined = {}
    for stage in range(4):
        used = (subnet.transitions[4 + stage], subnet.widths[3 - stage])
        for layer in ("block1", "shortcut"):
            joined[f"up_stages.{stage}.blocks.0.{layer}.conv.weight"] = (largest.transitions[4 + stage], used)
    return joined


@torch.no_grad()
def sort_inner_channels(net: SPVCNN) -> None:
    """Put the channels inside stages in order of importance, largest first; what ``net`` computes stays the same.

    These are the channels between the two convolutions of each residual block, and those behind each strided
    convolution. Importance is the L1 norm of the weights that read the channel (those that make it are rescaled by
    batch norm and tell nothing). Narrower subnets, which use the first channels, so start from the most important ones.
    Do it between training the largest network and its subnets, before the optimizer is made: moments of an older one
    belong to the channels that were there.

    Args:
        net: ``SPVNAS.net``, or any SPVCNN or MinkUNet; changed in place.
    Source: Cai et al., ICLR 2020, appendix on elastic width.
    """
    for stage in (*net.down_stages, *net.up_stages):
        first = stage.blocks[0]
        if first.shortcut is not None:  # an identity passes its channels on in their order
            _sort_channels(stage.down if hasattr(stage, "down") else stage.up, [first.block1, first.shortcut])
        for block in stage.blocks:
            _sort_channels(block.block1, [block.block2])


def _sort_channels(made_by: spnn.ConvBlock, read_by: list[spnn.ConvBlock]) -> None:
    count = made_by.conv.out_channels
    importance = sum(block.conv.weight[..., :count, :].abs().sum((0, 1, 2, 4)) for block in read_by)
    order = importance.argsort(descending=True, stable=True)
    for tensor in (made_by.conv.weight, *made_by.norm.parameters(), *made_by.norm.buffers()):
        if tensor.ndim:  # not the count of batches
            tensor.copy_(tensor[..., order])
    for block in read_by:
        block.conv.weight[..., :count, :] = block.conv.weight[..., order, :]
