"""A vocal over its accompaniment: louder while it sings, bounded in the band, exact elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage, signal
from torch import Tensor

from hyperparams import Mixing
from singing import mixing as vocal_mix
from singing.mixing import (
    RELEASE,
    ROOM_DELAY,
    ROOM_SECONDS,
    band_pass,
    convolved,
    dip_depth,
    dipped,
    mix,
    presence,
    room,
    windowed_band,
)
from utils.audio import loudness, loudness_beside

RATE = 16000
SECONDS = 8.0
SUNG = slice(2 * RATE, 5 * RATE)


@pytest.fixture
def accompaniment() -> Tensor:
    """Noise that is louder before and after the voice, (2, S)."""
    noise = np.random.default_rng(0).standard_normal((2, int(SECONDS * RATE)))
    noise *= 0.03
    noise[:, : RATE // 2] *= 4
    return torch.from_numpy(noise).float()


@pytest.fixture
def vocal() -> Tensor:
    """Three seconds of harmonics amid silence, (1, S)."""
    time = np.arange(int(SECONDS * RATE)) / RATE
    wav = sum(np.sin(2 * np.pi * 220 * k * time) / k for k in range(1, 25))
    is_sung = np.zeros(len(time))
    is_sung[SUNG] = 1 + 0.5 * np.sin(2 * np.pi * 3 * time[SUNG])
    return torch.from_numpy(0.02 * wav * is_sung)[None].float()


def band_power(wav: Tensor, low: float, high: float) -> float:
    """dB of (C, S) between two frequencies."""
    power = torch.fft.rfft(wav.double(), dim=1).abs().square().mean(0)
    hertz = torch.fft.rfftfreq(wav.shape[1], 1 / RATE)
    return float(10 * power[(hertz >= low) & (hertz < high)].sum().log10())


def test_the_voice_leads_while_it_sings(accompaniment: Tensor, vocal: Tensor) -> None:
    """The loud bars without a voice do not count: a louder intro does not lift the voice."""
    mixed = mix(accompaniment, vocal, RATE, Mixing(3.0, dip=0, presence=0, room=0))
    voice = vocal * 10 ** (mixed.vocal_gain / 20)
    under = loudness_beside(accompaniment, voice.expand(2, -1), RATE)
    assert loudness(voice.expand(2, -1), RATE) - under == pytest.approx(3.0, abs=0.01)
    assert loudness(accompaniment, RATE) > under + 0.5
    louder = mix(accompaniment, vocal, RATE, Mixing(6.0, dip=0, presence=0, room=0))
    assert louder.vocal_gain - mixed.vocal_gain == pytest.approx(3.0, abs=1e-4)


def test_the_accompaniment_is_untouched_where_nobody_sings(
    accompaniment: Tensor, vocal: Tensor
) -> None:
    mixed = mix(accompaniment, vocal, RATE, Mixing())
    assert mixed.gain == 0.0
    tail = round((max(RELEASE, ROOM_SECONDS + ROOM_DELAY) + 0.1) * RATE)
    before, after = slice(0, SUNG.start - RATE // 5), slice(SUNG.stop + tail, None)
    for place in (before, after):
        assert torch.equal(mixed.wav[:, place], accompaniment[:, place])
    assert not torch.equal(mixed.wav[:, SUNG], accompaniment[:, SUNG])


@pytest.mark.parametrize("dip", [2.0, 6.0])
def test_the_dip_is_bounded_and_in_its_band(
    accompaniment: Tensor, vocal: Tensor, dip: float
) -> None:
    made = dipped(accompaniment, 0.2 * vocal, RATE, dip)  # a soft voice needs all of it
    inner = slice(SUNG.start + RATE // 2, SUNG.stop - RATE // 2)
    change = {
        band: band_power(made[:, inner], *band) - band_power(accompaniment[:, inner], *band)
        for band in ((1500, 3500), (50, 600), (4700, 8000), (900, 4100))
    }
    assert change[1500, 3500] == pytest.approx(-dip, abs=0.2)
    assert abs(change[50, 600]) < 0.1 and abs(change[4700, 8000]) < 0.1
    assert change[900, 4100] > -dip
    assert dipped(accompaniment, vocal, RATE, 0.0) is accompaniment
    loud = dipped(accompaniment, 20 * vocal, RATE, dip)  # it stands over the band by itself
    assert torch.equal(loud[:, inner], accompaniment[:, inner])


def test_the_dip_comes_in_time_and_never_jumps() -> None:
    voice = np.full(400, -100.0)
    voice[100:200] = -30.0
    voice[220:225] = -30.0
    depth = dip_depth(voice, np.full(400, -25.0), 4.0)
    assert depth[100:200].min() == 4.0 and depth.max() == 4.0 and depth.min() == 0.0
    assert not depth[:94].any() and not depth[280:].any()
    assert np.diff(depth).max() < 0.9 and np.diff(depth).min() > -0.11


def test_presence_is_a_shelf_and_the_room_has_its_level(vocal: Tensor) -> None:
    made = presence(vocal, RATE, 3.0)
    low, high = (
        band_power(made, *band) - band_power(vocal, *band) for band in ((100, 600), (5000, 6000))
    )
    assert abs(low) < 0.2 and high == pytest.approx(3.0, abs=0.3)
    noise = torch.zeros(2, 4 * RATE)
    noise[:, :RATE] = 0.1 * torch.randn(2, RATE, generator=torch.Generator().manual_seed(0))
    wet = room(noise, RATE, 0.1)
    ratio = float(wet.square().sum() / noise.square().sum())
    assert 10 * np.log10(ratio) == pytest.approx(-20 - 1.5, abs=2.0)  # its band is part of noise's
    assert wet[:, : int(ROOM_DELAY * RATE) - 1].abs().max() < 1e-12
    assert not wet[:, RATE + int((ROOM_SECONDS + ROOM_DELAY) * RATE) + 1 :].any()
    correlation = torch.corrcoef(wet[:, RATE : RATE + RATE // 4])[0, 1]
    assert abs(correlation) < 0.5  # wide


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_any_rate_and_length(rate: int) -> None:
    vocal = 0.1 * torch.randn(1, rate // 3, generator=torch.Generator().manual_seed(1))
    accompaniment = 0.1 * torch.randn(1, rate // 2, generator=torch.Generator().manual_seed(2))
    mixed = mix(accompaniment, vocal, rate, Mixing())
    assert mixed.wav.shape == accompaniment.shape and torch.isfinite(mixed.wav).all()


def test_knobs_below_zero_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mixing\.dip = -1"):
        Mixing(dip=-1)


@pytest.mark.parametrize("rate", [16000, 22050, 48000])
def test_filters_are_those_of_scipy(rate: int) -> None:
    """A Butterworth band pass, a windowed one, and convolution across block borders."""
    expected = signal.butter(1, (250.0, 6000.0), "bandpass", fs=rate)  # numerator, denominator
    for ours, theirs in zip(band_pass(250.0, 6000.0, rate).flip(0).numpy(), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    for taps in (129, 353):
        kernel = windowed_band(taps, 1000.0, 4000.0, rate)
        expected = signal.firwin(taps, (1000.0, 4000.0), pass_zero=False, fs=rate)[None]
        np.testing.assert_allclose(kernel, expected, atol=1e-12)
        random = np.random.default_rng(rate)
        for samples in (1, taps, 16384 - taps + 1, 40000):
            wav = random.standard_normal((2, samples))
            for filters in (kernel, random.standard_normal((2, taps))):
                theirs = np.stack(
                    [np.convolve(a, b) for a, b in zip(wav, np.tile(filters, (2, 1)), strict=False)]
                )
                np.testing.assert_allclose(convolved(wav, filters), theirs, atol=1e-9)


@pytest.mark.parametrize("seconds", [0.02, 1.0])
def test_smoothed_levels_are_those_of_scipy(seconds: float) -> None:
    wav = np.random.default_rng(3).standard_normal((2, round(seconds * RATE)))
    hop = round(vocal_mix.FRAME_SECONDS * RATE)
    power = np.square(wav).mean(0).reshape(-1, hop).mean(1)
    expected = ndimage.uniform_filter1d(power, vocal_mix.SMOOTHING_FRAMES)
    ours = 10 ** (vocal_mix.smoothed_level(power) / 10)
    np.testing.assert_allclose(ours, expected, rtol=1e-9)
