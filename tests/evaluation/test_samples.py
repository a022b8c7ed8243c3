"""The samples to hear: what is committed is small and whole; encoding keeps its bound."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
import soundfile
import torch

from evaluation import samples
from evaluation.samples import LARGEST, RATE, SAMPLES, encoded, page

DOCS = Path(__file__).resolve().parents[2] / "docs"
ALL_OF_THEM = 1_000_000  # bytes


def test_the_page_plays_what_is_committed() -> None:
    text = (DOCS / "index.html").read_text(encoding="utf-8")
    named = re.findall(r'<audio controls preload="none" src="([^"]+)">', text)
    files = [DOCS / name for name in named]
    assert [path.stem for path in files] == [sample.name for sample in SAMPLES]
    assert sorted((DOCS / "samples").iterdir()) == sorted(files)
    for path in files:
        sound, rate = soundfile.read(path, always_2d=True)
        assert rate == RATE and len(sound) > 4 * RATE and abs(sound).max() > 0.02
        assert path.stat().st_size <= LARGEST
    assert sum(path.stat().st_size for path in files) < ALL_OF_THEM
    for link in re.findall(r'href="([^"]+)"', text):
        assert (DOCS / link).exists(), link
    assert "https://" not in text  # the page opens from the disk


def test_the_page_says_which_weights_sang() -> None:
    assert "transformer 5 &amp; more" in page("transformer 5 & more")


@pytest.mark.parametrize("channels", (1, 2))
def test_sounds_are_encoded_within_the_bound(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = 0.3 * torch.randn(channels, 12 * RATE, generator=generator)
    content = encoded(noise.squeeze(0))
    assert len(content) <= LARGEST
    sound, rate = soundfile.read(io.BytesIO(content), always_2d=True)
    assert rate == RATE and sound.shape == (12 * RATE, channels)


def test_what_cannot_be_small_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "LARGEST", 2000)
    noise = torch.randn(RATE, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="shorter excerpt"):
        encoded(noise)
