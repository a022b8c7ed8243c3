"""Five things of torchaudio: its own where it loads, else without_torchaudio's.

torchaudio has stopped at 2.11: a machine that has a newer torch, or no torchaudio, keeps what it
has.
"""

try:
    from torchaudio.functional import edit_distance, frechet_distance, lfilter, melscale_fbanks
    from torchaudio.transforms import Resample
except (ImportError, OSError, RuntimeError):  # not there, or built for another torch
    from utils.without_torchaudio import (
        Resample,
        edit_distance,
        frechet_distance,
        lfilter,
        melscale_fbanks,
    )

__all__ = ["Resample", "edit_distance", "frechet_distance", "lfilter", "melscale_fbanks"]
