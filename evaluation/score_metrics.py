"""Does a voice sing its score: notes frame by frame, levels, onsets, and wrong lyrics to compare.

Shapes: N symbols, T frames, M mels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from corpora.records import song_of
from text.symbols import is_vowel, word_spans


def note_track(
    notes: Sequence[Sequence[float]], num_frames: int, seconds_per_frame: float
) -> tuple[np.ndarray, np.ndarray]:
    """MIDI number (T,) of the note that sounds at each frame, and where one does, (T,) bool.

    notes: (onset, offset, pitch) in s, as a score record holds them; frame t is at t *
    seconds_per_frame.
    """
    times = np.arange(num_frames) * seconds_per_frame
    pitch = np.zeros(num_frames)
    for onset, offset, midi in notes:
        pitch[(times >= onset) & (times < offset)] = midi
    return pitch, pitch > 0


def mel_level(mel: np.ndarray) -> float:
    """Level of a raw natural-log mel spectrogram (T, M) in dB: its mean power over frames.

    Only differences of such levels mean anything. Raises ValueError for no frame.
    """
    if not len(mel):
        raise ValueError("the level of no frame is asked for")
    return float(10 * np.log10(np.exp(2 * mel.astype(np.float64)).sum(1).mean()))


def frame_distance(prediction: np.ndarray, target: np.ndarray) -> float:
    """Mean |difference| of standardised features (T, M), frame by frame over the common frames."""
    common = min(len(prediction), len(target))
    if not common:
        raise ValueError("the distance of no frame is asked for")
    return float(np.abs(prediction[:common] - target[:common]).mean())


def onset_deviations(
    heard: Sequence[float], score: Mapping[str, Sequence[float]], symbols: Sequence[str]
) -> list[float]:
    """Seconds by which each sung vowel comes late (early < 0) against the onset of its note.

    heard (N,): onset of each symbol in s, as a forced alignment gives it; score: onset, pitch and
    slur of each symbol. A vowel that goes on over another note has one onset.
    """
    return [
        float(heard[place] - score["onset"][place])
        for place, symbol in enumerate(symbols)
        if is_vowel(symbol) and score["pitch"][place] > 0
    ]


def sound_of(symbols: Sequence[str]) -> tuple[str, ...]:
    """The words of a line as they sound: phonemes without stress and punctuation."""
    return tuple(
        " ".join(symbol.rstrip("012") for symbol in symbols[first : last + 1])
        for first, last in word_spans(symbols)
    )


def wrong_lyrics(
    item: Mapping[str, Any], items: Sequence[Mapping[str, Any]], count: int
) -> list[tuple[str, ...]]:
    """Symbols of `count` other phrases of like length: what a listener might mistake it for.

    items: of an index, with id and symbols. Those with the nearest number of phonemes, from other
    songs, that do not sound the same; fewer when there are no more. Ties go by id.
    """

    def size(other: Mapping[str, Any]) -> int:
        return sum(last - first + 1 for first, last in word_spans(other["symbols"]))

    own, sound = size(item), sound_of(item["symbols"])
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    others = [other for other in items if song_of(other["id"]) != song_of(item["id"])]
    for other in sorted(others, key=lambda other: (abs(size(other) - own), other["id"])):
        line = sound_of(other["symbols"])
        if line and line != sound and len(found) < count:
            found.setdefault(line, tuple(other["symbols"]))
    return list(found.values())
