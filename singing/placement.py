"""The draft of a vocal: rendered lines laid over a song, and what the inpainter is told of them.

Everything stands on the frames of the spectrogram, so that a line's frames are the song's frames.
Shapes: S samples, T frames, N symbols.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from text.lyrics import LyricLine
from text.symbols import is_voiced

Region = tuple[float, float]  # s, a part of the song that may be sung


@dataclass(frozen=True)
class DraftLine:
    """One rendered line: its sound, and the symbol that is read at each of its frames."""

    lyric: LyricLine
    wav: Tensor  # (S,)
    symbols: Tensor  # (T,) int64
    pitch: Tensor | None = None  # (T,) int64, MIDI note numbers, 0 = none; None when spoken


@dataclass(frozen=True)
class Placed:
    """A line and the frame of the song at which it begins."""

    line: DraftLine
    frame: int
    late: int  # frames behind the time that was asked for


def frame_symbols(alignment: Tensor, ids: Sequence[int], reduction: int, frames: int) -> Tensor:
    """The symbol that each frame attends to most: alignment (steps, N) → (frames,) int64."""
    read = torch.tensor(ids)[alignment.argmax(1).cpu()]  # (steps,)
    return read.repeat_interleave(reduction)[:frames]


def has_times(lyrics: Sequence[LyricLine]) -> bool:
    """Whether any line knows when it starts."""
    return any(lyric.start is not None for lyric in lyrics)


def lines_within(
    lyrics: Sequence[LyricLine], regions: Sequence[Region], duration: float
) -> list[LyricLine]:
    """The lines whose times lie in `regions` (s); all of them when no line has a time.

    A line without a time follows the one above it. Raises ValueError for a time behind the end of
    the song, and when no line is left.
    """
    if not has_times(lyrics):
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


def place_lines(
    lines: Sequence[DraftLine],
    regions: Sequence[Region],
    frame_rate: float,
    hop_length: int,
    pause: float,
) -> list[Placed]:
    """Lay lines over the regions (s), in order and never over each other.

    At their own times when they have them, a little late where the line before is not over yet; a
    line without a time follows `pause` seconds behind the one above. When no line has a time they
    are spread over the regions with equal rests. ValueError when they do not fit.
    """
    spans = [(math.ceil(a * frame_rate), math.floor(b * frame_rate)) for a, b in regions]
    lengths = [math.ceil(len(line.wav) / hop_length) for line in lines]
    if has_times([line.lyric for line in lines]):
        return _place_at_times(lines, lengths, spans, frame_rate, round(pause * frame_rate))
    assigned = _assign(lengths, spans, proportional=True) or _assign(lengths, spans, False)
    if assigned is None:
        total, room = sum(lengths) / frame_rate, sum(b - a for a, b in spans) / frame_rate
        longest = max(lengths) / frame_rate
        raise ValueError(
            f"the draft of {len(lines)} lines lasts {total:.2f} s (the longest line {longest:.2f} "
            f"s), which does not fit into {room:.2f} s of song: take fewer lines"
        )
    placed = []
    for number, (low, high) in enumerate(spans):
        here = [i for i, region in enumerate(assigned) if region == number]
        rest = (high - low - sum(lengths[i] for i in here)) / (len(here) + 1)
        position = float(low)
        for i in here:
            placed.append(Placed(lines[i], math.floor(position + rest), 0))
            position += rest + lengths[i]
    return placed


def _place_at_times(
    lines: Sequence[DraftLine],
    lengths: Sequence[int],
    spans: Sequence[tuple[int, int]],
    frame_rate: float,
    pause: int,
) -> list[Placed]:
    placed: list[Placed] = []
    free = 0  # first frame that no line sounds at
    for line, length in zip(lines, lengths, strict=True):
        start = line.lyric.start
        if start is None:
            wanted = free + pause if placed else spans[0][0]
        else:
            wanted = round(start * frame_rate)
        frame = max(wanted, free)
        high = next((b for a, b in spans if a - 1 <= wanted < b), spans[-1][1])
        if frame + length > high:
            raise ValueError(
                f"line {line.lyric.line_number} would sound from {frame / frame_rate:.2f} to "
                f"{(frame + length) / frame_rate:.2f} s, behind the end of its part of the song at "
                f"{high / frame_rate:.2f} s: shorten it, or let it start earlier"
            )
        placed.append(Placed(line, frame, frame - wanted))
        free = frame + length
    return placed


def _assign(
    lengths: Sequence[int], spans: Sequence[tuple[int, int]], proportional: bool
) -> list[int] | None:
    """The region of each line, in order; None when they do not fit in this way.

    Proportional: a line comes no earlier than its share of the lyrics is of the song.
    """
    room = [high - low for low, high in spans]
    edges = [sum(room[: i + 1]) / max(sum(room), 1) for i in range(len(room))]
    assigned, region, so_far = [], 0, 0.0
    for length in lengths:
        share = (so_far + length / 2) / max(sum(lengths), 1)
        if proportional:
            region = max(region, next(i for i, edge in enumerate(edges) if share <= edge + 1e-9))
        while region < len(spans) and length > room[region]:
            region += 1
        if region == len(spans):
            return None
        room[region] -= length
        assigned.append(region)
        so_far += length
    return assigned


def place_sung(
    lines: Sequence[DraftLine], frame_rate: float, hop_length: int, fade: int = 1
) -> list[Placed]:
    """Lay sung lines where their notes are, their first and last `fade` frames faded."""
    placed = []
    for line in lines:
        length = min(fade * hop_length, len(line.wav) // 2)
        wav, ramp = line.wav.clone(), torch.linspace(0.0, 1.0, length)
        wav[:length] *= ramp
        wav[len(wav) - length :] *= ramp.flip(0)
        frame = round(line.lyric.start * frame_rate)
        placed.append(Placed(replace(line, wav=wav), frame, 0))
    return placed


def draft_track(placed: Sequence[Placed], num_samples: int, hop_length: int) -> Tensor:
    """The placed lines as one track (S,), silence between them."""
    track = torch.zeros(num_samples)
    for place in placed:
        start = place.frame * hop_length
        track[start : start + len(place.line.wav)] += place.line.wav[: num_samples - start]
    return track


def symbol_track(placed: Sequence[Placed], num_frames: int) -> Tensor:
    """The symbol at each frame of the song, 0 (padding) where nothing is sung, (T,) int64."""
    return _track([(place.frame, place.line.symbols) for place in placed], num_frames)


def pitch_track(placed: Sequence[Placed], num_frames: int) -> Tensor | None:
    """The note (MIDI) at each frame of the song, 0 = none, (T,) int64; None when spoken."""
    parts = [(place.frame, place.line.pitch) for place in placed if place.line.pitch is not None]
    return _track(parts, num_frames) if parts else None


def _track(parts: Sequence[tuple[int, Tensor]], num_frames: int) -> Tensor:
    track = torch.zeros(num_frames, dtype=torch.int64)
    for frame, values in parts:
        values = values[: max(num_frames - frame, 0)]
        track[frame : frame + len(values)] = values
    return track


def voicing_track(symbols: Tensor, table: Sequence[str]) -> Tensor:
    """1 where the symbol (T,) of the song's frames is a voiced one of `table`, else 0, (T,)."""
    voiced = torch.tensor([float(is_voiced(symbol)) for symbol in table])
    return voiced[symbols]
