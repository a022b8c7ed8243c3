"""Lyrics as pages, editors and players write them: only the words are sung, the rest is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from text.frontend import Pronouncer
from text.lyrics import parse_lyrics, read_lyrics

PRONOUNCER = Pronouncer()


def sung(text: str) -> list[str]:
    return [line.text for line in parse_lyrics(text)]


def spoken(line: str) -> str:
    return " ".join(word.text for word in PRONOUNCER.pronounce(line).words)


@pytest.mark.parametrize("label", ["F:", "M: ", "D:", "Both: ", "All : ", "Girls:"])
def test_who_sings_is_not_sung(label: str) -> None:
    lyrics = parse_lyrics(f"[00:01.00]{label}over the sea\n[00:03.00]and home")
    assert [line.text for line in lyrics] == ["over the sea", "and home"]
    assert label.strip() in " ".join(lyrics.remarks)


@pytest.mark.parametrize("heading", ["## Bridge", "-- Bridge --", "=== Bridge ===", "<Bridge>"])
@pytest.mark.parametrize("again", ["{Bridge}", "*** Bridge ***", "Last Bridge", "Bridge (all)"])
def test_decorated_headings_name_sections(heading: str, again: str) -> None:
    lyrics = parse_lyrics(f"first words\n\n{heading}\nover it\n\n{again}\nmore words")
    assert [line.text for line in lyrics] == ["first words", "over it", "more words"]
    assert heading.strip("# ") in " ".join(lyrics.remarks)


@pytest.mark.parametrize(
    "name", ["Repeat Chorus", "Chorus (reprise)", "Chorus | big", "Chorus again"]
)
def test_a_heading_may_say_more_than_a_name(name: str) -> None:
    assert sung(f"[Chorus]\nla one\n[Verse]\nhi\n[{name}]") == ["la one", "hi", "la one"]
    first = f"[{name.replace('Repeat ', '')}]\nla one\n[Verse]\nhi\n[Chorus]"
    assert sung(first) == ["la one", "hi", "la one"]


def test_a_chorus_without_lines_is_the_last_one_or_is_missed() -> None:
    lyrics = parse_lyrics("[Chorus 1]\nla one\n[Verse]\nhi\n[Final Chorus]\n[Chorus]")
    assert [line.text for line in lyrics] == ["la one", "hi", "la one", "la one"]
    missed = parse_lyrics("[Verse]\nhi\n[Chorus]\n[Instrumental]")
    assert any("[Chorus] in line 3: no words" in remark for remark in missed.remarks)
    assert not any("Instrumental" in remark for remark in missed.remarks)


@pytest.mark.parametrize(
    "note",
    [
        *("Title: My song", "Capo 3", "Key: Bb", "Words and music by Ann Bell", "Lyrics by: A. B."),
        *("© 1999 A Company", "https://lyrics.example/x", "12Embed", "You might also like"),
        *("# A comment", "Am: x02210"),
    ],
)
def test_notes_on_the_song_are_not_sung(note: str) -> None:
    lyrics = parse_lyrics(f"{note}\nwritten by the river\nmusic makes me glad")
    assert [line.text for line in lyrics] == ["written by the river", "music makes me glad"]
    assert note in " ".join(lyrics.remarks)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("(Am)Hello (G)you\n(C)my (F)friend", ["Hello you", "my friend"]),
        ("(C)Hello (G)You\nwa(C)lk", ["Hello You", "walk"]),
        ("(B)eautiful (D)ay", ["Beautiful Day"]),
        ("Am  G\nHello\nC\nyou\nA E\nfriend", ["Hello", "you", "friend"]),
        ("Hello\nA B C\neasy", ["Hello", "A B C", "easy"]),
        ("CMaj7  Am7\nHello\nC6/9 C7alt Cmi7\nyou", ["Hello", "you"]),
        ("| C . . . | Am . G . |\nHello\nC, G, Am\nyou", ["Hello", "you"]),
    ],
)
def test_chords_by_their_surroundings(text: str, lines: list[str]) -> None:
    assert sung(text) == lines


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("1. One\nhow\n\n2. Two\nthat", ["One", "how", "Two", "that"]),
        ("1 Amazing!\nhow\n\n2 'Twas\nthat", ["Amazing!", "how", "'Twas", "that"]),
        ("1 for the money\n2 for the show", ["1 for the money", "2 for the show"]),
        ("5. never\n3. before", ["5. never", "3. before"]),
    ],
)
def test_numbers_of_verses(text: str, lines: list[str]) -> None:
    assert sung(text) == lines
    is_changed = lines[0] != text.split("\n")[0]
    assert any("numbers of verses" in r for r in parse_lyrics(text).remarks) == is_changed


@pytest.mark.parametrize(
    "text",
    [
        "0:01 first words\n0:05 - second\n1:10 third",
        "0:01\nfirst words\n0:05\nsecond\n1:10\nthird",
        "1.0\t4.5\tfirst words\n5.0\t9.0\tsecond\n70.0\t72.5\tthird",
        "1\n00:00:01,000 --> 00:00:04,500\n{\\an8}first words\n\n2\n00:00:05,000 --> 00:00:09,000\n"
        "<i>second</i>\n\n3\n00:01:10,000 --> 00:01:12,500\nthird",
        "[00:01.000000]first words\n[00:05]second\n[01:10.0]third",
        "[offset: ]\n[00:01.00]first words\n[00:05.00]second\n[01:10.00]third",
        "[offset:+500 ms]\n[00:01.50]first words\n[00:05.50]second\n[01:10.50]third",
    ],
)
def test_times_in_every_layout(text: str) -> None:
    lines = [(line.text, line.start) for line in parse_lyrics(text)]
    assert lines == [("first words", 1.0), ("second", 5.0), ("third", 70.0)]


def test_labels_of_words_are_joined_to_lines() -> None:
    rows = "0 5000000 sil\n5000000 9000000 over\n9000000 15000000 here\n35000000 40000000 again"
    lines = [(line.text, line.start, line.end) for line in parse_lyrics(rows)]
    assert lines == [("over here", 0.5, 1.5), ("again", 3.5, 4.0)]


def test_times_that_are_words_stay_words() -> None:
    text = "7:30 wake up\nthen I go\nand I stay\n5:15 come home\nto you"
    assert all(line.start is None for line in parse_lyrics(text))
    assert sung("5 6 pick up\n7 8 lay them") == ["5 6 pick up", "7 8 lay them"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{\\rtf1 words}", "rich text"),
        (b"[Script Info]\nTitle: x", "ffmpeg"),
        (b"<!DOCTYPE html><p>words</p>", "web page"),
        (b"#TITLE:x\n#BPM:300\n: 0 4 60 Hel\n: 4 4 62 lo", "UltraStar"),
        (b"0.0 0.5 HH\n0.5 1.0 AH0\n1.0 1.5 L", "phonemes"),
        (b"[00:01.00]hi\n[00:0a.00]there", "line 2"),
        (b"PK\x03\x04\x14\x00\x00\x00", "docx"),
        (b"%PDF-1.7 \x00", "PDF"),
        (b"MThd\x00\x00\x00\x06", "--melody"),
        (b"ID3\x04\x00\x00", "--accompaniment"),
        (b"over\x00here", "line 1"),
    ],
)
def test_what_is_no_lyrics_file_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "song.txt"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as error:
        read_lyrics(path)
    assert str(path) in str(error.value)


def test_line_breaks_of_text_processors() -> None:
    assert sung("one\u2028two\x0bthree\x85four\rfive") == ["one", "two", "three", "four", "five"]


@pytest.mark.parametrize("sign", ["→", "∞", "₿", "♥", "<3", "★"])
def test_signs_without_a_sound_are_remarked(sign: str) -> None:
    lyrics = parse_lyrics(f"over {sign} here")
    assert [line.text for line in lyrics] == ["over here"] and len(lyrics.remarks) == 1


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("hal-le-lu-jah", "hallelujah"),
        ("mu-sic ev-er", "music ever"),
        ("hal~le~lu~jah", "hallelujah"),
        ("no-no I-I so-o re-sign no-one", "no no i i so o re sign no-one"),
        ("Part II", "part two"),
        ("Louis XIV", "louis the fourteenth"),
        ("Rocky IV and my IV", "rocky four and my i.v."),
        ("Malcolm X", "malcolm x"),
        ("gr8 4ever", "great forever"),
        ("a $20 bill", "a twenty dollar bill"),
        ("$.50", "fifty cents"),
        ("100s of 1000s", "hundreds of thousands"),
        ("3x the love", "three times the love"),
        ("2x4", "two by four"),
        ("‹over› 「here」", "over here"),
    ],
)
def test_how_it_is_said(written: str, said: str) -> None:
    assert spoken(written) == said
