"""The transcriber as a judge: loaded from a checkpoint or the earlier weights, and what it hears.

    loaded = load_transcriber(path, device)
    heard = transcribe(loaded, wav, sample_rate)  # heard.phoneme (T, 39), heard.notes

Shapes: B batch, C channels, T frames, S samples; 39 phoneme classes, the last of which is silence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hyperparams import Hyperparams
from hyperparams import Transcriber as TranscriberKnobs
from legacy import weights as published
from transcription.network import Transcriber
from transcription.note_decoding import SungNote, decode_notes, note_spans
from transcription.note_pitch import NotePitch
from utils import checkpoint, config
from utils.audio import convert
from utils.loading import Loaded
from utils.pitch import f0_track

SECTIONS = ("audio", "transcriber")  # of the hyperparameters that a transcriber is used with


@dataclass(frozen=True)
class Transcribed:
    """What was heard in a recording; frame t is centred on time t · hop_seconds."""

    phoneme: Tensor  # (T, 39) probabilities, see labels.PHONEME_CLASSES; the last is silence
    note: Tensor  # (T, 3) probabilities of onset, offset, activation
    f0: Tensor  # (T,) Hz, 0 = no pitch; by note_pitch in notes, by utils.pitch elsewhere
    notes: list[SungNote]  # (onset s, offset s, MIDI number with its fraction)
    hop_seconds: float


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

    base: what its file does not say. Errors: see `legacy.weights.convert_transcriber`.
    """

    def build(knobs: dict[str, Any]) -> tuple[Transcriber, Hyperparams]:
        hyperparams = with_knobs(base, knobs)
        with torch.device("meta"):  # names and shapes alone, to compare the file with
            return build_transcriber(hyperparams), hyperparams

    return published.convert_transcriber(source, save_dir, build)


def load_transcriber(path: Path, device: torch.device) -> Loaded:
    """Rebuild a transcriber from its checkpoint; errors as `utils.checkpoint.load`."""
    path = checkpoint.resolve(path, "transcriber")
    state = checkpoint.load(path, "transcriber")
    hyperparams = config.from_dict(state["hyperparams"], Hyperparams, SECTIONS)
    network = build_transcriber(hyperparams)
    checkpoint.load_weights(network, checkpoint.weights(state), path)
    return Loaded(network.to(device).eval(), hyperparams, state["data"], path, state["step"])


def transcribe(loaded: Loaded, wav: Tensor, sample_rate: int) -> Transcribed:
    """Phonemes, F0 and notes of a recording, wav (S,) or (C, S) at any rate in Hz.

    T = 1 + S // transcriber.hop_length at the network's rate; a recording of no samples has one
    frame, of silence. Memory is flat: it is heard in chunks, so a place sounds the same however
    long the recording goes on behind the next chunk.
    """
    rate = loaded.hyperparams.audio.sample_rate
    mono, _ = convert(wav if wav.dim() == 2 else wav[None], sample_rate, rate)
    return hear(loaded.network, loaded.hyperparams.transcriber, mono.float(), rate)


@torch.no_grad()
def hear(
    network: Transcriber, knobs: TranscriberKnobs, wav: Tensor, sample_rate: int
) -> Transcribed:
    """As `transcribe`, of wav (S,) at the network's rate, by a network in eval mode."""
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
        heard = network(part[None].to(device))
        f0 = f0_track(part, sample_rate, hop)
        here = slice(before, before + min(size, frames - first))
        parts.append(
            (
                heard.phoneme[0, here].float().softmax(1).cpu(),
                heard.note[0, here].float().sigmoid().cpu(),
                f0[here],
            )
        )
    return assemble(*map(torch.cat, zip(*parts, strict=True)), wav, knobs, sample_rate)


def assemble(
    phoneme: Tensor,
    note: Tensor,
    f0: Tensor,
    wav: Tensor,
    knobs: TranscriberKnobs,
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
