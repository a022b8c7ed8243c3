"""MusicXML in (.musicxml, .xml, .mxl): the voice with its lyrics, and what the others play.

Repeats are unfolded, the k-th pass of a measure sings its k-th verse; ties are joined, grace and
cue notes left out (their syllables go to the next note), transposing instruments sound as they do.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path
from xml.etree.ElementTree import Element

from music.musicxml_parts import Measure, Part, WrittenNote, read_parts
from music.part_names import is_voice_name, listed_parts, named
from music.repeats import MeasureMarks, play_order
from music.safe_xml import parse_xml, read_compressed
from music.score import TICKS_PER_BEAT, Lyric, Melody, Meter, Note, TempoMap
from music.song import Backing, Song
from text.remarks import listed, remark

DEFAULT_BPM = 100.0  # of a score without any tempo
FINEST_TICKS = 20160  # per beat, at most
CONTAINER = "META-INF/container.xml"


def read_musicxml(path: Path | str, part: str | None = None, verse: int | None = None) -> Song:
    """Return the song of a MusicXML file; its voice is the part with lyrics.

    `part` is another's name, id or number from 1. Music that is not repeated sings `verse` (the
    first one); repeats go on with those behind it. Raises FileNotFoundError; ValueError for a file
    that is no MusicXML or is refused (entities, bombs), several parts with lyrics, or no voice to
    tell.
    """
    path = Path(path)
    try:
        root = _root(path)
        return _song(root, read_parts(root), path, part, verse)
    except (ArithmeticError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: a MusicXML element is broken ({error!r})") from error
    except ValueError as error:
        raise ValueError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error


def read_parts_of(path: Path | str) -> list[Part]:
    """Return the parts of a MusicXML file as they are written, repeats not unfolded."""
    return read_parts(_root(Path(path)))


def _root(path: Path) -> Element:
    """Return the root element of a file or archive, as `safe_xml` reads it."""
    if not path.is_file():
        raise FileNotFoundError(f"no MusicXML file {path}")
    with open(path, "rb") as file:
        is_archive = file.read(2) == b"PK"  # whatever the suffix says
        if not is_archive:
            file.seek(0)
            return parse_xml(file.read(2**27), str(path))
    return parse_xml(read_compressed(path, CONTAINER, (".musicxml", ".xml")), str(path))


def _song(
    root: Element, parts: list[Part], path: Path, wanted: str | None, verse: int | None
) -> Song:
    """Unfold and time the parts, and choose the voice among them."""
    voice_part, remarks = _choose(parts, wanted)
    verses = sorted({v for m in voice_part.measures for n in m.notes for v in n.lyrics})
    if verse is not None and verse not in (verses or [1]):
        there = ", ".join(map(str, verses)) or "none"
        raise ValueError(f"no verse {verse} in part {voice_part.name!r}; verses are {there}")
    count = max(len(part.measures) for part in parts)
    columns = [[p.measures[k] for p in parts if k < len(p.measures)] for k in range(count)]
    marks = [_merged_marks(column) for column in columns]
    order = play_order(marks)
    if len(order) > count:
        jumps = listed([mark.in_words for mark in marks if mark.in_words])
        remarks += [remark("repeated", f"{jumps}, as the words say")] if jumps else []
    lengths = [_length(column) for column in columns]
    starts = list(accumulate((lengths[k] for k in order), initial=Fraction(0)))
    clock = _Clock(columns, order, starts)
    sung, more = sung_notes(voice_part)
    melody, others = _melody(voice_part, sung, order, starts, clock, verse or 1, path)
    if not any(measure.tempos for column in columns for measure in column):
        text = f"no tempo is written: {DEFAULT_BPM:.0f} quarter notes per minute; --tempo sets it"
        remarks.append(remark("guessed", text))
    melody = replace(melody, remarks=(*remarks, *more, *others, *melody.remarks))
    is_sung = {id(note) for notes in sung for note in notes}
    backing = []
    for part in parts:
        if notes := _backing_notes(part, is_sung, order, starts, clock):
            backing.append(Backing(part.name, part.program, tuple(notes)))
    creators = {e.get("type"): (e.text or "").strip() for e in root.iter("creator")}
    title = (
        root.findtext("movement-title") or root.findtext("work/work-title") or path.stem
    ).strip()
    return Song(title, creators.get("composer", ""), melody, tuple(backing), max(1, len(verses)))


def _choose(parts: list[Part], wanted: str | None) -> tuple[Part, list[str]]:
    """Return the part to sing, and a remark when it was guessed; ValueError names the candidates.

    `wanted` is an id, a name, a part of one, or a number from 1.
    """
    parts = [part for part in parts if any(measure.notes for measure in part.measures)]
    names = [part.name for part in parts]
    if wanted is not None:
        same = [part for part in parts if part.id == wanted]
        return (same[0] if same else parts[named(wanted, names, "--part", "part")]), []
    if not parts:
        raise ValueError("no part has notes; expected a voice")
    sung = [part for part in parts if part.num_lyrics]
    candidates = sung or parts
    if len(candidates) == 1:
        return candidates[0], []
    called = [part for part in candidates if is_voice_name(part.name)]
    if len(called) == 1:
        text = f"part {called[0].name!r} is taken for the voice; --part chooses another"
        return called[0], [remark("guessed", text)]
    kind = "parts have lyrics" if sung else "parts have notes, none lyrics"
    raise ValueError(
        f"{len(candidates)} {kind}: {listed_parts(names)}. Choose one with --part NAME or "
        "--part NUMBER"
    )


def _main_voice(part: Part) -> str:
    """Return the voice of a part with the most lyrics, then the most notes."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for measure in part.measures:
        for note in measure.notes:
            counts[note.voice][0] += bool(note.lyrics)
            counts[note.voice][1] += 1
    return max(counts, key=lambda voice: counts[voice])


