"""Notes from hand-made probabilities and F0: every edge a recording can have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from transcription.note_decoding import decode_notes, find_peaks, summarise_pitch
from utils import config
from utils.metrics import f0_track

KNOBS = config.preset("base").transcriber
HOP = 0.02


def probabilities(frames: int, notes: list[tuple[int, int]]) -> np.ndarray:
    """Certain onsets, offsets and activations of notes given as frames [first, last)."""
    note = np.zeros((frames, 3))
    for first, last in notes:
        note[first, 0] = 1.0
        note[first:last, 2] = 1.0
        if last < frames:
            note[last, 1] = 1.0
    return note


def decode(note: np.ndarray, hertz: float = 440.0, knobs=KNOBS) -> list[tuple[int, int, float]]:
    found = decode_notes(note, np.full(len(note), hertz), HOP, knobs)
    return [(round(n.onset / HOP), round(n.offset / HOP), n.midi) for n in found]


@pytest.mark.parametrize(
    "notes",
    [
        [],
        [(0, 20)],
        [(30, 50)],  # to the last frame
        [(49, 50)],  # in the last frame alone
        [(0, 10), (10, 50)],
        [(0, 50)],
        [(5, 12), (20, 31), (31, 34), (40, 50)],
    ],
)
def test_certain_notes_are_found_as_they_are(notes: list[tuple[int, int]]) -> None:
    found = decode(probabilities(50, notes))
    assert found == [(first, last, pytest.approx(69.0)) for first, last in notes]


def test_a_note_of_an_hour_is_one_note() -> None:
    frames = 180_000
    assert decode(probabilities(frames, [(1, frames - 1)])) == [(1, frames - 1, 69.0)]


def test_no_frames_and_silence_have_no_notes() -> None:
    assert decode(np.zeros((0, 3))) == decode(np.zeros((100, 3))) == []


def test_what_has_no_pitch_or_is_never_active_is_no_note() -> None:
    note = probabilities(50, [(10, 30)])
    assert decode(note, hertz=0.0) == []
    assert decode(note, hertz=8.5) == []  # MIDI 0.7: a file would hold note 0 or 1
    note[:, 2] = 0.1
    assert decode(note) == []


def test_a_note_ends_where_nothing_is_active_for_two_frames() -> None:
    note = probabilities(50, [(10, 40)])
    note[:, 1] = 0
    note[20, 2] = 0.0  # a consonant
    note[30:, 2] = 0.0
    assert decode(note) == [(10, 30, 69.0)]


def test_the_offset_of_the_note_before_does_not_end_the_next() -> None:
    note = probabilities(60, [(10, 30), (30, 50)])
    note[30, 1], note[31, 1] = 0.0, 0.9  # marked a frame late
    assert decode(note) == [(10, 30, 69.0), (30, 50, 69.0)]


def test_thresholds_are_knobs() -> None:
    note = probabilities(50, [(10, 30)])
    note[10, 0], note[30, 1] = 0.4, 0.4
    assert decode(note) == [(10, 30, 69.0)]
    assert decode(note, knobs=replace(KNOBS, onset_threshold=0.5)) == []
    note[30:40, 2] = 1.0
    assert decode(note) == [(10, 30, 69.0)]
    assert decode(note, knobs=replace(KNOBS, offset_threshold=0.5)) == [(10, 40, 69.0)]
    assert decode(note, knobs=replace(KNOBS, activation_threshold=1.1)) == []


def test_peaks_at_both_ends_of_plateaus_and_of_neighbours() -> None:
    def peaks(*values: float) -> list[int]:
        return find_peaks(np.array(values), 0.3).tolist()

    assert peaks(0.9, 0.1, 0.1, 0.1, 0.8) == [0, 4]
    assert peaks(0.5) == [0] and peaks(0.2) == [] and peaks() == []
    assert peaks(0.0, 0.7, 0.7, 0.7, 0.7, 0.7, 0.0) == [1]
    assert peaks(0.0, 0.8, 0.5, 0.9, 0.0) == [3]  # within two frames the higher one
    assert peaks(0.8, 0.0, 0.0, 0.9) == [0, 3]


def test_pitch_summaries() -> None:
    midi = np.array([40.0, 60.0, 60.0, 60.2, np.nan])
    ones = np.ones(5)
    assert summarise_pitch(midi, ones, "weighted_median") == 60.0
    assert summarise_pitch(midi, ones, "median") == 60.0
    assert 55 < summarise_pitch(midi, ones, "weighted_mean") < 60
    assert summarise_pitch(np.full(5, np.nan), ones, "median") is None
    # A glide at the edges and a slip of an octave move the median by nothing.
    note = np.concatenate([np.linspace(58, 62, 4), np.full(12, 62.0), np.full(3, 74.0)])
    assert summarise_pitch(note, np.ones(len(note)), "weighted_median") == 62.0
    # Frames that are not active count for nothing.
    active = np.array([0.0, 1.0, 1.0, 0.0, 0.0])
    values = np.array([50.0, 60.0, 60.0, 50.0, 50.0])
    assert summarise_pitch(values, active, "weighted_median") == 60.0


@pytest.mark.parametrize("hertz", [98.0, 220.0, 523.25, 1000.0])
def test_the_pitch_of_a_sung_sine_is_within_ten_cents(hertz: float) -> None:
    """From samples to the note's pitch: F0 track at the transcriber's hop, weighted median."""
    rate, hop = 16000, KNOBS.hop_length
    wav = 0.2 * torch.sin(2 * torch.pi * hertz * torch.arange(rate) / rate)
    f0 = f0_track(wav, rate, hop).numpy()
    note = probabilities(len(f0), [(0, len(f0))])
    ((_, _, midi),) = decode_notes(note, f0, hop / rate, KNOBS)
    assert abs(midi - (69 + 12 * np.log2(hertz / 440))) < 0.1


def test_unequal_lengths_are_said() -> None:
    with pytest.raises(ValueError, match="3 frames of notes, 4 of F0"):
        decode_notes(np.zeros((3, 3)), np.zeros(4), HOP, KNOBS)
