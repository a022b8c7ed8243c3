"""Open a song: read its files, find the parts to generate, match the network's rate and level.

The inpainter works in mono, at its own rate and at the loudness that it was trained on. Results
(singing/mixing.py) have the rate, the channels and the length of the files.
Shapes: C channels, S samples.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

from inpainter.windows import merge_ranges
from singing.melody import BackingAudio, backing_gain, read_accompaniment
from singing.request import SongFiles
from utils import scratch
from utils.audio import active_level, loudness, resample, to_mono, write_samples
from utils.files import reading
from utils.sound_files import AudioInfo, check_finite, decode, peak_of, unreadable

TIME = re.compile(r"\s*(?:(\d+):)?(\d+(?:\.\d*)?|\.\d+)\s*")  # minutes, seconds
RANGES_EXAMPLE = "START-END in seconds or minutes:seconds, as in 12.5-17.0,1:02-1:08.5"


# ---------------------------------------------------------------------------- files in

AUDIO_RMS = 0.1  # of songs where a checkpoint does not say how loud its own were


@dataclass(frozen=True)
class AudioFile:
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
        """Return (C, S) float32 in [-1, 1]."""
        scale = 2.0**-31 if self.samples.dtype == np.int32 else 1.0
        wav = scratch.zeros(self.samples.shape[::-1])
        for start, stop in scratch.blocks(len(self.samples)):
            part = (self.samples[start:stop].T * scale).astype(np.float32)
            wav[:, start:stop] = torch.from_numpy(part)
        return wav


def read_recording(path: Path) -> AudioFile:
    """Read a file without touching a sample; errors as `utils.audio.read_audio`.

    Lossy files are what the decoder makes of them, as floating point.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected an audio file")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such audio file")
    try:
        subtype = soundfile.info(path).subtype
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise ValueError(unreadable(path, error)) from error
    is_integer = subtype in ("PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32")
    samples, sample_rate = decode(path, "int32" if is_integer else "float64")
    kept = {"PCM_S8": "PCM_U8", "DOUBLE": "DOUBLE"}  # wav knows no signed 8 bits
    written = kept.get(subtype, subtype if is_integer else "FLOAT")
    recording = AudioFile(path, samples, sample_rate, written)
    check_finite(recording.wav().numpy(), path)
    return recording


def write_recording(path: Path, recording: AudioFile) -> None:
    """Write as wav in the recording's own sample format."""
    samples = recording.samples
    parts = (samples[start:stop] for start, stop in scratch.blocks(len(samples)))
    write_samples(path, parts, recording.sample_rate, recording.subtype, samples.shape[1])


def pad_to(wav: Tensor, length: int) -> Tensor:
    """Cut (..., S), or continue it in silence, to `length` samples."""
    if length <= wav.shape[-1]:
        return wav[..., :length]
    padded = scratch.zeros((*wav.shape[:-1], length), wav.dtype).to(wav.device)
    for start, stop in scratch.blocks(wav.shape[-1]):
        padded[..., start:stop] = wav[..., start:stop]
    return padded


# ---------------------------------------------------------------------------- levels


def training_gain(
    accompaniment: Tensor,
    vocal: Tensor | None,
    data: Mapping[str, Any],
    sigma_data: float,
    sample_rate: int,
) -> float:
    """Return the factor that brings a song (S,) to the level that the inpainter was trained on.

    With a vocal as in training: the loudness of the mix (`data["loudness"]`, LUFS). Without one the
    RMS of the accompaniment is brought to that of the corpus. A peak stays within full scale.
    """
    backing = accompaniment.cpu().numpy()
    if vocal is None or "loudness" not in data:
        return backing_gain(backing, data, sigma_data)
    both = scaled(vocal, 1.0)
    for start, stop in scratch.blocks(len(both)):
        both[start:stop] += accompaniment[start:stop]
    level = loudness(both, sample_rate)
    if not math.isfinite(level):
        return backing_gain(backing, data, sigma_data)
    gain = 10 ** ((data["loudness"] - level) / 20)
    return min(gain, 1.0 / max(peak_of(backing), peak_of(vocal.cpu().numpy())))


