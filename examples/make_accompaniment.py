"""Play the example's accompaniment, evening-sun.ogg: plucked strings, a bass and a shaker.

    python examples/make_accompaniment.py

Strings are delay lines with a low-pass in the loop (Karplus & Strong 1983). Nothing is sampled from
anywhere, so the sound is as free as this repository. 120 beats per minute, 4/4, two bars a line,
as examples/lyrics.lrc has it: introduction, verse, chorus, close.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import lfilter

SAMPLE_RATE = 22050  # Hz
BEAT = 0.5  # s
BARS = "C F | C Am F G | C G Am F C G F C | C C".replace("|", " ").split()  # a chord per bar
ROOTS = {"C": (48, 4), "F": (53, 4), "G": (55, 4), "Am": (45, 3)}  # MIDI, third in semitones
PATTERN = (0, 2, 3, 2, 1, 2, 3, 2)  # strings of the chord on the eighths of a bar
SEED = 7


def pluck(
    midi: float, seconds: float, brightness: float, random: np.random.Generator
) -> np.ndarray:
    """One string (S,): a burst of noise that goes round a damped loop of its own period."""
    period = SAMPLE_RATE / (440.0 * 2.0 ** ((midi - 69) / 12))
    delay = int(period - 0.5)
    fraction = period - 0.5 - delay  # linear interpolation of the loop's end tunes the string
    decay = 10 ** (-3 * period / SAMPLE_RATE / 2.5)  # -60 dB after 2.5 s
    loop = np.zeros(delay + 3)
    loop[delay : delay + 2] += 0.5 * decay * (1 - fraction)
    loop[delay + 1 : delay + 3] += 0.5 * decay * fraction
    burst = np.zeros(round(seconds * SAMPLE_RATE))
    noise = random.uniform(-1, 1, delay)
    burst[:delay] = lfilter([brightness], [1, brightness - 1], noise - noise.mean())
    string = lfilter([1.0], np.concatenate([[1.0], -loop[1:]]), burst)
    return string * np.minimum(1.0, (seconds - np.arange(len(string)) / SAMPLE_RATE) / 0.05)


def accompaniment() -> np.ndarray:
    """The whole song, (S, 2) in [-1, 1]."""
    random = np.random.default_rng(SEED)
    song = np.zeros((round((4 * len(BARS) + 1) * BEAT * SAMPLE_RATE), 2))

    def play(sound: np.ndarray, seconds: float, gain: float, pan: float) -> None:
        start = round(seconds * SAMPLE_RATE)
        sound = sound[: len(song) - start, None] * np.array([1 - pan, pan]) * gain
        song[start : start + len(sound)] += sound

    for bar, name in enumerate(BARS):
        root, third = ROOTS[name]
        strings = (root, root + 7, root + 12, root + 12 + third)
        begin, is_last = 4 * bar * BEAT, bar == len(BARS) - 1
        for beat in (0,) if is_last else (0, 2):
            play(pluck(root - 12, 4 * BEAT, 0.3, random), begin + beat * BEAT, 0.9, 0.5)
        for eighth, string in enumerate(PATTERN[: 4 if is_last else None]):
            time = begin + eighth * BEAT / 2
            loud = 0.55 if eighth % 4 == 0 else 0.4
            play(pluck(strings[string], 3 * BEAT, 0.6, random), time, loud, 0.35 + 0.1 * string)
            shaker = random.standard_normal(900) * np.exp(-np.arange(900) / 150.0)
            play(np.diff(shaker), time, 0.02 if eighth % 2 else 0.035, 0.65)
    return 0.5 * song / np.abs(song).max()


def main() -> int:
    """Write evening-sun.ogg beside this file."""
    path = Path(__file__).with_name("evening-sun.ogg")
    soundfile.write(path, accompaniment(), SAMPLE_RATE, format="OGG", subtype="VORBIS")
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
