"""Judge a trained chain on a corpus split: every number with its ceiling and its floor.

    python evaluate.py speech --data ljspeech --split test
    python evaluate.py song --data songbook --split test --checkpoint FILE --postnet FILE
    python evaluate.py inpainting --data songs --split test --inpainter save/inpainter/songs/best.pt
    python evaluate.py pictures --data ljspeech --checkpoint save/transformer/speech/best.pt
    python evaluate.py phonemes out/vocal/vocal.wav  # by the earlier project's transcriber
    python evaluate.py transcribe out/vocal/vocal.wav --out out/heard.mid

`speech` counts the word errors that an independent recogniser makes on held-out sentences: on the
true mel through PostNet and Griffin-Lim (the ceiling), on the transformer's teacher-forced mel, on
its free-running mel (what synthesis gives), and on that against another sentence's text (the
floor). `song` renders held-out phrases from lyrics and notes alone, the same four ways, and
measures pitch, lyrics, onsets, level and sharpness. `inpainting` makes vocals of held-out windows
anew, by the default method and by the earlier system's, and measures their distance to the true
stem, with another vocal and silence as floors. They write evaluation.json; inpainting.json, .png
and how one window sounds.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from corpora.stores import open_features
from diffusion import VOCAL, degrade_mel
from hyperparams import PRESETS, Hyperparams
from module import Context
from network import TransformerTTS
from preprocess import FeatureStore, StemBatch, StemBatches, StemStore, TextMelDataset
from sampling import item_generator, sample
from synthesis import DEMO, SAVE, Voice, load_voice
from text.frontend import Pronouncer
from text.lyrics import read_lyrics
from text.normalize import normalise
from text.symbols import word_spans
from utils import checkpoint, distributed, evaluation_song, plotting, published
from utils.audio import Features, read_audio, read_wav, write_wav
from utils.batching import spread
from utils.evaluation_chain import load_chain
from utils.gallery import transformer_pictures
from utils.journal import Journal
from utils.judges import ForcedAligner, SpeechRecogniser, plain_words
from utils.metrics import (
    aligned_distance,
    attention_health,
    frame_difference_ratio,
    log_spectral_distance,
    mel_distance,
    word_errors,
)
from utils.rendering import (
    Loaded,
    denoiser_of,
    generate_mel,
    guided_alignment,
    load,
    waveform,
    window_mel,
)
from utils.sung_lyrics import heard_melody, lay_heard, write_melody
from utils.transcription import (
    load_transcriber,
    phoneme_entropies,
    published_transcriber,
    transcribe,
)

ROWS = {
    "ceiling": "true mel → PostNet → Griffin-Lim",
    "teacher_forced": "transformer fed with true history",
    "free_running": "transformer fed with its own output",
    "floor": "free-running against another sentence's text",
}
BOOTSTRAPS = 2000  # resamplings of the items for the confidence interval


@torch.inference_mode()
def mels_of(network: TransformerTTS, batch, seeds: list[int], hp: Hyperparams) -> dict:
    """Standardised mels (T, M) of one item for each row, and the free-running alignment."""
    torch.manual_seed(seeds[0])
    forced = network(batch.symbols, batch.symbol_lengths, batch.mel, batch.mel_lengths, batch.score)
    sung = generate_mel(
        network,
        batch.symbols,
        batch.symbol_lengths,
        seeds,
        hp.synthesis,
        batch.score,
        need_weights=True,
    )
    return {
        "ceiling": batch.mel[0],
        "teacher_forced": forced.mel[0],
        "free_running": sung.mel[0],
        "alignment": guided_alignment(network, sung, 0),
    }


@torch.inference_mode()
def sound(voice: Voice, mel: Tensor, seed: int) -> Tensor:
    """Standardised mel (T, M) → waveform through the postnet, as synthesis does."""
    raw = voice.transformer.standardiser("mel").inverse(mel)
    linear = voice.postnet.network(voice.postnet.standardiser("mel")(raw)[None])[0]
    linear = voice.postnet.standardiser("linear").inverse(linear)
    return waveform(linear, voice.hyperparams.audio, voice.hyperparams.synthesis, seed)


def evaluate_speech(
    voice: Voice, store: FeatureStore, split: str, limit: int, seed: int
) -> list[dict[str, object]]:
    """One record per item: word errors of every row, attention health, distance to the truth."""
    recogniser = SpeechRecogniser()
    dataset = TextMelDataset(store, split)
    numbers = list(range(len(dataset)))[: limit or None]
    texts = [plain_words(normalise(dataset.items[n]["text"])) for n in numbers]
    rate = voice.hyperparams.audio.sample_rate
    records = []
    for index, number in enumerate(tqdm(numbers, desc="evaluate", unit="item")):
        batch = dataset.collate([dataset[number]]).to(voice.device)
        mels = mels_of(voice.transformer.network, batch, [seed + number], voice.hyperparams)
        heard = {
            row: recogniser.words(sound(voice, mels[row], seed + number).cpu(), rate)
            for row in ("ceiling", "teacher_forced", "free_running")
        }
        errors = {row: word_errors(words, texts[index]) for row, words in heard.items()}
        errors["floor"] = word_errors(heard["free_running"], texts[index - 1])
        names = [store.symbols[s] for s in batch.symbols[0].tolist()]
        free, truth = mels["free_running"].cpu().numpy(), batch.mel[0].cpu().numpy()
        records.append(
            {
                "id": dataset.items[number]["id"],
                "words": texts[index],
                "heard": heard,
                "errors": errors,
                "attention": attention_health(
                    mels["alignment"].cpu().numpy(), word_spans(names)
                ).as_dict(),
                "distance": aligned_distance(free, truth),
                "sharpness": frame_difference_ratio(free, truth),
                "length_ratio": len(free) / len(truth),
            }
        )
    return records


def word_error_rate(
    records: Sequence[dict], row: str, seed: int = 0
) -> tuple[float, tuple[float, float]]:
    """Errors per reference word over all items, and its 95 % bootstrap interval over items."""
    counts = np.array([record["errors"][row] for record in records], dtype=float)  # (items, 2)
    random = np.random.default_rng(seed)
    chosen = counts[random.integers(len(counts), size=(BOOTSTRAPS, len(counts)))].sum(1)
    rates = chosen[:, 0] / chosen[:, 1]
    low, high = np.quantile(rates, [0.025, 0.975])
    return float(counts[:, 0].sum() / counts[:, 1].sum()), (float(low), float(high))


def speech(arguments: argparse.Namespace) -> int:
    """The `speech` command."""
    device = distributed.start(arguments.device).device
    voice = load_voice(arguments.checkpoint, arguments.postnet, device)
    store = open_features(arguments.feature_dir, arguments.data)
    store.check_audio(voice.hyperparams.audio)
    records = evaluate_speech(voice, store, arguments.split, arguments.limit, arguments.seed)
    rows = {row: word_error_rate(records, row) for row in ROWS}
    print(f"{len(records)} items of {arguments.data}/{arguments.split}; {SpeechRecogniser.NAME}")
    for row, (rate, (low, high)) in rows.items():
        print(
            f"{row:>15}  WER {100 * rate:5.1f} %  [{100 * low:.1f}, {100 * high:.1f}]  {ROWS[row]}"
        )
    means = {
        name: float(np.mean([record[name] for record in records]))
        for name in ("distance", "sharpness", "length_ratio")
    }
    means |= {
        name: float(np.mean([record["attention"][name] for record in records]))
        for name in ("focus", "diagonality", "coverage")
    }
    print("free-running: " + ", ".join(f"{name} {value:.3f}" for name, value in means.items()))
    result = {
        "data": arguments.data,
        "split": arguments.split,
        "judge": SpeechRecogniser.NAME,
        "seed": arguments.seed,
        "transformer": {"path": str(voice.transformer.path), "step": voice.transformer.step},
        "postnet": {"path": str(voice.postnet.path), "step": voice.postnet.step},
        "word_error_rate": {
            row: {"value": rate, "interval": list(interval)}
            for row, (rate, interval) in rows.items()
        },
        "free_running": means,
        "items": records,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "evaluation.json"
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(path)
    return 0


def aligner_or_none() -> ForcedAligner | None:
    """The judge of sung lyrics; without it a line says what is not measured."""
    try:
        return ForcedAligner()
    except ImportError as error:
        print(f"not measured: lyrics and onsets; {error}", file=sys.stderr)
        return None


def song(arguments: argparse.Namespace) -> int:
    """The `song` command."""
    device = distributed.start(arguments.device).device
    chain = load_chain(arguments.checkpoint, arguments.postnet, Hyperparams, device)
    store = open_features(arguments.feature_dir, arguments.data)
    store.check_audio(chain.hyperparams.audio)
    aligner = aligner_or_none()
    dataset = TextMelDataset(store, arguments.split)
    judge = evaluation_song.SongJudge(chain, dataset, arguments.seed, aligner)
    settings = {
        "data": arguments.data,
        "split": arguments.split,
        "seed": arguments.seed,
        "judges": ["YIN"] + ([] if aligner is None else [aligner.NAME]),
        **chain.describe(),
    }
    ids = spread(list(judge.numbers), arguments.limit or len(judge.numbers))
    journal = Journal(arguments.out / "song.jsonl", settings)
    records = journal.complete(ids, judge.judge, "phrase")
    estimates = evaluation_song.estimates(records)
    songs = {record["song"] for record in records}
    print(f"{len(records)} phrases of {len(songs)} songs, {arguments.data}/{arguments.split}")
    print("\n".join(evaluation_song.table(estimates)))
    result = settings | {
        "rows": evaluation_song.ROWS,
        "metrics": evaluation_song.plain_estimates(estimates),
        "items": records,
    }
    path = arguments.out / "evaluation.json"
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(path)
    return 0


# ---------------------------------------------------------------------------------------------
# Inpainting
# ---------------------------------------------------------------------------------------------

REPAINT = {"method": "repaint", "step": "dpm2_ancestral", "num_steps": 40, "num_resamples": 5}
GAP = (0.3, 0.7)  # share of a window
LINEAR_FLOOR = math.log(1e-2)  # 88 dB under the peak of a full-scale sine
MEL_FLOOR = math.log(1e-4)  # the same for a band of the area-normalised filterbank


@dataclass(frozen=True)
class Inpainting:
    """One way to make a part of a vocal anew; `changes` of the checkpoint's sampling knobs."""

    note: str
    unknown: tuple[float, float] = (0.0, 1.0)  # share of the window
    changes: Mapping[str, Any] = field(default_factory=dict)
    draft: bool = False  # is the degraded mel of the true vocal given?
    own: bool = True  # its own accompaniment, or another song's


