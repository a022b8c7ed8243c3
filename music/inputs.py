"""Phrase inputs of the acoustic model: an interval per symbol, and the notes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from text.symbols import EOS, WORD_BOUNDARY

if TYPE_CHECKING:
    from music.score import Score, Syllable

CONSONANT_SECONDS = 0.08  # slot of a consonant before the next onset


@dataclass(frozen=True)
class PhraseInputs:
    """Conditioning of one phrase: five values per symbol (N of each), and the notes.

    Times are seconds from the phrase start. pitch: MIDI of the symbol's note, 0 between words.
    [onset, offset]: the interval in which the symbol is expected. position: 1, 2, … in the
    syllable, 0 between words. slur: 1 in a syllable of several notes. notes: onset, offset, pitch.
    """

    symbols: tuple[str, ...]
    pitch: tuple[int, ...]
    onset: tuple[float, ...]
    offset: tuple[float, ...]
    position: tuple[int, ...]
    slur: tuple[int, ...]
    notes: tuple[tuple[float, float, int], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the plain lists that a feature index stores; times to 0.1 ms."""
        return {
            "pitch": list(self.pitch),
            "onset": [round(time, 4) for time in self.onset],
            "offset": [round(time, 4) for time in self.offset],
            "position": list(self.position),
            "slur": list(self.slur),
            "notes": [[round(a, 4), round(b, 4), pitch] for a, b, pitch in self.notes],
        }


def phrase_inputs(
    score: Score, start: float, end: float, consonant_seconds: float = CONSONANT_SECONDS
) -> PhraseInputs:
    """Return the inputs of a score that is a phrase from `start` to `end` s.

    A vowel's interval is its note span; consonants have slots of `consonant_seconds` (less when
    they would take more than half a note) before the next onset, or before their own note's end
    when a rest follows; a word boundary has what is left between its neighbours, the end mark the
    time to `end`. Raises ValueError when notes leave the phrase or there is none.
    """
    from music.score import TOLERANCE  # late: a training reads inputs, no scores

    if not score.syllables:
        raise ValueError("a phrase without syllables has no inputs")
    first, last = score.syllables[0].onset, score.syllables[-1].offset
    if not start - TOLERANCE <= first or not last <= end + TOLERANCE:
        raise ValueError(
            f"phrase from {start:.3f} s to {end:.3f} s: its notes last from {first:.3f} s to "
            f"{last:.3f} s"
        )
    rows = symbol_rows(score.syllables, start, end, consonant_seconds)
    symbols, pitch, onset, offset, position, slur = zip(*rows, strict=True)
    span = end - start
    # Where slots around a very short note overlap, the later symbol begins with the earlier.
    starts = tuple(accumulate((min(max(0.0, time - start), span) for time in onset), max))
    ends = tuple(
        max(begin, min(max(0.0, time - start), span))
        for begin, time in zip(starts, offset, strict=True)
    )
    notes = tuple(
        (max(0.0, n.onset - start), min(n.offset - start, span), n.pitch) for n in score.notes
    )
    return PhraseInputs(symbols, pitch, starts, ends, position, slur, notes)


SymbolRow = tuple[str, int, float, float, int, int]  # symbol, pitch, onset, offset, position, slur


