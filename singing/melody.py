"""Make the melody that is sung: read it from a file, or compose it for the accompaniment.

Without torch, which a plan need not wait for. Shapes: C channels, S samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from composer.compose import NARROWEST, compose
from composer.harmony import Harmony, analyse, chord_name
from music.score import TOLERANCE, Lyric, Melody, Note, Syllable, Underlay
from singing.request import COMPOSE, NONE, TEMPO_OF_ACCOMPANIMENT, MelodyRequest, Range, SongRequest
from text.remarks import remark
from utils import scratch
from utils.files import reading
from utils.sound_files import AudioInfo, check_finite, level_of, peak_of, read_samples, resampled

if TYPE_CHECKING:
    from composer.harmony import Chart
    from hyperparams import Composer
    from music.score import Score
    from text.frontend import Pronouncer
    from text.lyrics import LyricLine


Compose = Callable[..., Underlay]  # see composer.compose.compose
READERS = {".mid": "MIDI", ".midi": "MIDI", ".kar": "MIDI", ".rmi": "MIDI", ".song": "song"}
READERS |= {".musicxml": "MusicXML", ".xml": "MusicXML", ".mxl": "MusicXML"}


@dataclass(frozen=True)
class MelodyResult:
    """A melody with its words, the harmony it was composed on (None for a file), and remarks."""

    request: MelodyRequest
    underlay: Underlay
    line_numbers: tuple[int, ...]  # of the lyrics file, by line of the score
    harmony: Harmony | None
    remarks: tuple[str, ...]

    def report(self) -> dict[str, Any]:
        """Describe the melody for report.json."""
        score = self.underlay.score
        return {
            "source": self.request.source,
            "transpose": self.request.transpose,
            "notes": len(score.notes),
            "syllables": len(score.syllables),
            "lowest": min(note.pitch for note in score.notes),
            "highest": max(note.pitch for note in score.notes),
            "harmony": harmony_report(self.harmony) if self.harmony else None,
            "remarks": list(self.remarks),
        }


class MelodyVoice(Protocol):
    """What a melody must know of the voice that sings it."""

    @property
    def path(self) -> Path:
        """The checkpoint of its transformer."""

    @property
    def pitch_range(self) -> tuple[int, int] | None:
        """Lowest and highest note (MIDI) of its training; None when it only speaks."""

    @property
    def own_range(self) -> tuple[int, int] | None:
        """The same of the one singer; None where the checkpoint does not tell singers apart."""

    @property
    def composer(self) -> Composer:
        """The knobs of a melody composed for it."""


def resolve_melody(request: SongRequest, voice: MelodyVoice) -> MelodyRequest:
    """Settle which melody a voice sings for a request: `source` becomes a file, COMPOSE or NONE.

    Raises ValueError when this voice or this request cannot have it.
    """
    melody, has_vocal = request.melody, bool(request.files and request.files.vocal)
    if melody.source is None:
        can_compose = voice.pitch_range and request.files and not has_vocal
        melody = replace(melody, source=COMPOSE if can_compose else NONE)
    if melody.source == NONE:
        melody.check_spoken()
    elif voice.pitch_range is None:
        raise ValueError(
            f"{voice.path} was trained on speech and knows no notes: take --melody "
            f"{NONE}, or train it on songs too: python train_transformer.py --data songbook,NAME"
        )
    if melody.source == COMPOSE and has_vocal:
        raise ValueError(
            f"--melody {COMPOSE} composes a whole song; for parts of a --vocal give a melody file"
        )
    return melody


def make_melody(
    request: SongRequest,
    voice: MelodyVoice,
    pronouncer: Pronouncer,
    backing: BackingAudio | None,
    with_harmony: bool = False,
) -> MelodyResult:
    """Return the melody of a request with its words, and remarks on notes strange to the voice.

    with_harmony: say the chords of the backing audio also where no melody is composed on them.
    Raises ValueError saying what does not fit, FileNotFoundError without the file.
    """
    melody = resolve_melody(request, voice)
    if melody.source == COMPOSE:
        composer = replace(moved_into(voice.composer, voice.own_range), **composer_changes(melody))
        make = compose_fitting if request.is_vocalise else compose
        result = _composed(
            melody, request.lyrics, backing, pronouncer, composer, request.seed, make
        )
    else:
        syllable = request.lyrics[0].text if request.is_vocalise and request.lyrics else None
        lyrics = None if syllable else request.lyrics
        result = _read(melody, lyrics, backing, pronouncer, syllable)
        if backing is not None and (with_harmony or melody.chords):
            harmony = backing.harmony(None, melody.chords)
            result = replace(result, harmony=harmony, remarks=(*result.remarks, *harmony.notes))
    strange = range_remark(result.underlay.score, voice.pitch_range)
    return replace(result, remarks=(*result.remarks, *((strange,) if strange else ())))


# ---------------------------------------------------------------------------- from a file


def _read(
    request: MelodyRequest,
    lyrics: Sequence[LyricLine] | None,
    backing: BackingAudio | None,
    pronouncer: Pronouncer,
    syllable: str | None = None,
) -> MelodyResult:
    """Read a melody and lay words on it: `lyrics`, or those of the file where none are given.

    syllable: what every note is sung on where there are no words.
    """
    from music.underlay import lay_lyrics, sing  # late: a composed melody has its words

    melody = read_melody(Path(str(request.source)), request.part, request.verse)
    if syllable is not None:
        melody = replace(melody, lyrics=(Lyric(syllable),) * len(melody.notes))
    if request.transpose:
        melody = melody.transposed(request.transpose)
    remarks: list[str] = []
    if request.tempo is not None:
        melody = melody.faster(tempo_of(request.tempo, backing) / melody.tempo.bpm_at(0.0))
    if backing is not None:
        melody, late = fitted(melody, backing.seconds)
        remarks += late
    if lyrics:
        if melody.has_lyrics:
            text = f"the words of {request.source} are replaced by those of --lyrics"
            remarks.append(remark("not sung", text))
        if backing is not None and backing.regions is not None:
            melody = _in_regions(melody, backing.regions)
        underlay = lay_lyrics(lyrics, melody, pronouncer)
    elif melody.has_lyrics:
        try:
            underlay = sing(melody, pronouncer)
        except ValueError as error:
            raise ValueError(f"{request.source}: {error}") from error
        if backing is not None and backing.regions is not None:
            underlay = _sung_in_regions(underlay, backing.regions)
    else:
        why = f" ({'; '.join(melody.remarks)})" if melody.remarks else ""
        raise ValueError(f"{request.source} carries no words{why}: give them with --lyrics")
    numbers = tuple(line.line_number for line in lyrics or ())
    return MelodyResult(request, underlay, numbers, None, (*remarks, *underlay.remarks))


def sings_words(request: SongRequest) -> bool:
    """Return whether there are words to sing: given, or in the melody's file; errors as reading."""
    if request.lyrics or not request.melody.is_file:
        return bool(request.lyrics)
    melody = request.melody
    return read_melody(Path(str(melody.source)), melody.part, melody.verse).has_lyrics


