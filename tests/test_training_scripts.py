"""train_transformer.py and train_postnet.py as a user runs them, at tiny size."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny import TINY, TINY_FLAGS

import prepare_data
import train_postnet
import train_transformer
from corpora.stores import open_features
from network import build_transformer
from utils import checkpoint

ROOT = Path(__file__).parents[1]
SCRIPTS = {"transformer": train_transformer, "postnet": train_postnet}
FEW_FRAMES = "batch_frames=200"  # several batches per epoch of a corpus of seconds


@pytest.fixture
def features(tmp_path: Path, speech_corpus) -> Path:
    """A prepared corpus of a dozen short items."""
    directory = tmp_path / "feature"
    shares = ["--validation-share", "0.25", "--test-share", "0.1"]
    where = ["--feature-dir", str(directory), "--workers", "0"]
    assert (
        prepare_data.main(["ljspeech", str(speech_corpus(14)), "--name", "x", *shares, *where]) == 0
    )
    return directory


def flags(kind: str, features: Path, save: Path, *extra: str) -> list[str]:
    where = ["--feature-dir", str(features), "--save-dir", str(save), "--device", "cpu"]
    few = ["--set", f"{kind}_training.{FEW_FRAMES}"]
    return ["--data", "x", *TINY_FLAGS, "--run", "r", *where, *few, *extra]


def command(kind: str, arguments: list[str]) -> list[str]:
    return [sys.executable, str(ROOT / f"train_{kind}.py"), *arguments]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def model_of(save: Path, kind: str) -> dict[str, torch.Tensor]:
    return checkpoint.load(save / kind / "r" / "last.pt", kind)["model"]


@pytest.mark.parametrize("kind", SCRIPTS)
def test_a_run_logs_validates_and_carries_its_hyperparameters(
    kind: str, features: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    save = tmp_path / "save"
    assert SCRIPTS[kind].main(flags(kind, features, save, "--steps", "3", "--seed", "5")) == 0
    assert f"{kind}_training.seed: 0 -> 5" in capsys.readouterr().out
    run = save / kind / "r"
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    names = set().union(*lines)
    assert {"train/loss", "train/learning_rate", "train/gradient_norm"} <= names
    assert {"train/frames_per_second", "validation/score"} <= names
    if kind == "transformer":
        assert {"alpha/encoder", "alpha/decoder", "validation/coverage"} <= names
    for name in ("last.pt", "best.pt"):
        state = checkpoint.load(run / name, kind)
        assert state["hyperparams"][f"{kind}_training"]["seed"] == 5
        assert state["data"]["symbols"] and state["data"]["statistics"]["mel"]["mean"]
    assert list(run.glob("events.*")) and (run / "hyperparams.yaml").is_file()


@pytest.mark.parametrize("kind", SCRIPTS)
def test_killed_at_a_random_step_and_rerun_equals_uninterrupted(
    kind: str, features: Path, tmp_path: Path
) -> None:
    """kill -9, then the same command: the weights are identical, bit for bit."""
    steps = ["--steps", "14", "--set", f"{kind}_training.save_every=1"]
    steps += ["--set", f"{kind}_training.ema_decay=0.9"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert SCRIPTS[kind].main(flags(kind, features, whole, *steps)) == 0

    run = broken / kind / "r" / "stats.jsonl"
    wanted = random.randint(1, 8)
    process = subprocess.Popen(
        command(kind, flags(kind, features, broken, *steps)),
        stdout=subprocess.DEVNULL,
        env=environment(),
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if run.is_file() and f'"step": {wanted},' in run.read_text():
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it finished before it could be killed"
    at = checkpoint.load(broken / kind / "r" / "last.pt", kind)["step"]
    assert at < 14

    subprocess.run(
        command(kind, flags(kind, features, broken, *steps)), check=True, env=environment()
    )
    expected, resumed = model_of(whole, kind), model_of(broken, kind)
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


def test_words_that_are_not_understood_cost_the_score(features: Path) -> None:
    """A recogniser that hears all, one that hears nothing, and none: the score tells them apart."""

    class Listener:
        NAME = "listener"

        def __init__(self, shares: float) -> None:
            self.share, self.calls = shares, 0

        def words(self, wav: torch.Tensor, sample_rate: int) -> list[str]:
            wanted = texts[self.calls % len(texts)]
            self.calls += 1
            assert wav.ndim == 1 and len(wav) > 100 and sample_rate == 16000
            return wanted[: round(self.share * len(wanted))]

    store, hp = open_features(features, "x"), TINY
    torch.manual_seed(0)
    network = build_transformer(hp, len(store.symbols)).eval()
    texts = train_transformer.TransformerExperiment(hp, store, Listener(1.0)).words
    assert all(texts)
    with torch.no_grad():
        scores = [
            train_transformer.TransformerExperiment(hp, store, listener).validate(network)
            for listener in (None, Listener(1.0), Listener(0.0))
        ]
    assert "words" not in scores[0] and scores[1]["words"] == 0 and scores[2]["words"] == 1
    assert scores[1]["score"] == pytest.approx(scores[0]["score"])
    assert scores[2]["score"] == pytest.approx(scores[0]["score"] + 1)


def test_two_processes_train_like_one(features: Path, tmp_path: Path) -> None:
    """torchrun with two gloo processes: the losses of one process that accumulates two batches."""
    still = ["--steps", "4", "--set", "transformer.dropout=0"]
    still += ["--set", "transformer.prenet_dropout=0"]
    one, two = tmp_path / "one", tmp_path / "two"
    accumulate = ["--set", "transformer_training.accumulate=2"]
    assert train_transformer.main(flags("transformer", features, one, *still, *accumulate)) == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    launch.append("--")  # torchrun would take --run for one of its own flags
    script = [str(ROOT / "train_transformer.py"), *flags("transformer", features, two, *still)]
    subprocess.run([*launch, *script], check=True, env=environment(), timeout=240)
    losses = []
    for save in (one, two):
        text = (save / "transformer" / "r" / "stats.jsonl").read_text()
        rows = [json.loads(line) for line in text.splitlines()]
        losses.append([row["train/loss"] for row in rows if "train/loss" in row])
    assert len(losses[0]) == len(losses[1]) == 4
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_postnet_can_learn_from_the_transformers_mels(features: Path, tmp_path: Path) -> None:
    """Fine-tuning on teacher-forced mels reads the transformer's output, not the true mel."""
    save = tmp_path / "save"
    assert train_transformer.main(flags("transformer", features, save, "--steps", "2")) == 0
    teacher = save / "transformer" / "r" / "last.pt"
    extra = ["--steps", "2", "--transformer", str(teacher)]
    assert train_postnet.main(flags("postnet", features, save, *extra)) == 0
    made = sorted((save / "postnet" / "r" / "teacher_mel").glob("*.npy"))
    index = json.loads((features / "x" / "index.json").read_text())
    assert {p.stem for p in made} == {i["id"] for i in index["items"] if i["split"] != "test"}
    state = checkpoint.load(save / "postnet" / "r" / "last.pt", "postnet")
    assert state["data"]["teacher"].endswith("last.pt")


