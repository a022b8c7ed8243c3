"""feature/NAME to typed batches: spectrograms with text, segments, windows of songs.

Nothing but the index stays in memory: arrays are opened by memory map for each access. Every order
and every crop is a pure function of (seed, epoch, batch): a position (epoch, batch) is all that a
checkpoint needs, and a run resumed there sees exactly what it would have seen.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from corpora import on_the_fly
from corpora.packed import PackedItems
from corpora.records import FULL_SCALE, song_of
from corpora.stores import F0, FeatureStore, Resident, StemStore, frame_counts
from music.inputs import Movable, ScoreBatch, ScoreTracks, collate_scores
from training.batching import (
    FrameBudgetSampler,
    Part,
    Position,
    Sampler,
    SegmentSampler,
    evenly_spaced,
    made_ahead,
    walk,
)
from utils.seeds import numpy_generator

if TYPE_CHECKING:
    from hyperparams import Audio, Training
    from inpainter.mel_unet import MelSignal
    from training.resident_mels import ResidentSongs

__all__ = [
    "FeatureStore",
    "MelBatches",
    "MelLinearBatches",
    "MelWavBatch",
    "MelWavBatches",
    "ResidentMelBatches",
    "ScoreBatch",
    "ScoreTracks",
    "StemBatches",
    "StemStore",
    "TextMelBatches",
    "TextMelDataset",
    "collate_scores",
]


@dataclass(frozen=True)
class TextMelBatch(Movable):
    """Symbols and standardised mel of B items, padded with zeros behind their lengths."""

    ids: list[str]
    symbols: Tensor  # (B, N) int64
    symbol_lengths: Tensor  # (B,) int64
    mel: Tensor  # (B, T, M) float32
    mel_lengths: Tensor  # (B,) int64
    score: ScoreBatch | None  # None when no item of the batch has one
    phoneme_times: Tensor | None = (
        None  # (B, N, 2) float32, s: measured onsets and offsets, 0 = unknown
    )
    voice: Tensor | None = None  # (B,) int64: who sings, 0 = the network's first voice

    @property
    def num_frames(self) -> int:
        """Mel frames without padding."""
        return int(self.mel_lengths.sum())

    @property
    def is_sung(self) -> Tensor:
        """Which items have a score, (B,) bool; the others are spoken."""
        if self.score is None:
            lengths = self.symbol_lengths  # on the host in a batch that the host reads
            return torch.zeros(len(self.ids), dtype=torch.bool, device=lengths.device)
        return self.score.is_sung

    def select(self, row: int) -> TextMelBatch:
        """Return one item as a batch of its own, without padding."""
        num_symbols, num_frames = int(self.symbol_lengths[row]), int(self.mel_lengths[row])
        return TextMelBatch(
            [self.ids[row]],
            self.symbols[row : row + 1, :num_symbols],
            self.symbol_lengths[row : row + 1],
            self.mel[row : row + 1, :num_frames],
            self.mel_lengths[row : row + 1],
            None if self.score is None else self.score.select(row, num_symbols, num_frames),
            None if self.phoneme_times is None else self.phoneme_times[row : row + 1, :num_symbols],
            None if self.voice is None else self.voice[row : row + 1],
        )


@dataclass(frozen=True)
class MelLinearBatch(Movable):
    """Standardised mel and linear of B segments, padded with zeros behind their lengths."""

    ids: list[str]
    mel: Tensor  # (B, T, M) float32
    linear: Tensor  # (B, T, F) float32
    lengths: Tensor  # (B,) int64

    @property
    def num_frames(self) -> int:
        """Frames without padding."""
        return int(self.lengths.sum())


@dataclass(frozen=True)
class MelWavBatch(Movable):
    """Mel and waveform of B segments of T frames, padded with zeros."""

    ids: list[str]
    mel: Tensor  # (B, T, M) float32, natural logs
    f0: Tensor  # (B, T) float32, Hz, above 0 everywhere
    wav: Tensor  # (B, S) float32, S = hop · (T − 1): frame t lies around sample hop · t


SegmentBatch = TypeVar("SegmentBatch")  # MelLinearBatch or MelWavBatch


@dataclass(frozen=True)
class StemBatch(Movable):
    """Windows of songs, zeros behind the end of a song that is shorter than the window."""

    ids: list[str]  # of the songs
    starts: Tensor  # (B,) int64, sample of the song at which the window begins
    wav: Tensor  # (B, 2, S) float32, channel 0 the vocal, channel 1 the accompaniment
    lengths: Tensor  # (B,) int64, samples that belong to the song
    other: Tensor | None  # (B, S), another song's accompaniment: the shuffle control

    def map(self, function: Callable[[Tensor], Tensor]) -> StemBatch:
        """Apply `function` to what a network sees; `starts` stay on the host, which reads them."""
        return replace(super().map(function), starts=self.starts)

    def shuffled(self) -> Tensor:
        """Return the vocals over the other song's accompaniment, (B, 2, S); there must be one."""
        assert self.other is not None
        return torch.stack([self.wav[:, 0], self.other], dim=1)


