"""Text underlay: nothing is lost, melismas, split notes, line breaks, time stamps, faults."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from melody_strategies import QUICK, melodies, wordless_melodies

from music.midi import write_midi
from music.midi_tracks import read_midi
from music.score import Lyric, Melody, Note, Score, Syllable, split_spelling, text_syllables
from music.underlay import lay_lyrics, sing
from text.frontend import Pronouncer
from text.lyrics import LyricLine, parse_lyrics

VERSES = (
    "Morning light on the window pane",
    "Carry my heart",
    "La la la, let the music play along the way",
    "O!",
    "Hallelujah, tomorrow",
)


@pytest.fixture(scope="module")
def pronouncer() -> Pronouncer:
    return Pronouncer()


def melody_of(*notes: tuple[float, float, int]) -> Melody:
    return Melody(tuple(Note(p, a, b) for a, b, p in notes), (None,) * len(notes))


def even_notes(count: int, start: float = 0.0, duration: float = 0.5) -> list[tuple]:
    return [(start + k * duration, start + (k + 1) * duration, 60 + k % 5) for k in range(count)]


def sounding_time(notes: tuple[Note, ...]) -> list[tuple[float, float, int]]:
    """Return the spans of equal pitch, so that a split note counts as one."""
    spans: list[list] = []
    for note in notes:
        if spans and math.isclose(spans[-1][1], note.onset) and spans[-1][2] == note.pitch:
            spans[-1][1] = note.offset
        else:
            spans.append([note.onset, note.offset, note.pitch])
    return [(round(a, 9), round(b, 9), p) for a, b, p in spans]


def expected_syllables(lines: list[LyricLine], pronouncer: Pronouncer) -> list[tuple[str, ...]]:
    return [s.phonemes for line in lines for s in text_syllables(line.text, pronouncer)[0]]


@QUICK
@given(melody=wordless_melodies, verses=st.lists(st.sampled_from(VERSES), min_size=1, max_size=4))
def test_syllables_and_sounding_time_are_conserved(
    melody: Melody, verses: list[str], pronouncer: Pronouncer
) -> None:
    lines = [LyricLine(text, k + 1) for k, text in enumerate(verses)]
    try:
        score = lay_lyrics(lines, melody, pronouncer).score
    except ValueError as error:
        assert "too long for the melody" in str(error)
        return
    assert [s.phonemes for s in score.syllables] == expected_syllables(lines, pronouncer)
    assert sounding_time(score.notes) == sounding_time(melody.notes)
    assert [s.line for s in score.syllables] == sorted(s.line for s in score.syllables)
    assert len(list(score.words())) == score.syllables[-1].word + 1


@QUICK
@given(melody=melodies)
def test_written_lyrics_keep_their_notes(melody: Melody, pronouncer: Pronouncer) -> None:
    texts = ("sing", "ing", "all", "light", "to", "day")
    lyrics = tuple(
        lyric and Lyric(texts[k % 6], lyric.continues, lyric.ends_line)
        for k, lyric in enumerate(melody.lyrics)
    )
    melody = Melody(melody.notes, lyrics, melody.tempo)
    score = sing(melody, pronouncer).score
    unworded = {note for notes in melody.unworded() for note in notes}
    sung = tuple(note for note in melody.notes if note not in unworded)
    assert sounding_time(score.notes) == sounding_time(sung)


def test_a_melisma_where_notes_outnumber_syllables(pronouncer: Pronouncer) -> None:
    melody = melody_of((0, 1, 60), (1, 2, 62), (2, 2.2, 64), (2.2, 2.4, 62), (2.4, 3.4, 60))
    score = lay_lyrics([LyricLine("Let it go on", 1)], melody, pronouncer).score
    assert [len(s.notes) for s in score.syllables].count(2) == 1
    slurred = next(s for s in score.syllables if len(s.notes) == 2)
    assert 2.0 <= slurred.notes[1].onset <= 2.4  # over the short notes


def test_notes_are_split_where_syllables_outnumber_them(pronouncer: Pronouncer) -> None:
    melody = melody_of((0, 1, 60), (1, 4, 62))
    score = lay_lyrics([LyricLine("Let it go on", 1)], melody, pronouncer).score
    assert [n.pitch for n in score.notes] == [60, 62, 62, 62]
    assert [n.onset for n in score.notes] == [0, 1, 2, 3]


def test_lines_break_at_rests(pronouncer: Pronouncer) -> None:
    melody = melody_of(*even_notes(5), *even_notes(7, 4.0), *even_notes(6, 9.0))
    lines = parse_lyrics("Let it go on now\nNever let it go again\nAll the day and night and on")
    score = lay_lyrics(lines, melody, pronouncer).score
    starts = [next(s for s in score.syllables if s.line == k).onset for k in range(3)]
    assert starts == [0.0, 4.0, 9.0]


def test_time_stamps_are_kept(pronouncer: Pronouncer) -> None:
    melody = melody_of(*even_notes(30, 1.0))
    lines = parse_lyrics("[00:04.00]Let it go\n[00:10.10]on and on\nand on")
    underlay = lay_lyrics(lines, melody, pronouncer)
    starts = [next(s for s in underlay.score.syllables if s.line == k).onset for k in range(3)]
    assert starts[:2] == [4.0, 10.0] and starts[2] > 10.0
    assert underlay.remarks == ("not sung: 6 notes before the first time stamp left out",)
    late = parse_lyrics("[00:04.00]Let it go\n[01:00.00]on and on")
    with pytest.raises(ValueError, match=r"line 2: no note .*60\.00 s"):
        lay_lyrics(late, melody, pronouncer)


def test_lyrics_that_do_not_fit_are_refused(pronouncer: Pronouncer) -> None:
    lines = [LyricLine("Carry my heart along the way", k) for k in range(1, 9)]
    with pytest.raises(ValueError, match=r"too long for the melody: 64 syllables in 8 lines"):
        lay_lyrics(lines, melody_of((0, 1, 60), (1, 2, 62)), pronouncer)
    with pytest.raises(ValueError, match="line 1: no word to pronounce"):
        lay_lyrics([LyricLine("...", 1)], melody_of((0, 1, 60)), pronouncer)


def test_pronounced_and_written_syllables_may_differ(pronouncer: Pronouncer) -> None:
    notes = tuple(Note(60 + k, float(k), k + 1.0) for k in range(3))
    every = Melody(notes, (Lyric("ev", True), Lyric("er", True), Lyric("y")))
    score = sing(every, pronouncer).score
    assert sounding_time(score.notes) == [(0, 1, 60), (1, 2, 61), (2, 3, 62)]
    one = Melody(notes[:1], (Lyric("tomorrow"),))
    assert [n.duration for n in sing(one, pronouncer).score.notes] == pytest.approx(
        [1 / 3] * 3, abs=0.2
    )
    with pytest.raises(ValueError, match="no word"):
        sing(Melody(notes[:1], (None,)), pronouncer)


@QUICK
@given(st.text("abcdeiouyrst'-", min_size=1, max_size=12), st.integers(1, 5))
def test_spelling_is_split_without_loss(word: str, count: int) -> None:
    parts = split_spelling(word, count)
    assert len(parts) == count and "".join(parts) == word
    letters = sum(c.isalnum() for c in word)
    assert all(any(c.isalnum() for c in part) for part in parts[: min(count, letters)])


def test_spelling_of_common_words() -> None:
    assert split_spelling("window", 2) == ["win", "dow"]
    assert split_spelling("carry", 2) == ["car", "ry"]
    assert split_spelling("l.a.", 2) == ["l.", "a."]
    assert split_spelling("u.s.a", 3) == ["u.", "s.", "a"]
    assert split_spelling("b.m.w.", 5) == ["b.", "m.", "w.", "", ""]
    assert split_spelling("p.m.", 1) == ["p.m."]


def test_a_score_can_be_written_and_sung_again(pronouncer: Pronouncer) -> None:
    melody = melody_of(*even_notes(12))
    score = lay_lyrics([LyricLine("Carry my heart along the way", 1)], melody, pronouncer).score
    again = sing(Melody.of(score), pronouncer).score
    assert [s.phonemes for s in again.syllables] == [s.phonemes for s in score.syllables]
    assert again.notes == score.notes
    assert isinstance(again, Score) and isinstance(again.syllables[0], Syllable)


@pytest.mark.parametrize(
    "line", ("I say {HH AH0 L OW1} to you", "twenty-four, a-walking home", "don't go, rock'n'roll")
)
def test_words_of_every_kind_are_sung_again_from_midi(
    tmp_path: Path, pronouncer: Pronouncer, line: str
) -> None:
    melody = melody_of(*even_notes(12))
    score = lay_lyrics([LyricLine(line, 1)], melody, pronouncer).score
    write_midi(score, tmp_path / "score.mid")
    again = sing(read_midi(tmp_path / "score.mid"), pronouncer)
    sounds = [
        [p.rstrip("12") for s in laid.syllables for p in s.phonemes]
        for laid in (again.score, score)
    ]
    assert sounds[0] == sounds[1]  # but for the stress within a compound, now two words
    assert not again.guessed and not again.remarks


@pytest.mark.parametrize("line", ["L.A. is mine", "in the U.S.A. forever", "at 5 p.m. I go"])
def test_words_that_are_spelled_come_back_from_midi(
    line: str, pronouncer: Pronouncer, tmp_path: Path
) -> None:
    syllables, _ = text_syllables(line, pronouncer)
    lyrics = [
        Lyric(s.text, not s.ends_word, place == len(syllables) - 1)
        for place, s in enumerate(syllables)
    ]
    notes = tuple(Note(60 + n, n * 0.5, n * 0.5 + 0.5) for n in range(len(lyrics)))
    write_midi(Melody(notes, tuple(lyrics)), tmp_path / "x.mid")
    score = sing(read_midi(tmp_path / "x.mid"), pronouncer)
    assert [s.phonemes for s in score.score.syllables] == [s.phonemes for s in syllables]
