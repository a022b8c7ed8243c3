r"""Train PostNet: mel → linear spectrogram, on random segments of true spectrograms.

    python train_postnet.py --data ljspeech --preset small --run speech

then, so that it knows the mels it will be given, on those of a transformer fed with true history:

    python train_postnet.py --data ljspeech --preset small --run speech-tuned \
        --start-from save/postnet/speech/best.pt --transformer save/transformer/speech/best.pt

A PostNet with a source makes waveforms from mel and F0; it learns from stems, whose vocals it hears
as waveforms:

    python train_postnet.py --data songbook-stems --preset source --run sung

or, beside true mels, those of a transformer, from phrases prepared with --linear on-the-fly:

    python train_postnet.py --data songbook --preset source --run sung-tuned \
        --start-from save/postnet/sung/best.pt --transformer save/transformer/sung/best.pt

The same command resumes.
"""

from __future__ import annotations

import math
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from utils.config import answer_early


def add_flags(parser: ArgumentParser) -> None:
    """Add --transformer."""
    parser.add_argument(
        "--transformer",
        type=Path,
        metavar="CHECKPOINT",
        help="learn from this transformer's teacher-forced mels instead of the true ones "
        "(a file, a run's folder or its name)",
    )


if __name__ == "__main__":  # --help and a wrong flag do not wait for torch
    answer_early(__doc__, add_flags)

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from corpora import on_the_fly
from corpora.cache import Moments, fingerprint, save_array
from corpora.records import FULL_SCALE
from corpora.stores import F0, open_features
from hyperparams import Audio, Hyperparams
from inpainter.diffusion import VOCAL, degrade_mel
from network import PostNet, TransformerTTS, build_postnet
from preprocess import (
    FeatureStore,
    MelLinearBatch,
    MelLinearBatches,
    MelWavBatch,
    MelWavBatches,
    StemBatch,
    StemBatches,
    StemStore,
    TextMelDataset,
)
from singing.chain import filled, linear_from_mel, waveform
from source_filter import SourcePostNet, base_filters, render
from training.adversary import WaveformDiscriminator, adversarial_losses
from training.batching import Position
from training.experiment import Experiment, StepContext, Term, starting_data
from training.losses import masked_l1, spectral_loss
from training.trainer import train
from utils import plotting
from utils.audio import Features, Standardiser
from utils.distributed import World
from utils.files import read_json, write_json
from utils.loading import Loaded, describe_weights, load_network
from utils.metrics import f0_track

ORIGIN = "origin.json"  # beside teacher-forced mels: what they were made from
LEVEL_NEPERS = 0.7  # 6 dB either way, of a window of a PostNet with a source
TEACHER_BATCH = 16  # phrases that a transformer sings at once
STATISTICS_BATCHES = 16  # of vocals, 8 minutes, that its mel's statistics come from


