"""The command line of evaluate.py."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from evaluation.inpainting import DEFAULT_ROWS
from legacy import weights as published


def add_corpus(parser: argparse.ArgumentParser, split: str = "test") -> None:
    """Which items are judged."""
    parser.add_argument("--data", required=True, metavar="NAME", help="corpus below --feature-dir")
    parser.add_argument("--split", default=split, choices=("train", "validation", "test"))
    parser.add_argument("--feature-dir", type=Path, default=Path("feature"))


def add_chain(parser: argparse.ArgumentParser, demo: Path) -> None:
    """Which weights are judged."""
    parser.add_argument("--checkpoint", type=Path, default=demo / "transformer.pt")
    parser.add_argument("--postnet", type=Path, default=demo / "postnet.pt")


def add_run(parser: argparse.ArgumentParser, out: str = "out/evaluation") -> None:
    """How it is run, and where the result goes."""
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(out), metavar="DIR")
    parser.add_argument("--device", default="auto")


def add_last_stage(parser: argparse.ArgumentParser) -> None:
    """What `song` may judge besides Griffin-Lim."""
    parser.add_argument(
        "--inpainter",
        type=Path,
        metavar="FILE",
        help="a last stage after Griffin-Lim, judged as a row of its own on the songs' stems",
    )


def add_judges(parser: argparse.ArgumentParser) -> None:
    """What `song` and `folder` have in common."""
    parser.add_argument(
        "--transcriber", type=Path, metavar="RUN", help="or a file: notes and phonemes are judged"
    )
    parser.add_argument(
        "--report",
        type=int,
        nargs="?",
        const=4,
        default=0,
        metavar="N",
        help="write report.html with N items to hear and see (default of N: 4)",
    )


def parse(
    argv: Sequence[str] | None,
    functions: Mapping[str, Callable[[argparse.Namespace], int]],
    demo: Path,
    lyrics: Path,
    description: str,
) -> argparse.Namespace:
    """Read the command line; `command` of the result is the function of the command's name.

    demo: the folder of the weights that are judged by default; lyrics: what is set to music.
    """
    parser = argparse.ArgumentParser(description=description)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, help_text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help_text)
        command.set_defaults(command=functions[name])
        return command

    spoken = add("speech", "word error rate of the spoken chain")
    add_corpus(spoken)
    add_chain(spoken, demo)
    add_run(spoken)
    spoken.add_argument("--limit", type=int, default=0, help="first items only; 0 = all")
    sung = add("song", "sung phrases from lyrics and notes alone")
    add_corpus(sung)
    add_chain(sung, demo)
    add_run(sung)
    add_judges(sung)
    add_last_stage(sung)
    sung.add_argument("--limit", type=int, default=0, help="phrases, spread evenly; 0 = all")
    files = add("folder", "recordings against their references")
    files.add_argument("rendered", type=Path, metavar="RENDERED", help="folder of recordings")
    files.add_argument(
        "--references",
        type=Path,
        required=True,
        metavar="DIR",
        help="the same names; NAME.mid, NAME.txt, NAME.accompaniment.wav beside them are used",
    )
    add_judges(files)
    files.add_argument("--out", type=Path, default=Path("out/evaluation"), metavar="DIR")
    remade = add("inpainting", "distance of remade vocals to the true stems")
    add_corpus(remade)
    add_run(remade)
    remade.add_argument("--inpainter", type=Path, required=True, metavar="RUN", help="or a file")
    remade.add_argument("--postnet", type=Path, default=demo / "postnet.pt")
    remade.add_argument(
        "--rows", nargs="+", metavar="ROW|all", help=f"default: {' '.join(DEFAULT_ROWS)}"
    )
    remade.add_argument("--windows", type=int, default=8, help="of the split, spread evenly")
    remade.add_argument(
        "--control-windows", type=int, default=32, help="of the loss's shuffle control; 0: none"
    )
    remade.add_argument("--batch-size", type=int, default=4)
    composed = add("melody", "do composed melodies belong to their accompaniments")
    add_corpus(composed)
    composed.add_argument("--lyrics", type=Path, default=lyrics, metavar="FILE", help="are set")
    composed.add_argument("--seed", type=int, default=0)
    composed.add_argument("--out", type=Path, default=Path("out/evaluation"), metavar="DIR")
    drawn = add("pictures", "attention, alphas and curves of a transformer")
    add_corpus(drawn, "validation")
    drawn.add_argument("--item", type=int, default=0, help="number in the split")
    drawn.add_argument("--checkpoint", type=Path, required=True, help="of a run, for its curves")
    drawn.add_argument("--out", type=Path, default=Path("png"), metavar="DIR")
    curves = add("curves", "losses of a training run; an inpainter's by noise level")
    curves.add_argument("run", type=Path, metavar="RUN", help="its folder, or a stats.jsonl")
    curves.add_argument("--out", type=Path, default=Path("png/curves.png"), metavar="FILE.png")
    heard = add("phonemes", "how clear and varied sung phonemes are")
    heard.add_argument("files", nargs="+", type=Path, metavar="FILE", help="vocals without backing")
    heard.add_argument(
        "--transcriber",
        type=Path,
        metavar="FILE",
        help=f"a checkpoint (default: the earlier project's, from {published.TRANSCRIBER_PATH})",
    )
    heard.add_argument("--device", default="auto")
    exact = add("samplers", "errors of all samplers where the answer is known")
    exact.add_argument("--out", type=Path, default=Path("png"), metavar="DIR")
    tested = add("transcriber", "phonemes and notes heard in held-out songs")
    add_corpus(tested)
    tested.add_argument(
        "--transcriber", type=Path, default=demo / "transcriber.pt", metavar="RUN", help="or a file"
    )
    tested.add_argument("--out", type=Path, default=Path("out/evaluation"), metavar="DIR")
    tested.add_argument("--device", default="auto")
    written = add("transcribe", "a recording to MIDI with lyrics")
    written.add_argument("file", type=Path, metavar="FILE", help="a vocal, any rate and channels")
    written.add_argument("--out", type=Path, required=True, metavar="FILE.mid")
    written.add_argument(
        "--lyrics", type=Path, metavar="FILE", help="its words; else phonemes are written"
    )
    written.add_argument(
        "--transcriber",
        type=Path,
        default=demo / "transcriber.pt",
        metavar="RUN",
        help="a run or a file (default: %(default)s)",
    )
    written.add_argument("--device", default="auto")
    return parser.parse_args(argv)
