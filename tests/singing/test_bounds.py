"""Melodies that nobody can sing: refused by name before they cost memory or time."""

from __future__ import annotations

import time
from pathlib import Path

import mido
import pytest

from singing.melody import read_melody

SCORE = """<score-partwise><part-list><score-part id="P1"><part-name>Voice</part-name></score-part>
</part-list><part id="P1"><measure number="1"><attributes><divisions>1</divisions></attributes>
<note><pitch><step>C</step><octave>4</octave></pitch><duration>{duration}</duration>
<lyric><text>la</text></lyric></note></measure></part></score-partwise>"""


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("tempo: 1\nnotes: C4*64\nwords: la\n", "tempo"),
        ("tempo: nan\nnotes: C4\nwords: la\n", "tempo"),
        ('intro: 1000000000\nnotes: "C" C4\nwords: la\n', "intro"),
        ('intro: inf\nnotes: "C" C4\nwords: la\n', "intro"),
        ('program: inf\nnotes: "C" C4\nwords: la\n', "program"),
        ("notes: C4*" + "9" * 5000 + "\nwords: la\n", "digits"),
        ("notes: " + "C4*64 " * 100 + "\nwords: " + "la " * 100 + "\n", "ends at"),
    ],
)
def test_a_song_out_of_bounds_is_named(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "tune.song"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"tune\.song.*{word}"):
        read_melody(path)


@pytest.mark.parametrize(
    "duration", ["1e1000000000", "1e-100000000", "9" * 10, "nan", "inf", "-1", "1/0", "9999"]
)
def test_a_duration_is_not_written_out(tmp_path: Path, duration: str) -> None:
    path = tmp_path / "score.musicxml"
    path.write_text(SCORE.format(duration=duration))
    began = time.process_time()
    with pytest.raises(ValueError, match=r"score\.musicxml"):
        read_melody(path)
    assert time.process_time() - began < 1.0  # s; one of 1e10000000 took ten


@pytest.mark.parametrize("places", [(0, 2**28 - 1), (2**28 - 1, 480)])
def test_notes_beyond_the_longest_song_are_refused(tmp_path: Path, places: tuple[int, int]) -> None:
    file = mido.MidiFile()
    track = file.add_track()
    for rest in (0, places[0]):
        track.append(mido.MetaMessage("lyrics", text="la"))
        track.append(mido.Message("note_on", note=60, velocity=90, time=rest))
        track.append(mido.Message("note_off", note=60, time=places[1] if rest else 480))
    track.append(mido.MetaMessage("lyrics", text="la"))
    track.append(mido.Message("note_on", note=62, velocity=90, time=0))
    track.append(mido.Message("note_off", note=62, time=places[1]))
    file.save(tmp_path / "late.mid")
    with pytest.raises(ValueError, match=r"late\.mid.*expected at most"):
        read_melody(tmp_path / "late.mid")


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    import io
    import zipfile

    handle = io.BytesIO()
    with zipfile.ZipFile(handle, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("score.xml", SCORE.format(duration=1) * 20)
    content = bytearray(handle.getvalue())
    path = tmp_path / "score.mxl"
    for place in range(40, 160, 3):  # within the compressed data
        damaged = content.copy()
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"score\.mxl"):
            read_melody(path)
