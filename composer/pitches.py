"""The pitches of a phrase, sampled exactly from counted intervals, chord tones and degrees.

A product of experts over notes p_1 … p_N of a voice's range: each interval given the kind of the
one before it (a second-order chain, so that leaps are recovered as singers recover them), the tone
in its chord and the degree in its key given the strength of its place, the distance from the middle
of the range, the arch of a phrase, the cadence. Sampled like the rhythm, by backward messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.counts import MAX_INTERVAL, PHRASE_PARTS, draw, interval_class, log_share, strength
from composer.harmony import NO_CHORD
from composer.layout import SLOTS_PER_BEAT, Grid

if TYPE_CHECKING:
    from hyperparams import Composer

LEAP = 5  # semitones from which the melody has to turn back or stay
LAST_LEAP = 7  # semitones at most into a phrase's last note
CONTOUR_SCALE = 1.5  # the counted arch, exaggerated: averages of many phrases are flat
LIFT = 2.0  # semitones by which a chorus lies higher
CENTRE_WIDTH = 4.0  # semitones: spread of the tilt towards the arch
HELD = 4  # sixteenths from which a note counts as one on a strong place


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
    path = [draw(first, rng)]
    before = path[0]
    for index in range(1, count):
        step = moves[before, path[-1]] + emission[index] + messages[index][path[-1]]
        if index == count - 1:
            step = np.where(gap[path[-1]] > LAST_LEAP, -np.inf, step)
        before = path[-1]
        path.append(draw(step, rng))
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
