"""What checkpoints say of their networks: hyperparameters and data, read without a weight."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperparams import Hyperparams
from utils import checkpoint, config
from utils.files import reading

SECTIONS = {  # of the hyperparameters that a network of each kind is used with
    "transformer": ("audio", "transformer", "synthesis"),
    "postnet": ("audio", "postnet", "synthesis"),
    "inpainter": ("audio", "unet", "diffusion", "inpainting", "mel_inpainting"),
}


@dataclass(frozen=True)
class Stored:
    """What a checkpoint says of its network, the network left out."""

    hyperparams: Hyperparams
    data: dict[str, Any]  # symbols, statistics, corpus
    path: Path
    step: int


def load_facts(reference: Path, kind: str) -> Stored:
    """Read what a checkpoint says of its network; errors as utils.loading.load."""
    path = checkpoint.resolve(reference, kind)
    state = checkpoint.facts(path, kind)
    with reading(path):
        hyperparams = config.from_dict(state["hyperparams"], Hyperparams, SECTIONS[kind])
    return Stored(hyperparams, state["data"], path, state["step"])
