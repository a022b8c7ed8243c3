"""Accompaniments alone, moved in tempo and pitch: where things lie then, and who is moved."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import FILE
from torch import Tensor

from hyperparams import Diffusion
from inpainter.context import Context, window_mel
from inpainter.diffusion import ACCOMPANIMENT, VOCAL
from inpainter.mel_unet import MelSignal
from train_inpainter import Drawn, InpainterExperiment
from training.moved_mels import (
    count_alone,
    hz_to_mel,
    impaired,
    mel_to_hz,
    moved_bands,
    moved_windows,
)
from training.resident_mels import ResidentSongs, SongMels
from utils import config
from utils.audio import Features
from utils.seeds import torch_generator

torch.set_num_threads(1)
HP = config.build("mel", FILE, (), config.presets())
AUDIO, BANDS, FRAMES = HP.audio, HP.audio.n_mels, HP.inpainter_training.segment_frames
PLAIN = {"mean": [0.0] * BANDS, "std": [1.0] * BANDS}
SIGNAL = MelSignal(AUDIO, {"mel": PLAIN, "accompaniment_mel": PLAIN})
SILENCE = math.log(AUDIO.log_floor)


def knobs(tempo: float, pitch: float) -> Diffusion:
    return replace(HP.diffusion, alone_tempo=tempo, alone_pitch=pitch)


def ramps(*lengths: int) -> ResidentSongs:
    """Songs whose frames count, in both stems and all bands, from 0 and from 1,000."""
    songs = []
    for number, length in enumerate(lengths):
        count = torch.arange(length)[:, None].expand(-1, BANDS).float()
        songs.append(SongMels(f"song-{number}", count + 1000 * number, -0.01 * count))
    return ResidentSongs(songs, FRAMES, SILENCE, "cpu")


def windows(
    songs: ResidentSongs, ids: list[str], frames: list[int], knobs: Diffusion, seed: int = 0
) -> Tensor:
    where = songs, SIGNAL, ids, frames, FRAMES, knobs, AUDIO, torch_generator(seed)
    return moved_windows(*where).unflatten(2, (-1, BANDS))  # (K, 2, T, M)


def test_scales_are_the_inverse_of_each_other_and_slaneys() -> None:
    hz = torch.tensor([0.0, 200, 1000, 6400, 8000])
    torch.testing.assert_close(mel_to_hz(hz_to_mel(hz)), hz)
    torch.testing.assert_close(hz_to_mel(hz)[:4], torch.tensor([0.0, 3, 15, 42]))


def test_nothing_is_moved_without_a_tempo_and_a_pitch() -> None:
    songs = ramps(90, 70)
    made = windows(songs, ["song-0", "song-1"], [17, 5], knobs(0, 0))
    expected = torch.arange(FRAMES)[None, :] + torch.tensor([[17], [1005]])
    torch.testing.assert_close(made[:, VOCAL, :, 3], expected.float(), atol=0.6, rtol=0)
    torch.testing.assert_close(
        made[0, ACCOMPANIMENT, :, 3], -0.01 * expected[0].float(), atol=1e-3, rtol=1e-3
    )


def test_both_stems_go_at_one_tempo_within_their_song() -> None:
    songs = ramps(400, 300)
    made = windows(songs, ["song-0", "song-1"] * 20, [390, 8] * 20, knobs(0.15, 0))
    vocal = made[:, VOCAL, :, 0] - torch.tensor([0.0, 1000] * 20)[:, None]
    rates = (vocal[:, -1] - vocal[:, 0]) / (FRAMES - 1)
    assert 0.85 < rates.min() < 0.93 and 1.07 < rates.max() < 1.17
    steps = vocal.diff(dim=1)
    assert (steps - rates[:, None]).abs().max() < 0.6  # float16 counts to 1,000 in halves
    torch.testing.assert_close(made[:, ACCOMPANIMENT, :, 0], -0.01 * vocal, atol=0.01, rtol=0)
    assert vocal[::2].max() <= 399 and (vocal[::2, -1] > 395).all()  # moved back to fit
    torch.testing.assert_close(vocal[1::2, 0], torch.full((20,), 8.0))


def test_a_song_shorter_than_its_window_holds_its_end() -> None:
    made = windows(ramps(FRAMES, 40), ["song-0"] * 30, [0] * 30, knobs(0.15, 0))
    vocal = made[:, VOCAL, :, 0]
    assert (vocal[:, 0] == 0).all() and vocal.max() <= FRAMES - 1
    assert (vocal.diff(dim=1) >= -0.01).all()


@pytest.mark.parametrize("semitones", [-2.0, 0.0, 1.5])
def test_a_moved_tone_lies_where_a_higher_tone_lies(semitones: float) -> None:
    time = torch.arange(8000) / AUDIO.sample_rate
    for hz in (440.0, 2200.0):
        tones = [torch.sin(2 * math.pi * f * time) for f in (hz, hz * 2 ** (semitones / 12))]
        mel, higher = window_mel(Features(AUDIO), 0.2 * torch.stack(tones))[:, 15]  # (M,)
        place = moved_bands(torch.tensor([semitones]), AUDIO)[0]
        assert (place.diff() >= 0).all() and place.min() >= 0 and place.max() <= BANDS - 1
        moved = np.interp(place.numpy(), np.arange(BANDS), mel.numpy())
        assert abs(int(moved.argmax()) - int(higher.argmax())) <= 1
        assert (semitones == 0) == np.allclose(moved, mel, atol=1e-3)


def test_pitches_differ_from_item_to_item() -> None:
    mel = torch.linspace(0, 1, BANDS).expand(100, -1)
    songs = ResidentSongs([SongMels("a", mel, mel)], FRAMES, SILENCE, "cpu")
    made = windows(songs, ["a"] * 12, [0] * 12, knobs(0, 2.0))
    torch.testing.assert_close(made[:, VOCAL], made[:, ACCOMPANIMENT])  # both alike
    assert made[:, VOCAL, 0, 40].unique().numel() == 12
    assert (made[:, VOCAL, 0, 40] - mel[0, 40]).abs().max() < 4 / BANDS


def test_a_share_of_any_batch_is_alone_on_average() -> None:
    for batch in (1, 2, 8, 64):
        counts = [count_alone(0.25, batch, step) for step in range(400)]
        assert sum(counts) == 100 * batch and max(counts) - min(counts) <= 1
    assert {count_alone(0.25, 64, step) for step in range(9)} == {16}
    assert not any(count_alone(0.0, 64, step) for step in range(9))


def test_only_what_is_heard_of_the_first_items_is_impaired() -> None:
    given = torch.zeros(4, 2, FRAMES * BANDS)
    heard = impaired(given, 3, HP.diffusion, BANDS, torch_generator(0))
    assert not given.any() and not heard[:, VOCAL].any() and not heard[3].any()
    frames = heard[:3, ACCOMPANIMENT].unflatten(1, (-1, BANDS))
    assert (frames.mean((1, 2)).abs() > 1e-3).all() and frames.std() < 0.6
    assert (frames.std(1).mean(1) <= 1.2 * HP.diffusion.alone_noise).all()


def test_moved_items_keep_nothing_but_an_accompaniment() -> None:
    """Whatever dropouts say: no part of the context, and never without the accompaniment."""
    experiment = InpainterExperiment.__new__(InpainterExperiment)
    experiment.hp = HP
    known = torch.ones(4, 2, FRAMES * BANDS, dtype=torch.bool)
    dropped = {"mel": torch.tensor([False, False, False, True]), "pitch": torch.zeros(4).bool()}
    drawn = Drawn(known, known.float(), known.float(), Context(is_dropped=dropped), known[:, 0, 0])
    made = experiment.accompanied(drawn, 2, torch_generator(0))
    assert made.context.is_dropped["mel"].tolist() == [True, True, False, True]
    assert made.context.is_dropped["pitch"].tolist() == [True, True, False, False]
    assert made.is_dropped.tolist() == [False, False, True, True]
    assert torch.equal(made.is_known, drawn.is_known)
    assert not torch.equal(made.given[:2], drawn.given[:2])
    assert torch.equal(made.given[2:], drawn.given[2:])


def test_knobs_that_nobody_would_follow_are_refused() -> None:
    with pytest.raises(ValueError, match="corpus_on_device"):
        replace(HP, diffusion=replace(HP.diffusion, alone_share=0.25))
    with pytest.raises(ValueError, match="share of the batch"):
        replace(HP.diffusion, alone_share=1.5)
    preset = config.preset("mel")
    assert preset.diffusion.alone_share > 0 and preset.inpainter_training.corpus_on_device
