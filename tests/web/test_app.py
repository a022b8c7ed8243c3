"""python app.py: its address, its warnings, its errors."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import app

ROOT = Path(__file__).resolve().parents[2]


def test_other_machines_need_a_flag() -> None:
    assert app.parse_arguments([]).host == "127.0.0.1"
    for host in ("127.0.0.1", "localhost", "::1", "127.8.8.8"):
        assert app.is_loopback(host)
    for host in ("0.0.0.0", "::", "192.168.1.5", "studio.local", ""):
        assert not app.is_loopback(host)


def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [*(n for n in sys.modules if n.startswith("web.")), "web.run"]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert app.main([]) == 2
    assert "pip install -r requirements-web.txt" in capsys.readouterr().err


def test_it_serves_until_it_is_stopped(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn", reason="the page needs requirements-web.txt")
    pytest.importorskip("starlette", reason="the page needs requirements-web.txt")
    command = [sys.executable, "app.py", "--out", str(tmp_path), "--host", "0.0.0.0", "--port", "0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as page:
        assert page.stdout is not None
        try:
            assert "no password and no encryption" in page.stdout.readline()
            port = int(re.findall(r":(\d+)", page.stdout.readline())[0])
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
                assert b"<title>ToplAIner" in answer.read()
            # A second one on the same port says what to do.
            second = [*command[:-3], "127.0.0.1", "--port", str(port)]
            ran = subprocess.run(
                second, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
            )
            assert ran.returncode == 2 and "take another one with --port" in ran.stderr
        finally:
            page.send_signal(signal.SIGINT)
            page.wait(30)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
