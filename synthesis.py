"""Lyrics and a backing track in, a sung topline out: the whole chain, for the shell.

    python synthesis.py --lyrics examples/lyrics.txt --accompaniment song.flac --out out/song
    python synthesis.py  # speak the text of hyperparams.py, section data

The lyrics are sung on a melody that is composed for the accompaniment, or read from a file; the
voice's draft steers the inpainter, which makes the vocal. Writes vocal.wav, mix.wav (rate and
channels of the accompaniment, true peak under -1 dBFS), draft.wav, topline.mid (with the lyrics),
song.png and report.json.

    python synthesis.py ... --melody tune.mid --transpose -2 --tempo auto
    python synthesis.py ... --melody choir.musicxml --part Alto --verse 2
    python synthesis.py ... --melody compose --range A3-E5 --density 1.5 --seed 3
    python synthesis.py ... --chords "C | Am | F G" --plan  # melody and picture, no audio
    python synthesis.py ... --melody none  # the lyrics are spoken, at LRC times or with equal rests
    python synthesis.py ... --inpainter none  # the draft is the vocal
    python synthesis.py --accompaniment song.flac --out out/vocal  # a vocal without words
    python synthesis.py --accompaniment song.flac --melody none  # notes that the inpainter finds
    python synthesis.py --accompaniment song.flac --vocal take.wav --inpaint 12.5-17.0,1:02-1:05
    python synthesis.py --accompaniment song.flac --vocal take.wav --extend 8
    python synthesis.py --accompaniment song.flac --preset legacy --method repaint

With --vocal, vocal.wav is that file with the named parts made anew: its rate, its channels, and bit
by bit its samples everywhere else. Without an accompaniment a melody file is sung alone, and lyrics
are spoken: all lines as one batch, a line's sound depending on its text and its seed only; for
every line NN.wav, NN_mel.npy and NN_attention.png, all in a row as lyrics.wav, and report.json.

    python synthesis.py --lyrics "the rain is over" --out out/rain
    python synthesis.py --melody examples/songs/amazing-grace.song --out out/grace
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hyperparams import Hyperparams
from singing.request import (
    NONE,
    QUALITIES,
    TEMPO_OF_ACCOMPANIMENT,
    MelodyRequest,
    SongFiles,
    SongRequest,
    is_sung,
    parse_pitch_range,
    section_of,
)
from text.lyrics import Lyrics, looks_like_path, parse_lyrics, read_lyrics
from text.remarks import remark_block
from utils.flags import (
    DEMO,
    MEL_INPAINTER,
    SAVE,
    SPOKEN_POSTNET,
    SUNG_POSTNET,
    at_least_zero,
    command_line,
    device_option,
    exit_code,
    finite_number,
    network_option,
    option,
    step_option,
    take_step,
)

if TYPE_CHECKING:
    import torch

    from singing.hearing import Hear
    from singing.takes import TakesRequest

CONVENIENCES = {  # flag: (the knobs of the inpainting section that it sets, what it is)
    "method": (("method",), "how known samples are respected"),
    "steps": (("num_steps", "draft_steps"), "noise levels walked"),
    "strength": (("strength",), "share of them that a draft goes through"),
    "guidance": (("accompaniment_guidance",), "how much the accompaniment counts; 1 = as trained"),
}

PERFORMANCE = {  # flag: (unit, the knob of the synthesis section that it sets, what it is)
    "vibrato": ("CENTS", "vibrato_cents", "depth of the vibrato, from the mean"),
    "vibrato-rate": ("HZ", "vibrato_rate", "its rate"),
    "vibrato-delay": ("SECONDS", "vibrato_delay", "into a note until it starts"),
    "glide": ("SECONDS", "glide_seconds", "from note to note"),
    "dynamics": ("FACTOR", "dynamics", "how much the velocities of a MIDI file count; 0: not"),
    "swell": ("DB", "phrase_dynamics", "of every phrase to its middle"),
    "breath": ("SECONDS", "breath_seconds", "of a breath before phrases, where a rest has room"),
}

TRANSCRIBER = DEMO / "transcriber.pt"
PLAIN_MIX = ("mixing.dip=0", "mixing.presence=0", "mixing.room=0")
SONG_FLAGS = ("vocal", "inpaint", "extend", "preset", "range", "density", "chords", "balance")


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_line(__doc__)
    parser.add_argument(
        "--lyrics", metavar="TEXT|FILE", help="words, or a file of text, .lrc, .srt, .vtt"
    )
    option(parser, "--out", Path("out"), "folder of the results", metavar="DIR")
    option(parser, "--seed", 0, "of all randomness; line i uses seed + i", metavar="N")
    network_option(parser, "transformer", "--checkpoint")
    step_option(parser, "--checkpoint")
    parser.add_argument(
        "--postnet",
        type=Path,
        metavar="cbhg|source|RUN",
        help="mel → linear, then Griffin-Lim; or with a source, mel and F0 → waveform: a kind, a "
        "run's name, its folder or a file; of step N: RUN@N (default: "
        f"{SUNG_POSTNET} for what is sung, {SPOKEN_POSTNET} for what is spoken)",
    )
    parser.add_argument(
        "--mel-inpainter",
        type=Path,
        metavar="RUN|none",
        help="restores the mels of words, and sings without words: a run's name, its folder or a "
        f"file; of step N: RUN@N (default: {MEL_INPAINTER} if it is there, for notes of its own: "
        "--melody none without --lyrics)",
    )
    parser.add_argument(
        "--voice",
        metavar="NAME",
        help="who sings, of the transformer's voices (default: its first)",
    )
    parser.add_argument("--lexicon", type=Path, metavar="FILE", help="pronunciations of your own")
    parser.add_argument(
        "--quality",
        choices=QUALITIES,
        default="standard",
        help="steps and iterations for time (default: %(default)s)",
    )
    parser.add_argument(
        "--pictures",
        action="store_true",
        help="draw the attention of every line (else only of up to four spoken ones)",
    )
    device_option(parser)
    parser.add_argument(
        "--set",
        dest="assignments",
        action="append",
        default=[],
        metavar="SECTION.NAME=VALUE",
        help="change a value of the sections synthesis, inpainting, mel_inpainting, composer, "
        "mixing, else as in "
        "hyperparams.py; a network's own values are its checkpoint's",
    )
    parser.add_argument(
        "--plan",
        action="store_true",
        help="no audio: write the melody with its words (topline.mid), its picture over the chords "
        "(plan.png) and all of it as data (plan.json); --melody topline.mid sings it",
    )
    parser.add_argument(
        "--takes",
        type=int,
        metavar="N",
        help="sing N takes of seeds in a row, judge them by the transcriber, write the best",
    )
    parser.add_argument(
        "--keep", type=int, metavar="K", help="write the K best, below --out as take-2, take-3 …"
    )
    parser.add_argument(
        "--vary",
        choices=("melody", "performance"),
        help="in what takes differ (default: the melody where it is composed); the judge finds "
        "better melodies, but no better performances: choose those by ear, with --keep",
    )
    parser.add_argument(
        "--transcriber",
        type=Path,
        metavar="RUN|none",
        help="judges --takes, and hears the notes and sounds of a --vocal that is sung again "
        f"without --lyrics (default: {TRANSCRIBER} if it is there, else none)",
    )
    song = parser.add_argument_group("songs")
    song.add_argument("--accompaniment", type=Path, metavar="FILE", help="make a vocal for it")
    song.add_argument("--vocal", type=Path, metavar="FILE", help="change this vocal, not a new one")
    song.add_argument(
        "--melody",
        metavar="FILE|compose|none",
        help="MIDI, MusicXML or .song to be sung; compose one (default, where the voice sings and "
        "no --vocal is given); none: the lyrics are spoken, or without any the inpainter on mels "
        "finds its own notes",
    )
    song.add_argument(
        "--part", metavar="NAME|NUMBER", help="the track or part of a --melody file that is sung"
    )
    song.add_argument("--verse", type=int, metavar="N", help="the verse of it, from 1")
    song.add_argument(
        "--transpose", type=int, default=0, metavar="N", help="semitones (default: %(default)s)"
    )
    song.add_argument(
        "--tempo",
        nargs="?",
        const=TEMPO_OF_ACCOMPANIMENT,
        metavar="BPM",
        help="beats per minute of the song; alone or auto: a melody file follows the "
        "accompaniment's tempo",
    )
    song.add_argument("--range", metavar="LOW-HIGH", help="of a composed melody: F3-C5 or 53-72")
    song.add_argument(
        "--chords",
        metavar="TEXT|FILE",
        help="of the accompaniment, bar by bar: 'C | Am | F G', a text file of such lines, or .lab",
    )
    song.add_argument(
        "--density", type=finite_number, help="syllables per beat of a composed melody"
    )
    song.add_argument("--inpaint", metavar="START-END[,...]", help="parts of --vocal, s or min:s")
    song.add_argument("--extend", type=finite_number, metavar="SECONDS", help="continue --vocal")
    song.add_argument(
        "--inpainter",
        type=Path,
        metavar="RUN|none",
        help="a run's name, its folder or a file; of step N: RUN@N; none: the draft is the vocal "
        f"(default: {DEMO / 'inpainter.pt'})",
    )
    song.add_argument(
        "--preset",
        choices=("legacy", "published"),
        help="the earlier project's inpainter, from its file below save/ (errors say where)",
    )
    song.add_argument(
        "--balance",
        type=finite_number,
        metavar="LU",
        help="loudness of a new vocal over the accompaniment while it sings (mixing.balance)",
    )
    song.add_argument(
        "--plain-mix",
        action="store_true",
        help="the balance alone: no dip of the accompaniment, no presence, no room",
    )
    performance = parser.add_argument_group(
        "performance", "of notes that say nothing themselves (velocities, controllers of MIDI)"
    )
    for flag, (unit, name, text) in PERFORMANCE.items():
        kind = finite_number if unit == "DB" else at_least_zero
        performance.add_argument(
            f"--{flag}", type=kind, metavar=unit, help=f"{text} (synthesis.{name})"
        )
    for flag, (names, help_text) in CONVENIENCES.items():
        knobs = ", ".join(f"inpainting.{name}" for name in names)
        song.add_argument(f"--{flag}", metavar="VALUE", help=f"{help_text} ({knobs})")
    arguments = parser.parse_args(argv)
    take_step(arguments, "--checkpoint")
    return arguments


def lyrics_from(argument: str) -> Lyrics:
    """Read `--lyrics`: a file when one of that name exists, else the text itself."""
    path = Path(argument)
    try:
        is_file, is_folder = path.is_file(), path.is_dir() and looks_like_path(argument)
    except (OSError, ValueError):  # text longer than a file name may be, or with a zero byte
        is_file = is_folder = False
    if is_folder:
        raise ValueError(f"--lyrics {argument} is a folder; expected a .txt or .lrc file, or words")
    if is_file:
        return read_lyrics(path)
    if looks_like_path(argument):
        raise FileNotFoundError(
            f"--lyrics {argument}: no such file. Give an existing .txt or .lrc file, or the words "
            "(a single word with a slash or a dot in it: with a blank behind it)"
        )
    return parse_lyrics(argument)


# ---------------------------------------------------------------------------- the request


def request_from(arguments: argparse.Namespace) -> SongRequest:
    """Turn the command line into a request; ValueError for flags that do not go together."""
    if arguments.accompaniment is None:
        check_no_song(arguments)
    if arguments.vocal and (arguments.balance is not None or arguments.plain_mix):
        raise ValueError(
            "--balance and --plain-mix mix a new vocal; one that is there already keeps its level"
        )
    lyrics = None if arguments.lyrics is None else lyrics_from(arguments.lyrics)
    chords = None
    if arguments.chords is not None:
        from composer.chords import read_chart  # late: --help needs no numpy

        chords = read_chart(arguments.chords)
    melody = MelodyRequest(
        arguments.melody,
        arguments.transpose,
        arguments.tempo,
        None if arguments.range is None else parse_pitch_range(arguments.range),
        arguments.density,
        arguments.part,
        arguments.verse,
        chords,
    )
    if melody.is_file and (arguments.range is not None or arguments.density is not None):
        raise ValueError(
            "--range and --density are of a composed melody, and --melody FILE has its notes: "
            "leave them out (--transpose moves all notes)"
        )
    files = None
    if arguments.accompaniment is not None:
        files = SongFiles(
            arguments.accompaniment, arguments.vocal, arguments.inpaint, arguments.extend
        )
    has_words = bool(lyrics) or melody.is_file
    mel_inpainter = mel_inpainter_path(arguments)
    can_sing = has_words or mel_inpainter is not None
    sings = is_sung(melody, files, lyrics, mel_inpainter)
    return SongRequest(
        out=arguments.out,
        transformer=arguments.checkpoint,
        postnet=arguments.postnet or (SUNG_POSTNET if sings else SPOKEN_POSTNET),
        inpainter=None if files is None else inpainter_path(arguments, can_sing),
        mel_inpainter=mel_inpainter,
        is_chosen=arguments.mel_inpainter is not None,
        lyrics=lyrics,
        files=files,
        melody=melody,
        lexicon=arguments.lexicon,
        voice=arguments.voice,
        seed=arguments.seed,
        changes=changes_from(arguments),
        pictures=arguments.pictures,
    )


def check_no_song(arguments: argparse.Namespace) -> None:
    """Raise ValueError for flags that need an accompaniment."""
    given = [
        f"--{name}" for name in (*SONG_FLAGS, *CONVENIENCES) if getattr(arguments, name) is not None
    ]
    given += ["--plain-mix"] if arguments.plain_mix else []
    given += [
        f"--set {assignment}"
        for assignment in arguments.assignments
        if section_of(assignment) in ("inpainting", "composer", "mixing")
    ]
    if given:
        raise ValueError(f"{', '.join(given)}: only with --accompaniment FILE")


def changes_from(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Collect the assignments of --quality, --set and the short flags; the later win."""
    short = [
        f"inpainting.{name}={value}"
        for flag, (names, _) in CONVENIENCES.items()
        for name in names
        if (value := getattr(arguments, flag)) is not None
    ]
    short += [
        f"synthesis.{name}={value}"
        for flag, (_, name, _) in PERFORMANCE.items()
        if (value := getattr(arguments, flag.replace("-", "_"))) is not None
    ]
    short += PLAIN_MIX if arguments.plain_mix else ()
    short += [] if arguments.balance is None else [f"mixing.balance={arguments.balance}"]
    return (*QUALITIES[arguments.quality], *arguments.assignments, *short)


