"""Files from the browser: bounded while they arrive, and known by their content alone."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import soundfile

AUDIO_SUFFIXES = {"WAV": ".wav", "WAVEX": ".wav", "FLAC": ".flac", "OGG": ".ogg"}
AUDIO_SUFFIXES |= {"MP3": ".mp3", "MPEG": ".mp3"}
LONGEST_NAME = 80  # characters


def shown_name(sent: str, default: str) -> str:
    """Return the name of a file as it is shown: no folders, no control characters, not long."""
    name = re.split(r"[/\\]", sent)[-1]
    name = "".join(c for c in name if c.isprintable() and c not in "\"'`$<>|*?").strip(" .")
    return name[-LONGEST_NAME:] or default


async def receive(stream: AsyncIterator[bytes], path: Path, most_bytes: int, name: str) -> None:
    """Write what a browser sends to `path`; ValueError, and no file, beyond `most_bytes`."""
    size = 0
    try:
        with open(path, "wb") as file:
            async for chunk in stream:
                size += len(chunk)
                if size > most_bytes:
                    raise ValueError(
                        f"{name}: more than {most_bytes / 2**20:.0f} MB; send a shorter song, or a "
                        "compressed one (flac, ogg, mp3)"
                    )
                file.write(chunk)
        if not size:
            raise ValueError(f"{name}: the file is empty")
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def audio_suffix(path: Path, name: str, longest: float) -> str:
    """Return the suffix of a recording by its content.

    Raises ValueError for what is no wav, flac, ogg or mp3, or longer than `longest` seconds.
    """
    try:
        info = soundfile.info(path)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise ValueError(
            f"{name}: not readable as audio; expected wav, flac, ogg or mp3"
        ) from error
    if info.format not in AUDIO_SUFFIXES:
        raise ValueError(f"{name} is {info.format_info}; expected wav, flac, ogg or mp3")
    seconds = info.frames / info.samplerate
    if seconds > longest:
        raise ValueError(
            f"{name}: {seconds:.0f} s; expected at most {longest:.0f} s of song "
            "(python app.py --longest SECONDS allows more)"
        )
    return AUDIO_SUFFIXES[info.format]


def score_suffix(path: Path, name: str) -> str:
    """Return the suffix of a melody file by its content; ValueError for none of the four kinds."""
    with open(path, "rb") as file:
        head = file.read(4096)
    if head.startswith(b"MThd") or (head.startswith(b"RIFF") and head[8:12] == b"RMID"):
        return ".mid"
    if head.startswith(b"PK\x03\x04"):
        return ".mxl"
    if re.match(rb"(\xef\xbb\xbf)?\s*<|\xff\xfe|\xfe\xff", head):
        return ".musicxml"
    if b"\0" not in head and re.search(rb"(?m)^\s*notes:", path.read_bytes()):
        return ".song"
    raise ValueError(f"{name}: expected a melody as MIDI, MusicXML (.mxl too) or .song")
