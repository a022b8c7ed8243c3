"""Training losses as (total, count) pairs, so that a mean can be taken over several processes.

Padding never contributes: not to the total, not to the count. Legend: B batch, N symbols,
T frames or decoder steps, M features.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from module import has_times, padding_mask
from utils.kernels import exact


def masked_l1(prediction: Tensor, target: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return Σ |prediction − target| over valid frames and the number of values in it.

    prediction, target (B, T, M); lengths (B,).
    """
    is_valid = ~padding_mask(lengths, target.shape[1])  # (B, T)
    error = (prediction - target).abs().sum(-1)  # (B, T)
    return (error * is_valid).sum(), is_valid.sum() * target.shape[-1]


RESOLUTIONS = (256, 512, 1024, 2048)  # samples of a window, 16 to 128 ms: edges and harmonics
LOG_FLOOR = 3e-3  # of a magnitude: 50 dB under a voice's loud harmonics nothing is heard
CONVERGENCE_WEIGHT = 0.5  # of loud parts against all parts


def spectral_loss(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Multi-resolution STFT loss of waveforms (B, S), summed over items, and their number.

    Yamamoto et al. 2020 (1910.11480), eq. 4 to 6: mean |Δ ln magnitude| + spectral convergence,
    averaged over RESOLUTIONS; the convergence counts CONVERGENCE_WEIGHT.
    """
    total = prediction.new_zeros(())
    for size in RESOLUTIONS:
        window = torch.hann_window(size, device=prediction.device)
        made, true = (
            torch.stft(wav, size, size // 4, window=window, return_complex=True).abs()
            for wav in (prediction, target)
        )  # (B, F, T)
        logs = ((made + LOG_FLOOR).log() - (true + LOG_FLOOR).log()).abs().mean()
        # Over the whole batch: next to silence any error is large in proportion.
        convergence = (made - true).norm() / true.norm().clamp_min(1e-3)
        total = total + len(target) * (logs + CONVERGENCE_WEIGHT * convergence)
    return total / len(RESOLUTIONS), torch.tensor(len(target))


WINDOW_STD = 1.5  # frames and bands, of the Gaussian window of the structural similarity
WINDOW_REACH = 5  # frames and bands: 11 x 11, both as in Wang et al. 2004
CONTRAST_FLOOR = 0.03  # variance below which contrast is noise: (0.03 of a range of 6)²


def structure_loss(prediction: Tensor, target: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return Σ (1 − contrast-structure) over valid frames and bands, and their number.

    The second factor of the structural similarity (Wang et al. 2004, eq. 9 and 10) from local
    moments: (2σ_xy + c) / (σ_x² + σ_y² + c). L1 shrinks the contrast of what it can predict only
    in part; this does not, so the regression blurs less. prediction, target (B, T, M),
    standardised; lengths (B,).
    """
    is_valid = ~padding_mask(lengths, target.shape[1])  # (B, T)
    inside = is_valid[..., None].to(torch.float32)
    x, y = (mel.float() * inside for mel in (prediction, target))
    mean_x, xx, xy = _LocalMean.apply(torch.stack([x, x * x, x * y])).unbind()  # (B, T, M) each
    mean_y, yy = _local_mean(torch.stack([y, y * y])).unbind()
    covariance = xy - mean_x * mean_y
    variances = (xx - mean_x.square()).clamp_min(0) + (yy - mean_y.square()).clamp_min(0)
    contrast = (2 * covariance + CONTRAST_FLOOR) / (variances + CONTRAST_FLOOR)
    return ((1 - contrast).sum(-1) * is_valid).sum(), is_valid.sum() * target.shape[-1]


class _LocalMean(torch.autograd.Function):
    """`_local_mean`, which is symmetric: the gradient's way back is the same."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        return _local_mean(maps)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        return _local_mean(gradients[0])


BLOCK = 64  # frames whose window is one matrix product, WINDOW_REACH frames around them included


def _local_mean(maps: Tensor) -> Tensor:
    """Weight maps (…, T, M) with the Gaussian window around every frame and band; zeros outside.

    By products, which are faster than convolutions of one channel: over bands with one matrix,
    over time with one for every block of frames, since it reaches no further.
    """
    *shape, frames, bands = maps.shape
    step = BLOCK - 2 * WINDOW_REACH
    blocks = -(-frames // step)
    padded = F.pad(
        maps.reshape(-1, frames, bands),
        (0, 0, WINDOW_REACH, blocks * step - frames + WINDOW_REACH),
    )
    parts = padded.unfold(1, BLOCK, step).transpose(2, 3)  # (n, blocks, BLOCK, M)
    window = _window(BLOCK, maps.device)[WINDOW_REACH:-WINDOW_REACH]  # (step, BLOCK)
    # Variances are small differences of large moments: rounded factors make noise of them.
    with torch.autocast(maps.device.type, enabled=False):
        made = exact(window, parts).flatten(1, 2)[:, :frames]  # (n, T, M)
        return exact(made, _window(bands, maps.device)).view(*shape, frames, bands)


@lru_cache(maxsize=8)
def _window(size: int, device: torch.device) -> Tensor:
    """Return the Gaussian window around each of `size` positions: a symmetric matrix.

    It is kept, for every step.
    """
    position = torch.arange(size, device=device)
    distance = (position[:, None] - position[None]).abs()
    weight = torch.exp(-(distance**2) / (2 * WINDOW_STD**2)) * (distance <= WINDOW_REACH)
    whole = torch.exp(-(torch.arange(-WINDOW_REACH, WINDOW_REACH + 1) ** 2) / (2 * WINDOW_STD**2))
    return weight / whole.sum().item()


def stop_loss(
    logits: Tensor, mel_lengths: Tensor, reduction_factor: int, pos_weight: float
) -> tuple[Tensor, Tensor]:
    """Return the binary cross-entropy of the stop head, and the number of steps.

    The target is 1 on the step of the last valid frame, weighted by pos_weight, and 0 before it.
    Steps past the end, which synthesis never reaches, are left out. logits (B, steps).
    """
    last = -(-mel_lengths // reduction_factor) - 1  # (B,)
    step = torch.arange(logits.shape[1], device=logits.device)[None]
    is_last, is_valid = step == last[:, None], step <= last[:, None]
    loss = F.binary_cross_entropy_with_logits(
        logits.float(),
        is_last.float(),
        pos_weight=torch.full((), pos_weight, device=logits.device),
        reduction="none",
    )
    return (loss * is_valid).sum(), is_valid.sum()


def diagonal_penalty(steps: Tensor, symbols: Tensor, sigma: float, size: tuple[int, int]) -> Tensor:
    """Return W = 1 − exp(−(n/N − t/T)² / 2g²) of Tachibana et al. 2017 (1710.08969, eq. 3).

    steps (B,) and symbols (B,): each item's valid T and N; size: the padded (T, N). Zero outside
    the valid rectangle. Returns (B, T, N).
    """
    t = torch.arange(size[0], device=steps.device)[None, :, None]
    n = torch.arange(size[1], device=steps.device)[None, None, :]
    distance = n / symbols[:, None, None] - t / steps[:, None, None]  # (B, T, N)
    penalty = 1.0 - torch.exp(-(distance**2) / (2.0 * sigma**2))
    is_valid = (t < steps[:, None, None]) & (n < symbols[:, None, None])
    return penalty * is_valid


def guided_attention_loss(
    weights: list[Tensor],
    steps: Tensor,
    symbols: Tensor,
    sigma: float,
    applies: Tensor,
    log_prior: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return Σ −log(attention mass near the diagonal) over steps and heads, and their number.

    weights: one (B, h, T, N) per guided layer; applies (B,): True for items without a score
    (a score places the symbols by itself); log_prior (B, T, N): where the times of an item's
    symbols are known, its values below 0 take the diagonal's place, W = 1 − exp(log_prior).
    Tachibana et al. average the penalty Σ W·w itself; −log(1 − Σ W·w) equals it when attention is
    nearly right and pulls harder while it is lost.
    """
    penalty = diagonal_penalty(steps, symbols, sigma, (weights[0].shape[-2], weights[0].shape[-1]))
    if log_prior is not None:
        is_known = (log_prior < 0).any(dim=(1, 2))[:, None, None]
        penalty = torch.where(is_known, 1.0 - log_prior.exp(), penalty)
    is_valid = torch.arange(penalty.shape[1], device=steps.device)[None] < steps[:, None]  # (B, T)
    is_valid = is_valid & applies[:, None]
    total = weights[0].new_zeros(())
    for layer in weights:
        astray = (layer * penalty[:, None]).sum(-1)  # (B, h, T)
        total = total - (torch.log1p(-astray.clamp_max(1.0 - 1e-4)) * is_valid[:, None]).sum()
    heads = sum(layer.shape[1] for layer in weights)
    return total, (is_valid.sum() * heads).clamp_min(1)  # 0 / 1 for a batch of songs


def duration_loss(
    log_durations: Tensor, phoneme_times: Tensor, symbol_lengths: Tensor, frame_seconds: float
) -> tuple[Tensor, Tensor]:
    """Return Σ |error of ln(1 + frames)| over the symbols of items with times, and their number.

    log_durations (B, N); phoneme_times (B, N, 2) s, all zero for an item without times.
    """
    is_valid = ~padding_mask(symbol_lengths, phoneme_times.shape[1])  # (B, N)
    is_valid = is_valid & has_times(phoneme_times)[:, None]
    frames = (phoneme_times[..., 1] - phoneme_times[..., 0]) / frame_seconds
    error = (log_durations - torch.log1p(frames)).abs()
    return (error * is_valid).sum(), is_valid.sum().clamp_min(1)  # 0 / 1 without any times


def onset_loss(
    shifts: Tensor,
    slots: Tensor,
    phoneme_times: Tensor,
    symbol_lengths: Tensor,
    frame_seconds: float,
) -> tuple[Tensor, Tensor]:
    """Return Σ |error of the onset shift| in frames over symbols of sung items with times.

    shifts (B, N) frames after the slots (B, N, 2) s of the score, zero for what is spoken;
    phoneme_times (B, N, 2) s, all zero for an item without times.
    """
    is_valid = ~padding_mask(symbol_lengths, phoneme_times.shape[1])  # (B, N)
    is_valid = is_valid & (has_times(phoneme_times) & has_times(slots))[:, None]
    late = (phoneme_times[..., 0] - slots[..., 0]) / frame_seconds
    return ((shifts - late).abs() * is_valid).sum(), is_valid.sum().clamp_min(1)
