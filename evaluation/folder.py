"""Recordings of any origin against their references, file by file.

RENDERED/NAME.wav is judged against REFERENCES/NAME.wav. Beside the reference may lie what it should
have been: NAME.mid, its notes; NAME.txt or NAME.lrc, its lyrics; NAME.accompaniment.wav, its
backing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from evaluation.frechet import Frechet, frechet
from evaluation.harmony_fit import chord_tone_ratio, onset_to_beat
from evaluation.report import Entry
from evaluation.score_metrics import mel_level, wrong_lyrics
from evaluation.table import SHUFFLED, WRONG_LYRICS
from evaluation.voice import Judges, Reference, plain
from music.harmony import Harmony, analyse
from music.midi import read_midi
from text.frontend import Pronouncer
from text.lyrics import read_lyrics
from text.symbols import EOS
from utils.audio import read_wav
from utils.files import sha256_of
from utils.metrics import frame_difference_ratio

ROWS = {
    "ceiling": "the reference itself",
    "rendered": "the recording",
    "floor": "the recording of the next name, judged as this one",
}
JUDGED = "rendered"
SOUNDS = (".wav", ".flac", ".ogg", ".mp3")
ACCOMPANIMENT = ".accompaniment"


@dataclass(frozen=True)
class Files:
    """What belongs to one name."""

    rendered: Path
    reference: Path
    notes: Path | None = None
    lyrics: Path | None = None
    accompaniment: Path | None = None

    def all(self) -> list[Path]:
        """Those that are there."""
        found = (self.rendered, self.reference, self.notes, self.lyrics, self.accompaniment)
        return [path for path in found if path is not None]


def match(rendered: Path, references: Path) -> dict[str, Files]:
    """Pair the recordings of two folders by name, NAME → files, in order of names.

    Raises FileNotFoundError for a folder that is not there, ValueError for no recording, for two of
    one name, and for one without reference (it is named).
    """
    recordings, true = _sounds(Path(rendered)), _sounds(Path(references))
    missing = sorted(set(recordings) - set(true))
    if missing:
        raise ValueError(
            f"{references} has no recording called {', '.join(missing[:5])}"
            f"{' …' if len(missing) > 5 else ''}; it has {', '.join(sorted(true)[:5]) or 'none'}"
        )
    return {name: _files(recordings[name], true[name]) for name in sorted(recordings)}


def _sounds(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; expected recordings ({' '.join(SOUNDS)})")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SOUNDS or path.stem.endswith(ACCOMPANIMENT):
            continue
        if path.stem in found:
            raise ValueError(f"{found[path.stem]} and {path.name} have one name: keep one of them")
        found[path.stem] = path
    if not found:
        raise ValueError(f"{folder} holds no recording ({' '.join(SOUNDS)})")
    return found


def _files(rendered: Path, reference: Path) -> Files:
    def beside(*suffixes: str) -> Path | None:
        paths = (reference.with_name(reference.stem + suffix) for suffix in suffixes)
        return next((path for path in paths if path.is_file()), None)

    return Files(
        rendered,
        reference,
        beside(".mid", ".midi"),
        beside(".txt", ".lrc"),
        beside(*(ACCOMPANIMENT + suffix for suffix in SOUNDS)),
    )


class FolderJudge:
    """Measures recordings against their references."""

    def __init__(self, items: dict[str, Files], judges: Judges, pronouncer: Pronouncer) -> None:
        self.items, self.judges, self.pronouncer = items, judges, pronouncer
        self.rate = judges.audio.sample_rate
        self.names = list(items)
        self.judges.missing |= {
            kind: f"no reference has {what} beside it"
            for kind, what in (("accompaniment", f"NAME{ACCOMPANIMENT}.wav"),)
            if not any(files.accompaniment for files in items.values())
        }
        self.judges.missing["network"] = "recordings do not show it; see evaluate.py song"
        if not any(files.lyrics for files in items.values()):
            for kind in ("aligner", "whisper"):
                self.judges.missing.setdefault(kind, "no reference has NAME.txt beside it")

    def settings(self) -> dict[str, Any]:
        """What decides the numbers: the files' contents and the judges."""
        digests = {
            str(path): sha256_of(path)[:16] for files in self.items.values() for path in files.all()
        }
        return {"files": digests, "judges": self.judges.names()}

    def following(self, id: str) -> str:
        """The next name, the first after the last."""
        return self.names[(self.names.index(id) + 1) % len(self.names)]

    def wav(self, path: Path) -> Tensor:
        """A recording (S,) at the judges' rate."""
        return read_wav(path, self.rate)[0]

    @cached_property
    def lines(self) -> list[dict[str, Any]]:
        """Symbols of every name that has lyrics."""
        found = []
        for name, files in self.items.items():
            if files.lyrics is not None:
                symbols: list[str] = []
                written = read_lyrics(files.lyrics)
                for line in written:
                    said = self.pronouncer.pronounce(line.text, line.line_number)
                    symbols += [*(s for s in said.symbols if s != EOS), " "]
                text = " ".join(line.text for line in written)
                found.append({"id": name, "symbols": tuple(symbols), "text": text})
        return found

    @cached_property
    def harmonies(self) -> dict[str, Harmony]:
        """Beats and chords of every accompaniment."""
        return {
            name: analyse(self.wav(files.accompaniment).numpy(), self.rate)
            for name, files in self.items.items()
            if files.accompaniment is not None
        }

    def reference(self, id: str) -> Reference:
        """What a recording should have been."""
        files = self.items[id]
        wav = self.wav(files.reference)
        mel, linear = (part[0].numpy() for part in self.judges.features(wav[None]))
        notes = None
        if files.notes is not None:
            notes = [(n.onset, n.offset, float(n.pitch)) for n in read_midi(files.notes).notes]
        item = next((line for line in self.lines if line["id"] == id), None)
        return Reference(
            mel,
            linear,
            self.judges.track(wav, len(mel)),
            notes,
            None if item is None else item["symbols"],
            # Phonemes in braces are no spelling that could be compared with what is heard.
            None if item is None or "{" in item["text"] else item["text"],
            wrong=[] if item is None else wrong_lyrics(item, self.lines, WRONG_LYRICS),
        )

    def recordings(self, id: str) -> dict[str, Path]:
        """The file of each row; no floor when there is one recording."""
        files = self.items[id]
        rows = {"ceiling": files.reference, "rendered": files.rendered}
        if len(self.items) > 1:
            rows["floor"] = self.items[self.following(id)].rendered
        return rows

    def judge(self, id: str) -> dict[str, Any]:
        """The record of one name: what METRICS names, for each row that has it."""
        reference = self.reference(id)
        rows = {}
        for row, path in self.recordings(id).items():
            wav = self.wav(path)
            mel = self.judges.features.mel(wav[None])[0].numpy()
            result = self.judges.measure(wav, reference) | {
                "level_difference": mel_level(mel) - mel_level(reference.mel),
                "sharpness": frame_difference_ratio(mel, reference.mel),
            }
            if row != "floor" and self.judges.transcriber is not None:
                result |= self.fit(wav, id)
            rows[row] = {name: plain(value) for name, value in result.items()}
        return {"song": id, "rows": rows}

    def fit(self, wav: Tensor, id: str) -> dict[str, Any]:
        """Of the notes that are heard: chord tones and beats of the own and another's backing."""
        if id not in self.harmonies:
            return {}
        notes = self.judges.transcribe(wav).notes
        names = list(self.harmonies)
        other = names[(names.index(id) + 1) % len(names)]
        result: dict[str, Any] = {}
        for name, function in (
            ("chord_tones", chord_tone_ratio),
            ("beat_deviation", onset_to_beat),
        ):
            result[name] = function(notes, self.harmonies[id])
            if other != id:
                result[SHUFFLED[name]] = function(notes, self.harmonies[other])
        return result

    def frechet(self) -> dict[str, Frechet]:
        """The Fréchet distance of the recordings to the references; empty without embedding."""
        embedding = self.judges.embedding
        if embedding is None:
            return {}
        sets = [
            [embedding(self.wav(path), self.rate) for path in paths]
            for paths in (
                [files.rendered for files in self.items.values()],
                [files.reference for files in self.items.values()],
            )
        ]
        return {JUDGED: frechet(*sets, embedding.NAME)}

    def entry(self, id: str, record: Mapping[str, Any]) -> Entry:
        """One name for the report."""
        reference = self.reference(id)
        wavs = {row: self.wav(path) for row, path in self.recordings(id).items() if row != "floor"}
        judged = wavs[JUDGED]
        return Entry(
            id=id,
            text=id,
            audio=self.judges.audio,
            sounds=wavs,
            mel=self.judges.features.mel(judged[None])[0].numpy(),
            true_mel=reference.mel,
            f0={
                row: self.judges.track(wav, 1 + len(wav) // self.judges.audio.hop_length)
                for row, wav in wavs.items()
            },
            notes=reference.notes or (),
            heard=None if self.judges.transcriber is None else self.judges.transcribe(judged),
            record=record,
        )
