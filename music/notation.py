"""Songs in a compact notation of our own: notes, chords and verses as plain text (`.song`).

    title: Twinkle, Twinkle, Little Star
    meter: 4/4
    tempo: 100
    notes: "C" C4 C4 G4 G4 | "F" A4 A4 "C" G4*2 |
    words: Twin-kle, twin-kle, lit-tle star,
    words: When the bla-zing sun is gone,

A note is its name, octave and length in quarter notes: `C4` one, `F#4*2` two, `Bb3/2` a half,
`G4*3/2` one and a half; `z` is a rest, a `~` behind a note ties it to the next. A chord in double
quotes lasts until the next one. Bars are checked against the metre; the first and the last may be
incomplete. Under each `notes:` line stands one `words:` line per verse: hyphens part syllables,
`_` prolongs one over another note, `*` leaves a note without a word. The whole tune is sung once
for each verse. Further headers: composer, words-by, program (General MIDI, from 0), style (block,
arpeggio or waltz) and intro (bars of the first chord).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from music.score import ACCIDENTALS, SEMITONES, Lyric, Melody, Meter, Note, TempoMap
from music.song import Backing, Song

CHORD_QUALITIES = {
    **{"": (0, 4, 7), "m": (0, 3, 7), "7": (0, 4, 7, 10), "m7": (0, 3, 7, 10)},
    **{"maj7": (0, 4, 7, 11), "dim": (0, 3, 6), "sus4": (0, 5, 7)},
}
CHORD = re.compile(r'"([A-G])([#b]?)(maj7|m7|m|7|dim|sus4|)"')
NOTE = re.compile(r"(?:([A-G])([#b]?)(\d)|z)(?:\*(\d+))?(?:/(\d+))?(~?)")
STYLES = ("block", "arpeggio", "waltz")
HEADERS = ("title", "composer", "words-by", "meter", "tempo", "program", "style", "intro")
LARGEST_SONG = 2**18  # bytes
MOST_INTRO = 100  # bars
LOWEST_BASS, LOWEST_CHORD = 40, 55  # MIDI numbers from which roots and chord tones are looked for


@dataclass
class _Tune:
    """The tune as it is read: positions in quarter notes."""

    headers: dict[str, str] = field(default_factory=dict)
    position: Fraction = Fraction(0)
    bar_start: Fraction = Fraction(0)
    bars: list[tuple[Fraction, int]] = field(default_factory=list)  # length, line number
    notes: list[list] = field(default_factory=list)  # [onset, offset, pitch, line of notes]
    chords: list[tuple[Fraction, int, tuple[int, ...]]] = field(default_factory=list)
    words: list[list[tuple[str, int]]] = field(default_factory=list)  # per notes line, its verses
    tie: bool = False


def read_notation(path: Path | str, verse: int | None = None) -> Song:
    """Return the song of a `.song` file, its accompaniment played from the chords.

    `verse` counts from 1; without it the tune is sung once for each verse. Raises
    FileNotFoundError, and ValueError naming the line that cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no song file {path}")
    if path.stat().st_size > LARGEST_SONG:
        raise ValueError(f"{path}: larger than {LARGEST_SONG} bytes; expected one song")
    try:
        return parse_notation(path.read_text(encoding="utf-8-sig"), path.stem, verse)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse_notation(text: str, name: str = "", verse: int | None = None) -> Song:
    """Return the song in `text`, or one of its verses; raises ValueError naming the line."""
    tune = _Tune()
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.split("%")[0].strip()
        if not line:
            continue
        key, colon, value = (part.strip() for part in line.partition(":"))
        if not colon:
            raise ValueError(f"line {number}: {line[:30]!r}; expected notes:, words: or a header")
        if key == "notes":
            _read_notes(tune, value, number)
        elif key == "words":
            if not tune.words:
                raise ValueError(f"line {number}: words before any notes")
            tune.words[-1].append((value, number))
        elif key in HEADERS:
            tune.headers[key] = value
        else:
            raise ValueError(f"line {number}: {key!r}; expected {', '.join(HEADERS)}")
    if not tune.notes:
        raise ValueError("no notes; expected at least one line notes: ...")
    return _song(tune, name, verse)


