"""Corpora to feature/NAME: spectrograms or stems with an index, in parallel, restartable, checked.

    python prepare_data.py                           # the corpus of hyperparams.py, section data
    python prepare_data.py ljspeech DIR --name NAME  # id|text|normalised rows and wavs/
    python prepare_data.py stems DIR --name NAME     # vocals with aligned accompaniments
    python prepare_data.py published                 # the earlier project's audio, where it was put
    python prepare_data.py songbook DIR --name NAME  # scores, sung: NAME and NAME-stems
    python prepare_data.py merge NAME                # after all jobs of ljspeech … --shard 3/16
    python prepare_data.py pack NAME                 # into few large files, for large corpora
    python prepare_data.py singing DIR --name NAME   # recorded singing: NAME, and NAME-stems
    python prepare_data.py align NAME DIR            # when each phoneme is said (optional)
    python prepare_data.py drafts NAME --transformer CHECKPOINT   # for the inpainter on mels
    python prepare_data.py check NAME                # verify what was prepared

The same command goes on where an interrupted one stopped, and redoes what has changed.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from corpora.flags import parse

if __name__ == "__main__":  # --help and a wrong flag are answered before torch is loaded
    if sys.argv[1:]:
        parse(sys.argv[1:], __doc__)

from corpora import phoneme_times, shards, songbook, songs, speech, speech_check
from corpora.cache import INDEX_NAME, BuildReport, index_changes, read_index, worker_context
from corpora.ljspeech import read_ljspeech
from corpora.packed import PACKED, check_packed
from corpora.packing import pack
from corpora.recordings import Recording, find_recordings
from corpora.records import (
    SPLITS,
    TAKE_MARK,
    Rejection,
    SongbookSettings,
    Split,
    StemPair,
    id_fault,
)
from corpora.stems import read_stems
from hyperparams import Hyperparams
from legacy import songs as earlier
from preprocess import FeatureStore, StemStore, TextMelDataset
from text.frontend import Pronouncer
from text.symbols import SYMBOLS
from training.mel_drafts import make_drafts
from transcription.recordings import prepare_recordings
from utils import checkpoint, config, distributed
from utils.files import reading, write_json
from utils.flags import guarded
from utils.loading import load_network

FEW_RECORDINGS = 8  # below it a split by recording takes too large a share, or leaves one empty
CHECKS = {speech.KIND: speech_check.check_speech, songs.KIND: songs.check_songs}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 1 for a failed check or an error."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        return prepare_default()
    options = parse(arguments, __doc__)

    def prepare() -> int:
        if getattr(options, "workers", 0) < 0:
            raise ValueError(f"--workers {options.workers}: expected 0 or more")
        if getattr(options, "workers", 0):
            worker_context(speech.__name__)  # imports while the corpus is being read
        try:
            return COMMANDS[options.command](options)
        except RuntimeError as error:  # a program or a package is missing, a worker has died
            raise ValueError(str(error)) from error

    return guarded("error", prepare, fault=1, again="the same command goes on from here")


def prepare_default() -> int:
    """Prepare the corpus of hyperparams.py, section `data`, and align it where that can be done."""
    data = Hyperparams().data
    commands = [[data.layout, data.data_path, "--name", data.name]]
    if data.layout == "ljspeech":
        commands.append(["align", data.name, data.data_path])
    for command in commands:
        print(f"hyperparams.py, section data: python prepare_data.py {' '.join(command)}")
        if command[0] == "align" and find_spec("pocketsphinx") is None:
            print(
                "not aligned: pip install -r requirements-evaluation.txt brings the aligner; "
                "without the times of its phonemes, attention finds the text by itself, slowly"
            )
        elif code := main(command):
            return code
    return 0


def hyperparams_of(options: argparse.Namespace) -> Hyperparams:
    """Build hyperparameters from the flags and say what differs from the preset."""
    hyperparams = config.from_arguments(options, config.presets())
    for line in config.differences(config.preset(options.preset), hyperparams):
        print(line)
    return hyperparams


def target(options: argparse.Namespace) -> Path:
    """Return feature/NAME; ValueError when NAME is not a plain name."""
    fault = id_fault(options.name)
    if fault:
        raise ValueError(f"--name {options.name}: {fault.replace('the id', 'the name')}")
    return options.feature_dir / options.name


def split_from(options: argparse.Namespace) -> Split:
    """Return the split that the flags ask for."""
    return Split(options.seed, options.validation_share, options.test_share)


def prepare_ljspeech(options: argparse.Namespace) -> int:
    """Prepare a corpus in the layout of LJ Speech."""
    directory, split = target(options), split_from(options)
    audio = hyperparams_of(options).audio
    utterances, rejections = read_ljspeech(options.directory)
    entries, unpronounceable = speech.pronounce(utterances, Pronouncer(options.lexicon))
    arguments = (
        entries,
        directory,
        options.directory.resolve().name,
        audio,
        SYMBOLS,
        split,
        options.workers,
        rejections + unpronounceable,
        options.strict,
    )
    if options.shard is not None:
        print(shards.build_shard(shards.Shard.parse(options.shard), *arguments))
        return 0
    report = speech.build_speech(*arguments)
    print_summary(report)
    print_guesses(report.index["items"])
    return 0


def merge_shards(options: argparse.Namespace) -> int:
    """Make the index of a corpus that was prepared in shards."""
    report = shards.merge(target(options), options.strict)
    print_summary(report)
    print_guesses(report.index["items"])
    return 0


def pack_corpus(options: argparse.Namespace) -> int:
    """Pack a prepared speech corpus into few large files, beside it."""
    directory = target(options)
    packed = directory.with_name(f"{directory.name}-packed")
    packed_files = pack(FeatureStore(directory), packed).files
    size = sum(entry["bytes"] for entry in packed_files.values())
    print(
        f"{packed}: {len(packed_files)} files, {size / 1e6:.1f} MB; train with --data {packed.name}"
    )
    return 0


def align_corpus(options: argparse.Namespace) -> int:
    """Find the times of the phonemes of a prepared speech corpus."""
    directory = target(options)
    utterances, _ = read_ljspeech(options.directory)
    count, rejections = phoneme_times.build_phoneme_times(directory, utterances, options.workers)
    print(f"{directory}: {count} items aligned, {len(rejections)} could not be")
    for rejection in rejections:
        print(f"  {rejection.id}: {rejection.reason}")
    return 0


def prepare_stems(options: argparse.Namespace) -> int:
    """Prepare pairs of aligned stems."""
    directory, split = target(options), split_from(options)
    audio = hyperparams_of(options).audio
    pairs, rejections = read_stems(
        options.directory, options.vocal_name, options.accompaniment_name
    )
    report = songs.build_songs(
        pairs,
        directory,
        options.directory.resolve().name,
        audio,
        split,
        options.workers,
        rejections,
        options.strict,
        options.loudness,
    )
    print_songs(report, options.loudness)
    return 0


def prepare_published(options: argparse.Namespace) -> int:
    """Prepare the earlier project's audio: its train file is split, its test file is kept."""
    if options.test_share:
        raise ValueError(
            f"--test-share {options.test_share}: the test split of this corpus is "
            f"{earlier.FILES['test']}; leave the flag out"
        )
    directory = target(options)
    audio = hyperparams_of(options).audio
    pairs, rejections = earlier.read_published(options.directory)
    report = songs.build_songs(
        pairs,
        directory,
        options.directory.resolve().name,
        audio,
        Split(options.seed, options.validation_share, 0.0, earlier.TEST_PREFIX),
        options.workers,
        rejections,
        options.strict,
        options.loudness,
    )
    print_songs(report, options.loudness)
    return 0


