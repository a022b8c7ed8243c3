"""The pitch track against signals of known pitch, librosa and mir_eval; scores by hand."""

from __future__ import annotations

import time

import librosa
import mir_eval
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.metrics import f0_track, midi_of, pitch_scores, raw_pitch_accuracy

RATE, HOP = 16000, 256


def tone(f0: float, seconds: float = 1.0, harmonics: int = 6, gain: float = 0.1) -> torch.Tensor:
    """A voice-like tone: harmonics that fall by 6 dB per octave."""
    t = torch.arange(int(seconds * RATE)) / RATE
    partials = [k for k in range(1, harmonics + 1) if k * f0 < RATE / 2]
    return gain * sum(torch.sin(2 * torch.pi * k * f0 * t) / k for k in partials)


@pytest.mark.parametrize("f0", [70.0, 98.0, 147.3, 220.0, 440.0, 660.0, 880.0, 1100.0])
@pytest.mark.parametrize("harmonics", [1, 6])
def test_steady_tones_within_two_cents(f0: float, harmonics: int) -> None:
    noise = 1e-3 * torch.randn(RATE, generator=torch.Generator().manual_seed(0))
    track = f0_track(tone(f0, harmonics=harmonics) + noise, RATE, HOP)[4:-4]
    assert (track > 0).all()
    assert np.abs(1200 * np.log2(track.numpy() / f0)).max() < 2


def test_one_value_per_frame_and_silence_has_no_pitch() -> None:
    for samples in (0, 1, 255, 256, 16000):
        track = f0_track(torch.zeros(samples), RATE, HOP)
        assert track.shape == (1 + samples // HOP,)
        assert not track.any()


def test_noise_has_hardly_any_pitch() -> None:
    noise = torch.randn(2 * RATE, generator=torch.Generator().manual_seed(0))
    assert (f0_track(noise, RATE, HOP) > 0).float().mean() < 0.02


def test_frames_are_centred_and_a_shift_moves_the_track() -> None:
    wav = torch.cat([tone(220), tone(330)])
    track = f0_track(wav, RATE, HOP)
    last = int(torch.nonzero((track - 220).abs() < 2).max())
    first = int(torch.nonzero((track - 330).abs() < 2).min())
    assert first > last
    assert abs((first + last) / 2 - RATE / HOP) <= 1
    later = f0_track(torch.cat([torch.zeros(8 * HOP), wav]), RATE, HOP)
    torch.testing.assert_close(later[14:100], track[6:92])


def test_a_glide_agrees_with_librosa() -> None:
    t = torch.arange(2 * RATE) / RATE
    f0 = 200 * 2 ** (t / 2)
    phase = 2 * torch.pi * torch.cumsum(f0.double(), 0) / RATE
    wav = sum(0.1 / k * torch.sin(k * phase) for k in range(1, 6)).float()
    ours = f0_track(wav, RATE, HOP).numpy()[6:-6]
    theirs = librosa.yin(
        wav.numpy(), fmin=65, fmax=1200, sr=RATE, frame_length=2048, hop_length=HOP
    )[6:-6]
    assert (ours > 0).all()
    assert np.median(np.abs(1200 * np.log2(ours / theirs))) < 10
    true = f0.numpy()[::HOP][6 : 6 + len(ours)]
    assert np.abs(1200 * np.log2(ours / true)).max() < 15


def test_level_does_not_matter_and_long_input_is_fast() -> None:
    loud = f0_track(tone(200, 0.5), RATE, HOP)
    quiet = f0_track(tone(200, 0.5) * 0.01, RATE, HOP)
    torch.testing.assert_close(loud, quiet, rtol=1e-4, atol=1e-2)
    began = time.perf_counter()
    track = f0_track(tone(200, 120), RATE, HOP)
    assert (track[4:-4] > 0).all()
    assert time.perf_counter() - began < 20


def test_errors_say_what_was_found() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 5\)"):
        f0_track(torch.zeros(1, 5), RATE)
    with pytest.raises(ValueError, match="pitch range"):
        f0_track(torch.zeros(5), 4000)
    with pytest.raises(ValueError, match="3 frames of pitch, 2 of notes"):
        raw_pitch_accuracy(np.zeros(3), np.zeros(2), np.zeros(3, bool))


def test_midi_numbers() -> None:
    np.testing.assert_allclose(midi_of(np.array([440.0, 880.0, 261.6255653])), [69, 81, 60])
    assert np.isnan(midi_of(np.array([0.0])))


def test_scores_by_hand() -> None:
    reference = np.full(6, 69.0)
    is_note = np.array([1, 1, 1, 1, 1, 0], bool)
    cents = np.array([0, 30, -60, 1200, 0, 0])
    f0 = 440 * 2 ** (cents / 1200)
    f0[4] = 0.0  # no pitch under a note
    scores = pitch_scores(f0, reference, is_note)
    assert scores.accuracy == pytest.approx(2 / 5)
    assert scores.chroma == pytest.approx(3 / 5)
    assert scores.rmse == pytest.approx(np.sqrt((0 + 900 + 3600 + 1200**2) / 4))
    assert scores.voicing_recall == pytest.approx(4 / 5)
    assert scores.voicing_false_alarm == 1.0
    assert np.isnan(raw_pitch_accuracy(f0, reference, np.zeros(6, bool)))
    nothing = pitch_scores(np.zeros(0), np.zeros(0), np.zeros(0, bool))
    assert np.isnan(nothing.accuracy)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 60))
def test_scores_agree_with_mir_eval(seed: int, frames: int) -> None:
    random = np.random.default_rng(seed)
    reference = random.uniform(40, 80, frames)
    is_note = random.random(frames) < 0.7
    is_note[0] = True
    f0 = 440 * 2 ** ((reference + random.normal(0, 0.6, frames) - 69) / 12)
    f0 *= 2.0 ** random.integers(-1, 2, frames)
    f0[random.random(frames) < 0.2] = 0.0
    true = 440 * 2 ** ((reference - 69) / 12)
    times = np.arange(frames) * 0.016
    ref_v, ref_c, est_v, est_c = mir_eval.melody.to_cent_voicing(
        times, np.where(is_note, true, 0.0), times, f0
    )
    theirs = mir_eval.melody
    scores = pitch_scores(f0, reference, is_note)
    assert scores.accuracy == pytest.approx(
        theirs.raw_pitch_accuracy(ref_v, ref_c, est_v, est_c), abs=1e-9
    )
    assert scores.chroma == pytest.approx(
        theirs.raw_chroma_accuracy(ref_v, ref_c, est_v, est_c), abs=1e-9
    )
    recall, false_alarm = theirs.voicing_measures(ref_v, est_v)
    assert scores.voicing_recall == pytest.approx(recall)
    if not is_note.all():
        assert scores.voicing_false_alarm == pytest.approx(false_alarm)
