"""How near are inpainted vocals to the true stems? Held-out windows, by several methods.

Shapes: B windows, S samples, T frames; channel 0 the vocal, channel 1 the accompaniment.
"""

from __future__ import annotations

import math
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from corpora.records import song_of
from evaluation import statistics
from evaluation.frechet import EmbeddingStore, SpeechEmbedding
from evaluation.inpainting_rows import (
    CONTROLS,
    FLOORS,
    INPAINTING_ROWS,
    PARTS,
    InpaintingRow,
    choose_rows,
    whole_rows,
)
from evaluation.report import write_result
from evaluation.shuffle import shuffle_control
from evaluation.statistics import Estimate, PairedTest
from evaluation.table import counted
from inpainter.context import Context, ContextMaker, window_mel
from inpainter.diffusion import ACCOMPANIMENT, VOCAL, degrade_mel
from inpainter.sampling import sample
from preprocess import StemBatches, StemStore
from singing.chain import linear_of, waveform
from utils import plotting
from utils.audio import Features, read_wav, write_wav
from utils.checkpoint import resolve
from utils.files import Journal
from utils.flags import describe_device, start_on
from utils.loading import Loaded, check_pair, denoiser_of, describe_weights, load_network
from utils.metrics import LINEAR_FLOOR, MEL_FLOOR, log_spectral_distance, mel_distance
from utils.seeds import torch_generator

if TYPE_CHECKING:
    from preprocess import StemBatch


def evaluate_inpainting(arguments: Namespace) -> None:
    """Judge an inpainter on windows of a split; print tables, write JSON, picture and sounds."""
    where, out = start_on(arguments.device), arguments.out
    path = resolve(arguments.inpainter, "inpainter")
    loaded = load_network(path, "inpainter", where)
    hp, chained = loaded.hyperparams, None
    names = choose_rows(arguments.rows, hp, str(path))
    if any(INPAINTING_ROWS[name].needs_waveform(hp.unet) for name in names):
        chained = load_network(resolve(arguments.postnet, "postnet"), "postnet", where)
        check_pair(loaded, chained)
    store = StemStore(arguments.feature_dir / arguments.data)
    store.check_audio(hp.audio)
    size, seed = arguments.batch_size, arguments.seed
    training = replace(hp.inpainter_training, batch_size=size)
    windows = StemBatches(store, arguments.split, training, hp.window)
    batches = list(windows.head(math.ceil(arguments.windows / size)))
    if batches[0].other is None:
        raise ValueError(f"{store.directory} holds one song: a shuffle control needs two")
    judge = InpaintingJudge(loaded, chained, batches, seed, out, installed_embedding())
    settings = {"data": arguments.data, "split": arguments.split, **judge.settings()}
    journal = Journal(out / "inpainting.jsonl", settings)
    rows = rows_of(journal.complete(ids_of(names, len(batches)), judge.judge, "batch"))
    control: dict[str, Any] = {}
    lines: list[str] = []
    if arguments.control_windows and hp.unet.mask_input:  # else it does not see what is known
        # Drafts are compared when the network takes a context, and their waveform can be made.
        has_draft = hp.unet.context_width and (chained or not hp.unet.draft_input)
        context_of = judge.context if has_draft else None
        controlled = list(windows.head(math.ceil(arguments.control_windows / size)))
        control, lines = shuffle_control(loaded, controlled, seed, context_of, settings, out)
    judged = f"{counted(len(judge.vocals), 'window')} of {arguments.data}/{arguments.split}"
    print(f"{path} (step {loaded.step}), {judged}")
    print("\n".join([*inpainting_table(rows), *lines]))
    tests = {name: test.as_dict() | {"if": mean} for name, (test, mean) in controls(rows).items()}
    result = {"rows": rows, "controls": tests, "shuffle_control": control}
    write_result(out / "inpainting.json", settings | result | print_frechet(judge, names))
    print(plotting.save_figure(judge.picture(names), out / "inpainting.png"))


def installed_embedding() -> SpeechEmbedding | None:
    """Load the embedding of the Fréchet distance; print why and return None without it."""
    try:
        return SpeechEmbedding()
    except ImportError as error:
        print(f"Fréchet distance not measured: {error}")
        return None


def window_distances(
    features: Features, made: Tensor, true: Tensor, part: tuple[float, float]
) -> list[list[float]]:
    """Measure [LSD in dB, mel distance in dB] of each item over a part of the window.

    made, true (B, S); part: shares of the window, (start, end).
    """
    spectra = [features(wav) for wav in (made, true)]
    frames = spectra[0][0].shape[1]
    here = slice(math.ceil(part[0] * frames), math.floor(part[1] * frames))
    mels, linears = (
        [values[:, here].cpu().numpy() for values in pair] for pair in zip(*spectra, strict=True)
    )
    return [
        [
            log_spectral_distance(linears[0][row], linears[1][row], LINEAR_FLOOR),
            mel_distance(mels[0][row], mels[1][row], MEL_FLOOR),
        ]
        for row in range(len(made))
    ]


