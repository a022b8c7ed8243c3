"""Standard MIDI files in: their tracks in ticks, the one that is sung, its notes and its words."""

from __future__ import annotations

import io
import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import mido

from music.midi import RESET, distinct, style_of
from music.part_names import is_voice_name, listed_parts, named
from music.score import (
    NEXT_SYLLABLE,
    Lyric,
    Melody,
    Meter,
    Note,
    NoteStyle,
    TempoMap,
    one_voice,
)
from text.lyric_layouts import is_chord, is_part
from text.normalize import HYPHENS
from text.remarks import listed, remark

DRUM_CHANNEL = 9
FEWEST_TEXTS = 3  # text events that make lyrics when they stand at notes
CLEAR_MATCH = 0.6  # F1 of word times and onsets from which a track is taken for the sung one
CLEAR_LEAD = 0.1  # by which that F1 is above the next track's
WORD_TRACK = re.compile(r"\b(words?|lyrics?|karaoke|liedtext|paroles|testo|letra)\b")
LINE_MARKS = ("\\", "/")  # in karaoke files: a new stanza, a new line


@dataclass
class Track:
    """What one track of a file holds, times in ticks."""

    name: str
    notes: list[tuple[int, int, int]] = field(default_factory=list)  # onset, offset, pitch
    lyrics: dict[int, str] = field(default_factory=dict)  # lyric events, tick: text
    texts: dict[int, str] = field(default_factory=dict)  # text events, tick: text
    velocities: dict[tuple[int, int], int] = field(default_factory=dict)  # by onset and pitch
    controls: list[tuple[int, int, int]] = field(default_factory=list)  # tick, controller, value
    bends: int = 0  # of the pitch, as a wheel makes them
    zero_length: int = 0
    unended: int = 0
    other_verses: int = 0  # lyric events beside another one, which is sung

    def styles(self) -> dict[tuple[int, int], NoteStyle | None]:
        """Return how each note is sung, by onset and pitch: its velocity and the controllers."""
        notes = sorted({(onset, pitch) for onset, _, pitch in self.notes})
        events = iter([*self.controls, (1 << 62, 0, 0)])
        current: dict[int, int] = {}  # values that stand
        tick, number, value = next(events)
        found = []
        for onset, pitch in notes:
            while tick <= onset:
                if number == RESET:
                    current.clear()
                else:
                    current[number] = value
                tick, number, value = next(events)
            found.append(style_of(self.velocities[onset, pitch], current))
        return dict(zip(notes, distinct(found), strict=True))

    def add(self, onset: int, offset: int, pitch: int) -> None:
        """Add a finished note, or count it when it has no length."""
        if offset > onset:
            self.notes.append((onset, offset, pitch))
        else:
            self.zero_length += 1


