"""The inpainter behind the chain: a phrase is sung anew where it stands in its song."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import TINY
from torch import Tensor

from evaluation import phrase_inpainter
from evaluation.phrase_inpainter import PhraseInpainter, PhrasePlace
from text.symbols import SYMBOLS
from utils.audio import active_level
from utils.loading import Loaded, build_unet

HP = TINY
RATE = HP.audio.sample_rate
SCORE = {
    "pitch": [60, 60],
    "onset": [0.0, 0.3],
    "offset": [0.3, 0.8],
    "notes": [[0.0, 0.8, 60]],
}
ITEM = {"id": "a@0.001", "symbols": ["S", "IY1"], "score": SCORE}
SONG = torch.stack([torch.zeros(4 * RATE), 0.1 * torch.sin(torch.arange(4 * RATE) * 0.05)])


class Stems:
    """One take, "a@0"; keeps what was read."""

    def __init__(self) -> None:
        self.directory, self.index = Path("stems"), {"items": [{"id": "a@0"}]}

    def window(self, id: str, start: int, length: int) -> Tensor:
        self.read = (id, start, length)
        return SONG[:, start : start + length]


def loaded() -> Loaded:
    torch.manual_seed(0)
    statistics = {
        "vocal": 0.09,
        "mel": {"mean": [0.0] * HP.audio.n_mels, "std": [1.0] * HP.audio.n_mels},
    }
    data = {
        "symbols": list(SYMBOLS),
        "statistics": statistics,
        "context": ["mel", "phoneme", "pitch", "voicing", "wav"],
    }
    return Loaded(build_unet(HP, len(SYMBOLS)).eval(), HP, data, Path("none"), 0)


def test_a_phrase_is_sung_at_its_place_and_level(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict = {}
    inpaint_ranges = phrase_inpainter.inpaint_ranges

    def recorded(*arguments: object, **options: object) -> SimpleNamespace:
        seen["accompaniment"], seen["condition"] = arguments[2], arguments[6]
        return inpaint_ranges(*arguments, **options)

    monkeypatch.setattr(phrase_inpainter, "inpaint_ranges", recorded)
    stems = Stems()
    stage = PhraseInpainter(loaded(), stems, {"a@0.001": PhrasePlace("a@0", 1.5)}, [ITEM], 0)
    draft = 0.02 * torch.sin(torch.arange(RATE) * 0.1)
    sung = stage("a@0.001", draft)
    assert stems.read == ("a@0", round(1.5 * RATE), RATE)
    assert torch.equal(seen["accompaniment"], SONG[1, round(1.5 * RATE) : round(2.5 * RATE)])
    hop = HP.audio.hop_length
    assert active_level(seen["condition"].wav, hop) == pytest.approx(-20.9, abs=0.1)
    assert seen["condition"].pitch.tolist()[:4] == [60] * 4 and seen["condition"].pitch[-1] == 0
    assert sung.shape == draft.shape
    assert active_level(sung, hop) == pytest.approx(active_level(draft, hop), abs=0.01)
    assert torch.equal(sung, stage("a@0.001", draft))
    assert torch.equal(stage("a@0.001", torch.zeros(100)), torch.zeros(100))
    assert stage.recording("a@0.001", 5 * RATE).shape == (5 * RATE,)  # silence behind its end


def test_other_symbols_and_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"a@0.001": PhrasePlace("a@0", 1.5)}
    other = loaded()
    other.data["symbols"] = other.data["symbols"][:5]
    with pytest.raises(ValueError, match=r"none does not know the symbols .*train it again"):
        PhraseInpainter(other, Stems(), places, [ITEM], 0)
    silent = SimpleNamespace(vocal=torch.zeros(RATE))
    monkeypatch.setattr(phrase_inpainter, "inpaint_ranges", lambda *_, **__: silent)
    sung = PhraseInpainter(loaded(), Stems(), places, [ITEM], 0)("a@0.001", torch.randn(RATE))
    assert torch.equal(sung, silent.vocal)  # not NaN: there is no level to match


def test_phrases_without_their_song_are_named() -> None:
    with pytest.raises(ValueError, match=r"1 phrases, the first is a@0\.001.*prepare_data\.py"):
        PhraseInpainter(loaded(), Stems(), {"a@0.001": PhrasePlace("b@0", 0.0)}, [ITEM], 0)
