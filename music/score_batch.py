"""Scores as tensors: the note conditioning of the networks, per symbol and per frame.

Shapes: B batch, N symbols, T frames.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Movable:
    """A dataclass of tensors that moves to a device as a whole."""

    def to(self, device: torch.device | str) -> Any:
        """Return a copy whose tensors (nested batches too) are on `device`."""
        changes = {
            field.name: value.to(device)
            for field in dataclasses.fields(self)
            if hasattr(value := getattr(self, field.name), "to")
        }
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class ScoreBatch(Movable):
    """The notes of a batch: per symbol, and per mel frame; zeros where nothing is sung."""

    pitch: Tensor  # (B, N) int64, MIDI note number, 0 = spoken
    duration: Tensor  # (B, N) float32, s
    position: Tensor  # (B, N) int64, place of the symbol in its syllable
    slur: Tensor  # (B, N) int64, 1 = the syllable goes on over another note
    interval: Tensor  # (B, N, 2) float32, s, onset and offset
    frame_pitch: Tensor  # (B, T) int64, the note that sounds at the frame, 0 = none
    frame_position: Tensor  # (B, T) float32, 0 at the note's onset, towards 1 at its offset

    @property
    def is_sung(self) -> Tensor:
        """Which items have a score, (B,) bool; the others are spoken."""
        return self.interval.amax(dim=(1, 2)) > 0

    def select(self, row: int, num_symbols: int, num_frames: int) -> ScoreBatch:
        """Return one item as a batch of its own, without padding."""
        sizes = {name: num_frames for name in ("frame_pitch", "frame_position")}
        return ScoreBatch(
            *(
                getattr(self, field.name)[row : row + 1, : sizes.get(field.name, num_symbols)]
                for field in dataclasses.fields(self)
            )
        )


def collate_scores(
    scores: Sequence[dict[str, list[Any]] | None],
    num_symbols: int,
    num_frames: int,
    seconds_per_frame: float,
) -> ScoreBatch | None:
    """Pad the scores of a batch to N symbols and T frames; None when no item has one.

    A score is {pitch, onset, offset, position, slur: one value per symbol; notes: [[onset, offset,
    MIDI number], ...]}, times in seconds.
    """
    if all(score is None for score in scores):
        return None
    batch = len(scores)
    symbol = {name: torch.zeros(batch, num_symbols) for name in ("pitch", "position", "slur")}
    interval = torch.zeros(batch, num_symbols, 2)
    frame_pitch = torch.zeros(batch, num_frames, dtype=torch.int64)
    frame_position = torch.zeros(batch, num_frames)
    times = torch.arange(num_frames, dtype=torch.float64) * seconds_per_frame
    for row, score in enumerate(scores):
        if score is None:
            continue
        length = len(score["pitch"])
        for name, values in symbol.items():
            values[row, :length] = torch.tensor(score[name], dtype=torch.float32)
        interval[row, :length, 0] = torch.tensor(score["onset"], dtype=torch.float32)
        interval[row, :length, 1] = torch.tensor(score["offset"], dtype=torch.float32)
        for onset, offset, pitch in score["notes"]:
            sounding = (times >= onset) & (times < offset)
            frame_pitch[row, sounding] = int(pitch)
            position = (times[sounding] - onset) / (offset - onset)
            frame_position[row, sounding] = position.float()
    return ScoreBatch(
        symbol["pitch"].long(),
        interval[..., 1] - interval[..., 0],
        symbol["position"].long(),
        symbol["slur"].long(),
        interval,
        frame_pitch,
        frame_position,
    )


class ScoreTracks:
    """What is sung at any time of songs with scores: symbol and note, frame by frame."""

    def __init__(self, items: Sequence[dict[str, Any]], symbol_ids: Mapping[str, int]) -> None:
        """items: of an index, each with symbols and score, see `collate_scores`."""
        self.spans = {}
        for item in items:
            score = item["score"]
            ids = [symbol_ids[symbol] for symbol in item["symbols"]]
            symbols = zip(score["onset"], score["offset"], ids, strict=True)
            self.spans[item["id"]] = _sorted_spans(symbols), _sorted_spans(score["notes"])

    def window(self, id: str, start: float, step: float, num_frames: int) -> tuple[Tensor, Tensor]:
        """Symbol ids and MIDI numbers (T,) int64 at start, start + step, ... in s; 0 = none."""
        times = start + step * np.arange(num_frames)
        symbols, notes = (torch.from_numpy(_at(times, spans)) for spans in self.spans[id])
        return symbols, notes


def with_sung_times(
    items: Sequence[dict[str, Any]], times: Mapping[str, Mapping[str, Sequence[float]]]
) -> list[dict[str, Any]]:
    """Return songs of an index with the times of their symbols.

    `times` is {id: {onset, offset}} of those that are known; the others keep the slots that their
    score leaves them.
    """
    return [
        {**item, "score": {**item["score"], **times[item["id"]]}} if item["id"] in times else item
        for item in items
    ]


def _sorted_spans(spans: Iterable[Sequence[float]]) -> np.ndarray:
    """Rows (onset, offset, value) by onset; of those that begin together the longest comes last."""
    return np.array(sorted(tuple(span) for span in spans), dtype=np.float64).reshape(-1, 3)


def _at(times: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """The value of the last span that has begun at each time and is not over, else 0."""
    onsets, offsets, values = spans.T
    if not len(onsets):
        return np.zeros(len(times), np.int64)
    last = np.searchsorted(onsets, times, side="right") - 1
    is_over = (last < 0) | (times >= offsets[last])
    return np.where(is_over, 0, values[last]).astype(np.int64)
