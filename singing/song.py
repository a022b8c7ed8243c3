"""A song as it comes in: its files, what of it is to be made, and what the network hears of it.

The network hears mono at its own rate and at the level that it was trained on. What is handed back
(singing/mixing.py) has the rate, the channels and the length of the files that came in.
Shapes: C channels, S samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.nn import functional as F

from inpainter.windows import merge_ranges
from singing.ranges import parse_ranges
from utils.audio import (
    AudioInfo,
    active_level,
    convert,
    loudness,
    read_audio,
    resample,
    rms_level,
    to_mono,
)
from utils.files import atomic

SILENCE_LEVEL = -60.0  # dBFS RMS of a whole recording, below which there is nothing to hear


# ---------------------------------------------------------------------------- files in


@dataclass(frozen=True)
class Recording:
    """A file's own samples, bit by bit, and how to write them again."""

    path: Path
    samples: np.ndarray  # (S, C) int32 of integer files (full scale 2^31), float64 of others
    sample_rate: int
    subtype: str  # of the wav file that holds them without loss

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.samples) / self.sample_rate

    def wav(self) -> Tensor:
        """(C, S) float32 in [-1, 1]."""
        scale = 2.0**-31 if self.samples.dtype == np.int32 else 1.0
        return torch.from_numpy((self.samples.T * scale).astype(np.float32))


def read_recording(path: Path) -> Recording:
    """Read a file without touching a sample; errors as `utils.audio.read_audio`.

    Lossy files are what the decoder makes of them, as floating point.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such audio file")
    try:
        subtype = soundfile.info(path).subtype
        is_integer = subtype in ("PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32")
        dtype = "int32" if is_integer else "float64"
        samples, sample_rate = soundfile.read(path, dtype=dtype, always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise ValueError(f"{path}: not readable as audio ({error})") from error
    if not len(samples):
        raise ValueError(f"{path}: the file is audio but holds no samples")
    kept = {"PCM_S8": "PCM_U8", "DOUBLE": "DOUBLE"}  # wav knows no signed 8 bits
    written = kept.get(subtype, subtype if is_integer else "FLOAT")
    recording = Recording(path, samples, sample_rate, written)
    check_finite(recording.wav(), path)
    return recording


def write_recording(path: Path, recording: Recording) -> None:
    """Write as wav in the recording's own sample format."""
    rate, subtype = recording.sample_rate, recording.subtype
    with atomic(path) as temporary:
        soundfile.write(temporary, recording.samples, rate, subtype=subtype, format="WAV")


def read_accompaniment(path: Path, sample_rate: int) -> tuple[Tensor, AudioInfo]:
    """Read mono (S,) at `sample_rate`, and what the file was; ValueError for NaN and silence."""
    wav, file_rate = read_audio(path)
    check_finite(wav, path)
    mono, info = convert(wav, file_rate, sample_rate)
    level = rms_level(mono)
    if level < SILENCE_LEVEL:
        raise ValueError(
            f"{path} is silent in mono ({level:.0f} dBFS RMS, expected at least "
            f"{SILENCE_LEVEL:.0f}): there is nothing to sing to. To speak lyrics alone, leave "
            "--accompaniment out"
        )
    return mono, info


def check_finite(wav: Tensor, path: Path) -> None:
    """Raise ValueError when samples (C, S) are NaN or infinite, saying how many and where."""
    if not torch.isfinite(wav).all():
        broken = ~torch.isfinite(wav).all(0)
        first = int(broken.nonzero()[0])
        raise ValueError(
            f"{path}: {int(broken.sum())} samples are NaN or infinite, the first is sample "
            f"{first}; export the recording again"
        )


def pad_to(wav: Tensor, length: int) -> Tensor:
    """(..., S) cut, or continued in silence, to `length` samples."""
    return F.pad(wav, (0, length - wav.shape[-1]))


# ---------------------------------------------------------------------------- levels


def training_gain(
    accompaniment: Tensor,
    vocal: Tensor | None,
    data: Mapping[str, Any],
    sigma_data: float,
    sample_rate: int,
) -> float:
    """The factor that brings a song (S,) to the level that the inpainter was trained on.

    With a vocal as in training: the loudness of the mix (`data["loudness"]`, LUFS). Without one the
    RMS of the accompaniment is brought to that of the corpus. A peak stays within full scale.
    """
    rms = data.get("statistics", {}).get("accompaniment", sigma_data)
    gain = rms / 10 ** (rms_level(accompaniment) / 20)
    peak = accompaniment.abs().max()
    if vocal is not None and "loudness" in data:
        level = loudness(vocal + accompaniment, sample_rate)
        gain = 10 ** ((data["loudness"] - level) / 20) if math.isfinite(level) else gain
        peak = torch.maximum(peak, vocal.abs().max())
    return min(gain, 1.0 / peak.item())


def draft_gain(draft: Tensor, vocal: Tensor, data: Mapping[str, Any], block_length: int) -> float:
    """The factor that brings a draft (S,) to the level that vocals have for the inpainter.

    That is the level of the take `vocal` (S,) that it is sung into, or, where that is silent, the
    RMS of the corpus's vocals; 1 where neither is known. Levels are of what sounds, in blocks of
    `block_length` samples.
    """
    own, target = (active_level(wav, block_length) for wav in (draft, vocal))
    rms = data.get("statistics", {}).get("vocal")
    if not math.isfinite(target):
        target = 20 * math.log10(rms) if rms else own
    return 10 ** ((target - own) / 20) if math.isfinite(own) else 1.0


