"""Toplines from the command line: composed, read from files, moved, and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
import soundfile
import torch
from tiny_chain import Run, integers, music, write

import synthesis
from composer.harmony import Confidence, Harmony, Key
from music.inputs import items_to_sing
from music.midi import write_midi
from music.midi_tracks import read_midi
from music.score import Lyric, Melody, Note, TempoMap
from music.underlay import lay_lyrics, sing
from singing.melody import _sung_in_regions, chord_changes
from text.frontend import Pronouncer
from text.lyrics import parse_lyrics

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ALONE = ("--inpainter", "none", "--set", "synthesis.griffin_lim_iterations=2")


@pytest.fixture
def voice(weights: Path) -> tuple[str, Path]:
    """The flag that chooses a transformer with notes."""
    return "--checkpoint", weights / "singer.pt"


@pytest.fixture
def accompaniment(tmp_path: Path) -> Path:
    """The first 10 s of the example's accompaniment: stereo, 22.05 kHz."""
    wav, rate = soundfile.read(EXAMPLES / "evening-sun.ogg", frames=10 * 22050)
    return write(tmp_path / "song.wav", wav, rate)


def melody(*pitches: int, beat: float = 0.5, words: str = "", start: float = 1.0) -> Melody:
    """One note per beat, at 60 / beat beats per minute."""
    notes = tuple(
        Note(pitch, start + i * beat, start + (i + 0.9) * beat) for i, pitch in enumerate(pitches)
    )
    texts = words.split() or [None] * len(notes)
    lyrics = tuple(None if text is None else Lyric(text) for text in texts)
    return Melody(notes, lyrics, TempoMap.constant(60.0 / beat))


def report_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())


@pytest.mark.usefixtures("no_picture")
def test_a_composed_topline_is_sung_and_written_as_midi(
    run: Run, voice: tuple[str, Path], accompaniment: Path, tmp_path: Path
) -> None:
    flags = ("--lyrics", "come home to me\nthe night is long", "--accompaniment", accompaniment)
    flags = (*flags, "--set", "composer.fill=rest")
    assert run(*flags, *voice, *ALONE, "--range", "A3-A4") == 0
    out = tmp_path / "out"
    report, tune = report_of(out), read_midi(out / "topline.mid")
    assert report["melody"]["source"] == "compose"
    assert report["melody"]["harmony"]["key"] == "C major"
    assert report["melody"]["harmony"]["tempo"] == pytest.approx(120, abs=1)
    assert "".join(x.text for x in tune.lyrics if x) == "comehometomethenightislong"
    assert len(tune.notes) == report["melody"]["notes"] == 8
    assert all(57 <= note.pitch <= 69 for note in tune.notes)
    vocal, rate = soundfile.read(out / "vocal.wav")
    song, song_rate = soundfile.read(accompaniment)
    assert rate == song_rate and len(vocal) == len(song)
    # Something sounds while notes sound, and nothing long before and after.
    first, last = tune.notes[0], tune.notes[-1]
    sounding = np.zeros(len(vocal), bool)
    sounding[max(0, int((first.onset - 0.4) * rate)) : int((last.offset + 0.3) * rate)] = True
    assert np.abs(vocal[sounding]).max() > 100 * np.abs(vocal[~sounding]).max(initial=1e-6)
    assert report["windows"] == 0 and report["inpainter"] is None
    coverage = [line["attention"]["coverage"] for line in report["lines"]]
    assert len(coverage) == len(report["lines"]) >= 1

    assert run(*flags, *voice, *ALONE, "--range", "A3-A4", out="again") == 0
    again = read_midi(tmp_path / "again" / "topline.mid")
    assert again.notes == tune.notes  # a seed is a melody
    assert run(*flags, *voice, *ALONE, "--range", "A3-A4", "--seed", 5, out="other") == 0
    assert read_midi(tmp_path / "other" / "topline.mid").notes != tune.notes