def read_melody(path: Path, part: str | None = None, verse: int | None = None) -> Melody:
    """Read the voice of a MIDI file, of MusicXML or of our notation; errors name the file."""
    kind = READERS.get(path.suffix.lower())
    if kind is None:
        raise ValueError(
            f"--melody {path}: expected {COMPOSE}, {NONE}, or a file {', '.join(READERS)}; other "
            "programs' songs can be exported as one of these"
        )
    if not path.is_file():
        raise FileNotFoundError(f"--melody {path}: no such file")
    if kind == "MIDI" and verse is not None:
        raise ValueError(f"--verse {verse}: {path} is MIDI, which has one line of words")
    if kind == "song" and part is not None:
        raise ValueError(f"--part {part}: {path} has one voice")
    with reading(path):
        if kind == "MIDI":
            from music.midi_tracks import read_midi  # late: a song composed needs no reader

            return read_midi(path, part)
        if kind == "song":
            from music.notation import read_notation

            return read_notation(path, verse).melody
        from music.musicxml import read_musicxml

        return read_musicxml(path, part, verse).melody


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
    text = f"{behind} notes behind the end of the accompaniment are left out"
    return kept, [remark("not sung", text)] if behind else []


def _in_regions(melody: Melody, regions: Sequence[tuple[float, float]]) -> Melody:
    """Keep the notes that begin within the regions, none longer than its region."""
    parts = []
    for start, end in regions:
        try:
            parts.append(melody.within(start, end))
        except ValueError:
            continue  # nothing is sung in this one
    if not parts:
        raise ValueError(_nothing_within(regions))
    return replace(
        melody,
        notes=tuple(note for part in parts for note in part.notes),
        lyrics=tuple(lyric for part in parts for lyric in part.lyrics),
    )


