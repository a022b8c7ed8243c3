"""Sound files and rates without torch: the same samples as with it."""

from __future__ import annotations

import os
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


def recorded(path: Path, seconds: float = 2.0, **format: str) -> int:
    """Write noise of 16 kHz; return the bytes of the file."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(round(16000 * seconds))
    soundfile.write(path, noise, 16000, **format)
    return path.stat().st_size


@pytest.mark.parametrize("suffix", ["wav", "aiff", "au", "w64", "rf64", "mp3"])
def test_a_file_that_was_cut_off_is_read_and_said(
    suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"song.{suffix}"
    size = recorded(path, **({"format": "RF64"} if suffix == "rf64" else {}))
    whole, _ = sound_files.read_samples(path)
    assert not caplog.records and whole.shape[1] == pytest.approx(32000, abs=1200)
    os.truncate(path, size // 2)
    part, _ = sound_files.read_samples(path)
    assert 0.4 * 32000 < part.shape[1] < 0.6 * 32000
    sound_files.read_samples(path)
    (record,) = caplog.records  # once
    said = record.getMessage()
    assert f"{path}: cut off: its header promises 2.0 s, {part.shape[1] / 16000:.1f} s" in said


def test_a_recording_out_of_a_pipe_is_not_called_cut_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "song.wav"
    recorded(path)
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    for unknown in (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f"):
        content[place : place + 4] = unknown
        path.write_bytes(content)
        assert sound_files.read_samples(path)[0].shape == (1, 32000)
    assert not caplog.records