def test_the_inpainter_hears_notes_and_the_picture_has_a_roll(
    sing: Callable[..., Any], voice: tuple[str, Path], tmp_path: Path
) -> None:
    accompaniment = write(tmp_path / "short.wav", 0.1 * np.random.default_rng(0).normal(size=32000))
    write_midi(melody(60, 62, start=0.5, beat=0.4), tmp_path / "tune.mid")
    flags = ("--accompaniment", accompaniment, "--lyrics", "oh my", *voice)
    flags = (*flags, "--set", "synthesis.griffin_lim_iterations=2", "--melody")
    report = sing(*flags, tmp_path / "tune.mid")
    first = integers(tmp_path / "out" / "vocal.wav")
    assert report["windows"] > 0 and report["melody"]["notes"] == 2
    sing(*flags, tmp_path / "tune.mid", "--transpose", 5, out="higher")
    higher = integers(tmp_path / "higher" / "vocal.wav")
    assert not np.allclose(first, higher, atol=2**22)  # pitch is part of the context
    tune = read_midi(tmp_path / "higher" / "topline.mid")
    assert [note.pitch for note in tune.notes] == [65, 67]
    assert (tmp_path / "out" / "song.png").stat().st_size > 20_000


def test_a_melody_file_is_sung_alone(run: Run, voice: tuple[str, Path], tmp_path: Path) -> None:
    write_midi(melody(60, 64, 67, words="now we sing"), tmp_path / "tune.mid")
    quick = ("--set", "synthesis.griffin_lim_iterations=2")
    assert run("--melody", tmp_path / "tune.mid", *voice, *quick) == 0
    out = tmp_path / "out"
    tune = read_midi(out / "topline.mid")
    assert [x.text for x in tune.lyrics] == ["now", "we", "sing"]
    assert tune.notes[0].onset == pytest.approx(1.0, abs=1e-3)
    seconds = soundfile.info(out / "vocal.wav").duration
    assert tune.notes[-1].offset < seconds < tune.notes[-1].offset + 0.5
    assert run("--melody", tmp_path / "tune.mid", "--tempo", 60, *voice, *quick, out="slow") == 0
    slow = read_midi(tmp_path / "slow" / "topline.mid")
    assert [note.onset for note in slow.notes] == pytest.approx([2.0, 3.0, 4.0], abs=2e-3)
    # Words of one's own replace those of the file.
    words = ("--lyrics", "far away")
    assert run("--melody", tmp_path / "tune.mid", *words, *voice, *quick, out="own") == 0
    own = read_midi(tmp_path / "own" / "topline.mid")
    assert "".join(x.text for x in own.lyrics if x) == "faraway"
    assert any("replaced" in remark for remark in report_of(tmp_path / "own")["melody"]["remarks"])


@pytest.mark.usefixtures("no_picture")
def test_a_melody_follows_the_accompaniments_tempo(
    run: Run, voice: tuple[str, Path], accompaniment: Path, tmp_path: Path
) -> None:
    """A tune written at 75 beats per minute, over a song of 120."""
    write_midi(melody(60, 64, 67, beat=0.8, words="now we sing"), tmp_path / "tune.mid")
    flags = ("--accompaniment", accompaniment, "--melody", tmp_path / "tune.mid", *voice, *ALONE)
    assert run(*flags, "--tempo") == 0
    notes = read_midi(tmp_path / "out" / "topline.mid").notes
    assert np.diff([note.onset for note in notes]) == pytest.approx([0.5, 0.5], abs=0.01)


