"""Write the files of a rendering: vocal, draft, mix, melody, picture and report.

Shapes: C channels, S samples.
"""

from __future__ import annotations

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
from singing.inpaint import PAUSE, InpaintedVocal
from singing.mixing import MixedSong
from singing.pictures import song_picture
from singing.song import SongAudio, pad_to, write_recording
from text.remarks import grouped, listed, remark
from utils import plotting, scratch
from utils.audio import resample, to_mono, write_wav
from utils.files import finite, write_json

if TYPE_CHECKING:
    from hyperparams import Audio
    from music.score import Score
    from singing.inpaint import Draft
    from singing.voice import Phrase, RenderedPhrase, Voice
    from text.lyrics import LyricLine


FEW_PHRASES = 4  # up to which the attention is drawn unasked
SEAM_MARGIN = 16  # samples of the song on either side that a seam needs to be judged


def write_song(
    out: Path,
    song: SongAudio,
    sung: InpaintedVocal,
    mixed: MixedSong,
    draft: Draft | None,
    audio: Audio,
    stages: Mapping[str, float],
    report: Mapping[str, Any],
) -> list[str]:
    """Write all files of a song into the folder `out`; return their names.

    stages: seconds of work so far; report: further entries of report.json.
    """
    began = time.perf_counter()
    if mixed.recording is None:
        attenuated = write_wav(out / "vocal.wav", mixed.vocal[0], song.rate)
    else:
        write_recording(out / "vocal.wav", mixed.recording)
        attenuated = 0.0
    write_wav(out / "mix.wav", mixed.mix.wav, mixed.mix_rate)
    names = ["vocal.wav", "mix.wav"]
    score = None
    if draft is not None:
        placed = resample(draft.wav, audio.sample_rate, song.rate)
        write_wav(out / "draft.wav", pad_to(placed, mixed.vocal.shape[1]), song.rate)
        names.append("draft.wav")
        score = draft.score
    if score is not None:
        write_midi(score, out / "topline.mid")
        names.append("topline.mid")
    write_picture(out / "song.png", song, mixed.vocal, audio, draft)
    stages = {**stages, "write": time.perf_counter() - began}
    seams = seam_report(to_mono(mixed.vocal), song, sung.seams, audio.sample_rate)
    content = {
        **report,
        **song_report(song, sung, mixed),
        **time_report(stages, song),
        "seams": seams,
        "worst_seam": max((seam["roughness"] for seam in seams), default=None),
        "clipped_samples": mixed.clipped,
        "vocal_attenuated": attenuated,  # dB, when its peak was above full scale
    }
    save_report(out, content)
    return [*names, "song.png", "report.json"]


def write_alone(
    out: Path,
    draft: Draft,
    score: Score,
    audio: Audio,
    stages: Mapping[str, float],
    report: Mapping[str, Any],
) -> list[str]:
    """Write a melody sung without an accompaniment into the folder `out`; return the names."""
    began = time.perf_counter()
    write_wav(out / "vocal.wav", draft.wav, audio.sample_rate)
    write_midi(score, out / "topline.mid")
    tracks = {"vocal": scratch.mapped(draft.wav, lambda part: part.clamp(-1, 1))}
    plotting.save_figure(song_picture(tracks, audio, {}, score), out / "song.png")
    stages = {**stages, "write": time.perf_counter() - began}
    seconds = len(draft.wav) / audio.sample_rate
    content = {
        **report,
        "seconds_of_audio": seconds,
        "seconds_of_work": stages,
        "real_time_factor": sum(stages.values()) / seconds,
    }
    save_report(out, content)
    return ["vocal.wav", "topline.mid", "song.png", "report.json"]


def collect_remarks(
    lyrics: Sequence[LyricLine] | None, melody: Sequence[str], phrases: Sequence[RenderedPhrase]
) -> list[str]:
    """Collect what is not sung, held, repeated or guessed: of the lyrics, the melody, the words."""
    remarks = [*getattr(lyrics, "remarks", ()), *melody]
    guessed = [(word, rendered.phrase) for rendered in phrases for word in rendered.phrase.guessed]
    if guessed:
        text = f"the sound of {_words_in_lines(guessed)}; --lexicon FILE corrects it"
        remarks.append(remark("guessed", text))
    for kind in ("skipped", "repeated"):
        words = [
            (rendered.phrase.words[place], rendered.phrase)
            for rendered in phrases
            for place in getattr(rendered.health, kind)
        ]
        if words:
            text = f"by its attention the voice has {kind} {_words_in_lines(words)}"
            remarks.append(remark("not sung" if kind == "skipped" else "repeated", text))
    return remarks


