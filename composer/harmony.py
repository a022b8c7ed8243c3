"""Harmony of an accompaniment from its audio: beats, downbeats, key, and a chord per beat.

Beats come from beats.py. Chords are 12 major and 12 minor triads and "none": templates with
overtones (Papadopoulos & Peeters 2007) on beat-synchronous chroma, decoded by Viterbi. Metre and
downbeat phase are decided jointly with the chords (Papadopoulos & Peeters 2011): every hypothesis
makes changes of chord likely on its own downbeats, and the best path wins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from composer.beats import SILENCE, beat_chroma, track_beats

PITCH_CLASSES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
NO_CHORD = 24  # chords 0-11 are major on that pitch class, 12-23 minor
NUM_CHORDS = 25

SHORTEST = 4.0  # s; two beats at the slowest tempo allowed

OVERTONE_DECAY = 0.6  # amplitude of overtone h is decay^(h-1)

CHORD_SHARPNESS = 9.0  # log-likelihood per unit of template correlation
BASS_SHARPNESS = 2.0  # and per unit of bass chroma on the root
NO_CHORD_CORRELATION = 0.35  # templates that match less well than this are no chord
CHANGE_ON_DOWNBEAT, CHANGE_AT_HALF, CHANGE_ELSEWHERE = 0.6, 0.2, 0.04  # probabilities
METRE_PRIOR = {4: 0.8, 3: 0.2}
ACCENT_WEIGHT = 0.5  # log-likelihood of a downbeat per standard deviation of its accent

# Pitch-class salience in a key, Temperley's revision of Krumhansl's profiles (Temperley 1999).
MAJOR_PROFILE = (5.0, 2.0, 3.5, 2.0, 4.5, 4.0, 2.0, 4.5, 2.0, 3.5, 1.5, 4.0)
MINOR_PROFILE = (5.0, 2.0, 3.5, 4.5, 2.0, 4.0, 2.0, 4.5, 3.5, 2.0, 1.5, 4.0)
MIDDLE = 0.05  # s after a beat: a singer a little late is on it
TONIC_BONUS = 0.08  # correlation that a first and a last chord each lend the key they are tonic of
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}


def chord_name(chord: int) -> str:
    """Return "C", "Am", "N" (none) for a chord 0..24."""
    if chord == NO_CHORD:
        return "N"
    return PITCH_CLASSES[chord % 12] + ("" if chord < 12 else "m")


def chord_tones(chord: int) -> tuple[int, ...]:
    """Return the pitch classes of a chord 0..24: root, third, fifth; none for `NO_CHORD`."""
    if chord == NO_CHORD:
        return ()
    root, third = chord % 12, 4 if chord < 12 else 3
    return root, (root + third) % 12, (root + 7) % 12


@dataclass(frozen=True)
class Chart:
    """The chords of a song as a user gives them: by bar, or by time.

    bars: the chords of each bar, which share it evenly. spans: start, end in s, chord. One of the
    two is empty.
    """

    bars: tuple[tuple[int, ...], ...] = ()
    spans: tuple[tuple[float, float, int], ...] = ()

    def by_beat(self, beats: np.ndarray, metre: int, phase: int) -> np.ndarray:
        """Return the chord of each beat, (K,), where beat `phase` begins a bar.

        beats (K,) in s. Bars come again from the first when the song is longer; the beats before
        the first bar have its first chord. Raises ValueError for more chords in a bar than beats.
        """
        if self.spans:
            return self._at((beats + np.append(beats[1:], 2 * beats[-1] - beats[-2])) / 2)
        for number, bar in enumerate(self.bars, start=1):
            if len(bar) > metre:
                raise ValueError(
                    f"bar {number} of the chords has {len(bar)}, but bars have {metre} beats: "
                    "part it with |"
                )
        rows = [[bar[place * len(bar) // metre] for place in range(metre)] for bar in self.bars]
        flat = np.array(rows).reshape(-1)
        places = np.arange(len(beats)) - phase
        return np.where(places < 0, flat[0], flat[places % len(flat)])

    def _at(self, times: np.ndarray) -> np.ndarray:
        """Return the chord that sounds at each time in s."""
        starts = np.array([start for start, _, _ in self.spans])
        last = np.searchsorted(starts, times, side="right") - 1
        chords = [
            self.spans[index][2] if index >= 0 and time < self.spans[index][1] else NO_CHORD
            for index, time in zip(last.tolist(), times.tolist(), strict=True)
        ]
        return np.array(chords, dtype=int)


@dataclass(frozen=True)
class Key:
    """A tonic pitch class, 0 = C, and a mode, "major" or "minor"."""

    tonic: int
    mode: str

    def __str__(self) -> str:
        """Return the key as it is said: "A minor"."""
        return f"{PITCH_CLASSES[self.tonic]} {self.mode}"

    @property
    def scale(self) -> tuple[int, ...]:
        """Pitch classes of the scale (natural minor), from the tonic."""
        return tuple((self.tonic + step) % 12 for step in SCALES[self.mode])


@dataclass(frozen=True)
class Confidence:
    """How sure each estimate is, 0 to 1: 0 means a fallback or a coin toss."""

    beat: float  # autocorrelation of the onsets at the beat period
    downbeat: float  # posterior of the chosen metre and phase among all hypotheses
    key: float  # correlation with the key's profile
    chord: float  # mean correlation with the chosen chords' templates


@dataclass(frozen=True)
class Harmony:
    """Beats and chords of an accompaniment, covering it from start to end.

    beats (K,) in s, ascending; chords (K,) in 0..24, chord k sounding from beat k to the next (the
    last to `duration`); beats `first_downbeat + n * metre` are downbeats; `notes` says every
    fallback taken.
    """

    beats: np.ndarray
    chords: np.ndarray
    metre: int
    first_downbeat: int
    key: Key
    duration: float
    confidence: Confidence
    notes: tuple[str, ...] = ()

    @property
    def is_downbeat(self) -> np.ndarray:
        """Whether each beat begins a bar, (K,) bool."""
        return (np.arange(len(self.beats)) - self.first_downbeat) % self.metre == 0

    @property
    def tempo(self) -> float:
        """Beats per minute."""
        return 60.0 / float(np.median(np.diff(self.beats)))


def analyse(
    wav: np.ndarray,
    sample_rate: int,
    tempo: float | None = None,
    metre: int | None = None,
    chart: Chart | None = None,
) -> Harmony:
    """Return the harmony of an accompaniment, wav (S,) mono float.

    `tempo` (beats per minute), `metre` (3 or 4) and `chart` (the chords) settle what is otherwise
    estimated; the bars of a chart lie where they fit the audio best. Without a clear beat the grid
    is steady, at `tempo` or `DEFAULT_TEMPO`; without any chord the key is C major; `notes` of the
    result says so. Raises ValueError for audio of another shape, shorter than `SHORTEST` seconds,
    or not finite, for an impossible tempo or metre, and for a chart with more chords in a bar than
    it has beats.
    """
    wav = _checked(wav, sample_rate, tempo, metre)
    duration = len(wav) / sample_rate
    beats, beat_confidence, notes = track_beats(wav, sample_rate, tempo)
    treble, bass = beat_chroma(wav, sample_rate, beats)  # each (K, 12)
    likelihood = _chord_likelihood(treble, bass)
    is_silent = _level(wav, sample_rate, beats) < SILENCE
    likelihood[is_silent] = np.where(np.arange(NUM_CHORDS) == NO_CHORD, 0.0, -1e3)
    accents = _accents(wav, sample_rate, beats, bass)
    heard, metre_heard, phase, downbeat_confidence = _decode(likelihood, accents, metre)
    chords = heard
    if chart is None:
        metre = metre_heard
    else:
        chords, metre, phase, downbeat_confidence = _decode(
            likelihood, accents, metre, _placed(chart, beats, is_silent)
        )
        chords = np.where(is_silent, NO_CHORD, chords)
        notes += _chart_notes(chart, chords, heard, metre, phase)
    key, key_confidence = estimate_key(treble[~is_silent], chords)
    if is_silent.all():
        notes.append("the accompaniment is silent: no chords, key taken as C major")
    elif (chords == NO_CHORD).all():
        notes.append("no chord was recognised")
    sounding = chords != NO_CHORD
    fit = correlate(treble, _templates())[np.arange(len(beats)), np.minimum(chords, 23)]
    chord_confidence = float(np.clip(fit[sounding].mean(), 0, 1)) if sounding.any() else 0.0
    confidence = Confidence(beat_confidence, downbeat_confidence, key_confidence, chord_confidence)
    return Harmony(beats, chords, metre, phase, key, duration, confidence, tuple(notes))


def _checked(
    wav: np.ndarray, sample_rate: int, tempo: float | None, metre: int | None
) -> np.ndarray:
    """Return the audio as float32; everything unusable raises ValueError."""
    wav = np.asarray(wav, dtype=np.float32)
    if wav.ndim != 1:
        raise ValueError(f"accompaniment of shape {wav.shape}: expected mono audio of shape (S,)")
    if len(wav) < SHORTEST * sample_rate:
        raise ValueError(
            f"accompaniment of {len(wav) / sample_rate:.2f} s: expected at least {SHORTEST} s"
        )
    if not np.isfinite(wav).all():
        raise ValueError("accompaniment holds samples that are not finite; render it anew")
    if tempo is not None and not 30 <= tempo <= 300:
        raise ValueError(f"tempo {tempo}: expected 30 to 300 beats per minute")
    if metre is not None and metre not in METRE_PRIOR:
        raise ValueError(f"metre {metre}: expected {' or '.join(map(str, METRE_PRIOR))}")
    return wav


def _templates() -> np.ndarray:
    """Return chroma templates (24, 12) of the triads, six partials per tone."""
    templates = np.zeros((24, 12))
    for chord in range(24):
        for tone in chord_tones(chord):
            for partial in range(1, 7):
                step = round(12 * np.log2(partial))
                templates[chord, (tone + step) % 12] += OVERTONE_DECAY ** (partial - 1)
    return templates


def correlate(rows: np.ndarray, templates: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of every row (K, 12) with every template (N, 12), (K, N)."""
    rows = rows - rows.mean(axis=1, keepdims=True)
    templates = templates - templates.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(rows, axis=1)[:, None] * np.linalg.norm(templates, axis=1)
    return rows @ templates.T / np.maximum(norms, 1e-9)


