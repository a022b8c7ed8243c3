"""Songs in and out: ranges, files bit by bit, levels, pasted parts, mixes, folders as a whole."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperparams import Mixing
from inpainter.windows import seam_roughness
from singing.melody import read_accompaniment
from singing.mixing import channel_gains, join, mix, paste, to_channels
from singing.request import SongFiles
from singing.song import (
    AudioFile,
    draft_gain,
    open_song,
    parse_ranges,
    read_recording,
    training_gain,
    write_recording,
)
from utils import scratch
from utils.audio import active_level, loudness, resample, to_mono, true_peak
from utils.files import staged

RATE = 16000
DATA = {"loudness": -18.0, "statistics": {"accompaniment": 0.1}}


def tone(seconds: float, rate: int = RATE, channels: int = 1, hertz: float = 220.0) -> np.ndarray:
    """(S, C) of a tone with its own phase in each channel, level 0.3, and a little noise."""
    time = np.arange(round(seconds * rate)) / rate
    random = np.random.default_rng(channels)
    waves = [0.3 * np.sin(2 * np.pi * hertz * time + c) for c in range(channels)]
    return np.stack(waves, 1) + 0.001 * random.standard_normal((len(time), channels))


# ---------------------------------------------------------------------------- ranges


def test_ranges_are_seconds_or_minutes_in_any_order() -> None:
    ranges = parse_ranges(" 1:02.5-1:08, 12.5-17.0 ,0-.5", 70.0)
    assert ranges.seconds == ((0.0, 0.5), (12.5, 17.0), (62.5, 68.0))
    assert not ranges.remarks


def test_overlapping_ranges_are_one_and_a_remark_says_so() -> None:
    ranges = parse_ranges("3-5,1-2,4-4.5,5-6", 10.0)
    assert ranges.seconds == ((1.0, 2.0), (3.0, 6.0))
    assert len(ranges.remarks) == 2 and "3-5" in ranges.remarks[0]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("5-3", "not behind its start"),
        ("4-4", "not behind its start"),
        ("8-11", "not inside the recording"),
        ("nonsense", "expected START-END"),
        ("1-2-3", "expected START-END"),
        ("1-2,", "expected START-END"),
        ("-1-2", "expected START-END"),
        ("nan-2", "expected START-END"),
    ],
)
def test_ranges_that_cannot_be_are_refused(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        parse_ranges(text, 10.0)


# ---------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [
        ("wav", "PCM_U8"),
        ("wav", "PCM_16"),
        ("wav", "PCM_24"),
        ("wav", "PCM_32"),
        ("wav", "FLOAT"),
        ("wav", "DOUBLE"),
        ("flac", "PCM_16"),
        ("flac", "PCM_24"),
    ],
)
def test_a_recording_is_written_as_it_was_read(tmp_path: Path, suffix: str, subtype: str) -> None:
    path = tmp_path / f"take.{suffix}"
    soundfile.write(path, tone(0.1, 22050, 2), 22050, subtype=subtype)
    recording = read_recording(path)
    write_recording(tmp_path / "copy.wav", recording)
    assert soundfile.info(tmp_path / "copy.wav").subtype == subtype
    dtype = recording.samples.dtype
    files = (path, tmp_path / "copy.wav")
    before, after = (soundfile.read(p, dtype=str(dtype), always_2d=True)[0] for p in files)
    assert np.array_equal(before, after)
    floats = torch.from_numpy(soundfile.read(path, dtype="float32")[0].T)
    assert torch.equal(recording.wav(), floats)


def test_lossy_files_keep_what_the_decoder_gives(tmp_path: Path) -> None:
    path = tmp_path / "take.ogg"
    soundfile.write(path, tone(0.3), RATE)
    recording = read_recording(path)
    write_recording(tmp_path / "copy.wav", recording)
    assert np.array_equal(soundfile.read(tmp_path / "copy.wav")[0], soundfile.read(path)[0])


def test_accompaniments_that_say_nothing_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    soundfile.write(path, np.zeros(RATE), RATE)
    with pytest.raises(ValueError, match="silent"):
        read_accompaniment(path, RATE)
    wav = tone(1.0)
    wav[700] = np.nan
    soundfile.write(path, wav, RATE, subtype="FLOAT")
    with pytest.raises(ValueError, match="1 samples are NaN or infinite, the first is sample 700"):
        read_accompaniment(path, RATE)


# ---------------------------------------------------------------------------- levels and requests


def test_the_network_hears_its_level_of_training() -> None:
    accompaniment = torch.from_numpy(tone(2.0)[:, 0]).float()
    gain = training_gain(accompaniment, None, DATA, 0.1, RATE)
    assert (accompaniment * gain).square().mean().sqrt() == pytest.approx(0.1, rel=1e-4)
    vocal = 0.2 * accompaniment.roll(40)
    gain = training_gain(accompaniment, vocal, DATA, 0.1, RATE)
    assert loudness((accompaniment + vocal) * gain, RATE) == pytest.approx(-18.0, abs=1e-3)
    quiet = torch.zeros(RATE)
    quiet[50] = 0.5
    assert training_gain(quiet, None, {}, 0.1, RATE) == pytest.approx(2.0)  # the peak's, not more


@pytest.mark.parametrize(
    ("vocal", "inpaint", "extend", "word"),
    [
        (False, "0.1-0.2", None, "--vocal FILE"),
        (False, None, 0.5, "--vocal FILE"),
        (True, None, None, "leaves nothing to make"),
        (True, None, -1.0, "above 0"),
        (True, None, math.inf, "above 0"),
        (True, None, 0.6, "Extend by at most 0.500 s"),
        (True, "0.2-0.20001", None, "shorter than a sample"),
    ],
)
def test_requests_that_make_no_sense(
    tmp_path: Path, vocal: bool, inpaint: str | None, extend: float | None, word: str
) -> None:
    soundfile.write(tmp_path / "song.wav", tone(1.0), RATE)
    soundfile.write(tmp_path / "take.wav", tone(0.5), RATE)
    take = tmp_path / "take.wav" if vocal else None
    with pytest.raises(ValueError, match=word):
        open_song(SongFiles(tmp_path / "song.wav", take, inpaint, extend), RATE, DATA, 0.1)


def test_ranges_stand_in_samples_of_the_file_and_of_the_network(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "song.wav", tone(1.5), RATE)
    soundfile.write(tmp_path / "take.wav", tone(1.0, 44100, 2), 44100)
    files = SongFiles(tmp_path / "song.wav", tmp_path / "take.wav", "0.25-0.5", 0.5)
    song = open_song(files, RATE, DATA, 0.1)
    assert song.file_ranges == ((11025, 22050), (44100, 66150))
    assert song.ranges == ((4000, 8000), (16000, 24000))
    assert len(song.vocal) == len(song.accompaniment) == 24000
    assert song.rate == 44100


# ---------------------------------------------------------------------------- pasted parts


def recording_of(samples: np.ndarray, rate: int, subtype: str = "PCM_16") -> AudioFile:
    bits = {"PCM_16": 16, "PCM_24": 24}[subtype]
    whole = np.round(samples * 2 ** (bits - 1)).astype(np.int64) << (32 - bits)
    return AudioFile(Path("take.wav"), whole.astype(np.int32), rate, subtype)


@settings(max_examples=15, deadline=None)
@given(
    rate=st.sampled_from([8000, 16000, 44100]),
    channels=st.integers(1, 3),
    edges=st.lists(st.integers(0, 4000), min_size=2, max_size=6, unique=True),
    extension=st.integers(0, 500),
    subtype=st.sampled_from(["PCM_16", "PCM_24"]),
)
def test_everything_outside_the_ranges_stays(
    rate: int, channels: int, edges: list[int], extension: int, subtype: str
) -> None:
    old = recording_of(tone(4000 / rate, rate, channels), rate, subtype)
    edges = sorted(edges)[: len(edges) // 2 * 2]
    ranges = [*zip(edges[::2], edges[1::2], strict=True)]
    if extension:
        ranges.append((4000, 4000 + extension))
    generated = 3.0 * torch.randn(6000, generator=torch.Generator().manual_seed(1))
    pasted = paste(old, generated, RATE, ranges)
    new = pasted.recording.samples
    assert new.shape == (4000 + extension, channels)
    outside = np.ones(len(new), bool)
    for start, stop in ranges:
        outside[start:stop] = False
    assert np.array_equal(new[outside], old.samples[outside[:4000]])
    assert not (new & ((1 << (16 if subtype == "PCM_16" else 8)) - 1)).any()  # whole bits of format
    assert (pasted.recording.wav().abs() <= 1).all()


def test_the_right_part_at_the_right_time_in_the_right_channels() -> None:
    """A tone panned to the left is made again from its own mono mix: nothing changes."""
    mono = tone(1.0, 44100)
    take = recording_of(np.concatenate([mono, 0.25 * mono], 1), 44100)
    generated = resample(to_mono(take.wav()), 44100, RATE)
    pasted = paste(take, generated, RATE, [(11025, 30000)])
    error = (pasted.recording.wav() - take.wav()).abs().max()
    assert error < 0.01  # what lies above 8 kHz of the noise
    assert torch.allclose(channel_gains(take.wav()), torch.tensor([1.6, 0.4]), atol=1e-3)
    assert torch.equal(channel_gains(torch.zeros(2, 9)), torch.ones(2))


def test_a_step_at_an_edge_is_taken_out() -> None:
    time = torch.arange(4000) / RATE
    smooth = 0.3 * torch.sin(2 * math.pi * 200 * time)[None]
    before, part, after = smooth.split([1000, 2000, 1000], 1)
    raw = torch.cat([before, part + 0.2, after], 1)[0]
    joined = torch.cat([before, join(before, part + 0.2, after, 80), after], 1)[0]
    for edge in (1000, 3000):
        assert seam_roughness(raw, edge) > 20
        assert seam_roughness(joined, edge) < 2
    assert torch.allclose(join(before, part, after, 80), part, atol=2e-3)  # no step, no change
    assert torch.equal(joined[1080:2920], raw[1080:2920])


def test_edges_of_noise_are_not_louder_than_the_noise() -> None:
    wav = 0.1 * torch.randn(1, 40000, generator=torch.Generator().manual_seed(3))
    before, part, after = wav.split([10000, 20000, 10000], 1)
    joined = join(before, part, after, 80)
    edges = torch.cat([joined[:, :80], joined[:, -80:]], 1)
    assert edges.square().mean().sqrt() < 0.12 and edges.abs().max() < 0.45
    silent = join(0 * before, part, 0 * after, 80)
    assert silent[0, 0].abs() < 0.01 and torch.isfinite(silent).all()


# ---------------------------------------------------------------------------- mix


def test_a_mix_has_the_balance_and_the_ceiling_that_were_asked_for() -> None:
    accompaniment = 3.0 * torch.from_numpy(tone(3.0, 44100, 2).T).float()
    vocal = 0.05 * torch.from_numpy(tone(3.0, 44100, 1, 330.0).T).float()
    for balance in (0.0, -4.0):
        mixed = mix(accompaniment, vocal, 44100, Mixing(balance, dip=0, presence=0, room=0))
        assert mixed.wav.shape == accompaniment.shape
        assert true_peak(mixed.wav, 44100) < -1.0
        assert mixed.levels["vocal"] - mixed.levels["accompaniment"] == pytest.approx(balance)
        voice = mixed.wav - accompaniment * 10 ** (mixed.gain / 20)
        assert loudness(voice, 44100) == pytest.approx(mixed.levels["vocal"], abs=0.05)
        assert true_peak(mix(accompaniment, vocal, 44100, Mixing(balance)).wav, 44100) < -1.0
    alone = mix(0.1 * accompaniment, vocal, 44100)
    assert torch.equal(alone.wav, 0.1 * accompaniment + vocal)  # nobody asked for a balance


def test_a_silent_vocal_leaves_the_accompaniment_alone() -> None:
    accompaniment = torch.from_numpy(tone(1.0, RATE, 2).T).float()
    mixed = mix(accompaniment, torch.zeros(1, RATE // 2), RATE, Mixing())
    assert torch.equal(mixed.wav, accompaniment) and mixed.levels["vocal"] == -math.inf


def test_who_sings_in_which_channel() -> None:
    mono, stereo = torch.ones(1, 4), torch.tensor([[1.0], [3.0]]).expand(2, 4)
    assert to_channels(mono, 1).tolist() == [[1.0] * 4]
    assert to_channels(stereo, 1).tolist() == [[2.0] * 4]
    assert torch.equal(to_channels(stereo, 2), stereo)
    six = to_channels(mono, 6)
    assert torch.equal(six[:2], torch.ones(2, 4)) and not six[2:].any()


# ---------------------------------------------------------------------------- folders


def test_results_appear_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with pytest.raises(RuntimeError), staged(out) as stage:
        (stage / "half").write_text("written")
        raise RuntimeError
    assert not out.exists() and not [*out.parent.iterdir()]
    for text in ("first", "second"):
        with staged(out) as stage:
            (stage / "report").write_text(text)
    (out / "mine").write_text("kept")
    with staged(out) as stage:
        (stage / "report").write_text("third")
    assert {p.name: p.read_text() for p in out.iterdir()} == {"report": "third", "mine": "kept"}
    assert [p.name for p in out.parent.iterdir()] == ["out"]
    with pytest.raises(ValueError, match="is a file"), staged(out / "mine"):
        raise AssertionError


def test_a_draft_comes_to_the_level_of_the_vocals() -> None:
    draft = torch.from_numpy(tone(2.0)[:, 0]).float()
    draft[RATE:] = 0.0  # rests do not count
    silent = torch.zeros(2 * RATE)
    data = {"statistics": {"vocal": 0.09}}
    gain = draft_gain(draft, silent, data, 256)
    assert active_level(gain * draft, 256) == pytest.approx(20 * math.log10(0.09), abs=0.01)
    assert draft_gain(draft, 0.5 * draft.flip(0), data, 256) == pytest.approx(0.5, rel=1e-3)
    assert draft_gain(draft, silent, {}, 256) == 1.0
    assert draft_gain(torch.zeros(RATE), silent, data, 256) == 1.0


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_mix_does_not_depend_on_its_blocks(
    channels: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Filters, levels and room of a song on the disk are those of one in memory."""
    rate, random = 8000, np.random.default_rng(channels)
    backing = torch.from_numpy(0.1 * random.standard_normal((channels, 4 * rate))).float()
    vocal = torch.from_numpy(0.1 * random.standard_normal((1, 4 * rate))).float()
    vocal[:, rate : 3 * rate // 2] = 0
    whole = mix(backing, vocal, rate, Mixing())
    monkeypatch.setattr(scratch, "SMALL", 0)
    monkeypatch.setattr(scratch, "BLOCK", 1500)
    with scratch.on(tmp_path):
        parts = mix(backing, vocal, rate, Mixing())
    assert torch.allclose(parts.wav, whole.wav, atol=1e-6)
    assert parts.levels == pytest.approx(whole.levels, abs=1e-4)
    assert parts.vocal_gain == pytest.approx(whole.vocal_gain, abs=1e-4)


def test_a_part_is_pasted_alike_in_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    old = recording_of(0.2 * random.standard_normal((RATE, 2)), RATE)
    generated = torch.from_numpy(0.1 * random.standard_normal(RATE)).float()
    whole = paste(old, generated, RATE, [(4000, 9000)]).recording.samples
    monkeypatch.setattr(scratch, "SMALL", 0)
    monkeypatch.setattr(scratch, "BLOCK", 700)
    with scratch.on(tmp_path):
        parts = paste(old, generated, RATE, [(4000, 9000)]).recording
        write_recording(tmp_path / "take.wav", parts)
    assert np.abs(parts.samples - whole).max() <= 2**16  # a step of 16 bits
    assert np.array_equal(parts.samples[:4000], old.samples[:4000])
    written, _ = soundfile.read(tmp_path / "take.wav", dtype="int32")
    assert np.array_equal(written, parts.samples)