def _sung_in_regions(underlay: Underlay, regions: Sequence[tuple[float, float]]) -> Underlay:
    """Keep what is sung on the notes that begin within the regions, none longer than its region.

    Words are pronounced before they are cut: "win" of "window" stays what it was.
    """
    score = underlay.score
    notes: list[tuple[Note, ...]] = []
    for syllable in score.syllables:
        places = [
            replace(note, offset=min(note.offset, end))
            for note in syllable.notes
            for start, end in regions
            if start <= note.onset < end - TOLERANCE
        ]
        notes.append(tuple(places))
    kept: list[Syllable] = []
    words: dict[int, str] = {}
    for index, (syllable, own) in enumerate(zip(score.syllables, notes, strict=True)):
        words[syllable.word] = words.get(syllable.word, "") + syllable.text
        if own:
            starts = syllable.starts_word or not notes[index - 1]
            ends = syllable.ends_word or not notes[index + 1]
            kept.append(replace(syllable, notes=own, starts_word=starts, ends_word=ends))
    if not kept:
        raise ValueError(_nothing_within(regions))
    sung = {words[syllable.word] for syllable in kept}
    guessed = tuple(word for word in underlay.guessed if word in sung)
    return replace(underlay, score=replace(score, syllables=tuple(kept)), guessed=guessed)


def _nothing_within(regions: Sequence[tuple[float, float]]) -> str:
    spans = ", ".join(f"{start:g}-{end:g} s" for start, end in regions)
    return f"no note of the melody begins within {spans}: nothing to sing there"


# ---------------------------------------------------------------------------- composed


def composer_changes(request: MelodyRequest) -> dict[str, Any]:
    """Return the knobs of the composer that a request sets."""
    changes: dict[str, Any] = {}
    if request.pitch_range is not None:
        changes |= {"low": request.pitch_range[0], "high": request.pitch_range[1]}
    if request.density is not None:
        changes["density"] = request.density
    return changes


def _composed(
    request: MelodyRequest,
    lyrics: Sequence[LyricLine] | None,
    backing: BackingAudio | None,
    pronouncer: Pronouncer,
    composer: Composer,
    seed: int,
    make: Compose = compose,
) -> MelodyResult:
    """Compose a melody for lyrics on the harmony of their accompaniment."""
    if backing is None or not lyrics:
        raise ValueError(
            f"--melody {COMPOSE} needs --lyrics to be sung and an --accompaniment to fit"
        )
    bpm = None
    if request.tempo is not None and request.tempo != TEMPO_OF_ACCOMPANIMENT:
        bpm = _bpm(request.tempo)
    harmony = backing.harmony(bpm, request.chords)
    underlay = make(lyrics, harmony, pronouncer, composer, seed)
    if request.transpose:
        underlay = replace(underlay, score=underlay.score.transposed(request.transpose))
    sung = underlay.score.syllables[-1].line + 1  # the lyrics may come several times
    numbers = tuple(lyrics[i % len(lyrics)].line_number for i in range(sung))
    remarks = (*underlay.remarks, *heard_remark(harmony, bpm is None))
    return MelodyResult(request, underlay, numbers, harmony, remarks)


def heard_remark(harmony: Harmony, with_tempo: bool) -> list[str]:
    """Return a remark on the tempo, metre and key that a melody is composed in, as heard."""
    tempo = f"{harmony.tempo:.0f} beats per minute, " if with_tempo else ""
    text = f"{tempo}{harmony.metre} beats in a bar, {harmony.key}; --tempo, --chords correct it"
    return [remark("guessed", text)]


def compose_fitting(
    lines: Sequence[LyricLine],
    harmony: Harmony,
    pronouncer: Pronouncer,
    composer: Composer,
    seed: int,
) -> Underlay:
    """Compose for the first of `lines`, as many as fit the song; ValueError where none does."""
    for count in range(len(lines), 1, -1):
        try:
            return compose(lines[:count], harmony, pronouncer, composer, seed)
        except ValueError:
            continue  # a song of fewer bars has room for fewer lines
    return compose(lines[:1], harmony, pronouncer, composer, seed)


def tempo_of(wanted: str, backing: BackingAudio | None) -> float:
    """Return the beats per minute that are asked for; ValueError for no tempo, or none to take."""
    if wanted != TEMPO_OF_ACCOMPANIMENT:
        return _bpm(wanted)
    if backing is None:
        raise ValueError(f"--tempo {TEMPO_OF_ACCOMPANIMENT} is that of an --accompaniment")
    return backing.harmony().tempo


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


