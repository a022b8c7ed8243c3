"""Songs with lyrics to aligned stems and sung phrases: a legal corpus out of packages alone.

DIR holds MusicXML (.mxl, .musicxml, .xml) or songs in our notation (.song). Every take becomes
songs/ID/{vocal.wav, accompaniment.wav, vocal.mid, accompaniment.mid, song.json}, its phrases
phrases/ID.NUMBER.wav. ID is FILE@TAKE: all takes and phrases of a song are in one split.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from corpora.accompanist import find_soundfont, missing_program, play, velocities, write_backing
from corpora.cache import fingerprint, run_parallel
from corpora.other_words import with_other_words
from corpora.records import (
    TAKE_MARK,
    Rejection,
    SongbookSettings,
    Split,
    StemPair,
    Utterance,
    id_fault,
    song_of,
)
from corpora.singer import Singer, missing_packages
from corpora.speech import Entry
from corpora.sung_takes import (
    LEVEL_BLOCK,
    PEAK,
    VOCAL_LEVEL,
    Span,
    SungArrangement,
    contour_of,
    sing_arrangement,
)
from corpora.takes import arrange, performed, take_of
from music.inputs import LONGEST_ITEM, SHORTEST_ITEM, item_groups, phrase_inputs
from music.midi import write_midi
from music.musicxml import read_musicxml
from music.notation import read_notation
from music.score import Score
from music.song import Song
from music.underlay import sing
from text.frontend import Pronouncer
from utils.audio import levelled, write_wav
from utils.files import UNREADABLE, reading, sha256_of, write_json
from utils.seeds import numpy_generator

if TYPE_CHECKING:
    from hyperparams import Audio

VERSION = 9  # of the rendering: raised when the same settings give other audio
PERFORMANCE_VERSION = "performance 1"  # of takes with performances, the others as they were
OTHER_WORDS_VERSION = "other words 1"  # of takes to other words
SUFFIXES = (".mxl", ".musicxml", ".xml", ".song")
LONGEST_PHRASE = 15.0  # s; a longer one is no unit to learn from


@dataclass(frozen=True)
class TakeTask:
    """One take on its way to a worker."""

    id: str
    path: Path
    number: int
    directory: Path
    sample_rate: int
    soundfont: Path
    lexicon: Path | None
    settings: SongbookSettings


@dataclass(frozen=True)
class Rendering:
    """What a worker brings back: the content of song.json, or why there is none."""

    id: str
    record: dict[str, Any] | None
    fault: str | None
    kept: bool

    @property
    def made(self) -> dict[str, Any]:
        """The content of song.json, of a rendering that has one."""
        assert self.record is not None
        return self.record


def read_song(path: Path) -> Song:
    """Return the song of a file, by its suffix."""
    with reading(path):
        return read_notation(path) if path.suffix.lower() == ".song" else read_musicxml(path)


def find_songs(directory: Path) -> tuple[list[Path], list[Rejection]]:
    """List the song files of DIR, and those that cannot have an id.

    Raises FileNotFoundError when there is none.
    """
    directory = Path(directory)
    paths = sorted(p for p in directory.glob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        raise FileNotFoundError(
            f"{directory}: no song found; expected files {', '.join('*' + s for s in SUFFIXES)}, "
            "for example: python prepare_data.py songbook examples/songs --name free"
        )
    songs, rejections, seen = [], [], set[str]()
    for path in paths:
        fault = id_fault(path.stem) or (TAKE_MARK in path.stem and f"the id holds {TAKE_MARK!r}")
        fault = fault or (path.stem in seen and "another file has the same name")
        if fault:
            rejections.append(Rejection(path.name, fault))
        else:
            seen.add(path.stem)
            songs.append(path)
    return songs, rejections


def find_takes(
    directory: Path,
    target: Path,
    audio: Audio,
    settings: SongbookSettings,
    split: Split,
    soundfont: Path | None = None,
    lexicon: Path | None = None,
) -> tuple[list[TakeTask], list[Rejection]]:
    """List every take of every song of DIR, to be rendered below `target`.

    Takes to other words are numbered behind the others; the songs of `split` that are not trained
    on have none.

    Raises RuntimeError when the voice or fluidsynth is missing, FileNotFoundError without songs or
    soundfont; both name the command to run.
    """
    missing = missing_packages() or missing_program()
    if missing:
        raise RuntimeError(missing)
    font = find_soundfont(soundfont)
    songs, rejections = find_songs(directory)
    tasks = [
        TakeTask(
            f"{path.stem}{TAKE_MARK}{number}",
            path,
            number,
            target,
            audio.sample_rate,
            font,
            lexicon,
            settings,
        )
        for path in songs
        for number in range(
            settings.takes + settings.other_words * (split.of(path.stem) == "train")
        )
    ]
    return tasks, rejections


def render_takes(tasks: Sequence[TakeTask], workers: int, source: str) -> list[Rendering]:
    """Render takes, keeping what is there already; `source` names the corpus."""
    return list(run_parallel(render_one, tasks, workers, f"singing {source}", chunk=1))


@cache  # a process loads it once, when the first take is not there yet
def _voice(lexicon: Path | None) -> tuple[Singer, Pronouncer]:
    return Singer(), Pronouncer(lexicon)


def render_one(task: TakeTask) -> Rendering:
    """Render a take; what faults it has are said in its place."""
    mark = fingerprint(
        VERSION, sha256_of(task.path), task.number, task.sample_rate, task.soundfont.name,
        task.settings.seconds, task.settings.seed,
        sha256_of(task.lexicon) if task.lexicon else None,
        *([PERFORMANCE_VERSION] if task.settings.performance else []),
        *([OTHER_WORDS_VERSION] if task.number >= task.settings.takes else []),
    )  # fmt: skip
    record = _finished(task, mark)
    if record is not None:
        return Rendering(task.id, record, None, True)
    try:
        record = render_take(task, mark, *_voice(task.lexicon))
        return Rendering(task.id, record, None, False)
    except (ValueError, *UNREADABLE) as error:  # one bad file never ends a build
        what = str(error) if isinstance(error, ValueError) else f"{task.path}: {error!r}"
        return Rendering(task.id, None, what, False)


def _finished(task: TakeTask, mark: str) -> dict[str, Any] | None:
    """Return the record of an earlier rendering when it is complete and of the same origin."""
    path = task.directory / "songs" / task.id / "song.json"
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        files = [path.with_name(f"{name}.wav") for name in ("vocal", "accompaniment")]
        files += [phrase_path(task.directory, phrase["id"]) for phrase in record["phrases"]]
        return record if record["fingerprint"] == mark and all(f.is_file() for f in files) else None
    except (ValueError, KeyError, TypeError):
        return None  # written by another version: rendered again


def phrase_path(directory: Path, id: str) -> Path:
    """Return where the audio of a phrase lies."""
    return directory / "phrases" / f"{id}.wav"


def render_take(
    task: TakeTask, mark: str, singer: Singer, pronouncer: Pronouncer
) -> dict[str, Any]:
    """Render one take and return its record; song.json is written last.

    Raises ValueError for a song without words, without accompaniment, or that cannot be sung.
    """
    song = read_song(task.path)
    underlay = sing(song.melody, pronouncer)
    if not song.backing:
        raise ValueError("the song has no accompaniment: no other part and no chords")
    settings = task.settings
    performance = settings.performance
    take = take_of(task.path.stem, task.number, settings.seed, len(song.backing), performance)
    score = underlay.score
    if task.number >= settings.takes:
        generator = numpy_generator(settings.seed, task.id, "other words")
        score = with_other_words(score, generator)
    arrangement = arrange(song, score, take, settings.seconds)
    if performance:
        arrangement = performed(arrangement, take.manner)
    folder = task.directory / "songs" / task.id
    folder.mkdir(parents=True, exist_ok=True)
    sung = sing_arrangement(arrangement, take, singer, task.sample_rate)
    vocal, sounding = sung.wav, sung.sounding
    tempo = arrangement.phrases[0].tempo
    loudness = [
        velocities(part, take.velocity, take.swell, take.swell_seconds)
        for part in arrangement.backing
    ]
    write_backing(arrangement.backing, loudness, tempo, folder / "accompaniment.mid")
    write_midi(arrangement.score, folder / "vocal.mid")
    accompaniment = play(folder / "accompaniment.mid", task.soundfont, task.sample_rate, len(vocal))
    level, block = VOCAL_LEVEL + take.balance, round(LEVEL_BLOCK * task.sample_rate)
    accompaniment = levelled(accompaniment, level, block, PEAK)
    write_wav(folder / "vocal.wav", vocal, task.sample_rate)
    write_wav(folder / "accompaniment.wav", accompaniment, task.sample_rate)
    guessed = set(underlay.guessed)
    place = task.id, task.directory, task.sample_rate
    phrases = write_items(*place, arrangement.phrases, sung, guessed)
    end = len(vocal) / task.sample_rate
    inputs = phrase_inputs(arrangement.score, 0.0, end)
    record = {
        "id": task.id,
        "fingerprint": mark,
        "title": song.title,
        "composer": song.composer,
        "source": task.path.name,
        "take": dataclasses.asdict(take),
        "sample_rate": task.sample_rate,
        "num_samples": len(vocal),
        "symbols": list(inputs.symbols),
        "score": inputs.to_dict(),
        "times": symbol_times(arrangement.score, chain(*sounding), 0.0, end),
        "syllables": syllable_records(arrangement.score),
        "phrases": phrases,
        "guessed": list(underlay.guessed),
        "remarks": list(underlay.remarks),
    }
    write_json(folder / "song.json", record)
    return record


def syllable_records(score: Score) -> list[dict[str, Any]]:
    """Return the words, notes and phonemes of a score as plain values, times in seconds."""
    return [
        {
            "text": syllable.text,
            "phonemes": list(syllable.phonemes),
            "word": syllable.word,
            "line": syllable.line,
            "notes": [[round(n.onset, 5), round(n.offset, 5), n.pitch] for n in syllable.notes],
        }
        for syllable in score.syllables
    ]


def symbol_times(
    score: Score, syllables: Iterable[Sequence[Span]], start: float, end: float
) -> dict[str, list[float]]:
    """Return when the symbols of a phrase from `start` to `end` s sound, in seconds from `start`.

    syllables: onset and offset of each syllable's phonemes, in seconds of the song. A word boundary
    lasts from the phoneme before it to the one after it, the end mark to the end.
    """
    spans: list[Span] = []
    boundaries: list[int] = []  # places of word boundaries and of the end mark
    for syllable, phonemes in zip(score.syllables, syllables, strict=True):
        spans += phonemes
        if syllable.ends_word or syllable is score.syllables[-1]:
            boundaries.append(len(spans))
            spans.append((end, end))
    for place in boundaries:
        following = spans[place + 1][0] if place + 1 < len(spans) else end
        spans[place] = (min(spans[place - 1][1], following), following)
    times = np.clip(np.array(spans) - start, 0.0, end - start).round(4)
    return {"onset": times[:, 0].tolist(), "offset": times[:, 1].tolist()}


def write_items(
    id: str,
    directory: Path,
    sample_rate: int,
    breaths: Sequence[Score],
    sung: SungArrangement,
    guessed: set[str],
) -> list[dict[str, Any]]:
    """Cut a voice into items of one or more breaths, write them, and return their records.

    They are of the voice without its loudness and breaths, and their scores have the F0 where it is
    known: a network is told all that varies.
    """
    rate, vocal, spans = sample_rate, sung.neutral, sung.spans
    records: list[dict[str, Any]] = []
    groups = item_groups(breaths, SHORTEST_ITEM, LONGEST_ITEM)
    for index, group in enumerate(groups):
        syllables = tuple(s for number in group for s in breaths[number].syllables)
        score = dataclasses.replace(breaths[0], syllables=syllables)
        earliest = breaths[group[0] - 1].duration if group[0] else 0.0
        latest = len(vocal) / rate
        if group[-1] + 1 < len(spans):
            latest = max(spans[group[-1] + 1][0], syllables[-1].offset)
        first = round(max(spans[group[0]][0], earliest) * rate)
        last = round(min(spans[group[-1]][1], latest) * rate)
        if (last - first) / rate > LONGEST_PHRASE:
            continue
        phrase = f"{id}.{index:03d}"
        start, end = first / rate, last / rate
        bounds = min(start, syllables[0].onset), max(end, syllables[-1].offset)
        inputs = phrase_inputs(score, *bounds)
        write_wav(phrase_path(directory, phrase), vocal[first:last], rate)
        words = ["".join(s.text for s in word) for word in score.words()]
        record = {"id": phrase, "text": " ".join(words), "start": start, "end": end}
        record["guessed"] = sorted(guessed & {word.lower().strip(",.;:!?'\"") for word in words})
        written = inputs.to_dict()
        if sung.curves:
            curves = [sung.curves[number] for number in group]
            written["contour"] = contour_of(curves, score.notes, *bounds)
        record |= {"symbols": list(inputs.symbols), "score": written}
        parts = chain(*(sung.sounding[number] for number in group))
        records.append({**record, "times": symbol_times(score, parts, *bounds)})
    return records


def remove_others(renderings: Sequence[Rendering], directory: Path) -> int:
    """Delete the songs and phrases of an earlier build that are none of these; returns how many."""
    ids = {rendering.id for rendering in renderings}
    phrases = {p["id"] for rendering in renderings for p in rendering.made["phrases"]}
    folders = [f for f in sorted((directory / "songs").glob("*")) if f.name not in ids]
    files = [f for f in sorted((directory / "phrases").glob("*.wav")) if f.stem not in phrases]
    for folder in folders:
        shutil.rmtree(folder)
    for file in files:
        file.unlink()
    return len(folders) + len(files)


def entries(renderings: Sequence[Rendering], directory: Path) -> list[Entry]:
    """Return the phrases of renderings as utterances with scores, for `build_speech`."""
    return [
        Entry(
            Utterance(p["id"], phrase_path(directory, p["id"]), p["text"], p["text"], row),
            tuple(p["symbols"]),
            tuple(p["guessed"]),
            p["score"],
            rendering.made.get("voice", ""),
        )
        for row, rendering in enumerate(renderings, start=1)
        for p in rendering.made["phrases"]
    ]


def phrase_places(directory: Path) -> dict[str, tuple[str, float]]:
    """Return where each phrase of a prepared songbook was cut: phrase id → (take, start in s)."""
    places: dict[str, tuple[str, float]] = {}
    for path in sorted((directory / "songs").glob("*/song.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        places |= {p["id"]: (record["id"], float(p["start"])) for p in record["phrases"]}
    return places


def timed_phrases(renderings: Sequence[Rendering]) -> dict[str, dict[str, list[float]]]:
    """Return {id: {onset, offset: s of every symbol}} of all phrases."""
    return {p["id"]: p["times"] for r in renderings for p in r.made["phrases"]}


def timed_songs(renderings: Sequence[Rendering]) -> dict[str, dict[str, list[float]]]:
    """Return {id: {onset, offset: s of every symbol}} of all songs."""
    return {r.id: r.made["times"] for r in renderings}


def stem_pairs(renderings: Sequence[Rendering], directory: Path) -> list[StemPair]:
    """Return the songs of renderings as pairs of stems, for `build_songs`."""
    folders = ((r.id, directory / "songs" / r.id) for r in renderings)
    return [StemPair(i, f / "vocal.wav", (f / "accompaniment.wav",)) for i, f in folders]


def split_with_songs(ids: Sequence[str], split: Split) -> Split:
    """Return the split whose seed is the first, from that of `split`, to fill every split.

    Each gets at least half of its expected songs, and at least one when its share is not 0; a
    handful of songs would else often leave validation or test empty. Raises ValueError when there
    are fewer songs than splits.
    """
    songs = sorted({song_of(id) for id in ids})
    shares = {"validation": split.validation_share, "test": split.test_share}
    least = {k: max(1, int(0.5 * v * len(songs))) if v else 0 for k, v in shares.items()}
    least["train"] = 1
    if sum(least.values()) > len(songs):
        raise ValueError(
            f"{len(songs)} songs cannot fill {len(least)} splits; give more songs, or "
            "--validation-share 0 --test-share 0"
        )
    for seed in range(split.seed, split.seed + 10_000):
        candidate = dataclasses.replace(split, seed=seed)
        found = [candidate.of(song) for song in songs]
        if all(found.count(name) >= count for name, count in least.items()):
            return candidate
    raise ValueError(f"no seed near {split.seed} gives every split a song; enlarge the shares")
