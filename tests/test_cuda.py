"""What a GPU has to do like a CPU: training steps, decoding, a resumed run, a song."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from test_train_postnet_source import SOURCE
from tiny import TINY, TINY_FLAGS
from tiny_chain import SHAPED, Run, music, write
from tiny_corpora import harmonic_songs
from torch import Tensor, nn

import prepare_data
import train_inpainter
import train_postnet
import train_transformer
from corpora.stores import open_features
from hyperparams import Hyperparams
from inpainter.diffusion import denoising_loss
from inpainter.spectral import ModifiedCosineTransform
from module import PaddedGRU
from network import build_transformer
from preprocess import StemStore
from text.symbols import SYMBOLS
from train_inpainter import InpainterExperiment
from train_postnet import PostNetExperiment, SourceExperiment
from train_transformer import TransformerExperiment
from training.batching import fed
from training.experiment import Experiment, seeded_context
from training.runlog import Interruption
from training.trainer import Trainer
from utils import checkpoint, distributed
from utils.loading import denoiser_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


def undropped(hp: Hyperparams, **sizes: Any) -> Hyperparams:
    """Leave out what each device draws by itself."""
    transformer = replace(hp.transformer, dropout=0.0, prenet_dropout=0.0, **sizes)
    return replace(hp, transformer=transformer, postnet=replace(hp.postnet, dropout=0.0))


AT_ONCE = {"history": False, "contour": True}
SIZES = {
    "transformer": undropped(TINY),
    "at once": undropped(TINY, **AT_ONCE),
    "postnet": undropped(TINY),
    "source": SOURCE,
    "inpainter": SHAPED,
}


@pytest.fixture(autouse=True)
def full_precision() -> Iterator[None]:
    """Products without TF32, whatever an earlier script chose."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.fixture
def features(tmp_path: Path, speech_corpus: Callable[..., Path]) -> Path:
    """Phrases as corpus `x`, songs as corpus `stems`."""
    where = ["--feature-dir", str(tmp_path / "feature"), "--workers", "0"]
    shares = ["--validation-share", "0.25", "--test-share", "0.1"]
    corpus = str(speech_corpus(10))
    assert prepare_data.main(["ljspeech", corpus, "--name", "x", *shares, *where]) == 0
    songs = str(harmonic_songs(tmp_path / "songs", 8, 32000))
    assert prepare_data.main(["stems", songs, "--name", "stems", *shares, *where]) == 0
    return tmp_path / "feature"


def experiment_of(kind: str, features: Path, device: torch.device) -> Experiment[Any, Any]:
    hp = SIZES[kind]
    torch.manual_seed(0)
    if kind == "source":
        return SourceExperiment(hp, StemStore(features / "stems"))
    if kind == "inpainter":
        return InpainterExperiment(hp, StemStore(features / "stems"), device)
    store = open_features(features, "x")
    return PostNetExperiment(hp, store) if kind == "postnet" else TransformerExperiment(hp, store)


def awakened(network: nn.Module) -> nn.Module:
    """Move weights away from zero, where most gradients are none."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return network


def inpainter_loss(
    experiment: InpainterExperiment, batch: Any, device: torch.device, bfloat16: bool
) -> Tensor:
    """The loss of draws that the CPU made, on a device."""
    drawn = experiment.draw(batch, torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.05, 0.5]).to(device)
    network = experiment.model.to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
        sums, counts = denoising_loss(
            denoiser_of(network, SHAPED),
            batch.wav.to(device),
            sigma,
            drawn.noise.to(device),
            drawn.is_known.to(device),
            drawn.context.map(lambda part: part.to(device)),
            drawn.given.to(device),
            drawn.is_dropped.to(device),
            1.0,
            1.0,
        )
    return (sums / counts.clamp_min(1)).sum()


def loss_and_gradients(
    kind: str, features: Path, device: torch.device, bfloat16: bool = False
) -> tuple[float, dict[str, Tensor]]:
    experiment = experiment_of(kind, features, CPU)
    network = awakened(experiment.model)
    batch = next(iter(experiment.batches((0, 0))))[0]
    if kind == "inpainter":
        loss = inpainter_loss(experiment, batch, device, bfloat16)
    else:
        context = seeded_context(0, 3, 0, device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
            terms = experiment.loss(network.to(device).train(), batch.to(device), context)
        parts = [t.weight * t.total / float(t.count) for t in terms.values() if float(t.count)]
        loss = torch.stack([part.float() for part in parts]).sum()
    loss.backward()
    named = network.named_parameters()
    return loss.item(), {name: p.grad.cpu() for name, p in named if p.grad is not None}


@pytest.mark.parametrize("kind", SIZES)
def test_a_training_step_is_that_of_a_cpu(
    kind: str, features: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loss and every gradient in float32; in bfloat16 the loss, roughly. Noise is the CPU's."""
    monkeypatch.setattr(train_postnet, "_generator_on", lambda device, generator: generator)
    expected, gradients = loss_and_gradients(kind, features, CPU)
    found, others = loss_and_gradients(kind, features, CUDA)
    assert found == pytest.approx(expected, rel=1e-4)
    assert others.keys() == gradients.keys()
    largest = max(float(gradient.norm()) for gradient in gradients.values())
    for name, gradient in gradients.items():
        error = float((others[name] - gradient).norm())
        assert error <= 2e-3 * float(gradient.norm()) + 1e-5 * largest, name
    rounded, _ = loss_and_gradients(kind, features, CUDA, bfloat16=True)
    assert rounded == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", [kind for kind in SIZES if kind != "source"])
