"""What makes a voice understood in a mix: presence, a dip of the accompaniment, a room.

Linear-phase and zero-latency filters: samples stay where they are. Where nobody sings, and the
release of the dip and the room's tail are over, every function returns its input bit by bit.
Shapes: C channels, S samples, n frames of FRAME_SECONDS.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from utils.audio_functional import lfilter

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
    if not gain or not voice.any():
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
    shelved = lfilter(voice.double(), *shelf, clamp=False)
    return _near(voice, shelved.numpy(), ROOM_SECONDS * sample_rate)


def room(voice: Tensor, sample_rate: int, level: float) -> Tensor:
    """Return a room's sound (C, S) around a voice (C, S), `level` times as strong as the voice.

    Exponentially decaying noise, another in each channel, as diffuse reflections are.
    """
    if not level or not voice.any():
        return torch.zeros_like(voice)
    samples = round(ROOM_SECONDS * sample_rate)
    delay = round(ROOM_DELAY * sample_rate)
    noise = np.random.default_rng(SEED).standard_normal((len(voice), samples))
    noise *= 10 ** (-3 * np.arange(samples) / samples)
    high = min(ROOM_BAND[1], 0.45 * sample_rate)
    band = band_pass(ROOM_BAND[0], high, sample_rate)
    impulses = lfilter(torch.from_numpy(noise), *band, clamp=False).numpy()
    impulses *= level / np.sqrt(np.square(impulses).sum(1, keepdims=True))
    impulses = np.pad(impulses, ((0, 0), (delay, 0)))
    length = voice.shape[1]
    wet = convolved(voice.double().numpy(), impulses)[:, :length]
    return _near(voice, wet, impulses.shape[1])


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
    if not dip or not voice.any() or not accompaniment.any():
        return accompaniment
    taps = 2 * round(BAND_TAPS_SECONDS * sample_rate / 2) + 1
    high = min(BAND[1], 0.45 * sample_rate)
    kernel = windowed_band(taps, BAND[0], high, sample_rate)
    parts = [wav.double().numpy() for wav in (accompaniment, voice)]
    backing, sung = (
        convolved(part, kernel)[:, taps // 2 : taps // 2 + part.shape[1]] for part in parts
    )
    depth = dip_depth(_level(sung, sample_rate), _level(backing, sample_rate), dip)  # (n,)
    centres = (np.arange(len(depth)) + 0.5) * round(FRAME_SECONDS * sample_rate)
    gain = 10 ** (-np.interp(np.arange(accompaniment.shape[1]), centres, depth) / 20) - 1
    return accompaniment + torch.from_numpy(gain * backing).to(accompaniment.dtype)


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


def _level(wav: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return the smoothed level (n,) in dB per frame of (C, S), the last frame padded."""
    hop = round(FRAME_SECONDS * sample_rate)
    power = np.square(wav).mean(0)
    power = np.pad(power, (0, -len(power) % hop)).reshape(-1, hop).mean(1)
    mirrored = np.pad(power, SMOOTHING_FRAMES // 2, mode="symmetric")
    smooth = np.convolve(mirrored, np.full(SMOOTHING_FRAMES, 1 / SMOOTHING_FRAMES), "valid")
    return 10 * np.log10(np.maximum(smooth, 1e-12))
