"""Letter to sound: phonemes of words that no lexicon lists, by rules learnt from CMUdict.

Every letter sounds as 0, 1 or 2 phonemes, chosen by the letters around it. A rule is the letter in
brackets with some of its neighbours, "s[c]h" -> S K sounds, "#" the word's edge; contexts grow
in the order of `GROWTH`, and the widest rule that fits wins. Only rules that change what the
narrower one says are kept: a decision tree with default and exceptions (IGTree: Daelemans, van den
Bosch & Weijters 1997), over letter-phoneme alignments found by hard EM (Black, Lenzo & Pagel 1998).

The rules lie in letter_to_sound.txt, learnt from the nine tenths of CMUdict that `is_held_out`
leaves; the last tenth measures them. To learn them anew (some minutes):

    python -c "from text.letter_to_sound import relearn; relearn()"
"""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from text.lexicon import Lexicon, spell
from text.symbols import PHONEMES, is_vowel

RULES_FILE = Path(__file__).with_name("letter_to_sound.txt")
EDGE = "#"
GROWTH = "RLRRLRRL"  # the neighbour that each widening of a context adds: right or left
FEWEST = 3  # times that a context must occur in the training words to have a rule
GAIN = 3  # letters that a rule must set right, more than it sets wrong
LONGEST_SOUND = 2  # phonemes of one letter: "x" is K S

Sound = tuple[str, ...]
Rules = dict[str, Sound]


def contexts(word: str, position: int) -> list[str]:
    """Return the contexts of one letter from the narrowest, "[c]", to the widest."""
    left, right, found = "", "", [f"[{word[position]}]"]
    for side in GROWTH:
        if side == "L" and not left.startswith(EDGE):
            at = position - len(left) - 1
            left = (word[at] if at >= 0 else EDGE) + left
        elif side == "R" and not right.endswith(EDGE):
            at = position + len(right) + 1
            right += word[at] if at < len(word) else EDGE
        else:
            continue
        found.append(f"{left}[{word[position]}]{right}")
    return found


def apply_rules(
    rules: Mapping[str, Sound], word: str, widest: int = len(GROWTH)
) -> tuple[str, ...]:
    """Return the phonemes of a word of letters a-z; one vowel of them has primary stress.

    `widest` is how many neighbours a rule may look at.
    """
    phonemes: list[str] = []
    for position in range(len(word)):
        sound: Sound = ()
        for context in contexts(word, position)[: widest + 1]:
            sound = rules.get(context, sound)
        for phoneme in sound:
            if not (phonemes and _doubles(phonemes[-1], phoneme)):
                phonemes.append(phoneme)
    return one_primary_stress(phonemes)


def _doubles(previous: str, phoneme: str) -> bool:
    """Return whether two letters have said one sound twice: the same consonant, or R after ER."""
    repeated = previous == phoneme and not is_vowel(phoneme)
    return repeated or (phoneme == "R" and previous.startswith("ER"))


def one_primary_stress(phonemes: Sequence[str]) -> tuple[str, ...]:
    """Return phonemes with exactly one primary stress: the first that is marked, or a vowel's.

    Without a marked one it goes to the first secondary stress, else to the first vowel.
    """
    vowels = [index for index, phoneme in enumerate(phonemes) if is_vowel(phoneme)]
    if not vowels:
        return tuple(phonemes)
    primary = next(
        (index for mark in "12" for index in vowels if phonemes[index].endswith(mark)), vowels[0]
    )
    result = list(phonemes)
    for index in vowels:
        if index == primary:
            result[index] = phonemes[index][:-1] + "1"
        elif phonemes[index].endswith("1"):
            result[index] = phonemes[index][:-1] + "2"
    return tuple(result)


class LetterToSound:
    """The rules of a file, read when the first word is asked for."""

    def __init__(self, rules_file: Path = RULES_FILE) -> None:
        """Take the file of rules, which is read at the first word."""
        self.rules_file = rules_file

    @cached_property
    def rules(self) -> Rules:
        """Context -> sound; a file that misses or says something else raises."""
        return read_rules(self.rules_file)

    def __call__(self, word: str) -> tuple[str, ...]:
        """Return the phonemes of a word of letters a-z, its letters' names if it has no vowel.

        Where two letters leave the vowel to each other ("nae"), narrower rules decide.
        """
        widths = range(len(GROWTH), -1, -1) if re.search("[aeiouy]", word) else ()
        for widest in widths:
            phonemes = apply_rules(self.rules, word, widest)
            if any(map(is_vowel, phonemes)):
                return phonemes
        return spell(word)


