"""Recorded singing on the command line: layouts of public corpora, wrong files, restarts.

The recordings are sung by the songbook's voice, so that notes, words and phoneme times are known.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
import torch
from test_prepare_data import contents, index_of

from corpora.singer import Singer, missing_packages
from corpora.stores import FeatureStore, StemStore, read_phoneme_times
from corpora.sung_takes import sing_arrangement
from corpora.takes import arrange, take_of
from music.midi import write_midi
from music.notation import parse_notation
from music.score import Melody, Score
from music.underlay import sing
from text.frontend import Pronouncer

torch.set_num_threads(1)
RATE = 16000
pytestmark = pytest.mark.skipif(bool(missing_packages()), reason=f"no voice: {missing_packages()}")
TUNES = {
    "one": (
        'notes: "C" C4*2 E4*2 G4*3 z | "F" A4*2 F4*2 "C" G4*3 z |\nwords: we sing now, of the rain.'
    ),
    "two": (
        'notes: "C" G4*2 E4*2 C4*3 z | "F" F4*2 A4*2 "C" G4*3 z |\n'
        "words: my love, go home and sing."
    ),
}


@dataclass(frozen=True)
class Truth:
    """A song as it was sung."""

    score: Score
    wav: np.ndarray
    phones: list[tuple[str, float, float]]  # of all syllables

    @property
    def text(self) -> str:
        return self.score.text


@pytest.fixture(scope="module")
def truths() -> dict[str, Truth]:
    voice, found = Singer(), {}
    for name, tune in TUNES.items():
        song = parse_notation(f"title: {name}\ntempo: 132\n{tune}\n")
        take = take_of(name, 0, 0, 1)
        arrangement = arrange(song, sing(song.melody, Pronouncer()).score, take, 60.0)
        sung = sing_arrangement(arrangement, take, voice, RATE)
        rows = [row for phrase in sung.sounding for row in phrase]
        phones = [
            (symbol, *span)
            for syllable, row in zip(arrangement.score.syllables, rows, strict=True)
            for symbol, span in zip(syllable.phonemes, row, strict=True)
        ]
        found[name] = Truth(arrangement.score, sung.wav.numpy(), phones)
    return found


def write_wav(path: Path, wav: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wav, RATE)


def rows_of(truth: Truth, scale: float = 1.0) -> list[tuple[str, str, str]]:
    """Labels `onset offset phoneme`, lower case and without stress, silences between."""
    rows, now = [], 0.0
    words = [s.ends_word for s in truth.score.syllables for _ in s.phonemes]
    ends = np.cumsum([len(s.phonemes) for s in truth.score.syllables]) - 1
    for index, (symbol, onset, offset) in enumerate(truth.phones):
        if onset > now + 1e-3:
            rows.append((now, onset, "sil"))
        now = max(offset, onset)
        rows.append((onset, now, symbol.rstrip("012").lower()))
        if index in ends and words[index]:
            rows.append((now, now, "sp"))
    return [(f"{a * scale:.6f}", f"{b * scale:.6f}", name) for a, b, name in rows]


def placed(tmp_path: Path, name: str = "x") -> dict[str, list[tuple[str, float, float]]]:
    """Phonemes and their times by phrase, as the corpus was prepared."""
    times = read_phoneme_times(tmp_path / "feature" / name)
    return {
        item["id"]: [
            (s, a, b)
            for s, a, b in zip(
                item["symbols"],
                times[item["id"]]["onset"],
                times[item["id"]]["offset"],
                strict=True,
            )
            if s[0].isalpha()
        ]
        for item in index_of(tmp_path, name)["items"]
    }


def check_phrases(tmp_path: Path, song: str, truth: Truth, slack: float) -> None:
    """The phonemes of a recording's phrases are those that were sung, where they were sung."""
    record = json.loads((tmp_path / "feature" / "x" / "songs" / song / "song.json").read_text())
    assert not record["left_out"]
    found = placed(tmp_path)
    rows = [
        (symbol, onset + phrase["start"])
        for phrase in record["phrases"]
        for symbol, onset, _ in found[phrase["id"]]
    ]
    bare = [symbol.rstrip("012") for symbol, _ in rows]
    assert bare == [symbol.rstrip("012") for symbol, _, _ in truth.phones]
    errors = [abs(a - b) for (_, a), (_, b, _) in zip(rows, truth.phones, strict=True)]
    assert np.median(errors) < slack and np.quantile(errors, 0.9) < 6 * slack
    notes = [pitch for phrase in record["phrases"] for *_, pitch in phrase["score"]["notes"]]
    assert notes == [note.pitch for note in truth.score.notes]


