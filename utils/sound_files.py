"""Sound files as arrays, and a resampler for them: what a plan hears with, without torch.

Importing torch takes longer than hearing a song. Shapes: C channels, S samples.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from utils import scratch
from utils.files import reading

# librosa's "kaiser_best" of torchaudio's documentation: passband to 0.948 of the lower Nyquist.
RESAMPLING: dict[str, Any] = {
    "lowpass_filter_width": 64,
    "rolloff": 0.9475937167399596,
    "resampling_method": "sinc_interp_kaiser",
    "beta": 14.769656459379492,
}
MAX_RESAMPLING_TAPS = 1 << 27  # weights of the polyphase kernel, 0.5 GB: rates without a ratio
LOWEST_RATE, HIGHEST_RATE = 4000, 768_000  # Hz of a file
MOST_CHANNELS = 64  # of a file
LONGEST_RECORDING = 7200.0  # s of a file; an audiobook's chapter, an opera's act
MOST_SAMPLES = 1 << 29  # of a file, all channels: 2 GiB in memory
OTHER_AUDIO = frozenset((".m4a", ".aac", ".mp4", ".wma", ".webm", ".mkv", ".mov", ".amr"))
BLOCK = 1 << 18  # samples resampled or written at a time: flat memory
# What libsndfile notes of a file that ends before its header says: bytes promised, bytes there.
SHORTER = re.compile(r"(?:data|SSND|Data Size) *: *(\d+) \(should be (\d+)\)")
SHORTER_64 = re.compile(r"riff(?: size)? *: *(\d+) \(should be (\d+)\)", re.IGNORECASE)
UNKNOWN_SIZE = 0x7FFF_0000  # bytes: what writes into a pipe promises this much or more
MISSED = 0.1  # s that a file is shorter than promised before it is said

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AudioInfo:
    """What a file was before `read_wav` converted it."""

    sample_rate: int  # Hz
    channels: int
    num_samples: int  # per channel, at the file's own rate
    conversions: tuple[str, ...]  # one phrase for each change made, none when there was none

    @classmethod
    def of(cls, shape: Sequence[int], file_rate: int, sample_rate: int) -> AudioInfo:
        """Describe samples of `shape` (C, S) that become mono at `sample_rate`."""
        channels, num_samples = shape
        conversions = []
        if channels != 1:
            conversions.append(f"{channels} channels to mono")
        if file_rate != sample_rate:
            conversions.append(f"{file_rate} Hz to {sample_rate} Hz")
        return cls(file_rate, channels, num_samples, tuple(conversions))


def read_samples(path: Path) -> tuple[np.ndarray, int]:
    """Read a file as (C, S) float32 in [-1, 1], and its rate; see utils.audio.read_audio."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected an audio file")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such audio file")
    parts = Stream(path, "float32")
    wav = scratch.zeros_array((parts.channels, parts.promised), np.dtype(np.float32))
    length = 0
    for part in parts:
        wav[:, length : length + len(part)] = part.T
        length += len(part)
        scratch.forget()
    return wav[:, :length], parts.sample_rate


def unreadable(path: Path, error: Exception) -> str:
    """Return the message about a file that is no audio, or of a kind that cannot be read."""
    advice = f": convert it, for example: ffmpeg -i {path.name} {path.stem}.wav"
    is_known = path.suffix.lower() in OTHER_AUDIO
    return f"{path}: not readable as audio ({error}){advice if is_known else ''}"


