"""Parts of a take sung again: on what it has there, on new words, on notes that are composed.

What is sung beside a part is heard, too, and sung with it, so that the voice comes into the part
and goes out of it as it would within a phrase; only the part is used.
Shapes: S samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from composer.compose import compose
from composer.harmony import analyse
from inpainter.windows import merge_ranges
from music.score import Melody, Note, Score, Syllable, Underlay
from music.underlay import lay_lyrics, text_syllables
from singing.hearing import (
    AROUND,
    HEARD,
    SHORTEST_NOTE,
    Hear,
    Range,
    heard_notes,
    heard_syllables,
    like_the_take,
    parts_of,
)
from singing.melody import MelodyResult, compose_fitting, composer_changes
from singing.request import COMPOSE, LINE_LENGTHS
from text.lyrics import parse_lyrics
from utils.audio import active_level

if TYPE_CHECKING:
    from composer.harmony import Harmony
    from hyperparams import Composer
    from singing.request import SongRequest
    from singing.song import SongAudio
    from text.frontend import Pronouncer
    from text.lyrics import LyricLine

SHORTEST_HELD = 0.1  # s of a part that gets a note
RELEASE = 0.1  # s of a continuation that its last note leaves to its release
LONGEST_END = 4.0  # s that this note is held at most
BREATH = 0.5  # s of rest at most over which composed notes are joined to those beside them
TOUCHING = 0.06  # s between a note and the edge that it sounds up to
CONTEXT = 2.0  # s of a take on either side of a part that are sung with it


def retaken(
    request: SongRequest,
    song: SongAudio,
    hear: Hear | None,
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
        notes = heard_notes(song, inside, hear, sample_rate) if hear else []
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


def resung(
    request: SongRequest,
    song: SongAudio,
    hear: Hear | None,
    pronouncer: Pronouncer,
    sample_rate: int,
    knobs: Composer,
) -> MelodyResult | None:
    """Return what parts of a take sing without given words; None where no note has room.

    That is what `hear` finds there; where it finds nothing, where a melody is to be composed, and
    behind the take's end it is a melody composed for the part, on the request's syllable.
    """
    inside, behind = parts_of(song, sample_rate)
    around = _heard_around(song, inside + behind, hear, sample_rate)
    new, heard = list(behind), []
    for part in inside:
        here = [s for s in around if _reaches(s, part, sample_rate)]
        if here and request.melody.source is None:
            heard += [_transposed(syllable, request.melody.transpose) for syllable in here]
        else:
            new.append(part)
    remarks: list[str] = []
    harmony, composed = None, Score(())
    if new:
        harmony = song.backing(sample_rate).harmony(None, request.melody.chords)
        fitted, found = like_the_take(song, new[0][0], harmony, knobs, hear, sample_rate)
        fitted = replace(fitted, **composer_changes(request.melody))
        composed, faults = _composed(request, new, around, harmony, pronouncer, fitted, sample_rate)
        remarks += [*found, *faults]
    if not heard and not composed.syllables:
        return None
    if heard:
        sounds = " ".join(p.rstrip("012") for s in heard for p in s.phonemes)
        count = sum(len(s.notes) for s in heard)
        remarks.append(f"the take has {count} notes there, and the sounds {sounds}")
    free = around
    for part in new:
        free = _cut(free, part, sample_rate)
    beside = [s for s in free if not any(_reaches(s, part, sample_rate) for part in inside)]
    syllables = one_voice_of([*beside, *heard, *composed.syllables])
    underlay = Underlay(replace(composed, syllables=syllables), (), tuple(remarks))
    source = COMPOSE if not heard else HEARD if not composed.syllables else f"{HEARD}, {COMPOSE}"
    melody = replace(request.melody, source=source)
    return MelodyResult(melody, underlay, (), harmony, tuple(remarks))


def _heard_around(
    song: SongAudio, parts: Sequence[Range], hear: Hear | None, sample_rate: int
) -> list[Syllable]:
    """Hear the syllables (s of the song) in parts of a take and within CONTEXT beside them."""
    if hear is None or song.recording is None:
        return []
    end = round(song.recording.seconds * sample_rate)
    margin = round(AROUND * sample_rate)
    windows = [(max(0, a - margin), min(end, b + margin)) for a, b in parts]
    syllables: list[Syllable] = []
    for start, stop in merge_ranges(windows, end, 1):
        heard = hear(song.vocal[start:stop], sample_rate)
        syllables += heard_syllables(heard, start / sample_rate)
    reach = round(CONTEXT * sample_rate)
    near = [(start - reach, stop + reach) for start, stop in parts]
    return [s for s in syllables if any(_reaches(s, part, sample_rate) for part in near)]


def _reaches(
    syllable: Syllable, part: Range, sample_rate: int, least: float = SHORTEST_NOTE
) -> bool:
    """Return whether more than `least` s of a syllable sound within a range of samples."""
    start, stop = part[0] / sample_rate, part[1] / sample_rate
    return any(min(n.offset, stop) - max(n.onset, start) > least for n in syllable.notes)


def _composed(
    request: SongRequest,
    parts: Sequence[Range],
    around: Sequence[Syllable],
    harmony: Harmony,
    pronouncer: Pronouncer,
    knobs: Composer,
    sample_rate: int,
) -> tuple[Score, list[str]]:
    """Compose for ranges of samples, joined to what is sung around them; a note is held at least.

    Returns also remarks on what is held.
    """
    composed, remarks = Score(()), []
    for part in parts:
        score, why = _composed_within(request, part, harmony, pronouncer, knobs, sample_rate)
        beside = _cut(around, part, sample_rate)
        made = joined_up(score.syllables, part, beside, sample_rate)
        if why and part[1] - part[0] >= SHORTEST_HELD * sample_rate:
            syllable, middle = _syllable_of(request, pronouncer), (knobs.low + knobs.high) // 2
            made = (_held(syllable, part, beside, middle, sample_rate),)
            span = f"{part[0] / sample_rate:.2f}-{part[1] / sample_rate:.2f} s"
            remarks.append(f"nothing is composed for {span} ({why}): one note is held")
        composed = replace(score, syllables=(*composed.syllables, *made))
    return composed, remarks


def _composed_within(
    request: SongRequest,
    part: Range,
    harmony: Harmony,
    pronouncer: Pronouncer,
    knobs: Composer,
    sample_rate: int,
) -> tuple[Score, str]:
    """Compose for a range of samples; returns what begins there, and why nothing does."""
    start, stop = part[0] / sample_rate, part[1] / sample_rate
    lines = syllable_lines(_spelling_of(request), start, stop, harmony, knobs)
    try:
        score = compose_fitting(lines, harmony, pronouncer, knobs, request.seed).score
    except ValueError as error:
        return Score(()), str(error)
    score = score.transposed(request.melody.transpose)
    kept = [_until(s, stop) for s in score.syllables if start <= s.onset < stop - SHORTEST_NOTE]
    return replace(score, syllables=tuple(kept)), "" if kept else "no note begins there"


def _spelling_of(request: SongRequest) -> str:
    """Return the syllable that a request without words is sung on."""
    assert request.lyrics, "a vocalise has its syllable as lyrics"
    return request.lyrics[0].text.split()[0]


def _syllable_of(request: SongRequest, pronouncer: Pronouncer) -> Syllable:
    """Return that syllable, pronounced."""
    return text_syllables(_spelling_of(request), pronouncer)[0][0]


def _held(
    syllable: Syllable, part: Range, beside: Sequence[Syllable], pitch: int, sample_rate: int
) -> Syllable:
    """Hold a syllable for a range of samples, on the pitch of what is sung nearest to it."""
    start, stop = part[0] / sample_rate, part[1] / sample_rate
    notes = [note for neighbour in beside for note in neighbour.notes]
    near = min(notes, key=lambda n: max(start - n.offset, n.onset - stop), default=None)
    note = Note(near.pitch if near else pitch, start, stop)
    return replace(syllable, notes=(note,))


def syllable_lines(
    syllable: str, start: float, stop: float, harmony: Harmony, knobs: Composer
) -> list[LyricLine]:
    """Return lines of a syllable with times that fill a stretch in s, as dense as is wanted."""
    per_beat = knobs.density or knobs.syllable_rate * 60.0 / harmony.tempo
    wanted = per_beat * (stop - start) * harmony.tempo / 60.0
    total = max(1, min(round(wanted), int((stop - start) / knobs.shortest / 2)))
    count = -(-total // max(LINE_LENGTHS))
    edges = [start + (stop - start) * number / count for number in range(count + 1)]
    lines = []
    for number, (begin, end) in enumerate(pairwise(edges)):
        length = total * (number + 1) // count - total * number // count
        line = parse_lyrics(" ".join([syllable] * length))[0]
        lines.append(replace(line, line_number=number + 1, start=begin, end=end))
    return lines


def joined_up(
    syllables: Sequence[Syllable], part: Range, beside: Sequence[Syllable], rate: int
) -> tuple[Syllable, ...]:
    """Let syllables composed for a range of samples begin and end with what is sung beside it.

    A note that sounds up to an edge goes on behind it: there the first note, or the last of three
    and more, takes its pitch. Where nothing is sung behind, the last note is held to the end.
    """
    start, stop = part[0] / rate, part[1] / rate
    made = list(syllables)
    before = [s for s in beside if 0.0 <= start - s.offset <= BREATH]
    behind = [s for s in beside if 0.0 <= s.onset - stop <= BREATH]
    if made and before:
        (first, *rest), left = made[0].notes, before[-1]
        goes_on = start - left.offset <= TOUCHING
        pitch = left.notes[-1].pitch if goes_on else first.pitch
        made[0] = replace(made[0], notes=(replace(first, onset=start, pitch=pitch), *rest))
    if made and behind:
        (*rest, last), right = made[-1].notes, behind[0]
        goes_on = right.onset - stop <= TOUCHING and len(made) > 2
        pitch = right.notes[0].pitch if goes_on else last.pitch
        made[-1] = replace(made[-1], notes=(*rest, replace(last, offset=stop, pitch=pitch)))
    if made and not any(s.onset >= start for s in beside):
        (*rest, last) = made[-1].notes
        end = max(last.offset, min(stop - RELEASE, last.onset + LONGEST_END))
        made[-1] = replace(made[-1], notes=(*rest, replace(last, offset=end)))
    return tuple(made)


def _cut(syllables: Sequence[Syllable], part: Range, sample_rate: int) -> list[Syllable]:
    """Return what is left of syllables outside of a range of samples."""
    start, stop = part[0] / sample_rate, part[1] / sample_rate
    kept = []
    for syllable in syllables:
        if syllable.onset >= stop:
            kept.append(syllable)
        elif syllable.onset < start - SHORTEST_NOTE:
            kept.append(_until(syllable, start))
        elif syllable.offset > stop + SHORTEST_NOTE:
            notes = [
                replace(n, onset=max(n.onset, stop)) for n in syllable.notes if n.offset > stop
            ]
            kept.append(replace(syllable, notes=tuple(notes)))
    return kept


def _transposed(syllable: Syllable, semitones: int) -> Syllable:
    notes = (replace(note, pitch=note.pitch + semitones) for note in syllable.notes)
    return replace(syllable, notes=tuple(notes))


def _until(syllable: Syllable, stop: float) -> Syllable:
    """Return a syllable without what it has behind a time in s."""
    notes = (replace(n, offset=min(n.offset, stop)) for n in syllable.notes if n.onset < stop)
    return replace(syllable, notes=tuple(notes))


def one_voice_of(syllables: Sequence[Syllable]) -> tuple[Syllable, ...]:
    """Return syllables by time, each a word of its own that ends where the next begins."""
    ordered = sorted(syllables, key=lambda syllable: syllable.onset)
    following = [*(s.onset for s in ordered[1:]), float("inf")]
    return tuple(
        replace(_until(s, stop), word=number, starts_word=True, ends_word=True, line=0)
        for number, (s, stop) in enumerate(zip(ordered, following, strict=True))
        if stop > s.onset
    )


def only_parts(score: Score, parts: Sequence[Range], sample_rate: int) -> Score:
    """Return a score without the syllables that no range of samples holds anything of."""
    kept = [s for s in score.syllables if any(_reaches(s, p, sample_rate, 0.0) for p in parts)]
    return replace(score, syllables=tuple(kept))


def like_the_level(draft: Tensor, song: SongAudio, sample_rate: int, hop_length: int) -> Tensor:
    """Bring the parts of a draft (S,) to the level of the take around each; silence elsewhere.

    Where the take is silent around a part, to that of all of it; levels are of what sounds.
    """
    reach = round(AROUND * sample_rate)
    whole = active_level(song.vocal, hop_length)
    levelled = torch.zeros_like(draft)
    for start, stop in song.ranges:
        near = slice(max(0, start - reach), stop + reach)
        own, target = (active_level(wav[near], hop_length) for wav in (draft, song.vocal))
        target = target if math.isfinite(target) else whole
        is_known = math.isfinite(own) and math.isfinite(target)
        gain = 10 ** ((target - own) / 20) / song.gain if is_known else 1.0
        levelled[start:stop] = gain * draft[start:stop]
    return levelled


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
