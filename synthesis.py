"""Lyrics and a backing track in, a vocal out: the whole chain, for the shell and as functions.

Lyrics alone are spoken: text → phonemes → mel → linear → waveform.

    python synthesis.py --lyrics "the rain is over" --out out/rain
    python synthesis.py --lyrics examples/lyrics.txt --out out/song --seed 7

All lines are decoded as one batch; a line's sound depends on its text and its seed, not on the
other lines. Writes for every line NN.wav, NN_mel.npy and NN_attention.png, all lines in a row as
lyrics.wav, and report.json.

With an accompaniment the inpainter makes the vocal; lyrics become a draft that steers it, laid over
the song at their LRC times, else with equal rests.

    python synthesis.py --accompaniment song.flac --out out/vocal
    python synthesis.py --accompaniment song.flac --lyrics examples/lyrics.lrc --out out/sung
    python synthesis.py --accompaniment song.flac --vocal take.wav --inpaint 12.5-17.0,1:02-1:05
    python synthesis.py --accompaniment song.flac --vocal take.wav --extend 8
    python synthesis.py --accompaniment song.flac --preset published --method repaint

Writes vocal.wav, mix.wav (rate and channels of the accompaniment, true peak under -1 dBFS),
draft.wav when there are lyrics, song.png and report.json. With --vocal, vocal.wav is that file with
the named parts made anew: its rate, its channels, and bit by bit its samples everywhere else.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from hyperparams import PRESETS, Hyperparams
from text.frontend import Pronouncer, Pronunciation
from text.lyrics import LyricLine, parse_lyrics, read_lyrics
from utils import config, distributed, plotting, published
from utils.audio import write_wav
from utils.draft import (
    DraftLine,
    Placed,
    draft_track,
    frame_symbols,
    lines_within,
    place_lines,
)
from utils.metrics import AttentionHealth, attention_health
from utils.rendering import (
    Loaded,
    build_unet,
    check_pair,
    generate_mel,
    guided_alignment,
    load,
    waveform,
)
from utils.song import Song, open_song
from utils.song_output import write_song
from utils.staging import staged
from utils.whole_song import check_inpainter, guide_from, sing

SAVE = Path("save")
DEMO = SAVE / "demo"  # weights that come with the repository
PAUSE = 0.35  # s of silence between lines in lyrics.wav, a breath
CONVENIENCES = {  # flag: (the knob of the inpainting section that it sets, what it is)
    "method": ("method", "how known samples are respected"),
    "steps": ("num_steps", "noise levels walked"),
    "strength": ("strength", "share of them that a draft goes through"),
    "guidance": ("accompaniment_guidance", "how much the accompaniment counts; 1 = as trained"),
}


@dataclass
class Line:
    """One rendered line: its text, its sound and what is known about them."""

    lyric: LyricLine
    pronunciation: Pronunciation
    wav: Tensor  # (S,)
    mel: Tensor  # (T, M) natural log
    alignment: Tensor  # (steps, N)
    attention: list[Tensor]  # one (H, steps, N) per decoder layer
    health: AttentionHealth
    ended_by: str
    seed: int

    def report(self, sample_rate: int) -> dict[str, Any]:
        """What report.json says of the line."""
        words = self.pronunciation.words
        return {
            "text": self.lyric.text,
            "line_number": self.lyric.line_number,
            "seconds": len(self.wav) / sample_rate,
            "seed": self.seed,
            "ended_by": self.ended_by,
            "symbols": list(self.pronunciation.symbols),
            "guessed_words": [word.text for word in words if word.guessed],
            "attention": self.health.as_dict()
            | {
                "skipped_words": [words[i].text for i in self.health.skipped],
                "repeated_words": [words[i].text for i in self.health.repeated],
            },
        }


@dataclass
class Voice:
    """The two networks of the spoken chain and the knobs they are used with."""

    transformer: Loaded
    postnet: Loaded
    hyperparams: Hyperparams
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


def load_voice(transformer: Path, postnet: Path, device: torch.device) -> Voice:
    """Load both checkpoints; they carry the hyperparameters that they were trained with."""
    voice = Voice(
        load(transformer, "transformer", Hyperparams, device),
        load(postnet, "postnet", Hyperparams, device),
        Hyperparams(),
        device,
    )
    voice.hyperparams = voice.transformer.hyperparams
    check_pair(voice.transformer, voice.postnet)
    return voice


@torch.inference_mode()
def speak(
    voice: Voice, lyrics: Sequence[LyricLine], pronouncer: Pronouncer, seed: int = 0
) -> list[Line]:
    """Render lines of text.

    Line i draws its dropout from seed + i. Raises ValueError for text that cannot be pronounced,
    naming line and character, before anything is rendered.
    """
    said = [pronouncer.pronounce(lyric.text, lyric.line_number) for lyric in lyrics]
    table = {symbol: index for index, symbol in enumerate(voice.transformer.data["symbols"])}
    ids = [torch.tensor([table[s] for s in p.symbols]) for p in said]
    symbols = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True).to(voice.device)  # (B, N)
    lengths = torch.tensor([len(i) for i in ids], device=voice.device)
    network, hp = voice.transformer.network, voice.hyperparams
    seeds = [seed + i for i in range(len(lyrics))]
    generated = generate_mel(network, symbols, lengths, seeds, hp.synthesis, need_weights=True)

    from_mel = voice.transformer.standardiser("mel")
    to_postnet = voice.postnet.standardiser("mel")
    from_linear = voice.postnet.standardiser("linear")
    mel = from_mel.inverse(generated.mel)
    linear = from_linear.inverse(voice.postnet.network(to_postnet(mel), generated.mel_lengths))

    lines = []
    for i, (lyric, pronunciation) in enumerate(
        tqdm(zip(lyrics, said, strict=True), total=len(said), desc="waveforms", unit="line")
    ):
        frames, count = int(generated.mel_lengths[i]), len(pronunciation.symbols)
        steps = -(-frames // network.reduction_factor)
        alignment = guided_alignment(network, generated, i)[:, :count].cpu()
        words = [(word.first_symbol, word.last_symbol) for word in pronunciation.words]
        lines.append(
            Line(
                lyric=lyric,
                pronunciation=pronunciation,
                wav=waveform(linear[i, :frames], hp.audio, hp.synthesis, seeds[i]).cpu(),
                mel=mel[i, :frames].cpu(),
                alignment=alignment,
                attention=[a[i, :, :steps, :count].cpu() for a in generated.attention.cross],
                health=attention_health(alignment.numpy(), words),
                ended_by=generated.ended_by[i],
                seed=seeds[i],
            )
        )
    return lines


def write_outputs(lines: Sequence[Line], voice: Voice, out: Path, seconds: float) -> list[Path]:
    """Write sounds, mels, pictures and report.json; return the paths written."""
    audio = voice.hyperparams.audio
    step_seconds = voice.transformer.network.reduction_factor / audio.frame_rate
    paths, entries = [], []
    pause = torch.zeros(round(PAUSE * audio.sample_rate))
    whole = [part for line in lines for part in (line.wav, pause)][:-1]
    for number, line in enumerate(lines, start=1):
        stem = f"{number:02d}"
        wav, mel, picture = (out / f"{stem}{end}" for end in (".wav", "_mel.npy", "_attention.png"))
        write_wav(wav, line.wav, audio.sample_rate)
        np.save(mel, line.mel.numpy())
        figure = plotting.attention_grid(
            line.attention, list(line.pronunciation.symbols), step_seconds
        )
        plotting.save_figure(figure, picture)
        paths += [wav, mel, picture]
        entries.append({"wav": wav.name, **line.report(audio.sample_rate)})
    write_wav(out / "lyrics.wav", torch.cat(whole), audio.sample_rate)
    duration = sum(entry["seconds"] for entry in entries)
    report = {
        **voice_report(voice),
        "device": str(voice.device),
        "sample_rate": audio.sample_rate,
        "seconds_of_audio": duration,
        "seconds_of_work": seconds,
        "real_time_factor": seconds / max(duration, 1e-9),
        "lines": entries,
    }
    path = out / "report.json"
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return [out / "lyrics.wav", *paths, path]


def speak_lyrics(
    arguments: argparse.Namespace, device: torch.device, lyrics: Sequence[LyricLine]
) -> list[Path]:
    """Speak `--lyrics` without a song; return the paths written, all or none."""
    pronouncer = Pronouncer(arguments.lexicon)
    voice = load_voice(arguments.checkpoint, arguments.postnet, device)
    voice.hyperparams = sampling_changes(voice.hyperparams, arguments.assignments)
    began = time.perf_counter()
    lines = speak(voice, lyrics, pronouncer, arguments.seed)
    seconds = time.perf_counter() - began
    say_guessed(lines)
    with staged(arguments.out) as stage:
        paths = write_outputs(lines, voice, stage, seconds)
    return [arguments.out / path.name for path in paths]


def say_guessed(lines: Sequence[Line]) -> None:
    """Print the words whose pronunciation was guessed."""
    for line in lines:
        if line.pronunciation.guessed:
            guessed = ", ".join(line.pronunciation.guessed)
            print(f"line {line.lyric.line_number}: guessed {guessed}")


def voice_report(voice: Voice) -> dict[str, Any]:
    """What report.json says of the networks of the spoken chain."""
    return {
        "transformer": {"path": str(voice.transformer.path), "step": voice.transformer.step},
        "postnet": {"path": str(voice.postnet.path), "step": voice.postnet.step},
        "synthesis": asdict(voice.hyperparams.synthesis),
    }


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


@dataclass
class Draft:
    """Lyrics laid over a song, as the inpainter is told of them."""

    lines: list[Line]
    placed: list[Placed]
    wav: Tensor  # (S,)
    voice: Voice


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


def make_draft(
    voice: Voice, lyrics: Sequence[LyricLine], pronouncer: Pronouncer, song: Song, seed: int
) -> Draft:
    """Render the lyrics and lay them over the parts of the song that are to be made.

    Raises ValueError when they do not fit there, and as `speak` does.
    """
    audio = voice.hyperparams.audio
    chosen = lines_within(lyrics, song.regions, len(song.accompaniment) / audio.sample_rate)
    lines = speak(voice, chosen, pronouncer, seed)
    table = {symbol: index for index, symbol in enumerate(voice.transformer.data["symbols"])}
    reduction = voice.transformer.network.reduction_factor
    drafts = [
        DraftLine(
            line.lyric,
            line.wav,
            frame_symbols(
                line.alignment,
                [table[symbol] for symbol in line.pronunciation.symbols],
                reduction,
                len(line.mel),
            ),
        )
        for line in lines
    ]
    placed = place_lines(drafts, song.regions, audio.frame_rate, audio.hop_length, PAUSE)
    return Draft(
        lines, placed, draft_track(placed, len(song.accompaniment), audio.hop_length), voice
    )


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
    hyperparams = PRESETS[arguments.preset]
    with torch.device("meta"):  # names and shapes alone, to compare the file with
        network = build_unet(hyperparams, 0)
    return published.convert_inpainter(SAVE, network, hyperparams)


def sing_song(
    arguments: argparse.Namespace, device: torch.device, lyrics: Sequence[LyricLine] | None
) -> list[Path]:
    """Make a vocal for `--accompaniment`; return the paths written, all or none."""
    watch = Stopwatch()
    with watch("load"):
        inpainter = load(inpainter_path(arguments), "inpainter", Hyperparams, device)
        inpainting, spoken = split_assignments(arguments)
        hp = sampling_changes(
            inpainter.hyperparams, [*spoken, *inpainting], ("synthesis", "inpainting")
        )
        inpainter.hyperparams = hp
        song = open_song(
            arguments.accompaniment,
            arguments.vocal,
            arguments.inpaint,
            arguments.extend,
            hp.audio.sample_rate,
            inpainter.data,
            hp.diffusion.sigma_data,
        )
        has_draft = bool(lyrics or song.recording)
        check_inpainter(inpainter, hp.inpainting, bool(lyrics), has_draft)
    draft, guide = None, None
    if lyrics:
        with watch("draft"):
            voice = load_voice(arguments.checkpoint, arguments.postnet, device)
            check_pair(voice.transformer, inpainter)
            voice.hyperparams = sampling_changes(voice.hyperparams, spoken)
            pronouncer = Pronouncer(arguments.lexicon)
            draft = make_draft(voice, lyrics, pronouncer, song, arguments.seed)
            say_guessed(draft.lines)
            table = voice.transformer.data["symbols"]
            if hp.unet.context_width:
                guide = guide_from(draft.placed, draft.wav, table, song, inpainter)
    with watch("inpaint"):
        sung = sing(
            inpainter,
            song.vocal,
            song.accompaniment,
            song.ranges,
            hp.inpainting,
            arguments.seed,
            guide,
            draft.wav if draft else song.vocal if song.recording else None,
        )
    report = {
        "inpainter": {"path": str(inpainter.path), "step": inpainter.step},
        **(voice_report(draft.voice) if draft else {}),
        "device": str(device),
        "seed": arguments.seed,
        "accompaniment": str(arguments.accompaniment),
        "vocal": str(arguments.vocal) if arguments.vocal else None,
        "inpainting": asdict(hp.inpainting),
        "lines": draft_report(draft, hp.audio.frame_rate) if draft else [],
    }
    with staged(arguments.out) as stage:
        names = write_song(
            stage,
            arguments.accompaniment,
            song,
            sung,
            draft.wav if draft else None,
            hp,
            watch.seconds,
            report,
        )
    return [arguments.out / name for name in names]


def draft_report(draft: Draft, frame_rate: float) -> list[dict[str, Any]]:
    """What report.json says of each line of a song."""
    rate = draft.voice.hyperparams.audio.sample_rate
    return [
        {
            **line.report(rate),
            "start": place.frame / frame_rate,
            "late": place.late / frame_rate,
        }
        for line, place in zip(draft.lines, draft.placed, strict=True)
    ]


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
    song.add_argument("--inpaint", metavar="START-END[,...]", help="parts of --vocal, s or min:s")
    song.add_argument("--extend", type=float, metavar="SECONDS", help="continue --vocal")
    song.add_argument("--inpainter", type=Path, metavar="FILE", help="a checkpoint of your own")
    song.add_argument(
        "--preset",
        choices=("published",),
        help=f"the earlier project's inpainter, from {SAVE / published.INPAINTER_PATH}",
    )
    for flag, (name, help_text) in CONVENIENCES.items():
        song.add_argument(f"--{flag}", metavar="VALUE", help=f"{help_text} (inpainting.{name})")
    return parser.parse_args(argv)


def split_assignments(arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Assignments to the inpainting section, short flags last, and all others."""
    inpainting = [a for a in arguments.assignments if a.startswith("inpainting.")]
    others = [a for a in arguments.assignments if a not in inpainting]
    for flag, (name, _) in CONVENIENCES.items():
        if (value := getattr(arguments, flag)) is not None:
            inpainting.append(f"inpainting.{name}={value}")
    return inpainting, others


