"""What is sung in a recording: its score, and when each phoneme sounds.

What no file says is heard: notes by the transcriber, phoneme times by forced alignment to its
probabilities.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from corpora.phoneme_labels import Phone, SungWord, read_labels
from corpora.recordings import Recording
from corpora.songbook import Span, read_song
from corpora.sung_words import join_by_lyrics, lay_words
from music.inputs import TAIL_SECONDS, phrase_inputs
from music.midi_tracks import read_midi
from music.score import Melody, Score, text_syllables
from music.underlay import lay_lyrics, sing
from text.frontend import Pronouncer
from text.lyrics import read_lyrics
from text.symbols import WORD_BOUNDARY
from transcription.forced_alignment import PhonemePath, align_phonemes, pronounced
from transcription.transcribe import Transcribed, transcribe
from utils.audio import resample
from utils.files import reading
from utils.metrics import midi_of

if TYPE_CHECKING:
    from hyperparams import Audio
    from transcription.network import TranscriberNet
    from utils.loading import Loaded

WARP_BASE = 16
WARPS = tuple(count / WARP_BASE for count in range(13, 22))  # factors by which formants are moved
LEAST_IN_TUNE = 0.5  # of the voiced frames, within 50 cents of their notes


@dataclass
class Sung:
    """What is sung in a recording: its score, when each phoneme sounds, and where that is from."""

    score: Score
    times: list[list[Span]]  # by syllable and phoneme
    path: PhonemePath
    sources: dict[str, str]  # of notes, words and times
    guessed: tuple[str, ...] = ()
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Heard:
    """A recording, (S,) at the rate of the corpus, its pitch, and a transcriber that hears it."""

    wav: Tensor
    audio: Audio
    f0: np.ndarray  # (T,) Hz
    transcriber: Loaded[TranscriberNet]

    @property
    def seconds(self) -> float:
        """Length in s."""
        return len(self.wav) / self.audio.sample_rate

    @property
    def frame_seconds(self) -> float:
        """Of the F0 track."""
        return 1.0 / self.audio.frame_rate

    def transcribed(self, warp: float = 1.0) -> Transcribed:
        """Transcribe the recording with its formants (and its pitch) moved by a factor.

        Frame t is then centred on time t · hop_seconds · warp of the recording.
        """
        wav = self.wav
        if warp != 1.0:
            wav = resample(wav, round(warp * WARP_BASE), WARP_BASE)
        return transcribe(self.transcriber, wav, self.audio.sample_rate)

    def best_path(self, place: Callable[[np.ndarray, float], PhonemePath]) -> PhonemePath:
        """Return the surest path over warped recordings: vocal tract length normalisation.

        A grid search by likelihood, as in Lee & Rose 1996, from the recording itself uphill.
        place: (probabilities (T, 39), seconds per frame) → path. A voice whose formants lie a sixth
        lower than those that the transcriber has heard is else hardly recognised.
        """
        found: dict[int, PhonemePath] = {}

        def sure(number: int) -> float:
            if not 0 <= number < len(WARPS):
                return -np.inf
            if number not in found:
                heard = self.transcribed(WARPS[number])
                found[number] = place(heard.phoneme.numpy(), heard.hop_seconds * WARPS[number])
            return float(found[number].pronunciation.mean())

        best = WARPS.index(1.0)
        while (better := max((best - 1, best, best + 1), key=sure)) != best:
            best = better
        return dataclasses.replace(found[best], warp=WARPS[best])


def what_is_sung(recording: Recording, heard: Heard, pronouncer: Pronouncer) -> Sung:
    """Find score and phoneme times of a recording, by what lies beside it and by listening.

    Raises ValueError where the files do not say, or cannot be read.
    """
    if recording.labels is not None:
        return _labelled(recording, recording.labels, heard, pronouncer)
    if recording.notes is not None:
        return _scored(recording, recording.notes, heard, pronouncer)
    assert recording.lyrics is not None  # corpora.recordings finds one of the three
    return _worded(recording.lyrics, heard, pronouncer)


def _labelled(recording: Recording, labels: Path, heard: Heard, pronouncer: Pronouncer) -> Sung:
    """Take phonemes and their times from labels, notes from them, from a score, or by ear."""
    with reading(labels):
        found = read_labels(labels)
    words, notes, source = list(found.words), list(found.notes), labels.name
    if recording.lyrics is not None and not any(word.text for word in words):
        lines = read_lyrics(recording.lyrics)
        counts = [
            ("".join(part.text for part in word), len(word))
            for line in lines
            for word in _by_word(text_syllables(line.text, pronouncer)[0])
        ]
        words = join_by_lyrics(words, counts)
    if not notes and recording.notes is not None:
        melody = _melody(recording.notes)
        notes, source = [(n.onset, n.offset, n.pitch) for n in melody.notes], recording.notes.name
    if not notes:
        notes, source = list(heard.transcribed().notes), "heard"
    score, times = lay_words(words, notes, heard.f0, heard.frame_seconds)
    score, remarks = _in_key(score, heard)
    symbols, spans = _in_a_row(score, times)
    path = heard.best_path(
        lambda probability, seconds: pronounced(probability, seconds, symbols, spans)
    )
    sources = {"notes": source, "words": labels.name, "times": labels.name}
    return Sung(score, times, path, sources, (), [*found.remarks, *remarks])


def _scored(recording: Recording, notes: Path, heard: Heard, pronouncer: Pronouncer) -> Sung:
    """Take notes and words from a score, or words from lyrics; align the phonemes."""
    melody = _melody(notes)
    if melody.has_lyrics:
        underlay, source = sing(melody, pronouncer), notes.name
    elif recording.lyrics is not None:
        underlay = lay_lyrics(read_lyrics(recording.lyrics), melody, pronouncer)
        source = recording.lyrics.name
    else:
        raise ValueError(f"{notes.name} has no words, and there is no {notes.stem}.txt with them")
    score, remarks = _in_key(underlay.score, heard)
    if score.duration > heard.seconds + TAIL_SECONDS:
        raise ValueError(
            f"the notes of {notes.name} end at {score.duration:.2f} s, the recording at "
            f"{heard.seconds:.2f} s: they must be in the times of the recording"
        )
    inputs = phrase_inputs(score, 0.0, max(heard.seconds, score.duration))
    slots = list(zip(inputs.onset, inputs.offset, strict=True))
    path = heard.best_path(
        lambda probability, seconds: align_phonemes(probability, seconds, inputs.symbols, slots)
    )
    times = _by_syllable(score, [span for span in path.times if span is not None])
    sources = {"notes": notes.name, "words": source, "times": "aligned"}
    return Sung(score, times, path, sources, underlay.guessed, [*underlay.remarks, *remarks])


def _worded(lyrics: Path, heard: Heard, pronouncer: Pronouncer) -> Sung:
    """Align lyrics to a recording, and hear its notes."""
    lines = read_lyrics(lyrics)
    words: list[tuple[str, tuple[str, ...]]] = []
    spans: list[Span] = []  # of each word's line
    guessed: list[str] = []
    for index, line in enumerate(lines):
        syllables, guesses = text_syllables(line.text, pronouncer, line_number=line.line_number)
        guessed += guesses
        start = -np.inf if line.start is None else line.start
        after = next((x.start for x in lines[index + 1 :] if x.start is not None), None)
        end = line.end if line.end is not None else after
        span = (start, np.inf if end is None else end)
        for word in _by_word(syllables):
            text = "".join(part.text for part in word)
            words.append((text, tuple(p for part in word for p in part.phonemes)))
            spans.append(span)
    symbols: list[str] = []
    intervals: list[Span] = []
    for (_, phonemes), span in zip(words, spans, strict=True):
        symbols += [*phonemes, WORD_BOUNDARY]
        intervals += [span] * (len(phonemes) + 1)
    path = heard.best_path(
        lambda probability, seconds: align_phonemes(probability, seconds, symbols, intervals)
    )
    placed = iter([span for span in path.times if span is not None])
    sung = [
        SungWord(text, tuple(Phone(symbol, *next(placed)) for symbol in phonemes))
        for text, phonemes in words
    ]
    score, times = lay_words(sung, heard.transcribed().notes, heard.f0, heard.frame_seconds)
    sources = {"notes": "heard", "words": lyrics.name, "times": "aligned"}
    return Sung(score, times, path, sources, tuple(dict.fromkeys(guessed)), list(lines.remarks))


def _melody(path: Path) -> Melody:
    """Read the voice of a score or a MIDI file."""
    if path.suffix.lower() in (".mid", ".midi", ".kar", ".rmi"):
        with reading(path):
            return read_midi(path)
    return read_song(path).melody


def _by_word(syllables: Sequence[Any]) -> Iterator[list[Any]]:
    """Yield the syllables of each word."""
    word: list[Any] = []
    for syllable in syllables:
        word.append(syllable)
        if syllable.ends_word:
            yield word
            word = []


def _by_syllable(score: Score, spans: Sequence[Span]) -> list[list[Span]]:
    """Part the spans of all phonemes by syllable."""
    rest = iter(spans)
    return [[next(rest) for _ in syllable.phonemes] for syllable in score.syllables]


def _in_a_row(score: Score, times: Sequence[Sequence[Span]]) -> tuple[list[str], list[Span | None]]:
    """Return the symbols of a score, words apart, and the times of those that are phonemes."""
    symbols: list[str] = []
    spans: list[Span | None] = []
    for syllable, of_syllable in zip(score.syllables, times, strict=True):
        symbols += syllable.phonemes
        spans += of_syllable
        if syllable.ends_word:
            symbols.append(WORD_BOUNDARY)
            spans.append(None)
    return symbols, spans


def pitch_deviations(heard: Heard, score: Score) -> np.ndarray:
    """Return semitones (T,) of the voice over the note at each frame.

    NaN where there is no note, infinite where a note has no pitch.
    """
    deviations = np.full(len(heard.f0), np.nan)
    midi = midi_of(heard.f0)
    for note in score.notes:
        first, last = (round(time / heard.frame_seconds) for time in (note.onset, note.offset))
        deviations[first:last] = np.nan_to_num(midi[first:last] - note.pitch, nan=np.inf)
    return deviations


def share_in_tune(deviations: np.ndarray) -> float:
    """Return the share of the voiced frames within 50 cents of their notes; 0 without any."""
    voiced = deviations[np.isfinite(deviations)]
    return round(float(np.mean(np.abs(voiced) <= 0.5)), 3) if len(voiced) else 0.0


def _in_key(score: Score, heard: Heard) -> tuple[Score, list[str]]:
    """Move the notes of a score by whole semitones to where they are sung, and say so."""
    deviations = pitch_deviations(heard, score)
    voiced = deviations[np.isfinite(deviations)]
    shift = round(float(np.median(voiced))) if len(voiced) else 0
    pitches = [note.pitch + shift for note in score.notes]
    is_nearer = share_in_tune(deviations - shift) > max(share_in_tune(deviations), LEAST_IN_TUNE)
    if not shift or not is_nearer or not 1 <= min(pitches) <= max(pitches) <= 127:
        return score, []
    where = "above" if shift > 0 else "below"
    return score.transposed(shift), [f"sung {abs(shift)} semitones {where} what is written: moved"]
