"""Five functions of torchaudio.functional: its own where it loads, else without_torchaudio's.

torchaudio has stopped at 2.11: a machine that has a newer torch, or no torchaudio, keeps what it
has.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

try:
    from torchaudio.functional import edit_distance, frechet_distance, lfilter, melscale_fbanks
    from torchaudio.transforms import Resample

    @lru_cache(maxsize=8)
    def _resampler(dtype: torch.dtype, *design: Any) -> Resample:
        return Resample(*design, dtype=dtype)

    def sinc_resample(
        wav: Tensor,
        sample_rate: int,
        new_rate: int,
        lowpass_filter_width: int,
        rolloff: float,
        resampling_method: str,
        beta: float,
    ) -> Tensor:
        """Resample (..., S) as torchaudio.functional.resample, with a kernel that is kept.

        Building it takes longer than using it on a sentence. A kernel of more than MOST_KEPT
        weights, of two rates without a ratio of small terms, is not kept.
        """
        design = (sample_rate, new_rate, resampling_method, lowpass_filter_width, rolloff, beta)
        divisor = math.gcd(sample_rate, new_rate)
        keep = sample_rate // divisor * (new_rate // divisor) <= MOST_KEPT
        build = _resampler if keep else _resampler.__wrapped__
        return build(wav.dtype, *design).to(wav.device)(wav)

except (ImportError, OSError, RuntimeError):  # not there, or built for another torch
    from utils.without_torchaudio import (
        edit_distance,
        frechet_distance,
        lfilter,
        melscale_fbanks,
        sinc_resample,
    )

MOST_KEPT = 1 << 20  # weights, 4 MB; 44,100 to 16,000 Hz has 0.1 M

__all__ = ["edit_distance", "frechet_distance", "lfilter", "melscale_fbanks", "sinc_resample"]
