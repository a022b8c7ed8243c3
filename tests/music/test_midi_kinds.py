"""MIDI files as other programs write them: envelopes, channels, shifted words, several verses."""

from __future__ import annotations

import struct
from pathlib import Path

import mido
import pytest

from music.midi import save_midi
from music.midi_tracks import read_midi
from music.underlay import sing
from singing.melody import read_melody
from text.frontend import Pronouncer

WORDS = ("Down ", "by ", "the ", "ri", "ver ", "side ")
SUNG = ["Down", "by", "the", "ri", "ver", "side"]


def row(
    path: Path,
    *verses: tuple[str, ...],
    shift: int = 0,
    channels: tuple[int, ...] = (0,),
    length: int = 480,
) -> Path:
    """Write one track of notes, a word of each verse `shift` ticks behind every one."""
    events: list[tuple[int, int, mido.Message | mido.MetaMessage]] = []
    for number in range(len(WORDS)):
        start, channel = (number + 1) * length, channels[number % len(channels)]
        pitch = 60 + number
        on = mido.Message("note_on", note=pitch, channel=channel)
        off = mido.Message("note_off", note=pitch, channel=channel)
        events += [(start, 2, on), (start + length, 1, off)]
        for verse in verses:
            if number < len(verse):
                text = mido.MetaMessage("lyrics", text=verse[number])
                events.append((start + shift, 0, text))
    track, now = mido.MidiTrack(), 0
    for tick, _, message in sorted(events, key=lambda event: event[:2]):
        track.append(message.copy(time=tick - now))
        now = tick
    file = mido.MidiFile(type=1, ticks_per_beat=480)
    file.tracks.append(track)
    save_midi(file, path)
    return path


def texts(path: Path) -> list[str]:
    return [lyric.text for lyric in read_midi(path).lyrics if lyric]


@pytest.mark.parametrize("shift", [-300, -150, 96, 230])  # 480 ticks are 0.5 s
def test_words_that_all_lie_beside_their_notes_are_moved(tmp_path: Path, shift: int) -> None:
    melody = read_midi(row(tmp_path / "x.mid", WORDS, shift=shift))
    starts = [note.onset for note, lyric in zip(melody.notes, melody.lyrics, strict=True) if lyric]
    assert [lyric.text for lyric in melody.lyrics if lyric][-4:] == SUNG[-4:]
    assert len(starts) >= 5
    assert any("all lyrics by" in remark for remark in melody.remarks)


def test_of_several_verses_at_one_note_the_first_is_sung(tmp_path: Path) -> None:
    second = ("Up ", "in ", "an ", "o", "ther ")
    path = row(tmp_path / "x.mid", WORDS, second)
    assert texts(path) == SUNG
    assert any("5 lyrics of other verses" in remark for remark in read_midi(path).remarks)


def test_one_voice_on_several_channels_is_one_track(tmp_path: Path) -> None:
    path = row(tmp_path / "x.mid", WORDS, channels=(0, 1, 2))
    assert texts(path) == SUNG and len(read_midi(path).notes) == len(WORDS)


def test_an_envelope_is_opened(tmp_path: Path) -> None:
    data = row(tmp_path / "x.mid", WORDS).read_bytes()
    size = struct.pack("<I", len(data) + 12)
    path = tmp_path / "x.rmi"
    path.write_bytes(b"RIFF" + size + b"RMIDdata" + struct.pack("<I", len(data)) + data)
    assert [lyric.text for lyric in read_melody(path).lyrics if lyric] == SUNG


@pytest.mark.parametrize(("length", "is_hurried"), [(480, False), (40, True)])
def test_syllables_without_time_are_remarked(tmp_path: Path, length: int, is_hurried: bool) -> None:
    underlay = sing(read_midi(row(tmp_path / "x.mid", WORDS, length=length)), Pronouncer())
    assert any("nobody sings so fast" in r for r in underlay.remarks) == is_hurried
