# SPDX-License-Identifier: Apache-2.0
"""The pairs of a neighbour table, listed once for the weight gradients of all layers along it."""

import torch
from torch import Tensor

import pcperc.ops._library  # noqa: F401
from pcperc.ops._checks import check_table


class TapPairs:
    """What the weight gradient of ``sparse_conv`` makes of a table on a GPU first: its [input row, output row] pairs.

    They are listed when the first gradient asks for them, not before, so that they take no memory while activations
    grow, and are kept as long as this object is. A CPU goes over the table itself, and nothing is listed; nor are
    tables of more than 2^25 entries, which are gone over in parts.

    Args:
        neighbors: (K, M) int32, as ``sparse_conv`` takes it; not to be changed.
        num_inputs: rows N of the features that the entries name.
        row_order: (M,) int32, the output row of each column, or None.
    Raises:
        TypeError, ValueError: neighbors is no such table.
    """

    def __init__(self, neighbors: Tensor, num_inputs: int, row_order: Tensor | None = None):
        check_table("TapPairs", "neighbors", neighbors)
        self.neighbors, self.num_inputs, self.row_order = neighbors, num_inputs, row_order
        self._listed: tuple[int, Tensor] | None = None  # by this stream

    def listed(self) -> Tensor | None:
        """What the operator ``sparse_conv_weight_grad`` takes; None on a CPU."""
        if not self.neighbors.is_cuda:
            return None
        stream = torch._C._cuda_getCurrentRawStream(self.neighbors.get_device())
        kept = self._listed  # once: another thread may replace it
        if kept is not None and kept[0] == stream:  # another stream has not waited for the list
            return kept[1]
        pairs = torch.ops.pcperc.list_pairs(self.neighbors, self.num_inputs, self.row_order)
        if not torch.cuda.is_current_stream_capturing():  # what is captured is written by a replay alone
            self._listed = stream, pairs
        return pairs


@torch.library.register_fake("pcperc::list_pairs")
def _(neighbors, num_inputs, row_order):
    return neighbors.new_empty(torch.library.get_ctx().new_dynamic_size())
