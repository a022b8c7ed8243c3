"""Takes: many sung as one batch, each what its seed sings alone, the best written first."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import TINY
from tiny_chain import Run, integers, save

from singing import takes as takes_file
from singing.takes import WEIGHTS, rank_performances, total
from singing.voice import Phrase
from transcription.labels import PHONEME_CLASSES, phoneme_class
from transcription.network import TranscriberNet
from transcription.note_decoding import TranscribedNote
from transcription.take_judge import TakeJudge, note_f1, path_log_ratio, phrase_scores
from transcription.transcribe import Transcribed

QUICK = ("--set", "synthesis.griffin_lim_iterations=1", "--set", "synthesis.sharpening=0")


@pytest.fixture
def judge(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The flag that names a tiny transcriber with random weights."""
    path = tmp_path_factory.mktemp("judge") / "transcriber.pt"
    torch.manual_seed(1)
    save(path, "transcriber", TranscriberNet(TINY.transcriber, TINY.audio.sample_rate), TINY)
    return "--transcriber", path


def report_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())


@pytest.fixture
def tune(tmp_path: Path, weights: Path, judge: tuple[str, Path]) -> tuple[Any, ...]:
    """The flags of a melody file of two phrases, sung alone."""
    from music.midi import write_midi
    from music.score import Lyric, Melody, Note, TempoMap

    onsets = (1.0, 1.5, 2.0, 6.0, 6.5, 7.0)
    words = ["oh", "come", "home", "to", "me", "now"]
    notes = tuple(Note(60 + i, onset, onset + 0.45) for i, onset in enumerate(onsets))
    path = tmp_path / "tune.mid"
    write_midi(Melody(notes, tuple(map(Lyric, words)), TempoMap.constant(120.0)), path)
    return ("--melody", path, "--checkpoint", weights / "singer.pt", *judge, *QUICK)


