"""Transcription of recordings: a transcriber from its checkpoint, or from the legacy weights.

    loaded = load_transcriber(path, device)
    transcribed = transcribe(loaded, wav, sample_rate)  # .phoneme (T, 39), .notes

Shapes: B batch, C channels, T frames, S samples; 39 phoneme classes, the last of which is silence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hyperparams import Hyperparams, Transcriber
from legacy import weights as legacy_weights
from transcription.network import TranscriberNet
from transcription.note_decoding import NotePitch, TranscribedNote, decode_notes, note_spans
from utils import checkpoint, config
from utils.audio import convert
from utils.files import reading
from utils.loading import Loaded
from utils.metrics import f0_track

SECTIONS = ("audio", "transcriber")  # of the hyperparameters that a transcriber is used with


@dataclass(frozen=True)
class Transcribed:
    """The transcription of a recording; frame t is centred on time t · hop_seconds."""

    phoneme: Tensor  # (T, 39) probabilities, see labels.PHONEME_CLASSES; the last is silence
    note: Tensor  # (T, 3) probabilities of onset, offset, activation
    f0: Tensor  # (T,) Hz, 0 = no pitch; by note_pitch in notes, by utils.metrics elsewhere
    notes: list[TranscribedNote]  # (onset s, offset s, MIDI number with its fraction)
    hop_seconds: float


@dataclass(frozen=True)
class PhonemeEntropies:
    """Clearness and variety of the phonemes of a recording, in bits, over sung frames.

    accuracy: mean entropy of a frame's phoneme distribution, 0 = certain, log2(39) = 5.3 = no
    idea. variety: entropy of how often each phoneme is the likeliest, 0 = always the same one.
    Both are None when no frame is sung; sung: share of frames whose likeliest class is no silence.
    """

    accuracy: float | None
    variety: float | None
    sung: float


def build_transcriber(hyperparams: Hyperparams) -> TranscriberNet:
    """Build a transcriber of the sizes in the hyperparameters."""
    return TranscriberNet(hyperparams.transcriber, hyperparams.audio.sample_rate)


def with_knobs(hyperparams: Hyperparams, knobs: dict[str, Any]) -> Hyperparams:
    """Replace hyperparameters by the knobs of a legacy transcriber's file."""
    knobs = dict(knobs)
    audio = replace(hyperparams.audio, sample_rate=knobs.pop("sample_rate"))
    return replace(hyperparams, audio=audio, transcriber=replace(hyperparams.transcriber, **knobs))


def legacy_transcriber(source: Path, save_dir: Path, base: Hyperparams) -> Path:
    """Return the checkpoint of the legacy transcriber, converted on first use.

    base: hyperparameters that its file does not hold. Errors as legacy.weights.convert_transcriber.
    """

    def build(knobs: dict[str, Any]) -> tuple[TranscriberNet, Hyperparams]:
        hyperparams = with_knobs(base, knobs)
        with torch.device("meta"):  # names and shapes alone, to compare the file with
            return build_transcriber(hyperparams), hyperparams

    return legacy_weights.convert_transcriber(source, save_dir, build)


def load_transcriber(path: Path, device: torch.device) -> Loaded[TranscriberNet]:
    """Rebuild a transcriber from its checkpoint; errors as `utils.checkpoint.load`."""
    path = checkpoint.resolve(path, "transcriber")
    state = checkpoint.load(path, "transcriber")
    tensors = checkpoint.weights(state)
    with reading(path), checkpoint.limited_to(tensors, path):
        hyperparams = config.from_dict(state["hyperparams"], Hyperparams, SECTIONS)
        network = build_transcriber(hyperparams)
        checkpoint.load_weights(network, tensors, path)
    return Loaded(network.to(device).eval(), hyperparams, state["data"], path, state["step"])


def transcribe(loaded: Loaded[TranscriberNet], wav: Tensor, sample_rate: int) -> Transcribed:
    """Transcribe phonemes, F0 and notes of a recording, wav (S,) or (C, S) at any rate in Hz.

    T = 1 + S // transcriber.hop_length at the network's rate; a recording of no samples has one
    frame, of silence. Memory is flat: chunks with a margin are transcribed one by one, so a place
    does not depend on what comes after the next chunk.
    """
    rate = loaded.hyperparams.audio.sample_rate
    mono, _ = convert(wav if wav.dim() == 2 else wav[None], sample_rate, rate)
    return transcribe_at_rate(loaded.network, loaded.hyperparams.transcriber, mono.float(), rate)


@torch.no_grad()
def transcribe_at_rate(
    network: TranscriberNet, knobs: Transcriber, wav: Tensor, sample_rate: int
) -> Transcribed:
    """Transcribe wav (S,) at the rate of the network, which is in eval mode; see `transcribe`."""
    hop, frames = knobs.hop_length, 1 + len(wav) // knobs.hop_length
    device = next(network.parameters()).device
    least = 2 + knobs.win_length // hop  # frames, the fewest that the mel's reflected edges allow
    size = max(1, round(knobs.chunk_seconds * sample_rate / hop))
    margin = max(least, round(knobs.margin_seconds * sample_rate / hop))
    padded = F.pad(wav, (0, max(0, least * hop - len(wav))))
    parts = []
    for first in range(0, frames, size):
        before = min(first, margin)
        part = padded[(first - before) * hop : (first + size + margin) * hop]
        out = network(part[None].to(device))
        f0 = f0_track(part, sample_rate, hop)
        here = slice(before, before + min(size, frames - first))
        parts.append(
            (
                out.phoneme[0, here].float().softmax(1).cpu(),
                out.note[0, here].float().sigmoid().cpu(),
                f0[here],
            )
        )
    phoneme, note, f0 = (torch.cat(part) for part in zip(*parts, strict=True))
    return assemble(phoneme, note, f0, wav, knobs, sample_rate)


def assemble(
    phoneme: Tensor,
    note: Tensor,
    f0: Tensor,
    wav: Tensor,
    knobs: Transcriber,
    sample_rate: int,
) -> Transcribed:
    """Decode notes from probabilities (T, 39), (T, 3) and an F0 track (T,) of wav (S,)."""
    seconds, f0 = knobs.hop_length / sample_rate, f0.clone()
    pitch = NotePitch(sample_rate, knobs.hop_length)
    for first, last in note_spans(note.numpy(), knobs):
        f0[first:last] = pitch.track(wav, f0, first, last)
    notes = decode_notes(note.numpy(), f0.numpy(), seconds, knobs)
    return Transcribed(phoneme, note, f0, notes, seconds)


def phoneme_entropies(logits: Tensor) -> PhonemeEntropies:
    """Measure the legacy project's two entropies, `acc` and `var`, of phoneme logits (T, 39)."""
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
    """Return the entropy over the last axis, in bits."""
    return torch.special.entr(probabilities).sum(-1) / torch.tensor(2.0).double().log()
