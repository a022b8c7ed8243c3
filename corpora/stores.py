"""Reading feature/NAME: the index at once, arrays by memory map on each access."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from corpora.cache import read_index
from corpora.songs import FULL_SCALE
from utils.audio import Standardiser


class Store:
    """Index and arrays of feature/NAME; `kind` is what the index must hold."""

    kind: str
    command: str  # that prepares such a corpus

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        self.elsewhere: dict[str, Path] = {}  # kind of array → folder that replaces its own
        self.index = read_index(self.directory)
        if self.index["kind"] != self.kind:
            raise ValueError(
                f"{self.directory} holds a corpus of kind {self.index['kind']!r}, expected "
                f"{self.kind!r}: python prepare_data.py {self.command} DIR --name NAME"
            )

    def items(self, split: str) -> list[dict[str, Any]]:
        """Return the index's items of a split; ValueError when there is none."""
        items = [item for item in self.index["items"] if item["split"] == split]
        if not items:
            raise ValueError(
                f"{self.directory}: no item of {len(self.index['items'])} is in the {split} split; "
                f"prepare the corpus again with a larger --{split}-share, or with another --seed"
            )
        return items

    def array(self, kind: str, id: str) -> np.ndarray:
        """Open an array of an item by memory map; ValueError when it is missing or damaged."""
        path = self.elsewhere.get(kind, self.directory / kind) / f"{id}.npy"
        try:
            return np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{path}: not readable ({error}); see: python prepare_data.py check "
                f"{self.directory.name}"
            ) from error

    def check_audio(self, audio: Any) -> None:
        """Raise ValueError naming the knobs when the cache was made with another Audio section."""
        other = dataclasses.asdict(audio)
        differing = [
            f"audio.{name}: prepared with {value}, asked for {other.get(name)}"
            for name, value in self.index["audio"].items()
            if other.get(name) != value
        ]
        if differing:
            raise ValueError(
                f"{self.directory} does not match the hyperparameters: {'; '.join(differing)}. "
                "Prepare it again under another name, or undo the change"
            )


class FeatureStore(Store):
    """Spectrograms with text: mel (T, M) and linear (T, F), float16 raw natural logs."""

    kind = "speech"
    command = "ljspeech"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.symbols: list[str] = self.index["symbols"]
        self.statistics: dict[str, dict[str, list[float]]] = self.index["statistics"]
        self.symbol_ids = {symbol: number for number, symbol in enumerate(self.symbols)}
        self.seconds_per_frame = self.index["audio"]["hop_length"] / self.index["sample_rate"]

    def for_checkpoint(self) -> dict[str, Any]:
        """Return what a network needs of its corpus to be used without it."""
        names = ("corpus", "symbols", "statistics")
        return {name: self.index[name] for name in names}

    def standardiser(self, kind: str) -> Standardiser:
        """Return the standardiser of `mel` or `linear`."""
        return Standardiser.from_statistics(self.statistics[kind])


class StemStore(Store):
    """Songs as aligned stems (2, S), channel 0 the vocal, channel 1 the accompaniment."""

    kind = "stems"
    command = "stems"

    def window(self, id: str, start: int, length: int) -> Tensor:
        """Read (2, length) float32 from sample `start`, zeros behind the end of the song.

        Constant time: nothing but the window is read.
        """
        crop = self.array("stems", id)[:, start : start + length]
        wav = torch.from_numpy(crop.astype(np.float32) / FULL_SCALE)
        return F.pad(wav, (0, length - wav.shape[1]))

    def for_checkpoint(self) -> dict[str, Any]:
        """Return what a network needs of its corpus to be used without it."""
        names = ("corpus", "loudness", "statistics")
        return {name: self.index[name] for name in names}
