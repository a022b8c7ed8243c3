"""Chroma of an accompaniment: a tuned constant-Q transform, folded to pitch classes, per beat.

The tuning is librosa's number, the transform its magnitudes but for rounding (compared in the
tests), without the seconds that librosa.core takes to load.
Shapes: S samples, T frames, F bins, K beats.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch

from utils.audio import resample

SILENCE = 1e-3  # level (-60 dBFS) below which a recording counts as silent
BINS_PER_OCTAVE = 36
LOWEST = 440.0 * 2.0 ** ((24 - 69) / 12)  # Hz, C1, lowest bin of the constant-Q transform
BASS_OCTAVES, OCTAVES = 2, 6
CHUNK = 512  # frames transformed at once: memory does not grow with the song
TUNING_STEP = 0.01  # semitones


def frames_of(wav: np.ndarray, length: int, hop_length: int) -> Iterator[np.ndarray]:
    """Yield centred frames of (S,) in chunks (up to CHUNK, length); silence around the ends."""
    padded = np.pad(wav, length // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, length)[::hop_length]
    for first in range(0, len(frames), CHUNK):
        yield np.ascontiguousarray(frames[first : first + CHUNK])


def constant_q(wav: np.ndarray, sample_rate: int, hop_length: int, lowest: float) -> np.ndarray:
    """Return constant-Q magnitudes of (S,) from `lowest` Hz on, (T, OCTAVES · BINS_PER_OCTAVE).

    Octave by octave from the top, at half the rate each time (Schörkhuber & Klapuri 2010). Windows
    are Hann, of equal weight; magnitudes grow with the square root of the window's length.
    """
    spacing = 2.0 ** (2.0 / BINS_PER_OCTAVE)  # from the neighbour below to the one above
    q = (spacing + 1.0) / (spacing - 1.0)  # centre frequency over bandwidth
    octaves: list[np.ndarray] = []
    signal, rate, hop = torch.from_numpy(wav), float(sample_rate), hop_length
    for octave in reversed(range(OCTAVES)):
        steps = octave + np.arange(BINS_PER_OCTAVE) / BINS_PER_OCTAVE
        frequencies = lowest * 2.0**steps
        lengths = q * rate / frequencies  # samples at this rate
        kernels = _kernels(frequencies / rate, lengths)  # (n, bins)
        scale = np.sqrt(lengths * sample_rate / rate)
        parts = [
            np.hypot(part @ kernels.real, part @ kernels.imag)
            for part in frames_of(signal.numpy(), len(kernels), hop)
        ]
        octaves.insert(0, np.concatenate(parts) * scale)
        if octave:
            signal, rate, hop = resample(signal, 2, 1), rate / 2, hop // 2
    count = min(len(part) for part in octaves)
    return np.concatenate([part[:count] for part in octaves], axis=1)


def _kernels(frequencies: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return Hann-windowed complex sinusoids of frequencies in cycles per sample, (n, bins)."""
    size = 2 * int(np.ceil(lengths.max() / 2))
    time = np.arange(size)[:, None] - size // 2
    window = np.where(np.abs(time) < lengths / 2, 0.5 + 0.5 * np.cos(2 * np.pi * time / lengths), 0)
    kernels = window / window.sum(axis=0) * np.exp(-2j * np.pi * frequencies * time)
    return kernels.astype(np.complex64)


def estimate_tuning(wav: np.ndarray, sample_rate: int) -> float:
    """Return how far the tones of (S,) lie off A = 440 Hz, in semitones, -0.5 to 0.5.

    Spectral peaks between 150 and 4000 Hz are interpolated by a parabola; the stronger half of them
    votes.
    """
    n_fft, hop_length = 2048, 512
    window = np.hanning(n_fft + 1)[:-1].astype(np.float32)
    pitches, levels = [], []
    for part in frames_of(wav, n_fft, hop_length):
        spectrum = np.abs(np.fft.rfft(part * window))  # (T, F)
        left, middle, right = spectrum[:, :-2], spectrum[:, 1:-1], spectrum[:, 2:]
        loudest = spectrum.max(axis=1, keepdims=True)
        is_peak = (middle > left) & (middle >= right) & (middle > 0.1 * loudest)
        hertz = np.arange(1, n_fft // 2) * sample_rate / n_fft
        is_peak &= (hertz >= 150.0) & (hertz < min(4000.0, sample_rate / 2))
        curvature = left + right - 2 * middle
        shift = (left - right) / np.where(curvature < 0, 2 * curvature, -1.0)
        shift = np.where(np.abs(shift) < 1.0, shift, 0.0)
        frame, place = np.nonzero(is_peak)
        pitches.append((place + 1 + shift[frame, place]) * sample_rate / n_fft)
        slope = 0.5 * (right - left)
        levels.append(middle[frame, place] + 0.5 * (slope * shift)[frame, place])
    pitch, level = np.concatenate(pitches), np.concatenate(levels)
    if not len(pitch):
        return 0.0
    strong = pitch[level >= np.median(level)]
    off = np.mod(12 * np.log2(strong / 440.0) + 0.5, 1.0) - 0.5
    edges = np.linspace(-0.5, 0.5, round(1 / TUNING_STEP) + 1)
    counts, _ = np.histogram(off, edges)
    return float(edges[np.argmax(counts)])


def beat_chroma(
    wav: np.ndarray, sample_rate: int, beats: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return chroma of the whole range and of the bass per beat, each (K, 12), summing to 1."""
    hop_length = 2 ** round(np.log2(0.032 * sample_rate))
    if np.abs(wav).max() <= SILENCE:
        return np.zeros((len(beats), 12)), np.zeros((len(beats), 12))
    lowest = LOWEST * 2.0 ** (estimate_tuning(wav, sample_rate) / 12)
    spectrum = constant_q(wav, sample_rate, hop_length, lowest)  # (T, bins)
    around = np.pad(spectrum, ((4, 4), (0, 0)), mode="symmetric")  # nine frames: drums are shorter
    sustained = np.median(np.lib.stride_tricks.sliding_window_view(around, 9, axis=0), axis=-1)
    folds = sustained.reshape(len(sustained), OCTAVES, 12, 3).max(axis=-1)  # (T, octaves, 12)
    folds = np.log1p(20 * folds / max(float(folds.max()), 1e-9))
    edges = np.round(np.append(beats, len(wav) / sample_rate) * sample_rate / hop_length)
    edges = edges.astype(int)
    treble, bass = np.zeros((len(beats), 12)), np.zeros((len(beats), 12))
    for index, (start, end) in enumerate(pairwise(edges)):
        frames = folds[start : max(end, start + 1)]
        treble[index] = np.median(frames[:, BASS_OCTAVES:].sum(axis=1), axis=0)
        bass[index] = np.median(frames[:, :BASS_OCTAVES].sum(axis=1), axis=0)
    total = treble + bass
    return (
        total / np.maximum(total.sum(axis=1, keepdims=True), 1e-9),
        bass / np.maximum(bass.sum(axis=1, keepdims=True), 1e-9),
    )
