"""Folders of aligned stems: vocal/X.* with accompaniment/X.*, or X/vocal.* with X/accompaniment.*.

The second layout may be nested and is also what separation programs and stem collections write:
`vocals` beside `no_vocals`, or beside `drums`, `bass` and `other`, which are summed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from corpora.records import AUDIO_SUFFIXES, Rejection, StemPair, id_fault

VOCAL_NAMES = ("vocal", "vocals")
ACCOMPANIMENT_NAMES = ("accompaniment", "no_vocals")
PARTS = ("drums", "bass", "other")  # what separation in four makes of an accompaniment
MORE_PARTS = ("guitar", "piano")  # and in six
ID_SEPARATOR = " - "  # between the folders of a nested layout
SEPARATION = (
    "separate it first: demucs --two-stems vocals -o separated FILE... (a program of its own: pip "
    "install demucs), then: python prepare_data.py stems separated/htdemucs --name NAME"
)


def read_stems(
    directory: Path, vocal_name: str | None = None, accompaniment_name: str | None = None
) -> tuple[list[StemPair], list[Rejection]]:
    """Find the pairs below DIR, sorted by id, and the songs whose stems are not complete.

    Names are file (or folder) names without suffix, in any case; without them the usual ones are
    tried. Raises FileNotFoundError when there is no recording at all, ValueError when there are
    only mixes.
    """
    directory = Path(directory)
    vocal_names = (vocal_name,) if vocal_name else VOCAL_NAMES
    accompaniment_names = (accompaniment_name,) if accompaniment_name else ACCOMPANIMENT_NAMES
    songs = _collect(directory, vocal_names, accompaniment_names)
    if not songs:
        raise FileNotFoundError(
            f"{directory}: no recording ({', '.join(AUDIO_SUFFIXES)}) found; expected "
            f"{vocal_names[0]}/X.* with {accompaniment_names[0]}/X.*, or X/{vocal_names[0]}.* with "
            f"X/{accompaniment_names[0]}.*"
        )
    pairs, rejections, mixes = [], [], []
    for id, files in sorted(songs.items()):
        found = _pair(id, files, vocal_names, accompaniment_names)
        if isinstance(found, StemPair):
            pairs.append(found)
        else:
            rejections.append(found)
            if not any(name in files for name in (*vocal_names, *accompaniment_names)):
                mixes.append(found)
    if not pairs and mixes:
        raise ValueError(
            f"{directory}: no pair of stems. {mixes[0].id}: {mixes[0].reason}. Stems of other "
            "names are given with --vocal-name and --accompaniment-name"
        )
    return pairs, rejections


def _collect(
    directory: Path, vocal_names: Sequence[str], accompaniment_names: Sequence[str]
) -> dict[str, dict[str, Path]]:
    """Map each song's id to its recordings by lower-case name."""
    songs: dict[str, dict[str, Path]] = {}
    preference = {suffix: rank for rank, suffix in enumerate(AUDIO_SUFFIXES)}
    recordings = [p for p in directory.rglob("*") if p.suffix.lower() in preference and p.is_file()]
    for path in sorted(recordings, key=lambda p: (preference[p.suffix.lower()], str(p))):
        folder = path.parent.name.casefold()
        by_folder = folder in map(str.casefold, (*vocal_names, *accompaniment_names))
        if by_folder and path.parent != directory:
            song, name = path.parent.parent / path.stem, folder
        else:
            song, name = path.parent, path.stem.casefold()
        parts = song.relative_to(directory).parts or (directory.resolve().name,)
        songs.setdefault(ID_SEPARATOR.join(parts), {}).setdefault(name, path)
    return songs


def _pair(
    id: str,
    files: Mapping[str, Path],
    vocal_names: Sequence[str],
    accompaniment_names: Sequence[str],
) -> StemPair | Rejection:
    fault = id_fault(id)
    if fault:
        return Rejection(id, f"{fault}; rename the song")
    vocal = next((files[n.casefold()] for n in vocal_names if n.casefold() in files), None)
    accompaniment = [files[n.casefold()] for n in accompaniment_names if n.casefold() in files][:1]
    if not accompaniment and all(part in files for part in PARTS):
        accompaniment = [files[part] for part in (*PARTS, *MORE_PARTS) if part in files]
    there = ", ".join(sorted(path.name for path in files.values()))
    if vocal is None and not accompaniment:
        return Rejection(id, f"a mix without stems ({there}); {SEPARATION}")
    if vocal is None:
        return Rejection(id, f"no vocal ({' or '.join(vocal_names)}), found {there}")
    if not accompaniment:
        return Rejection(
            id, f"no accompaniment ({' or '.join(accompaniment_names)}), found {there}"
        )
    return StemPair(id, vocal, tuple(accompaniment))