@dataclass(frozen=True)
class TextMelItem:
    """One utterance: standardised mel, symbol ids, and the score's raw record."""

    id: str
    symbols: Tensor  # (N,) int64
    mel: Tensor  # (T, M) float32
    score: dict[str, list[Any]] | None
    phoneme_times: (
        Tensor  # (N, 2) float32, s: measured onset and offset of each symbol, 0 = unknown
    )
    voice: int = 0  # who sings, by the numbers of the network


class TextMelDataset:
    """Symbols and mel of one split."""

    def __init__(self, store: FeatureStore, split: str) -> None:
        self.store, self.items = store, store.items(split)
        self.standardise = store.standardiser("mel")
        self.times = store.phoneme_times()
        self.lengths = frame_counts(self.items)
        self.voices: dict[str, int] = {}  # number of each voice that a network tells apart
        self.resident: Resident | None = None

    def keep_on(self, device: torch.device) -> None:
        """Keep all mels on a device from now on; ValueError when they do not fit."""
        self.resident = Resident(self.store, self.items, ["mel"], device)
        self.standardise.to(device)

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.items)

    def use_voices(self, names: Sequence[str]) -> None:
        """Number the items' voices as a network does: names[0] is its voice 1."""
        self.voices = {name: number for number, name in enumerate(names, start=1)}

    def __getitem__(self, number: int) -> TextMelItem:
        """Read an item."""
        item = self.items[number]
        symbols = torch.tensor([self.store.symbol_ids[symbol] for symbol in item["symbols"]])
        if self.resident is not None:
            mel = self.resident.rows("mel", number)
        else:
            mel = torch.from_numpy(self.store.array("mel", item["id"]).astype(np.float32))
        phoneme_times = torch.zeros(len(symbols), 2)
        times = self.times.get(item["id"])
        if times is not None and len(times["onset"]) == len(symbols):
            phoneme_times = torch.tensor([times["onset"], times["offset"]]).T.contiguous()  # (N, 2)
        return TextMelItem(
            item["id"],
            symbols,
            self.standardise(mel),
            item.get("score"),
            phoneme_times,
            self.voices.get(item.get("voice", ""), 0),
        )

    def timed_kinds(self) -> set[bool]:
        """Return of which kinds there are items whose symbols have times: sung (True), spoken."""
        if isinstance(self.items, PackedItems):
            kinds = self.items.column("sung")[self.items.column("timed") > 0]
            return {bool(kind) for kind in np.unique(kinds)}
        return {bool(item.get("score")) for item in self.items if item["id"] in self.times}

    def collate(self, items: Sequence[TextMelItem]) -> TextMelBatch:
        """Pad items into a batch."""
        symbols = pad_sequence([item.symbols for item in items], batch_first=True)  # (B, N)
        mel = pad_sequence([item.mel for item in items], batch_first=True)  # (B, T, M)
        score = collate_scores(
            [item.score for item in items],
            symbols.shape[1],
            mel.shape[1],
            self.store.seconds_per_frame,
        )
        return TextMelBatch(
            [item.id for item in items],
            symbols,
            torch.tensor([len(item.symbols) for item in items]),
            mel,
            torch.tensor([len(item.mel) for item in items]),
            score,
            pad_sequence([item.phoneme_times for item in items], batch_first=True)
            if self.times
            else None,
            torch.tensor([item.voice for item in items]),
        )