def symbol_rows(
    syllables: Sequence[Syllable], start: float, end: float, consonant_seconds: float
) -> Iterator[SymbolRow]:
    """Yield one row per symbol, times in seconds of the score."""
    room = syllables[0].onset - start
    slot = _slot(syllables[0].nucleus, room, consonant_seconds)
    for index, syllable in enumerate(syllables):
        after = syllables[index + 1] if index + 1 < len(syllables) else None
        nucleus = syllable.nucleus
        slur = int(len(syllable.notes) > 1)
        begin = syllable.onset - nucleus * slot
        for place in range(nucleus):
            onset = begin + place * slot
            yield _row(syllable, place, syllable.notes[0].pitch, onset, onset + slot, slur)
        yield _row(
            syllable, nucleus, syllable.notes[0].pitch, syllable.onset, syllable.offset, slur
        )
        coda = len(syllable.phonemes) - nucleus - 1
        lead = after.nucleus if after else 0  # consonants of the next onset
        room = (syllable.offset - syllable.onset) / 2
        room += max(0.0, after.onset - syllable.offset) if after else 0.0
        slot = _slot(coda + lead, room, consonant_seconds)
        next_begin = after.onset - lead * slot if after else end
        coda_end = min(syllable.offset, next_begin)
        for place in range(coda):
            onset = coda_end - (coda - place) * slot
            row = _row(
                syllable, nucleus + 1 + place, syllable.notes[-1].pitch, onset, onset + slot, slur
            )
            yield row
        if after is None:
            yield (EOS, 0, coda_end, end, 0, 0)
        elif syllable.ends_word:
            yield (WORD_BOUNDARY, 0, coda_end, next_begin, 0, 0)


def _row(
    syllable: Syllable, place: int, pitch: int, onset: float, offset: float, slur: int
) -> SymbolRow:
    return (syllable.phonemes[place], pitch, onset, offset, place + 1, slur)


def _slot(consonants: int, room: float, consonant_seconds: float) -> float:
    """Return the seconds of one of several consonants that share `room` seconds."""
    return min(consonant_seconds, max(0.0, room) / consonants) if consonants else 0.0


SHORT_REST = 0.3  # s; shorter ones are sung over
BREATH_SECONDS = 0.2  # s before the next phrase, taken from a phrase's last note
PHRASE_SECONDS = 8.0  # longest breath; longer ones are parted
SHORTEST_ITEM, LONGEST_ITEM = 2.0, 10.0  # s
LEAD_SECONDS = 0.33  # s of an item before its first note: room for consonants
TAIL_SECONDS = 0.15  # s kept after a phrase's last note


@dataclass(frozen=True)
class Item:
    """Some breaths of a score that are sung as one, from `start` to `end` seconds."""

    score: Score
    start: float
    end: float

    def inputs(self) -> PhraseInputs:
        """Return the conditioning of the acoustic model."""
        return phrase_inputs(self.score, self.start, self.end)


def items_to_sing(score: Score, grid: float) -> list[Item]:
    """Cut a score into items that never overlap and begin on multiples of `grid` seconds."""
    phrases = breaths(score)
    groups = item_groups(phrases, SHORTEST_ITEM, LONGEST_ITEM)
    starts: list[float] = []
    free = 0.0  # s, where nothing is sung any more
    for group in groups:
        onset = phrases[group[0]].syllables[0].onset
        wanted = max(onset - LEAD_SECONDS, free)
        starts.append(min(math.ceil(wanted / grid), math.floor(onset / grid)) * grid)
        free = phrases[group[-1]].duration
    items = []
    for group, start, after in zip(groups, starts, [*starts[1:], math.inf], strict=True):
        syllables = tuple(s for number in group for s in phrases[number].syllables)
        last = syllables[-1].offset
        end = max(last, min(last + TAIL_SECONDS, after))
        items.append(Item(dataclasses.replace(score, syllables=syllables), start, end))
    return items


def breaths(score: Score) -> list[Score]:
    """Return the phrases that are sung in one breath: short rests closed, time to breathe left."""
    syllables = list(score.syllables)
    for index, (left, right) in enumerate(pairwise(syllables)):
        if 0.0 < right.onset - left.offset < SHORT_REST:
            syllables[index] = _ending(left, right.onset)
    phrases = dataclasses.replace(score, syllables=tuple(syllables)).phrases(
        SHORT_REST, PHRASE_SECONDS
    )
    breathing = []
    for phrase, after in zip(phrases, [*phrases[1:], None], strict=True):
        last = phrase.syllables[-1]
        if after is not None and after.syllables[0].onset - last.offset < BREATH_SECONDS:
            note = last.notes[-1]
            latest = after.syllables[0].onset - BREATH_SECONDS
            end = max(latest, note.onset + note.duration / 2)
            phrase = dataclasses.replace(
                phrase, syllables=(*phrase.syllables[:-1], _ending(last, end))
            )
        breathing.append(phrase)
    return breathing