def print_songs(report: BuildReport, loudness: float) -> None:
    """Say what came of a corpus of songs, their levels, and what is remarkable about them."""
    print_summary(report)
    rms = ", ".join(f"{name} {value:.3f}" for name, value in report.index["statistics"].items())
    print(f"loudness: mixes at {loudness:g} LUFS; RMS of the train split: {rms}")
    for item in report.index["items"]:
        for remark in item["remarks"]:
            print(f"  {item['id']}: {remark}")


def prepare_songbook(options: argparse.Namespace) -> int:
    """Sing a folder of scores: phrases with scores under NAME, stems under NAME-stems."""
    directory, asked = target(options), split_from(options)
    audio = hyperparams_of(options).audio
    settings = SongbookSettings(options.takes, options.seconds, options.seed, options.performance)
    renderings, rejections = songbook.render_songs(
        options.directory,
        directory,
        audio,
        settings,
        options.soundfont,
        options.lexicon,
        options.workers,
    )
    songbook.remove_others(renderings, directory)
    split = songbook.split_with_songs([rendering.id for rendering in renderings], asked)
    corpus = options.directory.resolve().name
    entries = songbook.entries(renderings, directory)
    pairs = songbook.stem_pairs(renderings, directory)
    places = directory, directory.with_name(f"{directory.name}-stems")
    common = audio, split, options.workers
    report = speech.build_speech(
        entries, places[0], corpus, audio, SYMBOLS, *common[1:], rejections, options.strict
    )
    print_summary(report)
    scores = {r.id: {name: r.made[name] for name in ("symbols", "score")} for r in renderings}
    print_summary(
        songs.build_songs(pairs, places[1], corpus, *common, (), options.strict, scores=scores)
    )
    phoneme_times.write_phoneme_times(places[0], songbook.timed_phrases(renderings))
    phoneme_times.write_phoneme_times(places[1], songbook.timed_songs(renderings))
    return 0


