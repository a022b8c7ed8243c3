"""What a campaign reads: for every kind of file sound ones, and a command line that reads one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tiny_corpora
import torch
from campaigns import sources
from campaigns.children import Child
from campaigns.mutations import (
    Damage,
    damaged_bytes,
    damaged_header,
    damaged_json,
    damaged_lines,
    damaged_text,
    damaged_zip,
    either,
)
from tiny import TINY, TINY_FLAGS

import prepare_data
import synthesis
import train_inpainter
import train_postnet
import transcribe
from utils import checkpoint, config, plotting

SILENT = "silently changed:"  # said by a reader below, which compares with what is sound
Read = Callable[[Path, Path], int]


@dataclass(frozen=True)
class Target:
    """A kind of input: sound files, what damages one, and the command line that reads it."""

    name: str
    seeds: Sequence[Path]
    damage: Damage
    main: Read  # damaged file, folder for the output
    named: str = ""  # what a refusal must name; empty: the damaged file
    weight: int = 3  # how often it is read, beside the others


def targets(work: Path) -> list[Target]:
    """Make sound inputs of every kind below `work`, and tiny networks to read them with."""
    config.presets()["tiny"] = TINY
    return [*song_targets(work), *corpus_targets(work)]


def song_targets(work: Path) -> list[Target]:
    """Return the targets that synthesis.py and transcribe.py read."""
    weights = sources.build_weights(work / "weights")
    backing = sources.write_sounds(work, "tone", 1.0)
    takes = sources.write_sounds(work, "take", 1.0)
    songs, midi, score, packed = sources.write_scores(work)
    settings = work / "settings.yaml"
    settings.write_text(config.to_yaml(TINY))
    quick = ["--postnet", weights / "postnet.pt", "--device", "cpu", "--set"]
    quick += ["synthesis.griffin_lim_iterations=2"]
    voice = ["--checkpoint", weights / "singer.pt"]
    corpus = sources.speech_corpus(work / "few", 5)

    def sing(*flags: object) -> int:
        return synthesis.main([str(flag) for flag in (*quick, *flags)])

    def over(path: Path, out: Path) -> int:
        words = ("--lyrics", "hello", "--melody", "none", "--inpainter", "none")
        return sing(*voice, "--accompaniment", path, *words, "--out", out)

    def again(path: Path, out: Path) -> int:
        parts = ("--vocal", path, "--inpaint", "0.2-0.5", "--steps", "2")
        network = ("--inpainter", weights / "inpainter.pt")
        return sing(*network, "--accompaniment", backing[0], *parts, "--out", out)

    def tune(path: Path, out: Path) -> int:
        return sing(*voice, "--melody", path, "--out", out)

    def words(path: Path, out: Path) -> int:
        return sing(*voice, "--lyrics", path, "--out", out)

    def lexicon(path: Path, out: Path) -> int:
        return sing(*voice, "--lyrics", "hello topliner", "--lexicon", path, "--out", out)

    def network(path: Path, out: Path) -> int:
        return sing("--checkpoint", path, "--lyrics", "hello", "--out", out)

    def network_bits(path: Path, out: Path) -> int:
        code = network(path, out)
        if code == 0:
            read = checkpoint.load(path, "transformer")["model"]
            sound = checkpoint.load(weights / "singer.pt", "transformer")["model"]
            if not all(torch.equal(read[name], sound[name]) for name in sound):
                print(SILENT, "other weights than were saved")
        return code

    def settings_of(path: Path, out: Path) -> int:
        flags = ["--config", path, "--name", "x", "--workers", "0", "--feature-dir", out]
        return prepare_data.main([str(f) for f in ("ljspeech", corpus, *flags)])

    def recording(path: Path, out: Path) -> int:
        return transcribe.main([str(path), "--out", str(out / "heard.mid"), "--device", "cpu"])

    lyrics = [sources.ROOT / "examples" / name for name in ("lyrics.txt", "lyrics.lrc")]
    singer = [weights / "singer.pt"]
    targets = [
        Target("accompaniment", backing, damaged_header, over),
        Target("vocal", takes, damaged_header, again),
        Target("midi", midi, damaged_bytes, tune),
        Target("musicxml", [score], damaged_text, tune),
        Target("mxl", [packed], either(damaged_zip, damaged_bytes), tune),
        Target("song", songs, damaged_text, tune),
        Target("lyrics", lyrics[:1], damaged_text, words),
        Target("lrc", lyrics[1:], damaged_text, words),
        Target("lexicon", [sources.ROOT / "examples" / "lexicon.txt"], damaged_text, lexicon),
        Target("config", [settings], damaged_text, settings_of),
        Target("checkpoint", singer, damaged_bytes, network_bits),
        Target("checkpoint zip", singer, damaged_zip, network),
    ]
    if (sources.ROOT / "save" / "demo" / "transcriber.pt").is_file():
        targets.append(Target("recording", takes, damaged_header, recording, weight=1))
    return targets


def corpus_targets(work: Path) -> list[Target]:
    """Return the targets that prepare_data.py and the trainings read."""
    feature = work / "feature"
    speech = sources.speech_corpus(work / "speech", 8)
    songs = tiny_corpora.stem_corpus(work / "songs", 6)
    for command, corpus, name in (("ljspeech", speech, "x"), ("stems", songs, "s")):
        made = Child(partial(sources.prepare, command, corpus, feature, name), work / "log.txt")
        assert made.wait().code == 0, (work / "log.txt").read_text()
    tiny_corpora.add_scores(feature / "s")
    sound = feature / "x"

    def with_damage(name: str, place: str, read: Read) -> Read:
        """Return a reader of a copy of corpus `name` whose file `place` is the damaged one."""

        def main(path: Path, out: Path) -> int:
            copy = out / "feature" / name
            shutil.copytree(feature / name, copy)
            (copy / place).unlink()
            shutil.copy(path, copy / place)
            return read(copy, out)

        return main

    def flags(copy: Path, out: Path) -> list[str]:
        where = ["--feature-dir", str(copy.parent), "--save-dir", str(out / "save")]
        quick = ("inpainting.num_steps=1", "synthesis.griffin_lim_iterations=1")
        sets = [part for knob in quick for part in ("--set", knob)]
        run = ["--data", copy.name, "--run", "r", "--device", "cpu", "--steps", "1"]
        return [*where, *run, *TINY_FLAGS, *sets]

    def train_speech(copy: Path, out: Path) -> int:
        without_pictures()
        return train_postnet.main(flags(copy, out))

    def train_stems(copy: Path, out: Path) -> int:
        without_pictures()
        return train_inpainter.main(flags(copy, out))

    def check(copy: Path, out: Path) -> int:
        where = ("--feature-dir", str(copy.parent), "--workers", "0")
        code = prepare_data.main(["check", copy.name, *where])
        found = differences(copy, feature / copy.name)
        if code == 0 and found and "checksum" in json.loads((copy / "index.json").read_bytes()):
            print(SILENT, *found)
        return code

    def rebuild(copy: Path, out: Path) -> int:
        code = sources.prepare("ljspeech", speech, copy.parent, copy.name)
        if code == 0 and (found := differences(copy, sound)):  # else it was refused, in words
            print(SILENT, "built again:", *found)
        return code

    def table(path: Path, out: Path) -> int:
        shutil.copytree(speech, out / "corpus", copy_function=os.link)
        (out / "corpus" / "metadata.csv").unlink()
        shutil.copy(path, out / "corpus" / "metadata.csv")
        return sources.prepare("ljspeech", out / "corpus", out / "feature", "t")

    def stem(path: Path, out: Path) -> int:
        shutil.copytree(songs, out / "corpus", copy_function=os.link)
        for old in (out / "corpus" / "song-00").glob("vocal.*"):
            old.unlink()
        shutil.copy(path, out / "corpus" / "song-00" / f"vocal{path.suffix}")
        code = sources.prepare("stems", out / "corpus", out / "feature", "t")
        if code or not (out / "feature" / "t" / "index.json").is_file():
            print("a build ended by one file")  # keeps `path` unnamed: counted as such
        return code

    index, journal = sound / "index.json", sound / "journal.jsonl"
    array = sorted((sound / "mel").glob("*.npy"))[0]
    song = sorted((feature / "s" / "stems").glob("*.npy"))[0]
    of_speech = f"mel/{array.name}"
    of_stems = f"stems/{song.name}"

    def corpus(
        target: str, seed: Path, damage: Damage, name: str, place: str, read: Read
    ) -> Target:
        # A corpus's own files may be named by its folder.
        file = Path(place).stem if "/" in place else f"feature/{name}"
        weight = 1 if read in (train_speech, train_stems) else 3
        return Target(target, [seed], damage, with_damage(name, place, read), file, weight)

    numbers = damaged_header
    stems_index = feature / "s" / "index.json"
    return [
        corpus("index-train", index, damaged_json, "x", "index.json", train_speech),
        corpus("index-check", index, damaged_json, "x", "index.json", check),
        corpus("index-rebuild", index, damaged_json, "x", "index.json", rebuild),
        corpus("index-stems", stems_index, damaged_json, "s", "index.json", train_stems),
        corpus("stems-check", stems_index, damaged_json, "s", "index.json", check),
        corpus("journal-rebuild", journal, damaged_lines, "x", "journal.jsonl", rebuild),
        corpus("array-train", array, numbers, "x", of_speech, train_speech),
        corpus("array-check", array, numbers, "x", of_speech, check),
        corpus("array-rebuild", array, numbers, "x", of_speech, rebuild),
        corpus("stem-array", song, numbers, "s", of_stems, train_stems),
        corpus("stem-check", song, numbers, "s", of_stems, check),
        Target("metadata", [speech / "metadata.csv"], damaged_text, table, "metadata.csv"),
        Target(
            "stem file", sources.write_sounds(work, "vocal", 2.0), damaged_header, stem, "song-00"
        ),
    ]


def without_pictures() -> None:
    """Draw nothing any more in this process: pictures take most of the time of a tiny song."""

    def save(figure: object, path: Path, dpi: int = 120) -> Path:
        Path(path).write_bytes(b"a picture")
        return Path(path)

    plotting.save_figure = save
    plotting.figure_to_image = lambda figure: np.zeros((3, 1, 1), np.uint8)
    for name in ("attention_grid", "spectrogram_pair", "masked_waveform", "track_picture"):
        setattr(plotting, name, lambda *arguments, **named: None)


def differences(one: Path, other: Path) -> list[str]:
    """Name the files of two prepared corpora that differ; journals as sets of lines."""
    return [
        name
        for name in sorted(_files(one) | _files(other))
        if _content(one / name) != _content(other / name)
    ]


def _files(corpus: Path) -> set[str]:
    found = (path.relative_to(corpus) for path in corpus.rglob("*") if path.is_file())
    return {str(path) for path in found if path.name != ".lock"}


def _content(path: Path) -> object:
    if not path.is_file():
        return None
    if path.suffix == ".jsonl":
        return sorted(path.read_bytes().split())
    if path.name == "index.json":
        try:
            return json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            return path.read_bytes()
    return path.read_bytes()
