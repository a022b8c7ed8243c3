"""Hear what a take sings, for the chain: notes, and a symbol of the text for every frame."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from text.symbols import VOWELS

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from singing.hearing import TakeTranscript
    from transcription.network import TranscriberNet
    from utils.loading import Loaded


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
        symbols = [symbol_of(PHONEME_CLASSES[i]) for i in found.phoneme.argmax(1).tolist()]
        return TakeTranscript(
            tuple(tuple(note) for note in found.notes), tuple(symbols), found.hop_seconds
        )


def symbol_of(phoneme: str) -> str:
    """Return the symbol of a class: vowels are stressed, as most sung ones; silence is empty."""
    from transcription.labels import SILENCE

    if phoneme == SILENCE:
        return ""
    return f"{phoneme}1" if phoneme in VOWELS else phoneme
