"""MusicXML in (.musicxml, .xml, .mxl): the voice with its lyrics, and what the others play.

Repeats are unfolded, the k-th pass of a measure sings its k-th verse; ties are joined, grace and
cue notes left out (their syllables go to the next note), transposing instruments sound as they do.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path
from xml.etree.ElementTree import Element

from music.melody import Melody
from music.musicxml_parts import Measure, Part, WrittenNote, read_parts
from music.repeats import MeasureMarks, play_order
from music.safe_xml import parse_xml, read_compressed
from music.score import Note
from music.song import Backing, Song
from music.tempo import TICKS_PER_BEAT, Meter, TempoMap

DEFAULT_BPM = 100.0  # of a score without any tempo
FINEST_TICKS = 20160  # per beat, at most
CONTAINER = "META-INF/container.xml"


def read_musicxml(path: Path | str, part: str | None = None, verse: int | None = None) -> Song:
    """Return the song of a MusicXML file; its voice is the part with lyrics, or `part` by name/id.

    Music that is not repeated sings `verse`. Raises FileNotFoundError; ValueError for a file that
    is no MusicXML or is refused (entities, bombs), several parts with lyrics, or no voice to tell.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no MusicXML file {path}")
    if path.suffix.lower() == ".mxl":
        data = read_compressed(path, CONTAINER, (".musicxml", ".xml"))
    else:
        with open(path, "rb") as file:
            data = file.read(2**27)
    root = parse_xml(data, str(path))
    try:
        parts = read_parts(root)
        return _song(root, parts, path, part, verse or 1)
    except (ArithmeticError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: a MusicXML element is broken ({error!r})") from error
    except ValueError as error:
        raise ValueError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error


def _song(root: Element, parts: list[Part], path: Path, wanted: str | None, verse: int) -> Song:
    """Unfold and time the parts, and choose the voice among them."""
    voice_part = _choose(parts, wanted)
    voice = _main_voice(voice_part)
    count = max(len(part.measures) for part in parts)
    columns = [[p.measures[k] for p in parts if k < len(p.measures)] for k in range(count)]
    order = play_order([_merged_marks(column) for column in columns])
    lengths = [_length(column) for column in columns]
    starts = list(accumulate((lengths[k] for k in order), initial=Fraction(0)))
    clock = _Clock(columns, order, starts)
    melody = _melody(voice_part, voice, order, starts, clock, verse, path)
    backing = []
    for part in parts:
        notes = _backing_notes(part, voice if part is voice_part else None, order, starts, clock)
        if notes:
            backing.append(Backing(part.name, part.program, tuple(notes)))
    verses = {v for m in voice_part.measures for n in m.notes for v in n.lyrics}
    creators = {e.get("type"): (e.text or "").strip() for e in root.iter("creator")}
    title = (
        root.findtext("movement-title") or root.findtext("work/work-title") or path.stem
    ).strip()
    return Song(title, creators.get("composer", ""), melody, tuple(backing), max(1, len(verses)))


def _choose(parts: list[Part], wanted: str | None) -> Part:
    """Return the part to sing; ValueError names the candidates."""
    if wanted is not None:
        for part in parts:
            if wanted in (part.id, part.name):
                return part
    names = ", ".join(f"{part.id} ({part.name})" for part in parts)
    if wanted is not None:
        raise ValueError(f"no part {wanted!r}; parts with music are {names or 'none'}")
    sung = [part for part in parts if part.num_lyrics]
    for candidates in (sung, [part for part in parts if any(m.notes for m in part.measures)]):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            names = ", ".join(f"{part.id} ({part.name})" for part in candidates)
            kind = "parts have lyrics" if candidates is sung else "parts have notes, none lyrics"
            raise ValueError(f"{len(candidates)} {kind}: {names}; choose one")
    raise ValueError("no part has notes; expected a voice")


def _main_voice(part: Part) -> str:
    """Return the voice of a part with the most lyrics, then the most notes."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for measure in part.measures:
        for note in measure.notes:
            counts[note.voice][0] += bool(note.lyrics)
            counts[note.voice][1] += 1
    if not counts:
        raise ValueError(f"part {part.id} ({part.name}) has no notes to sing")
    return max(counts, key=lambda voice: counts[voice])


def _merged_marks(column: Sequence[Measure]) -> MeasureMarks:
    """Return the signs of a measure that any part shows."""
    merged = MeasureMarks()
    for measure in column:
        for name, value in vars(measure.marks).items():
            either = max if name == "backward" else (lambda a, b: a | b)
            setattr(merged, name, either(getattr(merged, name), value))
    return merged


def _length(column: Sequence[Measure]) -> Fraction:
    """Return a measure's length in quarters: its longest part, so that pick-ups are short."""
    return max(measure.length for measure in column)


class _Clock:
    """Quarter notes of the unfolded song to ticks and seconds."""

    def __init__(
        self, columns: Sequence[list[Measure]], order: Sequence[int], starts: Sequence[Fraction]
    ) -> None:
        tempos, meters, meter = {Fraction(0): DEFAULT_BPM}, [], None
        for k, start in zip(order, starts, strict=False):
            for measure in columns[k]:
                tempos.update({start + place: bpm for place, bpm in measure.tempos})
                if measure.meter and measure.meter != meter:
                    meter = measure.meter
                    meters.append((start, meter))
        times = [note.onset for column in columns for m in column for note in m.notes]
        times += [note.duration for column in columns for m in column for note in m.notes]
        ticks = math.lcm(TICKS_PER_BEAT, *{time.denominator for time in times})
        self.ticks = ticks if ticks <= FINEST_TICKS else TICKS_PER_BEAT
        changes: dict[int, int] = {}
        for start in sorted(tempos):
            changes[self.tick(start)] = round(60e6 / min(max(tempos[start], 5.0), 1000.0))
        self.tempo = TempoMap(tuple(changes.items()), self.ticks)
        self.meters = tuple(Meter(self.tick(start), *meter) for start, meter in meters)

    def tick(self, quarters: Fraction) -> int:
        return round(quarters * self.ticks)

    def note(self, pitch: int, onset: Fraction, offset: Fraction) -> Note | None:
        """Return a note in seconds, None when it is shorter than a tick."""
        first, last = self.tick(onset), self.tick(offset)
        if last <= first:
            return None
        return Note(pitch, self.tempo.seconds_at(first), self.tempo.seconds_at(last))


def _melody(
    part: Part,
    voice: str,
    order: Sequence[int],
    starts: Sequence[Fraction],
    clock: _Clock,
    verse: int,
    path: Path,
) -> Melody:
    """Return the sung line: ties joined, chords reduced to their highest note, verses chosen."""
    rows: list[list] = []  # [onset, offset, pitch, lyric]
    skipped = Counter(part.skipped)
    passes: Counter[int] = Counter()
    for k, start in zip(order, starts, strict=False):
        passes[k] += 1
        measure = part.measures[k] if k < len(part.measures) else Measure()
        notes = [note for note in measure.notes if note.voice == voice]
        number = _verse(notes, verse + passes[k] - 1)
        for note in sorted(notes, key=lambda note: note.onset):
            onset = start + note.onset
            lyric = note.lyrics.get(number)
            if rows and rows[-1][0] == onset:
                rows[-1][2] = max(rows[-1][2], note.pitch)
                rows[-1][3] = rows[-1][3] or lyric
            elif rows and note.tied_from and rows[-1][1] == onset and rows[-1][2] == note.pitch:
                rows[-1][1] = onset + note.duration
            else:
                rows.append([onset, onset + note.duration, note.pitch, lyric])
    for row, after in pairwise(rows):
        if row[1] > after[0]:
            row[1] = after[0]
            skipped["overlaps (shortened)"] += 1
    timed = [(clock.note(row[2], row[0], row[1]), row[3]) for row in rows]
    kept = [(note, lyric) for note, lyric in timed if note is not None]
    return Melody(
        tuple(note for note, _ in kept),
        tuple(lyric for _, lyric in kept),
        clock.tempo,
        clock.meters,
        path.stem,
        tuple(f"{count} {reason} left out" for reason, count in sorted(skipped.items())),
    )


def _verse(notes: Sequence[WrittenNote], wanted: int) -> int:
    """Return the verse that a measure sings: the wanted one or the nearest written before it."""
    there = {number for note in notes for number in note.lyrics}
    return max((n for n in there if n <= wanted), default=min(there, default=wanted))


def _backing_notes(
    part: Part,
    sung_voice: str | None,
    order: Sequence[int],
    starts: Sequence[Fraction],
    clock: _Clock,
) -> list[Note]:
    """Return what a part plays apart from the sung voice, ties joined."""
    rows: list[list] = []
    last: dict[int, list] = {}  # by pitch
    for k, start in zip(order, starts, strict=False):
        for note in part.measures[k].notes if k < len(part.measures) else ():
            if note.voice == sung_voice:
                continue
            onset, before = start + note.onset, last.get(note.pitch)
            if note.tied_from and before is not None and before[1] == onset:
                before[1] = onset + note.duration
                continue
            last[note.pitch] = [onset, onset + note.duration, note.pitch]
            rows.append(last[note.pitch])
    notes = (clock.note(pitch, onset, offset) for onset, offset, pitch in rows)
    return sorted((note for note in notes if note), key=lambda note: (note.onset, note.pitch))
