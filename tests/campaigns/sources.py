"""Sound inputs of a campaign: two corpora, tiny networks, songs, scores and recordings."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import tiny_chain
import torch
from tiny import TINY, TINY_FLAGS
from tiny_corpora import RATE

import prepare_data
from music.midi import write_midi
from music.notation import read_notation
from text.symbols import SYMBOLS
from utils.loading import build_unet

ROOT = Path(__file__).resolve().parents[2]
SPOKEN = ("the wind blows", "hello again", "sing it once more", "we are late", "come home now")
SHARES = ("--validation-share", "0.3", "--test-share", "0.12", "--workers", "0")
XML = """<score-partwise version="3.1"><part-list><score-part id="P1"><part-name>Voice</part-name>
</score-part></part-list><part id="P1"><measure number="1"><attributes><divisions>2</divisions>
<time><beats>4</beats><beat-type>4</beat-type></time></attributes><sound tempo="96"/>
<note><pitch><step>C</step><octave>4</octave></pitch><duration>2</duration><lyric number="1">
<syllabic>begin</syllabic><text>hel</text></lyric></note><note><pitch><step>D</step><alter>1</alter>
<octave>4</octave></pitch><duration>2</duration><lyric number="1"><syllabic>end</syllabic>
<text>lo</text></lyric></note><backup><duration>2</duration></backup><forward><duration>4</duration>
</forward><barline location="right"><repeat direction="backward" times="2"/></barline></measure>
</part></score-partwise>
"""
SONGS = (
    'title: A\ntempo: 96\nmeter: 3/4\nnotes: "C" C4 E4 G4 | "F" A4 F4 "C" G4 |\n'
    "words: the wind blows once more now.\nwords: and now it turns a-gain.\n",
    "title: B\ntempo: 140\nprogram: 73\nintro: 1\nstyle: waltz\n"
    'notes: "D" D4/2 E4/2 F#4 z D4~ | "G" D4 E4*3 |\nwords: hel-lo to _ all\n',
)
CONTAINER = '<container><rootfiles><rootfile full-path="score.xml"/></rootfiles></container>'


def speech_corpus(directory: Path, count: int) -> Path:
    """Write a corpus in the layout of LJ Speech."""
    (directory / "wavs").mkdir(parents=True)
    rows = []
    for number in range(count):
        random = np.random.default_rng(number)
        length = 12000 + 700 * (number % 5)
        tone = 0.4 * np.sin(np.cumsum(random.uniform(0.03, 0.12, length)))
        fade = 0.3 + 0.7 * np.sin(np.arange(length) / 1500) ** 2
        soundfile.write(directory / "wavs" / f"item-{number:03d}.wav", tone * fade, RATE)
        line = SPOKEN[number % len(SPOKEN)]
        rows.append(f"item-{number:03d}|{line}|{line}\n")
    (directory / "metadata.csv").write_text("".join(rows))
    return directory


def prepare(command: str, corpus: Path, feature: Path, name: str) -> int:
    """Run prepare_data.py as a user does."""
    flags = ("--name", name, "--feature-dir", str(feature), *SHARES)
    return prepare_data.main([command, str(corpus), *flags, *TINY_FLAGS])


def build_weights(folder: Path) -> Path:
    """Save tiny networks with random weights as training would leave them."""
    folder.mkdir()
    torch.manual_seed(0)
    transformer = tiny_chain.build_transformer(TINY, len(SYMBOLS))
    with torch.no_grad():
        transformer.to_stop.bias.fill_(20.0)  # ends at once
    save: Callable[..., None] = tiny_chain.save
    save(folder / "singer.pt", "transformer", transformer, TINY, pitch_range=[50, 74])
    save(folder / "postnet.pt", "postnet", tiny_chain.build_postnet(TINY), TINY)
    context = ["mel", "phoneme", "pitch", "voicing"]
    unet = build_unet(TINY, len(SYMBOLS))
    save(folder / "inpainter.pt", "inpainter", unet, TINY, loudness=-18.0, context=context)
    return folder


def write_sounds(work: Path, name: str, seconds: float) -> list[Path]:
    """Write a tone in every kind of file that is read."""
    time = np.arange(round(seconds * RATE)) / RATE
    wav = 0.3 * np.sin(2 * np.pi * 255 * time) * (0.6 + 0.4 * np.sin(2 * np.pi * 2 * time))
    paths = [work / f"{name}{suffix}" for suffix in (".wav", ".flac", ".ogg", ".mp3")]
    for path in paths:
        soundfile.write(path, wav, RATE)
    return paths


def write_scores(work: Path) -> tuple[list[Path], list[Path], Path, Path]:
    """Write melodies: .song files, the same as MIDI, MusicXML, and compressed MusicXML."""
    songs = [work / f"tune-{number}.song" for number in range(len(SONGS))]
    midi = [song.with_suffix(".mid") for song in songs]
    for song, text in zip(songs, SONGS, strict=True):
        song.write_text(text)
    for song, path in zip(songs, midi, strict=True):
        write_midi(read_notation(song).melody, path)
    score, packed = work / "score.musicxml", work / "score.mxl"
    score.write_text(XML)
    handle = io.BytesIO()
    with zipfile.ZipFile(handle, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("META-INF/container.xml", CONTAINER)
        archive.writestr("score.xml", XML)
    packed.write_bytes(handle.getvalue())
    return songs, midi, score, packed
