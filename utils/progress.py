"""Progress of long work: bars on the terminal, and events for whoever listens.

A listener hears the work of its own thread (a context variable), so that two renderings of one
process never mix. What it raises ends the work: that is how a rendering is cancelled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from tqdm import tqdm


class CancelledError(Exception):
    """Raised by a listener to end the work; nothing of it is written."""


@dataclass(frozen=True)
class ProgressEvent:
    """Where a long work stands: a stage that begins, or steps of it that are done."""

    stage: str
    done: int = 0
    total: int = 0  # 0: its steps are not counted
    unit: str = ""


Listener = Callable[[ProgressEvent], None]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send the progress of the `with` block to `listener`; what it raises ends the block."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(event: ProgressEvent) -> None:
    """Send an event to the listener of this thread, if there is one."""
    listener = _listener.get()
    if listener is not None:
        listener(event)


class ProgressBar(tqdm):
    """A bar of `total` steps on the terminal that tells the listener of each, too."""

    def __init__(self, stage: str, total: int, unit: str, desc: str = "", quiet: bool = False):
        """Begin at no step; `desc` is what the terminal reads, `quiet` leaves it empty."""
        super().__init__(total=total, desc=desc or stage, unit=unit, disable=quiet)
        self.event = ProgressEvent(stage, 0, total, unit)
        tell(self.event)

    def update(self, n: float | None = 1) -> bool | None:
        """Count steps."""
        shown = super().update(n)
        done = self.event.done + int(n or 0)
        self.event = ProgressEvent(self.event.stage, done, self.event.total, self.event.unit)
        tell(self.event)
        return shown
