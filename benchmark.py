"""Measure what this machine can do and what this repository makes of it: one table in one run.

python benchmark.py                       # all rows, a minute or two on two CPU cores
python benchmark.py --rows decoding       # rows whose name contains a word
python benchmark.py --rows unet --compile # compiled as well, two minutes more
python benchmark.py --device cuda --precision bfloat16 --compile
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from utils import config


def main(argv: Sequence[str] | None = None) -> int:
    """Measure from the shell; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--preset", default="base", help="sizes of the networks (default: %(default)s)"
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)"
    )
    parser.add_argument(
        "--precision",
        default="float32",
        choices=("float32", "bfloat16"),
        help="of the networks (default: %(default)s)",
    )
    parser.add_argument(
        "--rows", default="", metavar="WORD", help="rows whose name has it (default: all)"
    )
    parser.add_argument(
        "--compile", action="store_true", help="U-Nets by torch.compile as well (default: not)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
    options = vars(parser.parse_args(argv))
    try:
        config.preset(options["preset"])
        # Imported now: --help should not wait for torch.
        from evaluation.costs import measure_costs

        measure_costs(**options)
    except ValueError as error:
        print(f"benchmark.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