def _chord_likelihood(treble: np.ndarray, bass: np.ndarray) -> np.ndarray:
    """Return the log-likelihood of each chord at each beat, (K, 25)."""
    triads = CHORD_SHARPNESS * correlate(treble, _templates())
    triads += BASS_SHARPNESS * np.tile(bass, 2)  # the root of chord c is c % 12
    none = np.full((len(treble), 1), CHORD_SHARPNESS * NO_CHORD_CORRELATION + BASS_SHARPNESS / 12)
    return np.concatenate([triads, none], axis=1)


def _level(wav: np.ndarray, sample_rate: int, beats: np.ndarray) -> np.ndarray:
    """Return the RMS of the audio from each beat to the next, (K,)."""
    edges = np.append(np.round(beats * sample_rate).astype(int), len(wav))
    return np.array([np.sqrt(np.mean(wav[start:end] ** 2)) for start, end in pairwise(edges)])


def _accents(wav: np.ndarray, sample_rate: int, beats: np.ndarray, bass: np.ndarray) -> np.ndarray:
    """Return how strongly each beat begins, in standard deviations, (K,): energy and new bass."""
    window = round(0.1 * sample_rate)
    starts = np.round(beats * sample_rate).astype(int)
    energy = np.array([np.sum(wav[start : start + window] ** 2) for start in starts])
    level = np.log(energy + 1e-6)
    novelty = np.abs(np.diff(bass, axis=0, prepend=bass[:1])).sum(axis=1)
    scaled = [(x - x.mean()) / max(float(x.std()), 1e-6) for x in (level, novelty)]
    return np.clip(scaled[0] + scaled[1], -3, 3)


