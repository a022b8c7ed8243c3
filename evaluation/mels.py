"""What does the inpainter on mels sing without words? Gaps, continuations, accompaniments alone.

Parts of held-out vocals are made anew from what is around them, with their notes and phonemes (as
where a take is sung again) and without, beside silence, another song's vocal, and straight lines
between the frames at the edges. Accompaniments alone get whole vocals, whose notes a transcriber
hears. The shuffle control measures the loss with another song's accompaniment.
Shapes: B windows, S samples, T frames, M mels.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from composer.harmony import Harmony, analyse
from corpora.records import song_of
from evaluation import statistics, table
from evaluation.phrase_inpainter import open_mel_inpainter
from evaluation.report import write_result
from evaluation.score_metrics import harmony_fit
from evaluation.shuffle import shuffle_control
from evaluation.table import Metric, Records, counted
from evaluation.voice import without_nan
from hyperparams import Hyperparams
from inpainter.diffusion import ACCOMPANIMENT, VOCAL
from music.inputs import ScoreTracks
from preprocess import MelBatches, StemBatches, StemStore
from singing.mels import MelTracks, Range
from singing.request import NONE, MelodyRequest, SongFiles, SongRequest
from singing.song import SongAudio
from singing.wordless import WordlessSinger
from text.frontend import Pronouncer
from training.batching import evenly_spaced
from transcription.transcribe import load_transcriber, transcribe
from utils import config
from utils.checkpoint import resolve
from utils.files import Journal
from utils.flags import start_on
from utils.loading import check_spectrograms, describe_weights, load_network
from utils.metrics import f0_track, frame_difference_ratio, frame_distance
from utils.sound_files import AudioInfo

if TYPE_CHECKING:
    from preprocess import StemBatch
    from singing.mels import MelInpainter
    from utils.loading import Loaded

GAP_SECONDS, CONTINUATION_SECONDS = 2.0, 3.0
EDGE_SECONDS = 0.4  # s on either side of an edge whose pitches are compared
PARTS = ("gap", "continuation")
SOUNDING = 4.6  # nepers over silence, 40 dB, of the loudest band of a frame that sounds
SOUND_SECONDS = 1.0  # s around a part that get a sound with it
PART_ROWS = {
    "alone": "from what is around it and the accompaniment",
    "told": "and its notes and phonemes",
    "line": "straight lines between the frames at its edges",
    "other": "another song's vocal",
    "silence": "silence",
    "true": "the truth, same path",
}
PART_METRICS = {
    "distance": Metric("mel distance", "sd"),
    "sharpness": Metric("frame difference ratio"),
    "jump": Metric("pitch jump at the edges, median", "semitones", is_median=True),
    "voiced_difference": Metric("share of voiced frames, difference", "%", 100, is_absolute=True),
}
SONG_ROWS = {
    "composed": "notes composed for it, the inpainter's syllable",
    "notes": "the same notes alone",
    "own": "nothing but the accompaniment",
    "true": "the true vocal, mel → PostNet → Griffin-Lim",
}
SONG_METRICS = {
    "chord_tones": Metric("heard notes on beats that are tones of the chord", "%", 100),
    "chord_tones_shuffled": Metric("  under other songs' harmonies", "%", 100),
    "notes_per_second": Metric("notes heard", "/s"),
    "voiced": Metric("voiced frames", "%", 100),
    "singing": Metric("frames that the transcriber hears as sung", "%", 100),
}


def evaluate_mels(arguments: Namespace) -> None:
    """Judge an inpainter on mels without words; print tables, write mels.json."""
    device, out, seed = start_on(arguments.device), arguments.out, arguments.seed
    mels = open_mel_inpainter(arguments, device)
    postnet = load_network(resolve(arguments.postnet, "postnet"), "postnet", device)
    check_spectrograms(postnet, mels.hyperparams, mels.loaded.path)
    transcriber = load_transcriber(resolve(arguments.transcriber, "transcriber"), device)
    store = StemStore(arguments.feature_dir / arguments.data)
    store.check_audio(mels.hyperparams.audio)
    settings: dict[str, Any] = {
        **{name: getattr(arguments, name) for name in ("data", "split", "seed")},
        "mel_inpainter": describe_weights(mels.loaded),
        "postnet": describe_weights(postnet),
        "transcriber": describe_weights(transcriber),
        "mel_inpainting": asdict(mels.config),
    }
    print(f"{mels.loaded.path} (step {mels.loaded.step}), {arguments.data}/{arguments.split}")
    result: dict[str, Any] = {}
    training = replace(mels.hyperparams.inpainter_training, batch_size=4)
    windows = StemBatches(store, arguments.split, training, mels.hyperparams.window, align=mels.hop)
    if arguments.windows:
        batches = list(windows.head(arguments.windows))  # of four: many have rests in the parts
        judge = PartJudge(mels, postnet, store, batches, seed, arguments.windows)
        result["parts"] = print_parts(judge, settings, out)
    if arguments.songs:
        songs = SongsJudge(mels, postnet, transcriber, store, arguments)
        result["songs"] = print_whole_songs(songs, settings, out)
    if arguments.control_windows:
        signals = MelBatches(windows, mels.signal)
        controlled = list(signals.head(-(-arguments.control_windows // 4)))
        tests, lines = shuffle_control(mels.loaded, controlled, seed, None, settings, out)
        print("\n".join(lines))
        result["shuffle_control"] = tests
    write_result(out / "mels.json", settings | result)


# ---------------------------------------------------------------------------- parts of vocals


@dataclass(frozen=True)
class StemWindow:
    """A window of a song: where it is, and its stems (S,)."""

    id: str
    start: int  # sample of the song
    vocal: Tensor
    accompaniment: Tensor


class PartJudge:
    """Make parts of vocals anew, by PART_ROWS, and measure them."""

    def __init__(
        self,
        mels: MelInpainter,
        postnet: Loaded,
        store: StemStore,
        batches: Sequence[StemBatch],
        seed: int,
        count: int,
    ) -> None:
        """count: of the windows of the batches, those whose parts are sung; ValueError for none."""
        self.mels, self.seed = mels, seed
        windows = [
            StemWindow(id, int(start), wav[VOCAL], wav[ACCOMPANIMENT])
            for batch in batches
            for id, start, wav in zip(batch.ids, batch.starts, batch.wav, strict=True)
        ]
        sung = [window for window in windows if self.is_sung(window)]
        if not sung:
            raise ValueError(f"{store.directory}: nothing is sung in {len(windows)} windows' parts")
        self.windows = evenly_spaced(sung, count)
        self.singer = WordlessSinger(mels, postnet, Hyperparams(), Pronouncer())
        items = [item for item in store.index["items"] if "score" in item]
        own = {symbol: index for index, symbol in enumerate(mels.loaded.data["symbols"])}
        self.tracks = ScoreTracks(items, own) if len(items) == len(store.index["items"]) else None

    def is_sung(self, window: StemWindow) -> bool:
        """Return whether most frames of both parts sound."""
        mel = self.mels.mel_of(
            window.vocal, self.mels.hyperparams.inpainter_training.segment_frames
        )
        sounds = mel.amax(1) > self.mels.silence + SOUNDING
        return all(sounds[slice(*self.part(kind))].float().mean() > 0.5 for kind in PARTS)

    def part(self, kind: str) -> Range:
        """Return the frames of a window that are made anew."""
        frames = self.mels.hyperparams.inpainter_training.segment_frames
        rate = self.mels.hyperparams.audio.frame_rate
        if kind == "gap":
            length = min(round(GAP_SECONDS * rate), frames // 2)
            return (frames - length) // 2, (frames + length) // 2
        return frames - min(round(CONTINUATION_SECONDS * rate), frames // 2), frames

    def judge(self, key: str) -> dict[str, Any]:
        """Measure `KIND/NUMBER`: a window's gap or continuation."""
        kind, _, number = key.partition("/")
        window, (start, stop) = self.windows[int(number)], self.part(kind)
        made = self.made(window, int(number), (start, stop))
        standard, true = self.mels.maker.standardise.cpu(), made["true"]
        rows = {}
        for row, mel in made.items():
            mels = [standard(part[start:stop]).numpy() for part in (mel, true)]
            rows[row] = without_nan(
                {
                    "distance": frame_distance(*mels),
                    "sharpness": frame_difference_ratio(*mels),
                    **self.pitch(mel, true, (start, stop)),
                }
            )
        return {"song": song_of(window.id), "rows": rows}

    def made(self, window: StemWindow, number: int, part: Range) -> dict[str, Tensor]:
        """Return the window's log mel (T, M) by each row."""
        mels, (start, stop) = self.mels, part
        frames = mels.hyperparams.inpainter_training.segment_frames
        true = mels.mel_of(window.vocal, frames)
        others = [w for w in self.windows if song_of(w.id) != song_of(window.id)]
        rows: dict[str, Tensor] = {}

        def inpainted(tracks: MelTracks) -> Tensor:
            stems = (window.accompaniment, window.vocal)
            return mels(tracks, frames, *stems, [part], self.seed + number, quiet=True).mel

        def replaced(middle: Tensor) -> Tensor:
            return torch.cat([true[:start], middle, true[stop:]])

        rows["alone"] = inpainted(MelTracks())
        if self.tracks is not None:
            audio = mels.hyperparams.audio
            begin = window.start / audio.sample_rate
            symbols, pitch = self.tracks.window(window.id, begin, 1 / audio.frame_rate, frames)
            rows["told"] = inpainted(MelTracks(None, symbols, pitch))
        before = true[start - 1]
        behind = true[stop] if stop < frames else before
        share = torch.linspace(0, 1, stop - start + 2)[1:-1, None]
        rows["line"] = replaced(torch.lerp(before, behind, share))
        if others:
            rows["other"] = replaced(
                mels.mel_of(others[number % len(others)].vocal, frames)[start:stop]
            )
        rows["silence"] = replaced(torch.full((stop - start, mels.bands), mels.silence))
        return {**rows, "true": true}

    def pitch(self, mel: Tensor, true: Tensor, part: Range) -> dict[str, Any]:
        """Measure pitch jumps at the edges of a part, and how much more of it is voiced."""
        audio = self.mels.hyperparams.audio
        around = round(SOUND_SECONDS * audio.frame_rate)
        low, high = max(0, part[0] - around), min(len(mel), part[1] + around)
        tracks = []
        for rendered in (mel, true):
            device = next(self.singer.postnet.network.parameters()).device
            wav = self.singer.piece(rendered[low:high].to(device), low, (), self.seed).cpu()
            tracks.append(f0_track(wav, audio.sample_rate, audio.hop_length).numpy())
        edges = [part[0] - low] + ([part[1] - low] if part[1] < len(mel) else [])
        reach = round(EDGE_SECONDS * audio.frame_rate)
        jumps = [jump for edge in edges if (jump := pitch_jump(tracks[0], edge, reach)) is not None]
        inside = slice(part[0] - low, part[1] - low)
        voiced = [float((track[inside] > 0).mean()) for track in tracks]
        return {"jump": jumps, "voiced_difference": voiced[0] - voiced[1]}


