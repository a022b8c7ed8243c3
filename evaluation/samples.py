"""Samples to hear: five short files of the weights that ship, and a page with players.

    python -m evaluation.samples

Sings examples/lyrics.lrc over its accompaniment, one line of it again with other words, and lets
the songbook's voice (requirements-songbook.txt), from which the transformer learned, sing the same
topline: its true mel through the same PostNet is the ceiling. Writes docs/samples/*.ogg and
docs/index.html.
"""

from __future__ import annotations

import argparse
import html
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from music.midi_tracks import read_midi
from music.underlay import sing
from singing.request import MelodyRequest, SongFiles, SongRequest
from singing.sing import requested_voice, sing_song
from singing.voice import Voice
from text.frontend import Pronouncer
from text.lyrics import parse_lyrics, read_lyrics
from utils.audio import Features, active_level, read_wav, resample
from utils.files import write_bytes, write_text
from utils.flags import (
    SUNG_POSTNET,
    command_line,
    device_option,
    exit_code,
    network_option,
    option,
    start_on,
)

EXAMPLES = Path("examples")
LARGEST = 150_000  # bytes of a file
RATE = 22050  # Hz of the files
EXCERPT = (3.5, 20.5)  # s, the verse and the first lines of the chorus
LINE = (12.0, 16.0)  # s, the line that is sung again
WORDS = "Oh come to me when the night is long"
BLOCK = 8192  # samples that are encoded at once
PAUSE = 0.7  # s between a line and the same one sung again


@dataclass(frozen=True)
class Sample:
    """A file of the page: its title and what is heard."""

    name: str
    title: str
    text: str


SAMPLES = (
    Sample("mix", "Mix", "Six lines of lyrics sung to a backing track; the melody is composed."),
    Sample("vocal", "Vocal", "The topline alone: transformer, PostNet, inpainter."),
    Sample("draft", "Draft", "The same without the inpainter."),
    Sample(
        "ceiling",
        "Ceiling",
        "The same topline by the voice that the transformer learned from, its true mel through the "
        "same PostNet: what a perfect transformer would give.",
    ),
    Sample(
        "again",
        "A line sung again",
        f"“Oh stay with me till the day is done”, then the same four seconds with “{WORDS}”; every "
        "sample outside of them stays the same.",
    ),
)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_line(__doc__)
    network_option(parser, "transformer", "--checkpoint")
    network_option(parser, "postnet", shipped=SUNG_POSTNET)
    network_option(parser, "inpainter")
    option(parser, "--seed", 0, "of the melody and the voice", metavar="N")
    option(parser, "--work", Path("out/samples"), "folder of the renderings", metavar="DIR")
    option(parser, "--out", Path("docs"), "folder of the page", metavar="DIR")
    device_option(parser)
    return parser.parse_args(argv)