def test_a_corpus_of_another_rate_is_refused(
    features: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    extra = ["--set", "audio.sample_rate=22050"]
    assert train_postnet.main(flags("postnet", features, tmp_path / "save", *extra)) == 2
    said = capsys.readouterr().err
    assert "audio.sample_rate" in said and "16000" in said and "22050" in said


def test_a_missing_corpus_says_how_to_make_it(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = flags("transformer", tmp_path / "nowhere", tmp_path / "save")
    assert train_transformer.main(arguments) == 2
    assert "prepare_data.py" in capsys.readouterr().err


def test_a_run_can_begin_with_the_weights_of_another(features: Path, tmp_path: Path) -> None:
    save = tmp_path / "save"
    first = flags("transformer", features, save, "--steps", "2")
    assert train_transformer.main(first) == 0
    begin = ["--start-from", str(save / "transformer" / "r" / "last.pt"), "--steps", "0"]
    again = flags("transformer", features, tmp_path / "other", *begin)
    assert train_transformer.main(again) == 0
    ours, theirs = model_of(tmp_path / "other", "transformer"), model_of(save, "transformer")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_run_can_begin_at_a_step_of_another(
    features: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    save = tmp_path / "save"
    every = ["--steps", "3", "--set", "transformer_training.validate_every=1"]
    assert train_transformer.main(flags("transformer", features, save, *every)) == 0
    run = save / "transformer" / "r"
    wanted = checkpoint.weights(checkpoint.load(run / checkpoint.numbered(2)))
    begin = ["--start-from", str(run), "--step", "2", "--steps", "0"]
    assert train_transformer.main(flags("transformer", features, tmp_path / "other", *begin)) == 0
    ours = model_of(tmp_path / "other", "transformer")
    assert all(torch.equal(ours[name], wanted[name]) for name in wanted)
    capsys.readouterr()
    for wrong, said in (
        (["--start-from", str(run), "--step", "9"], "of step 9"),
        (["--step", "9"], "give --start-from RUN"),
    ):
        assert train_transformer.main(flags("transformer", features, tmp_path / "3", *wrong)) == 2
        assert said in capsys.readouterr().err


def test_two_corpora_train_as_one(features: Path, tmp_path: Path, speech_corpus) -> None:
    """And the postnet learns from the transformer's mels of both."""
    where = ["--feature-dir", str(features), "--workers", "0"]
    corpus = str(speech_corpus(8, name="second"))
    shares = ["--validation-share", "0.3", "--test-share", "0"]
    assert prepare_data.main(["ljspeech", corpus, "--name", "y", *shares, *where]) == 0
    save = tmp_path / "save"
    both = ["--data", "x,y", "--steps", "2"]
    assert train_transformer.main(flags("transformer", features, save, *both)) == 0
    taught = ["--transformer", str(save / "transformer" / "r" / "last.pt")]
    assert train_postnet.main(flags("postnet", features, save, *both, *taught)) == 0
    made = save / "postnet" / "r" / "teacher_mel"
    assert sorted(path.name for path in made.iterdir()) == ["origin.json", "x", "y"]
    # Mels of another transformer are stale: the same command makes them anew.
    before = {path: path.read_bytes() for path in made.rglob("*.npy")}
    more = ["--data", "x,y", "--steps", "3"]
    assert before and train_transformer.main(flags("transformer", features, save, *more)) == 0
    assert train_postnet.main(flags("postnet", features, save, *more, *taught)) == 0
    after = {path: path.read_bytes() for path in made.rglob("*.npy")}
    assert before.keys() == after.keys()
    assert all(before[path] != after[path] for path in before)
