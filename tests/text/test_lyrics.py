"""Lyrics files: plain text and LRC, with everything that such files bring along."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from text.lyrics import LyricLine, looks_like_path, parse_lyrics, read_lyrics

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_plain_text_keeps_lines_numbers_and_sections() -> None:
    text = "\ufeffFirst line\r\n\r\n[Chorus]\r\n  Second line \n[Verse 2:] Third\rFourth"
    assert parse_lyrics(text) == [
        LyricLine("First line", 1),
        LyricLine("Second line", 4, None, "Chorus"),
        LyricLine("Third", 5, None, "Verse 2"),
        LyricLine("Fourth", 6, None, "Verse 2"),
    ]


def test_lrc_stamps_sort_and_repeat_lines() -> None:
    lines = parse_lyrics(
        "[ti:Song]\n[ar:Nobody]\n[length: 03:00]\n"
        "[00:10.50][01:00.25] Again\n[00:05]Begin\n[00:20.123]Then\n[00:30:5]Last\n[00:40.00]\n"
    )
    assert [(line.start, line.text) for line in lines] == [
        (5.0, "Begin"),
        (10.5, "Again"),
        (20.123, "Then"),
        (30.5, "Last"),
        (60.25, "Again"),
    ]
    assert [line.line_number for line in lines] == [5, 4, 6, 7, 4]


@pytest.mark.parametrize(("offset", "start"), [("+250", 9.75), ("-250", 10.25), ("20000", 0.0)])
def test_offset_moves_the_lyrics_earlier(offset: str, start: float) -> None:
    assert parse_lyrics(f"[00:10.00]Line\n[offset:{offset}]")[0].start == start


def test_word_stamps_are_taken_out() -> None:
    lines = parse_lyrics(
        "[00:01.00] <00:01.10> Hel<00:01.20>lo <00:01.50> world\n<00:03.00>No <00:04.00>line stamp"
    )
    assert [(line.start, line.text) for line in lines] == [
        (1.0, "Hello world"),
        (3.0, "No line stamp"),
    ]


def test_unstamped_lines_stay_behind_their_neighbour() -> None:
    lines = parse_lyrics("[00:20.00]Late\nbehind late\n[00:10.00]Early\nbehind early")
    assert [line.text for line in lines] == ["Early", "behind early", "Late", "behind late"]
    assert [line.start for line in lines] == [10.0, None, 20.0, None]


@given(st.sets(st.tuples(st.integers(0, 5999), st.integers(0, 99)), min_size=1, max_size=20))
def test_times_survive_and_come_in_order(stamps: set[tuple[int, int]]) -> None:
    text = "\n".join(f"[{s // 60:02d}:{s % 60:02d}.{c:02d}]la" for s, c in stamps)
    starts = [line.start for line in parse_lyrics(text)]
    assert starts == pytest.approx([s + c / 100 for s, c in sorted(stamps)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no line of lyrics"),
        ("\n[Chorus]\n\n", "no line of lyrics"),
        ("ok\n[00:75.00]Line", r"line 2: stamp \[00:75.00\] has 75 seconds"),
        ("[0:1:2:3]Line", r"line 1: \[0:1:2:3\] is no time stamp"),
        ("[offset:soon]\nLine", r"line 1: \[offset:soon\]; expected whole milliseconds"),
    ],
)
def test_broken_lyrics_are_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_lyrics(text)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "song.lrc"
    path.write_bytes("\ufeff[00:01.00]Café\r\n".encode())
    assert read_lyrics(path) == [LyricLine("Café", 1, 1.0)]
    path.write_bytes("one\ncaf\xe9\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"song\.lrc, line 2: byte 0xe9 is not UTF-8.*iconv"):
        read_lyrics(path)
    path.write_text("one".encode("utf-16").decode("latin-1"), encoding="latin-1")
    with pytest.raises(ValueError, match="not UTF-8"):
        read_lyrics(path)
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"song\.lrc: no line"):
        read_lyrics(path)
    with pytest.raises(FileNotFoundError, match=r"none\.txt"):
        read_lyrics(tmp_path / "none.txt")


def test_the_example_is_the_same_song_in_both_formats() -> None:
    plain, timed = read_lyrics(EXAMPLES / "lyrics.txt"), read_lyrics(EXAMPLES / "lyrics.lrc")
    assert [(line.text, line.section) for line in plain] == [
        (line.text, line.section) for line in timed
    ]
    assert all(line.start is None for line in plain)
    assert all(line.start is not None for line in timed)


def shown(text: str) -> list[tuple[str, float | None, float | None]]:
    """Words, start and end of each line."""
    return [(line.text, line.start, line.end) for line in parse_lyrics(text)]


def words(text: str) -> list[str]:
    return [line.text for line in parse_lyrics(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[00:02.00]Row [00:02.50]your [00:03.00]boat", [("Row your boat", 2.0, None)]),
        ("[00:08.00]gent[00:08.40]ly [00:09.00]down[00:09.90]", [("gently down", 8.0, 9.9)]),
        ("<00:08.00>gent<00:08.40>ly<00:09.00>", [("gently", 8.0, 9.0)]),
        ("[ 00:02.00 ]Row", [("Row", 2.0, None)]),
        ("[00:02,50]Row", [("Row", 2.5, None)]),
        ("[01:00:02.50]Row", [("Row", 3602.5, None)]),
        ("[00:03.00]Row\n[00:06.00]\n[00:09]on", [("Row", 3.0, 6.0), ("on", 9.0, None)]),
        ("[00:03.00]Row\n[00:06.00]♪", [("Row", 3.0, 6.0)]),
        ("[00:01.00]...\n[00:03.00]Row\n[00:06.00]---", [("Row", 3.0, 6.0)]),
        ("[00:03.00]Row\n[00:06.00](guitar solo)", [("Row", 3.0, 6.0)]),
        ("[00:03]a\nb\n[00:06]", [("a", 3.0, None), ("b", None, 6.0)]),
        ("[-00:01.00]Row\n[00:05.00]on", [("Row", 0.0, None), ("on", 5.0, None)]),
        (
            "[offset:5000]\n[00:03]a\n[00:04]b\n[00:12]c",
            [("a", 0.0, None), ("b", None, None), ("c", 7.0, None)],
        ),
        (
            "1\n00:00:01,500 --> 00:00:03,000\nRow\nboat\n",
            [("Row", 1.5, None), ("boat", None, 3.0)],
        ),
    ],
)
def test_times_of_lines(text: str, expected: list) -> None:
    assert shown(text) == expected


def test_lines_before_the_song_are_named_with_their_offset() -> None:
    lyrics = parse_lyrics("[offset:5000]\n[00:03]a\n[00:04]b\n[00:12]c")
    assert lyrics.remarks == (
        "changed: [offset:5000] moves lines 2, 3 before the song: sung from 0 s on",
    )


def test_a_translation_below_is_not_sung() -> None:
    lyrics = parse_lyrics("[00:03.00]Row your boat\n[00:03.00]Rema tu barca\n[00:10.00]gently")
    assert [line.text for line in lyrics] == ["Row your boat", "gently"]
    assert "line 2 'Rema tu barca'" in lyrics.remarks[0]


@pytest.mark.parametrize(
    ("text", "expected", "remark"),
    [
        ("I ♥ you 🎵", ["I you"], "♥, 🎵 in line 1"),
        ("I&#39;m on fire &amp; it&apos;s<br>true", ["I'm on fire & it's", "true"], ""),
        ("[C]Amazing [F]grace how [C#m7/G]sweet", ["Amazing grace how sweet"], "chords [C], [F]"),
        ("C     G7\nA[Am]mazing grace", ["Amazing grace"], "chords C G7, [Am] in lines 1, 2"),
        ("e|--0-2-3--|\nHello", ["Hello"], "chords"),
        ("A B C D", ["A B C D"], ""),
        ("| C | G |\nla\nIntro: C G Am", ["la"], "chords | C | G |, C G Am"),
        ("verse", ["verse"], ""),
        ("Bridge over troubled water", ["Bridge over troubled water"], ""),
        ("I said (I said) hello", ["I said hello"], "backing words (I said) in line 1"),
        ("(only) (these)", ["only these"], ""),
        ("(s)he loves (me)n", ["she loves men"], ""),
        ("Hello [softly] you", ["Hello you"], "[softly] in line 1"),
        ("Verse 1\nHello\nChorus:\nHi", ["Hello", "Hi"], "'Verse 1', 'Chorus:' in lines 1, 3"),
        ("The bridge is down\nVerse after verse", ["The bridge is down", "Verse after verse"], ""),
        ("{title: Song}\n{soc}\nHello\n{eoc}\n{HH AY1} you", ["Hello", "{HH AY1} you"], "{title"),
    ],
)
def test_what_is_not_sung_is_remarked(text: str, expected: list[str], remark: str) -> None:
    lyrics = parse_lyrics(text)
    assert [line.text for line in lyrics] == expected
    assert remark in " ".join(lyrics.remarks) and bool(remark) == bool(lyrics.remarks)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hi there (x2)\nyou", "Hi there, Hi there, you"),
        ("Hi there x3", "Hi there, Hi there, Hi there"),
        ("Hi [2x]", "Hi, Hi"),
        ("Hi (twice)", "Hi, Hi"),
        ("a\n\nb\nc\n(x2)\nd", "a, b, c, b, c, d"),
        ("[Chorus]\nHello\n[Verse]\nHi\n[Chorus]", "Hello, Hi, Hello"),
        ("[Chorus x2]\nHello\nyou\n[Verse]\nHi", "Hello, you, Hello, you, Hi"),
        (
            "Chorus (2x)\nHello\n\nVerse\nHi\n\nRepeat chorus\n\nOutro\nbye",
            "Hello, Hello, Hi, Hello, bye",
        ),
        ("[Chorus]\n[All]\nHello\n[Verse]\nHi\n[Chorus]\n[All]\nHello", "Hello, Hi, Hello"),
        ("[Intro]\n\n[Verse 1]\nHi\n[Verse 2]\n", "Hi"),
        ("Chorus x2:\nHi\nChorus: (x2)\nyou", "Hi, Hi, you, you"),
        ("(x2)\nHi", "Hi"),
        ("X marks the spot x", "X marks the spot x"),
    ],
)
def test_repeats(text: str, expected: str) -> None:
    assert ", ".join(words(text)) == expected


def test_repeats_are_said_and_keep_within_their_time() -> None:
    stamped = parse_lyrics("[00:03.00]La la la la (x2)\n[00:10.00]down")
    assert [line.text for line in stamped] == ["La la la la", "La la la la", "down"]
    assert stamped.remarks == ("repeated: line 1 (2 times)",)
    crowded = parse_lyrics("[00:03.00]La la la la (x9)\n[00:04.00]down")
    assert [line.text for line in crowded] == ["La la la la", "down"]
    assert crowded.remarks[0].startswith("not sung: the repeats of line 1")
    again = parse_lyrics("[Chorus]\n[00:03.00]La\n[Verse]\n[00:05]b\n[Chorus]")
    assert [line.text for line in again] == ["La", "b"]
    assert "has no words of its own" in again.remarks[0]


def test_stanzas_pass_over_lines_that_are_not_sung() -> None:
    lines = parse_lyrics("Am  G7\none\nF  G7\ntwo\n\nthree\n[Chorus]\nfour")
    assert [line.stanza for line in lines] == [0, 0, 1, 2]


def test_utf16_is_named(tmp_path: Path) -> None:
    for charset in ("utf-16", "utf-16-le"):
        (tmp_path / "song.txt").write_bytes("hello\n".encode(charset))
        with pytest.raises(ValueError, match=r"not UTF-8 but UTF-16.*iconv -f UTF-16"):
            read_lyrics(tmp_path / "song.txt")


PATHS = ("examples/lyric", "none.srt", "my song.txt", "../words", "~/a b", "C:\\x y", "song.lyric")
WORDS = (
    *("hello you", "hello", "wait... what", "R.E.S.P.E.C.T", "U.S.A.", "24/7", "w/o you", "oh."),
    *("and/or maybe", "one\ntwo.txt", "[00:01.00]hi", "and/or "),
)


def test_a_mistyped_file_name_is_no_lyric() -> None:
    assert [text for text in PATHS if not looks_like_path(text)] == []
    assert [text for text in WORDS if looks_like_path(text)] == []
