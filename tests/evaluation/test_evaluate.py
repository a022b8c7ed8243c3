"""evaluate.py as a user runs it, at tiny size: interrupted, without judges, on wrong folders."""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
import torch
from tiny_chain import TINY, save, weights  # noqa: F401 (a fixture)

import evaluate
import prepare_data
from evaluation import song as evaluation_song
from evaluation import voice as evaluation_voice
from evaluation.chain import teacher_forced
from hyperparams import Hyperparams
from preprocess import TextMelBatch
from singing.chain import sharpened
from singing.voice import load_voice
from text.symbols import is_vowel
from transcription.transcribe import build_transcriber

RATE = 16000
ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def feature_dir(speech_corpus: Callable[..., Path], tmp_path: Path) -> Path:
    """A corpus `x` of six phrases, with a note for each vowel."""
    where = ["--feature-dir", str(tmp_path / "feature"), "--workers", "0"]
    shares = ["--validation-share", "0.2", "--test-share", "0.5"]
    corpus = str(speech_corpus())
    assert prepare_data.main(["ljspeech", corpus, "--name", "x", *shares, *where]) == 0
    path = tmp_path / "feature" / "x" / "index.json"
    index = json.loads(path.read_text())
    for item in index["items"]:
        seconds, symbols = item["num_samples"] / RATE, item["symbols"]
        edges = np.linspace(0, seconds, len(symbols) + 1).tolist()
        item["score"] = {
            "pitch": [60 if symbol[0].isalpha() else 0 for symbol in symbols],
            "onset": edges[:-1],
            "offset": edges[1:],
            "position": [1] * len(symbols),
            "slur": [0] * len(symbols),
            "notes": [
                [onset, offset, 60]
                for onset, offset, symbol in zip(edges, edges[1:], symbols, strict=False)
                if is_vowel(symbol)
            ],
        }
    path.write_text(json.dumps(index))
    return tmp_path / "feature"


@pytest.fixture
def song(weights: Path, feature_dir: Path, tmp_path: Path) -> Callable[..., int]:  # noqa: F811
    """The `song` command with tiny networks; flags after the first win."""

    def call(*flags: str) -> int:
        chain = [
            "--checkpoint",
            str(weights / "singer.pt"),
            "--postnet",
            str(weights / "postnet.pt"),
        ]
        where = ["--feature-dir", str(feature_dir), "--out", str(tmp_path / "out")]
        argv = ["song", "--data", "x", "--split", "test", *chain, *where, "--device", "cpu"]
        argv += ["--transcriber", "none"]
        return evaluate.main([*argv, *flags])

    return call


