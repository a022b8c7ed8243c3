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
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from torch import Tensor

from inpainter.windows import seam_roughness
from music.midi import write_midi
from singing.inpaint import InpaintedVocal
from singing.mixing import MixedSong
from singing.placement import PAUSE
from singing.song import SongAudio, pad_to, write_recording
from text.remarks import grouped, listed, remark
from utils import plotting, scratch
from utils.audio import resample, to_mono, write_wav
from utils.files import write_json
from utils.plotting import (
    MASKED,
    PAGE,
    TRUE,
    Array,
    Region,
    draw_track,
    new_figure,
    track_picture,
    waveform_of,
)

if TYPE_CHECKING:
    from hyperparams import Audio
    from music.score import Score
    from singing.placement import Draft
    from singing.voice import Phrase, RenderedPhrase, Voice
    from text.lyrics import LyricLine


Chord = tuple[float, str]  # start in s, name

LINE_SECONDS = 8.0  # of the melody in one line: four bars at 120 beats per minute
MOST_LINES = 64  # nearly nine minutes sung; with more a picture is as large as the song
LINE, LINE_GAP = 0.62, 0.23  # inch: the height of a line, and what is below it
WAVE, SPECTRUM = 0.24, 0.4  # inch: heights of a track's waveform and spectrogram
LEFT, RIGHT = 0.38, 0.12  # inch beside the axes
WORDS, CHORDS = 0.32, 0.82  # of a line's height: words lie below, chords above
WORD_SIZE = 7.5  # points
PIANO_TICKS = {0: "C", 7: "G"}  # pitch classes that are named at the side
NO_CHORD = "N"


def song_picture(
    tracks: Mapping[str, Array],
    audio: Audio,
    regions: Mapping[str, Sequence[Region]],
    score: Score | None = None,
    chords: Sequence[Chord] = (),
) -> Figure:
    """Draw tracks by name, each a waveform above its spectrogram, and the melody they sing.

    tracks: (S,) in [-1, 1] each. regions: stretches of a track that are generated, not known, and
    are marked; a track that is generated as a whole is not. score: drawn above the tracks in lines
    of `LINE_SECONDS`, the first MOST_LINES of those that have notes, with its words below and
    `chords`, the accompaniment's, above; without one see utils.plotting.track_picture.
    """
    if score is None:
        return track_picture(tracks, audio, regions)
    signals = {name: waveform_of(name, wav) for name, wav in tracks.items()}
    seconds = max(len(samples) for samples in signals.values()) / audio.sample_rate
    parts = {
        name: [part for part in marked if part[0] > 0 or part[1] < seconds - 0.01]
        for name, marked in regions.items()
    }
    all_lines = _lines_of(score)
    lines = all_lines[:MOST_LINES]
    track = 0.2 + WAVE + 0.1 + SPECTRUM + 0.06  # inch, with its title
    height = 0.06 + len(lines) * (LINE + LINE_GAP) + len(signals) * track + 0.32
    figure = new_figure(PAGE, height, constrained=False)
    top = 0.06  # inch from the top of the page to the next axes

    def add(size: float) -> Axes:
        """Add axes of the page's width, `size` inches high, at `top`."""
        width = (PAGE - LEFT - RIGHT) / PAGE
        return figure.add_axes((LEFT / PAGE, 1 - (top + size) / height, width, size / height))

    generated = next(iter(parts.values()), [])
    for line in lines:
        _draw_line(add(LINE), line, score, chords, generated)
        top += LINE + LINE_GAP
    for name, samples in signals.items():
        top += 0.2
        upper = add(WAVE)
        top += WAVE + 0.1
        lower = add(SPECTRUM)
        top += SPECTRUM + 0.06
        draw_track(upper, lower, samples, audio, parts.get(name, ()))
        upper.set_title(name, fontsize=9, pad=3)
        for axes in (upper, lower):
            axes.set(xlim=(0, seconds), ylabel="")
            axes.tick_params(labelsize=7, length=2, pad=1.5, labelbottom=False)
    lower.tick_params(labelbottom=True)
    more = f"; notes: the first {MOST_LINES} of {len(all_lines)} lines, topline.mid has all"
    label = "time (s)" + (more if len(all_lines) > MOST_LINES else "")
    lower.set_xlabel(label, fontsize=8, labelpad=1)
    return figure


