"""The command line of the training scripts; nothing slow is imported for it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from utils import config
from utils.flags import command_line

AddFlags = Callable[[argparse.ArgumentParser], None]


def run_parser(description: str, add_flags: AddFlags | None = None) -> argparse.ArgumentParser:
    """Build the command line of a training script.

    description: the script's docstring, of which `--help` shows the first two paragraphs.
    add_flags: adds what only this script has.
    """
    parser = command_line("\n\n".join(description.split("\n\n")[:2]))
    config.add_run_arguments(parser, config.presets())
    if add_flags is not None:
        add_flags(parser)
    return parser


def answer_early(description: str | None, add_flags: AddFlags | None = None) -> None:
    """Answer --help and wrong flags of this process' command line, which end it, as `train` does.

    A script calls it before torch is loaded.
    """
    run_parser(description or "", add_flags).parse_args(sys.argv[1:])
