"""Onsets, tempo, beats, tuning and constant-Q against librosa's, which this project replaces."""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest
import torch

from composer import beats
from utils.audio import read_wav

RATE = 16000
HOP = 256
SONG = Path(__file__).resolve().parents[2] / "examples" / "evening-sun.ogg"


@pytest.fixture(scope="module", params=["song", "arpeggio", "noise"])
def wav(request: pytest.FixtureRequest) -> np.ndarray:
    """20 s of the example's accompaniment; of tones 30 cents sharp in a limping pulse; of noise."""
    random = np.random.default_rng(5)
    if request.param == "song":
        return read_wav(SONG, RATE)[0][: 20 * RATE].numpy()
    if request.param == "noise":
        return (0.1 * random.standard_normal(12 * RATE)).astype(np.float32)
    wav = 0.001 * random.standard_normal(20 * RATE)
    onset = 0.2
    for number in range(60):
        onset += 0.31 if number % 3 else 0.36
        start = round(onset * RATE)
        time = np.arange(min(RATE, len(wav) - start)) / RATE
        hertz = 440.0 * 2 ** ((random.integers(36, 76) + 0.3 - 69) / 12)
        tone = sum(np.sin(2 * np.pi * k * hertz * time) / k for k in (1, 2, 3))
        wav[start : start + len(time)] += 0.1 * tone * np.exp(-4 * time)
        if onset > 18.5:
            break
    return wav.astype(np.float32)


@pytest.mark.parametrize(("highest", "bands"), [(8000.0, 128), (250.0, 4)])
def test_onsets_are_librosas(wav: np.ndarray, highest: float, bands: int) -> None:
    expected = librosa.onset.onset_strength(
        y=wav, sr=RATE, hop_length=HOP, n_fft=1024, n_mels=bands, fmax=highest
    )
    ours = beats.onset_strength(wav, RATE, HOP, highest)
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, atol=2e-3)  # dB


@pytest.mark.parametrize("bpm", [None, 90.0, 143.0])
def test_beats_are_librosas(wav: np.ndarray, bpm: float | None) -> None:
    envelope = beats.onset_strength(wav, RATE, HOP, 8000.0)
    tempo, expected = librosa.beat.beat_track(
        onset_envelope=envelope, sr=RATE, hop_length=HOP, bpm=bpm, trim=False
    )
    if bpm is None:
        bpm = beats.likely_tempo(envelope, RATE / HOP)
        assert bpm == pytest.approx(float(np.atleast_1d(tempo)[0]))
    assert beats.beat_frames(envelope, bpm, RATE / HOP).tolist() == expected.tolist()


def test_silence_has_no_beats() -> None:
    assert len(beats.beat_frames(np.zeros(500, np.float32), 120.0, 62.5)) == 0


def test_tuning_is_librosas(wav: np.ndarray) -> None:
    expected = librosa.estimate_tuning(y=wav, sr=RATE, bins_per_octave=12)
    assert beats.estimate_tuning(wav, RATE) == pytest.approx(expected, abs=1e-6)
    assert beats.estimate_tuning(np.zeros(RATE, np.float32), RATE) == 0.0


def test_constant_q_magnitudes_are_librosas(wav: np.ndarray) -> None:
    expected = np.abs(
        librosa.cqt(
            wav,
            sr=RATE,
            hop_length=512,
            fmin=beats.LOWEST,
            n_bins=beats.OCTAVES * beats.BINS_PER_OCTAVE,
            bins_per_octave=beats.BINS_PER_OCTAVE,
            tuning=0.0,
            sparsity=0.0,
        )
    ).T
    ours = beats.constant_q(wav, RATE, 512, beats.LOWEST)
    count = min(len(ours), len(expected))
    assert abs(len(ours) - len(expected)) <= 1
    inside = slice(8, count - 8)
    error = np.abs(ours[inside] - expected[inside]).max() / expected.max()
    assert error < 0.02


def test_frames_are_centred_and_chunks_join() -> None:
    wav = torch.arange(1.0, 6001.0).numpy()
    frames = np.concatenate([*beats.frames_of(wav, 8, 10)])
    assert len(frames) == 601 and frames[0].tolist() == [0, 0, 0, 0, 1, 2, 3, 4]
    assert (frames[1:600, 4] == wav[10:6000:10]).all()
