"""Recordings and their files; label formats; words and notes to scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from corpora.phoneme_labels import Phone, SungWord, has_labels, note_pitch, read_labels, spelling
from corpora.recordings import find_recordings
from corpora.sung_words import join_by_lyrics, lay_words

ROWS = [("sil", 0.0, 0.4), ("s", 0.4, 0.5), ("ih", 0.5, 0.9), ("ng", 0.9, 1.0), ("sp", 1.0, 1.1)]
ROWS += [("l", 1.1, 1.2), ("aw", 1.2, 1.8), ("d", 1.8, 1.9), ("sil", 1.9, 2.5)]
SUNG = [("S", 0.4, 0.5), ("IH1", 0.5, 0.9), ("NG", 0.9, 1.0)]
LOUD = [("L", 1.1, 1.2), ("AW1", 1.2, 1.8), ("D", 1.8, 1.9)]
LONG_GRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 2.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 2.5
        intervals: size = 4
{words}
    item [2]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 2.5
        intervals: size = 9
{phones}
"""
WORDS = [("", 0.0, 0.4), ("sing", 0.4, 1.1), ("loud", 1.1, 1.9), ("", 1.9, 2.5)]


def intervals(rows: list[tuple[str, float, float]], short: bool = False) -> str:
    if short:
        return "\n".join(f'{a}\n{b}\n"{name}"' for name, a, b in rows)
    lines = []
    for number, (name, a, b) in enumerate(rows, 1):
        lines += [f"intervals [{number}]:", f"xmin = {a}", f"xmax = {b}", f'text = "{name}"']
    return "\n".join(lines)


def flat(words: tuple[SungWord, ...]) -> list[list[tuple[str, float, float]]]:
    return [[(p.symbol, round(p.onset, 4), round(p.offset, 4)) for p in w.phones] for w in words]


def label_files(directory: Path) -> dict[str, Path]:
    """The same labels in every format."""
    short = '"ooTextFile"\n"TextGrid"\n\n0\n2.5\n<exists>\n2\n'
    short = "File type = " + short.replace('"TextGrid"', 'Object class = "TextGrid"')
    for name, rows in (("words", WORDS), ("phones", ROWS)):
        short += f'"IntervalTier"\n"{name}"\n0\n2.5\n{len(rows)}\n{intervals(rows, True)}\n'
    segment = {
        "offset": 0.0,
        "ph_seq": " ".join(name if name != "sp" else "SP" for name, _, _ in ROWS),
        "ph_dur": " ".join(f"{b - a:.4f}" for _, a, b in ROWS),
        "note_seq": "rest D4 E4 rest",
        "note_dur": "0.5 0.7 0.7 0.6",
    }
    texts = {
        "long.TextGrid": LONG_GRID.format(words=intervals(WORDS), phones=intervals(ROWS)),
        "short.TextGrid": short,
        "htk.lab": "".join(f"{round(a * 1e7)} {round(b * 1e7)} {n}\n" for n, a, b in ROWS),
        "rows.txt": "".join(f"{a:.6f} {b:.6f} {n}\n" for n, a, b in ROWS),
        "script.ds": json.dumps([segment]),
    }
    for name, text in texts.items():
        (directory / name).write_text(text, encoding="utf-8")
    return {name: directory / name for name in texts}


def test_every_format_says_the_same(tmp_path: Path) -> None:
    files = label_files(tmp_path)
    for name, path in files.items():
        assert has_labels(path), name
        labels = read_labels(path)
        assert flat(labels.words) == [SUNG, LOUD], name
        texts = [word.text for word in labels.words]
        assert texts == (["sing", "loud"] if "TextGrid" in name else ["", ""])
    assert read_labels(files["script.ds"]).notes == ((0.5, 1.2, 62.0), (1.2, 1.9, 64.0))


