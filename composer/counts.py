"""What real songs do, counted: the small table of melodic weights that the composer reads.

The table `melody_weights.json` was counted on the 224 English songs of the OpenScore Lieder Corpus
(CC0, MusicXML). Count it anew, on these or on other songs, with

    python -c "from composer.counts import write_table; write_table('FOLDER OF .mxl FILES')"

Entries are plain counts. Strength of a place in the bar: 0 between beats, 1 on a beat, 2 on the
first beat or the half of the bar. Sixteenth notes are the unit of places and durations.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from composer.compose import (
    MAX_DURATION,
    MAX_INTERVAL,
    PHRASE_PARTS,
    TABLE,
    interval_class,
    strength,
)
from composer.harmony import NO_CHORD, NUM_CHORDS, chord_tones, correlate, viterbi
from composer.layout import sung_stress
from music.score import text_syllables
from utils.files import write_text

if TYPE_CHECKING:
    from text.frontend import Pronouncer

    pass
    from music.musicxml_parts import Part, WrittenNote


SIMPLE_METRES = {(4, 4): 4, (2, 2): 4, (2, 4): 4, (3, 4): 3}  # two-beat bars are halves of four


@dataclass(frozen=True)
class CountedNote:
    """A vocal note: times in quarter notes, `place` in its bar; a syllable's text on its first."""

    onset: float
    duration: float
    place: float
    metre: tuple[int, int]
    fifths: int
    pitch: int
    text: str | None = None
    ends_word: bool = True


@dataclass
class WrittenSong:
    """One song: the voice, what accompanies it as (onset, duration, pitch), bars as (start, beats).

    All in quarter notes, as written: repeats are not unfolded.
    """

    voice: list[CountedNote] = field(default_factory=list)
    accompaniment: list[tuple[float, float, int]] = field(default_factory=list)


# -- reading ----------------------------------------------------------------------------------


def read_written(path: Path) -> WrittenSong:
    """Return a MusicXML song as written; raises ValueError when it has no part with lyrics."""
    from music.musicxml import read_parts_of, sung_notes  # late: the table alone needs none

    parts = read_parts_of(path)
    sung = next((part for part in parts if part.num_lyrics), None)
    if sung is None:
        raise ValueError(f"{path}: no part with lyrics")
    song = WrittenSong()
    for part in parts:
        if part is sung:
            for note, written in _placed(part, sung_notes(part)[0]):
                _add_voice(song.voice, note, written)
        else:
            notes = _placed(part, [measure.notes for measure in part.measures])
            song.accompaniment += [(note.onset, note.duration, note.pitch) for note, _ in notes]
    return song


def _placed(
    part: Part, measures: Sequence[Sequence[WrittenNote]]
) -> Iterator[tuple[CountedNote, WrittenNote]]:
    """Yield notes of a part, by measure, with their places in the bar."""
    fifths, metre, start = 0, (4, 4), 0.0
    for number, (measure, notes) in enumerate(zip(part.measures, measures, strict=True)):
        metre = measure.meter or metre
        fifths = fifths if measure.fifths is None else measure.fifths
        # What is missing at the beginning of a pick-up.
        missing = 4 * metre[0] / metre[1] - float(measure.length) if number == 0 else 0.0
        for note in notes:
            onset = float(note.onset)
            yield (
                CountedNote(
                    start + onset, float(note.duration), onset + missing, metre, fifths, note.pitch
                ),
                note,
            )
        start += float(measure.length)


def _add_voice(voice: list[CountedNote], note: CountedNote, written: WrittenNote) -> None:
    """Append a vocal note with its syllable (first verse), tied notes joined; one voice only."""
    if written.in_chord:
        return
    if written.tied_from and voice:
        voice[-1] = replace(voice[-1], duration=note.onset + note.duration - voice[-1].onset)
        return
    lyric = written.lyrics[min(written.lyrics)] if written.lyrics else None
    text, ends_word = (lyric.text, not lyric.continues) if lyric else (None, True)
    voice.append(replace(note, text=text, ends_word=ends_word))


# -- counting ---------------------------------------------------------------------------------


