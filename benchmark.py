"""Measure what this machine can do and what this repository makes of it: one table in one run.

    python benchmark.py                       # all rows, a minute or two on two CPU cores
    python benchmark.py --rows decoding       # rows whose name contains a word
    python benchmark.py --rows unet --compile # compiled as well, two minutes more
    python benchmark.py --device cuda --precision bfloat16 --compile
    python benchmark.py --peers               # beside other projects, those that are installed
    python benchmark.py --song 4              # four minutes of song, sung by the weights that ship

Each row stands beside its limit on this machine, measured just before: see training/costs.py. On a
GPU a training step also says what share it reaches of the bfloat16 products measured there, how
often the host waits for the device in it, and the memory at its peak.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from utils import config
from utils.flags import command_line, device_option, exit_code, option


def measure_rows(arguments: argparse.Namespace) -> None:
    """Measure the rows of the command line."""
    config.preset(arguments.preset)  # refuse an unknown name before waiting for torch
    if arguments.song:
        from evaluation.whole_song import song_cost

        print(song_cost(arguments.song, arguments.device, arguments.threads))
        return None
    if arguments.peers:
        from training.peers import measure_peers

        return measure_peers(arguments)
    from training.costs import measure_costs

    return measure_costs(arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure from the shell; return the exit code."""
    parser = command_line(__doc__)
    option(parser, "--preset", "base", "sizes of the networks", metavar="NAME")
    device_option(parser)
    precisions = ("float32", "bfloat16")
    option(parser, "--precision", "float32", "of the networks", choices=precisions)
    option(parser, "--rows", "", "rows whose name has it; none given: all", metavar="WORD")
    option(parser, "--threads", 0, "CPU threads; 0: all cores", metavar="N")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="U-Nets, and on a GPU training steps, compiled as well (default: not)",
    )
    parser.add_argument(
        "--peers",
        action="store_true",
        help="the same work by torchaudio, librosa, SpeechT5 of transformers and ESPnet2, in turn, "
        "one thread (default: not)",
    )
    parser.add_argument(
        "--song",
        type=float,
        metavar="MINUTES",
        help="one run of synthesis.py on the example, repeated to this length, instead of the "
        "rows (default: the rows)",
    )
    arguments = parser.parse_args(argv)
    return exit_code("benchmark.py", lambda: measure_rows(arguments))


if __name__ == "__main__":
    sys.exit(main())
