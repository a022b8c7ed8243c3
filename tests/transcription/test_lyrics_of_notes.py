"""Words for notes: recognised phonemes, lyrics where their vowels are."""

from __future__ import annotations

import itertools
from pathlib import Path

import mido
import numpy as np
import pytest
import torch

from music.midi_tracks import read_midi
from text.frontend import Pronouncer
from text.lyrics import parse_lyrics
from transcription.labels import PHONEME_CLASSES
from transcription.lyrics import (
    MELISMA_COST,
    SKIP_COST,
    UNSUNG_COST,
    align_lyrics,
    align_syllables,
    note_phonemes,
    phoneme_melody,
    phoneme_runs,
    write_melody,
)
from transcription.note_decoding import TranscribedNote
from transcription.transcribe import Transcribed

HELLO_WORLD = "sil:10 HH:5 AH:20 L:5 OW:20 W:4 ER:20 L:3 D:4 sil:10"
NOTES = [(0.3, 0.7, 60.0), (0.8, 1.2, 62.2), (1.28, 1.7, 64.0)]


def transcribed(phonemes: str, notes: list[tuple[float, float, float]]) -> Transcribed:
    """Transcribe phonemes of so many frames of 20 ms perfectly."""
    classes: list[int] = []
    for part in phonemes.split():
        name, frames = part.split(":")
        classes += [PHONEME_CLASSES.index(name)] * int(frames)
    phoneme = torch.nn.functional.one_hot(torch.tensor(classes), 39).float()
    frames = len(classes)
    sung = [TranscribedNote(*note) for note in notes]
    return Transcribed(phoneme, torch.zeros(frames, 3), torch.zeros(frames), sung, 0.02)


@pytest.fixture(scope="module")
def pronouncer() -> Pronouncer:
    return Pronouncer()


def texts(melody) -> list[str | None]:
    return [lyric and lyric.text for lyric in melody.lyrics]


def test_consonants_go_with_the_syllable_they_belong_to() -> None:
    assert note_phonemes(transcribed(HELLO_WORLD, NOTES)) == [
        ("HH", "AH"),
        ("L", "OW"),
        ("W", "ER", "L", "D"),
    ]
    # At a silence: what stands before it ends the syllable, what follows begins the next.
    parted = transcribed("AH:20 S:5 sil:10 T:4 AH:20", [(0, 0.4, 60), (0.78, 1.2, 60)])
    assert note_phonemes(parted) == [("AH", "S"), ("T", "AH")]


def test_slips_of_one_frame_are_no_phonemes_and_a_held_vowel_is_said_once() -> None:
    one = transcribed("AH:20 AA:1 AH:20 IY:10", [(0.0, 0.8, 60), (0.8, 1.0, 62)])
    assert [run.phoneme for run in phoneme_runs(one.phoneme.numpy())] == ["AH", "IY"]
    assert note_phonemes(one) == [("AH",), ("IY",)]
    held = transcribed("AH:50", [(0.0, 0.2, 60), (0.2, 1.0, 62)])
    assert note_phonemes(held) == [("AH",), ()]


def test_nothing_heard() -> None:
    silent = transcribed("sil:50", [])
    assert note_phonemes(silent) == [] and phoneme_melody(silent) is None
    assert align_lyrics(silent, parse_lyrics("hello"), Pronouncer()) is None
    hummed = transcribed("sil:50", [(0.1, 0.9, 60)])
    assert texts(phoneme_melody(hummed)) == [None]


@pytest.mark.parametrize(
    ("lyrics", "expected"),
    [
        ("hello world", ["hel", "lo", "world"]),
        ("hello big wide world", ["hel", "lo big wide", "world"]),
        ("hel", ["hel", None, None]),
        ("oh, hello world", ["oh hel", "lo", "world"]),
        ("hello world again", ["hel", "lo", "world again"]),
    ],
)
def test_syllables_stand_where_their_vowels_are_heard(
    pronouncer: Pronouncer, lyrics: str, expected: list[str | None]
) -> None:
    melody = align_lyrics(transcribed(HELLO_WORLD, NOTES), parse_lyrics(lyrics), pronouncer)
    assert texts(melody) == expected
    assert [note.pitch for note in melody.notes] == [60, 62, 64]


def test_a_melisma_keeps_its_syllable(pronouncer: Pronouncer) -> None:
    sung = transcribed("HH:5 AH:20 L:5 OW:60", [(0.1, 0.5, 60), (0.6, 1.0, 62), (1.0, 1.8, 64)])
    melody = align_lyrics(sung, parse_lyrics("hello"), pronouncer)
    assert texts(melody) == ["hel", "lo", None]
    assert melody.lyrics[0].continues and not melody.lyrics[1].continues


def test_lyrics_of_the_beginning_stay_at_the_beginning(pronouncer: Pronouncer) -> None:
    """A song goes on with other words than those that were given."""
    phonemes = "HH:5 AH:20 L:5 OW:20 " + "IY:20 AA:20 EY:20 UW:20 AH:20 OW:20"
    times = [0.1, 0.6, *(1.0 + 0.4 * k for k in range(6))]
    notes = [(time, time + 0.4, 60.0) for time in times]
    melody = align_lyrics(transcribed(phonemes, notes), parse_lyrics("hello"), pronouncer)
    assert texts(melody) == ["hel", "lo"] + [None] * 6


def test_the_best_path_is_the_best_of_all_paths() -> None:
    """Against every alignment of four notes to three syllables, costs added up by hand."""
    random = np.random.default_rng(0)
    for _ in range(20):
        likelihood = 4 * random.standard_normal((4, 3))

        def score(path: tuple[int, ...], likelihood: np.ndarray = likelihood) -> float:
            totals = []
            for end in range(1, 5):  # notes until the lyrics end
                if path[end - 1] != path[-1]:
                    continue
                total = sum(likelihood[k, n] for k, n in enumerate(path[:end]))
                total -= SKIP_COST * (path[0] + 2 - path[-1]) + UNSUNG_COST * (4 - end)
                for a, b in itertools.pairwise(path[:end]):
                    total -= MELISMA_COST if a == b else SKIP_COST * (b - a - 1)
                totals.append(total)
            return max(totals)

        paths = (p for p in itertools.product(range(3), repeat=4) if list(p) == sorted(p))
        assert align_syllables(likelihood) == list(max(paths, key=score))


def test_files_hold_what_was_heard(tmp_path: Path, pronouncer: Pronouncer) -> None:
    melody = align_lyrics(transcribed(HELLO_WORLD, NOTES), parse_lyrics("hello world"), pronouncer)
    write_melody(melody, tmp_path / "a.mid")
    read = read_midi(tmp_path / "a.mid")
    assert texts(read) == ["hel", "lo", "world"]
    for note, (onset, offset, _) in zip(read.notes, NOTES, strict=True):
        assert (note.onset, note.offset) == pytest.approx((onset, offset), abs=0.002)
    write_melody(None, tmp_path / "none.mid")
    messages = list(mido.MidiFile(tmp_path / "none.mid"))
    assert not [message for message in messages if not message.is_meta]