def empty_table() -> dict[str, Any]:
    """Return the table with all counts at zero, as arrays."""
    intervals = 2 * MAX_INTERVAL + 1
    return {
        "interval": np.zeros((5, intervals)),  # after: leap down, step down, same, step up, leap up
        "chord": {mode: np.zeros((3, 12)) for mode in ("major", "minor")},  # strength, from root
        "degree": {mode: np.zeros((3, 12)) for mode in ("major", "minor")},  # strength, from tonic
        "final_degree": {mode: np.zeros(12) for mode in ("major", "minor")},  # of phrases
        "range": np.zeros(intervals),  # pitch from the song's median
        "start": {"4": np.zeros(16), "3": np.zeros(12)},  # place of a phrase's first syllable
        "duration": {"4": np.zeros((16, MAX_DURATION)), "3": np.zeros((12, MAX_DURATION))},
        "final_duration": np.zeros(MAX_DURATION),  # of phrases
        "stress": np.zeros((3, 3)),  # strength, stress
        "contour": np.zeros((PHRASE_PARTS, 2)),  # sum of pitch from the phrase's mean, notes
    }


def phrases_of(voice: Sequence[CountedNote]) -> list[list[CountedNote]]:
    """Return the notes between rests of an eighth or more, and ends of sentences."""
    phrases: list[list[CountedNote]] = [[]]
    ended = False
    for note in voice:
        last = phrases[-1][-1] if phrases[-1] else None
        rests = last is not None and note.onset - (last.onset + last.duration) >= 0.5
        if rests or (ended and note.text is not None):
            phrases.append([])
        ended = (ended and note.text is None) or bool(re.search(r"[.!?;:]\W*$", note.text or ""))
        phrases[-1].append(note)
    return [phrase for phrase in phrases if len(phrase) > 2]


def count_song(table: dict[str, Any], song: WrittenSong, pronouncer: Pronouncer) -> None:
    """Add a song to the table."""
    median = float(np.median([note.pitch for note in song.voice]))
    mode, tonic, fifths = _key(song)
    chords = _chords(song)
    phrases = phrases_of(song.voice)
    for phrase in phrases:
        _count_intervals(table, phrase)
        _count_rhythm(table, phrase)
        for note in phrase:
            weight = _strength(note)
            table["range"][int(np.clip(round(note.pitch - median), -12, 12)) + 12] += 1
            if (chord := chords.get(int(note.onset), NO_CHORD)) != NO_CHORD:
                quality = "major" if chord < 12 else "minor"
                table["chord"][quality][weight, (note.pitch - chord) % 12] += 1
            if mode and note.fifths == fifths:
                table["degree"][mode][weight, (note.pitch - tonic) % 12] += 1
        if mode and phrase[-1].fifths == fifths:
            table["final_degree"][mode][(phrase[-1].pitch - tonic) % 12] += 1
    _count_stress(table, song.voice, pronouncer)


def _count_intervals(table: dict[str, Any], phrase: Sequence[CountedNote]) -> None:
    pitches = [note.pitch for note in phrase]
    intervals = [b - a for a, b in pairwise(pitches)]
    for before, after in pairwise([0, *intervals]):
        if abs(after) <= MAX_INTERVAL:
            table["interval"][interval_class(before), after + MAX_INTERVAL] += 1
    mean = float(np.mean(pitches))
    for index, pitch in enumerate(pitches):
        part = index * PHRASE_PARTS // len(pitches)
        table["contour"][part] += (pitch - mean, 1)


def _count_rhythm(table: dict[str, Any], phrase: Sequence[CountedNote]) -> None:
    """Count places and distances of syllables, in the metres of two, three and four beats."""
    sung = [note for note in phrase if note.text is not None]
    ends = phrase[-1].onset + phrase[-1].duration
    for index, note in enumerate(sung):
        metre = SIMPLE_METRES.get(note.metre)
        place = note.place * 4
        distance = 4 * ((sung[index + 1].onset if index + 1 < len(sung) else ends) - note.onset)
        if metre is None or place % 1 or distance % 1 or distance < 1:
            continue
        places = (int(place), int(place) + 8) if note.metre == (2, 4) else (int(place),)
        for place in (place % (4 * metre) for place in places):
            duration = min(int(distance), MAX_DURATION) - 1
            if index == 0:
                table["start"][str(metre)][place] += 1 / len(places)
            if index + 1 < len(sung):
                table["duration"][str(metre)][place, duration] += 1 / len(places)
        if index + 1 == len(sung):
            table["final_duration"][duration] += 1


