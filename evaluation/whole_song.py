"""How long does a whole song take, from the command to its files, with the weights that ship?"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from utils.audio import read_audio, write_wav

ROOT = Path(__file__).resolve().parents[1]
BACKING, LYRICS = ROOT / "examples" / "evening-sun.ogg", ROOT / "examples" / "lyrics.lrc"
LINE_SECONDS = 4.0  # of the example's lyrics
SHORTEST, LONGEST = 0.1, 60.0  # minutes
TIMED = re.compile(r"\[(\d+):(\d+\.\d+)\](.+)")


class SongCost(NamedTuple):
    """What one run of synthesis.py took, its start and its imports included."""

    lines: int  # of lyrics
    seconds: float  # of song
    processor: float | None  # s of all threads; None where the system does not say
    elapsed: float  # s
    memory: float | None  # bytes at most

    def __str__(self) -> str:
        """Word it in a line."""
        parts = [f"{self.elapsed:.1f} s on the clock"]
        if self.processor is not None and self.memory is not None:
            factor = self.processor / self.seconds
            parts.insert(
                0, f"{self.processor:.1f} s of processor time ({factor:.2f} of its length)"
            )
            parts.append(f"peak {self.memory / 2**20:.0f} MiB")
        return f"a song of {self.seconds:.0f} s, {self.lines} lines: {', '.join(parts)}"


def write_example(directory: Path, seconds: float) -> int:
    """Write backing.wav and lyrics.lrc: the example, repeated to `seconds`; return its lines."""
    wav, rate = read_audio(BACKING)
    length, period = round(seconds * rate), wav.shape[1]
    write_wav(directory / "backing.wav", wav.repeat(1, -(-length // period))[:, :length], rate)
    found = [TIMED.fullmatch(line) for line in LYRICS.read_text(encoding="utf-8").splitlines()]
    timed = [(60 * int(m[1]) + float(m[2]), m[3]) for m in found if m]
    lines = []
    for repeat in range(-(-length // period)):
        for onset, words in timed:
            start = onset + repeat * period / rate
            if start + LINE_SECONDS <= seconds:
                lines.append(f"[{int(start // 60):02d}:{start % 60:05.2f}]{words}\n")
    (directory / "lyrics.lrc").write_text("".join(lines), encoding="utf-8")
    return len(lines)


def song_cost(minutes: float, device: str, threads: int) -> SongCost:
    """Sing a song by synthesis.py; ValueError for a length out of bounds, or when it fails."""
    if not SHORTEST <= minutes <= LONGEST:
        raise ValueError(f"--song {minutes:g}: expected {SHORTEST} to {LONGEST:g} minutes")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        lines = write_example(place, 60 * minutes)
        command = [sys.executable, str(ROOT / "synthesis.py"), "--device", device]
        command += ["--lyrics", str(place / "lyrics.lrc"), "--out", str(place / "out")]
        command += ["--accompaniment", str(place / "backing.wav")]
        environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
        before, began = children(), time.perf_counter()
        ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
        elapsed, after = time.perf_counter() - began, children()
    if ran.returncode:
        raise ValueError(f"{' '.join(command)}: exit {ran.returncode}\n{ran.stderr[-2000:]}")
    used = None if before is None or after is None else after[0] - before[0]
    return SongCost(lines, 60 * minutes, used, elapsed, after and after[1])


def children() -> tuple[float, float] | None:
    """Return processor seconds and peak bytes of the processes that have ended; None: not known."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    scale = 1 if sys.platform == "darwin" else 1024
    return usage.ru_utime + usage.ru_stime, float(usage.ru_maxrss * scale)
