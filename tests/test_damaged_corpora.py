"""Corpora: one bad file never ends a build; what was changed is noticed; one process at a time."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny import TINY_FLAGS

import train_postnet
from corpora.stores import FeatureStore
from utils.files import FolderLock

ROOT = Path(__file__).resolve().parents[1]


def change_index(path: Path, change: Callable[[dict], None]) -> None:
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


def lying_flac(path: Path, samples: int) -> None:
    """Let the header of a FLAC file promise more samples than it holds."""
    content = bytearray(path.read_bytes())
    packed = int.from_bytes(content[18:26], "big") >> 36 << 36 | samples
    content[18:26] = packed.to_bytes(8, "big")
    path.write_bytes(content)


def test_a_header_that_lies_is_one_rejection(speech_corpus, prepare, tmp_path: Path) -> None:
    corpus = speech_corpus(12)
    wav, rate = soundfile.read(corpus / "wavs" / "item-001.wav")
    (corpus / "wavs" / "item-001.wav").unlink()
    flac = corpus / "wavs" / "item-001.wav"
    soundfile.write(flac, wav, rate, format="FLAC")
    lying_flac(flac, 2**31)
    assert prepare("ljspeech", corpus, "--name", "x") == 0
    index = json.loads((tmp_path / "feature" / "x" / "index.json").read_text())
    (skipped,) = [skip for skip in index["skipped"] if skip["id"] == "item-001"]
    assert "promises" in skipped["reason"] and len(index["items"]) == 11


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index["items"][0].update(id="../../escape"),
        lambda index: index["items"][0].pop("split"),
        lambda index: index["items"].append(None),
        lambda index: index.update(items={}),
        lambda index: index.update(kind=[]),
        lambda index: index.pop("symbols"),
        lambda index: index["statistics"].pop("mel"),
        lambda index: index["statistics"]["mel"].update(std=["x"]),
        lambda index: index["audio"].pop("hop_length"),
    ],
)
def test_a_changed_index_is_named(speech_corpus, prepare, tmp_path: Path, capsys, change) -> None:
    assert prepare("ljspeech", speech_corpus(6), "--name", "x", "--validation-share", "0.3") == 0
    path = tmp_path / "feature" / "x" / "index.json"
    change_index(path, change)
    with pytest.raises(ValueError, match="index"):
        FeatureStore(path.parent)
    assert prepare("check", "x") == 1
    assert "Traceback" not in capsys.readouterr().err
    assert prepare("ljspeech", tmp_path / "corpus", "--name", "x", "--validation-share", "0.3") == 0
    assert prepare("check", "x") == 0


def test_a_changed_value_is_found_and_a_changed_journal_line_made_again(
    speech_corpus, prepare, tmp_path: Path, capsys
) -> None:
    arguments = ("ljspeech", speech_corpus(6), "--name", "x", "--validation-share", "0.3")
    assert prepare(*arguments) == 0
    directory = tmp_path / "feature" / "x"
    sound = (directory / "index.json").read_bytes()
    change_index(directory / "index.json", lambda index: index["items"][0].update(text="other"))
    assert prepare("check", "x") == 1
    assert "index.json has another checksum" in capsys.readouterr().out
    lines = (directory / "journal.jsonl").read_text().splitlines()
    record = json.loads(lines[0])
    record["num_samples"] += 1
    (directory / "journal.jsonl").write_text("\n".join([json.dumps(record), *lines[1:], '{"id"']))
    assert prepare(*arguments) == 0
    assert "1 made" in capsys.readouterr().out
    assert (directory / "index.json").read_bytes() == sound


def test_a_second_preparation_of_a_name_is_refused(
    speech_corpus, prepare, tmp_path: Path, capsys
) -> None:
    arguments = ("ljspeech", speech_corpus(6), "--name", "x", "--validation-share", "0.3")
    with FolderLock(tmp_path / "feature" / "x", "busy"):
        assert prepare(*arguments) == 1
    assert "is being prepared by another process" in capsys.readouterr().err
    assert prepare(*arguments) == 0


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups here")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_die_with_their_parent(tmp_path: Path, number: int) -> None:
    code = (
        "import os, sys, time\nsys.path.insert(0, sys.argv[1])\n"
        "from corpora.cache import run_parallel\n"
        "def work(task):\n"
        "    open(os.path.join(sys.argv[2], str(os.getpid())), 'w').close()\n"
        "    time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "    list(run_parallel(work, [1, 2], 2, 'x'))\n"
    )
    script, marks = tmp_path / "build.py", tmp_path / "pids"
    script.write_text(code)
    marks.mkdir()
    with subprocess.Popen(
        [sys.executable, str(script), str(ROOT), str(marks)],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as parent:
        stop = time.monotonic() + 120
        while len(list(marks.iterdir())) < 1 and time.monotonic() < stop:
            time.sleep(0.05)
        pids = [int(path.name) for path in marks.iterdir()]
        assert pids
        parent.send_signal(number)
        parent.wait()
    stop = time.monotonic() + 20
    while any(map(alive, pids)) and time.monotonic() < stop:
        time.sleep(0.05)
    assert not any(map(alive, pids))


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize("damage", ["shape", "nan", "pickle"])
def test_a_training_names_the_array_that_is_damaged(
    speech_corpus, prepare, tmp_path: Path, capsys, damage: str
) -> None:
    """One sentence and exit code 2, not a traceback; the same command resumes."""
    assert prepare("ljspeech", speech_corpus(6), "--name", "x", "--validation-share", "0.3") == 0
    for path in (tmp_path / "feature" / "x" / "linear").glob("*.npy"):
        array = np.load(path)
        if damage == "shape":
            np.save(path, array[:-1])
        elif damage == "nan":
            np.save(path, np.full_like(array, np.nan))
        else:
            np.save(path, np.array([{"a": 1}]), allow_pickle=True)
    where = ["--feature-dir", str(tmp_path / "feature"), "--save-dir", str(tmp_path / "save")]
    run = ["--data", "x", "--run", "r", "--device", "cpu", "--steps", "1", *TINY_FLAGS]
    run += ["--set", "postnet_training.validate_every=0"]
    assert train_postnet.main([*where, *run]) == 2
    said = capsys.readouterr().err
    assert "item-0" in said and "the same command resumes" in said and "Traceback" not in said


def test_numbers_that_count_nothing_are_refused(speech_corpus, prepare, tmp_path: Path) -> None:
    assert prepare("ljspeech", speech_corpus(6), "--name", "x", "--validation-share", "0.3") == 0
    path = tmp_path / "feature" / "x" / "index.json"
    sound = path.read_text()
    for number in ("9" * 400, "1e999", "NaN"):
        path.write_text(re.sub(r'"num_frames": \d+', f'"num_frames": {number}', sound, count=1))
        with pytest.raises(ValueError, match="index"):
            FeatureStore(path.parent)
