"""What surrounds a run: its log (TensorBoard and stats.jsonl), its lock, signals, memory, measures.

Measures of steps are left on the device until they are read: a step does not wait for a GPU.
"""

from __future__ import annotations

import itertools
import json
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from utils.files import FolderLock, write_text

if TYPE_CHECKING:
    from training.experiment import Term
    from utils.distributed import World

STATS = "stats.jsonl"
DESCRIPTIONS = {  # of the scalars that every run logs
    "train/loss": "the loss that is minimised, mean since the last log",
    "train/learning_rate": "of the last step",
    "train/gradient_norm": "before clipping, mean since the last log",
    "train/seconds_per_step": "mean since the last log",
    "train/frames_per_second": "throughput, padding not counted",
    "train/windows_per_second": "throughput, where the batches are of windows",
    "train/memory_gib": "peak memory of the GPU, or of this process, GiB",
    "validation/score": "smaller is better; decides which checkpoint is `best`",
}
STOPPING = (signal.SIGINT, signal.SIGTERM)


@dataclass
class StepMeter:
    """Sums since the last log; plain values, so that a checkpoint carries them."""

    steps: int = 0
    seconds: float = 0.0
    frames: float = 0.0  # or windows
    loss: float = 0.0
    gradient_norm: float = 0.0
    totals: dict[str, float] = field(default_factory=dict)  # of each term of the loss
    counts: dict[str, float] = field(default_factory=dict)

    def add_term(self, name: str, total: float, count: float) -> None:
        """Add one batch's sum and count of a term."""
        self.totals[name] = self.totals.get(name, 0.0) + total
        self.counts[name] = self.counts.get(name, 0.0) + count

    def means(self, unit: str = "frames") -> dict[str, float]:
        """Return {train/loss, train/TERM, ...}: terms per element, the rest per step or second.

        unit: of throughput, frames or windows.
        """
        terms = {
            f"train/{name}": total / self.counts[name] if self.counts[name] else 0.0
            for name, total in self.totals.items()
        }
        return {
            "train/loss": self.loss / self.steps,
            **terms,
            "train/gradient_norm": self.gradient_norm / self.steps,
            "train/seconds_per_step": self.seconds / self.steps,
            f"train/{unit}_per_second": self.frames / max(self.seconds, 1e-9),
        }

    def state(self) -> dict[str, Any]:
        """Return plain values from which `StepMeter(**state)` continues."""
        return asdict(self)


class RunLock(FolderLock):
    """Holds a run's folder for this process; ValueError when another process has it."""

    def __init__(self, directory: Path) -> None:
        super().__init__(
            directory,
            f"{directory} is being trained by another process: wait for it, stop it, or begin "
            "another run with --run NAME",
        )


class RunLog:
    """Writes scalars of a run; a resumed run drops what came after its checkpoint.

    directory: the run's folder. step, lines: the step and the number of lines of stats.jsonl at
    the checkpoint that the run resumes from (0, 0 when it begins).
    """

    def __init__(self, directory: Path, step: int = 0, lines: int = 0) -> None:
        self.path = Path(directory) / STATS
        self.lines = _truncate(self.path, lines)
        self.writer = SummaryWriter(str(directory), purge_step=step + 1 if step else None)
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115, lives as long as the run
        self._terms: dict[str, set[str]] = {"train": set(), "validation": set()}
        self._charted: list[str] = []

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Append a line {step, time, name: value, ...}; what is not finite becomes null."""
        plain = {name: float(value) for name, value in scalars.items()}
        shown = {name: v if math.isfinite(v) else None for name, v in plain.items()}
        self._file.write(json.dumps({"step": step, "time": time.time(), **shown}) + "\n")
        self._file.flush()
        self.lines += 1
        for name, value in plain.items():
            self.writer.add_scalar(name, value, step)
            part, _, term = name.partition("/")
            if part in self._terms:
                self._terms[part].add(term)

    def describe(self, step: int, hyperparams: str, descriptions: Mapping[str, str]) -> None:
        """Write to TensorBoard, as text, the hyperparameters (YAML) and what the scalars mean."""
        indented = "".join(f"    {line}\n" for line in hyperparams.splitlines())
        self.writer.add_text("hyperparameters", indented, step)
        rows = (
            f"| {tag} | {text} |\n" for tag, text in (DESCRIPTIONS | dict(descriptions)).items()
        )
        self.writer.add_text("scalars", "| scalar | meaning |\n| - | - |\n" + "".join(rows), step)

    def chart_together(self) -> None:
        """Lay out TensorBoard's custom scalars: training and validation of a loss in one chart."""
        both = [n for n in sorted(self._terms["train"]) if n in self._terms["validation"]]
        if both and both != self._charted:
            self._charted = both
            charts = {n: ["Multiline", [f"train/{n}", f"validation/{n}"]] for n in both}
            self.writer.add_custom_scalars({"training and validation": charts})

    def close(self) -> None:
        """Flush both records."""
        self._file.close()
        self.writer.close()


