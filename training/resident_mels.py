"""Mels of songs, their drafts and scores in a GPU's memory, for the inpainter on mels.

A window is cut where it is used: nothing is read, transformed or copied in a training step, which
takes a GPU less time than the spectra of its windows take a CPU. An hour of songs takes 36 MB for
each of vocal, accompaniment and every kind of draft.
Shapes: B batch, T frames, M mels, N frames of all songs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from corpora.stores import refuse_too_large
from inpainter.context import ContextMaker, window_mel
from training.mel_drafts import KINDS, DraftStore, MelContexts
from utils.audio import Features

if TYPE_CHECKING:
    from corpora.stores import StemStore
    from hyperparams import Audio, Diffusion
    from music.inputs import ScoreTracks

BLOCK = 4096  # frames whose spectra are computed together
STEMS = ("vocal", "accompaniment")


@dataclass(frozen=True)
class SongMels:
    """One song, frame by frame; natural logs."""

    id: str
    vocal: Tensor  # (T, M)
    accompaniment: Tensor  # (T, M)
    drafts: Mapping[str, Tensor] = field(default_factory=dict)  # kind → (T, M)
    phoneme: Tensor | None = None  # (T,) symbol ids, 0 = none
    pitch: Tensor | None = None  # (T,) MIDI note numbers, 0 = none


class ResidentSongs:
    """Songs one behind the other in a few tensors of a device, each with silence behind its end."""

    def __init__(
        self,
        songs: Sequence[SongMels],
        window: int,
        silence: float,
        device: torch.device | str,
    ) -> None:
        """window: frames of a window, of which none ends in the next song; silence: natural log.

        ValueError when the songs do not fit, or some have drafts or scores and others have not.
        """
        self.device = torch.device(device)
        lengths = [max(len(song.vocal), window) for song in songs]
        ends = np.cumsum([0, *lengths])
        self.first = {song.id: int(end) for song, end in zip(songs, ends, strict=False)}
        self.last = {s.id: int(end) - 1 for s, end in zip(songs, ends[1:], strict=True)}
        total, bands = int(ends[-1]), songs[0].vocal.shape[1]
        self.kinds = tuple(songs[0].drafts)
        names = (*STEMS, *(f"draft {kind}" for kind in self.kinds))
        refuse_too_large(2 * total * bands * len(names), self.device)
        self.mels = {
            name: torch.full((total, bands), silence, dtype=torch.float16, device=device)
            for name in names
        }
        self.tracks: dict[str, Tensor] = {}
        for name in ("phoneme", "pitch"):
            if getattr(songs[0], name) is not None:
                self.tracks[name] = torch.zeros(total, dtype=torch.int16, device=device)
        for song in songs:
            first, found = self.first[song.id], {"vocal": song.vocal, **contents(song)}
            if set(found) != {*self.mels, *self.tracks}:
                raise ValueError(
                    f"{song.id} has {sorted(found)}, expected {sorted({*self.mels, *self.tracks})}"
                )
            for name, rows in found.items():
                target = self.mels[name] if name in self.mels else self.tracks[name]
                target[first : first + len(rows)] = rows.to(target)

    def rows(self, ids: Sequence[str], frames: Sequence[int], length: int) -> Tensor:
        """Return the rows (B, T) of windows that begin at `frames` of songs `ids`, on the device.

        ValueError for a window that does not begin in its song.
        """
        if min(frames, default=0) < 0:
            raise ValueError(f"windows begin at frames {list(frames)}: expected 0 or more")
        first = torch.tensor([self.first[id] + f for id, f in zip(ids, frames, strict=True)])
        first = first.to(self.device, non_blocking=True)
        return first[:, None] + torch.arange(length, device=self.device)

    def mel(self, name: str, rows: Tensor) -> Tensor:
        """Cut log mels (B, T, M) float32 of rows (B, T); name: vocal, accompaniment, draft KIND."""
        return self.mels[name][rows].float()

    def track(self, name: str, rows: Tensor) -> Tensor | None:
        """Cut phonemes or pitches (B, T) int64; None where the songs have none."""
        return self.tracks[name][rows].long() if name in self.tracks else None


def contents(song: SongMels) -> dict[str, Tensor]:
    """Return what a song has besides its vocal, by the names of `ResidentSongs`."""
    tracks = {"phoneme": song.phoneme, "pitch": song.pitch}
    return {
        "accompaniment": song.accompaniment,
        **{f"draft {kind}": mel for kind, mel in song.drafts.items()},
        **{name: track for name, track in tracks.items() if track is not None},
    }


def song_mels(
    store: StemStore,
    audio: Audio,
    device: torch.device,
    tracks: ScoreTracks | None = None,
    drafts: DraftStore | None = None,
) -> Iterator[SongMels]:
    """Compute the mels of all songs of a corpus, on the device in blocks, and read the rest."""
    features, hop = Features(audio).to(device), audio.hop_length
    items = store.index["items"]
    for item in tqdm(items, desc=f"mels of songs to {device}", unit="song", disable=None):
        id, frames = item["id"], -(-item["num_samples"] // hop)
        reach = -(-audio.win_length // hop)  # frames
        blocks = []
        for first in range(0, frames, BLOCK):
            before, stop = min(first, reach), min(first + BLOCK, frames)
            samples = (stop + reach - first + before) * hop
            wav = store.window(id, (first - before) * hop, samples).to(device)  # (2, S)
            blocks.append(window_mel(features, wav)[:, before : before + stop - first])
        vocal, accompaniment = torch.cat(blocks, 1)
        phoneme = pitch = None
        if tracks is not None:
            phoneme, pitch = tracks.window(id, 0.0, 1 / audio.frame_rate, frames)
        made = {}
        if drafts is not None:
            made = {kind: drafts.window(kind, id, 0, frames) for kind in KINDS}
        yield SongMels(id, vocal, accompaniment, made, phoneme, pitch)


class ResidentMelContexts(MelContexts):
    """Contexts of the mel inpainter, cut from songs that stay on the device."""

    def __init__(
        self,
        maker: ContextMaker,
        audio: Audio,
        config: Diffusion,
        songs: ResidentSongs,
        drafts: DraftStore | None = None,
    ) -> None:
        """drafts: those that the songs have, None where they have none."""
        super().__init__(maker, audio, config, None, drafts)
        self.songs = songs

    def frames_of(self, starts: Tensor) -> list[int]:
        """Return the frames that windows from samples `starts` (B,), of the host, begin at."""
        return [round(start / self.audio.hop_length) for start in starts.tolist()]

    def rows(self, ids: Sequence[str], starts: Tensor, frames: int) -> Tensor:
        """Return the rows (B, T) of windows from samples `starts` (B,) of songs `ids` on."""
        return self.songs.rows(ids, self.frames_of(starts), frames)

    def drawn(
        self, ids: Sequence[str], starts: Tensor, frames: int, generator: torch.Generator
    ) -> Tensor:
        """Cut standardised drafts (B, T, M), each of a kind drawn at random."""
        songs, rows = self.songs, self.rows(ids, starts, frames)
        choices = torch.randint(
            len(songs.kinds), (len(ids),), generator=generator, device=generator.device
        ).to(rows.device)
        mel = songs.mel(f"draft {songs.kinds[0]}", rows)
        for number, kind in enumerate(songs.kinds[1:], start=1):
            is_other = (choices == number)[:, None, None]
            mel = torch.where(is_other, songs.mel(f"draft {kind}", rows), mel)
        return self.maker.standardise(mel)

    def score(
        self, ids: Sequence[str], starts: Tensor, frames: int
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return phoneme ids and MIDI notes (B, T) of windows, None where they are not taken."""
        rows = self.rows(ids, starts, frames)
        return self.songs.track("phoneme", rows), self.songs.track("pitch", rows)
