r"""Train PostNet: mel → linear spectrogram, on random segments of true spectrograms.

    python train_postnet.py --data ljspeech --preset small --run speech

then, so that it knows the mels it will be given, on those of a transformer fed with true history:

    python train_postnet.py --data ljspeech --preset small --run speech-tuned \
        --start-from save/postnet/speech/best.pt --transformer save/transformer/speech/best.pt

The same command resumes.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from corpora.cache import save_array
from corpora.stores import open_features
from hyperparams import Hyperparams
from network import PostNet, TransformerTTS, build_postnet
from preprocess import FeatureStore, MelLinearBatch, MelLinearBatches, TextMelDataset
from singing.chain import linear_from_mel, waveform
from training.batching import Position
from training.experiment import Experiment, StepContext, Term
from training.losses import masked_l1
from training.trainer import train
from utils import plotting
from utils.distributed import World
from utils.loading import Loaded, load


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
        self.model = build_postnet(hyperparams)
        self.data = store.for_checkpoint()
        self.mel_statistics = store.standardiser("mel")
        self.linear_statistics = store.standardiser("linear")
        training = hyperparams.postnet_training
        self.training_batches = MelLinearBatches(store, "train", training)
        self.validation = MelLinearBatches(store, "validation", training)

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        """Add --transformer."""
        parser.add_argument(
            "--transformer",
            type=Path,
            metavar="CHECKPOINT",
            help="learn from this transformer's teacher-forced mels instead of the true ones "
            "(a file, a run's folder or its name)",
        )

    @classmethod
    def from_arguments(
        cls, arguments: Namespace, hyperparams: Hyperparams, directory: Path, world: World
    ) -> PostNetExperiment:
        """Open the corpora of --data; with --transformer, have it write its mels first."""
        store = open_features(arguments.feature_dir, arguments.data)
        store.check_audio(hyperparams.audio)
        experiment = cls(hyperparams, store)
        if arguments.transformer is not None:
            teacher = load(arguments.transformer, "transformer", world.device)
            mels = directory / "teacher_mel"
            if world.is_main:
                teacher_mels(teacher, store, mels)
            world.barrier()
            store.elsewhere["mel"] = mels
            experiment.data["teacher"] = str(arguments.transformer)
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


@torch.inference_mode()
def teacher_mels(teacher: Loaded[TransformerTTS], store: FeatureStore, directory: Path) -> None:
    """Write the transformer's teacher-forced mel of every training and validation item.

    To directory/ID.npy, (T, M) float16, natural logs, as the corpus stores its own. Existing files
    are kept, so that an interrupted pass continues.
    """
    device = next(teacher.network.parameters()).device
    standardiser = teacher.standardiser("mel")
    for split in ("train", "validation"):
        dataset = TextMelDataset(store, split)
        for number in tqdm(range(len(dataset)), desc=f"teacher-forced mels, {split}", unit="item"):
            path = directory / f"{dataset.items[number]['id']}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file():
                continue
            batch = dataset.collate([dataset[number]]).to(device)
            torch.manual_seed(number)
            mel = standardiser(store.standardiser("mel").to(device).inverse(batch.mel))
            out = teacher.network(
                batch.symbols,
                batch.symbol_lengths,
                mel,
                batch.mel_lengths,
                batch.score,
                batch.phoneme_times,
            )
            save_array(path, standardiser.inverse(out.mel[0]).cpu().numpy().astype(np.float16))


def main(argv: Sequence[str] | None = None) -> int:
    """Train from the shell; return the exit code."""
    return train(PostNetExperiment, __doc__ or "", argv)


if __name__ == "__main__":
    sys.exit(main())