class SegmentDataset(ABC, Generic[SegmentBatch]):
    """Arrays of the items of one split, in segments of `segment_frames` (0: whole items)."""

    kinds: ClassVar[tuple[str, ...]]

    def __init__(self, store: FeatureStore, split: str, segment_frames: int) -> None:
        self.store, self.items, self.segment_frames = store, store.items(split), segment_frames
        self.standardise: dict[str, nn.Module] = {kind: nn.Identity() for kind in self.kinds}
        self.lengths = frame_counts(self.items)
        if segment_frames:
            self.lengths = self.lengths.clip(max=segment_frames)
        self.resident: Resident | None = None

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.items)

    def segment(self, number: int, place: float) -> tuple[str, list[Tensor]]:
        """Cut the segment of an item that lies at `place`, from 0 (its start) to 1 (its end).

        Returns the id and an array (T, ...) of each kind, standardised; shorter than
        segment_frames only when the item is.
        """
        item, length = self.items[number], int(self.lengths[number])
        room = item["num_frames"] - length
        start = min(int(place * (room + 1)), room)
        return item["id"], [
            standardise(self._read(kind, number, item["id"], start, length))
            for kind, standardise in self.standardise.items()
        ]

    def _read(self, kind: str, number: int, id: str, start: int, length: int) -> Tensor:
        if self.resident is not None:
            return self.resident.rows(kind, number, start, start + length)
        crop = self.store.rows(kind, id, start, start + length)
        return torch.from_numpy(crop.astype(np.float32))

    @abstractmethod
    def collate(self, segments: Sequence[tuple[str, list[Tensor]]]) -> SegmentBatch:
        """Pad segments into a batch of segment_frames frames (whole items: of the longest)."""


class MelLinearDataset(SegmentDataset[MelLinearBatch]):
    """Mel and linear, standardised."""

    kinds = ("mel", "linear")

    def __init__(self, store: FeatureStore, split: str, segment_frames: int) -> None:
        super().__init__(store, split, segment_frames)
        self.standardisers = {kind: store.standardiser(kind) for kind in self.kinds}
        self.standardise.update(self.standardisers)

    def keep_on(self, device: torch.device) -> None:
        """Keep all spectrograms on a device from now on; ValueError when they do not fit."""
        self.resident = Resident(self.store, self.items, self.standardisers, device)
        for standardiser in self.standardisers.values():
            standardiser.to(device)

    def collate(self, segments: Sequence[tuple[str, list[Tensor]]]) -> MelLinearBatch:
        """Pad segments into a batch of segment_frames frames (whole items: of the longest)."""
        lengths = torch.tensor([len(mel) for _, (mel, _) in segments])
        size = self.segment_frames or int(lengths.max())
        mels = torch.stack([_pad_frames(mel, size) for _, (mel, _) in segments])
        linears = torch.stack([_pad_frames(linear, size) for _, (_, linear) in segments])
        return MelLinearBatch([id for id, *_ in segments], mels, linears, lengths)