def _ending(syllable: Syllable, offset: float) -> Syllable:
    """Return a syllable whose last note ends at `offset`."""
    last = dataclasses.replace(syllable.notes[-1], offset=offset)
    return dataclasses.replace(syllable, notes=(*syllable.notes[:-1], last))


def item_groups(phrases: Sequence[Score], shortest: float, longest: float) -> list[list[int]]:
    """Group neighbouring breaths into items of `shortest` to `longest` seconds where they can be.

    A group grows while it is too short; a rest of more than a second ends it. Returns the numbers
    of the breaths of each item.
    """
    groups: list[list[int]] = []
    for number, phrase in enumerate(phrases):
        if groups:
            start = phrases[groups[-1][0]].syllables[0].onset
            before = phrases[groups[-1][-1]].duration
            is_short = before - start < shortest
            near = phrase.syllables[0].onset - before <= 1.0
            if is_short and near and phrase.duration - start <= longest:
                groups[-1].append(number)
                continue
        groups.append([number])
    return groups


@dataclass(frozen=True)
class Movable:
    """A dataclass of tensors that moves to a device as a whole."""

    def map(self, function: Callable[[Tensor], Tensor]) -> Any:
        """Return a copy with `function` applied to every tensor, those of nested batches too."""
        changes: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changes[field.name] = function(value)
            elif isinstance(value, Movable):
                changes[field.name] = value.map(function)
        return dataclasses.replace(self, **changes)

    def to(self, device: torch.device | str) -> Any:
        """Return a copy whose tensors (nested batches too) are on `device`."""
        return self.map(lambda tensor: tensor.to(device))


@dataclass(frozen=True)
class ScoreBatch(Movable):
    """The notes of a batch: per symbol, and per mel frame; zeros where nothing is sung."""

    pitch: Tensor  # (B, N) int64, MIDI note number, 0 = spoken
    duration: Tensor  # (B, N) float32, s
    position: Tensor  # (B, N) int64, place of the symbol in its syllable
    slur: Tensor  # (B, N) int64, 1 = the syllable goes on over another note
    interval: Tensor  # (B, N, 2) float32, s, onset and offset
    frame_pitch: Tensor  # (B, T) int64, the note that sounds at the frame, 0 = none
    frame_position: Tensor  # (B, T) float32, 0 at the note's onset, towards 1 at its offset
    frame_contour: Tensor | None = None  # (B, T, 2) semitones above the note, 1 = known; or None

    @property
    def is_sung(self) -> Tensor:
        """Which items have a score, (B,) bool; the others are spoken."""
        return self.interval.amax(dim=(1, 2)) > 0

    def select(self, row: int, num_symbols: int, num_frames: int) -> ScoreBatch:
        """Return one item as a batch of its own, without padding."""
        sizes = dict.fromkeys(("frame_pitch", "frame_position", "frame_contour"), num_frames)
        parts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return ScoreBatch(
            **{
                name: part[row : row + 1, : sizes.get(name, num_symbols)]
                for name, part in parts.items()
                if part is not None
            }
        )


