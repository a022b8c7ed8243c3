"""Small corpora made on the spot, for every test that prepares or reads features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_chain import no_picture, run, sing, weights

__all__ = ["no_picture", "run", "sing", "speech_corpus", "weights"]  # fixtures for every test

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LINES = ("the wind blows", "hello again", "sing it once more", "we are late", "come home now")


def voice(seconds: float, sample_rate: int, seed: int) -> np.ndarray:
    """A gliding buzz with a syllable's envelope: (S,) float64, peak 0.5."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    pitch = random.uniform(90, 250) * (1 + 0.1 * np.sin(2 * np.pi * 3 * time))
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    buzz = sum(np.sin(k * phase) / k for k in range(1, 12))
    wav = buzz * (0.3 + 0.7 * np.sin(2 * np.pi * 4 * time) ** 2)
    wav += 0.05 * random.standard_normal(len(time))
    return 0.5 * wav / np.abs(wav).max()


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[..., int]:
    """Runs prepare_data with everything below tmp_path, in this process."""

    import prepare_data  # late: most tests prepare nothing

    def run(*arguments: str | Path) -> int:
        where = ["--feature-dir", str(tmp_path / "feature"), "--workers", "0"]
        return prepare_data.main([*map(str, arguments), *where])

    return run


@pytest.fixture
def speech_corpus(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder in the layout of LJ Speech; returns its path."""

    def make(num_items: int = 6, sample_rate: int = 22050, name: str = "corpus") -> Path:
        directory = tmp_path / name
        (directory / "wavs").mkdir(parents=True)
        rows = []
        for number in range(num_items):
            line = LINES[number % len(LINES)]
            rows.append(f"item-{number:03d}|{line}|{line}\n")
            wav = voice(0.7 + 0.11 * (number % 7), sample_rate, number)
            soundfile.write(directory / "wavs" / f"item-{number:03d}.wav", wav, sample_rate)
        (directory / "metadata.csv").write_text("".join(rows), encoding="utf-8")
        return directory

    return make


@pytest.fixture
def songs_on_the_example(tmp_path: Path, prepare: Callable[..., int]) -> Callable[..., Path]:
    """Prepares songs of some seconds on the example's accompaniment as corpus `x`, to train on."""

    def make(count: int, seconds: int, apart: int) -> Path:
        backing, rate = soundfile.read(EXAMPLES / "evening-sun.ogg")
        for number in range(count):
            folder = tmp_path / "songs" / f"song-{number}"
            folder.mkdir(parents=True)
            part = backing[number * apart * rate : (number * apart + seconds) * rate].mean(1)
            time = np.arange(len(part)) / rate
            tone = 0.2 * np.sin(2 * np.pi * 220 * 2 ** (np.floor(2 * time) % 4 / 6) * time)
            soundfile.write(folder / "vocal.wav", tone, rate)
            soundfile.write(folder / "accompaniment.wav", 0.5 * part, rate)
        shares = ["--validation-share", "0", "--test-share", "0"]
        assert prepare("stems", tmp_path / "songs", "--name", "x", *shares) == 0
        return tmp_path / "feature"

    return make
