"""train_postnet.py --preset source and a voice with that PostNet, at tiny size."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny import TINY
from tiny_chain import Run, music, save, write
from tiny_corpora import harmonic_songs

import prepare_data
import train_postnet
from music.midi import write_midi
from music.score import Lyric, Melody, Note, TempoMap
from network import build_postnet
from singing.chain import linear_of
from utils import checkpoint
from utils.loading import load_network
from utils.metrics import f0_track

SOURCE = replace(
    TINY, postnet=replace(TINY.postnet, kind="source", source_blocks=1, source_inner=16)
)
SMALL = ("width=16", "source_blocks=1", "source_inner=16")
KNOBS = tuple(f"postnet.{knob}" for knob in (*SMALL, "adversarial_weight=0", "feature_weight=0"))
FEW = ("batch_size=2", "segment_frames=16", "warmup_steps=2", "validate_batches=1", "log_every=1")


@pytest.fixture
def feature_dir(tmp_path: Path) -> Path:
    """Six songs prepared as corpus `x`: a voice's harmonics over noise."""
    songs = str(harmonic_songs(tmp_path / "songs", 6, 24000))
    where = ["--feature-dir", str(tmp_path / "feature"), "--workers", "0"]
    shares = ["--validation-share", "0.3", "--test-share", "0"]
    stems = ["stems", songs, "--name", "x", *shares, *where]
    assert prepare_data.main(stems) == 0
    return tmp_path / "feature"


def flags(features: Path, save_dir: Path, steps: int) -> list[str]:
    where = ["--feature-dir", str(features), "--save-dir", str(save_dir), "--device", "cpu"]
    knobs = [*KNOBS, *(f"postnet_training.{knob}" for knob in FEW)]
    sets = [part for knob in knobs for part in ("--set", knob)]
    return ["--data", "x", "--preset", "source", "--steps", str(steps), *where, *sets]


