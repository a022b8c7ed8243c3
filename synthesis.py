"""Lyrics in, voice out: text → phonemes → mel → linear → waveform, for the shell and as a function.

    python synthesis.py --lyrics "the rain is over" --out out/rain
    python synthesis.py --lyrics examples/lyrics.txt --out out/song --seed 7

All lines are decoded as one batch; a line's sound depends on its text and its seed, not on the
other lines. Writes for every line NN.wav, NN_mel.npy and NN_attention.png, all lines in a row as
lyrics.wav, and report.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from hyperparams import Hyperparams
from text.frontend import Pronouncer, Pronunciation
from text.lyrics import LyricLine, parse_lyrics, read_lyrics
from utils import config, distributed, plotting
from utils.audio import write_wav
from utils.metrics import AttentionHealth, attention_health
from utils.rendering import (
    Loaded,
    check_pair,
    generate_mel,
    guided_alignment,
    load,
    waveform,
)

DEMO = Path("save/demo")  # weights that come with the repository
PAUSE = 0.35  # s of silence between lines in lyrics.wav, a breath


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
            )
        )
    return lines


def write_outputs(
    lines: Sequence[Line], voice: Voice, out: Path, seed: int, seconds: float
) -> list[Path]:
    """Write sounds, mels, pictures and report.json; return the paths written."""
    out.mkdir(parents=True, exist_ok=True)
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
        entries.append(
            {
                "text": line.lyric.text,
                "line_number": line.lyric.line_number,
                "wav": wav.name,
                "seconds": len(line.wav) / audio.sample_rate,
                "seed": seed + number - 1,
                "ended_by": line.ended_by,
                "symbols": list(line.pronunciation.symbols),
                "guessed_words": [w.text for w in line.pronunciation.words if w.guessed],
                "attention": line.health.as_dict()
                | {
                    "skipped_words": [
                        line.pronunciation.words[i].text for i in line.health.skipped
                    ],
                    "repeated_words": [
                        line.pronunciation.words[i].text for i in line.health.repeated
                    ],
                },
            }
        )
    write_wav(out / "lyrics.wav", torch.cat(whole), audio.sample_rate)
    duration = sum(entry["seconds"] for entry in entries)
    report = {
        "transformer": {"path": str(voice.transformer.path), "step": voice.transformer.step},
        "postnet": {"path": str(voice.postnet.path), "step": voice.postnet.step},
        "device": str(voice.device),
        "sample_rate": audio.sample_rate,
        "seconds_of_audio": duration,
        "seconds_of_work": seconds,
        "real_time_factor": seconds / max(duration, 1e-9),
        "synthesis": asdict(voice.hyperparams.synthesis),
        "lines": entries,
    }
    path = out / "report.json"
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return [out / "lyrics.wav", *paths, path]


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


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--lyrics", required=True, metavar="TEXT|FILE", help="words, .txt or .lrc")
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
        metavar="synthesis.NAME=VALUE",
        help="change a sampling value; a network's own values are its checkpoint's",
    )
    return parser.parse_args(argv)


def sampling_changes(stored: Hyperparams, assignments: Sequence[str]) -> Hyperparams:
    """The checkpoint's hyperparameters with `synthesis.` knobs changed; ValueError for others."""
    for assignment in assignments:
        if not assignment.startswith("synthesis."):
            raise ValueError(
                f"--set {assignment}: a trained network keeps the values it was trained with; "
                "only synthesis.NAME=VALUE can be changed here"
            )
    return config.build("stored", None, assignments, {"stored": stored})


def main(argv: Sequence[str] | None = None) -> int:
    """Render from the shell; return the exit code."""
    arguments = parse_arguments(argv)
    try:
        lyrics = lyrics_from(arguments.lyrics)
        device = distributed.start(arguments.device).device
        pronouncer = Pronouncer(arguments.lexicon)
        voice = load_voice(arguments.checkpoint, arguments.postnet, device)
        voice.hyperparams = sampling_changes(voice.hyperparams, arguments.assignments)
        began = time.perf_counter()
        lines = speak(voice, lyrics, pronouncer, arguments.seed)
        seconds = time.perf_counter() - began
    except (ValueError, FileNotFoundError) as error:
        print(f"synthesis.py: {error}", file=sys.stderr)
        return 2
    for line in lines:
        guessed = [word.text for word in line.pronunciation.words if word.guessed]
        if guessed:
            print(f"line {line.lyric.line_number}: guessed {', '.join(guessed)}")
    for path in write_outputs(lines, voice, arguments.out, arguments.seed, seconds):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
