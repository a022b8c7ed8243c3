"""The net around every script: one line for bad input, a traceback for a fault of the program."""

from __future__ import annotations

import errno
import os
import signal
import time

import pytest

from utils.files import reading
from utils.flags import exit_code, guarded


def raising(error: BaseException):
    def work() -> int:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("a.wav: no"), "script.py: a.wav: no"),
        (FileNotFoundError("no such file"), "no such file"),
        (OSError(errno.ENOSPC, "No space left on device", "out/a.wav"), "no room on the disk for"),
        (MemoryError("16 GiB"), "not enough memory"),
    ],
)
def test_what_is_expected_is_one_line(
    capsys: pytest.CaptureFixture[str], error: Exception, words: str
) -> None:
    assert exit_code("script.py", raising(error)) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    for error in (KeyError("x"), TypeError("x"), AssertionError("x")):
        with pytest.raises(type(error)):
            exit_code("script.py", raising(error))


def test_signals_clean_up_and_give_the_codes_of_shells(capsys: pytest.CaptureFixture[str]) -> None:
    done = []

    def killed() -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10.0)
        finally:
            done.append("cleaned up")
        return 0

    before = signal.getsignal(signal.SIGTERM)
    assert guarded("script.py", killed) == 143 and done == ["cleaned up"]
    assert signal.getsignal(signal.SIGTERM) is before
    assert guarded("script.py", raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err.count("stopped") == 2


@pytest.mark.parametrize("error", [KeyError("x"), RecursionError("deep"), OverflowError("inf")])
def test_reading_names_the_file_whatever_it_raises(error: Exception) -> None:
    name = type(error).__name__
    with pytest.raises(ValueError, match=rf"a\.mid: cannot be read \({name}"), reading("a.mid"):
        raise error