class PostNetExperiment(Experiment[PostNet, MelLinearBatch]):
    """Mel → linear magnitude; judged beside the filterbank's pseudo-inverse."""

    kind = "postnet"
    structure = ("audio", "postnet")
    descriptions: ClassVar = {
        "train/linear": "L1 of the standardised linear spectrogram",
        "validation/score": "the same on fixed segments of validation items",
        "validation/floor": "the same for the filterbank's pseudo-inverse",
    }

    def __init__(self, hyperparams: Hyperparams, store: FeatureStore) -> None:
        self.hyperparams = self.hp = hyperparams
        model = build_postnet(hyperparams)
        assert isinstance(model, PostNet)
        self.model = model
        self.data = store.for_checkpoint()
        self.mel_statistics = store.standardiser("mel")
        self.linear_statistics = store.standardiser("linear")
        training = hyperparams.postnet_training
        self.training_batches = MelLinearBatches(store, "train", training)
        self.validation = MelLinearBatches(store, "validation", training)

    add_arguments = staticmethod(add_flags)

    @classmethod
    def from_arguments(
        cls, arguments: Namespace, hyperparams: Hyperparams, directory: Path, world: World
    ) -> Experiment[Any, Any]:
        """Open the corpora of --data; with --transformer, have it write its mels first."""
        if hyperparams.postnet.kind == "source":
            return SourceExperiment.from_arguments(arguments, hyperparams, directory, world)
        store = open_features(arguments.feature_dir, arguments.data)
        store.check_audio(hyperparams.audio)
        start = starting_data(arguments, directory, cls.kind)
        if start is not None:
            store.adopt_statistics(start["statistics"])
        experiment = cls(hyperparams, store)
        if arguments.transformer is not None:
            learn_from(arguments.transformer, store, directory, world)
            experiment.data["teacher"] = str(arguments.transformer)
        if hyperparams.postnet_training.corpus_on_device:
            experiment.training_batches.dataset.keep_on(world.device)
        return experiment

    def batches(
        self, position: Position, rank: int = 0, world_size: int = 1
    ) -> Iterator[tuple[MelLinearBatch, Position]]:
        """Yield batches of random segments."""
        return self.training_batches(position, rank, world_size)

    def loss(
        self, model: nn.Module, batch: MelLinearBatch, context: StepContext
    ) -> dict[str, Term]:
        """Return L1 of the standardised linear spectrogram over valid frames."""
        linear = model(batch.mel, batch.lengths)
        return {"linear": Term(*masked_l1(linear, batch.linear, batch.lengths))}

    def counts(self, batch: MelLinearBatch) -> dict[str, float]:
        """Return the divisor of `loss`: accumulated batches count like one large one."""
        return {"linear": float(batch.lengths.sum()) * batch.linear.shape[2]}

    def validate(self, network: PostNet) -> dict[str, float]:
        """Return L1 on fixed segments, `score`, and of the filterbank's pseudo-inverse, `floor`.

        A network that does not beat the floor has learnt nothing.
        """
        device = next(network.parameters()).device
        totals = torch.zeros(3, dtype=torch.float64)
        for batch in self.validation.head(self.hp.postnet_training.validate_batches):
            raw = linear_from_mel(self.mel_statistics.inverse(batch.mel), self.hp.audio)
            floor, _ = masked_l1(self.linear_statistics(raw), batch.linear, batch.lengths)
            batch = batch.to(device)
            loss, count = masked_l1(network(batch.mel, batch.lengths), batch.linear, batch.lengths)
            totals += torch.tensor([float(loss), float(floor), float(count)], dtype=torch.float64)
        return {"score": float(totals[0] / totals[2]), "floor": float(totals[1] / totals[2])}

    def preview(self, network: PostNet, writer: SummaryWriter, step: int) -> None:
        """Write predicted and true linear spectrogram of one segment, and their audio."""
        audio = self.hp.audio
        batch = next(iter(self.validation.head(1)))
        length = int(batch.lengths[0])
        mel = batch.mel[:1, :length].to(next(network.parameters()).device)
        predicted = self.linear_statistics.inverse(network(mel)[0].cpu())
        truth = self.linear_statistics.inverse(batch.linear[0, :length])
        figure = plotting.spectrogram_pair(predicted, truth, audio)
        writer.add_image("linear", plotting.figure_to_image(figure), step)
        for name, linear in {"predicted": predicted, "truth": truth}.items():
            wav = waveform(linear, audio, self.hp.synthesis, seed=0)
            writer.add_audio(f"audio/{name}", wav, step, audio.sample_rate)


@dataclass(frozen=True)
class KnownVocals:
    """Vocals, and what is known of them beside: a PostNet is taught from these."""

    wav: Tensor  # (B, S)
    mel: Tensor | None  # (B, T, M), natural logs: a transformer's
    f0: Tensor | None  # (B, T), Hz, above 0 everywhere

    @classmethod
    def of(cls, batch: StemBatch | MelWavBatch) -> KnownVocals:
        """Return the vocals of a batch, with mel and F0 where they come with it."""
        if isinstance(batch, MelWavBatch):
            return cls(batch.wav, batch.mel, batch.f0)
        return cls(batch.wav[:, VOCAL], None, None)

    def first(self, count: int) -> KnownVocals:
        """Return the first of them."""
        parts = (self.wav, self.mel, self.f0)
        return KnownVocals(*(None if part is None else part[:count] for part in parts))  # type: ignore[arg-type]


