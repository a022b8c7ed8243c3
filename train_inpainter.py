"""Train the inpainter: a vocal for an accompaniment, any part of a vocal, the joint of both.

    python prepare_data.py stems DIR --name songs
    python train_inpainter.py --data songs --preset small --run songs --postnet save/demo/postnet.pt

The same command resumes. Trains F of the denoiser (inpainter/diffusion.py) on windows of aligned
stems with a mixture of masks; `best.pt` is chosen by the loss on fixed windows, masks and noises.
While `shuffle_gap` does not grow, the network does not use the accompaniment.
"""

from __future__ import annotations

import math
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from utils.config import answer_early


def add_flags(parser: ArgumentParser) -> None:
    """Add --postnet and --drafts."""
    parser.add_argument(
        "--drafts",
        type=Path,
        metavar="DIR",
        help="a transformer's mels of the songs, by prepare_data.py drafts, for a preset whose "
        "signal is a mel (default: degraded true mels)",
    )
    parser.add_argument(
        "--postnet",
        type=Path,
        metavar="CHECKPOINT",
        help="the PostNet that drafts of synthesis go through: training makes its drafts with "
        "it; a file, a run's folder or its name (default: the filterbank's pseudo-inverse)",
    )


if __name__ == "__main__":  # --help and a wrong flag do not wait for torch
    answer_early(__doc__, add_flags)

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from corpora.cache import Moments
from hyperparams import Hyperparams
from inpainter.context import (
    CONTEXT_MODULES,
    Context,
    ContextMaker,
    context_parts,
    window_mel,
)
from inpainter.diffusion import (
    ACCOMPANIMENT,
    VOCAL,
    bin_loss_terms,
    bin_medians,
    corrupt_known,
    denoising_loss,
    draw_masks,
    draw_sigma,
    sigma_bin_edges,
    vocal_unknown,
)
from inpainter.mel_unet import MelSignal
from inpainter.sampling import sample
from inpainter.unet import UNet1d
from network import PostNet
from preprocess import (
    MelBatches,
    ResidentMelBatches,
    ScoreTracks,
    StemBatch,
    StemBatches,
    StemStore,
)
from text.symbols import SYMBOL_TO_ID, SYMBOLS
from training.batching import Position
from training.experiment import Experiment, StepContext, Term
from training.mel_drafts import DraftStore, MelContexts
from training.moved_mels import count_alone, impaired, moved_windows
from training.resident_mels import ResidentMelContexts, ResidentSongs, song_mels
from training.simulated_drafts import SimulatedContexts
from training.trainer import train
from utils import checkpoint, plotting
from utils.audio import Features
from utils.distributed import World
from utils.files import reading
from utils.loading import (
    Loaded,
    build_unet,
    check_spectrograms,
    denoiser_of,
    describe_weights,
    load_network,
)
from utils.seeds import torch_generator

Statistics = Mapping[str, Mapping[str, Sequence[float]]]  # name: {mean, std} (M,)
MELS = {"mel": VOCAL, "accompaniment_mel": ACCOMPANIMENT}  # statistics: of which channel
STATISTICS_WINDOWS = 64  # that statistics of the vocals are measured on
FIXED_SEED = 1000  # masks and noises of validation and previews: the same in every run
PREVIEW_STEPS = 10  # levels walked for a preview
PREVIEWS = {  # name: (unknown share of the window, is the draft given?)
    "vocal": ((0.0, 1.0), False),
    "draft": ((0.0, 1.0), True),
    "prefix": ((0.5, 1.0), False),
    "gap": ((0.4, 0.6), False),
}


class Drawn(NamedTuple):
    """Random quantities of a batch, its noise levels excepted."""

    is_known: Tensor  # (B, 2, S) bool
    given: Tensor  # (B, 2, S), known samples as the network is given them
    noise: Tensor  # (B, 2, S)
    context: Context
    is_dropped: Tensor  # (B,) bool, items without accompaniment


