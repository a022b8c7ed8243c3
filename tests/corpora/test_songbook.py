"""The songbook: takes, breaths, items, the split by song; and a song rendered and measured."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from songbook_measures import onset_errors, pitch_errors

import prepare_data
from corpora import accompanist, singer
from corpora.accompanist import missing_program
from corpora.records import Split
from corpora.singer import VOICE_ALPHABET, Manner, Singer, missing_packages
from corpora.songbook import SongbookSettings, find_songs, split_with_songs
from corpora.stores import FeatureStore, StemStore
from corpora.takes import VOICE_RANGE, arrange, take_of
from music.inputs import BREATH_SECONDS, breaths, item_groups
from music.midi_tracks import read_midi
from music.notation import parse_notation, read_notation
from music.score import Note, Score, Syllable
from music.underlay import sing
from text.frontend import Pronouncer
from text.symbols import PHONEMES, is_vowel

SONGS = Path(__file__).resolve().parents[2] / "examples" / "songs"
SHORT = """
title: Short
tempo: 96
notes: "C" C4 E4 G4*2 | "F" A4 F4 "C" G4*2 | z "G" D4 E4 D4 | "C" C4*3 |
words: Take the path, keep to sea, and tell them all.
"""

HELD = """
title: Held
tempo: 96
notes: "C" C4 E4 G4*2 | "F" A4 F4 "C" G4*4 |
words: The words we came to say.
"""


def score_of(record: dict) -> Score:
    """Return the score of a song.json."""
    return Score(
        tuple(
            Syllable(
                s["text"],
                tuple(s["phonemes"]),
                s["word"],
                notes=tuple(Note(pitch, onset, offset) for onset, offset, pitch in s["notes"]),
            )
            for s in record["syllables"]
        )
    )


@pytest.fixture(scope="module")
def amazing() -> tuple:
    song = read_notation(SONGS / "amazing-grace.song")
    return song, sing(song.melody, Pronouncer()).score


def test_takes_are_functions_of_the_seed_and_differ() -> None:
    takes = [take_of("a-song", number, 0, 2) for number in range(6)]
    assert takes == [take_of("a-song", number, 0, 2) for number in range(6)]
    assert takes[0].key == 0 and takes[0].tempo == 1.0 and len(takes[0].programs) == 2
    assert len({take.tempo for take in takes}) == 6 and len({take.key for take in takes}) > 2
    assert take_of("a-song", 1, 1, 2) != takes[1] and take_of("b-song", 1, 0, 2) != takes[1]


def test_an_arrangement_is_one_song_in_another_key_and_tempo(amazing: tuple) -> None:
    song, score = amazing
    whole = arrange(song, score, take_of("x", 0, 0, 1), 1000.0)
    assert [s.phonemes for s in whole.score.syllables] == [s.phonemes for s in score.syllables]
    assert all(VOICE_RANGE[0] <= n.pitch <= VOICE_RANGE[1] for n in whole.score.notes)
    intervals = [b.pitch - a.pitch for a, b in pairwise(score.notes)]
    other = arrange(song, score, take_of("x", 3, 0, 1), 1000.0)
    assert [b.pitch - a.pitch for a, b in pairwise(other.score.notes)] == intervals
    # Voice and accompaniment stay together: the first note sung, against the chord under it.
    for arrangement in (whole, other):
        first = arrangement.score.notes[0].onset
        starts = [n.onset for n in arrangement.backing[0].notes if n.onset > first + 0.01]
        beat = arrangement.score.notes[1].onset
        assert min(abs(start - beat) for start in starts) < 1e-6
    short = arrange(song, score, take_of("x", 0, 0, 1), 20.0)
    assert short.duration <= 20.0 and len(short.phrases) < len(whole.phrases)
    assert all(n.offset <= short.duration for part in short.backing for n in part.notes)


def test_there_is_time_to_breathe(amazing: tuple) -> None:
    phrases = breaths(amazing[1])
    for left, right in pairwise(phrases):
        rest = right.syllables[0].onset - left.duration
        last = left.syllables[-1].notes[-1]
        assert rest >= BREATH_SECONDS - 1e-6 or last.duration <= BREATH_SECONDS
    sung = [s.phonemes for phrase in phrases for s in phrase.syllables]
    assert sung == [s.phonemes for s in amazing[1].syllables]
    groups = item_groups(phrases, 2.0, 10.0)
    assert [n for group in groups for n in group] == list(range(len(phrases)))


def test_the_split_is_by_song_and_fills_every_split() -> None:
    ids = [f"song{k}@{take}" for k in range(8) for take in range(3)]
    split = split_with_songs(ids, Split())
    names = [split.of(id) for id in ids]
    assert set(names) == {"train", "validation", "test"}
    assert all(len(set(names[k : k + 3])) == 1 for k in range(0, 24, 3))
    assert split.of("song3@1.004") == split.of("song3")
    with pytest.raises(ValueError, match="2 songs cannot fill 3 splits"):
        split_with_songs(ids[:6], Split())


def test_every_phoneme_can_be_sung() -> None:
    assert {p.rstrip("012") for p in PHONEMES} == set(VOICE_ALPHABET)


def test_faults_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="examples/songs --name free"):
        find_songs(tmp_path)
    for name in ("a.song", "a.mxl", "b@1.song"):
        (tmp_path / name).write_text("")
    songs, rejections = find_songs(tmp_path)
    assert [path.name for path in songs] == ["a.mxl"] and len(rejections) == 2
    with pytest.raises(FileNotFoundError, match="--soundfont"):
        accompanist.find_soundfont(tmp_path / "none.sf2")
    with pytest.raises(ValueError, match="at least one of 5 s"):
        SongbookSettings(takes=0)
    monkeypatch.setattr(singer, "missing_packages", lambda: "the package hibari is missing")
    with pytest.raises(RuntimeError, match="hibari"):
        Singer()


needs_voice = pytest.mark.skipif(bool(missing_packages()), reason=f"no voice: {missing_packages()}")
needs_accompanist = pytest.mark.skipif(
    bool(missing_program()) or not any(Path(p).is_file() for p in accompanist.SOUNDFONTS),
    reason=f"no accompanist: {missing_program() or 'no soundfont; ' + accompanist.INSTALL}",
)


@pytest.fixture(scope="module")
def songbook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A songbook of one short song, rendered by the command line."""
    directory = tmp_path_factory.mktemp("songbook")
    (directory / "songs").mkdir()
    (directory / "songs" / "short.song").write_text(SHORT, encoding="utf-8")
    assert prepare_data.main(command(directory)) == 0
    return directory / "feature"