def test_a_step_waits_for_nothing(
    kind: str, precision: str, features: Path, tmp_path: Path
) -> None:
    """What the host asks of the device, it asks between the steps."""
    experiment = experiment_of(kind, features, CUDA)
    section = f"{experiment.kind}_training"
    knobs = replace(
        getattr(experiment.hyperparams, section), precision=precision, ema_decay=0.9, accumulate=2
    )
    experiment.hyperparams = replace(experiment.hyperparams, **{section: knobs})
    trainer = Trainer(experiment, tmp_path / "run", distributed.World(CUDA))
    batches = fed(experiment.batches(experiment.start), CUDA)
    for _ in range(2):  # what is made once is made
        trainer._step(batches, Interruption())
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(2):
            trainer._step(batches, Interruption())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    trainer._account()
    trainer._release()
    assert trainer.meter.steps == 4 and np.isfinite(trainer.meter.loss)


@pytest.mark.parametrize("history", [True, False])
@torch.inference_mode()
def test_decoding_is_that_of_a_cpu(history: bool) -> None:
    """A captured step, replayed, and a pass at once; items end where they end on a CPU."""
    hp = replace(TINY, transformer=replace(TINY.transformer, history=history, dropout=0.0))
    torch.manual_seed(0)
    network = awakened(build_transformer(hp, len(SYMBOLS))).eval()
    nn.init.constant_(network.to_stop.bias, -50.0)
    symbols = torch.randint(1, len(SYMBOLS), (2, 30))
    lengths, limit = torch.tensor([30, 17]), torch.tensor([300, 180])
    made = []
    for device in (CPU, CUDA):
        parts = (symbols.to(device), lengths.to(device), [1, 2], limit.to(device))
        made.append(network.to(device).generate(*parts))
    assert made[0].mel_lengths.tolist() == made[1].mel_lengths.tolist()
    for row, length in enumerate(made[0].mel_lengths.tolist()):
        a, b = (part.mel[row, :length].cpu() for part in made)
        assert float((a - b).abs().max()) < 2e-3


def flags(kind: str, features: Path, save: Path, steps: int) -> list[str]:
    where = ["--feature-dir", str(features), "--save-dir", str(save), "--device", "cuda"]
    data = "stems" if kind == "inpainter" else "x"
    steady = ["--set", f"{kind}_training.schedule=constant"]
    return ["--data", data, *TINY_FLAGS, "--run", "r", *where, "--steps", str(steps), *steady]


@pytest.mark.parametrize("script", [train_transformer, train_inpainter])
def test_stopped_and_resumed_equals_uninterrupted(
    script: Any, features: Path, tmp_path: Path
) -> None:
    """To the rounding of sums whose order a GPU does not promise; validation and previews too."""
    kind = script.__name__.removeprefix("train_")
    states = []
    for name, stops in (("whole", (4,)), ("parts", (1, 4))):
        for stop in stops:
            assert script.main(flags(kind, features, tmp_path / name, stop)) == 0
        states.append(checkpoint.load(tmp_path / name / kind / "r" / "last.pt", kind))
    for name, tensor in states[0]["model"].items():
        torch.testing.assert_close(states[1]["model"][name], tensor, rtol=1e-3, atol=1e-4)


def test_transforms_of_sound_are_exact_beside_tf32() -> None:
    """What is soft keeps its place beside what is loud, and so do the gradients."""
    torch.set_float32_matmul_precision("high")
    transform = ModifiedCosineTransform(512)
    wav = torch.randn(2, 1, 8192, generator=torch.Generator().manual_seed(0))
    made = []
    for device in (CPU, CUDA):
        x = wav.to(device, copy=True).requires_grad_()
        coefficients = transform.to(device)(x)
        back = transform.inverse(coefficients)
        back.pow(3).sum().backward()
        made.append([part.detach().cpu() for part in (coefficients, back, x.grad)])
    for a, b in zip(*made, strict=True):
        assert float((a - b).abs().max() / a.abs().max()) < 1e-5


def test_a_gru_keeps_float32_and_compiles_as_one_graph() -> None:
    torch.manual_seed(0)
    gru = PaddedGRU(12, 8)
    x, lengths = torch.randn(3, 50, 12), torch.tensor([50, 30, 7])
    expected = gru(x, lengths).detach()
    gru, x, lengths = gru.to(CUDA), x.to(CUDA), lengths.to(CUDA)
    torch._dynamo.reset()
    compiled = torch.compile(gru, backend="aot_eager", fullgraph=True)
    for run in (gru, compiled):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            made = run(x, lengths)
        made.sum().backward()
        assert made.dtype == torch.float32
        assert float((made.detach().cpu() - expected).abs().max()) < 1e-4
        assert all(bool(torch.isfinite(p.grad).all()) for p in gru.parameters())


def test_a_song_is_sung_on_a_gpu(run: Run, tmp_path: Path) -> None:
    """The whole chain from the shell; as loud and as long as on a CPU."""
    backing = write(tmp_path / "backing.wav", music(4.0))
    flags = ("--accompaniment", backing, "--lyrics", "oh my", "--steps", 2)
    sounds = []
    for device in ("cpu", "cuda"):
        assert run(*flags, "--device", device, out=device) == 0
        sounds.append(soundfile.read(tmp_path / device / "vocal.wav")[0])
    assert sounds[0].shape == sounds[1].shape
    levels = [20 * np.log10(np.sqrt(np.mean(wav**2))) for wav in sounds]
    assert abs(levels[0] - levels[1]) < 1.0
