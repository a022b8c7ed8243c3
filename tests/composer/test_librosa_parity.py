"""Onsets, tempo, beats, tuning and constant-Q against librosa's, which this project replaces."""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest
import torch

from composer import beats
from utils import scratch
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
    (ours,) = beats.onset_strengths(wav, RATE, HOP, (highest,))
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, atol=2e-3)  # dB


@pytest.mark.parametrize("bpm", [None, 90.0, 143.0])
def test_beats_are_librosas(wav: np.ndarray, bpm: float | None) -> None:
    (envelope,) = beats.onset_strengths(wav, RATE, HOP, (8000.0,))
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


@pytest.mark.parametrize("count", [40_001, (1 << 20) + 3])
def test_half_the_rate_keeps_the_octave_below_and_folds_nothing_into_it(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(scratch, "BLOCK", 1 << 16)
    time = np.arange(count) / RATE
    below, above = (np.sin(2 * np.pi * f * time).astype(np.float32) for f in (2000.0, 6000.0))
    ours = beats.halved(below)
    assert len(ours) == -(-count // 2)
    np.testing.assert_allclose(ours[50:-50], below[::2][50:-50], atol=2e-3)
    assert np.abs(beats.halved(above)[50:-50]).max() < 2e-3


def test_of_a_long_song_tuning_and_tempo_are_those_of_its_parts(
    wav: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    envelope = beats.onset_strengths(wav, RATE, HOP, (8000.0,))[0]
    whole = beats.estimate_tuning(wav, RATE), beats.likely_tempo(envelope, RATE / HOP)
    monkeypatch.setattr(beats, "MOST_FRAMES", len(envelope) // 3)
    monkeypatch.setattr(beats, "CHUNK", 16)
    parts = beats.estimate_tuning(wav, RATE), beats.likely_tempo(envelope, RATE / HOP)
    assert parts[0] == pytest.approx(whole[0], abs=0.06 if len(wav) > 12 * RATE else 1.0)
    assert parts[1] == pytest.approx(whole[1])
