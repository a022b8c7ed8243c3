"""Damaged inputs, kills and full disks against the program's own main(); prints one table.

    python -m tests.campaigns.campaign --seed 1 --minutes 10
    python -m tests.campaigns.campaign --seed 1 --minutes 90 --inputs 2000 --kills 150
    make campaign SEED=1 MINUTES=10

Every input is read by the command line that a user would call, in a fork with 4 GiB of memory and
60 s of processor time. It must be accepted, or refused with a message that names the file, and
nothing may be written but below --out. Trainings, preparations and renderings are killed at random
moments and started again: what is there must be whole, and what is finished equal to an
uninterrupted one, bit for bit. The exit code is 1 where anything was lost or leaked a traceback.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402
from campaigns.children import Child, preload  # noqa: E402
from campaigns.kills import Killed, killed_jobs  # noqa: E402
from campaigns.targets import SILENT, Target, targets, without_pictures  # noqa: E402

MEMORY = 4 << 30  # bytes
OUTCOMES = ("tried", "survived", "refused", "unnamed", "tracebacks", "hangs", "allocations", "lost")
BAD = OUTCOMES[3:]
PICTURED = 0.15  # share of the inputs whose pictures are drawn: they take most of the time
KEPT_FAULTS = ROOT.parent / "shared" / "cases" / "faults"  # a folder of inputs that once failed


@dataclass
class Row:
    """The outcomes of one kind of input or of kill."""

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    slowest: float = 0.0  # s of processor time
    largest: int = 0  # bytes

    def add(self, outcome: str, example: str = "") -> None:
        """Count one outcome."""
        self.counts["tried"] += 1
        self.counts[outcome] += 1
        if outcome in BAD:
            print(f"{self.name}: {outcome}: {example}", file=sys.stderr, flush=True)
            self.examples += [f"{outcome}: {example}"] if len(self.examples) < 5 else []


def fuzz(target: Target, work: Path, chance: random.Random, row: Row, keep: Path) -> None:
    """Damage one sound input, read it, and judge what came of it."""
    seed = chance.choice(list(target.seeds))
    path = work / "place" / f"input-{row.counts['tried']:05d}{seed.suffix}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(target.damage(seed.read_bytes(), chance))
    outcome = judge(target, path, row, has_pictures=chance.random() < PICTURED)
    if outcome in BAD:
        keep.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, keep / f"{target.name.replace(' ', '-')}-{path.name}")
    path.unlink()


def judge(target: Target, path: Path, row: Row, has_pictures: bool = True) -> str:
    """Read one input by the program's own main(), count and return what came of it."""

    def read() -> int:
        if not has_pictures:
            without_pictures()
        return target.main(path, out)

    place = path.parent
    out = place / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    log = place.parent / "log.txt"
    ended = Child(read, log, memory=MEMORY).wait()
    row.slowest, row.largest = max(row.slowest, ended.seconds), max(row.largest, ended.peak)
    lines = ended.said.strip().splitlines() or [""]
    strays = sorted(p.name for p in place.iterdir() if p not in (path, out))
    outcome, example = "refused", lines[-1]
    if ended.hung:
        outcome = "hangs"
    elif "Traceback" in ended.said or ended.signal is not None:
        outcome = "tracebacks"
    elif ended.peak > MEMORY or "not enough memory" in ended.said:
        outcome = "allocations"
    elif silent := [line for line in lines if SILENT in line]:
        outcome, example = "lost", silent[0]
    elif strays:
        outcome, example = "lost", f"written outside of --out, or left over: {', '.join(strays)}"
    elif ended.code == 0:
        outcome = "survived"
    elif (target.named or path.name) not in ended.said:
        outcome = "unnamed"
    for name in strays:
        shutil.rmtree(place / name) if (place / name).is_dir() else (place / name).unlink()
    row.add(outcome, f"{path.name} {example[:240]}")
    return outcome


