"""Five functions of torchaudio.functional: its own where it loads, else without_torchaudio's.

torchaudio has stopped at 2.11: a machine that has a newer torch, or no torchaudio, keeps what it
has.
"""

from __future__ import annotations

try:
    from torchaudio.functional import (
        edit_distance,
        frechet_distance,
        lfilter,
        melscale_fbanks,
        resample,
    )
except (ImportError, OSError, RuntimeError):  # not there, or built for another torch
    from utils.without_torchaudio import (
        edit_distance,
        frechet_distance,
        lfilter,
        melscale_fbanks,
        resample,
    )

__all__ = ["edit_distance", "frechet_distance", "lfilter", "melscale_fbanks", "resample"]
