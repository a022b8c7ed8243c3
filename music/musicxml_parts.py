"""MusicXML's parts, measure by measure, as they are written: durations in quarter notes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from xml.etree.ElementTree import Element

from music.repeats import MeasureMarks, read_words
from music.score import SEMITONES, Lyric
from text.normalize import HYPHENS

READ_TAGS = ("attributes", "backup", "forward", "note", "direction", "sound", "barline")
DURATION = re.compile(r"\d{1,9}(?:\.\d{0,9})?|\.\d{1,9}")
LONGEST_DURATION = 10_000  # quarter notes
BEATS = {"whole": 4.0, "half": 2.0, "quarter": 1.0, "eighth": 0.5, "16th": 0.25, "32nd": 0.125}
BEATS_OF_SIGN = {"♪": 0.5, "\U0001d15e": 2.0}  # quarters; any other sign is a quarter
TEMPO_IN_WORDS = re.compile(r"(\S)?\s*=\s*(?:ca?\.?\s*)?([2-9]\d|[1-3]\d\d)(?![\d.])")  # ♩ = 96
ELISION_SIGNS = re.compile("[\ue550-\ue552\u203f]")  # of music fonts: two syllables on one note


@dataclass
class WrittenNote:
    """A note of one measure; times in quarter notes from the measure's start."""

    onset: Fraction
    duration: Fraction
    pitch: int
    voice: str
    staff: str = "1"
    in_chord: bool = False
    tied_from: bool = False  # it continues the note before
    lyrics: dict[int, Lyric] = field(default_factory=dict)  # by verse

    @property
    def end(self) -> Fraction:
        """Where it stops sounding."""
        return self.onset + self.duration


@dataclass
class Measure:
    """One measure of one part."""

    length: Fraction = Fraction(0)
    notes: list[WrittenNote] = field(default_factory=list)
    tempos: list[tuple[Fraction, float]] = field(default_factory=list)  # quarters per minute
    meter: tuple[int, int] | None = None
    fifths: int | None = None  # key signature: sharps, or flats below 0
    marks: MeasureMarks = field(default_factory=MeasureMarks)


@dataclass
class Part:
    """One part, measure by measure; `skipped` counts what could not be used, by its reason."""

    id: str
    name: str
    program: int
    measures: list[Measure] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def num_lyrics(self) -> int:
        """Notes with a syllable."""
        return sum(bool(note.lyrics) for measure in self.measures for note in measure.notes)


def read_parts(root: Element) -> list[Part]:
    """Return the parts of a partwise or timewise score."""
    if root.tag not in ("score-partwise", "score-timewise"):
        raise ValueError(f"<{root.tag}> is no MusicXML score; expected <score-partwise>")
    parts: dict[str, Part] = {}
    for entry in root.iterfind("part-list/score-part"):
        program = int(_text(entry, "midi-instrument/midi-program") or 1) - 1
        id = entry.get("id", "")
        name = (_text(entry, "part-name") or id).strip()
        parts[id] = Part(id, name, min(max(program, 0), 127))
    measures: dict[str, list[Element]] = {id: [] for id in parts}
    partwise = root.tag == "score-partwise"
    for outer in root.iterfind("part" if partwise else "measure"):
        for inner in outer.iterfind("measure" if partwise else "part"):
            id = (outer if partwise else inner).get("id", "")
            measures[id].append(inner)
    for id, part in parts.items():
        _PartReader(part).read(measures[id])
        _join_hyphens(part)
    return [part for part in parts.values() if part.measures]


