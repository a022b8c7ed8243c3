"""One training loop for every network.

A script builds data, a model, a loss, a validation and a preview, and calls `Trainer(...).run()`.
Order of a turn: log → validate + preview → checkpoint → done? → one step. The same command resumes
exactly: all randomness comes from (seed, step, batch), so an interrupted run ends with the weights
of an uninterrupted one, bit for bit on CPU.

A global batch is `accumulate` × `world.size` consecutive batches of one deterministic stream; the
i-th of them has the same randomness whichever process computes it. Two processes therefore train
like one that accumulates twice as many batches.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from training import resume, signals
from training.experiment import NonFiniteLoss, StepContext, Term, seeded_context
from training.optimizer import MovingAverage, build_optimizer, learning_rate
from training.runlog import Meter, RunLock, RunLog, peak_memory
from utils import checkpoint, config, distributed
from utils.files import write_text
from utils.seeds import derived_seed

if TYPE_CHECKING:
    from hyperparams import Training

logger = logging.getLogger(__name__)


class Trainer:
    """Trains one network; see `run`.

    kind: one of checkpoint.KINDS.
    directory: save/KIND/RUN. world: from distributed.start.
    model: its parameters train. Losses call it as model(...), never its other methods, so that
        DistributedDataParallel sees the call.
    loss_terms(model, batch, context) -> {name: Term}: the loss is Σ weight · total / count, totals
        and counts summed over the global batch (over accumulated batches only when `term_counts`
        is given; without it their losses are averaged).
    term_counts(batch) -> {name: count}: the counts of loss_terms without computing the loss.
    batches(position) -> endless iterator of (batch, position after it). Under torchrun it is called
        as batches(position, rank, world_size): the rank-th of every world_size batches, with the
        position after all of them. Positions are plain values; `start` is that of a new run.
    validate(model) -> {name: value}: `score`, smaller is better, decides `best`.
    preview(model, writer, step): writes pictures and sounds to TensorBoard.
    monitor(model) -> {name: value}: scalars of the model itself, such as alphas.
    training: the section KIND_training of hyperparams, the knobs of this run.
    hyperparams: all sections, stored in every checkpoint; a resumed run cannot change those named
        in `structure` (by default audio and the one called like the kind).
    data: what the network needs of its corpus (symbols, statistics), stored in every checkpoint.
    fresh: refuse a directory that holds a run.
    """

    def __init__(
        self,
        *,
        kind: str,
        directory: Path,
        model: nn.Module,
        loss_terms: Callable[[nn.Module, Any, StepContext], Mapping[str, Term]],
        batches: Callable[..., Iterator[tuple[Any, Any]]],
        training: Training,
        hyperparams: Any,
        data: Mapping[str, Any],
        world: distributed.World,
        structure: tuple[str, ...] | None = None,
        start: Any = (0, 0),
        validate: Callable[[nn.Module], Mapping[str, float]] | None = None,
        preview: Callable[[nn.Module, SummaryWriter, int], None] | None = None,
        monitor: Callable[[nn.Module], Mapping[str, float]] | None = None,
        term_counts: Callable[[Any], Mapping[str, float]] | None = None,
        fresh: bool = False,
        find_unused_parameters: bool = False,
    ) -> None:
        self.kind, self.directory, self.world = kind, Path(directory), world
        self.training, self.hyperparams, self.data = training, hyperparams, dict(data)
        self.structure = structure if structure is not None else ("audio", kind)
        self.loss_terms, self.batches, self.term_counts = loss_terms, batches, term_counts
        self.validate, self.preview, self.monitor = validate, preview, monitor

        self.step, self.position = 0, start
        self.best: dict[str, Any] | None = None  # {score, step}
        self.validated, self.saved = -1, -1  # the last steps at which it was done
        self.meter = Meter()
        self.frames, self.seconds = 0.0, 0.0  # of the whole run
        self.log: RunLog | None = None  # on the main rank
        self.model = model.to(world.device)
        self.optimizer = build_optimizer(self.model, self.training)
        decay = self.training.ema_decay
        self.average = MovingAverage(self.model, decay) if decay else None
        self._lock = RunLock(self.directory) if world.is_main else None
        try:
            lines = self._begin(fresh)
        except BaseException:
            self._release()
            raise
        if world.is_main:
            self.log = RunLog(self.directory, self.step, lines)
        self._shared_model = self._share(find_unused_parameters)

    @property
    def last(self) -> Path:
        """The checkpoint that a run resumes from."""
        return self.directory / checkpoint.LAST

    def run(self) -> int:
        """Train to the last step; return the exit code: 0, or 128 + signal when one stopped it."""
        try:
            with signals.deferred() as interruption, logging_redirect_tqdm(), self._bar() as bar:
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

    def _turns(self, interruption: signals.Interruption, bar: tqdm) -> bool:
        """Turn until the last step (False) or until a signal stops some rank (True)."""
        batches = self._batches()
        while True:
            done = self.step >= self.training.steps
            stopping = self.world.any(interruption.number is not None) and not done
            self._log(bar, due=done or self._due(self.training.log_every))
            if not stopping:
                self._validate(due=done or self._due(self.training.validate_every))
            self._save(due=done or stopping or self._due(self.training.save_every))
            if done or stopping:
                return stopping
            self._step(batches)
            bar.update()

    # One step

    def _step(self, batches: Iterator[tuple[Any, Any]]) -> None:
        """Take one optimiser step on one global batch."""
        began = time.perf_counter()
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.training)
        self.optimizer.zero_grad(set_to_none=True)
        micro_batches = [next(batches) for _ in range(self.training.accumulate)]
        counts = self._global_counts([batch for batch, _ in micro_batches])
        ids = [item for batch, _ in micro_batches for item in batch.ids]
        for index, (batch, self.position) in enumerate(micro_batches):
            last = index + 1 == len(micro_batches)
            alone = self.world.size == 1
            with nullcontext() if last or alone else self._shared_model.no_sync():
                self._backward(batch.to(self.world.device), index, counts, ids)
        limit = self.training.clip_norm or math.inf
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), limit).item()
        if not math.isfinite(norm):
            self._refuse({"gradient norm": norm}, ids)
        self.optimizer.step()
        self.step += 1
        if self.average is not None:
            self.average.update(self.model, self.step)
        elapsed = time.perf_counter() - began
        self.seconds += elapsed
        self.meter.seconds += elapsed
        self.meter.gradient_norm += norm
        self.meter.steps += 1

    def _backward(
        self, batch: Any, index: int, counts: Mapping[str, float] | None, ids: list[str]
    ) -> None:
        """Add the gradients of one batch; record its terms, summed over the ranks."""
        micro = index * self.world.size + self.world.rank  # its place in the global batch
        context = seeded_context(self.training.seed, self.step, micro, self.world.device)
        with self._autocast():
            terms = self.loss_terms(self._shared_model, batch, context)
        sums = [term.total for term in terms.values()] + [term.count for term in terms.values()]
        frames, *sums = self._summed([getattr(batch, "num_frames", len(batch.ids)), *sums])
        totals, batch_counts = sums[: len(terms)], sums[len(terms) :]
        if not all(map(math.isfinite, totals)):
            self._refuse(dict(zip(terms, totals, strict=True)), ids)
        loss: Tensor | float = 0.0
        for (name, term), total, count in zip(terms.items(), totals, batch_counts, strict=True):
            divisor = count * self.training.accumulate if counts is None else counts[name]
            scale = term.weight / divisor if divisor else 0.0
            loss = loss + term.total * scale
            self.meter.loss += total * scale
            self.meter.add_term(name, total, count)
        # DistributedDataParallel averages gradients over the ranks; this loss is a sum over them.
        (loss * self.world.size).backward()
        self.frames += frames
        self.meter.frames += frames

    def _global_counts(self, batches: list[Any]) -> dict[str, float] | None:
        """Return each term's count over the global batch; None when only the loss knows it."""
        if self.term_counts is None:
            return None
        counts = [self.term_counts(batch) for batch in batches]
        names = list(counts[0])
        sums = self._summed([sum(float(count[name]) for count in counts) for name in names])
        return dict(zip(names, sums, strict=True))

    def _summed(self, values: list[Tensor | float]) -> list[float]:
        """Return scalars summed over the ranks, with one exchange and one wait for the device."""
        device = self.world.device
        dtype = torch.float32 if device.type == "mps" else torch.float64
        parts = [torch.as_tensor(v, device=device).detach().to(dtype) for v in values]
        return self.world.sum(torch.stack(parts)).tolist()

    def _refuse(self, values: Mapping[str, float], ids: list[str]) -> None:
        """Stop the run because of a loss or gradient that is not finite."""
        items = ", ".join(str(item) for part in self.world.gather(ids) for item in part)
        shown = ", ".join(f"{name} = {value}" for name, value in values.items())
        raise NonFiniteLoss(
            f"step {self.step}: {shown}; items: {items}. {self.last} is from before this step. "
            "Look at these items, or lower the learning rate or clip_norm"
        )

    # Log, validate, save

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _log(self, bar: tqdm, due: bool) -> None:
        """Write the means since the last log."""
        if not due or not self.meter.steps:
            return
        means, self.meter = self.meter.means(), Meter()
        if self.log is None:
            return
        scalars = {
            **means,
            "train/learning_rate": self.optimizer.param_groups[0]["lr"],
            "train/memory_gib": peak_memory(self.world.device),
            **(self.monitor(self.model) if self.monitor is not None else {}),
        }
        self.log.write(self.step, scalars)
        speed = f"loss {means['train/loss']:.4f}, {means['train/frames_per_second']:,.0f} frames/s"
        bar.set_postfix_str(speed)
        if bar.disable:  # not a terminal: lines instead of a bar
            logger.info("step %d of %d: %s", self.step, self.training.steps, speed)

    def _validate(self, due: bool) -> None:
        """Validate and preview on the main rank, with the weights that will be used."""
        if not due or self.validated == self.step:
            return
        self.validated = self.step
        if self.log is not None:
            self.model.eval()
            lent = self.average.applied(self.model) if self.average is not None else nullcontext()
            with lent, torch.no_grad(), self._autocast():
                metrics = self._seeded(self.validate, self.model) or {}
                self._seeded(self.preview, self.model, self.log.writer, self.step)
            self.log.writer.flush()
            if metrics:
                self.log.write(self.step, {f"validation/{key}": v for key, v in metrics.items()})
                shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
                logger.info("step %d: validation: %s", self.step, shown)
            self._keep_best(metrics.get("score", math.nan))
        self.world.barrier()

    def _seeded(self, function: Callable[..., Any] | None, *arguments: Any) -> Any:
        """Call a function under randomness of its own; every step seeds again by itself."""
        if function is None:
            return None
        torch.manual_seed(derived_seed(self.training.seed, self.step, "validation"))
        return function(*arguments)

    def _keep_best(self, score: float) -> None:
        """Write `best` when the score of a trained network is the smallest so far (NaN is not)."""
        if self.step and score < (self.best["score"] if self.best is not None else math.inf):
            self.best = {"score": float(score), "step": self.step}
            state = {**self._state(), "optimizer": None}
            checkpoint.save(self.directory / checkpoint.BEST, state)

    def _save(self, due: bool) -> None:
        """Write `last`, and the same as a numbered checkpoint where one is kept."""
        keep = self.step > 0 and self._due(self.training.keep_every)
        if not (due or keep) or self.saved == self.step:
            return
        self.saved = self.step
        if self.world.is_main:
            state = self._state()
            checkpoint.save(self.last, state)
            if keep:
                checkpoint.save(self.directory / checkpoint.numbered(self.step), state)

    # State

    def _state(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "version": checkpoint.VERSION,
            "step": self.step,
            "model": self.model.state_dict(),
            "ema": self.average.tensors if self.average is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "position": self.position,
            "hyperparams": config.to_dict(self.hyperparams),
            "data": self.data,
            "progress": {
                "validated": self.validated,
                "lines": self.log.lines if self.log is not None else 0,
                "meter": self.meter.state(),
                "frames": self.frames,
                "seconds": self.seconds,
            },
        }

    def _begin(self, fresh: bool) -> int:
        """Resume from `last`, or begin; return how many lines of stats.jsonl to keep."""
        count = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        where = distributed.describe_device(self.world.device)
        if self.world.size > 1:
            where += f" and {self.world.size - 1} more"
        logger.info("%s: %.2f M parameters on %s", self.kind, count / 1e6, where)
        exists = self.last.exists()
        if exists and fresh:
            raise ValueError(
                f"--fresh: {self.directory} holds a run already. Leave --fresh out to resume it, "
                f"choose another --run, or remove it: rm -r {self.directory}"
            )
        lines = self._resume(checkpoint.load(self.last, self.kind)) if exists else 0
        steps = self.world.gather(self.step)  # every rank has looked before the main one writes
        if len(set(steps)) > 1:
            raise ValueError(
                f"the ranks find {self.last} at steps {steps}: the folder of a run must be on a "
                "file system that all machines share (--save-dir)"
            )
        if self.world.is_main:
            write_text(self.directory / "hyperparams.yaml", config.to_yaml(self.hyperparams))
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
        forbidden, harmless = resume.compare(
            state, self.hyperparams, self.data, self.structure, f"{self.kind}_training"
        )
        if forbidden:
            raise ValueError(
                f"{self.last} cannot be resumed; what has changed:\n  "
                + "\n  ".join(forbidden)
                + "\nundo it, or begin another run with --run NAME"
            )
        for line in harmless:
            logger.info("changed since the checkpoint: %s", line)
        checkpoint.load_weights(self.model, state["model"], self.last)
        groups = [dict(group) for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, current in zip(self.optimizer.param_groups, groups, strict=True):
            group.update({k: v for k, v in current.items() if k != "params"})
        if self.average is not None:
            self.average.load(checkpoint.weights(state))
        self.step, self.position, self.best = state["step"], state["position"], state["best"]
        progress = state["progress"]
        self.validated, self.saved = progress["validated"], self.step
        self.meter = Meter(**progress["meter"])
        self.frames, self.seconds = progress["frames"], progress["seconds"]
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
        if self.world.size == 1:
            return iter(self.batches(self.position))
        return iter(self.batches(self.position, self.world.rank, self.world.size))

    def _share(self, find_unused_parameters: bool) -> nn.Module:
        """Return the model as the loss sees it: compiled, and shared when there are more ranks."""
        model = torch.compile(self.model) if self.training.compile else self.model
        if self.world.size == 1:
            return model
        return DistributedDataParallel(model, find_unused_parameters=find_unused_parameters)

    def _autocast(self) -> Any:
        enabled = self.training.precision == "bfloat16"
        return torch.autocast(self.world.device.type, dtype=torch.bfloat16, enabled=enabled)

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
            "done: %s at step %d, %.0f frames in %.2f hours of steps",
            self.last,
            self.step,
            self.frames,
            self.seconds / 3600,
        )
        if self.best is not None:
            path = self.directory / checkpoint.BEST
            logger.info("%s: score %.4f of step %d", path, self.best["score"], self.best["step"])
