"""Properties of the store, the order of batches, padding, crops, scores and memory."""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperparams import Audio, Training
from preprocess import (
    FeatureStore,
    MelLinearBatches,
    TextMelBatches,
    collate_scores,
)
from training.batching import FrameBudgetSampler, SegmentSampler, evenly_spaced, prefetched, walk
from utils.files import write_json

torch.set_num_threads(1)
TRAINING = Training(batch_frames=300, batch_size=4, segment_frames=0, seed=5)
SEGMENTS = Training(batch_frames=300, batch_size=4, segment_frames=32, seed=5)
SYMBOLS = ["_", "~", "HH", "AH0", "L", "OW1"]


def write_features(directory: Path, num_items: int, seed: int = 0) -> Path:
    """A prepared corpus of random spectrograms, 20 to 90 frames; every third item is held out."""
    random = np.random.default_rng(seed)
    items = []
    for kind in ("mel", "linear"):
        (directory / kind).mkdir(parents=True, exist_ok=True)
    for number in range(num_items):
        num_frames = int(random.integers(20, 90))
        for kind, num_bins in (("mel", 80), ("linear", 513)):
            frames = np.arange(num_frames)[:, None] + 1000 * number + np.zeros(num_bins)
            np.save(directory / kind / f"{number:04d}.npy", (frames / 1024).astype(np.float16))
        symbols = [SYMBOLS[1 + k % 5] for k in range(int(random.integers(3, 9)))]
        items.append(
            {
                "id": f"{number:04d}",
                "text": "",
                "symbols": symbols,
                "num_samples": (num_frames - 1) * 256,
                "num_frames": num_frames,
                "split": "validation" if number % 3 == 2 else "train",
            }
        )
    identity = {
        kind: {"mean": [0.0] * n, "std": [1.0] * n} for kind, n in (("mel", 80), ("linear", 513))
    }
    audio = {"sample_rate": 16000, "n_fft": 1024, "win_length": 1024, "hop_length": 256}
    index = {
        "version": 1,
        "kind": "speech",
        "corpus": "made",
        "sample_rate": 16000,
        "audio": {**audio, "n_mels": 80, "log_floor": 1e-5},
        "symbols": SYMBOLS,
        "statistics": identity,
        "items": items,
    }
    write_json(directory / "index.json", index)
    return directory


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return FeatureStore(write_features(tmp_path_factory.mktemp("feature") / "made", 40))


# ---- order


lengths_of_items = st.lists(st.integers(1, 200), min_size=1, max_size=80)


@settings(deadline=None, max_examples=60)
@given(lengths_of_items, st.integers(0, 3), st.integers(1, 9))
def test_an_epoch_holds_every_item_once_within_the_budgets(
    lengths: list[int], epoch: int, batch_size: int
) -> None:
    sampler = FrameBudgetSampler(lengths, 200, batch_size, seed=1)
    for plan in (sampler.epoch(epoch), sampler.in_order()):
        assert sorted(itertools.chain(*plan)) == list(range(len(lengths)))
        assert all(plan)
        assert all(max(lengths[n] for n in batch) * len(batch) <= 200 for batch in plan)
        assert all(len(batch) <= batch_size for batch in plan)


def test_the_order_is_a_function_of_seed_and_epoch_alone() -> None:
    lengths = np.random.default_rng(0).integers(50, 500, 300).tolist()
    plans = {
        (s, e): list(FrameBudgetSampler(lengths, 4000, 32, s).epoch(e))
        for s in (0, 1)
        for e in (0, 1)
    }
    assert plans[0, 0] == list(FrameBudgetSampler(lengths, 4000, 32, 0).epoch(0))
    assert len({json.dumps(plan) for plan in plans.values()}) == 4


def test_buckets_waste_little_padding() -> None:
    lengths = np.random.default_rng(0).integers(50, 800, 2000)
    padded = useful = 0
    for batch in FrameBudgetSampler(lengths, 12000, 64, 0).epoch(3):
        padded += lengths[batch].max() * len(batch)
        useful += lengths[batch].sum()
    assert useful / padded > 0.85


def test_the_plan_of_an_epoch_takes_little_memory() -> None:
    """A list of a million lists would take 150 bytes an item."""
    lengths = np.random.default_rng(0).integers(200, 900, 50_000)
    sampler = FrameBudgetSampler(lengths, 1000, 32, 0)
    tracemalloc.start()
    plan = sampler.epoch(0)
    held, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 30 * len(lengths) and most < 60 * len(lengths)
    assert list(plan[:3]) == [plan[0], plan[1], plan[2]] and list(plan)[-1] == plan[-1]