def _count_stress(
    table: dict[str, Any], voice: Sequence[CountedNote], pronouncer: Pronouncer
) -> None:
    """Count the stress of syllables by the strength of their place; words are looked up whole."""
    word: list[CountedNote] = []
    for note in voice:
        if note.text is None:
            continue
        word.append(note)
        if not note.ends_word:
            continue
        spelling = "".join(re.sub(r"[^A-Za-z'’]", "", part.text or "") for part in word)
        if spelling.strip("'’"):
            syllables, guessed = text_syllables(spelling, pronouncer)
            if len(syllables) == len(word) and not guessed:
                for part, syllable in zip(word, syllables, strict=True):
                    stress = sung_stress(spelling, syllable.stress, len(word) == 1)
                    table["stress"][_strength(part), stress] += 1
        word = []


def _strength(note: CountedNote) -> int:
    """Return the strength of a note's place; in compound metres the beat is a dotted note."""
    if metre := SIMPLE_METRES.get(note.metre):
        return strength(note.place * 4, metre)
    beats, unit = note.metre
    pulse = 12 / unit if beats % 3 == 0 else 4 / unit
    on_beat = abs(note.place / pulse - round(note.place / pulse)) < 1e-3
    half = beats * 2 / unit
    return (2 if note.place in (0.0, half) else 1) if on_beat else 0


def _key(song: WrittenSong) -> tuple[str | None, int, int]:
    """Return mode, tonic and key signature at the end: the last bass note chooses the mode."""
    fifths = song.voice[-1].fifths
    tonic = 7 * fifths % 12
    if not song.accompaniment:
        return None, tonic, fifths
    last = max(onset + duration for onset, duration, _ in song.accompaniment)
    bass = min(pitch for onset, length, pitch in song.accompaniment if onset + length > last - 0.1)
    if bass % 12 == tonic:
        return "major", tonic, fifths
    return ("minor" if bass % 12 == (tonic + 9) % 12 else None), (tonic + 9) % 12, fifths


def _chords(song: WrittenSong) -> dict[int, int]:
    """Return the chord of each quarter note of the accompaniment, decoded as from audio."""
    if not song.accompaniment:
        return {}
    length = int(max(onset + duration for onset, duration, _ in song.accompaniment)) + 1
    weights, bass = np.zeros((length, 12)), np.full(length, 128)
    for onset, duration, pitch in song.accompaniment:
        for beat in range(int(onset), min(length, int(np.ceil(onset + duration)))):
            overlap = min(beat + 1, onset + duration) - max(beat, onset)
            weights[beat, pitch % 12] += max(0.0, overlap)
            bass[beat] = min(bass[beat], pitch)
    templates = np.array([[tone in chord_tones(c) for tone in range(12)] for c in range(24)])
    likelihood = np.full((length, NUM_CHORDS), 3.0)  # no chord: where nothing fits
    likelihood[:, :24] = 8 * correlate(weights, templates.astype(float))
    likelihood[np.arange(length), bass % 12] += bass < 128
    likelihood[np.arange(length), bass % 12 + 12] += bass < 128
    chords, _ = viterbi(likelihood, np.full(length, 0.3))
    return dict(enumerate(chords.tolist()))


def count_songs(folder: Path | str) -> dict[str, Any]:
    """Return the table of all .mxl songs of a folder; raises FileNotFoundError without any."""
    from text.frontend import Pronouncer

    paths = sorted(Path(folder).glob("*.mxl"))
    if not paths:
        raise FileNotFoundError(f"no .mxl file in {folder}; expected a folder of MusicXML songs")
    table, pronouncer = empty_table(), Pronouncer()
    for path in tqdm(paths, desc="songs"):
        count_song(table, read_written(path), pronouncer)
    return table


def write_table(folder: Path | str, path: Path = TABLE) -> None:
    """Count the songs of a folder and write the table as JSON, a row of numbers a line."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        return np.round(value, 1).tolist()

    text = json.dumps(plain(count_songs(folder)), indent=1)
    text = re.sub(r"\[\s+([-\d.,\s]+?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text)
    write_text(path, text.replace(".0,", ",").replace(".0]", "]") + "\n")
