"""Train the inpainter: a vocal for an accompaniment, any part of a vocal, the joint of both.

    python prepare_data.py stems DIR --name songs
    python train_inpainter.py --data songs --preset small --run songs

The same command resumes. What is trained is F of the denoiser (diffusion.py), on windows of aligned
stems with a mixture of masks; `best.pt` is best by the loss at fixed windows, masks and noises. If
`shuffle_gap` does not grow, the network does not listen to the accompaniment.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from corpora.statistics import Moments
from diffusion import (
    ACCOMPANIMENT,
    VOCAL,
    bin_loss_terms,
    corrupt_known,
    degrade_mel,
    denoising_loss,
    draw_dropouts,
    draw_masks,
    draw_sigma,
    sigma_bin_edges,
)
from hyperparams import PRESETS, Hyperparams
from module import Context
from network import UNet1d
from preprocess import StemBatch, StemBatches, StemStore
from sampling import item_generator, sample
from text.symbols import SYMBOLS
from utils import checkpoint, config, distributed, plotting
from utils.audio import Features, Standardiser
from utils.rendering import build_unet, denoiser_of, window_mel
from utils.trainer import StepContext, Term, Trainer

STATISTICS_WINDOWS = 64  # that the mean and deviation of the vocals' mel are measured on
FIXED_SEED = 1000  # masks and noises of validation and previews: the same in every run
PREVIEW_STEPS = 10  # levels walked for a preview
PREVIEWS = {  # name: (unknown share of the window, is the draft given?)
    "vocal": ((0.0, 1.0), False),
    "draft": ((0.0, 1.0), True),
    "prefix": ((0.5, 1.0), False),
    "gap": ((0.4, 0.6), False),
}


class Drawn(NamedTuple):
    """Everything random about one training batch, so that the loss itself is plain."""

    is_known: Tensor  # (B, 2, S) bool
    given: Tensor  # (B, 2, S), known samples as the network is given them
    noise: Tensor  # (B, 2, S)
    context: Context
    is_dropped: Tensor  # (B,) bool, items without accompaniment


class Objective:
    """What the network is trained on and judged by."""

    def __init__(
        self,
        hp: Hyperparams,
        store: StemStore,
        mel_statistics: Mapping[str, Sequence[float]],
        device: torch.device,
    ) -> None:
        self.hp, self.device = hp, device
        self.features = Features(hp.audio).to(device)
        self.standardise = Standardiser.from_statistics(mel_statistics).to(device)
        self.batches = StemBatches(store, "train", hp.inpainter_training, hp.window)
        self.validation = StemBatches(store, "validation", hp.inpainter_training, hp.window)
        d = hp.diffusion
        self.edges = sigma_bin_edges(d.p_mean, d.p_std, d.loss_bins)
        # The medians of the bins: every second inner edge of a division twice as fine.
        self.levels = sigma_bin_edges(d.p_mean, d.p_std, 2 * d.loss_bins)[::2].tolist()
        self.level_names = [f"sigma_{level:.3g}" for level in self.levels]

    def draft_mel(self, wav: Tensor, generator: torch.Generator) -> Tensor:
        """Mel of the true vocals in wav (B, 2, S), degraded to resemble a draft's: (B, T, M)."""
        mel = self.standardise(window_mel(self.features, wav[:, VOCAL]))
        return degrade_mel(mel, self.hp.diffusion, generator)

    def draw(self, wav: Tensor, generator: torch.Generator) -> Drawn:
        """Masks of the mixture, impaired prefixes, noise, context and what of it is withheld."""
        d, (batch, _, samples) = self.hp.diffusion, wav.shape
        masks = draw_masks(batch, samples, d, generator)
        given = corrupt_known(wav, masks, d, generator)
        noise = torch.randn(wav.shape, generator=generator, device=wav.device)
        mel = self.draft_mel(wav, generator)
        is_dropped = draw_dropouts(batch, ("mel", "accompaniment"), d.dropout, generator)
        # Only what is given can be withheld: the joint model keeps both of its channels.
        withheld = is_dropped.pop("accompaniment") & masks.is_known[:, ACCOMPANIMENT].all(1)
        return Drawn(
            masks.is_known, given, noise, Context(mel=mel, is_dropped=is_dropped), withheld
        )

    def terms(
        self, network: nn.Module, batch: StemBatch, context: StepContext
    ) -> Mapping[str, Term]:
        """The loss of DESIGN section 5; beside it, unweighted, the same for each bin of σ."""
        d, x = self.hp.diffusion, batch.wav
        generator = generator_on(x.device, context.generator)
        drawn = self.draw(x, generator)
        sigma = draw_sigma(len(x), d.p_mean, d.p_std, generator, d.stratified)
        sums, counts = denoising_loss(
            denoiser_of(network, self.hp),
            x,
            sigma,
            drawn.noise,
            drawn.is_known,
            drawn.context,
            drawn.given,
            drawn.is_dropped,
        )
        terms = {"denoising": Term(sums.sum(), counts.sum())}
        for name, total, count in zip(
            self.level_names, *bin_loss_terms(sums, counts, sigma, self.edges), strict=True
        ):
            terms[name] = Term(total, count, weight=0.0)
        return terms

    def validate(self, network: UNet1d) -> dict[str, float]:
        """Losses at the median of each bin of σ, on fixed windows, masks and noises.

        `score` is the mean over levels with masks of the mixture and all of the context.
        `from_accompaniment` is the loss of a vocal that is all unknown, given the accompaniment and
        nothing else; `shuffle_gap` is what it loses when the accompaniment is another song's.
        """
        denoiser = denoiser_of(network, self.hp)
        rows = ("mixture", "own", "other")
        totals = torch.zeros(len(rows), len(self.levels), 2, dtype=torch.float64)
        count = self.hp.inpainter_training.validate_batches
        for number, batch in enumerate(self.validation.head(count)):
            batch = batch.to(self.device)
            generator = generator_on(self.device, item_generator(FIXED_SEED, number))
            drawn = self.draw(batch.wav, generator)
            context = replace(drawn.context, is_dropped={})
            vocal_unknown = torch.zeros_like(drawn.is_known)
            vocal_unknown[:, ACCOMPANIMENT] = True
            tasks = {
                "mixture": (batch.wav, drawn.is_known, context),
                "own": (batch.wav, vocal_unknown, None),
            }
            if batch.other is not None:
                shuffled = torch.stack([batch.wav[:, VOCAL], batch.other], 1)  # (B, 2, S)
                tasks["other"] = (shuffled, vocal_unknown, None)
            for k, level in enumerate(self.levels):
                sigma = torch.full((len(batch.wav),), level, device=self.device)
                for row, (x, is_known, seen) in tasks.items():
                    terms = denoising_loss(denoiser, x, sigma, drawn.noise, is_known, seen)
                    totals[rows.index(row), k] += torch.stack(
                        [t.sum().double() for t in terms]
                    ).cpu()
        loss = totals[..., 0] / totals[..., 1]  # (rows, levels), NaN where there was no other song
        mixture, own, other = loss.mean(1).tolist()
        by_level = dict(zip(self.level_names, loss[0].tolist(), strict=True))
        result = {"score": mixture, **by_level, "from_accompaniment": own}
        return result if other != other else result | {"shuffle_gap": other - own}

    def preview(self, network: UNet1d, writer: SummaryWriter, step: int) -> None:
        """One window sung in four ways (PREVIEWS): vocal, mix, and spectrogram with its mask."""
        audio = self.hp.audio
        truth = next(iter(self.validation.head(1))).wav[:1].to(self.device)  # (1, 2, S)
        x = truth.expand(len(PREVIEWS), -1, -1)
        is_known = torch.ones_like(x, dtype=torch.bool)
        for row, ((start, stop), _) in enumerate(PREVIEWS.values()):
            is_known[row, VOCAL, int(start * x.shape[2]) : int(stop * x.shape[2])] = False
        generator = generator_on(self.device, item_generator(FIXED_SEED, 0))
        mel = self.draft_mel(x, generator)
        is_dropped = torch.tensor([not draft for _, draft in PREVIEWS.values()], device=self.device)
        sung = sample(
            denoiser_of(network, self.hp),
            x,
            is_known,
            replace(self.hp.inpainting, num_steps=PREVIEW_STEPS),
            [item_generator(FIXED_SEED, row) for row in range(len(x))],
            Context(mel=mel, is_dropped={"mel": is_dropped}),
        )
        seconds = x.shape[2] / audio.sample_rate
        for name, wav in zip((*PREVIEWS, "truth"), [*sung.x.cpu(), truth[0].cpu()], strict=True):
            shares = [PREVIEWS[name][0]] if name in PREVIEWS else []
            regions = [(start * seconds, stop * seconds) for start, stop in shares]
            figure = plotting.masked_waveform(wav[VOCAL], audio, regions, f"{name}, step {step}")
            writer.add_image(name, plotting.figure_to_image(figure), step)
            for kind, sound in {"vocal": wav[VOCAL], "mix": wav.sum(0)}.items():
                writer.add_audio(f"{name}/{kind}", sound.clamp(-1, 1), step, audio.sample_rate)


