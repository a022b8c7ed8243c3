"""Five things as torchaudio has them, for machines without it.

They take its place in utils/audio_functional.py, and are as exact or more so:
tests/utils/test_audio_functional.py compares both, function by function.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.sound_files import sinc_kernels


class Resample(nn.Module):
    """Resample (..., S) by a windowed sinc; the length is ⌈S · new / old⌉."""

    def __init__(
        self,
        orig_freq: int,
        new_freq: int,
        resampling_method: str,
        lowpass_filter_width: int,
        rolloff: float,
        beta: float,
        dtype: torch.dtype,
    ) -> None:
        """Make the kernels; as torchaudio.transforms.Resample, of Kaiser windows alone."""
        super().__init__()
        if resampling_method != "sinc_interp_kaiser":
            raise ValueError(f"resampling_method {resampling_method!r}: only sinc_interp_kaiser")
        divisor = math.gcd(orig_freq, new_freq)
        self.original, self.new = orig_freq // divisor, new_freq // divisor
        kernels, self.reach = sinc_kernels(
            self.original, self.new, lowpass_filter_width, rolloff, beta
        )
        self.kernels: Tensor
        self.register_buffer(
            "kernels", torch.from_numpy(kernels[:, None]).to(dtype), persistent=False
        )

    def forward(self, wav: Tensor) -> Tensor:
        """Resample (..., S)."""
        flat = F.pad(wav.reshape(-1, 1, wav.shape[-1]), (self.reach, self.reach + self.original))
        done = F.conv1d(flat, self.kernels, stride=self.original)  # (N, new, periods)
        length = math.ceil(self.new * wav.shape[-1] / self.original)
        return done.transpose(1, 2).reshape(*wav.shape[:-1], -1)[..., :length]


def melscale_fbanks(
    n_freqs: int,
    f_min: float,
    f_max: float,
    n_mels: int,
    sample_rate: int,
    norm: str,
    mel_scale: str,
) -> Tensor:
    """Return the mel filterbank (F, M) of the Slaney scale, bands of equal area."""
    if norm != "slaney" or mel_scale != "slaney":
        raise ValueError(f"norm {norm!r}, mel_scale {mel_scale!r}: only slaney")
    import librosa  # loaded when needed: it takes seconds

    bank = librosa.filters.mel(
        sr=sample_rate, n_fft=2 * (n_freqs - 1), n_mels=n_mels, fmin=f_min, fmax=f_max
    )
    return torch.from_numpy(bank.T.copy())


def lfilter(wav: Tensor, denominator: Tensor, numerator: Tensor, clamp: bool) -> Tensor:
    """Filter (..., S) recursively: a_0 y_t = Σ b_k x_{t-k} − Σ_{k>0} a_k y_{t-k}."""
    if clamp:
        raise ValueError("clamp=True would cut what is above full scale: not wanted here")
    from scipy import signal  # loaded when needed: it takes a second

    coefficients = (part.cpu().double().numpy() for part in (numerator, denominator))
    result = signal.lfilter(*coefficients, wav.cpu().numpy(), axis=-1)
    return torch.from_numpy(np.ascontiguousarray(result)).to(wav)


def edit_distance(first: Sequence[Any], second: Sequence[Any]) -> int:
    """Count the substitutions, insertions and deletions between two sequences (Levenshtein)."""
    row = list(range(len(second) + 1))
    for count, item in enumerate(first, 1):
        diagonal, row[0] = row[0], count
        for place, other in enumerate(second, 1):
            best = min(row[place] + 1, row[place - 1] + 1, diagonal + (item != other))
            diagonal, row[place] = row[place], best
    return row[-1]


def frechet_distance(mu_x: Tensor, sigma_x: Tensor, mu_y: Tensor, sigma_y: Tensor) -> Tensor:
    """Return |μ_x − μ_y|² + tr(Σ_x + Σ_y − 2 (Σ_x Σ_y)^½) of two Gaussians (D,), (D, D)."""
    # The eigenvalues of Σ_x Σ_y are those of Σ_x^½ Σ_y Σ_x^½, which is symmetric.
    values, vectors = torch.linalg.eigh(sigma_x)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.mT
    product = torch.linalg.eigvalsh(root @ sigma_y @ root).clamp_min(0)
    traces = sigma_x.trace() + sigma_y.trace()
    return (mu_x - mu_y).square().sum() + traces - 2 * product.sqrt().sum()
