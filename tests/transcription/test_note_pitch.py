"""The pitch of notes on signals of known pitch, where YIN finds it and where it does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from transcription.note_decoding import BLOCK, NotePitch
from utils.metrics import f0_track

RATE, HOP = 16000, 320
PITCH = NotePitch(RATE, HOP)


def tone(hertz: float, seconds: float = 1.0, harmonics: int = 8) -> torch.Tensor:
    """Harmonics that fall by 6 dB per octave."""
    time = torch.arange(round(seconds * RATE), dtype=torch.float64) / RATE
    parts = [k for k in range(1, harmonics + 1) if k * hertz < RATE / 2]
    return sum(0.1 / k * torch.sin(2 * torch.pi * k * hertz * time) for k in parts).float()


def cents(track: torch.Tensor, hertz: float) -> float:
    """Of the median frame, from the truth."""
    return abs(1200 * np.log2(float(track.median()) / hertz))


@pytest.mark.parametrize("hertz", [82.4, 130.8, 220.0, 349.2, 523.3, 830.6, 1046.5])
@pytest.mark.parametrize("harmonics", [1, 8])
def test_tones_within_ten_cents(hertz: float, harmonics: int) -> None:
    wav = tone(hertz, harmonics=harmonics)
    f0 = f0_track(wav, RATE, HOP)
    assert cents(PITCH.track(wav, f0, 5, 45), hertz) < 10
    without = PITCH.track(wav, torch.zeros(51), 5, 45)  # by salience alone, in steps of 10 cents
    assert cents(without, hertz) < 25


def test_a_whisper_over_a_hum_keeps_the_hums_pitch() -> None:
    """A strong comb at 80 Hz above 1 kHz, as vocoders make it: YIN follows it, a listener not."""
    time = torch.arange(RATE) / RATE
    comb = sum(torch.sin(2 * torch.pi * 80 * k * time + k * k) for k in range(14, 40))
    wav = tone(220.0, harmonics=2) + 0.04 * comb
    f0 = f0_track(wav, RATE, HOP)
    assert cents(f0[5:45][f0[5:45] > 0], 220.0) > 100
    assert cents(PITCH.track(wav, f0, 5, 45), 220.0) < 25


def test_the_louder_of_two_voices_is_heard() -> None:
    chord = sum(0.25 * tone(hertz) for hertz in (130.8, 164.8, 196.0))
    wav = tone(293.7) + chord
    assert cents(PITCH.track(wav, f0_track(wav, RATE, HOP), 5, 45), 293.7) < 25


def test_silence_has_no_pitch_and_edges_of_a_recording_are_reached() -> None:
    assert not PITCH.track(torch.zeros(RATE), torch.zeros(51), 0, 51).any()
    wav = tone(220.0)
    whole = PITCH.track(wav, torch.zeros(51), 0, 51)
    assert len(whole) == 51 and cents(whole, 220.0) < 25
    assert len(PITCH.track(wav, torch.zeros(51), 50, 51)) == 1
    assert len(PITCH.track(torch.zeros(0), torch.zeros(1), 0, 1)) == 1


def test_a_very_long_note_has_its_pitch_throughout() -> None:
    seconds = 2.5 * BLOCK * HOP / RATE
    wav = tone(220.0, seconds, harmonics=3)
    frames = 1 + len(wav) // HOP
    track = PITCH.track(wav, torch.zeros(frames), 0, frames)
    assert len(track) == frames
    assert (1200 * (track[5:-5] / 220).log2()).abs().max() < 25


def test_a_glide_is_followed_within_the_note() -> None:
    """Frames keep their own pitch near the note's; vibrato is not ironed out."""
    time = torch.arange(RATE, dtype=torch.float64) / RATE
    midi = 57 + 0.5 * torch.sin(2 * torch.pi * 3 * time)
    phase = 2 * torch.pi * torch.cumsum(440 * 2 ** ((midi - 69) / 12), 0) / RATE
    wav = (0.1 * phase.sin() + 0.05 * (2 * phase).sin()).float()
    track = PITCH.track(wav, f0_track(wav, RATE, HOP), 3, 48)
    found = 12 * (track / 440).log2() + 69
    assert found.max() - found.min() > 0.6
    assert (found - midi[::HOP][3:48]).abs().max() < 0.3