def write_sample_page(arguments: argparse.Namespace) -> None:
    """Sing, encode, and write the page."""
    device = start_on(arguments.device)
    accompaniment = EXAMPLES / "evening-sun.ogg"
    inpainter = None if str(arguments.inpainter) == "none" else arguments.inpainter
    request = SongRequest(
        arguments.work / "song",
        arguments.checkpoint,
        arguments.postnet,
        inpainter,
        lyrics=read_lyrics(EXAMPLES / "lyrics.lrc"),
        files=SongFiles(accompaniment),
        seed=arguments.seed,
    )
    sing_song(request, device)
    vocal, topline = (request.out / name for name in ("vocal.wav", "topline.mid"))
    again = replace(
        request,
        out=arguments.work / "again",
        lyrics=parse_lyrics(WORDS),
        files=SongFiles(accompaniment, vocal, "{}-{}".format(*LINE)),
        melody=MelodyRequest(str(topline)),
        seed=arguments.seed + 1,
    )
    sing_song(again, device)
    voice = requested_voice(request, device)
    sounds = {
        "mix": stereo(request.out / "mix.wav"),
        "vocal": excerpt(mono(vocal), *EXCERPT),
        "draft": excerpt(mono(request.out / "draft.wav"), *EXCERPT),
        "ceiling": excerpt(ceiling(voice, topline), *EXCERPT),
        "again": torch.cat(
            [
                excerpt(mono(vocal), *LINE),
                torch.zeros(round(PAUSE * RATE)),
                excerpt(mono(again.out / "vocal.wav"), *LINE),
            ]
        ),
    }
    level = active_level(sounds["vocal"], RATE // 100)
    for sample in SAMPLES:
        wav = sounds[sample.name]
        if sample.name in ("draft", "ceiling"):  # as loud as the vocal
            wav = wav * 10 ** ((level - active_level(wav, RATE // 100)) / 20)
        content = encoded(wav)
        write_bytes(arguments.out / "samples" / f"{sample.name}.ogg", content)
        print(f"{arguments.out / 'samples' / sample.name}.ogg: {len(content) / 1000:.0f} kB")
    steps = f"transformer {voice.transformer.step}, postnet {voice.postnet.step}"
    write_text(arguments.out / "index.html", page(steps))
    print(arguments.out / "index.html")


def mono(path: Path) -> Tensor:
    """Read (S,) at RATE."""
    return read_wav(path, RATE)[0].reshape(-1)


def stereo(path: Path) -> Tensor:
    """Read (2, S) at RATE."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return resample(torch.from_numpy(samples.T.copy()), rate, RATE)


def excerpt(wav: Tensor, start: float, end: float) -> Tensor:
    """Return the samples (S,) from `start` to `end` s."""
    return wav[round(start * RATE) : round(end * RATE)]


def ceiling(voice: Voice, topline: Path) -> Tensor:
    """Let the songbook's voice sing a MIDI file; return its mel's sound (S,) by `voice`, at RATE.

    Raises ImportError naming the packages that are missing.
    """
    from corpora import singer  # late: only this sample needs its packages

    if missing := singer.missing_packages():
        raise ImportError(missing)
    score = sing(read_midi(topline), Pronouncer()).score
    vocalist = singer.Singer()
    track = np.zeros(round((score.duration + 2.0) * singer.SAMPLE_RATE), np.float32)
    for phrase in score.phrases():
        sung = vocalist.sing(phrase, singer.Manner())
        first = max(0, round((phrase.syllables[0].onset - sung.lead) * singer.SAMPLE_RATE))
        part = sung.wav[: len(track) - first]
        track[first : first + len(part)] += part
    audio = voice.hyperparams.audio
    wav = resample(torch.from_numpy(track), singer.SAMPLE_RATE, audio.sample_rate)
    mel = Features(audio).mel(wav[None]).to(voice.device)
    notes = [(note.onset, note.offset, note.pitch) for note in score.notes]
    (sound,) = voice.sounds(mel, torch.tensor([mel.shape[1]]), [notes], [0])
    return resample(sound, audio.sample_rate, RATE)


def encoded(wav: Tensor) -> bytes:
    """Encode (S,) or (C, S) at RATE as Ogg Vorbis, at the best quality within LARGEST bytes.

    Raises ValueError where there is none.
    """
    samples = wav.clamp(-1, 1).numpy().T
    for level in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        buffer = io.BytesIO()
        with soundfile.SoundFile(
            buffer, "w", RATE, samples[0].size, "VORBIS", format="OGG", compression_level=level
        ) as file:
            for first in range(0, len(samples), BLOCK):  # libvorbis keeps a block on its stack
                file.write(samples[first : first + BLOCK])
        if buffer.tell() <= LARGEST:
            return buffer.getvalue()
    seconds = len(samples) / RATE
    raise ValueError(f"{seconds:.1f} s do not fit into {LARGEST} bytes: take a shorter excerpt")


def page(steps: str) -> str:
    """Return the page with a player for each sample."""
    players = "\n".join(
        f"<section>\n<h2>{html.escape(sample.title)}</h2>\n<p>{html.escape(sample.text)}</p>\n"
        f'<audio controls preload="none" src="samples/{sample.name}.ogg"></audio>\n</section>'
        for sample in SAMPLES
    )
    return PAGE.replace("{players}", players).replace("{steps}", html.escape(steps))


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>ToplAIner: samples</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem; }
h2 { font-size: 1.05rem; margin: 1.4rem 0 0; }
p { margin: 0.2rem 0 0.5rem; }
audio { width: 100%; }
</style>
</head>
<body>
<h1>ToplAIner</h1>
<p>Lyrics and a backing track in, a sung topline out. What the weights in <code>save/demo</code>
({steps}) sing of <a href="../examples/lyrics.lrc">these
lyrics</a>; <code>make samples</code> makes all of it anew.</p>
{players}
</body>
</html>
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the samples from the shell; return the exit code."""
    arguments = parse_arguments(argv)
    return exit_code("evaluation.samples", lambda: write_sample_page(arguments))


if __name__ == "__main__":
    sys.exit(main())