def scaled(wav: Tensor, gain: float) -> Tensor:
    """Return gain · wav of (..., S)."""
    return scratch.mapped(wav, lambda part: part * gain)


def draft_gain(draft: Tensor, vocal: Tensor, data: Mapping[str, Any], block_length: int) -> float:
    """Return the factor that brings a draft (S,) to the level that vocals have for the inpainter.

    That is the level of the take `vocal` (S,) that it is sung into, or, where that is silent, the
    RMS of the corpus's vocals; 1 where neither is known. Levels are of what sounds, in blocks of
    `block_length` samples.
    """
    own, target = (active_level(wav, block_length) for wav in (draft, vocal))
    rms = data.get("statistics", {}).get("vocal")
    if not math.isfinite(target):
        target = 20 * math.log10(rms) if rms else own
    return 10 ** ((target - own) / 20) if math.isfinite(own) else 1.0


# ---------------------------------------------------------------------------- parts of a song


@dataclass(frozen=True)
class TimeRanges:
    """Stretches (start, end) in seconds, sorted and apart from each other."""

    seconds: tuple[tuple[float, float], ...]
    remarks: tuple[str, ...] = ()  # ranges that were joined


def parse_ranges(text: str, duration: float) -> TimeRanges:
    """Parse the ranges of `text`, such as "12.5-17.0,1:02-1:08.5", in `duration` seconds of sound.

    Overlapping and touching ranges are joined, and a remark says so. Raises ValueError for text
    that is no list of ranges, for an end that is not behind its start, and for a range that is not
    inside the recording.
    """
    parsed = [_parse_range(part, duration) for part in text.split(",")]
    joined: list[tuple[float, float]] = []
    remarks = []
    for start, end in sorted(parsed):
        if joined and start <= joined[-1][1]:
            first = joined.pop()
            joined.append((first[0], max(first[1], end)))
            remarks.append(
                f"{first[0]:g}-{first[1]:g} s and {start:g}-{end:g} s meet: made again as one part"
            )
        else:
            joined.append((start, end))
    return TimeRanges(tuple(joined), tuple(remarks))


def _parse_range(part: str, duration: float) -> tuple[float, float]:
    edges = [TIME.fullmatch(edge) for edge in part.split("-")]
    times = [60.0 * int(edge[1] or 0) + float(edge[2]) for edge in edges if edge is not None]
    if len(edges) != 2 or len(times) != 2:
        raise ValueError(f"range {part.strip()!r}: expected {RANGES_EXAMPLE}")
    start, end = times
    if end <= start:
        raise ValueError(
            f"range {part.strip()!r} ends at {end:g} s, which is not behind its start at "
            f"{start:g} s: expected {RANGES_EXAMPLE}"
        )
    if end > duration:
        raise ValueError(
            f"range {part.strip()!r} is not inside the recording: expected 0 to {duration:.3f} s"
        )
    return start, end


def vocal_ranges(
    recording: AudioFile, files: SongFiles, info: AudioInfo
) -> tuple[list[tuple[int, int]], list[str]]:
    """Return the samples [start, stop) of a vocal's file to generate, and remarks on them.

    info: of the accompaniment, which no extension outlasts.
    """
    rate, length = recording.sample_rate, len(recording.samples)
    ranges: list[tuple[int, int]] = []
    remarks: list[str] = []
    if files.inpaint:
        try:
            parsed = parse_ranges(files.inpaint, recording.seconds)
        except ValueError as error:
            raise ValueError(f"--inpaint {files.inpaint} of {recording.path}: {error}") from None
        remarks += parsed.remarks
        for start, end in parsed.seconds:
            ranges.append((round(start * rate), min(round(end * rate), length)))
            if ranges[-1][0] >= ranges[-1][1]:
                raise ValueError(f"range {start}-{end}: shorter than a sample at {rate} Hz")
    if files.extend is not None:
        stop = length + max(1, round(files.extend * rate))
        song = info.num_samples / info.sample_rate
        if stop / rate > song + 0.5 / rate:
            raise ValueError(
                f"--extend {files.extend:g}: the vocal ({recording.seconds:.3f} s) would end at "
                f"{stop / rate:.3f} s, behind the accompaniment's end at {song:.3f} s. Extend by "
                f"at most {max(0.0, song - recording.seconds):.3f} s, or give a longer "
                "accompaniment"
            )
        ranges.append((length, stop))
    return merge_ranges(ranges, ranges[-1][1], 1), remarks


