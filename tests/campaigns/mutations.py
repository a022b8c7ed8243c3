"""Seeded damage to files: bytes, headers, numbers and words of texts, JSON values, zip members."""

from __future__ import annotations

import io
import json
import random
import re
import struct
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

NUMBERS = ("0", "-1", "nan", "inf", "1e999", "1e400000", "9" * 400, "2147483648", "1/0", "1e9", "")
WORDS = ("\x00", "\ufeff", "\u202e", "a" * 5000, "../../x", "[", "{", "[99:59.99]", "&", "'", "|")
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 2**31, 10**12, 1e300, float("nan"), float("inf"), "", "x", "a" * 3000),
    *("../../escape", "/etc/passwd", "nul\0", [], {}, [None], [[1]], {"a": 1}, ["x"] * 100),
)
HEADER = 96  # bytes of a sound file or an array that say what follows


def damaged_bytes(data: bytes, chance: random.Random) -> bytes:
    """Return `data` with one to four faults anywhere."""
    return _several(_damaged_bytes, data, chance)


def damaged_header(data: bytes, chance: random.Random) -> bytes:
    """Return `data` with faults among its first bytes, or, as often, anywhere."""
    if chance.random() < 0.5:
        return damaged_bytes(data, chance)
    return _several(_damaged_bytes, data[:HEADER], chance) + data[HEADER:]


def damaged_text(data: bytes, chance: random.Random) -> bytes:
    """Return a text with one to four faults, of its characters or of its bytes."""
    return _several(_text_or_bytes, data, chance)


def damaged_json(data: bytes, chance: random.Random) -> bytes:
    """Return JSON with values replaced, taken away or repeated; one in five times, its bytes."""
    if chance.random() < 0.2:
        return damaged_text(data, chance)
    value = json.loads(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        value = _damaged_value(value, chance)
    return json.dumps(value).encode("utf-8", "surrogatepass")


def damaged_lines(data: bytes, chance: random.Random) -> bytes:
    """Return a journal, JSON in each line, with some lines damaged, repeated or cut."""
    lines = data.split(b"\n")
    for place in chance.sample(range(len(lines)), max(1, len(lines) // 4)):
        if lines[place].strip():
            lines[place] = damaged_json(lines[place], chance)
    if chance.random() < 0.3:
        lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
    content = b"\n".join(lines)
    return content[: chance.randrange(len(content) + 1)] if chance.random() < 0.2 else content


def damaged_zip(data: bytes, chance: random.Random) -> bytes:
    """Return an archive whose checksums are right, one of its members damaged.

    Its content, its name, its compression; left out, or there twice.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
        kind = archive.infolist()[0].compress_type
    place = chance.randrange(len(members))
    if chance.random() < 0.5:  # the member that says what the others are
        likely = [i for i, (name, _) in enumerate(members) if name.endswith((".pkl", ".xml"))]
        place = chance.choice(likely) if likely else place
    name, content = members[place]
    fault = chance.randrange(7)
    if fault <= 2:
        members[place] = (name, damaged_bytes(content, chance))
    elif fault == 3:
        del members[place]
    elif fault == 4:
        members.append((name, damaged_bytes(content, chance)))
    elif fault == 5:
        other = chance.choice(("../../escape", "/tmp/escape", "x" * 300, "a\\b"))
        members[place] = (other, content)
    else:
        kind = zipfile.ZIP_DEFLATED if kind == zipfile.ZIP_STORED else zipfile.ZIP_STORED
    handle = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(handle, "w", kind) as archive:
        warnings.simplefilter("ignore")  # a name that is there twice
        for member, content in members:
            archive.writestr(member, content)
    return handle.getvalue()


Damage = Callable[[bytes, random.Random], bytes]


def either(*kinds: Damage) -> Damage:
    """Return damage of one of these kinds, by chance."""
    return lambda data, chance: chance.choice(kinds)(data, chance)


def _several(damage: Damage, data: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.choice((1, 1, 2, 4))):
        data = damage(data, chance)
    return data


def _text_or_bytes(data: bytes, chance: random.Random) -> bytes:
    return (_damaged_text if chance.random() < 0.8 else _damaged_bytes)(data, chance)


def _damaged_bytes(content: bytes, chance: random.Random) -> bytes:
    data = bytearray(content or b"\0")
    at = min(chance.randrange(len(data)), chance.choice((len(data), 64, 256)))
    fault = chance.randrange(7)
    if fault == 0:
        del data[at:]
    elif fault == 1:
        for _ in range(chance.choice((1, 4, 64))):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif fault == 2:
        del data[at : at + chance.randrange(1, 200)]
    elif fault == 3:
        data[at:at] = data[at : at + chance.randrange(1, 400)] * chance.choice((1, 3, 50))
    elif fault == 4:
        data[at:at] = chance.randbytes(chance.randrange(1, 64))
    elif fault == 5:
        large = chance.choice((0, 2**31 - 1, 2**31, 2**32 - 1, 2**24))
        data[at : at + 4] = struct.pack(chance.choice("<>") + "I", large)
    else:
        data[at : at + chance.randrange(1, 300)] = bytes(chance.randrange(1, 300))
    return bytes(data)


def _damaged_text(content: bytes, chance: random.Random) -> bytes:
    text = content.decode("utf-8", "replace")
    numbers = list(re.finditer(r"\d+(?:\.\d+)?", text))
    lines = text.split("\n")
    fault = chance.randrange(5)
    if fault <= 1 and numbers:
        match = chance.choice(numbers)
        text = text[: match.start()] + chance.choice(NUMBERS) + text[match.end() :]
    elif fault == 2:
        at = chance.randrange(len(text) + 1)
        text = text[:at] + chance.choice(WORDS) + text[at:]
    elif fault == 3:
        del lines[chance.randrange(len(lines))]
        text = "\n".join(lines)
    else:
        at = chance.randrange(len(lines))
        lines[at:at] = [lines[at]] * chance.choice((1, 2, 200))
        text = "\n".join(lines)
    return text.encode("utf-8", "surrogatepass")


def _damaged_value(value: Any, chance: random.Random) -> Any:
    """Change one part of a JSON value, at a depth that chance decides."""
    if not isinstance(value, (dict, list)) or not value or chance.random() < 0.15:
        return chance.choice(VALUES)
    if isinstance(value, list):
        place = chance.randrange(len(value))
        fault = chance.random()
        if fault < 0.1:
            return value[:place] + value[place + 1 :]
        if fault < 0.2:
            return [*value, value[place]]
        return [*value[:place], _damaged_value(value[place], chance), *value[place + 1 :]]
    key = chance.choice(list(value))
    fault = chance.random()
    if fault < 0.15:
        return {k: v for k, v in value.items() if k != key}
    if fault < 0.25:
        return {(k + "x" if k == key else k): v for k, v in value.items()}
    return {**value, key: _damaged_value(value[key], chance)}
