"""Lexicons: order of sources, user files with clear errors, nothing read before it is needed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from text.lexicon import (
    PREFERRED,
    SONG_WORDS,
    Lexicon,
    _cmudict_entries,
    parse_phonemes,
    read_user_lexicon,
)
from text.symbols import PHONEMES, is_vowel


def test_the_first_cmudict_pronunciation_is_taken() -> None:
    lexicon = Lexicon()
    assert lexicon.get("hello") == ("HH", "AH0", "L", "OW1")
    assert lexicon.get("a") == ("AH0",)  # "a(2)" is EY1
    assert lexicon.get("aalborg")[-1] == "G"  # its line ends with a comment
    assert lexicon.get("zworble") is None and "zworble" not in lexicon


def test_user_entries_go_before_all() -> None:
    lexicon = Lexicon({"live": ("L", "AY1", "V")})
    assert lexicon.get("live") == ("L", "AY1", "V")
    assert Lexicon().get("live") == ("L", "IH1", "V")


def test_own_tables_hold_phonemes_with_a_nucleus() -> None:
    for pronunciation in (*PREFERRED.values(), *SONG_WORDS.values()):
        assert set(pronunciation.split()) <= set(PHONEMES)
        assert any(map(is_vowel, pronunciation.split()))


def test_cmudict_holds_only_symbols_of_the_table() -> None:
    symbols = {symbol for entry in Lexicon().cmudict_entries.values() for symbol in entry.split()}
    assert symbols <= set(PHONEMES)


def test_cmudict_is_read_when_first_needed_once_and_fast() -> None:
    _cmudict_entries.cache_clear()
    lexicon = Lexicon()
    assert not _cmudict_entries.cache_info().currsize
    start = time.process_time()
    lexicon.get("hello")
    assert time.process_time() - start < 1.0
    assert Lexicon().cmudict_entries is lexicon.cmudict_entries


def test_user_lexicon_file(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_text(
        "\ufeff# comment\n\nCafé  k ae0 f ey1\n;;; more\no'er\tAO1 R # end\r\n", encoding="utf-8"
    )
    assert read_user_lexicon(path) == {"cafe": ("K", "AE0", "F", "EY1"), "o'er": ("AO1", "R")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("hello\n", r"line 1, 'hello': no phonemes"),
        ("\nhello HH AH L OW1\n", r"line 2, 'hello': 'AH' .* AH0 \(none\), AH1"),
        ("hello HH1 AH0\n", r"'HH1' .* no stress: HH"),
        ("hello QX\n", r"'QX' .* expected vowels"),
        ("x2 EH1 K S\n", r"line 1: 'x2' is not a word"),
        ("go G OW1\nGO G OW0\n", r"line 2: 'go' stands in line 1"),
        ("Привет P R IY0\n", r"line 1: .*CYRILLIC"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_user_lexicon(path)


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.txt"):
        read_user_lexicon(tmp_path / "none.txt")
    path = tmp_path / "latin.txt"
    path.write_bytes("café K AE0".encode("latin-1"))
    with pytest.raises(ValueError, match="not UTF-8"):
        read_user_lexicon(path)


def test_phonemes_are_read_in_any_case() -> None:
    assert parse_phonemes(" hh Ah0 ", "here") == ("HH", "AH0")
