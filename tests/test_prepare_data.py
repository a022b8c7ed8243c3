"""The command line on small corpora: faults, restarts, checks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import prepare_data
from corpora import speech
from hyperparams import Audio
from utils.audio import Features, read_wav

torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]


def index_of(tmp_path: Path, name: str = "x") -> dict:
    return json.loads((tmp_path / "feature" / name / "index.json").read_text(encoding="utf-8"))


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*.npy")}


def test_the_features_are_those_of_the_recordings(
    tmp_path: Path, speech_corpus, prepare, capsys
) -> None:
    corpus = speech_corpus(6)
    assert prepare("ljspeech", corpus, "--name", "x", "--validation-share", "0.3") == 0
    said = capsys.readouterr().out
    assert "6 items" in said and "MB per hour of audio" in said and "skipped: 0 items" in said
    assert "converted: 6 recordings from 22050 Hz to 16000 Hz" in said
    index = index_of(tmp_path)
    item = index["items"][2]
    wav, _ = read_wav(corpus / "wavs" / f"{item['id']}.wav", 16000)
    mel, linear = Features(Audio())(wav[None])
    stored = np.load(tmp_path / "feature" / "x" / "mel" / f"{item['id']}.npy")
    assert stored.shape == (item["num_frames"], 80) and item["num_samples"] == len(wav)
    assert np.abs(stored - mel[0].numpy()).max() < 0.01
    stored = np.load(tmp_path / "feature" / "x" / "linear" / f"{item['id']}.npy")
    assert np.abs(stored - linear[0].numpy()).max() < 0.01
    train = [i["id"] for i in index["items"] if i["split"] == "train"]
    mels = [np.load(tmp_path / "feature" / "x" / "mel" / f"{id}.npy") for id in train]
    whole = np.concatenate(mels).astype(np.float64)
    assert np.allclose(index["statistics"]["mel"]["mean"], whole.mean(axis=0), rtol=1e-9)
    assert np.allclose(index["statistics"]["mel"]["std"], whole.std(axis=0), rtol=1e-9)
    assert item["symbols"][:3] == ["S", "IH1", "NG"]
    assert prepare("check", "x") == 0


def test_every_faulty_recording_is_named_and_skipped(
    tmp_path: Path, speech_corpus, prepare, capsys
) -> None:
    corpus = speech_corpus(12)
    wavs = corpus / "wavs"
    good, rate = soundfile.read(wavs / "item-000.wav")
    (wavs / "item-001.wav").unlink()
    (wavs / "item-002.wav").write_bytes(b"RIFF nonsense")
    soundfile.write(wavs / "item-003.wav", np.zeros(0), rate)
    soundfile.write(wavs / "item-004.wav", good[:700], rate)
    soundfile.write(wavs / "item-005.wav", np.clip(good * 20, -1, 1), rate)
    broken = good.copy()
    broken[5] = np.nan
    soundfile.write(wavs / "item-006.wav", broken, rate, subtype="FLOAT")
    soundfile.write(wavs / "item-007.wav", good * 1e-5, rate)
    content = (wavs / "item-008.wav").read_bytes()
    (wavs / "item-008.wav").write_bytes(content[: len(content) // 2])
    soundfile.write(wavs / "item-009.wav", good[:4000], rate)
    table = (
        (corpus / "metadata.csv")
        .read_text()
        .replace(
            "item-009|come home now|come home now",
            "item-009|long|in no more than a fraction of a second nobody says a sentence like this",
        )
    )
    table += "../x|up|up\nitem-000|twice|twice\nitem-012|one|too|many\n"
    (corpus / "metadata.csv").write_text(
        table.replace("item-011|hello again|hello again", "item-011|你好|你好")
    )
    assert prepare("ljspeech", corpus, "--name", "x") == 0
    skipped = {skip["id"]: skip["reason"] for skip in index_of(tmp_path)["skipped"]}
    expected = {
        "item-001": "no recording",
        "item-002": "not readable as audio",
        "item-003": "no samples",
        "item-004": "too short",
        "item-005": "clipped",
        "item-006": "NaN",
        "item-007": "silent",
        "item-008": "cut off",
        "item-009": "nobody speaks as fast",
        "item-011": "",
        "../x": "path",
        "item-000": "stands already in row 1",
        "item-012": "4 columns",
    }
    assert skipped.keys() == expected.keys()
    assert all(reason in skipped[id] for id, reason in expected.items())
    assert [item["id"] for item in index_of(tmp_path)["items"]] == ["item-000", "item-010"]
    said = capsys.readouterr().out
    assert all(f"  {id}: " in said for id in expected)
    assert not (tmp_path / "feature" / "x.npy").exists()
    assert prepare("check", "x") == 0
    assert prepare("ljspeech", corpus, "--name", "strict", "--strict") == 1
    assert "--strict: 5 items are faulty" in capsys.readouterr().err  # before any sound is read
    assert not (tmp_path / "feature" / "strict" / "index.json").exists()


def test_strict_is_fatal_for_a_faulty_recording_too(
    tmp_path: Path, speech_corpus, prepare, capsys
) -> None:
    corpus = speech_corpus(3)
    (corpus / "wavs" / "item-001.wav").write_bytes(b"")
    assert prepare("ljspeech", corpus, "--name", "x", "--strict") == 1
    assert "item-001" in capsys.readouterr().err
    assert not (tmp_path / "feature" / "x" / "index.json").exists()


def test_a_stereo_corpus_of_another_rate_and_other_audio_settings(
    tmp_path: Path, speech_corpus, prepare, capsys
) -> None:
    corpus = speech_corpus(3, sample_rate=44100)
    for path in (corpus / "wavs").iterdir():
        wav, rate = soundfile.read(path)
        soundfile.write(path, np.stack([wav, 0.5 * wav], axis=1), rate)
    assert prepare("ljspeech", corpus, "--name", "x", "--set", "audio.n_mels=40") == 0
    said = capsys.readouterr().out
    assert "audio.n_mels: 80 -> 40" in said
    assert "3 recordings from 2 channels to mono" in said
    assert len(index_of(tmp_path)["statistics"]["mel"]["mean"]) == 40
    assert prepare("check", "x") == 0


def test_only_what_changed_is_made_again(tmp_path: Path, speech_corpus, prepare, capsys) -> None:
    corpus = speech_corpus(5)
    command = ("ljspeech", corpus, "--name", "x")
    assert prepare(*command) == 0
    first = index_of(tmp_path)
    capsys.readouterr()
    assert prepare(*command) == 0
    assert "0 made, 5 kept" in capsys.readouterr().out
    assert index_of(tmp_path) == first

    wav, rate = soundfile.read(corpus / "wavs" / "item-002.wav")
    soundfile.write(corpus / "wavs" / "item-002.wav", 0.9 * wav, rate)
    (tmp_path / "feature" / "x" / "mel" / "item-003.npy").write_bytes(b"damaged")
    (tmp_path / "feature" / "x" / "linear" / "item-004.npy").unlink()
    assert prepare(*command) == 0
    assert "3 made, 2 kept" in capsys.readouterr().out
    changed = [
        new["id"]
        for new, old in zip(index_of(tmp_path)["items"], first["items"], strict=True)
        if new != old
    ]
    assert changed == ["item-002"]

    assert prepare(*command, "--set", "audio.log_floor=1e-4") == 0
    assert "5 made, 0 kept" in capsys.readouterr().out
    (corpus / "metadata.csv").write_text("item-000|sing|sing\n")
    assert prepare(*command) == 0
    assert "removed: 8 arrays" in capsys.readouterr().out
    assert index_of(tmp_path)["items"][0]["symbols"][:3] == ["S", "IH1", "NG"]
    assert len(contents(tmp_path / "feature" / "x")) == 2


def test_a_growing_corpus_moves_nobody_to_another_split(
    tmp_path: Path, speech_corpus, prepare
) -> None:
    shares = ("--validation-share", "0.3", "--test-share", "0.3", "--seed", "4")
    assert prepare("ljspeech", speech_corpus(6, name="small"), "--name", "x", *shares) == 0
    before = {item["id"]: item["split"] for item in index_of(tmp_path)["items"]}
    assert prepare("ljspeech", speech_corpus(9, name="large"), "--name", "x", *shares) == 0
    after = {item["id"]: item["split"] for item in index_of(tmp_path)["items"]}
    assert len(after) == 9 and before.items() <= after.items()


def test_killed_half_way_it_goes_on_and_ends_the_same(
    tmp_path: Path, speech_corpus, prepare
) -> None:
    corpus = speech_corpus(40)
    features = tmp_path / "feature"
    command = [sys.executable, str(ROOT / "prepare_data.py"), "ljspeech", str(corpus)]
    command += ["--name", "killed", "--feature-dir", str(features), "--workers", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, start_new_session=True, stderr=subprocess.DEVNULL
    )
    journal, deadline = features / "killed" / "journal.jsonl", time.monotonic() + 120
    while not journal.is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (features / "killed" / "index.json").exists()
    done = len(journal.read_bytes().split(b"\n"))
    assert 1 <= done < 40
    assert prepare("ljspeech", corpus, "--name", "killed") == 0
    assert prepare("ljspeech", corpus, "--name", "whole") == 0
    assert contents(features / "killed") == contents(features / "whole")
    assert index_of(tmp_path, "killed") == index_of(tmp_path, "whole")
    assert not list(features.rglob("*.tmp"))


def test_the_number_of_workers_changes_nothing(tmp_path: Path, speech_corpus, prepare) -> None:
    corpus = speech_corpus(9)
    assert prepare("ljspeech", corpus, "--name", "one") == 0
    arguments = ["ljspeech", str(corpus), "--name", "two", "--workers", "2"]
    assert prepare_data.main([*arguments, "--feature-dir", str(tmp_path / "feature")]) == 0
    one, two = (tmp_path / "feature" / name for name in ("one", "two"))
    assert index_of(tmp_path, "one") == index_of(tmp_path, "two")
    assert contents(one) == contents(two)


def test_a_full_disk_is_fatal_and_not_a_fault_of_the_items(
    tmp_path: Path, speech_corpus, prepare, monkeypatch, capsys
) -> None:
    def refuse(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(speech, "save_array", refuse)
    assert prepare("ljspeech", speech_corpus(3), "--name", "x") == 1
    assert "No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "report"),
    [
        (lambda d: (d / "mel" / "item-001.npy").unlink(), "mel/item-001.npy is missing"),
        (lambda d: (d / "mel" / "item-001.npy").write_bytes(b"?"), "another checksum"),
        (
            lambda d: shutil.copy(d / "mel" / "item-001.npy", d / "mel" / "extra.npy"),
            "mel/extra.npy belongs to no item",
        ),
    ],
)
def test_check_finds_damaged_files(
    tmp_path: Path, speech_corpus, prepare, capsys, damage, report: str
) -> None:
    assert prepare("ljspeech", speech_corpus(3), "--name", "x") == 0
    damage(tmp_path / "feature" / "x")
    assert prepare("check", "x") == 1
    assert report in capsys.readouterr().out


@pytest.mark.parametrize(
    ("path", "value", "report"),
    [
        (("statistics", "mel", "mean", 3), 7.0, "mel mean is not that of the train split"),
        (("items", 0, "split"), "elsewhere", "not the split its id belongs to"),
        (("items", 0, "num_samples"), 99999, "frames of 99999 samples"),
        (("items", 0, "symbols"), ["HH", "?!"], "not in the symbol table"),
        (("items", 0, "id"), "item-001", "stands twice"),
    ],
)
def test_check_finds_an_index_that_lies(
    tmp_path: Path, speech_corpus, prepare, capsys, path: tuple, value: object, report: str
) -> None:
    assert prepare("ljspeech", speech_corpus(3), "--name", "x") == 0
    index = index_of(tmp_path)
    place = index
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (tmp_path / "feature" / "x" / "index.json").write_text(json.dumps(index))
    assert prepare("check", "x") == 1
    assert report in capsys.readouterr().out


def test_a_user_lexicon_decides(tmp_path: Path, speech_corpus, prepare) -> None:
    (tmp_path / "lexicon.txt").write_text("sing  Z IH1 NG\n")
    corpus = speech_corpus(3)
    assert prepare("ljspeech", corpus, "--name", "x", "--lexicon", tmp_path / "lexicon.txt") == 0
    assert index_of(tmp_path)["items"][2]["symbols"][:3] == ["Z", "IH1", "NG"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ljspeech", "absent", "--name", "x"), "expected metadata.csv"),
        (("ljspeech", "absent", "--name", "../x"), "the name is a path"),
        (("ljspeech", "absent", "--name", "x", "--test-share", "1"), "leaves something"),
        (("ljspeech", "absent", "--name", "x", "--preset", "huge"), "unknown preset"),
        (("check", "absent"), "no such index"),
    ],
)
def test_wrong_usage_is_answered_in_one_line(
    prepare, capsys, arguments: tuple[str, ...], message: str
) -> None:
    assert prepare(*arguments) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_a_corpus_without_validation_is_warned_of(speech_corpus, prepare, capsys) -> None:
    shares = ("--validation-share", "0", "--test-share", "0")
    assert prepare("ljspeech", speech_corpus(2), "--name", "x", *shares) == 0
    assert "warning: no item in validation and test" in capsys.readouterr().out
