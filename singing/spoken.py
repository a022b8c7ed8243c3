"""Spoken lyrics over a song: which lines are spoken, and where."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from singing.inpaint import PAUSE, Draft, PlacedPhrase, draft_track
from singing.voice import RenderedPhrase, Voice, render_phrases, spoken_phrases

if TYPE_CHECKING:
    from text.frontend import Pronouncer
    from text.lyrics import LyricLine

Region = tuple[float, float]  # s, a part of the song that may be sung


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
