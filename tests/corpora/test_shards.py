"""A corpus prepared in shards, by jobs in any order, is that of one process byte by byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

import prepare_data
from corpora import shards


def content(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture
def prepare(tmp_path: Path):
    def run(*arguments: object, where: str = "feature", name: str = "x") -> int:
        command, *rest = map(str, arguments)
        place = ["--feature-dir", str(tmp_path / where)]
        if command == "merge":
            return prepare_data.main(["merge", name, *rest, *place])
        shares = ["--validation-share", "0.3", "--test-share", "0.1", "--workers", "0"]
        return prepare_data.main([command, *rest, "--name", name, *shares, *place])

    return run


def test_shards_equal_one_process_byte_by_byte(
    prepare, speech_corpus, tmp_path: Path, capsys
) -> None:
    corpus = speech_corpus(11)
    soundfile.write(corpus / "wavs" / "item-004.wav", np.zeros(20000), 22050)  # silent: rejected
    assert prepare("ljspeech", corpus, where="one") == 0
    for number in (2, 3, 1):
        assert prepare("ljspeech", corpus, "--shard", f"{number}/3") == 0
        assert not (tmp_path / "feature" / "x" / "index.json").exists()
    assert "python prepare_data.py merge x" in capsys.readouterr().out
    assert prepare("merge") == 0
    out = capsys.readouterr().out
    assert "10 items" in out and "item-004: silent" in out
    assert content(tmp_path / "feature" / "x") == content(tmp_path / "one" / "x")
    check = ["check", "x", "--workers", "0", "--feature-dir", str(tmp_path / "feature")]
    assert prepare_data.main(check) == 0


def test_more_shards_than_utterances(prepare, speech_corpus, tmp_path: Path) -> None:
    corpus = speech_corpus(6)
    assert prepare("ljspeech", corpus, where="one") == 0
    for number in range(1, 9):
        assert prepare("ljspeech", corpus, "--shard", f"{number}/8") == 0
    assert prepare("merge") == 0
    assert content(tmp_path / "feature" / "x") == content(tmp_path / "one" / "x")


def test_a_shard_goes_on_where_it_stopped(prepare, speech_corpus, capsys, monkeypatch) -> None:
    corpus = speech_corpus(6)
    write = shards.write_text

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shards, "write_text", killed)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        prepare_data_code = prepare("ljspeech", corpus, "--shard", "1/2")
        raise SystemExit(prepare_data_code)
    monkeypatch.setattr(shards, "write_text", write)
    assert prepare("merge") == 1
    assert "2 of 2 shards are missing" in capsys.readouterr().err
    assert prepare("ljspeech", corpus, "--shard", "1/2") == 0
    assert "3 items, 3 of them kept" in capsys.readouterr().out


def test_shards_that_do_not_belong_together_are_named(prepare, speech_corpus, capsys) -> None:
    corpus = speech_corpus(6)
    assert prepare("ljspeech", corpus, "--shard", "0/2") == 1
    assert "expected NUMBER/COUNT" in capsys.readouterr().err
    assert prepare("ljspeech", corpus, "--shard", "1/2") == 0
    assert prepare("merge") == 1
    assert "1 of 2 shards are missing or unfinished: 2-of-2" in capsys.readouterr().err
    assert prepare("ljspeech", corpus, "--shard", "2/2", "--seed", "9") == 0
    assert prepare("merge") == 1
    assert "2-of-2: another index than 1-of-2" in capsys.readouterr().err