def pitch_jump(f0: np.ndarray, edge: int, reach: int) -> float | None:
    """Return the semitones between the last pitch before an edge and the first behind it.

    f0 (T,) in Hz, 0 = none. None where one side has none within `reach` frames.
    """
    before = f0[max(0, edge - reach) : edge]
    behind = f0[edge : edge + reach]
    before, behind = before[before > 0], behind[behind > 0]
    if not len(before) or not len(behind):
        return None
    return float(abs(12 * np.log2(behind[:3].mean() / before[-3:].mean())))


def print_parts(judge: PartJudge, settings: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Print a table and the tests of each kind of part; return their numbers."""
    result = {}
    windows = [[window.id, window.start] for window in judge.windows]
    for kind in PARTS:
        journal = Journal(out / f"mels-{kind}.jsonl", {**settings, "windows": windows})
        ids = [f"{kind}/{number}" for number in range(len(windows))]
        records = journal.complete(ids, judge.judge, "window")
        start, stop = judge.part(kind)
        seconds = (stop - start) / judge.mels.hyperparams.audio.frame_rate
        print(f"{kind}s of {seconds:.1f} s in {counted(len(records), 'window')}")
        metrics = table.print_rows(records, list(PART_ROWS), "true", PART_METRICS)
        result[kind] = {"metrics": metrics, "tests": table.print_tests(part_tests(records))}
    return result


def part_tests(
    records: Records, rows: Sequence[str] = ("alone", "told")
) -> dict[str, statistics.PairedTest]:
    """Test the mel distance of each floor against that of the rows that are made, over songs."""
    songs = [record["song"] for record in records]

    def column(row: str) -> list[float]:
        return [record["rows"].get(row, {}).get("distance", float("nan")) for record in records]

    return {
        f"mel distance, {floor} - {row}": statistics.paired_test(column(floor), column(row), songs)
        for row in rows
        for floor in ("line", "other", "silence")
        if any(row in record["rows"] and floor in record["rows"] for record in records)
    }


# ---------------------------------------------------------------------------- whole vocals


class SongsJudge:
    """Sing to accompaniments alone, by SONG_ROWS, and measure what is heard."""

    def __init__(
        self,
        mels: MelInpainter,
        postnet: Loaded,
        transcriber: Loaded,
        store: StemStore,
        arguments: Namespace,
    ) -> None:
        """arguments: seed, split, songs, seconds. ValueError for fewer than two songs."""
        self.mels, self.postnet, self.transcriber = mels, postnet, transcriber
        self.store, self.seed, self.out = store, arguments.seed, arguments.out
        by_song = {song_of(item["id"]): item for item in store.items(arguments.split)}
        self.items = evenly_spaced(list(by_song.values()), arguments.songs)
        if len(self.items) < 2:
            raise ValueError(f"{store.directory}: one song alone has no other's harmony: --songs 2")
        self.rate = mels.hyperparams.audio.sample_rate
        self.samples = arguments.seconds * self.rate
        self.harmonies: dict[str, Harmony] = {}

    def stems(self, item: Mapping[str, Any]) -> Tensor:
        """Read the beginning of a song, (2, S)."""
        length = min(self.samples, item["num_samples"])
        return self.store.window(item["id"], 0, length // self.mels.hop * self.mels.hop)

    def harmony(self, item: Mapping[str, Any]) -> Harmony:
        """Analyse an accompaniment, once."""
        id = item["id"]
        if id not in self.harmonies:
            self.harmonies[id] = analyse(self.stems(item)[ACCOMPANIMENT].numpy(), self.rate)
        return self.harmonies[id]

    def judge(self, id: str) -> dict[str, Any]:
        """Measure the vocals of a song."""
        item = next(item for item in self.items if item["id"] == id)
        stems, harmony = self.stems(item), self.harmony(item)
        others = [self.harmony(other) for other in self.items if other["id"] != id]
        rows = {}
        for row in SONG_ROWS:
            wav = self.sung(row, stems)
            heard = transcribe(self.transcriber, wav, self.rate)
            fit = harmony_fit(heard.notes, harmony, others)
            f0 = f0_track(wav, self.rate, self.mels.hop)
            rows[row] = without_nan(
                {
                    "chord_tones": fit["chord_tones"],
                    "chord_tones_shuffled": fit["chord_tones_shuffled"],
                    "notes_per_second": len(heard.notes) * self.rate / len(wav),
                    "voiced": float((f0 > 0).float().mean()),
                    "singing": float((heard.note[:, 2] > 0.5).float().mean()),
                }
            )
        return {"song": song_of(id), "rows": rows}

    def sung(self, row: str, stems: Tensor) -> Tensor:
        """Make a vocal (S,) for the accompaniment of stems (2, S) by the chain's own way."""
        knobs = config.build(
            "base",
            None,
            ["synthesis.vocalise=none"] if row == "notes" else [],
            config.presets(),
        )
        singer = WordlessSinger(self.mels, self.postnet, knobs, Pronouncer(), quiet=True)
        frames = stems.shape[1] // self.mels.hop
        if row == "true":
            mel = self.mels.mel_of(stems[VOCAL], frames)
            return singer.sound(mel, [(0, frames)], (), self.seed)
        backing = stems[ACCOMPANIMENT]
        length, seconds = len(backing), len(backing) / self.rate
        song = SongAudio(
            backing,
            torch.zeros_like(backing),
            AudioInfo(self.rate, 1, length, ()),
            None,
            ((0, length),),
            ((0.0, seconds),),
            ((0, length),),
            1.0,
            (),
        )
        request = SongRequest(
            self.out,
            Path(),
            self.postnet.path,
            files=SongFiles(Path()),
            melody=MelodyRequest(NONE if row == "own" else None),
            mel_inpainter=self.mels.loaded.path,
            seed=self.seed,
        )
        return singer(request, song)[0].wav


def print_whole_songs(judge: SongsJudge, settings: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Print the table and the controls of whole vocals; return their numbers."""
    ids = [item["id"] for item in judge.items]
    journal = Journal(out / "mels-songs.jsonl", {**settings, "songs": ids, "s": judge.samples})
    records = journal.complete(ids, judge.judge, "song")
    print(
        f"{counted(len(records), 'accompaniment')} alone, {judge.samples / judge.rate:.0f} s each"
    )
    metrics = table.print_rows(records, list(SONG_ROWS), "true", SONG_METRICS)
    controls = {row: table.shuffle_controls(records, row).get("chord_tones") for row in SONG_ROWS}
    tests = {row: test for row, test in controls.items() if test is not None}
    for row, test in tests.items():
        print(f"chord tones, {row}: {test} own - other")
    return {
        "metrics": metrics,
        "chord_tones": {row: test.as_dict() for row, test in tests.items()},
        "songs": records,
    }
