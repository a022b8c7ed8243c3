"""Mels of songs that stay on a device: the windows, drafts and scores of those that are read."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from no_waiting import NoReading
from tiny import FILE
from tiny_runs import resumed_equals_whole

import prepare_data
import train_inpainter
from inpainter.context import ContextMaker
from inpainter.mel_unet import MelSignal
from music.inputs import ScoreTracks
from preprocess import MelBatches, ResidentMelBatches, StemBatch, StemBatches, StemStore
from text.symbols import SYMBOL_TO_ID, SYMBOLS
from train_inpainter import InpainterExperiment
from training.experiment import seeded_context
from training.mel_drafts import KINDS, DraftStore, MelContexts
from training.resident_mels import ResidentMelContexts, ResidentSongs, SongMels, song_mels
from utils import config
from utils.seeds import torch_generator

torch.set_num_threads(1)
HP = config.build("mel", FILE, (), config.presets())
BANDS, HOP = HP.audio.n_mels, HP.audio.hop_length
FRAMES, CPU = HP.inpainter_training.segment_frames, torch.device("cpu")
SILENCE = math.log(HP.audio.log_floor)
STATISTICS = {
    name: {"mean": [-5.0] * BANDS, "std": [2.0] * BANDS} for name in ("mel", "accompaniment_mel")
}


@pytest.fixture
def store(tmp_path: Path) -> StemStore:
    """Six songs of a second."""
    rate = HP.audio.sample_rate
    for number in range(6):
        folder = tmp_path / "songs" / f"song-{number}"
        folder.mkdir(parents=True)
        wav = 0.1 * np.random.default_rng(number).standard_normal((2, rate + 300 * number))
        for stem, part in zip(("vocal", "accompaniment"), wav, strict=True):
            soundfile.write(folder / f"{stem}.wav", part, rate)
    where = ["--feature-dir", str(tmp_path / "feature"), "--workers", "0"]
    shares = ["--validation-share", "0.25", "--test-share", "0.15"]
    folder = str(tmp_path / "songs")
    assert prepare_data.main(["stems", folder, "--name", "x", *shares, *where]) == 0
    return StemStore(tmp_path / "feature" / "x")


def tracks_of(store: StemStore) -> ScoreTracks:
    score = {
        "onset": [0.1, 0.3],
        "offset": [0.3, 0.7],
        "notes": [[0.1, 0.55, 60], [0.55, 0.7, 62]],
    }
    items = [{**i, "symbols": ["AA1", "B"], "score": score} for i in store.index["items"]]
    return ScoreTracks(items, SYMBOL_TO_ID)


def resident(store: StemStore, **parts) -> ResidentSongs:
    return ResidentSongs(list(song_mels(store, HP.audio, CPU, **parts)), FRAMES, SILENCE, CPU)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_windows_are_those_that_are_read(store: StemStore, split: str) -> None:
    training, signal = HP.inpainter_training, MelSignal(HP.audio, STATISTICS)
    stems = StemBatches(store, split, training, FRAMES * HOP, prefetch=0, align=HOP)
    kept = ResidentMelBatches(store, split, training, HP.audio, resident(store), signal)
    streams = zip("abc", stems((0, 5)), kept((0, 5)), strict=False)
    pairs = [(signal_of(read, signal), cut) for _, (read, _), (cut, _) in streams]
    pairs += zip(MelBatches(stems, signal).head(2), kept.head(2), strict=True)
    inside = slice(2, FRAMES - 2)  # frames that hear nothing beyond the window
    for read, cut in pairs:
        assert read.ids == cut.ids and torch.equal(read.starts, cut.starts)
        assert torch.equal(read.lengths, cut.lengths)
        a, b = (x.wav.unflatten(2, (-1, BANDS))[:, :, inside] for x in (read, cut))
        torch.testing.assert_close(a, b, atol=4e-3, rtol=0)
        assert (read.other is None) == (cut.other is None)
        if cut.other is not None:  # it begins on the nearest frame
            assert read.other is not None and cut.other.shape == read.other.shape
            assert abs(float(cut.other.mean() - read.other.mean())) < 0.05


def signal_of(batch: StemBatch, signal: MelSignal) -> StemBatch:
    return replace(batch, wav=signal.of_audio(batch.wav))


def test_a_short_song_ends_in_silence_and_no_window_in_the_next_song(store: StemStore) -> None:
    mels = list(song_mels(store, HP.audio, CPU))
    window = 3 + max(len(song.vocal) for song in mels)
    songs = ResidentSongs(mels, window, SILENCE, CPU)
    rows = songs.rows([song.id for song in mels[:2]], [0, 0], window)
    assert rows[0, -1] + 1 == rows[1, 0] == songs.first[mels[1].id]
    mel, length = songs.mel("vocal", rows)[0], len(mels[0].vocal)
    torch.testing.assert_close(mel[:length], mels[0].vocal, atol=5e-3, rtol=1e-3)
    assert mel[:length].amax() > SILENCE + 3
    torch.testing.assert_close(
        mel[length:], torch.full_like(mel[length:], SILENCE), atol=5e-3, rtol=0
    )
    with pytest.raises(ValueError, match="0 or more"):
        songs.rows([mels[0].id], [-1], FRAMES)


def test_songs_that_have_not_all_the_same_are_refused() -> None:
    mel = torch.zeros(FRAMES, BANDS)
    songs = [SongMels("a", mel, mel), SongMels("b", mel, mel, pitch=torch.zeros(FRAMES))]
    with pytest.raises(ValueError, match=r"b has .*pitch"):
        ResidentSongs(songs, FRAMES, SILENCE, CPU)


def test_contexts_are_those_that_are_read(store: StemStore, tmp_path: Path) -> None:
    ids = [item["id"] for item in store.index["items"]]
    folder, random = tmp_path / "drafts", np.random.default_rng(0)
    for kind in KINDS:
        (folder / kind).mkdir(parents=True)
        for item in store.index["items"]:
            shape = (-(-item["num_samples"] // HOP), BANDS)
            mel = random.standard_normal(shape).astype(np.float16)
            np.save(folder / kind / f"{item['id']}.npy", mel)
    (folder / "index.json").write_text(json.dumps({"silence": SILENCE, "songs": ids}))
    drafts, tracks = DraftStore(folder), tracks_of(store)
    parts = ["mel", "phoneme", "pitch", "voicing"]
    data = {"symbols": list(SYMBOLS), "context": parts, "statistics": STATISTICS}
    maker = ContextMaker(HP.audio, data)
    songs = resident(store, tracks=tracks, drafts=drafts)
    given = maker, HP.audio, HP.diffusion
    read = MelContexts(*given, tracks, drafts)
    cut = ResidentMelContexts(*given, songs, drafts)
    vocal, starts = torch.zeros(12, FRAMES * BANDS), torch.arange(12) * HOP
    a, b = (c(vocal, ids[:2] * 6, starts, torch_generator(3)) for c in (read, cut))
    assert a.present().keys() == b.present().keys() == set(parts)
    for name in ("phoneme", "pitch", "voicing"):
        assert torch.equal(getattr(a, name), getattr(b, name))
    assert a.mel is not None and b.mel is not None and a.pitch is not None
    torch.testing.assert_close(a.mel, b.mel)  # of the same kinds
    assert a.pitch.unique().tolist() == [0, 60, 62]


def test_a_step_reads_nothing_from_its_device(store: StemStore, monkeypatch) -> None:
    training = replace(HP.inpainter_training, corpus_on_device=True)
    alone = replace(HP.diffusion, alone_share=0.5)  # one of two items is moved
    hp = replace(HP, inpainter_training=training, diffusion=alone)
    experiment = InpainterExperiment(hp, store, CPU)
    assert isinstance(experiment.training_batches, ResidentMelBatches)
    batch, _ = next(iter(experiment.batches((0, 0))))
    frames = experiment.contexts.frames_of(batch.starts)  # of the host's numbers
    monkeypatch.setattr(experiment.contexts, "frames_of", lambda starts: frames[: len(starts)])
    context = seeded_context(0, 1, 0, CPU)
    experiment.loss(experiment.model, batch, context)  # what is made once is made
    with NoReading():
        terms = experiment.loss(experiment.model, batch, context)
        terms["denoising"].total.backward()
    assert torch.isfinite(terms["denoising"].total)


def flags(feature_dir: Path, save: Path, *extra: str) -> list[str]:
    where = ["--feature-dir", str(feature_dir), "--save-dir", str(save), "--device", "cpu"]
    knobs = ["--set", "unet.mel=80", "--set", "inpainter_training.corpus_on_device=true"]
    knobs += ["--set", "diffusion.alone_share=0.25"]  # of two items: one of every other step
    return ["--data", "x", "--preset", "mel", "--config", str(FILE), *knobs, *where, *extra]


def test_stopped_and_resumed_equals_uninterrupted(
    store: StemStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InpainterExperiment, "preview", lambda *_: None)
    steady = ["--run", "r", "--set", "inpainter_training.schedule=constant"]
    feature_dir = store.directory.parent
    resumed_equals_whole(train_inpainter.main, flags, feature_dir, tmp_path, 3, steady)