class MelWavDataset(SegmentDataset[MelWavBatch]):
    """Mel, natural logs, F0 and waveform, of a corpus that keeps waveforms.

    F0, (T, 1) in Hz, is no part of a corpus: `store.elsewhere` says where it lies.
    """

    kinds = ("mel", F0, on_the_fly.KIND)

    def __init__(self, store: FeatureStore, split: str, segment_frames: int) -> None:
        if store.index.get("linear") != on_the_fly.ON_THE_FLY:
            raise ValueError(
                f"{store.directory} keeps linear spectrograms, not the waveforms that are asked "
                "for: prepare it again with --linear on-the-fly"
            )
        super().__init__(store, split, segment_frames)

    def collate(self, segments: Sequence[tuple[str, list[Tensor]]]) -> MelWavBatch:
        """Pad segments into a batch of segment_frames frames (whole items: of the longest)."""
        size = self.segment_frames or max(len(mel) for _, (mel, *_) in segments)
        silence = math.log(self.store.index["audio"]["log_floor"])
        mels = torch.stack([_pad_frames(mel, size, silence) for _, (mel, *_) in segments])
        last = [float(f0[-1]) for _, (_, f0, _) in segments]
        f0s = [_pad_frames(s[1][1], size, end) for s, end in zip(segments, last, strict=True)]
        rows = torch.stack([_pad_frames(rows, size) for _, (*_, rows) in segments])
        wav = rows[:, :-1].flatten(1) / FULL_SCALE
        return MelWavBatch([id for id, _ in segments], mels, torch.stack(f0s)[..., 0], wav)


def _pad_frames(values: Tensor, size: int, value: float = 0.0) -> Tensor:
    return torch.nn.functional.pad(values, (0, 0, 0, size - len(values)), value=value)


class TextMelBatches:
    """Batches of one split for the transformer: endless for training, fixed ones to judge by."""

    def __init__(
        self, store: FeatureStore, split: str, training: Training, prefetch: int = 2
    ) -> None:
        self.dataset, self.prefetch = TextMelDataset(store, split), prefetch
        self.workers = training.batch_workers
        self.sampler = FrameBudgetSampler(
            self.dataset.lengths, training.batch_frames, training.batch_size, training.seed
        )

    def __call__(
        self, position: Position = (0, 0), rank: int = 0, world_size: int = 1
    ) -> Iterator[tuple[TextMelBatch, Position]]:
        """Yield (batch, position after it) without end; see training.batching.walk."""
        stream = partial(self._generate, position, rank, world_size)
        return made_ahead(stream, self.workers, self.prefetch)

    def _generate(
        self, position: Position, rank: int, world_size: int, part: Part = (0, 1)
    ) -> Iterator[tuple[TextMelBatch, Position]]:
        steps = walk(self.sampler, position, rank, world_size)
        for numbers, _, following in itertools.islice(steps, part[0], None, part[1]):
            yield self._batch(numbers), following

    def _batch(self, numbers: Sequence[int]) -> TextMelBatch:
        return self.dataset.collate([self.dataset[number] for number in numbers])

    def head(self, count: int) -> Iterator[TextMelBatch]:
        """Yield at most `count` batches, always the same, spread from short to long items."""
        return map(self._batch, evenly_spaced(self.sampler.in_order(), count))

    def fixed(self, count: int) -> TextMelBatch:
        """Return one batch of at most `count` items, always the same, from short to long."""
        order = [number for numbers in self.sampler.in_order() for number in numbers]
        return self._batch(evenly_spaced(order, count))