def generator_on(device: torch.device, generator: torch.Generator) -> torch.Generator:
    """A generator on `device` that the CPU's `generator` determines."""
    if device.type == "cpu":
        return generator
    seed = int(torch.randint(2**62, (), generator=generator))
    return torch.Generator(device).manual_seed(seed)


def measure_mel(store: StemStore, hp: Hyperparams) -> dict[str, list[float]]:
    """Mean and deviation of the mel (M,) of training vocals, over windows spread evenly."""
    features = Features(hp.audio)
    one_each = replace(hp.inpainter_training, batch_size=1)
    windows = StemBatches(store, "train", one_each, hp.window).head(STATISTICS_WINDOWS)
    mels = [window_mel(features, batch.wav[:, VOCAL])[0] for batch in windows]  # (T, M) each
    return Moments.of(torch.cat(mels).numpy()).statistics()


def data_of(store: StemStore, hp: Hyperparams, last: Path) -> dict[str, object]:
    """What the network needs of its corpus; a run that resumes keeps the scale it began with."""
    if last.is_file():
        mel = checkpoint.load(last, "inpainter")["data"]["statistics"]["mel"]
    else:
        mel = measure_mel(store, hp)
    data = store.for_checkpoint()
    return data | {"symbols": list(SYMBOLS), "statistics": data["statistics"] | {"mel": mel}}


