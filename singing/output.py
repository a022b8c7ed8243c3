"""The files of a finished song: vocal, draft, mix, picture and report.

Shapes: C channels, S samples.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from inpainter.windows import seam_roughness
from music.midi import write_midi
from singing.draft import PAUSE
from singing.inpaint import Sung
from singing.mixing import Mix, mix, paste
from singing.picture import song_picture
from singing.song import Song, pad_to, write_recording
from utils import plotting
from utils.audio import read_audio, resample, to_mono, write_wav

if TYPE_CHECKING:
    from hyperparams import Hyperparams
    from music.score import Score
    from singing.draft import Draft
    from singing.voice import Line, Voice

SEAM_MARGIN = 16  # samples of the song on either side that a seam needs to be judged


def write_song(
    out: Path,
    accompaniment_path: Path,
    song: Song,
    sung: Sung,
    draft: Draft | None,
    hyperparams: Hyperparams,
    stages: Mapping[str, float],
    report: Mapping[str, Any],
) -> list[str]:
    """Write all files of a song into the folder `out`; return their names.

    stages: seconds of work so far; report: what report.json is to say besides what is measured
    here.
    """
    began = time.perf_counter()
    audio, balance = hyperparams.audio, hyperparams.inpainting.balance
    accompaniment, rate = read_audio(accompaniment_path)  # (C, S), as it is
    generated = sung.vocal / song.gain
    clipped = 0
    if song.recording is None:
        vocal = pad_to(resample(generated, audio.sample_rate, rate), accompaniment.shape[1])[None]
        mixed = mix(accompaniment, vocal, rate, balance)
        vocal = vocal * 10 ** (mixed.vocal_gain / 20)
        vocal_level = write_wav(out / "vocal.wav", vocal[0], rate)
    else:
        pasted = paste(song.recording, generated, audio.sample_rate, song.file_ranges)
        write_recording(out / "vocal.wav", pasted.recording)
        vocal, clipped, vocal_level = pasted.recording.wav(), pasted.clipped, 0.0
        mixed = mix(accompaniment, resample(vocal, song.rate, rate), rate)
    write_wav(out / "mix.wav", mixed.wav, rate)
    names = ["vocal.wav", "mix.wav"]
    if draft is not None:
        length = vocal.shape[1]
        placed = pad_to(resample(draft.wav, audio.sample_rate, song.rate), length)
        write_wav(out / "draft.wav", placed, song.rate)
        names.append("draft.wav")
    score = draft.score if draft else None
    if score is not None:
        write_midi(score, out / "topline.mid")
        names.append("topline.mid")
    write_picture(out / "song.png", song, vocal, hyperparams, score)
    stages = {**stages, "write": time.perf_counter() - began}
    seams = seam_report(to_mono(vocal), song, sung.seams, audio.sample_rate)
    text = {
        **report,
        **song_report(song, sung, mixed),
        **time_report(stages, song),
        "seams": seams,
        "worst_seam": max((seam["roughness"] for seam in seams), default=None),
        "clipped_samples": clipped,
        "vocal_attenuated": vocal_level,  # dB, when its peak was above full scale
    }
    write_report(out, text)
    return [*names, "song.png", "report.json"]


def write_alone(
    out: Path, draft: Draft, stages: Mapping[str, float], report: Mapping[str, Any]
) -> list[str]:
    """Write what was sung without an accompaniment into the folder `out`; return the names."""
    began = time.perf_counter()
    audio = draft.voice.hyperparams.audio
    write_wav(out / "vocal.wav", draft.wav, audio.sample_rate)
    write_midi(draft.score, out / "topline.mid")
    tracks = {"vocal": draft.wav.clamp(-1, 1)}
    figure = song_picture(tracks, audio, {}, draft.score)
    plotting.save_figure(figure, out / "song.png")
    stages = {**stages, "write": time.perf_counter() - began}
    seconds = len(draft.wav) / audio.sample_rate
    text = {
        **report,
        "seconds_of_audio": seconds,
        "seconds_of_work": stages,
        "real_time_factor": sum(stages.values()) / seconds,
    }
    write_report(out, text)
    return ["vocal.wav", "topline.mid", "song.png", "report.json"]


def write_lines(lines: Sequence[Line], voice: Voice, out: Path, seconds: float) -> list[Path]:
    """Write what was spoken: sounds, mels, pictures and report.json; return the paths."""
    audio = voice.hyperparams.audio
    step_seconds = voice.transformer.network.reduction_factor / audio.frame_rate
    paths, entries = [], []
    pause = torch.zeros(round(PAUSE * audio.sample_rate))
    whole = [part for line in lines for part in (line.wav, pause)][:-1]
    for number, line in enumerate(lines, start=1):
        stem = f"{number:02d}"
        wav, mel, picture = (out / f"{stem}{end}" for end in (".wav", "_mel.npy", "_attention.png"))
        write_wav(wav, line.wav, audio.sample_rate)
        np.save(mel, line.mel.numpy())
        figure = plotting.attention_grid(line.attention, list(line.phrase.symbols), step_seconds)
        plotting.save_figure(figure, picture)
        paths += [wav, mel, picture]
        entries.append({"wav": wav.name, **line.report(audio.sample_rate)})
    write_wav(out / "lyrics.wav", torch.cat(whole), audio.sample_rate)
    duration = sum(entry["seconds"] for entry in entries)
    report = {
        **voice.report(),
        "device": str(voice.device),
        "sample_rate": audio.sample_rate,
        "seconds_of_audio": duration,
        "seconds_of_work": seconds,
        "real_time_factor": seconds / max(duration, 1e-9),
        "lines": entries,
    }
    return [out / "lyrics.wav", *paths, write_report(out, report)]


def song_report(song: Song, sung: Sung, mixed: Mix) -> dict[str, Any]:
    """What came in, what was made of it, and at which levels."""
    return {
        "song": {
            "seconds": song.seconds,
            "sample_rate": song.info.sample_rate,
            "channels": song.info.channels,
            "num_samples": song.info.num_samples,
            "network_gain": 20 * math.log10(song.gain),  # dB
            "remarks": list(song.remarks),
        },
        "generated": [list(region) for region in song.regions],  # s
        "windows": sung.windows,
        "network_evaluations": sung.evaluations,
        "network_evaluations_per_window": sung.evaluations / max(sung.windows, 1),
        "mix": {
            "vocal_gain": mixed.vocal_gain,  # dB
            "gain": mixed.gain,  # dB
            "loudness": {name: mixed.levels[name] for name in ("vocal", "accompaniment")},
            "true_peak": mixed.levels["true_peak"],  # dBTP
        },
    }


def time_report(stages: Mapping[str, float], song: Song) -> dict[str, Any]:
    """Seconds of work of each stage, and per second of song."""
    total = sum(stages.values())
    made = sum(end - start for start, end in song.regions)
    return {
        "seconds_of_work": dict(stages),
        "real_time_factor": {
            **{name: seconds / song.seconds for name, seconds in stages.items()},
            "all": total / song.seconds,
            "inpaint_per_generated_second": stages["inpaint"] / made,
        },
    }


def seam_report(
    vocal: Tensor, song: Song, seams: Sequence[tuple[int, int]], sample_rate: int
) -> list[dict[str, Any]]:
    """Roughness of a vocal (S,) at every seam between windows and at every edge of a part."""
    scale = song.rate / sample_rate
    places = [("window", [round(edge * scale) for edge in seam]) for seam in seams]
    places += [("edge", [edge]) for part in song.file_ranges for edge in part]
    inside = range(SEAM_MARGIN, len(vocal) - SEAM_MARGIN)
    entries = []
    for kind, samples in places:
        roughness = [seam_roughness(vocal, sample) for sample in samples if sample in inside]
        if roughness:
            entries.append(
                {"kind": kind, "seconds": samples[0] / song.rate, "roughness": max(roughness)}
            )
    return sorted(entries, key=lambda entry: entry["seconds"])


def write_picture(
    path: Path, song: Song, vocal: Tensor, hyperparams: Hyperparams, score: Score | None = None
) -> None:
    """Draw vocal (C, S) and accompaniment with the generated parts marked, and the notes."""
    audio = hyperparams.audio
    tracks = {
        "vocal": resample(to_mono(vocal), song.rate, audio.sample_rate).clamp(-1, 1),
        "accompaniment": song.accompaniment,
    }
    figure = song_picture(tracks, audio, {"vocal": song.regions}, score)
    plotting.save_figure(figure, path)


def write_report(out: Path, content: Mapping[str, Any]) -> Path:
    """Write report.json into the folder `out`; return its path."""
    path = out / "report.json"
    text = json.dumps(finite(content), indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")
    return path


def finite(value: Any) -> Any:
    """The same nested value with None for numbers that JSON does not know (silence is -inf)."""
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
