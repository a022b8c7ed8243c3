"""A PostNet with a source: exact harmonics without aliasing, filters that do what they say."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import TINY

from hyperparams import Audio, Synthesis
from singing.chain import f0_of_mel, filled, linear_from_mel
from singing.performance import f0_of_notes
from source_filter import (
    NOISE_BELOW,
    Filters,
    SourcePostNet,
    base_filters,
    pulse_train,
    render,
)
from training.losses import spectral_loss
from utils.audio import Features, frame_spectrum, inverse_spectrum
from utils.metrics import f0_track

AUDIO = Audio()
POSTNET = replace(TINY.postnet, kind="source", source_blocks=2, source_inner=24)
RATE = AUDIO.frame_rate


def voice(f0: float, samples: int) -> torch.Tensor:
    """Harmonics that fall as a voice's do, (1, S)."""
    time = torch.arange(samples) / AUDIO.sample_rate
    return 0.1 * sum(torch.sin(2 * torch.pi * f0 * k * time) / k**1.5 for k in range(1, 20))[None]


SUBFRAMES = pytest.mark.parametrize("subframes", [1, 4])


def network(subframes: int = 4) -> SourcePostNet:
    torch.manual_seed(0)
    hp = replace(POSTNET, source_subframes=subframes)
    return SourcePostNet(hp, AUDIO.n_mels, AUDIO.n_linear).eval()


def test_pulses_hold_every_harmonic_and_nothing_else() -> None:
    f0 = torch.full((1, 64), 200.0)
    wav = pulse_train(f0, AUDIO)[0]
    assert len(wav) == 63 * 256
    power = torch.fft.rfft(wav[:16000].double() * torch.hann_window(16000)).abs() / 4000
    harmonics = torch.arange(200, 7840, 200)
    assert power[harmonics].sub(1).abs().max() < 0.02  # amplitude 1 each
    between = power[harmonics - 100]
    assert between.max() < 1e-3 and power[7900:].max() < 1e-2


def test_pulses_follow_the_pitch() -> None:
    notes = [[0.0, 0.6, 57], [0.6, 1.4, 64]]
    knobs = Synthesis(vibrato_cents=0, drift_cents=0)
    f0 = f0_of_notes(notes, 88, RATE, knobs, 0)
    heard = f0_track(pulse_train(f0[None], AUDIO)[0], AUDIO.sample_rate, AUDIO.hop_length)
    inner = slice(5, 80)
    cents = 1200 * (heard[inner] / f0[inner]).log2()
    assert cents.abs().median() < 5


def test_f0_of_notes_glides_and_swings() -> None:
    notes = [[0.2, 1.5, 60], [1.7, 3.0, 67]]
    still = Synthesis(vibrato_cents=0, drift_cents=0)
    f0 = f0_of_notes(notes, 200, RATE, still, 0)
    midi = 69 + 12 * (f0 / 440).log2()
    assert midi[:90].sub(60).abs().max() < 1e-3 and midi[120:].sub(67).abs().max() < 1e-3
    assert midi.diff().max() < 3 and midi.diff().min() > -1e-4  # no jump
    swinging = f0_of_notes(notes, 200, RATE, replace(still, vibrato_cents=20.0), 0)
    cents = 1200 * (swinging / f0).log2()
    assert cents[:30].abs().max() < 1e-2 and cents[50:90].abs().max() == pytest.approx(20, abs=4)
    drifting = [f0_of_notes(notes, 200, RATE, Synthesis(drift_cents=6.0), s) for s in (1, 1, 2)]
    assert torch.equal(drifting[0], drifting[1]) and not torch.equal(drifting[0], drifting[2])
    with pytest.raises(ValueError, match="no note"):
        f0_of_notes([], 10, RATE, still, 0)


def test_gaps_of_a_pitch_are_bridged() -> None:
    f0 = torch.tensor([0.0, 100.0, 0.0, 400.0, 0.0])
    torch.testing.assert_close(filled(f0), torch.tensor([100.0, 100, 200, 400, 400]))
    assert (filled(torch.zeros(3)) > 0).all()


def test_spectrum_and_waveform_are_inverse() -> None:
    wav = torch.randn(2, 256 * 20, generator=torch.Generator().manual_seed(0))
    back = inverse_spectrum(frame_spectrum(wav, AUDIO), AUDIO)
    torch.testing.assert_close(back, wav, atol=1e-4, rtol=0)


