"""What a visitor chooses, as a request of the singing chain and as the shell command for it.

Both are made from the same values; tests/web compares the request with the one that synthesis.py
makes of the command.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from composer.chords import parse_chart
from singing.request import (
    COMPOSE,
    NONE,
    QUALITIES,
    MelodyRequest,
    SongFiles,
    SongRequest,
    is_sung,
)
from text.lyrics import Lyrics, read_lyrics
from web.fields import Fields, integer, number, one_of, optional_text, text
from web.settings import DEMO_RUN, MEL_INPAINTER, NO_RUN, Runs

MELODIES = (COMPOSE, "file", NONE)
LYRICS, PLAN, LEXICON = "lyrics.txt", "plan.mid", "lexicon.txt"  # files of a session
MOST_LYRICS = 100_000  # characters
MOST_REGIONS = 50
MOST_CHORDS = 20_000  # characters
MOST_TAKES = 16
LARGEST_SEED = 2**31 - 1


@dataclass(frozen=True)
class Choice:
    """Words and melody: what a plan is made from."""

    lyrics: str = ""
    melody: str = COMPOSE  # of MELODIES
    transpose: int = 0
    tempo: str | None = None
    low: int | None = None  # MIDI, of a composed melody
    high: int | None = None
    density: float | None = None
    part: str | None = None
    verse: int | None = None
    chords: str | None = None  # of the accompaniment, as --chords has them
    seed: int = 0

    @classmethod
    def of(cls, fields: Fields) -> Choice:
        """Check what the page sends; ValueError names the field."""
        melody = one_of(fields, "melody", MELODIES)
        composed, has_file = melody == COMPOSE, melody == "file"
        given = {name for name, value in fields.items() if value not in (None, "")}
        return cls(
            lyrics=text(fields, "lyrics", MOST_LYRICS) if "lyrics" in given else "",
            melody=melody,
            transpose=integer(fields, "transpose", -48, 48) if "transpose" in given else 0,
            tempo=optional_text(fields, "tempo", 16),
            low=integer(fields, "low", 1, 127) if composed and "low" in given else None,
            high=integer(fields, "high", 1, 127) if composed and "high" in given else None,
            density=number(fields, "density", 0.1, 8) if composed and "density" in given else None,
            part=optional_text(fields, "part", 200) if has_file else None,
            verse=integer(fields, "verse", 1, 99) if has_file and "verse" in given else None,
            chords=optional_text(fields, "chords", MOST_CHORDS),
            seed=integer(fields, "seed", 0, LARGEST_SEED) if "seed" in given else 0,
        )

    @property
    def pitch_range(self) -> tuple[int, int] | None:
        """Range of a composed melody; ValueError for half of one."""
        if self.low is None and self.high is None:
            return None
        if self.low is None or self.high is None:
            raise ValueError("range: expected both of its notes, or none")
        return self.low, self.high

    def report(self) -> dict[str, Any]:
        """Describe the choice for the page."""
        return asdict(self)


@dataclass(frozen=True)
class Again:
    """Parts of a take that are sung again."""

    take: int
    vocal: Path
    regions: tuple[tuple[float, float], ...]  # s
    words: str | None = None  # other words for them; None: those of the plan

    @property
    def ranges(self) -> str:
        """The parts as --inpaint takes them."""
        return ",".join(f"{start:.3f}-{end:.3f}" for start, end in self.regions)


@dataclass(frozen=True)
class RenderOptions:
    """How a plan is sung: quality, seed, networks."""

    quality: str = "standard"
    seed: int = 0
    takes: int = 1  # sung, of which the best is kept
    transformer: str = DEMO_RUN
    postnet: str = DEMO_RUN
    inpainter: str = DEMO_RUN
    mel_inpainter: str = NO_RUN  # where one ships, that

    @classmethod
    def of(cls, fields: Fields, runs: Runs) -> RenderOptions:
        """Check what the page sends: networks are names that `runs` knows."""
        qualities = tuple(sorted(QUALITIES, key=lambda name: name != "standard"))
        return cls(
            one_of(fields, "quality", qualities),
            integer(fields, "seed", 0, LARGEST_SEED) if "seed" in fields else 0,
            integer(fields, "takes", 1, MOST_TAKES) if "takes" in fields else 1,
            one_of(fields, "transformer", runs["transformer"]),
            one_of(fields, "postnet", runs["postnet"]),
            one_of(fields, "inpainter", (*runs["inpainter"], NO_RUN)),
            one_of(fields, MEL_INPAINTER, (*runs[MEL_INPAINTER], NO_RUN)),
        )


def regions_of(fields: Fields, seconds: float) -> tuple[tuple[float, float], ...]:
    """Return the regions (start, end) in s that the page sends, in order."""
    sent = fields.get("regions")
    if not isinstance(sent, list) or not 1 <= len(sent) <= MOST_REGIONS:
        raise ValueError(f"regions: expected 1 to {MOST_REGIONS} of them; drag over the waveform")
    regions = []
    for region in sent:
        if not isinstance(region, list) or len(region) != 2:
            raise ValueError("regions: expected [start, end] in seconds each")
        edges = {"start": region[0], "end": region[1]}
        start, end = number(edges, "start", 0, seconds), number(edges, "end", 0, seconds + 0.01)
        regions.append((round(start, 3), round(min(end, seconds), 3)))
    return tuple(sorted(regions))


@dataclass(frozen=True)
class SessionFiles:
    """The files that a request reads, and the names that its owner knows them by."""

    folder: Path  # of LYRICS, PLAN and LEXICON, those of them that are there
    accompaniment: Path | None = None
    melody: Path | None = None
    names: Mapping[Path, str] | None = None  # of the uploads

    def text(self, name: str) -> Path | None:
        """Return the path of one of the folder's files; None where it is not there."""
        path = self.folder / name
        return path if path.is_file() else None

    def shown(self, path: Path) -> str:
        """Return the name of a file as its owner knows it."""
        return (self.names or {}).get(path, path.name)


