"""The notes that a voice has sung: of each singer in a network, and of all together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from composer.compose import NARROWEST

if TYPE_CHECKING:
    from hyperparams import Composer
    from music.score import Score

FIRST_VOICE = "first"  # name of voice 0, which every transformer has
Range = tuple[int, int]  # lowest and highest note, MIDI


def voice_names(data: Mapping[str, Any]) -> list[str]:
    """Return the names of a transformer's voices, FIRST_VOICE in front; data: of its checkpoint."""
    return [FIRST_VOICE, *data.get("voices", ())]


def voice_number(data: Mapping[str, Any], name: str | None, path: Path) -> int:
    """Return the number of a voice, of None 0; ValueError lists those that `path` has."""
    names = voice_names(data)
    if name is not None and name not in names:
        raise ValueError(f"--voice {name}: {path} has {', '.join(names)}")
    return 0 if name is None else names.index(name)


def sung_range(data: Mapping[str, Any]) -> Range | None:
    """Return the range of all that a transformer has learnt to sing; None when it only speaks."""
    known = data.get("pitch_range")
    return (known[0], known[1]) if known else None


def own_range(data: Mapping[str, Any], number: int) -> Range | None:
    """Return the range of one voice; None where the checkpoint does not tell voices apart."""
    known = data.get("pitch_ranges", {}).get(voice_names(data)[number])
    return (known[0], known[1]) if known else None


def moved_into(composer: Composer, own: Range | None) -> Composer:
    """Return the composer's knobs with their range moved, and narrowed, into that of a voice.

    As little as can be; a voice that has sung fewer than NARROWEST semitones is trusted with these.
    """
    if own is None:
        return composer
    low, high = own
    while high - low < NARROWEST:
        low, high = max(1, low - 1), min(127, high + 1)
    width = min(composer.high - composer.low, high - low)
    start = min(max(composer.low, low), high - width)
    return replace(composer, low=start, high=start + width)


def range_remark(score: Score, known: Range | None) -> str | None:
    """Return a remark on notes outside those that a voice was trained on; None without any."""
    if known is None or not (outside := score.outside(*known)):
        return None
    return (
        f"{len(outside)} of {len(score.notes)} notes are outside the voice's range, MIDI "
        f"{known[0]} to {known[1]}: they are sung as written; --transpose N moves all"
    )
