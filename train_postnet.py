"""Train PostNet: mel → linear spectrogram, on random segments of true spectrograms.

    python train_postnet.py --data ljspeech --preset small --run speech

The same command resumes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from hyperparams import PRESETS, Hyperparams
from network import PostNet
from preprocess import FeatureStore, MelLinearBatch, MelLinearBatches
from utils import checkpoint, config, distributed, plotting
from utils.losses import masked_l1
from utils.rendering import build_postnet, linear_from_mel, waveform
from utils.trainer import StepContext, Term, Trainer


class Objective:
    """What the network is trained on and judged by."""

    def __init__(self, hp: Hyperparams, store: FeatureStore) -> None:
        self.hp = hp
        self.mel_statistics = store.standardiser("mel")
        self.linear_statistics = store.standardiser("linear")
        self.batches = MelLinearBatches(store, "train", hp.postnet_training)
        self.validation = MelLinearBatches(store, "validation", hp.postnet_training)

    def terms(
        self, network: nn.Module, batch: MelLinearBatch, context: StepContext
    ) -> Mapping[str, Term]:
        """L1 of the standardised linear spectrogram over valid frames."""
        linear = network(batch.mel, batch.lengths)
        return {"linear": Term(*masked_l1(linear, batch.linear, batch.lengths))}

    def validate(self, network: PostNet) -> dict[str, float]:
        """L1 on fixed segments, `score`; and the same for the filterbank's pseudo-inverse, `floor`.

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
        """Predicted and true linear spectrogram of one segment, and how both sound."""
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


def main(argv: Sequence[str] | None = None) -> int:
    """Train from the shell; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    config.add_run_arguments(parser, PRESETS)
    arguments = parser.parse_args(argv)
    hp = config.from_arguments(arguments, PRESETS, "postnet_training")
    world = distributed.start(arguments.device)
    store = FeatureStore(arguments.feature_dir / arguments.data)
    store.check_audio(hp.audio)
    for line in config.differences(PRESETS[arguments.preset], hp):
        print(line)
    torch.manual_seed(hp.postnet_training.seed)
    objective = Objective(hp, store)
    trainer = Trainer(
        kind="postnet",
        directory=checkpoint.run_directory(arguments.save_dir, "postnet", arguments.run),
        model=build_postnet(hp),
        loss_terms=objective.terms,
        batches=objective.batches,
        training=hp.postnet_training,
        hyperparams=hp,
        data=store.for_checkpoint(),
        world=world,
        validate=objective.validate,
        preview=objective.preview,
        fresh=arguments.fresh,
    )
    try:
        return trainer.run()
    finally:
        distributed.close(world)


if __name__ == "__main__":
    sys.exit(main())
