"""Waveforms: files in and out, spectrogram features, phase recovery, levels.

Everything after `read_audio` is torch and runs on the device of its input, in float32 even under
autocast; files are read in utils/sound_files.py. The only sample rates are those of a file and of
the `Audio` section.
"""

from __future__ import annotations

import errno
import logging
import math
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils import audio_functional, scratch
from utils.files import atomic, reading
from utils.kernels import product
from utils.sound_files import (
    BLOCK,
    RESAMPLING,
    AudioInfo,
    read_samples,
    resampling_margin,
    resampling_ratio,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from hyperparams import Audio

logger = logging.getLogger(__name__)

MOST_KEPT = 1 << 20  # weights of a kernel, 4 MB; 44,100 to 16,000 Hz has 0.1 M
BLOCK_FRAMES = 128  # spectrogram frames transformed at a time on a CPU: half a MB, its cache
LOUDNESS_BLOCK = 0.4  # s, the gating block of BS.1770
LOUDNESS_STEPS = 100  # quarter blocks filtered at a time, 10 s: flat memory
LOUDNESS_RUN_IN = 10  # quarter blocks, 1 s; the 38 Hz high-pass forgets in 0.01 s
ACTIVE_RANGE = 40.0  # dB below the loudest block that still counts as sounding
MIN_STANDARD_DEVIATION = 1e-2  # nepers; a bin that never moves must not become a noise amplifier


def read_audio(path: Path) -> tuple[Tensor, int]:
    """Read a wav, flac, ogg or mp3 file as it is: all channels, its own rate.

    Returns (C, S) float32 in [-1, 1] and Hz. Raises FileNotFoundError, and ValueError for a file
    that cannot be decoded or holds no samples.
    """
    samples, sample_rate = read_samples(path)
    return torch.from_numpy(samples), sample_rate


def resample(wav: Tensor, sample_rate: int, new_rate: int) -> Tensor:
    """Resample (..., S) by a windowed sinc without delay: sample 0 stays at time 0.

    The result has ceil(S * new_rate / sample_rate) samples. Raises ValueError for two rates whose
    ratio has terms so large that the filter would not fit into memory.
    """
    if sample_rate == new_rate:
        return wav
    original, new = resampling_ratio(sample_rate, new_rate)
    # Making a kernel takes longer than using it on a sentence; a very large one is not kept.
    make = _resampler if original * new <= MOST_KEPT else _resampler.__wrapped__
    resampler = make(sample_rate, new_rate, wav.dtype).to(wav.device)
    # In blocks, each with the samples around it that the filter reaches: flat memory.
    margin = resampling_margin(original, new)
    size = max(1, BLOCK // original)  # periods
    count = math.ceil(wav.shape[-1] * new / original)
    result = scratch.zeros((*wav.shape[:-1], count), wav.dtype).to(wav.device)
    for first in range(0, math.ceil(wav.shape[-1] / original), size):
        before = min(first, margin)
        part = wav[..., (first - before) * original : (first + size + margin) * original]
        done = resampler(part.contiguous())
        place = result[..., first * new : (first + size) * new]
        place.copy_(done[..., before * new : before * new + place.shape[-1]])
        scratch.forget()
    return result


@lru_cache(maxsize=8)
def _resampler(sample_rate: int, new_rate: int, dtype: torch.dtype) -> nn.Module:
    """Return what resamples (..., S) of one type."""
    return audio_functional.Resample(sample_rate, new_rate, **RESAMPLING, dtype=dtype)


def to_mono(wav: Tensor) -> Tensor:
    """Mix (C, S) down to (S,): the mean of the channels."""
    if len(wav) == 1:
        return wav[0]
    result = scratch.zeros(wav.shape[1:], wav.dtype).to(wav.device)
    for start, stop in scratch.blocks(wav.shape[1]):
        result[start:stop] = wav[:, start:stop].mean(dim=0)
    return result


def read_wav(path: Path, sample_rate: int) -> tuple[Tensor, AudioInfo]:
    """Read a file as mono float32 (S,) at `sample_rate`, and say what had to be converted.

    Nothing is trimmed, shifted or rescaled. Raises as `read_audio` and `resample` do.
    """
    wav, file_rate = read_audio(path)
    with reading(path):
        return convert(wav, file_rate, sample_rate)


def convert(wav: Tensor, file_rate: int, sample_rate: int) -> tuple[Tensor, AudioInfo]:
    """Bring (C, S) at `file_rate` to mono (S,) at `sample_rate`, with a record of the changes."""
    info = AudioInfo.of(wav.shape, file_rate, sample_rate)
    return resample(to_mono(wav), file_rate, sample_rate), info


def write_wav(path: Path, wav: Tensor | np.ndarray | Sequence[Tensor], sample_rate: int) -> float:
    """Write (S,) or (C, S), or parts (S,) one behind the other, as 16-bit PCM, atomically.

    What `read_audio` read from a 16-bit file is written back bit for bit. A wav that exceeds full
    scale is attenuated as a whole, never clipped, and a warning is logged; the gain applied is
    returned in dB (0.0 as a rule). Raises ValueError for samples that are not finite.
    """
    path, whole = Path(path), [wav] if isinstance(wav, (Tensor, np.ndarray)) else wav
    parts = [torch.as_tensor(part).detach() for part in whole]
    for shape in {part.shape for part in parts if part.dim() not in (1, 2)}:
        raise ValueError(f"{path}: expected (S,) or (C, S), found shape {tuple(shape)}")
    peak, count = 0.0, 0
    for block in _blocks_of(parts):
        peak = max(peak, block.abs().max().item())
        count += int((~torch.isfinite(block)).sum())
    if count:
        raise ValueError(f"{path}: {count} samples are NaN or infinite; nothing was written")
    gain = 1.0 if peak <= 1.0 else 1.0 / peak
    if gain < 1.0:
        logger.warning("%s: peak %.2f above full scale, attenuated to it", path.name, peak)
    scaled = (block.double() * gain * 32768 for block in _blocks_of(parts))
    integers = (block.round().clamp(-32768, 32767).to(torch.int16) for block in scaled)
    channels = len(parts[0]) if parts[0].dim() == 2 else 1
    write_samples(path, (block.numpy().T for block in integers), sample_rate, "PCM_16", channels)
    return 20 * math.log10(gain)


def _blocks_of(parts: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield the parts in blocks of samples, on the CPU."""
    for part in parts:
        for start, stop in scratch.blocks(part.shape[-1], BLOCK):
            yield part[..., start:stop].cpu()


def write_samples(
    path: Path, parts: Iterable[np.ndarray], sample_rate: int, subtype: str, channels: int
) -> None:
    """Write parts (S,) or (S, C) as wav in a sample format, atomically; OSError where it fails."""
    with atomic(path) as temporary:
        try:
            with soundfile.SoundFile(
                temporary, "w", sample_rate, channels, subtype, format="WAV"
            ) as file:
                for part in parts:
                    file.write(part)
        except soundfile.SoundFileError as error:  # libsndfile does not say why
            raise OSError(errno.ENOSPC, f"{error}; is the disk full?", str(path)) from error


class Features(nn.Module):
    """Natural-log mel and linear magnitude spectrograms of a waveform; differentiable.

    Frames are centred on multiples of the hop, zeros beyond the ends, so frame t is at t * hop /
    sample_rate seconds and nothing is shifted or trimmed. Raises ValueError when a mel band is so
    narrow that it holds no bin.
    """

    def __init__(self, audio: Audio) -> None:
        super().__init__()
        self.n_fft, self.hop_length, self.win_length = (
            audio.n_fft,
            audio.hop_length,
            audio.win_length,
        )
        self.log_floor = audio.log_floor
        filterbank = mel_filterbank(audio)
        self.window: Tensor
        self.filterbank: Tensor
        self.register_buffer("window", torch.hann_window(audio.win_length), persistent=False)
        self.register_buffer("filterbank", filterbank, persistent=False)  # (F, M)

    def num_frames(self, num_samples: int) -> int:
        """Return T of a waveform of S samples."""
        return 1 + num_samples // self.hop_length

    def linear(self, wav: Tensor) -> Tensor:
        """(B, S) → natural log of the magnitude, floored, (B, T, F) float32."""
        return self._log(self._magnitude(wav))

    def linear_of_frames(self, samples: np.ndarray, first: int, count: int, start: int) -> Tensor:
        """Return frames first … first + count of `linear`, (count, F), from the samples they cover.

        samples: (S,) float32, a part of a waveform from sample `start` on; what it lacks of the
        frames lies beyond the waveform's ends. Equal to `linear` of the whole bit by bit.
        """
        low = first * self.hop_length - self.n_fft // 2
        high = low + (count - 1) * self.hop_length + self.n_fft
        skipped = max(0, low - start)
        part = torch.from_numpy(samples[skipped : max(skipped, high - start)])
        before = max(0, start - low)
        padded = F.pad(part, (before, high - low - before - len(part)))
        return self._log(self._magnitude(padded[None], center=False))[0]

    def mel(self, wav: Tensor) -> Tensor:
        """(B, S) → natural log of the mel magnitude, floored, (B, T, M) float32."""
        return self._log(self._to_mel(self._magnitude(wav)))

    def forward(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S) → mel (B, T, M) and linear (B, T, F), float32, T = 1 + S // hop_length."""
        magnitude = self._magnitude(wav)
        return self._log(self._to_mel(magnitude)), self._log(magnitude)

    def _magnitude(self, wav: Tensor, center: bool = True) -> Tensor:
        if wav.dim() != 2:
            raise ValueError(f"features take (B, S), found shape {tuple(wav.shape)}")
        with torch.autocast(wav.device.type, enabled=False):
            spectrum = torch.stft(
                wav.float(),
                self.n_fft,
                self.hop_length,
                self.win_length,
                self.window,
                center=center,
                pad_mode="constant",
                return_complex=True,
            )
            return spectrum.abs().transpose(1, 2)  # (B, T, F)

    def _to_mel(self, magnitude: Tensor) -> Tensor:
        with torch.autocast(magnitude.device.type, enabled=False):
            return product(magnitude, self.filterbank)  # (B, T, M)

    def _log(self, magnitude: Tensor) -> Tensor:
        return magnitude.clamp(min=self.log_floor).log()


@lru_cache(maxsize=4)
def cpu_features(audio: Audio) -> Features:
    """Return the features of an Audio section on the CPU, the same module on each call.

    For workers: making the filterbank takes as long as the spectrograms of a sentence.
    """
    return Features(audio)


def mel_filterbank(audio: Audio) -> Tensor:
    """Return the Slaney filterbank (F, M), bands of equal area from 0 Hz to Nyquist."""
    filterbank = audio_functional.melscale_fbanks(
        audio.n_fft // 2 + 1,
        f_min=0.0,
        f_max=audio.sample_rate / 2,
        n_mels=audio.n_mels,
        sample_rate=audio.sample_rate,
        norm="slaney",
        mel_scale="slaney",
    )
    empty = int((filterbank.amax(dim=0) == 0).sum())
    if empty:
        raise ValueError(
            f"{empty} of audio.n_mels = {audio.n_mels} bands hold no bin of audio.n_fft = "
            f"{audio.n_fft}: take fewer mels or a longer n_fft"
        )
    return filterbank


class Standardiser(nn.Module):
    """(x - mean) / std per bin, and back; mean and std (C,) are buffers, saved with a model."""

    def __init__(self, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> None:
        super().__init__()
        mean = torch.as_tensor(mean, dtype=torch.float32)
        std = torch.as_tensor(std, dtype=torch.float32)
        if mean.dim() != 1 or mean.shape != std.shape:
            raise ValueError(
                f"mean {tuple(mean.shape)} and std {tuple(std.shape)} are not of one length"
            )
        if not (torch.isfinite(mean).all() and torch.isfinite(std).all() and (std > 0).all()):
            raise ValueError("statistics hold values that are not finite, or a std that is not > 0")
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", mean)
        self.register_buffer("std", std.clamp(min=MIN_STANDARD_DEVIATION))

    @classmethod
    def from_statistics(cls, statistics: Mapping[str, Sequence[float]]) -> Standardiser:
        """Build from {mean: [...], std: [...]}, one entry of an index's or checkpoint's record."""
        return cls(statistics["mean"], statistics["std"])

    def forward(self, values: Tensor) -> Tensor:
        """Raw (..., C) → zero mean, unit variance."""
        return (values.float() - self.mean) / self.std

    def inverse(self, values: Tensor) -> Tensor:
        """Standardised (..., C) → raw."""
        return values.float() * self.std + self.mean


@torch.no_grad()
def griffin_lim(
    linear: Tensor,
    audio: Audio,
    num_iterations: int = 32,
    momentum: float = 0.99,
    seed: int = 0,
    start: Tensor | None = None,
) -> Tensor:
    """Recover a waveform from log magnitudes by fast Griffin-Lim (Perraudin et al. 2013, eq. 5).

    linear: natural logs (B, T, F). Returns (B, S) with S = hop_length * (T - 1). The first phases
    come from `seed`, the same for every item, so a result depends neither on the batch nor on the
    device's generator; or they are those of `start` (B, T, F) complex.
    """
    num_frames, num_bins = linear.shape[1:]
    if num_bins != audio.n_linear:
        raise ValueError(f"expected {audio.n_linear} linear bins, found {num_bins}")
    transform = _FrameTransform(audio, num_frames, linear.device)
    magnitude = linear.float().exp()
    if start is None:
        generator = torch.Generator().manual_seed(seed)
        phase = 2 * math.pi * torch.rand(num_frames, num_bins, generator=generator)
        phase = phase.to(linear.device).expand_as(magnitude)
    else:
        phase = start.angle()
    spectrum = torch.polar(magnitude, phase)
    wav = ahead = transform.inverse(spectrum)
    for _ in range(num_iterations):
        # Both transforms are linear, so c_n + α (c_n − c_n-1) of the spectra is the transform of
        # the same sum of waveforms, a quarter as many numbers.
        previous, wav = wav, transform.projected(ahead, magnitude)
        ahead = torch.add(wav, wav - previous, alpha=momentum)
    margin = audio.n_fft // 2
    return wav[:, margin : margin + audio.hop_length * (num_frames - 1)]


def local_contrast(linear: Tensor, amount: float, bins: int) -> Tensor:
    """Raise spectral peaks over the valleys beside them and keep the envelope of the power.

    linear: natural logs L of magnitudes (..., F). Returns y = aL + ½ ln P(L) − ½ ln P(aL), where a
    is `amount` and P(L) the power exp(2L) smoothed over frequency by a Hann window of `bins` either
    way: ripple grows by a, a level, a tilt and formants stay. A power of a on the magnitudes, the
    postfilter that is usual before Griffin-Lim, makes voices darker as well: their spectra fall.
    """
    if amount == 1.0:
        return linear
    window = torch.hann_window(2 * bins + 3, periodic=False, device=linear.device)[1:-1]

    def smoothed_power(log_magnitude: Tensor) -> Tensor:
        """Return ½ ln P, the window ending where the spectrum does, (R, F)."""
        top = log_magnitude.amax(1, keepdim=True)  # keeps the powers in range
        power = (2 * (log_magnitude - top)).exp()
        summed = F.conv1d(power[:, None], window[None, None], padding=bins)[:, 0]
        whole = F.conv1d(torch.ones_like(power[:1, None]), window[None, None], padding=bins)[:, 0]
        return 0.5 * (summed / whole).clamp_min(1e-30).log() + top

    rows = linear.float().flatten(0, -2)  # (R, F)
    raised = amount * rows + smoothed_power(rows) - smoothed_power(amount * rows)
    return raised.view_as(linear)


def frame_spectrum(wav: Tensor, audio: Audio) -> Tensor:
    """Compute the complex spectrum (B, T, F) of wav (B, S), on the frames of `Features`."""
    num_frames = 1 + wav.shape[-1] // audio.hop_length
    padded = F.pad(wav.float(), (audio.n_fft // 2, audio.n_fft // 2))
    return _FrameTransform(audio, num_frames, wav.device).forward(padded)


def inverse_spectrum(spectrum: Tensor, audio: Audio) -> Tensor:
    """Return the waveform (B, S), S = hop · (T − 1), whose frames are nearest to (B, T, F) complex.

    The least-squares inverse of `frame_spectrum`, with gradients.
    """
    num_frames, margin = spectrum.shape[1], audio.n_fft // 2
    wav = _FrameTransform(audio, num_frames, spectrum.device).inverse(spectrum)
    return wav[:, margin : margin + audio.hop_length * (num_frames - 1)]


class _FrameTransform:
    """STFT and its least-squares inverse for a fixed T; several times faster than torch.istft."""

    def __init__(self, audio: Audio, num_frames: int, device: torch.device) -> None:
        self.n_fft, self.hop, self.num_frames = audio.n_fft, audio.hop_length, num_frames
        self.overlap = -(-audio.n_fft // audio.hop_length)  # frames over a sample, rounded up
        left = (audio.n_fft - audio.win_length) // 2
        window = torch.hann_window(audio.win_length, device=device)
        self.window = F.pad(window, (left, audio.n_fft - audio.win_length - left))
        self.window_pieces = self._pieces(self.window)  # (overlap, hop)
        self.tiny = torch.full((), 1e-16, device=device)  # of a power: the phase of silence is 0
        envelope = self._overlap_add(self.window.square().expand(1, num_frames, -1))
        inside = torch.zeros_like(envelope, dtype=torch.bool)
        inside[:, self.n_fft // 2 : self.n_fft // 2 + self.hop * (num_frames - 1)] = True
        # Zero beyond the ends, as Features pads there.
        self.gain = torch.where(inside, 1 / envelope.clamp(min=1e-8), 0.0)

    def _pieces(self, frames: Tensor) -> Tensor:
        """Cut frames (..., n_fft) into hops (..., overlap, hop), zeros behind the last sample."""
        if padding := self.overlap * self.hop - self.n_fft:
            frames = F.pad(frames, (0, padding))
        return frames.unflatten(-1, (self.overlap, self.hop))

    def _overlap_add(self, frames: Tensor) -> Tensor:
        pieces = self._pieces(frames)
        wav = frames.new_zeros(frames.shape[0], self.num_frames + self.overlap - 1, self.hop)
        for piece in range(self.overlap):
            wav[:, piece : piece + self.num_frames] += pieces[:, :, piece]
        return wav.flatten(1)  # (B, S + n_fft)

    def inverse(self, spectrum: Tensor) -> Tensor:
        """(B, T, F) complex → (B, S + n_fft)."""
        frames = torch.fft.irfft(spectrum, self.n_fft).mul_(self.window)
        return self._overlap_add(frames).mul_(self.gain)

    def forward(self, wav: Tensor) -> Tensor:
        """(B, S + n_fft) → (B, T, F) complex."""
        return torch.fft.rfft(wav.unfold(-1, self.n_fft, self.hop) * self.window)

    def projected(self, wav: Tensor, magnitude: Tensor) -> Tensor:
        """Give the spectrum of wav (B, S + n_fft) the magnitudes (B, T, F) and transform it back.

        On a CPU by BLOCK_FRAMES of one item at a time, which stay in its cache from the first step
        to the last, so an item's result does not depend on its batch. Without gradients.
        """
        hops = wav.new_zeros(len(wav), self.num_frames + self.overlap - 1, self.hop)
        frames = wav.unfold(-1, self.n_fft, self.hop)  # (B, T, n_fft)
        on_cpu = wav.device.type == "cpu"
        parts = zip(hops, frames, magnitude, strict=True) if on_cpu else [(hops, frames, magnitude)]
        size = BLOCK_FRAMES if on_cpu else self.num_frames
        for target, part, wanted in parts:
            for first in range(0, self.num_frames, size):
                last = min(first + size, self.num_frames)
                spectrum = torch.fft.rfft(part[..., first:last, :] * self.window)
                real, imaginary = torch.view_as_real(spectrum).unbind(-1)
                scale = torch.addcmul(self.tiny, real, real).addcmul_(imaginary, imaginary)
                scale.rsqrt_().mul_(wanted[..., first:last, :])
                real.mul_(scale)
                imaginary.mul_(scale)
                pieces = self._pieces(torch.fft.irfft(spectrum, self.n_fft))
                for i, window in enumerate(self.window_pieces):  # window and overlap-add at once
                    target[..., first + i : last + i, :].addcmul_(pieces[..., i, :], window)
        return hops.flatten(1).mul_(self.gain)


def rms_level(wav: Tensor) -> float:
    """Return the RMS level of a waveform of any shape in dBFS; -inf for silence."""
    flat = wav.flatten()
    blocks = (flat[start:stop] for start, stop in scratch.blocks(len(flat)))
    power = sum(block.double().square().sum().item() for block in blocks) / max(len(flat), 1)
    return 10 * math.log10(power) if power > 0 else -math.inf


def active_level(wav: Tensor, block_length: int) -> float:
    """Return the RMS level (dBFS) of (S,) over its sounding blocks; -inf for silence.

    A block of `block_length` samples sounds when it is at most ACTIVE_RANGE dB below the loudest.
    """
    size = scratch.BLOCK // block_length * block_length or block_length
    parts = []
    for start, stop in scratch.blocks(wav.numel(), size):
        padded = F.pad(wav[start:stop].double(), (0, (start - stop) % block_length))
        parts.append(padded.view(-1, block_length).square().mean(dim=1))
    power = torch.cat(parts) if parts else wav.double()
    if not power.numel() or power.max() == 0:
        return -math.inf
    sounding = power >= power.max() * 10 ** (-ACTIVE_RANGE / 10)
    return 10 * math.log10(power[sounding].mean().item())


def levelled(wav: Tensor, level: float, block_length: int, peak: float = math.inf) -> Tensor:
    """Return (S,) at an active level in dBFS, softer where it would rise above `peak`.

    Raises ValueError for silence.
    """
    now = active_level(wav, block_length)
    if now == -math.inf:
        raise ValueError("the rendering is silent")
    return wav * min(10 ** ((level - now) / 20), peak / wav.abs().max().item())


def loudness(wav: Tensor, sample_rate: int) -> float:
    """Return the integrated loudness of (S,) or (C, S) in LUFS (ITU-R BS.1770-4), -inf if silent.

    Channels weigh alike. A wav shorter than one gating block is measured as if it went on in
    silence. (torchaudio's own function clips what its filters raise above full scale.)
    """
    return _loudness_of(_gated(_block_power(wav, sample_rate))[0])


def loudness_beside(wav: Tensor, voice: Tensor, sample_rate: int) -> float:
    """Return the loudness in LUFS of (C, S) over the blocks that count in the loudness of a voice.

    voice: (C', S), as long. Of these blocks those that are silent, by the gates of BS.1770-4, are
    left out; -inf when nothing sounds while the voice does.
    """
    is_sung = _gated(_block_power(voice, sample_rate))[1]
    return _loudness_of(_gated(_block_power(wav, sample_rate)[is_sung])[0])


def _block_power(wav: Tensor, sample_rate: int) -> Tensor:
    """K-weighted power of the gating blocks of (S,) or (C, S), summed over channels: (n,)."""
    wav = wav.reshape(-1, wav.shape[-1])  # (C, S)
    step = round(LOUDNESS_BLOCK / 4 * sample_rate)  # blocks overlap by three quarters
    if wav.shape[-1] < 4 * step:
        wav = F.pad(wav, (0, 4 * step - wav.shape[-1]))
    power = torch.zeros(wav.shape[-1] // step, dtype=torch.float64)
    for first in range(0, len(power), LOUDNESS_STEPS):
        power[first : first + LOUDNESS_STEPS] = _step_power(wav, first, step, sample_rate)
        scratch.forget()
    return power.unfold(0, 4, 1).mean(dim=-1)


def _gated(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Return the powers (n,) that pass the absolute and the relative gate, and which they are."""
    levels = 10 * blocks.clamp(min=1e-30).log10() - 0.691
    is_loud = levels > -70.0  # the absolute gate
    if is_loud.any():
        is_loud &= levels > 10 * math.log10(blocks[is_loud].mean().item()) - 0.691 - 10.0
    return blocks[is_loud], is_loud


def _loudness_of(blocks: Tensor) -> float:
    """Return the loudness in LUFS of gated powers (n,), -inf for none."""
    return 10 * math.log10(blocks.mean().item()) - 0.691 if len(blocks) else -math.inf


def _step_power(wav: Tensor, first: int, step: int, sample_rate: int) -> Tensor:
    """K-weighted power of at most LOUDNESS_STEPS steps of (C, S), summed over channels: (n,).

    The filters begin LOUDNESS_RUN_IN steps before `first`: by then they have forgotten their start.
    """
    begin = max(0, first - LOUDNESS_RUN_IN)
    part = wav[:, begin * step : (first + LOUDNESS_STEPS) * step].double()
    for numerator, denominator in _k_weighting(sample_rate):
        part = audio_functional.lfilter(part, denominator, numerator, clamp=False)
    steps = part[:, : part.shape[-1] // step * step].unflatten(-1, (-1, step))
    return steps[:, first - begin :].square().mean(dim=-1).sum(dim=0)


def _k_weighting(sample_rate: int) -> list[tuple[Tensor, Tensor]]:
    """Numerators and denominators of the shelf and the high-pass of BS.1770-4, at any rate.

    The bilinear transform of the analogue filters behind the standard's table for 48 kHz.
    """
    shelf = _pole_pair(1681.974451, 0.7071752, sample_rate)
    high_pass = _pole_pair(38.1354709, 0.5003270, sample_rate)
    k, resonance, norm, shelf_denominator = shelf
    high = 10 ** (3.9998439 / 20)  # gain of the shelf, +4 dB
    middle = high**0.4996667742
    shelf_numerator = [
        (high + middle * resonance + k * k) / norm,
        2 * (k * k - high) / norm,
        (high - middle * resonance + k * k) / norm,
    ]
    filters = [(shelf_numerator, shelf_denominator), ([1.0, -2.0, 1.0], high_pass[-1])]
    return [
        (torch.tensor(b, dtype=torch.float64), torch.tensor(a, dtype=torch.float64))
        for b, a in filters
    ]


def _pole_pair(
    frequency: float, quality: float, sample_rate: int
) -> tuple[float, float, float, list[float]]:
    """Return k, k / Q, the norm, and the denominator of a second-order section."""
    k = math.tan(math.pi * frequency / sample_rate)
    norm = 1 + k / quality + k * k
    return k, k / quality, norm, [1.0, 2 * (k * k - 1) / norm, (1 - k / quality + k * k) / norm]


def true_peak(wav: Tensor, sample_rate: int) -> float:
    """Return the peak of (..., S) between samples, four-fold oversampled, in dBTP (BS.1770-4)."""
    margin, peak = 2 * RESAMPLING["lowpass_filter_width"], 0.0
    for start, _ in scratch.blocks(wav.shape[-1], BLOCK):
        low = max(0, start - margin)
        part = wav[..., low : start + BLOCK + margin].float()
        finer = resample(part, sample_rate, 4 * sample_rate)
        inside = finer[..., 4 * (start - low) : 4 * (start - low + BLOCK)]
        peak = max(peak, inside.abs().max().item())
    return 20 * math.log10(peak) if peak > 0 else -math.inf
