"""The command line of prepare_data.py; nothing slow is imported for it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from corpora.records import LOUDNESS, SongbookSettings, Split
from utils import config
from utils.flags import LEGACY_AUDIO, command_line, device_option, feature_option, network_option

SONG_SHARE = 0.1  # of validation and of test: songs are few


def parse(arguments: list[str], description: str | None) -> argparse.Namespace:
    """Read the command line; `command` is the name of what is asked for."""
    parser = command_line(description or "")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    spoken = commands.add_parser("ljspeech", help="id|text|normalised rows and a folder wavs/")
    spoken.set_defaults(command="ljspeech")
    add_build_arguments(spoken)
    spoken.add_argument(
        "--lexicon", type=Path, metavar="FILE", help="pronunciations that win over the dictionary"
    )
    merged = commands.add_parser("merge", help="the index of a corpus prepared in shards")
    merged.set_defaults(command="merge")
    merged.add_argument("name", help="corpus below --feature-dir")
    merged.add_argument("--strict", action="store_true", help="fail when an item is faulty")
    feature_option(merged)
    packed = commands.add_parser("pack", help="a speech corpus into few large files, NAME-packed")
    packed.set_defaults(command="pack")
    packed.add_argument("name", help="corpus below --feature-dir")
    feature_option(packed)
    add_linear_argument(spoken)
    stems = commands.add_parser("stems", help="songs as vocal and accompaniment, two files each")
    stems.set_defaults(command="stems")
    add_build_arguments(stems)
    stems.set_defaults(validation_share=SONG_SHARE, test_share=SONG_SHARE)
    stems.add_argument("--vocal-name", help="default: vocal or vocals")
    stems.add_argument("--accompaniment-name", help="default: accompaniment, no_vocals, or parts")
    add_loudness_argument(stems)
    published = commands.add_parser("published", help="the earlier project's {train,test}_norm.pt")
    published.set_defaults(command="published")
    add_build_arguments(published, LEGACY_AUDIO, "published")
    published.set_defaults(validation_share=SONG_SHARE, test_share=0.0)
    add_loudness_argument(published)
    sung = commands.add_parser("songbook", help="scores with lyrics, sung by a free voice")
    sung.set_defaults(command="songbook")
    add_build_arguments(sung)
    add_linear_argument(sung)
    sung.add_argument("--takes", type=int, default=SongbookSettings.takes, help="of each song")
    sung.add_argument(
        "--performance",
        action="store_true",
        help="every take sings its notes in its own way: vibrato, glides, and in stems loudness "
        "and breaths",
    )
    sung.add_argument(
        "--other-words",
        type=int,
        default=SongbookSettings.other_words,
        metavar="N",
        help="more takes of every song of the training split, to other words",
    )
    sung.add_argument(
        "--seconds", type=float, default=SongbookSettings.seconds, help="longest song"
    )
    sung.add_argument("--soundfont", type=Path, metavar="FILE", help="General MIDI, .sf2")
    sung.add_argument(
        "--lexicon", type=Path, metavar="FILE", help="pronunciations that win over the dictionary"
    )
    recorded = commands.add_parser("singing", help="recorded singing, and what says what is sung")
    recorded.set_defaults(command="singing")
    add_build_arguments(recorded)
    recorded.add_argument("--voice", metavar="NAME", help="who sings (default: --name)")
    recorded.add_argument(
        "--voices-by-folder", action="store_true", help="each folder below DIR is another singer"
    )
    recorded.add_argument(
        "--lexicon", type=Path, metavar="FILE", help="pronunciations that win over the dictionary"
    )
    network_option(recorded, "transcriber")
    add_linear_argument(recorded)
    add_loudness_argument(recorded)
    aligned = commands.add_parser("align", help="when each phoneme of a speech corpus is said")
    aligned.set_defaults(command="align")
    aligned.add_argument("name", help="corpus below --feature-dir, prepared by ljspeech")
    aligned.add_argument("directory", type=Path, metavar="DIR", help="what it was prepared from")
    add_place_arguments(aligned)
    add_shard_argument(aligned, "align NAME DIR, without it")
    drafts = commands.add_parser("drafts", help="a transformer's mels of a songbook's songs")
    drafts.set_defaults(command="drafts")
    drafts.add_argument("name", help="songbook below --feature-dir; its stems are NAME-stems")
    drafts.add_argument("--transformer", type=Path, required=True, metavar="CHECKPOINT")
    device_option(drafts)
    drafts.add_argument("--seed", type=int, default=0, help="of the decoder's dropout")
    add_place_arguments(drafts)
    check = commands.add_parser("check", help="verify files, checksums, shapes and statistics")
    check.set_defaults(command="check")
    check.add_argument("name", help="corpus below --feature-dir")
    add_place_arguments(check)
    for whole in (merged, packed, drafts, check):
        add_shard_argument(whole)
    return parser.parse_args(arguments)


def add_build_arguments(
    parser: argparse.ArgumentParser, directory: Path | None = None, name: str | None = None
) -> None:
    """Add the flags that every corpus shares; a `directory` and a `name` are defaults."""
    there = f" (default: {directory})" if directory else ""
    parser.add_argument(
        "directory",
        type=Path,
        metavar="DIR",
        nargs="?" if directory else None,
        default=directory,
        help=f"the corpus as it was unpacked{there}",
    )
    named = f" (default: {name})" if name else ""
    parser.add_argument(
        "--name",
        required=name is None,
        default=name,
        help=f"folder to make below --feature-dir{named}",
    )
    add_place_arguments(parser)
    parser.add_argument("--strict", action="store_true", help="a faulty item is an error")
    parser.add_argument("--validation-share", type=float, default=Split.validation_share)
    parser.add_argument("--test-share", type=float, default=Split.test_share)
    parser.add_argument("--seed", type=int, default=Split.seed, help="of the split by id")
    add_shard_argument(parser, "merge NAME")
    config.add_hyperparameter_arguments(parser, config.presets())


def add_linear_argument(parser: argparse.ArgumentParser) -> None:
    """Add where the linear spectrograms of PostNet's training come from."""
    parser.add_argument(
        "--linear",
        choices=("stored", "on-the-fly"),
        default="stored",
        help="on-the-fly: keep the waveform in 16 bits, half of the bytes, instead",
    )


def add_shard_argument(parser: argparse.ArgumentParser, afterwards: str | None = None) -> None:
    """Add the part that is to be prepared; afterwards: the command that ends it, if there is one.

    Commands that cannot be divided have a flag too, hidden: they refuse it and say why.
    """
    text = f"prepare one of COUNT parts, wherever --feature-dir can be seen; then: {afterwards}"
    parser.add_argument(
        "--shard", metavar="NUMBER/COUNT", help=text if afterwards else argparse.SUPPRESS
    )


def add_loudness_argument(parser: argparse.ArgumentParser) -> None:
    """Add the level that songs are brought to."""
    parser.add_argument(
        "--loudness",
        type=float,
        default=LOUDNESS,
        help="LUFS of vocal and accompaniment together",
    )


def add_place_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where the caches are and how many processes work on them."""
    feature_option(parser)
    parser.add_argument(
        "--workers",
        type=int,
        default=num_cores(),
        help="processes; 0 works in this one (default: one per core)",
    )


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
