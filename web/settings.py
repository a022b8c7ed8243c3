"""Bounds of the page's server, and the folders it reads and writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from utils.checkpoint import KINDS, stored_step
from utils.flags import DEMO, POSTNETS, SAVE

Runs = Mapping[str, Mapping[str, Path]]  # kind → name → file or folder
EXAMPLES = Path("examples")
DEMO_RUN, NO_RUN = "demo", "none"
MEL_INPAINTER = "mel_inpainter"
CHOSEN_KINDS = tuple(kind for kind in KINDS if kind != "transcriber")


@dataclass(frozen=True)
class Settings:
    """What the server may use, and how much of it one visitor may take."""

    folder: Path = Path("out/web")  # of the sessions
    save: Path = SAVE  # of the runs that can be chosen
    demo: Path = DEMO  # of the weights that ship
    examples: Path = EXAMPLES
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    upload_bytes: int = 100 * 2**20  # of a recording
    score_bytes: int = 5 * 2**20  # of a melody file
    json_bytes: int = 2 * 2**20  # of any other request
    song_seconds: float = 600.0  # of a recording
    most_notes: int = 5000  # of a plan that is sent back
    most_takes: int = 20  # of a session; the oldest goes
    most_sessions: int = 50  # the one unused longest goes
    most_waiting: int = 10  # renderings in the queue
    session_hours: float = 24.0  # unused, before a session is swept
    hosts: tuple[str, ...] = ()  # names that the page may be called by, besides loopback
    any_address: bool = False  # whether it may be called by any IP address


def find_runs(settings: Settings) -> dict[str, dict[str, Path]]:
    """Return by kind the checkpoints that can be chosen: name → file or run folder.

    The first of a kind is its default: the weights that ship where they are there; for the
    inpainter else `NO_RUN`, the draft as the vocal.
    """
    found: dict[str, dict[str, Path]] = {}
    for kind in CHOSEN_KINDS:
        names = {DEMO_RUN: f"{kind}.pt"}
        if kind == "postnet":  # DEMO_RUN of what is sung: see `song_request`
            names |= POSTNETS
        runs = {
            name: settings.demo / file
            for name, file in names.items()
            if (settings.demo / file).is_file()
        }
        folders = (settings.save / kind).glob("*/")
        for folder in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True):
            if folder.name not in runs and any(folder.glob("*.pt")):
                runs[folder.name] = folder
        found[kind] = runs
    mels = settings.demo / f"{MEL_INPAINTER}.pt"
    found[MEL_INPAINTER] = {DEMO_RUN: mels} if mels.is_file() else {}
    return found


def describe_runs(found: Runs) -> dict[str, list[dict[str, Any]]]:
    """Describe the checkpoints for the page: name and step of each, by kind."""
    described: dict[str, list[dict[str, Any]]] = {
        kind: [{"name": name, "step": _step_of(path)} for name, path in runs.items()]
        for kind, runs in found.items()
    }
    for kind in ("inpainter", MEL_INPAINTER):
        described[kind].append({"name": NO_RUN, "step": None})
    return described


def _step_of(path: Path) -> int | None:
    """Return the step of the checkpoint that a run would be sung with."""
    if path.is_file():
        return stored_step(path)
    files = [path / name for name in ("best.pt", "last.pt") if (path / name).is_file()]
    return stored_step(files[0]) if files else None
