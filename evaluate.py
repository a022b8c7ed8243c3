"""Judge a trained chain on a corpus split: every number with its ceiling and its floor.

    python evaluate.py speech --data ljspeech --split test

`speech` counts the word errors that an independent recogniser makes on held-out sentences: on the
true mel through PostNet and Griffin-Lim (the ceiling), on the transformer's teacher-forced mel, on
its free-running mel (what synthesis gives), and on that against another sentence's text (the
floor). Writes evaluation.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from hyperparams import Hyperparams
from network import TransformerTTS
from preprocess import FeatureStore, TextMelDataset
from synthesis import DEMO, Voice, load_voice
from text.normalize import normalise
from utils import distributed
from utils.judges import SpeechRecogniser, plain_words
from utils.metrics import (
    aligned_distance,
    attention_health,
    frame_difference_ratio,
    word_errors,
    word_spans,
)
from utils.rendering import generate_mel, guided_alignment, waveform

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
    store = FeatureStore(arguments.feature_dir / arguments.data)
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
    arguments = parser.parse_args(argv)
    try:
        return arguments.command(arguments)
    except (ValueError, FileNotFoundError, ImportError) as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
