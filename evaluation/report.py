"""evaluation.json, and report.html: players, pictures and the table in one file.

Sounds are MP3 and pictures PNG inside the page; it refers to nothing outside itself.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import librosa
import numpy as np
import soundfile
from matplotlib.figure import Figure
from torch import Tensor

from evaluation.frechet import Frechet
from training.batching import evenly_spaced
from transcription.pictures import posteriorgram
from utils import files, plotting
from utils.metrics import midi_of

if TYPE_CHECKING:
    from hyperparams import Audio
    from transcription.transcribe import Transcribed

DPI = 72
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em }
table { border-collapse: collapse; font-size: 13px }
td, th { padding: 2px 10px; text-align: right }
td:first-child, th:first-child { text-align: left } tr:nth-child(even) { background: #f3f3f3 }
.sounds { display: flex; flex-wrap: wrap; gap: 1em }
figure { margin: 1em 0 } img { max-width: 100% }
.wide { overflow-x: auto } figcaption, .note { color: #555; font-size: 13px } audio { height: 32px }
"""


@dataclass
class ReportItem:
    """One item of the report: the sound of each row, and what its pictures show."""

    id: str
    text: str
    audio: Audio
    sounds: Mapping[str, Tensor]  # (S,)
    mel: np.ndarray  # (T, M) raw natural log of what is judged
    true_mel: np.ndarray  # (T, M)
    f0: Mapping[str, np.ndarray]  # (T,) Hz of the rows that are drawn
    notes: Sequence[Sequence[float]] = ()  # onset s, offset s, MIDI number
    syllables: Sequence[tuple[float, str]] = ()  # onset s, text under the notes
    alignment: np.ndarray | None = None  # (steps, N)
    symbols: Sequence[str] = ()
    seconds_per_step: float = 0.0
    transcribed: Transcribed | None = None
    record: Mapping[str, Any] = field(default_factory=dict)

    def figures(self) -> dict[str, Figure]:
        """Draw every picture that there is data for, by its caption."""
        found = {
            "Spectrograms": plotting.spectrogram_pair(
                self.mel, self.true_mel, self.audio, ("judged", "true")
            ),
            "Piano roll: the notes, and the pitch of the recordings": piano_roll(
                self.notes, self.f0, 1 / self.audio.frame_rate, self.syllables
            ),
        }
        if self.alignment is not None:
            found["Attention: symbols over time"] = plotting.attention_grid(
                [self.alignment[None]], list(self.symbols), self.seconds_per_step
            )
        if self.transcribed is not None:
            found["Phoneme probabilities of the transcriber"] = posteriorgram(self.transcribed)
        return found


def piano_roll(
    notes: Sequence[Sequence[float]],
    f0: Mapping[str, np.ndarray],
    seconds_per_frame: float,
    syllables: Sequence[tuple[float, str]] = (),
) -> Figure:
    """Draw notes (onset, offset, MIDI number) as bars and pitch tracks (T,) in Hz over them."""
    length = max([note[1] for note in notes] + [len(t) * seconds_per_frame for t in f0.values()])
    figure = plotting.new_figure(min(16.0, max(7.0, 1.6 * length)), 3.2)
    axes = figure.subplots()
    for onset, offset, pitch in notes:
        axes.barh(pitch, offset - onset, left=onset, height=0.8, color="#cfe3f5", edgecolor="#777")
    for row, track in f0.items():
        times = np.arange(len(track)) * seconds_per_frame
        axes.plot(times, midi_of(track), ".", markersize=2.5, label=row)
    sung = np.concatenate([midi_of(track) for track in f0.values()] or [np.zeros(0)])
    pitches = [note[2] for note in notes] or sung[~np.isnan(sung)].tolist() or [60.0]
    low, high = int(min(pitches)) - 5, int(max(pitches)) + 5
    for onset, text in syllables:
        axes.text(onset, low + 0.7, text, fontsize=7)
    axes.set(ylim=(low, high), xlim=(0, max(length, 1e-3)), xlabel="time (s)")
    ticks = range(low + low % 2, high + 1, 2)
    axes.set_yticks(ticks, [librosa.midi_to_note(pitch, unicode=False) for pitch in ticks])
    axes.tick_params(labelsize=7)
    axes.grid(axis="y", linewidth=0.3)
    if f0:
        axes.legend(fontsize=7, loc="upper right", markerscale=3)
    return figure


