"""The singing chain: open the song, make its melody, sing it, place it, inpaint, mix, write."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from hyperparams import Diffusion, Hyperparams
from singing.inpaint import (
    InpaintedVocal,
    check_inpainter,
    condition_from,
    draft_as_vocal,
    inpaint_ranges,
)
from singing.melody import BackingAudio, make_melody, resolve_melody
from singing.mixing import mix_song
from singing.output import collect_remarks, write_alone, write_attention, write_lines, write_song
from singing.placement import PAUSE, Draft, spoken_draft, sung_draft
from singing.request import NONE, SAMPLING, SongFiles, SongRequest, section_of
from singing.song import SongAudio, draft_gain, open_song
from singing.voice import Voice, load_voice, render_phrases, spoken_phrases
from text.frontend import Pronouncer
from text.remarks import grouped
from utils import config
from utils.checkpoint import resolve
from utils.files import refuse_overwriting, staged
from utils.loading import SECTIONS, Loaded, Stored, check_pair, load, load_facts
from utils.paths import DEMO, SAVE
from utils.progress import ProgressEvent, tell

WRITTEN = ("vocal.wav", "mix.wav", "draft.wav", "topline.mid", "lyrics.wav", "report.json")
NO_LYRICS = (
    "no lyrics: the vocal is made from the accompaniment alone, without a draft; "
    "--lyrics 'la la la la' sings a melody composed for it"
)


class Stopwatch:
    """Seconds of work per stage, in order."""

    def __init__(self) -> None:
        """Begin without any stage."""
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str, message: str = "") -> Iterator[None]:
        """Time the `with` block as `stage`; a message announces it on standard error."""
        tell(ProgressEvent(stage))
        if message:
            print(f"{message} …", file=sys.stderr, flush=True)
        began = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - began


Written = tuple[list[str], list[str]]  # names of files, and remarks for the user


def sing_song(request: SongRequest, device: torch.device) -> tuple[list[Path], list[str]]:
    """Make what is requested; return the paths written, all or none, and remarks for the user.

    That is a vocal over an accompaniment, a melody file sung alone, or spoken lyrics. Raises
    ValueError and OSError for what cannot be read, made or written.
    """
    inputs = [request.melody.source if request.melody.is_file else None, request.lexicon]
    if request.files is not None:
        inputs += [request.files.accompaniment, request.files.vocal]
    refuse_overwriting(request.out, WRITTEN, [Path(i) for i in inputs if i is not None])
    if request.files is not None:
        names, remarks = _sing_over(request, request.files, device)
    elif request.melody.is_file:
        names, remarks = _sing_alone(request, device)
    else:
        names, remarks = _speak(request, device)
    return [request.out / name for name in names], remarks


# ---------------------------------------------------------------------------- over a song


def _sing_over(request: SongRequest, files: SongFiles, device: torch.device) -> Written:
    """Make a vocal for an accompaniment, or parts of one."""
    watch = Stopwatch()
    with watch("load", "loading the networks and the song"):
        networks = load_networks(request, device)
        hp, inpainter, voice = networks.hyperparams, networks.inpainter, networks.voice
        data = inpainter.data if inpainter else {}
        song = open_song(files, hp.audio.sample_rate, data, hp.diffusion.sigma_data)
        if inpainter:
            has_draft = bool(voice or song.recording)
            check_inpainter(inpainter, hp.inpainting, bool(voice), has_draft)
    draft: Draft | None = None
    melody: dict[str, Any] = {}
    if voice:
        draft, melody = make_draft(request, voice, song, watch)
    elif hp.unet.draft_input and not song.recording:
        print(NO_LYRICS)
    with watch("inpaint"):
        sung = inpaint_vocal(networks, song, draft, request.seed)
    with watch("mix", "mixing and writing"):
        rate = hp.audio.sample_rate
        mixed = mix_song(song, sung.vocal, files.accompaniment, rate, hp.mixing)
    phrases = draft.phrases if draft else ()
    remarks = collect_remarks(request.lyrics, melody.get("remarks", ()), phrases)
    report = {
        **networks.report(),
        "device": str(device),
        **request.seed_report(),
        "accompaniment": str(files.accompaniment),
        "vocal": str(files.vocal) if files.vocal else None,
        "melody": melody,
        "mixing": None if song.recording else asdict(hp.mixing),
        "lines": draft.report(hp.audio) if draft else [],
        "remarks": grouped(remarks),
    }
    with staged(request.out) as stage:
        names = write_song(stage, song, sung, mixed, draft, hp.audio, watch.seconds, report)
        if request.pictures and draft and voice:
            names += write_attention(stage, draft.phrases, voice)
    return names, remarks


@dataclass(frozen=True)
class Networks:
    """What makes a vocal: a voice, an inpainter, or the one after the other."""

    voice: Voice | None
    inpainter: Loaded | None

    @property
    def hyperparams(self) -> Hyperparams:
        """Those of the last stage."""
        last = self.inpainter or self.voice
        assert last is not None, "one of the two is there"
        return last.hyperparams

    def report(self) -> dict[str, Any]:
        """Describe the networks for report.json."""
        inpainter = self.inpainter
        return {
            "inpainter": inpainter and {"path": str(inpainter.path), "step": inpainter.step},
            **(self.voice.report() if self.voice else {}),
            "inpainting": inpainter and asdict(inpainter.hyperparams.inpainting),
        }


def load_networks(request: SongRequest, device: torch.device) -> Networks:
    """Load the inpainter, and the voice when there are words; ValueError for an odd pair."""
    inpainter = None
    if request.inpainter is not None:
        inpainter = load(resolve(request.inpainter, "inpainter"), "inpainter", device)
        announce(inpainter, "inpainter", "--inpainter")
        inpainter.hyperparams = sampling_hyperparams(request, inpainter, "inpainter")
    voice = requested_voice(request, device) if request.has_words else None
    if inpainter is None and voice is None:
        raise ValueError(f"--inpainter {NONE}: without --lyrics there is nothing to sing")
    if inpainter and voice:
        check_pair(voice.transformer, inpainter)
    return Networks(voice, inpainter)


def open_request(request: SongRequest, sample_rate: int) -> SongAudio:
    """Open the song of a request without its networks, as it is opened to be sung.

    That is at the rate and level of the inpainter, or without one at `sample_rate`.
    """
    assert request.files is not None, "there is a song"
    if request.inpainter is None:
        return open_song(request.files, sample_rate, {}, Diffusion().sigma_data)
    facts = load_facts(resolve(request.inpainter, "inpainter"), "inpainter")
    sigma_data = facts.hyperparams.diffusion.sigma_data
    return open_song(request.files, facts.hyperparams.audio.sample_rate, facts.data, sigma_data)


def requested_voice(request: SongRequest, device: torch.device) -> Voice:
    """Load the voice of a request, with the sampling values of the file and of the request."""
    transformer, postnet = (
        resolve(path, kind)
        for path, kind in ((request.transformer, "transformer"), (request.postnet, "postnet"))
    )
    voice = load_voice(transformer, postnet, device)
    announce(voice.transformer, "transformer", "--checkpoint")
    announce(voice.postnet, "postnet", "--postnet")
    voice.hyperparams = sampling_hyperparams(request, voice.transformer, "transformer")
    return voice


def announce(loaded: Loaded, kind: str, flag: str) -> None:
    """Say on standard error which weights are used, and whether the user has others."""
    note = ""
    if loaded.path.parent == DEMO:
        runs = sorted(SAVE.glob(f"{kind}/*/last.pt"), key=lambda path: path.stat().st_mtime)
        note = ", ships with the repository"
        note += f"; your own newest run: {flag} {runs[-1].parent.name}" if runs else ""
    print(f"{kind}: {loaded.path}, step {loaded.step}{note}", file=sys.stderr)


def sampling_hyperparams(request: SongRequest, loaded: Loaded | Stored, kind: str) -> Hyperparams:
    """Return a checkpoint's hyperparameters with the sections of SAMPLING as they are wanted now.

    They touch no weight, so hyperparams.py counts as it stands, for the preset that the network
    was trained with, and then the request. Prints what the checkpoint had stored otherwise.
    """
    stored, own = loaded.hyperparams, SECTIONS[kind]
    presets = config.presets()
    name = nearest_preset(stored, presets, set(own) - set(SAMPLING))
    current = replace(stored, **{part: getattr(presets[name], part) for part in SAMPLING})
    shown = {*own, "composer"} if kind == "transformer" else set(own)
    for knob, (before, now) in config.changed(stored, current).items():
        if section_of(knob) in shown:
            print(
                f"{knob} = {now}, as hyperparams.py has it (preset {name}); {loaded.path} was "
                f"saved with {before}: --set {knob}={before} takes that"
            )
    return request.changed(current)


def nearest_preset(
    stored: Hyperparams, presets: Mapping[str, Hyperparams], sections: Set[str]
) -> str:
    """Return the preset that differs from a checkpoint in the fewest knobs of these sections."""

    def distance(name: str) -> int:
        return sum(section_of(knob) in sections for knob in config.changed(stored, presets[name]))

    return min(presets, key=distance)


def make_draft(
    request: SongRequest, voice: Voice, song: SongAudio, watch: Stopwatch
) -> tuple[Draft, dict[str, Any]]:
    """Lay the lyrics over a song, spoken or sung; return the draft and a report of its melody."""
    num_samples, pronouncer = len(song.accompaniment), Pronouncer(request.lexicon)
    if resolve_melody(request, voice).source == NONE:
        with watch("draft"):
            lyrics = request.lyrics or ()
            draft = spoken_draft(voice, lyrics, pronouncer, song.regions, num_samples, request.seed)
        return draft, {"source": NONE}
    has_file = request.melody.is_file
    with watch("melody", "reading the melody" if has_file else "reading beats and chords"):
        backing = BackingAudio.of(song, voice.hyperparams.audio.sample_rate)
        melody = make_melody(request, voice, pronouncer, backing)
    with watch("draft"):
        draft = sung_draft(voice, melody, num_samples, request.draft_seed)
    return draft, melody.report()


def inpaint_vocal(
    networks: Networks, song: SongAudio, draft: Draft | None, seed: int
) -> InpaintedVocal:
    """Generate the parts of a song's vocal; without an inpainter the draft is the vocal."""
    inpainter, hp = networks.inpainter, networks.hyperparams
    if inpainter is None:
        assert draft is not None, "without an inpainter there is a voice"
        return draft_as_vocal(song, draft.wav)
    start, condition = song.vocal if song.recording else None, None
    if draft is not None and networks.voice is not None:
        gain = draft_gain(draft.wav, song.vocal, inpainter.data, hp.audio.hop_length)
        start = draft.wav * gain
        if hp.unet.context_width:
            table = networks.voice.transformer.data["symbols"]
            condition = condition_from(draft.placed, start, table, song, inpainter)
    return inpaint_ranges(
        inpainter,
        song.vocal,
        song.accompaniment,
        song.ranges,
        hp.inpainting,
        seed,
        condition,
        start,
    )