def sung_notes(part: Part) -> tuple[list[list[WrittenNote]], list[str]]:
    """Return the notes that are sung, by measure, and remarks on the voices of the part.

    They are those of the voice with the most lyrics and, where it rests or has a cue, of the other
    voices of its staff.
    """
    main = _main_voice(part)
    staffs = Counter(n.staff for m in part.measures for n in m.notes if n.voice == main)
    staff = staffs.most_common(1)[0][0]
    taken: Counter[str] = Counter()
    unsung: Counter[str] = Counter()  # syllables, by voice
    measures = []
    for measure in part.measures:
        sung = [note for note in measure.notes if note.voice == main]
        others = [note for note in measure.notes if note.voice != main]
        others.sort(key=lambda note: (not note.lyrics, note.voice, note.onset))
        for note in others:
            clashing = [s for s in sung if s.onset < note.end and note.onset < s.end]
            is_chord = any(s.voice == note.voice and s.onset == note.onset for s in clashing)
            if note.staff == staff and (not clashing or is_chord):
                sung.append(note)
                taken[note.voice] += 1
            else:
                unsung[note.voice] += bool(note.lyrics)
        measures.append(sorted(sung, key=lambda note: note.onset))
    remarks = []
    if taken:
        text = f"{taken.total()} notes of voice {listed(sorted(taken))} sung where {main} rests"
        remarks.append(remark("changed", text))
    if unsung.total():
        names = listed(sorted(voice for voice, count in unsung.items() if count))
        text = f"{unsung.total()} syllables of voice {names}, which sings at the same time"
        remarks.append(remark("not sung", text))
    return measures, remarks


def _merged_marks(column: Sequence[Measure]) -> MeasureMarks:
    """Return the signs of a measure that any part shows."""
    merged = MeasureMarks()
    for measure in column:
        for name, value in vars(measure.marks).items():
            either = max if name in ("backward", "in_words") else (lambda a, b: a | b)
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


@dataclass
class _Row:
    """A note of the unfolded melody, times in quarter notes."""

    onset: Fraction
    offset: Fraction
    pitch: int
    lyric: Lyric | None