def prepare_singing(options: argparse.Namespace) -> int:
    """Cut recorded singing into phrases with scores, and pair it with its accompaniments."""
    directory, asked = target(options), split_from(options)
    audio = hyperparams_of(options).audio
    voice = options.voice or options.name
    if fault := id_fault(voice):
        raise ValueError(f"--voice {voice}: {fault.replace('the id', 'the name')}")
    found, rejections = find_recordings(options.directory, voice, options.voices_by_folder)
    whole_songs = len(found) >= FEW_RECORDINGS
    if found and not whole_songs:
        print(
            f"{len(found)} recordings, fewer than {FEW_RECORDINGS}: each phrase is in a split of "
            "its own, so that words and melodies of the same song are in several"
        )
    transcriber = checkpoint.resolve(options.transcriber, "transcriber")
    suffix = f"{TAKE_MARK}0" if whole_songs else ""
    common = options.lexicon, options.workers
    made = prepare_recordings(found, directory, audio, transcriber, suffix, *common)
    renderings = [rendering for rendering in made if rendering.record is not None]
    songbook.remove_others(renderings, directory)
    rejections += [Rejection(r.id, r.fault) for r in made if r.fault is not None]
    rejections += [Rejection(**entry) for r in renderings for entry in r.made["left_out"]]
    print_recordings(renderings)
    write_json(directory / "report.json", recordings_report(renderings, rejections), indent=1)
    entries = songbook.entries(renderings, directory)
    if not entries:
        raise ValueError(
            f"{options.directory}: no phrase is usable"
            + "".join(f"\n  {r.id}: {r.reason}" for r in rejections[:20])
        )
    split = songbook.split_with_songs([entry.utterance.id for entry in entries], asked)
    corpus, rest = options.directory.resolve().name, (options.workers, rejections, options.strict)
    print_summary(speech.build_speech(entries, directory, corpus, audio, SYMBOLS, split, *rest))
    phoneme_times.write_phoneme_times(directory, songbook.timed_phrases(renderings))
    return prepare_sung_stems(options, found, renderings, split)


def prepare_sung_stems(
    options: argparse.Namespace,
    recordings: Sequence[Recording],
    renderings: Sequence[songbook.Rendering],
    split: Split,
) -> int:
    """Pair the recordings that have an accompaniment beside them with it, as NAME-stems."""
    backings = {r.wav_path: r.accompaniment for r in recordings if r.accompaniment is not None}
    sources = {r.id: r.wav_path for r in recordings}
    pairs, with_stems = [], []
    for rendering in renderings:
        path = sources[rendering.id.partition(TAKE_MARK)[0]]
        if path in backings and rendering.made["phrases"]:
            pairs.append(StemPair(rendering.id, path, (backings[path],)))
            with_stems.append(rendering)
    if not pairs:
        print("no X_accompaniment.* beside a recording: no stems for the inpainter")
        return 0
    directory = target(options).with_name(f"{options.name}-stems")
    audio = hyperparams_of(options).audio
    report = songs.build_songs(
        pairs,
        directory,
        options.directory.resolve().name,
        audio,
        split,
        options.workers,
        (),
        options.strict,
        options.loudness,
        {r.id: {name: r.made[name] for name in ("symbols", "score")} for r in with_stems},
    )
    print_songs(report, options.loudness)
    phoneme_times.write_phoneme_times(directory, songbook.timed_songs(with_stems))
    return 0


def print_recordings(renderings: Sequence[songbook.Rendering]) -> None:
    """Say of each recording what was found in it, and how far it is what it is said to be."""
    for rendering in renderings:
        record, report = rendering.made, rendering.made["report"]
        seconds = sum(phrase["end"] - phrase["start"] for phrase in record["phrases"])
        noise = report["over_noise"]
        rests = "no rest to hear noise in" if noise is None else f"{noise:.0f} dB over its rests"
        sources = ", ".join(f"{name} {source}" for name, source in report["sources"].items())
        print(
            f"{rendering.id}: {len(record['phrases'])} phrases, {seconds:.0f} of "
            f"{report['seconds']:.0f} s; pitch {report['pitch']:.0%} within 50 cents, words "
            f"{report['words']:.0%} recognised; {report['level']:.0f} dBFS, {rests}; {sources}"
        )
        for remark in record["remarks"]:
            print(f"  {rendering.id}: {remark}")


def recordings_report(
    renderings: Sequence[songbook.Rendering], rejections: Sequence[Rejection]
) -> dict[str, Any]:
    """Return what report.json says of a corpus of recorded singing."""
    return {
        "recordings": {
            rendering.id: rendering.made["report"]
            | {"phrases": len(rendering.made["phrases"]), "remarks": rendering.made["remarks"]}
            for rendering in renderings
        },
        "left_out": [asdict(rejection) for rejection in rejections],
    }


