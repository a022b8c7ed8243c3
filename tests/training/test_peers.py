"""Comparisons with other projects: the same work on both sides, absent packages named."""

from __future__ import annotations

import math
import time
from importlib.util import find_spec

import pytest
import torch
from tiny import TINY

from training import costs, peers

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "SPOKEN", 0.3)


def test_absent_packages_are_named_and_present_ones_compared(monkeypatch) -> None:
    pytest.importorskip("torchaudio", reason="torchaudio is not installed: nothing to compare with")
    monkeypatch.setattr(peers, "find_spec", lambda name: True if name == "torchaudio" else None)
    lines = list(peers.peer_lines(TINY, CPU, "features", pairs=1))
    compared, skipped = lines[2:]
    assert compared.startswith("features") and "torchaudio" in compared
    assert "librosa" in skipped and "skipped: not installed" in skipped
    everything = list(peers.peer_lines(TINY, CPU, "no such work", pairs=1))
    assert len(everything) == 2  # the head alone


def test_both_sides_do_the_same_work() -> None:
    pytest.importorskip("torchaudio", reason="torchaudio is not installed: nothing to compare with")
    mel, linear = peers.our_features(TINY, CPU).run()
    their_mel, their_linear = peers.torchaudio_features(TINY, CPU).run()
    inside = slice(4, -4)  # they reflect the signal at its ends, we pad zeros
    for a, b in ((mel, their_mel), (linear, their_linear)):
        error = (a - b.transpose(1, 2))[:, inside].abs()
        assert float(error.mean()) < 1e-3
    sides = peers.our_griffin_lim(TINY, CPU), peers.torchaudio_griffin_lim(TINY, CPU)
    ours, theirs = (float(side.note.split()[0]) for side in sides)
    assert ours == pytest.approx(theirs, abs=4.0) and ours < -15


def test_ratios_are_those_of_the_works() -> None:
    def busy(seconds: float) -> None:
        until = time.process_time() + seconds
        while time.process_time() < until:
            math.sqrt(2.0)

    first, second = peers.alternated(lambda: busy(0.01), lambda: busy(0.03), CPU, 3)
    assert len(first) == len(second) == 3
    assert sorted(second)[1] / sorted(first)[1] == pytest.approx(3.0, rel=0.3)


def test_a_network_without_a_history_is_compared_with_fastspeech2(monkeypatch) -> None:
    monkeypatch.setattr(peers, "BATCH", 2)
    monkeypatch.setattr(peers, "FRAMES", 40)
    monkeypatch.setattr(peers, "SYMBOLS_READ", 6)
    lines = list(peers.peer_lines(TINY, CPU, "at once", pairs=1))[2:]
    expected = (
        ("FastSpeech2Conformer", "transformers"),
        ("ESPnet2 FastSpeech2", "espnet2"),
        ("own postnet", "espnet2"),
        ("ESPnet2 FastSpeech2", "espnet2"),  # a bucket of several lengths
    )
    for line, (name, package) in zip(lines, expected, strict=True):
        assert name in line
        assert ("skipped: not installed" if find_spec(package) is None else "M parameters") in line


def test_a_bucket_has_whole_steps_of_several_lengths() -> None:
    _, _, mel, lengths = peers.training_inputs(9, TINY, CPU, peers.SHORTEST)
    assert mel.shape[:2] == (peers.BATCH, peers.FRAMES) and int(lengths.max()) <= peers.FRAMES
    assert len(lengths.unique()) > peers.BATCH // 2
    assert not (lengths % TINY.transformer.reduction_factor).any()
    assert 0.89 < float(lengths.sum()) / mel[..., 0].numel() < 0.93
    assert peers.our_training(TINY, CPU, peers.SHORTEST).run() is None
