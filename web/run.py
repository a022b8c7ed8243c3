"""Listen on a socket and serve the page until Ctrl-C."""

from __future__ import annotations

import errno
import socket
from typing import Any

import uvicorn

from web.server import Server
from web.settings import Settings


class PageServer(uvicorn.Server):
    """Say where the page is once it can be opened."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then print the address."""
        await super().startup(sockets)
        for listener in sockets or ():
            host, port = listener.getsockname()[:2]
            name = f"[{host}]" if ":" in host else host
            print(f"http://{name}:{port}  (Ctrl-C ends it)", flush=True)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; OSError says what to do about a port in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise OSError(
                f"port {port} of {host} is in use: take another one with --port"
            ) from None
        raise OSError(f"--host {host} --port {port}: {error.strerror or error}") from None


def page_server(settings: Settings, **config: Any) -> PageServer:
    """Return the server of the page, to be run on a socket."""
    return PageServer(
        uvicorn.Config(
            Server(settings).app(),
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=100,
            timeout_graceful_shutdown=5,
            **config,
        )
    )


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve the page."""
    listener = listen(host, port)
    page_server(settings).run(sockets=[listener])
