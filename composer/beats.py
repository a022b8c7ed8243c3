"""Beats of an accompaniment: dynamic programming over onsets (Ellis 2007), then a tidy grid.

Beats are moved to the attacks, laid on a straight grid where the playing is steady, brought to a
moderate tempo by halves and doubles, and continued to both ends of the audio.

The onset envelope, the tempo and the dynamic programme give the numbers of librosa.beat (compared
in the tests), whose functions are compiled anew in every process: seconds before the first beat.
Shapes: S samples, T frames, F bins, M mel bands, K beats.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from utils import scratch
from utils.sound_files import mel_frequencies

SILENCE = 1e-3  # level (-60 dBFS) below which a recording counts as silent
BINS_PER_OCTAVE = 36
LOWEST = 440.0 * 2.0 ** ((24 - 69) / 12)  # Hz, C1, lowest bin of the constant-Q transform
BASS_OCTAVES, OCTAVES = 2, 6
CHUNK = 512  # frames transformed at once: memory does not grow with the song
HALF_BAND = 9  # taps on either side; what lies between the octave below and its mirror is free
TUNING_STEP = 0.01  # semitones
MOST_FRAMES = 4096  # that tuning and tempo are estimated from; of a longer song evenly spaced ones


def frames_of(
    wav: np.ndarray, length: int, hop_length: int, every: int = 1
) -> Iterator[np.ndarray]:
    """Yield centred frames of (S,) in chunks (up to CHUNK, length); silence around the ends.

    every: of how many chunks one is yielded.
    """
    margin = length // 2
    count = 1 + (len(wav) + 2 * margin - length) // hop_length
    for first in range(0, count, every * CHUNK):
        last = min(first + CHUNK, count) - 1
        low, high = first * hop_length - margin, last * hop_length - margin + length
        part = wav[max(0, low) : max(0, high)]
        part = np.pad(part, (max(0, -low), high - max(0, low) - len(part)))
        frames = np.lib.stride_tricks.sliding_window_view(part, length)[::hop_length]
        yield np.ascontiguousarray(frames)
        scratch.forget()


def constant_q(wav: np.ndarray, sample_rate: int, hop_length: int, lowest: float) -> np.ndarray:
    """Return constant-Q magnitudes of (S,) from `lowest` Hz on, (T, OCTAVES · BINS_PER_OCTAVE).

    Octave by octave from the top, at half the rate each time (Schörkhuber & Klapuri 2010). Windows
    are Hann, of equal weight; magnitudes grow with the square root of the window's length.
    """
    spacing = 2.0 ** (2.0 / BINS_PER_OCTAVE)  # from the neighbour below to the one above
    q = (spacing + 1.0) / (spacing - 1.0)  # centre frequency over bandwidth
    octaves: list[np.ndarray] = []
    signal, rate, hop = wav, float(sample_rate), hop_length
    for octave in reversed(range(OCTAVES)):
        steps = octave + np.arange(BINS_PER_OCTAVE) / BINS_PER_OCTAVE
        frequencies = lowest * 2.0**steps
        lengths = q * rate / frequencies  # samples at this rate
        kernels = _kernels(frequencies / rate, lengths)  # (n, bins)
        scale = np.sqrt(lengths * sample_rate / rate)
        parts = [
            np.hypot(part @ kernels.real, part @ kernels.imag)
            for part in frames_of(signal, len(kernels), hop)
        ]
        octaves.insert(0, np.concatenate(parts) * scale)
        if octave:
            signal, rate, hop = halved(signal), rate / 2, hop // 2
    count = min(len(part) for part in octaves)
    return np.concatenate([part[:count] for part in octaves], axis=1)


def halved(wav: np.ndarray) -> np.ndarray:
    """Return (S,) at half its rate, (⌈S / 2⌉,), sample 0 where it was: a Kaiser half-band filter.

    It is flat to 0.25 of the old Nyquist frequency, and 0.75 and more are 78 dB down: what folds
    back between them reaches no octave below.
    """
    taps = np.arange(-HALF_BAND, HALF_BAND + 1, 2)  # the other ones are 0, but for the middle
    window = np.i0(8.0 * np.sqrt(1 - np.square(taps / (HALF_BAND + 1)))) / np.i0(8.0)
    kernel = (np.sinc(taps / 2) / 2 * window).astype(np.float32)
    kernel *= 0.5 / kernel.sum()
    reach = (HALF_BAND + 1) // 2
    result = scratch.zeros_array((-(-len(wav) // 2),), np.dtype(np.float32))
    for start, stop in scratch.blocks(len(result)):
        first, last = max(0, start - reach), stop + reach
        even, odd = wav[2 * start : 2 * stop : 2], wav[2 * first + 1 : 2 * last : 2]
        missing = last - first - len(odd)
        odd = np.pad(odd, (first - (start - reach), missing))
        around = np.convolve(odd, kernel)[2 * reach - 1 :][: stop - start]
        result[start:stop] = 0.5 * even + around
    return result


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
    for part in frames_of(wav, n_fft, hop_length, -(-len(wav) // (hop_length * MOST_FRAMES))):
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
    if max(wav.max(), -wav.min()) <= SILENCE:
        return np.zeros((len(beats), 12)), np.zeros((len(beats), 12))
    lowest = LOWEST * 2.0 ** (estimate_tuning(wav, sample_rate) / 12)
    spectrum = constant_q(wav, sample_rate, hop_length, lowest)  # (T, bins)
    around = np.pad(spectrum, ((4, 4), (0, 0)), mode="symmetric")  # nine frames: drums are shorter
    windows = np.lib.stride_tricks.sliding_window_view(around, 9, axis=0)
    sustained = spectrum
    for first in range(0, len(windows), CHUNK):
        sustained[first : first + CHUNK] = np.median(windows[first : first + CHUNK], axis=-1)
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


DEFAULT_TEMPO = 100.0  # beats per minute of the grid that stands in for a missing beat
HOP_SECONDS = 0.016  # of the onset envelope
ONSET_LAG = 0.0215  # s by which the envelope peaks after an attack (window and centring; measured)
SLOWEST, FASTEST = 60.0, 160.0  # beats per minute: slower pulses are subdivided, faster ones halved
BASS = 250.0  # Hz: bass notes tell beats from what lies between them
EDGE = 5  # frames at the start of the audio that are no sign of an attack
ONSET_FLOOR = 2.5  # dB: rise of the mean mel band at an attack; noise and drones stay below
BEAT_FLOOR = 0.12  # autocorrelation of the onset envelope below which there is no clear beat
TEMPO_WINDOW = 8.0  # s of onsets whose autocorrelation shows the tempo
LIKELIEST_TEMPO = 120.0  # beats per minute: the centre of the prior, one octave (std) wide
HIGHEST_TEMPO = 320.0  # beats per minute, that the prior allows
TIGHTNESS = 100.0  # cost of leaving the tempo, per square of the log of the ratio
DYNAMICS = 80.0  # dB below the loudest band that onsets are seen in
STEADY = 0.05  # share of the period: median residual up to which the beats are a straight grid


def track_beats(
    wav: np.ndarray, sample_rate: int, tempo: float | None
) -> tuple[np.ndarray, float, list[str]]:
    """Return beats (K,) in s over the whole audio, their confidence, and notes on fallbacks."""
    duration = len(wav) / sample_rate
    hop_length = round(HOP_SECONDS * sample_rate)
    envelope, low = onset_strengths(wav, sample_rate, hop_length, (sample_rate / 2, BASS))
    if envelope[EDGE:].max(initial=0.0) > ONSET_FLOOR and max(wav.max(), -wav.min()) > SILENCE:
        frame_rate = sample_rate / hop_length
        for bpm in (tempo, None if tempo else _slow_pulse(envelope, frame_rate)):
            frames = beat_frames(envelope, bpm or likely_tempo(envelope, frame_rate), frame_rate)
            if len(frames) < 4:
                continue
            confidence = _periodicity(envelope, float(np.median(np.diff(frames))))
            if confidence >= BEAT_FLOOR:
                times = _refined(frames, envelope) / frame_rate - ONSET_LAG
                beats = _steady(times, duration)
                if not tempo:
                    weight = envelope / envelope.max() + low / max(float(low.max()), 1e-9)
                    beats = _moderate(beats, weight, frame_rate)
                return beats, confidence, []
    period = 60.0 / (tempo or DEFAULT_TEMPO)
    note = f"no clear beat: a steady grid of {60 / period:.0f} beats per minute from 0 s stands in"
    return np.arange(0.0, duration, period), 0.0, [note]


# ---------------------------------------------------------------------------- onsets and tempo


def onset_strengths(
    wav: np.ndarray, sample_rate: int, hop_length: int, highest: Sequence[float]
) -> list[np.ndarray]:
    """Return the onset envelopes (T,), dB of rise per mel band, of the sound below `highest` Hz."""
    n_fft = 4 * hop_length
    banks = [_mel_bands(sample_rate, n_fft, 128 if f > BASS else 4, f) for f in highest]
    window = np.hanning(n_fft + 1)[:-1].astype(np.float32)
    power: list[list[np.ndarray]] = [[] for _ in banks]
    for part in frames_of(wav, n_fft, hop_length):
        squares = np.square(np.abs(np.fft.rfft(part * window)))
        for rows, bank in zip(power, banks, strict=True):
            rows.append(squares @ bank)
    return [_rises(np.concatenate(rows), n_fft // (2 * hop_length)) for rows in power]


def _rises(level: np.ndarray, delay: int) -> np.ndarray:
    """Return the mean rise (T,) in dB of powers (T, M); a frame sees an attack `delay` earlier."""
    np.maximum(level, 1e-10, out=level)
    np.multiply(np.log10(level, out=level), 10.0, out=level)
    np.maximum(level, level.max() - DYNAMICS, out=level)
    rises = [
        np.maximum(np.diff(level[first : first + CHUNK + 1], axis=0), 0.0).mean(axis=1)
        for first in range(0, len(level) - 1, CHUNK)
    ]
    rise = np.concatenate(rises) if rises else np.zeros(0)
    return np.pad(rise, (1 + delay, 0))[: len(level)].astype(np.float32)


def _mel_bands(sample_rate: int, n_fft: int, bands: int, highest: float) -> np.ndarray:
    """Return triangles of equal area on Slaney's mel scale, from 0 to `highest` Hz, (F, M)."""
    edges = mel_frequencies(bands + 2, highest)
    bins = np.fft.rfftfreq(n_fft, 1.0 / sample_rate)[:, None]  # (F, 1)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    return np.maximum(triangles, 0.0) * 2.0 / (high - low)