# ---------------------------------------------------------------------------- what is to be made


@dataclass(frozen=True)
class Song:
    """A song at the network's rate and level, and the parts of its vocal that are to be made."""

    accompaniment: Tensor  # (S,)
    vocal: Tensor  # (S,), zeros where there is none
    info: AudioInfo  # of the accompaniment's file
    recording: Recording | None  # the vocal's file
    file_ranges: tuple[tuple[int, int], ...]  # samples [start, stop) of the vocal's file
    regions: tuple[tuple[float, float], ...]  # the same in seconds
    ranges: tuple[tuple[int, int], ...]  # the same in samples at the network's rate
    gain: float  # network's level over the files' level
    remarks: tuple[str, ...]

    @property
    def rate(self) -> int:
        """Samples per second of the vocal that is handed back: of its file, or of the song's."""
        return self.recording.sample_rate if self.recording else self.info.sample_rate

    @property
    def seconds(self) -> float:
        """Duration of the accompaniment."""
        return self.info.num_samples / self.info.sample_rate


def open_song(
    accompaniment_path: Path,
    vocal_path: Path | None,
    inpaint: str | None,
    extend: float | None,
    sample_rate: int,
    data: Mapping[str, Any],
    sigma_data: float,
) -> Song:
    """Read a song for an inpainter at `sample_rate` whose checkpoint carries `data`.

    Without a vocal all of it is to be made, as long as the accompaniment. With one, the ranges
    `inpaint` of it are, and `extend` seconds behind its end. A song is as long as the longer file;
    the other goes on in silence. Raises FileNotFoundError and ValueError for files, ranges and
    combinations that cannot be used.
    """
    check_request(vocal_path, inpaint, extend)
    accompaniment, info = read_accompaniment(accompaniment_path, sample_rate)
    if vocal_path is None:
        whole = (0, len(accompaniment))
        gain = training_gain(accompaniment, None, data, sigma_data, sample_rate)
        return Song(
            accompaniment * gain,
            torch.zeros_like(accompaniment),
            info,
            None,
            ((0, info.num_samples),),
            ((0.0, info.num_samples / info.sample_rate),),
            (whole,),
            gain,
            tuple(info.conversions),
        )
    recording = read_recording(vocal_path)
    remarks = [*info.conversions]
    file_ranges, notes = ranges_of(recording, inpaint, extend, info)
    remarks += notes
    seconds = tuple((a / recording.sample_rate, b / recording.sample_rate) for a, b in file_ranges)
    vocal = resample(to_mono(recording.wav()), recording.sample_rate, sample_rate)
    ranges = [(math.floor(a * sample_rate), math.ceil(b * sample_rate)) for a, b in seconds]
    length = max(len(accompaniment), len(vocal), ranges[-1][1])
    accompaniment, vocal = pad_to(accompaniment, length), pad_to(vocal, length)
    gain = training_gain(accompaniment, vocal, data, sigma_data, sample_rate)
    return Song(
        accompaniment * gain,
        vocal * gain,
        info,
        recording,
        tuple(file_ranges),
        seconds,
        tuple(merge_ranges(ranges, length, 1)),
        gain,
        tuple(remarks),
    )


def check_request(vocal_path: Path | None, inpaint: str | None, extend: float | None) -> None:
    """Raise ValueError for flags that do not go together."""
    if vocal_path is None and (inpaint or extend is not None):
        raise ValueError(
            "--inpaint and --extend change an existing vocal: give it with --vocal FILE"
        )
    if vocal_path is not None and not inpaint and extend is None:
        raise ValueError(
            "--vocal alone leaves nothing to make: say which parts with --inpaint START-END, or "
            "continue it with --extend SECONDS"
        )
    if extend is not None and not (math.isfinite(extend) and extend > 0):
        raise ValueError(f"--extend {extend}: expected a number of seconds above 0")


def ranges_of(
    recording: Recording, inpaint: str | None, extend: float | None, info: AudioInfo
) -> tuple[list[tuple[int, int]], list[str]]:
    """The samples [start, stop) of a vocal's file that are to be made, and remarks on them."""
    rate, length = recording.sample_rate, len(recording.samples)
    ranges: list[tuple[int, int]] = []
    remarks: list[str] = []
    if inpaint:
        parsed = parse_ranges(inpaint, recording.seconds)
        remarks += parsed.remarks
        for start, end in parsed.seconds:
            ranges.append((round(start * rate), min(round(end * rate), length)))
            if ranges[-1][0] >= ranges[-1][1]:
                raise ValueError(f"range {start}-{end}: shorter than a sample at {rate} Hz")
    if extend is not None:
        stop = length + max(1, round(extend * rate))
        song = info.num_samples / info.sample_rate
        if stop / rate > song + 0.5 / rate:
            raise ValueError(
                f"--extend {extend:g}: the vocal ({recording.seconds:.3f} s) would end at "
                f"{stop / rate:.3f} s, behind the accompaniment's end at {song:.3f} s. Extend by "
                f"at most {max(0.0, song - recording.seconds):.3f} s, or give a longer "
                "accompaniment"
            )
        ranges.append((length, stop))
    return merge_ranges(ranges, ranges[-1][1], 1), remarks
