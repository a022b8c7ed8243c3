"""The draft of a song's vocal: lines spoken over it, or a melody sung where its notes are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from music.score_batch import ScoreTracks
from singing.placement import (
    DraftLine,
    Placed,
    Region,
    draft_track,
    frame_symbols,
    lines_within,
    place_lines,
    place_sung,
)
from singing.voice import Line, Voice, render, spoken_phrases, sung_phrases
from text.lyrics import LyricLine

if TYPE_CHECKING:
    from music.score import Score
    from singing.melody import Topline
    from text.frontend import Pronouncer

PAUSE = 0.35  # s of silence between spoken lines, a breath


@dataclass
class Draft:
    """Lyrics laid over a song, as the inpainter is told of them."""

    lines: list[Line]
    placed: list[Placed]
    wav: Tensor  # (S,)
    voice: Voice
    score: Score | None = None  # None when the lyrics are spoken

    def report(self) -> list[dict[str, Any]]:
        """What report.json says of each line."""
        audio = self.voice.hyperparams.audio
        return [
            {
                **line.report(audio.sample_rate),
                "start": place.frame / audio.frame_rate,
                "late": place.late / audio.frame_rate,
            }
            for line, place in zip(self.lines, self.placed, strict=True)
        ]


def spoken_draft(
    voice: Voice,
    lyrics: Sequence[LyricLine],
    pronouncer: Pronouncer,
    regions: Sequence[Region],
    num_samples: int,
    seed: int,
) -> Draft:
    """Speak the lyrics over the regions (s) of a song of num_samples.

    Raises ValueError when they do not fit there or cannot be pronounced.
    """
    audio = voice.hyperparams.audio
    chosen = lines_within(lyrics, regions, num_samples / audio.sample_rate)
    lines = render(voice, spoken_phrases(chosen, pronouncer), seed)
    table = {symbol: index for index, symbol in enumerate(voice.transformer.data["symbols"])}
    reduction = voice.transformer.network.reduction_factor
    drafts = []
    for lyric, line in zip(chosen, lines, strict=True):
        ids = [table[symbol] for symbol in line.phrase.symbols]
        symbols = frame_symbols(line.alignment, ids, reduction, len(line.mel))
        drafts.append(DraftLine(lyric, line.wav, symbols))
    placed = place_lines(drafts, regions, audio.frame_rate, audio.hop_length, PAUSE)
    return Draft(lines, placed, draft_track(placed, num_samples, audio.hop_length), voice)


def sung_draft(voice: Voice, topline: Topline, num_samples: int, seed: int) -> Draft:
    """Sing a topline over a song of num_samples, every note at its time."""
    audio = voice.hyperparams.audio
    frame_seconds = 1.0 / audio.frame_rate
    phrases = sung_phrases(topline.underlay, topline.line_numbers, frame_seconds)
    lines = render(voice, phrases, seed)
    table = {symbol: index for index, symbol in enumerate(voice.transformer.data["symbols"])}
    items = [{"id": i, "symbols": p.symbols, "score": p.score} for i, p in enumerate(phrases)]
    tracks = ScoreTracks(items, table)
    drafts = []
    for number, line in enumerate(lines):
        symbols, pitch = tracks.window(number, 0.0, frame_seconds, len(line.mel))
        lyric = LyricLine(line.phrase.text, line.phrase.line_number, line.phrase.start)
        drafts.append(DraftLine(lyric, line.wav, symbols, pitch))
    placed = place_sung(drafts, audio.frame_rate, audio.hop_length)
    wav = draft_track(placed, num_samples, audio.hop_length)
    return Draft(lines, placed, wav, voice, topline.underlay.score)
