"""The inpainter behind the chain, and the one on mels behind the transformer, on phrases of songs.

Shapes: S samples, T frames, M mels.
"""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from corpora.songbook import phrase_places
from hyperparams import Hyperparams
from inpainter.context import Condition
from inpainter.diffusion import ACCOMPANIMENT, VOCAL
from music.inputs import ScoreTracks
from preprocess import StemStore
from singing.inpaint import check_symbols, inpaint_ranges
from singing.mels import MelInpainter, MelTracks
from singing.song import draft_gain, pad_to
from utils import config
from utils.audio import active_level
from utils.checkpoint import resolve
from utils.loading import Loaded, check_spectrograms, load_network


@dataclass(frozen=True)
class PhrasePlace:
    """The take of the stems that a phrase was cut from, and its start in s."""

    take: str
    start: float


class PhraseInpainter:
    """Inpaint drafts of phrases, each with its song's accompaniment at its place."""

    def __init__(
        self,
        inpainter: Loaded,
        stems: StemStore,
        places: Mapping[str, PhrasePlace],
        items: Sequence[dict[str, Any]],
        seed: int,
    ) -> None:
        """Check the phrases: ValueError when a song is not among the stems, or for other symbols.

        items: of the phrases' index, those with a score are used.
        """
        self.inpainter, self.stems, self.seed = inpainter, stems, seed
        known = {song["id"] for song in stems.index["items"]}
        self.items = {item["id"]: item for item in items if item.get("score")}
        lost = [id for id in self.items if id not in places or places[id].take not in known]
        if lost:
            raise ValueError(
                f"{stems.directory} has no accompaniment for {len(lost)} phrases, the first is "
                f"{lost[0]}: phrases and stems must come from the same command, "
                "python prepare_data.py songbook DIR --name NAME"
            )
        self.places = places
        self.table = list(inpainter.data["symbols"])
        check_symbols({s for item in self.items.values() for s in item["symbols"]}, inpainter)
        self.tracks = ScoreTracks(
            list(self.items.values()), {symbol: index for index, symbol in enumerate(self.table)}
        )

    @classmethod
    def of_corpus(
        cls, inpainter: Loaded, directory: Path, items: Sequence[dict[str, Any]], seed: int
    ) -> PhraseInpainter:
        """Open the stems NAME-stems beside the phrases that were cut from them, NAME."""
        stems = StemStore(directory.with_name(f"{directory.name}-stems"))
        stems.check_audio(inpainter.hyperparams.audio)
        places = {id: PhrasePlace(*place) for id, place in phrase_places(directory).items()}
        return cls(inpainter, stems, places, items, seed)

    def stem(self, id: str, channel: int, length: int) -> Tensor:
        """Read VOCAL or ACCOMPANIMENT of the song from the start of a phrase on, (length,)."""
        place = self.places[id]
        start = round(place.start * self.inpainter.hyperparams.audio.sample_rate)
        return pad_to(self.stems.window(place.take, start, length)[channel], length)

    def __call__(self, id: str, wav: Tensor) -> Tensor:
        """Inpaint the draft (S,) of a phrase at the level of the draft; silence stays silence."""
        hp = self.inpainter.hyperparams
        hop, rate = hp.audio.hop_length, hp.audio.sample_rate
        frames = -(-len(wav) // hop)
        symbols, pitch = self.tracks.window(id, 0.0, hop / rate, frames)
        if not wav.any():
            return wav
        gain = draft_gain(wav, torch.zeros_like(wav), self.inpainter.data, hop)
        condition = Condition(gain * wav, symbols, pitch)
        sung = inpaint_ranges(
            self.inpainter,
            torch.zeros_like(wav),
            self.stem(id, ACCOMPANIMENT, len(wav)),
            [(0, len(wav))],
            hp.inpainting,
            self.seed,
            condition,
            gain * wav,
            quiet=True,
        ).vocal
        level = active_level(sung, hop)
        if math.isinf(level):
            return sung
        return sung * 10 ** ((active_level(wav, hop) - level) / 20)

    def recording(self, id: str, length: int) -> Tensor:
        """Read the true vocal of a phrase, (length,)."""
        return self.stem(id, VOCAL, length)


# ---------------------------------------------------------------------------- mels

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
