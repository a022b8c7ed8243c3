"""One rendering at a time: a queue that can be watched and cancelled."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from singing.request import CancelledError, ProgressEvent, listening
from utils.flags import sentence

WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"
ENDED = (DONE, FAILED, CANCELLED)

logger = logging.getLogger(__name__)


@dataclass
class RenderJob:
    """One rendering, as it waits, runs and ends."""

    owner: str  # session
    work: Callable[[], Any]
    discard: Callable[[], Any]  # called where the work will not be done
    title: str
    state: str = WAITING
    stages: list[dict[str, Any]] = field(default_factory=list)  # in the order they began
    result: Any = None
    error: str = ""
    began: float = 0.0  # s, monotonic
    ended: float = 0.0
    is_cancelled: bool = False

    def hear(self, event: ProgressEvent) -> None:
        """Note where the rendering stands; raises CancelledError once it is cancelled."""
        if self.is_cancelled:
            raise CancelledError
        now = time.monotonic()
        if not self.stages or self.stages[-1]["stage"] != event.stage:
            if self.stages:
                self.stages[-1]["seconds"] = now - self.stages[-1]["began"]
            self.stages.append({"stage": event.stage, "began": now, "seconds": None})
        self.stages[-1].update(done=event.done, total=event.total, unit=event.unit)

    def report(self, ahead: int) -> dict[str, Any]:
        """Describe the job for the page; ahead: jobs before it in the queue."""
        now = self.ended or time.monotonic()
        stages = [
            {k: v for k, v in stage.items() if k != "began"}
            | {"seconds": round(stage["seconds"] or max(0.0, now - stage["began"]), 2)}
            for stage in list(self.stages)
        ]
        return {
            "title": self.title,
            "state": self.state,
            "ahead": ahead,
            "stages": stages,
            "seconds": round(now - self.began, 2) if self.began else 0.0,
            "error": self.error,
            "cancelling": self.is_cancelled and self.state == RUNNING,
        }


class RenderQueue:
    """A thread that works jobs off in turn, at most one of each owner at a time."""

    def __init__(self, most_waiting: int) -> None:
        """Start without any job."""
        self.most_waiting = most_waiting
        self._waiting: deque[RenderJob] = deque()
        self._running: RenderJob | None = None
        self._is_closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="rendering", daemon=True)
        self._thread.start()

    def submit(
        self, owner: str, title: str, work: Callable[[], Any], discard: Callable[[], Any]
    ) -> RenderJob:
        """Queue a job; ValueError when the owner has one already, or the queue is full.

        discard: called instead of `work` where the job is refused, or cancelled while it waits.
        """
        try:
            return self._submit(RenderJob(owner, work, discard, title))
        except ValueError:
            discard()
            raise

    def _submit(self, job: RenderJob) -> RenderJob:
        with self._changed:
            if any(other.owner == job.owner for other in self._jobs()):
                raise ValueError("a rendering of yours is under way: wait for it, or cancel it")
            if len(self._waiting) >= self.most_waiting:
                raise ValueError(
                    f"{len(self._waiting)} renderings are waiting: try again in a few minutes"
                )
            self._waiting.append(job)
            self._changed.notify_all()
            return job

    def ahead(self, job: RenderJob) -> int:
        """Return how many jobs are worked off before this one."""
        with self._changed:
            jobs = self._jobs()
            return jobs.index(job) if job in jobs else 0

    def cancel(self, job: RenderJob) -> None:
        """Take a waiting job out; end a running one at its next step."""
        with self._changed:
            if job.state in ENDED:
                return
            job.is_cancelled = True
            if job in self._waiting:
                self._waiting.remove(job)
                job.state = CANCELLED
                job.discard()
            self._changed.notify_all()

    def wait(self, job: RenderJob, seconds: float) -> bool:
        """Wait for the end of a job; tell whether it has ended."""
        with self._changed:
            return self._changed.wait_for(lambda: job.state in ENDED, seconds)

    def close(self, seconds: float = 10.0) -> None:
        """Cancel everything and stop the thread."""
        with self._changed:
            self._is_closed = True
            jobs = self._jobs()
        for job in jobs:
            self.cancel(job)
        with self._changed:
            self._changed.notify_all()
        self._thread.join(seconds)

    def _jobs(self) -> list[RenderJob]:
        return [*([self._running] if self._running else []), *self._waiting]

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if self._is_closed:
                    return
                job = self._running = self._waiting.popleft()
                job.state, job.began = RUNNING, time.monotonic()
            state = self._work(job)
            with self._changed:
                job.ended = time.monotonic()
                job.state, self._running = state, None
                job.work = _nothing  # lets go of what it holds
                self._changed.notify_all()

    def _work(self, job: RenderJob) -> str:
        """Work a job off; return the state that it ends in."""
        try:
            with listening(job.hear):
                job.result = job.work()
        except CancelledError:
            return CANCELLED
        except (ValueError, OSError, ImportError, MemoryError) as error:
            job.error = sentence(error)
            return FAILED
        except Exception as error:  # the thread must live on; the fault is logged and shown
            logger.exception("a rendering failed")
            job.error = f"a fault of the program, please report it: {type(error).__name__}: {error}"
            return FAILED
        return DONE


def _nothing() -> None:
    """Stand for the work of a job that is over."""