def read_stats(path: Path) -> list[dict[str, float]]:
    """Read a stats.jsonl (or the run folder that holds it), one dict a line."""
    path = Path(path) / STATS if Path(path).is_dir() else Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a training run writes it")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def peak_memory(device: torch.device) -> float:
    """Return the peak memory in GiB: of the GPU, or of this process on another device.

    NaN where the system does not tell (Windows).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    try:
        import resource
    except ImportError:
        return math.nan
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def _truncate(path: Path, lines: int) -> int:
    """Keep the first `lines` lines of a file, atomically; return how many there are then."""
    if not path.exists():
        return 0
    kept = path.read_text(encoding="utf-8").splitlines()[:lines]
    write_text(path, "".join(line + "\n" for line in kept))
    return len(kept)


@contextmanager
def writers_raise_here() -> Iterator[None]:
    """Leave out the trace that a writer's thread prints of an OSError, such as a full disk.

    TensorBoard's writer raises the same error in this thread at its next call.
    """
    before = threading.excepthook

    def report(failed: threading.ExceptHookArgs) -> None:
        if not issubclass(failed.exc_type, OSError):
            before(failed)

    threading.excepthook = report
    try:
        yield
    finally:
        threading.excepthook = before


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
def deferred_signals() -> Iterator[Interruption]:
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


# ---------------------------------------------------------------------------- measures of steps


@dataclass(frozen=True)
class BatchMeasures:
    """Terms of one batch of a rank: totals, counts, divisors; its frames without padding."""

    names: list[str]
    weights: list[float]
    totals: list[Tensor | float]
    counts: list[Tensor | float]
    divisors: list[float | None]  # of the global batch; None: the term's own count
    frames: float


@dataclass(frozen=True)
class StepMeasures:
    """What one optimiser step measured; numbers when it was read, else scalars on the device."""

    step: int  # before the update
    ids: list[str]
    batches: list[BatchMeasures]
    norm: Tensor | float


@dataclass
class Ledger:
    """Measures of the steps since the last reading."""

    steps: list[StepMeasures] = field(default_factory=list)

    def read(self, world: World) -> list[StepMeasures]:
        """Return the steps with numbers, summed over the ranks, and forget them.

        One wait for the device and one exchange, however many steps there are.
        """
        steps, self.steps = self.steps, []
        flat = [
            value
            for step in steps
            for batch in step.batches
            for value in (*batch.totals, *batch.counts, batch.frames)
        ]
        on_device = [v for v in (*flat, *(s.norm for s in steps)) if isinstance(v, Tensor)]
        numbers = iter(_numbers(on_device))
        local = [next(numbers) if isinstance(v, Tensor) else float(v) for v in flat]
        norms = [next(numbers) if isinstance(s.norm, Tensor) else s.norm for s in steps]
        summed = iter(world.sum_numbers(local))

        def take(count: int) -> list[Tensor | float]:
            return list(itertools.islice(summed, count))

        return [
            StepMeasures(
                step.step,
                step.ids,
                [
                    BatchMeasures(
                        batch.names,
                        batch.weights,
                        take(len(batch.names)),
                        take(len(batch.names)),
                        batch.divisors,
                        next(summed),
                    )
                    for batch in step.batches
                ],
                norm,
            )
            for step, norm in zip(steps, norms, strict=True)
        ]


def _numbers(scalars: list[Tensor]) -> list[float]:
    """Read scalars with one wait per device, as float64 where it has that.

    What a loss counts may lie on the host while its total is on the device.
    """
    values = [0.0] * len(scalars)
    for device in {scalar.device for scalar in scalars}:
        places = [k for k, scalar in enumerate(scalars) if scalar.device == device]
        dtype = torch.float32 if device.type == "mps" else torch.float64
        read = torch.stack([scalars[k].detach().to(dtype) for k in places]).tolist()
        for place, value in zip(places, read, strict=True):
            values[place] = value
    return values


def measures_of(
    terms: Mapping[str, Term], divisors: Mapping[str, float] | None, frames: float
) -> BatchMeasures:
    """Collect what a batch's loss has measured, without a look at a value."""
    return BatchMeasures(
        list(terms),
        [term.weight for term in terms.values()],
        [term.total.detach() for term in terms.values()],
        [c.detach() if isinstance(c := term.count, Tensor) else c for term in terms.values()],
        [None if divisors is None else divisors[name] for name in terms],
        frames,
    )