def test_it_learns_from_stems_and_goes_on(feature_dir: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert train_postnet.main(flags(feature_dir, whole, 6)) == 0
    assert train_postnet.main(flags(feature_dir, broken, 2)) == 0
    assert train_postnet.main(flags(feature_dir, broken, 6)) == 0
    a, b = (
        checkpoint.load(folder / "postnet" / "main" / "last.pt", "postnet")
        for folder in (whole, broken)
    )
    assert a["step"] == 6 and a["data"]["statistics"]["mel"]["mean"]
    text = (whole / "postnet" / "main" / "stats.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    scores = [row["validation/score"] for row in rows if "validation/score" in row]
    assert scores[-1] < scores[0]
    loaded = load_network(whole / "postnet" / "main" / "last.pt", "postnet", torch.device("cpu"))
    assert loaded.hyperparams.postnet.kind == "source"
    assert b["data"] == a["data"]


def test_it_learns_from_a_transformers_mels(
    speech_corpus, prepare, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, shares = speech_corpus(6, 16000), ("--validation-share", "0.3", "--test-share", "0")
    for name in ("stored", "on-the-fly"):
        assert prepare("ljspeech", corpus, "--name", name, "--linear", name, *shares) == 0
    taught = ["--transformer", str(weights / "transformer.pt")]

    def argv(name: str, save_dir: str, steps: int) -> list[str]:
        where = flags(tmp_path / "feature", tmp_path / save_dir, steps)
        return [*where, *taught, "--data", name]

    assert train_postnet.main(argv("stored", "refused", 1)) == 2
    assert "prepare it again with --linear on-the-fly" in capsys.readouterr().err
    assert train_postnet.main(argv("on-the-fly", "whole", 4)) == 0
    for steps in (2, 4):
        assert train_postnet.main(argv("on-the-fly", "broken", steps)) == 0
    whole, broken = (
        checkpoint.load(tmp_path / folder / "postnet" / "main" / "last.pt", "postnet")
        for folder in ("whole", "broken")
    )
    assert whole["data"]["teacher"] == str(weights / "transformer.pt")
    for name, value in whole["model"].items():
        assert torch.equal(value, broken["model"][name]), name
    mels = tmp_path / "whole" / "postnet" / "main" / "teacher_mel"
    assert len(list(mels.glob("*.npy"))) == 6


def test_discriminators_go_on_and_stay_out_of_what_is_used(
    speech_corpus, prepare, weights: Path, tmp_path: Path
) -> None:
    corpus, shares = speech_corpus(6, 16000), ("--validation-share", "0.3", "--test-share", "0")
    assert prepare("ljspeech", corpus, "--name", "x", "--linear", "on-the-fly", *shares) == 0
    knobs = ("adversarial_weight=1", "feature_weight=2", "adversarial_channels=4")
    more = [part for knob in knobs for part in ("--set", f"postnet.{knob}")]

    def run(save_dir: str, steps: int) -> int:
        argv = flags(tmp_path / "feature", tmp_path / save_dir, steps)
        return train_postnet.main([*argv, "--transformer", str(weights / "transformer.pt"), *more])

    assert run("whole", 4) == 0
    assert run("broken", 2) == run("broken", 4) == 0
    folders = [tmp_path / name / "postnet" / "main" for name in ("whole", "broken")]
    whole, broken = (checkpoint.load(folder / "last.pt", "postnet") for folder in folders)
    for part in (lambda state: state["model"], lambda state: state["discriminator"]["model"]):
        for name, value in part(whole).items():
            assert torch.equal(value, part(broken)[name]), name
    assert checkpoint.load(folders[0] / "best.pt", "postnet")["discriminator"] is None
    checkpoint.export_half(folders[0] / "last.pt", tmp_path / "half.pt")
    assert checkpoint.load(tmp_path / "half.pt", "postnet")["discriminator"] is None
    load_network(folders[0] / "last.pt", "postnet", torch.device("cpu"))
    rows = [json.loads(r) for r in (folders[0] / "stats.jsonl").read_text().splitlines()]
    terms = ("adversarial", "features", "discriminator")
    assert all(np.isfinite(rows[-2][f"train/{term}"]) for term in terms)


def test_discriminators_are_refused_where_no_waveform_is_made() -> None:
    with pytest.raises(ValueError, match="does not make"):
        replace(TINY.postnet, kind="cbhg", adversarial_weight=1.0)


def test_a_signal_to_the_whole_group_stops_a_run_with_workers(
    feature_dir: Path, tmp_path: Path
) -> None:
    argv = flags(feature_dir, tmp_path / "save", 100_000)
    run = subprocess.Popen(
        [sys.executable, "train_postnet.py", *argv, "--set", "postnet_training.batch_workers=1"],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    stats = tmp_path / "save" / "postnet" / "main" / "stats.jsonl"
    try:
        for _ in range(600):
            if run.poll() is not None or (stats.is_file() and "train/loss" in stats.read_text()):
                break
            time.sleep(0.1)
        os.killpg(run.pid, signal.SIGTERM)  # as Ctrl-C and batch systems do
        said, _ = run.communicate(timeout=60)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == 143, said
    assert "stopped by SIGTERM" in said


@pytest.fixture
def source(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "source.pt"
    save(path, "postnet", build_postnet(SOURCE), SOURCE)
    return path


@pytest.mark.usefixtures("no_picture")
def test_a_voice_with_a_source_sings_the_notes(
    run: Run, weights: Path, source: Path, tmp_path: Path
) -> None:
    notes = tuple(Note(pitch, 0.5 + 0.8 * i, 1.3 + 0.8 * i) for i, pitch in enumerate((57, 64)))
    tune = Melody(notes, (Lyric("oh"), Lyric("my")), TempoMap.constant(75.0))
    write_midi(tune, tmp_path / "tune.mid")
    voice = ("--checkpoint", weights / "singer.pt", "--postnet", source, "--inpainter", "none")
    song = write(tmp_path / "song.wav", music(2.5))
    assert run("--melody", tmp_path / "tune.mid", "--accompaniment", song, *voice) == 0
    draft, rate = soundfile.read(tmp_path / "out" / "draft.wav", dtype="float32")
    f0 = f0_track(torch.from_numpy(draft), rate).numpy()
    frame = rate / 256
    for note in notes:
        inner = f0[round((note.onset + 0.2) * frame) : round((note.offset - 0.1) * frame)]
        cents = 1200 * np.log2(np.maximum(inner, 1) / (440 * 2 ** ((note.pitch - 69) / 12)))
        folded = (cents + 600) % 1200 - 600  # random filters do not say which octave
        assert np.median(np.abs(folded)) < 60
    assert run("--lyrics", "oh my", *voice[:4], out="spoken") == 0
    spoken, _ = soundfile.read(tmp_path / "spoken" / "lyrics.wav")
    assert np.abs(spoken).max() > 0


def test_griffin_lim_is_not_fed_by_a_source(source: Path) -> None:
    loaded = load_network(source, "postnet", torch.device("cpu"))
    with pytest.raises(ValueError, match="kind cbhg"):
        linear_of(loaded, torch.zeros(1, 4, 80))


def test_postnets_that_ship_have_names(tmp_path: Path, source: Path) -> None:
    demo = tmp_path / "save" / "demo"
    demo.mkdir(parents=True)
    source.rename(demo / "source.pt")
    assert checkpoint.resolve("source", "postnet", tmp_path / "save") == demo / "source.pt"
    with pytest.raises(FileNotFoundError, match="cbhg"):
        checkpoint.resolve("cbhg", "postnet", tmp_path / "save")
