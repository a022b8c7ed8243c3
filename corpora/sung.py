"""How every sung corpus ends: phrases with scores under NAME, stems under NAME-stems.

The songs are a songbook's takes or recordings; `songs/ID/song.json` says what was sung. Arrays are
made here, or by shards (corpora/shards.py), whose parts `merged` brings together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpora import shards, songs, speech
from corpora.cache import BuildReport, Outcome
from corpora.phoneme_times import write_phoneme_times
from corpora.records import LOUDNESS, Rejection, Shard, Split, StemPair
from corpora.songbook import (
    Rendering,
    entries,
    remove_others,
    split_with_songs,
    timed_phrases,
    timed_songs,
)
from text.symbols import SYMBOLS
from utils.files import Journal, read_json, write_json

if TYPE_CHECKING:
    from hyperparams import Audio

SONGBOOK, SINGING = "songbook", "singing"  # subcommands of prepare_data.py


@dataclass(frozen=True)
class SungCorpus:
    """Where the songs of a sung corpus go, and how."""

    layout: str  # SONGBOOK or SINGING
    directory: Path
    source: str  # name of the folder that it comes from
    audio: Audio
    split: Split  # as it was asked for
    workers: int
    strict: bool
    loudness: float = LOUDNESS
    linear: str = speech.STORED  # or made on the fly
    pairs: dict[str, StemPair] = field(default_factory=dict)  # by id of the song, if it has stems

    @property
    def stems(self) -> Path:
        """The folder of its stems."""
        return stems_of(self.directory)

    def pairs_of(self, renderings: Sequence[Rendering]) -> list[StemPair]:
        """Return the pairs of the songs that have a usable phrase, or are a songbook's."""
        is_wanted = [self.layout == SONGBOOK or bool(r.made["phrases"]) for r in renderings]
        wanted = [r for r, is_one in zip(renderings, is_wanted, strict=True) if is_one]
        return [self.pairs[r.id] for r in wanted if r.id in self.pairs]

    def phrase_outcomes(
        self, renderings: Sequence[Rendering], journal: Journal
    ) -> Iterator[Outcome]:
        """Make the arrays of all phrases."""
        phrases = entries(renderings, self.directory)
        common = self.source, self.audio, self.split, self.workers
        return speech.extract_all(phrases, self.directory, *common, journal, self.linear)

    def stem_outcomes(self, renderings: Sequence[Rendering], journal: Journal) -> Iterator[Outcome]:
        """Make the arrays of all stems."""
        common = self.source, self.audio, self.split, self.workers, journal
        pairs, scores = self.pairs_of(renderings), scores_of(renderings)
        return songs.make_all(pairs, self.stems, *common, self.loudness, scores)


def stems_of(directory: Path) -> Path:
    """Return where the stems of feature/NAME are."""
    return directory.with_name(f"{directory.name}-stems")


def scores_of(renderings: Sequence[Rendering]) -> dict[str, dict[str, Any]]:
    """Return {id: {symbols, score}} of whole songs."""
    return {r.id: {name: r.made[name] for name in ("symbols", "score")} for r in renderings}


def usable(renderings: Sequence[Rendering]) -> list[Rendering]:
    """Return the renderings that have a song.json."""
    return [rendering for rendering in renderings if rendering.record is not None]


def faults(renderings: Sequence[Rendering]) -> list[Rejection]:
    """Return why the others have none."""
    return [Rejection(r.id, r.fault) for r in renderings if r.fault is not None]


def built(
    corpus: SungCorpus, renderings: Sequence[Rendering], rejections: Sequence[Rejection]
) -> Iterator[BuildReport]:
    """Make arrays and index of the phrases, then of the stems, where there are some."""

    def phrases(made: list[Rendering], split: Split, why: list[Rejection]) -> BuildReport:
        audio, rest = corpus.audio, (corpus.workers, why, corpus.strict, corpus.linear)
        found = entries(made, corpus.directory)
        return speech.build_speech(
            found, corpus.directory, corpus.source, audio, SYMBOLS, split, *rest
        )

    def stems(made: list[Rendering], split: Split) -> BuildReport:
        pairs, audio, rest = corpus.pairs_of(made), corpus.audio, (corpus.workers, ())
        more = corpus.strict, corpus.loudness, scores_of(made)
        return songs.build_songs(pairs, corpus.stems, corpus.source, audio, split, *rest, *more)

    with_stems = {pair.id for pair in corpus.pairs_of(usable(renderings))}
    known = [*rejections, *faults(renderings)]
    place = corpus.layout, corpus.directory, corpus.split
    yield from _ended(*place, usable(renderings), known, with_stems, phrases, stems)


