"""Several takes of a song: sung as one batch, judged phrase by phrase, the best written first.

A take is a seed: take t of seed s is what `--seed` s + t sings. Takes of a composed melody differ
in the melody and are ranked as wholes; takes of one melody differ in its performance, and the best
of every phrase are joined (a singer's "comp"): rank k has the k-th best of every phrase.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from composer.harmony import chord_tone_ratio
from singing.melody import MelodyResult, make_melody, resolve_melody
from singing.request import COMPOSE, NONE, SongRequest
from singing.sing import open_request, requested_mels, requested_voice, restoring, sing_song
from singing.vocalise import with_syllables
from singing.voice import (
    Phrase,
    Refine,
    RenderedPhrase,
    Voice,
    render_phrases,
    render_refined,
    seeds_of,
    sung_phrases,
)
from text.frontend import Pronouncer

if TYPE_CHECKING:
    import torch

    from singing.song import SongAudio

MELODY, PERFORMANCE = "melody", "performance"
MOST_TAKES = 64
WEIGHTS = {  # of a phrase's scores, each 0 to 1, in what its takes are ranked by
    "phonemes": 1.0,
    "words": 0.25,
    "notes": 1.0,
}
CHORD_WEIGHT = 3.0  # of notes on beats that are of the chord: what an independent judge confirms


class PhraseJudge(Protocol):
    """What scores a sung phrase, each score 0 to 1, more is better."""

    @property
    def name(self) -> str:
        """Which judge that is, for the report."""

    def __call__(self, rendered: RenderedPhrase, sample_rate: int) -> dict[str, float]:
        """Score a phrase."""


@dataclass(frozen=True)
class TakesRequest:
    """How many takes, how many of them are kept, and in what they differ."""

    count: int
    keep: int = 1
    vary: str | None = None  # MELODY or PERFORMANCE; None: the melody where it is composed

    def __post_init__(self) -> None:
        """Raise ValueError for numbers that cannot be."""
        if not 2 <= self.count <= MOST_TAKES:
            raise ValueError(f"--takes {self.count}: expected 2 to {MOST_TAKES}")
        if not 1 <= self.keep <= self.count:
            raise ValueError(f"--keep {self.keep}: expected 1 to the {self.count} of --takes")


@dataclass(frozen=True)
class RankedTake:
    """A take to be sung: its seed, or those of its phrases, and its scores."""

    seed: int
    phrase_seeds: tuple[int, ...] | None
    score: float
    scores: dict[str, float]  # means over its phrases

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for report.json."""
        seeds = None if self.phrase_seeds is None else list(self.phrase_seeds)
        return {
            "seed": self.seed,
            "phrase_seeds": seeds,
            "score": self.score,
            "scores": self.scores,
        }


def sing_takes(
    request: SongRequest, takes: TakesRequest, device: torch.device, judge: PhraseJudge
) -> tuple[list[Path], list[str]]:
    """Sing the best of several takes to `request.out`, the others kept to its take-2 and so on.

    Returns the paths written, and remarks for the user; report.json of every folder has all scores
    of all takes. Raises ValueError where nothing is sung, and as singing.sing.sing_song.
    """
    request = with_syllables(request)
    if not request.has_words:
        raise ValueError("--takes ranks takes by their words: give --lyrics or a --melody FILE")
    voice = requested_voice(request, device)
    voice.keeps_attention = False  # nothing is drawn of what is only judged
    melody = resolve_melody(request, voice)
    if melody.source == NONE:
        why = (
            "--vocal changes one take, which is there"
            if request.files is not None and request.files.vocal is not None
            else "these lyrics are spoken"
        )
        raise ValueError(f"--takes ranks whole sung takes, and {why}: leave --takes out")
    vary = takes.vary or (MELODY if melody.source == COMPOSE else PERFORMANCE)
    if vary == MELODY and melody.source != COMPOSE:
        raise ValueError(f"--vary {MELODY}: the melody of {melody.source} is what it is")
    song = None
    if request.files is not None:
        song = open_request(request, voice.hyperparams.audio.sample_rate)
    melodies = _melodies(request, voice, song, takes.count if vary == MELODY else 1)
    frame = 1.0 / voice.hyperparams.audio.frame_rate
    phrases = [sung_phrases(m.underlay, m.line_numbers, frame) for m in melodies]
    phrases *= 1 if vary == MELODY else takes.count
    seeds = [seeds_of(request.seed + take, len(part)) for take, part in enumerate(phrases)]
    mels = requested_mels(request, device, voice)
    restorations = [
        restoring(mels, voice, song, request.seed + (take if vary == MELODY else 0))
        for take in range(takes.count)
    ]
    scores = _judged(voice, phrases, seeds, judge, restorations)
    if vary == MELODY:
        ranked = rank_melodies(request.seed, phrases, scores, melodies)
    else:
        ranked = rank_performances(request.seed, phrases[0], seeds, scores)
    for place, take in enumerate(ranked, start=1):
        parts = ", ".join(f"{name} {value:.3f}" for name, value in take.scores.items())
        kept = "" if place <= takes.keep else ", not kept"
        print(f"take {place}: {take.score:.3f} ({parts}){kept}", file=sys.stderr)
    report = {
        "judge": judge.name,
        "vary": vary,
        "weights": WEIGHTS | ({"chords": CHORD_WEIGHT} if vary == MELODY else {}),
        "ranked": [take.as_dict() for take in ranked],
        "phrases": scores,  # by take, from seed on, and phrase
    }
    paths: list[Path] = []
    remarks: list[str] = []
    for place, take in enumerate(ranked[: takes.keep], start=1):
        chosen = replace(
            request,
            out=request.out if place == 1 else request.out / f"take-{place}",
            seed=take.seed,
            phrase_seeds=take.phrase_seeds,
            takes={"rank": place, **report},
        )
        written, noted = sing_song(chosen, device)
        paths += written
        remarks += [line for line in noted if line not in remarks]
    return paths, remarks


