"""A backing band of additive tones for the tests: chords at known times, rendered quickly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from composer.harmony import Harmony

SAMPLE_RATE = 16000


@dataclass(frozen=True)
class Backing:
    """A rendered accompaniment and the truth: beats (K,) in s, chords (K,) as in harmony."""

    wav: np.ndarray
    sample_rate: int
    beats: np.ndarray
    chords: np.ndarray
    is_downbeat: np.ndarray
    tempo: float


def tone(midi: float, seconds: float, harmonics: int, decay: float) -> np.ndarray:
    """Return a struck tone: partials at 1/h, each dying away faster the higher it is."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    frequency = 440.0 * 2.0 ** ((midi - 69) / 12)
    partials = [
        np.sin(2 * np.pi * h * frequency * time) / h * np.exp(-time * decay * h**0.5)
        for h in range(1, harmonics + 1)
        if h * frequency < SAMPLE_RATE / 2
    ]
    envelope = np.minimum(1.0, time / 0.005) * np.minimum(1.0, (seconds - time) / 0.02)
    return np.sum(partials, axis=0) * envelope


def render_backing(
    progression: Sequence[int],
    tempo: float,
    metre: int = 4,
    bars: int = 16,
    lead: float = 0.3,
    pattern: str = "band",
    seed: int = 0,
) -> Backing:
    """Return `bars` bars over a repeated progression, one chord (0-23, 24 = none) per bar.

    `pattern`: "band" (bass, chords on the beats, a hat), "arpeggio" (broken chords over a bass),
    "pad" (held chords only). `lead` seconds of silence come first.
    """
    rng = np.random.default_rng(seed)
    period = 60.0 / tempo
    count = bars * metre
    beats = lead + period * np.arange(count)
    wav = np.zeros(int((lead + count * period + 1.0) * SAMPLE_RATE))
    chords = np.array([progression[(beat // metre) % len(progression)] for beat in range(count)])

    def play(sound: np.ndarray, seconds: float, gain: float) -> None:
        start = round(seconds * SAMPLE_RATE)
        sound = sound[: len(wav) - start]
        wav[start : start + len(sound)] += gain * sound

    for beat, chord in enumerate(chords):
        is_first = beat % metre == 0
        if pattern == "band":
            hat = rng.standard_normal(800) * np.exp(-np.arange(800) / 120)
            play(np.diff(hat, prepend=0.0), beats[beat], 0.04)
            play(np.diff(hat, prepend=0.0), beats[beat] + period / 2, 0.02)
        if chord == 24:
            continue
        root, third = int(chord) % 12, 4 if chord < 12 else 3
        voicing = [48 + (root + step) % 12 for step in (0, third, 7)]
        if pattern == "pad":
            if is_first:
                for midi in [36 + root, *[12 + note for note in voicing]]:
                    play(tone(midi, metre * period, 6, 0.3), beats[beat], 0.12)
            continue
        if is_first or (metre == 4 and beat % metre == 2):
            play(tone(36 + root, 2 * period, 8, 1.5), beats[beat], 0.35 if is_first else 0.25)
        if pattern == "arpeggio":
            for half in (0, 1):
                midi = 12 + voicing[(2 * beat + half) % 3]
                play(tone(midi, 1.5 * period, 8, 2.0), beats[beat] + half * period / 2, 0.2)
        else:
            for midi in voicing:
                play(tone(12 + midi, period, 8, 3.0), beats[beat], 0.12)
    wav = wav / max(np.abs(wav).max(), 1e-9) * 0.7
    is_downbeat = np.arange(count) % metre == 0
    return Backing(wav.astype(np.float32), SAMPLE_RATE, beats, chords, is_downbeat, tempo)


def chord_at(harmony: Harmony, seconds: float) -> int:
    """The chord that sounds at a time; before the first beat, the first chord."""
    index = int(np.searchsorted(harmony.beats, seconds, side="right")) - 1
    return int(harmony.chords[max(0, index)])
