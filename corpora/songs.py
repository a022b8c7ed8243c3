"""Pairs of stems to feature/NAME: stems/ID.npy (2, S) and index.json.

Channel 0 is the vocal, channel 1 the accompaniment, 16-bit integers of full scale 32768, each
channel contiguous: a window at any place is two reads through a memory map. One gain per song,
from the loudness of the mix, so that songs are alike and the balance within a song stays.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from corpora.cache import (
    BuildReport,
    Outcome,
    exclusive,
    fingerprint,
    kept_record,
    open_cache,
    run_parallel,
    save_array,
    strays,
    write_index,
)
from corpora.quality import broken_samples, clipping, silence, truncation_fault
from corpora.records import (
    FULL_SCALE,
    INDEX_VERSION,
    LOUDNESS,
    ArrayPair,
    Rejection,
    Split,
    StemPair,
    read_index,
    strict_message,
)
from utils.audio import Features, convert, cpu_features, loudness, read_audio
from utils.files import UNREADABLE, Journal, sha256_of

if TYPE_CHECKING:
    from hyperparams import Audio


KIND = "stems"
ARRAYS = ("stems",)
ROLES = ("vocal", "accompaniment")  # the channels
MIN_SECONDS = 1.0  # a shorter song is a mistake


@dataclass(frozen=True)
class SongTask:
    """One pair on its way to a worker."""

    pair: StemPair | ArrayPair
    directory: Path
    audio: Audio
    loudness: float  # LUFS
    record: dict[str, Any] | None  # of an earlier build


def make_song(task: SongTask) -> Outcome:
    """Make the array of one song, or keep the one that an earlier build left intact."""
    pair, audio = task.pair, task.audio
    try:
        mark = fingerprint(INDEX_VERSION, KIND, _sources(pair), audio.sample_rate, task.loudness)
        if record := kept_record(task.record, mark, task.directory, pair.id):
            return Outcome(pair.id, None, record, None, True)
        stems, remarks, conversions = _read_pair(pair, audio)
    except (OSError, ValueError) as error:
        return Outcome(pair.id, None, None, str(error), False)
    except UNREADABLE as error:  # one bad file never ends a build
        return Outcome(pair.id, None, None, f"not readable: {error!r}", False)
    before = loudness(stems.sum(dim=0), audio.sample_rate)
    remarks += pair_remarks(stems[0], stems[1], cpu_features(audio), audio.sample_rate)
    gain = 10 ** ((task.loudness - before) / 20) if math.isfinite(before) else 1.0
    gain = min(gain, 1.0 / stems.abs().max().item())  # a soft song with a loud moment stays softer
    integers = (stems.double() * gain * FULL_SCALE).round().clamp(-FULL_SCALE, FULL_SCALE - 1)
    array = integers.to(torch.int16).numpy()
    power = np.square(array / FULL_SCALE).mean(axis=1)  # float64
    record = {
        "id": pair.id,
        "fingerprint": mark,
        "num_samples": array.shape[1],
        "gain": 20 * math.log10(gain),  # dB
        "loudness": before + 20 * math.log10(gain) if math.isfinite(before) else None,  # LUFS
        "power": dict(zip(ROLES, power.tolist(), strict=True)),
        "sha256": {"stems": save_array(task.directory / "stems" / f"{pair.id}.npy", array)},
        "remarks": remarks,
        "conversions": conversions,
    }
    return Outcome(pair.id, None, record, None, False)


def _sources(pair: StemPair | ArrayPair) -> list[str]:
    """Return the checksums of all that a pair is made of."""
    if isinstance(pair, ArrayPair):
        arrays = (pair.vocal, pair.accompaniment)
        contents = [hashlib.sha256(np.ascontiguousarray(a).data).hexdigest() for a in arrays]
        return [*contents, *(str(a.dtype) for a in arrays), str(pair.sample_rate)]
    return [sha256_of(path) for path in (pair.vocal_path, *pair.accompaniment_paths)]


def _parts(pair: StemPair | ArrayPair, channel: int) -> Iterator[tuple[str, Tensor, int]]:
    """Yield name, samples (C, S) and rate of each recording of a stem; ValueError if cut off."""
    if isinstance(pair, ArrayPair):
        samples = (pair.vocal, pair.accompaniment)[channel].astype(np.float32)  # a copy in memory
        yield pair.names[channel], torch.from_numpy(samples)[None], pair.sample_rate
        return
    for path in ((pair.vocal_path,), pair.accompaniment_paths)[channel]:
        wav, file_rate = read_audio(path)
        if fault := truncation_fault(path, wav.shape[1]):
            raise ValueError(f"{ROLES[channel]} {path.name}: {fault}")
        yield path.name, wav, file_rate


def _read_pair(pair: StemPair | ArrayPair, audio: Audio) -> tuple[Tensor, list[str], list[str]]:
    """Read (2, S) with remarks and conversions; ValueError for stems that are not usable."""
    remarks: list[str] = []
    conversions: list[str] = []
    stems = [
        _read_stem(role, _parts(pair, channel), audio.sample_rate, remarks, conversions)
        for channel, role in enumerate(ROLES)
    ]
    lengths = [len(stem) for stem in stems]
    if lengths[0] != lengths[1]:
        seconds = [length / audio.sample_rate for length in lengths]
        remarks.append(
            f"unequal lengths: vocal {seconds[0]:.3f} s, accompaniment {seconds[1]:.3f} s; the "
            "shorter one goes on in silence"
        )
    return _stack(stems), remarks, conversions


def _read_stem(
    role: str,
    recordings: Iterator[tuple[str, Tensor, int]],
    sample_rate: int,
    remarks: list[str],
    conversions: list[str],
) -> Tensor:
    """Read one stem (S,), the sum of its parts; adds to the remarks and the conversions."""
    parts = []
    for name, wav, file_rate in recordings:
        if fault := broken_samples(wav):
            raise ValueError(f"{role} {name}: {fault}")
        if clipped := clipping(wav):
            remarks.append(f"{role} {name}: {clipped}")
        part, info = convert(wav, file_rate, sample_rate)
        parts.append(part)
        conversions += info.conversions
    stem = _stack(parts).sum(dim=0)
    if len(stem) < MIN_SECONDS * sample_rate:
        raise ValueError(f"{role}: too short: {len(stem) / sample_rate:.2f} s")
    if fault := silence(stem[None]):
        raise ValueError(f"{role}: {fault}")
    return stem


def _stack(wavs: Sequence[Tensor]) -> Tensor:
    """Stack (S,) of different lengths, zeros behind the shorter ones: (C, S)."""
    longest = max(len(wav) for wav in wavs)
    return torch.stack([F.pad(wav, (0, longest - len(wav))) for wav in wavs])  # (C, S)


@exclusive
def build_songs(
    pairs: Sequence[StemPair | ArrayPair],
    directory: Path,
    corpus: str,
    audio: Audio,
    split: Split,
    workers: int,
    rejections: Sequence[Rejection] = (),
    strict: bool = False,
    target_loudness: float = LOUDNESS,
    scores: Mapping[str, dict[str, Any]] | None = None,
) -> BuildReport:
    """Build or complete feature/NAME from pairs of stems.

    scores: {id: {symbols, score}} of songs whose vocal has one, for their items of the index.
    Faulty songs are left out; remarks (lengths, lag, roles, clipping) keep the song. With `strict`
    either raises ValueError and the index is not written; so does a corpus without a usable song.
    """
    if strict and rejections:
        raise ValueError(strict_message(rejections))
    journal = open_cache(directory, KIND, ARRAYS)
    outcomes = make_all(
        pairs, directory, corpus, audio, split, workers, journal, target_loudness, scores
    )
    head = songs_head(corpus, audio, split, target_loudness)
    return finish_songs(directory, head, outcomes, journal, len(pairs), rejections, strict)


def make_all(
    pairs: Sequence[StemPair | ArrayPair],
    directory: Path,
    corpus: str,
    audio: Audio,
    split: Split,
    workers: int,
    journal: Journal,
    target_loudness: float = LOUDNESS,
    scores: Mapping[str, dict[str, Any]] | None = None,
) -> Iterator[Outcome]:
    """Make the arrays of all pairs, in their order; the journal grows song by song."""
    tasks = [
        SongTask(pair, directory, audio, target_loudness, journal.records.get(pair.id))
        for pair in pairs
    ]
    for song in run_parallel(make_song, tasks, workers, f"stems of {corpus}"):
        item = None
        if song.record is not None:
            journal.add(song.record)
            item = _item(song.record, split) | (scores or {}).get(song.id, {})
        yield dataclasses.replace(song, item=item)


def songs_head(corpus: str, audio: Audio, split: Split, target_loudness: float) -> dict[str, Any]:
    """Return the entries of an index that are known before any item is."""
    return {
        "version": INDEX_VERSION,
        "kind": KIND,
        "corpus": corpus,
        "sample_rate": audio.sample_rate,
        "audio": {"sample_rate": audio.sample_rate},  # all that these arrays depend on
        "loudness": target_loudness,
        "split": dataclasses.asdict(split),
    }


def finish_songs(
    directory: Path,
    head: dict[str, Any],
    outcomes: Iterable[Outcome],
    journal: Journal,
    num_pairs: int,
    rejections: Sequence[Rejection],
    strict: bool,
) -> BuildReport:
    """Write the index of all outcomes, in their order; see `build` for what it raises."""
    rejections, remarks = list(rejections), list[Rejection]()
    items, kept = [], 0
    for outcome in outcomes:
        if outcome.item is None:
            rejections.append(Rejection(outcome.id, outcome.fault or ""))
            continue
        remarks += outcome.remarks
        kept += outcome.kept
        items.append(outcome.item)
    if strict and (rejections or remarks):
        raise ValueError(strict_message([*rejections, *remarks]))
    if not items:
        raise ValueError(
            f"{head['corpus']}: none of {num_pairs} pairs is usable"
            + "".join(f"\n  {r.id}: {r.reason}" for r in rejections[:20])
        )
    index = {
        **head,
        "statistics": statistics(items),
        "items": items,
        "skipped": [dataclasses.asdict(rejection) for rejection in rejections],
    }
    write_index(directory, index)
    ids = {item["id"] for item in items}
    journal.keep_only(ids)
    return BuildReport.of(directory, index, ARRAYS, rejections, kept)


def songs_arrays(index: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the kinds of arrays that the items of an index have."""
    return ARRAYS


