"""How notes are sung: vibrato, glides and loudness, note by note, and the pitch that they make.

In MIDI files a note's velocity is its loudness, and controllers say the rest, each from its event
on until the next, or until 121 (reset) gives it back to the voice:

    1   modulation       adds value / 127 · 100 cents of vibrato to the voice's own
    77  vibrato depth    value / 127 · 100 cents from the mean
    76  vibrato rate     3 + value / 127 · 6 Hz
    78  vibrato delay    value / 127 · 1 s
    5   portamento time  value / 127 · 0.5 s of glide from the note before; 65 under 64: none
    11  expression       scales the velocity by value / 127

Shapes: K notes, T frames.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from hyperparams import Synthesis

VELOCITY = 90  # of a note that says none
RESET = 121
SWELL = 0.25  # s over which a vibrato grows
DRIFT_SECONDS = 0.3  # s, over which a drift is smoothed: slower than a vibrato
SHORTEST_GLIDE = 0.01  # s, of a step between two notes
GAIN_SECONDS = 0.06  # s over which the loudness changes from note to note
LARGEST_GAIN = 18.0  # dB either way


@dataclass(frozen=True)
class NoteStyle:
    """How a note is sung; None: as the voice does without being told."""

    velocity: int | None = None  # 1 to 127: loudness
    vibrato_cents: float | None = None  # depth, from the mean
    vibrato_added: float | None = None  # cents, on top of the voice's own depth
    vibrato_rate: float | None = None  # Hz
    vibrato_delay: float | None = None  # s into the note until it starts
    glide_seconds: float | None = None  # from the note before

    def __post_init__(self) -> None:
        """Raise ValueError for what cannot be sung."""
        if self.velocity is not None and not 1 <= self.velocity <= 127:
            raise ValueError(f"velocity {self.velocity}: expected 1 to 127")
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if value is not None and not 0 <= value <= 1200:
                raise ValueError(f"{field.name} = {value}: expected a number from 0")

    def as_dict(self) -> dict[str, float]:
        """Return what is said, as plain values."""
        return {name: value for name, value in asdict(self).items() if value is not None}


# Controller: name of what it sets, value 0, value 127.
CONTROLLERS: dict[int, tuple[str, float, float]] = {
    1: ("vibrato_added", 0.0, 100.0),
    77: ("vibrato_cents", 0.0, 100.0),
    76: ("vibrato_rate", 3.0, 9.0),
    78: ("vibrato_delay", 0.0, 1.0),
    5: ("glide_seconds", 0.0, 0.5),
}
PORTAMENTO, EXPRESSION = 65, 11


def style_of(velocity: int, controls: Mapping[int, int]) -> NoteStyle:
    """Return the style of a note that begins with these controller values."""
    values: dict[str, Any] = {
        name: round(low + controls[number] / 127 * (high - low), 4)
        for number, (name, low, high) in CONTROLLERS.items()
        if number in controls
    }
    if controls.get(PORTAMENTO, 127) < 64:
        values["glide_seconds"] = 0.0
    if values.get("vibrato_added") == 0.0:
        del values["vibrato_added"]  # a wheel at rest
    if controls.get(EXPRESSION, 127) < 127:
        velocity = max(1, round(velocity * controls[EXPRESSION] / 127))
    return NoteStyle(velocity, **values)


def distinct(styles: Sequence[NoteStyle]) -> list[NoteStyle | None]:
    """Return styles without a velocity that all of them have; None for one that says nothing."""
    is_same = len({style.velocity for style in styles}) == 1
    parts = [replace(style, velocity=None) if is_same else style for style in styles]
    return [part if part.as_dict() else None for part in parts]


def controls_of(style: NoteStyle | None) -> dict[int, int]:
    """Return the controller values that say a style, the velocity aside."""
    said = {} if style is None else style.as_dict()
    return {
        number: min(127, max(0, round((said[name] - low) / (high - low) * 127)))
        for number, (name, low, high) in CONTROLLERS.items()
        if name in said
    }


# ---------------------------------------------------------------------------- curves


@dataclass(frozen=True)
class VoiceStyle:
    """How a voice sings notes that say nothing themselves."""

    vibrato_cents: float
    vibrato_rate: float
    vibrato_delay: float
    glide_seconds: float

    @classmethod
    def of(cls, knobs: Synthesis) -> VoiceStyle:
        """Return the style that the knobs ask for."""
        return cls(
            knobs.vibrato_cents, knobs.vibrato_rate, knobs.vibrato_delay, knobs.glide_seconds
        )

    def of_notes(self, styles: Sequence[NoteStyle | None]) -> dict[str, np.ndarray]:
        """Return depth, rate, delay and glide of each note, (K,) each."""
        names = [field.name for field in fields(self)]
        rows = {name: np.full(len(styles), getattr(self, name), float) for name in names}
        for place, style in enumerate(styles):
            for name, value in ({} if style is None else style.as_dict()).items():
                if name in rows:
                    rows[name][place] = value
                elif name == "vibrato_added":
                    rows["vibrato_cents"][place] += value
        return rows


def sung_pitch(
    notes: Sequence[Sequence[float]],
    styles: Sequence[NoteStyle | None],
    times: np.ndarray,
    voice: VoiceStyle,
) -> np.ndarray:
    """Return the pitch (T,) in MIDI numbers at `times` in s: notes, glides and vibrato.

    notes: (onset s, offset s, MIDI number) in order of time. A glide is centred on the onset that
    it leads to, the integral of a Hann window over `glide_seconds`; a rest keeps the note before.
    Raises ValueError without a note.
    """
    if not notes:
        raise ValueError("the pitch of no note is asked for")
    onsets, _, pitches = np.array([tuple(note) for note in notes], float).T
    rows = voice.of_notes(styles)
    current = np.clip(np.searchsorted(onsets, times, side="right") - 1, 0, len(onsets) - 1)
    glides = np.maximum(rows["glide_seconds"], SHORTEST_GLIDE)
    steps = np.diff(pitches, prepend=pitches[0])  # (K,)
    midi = np.full(len(times), pitches[0])
    for onset, step, glide in zip(onsets, steps, glides, strict=True):
        if step:
            midi += step * smooth_step((times - onset) / glide)
    age = np.maximum(0.0, times - onsets[current])
    swell = np.clip((age - rows["vibrato_delay"][current]) / SWELL, 0.0, 1.0)
    phase = 2 * np.pi * rows["vibrato_rate"][current] * age
    return midi + rows["vibrato_cents"][current] / 100 * swell * np.sin(phase)


def pitch_drift(num_frames: int, frame_rate: float, seed: int) -> np.ndarray:
    """Return slow noise (T,) of variance 1: no held note is a straight line."""
    window = np.hanning(2 * round(DRIFT_SECONDS * frame_rate) + 3)[1:-1]
    window /= np.sqrt(np.square(window).sum())
    noise = np.random.default_rng(seed).standard_normal(num_frames + len(window) - 1)
    return np.convolve(noise, window, "valid")


def smooth_step(u: np.ndarray) -> np.ndarray:
    """Return the integral of a Hann window over [-1/2, 1/2] up to u: from 0 to 1."""
    u = np.clip(u, -0.5, 0.5)
    return u + 0.5 + np.sin(2 * np.pi * u) / (2 * np.pi)


def velocity_gains(velocities: Sequence[int | None]) -> list[float]:
    """Return the dB of each note against the median velocity: 40 log10 of the ratio (GM 2)."""
    known = [velocity or VELOCITY for velocity in velocities]
    middle = float(np.median(known)) if known else VELOCITY
    return [40 * math.log10(velocity / middle) for velocity in known]


def gain_curve(
    notes: Sequence[Sequence[float]], gains: Sequence[float], times: np.ndarray
) -> np.ndarray:
    """Return the gain (T,) in dB at `times` in s: that of each note, changing smoothly between."""
    if not notes:
        return np.zeros(len(times))
    clipped = np.clip(gains, -LARGEST_GAIN, LARGEST_GAIN)
    curve = np.full(len(times), clipped[0])
    for note, step in zip(notes, np.diff(clipped, prepend=clipped[0]), strict=True):
        if step:
            curve += step * smooth_step((times - note[0]) / GAIN_SECONDS)
    return curve


def arch_curve(start: float, end: float, times: np.ndarray, amount: float) -> np.ndarray:
    """Return the gain (T,) in dB of a phrase that swells by `amount` to its middle; mean 0."""
    place = np.clip((times - start) / max(end - start, 1e-6), 0.0, 1.0)
    return amount * (np.sin(np.pi * place) - 2 / np.pi)