def _read_notes(tune: _Tune, value: str, number: int) -> None:
    """Read the notes, chords and bar lines of one line."""
    tune.words.append([])
    for token in value.split():
        if token == "|":
            tune.bars.append((tune.position - tune.bar_start, number))
            tune.bar_start = tune.position
        elif chord := CHORD.fullmatch(token):
            root = (SEMITONES[chord[1]] + ACCIDENTALS[chord[2]]) % 12
            tune.chords.append((tune.position, root, CHORD_QUALITIES[chord[3]]))
        elif note := NOTE.fullmatch(token):
            _read_note(tune, note, number)
        else:
            raise ValueError(
                f"line {number}: {token!r} is no note, chord or bar; expected for example C4 F#4*2 "
                'Bb3/2 z "Am" |'
            )


def _read_note(tune: _Tune, match: re.Match[str], number: int) -> None:
    """Add one note or rest."""
    step, accidental, octave, times, divisor, tie = match.groups()
    length = Fraction(int(times or 1), int(divisor or 1) or 1)
    if not 0 < length <= 64:
        raise ValueError(f"line {number}: {match[0]!r} lasts {length} quarter notes")
    onset, tune.position = tune.position, tune.position + length
    if step is None:
        tune.tie = False
        return
    pitch = 12 * (int(octave) + 1) + SEMITONES[step] + ACCIDENTALS[accidental]
    if tune.tie:
        if pitch != tune.notes[-1][2]:
            raise ValueError(f"line {number}: a tie to another pitch, {match[0]!r}")
        tune.notes[-1][1] = tune.position
    else:
        tune.notes.append([onset, tune.position, pitch, len(tune.words) - 1])
    tune.tie = bool(tie)


