"""Standard MIDI files in and out: notes, lyric events, tempo and metre, lossless to the tick."""

from __future__ import annotations

import io
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import mido

from music.melody import Lyric, Melody, one_voice
from music.score import Note, Score
from music.tempo import Meter, TempoMap
from utils.files import atomic

LARGEST_FILE = 16 * 2**20  # bytes; an orchestral score has less than one
DRUM_CHANNEL = 9
VELOCITY = 90
MELISMA = ("_", "~", "—")  # a lyric that says: the syllable before goes on
NO_SPELLING = "+"  # a further syllable of a word that has no letters left
VOICE_NAMES = ("vocal", "vocals", "voice", "melody", "topline", "lead vocal", "lead", "singer")


@dataclass
class Track:
    """What one track of a file holds, times in ticks."""

    name: str
    notes: list[tuple[int, int, int]] = field(default_factory=list)  # onset, offset, pitch
    lyrics: dict[int, str] = field(default_factory=dict)  # tick: text
    zero_length: int = 0
    unended: int = 0


def read_midi(path: Path | str, track: str | None = None) -> Melody:
    """Return the voice of a MIDI file with its lyrics, tempo and metre.

    `track` is the name or the number of the track. Without it: the one with lyric events, else the
    only one with notes, else the one called voice, vocal, melody or so. Zero-length notes are left
    out, of a chord the highest note stays, overlapping notes are cut; `remarks` count these.
    Raises FileNotFoundError; ValueError for a file that is no MIDI, has no notes, or several
    candidate tracks (they are named).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no MIDI file {path}")
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError(f"{path}: larger than {LARGEST_FILE} bytes; expected one song")
    file = _parse(path)
    tempo, meters, tracks = _collect(file)
    chosen = _choose(path, tracks, track)
    remarks = []
    if chosen.zero_length:
        remarks.append(f"{chosen.zero_length} notes of no length left out")
    if chosen.unended:
        remarks.append(f"{chosen.unended} notes without an end last to the end of the track")
    notes = [Note(p, tempo.seconds_at(a), tempo.seconds_at(b)) for a, b, p in chosen.notes if p]
    voice, changed = one_voice(notes)
    if changed:
        remarks.append(f"{changed} notes of chords left out or overlapping notes shortened")
    if not voice:
        raise ValueError(f"{path}: track {chosen.name!r} has no notes to sing")
    texts = chosen.lyrics or _common_lyrics(tracks)
    lyrics, lost = _attach(voice, texts, tempo)
    if lost:
        remarks.append(f"{lost} lyrics without a note left out")
    return Melody(tuple(voice), lyrics, tempo, meters, path.stem, tuple(remarks))


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
            text = (lyric.text or NO_SPELLING) + "-" * lyric.continues + "\r" * lyric.ends_line
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


def _parse(path: Path) -> mido.MidiFile:
    """Return the parsed file; lyrics in UTF-8 or, failing that, Latin-1."""
    data = path.read_bytes()
    for charset in ("utf-8", "latin1"):
        try:
            file = mido.MidiFile(file=io.BytesIO(data), charset=charset, clip=True)
        except UnicodeDecodeError:
            continue
        except (OSError, EOFError, ValueError, IndexError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}: not a MIDI file ({error or type(error).__name__})"
            ) from error
        if file.type == 2:
            raise ValueError(f"{path}: a MIDI file of type 2 (separate patterns); expected 0 or 1")
        if not 0 < file.ticks_per_beat < 0x8000:
            raise ValueError(f"{path}: time in film frames; expected ticks per beat")
        return file
    raise ValueError(f"{path}: its texts are neither UTF-8 nor Latin-1")


def _collect(file: mido.MidiFile) -> tuple[TempoMap, tuple[Meter, ...], list[Track]]:
    """Return tempo, metre and tracks; a file of one track is parted by channel."""
    tempos, meters = {0: 500_000}, {}
    tracks: list[Track] = []
    for number, messages in enumerate(file.tracks):
        channels: dict[int, Track] = defaultdict(lambda: Track(""))
        sounding: dict[tuple[int, int], list[int]] = defaultdict(list)
        words = Track("")
        name, tick = "", 0
        for message in messages:
            tick += message.time
            if message.type == "set_tempo":
                tempos[tick] = max(1, message.tempo)
            elif message.type == "time_signature":
                meters[tick] = Meter(tick, message.numerator, message.denominator)
            elif message.type == "track_name":
                name = name or message.name.strip()
            elif message.type == "lyrics":
                words.lyrics[tick] = words.lyrics.get(tick, "") + message.text
            elif message.type in ("note_on", "note_off") and message.channel != DRUM_CHANNEL:
                key = (message.channel, message.note)
                if message.type == "note_on" and message.velocity:
                    sounding[key].append(tick)
                elif sounding[key]:
                    _end_note(channels[message.channel], sounding[key].pop(0), tick, message.note)
        for (channel, pitch), starts in sounding.items():
            for start in starts:
                channels[channel].unended += 1
                _end_note(channels[channel], start, tick, pitch)
        parts = [part for part in channels.values() if part.notes or part.zero_length]
        if len(parts) == 1:
            parts[0].lyrics = words.lyrics
        elif words.lyrics:
            tracks.append(words)
        for index, part in enumerate(parts):
            suffix = f" channel {index + 1}" if len(parts) > 1 else ""
            part.name = (name or f"track {number}") + suffix
        tracks += parts
    changes = tuple(sorted(tempos.items()))
    ordered = tuple(meters[tick] for tick in sorted(meters))
    return TempoMap(changes, file.ticks_per_beat), ordered, tracks


def _end_note(track: Track, onset: int, offset: int, pitch: int) -> None:
    """Add a finished note to a track, or count it when it has no length."""
    if offset > onset:
        track.notes.append((onset, offset, pitch))
    else:
        track.zero_length += 1


def _choose(path: Path, tracks: list[Track], wanted: str | None) -> Track:
    """Return the track to sing; ValueError names the candidates."""
    voices = [track for track in tracks if track.notes]
    if not voices:
        if any(track.zero_length for track in tracks):
            raise ValueError(f"{path}: every note has no length; expected notes that last")
        raise ValueError(f"{path}: no notes (drums aside); expected a melody")
    names = ", ".join(f"{number}: {voice.name!r}" for number, voice in enumerate(voices))
    if wanted is not None:
        for number, voice in enumerate(voices):
            if wanted in (voice.name, str(number)):
                return voice
        raise ValueError(f"{path}: no track {wanted!r}; tracks with notes are {names}")
    for candidates in (
        [voice for voice in voices if voice.lyrics],
        voices,
        [voice for voice in voices if voice.name.lower() in VOICE_NAMES],
    ):
        if len(candidates) == 1:
            return candidates[0]
    raise ValueError(
        f"{path}: {len(voices)} tracks have notes and none can be told to be the voice: {names}. "
        "Name the track, or delete the others"
    )


def _common_lyrics(tracks: list[Track]) -> dict[int, str]:
    """Return the lyrics of the only track that has some apart from the notes, else none."""
    found = [track.lyrics for track in tracks if track.lyrics and not track.notes]
    return found[0] if len(found) == 1 else {}


def _attach(
    notes: list[Note], texts: dict[int, str], tempo: TempoMap
) -> tuple[tuple[Lyric | None, ...], int]:
    """Return the lyric of each note, and how many lyrics start with no note."""
    spaced = any(text[:1] == " " or text[-1:] == " " for text in texts.values())
    onsets = {round(tempo.tick_at(note.onset)): index for index, note in enumerate(notes)}
    lyrics: list[Lyric | None] = [None] * len(notes)
    placed: list[int] = []
    lost = 0
    for tick in sorted(texts):
        raw = texts[tick].replace("\n", "\r")
        before, text, ends_line = raw[:1], raw.strip(), "\r" in raw.lstrip("\r")
        index = onsets.get(tick)
        if placed and raw.startswith(("\r", "/", "\\")):  # karaoke files mark the line's first
            last = lyrics[placed[-1]]
            lyrics[placed[-1]] = Lyric(last.text, False, True)
            text = text.lstrip("/\\")
        if not text or text in MELISMA:
            continue
        if index is None:
            lost += 1
            continue
        if spaced and placed and before == " ":
            last = lyrics[placed[-1]]
            lyrics[placed[-1]] = Lyric(last.text, False, last.ends_line)
        continues = text.endswith("-") if not spaced else raw[-1:] not in " \r"
        text = text.removesuffix("-")
        lyrics[index] = Lyric("" if text == NO_SPELLING else text, continues, ends_line)
        placed.append(index)
    if placed:
        last = lyrics[placed[-1]]
        lyrics[placed[-1]] = Lyric(last.text, False, last.ends_line)
    return tuple(lyrics), lost
