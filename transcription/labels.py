"""Training targets of a transcriber: phoneme classes, and notes.

Shapes: T frames, K notes. The classes are ARPAbet without stress; ZH, which 39 classes have no
room for, is merged into SH (as in the folding of Lee & Hon 1989); the last class is silence.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from text.symbols import CONSONANTS, SYMBOLS, VOWELS

MERGED = {"ZH": "SH"}
SILENCE = "sil"
PHONEME_CLASSES: tuple[str, ...] = (
    *VOWELS,
    *(consonant for consonant in CONSONANTS if consonant not in MERGED),
    SILENCE,
)
NOTE_TARGETS = ("onset", "offset", "activation")


def phoneme_class(symbol: str) -> int:
    """Return the class of a symbol of the text; other symbols than phonemes are silence."""
    bare = symbol.rstrip("012")
    name = MERGED.get(bare, bare)
    return PHONEME_CLASSES.index(name if name in PHONEME_CLASSES else SILENCE)


def class_table() -> Tensor:
    """Return the class of every symbol id, (len(SYMBOLS),) int64."""
    return torch.tensor([phoneme_class(symbol) for symbol in SYMBOLS])


def note_targets(
    notes: Sequence[Sequence[float]], start: float, step: float, num_frames: int, width: float
) -> Tensor:
    """Return onset, offset and activation of notes at start, start + step, ... in s: (T, 3).

    notes: rows (onset, offset, MIDI number). Onsets and offsets fall linearly from 1 to 0 within
    `width` s on both sides; a frame is active from its note's onset until before its offset.
    """
    targets = np.zeros((num_frames, len(NOTE_TARGETS)), np.float32)
    times = start + step * np.arange(num_frames)  # (T,)
    rows = np.array([tuple(note)[:2] for note in notes], np.float64).reshape(-1, 2)
    near = (rows[:, 0] < times[-1] + width) & (rows[:, 1] > start - width)
    for onset, offset in rows[near]:
        for column, time in enumerate((onset, offset)):
            height = 1 - np.abs(times - time) / width
            targets[:, column] = np.maximum(targets[:, column], height)
        targets[(times >= onset) & (times < offset), 2] = 1.0
    return torch.from_numpy(targets)