def collate_scores(
    scores: Sequence[Mapping[str, Any] | None],
    num_symbols: int,
    num_frames: int,
    seconds_per_frame: float,
) -> ScoreBatch | None:
    """Pad the scores of a batch to N symbols and T frames; None when no item has one.

    A score is {pitch, onset, offset, position, slur: one value per symbol; notes: [[onset, offset,
    MIDI number], ...]}, times in seconds; with the contour of its pitch where that is known,
    {rate: Hz, cents: [above the note, ...]}.
    """
    if all(score is None for score in scores):
        return None
    batch = len(scores)
    symbol = {name: torch.zeros(batch, num_symbols) for name in ("pitch", "position", "slur")}
    interval = torch.zeros(batch, num_symbols, 2)
    frame_pitch = torch.zeros(batch, num_frames, dtype=torch.int64)
    frame_position = torch.zeros(batch, num_frames)
    times = torch.arange(num_frames, dtype=torch.float64) * seconds_per_frame
    contour = None
    if any(score is not None and "contour" in score for score in scores):
        contour = torch.zeros(batch, num_frames, 2)
    for row, score in enumerate(scores):
        if score is None:
            continue
        length = len(score["pitch"])
        for name, values in symbol.items():
            values[row, :length] = torch.tensor(score[name], dtype=torch.float32)
        interval[row, :length, 0] = torch.tensor(score["onset"], dtype=torch.float32)
        interval[row, :length, 1] = torch.tensor(score["offset"], dtype=torch.float32)
        for onset, offset, pitch in score["notes"]:
            sounding = (times >= onset) & (times < offset)
            frame_pitch[row, sounding] = int(pitch)
            position = (times[sounding] - onset) / (offset - onset)
            frame_position[row, sounding] = position.float()
        if contour is not None and "contour" in score:
            contour[row] = _frame_contour(score["contour"], times)
    return ScoreBatch(
        symbol["pitch"].long(),
        interval[..., 1] - interval[..., 0],
        symbol["position"].long(),
        symbol["slur"].long(),
        interval,
        frame_pitch,
        frame_position,
        contour,
    )


def _frame_contour(contour: Mapping[str, Any], times: Tensor) -> Tensor:
    """Return semitones above the note at `times` (T,) in s, and 1 where they are known, (T, 2)."""
    cents = np.asarray(contour["cents"], np.float64)
    places = times.numpy() * contour["rate"]
    known = places <= len(cents) - 1
    values = np.interp(places, np.arange(len(cents)), cents) / 100 * known
    return torch.from_numpy(np.stack([values, known], 1)).float()


class ScoreTracks:
    """What is sung at any time of songs with scores: symbol and note, frame by frame."""

    def __init__(self, items: Sequence[dict[str, Any]], symbol_ids: Mapping[str, int]) -> None:
        """items: of an index, each with symbols and score, see `collate_scores`."""
        self.spans = {}
        for item in items:
            score = item["score"]
            ids = [symbol_ids[symbol] for symbol in item["symbols"]]
            symbols = zip(score["onset"], score["offset"], ids, strict=True)
            self.spans[item["id"]] = _sorted_spans(symbols), _sorted_spans(score["notes"])

    def window(self, id: str, start: float, step: float, num_frames: int) -> tuple[Tensor, Tensor]:
        """Symbol ids and MIDI numbers (T,) int64 at start, start + step, ... in s; 0 = none."""
        times = start + step * np.arange(num_frames)
        symbols, notes = (torch.from_numpy(_at(times, spans)) for spans in self.spans[id])
        return symbols, notes


def with_sung_times(
    items: Sequence[dict[str, Any]], times: Mapping[str, Mapping[str, Sequence[float]]]
) -> list[dict[str, Any]]:
    """Return songs of an index with the times of their symbols.

    `times` is {id: {onset, offset}} of those that are known; the others keep the slots that their
    score leaves them.
    """
    return [
        {**item, "score": {**item["score"], **times[item["id"]]}} if item["id"] in times else item
        for item in items
    ]


def _sorted_spans(spans: Iterable[Sequence[float]]) -> np.ndarray:
    """Rows (onset, offset, value) by onset; of those that begin together the longest comes last."""
    return np.array(sorted(tuple(span) for span in spans), dtype=np.float64).reshape(-1, 3)


def _at(times: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """The value of the last span that has begun at each time and is not over, else 0."""
    onsets, offsets, values = spans.T
    if not len(onsets):
        return np.zeros(len(times), np.int64)
    last = np.searchsorted(onsets, times, side="right") - 1
    is_over = (last < 0) | (times >= offsets[last])
    return np.where(is_over, 0, values[last]).astype(np.int64)
