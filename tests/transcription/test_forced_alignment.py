"""Forced alignment on probabilities whose path is known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from transcription.forced_alignment import align_phonemes, pronounced
from transcription.labels import PHONEME_CLASSES, phoneme_class

HOP = 0.02
SYMBOLS = ["S", "IH1", "NG", " ", "L", "AW1", "D"]
SPANS = {"S": (10, 15), "IH1": (15, 40), "NG": (40, 44), "L": (60, 65), "AW1": (65, 90)}
SPANS |= {"D": (90, 93)}


def probabilities(spans: dict[str, tuple[int, int]], frames: int = 120) -> np.ndarray:
    """Probabilities (T, 39): 0.8 of what is sung, the rest shared."""
    classes = np.full(frames, len(PHONEME_CLASSES) - 1)
    for symbol, (first, last) in spans.items():
        classes[first:last] = phoneme_class(symbol)
    table = np.full((frames, len(PHONEME_CLASSES)), 0.2 / (len(PHONEME_CLASSES) - 1))
    table[np.arange(frames), classes] = 0.8
    return table


def frames_of(path) -> dict[str, tuple[int, int]]:
    return {
        symbol: (round(span[0] / HOP + 0.5), round(span[1] / HOP + 0.5))
        for symbol, span in zip(SYMBOLS, path.times, strict=True)
        if span is not None
    }


def test_phonemes_are_found_to_the_frame() -> None:
    path = align_phonemes(probabilities(SPANS), HOP, SYMBOLS)
    assert frames_of(path) == SPANS and path.times[3] is None
    assert np.allclose(path.pronunciation, 0.0) and path.aligned == 1.0


def test_a_silence_between_words_is_optional() -> None:
    joined = SPANS | {"L": (44, 50), "AW1": (50, 80), "D": (80, 83)}
    assert frames_of(align_phonemes(probabilities(joined), HOP, SYMBOLS)) == joined


def test_order_holds_whatever_is_heard() -> None:
    noise = np.random.default_rng(0).dirichlet(np.ones(39), 100)
    path = align_phonemes(noise, HOP, SYMBOLS)
    spans = [span for span in path.times if span is not None]
    assert all(a[1] <= b[0] + 1e-9 for a, b in pairwise(spans))
    assert all(onset < offset for onset, offset in spans)


def test_of_two_places_the_expected_one_is_taken() -> None:
    table = probabilities(SPANS | {"IH1": (15, 40)}, 240)
    table[120:240] = table[:120]  # the words are sung twice
    first = [(0.0, 1.0)] * 7
    second = [(2.4, 3.4)] * 7
    low, high = (align_phonemes(table, HOP, SYMBOLS[:3], s[:3]) for s in (first, second))
    assert high.times[1][0] - low.times[1][0] == pytest.approx(2.4, abs=0.03)


def test_wrong_words_are_not_recognised() -> None:
    path = align_phonemes(probabilities(SPANS), HOP, ["B", "EY1", "TH", " ", "M", "UW1", "F"])
    assert path.aligned == 0.0


def test_labels_that_are_right_are_sure_and_shifted_ones_are_not() -> None:
    times = [(SPANS[s][0] * HOP, SPANS[s][1] * HOP) if s in SPANS else None for s in SYMBOLS]
    right = pronounced(probabilities(SPANS), HOP, SYMBOLS, times)
    moved = [None if t is None else (t[0] + 0.9, t[1] + 0.9) for t in times]
    assert right.aligned == 1.0
    assert pronounced(probabilities(SPANS), HOP, SYMBOLS, moved).aligned == 0.0


def test_what_cannot_be_aligned_says_so() -> None:
    with pytest.raises(ValueError, match="without a word"):
        align_phonemes(probabilities(SPANS), HOP, ["~"])
    with pytest.raises(ValueError, match="5 frames"):
        align_phonemes(probabilities(SPANS)[:5], HOP, SYMBOLS)
    with pytest.raises(ValueError, match="too much to align"):
        align_phonemes(np.zeros((200_000, 39)), HOP, SYMBOLS * 600)
