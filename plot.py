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
from collections.abc import Callable, Sequence
from pathlib import Path

# Inside functions: --help should not wait for torch and matplotlib.


def curves(run: Path, out: Path) -> None:
    """Draw the logged losses of a run."""
    from training.curves import run_curves
    from utils.plotting import save_figure

    print(save_figure(run_curves(run), out))


def pictures(
    checkpoint: Path, data: str, split: str, feature_dir: Path, item: int, out: Path
) -> None:
    """Draw attention, mels, alphas and curves of a transformer."""
    from evaluation.transformer_figures import item_of, transformer_figures
    from utils.plotting import save_figure

    loaded, batch = item_of(checkpoint, feature_dir, data, split, item)
    for name, figure in transformer_figures(loaded, batch).items():
        print(save_figure(figure, out / f"{name}.png"))


def samplers(out: Path) -> None:
    """Print and draw the errors of all samplers against a Gaussian posterior."""
    import torch

    from evaluation.gaussian_posterior import error_curves, markdown_table
    from training.curves import draw_errors
    from utils.plotting import save_figure

    torch.set_num_threads(1)
    print(markdown_table())
    figure = draw_errors(error_curves(), "squared Wasserstein-2 distance / posterior trace")
    print(save_figure(figure, out / "samplers.png"))


def plot_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")

    def add(name: str, example: str, text: str, out: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=text,
            description=f"python plot.py {name} {example}\n\n{text}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_option(command, "--out", Path(out), "picture, or folder of pictures")
        return command

    run = add("curves", "save/inpainter/songs", "losses of a training run", "png/curves.png")
    run.add_argument("run", type=Path, metavar="RUN", help="its folder, or a stats.jsonl")
    text = "attention, mels, alphas and curves of a transformer"
    drawn = add("pictures", "--data ljspeech --checkpoint save/transformer/speech", text, "png")
    drawn.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        metavar="RUN",
        help="a run's name, its folder or a file of it",
    )
    drawn.add_argument("--data", required=True, metavar="NAME", help="corpus below --feature-dir")
    add_option(drawn, "--split", "validation", "train, validation or test")
    add_option(drawn, "--feature-dir", Path("feature"), "prepared corpora")
    add_option(drawn, "--item", 0, "its number in the split")
    add("samplers", "", "errors of all samplers where the posterior is known", "png")
    return parser


def add_option(
    parser: argparse.ArgumentParser, flag: str, default: str | int | Path, text: str
) -> None:
    """Add an option of the type of its default."""
    kind = Path if isinstance(default, Path) else type(default)
    parser.add_argument(flag, type=kind, default=default, help=f"{text} (default: %(default)s)")


def main(argv: Sequence[str] | None = None) -> int:
    """Draw from the shell; return the exit code."""
    options = vars(plot_parser().parse_args(argv))
    drawings: dict[str, Callable[..., None]] = {
        "curves": curves,
        "pictures": pictures,
        "samplers": samplers,
    }
    try:
        drawings[options.pop("command")](**options)
    except (ValueError, FileNotFoundError) as error:
        print(f"plot.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