Placed = Callable[[int, int], np.ndarray]  # metre, phase → chords (K,)


def _decode(
    likelihood: np.ndarray, accents: np.ndarray, metre: int | None, placed: Placed | None = None
) -> tuple[np.ndarray, int, int, float]:
    """Return chords (K,), metre, first downbeat, and the posterior of that hypothesis.

    placed: gives the chords, which are decoded without it; a hypothesis for which it raises
    ValueError is none, and where all are that error is the answer.
    """
    results, refused = [], None
    position = np.arange(len(likelihood))
    for candidate in [metre] if metre else METRE_PRIOR:
        for phase in range(min(candidate, len(likelihood))):
            place = (position - phase) % candidate
            change = np.full(len(likelihood), CHANGE_ELSEWHERE)
            change[place == 0] = CHANGE_ON_DOWNBEAT
            if candidate == 4:
                change[place == 2] = CHANGE_AT_HALF
            try:
                chords = placed(candidate, phase) if placed else None
            except ValueError as error:
                refused = error
                continue
            if chords is None:
                chords, score = viterbi(likelihood, change)
            else:
                score = path_score(likelihood, change, chords)
            is_downbeat = place == 0
            score += ACCENT_WEIGHT * float(accents[is_downbeat].sum())
            score += float(np.log(METRE_PRIOR[candidate] / candidate))
            results.append((score, candidate, phase, chords))
    if not results and refused:
        raise refused
    scores = np.array([result[0] for result in results])
    posterior = np.exp(scores - scores.max())
    _, metre, phase, chords = results[int(scores.argmax())]
    return chords, metre, phase, float(posterior.max() / posterior.sum())


