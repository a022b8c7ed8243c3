"""Progress reaches the listener of its own thread, and a listener can end the work."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from singing.request import CancelledError, ProgressBar, ProgressEvent, listening, tell
from utils.files import staged


def test_a_listener_hears_stages_and_steps() -> None:
    heard: list[ProgressEvent] = []
    with listening(heard.append):
        tell(ProgressEvent("load"))
        with ProgressBar("voice", 3, "phrase", quiet=True) as bar:
            for _ in range(3):
                bar.update()
    tell(ProgressEvent("unheard"))
    assert [(event.stage, event.done, event.total) for event in heard] == [
        ("load", 0, 0),
        *(("voice", done, 3) for done in range(4)),
    ]


def test_each_thread_has_its_own_listener() -> None:
    heard: dict[str, list[str]] = {"a": [], "b": []}
    both = threading.Barrier(2)

    def work(name: str) -> None:
        with listening(lambda event: heard[name].append(event.stage)):
            both.wait(5)
            tell(ProgressEvent(name))

    threads = [threading.Thread(target=work, args=(name,)) for name in heard]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == {"a": ["a"], "b": ["b"]}


def test_what_a_listener_raises_ends_the_work_and_leaves_no_file(tmp_path: Path) -> None:
    def refuse(event: ProgressEvent) -> None:
        if event.done == 2:
            raise CancelledError

    def work() -> None:
        with (
            staged(tmp_path / "out") as stage,
            ProgressBar("voice", 5, "phrase", quiet=True) as bar,
        ):
            (stage / "half").write_text("")
            for _ in range(5):
                bar.update()

    with pytest.raises(CancelledError), listening(refuse):
        work()
    assert not list(tmp_path.rglob("half"))
