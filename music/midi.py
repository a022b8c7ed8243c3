"""Standard MIDI files out: notes, lyric events, tempo and metre, lossless to the tick.

A note's velocity is its loudness, and controllers say the rest of how it is sung, each from its
event on until the next, or until 121 (reset) gives it back to the voice:

    1   modulation       adds value / 127 · 100 cents of vibrato to the voice's own
    77  vibrato depth    value / 127 · 100 cents from the mean
    76  vibrato rate     3 + value / 127 · 6 Hz
    78  vibrato delay    value / 127 · 1 s
    5   portamento time  value / 127 · 0.5 s of glide from the note before; 65 under 64: none
    11  expression       scales the velocity by value / 127
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mido

from music.score import NEXT_SYLLABLE, VELOCITY, Melody, NoteStyle, Score
from utils.files import atomic

RESET = 121
# Controller: name of what it sets, value 0, value 127.
CONTROLLERS: dict[int, tuple[str, float, float]] = {
    1: ("vibrato_added", 0.0, 100.0),
    77: ("vibrato_cents", 0.0, 100.0),
    76: ("vibrato_rate", 3.0, 9.0),
    78: ("vibrato_delay", 0.0, 1.0),
    5: ("glide_seconds", 0.0, 0.5),
}
PORTAMENTO, EXPRESSION = 65, 11


def write_midi(melody: Melody | Score, path: Path | str, name: str = "vocal") -> None:
    """Write a melody as a MIDI file of type 1, lyrics as UTF-8 lyric events, atomically.

    A syllable ends in "-" when its word goes on, in a carriage return when its line ends (RP-017).
    How notes are sung is written as velocities and controllers.
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


# ---------------------------------------------------------------------------- how notes are sung


def style_of(velocity: int, controls: Mapping[int, int]) -> NoteStyle:
    """Return the style of a note that begins with these controller values."""
    values: dict[str, Any] = {
        name: round(low + controls[number] / 127 * (high - low), 4)
        for number, (name, low, high) in CONTROLLERS.items()
        if number in controls
    }
    if controls.get(PORTAMENTO, 127) < 64:
        values["glide_seconds"] = 0.0
    if values.get("vibrato_added") == 0.0:
        del values["vibrato_added"]  # a wheel at rest
    if controls.get(EXPRESSION, 127) < 127:
        velocity = max(1, round(velocity * controls[EXPRESSION] / 127))
    return NoteStyle(velocity, **values)


def distinct(styles: Sequence[NoteStyle]) -> list[NoteStyle | None]:
    """Return styles without a velocity that all of them have; None for one that says nothing."""
    is_same = len({style.velocity for style in styles}) == 1
    parts = [replace(style, velocity=None) if is_same else style for style in styles]
    return [part if part.as_dict() else None for part in parts]


def controls_of(style: NoteStyle | None) -> dict[int, int]:
    """Return the controller values that say a style, the velocity aside."""
    said = {} if style is None else style.as_dict()
    return {
        number: min(127, max(0, round((said[name] - low) / (high - low) * 127)))
        for number, (name, low, high) in CONTROLLERS.items()
        if name in said
    }