INPAINTINGS = {
    "default": Inpainting("all of the vocal, from the accompaniment"),
    "repaint": Inpainting("the same by the earlier default, RePaint 40×5", changes=REPAINT),
    "shuffled": Inpainting("the same from another song's accompaniment", own=False),
    "draft": Inpainting("all of the vocal, from accompaniment and draft", draft=True),
    "draft_repaint": Inpainting("the same by RePaint 40×5", changes=REPAINT, draft=True),
    "draft_shuffled": Inpainting("from another accompaniment and the draft", draft=True, own=False),
    "gap": Inpainting("a gap in the vocal, from what is around it", GAP),
    "gap_repaint": Inpainting("the same by RePaint 40×5", GAP, REPAINT),
}


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


@torch.no_grad()
def inpaint_windows(
    loaded: Loaded, batch: StemBatch, way: Inpainting, seed: int, first: int
) -> tuple[Tensor, int, float]:
    """Vocals (B, S) of a batch made anew, evaluations per item, seconds that it took.

    first: the number of the batch's first window; an item's noise is a function of (seed, number).
    """
    hp, x = loaded.hyperparams, batch.wav
    if not way.own:
        x = torch.stack([x[:, VOCAL], batch.other], 1)  # (B, 2, S)
    is_known = torch.ones_like(x, dtype=torch.bool)
    start, stop = (int(share * x.shape[2]) for share in way.unknown)
    is_known[:, VOCAL, start:stop] = False
    context = None
    if way.draft:
        features = Features(hp.audio).to(x.device)
        mel = loaded.standardiser("mel")(window_mel(features, batch.wav[:, VOCAL]))
        context = Context(mel=degrade_mel(mel, hp.diffusion, item_generator(seed, first)))
    generators = [item_generator(seed, first + row, 1) for row in range(len(x))]
    known = torch.where(is_known, x, 0.0)  # nothing of what is asked for goes in
    began = time.perf_counter()
    config = replace(hp.inpainting, **way.changes)
    made = sample(denoiser_of(loaded.network, hp), known, is_known, config, generators, context)
    vocal = made.x[:, VOCAL].cpu()  # waits for the device
    return vocal.to(x.device), made.evaluations, time.perf_counter() - began


