"""Requests of songs: refused before any network is loaded; the shell answers before torch is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import synthesis
from hyperparams import Hyperparams
from singing.request import MelodyRequest, SongFiles, SongRequest, parse_pitch_range
from text.lyrics import parse_lyrics

ROOT = Path(__file__).resolve().parents[2]
NOWHERE: dict[str, Any] = {
    "out": Path("out"),
    "transformer": Path("nowhere.pt"),
    "postnet": Path("nowhere.pt"),
}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "nothing to do"),
        ({"melody": MelodyRequest("compose")}, "nothing to do"),
        ({"lyrics": parse_lyrics("oh"), "changes": ("unet.width=3",)}, "keeps the values"),
    ],
)
def test_impossible_requests_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SongRequest(**NOWHERE, **fields)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"inpaint": "1-2"}, "give it with --vocal"),
        ({"extend": 2.0}, "give it with --vocal"),
        ({"vocal": Path("v.wav")}, "leaves nothing to make"),
        ({"vocal": Path("v.wav"), "extend": float("nan")}, "seconds above 0"),
    ],
)
def test_parts_of_a_vocal_need_it(parts: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SongFiles(Path("a.wav"), **parts)


def test_changes_reach_their_sections_and_the_later_wins() -> None:
    changes = ("inpainting.num_steps=3", "composer.density=2", "inpainting.num_steps=5")
    request = SongRequest(**NOWHERE, lyrics=parse_lyrics("oh"), changes=changes)
    changed = request.changed(Hyperparams())
    assert changed.inpainting.num_steps == 5 and changed.composer.density == 2
    assert changed.synthesis == Hyperparams().synthesis


def test_flags_become_a_request() -> None:
    flags = "--lyrics oh --accompaniment a.wav --vocal v.wav --inpaint 1-2 --range A3-A4"
    flags += " --transpose -2 --tempo --quality draft --steps 9 --inpainter none --seed 7"
    request = synthesis.request_from(synthesis.parse_arguments(flags.split()))
    assert request.files == SongFiles(Path("a.wav"), Path("v.wav"), "1-2")
    assert request.melody == MelodyRequest(None, -2, "auto", (57, 69))
    assert request.seed == 7 and request.inpainter is None and request.has_words
    assert request.changed(Hyperparams()).inpainting.num_steps == 9
    spoken = synthesis.request_from(synthesis.parse_arguments(["--lyrics", "oh"]))
    assert spoken.files is None and not spoken.melody.is_file


def test_pitch_ranges() -> None:
    assert parse_pitch_range("F3-C5") == (53, 72) and parse_pitch_range("53 - 72") == (53, 72)
    assert parse_pitch_range("Bb2-f#4") == (46, 66) and parse_pitch_range("C-1-B0") == (0, 23)
    for text in ("C5", "H3-C4", "", "C3-"):
        with pytest.raises(ValueError, match="two notes"):
            parse_pitch_range(text)


def test_the_shell_answers_before_the_libraries_are_loaded() -> None:
    code = (
        "import sys, synthesis\n"
        "try:\n    synthesis.main(['--help'])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "slow = {'torch', 'librosa', 'matplotlib', 'scipy', 'numba'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "--accompaniment" in result.stdout