def test_a_plain_folder(
    tmp_path: Path, truths: dict[str, Truth], prepare: Callable[..., int], capsys
) -> None:
    folder = tmp_path / "songs"
    one, two = truths["one"], truths["two"]
    for name, truth in (("scored", one), ("worded", two), ("octave", two), ("wrong", one)):
        write_wav(folder / f"{name}.wav", truth.wav)
    write_wav(folder / "worded_accompaniment.wav", np.roll(one.wav, 4000) * 0.5)
    write_midi(one.score, folder / "scored.mid")
    (folder / "worded.txt").write_text(two.text)
    melody = Melody.of(two.score.transposed(12))
    write_midi(Melody(melody.notes, (None,) * len(melody.notes)), folder / "octave.mid")
    (folder / "octave.txt").write_text(two.text)
    (folder / "wrong.txt").write_text("purple elephants juggle five cubes")
    write_wav(folder / "silent.wav", np.zeros(RATE))
    write_wav(folder / "clipped.wav", np.clip(one.wav * 60, -1, 1))
    noise = 0.05 * np.random.default_rng(0).standard_normal(len(one.wav))
    write_wav(folder / "noisy.wav", one.wav + noise)
    write_wav(folder / "broken.wav", one.wav)
    for name in ("silent", "clipped", "noisy"):
        shutil.copy(folder / "scored.mid", folder / f"{name}.mid")
    (folder / "broken.mid").write_bytes(b"MThd nonsense")
    assert prepare("singing", folder, "--name", "x") == 0
    said = capsys.readouterr().out
    skipped = {entry["id"]: entry["reason"] for entry in index_of(tmp_path)["skipped"]}
    reasons = {"wrong": "recognised", "silent": "silent", "clipped": "clipped", "noisy": "noise"}
    reasons |= {"broken": "broken.mid"}
    assert set(skipped) == {f"{id}@0" for id in reasons}
    for id, reason in reasons.items():
        assert reason in skipped[f"{id}@0"], skipped
        assert f"{id}@0: {skipped[f'{id}@0']}" in said
    assert "notes heard, words worded.txt, times aligned" in said
    assert "sung 12 semitones below what is written: moved" in said
    for id, truth in (("scored", one), ("worded", two), ("octave", two)):
        check_phrases(tmp_path, f"{id}@0", truth, 0.03)
    items = FeatureStore(tmp_path / "feature" / "x").index["items"]
    assert {item["voice"] for item in items} == {"x"} and all(item["score"] for item in items)
    for item in items:  # the pitch that was measured, against the notes
        cents = np.array(item["score"]["contour"]["cents"])
        assert 0 < np.median(np.abs(cents[cents != 0])) < 40
    stems = StemStore(tmp_path / "feature" / "x-stems").index["items"]
    assert [item["id"] for item in stems] == ["worded@0"] and stems[0]["score"]["notes"]
    report = json.loads((tmp_path / "feature" / "x" / "report.json").read_text())
    assert report["recordings"]["scored@0"]["pitch"] > 0.8
    assert report["recordings"]["scored@0"]["over_noise"] > 30
    assert prepare("check", "x") == 0

    # Again: everything is kept; a corrected file is made anew, alone.
    before = contents(tmp_path / "feature" / "x")
    marks = {p: p.stat().st_mtime_ns for p in (tmp_path / "feature" / "x" / "songs").glob("*/*")}
    (folder / "wrong.txt").write_text(one.text)
    assert prepare("singing", folder, "--name", "x", "--voice", "x") == 0
    after = contents(tmp_path / "feature" / "x")
    assert all(after[name] == content for name, content in before.items())
    assert all(path.stat().st_mtime_ns == mark for path, mark in marks.items())
    check_phrases(tmp_path, "wrong@0", one, 0.03)