class SourceExperiment(Experiment[SourcePostNet, StemBatch | MelWavBatch]):
    """Mel and F0 → waveform, on windows of vocals; judged beside the filters' start."""

    kind = "postnet"
    structure = ("audio", "postnet")
    unit = "windows"
    descriptions: ClassVar = {
        "train/spectral": "multi-resolution STFT loss of the vocal",
        "train/adversarial": "how far waveforms are from passing for vocals, least squares",
        "train/features": "distance of the discriminators' features, relative",
        "train/discriminator": "least squares of the discriminators; 1/2 where they cannot tell",
        "validation/score": "the same on fixed windows of validation songs",
        "validation/floor": "the same for filters from the mel's pseudo-inverse",
    }

    def __init__(
        self,
        hyperparams: Hyperparams,
        store: StemStore | FeatureStore,
        statistics: dict[str, list[float]] | None = None,
    ) -> None:
        """Open stems, or phrases whose mels are a transformer's; statistics: of the start's mel."""
        self.hyperparams = self.hp = hyperparams
        model = build_postnet(hyperparams)
        assert isinstance(model, SourcePostNet)
        self.model = model
        if hyperparams.postnet.adversarial_weight or hyperparams.postnet.feature_weight:
            self.discriminator = WaveformDiscriminator(hyperparams.postnet.adversarial_channels)
        self.features = Features(hyperparams.audio)
        training = hyperparams.postnet_training
        if isinstance(store, FeatureStore):
            mel = statistics or store.statistics["mel"]
            self.training_batches: Any = MelWavBatches(store, "train", training)
            self.validation: Any = MelWavBatches(store, "validation", training)
        else:
            mel = statistics or vocal_statistics(store, hyperparams)
            window = hyperparams.audio.hop_length * (training.segment_frames - 1)
            self.training_batches = StemBatches(store, "train", training, window)
            self.validation = StemBatches(store, "validation", training, window)
        data = store.for_checkpoint()
        self.data = data | {"statistics": data.get("statistics", {}) | {"mel": mel}}
        self.mel_statistics = Standardiser.from_statistics(mel)

    @classmethod
    def from_arguments(
        cls, arguments: Namespace, hyperparams: Hyperparams, directory: Path, world: World
    ) -> SourceExperiment:
        """Open the stems of --data; with --transformer its phrases, and have it write its mels."""
        start = starting_data(arguments, directory, cls.kind)
        statistics = None if start is None else start["statistics"]["mel"]
        if arguments.transformer is None:
            stems = StemStore(arguments.feature_dir / arguments.data)
            stems.check_audio(hyperparams.audio)
            return cls(hyperparams, stems, statistics)
        store = open_features(arguments.feature_dir, arguments.data)
        store.check_audio(hyperparams.audio)
        experiment = cls(hyperparams, store, statistics)
        learn_from(arguments.transformer, store, directory, world)
        track_f0(store, directory, world)
        experiment.data["teacher"] = str(arguments.transformer)
        return experiment

    def batches(
        self, position: Position, rank: int = 0, world_size: int = 1
    ) -> Iterator[tuple[StemBatch | MelWavBatch, Position]]:
        """Yield batches of random windows."""
        return self.training_batches(position, rank, world_size)

    def example(
        self, sung: KnownVocals, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Map vocals to standardised mels (B, T, M), F0 (B, T) in Hz, bases (B, T, F).

        With a generator a part of the mels are the true ones where mels are given, else degraded as
        a transformer's are.
        """
        audio, device = self.hp.audio, sung.wav.device
        features, standardise = self.features.to(device), self.mel_statistics.to(device)
        standard = standardise(features.mel(sung.wav))
        other = None if sung.mel is None else standardise(sung.mel)
        if generator is not None:
            if other is None:
                other = degrade_mel(standard, self.hp.diffusion, generator)
            draws = torch.rand(len(sung.wav), 1, 1, generator=generator, device=generator.device)
            is_other = (draws < self.hp.postnet.source_degraded).to(device, non_blocking=True)
            standard = torch.where(is_other, other, standard)
        elif other is not None:
            standard = other
        if sung.f0 is not None:
            f0 = sung.f0
        else:
            tracks = [f0_track(wav, audio.sample_rate, audio.hop_length) for wav in sung.wav.cpu()]
            f0 = torch.stack([filled(track) for track in tracks]).to(device)
        return standard, f0, linear_from_mel(standardise.inverse(standard), audio)

    def loss(
        self, model: nn.Module, batch: StemBatch | MelWavBatch, context: StepContext
    ) -> dict[str, Term]:
        """Return the multi-resolution STFT loss of the vocals, at a random level.

        And the terms of the discriminators, where there are any.
        """
        sung, device = KnownVocals.of(batch), context.device
        levels = torch.rand(len(batch.ids), 1, generator=context.generator) * 2 - 1
        nepers = (LEVEL_NEPERS * levels).to(device, non_blocking=True)
        wav, given = sung.wav * nepers.exp(), sung.mel
        if given is not None:
            given = (given + nepers[..., None]).clamp_min(math.log(self.hp.audio.log_floor))
        mel, f0, base = self.example(KnownVocals(wav, given, sung.f0), context.generator)
        noise = _generator_on(device, context.generator)
        made = render(model(mel, f0, base), f0, self.hp.audio, noise)
        terms = {"spectral": Term(*spectral_loss(made, wav))}
        if isinstance(self.discriminator, WaveformDiscriminator):
            losses = adversarial_losses(self.discriminator, made, wav)
            hp, count = self.hp.postnet, len(wav)
            share = min(1.0, context.step / max(1, hp.adversarial_steps))
            terms |= {
                "adversarial": Term(
                    count * losses.adversarial, count, share * hp.adversarial_weight
                ),
                "features": Term(count * losses.features, count, share * hp.feature_weight),
                "discriminator": Term(count * losses.discriminator, count),
            }
        return terms

    def counts(self, batch: StemBatch | MelWavBatch) -> dict[str, float]:
        """Return the divisors of `loss` over a global batch."""
        of_discriminator = ("adversarial", "features", "discriminator")
        names = ("spectral", *(of_discriminator if self.discriminator is not None else ()))
        return dict.fromkeys(names, float(len(batch.ids)))

    def made(self, network: SourcePostNet, sung: KnownVocals, seed: int) -> tuple[Tensor, Tensor]:
        """Render mel and F0 of vocals by the network, and by the filters it begins from."""
        mel, f0, base = self.example(sung, None)
        made, start = (
            render(filters, f0, self.hp.audio, torch.Generator().manual_seed(seed))
            for filters in (network(mel, f0, base), base_filters(base, network.subframes))
        )
        return made, start  # (B, S) each

    def validate(self, network: SourcePostNet) -> dict[str, float]:
        """Return the loss on fixed windows and noise, `score`, and of the filters' start, `floor`.

        A network that does not beat the floor has learnt nothing.
        """
        device = next(network.parameters()).device
        sums = torch.zeros(3, dtype=torch.float64)
        batches = self.validation.head(self.hp.postnet_training.validate_batches)
        for number, batch in enumerate(batches):
            sung = KnownVocals.of(batch.to(device))
            pair = self.made(network, sung, number)
            losses = [float(spectral_loss(made, sung.wav)[0]) for made in pair]
            sums += torch.tensor([*losses, len(sung.wav)], dtype=torch.float64)
        return {"score": float(sums[0] / sums[2]), "floor": float(sums[1] / sums[2])}

    def preview(self, network: SourcePostNet, writer: SummaryWriter, step: int) -> None:
        """Write made and true spectrogram of one window, and their audio."""
        audio = self.hp.audio
        device = next(network.parameters()).device
        sung = KnownVocals.of(next(iter(self.validation.head(1))).to(device)).first(1)
        made, _ = self.made(network, sung, 0)
        features = self.features.to(device)
        predicted, true = (features.linear(part)[0].cpu() for part in (made, sung.wav))
        figure = plotting.spectrogram_pair(predicted, true, audio)
        writer.add_image("linear", plotting.figure_to_image(figure), step)
        for name, part in {"made": made, "truth": sung.wav}.items():
            writer.add_audio(f"audio/{name}", part[0].cpu(), step, audio.sample_rate)


def _generator_on(device: torch.device, generator: torch.Generator) -> torch.Generator:
    """Return a generator on a device, seeded by another, which is on the CPU."""
    if device.type == "cpu":
        return generator
    seed = int(torch.randint(2**62, (), generator=generator))
    return torch.Generator(device).manual_seed(seed)


def vocal_statistics(store: StemStore, hp: Hyperparams) -> dict[str, list[float]]:
    """Measure each mel band over windows spread evenly over the training vocals."""
    windows = StemBatches(store, "train", hp.postnet_training, hp.window)
    features = Features(hp.audio)
    mels = [features.mel(batch.wav[:, VOCAL]) for batch in windows.head(STATISTICS_BATCHES)]
    return Moments.of(torch.cat(mels).flatten(0, 1).numpy()).statistics()


def learn_from(teacher: Path, store: FeatureStore, directory: Path, world: World) -> None:
    """Have a transformer write its mels of a corpus, once, and read them in place of its own."""
    mels = directory / "teacher_mel"
    if world.is_main:
        teacher_mels(load_network(teacher, "transformer", world.device), store, mels)
    world.barrier()
    store.elsewhere["mel"] = mels


@torch.inference_mode()
def teacher_mels(teacher: Loaded[TransformerTTS], store: FeatureStore, directory: Path) -> None:
    """Write the transformer's teacher-forced mel of every training and validation item.

    To directory/ID.npy, (T, M) float16, natural logs, as the corpus stores its own. Existing files
    of the same transformer and corpus are kept, so that an interrupted pass continues.
    """
    from training.mel_drafts import teacher_forced_mel  # late: true mels do without

    own = {item["id"]: item["sha256"] for item in store.index["items"]}
    origin = {"teacher": describe_weights(teacher)["sha256"], "corpus": fingerprint(own)}
    _keep_only(directory, origin)
    device = next(teacher.network.parameters()).device
    standardiser = teacher.standardiser("mel")
    back = store.standardiser("mel").to(device)
    for split in ("train", "validation"):
        dataset = TextMelDataset(store, split)
        dataset.use_voices(teacher.data.get("voices", ()))
        order = dataset.lengths.argsort(kind="stable").tolist()  # little padding
        batches = [order[k : k + TEACHER_BATCH] for k in range(0, len(order), TEACHER_BATCH)]
        for numbers in tqdm(batches, desc=f"teacher-forced mels, {split}", unit="batch"):
            paths = [directory / f"{dataset.items[number]['id']}.npy" for number in numbers]
            if all(path.is_file() for path in paths):
                continue
            batch = dataset.collate([dataset[number] for number in numbers]).to(device)
            true = standardiser(back.inverse(batch.mel))
            mels = teacher_forced_mel(teacher.network, replace(batch, mel=true), numbers[0])
            mels = standardiser.inverse(mels).cpu().to(torch.float16)
            for path, mel, length in zip(paths, mels, batch.mel_lengths.tolist(), strict=True):
                path.parent.mkdir(parents=True, exist_ok=True)
                save_array(path, mel[:length].numpy())


def track_f0(store: FeatureStore, directory: Path, world: World) -> None:
    """Write the F0 of every training and validation item, once, to directory/f0/ID.npy (T, 1)."""
    tracks, audio = directory / F0, Audio(**store.index["audio"])
    store.elsewhere[F0] = tracks
    if world.is_main:
        own = {item["id"]: item["sha256"] for item in store.index["items"]}
        _keep_only(tracks, {"corpus": fingerprint(own)})
        items = [*store.items("train"), *store.items("validation")]
        for item in tqdm(items, desc="F0", unit="item"):
            path = tracks / f"{item['id']}.npy"
            if path.is_file():
                continue
            rows = store.rows(on_the_fly.KIND, item["id"]).astype(np.float32)
            wav = torch.from_numpy(rows.reshape(-1)[: item["num_samples"]] / FULL_SCALE)
            f0 = filled(f0_track(wav, audio.sample_rate, audio.hop_length))
            path.parent.mkdir(parents=True, exist_ok=True)
            save_array(path, f0[:, None].numpy())
    world.barrier()


def _keep_only(directory: Path, origin: dict[str, Any]) -> None:
    """Remove arrays that were made from something else, and note what these are made from."""
    if _origin_of(directory) != origin:
        for path in directory.rglob("*.npy"):
            path.unlink()
        write_json(directory / ORIGIN, origin)


def _origin_of(directory: Path) -> Any:
    """Return what the mels in a folder were made from; None where that is not known."""
    try:
        return read_json(directory / ORIGIN)
    except (OSError, ValueError):
        return None


def main(argv: Sequence[str] | None = None) -> int:
    """Train from the shell; return the exit code."""
    return train(PostNetExperiment, __doc__ or "", argv)


if __name__ == "__main__":
    sys.exit(main())
