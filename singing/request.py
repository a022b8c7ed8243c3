"""What the singing chain is asked for, and what it tells while it works.

A request is typed, and checked before any network is loaded. Progress goes to the terminal, and as
events to the listener of a thread (a context variable), so that two renderings of one process never
mix. What a listener raises ends the work: that is how a rendering is cancelled.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from music.score import ACCIDENTALS, SEMITONES
from utils import config
from utils.checkpoint import FIRST_VOICE, SECTIONS, Stored

if TYPE_CHECKING:
    from composer.harmony import Chart
    from hyperparams import Hyperparams
    from text.lyrics import LyricLine
    from utils.loading import Loaded


LINE_LENGTHS = (8, 7, 8, 6)  # syllables of the lines that a melody without words is composed for
COMPOSE, NONE = "compose", "none"
TEMPO_OF_ACCOMPANIMENT = "auto"
SAMPLING = (  # sections that touch no weight
    *("synthesis", "inpainting", "mel_inpainting"),
    *("composer", "mixing"),
)
QUALITIES = {  # what each sets before --set and the short flags do
    "draft": (
        "inpainting.num_steps=6",
        "mel_inpainting.num_steps=10",
        "mel_inpainting.draft_steps=4",
        "synthesis.griffin_lim_iterations=16",
    ),
    "standard": (),
    "best": (
        "inpainting.num_steps=40",
        "inpainting.step=dpmpp_2m_sde",
        "mel_inpainting.num_steps=40",
        "mel_inpainting.draft_steps=16",
        "synthesis.griffin_lim_iterations=64",
    ),
}
NOTE = r"(?:[A-Ga-g][#b]?-?\d|\d+)"


@dataclass(frozen=True)
class SongFiles:
    """The recordings of a song, and which part of the vocal is to be made."""

    accompaniment: Path
    vocal: Path | None = None  # None: all of it is made
    inpaint: str | None = None  # START-END[,START-END...] of the vocal
    extend: float | None = None  # s behind its end

    def __post_init__(self) -> None:
        """Raise ValueError for parts that do not go together."""
        if self.vocal is None and (self.inpaint or self.extend is not None):
            raise ValueError(
                "--inpaint and --extend change an existing vocal: give it with --vocal FILE"
            )
        if self.vocal is not None and not self.inpaint and self.extend is None:
            raise ValueError(
                "--vocal alone leaves nothing to make: say which parts with --inpaint START-END, "
                "or continue it with --extend SECONDS"
            )
        if self.extend is not None and not (math.isfinite(self.extend) and self.extend > 0):
            raise ValueError(f"--extend {self.extend}: expected a number of seconds above 0")


@dataclass(frozen=True)
class MelodyRequest:
    """The melody that is sung, and what is changed about it."""

    source: str | None = None  # a file, COMPOSE or NONE (spoken); None: whatever fits the voice
    transpose: int = 0  # semitones
    tempo: str | None = None  # beats per minute, `auto` = the accompaniment's, None = as it is
    pitch_range: tuple[int, int] | None = None  # MIDI, of a composed melody; None = the composer's
    density: float | None = None  # syllables per beat of a composed melody; None = the composer's
    part: str | None = None  # track or part of a file, by name or number from 1
    verse: int | None = None  # of a file, from 1; None = the first, or all that are repeats
    chords: Chart | None = None  # of the accompaniment; None = as they are heard

    def __post_init__(self) -> None:
        """Raise ValueError for a choice from a file when there is none."""
        if not self.is_file and (self.part is not None or self.verse is not None):
            raise ValueError(
                "--part and --verse choose from a melody file: only with --melody FILE"
            )

    @property
    def is_file(self) -> bool:
        """Whether the melody is read from a file."""
        return self.source not in (None, COMPOSE, NONE)

    def check_spoken(self) -> None:
        """Raise ValueError for changes of a melody when there is none."""
        if self.transpose or self.tempo:
            raise ValueError("--transpose and --tempo change a melody, but these lyrics are spoken")


def is_sung(
    melody: MelodyRequest,
    files: SongFiles | None,
    lyrics: Sequence[LyricLine] | None,
    mel_inpainter: Path | None,
) -> bool:
    """Tell whether a request is sung, not spoken: on notes, or as the inpainter on mels finds."""
    if melody.is_file or (files is not None and melody.source != NONE):
        return True
    return mel_inpainter is not None and not lyrics


@dataclass(frozen=True)
class SongRequest:
    """One call of the chain: words, melody and recordings in, files in `out`.

    Raises ValueError for combinations that cannot be made.
    """

    out: Path
    transformer: Path  # checkpoints
    postnet: Path
    inpainter: Path | None = None  # None: the draft is the vocal
    mel_inpainter: Path | None = None  # None: the transformer's mels as they are, no wordless song
    is_chosen: bool = False  # whether the mel inpainter was named, and not found where it ships
    lyrics: Sequence[LyricLine] | None = None
    is_vocalise: bool = False  # lyrics are syllables: as many lines as the song has room for
    files: SongFiles | None = None  # None: without an accompaniment
    melody: MelodyRequest = MelodyRequest()
    lexicon: Path | None = None  # pronunciations of one's own
    voice: str | None = None  # one of the transformer's, by name; None: its first
    seed: int = 0
    phrase_seeds: tuple[int, ...] | None = None  # of each sung phrase; None = seed + its number
    takes: Mapping[str, Any] | None = None  # how this one was chosen among others, for the report
    changes: tuple[str, ...] = ()  # SECTION.NAME=VALUE over the SAMPLING sections
    pictures: bool = False  # attention of every phrase drawn, however many there are

    def __post_init__(self) -> None:
        """Check what does not depend on the networks."""
        check_changes(self.changes)
        if self.lyrics is None and self.files is None and not self.melody.is_file:
            raise ValueError(
                "nothing to do: give --lyrics to be spoken, --accompaniment to be sung to, or both"
            )
        needs_words = self.melody.source == COMPOSE and self.mel_inpainter is None
        if self.lyrics is None and needs_words and self.files is None:
            raise ValueError(f"--melody {COMPOSE} needs --lyrics to be sung, or a --mel-inpainter")

    @property
    def has_words(self) -> bool:
        """Whether there is something to pronounce, given or in the melody's file."""
        return bool(self.lyrics) or self.melody.is_file

    @property
    def draft_seed(self) -> int | tuple[int, ...]:
        """The seed of the sung phrases, or of each of them."""
        return self.seed if self.phrase_seeds is None else self.phrase_seeds

    def seed_report(self) -> dict[str, Any]:
        """Describe the randomness for report.json."""
        seeds = {"phrase_seeds": list(self.phrase_seeds)} if self.phrase_seeds else {}
        return {"seed": self.seed, **seeds, **({"takes": self.takes} if self.takes else {})}

    def changed(self, hyperparams: Hyperparams) -> Hyperparams:
        """Return hyperparameters with the changes of this request applied."""
        return config.build("own", None, self.changes, {"own": hyperparams})