def mel_inpainter_path(arguments: argparse.Namespace) -> Path | None:
    """Find the inpainter on mels; None with --mel-inpainter none, or where none ships.

    The earlier project's inpainter takes no draft: beside it there is one only where it is named.
    """
    if str(arguments.mel_inpainter) == NONE:
        return None
    if arguments.mel_inpainter is not None:
        return arguments.mel_inpainter
    ships = MEL_INPAINTER.exists() and arguments.preset is None
    return MEL_INPAINTER if ships else None


def listener(arguments: argparse.Namespace, device: torch.device) -> Hear | None:
    """Return what hears a --vocal, its transcriber loaded when it first does; None without one."""
    reference = transcriber_path(arguments)
    if reference is None or arguments.vocal is None:
        return None
    from transcription.listening import Listener

    return Listener(reference, device)


def transcriber_path(arguments: argparse.Namespace) -> Path | None:
    """Return what names the transcriber; None: there is none, or none is wanted."""
    reference = arguments.transcriber or (TRANSCRIBER if TRANSCRIBER.exists() else NONE)
    return None if str(reference) == NONE else Path(reference)


def inpainter_path(arguments: argparse.Namespace, can_sing: bool) -> Path | None:
    """Find the checkpoint of the last stage; None: the draft is the vocal.

    That is so with --inpainter none, and, with a notice, where no weights ship and none are given,
    but a draft can be sung.
    """
    if str(arguments.inpainter) == NONE:
        return None
    if arguments.preset is not None:
        return legacy_inpainter(arguments)
    path = arguments.inpainter or DEMO / "inpainter.pt"
    if arguments.inpainter is None and can_sing and not path.exists():
        print(
            f"{path} is not there: the draft is the vocal. Train an inpainter "
            "with train_inpainter.py and name it with --inpainter"
        )
        return None
    return path


