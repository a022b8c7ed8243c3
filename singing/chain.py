"""Steps from symbols to sound, each by one network or algorithm.

Used by synthesis, by the previews of training and by evaluation, so that all three run the same
chain: symbols → mel (TransformerTTS) → linear (PostNet) → waveform (fast Griffin-Lim), or with a
PostNet that has a source symbols → mel → waveform.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from module import padding_mask
from network import Generated, TransformerTTS
from utils.audio import griffin_lim, levelled, local_contrast, mel_filterbank
from utils.kernels import product

if TYPE_CHECKING:
    from hyperparams import Audio, Synthesis
    from music.inputs import ScoreBatch
    from utils.loading import Loaded


logger = logging.getLogger(__name__)

DIAGONAL_WIDTH = 0.2  # relative width of the band that counts as diagonal (1710.08969)
REPEAT_STEPS = 2  # decoder steps on an earlier word that make a repetition, not a wobble


def frame_limits(
    symbol_lengths: Tensor, synthesis: Synthesis, frame_rate: float
) -> tuple[Tensor, Tensor]:
    """Shortest and longest rendering in frames, (B,) each: they scale with the text."""
    frames = symbol_lengths * frame_rate
    shortest = (frames * synthesis.min_seconds_per_symbol).long()
    longest = (frames * synthesis.max_seconds_per_symbol).long().clamp_min(1)
    return shortest, longest


def generate_mel(
    network: TransformerTTS,
    symbols: Tensor,
    symbol_lengths: Tensor,
    seeds: Sequence[int],
    synthesis: Synthesis,
    score: ScoreBatch | None = None,
    need_weights: bool = False,
    voice: Tensor | None = None,
) -> Generated:
    """Decode the mels of a batch, free-running and standardised.

    An item with notes ends with them, one without by predicted durations or by the stop head.
    voice (B,): who sings, 0 or None = the first voice.
    """
    low, high = frame_limits(symbol_lengths, synthesis, 1.0 / network.frame_seconds)
    if score is not None:
        end = score.interval[..., 1].amax(1)  # (B,) s, 0 for an item without notes
        high = torch.where(end > 0, (end / network.frame_seconds).ceil().long(), high)
    # In full precision: small products gain nothing from half of it, validation hears what ships.
    with torch.autocast(symbols.device.type, enabled=False):
        generated = network.generate(
            symbols,
            symbol_lengths,
            seeds,
            high,
            low,
            score,
            synthesis.stop_threshold,
            synthesis.predict_durations,
            need_weights,
            voice,
        )
    filtered = postfiltered(generated.mel, generated.mel_lengths, synthesis, score)
    return replace(generated, mel=filtered)


PRESENCE_BANDS = (1 / 6, 2 / 3)  # of all bands: where a gain begins, and where it is whole


def postfiltered(
    mel: Tensor, mel_lengths: Tensor, synthesis: Synthesis, score: ScoreBatch | None
) -> Tensor:
    """Sharpen and brighten a mel (B, T, M) that the transformer made as the knobs ask for.

    A mean of logarithms lies below the logarithm of the mean, most where a mel is predicted least,
    above 1 kHz: `presence` makes up for that, in items with notes.
    """
    made = sharpened(mel, mel_lengths, synthesis.sharpening, synthesis.sharpening_frames)
    if score is None or not synthesis.presence:
        return made
    is_sung = score.is_sung[:, None, None]  # (B, 1, 1)
    low, high = PRESENCE_BANDS
    place = torch.linspace(0, 1, made.shape[2], device=made.device)
    ramp = ((place - low) / (high - low)).clamp(0, 1)  # (M,)
    return made + synthesis.presence * is_sung * ramp


def without_postfilter(synthesis: Synthesis) -> Synthesis:
    """Return the knobs by which a transformer's mels stay as it makes them."""
    return replace(synthesis, sharpening=0.0, presence=0.0)


