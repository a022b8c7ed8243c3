"""The measured pitch of recordings: vibrato and glides come back, gaps and octave errors do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from corpora.singer import FRAME_RATE
from corpora.sung_takes import contour_of
from music.inputs import collate_scores
from music.score import Note
from transcription.contours import pitch_curve

RATE = 16000
NOTES = [Note(57, 0.2, 1.6), Note(64, 1.6, 3.0), Note(60, 3.3, 4.6)]
SECONDS = 5.0


def asked(depth: float, hertz: float) -> np.ndarray:
    """Pitch (S,) of the notes as MIDI: glides of 80 ms between them, vibrato of `depth` cents."""
    times = np.arange(round(SECONDS * RATE)) / RATE
    corners = [(n.onset + 0.04, n.pitch) for n in NOTES] + [
        (n.offset - 0.04, n.pitch) for n in NOTES
    ]
    midi = np.interp(times, *zip(*sorted(corners), strict=True))
    return midi + depth / 100 * np.sin(2 * np.pi * hertz * times)


def voice(midi: np.ndarray, formant: float = 700.0) -> torch.Tensor:
    """A buzz (S,) of that pitch, its harmonics shaped by a formant, silent in rests."""
    f0 = 440.0 * 2 ** ((midi - 69) / 12)
    phase = 2 * np.pi * np.cumsum(f0) / RATE
    wav = np.zeros(len(midi))
    for k in range(1, 30):
        gain = 1 / (1 + ((k * f0 - formant) / 400) ** 2) * (k * f0 < 7500)
        wav += gain * np.sin(k * phase)
    times = np.arange(len(midi)) / RATE
    sounds = np.zeros(len(midi))
    for note in NOTES:
        sounds[(times >= note.onset) & (times < note.offset)] = 0.1
    noise = 1e-4 * np.random.default_rng(0).standard_normal(len(midi))
    return torch.from_numpy(wav * sounds + noise).float()


def contour(wav: torch.Tensor) -> np.ndarray:
    """Cents (T,) against the notes, as they are stored."""
    curve = pitch_curve(wav, RATE, NOTES)
    stored = contour_of([(0.0, curve)], NOTES, 0.0, SECONDS)
    assert stored["rate"] == FRAME_RATE
    return np.array(stored["cents"])


def inside(margin: float) -> np.ndarray:
    """Frames in notes, `margin` s from their ends."""
    times = np.arange(round(SECONDS * FRAME_RATE)) / FRAME_RATE
    return np.any([(times > n.onset + margin) & (times < n.offset - margin) for n in NOTES], 0)


@pytest.mark.parametrize(("depth", "hertz"), [(0.0, 5.0), (40.0, 5.5), (90.0, 6.5)])
def test_a_vibrato_is_read_back_within_a_few_cents(depth: float, hertz: float) -> None:
    midi = asked(depth, hertz)
    times = np.arange(round(SECONDS * FRAME_RATE)) / FRAME_RATE
    note = np.array([n.pitch for n in NOTES])[
        np.clip(np.searchsorted([n.onset for n in NOTES], times, "right") - 1, 0, 2)
    ]
    expected = 100 * (midi[np.round(times * RATE).astype(int)] - note)
    found = contour(voice(midi))
    error = np.abs(found - expected)[inside(0.08)]
    assert np.median(error) < 3 and np.quantile(error, 0.95) < 8
    if depth:
        inner = inside(0.1)
        slope = np.dot(found[inner], expected[inner]) / np.square(expected[inner]).sum()
        assert 0.93 < slope < 1.03
    assert (found[~inside(-0.02)] == 0).all()  # rests, as the songbook has them


def test_a_glide_is_kept() -> None:
    found = contour(voice(asked(0.0, 5.0)))
    start = round(1.6 * FRAME_RATE)
    assert found[start] == pytest.approx(-350, abs=60)  # half of a fifth below the new note
    assert abs(found[start + 5]) < 10


def test_unvoiced_sounds_and_octave_errors_are_sung_through() -> None:
    midi = asked(0.0, 5.0)
    wav = voice(midi)
    hiss = slice(round(0.7 * RATE), round(0.85 * RATE))
    wav[hiss] = 0.05 * torch.from_numpy(
        np.random.default_rng(1).standard_normal(hiss.stop - hiss.start)
    )
    octave = slice(round(3.8 * RATE), round(3.95 * RATE))
    wav[octave] = voice(midi + 12)[octave]
    assert np.abs(contour(wav)[inside(0.08)]).max() < 30


def test_silence_has_the_pitch_of_its_notes() -> None:
    assert (contour(torch.zeros(round(SECONDS * RATE))) == 0).all()


def test_a_network_is_told_the_measured_contour() -> None:
    curve = pitch_curve(voice(asked(60.0, 5.5)), RATE, NOTES)
    notes = [[n.onset, n.offset, n.pitch] for n in NOTES]
    symbols = {name: [0] for name in ("pitch", "onset", "position", "slur")} | {"offset": [SECONDS]}
    score = {**symbols, "notes": notes, "contour": contour_of([(0.0, curve)], NOTES, 0.0, SECONDS)}
    frames = round(SECONDS * 62.5)
    batch = collate_scores([score, {**symbols, "notes": notes}], 1, frames, 1 / 62.5)
    assert batch is not None and batch.frame_contour is not None
    told, known = batch.frame_contour[0, : frames - 2].unbind(-1)
    assert known.all() and 0.5 < told[20:90].max() < 0.65
    assert not batch.frame_contour[1].any()  # of the other phrase nothing is known
