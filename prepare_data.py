"""Corpora to feature/NAME: spectrograms or stems with an index, in parallel, restartable, checked.

    python prepare_data.py                           # the corpus of hyperparams.py, section data
    python prepare_data.py ljspeech DIR --name NAME  # id|text|normalised rows and wavs/
    python prepare_data.py stems DIR --name NAME     # vocals with aligned accompaniments
    python prepare_data.py published                 # the earlier project's audio, where it was put
    python prepare_data.py songbook DIR --name NAME  # scores, sung: NAME and NAME-stems
    python prepare_data.py merge NAME                # after all jobs with --shard NUMBER/16
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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from corpora.flags import parse

if __name__ == "__main__":  # --help and a wrong flag are answered before torch is loaded
    if sys.argv[1:]:
        parse(sys.argv[1:], __doc__)

from corpora import phoneme_times, songbook, songs, speech, speech_check, sung
from corpora.cache import BuildReport, Outcome, fingerprint, index_changes, worker_context
from corpora.ljspeech import read_ljspeech
from corpora.packed import PACKED, check_packed
from corpora.packing import pack
from corpora.recordings import find_recordings
from corpora.records import (
    INDEX_NAME,
    SPLITS,
    TAKE_MARK,
    ArrayPair,
    Rejection,
    Shard,
    SongbookSettings,
    Split,
    StemPair,
    id_fault,
    read_index,
)
from corpora.shards import Head, Parts, Unit, build_shard, merge
from corpora.stems import read_stems
from corpora.summary import print_guesses, print_recordings, print_songs, print_summary
from hyperparams import Hyperparams
from legacy import songs as earlier
from preprocess import FeatureStore, StemStore, TextMelDataset
from text.frontend import Pronouncer
from text.symbols import SYMBOLS
from training.mel_drafts import make_drafts
from transcription.recordings import prepare_recordings
from utils import checkpoint, config
from utils.files import Journal, reading, sha256_of
from utils.flags import choose_device, guarded
from utils.loading import load_network

FEW_RECORDINGS = 8  # below it a split by recording takes too large a share, or leaves one empty
WHOLE = {  # commands that take no --shard, and why
    "merge": "it brings the shards together: give it the name alone",
    "pack": "it writes one behind the other what has been merged",
    "drafts": "one process makes all drafts, those that are there already are kept",
    "check": "it compares the whole corpus with its index",
}
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
        if options.shard is not None and options.command in WHOLE:
            raise ValueError(
                f"--shard {options.shard}: {options.command} cannot be done in shards: "
                f"{WHOLE[options.command]}"
            )
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


def shard_from(options: argparse.Namespace) -> Shard | None:
    """Return the part of the corpus that the flags ask for; None: all of it."""
    return None if options.shard is None else Shard.parse(options.shard)


def lexicon_mark(options: argparse.Namespace) -> str | None:
    """Return the checksum of the user's lexicon."""
    return sha256_of(options.lexicon) if options.lexicon else None


def prepare_ljspeech(options: argparse.Namespace) -> int:
    """Prepare a corpus in the layout of LJ Speech."""
    directory, split, shard = target(options), split_from(options), shard_from(options)
    audio = hyperparams_of(options).audio
    utterances, rejections = read_ljspeech(options.directory)
    corpus, pronouncer = options.directory.resolve().name, Pronouncer(options.lexicon)
    if shard is not None:
        spoken = [speech.pronounce([one], pronouncer) for one in shard.of(utterances)]
        entries = [entry for found, _ in spoken for entry in found]
        units = [Unit(len(found), tuple(faults)) for found, faults in spoken]
        texts = [(one.id, one.text, one.normalised) for one in utterances]
        mark = fingerprint(texts, lexicon_mark(options))
        index = speech.speech_head(corpus, audio, SYMBOLS, split, options.linear)
        head = Head("ljspeech", index, len(utterances), mark, rejections)

        def make(journal: Journal) -> Iterator[Outcome]:
            common = corpus, audio, split, options.workers, journal, options.linear
            return speech.extract_all(entries, directory, *common)

        print(build_shard(shard, directory, head, units, make, options.strict))
        return 0
    entries, unpronounceable = speech.pronounce(utterances, pronouncer)
    rest = options.workers, rejections + unpronounceable, options.strict, options.linear
    report = speech.build_speech(entries, directory, corpus, audio, SYMBOLS, split, *rest)
    print_summary(report)
    print_guesses(report.index["items"])
    return 0


def merge_shards(options: argparse.Namespace) -> int:
    """Make the index of a corpus that was prepared in shards."""
    parts = Parts(target(options))
    if parts.head.layout in (sung.SONGBOOK, sung.SINGING):
        if parts.kind == songs.KIND:
            name = parts.directory.name.removesuffix("-stems")
            raise ValueError(
                f"{parts.directory}: these are the stems of {name}: python prepare_data.py merge "
                f"{name} makes both"
            )
        renderings = sung.merged_renderings(parts)
        if parts.head.layout == sung.SINGING:
            print_recordings(renderings)
        print_reports(sung.merged(parts, renderings, options.strict))
        return 0
    print_reports([merge(parts, options.strict)])
    parts.remove()
    return 0