class InpainterExperiment(Experiment[UNet1d, StemBatch]):
    """A vocal for an accompaniment, any part of a vocal; judged by fixed denoising losses.

    statistics: `mel` of the vocals and, where mels are the signal, `accompaniment_mel`; measured
        when None.
    postnet: makes the waveforms of drafts; without one the filterbank's pseudo-inverse.
    drafts: of a transformer, where mels are the signal; without them true mels are degraded.
    """

    kind = "inpainter"
    structure = ("audio", "unet", "diffusion")
    unit = "windows"
    descriptions: ClassVar = {
        "train/denoising": "EDM's weighted denoising loss, mean over unknown samples",
        "validation/from_accompaniment": "the same, vocal unknown, accompaniment given",
        "validation/shuffle_gap": "its increase by another song's accompaniment",
    }

    def __init__(
        self,
        hyperparams: Hyperparams,
        store: StemStore,
        device: torch.device,
        statistics: Statistics | None = None,
        postnet: Loaded[PostNet] | None = None,
        drafts: DraftStore | None = None,
    ) -> None:
        self.hyperparams = self.hp = hp = hyperparams
        self.device = device
        self.model = build_unet(hp, len(SYMBOLS))
        if statistics is None:
            statistics = measure_mels(store, hp)
        self.data = data_of(store, hp, statistics, postnet, drafts)
        maker = ContextMaker(hp.audio, self.data, device)
        self.parts = maker.parts
        tracks = ScoreTracks(store.index["items"], SYMBOL_TO_ID) if "pitch" in self.parts else None
        songs = None
        if hp.inpainter_training.corpus_on_device:
            songs = ResidentSongs(
                list(song_mels(store, hp.audio, device, tracks, drafts)),
                hp.inpainter_training.segment_frames,
                math.log(hp.audio.log_floor),
                device,
            )
        self.contexts: SimulatedContexts
        if songs is not None:
            self.contexts = ResidentMelContexts(maker, hp.audio, hp.diffusion, songs, drafts)
        elif hp.unet.mel:
            self.contexts = MelContexts(maker, hp.audio, hp.diffusion, tracks, drafts)
        else:
            self.contexts = SimulatedContexts(maker, hp.audio, hp.diffusion, tracks, postnet)
        self.training_batches = windows_of(store, "train", hp, self.data, songs)
        self.validation = windows_of(store, "validation", hp, self.data, songs)
        d = hp.diffusion
        self.edges = sigma_bin_edges(d.p_mean, d.p_std, d.loss_bins).to(device)
        self.levels = bin_medians(d.p_mean, d.p_std, d.loss_bins)
        self.level_names = [f"sigma_{level:.3g}" for level in self.levels]

    add_arguments = staticmethod(add_flags)

    @classmethod
    def from_arguments(
        cls, arguments: Namespace, hyperparams: Hyperparams, directory: Path, world: World
    ) -> InpainterExperiment:
        """Open the songs of --data and the PostNet of --postnet.

        A run that resumes, or begins with the weights of --start-from, keeps their scales.
        """
        store = StemStore(arguments.feature_dir / arguments.data)
        store.check_audio(hyperparams.audio)
        last = directory / checkpoint.LAST
        statistics: Statistics | None = None
        source = last if last.is_file() else None
        if source is None and arguments.start_from is not None:
            source = checkpoint.resolve(arguments.start_from, "inpainter")
        if source is not None:
            with reading(source):
                stored = checkpoint.load(source, "inpainter")["data"]["statistics"]
                statistics = {name: stored[name] for name in MELS if name in stored}
        postnet = None
        if arguments.postnet is not None:
            with torch.random.fork_rng(devices=[]):  # the weights to train depend on the seed alone
                postnet = load_network(arguments.postnet, "postnet", world.device)
            check_spectrograms(postnet, hyperparams, directory)
        drafts = None
        if arguments.drafts is not None:
            if not hyperparams.unet.mel:
                raise ValueError(
                    "--drafts are mels for an inpainter of mels: take --preset mel, or leave it out"
                )
            drafts = DraftStore(arguments.drafts)
            drafts.check([item["id"] for item in store.index["items"]], hyperparams.audio)
        experiment = cls(hyperparams, store, world.device, statistics, postnet, drafts)
        noise_shape = getattr(experiment.model, "noise_shape", None)  # of a spectral front end
        if noise_shape is not None and not last.is_file():
            vocals = some_windows(store, hyperparams)[:, VOCAL]
            noise_shape.measure(vocals / hyperparams.diffusion.sigma_data)
        return experiment

    def batches(
        self, position: Position, rank: int = 0, world_size: int = 1
    ) -> Iterator[tuple[StemBatch, Position]]:
        """Yield batches of random windows."""
        return self.training_batches(position, rank, world_size)

    def context(self, batch: StemBatch, generator: torch.Generator) -> Context:
        """Return the context of a batch, simulated from its true vocals."""
        return self.contexts(batch.wav[:, VOCAL], batch.ids, batch.starts, generator)

    def draw(self, batch: StemBatch, generator: torch.Generator) -> Drawn:
        """Draw masks of the mixture, impaired prefixes, noise, context and what is withheld."""
        d, wav = self.hp.diffusion, batch.wav
        step = self.hp.unet.mel or 1  # a frame of a mel is known as a whole
        masks = draw_masks(len(wav), wav.shape[2], d, generator, step)
        given = corrupt_known(wav, masks, d, generator)
        noise = torch.randn(wav.shape, generator=generator, device=wav.device)
        context = self.context(batch, generator)
        is_dropped, withheld = self.contexts.draw_dropouts(len(wav), generator)
        # Only what is given can be withheld: the joint model keeps both of its channels.
        withheld = withheld & masks.is_known[:, ACCOMPANIMENT].all(1)
        context = replace(context, is_dropped=is_dropped)
        return Drawn(masks.is_known, given, noise, context, withheld)

    def moved(self, batch: StemBatch, count: int, generator: torch.Generator) -> StemBatch:
        """Move the first `count` items of a batch in tempo and pitch."""
        batches, contexts = self.training_batches, self.contexts
        assert isinstance(batches, ResidentMelBatches), "hyperparams.py wants corpus_on_device"
        assert isinstance(contexts, ResidentMelContexts)
        frames = contexts.frames_of(batch.starts[:count])
        where = batches.songs, batches.signal, batch.ids[:count], frames
        length = self.hp.inpainter_training.segment_frames
        wav = moved_windows(*where, length, self.hp.diffusion, self.hp.audio, generator)
        return replace(batch, wav=torch.cat([wav, batch.wav[count:]]))

    def accompanied(self, drawn: Drawn, count: int, generator: torch.Generator) -> Drawn:
        """Leave the first `count` items nothing but an accompaniment, never withheld, impaired."""
        is_alone = torch.arange(len(drawn.is_dropped), device=drawn.is_dropped.device) < count
        dropped = {part: row | is_alone for part, row in drawn.context.is_dropped.items()}
        audio, d = self.hp.audio, self.hp.diffusion
        return drawn._replace(
            given=impaired(drawn.given, count, d, audio.n_mels, generator),
            context=replace(drawn.context, is_dropped=dropped),
            is_dropped=drawn.is_dropped & ~is_alone,
        )

    def loss(self, model: nn.Module, batch: StemBatch, context: StepContext) -> dict[str, Term]:
        """Return the denoising loss (EDM eq. 2) and, without weight, the same for each bin of σ."""
        d = self.hp.diffusion
        generator = generator_on(batch.wav.device, context.generator)
        alone = count_alone(d.alone_share, len(batch.ids), context.step)
        if alone:
            batch = self.moved(batch, alone, generator)
        drawn = self.draw(batch, generator)
        if alone:
            drawn = self.accompanied(drawn, alone, generator)
        x = batch.wav
        sigma = draw_sigma(len(x), d.p_mean, d.p_std, generator, d.stratified)
        sums, counts = denoising_loss(
            denoiser_of(model, self.hp),
            x,
            sigma,
            drawn.noise,
            drawn.is_known,
            drawn.context,
            drawn.given,
            drawn.is_dropped,
            d.draft_huber,
            d.draft_spectral,
        )
        # Each item's mean over its unknown elements: the mixture's weights are then the loss's.
        terms = {"denoising": Term((sums / counts.clamp_min(1)).sum(), len(x))}
        for name, total, count in zip(
            self.level_names, *bin_loss_terms(sums, counts, sigma, self.edges), strict=True
        ):
            terms[name] = Term(total, count, weight=0.0)
        return terms

    def counts(self, batch: StemBatch) -> Mapping[str, float]:
        """Return the counts of `loss`; terms without weight need none."""
        return {"denoising": len(batch.ids)} | dict.fromkeys(self.level_names, 0.0)

    def unused_parameters(self) -> set[str]:
        """Name what embeds the parts of the context that the corpus does not have."""
        if not self.hp.unet.context_width:
            return set()
        homes = CONTEXT_MODULES.items()
        absent = {name for part, names in homes if part not in self.parts for name in names}
        return {
            name
            for name, _ in self.model.named_parameters()
            if name.startswith("context.") and name.split(".")[1] in absent
        }

    def validate(self, network: UNet1d) -> dict[str, float]:
        """Return losses at the median of each bin of σ, on fixed windows, masks and noises.

        `score` is the training loss, averaged over the levels, of uncorrupted windows.
        `from_accompaniment` is the loss of an unknown vocal given the accompaniment alone;
        `shuffle_gap` is its increase when the accompaniment is another song's.
        """
        denoiser, d = denoiser_of(network, self.hp), self.hp.diffusion
        rows = ("mixture", "own", "other")
        totals = torch.zeros(len(rows), len(self.levels), 2, dtype=torch.float64)
        count = self.hp.inpainter_training.validate_batches
        for number, batch in enumerate(self.validation.head(count)):
            batch = batch.to(self.device)
            generator = generator_on(self.device, torch_generator(FIXED_SEED, number))
            drawn = self.draw(batch, generator)
            tasks: dict[str, tuple[Tensor, Tensor, Context | None]] = {
                "mixture": (batch.wav, drawn.is_known, drawn.context)
            }
            if self.hp.unet.mask_input:  # else the network cannot tell what is known
                tasks["own"] = (batch.wav, vocal_unknown(batch.wav), None)
            if self.hp.unet.mask_input and batch.other is not None:
                tasks["other"] = (batch.shuffled(), vocal_unknown(batch.wav), None)
            for k, level in enumerate(self.levels):
                sigma = torch.full((len(batch.wav),), level, device=self.device)
                for row, (x, is_known, task_context) in tasks.items():
                    sums, counts = denoising_loss(
                        denoiser,
                        x,
                        sigma,
                        drawn.noise,
                        is_known,
                        task_context,
                        huber=d.draft_huber,
                        spectral=d.draft_spectral,
                    )
                    total = (sums / counts.clamp_min(1)).sum().item()
                    totals[rows.index(row), k] += torch.tensor([total, len(x)])
        loss = totals[..., 0] / totals[..., 1]  # (rows, levels), NaN where there was no such task
        mixture, own, other = loss.mean(1).tolist()
        result = {"score": mixture, **dict(zip(self.level_names, loss[0].tolist(), strict=True))}
        if not math.isnan(own):
            result["from_accompaniment"] = own
        if not math.isnan(other):
            result["shuffle_gap"] = other - own
        return result

    def preview(self, network: UNet1d, writer: SummaryWriter, step: int) -> None:
        """Write one window inpainted in four ways (PREVIEWS): vocal, mix, spectrogram and mask."""
        audio = self.hp.audio
        batch = next(iter(self.validation.head(1))).to(self.device)
        truth = batch.wav[:1]  # (1, 2, S)
        x = truth.expand(len(PREVIEWS), -1, -1)
        is_known = torch.ones_like(x, dtype=torch.bool)
        for row, ((start, stop), _) in enumerate(PREVIEWS.values()):
            is_known[row, VOCAL, int(start * x.shape[2]) : int(stop * x.shape[2])] = False
        generator = generator_on(self.device, torch_generator(FIXED_SEED, 0))
        context = self.context(batch, generator).map(
            lambda part: part[:1].repeat_interleave(len(x), 0)
        )
        is_dropped = torch.tensor([not draft for _, draft in PREVIEWS.values()], device=self.device)
        sung = sample(
            denoiser_of(network, self.hp),
            x,
            is_known,
            replace(self.hp.sampling, num_steps=PREVIEW_STEPS, draft_steps=0),
            [torch_generator(FIXED_SEED, row) for row in range(len(x))],
            replace(context, is_dropped=dict.fromkeys(self.parts, is_dropped)),
        )
        seconds = self.hp.window / audio.sample_rate
        for name, wav in zip((*PREVIEWS, "truth"), [*sung.x.cpu(), truth[0].cpu()], strict=True):
            shares = [PREVIEWS[name][0]] if name in PREVIEWS else []
            regions = [(start * seconds, stop * seconds) for start, stop in shares]
            if self.hp.unet.mel:
                log_mel = self.contexts.maker.standardise.inverse
                predicted, true = (
                    log_mel(part.unflatten(0, (-1, audio.n_mels)).to(self.device))
                    for part in (wav[VOCAL], truth[0, VOCAL])
                )
                figure = plotting.spectrogram_pair(predicted, true, audio)
                writer.add_image(name, plotting.figure_to_image(figure), step)
                continue
            figure = plotting.masked_waveform(wav[VOCAL], audio, regions, f"{name}, step {step}")
            writer.add_image(name, plotting.figure_to_image(figure), step)
            for kind, sound in {"vocal": wav[VOCAL], "mix": wav.sum(0)}.items():
                writer.add_audio(f"{name}/{kind}", sound.clamp(-1, 1), step, audio.sample_rate)