def read_rules(path: Path) -> Rules:
    """Return context -> sound of a rules file, lines as `s[c]h K`."""
    rules: Rules = {}
    for line in path.read_text(encoding="ascii").splitlines():
        context, *sound = line.split()
        if not set(sound) <= set(PHONEMES):
            raise ValueError(f"{path}: {line!r} is not a context with its phonemes")
        rules[context] = tuple(sound)
    return rules


def write_rules(path: Path, rules: Rules) -> None:
    """Write rules as `read_rules` reads them, sorted by letter, then context."""
    order = sorted(rules, key=lambda context: (context[context.index("[") + 1], context))
    lines = (" ".join((context, *rules[context])) for context in order)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")


def is_held_out(word: str) -> bool:
    """Return whether a word belongs to the tenth that measures the rules, by its checksum."""
    return zlib.crc32(word.encode()) % 10 == 0


def relearn(path: Path = RULES_FILE) -> None:
    """Learn the rules from CMUdict without the held-out words, and write them to `path`."""
    entries = Lexicon().cmudict_entries
    training = [
        (word, tuple(entries[word].split()))
        for word in entries
        if re.fullmatch("[a-z]{2,}", word) and not is_held_out(word)
    ]
    write_rules(path, learn_rules(training))


def learn_rules(words: Iterable[tuple[str, Sequence[str]]], rounds: int = 6) -> Rules:
    """Return the rules of (word, phonemes) pairs: align, count every context, keep what gains."""
    spelled = [(word, tuple(phonemes)) for word, phonemes in words]
    scores: Mapping[tuple[str, Sound], float] = {}
    aligned: list[tuple[str, list[Sound]]] = []
    for _ in range(rounds):
        aligned = [
            (word, sounds)
            for word, phonemes in spelled
            if (sounds := align_letters(word, phonemes, scores))
        ]
        scores = _log_probabilities(aligned)
    return _grow_rules(aligned)


def align_letters(
    word: str, phonemes: Sound, scores: Mapping[tuple[str, Sound], float]
) -> list[Sound] | None:
    """Return the likeliest sounds of a word's letters, None when they cannot make its phonemes.

    `scores` are log probabilities of (letter, sound); empty at first, when one phoneme a letter is
    taken as likelier than none or two, and vowel letters as likelier to sound as vowels.
    """
    # best[n] is (score, sounds so far) of the letters seen with the first n phonemes
    best: dict[int, tuple[float, tuple]] = {0: (0.0, ())}
    for letter in word:
        following: dict[int, tuple[float, tuple]] = {}
        for used, (score, path) in best.items():
            for length in range(min(LONGEST_SOUND, len(phonemes) - used) + 1):
                sound = phonemes[used : used + length]
                likelihood = scores.get((letter, sound), -14.0) if scores else _prior(letter, sound)
                total = score + likelihood
                if total > following.get(used + length, (-math.inf,))[0]:
                    following[used + length] = (total, (path, sound))
        best = following
    if len(phonemes) not in best:
        return None
    path, sounds = best[len(phonemes)][1], []
    while path:
        path, sound = path
        sounds.append(sound)
    return sounds[::-1]


def _prior(letter: str, sound: Sound) -> float:
    """Return a first guess of the log probability of a letter's sound."""
    if len(sound) != 1:
        return -2.0 - len(sound)
    return -1.0 if (letter in "aeiouy") == is_vowel(sound[0]) else -4.0


def _log_probabilities(
    aligned: Iterable[tuple[str, list[Sound]]],
) -> dict[tuple[str, Sound], float]:
    """Return log P(sound | letter) counted in alignments."""
    counts: Counter[tuple[str, Sound]] = Counter()
    for word, sounds in aligned:
        counts.update(zip(word, sounds, strict=True))
    totals: Counter[str] = Counter()
    for (letter, _), count in counts.items():
        totals[letter] += count
    return {pair: math.log(count / totals[pair[0]]) for pair, count in counts.items()}


def _grow_rules(aligned: Sequence[tuple[str, list[Sound]]]) -> Rules:
    """Return the contexts whose commonest sound differs from that of the next narrower rule."""
    counts: dict[str, Counter[Sound]] = defaultdict(Counter)
    narrower: dict[str, str | None] = {}
    for word, sounds in aligned:
        for position, sound in enumerate(sounds):
            previous = None
            for context in contexts(word, position):
                counts[context][sound] += 1
                narrower[context] = previous
                previous = context
    rules: Rules = {}
    said: dict[str | None, Sound] = {None: ()}  # what a context's widest rule says
    for context in sorted(counts, key=len):
        inherited = said[narrower[context]]
        (sound, correct), total = counts[context].most_common(1)[0], counts[context].total()
        gains = correct - counts[context][inherited] >= GAIN and total >= FEWEST
        if narrower[context] is None or (sound != inherited and gains):
            rules[context] = sound
            inherited = sound
        said[context] = inherited
    return rules
