"""Inpaint a whole song: plan windows, condition each, show progress, count evaluations.

Everything here is mono at the network's own rate and at its level of training (singing/song.py).
Shapes: B batch, S samples, T frames, M mels.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from inpainter.context import MEL_ONLY, Condition, ContextMaker, WindowContexts, cut
from inpainter.diffusion import VOCAL, sampling_sigmas
from inpainter.sampling import check_request, window_sampler
from inpainter.windows import Job, batches, inpaint_song, plan_windows, read_from, seam
from singing.placement import FrameTracks, PlacedPhrase, pitch_track, symbol_track
from singing.request import ProgressBar
from singing.song import SongAudio, scaled
from utils import scratch
from utils.loading import Loaded, denoiser_of

if TYPE_CHECKING:
    from hyperparams import Inpainting


@dataclass(frozen=True)
class InpaintedVocal:
    """The vocal of a whole song, and what it took to generate."""

    vocal: Tensor  # (S,), known samples bit by bit
    windows: int
    evaluations: int  # of the network, counted per window
    seams: tuple[tuple[int, int], ...]  # samples [start, stop) where neighbours are cross-faded


def check_inpainter(
    inpainter: Loaded, config: Inpainting, has_words: bool, has_draft: bool
) -> None:
    """Refuse knobs and networks that cannot do what is asked (`sampling.check_request`)."""
    unet = inpainter.hyperparams.unet
    check_request(
        config,
        unet.mask_input,
        bool(unet.context_width),
        has_words,
        has_draft,
        str(inpainter.path),
    )


def condition_from(
    placed: Sequence[PlacedPhrase],
    draft: Tensor,
    table: Sequence[str],
    song: SongAudio,
    inpainter: Loaded,
) -> Condition:
    """Return the inpainter's condition: the draft (S,) where it sings, else the known vocal.

    table: the symbols that the ids of the placed lines mean; they are translated to the
    inpainter's own. ValueError when it lacks one.
    """
    frames = -(-len(song.vocal) // inpainter.hyperparams.audio.hop_length)
    tracks = FrameTracks(symbol_track(placed, frames), pitch_track(placed, frames), table)
    return condition_on(tracks, draft, song, inpainter)


def condition_on(
    tracks: FrameTracks, draft: Tensor, song: SongAudio, inpainter: Loaded
) -> Condition:
    """Return the inpainter's condition of frame tracks; see `condition_from`."""
    wav = _pasted(song, draft)
    if tracks.symbols is None:
        return Condition(wav, None, tracks.pitch)
    own = {symbol: index for index, symbol in enumerate(inpainter.data["symbols"])}
    if "phoneme" in inpainter.data.get("context", MEL_ONLY):
        check_symbols({tracks.table[i] for i in tracks.symbols.unique().tolist()}, inpainter)
    translation = torch.tensor([own.get(symbol, 0) for symbol in tracks.table])
    return Condition(wav, translation[tracks.symbols], tracks.pitch)


def check_symbols(used: Set[str], inpainter: Loaded) -> None:
    """Raise ValueError for symbols that the inpainter was not trained with."""
    if missing := sorted(used - set(inpainter.data["symbols"])):
        raise ValueError(
            f"{inpainter.path} does not know the symbols {' '.join(missing)}: it was trained with "
            "another table; train it again, or draft with a transformer of its table"
        )


def draft_as_vocal(song: SongAudio, draft: Tensor) -> InpaintedVocal:
    """Take the draft (S,) as the vocal of the ranges: Griffin-Lim is the last stage."""
    return InpaintedVocal(_pasted(song, draft, song.gain), 0, 0, ())


def _pasted(song: SongAudio, draft: Tensor, gain: float = 1.0) -> Tensor:
    """Return the vocal of a song (S,), within its ranges the draft (S,)."""
    wav = scaled(song.vocal, 1.0)
    for first, last in song.ranges:
        for start, stop in scratch.blocks(last - first):
            wav[first + start : first + stop] = draft[first + start : first + stop] * gain
    return wav