def likely_tempo(envelope: np.ndarray, frame_rate: float) -> float:
    """Return the tempo whose period stands out in the autocorrelation of the onsets, in bpm.

    The autocorrelation is that of windows of TEMPO_WINDOW s, each relative to its own maximum.
    """
    width = int(TEMPO_WINDOW * frame_rate)
    padded = np.pad(envelope, width // 2, mode="linear_ramp", end_values=0.0)
    every = -(-len(envelope) // MOST_FRAMES)
    windows = np.lib.stride_tricks.sliding_window_view(padded, width)[: len(envelope) : every]
    hann = np.hanning(width + 1)[:-1]
    size = 1 << (2 * width - 1).bit_length()
    total = np.zeros(width)
    for first in range(0, len(windows), 512):  # in flat memory
        spectrum = np.fft.rfft(windows[first : first + 512] * hann, size)
        correlation = np.fft.irfft(np.square(np.abs(spectrum)), size)[:, :width]
        largest = np.abs(correlation).max(axis=1, keepdims=True)
        total += (correlation / np.where(largest > 1e-30, largest, 1.0)).sum(axis=0)
    bpm = 60.0 * frame_rate / np.arange(1, width)  # of a lag in frames
    log_prior = -0.5 * np.square(np.log2(bpm / LIKELIEST_TEMPO))
    log_prior[bpm >= HIGHEST_TEMPO] = -np.inf
    return float(bpm[np.argmax(np.log1p(1e6 * total[1:] / len(windows)) + log_prior)])


# ---------------------------------------------------------------------------- beats


def beat_frames(envelope: np.ndarray, bpm: float, frame_rate: float) -> np.ndarray:
    """Return the frames (K,) of the best path of beats through the onsets (Ellis 2007, eq. 3).

    A beat's score is its smoothed onset, plus the best score among the frames half a period to two
    periods before it, less TIGHTNESS · log²(interval / period).
    """
    if not envelope.any():
        return np.array([], dtype=int)
    period = np.round(60.0 * frame_rate / bpm)
    offsets = np.arange(-period, period + 1)
    onsets = envelope / envelope.std(ddof=1)
    local = np.convolve(onsets, np.exp(-0.5 * np.square(32.0 * offsets / period)))
    local = local[int(period) : int(period) + len(envelope)]  # centred on the onset
    nearest = int(np.round(period / 2))
    lags = np.arange(nearest, int(2 * period) + 1)
    cost = TIGHTNESS * np.square(np.log(lags / period))
    score, before = local.copy(), np.full(len(local), -1)
    has_begun = False
    for frame in range(len(local)):
        reach = min(len(lags), frame - nearest + 1)  # predecessors within the audio
        has_begun = has_begun or local[frame] >= 0.01 * local.max()
        if reach <= 0:
            continue
        chances = score[frame - lags[:reach]] - cost[:reach]
        best = int(chances.argmax())
        score[frame] += chances[best]
        if has_begun:
            before[frame] = frame - lags[best]
    beats = [_last_beat(score)]
    while before[beats[-1]] >= 0:
        beats.append(int(before[beats[-1]]))
    path = np.array(beats[::-1])
    sounding = np.flatnonzero(local > 0)
    return path[(path >= sounding[0]) & (path <= sounding[-1])]


def _last_beat(score: np.ndarray) -> int:
    """Return the last frame whose score is a peak of at least half the median peak."""
    padded = np.pad(score, 1, mode="edge")
    is_peak = (score > padded[:-2]) & (score >= padded[2:])
    if not is_peak.any():
        return len(score) - 1
    return int(np.flatnonzero(is_peak & (score >= 0.5 * np.median(score[is_peak])))[-1])


def _slow_pulse(envelope: np.ndarray, frame_rate: float) -> float:
    """Return a tempo that divides the strongest period of the onsets, up to 6 s (held chords)."""
    centred = envelope - envelope.mean()
    length = min(len(envelope) // 2, round(6 * frame_rate))
    lags = np.arange(round(0.3 * frame_rate), max(length, round(0.3 * frame_rate) + 1))
    strength = [float(np.dot(centred[:-lag], centred[lag:])) for lag in lags]
    tempo = 60 * frame_rate / lags[int(np.argmax(strength))]
    return min((tempo * n for n in (1, 2, 3, 4, 6, 8)), key=lambda bpm: abs(np.log(bpm / 100)))


def _moderate(beats: np.ndarray, envelope: np.ndarray, frame_rate: float) -> np.ndarray:
    """Return every second beat of a hasty pulse, the stronger ones; a slow pulse subdivided."""
    while 60 / np.median(np.diff(beats)) >= FASTEST:
        frames = np.minimum(np.round(beats * frame_rate).astype(int), len(envelope) - 1)
        strength = envelope[frames]
        beats = beats[int(strength[1::2].mean() > strength[::2].mean()) :: 2]
    while 60 / np.median(np.diff(beats)) < SLOWEST:
        between = (beats[:-1] + beats[1:]) / 2
        beats = np.sort(np.concatenate([beats, between]))
    return beats


def _periodicity(envelope: np.ndarray, period: float) -> float:
    """Return the autocorrelation of the onsets at 1, 2 or 4 beats, the largest, within ±1 frame."""
    centred = envelope - envelope.mean()
    power = float(np.dot(centred, centred))
    lags = [round(period * n) + shift for n in (1, 2, 4) for shift in (-1, 0, 1)]
    values = [np.dot(centred[:-lag], centred[lag:]) for lag in lags if 0 < lag < len(envelope) // 2]
    return float(np.clip(max(values, default=0.0) / max(power, 1e-9), 0.0, 1.0))


def _refined(frames: np.ndarray, envelope: np.ndarray) -> np.ndarray:
    """Return beat frames moved to the onset peak within ±2 frames, by a parabola below a frame."""
    refined = frames.astype(float)
    for index, frame in enumerate(frames):
        low, high = max(1, frame - 2), min(len(envelope) - 1, frame + 3)
        if high <= low:
            continue
        peak = low + int(np.argmax(envelope[low:high]))
        left, middle, right = envelope[peak - 1 : peak + 2]
        curvature = left - 2 * middle + right
        if curvature < 0:
            refined[index] = peak + np.clip(0.5 * (left - right) / curvature, -0.5, 0.5)
    return refined


def _steady(times: np.ndarray, duration: float) -> np.ndarray:
    """Return beats that reach from the start to the end, on a straight line if they nearly are."""
    period = float(np.median(np.diff(times)))
    counts = np.concatenate([[0], np.cumsum(np.maximum(1, np.round(np.diff(times) / period)))])
    keep = np.ones(len(times), dtype=bool)
    for _ in range(3):  # least squares, without what lies far off
        slope, offset = np.polyfit(counts[keep], times[keep], 1)
        residual = np.abs(times - slope * counts - offset)
        keep = residual <= max(3 * float(np.median(residual)), 1e-3)
    if np.median(residual) <= STEADY * slope and keep.mean() > 0.6:
        first = max(0.0, offset - slope * np.floor((offset + ONSET_LAG) / slope))
        return np.arange(first, duration - slope / 4, slope)
    return _to_the_ends(times, period, duration)


def _to_the_ends(times: np.ndarray, period: float, duration: float) -> np.ndarray:
    """Return beats continued at `period` seconds to the start and the end of the audio."""
    before = np.arange(times[0] - period, -1e-9, -period)[::-1]
    after = np.arange(times[-1] + period, duration - period / 4, period)
    return np.concatenate([before, times, after])
