"""Judge trained networks on held-out items: every number with its ceiling and its floor.

    python evaluate.py song --data songbook --split test --report
    python evaluate.py speech --data ljspeech --split test
    python evaluate.py inpainting --data songbook-stems --inpainter save/demo/inpainter.pt
    python evaluate.py mels --data songbook-stems --split validation --mel-inpainter mel
    python evaluate.py wordless --data songbook-stems --split test
    python evaluate.py transcriber --data songbook-stems --split test
    python evaluate.py folder out/vocals --references recordings
    python evaluate.py melody --data songbook-stems --split test
    python evaluate.py phonemes out/vocal/vocal.wav

`song` renders held-out phrases from lyrics and notes alone and measures pitch, lyrics, onsets,
level, sharpness and timbre; `speech` counts the word errors of recognisers on held-out sentences.
`inpainting` makes vocals of held-out windows anew, by the default method and by others, and
measures their distance to the true stem. `mels` judges the inpainter on mels without words: vocals
for an accompaniment alone, gaps, continuations, and the shuffle control; `wordless` judges what
the whole chain sings there, by the files that it writes. `transcriber` scores phonemes and notes of
held-out songs, `folder` any recordings against their references, `melody` composed melodies against
their accompaniments. `phonemes` prints two entropies per recording.

Each command prints its table and writes JSON to --out; interrupted, it continues where it stopped.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from evaluation.inpainting_rows import DEFAULT_ROWS
from utils.flags import (
    DEMO,
    MEL_INPAINTER,
    SUNG_POSTNET,
    command_line,
    corpus_options,
    device_option,
    exit_code,
    network_option,
    option,
    step_option,
    subcommands,
    take_step,
)

COMMANDS = {  # what it answers, the options of an example
    "song": ("sung phrases from lyrics and notes alone", "--data songbook --report"),
    "speech": ("word error rates of the spoken chain", "--data ljspeech"),
    "inpainting": (
        "distance of inpainted vocals to the true stems",
        f"--data songbook-stems --inpainter {DEMO / 'inpainter.pt'}",
    ),
    "mels": (
        "vocals without words, gaps and continuations by the inpainter on mels",
        "--data songbook-stems --mel-inpainter mel",
    ),
    "wordless": (
        "accompaniments alone, gaps and continuations without words, by the whole chain",
        "--data songbook-stems",
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
CHOSEN = {  # command: the option whose step --step picks
    "song": "--checkpoint",
    "speech": "--checkpoint",
    "inpainting": "--inpainter",
    "mels": "--mel-inpainter",
    "wordless": "--checkpoint",
    "transcriber": "--transcriber",
}
REFERENCE = "a run's name, its folder or a file; of step N: RUN@N"


def evaluation_parser() -> argparse.ArgumentParser:
    """Build the command line; nothing slow is imported for it."""
    parser = command_line(__doc__)
    moved = ", ".join(f"{name} ({script}.py)" for name, (script, _) in MOVED.items())
    commands = subcommands(parser, "evaluate.py", COMMANDS, help=f"moved: {moved}")
    for name, command in commands.items():
        if name not in ("folder", "phonemes"):
            corpus_options(command)
        if name not in ("folder", "phonemes", "transcriber"):
            option(command, "--seed", 0, "of the rendering; item i has seed + i", metavar="N")
        if name not in ("folder", "melody"):
            device_option(command)
        if name != "phonemes":
            option(command, "--out", Path("out/evaluation"), "results", metavar="DIR")
    for name in ("song", "speech", "wordless"):
        network_option(commands[name], "transformer", "--checkpoint")
        shipped = None if name == "speech" else SUNG_POSTNET
        network_option(commands[name], "postnet", shipped=shipped)
    for name, flag in CHOSEN.items():
        step_option(commands[name], flag)
    text = "items, song's spread evenly over the split, speech's the first ones; 0: all"
    for name in ("song", "speech"):
        option(commands[name], "--limit", 0, text, metavar="N")
    for name in ("song", "folder"):
        add_judges(commands[name])
    commands["song"].add_argument(
        "--inpainter",
        type=Path,
        metavar="RUN",
        help=f"a row more: the chain with this inpainter, {REFERENCE} (default: without)",
    )
    add_mel_inpainter(commands["song"], "a row more: mels restored by it, ")
    add_mel_inpainter(commands["mels"], "the inpainter on mels that is judged, ", True)
    add_mels(commands["mels"])
    add_wordless(commands["wordless"])
    add_inpainting(commands["inpainting"])
    network_option(commands["transcriber"], "transcriber")
    add_files(commands["folder"], commands["phonemes"])
    lyrics = Path("examples/lyrics.txt")
    option(commands["melody"], "--lyrics", lyrics, "words that are set to music", metavar="FILE")
    return parser


def add_mel_inpainter(parser: argparse.ArgumentParser, text: str, is_judged: bool = False) -> None:
    """Add the inpainter on mels and how it is sampled."""
    parser.add_argument(
        "--mel-inpainter",
        type=Path,
        required=is_judged,
        metavar="RUN",
        help=text + REFERENCE + ("" if is_judged else " (default: without)"),
    )
    parser.add_argument(
        "--set",
        dest="assignments",
        action="append",
        default=[],
        metavar="mel_inpainting.NAME=VALUE",
        help="sample the inpainter on mels otherwise than hyperparams.py says (default: as there)",
    )


def add_mels(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mels`."""
    network_option(parser, "postnet")
    network_option(parser, "transcriber")
    for flag, default, text in (
        ("--windows", 12, "windows with a gap and a continuation; 0: none"),
        ("--songs", 6, "songs whose accompaniment alone gets a vocal; 0: none"),
        ("--seconds", 24, "s of each of these songs"),
        ("--control-windows", 32, "windows of the loss's shuffle control; 0: none"),
    ):
        option(parser, flag, default, text, metavar="N")