def test_performances_are_ranked_phrase_by_phrase(
    run: Run, tune: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The k-th best of every phrase makes take k, and each phrase is what its seed sings alone."""
    wanted = iter([[0.2, 0.9], [0.8, 0.1], [0.5, 0.5]])  # by take, of the two phrases
    flat = iter([value for take in wanted for value in take])
    heard: list[torch.Tensor] = []

    def score(self: TakeJudge, rendered: Any, sample_rate: int) -> dict[str, float]:
        assert sample_rate == 16000
        heard.append(rendered.wav)
        return dict.fromkeys(WEIGHTS, next(flat))

    monkeypatch.setattr(TakeJudge, "__call__", score)
    assert run(*tune, "--takes", 3, "--keep", 2, "--seed", 5) == 0
    out = tmp_path / "out"
    report, second = report_of(out), report_of(out / "take-2")
    takes = report["takes"]
    assert [t["phrase_seeds"] for t in takes["ranked"]] == [[6, 6], [7, 8], [5, 7]]
    assert [t["score"] for t in takes["ranked"]] == pytest.approx([0.85, 0.5, 0.15])
    assert report["phrase_seeds"] == [6, 6] and second["phrase_seeds"] == [7, 8]
    assert (takes["rank"], second["takes"]["rank"]) == (1, 2)
    assert "transcriber" in takes["judge"] and not (out / "take-3").exists()
    assert [line["seed"] for line in report["lines"]] == [6, 6]
    vocal = torch.from_numpy(integers(out / "vocal.wav")[:, 0] / 2.0**31).float()
    starts = [round(line["start"] * 16000) for line in report["lines"]]
    for start, chosen in zip(starts, (heard[2], heard[1]), strict=True):
        inner = slice(512, len(chosen) - 512)  # without the fades
        assert torch.allclose(vocal[start:][: len(chosen)][inner], chosen[inner], atol=1e-3)


@pytest.mark.usefixtures("no_picture")
def test_a_take_of_a_melody_is_what_its_seed_sings(
    run: Run, weights: Path, judge: tuple[str, Path], tmp_path: Path
) -> None:
    import soundfile
    from tiny_chain import write

    examples = Path(__file__).resolve().parents[2] / "examples"
    wav, rate = soundfile.read(examples / "evening-sun.ogg", frames=8 * 22050)
    song = write(tmp_path / "song.wav", wav, rate)
    flags = ("--lyrics", "oh come home\nto me now", "--accompaniment", song, *judge, *QUICK)
    flags = (*flags, "--checkpoint", weights / "singer.pt", "--inpainter", "none")
    flags = (*flags, "--set", "composer.fill=rest")
    assert run(*flags, "--takes", 3, "--keep", 3, out="takes") == 0
    folders = [tmp_path / "takes", *(tmp_path / "takes" / f"take-{k}" for k in (2, 3))]
    reports = [report_of(folder) for folder in folders]
    ranked = reports[0]["takes"]["ranked"]
    assert {report["seed"] for report in reports} == {0, 1, 2}
    assert [report["seed"] for report in reports] == [take["seed"] for take in ranked]
    scores = [take["score"] for take in ranked]
    assert scores == sorted(scores, reverse=True)
    assert all(set(take["scores"]) >= {*WEIGHTS, "chords"} for take in ranked)
    tunes = [(folder / "topline.mid").read_bytes() for folder in folders]
    assert len(set(tunes)) == 3
    for place, report in enumerate(reports[:2]):
        name = f"alone{place}"
        assert run(*flags, "--seed", report["seed"], out=name) == 0
        alone = tmp_path / name
        assert (alone / "topline.mid").read_bytes() == tunes[place]
        waves = [integers(folder / "vocal.wav") for folder in (alone, folders[place])]
        assert np.abs(waves[0] - waves[1]).max() <= 2.0**31 * 1e-3


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--takes", 1), "--takes 1: expected 2 to 64"),
        (("--takes", 2, "--keep", 3), "--keep 3: expected 1 to the 2"),
        (("--keep", 2), "only with --takes N"),
        (("--takes", 2, "--vary", "melody"), "is what it is"),
        (("--takes", 2, "--plan"), "give one of the two"),
        (("--takes", 2, "--transcriber", "nowhere"), "no transcriber checkpoint"),
    ],
)
def test_takes_refuse(
    run: Run,
    tune: tuple[Any, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[object, ...],
    words: str,
) -> None:
    assert run(*tune, *flags) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_spoken_takes_are_refused(
    run: Run, judge: tuple[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--lyrics", "oh", "--takes", 2, *judge) == 2
    assert "these lyrics are spoken" in capsys.readouterr().err


def test_ranks_are_stable_and_weighted_by_words() -> None:
    phrase = Phrase("la", 1, ("L", "AA1"), ("la",), ((0, 1),), ())
    phrases = [phrase, replace(phrase, words=("la",) * 3)]
    scores = [[dict.fromkeys(WEIGHTS, 1.0), dict.fromkeys(WEIGHTS, 0.2)] for _ in range(2)]
    ranked = rank_performances(0, phrases, [[0, 1], [1, 2]], scores)
    assert ranked[0].phrase_seeds == (0, 1)  # equal: the first
    assert ranked[0].score == pytest.approx((1.0 + 3 * 0.2) / 4)
    assert total(dict.fromkeys(WEIGHTS, 0.4)) == pytest.approx(0.4)
    assert takes_file.MOST_TAKES >= 16


# ---------------------------------------------------------------------------- the judge

SYMBOLS = ("HH", "AH0", "L", "OW1", "|", "Y", "UW1")
WORDS = (("HH", "AH0", "L", "OW1"), ("Y", "UW1"))


def posteriors(phonemes: str, sure: float = 0.9) -> np.ndarray:
    """(T, 39) of four frames per phoneme, its class with the probability `sure`."""
    names = phonemes.split()
    rows = np.full((4 * len(names), len(PHONEME_CLASSES)), (1 - sure) / 38)
    for place, name in enumerate(names):
        rows[4 * place : 4 * place + 4, PHONEME_CLASSES.index(name)] = sure
    return rows


def test_right_words_are_liked_more_than_wrong_ones() -> None:
    right = "sil HH AH L OW sil Y UW sil"
    joined = "HH AH L OW Y UW"  # silence is optional
    for sung in (right, joined):
        assert path_log_ratio(np.log(posteriors(sung)), WORDS) == pytest.approx(0.0, abs=1e-9)
    ratios = [
        path_log_ratio(np.log(posteriors(sung)), WORDS)
        for sung in (right, right.replace("L", "N"), "sil B IY T sil G AA sil")
    ]
    assert ratios[0] > ratios[1] > ratios[2]
    assert path_log_ratio(np.log(posteriors("sil")[:3]), WORDS) == pytest.approx(np.log(1e-4))


def test_phrase_scores_fall_with_what_is_wrong() -> None:
    notes = [(0.1, 0.5, 60), (0.5, 0.9, 64)]
    rows = torch.from_numpy(posteriors("sil HH AH L OW sil Y UW sil"))
    f0 = torch.full((len(rows),), 440.0 * 2 ** ((60 - 69) / 12))
    f0[round(0.5 / 0.02) :] = 440.0 * 2 ** ((64 - 69) / 12)
    found = [TranscribedNote(0.12, 0.5, 60.2), TranscribedNote(0.47, 0.9, 63.8)]
    heard = Transcribed(rows, torch.zeros(len(rows), 3), f0, found, 0.02)
    scores = phrase_scores(heard, SYMBOLS, notes)
    assert scores == {k: pytest.approx(1.0) for k in ("words", "phonemes", "notes", "pitch")}
    late = replace(heard, notes=[TranscribedNote(0.2, 0.5, 60.0), found[1]], f0=f0 * 1.06)
    worse = phrase_scores(late, SYMBOLS, notes)
    assert worse["notes"] == 0.5 and worse["pitch"] == 0.0 and worse["words"] == scores["words"]
    assert note_f1([], []) == 1.0 and note_f1(notes, []) == 0.0
    assert phoneme_class("OW1") == PHONEME_CLASSES.index("OW")
