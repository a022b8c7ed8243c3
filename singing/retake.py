"""New words for parts of a take: laid on the notes that it has there, composed behind its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from composer.compose import compose
from composer.harmony import analyse
from music.score import Melody, Note, Underlay
from music.underlay import lay_lyrics
from singing.hearing import HEARD, Hear, heard_notes, like_the_take, parts_of
from singing.melody import MelodyResult

if TYPE_CHECKING:
    from hyperparams import Composer
    from singing.request import SongRequest
    from singing.song import SongAudio
    from text.frontend import Pronouncer
    from text.lyrics import LyricLine


def retaken(
    request: SongRequest,
    song: SongAudio,
    hear: Hear,
    pronouncer: Pronouncer,
    sample_rate: int,
    knobs: Composer,
) -> MelodyResult | None:
    """Return the melody of lyrics for parts of a take; None where there are no notes for it.

    Parts of a take and what goes on behind its end are not sung with words together: the parts
    are, and the end gets none. Raises ValueError for lyrics that do not fit.
    """
    lyrics = request.lyrics or ()
    inside, behind = parts_of(song, sample_rate)
    if inside:
        notes = heard_notes(song, inside, hear, sample_rate)
        if not notes:
            return None
        melody = Melody(one_after_another(notes), (None,) * len(notes))
        return _result(request, lay_lyrics(lyrics, melody, pronouncer), lyrics)
    start, stop = behind[0]
    bounds = (start / sample_rate, stop / sample_rate)
    harmony = analyse(song.accompaniment.numpy(), sample_rate)
    knobs, remarks = like_the_take(song, start, harmony, knobs, hear, sample_rate)
    underlay = compose(stamped(lyrics, *bounds), harmony, pronouncer, knobs, request.seed)
    result = _result(request, underlay, lyrics)
    return replace(result, harmony=harmony, remarks=(*result.remarks, *remarks))


def _result(request: SongRequest, underlay: Underlay, lyrics: Sequence[LyricLine]) -> MelodyResult:
    numbers = tuple(line.line_number for line in lyrics)
    return MelodyResult(
        replace(request.melody, source=HEARD), underlay, numbers, None, underlay.remarks
    )


def one_after_another(notes: Sequence[Sequence[float]]) -> tuple[Note, ...]:
    """Return rows (onset s, offset s, MIDI) as notes of one voice."""
    ends = [*(note[0] for note in notes[1:]), float("inf")]
    return tuple(
        Note(round(midi), onset, min(offset, end))
        for (onset, offset, midi), end in zip(notes, ends, strict=True)
        if min(offset, end) > onset
    )


def stamped(lyrics: Sequence[LyricLine], start: float, stop: float) -> list[LyricLine]:
    """Spread lines without times of their own over a stretch in s."""
    if any(line.start is not None for line in lyrics):
        return list(lyrics)
    room = (stop - start) / max(1, len(lyrics))
    return [
        replace(line, start=start + number * room, end=start + (number + 1) * room)
        for number, line in enumerate(lyrics)
    ]
