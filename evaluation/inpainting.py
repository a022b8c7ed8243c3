"""The inpainter on held-out windows: how far vocals made anew are from the true stems.

Shapes: B windows, S samples, T frames; channel 0 the vocal, channel 1 the accompaniment.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from corpora.records import song_of
from evaluation import statistics as bootstrap
from evaluation.frechet import (
    Frechet,
    SpeechEmbedding,
    frechet,
    resampled_distances,
    store,
    stored,
)
from evaluation.statistics import Estimate, PairedTest
from inpainter.context import Context, ContextMaker, window_mel
from inpainter.diffusion import ACCOMPANIMENT, VOCAL, degrade_mel
from inpainter.sampling import sample
from singing.chain import linear_of, waveform
from utils.audio import Features, read_wav, write_wav
from utils.loading import Loaded, denoiser_of
from utils.metrics import LINEAR_FLOOR, MEL_FLOOR, log_spectral_distance, mel_distance
from utils.seeds import torch_generator

if TYPE_CHECKING:
    from hyperparams import Hyperparams, UNet
    from preprocess import StemBatch

WALKED = {"draft_steps": 0}  # as many levels as without a draft
REPAINT = WALKED | {
    "method": "repaint",
    "step": "dpm2_ancestral",
    "num_steps": 40,
    "num_resamples": 5,
}
GAP = (0.3, 0.7)  # share of a window
REFINING = 0.5  # share of the schedule that a waveform is taken through to be refined
PARTS = {"": (0.0, 1.0), "gap_": GAP}  # prefix of a row's name → what of the window is judged
FLOORS = ("silence", "other_vocal")


@dataclass(frozen=True)
class Inpainting:
    """One way to make a part of a vocal anew; `changes` of the checkpoint's sampling knobs."""

    note: str
    unknown: tuple[float, float] = (0.0, 1.0)  # share of the window
    changes: Mapping[str, Any] = field(default_factory=dict)
    draft: bool = False  # is the degraded mel of the true vocal given?
    own: bool = True  # its own accompaniment, or another song's
    diffuse: bool = True  # false: the draft itself, through PostNet and Griffin-Lim
    start: bool = False  # does the sampler begin with that waveform? `changes` has the strength

    def is_possible(self, hp: Hyperparams) -> bool:
        """Can a network of these hyperparameters do it?"""
        method = self.changes.get("method", hp.inpainting.method)
        sees = hp.unet.mask_input or method != "conditional"
        return sees and (bool(hp.unet.context_width) or not self.draft)

    def needs_waveform(self, unet: UNet) -> bool:
        """Is a draft's waveform asked for, which takes a PostNet?"""
        return self.start or not self.diffuse or (self.draft and unet.draft_input)


WAYS = {
    "default": Inpainting("all of the vocal, from the accompaniment"),
    "repaint": Inpainting("the same by RePaint 40×5, between the same levels", changes=REPAINT),
    "shuffled": Inpainting("the same from another song's accompaniment", own=False),
    "draft": Inpainting("all of the vocal, from accompaniment and draft", draft=True),
    "draft_unmixed": Inpainting(
        "the same with nothing of the draft's own waveform",
        changes={"draft_share": 0.0},
        draft=True,
    ),
    "draft_walked": Inpainting(
        "the same by as many levels as without a draft", changes=WALKED, draft=True
    ),
    "draft_repaint": Inpainting("the same by RePaint 40×5", changes=REPAINT, draft=True),
    "draft_shuffled": Inpainting("from another accompaniment and the draft", draft=True, own=False),
    "draft_griffin_lim": Inpainting("the draft by PostNet, Griffin-Lim", draft=True, diffuse=False),
    "draft_refined": Inpainting(
        "what Griffin-Lim made, from the last part of the schedule",
        changes={"strength": REFINING, "draft_share": 0.0},
        draft=True,
        start=True,
    ),
    "gap": Inpainting("a gap in the vocal, from what is around it", GAP),
    "gap_repaint": Inpainting("the same by RePaint 40×5", GAP, REPAINT),
    "gap_replacement": Inpainting("by replacement", GAP, {"method": "replacement"}),
    "gap_repaint_equal": Inpainting(
        "by RePaint with as many evaluations as the default",
        GAP,
        {"method": "repaint", "step": "euler", "num_steps": 6, "num_resamples": 4},
    ),
    "gap_mcg": Inpainting("by manifold-constrained gradient", GAP, {"method": "mcg"}),
    "gap_guided": Inpainting("by reconstruction guidance", GAP, {"method": "guided"}),
}
DEFAULT_ROWS = (
    "default",
    "repaint",
    "shuffled",
    "draft",
    "draft_repaint",
    "draft_shuffled",
    "gap",
    "gap_repaint",
)
# Pairs of rows of which the second should be farther from the truth, and what that would mean.
CONTROLS = (
    ("default", "shuffled", "the accompaniment is listened to"),
    ("draft", "draft_shuffled", "the accompaniment is listened to beside a draft"),
    ("draft", "default", "a draft helps"),
    ("draft", "draft_unmixed", "a share of the draft's own waveform brings it nearer"),
    ("draft", "draft_walked", "with a draft few levels are enough"),
    ("draft", "draft_repaint", "the default beats the earlier default with a draft"),
    ("draft", "draft_griffin_lim", "the inpainter beats Griffin-Lim as the last stage"),
    ("draft_refined", "draft_griffin_lim", "refining Griffin-Lim's waveform brings it nearer"),
    ("default", "repaint", "the default beats the earlier default"),
    ("gap", "gap_repaint", "the default beats the earlier default in a gap"),
    ("gap", "gap_repaint_equal", "it does with as many evaluations"),
    ("gap", "gap_replacement", "it beats replacement"),
    ("gap", "gap_mcg", "it beats the manifold-constrained gradient"),
    ("gap", "gap_guided", "it beats reconstruction guidance"),
    ("default", "other_vocal", "it beats another vocal"),
)


