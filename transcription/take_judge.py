"""Judge a sung phrase by the transcriber: are its words and its notes there?

Shapes: T frames, N phonemes of the text with silences between, S samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from text.symbols import word_spans
from transcription.labels import PHONEME_CLASSES, SILENCE, phoneme_class
from transcription.lyrics import phoneme_runs
from transcription.transcribe import Transcribed, load_transcriber, transcribe
from utils.metrics import TimedNote, edit_distance, midi_of

if TYPE_CHECKING:
    from singing.voice import RenderedPhrase
    from transcription.network import TranscriberNet
    from utils.loading import Loaded

ONSET_TOLERANCE = 0.05  # s
PITCH_TOLERANCE = 0.5  # semitones
FLOOR = 1e-4  # least probability of a phoneme: one frame decides nothing


@dataclass(frozen=True)
class TakeJudge:
    """Scores of rendered phrases, each 0 to 1, more is better."""

    transcriber: Loaded[TranscriberNet]

    @classmethod
    def load(cls, path: Path, device: torch.device) -> TakeJudge:
        """Load the transcriber that judges; errors as `utils.checkpoint.load`."""
        return cls(load_transcriber(path, device))

    @property
    def name(self) -> str:
        """Which weights judge."""
        return f"transcriber {self.transcriber.path}, step {self.transcriber.step}"

    def __call__(self, rendered: RenderedPhrase, sample_rate: int) -> dict[str, float]:
        """Score a phrase that was sung; see `phrase_scores`."""
        heard = transcribe(self.transcriber, rendered.wav, sample_rate)
        score = rendered.phrase.score
        notes = score["notes"] if score is not None else []
        return phrase_scores(heard, rendered.phrase.symbols, notes)


def phrase_scores(
    heard: Transcribed, symbols: Sequence[str], notes: Sequence[TimedNote]
) -> dict[str, float]:
    """Score what is heard against the symbols and notes (onset s, offset s, MIDI) of a phrase.

    words: exp of the mean log ratio, over the frames of the words, of the likeliest path through
    the phonemes of the text to the likeliest path at all. phonemes: 1 − phoneme error rate, at
    least 0. notes: F1 of notes by onset (50 ms) and pitch (50 cents). pitch: share of the notes'
    frames with a pitch within 50 cents.
    """
    phoneme = np.log(np.maximum(heard.phoneme.double().numpy(), FLOOR))
    words = [symbols[first : last + 1] for first, last in word_spans(symbols)]
    wanted = [PHONEME_CLASSES[phoneme_class(s)] for word in words for s in word]
    found = [run.phoneme for run in phoneme_runs(heard.phoneme.numpy()) if run.phoneme != SILENCE]
    errors = edit_distance(wanted, found) / max(len(wanted), 1)
    return {
        "words": float(np.exp(path_log_ratio(phoneme, words))),
        "phonemes": max(0.0, 1.0 - errors),
        "notes": note_f1(notes, heard.notes),
        "pitch": pitch_share(heard.f0.numpy(), notes, heard.hop_seconds),
    }


def path_log_ratio(phoneme: np.ndarray, words: Sequence[Sequence[str]]) -> float:
    """Return the mean log likelihood ratio per frame of the text to the best free recognition.

    phoneme: log probabilities (T, 39); words: the phonemes of each. The path takes every phoneme in
    order for a frame at least, silence before, between and behind words as it likes (Viterbi); the
    mean is over the frames that it gives to phonemes. Where they do not fit in, the least of FLOOR.
    """
    silence = PHONEME_CLASSES.index(SILENCE)
    classes, optional = [silence], [True]
    for word in words:
        for symbol in word:
            classes.append(phoneme_class(symbol))
            optional.append(False)
        classes.append(silence)
        optional.append(True)
    emission = phoneme[:, classes]  # (T, N)
    count, skip = len(classes), np.array([False, *optional[:-1]])
    best = np.full(count, -np.inf)
    best[:2] = emission[0, :2]
    origin = np.zeros((len(phoneme), count), np.int8)  # places that the path has come forward
    for frame in range(1, len(phoneme)):
        one = np.concatenate([[-np.inf], best[:-1]])
        two = np.where(skip, np.concatenate([[-np.inf, -np.inf], best[:-2]]), -np.inf)
        options = np.stack([best, one, two])  # (3, N)
        origin[frame] = options.argmax(0)
        best = options.max(0) + emission[frame]
    place = count - 1 if best[-1] >= best[-2] else count - 2
    if not np.isfinite(best[place]):
        return float(np.log(FLOOR))
    ratio, frames = 0.0, 0
    free = phoneme.max(1)
    for frame in range(len(phoneme) - 1, -1, -1):
        if not optional[place]:
            ratio += emission[frame, place] - free[frame]
            frames += 1
        place -= int(origin[frame, place])
    return ratio / max(frames, 1)


def note_f1(wanted: Sequence[TimedNote], found: Sequence[Any]) -> float:
    """Return the F1 of notes by onset and pitch, each matched once, in order of time."""
    if not wanted or not found:
        return float(len(wanted) == len(found))
    hits, free = 0, list(found)
    for onset, _, pitch in wanted:
        near = [
            note
            for note in free
            if abs(note[0] - onset) <= ONSET_TOLERANCE and abs(note[2] - pitch) <= PITCH_TOLERANCE
        ]
        if near:
            free.remove(min(near, key=lambda note: abs(note[0] - onset)))
            hits += 1
    return 2 * hits / (len(wanted) + len(found))


def pitch_share(f0: np.ndarray, notes: Sequence[TimedNote], hop_seconds: float) -> float:
    """Return the share of the frames with a pitch, in notes, that are within PITCH_TOLERANCE."""
    times = np.arange(len(f0)) * hop_seconds
    target = np.zeros(len(f0))
    for onset, offset, pitch in notes:
        target[(times >= onset) & (times < offset)] = pitch
    judged = (target > 0) & (f0 > 0)
    if not judged.any():
        return 0.0
    return float((np.abs(midi_of(f0[judged]) - target[judged]) <= PITCH_TOLERANCE).mean())