def legacy_inpainter(arguments: argparse.Namespace) -> Path:
    """Convert the earlier project's weights, once, to save/inpainter/published.

    Errors say where they are expected.
    """
    if arguments.inpainter is not None:
        raise ValueError(
            f"--preset {arguments.preset} and --inpainter {arguments.inpainter}: a checkpoint "
            "carries its own hyperparameters, so give one of the two"
        )
    import torch

    from legacy import weights
    from utils import config
    from utils.loading import build_unet

    hyperparams = config.preset(arguments.preset)
    with torch.device("meta"):  # names and shapes alone, to compare the file with
        network = build_unet(hyperparams, 0)
    return weights.convert_inpainter(SAVE, network, hyperparams)


def default_arguments() -> list[str]:
    """Return the flags of a call without any: speak `data.text`, with own weights if trained."""
    data = Hyperparams().data
    chosen = []
    for kind, flag in (("transformer", "--checkpoint"), ("postnet", "--postnet")):
        run = SAVE / kind / data.run
        if any(run.glob("*.pt")):
            chosen += [flag, str(run)]
    return ["--lyrics", data.text, *chosen]


def rendered(request: SongRequest, arguments: argparse.Namespace) -> tuple[list[Path], list[str]]:
    """Make what is asked for; return the paths written and remarks for the user."""
    # Imported late: --help and a wrong flag are answered before torch is loaded.
    takes = takes_from(arguments)
    if arguments.plan:
        if takes is not None:
            raise ValueError("--plan shows one melody; --takes sings several: give one of the two")
        from singing.plan import plan_song

        return plan_song(request)
    from utils.flags import start_on

    device = start_on(arguments.device)
    if takes is not None:
        from singing.takes import sing_takes
        from transcription.take_judge import TakeJudge

        judge = transcriber_path(arguments)
        if judge is None:
            raise ValueError("--takes are judged by a transcriber: name one with --transcriber RUN")
        return sing_takes(request, takes, device, TakeJudge.load(judge, device))
    from singing.sing import sing_song

    return sing_song(request, device, listener(arguments, device))


def takes_from(arguments: argparse.Namespace) -> TakesRequest | None:
    """Return which takes are asked for; None for one. ValueError for flags without --takes."""
    if arguments.takes is None:
        if arguments.keep is not None or arguments.vary is not None:
            raise ValueError("--keep and --vary choose among takes: only with --takes N")
        return None
    from singing.takes import TakesRequest

    return TakesRequest(arguments.takes, arguments.keep or 1, arguments.vary)


def main(argv: Sequence[str] | None = None) -> int:
    """Render from the shell; return the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if not argv:
        argv = default_arguments()
        print(f"hyperparams.py, section data: python synthesis.py {shlex.join(argv)}")
    arguments = parse_arguments(argv)

    def sing() -> None:
        try:
            request = request_from(arguments)
            paths, remarks = rendered(request, arguments)
        except ValueError as error:
            if str(error).startswith("line ") and Path(arguments.lyrics or "").is_file():
                raise ValueError(f"{arguments.lyrics}, {error}") from error
            raise
        for path in paths:
            print(path)
        if remarks:
            print(remark_block(remarks))

    return exit_code("synthesis.py", sing)


if __name__ == "__main__":
    sys.exit(main())
