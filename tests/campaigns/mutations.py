"""Seeded damage to files: bytes flipped, cut, repeated; numbers and words of texts replaced."""

from __future__ import annotations

import random
import re
import struct

NUMBERS = ("0", "-1", "nan", "inf", "1e999", "1e400000", "9" * 400, "2147483648", "1/0", "1e9", "")
WORDS = ("\x00", "\ufeff", "\u202e", "a" * 5000, "../../x", "[", "{", "[99:59.99]", "&", "'", "|")


def damaged(data: bytes, chance: random.Random, is_text: bool) -> bytes:
    """Return `data` with one to four faults."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        as_text = is_text and chance.random() < 0.8
        data = _damaged_text(data, chance) if as_text else _damaged_bytes(data, chance)
    return data


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
