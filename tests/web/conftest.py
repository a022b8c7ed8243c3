"""The fixtures of page_client, for every test of the page."""

from __future__ import annotations

from page_client import serve, settings

__all__ = ["serve", "settings"]
