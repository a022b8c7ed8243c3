"""The chain that is judged: mels of one item with true and own history, and their waveforms.

Shapes: N symbols, T frames, M mels, S samples.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from corpora.stores import open_features
from preprocess import TextMelDataset
from singing.chain import generate_mel, guided_alignment, postfiltered
from singing.voice import Voice, load_voice
from training.mel_drafts import teacher_forced_mel
from utils.checkpoint import resolve
from utils.flags import start_on
from utils.loading import describe_weights

if TYPE_CHECKING:
    from preprocess import TextMelBatch
    from utils.metrics import TimedNote


def describe_voice(voice: Voice) -> dict[str, Any]:
    """Describe the weights, for the record."""
    return {
        kind: describe_weights(loaded)
        for kind, loaded in (("transformer", voice.transformer), ("postnet", voice.postnet))
    }


def open_chain(arguments: Namespace) -> tuple[Voice, TextMelDataset]:
    """Load transformer and postnet of the command line, and the split that they are judged on."""
    paths = resolve(arguments.checkpoint, "transformer"), resolve(arguments.postnet, "postnet")
    voice = load_voice(*paths, start_on(arguments.device))
    store = open_features(arguments.feature_dir, arguments.data)
    store.check_audio(voice.hyperparams.audio)
    dataset = TextMelDataset(store, arguments.split)
    dataset.use_voices(voice.transformer.data.get("voices", ()))
    return voice, dataset


@dataclass(frozen=True)
class Rendered:
    """Mel (T, M), standardised, and for a free-running one its alignment (steps, N)."""

    mel: Tensor
    alignment: Tensor | None = None


@torch.inference_mode()
def teacher_forced(voice: Voice, batch: TextMelBatch, seed: int) -> Rendered:
    """Run the transformer on the one item of a batch, fed with the true history.

    It gets the postfilter of a free-running one, so that the two differ in the history alone. One
    without a history is told when each phoneme truly sounds, which it predicts else.
    """
    network = voice.transformer.network
    if network.hp.history:
        text = batch.symbols, batch.symbol_lengths
        memory, is_padding, _ = network.encode(*text, batch.score, voice=batch.voice)
        times = network.predicted_times(memory, is_padding, batch.score)
        batch = replace(batch, phoneme_times=times)
    mel = teacher_forced_mel(network, batch, seed)
    knobs = voice.hyperparams.synthesis
    return Rendered(postfiltered(mel, batch.mel_lengths, knobs, batch.score)[0])


@torch.inference_mode()
def free_running(voice: Voice, batch: TextMelBatch, seed: int) -> Rendered:
    """Run the transformer on the text and notes of the one item, fed with its own output."""
    made = generate_mel(
        voice.transformer.network,
        batch.symbols,
        batch.symbol_lengths,
        [seed],
        voice.hyperparams.synthesis,
        batch.score,
        need_weights=True,
        voice=batch.voice,
    )
    mel = made.mel[0, : int(made.mel_lengths[0])]
    return Rendered(mel, guided_alignment(voice.transformer.network, made, 0))


@torch.inference_mode()
def sound(voice: Voice, mel: Tensor, seed: int, notes: Sequence[TimedNote] | None = None) -> Tensor:
    """Render mel (T, M), standardised as the transformer's, to a waveform (S,) by the postnet.

    notes: of a sung item, for a postnet with a source.
    """
    lengths = torch.tensor([len(mel)], device=mel.device)
    return voice.sounds(voice.log_mel(mel[None]), lengths, [notes], [seed])[0]
