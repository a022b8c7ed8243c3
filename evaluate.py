"""Judge trained networks on held-out items: every number with its ceiling and its floor.

    python evaluate.py song --data songbook --split test --report
    python evaluate.py speech --data ljspeech --split test
    python evaluate.py inpainting --data songbook-stems --inpainter save/demo/inpainter.pt
    python evaluate.py transcriber --data songbook-stems --split test
    python evaluate.py folder out/vocals --references recordings
    python evaluate.py melody --data songbook-stems --split test
    python evaluate.py phonemes out/vocal/vocal.wav

`song` renders held-out phrases from lyrics and notes alone and measures pitch, lyrics, onsets,
level, sharpness and timbre; `speech` counts the word errors of recognisers on held-out sentences.
`inpainting` makes vocals of held-out windows anew, by the default method and by others, and
measures their distance to the true stem. `transcriber` scores phonemes and notes of held-out songs,
`folder` any recordings against their references, `melody` composed melodies against their
accompaniments. `phonemes` prints two entropies per recording.

Each command prints its table and writes JSON to --out; interrupted, it continues where it stopped.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from evaluation.inpainting_rows import DEFAULT_ROWS
from utils.paths import DEMO

EXAMPLES = {  # command: (what it answers, the options of an example)
    "song": ("sung phrases from lyrics and notes alone", "--data songbook --report"),
    "speech": ("word error rates of the spoken chain", "--data ljspeech"),
    "inpainting": (
        "distance of inpainted vocals to the true stems",
        f"--data songbook-stems --inpainter {DEMO / 'inpainter.pt'}",
    ),
    "transcriber": ("phonemes and notes transcribed of held-out songs", "--data songbook-stems"),
    "folder": ("recordings against their references", "out/vocals --references recordings"),
    "melody": ("fit of composed melodies to their accompaniments", "--data songbook-stems"),
    "phonemes": ("clearness and variety of sung phonemes", "out/vocal/vocal.wav"),
}
MOVED = {  # commands that became scripts of their own
    "transcribe": ("transcribe", ()),
    "pictures": ("plot", ("pictures",)),
    "curves": ("plot", ("curves",)),
    "samplers": ("plot", ("samplers",)),
}
RUN = "a run's name, its folder or a file (default: %(default)s)"


def add_corpus(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which items are judged."""
    parser.add_argument("--data", required=True, metavar="NAME", help="corpus below --feature-dir")
    parser.add_argument(
        "--split",
        default="test",
        choices=("train", "validation", "test"),
        help="part of the corpus (default: %(default)s)",
    )
    parser.add_argument(
        "--feature-dir",
        type=Path,
        default=Path("feature"),
        metavar="DIR",
        help="prepared corpora (default: %(default)s)",
    )


def add_network(parser: argparse.ArgumentParser, flag: str, file: str) -> None:
    """Add the option of a network that ships."""
    parser.add_argument(flag, type=Path, default=DEMO / file, metavar="RUN", help=RUN)


def add_judges(parser: argparse.ArgumentParser) -> None:
    """Add the options that `song` and `folder` share."""
    parser.add_argument(
        "--transcriber",
        type=Path,
        metavar="RUN",
        help=f"judge of notes and phonemes: a run's name, its folder or a file; none: without "
        f"(default: {DEMO / 'transcriber.pt'} if it is there)",
    )
    parser.add_argument(
        "--report",
        type=int,
        nargs="?",
        const=4,
        default=0,
        metavar="N",
        help="write report.html with N items to hear and see (default of N: 4; without the flag: "
        "no report)",
    )


def add_count(parser: argparse.ArgumentParser, flag: str, default: int, text: str) -> None:
    """Add an option that is a whole number."""
    parser.add_argument(
        flag, type=int, default=default, metavar="N", help=f"{text} (default: %(default)s)"
    )


