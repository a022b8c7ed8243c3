"""Faults of a recording that would poison training: each threshold with its reason."""

from __future__ import annotations

import re
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from utils.audio import rms_level

FULL_SCALE = 0.999  # |x| from here on is a clipped sample: 32735 of 32768 in 16 bits
CLIPPED_SHARE = 0.005  # loud mastering touches full scale now and then; half a percent is audible
SILENCE_LEVEL = -60.0  # dBFS RMS of the whole recording; room noise of a quiet studio
TRUNCATED_SHARE = 0.9  # of the declared length; mp3 headers may be off by some percent
UNKNOWN_SIZE = 0x7FFF0000  # bytes; a wav written to a pipe declares this or more
MIN_FRAMES = 8  # spectrogram frames, 0.13 s: no word is shorter


def recording_fault(wav: Tensor, num_frames: int) -> str | None:
    """Say what is wrong with a recording (C, S) as it was read, or None.

    `num_frames` is the length of the spectrogram that it will become.
    """
    if num_frames < MIN_FRAMES:
        return f"too short: {num_frames} frames, expected at least {MIN_FRAMES}"
    return broken_samples(wav) or silence(wav) or clipping(wav)


def broken_samples(wav: Tensor) -> str | None:
    """Say how many samples of (C, S) are not finite, or None."""
    broken = int((~torch.isfinite(wav)).sum())
    return f"{broken} samples are NaN or infinite" if broken else None


def silence(wav: Tensor) -> str | None:
    """Say that (C, S) as a whole is silent, or None."""
    level = rms_level(wav)
    if level >= SILENCE_LEVEL:
        return None
    return f"silent: {level:.0f} dBFS RMS, expected at least {SILENCE_LEVEL:.0f}"


def clipping(wav: Tensor) -> str | None:
    """Say how much of the worst channel of (C, S) is clipped when it is too much, or None."""
    clipped = (wav.abs() >= FULL_SCALE).float().mean(dim=1).max().item()
    if clipped <= CLIPPED_SHARE:
        return None
    return f"clipped: {clipped:.1%} of the samples at full scale, at most {CLIPPED_SHARE:.1%}"


def truncation_fault(path: Path, num_samples: int) -> str | None:
    """Say that a file ends before its header promises, or None; `num_samples` were decoded."""
    info = soundfile.info(path)
    if num_samples < TRUNCATED_SHARE * info.frames:
        return f"cut off: {num_samples} samples of {info.frames}"
    size = re.search(r"^data : (\d+) \(should be (\d+)\)", info.extra_info, re.MULTILINE)
    if size and int(size[2]) < int(size[1]) < UNKNOWN_SIZE:
        return f"cut off: {size[2]} bytes of sound, the header promises {size[1]}"
    return None
