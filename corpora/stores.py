"""Reading feature/NAME: the index at once, arrays by memory map on each access."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from corpora import on_the_fly
from corpora.on_the_fly import ON_THE_FLY
from corpora.packed import (
    PACKED,
    PackedArrays,
    PackedEntries,
    PackedItems,
    PackedTimes,
    read_packed,
)
from corpora.records import FULL_SCALE, INDEX_NAME, read_index
from hyperparams import Audio
from utils.audio import Standardiser
from utils.files import UNREADABLE, Unreadable, reading

OF_ONE = ("voices", "linear")  # entries of an index that do not hold for others beside it
PHONEME_TIMES = "phoneme_times.json"
PHONEME_TIMES_VERSION = 1
F0 = "f0"  # kind of array that no corpus has, see `Store.elsewhere`: Hz, above 0 everywhere


class Store:
    """Index and arrays of feature/NAME; `kind` is what the index must hold."""

    kind: str
    command: str  # that prepares such a corpus

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        self.elsewhere: dict[str, Path] = {}  # kind of array → folder that replaces its own
        self._packed: dict[str, PackedArrays] = {}
        if (self.directory / PACKED).is_file():
            self.index = read_packed(self.directory)
        else:
            self.index = read_index(self.directory)
        if self.index["kind"] != self.kind:
            raise ValueError(
                f"{self.directory} holds a corpus of kind {self.index['kind']!r}, expected "
                f"{self.kind!r}: python prepare_data.py {self.command} DIR --name NAME"
            )

    def items(self, split: str) -> Sequence[dict[str, Any]]:
        """Return the index's items of a split; ValueError when there is none."""
        everything = self.index["items"]
        items: Sequence[dict[str, Any]]
        if isinstance(everything, PackedItems):
            items = everything.of_split(split)
        else:
            items = [item for item in everything if item["split"] == split]
        if not len(items):
            raise ValueError(
                f"{self.directory}: no item of {len(self.index['items'])} is in the {split} split; "
                f"prepare the corpus again with a larger --{split}-share, or with another --seed"
            )
        return items

    def phoneme_times(self) -> Mapping[str, dict[str, list[float]]]:
        """Return {id: {onset, offset: s of every symbol}} of the items whose times are known."""
        items = self.index["items"]
        if isinstance(items, PackedItems):
            return PackedTimes(items.table)
        return read_phoneme_times(self.directory)

    def array(self, kind: str, id: str) -> np.ndarray:
        """Open an array of an item; Unreadable when it is missing or damaged."""
        return self.rows(kind, id)

    def rows(self, kind: str, id: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read rows start … stop of an array of an item, no others: from a pack, or by memory map.

        Raises Unreadable when it is missing or damaged.
        """
        items = self.index["items"]
        if isinstance(items, PackedItems) and kind not in self.elsewhere:
            arrays = self._packed.setdefault(kind, PackedArrays(items.table, kind))
            with reading(self.directory / PACKED):
                return arrays.of(id, start, stop)
        path = self.elsewhere.get(kind, self.directory / kind) / f"{id}.npy"
        try:
            array = np.load(path, mmap_mode="r")
            if array.dtype.kind not in "fi" or array.shape != (shape := self.shape(kind, id)):
                raise ValueError(f"{array.dtype} {array.shape}, expected numbers {shape}")
            return array[start:stop]
        except (*UNREADABLE, OSError, ValueError) as error:
            raise Unreadable(
                f"{path}: not readable ({error}); see: python prepare_data.py check "
                f"{self.directory.name}"
            ) from error

    def shape(self, kind: str, id: str) -> tuple[int, int]:
        """Return the shape that an array must have by the index."""
        raise NotImplementedError

    @cached_property
    def entries(self) -> Mapping[str, dict[str, Any]]:
        """The index's items by id."""
        if isinstance(items := self.index["items"], PackedItems):
            return PackedEntries(items.table)
        return {item["id"]: item for item in self.index["items"]}

    def check_audio(self, audio: Any) -> None:
        """Raise ValueError naming the knobs when the cache was made with another Audio section."""
        other = dataclasses.asdict(audio)
        with reading(self.directory / INDEX_NAME):
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
    """Spectrograms with text: mel (T, M) and linear (T, F), float16 raw natural logs.

    Linear ones are stored, or made of the stored waveform (see corpora.on_the_fly).
    """

    kind = "speech"
    command = "ljspeech"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        with reading(self.directory / INDEX_NAME):
            self.symbols: list[str] = self.index["symbols"]
            self.statistics: dict[str, dict[str, list[float]]] = self.index["statistics"]
            self.symbol_ids = {symbol: number for number, symbol in enumerate(self.symbols)}
            self.seconds_per_frame = self.index["audio"]["hop_length"] / self.index["sample_rate"]
            for kind in ("mel", "linear"):
                self.standardiser(kind)
            if not isinstance(self.index["items"], PackedItems):
                self.pitch_range(self.index["items"])

    def shape(self, kind: str, id: str) -> tuple[int, int]:
        """Return (T, M) of a mel, (T, F) of a spectrum, (T, hop) of a waveform, (T, 1) of F0."""
        columns = {on_the_fly.KIND: self._audio.hop_length, F0: 1}.get(kind)
        return self.entries[id]["num_frames"], columns or len(self.statistics[kind]["mean"])

    @cached_property
    def _audio(self) -> Audio:
        return Audio(**self.index["audio"])

    def rows(self, kind: str, id: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read frames start … stop of a spectrogram of an item; see `Store.rows`."""
        is_made = kind == "linear" and self.index.get("linear") == ON_THE_FLY
        if not is_made or kind in self.elsewhere:
            return super().rows(kind, id, start, stop)
        item = self.entries[id]
        num_samples, frames = item["num_samples"], item["num_frames"]
        stop = frames if stop is None else min(stop, frames)
        if start >= stop:
            return np.zeros((0, self.shape(kind, id)[1]), dtype=np.float16)
        first, last = on_the_fly.rows_needed(start, stop - start, frames, self._audio)
        rows = super().rows(on_the_fly.KIND, id, first, last)
        return on_the_fly.linear_frames(rows, first, num_samples, start, stop - start, self._audio)

    def for_checkpoint(self) -> dict[str, Any]:
        """Return what a network needs of its corpus to be used without it."""
        names = ("corpus", "symbols", "statistics")
        return {name: self.index[name] for name in names} | {"pitch_range": self.pitch_range()}

    def voices(self) -> list[str]:
        """Return the names of the voices that items have, in their order."""
        if "voices" in self.index:  # of a pack
            return list(self.index["voices"])
        return list(dict.fromkeys(i["voice"] for i in self.index["items"] if i.get("voice")))

    def adopt_statistics(self, statistics: dict[str, dict[str, list[float]]]) -> None:
        """Standardise by those of another run, whose weights know no others.

        Raises ValueError where its spectrograms have another number of bands.
        """
        for kind, own in self.statistics.items():
            if {k: len(v) for k, v in statistics[kind].items()} != {
                k: len(v) for k, v in own.items()
            }:
                raise ValueError(
                    f"{self.directory}: its {kind} spectrograms have {len(own['mean'])} bands, "
                    f"those of the weights to begin with {len(statistics[kind]['mean'])}"
                )
        self.statistics = {kind: statistics[kind] for kind in self.statistics}
        self.index = {**self.index, "statistics": self.statistics}

    def pitch_range(self, items: Sequence[dict[str, Any]] | None = None) -> list[int] | None:
        """Return the lowest and the highest note (MIDI) of the training items, None for speech."""
        if items is None and isinstance(self.index["items"], PackedItems):
            return self.index["pitch_range"]
        items = self.items("train") if items is None else items
        scores = [item["score"] for item in items if item.get("score")]
        pitches = [pitch for score in scores for _, _, pitch in score["notes"]]
        return [min(pitches), max(pitches)] if pitches else None

    def pitch_ranges(self) -> dict[str, list[int]]:
        """Return the same of each voice that sings, "" being the one without a name."""
        if isinstance(self.index["items"], PackedItems):
            return self.index.get("pitch_ranges", {})  # packed by an earlier version: unknown
        items = [item for item in self.items("train") if item.get("score")]
        names = dict.fromkeys(item.get("voice") or "" for item in items)
        found = {
            name: self.pitch_range([i for i in items if (i.get("voice") or "") == name])
            for name in names
        }
        return {name: known for name, known in found.items() if known}

    def standardiser(self, kind: str) -> Standardiser:
        """Return the standardiser of `mel` or `linear`."""
        return Standardiser.from_statistics(self.statistics[kind])


class JointFeatureStore(FeatureStore):
    """Several prepared corpora as one: items are called CORPUS/ID, statistics are pooled."""

    def __init__(self, directories: Sequence[Path]) -> None:
        """ValueError for corpora that were prepared with other audio or other symbols."""
        self.parts = {Path(directory).name: FeatureStore(directory) for directory in directories}
        first, *others = self.parts.values()
        for other in others:
            for key in ("sample_rate", "audio", "symbols"):
                if other.index[key] != first.index[key]:
                    raise ValueError(
                        f"{first.directory} and {other.directory} differ in {key}: prepare one of "
                        "them again with the other's hyperparameters to train on both"
                    )
        self.directory = first.directory.parent / ",".join(self.parts)
        self.elsewhere: dict[str, Path] = {}
        self.symbols, self.symbol_ids = first.symbols, first.symbol_ids
        self.seconds_per_frame = first.seconds_per_frame
        self.statistics = {
            kind: self._pooled([store.statistics[kind] for store in self.parts.values()])
            for kind in first.statistics
        }
        own = {name: value for name, value in first.index.items() if name not in OF_ONE}
        self.index = {
            **own,
            "corpus": " + ".join(store.index["corpus"] for store in self.parts.values()),
            "statistics": self.statistics,
            "items": [
                {**item, "id": f"{name}/{item['id']}"}
                for name, store in self.parts.items()
                for item in store.index["items"]
            ],
        }

    def _pooled(self, statistics: Sequence[dict[str, list[float]]]) -> dict[str, list[float]]:
        """Mean and standard deviation of all training frames, from those of each corpus."""
        frames = np.array(
            [frame_counts(store.items("train")).sum() for store in self.parts.values()],
            dtype=np.float64,
        )[:, None]
        share = frames / frames.sum()
        mean, std = (np.array([s[name] for s in statistics]) for name in ("mean", "std"))
        pooled = (share * mean).sum(0)
        variance = (share * (std**2 + mean**2)).sum(0) - pooled**2
        return {"mean": pooled.tolist(), "std": np.sqrt(variance).tolist()}

    def rows(self, kind: str, id: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read rows of an array of item CORPUS/ID; see `Store.rows`."""
        if kind in self.elsewhere:
            return super().rows(kind, id, start, stop)
        corpus, _, own = id.partition("/")
        return self.parts[corpus].rows(kind, own, start, stop)

    def phoneme_times(self) -> Mapping[str, dict[str, list[float]]]:
        """Return the times of all corpora that were aligned."""
        return {
            f"{name}/{id}": times
            for name, store in self.parts.items()
            for id, times in store.phoneme_times().items()
        }


def frame_counts(items: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return the frames of every item, (I,) int64; of a packed corpus without reading one."""
    if isinstance(items, PackedItems):
        return items.column("num_frames").astype(np.int64)
    return np.array([item["num_frames"] for item in items], dtype=np.int64)


def open_features(directory: Path, names: str) -> FeatureStore:
    """Open directory/NAME, or directory/A and directory/B as one for the names `A,B`."""
    parts = [name for name in names.split(",") if name]
    if len(set(parts)) != len(parts) or not parts:
        raise ValueError(f"--data {names}: expected one name, or different names as A,B")
    if len(parts) == 1:
        return FeatureStore(Path(directory) / parts[0])
    return JointFeatureStore([Path(directory) / name for name in parts])


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

    def shape(self, kind: str, id: str) -> tuple[int, int]:
        """Return (2, S)."""
        return 2, self.entries[id]["num_samples"]

    def for_checkpoint(self) -> dict[str, Any]:
        """Return what a network needs of its corpus to be used without it."""
        names = ("corpus", "loudness", "statistics")
        with reading(self.directory / INDEX_NAME):
            return {name: self.index[name] for name in names}


def read_phoneme_times(
    directory: Path, name: str = PHONEME_TIMES
) -> dict[str, dict[str, list[float]]]:
    """The aligned items of feature/NAME by id; empty when the corpus was never aligned."""
    path = Path(directory) / name
    if not path.is_file():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != PHONEME_TIMES_VERSION:
            raise ValueError(f"version {content['version']}, expected {PHONEME_TIMES_VERSION}")
        return content["items"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: not a file of alignments ({error}); remove it and align again: "
            f"python prepare_data.py align {Path(directory).name} DIR"
        ) from error


# ---------------------------------------------------------------------------- on a device
# For a GPU whose memory holds them: 36 MB of mel an hour, 231 MB of linear spectrograms. Items lie
# one behind the other in one tensor of each kind, in the precision of the cache.

LARGEST_SHARE = 0.6  # of a GPU's free memory that a corpus may take


class Resident:
    """The arrays of some kinds of a split on a device."""

    def __init__(
        self,
        store: FeatureStore,
        items: Sequence[dict[str, Any]],
        kinds: Iterable[str],
        device: torch.device,
    ) -> None:
        """Raises ValueError when they do not fit."""
        ends = np.cumsum(frame_counts(items))
        columns = {kind: len(store.statistics[kind]["mean"]) for kind in kinds}
        refuse_too_large(2 * int(ends[-1]) * sum(columns.values()), device)
        self.ends = ends
        self.tensors = {
            kind: torch.empty(int(ends[-1]), width, dtype=torch.float16, device=device)
            for kind, width in columns.items()
        }
        title = f"{', '.join(columns)} to {device}"
        for number, item in enumerate(tqdm(items, desc=title, unit="item", disable=None)):
            for kind, tensor in self.tensors.items():
                rows = np.array(store.rows(kind, item["id"]), dtype=np.float16)
                tensor[self._first(number) : int(ends[number])] = torch.from_numpy(rows)

    def _first(self, number: int) -> int:
        return int(self.ends[number - 1]) if number else 0

    def rows(self, kind: str, number: int, start: int = 0, stop: int | None = None) -> Tensor:
        """Return frames start … stop of an item, (T, C) float16, without a copy."""
        first, last = self._first(number), int(self.ends[number])
        stop = last if stop is None else min(first + stop, last)
        return self.tensors[kind][first + start : stop]


def refuse_too_large(size: int, device: torch.device) -> None:
    """Raise ValueError when `size` bytes take too much of a GPU's free memory."""
    if device.type != "cuda":
        return
    free, _ = torch.cuda.mem_get_info(device)
    if size > LARGEST_SHARE * free:
        raise ValueError(
            f"the corpus takes {size / 1e9:.1f} GB; {device} has {free / 1e9:.1f} GB free, and "
            f"training needs {1 - LARGEST_SHARE:.0%} of that: leave corpus_on_device out"
        )
