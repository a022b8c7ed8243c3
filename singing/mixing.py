"""Mix a generated vocal: paste its parts into the recording, add it to the accompaniment.

Everything that was not generated stays as it was in the files: samples, rate, channels, length.
Shapes: C channels, S samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from inpainter.windows import cross_fade
from singing.song import AudioFile, SongAudio, pad_to, scaled
from utils import scratch
from utils.audio import loudness, loudness_beside, read_audio, resample, to_mono, true_peak
from utils.audio_functional import lfilter

if TYPE_CHECKING:
    from hyperparams import Mixing


FRAME_SECONDS = 0.01  # s, of levels and gains
SMOOTHING_FRAMES = 5  # 50 ms, about a syllable's rise: levels do not follow single periods
BAND = (1000.0, 4000.0)  # Hz, where consonants and second formants are told apart
BAND_TAPS_SECONDS = 0.008  # s, of the band's filter: edges of 250 Hz
QUIET = 35.0  # dB under the voice's loud frames (95 %) at which it counts as silent
MARGIN = 6.0  # dB over the accompaniment in BAND that the dip aims at
ATTACK = 0.05  # s for the whole dip, before the voice begins
RELEASE = 0.4  # s for it to go back, behind the voice's end
SHELF = 2500.0  # Hz, where the presence shelf has half of its gain in dB
ROOM_SECONDS = 0.5  # s until the room's sound has fallen by 60 dB: a small studio
ROOM_DELAY = 0.015  # s before its first reflection: the words stay dry
ROOM_BAND = (250.0, 6000.0)  # Hz of its sound: no rumble, no hiss
SEED = 0  # of the room's reflections, the same in every song


# The next three are scipy.signal's butter, firwin and oaconvolve (a test compares them): to import
# scipy takes a second of processor time, an eighth of a short song.


def band_pass(low: float, high: float, sample_rate: int) -> Tensor:
    """Return (2, 3) denominator and numerator of a first-order Butterworth band pass, bilinear."""
    twice = 2.0 * sample_rate
    first, last = (twice * math.tan(math.pi * edge / sample_rate) for edge in (low, high))
    width, centre = twice * (last - first), first * last
    whole = twice**2 + width + centre
    denominator = [whole, 2 * (centre - twice**2), twice**2 - width + centre]
    return torch.tensor([denominator, [width, 0.0, -width]], dtype=torch.float64) / whole


def windowed_band(taps: int, low: float, high: float, sample_rate: int) -> np.ndarray:
    """Return a linear-phase band pass (1, taps): Hamming window, gain 1 in the band's middle."""
    places = np.arange(taps) - (taps - 1) / 2
    edges = [2 * edge / sample_rate for edge in (low, high)]
    ideal = edges[1] * np.sinc(edges[1] * places) - edges[0] * np.sinc(edges[0] * places)
    kernel = ideal * np.hamming(taps)
    return (kernel / (kernel * np.cos(math.pi * sum(edges) / 2 * places)).sum())[None]


