# SPDX-License-Identifier: Apache-2.0
"""What a loss is divided by where several processes share a batch."""

import torch
import torch.distributed as dist
from torch import Tensor


@torch.no_grad()
def mean_over_processes(count: Tensor, *, min_total: float = 0) -> Tensor:
    """Average a count, such as that of the objects in a batch, over all processes; all must call it.

    DistributedDataParallel averages gradients. With ``S_p`` the sum of the losses and ``n_p`` the count of process p of
    P, ``S_p / mean(n)`` therefore averages to ``sum(S) / sum(n)``, which one process with the whole batch has.

    Args:
        count: () or several counts at once, of any number type, on the device of the process group's backend. It is
            left as it is.
        min_total: the sum over all processes counts as at least this, so that nobody divides by zero.
    Returns:
        float32 of the shape of ``count``, the same on every process; without a process group the count itself, at least
        ``min_total``. The host does not wait for it.
    """
    total = count.to(torch.float32, copy=True)
    processes = 1
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(total)
        processes = dist.get_world_size()
    return total.clamp(min=min_total) / processes