def song_request(
    choice: Choice,
    manner: RenderOptions,
    files: SessionFiles,
    runs: Runs,
    out: Path,
    planned: bool = False,
    again: Again | None = None,
) -> SongRequest:
    """Return the request of a choice; `planned`: the melody is that of PLAN, as edited.

    Raises ValueError as the shell does.
    """
    lyrics = _lyrics(choice, files, planned, again)
    recordings = None
    if files.accompaniment is not None:
        vocal, ranges = (None, None) if again is None else (again.vocal, again.ranges)
        recordings = SongFiles(files.accompaniment, vocal, ranges)
    elif again is not None:
        raise ValueError("singing a part again needs an accompaniment")
    inpainter = None
    if recordings is not None and manner.inpainter != NO_RUN:
        inpainter = runs["inpainter"][manner.inpainter]
    melody = _melody(choice, files, planned)
    mel_inpainter = runs[MEL_INPAINTER].get(manner.mel_inpainter)
    postnet = runs["postnet"][manner.postnet]
    if manner.postnet == DEMO_RUN and is_sung(melody, recordings, lyrics, mel_inpainter):
        postnet = runs["postnet"].get("source", postnet)
    return SongRequest(
        out=out,
        transformer=runs["transformer"][manner.transformer],
        postnet=postnet,
        inpainter=inpainter,
        mel_inpainter=mel_inpainter,
        is_chosen=_is_turned_off(manner, runs),
        lyrics=lyrics,
        files=recordings,
        melody=melody,
        lexicon=files.text(LEXICON),
        seed=manner.seed,
        changes=QUALITIES[manner.quality],
    )


def _is_turned_off(manner: RenderOptions, runs: Runs) -> bool:
    """Tell whether the inpainter on mels, which ships, is not to be used."""
    return bool(runs[MEL_INPAINTER]) and manner.mel_inpainter == NO_RUN


def _lyrics(
    choice: Choice, files: SessionFiles, planned: bool, again: Again | None
) -> Lyrics | None:
    """Return the words that are laid on the melody; None: it carries its own."""
    if again is not None and again.words:
        return read_lyrics(files.folder / LYRICS)
    if planned or not choice.lyrics.strip():
        return None
    return read_lyrics(files.folder / LYRICS)


