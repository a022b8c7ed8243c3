"""Processes of a training: one, or several started by `torchrun` (one per GPU, or on CPU).

The rest of the program sees a `World`: its device, its rank, and sums over all ranks.
"""

from __future__ import annotations

import gc
import os
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from utils.flags import start_on

PROBE_SIZE = 256  # of the matrices that precisions are compared by
WORTH_IT = 1.25  # speed of bfloat16 above which it pays for the conversions around it
TIMEOUT = timedelta(hours=1)  # the other ranks wait while the main one validates and draws


@dataclass(frozen=True)
class World:
    """This process among all processes of a run."""

    device: torch.device
    rank: int = 0
    size: int = 1
    host_group: Any = None  # for numbers of the host; None = the default one, which is on the CPU

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Return the elementwise sum of `values` over all ranks (without gradient)."""
        if self.size == 1:
            return values
        total = values.detach().clone()
        dist.all_reduce(total, op=dist.ReduceOp.SUM)
        return total

    def sum_numbers(self, numbers: list[float]) -> list[float]:
        """Return the sums of numbers of the host over all ranks; no device is waited for."""
        if self.size == 1 or not numbers:
            return numbers
        total = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(total, op=dist.ReduceOp.SUM, group=self.host_group)
        return total.tolist()

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in order, on every rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            dist.barrier()


def bfloat16_speed(device: torch.device) -> float:
    """Return how many times as fast as float32 this device multiplies bfloat16 matrices.

    CPUs are measured, for a fifth of a second at most: without instructions for bfloat16 they need
    a hundred times as long, with such half as long or less. CUDA devices have them from compute
    capability 8.0 on; on others, and on MPS, nothing is gained.
    """
    if device.type == "cuda":
        return 2.0 if torch.cuda.get_device_capability(device) >= (8, 0) else 0.5
    if device.type != "cpu":
        return 0.5
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.ones(PROBE_SIZE, PROBE_SIZE, dtype=dtype)
        times = []
        for _ in range(3):  # the first has to set up its kernel
            began = time.perf_counter()
            matrix @ matrix
            times.append(time.perf_counter() - began)
        seconds[dtype] = min(times)
    return seconds[torch.float32] / seconds[torch.bfloat16]


def choose_precision(
    wanted: str, device: torch.device, begun_with: str | None = None
) -> tuple[str, str]:
    """Return float32 or bfloat16 for `wanted`, and a line that says why.

    auto takes what the run has `begun_with`, else the one whose products are faster here. Where
    bfloat16 is slow and taken all the same, the line says so.
    """
    is_begun = wanted == "auto" and begun_with in ("float32", "bfloat16")
    reason = "as the run began" if is_begun else "as asked for"
    chosen = str(begun_with) if is_begun else wanted
    if chosen == "float32":
        return chosen, f"precision float32, {reason}"
    speed = bfloat16_speed(device)
    times = f"{1 / speed:.0f}" if speed < 0.1 else f"{1 / speed:.2g}"
    measured = f"bfloat16 products take {times} times as long as float32 ones on {device}"
    if chosen == "auto":
        chosen = "bfloat16" if speed >= WORTH_IT else "float32"
        return chosen, f"precision {chosen}: {measured}"
    if speed < 1.0:
        return chosen, f"precision {chosen}, {reason}, is slow here: {measured}"
    return chosen, f"precision {chosen}, {reason}: {measured}"


def start(device_name: str = "auto") -> World:
    """Join the processes that `torchrun` started, or be the only one."""
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    device = start_on(device_name, int(os.environ.get("LOCAL_RANK", "0")), is_main=rank == 0)
    host_group = None
    if size > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
        if device.type == "cuda":
            host_group = dist.new_group(backend="gloo", timeout=TIMEOUT)
    return World(device, rank, size, host_group)


def close(world: World) -> None:
    """Leave the process group; with one process there is nothing to leave."""
    if world.size > 1 and dist.is_initialized():
        gc.collect()  # wrappers of models hold the group in cycles; its threads must end before us
        dist.destroy_process_group()


def shared(model: nn.Module, unused: set[str]) -> DistributedDataParallel:
    """Share gradients between the ranks, but for those of `unused` parameters, which have none.

    Looking for them in each step would cost a pass over the graph and an exchange.
    """
    inside = unwrapped(model)
    known = {name for name, _ in inside.named_parameters()}
    if unknown := unused - known:
        raise ValueError(f"no parameters {sorted(unknown)[:3]} to leave out")
    names = {name for name, _ in model.named_parameters() if name.split("_orig_mod.")[-1] in unused}
    # Not public, but the way to it since torch 1.7: sharded embeddings depend on it.
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, names)
    return DistributedDataParallel(model, gradient_as_bucket_view=True)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module itself from inside of DistributedDataParallel and torch.compile."""
    while True:
        if isinstance(model, DistributedDataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner  # torch.compile
        else:
            return model