def _melody(
    part: Part,
    measures: Sequence[Sequence[WrittenNote]],
    order: Sequence[int],
    starts: Sequence[Fraction],
    clock: _Clock,
    verse: int,
    path: Path,
) -> tuple[Melody, list[str]]:
    """Return the sung line, and a remark on verses that are not sung.

    Ties are joined, chords reduced to their highest note, verses chosen.
    """
    rows: list[_Row] = []
    passes: Counter[int] = Counter()
    verses_sung: set[tuple[int, int]] = set()  # (measure, verse)
    for k, start in zip(order, starts, strict=False):
        passes[k] += 1
        notes = measures[k] if k < len(measures) else ()
        number = _verse(notes, verse + passes[k] - 1)
        verses_sung.add((k, number))
        for note in notes:
            _add_note(rows, note, start, note.lyrics.get(number))
    skipped = Counter(part.skipped)
    for row, after in pairwise(rows):
        if row.offset > after.onset:
            row.offset = after.onset
            skipped["overlaps (shortened)"] += 1
    timed = [(clock.note(row.pitch, row.onset, row.offset), row.lyric) for row in rows]
    kept = [(note, lyric) for note, lyric in timed if note is not None]
    melody = Melody(
        tuple(note for note, _ in kept),
        tuple(lyric for _, lyric in kept),
        clock.tempo,
        clock.meters,
        path.stem,
        tuple(
            remark("not sung", f"{count} {reason} left out")
            for reason, count in sorted(skipped.items())
        ),
    )
    return melody, _unsung_verses(measures, verses_sung)


def _add_note(rows: list[_Row], note: WrittenNote, start: Fraction, lyric: Lyric | None) -> None:
    """Add a written note to the rows: to its chord or tie, or as a new one."""
    onset = start + note.onset
    last = rows[-1] if rows else None
    if last and last.onset == onset:
        last.pitch = max(last.pitch, note.pitch)
        last.lyric = last.lyric or lyric
    elif last and note.tied_from and last.offset == onset and last.pitch == note.pitch:
        last.offset = onset + note.duration
    else:
        rows.append(_Row(onset, onset + note.duration, note.pitch, lyric))


def _unsung_verses(
    measures: Sequence[Sequence[WrittenNote]], sung: Set[tuple[int, int]]
) -> list[str]:
    """Return a remark on the written verses that no pass of their measure sings."""
    unsung = Counter(
        verse
        for k, notes in enumerate(measures)
        for note in notes
        for verse in note.lyrics
        if (k, verse) not in sung
    )
    if not unsung:
        return []
    names = listed([f"{verse} ({count} syllables)" for verse, count in sorted(unsung.items())])
    return [remark("not sung", f"verse {names}; --verse N sings another one")]


def _verse(notes: Sequence[WrittenNote], wanted: int) -> int:
    """Return the verse that a measure sings: the wanted one or the nearest written before it."""
    there = {number for note in notes for number in note.lyrics}
    return max((n for n in there if n <= wanted), default=min(there, default=wanted))


def _backing_notes(
    part: Part,
    sung: Set[int],
    order: Sequence[int],
    starts: Sequence[Fraction],
    clock: _Clock,
) -> list[Note]:
    """Return what a part plays apart from the notes (by id) that are sung, ties joined."""
    rows: list[_Row] = []
    last: dict[int, _Row] = {}  # by pitch
    for k, start in zip(order, starts, strict=False):
        for note in part.measures[k].notes if k < len(part.measures) else ():
            if id(note) in sung:
                continue
            onset, before = start + note.onset, last.get(note.pitch)
            if note.tied_from and before is not None and before.offset == onset:
                before.offset = onset + note.duration
                continue
            last[note.pitch] = _Row(onset, onset + note.duration, note.pitch, None)
            rows.append(last[note.pitch])
    notes = (clock.note(row.pitch, row.onset, row.offset) for row in rows)
    return sorted((note for note in notes if note), key=lambda note: (note.onset, note.pitch))
