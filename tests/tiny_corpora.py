"""Corpora of seconds: songs as stems, and the score that a songbook would have for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from tiny import TINY

from corpora.cache import write_index

RATE = TINY.audio.sample_rate
SUNG: dict[str, Any] = {  # of a song of stems: a word of two symbols, a rest, another word
    "pitch": [60, 60, 64],
    "onset": [0.25, 0.4, 1.0],
    "offset": [0.4, 0.75, 1.5],
    "position": [1, 2, 1],
    "slur": [0, 0, 0],
    "notes": [[0.25, 0.75, 60], [1.0, 1.5, 64]],
}


def harmonic_songs(directory: Path, count: int, samples: int) -> Path:
    """Write songs, a folder each: a voice's harmonics (vocal) over noise (accompaniment)."""
    time = np.arange(samples) / RATE
    for number in range(count):
        folder = directory / f"song-{number}"
        folder.mkdir(parents=True)
        tone = sum(np.sin(2 * np.pi * (150 + 20 * number) * k * time) / k for k in range(1, 9))
        soundfile.write(folder / "vocal.wav", 0.1 * tone, RATE)
        noise = np.random.default_rng(number).standard_normal(samples)
        soundfile.write(folder / "accompaniment.wav", 0.1 * noise, RATE)
    return directory


def stem_corpus(directory: Path, count: int) -> Path:
    """Write songs of two seconds, a folder each: two notes (vocal) over a drone (accompaniment)."""
    time = np.arange(2 * RATE) / RATE
    for number in range(count):
        folder = directory / f"song-{number:02d}"
        folder.mkdir(parents=True)
        vocal = np.zeros(len(time))
        for onset, offset, pitch in SUNG["notes"]:
            hertz = 440 * 2 ** ((pitch - 69) / 12)
            vocal += np.sin(2 * np.pi * hertz * time) * ((time >= onset) & (time < offset))
        drone = np.sin(2 * np.pi * (110 + number) * time)
        soundfile.write(folder / "vocal.wav", 0.3 * vocal, RATE)
        soundfile.write(folder / "accompaniment.wav", 0.2 * drone, RATE)
    return directory


def add_scores(directory: Path) -> None:
    """Write into an index of stems what a songbook would have: symbols and notes of every song."""
    index = json.loads((directory / "index.json").read_text())
    for item in index["items"]:
        item |= {"symbols": ["S", "IY1", "AA1"], "score": SUNG}
    write_index(directory, {k: v for k, v in index.items() if k != "checksum"})