def evaluate_inpainting(
    loaded: Loaded, batches: Sequence[StemBatch], ways: Sequence[str], seed: int
) -> tuple[dict[str, dict[str, Any]], dict[str, Tensor]]:
    """For each way, and the floors: distances of every window, evaluations, seconds per second.

    And how the window with the loudest vocal sounds: true, and by each way, (S,).
    """
    hp, distances = loaded.hyperparams, Distances(loaded)
    device = next(loaded.network.parameters()).device
    parts = {"": (0.0, 1.0), "gap_": GAP}
    rows: dict[str, dict[str, Any]] = {
        f"{prefix}{floor}": {"distances": [], "evaluations": 0, "seconds": []}
        for prefix in parts
        for floor in ("silence", "other_vocal")
    } | {name: {"distances": [], "seconds": []} for name in ways}
    vocals = torch.cat([batch.wav[:, VOCAL] for batch in batches])
    loudest = int(vocals.square().mean(1).argmax())
    sounds = {"true": vocals[loudest]}
    first = 0
    for batch in tqdm(batches, desc="evaluate", unit="batch"):
        batch = batch.to(device)
        true = batch.wav[:, VOCAL]
        # Half a split away: another place of the song, or another song.
        others = vocals.roll(-(len(vocals) // 2), 0)[first : first + len(true)].to(device)
        for prefix, part in parts.items():
            rows[f"{prefix}silence"]["distances"] += distances(torch.zeros_like(true), true, part)
            rows[f"{prefix}other_vocal"]["distances"] += distances(others, true, part)
        for name in ways:
            way, row = INPAINTINGS[name], rows[name]
            made, row["evaluations"], seconds = inpaint_windows(loaded, batch, way, seed, first)
            row["distances"] += distances(made, true, way.unknown)
            row["seconds"].append(seconds / (len(true) * hp.window / hp.audio.sample_rate))
            if first <= loudest < first + len(true):
                sounds[name] = made[loudest - first].cpu()
        first += len(true)
    return rows, sounds


def mean_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Mean of values (items,) and its 95 % bootstrap interval over items."""
    random = np.random.default_rng(seed)
    means = values[random.integers(len(values), size=(BOOTSTRAPS, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def inpainting(arguments: argparse.Namespace) -> int:
    """The `inpainting` command."""
    unknown = sorted(set(arguments.rows) - set(INPAINTINGS))
    if unknown:
        raise ValueError(f"--rows {' '.join(unknown)}: choose from {', '.join(INPAINTINGS)}")
    device = distributed.start(arguments.device).device
    path = checkpoint.resolve(arguments.inpainter, "inpainter")
    loaded = load(path, "inpainter", Hyperparams, device)
    hp = loaded.hyperparams
    store = StemStore(arguments.feature_dir / arguments.data)
    store.check_audio(hp.audio)
    training = replace(hp.inpainter_training, batch_size=arguments.batch_size)
    windows = StemBatches(store, arguments.split, training, hp.window)
    batches = list(windows.head(math.ceil(arguments.windows / arguments.batch_size)))
    if batches[0].other is None:
        raise ValueError(f"{store.directory} holds one song: a shuffle control needs two")
    rows, sounds = evaluate_inpainting(loaded, batches, arguments.rows, arguments.seed)
    count = len(next(iter(rows.values()))["distances"])
    print(f"{path} (step {loaded.step}), {count} windows of {arguments.data}/{arguments.split}")
    print(f"{'':>16}  LSD dB (95 %)         mel dB (95 %)         NFE  s per s of audio")
    for name, row in rows.items():
        columns = [mean_interval(np.array(d)) for d in zip(*row["distances"], strict=True)]
        row["log_spectral_distance"], row["mel_distance"] = map(list, columns)
        shown = "  ".join(f"{mean:6.2f} [{low:.2f}, {high:.2f}]" for mean, low, high in columns)
        speed = float(np.median(row["seconds"])) if row["seconds"] else 0.0
        note = INPAINTINGS[name].note if name in INPAINTINGS else "floor"
        print(f"{name:>16}  {shown}  {row['evaluations']:>4}  {speed:8.3f}  {note}")
    result = {
        "data": arguments.data,
        "split": arguments.split,
        "seed": arguments.seed,
        "device": distributed.describe_device(device),
        "inpainter": {"path": str(path), "step": loaded.step},
        "floors": {"linear": LINEAR_FLOOR, "mel": MEL_FLOOR},
        "rows": rows,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    out = arguments.out / "inpainting.json"
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    seconds = hp.window / hp.audio.sample_rate
    marked = {
        name: [tuple(share * seconds for share in INPAINTINGS[name].unknown)]
        for name in arguments.rows
    }
    picture = plotting.song_picture(sounds, hp.audio, marked)
    print(out, plotting.save_figure(picture, out.with_suffix(".png")))
    for name, wav in sounds.items():
        write_wav(arguments.out / f"{name}.wav", wav, hp.audio.sample_rate)
    return 0


def pictures(arguments: argparse.Namespace) -> int:
    """The `pictures` command."""
    loaded = load(arguments.checkpoint, "transformer", Hyperparams, torch.device("cpu"))
    store = open_features(arguments.feature_dir, arguments.data)
    dataset = TextMelDataset(store, arguments.split)
    if not 0 <= arguments.item < len(dataset):
        raise ValueError(
            f"--item {arguments.item}: {arguments.data}/{arguments.split} has items 0 to "
            f"{len(dataset) - 1}"
        )
    batch = dataset.collate([dataset[arguments.item]])
    for path in transformer_pictures(loaded, batch, arguments.out):
        print(path)
    return 0


@torch.inference_mode()
def phonemes(arguments: argparse.Namespace) -> int:
    """Print how clear and how varied the phonemes of recordings are."""
    device = distributed.start(arguments.device).device
    path = arguments.transcriber or published_transcriber(
        published.TRANSCRIBER_PATH, SAVE, PRESETS["base"]
    )
    transcriber = load_transcriber(path, Hyperparams, device)
    rate = transcriber.hyperparams.audio.sample_rate
    print(f"{path}, step {transcriber.step}; entropies in bits over sung frames")
    print(f"{'accuracy':>10} {'variety':>10} {'sung':>7}")
    for file in arguments.files:
        wav, _ = read_wav(file, rate)
        logits = transcriber.network.recognise(wav[None].to(device))[0]
        found = phoneme_entropies(logits)
        bits = [
            "-" if value is None else f"{value:.3f}" for value in (found.accuracy, found.variety)
        ]
        print(f"{bits[0]:>10} {bits[1]:>10} {found.sung:>7.1%}  {file}")
    return 0


def transcription(arguments: argparse.Namespace) -> int:
    """The `transcribe` command: a recording to a MIDI file with lyrics."""
    lines = read_lyrics(arguments.lyrics) if arguments.lyrics else None
    device = distributed.start(arguments.device).device
    path = checkpoint.resolve(arguments.transcriber, "transcriber")
    wav, rate = read_audio(arguments.file)
    heard = transcribe(load_transcriber(path, Hyperparams, device), wav, rate)
    melody = heard_melody(heard) if lines is None else lay_heard(heard, lines, Pronouncer())
    write_melody(melody, arguments.out)
    print(f"{arguments.out}: {len(heard.notes)} notes in {wav.shape[1] / rate:.1f} s")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate from the shell; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    spoken = commands.add_parser("speech", help="word error rate of the spoken chain")
    spoken.set_defaults(command=speech)
    spoken.add_argument("--data", required=True, metavar="NAME", help="corpus below --feature-dir")
    spoken.add_argument("--split", default="test", choices=("train", "validation", "test"))
    spoken.add_argument("--limit", type=int, default=0, help="first items only; 0 = all")
    spoken.add_argument("--seed", type=int, default=0)
    spoken.add_argument("--checkpoint", type=Path, default=DEMO / "transformer.pt")
    spoken.add_argument("--postnet", type=Path, default=DEMO / "postnet.pt")
    spoken.add_argument("--feature-dir", type=Path, default=Path("feature"))
    spoken.add_argument("--out", type=Path, default=Path("out/evaluation"), metavar="DIR")
    spoken.add_argument("--device", default="auto")
    notes = commands.add_parser("song", help="sung phrases from lyrics and notes alone")
    notes.set_defaults(command=song)
    notes.add_argument("--data", required=True, metavar="NAME", help="corpus below --feature-dir")
    notes.add_argument("--split", default="test", choices=("train", "validation", "test"))
    notes.add_argument("--limit", type=int, default=0, help="items, spread evenly; 0 = all")
    notes.add_argument("--seed", type=int, default=0)
    notes.add_argument("--checkpoint", type=Path, default=DEMO / "transformer.pt")
    notes.add_argument("--postnet", type=Path, default=DEMO / "postnet.pt")
    notes.add_argument("--feature-dir", type=Path, default=Path("feature"))
    notes.add_argument("--out", type=Path, default=Path("out/evaluation"), metavar="DIR")
    notes.add_argument("--device", default="auto")
    sung = commands.add_parser("inpainting", help="distance of remade vocals to the true stems")
    sung.set_defaults(command=inpainting)
    sung.add_argument("--data", required=True, metavar="NAME", help="corpus below --feature-dir")
    sung.add_argument("--split", default="test", choices=("train", "validation", "test"))
    sung.add_argument("--inpainter", type=Path, required=True, metavar="RUN", help="or a file")
    sung.add_argument("--rows", nargs="+", default=list(INPAINTINGS), metavar="ROW")
    sung.add_argument("--windows", type=int, default=8, help="of the split, spread evenly")
    sung.add_argument("--batch-size", type=int, default=4)
    sung.add_argument("--seed", type=int, default=0)
    sung.add_argument("--feature-dir", type=Path, default=Path("feature"))
    sung.add_argument("--out", type=Path, default=Path("out/evaluation"), metavar="DIR")
    sung.add_argument("--device", default="auto")
    drawn = commands.add_parser("pictures", help="attention, alphas and curves of a transformer")
    drawn.set_defaults(command=pictures)
    drawn.add_argument("--data", required=True, metavar="NAME", help="corpus below --feature-dir")
    drawn.add_argument("--split", default="validation", choices=("train", "validation", "test"))
    drawn.add_argument("--item", type=int, default=0, help="number in the split")
    drawn.add_argument("--checkpoint", type=Path, required=True, help="of a run, for its curves")
    drawn.add_argument("--feature-dir", type=Path, default=Path("feature"))
    drawn.add_argument("--out", type=Path, default=Path("png"), metavar="DIR")
    heard = commands.add_parser("phonemes", help="how clear and varied sung phonemes are")
    heard.set_defaults(command=phonemes)
    heard.add_argument("files", nargs="+", type=Path, metavar="FILE", help="vocals without backing")
    heard.add_argument(
        "--transcriber",
        type=Path,
        metavar="FILE",
        help=f"a checkpoint (default: the earlier project's, from {published.TRANSCRIBER_PATH})",
    )
    heard.add_argument("--device", default="auto")
    written = commands.add_parser("transcribe", help="a recording to MIDI with lyrics")
    written.set_defaults(command=transcription)
    written.add_argument("file", type=Path, metavar="FILE", help="a vocal, any rate and channels")
    written.add_argument("--out", type=Path, required=True, metavar="FILE.mid")
    written.add_argument(
        "--lyrics", type=Path, metavar="FILE", help="its words; else phonemes are written"
    )
    written.add_argument(
        "--transcriber",
        type=Path,
        default=DEMO / "transcriber.pt",
        metavar="RUN",
        help="a run or a file (default: %(default)s)",
    )
    written.add_argument("--device", default="auto")
    arguments = parser.parse_args(argv)
    try:
        return arguments.command(arguments)
    except (ValueError, FileNotFoundError, ImportError) as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
