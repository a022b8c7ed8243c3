"""Linear spectrograms made when they are wanted, from a waveform of 16 bits in the cache.

wav/ID.npy holds a row of hop_length samples for each frame, (T, hop) int16 of full scale 32768,
zeros behind the end: frames of a spectrogram, and of the waveform, are counted alike. A linear
spectrogram made of it equals that of the whole waveform bit by bit, rounded to float16 as a stored
one would be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from corpora.records import FULL_SCALE
from utils.audio import cpu_features

if TYPE_CHECKING:
    from hyperparams import Audio

STORED, ON_THE_FLY = "stored", "on-the-fly"  # linear spectrograms
KIND = "wav"


def waveform_rows(wav: Tensor, hop_length: int) -> np.ndarray:
    """Round a waveform (S,) to 16 bits, (T, hop), T = 1 + S // hop."""
    rows = np.zeros((1 + len(wav) // hop_length, hop_length), dtype=np.int16)
    integers = (wav.double() * FULL_SCALE).round().clamp(-FULL_SCALE, FULL_SCALE - 1)
    rows.reshape(-1)[: len(wav)] = integers.to(torch.int16).numpy()
    return rows


def samples_of(rows: np.ndarray, num_samples: int) -> np.ndarray:
    """Return the first samples of rows as float32 in [-1, 1), (S,)."""
    return rows.reshape(-1)[:num_samples].astype(np.float32) / FULL_SCALE


def rows_needed(start: int, length: int, num_frames: int, audio: Audio) -> tuple[int, int]:
    """Return first and last row (exclusive) that frames start … start + length are made of."""
    reach = -(-audio.n_fft // 2 // audio.hop_length)  # rows on each side of a frame's centre
    return max(0, start - reach), min(num_frames, start + length - 1 + reach)


def linear_frames(
    rows: np.ndarray, first_row: int, num_samples: int, start: int, length: int, audio: Audio
) -> np.ndarray:
    """Return frames start … start + length of the linear spectrogram, (length, F) float16.

    rows: those from `first_row` on, at least those of `rows_needed`; num_samples: of the item.
    """
    first = first_row * audio.hop_length
    samples = samples_of(rows, num_samples - first)
    frames = cpu_features(audio).linear_of_frames(samples, start, length, first)
    return frames.numpy().astype(np.float16)
