"""Lyrics and a backing track in, a sung topline out: the whole chain, for the shell.

    python synthesis.py --lyrics examples/lyrics.txt --accompaniment song.flac --out out/song

The lyrics are sung on a melody that is composed for the accompaniment, or read from a file; the
voice's draft steers the inpainter, which makes the vocal. Writes vocal.wav, mix.wav (rate and
channels of the accompaniment, true peak under -1 dBFS), draft.wav, topline.mid (with the lyrics),
song.png and report.json.

    python synthesis.py ... --melody tune.mid --transpose -2 --tempo auto
    python synthesis.py ... --melody compose --range A3-E5 --density 1.5 --seed 3
    python synthesis.py ... --melody none  # the lyrics are spoken, at LRC times or with equal rests
    python synthesis.py ... --inpainter none  # the draft is the vocal
    python synthesis.py --accompaniment song.flac --out out/vocal  # a vocal without words
    python synthesis.py --accompaniment song.flac --vocal take.wav --inpaint 12.5-17.0,1:02-1:05
    python synthesis.py --accompaniment song.flac --vocal take.wav --extend 8
    python synthesis.py --accompaniment song.flac --preset published --method repaint

With --vocal, vocal.wav is that file with the named parts made anew: its rate, its channels, and bit
by bit its samples everywhere else. Without an accompaniment a melody file is sung alone, and lyrics
are spoken: all lines as one batch, a line's sound depending on its text and its seed only; for
every line NN.wav, NN_mel.npy and NN_attention.png, all in a row as lyrics.wav, and report.json.

    python synthesis.py --lyrics "the rain is over" --out out/rain
    python synthesis.py --melody examples/songs/amazing-grace.song --out out/grace
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from hyperparams import Hyperparams
from legacy import weights as published
from singing.draft import PAUSE, Draft, spoken_draft, sung_draft
from singing.inpaint import check_inpainter, condition_from, no_inpainter, sing
from singing.melody import (
    COMPOSE,
    NONE,
    TEMPO_OF_ACCOMPANIMENT,
    Topline,
    Wish,
    harmony_report,
    parse_range,
    topline,
)
from singing.output import write_alone, write_lines, write_song
from singing.song import Song, draft_gain, open_song
from singing.voice import Line, Voice, load_voice, out_of_range, render, spoken_phrases
from text.frontend import Pronouncer
from text.lyrics import LyricLine, parse_lyrics, read_lyrics
from utils import config, distributed
from utils.files import staged
from utils.loading import Loaded, build_unet, check_pair, load

SAVE = Path("save")
DEMO = SAVE / "demo"  # weights that come with the repository
SAMPLING = ("synthesis", "inpainting", "composer")  # sections that may be changed here
NO_LYRICS = (
    "no lyrics: the vocal is made from the accompaniment alone, without a draft; "
    "--lyrics 'la la la la' sings a melody composed for it"
)
QUALITIES = {  # what each sets before --set and the short flags do
    "draft": ("inpainting.num_steps=6", "synthesis.griffin_lim_iterations=16"),
    "standard": (),
    "best": (
        "inpainting.num_steps=40",
        "inpainting.step=dpmpp_2m_sde",
        "synthesis.griffin_lim_iterations=64",
    ),
}
CONVENIENCES = {  # flag: (the knobs of the inpainting section that it sets, what it is)
    "method": (("method",), "how known samples are respected"),
    "steps": (("num_steps", "draft_steps"), "noise levels walked"),
    "strength": (("strength",), "share of them that a draft goes through"),
    "guidance": (("accompaniment_guidance",), "how much the accompaniment counts; 1 = as trained"),
}


def voice_of(arguments: argparse.Namespace, device: torch.device) -> Voice:
    """The voice of the command line, with its sampling values changed."""
    voice = load_voice(arguments.checkpoint, arguments.postnet, device)
    voice.hyperparams = sampling_changes(voice.hyperparams, assignments_of(arguments))
    return voice


def speak_lyrics(
    arguments: argparse.Namespace, device: torch.device, lyrics: Sequence[LyricLine] | None
) -> list[Path]:
    """Speak `--lyrics` without a song; return the paths written, all or none."""
    check_spoken(arguments)
    pronouncer = Pronouncer(arguments.lexicon)
    voice = voice_of(arguments, device)
    began = time.perf_counter()
    lines = render(voice, spoken_phrases(lyrics or (), pronouncer), arguments.seed)
    seconds = time.perf_counter() - began
    say(lines)
    with staged(arguments.out) as stage:
        paths = write_lines(lines, voice, stage, seconds)
    return [arguments.out / path.name for path in paths]


def say(lines: Sequence[Line], remarks: Sequence[str] = ()) -> None:
    """Print the words whose pronunciation was guessed, and remarks."""
    for remark in remarks:
        print(remark)
    for line in lines:
        if line.phrase.guessed:
            print(f"line {line.phrase.line_number}: guessed {', '.join(line.phrase.guessed)}")


def lyrics_from(argument: str) -> list[LyricLine]:
    """`--lyrics` is a file when one of that name exists, else the text itself."""
    path = Path(argument)
    try:
        is_file = path.is_file()
    except OSError:  # text longer than a file name may be
        is_file = False
    if is_file:
        return read_lyrics(path)
    if path.suffix.lower() in (".txt", ".lrc"):
        raise FileNotFoundError(
            f"--lyrics {argument}: no such file. Give an existing .txt or .lrc file, or the words"
        )
    return parse_lyrics(argument)


# ---------------------------------------------------------------------------- songs


class Stopwatch:
    """Seconds of work per stage, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time the `with` block as `stage`."""
        began = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - began


def inpainter_path(arguments: argparse.Namespace) -> Path:
    """The checkpoint of `--inpainter`, or with `--preset published` the earlier project's weights.

    These are converted once, to save/inpainter/published; errors say where they are expected.
    """
    if arguments.preset is None:
        return arguments.inpainter or DEMO / "inpainter.pt"
    if arguments.inpainter is not None:
        raise ValueError(
            f"--preset {arguments.preset} and --inpainter {arguments.inpainter}: a checkpoint "
            "carries its own hyperparameters, so give one of the two"
        )
    hyperparams = config.preset(arguments.preset)
    with torch.device("meta"):  # names and shapes alone, to compare the file with
        network = build_unet(hyperparams, 0)
    return published.convert_inpainter(SAVE, network, hyperparams)


def inpainter_of(
    arguments: argparse.Namespace, device: torch.device, has_words: bool
) -> Loaded | None:
    """The last stage, with its sampling values changed; None for `--inpainter none`.

    None too, and said, when no weights ship and none are asked for, but there are words to sing.
    """
    if str(arguments.inpainter) == NONE:
        return None
    is_default = arguments.inpainter is None and arguments.preset is None
    if is_default and has_words and not (DEMO / "inpainter.pt").exists():
        print(
            f"{DEMO / 'inpainter.pt'} is not there: the draft is the vocal. Train an inpainter "
            "with train_inpainter.py and name it with --inpainter"
        )
        return None
    inpainter = load(inpainter_path(arguments), "inpainter", device)
    inpainter.hyperparams = sampling_changes(inpainter.hyperparams, assignments_of(arguments))
    return inpainter


def wish_of(arguments: argparse.Namespace, voice: Voice) -> Wish:
    """What is asked of the melody; ValueError when this voice or this request cannot have it."""
    melody = arguments.melody
    if melody is None:
        can_compose = voice.pitch_range and arguments.accompaniment and not arguments.vocal
        melody = COMPOSE if can_compose else NONE
    if melody == NONE:
        check_spoken(arguments)
    if melody != NONE and voice.pitch_range is None:
        raise ValueError(
            f"{voice.transformer.path} was trained on speech and knows no notes: take --melody "
            f"{NONE}, or train it on songs too: python train_transformer.py --data songbook,NAME"
        )
    if melody == COMPOSE and arguments.vocal:
        raise ValueError(
            f"--melody {COMPOSE} composes a whole song; for parts of a --vocal give a melody file"
        )
    return Wish(melody, arguments.transpose, arguments.tempo)


def check_spoken(arguments: argparse.Namespace) -> None:
    """Raise ValueError for wishes of a melody when there is none."""
    if arguments.transpose or arguments.tempo:
        raise ValueError("--transpose and --tempo change a melody, but these lyrics are spoken")


def topline_of(
    arguments: argparse.Namespace,
    wish: Wish,
    voice: Voice,
    lyrics: Sequence[LyricLine] | None,
    song: Song | None,
) -> Topline:
    """The melody with its words, and remarks on notes that the voice does not know."""
    composer = config.build(
        "own", None, assignments_of(arguments, ("composer",)), {"own": Hyperparams()}
    ).composer
    if arguments.range is not None:
        low, high = parse_range(arguments.range)
        composer = replace(composer, low=low, high=high)
    if arguments.density is not None:
        composer = replace(composer, density=arguments.density)
    accompaniment, regions, seconds = None, None, None
    if song is not None:
        accompaniment = (song.accompaniment, voice.hyperparams.audio.sample_rate)
        seconds = song.seconds
        regions = song.regions if song.recording else None
    pronouncer = Pronouncer(arguments.lexicon)
    found = topline(
        wish, lyrics, accompaniment, pronouncer, composer, arguments.seed, seconds, regions
    )
    remark = out_of_range(found.underlay.score, voice)
    return replace(found, remarks=(*found.remarks, *((remark,) if remark else ())))


def draft_of(
    arguments: argparse.Namespace,
    voice: Voice,
    lyrics: Sequence[LyricLine] | None,
    song: Song,
    watch: Stopwatch,
) -> tuple[Draft, dict[str, Any]]:
    """The lyrics laid over a song, spoken or sung, and what report.json says of the melody."""
    wish = wish_of(arguments, voice)
    num_samples = len(song.accompaniment)
    if wish.melody == NONE:
        with watch("draft"):
            pronouncer = Pronouncer(arguments.lexicon)
            draft = spoken_draft(
                voice, lyrics or (), pronouncer, song.regions, num_samples, arguments.seed
            )
        return draft, {"source": NONE}
    with watch("melody"):
        found = topline_of(arguments, wish, voice, lyrics, song)
    with watch("draft"):
        draft = sung_draft(voice, found, num_samples, arguments.seed)
    return draft, melody_report(wish, found)


def melody_report(wish: Wish, found: Topline) -> dict[str, Any]:
    """What report.json says of the melody."""
    score = found.underlay.score
    return {
        "source": wish.melody,
        "transpose": wish.transpose,
        "notes": len(score.notes),
        "syllables": len(score.syllables),
        "lowest": min(note.pitch for note in score.notes),
        "highest": max(note.pitch for note in score.notes),
        "harmony": harmony_report(found.harmony) if found.harmony else None,
        "remarks": list(found.remarks),
    }


def sing_song(
    arguments: argparse.Namespace, device: torch.device, lyrics: Sequence[LyricLine] | None
) -> list[Path]:
    """Make a vocal for `--accompaniment`; return the paths written, all or none."""
    watch = Stopwatch()
    with watch("load"):
        has_words = bool(lyrics) or arguments.melody not in (None, COMPOSE, NONE)
        inpainter = inpainter_of(arguments, device, has_words)
        voice = voice_of(arguments, device) if has_words else None
        hp = inpainter.hyperparams if inpainter else voice.hyperparams if voice else None
        if hp is None:
            raise ValueError(f"--inpainter {NONE}: without --lyrics there is nothing to sing")
        if inpainter and voice:
            check_pair(voice.transformer, inpainter)
        song = open_song(
            arguments.accompaniment,
            arguments.vocal,
            arguments.inpaint,
            arguments.extend,
            hp.audio.sample_rate,
            inpainter.data if inpainter else {},
            hp.diffusion.sigma_data,
        )
        if inpainter:
            has_draft = bool(has_words or song.recording)
            check_inpainter(inpainter, hp.inpainting, has_words, has_draft)
    draft, condition, melody = None, None, {}
    begin = song.vocal if song.recording else None  # what a strength below 1 starts from
    if voice:
        draft, melody = draft_of(arguments, voice, lyrics, song, watch)
        say(draft.lines, melody.get("remarks", ()))
        if inpainter:
            begin = draft.wav * draft_gain(
                draft.wav, song.vocal, inpainter.data, hp.audio.hop_length
            )
        if inpainter and hp.unet.context_width:
            table = voice.transformer.data["symbols"]
            condition = condition_from(draft.placed, begin, table, song, inpainter)
    elif hp.unet.draft_input and not song.recording:
        print(NO_LYRICS)
    with watch("inpaint"):
        sung = (
            sing(
                inpainter,
                song.vocal,
                song.accompaniment,
                song.ranges,
                hp.inpainting,
                arguments.seed,
                condition,
                begin,
            )
            if inpainter
            else no_inpainter(song, draft.wav)
        )
    report = {
        "inpainter": ({"path": str(inpainter.path), "step": inpainter.step} if inpainter else None),
        **(voice.report() if voice else {}),
        "device": str(device),
        "seed": arguments.seed,
        "accompaniment": str(arguments.accompaniment),
        "vocal": str(arguments.vocal) if arguments.vocal else None,
        "inpainting": asdict(hp.inpainting) if inpainter else None,
        "melody": melody,
        "lines": draft.report() if draft else [],
    }
    with staged(arguments.out) as stage:
        names = write_song(
            stage, arguments.accompaniment, song, sung, draft, hp, watch.seconds, report
        )
    return [arguments.out / name for name in names]


def sing_alone(
    arguments: argparse.Namespace, device: torch.device, lyrics: Sequence[LyricLine] | None
) -> list[Path]:
    """Sing `--melody FILE` without an accompaniment; return the paths written, all or none."""
    watch = Stopwatch()
    with watch("load"):
        voice = voice_of(arguments, device)
    wish = wish_of(arguments, voice)
    audio = voice.hyperparams.audio
    with watch("melody"):
        found = topline_of(arguments, wish, voice, lyrics, None)
    with watch("draft"):
        num_samples = round((found.underlay.score.duration + PAUSE) * audio.sample_rate)
        draft = sung_draft(voice, found, num_samples, arguments.seed)
    melody = melody_report(wish, found)
    say(draft.lines, melody["remarks"])
    report = {
        **voice.report(),
        "device": str(device),
        "seed": arguments.seed,
        "melody": melody,
        "lines": draft.report(),
    }
    with staged(arguments.out) as stage:
        names = write_alone(stage, draft, watch.seconds, report)
    return [arguments.out / name for name in names]


# ---------------------------------------------------------------------------- the shell


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--lyrics", metavar="TEXT|FILE", help="words, .txt or .lrc")
    parser.add_argument("--out", type=Path, default=Path("out"), metavar="DIR")
    parser.add_argument("--seed", type=int, default=0, help="line i uses seed + i")
    parser.add_argument("--checkpoint", type=Path, default=DEMO / "transformer.pt", metavar="FILE")
    parser.add_argument("--postnet", type=Path, default=DEMO / "postnet.pt", metavar="FILE")
    parser.add_argument("--lexicon", type=Path, metavar="FILE", help="pronunciations of your own")
    parser.add_argument(
        "--quality", choices=QUALITIES, default="standard", help="steps and iterations for time"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument(
        "--set",
        dest="assignments",
        action="append",
        default=[],
        metavar="SECTION.NAME=VALUE",
        help="change a sampling value of synthesis or inpainting; a network's own values are its "
        "checkpoint's",
    )
    song = parser.add_argument_group("songs")
    song.add_argument("--accompaniment", type=Path, metavar="FILE", help="make a vocal for it")
    song.add_argument("--vocal", type=Path, metavar="FILE", help="change this vocal, not a new one")
    song.add_argument(
        "--melody",
        metavar="FILE|compose|none",
        help="MIDI, MusicXML or .song to be sung; compose one (default, where the voice sings and "
        "no --vocal is given); none: the lyrics are spoken",
    )
    song.add_argument("--transpose", type=int, default=0, metavar="N", help="semitones")
    song.add_argument(
        "--tempo",
        nargs="?",
        const=TEMPO_OF_ACCOMPANIMENT,
        metavar="BPM",
        help="beats per minute of the song; alone or auto: a melody file follows the "
        "accompaniment's tempo",
    )
    song.add_argument("--range", metavar="LOW-HIGH", help="of a composed melody: F3-C5 or 53-72")
    song.add_argument("--density", type=float, help="syllables per beat of a composed melody")
    song.add_argument("--inpaint", metavar="START-END[,...]", help="parts of --vocal, s or min:s")
    song.add_argument("--extend", type=float, metavar="SECONDS", help="continue --vocal")
    song.add_argument(
        "--inpainter", type=Path, metavar="FILE|none", help="a checkpoint of your own; none: draft"
    )
    song.add_argument(
        "--preset",
        choices=("legacy", "published"),
        help=f"the earlier project's inpainter, from {SAVE / published.INPAINTER_PATH}",
    )
    for flag, (names, help_text) in CONVENIENCES.items():
        knobs = ", ".join(f"inpainting.{name}" for name in names)
        song.add_argument(f"--{flag}", metavar="VALUE", help=f"{help_text} ({knobs})")
    return parser.parse_args(argv)


def assignments_of(
    arguments: argparse.Namespace, sections: Sequence[str] = ("synthesis", "inpainting")
) -> list[str]:
    """The assignments to `sections`, short flags last; ValueError for what cannot be changed."""
    for assignment in arguments.assignments:
        if assignment.partition(".")[0] not in SAMPLING:
            raise ValueError(
                f"--set {assignment}: a trained network keeps the values it was trained with; "
                "only synthesis.NAME=VALUE, composer.NAME=VALUE and, with --accompaniment, "
                "inpainting.NAME=VALUE can be changed here"
            )
    short = [
        f"inpainting.{name}={value}"
        for flag, (names, _) in CONVENIENCES.items()
        for name in names
        if (value := getattr(arguments, flag)) is not None
    ]
    given = (*QUALITIES[arguments.quality], *arguments.assignments, *short)
    return [assignment for assignment in given if assignment.partition(".")[0] in sections]


def sampling_changes(stored: Hyperparams, assignments: Sequence[str]) -> Hyperparams:
    """The checkpoint's hyperparameters with sampling values changed."""
    return config.build("stored", None, assignments, {"stored": stored})


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raise ValueError for flags that do not go together."""
    has_file = arguments.melody not in (None, COMPOSE, NONE)
    if arguments.lyrics is None and arguments.accompaniment is None and not has_file:
        raise ValueError(
            "nothing to do: give --lyrics to be spoken, --accompaniment to be sung to, or both"
        )
    if arguments.lyrics is None and arguments.melody == COMPOSE:
        raise ValueError(f"--melody {COMPOSE} needs --lyrics to be sung")
    if arguments.accompaniment is None:
        given = [
            f"--{name}"
            for name in ("vocal", "inpaint", "extend", "preset", "range", "density", *CONVENIENCES)
            if getattr(arguments, name) is not None
        ]
        given += [
            f"--set {assignment}"
            for assignment in arguments.assignments
            if assignment.partition(".")[0] in ("inpainting", "composer")
        ]
        if given:
            raise ValueError(f"{', '.join(given)}: only with --accompaniment FILE")


def chain_of(arguments: argparse.Namespace) -> Callable[..., list[Path]]:
    """What the command line asks for: a song, a melody alone, or speech."""
    if arguments.accompaniment is not None:
        return sing_song
    return speak_lyrics if arguments.melody in (None, NONE) else sing_alone


def main(argv: Sequence[str] | None = None) -> int:
    """Render from the shell; return the exit code."""
    arguments = parse_arguments(argv)
    try:
        check_arguments(arguments)
        lyrics = None if arguments.lyrics is None else lyrics_from(arguments.lyrics)
        device = distributed.start(arguments.device).device
        paths = chain_of(arguments)(arguments, device, lyrics)
    except (ValueError, OSError) as error:
        print(f"synthesis.py: {error}", file=sys.stderr)
        return 2
    for path in paths:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