@pytest.mark.usefixtures("no_picture")
def test_parts_of_a_vocal_are_sung_on_the_notes_that_lie_there(
    run: Run, voice: tuple[str, Path], accompaniment: Path, tmp_path: Path
) -> None:
    wav, rate = soundfile.read(accompaniment)
    take = write(tmp_path / "take.wav", 0.3 * wav[:, :1], rate)
    write_midi(melody(60, 62, 64, 65, 67, 69, words="a b c d e f"), tmp_path / "tune.mid")
    flags = ("--accompaniment", accompaniment, "--vocal", take, "--inpaint", "1.9-3.0")
    flags = (*flags, "--melody", tmp_path / "tune.mid", *voice, *ALONE)
    assert run(*flags) == 0
    tune = read_midi(tmp_path / "out" / "topline.mid")
    assert [note.pitch for note in tune.notes] == [64, 65]
    old, new = integers(take), integers(tmp_path / "out" / "vocal.wav")
    inside = slice(round(1.9 * rate), round(3.0 * rate))
    is_known = np.ones(len(old), bool)
    is_known[inside] = False
    assert np.array_equal(old[is_known], new[is_known]) and not np.array_equal(old, new)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--melody", "{none}.mid"], ["no such file"]),
        (["--melody", "tune.txt"], ["compose", ".musicxml"]),
        (["--melody", "{tune}", "--checkpoint", "{speaker}"], ["knows no notes", "songbook"]),
        (["--melody", "compose"], ["--lyrics"]),
        (["--melody", "{tune}", "--tempo", "fast"], ["20 to 400"]),
        (["--melody", "{tune}", "--tempo"], ["--accompaniment"]),
        (["--melody", "{tune}", "--transpose", "80"], ["140", "1 to 127"]),
        (["--lyrics", "oh", "--transpose", "2"], ["spoken"]),
        (["--lyrics", "oh", "--range", "A3-A4"], ["only with --accompaniment"]),
        (["--lyrics", "oh", "--accompaniment", "{song}", "--range", "low"], ["F3-C5"]),
        (["--lyrics", "la " * 400, "--accompaniment", "{song}"], ["syllables"]),
        (["--lyrics", "la " * 90, "--melody", "{tune}"], ["too long for the melody"]),
        (["--melody", "{late}", "--accompaniment", "{song}"], ["begin behind its end", "--tempo"]),
        (["--accompaniment", "{song}", "--melody", "none"], ["nothing to sing"]),
    ],
)
def test_what_cannot_be_sung_is_refused(
    run: Run,
    voice: tuple[str, Path],
    accompaniment: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    words: list[str],
) -> None:
    write_midi(melody(60, 62, words="now sing"), tmp_path / "tune.mid")
    write_midi(melody(60, 62, words="now sing", start=60.0), tmp_path / "late.mid")
    names = {name: tmp_path / f"{name}.mid" for name in ("tune", "late", "none")}
    names |= {"song": accompaniment, "speaker": weights / "transformer.pt"}
    given = [flag.format(**names) if "{" in flag else flag for flag in flags]
    assert run(*voice, *ALONE, *given) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in words), message
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_picture")
def test_without_an_inpainter_the_draft_is_the_vocal_and_that_is_said(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(synthesis, "DEMO", tmp_path / "empty")
    monkeypatch.setattr(synthesis, "MEL_INPAINTER", tmp_path / "empty" / "mel_inpainter.pt")
    song = write(tmp_path / "song.wav", music(1.5))
    voice = ("--checkpoint", weights / "transformer.pt", "--postnet", weights / "postnet.pt")
    flags = [*voice, "--accompaniment", song, "--out", tmp_path / "out", "--device", "cpu"]
    assert synthesis.main([str(flag) for flag in (*flags, "--lyrics", "oh my")]) == 0
    assert "the draft is the vocal" in capsys.readouterr().out
    assert report_of(tmp_path / "out")["inpainter"] is None
    assert synthesis.main([str(flag) for flag in flags]) == 2  # nothing else could sing
    error = capsys.readouterr().err
    assert "no inpainter checkpoint" in error and "empty" in error


def test_notes_the_voice_does_not_know_are_sung_and_said(
    run: Run, voice: tuple[str, Path], tmp_path: Path
) -> None:
    write_midi(melody(60, 84, words="now sing"), tmp_path / "tune.mid")
    quick = ("--set", "synthesis.griffin_lim_iterations=2")
    assert run("--melody", tmp_path / "tune.mid", *voice, *quick) == 0
    remarks = report_of(tmp_path / "out")["melody"]["remarks"]
    assert any("1 of 2 notes are outside" in remark for remark in remarks)


def test_items_cover_every_syllable_once_and_stand_on_frames() -> None:
    pitches = [60, 62, 64, 65, 67, 65, 64, 62] * 5
    tune = melody(*pitches, beat=0.45)
    lines = parse_lyrics("\n".join(["we sing along the river all day long"] * 4))
    score = lay_lyrics(lines, tune, Pronouncer()).score
    items = items_to_sing(score, 0.016)
    sung = [syllable.text for item in items for syllable in item.score.syllables]
    assert sung == [syllable.text for syllable in score.syllables]
    for item in items:
        assert item.start / 0.016 == pytest.approx(round(item.start / 0.016), abs=1e-6)
        assert item.start <= item.score.syllables[0].onset and item.end >= item.score.duration
        inputs = item.inputs()
        assert min(inputs.onset) >= 0 and max(inputs.offset) <= item.end - item.start + 1e-6
    ends = torch.tensor([item.end for item in items[:-1]])
    starts = torch.tensor([item.start for item in items[1:]])
    assert (ends <= starts + 0.016).all()  # a breath may reach into the frame that the next takes


def test_a_part_is_chosen_and_what_is_not_sung_is_said_at_the_end(
    run: Run, voice: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = mido.MidiFile(type=1, ticks_per_beat=480)
    for name, pitch in (("Alto", 60), ("Soprano", 72)):
        track = mido.MidiTrack([mido.MetaMessage("track_name", name=name)])
        for number, text in enumerate(("now ", "we ", "zyxwab ")):
            track.append(mido.MetaMessage("lyrics", text=text, time=5 * (number == 1)))
            track.append(mido.Message("note_on", note=pitch + number, time=0))
            track.append(mido.Message("note_off", note=pitch + number, time=480))
        track.append(mido.MetaMessage("lyrics", text="lost", time=480))
        file.tracks.append(track)
    file.save(tmp_path / "tune.mid")
    quick = (
        "--melody",
        tmp_path / "tune.mid",
        *voice,
        "--set",
        "synthesis.griffin_lim_iterations=2",
    )
    assert run(*quick) == 2
    assert "1: 'Alto', 2: 'Soprano'. Choose one with --part NAME" in capsys.readouterr().err
    assert run(*quick, "--part", "sopr") == 0
    notes = read_midi(tmp_path / "out" / "topline.mid").notes
    assert [note.pitch for note in notes] == [72, 73, 74, 74]  # two syllables on the last
    said = capsys.readouterr().out.splitlines()
    report = report_of(tmp_path / "out")
    assert said[-1] == "-" * len(said[-1]) and "please note" in "".join(said[-8:])
    assert report["remarks"]["not sung"][0] == "1 lyric stands at no note: 'lost' at 2.01 s"
    assert report["remarks"]["guessed"] == [
        "the sound of 'zyxwab' (line 1); --lexicon FILE corrects it"
    ]
    assert any("'lost' at 2.01 s" in line for line in said)


def test_a_verse_is_chosen(run: Run, voice: tuple[str, Path], tmp_path: Path) -> None:
    quick = ("--melody", tmp_path / "x.song", *voice)
    text = "meter: 2/4\ntempo: 120\nnotes: C4 D4 |\nwords: one two\nwords: three four\n"
    (tmp_path / "x.song").write_text(text)
    assert run(*quick, "--verse", "2") == 0
    tune = read_midi(tmp_path / "out" / "topline.mid")
    assert [lyric.text for lyric in tune.lyrics] == ["three", "four"]
    assert run(*quick, "--verse", "3", out="third") == 2


def test_chords_are_named_where_they_change() -> None:
    beats, chords = np.arange(5.0), np.array([0, 0, 21, 24, 24])  # C, C, Am, none, none
    sure = Confidence(1.0, 1.0, 1.0, 1.0)
    harmony = Harmony(beats, chords, 4, 0, Key(0, "major"), 5.0, sure)
    assert chord_changes(harmony) == [(0.0, "C"), (2.0, "Am"), (3.0, "N")]


def test_a_word_at_the_edge_of_a_region_keeps_its_sound() -> None:
    text = ("win-", "dow", "in-", "side", "to-", "day")
    notes = tuple(Note(60, 1.0 + 0.5 * k, 1.4 + 0.5 * k) for k in range(len(text)))
    lyrics = tuple(Lyric(part.strip("-"), part.endswith("-")) for part in text)
    whole = sing(Melody(notes, lyrics), Pronouncer())
    parts = _sung_in_regions(whole, [(0.9, 1.2), (2.4, 3.2)])  # win … side to-
    sung = [(s.text, s.phonemes, s.starts_word, s.ends_word) for s in parts.score.syllables]
    of_whole = {s.text: s.phonemes for s in whole.score.syllables}
    assert [(text, starts, ends) for text, _, starts, ends in sung] == [
        ("win", True, True),
        ("side", True, True),
        ("to", True, True),
    ]
    assert all(phonemes == of_whole[text] for text, phonemes, _, _ in sung)
    assert not parts.guessed
    assert parts.score.syllables[0].offset == 1.2
