"""One training loop for every network, and the entry of the training scripts.

    def main(argv=None):
        return train(MyExperiment, __doc__, argv)

Order of a turn: log → validate + preview → checkpoint → done? → one step. The same command resumes
exactly: all randomness comes from (seed, step, batch), so an interrupted run ends with the weights
of an uninterrupted one, bit for bit on CPU.

A global batch is `accumulate` × `world.size` consecutive batches of one deterministic stream; the
i-th of them has the same randomness whichever process computes it. Two processes therefore train
like one that accumulates twice as many batches.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from hyperparams import Training
from training.batching import Fed, fed, workers_for
from training.experiment import Experiment, NonFiniteLoss, Term, compare, seeded_context
from training.optimizer import (
    Adversary,
    MovingAverage,
    RoundedWeights,
    build_optimizer,
    learning_rate,
    resume_optimizer,
)
from training.runlog import (
    BatchMeasures,
    Interruption,
    Ledger,
    RunLock,
    RunLog,
    StepMeasures,
    StepMeter,
    deferred_signals,
    measures_of,
    peak_memory,
    writers_raise_here,
)
from utils import checkpoint, config, distributed
from utils.config import run_parser
from utils.files import Unreadable, reading, sweep, write_text
from utils.flags import describe_device, sentence, take_step
from utils.scratch import trim
from utils.seeds import derived_seed

logger = logging.getLogger(__name__)

# Prepared products that oneDNN, and torch's layer above it, keep: 1024 of 0.3 MB each by default.
# Hardly two batches have one shape, so those of the batch at hand are the ones that come again.
KEPT_PRODUCTS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128", "LRU_CACHE_CAPACITY": "64"}

WEIGHTS_ONLY = {"optimizer": None, "discriminator": None}  # what a checkpoint to use does without


def train(
    experiment_class: type[Experiment[Any, Any]], description: str, argv: Sequence[str] | None
) -> int:
    """Train from the shell; return the exit code.

    What is wrong with the arguments, the corpus or a checkpoint (ValueError, FileNotFoundError
    before the first step) is said in one message, exit code 2; so are, later, a file that cannot be
    read or written and a loss that is not finite. Anything else is a fault with its trace.
    description: the script's docstring, see utils.config.run_parser.
    """
    for name, value in KEPT_PRODUCTS.items():
        os.environ.setdefault(name, value)  # read at the first product
    arguments = run_parser(description, experiment_class.add_arguments).parse_args(argv)
    for line in config.take_defaults(arguments):
        print(line)
    world, script = None, Path(sys.argv[0]).name
    try:
        try:
            take_step(arguments, "--start-from")
            world = distributed.start(arguments.device)
            trainer = _trainer_of(experiment_class, arguments, world)
        except (ValueError, OSError, MemoryError) as error:
            sys.stderr.write(f"{script}: {sentence(error)}\n")
            return 2
        except KeyboardInterrupt:
            sys.stderr.write(f"{script}: stopped before the first step; the same command begins\n")
            return 130
        try:
            with writers_raise_here():
                return trainer.run()
        except (OSError, NonFiniteLoss, Unreadable) as error:
            last = f"{trainer.last} is whole and " if trainer.last.is_file() else ""
            step = "" if isinstance(error, NonFiniteLoss) else f"step {trainer.step}: "
            sys.stderr.write(
                f"{script}: {step}{sentence(error)}. {last}the same command resumes when that is "
                "mended\n"
            )
            return 2
    finally:
        if world is not None:
            distributed.close(world)


def _trainer_of(
    experiment_class: type[Experiment[Any, Any]],
    arguments: argparse.Namespace,
    world: distributed.World,
) -> Trainer:
    """Build the experiment of the command line, in a trainer."""
    kind = experiment_class.kind
    hyperparams = config.from_arguments(arguments, config.presets(), f"{kind}_training")
    directory = checkpoint.run_directory(arguments.save_dir, kind, arguments.run)
    for line in config.differences(config.preset(arguments.preset), hyperparams):
        print(line)
    training = getattr(hyperparams, f"{kind}_training")
    workers, line = workers_for(training, world.device)
    if line and world.is_main:
        print(line)
    training = replace(training, batch_workers=workers)
    hyperparams = replace(hyperparams, **{f"{kind}_training": training})
    torch.manual_seed(training.seed)
    experiment = experiment_class.from_arguments(arguments, hyperparams, directory, world)
    if arguments.start_from is not None:
        own = experiment.corpus_buffers, experiment.growing
        for line in checkpoint.start_from(experiment.model, arguments.start_from, kind, *own):
            print(line)
    return Trainer(experiment, directory, world, fresh=arguments.fresh)


class Trainer:
    """Train the network of an experiment; see `run`.

    directory: save/KIND/RUN. world: from distributed.start.
    fresh: refuse a directory that holds a run.
    """

    def __init__(
        self,
        experiment: Experiment[Any, Any],
        directory: Path,
        world: distributed.World,
        *,
        fresh: bool = False,
    ) -> None:
        self.experiment, self.directory, self.world = experiment, Path(directory), world
        self.kind = experiment.kind
        self.training: Training = getattr(experiment.hyperparams, f"{self.kind}_training")
        self.step, self.position = 0, experiment.start
        self.best: dict[str, Any] | None = None  # {score, step}
        self.validated, self.saved = -1, -1  # the last steps at which it was done
        self.meter, self.ledger = StepMeter(), Ledger()
        self._stop_asked = False  # by a signal to some rank
        self.frames, self.seconds = 0.0, 0.0  # of the whole run
        self._began = time.monotonic(), 0  # and the step, of this process
        self.kept: list[int] = []  # validated steps whose weights stay, the newest last
        self.precision = ""  # float32 or bfloat16
        self._rounded_weights: RoundedWeights | None = None
        self.log: RunLog | None = None  # on the main rank
        self.model: nn.Module = experiment.model.to(world.device)
        self.optimizer = build_optimizer(self.model, self.training)
        self.adversary = (
            None
            if experiment.discriminator is None
            else Adversary(experiment.discriminator.to(world.device), self.training)
        )
        decay = self.training.ema_decay
        self.average = MovingAverage(self.model, decay) if decay else None
        self._lock = RunLock(self.directory) if world.is_main else None
        try:
            if world.is_main:
                sweep(self.directory)  # temporary files of a run that was killed
            lines = self._begin(fresh)
        except BaseException:
            self._release()
            raise
        if world.is_main:
            self.log = RunLog(self.directory, self.step, lines)
            text = config.to_yaml(experiment.hyperparams)
            self.log.describe(self.step, text, experiment.descriptions)
        self._shared_model: Any = self._share()

    @property
    def last(self) -> Path:
        """The checkpoint that a run resumes from."""
        return self.directory / checkpoint.LAST

    def run(self) -> int:
        """Train to the last step; return the exit code: 0, or 128 + signal when one stopped it."""
        self._began = time.monotonic(), self.step
        try:
            with deferred_signals() as interruption, logging_redirect_tqdm(), self._bar() as bar:
                stopped = self._turns(interruption, bar)
            self.world.barrier()  # no rank tears down its connections while another still works
        finally:
            self._release()
        if stopped:
            logger.info(
                "stopped by %s; %s is at step %d of %d: the same command resumes",
                interruption.name,
                self.last,
                self.step,
                self.training.steps,
            )
            return interruption.exit_code
        self._say_done()
        return 0

    def _turns(self, interruption: Interruption, bar: tqdm) -> bool:
        """Turn until the last step (False) or until a signal stops some rank (True)."""
        batches = fed(self._batches(), self.world.device)
        while True:
            done = self.step >= self.training.steps
            if self.world.size == 1:
                self._stop_asked = interruption.number is not None
            stopping = self._stop_asked and not done
            training = self.training
            every = (training.log_every, training.validate_every, training.save_every)
            if done or stopping or any(map(self._due, (*every, training.keep_every))):
                self._read()
            self._log(bar, due=done or self._due(self.training.log_every))
            if not stopping:
                self._validate(due=done or self._due(self.training.validate_every))
            self._save(due=done or stopping or self._due(self.training.save_every))
            if done or stopping:
                return stopping
            self._step(batches, interruption)
            bar.update()

    # One step. On a GPU it only queues work: nothing in it reads what the device computes, which
    # would wait until all that is queued was done. The ledger is read where a log is due.

    def _step(self, batches: Iterator[Fed], interruption: Interruption) -> None:
        """Take one optimiser step on one global batch."""
        began = time.perf_counter()
        self.model.train()
        optimizers = [self.optimizer]
        if self.adversary is not None:
            self.adversary.network.train()
            optimizers.append(self.adversary.optimizer)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(self.step, self.training)
            optimizer.zero_grad(set_to_none=True)
        micro_batches = [next(batches) for _ in range(self.training.accumulate)]
        divisors = self._exchange([batch.host for batch in micro_batches], interruption)
        ids = [item for batch in micro_batches for item in batch.host.ids]
        measures = []
        for index, batch in enumerate(micro_batches):
            self.position = batch.position
            last = index + 1 == len(micro_batches)
            alone = self.world.size == 1
            with nullcontext() if last or alone else self._shared_model.no_sync():
                measures.append(self._backward(batch, index, divisors))
        limit = self.training.clip_norm or math.inf
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        if self.adversary is not None:
            self.adversary.exchange(self.world)
            nn.utils.clip_grad_norm_(self.adversary.network.parameters(), limit)
        self.ledger.steps.append(StepMeasures(self.step, ids, measures, norm))
        if self.world.device.type == "cpu":  # nothing to wait for: a bad step does not happen
            self._account()
        for optimizer in optimizers:
            optimizer.step()
        self.step += 1
        if self.average is not None:
            self.average.update(self.model, self.step)
        self._add_seconds(began)

    def _backward(
        self, batch: Fed, index: int, divisors: Mapping[str, float] | None
    ) -> BatchMeasures:
        """Add the gradients of one batch; return its terms."""
        micro = index * self.world.size + self.world.rank  # its place in the global batch
        context = seeded_context(self.training.seed, self.step, micro, self.world.device)
        with self._autocast(), self._rounded():
            terms = self.experiment.loss(self._shared_model, batch.device, context)
        scales = self._scales(terms, divisors)
        parts = [term.total * scale for term, scale in zip(terms.values(), scales, strict=True)]
        # DistributedDataParallel averages gradients over the ranks; this loss is a sum over them.
        (sum(parts[1:], parts[0]) * self.world.size).backward()
        frames = getattr(batch.host, "num_frames", len(batch.host.ids))
        return measures_of(terms, divisors, float(frames))

    def _scales(
        self, terms: Mapping[str, Term], divisors: Mapping[str, float] | None
    ) -> list[float | Tensor]:
        """Return weight / divisor of each term; on the device where only the loss knows it."""
        if divisors is not None:
            return [
                term.weight / divisors[name] if divisors[name] else 0.0
                for name, term in terms.items()
            ]
        device = self.world.device
        dtype = torch.float32 if device.type == "mps" else torch.float64
        counts = [
            count.to(device, dtype)
            if isinstance(count := term.count, Tensor)
            else torch.full((), count, dtype=dtype, device=device)
            for term in terms.values()
        ]
        global_counts = self.world.sum(torch.stack(counts)) * self.training.accumulate
        return [
            torch.where(count > 0, term.weight / count, 0.0).to(term.total.dtype)
            for term, count in zip(terms.values(), global_counts, strict=True)
        ]

    def _exchange(self, batches: list[Any], interruption: Interruption) -> dict[str, float] | None:
        """Tell the ranks about each other's batches and signals, in one exchange of the hosts.

        Returns each term's count over the global batch; None when only the loss knows it.
        """
        counts = [c for c in map(self.experiment.counts, batches) if c is not None]
        names = list(counts[0]) if counts else []
        own = [sum(float(count[name]) for count in counts) for name in names]
        asked, *sums = self.world.sum_numbers([float(interruption.number is not None), *own])
        self._stop_asked = asked > 0
        return dict(zip(names, sums, strict=True)) if counts else None

    def _read(self) -> None:
        """Wait for the device and account for the steps since the last reading."""
        began = time.perf_counter()
        self._account()
        self._add_seconds(began)

    def _account(self) -> None:
        """Add what was measured to the meter; stop the run at a step that is not finite.

        Nothing is saved before this: `last` is from before such a step.
        """
        for step in self.ledger.read(self.world):
            for batch in step.batches:
                totals = dict(zip(batch.names, batch.totals, strict=True))
                if not all(map(math.isfinite, totals.values())):
                    self._refuse(totals, step)
            if not math.isfinite(step.norm):
                self._refuse({"gradient norm": float(step.norm)}, step)
            for batch in step.batches:
                self._add_batch(batch)
            self.meter.gradient_norm += float(step.norm)
            self.meter.steps += 1

    def _add_batch(self, batch: BatchMeasures) -> None:
        columns = (batch.names, batch.weights, batch.totals, batch.counts, batch.divisors)
        for name, weight, total, count, given in zip(*columns, strict=True):
            divisor = count * self.training.accumulate if given is None else given
            self.meter.loss += float(total * (weight / divisor if divisor else 0.0))
            self.meter.add_term(name, float(total), float(count))
        self.frames += batch.frames
        self.meter.frames += batch.frames

    def _add_seconds(self, began: float) -> None:
        elapsed = time.perf_counter() - began
        self.seconds += elapsed
        self.meter.seconds += elapsed

    def _refuse(self, values: Mapping[str, Any], step: StepMeasures) -> None:
        """Stop the run because of a loss or gradient that is not finite."""
        items = ", ".join(str(item) for part in self.world.gather(step.ids) for item in part)
        shown = ", ".join(f"{name} = {value}" for name, value in values.items())
        raise NonFiniteLoss(
            f"step {step.step}: {shown}; items: {items}. {self.last} is from before this step. "
            "Look at these items, or lower the learning rate or clip_norm"
        )

    # Log, validate, save

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _log(self, bar: tqdm, due: bool) -> None:
        """Write the means since the last log."""
        if not due or not self.meter.steps:
            return
        unit = self.experiment.unit
        means, self.meter = self.meter.means(unit), StepMeter()
        if self.log is None:
            return
        scalars = {
            **means,
            "train/learning_rate": self.optimizer.param_groups[0]["lr"],
            "train/memory_gib": peak_memory(self.world.device),
            **self.experiment.monitor(self.model),
        }
        self.log.write(self.step, scalars)
        rate = means[f"train/{unit}_per_second"]
        speed = f"loss {means['train/loss']:.4f}, {rate:,.{0 if rate >= 100 else 1}f} {unit}/s"
        bar.set_postfix_str(speed)
        if bar.disable:  # not a terminal: lines instead of a bar
            logger.info(
                "step %d of %d: %s, %s", self.step, self.training.steps, speed, self._progress()
            )

    def _progress(self) -> str:
        """Say how long this process has trained, and how long it will at this pace."""
        began, first = self._began
        elapsed, left = time.monotonic() - began, self.training.steps - self.step
        remaining = elapsed / max(self.step - first, 1) * left
        return f"{tqdm.format_interval(elapsed)} elapsed, {tqdm.format_interval(remaining)} to go"

    def _validate(self, due: bool) -> None:
        """Validate and preview on the main rank, with the weights that will be used."""
        if not due or self.validated == self.step:
            return
        self.validated = self.step
        if self.log is not None:
            self.model.eval()
            lent = self.average.applied(self.model) if self.average is not None else nullcontext()
            with lent, torch.no_grad(), self._autocast():
                metrics = self._seeded(self.experiment.validate, self.model)
                self._seeded(self.experiment.preview, self.model, self.log.writer, self.step)
            self.log.writer.flush()
            if metrics:
                self.log.write(self.step, {f"validation/{key}": v for key, v in metrics.items()})
                self.log.chart_together()
                shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
                logger.info("step %d: validation: %s", self.step, shown)
            self._keep_best(metrics.get("score", math.nan))
            self._keep_validated()
            trim()  # other sizes than those of a step leave holes behind
        self.world.barrier()

    def _seeded(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function under randomness of its own; every step seeds again by itself."""
        torch.manual_seed(derived_seed(self.training.seed, self.step, "validation"))
        return function(*arguments)

    def _keep_best(self, score: float) -> None:
        """Write `best` when the score of a trained network is the smallest so far (NaN is not)."""
        if self.step and score < (self.best["score"] if self.best is not None else math.inf):
            self.best = {"score": float(score), "step": self.step}
            state = {**self._state(), **WEIGHTS_ONLY}
            checkpoint.save(self.directory / checkpoint.BEST, state)

    def _keep_validated(self) -> None:
        """Write the weights of a validated step; of those written so, the last `keep` stay."""
        if not self.step or not self.training.keep or self._due(self.training.keep_every):
            return  # untrained, not wanted, or kept as a whole by _save
        state = {**self._state(), **WEIGHTS_ONLY}
        checkpoint.save(self.directory / checkpoint.numbered(self.step), state)
        self.kept = [step for step in self.kept if step != self.step] + [self.step]
        while len(self.kept) > self.training.keep:
            (self.directory / checkpoint.numbered(self.kept.pop(0))).unlink(missing_ok=True)

    def _save(self, due: bool) -> None:
        """Write `last`, and the same as a numbered checkpoint where one is kept.

        The numbered one first: after a kill between the two, `last` is of an earlier step, and the
        resumed run writes both again.
        """
        keep = self.step > 0 and self._due(self.training.keep_every)
        if not (due or keep) or self.saved == self.step:
            return
        self.saved = self.step
        if self.world.is_main:
            state = self._state()
            if keep:
                checkpoint.save(self.directory / checkpoint.numbered(self.step), state)
            checkpoint.save(self.last, state)

    # State

    def _state(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "version": checkpoint.VERSION,
            "step": self.step,
            "model": self.model.state_dict(),
            "ema": self.average.tensors if self.average is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "discriminator": None if self.adversary is None else self.adversary.state(),
            "best": self.best,
            "position": self.position,
            "hyperparams": config.to_dict(self.experiment.hyperparams),
            "data": self.experiment.data,
            "progress": {
                "validated": self.validated,
                "lines": self.log.lines if self.log is not None else 0,
                "meter": self.meter.state(),
                "frames": self.frames,
                "seconds": self.seconds,
                "precision": self.precision,
                "kept": list(self.kept),
            },
        }

    def _begin(self, fresh: bool) -> int:
        """Resume from `last`, or begin; return how many lines of stats.jsonl to keep."""
        count = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        where = describe_device(self.world.device)
        if self.world.size > 1:
            where += f" and {self.world.size - 1} more"
        logger.info("%s: %.2f M parameters on %s", self.kind, count / 1e6, where)
        exists = self.last.exists()
        if exists and fresh:
            raise ValueError(
                f"--fresh: {self.directory} holds a run already. Leave --fresh out to resume it, "
                f"choose another --run, or remove it: rm -r {self.directory}"
            )
        state = checkpoint.load(self.last, self.kind) if exists else None
        with reading(self.last):  # an entry that is missing, or of another type
            lines = self._resume(state) if state is not None else 0
            begun_with = None if state is None else self._stored_precision(state)
        self._choose_precision(begun_with)
        steps = self.world.gather(self.step)  # every rank has looked before the main one writes
        if len(set(steps)) > 1:
            raise ValueError(
                f"the ranks find {self.last} at steps {steps}: the folder of a run must be on a "
                "file system that all machines share (--save-dir)"
            )
        if self.world.is_main:
            write_text(
                self.directory / "hyperparams.yaml", config.to_yaml(self.experiment.hyperparams)
            )
        logger.info(
            "%s %s at step %d of %d",
            "resumes" if exists else "begins",
            self.directory,
            self.step,
            self.training.steps,
        )
        return lines

    def _resume(self, state: dict[str, Any]) -> int:
        """Take over a checkpoint after comparing its hyperparameters and data with today's."""
        forbidden, harmless = compare(state, self.experiment)
        if forbidden:
            raise ValueError(
                f"{self.last} cannot be resumed; what has changed:\n  "
                + "\n  ".join(forbidden)
                + "\nundo it, or begin another run with --run NAME"
            )
        for line in harmless:
            logger.info("changed since the checkpoint: %s", line)
        checkpoint.load_weights(self.model, state["model"], self.last)
        resume_optimizer(self.optimizer, state["optimizer"])
        if self.adversary is not None:
            self.adversary.load(state.get("discriminator"), self.last)
        if self.average is not None:
            self.average.load(checkpoint.weights(state))
        self.step, self.position, self.best = state["step"], state["position"], state["best"]
        progress = state["progress"]
        self.validated, self.saved = progress["validated"], self.step
        self.meter = StepMeter(**progress["meter"])
        self.frames, self.seconds = progress["frames"], progress["seconds"]
        self.kept = list(progress.get("kept", []))
        return progress["lines"]

    # Surroundings

    def _release(self) -> None:
        """Close the logs, leave the shared model, let other processes have the folder."""
        self._shared_model = self.model  # the wrapper would hold the process group past its end
        if self.log is not None:
            self.log.close()
        if self._lock is not None:
            self._lock.release()

    def _batches(self) -> Iterator[tuple[Any, Any]]:
        return self.experiment.batches(self.position, self.world.rank, self.world.size)

    def _share(self) -> nn.Module:
        """Return the model as the loss sees it: compiled, and shared when there are more ranks."""
        model: Any = self.model
        if self.training.compile:
            model = torch.compile(model, dynamic=self.experiment.dynamic_shapes)
        if self.world.size == 1:
            return model
        return distributed.shared(model, self.experiment.unused_parameters())

    def _stored_precision(self, state: dict[str, Any]) -> str | None:
        """Return the precision that a run began with."""
        stored = state["hyperparams"][f"{self.kind}_training"].get("precision")
        return state["progress"].get("precision", stored)

    def _choose_precision(self, begun_with: str | None) -> None:
        """Settle the precision for all ranks: a run keeps what it began with."""
        wanted, device = self.training.precision, self.world.device
        chosen = ""
        if self.world.is_main:
            chosen, line = distributed.choose_precision(wanted, device, begun_with)
            logger.log(logging.WARNING if " slow " in line else logging.INFO, line)
        self.precision = self.world.gather(chosen)[0]

    def _autocast(self) -> Any:
        enabled = self.precision == "bfloat16"
        return torch.autocast(self.world.device.type, dtype=torch.bfloat16, enabled=enabled)

    def _rounded(self) -> Any:
        """Lend the model rounded weights, where a GPU would be told to make each.

        A compiler joins these by itself, and ranks share gradients while others are still made.
        """
        is_gpu = self.world.device.type == "cuda"
        if self.precision != "bfloat16" or not is_gpu or self.world.size > 1:
            return nullcontext()
        if self.training.compile:
            return nullcontext()
        if self._rounded_weights is None:
            self._rounded_weights = RoundedWeights(self.model)
        return self._rounded_weights.lent()

    def _bar(self) -> tqdm:
        return tqdm(
            total=self.training.steps,
            initial=self.step,
            desc=f"{self.kind} {self.directory.name}",
            unit="step",
            dynamic_ncols=True,
            disable=None if self.world.is_main else True,
        )

    def _say_done(self) -> None:
        logger.info(
            "done: %s at step %d, %.0f %s in %.2f hours of steps",
            self.last,
            self.step,
            self.frames,
            self.experiment.unit,
            self.seconds / 3600,
        )
        if self.best is not None:
            path = self.directory / checkpoint.BEST
            logger.info("%s: score %.4f of step %d", path, self.best["score"], self.best["step"])
