"""The chain that is judged: mels of one item by several ways, and how they sound.

Shapes: N symbols, T frames, M mels, S samples.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from utils.rendering import (
    Loaded,
    check_pair,
    generate_mel,
    guided_alignment,
    load,
    waveform,
)

if TYPE_CHECKING:
    from hyperparams import Hyperparams
    from preprocess import TextMelBatch


@dataclass(frozen=True)
class Chain:
    """Transformer and postnet as they are used together."""

    transformer: Loaded
    postnet: Loaded

    @property
    def hyperparams(self) -> Hyperparams:
        """Audio and synthesis are used as the transformer was trained with them."""
        return self.transformer.hyperparams

    @property
    def device(self) -> torch.device:
        """Where both networks are."""
        return next(self.transformer.network.parameters()).device

    def describe(self) -> dict[str, Any]:
        """Which weights these are, for the record."""
        return {
            kind: describe_weights(loaded)
            for kind, loaded in (("transformer", self.transformer), ("postnet", self.postnet))
        }


def describe_weights(loaded: Loaded) -> dict[str, Any]:
    """Path, step and the first half of the digest of a checkpoint."""
    digest = hashlib.sha256(Path(loaded.path).read_bytes()).hexdigest()
    return {"path": str(loaded.path), "step": loaded.step, "sha256": digest[:32]}


def load_chain(
    transformer: Path, postnet: Path, hyperparams_type: type, device: torch.device
) -> Chain:
    """Load both checkpoints; ValueError when their spectrograms differ."""
    chain = Chain(
        load(transformer, "transformer", hyperparams_type, device),
        load(postnet, "postnet", hyperparams_type, device),
    )
    check_pair(chain.transformer, chain.postnet)
    return chain


@dataclass(frozen=True)
class Rendered:
    """Mel (T, M), standardised, and for a free-running one its alignment (steps, N)."""

    mel: Tensor
    alignment: Tensor | None = None


@torch.inference_mode()
def teacher_forced(chain: Chain, batch: TextMelBatch, seed: int) -> Rendered:
    """What the transformer makes of the one item of a batch, fed with its true history."""
    torch.manual_seed(seed)
    network = chain.transformer.network
    out = network(batch.symbols, batch.symbol_lengths, batch.mel, batch.mel_lengths, batch.score)
    return Rendered(out.mel[0])


@torch.inference_mode()
def free_running(chain: Chain, batch: TextMelBatch, seed: int) -> Rendered:
    """What it makes of the item's text and notes alone, fed with its own output."""
    made = generate_mel(
        chain.transformer.network,
        batch.symbols,
        batch.symbol_lengths,
        [seed],
        chain.hyperparams.synthesis,
        batch.score,
        need_weights=True,
    )
    mel = made.mel[0, : int(made.mel_lengths[0])]
    return Rendered(mel, guided_alignment(chain.transformer.network, made, 0))


@torch.inference_mode()
def sound(chain: Chain, mel: Tensor, seed: int) -> Tensor:
    """Mel (T, M), standardised as the transformer's → waveform (S,) through the postnet."""
    raw = chain.transformer.standardiser("mel").inverse(mel)
    linear = chain.postnet.network(chain.postnet.standardiser("mel")(raw)[None])[0]
    linear = chain.postnet.standardiser("linear").inverse(linear)
    return waveform(linear, chain.hyperparams.audio, chain.hyperparams.synthesis, seed).cpu()