class _PartReader:
    """Walks the measures of a part with what lasts from one to the next."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.divisions = 1
        self.transposition = 0
        self.endings: frozenset[int] = frozenset()
        self.grace_lyrics: dict[int, Lyric] = {}

    def read(self, elements: Sequence[Element]) -> None:
        for element in elements:
            self.measure, self.cursor, self.onset = Measure(), Fraction(0), Fraction(0)
            for child in element:
                if child.tag in READ_TAGS:
                    getattr(self, f"_{child.tag}")(child)
                self.measure.length = max(self.measure.length, self.cursor)
            self.measure.marks.endings |= self.endings
            if self.measure.marks.ending_stops:
                self.endings = frozenset()
            self.part.measures.append(self.measure)

    def _attributes(self, element: Element) -> None:
        self.divisions = int(_text(element, "divisions") or self.divisions)
        if self.divisions < 1:
            raise ValueError(f"{self.divisions} divisions of a quarter note; expected 1 or more")
        beats, beat_type = _text(element, "time/beats"), _text(element, "time/beat-type")
        if beats and beat_type:
            self.measure.meter = sum(int(part) for part in beats.split("+")), int(beat_type)
        if (fifths := _text(element, "key/fifths")) is not None:
            self.measure.fifths = int(fifths)
        if element.find("transpose") is not None:
            octaves = int(_text(element, "transpose/octave-change") or 0)
            chromatic = round(float(_text(element, "transpose/chromatic") or 0))
            self.transposition = chromatic + 12 * octaves

    def _duration(self, element: Element) -> Fraction:
        text = (_text(element, "duration") or "0").strip()
        if not DURATION.fullmatch(text):  # Fraction would write 1e1000000000 out
            raise ValueError(f"<duration> {text[:40]!r}; expected a number of up to nine digits")
        duration = Fraction(text) / self.divisions
        if not 0 <= duration < LONGEST_DURATION:
            raise ValueError(
                f"a duration of {float(duration)} quarter notes; expected up to {LONGEST_DURATION}"
            )
        return duration

    def _backup(self, element: Element) -> None:
        self.cursor = max(Fraction(0), self.cursor - self._duration(element))

    def _forward(self, element: Element) -> None:
        self.cursor += self._duration(element)

    def _note(self, element: Element) -> None:
        duration = self._duration(element)
        in_chord = element.find("chord") is not None
        if not in_chord:
            self.onset = self.cursor
            self.cursor += duration
        lyrics = dict(_lyrics(element))
        pitch = element.find("pitch")
        if element.find("rest") is not None or element.find("cue") is not None:
            return
        if element.find("grace") is not None or not duration:
            reason = "grace notes" if element.find("grace") is not None else "notes of no length"
            self.part.skipped[reason] += 1
            self.grace_lyrics.update(lyrics)
            return
        if pitch is None:
            words = " ".join(lyric.text for lyric in lyrics.values())
            self.part.skipped["notes without a pitch" + f" ({words!r})" * bool(words)] += 1
            return
        midi = self._midi(pitch)
        if not 1 <= midi <= 127:
            self.part.skipped["notes beyond MIDI's range"] += 1
            return
        if not in_chord:
            lyrics, self.grace_lyrics = _elided(self.grace_lyrics, lyrics), {}
        ties = (*element.iterfind("tie"), *element.iterfind("notations/tied"))
        tied_from = any(tie.get("type") == "stop" for tie in ties)
        voice = (_text(element, "voice") or "1").strip()
        staff = (_text(element, "staff") or "1").strip()
        self.measure.notes.append(
            WrittenNote(self.onset, duration, midi, voice, staff, in_chord, tied_from, lyrics)
        )

    def _midi(self, pitch: Element) -> int:
        step, octave = (_text(pitch, "step") or "").strip(), int(_text(pitch, "octave") or "")
        alter = round(float(_text(pitch, "alter") or 0))
        return 12 * (octave + 1) + SEMITONES[step] + alter + self.transposition

    def _direction(self, element: Element) -> None:
        sound = element.find("sound")
        if sound is not None:
            self._sound(sound)
        if sound is None or sound.get("tempo") is None:
            for metronome in element.iterfind("direction-type/metronome"):
                self._metronome(metronome)
        self.measure.marks.segno |= element.find("direction-type/segno") is not None
        words = " ".join(e.text or "" for e in element.iterfind("direction-type/words"))
        if sound is None:
            read_words(words, self.measure.marks)
            tempo = TEMPO_IN_WORDS.search(words)
            if tempo and element.find("direction-type/metronome") is None:
                beats = BEATS_OF_SIGN.get(tempo[1] or "", 1.0)
                self.measure.tempos.append((self.cursor, beats * float(tempo[2])))
        if element.find("direction-type/coda") is not None and not self.measure.marks.to_coda:
            self.measure.marks.coda = True

    def _metronome(self, element: Element) -> None:
        unit, minute = _text(element, "beat-unit"), _text(element, "per-minute") or ""
        number = re.search(r"\d+(?:\.\d+)?", minute)
        if unit in BEATS and number and float(number[0]) > 0:
            beats = BEATS[unit] * (2.0 - 0.5 ** len(element.findall("beat-unit-dot")))
            self.measure.tempos.append((self.cursor, float(number[0]) * beats))

    def _sound(self, element: Element) -> None:
        marks = self.measure.marks
        if (tempo := float(element.get("tempo", 0))) > 0:
            self.measure.tempos.append((self.cursor, tempo))
        marks.da_capo |= element.get("dacapo") == "yes"
        marks.dal_segno |= element.get("dalsegno") is not None
        marks.to_coda |= element.get("tocoda") is not None
        marks.coda |= element.get("coda") is not None
        marks.segno |= element.get("segno") is not None
        marks.fine |= element.get("fine") is not None

    def _barline(self, element: Element) -> None:
        repeat, ending, marks = element.find("repeat"), element.find("ending"), self.measure.marks
        if repeat is not None and repeat.get("direction") == "forward":
            marks.forward = True
        elif repeat is not None:
            marks.backward = min(max(2, int(repeat.get("times", 2))), 20)
        if ending is None:
            return
        if ending.get("type") == "start":
            numbers = re.findall(r"\d{1,2}", ending.get("number", ""))
            self.endings = frozenset(int(number) for number in numbers) or frozenset({1})
        else:
            marks.ending_stops = True
            marks.endings = self.endings


def _elided(grace: dict[int, Lyric], lyrics: dict[int, Lyric]) -> dict[int, Lyric]:
    """Return the syllables of a note and of the grace notes before it, both on the note."""
    both = {**grace, **lyrics}
    for verse in grace.keys() & lyrics.keys():
        parting = "" if grace[verse].continues else " "
        both[verse] = replace(lyrics[verse], text=grace[verse].text + parting + lyrics[verse].text)
    return both


def _text(element: Element, path: str) -> str | None:
    """Return the text of a descendant, None when it is missing."""
    return element.findtext(path)


def _lyrics(note: Element) -> Iterator[tuple[int, Lyric]]:
    """Yield (verse, syllable) of a note; extensions and bare punctuation are none.

    Syllables of two words on one note (elision) come with a blank between them.
    """
    for element in note.iterfind("lyric"):
        text = "".join(
            " " if child.tag == "elision" else ELISION_SIGNS.sub(" ", child.text or "")
            for child in element
            if child.tag in ("text", "elision")
        )
        text = re.sub(r"^\d+\s*[.)]\s*", "", " ".join(text.split()))
        kinds = [child.text for child in element if child.tag == "syllabic"]
        continues = (kinds[-1] if kinds else None) in ("begin", "middle") or text.endswith("-")
        text = text.rstrip("_ ")  # a hyphen that is written belongs to the spelling
        digits = re.findall(r"\d+", element.get("number", "1"))
        if any(character.isalnum() for character in text):
            ends = any(element.find(tag) is not None for tag in ("end-line", "end-paragraph"))
            yield int(digits[-1]) if digits else 1, Lyric(text, continues, ends)


def _join_hyphens(part: Part) -> None:
    """Take hyphens out of the syllables where they stand for what <syllabic> says already.

    "glo-" "-ri-" "-a": where most syllables that continue have one, or where one stands in front.
    """
    by_verse: dict[int, list[tuple[WrittenNote, Lyric]]] = {}
    for measure in part.measures:
        for note in measure.notes:
            for verse, lyric in note.lyrics.items():
                by_verse.setdefault(verse, []).append((note, lyric))
    for verse, row in by_verse.items():
        continuing = [lyric for _, lyric in row if lyric.continues]
        hyphened = sum(lyric.text[-1] in HYPHENS for lyric in continuing)
        is_habit = 2 * hyphened > len(continuing)
        for index, (note, lyric) in enumerate(row):
            after = row[index + 1][1].text if index + 1 < len(row) else ""
            text, continues = lyric.text, lyric.continues
            if text[0] in HYPHENS and len(text) > 1:
                text = text.lstrip(HYPHENS)
            if (is_habit or (text[-1] in HYPHENS and after[:1] in HYPHENS)) and continues:
                text = text.rstrip(HYPHENS)
            continues = continues or (after[:1] in HYPHENS and len(after) > 1)
            note.lyrics[verse] = replace(lyric, text=text, continues=continues)
