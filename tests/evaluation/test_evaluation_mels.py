"""The inpainter on mels judged: at a phrase's place, in the table of songs, without words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import FILE, TINY
from tiny_chain import save
from torch import Tensor

import evaluate
from evaluation.mels import PART_ROWS, SONG_ROWS, part_tests, pitch_jump
from evaluation.phrase_inpainter import (
    PhraseInpainter,
    PhrasePlace,
    PhraseRestorer,
    open_mel_inpainter,
)
from evaluation.song import rate_of
from singing.mels import MelInpainter
from text.symbols import SYMBOLS
from transcription.transcribe import build_transcriber
from utils import config
from utils.loading import build_unet, load_network

HP = config.build("mel", FILE, (), config.presets())
BANDS, RATE = HP.audio.n_mels, HP.audio.sample_rate


@pytest.fixture(scope="module")
def mel_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny inpainter on mels with random weights."""
    path = tmp_path_factory.mktemp("mels") / "mel.pt"
    torch.manual_seed(0)
    network = build_unet(HP, len(SYMBOLS))
    for parameter in network.parameters():
        if not parameter.detach().any():
            torch.nn.init.normal_(parameter, std=0.1)
    statistics = {
        name: {"mean": [-5.0] * BANDS, "std": [2.0] * BANDS}
        for name in ("mel", "accompaniment_mel")
    }
    statistics |= {"vocal": 0.1, "accompaniment": 0.1}
    parts = ["mel", "phoneme", "pitch", "voicing"]
    save(path, "inpainter", network, HP, statistics=statistics, context=parts)
    return path


class Stems:
    """One take, "a@0"; keeps what was read."""

    def __init__(self) -> None:
        self.directory, self.index = Path("stems"), {"items": [{"id": "a@0"}]}

    def window(self, id: str, start: int, length: int) -> Tensor:
        self.read = (id, start, length)
        return 0.1 * torch.randn(2, length, generator=torch.Generator().manual_seed(start))


def test_a_phrase_is_restored_at_its_place(mel_weights: Path) -> None:
    score = {"pitch": [60], "onset": [0.0], "offset": [0.8], "notes": [[0.0, 0.8, 60]]}
    item = {"id": "a@0.001", "symbols": ["IY1"], "score": score}
    loaded = load_network(mel_weights, "inpainter", torch.device("cpu"))
    places, stems = {"a@0.001": PhrasePlace("a@0", 1.5)}, Stems()
    phrases = PhraseInpainter(loaded, stems, places, [item], 0)
    restorer = PhraseRestorer(MelInpainter(loaded), phrases)
    draft = torch.full((40, BANDS), -3.0)
    made = restorer("a@0.001", draft)
    assert made.shape == draft.shape and not torch.allclose(made, draft)
    assert stems.read == ("a@0", round(1.5 * RATE), 40 * HP.audio.hop_length)
    short = restorer("a@0.001", draft[:9])
    frames = HP.inpainter_training.segment_frames
    assert len(short) == 9 and stems.read[2] == frames * HP.audio.hop_length  # the song goes on
    assert torch.equal(made, restorer("a@0.001", draft))
    phrases.places = {"a@0.001": PhrasePlace("a@0", 2.5)}  # another accompaniment
    assert not torch.equal(made, restorer("a@0.001", draft))


def test_it_is_sampled_as_the_command_line_says(mel_weights: Path) -> None:
    changes = ["mel_inpainting.draft_steps=3"]
    flags = SimpleNamespace(mel_inpainter=mel_weights, assignments=changes)
    mels = open_mel_inpainter(flags, torch.device("cpu"))
    assert mels.config.draft_steps == 3
    expected = replace(config.preset("base").mel_inpainting, draft_steps=3)
    assert mels.config == expected  # today's values, not those it was saved with
    flags.assignments = ["inpainting.num_steps=3"]
    with pytest.raises(ValueError, match=r"mel_inpainting\.NAME"):
        open_mel_inpainter(flags, torch.device("cpu"))


def test_pitch_jumps_are_semitones_between_voiced_frames() -> None:
    f0 = np.array([0, 220.0, 220, 220, 0, 0, 440, 440, 440, 0])
    assert pitch_jump(f0, 5, 5) == pytest.approx(12.0)
    assert pitch_jump(f0, 5, 1) is None
    assert pitch_jump(f0[:5], 5, 5) is None


def test_floors_are_tested_against_what_is_made() -> None:
    rows = [{"alone": 1.0 + 0.01 * n, "line": 2.0, "silence": 3.0} for n in range(8)]
    records = [
        {"song": str(n), "rows": {row: {"distance": d} for row, d in made.items()}}
        for n, made in enumerate(rows)
    ]
    tests = part_tests(records)
    assert set(tests) == {"mel distance, line - alone", "mel distance, silence - alone"}
    assert tests["mel distance, line - alone"].difference.value == pytest.approx(0.965)
    assert tests["mel distance, line - alone"].p_value < 0.05


def test_rates_of_metrics() -> None:
    row: dict[str, Any] = {"word_errors": [1, 4], "lsd": 5.0, "none": None, "empty": [0, 0]}
    assert rate_of(row, "word_errors") == 0.25 and rate_of(row, "lsd") == 5.0
    assert all(np.isnan(rate_of(row, name)) for name in ("none", "empty", "missing"))


@pytest.fixture
def feature_dir(songs_on_the_example: Callable[..., Path]) -> Path:
    """Three songs of 6 s on parts of the example's accompaniment, prepared as corpus `x`."""
    return songs_on_the_example(3, 6, 4)


def test_what_it_sings_without_words_is_measured(
    mel_weights: Path, weights: Path, feature_dir: Path, tmp_path: Path, capsys: Any
) -> None:
    torch.manual_seed(0)
    save(tmp_path / "transcriber.pt", "transcriber", build_transcriber(TINY), TINY)
    flags = ["mels", "--data", "x", "--split", "train", "--feature-dir", str(feature_dir)]
    flags += ["--mel-inpainter", str(mel_weights), "--postnet", str(weights / "postnet.pt")]
    flags += ["--transcriber", str(tmp_path / "transcriber.pt"), "--device", "cpu"]
    flags += ["--set", "mel_inpainting.num_steps=1", "--set", "mel_inpainting.overlap=0"]
    flags += ["--windows", "2", "--songs", "2", "--seconds", "6", "--control-windows", "4"]
    flags += ["--out", str(tmp_path / "out")]
    assert evaluate.main(flags) == 0
    shown = capsys.readouterr().out
    result = json.loads((tmp_path / "out" / "mels.json").read_text())
    parts = result["parts"]["gap"]["metrics"]["distance"]
    assert set(parts) == {*PART_ROWS} - {"told"}  # the songs have no scores
    assert parts["true"]["value"]["value"] == 0 < parts["alone"]["value"]["value"]
    assert "mel distance, silence - alone" in result["parts"]["continuation"]["tests"]
    assert {row for song in result["songs"]["songs"] for row in song["rows"]} == set(SONG_ROWS)
    rows = result["songs"]["songs"][0]["rows"]
    assert all(0 <= row["voiced"] <= 1 and 0 <= row["singing"] <= 1 for row in rows.values())
    assert "shuffle control of the loss" in shown and "2 accompaniments alone, 6 s each" in shown
    assert set(result["shuffle_control"]) == {"alone"}
    before = (tmp_path / "out" / "mels.json").read_bytes()
    assert evaluate.main(flags) == 0  # everything is in the journals
    assert (tmp_path / "out" / "mels.json").read_bytes() == before
