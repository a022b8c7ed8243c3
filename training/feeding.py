"""Batches to the device: pinned and copied on a stream of their own, one ahead of the step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch


class Fed(NamedTuple):
    """A batch as it was made, the same on the device, and the position after it."""

    host: Any
    device: Any
    position: Any


def fed(batches: Iterable[tuple[Any, Any]], device: torch.device) -> Iterator[Fed]:
    """Yield batches on `device`; on a CUDA device the next one travels while a step runs.

    A copy from pinned memory on another stream than the step's takes no time of it. What a batch
    says about itself (ids, frames, counts) is read from the copy on the host.
    """
    if device.type != "cuda":
        for batch, position in batches:
            yield Fed(batch, batch.to(device), position)
        return
    copies = torch.cuda.Stream(device)
    waiting: tuple[Fed, torch.cuda.Event] | None = None
    for batch, position in batches:
        pinned = batch.map(_pinned)
        with torch.cuda.stream(copies):
            on_device = pinned.map(lambda tensor: tensor.to(device, non_blocking=True))
            arrived = copies.record_event()
        if waiting is not None:
            yield _arrived(*waiting, device)
        waiting = Fed(pinned, on_device, position), arrived
    if waiting is not None:
        yield _arrived(*waiting, device)


def _pinned(tensor: torch.Tensor) -> torch.Tensor:
    """Pin a tensor of the host; what is on the device already (a resident corpus) stays."""
    return tensor.pin_memory() if tensor.device.type == "cpu" else tensor


def _arrived(batch: Fed, arrived: torch.cuda.Event, device: torch.device) -> Fed:
    """Let the step's stream wait for a copy, and keep its memory until that stream is done."""
    stream = torch.cuda.current_stream(device)
    stream.wait_event(arrived)

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        tensor.record_stream(stream)
        return tensor

    batch.device.map(keep)
    return batch
