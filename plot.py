"""Draw training runs: learning curves, attention and mels, and samplers of known error.

    python plot.py curves save/inpainter/songs
    python plot.py pictures --data ljspeech --checkpoint save/transformer/speech/best.pt
    python plot.py samplers

`curves` draws the losses of a run, an inpainter's by noise level. `pictures` renders one item of a
corpus and draws the attention of every layer and head, predicted and true mel, and the run's alphas
and curves. `samplers` measures all samplers where the posterior is known and prints the table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from utils.flags import (
    command_line,
    corpus_options,
    exit_code,
    option,
    step_option,
    subcommands,
    take_step,
)

COMMANDS = {  # what it draws, the options of an example
    "curves": ("losses of a training run", "save/inpainter/songs"),
    "pictures": (
        "attention, mels, alphas and curves of a transformer",
        "--data ljspeech --checkpoint save/transformer/speech",
    ),
    "samplers": ("errors of all samplers where the posterior is known", ""),
}


def draw(arguments: argparse.Namespace) -> None:
    """Draw what the command asks for and print the paths of the pictures."""
    # Imported now: --help should not wait for torch and matplotlib.
    from evaluation.gaussian_posterior import error_curves, markdown_table
    from evaluation.transformer_figures import transformer_figures
    from training.curves import draw_errors, run_curves
    from utils.plotting import save_figure

    out = arguments.out
    if arguments.command == "curves":
        figures = {out: run_curves(arguments.run, arguments.all)}
    elif arguments.command == "pictures":
        named = transformer_figures(arguments)
        figures = {out / f"{name}.png": figure for name, figure in named.items()}
    else:
        print(markdown_table())
        label = "squared Wasserstein-2 distance / posterior trace"
        figures = {out / "samplers.png": draw_errors(error_curves(), label)}
    for path, figure in figures.items():
        print(save_figure(figure, path))


def main(argv: Sequence[str] | None = None) -> int:
    """Draw from the shell; return the exit code."""
    parser = command_line(__doc__)
    commands = subcommands(parser, "plot.py", COMMANDS)
    commands["curves"].add_argument(
        "run", type=Path, metavar="RUN", help="its folder, or a stats.jsonl"
    )
    commands["curves"].add_argument(
        "--all", action="store_true", help="every scalar, not only the four that say most"
    )
    pictures = commands["pictures"]
    pictures.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        metavar="RUN",
        help="a run's name, its folder or a file of it",
    )
    step_option(pictures, "--checkpoint")
    corpus_options(pictures, "validation")
    option(pictures, "--item", 0, "its number in the split", metavar="N")
    for name, command in commands.items():
        out = Path("png/curves.png" if name == "curves" else "png")
        option(command, "--out", out, "picture, or folder of pictures", metavar="PATH")
    arguments = parser.parse_args(argv)
    if arguments.command == "pictures":
        take_step(arguments, "--checkpoint")
    return exit_code("plot.py", lambda: draw(arguments))


if __name__ == "__main__":
    sys.exit(main())