def sharpened(mel: Tensor, mel_lengths: Tensor, amount: float, width: float) -> Tensor:
    """Give a mel (B, T, M) back the quick changes that regression has averaged away.

    x + amount · (x − smooth(x)), smooth being a Gaussian of `width` frames that ends where the item
    does: the gain on quick modulations of Takamichi et al. 2014 (a postfilter of the modulation
    spectrum), one for all bands. Padding stays as it is.
    """
    if not amount:
        return mel
    reach = math.ceil(3 * width)
    offsets = torch.arange(-reach, reach + 1, device=mel.device)
    kernel = torch.exp(-(offsets**2) / (2 * width**2))
    is_valid = ~padding_mask(mel_lengths, mel.shape[1])[:, :, None]  # (B, T, 1)
    parts = torch.cat([mel * is_valid, is_valid.to(mel.dtype)], 2)  # (B, T, M + 1)
    rows = parts.transpose(1, 2).flatten(0, 1)[:, None]  # (B·(M + 1), 1, T)
    summed = F.conv1d(rows, kernel[None, None].to(mel.dtype), padding=reach)
    summed = summed.view(len(mel), -1, mel.shape[1]).transpose(1, 2)  # (B, T, M + 1)
    smooth = summed[:, :, :-1] / summed[:, :, -1:].clamp_min(1e-6)
    return torch.where(is_valid, mel + amount * (mel - smooth), mel)


