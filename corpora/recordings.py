"""Folders of recorded singing: which files say what is sung in a recording.

Beside X.wav, or in folders beside its folder (wav/X.wav, mid/X.mid, csv/X.csv), lie
  notes      X.mid, X.musicxml, X.mxl, X.xml, X.song, in the times of the recording
  labels     X.TextGrid, X.ds, X.lab, X.csv, or X.txt with rows `onset offset phoneme`
  lyrics     X.txt, X.lrc, X.srt, X.vtt
  the rest   X_accompaniment.* (or _instrumental, _no_vocals, ...), what is played to it
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from corpora.phoneme_labels import LABEL_SUFFIXES, has_labels
from corpora.records import AUDIO_SUFFIXES, TAKE_MARK, Rejection, id_fault
from corpora.stems import ACCOMPANIMENT_NAMES, ID_SEPARATOR

NOTE_SUFFIXES = (".mid", ".midi", ".kar", ".rmi", ".musicxml", ".mxl", ".xml", ".song")
LYRICS_SUFFIXES = (".lrc", ".txt", ".lab", ".srt", ".vtt")
SPOKEN_FOLDERS = ("read", "speech", "spoken")  # of corpora that hold both, as NUS-48E does
# Folders that sort files by kind: they are in no id, and files of a song may lie in several.
KIND_FOLDERS = ("wav", "wavs", "audio", "raw", "sing", "vocal", "vocals", "recordings")
# Files of the same name in this order: the lyrics of CSD are in lyric/, its txt/ holds phonemes.
LYRICS_FOLDERS = ("lyric", "lyrics", "text")
EXPECTED = (
    "expected X.wav beside X.mid, X.musicxml or X.song with words, beside X.TextGrid, X.ds, X.lab "
    "or X.csv, or beside X.txt or X.lrc with its lyrics"
)
_ACCOMPANIMENT = re.compile(
    r"(?P<song>.+?)[ _.-]+\(?(?:"
    + "|".join(re.escape(n) for n in sorted(ACCOMPANIMENT_NAMES, key=len, reverse=True))
    + r")\)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Recording:
    """A recording of one voice, and the files that say what it sings."""

    id: str
    wav_path: Path
    notes: Path | None = None
    labels: Path | None = None
    lyrics: Path | None = None
    accompaniment: Path | None = None
    voice: str = ""  # who sings

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files that its phrases are made of."""
        sources = (self.wav_path, self.notes, self.labels, self.lyrics)
        return tuple(path for path in sources if path is not None)


def find_recordings(
    directory: Path, voice: str, voices_by_folder: bool = False
) -> tuple[list[Recording], list[Rejection]]:
    """List the recordings below DIR by id, and those that nothing says the words of.

    voice: who sings; voices_by_folder: whose folder below DIR it is in sings instead. Raises
    FileNotFoundError when there is no recording at all.
    """
    directory = Path(directory)
    files = [p for p in sorted(directory.rglob("*")) if p.is_file() and not p.name.startswith(".")]
    audio = [p for p in files if p.suffix.lower() in AUDIO_SUFFIXES]
    if not audio:
        raise FileNotFoundError(
            f"{directory}: no recording ({', '.join(AUDIO_SUFFIXES)}) found; {EXPECTED}"
        )
    by_name: dict[str, list[Path]] = {}
    for path in files:
        by_name.setdefault(path.stem.casefold(), []).append(path)
    backings, voices = _parted(audio)
    found: dict[str, Recording] = {}
    rejections: list[Rejection] = []
    for path in voices:
        recording = _recording(path, directory, by_name, backings, voice, voices_by_folder)
        if isinstance(recording, Recording) and recording.id in found:
            other = found[recording.id].wav_path.relative_to(directory)
            reason = f"{path.relative_to(directory)}: {other} has the same name; rename one"
            recording = Rejection(recording.id, reason)
        if isinstance(recording, Rejection):
            rejections.append(recording)
        else:
            found[recording.id] = recording
    return sorted(found.values(), key=lambda recording: recording.id), rejections


def _parted(audio: Iterable[Path]) -> tuple[dict[tuple[Path, str], Path], list[Path]]:
    """Part accompaniments, by folder and name of what they accompany, from voices."""
    backings: dict[tuple[Path, str], Path] = {}
    voices = []
    for path in audio:
        if match := _ACCOMPANIMENT.fullmatch(path.stem):
            backings.setdefault((path.parent, match["song"].casefold()), path)
        else:
            voices.append(path)
    return backings, voices


def _recording(
    path: Path,
    directory: Path,
    by_name: Mapping[str, list[Path]],
    backings: Mapping[tuple[Path, str], Path],
    voice: str,
    voices_by_folder: bool,
) -> Recording | Rejection:
    """Collect the files of one recording, or say why it cannot be used."""
    folders = path.relative_to(directory).parts[:-1]
    kept = [name for name in folders if name.casefold() not in KIND_FOLDERS]
    id = ID_SEPARATOR.join((*kept, path.stem))
    if any(name.casefold() in SPOKEN_FOLDERS for name in folders):
        return Rejection(id, f"{path.relative_to(directory)}: a spoken recording, by its folder")
    fault = id_fault(id) or (TAKE_MARK in id and f"the id holds {TAKE_MARK!r}; rename the file")
    if fault:
        return Rejection(id, fault)
    if voices_by_folder:
        if not kept:
            where = "lies in no folder of a singer"
            return Rejection(id, f"{path.name} {where}; expected DIR/SINGER/{path.name}")
        voice = kept[0]
    beside = _beside(path, by_name)
    labels = next((p for p in beside if p.suffix.lower() in LABEL_SUFFIXES and has_labels(p)), None)
    notes = next((p for p in beside if p.suffix.lower() in NOTE_SUFFIXES), None)
    words = [p for p in beside if p.suffix.lower() in LYRICS_SUFFIXES and p != labels]
    words = [p for p in words if not (p.suffix.lower() in LABEL_SUFFIXES and has_labels(p))]
    words.sort(key=lambda p: (p.parent.name.casefold() not in LYRICS_FOLDERS, p.suffix != ".lrc"))
    if not (labels or notes or words):
        return Rejection(
            id, f"{path.relative_to(directory)}: nothing says what is sung; {EXPECTED}"
        )
    backing = backings.get((path.parent, path.stem.casefold()))
    return Recording(id, path, notes, labels, words[0] if words else None, backing, voice)


def _beside(path: Path, by_name: Mapping[str, list[Path]]) -> list[Path]:
    """List the files of a recording's name in its folder, then in the folders beside it."""
    same = [p for p in by_name[path.stem.casefold()] if p != path]
    here = [p for p in same if p.parent == path.parent]
    if path.parent.name.casefold() not in KIND_FOLDERS:
        return here
    return here + [
        p for p in same if p.parent != path.parent and p.parent.parent == path.parent.parent
    ]
