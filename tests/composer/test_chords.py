"""Chord charts: what musicians write is read, what is none is refused by bar or line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from backing import chord_at, render_backing

from composer.chords import parse_chart, parse_chord, parse_spans, read_chart
from composer.harmony import NO_CHORD, Chart, analyse, chord_name

MINOR = 12


@pytest.mark.parametrize(
    ("name", "triad"),
    [
        *(("C", "C"), ("Am", "Am"), ("F#m7", "F#m"), ("Bb/D", "Bb"), ("Cmaj7", "C")),
        *(("CM7", "C"), ("Gsus4", "G"), ("G7", "G"), ("E♭", "Eb"), ("Dbm", "C#m"), ("B#", "C")),
        *(("Cb", "B"), ("Bdim", "Bm"), ("F#ø7", "F#m"), ("A-7", "Am"), ("Caug", "C")),
        *(("C6/9", "C"), ("C5", "C"), ("D:min7", "Dm"), ("G:maj/3", "G"), ("A:min/b3", "Am")),
        *(("Cadd9", "C"), ("Am7b5", "Am"), ("E7#9", "E"), ("N.C.", "N"), ("N", "N"), ("NC", "N")),
        *(("Amadd9", "Am"), ("Dmadd11", "Dm"), ("Ama7", "A"), ("AMIN", "Am"), ("Do7", "Dm")),
    ],
)
def test_names_are_read_as_triads(name: str, triad: str) -> None:
    assert chord_name(parse_chord(name)) == triad


@pytest.mark.parametrize("name", ["H", "c", "Cx", "A mi", "", "Moll", "B♭♭q", "4", "Foo"])
def test_what_is_no_chord_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        parse_chord(name)


def test_every_triad_has_the_name_that_is_read_as_it() -> None:
    assert [parse_chord(chord_name(chord)) for chord in range(25)] == list(range(25))


def names(chart: Chart) -> list[str]:
    return [" ".join(map(chord_name, bar)) for bar in chart.bars]


@pytest.mark.parametrize(
    ("text", "bars"),
    [
        ("C | Am | F G", ["C", "Am", "F G"]),
        ("| C | Am |\n| F G |", ["C", "Am", "F G"]),
        ("[Verse 1]\nC | %  # twice\n\n# all\nF || G", ["C", "C", "F", "G"]),
        ("C . . G | . Am", ["C C C G", "G Am"]),
        ("C | G x3\nF", ["C", "G", "C", "G", "C", "G", "F"]),
        ("F#m | C# N.C.", ["F#m", "C# N"]),
    ],
)
def test_bars_are_read(text: str, bars: list[str]) -> None:
    assert names(parse_chart(text)) == bars


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("C | Hm", "bar 2: 'Hm' is no chord"),
        ("C | | G", "bar 2 is empty"),
        ("% | C", "bar 1: % stands alone"),
        (". C", "bar 1: '.' holds"),
        ("C | Gfoo", "bar 2: 'Gfoo': 'foo' is no kind"),
        ("# nothing\n", "no chord in"),
    ],
)
def test_errors_name_the_bar(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_chart(text)


def test_files_are_read_and_named(tmp_path: Path) -> None:
    chart, lab = tmp_path / "song.txt", tmp_path / "song.lab"
    chart.write_text("C | Am\nF | G\n")
    lab.write_text("0.0 2.0 C:maj\n2.0\t4.5 A:min7\n4.5 9 N\n")
    assert names(read_chart(str(chart))) == ["C", "Am", "F", "G"]
    assert [(s, e, chord_name(c)) for s, e, c in read_chart(str(lab)).spans] == [
        (0.0, 2.0, "C"),
        (2.0, 4.5, "Am"),
        (4.5, 9.0, "N"),
    ]
    chart.write_text("C | Q")
    with pytest.raises(ValueError, match=r"song\.txt: bar 2"):
        read_chart(str(chart))
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_chart(str(tmp_path / "none.txt"))
    for text, words in (("0 C", "line 1 '0 C'"), ("0 2 C\n1 3 G", "line 2: 1 to 3 s")):
        with pytest.raises(ValueError, match=words):
            parse_spans(text)


def test_bars_are_shared_evenly_by_their_chords() -> None:
    beats = np.arange(10) * 0.5
    chart = parse_chart("C | F G | Am . . E")
    by_beat = [chord_name(c) for c in chart.by_beat(beats, 4, 1)]
    assert by_beat == ["C", *("C" * 4), "F", "F", "G", "G", "Am"]  # the first beat is an upbeat
    waltz = parse_chart("C F G").by_beat(beats, 3, 0)
    assert [chord_name(c) for c in waltz[:4]] == ["C", "F", "G", "C"]
    with pytest.raises(ValueError, match="bar 3 of the chords has 4, but bars have 3 beats"):
        chart.by_beat(beats, 3, 0)


def test_given_chords_are_laid_where_they_are_played() -> None:
    """They replace what is heard; the bars lie where they fit, behind silence and an upbeat."""
    played = [9 + MINOR, 5, 0, 7]
    backing = render_backing(played, 96.0, 4, bars=8, lead=3.1, pattern="arpeggio")
    for chart in (
        parse_chart("Am | F | C | G"),
        Chart(spans=((0.0, 3.0, NO_CHORD), (3.1, 5.6, 21), (5.6, 8.1, 5), (8.1, 40.0, 0))),
    ):
        harmony = analyse(backing.wav, backing.sample_rate, chart=chart)
        downbeats = harmony.beats[harmony.is_downbeat]
        apart = np.abs(backing.beats[backing.is_downbeat][:, None] - downbeats).min(1)
        assert apart.max() < 0.1
        assert [chord_at(harmony, t) for t in (4.0, 6.5, 9.0)] == [21, 5, 0]
        assert chord_at(harmony, 1.0) in (NO_CHORD, 21)
    wrong = analyse(backing.wav, backing.sample_rate, chart=parse_chart("Eb | Ab"))
    assert {chord_name(c) for c in wrong.chords} <= {"Eb", "Ab", "N"}
    assert str(wrong.key) in ("Eb major", "Ab major")
    assert any("differ from those heard" in note for note in wrong.notes)
    assert any("2 bars of chords come again" in note for note in wrong.notes)
    with pytest.raises(ValueError, match="bar 1 of the chords has 5"):
        analyse(backing.wav, backing.sample_rate, chart=parse_chart("C D E F G"))
