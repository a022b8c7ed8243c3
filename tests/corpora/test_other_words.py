"""Takes to other words: as many syllables on the same notes, for songs that are trained on."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from corpora.accompanist import missing_program
from corpora.other_words import with_other_words
from corpora.records import SongbookSettings, Split
from corpora.singer import missing_packages
from corpora.songbook import find_takes
from hyperparams import Audio
from music.notation import read_notation
from music.score import Score
from music.underlay import sing
from text.frontend import Pronouncer
from text.symbols import is_vowel

SONG = Path("examples/songs/amazing-grace.song")


def spelt(score: Score) -> list[str]:
    return ["".join(syllable.text for syllable in word) for word in score.words()]


def test_other_words_have_the_syllables_and_notes_of_the_written_ones() -> None:
    score = sing(read_notation(SONG).melody, Pronouncer()).score
    other = with_other_words(score, np.random.default_rng(0))
    assert other == with_other_words(score, np.random.default_rng(0))
    assert other != with_other_words(score, np.random.default_rng(1))
    assert other.notes == score.notes
    for a, b in zip(score.syllables, other.syllables, strict=True):
        assert (a.word, a.line, a.starts_word, a.ends_word) == (
            b.word,
            b.line,
            b.starts_word,
            b.ends_word,
        )
        assert sum(map(is_vowel, b.phonemes)) == 1
    written, sung = spelt(score), spelt(other)
    same = np.mean([a == b for a, b in zip(written, sung, strict=True)])
    known = np.mean([word in written for word in sung])
    assert same < 0.2 and 0.3 < known < 0.75  # half are the song's own, in another order


@pytest.mark.skipif(bool(missing_packages()), reason=str(missing_packages()))
@pytest.mark.skipif(bool(missing_program()), reason=str(missing_program()))
def test_songs_that_are_not_trained_on_keep_their_words(tmp_path: Path) -> None:
    for number in range(12):
        shutil.copy(SONG, tmp_path / f"song{number}.song")
    split = Split(validation_share=0.3, test_share=0.2)
    settings = SongbookSettings(takes=2, other_words=3)
    takes, _ = find_takes(tmp_path, tmp_path, Audio(), settings, split)
    counts = {path.stem: 0 for path in tmp_path.glob("*.song")}
    for take in takes:
        counts[take.path.stem] += 1
    assert {split.of(id): count for id, count in counts.items()} == {
        "train": 5,
        "validation": 2,
        "test": 2,
    }
