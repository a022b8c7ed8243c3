"""Parts of a take without words: what is heard is sung again, the rest is composed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tiny_chain import Run, integers, music, write

import synthesis
from music.midi import write_midi
from music.midi_tracks import read_midi
from music.score import Melody, Note, Syllable, TempoMap
from singing.hearing import UNHEARD_VOWEL, TakeTranscript, heard_syllables
from singing.retake import joined_up, one_voice_of
from transcription.listening import settled
from transcription.note_decoding import TranscribedNote

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
STEP = 0.02  # s of a frame of the transcripts below


def transcript(notes: list[tuple[float, float, float]], *sounds: tuple[str, int]) -> TakeTranscript:
    """Notes, and the symbols of so many frames each."""
    symbols = tuple(symbol for symbol, count in sounds for _ in range(count))
    return TakeTranscript(tuple(notes), symbols, STEP)


def syllable(onset: float, offset: float, pitch: int = 60) -> Syllable:
    return Syllable("{AA1}", ("AA1",), 0, notes=(Note(pitch, onset, offset),))


# ---------------------------------------------------------------------------- what is heard


def test_consonants_belong_to_the_vowel_behind_them_or_end_what_is_sung() -> None:
    heard = transcript(
        [(0.2, 0.5, 60.2), (0.6, 1.0, 62.0)],
        *(("", 5), ("S", 5), ("AA1", 15), ("T", 5), ("IY1", 15), ("N", 5), ("", 10)),
    )
    first, second = heard_syllables(heard, 3.0)
    assert first.phonemes == ("S", "AA1") and second.phonemes == ("T", "IY1", "N")
    assert first.text == "{S AA1}" and [first.word, second.word] == [0, 1]
    assert first.notes == (Note(60, 3.2, 3.5),)


def test_consonants_in_front_of_a_silence_end_the_syllable_before_them() -> None:
    heard = transcript(
        [(0.0, 0.4, 60), (1.0, 1.4, 62)],
        *(("AA1", 20), ("Z", 5), ("", 20), ("B", 5), ("IY1", 20)),
    )
    assert [s.phonemes for s in heard_syllables(heard)] == [("AA1", "Z"), ("B", "IY1")]


def test_a_vowel_that_goes_on_over_notes_is_one_syllable() -> None:
    heard = transcript([(0.1, 0.4, 60), (0.4, 0.7, 62), (1.5, 1.8, 64)], ("L", 5), ("OW1", 85))
    first, second = heard_syllables(heard)
    assert first.phonemes == ("L", "OW1") and [n.pitch for n in first.notes] == [60, 62]
    assert second.phonemes == ("OW1",)  # behind a rest it is sung anew


def test_notes_without_a_vowel_get_one_and_slips_are_left_out() -> None:
    heard = transcript([(0.1, 0.4, 60), (1.0, 1.3, 62)], ("", 40), ("K", 1), ("", 60))
    found = heard_syllables(heard)
    assert [s.phonemes for s in found] == [(UNHEARD_VOWEL,)] * 2
    assert heard_syllables(transcript([], ("AA1", 9))) == []


def test_pitches_far_from_a_second_opinion_follow_it() -> None:
    time = torch.arange(32000) / 16000
    wav = sum(0.1 * torch.sin(2 * torch.pi * 220.0 * k * time) for k in (1, 2, 3))
    asked = [
        TranscribedNote(0.2, 0.8, 76.0),  # a twelfth too high
        TranscribedNote(0.8, 1.2, 57.4),
        TranscribedNote(1.3, 1.32, 57.0),  # a slip
    ]
    found = settled(asked, wav, 16000)
    assert found[0].midi == pytest.approx(57.0, abs=0.2) and found[1:] == asked[1:2]
    assert settled(asked, torch.zeros(32000), 16000) == asked[:2]  # nothing speaks against them


# ---------------------------------------------------------------------------- one line of all


def test_syllables_are_one_voice() -> None:
    ordered = one_voice_of([syllable(1.0, 2.0), syllable(0.0, 1.5)])
    assert [(s.onset, s.offset, s.word) for s in ordered] == [(0.0, 1.0, 0), (1.0, 2.0, 1)]


def test_composed_notes_meet_what_is_sung_beside_them() -> None:
    part, composed = (16000, 48000), [syllable(1.3, 2.0), syllable(2.0, 2.8)]
    near = joined_up(composed, part, [syllable(0.0, 0.8), syllable(3.2, 4.0)], 16000)
    assert (near[0].onset, near[-1].offset) == (1.0, 3.0)
    assert [s.notes[0].pitch for s in near] == [60, 60]
    three = [*composed, syllable(2.8, 2.9)]
    cut = joined_up(three, part, [syllable(0.0, 1.0, 64), syllable(3.0, 4.0, 67)], 16000)
    assert [s.notes[0].pitch for s in cut] == [64, 60, 67]  # notes that sound up to the edges
    far = joined_up(composed, part, [syllable(0.0, 0.2), syllable(3.9, 4.0)], 16000)
    assert list(far) == composed


def test_a_continuation_is_sung_to_its_end() -> None:
    composed = [syllable(1.3, 2.0), syllable(2.0, 2.3)]
    sung_before = [syllable(0.0, 0.9)]
    (_, last) = joined_up(composed, (16000, 56000), sung_before, 16000)
    assert (last.onset, last.offset) == (2.0, pytest.approx(3.4))
    (_, last) = joined_up(composed, (16000, 320000), sung_before, 16000)
    assert last.offset == pytest.approx(6.0)  # no note is held for ever
    (_, last) = joined_up(composed, (16000, 36000), sung_before, 16000)
    assert last.offset == 2.3  # nor cut


# ---------------------------------------------------------------------------- the chain


@pytest.fixture
def backing(tmp_path: Path) -> Path:
    wav, rate = soundfile.read(EXAMPLES / "evening-sun.ogg", frames=9 * 22050)
    return write(tmp_path / "song.wav", wav, rate)


@pytest.fixture
def again(run: Run, weights: Path, tmp_path: Path, backing: Path) -> Callable[..., dict[str, Any]]:
    """A part of a 6 s take sung without words by a voice that knows notes: the report."""
    take = write(tmp_path / "take.wav", 0.3 * music(6.0, hertz=330.0))

    def call(*flags: object, out: str = "out") -> dict[str, Any]:
        common = ("--checkpoint", weights / "singer.pt", "--inpainter", weights / "shaped.pt")
        common = (*common, "--set", "synthesis.griffin_lim_iterations=2")
        assert run(*common, "--accompaniment", backing, "--vocal", take, *flags, out=out) == 0
        return json.loads((tmp_path / out / "report.json").read_text())

    return call


def heard_of(wav: torch.Tensor, rate: int) -> TakeTranscript:
    """Notes of half a second on M AA."""
    count = max(1, int(2 * len(wav) / rate))
    notes = [(0.5 * i, 0.5 * i + 0.45, 62.0 + i % 3) for i in range(count)]
    return transcript(notes, *((("M", 4), ("AA1", 21)) * count))


def changed(tmp_path: Path, out: str) -> np.ndarray:
    """Which samples (S,) of the take are others now."""
    old, new = integers(tmp_path / "take.wav"), integers(tmp_path / out / "vocal.wav")
    return (old != new[: len(old)])[:, 0]


@pytest.mark.usefixtures("no_picture")
def test_a_part_is_sung_again_by_the_voice(
    again: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(synthesis, "listener", lambda *_: heard_of)
    report = again("--inpaint", "2-4")
    assert report["melody"]["source"] == "heard"
    assert "sounds M AA M AA" in " ".join(capsys.readouterr().out.split())
    assert report["network_evaluations"] == report["windows"]  # it had a draft to finish
    tune = read_midi(tmp_path / "out" / "topline.mid").notes
    assert len(tune) == report["melody"]["notes"] and {n.pitch for n in tune} == {62, 63, 64}
    assert all(note.offset > 1.99 and note.onset < 4.01 for note in tune)  # none of the context
    is_new = changed(tmp_path, "out")
    assert not is_new[:32000].any() and not is_new[64000:].any()
    assert is_new[32000:64000].mean() > 0.9
    draft = integers(tmp_path / "out" / "draft.wav")[:, 0] / 2.0**31
    level = np.sqrt(np.square(draft[32000:64000]).mean())
    assert 0.3 < level / np.sqrt(np.square(0.3 * music(2.0, hertz=330.0)).mean()) < 3.0
    assert not draft[:32000].any() and not draft[64000:].any()
    report = again("--inpaint", "2-4", "--transpose", 2, out="higher")
    assert report["melody"]["lowest"] == 64


@pytest.mark.usefixtures("no_picture")
def test_what_is_not_sung_there_is_composed(
    again: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesis, "listener", lambda *_: heard_of)
    report = again("--inpaint", "2-4", "--melody", "compose", out="new")
    assert report["melody"]["source"] == "compose" and report["melody"]["notes"] >= 2
    report = again("--inpaint", "1-2", "--extend", 2.5, out="on")
    assert report["melody"]["source"] == "heard, compose"
    new = integers(tmp_path / "on" / "vocal.wav")
    assert len(new) == 8.5 * 16000 and new[6 * 16000 :].any()
    assert not changed(tmp_path, "on")[2 * 16000 :].any()
    monkeypatch.setattr(synthesis, "listener", lambda *_: None)  # nobody listens
    assert again("--inpaint", "2-4", out="deaf")["melody"]["source"] == "compose"
    report = again("--inpaint", "2-2.3", out="short")  # too short for a melody, not for a note
    assert report["melody"]["notes"] == 1
    report = again("--inpaint", "2-2.04", out="none")
    assert report["melody"]["source"] == "none" and not (tmp_path / "none" / "draft.wav").exists()


@pytest.mark.usefixtures("no_picture")
def test_notes_without_words_are_sung_on_a_syllable(
    run: Run, weights: Path, backing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = tuple(Note(60 + 2 * i, 0.5 + 0.4 * i, 0.85 + 0.4 * i) for i in range(3))
    write_midi(Melody(notes, (None,) * 3, TempoMap.constant(150.0)), tmp_path / "tune.mid")
    flags = ("--melody", tmp_path / "tune.mid", "--checkpoint", weights / "singer.pt")
    flags = (*flags, "--inpainter", "none", "--set", "synthesis.griffin_lim_iterations=2")
    assert run(*flags, "--accompaniment", backing) == 0
    assert "carries no words: it is sung on 'la'" in capsys.readouterr().out
    sung = read_midi(tmp_path / "out" / "topline.mid")
    assert [lyric.text for lyric in sung.lyrics if lyric] == ["la"] * 3
    assert [note.pitch for note in sung.notes] == [60, 62, 64]
    assert run(*flags[:-4], "--set", "synthesis.griffin_lim_iterations=2", out="alone") == 0
    assert run(*flags, "--set", "synthesis.vocalise=none", out="none") == 2


def test_the_inpainter_that_ships_is_not_asked_for_noise(
    run: Run, weights: Path, backing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (synthesis.DEMO / "inpainter.pt").exists():
        pytest.skip("no weights at save/demo")
    flags = ("--accompaniment", backing, "--inpainter", synthesis.DEMO / "inpainter.pt")
    assert run(*flags, "--melody", "none", "--mel-inpainter", "none") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "finds no notes" in said and "--preset mel" in said and "--mel-inpainter" in said
    assert (
        run(*flags, "--set", "synthesis.vocalise=none", "--checkpoint", weights / "singer.pt") == 2
    )
    assert not (tmp_path / "out" / "vocal.wav").exists()
