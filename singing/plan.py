"""Plan a song: its melody, words and chords as data and as a picture, before anything is sung.

The melody of a plan is the one that is sung with the same request. Its MIDI file may be edited and
sung by --melody.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.harmony import chord_name
from hyperparams import Diffusion
from music.midi import write_midi
from singing.melody import (
    BackingAudio,
    MelodyResult,
    backing_gain,
    chord_changes,
    harmony_report,
    make_melody,
    read_accompaniment,
    resolve_melody,
)
from singing.pictures import melody_picture
from singing.request import (
    NONE,
    SongRequest,
    own_range,
    sampling_hyperparams,
    sung_range,
    voice_number,
    with_syllables,
)
from text.frontend import Pronouncer
from text.remarks import grouped
from utils import scratch
from utils.checkpoint import load_facts, resolve
from utils.files import finite, refuse_overwriting, staged, write_json
from utils.plotting import save_figure

if TYPE_CHECKING:
    from composer.harmony import Harmony
    from hyperparams import Composer
    from music.score import Score

WRITTEN = ("topline.mid", "plan.png", "plan.json")


@dataclass(frozen=True)
class PlannedVoice:
    """What a melody must know of the voice that will sing it."""

    path: Path
    pitch_range: tuple[int, int] | None  # MIDI; None when it only speaks
    own_range: tuple[int, int] | None  # of the one singer, where there are several
    composer: Composer


@dataclass(frozen=True)
class Plan:
    """A melody with its words, and the chords below it; nothing is sung yet."""

    melody: MelodyResult
    seconds: float  # of the accompaniment, or of the melody without one
    seed: int
    remarks: tuple[str, ...]

    @property
    def score(self) -> Score:
        """The notes with their syllables."""
        return self.melody.underlay.score

    @property
    def chords(self) -> list[tuple[float, str]]:
        """Start in s and name of every chord; empty without an accompaniment."""
        return chord_changes(self.melody.harmony) if self.melody.harmony else []

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain values: notes, lines, chords and beats, times in s."""
        harmony = self.melody.harmony
        return {
            "seconds": self.seconds,
            "seed": self.seed,
            **self.melody.report(),
            "guessed": list(self.melody.underlay.guessed),
            "harmony": harmony_data(harmony, self.seconds) if harmony else None,
            "lines": _lines(self.score, self.melody.line_numbers),
            "notes": _notes(self.score),
            "remarks": grouped(self.remarks),
        }


def backing_of(request: SongRequest, sample_rate: int) -> BackingAudio:
    """Open the accompaniment of a request as it is opened to be sung, no network loaded."""
    assert request.files is not None, "there is a song"
    if request.files.vocal is not None:  # its parts and its loudness count: open all of it
        from singing.sing import open_request  # late: it brings torch

        return open_request(request, sample_rate).backing(sample_rate)
    data: Mapping[str, Any] = {}
    sigma_data = Diffusion().sigma_data
    if request.inpainter is not None:
        facts = load_facts(request.inpainter, "inpainter")
        data, sigma_data = facts.data, facts.hyperparams.diffusion.sigma_data
        sample_rate = facts.hyperparams.audio.sample_rate
    wav, info = read_accompaniment(request.files.accompaniment, sample_rate)
    gain = backing_gain(wav, data, sigma_data)
    for start, stop in scratch.blocks(len(wav)):
        wav[start:stop] *= gain
    seconds = info.num_samples / info.sample_rate
    return BackingAudio(wav, sample_rate, seconds, path=request.files.accompaniment)