def test_items_beyond_the_budget_are_left_out_and_said(caplog) -> None:
    with caplog.at_level("WARNING"):
        sampler = FrameBudgetSampler([10, 500, 20], 100, 4, 0)
    assert sampler.excluded == [1] and "1 of 3 items" in caplog.text
    assert sorted(itertools.chain(*sampler.epoch(0))) == [0, 2]
    with pytest.raises(ValueError, match="batch_frames = 5"):
        FrameBudgetSampler([10, 20], 5, 4, 0)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 9))
def test_segment_batches_are_full_and_cover_the_corpus_in_time(items: int, size: int) -> None:
    sampler = SegmentSampler(items, size, seed=2)
    seen: Counter[int] = Counter()
    for epoch in range(60):
        plan = sampler.epoch(epoch)
        assert plan and all(len(batch) == size for batch in plan)
        seen.update(itertools.chain(*plan))
    assert set(seen) == set(range(items))


@settings(deadline=None, max_examples=40)
@given(lengths_of_items, st.integers(1, 5), st.integers(0, 12))
def test_ranks_share_one_stream_without_gaps_and_resume_anywhere(
    lengths: list[int], world_size: int, skip: int
) -> None:
    sampler = FrameBudgetSampler(lengths, 300, 3, seed=7)
    alone = list(itertools.islice(walk(sampler, (0, 0)), (skip + 3) * world_size))
    start = alone[skip * world_size - 1][2] if skip else (0, 0)
    shares = [
        list(itertools.islice(walk(sampler, start, rank, world_size), 3))
        for rank in range(world_size)
    ]
    together = [shares[rank][turn] for turn in range(3) for rank in range(world_size)]
    expected = alone[skip * world_size :]
    assert [batch for batch, _, _ in together] == [batch for batch, _, _ in expected]
    for turn in range(3):
        positions = {shares[rank][turn][2] for rank in range(world_size)}
        assert positions == {expected[(turn + 1) * world_size - 1][2]}


def test_a_resumed_run_sees_the_same_batches(store: FeatureStore) -> None:
    for batches in (
        TextMelBatches(store, "train", TRAINING),
        MelLinearBatches(store, "train", SEGMENTS),
    ):
        whole = list(itertools.islice(batches((0, 0)), 25))
        position = whole[11][1]
        resumed = list(itertools.islice(batches(position), 13))
        for (one, after_one), (two, after_two) in zip(whole[12:], resumed, strict=True):
            assert after_one == after_two and one.ids == two.ids
            assert torch.equal(one.mel, two.mel)


# ---- batches


@pytest.mark.parametrize("position", [(0, 0), (2, 1)])
def test_worker_processes_yield_the_same_batches_in_order(
    store: FeatureStore, position: tuple[int, int]
) -> None:
    text, segments = (
        [
            made(store, "train", replace(knobs, batch_workers=workers))(position, 1, 2)
            for workers in (0, 2)
        ]
        for made, knobs in (
            (TextMelBatches, Training(batch_frames=900)),
            (MelLinearBatches, Training(batch_size=3, segment_frames=20)),
        )
    )
    before = torch.random.get_rng_state()
    for stream, other in (text, segments):
        for _ in range(7):
            (a, after), (b, also_after) = next(stream), next(other)
            assert a.ids == b.ids and after == also_after and torch.equal(a.mel, b.mel)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_padding_lies_behind_the_lengths_and_nothing_else_changes(store: FeatureStore) -> None:
    dataset = TextMelBatches(store, "train", TRAINING).dataset
    batch = dataset.collate([dataset[n] for n in (0, 5, 2)])
    assert batch.mel.dtype == torch.float32 and batch.symbols.dtype == torch.int64
    assert batch.score is None and batch.num_frames == sum(batch.mel_lengths.tolist())
    for row, number in enumerate((0, 5, 2)):
        item, length = dataset[number], int(batch.mel_lengths[row])
        assert length == dataset.items[number]["num_frames"]
        assert torch.equal(batch.mel[row, :length], item.mel)
        assert not batch.mel[row, length:].any()
        symbols = batch.symbols[row].tolist()
        names = [SYMBOLS[s] for s in symbols[: batch.symbol_lengths[row]]]
        assert names == dataset.items[number]["symbols"]
        assert not any(symbols[batch.symbol_lengths[row] :])
        alone = batch.select(row)
        assert torch.equal(alone.mel[0], item.mel) and torch.equal(alone.symbols[0], item.symbols)


def test_spectrograms_are_standardised_by_the_statistics_of_the_index(tmp_path: Path) -> None:
    directory = write_features(tmp_path / "made", 3)
    index = json.loads((directory / "index.json").read_text())
    index["statistics"]["mel"] = {"mean": [0.5] * 80, "std": [2.0] * 80}
    write_json(directory / "index.json", index)
    dataset = TextMelBatches(FeatureStore(directory), "train", TRAINING).dataset
    raw = np.load(directory / "mel" / "0000.npy").astype(np.float32)
    assert np.allclose(dataset[0].mel.numpy(), (raw - 0.5) / 2, atol=1e-6)