def chord_changes(harmony: Harmony) -> list[tuple[float, str]]:
    """Return the start in s and the name of every chord that differs from the one before."""
    changes: list[tuple[float, str]] = []
    for time, chord in zip(harmony.beats.tolist(), harmony.chords.tolist(), strict=False):
        if not changes or changes[-1][1] != chord_name(chord):
            changes.append((round(time, 3), chord_name(chord)))
    return changes


def harmony_report(harmony: Harmony) -> dict[str, object]:
    """Describe the harmony of an accompaniment for report.json."""
    return {
        "key": str(harmony.key),
        "tempo": harmony.tempo,
        "metre": harmony.metre,
        "chords": chord_changes(harmony),
    }


def moved_into(composer: Composer, own: Range | None) -> Composer:
    """Return the composer's knobs with their range moved, and narrowed, into that of a voice.

    As little as can be; a voice that has sung fewer than NARROWEST semitones is trusted with these.
    """
    if own is None:
        return composer
    low, high = own
    while high - low < NARROWEST:
        low, high = max(1, low - 1), min(127, high + 1)
    width = min(composer.high - composer.low, high - low)
    start = min(max(composer.low, low), high - width)
    return replace(composer, low=start, high=start + width)


def range_remark(score: Score, known: Range | None) -> str | None:
    """Return a remark on notes outside those that a voice was trained on; None without any."""
    if known is None or not (outside := score.outside(*known)):
        return None
    return (
        f"{len(outside)} of {len(score.notes)} notes are outside the voice's range, MIDI "
        f"{known[0]} to {known[1]}: they are sung as written; --transpose N moves all"
    )


# ---------------------------------------------------------------------------- accompaniment

LONGEST_SONG = 3600.0  # s of an accompaniment
SILENCE_LEVEL = -60.0  # dBFS RMS of a whole recording, below which it counts as silent


@dataclass(frozen=True)
class BackingAudio:
    """The accompaniment that a melody is fitted to."""

    wav: np.ndarray  # (S,) mono
    sample_rate: int
    seconds: float  # of its file: no note begins behind it
    regions: tuple[tuple[float, float], ...] | None = None  # s, the parts sung; None = all
    path: Path | None = None  # of its file, for errors
    _known: dict[Any, Harmony] = field(default_factory=dict, repr=False, compare=False)

    def harmony(self, tempo: float | None = None, chords: Chart | None = None) -> Harmony:
        """Analyse it; `tempo` in beats per minute and `chords` where they are known."""
        asked = (tempo, chords)
        if asked not in self._known:
            with reading(self.path) if self.path else nullcontext():
                self._known[asked] = analyse(self.wav, self.sample_rate, tempo, chart=chords)
        return self._known[asked]


def read_accompaniment(path: Path, sample_rate: int) -> tuple[np.ndarray, AudioInfo]:
    """Read mono (S,) at `sample_rate`, and what the file was; ValueError for NaN and silence."""
    samples, file_rate = read_samples(path)
    check_finite(samples, path)
    seconds = samples.shape[1] / file_rate
    if seconds > LONGEST_SONG:
        raise ValueError(f"{path}: {seconds:.0f} s; expected at most {LONGEST_SONG:.0f} s of song")
    info = AudioInfo.of(samples.shape, file_rate, sample_rate)
    mono = scratch.zeros_array(samples.shape[1:], samples.dtype)
    for start, stop in scratch.blocks(len(mono)):
        mono[start:stop] = samples[:, start:stop].mean(axis=0)
    with reading(path):
        wav = resampled(mono, file_rate, sample_rate)
    mean = float(np.mean(wav, dtype=np.float64))  # a constant is not heard
    level = level_of(wav, mean)
    if level < SILENCE_LEVEL:
        raise ValueError(
            f"{path} is silent in mono ({level:.0f} dBFS RMS, expected at least "
            f"{SILENCE_LEVEL:.0f}): there is nothing to sing to. To speak lyrics alone, leave "
            "--accompaniment out; where its channels cancel each other, give one of them"
        )
    return wav, info


def backing_gain(wav: np.ndarray, data: Mapping[str, Any], sigma_data: float) -> float:
    """Return the factor that brings an accompaniment (S,) to the RMS of an inpainter's corpus.

    data: of its checkpoint. A peak stays within full scale.
    """
    rms = data.get("statistics", {}).get("accompaniment", sigma_data)
    return min(rms / 10 ** (level_of(wav) / 20), 1.0 / peak_of(wav))
