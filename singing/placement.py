"""The draft of a vocal: rendered phrases laid over a song.

Everything stands on the frames of the spectrogram, so that a phrase's frames are the song's frames.
Shapes: S samples, T frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from singing.melody import MelodyResult, chord_changes
from singing.performance import with_breaths
from singing.voice import (
    Refine,
    RenderedPhrase,
    Voice,
    render_phrases,
    render_refined,
    spoken_phrases,
    sung_phrases,
)
from utils import scratch

if TYPE_CHECKING:
    from hyperparams import Audio
    from music.score import Score
    from text.frontend import Pronouncer
    from text.lyrics import LyricLine

Region = tuple[float, float]  # s, a part of the song that may be sung
PAUSE = 0.35  # s of silence between spoken lines, a breath


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


def spoken_draft(
    voice: Voice,
    lyrics: Sequence[LyricLine],
    pronouncer: Pronouncer,
    regions: Sequence[Region],
    num_samples: int,
    seed: int,
) -> Draft:
    """Speak the lyrics over the regions (s) of a song of `num_samples`.

    Raises ValueError when they do not fit there or cannot be pronounced.
    """
    audio = voice.hyperparams.audio
    chosen = lines_within(lyrics, regions, num_samples / audio.sample_rate)
    rendered = render_phrases(voice, spoken_phrases(chosen, pronouncer), seed)
    placed = place_spoken(rendered, regions, audio.frame_rate, audio.hop_length, PAUSE)
    return Draft(placed, draft_track(placed, num_samples, audio.hop_length))


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


# ---------------------------------------------------------------------------- spoken lines


def lines_within(
    lyrics: Sequence[LyricLine], regions: Sequence[Region], duration: float
) -> list[LyricLine]:
    """Return the lines whose times lie in `regions` (s); all of them when no line has a time.

    A line without a time follows the one above it. Raises ValueError for a time behind the end of
    the song, and when no line is left.
    """
    if all(lyric.start is None for lyric in lyrics):
        return list(lyrics)
    kept, start = [], 0.0
    for lyric in lyrics:
        start = start if lyric.start is None else lyric.start
        if start >= duration:
            raise ValueError(
                f"line {lyric.line_number} starts at {start:.2f} s, but the song ends at "
                f"{duration:.2f} s: correct its time, or give a longer accompaniment"
            )
        if any(low <= start < high for low, high in regions):
            kept.append(lyric)
    if not kept:
        spans = ", ".join(f"{low:g}-{high:g} s" for low, high in regions)
        raise ValueError(f"no line of the lyrics starts within {spans}: nothing to sing there")
    return kept


def place_spoken(
    phrases: Sequence[RenderedPhrase],
    regions: Sequence[Region],
    frame_rate: float,
    hop_length: int,
    pause: float,
) -> list[PlacedPhrase]:
    """Lay spoken phrases over the regions (s), in order and never over each other.

    With times of their own they begin there, a little late where the phrase before is not over
    yet; one without follows `pause` seconds behind the one above. When none has a time they are
    spread over the regions with equal rests. Raises ValueError when they do not fit.
    """
    spans = [(math.ceil(a * frame_rate), math.floor(b * frame_rate)) for a, b in regions]
    lengths = [math.ceil(len(rendered.wav) / hop_length) for rendered in phrases]
    if any(rendered.phrase.start is not None for rendered in phrases):
        return _place_at_times(phrases, lengths, spans, frame_rate, round(pause * frame_rate))
    # Each region takes its share of the lyrics where that fits, else as many as find room.
    assigned = _assign(lengths, spans, proportional=True) or _assign(lengths, spans, False)
    if assigned is None:
        total, room = sum(lengths) / frame_rate, sum(b - a for a, b in spans) / frame_rate
        longest = max(lengths) / frame_rate
        raise ValueError(
            f"the draft of {len(phrases)} lines lasts {total:.2f} s (the longest line "
            f"{longest:.2f} s), which does not fit into {room:.2f} s of song: take fewer lines"
        )
    placed = []
    for number, (low, high) in enumerate(spans):
        here = [i for i, region in enumerate(assigned) if region == number]
        rest = (high - low - sum(lengths[i] for i in here)) / (len(here) + 1)
        position = float(low)
        for i in here:
            placed.append(PlacedPhrase(phrases[i], math.floor(position + rest)))
            position += rest + lengths[i]
    return placed


def _place_at_times(
    phrases: Sequence[RenderedPhrase],
    lengths: Sequence[int],
    spans: Sequence[tuple[int, int]],
    frame_rate: float,
    pause: int,
) -> list[PlacedPhrase]:
    placed: list[PlacedPhrase] = []
    free = 0  # first frame at which no phrase sounds
    for rendered, length in zip(phrases, lengths, strict=True):
        start = rendered.phrase.start
        if start is None:
            wanted = free + pause if placed else spans[0][0]
        else:
            wanted = round(start * frame_rate)
        frame = max(wanted, free)
        high = next((b for a, b in spans if a - 1 <= wanted < b), spans[-1][1])
        if frame + length > high:
            raise ValueError(
                f"line {rendered.phrase.line_number} would sound from {frame / frame_rate:.2f} to "
                f"{(frame + length) / frame_rate:.2f} s, behind the end of its part of the song at "
                f"{high / frame_rate:.2f} s: shorten it, or let it start earlier"
            )
        placed.append(PlacedPhrase(rendered, frame, frame - wanted))
        free = frame + length
    return placed


def _assign(
    lengths: Sequence[int], spans: Sequence[tuple[int, int]], proportional: bool
) -> list[int] | None:
    """Return the region of each phrase, in order; None when they do not fit in this way.

    proportional: a phrase comes no earlier than its share of the lyrics is of the song.
    """
    room = [max(high - low, 0) for low, high in spans]  # a part shorter than a frame has none
    edges = [sum(room[: i + 1]) / max(sum(room), 1) for i in range(len(room))]
    assigned, region, so_far = [], 0, 0.0
    for length in lengths:
        share = (so_far + length / 2) / max(sum(lengths), 1)
        if proportional:
            reached = (i for i, edge in enumerate(edges) if share <= edge + 1e-9)
            region = max(region, next(reached, len(spans) - 1))
        while region < len(spans) and length > room[region]:
            region += 1
        if region == len(spans):
            return None
        room[region] -= length
        assigned.append(region)
        so_far += length
    return assigned


# ---------------------------------------------------------------------------- sung phrases


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


# ---------------------------------------------------------------------------- tracks of a song


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