def test_segments_are_crops_of_one_place_in_mel_and_linear(store: FeatureStore) -> None:
    batches = MelLinearBatches(store, "train", SEGMENTS)
    starts = set()
    for batch, _ in itertools.islice(batches(), 40):
        assert batch.mel.shape == (4, 32, 80) and batch.linear.shape == (4, 32, 513)
        for row, length in enumerate(batch.lengths.tolist()):
            number = int(batch.ids[row])
            frames = store.index["items"][number]["num_frames"]
            assert length == min(32, frames)
            assert torch.equal(batch.mel[row, :length, 0], batch.linear[row, :length, 0])
            assert not batch.mel[row, length:].any() and not batch.linear[row, length:].any()
            raw = np.load(store.directory / "mel" / f"{batch.ids[row]}.npy")[:, 0]
            windows = np.lib.stride_tricks.sliding_window_view(raw, length)
            matches = np.flatnonzero((windows == batch.mel[row, :length, 0].numpy()).all(axis=1))
            assert len(matches)
            starts.add((number, int(matches[0])))
    assert len(starts) > 100  # the crops move about


def test_first_and_last_frames_are_reached_by_segments(store: FeatureStore) -> None:
    dataset = MelLinearBatches(store, "train", SEGMENTS).dataset
    number = int(np.argmax([item["num_frames"] for item in dataset.items]))
    raw = np.load(store.directory / "mel" / f"{dataset.items[number]['id']}.npy")
    _, (first, _) = dataset.segment(number, 0.0)
    _, (last, _) = dataset.segment(number, 1.0 - 1e-9)
    assert np.array_equal(first.numpy(), raw[:32].astype(np.float32))
    assert np.array_equal(last.numpy(), raw[-32:].astype(np.float32))


def test_whole_items_can_be_asked_of_the_postnet_too(store: FeatureStore) -> None:
    batch, _ = next(MelLinearBatches(store, "train", TRAINING)())
    assert batch.mel.shape[1] == batch.lengths.max() and len(batch.ids) <= 4
    assert batch.mel.shape[0] * batch.mel.shape[1] <= TRAINING.batch_frames


def test_held_out_batches_are_always_the_same_and_span_the_lengths(store: FeatureStore) -> None:
    for kind, training in ((TextMelBatches, TRAINING), (MelLinearBatches, SEGMENTS)):
        first, second = (list(kind(store, "validation", training).head(3)) for _ in range(2))
        assert [b.ids for b in first] == [b.ids for b in second]
        assert all(torch.equal(a.mel, b.mel) for a, b in zip(first, second, strict=True))
        assert {int(id) % 3 for batch in first for id in batch.ids} == {2}
    fixed = TextMelBatches(store, "validation", TRAINING).fixed(4)
    assert len(fixed.ids) == 4
    assert fixed.mel_lengths.tolist() == sorted(fixed.mel_lengths.tolist())
    assert len(TextMelBatches(store, "validation", TRAINING).fixed(999).ids) == 13


def test_batches_move_to_a_device_as_a_whole(store: FeatureStore) -> None:
    batch = TextMelBatches(store, "train", TRAINING).fixed(2)
    score = collate_scores([SCORE, None], batch.symbols.shape[1], batch.mel.shape[1], 0.016)
    moved = replace(batch, score=score).to("meta")
    assert moved.mel.device.type == moved.score.frame_pitch.device.type == "meta"
    assert moved.ids == batch.ids


# ---- scores


SCORE = {
    "pitch": [60, 60, 62],
    "onset": [0.0, 0.1, 0.5],
    "offset": [0.1, 0.5, 1.0],
    "position": [0, 1, 0],
    "slur": [0, 0, 1],
    "notes": [[0.032, 0.5, 60], [0.5, 0.96, 62]],
}


def test_scores_are_laid_out_per_symbol_and_per_frame() -> None:
    score = collate_scores([None, SCORE], 5, 70, 0.016)
    assert score.pitch.tolist() == [[0] * 5, [60, 60, 62, 0, 0]]
    assert torch.allclose(score.duration[1], torch.tensor([0.1, 0.4, 0.5, 0, 0]))
    assert torch.allclose(score.interval[1, 2], torch.tensor([0.5, 1.0]))
    assert not score.interval[0].any() and not score.frame_pitch[0].any()
    frames = score.frame_pitch[1].tolist()
    assert frames == [0, 0] + [60] * 30 + [62] * 28 + [0] * 10
    position = score.frame_position[1]
    assert float(position[2]) == pytest.approx(0.0, abs=1e-6)
    assert float(position[31]) == pytest.approx((0.496 - 0.032) / 0.468, abs=1e-5)
    assert (position >= 0).all() and (position < 1).all()
    assert (position[2:32].diff() > 0).all()