class SegmentBatches(Generic[SegmentBatch]):
    """Segments for a PostNet: random crops for training, middles to judge by."""

    def __init__(
        self, dataset: SegmentDataset[SegmentBatch], training: Training, prefetch: int = 2
    ) -> None:
        self.dataset = dataset
        self.seed, self.prefetch, self.workers = training.seed, prefetch, training.batch_workers
        frames = max(training.batch_frames, training.segment_frames)
        self.by_length = FrameBudgetSampler(
            self.dataset.lengths, frames, training.batch_size, training.seed
        )
        self.sampler: Sampler = self.by_length
        if training.segment_frames:
            self.sampler = SegmentSampler(len(self.dataset), training.batch_size, training.seed)

    def __call__(
        self, position: Position = (0, 0), rank: int = 0, world_size: int = 1
    ) -> Iterator[tuple[SegmentBatch, Position]]:
        """Yield (batch, position after it) without end; see training.batching.walk."""
        stream = partial(self._generate, position, rank, world_size)
        return made_ahead(stream, self.workers, self.prefetch)

    def _generate(
        self, position: Position, rank: int, world_size: int, part: Part = (0, 1)
    ) -> Iterator[tuple[SegmentBatch, Position]]:
        steps = walk(self.sampler, position, rank, world_size)
        for numbers, here, following in itertools.islice(steps, part[0], None, part[1]):
            places = numpy_generator(self.seed, *here).random(len(numbers))
            segments = map(self.dataset.segment, numbers, places.tolist())
            yield self.dataset.collate(list(segments)), following

    def head(self, count: int) -> Iterator[SegmentBatch]:
        """Yield at most `count` batches, always the same: the middles of short to long items."""
        for numbers in evenly_spaced(self.by_length.in_order(), count):
            yield self.dataset.collate([self.dataset.segment(n, 0.5) for n in numbers])


class MelLinearBatches(SegmentBatches[MelLinearBatch]):
    """Mel and linear of one split, standardised."""

    dataset: MelLinearDataset

    def __init__(
        self, store: FeatureStore, split: str, training: Training, prefetch: int = 2
    ) -> None:
        dataset = MelLinearDataset(store, split, training.segment_frames)
        super().__init__(dataset, training, prefetch)


class MelWavBatches(SegmentBatches[MelWavBatch]):
    """Mel and waveform of one split."""

    def __init__(
        self, store: FeatureStore, split: str, training: Training, prefetch: int = 2
    ) -> None:
        dataset = MelWavDataset(store, split, training.segment_frames)
        super().__init__(dataset, training, prefetch)


class StemBatches:
    """Windows of one split's songs for the inpainter: endless random ones, fixed ones to judge by.

    Every window that lies within a song is equally likely, so long songs come more often.
    """

    def __init__(
        self,
        store: StemStore,
        split: str,
        training: Training,
        window: int,
        prefetch: int = 2,
        align: int = 1,
    ) -> None:
        """window: samples; align: windows begin on its multiples."""
        self.store, self.items, self.window = store, store.items(split), window
        self.align = align
        self.batch_size, self.seed, self.prefetch = training.batch_size, training.seed, prefetch
        self.workers = training.batch_workers
        rooms = [max(item["num_samples"] - window, 0) + 1 for item in self.items]
        self.ends = np.cumsum(rooms)  # of each song's starts on one line

    def __call__(
        self, position: Position = (0, 0), rank: int = 0, world_size: int = 1
    ) -> Iterator[tuple[StemBatch, Position]]:
        """Yield (batch, position after it) without end; position is (0, number of the batch).

        Of each group of `world_size` consecutive batches this rank takes the rank-th.
        """
        stream = partial(self._generate, position, rank, world_size)
        return made_ahead(stream, self.workers, self.prefetch)

    def _generate(
        self, position: Position, rank: int, world_size: int, part: Part = (0, 1)
    ) -> Iterator[tuple[StemBatch, Position]]:
        epoch, first = position
        for number in itertools.count(first + part[0] * world_size, part[1] * world_size):
            random = numpy_generator(self.seed, epoch, number + rank)
            places = random.integers(self.ends[-1], size=self.batch_size)
            yield self._batch(places.tolist()), (epoch, number + world_size)

    def _batch(self, places: Sequence[int], with_other: bool = False) -> StemBatch:
        songs = np.searchsorted(self.ends, places, side="right").tolist()
        starts = [
            int(place - (self.ends[song - 1] if song else 0)) // self.align * self.align
            for song, place in zip(songs, places, strict=True)
        ]
        items = [self.items[song] for song in songs]
        ids = [item["id"] for item in items]
        wav = self._signal(ids, starts)
        lengths = [
            min(i["num_samples"] - s, self.window) for i, s in zip(items, starts, strict=True)
        ]
        other = self._other(items, starts) if with_other else None
        return StemBatch(ids, torch.tensor(starts), wav, torch.tensor(lengths), other)

    def _signal(self, ids: Sequence[str], starts: Sequence[int]) -> Tensor:
        """Read the stems (B, 2, S) of windows from samples `starts` of songs on."""
        rows = zip(ids, starts, strict=True)
        return torch.stack([self.store.window(id, start, self.window) for id, start in rows])

    def _other(self, items: Sequence[dict[str, Any]], starts: Sequence[int]) -> Tensor | None:
        """Signal (B, S) of the accompaniments of songs that follow in the index, at like places.

        Another take is no other song. None when the corpus has one song only.
        """
        songs = self.store.index["items"]
        if len({song_of(song["id"]) for song in songs}) < 2:
            return None
        number = {song["id"]: index for index, song in enumerate(songs)}
        others = []
        for item, start in zip(items, starts, strict=True):
            after = number[item["id"]] + 1
            following = itertools.chain(songs[after:], songs)
            other = next(s for s in following if song_of(s["id"]) != song_of(item["id"]))
            room = max(other["num_samples"] - self.window, 0)
            place = round(start / max(item["num_samples"] - self.window, 1) * room)
            others.append((other["id"], place))
        ids, places = zip(*others, strict=True)
        return self._signal(ids, places)[:, 1]

    def head(self, count: int) -> Iterator[StemBatch]:
        """Yield `count` batches, always the same: windows spread evenly over all songs."""
        total = count * self.batch_size
        places = [int((k + 0.5) * self.ends[-1] / total) for k in range(total)]
        for number in range(count):
            # Every count-th window: each batch spans the whole split.
            yield self._batch(places[number::count], with_other=True)