def judge_kept(kinds: Sequence[Target], work: Path, folder: Path, row: Row) -> None:
    """Read inputs that once failed; their names begin with the kind that reads them."""
    by_name = {kind.name: kind for kind in kinds}
    names = sorted(by_name, key=len, reverse=True)
    for source in sorted(folder.iterdir()):
        kind = next((name for name in names if source.name.startswith(f"{name}-")), None)
        if kind is None:
            row.add("lost", f"{source.name}: no kind of this name reads it")
            continue
        path = work / "place" / source.name
        path.parent.mkdir(exist_ok=True)
        shutil.copy(source, path)
        judge(by_name[kind], path, row)
        path.unlink()


def table(rows: Sequence[Row]) -> str:
    """Return the outcomes as a table, what went wrong below it."""
    heads = (*OUTCOMES, "slowest, s", "most MiB")
    lines = [f"{'':22}" + "".join(f"{name:>12}" for name in heads)]
    total = Row("all")
    for row in rows:
        total.counts.update(row.counts)
        total.slowest = max(total.slowest, row.slowest)
        total.largest = max(total.largest, row.largest)
    for row in (*rows, total):
        cells = [*(row.counts[name] for name in OUTCOMES), f"{row.slowest:.1f}"]
        cells.append(row.largest >> 20)
        lines.append(f"{row.name:22}" + "".join(f"{cell:>12}" for cell in cells))
    lines += [f"  {row.name}: {example}" for row in rows for example in row.examples]
    return "\n".join(lines)


def run_campaign(
    seed: int,
    minutes: float,
    work: Path,
    inputs: int | None = None,
    kills: int | None = None,
    kept: Path = KEPT_FAULTS,
    jobs: tuple[str, ...] = (),
) -> list[Row]:
    """Fuzz for half of the time and kill for the other, or so many inputs and kills in all of it.

    kept: a folder of inputs that once failed; jobs: those that are killed, by name (empty: all).
    """
    torch.set_num_threads(1)
    preload()
    chance, began = random.Random(seed), time.monotonic()
    kinds = targets(work)
    rows = [Row(kind.name) for kind in kinds]
    order = [n for turn in range(3) for n, kind in enumerate(kinds) if kind.weight > turn]
    done = 0
    while time.monotonic() < began + 30 * minutes * (1 if inputs is None else 2):
        if inputs is not None and done >= inputs:
            break
        number = order[done % len(order)]
        fuzz(kinds[number], work, chance, rows[number], work / "kept")
        done += 1
    if kept.is_dir() and inputs != 0:
        rows.append(Row("kept faults"))
        judge_kept(kinds, work, kept, rows[-1])
    return rows if kills == 0 else rows + kill(chance, work, began + 60 * minutes, kills, jobs)


def kill(
    chance: random.Random, work: Path, stop: float, kills: int | None, names: tuple[str, ...]
) -> list[Row]:
    """Kill jobs of every kind in turn until `stop`, or so many times in all."""
    rows: dict[str, Row] = {}
    full = Row("full disk")

    def tried() -> int:
        return sum(row.counts["killed"] for row in rows.values())

    jobs: list[Killed] = []
    for job in killed_jobs(work, names):
        jobs.append(job)
        rows[job.name] = Row(f"kill {job.name}")
    for job in jobs:
        job.full_disk(full, 40_000)
    turn = 0
    while jobs and time.monotonic() < stop and (kills is None or tried() < kills):
        job = jobs[turn % len(jobs)]
        left = 8 if kills is None else kills - tried()
        job.round(chance, rows[job.name], min(left, 8))
        turn += 1
    return [*rows.values(), full]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a campaign from the shell; return 1 where anything was lost or leaked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument(
        "--inputs", type=int, help="damaged inputs, at most (default: half of --minutes)"
    )
    parser.add_argument("--kills", type=int, help="kills, at most (default: the other half)")
    parser.add_argument("--work", type=Path, help="folder for inputs that failed (default: none)")
    options = parser.parse_args(argv)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counts = options.inputs, options.kills
        rows = run_campaign(options.seed, options.minutes, Path(folder), *counts)
        if options.work and (Path(folder) / "kept").is_dir():
            shutil.copytree(Path(folder) / "kept", options.work, dirs_exist_ok=True)
    print(f"seed {options.seed}, {(time.monotonic() - began) / 60:.1f} minutes")
    print(table(rows))
    return int(any(row.counts[name] for row in rows for name in BAD))


if __name__ == "__main__":
    sys.exit(main())
