"""What is sung where no words are given: a syllable, or an error in place of noise.

Without torch, which a plan need not wait for.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from singing.melody import read_melody
from singing.request import COMPOSE, LINE_LENGTHS, NONE, SongRequest
from text.lyrics import parse_lyrics
from utils.checkpoint import load_facts, resolve
from utils.flags import DEMO, MEL_INPAINTER


def with_syllables(request: SongRequest) -> SongRequest:
    """Give a request without words a syllable to be sung on, and say so.

    Only where there is a voice that knows notes, an inpainter (if any) that takes its draft, and
    not where the inpainter on mels sings (`mels_sing`). Else the request is returned as it is;
    ValueError when a melody was to be composed.
    """
    files, melody = request.files, request.melody
    if request.lyrics or mels_sing(request) or melody.source == NONE:
        return request
    if melody.is_file:
        return _with_file_vocalised(request)
    if files is None:
        return request
    syllable = _syllable_for(request)
    if syllable is None:
        if melody.source == COMPOSE and request.mel_inpainter is None:
            raise ValueError(
                f"--melody {COMPOSE} without --lyrics needs a voice that knows notes, an inpainter "
                "that takes a draft, and synthesis.vocalise: give words, or another --checkpoint"
            )
        return request
    if files.vocal is None:
        print(
            f"no lyrics: {syllable!r} is sung on a melody composed for the accompaniment; --lyrics "
            "gives it words"
        )
    else:
        print(
            "no lyrics: what the take sings in these parts is sung again; where it sings nothing, "
            f"a melody composed for them, on {syllable!r}"
        )
    lines = "\n".join(" ".join([syllable] * length) for length in LINE_LENGTHS)
    return replace(request, lyrics=parse_lyrics(lines), is_vocalise=True)


def mels_sing(request: SongRequest) -> bool:
    """Return whether the inpainter on mels sings a request without words, and not the voice.

    One that is named does. One that is taken because it ships only finds its own notes, for
    `--melody none`.
    """
    if request.mel_inpainter is None or request.lyrics:
        return False
    return request.is_chosen or request.melody.source == NONE


def _with_file_vocalised(request: SongRequest) -> SongRequest:
    """Give the notes of a melody file without words a syllable; errors as reading it."""
    melody = request.melody
    if read_melody(Path(str(melody.source)), melody.part, melody.verse).has_lyrics:
        return request
    syllable = _syllable_for(request)
    if syllable is None:
        return request
    print(f"{melody.source} carries no words: it is sung on {syllable!r}; --lyrics gives it words")
    return replace(request, lyrics=parse_lyrics(syllable), is_vocalise=True)


def check_can_sing(request: SongRequest) -> None:
    """Refuse what the waveform inpainter that ships would have to make without a draft.

    It has learnt to finish drafts; of an accompaniment alone it makes voice-coloured noise
    (docs/results.md). An inpainter of one's own may do better, and is not refused.
    """
    files, path = request.files, request.inpainter
    if files is None or request.has_words or request.mel_inpainter is not None or path is None:
        return
    if resolve(path, "inpainter").resolve().parent != DEMO.resolve():
        return
    asked = f"--melody {NONE}" if request.melody.source == NONE else "a song without words or notes"
    raise ValueError(
        f"{asked}: the inpainter that ships finds no notes, only noise in the colour of a voice. "
        f"Leave --melody {NONE} out, and notes are composed (or heard in the take) and sung; an "
        f"inpainter on mels finds its own: {MEL_INPAINTER} is taken where it is there, unless "
        f"--mel-inpainter {NONE} is given; train_inpainter.py --preset mel makes one, "
        "--mel-inpainter RUN names it; one of audio of your own: --inpainter RUN"
    )


def _syllable_for(request: SongRequest) -> str | None:
    """Return the syllable that the networks of a request can be given; None where they cannot."""
    if request.inpainter is not None:
        unet = load_facts(request.inpainter, "inpainter").hyperparams.unet
        if not unet.draft_input:
            return None
    try:
        facts = load_facts(request.transformer, "transformer")
    except FileNotFoundError:
        return None  # an inpainter alone; what it makes is said
    syllable = request.changed(facts.hyperparams).synthesis.vocalise
    return syllable if syllable != NONE and facts.data.get("pitch_range") else None
