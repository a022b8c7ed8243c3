"""A corpus prepared in shards, by jobs in any order, is that of one process byte by byte."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from test_songbook import HELD, SHORT, needs_accompanist, needs_voice
from test_songs import song

import prepare_data
from corpora import phoneme_times, shards
from corpora.singer import Singer
from corpora.stores import StemStore
from corpora.sung_takes import sing_arrangement
from corpora.takes import arrange, take_of
from legacy.songs import FILES
from music.notation import parse_notation
from music.underlay import sing
from text.frontend import Pronouncer


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
        return prepare_data.main([command, "--name", name, *shares, *place, *rest])

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


def both_ways(prepare, tmp_path: Path, count: int, *command: object) -> None:
    """Prepare a corpus by one process and by `count` shards, and compare all files."""
    assert prepare(*command, where="one") == 0
    for number in range(count, 0, -1):
        assert prepare(*command, "--shard", f"{number}/{count}") == 0
    assert not list((tmp_path / "feature").glob("*/index.json"))
    assert prepare("merge") == 0
    assert content(tmp_path / "feature") == content(tmp_path / "one")


def test_unpronounceable_rows_are_rejected_in_their_order(
    prepare, speech_corpus, tmp_path: Path
) -> None:
    corpus = speech_corpus(7)
    rows = (corpus / "metadata.csv").read_text(encoding="utf-8").split("\n")
    rows[1], rows[4] = "item-001|ᚠᚢᚦ|ᚠᚢᚦ", "item-004|ᚠ|ᚠ"
    rows.insert(0, "nobody|is here|is here")
    (corpus / "metadata.csv").write_text("\n".join(rows), encoding="utf-8")
    both_ways(prepare, tmp_path, 3, "ljspeech", corpus)
    index = json.loads((tmp_path / "feature" / "x" / "index.json").read_text(encoding="utf-8"))
    assert [entry["id"] for entry in index["skipped"]] == ["nobody", "item-001", "item-004"]


def test_stems(prepare, tmp_path: Path, capsys) -> None:
    for number in range(5):
        folder = tmp_path / "songs" / f"song{number}"
        folder.mkdir(parents=True)
        for name, wav in zip(("vocal", "accompaniment"), song(number, 3.0), strict=True):
            wav = wav * (number != 3)  # silent: rejected
            soundfile.write(folder / f"{name}.wav", wav, 16000)
    both_ways(prepare, tmp_path, 2, "stems", tmp_path / "songs")
    assert "song3: vocal: silent" in capsys.readouterr().out
    assert len(StemStore(tmp_path / "feature" / "x").index["items"]) == 4
    level = ["--loudness", "-20"]
    assert prepare("stems", tmp_path / "songs", "--shard", "1/2", where="mixed") == 0
    assert prepare("stems", tmp_path / "songs", "--shard", "2/2", *level, where="mixed") == 0
    assert prepare("merge", where="mixed") == 1
    assert "2-of-2: another index than 1-of-2" in capsys.readouterr().err
    strict = ["stems", tmp_path / "songs", "--shard", "2/2", "--strict"]
    assert prepare(*strict, where="strict") == 1
    assert "song3" in capsys.readouterr().err


def test_published_audio(prepare, tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    for name, seeds in ((FILES["train"], range(5)), (FILES["test"], range(5, 7))):
        pairs = [[torch.from_numpy(wav).float() for wav in song(s, 2.0)] for s in seeds]
        torch.save([list(role) for role in zip(*pairs, strict=True)], tmp_path / "audio" / name)
    both_ways(prepare, tmp_path, 3, "published", tmp_path / "audio", "--test-share", "0")


@needs_voice
@needs_accompanist
def test_songbook_with_its_stems(prepare, tmp_path: Path, capsys) -> None:
    (tmp_path / "songs").mkdir()
    for name, text in (("short", SHORT), ("held", HELD), ("wordless", SHORT.split("words:")[0])):
        (tmp_path / "songs" / f"{name}.song").write_text(text, encoding="utf-8")
    command = "songbook", tmp_path / "songs", "--test-share", "0"
    both_ways(prepare, tmp_path, 2, *command)
    assert "wordless@0: " in capsys.readouterr().out
    names = {path.parent.name for path in (tmp_path / "feature").glob("*/index.json")}
    assert names == {"x", "x-stems"}
    assert len(StemStore(tmp_path / "feature" / "x-stems").index["items"]) == 2
    # A second time: the songs are there; the stems alone cannot be merged.
    for number in (1, 2):
        assert prepare(*command, "--shard", f"{number}/2") == 0
    assert prepare("merge", name="x-stems") == 1
    assert "python prepare_data.py merge x makes both" in capsys.readouterr().err
    assert prepare("merge") == 0
    assert content(tmp_path / "feature") == content(tmp_path / "one")


@needs_voice
def test_recorded_singing_with_its_stems(prepare, tmp_path: Path, capsys) -> None:
    folder, tune = tmp_path / "takes", parse_notation(HELD.strip())
    folder.mkdir()
    take = take_of("held", 0, 0, 1)
    arrangement = arrange(tune, sing(tune.melody, Pronouncer()).score, take, 60.0)
    wav = sing_arrangement(arrangement, take, Singer(), 16000).wav.numpy()
    for name, sung in (("one", wav), ("silent", 0 * wav), ("two", wav[: -len(wav) // 50])):
        soundfile.write(folder / f"{name}.wav", sung, 16000)
        (folder / f"{name}.txt").write_text(arrangement.score.text)
    soundfile.write(folder / "two_accompaniment.wav", np.roll(wav, 4000) * 0.5, 16000)
    both_ways(prepare, tmp_path, 2, "singing", folder, "--test-share", "0", "--loudness", "-20")
    assert "silent: silent.wav: silent" in capsys.readouterr().out
    assert [i["id"] for i in StemStore(tmp_path / "feature" / "x-stems").index["items"]] == ["two"]


def test_times_of_shards_come_together(prepare, speech_corpus, tmp_path: Path, monkeypatch) -> None:
    corpus = speech_corpus(5)
    assert prepare("ljspeech", corpus) == 0
    asked: list[str] = []

    def placed(task: phoneme_times.AlignmentTask) -> tuple[str, object]:
        asked.append(task.id)
        if task.id == "item-003":
            return task.id, "does not fit"
        times = [float(k) for k in range(len(task.symbols))]
        return task.id, {"onset": times, "offset": times}

    monkeypatch.setattr(phoneme_times, "align", placed)
    place = ["--feature-dir", str(tmp_path / "feature"), "--workers", "0"]
    align = ["align", "x", str(corpus), *place]
    times = tmp_path / "feature" / "x" / "phoneme_times.json"
    assert prepare_data.main(align) == 0
    one = times.read_bytes()
    times.unlink()
    asked.clear()
    for shard in ("2/2", "1/2"):
        assert prepare_data.main([*align, "--shard", shard]) == 0
    assert not times.exists() and sorted(asked) == [f"item-{k:03d}" for k in range(5)]
    asked.clear()
    assert prepare_data.main(align) == 0
    assert asked == ["item-003"] and times.read_bytes() == one
    assert not list(times.parent.glob("phoneme_times.*-of-*"))


@pytest.mark.parametrize("command", ["merge", "pack", "check"])
def test_what_cannot_be_divided_says_so(prepare, tmp_path: Path, capsys, command: str) -> None:
    place = ["--feature-dir", str(tmp_path), "--shard", "1/2"]
    assert prepare_data.main([command, "x", *place]) == 1
    assert f"{command} cannot be done in shards" in capsys.readouterr().err
