"""Children of a campaign: forks of this process, with limits, and how they ended."""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SLOW = (  # modules that are imported late, in this process once and not in every fork
    *("librosa.sequence", "scipy.signal", "torch._dynamo", "torch.utils.tensorboard"),
    *("matplotlib.textpath", "music.midi_tracks", "music.musicxml", "librosa.util"),
)


def preload() -> None:
    """Import what children import late."""
    for name in SLOW:
        importlib.import_module(name)


@dataclass(frozen=True)
class Ended:
    """How a child ended."""

    code: int | None  # None: by a signal
    signal: int | None
    said: str
    hung: bool  # more processor time than it was given
    peak: int  # bytes
    seconds: float  # of processor time


class Child:
    """A fork that runs work() with its output in a file."""

    def __init__(
        self,
        work: Callable[[], int],
        log: Path,
        memory: int | None = None,
        file_size: int | None = None,
        seconds: float = 60.0,
    ) -> None:
        """memory, file_size: bytes that it may have; seconds: of processor time."""
        self.log = log
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid:
            return
        code = 70
        try:
            handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            # Those of a test that captures them do not write to the descriptors.
            sys.stdout = open(1, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115
            sys.stderr = open(2, "w", 1, closefd=False, errors="backslashreplace")  # noqa: SIM115
            if memory:
                pages = int(Path("/proc/self/statm").read_text().split()[0])
                now = pages * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (now + memory, now + memory))
            if file_size is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
            used = round(time.process_time() + seconds) + 1
            resource.setrlimit(resource.RLIMIT_CPU, (used, used + 1))
            code = work() or 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code & 255)

    def runs(self) -> bool:
        """Say whether it is still there."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def send(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self) -> Ended:
        """Wait for its end."""
        _, status, usage = os.wait4(self.pid, 0)
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        said = self.log.read_text(errors="replace") if self.log.exists() else ""
        hung, seconds = number == signal.SIGXCPU, usage.ru_utime + usage.ru_stime
        return Ended(code, number, said, hung, usage.ru_maxrss * 1024, seconds)
