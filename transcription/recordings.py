"""Recorded singing to phrases with scores and phoneme times, in the form of a songbook's.

Every phrase is compared with what it is said to be, and left out by name where it would teach
something wrong: other notes, other words, a clipped or noisy recording.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from corpora.cache import fingerprint, run_parallel
from corpora.quality import recording_fault, truncation_fault
from corpora.recordings import Recording
from corpora.songbook import (
    LONGEST_PHRASE,
    Rendering,
    phrase_path,
    syllable_records,
    symbol_times,
    write_items,
)
from corpora.sung_takes import LEVEL_BLOCK, PEAK, VOCAL_LEVEL, SungArrangement
from music.inputs import TAIL_SECONDS, breaths, phrase_inputs
from music.midi import write_midi
from text.frontend import Pronouncer
from transcription.contours import pitch_curve
from transcription.forced_alignment import ALIGNED
from transcription.sung_recording import (
    LEAST_IN_TUNE,
    Heard,
    Sung,
    pitch_deviations,
    share_in_tune,
    what_is_sung,
)
from transcription.transcribe import load_transcriber
from utils.audio import active_level, convert, levelled, read_audio
from utils.files import UNREADABLE, sha256_of, write_json
from utils.metrics import f0_track

if TYPE_CHECKING:
    from hyperparams import Audio
    from transcription.network import TranscriberNet
    from utils.loading import Loaded

VERSION = 2  # raised when the same recordings and settings give other phrases
LEAST_WORDS = 0.5  # of a phrase's words that are recognised where they were placed
LEAST_VOICED = 0.3  # of the frames in a phrase's notes that have a pitch
LEAST_SNR = 15.0  # dB of the voice over what is heard in its rests
REST_SECONDS = 0.5  # s between phonemes from which a rest is looked at for noise, without its edges
EDGE_SECONDS = 0.15  # s
LEAD_SECONDS = 0.05  # s kept before the first phoneme of a phrase


@dataclass(frozen=True)
class RecordingTask:
    """One recording on its way to a worker."""

    id: str  # of the recording as a song: its phrases are called ID.NUMBER
    recording: Recording
    directory: Path
    audio: Audio
    transcriber: Path
    lexicon: Path | None


def prepare_recordings(
    recordings: Sequence[Recording],
    directory: Path,
    audio: Audio,
    transcriber: Path,
    suffix: str = "",
    lexicon: Path | None = None,
    workers: int = 0,
) -> list[Rendering]:
    """Cut recordings into phrases below `directory`, keeping what an earlier build has made.

    suffix: added to the ids of the recordings; see corpora.records.TAKE_MARK.
    """
    tasks = [
        RecordingTask(r.id + suffix, r, directory, audio, transcriber, lexicon) for r in recordings
    ]
    described = f"listening to {directory.name}"
    return list(run_parallel(prepare_one, tasks, workers, described, chunk=1))


@cache  # a process loads it once, when the first recording needs it
def _listener(
    path: Path, changed: int, lexicon: Path | None
) -> tuple[Loaded[TranscriberNet], Pronouncer]:
    return load_transcriber(path, torch.device("cpu")), Pronouncer(lexicon)


def prepare_one(task: RecordingTask) -> Rendering:
    """Prepare a recording; what faults it has are said in its place."""
    try:
        mark = _mark(task)
        if (record := _finished(task, mark)) is not None:
            return Rendering(task.id, record, None, True)
        changed = task.transcriber.stat().st_mtime_ns
        listener = _listener(task.transcriber, changed, task.lexicon)
        record = prepare_recording(task, mark, *listener)
        return Rendering(task.id, record, None, False)
    except (OSError, ValueError) as error:
        return Rendering(task.id, None, str(error), False)
    except UNREADABLE as error:  # one bad file never ends a build
        return Rendering(task.id, None, f"{task.recording.wav_path.name}: {error!r}", False)


def _mark(task: RecordingTask) -> str:
    """Return the fingerprint of all that a recording's phrases depend on."""
    others = [path for path in (task.transcriber, task.lexicon) if path is not None]
    sources = [sha256_of(path) for path in (*task.recording.paths, *others)]
    return fingerprint(VERSION, sources, dataclasses.asdict(task.audio), task.recording.voice)


