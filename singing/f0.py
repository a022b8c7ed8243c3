"""F0 of a voice with a source: drawn from notes, or heard in a mel without any.

Shapes: T frames, M mels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from singing.chain import linear_from_mel, waveform
from utils.pitch import TimedNote, f0_track

if TYPE_CHECKING:
    from hyperparams import Audio, Synthesis

SWELL = 0.25  # s over which a vibrato grows
DRIFT_SECONDS = 0.3  # s, over which a drift is smoothed: slower than a vibrato
UNHEARD = 200.0  # Hz, where no pitch is found in a whole item
HEARD_ITERATIONS = 12  # of Griffin-Lim where F0 is heard in a mel


def f0_of_notes(
    notes: Sequence[TimedNote], num_frames: int, frame_rate: float, knobs: Synthesis, seed: int
) -> Tensor:
    """Draw F0 (T,) in Hz: the notes, joined by glides, with a delayed vibrato and a drift.

    A rest keeps the note before it, the time before the first note that one. Raises ValueError
    without a note.
    """
    if not notes:
        raise ValueError("F0 of no note is asked for")
    onsets, _, pitches = np.array(sorted(tuple(note) for note in notes), float).T
    times = np.arange(num_frames) / frame_rate
    current = np.clip(np.searchsorted(onsets, times, side="right") - 1, 0, len(onsets) - 1)
    half = max(1, round(0.5 * knobs.glide_seconds * frame_rate))
    kernel = np.hanning(2 * half + 3)[1:-1]
    midi = np.convolve(np.pad(pitches[current], half, mode="edge"), kernel / kernel.sum(), "valid")
    age = np.maximum(0.0, times - onsets[current])
    swell = np.clip((age - knobs.vibrato_delay) / SWELL, 0.0, 1.0)
    cents = knobs.vibrato_cents * swell * np.sin(2 * np.pi * knobs.vibrato_rate * age)
    cents += knobs.drift_cents * _drift(num_frames, frame_rate, seed)
    return torch.from_numpy(440.0 * 2 ** ((midi + cents / 100 - 69) / 12)).float()


def _drift(num_frames: int, frame_rate: float, seed: int) -> np.ndarray:
    """Return slow noise (T,) of variance 1."""
    window = np.hanning(2 * round(DRIFT_SECONDS * frame_rate) + 3)[1:-1]
    window /= np.sqrt(np.square(window).sum())
    noise = np.random.default_rng(seed).standard_normal(num_frames + len(window) - 1)
    return np.convolve(noise, window, "valid")


def f0_of_mel(mel: Tensor, audio: Audio, knobs: Synthesis, seed: int) -> Tensor:
    """Hear F0 (T,) in Hz in a log mel (T, M): YIN on a quick Griffin-Lim rendering of it."""
    quick = replace(knobs, griffin_lim_iterations=HEARD_ITERATIONS)
    wav = waveform(linear_from_mel(mel[None], audio)[0], audio, quick, seed)
    return filled(f0_track(wav.cpu(), audio.sample_rate, audio.hop_length)[: len(mel)])


def filled(f0: Tensor) -> Tensor:
    """Carry F0 (T,) in Hz through the frames without pitch, on straight lines in cents."""
    is_voiced = (f0 > 0).numpy()
    if not is_voiced.any():
        return torch.full_like(f0, UNHEARD)
    frames = np.arange(len(f0))
    logs = np.interp(frames, frames[is_voiced], np.log(f0.numpy()[is_voiced]))
    return torch.from_numpy(np.exp(logs)).to(f0)