def generator_on(device: torch.device, generator: torch.Generator) -> torch.Generator:
    """Return a generator on `device`, seeded from the CPU's `generator`."""
    if device.type == "cpu":
        return generator
    seed = int(torch.randint(2**62, (), generator=generator))
    return torch.Generator(device).manual_seed(seed)


def windows_of(
    store: StemStore,
    split: str,
    hp: Hyperparams,
    data: Mapping[str, Any],
    songs: ResidentSongs | None = None,
) -> StemBatches | MelBatches:
    """Open the windows of a split, as the signal that the network works on.

    songs: mels that stay on a device, from which they are cut.
    """
    training = hp.inpainter_training
    if songs is not None:
        signal = MelSignal(hp.audio, data["statistics"], songs.device)
        return ResidentMelBatches(store, split, training, hp.audio, songs, signal)
    if not hp.unet.mel:
        return StemBatches(store, split, training, hp.window)
    aligned = StemBatches(store, split, training, hp.window, align=hp.audio.hop_length)
    return MelBatches(aligned, MelSignal(hp.audio, data["statistics"]))


def some_windows(store: StemStore, hp: Hyperparams) -> Tensor:
    """Return evenly spaced training windows (B, 2, S), to measure statistics on."""
    one_each = replace(hp.inpainter_training, batch_size=1)
    windows = StemBatches(store, "train", one_each, hp.window).head(STATISTICS_WINDOWS)
    return torch.cat([batch.wav for batch in windows])