def _record_path(task: RecordingTask) -> Path:
    return task.directory / "songs" / task.id / "song.json"


def _finished(task: RecordingTask, mark: str) -> dict[str, Any] | None:
    """Return the record of an earlier build when it is complete and of the same origin."""
    try:
        record = json.loads(_record_path(task).read_text(encoding="utf-8"))
        files = [phrase_path(task.directory, phrase["id"]) for phrase in record["phrases"]]
        return record if record["fingerprint"] == mark and all(f.is_file() for f in files) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there yet, or written by another version


def prepare_recording(
    task: RecordingTask, mark: str, loaded: Loaded[TranscriberNet], pronouncer: Pronouncer
) -> dict[str, Any]:
    """Cut one recording into phrases and return its record; song.json is written last.

    Raises ValueError for a recording that is not usable, or is not what its files say.
    """
    heard = _listen(task, loaded)
    sung = what_is_sung(task.recording, heard, pronouncer)
    level = active_level(heard.wav, round(LEVEL_BLOCK * heard.audio.sample_rate))
    snr = _over_noise(heard, sung, level)
    deviations = pitch_deviations(heard, sung.score)
    report = {
        "voice": task.recording.voice,
        "seconds": round(heard.seconds, 2),
        "sources": sung.sources,
        "pitch": share_in_tune(deviations),
        "words": round(sung.path.aligned, 3),
        "level": round(level, 1),
        "over_noise": None if snr is None else round(snr, 1),
        "formants": sung.path.warp,
    }
    if fault := _recording_fault(report):
        raise ValueError(fault)
    block = round(LEVEL_BLOCK * heard.audio.sample_rate)
    wav = levelled(heard.wav, VOCAL_LEVEL, block, PEAK)
    curve = pitch_curve(heard.wav, heard.audio.sample_rate, sung.score.notes)
    phrases, left_out = _phrases(task, wav, sung, deviations, curve)
    inputs = phrase_inputs(sung.score, 0.0, max(heard.seconds, sung.score.duration))
    record = {
        "id": task.id,
        "fingerprint": mark,
        "voice": task.recording.voice,
        "sample_rate": heard.audio.sample_rate,
        "num_samples": len(heard.wav),
        "symbols": list(inputs.symbols),
        "score": inputs.to_dict(),
        "times": symbol_times(sung.score, sung.times, 0.0, heard.seconds),
        "syllables": syllable_records(sung.score),
        "phrases": phrases,
        "guessed": list(sung.guessed),
        "remarks": sung.remarks,
        "report": report,
        "left_out": left_out,
    }
    path = _record_path(task)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_midi(sung.score, path.with_name("heard.mid"))
    write_json(path, record)
    return record


def _listen(task: RecordingTask, loaded: Loaded[TranscriberNet]) -> Heard:
    """Read a recording; ValueError for one that is silent, clipped, cut off or too short."""
    path, audio = task.recording.wav_path, task.audio
    wav, file_rate = read_audio(path)
    num_frames = 1 + wav.shape[1] * audio.sample_rate // file_rate // audio.hop_length
    fault = truncation_fault(path, wav.shape[1]) or recording_fault(wav, num_frames)
    if fault:
        raise ValueError(f"{path.name}: {fault}")
    mono = convert(wav, file_rate, audio.sample_rate)[0].float()
    f0 = f0_track(mono, audio.sample_rate, audio.hop_length).numpy()
    return Heard(mono, audio, f0, loaded)


# -- is it what it is said to be? ----------------------------------------------------------------


