"""The melody that is sung: read from a file, or composed for the accompaniment.

`topline` settles what `--melody`, `--transpose`, `--tempo`, `--range` and `--density` ask for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import librosa
from torch import Tensor

from music.compose import compose
from music.harmony import Harmony, analyse, chord_name
from music.melody import Melody
from music.midi import read_midi
from music.musicxml import read_musicxml
from music.notation import read_notation
from music.underlay import Underlay, lay_lyrics, sing

if TYPE_CHECKING:
    from hyperparams import Composer
    from text.frontend import Pronouncer
    from text.lyrics import LyricLine

COMPOSE, NONE = "compose", "none"
READERS = {".mid": "MIDI", ".midi": "MIDI", ".musicxml": "MusicXML", ".xml": "MusicXML"}
READERS |= {".mxl": "MusicXML", ".song": "song"}
TEMPO_OF_ACCOMPANIMENT = "auto"


@dataclass(frozen=True)
class Wish:
    """What the user asks of the melody."""

    melody: str  # a file, `compose` or `none`
    transpose: int = 0  # semitones
    tempo: str | None = None  # beats per minute, `auto` = the accompaniment's, None = as it is


@dataclass(frozen=True)
class Topline:
    """A laid melody, the harmony it was composed on (None for a file), and remarks."""

    underlay: Underlay
    line_numbers: tuple[int, ...]  # of the lyrics file, by line of the score
    harmony: Harmony | None
    remarks: tuple[str, ...]


def topline(
    wish: Wish,
    lyrics: Sequence[LyricLine] | None,
    accompaniment: tuple[Tensor, int] | None,
    pronouncer: Pronouncer,
    composer: Composer,
    seed: int,
    seconds: float | None = None,
    regions: Sequence[tuple[float, float]] | None = None,
) -> Topline:
    """Return the melody with its words.

    accompaniment: mono (S,) and its rate; seconds: of the song, which no note outlasts; regions:
    the parts (s) that are sung, None = all. A file's own words are sung unless `lyrics` are given.
    Raises ValueError saying what does not fit, FileNotFoundError without the file.
    """
    if wish.melody == COMPOSE:
        return _composed(wish, lyrics, accompaniment, pronouncer, composer, seed)
    melody = read_melody(Path(wish.melody))
    if wish.transpose:
        melody = melody.transposed(wish.transpose)
    remarks: list[str] = []
    if wish.tempo is not None:
        melody = melody.faster(_tempo(wish.tempo, accompaniment) / melody.tempo.bpm_at(0.0))
    if seconds is not None:
        melody, late = fitted(melody, seconds)
        remarks += late
    if regions is not None:
        melody = _in_regions(melody, regions)
    if lyrics:
        if melody.has_lyrics:
            remarks.append(f"the words of {wish.melody} are replaced by those of --lyrics")
        underlay = lay_lyrics(lyrics, melody, pronouncer)
    elif melody.has_lyrics:
        underlay = sing(melody, pronouncer)
    else:
        raise ValueError(f"{wish.melody} carries no words: give them with --lyrics")
    numbers = tuple(line.line_number for line in lyrics or ())
    return Topline(underlay, numbers, None, (*remarks, *underlay.remarks))


def read_melody(path: Path) -> Melody:
    """Read the voice of a MIDI file, of MusicXML or of our notation; errors name the file."""
    kind = READERS.get(path.suffix.lower())
    if kind is None:
        raise ValueError(
            f"--melody {path}: expected {COMPOSE}, {NONE}, or a file {', '.join(READERS)}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"--melody {path}: no such file")
    if kind == "MIDI":
        return read_midi(path)
    return (read_notation(path) if kind == "song" else read_musicxml(path)).melody


def fitted(melody: Melody, seconds: float) -> tuple[Melody, list[str]]:
    """Cut a melody at the end of a song, saying so; ValueError when most of it lies behind."""
    behind = sum(note.onset >= seconds for note in melody.notes)
    end = melody.notes[-1].offset
    if end <= seconds:
        return melody, []
    if behind > len(melody.notes) // 2:
        raise ValueError(
            f"the melody lasts {end:.1f} s, the accompaniment {seconds:.1f} s: {behind} of "
            f"{len(melody.notes)} notes begin behind its end. Give the tempo of the song with "
            "--tempo, or a longer accompaniment"
        )
    kept = melody.within(0.0, seconds)
    return kept, [f"{behind} notes behind the end of the accompaniment are left out"]


def _in_regions(melody: Melody, regions: Sequence[tuple[float, float]]) -> Melody:
    """The notes that begin within the regions, none longer than its region."""
    parts = []
    for start, end in regions:
        try:
            parts.append(melody.within(start, end))
        except ValueError:
            continue  # nothing is sung in this one
    if not parts:
        spans = ", ".join(f"{start:g}-{end:g} s" for start, end in regions)
        raise ValueError(f"no note of the melody begins within {spans}: nothing to sing there")
    return replace(
        melody,
        notes=tuple(note for part in parts for note in part.notes),
        lyrics=tuple(lyric for part in parts for lyric in part.lyrics),
    )


def _composed(
    wish: Wish,
    lyrics: Sequence[LyricLine] | None,
    accompaniment: tuple[Tensor, int] | None,
    pronouncer: Pronouncer,
    composer: Composer,
    seed: int,
) -> Topline:
    if accompaniment is None or not lyrics:
        raise ValueError(
            f"--melody {COMPOSE} needs --lyrics to be sung and an --accompaniment to fit"
        )
    wav, rate = accompaniment
    bpm = None
    if wish.tempo is not None and wish.tempo != TEMPO_OF_ACCOMPANIMENT:
        bpm = _bpm(wish.tempo)
    harmony = analyse(wav.numpy(), rate, bpm)
    underlay = compose(lyrics, harmony, pronouncer, composer, seed)
    if wish.transpose:
        underlay = replace(underlay, score=underlay.score.transposed(wish.transpose))
    sung = underlay.score.syllables[-1].line + 1  # the lyrics may come several times
    numbers = tuple(lyrics[i % len(lyrics)].line_number for i in range(sung))
    return Topline(underlay, numbers, harmony, underlay.remarks)


def _tempo(wanted: str, accompaniment: tuple[Tensor, int] | None) -> float:
    if wanted != TEMPO_OF_ACCOMPANIMENT:
        return _bpm(wanted)
    if accompaniment is None:
        raise ValueError(f"--tempo {TEMPO_OF_ACCOMPANIMENT} is that of an --accompaniment")
    return analyse(accompaniment[0].numpy(), accompaniment[1]).tempo


def _bpm(text: str) -> float:
    try:
        bpm = float(text)
    except ValueError:
        bpm = 0.0
    if not 20.0 <= bpm <= 400.0:
        raise ValueError(
            f"--tempo {text}: expected 20 to 400 beats per minute, or {TEMPO_OF_ACCOMPANIMENT}"
        )
    return bpm


def parse_range(text: str) -> tuple[int, int]:
    """`F3-C5` or `53-72` → MIDI numbers; ValueError for anything else."""
    match = re.fullmatch(r"\s*([A-Ga-g][#b]?-?\d|\d+)\s*-\s*([A-Ga-g][#b]?-?\d|\d+)\s*", text)
    if match is None:
        raise ValueError(f"--range {text}: expected two notes such as F3-C5 or 53-72")
    low, high = (
        int(note) if note.isdigit() else int(librosa.note_to_midi(note)) for note in match.groups()
    )
    return low, high


def harmony_report(harmony: Harmony) -> dict[str, object]:
    """What report.json says of an accompaniment's harmony."""
    chords: list[list[object]] = []
    for time, chord in zip(harmony.beats.tolist(), harmony.chords.tolist(), strict=False):
        if not chords or chords[-1][1] != chord_name(chord):
            chords.append([round(time, 3), chord_name(chord)])
    return {
        "key": str(harmony.key),
        "tempo": harmony.tempo,
        "metre": harmony.metre,
        "chords": chords,
    }
