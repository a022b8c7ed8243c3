"""Transcribe a recording of singing: notes and words as a MIDI file.

    python transcribe.py out/song/vocal.wav --out out/vocal.mid
    python transcribe.py take.wav --lyrics lyrics.txt --out out/take.mid

With --lyrics every note gets its syllable; without, the phonemes that were recognised in it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from utils.paths import DEMO


def transcribe_file(
    file: Path, out: Path, lyrics: Path | None, transcriber: Path, device: str
) -> None:
    """Transcribe one recording, write the MIDI file and print what it holds."""
    # Imported now: --help should not wait for torch.
    from text.frontend import Pronouncer
    from text.lyrics import read_lyrics
    from transcription.lyrics import align_lyrics, phoneme_melody, write_melody
    from transcription.transcribe import load_transcriber, transcribe
    from utils import distributed
    from utils.audio import read_audio
    from utils.checkpoint import resolve

    lines = read_lyrics(lyrics) if lyrics else None
    path = resolve(transcriber, "transcriber")
    wav, rate = read_audio(file)
    found = transcribe(load_transcriber(path, distributed.start(device).device), wav, rate)
    melody = phoneme_melody(found) if lines is None else align_lyrics(found, lines, Pronouncer())
    write_melody(melody, out)
    notes = f"{len(found.notes)} note{'' if len(found.notes) == 1 else 's'}"
    print(f"{out}: {notes} in {wav.shape[1] / rate:.1f} s")


def main(argv: Sequence[str] | None = None) -> int:
    """Transcribe from the shell; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a vocal, any rate and channels")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE.mid", help="the transcription"
    )
    parser.add_argument(
        "--lyrics",
        type=Path,
        metavar="FILE",
        help="its words, .txt or .lrc (default: recognised phonemes are written)",
    )
    parser.add_argument(
        "--transcriber",
        type=Path,
        default=DEMO / "transcriber.pt",
        metavar="RUN",
        help="a run's name, its folder or a file (default: %(default)s)",
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    try:
        transcribe_file(**vars(arguments))
    except (ValueError, FileNotFoundError, ImportError) as error:
        print(f"transcribe.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
