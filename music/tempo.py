"""Tempo and metre: ticks, beats and seconds of a piece of music, exact to the tick."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise

TICKS_PER_BEAT = 480


@dataclass(frozen=True)
class TempoMap:
    """Tempo changes as (tick, microseconds per beat), the first at tick 0; a beat is a quarter."""

    changes: tuple[tuple[int, int], ...] = ((0, 500_000),)
    ticks_per_beat: int = TICKS_PER_BEAT

    def __post_init__(self) -> None:
        """Check that changes rise from tick 0."""
        ticks = [tick for tick, _ in self.changes]
        if not ticks or ticks[0] != 0 or any(b <= a for a, b in pairwise(ticks)):
            raise ValueError(f"tempo changes at ticks {ticks}: expected rising ticks from 0")
        if self.ticks_per_beat < 1 or any(tempo < 1 for _, tempo in self.changes):
            raise ValueError("a tempo map needs at least 1 tick and 1 microsecond per beat")

    @classmethod
    def constant(cls, bpm: float, ticks_per_beat: int = TICKS_PER_BEAT) -> TempoMap:
        """Return one tempo, in quarter notes per minute, from start to end."""
        if not 1.0 <= bpm <= 1000.0:
            raise ValueError(f"tempo of {bpm} beats per minute: expected 1 to 1000")
        return cls(((0, round(60e6 / bpm)),), ticks_per_beat)

    @cached_property
    def _starts(self) -> list[float]:
        """Time of each change in seconds."""
        steps = (
            (after - before) * tempo * 1e-6 / self.ticks_per_beat
            for (before, tempo), (after, _) in pairwise(self.changes)
        )
        return list(accumulate(steps, initial=0.0))

    def seconds_at(self, tick: float) -> float:
        """Return the time of a tick in seconds."""
        index = max(0, bisect_right(self.changes, tick, key=lambda change: change[0]) - 1)
        start, tempo = self.changes[index]
        return self._starts[index] + (tick - start) * tempo * 1e-6 / self.ticks_per_beat

    def tick_at(self, seconds: float) -> float:
        """Return the tick of a time, unrounded."""
        index = max(0, bisect_right(self._starts, seconds) - 1)
        start, tempo = self.changes[index]
        return start + (seconds - self._starts[index]) * 1e6 * self.ticks_per_beat / tempo

    def beat_at(self, seconds: float) -> float:
        """Return the beat (quarter note, from 0) at a time."""
        return self.tick_at(seconds) / self.ticks_per_beat

    def seconds_at_beat(self, beat: float) -> float:
        """Return the time of a beat in seconds."""
        return self.seconds_at(beat * self.ticks_per_beat)

    def bpm_at(self, seconds: float) -> float:
        """Return the tempo at a time in quarter notes per minute."""
        return 60e6 / self.changes[max(0, bisect_right(self._starts, seconds) - 1)][1]

    def carried(self, seconds: float, other: TempoMap) -> float:
        """Return the time at which `other` comes to the tick that is here at `seconds`."""
        return other.seconds_at(self.tick_at(seconds))

    def scaled(self, factor: float) -> TempoMap:
        """Return the map `factor` times as fast; ticks keep their place."""
        changes = tuple((tick, max(1, round(tempo / factor))) for tick, tempo in self.changes)
        return replace(self, changes=changes)


@dataclass(frozen=True)
class Meter:
    """A time signature from `tick` on."""

    tick: int
    numerator: int
    denominator: int
