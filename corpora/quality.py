"""Faults of a recording that would poison training: each threshold with its reason."""

from __future__ import annotations

import torch
from torch import Tensor

from utils.audio import rms_level

FULL_SCALE = 0.999  # |x| from here on is a clipped sample: 32735 of 32768 in 16 bits
CLIPPED_SHARE = 0.005  # loud mastering touches full scale now and then; half a percent is audible
SILENCE_LEVEL = -60.0  # dBFS RMS of the whole recording; room noise of a quiet studio
MIN_FRAMES = 8  # spectrogram frames, 0.13 s: no word is shorter


def recording_fault(wav: Tensor, num_frames: int) -> str | None:
    """Say what is wrong with a recording (C, S) as it was read, or None.

    `num_frames` is the length of the spectrogram that it will become.
    """
    broken = int((~torch.isfinite(wav)).sum())
    if broken:
        return f"{broken} samples are NaN or infinite"
    if num_frames < MIN_FRAMES:
        return f"too short: {num_frames} frames, expected at least {MIN_FRAMES}"
    level = rms_level(wav)
    if level < SILENCE_LEVEL:
        return f"silent: {level:.0f} dBFS RMS, expected at least {SILENCE_LEVEL:.0f}"
    clipped = (wav.abs() >= FULL_SCALE).float().mean(dim=1).max().item()
    if clipped > CLIPPED_SHARE:
        return f"clipped: {clipped:.1%} of the samples at full scale, at most {CLIPPED_SHARE:.1%}"
    return None
