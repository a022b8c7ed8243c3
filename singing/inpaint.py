"""Lay a draft over a whole song, and make the vocal of it: windows, conditions, evaluations.

Everything stands on the frames of the spectrogram, so that a phrase's frames are the song's frames.
What the inpainter gets is mono at its own rate and at its level of training (singing/song.py).
Shapes: B batch, S samples, T frames, M mels.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from inpainter.context import MEL_ONLY, Condition, ContextMaker, WindowContexts, cut
from inpainter.diffusion import VOCAL, sampling_sigmas
from inpainter.sampling import check_request, window_sampler
from inpainter.windows import Job, batches, inpaint_song, plan_windows, read_from, seam
from singing.melody import MelodyResult, chord_changes
from singing.performance import with_breaths
from singing.request import ProgressBar
from singing.song import SongAudio, scaled
from singing.voice import (
    Refine,
    RenderedPhrase,
    Voice,
    render_phrases,
    render_refined,
    sung_phrases,
)
from utils import scratch
from utils.loading import Loaded, denoiser_of

if TYPE_CHECKING:
    from hyperparams import Audio, Inpainting
    from music.score import Score

PAUSE = 0.35  # s of silence between spoken lines, a breath


# ---------------------------------------------------------------------------- the draft


@dataclass(frozen=True)
class PlacedPhrase:
    """A rendered phrase and the frame of the song at which it begins."""

    rendered: RenderedPhrase
    frame: int
    late: int = 0  # frames behind the time that its lyrics have
    fade: int = 0  # samples at either end over which it is faded

    def sound(self) -> Tensor:
        """Return its waveform (S,), faded."""
        wav = self.rendered.wav
        length = min(self.fade, len(wav) // 2)
        if not length:
            return wav
        wav, ramp = wav.clone(), torch.linspace(0.0, 1.0, length)
        wav[:length] *= ramp
        wav[len(wav) - length :] *= ramp.flip(0)
        return wav


@dataclass(frozen=True)
class FrameTracks:
    """What sounds at each frame of a song, where no phrases say it."""

    symbols: Tensor | None  # (T,) int64, ids of `table`
    pitch: Tensor | None  # (T,) MIDI note numbers, 0 = none
    table: Sequence[str]


@dataclass(frozen=True)
class Draft:
    """The draft vocal of a whole song: its sound, and its phrases in place."""

    placed: list[PlacedPhrase]
    wav: Tensor  # (S,)
    score: Score | None = None  # None when the lyrics are spoken
    chords: Sequence[tuple[float, str]] = ()  # s and name, those the melody was composed on
    tracks: FrameTracks | None = None  # of a vocal without phrases
    is_levelled: bool = False  # as loud as the take that it is sung into

    @property
    def phrases(self) -> list[RenderedPhrase]:
        """The rendered phrases in order."""
        return [place.rendered for place in self.placed]

    def report(self, audio: Audio) -> list[dict[str, Any]]:
        """Describe each phrase for report.json."""
        return [
            {
                **place.rendered.report(audio.sample_rate),
                "start": place.frame / audio.frame_rate,
                "late": place.late / audio.frame_rate,
            }
            for place in self.placed
        ]


def sung_draft(
    voice: Voice,
    melody: MelodyResult,
    num_samples: int,
    seed: int | Sequence[int],
    refine: Refine | None = None,
) -> Draft:
    """Sing a melody over a song of `num_samples`, every note at its time.

    seed: one, or one per phrase, see `render_phrases`. refine: makes the mels that are sung of the
    transformer's.
    """
    audio = voice.hyperparams.audio
    phrases = sung_phrases(melody.underlay, melody.line_numbers, 1.0 / audio.frame_rate)
    if refine is None:
        rendered = render_phrases(voice, phrases, seed)
    else:
        rendered = render_refined(voice, phrases, seed, refine)
    placed = place_sung(rendered, audio.frame_rate, audio.hop_length)
    wav = draft_track(placed, num_samples, audio.hop_length)
    first = seed if isinstance(seed, int) else seed[0]
    knobs = voice.hyperparams.synthesis
    wav = with_breaths(wav, melody.underlay.score, knobs, audio, first)
    chords = chord_changes(melody.harmony) if melody.harmony else ()
    return Draft(placed, wav, melody.underlay.score, chords)


def place_sung(
    phrases: Sequence[RenderedPhrase], frame_rate: float, hop_length: int, fade: int = 1
) -> list[PlacedPhrase]:
    """Lay sung phrases where their notes are, their first and last `fade` frames faded."""
    placed = []
    for rendered in phrases:
        assert rendered.phrase.start is not None, "a sung phrase has a time"
        frame = round(rendered.phrase.start * frame_rate)
        placed.append(PlacedPhrase(rendered, frame, fade=fade * hop_length))
    return placed


def draft_track(placed: Sequence[PlacedPhrase], num_samples: int, hop_length: int) -> Tensor:
    """Lay the placed phrases on one track (S,), silence between them."""
    track = scratch.zeros((num_samples,))
    for place in placed:
        start, wav = place.frame * hop_length, place.sound()
        track[start : start + len(wav)] += wav[: num_samples - start]
        scratch.forget()
    return track


def symbol_track(placed: Sequence[PlacedPhrase], num_frames: int) -> Tensor:
    """Return the symbol at each frame of the song, 0 (padding) where nothing is sung, (T,)."""
    return _track([(place.frame, place.rendered.symbols) for place in placed], num_frames)


def pitch_track(placed: Sequence[PlacedPhrase], num_frames: int) -> Tensor | None:
    """Return the note (MIDI) at each frame of the song, 0 = none, (T,); None when spoken."""
    notes = [(place.frame, place.rendered.pitch) for place in placed]
    parts = [(frame, pitch) for frame, pitch in notes if pitch is not None]
    return _track(parts, num_frames) if parts else None


def _track(parts: Sequence[tuple[int, Tensor]], num_frames: int) -> Tensor:
    track = torch.zeros(num_frames, dtype=torch.int64)
    for frame, values in parts:
        values = values[: max(num_frames - frame, 0)]
        track[frame : frame + len(values)] = values
    return track


# ---------------------------------------------------------------------------- the inpainter


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