# ---------------------------------------------------------------------------- without a song


def _sing_alone(request: SongRequest, device: torch.device) -> Written:
    """Sing a melody file without an accompaniment."""
    watch = Stopwatch()
    with watch("load", "loading the networks"):
        voice = requested_voice(request, device)
    audio = voice.hyperparams.audio
    with watch("melody"):
        pronouncer = Pronouncer(request.lexicon)
        melody = make_melody(request, voice, pronouncer, None)
    score = melody.underlay.score
    with watch("draft"):
        num_samples = round((score.duration + PAUSE) * audio.sample_rate)
        draft = sung_draft(voice, melody, num_samples, request.draft_seed)
    remarks = collect_remarks(request.lyrics, melody.remarks, draft.phrases)
    report = {
        **voice.report(),
        "device": str(device),
        **request.seed_report(),
        "melody": melody.report(),
        "lines": draft.report(audio),
        "remarks": grouped(remarks),
    }
    with staged(request.out) as stage:
        names = write_alone(stage, draft, score, audio, watch.seconds, report)
        if request.pictures:
            names += write_attention(stage, draft.phrases, voice)
    return names, remarks


def _speak(request: SongRequest, device: torch.device) -> Written:
    """Speak lyrics, each line as a file of its own."""
    request.melody.check_spoken()
    pronouncer = Pronouncer(request.lexicon)
    voice = requested_voice(request, device)
    began = time.perf_counter()
    lines = render_phrases(voice, spoken_phrases(request.lyrics or (), pronouncer), request.seed)
    seconds = time.perf_counter() - began
    remarks = collect_remarks(request.lyrics, (), lines)
    with staged(request.out) as stage:
        names = write_lines(stage, lines, voice, seconds, request.pictures, remarks)
    return names, remarks