def section_of(change: str) -> str:
    """Return the section that SECTION.NAME=VALUE addresses."""
    return change.partition(".")[0]


def check_changes(changes: Sequence[str]) -> None:
    """Raise ValueError for a change of what a trained network depends on."""
    for change in changes:
        if section_of(change) not in SAMPLING:
            raise ValueError(
                f"--set {change}: a trained network keeps the values it was trained with; "
                "only synthesis.NAME=VALUE, mel_inpainting.NAME=VALUE and, with --accompaniment, "
                "composer.NAME=VALUE, mixing.NAME=VALUE and inpainting.NAME=VALUE can be changed"
            )


def parse_pitch_range(text: str) -> tuple[int, int]:
    """Parse `F3-C5` or `53-72` into MIDI numbers; ValueError for anything else."""
    match = re.fullmatch(rf"\s*({NOTE})\s*-\s*({NOTE})\s*", text)
    if match is None:
        raise ValueError(f"--range {text}: expected two notes such as F3-C5 or 53-72")
    low, high = (_midi(note) for note in match.groups())
    return low, high


def _midi(note: str) -> int:
    if note.isdigit():
        return int(note)
    sign = note[1] if note[1] in "#b" else ""
    octave = int(note[1 + len(sign) :])
    return 12 * (octave + 1) + SEMITONES[note[0].upper()] + ACCIDENTALS[sign]


# ---------------------------------------------------------------------------- progress