def add_out(parser: argparse.ArgumentParser, device: bool = True) -> None:
    """Add the folder of the results and, for networks, the device."""
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/evaluation"),
        metavar="DIR",
        help="results (default: %(default)s)",
    )
    if device:
        add_device(parser)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add the device that the networks run on."""
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)"
    )


def evaluation_parser() -> argparse.ArgumentParser:
    """Build the command line; nothing but argparse is imported for it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    moved = ", ".join(f"{name} ({script}.py)" for name, (script, _) in MOVED.items())
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", help=f"moved: {moved}"
    )
    parsers = {
        name: commands.add_parser(
            name,
            help=text,
            description=f"python evaluate.py {name} {example}\n\n{text}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for name, (text, example) in EXAMPLES.items()
    }
    for name in ("song", "speech", "inpainting", "transcriber", "melody"):
        add_corpus(parsers[name])
    for name in ("song", "speech"):
        add_network(parsers[name], "--checkpoint", "transformer.pt")
        add_network(parsers[name], "--postnet", "postnet.pt")
        add_count(parsers[name], "--seed", 0, "item i of the split is rendered with seed + i")
        add_out(parsers[name])
    add_count(parsers["song"], "--limit", 0, "phrases, spread evenly over the split; 0: all")
    add_count(parsers["speech"], "--limit", 0, "sentences, the first ones; 0: all")
    add_judges(parsers["song"])
    parsers["song"].add_argument(
        "--inpainter",
        type=Path,
        metavar="RUN",
        help="judge the chain with this inpainter as a row of its own, on the songs' stems: a "
        "run's name, its folder or a file (default: without)",
    )
    _add_inpainting(parsers["inpainting"])
    add_network(parsers["transcriber"], "--transcriber", "transcriber.pt")
    add_out(parsers["transcriber"])
    _add_folder(parsers["folder"])
    melody = parsers["melody"]
    melody.add_argument(
        "--lyrics",
        type=Path,
        default=Path("examples/lyrics.txt"),
        metavar="FILE",
        help="words that are set to music (default: %(default)s)",
    )
    add_count(melody, "--seed", 0, "of the composer")
    add_out(melody, device=False)
    phonemes = parsers["phonemes"]
    phonemes.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="vocals without backing"
    )
    phonemes.add_argument(
        "--transcriber",
        type=Path,
        metavar="RUN",
        help="a run's name, its folder or a file (default: the earlier project's download if it is "
        f"there, else {DEMO / 'transcriber.pt'})",
    )
    add_device(phonemes)
    return parser


def _add_inpainting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--inpainter",
        type=Path,
        required=True,
        metavar="RUN",
        help="a run's name, its folder or a file",
    )
    add_network(parser, "--postnet", "postnet.pt")
    parser.add_argument(
        "--rows",
        nargs="+",
        metavar="ROW|all",
        help=f"ways to make a vocal (default: {' '.join(DEFAULT_ROWS)})",
    )
    add_count(parser, "--windows", 8, "windows, spread evenly over the split")
    add_count(parser, "--control-windows", 32, "windows of the loss's shuffle control; 0: none")
    add_count(parser, "--batch-size", 4, "windows at once")
    add_count(parser, "--seed", 0, "of the noise")
    add_out(parser)


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rendered", type=Path, metavar="RENDERED", help="folder of recordings")
    parser.add_argument(
        "--references",
        type=Path,
        required=True,
        metavar="DIR",
        help="recordings of the same names; NAME.mid, NAME.txt and NAME.accompaniment.wav beside "
        "them are used",
    )
    add_judges(parser)
    add_out(parser, device=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate from the shell; return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in MOVED:
        script, prefix = MOVED[words[0]]
        print(f"evaluate.py {words[0]} is now: python {' '.join((f'{script}.py', *prefix))}")
        return importlib.import_module(script).main([*prefix, *words[1:]])
    options = vars(evaluation_parser().parse_args(words))
    command = options.pop("command")
    # Imported now: --help should not wait for torch.
    module = importlib.import_module(f"evaluation.{command}")
    try:
        getattr(module, f"evaluate_{command}")(**options)
    except (ValueError, FileNotFoundError, ImportError) as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
