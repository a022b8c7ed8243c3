"""Pictures of songs: a melody in lines, its words and chords where they are sung."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from hyperparams import Audio
from music.score import Note, Score, Syllable
from singing import pictures
from singing.pictures import (
    LINE,
    LINE_GAP,
    MARGIN,
    MOST_LINES,
    Label,
    Roll,
    lines_of,
    melody_picture,
    place_x,
    roll_of,
    song_picture,
)
from utils.plotting import MASKED, PAGE, figure_to_image

AUDIO = Audio()
TOP = 10.0  # inch


def spoken(text: str, onset: float, pitch: int = 60, seconds: float = 0.5) -> Syllable:
    return Syllable(text, ("AA1",), 0, notes=(Note(pitch, onset, onset + seconds),))


def rolled(*syllables: Syllable, chords: Sequence[tuple[float, str]] = ()) -> Roll:
    score = Score(syllables)
    return roll_of(score, lines_of(score), TOP, chords)


def line_number(y: float) -> int:
    return int((TOP - y) / (LINE + LINE_GAP))


def places(labels: Sequence[Label]) -> list[tuple[str, int, float]]:
    """What is written, in which line, and how many inches from its left."""
    return [(label.text, line_number(label.y), label.x) for label in labels]


def test_a_melody_stands_in_lines_with_its_words_at_their_notes() -> None:
    one, two = spoken("one", 4.0), spoken("two", 17.5, 67)
    assert lines_of(Score((one, two))) == [(0, 8), (16, 24)]  # 8 to 16: nothing
    roll = rolled(one, two)
    first, second = place_x(4.0, (0, 8)), place_x(17.5, (16, 24))
    assert places(roll.words) == [
        ("one", 0, pytest.approx(first, abs=0.04)),
        ("two", 1, pytest.approx(second, abs=0.04)),
    ]
    left, bottom, right, top = roll.notes[1]
    assert (left, right) == pytest.approx((second, place_x(18.0, (16, 24))))
    g4 = next(tick for tick in roll.ticks if tick.text == "G4" and line_number(tick.y) == 1)
    assert (bottom + top) / 2 == pytest.approx(g4.y)


def test_a_note_over_the_edge_of_a_line_goes_on_in_the_next() -> None:
    roll = rolled(spoken("long", 7.0, seconds=3.0))
    edges = [(left, right) for left, _, right, _ in roll.notes]
    start, end = place_x(0, (0, 8)), place_x(8, (0, 8))
    assert edges == [(place_x(7, (0, 8)), end), (start, pytest.approx(place_x(2, (0, 8))))]


def test_words_of_fast_notes_do_not_cover_each_other() -> None:
    words = rolled(*(spoken(f"word{n}", 1 + 0.15 * n, seconds=0.14) for n in range(12))).words
    boxes = [pictures.outline_of(word).get_extents() for word in words]
    assert len(boxes) == 12
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]


def test_chords_stand_where_they_begin_and_go_on_in_the_next_line() -> None:
    chords = [(0.0, "C"), (6.0, "Am"), (10.0, "N"), (12.0, "G")]
    roll = rolled(spoken("a", 1.0), spoken("b", 9.0), chords=chords)
    at = [("C", 0, 0.0), ("Am", 0, 6.0), ("Am", 1, 0.0), ("G", 1, 4.0)]  # none for N
    expected = [(t, n, pytest.approx(place_x(s, (0, 8)), abs=0.05)) for t, n, s in at]
    assert places(roll.chords) == expected
    assert len(roll.strokes["change"]) == 2


def test_a_width_is_that_of_the_outline() -> None:
    for text in ("window", "i", "G#m7", "la-"):
        label = Label(text, 1.0, 1.0, 8.0)
        box = pictures.outline_of(label).get_extents()
        assert label.right == pytest.approx(box.x1, abs=0.02) and box.x0 >= 1.0


def test_a_picture_shows_notes_and_words_where_they_lie() -> None:
    score = Score((spoken("ooo", 2.0), spoken("low", 11.0, 55)))
    figure = melody_picture(score, [(0.0, "C")])
    figure.set_dpi(100)
    image = figure_to_image(figure)  # (3, height, width)
    colour = np.array(to_rgb(MASKED)) * 255
    is_note = (np.abs(image - colour[:, None, None]) < 12).all(0)
    columns = np.flatnonzero(is_note[: is_note.shape[0] // 2].any(0))
    expected = [100 * place_x(2.0, (0, 8)), 100 * place_x(2.5, (0, 8))]
    assert [columns[0], columns[-1]] == pytest.approx(expected, abs=3)
    word = roll_of(score, lines_of(score), figure.get_figheight() - MARGIN).words[0]
    height = image.shape[1]
    area = image[:, round(height - 100 * word.y) - 5 : round(height - 100 * word.y) + 5]
    inked = (area < 100).all(0)[:, round(100 * word.x) : round(100 * word.right)]
    assert 0.1 < inked.mean() < 0.8


def test_pictures_fit_a_page() -> None:
    roll = rolled(spoken("a", 1.0), chords=[(0.0, "C")])
    assert min(label.size for label in (*roll.words, *roll.chords, *roll.ticks)) >= 7
    wav = torch.zeros(30 * AUDIO.sample_rate)
    figure = song_picture({"vocal": wav}, AUDIO, {"vocal": [(0.5, 2.0)]}, Score((spoken("a", 1),)))
    assert figure.get_figwidth() == PAGE
    melody, upper, lower = figure.axes
    assert upper.get_xlim() == lower.get_xlim() == pytest.approx((0, 30))
    assert not melody.axison
    assert all(text.get_fontsize() >= 7 for text in lower.get_xticklabels())


def test_a_long_song_is_cut_and_says_so() -> None:
    count = MOST_LINES + 3
    score = Score(tuple(spoken("a", 8.0 * n) for n in range(count)))
    label = pictures.Label  # every text of the page goes through it
    seen: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "singing.pictures.Label", lambda text, *a, **k: seen.append(text) or label(text, *a)
        )
        figure = melody_picture(score)
    assert figure.get_figheight() < (MOST_LINES + 1) * (LINE + LINE_GAP)
    assert any(f"the first {MOST_LINES} of {count} lines" in text for text in seen)


def test_a_song_of_many_words_costs_few_artists() -> None:
    score = Score(tuple(spoken(f"w{n}", 0.5 * n, seconds=0.4) for n in range(400)))
    (axes,) = melody_picture(score).axes
    assert len(axes.get_children()) < 25