def print_reports(reports: Iterable[BuildReport]) -> None:
    """Say what came of each corpus, as it is made."""
    for report in reports:
        if report.index["kind"] == songs.KIND:
            print_songs(report)
        else:
            print_summary(report)
            print_guesses(report.index["items"])


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
    directory, shard = target(options), shard_from(options)
    utterances, _ = read_ljspeech(options.directory)
    count, rejections = phoneme_times.build_phoneme_times(
        directory, utterances, options.workers, shard
    )
    what = f"{directory}{f', shard {shard.name}' if shard else ''}"
    print(f"{what}: {count} items aligned, {len(rejections)} could not be")
    for rejection in rejections:
        print(f"  {rejection.id}: {rejection.reason}")
    return 0


def prepare_stems(options: argparse.Namespace) -> int:
    """Prepare pairs of aligned stems."""
    names = options.vocal_name, options.accompaniment_name
    pairs, rejections = read_stems(options.directory, *names)
    return prepare_pairs(options, "stems", pairs, rejections, split_from(options))


def prepare_published(options: argparse.Namespace) -> int:
    """Prepare the earlier project's audio: its train file is split, its test file is kept."""
    if options.test_share:
        raise ValueError(
            f"--test-share {options.test_share}: the test split of this corpus is "
            f"{earlier.FILES['test']}; leave the flag out"
        )
    pairs, rejections = earlier.read_published(options.directory)
    split = Split(options.seed, options.validation_share, 0.0, earlier.TEST_PREFIX)
    return prepare_pairs(options, "published", pairs, rejections, split)


def prepare_pairs(
    options: argparse.Namespace,
    layout: str,
    pairs: Sequence[StemPair | ArrayPair],
    rejections: list[Rejection],
    split: Split,
) -> int:
    """Prepare pairs of stems, or a shard of them."""
    directory, shard = target(options), shard_from(options)
    audio = hyperparams_of(options).audio
    corpus = options.directory.resolve().name
    common = corpus, audio, split, options.workers
    if shard is None:
        rest = rejections, options.strict, options.loudness
        print_songs(songs.build_songs(pairs, directory, *common, *rest))
        return 0
    mine = shard.of(pairs)
    index = songs.songs_head(corpus, audio, split, options.loudness)
    head = Head(layout, index, len(pairs), fingerprint([pair.id for pair in pairs]), rejections)

    def make(journal: Journal) -> Iterator[Outcome]:
        return songs.make_all(mine, directory, *common, journal, options.loudness)

    print(build_shard(shard, directory, head, [Unit()] * len(mine), make, options.strict))
    return 0


def prepare_songbook(options: argparse.Namespace) -> int:
    """Sing a folder of scores: phrases with scores under NAME, stems under NAME-stems."""
    directory, shard = target(options), shard_from(options)
    audio = hyperparams_of(options).audio
    settings = SongbookSettings(
        options.takes, options.seconds, options.seed, options.performance, options.other_words
    )
    split = split_from(options)
    takes, rejections = songbook.find_takes(
        options.directory, directory, audio, settings, split, options.soundfont, options.lexicon
    )
    mine = takes if shard is None else shard.of(takes)
    source = options.directory.resolve().name
    renderings = songbook.render_takes(mine, options.workers, source)
    pairs = {pair.id: pair for pair in songbook.stem_pairs(sung.usable(renderings), directory)}
    common = audio, split, options.workers, options.strict
    corpus = sung.SungCorpus(
        sung.SONGBOOK, directory, source, *common, linear=options.linear, pairs=pairs
    )
    if shard is None:
        print_reports(sung.built(corpus, renderings, rejections))
        return 0
    font = takes[0].soundfont.name if takes else ""
    ids = [take.id for take in takes]
    mark = fingerprint(ids, asdict(settings), font, lexicon_mark(options))
    head = sung.shard_head(corpus, len(takes), mark, rejections, stems=True)
    for line in sung.build_sung_shard(corpus, shard, renderings, head):
        print(line)
    return 0


def prepare_singing(options: argparse.Namespace) -> int:
    """Cut recorded singing into phrases with scores, and pair it with its accompaniments."""
    directory, shard = target(options), shard_from(options)
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
    mine = found if shard is None else shard.of(found)
    common = options.lexicon, options.workers
    renderings = prepare_recordings(mine, directory, audio, transcriber, suffix, *common)
    print_recordings(sung.usable(renderings))
    pairs = {
        r.id + suffix: StemPair(r.id + suffix, r.wav_path, (r.accompaniment,))
        for r in found
        if r.accompaniment is not None
    }
    if not pairs:
        print("no X_accompaniment.* beside a recording: no stems for the inpainter")
    corpus = sung.SungCorpus(
        *(sung.SINGING, directory, options.directory.resolve().name, audio, split_from(options)),
        *(options.workers, options.strict, options.loudness, options.linear, pairs),
    )
    if shard is None:
        print_reports(sung.built(corpus, renderings, rejections))
        return 0
    ids = [(recording.id, recording.voice) for recording in found]
    mark = fingerprint(ids, suffix, sha256_of(transcriber), lexicon_mark(options))
    head = sung.shard_head(corpus, len(found), mark, rejections, stems=bool(pairs))
    for line in sung.build_sung_shard(corpus, shard, renderings, head):
        print(line)
    return 0


def prepare_drafts(options: argparse.Namespace) -> int:
    """Write what a transformer makes of a songbook's phrases, laid over its songs."""
    directory = target(options)
    stems = StemStore(directory.with_name(f"{directory.name}-stems"))
    features = FeatureStore(directory)
    device = choose_device(options.device)
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