def write_outcome(
    out: Path,
    title: str,
    settings: Mapping[str, Any],
    result: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    entry: Callable[[str, Mapping[str, Any]], ReportItem],
    items: int,
) -> None:
    """Write evaluation.json and, with some of the items, report.html; print their paths.

    entry(id, record): what the report shows of an item; items: how many, spread evenly.
    """
    write_result(out / "evaluation.json", {**settings, **result, "items": records})
    if items:
        entries = (entry(record["id"], record) for record in evenly_spaced(records, items))
        print(write_page(out / "report.html", title, settings, result, entries))


def write_result(path: Path, content: Mapping[str, Any]) -> None:
    """Write the numbers of an evaluation as JSON and print the path."""
    files.write_json(path, content, indent=2, allow_nan=True)
    print(path)


def write_page(
    path: Path,
    title: str,
    settings: Mapping[str, Any],
    result: Mapping[str, Any],
    entries: Iterable[ReportItem],
) -> Path:
    """Write the page: the table, the settings and the entries; return its path.

    result: of `evaluation.table.print_table`.
    """
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>",
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1>",
        f"<div class=wide>{_table(result['table'])}</div>",
        "<p class=note>95 % bootstrap intervals over songs in brackets.</p>",
    ]
    for row, distance in result["frechet_distance"].items():
        parts.append(f"<p>{html.escape(row)}: {html.escape(str(Frechet(**distance)))}</p>")
    parts.append(f"<details><summary>Settings</summary><pre>{_json(settings)}</pre></details>")
    parts += [_entry(entry) for entry in entries]
    files.write_text(path, "\n".join(parts) + "</html>\n")
    return path


def shown_path(path: Path | str) -> str:
    """Return a path as a page for others may show it: relative to here, or its last name alone."""
    path = Path(path)
    if path.is_absolute():
        here = Path.cwd()
        return str(path.relative_to(here)) if path.is_relative_to(here) else path.name
    return str(path)


def _shareable(value: Any) -> Any:
    """Shorten the absolute paths in plain values, keys included."""
    if isinstance(value, Mapping):
        return {_shareable(key): _shareable(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shareable(part) for part in value]
    return shown_path(value) if isinstance(value, str) and Path(value).is_absolute() else value


def _json(content: Mapping[str, Any]) -> str:
    return html.escape(json.dumps(_shareable(content), indent=2, ensure_ascii=False))


def _table(cells: Sequence[Sequence[str]]) -> str:
    rows = []
    for number, line in enumerate(cells):
        tag = "td" if number else "th"
        span = f" colspan={len(cells[0]) - 1} style='text-align:left'"
        shown = [
            f"<{tag}{span if column and len(line) == 2 else ''}>{html.escape(text)}</{tag}>"
            for column, text in enumerate(line)
        ]
        rows.append(f"<tr>{''.join(shown)}</tr>")
    return f"<table>{''.join(rows)}</table>"


def _entry(entry: ReportItem) -> str:
    """One item: players side by side, pictures under each other, its numbers folded away."""
    rate = entry.audio.sample_rate
    players = "".join(
        f"<div>{html.escape(row)}<br><audio controls preload=none "
        f"src='data:audio/mpeg;base64,{_mp3(wav, rate)}'></audio></div>"
        for row, wav in entry.sounds.items()
    )
    pictures = "".join(
        f"<figure><figcaption>{html.escape(caption)}</figcaption>"
        f"<img alt='{html.escape(caption)}' src='data:image/png;base64,{_png(figure)}'></figure>"
        for caption, figure in entry.figures().items()
    )
    return (
        f"<h2>{html.escape(entry.text)}</h2><p class=note>{html.escape(entry.id)}</p>"
        f"<div class=sounds>{players}</div>{pictures}"
        f"<details><summary>Numbers</summary><pre>{_json(entry.record)}</pre></details>"
    )


def _mp3(wav: Tensor, sample_rate: int) -> str:
    file = io.BytesIO()
    soundfile.write(file, wav.clamp(-1, 1).numpy(), sample_rate, format="MP3")
    return base64.b64encode(file.getvalue()).decode("ascii")


def _png(figure: Figure) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    return base64.b64encode(file.getvalue()).decode("ascii")