@SUBFRAMES
def test_an_untrained_network_sings_the_mel_at_its_pitch(subframes: int) -> None:
    """The filters begin at the mel's pseudo-inverse: level and spectrum are there, at any F0."""
    f0, truth = torch.full((1, 60), 180.0), voice(180.0, 59 * 256)
    mel = Features(AUDIO).mel(truth)
    base = linear_from_mel(mel, AUDIO)
    standard = (mel + 5) / 3
    with torch.no_grad():
        filters = network(subframes)(standard, f0, base)
    begun = base_filters(base, subframes)
    assert filters.noise.shape == (1, 60 * subframes, 512 // subframes + 1)
    assert (filters.noise.log() - begun.noise.log()).abs().mean() < 0.3  # nepers
    made = render(filters, f0, AUDIO, torch.Generator().manual_seed(0))
    assert made.shape == truth.shape
    ratio = 10 * (made.square().mean() / truth.square().mean()).log10()
    assert abs(ratio) < 6  # dB
    again = render(filters, f0, AUDIO, torch.Generator().manual_seed(0))
    other = render(filters, f0, AUDIO, torch.Generator().manual_seed(1))
    assert torch.equal(made, again) and not torch.equal(made, other)
    # The envelope of a vowel, which shows no harmonics of its own, at two pitches.
    smooth = (-torch.arange(513.0) / 80 - 1).expand(1, 60, -1)
    for pitch in (180.0, 240.0):
        sung = render(
            base_filters(smooth, subframes),
            torch.full((1, 60), pitch),
            AUDIO,
            torch.Generator().manual_seed(0),
        )
        heard = f0_track(sung[0], AUDIO.sample_rate, AUDIO.hop_length)[5:-5]
        assert (1200 * (heard / pitch).log2()).abs().median() < 20
    silent = Filters(torch.zeros_like(filters.harmonic), torch.zeros_like(filters.noise))
    assert not render(silent, f0, AUDIO, torch.Generator()).any()


@SUBFRAMES
def test_padding_changes_nothing(subframes: int) -> None:
    torch.manual_seed(1)
    mel, base = torch.randn(2, 30, 80), torch.randn(2, 30, 513) - 5
    f0 = torch.rand(2, 30) * 200 + 100
    with torch.no_grad():
        both = network(subframes)(mel, f0, base, torch.tensor([30, 17]))
        alone = network(subframes)(mel[1:, :17], f0[1:, :17], base[1:, :17])
    heard = 16 * subframes + 1  # what lies behind the last frame sounds nowhere
    torch.testing.assert_close(both.noise[1, :heard], alone.noise[0, :heard])
    torch.testing.assert_close(both.harmonic[1, :17], alone.harmonic[0])
    if subframes > 1:
        assert both.gain is not None and alone.gain is not None
        torch.testing.assert_close(both.gain[1, :heard], alone.gain[0, :heard])


@pytest.mark.parametrize("subframes", [1, 2, 4])
def test_noise_has_the_level_and_the_edges_of_its_filters(subframes: int) -> None:
    """White noise of a level is that level at any division; a burst is as short as its window."""
    f0, base = torch.full((1, 201), 200.0), torch.zeros(1, 201, 513)
    made = base_filters(base, subframes)
    made = replace(made, harmonic=torch.zeros_like(made.harmonic))
    wav = render(made, f0, AUDIO, torch.Generator().manual_seed(0))
    level = math.log(wav.square().mean().sqrt() * math.sqrt(384))  # nepers of a bin, Hann of 1,024
    # Four windows over each sample, noise of its own in each: a quarter of the power is left.
    assert level == pytest.approx(-NOISE_BELOW - math.log(2), abs=0.05)
    envelope = torch.zeros(1, 200 * subframes + subframes)
    envelope[:, 100 * subframes] = 1.0  # one frame of noise alone
    burst = replace(made, noise=made.noise * envelope[..., None])
    power = render(burst, f0, AUDIO, torch.Generator().manual_seed(0))[0].square()
    centre, half = 100 * 256, 512 // subframes
    assert power[centre - half : centre + half].sum() == pytest.approx(float(power.sum()))
    time = torch.arange(len(power)) - centre
    spread = (power @ time.double().square().float() / power.sum()).sqrt()
    assert spread < 0.5 * half  # samples


@pytest.mark.parametrize("subframes", [0, -1, 3, 1024])
def test_subframes_divide_the_frame(subframes: int) -> None:
    assert replace(TINY, postnet=POSTNET).postnet.source_subframes == 4
    with pytest.raises(ValueError, match=r"postnet\.source_subframes = .*audio\.hop_length"):
        replace(TINY, postnet=replace(POSTNET, source_subframes=subframes))


def test_gains_open_and_close_the_pulses() -> None:
    f0, base = torch.full((1, 41), 200.0), torch.zeros(1, 41, 513)
    filters = base_filters(base, 4)
    filters = replace(filters, noise=torch.zeros_like(filters.noise))
    gain = torch.zeros(1, 164)
    gain[:, 80:] = 1.0  # from frame 20 on
    held = render(filters, f0, AUDIO, torch.Generator())
    made = render(replace(filters, gain=gain), f0, AUDIO, torch.Generator())
    assert not made[:, : 79 * 64].any()
    torch.testing.assert_close(made[:, 80 * 64 :], held[:, 80 * 64 :])


def test_the_spectral_loss_is_zero_at_the_truth_and_learns() -> None:
    """A few steps of gradient descent bring the network nearer to what it hears."""
    f0 = torch.full((1, 40), 200.0)
    truth = 0.1 * pulse_train(f0, AUDIO)
    truth = torch.nn.functional.conv1d(truth[None], torch.tensor([[[1.0, -0.5]]]), padding=1)[0]
    truth = truth[:, : 39 * 256]
    total, count = spectral_loss(truth, truth)
    assert total == 0 and count == 1
    mel = Features(AUDIO).mel(truth)
    base, net = linear_from_mel(mel, AUDIO), network()
    optimizer, losses = torch.optim.Adam(net.parameters(), 2e-3), []
    for _ in range(12):
        made = render(net((mel + 5) / 3, f0, base), f0, AUDIO, torch.Generator().manual_seed(0))
        loss = spectral_loss(made, truth)[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_f0_is_heard_in_a_mel_without_notes() -> None:
    mel = Features(AUDIO).mel(voice(220.0, 79 * 256))[0]
    heard = f0_of_mel(mel, AUDIO, Synthesis(), 0)
    assert len(heard) == len(mel) and (heard > 0).all()
    assert np.median(np.abs(1200 * np.log2(heard[5:-5].numpy() / 220))) < 60
