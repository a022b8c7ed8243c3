"""A vocal without given words: notes that are composed, read or heard, sung by the mel inpainter.

Its mel goes through the PostNet; what comes out is the draft of the waveform stage.
Shapes: S samples, T frames, M mels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from composer.harmony import Harmony, analyse
from inpainter.windows import merge_ranges
from music.inputs import ScoreTracks
from music.score import Lyric, Melody, Note, Underlay
from music.underlay import sing
from singing.chain import f0_of_mel, linear_of, source_waveform, unlevelled
from singing.hearing import AROUND, HEARD, Hear, like_the_take, parts_of
from singing.inpaint import Draft, FrameTracks
from singing.melody import (
    chord_changes,
    compose_fitting,
    composer_changes,
    fitted,
    harmony_report,
    read_melody,
    tempo_of,
)
from singing.mels import InpaintedMel, MelInpainter, MelTracks, Range, frames_touching
from singing.performance import f0_of_notes
from singing.request import COMPOSE, LINE_LENGTHS, NONE, MelodyRequest, SongRequest
from singing.song import AUDIO_RMS, SongAudio, pad_to, scaled, training_gain
from singing.voice import sung_phrases
from text.lyrics import parse_lyrics
from text.remarks import remark
from text.symbols import WORD_BOUNDARY

if TYPE_CHECKING:
    from hyperparams import Hyperparams
    from text.frontend import Pronouncer
    from text.lyrics import LyricLine
    from utils.loading import Loaded
    from utils.metrics import TimedNote

LONGEST_PIECE = 1250  # frames (20 s) that are given a sound at once
CUT_REACH = 125  # frames (2 s) among which a piece is cut where it is quietest
PAD = 8  # frames beside a piece that its sound is made with


@dataclass(frozen=True)
class Wordless:
    """What a vocal without given words is to sing."""

    source: str  # COMPOSE, HEARD, NONE or a file
    tracks: MelTracks
    underlay: Underlay | None = None
    harmony: Harmony | None = None
    notes: tuple[TimedNote, ...] = ()
    remarks: tuple[str, ...] = field(default_factory=tuple)

    def report(self) -> dict[str, Any]:
        """Describe the melody for report.json."""
        pitches = [pitch for _, _, pitch in self.notes]
        return {
            "source": self.source,
            "words": False,
            "notes": len(pitches),
            "lowest": min(pitches, default=None),
            "highest": max(pitches, default=None),
            "harmony": harmony_report(self.harmony) if self.harmony else None,
            "remarks": list(self.remarks),
        }


class WordlessSinger:
    """Sing a song without words by an inpainter on mels and a PostNet."""

    def __init__(
        self,
        inpainter: MelInpainter,
        postnet: Loaded,
        hyperparams: Hyperparams,
        pronouncer: Pronouncer,
        hear: Hear | None = None,
        quiet: bool = False,
    ) -> None:
        """hyperparams: sections synthesis and composer count; hear: None, where nobody listens.

        quiet: without a progress bar.
        """
        self.quiet = quiet
        self.inpainter, self.postnet, self.hear = inpainter, postnet, hear
        self.hyperparams, self.pronouncer = hyperparams, pronouncer

    def __call__(
        self, request: SongRequest, song: SongAudio
    ) -> tuple[Draft, Wordless, InpaintedMel]:
        """Make the draft of a song's vocal, or of its parts."""
        hop, rate = self.inpainter.hop, self.hyperparams.audio.sample_rate
        frames = -(-len(song.accompaniment) // hop)
        vocal = song.vocal if song.recording else None
        gain = training_gain(song.accompaniment, vocal, self.inpainter.loaded.data, AUDIO_RMS, rate)
        wanted = self.melody(request, song, frames)
        ranges: list[Range] = [(0, frames)]
        if vocal is not None:
            win_length = self.hyperparams.audio.win_length
            ranges = frames_touching(song.ranges, hop, win_length, frames)
        made = self.inpainter(
            wanted.tracks,
            frames,
            scaled(song.accompaniment, gain),
            None if vocal is None else scaled(vocal, gain),
            ranges,
            request.seed,
            self.quiet,
        )
        pitch = wanted.tracks.pitch
        wav = self.sound(made.mel, ranges, wanted.notes, request.seed)
        wav = pad_to(wav, len(song.accompaniment)) / (gain * song.gain)
        table = self.inpainter.loaded.data["symbols"]
        tracks = FrameTracks(wanted.tracks.phoneme, pitch, table)
        score = wanted.underlay.score if wanted.underlay else None
        chords = chord_changes(wanted.harmony) if wanted.harmony else ()
        # Within a take the mel says how loud, which PostNets keep; a whole vocal is levelled later.
        is_levelled = vocal is not None
        return Draft([], wav, score, chords, tracks, is_levelled), wanted, made

    @property
    def _syllable(self) -> str:
        """The syllable of every note, empty where none is chosen."""
        chosen = self.hyperparams.synthesis.vocalise
        return "" if chosen == NONE else chosen

    # ------------------------------------------------------------------------ its melody

    def melody(self, request: SongRequest, song: SongAudio, frames: int) -> Wordless:
        """Settle what is sung: notes that are asked for, heard, or composed, else none."""
        melody = request.melody
        if melody.source == NONE:
            melody.check_spoken()
            return Wordless(NONE, MelTracks())
        if melody.is_file:
            return self.read(melody, song, frames)
        parts: list[Wordless] = []
        heard_ranges, new_ranges = parts_of(song, self.hyperparams.audio.sample_rate)
        if heard_ranges and melody.source is None:
            parts.append(self.heard(song, heard_ranges, frames))
        elif heard_ranges:
            new_ranges = [*heard_ranges, *new_ranges]
        if new_ranges or not song.recording:
            parts.append(self.composed(request, song, new_ranges, frames))
        return parts[0] if len(parts) == 1 else _both(*parts)

    def read(self, request: MelodyRequest, song: SongAudio, frames: int) -> Wordless:
        """Read the notes of a melody file."""
        melody = read_melody(Path(str(request.source)), request.part, request.verse)
        backing = song.backing(self.hyperparams.audio.sample_rate)
        if request.transpose:
            melody = melody.transposed(request.transpose)
        if request.tempo is not None:
            melody = melody.faster(tempo_of(request.tempo, backing) / melody.tempo.bpm_at(0.0))
        melody, late = fitted(melody, backing.seconds)
        notes = [note for note in melody.notes if _is_within(note, backing.regions)]
        if not notes:
            raise ValueError(f"{request.source}: no note begins within the parts that are sung")
        underlay = self.vocalised(replace(melody, notes=tuple(notes), lyrics=(None,) * len(notes)))
        source = str(request.source)
        text = f"{source} carries no words, and --lyrics gives none: it is sung without words"
        return self._of_underlay(source, underlay, None, frames, (*late, remark("not sung", text)))

    def composed(
        self, request: SongRequest, song: SongAudio, ranges: Sequence[Range], frames: int
    ) -> Wordless:
        """Compose notes for the accompaniment, within ranges of samples (none: all of it).

        A continuation goes on in the range and at the pace of the take before it. Where nothing can
        be composed the inpainter finds its own, and a remark says so.
        """
        rate = self.hyperparams.audio.sample_rate
        remarks: tuple[str, ...] = ()
        backing = song.backing(rate)
        knobs = self.hyperparams.composer
        melody = request.melody
        chosen = composer_changes(melody)
        knobs = replace(knobs, **chosen)
        try:
            bpm = None if melody.tempo is None else tempo_of(melody.tempo, backing)
            harmony = analyse(backing.wav, rate, bpm)
            if song.recording and ranges:
                fitted_knobs, remarks = like_the_take(
                    song, ranges[0][0], harmony, knobs, self.hear, rate
                )
                knobs = replace(fitted_knobs, **chosen)
            lines = self._lines(ranges, rate, harmony)
            underlay = compose_fitting(lines, harmony, self.pronouncer, knobs, request.seed)
        except ValueError as error:
            text = f"no melody could be composed ({error}): the inpainter on mels finds its own"
            return Wordless(NONE, MelTracks(), remarks=(text,))
        score = underlay.score.transposed(melody.transpose)
        if ranges:
            syllables = score.syllables
            kept = [s for s in syllables if any(a <= s.onset * rate < b for a, b in ranges)]
            if not kept:
                text = "no composed note begins there: the inpainter on mels finds its own"
                return Wordless(NONE, MelTracks(), remarks=(*harmony.notes, text))
            score = replace(score, syllables=tuple(kept))
        underlay = replace(underlay, score=score)
        return self._of_underlay(COMPOSE, underlay, harmony, frames, (*harmony.notes, *remarks))

    def _lines(self, ranges: Sequence[Range], rate: int, harmony: Harmony) -> Sequence[LyricLine]:
        """Return lines of syllables to compose for, stamped where only parts are made."""
        syllable = self._syllable or "la"
        text = [" ".join([syllable] * length) for length in LINE_LENGTHS]
        lines = parse_lyrics("\n".join(text))
        if not ranges:
            return lines
        bar = 60.0 / harmony.tempo * harmony.metre
        stamped = []
        for start, stop in ranges:
            begin, end = start / rate, stop / rate
            count = max(1, round((end - begin) / (2 * bar)))
            for number in range(count):
                line = lines[number % len(lines)]
                at = begin + (end - begin) * number / count
                room = (end - begin) / count
                fits = max(1, int(room / self.hyperparams.composer.shortest / 2))
                words = line.text.split()[:fits]
                stamped.append(
                    replace(line, text=" ".join(words), start=at, end=min(at + room, end))
                )
        return stamped

    def heard(self, song: SongAudio, ranges: Sequence[Range], frames: int) -> Wordless:
        """Hear what a take sings in ranges of samples, and sing that again."""
        if self.hear is None:
            text = (
                "nobody listens to the take (--transcriber none): its parts get notes of their own"
            )
            return Wordless(NONE, MelTracks(), remarks=(text,))
        rate, hop = self.hyperparams.audio.sample_rate, self.inpainter.hop
        phoneme, pitch = (torch.zeros(frames, dtype=torch.int64) for _ in range(2))
        own = {s: i for i, s in enumerate(self.inpainter.loaded.data["symbols"])}
        notes: list[TimedNote] = []
        shown: list[str] = []
        for start, stop in ranges:
            begin = max(0, start - round(AROUND * rate))
            heard = self.hear(song.vocal[begin : stop + round(AROUND * rate)], rate)
            # A window's frames beside the part are told, too: the network knows what is sung there.
            first, last = begin // hop, min(frames, (stop + round(AROUND * rate)) // hop)
            times = (torch.arange(first, last) * hop - begin) / rate
            index = (times / heard.hop_seconds).round().long().clamp(0, len(heard.symbols) - 1)
            ids = torch.tensor([own.get(symbol, 0) for symbol in heard.symbols])
            phoneme[first:last] = ids[index]
            for onset, offset, midi in heard.notes:
                is_here = (times >= onset) & (times < offset)
                pitch[first:last][is_here] = round(midi)
            here = [
                (onset + begin / rate, offset + begin / rate, round(midi))
                for onset, offset, midi in heard.notes
            ]
            notes += [n for n in here if n[1] * rate > start and n[0] * rate < stop]
            inside = phoneme[start // hop : -(-stop // hop)].unique_consecutive().tolist()
            table = self.inpainter.loaded.data["symbols"]
            shown.append(" ".join(table[i].rstrip("012") for i in inside if i) or "nothing")
        if not notes:
            text = "no note is heard in the take there: the inpainter on mels finds its own"
            return Wordless(NONE, MelTracks(), remarks=(text,))
        text = f"the take has {len(notes)} notes there, and the sounds {'; '.join(shown)}"
        tracks = MelTracks(None, phoneme, pitch)
        return Wordless(HEARD, tracks, None, None, tuple(notes), (text,))

    def vocalised(self, melody: Melody) -> Underlay:
        """Give every note of a melody the syllable of `synthesis.vocalise`."""
        syllable = Lyric(self._syllable or "la")
        return sing(replace(melody, lyrics=(syllable,) * len(melody.notes)), self.pronouncer)

    def _of_underlay(
        self,
        source: str,
        underlay: Underlay,
        harmony: Harmony | None,
        frames: int,
        remarks: Sequence[str],
    ) -> Wordless:
        """Return the tracks of a melody with syllables, without these where none are chosen."""
        audio = self.hyperparams.audio
        step = 1.0 / audio.frame_rate
        own = {s: i for i, s in enumerate(self.inpainter.loaded.data["symbols"])}
        own.setdefault(WORD_BOUNDARY, 0)
        phoneme, pitch = (torch.zeros(frames, dtype=torch.int64) for _ in range(2))
        for phrase in sung_phrases(underlay, (), step):
            assert phrase.score is not None and phrase.start is not None
            first = round(phrase.start * audio.frame_rate)
            count = round(max(phrase.score["offset"]) * audio.frame_rate)
            item = {"id": "phrase", "symbols": phrase.symbols, "score": phrase.score}
            tracks = ScoreTracks([item], own).window("phrase", 0.0, step, count)
            for track, part in zip((phoneme, pitch), tracks, strict=True):
                here = part[: max(0, frames - first)]
                track[first : first + len(here)] = here
        notes = tuple((n.onset, n.offset, n.pitch) for n in underlay.score.notes)
        asked = MelTracks(None, phoneme if self._syllable else None, pitch)
        return Wordless(source, asked, underlay, harmony, notes, tuple(remarks))

    # ------------------------------------------------------------------------ its sound

    @torch.inference_mode()
    def sound(
        self, mel: Tensor, ranges: Sequence[Range], notes: Sequence[TimedNote], seed: int
    ) -> Tensor:
        """Render a log mel (T, M) in ranges of its frames to a waveform (T·hop,), silent elsewhere.

        Piece by piece, cut where it is quietest, cross-faded over two frames.
        """
        hop, device = self.inpainter.hop, next(self.postnet.network.parameters()).device
        track = torch.zeros(len(mel) * hop)
        for start, stop in pieces_of(mel, ranges):
            low, high = max(0, start - PAD), min(len(mel), stop + PAD)
            wav = self.piece(mel[low:high].to(device), low, notes, seed).cpu()
            first, last = max(low, start - 1), min(high - 1, stop + 1)
            part = wav[(first - low) * hop : (last - low) * hop].clone()
            fade = min(2 * hop, len(part) // 2)
            ramp = torch.linspace(0.0, 1.0, fade)
            part[:fade] *= ramp
            part[len(part) - fade :] *= ramp.flip(0)
            track[first * hop : first * hop + len(part)] += part
        return track

    def piece(self, mel: Tensor, first: int, notes: Sequence[TimedNote], seed: int) -> Tensor:
        """Render a log mel (T, M) that begins at frame `first` of the song, at its own level."""
        audio, knobs = self.hyperparams.audio, self.hyperparams.synthesis
        if self.postnet.hyperparams.postnet.kind != "source":
            return unlevelled(linear_of(self.postnet, mel[None])[0], audio, knobs, seed)
        begin = first / audio.frame_rate
        here = [(a - begin, b - begin, pitch) for a, b, pitch in notes if b > begin]
        if here:
            f0 = f0_of_notes(here, len(mel), audio.frame_rate, knobs, seed)
        else:
            f0 = f0_of_mel(mel, audio, knobs, seed)
        return source_waveform(self.postnet, mel, f0, knobs, seed, is_levelled=False)


def pieces_of(mel: Tensor, ranges: Sequence[Range]) -> list[Range]:
    """Cut ranges of a log mel (T, M) to pieces of LONGEST_PIECE frames, where it is quietest."""
    pieces: list[Range] = []
    for start, stop in merge_ranges(ranges, len(mel), 1):
        cuts = [start]
        while stop - cuts[-1] > LONGEST_PIECE:
            latest = cuts[-1] + LONGEST_PIECE
            level = mel[latest - CUT_REACH : latest].mean(1)
            cuts.append(latest - CUT_REACH + int(level.argmin()))
        pieces += pairwise([*cuts, stop])
    return pieces


def _both(heard: Wordless, composed: Wordless) -> Wordless:
    """Join what is heard in a take and what is composed behind it."""
    tracks: dict[str, Tensor | None] = {}
    for name in ("phoneme", "pitch"):
        first, second = (getattr(part.tracks, name) for part in (heard, composed))
        if first is None or second is None:
            tracks[name] = second if first is None else first
        else:
            tracks[name] = torch.where(first > 0, first, second)
    return Wordless(
        f"{heard.source}, {composed.source}",
        MelTracks(None, **tracks),
        composed.underlay,
        composed.harmony,
        (*heard.notes, *composed.notes),
        (*heard.remarks, *composed.remarks),
    )


def _is_within(note: Note, regions: Sequence[tuple[float, float]] | None) -> bool:
    return regions is None or any(start <= note.onset < end for start, end in regions)
