"""How natural does a voice sound? DNSMOS, an optional judge without a reference."""

from __future__ import annotations

import importlib

import numpy as np
from torch import Tensor

from utils.audio import resample

RATE = 16_000  # Hz
PEAK = 0.7  # of full scale, to which every recording is brought


class DNSMOS:
    """DNSMOS (Reddy et al. 2021, 2010.15258; P.835: 2110.01763) by speechmos, weights in its wheel.

    Trained on noisy speech: of songs it tells voice from noise, not a good singer from a bad one.
    """

    NAME = "DNSMOS P.808 and P.835 (speechmos 0.0.1.1)"

    def __init__(self) -> None:
        """Raise ImportError with the line that installs it where it is not there."""
        try:
            self.judge = importlib.import_module("speechmos.dnsmos")
        except ImportError as error:
            raise ImportError(
                f"DNSMOS needs speechmos ({error}): pip install -r requirements-evaluation.txt"
            ) from error

    def __call__(self, wav: Tensor, sample_rate: int) -> dict[str, float]:
        """Score a recording (S,): `dnsmos` (P.808) and `dnsmos_overall` (P.835), 1 to 5."""
        samples = resample(wav.float().cpu(), sample_rate, RATE).numpy()
        peak = float(np.abs(samples).max())
        scores = self.judge.run(samples * (PEAK / max(peak, 1e-6)), RATE)
        return {"dnsmos": float(scores["p808_mos"]), "dnsmos_overall": float(scores["ovrl_mos"])}
