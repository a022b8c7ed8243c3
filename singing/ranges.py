"""Parts of a song as the shell gives them: "12.5-17.0,1:02-1:08.5" to seconds."""

from __future__ import annotations

import re
from dataclasses import dataclass

TIME = re.compile(r"\s*(?:(\d+):)?(\d+(?:\.\d*)?|\.\d+)\s*")  # minutes, seconds
EXAMPLE = "START-END in seconds or minutes:seconds, as in 12.5-17.0,1:02-1:08.5"


@dataclass(frozen=True)
class Ranges:
    """Stretches (start, end) in seconds, sorted and apart from each other."""

    seconds: tuple[tuple[float, float], ...]
    remarks: tuple[str, ...] = ()  # what had to be joined


def parse_ranges(text: str, duration: float) -> Ranges:
    """Return the ranges of `text` in a recording of `duration` seconds.

    Overlapping and touching ranges are one range, and a remark says so. Raises ValueError for text
    that is no list of ranges, for an end that is not behind its start, and for a range that is not
    inside the recording.
    """
    parsed = [_parse_range(part, duration) for part in text.split(",")]
    joined: list[tuple[float, float]] = []
    remarks = []
    for start, end in sorted(parsed):
        if joined and start <= joined[-1][1]:
            first = joined.pop()
            joined.append((first[0], max(first[1], end)))
            remarks.append(
                f"{first[0]:g}-{first[1]:g} s and {start:g}-{end:g} s meet: made again as one part"
            )
        else:
            joined.append((start, end))
    return Ranges(tuple(joined), tuple(remarks))


def _parse_range(part: str, duration: float) -> tuple[float, float]:
    edges = [TIME.fullmatch(edge) for edge in part.split("-")]
    if len(edges) != 2 or None in edges:
        raise ValueError(f"range {part.strip()!r}: expected {EXAMPLE}")
    start, end = (60.0 * int(edge[1] or 0) + float(edge[2]) for edge in edges)
    if end <= start:
        raise ValueError(
            f"range {part.strip()!r} ends at {end:g} s, which is not behind its start at "
            f"{start:g} s: expected {EXAMPLE}"
        )
    if end > duration:
        raise ValueError(
            f"range {part.strip()!r} is not inside the recording: expected 0 to {duration:.3f} s"
        )
    return start, end