def _over_noise(heard: Heard, sung: Sung, level: float) -> float | None:
    """Return the dB by which a voice at `level` dBFS is over its rests; None without rests."""
    spans = [span for of_syllable in sung.times for span in of_syllable]
    edges = [0.0, *(x for span in sorted(spans) for x in span), heard.seconds]
    parts = []
    latest = 0.0
    for end, following in zip(edges[::2], edges[1::2], strict=True):
        latest = max(latest, end)
        if following - latest >= REST_SECONDS:
            first, last = latest + EDGE_SECONDS, following - EDGE_SECONDS
            rate = heard.audio.sample_rate
            parts.append(heard.wav[round(first * rate) : round(last * rate)])
    if not parts:
        return None
    hop = heard.audio.hop_length
    power = torch.cat([p[: len(p) // hop * hop].view(-1, hop).square().mean(1) for p in parts])
    return level - 10 * float(np.log10(max(float(power.median()), 1e-12)))


def _recording_fault(report: dict[str, Any]) -> str | None:
    """Say why a whole recording is left out, or None."""
    if report["words"] < LEAST_WORDS:
        return (
            f"{report['words']:.0%} of its words are recognised where they were placed, expected "
            f"{LEAST_WORDS:.0%}: is {report['sources']['words']} what is sung?"
        )
    if report["pitch"] < LEAST_IN_TUNE:
        return (
            f"{report['pitch']:.0%} of its voiced frames are within 50 cents of the notes of "
            f"{report['sources']['notes']}, expected {LEAST_IN_TUNE:.0%}"
        )
    if report["over_noise"] is not None and report["over_noise"] < LEAST_SNR:
        return (
            f"the voice is {report['over_noise']:.0f} dB over what is heard in its rests, expected "
            f"{LEAST_SNR:.0f}: noise, or an accompaniment (separate it first)"
        )
    return None


def _phrases(
    task: RecordingTask, wav: Tensor, sung: Sung, deviations: np.ndarray, curve: np.ndarray
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Cut a recording at its rests; returns the phrases that are usable, and why others are not.

    curve: F0 (T,) in Hz of the recording at FRAME_RATE.
    """
    cut = breaths(sung.score)
    rest = iter(sung.times)
    sounding = [[next(rest) for _ in phrase.syllables] for phrase in cut]
    spans = []
    for phrase, times in zip(cut, sounding, strict=True):
        onset = min(phrase.syllables[0].onset, times[0][0][0]) - LEAD_SECONDS
        offset = max(phrase.duration, times[-1][-1][1]) + TAIL_SECONDS
        spans.append((max(0.0, onset), offset))
    place = task.id, task.directory, task.audio.sample_rate
    voice = SungArrangement(wav, wav, spans, sounding, [(0.0, curve)] * len(cut))
    records = write_items(*place, cut, voice, set(sung.guessed))
    kept, left_out = [], []
    words = _word_places(sung)
    for record in records:
        start, end = record["start"], record["end"]
        inside = [sure for time, sure in words if start <= time < end]
        fault = _phrase_fault(record, deviations, inside, task.audio.frame_rate)
        if fault is None:
            kept.append(record)
        else:
            left_out.append({"id": record["id"], "reason": fault})
            phrase_path(task.directory, record["id"]).unlink()
    whole = sum(len(record["text"].split()) for record in records)
    if whole < (count := sum(1 for _ in sung.score.words())):
        reason = f"{count - whole} words in phrases of more than {LONGEST_PHRASE:.0f} s"
        left_out.append({"id": task.id, "reason": reason})
    return kept, left_out


def _word_places(sung: Sung) -> list[tuple[float, float]]:
    """Return onset and pronunciation of each word."""
    onsets = [t[0][0] for s, t in zip(sung.score.syllables, sung.times, strict=True)
              if s.starts_word]  # fmt: skip
    return list(zip(onsets, sung.path.pronunciation.tolist(), strict=True))


def _phrase_fault(
    record: dict[str, Any], deviations: np.ndarray, words: Sequence[float], frame_rate: float
) -> str | None:
    """Say why a phrase is left out, or None."""
    frames = slice(round(record["start"] * frame_rate), round(record["end"] * frame_rate))
    notes = deviations[frames][~np.isnan(deviations[frames])]
    voiced = float(np.isfinite(notes).mean()) if len(notes) else 0.0
    if voiced < LEAST_VOICED:
        return f"{voiced:.0%} of its notes' frames have a pitch, expected {LEAST_VOICED:.0%}"
    if (pitch := share_in_tune(notes)) < LEAST_IN_TUNE:
        return f"{pitch:.0%} of its voiced frames within 50 cents, expected {LEAST_IN_TUNE:.0%}"
    aligned = float(np.mean(np.array(words) >= ALIGNED)) if words else 0.0
    if aligned < LEAST_WORDS:
        return f"{aligned:.0%} of its words recognised in their places, expected {LEAST_WORDS:.0%}"
    return None
