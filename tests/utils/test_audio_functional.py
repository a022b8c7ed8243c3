"""The project's own five functions against torchaudio's, and the project without torchaudio."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperparams import Hyperparams
from utils import audio, without_torchaudio
from utils.audio import RESAMPLING, _k_weighting

ROOT = Path(__file__).resolve().parents[2]
WORDS = st.lists(st.sampled_from("abc"), max_size=8)


@pytest.fixture(scope="module")
def theirs():
    return pytest.importorskip(
        "torchaudio.functional", reason="torchaudio is not installed: nothing to compare with"
    )


@pytest.mark.parametrize(
    ("old", "new"), [(22050, 16000), (16000, 22050), (44100, 22050), (8000, 48000), (48000, 44100)]
)
@pytest.mark.parametrize("shape", [(1,), (37,), (2, 5001), (2, 1, 999)])
def test_resampling(theirs, old: int, new: int, shape: tuple[int, ...]) -> None:
    """Equal in double precision; torchaudio makes the filters of float32 signals in float32."""
    exact = torch.randn(
        shape, generator=torch.Generator().manual_seed(old + new), dtype=torch.float64
    )
    for wav, tolerance in ((exact, 1e-7), (exact.float(), 2e-4)):
        ours = without_torchaudio.Resample(old, new, **RESAMPLING, dtype=wav.dtype)(wav)
        expected = theirs.resample(wav, old, new, **RESAMPLING)
        assert ours.shape == expected.shape and ours.dtype == expected.dtype
        torch.testing.assert_close(ours, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("bands", [20, 80])
def test_filterbank(theirs, bands: int) -> None:
    audio = Hyperparams().audio
    shape = (audio.n_fft // 2 + 1, 0.0, audio.sample_rate / 2, bands, audio.sample_rate)
    ours = without_torchaudio.melscale_fbanks(*shape, "slaney", "slaney")
    expected = theirs.melscale_fbanks(*shape, "slaney", "slaney")
    assert ours.shape == expected.shape and ours.dtype == expected.dtype
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_recursive_filter(theirs, rate: int) -> None:
    wav = torch.randn(2, 4000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for numerator, denominator in _k_weighting(rate):
        ours = without_torchaudio.lfilter(wav, denominator, numerator, clamp=False)
        expected = theirs.lfilter(wav, denominator, numerator, clamp=False)
        torch.testing.assert_close(ours, expected, atol=1e-9, rtol=1e-9)


@settings(max_examples=80, deadline=None)
@given(first=WORDS, second=WORDS)
def test_edit_distance(theirs, first: list[str], second: list[str]) -> None:
    ours = without_torchaudio.edit_distance(first, second)
    assert ours == theirs.edit_distance(first, second)


def test_edit_distance_of_known_words() -> None:
    assert without_torchaudio.edit_distance("kitten", "sitting") == 3
    assert (
        without_torchaudio.edit_distance([], ["a", "b"])
        == without_torchaudio.edit_distance(["a", "b"], [])
        == 2
    )


def test_distance_of_gaussians(theirs) -> None:
    random = np.random.default_rng(3)
    parts = [torch.from_numpy(random.standard_normal((60, 12)) @ random.standard_normal((12, 12)))]
    parts.append(torch.from_numpy(random.standard_normal((60, 12))) + 0.5)
    moments = [m for part in parts for m in (part.mean(0), part.T.cov())]
    ours, expected = (
        without_torchaudio.frechet_distance(*moments),
        theirs.frechet_distance(*moments),
    )
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-6)
    assert abs(float(without_torchaudio.frechet_distance(*moments[:2], *moments[:2]))) < 1e-6


def test_the_chain_works_without_torchaudio() -> None:
    """Reading, resampling, features and loudness, in a process that has no torchaudio."""
    program = """
import sys
sys.modules["torchaudio"] = None
import torch
from hyperparams import Hyperparams
from utils import audio, audio_functional, metrics
import synthesis, evaluation.frechet
assert audio_functional.Resample.__module__ == "utils.without_torchaudio"
wav = torch.sin(torch.arange(44100) * 0.06)[None]
half = audio.resample(wav, 44100, 22050)
assert half.shape == (1, 22050)
assert audio.Features(Hyperparams().audio).mel(half).isfinite().all()
assert -4.5 < audio.loudness(wav, 44100) < -2.0, audio.loudness(wav, 44100)
assert metrics.word_errors(["a", "b"], ["a", "c"]) == (1, 2)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    assert "torchaudio" not in ran.stderr


def test_a_kept_kernel_resamples_as_a_new_one(theirs, monkeypatch) -> None:
    wav = torch.randn(2, 3000, generator=torch.Generator().manual_seed(0))
    for signal in (wav, wav.double(), wav):
        for old, new in ((22050, 16000), (16000, 44100), (22050, 16000)):
            expected = theirs.resample(signal, old, new, **RESAMPLING)
            assert torch.equal(audio.resample(signal, old, new), expected)
    found = audio._resampler.cache_info()
    assert found.hits >= 5
    monkeypatch.setattr(audio, "MOST_KEPT", 100)
    audio.resample(wav, 32000, 44100)
    assert audio._resampler.cache_info() == found
