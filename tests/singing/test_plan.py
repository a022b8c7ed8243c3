"""Plans: the melody that will be sung, without a sound; edited plans are what is sung."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import mido
import pytest
import soundfile
from tiny_chain import Run, write

from music.midi_tracks import read_midi
from singing.plan import WRITTEN

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LYRICS = "morning light on the window pane\noh stay with me\nevening"
LINES = LYRICS.splitlines()


@pytest.fixture
def song(weights: Path, tmp_path: Path) -> tuple[Any, ...]:
    """The flags of a song of 12 s: words, accompaniment and a voice with notes."""
    wav, rate = soundfile.read(EXAMPLES / "evening-sun.ogg", frames=12 * 22050)
    path = write(tmp_path / "song.wav", wav, rate)
    flags = ("--lyrics", LYRICS, "--accompaniment", path, "--checkpoint", weights / "singer.pt")
    return (*flags, "--set", "composer.fill=rest")


def plan_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "plan.json").read_text())


def sung(plan: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What is sung: notes to the millisecond, their syllables, words and lines."""
    names = ("pitch", "text", "ends_word", "phonemes", "word", "line")
    return [
        (round(n["onset"], 3), round(n["offset"], 3), *(n[name] for name in names))
        for n in plan["notes"]
    ]


@pytest.mark.usefixtures("no_picture")
def test_an_accompaniment_alone_is_sung_on_a_syllable(
    run: Run,
    weights: Path,
    song: tuple[Any, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The same notes planned and sung; whoever cannot sing them is left as it is."""
    alone = song[2:]
    assert run(*alone, "--plan", out="plan") == 0
    assert "no lyrics: 'la' is sung" in capsys.readouterr().out
    assert {note["text"] for note in plan_of(tmp_path / "plan")["notes"]} == {"la"}
    quick = ("--steps", 1, "--set", "synthesis.griffin_lim_iterations=1")
    shaped = ("--inpainter", weights / "shaped.pt")
    assert run(*alone, *quick, *shaped, out="sung") == 0
    tunes = [(tmp_path / out / "topline.mid").read_bytes() for out in ("plan", "sung")]
    assert tunes[0] == tunes[1]
    capsys.readouterr()
    speaker = ("--checkpoint", weights / "transformer.pt")
    other = ("--set", "synthesis.vocalise=none")
    for place, left in enumerate((("--melody", "none"), speaker, other)):
        assert run(*alone, *quick, *shaped, *left, out=f"left-{place}") == 0
        assert "without a draft" in capsys.readouterr().out
        assert not (tmp_path / f"left-{place}" / "draft.wav").exists()


@pytest.mark.usefixtures("no_picture")
def test_a_plan_is_the_melody_that_is_sung(run: Run, song: tuple[Any, ...], tmp_path: Path) -> None:
    assert run(*song, "--plan", "--seed", 4, out="plan") == 0
    assert {path.name for path in (tmp_path / "plan").iterdir()} == set(WRITTEN)
    quick = ("--steps", 1, "--set", "synthesis.griffin_lim_iterations=1")
    assert run(*song, *quick, "--seed", 4, out="sung") == 0
    tunes = [(tmp_path / out / "topline.mid").read_bytes() for out in ("plan", "sung")]
    assert tunes[0] == tunes[1]
    plan = plan_of(tmp_path / "plan")
    report = json.loads((tmp_path / "sung" / "report.json").read_text())["melody"]
    chords = [[chord["start"], chord["name"]] for chord in plan["harmony"]["chords"]]
    assert chords == report["harmony"]["chords"]
    assert [line["text"] for line in plan["lines"]] == LINES
    assert [line["line_number"] for line in plan["lines"]] == [1, 2, 3]
    assert plan["harmony"]["chords"][-1]["end"] == plan["seconds"] == 12.0
    assert {bar[0] for bar in plan["harmony"]["bars"]} <= {"C", "F", "Am", "G", "N"}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_words_lines_and_notes_come_back_from_midi(
    run: Run, song: tuple[Any, ...], tmp_path: Path, seed: int
) -> None:
    assert run(*song, "--plan", "--seed", seed, out="first") == 0
    voice = song[4:6]
    tune = ("--melody", tmp_path / "first" / "topline.mid")
    assert run(*tune, *voice, "--plan", out="alone") == 0
    flags = [flag for flag in song if flag not in ("--lyrics", LYRICS)]
    assert run(*flags, *tune, "--plan", out="again") == 0
    first, again = plan_of(tmp_path / "first"), plan_of(tmp_path / "again")
    alone = plan_of(tmp_path / "alone")
    assert sung(first) == sung(again) == sung(alone) and alone["harmony"] is None
    assert [line["text"] for line in again["lines"]] == LINES
    assert first["harmony"] == again["harmony"]  # heard for the picture, too


def test_a_plan_is_made_without_torch(song: tuple[Any, ...], tmp_path: Path) -> None:
    """Importing it takes longer than planning a song."""
    script = (
        "import sys, synthesis; code = synthesis.main(sys.argv[1:]); "
        "sys.exit(code or ('torch' in sys.modules) * 3)"
    )
    flags = [str(flag) for flag in (*song, "--plan", "--out", tmp_path / "alone")]
    done = subprocess.run(
        [sys.executable, "-c", script, *flags], cwd=EXAMPLES.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "alone").iterdir()} == set(WRITTEN)


def test_an_edited_plan_is_sung(run: Run, song: tuple[Any, ...], tmp_path: Path) -> None:
    """Edited as an editor would: other ticks, one track, moved and new notes, a new word."""
    assert run(*song, "--plan", out="plan") == 0
    before = read_midi(tmp_path / "plan" / "topline.mid")
    file = mido.MidiFile(tmp_path / "plan" / "topline.mid", charset="utf-8")
    merged = mido.merge_tracks(file.tracks)
    for message in merged:
        message.time *= 2
        if message.type in ("note_on", "note_off"):
            message.note += 2
            message.channel = 3
        if message.type == "lyrics" and message.text.startswith("stay"):
            message.text = "go"
    edited = mido.MidiFile(type=0, ticks_per_beat=2 * file.ticks_per_beat, charset="utf-8")
    edited.tracks.append(merged)
    edited.save(tmp_path / "edited.mid")
    voice = song[4:6]
    flags = ("--melody", tmp_path / "edited.mid", *voice)
    assert run(*flags, "--set", "synthesis.griffin_lim_iterations=1", out="sung") == 0
    after = read_midi(tmp_path / "sung" / "topline.mid")
    assert [n.pitch for n in after.notes] == [n.pitch + 2 for n in before.notes]
    for old, new in zip(before.notes, after.notes, strict=True):
        assert (new.onset, new.offset) == pytest.approx((old.onset, old.offset), abs=0.002)
    words = [None if x is None else (x.text, x.continues, x.ends_line) for x in after.lyrics]
    assert ("go", False, False) in words and sum(x is not None and x[2] for x in words) == 2
    lines = json.loads((tmp_path / "sung" / "report.json").read_text())["lines"]
    assert " ".join(line["text"] for line in lines) == " ".join(LINES).replace("stay", "go")


def test_given_chords_are_composed_on(run: Run, song: tuple[Any, ...], tmp_path: Path) -> None:
    chart = tmp_path / "chords.txt"
    chart.write_text("[Verse]\nEb | Ab\nBb7 | %\n")
    assert run(*song, "--plan", "--chords", chart, out="file") == 0
    assert run(*song, "--plan", "--chords", "Eb | Ab | Bb | Bb", out="text") == 0
    plan, same = plan_of(tmp_path / "file"), plan_of(tmp_path / "text")
    assert [c["name"] for c in plan["harmony"]["chords"]][:3] == ["Eb", "Ab", "Bb"]
    assert plan["harmony"]["key"] == "Eb major" and plan["notes"] == same["notes"]
    scale = {(3 + step) % 12 for step in (0, 2, 4, 5, 7, 9, 11)}
    assert sum(n["pitch"] % 12 in scale for n in plan["notes"]) >= 0.9 * len(plan["notes"])
    assert "given chords differ" in " ".join(plan["remarks"]["note"])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--melody", "none"), "--plan shows a melody and its words"),
        (("--chords", "C | H"), "bar 2: 'H' is no chord"),
        (("--chords", "missing.txt"), "missing.txt: no such file"),
    ],
)
def test_plans_refuse(
    run: Run,
    song: tuple[Any, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    words: str,
) -> None:
    assert run(*song, "--plan", *flags) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_spoken_words_and_chords_of_nothing_are_refused(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--lyrics", "oh", "--plan") == 2
    assert "--plan shows a melody" in capsys.readouterr().err
    assert run("--lyrics", "oh", "--chords", "C") == 2
    assert "--chords: only with --accompaniment" in capsys.readouterr().err
