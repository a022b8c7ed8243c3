"""--help of every script: quick, because nothing slow is imported for it, and with an example."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

resource = pytest.importorskip("resource", reason="processor time of a child: POSIX only")

ROOT = Path(__file__).resolve().parents[1]
MOST_SECONDS = 1.0  # of processor time; importing torch alone takes more
SCRIPTS = sorted(
    path.name
    for path in ROOT.glob("*.py")
    if any(isinstance(node, ast.If) for node in ast.parse(path.read_text(encoding="utf-8")).body)
    and '__name__ == "__main__"' in path.read_text(encoding="utf-8")
)


def run(script: str, flag: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run a script and measure its processor time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ran = subprocess.run([sys.executable, script, flag], cwd=ROOT, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ran, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_all_scripts_are_looked_at() -> None:
    assert {"synthesis.py", "prepare_data.py", "evaluate.py", "benchmark.py"} <= set(SCRIPTS)
    assert len([name for name in SCRIPTS if name.startswith("train_")]) == 4


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_quick_and_shows_an_example(script: str) -> None:
    ran, seconds = run(script, "--help")
    assert ran.returncode == 0, ran.stderr
    assert f"    python {script}" in ran.stdout
    assert "options:" in ran.stdout
    assert seconds < MOST_SECONDS


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_wrong_flag_is_answered_as_quickly(script: str) -> None:
    ran, seconds = run(script, "--no-such-flag")
    assert ran.returncode == 2
    assert "usage:" in ran.stderr and script in ran.stderr
    assert seconds < MOST_SECONDS
