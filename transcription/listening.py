"""Hear what a take sings, for the chain: notes, and a symbol of the text for every frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from text.symbols import VOWELS

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from singing.hearing import TakeTranscript
    from transcription.network import TranscriberNet
    from transcription.note_decoding import TranscribedNote
    from utils.loading import Loaded

STEP = 0.016  # s between two looks at the pitch
SHORTEST = 0.05  # s of a note
FAR = 6.0  # semitones between two opinions that cannot both be right


class Listener:
    """A transcriber that is loaded when it first hears."""

    def __init__(self, path: Path, device: torch.device) -> None:
        """path: a run, its folder or a file."""
        self.path, self.device = path, device
        self.loaded: Loaded[TranscriberNet] | None = None

    def __call__(self, wav: Tensor, sample_rate: int) -> TakeTranscript:
        """Transcribe a recording (S,)."""
        # Imported late: most songs have no take to listen to.
        from singing.hearing import TakeTranscript
        from transcription.labels import PHONEME_CLASSES
        from transcription.transcribe import load_transcriber, transcribe

        if self.loaded is None:
            self.loaded = load_transcriber(self.path, self.device)
        found = transcribe(self.loaded, wav, sample_rate)
        notes = settled(found.notes, wav, sample_rate)
        symbols = [symbol_of(PHONEME_CLASSES[i]) for i in found.phoneme.argmax(1).tolist()]
        return TakeTranscript(
            tuple(tuple(note) for note in notes), tuple(symbols), found.hop_seconds
        )


def settled(
    notes: Sequence[TranscribedNote], wav: Tensor, sample_rate: int
) -> list[TranscribedNote]:
    """Settle the pitch of notes of a voice alone (S,) by a second opinion, YIN's, where it is far.

    The pitch of a note can be that of a harmonic (octave, twelfth). Notes of a few frames are left
    out.
    """
    from utils.metrics import f0_track, midi_of

    hop = round(STEP * sample_rate)
    pitch = midi_of(f0_track(wav, sample_rate, hop).numpy())  # (T,), NaN = none
    kept = []
    for note in notes:
        if note.offset - note.onset < SHORTEST:
            continue
        here = pitch[round(note.onset / STEP) : round(note.offset / STEP)]
        heard = here[~np.isnan(here)]
        if 2 * len(heard) > len(here) and abs(float(np.median(heard)) - note.midi) > FAR:
            note = note._replace(midi=float(np.median(heard)))
        kept.append(note)
    return kept


def symbol_of(phoneme: str) -> str:
    """Return the symbol of a class: vowels are stressed, as most sung ones; silence is empty."""
    from transcription.labels import SILENCE

    if phoneme == SILENCE:
        return ""
    return f"{phoneme}1" if phoneme in VOWELS else phoneme
