"""train_inpainter.py as a user runs it, at tiny size, and what it draws and judges by."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny_chain
import torch
from no_waiting import NoReading
from tiny import TINY, TINY_FLAGS
from tiny_runs import resumed_equals_whole
from torch import nn

import evaluate
import prepare_data
import train_inpainter
from inpainter.context import Context, window_mel
from inpainter.diffusion import ACCOMPANIMENT, MASK_KINDS, VOCAL
from preprocess import StemBatch, StemStore
from text.symbols import SYMBOLS
from train_inpainter import InpainterExperiment
from training.experiment import seeded_context
from utils import checkpoint, config
from utils.audio import Features
from utils.loading import build_postnet, build_unet, denoiser_of, load_network

HP = TINY
SECONDS = 2.0


def tune(number: int, seconds: float, rate: int) -> np.ndarray:
    """A melody of its own in every song: (S,) float64."""
    random = np.random.default_rng(number)
    time = np.arange(round(seconds * rate)) / rate
    pitch = random.choice([110.0, 165.0, 220.0, 330.0], size=int(seconds * 4) + 1)
    phase = 2 * np.pi * np.cumsum(pitch[(time * 4).astype(int)]) / rate
    return np.sin(phase) * (0.3 + 0.7 * np.abs(np.sin(2 * np.pi * 2 * time)))


@pytest.fixture
def feature_dir(tmp_path: Path) -> Path:
    """A dozen songs prepared as corpus `x`: the accompaniment is the vocal's own tune."""
    songs = tmp_path / "songs"
    for number in range(12):
        folder = songs / f"song-{number:02d}"
        folder.mkdir(parents=True)
        wav = tune(number, SECONDS, HP.audio.sample_rate)
        soundfile.write(folder / "vocal.wav", 0.3 * wav, HP.audio.sample_rate)
        soundfile.write(folder / "accompaniment.wav", 0.3 * wav, HP.audio.sample_rate)
    where = ["--feature-dir", str(tmp_path / "feature"), "--workers", "0"]
    shares = ["--validation-share", "0.25", "--test-share", "0.15"]
    assert prepare_data.main(["stems", str(songs), "--name", "x", *shares, *where]) == 0
    return tmp_path / "feature"


@pytest.fixture
def store(feature_dir: Path) -> StemStore:
    return StemStore(feature_dir / "x")


@pytest.fixture
def experiment(store: StemStore) -> InpainterExperiment:
    return InpainterExperiment(HP, store, torch.device("cpu"))


def batch_of(experiment: InpainterExperiment, size: int) -> StemBatch:
    batches = experiment.training_batches
    batches.batch_size = size
    return next(iter(batches((0, 0))))[0]


def flags(feature_dir: Path, save: Path, *extra: str) -> list[str]:
    where = ["--feature-dir", str(feature_dir), "--save-dir", str(save), "--device", "cpu"]
    return ["--data", "x", *TINY_FLAGS, "--run", "r", *where, *extra]


