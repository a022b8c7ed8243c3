"""Our own notation: pitches, lengths, bars, chords, verses, faults; the songs that ship."""

from __future__ import annotations

from pathlib import Path

import pytest

from music.notation import parse_notation, read_notation
from music.underlay import sing
from text.frontend import Pronouncer

SONGS = sorted((Path(__file__).resolve().parents[2] / "examples" / "songs").glob("*.song"))
TUNE = """
title: A Tune   % remark
meter: 3/4
tempo: 60
intro: 1
style: waltz
notes: C4 | "C" F#4*3/2 Bb3/2 z | "Am7" C5*3~ | C5*2
words: Oh word-_-less
"""


def test_notes_chords_and_words() -> None:
    song = parse_notation(TUNE.replace("-_-less", "-less *"))
    notes = [(n.pitch, n.onset, n.offset) for n in song.melody.notes]
    assert notes == [(60, 5, 6), (66, 6, 7.5), (58, 7.5, 8), (72, 9, 14)]  # a bar, the pick-up's
    assert [lyric and lyric.text for lyric in song.melody.lyrics] == ["Oh", "word", "less", None]


def test_hyphens_part_and_underscores_prolong() -> None:
    song = parse_notation(TUNE)
    assert [lyric and lyric.text for lyric in song.melody.lyrics] == ["Oh", "word", None, "less"]
    assert [lyric and lyric.continues for lyric in song.melody.lyrics] == [False, True, None, False]
    (backing,) = song.backing
    assert min(note.onset for note in backing.notes) == 0.0
    assert {note.pitch % 12 for note in backing.notes if note.onset >= 9} == {9, 0, 4, 7}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("F#4*3/2", "F#4*9/2", "line 7: a bar of 6 quarter notes; expected 3"),
        ("Bb3/2", "H3", "line 7: 'H3' is no note"),
        ("Oh ", "", "line 8: 3 syllables for 4 notes"),
        ("waltz", "polka", "style 'polka'"),
        ("3/4", "3:4", "meter '3:4'"),
        ("title", "titel", "line 2: 'titel'; expected title"),
        ("| C5*2", "| D5*2", "line 7: a tie to another pitch"),
        ("tempo: 60", "tempo: fast", "tempo: 'fast' is no number"),
        ("notes: ", "words: ", "line 7: words before any notes"),
    ],
)
def test_faults_name_their_line(old: str, new: str, message: str) -> None:
    assert old in TUNE
    with pytest.raises(ValueError) as caught:
        parse_notation(TUNE.replace(old, new))
    assert message in str(caught.value)


def test_verses_repeat_the_tune() -> None:
    song = parse_notation('meter: 2/4\ntempo: 60\nnotes: "C" C4 D4 |\nwords: a b\nwords: c d\n')
    assert [lyric.text for lyric in song.melody.lyrics] == ["a", "b", "c", "d"]
    assert [n.onset for n in song.melody.notes] == [0, 1, 2, 3]
    assert song.verses == 2 and song.duration == 4


@pytest.mark.parametrize("path", SONGS, ids=lambda path: path.stem)
def test_songs_that_ship_can_be_sung(path: Path) -> None:
    song = read_notation(path)
    assert song.title and song.backing and "ublic domain" in path.read_text(encoding="utf-8")
    underlay = sing(song.melody, Pronouncer())
    written = sum(lyric is not None for lyric in song.melody.lyrics)
    assert abs(len(underlay.score.syllables) - written) <= 0.05 * written
    assert not underlay.score.transposed(-5).outside(48, 81)
    assert all(p.duration - p.syllables[0].onset <= 10 for p in underlay.score.phrases(0.3, 10))


def test_there_are_songs() -> None:
    assert 5 <= len(SONGS) <= 12
