"""The chain without words judged on the files that it writes, by tiny networks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import TINY
from tiny_chain import save

import evaluate
from evaluation import wordless
from evaluation.naturalness import DNSMOS
from evaluation.wordless import FLOORS, PART_ROWS, Excerpt, ExcerptJudge
from singing.request import NONE
from transcription.transcribe import build_transcriber


@pytest.fixture
def songs(songs_on_the_example: Callable[..., Path]) -> Path:
    """Two songs of 8 s on parts of the example's accompaniment, prepared as corpus `x`."""
    return songs_on_the_example(2, 8, 6)


@pytest.fixture
def judged(weights: Path, songs: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """evaluate.py wordless with tiny networks: its JSON."""
    torch.manual_seed(0)
    save(tmp_path / "transcriber.pt", "transcriber", build_transcriber(TINY), TINY)

    def call(*flags: str) -> dict[str, Any]:
        common = ["wordless", "--data", "x", "--split", "train", "--feature-dir", str(songs)]
        for flag, name in (("checkpoint", "singer"), ("postnet", "postnet")):
            common += [f"--{flag}", str(weights / f"{name}.pt")]
        common += ["--inpainter", "none"]
        if "--mel-inpainter" not in flags:
            common += ["--mel-inpainter", "none"]
        common += ["--transcriber", str(tmp_path / "transcriber.pt"), "--device", "cpu"]
        assert evaluate.main([*common, "--out", str(tmp_path / "out"), *flags]) == 0
        return json.loads((tmp_path / "out" / "wordless.json").read_text())

    return call


@pytest.mark.usefixtures("no_picture")
def test_accompaniments_alone_are_sung_and_heard(
    judged: Callable[..., Any], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(self: DNSMOS) -> None:
        raise ImportError("DNSMOS needs speechmos: pip install -r requirements-evaluation.txt")

    monkeypatch.setattr(DNSMOS, "__init__", absent)
    flags = ("--windows", "0", "--songs", "2", "--seconds", "8")
    result = judged(*flags)
    shown = capsys.readouterr().out
    assert "2 accompaniments alone, 8 s each" in shown
    assert "not measured: DNSMOS needs speechmos" in shown
    records = result["songs"]["songs"]
    assert all(set(record["rows"]) == {"chain", "true"} for record in records)
    assert all(0 <= row["voiced"] <= 1 for record in records for row in record["rows"].values())
    assert "voiced share, chain - true" in result["songs"]["tests"]
    before = (tmp_path / "out" / "wordless.json").read_bytes()
    judged(*flags)  # everything is in the journals
    assert (tmp_path / "out" / "wordless.json").read_bytes() == before


@pytest.mark.usefixtures("no_picture")
def test_parts_of_takes_are_measured_beside_floors(
    judged: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(wordless, "BEFORE", 2.0)
    monkeypatch.setattr(wordless, "BEHIND", 1.0)
    monkeypatch.setattr(ExcerptJudge, "_place", lambda self, item: 2.0)  # no scores, no notes
    result = judged("--windows", "2", "--songs", "0")["parts"]
    for kind, rows in PART_ROWS.items():
        own = [row for row in rows if row != "own"]  # there is no inpainter on mels
        distances = result[kind]["metrics"]["distance"]
        found = {row: kinds["value"]["value"] for row, kinds in distances.items()}
        assert set(found) == {*own, *FLOORS, "true"}
        assert found["other"] < found["silence"] and found["line"] > 0  # the tones are alike
        assert f"mel distance, silence - {next(iter(own))}" in result[kind]["tests"]
    assert "gaps in 2 songs" in capsys.readouterr().out


@pytest.mark.parametrize("finds_notes", [True, False])
def test_an_inpainter_on_mels_goes_on_beside_what_is_composed(finds_notes: bool) -> None:
    judge = ExcerptJudge.__new__(ExcerptJudge)
    judge.chain = SimpleNamespace(
        rate=100, finds_notes=finds_notes, sing=lambda backing, take, **asked: (len(take), asked)
    )
    excerpt = Excerpt("song", torch.zeros(900), torch.zeros(900), 200)
    made = judge.made("continuation", excerpt, 200, 500)
    assert made.pop("missing") == (200, {"extend": 3.0})
    own = {"own": (200, {"extend": 3.0, "melody": NONE})}
    assert made == (own if finds_notes else {})


def test_lines_between_edges_and_behind_an_end() -> None:
    mel = torch.arange(6.0)[:, None].expand(-1, 3).clone()
    mel[2:4] = 99.0
    between = ExcerptJudge.line(mel, 2, 4, "gap")
    torch.testing.assert_close(between[:, 0], torch.arange(6.0))
    behind = ExcerptJudge.line(mel, 2, 4, "continuation")
    assert behind[:, 0].tolist() == [0, 1, 1, 1, 4, 5]
