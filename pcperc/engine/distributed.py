# SPDX-License-Identifier: Apache-2.0
"""Devices and process groups: what torchrun says, on CPU (gloo) and GPU (NCCL)."""

import datetime
import gc
import os
import re
from typing import Any

import torch
import torch.distributed as dist

from pcperc.ops._library import HAS_CUDA_OPS


class DeviceError(RuntimeError):
    """The device that was asked for does not exist here."""


def pick_device(wanted: str | None) -> torch.device:
    """Return the device of this process: ``wanted`` ("cpu", "cuda" or "cuda:N"), or the GPU where there is one.

    Under torchrun each process takes the GPU of its local rank.

    Raises:
        DeviceError: a GPU was asked for and there is none, or the name is unknown.
    """
    if wanted is not None and not re.fullmatch(r"cpu|cuda(:\d+)?", wanted):
        raise DeviceError(f"--device must be cpu, cuda or cuda:N, got '{wanted}'")
    available = torch.cuda.is_available()
    usable = available and HAS_CUDA_OPS
    if wanted == "cpu" or (wanted is None and not usable):
        return torch.device("cpu")
    if available and not usable:
        raise DeviceError(f"--device {wanted}: pcperc was built without CUDA operators; build it where nvcc is found")
    if not available:
        why = "the installed torch is a CPU build" if torch.version.cuda is None else "the driver offers none"
        raise DeviceError(
            f"--device {wanted}: no CUDA device was found ({why}: torch {torch.__version__}); use --device cpu"
        )
    index = int(os.environ.get("LOCAL_RANK", 0))
    if wanted and ":" in wanted:
        index = int(wanted.partition(":")[2])
    if index >= torch.cuda.device_count():
        raise DeviceError(f"GPU {index} was asked for, this machine has {torch.cuda.device_count()}")
    return torch.device("cuda", index)


def under_torchrun() -> bool:
    """True in a process that torchrun started."""
    return "TORCHELASTIC_RUN_ID" in os.environ and "WORLD_SIZE" in os.environ


def restart_count() -> int:
    """How often torchrun has restarted this group of processes; 0 elsewhere."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


def start_process_group(device: torch.device) -> None:
    """Join the other processes where torchrun started this one; otherwise do nothing."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not under_torchrun() or dist.is_initialized():
        return
    # The timeout covers what rank 0 alone does first: simulating and preparing a data set.
    timeout = datetime.timedelta(minutes=60)
    store, rank, world_size = next(dist.rendezvous("env://", timeout=timeout))
    # torch 2.13 keeps its store over a restart, and processes would look for the addresses of the dead ones there.
    store = dist.PrefixStore(f"restart_{restart_count()}", store)
    group = {"store": store, "rank": rank, "world_size": world_size, "timeout": timeout}
    if device.type == "cuda":
        dist.init_process_group("nccl", device_id=device, **group)
    else:
        dist.init_process_group("gloo", **group)


def stop_process_group() -> None:
    """Leave the process group, if any, and end its threads."""
    if dist.is_initialized():
        # A wrapped model that is garbage but not yet collected keeps the group's threads running while Python is taken
        # down; one that then lets go of a tensor aborts the process (https://github.com/pytorch/pytorch/pull/179291).
        # Collected after the group, the model could wait for these threads while they wait for Python.
        gc.collect()
        dist.destroy_process_group()


def is_main() -> bool:
    """True in the process that writes files and talks to the user."""
    return not dist.is_initialized() or dist.get_rank() == 0


def barrier() -> None:
    """Wait for all processes; nothing where there is only one."""
    if dist.is_initialized():
        dist.barrier()


def gather_objects(value: Any) -> list:
    """Return the ``value`` of every process, in order of rank."""
    if not dist.is_initialized():
        return [value]
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