def add_wordless(parser: argparse.ArgumentParser) -> None:
    """Add the options of `wordless`."""
    text = f"last stage, {REFERENCE}; none: the draft is the vocal"
    option(parser, "--inpainter", DEMO / "inpainter.pt", text, metavar="RUN|none")
    network_option(parser, "transcriber")
    parser.add_argument(
        "--mel-inpainter",
        type=Path,
        metavar="RUN",
        help=f"sings instead of the transformer, {REFERENCE}; none: there is none (default: "
        f"{MEL_INPAINTER}, if it is there, for what it sings unasked)",
    )
    for flag, default, text in (
        ("--windows", 12, "songs of which a gap and a continuation are sung; 0: none"),
        ("--songs", 8, "songs whose accompaniment alone gets a vocal; 0: none"),
        ("--seconds", 24, "s of each of these songs"),
    ):
        option(parser, flag, default, text, metavar="N")


def add_files(folder: argparse.ArgumentParser, phonemes: argparse.ArgumentParser) -> None:
    """Add the recordings that `folder` and `phonemes` judge."""
    folder.add_argument("rendered", type=Path, metavar="RENDERED", help="folder of recordings")
    folder.add_argument(
        "--references",
        type=Path,
        required=True,
        metavar="DIR",
        help="recordings of the same names; NAME.mid, NAME.txt and NAME.accompaniment.wav beside "
        "them are used",
    )
    phonemes.add_argument("files", nargs="+", type=Path, metavar="FILE", help="vocals alone")
    phonemes.add_argument(
        "--transcriber",
        type=Path,
        metavar="RUN",
        help=f"{REFERENCE} (default: the earlier project's download if it is there, else "
        f"{DEMO / 'transcriber.pt'})",
    )


def add_judges(parser: argparse.ArgumentParser) -> None:
    """Add the options that `song` and `folder` share."""
    parser.add_argument(
        "--transcriber",
        type=Path,
        metavar="RUN",
        help=f"judge of notes and phonemes, {REFERENCE}; none: without (default: "
        f"{DEMO / 'transcriber.pt'} if it is there)",
    )
    parser.add_argument(
        "--report",
        type=int,
        nargs="?",
        const=4,
        default=0,
        metavar="N",
        help="write report.html with N items to hear and see (default: none; without N: 4)",
    )


def add_inpainting(parser: argparse.ArgumentParser) -> None:
    """Add the options of `inpainting`."""
    parser.add_argument("--inpainter", type=Path, required=True, metavar="RUN", help=REFERENCE)
    network_option(parser, "postnet")
    rows = f"ways to make a vocal (default: {' '.join(DEFAULT_ROWS)})"
    parser.add_argument("--rows", nargs="+", metavar="ROW|all", help=rows)
    for flag, default, text in (
        ("--windows", 8, "windows, spread evenly over the split"),
        ("--control-windows", 32, "windows of the loss's shuffle control; 0: none"),
        ("--batch-size", 4, "windows at once"),
    ):
        option(parser, flag, default, text, metavar="N")


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate from the shell; return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in MOVED:
        script, prefix = MOVED[words[0]]
        print(f"evaluate.py {words[0]} is now: python {' '.join((f'{script}.py', *prefix))}")
        return importlib.import_module(script).main([*prefix, *words[1:]])
    arguments = evaluation_parser().parse_args(words)
    if arguments.command in CHOSEN:
        take_step(arguments, CHOSEN[arguments.command])
    # Imported now: --help should not wait for torch.
    module = importlib.import_module(f"evaluation.{arguments.command}")
    evaluate = getattr(module, f"evaluate_{arguments.command}")
    return exit_code("evaluate.py", lambda: evaluate(arguments))


if __name__ == "__main__":
    sys.exit(main())
