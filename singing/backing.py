"""The accompaniment of a song as a melody is fitted to it: mono, at a network's rate and level.

Without torch, which a plan need not wait for. Shapes: C channels, S samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.harmony import Harmony, analyse
from utils import scratch
from utils.files import reading
from utils.sound_files import AudioInfo, read_samples, resampled

if TYPE_CHECKING:
    from composer.harmony import Chart

LONGEST_SONG = 3600.0  # s of an accompaniment
SILENCE_LEVEL = -60.0  # dBFS RMS of a whole recording, below which it counts as silent


@dataclass(frozen=True)
class BackingAudio:
    """The accompaniment that a melody is fitted to."""

    wav: np.ndarray  # (S,) mono
    sample_rate: int
    seconds: float  # of its file: no note begins behind it
    regions: tuple[tuple[float, float], ...] | None = None  # s, the parts sung; None = all
    _known: dict[Any, Harmony] = field(default_factory=dict, repr=False, compare=False)

    def harmony(self, tempo: float | None = None, chords: Chart | None = None) -> Harmony:
        """Analyse it; `tempo` in beats per minute and `chords` where they are known."""
        asked = (tempo, chords)
        if asked not in self._known:
            self._known[asked] = analyse(self.wav, self.sample_rate, tempo, chart=chords)
        return self._known[asked]


def read_accompaniment(path: Path, sample_rate: int) -> tuple[np.ndarray, AudioInfo]:
    """Read mono (S,) at `sample_rate`, and what the file was; ValueError for NaN and silence."""
    samples, file_rate = read_samples(path)
    check_finite(samples, path)
    seconds = samples.shape[1] / file_rate
    if seconds > LONGEST_SONG:
        raise ValueError(f"{path}: {seconds:.0f} s; expected at most {LONGEST_SONG:.0f} s of song")
    info = AudioInfo.of(samples.shape, file_rate, sample_rate)
    mono = scratch.zeros_array(samples.shape[1:], samples.dtype)
    for start, stop in scratch.blocks(len(mono)):
        mono[start:stop] = samples[:, start:stop].mean(axis=0)
    with reading(path):
        wav = resampled(mono, file_rate, sample_rate)
    level = level_of(wav)
    if level < SILENCE_LEVEL:
        raise ValueError(
            f"{path} is silent in mono ({level:.0f} dBFS RMS, expected at least "
            f"{SILENCE_LEVEL:.0f}): there is nothing to sing to. To speak lyrics alone, leave "
            "--accompaniment out"
        )
    return wav, info


def check_finite(wav: np.ndarray, path: Path) -> None:
    """Raise ValueError when samples (C, S) are NaN or infinite, saying how many and where."""
    broken, first = 0, 0
    for start, stop in scratch.blocks(wav.shape[1]):
        is_broken = ~np.isfinite(wav[:, start:stop]).all(0)
        if not broken and is_broken.any():
            first = start + int(is_broken.argmax())
        broken += int(is_broken.sum())
    if broken:
        raise ValueError(
            f"{path}: {broken} samples are NaN or infinite, the first is sample {first}; export "
            "the recording again"
        )


def backing_gain(wav: np.ndarray, data: Mapping[str, Any], sigma_data: float) -> float:
    """Return the factor that brings an accompaniment (S,) to the RMS of an inpainter's corpus.

    data: of its checkpoint. A peak stays within full scale.
    """
    rms = data.get("statistics", {}).get("accompaniment", sigma_data)
    return min(rms / 10 ** (level_of(wav) / 20), 1.0 / peak_of(wav))


def level_of(wav: np.ndarray) -> float:
    """Return the RMS level of (S,) in dBFS; -inf for silence."""
    parts = (wav[start:stop].astype(np.float64) for start, stop in scratch.blocks(len(wav)))
    power = sum(float(np.square(part).sum()) for part in parts) / max(len(wav), 1)
    return 10 * math.log10(power) if power > 0 else -math.inf


def peak_of(wav: np.ndarray) -> float:
    """Return the largest magnitude of (S,)."""
    return max(float(np.abs(wav[a:b]).max()) for a, b in scratch.blocks(len(wav)))
