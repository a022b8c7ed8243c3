"""The front end of every text: a line of lyrics to the symbols that the network reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from text import interjections, word_forms
from text.lexicon import CLIPPED, Lexicon, parse_phonemes, read_user_lexicon, reading_beside, spell
from text.normalize import COUNTED, REIGNING, ROMAN, normalise, tokens, without_pictures
from text.numbers import TENS, UNITS, cardinal
from text.symbols import EOS, PUNCTUATION, WORD_BOUNDARY, is_vowel

if TYPE_CHECKING:
    from text.letter_to_sound import LetterToSound


NUMBER_WORDS = frozenset(UNITS) | frozenset(TENS) - {""}
STOPS = (",", ".", "?", "!", ";", ":")
CAPITALS = re.compile(r"(?<![\w.'’{-])[A-Z]{2,5}(?![\w.'’-])")
CAPITALISED = re.compile(r"\b([A-Z][\w'’]*) $")  # the word in front
TWO_WORDS = frozenset(("re-cover", "re-form", "re-sign"))  # not recover, reform, resign


@dataclass(frozen=True)
class Word:
    """A spoken word and its place: `symbols[first_symbol : last_symbol + 1]` are its phonemes.

    `guessed` says that no lexicon lists it, nor a word of which it is a regular form.
    """

    text: str
    phonemes: tuple[str, ...]
    guessed: bool
    first_symbol: int
    last_symbol: int


@dataclass(frozen=True)
class Pronunciation:
    """The symbols of one line, ending with `EOS`, and its words in order."""

    symbols: tuple[str, ...]
    words: tuple[Word, ...]

    @property
    def guessed(self) -> tuple[str, ...]:
        """The words whose pronunciation was guessed, each once, in order."""
        return tuple(dict.fromkeys(word.text for word in self.words if word.guessed))


@dataclass(frozen=True)
class _Sounds:
    """A pronounced word before it has a place in the line."""

    text: str
    phonemes: tuple[str, ...]
    guessed: bool = False


class Pronouncer:
    """Lines of English to symbols: normalised, looked up, and guessed where no lexicon helps.

    `user_lexicon` is a file of `word  PH ON EMES` lines that goes before every other source; a
    missing or wrong file raises FileNotFoundError or ValueError here. CMUdict and the rules are
    read at the first word, in well below a second.
    """

    def __init__(self, user_lexicon: Path | str | None = None) -> None:
        """Read the user lexicon, if there is one."""
        self.lexicon = Lexicon(read_user_lexicon(user_lexicon) if user_lexicon else None)

    @cached_property
    def letter_to_sound(self) -> LetterToSound:
        """The rules for words that no lexicon has."""
        from text.letter_to_sound import LetterToSound  # late: most lyrics do without

        return LetterToSound()

    def is_known(self, word: str) -> bool:
        """Return whether a lexicon lists a written word, or one of which it is a regular form."""
        return self._known(normalise(word)) is not None

    def pronounce(
        self, line: str, line_number: int = 1, around: tuple[str, str] = ("", "")
    ) -> Pronunciation:
        """Return the symbols and words of one line; `around` is the text before and after it.

        Raises ValueError naming `line_number` for a character that cannot be read, a wrong phoneme
        in braces, a brace without its partner, or a line without any word.
        """
        parts = self._parts(line, line_number)
        if not parts:
            raise ValueError(
                f"line {line_number}: no word to pronounce in {line.strip()!r}; expected English "
                "words, numbers, or phonemes in braces as {HH AH0 L OW1}"
            )
        left, right = (_words_of(text) for text in around)
        texts = [*left, *(part.text for part in parts if isinstance(part, _Sounds)), *right]
        behind: Sequence[_Sounds | str] = self._words(right[0], line_number) if right else ()
        symbols: list[str] = []
        words: list[Word] = []
        for part, following in zip(parts, [*parts[1:], next(iter(behind), None)], strict=True):
            if isinstance(part, str):
                symbols.append(part)
                continue
            if words:
                symbols.append(WORD_BOUNDARY)
            place = len(left) + len(words)
            phonemes = self._in_context(part, following, texts[:place], texts[place + 1 :])
            first = len(symbols)
            symbols += phonemes
            words.append(Word(part.text, phonemes, part.guessed, first, len(symbols) - 1))
        return Pronunciation((*symbols, EOS), tuple(words))

    def _parts(self, line: str, line_number: int) -> list[_Sounds | str]:
        """Return the words and punctuation symbols of a line."""
        if any(character.islower() for character in line):  # else capitals mean nothing
            line = CAPITALS.sub(self._acronym, line)
        parts: list[_Sounds | str] = []
        for token in tokens(normalise(line, line_number)):
            mark = "…" if token == "..." else token
            parts += [mark] if mark in PUNCTUATION else self._words(token, line_number)
        return parts

    def _acronym(self, match: re.Match[str]) -> str:
        """Return capitals that are no word with full stops, so that they are said by letters.

        Behind a name they may be a number: "Rocky IV".
        """
        word = match[0].lower()
        if word in ROMAN and (before := CAPITALISED.search(match.string, 0, match.start())):
            is_named = re.fullmatch(f"{REIGNING}|(?:{COUNTED})s?", before[1].lower())
            return match[0] if is_named else cardinal(ROMAN[word])
        is_word = self._known(word) is not None
        return match[0] if is_word else "".join(f"{letter}." for letter in word)

    def _words(self, token: str, line_number: int) -> list[_Sounds]:
        """Return the words of one token: inline phonemes, spelled letters, a word or its parts."""
        if token.startswith("{"):
            return [_Sounds(token, parse_phonemes(token[1:-1], f"line {line_number}, {token}"))]
        if "." in token:  # CMUdict has few of these, and "e.g." as a word
            letters = spell(token.replace(".", ""))
            return [_Sounds(token, self.lexicon.user_entries.get(token) or letters)]
        if known := self._known(token):
            return [known]
        parts = [part for part in token.split("-") if part]
        if len(parts) == 1:
            return [self._guess(token)]
        if joined := self._joined(parts):
            return [joined]
        words = [word for part in parts for word in self._words(part, line_number)]
        if parts[0] == "a" and (parts[1] in NUMBER_WORDS or len(parts[1]) == 1):
            words[0] = _Sounds("a", spell("a"))  # "a-four" begins with a letter, "a-walking" not
        return words

    def _joined(self, parts: Sequence[str]) -> _Sounds | None:
        """Return the word that hyphens part by syllables ("hal-le-lu-jah"), if it is listed.

        Repeated parts and drawn-out vowels ("no-no", "so-o") are sung as they are written.
        """
        word = "".join(parts)
        is_drawn = any(len(b) == 1 and a.endswith(b) for a, b in pairwise(parts))
        if is_drawn or len(set(parts)) < len(parts) or "-".join(parts) in TWO_WORDS:
            return None
        listed = self.lexicon.get(word)
        return _Sounds(word, listed) if listed else None

    def _known(self, token: str) -> _Sounds | None:
        """Return a listed word, a drawn-out one or a regular form, without quotes around it."""
        lookup = self.lexicon.get
        spellings = dict.fromkeys((token, token.lstrip("'"), token.rstrip("'"), token.strip("'")))
        for text in spellings:  # lovin' before the surname Lovin
            if text in self.lexicon.user_entries:
                return _Sounds(text, self.lexicon.user_entries[text])
            stem = text.removesuffix("'s")
            if stem != text and stem.endswith("in") and (stem in CLIPPED or not lookup(stem)):
                form = word_forms.clipped(stem, lookup)  # nothin's
                if form:
                    return _Sounds(text, word_forms.plural_sound(form))
            is_clipped = text.endswith("in'") or text in CLIPPED
            if is_clipped and (form := word_forms.clipped(text.rstrip("'"), lookup)):
                return _Sounds(text, form)
        for text in spellings:
            if listed := lookup(text):
                return _Sounds(text, listed)
        for text in spellings:
            if sung := interjections.drawn_out(text):
                return _Sounds(text, sung)
            for shorter in word_forms.undrawn(text):
                if listed := lookup(shorter):
                    return _Sounds(text, listed)
        for text in spellings:
            if formed := word_forms.inflected(text, lookup):
                return _Sounds(text, formed)
        for text in spellings:
            form = interjections.row(text)
            if not form and text.endswith("in"):
                form = word_forms.clipped(text, lookup)
            if form:
                return _Sounds(text, form)
        return None

    def _guess(self, token: str) -> _Sounds:
        """Return a guess: from known words that the word seems made of, else by the rules."""
        letters = token.replace("'", "")
        derived = word_forms.derived(letters, self.lexicon.get)
        return _Sounds(token.strip("'"), derived or self.letter_to_sound(letters), True)

    def _in_context(
        self,
        word: _Sounds,
        following: _Sounds | str | None,
        before: Sequence[str],
        after: Sequence[str],
    ) -> tuple[str, ...]:
        """Return a word's phonemes between its neighbours.

        "the" is DH IY0 before a vowel's sound; "a" is the letter before a stop ("plan A."); of
        heteronyms see text.lexicon.reading_beside. A user's own entry stays as it is.
        """
        if word.text in self.lexicon.user_entries:
            return word.phonemes
        if word.text == "the" and isinstance(following, _Sounds):
            return ("DH", "IY0") if is_vowel(following.phonemes[0]) else word.phonemes
        if word.text == "a" and following in STOPS:
            return spell("a")
        return reading_beside(word.text, before, after) or word.phonemes


def _words_of(text: str) -> list[str]:
    """Return the words of a text that stands around a line, as far as it can be read."""
    text = "".join(c if c.isascii() else without_pictures(c)[0] for c in text)
    try:
        return [token for token in tokens(normalise(text)) if token[0].isalpha() or token[0] == "'"]
    except ValueError:  # its own line says so
        return []