def sampling_changes(
    stored: Hyperparams, assignments: Sequence[str], sections: Sequence[str] = ("synthesis",)
) -> Hyperparams:
    """The checkpoint's hyperparameters with knobs of `sections` changed; ValueError for others."""
    for assignment in assignments:
        if assignment.partition(".")[0] not in sections:
            raise ValueError(
                f"--set {assignment}: a trained network keeps the values it was trained with; "
                "only synthesis.NAME=VALUE and, with --accompaniment, inpainting.NAME=VALUE can "
                "be changed here"
            )
    return config.build("stored", None, assignments, {"stored": stored})


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raise ValueError for flags that do not go together."""
    if arguments.lyrics is None and arguments.accompaniment is None:
        raise ValueError(
            "nothing to do: give --lyrics to be spoken, --accompaniment to be sung to, or both"
        )
    if arguments.accompaniment is None:
        given = [
            f"--{name}"
            for name in ("vocal", "inpaint", "extend", "preset", *CONVENIENCES)
            if getattr(arguments, name) is not None
        ]
        if given:
            raise ValueError(f"{', '.join(given)}: only with --accompaniment FILE")


def main(argv: Sequence[str] | None = None) -> int:
    """Render from the shell; return the exit code."""
    arguments = parse_arguments(argv)
    try:
        check_arguments(arguments)
        lyrics = None if arguments.lyrics is None else lyrics_from(arguments.lyrics)
        device = distributed.start(arguments.device).device
        render = speak_lyrics if arguments.accompaniment is None else sing_song
        paths = render(arguments, device, lyrics)
    except (ValueError, OSError) as error:
        print(f"synthesis.py: {error}", file=sys.stderr)
        return 2
    for path in paths:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
