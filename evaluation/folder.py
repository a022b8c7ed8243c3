"""How near are recordings to their references? Files of any origin, paired by name.

RENDERED/NAME.wav is judged against REFERENCES/NAME.wav. Beside the reference may lie what it should
have been: NAME.mid, its notes; NAME.txt or NAME.lrc, its lyrics; NAME.accompaniment.wav, its
backing.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from composer.harmony import Harmony, analyse
from evaluation.frechet import EmbeddingStore
from evaluation.report import ReportItem, shown_path, write_outcome
from evaluation.score_metrics import harmony_fit, wrong_lyrics
from evaluation.table import WRONG_LYRICS, counted, print_table
from evaluation.voice import Judges, Reference, without_nan
from hyperparams import Hyperparams
from music.midi_tracks import read_midi
from text.frontend import Pronouncer
from text.lyrics import read_lyrics
from text.symbols import EOS
from utils.audio import read_wav
from utils.files import Journal, sha256_of
from utils.metrics import TimedNote, frame_difference_ratio, mel_level

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


def evaluate_folder(arguments: Namespace) -> None:
    """Judge a folder of recordings; print the table, write evaluation.json and the report."""
    items = match(arguments.rendered, arguments.references)
    judges = Judges.available(Hyperparams().audio, arguments.transcriber)
    out = arguments.out
    judge = FolderJudge(items, judges, Pronouncer(), out / "embeddings")
    settings = judge.settings()
    journal = Journal(out / "folder.jsonl", settings)
    records = journal.complete(list(items), judge.judge, "file")
    title = (
        f"{counted(len(records), 'recording')} of {shown_path(arguments.rendered)} against "
        f"{shown_path(arguments.references)}"
    )
    print(f"{title}, at {judges.audio.sample_rate} Hz")
    distances = judge.embeddings.distances([JUDGED], "ceiling", list(items))
    result = print_table(records, list(ROWS), JUDGED, judges.missing, distances) | {"rows": ROWS}
    write_outcome(out, title, settings, result, records, judge.entry, arguments.report)


class FolderJudge:
    """Measure recordings against their references."""

    def __init__(
        self, items: dict[str, Files], judges: Judges, pronouncer: Pronouncer, cache: Path
    ) -> None:
        self.embeddings = EmbeddingStore(cache, judges.embedding)
        self.items, self.judges, self.pronouncer = items, judges, pronouncer
        self.rate = judges.audio.sample_rate
        self.names = list(items)
        if not any(files.accompaniment for files in items.values()):
            self.judges.missing["accompaniment"] = (
                f"no reference has NAME{ACCOMPANIMENT}.wav beside it"
            )
        self.judges.missing["network"] = "recordings do not show it; see evaluate.py song"
        if not any(files.lyrics for files in items.values()):
            self.judges.missing["lyrics"] = "no reference has NAME.txt beside it"
        if not any(files.notes for files in items.values()):
            self.judges.missing["notes"] = "no reference has NAME.mid beside it"

    def settings(self) -> dict[str, Any]:
        """Return what decides the numbers: the contents of the files and the judges."""
        digests = {
            shown_path(path): sha256_of(path)[:16]
            for files in self.items.values()
            for path in files.all()
        }
        return {"files": digests, "judges": self.judges.names()}

    def wav(self, path: Path) -> Tensor:
        """Read a recording (S,) at the rate of the judges."""
        return read_wav(path, self.rate)[0]

    @cached_property
    def lines(self) -> list[dict[str, Any]]:
        """Pronounce the lyrics of every name that has them."""
        found = []
        for name, files in self.items.items():
            if files.lyrics is not None:
                symbols: list[str] = []
                written = read_lyrics(files.lyrics)
                for line in written:
                    pronounced = self.pronouncer.pronounce(line.text, line.line_number)
                    symbols += [*(s for s in pronounced.symbols if s != EOS), " "]
                text = " ".join(line.text for line in written)
                found.append({"id": name, "symbols": tuple(symbols), "text": text})
        return found

    @cached_property
    def harmonies(self) -> dict[str, Harmony]:
        """Analyse beats and chords of every accompaniment."""
        return {
            name: analyse(self.wav(files.accompaniment).numpy(), self.rate)
            for name, files in self.items.items()
            if files.accompaniment is not None
        }

    def reference(self, id: str) -> Reference:
        """Read the truth of a recording."""
        files = self.items[id]
        wav = self.wav(files.reference)
        mel, linear = (part[0].numpy() for part in self.judges.features(wav[None]))
        notes: list[TimedNote] | None = None
        if files.notes is not None:
            notes = [(n.onset, n.offset, float(n.pitch)) for n in read_midi(files.notes).notes]
        item = next((line for line in self.lines if line["id"] == id), None)
        return Reference(
            mel,
            linear,
            self.judges.track(wav, len(mel)),
            notes,
            None if item is None else item["symbols"],
            # Phonemes in braces are not words that a recogniser could return.
            None if item is None or "{" in item["text"] else item["text"],
            wrong=[] if item is None else wrong_lyrics(item, self.lines, WRONG_LYRICS),
        )

    def recordings(self, id: str) -> dict[str, Path]:
        """Return the file of each row; there is no floor for one recording alone."""
        files = self.items[id]
        rows = {"ceiling": files.reference, "rendered": files.rendered}
        if len(self.items) > 1:
            rows["floor"] = self.items[following(self.names, id)].rendered
        return rows

    def judge(self, id: str) -> dict[str, Any]:
        """Measure a name: the metrics of evaluation.table that each row has."""
        reference = self.reference(id)
        rows = {}
        for row, path in self.recordings(id).items():
            wav = self.wav(path)
            mel = self.judges.features.mel(wav[None])[0].numpy()
            result = self.judges.measure(wav, reference) | {
                "level_difference": mel_level(mel) - mel_level(reference.mel),
                "sharpness": frame_difference_ratio(mel, reference.mel),
            }
            if row != "floor":
                result |= self.backing_fit(wav, id)
                self.embeddings.keep(row, id, [wav], self.rate)
            rows[row] = without_nan(result)
        return {"song": id, "rows": rows}

    def backing_fit(self, wav: Tensor, id: str) -> dict[str, Any]:
        """Measure how the transcribed notes fit the own accompaniment, and another's."""
        if id not in self.harmonies or (transcribed := self.judges.transcribe(wav)) is None:
            return {}
        other = following(list(self.harmonies), id)
        others = [self.harmonies[other]] if other != id else []
        return harmony_fit(transcribed.notes, self.harmonies[id], others)

    def entry(self, id: str, record: Mapping[str, Any]) -> ReportItem:
        """Show a name in the report."""
        reference = self.reference(id)
        wavs = {row: self.wav(path) for row, path in self.recordings(id).items() if row != "floor"}
        judged = wavs[JUDGED]
        return ReportItem(
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
            transcribed=self.judges.transcribe(judged),
            record=record,
        )


def following(names: Sequence[str], name: str) -> str:
    """Return the next name, the first after the last."""
    return names[(names.index(name) + 1) % len(names)]