class CancelledError(Exception):
    """Raised by a listener to end the work; nothing of it is written."""


@dataclass(frozen=True)
class ProgressEvent:
    """Where a long work stands: a stage that begins, or steps of it that are done."""

    stage: str
    done: int = 0
    total: int = 0  # 0: its steps are not counted
    unit: str = ""


ProgressListener = Callable[[ProgressEvent], None]
_listener: ContextVar[ProgressListener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: ProgressListener) -> Iterator[None]:
    """Send the progress of the `with` block to `listener`; what it raises ends the block."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(event: ProgressEvent) -> None:
    """Send an event to the listener of this thread, if there is one."""
    listener = _listener.get()
    if listener is not None:
        listener(event)


class ProgressBar(tqdm):
    """A bar of `total` steps on the terminal that tells the listener of each, too."""

    def __init__(self, stage: str, total: int, unit: str, desc: str = "", quiet: bool = False):
        """Begin at no step; `desc` is what the terminal reads, `quiet` leaves it empty."""
        super().__init__(total=total, desc=desc or stage, unit=unit, disable=quiet)
        self.event = ProgressEvent(stage, 0, total, unit)
        tell(self.event)

    def update(self, n: float | None = 1) -> bool | None:
        """Count steps."""
        shown = super().update(n)
        done = self.event.done + int(n or 0)
        self.event = ProgressEvent(self.event.stage, done, self.event.total, self.event.unit)
        tell(self.event)
        return shown


# ---------------------------------------------------------------------------- what checkpoints say
# What a request takes from the checkpoints that it names, before any network is loaded.

Range = tuple[int, int]  # lowest and highest note, MIDI


def sampling_hyperparams(request: SongRequest, loaded: Loaded | Stored, kind: str) -> Hyperparams:
    """Return a checkpoint's hyperparameters with the sections of SAMPLING as they are wanted now.

    They touch no weight, so hyperparams.py counts as it stands, for the preset that the network
    was trained with, and then the request. Prints what the checkpoint had stored otherwise.
    """
    stored, own = loaded.hyperparams, SECTIONS[kind]
    presets = config.presets()
    name = nearest_preset(stored, presets, set(own) - set(SAMPLING))
    current = replace(stored, **{part: getattr(presets[name], part) for part in SAMPLING})
    shown = {*own, "composer"} if kind == "transformer" else set(own)
    shown -= (
        {"inpainting" if stored.unet.mel else "mel_inpainting"} if kind == "inpainter" else set()
    )
    for knob, (before, now) in config.changed(stored, current).items():
        if section_of(knob) in shown:
            print(
                f"{knob} = {now}, as hyperparams.py has it (preset {name}); {loaded.path} was "
                f"saved with {before}: --set {knob}={before} takes that"
            )
    return request.changed(current)


def nearest_preset(
    stored: Hyperparams, presets: Mapping[str, Hyperparams], sections: Set[str]
) -> str:
    """Return the preset that differs from a checkpoint in the fewest knobs of these sections."""

    def distance(name: str) -> int:
        return sum(section_of(knob) in sections for knob in config.changed(stored, presets[name]))

    return min(presets, key=distance)


def voice_names(data: Mapping[str, Any]) -> list[str]:
    """Return the names of a transformer's voices, FIRST_VOICE in front; data: of its checkpoint."""
    return [FIRST_VOICE, *data.get("voices", ())]


def voice_number(data: Mapping[str, Any], name: str | None, path: Path) -> int:
    """Return the number of a voice, of None 0; ValueError lists those that `path` has."""
    names = voice_names(data)
    if name is not None and name not in names:
        raise ValueError(f"--voice {name}: no such voice in {path}; its voices: {', '.join(names)}")
    return 0 if name is None else names.index(name)


def sung_range(data: Mapping[str, Any]) -> Range | None:
    """Return the range of all that a transformer has learnt to sing; None when it only speaks."""
    known = data.get("pitch_range")
    return (known[0], known[1]) if known else None


def own_range(data: Mapping[str, Any], number: int) -> Range | None:
    """Return the range of one voice; None where the checkpoint does not tell voices apart."""
    known = data.get("pitch_ranges", {}).get(voice_names(data)[number])
    return (known[0], known[1]) if known else None
