"""A page to try it: lyrics and a track in, plan, sing, sing that bar again.

    python app.py                  # http://127.0.0.1:7860, the weights of save/demo
    python app.py --port 8000 --device cuda

Needs requirements-web.txt (`make web` installs it). Sessions lie below out/web and are swept when
they were not used for a day; one rendering runs at a time. The page is served to this machine
alone; --host opens it to others:

    python app.py --host 0.0.0.0 --allow-host studio.local

There is no password and no encryption then: whoever reaches the port can use this machine's
processor and disk within the bounds of web/settings.py.
"""

from __future__ import annotations

import argparse
import ipaddress
import sys
from collections.abc import Sequence
from pathlib import Path

from utils.flags import SAVE, command_line, device_option, exit_code, option

LOOPBACK = "127.0.0.1"


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_line(__doc__)
    option(parser, "--port", 7860, "of the page; 0 takes a free one", metavar="N")
    option(
        parser,
        "--host",
        LOOPBACK,
        "address to listen on; any but loopback lets other machines use the page, without "
        "password or encryption",
        metavar="ADDRESS",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name that the page is called by, such as studio.local",
    )
    option(parser, "--out", Path("out/web"), "folder of the sessions", metavar="DIR")
    option(parser, "--save", SAVE, "folder of the runs that can be chosen", metavar="DIR")
    option(parser, "--longest", 600, "s, of an accompaniment", metavar="SECONDS")
    device_option(parser)
    return parser.parse_args(argv)


def is_loopback(host: str) -> bool:
    """Tell whether an address is reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve_page(arguments: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C."""
    try:
        from web import run
    except ModuleNotFoundError as error:
        if error.name not in ("uvicorn", "starlette"):
            raise
        raise ImportError(
            f"{error.name} is not installed; the page needs: pip install -r requirements-web.txt "
            "(make web does it)"
        ) from error
    from utils.flags import start_on
    from web.settings import Settings

    opened = not is_loopback(arguments.host)
    settings = Settings(
        folder=arguments.out,
        save=arguments.save,
        device=start_on(arguments.device),
        song_seconds=arguments.longest,
        hosts=tuple(name.lower() for name in arguments.allow_host),
        any_address=opened,
    )
    if opened:
        print(
            f"--host {arguments.host}: every machine that reaches this one can use the page; there "
            "is no password and no encryption"
        )
    run.serve(settings, arguments.host, arguments.port)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve from the shell; return the exit code."""
    arguments = parse_arguments(argv)
    return exit_code("app.py", lambda: serve_page(arguments))


if __name__ == "__main__":
    sys.exit(main())