def _words_in_lines(found: Sequence[tuple[str, Phrase]]) -> str:
    """Return words with the lines that they stand in."""
    numbers: dict[str, set[int]] = {}
    for word, phrase in found:
        numbers.setdefault(word, set()).add(phrase.line_number)
    return listed(
        [f"{word!r} (line {', '.join(map(str, sorted(n)))})" for word, n in numbers.items()]
    )


def write_lines(
    out: Path,
    lines: Sequence[RenderedPhrase],
    voice: Voice,
    seconds: float,
    pictures: bool = False,
    remarks: Sequence[str] = (),
) -> list[str]:
    """Write spoken lines into the folder `out`: sounds, mels, pictures, report; return the names.

    seconds: of work so far; pictures: draw the attention of every line, not only of a few;
    remarks: of `collect_remarks`.
    """
    audio = voice.hyperparams.audio
    names, entries = ["lyrics.wav"], []
    for number, line in enumerate(lines, start=1):
        wav, mel = f"{number:02d}.wav", f"{number:02d}_mel.npy"
        write_wav(out / wav, line.wav, audio.sample_rate)
        np.save(out / mel, line.mel.numpy())
        names += [wav, mel]
        entries.append({"wav": wav, **line.report(audio.sample_rate)})
    if pictures or len(lines) <= FEW_PHRASES:
        names += write_attention(out, lines, voice)
    pause = torch.zeros(round(PAUSE * audio.sample_rate))
    whole = [part for line in lines for part in (line.wav, pause)][:-1]
    write_wav(out / "lyrics.wav", whole, audio.sample_rate)
    duration = sum(entry["seconds"] for entry in entries)
    report = {
        **voice.report(),
        "device": str(voice.device),
        "sample_rate": audio.sample_rate,
        "seconds_of_audio": duration,
        "seconds_of_work": seconds,
        "real_time_factor": seconds / max(duration, 1e-9),
        "lines": entries,
        "remarks": grouped(remarks),
    }
    save_report(out, report)
    return [*names, "report.json"]


def write_attention(out: Path, phrases: Sequence[RenderedPhrase], voice: Voice) -> list[str]:
    """Draw what each phrase attended to as NN_attention.png in `out`; return the names."""
    seconds = voice.network.reduction_factor / voice.hyperparams.audio.frame_rate
    names = []
    for number, rendered in enumerate(phrases, start=1):
        names.append(f"{number:02d}_attention.png")
        symbols = list(rendered.phrase.symbols)
        figure = plotting.attention_grid(rendered.attention, symbols, seconds)
        plotting.save_figure(figure, out / names[-1])
    return names


def song_report(song: SongAudio, sung: InpaintedVocal, mixed: MixedSong) -> dict[str, Any]:
    """Describe a song, what was generated of it, and the levels of the mix."""
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
            "vocal_gain": mixed.mix.vocal_gain,  # dB
            "gain": mixed.mix.gain,  # dB
            "loudness": {k: v for k, v in mixed.mix.levels.items() if k != "true_peak"},  # LUFS
            "true_peak": mixed.mix.levels["true_peak"],  # dBTP
        },
    }


def time_report(stages: Mapping[str, float], song: SongAudio) -> dict[str, Any]:
    """Return seconds of work of each stage, and per second of song."""
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
    vocal: Tensor, song: SongAudio, seams: Sequence[tuple[int, int]], sample_rate: int
) -> list[dict[str, Any]]:
    """Measure a vocal (S,) at every seam between windows and at every edge of a part."""
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
    path: Path, song: SongAudio, vocal: Tensor, audio: Audio, draft: Draft | None
) -> None:
    """Draw vocal (C, S) and accompaniment with the generated parts marked, notes and chords."""
    sung = resample(to_mono(vocal), song.rate, audio.sample_rate)
    tracks = {
        "vocal": scratch.mapped(sung, lambda part: part.clamp(-1, 1)),
        "accompaniment": song.accompaniment,
    }
    score, chords = (draft.score, draft.chords) if draft else (None, ())
    figure = song_picture(tracks, audio, {"vocal": song.regions}, score, chords)
    plotting.save_figure(figure, path)


def save_report(out: Path, content: Mapping[str, Any]) -> None:
    """Write report.json into the folder `out`."""
    write_json(out / "report.json", finite(content), indent=2)
