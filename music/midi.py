"""Standard MIDI files in and out: notes, lyric events, tempo and metre, lossless to the tick."""

from __future__ import annotations

from pathlib import Path

import mido

from music.performance import RESET, VELOCITY, controls_of
from music.score import NEXT_SYLLABLE, Melody, Score
from utils.files import atomic


def write_midi(melody: Melody | Score, path: Path | str, name: str = "vocal") -> None:
    """Write a melody as a MIDI file of type 1, lyrics as UTF-8 lyric events, atomically.

    A syllable ends in "-" when its word goes on, in a carriage return when its line ends (RP-017).
    How notes are sung is written as velocities and controllers (music/performance.py).
    """
    melody = Melody.of(melody) if isinstance(melody, Score) else melody
    tempo = melody.tempo
    conductor = [
        (tick, mido.MetaMessage("set_tempo", tempo=microseconds))
        for tick, microseconds in tempo.changes
    ]
    for meter in melody.meters:
        message = mido.MetaMessage(
            "time_signature", numerator=meter.numerator, denominator=meter.denominator
        )
        conductor.append((meter.tick, message))
    events: list[tuple[int, mido.Message | mido.MetaMessage]] = []
    controls: dict[int, int] = {}  # values that stand
    for note, lyric in zip(melody.notes, melody.lyrics, strict=True):
        onset, offset = (round(tempo.tick_at(time)) for time in (note.onset, note.offset))
        if lyric is not None:
            text = (lyric.text or NEXT_SYLLABLE) + "-" * lyric.continues + "\r" * lyric.ends_line
            events.append((onset, mido.MetaMessage("lyrics", text=text)))
        wanted = controls_of(note.style)
        if any(number not in wanted for number in controls):
            events.append((onset, mido.Message("control_change", control=RESET, value=0)))
            controls = {}
        for number, value in wanted.items():
            if controls.get(number) != value:
                events.append((onset, mido.Message("control_change", control=number, value=value)))
        controls = wanted
        velocity = (note.style and note.style.velocity) or VELOCITY
        events.append((onset, mido.Message("note_on", note=note.pitch, velocity=velocity)))
        end = max(offset, onset + 1)
        events.append((end, mido.Message("note_off", note=note.pitch, velocity=0)))
    file = mido.MidiFile(type=1, ticks_per_beat=tempo.ticks_per_beat, charset="utf-8")
    file.tracks.append(_track("", conductor))
    file.tracks.append(_track(name, events))
    save_midi(file, path)


def save_midi(file: mido.MidiFile, path: Path | str) -> None:
    """Write a MIDI file atomically."""
    with atomic(path) as temporary:
        file.save(temporary)


def _track(name: str, events: list[tuple[int, mido.Message | mido.MetaMessage]]) -> mido.MidiTrack:
    """Return events at absolute ticks as a track; at one tick note ends come first."""
    track = mido.MidiTrack([mido.MetaMessage("track_name", name=name)] if name else [])
    now = 0
    for tick, message in sorted(events, key=lambda e: (e[0], e[1].type != "note_off")):
        track.append(message.copy(time=tick - now))
        now = tick
    track.append(mido.MetaMessage("end_of_track"))
    return track
