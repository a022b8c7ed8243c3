"""Accompaniments: notes to audio through fluidsynth and a General MIDI soundfont."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import mido
import numpy as np
import torch
from torch import Tensor

from music.midi import save_midi
from music.midi_tracks import DRUM_CHANNEL
from music.score import TempoMap
from music.song import Backing
from utils.audio import read_wav

OVERSAMPLING = 2  # soundfont samples are not band-limited when they are pitched up
GAIN = 0.4  # of fluidsynth: no chord of a dozen notes clips
SOUNDFONTS = (
    *("/usr/share/sounds/sf2/default-GM.sf2", "/usr/share/sounds/sf2/TimGM6mb.sf2"),
    *("/usr/share/sounds/sf2/FluidR3_GM.sf2", "/usr/share/soundfonts/default.sf2"),
)
INSTALL = "apt-get install fluidsynth timgm6mb-soundfont (or your system's packages of these)"


def find_soundfont(wanted: Path | None) -> Path:
    """Return the soundfont to play with; raises FileNotFoundError naming what to install."""
    candidates = [wanted] if wanted else [Path(path) for path in SOUNDFONTS]
    for path in candidates:
        if path.is_file():
            return path.resolve()
    raise FileNotFoundError(
        f"no soundfont at {', '.join(map(str, candidates))}: {INSTALL}, or give --soundfont FILE"
    )


def missing_program() -> str | None:
    """Say that fluidsynth is missing, None when it is there."""
    return None if shutil.which("fluidsynth") else f"fluidsynth is not installed: {INSTALL}"


def velocities(notes: Backing, base: int, swell: float, swell_seconds: float) -> np.ndarray:
    """Return one MIDI velocity per note: `base` with a slow swell of ± `swell`."""
    onsets = np.array([note.onset for note in notes.notes])
    values = base + swell * np.sin(2 * np.pi * onsets / swell_seconds)
    return np.clip(np.round(values), 1, 127).astype(int)


def write_backing(
    backing: Sequence[Backing], loudness: Sequence[np.ndarray], tempo: TempoMap, path: Path
) -> None:
    """Write an accompaniment as a MIDI file, one track and channel per part; at most 15 parts."""
    file = mido.MidiFile(type=1, ticks_per_beat=tempo.ticks_per_beat)
    conductor = mido.MidiTrack()
    now = 0
    for tick, microseconds in tempo.changes:
        conductor.append(mido.MetaMessage("set_tempo", tempo=microseconds, time=tick - now))
        now = tick
    file.tracks.append(conductor)
    channels = [channel for channel in range(16) if channel != DRUM_CHANNEL]
    for channel, part, values in zip(channels, backing, loudness, strict=False):
        events = []
        for note, velocity in zip(part.notes, values.tolist(), strict=True):
            first, last = (round(tempo.tick_at(time)) for time in (note.onset, note.offset))
            settings = {"note": note.pitch, "channel": channel}
            events.append((first, 1, mido.Message("note_on", velocity=velocity, **settings)))
            end = max(last, first + 1)
            events.append((end, 0, mido.Message("note_off", velocity=0, **settings)))
        track = mido.MidiTrack()
        track.append(mido.Message("program_change", channel=channel, program=part.program))
        now = 0
        for tick, _, message in sorted(events, key=lambda event: event[:2]):
            track.append(message.copy(time=tick - now))
            now = tick
        file.tracks.append(track)
    save_midi(file, path)


def play(midi_path: Path, soundfont: Path, sample_rate: int, num_samples: int) -> Tensor:
    """Render a MIDI file to mono (S,), exactly `num_samples` long from its time 0.

    Raises RuntimeError with fluidsynth's own words when it fails.
    """
    missing = missing_program()
    if missing:
        raise RuntimeError(missing)
    with tempfile.TemporaryDirectory() as directory:
        wav_path = Path(directory) / "accompaniment.wav"
        command = ["fluidsynth", "-n", "-i", "-q", "-g", str(GAIN), "-O", "s16", "-T", "wav"]
        command += ["-r", str(OVERSAMPLING * sample_rate), "-F", str(wav_path)]
        result = subprocess.run(
            [*command, str(soundfont), str(midi_path)], capture_output=True, text=True, check=False
        )
        if result.returncode or not wav_path.is_file():
            raise RuntimeError(f"fluidsynth failed on {midi_path}: {result.stderr.strip()[-300:]}")
        wav, _ = read_wav(wav_path, sample_rate)
    wav = wav[:num_samples]
    return torch.nn.functional.pad(wav, (0, num_samples - len(wav)))