class InpaintingJudge:
    """Make the vocals of fixed windows anew, by the rows of INPAINTING_ROWS and by the floors."""

    def __init__(
        self,
        loaded: Loaded,
        postnet: Loaded | None,
        batches: Sequence[StemBatch],
        seed: int,
        out: Path,
        embedding: SpeechEmbedding | None,
    ) -> None:
        """Prepare the windows; the sounds of the loudest one are written to `out`.

        postnet: for the rows that need one; embedding: for the Fréchet distance.
        """
        self.embedding = embedding
        self.embeddings = EmbeddingStore(out / "embeddings", embedding)
        self.loaded, self.postnet, self.batches, self.seed = loaded, postnet, batches, seed
        self.out = out
        self.device = next(loaded.network.parameters()).device
        self.features = Features(loaded.hyperparams.audio).to(self.device)
        self.vocals = torch.cat([batch.wav[:, VOCAL] for batch in batches])
        self.loudest = int(self.vocals.square().mean(1).argmax())
        self.firsts = [
            sum(len(batch.ids) for batch in batches[:number]) for number in range(len(batches))
        ]

    def settings(self) -> dict[str, Any]:
        """Return what decides the numbers: windows, weights, device, embedding and floors."""
        return {
            "seed": self.seed,
            "windows": [batch.ids for batch in self.batches],
            "starts": [batch.starts.tolist() for batch in self.batches],
            "device": describe_device(self.device),
            "inpainter": describe_weights(self.loaded),
            "postnet": None if self.postnet is None else describe_weights(self.postnet),
            "embedding": None if self.embedding is None else self.embedding.NAME,
            "floors": {"linear": LINEAR_FLOOR, "mel": MEL_FLOOR},
        }

    def judge(self, id: str) -> dict[str, Any]:
        """Measure ROW/BATCH or FLOOR/BATCH: distances, evaluations, seconds, songs."""
        name, _, number = id.rpartition("/")
        batch, first = self.batches[int(number)].to(self.device), self.firsts[int(number)]
        true = batch.wav[:, VOCAL]
        way = INPAINTING_ROWS.get(name)
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
        if part == PARTS[""]:
            rate = self.loaded.hyperparams.audio.sample_rate
            self.embeddings.keep(name, number, list(made.cpu()), rate)
            if name == FLOORS[0]:  # judged in every evaluation, once
                self.embeddings.keep("true", number, list(true.cpu()), rate)
        return {
            "songs": [song_of(id) for id in batch.ids],
            "distances": window_distances(self.features, made, true, part),
            "evaluations": evaluations,
            "seconds": seconds / true.numel() if way is not None else 0.0,  # per second of audio
        }

    def floor(self, name: str, true: Tensor, first: int) -> Tensor:
        """Return silence, or a vocal from half a split away: another place, or another song."""
        if name == "silence":
            return torch.zeros_like(true)
        others = self.vocals.roll(-(len(self.vocals) // 2), 0)
        return others[first : first + len(true)].to(self.device)

    def context(self, batch: StemBatch, first: int) -> Context:
        """Make drafts of the true vocals: their mel, or their waveform and its mel."""
        maker = ContextMaker(self.loaded.hyperparams.audio, self.loaded.data, self.device)
        if "wav" not in maker.parts:
            return maker(mel=self.draft_mel(batch, first))
        return maker(self.griffin_lim(batch, first))

    def draft_mel(self, batch: StemBatch, first: int) -> Tensor:
        """Degrade the standardised mel (B, T, M) of the true vocals as in training."""
        config = self.loaded.hyperparams.diffusion
        mel = self.loaded.standardiser("mel")(window_mel(self.features, batch.wav[:, VOCAL]))
        generators = [torch_generator(self.seed, first + row) for row in range(len(mel))]
        rows = zip(mel.split(1), generators, strict=True)
        return torch.cat([degrade_mel(row, config, generator) for row, generator in rows])

    @torch.no_grad()
    def inpaint(self, batch: StemBatch, way: InpaintingRow, first: int) -> tuple[Tensor, int]:
        """Make the vocals (B, S) of a batch anew; return them and the evaluations per item.

        first: number of the batch's first window; an item's noise depends on (seed, number) alone.
        """
        hp, x = self.loaded.hyperparams, batch.wav
        if not way.own:
            x = batch.shuffled()
        is_known = torch.ones_like(x, dtype=torch.bool)
        start, stop = (int(share * x.shape[2]) for share in way.unknown)
        is_known[:, VOCAL, start:stop] = False
        context = self.context(batch, first) if way.draft else None
        generators = [torch_generator(self.seed, first + row, 1) for row in range(len(x))]
        known = torch.where(is_known, x, 0.0)  # the unknown part must not leak into the network
        config = replace(hp.inpainting, **way.changes)
        denoiser = denoiser_of(self.loaded.network, hp)
        draft = None
        if way.start:
            draft = torch.stack([self.griffin_lim(batch, first), x[:, ACCOMPANIMENT]], 1)
        made = sample(denoiser, known, is_known, config, generators, context, draft)
        return made.x[:, VOCAL].cpu().to(x.device), made.evaluations  # waits for the device

    @torch.no_grad()
    def griffin_lim(self, batch: StemBatch, first: int) -> Tensor:
        """Render the drafts (B, S) by PostNet and Griffin-Lim, at the true level."""
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

    def write(self, name: str, wav: Tensor) -> None:
        """Write the loudest window as one row makes it."""
        write_wav(self.out / f"{name}.wav", wav.cpu(), self.loaded.hyperparams.audio.sample_rate)

    def sounds(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Read the loudest window: true, and by each row, (S,)."""
        rate = self.loaded.hyperparams.audio.sample_rate
        return {name: read_wav(self.out / f"{name}.wav", rate)[0] for name in ("true", *names)}

    def picture(self, names: Sequence[str]) -> Figure:
        """Draw the loudest window: true, and by each row, its unknown part marked."""
        hp = self.loaded.hyperparams
        seconds = hp.window / hp.audio.sample_rate
        marked = {}
        for name in names:
            start, end = INPAINTING_ROWS[name].unknown
            marked[name] = [(start * seconds, end * seconds)]
        return plotting.track_picture(self.sounds(names), hp.audio, marked)


def print_frechet(judge: InpaintingJudge, names: list[str]) -> dict[str, Any]:
    """Print the Fréchet distances of whole windows, and their differences in the controls."""
    rows = whole_rows(names)
    numbers = [str(number) for number in range(len(judge.batches))]
    songs = [song_of(id) for batch in judge.batches for id in batch.ids]
    pairs = [(worse, better) for better, worse, _ in CONTROLS if {better, worse} <= {*rows}]
    values = judge.embeddings.distances(rows, "true", numbers)
    differences = judge.embeddings.differences(pairs, "true", numbers, songs)
    for name, distance in values.items():
        print(f"{name}: {distance}")
    for name, difference in differences.items():
        print(f"{name}, Fréchet distance: {difference}")
    return {
        "frechet_distance": {name: asdict(distance) for name, distance in values.items()},
        "frechet_difference": {name: part.as_dict() for name, part in differences.items()},
    }


def ids_of(names: Sequence[str], num_batches: int) -> list[str]:
    """List what has to be judged: ROW/BATCH of the rows and of the floors of every part."""
    floors = [f"{prefix}{floor}" for prefix in PARTS for floor in FLOORS]
    return [f"{name}/{number}" for number in range(num_batches) for name in (*floors, *names)]


def rows_of(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Join the records of batches by row: distances and songs of all windows, seconds."""
    rows: dict[str, dict[str, Any]] = {}
    for record in records:
        name = record["id"].rpartition("/")[0]
        row = rows.setdefault(name, {"distances": [], "songs": [], "seconds": []})
        row["distances"] += record["distances"]
        row["songs"] += record["songs"]
        row["evaluations"] = record["evaluations"]
        if name in INPAINTING_ROWS:
            row["seconds"].append(record["seconds"])
    for row in rows.values():
        columns = [
            statistics.mean(values, row["songs"]) for values in zip(*row["distances"], strict=True)
        ]
        row["log_spectral_distance"], row["mel_distance"] = (
            [column.value, column.low, column.high] for column in columns
        )
    return rows


def inpainting_table(rows: Mapping[str, dict[str, Any]]) -> list[str]:
    """Lay out one line per row, then one per control whose two rows are there."""
    lines = [f"{'':>18}  LSD dB (95 %)         mel dB (95 %)         NFE  s per s of audio"]
    for name, row in rows.items():
        shown = "  ".join(
            f"{mean:6.2f} [{low:.2f}, {high:.2f}]"
            for mean, low, high in (row["log_spectral_distance"], row["mel_distance"])
        )
        speed = float(np.median(row["seconds"])) if row["seconds"] else 0.0
        note = INPAINTING_ROWS[name].note if name in INPAINTING_ROWS else "floor"
        lines.append(f"{name:>18}  {shown}  {row['evaluations']:>4}  {speed:8.3f}  {note}")
    for name, (test, meaning) in controls(rows).items():
        difference: Estimate = test.difference
        lines.append(
            f"{name}: {difference.value:+.2f} dB LSD [{difference.low:.2f}, "
            f"{difference.high:.2f}], p = {test.p_value:.4f}: if > 0, {meaning}"
        )
    return lines


def controls(rows: Mapping[str, dict[str, Any]]) -> dict[str, tuple[PairedTest, str]]:
    """Test the LSD of the same windows: `second - first` → paired test, and what > 0 means."""
    found = {}
    for better, worse, meaning in CONTROLS:
        if better in rows and worse in rows:
            a, b = ([d[0] for d in rows[name]["distances"]] for name in (worse, better))
            test = statistics.paired_test(a, b, rows[better]["songs"])
            found[f"{worse} - {better}"] = test, meaning
    return found
