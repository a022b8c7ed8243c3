"""What does a transformer attend to? Figures of one item, and of the run its weights are from."""

from __future__ import annotations

from argparse import Namespace

import torch
from matplotlib.figure import Figure

from corpora.stores import open_features
from network import TransformerTTS
from preprocess import TextMelBatch, TextMelDataset
from singing.chain import generate_mel
from training.curves import alpha_curves, learning_curves
from utils import plotting
from utils.checkpoint import resolve
from utils.loading import Loaded, load_network

SEED = 0  # of the dropout of the rendered phrase


def open_item(arguments: Namespace) -> tuple[Loaded[TransformerTTS], TextMelBatch]:
    """Load the transformer of the command line, and item number `item` of a split as a batch."""
    path = resolve(arguments.checkpoint, "transformer")
    loaded = load_network(path, "transformer", torch.device("cpu"))
    split, item = arguments.split, arguments.item
    dataset = TextMelDataset(open_features(arguments.feature_dir, arguments.data), split)
    if not 0 <= item < len(dataset):
        raise ValueError(f"--item {item}: the {split} split has items 0 to {len(dataset) - 1}")
    dataset.standardise = loaded.standardiser("mel")
    dataset.use_voices(loaded.data.get("voices", ()))
    return loaded, dataset.collate([dataset[item]])


@torch.inference_mode()
def transformer_figures(arguments: Namespace) -> dict[str, Figure]:
    """Draw item number `item` of a split, and the run of the checkpoint, by name of the figure.

    attention_cross (free-running: every decoder layer and head over the symbols),
    attention_encoder, attention_decoder (teacher-forced), mel (free-running against true) and, when
    the run folder has a stats.jsonl, alphas and learning_curves.
    """
    loaded, batch = open_item(arguments)
    network = loaded.network
    names = [loaded.data["symbols"][symbol] for symbol in batch.symbols[0].tolist()]
    seconds = network.reduction_factor * network.frame_seconds
    free = generate_mel(
        network,
        batch.symbols,
        batch.symbol_lengths,
        [SEED],
        loaded.hyperparams.synthesis,
        batch.score,
        need_weights=True,
        voice=batch.voice,
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
        voice=batch.voice,
    )
    assert free.attention is not None and forced.attention is not None
    title = f"{batch.ids[0]}, step {loaded.step}"
    statistics = loaded.standardiser("mel")
    figures = {
        "attention_cross": plotting.attention_grid(
            [layer[0] for layer in free.attention.cross], names, seconds, f"{title}: on the symbols"
        ),
        "attention_encoder": plotting.attention_grid(
            [layer[0] for layer in forced.attention.encoder], names, None, f"{title}: encoder"
        ),
        "attention_decoder": plotting.attention_grid(
            [layer[0] for layer in forced.attention.decoder], None, seconds, f"{title}: decoder"
        ),
        "mel": plotting.spectrogram_pair(
            statistics.inverse(free.mel[0]),
            statistics.inverse(batch.mel[0]),
            loaded.hyperparams.audio,
            ("free-running", "true"),
        ),
    }
    stats = loaded.path.parent / "stats.jsonl"
    if stats.is_file():
        figures["alphas"] = alpha_curves(stats)
        figures["learning_curves"] = learning_curves(stats)
    return figures
