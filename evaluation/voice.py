"""What the judges say of one waveform against what it should have been.

Shapes: S samples, T frames, M mels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from corpora.aligner import ForcedAligner, WhisperRecogniser, spoken_words
from evaluation.cepstra import mel_cepstral_distortion
from evaluation.frechet import SpeechEmbedding
from evaluation.score_metrics import note_track, onset_deviations
from text.symbols import word_spans
from transcription.labels import PHONEME_CLASSES, SILENCE, phoneme_class
from transcription.lyrics import phoneme_runs
from transcription.transcribe import Transcribed, phoneme_entropies, transcribe
from utils.audio import Features
from utils.metrics import LINEAR_FLOOR, MEL_FLOOR, log_spectral_distance, word_errors
from utils.pitch import f0_track, midi_of, pitch_scores

if TYPE_CHECKING:
    from hyperparams import Audio
    from utils.loading import Loaded


@dataclass
class Reference:
    """What a voice should have been: its notes and words where they are known, and its sound."""

    mel: np.ndarray  # (T, M) raw natural log of the true recording
    linear: np.ndarray  # (T, F)
    f0: np.ndarray  # (T,) Hz of the true recording, through the same path where there is one
    notes: list[Sequence[float]] | None = None  # onset s, offset s, MIDI number
    symbols: tuple[str, ...] | None = None
    text: str | None = None  # its words as they are written
    score: Mapping[str, Sequence[float]] | None = None  # onset, pitch of each symbol
    wrong: list[tuple[str, ...]] = field(default_factory=list)  # lyrics of others


@dataclass
class Judges:
    """The judges that are there; `missing` says what each other one needs."""

    audio: Audio
    aligner: ForcedAligner | None = None
    embedding: SpeechEmbedding | None = None
    whisper: WhisperRecogniser | None = None
    transcriber: Loaded | None = None
    missing: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.features = Features(self.audio)

    @classmethod
    def available(cls, audio: Audio, transcriber: Loaded | None) -> Judges:
        """All judges whose packages are installed."""
        judges = cls(audio, transcriber=transcriber)
        if transcriber is None:
            judges.missing["transcriber"] = "give --transcriber FILE; train one: "
            judges.missing["transcriber"] += "python train_transcriber.py --data NAME"
        if find_spec("mir_eval") is None:
            judges.missing["mir_eval"] = "note scores need mir_eval: "
            judges.missing["mir_eval"] += "pip install -r requirements-evaluation.txt"
        kinds = {
            "aligner": ForcedAligner,
            "embedding": SpeechEmbedding,
            "whisper": WhisperRecogniser,
        }
        for name, kind in kinds.items():
            try:
                setattr(judges, name, kind())
            except ImportError as error:
                judges.missing[name] = str(error)
        return judges

    def names(self) -> list[str]:
        """What the numbers come from, for the record."""
        found = [judge.NAME for judge in (self.aligner, self.embedding, self.whisper) if judge]
        if self.transcriber is not None:
            found.append(f"transcriber {self.transcriber.path}, step {self.transcriber.step}")
        return ["YIN pitch track", *found]

    def track(self, wav: Tensor, num_frames: int) -> np.ndarray:
        """Pitch (T,) in Hz of wav (S,): cut, or without pitch behind its end."""
        f0 = f0_track(wav, self.audio.sample_rate, self.audio.hop_length)
        return torch.nn.functional.pad(f0, (0, max(0, num_frames - len(f0))))[:num_frames].numpy()

    def measure(self, wav: Tensor, reference: Reference) -> dict[str, Any]:
        """Every number of wav (S,) that the judges and the reference allow."""
        mel, linear = (part[0].numpy() for part in self.features(wav[None]))
        common = min(len(mel), len(reference.mel))
        result = self.pitch(wav, reference) | {
            "mcd": mel_cepstral_distortion(mel, reference.mel, MEL_FLOOR),
            "mcd_warped": mel_cepstral_distortion(mel, reference.mel, MEL_FLOOR, warp=True),
            "lsd": log_spectral_distance(linear[:common], reference.linear[:common], LINEAR_FLOOR),
        }
        if self.aligner is not None and reference.symbols is not None:
            result |= self.lyrics(wav, reference)
        if self.whisper is not None and reference.text is not None:
            words = self.whisper.words(wav, self.audio.sample_rate)
            errors = word_errors(words, spoken_words(reference.text))
            result |= {"word_errors": errors, "words_heard": " ".join(words)}
        if self.transcriber is not None:
            result |= self.heard(self.transcribe(wav), reference)
        return {name: plain(value) for name, value in result.items()}

    def pitch(self, wav: Tensor, reference: Reference) -> dict[str, float]:
        """Against the notes over the frames in which the reference is voiced, else against its F0.

        What the reference leaves unvoiced must have no pitch.
        """
        f0, is_sung = self.track(wav, len(reference.f0)), reference.f0 > 0
        if reference.notes is not None:
            seconds = self.audio.hop_length / self.audio.sample_rate
            target, is_note = note_track(reference.notes, len(f0), seconds)
        else:
            target, is_note = np.nan_to_num(midi_of(reference.f0)), is_sung
        scores = pitch_scores(f0, target, is_note & is_sung, ~is_sung)
        return {
            "pitch_accuracy": scores.accuracy,
            "pitch_chroma": scores.chroma,
            "pitch_rmse": scores.rmse,
            "voicing_recall": scores.voicing_recall,
            "voicing_false_alarm": scores.voicing_false_alarm,
        }

    def lyrics(self, wav: Tensor, reference: Reference) -> dict[str, Any]:
        """Is the right text accepted, how many wrong ones fit worse, and where are the vowels?

        A wrong text fits worse when it is refused or its path scores less; when the right one is
        refused, none does.
        """
        rate = self.audio.sample_rate
        found = self.aligner.align(wav, rate, reference.symbols)
        result: dict[str, Any] = {"accepted": float(found is not None)}
        if reference.wrong:
            result["preferred"] = 0.0
        if found is None:
            return result
        if reference.wrong:
            scores = [self.aligner.score(wav, rate, symbols) for symbols in reference.wrong]
            worse = [score is None or score < found.score for score in scores]
            result["preferred"] = float(np.mean(worse))
        if reference.score is not None and found.times is not None:
            onsets = [span[0] if span else 0.0 for span in found.times]
            result["onset_deviation"] = onset_deviations(onsets, reference.score, reference.symbols)
        return result

    def transcribe(self, wav: Tensor) -> Transcribed:
        """What the transcriber hears."""
        return transcribe(self.transcriber, wav, self.audio.sample_rate)

    @staticmethod
    def heard(heard: Transcribed, reference: Reference) -> dict[str, Any]:
        """Note F1s, phoneme error rate and the two entropies of what was transcribed."""
        result: dict[str, Any] = {}
        if reference.notes is not None and find_spec("mir_eval") is not None:
            from evaluation.notes import note_scores

            found = note_scores(reference.notes, heard.notes)
            result["note_onset"], result["note_pitch"] = found.onset, found.onset_pitch
            result["note_offset"] = found.onset_pitch_offset
        if reference.symbols is not None:
            errors, count = result["phoneme_errors"] = phoneme_errors(heard, reference.symbols)
            result["phoneme_error_rate"] = errors / count if count else float("nan")
        bits = phoneme_entropies(heard.phoneme.clamp_min(1e-9).log())
        result["phoneme_accuracy"], result["phoneme_variety"] = bits.accuracy, bits.variety
        return result


def phoneme_errors(heard: Transcribed, symbols: Sequence[str]) -> tuple[int, int]:
    """Return the edits from the phonemes of a line to those heard, and how many phonemes it has."""
    wanted = [
        PHONEME_CLASSES[phoneme_class(symbol)]
        for first, last in word_spans(symbols)
        for symbol in symbols[first : last + 1]
    ]
    found = [run.phoneme for run in phoneme_runs(heard.phoneme.numpy()) if run.phoneme != SILENCE]
    return word_errors(found, wanted)


def plain(value: Any) -> Any:
    """Without NaN, which JSON does not have."""
    return None if isinstance(value, float) and np.isnan(value) else value