def _song(tune: _Tune, name: str, wanted: int | None) -> Song:
    """Time the tune and set its accompaniment."""
    beats, unit = _fraction(tune.headers.get("meter", "4/4"))
    bar = Fraction(4 * beats, unit)
    for length, number in tune.bars[1:-1]:
        if length != bar:
            raise ValueError(f"line {number}: a bar of {length} quarter notes; expected {bar}")
    tempo = TempoMap.constant(_number(tune.headers, "tempo", 100.0, 20.0, 400.0))
    pickup = tune.bars[0][0] % bar if tune.bars else Fraction(0)
    intro = bar * int(_number(tune.headers, "intro", 0, 0, MOST_INTRO)) + (bar - pickup) % bar
    length = -(-(tune.position - pickup) // bar) * bar  # of a verse, in whole bars
    written = max(1, max(len(lines) for lines in tune.words))
    if wanted is not None and not 1 <= wanted <= written:
        raise ValueError(f"no verse {wanted}; the song has {written}")
    verses = range(written) if wanted is None else range(wanted - 1, wanted)

    def seconds(position: Fraction) -> float:
        return tempo.seconds_at(round(position * tempo.ticks_per_beat))

    notes: list[Note] = []
    lyrics: list[Lyric | None] = []
    chords: list[tuple[Fraction, int, tuple[int, ...]]] = []
    for place, verse in enumerate(verses):
        start = intro + place * length
        notes += [Note(p, seconds(start + a), seconds(start + b)) for a, b, p, _ in tune.notes]
        lyrics += _verse_lyrics(tune, verse)
        chords += [(start + onset, root, tones) for onset, root, tones in tune.chords]
    if chords and intro:
        chords.insert(0, (Fraction(0), *chords[0][1:]))
    played = _play(chords, intro + len(verses) * length, bar, Fraction(4, unit), _style(tune))
    sounding = (Note(pitch, seconds(onset), seconds(offset)) for onset, offset, pitch in played)
    program = int(_number(tune.headers, "program", 0, 0, 127))
    backing = (Backing("accompaniment", program, tuple(sounding)),) if chords else ()
    title = tune.headers.get("title", name)
    meters = (Meter(0, beats, unit),)
    melody = Melody(tuple(notes), tuple(lyrics), tempo, meters, title)
    return Song(title, tune.headers.get("composer", ""), melody, backing, written)


def _style(tune: _Tune) -> str:
    """Return how the chords are played."""
    style = tune.headers.get("style", "block")
    if style not in STYLES:
        raise ValueError(f"style {style!r}; expected one of {', '.join(STYLES)}")
    return style


def _verse_lyrics(tune: _Tune, verse: int) -> list[Lyric | None]:
    """Return the lyric of each note in a verse; a notes line with fewer verses repeats its last."""
    lyrics: list[Lyric | None] = []
    for index, lines in enumerate(tune.words):
        count = sum(note[3] == index for note in tune.notes)
        if not lines:
            lyrics += [None] * count
            continue
        text, number = lines[min(verse, len(lines) - 1)]
        found = _syllables(text)
        if len(found) != count:
            raise ValueError(
                f"line {number}: {len(found)} syllables for {count} notes; `_` prolongs a "
                "syllable, `*` leaves a note without one"
            )
        lyrics += found
    return lyrics


def _syllables(text: str) -> list[Lyric | None]:
    """Return the syllables of a line of words; None prolongs or leaves a note without one."""
    syllables: list[Lyric | None] = []
    for word in text.split():
        if set(word) <= {"_", "*"}:
            syllables += [None] * len(word)
            continue
        parts = word.split("-")
        for index, part in enumerate(parts):
            syllables.append(None if part == "_" else Lyric(part, index < len(parts) - 1))
    for index, lyric in reversed(list(enumerate(syllables))):
        if lyric is not None:
            syllables[index] = replace(lyric, ends_line=True)
            break
    return syllables


def _play(
    chords: Sequence[tuple[Fraction, int, tuple[int, ...]]],
    end: Fraction,
    bar: Fraction,
    beat: Fraction,
    style: str,
) -> list[tuple[Fraction, Fraction, int]]:
    """Return (onset, offset, pitch) of the chords in a style, figures starting anew in each bar."""
    played = []
    bounds = [*(place for place, _, _ in chords[1:]), end][: len(chords)]
    for (start, root, tones), stop in zip(chords, bounds, strict=True):
        bass = LOWEST_BASS + (root - LOWEST_BASS) % 12
        above = sorted(LOWEST_CHORD + (root + tone - LOWEST_CHORD) % 12 for tone in tones)
        position = start
        while position < stop:
            figure_end = min(stop, position - position % bar + bar)
            played.append((position, figure_end, bass))
            if style == "block":
                played += [(position, figure_end, pitch) for pitch in above]
            else:
                played += _figure(position, figure_end, beat, above, style)
            position = figure_end
    return played


def _figure(
    start: Fraction, end: Fraction, beat: Fraction, above: Sequence[int], style: str
) -> list[tuple[Fraction, Fraction, int]]:
    """Return the notes above the bass within one bar: broken up and down, or after each beat."""
    if style == "waltz":
        places = [start + k * beat for k in range(1, int((end - start) / beat))]
        return [(place, place + beat * 3 / 4, pitch) for place in places for pitch in above]
    step = beat / 2
    cycle = [*above, *reversed(above[1:-1])]
    count = int((end - start) / step)
    return [
        (start + k * step, min(end, start + (k + 2) * step), cycle[(k - 1) % len(cycle)])
        for k in range(1, count)
    ]


def _fraction(text: str) -> tuple[int, int]:
    """Return the two numbers of a metre."""
    match = re.fullmatch(r"(\d{1,2})/(1|2|4|8|16)", text)
    if not match or not int(match[1]):
        raise ValueError(f"meter {text!r}; expected for example 3/4")
    return int(match[1]), int(match[2])


def _number(
    headers: dict[str, str], key: str, default: float, lowest: float, highest: float
) -> float:
    """Return a header's number; ValueError when it is none, or out of bounds."""
    try:
        number = float(headers.get(key, default))
    except ValueError:
        raise ValueError(f"{key}: {headers[key][:40]!r} is no number") from None
    if not lowest <= number <= highest:
        raise ValueError(f"{key}: {headers[key][:40]}; expected {lowest:g} to {highest:g}")
    return number
