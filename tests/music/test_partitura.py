"""Differential test: the notes of MusicXML as partitura reads them, another reader.

Compared are the written parts, repeats not unfolded: every note with its tied length.
"""

from __future__ import annotations

import warnings
from collections import Counter
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from test_musicxml import FOUR, PIANO, VOICE, measure, note, write

from music.musicxml import CONTAINER
from music.musicxml_parts import Part, read_parts
from music.safe_xml import parse_xml, read_compressed

partitura = pytest.importorskip("partitura", reason="needs the package partitura")
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "lieder_en"
Rows = Counter[tuple[Fraction, Fraction, int]]  # onset and length in quarter notes, pitch


def document(path: Path) -> bytes:
    if path.suffix == ".mxl":
        return read_compressed(path, CONTAINER, (".xml",))
    return path.read_bytes()


def ours(path: Path) -> dict[str, Rows]:
    """Return the notes of each part, ties joined."""
    parts = read_parts(parse_xml(document(path), path.name))
    count = max(len(part.measures) for part in parts)
    lengths = (
        max(part.measures[k].length for part in parts if k < len(part.measures))
        for k in range(count)
    )
    starts = list(accumulate(lengths, initial=Fraction(0)))
    return {part.id: tied(part, starts) for part in parts}


def tied(part: Part, starts: list[Fraction]) -> Rows:
    rows: list[list[Any]] = []
    last: dict[tuple[int, Fraction], list[Any]] = {}  # by pitch and end
    for start, bar in zip(starts, part.measures, strict=False):
        for written in bar.notes:
            onset = start + written.onset
            row = last.pop((written.pitch, onset), None) if written.tied_from else None
            if row is None:
                row = [onset, Fraction(0), written.pitch]
                rows.append(row)
            row[1] += written.duration
            last[written.pitch, onset + written.duration] = row
    return Counter((onset, length, pitch) for onset, length, pitch in rows)


def theirs(path: Path) -> dict[str, Rows]:
    """Return the same as partitura reads it, without grace notes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        score = partitura.load_score(str(path))
    found = {}
    for part in score.parts:
        notes = [n for n in part.notes_tied if not isinstance(n, partitura.score.GraceNote)]
        times = [part.first_point.t, *(t for n in notes for t in (n.start.t, n.end_tied.t))]
        places = part.quarter_map(times)
        exact = [Fraction(float(p - places[0])).limit_denominator(10080) for p in places[1:]]
        spans = zip(exact[::2], exact[1::2], notes, strict=True)
        found[part.id] = Counter((onset, end - onset, n.midi_pitch) for onset, end, n in spans)
    return found


def test_a_bar_of_everything(tmp_path: Path) -> None:
    """Ties within and over bars, chords, two voices, tuplets, accidentals, another division."""
    backup = "<backup><duration>24</duration></backup>"
    start, stop = '|<tie type="start"/>', '|<tie type="stop"/>'
    six = FOUR.replace("<divisions>2", "<divisions>6")
    voice = measure(
        *(note("C4", 2, "la"), note("D4", 2), note("E4", 2), note("F4", 6)),
        *(note("G4", 6, extra="<chord/>"), note("A4", 12, extra=start)),
        *(backup, note("C3", 18, voice=2), note("D3", 6, voice=2)),
        head=six,
    ) + measure(note("A4", 6, extra=stop), note("rest", 6), note("B4", 12, "oh"))
    piano = measure(note("C3", 24), head=six) + measure(note("E3", 24))
    more = f'<part id="P2">{piano}</part>'
    path = write(tmp_path / "x.musicxml", voice, parts=VOICE + PIANO, more=more)
    found = ours(path)
    assert found == theirs(path)
    assert found["P1"][Fraction(2), Fraction(3), 69] == 1


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the folder ../shared/data/lieder_en")
@pytest.mark.parametrize("number", [0, 60, 100, 200])
def test_art_songs(number: int) -> None:
    """The voices are the same but for cue notes, which nobody is to sing and partitura keeps.

    Accompaniments may differ in ties from one voice to another, which partitura does not join.
    """
    path = sorted(SHARED.glob("*.mxl"))[number]
    mine, other = ours(path), theirs(path)
    assert mine.keys() == other.keys()
    cues = document(path).count(b"<cue")
    assert not mine["P1"] - other["P1"]
    assert (other["P1"] - mine["P1"]).total() <= cues
    for part in mine:
        assert (mine[part] - other[part]).total() <= 0.01 * mine[part].total()
