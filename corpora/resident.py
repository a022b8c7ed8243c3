"""Spectrograms of a split in the memory of a device: batches are cut there, nothing travels.

For a GPU whose memory holds them: 36 MB of mel an hour, 231 MB of linear spectrograms. Items lie
one behind the other in one tensor of each kind, in the precision of the cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from corpora.stores import FeatureStore, frame_counts

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
