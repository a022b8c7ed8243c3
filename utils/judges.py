"""Independent judges of a rendering, from packages that carry their own weights.

They are optional: a judge that is not installed raises an error with the command that installs it.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from utils.audio import resample

RECOGNISER_RATE = 16000  # Hz, the rate that the acoustic model inside the wheel was trained at
PEAK = 0.7  # of full scale; the recogniser expects ordinary recording levels


class SpeechRecogniser:
    """pocketsphinx with its own US English model and language model: words of a waveform."""

    NAME = "pocketsphinx (en-US model of the wheel)"

    def __init__(self) -> None:
        try:
            from pocketsphinx import Decoder
        except ImportError as error:
            raise ImportError(
                "the word error rate needs pocketsphinx: pip install -r requirements-dev.txt"
            ) from error
        self.decoder = Decoder(loglevel="FATAL")

    def words(self, wav: Tensor, sample_rate: int) -> list[str]:
        """Recognised words, lower case, of (S,) float32."""
        samples = resample(wav.float().cpu(), sample_rate, RECOGNISER_RATE)
        samples = samples * (PEAK / samples.abs().max().clamp_min(1e-6))
        data = (samples * 32767).to(torch.int16).numpy().tobytes()
        self.decoder.start_utt()
        self.decoder.process_raw(data, full_utt=True)
        self.decoder.end_utt()
        hypothesis = self.decoder.hyp()
        return plain_words(hypothesis.hypstr) if hypothesis is not None else []


def plain_words(text: str) -> list[str]:
    """Lower-case words without punctuation: what a word error is counted over."""
    return re.findall(r"[a-z']+", text.lower().replace("’", "'"))
