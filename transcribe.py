"""Transcribe a recording of singing: notes and words as a MIDI file.

    python transcribe.py out/song/vocal.wav --out out/vocal.mid
    python transcribe.py take.wav --lyrics lyrics.txt --out out/take.mid

With --lyrics every note gets its syllable; without, the phonemes that were recognised in it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from utils.flags import (
    command_line,
    device_option,
    exit_code,
    network_option,
    step_option,
    take_step,
)


def transcribe_file(file: Path, out: Path, lyrics: Path | None, network: Path, device: str) -> None:
    """Transcribe one recording, write the MIDI file and print what it holds."""
    # Imported now: --help should not wait for torch.
    from text.frontend import Pronouncer
    from text.lyrics import read_lyrics
    from transcription.lyrics import align_lyrics, phoneme_melody, write_melody
    from transcription.transcribe import load_transcriber, transcribe
    from utils.audio import read_audio
    from utils.checkpoint import resolve
    from utils.flags import start_on

    lines = read_lyrics(lyrics) if lyrics else None
    path = resolve(network, "transcriber")
    wav, rate = read_audio(file)
    found = transcribe(load_transcriber(path, start_on(device)), wav, rate)
    melody = phoneme_melody(found) if lines is None else align_lyrics(found, lines, Pronouncer())
    write_melody(melody, out)
    notes = f"{len(found.notes)} note{'' if len(found.notes) == 1 else 's'}"
    print(f"{out}: {notes} in {wav.shape[1] / rate:.1f} s")


def main(argv: Sequence[str] | None = None) -> int:
    """Transcribe from the shell; return the exit code."""
    parser = command_line(__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="a vocal, any rate and channels")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.mid", help="the notes")
    parser.add_argument(
        "--lyrics",
        type=Path,
        metavar="FILE",
        help="its words, .txt or .lrc (default: recognised phonemes are written)",
    )
    network_option(parser, "transcriber")
    step_option(parser, "--transcriber")
    device_option(parser)
    a = parser.parse_args(argv)
    take_step(a, "--transcriber")
    return exit_code(
        "transcribe.py",
        lambda: transcribe_file(a.file, a.out, a.lyrics, a.transcriber, a.device),
    )


if __name__ == "__main__":
    sys.exit(main())
