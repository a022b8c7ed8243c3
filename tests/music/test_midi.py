"""MIDI files: lossless to the tick, lyric conventions, faults."""

from __future__ import annotations

from pathlib import Path

import mido
import pytest
from hypothesis import given
from melody_strategies import QUICK, melodies, scores, ticks

from music.midi import save_midi, write_midi
from music.midi_tracks import read_midi
from music.score import Lyric, Melody, Score


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
                text = value if value.isascii() or max(value) <= "ÿ" else utf8(value)
                track.append(mido.MetaMessage("lyrics", text=text, time=time))
        file.tracks.append(track)
    save_midi(file, path)
    return path


def utf8(text: str) -> str:
    """A text as a library that writes Latin-1 has to be given its UTF-8."""
    return text.encode().decode("latin1")


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
    with pytest.raises(ValueError, match=r"2 tracks .* 1: 'Flute', 2: 'Oboe'"):
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


def sung(path: Path, part: str | None = None) -> list[tuple[str, float]]:
    """The syllables of a file with their onsets; a hyphen behind one says that its word goes on."""
    melody = read_midi(path, part)
    return [
        (lyric.text + "-" * lyric.continues, round(notes[0].onset, 3))
        for lyric, notes in melody.groups()
    ]


def words(*texts: str, shift: int = 0) -> list[Event]:
    """One text on each of a row of quarter notes, `shift` ticks late."""
    events: list[tuple[int, int, str, object]] = []
    for number, text in enumerate(texts):
        start = 480 * number
        events += [(start, 1, "on", 60 + number % 5), (start + 480, 0, "off", 60 + number % 5)]
        if text:
            events.append((max(0, start + shift), 2, "lyrics", text))
    return in_order(events)


def in_order(events: list[tuple[int, int, str, object]]) -> list[Event]:
    """Events (tick, rank, kind, value) as (kind, delta ticks, value)."""
    now, found = 0, []
    for tick, _, kind, value in sorted(events, key=lambda event: event[:2]):
        found.append((kind, tick - now, value))
        now = tick
    return found


ROW = ("Row ", "row ", "row ", "your ", "boat ", "gent-", "ly ", "down ")
ROWED = ["Row", "row", "row", "your", "boat", "gent-", "ly", "down"]


@pytest.mark.parametrize("shift", [-57, -12, -1, 0, 1, 12, 57])  # 480 ticks are 0.5 s
def test_words_near_a_note_are_sung_on_it(tmp_path: Path, shift: int) -> None:
    path = write(tmp_path / "x.mid", words(*ROW, shift=shift))
    assert sung(path) == [(text, 0.5 * k) for k, text in enumerate(ROWED)]
    assert not read_midi(path).remarks


def test_words_at_no_note_are_named(tmp_path: Path) -> None:
    events = [*words("one", "two"), ("lyrics", 960, "lost"), ("lyrics", 60, "too")]
    melody = read_midi(write(tmp_path / "x.mid", events))
    assert [lyric.text for lyric in melody.lyrics if lyric] == ["one", "two"]
    assert melody.remarks == (
        "not sung: 2 lyrics stand at no note: 'lost' at 2.00 s, 'too' at 2.06 s",
    )


def test_first_come_first_served(tmp_path: Path) -> None:
    late = [("lyrics", 0, "a"), ("lyrics", 20, "b"), ("on", 0, 60), ("off", 480, 60)]
    melody = read_midi(write(tmp_path / "x.mid", late))
    assert [lyric.text for lyric in melody.lyrics if lyric] == ["a"]
    assert "'b' at 0.02 s" in melody.remarks[0]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("glo", "-", "-", "ri", "a", "–"), [("glo", 0.0), ("ri", 1.5), ("a", 2.0)]),
        (("twinkle", "+", "lit", "+", "star", "+~"), ["twinkle-", "", "lit-", "", "star"]),
        (("gent", "-ly", "down", "the", "stream"), ["gent-", "ly", "down", "the", "stream"]),
        (("love_", "_", "me__"), ["love", "me"]),
        (("[Verse]Row ", "row [x] ", "your ", "boat "), ["Row", "row", "your", "boat"]),
        (("1. Row ", "row ", "your ", "boat "), ["Row", "row", "your", "boat"]),
        (("{@LATIN}{#Title=Row}Row ", "gent", "ly "), ["Row", "gent-", "ly"]),
        (("♪", "Row", "boat"), ["Row", "boat"]),
        (("To", "day", "we ", "sing", "a", "song"), ["To", "day", "we", "sing", "a", "song"]),
    ],
)
def test_signs_of_editors(tmp_path: Path, texts: tuple, expected: list) -> None:
    """The last case: one stray blank does not make all syllables one word."""
    found = sung(write(tmp_path / "x.mid", words(*texts)))
    assert found == expected or [text for text, _ in found] == expected


