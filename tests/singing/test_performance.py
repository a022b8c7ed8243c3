"""A performance is heard: vibrato in the pitch, velocities in the level, breaths in the rests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_chain import Run, integers

from hyperparams import Audio, Synthesis
from music.midi import write_midi
from music.midi_tracks import read_midi
from music.score import Lyric, Melody, Note, NoteStyle, Score, TempoMap
from music.underlay import sing
from singing.performance import (
    BREATH_GAP,
    Performance,
    VoiceStyle,
    arch_curve,
    f0_of_notes,
    gain_curve,
    performances,
    sung_pitch,
    unsung_remarks,
    velocity_gains,
    with_breaths,
    with_loudness,
)
from source_filter import pulse_train
from text.frontend import Pronouncer
from utils.metrics import f0_track

AUDIO = Audio()
RATE = AUDIO.sample_rate
PLAIN = VoiceStyle(vibrato_cents=0.0, vibrato_rate=5.5, vibrato_delay=0.0, glide_seconds=0.1)
QUICK = ("--set", "synthesis.griffin_lim_iterations=1")


def tune(styles: list[NoteStyle | None], rest_before: int = 3) -> Melody:
    """Notes of 0.8 s, a rest of 0.8 s before note `rest_before`."""
    onsets = [0.8 + 0.8 * k + 0.8 * (k >= rest_before) for k in range(len(styles))]
    notes = tuple(
        Note(57 + k, onset, onset + 0.8, style)
        for k, (onset, style) in enumerate(zip(onsets, styles, strict=True))
    )
    return Melody(notes, tuple(Lyric("oh") for _ in notes), TempoMap.constant(120.0))


def score_of(melody: Melody) -> Score:
    return sing(melody, Pronouncer()).score


def test_pitch_follows_vibrato_and_glides() -> None:
    times = np.arange(0, 4, 0.005)
    notes = [(0.0, 2.0, 60), (2.0, 4.0, 67)]
    styles = [NoteStyle(vibrato_cents=80.0, vibrato_rate=5.0), NoteStyle(glide_seconds=0.4)]
    midi = sung_pitch(notes, styles, times, PLAIN)
    held = midi[(times > 0.5) & (times < 1.5)]  # five periods
    assert np.ptp(held) / 2 == pytest.approx(0.8, abs=0.02) and held.mean() == pytest.approx(60)
    assert midi[times > 2.3] == pytest.approx(67.0)
    gliding = (midi > 60.9) & (midi < 66.1) & (times > 1.7)
    assert 0.1 < times[gliding].max() - times[gliding].min() < 0.3
    assert midi[np.argmin(abs(times - 2.0))] == pytest.approx(63.5, abs=0.9)
    added = sung_pitch(notes, [NoteStyle(vibrato_added=20.0), None], times, PLAIN)
    assert np.ptp(added[(times > 0.5) & (times < 1.5)]) / 2 == pytest.approx(0.2, abs=0.01)


def test_loudness_follows_velocities() -> None:
    gains = velocity_gains([45, 90, None, 127])
    assert gains == pytest.approx([-12.04, 0, 0, 5.98], abs=0.01)
    times = np.arange(0, 2, 0.01)
    notes = [(0.0, 0.5, 60), (0.5, 1.0, 60), (1.0, 1.5, 60), (1.5, 2.0, 60)]
    curve = gain_curve(notes, gains, times)
    middles = [curve[np.argmin(abs(times - t))] for t in (0.25, 0.75, 1.25, 1.75)]
    assert middles == pytest.approx(gains, abs=1e-6) and np.abs(np.diff(curve)).max() < 5
    arch = arch_curve(0.0, 2.0, times, 6.0)
    assert abs(arch.mean()) < 0.1 and arch.argmax() == 100
    assert np.ptp(arch) == pytest.approx(6.0, abs=0.1)


def test_vibrato_asked_of_notes_is_heard() -> None:
    depths = [0.0, 60.0, 15.0, 90.0, 30.0, 75.0, 45.0]
    styles = [NoteStyle(vibrato_cents=d, vibrato_delay=0.0) for d in depths]
    notes = [(n.onset, n.offset, n.pitch) for n in tune(list(styles)).notes]
    knobs = Synthesis(drift_cents=0.0)
    f0 = f0_of_notes(notes, 500, AUDIO.frame_rate, knobs, 0, styles)
    assert torch.equal(f0_of_notes(notes, 500, AUDIO.frame_rate, knobs, 0), f0_of_notes(
        notes, 500, AUDIO.frame_rate, knobs, 0, [None] * len(notes)))  # fmt: skip
    heard = f0_track(pulse_train(f0[None], AUDIO)[0], RATE, AUDIO.hop_length)
    times = np.arange(len(heard)) / AUDIO.frame_rate
    found = []
    for onset, offset, pitch in notes:
        inside = (times > onset + 0.3) & (times < offset - 0.05) & (heard.numpy() > 0)
        cents = 1200 * np.log2(heard.numpy()[inside] / (440 * 2 ** ((pitch - 69) / 12)))
        found.append(np.sqrt(2) * cents.std())
    assert np.corrcoef(depths, found)[0, 1] > 0.97


def test_velocities_are_levels() -> None:
    velocities = [90, 64, 127, 90, 100]
    score = score_of(tune([NoteStyle(velocity=v) for v in velocities]))
    (performance,) = performances([score], score)
    notes = [(n.onset, n.offset, n.pitch) for n in score.notes]
    wav = torch.randn(round(6 * RATE), generator=torch.Generator().manual_seed(0))
    for factor in (1.0, 0.5):
        loud = with_loudness(wav, notes, performance, Synthesis(dynamics=factor), RATE)
        found = []
        for onset, offset, _ in notes:
            part = slice(round((onset + 0.1) * RATE), round((offset - 0.1) * RATE))
            found.append(20 * np.log10(float(loud[part].std() / wav[part].std())))
        wanted = [40 * factor * np.log10(v / 90) for v in velocities]
        assert found == pytest.approx(wanted, abs=0.05)
    assert with_loudness(wav, notes, performance, Synthesis(dynamics=0.0), RATE) is wav
    assert with_loudness(wav, notes, None, Synthesis(), RATE) is wav


def test_a_phrase_swells_to_its_middle() -> None:
    score = score_of(tune([None] * 6))
    notes = [(n.onset, n.offset, n.pitch) for n in score.notes]
    wav = torch.ones(round(6.5 * RATE))
    swelled = with_loudness(wav, notes, None, Synthesis(phrase_dynamics=6.0), RATE)
    level = 20 * swelled.log10()
    peaks = [
        float(level[round(a * RATE) : round(b * RATE)].max()) for a, b in ((0, 3.2), (3.3, 6.5))
    ]
    assert peaks == pytest.approx([6 * (1 - 2 / np.pi)] * 2, abs=0.05)
    assert level.min() == pytest.approx(-12 / np.pi, abs=0.1)


def test_breaths_are_drawn_in_rests_alone() -> None:
    score = score_of(tune([None] * 6))
    wav = torch.zeros(round(7 * RATE))
    for note in score.notes:
        wav[round(note.onset * RATE) : round(note.offset * RATE)] = 0.1
    assert with_breaths(wav, score, Synthesis(), AUDIO, 0) is wav
    knobs = Synthesis(breath_seconds=0.3, breath_level=-12.0)
    breathed = with_breaths(wav, score, knobs, AUDIO, 0)
    added = (breathed - wav).abs() > 1e-6
    expected = torch.zeros_like(added)
    for onset in (score.notes[0].onset, score.notes[3].onset):
        end = onset - BREATH_GAP
        expected[round((end - 0.3) * RATE) : round(end * RATE)] = True
    assert not (added & ~expected).any() and added.sum() > 0.9 * expected.sum()
    loudest = (breathed - wav)[expected].unfold(0, 400, 400).std(1).max()
    assert 20 * np.log10(float(loudest) / 0.1) == pytest.approx(-12.0, abs=3.0)
    assert torch.equal(breathed, with_breaths(wav, score, knobs, AUDIO, 0))


def test_what_a_voice_does_not_sing_is_said() -> None:
    asked = Performance((NoteStyle(velocity=40), NoteStyle(vibrato_cents=30.0)), (0.0, 0.0))
    assert unsung_remarks([asked, None], ["synthesis.dynamics=1"], True) == []
    (said,) = unsung_remarks([asked, None], ["synthesis.glide_seconds=0.3"], False)
    assert said.startswith("not sung") and "of 1 notes" in said and "glide_seconds=0.3" in said
    plain = Performance((NoteStyle(velocity=40),), (0.0,))
    assert unsung_remarks([plain], ["synthesis.dynamics=1"], False) == []


def test_a_performance_goes_through_the_command_line(
    run: Run, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Velocities and controllers of a file are sung, written again, and may be left out."""
    loud = [NoteStyle(velocity=v, vibrato_cents=40.0) for v in (120, 120, 120, 45, 45, 45)]
    write_midi(tune(loud), tmp_path / "tune.mid")
    flags = ("--melody", tmp_path / "tune.mid", "--checkpoint", weights / "singer.pt", *QUICK)
    assert run(*flags, out="sung") == 0
    said = capsys.readouterr().out
    assert "vibrato and glides asked for of 6 notes" in said.replace("\n", " ")
    assert run(*flags, "--dynamics", 0, "--breath", 0.3, out="even") == 0
    waves = [integers(tmp_path / out / "vocal.wav")[:, 0] / 2.0**31 for out in ("sung", "even")]

    def level(wav: np.ndarray, first: float, last: float) -> float:
        return 20 * np.log10(wav[round(first * RATE) : round(last * RATE)].std())

    spans = ((0.9, 3.1), (4.1, 6.3))
    steps = [level(wav, *spans[0]) - level(wav, *spans[1]) for wav in waves]
    assert steps[0] - steps[1] == pytest.approx(40 * np.log10(120 / 45), abs=0.5)
    rest = (3.55, 3.85)
    assert level(waves[1], *rest) > level(waves[1], *spans[0]) - 30
    again = read_midi(tmp_path / "sung" / "topline.mid")
    assert [n.style.velocity for n in again.notes if n.style] == [120] * 3 + [45] * 3
