"""Lyrics files: plain text and LRC, with everything that such files bring along."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from text.lyrics import LyricLine, parse_lyrics, read_lyrics

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


@given(st.lists(st.tuples(st.integers(0, 5999), st.integers(0, 99)), min_size=1, max_size=20))
def test_times_survive_and_come_in_order(stamps: list[tuple[int, int]]) -> None:
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