class MelBatches:
    """Windows of stems whose waveforms are replaced by the signal of the mel inpainter."""

    def __init__(self, batches: StemBatches, signal: MelSignal) -> None:
        self.batches, self.signal = batches, signal

    def __call__(
        self, position: Position = (0, 0), rank: int = 0, world_size: int = 1
    ) -> Iterator[tuple[StemBatch, Position]]:
        """Yield (batch, position after it) without end; `wav` is (B, 2, T·M)."""
        for batch, following in self.batches(position, rank, world_size):
            yield self.convert(batch), following

    def head(self, count: int) -> Iterator[StemBatch]:
        """Yield `count` batches, always the same."""
        return map(self.convert, self.batches.head(count))

    def convert(self, batch: StemBatch) -> StemBatch:
        """Replace the waveforms of a batch by its signal; starts stay samples of the song."""
        other = None if batch.other is None else self.signal.of_accompaniment(batch.other)
        return replace(batch, wav=self.signal.of_audio(batch.wav), other=other)


class ResidentMelBatches(StemBatches):
    """The same windows, cut from mels that stay on a device.

    Their first and last frames hear the song beyond the window, where `MelBatches` mirrors it.
    """

    def __init__(
        self,
        store: StemStore,
        split: str,
        training: Training,
        audio: Audio,
        songs: ResidentSongs,
        signal: MelSignal,
    ) -> None:
        """signal: of the songs' device, as `songs`."""
        hop = audio.hop_length
        window = training.segment_frames * hop
        super().__init__(store, split, training, window, prefetch=0, align=hop)
        self.songs, self.signal = songs, signal

    def _signal(self, ids: Sequence[str], starts: Sequence[int]) -> Tensor:
        """Cut the signal (B, 2, T·M) of windows from samples `starts` of songs on."""
        frames = [round(start / self.align) for start in starts]
        rows = self.songs.rows(ids, frames, self.window // self.align)  # (B, T)
        vocal = self.signal.vocal(self.songs.mel("vocal", rows))
        accompaniment = self.signal.accompaniment(self.songs.mel("accompaniment", rows))
        return torch.stack([vocal.flatten(1), accompaniment.flatten(1)], dim=1)