def test_text_that_is_no_label_is_lyrics(tmp_path: Path) -> None:
    for name, text in (("a.txt", "we sing\nof rain\n"), ("b.lab", "sing loud"), ("c.csv", "a,b\n")):
        (tmp_path / name).write_text(text)
        assert not has_labels(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.lab", "0.0 1.0 sh\n1.0 2.0 iang\n", "iang: expected ARPAbet"),
        ("a.lab", "0.0 1.0 s\n0.5 nonsense\n", "line 2"),
        ("a.lab", "1.0 2.0 s\n0.5 0.9 ih\n", "must follow in time"),
        ("a.lab", "0.0 1.0 sil\n", "every label is a silence"),
        ("a.ds", '[{"ph_seq": "s ih", "ph_dur": "0.1"}]', "2 entries in ph_seq, 1 in ph_dur"),
        ("a.ds", "[3]", "expected ph_seq"),
        ("a.TextGrid", 'File type = "ooTextFile"\nObject class = "TextGrid"\n0\n1\n', "no tier"),
        ("a.TextGrid", "nothing", "not a TextGrid"),
        ("a.csv", "start,end,pitch,syllable\n0.1,0.5,sixty,s_ih_ng\n", "line 2"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=says):
        read_labels(tmp_path / name)


def test_a_table_of_syllables_puts_vowels_on_their_notes(tmp_path: Path) -> None:
    table = "start,end,pitch,syllable\n0.50,1.20,62,s_ih_ng\n1.20,1.90,64,l_aw_d\n"
    (tmp_path / "a.csv").write_text(table)
    labels = read_labels(tmp_path / "a.csv")
    vowels = [p for word in labels.words for p in word.phones if p.symbol[-1] == "1"]
    assert [(p.symbol, p.onset) for p in vowels] == [("IH1", 0.5), ("AW1", 1.2)]
    assert labels.notes == ((0.5, 1.2, 62.0), (1.2, 1.9, 64.0))
    assert spelling(("S", "IH1", "NG")) == "sing"
    assert spelling(("S", "IH1", "V", "ZH")) == "{S IH1 V ZH}"


def test_note_names() -> None:
    assert [note_pitch(n) for n in ("C4", "A#3", "Bb3", "61", "rest", "F#4+12")] == [
        *(60, 58, 58, 61, None, 66)
    ]
    with pytest.raises(ValueError, match="H4"):
        note_pitch("H4")


def word(text: str, *phones: tuple[str, float, float]) -> SungWord:
    return SungWord(text, tuple(Phone(*phone) for phone in phones))


def test_syllables_take_the_notes_that_sound_in_them() -> None:
    words = [word("sing", *SUNG), word("loud", *LOUD)]
    f0 = np.full(160, 440 * 2 ** ((64 - 69) / 12))
    score, times = lay_words(words, [(0.48, 0.8, 60.2), (0.8, 1.15, 62.1)], f0, 0.016)
    first, second = score.syllables
    # The vowel begins its note; it lasts to the next vowel, over the consonants between.
    assert first.onset == 0.5 and first.offset == second.onset == 1.2
    assert [n.pitch for n in first.notes] == [60, 62] and first.notes[1].onset == 0.8
    assert [n.pitch for n in second.notes] == [64]  # no note: what is heard
    assert times[1] == [(1.1, 1.2), (1.2, 1.8), (1.8, 1.9)] and second.offset == 1.9
    # After a rest a syllable ends with its phonemes.
    later = word("loud", *((s, a + 1.0, b + 1.0) for s, a, b in LOUD))
    assert lay_words([words[0], later], [(0.5, 3, 60)], f0, 0.016)[0].syllables[0].offset == 1.0
    with pytest.raises(ValueError, match="is this singing"):
        lay_words(words, [], np.zeros(160), 0.016)


def test_labelled_syllables_join_to_the_words_of_lyrics() -> None:
    parts = [word("", ("AH0", 0, 1)), word("", ("W", 1, 1.5), ("EY1", 1.5, 2)), word("", *SUNG)]
    joined = join_by_lyrics(parts, [("away", 2), ("sing", 1)])
    assert [w.text for w in joined] == ["away", "sing"]
    assert [p.symbol for p in joined[0].phones] == ["AH0", "W", "EY1"]
    assert join_by_lyrics(parts, [("away", 2)]) == parts


def touch(directory: Path, *names: str, text: str = "we sing") -> None:
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


def test_what_lies_beside_a_recording_is_found(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "a.mid", "a_accompaniment.flac", "b.WAV", "b.lrc", "c.wav", "x@1.wav")
    touch(tmp_path, "x@1.txt", "band/a (Instrumental).wav", "english/wav/en1.wav")
    touch(tmp_path, "english/mid/en1.mid", "english/lyric/en1.txt", "english/txt/en1.txt")
    touch(tmp_path, "english/csv/en1.csv", text="start,end,pitch,syllable\n0,1,60,s_ih\n")
    touch(tmp_path, "ADIZ/sing/01.wav", "ADIZ/read/01.wav")
    touch(tmp_path, "ADIZ/sing/01.txt", "ADIZ/read/01.txt", text="0.0 1.0 sil\n1.0 1.2 ih\n")
    found, rejections = find_recordings(tmp_path, "her")
    by_id = {recording.id: recording for recording in found}
    assert set(by_id) == {"a", "b", "english - en1", "ADIZ - 01"}
    assert by_id["a"].notes == tmp_path / "a.mid" and by_id["a"].voice == "her"
    assert by_id["a"].accompaniment == tmp_path / "a_accompaniment.flac"
    assert by_id["b"].lyrics == tmp_path / "b.lrc" and by_id["b"].accompaniment is None
    english = by_id["english - en1"]
    assert english.labels == tmp_path / "english/csv/en1.csv"
    assert english.lyrics == tmp_path / "english/lyric/en1.txt" and english.notes is not None
    assert by_id["ADIZ - 01"].labels == tmp_path / "ADIZ/sing/01.txt"
    reasons = {rejection.id: rejection.reason for rejection in rejections}
    assert "nothing says what is sung" in reasons["c"] and "'@'" in reasons["x@1"]
    assert "spoken" in reasons["ADIZ - read - 01"]
    singers, outside = find_recordings(tmp_path, "her", voices_by_folder=True)
    assert {r.id: r.voice for r in singers} == {"english - en1": "english", "ADIZ - 01": "ADIZ"}
    assert any("lies in no folder of a singer" in r.reason for r in outside)
    with pytest.raises(FileNotFoundError, match="no recording"):
        find_recordings(tmp_path / "english" / "mid", "her")


def test_two_recordings_of_one_name_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "wav/a.wav", "wav/a.txt", "audio/a.wav", "audio/a.txt")
    found, rejections = find_recordings(tmp_path, "her")
    assert [recording.id for recording in found] == ["a"]
    assert "same name" in rejections[0].reason