def convolved(wav: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve (C, S) with (C or 1, K) to (C, S + K − 1), block by block (overlap and add)."""
    taps = kernel.shape[1]
    size = 1 << max(14, (4 * taps).bit_length())
    spectrum = np.fft.rfft(kernel, size)
    result = np.zeros((wav.shape[0], wav.shape[1] + taps - 1))
    for first in range(0, wav.shape[1], size - taps + 1):
        block = np.fft.rfft(wav[:, first : first + size - taps + 1], size) * spectrum
        end = min(first + size, result.shape[1])
        result[:, first:end] += np.fft.irfft(block, size)[:, : end - first]
    return result


def presence(voice: Tensor, sample_rate: int, gain: float) -> Tensor:
    """Raise a voice (C, S) above SHELF by `gain` dB: a second-order shelf (RBJ cookbook, S = 1)."""
    if not gain or not is_sounding(voice):
        return voice
    a = 10 ** (gain / 40)
    w = 2 * math.pi * min(SHELF, 0.4 * sample_rate) / sample_rate
    alpha, cosine = math.sin(w) / math.sqrt(2), math.cos(w)
    root = 2 * math.sqrt(a) * alpha
    numerator = [
        a * ((a + 1) + (a - 1) * cosine + root),
        -2 * a * ((a - 1) + (a + 1) * cosine),
        a * ((a + 1) + (a - 1) * cosine - root),
    ]
    denominator = [
        (a + 1) - (a - 1) * cosine + root,
        2 * ((a - 1) - (a + 1) * cosine),
        (a + 1) - (a - 1) * cosine - root,
    ]
    shelf = torch.tensor([denominator, numerator], dtype=torch.float64)
    reach = round(ROOM_SECONDS * sample_rate)  # by then the filter has forgotten its start
    shelved = scratch.zeros(voice.shape, voice.dtype)
    for start, stop in scratch.blocks(voice.shape[1]):
        part = voice[:, max(0, start - reach) : stop]
        processed = lfilter(part.double(), *shelf, clamp=False)
        shelved[:, start:stop] = _near(part, processed.numpy(), reach)[:, start - stop :]
    return shelved


def reverb_tail(channels: int, sample_rate: int, level: float) -> np.ndarray:
    """Return a room's answer to a click (C, K), `level` times as strong as the click.

    Exponentially decaying noise, another in each channel, as diffuse reflections are.
    """
    samples = round(ROOM_SECONDS * sample_rate)
    delay = round(ROOM_DELAY * sample_rate)
    noise = np.random.default_rng(SEED).standard_normal((channels, samples))
    noise *= 10 ** (-3 * np.arange(samples) / samples)
    high = min(ROOM_BAND[1], 0.45 * sample_rate)
    band = band_pass(ROOM_BAND[0], high, sample_rate)
    impulses = lfilter(torch.from_numpy(noise), *band, clamp=False).numpy()
    impulses *= level / np.sqrt(np.square(impulses).sum(1, keepdims=True))
    return np.pad(impulses, ((0, 0), (delay, 0)))


def room(voice: Tensor, sample_rate: int, level: float) -> Tensor:
    """Return a room's sound (C, S) around a voice (C, S), `level` times as strong as the voice."""
    wet = scratch.zeros(voice.shape, voice.dtype)
    if not level or not is_sounding(voice):
        return wet
    impulses = reverb_tail(len(voice), sample_rate, level)
    reach = impulses.shape[1]
    for start, stop in scratch.blocks(voice.shape[1]):
        part = voice[:, max(0, start - reach) : stop]
        processed = convolved(part.double().numpy(), impulses)[:, : part.shape[1]]
        wet[:, start:stop] = _near(part, processed, reach)[:, start - stop :]
    return wet


def is_sounding(wav: Tensor) -> bool:
    """Say whether anything of (C, S) is not zero."""
    return any(bool(wav[:, a:b].any()) for a, b in scratch.blocks(wav.shape[1]))


def _near(voice: Tensor, processed: np.ndarray, reach: float) -> Tensor:
    """Return what was made of a voice, exact zeros farther than `reach` samples behind it."""
    places = np.arange(voice.shape[1])
    is_sounding = voice.abs().amax(0).numpy() > 0
    latest = np.maximum.accumulate(np.where(is_sounding, places, -len(places)))
    # Filters by FFT leave rounding errors everywhere: what is silent stays silent.
    return torch.from_numpy(processed * (places - latest < reach)).to(voice.dtype)


def dipped(accompaniment: Tensor, voice: Tensor, sample_rate: int, dip: float) -> Tensor:
    """Lower an accompaniment (C, S) in BAND under a voice (C', S) by `dip` dB at most.

    As deep as the voice needs to stand MARGIN over it there: a dynamic equaliser whose side chain
    is the voice.
    """
    if not dip or not is_sounding(voice) or not is_sounding(accompaniment):
        return accompaniment
    backing, sung = (_band_level(wav, sample_rate) for wav in (accompaniment, voice))
    depth = dip_depth(sung, backing, dip)  # (n,)
    centres = (np.arange(len(depth)) + 0.5) * round(FRAME_SECONDS * sample_rate)
    lowered = scratch.zeros(accompaniment.shape, accompaniment.dtype)
    for start, stop in scratch.blocks(accompaniment.shape[1]):
        gain = 10 ** (-np.interp(np.arange(start, stop), centres, depth) / 20) - 1
        change = torch.from_numpy(gain * _in_band(accompaniment, start, stop, sample_rate))
        lowered[:, start:stop] = accompaniment[:, start:stop] + change.to(accompaniment.dtype)
    return lowered


def _in_band(wav: Tensor, start: int, stop: int, sample_rate: int) -> np.ndarray:
    """Return what of the samples [start, stop) of (C, S) lies in BAND, (C, stop − start)."""
    taps = 2 * round(BAND_TAPS_SECONDS * sample_rate / 2) + 1
    high = min(BAND[1], 0.45 * sample_rate)
    kernel = windowed_band(taps, BAND[0], high, sample_rate)
    before = min(start, taps // 2)
    part = wav[:, start - before : stop + taps // 2].double().numpy()
    first = before + taps // 2
    return convolved(part, kernel)[:, first : first + stop - start]


def _band_level(wav: Tensor, sample_rate: int) -> np.ndarray:
    """Return the smoothed level (n,) in dB per frame of what of (C, S) lies in BAND.

    A last frame that is cut short counts as silent where it is missing.
    """
    hop = round(FRAME_SECONDS * sample_rate)
    parts = []
    for start, stop in scratch.blocks(wav.shape[1], scratch.BLOCK // hop * hop):
        power = np.square(_in_band(wav, start, stop, sample_rate)).mean(0)
        power = np.pad(power, (0, -len(power) % hop))  # the last frame
        parts.append(power.reshape(-1, hop).mean(1))
    return smoothed_level(np.concatenate(parts))


def smoothed_level(power: np.ndarray) -> np.ndarray:
    """Return the level (n,) in dB of powers (n,) averaged over SMOOTHING_FRAMES."""
    mirrored = np.pad(power, SMOOTHING_FRAMES // 2, mode="symmetric")
    smooth = np.convolve(mirrored, np.full(SMOOTHING_FRAMES, 1 / SMOOTHING_FRAMES), "valid")
    return 10 * np.log10(np.maximum(smooth, 1e-12))


def dip_depth(voice: np.ndarray, backing: np.ndarray, dip: float) -> np.ndarray:
    """Return the depth (n,) in dB, 0 to `dip`, from the levels (n,) in dB of both in the band.

    It begins before the voice does, so that it is there in time, and never moves faster than
    ATTACK and RELEASE allow: nothing pumps.
    """
    loud = np.percentile(voice[voice > voice.max() - 60], 95)
    needed = np.where(voice > loud - QUIET, np.clip(backing + MARGIN - voice, 0, dip), 0)
    ahead = max(1, round(ATTACK / FRAME_SECONDS))
    around = np.lib.stride_tricks.sliding_window_view(np.pad(needed, ahead), 2 * ahead + 1)
    needed = around.max(1)
    rise, fall = (dip * FRAME_SECONDS / seconds for seconds in (ATTACK, RELEASE))
    depth = np.empty_like(needed)
    now = 0.0
    for frame, target in enumerate(needed):
        now = min(max(target, now - fall), now + rise)
        depth[frame] = now
    return depth


CEILING = -1.05  # dBTP of a mix: under -1 after rounding to 16 bits
SEAM_SECONDS = 0.005  # s at an edge of a pasted part over which it is faded in
PREDICTION_ORDER = 32  # of the linear prediction that continues the known side over an edge
PREDICTION_SAMPLES = 2048  # it is measured on
MIN_PREDICTION = 16  # samples on the known side; with fewer the edge stays as it is


# ---------------------------------------------------------------------------- parts of a vocal


@dataclass(frozen=True)
class Pasted:
    """A recording with parts of it replaced."""

    recording: AudioFile
    clipped: int  # samples that were limited to full scale


def paste(
    recording: AudioFile,
    generated: Tensor,
    sample_rate: int,
    ranges: Sequence[tuple[int, int]],
) -> Pasted:
    """Put parts of `generated` (S,) at `sample_rate` into a recording; all else stays bit by bit.

    ranges: samples [start, stop) at the recording's rate, sorted and apart; the last may reach
    behind its end, which makes it longer. A part enters each channel at the level that the old
    mono mix had there, and is faded in over 5 ms inside its edges.
    """
    old = recording.wav()  # (C, S)
    length = max(len(recording.samples), *(stop for _, stop in ranges))
    new = pad_to(resample(generated, sample_rate, recording.sample_rate), length)
    samples = scratch.zeros_array((length, recording.samples.shape[1]), recording.samples.dtype)
    for start, stop in scratch.blocks(len(recording.samples)):
        samples[start:stop] = recording.samples[start:stop]
    fade = max(1, round(SEAM_SECONDS * recording.sample_rate))
    clipped = 0
    for start, stop in ranges:
        part = channel_gains(old)[:, None] * new[start:stop]  # (C, n)
        part = join(old[:, :start], part, old[:, stop:], fade)
        clipped += int((part.abs() > 1.0).sum())
        written = part.clamp(-1.0, 1.0).T.double().numpy()  # (n, C)
        is_integer = samples.dtype == np.int32
        samples[start:stop] = quantise(written, recording.subtype) if is_integer else written
    return Pasted(
        AudioFile(recording.path, samples, recording.sample_rate, recording.subtype), clipped
    )


def quantise(part: np.ndarray, subtype: str) -> np.ndarray:
    """Convert floats to int32 of full scale 2^31, rounded to the bits of the sample format."""
    bits = {"PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}[subtype]
    scale = 2 ** (bits - 1)
    whole = np.clip(np.round(part * scale), -scale, scale - 1).astype(np.int64)
    return (whole << (32 - bits)).astype(np.int32)


def channel_gains(wav: Tensor) -> Tensor:
    """Return the mono mix's share in each channel of (C, S) by least squares, (C,)."""
    power, shares = 0.0, torch.zeros(len(wav), dtype=torch.float64)
    for start, stop in scratch.blocks(wav.shape[1]):
        part = wav[:, start:stop].double()
        mono = wav[:, start:stop].mean(0).double()
        power += mono.square().sum().item()
        shares += part @ mono
    return (shares / power).float() if power else torch.ones(len(wav))


def join(before: Tensor, part: Tensor, after: Tensor, fade: int) -> Tensor:
    """Make `part` (C, n) continue the sound around it, whose samples stay as they are.

    At either edge the known side is continued into the part by linear prediction, and cross-faded
    with it over `fade` samples, or half of the part.
    """
    part = part.clone()
    fade = min(fade, part.shape[1] // 2)
    if fade and before.shape[1] >= MIN_PREDICTION:
        part[:, :fade] = cross_fade(continued(before, fade), part[:, :fade])
    if fade and after.shape[1] >= MIN_PREDICTION:
        ahead = continued(after.flip(1), fade)
        part[:, -fade:] = cross_fade(ahead, part[:, -fade:].flip(1)).flip(1)
    return part


def continued(wav: Tensor, count: int) -> Tensor:
    """Continue (C, S) by linear prediction, (C, count).

    The prediction dies away where the last samples are noise.
    """
    recent = wav[:, -PREDICTION_SAMPLES:].double().numpy()
    order = min(PREDICTION_ORDER, recent.shape[1] // 4)
    rows = []
    for channel in recent:
        if not channel.any():
            rows.append(np.zeros(count))
            continue
        coefficients = -prediction_error_filter(channel, order)[:0:-1]  # oldest sample first
        row = np.concatenate([channel[-order:], np.zeros(count)])
        for i in range(order, order + count):
            row[i] = coefficients @ row[i - order : i]
        rows.append(row[order:])
    return torch.from_numpy(np.stack(rows)).to(wav.dtype)


def prediction_error_filter(wav: np.ndarray, order: int) -> np.ndarray:
    """Return Burg's filter (1, a_1, ... a_order) of (S,): e[n] = Σ a_k x[n − k]; always stable."""
    forward, backward = wav[1:], wav[:-1]
    filter_ = np.ones(1)
    for _ in range(order):
        power = forward @ forward + backward @ backward
        k = -2.0 * (forward @ backward) / max(power, 1e-30)
        filter_ = np.append(filter_, 0.0)
        filter_ = filter_ + k * filter_[::-1]
        forward, backward = (forward + k * backward)[1:], (backward + k * forward)[:-1]
    return filter_


# ---------------------------------------------------------------------------- mix


@dataclass(frozen=True)
class Mix:
    """Vocal and accompaniment together, and the gains that were applied."""

    wav: Tensor  # (C, S)
    vocal_gain: float  # dB on the vocal: the balance
    gain: float  # dB on the sum: the ceiling
    levels: dict[str, float]  # LUFS of the stems as they are in the sum; dBTP of the mix
    # `accompaniment_under_vocal` is the accompaniment over the blocks in which the vocal sounds


def to_channels(vocal: Tensor, channels: int) -> Tensor:
    """Spread a vocal (C', S) over the channels of an accompaniment, (C, S).

    Mono and stereo alike; of more than two channels only the first two, front left and right, sing.
    """
    front = min(channels, 2)
    voices = vocal if len(vocal) == front else to_mono(vocal).expand(front, -1)
    if channels == front:
        return voices
    spread = scratch.zeros((channels, vocal.shape[1]), vocal.dtype)
    spread[:front] = voices
    return spread


def mix(accompaniment: Tensor, vocal: Tensor, sample_rate: int, knobs: Mixing | None = None) -> Mix:
    """Add a vocal (C', S) to an accompaniment (C, S) at the same rate, peak under -1 dBTP.

    knobs: the vocal's loudness (BS.1770-4) over the accompaniment's while it sings, and what makes
    it understood; None adds the two as they are. The shorter one goes on in silence.
    """
    length = max(accompaniment.shape[1], vocal.shape[1])
    accompaniment = pad_to(accompaniment, length)
    voices = to_channels(pad_to(vocal, length), len(accompaniment))
    if knobs is not None:
        voices = presence(voices, sample_rate, knobs.presence)
    levels = {
        "accompaniment": loudness(accompaniment, sample_rate),
        "accompaniment_under_vocal": loudness_beside(accompaniment, voices, sample_rate),
        "vocal": loudness(voices, sample_rate),
    }
    vocal_gain = 0.0
    if knobs is not None and all(math.isfinite(level) for level in levels.values()):
        vocal_gain = levels["accompaniment_under_vocal"] + knobs.balance - levels["vocal"]
        voices = scaled(voices, 10 ** (vocal_gain / 20))
        accompaniment = dipped(accompaniment, voices, sample_rate, knobs.dip)
        voices = added(voices, room(voices, sample_rate, knobs.room))
    wav = added(accompaniment, voices)
    levels["vocal"] += vocal_gain
    peak = true_peak(wav, sample_rate)
    gain = min(0.0, CEILING - peak)
    levels = {name: level + gain for name, level in levels.items()} | {"true_peak": peak + gain}
    return Mix(scaled(wav, 10 ** (gain / 20)), vocal_gain, gain, levels)


def added(one: Tensor, other: Tensor) -> Tensor:
    """Return the sum of two (C, S)."""
    total = scratch.zeros(one.shape, one.dtype)
    for start, stop in scratch.blocks(one.shape[1]):
        total[:, start:stop] = one[:, start:stop] + other[:, start:stop]
    return total


# ---------------------------------------------------------------------------- a finished song


@dataclass(frozen=True)
class MixedSong:
    """A finished vocal at the rate of its files, and its mix."""

    vocal: Tensor  # (C, S)
    recording: AudioFile | None  # the vocal's file with its new parts; None without one
    clipped: int  # samples that were limited to full scale
    mix: Mix
    mix_rate: int  # Hz


def mix_song(
    song: SongAudio, generated: Tensor, accompaniment: Path, sample_rate: int, knobs: Mixing
) -> MixedSong:
    """Bring a generated vocal (S,) at `sample_rate` to the files' rate and level, and mix it.

    knobs: of a new vocal, whose stem has its level in the mix, without presence and room; a vocal
    with a file is added as it is.
    """
    backing, rate = read_audio(accompaniment)  # (C, S), as it is
    generated = scaled(generated, 1 / song.gain)
    if song.recording is None:
        vocal = pad_to(resample(generated, sample_rate, rate), backing.shape[1])[None]
        mixed = mix(backing, vocal, rate, knobs)
        vocal = scaled(vocal, 10 ** (mixed.vocal_gain / 20))
        return MixedSong(vocal, None, 0, mixed, rate)
    pasted = paste(song.recording, generated, sample_rate, song.file_ranges)
    vocal = pasted.recording.wav()
    mixed = mix(backing, resample(vocal, song.rate, rate), rate)
    return MixedSong(vocal, pasted.recording, pasted.clipped, mixed, rate)
