"""Who may call the server: the page itself, by the names that it has, and nobody else's page."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from web.settings import Settings

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
HEADERS = {
    # Scripts, styles, sounds and requests of this server alone; decoded sounds are blobs.
    "content-security-policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' "
    "blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def host_name(host: str) -> str:
    """Return the name in a Host header or an origin, without its port, in lower case."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def is_allowed(host: str, settings: Settings) -> bool:
    """Tell whether the page may be called by this Host header.

    A foreign name that is made to point here (DNS rebinding) is not allowed; loopback names and
    addresses are, others where `settings` has them, any address where it says so.
    """
    name = host_name(host)
    if name == "localhost" or name in settings.hosts:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return settings.any_address or address.is_loopback


class Guard:
    """Refuse foreign hosts and origins; give every answer the headers of HEADERS."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 403."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        fault = self.fault(scope["method"], Headers(scope=scope))
        app = self.app if fault is None else JSONResponse({"error": fault}, 403)
        await app(scope, receive, send_with_headers)

    def fault(self, method: str, headers: Mapping[str, str]) -> str | None:
        """Say why a request is refused; None where it is not."""
        host = headers.get("host", "")
        if not is_allowed(host, self.settings):
            return (
                f"this page is not called {host_name(host) or 'so'}: open it as localhost, or "
                "start it with --allow-host NAME"
            )
        if method in SAFE_METHODS:
            return None
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return "this request comes from another page"
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return "this request comes from another page"
        return None
