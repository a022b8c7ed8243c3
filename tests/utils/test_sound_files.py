"""Sound files and rates without torch: the same samples as with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from utils import scratch, sound_files, without_torchaudio
from utils.audio import read_audio, resample
from utils.sound_files import RESAMPLING, AudioInfo, read_samples, resampled


@pytest.mark.parametrize(
    ("old", "new"), [(22050, 16000), (44100, 16000), (48000, 16000), (16000, 22050)]
)
def test_rates_change_as_in_torch(old: int, new: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound_files, "BLOCK", 5000)
    wav = np.random.default_rng(0).standard_normal(30_011).astype(np.float32)
    ours, expected = resampled(wav, old, new), resample(torch.from_numpy(wav), old, new).numpy()
    assert ours.shape == expected.shape and ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, atol=3e-4)  # torchaudio's kernels are of float32
    exact = torch.from_numpy(wav).double()[None]
    exactly = without_torchaudio.Resample(old, new, **RESAMPLING, dtype=torch.float64)
    expected = exactly(exact)[0].numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_a_song_shorter_than_the_filter_is_resampled() -> None:
    wav = np.ones(7, np.float32)
    expected = resample(torch.from_numpy(wav), 44100, 16000).numpy()
    np.testing.assert_allclose(resampled(wav, 44100, 16000), expected, atol=1e-4)
    assert resampled(wav, 16000, 16000) is wav
    with pytest.raises(ValueError, match="too fine to"):
        resampled(wav, 44101, 16000)


def test_files_are_read_as_with_torch_also_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32768, (9000, 2)).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 44100)
    monkeypatch.setattr(scratch, "SMALL", 1000)
    expected, rate = read_audio(tmp_path / "a.wav")
    with scratch.on(tmp_path):
        ours, own_rate = read_samples(tmp_path / "a.wav")
        again, _ = read_audio(tmp_path / "a.wav")
        assert torch.equal(again, expected)
    assert own_rate == rate and np.array_equal(ours, expected.numpy())
    ours[0, 0] = 0.5  # a map of the file without a name, which may be written
    assert AudioInfo.of(ours.shape, 44100, 16000).conversions == (
        "2 channels to mono",
        "44100 Hz to 16000 Hz",
    )
