"""Sing an arrangement: every phrase by the songbook's engine, with its loudness and breaths.

Shapes: S samples, T frames.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from corpora.singer import FRAME_RATE, SAMPLE_RATE, Singer
from corpora.takes import Arrangement, Take
from hyperparams import Audio, Synthesis
from music.inputs import TAIL_SECONDS
from music.score import Note
from singing.performance import performances, with_breaths, with_loudness
from utils.audio import levelled, resample

VOCAL_LEVEL = -23.0  # dBFS RMS over the sounding parts
LEVEL_BLOCK = 0.05  # s
PEAK = 0.95  # of full scale, at most

Span = tuple[float, float]  # onset and offset, s


@dataclass(frozen=True)
class SungArrangement:
    """A voice (S,) at VOCAL_LEVEL, and what sounds when, in seconds.

    neutral (S,): the same without loudness and breaths, which the chain adds behind its networks;
    spans: of each phrase, from its first consonant to TAIL_SECONDS after its last note; sounding:
    by phrase and syllable the spans of the phonemes; curves: by phrase the start in s and F0 (T,)
    in Hz at FRAME_RATE, as it was asked for; of a recording, as it was measured.
    """

    wav: torch.Tensor
    neutral: torch.Tensor
    spans: list[Span]
    sounding: list[list[list[Span]]]
    curves: list[tuple[float, np.ndarray]]


def sing_arrangement(
    arrangement: Arrangement, take: Take, singer: Singer, sample_rate: int
) -> SungArrangement:
    """Sing all phrases of an arrangement, with its loudness and breaths."""
    wav = np.zeros(round(arrangement.duration * SAMPLE_RATE), np.float32)
    neutral = np.zeros_like(wav)
    spans, sounding, curves = [], [], []
    manner = take.manner
    knobs = Synthesis(
        phrase_dynamics=manner.phrase_dynamics,
        breath_seconds=manner.breath_seconds,
        breath_level=manner.breath_level,
    )
    styles = performances(arrangement.phrases, arrangement.score)
    for number, (phrase, style) in enumerate(zip(arrangement.phrases, styles, strict=True)):
        seed = zlib.crc32(f"{take.manner.seed}:{number}".encode())
        sung = singer.sing(phrase, dataclasses.replace(take.manner, seed=seed))
        onset = phrase.syllables[0].onset
        begin = onset - sung.lead
        notes = [(n.onset - begin, n.offset - begin, n.pitch) for n in phrase.notes]
        loud = with_loudness(torch.from_numpy(sung.wav), notes, style, knobs, SAMPLE_RATE).numpy()
        start = round(begin * SAMPLE_RATE)
        first, last = max(0, start), min(len(wav), start + len(loud))
        wav[first:last] += loud[first - start : last - start]
        neutral[first:last] += sung.wav[first - start : last - start]
        spans.append((max(0.0, begin), phrase.duration + TAIL_SECONDS))
        sounding.append([[(begin + a, begin + b) for a, b in row] for row in sung.times])
        curves.append((begin, sung.f0))
    audio = Audio(sample_rate=SAMPLE_RATE)
    whole = with_breaths(torch.from_numpy(wav), arrangement.score, knobs, audio, manner.seed)
    block = round(LEVEL_BLOCK * sample_rate)
    voice, straight = (
        levelled(resample(wav, SAMPLE_RATE, sample_rate), VOCAL_LEVEL, block, PEAK)
        for wav in (whole, torch.from_numpy(neutral))
    )
    return SungArrangement(voice, straight, spans, sounding, curves)


def contour_of(
    curves: Sequence[tuple[float, np.ndarray]], notes: Sequence[Note], start: float, end: float
) -> dict[str, Any]:
    """Return the pitch of an item from `start` to `end` s against its notes.

    {rate: of the values in Hz, cents: by which F0 lies above the note that sounds, 0 in rests}.
    """
    times = start + np.arange(math.ceil((end - start) * FRAME_RATE)) / FRAME_RATE
    cents = np.zeros(len(times))
    onsets = np.array([note.onset for note in notes])
    place = np.searchsorted(onsets, times, side="right") - 1
    for begin, f0 in curves:
        frames = (times - begin) * FRAME_RATE
        for index in np.flatnonzero((frames >= 0) & (frames <= len(f0) - 1) & (place >= 0)):
            note = notes[place[index]]
            if times[index] < note.offset:
                hertz = np.interp(frames[index], np.arange(len(f0)), f0)
                cents[index] = 1200 * np.log2(hertz / 440.0) - 100 * (note.pitch - 69)
    return {"rate": FRAME_RATE, "cents": cents.round().astype(int).tolist()}
