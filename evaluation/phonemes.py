"""How clear and how varied are sung phonemes? The legacy project's two entropies."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import torch

from legacy import weights as legacy_weights
from transcription.transcribe import (
    legacy_transcriber,
    load_transcriber,
    phoneme_entropies,
)
from utils import config
from utils.audio import read_wav
from utils.checkpoint import resolve
from utils.flags import DEMO, SAVE, start_on


def phoneme_judge_path(transcriber: Path | None) -> Path:
    """Resolve `--transcriber`; without it take the legacy weights, else those that ship.

    The legacy weights are converted on first use; errors say what is wrong with the download.
    """
    if transcriber is not None:
        return resolve(transcriber, "transcriber")
    shipped = DEMO / "transcriber.pt"
    converted = SAVE / "transcriber" / "published"
    is_legacy = legacy_weights.TRANSCRIBER_PATH.exists() or converted.exists()
    if shipped.is_file() and not is_legacy:
        print(f"no {legacy_weights.TRANSCRIBER_PATH}: the transcriber that ships is the judge")
        return shipped
    return legacy_transcriber(legacy_weights.TRANSCRIBER_PATH, SAVE, config.preset("base"))


@torch.inference_mode()
def evaluate_phonemes(arguments: Namespace) -> None:
    """Print accuracy and variety of the phonemes of each recording, in bits over sung frames."""
    path = phoneme_judge_path(arguments.transcriber)
    where = start_on(arguments.device)
    loaded = load_transcriber(path, where)
    rate = loaded.hyperparams.audio.sample_rate
    print(f"{path}, step {loaded.step}; entropies in bits over sung frames")
    print(f"{'accuracy':>10} {'variety':>10} {'sung':>7}")
    for file in arguments.files:
        wav, _ = read_wav(file, rate)
        found = phoneme_entropies(loaded.network.recognise(wav[None].to(where))[0])
        bits = [
            "-" if value is None else f"{value:.3f}" for value in (found.accuracy, found.variety)
        ]
        print(f"{bits[0]:>10} {bits[1]:>10} {found.sung:>7.1%}  {file}")
