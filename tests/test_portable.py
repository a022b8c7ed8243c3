"""Nothing that only POSIX systems have stands in the way of importing and running the scripts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from training import runlog

ROOT = Path(__file__).resolve().parents[1]
POSIX_ONLY = ("fcntl", "resource", "termios", "pwd", "grp")
# Blocks the modules for the project's own files alone: libraries have their own ways.
PROGRAM = """
import builtins, sys
from pathlib import Path
root, blocked, original = Path.cwd(), set({blocked!r}), builtins.__import__
def guarded(name, namespace=None, *rest):
    own = (namespace or {{}}).get("__file__", "")
    if name.split(".")[0] in blocked and Path(own or "/").is_relative_to(root):
        raise ImportError(f"{{own}} imports {{name}}")
    return original(name, namespace, *rest)
builtins.__import__ = guarded
sys.path.insert(0, str(root))
for script in {scripts!r}:
    __import__(script)
"""


def test_scripts_can_be_imported_without_posix_modules() -> None:
    scripts = [path.stem for path in sorted(ROOT.glob("*.py"))]
    assert "train_transformer" in scripts and "synthesis" in scripts
    program = PROGRAM.format(blocked=POSIX_ONLY, scripts=scripts)
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=300)


def test_memory_and_lock_do_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is then unknown; the lock is that of Windows, here a stand-in that counts."""
    calls: list[tuple[int, int]] = []

    class Msvcrt:
        LK_NBLCK = 2

        @staticmethod
        def locking(descriptor: int, mode: int, count: int) -> None:
            if calls:
                raise OSError("another process has it")
            calls.append((mode, count))

    for name in ("fcntl", "resource"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "msvcrt", Msvcrt)
    assert runlog.peak_memory(torch.device("cpu")) != runlog.peak_memory(torch.device("cpu"))
    lock = runlog.RunLock(tmp_path)
    with pytest.raises(ValueError, match="being trained by another process"):
        runlog.RunLock(tmp_path)
    lock.release()
    assert calls == [(2, 1)]