def build_sung_shard(
    corpus: SungCorpus,
    shard: Shard,
    renderings: Sequence[Rendering],
    head: shards.Head,
) -> Iterator[str]:
    """Make the arrays of one shard, whose songs are `renderings`; yield lines about it."""
    made = usable(renderings)
    units = [
        shards.Unit(0, (Rejection(r.id, r.fault or ""),))
        if r.record is None
        else shards.Unit(len(r.made["phrases"]), (), r.id)
        for r in renderings
    ]

    def phrases(journal: Journal) -> Iterator[Outcome]:
        return corpus.phrase_outcomes(made, journal)

    def stems(journal: Journal) -> Iterator[Outcome]:
        return corpus.stem_outcomes(made, journal)

    yield shards.build_shard(shard, corpus.directory, head, units, phrases, corpus.strict)
    if head.stems:
        with_stems = {pair.id for pair in corpus.pairs_of(made)}
        units = [shards.Unit(int(rendering.id in with_stems)) for rendering in renderings]
        index = songs.songs_head(corpus.source, corpus.audio, corpus.split, corpus.loudness)
        head = dataclasses.replace(head, index=index, rejections=())
        yield shards.build_shard(shard, corpus.stems, head, units, stems, corpus.strict)


def shard_head(
    corpus: SungCorpus, songs: int, mark: str, rejections: Sequence[Rejection], stems: bool
) -> shards.Head:
    """Return what all shards of a sung corpus have in common; mark: fingerprint of its songs."""
    index = speech.speech_head(corpus.source, corpus.audio, SYMBOLS, corpus.split, corpus.linear)
    return shards.Head(corpus.layout, index, songs, mark, rejections, stems)


def merged_renderings(parts: shards.Parts) -> list[Rendering]:
    """Read what was sung in all shards, in the order of the corpus."""
    paths = {id: parts.directory / "songs" / id / "song.json" for id in parts.renderings()}
    return [Rendering(id, read_json(path), None, True) for id, path in paths.items()]


def merged(
    parts: shards.Parts, renderings: Sequence[Rendering], strict: bool
) -> Iterator[BuildReport]:
    """Make the indices of phrases and stems from shards, and remove these."""
    of_stems = shards.Parts(stems_of(parts.directory)) if parts.head.stems else None

    def phrases(made: list[Rendering], split: Split, why: list[Rejection]) -> BuildReport:
        return shards.merge(parts, strict, split, why)

    def stems(made: list[Rendering], split: Split) -> BuildReport:
        assert of_stems is not None  # it says which songs have some
        return shards.merge(of_stems, strict, split)

    with_stems = set(of_stems.ids()) if of_stems is not None else set[str]()
    place = parts.head.layout, parts.directory, parts.split
    known = parts.rejections()
    yield from _ended(*place, list(renderings), known, with_stems, phrases, stems)
    for done in (parts, of_stems):
        if done is not None:
            done.remove()


def _ended(
    layout: str,
    directory: Path,
    asked: Split,
    made: list[Rendering],
    rejections: list[Rejection],
    with_stems: set[str],
    phrases: Callable[[list[Rendering], Split, list[Rejection]], BuildReport],
    stems: Callable[[list[Rendering], Split], BuildReport],
) -> Iterator[BuildReport]:
    """Part the songs into splits, and make both indices by `phrases` and `stems`."""
    remove_others(made, directory)
    ids = [rendering.id for rendering in made]
    if layout == SINGING:
        rejections += [Rejection(**entry) for r in made for entry in r.made["left_out"]]
        write_json(directory / "report.json", recordings_report(made, rejections), indent=1)
        ids = [phrase["id"] for rendering in made for phrase in rendering.made["phrases"]]
        if not ids:
            raise ValueError(
                f"{directory}: no phrase is usable"
                + "".join(f"\n  {r.id}: {r.reason}" for r in rejections[:20])
            )
    split = split_with_songs(ids, asked)
    yield phrases(made, split, rejections)
    write_phoneme_times(directory, timed_phrases(made))
    if with_stems:
        yield stems(made, split)
        write_phoneme_times(
            stems_of(directory), timed_songs([r for r in made if r.id in with_stems])
        )


def recordings_report(
    renderings: Sequence[Rendering], rejections: Sequence[Rejection]
) -> dict[str, Any]:
    """Return what report.json says of a corpus of recorded singing."""
    return {
        "recordings": {
            rendering.id: rendering.made["report"]
            | {"phrases": len(rendering.made["phrases"]), "remarks": rendering.made["remarks"]}
            for rendering in renderings
        },
        "left_out": [dataclasses.asdict(rejection) for rejection in rejections],
    }