def _melody(choice: Choice, files: SessionFiles, planned: bool) -> MelodyRequest:
    """Return the melody of a choice, or that of PLAN, which has transposition and tempo in it."""
    if planned:
        return MelodyRequest(str(files.folder / PLAN))
    source = choice.melody
    if source == "file":
        if files.melody is None:
            raise ValueError("no melody file yet: drop a MIDI, MusicXML or .song file")
        source = str(files.melody)
    return MelodyRequest(
        source,
        choice.transpose,
        choice.tempo,
        choice.pitch_range,
        choice.density,
        choice.part,
        choice.verse,
        parse_chart(choice.chords) if choice.chords else None,
    )


# ---------------------------------------------------------------------------- the shell


def shell_arguments(
    choice: Choice,
    manner: RenderOptions,
    files: SessionFiles,
    runs: Runs,
    out: str,
    planned: bool = False,
    again: Again | None = None,
) -> list[str]:
    """Return the arguments with which synthesis.py makes what `song_request` asks for."""
    given: list[tuple[str, object]] = []
    if (again is not None and again.words) or (choice.lyrics.strip() and not planned):
        given.append(("--lyrics", LYRICS))
    if files.accompaniment is not None:
        given.append(("--accompaniment", files.shown(files.accompaniment)))
    if again is not None:
        given += [("--vocal", files.shown(again.vocal)), ("--inpaint", again.ranges)]
    given += _melody_arguments(choice, files, planned)
    if files.text(LEXICON):
        given.append(("--lexicon", LEXICON))
    if manner.quality != "standard":
        given.append(("--quality", manner.quality))
    if manner.takes > 1:
        given.append(("--takes", manner.takes))
    if manner.seed:
        given.append(("--seed", manner.seed))
    given += _network_arguments(manner, runs, files.accompaniment is not None)
    given.append(("--out", out))
    # A value that begins with a dash would be read as a flag.
    return [
        part
        for flag, value in given
        for part in ([f"{flag}={value}"] if str(value).startswith("-") else [flag, str(value)])
    ]


def _melody_arguments(
    choice: Choice, files: SessionFiles, planned: bool
) -> list[tuple[str, object]]:
    if planned:
        return [("--melody", PLAN)]
    source = choice.melody
    if source == "file":
        source = "" if files.melody is None else files.shown(files.melody)
    given: list[tuple[str, object]] = [("--melody", source)]
    if choice.part is not None:
        given.append(("--part", choice.part))
    if choice.verse is not None:
        given.append(("--verse", choice.verse))
    if choice.transpose:
        given.append(("--transpose", choice.transpose))
    if choice.tempo is not None:
        given.append(("--tempo", choice.tempo))
    if choice.chords is not None:
        given.append(("--chords", choice.chords))
    if choice.pitch_range is not None:
        given.append(("--range", "{}-{}".format(*choice.pitch_range)))
    if choice.density is not None:
        given.append(("--density", choice.density))
    return given


def _network_arguments(
    manner: RenderOptions, runs: Runs, has_song: bool
) -> list[tuple[str, object]]:
    """Return the flags of networks that are no defaults."""
    given: list[tuple[str, object]] = []
    for flag, kind in (("--checkpoint", "transformer"), ("--postnet", "postnet")):
        name = getattr(manner, kind)
        if name != DEMO_RUN:
            given.append((flag, name))
    if _is_turned_off(manner, runs):
        given.append(("--mel-inpainter", NO_RUN))
    if has_song and manner.inpainter != DEMO_RUN:
        given.append(("--inpainter", manner.inpainter))
    return given


def shell_command(arguments: list[str]) -> str:
    """Return the command line of `shell_arguments`."""
    return f"python synthesis.py {shlex.join(arguments)}"


def lexicon_text(entries: Mapping[str, str]) -> str:
    """Return pronunciations as a --lexicon file has them."""
    return "".join(f"{word}  {phonemes}\n" for word, phonemes in sorted(entries.items()))


def lexicon_word(sent: str) -> str:
    """Return a word as the lexicon writes it: no blanks, no comment signs."""
    word = sent.strip().strip("{}").lower()
    if not word or re.search(r"[\s#;{}]", word):
        raise ValueError(f"{sent!r} is not a word; expected letters")
    return word
