"""Properties of files, features, phase recovery and levels."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import torch

from hyperparams import Audio
from utils import audio as audio_module
from utils.audio import (
    Features,
    Standardiser,
    active_level,
    griffin_lim,
    local_contrast,
    loudness,
    mel_filterbank,
    read_audio,
    read_wav,
    resample,
    rms_level,
    true_peak,
    write_wav,
)

torch.set_num_threads(1)
AUDIO = Audio()


def tone(frequency: float, seconds: float, sample_rate: int = 16000) -> torch.Tensor:
    time = torch.arange(round(seconds * sample_rate), dtype=torch.float64) / sample_rate
    return (0.5 * torch.sin(2 * math.pi * frequency * time)).float()


def chirp(seconds: float = 1.0) -> torch.Tensor:
    time = torch.arange(round(seconds * 16000), dtype=torch.float64) / 16000
    phase = 2 * math.pi * (200 * time + 600 * time.square())
    wav = sum(torch.sin(k * phase) / k for k in range(1, 6))
    return (0.2 * wav).float()


# ---- files


def test_sixteen_bit_files_survive_reading_and_writing_bit_for_bit(tmp_path: Path) -> None:
    integers = np.random.default_rng(0).integers(-32768, 32768, (5000, 2)).astype(np.int16)
    integers[:2] = [[-32768, 32767], [32767, -32768]]
    soundfile.write(tmp_path / "a.wav", integers, 44100, subtype="PCM_16")
    wav, rate = read_audio(tmp_path / "a.wav")
    assert write_wav(tmp_path / "b.wav", wav, rate) == 0.0
    again, _ = soundfile.read(tmp_path / "b.wav", dtype="int16")
    assert np.array_equal(again, integers)


def test_too_loud_is_attenuated_as_a_whole_and_said(tmp_path: Path, caplog) -> None:
    wav = 3 * tone(440, 0.1)
    with caplog.at_level("WARNING"):
        gain = write_wav(tmp_path / "loud.wav", wav, 16000)
    assert gain == pytest.approx(20 * math.log10(1 / 1.5), abs=0.01)
    assert "above full scale" in caplog.text
    read, _ = read_audio(tmp_path / "loud.wav")
    assert torch.allclose(read[0], wav / wav.abs().max(), atol=1e-4)


def test_non_finite_samples_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 samples are NaN"):
        write_wav(tmp_path / "x.wav", torch.tensor([0.0, math.nan]), 16000)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_formats_and_conversions_are_read_and_said(tmp_path: Path, suffix: str) -> None:
    stereo = torch.stack([tone(300, 0.5, 48000), tone(300, 0.5, 48000)]).T.numpy()
    soundfile.write(tmp_path / f"a.{suffix}", stereo, 48000)
    wav, info = read_wav(tmp_path / f"a.{suffix}", 16000)
    assert (info.sample_rate, info.channels) == (48000, 2)
    assert info.conversions == ("2 channels to mono", "48000 Hz to 16000 Hz")
    assert abs(len(wav) - 8000) <= 400
    assert rms_level(wav[1000:7000]) == pytest.approx(rms_level(tone(300, 0.5)), abs=0.3)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "FLOAT"])
def test_other_sample_types_and_many_channels(tmp_path: Path, subtype: str) -> None:
    wav = tone(500, 0.2, 192000)
    soundfile.write(tmp_path / "a.wav", wav[:, None].expand(-1, 6).numpy(), 192000, subtype)
    mono, _ = read_wav(tmp_path / "a.wav", 16000)
    assert (mono - tone(500, 0.2))[200:-200].abs().max() < (0.02 if subtype == "PCM_U8" else 2e-3)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such audio file"):
        read_audio(tmp_path / "none.wav")
    (tmp_path / "text.wav").write_text("not a wav")
    with pytest.raises(ValueError, match="not readable as audio"):
        read_audio(tmp_path / "text.wav")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16000)
    with pytest.raises(ValueError, match="no samples"):
        read_audio(tmp_path / "empty.wav")


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 24000, 44100, 48000, 96000])
def test_resampling_neither_shifts_nor_colours(rate: int) -> None:
    wav = resample(tone(1000, 1.0, rate), rate, 16000)
    assert len(wav) == 16000
    assert (wav - tone(1000, 1.0))[500:-500].abs().max() < 2e-3


def test_rates_without_a_ratio_are_refused() -> None:
    with pytest.raises(ValueError, match="44101 Hz to 16000 Hz"):
        resample(torch.zeros(100), 44101, 16000)


# ---- features


def test_features_agree_with_librosa() -> None:
    wav = chirp()
    mel, linear = Features(AUDIO)(wav[None])
    spectrum = np.abs(librosa.stft(wav.numpy(), n_fft=1024, hop_length=256, pad_mode="constant"))
    bank = librosa.filters.mel(sr=16000, n_fft=1024, n_mels=80)
    assert np.allclose(linear[0].exp().numpy().T, spectrum, atol=2e-4)
    assert np.allclose(mel[0].exp().numpy().T, np.maximum(bank @ spectrum, 1e-5), atol=2e-5)
    assert float(linear.min()) >= math.log(1e-5) - 1e-6
    assert np.allclose(mel_filterbank(AUDIO).numpy().T, bank, atol=1e-6)


@pytest.mark.parametrize("num_samples", [1, 255, 256, 257, 5000])
def test_frames_lie_on_the_hops_whatever_the_length(num_samples: int) -> None:
    features = Features(AUDIO)
    wav = torch.zeros(1, num_samples)
    mel, linear = features(wav)
    assert mel.shape == (1, 1 + num_samples // 256, 80)
    assert linear.shape == (1, features.num_frames(num_samples), 513)


def test_a_click_is_loudest_in_the_frame_at_its_time() -> None:
    wav = torch.zeros(1, 16000)
    wav[0, 20 * 256] = 1.0
    assert int(Features(AUDIO)(wav)[1].sum(dim=2).argmax()) == 20


def test_a_batch_equals_single_items_and_autocast_changes_nothing() -> None:
    features = Features(AUDIO)
    wavs = torch.stack([chirp(), tone(700, 1.0)])
    mel, linear = features(wavs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast_mel, cast_linear = features(wavs)
    assert cast_mel.dtype == torch.float32
    assert torch.equal(cast_mel, mel) and torch.equal(cast_linear, linear)
    single_mel, single_linear = features(wavs[1:])
    assert torch.allclose(single_mel, mel[1:], atol=1e-4)
    assert torch.allclose(single_linear, linear[1:], atol=1e-2)


def test_features_are_differentiable_even_of_silence() -> None:
    wav = torch.zeros(1, 4096, requires_grad=True)
    (Features(AUDIO).mel(wav).sum() + Features(AUDIO).linear(wav).sum()).backward()
    assert torch.isfinite(wav.grad).all()
    loud = chirp(0.2)[None].requires_grad_()
    Features(AUDIO).mel(loud).mean().backward()
    assert torch.isfinite(loud.grad).all() and loud.grad.abs().sum() > 0


@pytest.mark.filterwarnings("ignore:At least one mel")
def test_too_many_mels_are_refused() -> None:
    with pytest.raises(ValueError, match="hold no bin"):
        Features(replace(AUDIO, n_mels=400))


def test_standardiser_inverts_itself_and_checks_its_statistics() -> None:
    values = torch.randn(3, 7, 5) * 4 - 2
    standardise = Standardiser(torch.randn(5), torch.rand(5) + 0.1)
    assert torch.allclose(standardise.inverse(standardise(values)), values, atol=1e-5)
    assert set(standardise.state_dict()) == {"mean", "std"}
    with pytest.raises(ValueError, match="not of one length"):
        Standardiser([0.0, 1.0], [1.0])
    with pytest.raises(ValueError, match="not > 0"):
        Standardiser([0.0], [0.0])


# ---- phase recovery


def convergence(linear: torch.Tensor, wav: torch.Tensor, audio: Audio) -> float:
    """Spectral convergence in dB: the smaller the better."""
    target = linear.exp()
    magnitude = Features(audio).linear(wav).exp()
    return 20 * math.log10(float((magnitude - target).norm() / target.norm()))


def test_griffin_lim_converges_and_momentum_pays() -> None:
    linear = Features(AUDIO).linear(chirp(1.5)[None])
    fast, plain = (
        convergence(linear, griffin_lim(linear, AUDIO, 32, momentum), AUDIO)
        for momentum in (0.99, 0.0)
    )
    assert fast < -20
    assert fast < plain - 2


def griffin_lim_by_spectra(linear: torch.Tensor, audio: Audio, iterations: int) -> torch.Tensor:
    """Run Perraudin et al. 2013, algorithm 2, as it is written: momentum on the spectra."""
    options = {
        "n_fft": audio.n_fft,
        "hop_length": audio.hop_length,
        "win_length": audio.win_length,
        "window": torch.hann_window(audio.win_length),
    }
    num_frames, num_bins = linear.shape[1:]
    magnitude, length = linear.exp().transpose(1, 2), audio.hop_length * (num_frames - 1)
    phases = torch.rand(num_frames, num_bins, generator=torch.Generator().manual_seed(0)).T
    spectrum = torch.polar(magnitude, (2 * math.pi * phases).expand_as(magnitude))
    previous = None
    for _ in range(iterations):
        wav = torch.istft(spectrum, **options, length=length)
        consistent = torch.stft(wav, **options, pad_mode="constant", return_complex=True)
        ahead = consistent if previous is None else consistent + 0.99 * (consistent - previous)
        previous, spectrum = consistent, torch.polar(magnitude, ahead.angle())
    return torch.istft(spectrum, **options, length=length)


@pytest.mark.parametrize(("n_fft", "win", "hop"), [(1024, 1024, 256), (1200, 1024, 256)])
def test_griffin_lim_equals_the_algorithm_as_it_is_written(n_fft: int, win: int, hop: int) -> None:
    audio = replace(AUDIO, n_fft=n_fft, win_length=win, hop_length=hop)
    linear = Features(audio).linear(chirp(3.0)[None])  # more than one block of frames
    ours, written = griffin_lim(linear, audio, 8), griffin_lim_by_spectra(linear, audio, 8)
    assert torch.allclose(ours, written, atol=2e-3 * float(written.abs().max()))
    # 32 iterations amplify rounding, the distance to the magnitudes stays.
    gap = convergence(linear, griffin_lim(linear, audio, 32), audio)
    assert gap == pytest.approx(
        convergence(linear, griffin_lim_by_spectra(linear, audio, 32), audio), abs=0.05
    )


def test_griffin_lim_is_seeded_and_independent_of_its_batch() -> None:
    features = Features(AUDIO)
    linear = torch.cat([features.linear(chirp()[None]), features.linear(tone(500, 1.0)[None])])
    both = griffin_lim(linear, AUDIO, 4, seed=3)
    assert torch.equal(griffin_lim(linear[1:], AUDIO, 4, seed=3), both[1:])
    assert torch.equal(griffin_lim(linear, AUDIO, 4, seed=3), both)
    assert not torch.allclose(griffin_lim(linear, AUDIO, 4, seed=4), both, atol=1e-3)
    assert both.shape == (2, 256 * (linear.shape[1] - 1))


@pytest.mark.parametrize(("n_fft", "win", "hop"), [(1024, 1024, 256), (1200, 1024, 256)])
def test_frame_transform_inverts_itself(n_fft: int, win: int, hop: int) -> None:
    audio = replace(AUDIO, n_fft=n_fft, win_length=win, hop_length=hop)
    wav = chirp(0.5)[: hop * 30][None]
    transform = audio_module._FrameTransform(audio, 31, wav.device)
    padded = torch.nn.functional.pad(wav, (n_fft // 2, transform.gain.shape[1] - n_fft // 2))
    padded = padded[:, : transform.gain.shape[1]]
    assert torch.allclose(transform.inverse(transform.forward(padded)), padded, atol=1e-5)
    assert torch.allclose(
        transform.forward(padded).abs()[0], Features(audio)._magnitude(wav)[0], atol=1e-3
    )


def test_griffin_lim_refuses_another_number_of_bins() -> None:
    with pytest.raises(ValueError, match="expected 513 linear bins, found 80"):
        griffin_lim(torch.zeros(1, 10, 80), AUDIO)


# ---- levels


def test_levels_of_known_signals() -> None:
    assert rms_level(tone(1000, 1.0)) == pytest.approx(-9.03, abs=0.01)
    assert rms_level(torch.zeros(10)) == -math.inf
    half = torch.cat([tone(1000, 1.0), torch.zeros(16000)])
    assert rms_level(half) == pytest.approx(-12.04, abs=0.01)
    assert active_level(half, 1024) == pytest.approx(-9.03, abs=0.2)
    assert active_level(torch.zeros(100), 1024) == -math.inf


def test_loudness_of_the_reference_tone() -> None:
    full_scale = 2 * tone(997, 3.0, 48000)  # BS.1770-4: 0 dBFS at 997 Hz in one channel, -3.01
    assert loudness(full_scale, 48000) == pytest.approx(-3.01, abs=0.05)
    assert loudness(full_scale / 10, 48000) == pytest.approx(-23.01, abs=0.05)
    assert loudness(full_scale.expand(2, -1), 48000) == pytest.approx(0.0, abs=0.05)
    gap = torch.cat([full_scale, torch.zeros(10 * 48000)])  # the gates pass over silence
    assert loudness(gap, 48000) == pytest.approx(-3.01, abs=0.4)
    slow = resample(full_scale / 10, 48000, 16000)
    assert loudness(slow, 16000) == pytest.approx(-23.01, abs=0.1)
    assert loudness(torch.zeros(48000), 48000) == -math.inf
    assert math.isfinite(loudness(tone(997, 0.1), 16000))


def test_true_peak_finds_what_lies_between_samples() -> None:
    time = torch.arange(4000)
    wav = torch.sin(math.pi / 2 * time + math.pi / 4)  # a quarter of the rate, samples at 0.707
    assert float(wav.abs().max()) == pytest.approx(0.7071, abs=1e-3)
    assert true_peak(wav[None], 16000) == pytest.approx(0.0, abs=0.3)


@pytest.mark.parametrize("amount", [1.3, 1.7])
def test_contrast_raises_ripple_and_keeps_the_envelope(amount: float) -> None:
    """Harmonics stand out more; level, tilt and formants stay, which a power would change."""
    bins = torch.arange(513.0)
    envelope = -0.01 * bins + torch.cos(bins / 60)
    ripple = 0.5 * torch.cos(2 * torch.pi * bins / 10)  # harmonics 156 Hz apart
    linear = torch.stack([envelope + ripple, envelope, envelope.sub(6)])[None]  # (1, 3, F)
    made = local_contrast(linear, amount, 24)
    inner = slice(30, -30)
    found = (made[0, 0] - made[0, 1])[inner]
    assert found.std() == pytest.approx(amount * float(ripple[inner].std()), rel=0.03)
    torch.testing.assert_close(made[0, 1][inner], envelope[inner], atol=0.12, rtol=0)
    torch.testing.assert_close(made[0, 2], made[0, 1] - 6)

    def band_power(spectrum: torch.Tensor) -> torch.Tensor:
        return (2 * spectrum).exp().unfold(-1, 50, 50).mean(-1).log() * (10 / np.log(10))

    assert (band_power(made[0, 0]) - band_power(linear[0, 0])).abs().max() < 1.0  # dB
    assert (band_power(amount * linear[0, 0]) - band_power(linear[0, 0])).abs().max() > 6


def test_no_contrast_changes_nothing_and_silence_stays() -> None:
    linear = torch.randn(2, 5, 40)
    assert torch.equal(local_contrast(linear, 1.0, 24), linear)
    silence = torch.full((1, 5, 40), -11.5)
    torch.testing.assert_close(local_contrast(silence, 1.7, 24), silence)


@pytest.mark.parametrize(
    ("rate", "samples", "word"), [(1, 20000, "1 Hz"), (4000, 4000 * 7300, "7300 s")]
)
def test_a_header_that_nobody_recorded_is_refused_unread(
    tmp_path: Path, rate: int, samples: int, word: str
) -> None:
    path = tmp_path / "odd.wav"
    soundfile.write(path, np.zeros(10), 8000, subtype="PCM_U8")
    header = bytearray(path.read_bytes())
    header[24:28], header[28:32] = rate.to_bytes(4, "little"), rate.to_bytes(4, "little")
    size = min(samples, 20000)
    header[40:44] = samples.to_bytes(4, "little")
    header[4:8] = (36 + samples).to_bytes(4, "little")
    path.write_bytes(bytes(header[:44]) + bytes([128]) * size)
    if samples > size:  # sparse: the sound need not be written
        with open(path, "rb+") as file:
            file.truncate(44 + samples)
    with pytest.raises(ValueError, match=rf"odd\.wav.*{word}"):
        read_audio(path)


def test_rates_without_a_ratio_name_the_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "odd.wav", np.zeros(100), 15999)
    with pytest.raises(ValueError, match=r"odd\.wav.*ratio"):
        read_wav(tmp_path / "odd.wav", 16000)