def viterbi(likelihood: np.ndarray, change: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the best chord sequence (K,) and its log score.

    likelihood (K, 25) logs; change (K,) the probability that the chord changes at each beat, then
    to any of the others alike: so a step needs only the best state before it, not all pairs.
    """
    length, states = likelihood.shape
    stay, move = np.log1p(-change), np.log(change / (states - 1))
    score = likelihood[0].copy()
    origin = np.zeros((length, states), dtype=int)
    for beat in range(1, length):
        best = int(score.argmax())
        stays = score + stay[beat] >= score[best] + move[beat]
        origin[beat] = np.where(stays, np.arange(states), best)
        score = np.maximum(score + stay[beat], score[best] + move[beat]) + likelihood[beat]
    path = np.zeros(length, dtype=int)
    path[-1] = score.argmax()
    for beat in range(length - 1, 0, -1):
        path[beat - 1] = origin[beat, path[beat]]
    return path, float(score.max())


def _placed(chart: Chart, beats: np.ndarray, is_silent: np.ndarray) -> Placed:
    """Return what lays a chart over the beats: its first bar is the first that sounds."""
    first = int(np.argmin(is_silent))  # 0 where nothing sounds

    def place(metre: int, phase: int) -> np.ndarray:
        return chart.by_beat(beats, metre, phase + max(0, first - phase) // metre * metre)

    return place


def path_score(likelihood: np.ndarray, change: np.ndarray, chords: np.ndarray) -> float:
    """Return the log score of a chord sequence (K,), as `viterbi` counts it."""
    stays = chords[1:] == chords[:-1]
    steps = np.where(stays, np.log1p(-change[1:]), np.log(change[1:] / (NUM_CHORDS - 1)))
    return float(likelihood[np.arange(len(chords)), chords].sum() + steps.sum())


def _chart_notes(
    chart: Chart, chords: np.ndarray, heard: np.ndarray, metre: int, phase: int
) -> list[str]:
    """Return remarks on a chart's length and on how it agrees with what is heard."""
    bars, given = -(-(len(chords) - phase) // metre), len(chart.bars)
    remarks = []
    if given > bars:
        remarks.append(f"the song has {bars} bars, the chords {given}: the last are not played")
    elif given and given < bars:
        remarks.append(f"the {given} bars of chords come again over the song's {bars} bars")
    different = int((chords != heard).sum())
    remarks.append(
        f"the given chords differ from those heard at {different} of {len(chords)} beats"
    )
    return remarks


def estimate_key(chroma: np.ndarray, chords: np.ndarray) -> tuple[Key, float]:
    """Return the key whose profile correlates best with the chroma and the chords, and how well.

    chroma (K, 12) of the sounding beats; chords (K,). Without either: C major, 0.
    """
    counts = np.zeros(12)
    for chord in chords:
        counts[list(chord_tones(int(chord)))] += 1.0
    if not len(chroma) or not counts.any():
        return Key(0, "major"), 0.0
    weights = counts / counts.sum() + chroma.mean(axis=0)
    profiles = np.array(
        [np.roll(MAJOR_PROFILE, tonic) for tonic in range(12)]
        + [np.roll(MINOR_PROFILE, tonic) for tonic in range(12)]
    )
    correlation = correlate(weights[None], profiles)[0]
    sounding = chords[chords != NO_CHORD]
    bonus = np.zeros(24)
    bonus[sounding[[0, -1]]] = TONIC_BONUS
    best = int((correlation + bonus).argmax())
    return Key(best % 12, "major" if best < 12 else "minor"), float(
        np.clip(correlation[best], 0, 1)
    )


def chord_tone_ratio(notes: Sequence[Sequence[float]], harmony: Harmony) -> float:
    """Return the share of the beats with a note and a chord whose note is of the chord.

    The note of a beat is the one that sounds 50 ms behind it, its pitch the nearest semitone. NaN
    without such a beat.
    """
    hits = []
    for beat, chord in zip(harmony.beats, harmony.chords, strict=True):
        sounding = [note for note in notes if note[0] <= beat + MIDDLE < note[1]]
        if sounding and chord != NO_CHORD:
            hits.append(round(sounding[-1][2]) % 12 in chord_tones(int(chord)))
    return float(np.mean(hits)) if hits else float("nan")
