"""Forced alignment of a real recording: right words before wrong ones, whatever came before."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from corpora.aligner import ForcedAligner
from text.frontend import Pronouncer
from text.symbols import word_spans
from utils.audio import read_wav

RECORDING = (
    Path(__file__).parents[2].parent / "shared" / "data" / "LJSpeech-1.1" / "wavs/LJ001-0002.wav"
)
RATE = 16000
RIGHT, WRONG = "in being comparatively modern.", "an evening with the old postman."


@pytest.fixture(scope="module")
def aligner() -> ForcedAligner:
    pytest.importorskip("pocketsphinx")
    return ForcedAligner()


@pytest.fixture(scope="module")
def wav() -> Tensor:
    if not RECORDING.is_file():
        pytest.skip("no recordings of LJ Speech beside the project")
    return read_wav(RECORDING, RATE)[0]


def symbols(text: str) -> tuple[str, ...]:
    return Pronouncer().pronounce(text).symbols


def test_the_right_words_fit_better_and_have_times(aligner: ForcedAligner, wav: Tensor) -> None:
    right = aligner.align(wav, RATE, symbols(RIGHT))
    wrong = aligner.score(wav, RATE, symbols(WRONG))
    assert right is not None and (wrong is None or wrong < right.score)
    phonemes = {k for first, last in word_spans(symbols(RIGHT)) for k in range(first, last + 1)}
    assert {k for k, span in enumerate(right.times) if span} == phonemes
    spans = [span for span in right.times if span]
    assert all(a <= b for a, b in spans)
    assert all(left[1] <= right[0] + 1e-6 for left, right in pairwise(spans))
    assert spans[-1][1] <= len(wav) / RATE


def test_a_score_does_not_depend_on_what_was_heard_before(
    aligner: ForcedAligner, wav: Tensor
) -> None:
    first = aligner.score(wav, RATE, symbols(RIGHT))
    aligner.score(torch.randn(RATE, generator=torch.Generator().manual_seed(0)) * 0.1, RATE, ["M"])
    aligner.align(wav, RATE, symbols(WRONG))
    assert (
        aligner.score(wav, RATE, symbols(RIGHT))
        == first
        == ForcedAligner().score(wav, RATE, symbols(RIGHT))
    )


def test_a_shift_moves_the_times(aligner: ForcedAligner, wav: Tensor) -> None:
    hush = 1e-3 * torch.randn(RATE // 2, generator=torch.Generator().manual_seed(0))
    later = torch.cat([hush, wav])
    a, b = (aligner.align(x, RATE, symbols(RIGHT)) for x in (wav, later))
    assert a is not None and b is not None
    moved = [y[0] - x[0] for x, y in zip(a.times, b.times, strict=True) if x and y]
    assert sorted(moved)[len(moved) // 2] == pytest.approx(0.5, abs=0.03)


def test_what_fits_nothing_is_refused(aligner: ForcedAligner, wav: Tensor) -> None:
    assert aligner.align(wav[: RATE // 4], RATE, symbols(RIGHT * 5)) is None
    assert aligner.align(torch.zeros(0), RATE, symbols(RIGHT)) is None
    assert aligner.score(torch.zeros(400), RATE, symbols(RIGHT)) is None
    with pytest.raises(ValueError, match="without a word"):
        aligner.align(wav, RATE, ["~"])


def test_without_the_package_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(ImportError, match=r"pip install -r requirements-evaluation\.txt"):
        ForcedAligner()
