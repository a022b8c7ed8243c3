"""How notes are sung: MIDI says it and is read back."""

from __future__ import annotations

from pathlib import Path

import mido
import pytest

from music.midi import write_midi
from music.midi_tracks import read_midi
from music.score import Lyric, Melody, Note, NoteStyle, TempoMap

STYLES = (
    None,
    NoteStyle(velocity=40),
    NoteStyle(velocity=127, vibrato_cents=50.0, vibrato_rate=6.0),
    NoteStyle(velocity=90, glide_seconds=0.25),
    NoteStyle(velocity=90, vibrato_added=30.0, vibrato_delay=0.5),
    NoteStyle(velocity=90, vibrato_cents=0.0),
    None,
)


def melody(styles: tuple[NoteStyle | None, ...] = STYLES) -> Melody:
    notes = tuple(
        Note(60 + k, 1.0 + 0.5 * k, 1.4 + 0.5 * k, style) for k, style in enumerate(styles)
    )
    return Melody(notes, tuple(Lyric("la") for _ in notes), TempoMap.constant(120.0))


def test_styles_come_back_from_midi(tmp_path: Path) -> None:
    """To the step of a controller; a note that says nothing behind one that does says nothing."""
    write_midi(melody(), tmp_path / "tune.mid")
    read = read_midi(tmp_path / "tune.mid")
    assert not read.remarks
    for note, style in zip(read.notes, STYLES, strict=True):
        wanted = {"velocity": 90} | ({} if style is None else style.as_dict())
        assert note.style is not None and note.style.as_dict() == pytest.approx(wanted, abs=0.5)
        again = note.style
        assert again.vibrato_rate is None or again.vibrato_rate == pytest.approx(6.0, abs=0.03)
    write_midi(read, tmp_path / "again.mid")
    assert (tmp_path / "again.mid").read_bytes() == (tmp_path / "tune.mid").read_bytes()


def test_one_loudness_says_nothing(tmp_path: Path) -> None:
    write_midi(melody((None,) * 3), tmp_path / "plain.mid")
    file = mido.MidiFile(tmp_path / "plain.mid")
    for message in file.tracks[1]:
        if message.type == "note_on" and message.velocity:
            message.velocity = 64
    file.save(tmp_path / "even.mid")
    assert all(note.style is None for note in read_midi(tmp_path / "even.mid").notes)


def test_controllers_of_an_editor_are_read(tmp_path: Path) -> None:
    """A wheel that moves, expression, portamento off, a wheel at rest, a pitch bend."""
    write_midi(melody((None,) * 4), tmp_path / "plain.mid")
    file = mido.MidiFile(tmp_path / "plain.mid")
    track, changed, count = file.tracks[1], mido.MidiTrack(), 0
    control = [(1, 0), (1, 64), (11, 64), (65, 0)]
    for message in track:
        if message.type == "note_on" and message.velocity:
            number, value = control[count]
            change = mido.Message("control_change", control=number, value=value, time=message.time)
            changed.append(change)
            message = message.copy(time=0)
            count += 1
        changed.append(message)
    changed.insert(1, mido.Message("pitchwheel", pitch=2000, time=0))
    file.tracks[1] = changed
    file.save(tmp_path / "edited.mid")
    read = read_midi(tmp_path / "edited.mid")
    said = [note.style.as_dict() if note.style else {} for note in read.notes]
    added = pytest.approx(64 / 127 * 100, abs=0.01)
    assert said[0] == {"velocity": 90}
    assert said[1] == {"velocity": 90, "vibrato_added": added}
    assert said[2] == {"velocity": 45, "vibrato_added": added}
    assert said[3] == {"velocity": 45, "vibrato_added": added, "glide_seconds": 0.0}
    assert "1 pitch bends" in " ".join(read.remarks)


def test_a_melody_that_moves_keeps_how_it_is_sung() -> None:
    tune = melody()
    for changed in (tune.transposed(3), tune.faster(1.5), tune.within(1.0, 9.0)):
        assert [note.style for note in changed.notes] == list(STYLES)


@pytest.mark.parametrize("wrong", [{"velocity": 0}, {"velocity": 128}, {"vibrato_cents": -1.0}])
def test_what_cannot_be_sung_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        NoteStyle(**wrong)  # type: ignore[arg-type]