@pytest.fixture
def transcriber(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "transcriber.pt"
    save(path, "transcriber", build_transcriber(TINY), TINY)
    return path


def no_judge(*_: object) -> None:
    raise ImportError("it needs a package: pip install -r requirements-evaluation.txt")


def test_song_says_every_number_with_its_ceiling(
    song: Callable[..., int],
    tmp_path: Path,
    transcriber: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("mir_eval")
    assert song("--report", "1", "--limit", "2", "--transcriber", str(transcriber)) == 0
    shown = capsys.readouterr().out
    result = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert len(result["items"]) == 2
    assert set(result["items"][0]["rows"]) == set(evaluation_song.ROWS)
    ceiling, free = (result["items"][0]["rows"][row] for row in ("ceiling", "free_running"))
    assert ceiling["level_difference"] == pytest.approx(0, abs=0.05)
    assert ceiling["sharpness"] == 1 and ceiling["distance"] == 0
    assert ceiling["voicing_recall"] in (1.0, None) and ceiling["voicing_false_alarm"] in (0, None)
    assert 0 <= free["coverage"] <= 1 and free["mcd"] > 0
    assert {"note_onset", "phoneme_error_rate", "phoneme_variety"} <= set(free)
    errors, count = free["phoneme_errors"]
    assert errors / count == free["phoneme_error_rate"]
    assert "raw pitch accuracy" in shown and "free_running / ceiling" in shown
    assert "chord tones on beats" in shown  # not measured, and said so
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<audio") == 3 and page.count("<img") == 4
    assert set(re.findall("(?:src|href)=.(.{5})", page)) == {"data:"}
    assert "http" not in page and "<script" not in page


def test_restored_mels_are_a_row_and_are_compared(
    song: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = []

    class Mels:
        loaded, config = None, Hyperparams().mel_inpainting

    def restorer(*_: object) -> Callable[..., torch.Tensor]:
        def restore(id: str, draft: torch.Tensor) -> torch.Tensor:
            seen.append(draft)
            return draft + 1.0

        return restore

    monkeypatch.setattr(evaluation_song, "open_mel_inpainter", lambda *_: Mels())
    monkeypatch.setattr(evaluation_song.PhraseRestorer, "of_corpus", restorer)
    monkeypatch.setattr(evaluation_song, "describe_weights", str)
    monkeypatch.setattr(evaluation_song, "describe_voice", lambda *_: {})
    assert song("--mel-inpainter", "mel", "--limit", "2") == 0
    result = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    rows = result["items"][0]["rows"]
    assert rows["restored"]["level_difference"] > rows["free_running"]["level_difference"] + 4
    assert len(seen) == 2 and "restored - free_running, lsd" in capsys.readouterr().out


def test_song_continues_and_is_the_same(
    song: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluation_voice, "SpeechEmbedding", no_judge)
    assert song("--limit", "2") == 0
    path = tmp_path / "out" / "evaluation.json"
    whole = json.loads(path.read_text())["items"]
    journal = tmp_path / "out" / "song.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:2]) + lines[2][:30])  # interrupted in the second phrase
    judged = []
    judge = evaluation_song.SongJudge.judge

    def counted(self: evaluation_song.SongJudge, id: str) -> dict:
        judged.append(id)
        return judge(self, id)

    monkeypatch.setattr(evaluation_song.SongJudge, "judge", counted)
    assert song("--limit", "2") == 0
    assert judged == [whole[1]["id"]]
    assert json.loads(path.read_text())["items"] == whole


def test_missing_judges_are_named_with_their_command(
    song: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(evaluation_voice, "ForcedAligner", no_judge)
    monkeypatch.setattr(evaluation_voice, "SpeechEmbedding", no_judge)
    assert song("--limit", "1") == 0
    shown = capsys.readouterr()
    command = "pip install -r requirements-evaluation.txt"
    assert re.search(rf"right lyrics accepted.*not measured: .*{command}", shown.out)
    assert re.search(rf"Fréchet distance not measured: .*{command}", shown.out)
    assert re.search(r"phoneme error rate.*not measured: --transcriber none", shown.out)
    assert "without aligner" in shown.err
    assert set(json.loads((tmp_path / "out" / "evaluation.json").read_text())["missing"]) >= {
        "aligner",
        "embedding",
        "transcriber",
    }


def test_the_transcriber_that_ships_is_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, transcriber: Path
) -> None:
    for name in ("ForcedAligner", "SpeechEmbedding", "WhisperRecogniser"):
        monkeypatch.setattr(evaluation_voice, name, no_judge)
    monkeypatch.setattr(evaluation_voice, "DEMO", tmp_path)
    judges = evaluation_voice.Judges.available(TINY.audio, None)
    assert judges.transcriber is not None and judges.transcriber.path == transcriber
    assert "transcriber" not in judges.missing
    none = evaluation_voice.Judges.available(TINY.audio, Path("none"))
    assert none.transcriber is None and "train" not in none.missing["transcriber"]
    transcriber.unlink()
    missing = evaluation_voice.Judges.available(TINY.audio, None).missing["transcriber"]
    assert "python train_transcriber.py" in missing


@pytest.mark.parametrize("command", ["", *evaluate.COMMANDS])
def test_every_option_has_its_help_and_default(command: str) -> None:
    parser = evaluate.evaluation_parser()
    if command:
        (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        parser = commands.choices[command]
        assert f"python evaluate.py {command} " in parser.format_help()
    for action in parser._actions:
        assert action.help, action.dest
        if action.option_strings and not action.required and action.dest != "help":
            assert "default" in action.help, action.dest


def test_help_does_not_wait_for_torch() -> None:
    """Only argparse and light files are imported before the command line is read."""
    for script in ("evaluate", "transcribe", "plot", "benchmark"):
        code = (
            f"import sys, {script}; print({{'torch', 'matplotlib', 'librosa'}} & {{*sys.modules}})"
        )
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
        assert ran.stdout.strip() == "set()", ran.stderr


def test_song_refuses_what_it_cannot_judge(
    song: Callable[..., int], feature_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = feature_dir / "x" / "index.json"
    index = json.loads(path.read_text())
    for item in index["items"]:
        item.pop("score")
    path.write_text(json.dumps(index))
    assert song() == 2
    assert "no phrase has notes" in capsys.readouterr().err
    assert song("--data", "nowhere") == 2
    assert song("--checkpoint", "nowhere.pt") == 2


def tones(pitches: list[int], seconds: float = 0.5, late: float = 0.0) -> np.ndarray:
    """Notes one after the other, (S,), with a breath between them."""
    parts = [np.zeros(round(late * RATE))]
    for pitch in pitches:
        time = np.arange(round(seconds * RATE)) / RATE
        f0 = 440 * 2 ** ((pitch - 69) / 12)
        tone = sum(np.sin(2 * np.pi * k * f0 * time) / k for k in range(1, 6))
        parts.append(0.1 * tone * np.minimum(1, np.minimum(time, time[::-1]) / 0.02))
    return np.concatenate(parts)


def midi(path: Path, pitches: list[int], seconds: float = 0.5) -> None:
    file = mido.MidiFile(ticks_per_beat=480)
    track = mido.MidiTrack()
    track.append(mido.MetaMessage("set_tempo", tempo=500000))
    for pitch in pitches:
        track.append(mido.Message("note_on", note=pitch, velocity=80, time=0))
        track.append(mido.Message("note_off", note=pitch, time=round(seconds * 960)))
    file.tracks.append(track)
    file.save(path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three references with notes; renderings: the same, a semitone off, silence."""
    rendered, true = tmp_path / "rendered", tmp_path / "true"
    rendered.mkdir()
    true.mkdir()
    melodies = {"a": [60, 64, 67, 64], "b": [62, 65, 69, 65], "c": [55, 59, 62, 59]}
    for name, pitches in melodies.items():
        soundfile.write(true / f"{name}.wav", tones(pitches), RATE)
        midi(true / f"{name}.mid", pitches)
        (true / f"{name}.txt").write_text(f"sing {'la ' * (pitches[0] - 54)}hello\n")
        soundfile.write(true / f"{name}.accompaniment.wav", 0.3 * tones(pitches, 1.0), RATE)
    soundfile.write(rendered / "a.wav", tones(melodies["a"]), RATE)
    soundfile.write(rendered / "b.flac", tones([p + 1 for p in melodies["b"]]), RATE)
    soundfile.write(rendered / "c.wav", np.zeros(2 * RATE), RATE)
    return rendered, true


def test_a_folder_of_renderings(
    folders: tuple[Path, Path],
    tmp_path: Path,
    transcriber: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("mir_eval")
    rendered, true = folders
    out = tmp_path / "out"
    command = ["folder", str(rendered), "--references", str(true), "--out", str(out)]
    assert evaluate.main([*command, "--report", "3", "--transcriber", str(transcriber)]) == 0
    result = json.loads((out / "evaluation.json").read_text())
    rows = {item["id"]: item["rows"] for item in result["items"]}
    assert list(rows) == ["a", "b", "c"]
    assert rows["a"]["rendered"]["pitch_accuracy"] > 0.95
    assert rows["a"]["rendered"]["mcd"] == 0 and rows["a"]["rendered"]["lsd"] == 0
    assert rows["b"]["ceiling"]["pitch_accuracy"] > 0.95
    assert rows["b"]["rendered"]["pitch_accuracy"] < 0.05
    assert rows["b"]["rendered"]["pitch_rmse"] > 90
    assert rows["c"]["rendered"]["pitch_accuracy"] == 0
    assert rows["c"]["rendered"]["voicing_recall"] == 0
    assert rows["a"]["floor"]["pitch_accuracy"] < 0.1  # b's rendering under a's notes
    assert all("coverage" not in row for row in rows["a"].values())
    shown = capsys.readouterr().out
    assert "3 recordings" in shown and "mel-cepstral distortion" in shown
    assert str(tmp_path) not in (out / "report.html").read_text()
    assert (out / "report.html").read_text().count("<audio") == 6


def test_what_one_recording_alone_cannot_show(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No floor, no plural, and a reason for each number that its reference does not allow."""
    rendered, true = folders
    for path in (rendered / "b.flac", rendered / "c.wav", true / "a.mid", true / "a.txt"):
        path.unlink()
    command = ["folder", str(rendered), "--references", str(true), "--transcriber", "none"]
    assert evaluate.main([*command, "--out", str(tmp_path / "out"), "--report"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("1 recording of ") and "nan" not in shown
    (item,) = json.loads((tmp_path / "out" / "evaluation.json").read_text())["items"]
    assert set(item["rows"]) == {"ceiling", "rendered"}
    if importlib.util.find_spec("pocketsphinx"):
        assert re.search(r"lyrics accepted.*not measured: no reference has NAME.txt", shown)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "1 recordings" not in page and ">nan" not in page.lower()


def test_folders_that_do_not_match(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rendered, true = folders

    def error(*flags: str) -> str:
        out = str(tmp_path / "out")
        assert evaluate.main(["folder", *flags, "--out", out]) == 2
        return capsys.readouterr().err

    (true / "b.wav").unlink()
    assert "no recording called b" in error(str(rendered), "--references", str(true))
    assert "no folder" in error(str(tmp_path / "x"), "--references", str(true))
    (tmp_path / "empty").mkdir()
    assert "holds no recording" in error(str(tmp_path / "empty"), "--references", str(true))
    soundfile.write(true / "b.wav", tones([60]), RATE)
    soundfile.write(rendered / "b.wav", tones([60]), RATE)
    assert "have one name" in error(str(rendered), "--references", str(true))


def test_speech_continues_too(
    weights: Path,  # noqa: F811
    feature_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("pocketsphinx")
    argv = ["speech", "--data", "x", "--feature-dir", str(feature_dir), "--device", "cpu"]
    argv += ["--checkpoint", str(weights / "transformer.pt"), "--limit", "2"]
    argv += ["--postnet", str(weights / "postnet.pt"), "--out", str(tmp_path / "out")]
    assert evaluate.main(argv) == 0
    first = (tmp_path / "out" / "evaluation.json").read_text()
    result = json.loads(first)
    for row, kinds in result["metrics"]["pocketsphinx_errors"].items():
        pairs = [item["rows"][row]["pocketsphinx_errors"] for item in result["items"]]
        errors, words = zip(*pairs, strict=True)
        assert kinds["value"]["value"] == pytest.approx(100 * sum(errors) / sum(words))
    assert set(result["metrics"]["coverage"]) == {"free_running"}
    assert "word error rate, pocketsphinx (%)" in capsys.readouterr().out
    assert evaluate.main(argv) == 0
    assert (tmp_path / "out" / "evaluation.json").read_text() == first
    path = feature_dir / "x" / "index.json"
    index = json.loads(path.read_text())
    index["items"] = [item for item in index["items"] if item["split"] == "test"][:1]
    path.write_text(json.dumps(index))
    assert evaluate.main(argv) == 0  # its own text is no floor
    (item,) = json.loads((tmp_path / "out" / "evaluation.json").read_text())["items"]
    assert "floor" not in item["rows"]
    assert "floor not measured" in capsys.readouterr().out


def test_teacher_forcing_gets_the_postfilter_of_synthesis(weights: Path) -> None:  # noqa: F811
    """Else the two rows differ in the postfilter and not in the history alone."""
    voice = load_voice(weights / "transformer.pt", weights / "postnet.pt", CPU)
    symbols = torch.tensor([[1, 2, 3, 4]])
    lengths, frames = torch.tensor([4]), torch.tensor([30])
    batch = TextMelBatch(["a"], symbols, lengths, torch.randn(1, 30, 80), frames, None)

    def forced(amount: float) -> torch.Tensor:
        knobs = replace(voice.hyperparams.synthesis, sharpening=amount)
        changed = replace(voice, hyperparams=replace(voice.hyperparams, synthesis=knobs))
        return teacher_forced(changed, batch, 0).mel

    raw, filtered = forced(0.0), forced(0.5)
    assert torch.equal(filtered, sharpened(raw[None], frames, 0.5, 2.0)[0])
    assert not torch.equal(filtered, raw)


def test_curves_of_any_run_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = {"step": 1, "time": 0.0, "train/loss": 0.5}
    by_level = {"step": 1, "time": 0.0, "validation/sigma_0.5": 0.4}
    for name, line in {"speech": plain, "songs": by_level}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "stats.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
        out = tmp_path / f"{name}.png"
        assert evaluate.main(["curves", str(tmp_path / name), "--out", str(out)]) == 0
        assert out.read_bytes().startswith(b"\x89PNG")
    assert evaluate.main(["curves", str(tmp_path / "none")]) == 2
    assert "a training run writes it" in capsys.readouterr().err
