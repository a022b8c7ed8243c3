"""Weights of the legacy system: names, parity with stored outputs, round trip, bad files."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import PUBLISHED_TRANSCRIBER

from hyperparams import Hyperparams, UNet
from inpainter.diffusion import Denoiser
from legacy import weights as published
from legacy.patches import PatchUNet1d
from transcription.network import TranscriberNet
from utils import checkpoint, config

torch.set_num_threads(1)
FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures"
needs_fixtures = pytest.mark.skipif(
    not FIXTURES.is_dir(), reason=f"the stored outputs of the legacy system are not at {FIXTURES}"
)
TINY = UNet(
    mdct=0,
    noise_width=0,
    noise_exponent=0.0,
    channels=16,
    patch_blocks=2,
    multipliers=(1, 2, 2),
    factors=(4, 2),
    num_blocks=(2, 1),
    attentions=(False, True),
    attention_heads=2,
    attention_head_width=8,
    groups=4,
    mask_input=False,
    draft_input=False,
    context_width=0,
    output_kernel=0,
)
HYPERPARAMS = replace(config.preset("legacy"), unet=TINY)


def make_network() -> PatchUNet1d:
    torch.manual_seed(0)
    return PatchUNet1d(TINY).eval()


@pytest.fixture
def published_file(tmp_path: Path) -> Path:
    """Random weights in the earlier format, where they are expected below tmp_path."""
    path = tmp_path / published.INPAINTER_PATH
    path.parent.mkdir(parents=True)
    published.write_inpainter(path, make_network().state_dict(), step=195_000)
    return path


def test_names_are_one_to_one() -> None:
    with torch.device("meta"):
        weights = PatchUNet1d(config.preset("legacy").unet).state_dict()
    renamed = published.to_legacy(weights)
    assert len(renamed) == len(weights)
    assert sum(tensor.numel() for tensor in renamed.values()) == 101_575_520
    for name, tensor in weights.items():
        renamed_tensor = renamed[published.legacy_name(name)]
        assert renamed_tensor.shape == published.legacy_shape(name, tensor.shape)


@needs_fixtures
def test_names_and_shapes_are_the_earlier_ones() -> None:
    layout = json.loads((FIXTURES / "published_inpainter_layout.json").read_text())
    with torch.device("meta"):
        renamed = published.to_legacy(PatchUNet1d(config.preset("legacy").unet).state_dict())
    assert {name: list(tensor.shape) for name, tensor in renamed.items()} == layout["state_dict"]
    inpainting = config.preset("legacy").inpainting
    found = (inpainting.sigma_min, inpainting.sigma_max, inpainting.rho)
    assert found == (layout["sigma_min"], layout["sigma_max"], layout["rho"])
    assert config.preset("legacy").diffusion.sigma_data == layout["sigma_data"]


@needs_fixtures
@torch.no_grad()
def test_stored_outputs_are_reproduced() -> None:
    network = make_network()
    weights, step = published.read_inpainter(FIXTURES / "published_inpainter_tiny.pt", network)
    network.load_state_dict(weights)
    assert step == 195_000
    with np.load(FIXTURES / "published_inpainter_tiny_io.npz") as stored:
        io = {name: torch.from_numpy(stored[name]) for name in stored}
    scale = io["net_out"].abs().max()
    assert (network(io["x"], io["time"]) - io["net_out"]).abs().max() < 1e-5 * scale
    denoised = Denoiser(network, sigma_data=0.1, mask_input=False)(io["x"], io["sigma"])
    assert (denoised.clamp(-1, 1) - io["denoised_clamped"]).abs().max() < 1e-5


@torch.no_grad()
def test_round_trip_is_exact(published_file: Path) -> None:
    network = make_network()
    weights, step = published.read_inpainter(published_file, network)
    assert step == 195_000
    for name, tensor in network.state_dict().items():
        assert torch.equal(weights[name], tensor)


def test_converted_once_in_our_own_format(published_file: Path, tmp_path: Path) -> None:
    with torch.device("meta"):
        network = PatchUNet1d(TINY)
    path = published.convert_inpainter(tmp_path, network, HYPERPARAMS)
    published_file.unlink()
    assert published.convert_inpainter(tmp_path, network, HYPERPARAMS) == path
    assert checkpoint.resolve("published", "inpainter", tmp_path) == path
    state = checkpoint.load(path, kind="inpainter")
    hyperparams = config.from_dict(state["hyperparams"], Hyperparams)
    assert hyperparams == HYPERPARAMS
    rebuilt = PatchUNet1d(hyperparams.unet)
    checkpoint.load_weights(rebuilt, checkpoint.weights(state), path)
    for name, tensor in make_network().state_dict().items():
        assert torch.equal(rebuilt.state_dict()[name], tensor)


def test_missing_file_says_where_it_is_expected(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model-39\.pt.*README"):
        published.convert_inpainter(tmp_path, make_network(), HYPERPARAMS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>Quota exceeded</html>", "a web page"),
        (b"\x00" * 500, "a file that begins"),
    ],
)
def test_foreign_bytes_are_named(published_file: Path, content: bytes, message: str) -> None:
    published_file.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        published.read_inpainter(published_file, make_network())
    assert str(published_file) in str(error.value) and "inpainter" in str(error.value)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_half_a_download_is_named(published_file: Path, share: float) -> None:
    whole = published_file.read_bytes()
    published_file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match="cut off or half-downloaded"):
        published.read_inpainter(published_file, make_network())


def test_a_hole_in_the_file_is_named(published_file: Path) -> None:
    damaged = bytearray(published_file.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 2000] = bytes(2000)
    published_file.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"damaged|cut off"):
        published.read_inpainter(published_file, make_network())


def test_compressed_or_foreign_zip_is_named(published_file: Path) -> None:
    for compression in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
        with zipfile.ZipFile(published_file, "w", compression) as archive:
            archive.writestr("notes.txt", "x" * 1000)
        with pytest.raises(ValueError, match="none that PyTorch wrote"):
            published.read_inpainter(published_file, make_network())


class Trap:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_code_in_a_file_is_not_run(published_file: Path, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    torch.save({"step": 1, "model": {}, "opt": Trap(marker)}, published_file)
    with pytest.raises(ValueError, match="more than tensors and plain values"):
        published.read_inpainter(published_file, make_network())
    assert not marker.exists()


def test_another_network_is_named(published_file: Path) -> None:
    network = make_network()
    torch.save({"config": {}, "model_state_dict": {}}, published_file)
    with pytest.raises(ValueError, match="found a dict of config, model_state_dict"):
        published.read_inpainter(published_file, network)
    with pytest.raises(ValueError, match=r"differences.*\n  missing net\."):
        wider = PatchUNet1d(replace(TINY, num_blocks=(1, 1)))
        published.write_inpainter(published_file, wider.state_dict(), 1)
        published.read_inpainter(published_file, network)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(7), r"to_time\.0\.0\.weights is \(7,\), expected \(8,\)"),
        (torch.zeros(8, dtype=torch.int64), "expected a float tensor"),
        (torch.zeros(1).expand(10**12), "1000000000000"),
        (torch.full((8,), torch.nan), "not finite"),
    ],
)
def test_bad_tensors_are_named(published_file: Path, tensor: torch.Tensor, message: str) -> None:
    content = torch.load(published_file, weights_only=True)
    content["model"]["net.to_time.0.0.weights"] = tensor
    torch.save(content, published_file)
    with pytest.raises(ValueError, match=message):
        published.read_inpainter(published_file, make_network())


def build_transcriber(knobs: dict) -> tuple[TranscriberNet, Hyperparams]:
    knobs = dict(knobs)
    sample_rate = knobs.pop("sample_rate")
    base = config.preset("base")
    hyperparams = replace(base, transcriber=replace(base.transcriber, **knobs))
    with torch.device("meta"):
        return TranscriberNet(hyperparams.transcriber, sample_rate), hyperparams


@needs_fixtures
@torch.no_grad()
def test_stored_transcription_is_reproduced() -> None:
    path = FIXTURES / "published_transcriber_tiny.pt"
    weights, hyperparams = published.read_transcriber(path, build_transcriber)
    network = TranscriberNet(hyperparams.transcriber, hyperparams.audio.sample_rate).eval()
    network.load_state_dict(weights)
    with np.load(FIXTURES / "published_transcriber_tiny_io.npz") as stored:
        io = {name: torch.from_numpy(stored[name]) for name in stored}
    decibel = io["mel_db"].transpose(1, 2)
    assert (network.mel(io["audio"]) - decibel).abs().max() < 1e-4  # dB
    heard = network(io["audio"])
    assert (heard.phoneme - io["phoneme_logits"]).abs().max() < 1e-4
    assert (heard.note - io["onset_offset_activation_logits"]).abs().max() < 1e-4


def test_transcriber_follows_the_configuration_of_its_file(tmp_path: Path) -> None:
    knobs = published.transcriber_knobs(PUBLISHED_TRANSCRIBER, "memory")
    assert (knobs["width"], knobs["phoneme_width"], knobs["num_phonemes"]) == (16, 32, 39)
    assert (knobs["win_length"], knobs["phoneme_win_length"]) == (512, 1024)
    network, _ = build_transcriber(knobs)
    torch.manual_seed(0)
    weights = {
        name: torch.rand(tensor.shape).to(tensor.dtype)
        for name, tensor in network.state_dict().items()
    }
    path = tmp_path / "model.pt"
    content = {
        "config": PUBLISHED_TRANSCRIBER,
        "model_state_dict": published.to_legacy(weights, "transcriber"),
    }
    torch.save(content, path)
    target = published.convert_transcriber(path, tmp_path, build_transcriber)
    path.unlink()
    assert published.convert_transcriber(path, tmp_path, build_transcriber) == target
    state = checkpoint.load(target, kind="transcriber")
    assert all(torch.equal(state["model"][name], tensor) for name, tensor in weights.items())
    hyperparams = config.from_dict(state["hyperparams"], Hyperparams)
    assert hyperparams.transcriber.pitch_summary == "median"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hop_length": 160}, "frames would not meet"),
        ({"n_mels": 10**9}, r"config\.n_mels is int 1000000000, expected 0 to"),
        ({"model_complexity": 1.5}, "expected a whole number"),
        ({"lang_model_config": None}, "lang_model_config is NoneType"),
        ({"pitch_sum": 3}, "expected a word"),
    ],
)
def test_impossible_configurations_are_named(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        published.transcriber_knobs({**PUBLISHED_TRANSCRIBER, **change}, "model.pt")


def test_transcriber_pools_and_pads_nothing_away() -> None:
    hyperparams = replace(config.preset("base").transcriber, width=16, phoneme_width=16)
    torch.manual_seed(0)
    network = TranscriberNet(hyperparams, 16000).eval()
    with torch.no_grad():
        heard = network(0.1 * torch.randn(2, 16000))
        alone = network(0.1 * torch.ones(1, 16000))
    assert heard.phoneme.shape == (2, 51, 39) and heard.note.shape == (2, 51, 3)
    assert alone.note.isfinite().all()
