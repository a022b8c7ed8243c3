"""Forced alignment by pocketsphinx, whose wheel carries its weights.

It is optional: not installed, it raises an error with the command that installs it.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from text.symbols import word_spans
from utils.audio import resample

FRAME_SECONDS = 0.01  # s, of the acoustic model of pocketsphinx
LEADS = (0.0, 0.03, 0.07, 0.12)  # s of silence put before a recording, until it can be aligned
RECOGNISER_RATE = 16000  # Hz, the rate that the acoustic model inside the wheel was trained at


@dataclass(frozen=True)
class Alignment:
    """Times of the phonemes of a text in a recording, and the score of their path.

    score: of the best path, larger = better; comparable for one recording against several texts,
    not between recordings. times: (onset, offset) in s of each symbol, None for a symbol that is no
    phoneme; None as a whole when the words were found and the phonemes inside them were not.
    """

    score: float
    times: tuple[tuple[float, float] | None, ...] | None


class ForcedAligner:
    """Forced alignment by pocketsphinx: acceptance of a text, its score, times of its phonemes.

    Every frame is scored against all acoustic states, so that the paths of two texts through one
    recording have the same normalisation. A text is refused when no path through all of its words
    survives the beam.
    """

    NAME = "pocketsphinx forced alignment (en-US model of the wheel)"

    def __init__(self, all_states: bool = True) -> None:
        """Load the model; all_states False: 3 times as fast, but scores are not comparable."""
        self.decoder = load_pocketsphinx("forced alignment", lm=None, compallsen=all_states)

    def score(self, wav: Tensor, sample_rate: int, symbols: Sequence[str]) -> float | None:
        """Score wav (S,) against the phonemes of a line; None when they are refused.

        Raises ValueError for a line without a word.
        """
        samples = resample(wav.float().cpu(), sample_rate, RECOGNISER_RATE)
        return self._words(sixteen_bit(samples), symbols)

    def align(self, wav: Tensor, sample_rate: int, symbols: Sequence[str]) -> Alignment | None:
        """Align the phonemes of a line to wav (S,); None when they are refused.

        Raises ValueError for a line without a word.
        """
        samples = resample(wav.float().cpu(), sample_rate, RECOGNISER_RATE)
        score = self._words(sixteen_bit(samples), symbols)
        if score is None:
            return None
        for lead in LEADS:  # a first state of one frame cannot be aligned: then begin earlier
            silence = samples.new_zeros(round(lead * RECOGNISER_RATE))
            data = sixteen_bit(torch.cat([silence, samples]))
            if lead and self._words(data, symbols) is None:
                continue
            times = self._phonemes(data, symbols)
            if times is not None:
                end = len(samples) / RECOGNISER_RATE
                spans = []
                for span in times:
                    onset, offset = (min(max(x - lead, 0.0), end) for x in span or (0.0, 0.0))
                    spans.append(span and (onset, offset))
                return Alignment(score, tuple(spans))
        return Alignment(score, None)

    def _words(self, data: bytes, symbols: Sequence[str]) -> float | None:
        """Run the first pass: score of the best path through all words, None without one."""
        names = []
        for first, last in word_spans(symbols):
            phonemes = [symbol.rstrip("012") for symbol in symbols[first : last + 1]]
            names.append("_".join(["word", *phonemes]).lower())
            if self.decoder.lookup_word(names[-1]) is None:
                self.decoder.add_word(names[-1], " ".join(phonemes), False)
        if not names:
            raise ValueError("a line without a word cannot be aligned")
        if not data:
            return None
        self.decoder.set_align_text(" ".join(names))
        try:
            recognise(self.decoder, data)
        except RuntimeError:  # how the decoder says that no path is left
            return None
        hypothesis = self.decoder.hyp()
        if hypothesis is None:
            return None
        # A path that was cut off is a hypothesis as well: it lacks its last words.
        found = [part.word for part in self.decoder.seg() if part.word.startswith("word_")]
        return float(hypothesis.best_score) if found == names else None

    def _phonemes(
        self, data: bytes, symbols: Sequence[str]
    ) -> list[tuple[float, float] | None] | None:
        """Run the second pass, after the first found the words: (onset, offset) of each symbol."""
        try:
            self.decoder.set_alignment()
            recognise(self.decoder, data)
        except RuntimeError:
            return None
        alignment = self.decoder.get_alignment()  # its words live only while they are walked
        found = [
            [(phone.start, phone.start + phone.duration) for phone in word]
            for word in alignment
            if word.name.startswith("word_")
        ]
        spans = word_spans(symbols)
        if [len(phones) for phones in found] != [last - first + 1 for first, last in spans]:
            return None
        times: list[tuple[float, float] | None] = [None] * len(symbols)
        for (first, _), phones in zip(spans, found, strict=True):
            for place, span in enumerate(phones, start=first):
                times[place] = (span[0] * FRAME_SECONDS, span[1] * FRAME_SECONDS)
        return times


def load_pocketsphinx(purpose: str, **options: Any) -> Any:
    """Load pocketsphinx; ImportError naming the command when it is not installed."""
    try:
        module = importlib.import_module("pocketsphinx")
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs pocketsphinx: pip install -r requirements-evaluation.txt"
        ) from error
    return module.Decoder(loglevel="FATAL", **options)


def recognise(decoder: Any, data: bytes) -> None:
    """Run a decoder over 16-bit samples, whatever it decoded before."""
    decoder.reinit_feat()  # forgets the noise of the recording before: the order does not matter
    decoder.start_utt()
    decoder.process_raw(data, full_utt=True)
    decoder.end_utt()


def sixteen_bit(samples: Tensor) -> bytes:
    """Convert samples (S,) in [-1, 1] to 16-bit integers."""
    return (samples.clamp(-1, 1) * 32767).to(torch.int16).numpy().tobytes()