def prepare_drafts(options: argparse.Namespace) -> int:
    """Write what a transformer makes of a songbook's phrases, laid over its songs."""
    directory = target(options)
    stems = StemStore(directory.with_name(f"{directory.name}-stems"))
    features = FeatureStore(directory)
    device = distributed.choose_device(options.device)
    transformer = load_network(options.transformer, "transformer", device)
    if features.symbols != list(transformer.data["symbols"]):
        raise ValueError(
            f"{options.transformer} has another symbol table than {directory}: train it again"
        )
    used = [name for name in SPLITS if any(i["split"] == name for i in features.index["items"])]
    phrases = [TextMelDataset(features, split) for split in used]
    for dataset in phrases:
        dataset.use_voices(transformer.data.get("voices", ()))
    made = make_drafts(
        transformer,
        phrases,
        songbook.phrase_places(directory),
        {item["id"]: item["num_samples"] for item in stems.index["items"]},
        stems.directory / "drafts",
        options.seed,
    )
    print(
        f"train on them: python train_inpainter.py --preset mel --data {stems.directory.name} "
        f"--drafts {made}"
    )
    return 0


def print_summary(report: BuildReport) -> None:
    """Say what was made, kept, converted, removed and skipped."""
    items = report.index["items"]
    hours = sum(item["num_samples"] for item in items) / report.index["sample_rate"] / 3600
    print(
        f"{report.directory}: {len(items)} items, {hours:.2f} h ({count_splits(items)}); "
        f"{len(items) - report.kept} made, {report.kept} kept"
    )
    print(
        f"disk: {report.num_bytes / 1e6:.1f} MB, {report.num_bytes / hours / 1e6:.0f} MB per hour "
        f"of audio"
    )
    warn_of_empty_splits(items)
    for conversion, count in Counter(c for i in items for c in i["conversions"]).items():
        print(f"converted: {count} recordings from {conversion}")
    if report.removed:
        print(f"removed: {len(report.removed)} arrays of items that are no longer in the corpus")
    print(f"skipped: {len(report.rejections)} items")
    for rejection in report.rejections:
        print(f"  {rejection.id or '(no id)'}: {rejection.reason}")
    print(f"verify with: python prepare_data.py check {report.directory.name}")


def print_guesses(items: list[dict[str, Any]]) -> None:
    """Say which words the dictionary does not have: a lexicon can correct them."""
    guessed = Counter(word for item in items for word in item["guessed"])
    if guessed:
        words = ", ".join(f"{word} ({count})" for word, count in guessed.most_common(20))
        print(f"guessed pronunciations: {len(guessed)} words: {words}")


def count_splits(items: list[dict[str, Any]]) -> str:
    """Word the sizes of the splits."""
    counts = Counter(item["split"] for item in items)
    return ", ".join(f"{counts[name]} {name}" for name in SPLITS)


def warn_of_empty_splits(items: list[dict[str, Any]]) -> None:
    """Say that training will miss a split, while it is cheap to change."""
    missing = [name for name in SPLITS if name not in {item["split"] for item in items}]
    if missing:
        print(
            f"warning: no item in {' and '.join(missing)}; training needs train and validation. "
            "Run again with larger shares (--validation-share, --test-share) or another --seed: "
            "what is made is kept"
        )


def check_corpus(options: argparse.Namespace) -> int:
    """Verify a prepared corpus; the exit code is 1 when anything is wrong."""
    directory = target(options)
    if (directory / PACKED).is_file():
        return report_problems(directory, check_packed(directory), "the files")
    index = read_index(directory)
    with reading(directory / INDEX_NAME):  # an entry that is missing, or of another type
        problems = CHECKS[index["kind"]](directory, options.workers) + index_changes(index)
    return report_problems(directory, problems, f"{len(index['items'])} items")


def report_problems(directory: Path, problems: list[str], what: str) -> int:
    """Say what a check has found; return the exit code."""
    for problem in problems:
        print(problem)
    if problems:
        print(f"{directory}: {len(problems)} problems; prepare the corpus again to repair it")
        return 1
    print(f"{directory}: {what}, everything in order")
    return 0


COMMANDS = {
    "ljspeech": prepare_ljspeech,
    "stems": prepare_stems,
    "published": prepare_published,
    "songbook": prepare_songbook,
    "merge": merge_shards,
    "pack": pack_corpus,
    "singing": prepare_singing,
    "align": align_corpus,
    "drafts": prepare_drafts,
    "check": check_corpus,
}

if __name__ == "__main__":
    sys.exit(main())
