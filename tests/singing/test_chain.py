"""Networks for use: the weights that ship, and the sharpening of a generated mel."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hyperparams import Audio, Synthesis
from music.inputs import ScoreBatch
from singing import chain
from singing.chain import postfiltered, sharpened, waveform, without_postfilter
from transcription.transcribe import load_transcriber
from utils.audio import Features
from utils.loading import load_network
from utils.metrics import frame_difference_ratio

DEMO = Path(__file__).resolve().parents[2] / "save" / "demo"


@pytest.mark.parametrize("path", sorted(DEMO.glob("*.pt")), ids=lambda p: p.stem)
def test_the_weights_that_ship_fit_their_networks(path: Path) -> None:
    if path.stem == "transcriber":
        loaded = load_transcriber(path, torch.device("cpu"))
    else:
        kinds = {"source": "postnet", "mel_inpainter": "inpainter"}
        kind = kinds.get(path.stem, path.stem)
        loaded = load_network(path, kind, torch.device("cpu"))
    assert all(torch.isfinite(tensor).all() for tensor in loaded.network.state_dict().values())


def test_sharpening_gives_back_what_smoothing_took() -> None:
    torch.manual_seed(0)
    true = torch.randn(1, 200, 8).cumsum(1) * 0.3
    kernel = torch.tensor([0.25, 0.5, 0.25])[None, None]
    rows = true.transpose(1, 2).reshape(8, 1, 200)
    smooth = torch.nn.functional.conv1d(rows, kernel, padding=1).view(1, 8, 200).transpose(1, 2)
    lengths = torch.tensor([200])
    ratio = [
        frame_difference_ratio(sharpened(smooth, lengths, amount, 2.0)[0].numpy(), true[0].numpy())
        for amount in (0.0, 0.5, 1.0)
    ]
    assert ratio[0] < ratio[1] < ratio[2]
    assert torch.equal(sharpened(smooth, lengths, 0.0, 2.0), smooth)


def test_sharpening_leaves_what_is_constant_and_slow() -> None:
    lengths = torch.tensor([300])
    constant = torch.full((1, 300, 4), 1.7)
    torch.testing.assert_close(sharpened(constant, lengths, 1.0, 2.0), constant)
    time = torch.arange(300)[None, :, None] / 300
    slow = torch.sin(2 * torch.pi * time).expand(1, 300, 4)
    assert (sharpened(slow, lengths, 1.0, 2.0) - slow).abs().max() < 0.05


def test_sharpening_knows_no_padding() -> None:
    torch.manual_seed(0)
    mel, lengths = torch.randn(3, 50, 4), torch.tensor([50, 21, 7])
    together = sharpened(mel, lengths, 0.6, 2.0)
    for row, length in enumerate(lengths.tolist()):
        alone = sharpened(mel[row : row + 1, :length], lengths[row : row + 1], 0.6, 2.0)
        torch.testing.assert_close(together[row, :length], alone[0])
        assert torch.equal(together[row, length:], mel[row, length:])


def test_the_contrast_is_heard_and_the_level_stays() -> None:
    """Between the harmonics of a voice there is less, and the balance of its bands is the same."""
    audio, bins = Audio(), torch.arange(513.0)
    linear = (-bins / 100 + 0.8 * torch.cos(2 * torch.pi * bins / 12.8)).expand(60, -1)  # 200 Hz

    def spectrum(contrast: float) -> torch.Tensor:
        """Mean power (F,) of the middle frames."""
        wav = waveform(linear, audio, Synthesis(spectral_contrast=contrast), 0)
        return Features(audio).linear(wav[None])[0, 10:-10].mul(2).exp().mean(0)

    plain, raised = spectrum(1.0), spectrum(1.7)
    harmonics = (bins[50:400] / 12.8).round().mul(12.8).round().long().unique()
    valleys = (harmonics + 6)[:-1]
    depth = [float(p[harmonics].log().mean() - p[valleys].log().mean()) for p in (plain, raised)]
    assert depth[1] > depth[0] + 0.5
    bands = [p[:500].unfold(0, 100, 100).mean(1).log10() * 10 for p in (plain, raised)]
    assert (bands[0] - bands[1]).abs().max() < 1.0  # dB


def test_the_inverse_of_the_filterbank_is_float32_whoever_asks_first() -> None:
    """A training step in bfloat16 keeps no rounded inverse for those that follow."""
    audio = Audio()
    mel = torch.randn(1, 5, audio.n_mels)
    chain._filterbank_inverse.cache_clear()
    expected = chain.linear_from_mel(mel, audio)
    chain._filterbank_inverse.cache_clear()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = chain.linear_from_mel(mel, audio)
    assert torch.equal(rounded, expected)
    assert torch.equal(chain.linear_from_mel(mel, audio), expected)


def test_presence_brightens_what_is_sung_alone() -> None:
    mel, lengths = torch.randn(2, 12, 80), torch.tensor([12, 9])
    zeros = torch.zeros(2, 3)
    interval = torch.tensor([[[0.0, 0.2]] * 3, [[0.0, 0.0]] * 3])  # the second one is spoken
    score = ScoreBatch(
        *(zeros.long(), zeros, zeros.long(), zeros.long(), interval),
        *(torch.zeros(2, 12).long(), torch.zeros(2, 12)),
    )
    knobs = Synthesis(sharpening=0.0, presence=0.2)
    change = postfiltered(mel, lengths, knobs, score) - mel
    assert not change[1].any() and not change[0, :, :13].any()
    assert (change[0].diff(dim=1) > -1e-6).all()
    torch.testing.assert_close(change[0, :, 54:], torch.full((12, 26), 0.2))
    for untouched in (
        postfiltered(mel, lengths, knobs, None),
        postfiltered(mel, lengths, without_postfilter(knobs), score),
    ):
        assert torch.equal(untouched, mel)
