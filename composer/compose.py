"""A melody for lyrics over an accompaniment: placed lines, sampled rhythms, sampled pitches.

The weights are counts of real songs (counts.py); a seed gives variations. Where lines stand in the
song is settled in layout.py. What makes it a topline is repetition: a section that comes again (a
second chorus, or the next verse) takes up its melody, as do the same words; within a section a line
takes up the rhythm and, as far as the chords allow, the tune of the line it rhymes with, or of the
line before the last.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.harmony import NO_CHORD, Harmony
from composer.layout import (
    SLOTS_PER_BEAT,
    Grid,
    PlacedLine,
    UnplacedLine,
    is_lifted,
    lay_out,
    phrase_density,
    sung_stresses,
    tempo_map,
    time_signatures,
    unplaced_lines,
)
from music.score import Note, Score, Syllable, Underlay
from text.remarks import remark
from text.symbols import is_vowel
from utils.seeds import numpy_generator

if TYPE_CHECKING:
    from hyperparams import Composer
    from text.frontend import Pronouncer
    from text.lyrics import LyricLine

SMOOTHING = 0.2  # counts added to everything
TABLE = Path(__file__).with_name("melody_weights.json")
MAX_INTERVAL = 12  # semitones either way
MAX_DURATION = 16  # sixteenths
PHRASE_PARTS = 5  # of the contour
LEAP = 5  # semitones from which the melody has to turn back or stay
LAST_LEAP = 7  # semitones at most into a phrase's last note
CONTOUR_SCALE = 1.5  # the counted arch, exaggerated: averages of many phrases are flat
LIFT = 2.0  # semitones by which a chorus lies higher
CENTRE_WIDTH = 4.0  # semitones: spread of the tilt towards the arch
HELD = 4  # sixteenths from which a note counts as one on a strong place


def strength(place: float, metre: int) -> int:
    """Return 0, 1 or 2 for a place in the bar in sixteenths; `metre` is 3 or 4 beats."""
    if place % 4:
        return 0
    return 2 if place == 0 or (metre == 4 and place == 8) else 1


def interval_class(interval: int) -> int:
    """Return the row of the interval table: 0 leap down, 1 step, 2 same, 3 step, 4 leap up."""
    return 2 + (interval > 0) - (interval < 0) + (interval > 2) - (interval < -2)


def read_table(path: Path = TABLE) -> dict[str, Any]:
    """Return the counted table as arrays, as composer/counts.py lays it out."""

    def arrays(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: arrays(entry) for key, entry in value.items()}
        return np.array(value, dtype=float)

    return arrays(json.loads(path.read_text(encoding="utf-8")))


def log_share(counts: np.ndarray) -> np.ndarray:
    """Return the log of smoothed shares along the last axis."""
    counts = counts + SMOOTHING
    return np.log(counts / counts.sum(axis=-1, keepdims=True))


def draw_index(score: np.ndarray, rng: np.random.Generator) -> int:
    """Return an index drawn with log weights `score`; -inf is never drawn."""
    weights = np.exp(score - score.max())
    return int(rng.choice(len(score), p=weights / weights.sum()))


@dataclass(frozen=True)
class VocalRange:
    """A range of MIDI pitches, low to high inclusive, and the chances of moving in it."""

    low: int
    high: int
    max_leap: int
    table: dict[str, Any]
    repeat_bias: float = 0.0

    @property
    def pitches(self) -> np.ndarray:
        """All pitches of the range, (R,)."""
        return np.arange(self.low, self.high + 1)

    @cached_property
    def moves(self) -> np.ndarray:
        """Log P(c - b | kind of b - a), (R, R, R) for pitches a, b, c; -inf where forbidden."""
        log_interval = log_share(self.table["interval"])
        before = self.pitches[None, :] - self.pitches[:, None]  # (R, R): b - a
        kinds = np.vectorize(interval_class)(before)
        after = before[None, :, :]  # (1, R, R): c - b
        index = np.clip(after + MAX_INTERVAL, 0, 2 * MAX_INTERVAL)
        moves = log_interval[kinds[:, :, None], index] + self.repeat_bias * (after == 0)
        is_far = np.abs(after) > self.max_leap
        leap = before[:, :, None]
        goes_on = (np.abs(leap) >= LEAP) & (np.sign(after) == np.sign(leap)) & (after != 0)
        return np.where(is_far | goes_on, -np.inf, moves)

    def first_moves(self, previous: int | None) -> np.ndarray:
        """Return log weights of a phrase's first pitch after the last phrase's last one, (R,)."""
        if previous is None:
            return np.zeros(len(self.pitches))
        interval = self.pitches - previous
        row = 0.5 * log_share(self.table["interval"])[interval_class(0)]
        moves = row[np.clip(interval + MAX_INTERVAL, 0, 2 * MAX_INTERVAL)]
        return np.where(np.abs(interval) > MAX_INTERVAL, -np.inf, moves)


def sample_pitches(
    onsets: Sequence[int],
    grid: Grid,
    voice: VocalRange,
    knobs: Composer,
    rng: np.random.Generator,
    previous: int | None = None,
    reference: Sequence[int | None] = (),
    agreement: float = 0.0,
    lift: float = 0.0,
    is_last: bool = False,
) -> list[int]:
    """Return one MIDI pitch per note.

    onsets: N slots, then the phrase's end. `previous`: pitch before the phrase; `reference`: the
    pitch that an earlier phrase had here, earning `agreement` (log units); `lift`: semitones above
    the middle; `is_last`: the phrase closes its section and seeks the tonic.
    """
    emission = _emission(onsets, grid, voice, knobs, lift, is_last)  # (N, R)
    for index, pitch in enumerate(reference):
        if pitch is not None and voice.low <= pitch <= voice.high:
            emission[index, pitch - voice.low] += agreement
    emission /= knobs.temperature
    count, size = emission.shape
    moves = knobs.interval_weight * voice.moves / knobs.temperature  # (R, R, R)
    gap = np.abs(voice.pitches[None, :] - voice.pitches[:, None])
    message = np.zeros((size, size))  # of pitches (a, b): all that follows b
    messages = [message]
    for index in range(count - 1, 0, -1):
        into = message + emission[index][None, :]  # (b, c)
        if index == count - 1:
            into = np.where(gap > LAST_LEAP, -np.inf, into)
        message = np.logaddexp.reduce(moves + into[None], axis=2)  # (a, b)
        messages.append(message)
    messages.reverse()  # messages[n][a, b] follows note n = b

    start = voice.first_moves(previous) / knobs.temperature + emission[0]
    first = start + np.diagonal(messages[0])  # as if the first note were repeated: kind "same"
    path = [draw_index(first, rng)]
    before = path[0]
    for index in range(1, count):
        step = moves[before, path[-1]] + emission[index] + messages[index][path[-1]]
        if index == count - 1:
            step = np.where(gap[path[-1]] > LAST_LEAP, -np.inf, step)
        before = path[-1]
        path.append(draw_index(step, rng))
    return [voice.low + index for index in path]


def _emission(
    onsets: Sequence[int],
    grid: Grid,
    voice: VocalRange,
    knobs: Composer,
    lift: float,
    is_last: bool,
) -> np.ndarray:
    """Return what each note's chord, degree, height and cadence say of each pitch, (N, R)."""
    key, metre, table = grid.harmony.key, grid.harmony.metre, voice.table
    pitches = voice.pitches
    degree = _lift(table["degree"][key.mode])[:, (pitches - key.tonic) % 12]  # (3, R)
    arch = table["contour"][:, 0] / table["contour"][:, 1] * CONTOUR_SCALE
    centre = (voice.low + voice.high) / 2 + lift
    count = len(onsets) - 1
    rows = np.zeros((count, len(pitches)))
    for index, (onset, end) in enumerate(pairwise(onsets)):
        place = 2 if end - onset >= HELD else strength(onset % grid.slots_per_bar, metre)
        rows[index] = knobs.degree_weight * degree[place]
        weight = knobs.chord_weight if place == 2 else knobs.passing_weight
        beats = np.arange(onset, end, SLOTS_PER_BEAT)
        for slot in beats:
            if (chord := grid.chord(int(slot))) != NO_CHORD:
                tones = _lift(table["chord"]["major" if chord < 12 else "minor"])[place]
                rows[index] += weight / len(beats) * tones[(pitches - chord) % 12]
        middle = centre + arch[index * PHRASE_PARTS // count]
        rows[index] -= 0.5 * ((pitches - middle) / CENTRE_WIDTH) ** 2
    final = _lift(table["final_degree"][key.mode])[(pitches - key.tonic) % 12]
    rows[-1] += knobs.cadence_weight * (2 if is_last else 1) * final
    return rows


def _lift(counts: np.ndarray) -> np.ndarray:
    """Return the log of shares against even ones, along the last axis of twelve."""
    return log_share(counts) + np.log(12)


START_REACH = 1.25  # bars behind the earliest slot in which a phrase must have begun


def distances(table: dict[str, Any], metre: int, density: float) -> np.ndarray:
    """Return log P(distance | place), (places, 16), tilted to a mean of 4 / density sixteenths.

    P'(d) ∝ P(d) exp(λ log d), the least change that moves the mean; λ by bisection.
    """
    counts = table["duration"][str(metre)]
    visits = counts.sum(axis=1) / counts.sum()
    base, log_d = log_share(counts), np.log(np.arange(1, MAX_DURATION + 1))
    low, high = -6.0, 6.0
    for _ in range(25):
        tilt = (low + high) / 2
        tilted = base + tilt * log_d
        tilted -= np.logaddexp.reduce(tilted, axis=1, keepdims=True)
        mean = float(visits @ (np.exp(tilted) @ np.exp(log_d)))
        low, high = (tilt, high) if mean < SLOTS_PER_BEAT / density else (low, tilt)
    return tilted


def stress_lift(table: dict[str, Any], stresses: Sequence[int], metre: int) -> np.ndarray:
    """Return log P(stress | strength of place) - log P(stress), (N, places)."""
    given = log_share(table["stress"])  # (strength, stress)
    lift = given - log_share(table["stress"].sum(axis=0))
    strengths = [strength(place, metre) for place in range(metre * SLOTS_PER_BEAT)]
    return lift[strengths][:, np.minimum(stresses, 1)].T


def sample_rhythm(
    phrase: PlacedLine,
    stresses: Sequence[int],
    grid: Grid,
    table: dict[str, Any],
    knobs: Composer,
    rng: np.random.Generator,
    reference: Sequence[int] = (),
    agreement: float = 0.0,
) -> list[int]:
    """Return the onset slots of the syllables and, last, the slot where the phrase ends (N + 1).

    `reference`: onsets from the first bar of an earlier phrase; one that is met again earns
    `agreement` (log units). The caller leaves room for every syllable.
    """
    metre, count = grid.harmony.metre, len(stresses)
    shortest = grid.shortest_slots
    slots = np.arange(phrase.first, phrase.end + 1)
    places = slots % grid.slots_per_bar
    width = len(slots)
    emission = knobs.stress_weight * stress_lift(table, stresses, metre)[:, places]  # (N, W)
    emission = emission + agreement * np.isin(slots - phrase.bar, reference)
    step = distances(table, metre, phrase_density(phrase, grid, knobs))[places]  # (W, 16)
    step[:, : shortest - 1] = -np.inf
    final = np.tile(log_share(table["final_duration"]), (width, 1))  # (W, 16)
    final[:, : shortest - 1] = -np.inf

    reach = np.arange(width)[:, None] + np.arange(1, MAX_DURATION + 1)  # (W, 16)
    is_inside = reach < width
    reach = np.minimum(reach, width - 1)
    message = np.full((count, width), -np.inf)  # all that follows syllable n at a slot
    ends = np.where(is_inside, final, -np.inf) / knobs.temperature
    message[-1] = emission[-1] / knobs.temperature + _log_sum(ends)
    for index in range(count - 2, -1, -1):
        onward = np.where(is_inside, step / knobs.temperature + message[index + 1][reach], -np.inf)
        message[index] = emission[index] / knobs.temperature + _log_sum(onward)

    start = log_share(table["start"][str(metre)])[places] / knobs.temperature + message[0]
    start = _within_reach(start, phrase, grid)
    assert np.isfinite(start).any(), "the layout left no room for the syllables"
    path = [draw_index(start, rng)]
    for index in range(1, count):
        at = path[-1]
        onward = step[at] / knobs.temperature + message[index][reach[at]]
        path.append(int(reach[at, draw_index(np.where(is_inside[at], onward, -np.inf), rng)]))
    path.append(int(reach[path[-1], draw_index(ends[path[-1]], rng)]))
    return [int(slots[index]) for index in path]


def _within_reach(start: np.ndarray, phrase: PlacedLine, grid: Grid) -> np.ndarray:
    """Return the weights (W,) of the first onset where it may be: at its time, or near the bar."""
    if phrase.is_timed:
        return np.where(np.arange(len(start)) == 0, start, -np.inf)
    limit = phrase.bar - phrase.first + round(START_REACH * grid.slots_per_bar)
    early = np.where(np.arange(len(start)) <= limit, start, -np.inf)
    return early if np.isfinite(early).any() else start


def _log_sum(scores: np.ndarray) -> np.ndarray:
    """Return log Σ exp over the last axis, -inf where all are."""
    return np.logaddexp.reduce(scores, axis=-1)


NARROWEST = 7  # semitones that a range has to span


@dataclass(frozen=True)
class ComposedLine:
    """A finished phrase: onsets (N + 1 slots, the last its end) and pitches (N)."""

    phrase: PlacedLine
    onsets: tuple[int, ...]
    pitches: tuple[int, ...]

    @property
    def relative(self) -> dict[int, int]:
        """Pitch by onset, in slots from the phrase's first bar."""
        onsets = (slot - self.phrase.bar for slot in self.onsets[:-1])
        return dict(zip(onsets, self.pitches, strict=True))


def compose(
    lines: Sequence[LyricLine],
    harmony: Harmony,
    pronouncer: Pronouncer,
    knobs: Composer,
    seed: int = 0,
) -> Underlay:
    """Return a melody for the lyrics on the accompaniment's harmony: one note per syllable.

    The same seed gives the same melody. Remarks repeat the fallbacks of the harmony. Raises
    ValueError for lyrics without a word, a range or density that cannot be sung, and lyrics that
    are too long for the song or for their time stamps (saying how many syllables fit).
    """
    _check(knobs)
    placed_lines, guessed = unplaced_lines(lines, pronouncer)
    grid = Grid(harmony, knobs.breath, knobs.shortest)
    table = read_table()
    voice = VocalRange(knobs.low, knobs.high, knobs.max_leap, table, knobs.repeat_bias)
    done: list[ComposedLine] = []
    for index, phrase in enumerate(lay_out(placed_lines, grid, knobs)):
        rng = numpy_generator(seed, index)
        if done and not phrase.is_timed:
            breathed = done[-1].onsets[-1] + grid.breath_slots
            phrase = replace(phrase, first=max(phrase.first, breathed))
        model, is_same_place = _model(phrase, done)
        agreement = knobs.repetition * (3 if is_same_place else 1)
        melody = model.relative if model else {}
        onsets = sample_rhythm(
            phrase, sung_stresses(phrase), grid, table, knobs, rng, list(melody), agreement
        )
        pitches = sample_pitches(
            onsets,
            grid,
            voice,
            knobs,
            rng,
            previous=done[-1].pitches[-1] if done else None,
            reference=[melody.get(slot - phrase.bar) for slot in onsets[:-1]],
            agreement=agreement,
            lift=LIFT if is_lifted(phrase.line.section) else 0.0,
            is_last=phrase.is_last,
        )
        done.append(ComposedLine(phrase, tuple(onsets), tuple(pitches)))
    score = _score(done, grid)
    times = len(done) // len(placed_lines)
    text = f"the lyrics are sung {times} times over the song; composer.fill=rest sings them once"
    remarks = [remark("repeated", text)] if times > 1 else []
    return Underlay(score, guessed, (*harmony.notes, *remarks))


def _check(knobs: Composer) -> None:
    """Raise ValueError for knobs with which nothing can be sung."""
    if not 1 <= knobs.low <= knobs.high - NARROWEST <= 127 - NARROWEST:
        raise ValueError(
            f"range {knobs.low} to {knobs.high}: expected MIDI numbers, the higher one at least "
            f"{NARROWEST} semitones above the lower, for example 53 to 72"
        )
    if not 0 <= knobs.density <= 4:
        raise ValueError(
            f"density {knobs.density}: expected up to 4 syllables per beat, or 0 to go by the tempo"
        )
    if knobs.temperature <= 0:
        raise ValueError(f"composer.temperature = {knobs.temperature}: expected a number above 0")


def rhyme(syllables: Sequence[Syllable]) -> tuple[str, ...]:
    """Return the sounds that rhyme: from the line's last stressed vowel on, without stress."""
    sounds = [phoneme for syllable in syllables for phoneme in syllable.phonemes]
    vowels = [index for index, sound in enumerate(sounds) if is_vowel(sound)]
    stressed = [index for index in vowels if sounds[index][-1] != "0"] or vowels or [0]
    return tuple(sound.rstrip("012") for sound in sounds[stressed[-1] :])


def _model(phrase: PlacedLine, done: Sequence[ComposedLine]) -> tuple[ComposedLine | None, bool]:
    """Return the earlier phrase to take up, and whether it had this place in a like section."""
    line = phrase.line  # same section's place, then same words, then rhyme, then last but one
    here = [sung for sung in done if sung.phrase.line.stanza == line.stanza]
    stanzas = [
        sung.phrase.line.stanza
        for sung in done
        if sung.phrase.line.section == line.section and sung.phrase.line.stanza != line.stanza
    ]
    if stanzas:
        first = [sung for sung in done if sung.phrase.line.stanza == stanzas[0]]
        if len(here) < len(first):
            return first[len(here)], True
    same = [s for s in done if _sounds(s.phrase.line) == _sounds(line)]
    if same:
        return same[0], True
    rhyming = [s for s in here if rhyme(s.phrase.line.syllables) == rhyme(line.syllables)]
    if rhyming:
        return rhyming[-1], False
    return (here[-2], False) if len(here) >= 2 else (None, False)


def _sounds(line: UnplacedLine) -> list[tuple[str, ...]]:
    """Return the phonemes of a line's syllables."""
    return [syllable.phonemes for syllable in line.syllables]


def _score(done: Sequence[ComposedLine], grid: Grid) -> Score:
    """Return the score in seconds, words and lines numbered through."""
    syllables: list[Syllable] = []
    word = 0
    for line, sung in enumerate(done):
        first = word
        times = [grid.seconds(slot) for slot in sung.onsets]
        spans = zip(sung.phrase.line.syllables, sung.pitches, pairwise(times), strict=True)
        for syllable, pitch, (onset, offset) in spans:
            word = first + syllable.word + 1
            note = Note(pitch, onset, offset)
            syllables.append(
                replace(syllable, word=first + syllable.word, line=line, notes=(note,))
            )
    harmony = grid.harmony
    return Score(tuple(syllables), tempo_map(harmony), time_signatures(harmony))