# ---------------------------------------------------------------------------- the open song


@dataclass(frozen=True)
class SongAudio:
    """A song at the network's rate and level, and the parts of its vocal to generate."""

    accompaniment: Tensor  # (S,)
    vocal: Tensor  # (S,), zeros where there is none
    info: AudioInfo  # of the accompaniment's file
    recording: AudioFile | None  # the vocal's file
    file_ranges: tuple[tuple[int, int], ...]  # samples [start, stop) of the vocal's file
    regions: tuple[tuple[float, float], ...]  # the same in seconds
    ranges: tuple[tuple[int, int], ...]  # the same in samples at the network's rate
    gain: float  # network's level over the files' level
    remarks: tuple[str, ...]
    path: Path | None = None  # of the accompaniment

    @property
    def rate(self) -> int:
        """Sample rate of the finished vocal: its file's, or the accompaniment's."""
        return self.recording.sample_rate if self.recording else self.info.sample_rate

    @property
    def seconds(self) -> float:
        """Duration of the accompaniment."""
        return self.info.num_samples / self.info.sample_rate

    def backing(self, sample_rate: int) -> BackingAudio:
        """Return the accompaniment, and the parts to generate when there is a vocal."""
        regions = self.regions if self.recording else None
        wav = self.accompaniment.numpy()
        return BackingAudio(wav, sample_rate, self.seconds, regions, self.path)


def open_song(
    files: SongFiles, sample_rate: int, data: Mapping[str, Any], sigma_data: float
) -> SongAudio:
    """Read a song for an inpainter at `sample_rate` whose checkpoint carries `data`.

    Without a vocal all of it is generated, as long as the accompaniment. With one, its ranges
    `inpaint` are, and `extend` seconds behind its end. A song is as long as the longer file; the
    other continues in silence. Raises FileNotFoundError and ValueError for files and ranges that
    cannot be used.
    """
    backing, info = read_accompaniment(files.accompaniment, sample_rate)
    accompaniment = torch.from_numpy(backing)
    if files.vocal is None:
        gain = training_gain(accompaniment, None, data, sigma_data, sample_rate)
        return SongAudio(
            scaled(accompaniment, gain),
            scratch.zeros(accompaniment.shape),
            info,
            None,
            ((0, info.num_samples),),
            ((0.0, info.num_samples / info.sample_rate),),
            ((0, len(accompaniment)),),
            gain,
            tuple(info.conversions),
            files.accompaniment,
        )
    recording = read_recording(files.vocal)
    file_ranges, remarks = vocal_ranges(recording, files, info)
    seconds = tuple((a / recording.sample_rate, b / recording.sample_rate) for a, b in file_ranges)
    with reading(files.vocal):
        vocal = resample(to_mono(recording.wav()), recording.sample_rate, sample_rate)
    ranges = [(math.floor(a * sample_rate), math.ceil(b * sample_rate)) for a, b in seconds]
    length = max(len(accompaniment), len(vocal), ranges[-1][1])
    accompaniment, vocal = pad_to(accompaniment, length), pad_to(vocal, length)
    gain = training_gain(accompaniment, vocal, data, sigma_data, sample_rate)
    return SongAudio(
        scaled(accompaniment, gain),
        scaled(vocal, gain),
        info,
        recording,
        tuple(file_ranges),
        seconds,
        tuple(merge_ranges(ranges, length, 1)),
        gain,
        (*info.conversions, *remarks),
        files.accompaniment,
    )