def parse_midi(path: Path) -> mido.MidiFile:
    """Parse a file; its texts are decoded by `decoded`, one by one.

    Raises ValueError for a file that is none, ends early, or counts time otherwise than in beats.
    """
    data = path.read_bytes()
    if data[:4] == b"RIFF" and data[8:12] == b"RMID":  # .rmi: a MIDI file in an envelope
        data = data[data.find(b"MThd") :]
    try:
        file = mido.MidiFile(file=io.BytesIO(data), charset="latin1", clip=True)
    except EOFError as error:
        raise ValueError(
            f"{path}: not a whole MIDI file, it ends early; copy or export it again"
        ) from error
    except (OSError, ValueError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a MIDI file ({error or type(error).__name__})") from error
    if file.type == 2:
        raise ValueError(f"{path}: a MIDI file of type 2 (separate patterns); expected 0 or 1")
    if not 0 < file.ticks_per_beat < 0x8000:
        raise ValueError(f"{path}: time in film frames; expected ticks per beat")
    return file


def decoded(text: str) -> str:
    """Return a text that was read as Latin-1 in its own charset: UTF-8, else Windows-1252."""
    data = text.encode("latin1")
    for charset in ("utf-8", "cp1252"):
        try:
            return data.decode(charset)
        except UnicodeDecodeError:
            continue
    return text


def read_tracks(file: mido.MidiFile) -> tuple[TempoMap, tuple[Meter, ...], list[Track]]:
    """Return tempo, metre and tracks; a track of several channels is parted by channel."""
    tempos, meters = {0: 500_000}, {}
    tracks: list[Track] = []
    for messages in file.tracks:
        tick = 0
        for message in messages:
            tick += message.time
            if message.type == "set_tempo":
                tempos[tick] = max(1, message.tempo)
            elif message.type == "time_signature":
                meters[tick] = Meter(tick, message.numerator, message.denominator)
        tracks += _parted(messages)
    changes = tuple(sorted(tempos.items()))
    ordered = tuple(meters[tick] for tick in sorted(meters))
    return TempoMap(changes, file.ticks_per_beat), ordered, tracks


def _parted(messages: mido.MidiTrack) -> list[Track]:
    """Return the channels of a track that have notes, and its texts: in its only one, or apart."""
    channels: dict[int, Track] = defaultdict(lambda: Track(""))
    sounding: dict[tuple[int, int], list[int]] = defaultdict(list)
    words = Track("")
    lyrics: dict[int, list[str]] = defaultdict(list)
    tick = 0
    for message in messages:
        tick += message.time
        if message.type == "track_name":
            words.name = words.name or decoded(message.name).strip()
        elif message.type == "lyrics":
            lyrics[tick].append(decoded(message.text))
        elif message.type == "text" and not message.text.startswith("@"):  # a .kar header
            words.texts[tick] = words.texts.get(tick, "") + decoded(message.text)
        elif message.type in ("note_on", "note_off") and message.channel != DRUM_CHANNEL:
            key = (message.channel, message.note)
            if message.type == "note_on" and message.velocity:
                sounding[key].append(tick)
                channels[message.channel].velocities[tick, message.note] = message.velocity
            elif sounding[key]:
                channels[message.channel].add(sounding[key].pop(0), tick, message.note)
        elif message.type == "control_change":
            channels[message.channel].controls.append((tick, message.control, message.value))
        elif message.type == "pitchwheel":
            channels[message.channel].bends += message.pitch != 0
    for (channel, pitch), starts in sounding.items():
        for start in starts:
            channels[channel].unended += 1
            channels[channel].add(start, tick, pitch)
    words.lyrics, words.other_verses = _first_verse(lyrics)
    parts = {c: part for c, part in channels.items() if part.notes or part.zero_length}
    if len(parts) > 1 and (merged := _one_line(list(parts.values()))):
        parts = {0: merged}
    for channel, part in parts.items():
        suffix = f" channel {channel + 1}" if len(parts) > 1 else ""
        part.name = (words.name or "unnamed") + suffix
    if len(parts) == 1:
        for part in parts.values():
            part.lyrics, part.texts = words.lyrics, words.texts
            part.other_verses = words.other_verses
        return list(parts.values())
    return [*([words] if words.lyrics or words.texts else []), *parts.values()]


def _first_verse(lyrics: Mapping[int, Sequence[str]]) -> tuple[dict[int, str], int]:
    """Return the lyrics by tick, and how many of other verses are left out.

    Several events of one tick are one text (a word and its line end), unless most ticks have
    several words: then each is of another verse, and the first is kept.
    """
    words = {tick: [text for text in texts if _is_text(text)] for tick, texts in lyrics.items()}
    doubled = sum(len(texts) > 1 for texts in words.values())
    if doubled < 2 or 2 * doubled < sum(bool(texts) for texts in words.values()):
        return {tick: "".join(texts) for tick, texts in lyrics.items()}, 0
    others = {tick: texts[1:] for tick, texts in words.items()}
    kept = {
        tick: "".join(text for text in texts if text not in others[tick])
        for tick, texts in lyrics.items()
    }
    return kept, sum(map(len, others.values()))


def _one_line(channels: Sequence[Track]) -> Track | None:
    """Return channels in which never two notes sound at once as one track (MPE), else None."""
    line = Track("")
    line.notes = sorted(note for channel in channels for note in channel.notes)
    if any(after[0] < before[1] for before, after in pairwise(line.notes)):
        return None
    for channel in channels:
        line.velocities |= channel.velocities
        line.bends += channel.bends
        line.zero_length += channel.zero_length
        line.unended += channel.unended
    line.controls = sorted(control for channel in channels for control in channel.controls)
    return line


# -- choosing -----------------------------------------------------------------------------------


def is_word_track(track: Track) -> bool:
    """Return whether the text events of a track are lyrics by their marks or its name."""
    marked = sum(text.startswith(LINE_MARKS) for text in track.texts.values())
    return bool(track.texts) and (marked > 0 or bool(WORD_TRACK.search(track.name.lower())))


def choose_track(
    path: Path, tracks: Sequence[Track], wanted: str | None, tempo: TempoMap
) -> tuple[Track, str]:
    """Return the track to sing, and why this one when several could be ("" when none other could).

    `wanted` is a name, a part of one, or a number from 1. Raises ValueError naming the candidates.
    """
    voices = [track for track in tracks if track.notes]
    if not voices:
        if any(track.zero_length for track in tracks):
            raise ValueError(f"{path}: every note has no length; expected notes that last")
        raise ValueError(f"{path}: no notes (drums aside); expected a melody")
    if wanted is not None:
        return voices[named(wanted, [voice.name for voice in voices], str(path))], ""
    with_lyrics = [voice for voice in voices if voice.lyrics]
    with_texts = [voice for voice in voices if is_word_track(voice)]
    for candidates in (with_lyrics, [] if with_lyrics else with_texts, voices):
        if len(candidates) == 1:
            return candidates[0], ""
    called = [voice for voice in with_lyrics or voices if is_voice_name(voice.name)]
    if len(called) == 1:
        return called[0], "by its name"
    words = _apart(tracks)
    if words and not with_lyrics and (best := _matching(voices, words, tempo)):
        return best, "its notes begin with the words"
    names = listed_parts([voice.name for voice in voices])
    some = "have lyrics" if len(with_lyrics) > 1 else "have notes"
    raise ValueError(
        f"{path}: {len(with_lyrics) or len(voices)} tracks {some} and none can be told to be the "
        f"voice: {names}. Choose one with --part NAME or --part NUMBER"
    )


def _apart(tracks: Sequence[Track]) -> list[int]:
    """Return the ticks of the words that stand in tracks without notes."""
    found = [track.lyrics for track in tracks if track.lyrics and not track.notes]
    found = found or [t.texts for t in tracks if is_word_track(t) and not t.notes]
    return sorted({tick for texts in found for tick, text in texts.items() if _is_text(text)})


def _is_text(text: str) -> bool:
    return any(character.isalnum() for character in text)


def near_share(ticks: Sequence[int], onsets: Sequence[int], tempo: TempoMap) -> float:
    """Return the share of `ticks` with an onset within MATCH_SECONDS; 0 of none."""
    times = sorted({tempo.seconds_at(onset) for onset in onsets})
    count = 0
    for tick in ticks:
        time = tempo.seconds_at(tick)
        place = bisect_left(times, time)
        count += any(abs(time - near) <= MATCH_SECONDS for near in times[max(0, place - 1) :][:2])
    return count / len(ticks) if ticks else 0.0


def _matching(voices: Sequence[Track], words: Sequence[int], tempo: TempoMap) -> Track | None:
    """Return the track whose onsets are those of the words; None when none is clearly so."""
    scores = []
    for voice in voices:
        onsets = sorted({onset for onset, _, _ in voice.notes})
        recall, precision = near_share(words, onsets, tempo), near_share(onsets, words, tempo)
        scores.append(2 * recall * precision / max(recall + precision, 1e-9))
    first, second = sorted(scores, reverse=True)[:2]
    if first < CLEAR_MATCH or first - second < CLEAR_LEAD:
        return None
    return voices[scores.index(first)]


def words_for(
    tracks: Sequence[Track], chosen: Track, tempo: TempoMap
) -> tuple[dict[int, str], bool]:
    """Return the words of the chosen track by tick, and whether they are other text events.

    Its own lyric events, else those of a track without notes; else text events: of a track that
    karaoke marks or its name call the words, else those that stand at the notes.
    """
    onsets = [onset for onset, _, _ in chosen.notes]
    silent = [track for track in tracks if not track.notes]
    named_texts = [t for t in [chosen, *silent] if is_word_track(t)]
    for candidates in (
        [chosen.lyrics],
        [track.lyrics for track in silent],
        [track.texts for track in named_texts],
    ):
        candidates = [texts for texts in candidates if texts]
        if candidates:
            best = max(candidates, key=lambda texts: near_share(list(texts), onsets, tempo))
            return best, False
    for track in [chosen, *silent]:
        ticks = [tick for tick, text in track.texts.items() if _is_text(text)]
        labels = sum(is_chord(track.texts[tick]) or is_part(track.texts[tick]) for tick in ticks)
        if 2 * labels > len(ticks):
            continue  # chords above the bars, names of sections
        if len(ticks) >= FEWEST_TEXTS and near_share(ticks, onsets, tempo) >= CLEAR_MATCH:
            return {tick: track.texts[tick] for tick in ticks}, True
    return {}, False


LARGEST_MIDI = 16 * 2**20  # bytes; an orchestral score has less than one


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
    if others := sum(track.other_verses for track in tracks):
        text = f"{others} lyrics of other verses, at the note of another lyric"
        remarks.append(remark("not sung", text))
    if chosen.bends:
        remarks.append(remark("not sung", f"{chosen.bends} pitch bends; notes and glides are"))
    styles = chosen.styles()
    notes = [
        Note(pitch, tempo.seconds_at(onset), tempo.seconds_at(offset), styles[onset, pitch])
        for onset, offset, pitch in chosen.notes
        if pitch
    ]
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


# ---------------------------------------------------------------------------- words
# Conventions. A hyphen at an end or a beginning joins syllables; where words are parted by blanks
# (karaoke files), a syllable without one continues. A line ends at a carriage return or line feed
# (RP-017); `\` and `/` begin one (.kar). Singing editors write `-` on a note that holds the
# syllable before, and `+` on one that takes the next syllable of its word. `[Chorus]` is no word,
# nor are `{@LATIN}` and `{#Title=...}` (RP-026).

MATCH_SECONDS = 0.06  # a text this near to a note's onset belongs to it
LARGEST_SHIFT = 0.4  # s by which all texts may lie beside their notes
HOLD_SIGN = re.compile(r"[-‐‑–—_~ー]+|\+[~*]+")
TAG = re.compile(r"\{[@#][^{}]*\}")
SECTION = re.compile(r"\[[^\[\]]*\]")
VERSE_NUMBER = re.compile(r"^\d+\s*[.)]\s*(?=\D)")
SPACED_SHARE = 0.2  # of texts with a blank, from which blanks part the words


@dataclass(frozen=True)
class _Syllable:
    """A text event: its letters, and what stood around them."""

    seconds: float
    text: str  # "" holds the syllable before
    space_before: bool = False
    space_after: bool = False
    joins_before: bool = False  # a hyphen, or `+`
    joins_after: bool = False
    starts_line: bool = False
    ends_line: bool = False


def attach(
    notes: Sequence[Note], texts: Mapping[int, str], tempo: TempoMap
) -> tuple[tuple[Lyric | None, ...], list[str]]:
    """Return the lyric of each note, and remarks on the texts that are on none.

    A text takes the nearest note within MATCH_SECONDS that no earlier one has taken; where that
    leaves most without one, all of them are moved by what brings nearly all to a note.
    """
    syllables, remarks = _syllables(texts, tempo)
    spaced = _is_spaced([s for s in syllables if s.text])
    onsets, times = [note.onset for note in notes], [s.seconds for s in syllables]
    places = _places(onsets, times)
    if 2 * places.count(None) > len(places) and (moved := _moved(onsets, times)):
        shift, places = moved
        text = f"all lyrics by {shift:+.2f} s, to the notes beside which they stand"
        remarks.append(remark("changed", text))
    lost = [s for s, place in zip(syllables, places, strict=True) if place is None and s.text]
    if lost:
        names = listed([f"{s.text!r} at {s.seconds:.2f} s" for s in lost])
        some = "lyric stands" if len(lost) == 1 else "lyrics stand"
        remarks.append(remark("not sung", f"{len(lost)} {some} at no note: {names}"))
    sung = [
        (place, syllable)
        for place, syllable in zip(places, syllables, strict=True)
        if place is not None and syllable.text
    ]
    lyrics: list[Lyric | None] = [None] * len(notes)
    for number, (place, syllable) in enumerate(sung):
        after = sung[number + 1][1] if number + 1 < len(sung) else None
        text = "" if syllable.text == NEXT_SYLLABLE else syllable.text
        ends_line = syllable.ends_line or (after is not None and after.starts_line)
        lyrics[place] = Lyric(
            text, after is not None and _joined(syllable, after, spaced), ends_line
        )
    return tuple(lyrics), remarks


def _syllables(texts: Mapping[int, str], tempo: TempoMap) -> tuple[list[_Syllable], list[str]]:
    """Return the syllables in time, and remarks on signs that are none."""
    syllables: list[_Syllable] = []
    signs: list[str] = []
    pending_line = False  # a line mark without a word of its own
    for tick in sorted(texts):
        raw = TAG.sub("", texts[tick].replace("\r\n", "\r").replace("\n", "\r"))
        signs += SECTION.findall(raw)
        raw = SECTION.sub("", raw)
        starts_line = raw.startswith(("\r", "/", "\\")) or pending_line
        body = raw.lstrip("\r/\\")
        text = VERSE_NUMBER.sub("", body.strip().rstrip("\r/\\").strip())
        pending_line = False
        if HOLD_SIGN.fullmatch(text):
            syllables.append(_Syllable(tempo.seconds_at(tick), ""))
            continue
        if text != NEXT_SYLLABLE and not any(c.isalnum() or c in "'’" for c in text):
            pending_line = starts_line or "\r" in body
            signs += [text] if any(not c.isascii() for c in text) else []
            continue
        joins_before = text == NEXT_SYLLABLE or text[0] in HYPHENS
        joins_after = text[-1] in HYPHENS
        syllables.append(
            _Syllable(
                tempo.seconds_at(tick),
                text.strip(HYPHENS + "_~").replace("_", " "),
                body[:1].isspace(),
                body[-1:].isspace() or body[-1:] in "/\\",
                joins_before,
                joins_after,
                starts_line,
                "\r" in body or body[-1:] in ("/", "\\"),
            )
        )
    names = listed(list(dict.fromkeys(signs)))
    return syllables, [remark("not sung", f"{names} among the words")] if signs else []


def _is_spaced(syllables: Sequence[_Syllable]) -> bool:
    """Return whether blanks part the words."""
    count = sum(s.space_before or (s.space_after and not s.ends_line) for s in syllables)
    return count > SPACED_SHARE * len(syllables)


def _joined(syllable: _Syllable, after: _Syllable, spaced: bool) -> bool:
    """Return whether a syllable and the one behind it are of one word."""
    if syllable.joins_after or after.joins_before:
        return True
    parted = syllable.space_after or after.space_before or syllable.ends_line or after.starts_line
    return spaced and not parted


def _moved(
    onsets: Sequence[float], times: Sequence[float]
) -> tuple[float, list[int | None]] | None:
    """Return the smallest shift in s that brings most texts to notes, and their notes; or None."""
    shifts = sorted((on - time for time in times[:8] for on in onsets), key=abs)
    for shift in shifts:
        if abs(shift) > LARGEST_SHIFT:
            break
        places = _places(onsets, [time + shift for time in times])
        if places.count(None) <= 0.1 * len(places):
            return shift, places
    return None


def _places(onsets: Sequence[float], times: Sequence[float]) -> list[int | None]:
    """Return the note of each text: the nearest free one within reach, in order of time."""
    places: list[int | None] = []
    free = 0  # first note behind those that are taken
    for time in times:
        low = max(free, bisect_left(onsets, time - MATCH_SECONDS))
        reach = range(low, bisect_right(onsets, time + MATCH_SECONDS))
        place = min(reach, key=lambda index: abs(onsets[index] - time), default=None)
        places.append(place)
        if place is not None:
            free = place + 1
    return places