def inpaint_ranges(
    inpainter: Loaded,
    vocal: Tensor,
    accompaniment: Tensor,
    ranges: Sequence[tuple[int, int]],
    config: Inpainting,
    seed: int,
    condition: Condition | None = None,
    draft: Tensor | None = None,
    quiet: bool = False,
) -> InpaintedVocal:
    """Make the vocal of a song (S,) anew within ranges [start, stop) of samples.

    `condition` conditions the network, `draft` (S,) what strength < 1 starts from. Unless
    `quiet`, a progress bar counts the levels of the batches of windows. Memory: the song, and a
    few windows.
    """
    hp = inpainter.hyperparams
    length, hop = len(accompaniment), hp.audio.hop_length
    known = stacked(vocal, accompaniment)  # (2, S)
    is_known = scratch.zeros(known.shape, torch.bool).fill_(True)
    for start, stop in ranges:
        is_known[VOCAL, start:stop] = False
    overlap = min(config.overlap, hp.window // 2) // hop * hop
    contexts = None
    if condition is not None:
        contexts = WindowContexts(ContextMaker(hp.audio, inpainter.data), condition, hop)
    start_from = None if draft is None else stacked(draft, accompaniment)  # (2, S)
    has_draft = contexts is not None and "wav" in contexts.maker.parts
    levels = len(sampling_sigmas(config, has_draft)) - 1
    # One look at a draft: what the left neighbour made of the overlap changes a window by less
    # than another seed does, so none waits for another.
    plan = plan_windows(length, hp.window, overlap, ranges, hop, chained=levels > 1)
    fade = min(config.fade, overlap)
    on_cpu = next(inpainter.network.parameters()).device.type == "cpu"
    batch_size = 1 if on_cpu else config.batch_size
    total = len(list(batches(plan, batch_size))) * levels
    with (
        ProgressBar("inpaint", total, "step", f"vocal, {len(plan)} windows", quiet) as bar,
        Evaluations(inpainter) as evaluations,
    ):

        def report_level(done: int, levels: int) -> None:
            bar.update()

        generate = window_sampler(
            denoiser_of(inpainter.network, hp),
            config,
            seed,
            None if contexts is None else lambda jobs: contexts(spans(jobs)),
            None if start_from is None else lambda jobs: cut(start_from, spans(jobs)),
            report_level,
        )
        pieces = inpaint_song(read_from(known, is_known), length, plan, generate, fade, batch_size)
        sung, done = scratch.zeros((length,)), 0
        for piece in pieces:
            sung[done : done + piece.shape[1]] = piece[VOCAL]
            done += piece.shape[1]
            scratch.forget()
    seams = [seam(a, fade) for a, b in pairwise(plan) if a.region == b.region]
    return InpaintedVocal(
        sung, len(plan), evaluations.count, tuple(s for s in seams if s[1] <= length)
    )


def stacked(vocal: Tensor, accompaniment: Tensor) -> Tensor:
    """Return two channels (2, S)."""
    both = scratch.zeros((2, len(vocal)), vocal.dtype)
    for start, stop in scratch.blocks(len(vocal)):
        both[0, start:stop], both[1, start:stop] = vocal[start:stop], accompaniment[start:stop]
    return both


def spans(jobs: Sequence[Job]) -> list[tuple[int, int]]:
    """Return the samples [start, stop) of the jobs' windows."""
    return [(job.window.start, job.window.stop) for job in jobs]


class Evaluations:
    """Count the items that a network evaluates while the `with` block runs."""

    def __init__(self, inpainter: Loaded) -> None:
        self.network, self.count = inpainter.network, 0

    def __enter__(self) -> Evaluations:
        def add(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self.count += len(inputs[0])

        self.hook = self.network.register_forward_pre_hook(add)
        return self

    def __exit__(self, *error: object) -> None:
        self.hook.remove()
