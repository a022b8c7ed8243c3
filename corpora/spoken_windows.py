"""Windows of spoken recordings whose phonemes are timed, beside which songs are heard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor
from torch.nn import functional as F

from corpora.ljspeech import read_ljspeech
from corpora.stores import FeatureStore
from utils.audio import resample, to_mono

PREFIX = "speech/"  # of the ids, so that no song is called the same


class SpokenWindows:
    """Recordings of one split of an aligned speech corpus, read piece by piece from its folder."""

    def __init__(self, store: FeatureStore, directory: Path, split: str) -> None:
        """directory: that the corpus was prepared from, in the layout of LJ Speech.

        Raises FileNotFoundError and ValueError where recordings or their times are missing.
        """
        self.name = store.directory.name
        times = store.phoneme_times()
        paths = {u.id: u.wav_path for u in read_ljspeech(directory)[0]}
        self.sample_rate = store.index["sample_rate"]
        self.items = [i for i in store.items(split) if i["id"] in times and i["id"] in paths]
        if not self.items:
            raise ValueError(
                f"{store.directory}: {len(times)} recordings have timed phonemes, and none of them "
                f"is in {directory} and in the {split} split: python prepare_data.py align "
                f"{store.directory.name} {directory}"
            )
        self.paths = [paths[item["id"]] for item in self.items]
        self.times = times

    def scored(self) -> list[dict[str, Any]]:
        """The items as songs without notes: id, symbols and score, as an index of songs has."""
        return [
            {
                "id": PREFIX + item["id"],
                "symbols": item["symbols"],
                "score": {**self.times[item["id"]], "notes": []},
            }
            for item in self.items
        ]

    def window(self, number: int, place: float, samples: int) -> tuple[str, int, Tensor]:
        """Cut the window of item `number` at `place`, from 0 (its start) to 1 (its end).

        Returns its id, the sample at which it begins, and wav (samples,), zeros behind the end.
        """
        item, path = self.items[number], self.paths[number]
        room = max(item["num_samples"] - samples, 0)
        start = min(int(place * (room + 1)), room)
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            file.seek(min(round(start * rate / self.sample_rate), file.frames))
            count = -(-samples * rate // self.sample_rate)
            crop = torch.from_numpy(file.read(count, dtype="float32", always_2d=True).T.copy())
        wav = resample(to_mono(crop), rate, self.sample_rate)[:samples]
        return PREFIX + item["id"], start, F.pad(wav, (0, samples - len(wav)))