def _item(record: dict[str, Any], split: Split) -> dict[str, Any]:
    item = {name: value for name, value in record.items() if name != "fingerprint"}
    return {**item, "split": split.of(record["id"])}


def statistics(items: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the RMS of each channel, and of both, over the train split (all of it if empty)."""
    train = [item for item in items if item["split"] == "train"] or items
    total = sum(item["num_samples"] for item in train)
    power = {r: sum(i["power"][r] * i["num_samples"] for i in train) / total for r in ROLES}
    return {
        **{role: math.sqrt(value) for role, value in power.items()},
        "both": math.sqrt(sum(power.values()) / len(ROLES)),
    }


@dataclass(frozen=True)
class SongCheckTask:
    """One song of an index on its way to a worker."""

    directory: Path
    item: dict[str, Any]


def check_song(task: SongCheckTask) -> list[str]:
    """Compare the array of one song with its entry; returns the problems."""
    item = task.item
    path = task.directory / "stems" / f"{item['id']}.npy"
    name = f"{item['id']}: stems/{path.name}"
    if not path.is_file():
        return [f"{name} is missing"]
    if sha256_of(path) != item["sha256"]["stems"]:
        return [f"{name} has another checksum than when it was written"]
    array = np.load(path, mmap_mode="r")
    expected = (len(ROLES), item["num_samples"])
    if array.shape != expected or array.dtype != np.int16:
        return [f"{name} is {array.dtype} {array.shape}, expected int16 {expected}"]
    power = np.square(array / FULL_SCALE).mean(axis=1)
    if not np.allclose(power, [item["power"][role] for role in ROLES], rtol=1e-9):
        return [f"{name} has another power than the index says"]
    return []


def check_songs(directory: Path, workers: int) -> list[str]:
    """Verify files, checksums, shapes, splits and statistics; returns the problems."""
    index = read_index(directory)
    items, split = index["items"], Split(**index["split"])
    ids = [item["id"] for item in items]
    problems = [f"{id}: stands twice in the index" for id, n in Counter(ids).items() if n > 1]
    for item in items:
        if item["split"] != split.of(item["id"]):
            problems.append(f"{item['id']}: {item['split']} is not the split its id belongs to")
    tasks = [SongCheckTask(directory, item) for item in items]
    for found in run_parallel(check_song, tasks, workers, f"checking {directory.name}"):
        problems += found
    for name, value in statistics(items).items():
        if not math.isclose(value, index["statistics"][name], rel_tol=1e-9):
            problems.append(f"statistics: the RMS of {name} is not that of the train split")
    problems += [f"stems/{p.name} belongs to no item" for p in strays(directory, ARRAYS, set(ids))]
    return problems


# ---------------------------------------------------------------------------- alignment
# Measured on eight real songs (guitar against drums, bass and keys): the correlation of onsets
# within ±32 ms of zero lag is 0.82 to 1 of its maximum over ±2 s, and the maximum is 11 to 44
# standard deviations. Moved by 60 ms to 1.1 s, 45 of 48 pairs fall below 0.7; the others moved by
# whole beats. Of 56 vocals beside another song's accompaniment 54 are suspected; of the eight
# aligned pairs none. Energy below 120 Hz: 0.01 to 0.14 of the lead, 0.24 to 0.46 of the
# accompaniment.

MAX_LAG = 2.0  # s, looked at on either side
ALIGNED_LAG = 0.032  # s around zero that count as no lag: two frames
ALIGNED_RATIO = 0.7  # of the highest correlation that aligned stems reach within ALIGNED_LAG
MIN_SCORE = 5.0  # standard deviations; below it the stems share no rhythm
VERDICT_SECONDS = 10.0  # of both stems, for a verdict
TREND_SECONDS = 1.0  # slower changes than this are no onsets
ONSET_FLOOR = -7.0  # natural log of mel magnitude; onsets below it are noise
LOW_BAND = 120.0  # Hz; drums and bass live below, voices hardly
LOW_SHARE = 0.2  # of a vocal's energy below LOW_BAND that makes it suspicious


def pair_remarks(vocal: Tensor, accompaniment: Tensor, features: Features, rate: int) -> list[str]:
    """Say what speaks against (S,) and (S,) being aligned stems in these roles; mostly nothing."""
    remarks = []
    frame_rate = rate / features.hop_length
    sung = _onsets(features.mel(vocal[None])[0], frame_rate)
    played = _onsets(features.mel(accompaniment[None])[0], frame_rate)
    if len(vocal) >= VERDICT_SECONDS * rate:
        remark = lag_remark(sung, played, frame_rate)
        remarks += [remark] if remark else []
    shares = [_low_share(stem, rate) for stem in (vocal, accompaniment)]
    if shares[0] > max(LOW_SHARE, 2 * shares[1]):
        remarks.append(
            f"perhaps swapped: {shares[0]:.0%} of the vocal's energy is below {LOW_BAND:.0f} Hz, "
            f"{shares[1]:.0%} of the accompaniment's"
        )
    return remarks


def lag_remark(vocal: Tensor, accompaniment: Tensor, frame_rate: float) -> str | None:
    """Judge two onset curves (T,) by their cross-correlation.

    A lag of whole beats can escape; a vocal that enters slowly throughout can be blamed wrongly.
    """
    reach, near = round(MAX_LAG * frame_rate), round(ALIGNED_LAG * frame_rate)
    scores = _correlate(vocal, accompaniment, reach) * math.sqrt(len(vocal))
    best = scores.max().item()
    if best < MIN_SCORE:
        return f"no common rhythm ({best:.1f} of {MIN_SCORE:.0f}): stems of different songs?"
    if scores[reach - near : reach + near + 1].max().item() >= ALIGNED_RATIO * best:
        return None
    candidates = torch.nonzero(scores >= 0.9 * best)[:, 0] - reach
    lag = candidates[candidates.abs().argmin()].item() / frame_rate
    return f"perhaps misaligned: the vocal seems {abs(lag):.2f} s {'late' if lag > 0 else 'early'}"


def _onsets(mel: Tensor, frame_rate: float) -> Tensor:
    """Rise of log mel energy per frame, without its slow trend: (T, M) → (T - 1,)."""
    rise = mel.clamp(min=ONSET_FLOOR).diff(dim=0).clamp(min=0).mean(dim=1)
    size = 2 * round(TREND_SECONDS * frame_rate / 2) + 1
    trend = F.avg_pool1d(rise[None, None], size, 1, size // 2, count_include_pad=False)[0, 0]
    return rise - trend


def _correlate(first: Tensor, second: Tensor, reach: int) -> Tensor:
    """Normalised correlation at lags -reach to reach, > 0 when `first` is late: (2 reach + 1,)."""
    size = 2 * max(len(first), len(second)) + 2 * reach
    spectrum = torch.fft.rfft(first, size) * torch.fft.rfft(second, size).conj()
    correlation = torch.fft.irfft(spectrum, size)
    norm = (first.norm() * second.norm()).clamp(min=1e-12)
    return torch.cat([correlation[-reach:], correlation[: reach + 1]]) / norm


def _low_share(wav: Tensor, rate: int) -> float:
    """Share of the energy of (S,) that lies below LOW_BAND."""
    power = torch.fft.rfft(wav).abs().square()
    low = round(LOW_BAND * len(wav) / rate)
    return (power[:low].sum() / power.sum().clamp(min=1e-12)).item()
