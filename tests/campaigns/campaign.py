"""Damaged inputs, kills and full disks against the program's own main(); prints one table.

    python -m tests.campaigns.campaign --seed 1 --minutes 10
    make campaign SEED=1 MINUTES=10

Every input is read by the command line that a user would call, in a fork with 4 GiB of memory and
60 s of processor time. It must be accepted, or refused with a message that names the file.
Trainings are killed at random moments and resumed: all checkpoints must be readable, the finished
run equal to an uninterrupted one, bit for bit. The exit code is 1 where anything was lost or leaked
a traceback.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402
from campaigns.children import Child  # noqa: E402
from campaigns.mutations import damaged  # noqa: E402

MEMORY = 4 << 30  # bytes
SPOKEN = ("the wind blows", "hello again", "sing it once more", "we are late", "come home now")
OUTCOMES = ("tried", "survived", "refused", "unnamed", "tracebacks", "hangs", "allocations", "lost")
BAD = OUTCOMES[4:]


@dataclass
class Row:
    """The outcomes of one kind of input or of kill."""

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, outcome: str, example: str = "") -> None:
        """Count one outcome."""
        self.counts["tried"] += 1
        self.counts[outcome] += 1
        if outcome in BAD and len(self.examples) < 5:
            self.examples.append(f"{outcome}: {example}")


@dataclass(frozen=True)
class Target:
    """A kind of input: sound files, and the command line that reads one."""

    name: str
    seeds: Sequence[Path]
    is_text: bool
    main: Callable[[Path, Path], int]  # damaged file, folder for the output


def fuzz(target: Target, work: Path, chance: random.Random, row: Row, keep: Path) -> None:
    """Read one damaged input and judge what came of it."""
    seed = chance.choice(list(target.seeds))
    path = work / f"input-{row.counts['tried']:05d}{seed.suffix}"
    path.write_bytes(damaged(seed.read_bytes(), chance, target.is_text))
    out = work / "out"
    shutil.rmtree(out, ignore_errors=True)
    ended = Child(lambda: target.main(path, out), work / "log.txt", memory=MEMORY).wait()
    last = (ended.said.strip().splitlines() or [""])[-1][:200]
    outcome = "refused"
    if ended.hung:
        outcome = "hangs"
    elif "Traceback" in ended.said or ended.signal is not None:
        outcome = "tracebacks"
    elif ended.peak > MEMORY or "not enough memory" in ended.said:
        outcome = "allocations"
    elif ended.code == 0:
        outcome = "survived"
    elif path.name not in ended.said:
        outcome = "unnamed"
    row.add(outcome, f"{path.name} {last}")
    if outcome in BAD or outcome == "unnamed":
        keep.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, keep / f"{target.name}-{path.name}")
    path.unlink()


def targets(work: Path) -> list[Target]:
    """Make sound inputs of every kind below `work`, and tiny networks to read them with."""
    import numpy as np
    import soundfile
    import tiny_chain
    from tiny import TINY

    import prepare_data
    import synthesis
    from music.midi import write_midi
    from music.notation import read_notation
    from utils import config

    config.presets()["tiny"] = TINY
    weights = work / "weights"
    weights.mkdir()
    torch.manual_seed(0)
    transformer = tiny_chain.build_transformer(TINY, len(tiny_chain.SYMBOLS))
    with torch.no_grad():
        transformer.to_stop.bias.fill_(20.0)  # ends at once
    save = tiny_chain.save
    save(weights / "singer.pt", "transformer", transformer, TINY, pitch_range=[50, 74])
    save(weights / "postnet.pt", "postnet", tiny_chain.build_postnet(TINY), TINY)
    tones = 0.3 * np.sin(np.arange(16000) * 0.1)
    sounds = [work / f"tone{suffix}" for suffix in (".wav", ".flac", ".ogg", ".mp3")]
    for path in sounds:
        soundfile.write(path, tones, 16000)
    songs = sorted((ROOT / "examples" / "songs").glob("*.song"))[:3]
    midi = [work / f"{song.stem}.mid" for song in songs]
    for song, path in zip(songs, midi, strict=True):
        write_midi(read_notation(song).melody, path)
    score = work / "score.musicxml"
    score.write_text(SCORE)
    settings = work / "settings.yaml"
    settings.write_text(config.to_yaml(TINY))
    corpus = speech_corpus(work / "speech", 5)
    quick = ["--postnet", weights / "postnet.pt", "--device", "cpu", "--set"]
    quick += ["synthesis.griffin_lim_iterations=2"]
    voice = ["--checkpoint", weights / "singer.pt"]

    def sing(*flags: object) -> int:
        return synthesis.main([str(flag) for flag in (*quick, *flags)])

    def prepare(path: Path, out: Path) -> int:
        flags = ["--preset", "tiny", "--config", path, "--name", "x", "--workers", "0"]
        flags += ["--feature-dir", out]
        return prepare_data.main([str(f) for f in ("ljspeech", corpus, *flags)])

    def over(path: Path, out: Path) -> int:
        words = ("--lyrics", "hello", "--melody", "none", "--inpainter", "none")
        return sing(*voice, "--accompaniment", path, *words, "--out", out)

    def tune(path: Path, out: Path) -> int:
        return sing(*voice, "--melody", path, "--out", out)

    def words(path: Path, out: Path) -> int:
        return sing(*voice, "--lyrics", path, "--out", out)

    def lexicon(path: Path, out: Path) -> int:
        return sing(*voice, "--lyrics", "hello topliner", "--lexicon", path, "--out", out)

    def checkpoint(path: Path, out: Path) -> int:
        return sing("--checkpoint", path, "--lyrics", "hello", "--out", out)

    lyrics = [ROOT / "examples" / name for name in ("lyrics.txt", "lyrics.lrc")]
    return [
        Target("accompaniment", sounds, False, over),
        Target("midi", midi, False, tune),
        Target("musicxml", [score], True, tune),
        Target("song", songs, True, tune),
        Target("lyrics", lyrics, True, words),
        Target("lexicon", [ROOT / "examples" / "lexicon.txt"], True, lexicon),
        Target("config", [settings], True, prepare),
        Target("checkpoint", [weights / "singer.pt"], False, checkpoint),
    ]


def speech_corpus(directory: Path, count: int) -> Path:
    """Write a corpus in the layout of LJ Speech."""
    import numpy as np
    import soundfile

    (directory / "wavs").mkdir(parents=True)
    rows = []
    for number in range(count):
        random_ = np.random.default_rng(number)
        length = 12000 + 700 * (number % 5)
        tone = 0.4 * np.sin(np.cumsum(random_.uniform(0.03, 0.12, length)))
        fade = 0.3 + 0.7 * np.sin(np.arange(length) / 1500) ** 2
        soundfile.write(directory / "wavs" / f"item-{number:03d}.wav", tone * fade, 16000)
        line = SPOKEN[number % len(SPOKEN)]
        rows.append(f"item-{number:03d}|{line}|{line}\n")
    (directory / "metadata.csv").write_text("".join(rows))
    return directory


SCORE = """<score-partwise version="3.1"><part-list><score-part id="P1"><part-name>Voice</part-name>
</score-part></part-list><part id="P1"><measure number="1"><attributes><divisions>2</divisions>
<time><beats>4</beats><beat-type>4</beat-type></time></attributes><sound tempo="96"/>
<note><pitch><step>C</step><octave>4</octave></pitch><duration>2</duration><lyric number="1">
<syllabic>begin</syllabic><text>hel</text></lyric></note><note><pitch><step>D</step><alter>1</alter>
<octave>4</octave></pitch><duration>2</duration><lyric number="1"><syllabic>end</syllabic>
<text>lo</text></lyric></note><backup><duration>2</duration></backup><forward><duration>4</duration>
</forward><barline location="right"><repeat direction="backward" times="2"/></barline></measure>
</part></score-partwise>
"""


# ---------------------------------------------------------------------------- kills


class Trainings:
    """A tiny training, once without interruption, and rounds of kills to compare with it."""

    def __init__(self, work: Path, steps: int = 8) -> None:
        from tiny import TINY

        import prepare_data
        from utils import config

        config.presets()["tiny"] = TINY
        self.work, self.log = work, work / "training.txt"
        corpus, feature = speech_corpus(work / "corpus", 14), work / "feature"
        shares = ("--validation-share", "0.25", "--test-share", "0.12", "--preset", "tiny")
        flags = ("--name", "x", "--feature-dir", str(feature), "--workers", "0", *shares)
        self._must(lambda: prepare_data.main(["ljspeech", str(corpus), *flags]))
        knobs: dict[str, float] = {
            "save_every": 1,
            "keep_every": 2,
            "validate_every": 4,
            "log_every": 1,
        }
        knobs |= {"ema_decay": 0.9, "batch_frames": 200}
        self.flags = ["--data", "x", "--preset", "tiny", "--run", "r", "--device", "cpu"]
        self.flags += ["--feature-dir", str(feature), "--steps", str(steps)]
        self.flags += [p for k, v in knobs.items() for p in ("--set", f"postnet_training.{k}={v}")]
        began = time.monotonic()
        self._must(lambda: self.train(work / "whole"))
        self.seconds = time.monotonic() - began

    def train(self, save: Path) -> int:
        """Train, or resume, below `save`."""
        import train_postnet

        return train_postnet.main([*self.flags, "--save-dir", str(save)])

    def _must(self, work: Callable[[], int]) -> None:
        ended = Child(work, self.log).wait()
        assert ended.code == 0, ended.said

    def round(self, chance: random.Random, row: Row, most: int) -> None:
        """Kill and resume up to `most` times, finish, and compare with the whole run."""
        save = self.work / "broken"
        shutil.rmtree(save, ignore_errors=True)
        run, kills = save / "postnet" / "r", 0
        while kills < most:
            child = Child(lambda: self.train(save), self.log)
            number = chance.choice((signal.SIGKILL,) * 4 + (signal.SIGTERM, signal.SIGINT))
            self._wait_for_moment(child, run, chance)
            child.send(number)
            ended = child.wait()
            if ended.code == 0:
                break
            kills += 1
            if "Traceback" in ended.said:
                row.add("tracebacks", f"{number.name}: {ended.said.strip().splitlines()[-1]}")
            else:
                row.add(*self._state_of(run))
        ended = Child(lambda: self.train(save), self.log).wait()
        if ended.code != 0:
            row.add("lost", f"cannot be resumed: {ended.said.strip().splitlines()[-1:]}")
        for fault in self.differences(run):
            row.add("lost", fault)

    def _wait_for_moment(self, child: Child, run: Path, chance: random.Random) -> None:
        """Wait for a random time, or until a file is being written."""
        stop = time.monotonic() + chance.uniform(0.0, 1.2 * self.seconds)
        if chance.random() < 0.5:
            stop, wanted = time.monotonic() + 60, chance.choice((".last.pt.*", ".step-*", ".best*"))
            pause = chance.choice((0.0, 0.0005, 0.002))
            while child.runs() and time.monotonic() < stop:
                if next(run.glob(f"{wanted}.tmp"), None):
                    time.sleep(pause)
                    return
                time.sleep(0.0002)
        while child.runs() and time.monotonic() < stop:
            time.sleep(0.002)

    @staticmethod
    def _state_of(run: Path) -> tuple[str, str]:
        """Read every checkpoint that a killed run left."""
        from utils import checkpoint

        for path in run.glob("*.pt"):
            try:
                checkpoint.load(path, "postnet")
            except ValueError as error:
                return "lost", str(error)
        return "survived", ""

    def differences(self, run: Path) -> Iterator[str]:
        """Compare all checkpoints with those of the whole run, times excepted."""
        from training.experiment import equal
        from utils import checkpoint

        whole = self.work / "whole" / "postnet" / "r"
        for name in sorted({p.name for p in (*run.glob("*.pt"), *whole.glob("*.pt"))}):
            if not ((run / name).is_file() and (whole / name).is_file()):
                yield f"{name} is missing in one"
                continue
            one, two = (checkpoint.load(place / name) for place in (run, whole))
            for state in (one, two):
                for timed in ("seconds", "meter"):
                    state["progress"].pop(timed)
            if not equal(one, two):
                yield f"{name} differs"
        if list(run.glob(".*.tmp")):
            yield "a temporary file is left"

    def full_disk(self, row: Row, limit: int) -> None:
        """Train where no file may be larger than `limit` bytes, then with room again."""
        save = self.work / "full"
        shutil.rmtree(save, ignore_errors=True)
        ended = Child(lambda: self.train(save), self.log, file_size=limit).wait()
        if "Traceback" in ended.said:
            row.add("tracebacks", ended.said.strip().splitlines()[-1])
        elif ended.code == 0:
            row.add("survived")
        else:
            row.add("refused")
        ended = Child(lambda: self.train(save), self.log).wait()
        for fault in self.differences(save / "postnet" / "r") if ended.code == 0 else [ended.said]:
            row.add("lost", fault)


# ---------------------------------------------------------------------------- all of it


def table(rows: Sequence[Row]) -> str:
    """Return the outcomes as a table, what went wrong below it."""
    lines = [f"{'':16}" + "".join(f"{name:>12}" for name in OUTCOMES)]
    for row in rows:
        lines.append(f"{row.name:16}" + "".join(f"{row.counts[name]:>12}" for name in OUTCOMES))
    lines += [f"  {row.name}: {example}" for row in rows for example in row.examples]
    return "\n".join(lines)


def run_campaign(
    seed: int, minutes: float, work: Path, inputs: int | None = None, kills: int | None = None
) -> list[Row]:
    """Fuzz for half of the time and kill for the other, or so many inputs and kills."""
    torch.set_num_threads(1)
    chance, stop = random.Random(seed), time.monotonic() + 60 * minutes
    half = time.monotonic() + 30 * minutes
    kinds = targets(work)
    rows = [Row(kind.name) for kind in kinds]
    done = 0
    while time.monotonic() < half if inputs is None else done < inputs:
        kind, row = kinds[done % len(kinds)], rows[done % len(kinds)]
        fuzz(kind, work, chance, row, work / "kept")
        done += 1
    trainings, killed, full = Trainings(work), Row("kills"), Row("full disk")
    for limit in (40_000, 200_000) if kills is None else (40_000,):
        trainings.full_disk(full, limit)
    while time.monotonic() < stop if kills is None else killed.counts["tried"] < kills:
        left = 12 if kills is None else kills - killed.counts["tried"]
        trainings.round(chance, killed, min(left, 12))
    return [*rows, killed, full]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a campaign from the shell; return 1 where anything was lost or leaked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--work", type=Path, help="folder for inputs that failed (default: none)")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        rows = run_campaign(options.seed, options.minutes, Path(folder))
        if options.work and (Path(folder) / "kept").is_dir():
            shutil.copytree(Path(folder) / "kept", options.work, dirs_exist_ok=True)
    print(f"seed {options.seed}, {options.minutes:g} minutes")
    print(table(rows))
    return int(any(row.counts[name] for row in rows for name in BAD))


if __name__ == "__main__":
    sys.exit(main())
