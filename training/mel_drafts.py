"""Drafts for the inpainter on mels: a transformer's mels of songs, made, stored, and drawn.

Drafts are mels of whole songs, written beforehand by `prepare_data.py drafts` and stamped with the
weights that made them: DIRECTORY/KIND/SONG.npy (T, M) float16, natural logs, one frame per hop from
the song's start, silence where no phrase sounds. Shapes: B batch, T frames, M mels, N symbols.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from inpainter.context import Context, ContextMaker
from inpainter.diffusion import degrade_mel
from singing.chain import generate_mel, without_postfilter
from training.simulated_drafts import SimulatedContexts
from utils.audio import Standardiser
from utils.files import atomic, sweep_abandoned, write_json
from utils.loading import Loaded, describe_weights
from utils.seeds import derived_seed

if TYPE_CHECKING:
    from hyperparams import Audio, Diffusion
    from music.inputs import ScoreTracks
    from network import TransformerTTS

KINDS = ("teacher_forced", "free_running")
INDEX = "index.json"


class Phrases(Protocol):
    """Phrases of one split, as preprocess.TextMelDataset has them."""

    @property
    def items(self) -> Sequence[Mapping[str, Any]]:
        """Rows of the index."""

    standardise: Standardiser

    def __getitem__(self, number: int) -> Any:
        """Return an item."""

    def collate(self, items: Sequence[Any]) -> Any:
        """Pad items into a batch."""


class DraftStore:
    """Mels of songs that one transformer made, teacher-forced and free-running."""

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        path = self.directory / INDEX
        if not path.is_file():
            raise FileNotFoundError(
                f"no drafts at {path}: make them with python prepare_data.py drafts NAME "
                "--transformer CHECKPOINT, which prints the folder"
            )
        self.index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))

    def check(self, ids: Sequence[str], audio: Audio) -> None:
        """Raise ValueError for songs without drafts, and drafts of other spectrograms."""
        found = {name: self.index[name] for name in ("sample_rate", "hop_length", "n_mels")}
        expected = {name: getattr(audio, name) for name in found}
        if found != expected:
            raise ValueError(f"{self.directory} has mels of {found}, expected {expected}")
        missing = sorted(set(ids) - set(self.index["songs"]))
        if missing:
            raise ValueError(
                f"{self.directory} has no drafts of {len(missing)} songs, the first is "
                f"{missing[0]}: run the same prepare_data.py drafts again"
            )

    def window(self, kind: str, id: str, frame: int, frames: int) -> Tensor:
        """Read (T, M) float32 from a frame of the song on, silence behind its end."""
        song = np.load(self.directory / kind / f"{id}.npy", mmap_mode="r")
        mel = torch.from_numpy(song[frame : frame + frames].astype(np.float32))
        return F.pad(mel, (0, 0, 0, frames - len(mel)), value=self.index["silence"])


class MelContexts(SimulatedContexts):
    """Contexts of the mel inpainter: a transformer's drafts, else degraded true mels."""

    draft_part = "mel"

    def __init__(
        self,
        maker: ContextMaker,
        audio: Audio,
        config: Diffusion,
        tracks: ScoreTracks | None = None,
        drafts: DraftStore | None = None,
    ) -> None:
        """tracks: phonemes and notes, where the network takes them."""
        super().__init__(maker, audio, config, tracks)
        self.drafts = drafts

    def __call__(
        self, vocal: Tensor, ids: Sequence[str], starts: Tensor, generator: torch.Generator
    ) -> Context:
        """Return the context of vocals (B, T·M) from samples `starts` (B,) of songs `ids` on."""
        if not self.maker.parts:
            return Context()
        mel = vocal.unflatten(1, (-1, self.audio.n_mels))  # (B, T, M)
        frames = mel.shape[1]
        if self.drafts is None:
            draft = degrade_mel(mel, self.config, generator)
        else:
            draft = self.drawn(ids, starts, frames, generator).to(mel)
        phoneme, pitch = self.score(ids, starts, frames)
        device = vocal.device
        return self.maker(
            mel=draft,
            phoneme=None if phoneme is None else phoneme.to(device, non_blocking=True),
            pitch=None if pitch is None else pitch.to(device, non_blocking=True),
        )

    def draw_dropouts(
        self, batch: int, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Draw the items (B,) that lose each part of the context, and the accompaniment.

        Of a share `words_dropout` nothing but the notes is left: singing without words.
        """
        dropped, accompaniment = super().draw_dropouts(batch, generator)
        if self.config.words_dropout and "pitch" in self.maker.parts:
            u = torch.rand(batch, generator=generator, device=generator.device)
            is_wordless = u < self.config.words_dropout
            for part in self.maker.parts:
                is_kept = dropped[part] & ~is_wordless
                dropped[part] = is_kept if part == "pitch" else dropped[part] | is_wordless
        return dropped, accompaniment

    def drawn(
        self, ids: Sequence[str], starts: Tensor, frames: int, generator: torch.Generator
    ) -> Tensor:
        """Read standardised drafts (B, T, M), each of a kind drawn at random."""
        assert self.drafts is not None
        hop = self.audio.hop_length
        choices = torch.randint(
            len(KINDS), (len(ids),), generator=generator, device=generator.device
        )
        rows = [
            self.drafts.window(KINDS[kind], id, round(start / hop), frames)
            for id, start, kind in zip(ids, starts.tolist(), choices.tolist(), strict=True)
        ]
        return self.maker.standardise(torch.stack(rows).to(self.maker.is_voiced.device))


# ---------------------------------------------------------------------------- making drafts


@torch.inference_mode()
def make_drafts(
    transformer: Loaded[TransformerTTS],
    datasets: Sequence[Phrases],
    places: Mapping[str, tuple[str, float]],
    songs: Mapping[str, int],
    directory: Path,
    seed: int = 0,
) -> Path:
    """Write both kinds of drafts of all songs; return their folder, named by the weights.

    datasets: phrases; places: phrase → (song, start in s); songs: id → samples. A song that is
    there already is kept, so an interrupted run goes on. Without the postfilter that sharpens mels:
    to restore what regression averages away is the inpainter's task.
    """
    hp, stamp = transformer.hyperparams, describe_weights(transformer)
    directory = Path(directory) / str(stamp["sha256"])[:12]
    by_song: dict[str, list[tuple[Phrases, int]]] = defaultdict(list)
    for dataset in datasets:
        dataset.standardise = transformer.standardiser("mel").cpu()
        for number, item in enumerate(dataset.items):
            if item["id"] in places:
                by_song[places[item["id"]][0]].append((dataset, number))
    for folder in (directory, *(directory / kind for kind in KINDS)):
        sweep_abandoned(folder)
    silence = float(np.log(hp.audio.log_floor))
    for id, num_samples in tqdm(songs.items(), desc="drafts", unit="song"):
        paths = {kind: directory / kind / f"{id}.npy" for kind in KINDS}
        if all(path.is_file() for path in paths.values()):
            continue
        frames = -(-num_samples // hp.audio.hop_length)
        tracks = {kind: np.full((frames, hp.audio.n_mels), silence, np.float16) for kind in KINDS}
        for dataset, number in by_song[id]:
            batch = dataset.collate([dataset[number]])
            start = round(places[batch.ids[0]][1] * hp.audio.frame_rate)
            for kind, mel in phrase_drafts(transformer, batch, derived_seed(seed, id)).items():
                end = min(start + len(mel), frames)
                tracks[kind][start:end] = mel[: end - start].numpy()
        for kind, path in paths.items():
            with atomic(path, durable=False) as temporary, open(temporary, "wb") as file:
                np.save(file, tracks[kind])
    index = {
        "transformer": stamp,
        "sample_rate": hp.audio.sample_rate,
        "hop_length": hp.audio.hop_length,
        "n_mels": hp.audio.n_mels,
        "silence": silence,
        "songs": list(songs),
    }
    write_json(directory / INDEX, index)
    return directory


def phrase_drafts(transformer: Loaded[TransformerTTS], batch: Any, seed: int) -> dict[str, Tensor]:
    """Make both drafts (T, M) of the one phrase of a TextMelBatch, natural logs, on the CPU."""
    network, standardise = transformer.network, transformer.standardiser("mel")
    batch = batch.to(next(network.parameters()).device)
    forced = teacher_forced_mel(network, batch, seed % 2**63)
    synthesis = without_postfilter(transformer.hyperparams.synthesis)
    text = batch.symbols, batch.symbol_lengths
    free = generate_mel(network, *text, [seed % 2**63], synthesis, batch.score, voice=batch.voice)
    length = int(free.mel_lengths[0])
    mels = {"teacher_forced": forced[0], "free_running": free.mel[0, :length]}
    return {kind: standardise.inverse(mel).cpu() for kind, mel in mels.items()}


def teacher_forced_mel(network: TransformerTTS, batch: Any, seed: int) -> Tensor:
    """Predict the mel (B, T, M) of a TextMelBatch, each frame from the true ones before it.

    seed: of the dropout of the decoder's prenet.
    """
    torch.manual_seed(seed)
    text, true = (batch.symbols, batch.symbol_lengths), (batch.mel, batch.mel_lengths)
    return network(*text, *true, batch.score, batch.phoneme_times, voice=batch.voice).mel
