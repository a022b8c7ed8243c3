"""Jobs that are killed at random moments and started again: trainings, preparations, renderings.

A job is done once without interruption. A round kills it several times, looks at what every kill
has left, lets it finish, and compares with the whole one, bit for bit.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import tiny_corpora
from campaigns import sources
from campaigns.children import Child
from campaigns.targets import differences, without_pictures
from tiny import TINY_FLAGS

import prepare_data
import synthesis
import train_inpainter
import train_postnet
import train_transcriber
import train_transformer
from training.experiment import equal
from utils import checkpoint

SIGNALS = (signal.SIGKILL,) * 4 + (signal.SIGTERM, signal.SIGINT)
TIMED = ("seconds", "meter")  # of a checkpoint's progress
TRAININGS = {
    "transformer": train_transformer,
    "postnet": train_postnet,
    "inpainter": train_inpainter,
    "transcriber": train_transcriber,
}


class Tally(Protocol):
    """Where outcomes are counted."""

    counts: Counter[str]

    def add(self, outcome: str, example: str = "") -> None:
        """Count one outcome."""


class Killed(ABC):
    """A job that can be killed: how it is started, and what must be there afterwards."""

    def __init__(self, name: str, work: Path) -> None:
        self.name, self.work, self.log = name, work / name, work / f"{name}.log"
        self.work.mkdir()
        self.whole, self.broken = self.work / "whole", self.work / "broken"
        self.lay_out(self.whole)
        began = time.monotonic()
        self.must(lambda: self.start(self.whole))
        self.seconds = time.monotonic() - began

    @abstractmethod
    def start(self, place: Path) -> int:
        """Do the job below `place`, or go on with it; return the exit code."""

    @abstractmethod
    def written(self, place: Path) -> Iterator[Path]:
        """Yield the temporary files and folders that are being written now."""

    @abstractmethod
    def faults(self, place: Path) -> Iterator[str]:
        """Say what of a killed job is damaged."""

    @abstractmethod
    def differences(self, place: Path) -> Iterator[str]:
        """Say what of a finished job differs from the whole one."""

    def lay_out(self, place: Path) -> None:  # noqa: B027
        """Copy what the job needs below `place`."""

    def before(self, place: Path) -> None:
        """Lay out what is there before a round."""
        shutil.rmtree(place, ignore_errors=True)
        self.lay_out(place)

    def must(self, work: Callable[[], int]) -> None:
        """Run what must succeed."""
        ended = Child(work, self.log).wait()
        assert ended.code == 0, ended.said

    def round(self, chance: random.Random, row: Tally, most: int) -> None:
        """Kill up to `most` times, finish, and compare with the whole job."""
        self.before(self.broken)
        for _ in range(chance.randint(1, most)):
            child = Child(lambda: self.start(self.broken), self.log)
            number = chance.choice(SIGNALS)
            self._wait_for_moment(child, chance)
            child.send(number)
            ended = child.wait()
            if ended.code == 0:
                break  # it was done before
            row.counts["killed"] += 1
            found = [f"{number.name}: {fault}" for fault in self.faults(self.broken)]
            if "Traceback" in ended.said:
                row.add("tracebacks", f"{number.name}: {ended.said.strip().splitlines()[-1]}")
            elif ended.hung:
                row.add("hangs", number.name)
            else:
                row.add("lost" if found else "survived", "; ".join(found))
        ended = Child(lambda: self.start(self.broken), self.log).wait()
        if ended.code != 0:
            row.add("lost", f"cannot be resumed: {ended.said.strip().splitlines()[-1:]}")
            return
        row.counts["resumed"] += 1
        for fault in self.differences(self.broken):
            row.add("lost", fault)

    def _wait_for_moment(self, child: Child, chance: random.Random) -> None:
        """Wait for a random time, or until a file is being written."""
        stop = time.monotonic() + chance.uniform(0.0, 0.9 * self.seconds)
        if chance.random() < 0.5:
            skip, pause = chance.randrange(4), chance.choice((0.0, 0.0005, 0.002))
            stop, seen = time.monotonic() + 60, None
            while child.runs() and time.monotonic() < stop:
                there = next(self.written(self.broken), None)
                if there is not None and there != seen:
                    skip -= 1
                    if skip < 0:
                        time.sleep(pause)
                        return
                seen = there
                time.sleep(0.0002)
        while child.runs() and time.monotonic() < stop:
            time.sleep(0.002)

    def full_disk(self, row: Tally, limit: int) -> None:
        """Do the job where no file may be larger than `limit` bytes, then with room again."""
        place = self.work / "full"
        self.before(place)
        ended = Child(lambda: self.start(place), self.log, file_size=limit).wait()
        found = list(self.faults(place))
        if "Traceback" in ended.said:
            row.add("tracebacks", f"{self.name}: {ended.said.strip().splitlines()[-1]}")
        elif found:
            row.add("lost", f"{self.name}: {'; '.join(found)}")
        else:
            row.add("survived" if ended.code == 0 else "refused")
        ended = Child(lambda: self.start(place), self.log).wait()
        for fault in self.differences(place) if ended.code == 0 else [ended.said]:
            row.add("lost", f"{self.name}: {fault}")
        shutil.rmtree(place)


class Training(Killed):
    """A tiny training."""

    def __init__(self, kind: str, work: Path, feature: Path, steps: int = 6) -> None:
        knobs = {"save_every": 1, "keep_every": 2, "validate_every": 3, "log_every": 1}
        knobs |= {"ema_decay": 0.9}
        data = "s" if kind in ("inpainter", "transcriber") else "x"
        self.kind = kind
        self.flags = ["--data", data, *TINY_FLAGS, "--run", "r", "--device", "cpu"]
        self.flags += ["--feature-dir", str(feature), "--steps", str(steps)]
        self.flags += [p for k, v in knobs.items() for p in ("--set", f"{kind}_training.{k}={v}")]
        self.flags += ["--set", "synthesis.griffin_lim_iterations=1"]
        self.flags += ["--set", "transformer.free_running_phrases=1"]
        self.flags += ["--set", "inpainting.num_steps=2"]
        super().__init__(kind, work)

    def start(self, place: Path) -> int:
        without_pictures()
        return TRAININGS[self.kind].main([*self.flags, "--save-dir", str(place)])

    def run(self, place: Path) -> Path:
        """Return the folder of the run."""
        return place / self.kind / "r"

    def written(self, place: Path) -> Iterator[Path]:
        return self.run(place).glob(".*.pt.*.tmp")

    def faults(self, place: Path) -> Iterator[str]:
        for path in self.run(place).glob("*.pt"):
            try:
                checkpoint.load(path, self.kind)
            except ValueError as error:
                yield str(error)

    def differences(self, place: Path) -> Iterator[str]:
        run, whole = self.run(place), self.run(self.whole)
        for name in sorted({p.name for p in (*run.glob("*.pt"), *whole.glob("*.pt"))}):
            if not ((run / name).is_file() and (whole / name).is_file()):
                yield f"{name} is missing in one"
                continue
            one, two = (self._state(folder / name) for folder in (run, whole))
            if not equal(one, two):
                yield f"{name} differs in {', '.join(k for k in one if not equal(one[k], two[k]))}"
        if list(run.glob(".*.tmp")):
            yield "a temporary file is left"

    @staticmethod
    def _state(path: Path) -> dict[str, Any]:
        state = checkpoint.load(path)
        for timed in TIMED:
            state["progress"].pop(timed)
        return state


class Preparation(Killed):
    """A corpus that is prepared."""

    def __init__(self, command: str, work: Path, corpus: Path, speech: Path | None = None) -> None:
        self.command, self.corpus, self.speech = command, corpus, speech
        super().__init__(f"prepare {command}", work)

    def lay_out(self, place: Path) -> None:
        if self.speech is not None:
            shutil.copytree(self.speech, place / "x")

    def start(self, place: Path) -> int:
        if self.speech is None:
            return sources.prepare(self.command, self.corpus, place, "x")
        where = ["--feature-dir", str(place), "--workers", "0"]
        return prepare_data.main([self.command, "x", str(self.corpus), *where])

    def written(self, place: Path) -> Iterator[Path]:
        yield from (place / "x").glob("*/.*.tmp")
        yield from (place / "x").glob(".*.tmp")

    def faults(self, place: Path) -> Iterator[str]:
        """An array that is there has the content of the whole preparation's."""
        for path in (place / "x").glob("*/*.npy"):
            if path.read_bytes() != (self.whole / path.relative_to(place)).read_bytes():
                yield f"{path.name} is damaged"

    def differences(self, place: Path) -> Iterator[str]:
        yield from differences(place / "x", self.whole / "x")


