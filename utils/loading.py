"""Loading: networks rebuilt from checkpoints, as they were trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, overload

import torch
from torch import Tensor, nn

from hyperparams import Hyperparams
from inpainter.diffusion import Denoiser
from inpainter.spectral import SpectralUNet1d
from inpainter.unet import UNet1d
from module import harmonic_mels
from network import PostNet, TransformerTTS, build_postnet, build_transformer
from utils import checkpoint, config
from utils.audio import Standardiser, mel_filterbank
from utils.checkpoint import SECTIONS
from utils.files import reading, sha256_of

Network = TypeVar("Network", bound=nn.Module)


@dataclass
class Loaded(Generic[Network]):
    """A network for use: weights in float32, in eval mode, with all it was trained with."""

    network: Network
    hyperparams: Hyperparams
    data: dict[str, Any]  # symbols, statistics, corpus
    path: Path
    step: int

    def standardiser(self, feature: str) -> Standardiser:
        """Return the statistics that this network was trained with, of `mel` or `linear`."""
        standardiser = Standardiser.from_statistics(self.data["statistics"][feature])
        return standardiser.to(next(self.network.parameters()).device)


def describe_weights(loaded: Loaded[Any]) -> dict[str, Any]:
    """Path, step and the first half of the digest of a checkpoint."""
    return {"path": str(loaded.path), "step": loaded.step, "sha256": sha256_of(loaded.path)[:32]}


def build_unet(hyperparams: Hyperparams, num_symbols: int) -> UNet1d:
    """Return an untrained F of the inpainter of these sizes."""
    audio = hyperparams.audio
    unet = hyperparams.unet
    kind: type[UNet1d] = SpectralUNet1d
    told: dict[str, Tensor] = {}
    if unet.mel:  # late, as the next: most songs need neither
        from inpainter.mel_unet import MelUNet1d as kind

        if unet.harmonics:
            with torch.device("cpu"):  # values that count, also where shapes alone are built
                filterbank = mel_filterbank(audio)
                told["harmonics"] = harmonic_mels(filterbank, audio.sample_rate, audio.win_length)
    elif not unet.mdct:
        from legacy.patches import PatchUNet1d as kind
    return kind(
        unet,
        hyperparams.signal_hop,
        audio.n_mels,
        max(num_symbols, 1),
        hyperparams.transformer.num_pitches,
        hyperparams.diffusion.sigma_data,
        **told,
    )


def denoiser_of(network: nn.Module, hyperparams: Hyperparams) -> Denoiser:
    """Wrap F, a `build_unet` or a wrapper of one, as D; it adds no weights of its own."""
    spectral = (part for part in network.modules() if isinstance(part, SpectralUNet1d))
    noise_shape = next((part.noise_shape for part in spectral), None)
    return Denoiser(
        network, hyperparams.diffusion.sigma_data, hyperparams.unet.mask_input, noise_shape
    )


@overload
def load_network(
    reference: Path, kind: Literal["transformer"], device: torch.device, step: int | None = None
) -> Loaded[TransformerTTS]: ...
@overload
def load_network(
    reference: Path, kind: Literal["postnet"], device: torch.device, step: int | None = None
) -> Loaded[PostNet]: ...
@overload
def load_network(
    reference: Path, kind: Literal["inpainter"], device: torch.device, step: int | None = None
) -> Loaded[UNet1d]: ...
def load_network(
    reference: Path, kind: str, device: torch.device, step: int | None = None
) -> Loaded[Any]:
    """Rebuild a `transformer`, a `postnet` or an `inpainter` (F; see `denoiser_of`).

    reference, step: a file, a run's folder or name, see utils.checkpoint.resolve. Weights are the
    moving average when the run kept one. Raises FileNotFoundError and ValueError as
    utils.checkpoint.load does.
    """
    if kind not in SECTIONS:
        raise ValueError(f"kind = {kind!r} is not one of {', '.join(SECTIONS)}")
    path = checkpoint.resolve(reference, kind, step=step)
    state = checkpoint.load(path, kind)
    tensors = checkpoint.weights(state)
    with reading(path), checkpoint.limited_to(tensors, path):
        hyperparams = config.from_dict(state["hyperparams"], Hyperparams, SECTIONS[kind])
        network = _build(kind, hyperparams, state["data"])
        checkpoint.load_weights(network, tensors, path)
        if kind != "inpainter":
            Standardiser.from_statistics(state["data"]["statistics"]["mel"])
    network = network.to(device).eval()
    return Loaded(network, hyperparams, state["data"], path, state["step"])


def _build(kind: str, hyperparams: Hyperparams, data: dict[str, Any]) -> nn.Module:
    """Return an untrained network of a kind; `data` as its checkpoint carries it."""
    if kind != "postnet" and not all(isinstance(symbol, str) for symbol in data["symbols"]):
        raise ValueError("its table of symbols holds more than texts")
    if kind == "transformer":
        return build_transformer(hyperparams, len(data["symbols"]))
    if kind == "inpainter":
        return build_unet(hyperparams, len(data["symbols"]))
    return build_postnet(hyperparams)


def check_pair(transformer: Loaded[Any], postnet: Loaded[Any]) -> None:
    """Refuse to chain networks whose spectrograms differ: ValueError naming the knobs."""
    check_spectrograms(transformer, postnet.hyperparams, postnet.path)


def check_spectrograms(network: Loaded[Any], hyperparams: Hyperparams, path: Path) -> None:
    """Refuse to chain a network with another, of `path`, that has other spectrograms."""
    different = config.changed(network.hyperparams, hyperparams)
    wrong = {k: v for k, v in different.items() if k.startswith("audio.")}
    if wrong:
        listed = ", ".join(f"{key} is {a} and {b}" for key, (a, b) in wrong.items())
        raise ValueError(
            f"{network.path} and {path} cannot be chained: {listed}. Train one of "
            "them again with the other's audio section"
        )
