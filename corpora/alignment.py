"""Do two stems belong together? Remarks on lag, on other rhythms and on swapped roles.

Measured on eight real songs (guitar against drums, bass and keys): the correlation of onsets within
±32 ms of zero lag is 0.82 to 1 of its maximum over ±2 s, and the maximum is 11 to 44 standard
deviations. Moved by 60 ms to 1.1 s, 45 of 48 pairs fall below 0.7; the others moved by whole beats.
Of 56 vocals beside another song's accompaniment 54 are suspected; of the eight aligned pairs none.
Energy below 120 Hz: 0.01 to 0.14 of the lead, 0.24 to 0.46 of the accompaniment.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.audio import Features

MAX_LAG = 2.0  # s, looked at on either side
ALIGNED_LAG = 0.032  # s around zero that count as no lag: two frames
ALIGNED_RATIO = 0.7  # of the highest correlation that aligned stems reach within ALIGNED_LAG
MIN_SCORE = 5.0  # standard deviations; below it the stems share no rhythm
MIN_SECONDS = 10.0  # of both stems, for a verdict
TREND_SECONDS = 1.0  # slower changes than this are no onsets
ONSET_FLOOR = -7.0  # natural log of mel magnitude; onsets below it are noise
LOW_BAND = 120.0  # Hz; drums and bass live below, voices hardly
LOW_SHARE = 0.2  # of a vocal's energy below LOW_BAND that makes it suspicious


def pair_remarks(vocal: Tensor, accompaniment: Tensor, features: Features, rate: int) -> list[str]:
    """Say what speaks against (S,) and (S,) being aligned stems in these roles; mostly nothing."""
    remarks = []
    frame_rate = rate / features.hop_length
    sung = _onsets(features.mel(vocal[None])[0], frame_rate)
    played = _onsets(features.mel(accompaniment[None])[0], frame_rate)
    if len(vocal) >= MIN_SECONDS * rate:
        remark = lag_remark(sung, played, frame_rate)
        remarks += [remark] if remark else []
    shares = [_low_share(stem, features, rate) for stem in (vocal, accompaniment)]
    if shares[0] > max(LOW_SHARE, 2 * shares[1]):
        remarks.append(
            f"perhaps swapped: {shares[0]:.0%} of the vocal's energy is below {LOW_BAND:.0f} Hz, "
            f"{shares[1]:.0%} of the accompaniment's"
        )
    return remarks


def lag_remark(vocal: Tensor, accompaniment: Tensor, frame_rate: float) -> str | None:
    """Judge two onset curves (T,) by their cross-correlation.

    A lag of whole beats can escape; a vocal that enters slowly throughout can be blamed wrongly.
    """
    reach, near = round(MAX_LAG * frame_rate), round(ALIGNED_LAG * frame_rate)
    scores = _correlate(vocal, accompaniment, reach) * math.sqrt(len(vocal))
    best = scores.max().item()
    if best < MIN_SCORE:
        return f"no common rhythm ({best:.1f} of {MIN_SCORE:.0f}): stems of different songs?"
    if scores[reach - near : reach + near + 1].max().item() >= ALIGNED_RATIO * best:
        return None
    candidates = torch.nonzero(scores >= 0.9 * best)[:, 0] - reach
    lag = candidates[candidates.abs().argmin()].item() / frame_rate
    return f"perhaps misaligned: the vocal seems {abs(lag):.2f} s {'late' if lag > 0 else 'early'}"


def _onsets(mel: Tensor, frame_rate: float) -> Tensor:
    """Rise of log mel energy per frame, without its slow trend: (T, M) → (T - 1,)."""
    rise = mel.clamp(min=ONSET_FLOOR).diff(dim=0).clamp(min=0).mean(dim=1)
    size = 2 * round(TREND_SECONDS * frame_rate / 2) + 1
    trend = F.avg_pool1d(rise[None, None], size, 1, size // 2, count_include_pad=False)[0, 0]
    return rise - trend


def _correlate(first: Tensor, second: Tensor, reach: int) -> Tensor:
    """Normalised correlation at lags -reach to reach, > 0 when `first` is late: (2 reach + 1,)."""
    size = 2 * max(len(first), len(second)) + 2 * reach
    spectrum = torch.fft.rfft(first, size) * torch.fft.rfft(second, size).conj()
    correlation = torch.fft.irfft(spectrum, size)
    norm = (first.norm() * second.norm()).clamp(min=1e-12)
    return torch.cat([correlation[-reach:], correlation[: reach + 1]]) / norm


def _low_share(wav: Tensor, features: Features, rate: int) -> float:
    """Share of the energy of (S,) that lies below LOW_BAND."""
    power = torch.fft.rfft(wav).abs().square()
    low = round(LOW_BAND * len(wav) / rate)
    return (power[:low].sum() / power.sum().clamp(min=1e-12)).item()