def guided_alignment(network: TransformerTTS, generated: Generated, item: int) -> Tensor:
    """Return the alignment of one item: the mean of the last layer's guided heads, (steps, N)."""
    weights = generated.attention.cross[-1][item, : max(network.hp.guided_heads, 1)].mean(0)
    steps = -(-int(generated.mel_lengths[item]) // network.reduction_factor)
    return weights[:steps]


@dataclass(frozen=True)
class AttentionHealth:
    """Does the rendering read the text once, in order, to its end?

    focus: mean over steps of the largest weight (Ren et al. 2019, 1905.09263, section 3.2), 1 =
    sharp. diagonality: attention mass near the straight path, 1 = on it. coverage: share of words
    that were read, 1 = all. skipped, repeated: positions of words never read, and of words read
    again after the attention had gone on to a later word.
    """

    focus: float
    diagonality: float
    coverage: float
    skipped: tuple[int, ...]
    repeated: tuple[int, ...]

    def as_dict(self) -> dict[str, object]:
        """Plain values for report.json."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def attention_health(weights: np.ndarray, words: Sequence[tuple[int, int]]) -> AttentionHealth:
    """Judge one alignment.

    weights (T, N): attention of each decoder step over the valid symbols, rows sum to 1; words:
    (first, last) symbol of each word, inclusive, in order. Raises ValueError on an empty matrix.
    """
    steps, symbols = weights.shape
    if not steps or not symbols:
        raise ValueError(f"attention of {steps} steps over {symbols} symbols: nothing to judge")
    n, t = np.arange(symbols) / symbols, np.arange(steps) / steps
    band = np.exp(-((n[None] - t[:, None]) ** 2) / (2 * DIAGONAL_WIDTH**2))  # (T, N)
    word_of = np.full(symbols, -1)
    for index, (first, last) in enumerate(words):
        word_of[first : last + 1] = index
    path = word_of[weights.argmax(-1)]  # (T,) word read at each step, −1 between words
    path = path[path >= 0]
    read = set(path.tolist())
    furthest = np.maximum.accumulate(path) if len(path) else path
    behind, counts = np.unique(path[path < furthest], return_counts=True)
    return AttentionHealth(
        focus=float(weights.max(-1).mean()),
        diagonality=float((weights * band).sum(-1).mean()),
        coverage=len(read) / len(words) if words else 1.0,
        skipped=tuple(i for i in range(len(words)) if i not in read),
        repeated=tuple(int(w) for w, c in zip(behind, counts, strict=True) if c >= REPEAT_STEPS),
    )


@torch.no_grad()
def linear_of(postnet: Loaded, mel: Tensor, mel_lengths: Tensor | None = None) -> Tensor:
    """Log mel (B, T, M) → log linear spectrogram (B, T, F), by a PostNet of kind cbhg.

    Raises ValueError for one with a source: it makes waveforms.
    """
    if postnet.hyperparams.postnet.kind == "source":
        raise ValueError(
            f"{postnet.path} is a PostNet with a source, and Griffin-Lim needs one of kind cbhg: "
            "name another with --postnet FILE"
        )
    linear = postnet.network(postnet.standardiser("mel")(mel), mel_lengths)
    return postnet.standardiser("linear").inverse(linear)


@lru_cache(maxsize=8)
def _filterbank_inverse(audio: Audio, device: torch.device) -> Tensor:
    """Return the pseudo-inverse of the mel filterbank, (M, F)."""
    with torch.autocast("cpu", enabled=False):  # it is kept, for whoever asks next
        return torch.linalg.pinv(mel_filterbank(audio)).to(device)


def linear_from_mel(mel: Tensor, audio: Audio) -> Tensor:
    """Invert the filterbank by its pseudo-inverse: log mel (B, T, M) → log linear (B, T, F).

    The baseline of a PostNet; previews of the transformer alone use it.
    """
    inverse = _filterbank_inverse(audio, mel.device)  # (M, F)
    with torch.autocast(mel.device.type, enabled=False):
        return product(mel.float().exp(), inverse).clamp_min(audio.log_floor).log()


def contrasted(linear: Tensor, synthesis: Synthesis) -> Tensor:
    """Apply the spectral contrast that the knobs ask for to log magnitudes (..., F)."""
    return local_contrast(linear, synthesis.spectral_contrast, synthesis.contrast_bins)


def waveform(linear: Tensor, audio: Audio, synthesis: Synthesis, seed: int) -> Tensor:
    """Log magnitudes (T, F) → waveform (S,) at the level that the knobs ask for."""
    return at_voice_level(unlevelled(linear, audio, synthesis, seed), audio, synthesis)


def unlevelled(linear: Tensor, audio: Audio, synthesis: Synthesis, seed: int) -> Tensor:
    """Log magnitudes (T, F) → waveform (S,) at their own level."""
    return griffin_lim(
        contrasted(linear, synthesis)[None],
        audio,
        synthesis.griffin_lim_iterations,
        synthesis.griffin_lim_momentum,
        seed,
    )[0]


@torch.no_grad()
def source_waveform(
    postnet: Loaded,
    mel: Tensor,
    f0: Tensor,
    synthesis: Synthesis,
    seed: int,
    is_levelled: bool = True,
) -> Tensor:
    """Log mel (T, M) and F0 (T,) in Hz → waveform (S,), by a PostNet with a source.

    is_levelled: at the level that the knobs ask for, else at its own.
    """
    from source_filter import render  # late: the other kind of PostNet does without

    audio, device = postnet.hyperparams.audio, mel.device
    f0 = f0.to(device)[None]
    standard = postnet.standardiser("mel")(mel[None])
    filters = postnet.network(standard, f0, linear_from_mel(mel[None], audio))
    wav = render(filters, f0, audio, torch.Generator().manual_seed(seed))[0]
    return at_voice_level(wav, audio, synthesis) if is_levelled else wav


def at_voice_level(wav: Tensor, audio: Audio, synthesis: Synthesis) -> Tensor:
    """Bring a waveform (S,) to the level that the knobs ask for."""
    if not wav.any():
        logger.warning("a rendering is silent: its level was left alone")
        return wav
    return levelled(wav, synthesis.level, audio.hop_length)


UNHEARD = 200.0  # Hz, where no pitch is found in a whole item
HEARD_ITERATIONS = 12  # of Griffin-Lim where F0 is heard in a mel


def f0_of_mel(mel: Tensor, audio: Audio, knobs: Synthesis, seed: int) -> Tensor:
    """Hear F0 (T,) in Hz in a log mel (T, M): YIN on a quick Griffin-Lim rendering of it."""
    quick = replace(knobs, griffin_lim_iterations=HEARD_ITERATIONS)
    wav = waveform(linear_from_mel(mel[None], audio)[0], audio, quick, seed)
    from utils.metrics import f0_track  # late: only a PostNet with a source asks for it

    return filled(f0_track(wav.cpu(), audio.sample_rate, audio.hop_length)[: len(mel)])


def filled(f0: Tensor) -> Tensor:
    """Carry F0 (T,) in Hz through the frames without pitch, on straight lines in cents."""
    is_voiced = (f0 > 0).numpy()
    if not is_voiced.any():
        return torch.full_like(f0, UNHEARD)
    frames = np.arange(len(f0))
    logs = np.interp(frames, frames[is_voiced], np.log(f0.numpy()[is_voiced]))
    return torch.from_numpy(np.exp(logs)).to(f0)
