"""Folders of aligned stems: vocal/X.* with accompaniment/X.*, or X/vocal.* with X/accompaniment.*.

The second layout may be nested and is also what separation programs and stem collections write:
`vocals` beside `no_vocals`, or beside `drums`, `bass` and `other`, which are summed. The third has
the names within those of the files, as UVR and RVC write them: 1_X_(Vocals).wav beside
1_X_(Instrumental).wav, X_vocals.wav, vocal_X_10.wav beside instrument_X_10.wav.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from corpora.records import AUDIO_SUFFIXES, Rejection, StemPair, id_fault

VOCAL_NAMES = ("vocal", "vocals", "voice", "vox", "acapella", "acappella", "a cappella")
ACCOMPANIMENT_NAMES = (
    *("accompaniment", "no_vocals", "instrumental", "instrumentals", "inst", "instrument"),
    *("instr", "no vocals", "minus_vocals", "backing", "backing_track", "karaoke"),
)
PARTS = ("drums", "bass", "other")  # what separation in four makes of an accompaniment
MORE_PARTS = ("guitar", "piano")  # and in six
ID_SEPARATOR = " - "  # between the folders of a nested layout
SEPARATION = (
    "separate it first: demucs --two-stems vocals -o separated FILE... (a program of its own: pip "
    "install demucs), then: python prepare_data.py stems separated/htdemucs --name NAME"
)


OTHER_NAMES = "Stems of other names are given with --vocal-name and --accompaniment-name"


def read_stems(
    directory: Path, vocal_name: str | None = None, accompaniment_name: str | None = None
) -> tuple[list[StemPair], list[Rejection]]:
    """Find the pairs below DIR, sorted by id, and the songs whose stems are not complete.

    Names are file (or folder) names without suffix, in any case, or a part of them; without them
    the usual ones are tried. Raises FileNotFoundError when there is no recording at all,
    ValueError when there are only mixes.
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
    if not pairs and len(mixes) == len(rejections):
        raise ValueError(
            f"{directory}: no pair of stems. {mixes[0].id}: {mixes[0].reason}. {OTHER_NAMES}"
        )
    return pairs, rejections


def _collect(
    directory: Path, vocal_names: Sequence[str], accompaniment_names: Sequence[str]
) -> dict[str, dict[str, Path]]:
    """Map each song's id to its recordings by lower-case name."""
    songs: dict[str, dict[str, Path]] = {}
    preference = {suffix: rank for rank, suffix in enumerate(AUDIO_SUFFIXES)}
    known = tuple(map(str.casefold, (*vocal_names, *accompaniment_names)))
    recordings = [p for p in directory.rglob("*") if p.suffix.lower() in preference and p.is_file()]
    for path in sorted(recordings, key=lambda p: (preference[p.suffix.lower()], str(p))):
        folder = path.parent.name.casefold()
        by_folder = folder in known
        if by_folder and path.parent != directory:
            song, name = path.parent.parent / path.stem, folder
        else:
            song, name = path.parent, path.stem.casefold()
            if name not in known and (within := _name_within(path.stem, known)):
                song, name = path.parent / within[0], within[1]
        parts = song.relative_to(directory).parts or (directory.resolve().name,)
        songs.setdefault(ID_SEPARATOR.join(parts), {}).setdefault(name, path)
    return songs


def _name_within(stem: str, names: Sequence[str]) -> tuple[str, str] | None:
    """Return the song and the stem's name of a file that is called by both; None without one.

    The name stands in parentheses, or at the end or the beginning, parted from the song's.
    """
    either = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    for pattern in (
        rf"(?P<song>.*?)[ _.-]*[(\[](?P<name>{either})[)\]](?P<more>.*)",
        rf"(?P<song>.+?)[ _.-]+(?P<name>{either})(?P<more>)",
        rf"(?P<name>{either})[ _.-]+(?P<song>.+)(?P<more>)",
    ):
        if match := re.fullmatch(pattern, stem, re.IGNORECASE):
            song = match["song"] or match["more"].strip(" _.-")
            return (song, match["name"].casefold()) if song else None
    return None


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
    there = f"{', '.join(sorted(path.name for path in files.values()))}. {OTHER_NAMES}"
    if vocal is None and not accompaniment:
        mix = there.partition(". ")[0]
        return Rejection(id, f"a mix without stems ({mix}); {SEPARATION}")
    if vocal is None:
        return Rejection(id, f"no vocal ({' or '.join(vocal_names[:2])}), found {there}")
    if not accompaniment:
        return Rejection(
            id, f"no accompaniment ({' or '.join(accompaniment_names[:3])}), found {there}"
        )
    return StemPair(id, vocal, tuple(accompaniment))
