"""The inpainter on mels: its signal, its drafts, its training from the shell, what it samples."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny import FILE
from tiny_runs import resumed_equals_whole
from torch import Tensor

import prepare_data
import train_inpainter
from hyperparams import Hyperparams
from inpainter.context import Context, ContextMaker, neighbours, places, window_mel
from inpainter.diffusion import ACCOMPANIMENT, VOCAL, denoising_loss, draw_masks
from inpainter.mel_unet import MelSignal, MelUNet1d
from inpainter.sampling import sample, window_sampler
from inpainter.windows import inpaint_song, plan_windows, read_from
from module import HARMONICS_STEP, LOWEST_HARMONICS
from preprocess import FeatureStore, MelBatches, StemStore
from text.symbols import SYMBOLS
from train_inpainter import InpainterExperiment
from training.mel_drafts import KINDS, DraftStore, MelContexts
from utils import config
from utils.audio import Features
from utils.loading import build_unet, denoiser_of, load_network
from utils.seeds import torch_generator

HP = config.build("mel", FILE, (), config.presets())
BANDS, HOP = HP.audio.n_mels, HP.audio.hop_length
FRAMES = HP.inpainter_training.segment_frames


@pytest.fixture
def feature_dir(tmp_path: Path) -> Path:
    """Eight songs of two seconds prepared as corpus `x`."""
    rate = HP.audio.sample_rate
    for number in range(8):
        folder = tmp_path / "songs" / f"song-{number:02d}"
        folder.mkdir(parents=True)
        time = np.arange(2 * rate) / rate
        wav = 0.3 * np.sin(2 * np.pi * (110 + 40 * number) * time) * np.abs(np.sin(9 * time))
        soundfile.write(folder / "vocal.wav", wav, rate)
        soundfile.write(folder / "accompaniment.wav", wav[::-1], rate)
    where = ["--feature-dir", str(tmp_path / "feature"), "--workers", "0"]
    shares = ["--validation-share", "0.25", "--test-share", "0.15"]
    folder = str(tmp_path / "songs")
    assert prepare_data.main(["stems", folder, "--name", "x", *shares, *where]) == 0
    return tmp_path / "feature"


def network_of(awake: bool, hp: Hyperparams = HP) -> MelUNet1d:
    torch.manual_seed(0)
    network = build_unet(hp, len(SYMBOLS)).eval()
    assert isinstance(network, MelUNet1d)
    if awake:  # nothing is zero any more, as after some training
        for parameter in network.parameters():
            if not parameter.detach().any():
                torch.nn.init.normal_(parameter, std=0.2)
    return network


def noise_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_presets_have_their_sizes() -> None:
    with torch.device("meta"):
        sizes = {
            name: sum(p.numel() for p in build_unet(config.preset(name), 90).parameters())
            for name in ("mel", "mel-base")
        }
    assert 3e6 < sizes["mel"] < 6e6 and 30e6 < sizes["mel-base"] < 40e6


def test_notes_are_told_the_mel_of_their_harmonics_unless_dropped() -> None:
    assert HP.unet.harmonics
    network = network_of(True)
    x, c_noise = torch.randn(2, network.in_channels, FRAMES * BANDS), torch.zeros(2)
    pitch = torch.full((2, FRAMES), 57)
    pitch[:, : FRAMES // 2] = 0
    beside = network.draft(Context(pitch=pitch), x, FRAMES * BANDS)[:, 2].unflatten(1, (-1, BANDS))
    assert network.harmonics is not None and not beside[:, : FRAMES // 2].any()
    row = round((57 - LOWEST_HARMONICS) / HARMONICS_STEP)
    torch.testing.assert_close(beside[0, -1], network.harmonics[row], atol=1e-4, rtol=0)
    half = network.draft(Context(pitch=pitch + 0.5), x, FRAMES * BANDS)[0, 2, -BANDS:]
    assert not torch.allclose(half, beside[0, -1], atol=0.1)  # fractional pitches count
    gone = {"pitch": torch.tensor([True, False])}
    with torch.no_grad():
        told = network(x, c_noise, Context(pitch=pitch))
        dropped = network(x, c_noise, Context(pitch=pitch, is_dropped=gone))
        without = network(x, c_noise, Context())
    torch.testing.assert_close(dropped[0], without[0])
    torch.testing.assert_close(dropped[1], told[1])
    assert not torch.allclose(told[0], without[0])
    plain = network_of(True, replace(HP, unet=replace(HP.unet, harmonics=False)))
    assert plain.mel_input.weight.shape[1] == network.mel_input.weight.shape[1] - BANDS
    assert set(plain.state_dict()) == set(network.state_dict())  # the table is no weight


def test_checkpoints_from_before_the_harmonics_are_read_without() -> None:
    stored = config.to_dict(HP)
    del stored["unet"]["harmonics"]
    assert not config.from_dict(stored, Hyperparams).unet.harmonics
    with pytest.raises(ValueError, match=r"unet\.harmonics"):
        replace(HP.unet, draft_input=False)


def test_the_signal_is_the_mel_frame_by_frame() -> None:
    statistics = {
        name: {"mean": [mean] * BANDS, "std": [2.0] * BANDS}
        for name, mean in (("mel", -5.0), ("accompaniment_mel", -4.0))
    }
    signal, wav = MelSignal(HP.audio, statistics), 0.1 * noise_of(3, 2, FRAMES * HOP)
    x = signal.of_audio(wav)
    assert x.shape == (3, 2, FRAMES * BANDS)
    mel = window_mel(Features(HP.audio), wav[:, VOCAL])
    torch.testing.assert_close(signal.frames(x[:, VOCAL]), (mel + 5) / 2)
    mel = window_mel(Features(HP.audio), wav[:, ACCOMPANIMENT])
    torch.testing.assert_close(
        x[:, ACCOMPANIMENT].view(3, FRAMES, BANDS)[1, 7], (mel[1, 7] + 4) / 2
    )


def test_masks_know_whole_frames() -> None:
    masks = draw_masks(64, FRAMES * BANDS, HP.diffusion, torch_generator(0), BANDS)
    frames = masks.is_known.unflatten(2, (-1, BANDS))
    assert masks.is_known.shape == (64, 2, FRAMES * BANDS)
    assert torch.equal(frames.all(3), frames.any(3)) and frames.any() and not frames.all()


def test_symbols_are_embedded_with_their_neighbours_and_places() -> None:
    track = torch.tensor([[5, 5, 7, 7, 7, 2]])
    before, behind = neighbours(track)
    assert before.tolist() == [[0, 0, 5, 5, 5, 7]] and behind.tolist() == [[7, 7, 2, 2, 2, 0]]
    expected = torch.tensor([0.25, 0.75, 1 / 6, 0.5, 5 / 6, 0.5])
    torch.testing.assert_close(places(track)[0, :, 0], expected)
    torch.testing.assert_close(places(track)[0, :, 1].exp(), torch.tensor([2.0, 2, 3, 3, 3, 1]))


def test_the_known_answer_of_an_untrained_network() -> None:
    """With zero output D is the posterior mean of N(draft, sigma_data²): so are the samples."""
    items, draft = 64, 1.0 + noise_of(1, FRAMES, BANDS, seed=1)
    context = Context(mel=draft.expand(items, -1, -1))
    known = torch.zeros(items, 2, FRAMES * BANDS)
    is_known = torch.zeros_like(known, dtype=torch.bool)
    is_known[:, ACCOMPANIMENT] = True
    walk = {"step": "dpmpp_2m", "num_steps": 50, "sigma_max": 200.0}
    settings = replace(HP.mel_inpainting, **walk, temperature=1.0, draft_temperature=1.0)
    generators = [torch_generator(0, item) for item in range(items)]
    denoiser = denoiser_of(network_of(awake=False), HP)
    vocal = sample(denoiser, known, is_known, settings, generators, context).x[:, VOCAL]
    error = vocal - draft.flatten(1)
    assert abs(float(error.mean())) < 0.02
    assert float(error.std()) == pytest.approx(HP.diffusion.sigma_data, rel=0.03)
    dropped = replace(context, is_dropped={"mel": torch.ones(items, dtype=torch.bool)})
    free = sample(denoiser, known, is_known, settings, generators, dropped).x[:, VOCAL]
    assert abs(float(free.mean())) < 0.02  # without the draft nothing of it is left


@pytest.mark.parametrize("ranges", [None, [(0, 5), (40, 47)]])
def test_known_frames_stay_bit_by_bit_and_batches_do_not_matter(
    ranges: list[tuple[int, int]] | None,
) -> None:
    length = 75 * BANDS
    known = noise_of(2, length)
    is_known = torch.ones(2, length, dtype=torch.bool)
    spans = None if ranges is None else [(a * BANDS, b * BANDS) for a, b in ranges]
    for start, stop in spans or [(0, length)]:
        is_known[VOCAL, start:stop] = False
    plan = plan_windows(length, FRAMES * BANDS, 8 * BANDS, spans, align=BANDS)
    denoiser, songs = denoiser_of(network_of(awake=True), HP), []
    for batch_size in (1, 3):
        generate = window_sampler(
            denoiser,
            replace(HP.mel_inpainting, num_steps=3),
            seed=3,
            context_of=lambda jobs: Context(
                mel=torch.stack([noise_of(FRAMES, BANDS, seed=job.window.start) for job in jobs])
            ),
        )
        read = read_from(torch.where(is_known, known, torch.nan), is_known)
        songs.append(torch.cat(list(inpaint_song(read, length, plan, generate, 0, batch_size)), 1))
    assert torch.equal(songs[0][is_known], known[is_known])
    assert torch.isfinite(songs[0]).all()
    torch.testing.assert_close(songs[0], songs[1], atol=1e-4, rtol=1e-4)


def test_it_learns_from_phonemes_what_the_draft_does_not_say() -> None:
    network = network_of(awake=False).train()
    denoiser = denoiser_of(network, HP)
    phoneme = torch.arange(FRAMES).div(4, rounding_mode="floor").expand(4, -1) % 6 + 1
    x = torch.zeros(4, 2, FRAMES, BANDS)
    x[:, VOCAL] = noise_of(7, BANDS, seed=2)[phoneme]
    x = x.flatten(2)
    is_known = torch.zeros_like(x, dtype=torch.bool)
    is_known[:, ACCOMPANIMENT] = True
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for step in range(40):
        sums, counts = denoising_loss(
            denoiser,
            x,
            torch.full((4,), 5.0),
            noise_of(*x.shape, seed=step),
            is_known,
            Context(phoneme=phoneme),
        )
        loss = (sums / counts).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


# ------------------------------------------------------------------------------- training


def flags(feature_dir: Path, save: Path, *extra: str) -> list[str]:
    where = ["--feature-dir", str(feature_dir), "--save-dir", str(save), "--device", "cpu"]
    preset = ["--preset", "mel", "--config", str(FILE), "--set", "unet.mel=80"]
    return ["--data", "x", *preset, "--run", "r", *where, *extra]


def test_stopped_and_resumed_equals_uninterrupted(
    feature_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InpainterExperiment, "preview", lambda *_: None)
    steady = ["--set", "inpainter_training.schedule=constant"]
    whole, _ = resumed_equals_whole(train_inpainter.main, flags, feature_dir, tmp_path, 3, steady)
    stats = (whole / "inpainter" / "r" / "stats.jsonl").read_text().splitlines()
    assert {"validation/score", "validation/shuffle_gap"} <= set().union(*map(json.loads, stats))
    loaded = load_network(whole / "inpainter" / "r" / "last.pt", "inpainter", torch.device("cpu"))
    assert isinstance(loaded.network, MelUNet1d)
    assert set(loaded.data["statistics"]) >= {"mel", "accompaniment_mel"}


def test_windows_are_signals_that_begin_on_frames(feature_dir: Path) -> None:
    experiment = InpainterExperiment(HP, StemStore(feature_dir / "x"), torch.device("cpu"))
    assert isinstance(experiment.training_batches, MelBatches)
    batch, _ = next(iter(experiment.batches((0, 0))))
    assert batch.wav.shape[1:] == (2, FRAMES * BANDS) and (batch.starts % HOP == 0).all()
    windows = torch.cat([b.wav for b in experiment.validation.head(2)])
    assert abs(float(windows.mean())) < 0.5 and 0.5 < float(windows.std()) < 1.5
    drawn = experiment.draw(batch, torch_generator(0))
    assert drawn.context.mel is not None and drawn.context.wav is None


def test_previews_are_pictures_of_mels(feature_dir: Path) -> None:
    class Writer:
        def __init__(self) -> None:
            self.images: dict[str, np.ndarray] = {}

        def add_image(self, name: str, image: np.ndarray, step: int) -> None:
            self.images[name] = image

    experiment, writer = (
        InpainterExperiment(HP, StemStore(feature_dir / "x"), torch.device("cpu")),
        Writer(),
    )
    with torch.no_grad():
        experiment.preview(experiment.model.eval(), writer, 0)
    assert set(writer.images) == {"vocal", "draft", "prefix", "gap", "truth"}


# ------------------------------------------------------------------------------- drafts


@pytest.fixture
def drafts(
    speech_corpus: Callable[..., Path], weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> tuple[DraftStore, dict[str, tuple[str, float]]]:
    """Drafts of two songs of three phrases each, by a tiny transformer; made in two runs."""
    where = ["--feature-dir", str(tmp_path / "feature"), "--workers", "0"]
    shares = ["--validation-share", "0", "--test-share", "0"]
    corpus = str(speech_corpus())
    assert prepare_data.main(["ljspeech", corpus, "--name", "book", *shares, *where]) == 0
    directory = tmp_path / "feature" / "book"
    ids = [item["id"] for item in FeatureStore(directory).items("train")]
    where_sung = {id: (f"song-{n // 3}", 0.5 + 1.6 * (n % 3)) for n, id in enumerate(ids)}
    rate = HP.audio.sample_rate
    for song in ("song-0", "song-1"):
        (tmp_path / "sung" / song).mkdir(parents=True)
        for stem in ("vocal", "accompaniment"):
            wav = 0.1 * np.random.default_rng(len(stem)).standard_normal(6 * rate)
            soundfile.write(tmp_path / "sung" / song / f"{stem}.wav", wav, rate)
        phrases = [{"id": i, "start": start} for i, (s, start) in where_sung.items() if s == song]
        (directory / "songs" / song).mkdir(parents=True)
        record = json.dumps({"id": song, "phrases": phrases})
        (directory / "songs" / song / "song.json").write_text(record)
    sung = str(tmp_path / "sung")
    assert prepare_data.main(["stems", sung, "--name", "book-stems", *shares, *where]) == 0
    command = ["drafts", "book", "--transformer", str(weights / "transformer.pt"), *where]
    assert prepare_data.main([*command, "--device", "cpu"]) == 0
    folder = Path(capsys.readouterr().out.split()[-1])
    first, second = (folder / "free_running" / f"song-{n}.npy" for n in range(2))
    kept, made = first.stat().st_mtime_ns, second.read_bytes()
    second.unlink()
    assert prepare_data.main([*command, "--device", "cpu"]) == 0
    assert first.stat().st_mtime_ns == kept and second.read_bytes() == made
    return DraftStore(folder), where_sung


def test_drafts_lie_where_phrases_are_sung_and_say_whose_they_are(drafts) -> None:
    store, where_sung = drafts
    silence = np.log(HP.audio.log_floor)
    for kind in KINDS:
        song = store.window(kind, "song-1", 0, 400)
        assert song.shape == (400, BANDS) and torch.isfinite(song).all()
        starts = [round(start * HP.audio.frame_rate) for song, start in where_sung.values()][:3]
        sounds = (song > silence + 0.1).any(1)
        assert not sounds[: starts[0]].any() and all(sounds[start + 1] for start in starts)
        assert not sounds[375:].any()  # behind the end of the song
        part = store.window(kind, "song-1", starts[1], 20)
        assert torch.equal(part, song[starts[1] : starts[1] + 20])
    forced, free = (store.window(kind, "song-0", 0, 375) for kind in KINDS)
    assert not torch.equal(forced, free)
    assert len(store.index["transformer"]["sha256"]) == 32
    assert store.directory.name == store.index["transformer"]["sha256"][:12]
    store.check(["song-0", "song-1"], HP.audio)
    with pytest.raises(ValueError, match="no drafts of 1 songs, the first is song-7"):
        store.check(["song-7"], HP.audio)
    with pytest.raises(ValueError, match="hop_length"):
        store.check([], replace(HP.audio, hop_length=128))
    with pytest.raises(FileNotFoundError, match=r"prepare_data\.py drafts"):
        DraftStore(store.directory.parent)


def test_training_draws_both_kinds_of_drafts_at_their_place(drafts) -> None:
    store, _ = drafts
    statistics = {"mel": {"mean": [-5.0] * BANDS, "std": [2.0] * BANDS}}
    data = {"symbols": list(SYMBOLS), "context": ["mel"], "statistics": statistics}
    contexts = MelContexts(ContextMaker(HP.audio, data), HP.audio, HP.diffusion, None, store)
    start = torch.tensor([32 * HOP]).expand(16)
    vocal = torch.zeros(16, FRAMES * BANDS)
    mel = contexts(vocal, ["song-0"] * 16, start, torch_generator(0)).mel
    assert mel is not None
    expected = [(store.window(kind, "song-0", 32, FRAMES) + 5) / 2 for kind in KINDS]
    kinds = [next(k for k, e in enumerate(expected) if torch.allclose(row, e)) for row in mel]
    assert set(kinds) == {0, 1}
    dropped, _ = contexts.draw_dropouts(4000, torch_generator(1))
    assert dropped["mel"].float().mean() == pytest.approx(HP.diffusion.draft_dropout, abs=0.03)


def test_drafts_are_refused_for_an_inpainter_of_audio(
    feature_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    where = ["--feature-dir", str(feature_dir), "--save-dir", str(tmp_path), "--device", "cpu"]
    common = ["--data", "x", "--run", "r", "--drafts", str(tmp_path), *where]
    assert train_inpainter.main([*common, "--config", str(FILE)]) == 2
    assert "--preset mel" in capsys.readouterr().err
