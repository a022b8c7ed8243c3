"""The pitch of a recorded voice against its notes, as the songbook stores what it asked for.

Shapes: S samples, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from corpora.singer import FRAME_RATE
from utils.metrics import f0_track, midi_of

if TYPE_CHECKING:
    from torch import Tensor

    from music.score import Note

WINDOW = 0.024  # s that a frame is compared over: of a vibrato of 6 Hz 97 % is left, of 64 ms 77 %
AGREEMENT = 1.0  # semitones between the windows; farther off, the short one has missed the period
REACH = 2.0  # semitones a voice leaves a note, its neighbours and what lies between them


def pitch_curve(wav: Tensor, sample_rate: int, notes: Sequence[Note]) -> np.ndarray:
    """Measure F0 (T,) in Hz of a voice (S,) at FRAME_RATE, T = 1 + ⌊S / sample_rate · FRAME_RATE⌋.

    Frames without pitch, and those whose pitch is nowhere near the notes (octave errors, another
    sound), are joined from their neighbours on a straight line in log F0, as if sung through: what
    a voice is asked for has no gaps either. A voice without any pitch has that of its notes.
    """
    hop = round(sample_rate / FRAME_RATE)
    coarse = midi_of(f0_track(wav, sample_rate, hop).numpy())
    fine = midi_of(f0_track(wav, sample_rate, hop, window=WINDOW).numpy())
    times = np.arange(len(coarse)) * hop / sample_rate
    # Voicing and octave by the long window, movement by the short one.
    measured = np.where(np.abs(fine - coarse) <= AGREEMENT, fine, coarse)
    low, high, written = _around(notes, times)
    is_known = (measured >= low - REACH) & (measured <= high + REACH)  # NaN compares as False
    midi = np.interp(times, times[is_known], measured[is_known]) if is_known.any() else written
    wanted = np.arange(1 + int(len(wav) / sample_rate * FRAME_RATE)) / FRAME_RATE
    return 440.0 * 2 ** ((np.interp(wanted, times, midi) - 69) / 12)


def _around(notes: Sequence[Note], times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the lowest and the highest pitch of a note and its neighbours, and its own, (T,)."""
    onsets = np.array([note.onset for note in notes])
    pitch = np.array([note.pitch for note in notes], float)
    place = np.clip(np.searchsorted(onsets, times, side="right") - 1, 0, len(notes) - 1)
    near = pitch[np.clip(place[:, None] + (-1, 0, 1), 0, len(notes) - 1)]  # (T, 3)
    return near.min(1), near.max(1), pitch[place]