def test_batches_without_any_score_have_none_and_one_item_can_be_taken_out() -> None:
    assert collate_scores([None, None], 5, 10, 0.016) is None
    score = collate_scores([SCORE, SCORE], 6, 80, 0.016).select(1, 3, 60)
    assert score.pitch.shape == (1, 3) and score.interval.shape == (1, 3, 2)
    assert score.frame_pitch.shape == (1, 60)


def test_scores_in_an_index_reach_the_batch(tmp_path: Path) -> None:
    directory = write_features(tmp_path / "made", 3)
    index = json.loads((directory / "index.json").read_text())
    index["items"][0].update(symbols=["HH", "AH0", "L"], score=SCORE)
    write_json(directory / "index.json", index)
    batches = TextMelBatches(FeatureStore(directory), "train", TRAINING)
    batch = batches.dataset.collate([batches.dataset[1], batches.dataset[0]])
    assert batch.score.pitch[1, :3].tolist() == [60, 60, 62]
    assert batch.score.frame_pitch.shape == batch.mel.shape[:2]
    assert not batch.score.pitch[0].any()


# ---- the store


def test_another_audio_section_is_refused_by_name(store: FeatureStore) -> None:
    store.check_audio(Audio())
    with pytest.raises(ValueError, match=r"audio\.n_mels: prepared with 80, asked for 40"):
        store.check_audio(Audio(n_mels=40))


def test_an_empty_split_and_a_missing_array_say_what_to_do(tmp_path: Path) -> None:
    store = FeatureStore(write_features(tmp_path / "made", 2))
    with pytest.raises(ValueError, match="larger --validation-share"):
        store.items("validation")
    (store.directory / "mel" / "0000.npy").unlink()
    with pytest.raises(ValueError, match=r"prepare_data\.py check made"):
        store.array("mel", "0000")


def test_what_a_checkpoint_carries_is_plain(store: FeatureStore) -> None:
    carried = store.for_checkpoint()
    assert set(carried) >= {"symbols", "statistics", "corpus"}
    assert json.loads(json.dumps(carried)) == carried


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="needs /proc to measure memory")
def test_memory_does_not_grow_with_what_was_read(tmp_path: Path) -> None:
    directory = write_features(tmp_path / "made", 3)
    index = json.loads((directory / "index.json").read_text())
    num_frames, copies = 20_000, 6  # 20 MB of linear each, 120 MB in all
    values = np.zeros((num_frames, 513), dtype=np.float16)
    for number in range(copies):
        np.save(directory / "linear" / f"{number:04d}.npy", values)
        np.save(directory / "mel" / f"{number:04d}.npy", values[:, :80])
    item = index["items"][0]
    index["items"] = [
        {**item, "id": f"{number:04d}", "num_frames": num_frames} for number in range(copies)
    ]
    write_json(directory / "index.json", index)
    batches = MelLinearBatches(FeatureStore(directory), "train", SEGMENTS, prefetch=0)()
    next(batches)
    before, files = resident_bytes(), len(os.listdir("/proc/self/fd"))
    for _ in itertools.islice(batches, 400):
        pass
    assert len(os.listdir("/proc/self/fd")) <= files
    assert resident_bytes() - before < 40e6


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# ---- prefetching


def test_prefetching_changes_nothing_and_works_ahead() -> None:
    assert list(prefetched(range(50), 3)) == list(range(50)) == list(prefetched(range(50), 0))
    made = []
    source = (made.append(k) or k for k in range(100))
    ahead = prefetched(source, 4)
    assert next(ahead) == 0
    deadline = time.monotonic() + 5
    while len(made) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert 5 <= len(made) <= 7
    ahead.close()


def test_an_error_of_the_source_arrives_at_its_place() -> None:
    def source():
        yield 1
        raise ValueError("item 17 is damaged")

    values = prefetched(source(), 2)
    assert next(values) == 1
    with pytest.raises(ValueError, match="item 17"):
        next(values)


def test_leaving_the_iteration_ends_the_thread() -> None:
    values = prefetched(itertools.count(), 2)
    next(values)
    values.close()
    deadline = time.monotonic() + 5
    while any(t.name == "prefetch" for t in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(thread.name == "prefetch" for thread in threading.enumerate())


def test_values_are_spread_evenly() -> None:
    assert evenly_spaced(list(range(10)), 2) == [2, 7]
    assert evenly_spaced([1, 2, 3], 9) == [1, 2, 3]
    assert evenly_spaced([4, 5, 6], 1) == [5]