class Rendering(Killed):
    """A song that is rendered over an older result: the folder is of one making, or unmarked."""

    def __init__(self, work: Path) -> None:
        weights = sources.build_weights(work / "killed-weights")
        backing = sources.write_sounds(work, "backing", 1.2)[0]
        flags: list[object] = ["--checkpoint", weights / "singer.pt", "--melody", "none"]
        flags += ["--postnet", weights / "postnet.pt", "--inpainter", weights / "inpainter.pt"]
        flags += ["--device", "cpu", "--accompaniment", backing, "--lyrics", "hello", "--steps", 2]
        self.flags = [*map(str, flags), "--set", "synthesis.griffin_lim_iterations=2"]
        self.older = work / "older"
        code = Child(lambda: self._sing(self.older, "1"), work / "older.log").wait()
        assert code.code == 0, code.said
        super().__init__("synthesis", work)

    def _sing(self, out: Path, seed: str) -> int:
        return synthesis.main([*self.flags, "--seed", seed, "--out", str(out)])

    def start(self, place: Path) -> int:
        return self._sing(place / "song", "2")

    def before(self, place: Path) -> None:
        super().before(place)
        shutil.copytree(self.older, place / "song")
        (place / "song" / "notes.txt").write_text("not ours")

    def written(self, place: Path) -> Iterator[Path]:
        for stage in place.glob(".song.*.tmp"):
            yield from stage.iterdir()

    def faults(self, place: Path) -> Iterator[str]:
        """With a report all files are of one making; without, they are of the one or the other."""
        song = place / "song"
        makings = [_contents(making) for making in (self.older, self.whole / "song")]
        found = _contents(song)
        if found.pop("notes.txt") != hashlib.sha256(b"not ours").hexdigest():
            yield "a file that is not of the rendering has changed"
        names = set(makings[0])
        if not all(found.get(name) in [m[name] for m in makings] for name in names - {"report"}):
            yield "a file is of neither making"
        elif (song / "report.json").is_file() and found not in makings:
            yield "old and new files beside one report"

    def differences(self, place: Path) -> Iterator[str]:
        one, two = _contents(place / "song"), _contents(self.whole / "song")
        one.pop("notes.txt", None)
        yield from (f"{name} differs" for name in {*one, *two} if one.get(name) != two.get(name))
        yield from (f"{path.name} is left" for path in place.glob(".song.*"))


