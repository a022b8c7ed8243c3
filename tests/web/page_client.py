"""A page served for a test: tiny networks, a real server on loopback, a client with cookies."""

from __future__ import annotations

import http.client
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TINY
from tiny_chain import SHAPED

from singing.request import QUALITIES
from utils import config
from web.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
LYRICS = "come home to me\nthe night is long"


@dataclass
class PageClient:
    """Calls of one browser: what a cookie keeps together."""

    port: int
    cookie: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def raw(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        """Return status, body and headers of a request as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {**self.headers, **{k.replace("_", "-"): v for k, v in headers.items()}}
        if self.cookie:
            sent["Cookie"] = self.cookie
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        answered = {name.lower(): value for name, value in response.getheaders()}
        if "set-cookie" in answered:
            self.cookie = answered["set-cookie"].split(";")[0]
        return response.status, content, answered

    def get(self, path: str) -> Any:
        status, content, _ = self.raw("GET", path)
        assert status == 200, content
        return json.loads(content)

    def post(self, path: str, **fields: Any) -> Any:
        status, content, _ = self.raw("POST", path, json.dumps(fields))
        assert status == 200, content
        return json.loads(content)

    def put(self, path: str, file: Path, name: str | None = None) -> Any:
        status, content, _ = self.raw("PUT", f"{path}?name={name or file.name}", file.read_bytes())
        assert status == 200, content
        return json.loads(content)

    def refused(self, method: str, path: str, body: Any = None) -> str:
        """Return the message of a request that must fail."""
        sent = json.dumps(body) if isinstance(body, dict) else body
        status, content, _ = self.raw(method, path, sent)
        assert status in (400, 403, 404), content
        return json.loads(content)["error"]

    def finished(self, seconds: float = 60.0) -> dict[str, Any]:
        """Wait for the rendering of the session; return its job and takes."""
        for _ in range(int(seconds / 0.05)):
            content = self.get("/api/job")
            if content["job"]["state"] not in ("waiting", "running"):
                return content
            time.sleep(0.05)
        raise AssertionError(content["job"])


@pytest.fixture
def settings(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A server with the tiny networks as those that ship."""
    for name, hyperparams in (("tiny", TINY), ("shaped", SHAPED)):
        monkeypatch.setitem(config.presets(), name, hyperparams)
    quick = ("inpainting.num_steps=1", "inpainting.draft_steps=1", "inpainting.batch_size=32")
    quick += ("synthesis.griffin_lim_iterations=2",)
    monkeypatch.setitem(QUALITIES, "standard", quick)
    monkeypatch.setitem(QUALITIES, "draft", quick)
    demo = tmp_path / "demo"
    demo.mkdir()
    for name, kind in (("singer", "transformer"), ("postnet",) * 2, ("inpainter",) * 2):
        shutil.copy(weights / f"{name}.pt", demo / f"{kind}.pt")
    return Settings(
        folder=tmp_path / "sessions",
        save=tmp_path / "save",
        demo=demo,
        examples=ROOT / "examples",
        device=torch.device("cpu"),
    )


@pytest.fixture
def serve(settings: Settings) -> Iterator[Callable[..., PageClient]]:
    """Start a server; returns a client of it. Further settings are its arguments."""
    pytest.importorskip("starlette", reason="the page needs requirements-web.txt")
    pytest.importorskip("uvicorn", reason="the page needs requirements-web.txt")
    from dataclasses import replace

    from web.run import listen, page_server

    running = []
    threads_before = torch.get_num_threads()
    torch.set_num_threads(1)

    def start(**changes: Any) -> PageClient:
        listener = listen("127.0.0.1", 0)
        server = page_server(replace(settings, **changes))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        running.append((server, thread))
        return PageClient(listener.getsockname()[1])

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(20)
    torch.set_num_threads(threads_before)
