"""Typed fields of what a browser sends; errors name the field, what was found and expected."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Fields = Mapping[str, Any]


def number(fields: Fields, name: str, low: float, high: float) -> float:
    """Return a finite number from `low` to `high`."""
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name}: {value!r}; expected a number")
    if not low <= value <= high:
        raise ValueError(f"{name}: {value:g}; expected {low:g} to {high:g}")
    return float(value)


def integer(fields: Fields, name: str, low: int, high: int) -> int:
    """Return a whole number from `low` to `high`."""
    value = number(fields, name, low, high)
    if value != int(value):
        raise ValueError(f"{name}: {value:g}; expected a whole number")
    return int(value)


def text(fields: Fields, name: str, longest: int) -> str:
    """Return a text of at most `longest` characters."""
    value = fields.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name}: expected a text")
    if len(value) > longest:
        raise ValueError(f"{name}: {len(value)} characters; expected at most {longest}")
    if "\0" in value:
        raise ValueError(f"{name}: a zero byte")
    return value


def optional_text(fields: Fields, name: str, longest: int) -> str | None:
    """Return a text; None where there is none, or an empty one."""
    return None if fields.get(name) in (None, "") else text(fields, name, longest)


def one_of(fields: Fields, name: str, choices: Mapping[str, Any] | tuple[str, ...]) -> str:
    """Return one of `choices`, the first where the field is missing."""
    names = tuple(choices)
    value = fields.get(name, names[0] if names else None)
    if value not in names:
        raise ValueError(f"{name}: {value!r}; expected one of {', '.join(names) or 'nothing'}")
    return str(value)
