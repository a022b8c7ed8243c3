"""MIDI files: lossless to the tick, lyric conventions, faults."""

from __future__ import annotations

from pathlib import Path

import mido
import pytest
from hypothesis import given
from melody_strategies import QUICK, melodies, scores, ticks

from music.melody import Lyric, Melody
from music.midi import read_midi, save, write_midi
from music.score import Score


@QUICK
@given(melody=melodies)
def test_round_trip_is_lossless_to_the_tick(tmp_path: Path, melody: Melody) -> None:
    path = tmp_path / "melody.mid"
    write_midi(melody, path)
    back = read_midi(path)
    assert ticks(back) == ticks(melody)
    assert back.tempo == melody.tempo and back.meters == melody.meters
    assert back.lyrics == melody.lyrics and not back.remarks
    write_midi(back, tmp_path / "again.mid")
    assert (tmp_path / "again.mid").read_bytes() == path.read_bytes()


@QUICK
@given(score=scores)
def test_a_score_keeps_its_words(tmp_path: Path, score: Score) -> None:
    write_midi(score, tmp_path / "score.mid")
    back = read_midi(tmp_path / "score.mid")
    assert ticks(back) == ticks(score)
    groups = list(back.groups())
    assert [lyric.text for lyric, _ in groups] == [s.text for s in score.syllables]
    assert [len(notes) for _, notes in groups] == [len(s.notes) for s in score.syllables]


Event = tuple[str, int, object]


def write(path: Path, *tracks: list[Event], type: int = 1) -> Path:
    """Write tracks of (kind, delta ticks, value): on, off, lyrics, name, channel-9 drums."""
    file = mido.MidiFile(type=type, ticks_per_beat=480)
    for events in tracks:
        track = mido.MidiTrack()
        for kind, time, value in events:
            if kind in ("on", "off"):
                velocity = 80 if kind == "on" else 0
                track.append(mido.Message("note_on", note=value, velocity=velocity, time=time))
            elif kind == "drum":
                track.append(mido.Message("note_on", note=value, channel=9, time=time))
            elif kind == "name":
                track.append(mido.MetaMessage("track_name", name=value, time=time))
            else:
                track.append(mido.MetaMessage("lyrics", text=value, time=time))
        file.tracks.append(track)
    save(file, path)
    return path


def note(pitch: int) -> list[Event]:
    return [("on", 0, pitch), ("off", 480, pitch)]


def test_the_track_with_lyrics_is_sung(tmp_path: Path) -> None:
    voice = [("lyrics", 0, "la"), *note(64)]
    path = write(tmp_path / "x.mid", [("name", 0, "Piano"), *note(40)], voice)
    assert [n.pitch for n in read_midi(path).notes] == [64]
    assert [n.pitch for n in read_midi(path, "Piano").notes] == [40]


def test_several_voices_are_named(tmp_path: Path) -> None:
    first, second = [("name", 0, "Flute"), *note(70)], [("name", 0, "Oboe"), *note(60)]
    path = write(tmp_path / "x.mid", first, second)
    with pytest.raises(ValueError, match=r"2 tracks .* 0: 'Flute', 1: 'Oboe'"):
        read_midi(path)
    with pytest.raises(ValueError, match="no track 'Tuba'"):
        read_midi(path, "Tuba")
    named = write(tmp_path / "y.mid", first, [("name", 0, "Vocal"), *note(62)])
    assert [n.pitch for n in read_midi(named).notes] == [62]


def test_a_file_without_notes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no notes"):
        read_midi(write(tmp_path / "x.mid", [("lyrics", 0, "la"), ("drum", 0, 40)]))
    with pytest.raises(ValueError, match="no length"):
        read_midi(write(tmp_path / "y.mid", [("on", 0, 60), ("off", 0, 60)]))
    with pytest.raises(FileNotFoundError, match="no MIDI file"):
        read_midi(tmp_path / "none.mid")


@pytest.mark.parametrize("content", [b"", b"RIFFnot midi", b"MThd\0\0\0\6\0\1\0\1\1\xe0MTrk\0\0"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.mid"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.mid"):
        read_midi(path)


def test_repairs_are_remarked(tmp_path: Path) -> None:
    events = [
        *[("on", 0, 60), ("off", 0, 60)],  # no length
        *[("on", 0, 60), ("on", 0, 64), ("off", 480, 60), ("off", 0, 64)],  # a chord
        *[("on", 0, 65), ("on", 240, 67), ("off", 240, 65), ("off", 240, 67)],  # legato
        *[("on", 0, 72), ("lyrics", 480, "end")],  # never ends
    ]
    melody = read_midi(write(tmp_path / "x.mid", events))
    assert ticks(melody) == [(0, 480, 64), (480, 720, 65), (720, 1200, 67), (1200, 1680, 72)]
    assert len(melody.remarks) == 4


def test_karaoke_spacing(tmp_path: Path) -> None:
    texts = ("To", "mor", "row ", "sings ", "\rNew ", "day")
    events = [event for text in texts for event in (("lyrics", 0, text), *note(60))]
    lyrics = read_midi(write(tmp_path / "x.mid", events)).lyrics
    assert [lyric.text for lyric in lyrics] == ["To", "mor", "row", "sings", "New", "day"]
    assert [lyric.continues for lyric in lyrics] == [True, True, False, False, False, False]
    assert [k for k, lyric in enumerate(lyrics) if lyric.ends_line] == [3]


def test_latin1_lyrics_and_melisma_signs(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mid", [("lyrics", 0, "é"), *note(60), ("lyrics", 0, "_"), *note(62)])
    melody = read_midi(path)
    assert melody.lyrics == (Lyric("é"), None)