def _melodies(
    request: SongRequest, voice: Voice, song: SongAudio | None, count: int
) -> list[MelodyResult]:
    """Make `count` melodies of a request, of seeds in a row."""
    backing = None
    if song is not None:
        backing = song.backing(voice.hyperparams.audio.sample_rate)
    pronouncer = Pronouncer(request.lexicon)
    return [
        make_melody(replace(request, seed=request.seed + take), voice, pronouncer, backing)
        for take in range(count)
    ]


Scores = list[list[dict[str, float]]]  # by take and phrase


def _judged(
    voice: Voice,
    phrases: Sequence[Sequence[Phrase]],
    seeds: Sequence[Sequence[int]],
    judge: PhraseJudge,
    restorations: Sequence[Refine | None],
) -> Scores:
    """Render the phrases of all takes together, and score each.

    Where an inpainter on mels restores them, one take after the other: it hears whole songs.
    """
    rate = voice.hyperparams.audio.sample_rate
    parts = list(zip(phrases, seeds, restorations, strict=True))
    if any(restorations):
        takes = [render_refined(voice, p, s, r) for p, s, r in parts if r is not None]
        return [[judge(rendered, rate) for rendered in take] for take in takes]
    flat = [phrase for part in phrases for phrase in part]
    sung = iter(render_phrases(voice, flat, [seed for part in seeds for seed in part]))
    return [[judge(next(sung), rate) for _ in part] for part in phrases]


def total(scores: Mapping[str, float]) -> float:
    """Return what a phrase's takes are ranked by: the weighted mean of its scores, 0 to 1."""
    return sum(w * scores[name] for name, w in WEIGHTS.items()) / sum(WEIGHTS.values())


def rank_performances(
    seed: int, phrases: Sequence[Phrase], seeds: Sequence[Sequence[int]], scores: Scores
) -> list[RankedTake]:
    """Join the best of every phrase to the first take, the second best to the second, and so on."""
    totals = np.array([[total(part) for part in take] for take in scores])  # (takes, phrases)
    order = np.argsort(-totals, axis=0, kind="stable")
    ranked = []
    for row in order:
        chosen = [scores[take][i] for i, take in enumerate(row.tolist())]
        own = tuple(seeds[take][i] for i, take in enumerate(row.tolist()))
        means = _means(chosen, phrases)
        ranked.append(RankedTake(seed, own, total(means), means))
    return ranked


def rank_melodies(
    seed: int,
    phrases: Sequence[Sequence[Phrase]],
    scores: Scores,
    melodies: Sequence[MelodyResult],
) -> list[RankedTake]:
    """Rank whole takes by the mean of their phrases and by how their notes fit the chords."""
    ranked = []
    for take, (parts, own, melody) in enumerate(zip(phrases, scores, melodies, strict=True)):
        means = _means(own, parts)
        score = total(means)
        notes = [(n.onset, n.offset, n.pitch) for n in melody.underlay.score.notes]
        fit = chord_tone_ratio(notes, melody.harmony) if melody.harmony else float("nan")
        if np.isfinite(fit):
            means["chords"] = fit
            weight = sum(WEIGHTS.values())
            score = (weight * score + CHORD_WEIGHT * fit) / (weight + CHORD_WEIGHT)
        ranked.append(RankedTake(seed + take, None, score, means))
    return sorted(ranked, key=lambda ranked: -ranked.score)


def _means(scores: Sequence[Mapping[str, float]], phrases: Sequence[Phrase]) -> dict[str, float]:
    """Return the mean of every score over phrases, each counting by its words."""
    weights = [max(1, len(phrase.words)) for phrase in phrases]
    return {
        name: float(np.average([part[name] for part in scores], weights=weights))
        for name in scores[0]
    }