class Stream:
    """A sound file in blocks (S, C), after a look at what its header promises.

    One that ends before is read as far as it goes, with a warning. Raises ValueError for what is
    not audio, holds nothing, or is beyond LOWEST_RATE … MOST_SAMPLES.
    """

    def __init__(self, path: Path, dtype: str) -> None:
        self.path, self.dtype = path, dtype
        with reading(path):
            try:
                info = soundfile.info(path)
            except (soundfile.SoundFileError, RuntimeError) as error:
                raise ValueError(unreadable(path, error)) from error
            _check_header(info, path)
        self.sample_rate, self.channels = info.samplerate, info.channels
        self.promised = info.frames  # samples, at most
        self._whole = round(info.frames * _promised_ratio(info))  # in the header's words

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the samples, BLOCK of them at a time; ValueError where there is none."""
        length = 0
        with reading(self.path):
            try:
                with soundfile.SoundFile(self.path) as file:
                    while length < self.promised:
                        part = file.read(BLOCK, dtype=self.dtype, always_2d=True)
                        if not len(part):
                            break
                        length += len(part)
                        yield part[: len(part) - max(0, length - self.promised)]
            except (soundfile.SoundFileError, RuntimeError) as error:
                raise ValueError(f"{self.path}: not readable as audio ({error})") from error
        if not length:
            raise ValueError(f"{self.path}: the file is audio but holds no samples")
        if self._whole - length > MISSED * self.sample_rate:
            _say_shorter(self.path, self._whole / self.sample_rate, length / self.sample_rate)


def decode(path: Path, dtype: str) -> tuple[np.ndarray, int]:
    """Decode a file to (S, C) and Hz; raises as `Stream`."""
    parts = Stream(path, dtype)
    samples = scratch.zeros_array((parts.promised, parts.channels), np.dtype(dtype))
    length = 0
    for part in parts:
        samples[length : length + len(part)] = part
        length += len(part)
        scratch.forget()
    return samples[:length], parts.sample_rate


def _promised_ratio(info: Any) -> float:
    """Return how many times as long as its file a header says that a recording is, 1 as a rule."""
    pattern = SHORTER_64 if info.format in ("W64", "RF64") else SHORTER
    found = pattern.search(info.extra_info)
    if found is None:
        return 1.0
    promised, there = map(int, found.groups())
    return promised / there if 0 < there < promised < UNKNOWN_SIZE else 1.0


@lru_cache(maxsize=64)
def _say_shorter(path: Path, promised: float, seconds: float) -> None:
    """Warn, once, of a file that was cut off while it was written or copied."""
    logger.warning(
        "%s: cut off: its header promises %.1f s, %.1f s are there, and they are taken; where the "
        "rest matters, copy or export the file again",
        path,
        promised,
        seconds,
    )


def _check_header(info: Any, path: Path) -> None:
    """Raise ValueError for a file that nobody recorded, before its size is allocated."""
    if not LOWEST_RATE <= info.samplerate <= HIGHEST_RATE:
        raise ValueError(
            f"{path}: {info.samplerate} Hz; expected {LOWEST_RATE} to {HIGHEST_RATE} Hz"
        )
    if info.channels > MOST_CHANNELS:
        raise ValueError(f"{path}: {info.channels} channels; expected at most {MOST_CHANNELS}")
    seconds = info.frames / info.samplerate
    if seconds > LONGEST_RECORDING or info.frames * info.channels > MOST_SAMPLES:
        raise ValueError(
            f"{path}: its header promises {seconds:.0f} s in {info.channels} channels; expected at "
            f"most {LONGEST_RECORDING:.0f} s, and {MOST_SAMPLES} samples in all channels"
        )


# ---------------------------------------------------------------------------- levels


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


def level_of(wav: np.ndarray, mean: float = 0.0) -> float:
    """Return the RMS level of (S,) around `mean` in dBFS; -inf for silence."""
    parts = (wav[start:stop].astype(np.float64) - mean for start, stop in scratch.blocks(len(wav)))
    power = sum(float(np.square(part).sum()) for part in parts) / max(len(wav), 1)
    return 10 * math.log10(power) if power > 0 else -math.inf


def peak_of(wav: np.ndarray) -> float:
    """Return the largest magnitude of (S,)."""
    return max(float(np.abs(wav[a:b]).max()) for a, b in scratch.blocks(len(wav)))


# ---------------------------------------------------------------------------- rates


def resampling_ratio(sample_rate: int, new_rate: int) -> tuple[int, int]:
    """Return the ratio of two rates in lowest terms; ValueError for terms too large to filter."""
    divisor = math.gcd(sample_rate, new_rate)
    original, new = sample_rate // divisor, new_rate // divisor
    if original * new > MAX_RESAMPLING_TAPS:
        raise ValueError(
            f"{sample_rate} Hz to {new_rate} Hz is a ratio of {original}:{new}, too fine to "
            "resample directly; convert the file to a usual rate first (44100, 48000, ... Hz)"
        )
    return original, new


def resampling_margin(original: int, new: int) -> int:
    """Return the periods of `original` samples around a block that the filter of RESAMPLING needs.

    One of them is spare: the last period of a block may be cut.
    """
    zeros = RESAMPLING["lowpass_filter_width"] / RESAMPLING["rolloff"]
    return math.ceil(zeros / min(original, new)) + 2


@lru_cache(maxsize=4)
def sinc_kernels(
    original: int, new: int, zeros: int, rolloff: float, beta: float
) -> tuple[np.ndarray, int]:
    """Return the low-pass filters of all output phases, (new, taps) float64, and their reach.

    original, new: without a common divisor. zeros: zero crossings of the sinc on either side, where
    a Kaiser window of `beta` ends (Smith, Digital Audio Resampling, 1984).
    """
    cutoff = min(original, new) * rolloff
    reach = math.ceil(zeros * original / cutoff)  # input samples on either side
    taps = np.arange(-reach, reach + original) / original  # (K,)
    phases = np.arange(new)[:, None] / new  # (new, 1)
    x = np.clip((taps - phases) * cutoff, -zeros, zeros)  # in zero crossings
    window = np.i0(beta * np.sqrt(1 - np.square(x / zeros))) / np.i0(beta)
    return np.sinc(x) * window * (cutoff / original), reach


def resampled(wav: np.ndarray, sample_rate: int, new_rate: int) -> np.ndarray:
    """Resample (S,) float32 as utils.audio.resample does, up to rounding: (⌈S · new / old⌉,)."""
    if sample_rate == new_rate:
        return wav
    original, new = resampling_ratio(sample_rate, new_rate)
    design = RESAMPLING["lowpass_filter_width"], RESAMPLING["rolloff"], RESAMPLING["beta"]
    kernels, reach = sinc_kernels(original, new, *design)
    columns = np.ascontiguousarray(kernels.T, dtype=np.float32)  # (taps, new)
    count = math.ceil(len(wav) * new / original)
    result = scratch.zeros_array((count,), np.dtype(np.float32))
    size = max(1, BLOCK // original)  # periods at a time: flat memory
    for first in range(0, math.ceil(len(wav) / original), size):
        low, high = first * original - reach, (first + size) * original + reach
        part = wav[max(0, low) : max(0, high)]
        part = np.pad(part, (max(0, -low), max(0, high - max(0, low) - len(part))))
        frames = np.lib.stride_tricks.sliding_window_view(part, len(columns))[::original]
        done = (np.ascontiguousarray(frames) @ columns).reshape(-1)
        place = result[first * new : (first + size) * new]
        place[:] = done[: len(place)]
        scratch.forget()
    return result


def mel_frequencies(count: int, highest: float) -> np.ndarray:
    """Return frequencies in Hz, evenly spaced from 0 to `highest` Hz on Slaney's mel scale."""
    step = math.log(6.4) / 27.0  # log Hz per mel above 1000 Hz = 15 mel; below, 200/3 Hz per mel
    top = highest * 3 / 200 if highest <= 1000.0 else 15.0 + math.log(highest / 1000.0) / step
    mels = np.linspace(0.0, top, count)
    return np.where(mels < 15.0, mels * 200 / 3, 1000.0 * np.exp(step * (mels - 15.0)))