def main(argv: Sequence[str] | None = None) -> int:
    """Train from the shell; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    config.add_run_arguments(parser, PRESETS)
    arguments = parser.parse_args(argv)
    hp = config.from_arguments(arguments, PRESETS, "inpainter_training")
    world = distributed.start(arguments.device)
    store = StemStore(arguments.feature_dir / arguments.data)
    store.check_audio(hp.audio)
    for line in config.differences(PRESETS[arguments.preset], hp):
        print(line)
    directory = checkpoint.run_directory(arguments.save_dir, "inpainter", arguments.run)
    data = data_of(store, hp, directory / checkpoint.LAST)
    torch.manual_seed(hp.inpainter_training.seed)
    objective = Objective(hp, store, data["statistics"]["mel"], world.device)
    trainer = Trainer(
        kind="inpainter",
        directory=directory,
        model=build_unet(hp, len(SYMBOLS)),
        loss_terms=objective.terms,
        batches=objective.batches,
        training=hp.inpainter_training,
        hyperparams=hp,
        data=data,
        world=world,
        structure=("audio", "unet", "diffusion"),
        validate=objective.validate,
        preview=objective.preview,
        fresh=arguments.fresh,
        find_unused_parameters=True,  # a part of the context that the corpus does not have
    )
    try:
        return trainer.run()
    finally:
        distributed.close(world)


if __name__ == "__main__":
    sys.exit(main())
