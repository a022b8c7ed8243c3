"""The scripts without arguments: one line of hyperparams.py is edited, then all follow it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import soundfile
import yaml
from tiny import FILE

ROOT = Path(__file__).resolve().parents[1]
TEXT = "come home now"


def checkout(directory: Path, corpus: Path) -> None:
    """Lay a checkout: rooms are links, scripts copies, hyperparams.py edited as a user would."""
    for path in ROOT.iterdir():
        if path.suffix == ".py":  # of a link, Python would look for modules where it leads
            shutil.copy(path, directory)
        elif path.is_dir() and (path / "__init__.py").exists():
            (directory / path.name).symlink_to(path)
    text = (ROOT / "hyperparams.py").read_text(encoding="utf-8")
    sections = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    sizes = [
        f'"{section}.{name}={str(value).strip("[]")}",'
        for section, knobs in sections.items()
        for name, value in knobs.items()
    ]
    edits = {
        'data_path: str = "LJSpeech-1.1"': f'data_path: str = "{corpus}"',
        'text: str = "the rain is over and the sun comes out again"': f'text: str = "{TEXT}"',
        '"base": (),': f'"base": ({" ".join(sizes)}),',
    }
    for old, new in edits.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    (directory / "hyperparams.py").write_text(text, encoding="utf-8")


def test_one_edited_line_and_five_bare_commands(
    tmp_path: Path, speech_corpus: Callable[..., Path]
) -> None:
    corpus, home = speech_corpus(12), tmp_path / "home"
    home.mkdir()
    checkout(home, corpus)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    printed = {}
    for script in ("prepare_data", "train_transformer", "train_postnet", "synthesis"):
        ran = subprocess.run(
            [sys.executable, f"{script}.py"],
            cwd=home,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, f"{script}: {ran.stdout}\n{ran.stderr}"
        assert "hyperparams.py, section data: " in ran.stdout, script
        printed[script] = ran.stdout
    assert f"prepare_data.py ljspeech {corpus} --name ljspeech" in printed["prepare_data"]
    assert "--data ljspeech --run main" in printed["train_transformer"]
    assert "save/transformer/main" in printed["synthesis"]
    report = json.loads((home / "out" / "report.json").read_text(encoding="utf-8"))
    assert [line["text"] for line in report["lines"]] == [TEXT]
    assert soundfile.info(home / "out" / "lyrics.wav").frames > 0