def test_a_run_logs_every_noise_level_and_the_shuffle_control_and_can_be_used(
    feature_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    save = tmp_path / "save"
    extra = ["--set", "inpainter_training.ema_decay=0.9"]
    extra += ["--set", "inpainter_training.validate_every=3"]
    assert train_inpainter.main(flags(feature_dir, save, "--steps", "3", *extra)) == 0
    run = save / "inpainter" / "r"
    names = set().union(*map(json.loads, (run / "stats.jsonl").read_text().splitlines()))
    levels = [name for name in names if name.startswith("validation/sigma_")]
    assert len(levels) == HP.diffusion.loss_bins
    assert {name.replace("validation", "train") for name in levels} <= names
    assert {"validation/score", "validation/shuffle_gap"} <= names

    loaded = load_network(run / "last.pt", "inpainter", torch.device("cpu"))
    state = checkpoint.load(run / "last.pt", "inpainter")
    kept = loaded.network.state_dict()
    assert all(torch.equal(kept[name], state["ema"][name]) for name in kept)
    assert any(not torch.equal(kept[name], state["model"][name]) for name in kept)
    assert len(loaded.standardiser("mel").mean) == HP.audio.n_mels

    where = ["--feature-dir", str(feature_dir), "--out", str(tmp_path / "out"), "--device", "cpu"]
    rows = ["--rows", "default", "draft_shuffled", "gap", "--windows", "2", "--batch-size", "2"]
    rows += ["--control-windows", "4"]
    command = ["inpainting", "--data", "x", "--inpainter", str(run), *where, *rows]
    assert evaluate.main(command) == 0
    rows = json.loads((tmp_path / "out" / "inpainting.json").read_text())["rows"]
    assert set(rows) >= {"default", "gap", "silence", "other_vocal", "gap_silence"}
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert made >= {"inpainting.png", "true.wav", "gap.wav", "draft_shuffled.wav"}
    assert rows["default"]["evaluations"] == HP.inpainting.num_steps
    assert all(len(row["distances"]) == 2 for row in rows.values())
    control = json.loads((tmp_path / "out" / "inpainting.json").read_text())["shuffle_control"]
    assert set(control) == {"alone", "draft"}
    assert all(test["difference"]["count"] == 4 for test in control["alone"].values())
    assert evaluate.main([*command, "--rows", "guess"]) == 2
    assert "choose from default" in capsys.readouterr().err


def test_stopped_and_resumed_equals_uninterrupted(
    feature_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks, noises, impairments and windows all come from (seed, step)."""
    # Pictures take most of the time.
    monkeypatch.setattr(InpainterExperiment, "preview", lambda *_: None)
    steady = ["--set", "inpainter_training.schedule=constant"]
    _, parts = resumed_equals_whole(train_inpainter.main, flags, feature_dir, tmp_path, 4, steady)
    changed = ["--steps", "5", "--set", "diffusion.sigma_data=0.2", *steady]
    assert train_inpainter.main(flags(feature_dir, parts, *changed)) == 2


def test_the_network_that_ships_is_trained_small(
    feature_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """MDCT, noise in the shape of the vocals, drafts by a PostNet: from the shell, then judged."""
    tiny_chain.save(tmp_path / "postnet.pt", "postnet", build_postnet(HP), HP)
    knobs = config.changed(HP, tiny_chain.SHAPED).items()
    sets = [part for k, (_, now) in knobs for part in ("--set", f"{k}={json.dumps(now)}")]
    sets += ["--set", "diffusion.draft_spectral=1", "--set", "diffusion.draft_huber=1"]
    command = flags(feature_dir, tmp_path / "save", *sets, "--steps", "2")
    drafted = [*command, "--postnet", str(tmp_path / "postnet.pt")]
    assert train_inpainter.main(drafted) == 0
    run = tmp_path / "save" / "inpainter" / "r"
    loaded = load_network(run / "last.pt", "inpainter", torch.device("cpu"))
    power = loaded.network.noise_shape.mean_power
    bins = torch.arange(len(power)) * HP.audio.sample_rate / 2 / len(power)  # Hz
    assert power[bins < 500].sum() > 100 * power[bins > 1000].sum()  # the tunes are below 500 Hz
    assert loaded.data["context"][-1] == "wav" and loaded.data["postnet"]
    assert train_inpainter.main([*drafted, "--steps", "3"]) == 0
    resumed = load_network(run / "last.pt", "inpainter", torch.device("cpu"))
    assert torch.equal(resumed.network.noise_shape.mean_power, power)
    assert train_inpainter.main([*command, "--steps", "4"]) == 2
    assert "data.postnet" in capsys.readouterr().err

    where = ["--feature-dir", str(feature_dir), "--out", str(tmp_path / "out"), "--device", "cpu"]
    rows = ["--rows", "default", "draft", "draft_unmixed", "draft_walked", "--windows", "2"]
    rows += ["--batch-size", "2", "--control-windows", "2"]
    postnet = ["--postnet", str(tmp_path / "postnet.pt")]
    command = ["inpainting", "--data", "x", "--inpainter", str(run), *postnet, *where, *rows]
    assert evaluate.main(command) == 0
    rows = json.loads((tmp_path / "out" / "inpainting.json").read_text())["rows"]
    steps = tiny_chain.SHAPED.inpainting.num_steps
    asked = {"default": steps, "draft": 1, "draft_unmixed": 1, "draft_walked": steps}
    assert {name: rows[name]["evaluations"] for name in asked} == asked
    assert rows["draft"]["distances"] != rows["draft_unmixed"]["distances"]


def test_a_network_that_sees_no_mask_and_no_context(
    feature_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The earlier system's kind: the joint model, judged by what it can do."""
    blind = ["unet.mask_input=false", "unet.draft_input=false", "unet.context_width=0"]
    blind += ["inpainting.method=repaint", "inpainting.num_steps=2"]
    blind += [f"diffusion.mask_{kind}=0" for kind in MASK_KINDS[:-1]]
    sets = [part for knob in blind for part in ("--set", knob)]
    assert train_inpainter.main(flags(feature_dir, tmp_path / "save", *sets, "--steps", "2")) == 0
    run = tmp_path / "save" / "inpainter" / "r"
    lines = map(json.loads, (run / "stats.jsonl").read_text().splitlines())
    names = set().union(*lines)
    assert "validation/score" in names and "validation/shuffle_gap" not in names
    where = ["--feature-dir", str(feature_dir), "--out", str(tmp_path / "out"), "--device", "cpu"]
    command = ["inpainting", "--data", "x", "--inpainter", str(run), *where, "--windows", "2"]
    assert evaluate.main([*command, "--rows", "draft"]) == 2
    assert "takes no context" in capsys.readouterr().err
    assert evaluate.main([*command, "--rows", "default", "gap"]) == 0


def test_guidance_hears_the_draft_and_nothing_else_is_told_without_one(
    experiment: InpainterExperiment,
) -> None:
    """The null of lyrics keeps a draft's waveform; where that is missing, so is all it gives."""
    drawn = experiment.draw(batch_of(experiment, 400), torch.Generator().manual_seed(0)).context
    frames = [drawn.is_dropped[part] for part in experiment.parts if part != "wav"]
    untold = drawn.is_dropped["wav"]
    assert all(dropped[untold].all() for dropped in frames)
    assert untold.float().mean() == pytest.approx(HP.diffusion.draft_dropout, abs=0.06)
    null = torch.stack(frames).all(0)[~untold].float().mean()
    assert null == pytest.approx(HP.diffusion.dropout, abs=0.06)


def test_what_is_drawn_keeps_what_is_known(experiment: InpainterExperiment) -> None:
    """Only vocals are impaired, only what is given is withheld, and a seed decides it all."""
    batch = batch_of(experiment, 64)
    wav = batch.wav
    drawn = experiment.draw(batch, torch.Generator().manual_seed(0))
    assert torch.equal(drawn.given[:, ACCOMPANIMENT], wav[:, ACCOMPANIMENT])
    unknown = ~drawn.is_known
    assert torch.equal(drawn.given[unknown], wav[unknown])
    impaired = (drawn.given != wav).any(2)[:, VOCAL]
    assert impaired.any() and (drawn.given - wav).abs().max() < 0.2
    assert drawn.is_dropped.any() and not drawn.is_dropped.all()
    assert drawn.is_known[drawn.is_dropped][:, ACCOMPANIMENT].all()
    assert drawn.context.is_dropped["mel"].any()
    again = experiment.draw(batch, torch.Generator().manual_seed(0))
    other = experiment.draw(batch, torch.Generator().manual_seed(1))
    assert torch.equal(drawn.noise, again.noise) and torch.equal(
        drawn.context.mel, again.context.mel
    )
    assert not torch.equal(drawn.is_known, other.is_known)


def test_a_window_has_one_mel_frame_per_hop_and_the_same_as_the_song(
    experiment: InpainterExperiment,
) -> None:
    """Frames of a window are those of the song away from its edges: nothing moves."""
    audio = HP.audio
    wav = torch.randn(1, 4 * HP.window)
    features = Features(audio)
    song, window = features.mel(wav), window_mel(features, wav[:, HP.window : 2 * HP.window])
    frames = HP.window // audio.hop_length
    assert window.shape == (1, frames, audio.n_mels)
    edge = audio.n_fft // audio.hop_length
    assert torch.allclose(
        window[:, edge:-edge], song[:, frames + edge : 2 * frames - edge], atol=1e-4
    )


def test_the_terms_are_the_loss_and_its_levels(experiment: InpainterExperiment) -> None:
    """Each scored element is in one bin of σ, the bins carry no weight and no gradient."""
    torch.manual_seed(0)
    network = build_unet(HP, 90)
    batch = batch_of(experiment, 8)
    context = seeded_context(0, 0, 0, torch.device("cpu"))
    terms = experiment.loss(network, batch, context)
    levels = [terms[name] for name in experiment.level_names]
    assert [term.weight for term in terms.values()] == [1.0] + [0.0] * HP.diffusion.loss_bins
    assert sum(int(term.count > 0) for term in levels) == HP.diffusion.loss_bins  # stratified
    assert terms["denoising"].count == experiment.counts(batch)["denoising"] == 8
    drawn = experiment.draw(batch, seeded_context(0, 0, 0, torch.device("cpu")).generator)
    scored = ~drawn.is_known
    scored[:, ACCOMPANIMENT] &= ~drawn.is_dropped[:, None]
    assert sum(float(term.count) for term in levels) == float(scored.sum())
    assert not any(term.total.requires_grad for term in levels)
    assert terms["denoising"].total.requires_grad


def test_validation_repeats_itself_and_leaves_shuffle_gap_out_for_one_song(
    experiment: InpainterExperiment,
) -> None:
    network = build_unet(HP, 90).eval()
    with torch.no_grad():
        first, second = experiment.validate(network), experiment.validate(network)
    assert first == second
    assert first["shuffle_gap"] == 0.0  # its output is still zero
    alone = experiment.validation.head

    def without_other(count: int):
        return (replace(batch, other=None) for batch in alone(count))

    experiment.validation.head = without_other
    with torch.no_grad():
        assert "shuffle_gap" not in experiment.validate(network)


def scored_store(store: StemStore) -> StemStore:
    """The same songs with a score: a word of two symbols, a rest, another word."""
    score = {
        "pitch": [60, 60, 64],
        "onset": [0.25, 0.4, 1.0],
        "offset": [0.4, 0.75, 1.5],
        "notes": [[0.25, 0.75, 60], [1.0, 1.5, 64]],
    }
    for item in store.index["items"]:
        item |= {"symbols": ["S", "IY1", "AA1"], "score": score}
    return store


def test_symbols_and_notes_stand_where_they_are_sung(store: StemStore) -> None:
    """Tracks of a window that begins between two frames; voicing is that of the symbols."""
    experiment = InpainterExperiment(HP, scored_store(store), torch.device("cpu"))
    assert experiment.data["context"] == list(Context.PARTS)
    batch = replace(batch_of(experiment, 1), starts=torch.tensor([3000]))
    context = experiment.context(batch, torch.Generator().manual_seed(0))
    times = (3000 + HP.audio.hop_length * torch.arange(context.mel.shape[1])) / 16000
    names = [SYMBOLS[i] if i else "" for i in context.phoneme[0].tolist()]
    expected = ["S" if 0.25 <= t < 0.4 else "IY1" if 0.4 <= t < 0.75 else "" for t in times]
    assert names == expected and "S" in names and "" in names
    assert torch.equal(context.pitch[0] > 0, torch.tensor([name != "" for name in names]))
    assert context.voicing[0].tolist() == [float(name == "IY1") for name in names]


def test_parts_of_the_context_fall_out_one_by_one_and_together(store: StemStore) -> None:
    experiment = InpainterExperiment(HP, scored_store(store), torch.device("cpu"))
    drawn = experiment.draw(batch_of(experiment, 256), torch.Generator().manual_seed(0))
    lost = torch.stack([drawn.context.is_dropped[name] for name in Context.PARTS])  # (5, B)
    assert 0.08 < float(lost.all(0).float().mean()) < 0.25
    assert set(lost.sum(0).tolist()) >= {0, 1, 5}


class Listener(nn.Module):
    """F of a denoiser that answers with the accompaniment: D = the accompaniment, where told."""

    def forward(self, x: torch.Tensor, c_noise: torch.Tensor, context=None) -> torch.Tensor:
        sigma = (4 * c_noise).exp()[:, None]  # (B, 1)
        data = HP.diffusion.sigma_data
        ratio = (sigma / data).square() + 1
        noisy = x[:, VOCAL] * data * ratio.sqrt()  # c_in undone
        accompaniment = x[:, ACCOMPANIMENT] * data
        vocal = (accompaniment - noisy / ratio) * ratio.sqrt() / sigma
        return torch.stack([vocal, torch.zeros_like(vocal)], 1)


def test_the_shuffle_gap_tells_listening_from_not_listening(
    experiment: InpainterExperiment,
) -> None:
    """Where vocal = accompaniment, a network that copies it loses everything by a shuffle."""
    result = experiment.validate(Listener())
    assert result["from_accompaniment"] == pytest.approx(0.0, abs=1e-6)
    assert result["shuffle_gap"] > 1.0


def test_the_denoiser_of_a_network_has_its_knobs() -> None:
    hp = replace(HP, diffusion=replace(HP.diffusion, sigma_data=0.3))
    network = build_unet(hp, 90)
    denoiser = denoiser_of(network, hp)
    assert denoiser.sigma_data == 0.3 and denoiser.mask_input and denoiser.network is network
    assert [name.removeprefix("network.") for name in denoiser.state_dict()] == list(
        network.state_dict()
    )


def test_previews_are_written(experiment: InpainterExperiment) -> None:
    class Writer:
        def __init__(self) -> None:
            self.images, self.sounds = {}, {}

        def add_image(self, name: str, image: np.ndarray, step: int) -> None:
            self.images[name] = image

        def add_audio(self, name: str, wav: torch.Tensor, step: int, rate: int) -> None:
            self.sounds[name] = wav

    writer = Writer()
    with torch.no_grad():
        experiment.preview(build_unet(HP, 90).eval(), writer, 0)
    assert set(writer.images) == {"vocal", "draft", "prefix", "gap", "truth"}
    truth, gap = writer.sounds["truth/vocal"], writer.sounds["gap/vocal"]
    start = int(0.4 * HP.window)
    assert torch.equal(gap[:start], truth[:start]) and not torch.equal(gap, truth)


def test_a_run_can_begin_with_the_weights_and_the_scale_of_another(
    feature_dir: Path, tmp_path: Path
) -> None:
    save = tmp_path / "save"
    assert train_inpainter.main(flags(feature_dir, save, "--steps", "2")) == 0
    first = save / "inpainter" / "r" / "last.pt"
    state = checkpoint.load(first, "inpainter")
    state["data"]["statistics"]["mel"] = {"mean": [0.5] * 80, "std": [2.0] * 80}
    checkpoint.save(first, state)
    other = flags(feature_dir, tmp_path / "other", "--steps", "0", "--start-from", str(first))
    assert train_inpainter.main(other) == 0
    begun = checkpoint.load(tmp_path / "other" / "inpainter" / "r" / "last.pt", "inpainter")
    weights = checkpoint.weights(state)
    assert all(torch.equal(begun["model"][name], value) for name, value in weights.items())
    assert begun["data"]["statistics"]["mel"] == state["data"]["statistics"]["mel"]


def test_missing_corpora_and_wrong_kinds_are_said(
    feature_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = flags(tmp_path / "nowhere", tmp_path / "save")
    assert train_inpainter.main(arguments) == 2
    assert "prepare_data.py" in capsys.readouterr().err
    rate = ["--set", "audio.sample_rate=22050"]
    assert train_inpainter.main(flags(feature_dir, tmp_path / "save", *rate)) == 2
    assert "22050" in capsys.readouterr().err


def test_a_step_reads_nothing_from_its_device(store: StemStore, monkeypatch) -> None:
    hp = tiny_chain.SHAPED
    experiment = InpainterExperiment(hp, store, torch.device("cpu"))
    batch = batch_of(experiment, 3)
    score = experiment.contexts.score(batch.ids, batch.starts, hp.window // hp.audio.hop_length)
    monkeypatch.setattr(experiment.contexts, "score", lambda *given: score)  # host
    context = seeded_context(0, 1, 0, batch.wav.device)
    experiment.loss(experiment.model, batch, context)  # what is made once is made
    with NoReading():
        terms = experiment.loss(experiment.model, batch, context)
        terms["denoising"].total.backward()
    assert torch.isfinite(terms["denoising"].total)
    unreached = {n for n, p in experiment.model.named_parameters() if p.grad is None}
    assert unreached == experiment.unused_parameters()  # ranks share the others' gradients


def test_windows_travel_and_their_starts_stay(experiment: InpainterExperiment) -> None:
    batch = batch_of(experiment, 2).to("meta")
    assert batch.wav.device.type == "meta" and batch.starts.device.type == "cpu"