def command(directory: Path) -> list[str]:
    return [
        *("songbook", str(directory / "songs"), "--name", "short", "--workers", "0"),
        *("--validation-share", "0", "--test-share", "0"),
        *("--feature-dir", str(directory / "feature")),
    ]


@needs_voice
@needs_accompanist
def test_the_song_is_sung_in_tune_and_in_time(songbook: Path) -> None:
    folder = songbook / "short" / "songs" / "short@0"
    record = json.loads((folder / "song.json").read_text(encoding="utf-8"))
    score = score_of(record)
    vocal, rate = soundfile.read(folder / "vocal.wav", dtype="float32")
    cents, seconds = pitch_errors(vocal, rate, score), onset_errors(vocal, rate, score)
    assert len(cents) >= 10 and np.median(np.abs(cents)) < 10
    assert len(seconds) >= 4 and np.median(np.abs(seconds)) < 0.030
    accompaniment, _ = soundfile.read(folder / "accompaniment.wav", dtype="float32")
    assert len(accompaniment) == len(vocal) == record["num_samples"]
    assert read_midi(folder / "vocal.mid").notes[0].pitch == score.notes[0].pitch


@needs_voice
@needs_accompanist
def test_phrases_carry_their_score(songbook: Path) -> None:
    index = json.loads((songbook / "short" / "index.json").read_text(encoding="utf-8"))
    assert index["kind"] == "speech" and index["items"]
    for item in index["items"]:
        score, seconds = item["score"], item["num_samples"] / index["sample_rate"]
        assert {len(score[k]) for k in ("pitch", "onset", "offset", "position", "slur")} == {
            len(item["symbols"])
        }
        assert all(0 <= a <= b <= seconds + 1e-3 for a, b, _ in score["notes"])
        assert max(score["offset"]) <= seconds + 1e-3
    stems = json.loads((songbook / "short-stems" / "index.json").read_text(encoding="utf-8"))
    assert [item["id"] for item in stems["items"]] == ["short@0"]
    for name in ("short", "short-stems"):
        options = ["check", name, "--feature-dir", str(songbook), "--workers", "0"]
        assert prepare_data.main(options) == 0


