"""Stems: layouts, levels, remarks, restarts, and windows read from them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from corpora.songs import pair_remarks
from corpora.stems import read_stems
from corpora.stores import StemStore
from hyperparams import Audio, Diffusion, Training
from preprocess import FeatureStore, StemBatches
from utils.audio import Features, loudness, resample

torch.set_num_threads(1)
RATE = 16000
AUDIO = Audio()
TRAINING = Training(batch_size=4, seed=3)


def song(seed: int, seconds: float = 14.0) -> tuple[np.ndarray, np.ndarray]:
    """A sung line and drums with bass, whose onsets fall together: two arrays (S,)."""
    random = np.random.default_rng(seed)
    size = round(seconds * RATE)
    vocal, backing = np.zeros(size + RATE), np.zeros(size + RATE)
    onset = 0.2
    while onset < seconds - 0.5:
        start = round(onset * RATE)
        time = np.arange(RATE // 2) / RATE
        drum = random.standard_normal(len(time)) * np.exp(-40 * time)
        bass = np.sin(2 * np.pi * 70 * time) * np.exp(-5 * time)
        backing[start : start + len(time)] += 0.15 * drum + 0.4 * bass
        if random.random() < 0.7:
            pitch = random.uniform(250, 500)
            tone = sum(np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 8))
            vocal[start : start + len(time)] += 0.2 * tone * np.exp(-3 * time)
        onset += random.choice([0.2, 0.3, 0.4, 0.5]) + random.uniform(-0.03, 0.03)
    return vocal[:size], backing[:size]


def write(path: Path, wav: np.ndarray, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wav, rate)


def index_of(tmp_path: Path, name: str = "x") -> dict:
    return json.loads((tmp_path / "feature" / name / "index.json").read_text(encoding="utf-8"))


# ---- layouts


def names(pairs: list) -> list[tuple[str, str, list[str]]]:
    return [(p.id, p.vocal_path.name, [q.name for q in p.accompaniment_paths]) for p in pairs]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            ["vocal/a.wav", "accompaniment/a.flac", "vocal/b.ogg", "accompaniment/b.mp3"],
            [("a", "a.wav", ["a.flac"]), ("b", "b.ogg", ["b.mp3"])],
        ),
        (
            ["a/vocal.wav", "a/accompaniment.wav", "a/cover.jpg"],
            [("a", "vocal.wav", ["accompaniment.wav"])],
        ),
        (["x/y/Vocals.wav", "x/y/no_vocals.wav"], [("x - y", "Vocals.wav", ["no_vocals.wav"])]),
        (
            ["s/vocals.wav", "s/drums.wav", "s/bass.wav", "s/other.wav", "s/mixture.wav"],
            [("s", "vocals.wav", ["drums.wav", "bass.wav", "other.wav"])],
        ),
        (["vocal.wav", "accompaniment.wav"], [("songs", "vocal.wav", ["accompaniment.wav"])]),
    ],
)
def test_layouts(tmp_path: Path, files: list[str], expected: list) -> None:
    for file in files:
        path = tmp_path / "songs" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    pairs, rejections = read_stems(tmp_path / "songs")
    assert names(pairs) == expected and not rejections


def test_other_names_and_incomplete_songs(tmp_path: Path) -> None:
    for file in (
        "a/guitar.ogg",
        "a/song.ogg",
        "b/guitar.ogg",
        "c/song.ogg",
        "d/mix.mp3",
        "e?/song.ogg",
    ):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    pairs, rejections = read_stems(tmp_path, "guitar", "song")
    assert names(pairs) == [("a", "guitar.ogg", ["song.ogg"])]
    reasons = {rejection.id: rejection.reason for rejection in rejections}
    assert "no accompaniment (song), found guitar.ogg" in reasons["b"]
    assert "no vocal (guitar), found song.ogg" in reasons["c"]
    assert "mix without stems" in reasons["d"] and "demucs --two-stems vocals" in reasons["d"]
    assert "rename the song" in reasons["e?"]


def test_mixes_alone_and_empty_folders_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no recording"):
        read_stems(tmp_path)
    (tmp_path / "song.mp3").touch()
    with pytest.raises(ValueError, match=r"demucs --two-stems vocals .* --vocal-name"):
        read_stems(tmp_path)


# ---- preparation


def test_one_gain_brings_the_mix_to_its_loudness_and_keeps_the_balance(
    tmp_path: Path, prepare, capsys
) -> None:
    for seed in range(3):
        vocal, backing = song(seed)
        scale = (0.02, 0.3, 1.0)[seed]
        write(tmp_path / "in" / f"s{seed}" / "vocal.wav", scale * vocal)
        write(tmp_path / "in" / f"s{seed}" / "accompaniment.flac", scale * backing)
    shares = ("--validation-share", "0", "--test-share", "0")
    assert prepare("stems", tmp_path / "in", "--name", "x", *shares) == 0
    assert "3 items" in capsys.readouterr().out
    store = StemStore(tmp_path / "feature" / "x")
    for item in store.items("train"):
        vocal, backing = song(int(item["id"][1]))
        stems = store.window(item["id"], 0, item["num_samples"])
        assert stems.shape == (2, len(vocal))
        assert loudness(stems.sum(dim=0), RATE) == pytest.approx(-18.0, abs=0.2)
        original = torch.from_numpy(np.stack([vocal, backing])).float()
        gain = float((stems * original).sum() / original.square().sum())
        assert (stems - gain * original).abs().max() < 2e-3
        assert item["remarks"] == []
    rms = store.index["statistics"]
    whole = torch.cat([store.window(i["id"], 0, i["num_samples"]) for i in store.items("train")], 1)
    assert rms["both"] == pytest.approx(Diffusion().sigma_data, rel=0.3)
    assert rms["vocal"] == pytest.approx(float(whole[0].double().square().mean().sqrt()), rel=1e-5)
    assert prepare("check", "x") == 0


def test_a_loud_moment_limits_the_gain_instead_of_clipping(tmp_path: Path, prepare) -> None:
    vocal, backing = song(0)
    vocal, backing = 0.01 * vocal, 0.01 * backing
    vocal[40000] = 0.9
    write(tmp_path / "in" / "vocal" / "a.wav", vocal)
    write(tmp_path / "in" / "accompaniment" / "a.wav", backing)
    assert prepare("stems", tmp_path / "in", "--name", "x") == 0
    item = index_of(tmp_path)["items"][0]
    assert 0 < item["gain"] < 1 and item["loudness"] < -30
    array = np.load(tmp_path / "feature" / "x" / "stems" / "a.npy")
    assert array.max() in (32766, 32767)


def test_parts_are_summed_and_rates_and_channels_converted(tmp_path: Path, prepare) -> None:
    vocal, backing = song(1)
    stereo = resample(torch.from_numpy(vocal).float(), RATE, 44100)[:, None].expand(-1, 2).numpy()
    write(tmp_path / "in" / "s" / "vocals.wav", stereo, 44100)
    for part in ("drums", "bass", "other"):
        write(tmp_path / "in" / "s" / f"{part}.wav", backing / 3)
    assert prepare("stems", tmp_path / "in", "--name", "x") == 0
    item = index_of(tmp_path)["items"][0]
    assert item["conversions"] == ["2 channels to mono", "44100 Hz to 16000 Hz"]
    stems = np.load(tmp_path / "feature" / "x" / "stems" / "s.npy") / 32768
    gain = 10 ** (item["gain"] / 20)
    assert np.abs(stems[1] - gain * backing).max() < 2e-3
    assert np.abs(stems[0] - gain * vocal)[100:-100].max() < 2e-2


def test_faults_of_songs_are_named_and_the_others_are_made(tmp_path: Path, prepare, capsys) -> None:
    vocal, backing = song(2)
    broken = vocal.astype(np.float32)
    broken[7] = np.inf
    damaged = {
        "good": (vocal, backing),
        "mute": (0 * vocal, backing),
        "short": (vocal[:900], backing[:900]),
        "longer": (vocal, backing[: len(backing) - 8000]),
        "swapped": (backing, vocal),
    }
    for id, (one, two) in damaged.items():
        write(tmp_path / "in" / id / "vocal.wav", one)
        write(tmp_path / "in" / id / "accompaniment.wav", two)
    write(tmp_path / "in" / "nan" / "accompaniment.wav", backing)
    soundfile.write(tmp_path / "in" / "nan" / "vocal.wav", broken, RATE, subtype="FLOAT")
    write(tmp_path / "in" / "text" / "vocal.wav", vocal)
    (tmp_path / "in" / "text" / "accompaniment.wav").write_text("no sound")
    write(tmp_path / "in" / "alone" / "vocal.wav", vocal)
    assert prepare("stems", tmp_path / "in", "--name", "x") == 0
    index = index_of(tmp_path)
    skipped = {skip["id"]: skip["reason"] for skip in index["skipped"]}
    assert skipped.keys() == {"mute", "short", "nan", "text", "alone"}
    assert "vocal: silent" in skipped["mute"] and "too short" in skipped["short"]
    assert "vocal vocal.wav: 1 samples are NaN or infinite" in skipped["nan"]
    remarks = {item["id"]: " ".join(item["remarks"]) for item in index["items"]}
    assert remarks["good"] == "" and "perhaps swapped" in remarks["swapped"]
    assert "unequal lengths: vocal 14.000 s, accompaniment 13.500 s" in remarks["longer"]
    lengths = {item["id"]: item["num_samples"] for item in index["items"]}
    assert lengths["longer"] == len(vocal)  # nothing is trimmed
    assert "  longer: unequal lengths" in capsys.readouterr().out
    assert prepare("check", "x") == 0
    for id in ("mute", "short", "nan", "text", "alone"):
        for path in (tmp_path / "in" / id).iterdir():
            path.unlink()
    assert prepare("stems", tmp_path / "in", "--name", "y", "--strict") == 1
    error = capsys.readouterr().err
    assert "longer: unequal" in error and "swapped: perhaps swapped" in error
    assert not (tmp_path / "feature" / "y" / "index.json").exists()


@pytest.mark.parametrize(
    ("vocal", "backing", "id"),
    [
        ("1_song_(Vocals).wav", "1_song_(Instrumental).wav", "1_song"),
        ("song_(Vocals)_UVR-MDX-NET.wav", "song_(Instrumental)_UVR-MDX-NET.wav", "song"),
        ("song_vocals.WAV", "song_instrumental.wav", "song"),
        ("My song - Vocals.flac", "My song - Inst.flac", "My song"),
        ("vocal_song_10.wav", "instrument_song_10.wav", "song_10"),
        ("song/vocals.wav", "song/instrumental.wav", "song"),
        ("song/acapella.wav", "song/inst.wav", "song"),
        ("vocals/song.wav", "no_vocals/song.wav", "song"),
    ],
)
def test_names_that_separation_programs_write(
    tmp_path: Path, vocal: str, backing: str, id: str
) -> None:
    for name in (vocal, backing):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    pairs, rejections = read_stems(tmp_path)
    assert [(p.id, p.vocal_path, p.accompaniment_paths) for p in pairs] == [
        (id, tmp_path / vocal, (tmp_path / backing,))
    ]
    assert not rejections


def test_other_names_are_told_what_to_do(tmp_path: Path) -> None:
    for name in ("song_vocals.wav", "song_band.wav"):
        (tmp_path / name).write_bytes(b"")
    pairs, rejections = read_stems(tmp_path)
    reasons = " ".join(r.reason for r in rejections)
    assert not pairs and "--accompaniment-name" in reasons and "song_vocals.wav" in reasons
    (pair,), _ = read_stems(tmp_path, None, "band")
    assert pair.id == "song" and pair.accompaniment_paths[0].name == "song_band.wav"


def test_stems_are_kept_made_again_and_checked(tmp_path: Path, prepare, capsys) -> None:
    for seed in range(3):
        vocal, backing = song(seed, 3.0)
        write(tmp_path / "in" / "vocal" / f"{seed}.wav", vocal)
        write(tmp_path / "in" / "accompaniment" / f"{seed}.wav", backing)
    command = ("stems", tmp_path / "in", "--name", "x")
    assert prepare(*command) == 0
    first = index_of(tmp_path)
    (tmp_path / "feature" / "x" / "stems" / "1.npy").write_bytes(b"damaged")
    assert prepare("check", "x") == 1
    assert "another checksum" in capsys.readouterr().out
    assert prepare(*command) == 0
    assert "1 made, 2 kept" in capsys.readouterr().out
    assert index_of(tmp_path) == first
    assert prepare(*command, "--set", "audio.n_mels=40") == 0  # stems do not depend on it
    assert "0 made, 3 kept" in capsys.readouterr().out
    assert prepare(*command, "--loudness", "-24") == 0
    assert "3 made, 0 kept" in capsys.readouterr().out
    assert prepare("ljspeech", tmp_path, "--name", "x") == 1
    with pytest.raises(ValueError, match="expected 'speech'"):
        FeatureStore(tmp_path / "feature" / "x")


# ---- alignment


@pytest.mark.parametrize("shift", [0.0, -0.5, 0.12, 0.9])
def test_lags_are_found_and_aligned_stems_are_left_in_peace(shift: float) -> None:
    for seed in range(2):
        vocal, backing = (torch.from_numpy(stem).float() for stem in song(seed, 20.0))
        moved = torch.roll(vocal, round(shift * RATE))
        remarks = pair_remarks(moved, backing, Features(AUDIO), RATE)
        if shift == 0:
            assert remarks == []
        else:
            side = "late" if shift > 0 else "early"
            seconds = float(remarks[0].split("seems ")[1].split()[0])
            assert "perhaps misaligned" in remarks[0] and side in remarks[0]
            assert seconds == pytest.approx(abs(shift), abs=0.04)


def test_stems_of_different_songs_are_suspected() -> None:
    features = Features(AUDIO)
    for seed in range(2):
        vocal, _ = song(seed, 20.0)
        _, backing = song(seed + 10, 20.0)
        stems = (torch.from_numpy(stem).float() for stem in (vocal, backing))
        assert pair_remarks(*stems, features, RATE)


# ---- windows


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> StemStore:
    """Three songs of 2, 3 and 0.25 s whose samples count up, so that a window names its place."""
    directory = tmp_path_factory.mktemp("feature") / "made"
    (directory / "stems").mkdir(parents=True)
    items = []
    for id, size in (("a", 32000), ("b", 48000), ("c", 4000)):
        ramp = (np.arange(size) % 30000).astype(np.int16)
        np.save(directory / "stems" / f"{id}.npy", np.stack([ramp, -ramp]))
        items.append({"id": id, "num_samples": size, "split": "train"})
    index = {"version": 1, "kind": "stems", "audio": {"sample_rate": RATE}, "items": items}
    (directory / "index.json").write_text(json.dumps(index))
    return StemStore(directory)


def test_windows_lie_where_they_say_and_are_equally_likely(store: StemStore) -> None:
    batches = StemBatches(store, "train", TRAINING, window=8192)
    counts = {"a": 0, "b": 0, "c": 0}
    for batch, _ in itertools.islice(batches(), 150):
        assert batch.wav.shape == (4, 2, 8192) and batch.wav.dtype == torch.float32
        for row, id in enumerate(batch.ids):
            counts[id] += 1
            start, length = int(batch.starts[row]), int(batch.lengths[row])
            expected = (start + torch.arange(length)) % 30000
            assert torch.equal(batch.wav[row, 0, :length], expected / 32768)
            assert torch.equal(batch.wav[row, 1], -batch.wav[row, 0])
            assert not batch.wav[row, :, length:].any()
            assert length == (4000 if id == "c" else 8192)
    share = counts["b"] / (counts["a"] + counts["b"])
    assert share == pytest.approx((48000 - 8192) / (80000 - 2 * 8192), abs=0.07)


def test_windows_are_a_function_of_seed_and_step_on_every_rank(store: StemStore) -> None:
    batches = StemBatches(store, "train", TRAINING, window=1024)
    alone = list(itertools.islice(batches(), 12))
    resumed = list(itertools.islice(batches(alone[4][1]), 7))
    for (one, after_one), (two, after_two) in zip(alone[5:], resumed, strict=True):
        assert after_one == after_two and torch.equal(one.wav, two.wav)
    ranks = [list(itertools.islice(batches((0, 0), rank, 3), 4)) for rank in range(3)]
    for number, (batch, _) in enumerate(alone):
        shared, following = ranks[number % 3][number // 3]
        assert torch.equal(batch.wav, shared.wav)
        assert following == (0, 3 * (number // 3 + 1))


def test_fixed_windows_carry_another_songs_accompaniment(store: StemStore) -> None:
    batches = StemBatches(store, "train", TRAINING, window=1024)
    first, second = list(batches.head(3)), list(batches.head(3))
    for one, two in zip(first, second, strict=True):
        assert torch.equal(one.wav, two.wav) and torch.equal(one.other, two.other)
        assert one.other.shape == (4, 1024)
        assert set(one.ids) >= {"a", "b"}  # each batch spans the corpus
        assert not torch.equal(one.other, one.wav[:, 1])
    moved = first[0].to("meta")
    assert moved.wav.device.type == moved.other.device.type == "meta"


def test_another_take_is_no_other_song(tmp_path: Path) -> None:
    """The shuffle control of both takes of a song is the song that follows, the last one's the
    first; a corpus of takes of one song has none."""
    (tmp_path / "stems").mkdir()
    ids = ["a@0", "a@1", "b@0"]
    items = [{"id": id, "num_samples": 2048, "split": "train"} for id in ids]
    for number, id in enumerate(ids, start=1):
        np.save(tmp_path / "stems" / f"{id}.npy", np.full((2, 2048), number, np.int16))
    index = {"version": 1, "kind": "stems", "audio": {"sample_rate": RATE}, "items": items}
    for kept, expected in ((items, {"a@0": 3, "a@1": 3, "b@0": 1}), (items[:2], None)):
        (tmp_path / "index.json").write_text(json.dumps(index | {"items": kept}))
        batches = StemBatches(StemStore(tmp_path), "train", TRAINING, window=1024)
        for batch in batches.head(2):
            if expected is None:
                assert batch.other is None
                continue
            played = (batch.other * 32768).round().int()
            for id, row in zip(batch.ids, played.tolist(), strict=True):
                assert set(row) == {expected[id]}


def test_a_window_reads_nothing_but_itself(store: StemStore, tmp_path: Path) -> None:
    item = store.index["items"][1]
    array = store.array("stems", item["id"])
    assert isinstance(array, np.memmap)
    assert array[0].flags["C_CONTIGUOUS"] and array.shape == (2, item["num_samples"])


def test_another_sample_rate_is_refused(store: StemStore) -> None:
    store.check_audio(Audio(n_mels=40))
    with pytest.raises(ValueError, match=r"audio\.sample_rate: prepared with 16000"):
        store.check_audio(Audio(sample_rate=22050))