def test_the_layout_of_nus_48e(
    tmp_path: Path, truths: dict[str, Truth], prepare: Callable[..., int], capsys
) -> None:
    """SINGER/sing/NN.wav with NN.txt of `onset offset phoneme`, SINGER/read/ spoken."""
    for singer, name in (("ADIZ", "one"), ("JLEE", "two"), ("ADIZ", "two")):
        folder = tmp_path / "nus" / singer / "sing"
        number = {"one": "01", "two": "02"}[name]
        write_wav(folder / f"{number}.wav", truths[name].wav)
        rows = "".join(f"{a} {b} {phone}\n" for a, b, phone in rows_of(truths[name]))
        (folder / f"{number}.txt").write_text(rows)
        write_wav(folder.with_name("read") / f"{number}.wav", truths[name].wav)
        (folder.with_name("read") / f"{number}.txt").write_text(rows)
    assert prepare("singing", tmp_path / "nus", "--name", "x", "--voices-by-folder") == 0
    said = capsys.readouterr().out
    assert "3 recordings, fewer than 8" in said and "a spoken recording" in said
    items = index_of(tmp_path)["items"]
    assert {item["voice"] for item in items} == {"ADIZ", "JLEE"}
    assert "sing" in " ".join(item["text"] for item in items)
    check_phrases(tmp_path, "ADIZ - 01", truths["one"], 0.005)
    check_phrases(tmp_path, "JLEE - 02", truths["two"], 0.005)


def test_the_layout_of_csd(
    tmp_path: Path, truths: dict[str, Truth], prepare: Callable[..., int]
) -> None:
    """english/{wav,mid,lyric,csv}/NAME.*, a note and its syllable's phonemes in a row of csv."""
    folder = tmp_path / "CSD" / "english"
    for number, truth in enumerate(truths.values(), 1):
        id = f"en00{number}a"
        write_wav(folder / "wav" / f"{id}.wav", truth.wav)
        for kind in ("mid", "lyric", "csv"):
            (folder / kind).mkdir(exist_ok=True)
        (folder / "lyric" / f"{id}.txt").write_text(truth.text)
        rows = ["start,end,pitch,syllable"]
        for syllable in truth.score.syllables:
            names = "_".join(phoneme.rstrip("012").lower() for phoneme in syllable.phonemes)
            note = syllable.notes[0]
            rows.append(f"{note.onset:.3f},{note.offset:.3f},{note.pitch},{names}")
        (folder / "csv" / f"{id}.csv").write_text("\n".join(rows))
        file = mido.MidiFile()
        file.tracks.append(mido.MidiTrack())
        file.save(folder / "mid" / f"{id}.mid")
    split = ("--validation-share", "0.3", "--test-share", "0")
    assert prepare("singing", tmp_path / "CSD", "--name", "x", *split) == 0
    assert not index_of(tmp_path)["skipped"]
    texts = " ".join(item["text"] for item in index_of(tmp_path)["items"])
    written = " ".join(truth.text for truth in truths.values())
    assert texts == written.replace(",", "").replace(".", "")
    for number, truth in enumerate(truths.values(), 1):
        # Consonants are given slots: only vowels are where the table says.
        check_phrases(tmp_path, f"english - en00{number}a", truth, 0.05)
