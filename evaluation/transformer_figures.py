"""Pictures of a training run for the README: attention, alphas, learning curves, mels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from network import TransformerTTS
from singing.chain import generate_mel
from training.curves import alpha_curves, learning_curves
from utils import plotting
from utils.loading import Loaded

if TYPE_CHECKING:
    from preprocess import TextMelBatch

SEED = 0  # of the dropout of the rendered phrase


@torch.inference_mode()
def transformer_pictures(loaded: Loaded, batch: TextMelBatch, out: Path) -> list[Path]:
    """Draw the item of a batch of one as the network reads and says it, and the run it is from.

    Writes attention_cross.png (free-running: every decoder layer and head over the symbols),
    attention_encoder.png, attention_decoder.png (teacher-forced), mel.png (free-running against
    true) and, when the run folder has a stats.jsonl, alphas.png and learning_curves.png.
    """
    network: TransformerTTS = loaded.network
    names = [loaded.data["symbols"][symbol] for symbol in batch.symbols[0].tolist()]
    seconds = network.reduction_factor * network.frame_seconds
    sung = generate_mel(
        network,
        batch.symbols,
        batch.symbol_lengths,
        [SEED],
        loaded.hyperparams.synthesis,
        batch.score,
        need_weights=True,
    )
    torch.manual_seed(SEED)
    forced = network(
        batch.symbols,
        batch.symbol_lengths,
        batch.mel,
        batch.mel_lengths,
        batch.score,
        batch.phoneme_times,
        need_weights=True,
    )
    title = f"{batch.ids[0]}, step {loaded.step}"
    statistics = loaded.standardiser("mel")
    figures = {
        "attention_cross": plotting.attention_grid(
            [layer[0] for layer in sung.attention.cross], names, seconds, f"{title}: on the symbols"
        ),
        "attention_encoder": plotting.attention_grid(
            [layer[0] for layer in forced.attention.encoder], names, None, f"{title}: encoder"
        ),
        "attention_decoder": plotting.attention_grid(
            [layer[0] for layer in forced.attention.decoder], None, seconds, f"{title}: decoder"
        ),
        "mel": plotting.spectrogram_pair(
            statistics.inverse(sung.mel[0]),
            statistics.inverse(batch.mel[0]),
            loaded.hyperparams.audio,
            ("free-running", "true"),
        ),
    }
    stats = loaded.path.parent / "stats.jsonl"
    if stats.is_file():
        figures["alphas"] = alpha_curves(stats)
        figures["learning_curves"] = learning_curves(stats)
    return [plotting.save_figure(figure, out / f"{name}.png") for name, figure in figures.items()]
