"""Beats of an accompaniment: dynamic programming over onsets (Ellis 2007), by librosa, then order.

Beats are moved to the attacks, laid on a straight grid where the playing is steady, brought to a
moderate tempo by halves and doubles, and continued to both ends of the audio.
"""

from __future__ import annotations

import librosa
import numpy as np

SILENCE = 1e-3  # level (-60 dBFS) below which nothing is heard
DEFAULT_TEMPO = 100.0  # beats per minute of the grid that stands in for a missing beat
HOP_SECONDS = 0.016  # of the onset envelope
ONSET_LAG = 0.0215  # s by which the envelope peaks after an attack (window and centring; measured)
SLOWEST, FASTEST = 60.0, 160.0  # beats per minute: slower pulses are subdivided, faster ones halved
BASS = 250.0  # Hz: bass notes tell beats from what lies between them
EDGE = 5  # frames at the start of the audio that are no sign of an attack
ONSET_FLOOR = 2.5  # dB: rise of the mean mel band at an attack; noise and drones stay below
BEAT_FLOOR = 0.12  # autocorrelation of the onset envelope below which there is no clear beat
STEADY = 0.05  # share of the period: median residual up to which the beats are a straight grid


def track_beats(
    wav: np.ndarray, sample_rate: int, tempo: float | None
) -> tuple[np.ndarray, float, list[str]]:
    """Return beats (K,) in s over the whole audio, their confidence, and notes on fallbacks."""
    duration = len(wav) / sample_rate
    hop_length = round(HOP_SECONDS * sample_rate)
    envelope = _onsets(wav, sample_rate, hop_length, sample_rate / 2)
    if envelope[EDGE:].max(initial=0.0) > ONSET_FLOOR and np.abs(wav).max() > SILENCE:
        frame_rate = sample_rate / hop_length
        for bpm in (tempo, None if tempo else _slow_pulse(envelope, frame_rate)):
            _, frames = librosa.beat.beat_track(
                onset_envelope=envelope, sr=sample_rate, hop_length=hop_length, bpm=bpm, trim=False
            )
            if len(frames) < 4:
                continue
            confidence = _periodicity(envelope, float(np.median(np.diff(frames))))
            if confidence >= BEAT_FLOOR:
                times = _refined(frames, envelope) / frame_rate - ONSET_LAG
                beats = _steady(times, duration)
                if not tempo:
                    low = _onsets(wav, sample_rate, hop_length, BASS)
                    weight = envelope / envelope.max() + low / max(float(low.max()), 1e-9)
                    beats = _moderate(beats, weight, frame_rate)
                return beats, confidence, []
    period = 60.0 / (tempo or DEFAULT_TEMPO)
    note = f"no clear beat: a steady grid of {60 / period:.0f} beats per minute from 0 s stands in"
    return np.arange(0.0, duration, period), 0.0, [note]


def _onsets(wav: np.ndarray, sample_rate: int, hop_length: int, highest: float) -> np.ndarray:
    """Return the onset envelope (T,), dB of rise per mel band, of what lies below `highest` Hz."""
    return librosa.onset.onset_strength(
        y=wav,
        sr=sample_rate,
        hop_length=hop_length,
        n_fft=4 * hop_length,
        n_mels=128 if highest > BASS else 4,
        fmax=highest,
    )


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