def _contents(folder: Path) -> dict[str, str]:
    """Return the checksum of every file; of a report that of its seed, times apart."""
    found = {}
    for path in folder.iterdir():
        if path.name == "report.json":
            found["report"] = str(json.loads(path.read_text())["seed"])
        else:
            found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def killed_jobs(work: Path, kinds: tuple[str, ...] = ()) -> Iterator[Killed]:
    """Make all jobs, or those of these names."""
    work = work / "kills"
    work.mkdir()
    speech = sources.speech_corpus(work / "speech", 14)
    songs = tiny_corpora.stem_corpus(work / "songs", 8)
    feature = work / "feature"
    for command, corpus, name in (("ljspeech", speech, "x"), ("stems", songs, "s")):
        task = partial(sources.prepare, command, corpus, feature, name)
        made = Child(task, work / "log.txt")
        assert made.wait().code == 0, (work / "log.txt").read_text()
    tiny_corpora.add_scores(feature / "s")
    makers: dict[str, Callable[[], Killed]] = {
        "transformer": lambda: Training("transformer", work, feature),
        "prepare ljspeech": lambda: Preparation("ljspeech", work, speech),
        "synthesis": lambda: Rendering(work),
        "postnet": lambda: Training("postnet", work, feature),
        "inpainter": lambda: Training("inpainter", work, feature),
        "prepare stems": lambda: Preparation("stems", work, songs),
        "transcriber": lambda: Training("transcriber", work, feature),
    }
    if find_spec("pocketsphinx") is not None:
        makers["prepare align"] = lambda: Preparation("align", work, speech, feature / "x")
    for name, make in makers.items():
        if not kinds or name in kinds:
            yield make()