def _lines_of(score: Score) -> list[Region]:
    """Return the stretches of `LINE_SECONDS` in which something is sung."""
    starts = {
        LINE_SECONDS * number
        for note in score.notes
        for number in range(int(note.onset // LINE_SECONDS), math.ceil(note.offset / LINE_SECONDS))
    }
    return [(start, start + LINE_SECONDS) for start in sorted(starts)]


def _draw_line(
    axes: Axes, line: Region, score: Score, chords: Sequence[Chord], generated: Sequence[Region]
) -> None:
    """Draw the notes of a stretch as bars, chords above, words below, generated parts marked."""
    start, end = line
    pitches = [note.pitch for note in score.notes]
    low, high = min(pitches) - 1, max(pitches) + 1
    span = (high - low) / (CHORDS - WORDS - 0.06)  # semitones of the line's whole height
    axes.set_ylim(low - (WORDS + 0.03) * span, high + (1 - CHORDS + 0.03) * span)
    axes.set_xlim(start, end)
    for note in score.notes:
        if note.onset < end and note.offset > start:
            axes.barh(
                note.pitch,
                note.duration,
                left=note.onset,
                height=max(1.0, 0.05 * span),
                color=MASKED,
                edgecolor=TRUE,
                linewidth=0.7,
            )
    for edge in (WORDS, CHORDS):
        axes.axhline(low - (WORDS + 0.03) * span + edge * span, color="0.8", linewidth=0.5)
    _draw_words(axes, line, score)
    _draw_chords(axes, line, chords)
    for first, last in generated:
        axes.axvspan(first, last, color=MASKED, alpha=0.2, linewidth=0)
    ticks = [pitch for pitch in range(low, high + 1) if pitch % 12 in PIANO_TICKS]
    axes.set_yticks(ticks, [f"{PIANO_TICKS[pitch % 12]}{pitch // 12 - 1}" for pitch in ticks])
    axes.set_xticks(np.arange(start, end + 0.5))
    axes.tick_params(labelsize=7, pad=1.5, length=2)
    axes.grid(axis="y", linewidth=0.3)


def _draw_words(axes: Axes, line: Region, score: Score) -> None:
    """Write the syllables of a stretch in two rows, each at its note or where the row is free."""
    seconds_per_point = LINE_SECONDS / (PAGE - LEFT - RIGHT) / 72
    free = [-math.inf, -math.inf]  # s, where the last word of each row ends
    for syllable in score.syllables:
        if not line[0] <= syllable.onset < line[1]:
            continue
        text = syllable.text + ("" if syllable.ends_word else "-")
        row = 0 if free[0] <= syllable.onset or free[0] <= free[1] else 1
        place = max(syllable.onset + 0.02, free[row])
        axes.text(
            place,
            (0.245, 0.075)[row],
            text,
            transform=axes.get_xaxis_transform(),
            fontsize=WORD_SIZE,
            va="center",
            clip_on=False,
        )
        width = TextPath((0, 0), text, size=WORD_SIZE).get_extents().width if text.strip() else 0.0
        free[row] = place + (width + 0.25 * WORD_SIZE) * seconds_per_point


def _draw_chords(axes: Axes, line: Region, chords: Sequence[Chord]) -> None:
    """Write the names of chords where they begin, and at the start of a line that goes on."""
    ends = [*(start for start, _ in chords[1:]), math.inf]
    for (begin, name), end in zip(chords, ends, strict=False):
        if name == NO_CHORD or end <= line[0] or begin >= line[1]:
            continue
        place = max(begin, line[0])
        transform = axes.get_xaxis_transform()
        if begin > line[0]:
            axes.plot([place] * 2, [CHORDS, 1.0], color="0.6", linewidth=0.6, transform=transform)
        axes.text(
            place + 0.04,
            (1 + CHORDS) / 2,
            name,
            transform=transform,
            fontsize=8,
            fontweight="bold",
            va="center",
        )


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


def finite(value: Any) -> Any:
    """Replace numbers that JSON does not know (silence is -inf) by None, at any depth."""
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
