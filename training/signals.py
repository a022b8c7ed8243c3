"""Ctrl-C and SIGTERM end a long run after the step in hand instead of in the middle of it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Interruption:
    """The signal that asked the run to end, None as long as none did."""

    number: int | None = None

    @property
    def name(self) -> str:
        """The signal in words, for messages."""
        return signal.Signals(self.number).name if self.number is not None else "another process"

    @property
    def exit_code(self) -> int:
        """128 + signal, as shells count it: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + (self.number if self.number is not None else signal.SIGTERM)


@contextmanager
def deferred() -> Iterator[Interruption]:
    """Remember the first SIGINT or SIGTERM; a second one raises KeyboardInterrupt at once."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption  # only the main thread may install handlers
        return

    def remember(number: int, frame: Any) -> None:
        if interruption.number is not None:
            raise KeyboardInterrupt
        interruption.number = number

    handlers = {number: signal.signal(number, remember) for number in STOPPING}
    try:
        yield interruption
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