class Distances:
    """Log-spectral and mel distance of vocals to the true ones, over the part that was unknown."""

    def __init__(self, loaded: Loaded) -> None:
        device = next(loaded.network.parameters()).device
        self.features = Features(loaded.hyperparams.audio).to(device)

    def __call__(self, made: Tensor, true: Tensor, part: tuple[float, float]) -> list[list[float]]:
        """made, true (B, S), part of the window → (LSD in dB, mel distance in dB) of each item."""
        spectra = [self.features(wav) for wav in (made, true)]
        frames = spectra[0][0].shape[1]
        here = slice(math.ceil(part[0] * frames), math.floor(part[1] * frames))
        mels, linears = (
            [features[:, here].cpu().numpy() for features in pair]
            for pair in zip(*spectra, strict=True)
        )
        return [
            [
                log_spectral_distance(linears[0][row], linears[1][row], LINEAR_FLOOR),
                mel_distance(mels[0][row], mels[1][row], MEL_FLOOR),
            ]
            for row in range(len(made))
        ]


class InpaintingJudge:
    """Makes the vocals of fixed windows anew, by every way that is asked for."""

    def __init__(
        self,
        loaded: Loaded,
        postnet: Loaded | None,
        batches: Sequence[StemBatch],
        seed: int,
        out: Path,
        embedding: SpeechEmbedding | None,
    ) -> None:
        """postnet: for the ways that need one; embedding: for the Fréchet distance.

        The loudest window's sounds are written to `out`, embeddings below it.
        """
        self.embedding = embedding
        self.loaded, self.postnet, self.batches, self.seed = loaded, postnet, batches, seed
        self.distances, self.out = Distances(loaded), out
        self.device = next(loaded.network.parameters()).device
        self.features = Features(loaded.hyperparams.audio).to(self.device)
        self.vocals = torch.cat([batch.wav[:, VOCAL] for batch in batches])
        self.loudest = int(self.vocals.square().mean(1).argmax())
        self.firsts = [
            sum(len(batch.ids) for batch in batches[:number]) for number in range(len(batches))
        ]

    def judge(self, id: str) -> dict[str, Any]:
        """The record of WAY/BATCH, or of FLOOR/BATCH: distances, evaluations, seconds, songs."""
        name, _, number = id.rpartition("/")
        batch, first = self.batches[int(number)].to(self.device), self.firsts[int(number)]
        true = batch.wav[:, VOCAL]
        way = WAYS.get(name)
        began = time.perf_counter()
        if way is None:
            prefix = next(prefix for prefix in PARTS if name.removeprefix(prefix) in FLOORS)
            part, evaluations = PARTS[prefix], 0
            made = self.floor(name.removeprefix(prefix), true, first)
        elif not way.diffuse:
            part, evaluations, made = way.unknown, 0, self.griffin_lim(batch, first)
        else:
            part = way.unknown
            made, evaluations = self.inpaint(batch, way, first)
        seconds = (time.perf_counter() - began) * self.loaded.hyperparams.audio.sample_rate
        if way is not None and first <= self.loudest < first + len(true):
            self.write(name, made[self.loudest - first])
            self.write("true", true[self.loudest - first])
        if self.embedding is not None and part == PARTS[""]:
            self.embed(name, number, made)
            if name == FLOORS[0]:  # judged in every evaluation, once
                self.embed("true", number, true)
        return {
            "songs": [song_of(id) for id in batch.ids],
            "distances": self.distances(made, true, part),
            "evaluations": evaluations,
            "seconds": seconds / true.numel() if way is not None else 0.0,  # per second of audio
        }

    def floor(self, name: str, true: Tensor, first: int) -> Tensor:
        """Silence, or a vocal from half a split away: another place, or another song."""
        if name == "silence":
            return torch.zeros_like(true)
        others = self.vocals.roll(-(len(self.vocals) // 2), 0)
        return others[first : first + len(true)].to(self.device)

    def context(self, batch: StemBatch, first: int) -> Context:
        """The drafts of the true vocals: their mel, or their waveform and its mel."""
        maker = ContextMaker(self.loaded.hyperparams.audio, self.loaded.data, self.device)
        if "wav" not in maker.parts:
            return maker(mel=self.draft_mel(batch, first))
        return maker(self.griffin_lim(batch, first))

    def draft_mel(self, batch: StemBatch, first: int) -> Tensor:
        """The standardised mel (B, T, M) of the true vocals, degraded as in training."""
        config = self.loaded.hyperparams.diffusion
        mel = self.loaded.standardiser("mel")(window_mel(self.features, batch.wav[:, VOCAL]))
        generators = [torch_generator(self.seed, first + row) for row in range(len(mel))]
        rows = zip(mel.split(1), generators, strict=True)
        return torch.cat([degrade_mel(row, config, generator) for row, generator in rows])

    @torch.no_grad()
    def inpaint(self, batch: StemBatch, way: Inpainting, first: int) -> tuple[Tensor, int]:
        """Vocals (B, S) of a batch made anew, and evaluations per item.

        first: the number of the batch's first window; an item's noise is a function of (seed,
        number).
        """
        hp, x = self.loaded.hyperparams, batch.wav
        if not way.own:
            x = batch.shuffled()
        is_known = torch.ones_like(x, dtype=torch.bool)
        start, stop = (int(share * x.shape[2]) for share in way.unknown)
        is_known[:, VOCAL, start:stop] = False
        context = self.context(batch, first) if way.draft else None
        generators = [torch_generator(self.seed, first + row, 1) for row in range(len(x))]
        known = torch.where(is_known, x, 0.0)  # nothing of what is asked for goes in
        config = replace(hp.inpainting, **way.changes)
        denoiser = denoiser_of(self.loaded.network, hp)
        draft = None
        if way.start:
            draft = torch.stack([self.griffin_lim(batch, first), x[:, ACCOMPANIMENT]], 1)
        made = sample(denoiser, known, is_known, config, generators, context, draft)
        return made.x[:, VOCAL].cpu().to(x.device), made.evaluations  # waits for the device

    @torch.no_grad()
    def griffin_lim(self, batch: StemBatch, first: int) -> Tensor:
        """Vocals (B, S) of the drafts through PostNet and Griffin-Lim, at the true level."""
        if self.postnet is None:
            raise ValueError("Griffin-Lim needs --postnet FILE")
        hp, true = self.postnet.hyperparams, batch.wav[:, VOCAL]
        raw = self.loaded.standardiser("mel").inverse(self.draft_mel(batch, first))
        made = torch.zeros_like(true)
        for row, spectrogram in enumerate(linear_of(self.postnet, raw)):
            wav = waveform(spectrogram, hp.audio, hp.synthesis, self.seed)[: true.shape[1]]
            gain = true[row].norm() / wav.norm().clamp_min(1e-9)
            made[row, : len(wav)] = wav * gain
        return made

    def embed(self, row: str, number: str, wavs: Tensor) -> None:
        """Keep the embeddings of a batch of waveforms (B, S)."""
        rate = self.loaded.hyperparams.audio.sample_rate
        parts = [self.embedding(wav.cpu(), rate) for wav in wavs]
        store(self.embedding_path(row, number), parts)

    def embedding_path(self, row: str, number: str | int) -> Path:
        """Where the embeddings of a batch lie."""
        return self.out / "embeddings" / row / f"{number}.npz"

    def frechet(self, names: Sequence[str]) -> dict[str, Frechet]:
        """The Fréchet distance to the true windows of each row that makes whole windows."""
        if self.embedding is None:
            return {}
        rows, true = [*FLOORS, *whole(names)], self.parts("true")
        return {row: frechet(self.parts(row), true, self.embedding.NAME) for row in rows}

    def frechet_differences(self, names: Sequence[str]) -> dict[str, Estimate]:
        """`second - first` of the controls → how much nearer the first is, by that distance."""
        if self.embedding is None:
            return {}
        rows, true = {*FLOORS, *whole(names)}, self.parts("true")
        songs = [song_of(id) for batch in self.batches for id in batch.ids]
        pairs = [(worse, better) for better, worse, _ in CONTROLS if {better, worse} <= rows]
        distances = {  # a row is in several pairs, and takes seconds
            row: resampled_distances(self.parts(row), true, songs) for row in {*chain(*pairs)}
        }
        return {
            f"{worse} - {better}": bootstrap.estimate(
                distances[worse] - distances[better], len(songs)
            )
            for worse, better in pairs
        }

    def parts(self, row: str) -> list[np.ndarray]:
        """The embeddings of a row's windows, or of the `true` ones."""
        paths = [self.embedding_path(row, number) for number in range(len(self.batches))]
        return [part for path in paths for part in stored(path)]

    def write(self, name: str, wav: Tensor) -> None:
        """Keep how the loudest window sounds by one way."""
        write_wav(self.out / f"{name}.wav", wav.cpu(), self.loaded.hyperparams.audio.sample_rate)

    def sounds(self, names: Sequence[str]) -> dict[str, Tensor]:
        """How the loudest window sounds: true, and by each way, (S,)."""
        rate = self.loaded.hyperparams.audio.sample_rate
        return {name: read_wav(self.out / f"{name}.wav", rate)[0] for name in ("true", *names)}


def whole(names: Sequence[str]) -> list[str]:
    """The rows that make all of a window anew."""
    return [name for name in names if WAYS[name].unknown == PARTS[""]]


def ids_of(names: Sequence[str], num_batches: int) -> list[str]:
    """What has to be judged for some ways and the floors of every part."""
    floors = [f"{prefix}{floor}" for prefix in PARTS for floor in FLOORS]
    return [f"{name}/{number}" for number in range(num_batches) for name in (*floors, *names)]


def rows_of(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Records of batches → one row per way: distances and songs of all windows, seconds."""
    rows: dict[str, dict[str, Any]] = {}
    for record in records:
        name = record["id"].rpartition("/")[0]
        row = rows.setdefault(name, {"distances": [], "songs": [], "seconds": []})
        row["distances"] += record["distances"]
        row["songs"] += record["songs"]
        row["evaluations"] = record["evaluations"]
        if name in WAYS:
            row["seconds"].append(record["seconds"])
    for row in rows.values():
        columns = [
            bootstrap.mean(values, row["songs"]) for values in zip(*row["distances"], strict=True)
        ]
        row["log_spectral_distance"], row["mel_distance"] = (
            [column.value, column.low, column.high] for column in columns
        )
    return rows


def table(rows: Mapping[str, dict[str, Any]]) -> list[str]:
    """One line per row, then one per control that both rows of are there."""
    lines = [f"{'':>18}  LSD dB (95 %)         mel dB (95 %)         NFE  s per s of audio"]
    for name, row in rows.items():
        shown = "  ".join(
            f"{mean:6.2f} [{low:.2f}, {high:.2f}]"
            for mean, low, high in (row["log_spectral_distance"], row["mel_distance"])
        )
        speed = float(np.median(row["seconds"])) if row["seconds"] else 0.0
        note = WAYS[name].note if name in WAYS else "floor"
        lines.append(f"{name:>18}  {shown}  {row['evaluations']:>4}  {speed:8.3f}  {note}")
    for name, (test, meaning) in controls(rows).items():
        difference: Estimate = test.difference
        lines.append(
            f"{name}: {difference.value:+.2f} dB LSD [{difference.low:.2f}, "
            f"{difference.high:.2f}], p = {test.p_value:.4f}: if > 0, {meaning}"
        )
    return lines


def controls(rows: Mapping[str, dict[str, Any]]) -> dict[str, tuple[PairedTest, str]]:
    """`second - first` → paired test of the LSD of the same windows, and what > 0 means."""
    found = {}
    for better, worse, meaning in CONTROLS:
        if better in rows and worse in rows:
            a, b = ([d[0] for d in rows[name]["distances"]] for name in (worse, better))
            test = bootstrap.paired_test(a, b, rows[better]["songs"])
            found[f"{worse} - {better}"] = test, meaning
    return found