def karaoke(tmp_path: Path, name: str, track: str, texts: tuple[str, ...], voice: str) -> Path:
    """A file with the words as text events in a track of their own."""
    file = mido.MidiFile(type=1, ticks_per_beat=480)
    file.tracks.append(mido.MidiTrack([mido.MetaMessage("track_name", name=track)]))
    for text in ("@KMIDI KARAOKE FILE", "@TRow"):
        file.tracks[0].append(mido.MetaMessage("text", text=text))
    for number, text in enumerate(texts):
        file.tracks[0].append(mido.MetaMessage("text", text=text, time=480 * (number > 0)))
    file.tracks.append(mido.MidiTrack([mido.MetaMessage("track_name", name=voice)]))
    for number in range(len(texts)):
        file.tracks[1].append(mido.Message("note_on", note=60 + number, time=0))
        file.tracks[1].append(mido.Message("note_off", note=60 + number, time=480))
    save_midi(file, tmp_path / name)
    return tmp_path / name


def test_karaoke_files(tmp_path: Path) -> None:
    texts = ("\\Row ", "row ", "/your ", "gent", "ly")
    melody = read_midi(karaoke(tmp_path, "x.kar", "Words", texts, "Melody"))
    assert [lyric.text for lyric in melody.lyrics] == ["Row", "row", "your", "gent", "ly"]
    assert [lyric.continues for lyric in melody.lyrics] == [False] * 3 + [True, False]
    assert [lyric.ends_line for lyric in melody.lyrics] == [False, True, False, False, False]
    assert not melody.remarks


def test_text_events_at_the_notes_are_words_and_that_is_said(tmp_path: Path) -> None:
    texts = ("Row ", "row ", "your ", "boat ")
    melody = read_midi(karaoke(tmp_path, "x.mid", "", texts, ""))
    assert [lyric.text for lyric in melody.lyrics] == ["Row", "row", "your", "boat"]
    assert "taken for the words" in melody.remarks[0]
    markers = karaoke(tmp_path, "y.mid", "", ("Intro", "", "", ""), "")
    assert not read_midi(markers).has_lyrics
    for labels in (("C", "Am", "F", "G7"), ("Intro", "Verse 1", "Chorus", "Outro")):
        assert not read_midi(karaoke(tmp_path, "z.mid", "", labels, "")).has_lyrics


def test_each_text_has_its_own_charset(tmp_path: Path) -> None:
    texts = ("I\x92m ", "com\x92in\x92 ", "caf\xc3\xa9 ", "\xe9t\xe9 ")
    melody = read_midi(write(tmp_path / "x.mid", words(*texts)))
    assert [lyric.text for lyric in melody.lyrics] == ["I’m", "com’in’", "café", "été"]


def test_a_part_is_chosen_by_name_part_of_a_name_or_number(tmp_path: Path) -> None:
    piano, lead = [("name", 0, "Piano"), *note(40)], [("name", 0, "Lead Vox"), *note(64)]
    path = write(tmp_path / "x.mid", piano, lead, [("name", 0, "Piano left"), *note(30)])
    pitch = {part: read_midi(path, part).notes[0].pitch for part in ("piano", "2", "left", "vox")}
    assert pitch == {"piano": 40, "2": 64, "left": 30, "vox": 64}
    assert read_midi(path).notes[0].pitch == 64  # the only one that is called a voice
    assert read_midi(path).remarks[0].startswith("guessed: track 'Lead Vox'")
    with pytest.raises(ValueError, match="several tracks are called 'pia'"):
        read_midi(path, "pia")
    singers = [[("name", 0, name), ("lyrics", 0, "la"), *note(60)] for name in ("Alto", "Bass")]
    with pytest.raises(ValueError, match=r"2 tracks have lyrics.* --part NAME"):
        read_midi(write(tmp_path / "y.mid", *singers))


def test_the_track_whose_notes_begin_with_the_words_is_sung(tmp_path: Path) -> None:
    texts = [event for text in "abcd" for event in (("lyrics", 0, text), ("lyrics", 240, ""))]
    chords = [event for _ in range(8) for event in note(40)]
    tune = [event for k in range(4) for event in (("on", 0, 70 + k), ("off", 240, 70 + k))]
    path = write(tmp_path / "x.mid", texts, chords, tune)
    assert [n.pitch for n in read_midi(path).notes] == [70, 71, 72, 73]


def test_a_syllable_is_not_held_over_a_long_rest(tmp_path: Path) -> None:
    tune = [("lyrics", 0, "love"), *note(60), *note(62), ("on", 9600, 64), ("off", 480, 64)]
    tune += [*note(65), ("lyrics", 0, "you"), *note(67)]
    melody = read_midi(write(tmp_path / "x.mid", tune))
    assert [len(notes) for _, notes in melody.groups()] == [2, 1]
    assert [[n.pitch for n in notes] for notes in melody.unworded()] == [[64, 65]]


def test_a_file_that_ends_early_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mid", words(*ROW))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"x\.mid: not a whole MIDI file, it ends early"):
        read_midi(path)