def measure_mels(store: StemStore, hp: Hyperparams) -> Statistics:
    """Measure mean and standard deviation (M,) of the mels that the network standardises."""
    features, windows = Features(hp.audio), some_windows(store, hp)
    return {
        name: Moments.of(
            window_mel(features, windows[:, channel]).flatten(0, 1).numpy()
        ).statistics()
        for name, channel in MELS.items()
        if channel == VOCAL or hp.unet.mel
    }


def data_of(
    store: StemStore,
    hp: Hyperparams,
    statistics: Statistics,
    postnet: Loaded[PostNet] | None = None,
    drafts: DraftStore | None = None,
) -> dict[str, Any]:
    """Return what the network needs of its corpus, and whose weights make its drafts."""
    data = store.for_checkpoint()
    has_scores = all("score" in item for item in store.index["items"])
    return data | {
        "statistics": data["statistics"] | dict(statistics),
        "symbols": list(SYMBOLS),
        "context": list(context_parts(hp.unet, has_scores)),
        "postnet": None if postnet is None else describe_weights(postnet)["sha256"],
        "drafts": None if drafts is None else drafts.index["transformer"]["sha256"],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Train from the shell; return the exit code."""
    return train(InpainterExperiment, __doc__ or "", argv)


if __name__ == "__main__":
    sys.exit(main())
