"""One rendering at a time: order, cancelling, bounds, faults."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from singing.request import ProgressEvent, tell
from web.render_queue import CANCELLED, DONE, FAILED, RUNNING, WAITING, RenderQueue


@pytest.fixture
def queue() -> Iterator[RenderQueue]:
    queue = RenderQueue(most_waiting=2)
    yield queue
    queue.close()


def blocking(begun: threading.Event, go_on: threading.Event) -> Callable[[], str]:
    def work() -> str:
        begun.set()
        tell(ProgressEvent("voice", 0, 2, "phrase"))
        while not go_on.wait(0.01):
            tell(ProgressEvent("voice", 1, 2, "phrase"))
        tell(ProgressEvent("mix"))
        return "sung"

    return work


def test_jobs_run_in_turn_and_are_seen(queue: RenderQueue) -> None:
    begun, go_on, order, discarded = threading.Event(), threading.Event(), [], []
    first = queue.submit("a", "one", blocking(begun, go_on), discarded.append)
    begun.wait(5)
    second, third = (
        queue.submit(name, name, lambda name=name: order.append(name), lambda: discarded.append(1))
        for name in "bc"
    )
    assert (first.state, second.state, third.state) == (RUNNING, WAITING, WAITING)
    assert [queue.ahead(job) for job in (first, second, third)] == [0, 1, 2]
    with pytest.raises(ValueError, match="under way"):
        queue.submit("b", "again", lambda: None, lambda: discarded.append("b"))
    with pytest.raises(ValueError, match="2 renderings are waiting"):
        queue.submit("d", "too many", lambda: None, lambda: discarded.append("d"))
    assert discarded == ["b", "d"]
    go_on.set()
    assert queue.wait(third, 5) and order == ["b", "c"]
    assert first.state == DONE and first.result == "sung"
    assert [stage["stage"] for stage in first.report(0)["stages"]] == ["voice", "mix"]


def test_waiting_and_running_jobs_are_cancelled(queue: RenderQueue) -> None:
    begun, go_on, discarded = threading.Event(), threading.Event(), []
    running = queue.submit("a", "one", blocking(begun, go_on), lambda: discarded.append("a"))
    begun.wait(5)
    waiting = queue.submit("b", "two", lambda: None, lambda: discarded.append("b"))
    queue.cancel(waiting)
    assert waiting.state == CANCELLED and discarded == ["b"]
    queue.cancel(running)
    assert queue.wait(running, 5) and running.state == CANCELLED
    after = queue.submit("a", "three", lambda: 3, lambda: None)
    assert queue.wait(after, 5) and after.result == 3
    queue.cancel(after)
    assert after.state == DONE


@pytest.mark.parametrize(
    ("fault", "said"),
    (
        (ValueError("the song is silent"), "the song is silent"),
        (MemoryError(), "not enough memory"),
        (KeyError("x"), "please report it: KeyError"),
    ),
)
def test_a_fault_is_shown_and_the_queue_goes_on(
    queue: RenderQueue, fault: Exception, said: str
) -> None:
    def work() -> None:
        raise fault

    job = queue.submit("a", "one", work, lambda: None)
    assert queue.wait(job, 5) and job.state == FAILED and said in job.error
    after = queue.submit("a", "two", lambda: None, lambda: None)
    assert queue.wait(after, 5) and after.state == DONE


def test_closing_ends_everything() -> None:
    queue = RenderQueue(most_waiting=2)
    begun, go_on = threading.Event(), threading.Event()
    running = queue.submit("a", "one", blocking(begun, go_on), lambda: None)
    begun.wait(5)
    waiting = queue.submit("b", "two", lambda: None, lambda: None)
    queue.close()
    assert running.state == waiting.state == CANCELLED
