"""What a request takes from the checkpoints that it names, before any network is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace
from typing import TYPE_CHECKING

from singing.request import COMPOSE, LINE_LENGTHS, NONE, SAMPLING, SongRequest, section_of
from text.lyrics import parse_lyrics
from utils import config
from utils.checkpoint import SECTIONS, Stored, load_facts

if TYPE_CHECKING:
    from hyperparams import Hyperparams
    from utils.loading import Loaded


def with_syllables(request: SongRequest) -> SongRequest:
    """Give an accompaniment alone a syllable to be sung on, and say so.

    Only where there is a voice that knows notes, an inpainter (if any) that takes its draft, and no
    inpainter on mels, which sings without words by itself. Else the request is returned as it is;
    ValueError when a melody was to be composed.
    """
    files = request.files
    if files is None or files.vocal is not None or request.mel_inpainter is not None:
        return request
    if request.has_words or request.melody.source == NONE:
        return request
    syllable = _syllable_for(request)
    if syllable is None:
        if request.melody.source == COMPOSE:
            raise ValueError(
                f"--melody {COMPOSE} without --lyrics needs a voice that knows notes, an inpainter "
                "that takes a draft, and synthesis.vocalise: give words, or another --checkpoint"
            )
        return request
    print(
        f"no lyrics: {syllable!r} is sung on a melody composed for the accompaniment; --lyrics "
        f"gives it words, --melody {NONE} leaves all of it to the inpainter"
    )
    lines = "\n".join(" ".join([syllable] * length) for length in LINE_LENGTHS)
    return replace(request, lyrics=parse_lyrics(lines), is_vocalise=True)


def _syllable_for(request: SongRequest) -> str | None:
    """Return the syllable that the networks of a request can be given; None where they cannot."""
    if request.inpainter is not None:
        unet = load_facts(request.inpainter, "inpainter").hyperparams.unet
        if not unet.draft_input:
            return None
    try:
        facts = load_facts(request.transformer, "transformer")
    except FileNotFoundError:
        return None  # an inpainter alone; what it makes is said
    syllable = request.changed(facts.hyperparams).synthesis.vocalise
    return syllable if syllable != NONE and facts.data.get("pitch_range") else None


def sampling_hyperparams(request: SongRequest, loaded: Loaded | Stored, kind: str) -> Hyperparams:
    """Return a checkpoint's hyperparameters with the sections of SAMPLING as they are wanted now.

    They touch no weight, so hyperparams.py counts as it stands, for the preset that the network
    was trained with, and then the request. Prints what the checkpoint had stored otherwise.
    """
    stored, own = loaded.hyperparams, SECTIONS[kind]
    presets = config.presets()
    name = nearest_preset(stored, presets, set(own) - set(SAMPLING))
    current = replace(stored, **{part: getattr(presets[name], part) for part in SAMPLING})
    shown = {*own, "composer"} if kind == "transformer" else set(own)
    shown -= (
        {"inpainting" if stored.unet.mel else "mel_inpainting"} if kind == "inpainter" else set()
    )
    for knob, (before, now) in config.changed(stored, current).items():
        if section_of(knob) in shown:
            print(
                f"{knob} = {now}, as hyperparams.py has it (preset {name}); {loaded.path} was "
                f"saved with {before}: --set {knob}={before} takes that"
            )
    return request.changed(current)


def nearest_preset(
    stored: Hyperparams, presets: Mapping[str, Hyperparams], sections: Set[str]
) -> str:
    """Return the preset that differs from a checkpoint in the fewest knobs of these sections."""

    def distance(name: str) -> int:
        return sum(section_of(knob) in sections for knob in config.changed(stored, presets[name]))

    return min(presets, key=distance)