def make_plan(request: SongRequest, backing: BackingAudio | None = None) -> Plan:
    """Make the melody of a request without loading a network; writes nothing.

    backing: its accompaniment, where that is open already.
    Raises ValueError and OSError for what cannot be read or made, and for lyrics that are spoken.
    """
    request = with_syllables(request)
    facts = load_facts(resolve(request.transformer, "transformer"), "transformer")
    hp = sampling_hyperparams(request, facts, "transformer")
    own = own_range(facts.data, voice_number(facts.data, request.voice, facts.path))
    voice = PlannedVoice(facts.path, own or sung_range(facts.data), own, hp.composer)
    if not request.has_words or resolve_melody(request, voice).source == NONE:
        raise ValueError(
            "--plan shows a melody and its words, and nothing is sung here: give --lyrics and an "
            "--accompaniment to compose for, or --melody FILE"
        )
    if backing is None and request.files is not None:
        backing = backing_of(request, hp.audio.sample_rate)
    melody = make_melody(request, voice, Pronouncer(request.lexicon), backing, with_harmony=True)
    seconds = melody.underlay.score.duration if backing is None else backing.seconds
    remarks = (*getattr(request.lyrics, "remarks", ()), *melody.remarks)
    guessed = melody.underlay.guessed
    if guessed:
        remarks += (f"guessed: the sound of {', '.join(guessed)}; --lexicon FILE corrects it",)
    return Plan(melody, seconds, request.seed, remarks)


def plan_song(request: SongRequest) -> tuple[list[Path], list[str]]:
    """Write the plan of a request: topline.mid, plan.png, plan.json, all or none.

    Returns the paths, and remarks for the user; errors as `make_plan`.
    """
    inputs = [request.melody.source if request.melody.is_file else None, request.lexicon]
    if request.files is not None:
        inputs += [request.files.accompaniment, request.files.vocal]
    refuse_overwriting(request.out, WRITTEN, [Path(i) for i in inputs if i is not None])
    began = time.perf_counter()
    plan = make_plan(request)
    planned = time.perf_counter()
    with staged(request.out) as stage:
        write_midi(plan.score, stage / "topline.mid")
        save_figure(melody_picture(plan.score, plan.chords), stage / "plan.png")
        seconds = {"plan": planned - began, "write": time.perf_counter() - planned}
        files = request.files
        content = {
            "accompaniment": str(files.accompaniment) if files else None,
            **plan.as_dict(),
            "seconds_of_work": seconds,
        }
        write_json(stage / "plan.json", finite(content), indent=2)
    return [request.out / name for name in WRITTEN], list(plan.remarks)


# ---------------------------------------------------------------------------- as plain values


def _notes(score: Score) -> list[dict[str, Any]]:
    """Return every note with the syllable that begins on it; "" holds the one before."""
    notes = []
    for syllable in score.syllables:
        for place, note in enumerate(syllable.notes):
            notes.append(
                {
                    "onset": round(note.onset, 4),
                    "offset": round(note.offset, 4),
                    "pitch": note.pitch,
                    "text": "" if place else syllable.text,
                    "ends_word": syllable.ends_word,
                    "phonemes": [] if place else list(syllable.phonemes),
                    "word": syllable.word,
                    "line": syllable.line,
                    "style": note.style.as_dict() if note.style else {},
                }
            )
    return notes


def _lines(score: Score, line_numbers: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return every line of words with its times, and its number in the lyrics file."""
    lines: dict[int, dict[str, Any]] = {}
    for word in score.words():
        line = word[0].line
        text = "".join(syllable.text for syllable in word)
        entry = lines.setdefault(
            line,
            {
                "text": "",
                "line_number": line_numbers[line] if line < len(line_numbers) else line + 1,
                "start": round(word[0].onset, 4),
            },
        )
        entry["text"] = f"{entry['text']} {text}".strip()
        entry["end"] = round(word[-1].offset, 4)
    return [lines[line] for line in sorted(lines)]


def harmony_data(harmony: Harmony, seconds: float) -> dict[str, Any]:
    """Return key, tempo, chords with start and end, and the beats of an accompaniment."""
    changes = chord_changes(harmony)
    ends = [*(start for start, _ in changes[1:]), seconds]
    chords = [
        {"start": start, "end": end, "name": name}
        for (start, name), end in zip(changes, ends, strict=True)
    ]
    return {
        **harmony_report(harmony),
        "chords": chords,
        "bars": [
            [chord_name(int(chord)) for chord in bar]
            for bar in np.split(harmony.chords, np.flatnonzero(harmony.is_downbeat))
            if len(bar)
        ],
        "beats": [round(float(beat), 4) for beat in harmony.beats],
        "first_downbeat": harmony.first_downbeat,
    }
