"""The transcriber as a judge: loaded from a checkpoint or the earlier weights, and what it hears.

Shapes: B batch, T frames, S samples; 39 phoneme classes, the last of which is silence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from network import Transcriber
from utils import checkpoint, config, published
from utils.rendering import Loaded

if TYPE_CHECKING:
    from hyperparams import Hyperparams


@dataclass(frozen=True)
class PhonemeEntropies:
    """How clear and how varied the phonemes of a recording are, in bits, over sung frames.

    accuracy: mean entropy of a frame's phoneme distribution, 0 = certain, log2(39) = 5.3 = no
    idea. variety: entropy of how often each phoneme is the likeliest, 0 = always the same one.
    Both are None when no frame is sung; sung: share of frames whose likeliest class is no silence.
    """

    accuracy: float | None
    variety: float | None
    sung: float


def build_transcriber(hyperparams: Hyperparams) -> Transcriber:
    """A transcriber of the sizes that the hyperparameters dictate."""
    return Transcriber(hyperparams.transcriber, hyperparams.audio.sample_rate)


def with_knobs(hyperparams: Hyperparams, knobs: dict[str, Any]) -> Hyperparams:
    """Hyperparameters with the knobs that an earlier transcriber's file dictates."""
    knobs = dict(knobs)
    audio = replace(hyperparams.audio, sample_rate=knobs.pop("sample_rate"))
    return replace(hyperparams, audio=audio, transcriber=replace(hyperparams.transcriber, **knobs))


def published_transcriber(source: Path, save_dir: Path, base: Hyperparams) -> Path:
    """The earlier project's transcriber in our format, converted on first use.

    base: what its file does not say. Errors: see `utils.published.convert_transcriber`.
    """

    def build(knobs: dict[str, Any]) -> tuple[Transcriber, Hyperparams]:
        hyperparams = with_knobs(base, knobs)
        with torch.device("meta"):  # names and shapes alone, to compare the file with
            return build_transcriber(hyperparams), hyperparams

    return published.convert_transcriber(source, save_dir, build)


def load_transcriber(path: Path, hyperparams_type: type, device: torch.device) -> Loaded:
    """Rebuild a transcriber from its checkpoint; errors as `utils.checkpoint.load`."""
    state = checkpoint.load(path, "transcriber")
    hyperparams = config.from_dict(state["hyperparams"], hyperparams_type)
    network = build_transcriber(hyperparams)
    checkpoint.load_weights(network, checkpoint.weights(state), path)
    return Loaded(network.to(device).eval(), hyperparams, state["data"], path, state["step"])


def phoneme_entropies(logits: Tensor) -> PhonemeEntropies:
    """The earlier system's two entropies of phoneme logits (T, 39); its `acc` and `var`."""
    probabilities = logits.double().softmax(dim=1)
    likeliest = probabilities.argmax(dim=1)  # (T,)
    silence = logits.shape[1] - 1
    is_sung = likeliest != silence
    sung = is_sung.double().mean().item()
    if not is_sung.any():
        return PhonemeEntropies(None, None, sung)
    share = torch.bincount(likeliest[is_sung]).double() / is_sung.sum()
    accuracy = _bits(probabilities[is_sung]).mean().item()
    return PhonemeEntropies(accuracy, _bits(share).item(), sung)


def _bits(probabilities: Tensor) -> Tensor:
    """Entropy over the last axis, in bits."""
    return torch.special.entr(probabilities).sum(-1) / torch.tensor(2.0).double().log()