@needs_voice
@needs_accompanist
def test_it_is_known_when_each_phoneme_is_sung(songbook: Path) -> None:
    """Phonemes follow one another, vowels begin with their notes, and what is called S hisses."""
    store = StemStore(songbook / "short-stems")
    (item,) = store.index["items"]
    times = store.phoneme_times()[item["id"]]
    onset, offset = np.array(times["onset"]), np.array(times["offset"])
    assert len(onset) == len(offset) == len(item["symbols"])
    assert (offset >= onset).all() and (np.diff(onset) >= 0).all()
    assert (offset[:-1] <= onset[1:] + 1e-3).all()
    is_first = np.diff([-1.0, *item["score"]["onset"]]) > 0
    vowels = [is_vowel(s) and first for s, first in zip(item["symbols"], is_first, strict=True)]
    assert np.median(np.abs(onset - item["score"]["onset"])[vowels]) < 0.03
    rate = store.index["sample_rate"]
    vocal = store.window(item["id"], 0, item["num_samples"])[0].numpy()

    def hiss(symbol: str) -> float:
        """Share of the power above 4 kHz in the middles of a phoneme."""
        spans = [
            (a, b) for s, a, b in zip(item["symbols"], onset, offset, strict=True) if s == symbol
        ]
        powers = []
        for first, last in spans:
            middle, half = (first + last) / 2, min(0.02, (last - first) / 2)
            piece = vocal[int((middle - half) * rate) : int((middle + half) * rate)]
            spectrum = np.abs(np.fft.rfft(piece * np.hanning(len(piece)))) ** 2
            powers.append(spectrum[len(spectrum) // 2 :].sum() / spectrum.sum())
        return float(np.median(powers))

    assert hiss("S") > 0.5 > hiss("IY1")
    phrases = FeatureStore(songbook / "short")
    assert phrases.phoneme_times().keys() == {item["id"] for item in phrases.index["items"]}


@needs_voice
@needs_accompanist
def test_what_is_rendered_is_kept(songbook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = songbook / "short" / "songs" / "short@0" / "vocal.wav"
    before = path.stat().st_mtime_ns
    monkeypatch.setattr(Singer, "sing", lambda *_: pytest.fail("sung again"))
    stray = songbook / "short" / "phrases" / "gone@0.000.wav"
    stray.write_bytes(b"")
    assert prepare_data.main(command(songbook.parent)) == 0
    assert path.stat().st_mtime_ns == before and not stray.exists()


@needs_voice
def test_a_voice_repeats_itself_and_follows_the_score() -> None:
    song = parse_notation(SHORT)
    (phrase, *_) = breaths(sing(song.melody, Pronouncer()).score)
    voice = Singer()
    first, again = (voice.sing(phrase, Manner(seed=3)) for _ in range(2))
    assert np.array_equal(first.wav, again.wav) and first.lead == again.lead
    assert first.wav.size / 24000 >= phrase.duration - phrase.syllables[0].onset


@needs_voice
@pytest.mark.parametrize("word", ["play", "name", "way", "night"])
def test_a_last_note_is_held_to_its_end(word: str) -> None:
    """Speech fades before a full stop; the last note of a phrase keeps the phrase's level, within
    3 dB until its last eighth, in which a coda may close; behind it nothing is cut off."""
    song = parse_notation(HELD.replace("say", word))
    (phrase,) = breaths(sing(song.melody, Pronouncer()).score)
    voice = Singer().sing(phrase, Manner())
    rate, start = 24000, phrase.syllables[0].onset

    def level(first: float, last: float) -> float:
        """Return the level in dB between two times of the score in seconds."""
        begin, end = (round((voice.lead + time - start) * rate) for time in (first, last))
        return float(10 * np.log10(np.square(voice.wav[begin:end]).mean()))

    *others, last = phrase.notes
    usual = np.median([level(note.onset, note.offset) for note in others])
    bounds = np.linspace(last.onset, last.offset, 9)
    eighths = [level(*span) - usual for span in pairwise(bounds.tolist())]
    assert min(eighths[:7]) > -3 and eighths[7] > -12
    assert len(voice.wav) / rate > voice.lead + last.offset - start
