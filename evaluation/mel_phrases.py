"""The inpainter on mels behind the transformer, on phrases of songs.

Shapes: S samples, T frames, M mels.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from evaluation.phrase_inpainter import PhraseInpainter
from hyperparams import Hyperparams
from inpainter.diffusion import ACCOMPANIMENT
from singing.mels import MelInpainter, MelTracks
from utils import config
from utils.checkpoint import resolve
from utils.loading import check_spectrograms, load_network

if TYPE_CHECKING:
    from utils.loading import Loaded

SAMPLED = "mel_inpainting."


def open_mel_inpainter(arguments: Namespace, device: torch.device) -> MelInpainter:
    """Load the inpainter on mels of a command line, sampled as hyperparams.py and --set say."""
    loaded = load_network(resolve(arguments.mel_inpainter, "inpainter"), "inpainter", device)
    wrong = [change for change in arguments.assignments if not change.startswith(SAMPLED)]
    if wrong:
        raise ValueError(f"--set {wrong[0]}: expected {SAMPLED}NAME=VALUE")
    now = replace(loaded.hyperparams, mel_inpainting=Hyperparams().mel_inpainting)
    loaded.hyperparams = config.build("own", None, arguments.assignments, {"own": now})
    return MelInpainter(loaded)


class PhraseRestorer:
    """Restore the mels that a transformer makes of phrases, each at its place in its song."""

    def __init__(self, inpainter: MelInpainter, phrases: PhraseInpainter) -> None:
        """phrases: accompaniment, symbols and notes of each."""
        self.inpainter, self.phrases = inpainter, phrases

    @classmethod
    def of_corpus(
        cls,
        inpainter: MelInpainter,
        voice: Loaded[Any],
        directory: Path,
        items: Sequence[dict[str, Any]],
        seed: int,
    ) -> PhraseRestorer:
        """Open the stems beside the phrases; ValueError for what does not go together."""
        check_spectrograms(voice, inpainter.hyperparams, inpainter.loaded.path)
        phrases = PhraseInpainter.of_corpus(inpainter.loaded, directory, items, seed)
        return cls(inpainter, phrases)

    def __call__(self, id: str, draft: Tensor) -> Tensor:
        """Restore the log mel (T, M) of a phrase, while its song goes on behind it."""
        hp, frames = self.inpainter.hyperparams, len(draft)
        symbols, pitch = self.phrases.tracks.window(id, 0.0, 1 / hp.audio.frame_rate, frames)
        total = max(frames, hp.inpainter_training.segment_frames)
        backing = self.phrases.stem(id, ACCOMPANIMENT, total * hp.audio.hop_length)
        tracks, seed = MelTracks(draft, symbols, pitch), self.phrases.seed
        ranges = [(0, frames)]
        made = self.inpainter(tracks, total, backing, None, ranges, seed, quiet=True)
        return made.mel[:frames]
