"""Standard MIDI files in and out: notes, lyric events, tempo and metre, lossless to the tick."""

from __future__ import annotations

from pathlib import Path

import mido

from music.midi_lyrics import NEXT_SYLLABLE, attach
from music.midi_tracks import choose_track, parse_midi, read_tracks, words_for
from music.score import Melody, Note, Score, one_voice
from text.remarks import remark
from utils.files import atomic

LARGEST_MIDI = 16 * 2**20  # bytes; an orchestral score has less than one
VELOCITY = 90


def read_midi(path: Path | str, part: str | None = None) -> Melody:
    """Return the voice of a MIDI file with its words, tempo and metre.

    `part` is the name of a track or its number from 1. Without it: the track with words, else the
    only one with notes, else the one called voice, vocal, melody or so, else the one whose notes
    begin with the words of a track without notes. Zero-length notes are left out, of a chord the
    highest note stays, overlapping notes are cut; `remarks` say so. Raises FileNotFoundError;
    ValueError for a file that is no MIDI, has no notes, or several candidates (they are named).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no MIDI file {path}")
    if path.stat().st_size > LARGEST_MIDI:
        raise ValueError(f"{path}: larger than {LARGEST_MIDI} bytes; expected one song")
    tempo, meters, tracks = read_tracks(parse_midi(path))
    chosen, reason = choose_track(path, tracks, part, tempo)
    remarks = []
    if reason:
        text = f"track {chosen.name!r} is taken for the voice ({reason}); --part chooses another"
        remarks.append(remark("guessed", text))
    if chosen.zero_length:
        remarks.append(remark("not sung", f"{chosen.zero_length} notes of no length left out"))
    if chosen.unended:
        text = f"{chosen.unended} notes without an end last to the end of the track"
        remarks.append(remark("changed", text))
    notes = [Note(p, tempo.seconds_at(a), tempo.seconds_at(b)) for a, b, p in chosen.notes if p]
    voice, changed = one_voice(notes)
    if changed:
        text = f"{changed} notes of chords left out or overlapping notes shortened"
        remarks.append(remark("changed", text))
    if not voice:
        raise ValueError(f"{path}: track {chosen.name!r} has no notes to sing")
    texts, from_texts = words_for(tracks, chosen, tempo)
    if from_texts:
        remarks.append(remark("guessed", "text events at the notes are taken for the words"))
    lyrics, lost = attach(voice, texts, tempo)
    return Melody(tuple(voice), lyrics, tempo, meters, path.stem, (*remarks, *lost))


def write_midi(melody: Melody | Score, path: Path | str, name: str = "vocal") -> None:
    """Write a melody as a MIDI file of type 1, lyrics as UTF-8 lyric events, atomically.

    A syllable ends in "-" when its word goes on, in a carriage return when its line ends (RP-017).
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
    for note, lyric in zip(melody.notes, melody.lyrics, strict=True):
        onset, offset = (round(tempo.tick_at(time)) for time in (note.onset, note.offset))
        if lyric is not None:
            text = (lyric.text or NEXT_SYLLABLE) + "-" * lyric.continues + "\r" * lyric.ends_line
            events.append((onset, mido.MetaMessage("lyrics", text=text)))
        events.append((onset, mido.Message("note_on", note=note.pitch, velocity=VELOCITY)))
        end = max(offset, onset + 1)
        events.append((end, mido.Message("note_off", note=note.pitch, velocity=0)))
    file = mido.MidiFile(type=1, ticks_per_beat=tempo.ticks_per_beat, charset="utf-8")
    file.tracks.append(_track("", conductor))
    file.tracks.append(_track(name, events))
    save(file, path)


def save(file: mido.MidiFile, path: Path | str) -> None:
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
