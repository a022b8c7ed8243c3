"""The inpainter over a whole song: windows, what each is told, progress, and what it cost.

Everything here is mono at the network's own rate and at its level of training (singing/song.py).
Shapes: B batch, S samples, T frames, M mels.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from inpainter.context import Context
from inpainter.diffusion import VOCAL, sampling_sigmas
from inpainter.sampling import METHODS, STEPS, window_sampler
from inpainter.windows import Job, batches, inpaint_song, plan_windows, read_from, seam
from singing.chain import window_mel
from singing.placement import Placed, pitch_track, symbol_track, voicing_track
from singing.song import Song, pad_to
from utils.audio import Features
from utils.loading import Loaded, denoiser_of

if TYPE_CHECKING:
    from hyperparams import Inpainting

MEL_ONLY = ("mel",)  # what a network is told that does not say what it was trained with


@dataclass(frozen=True)
class Guide:
    """What the inpainter is told of the vocal it is to make."""

    wav: Tensor  # (S,) the draft where there is one, the vocal where that is known
    phoneme: Tensor | None = None  # (T,) int64, ids of the inpainter's own symbols
    pitch: Tensor | None = None  # (T,) MIDI note numbers, 0 = no note
    voicing: Tensor | None = None  # (T,) in [0, 1]

    def frames(self) -> dict[str, Tensor]:
        """The parts that are given per frame, by name."""
        parts = {name: getattr(self, name) for name in ("phoneme", "pitch", "voicing")}
        return {name: part for name, part in parts.items() if part is not None}


@dataclass(frozen=True)
class Sung:
    """A vocal for a whole song."""

    vocal: Tensor  # (S,), known samples bit by bit
    windows: int
    evaluations: int  # of the network, counted per window
    seams: tuple[tuple[int, int], ...]  # samples [start, stop) where neighbours are cross-faded


def check_inpainter(
    inpainter: Loaded, config: Inpainting, is_guided: bool, has_draft: bool
) -> None:
    """Raise ValueError for knobs and networks that cannot do what is asked, before any work."""
    for name, registry in (("method", METHODS), ("step", STEPS)):
        if getattr(config, name) not in registry:
            raise ValueError(
                f"inpainting.{name} = {getattr(config, name)!r} is not one of {', '.join(registry)}"
            )
    for has_draft in (False, True):
        sampling_sigmas(config, has_draft)
    unet = inpainter.hyperparams.unet
    if config.accompaniment_guidance != 1 and config.method != "conditional":
        raise ValueError(
            f"accompaniment_guidance = {config.accompaniment_guidance} needs a model that is told "
            f"the accompaniment, and --method {config.method} does not tell it: take conditional, "
            "or set the weight to 1"
        )
    if config.lyrics_guidance != 1 and not (is_guided and unet.context_width):
        raise ValueError(
            f"lyrics_guidance = {config.lyrics_guidance}, but nothing is said of the vocal: give "
            "--lyrics and an inpainter that hears them, or set the weight to 1"
        )
    if config.method == "conditional" and not unet.mask_input:
        raise ValueError(
            f"{inpainter.path} sees no mask (unet.mask_input), which the method conditional needs: "
            "take --method repaint, mcg, guided or replacement"
        )
    if config.strength < 1 and not has_draft:
        raise ValueError(
            f"strength = {config.strength} starts from a draft, and there is none: give --lyrics, "
            "or a --vocal to be changed, or leave the strength at 1"
        )
    if is_guided and not unet.context_width and config.strength == 1:
        raise ValueError(
            f"{inpainter.path} takes no context (unet.context_width = 0), so lyrics cannot steer "
            "it: start from their draft with --strength below 1, or leave --lyrics out"
        )


def guide_from(
    placed: Sequence[Placed], draft: Tensor, table: Sequence[str], song: Song, inpainter: Loaded
) -> Guide:
    """What the inpainter is told of a song: the draft (S,) where it sings, else the known vocal.

    table: the symbols that the ids of the placed lines mean; they are translated to the
    inpainter's own. ValueError when it lacks one.
    """
    wav = song.vocal.clone()
    for start, stop in song.ranges:
        wav[start:stop] = draft[start:stop]
    frames = -(-len(wav) // inpainter.hyperparams.audio.hop_length)
    symbols = symbol_track(placed, frames)
    own = {symbol: index for index, symbol in enumerate(inpainter.data["symbols"])}
    if "phoneme" in context_parts(inpainter):
        check_symbols({table[i] for i in symbols.unique().tolist()}, inpainter)
    translation = torch.tensor([own.get(symbol, 0) for symbol in table])
    return Guide(
        wav, translation[symbols], pitch_track(placed, frames), voicing_track(symbols, table)
    )


def check_symbols(used: Set[str], inpainter: Loaded) -> None:
    """Raise ValueError for symbols that the inpainter was not trained with."""
    if missing := sorted(used - set(inpainter.data["symbols"])):
        raise ValueError(
            f"{inpainter.path} does not know the symbols {' '.join(missing)}: it was trained with "
            "another table; train it again, or draft with a transformer of its table"
        )


def no_inpainter(song: Song, draft: Tensor) -> Sung:
    """The draft (S,) as the vocal where one is made: the last stage is Griffin-Lim."""
    vocal = song.vocal.clone()
    for start, stop in song.ranges:
        vocal[start:stop] = draft[start:stop] * song.gain
    return Sung(vocal, 0, 0, ())


def context_parts(inpainter: Loaded) -> tuple[str, ...]:
    """The parts of the context that the network was trained with; the others stay missing."""
    return tuple(inpainter.data.get("context", MEL_ONLY))


def sing(
    inpainter: Loaded,
    vocal: Tensor,
    accompaniment: Tensor,
    ranges: Sequence[tuple[int, int]],
    config: Inpainting,
    seed: int,
    guide: Guide | None = None,
    draft: Tensor | None = None,
    quiet: bool = False,
) -> Sung:
    """Make the vocal of a song (S,) anew within ranges [start, stop) of samples.

    `guide` is the context of the network, `draft` (S,) what strength < 1 starts from. Unless
    `quiet`, a progress bar counts the levels of the batches of windows. Memory: the song, and a
    few windows.
    """
    hp = inpainter.hyperparams
    length, hop = len(accompaniment), hp.audio.hop_length
    known = torch.stack([vocal, accompaniment])  # (2, S)
    is_known = torch.ones_like(known, dtype=torch.bool)
    for start, stop in ranges:
        is_known[VOCAL, start:stop] = False
    overlap = min(config.overlap, hp.window // 2) // hop * hop
    plan = plan_windows(length, hp.window, overlap, ranges, config.order, hop)
    fade = min(config.fade, overlap)
    context_of = None if guide is None else GuideContext(inpainter, guide, plan[-1].stop)
    start_from = None if draft is None else torch.stack([draft, accompaniment])  # (2, S)
    has_draft = context_of is not None and "wav" in context_of.parts
    levels = len(sampling_sigmas(config, has_draft)) - 1
    total = len(list(batches(plan, config.batch_size))) * levels
    with (
        tqdm(total=total, desc=f"vocal, {len(plan)} windows", unit="step", disable=quiet) as bar,
        Evaluations(inpainter) as evaluations,
    ):
        generate = window_sampler(
            denoiser_of(inpainter.network, hp),
            config,
            seed,
            context_of,
            None if start_from is None else lambda jobs: cut(start_from, jobs),
            lambda done, levels: bar.update(),
        )
        pieces = inpaint_song(
            read_from(known, is_known), length, plan, generate, fade, config.batch_size
        )
        sung = torch.cat([piece[VOCAL] for piece in pieces])
    seams = [seam(a, b, fade) for a, b in pairwise(plan) if a.region == b.region]
    return Sung(sung, len(plan), evaluations.count, tuple(s for s in seams if s[1] <= length))


class GuideContext:
    """The context of a batch of windows, cut from the guide exactly as training makes it."""

    def __init__(self, inpainter: Loaded, guide: Guide, stop: int) -> None:
        audio = inpainter.hyperparams.audio
        self.parts = context_parts(inpainter)
        self.hop_length = audio.hop_length
        self.features = Features(audio)
        self.standardise = inpainter.standardiser("mel").cpu()
        frames = -(-stop // audio.hop_length)
        self.wav = pad_to(guide.wav, stop)
        self.frames = {
            name: pad_to(part, frames)
            for name, part in guide.frames().items()
            if name in self.parts
        }

    def __call__(self, jobs: Sequence[Job]) -> Context:
        """The context of B windows, (B, T, ...)."""
        spans = [(job.window.start, job.window.stop) for job in jobs]
        wav = cut(self.wav[None], jobs)[:, 0]  # (B, S)
        hop = self.hop_length
        parts = {
            name: torch.stack([part[start // hop : stop // hop] for start, stop in spans])
            for name, part in self.frames.items()
        }
        context = Context(**parts)
        if "mel" in self.parts:
            context = replace(context, mel=self.standardise(window_mel(self.features, wav)))
        return replace(context, wav=wav) if "wav" in self.parts else context


def cut(song: Tensor, jobs: Sequence[Job]) -> Tensor:
    """The windows of a song (C, S), silence behind its end: (B, C, S)."""
    spans = [(job.window.start, job.window.stop) for job in jobs]
    return torch.stack([pad_to(song[:, start:stop], stop - start) for start, stop in spans])


class Evaluations:
    """Counts the items that a network evaluates while the `with` block runs."""

    def __init__(self, inpainter: Loaded) -> None:
        self.network, self.count = inpainter.network, 0

    def __enter__(self) -> Evaluations:
        def add(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self.count += len(inputs[0])

        self.hook = self.network.register_forward_pre_hook(add)
        return self

    def __exit__(self, *error: object) -> None:
        self.hook.remove()
