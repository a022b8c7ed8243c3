"""Measure one waveform against its reference, by every judge that is installed.

Shapes: S samples, T frames, M mels.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from corpora.aligner import ForcedAligner
from evaluation.frechet import SpeechEmbedding
from evaluation.recognisers import WhisperRecogniser, spoken_words
from evaluation.report import shown_path
from evaluation.score_metrics import note_scores, note_track, onset_deviations
from text.symbols import word_spans
from transcription.labels import PHONEME_CLASSES, SILENCE, phoneme_class
from transcription.lyrics import phoneme_runs
from transcription.transcribe import (
    Transcribed,
    load_transcriber,
    phoneme_entropies,
    transcribe,
)
from utils.audio import Features
from utils.checkpoint import resolve
from utils.flags import DEMO
from utils.metrics import (
    LINEAR_FLOOR,
    MEL_FLOOR,
    TimedNote,
    f0_track,
    log_spectral_distance,
    mel_cepstral_distortion,
    midi_of,
    pitch_scores,
    word_errors,
)

if TYPE_CHECKING:
    from hyperparams import Audio
    from utils.loading import Loaded

NO_TRANSCRIBER = "none"  # as --transcriber


@dataclass
class Reference:
    """The true recording of a voice, and its notes and words where they are known."""

    mel: np.ndarray  # (T, M) raw natural log of the true recording
    linear: np.ndarray  # (T, F)
    f0: np.ndarray  # (T,) Hz of the true recording, through the same path where there is one
    notes: Sequence[TimedNote] | None = None  # onset s, offset s, MIDI number
    symbols: tuple[str, ...] | None = None
    text: str | None = None  # its words as they are written
    score: Mapping[str, Sequence[float]] | None = None  # onset, pitch of each symbol
    wrong: list[tuple[str, ...]] = field(default_factory=list)  # lyrics of others


@dataclass
class Judges:
    """The installed judges; `missing` says for each other one how to get it."""

    audio: Audio
    aligner: ForcedAligner | None = None
    embedding: SpeechEmbedding | None = None
    whisper: WhisperRecogniser | None = None
    transcriber: Loaded | None = None
    missing: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.features = Features(self.audio)

    @classmethod
    def available(cls, audio: Audio, transcriber: Path | None) -> Judges:
        """Load every judge that is installed; print what is missing.

        transcriber: a run, its folder or a file; None: the one that ships; "none": without one.
        """
        judges = cls(audio)
        shipped = DEMO / "transcriber.pt"
        if transcriber is None and shipped.is_file():
            transcriber = shipped
        if transcriber is None:
            judges.missing["transcriber"] = (
                f"no {shipped}; give --transcriber RUN, or train one: "
                "python train_transcriber.py --data NAME --run RUN"
            )
        elif str(transcriber) == NO_TRANSCRIBER:
            judges.missing["transcriber"] = f"--transcriber {NO_TRANSCRIBER}"
        else:
            path = resolve(transcriber, "transcriber")
            judges.transcriber = load_transcriber(path, torch.device("cpu"))
        if find_spec("mir_eval") is None:
            judges.missing["mir_eval"] = (
                "note scores need mir_eval: pip install -r requirements-evaluation.txt"
            )
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
        for name, needed in judges.missing.items():
            print(f"without {name}: {needed}", file=sys.stderr)
        return judges

    def names(self) -> list[str]:
        """Name the judges, for the record."""
        found = [judge.NAME for judge in (self.aligner, self.embedding, self.whisper) if judge]
        if self.transcriber is not None:
            path = shown_path(self.transcriber.path)
            found.append(f"transcriber {path}, step {self.transcriber.step}")
        return ["YIN pitch track", *found]

    def track(self, wav: Tensor, num_frames: int) -> np.ndarray:
        """Track the pitch (T,) in Hz of wav (S,), cut or padded with 0 to `num_frames`."""
        f0 = f0_track(wav, self.audio.sample_rate, self.audio.hop_length)
        return torch.nn.functional.pad(f0, (0, max(0, num_frames - len(f0))))[:num_frames].numpy()

    def measure(self, wav: Tensor, reference: Reference) -> dict[str, Any]:
        """Measure wav (S,): every metric that the judges and the reference allow."""
        mel, linear = (part[0].numpy() for part in self.features(wav[None]))
        common = min(len(mel), len(reference.mel))
        result: dict[str, Any] = self.pitch(wav, reference) | {
            "mcd": mel_cepstral_distortion(mel, reference.mel, MEL_FLOOR),
            "mcd_warped": mel_cepstral_distortion(mel, reference.mel, MEL_FLOOR, warp=True),
            "lsd": log_spectral_distance(linear[:common], reference.linear[:common], LINEAR_FLOOR),
        }
        if self.aligner is not None and reference.symbols is not None:
            result |= self.lyrics(self.aligner, wav, reference, reference.symbols)
        if self.whisper is not None and reference.text is not None:
            words = self.whisper.words(wav, self.audio.sample_rate)
            errors = word_errors(words, spoken_words(reference.text))
            result |= {"word_errors": errors, "recognised_words": " ".join(words)}
        if (transcribed := self.transcribe(wav)) is not None:
            result |= self.transcription(transcribed, reference)
        return without_nan(result)

    def pitch(self, wav: Tensor, reference: Reference) -> dict[str, float]:
        """Measure pitch over the voiced frames of the reference: against its notes, else its F0.

        Unvoiced frames of the reference count as voicing false alarms where there is pitch.
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

    def lyrics(
        self, aligner: ForcedAligner, wav: Tensor, reference: Reference, symbols: Sequence[str]
    ) -> dict[str, Any]:
        """Measure by forced alignment: acceptance, preference over wrong lyrics, vowel onsets.

        Wrong lyrics fit worse when they are refused or their path scores less. When the right
        lyrics are refused, they are preferred to none.
        """
        rate = self.audio.sample_rate
        found = aligner.align(wav, rate, symbols)
        result: dict[str, Any] = {"accepted": float(found is not None)}
        if reference.wrong:
            result["preferred"] = 0.0
        if found is None:
            return result
        if reference.wrong:
            scores = [aligner.score(wav, rate, wrong) for wrong in reference.wrong]
            worse = [score is None or score < found.score for score in scores]
            result["preferred"] = float(np.mean(worse))
        if reference.score is not None and found.times is not None:
            onsets = [span[0] if span else 0.0 for span in found.times]
            result["onset_deviation"] = onset_deviations(onsets, reference.score, symbols)
        return result

    def transcribe(self, wav: Tensor) -> Transcribed | None:
        """Transcribe wav (S,); None without a transcriber."""
        if self.transcriber is None:
            return None
        return transcribe(self.transcriber, wav, self.audio.sample_rate)

    @staticmethod
    def transcription(transcribed: Transcribed, reference: Reference) -> dict[str, Any]:
        """Measure note F1s, phoneme errors and the two phoneme entropies."""
        result: dict[str, Any] = {}
        if reference.notes is not None and find_spec("mir_eval") is not None:
            found = note_scores(reference.notes, transcribed.notes)
            result["note_onset"], result["note_pitch"] = found.onset, found.onset_pitch
            result["note_offset"] = found.onset_pitch_offset
        if reference.symbols is not None:
            errors, count = phoneme_errors(transcribed, reference.symbols)
            result["phoneme_errors"] = (errors, count)
            result["phoneme_error_rate"] = errors / count if count else float("nan")
        bits = phoneme_entropies(transcribed.phoneme.clamp_min(1e-9).log())
        result["phoneme_entropy"], result["phoneme_variety"] = bits.accuracy, bits.variety
        return result


def phoneme_errors(transcribed: Transcribed, symbols: Sequence[str]) -> tuple[int, int]:
    """Count the edits from the phonemes of a line to the transcribed ones, and its phonemes."""
    wanted = [
        PHONEME_CLASSES[phoneme_class(symbol)]
        for first, last in word_spans(symbols)
        for symbol in symbols[first : last + 1]
    ]
    runs = phoneme_runs(transcribed.phoneme.numpy())
    found = [run.phoneme for run in runs if run.phoneme != SILENCE]
    return word_errors(found, wanted)


def without_nan(record: Mapping[str, Any]) -> dict[str, Any]:
    """Replace NaN, which JSON does not have, by None."""
    return {
        name: None if isinstance(value, float) and np.isnan(value) else value
        for name, value in record.items()
    }
