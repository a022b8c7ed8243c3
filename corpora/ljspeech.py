"""The layout of LJ Speech: metadata.csv with `id|text|normalised` rows beside a folder wavs/.

Two columns, `id|text`, are read too: the text is normalised here. An id may be written with its
folder and suffix, wavs/X.wav; suffixes are found in capitals and in small letters.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from corpora.records import AUDIO_SUFFIXES, Rejection, Utterance, id_fault

COLUMNS = "id|text|normalised"
LOG = logging.getLogger(__name__)


def read_ljspeech(directory: Path) -> tuple[list[Utterance], list[Rejection]]:
    """Read DIR/metadata.csv: the utterances in the table's order, and the rows that are unusable.

    Columns are separated by `|`, without quoting, in UTF-8; empty lines are passed over. Raises
    FileNotFoundError when the table or the folder of recordings is missing.
    """
    directory = Path(directory)
    table, wavs = directory / "metadata.csv", directory / "wavs"
    if not table.is_file() or not wavs.is_dir():
        there = sorted(path.name for path in directory.iterdir())[:10] if directory.is_dir() else []
        raise FileNotFoundError(
            f"{directory}: expected metadata.csv ({COLUMNS}) and a folder wavs/, found "
            f"{', '.join(there) or 'nothing'}; give the folder that holds both"
        )
    recordings = _recordings(wavs)
    utterances: list[Utterance] = []
    rejections: list[Rejection] = []
    seen: dict[str, int] = {}
    short = 0  # rows of two columns
    for row, line in enumerate(table.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        parsed = _parse_row(line, row, recordings)
        if isinstance(parsed, Utterance) and parsed.id in seen:
            parsed = Rejection(
                parsed.id,
                f"metadata.csv row {row}: the id stands already in row {seen[parsed.id]}",
            )
        if isinstance(parsed, Rejection):
            rejections.append(parsed)
        else:
            seen[parsed.id] = row
            utterances.append(parsed)
            short += line.count(b"|") == 1
    if short:
        LOG.warning("%s: %d rows of two columns, their text is normalised here", table, short)
    return utterances, rejections


def _recordings(wavs: Path) -> dict[str, Path]:
    """Return the recordings of a folder by name, in small letters where only the suffix differs."""
    found: dict[str, Path] = {}
    for path in sorted(wavs.iterdir()):
        if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file():
            found.setdefault(path.stem + path.suffix.lower(), path)
            found[path.name] = path
    return found


def _plain_id(written: str) -> str:
    """Return an id without the folder and the suffix of its recording."""
    id = written.removeprefix("./").removeprefix("wavs/")
    suffix = Path(id).suffix
    return id.removesuffix(suffix) if suffix.lower() in AUDIO_SUFFIXES else id


def _parse_row(line: bytes, row: int, recordings: Mapping[str, Path]) -> Utterance | Rejection:
    try:
        columns = [column.strip() for column in line.decode("utf-8").split("|")]
    except UnicodeDecodeError:
        id = line.split(b"|")[0].decode("utf-8", "backslashreplace").strip()
        return Rejection(id, f"metadata.csv row {row}: the text is not UTF-8")
    id = _plain_id(columns[0])
    if len(columns) == 2:
        columns.append("")
    if len(columns) != 3:
        return Rejection(
            id,
            f"metadata.csv row {row}: {len(columns)} columns, expected 3 ({COLUMNS}) "
            "or 2 (id|text)",
        )
    fault = id_fault(id)
    if fault:
        return Rejection(id, f"metadata.csv row {row}: {fault}")
    text, normalised = columns[1], columns[2] or columns[1]
    if not normalised:
        return Rejection(id, f"metadata.csv row {row}: the text is empty")
    for suffix in AUDIO_SUFFIXES:
        if (path := recordings.get(id + suffix)) is not None:
            return Utterance(id, path, text, normalised, row)
    return Rejection(id, f"metadata.csv row {row}: no recording wavs/{id}{AUDIO_SUFFIXES[0]}")
