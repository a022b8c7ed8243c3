"""The singing chain: open the song, make its melody, sing it, inpaint, mix, write."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hyperparams import Diffusion, Hyperparams
from singing.inpaint import (
    PAUSE,
    Draft,
    InpaintedVocal,
    check_inpainter,
    condition_from,
    condition_on,
    draft_as_vocal,
    inpaint_ranges,
    sung_draft,
)
from singing.melody import MelodyResult, make_melody, moved_into, resolve_melody, sings_words
from singing.mixing import mix_song
from singing.output import (
    FEW_PHRASES,
    collect_remarks,
    write_alone,
    write_attention,
    write_lines,
    write_song,
)
from singing.performance import unsung_remarks
from singing.request import (
    NONE,
    ProgressEvent,
    SongFiles,
    SongRequest,
    sampling_hyperparams,
    tell,
)
from singing.song import AUDIO_RMS, SongAudio, draft_gain, open_song, scaled, training_gain
from singing.voice import RenderedPhrase, Voice, load_voice, render_phrases, spoken_phrases
from text.frontend import Pronouncer
from text.remarks import grouped
from utils import scratch
from utils.checkpoint import load_facts, resolve
from utils.files import refuse_overwriting, staged
from utils.flags import DEMO, SAVE
from utils.loading import Loaded, check_pair, check_spectrograms, load_network

if TYPE_CHECKING:
    from singing.hearing import Hear
    from singing.mels import InpaintedMel, MelInpainter, Restoration


WRITTEN = ("vocal.wav", "mix.wav", "draft.wav", "topline.mid", "lyrics.wav", "report.json")
NO_LYRICS = (
    "no lyrics: this inpainter makes the vocal from the accompaniment alone, without a draft: "
    "noise where it was not trained long for it; --lyrics 'la la la la' sings a composed melody"
)
NO_ROOM = "no note has room in the parts that are sung again"


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


def sing_song(
    request: SongRequest, device: torch.device, hear: Hear | None = None
) -> tuple[list[Path], list[str]]:
    """Make what is requested; return the paths written, all or none, and remarks for the user.

    That is a vocal over an accompaniment, a melody file sung alone, or spoken lyrics. hear: listens
    to a take that is sung again without lyrics. Raises ValueError and OSError for what cannot be
    read, made or written.
    """
    if not request.lyrics:  # late, as all that few songs ask for
        from singing.vocalise import check_can_sing, with_syllables

        request = with_syllables(request)
        check_can_sing(request)
    inputs = [request.melody.source if request.melody.is_file else None, request.lexicon]
    if request.files is not None:
        inputs += [request.files.accompaniment, request.files.vocal]
    refuse_overwriting(request.out, WRITTEN, [Path(i) for i in inputs if i is not None])
    with scratch.on(request.out):
        if request.files is not None:
            names, remarks = _sing_over(request, request.files, device, hear)
        elif request.melody.is_file:
            names, remarks = _sing_alone(request, device)
        else:
            names, remarks = _speak(request, device)
    return [request.out / name for name in names], remarks


# ---------------------------------------------------------------------------- over a song


def _sing_over(
    request: SongRequest, files: SongFiles, device: torch.device, hear: Hear | None
) -> Written:
    """Make a vocal for an accompaniment, or parts of one."""
    watch = Stopwatch()
    with watch("load", "loading the networks and the song"):
        networks = load_networks(request, device)
        hp, inpainter, voice = networks.hyperparams, networks.inpainter, networks.voice
        mels, wordless = networks.mels, networks.wordless
        data = inpainter.data if inpainter else mels.loaded.data if wordless and mels else {}
        song = open_song(files, hp.audio.sample_rate, data, hp.diffusion.sigma_data)
        if inpainter:
            has_draft = bool(voice or wordless or song.recording)
            check_inpainter(inpainter, hp.inpainting, bool(voice or wordless), has_draft)
    draft: Draft | None = None
    melody: dict[str, Any] = {}
    made: InpaintedMel | None = None
    if voice:
        draft, melody, made = make_draft(request, voice, song, watch, mels, hear)
    elif mels and wordless:
        from singing.wordless import WordlessSinger

        with watch("draft", "singing without words"):
            singer = WordlessSinger(
                mels, wordless, networks.sampled, Pronouncer(request.lexicon), hear
            )
            draft, wanted, made = singer(request, song)
            melody = wanted.report()
    elif hp.unet.draft_input and not song.recording:
        print(NO_LYRICS)
    with watch("inpaint"):
        sung = inpaint_vocal(networks, song, draft, request.seed)
    with watch("mix", "mixing and writing"):
        rate = hp.audio.sample_rate
        mixed = mix_song(song, sung.vocal, files.accompaniment, rate, hp.mixing)
    phrases = draft.phrases if draft else ()
    remarks = collect_remarks(request.lyrics, melody.get("remarks", ()), phrases)
    remarks += unsung(request, voice, phrases)
    report = {
        **networks.report(),
        "device": str(device),
        **request.seed_report(),
        "accompaniment": str(files.accompaniment),
        "vocal": str(files.vocal) if files.vocal else None,
        "melody": melody,
        "mel": made and made.report(),
        "mixing": None if song.recording else asdict(hp.mixing),
        "lines": draft.report(hp.audio) if draft else [],
        "remarks": grouped(remarks),
    }
    with staged(request.out) as stage:
        names = write_song(stage, song, sung, mixed, draft, hp.audio, watch.seconds, report)
        if request.pictures and draft and voice:
            names += write_attention(stage, draft.phrases, voice)
    return names, remarks


def unsung(
    request: SongRequest, voice: Voice | None, phrases: Sequence[RenderedPhrase]
) -> list[str]:
    """Return remarks on what a performance asks for and the voice does not sing."""
    if voice is None or not any(rendered.phrase.score for rendered in phrases):
        return []
    asked = [rendered.phrase.performance for rendered in phrases]
    return unsung_remarks(asked, request.changes, voice.follows_pitch)


def make_draft(
    request: SongRequest,
    voice: Voice,
    song: SongAudio,
    watch: Stopwatch,
    mels: MelInpainter | None = None,
    hear: Hear | None = None,
) -> tuple[Draft | None, dict[str, Any], InpaintedMel | None]:
    """Lay the lyrics over a song, spoken or sung, their mels restored by `mels`.

    Parts of a take are sung on the notes that `hear` finds in it, without words also on the sounds.
    Returns the draft (None where a part has no room for a note), a report of its melody, and what
    restoring took.
    """
    num_samples, pronouncer = len(song.accompaniment), Pronouncer(request.lexicon)
    retake: MelodyResult | None = None
    is_retake = song.recording and request.melody.source is None and voice.pitch_range
    if song.recording and request.is_vocalise and not request.melody.is_file:
        from singing.retake import resung

        with watch("melody", "hearing the take"):
            rate, composer = voice.hyperparams.audio.sample_rate, voice.hyperparams.composer
            parts = (request, song, hear, pronouncer, rate, moved_into(composer, voice.own_range))
            retake = resung(*parts)
        if retake is None:
            return None, {"source": NONE, "remarks": [NO_ROOM]}, None
    elif hear and is_retake:
        from singing.retake import retaken

        with watch("melody", "hearing the take"):
            rate, composer = voice.hyperparams.audio.sample_rate, voice.hyperparams.composer
            retake = retaken(request, song, hear, pronouncer, rate, composer)
        if retake is None:
            print("no note is heard in the take there: the lyrics are spoken")
    if retake is None and resolve_melody(request, voice).source == NONE:
        from singing.spoken import spoken_draft

        with watch("draft"):
            lyrics = request.lyrics or ()
            try:
                draft = spoken_draft(
                    voice, lyrics, pronouncer, song.regions, num_samples, request.seed
                )
            except ValueError as error:
                if request.files is None or str(error).startswith("line "):
                    raise
                raise ValueError(f"{request.files.accompaniment}: {error}") from error
        if mels:
            print("spoken lines keep the transformer's mels: the inpainter on mels has heard none")
        return draft, {"source": NONE}, None
    has_file = request.melody.is_file
    with watch("melody", "reading the melody" if has_file else "reading beats and chords"):
        backing = song.backing(voice.hyperparams.audio.sample_rate)
        melody = retake or make_melody(request, voice, pronouncer, backing)
    restoration = restoring(mels, voice, song, request.seed)
    with watch("draft"):
        draft = sung_draft(voice, melody, num_samples, request.draft_seed, restoration)
    if retake is not None:
        from singing.retake import like_the_level, only_parts

        audio = voice.hyperparams.audio
        wav = like_the_level(draft.wav, song, audio.sample_rate, audio.hop_length)
        score = only_parts(melody.underlay.score, song.ranges, audio.sample_rate)
        draft = replace(draft, wav=wav, score=score, is_levelled=True)
        melody = replace(melody, underlay=replace(melody.underlay, score=score))
    return draft, melody.report(), None if restoration is None else restoration.made


def restoring(
    mels: MelInpainter | None, voice: Voice, song: SongAudio | None, seed: int
) -> Restoration | None:
    """Return what restores the mels of sung phrases; None without an inpainter on mels."""
    if mels is None:
        return None
    from singing.mels import Restoration, frames_touching

    table, audio = voice.transformer.data["symbols"], voice.hyperparams.audio
    if song is None:
        return Restoration(mels, table, seed=seed)
    vocal = song.vocal if song.recording else None
    gain = training_gain(song.accompaniment, vocal, mels.loaded.data, AUDIO_RMS, audio.sample_rate)
    backing = gain * song.accompaniment
    if vocal is None:
        return Restoration(mels, table, backing, seed=seed)
    frames = -(-len(backing) // audio.hop_length)
    parts = frames_touching(song.ranges, audio.hop_length, audio.win_length, frames)
    return Restoration(mels, table, backing, gain * vocal, parts, seed)


def inpaint_vocal(
    networks: Networks, song: SongAudio, draft: Draft | None, seed: int
) -> InpaintedVocal:
    """Generate the parts of a song's vocal; without an inpainter the draft is the vocal."""
    inpainter, hp = networks.inpainter, networks.hyperparams
    if inpainter is None:
        if draft is None:
            raise ValueError(f"{NO_ROOM}, and --inpainter {NONE} leaves nobody to make the part")
        return draft_as_vocal(song, draft.wav)
    start, condition = song.vocal if song.recording else None, None
    if draft is not None:
        gain = song.gain
        if not draft.is_levelled:
            gain = draft_gain(draft.wav, song.vocal, inpainter.data, hp.audio.hop_length)
        start = scaled(draft.wav, gain)
        if hp.unet.context_width and draft.tracks is not None:
            condition = condition_on(draft.tracks, start, song, inpainter)
        elif hp.unet.context_width and networks.voice is not None:
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
        mels = requested_mels(request, device, voice)
    audio = voice.hyperparams.audio
    with watch("melody"):
        pronouncer = Pronouncer(request.lexicon)
        melody = make_melody(request, voice, pronouncer, None)
    score = melody.underlay.score
    with watch("draft"):
        num_samples = round((score.duration + PAUSE) * audio.sample_rate)
        restoration = restoring(mels, voice, None, request.seed)
        draft = sung_draft(voice, melody, num_samples, request.draft_seed, restoration)
    remarks = collect_remarks(request.lyrics, melody.remarks, draft.phrases)
    remarks += unsung(request, voice, draft.phrases)
    report = {
        **Networks(voice, None, mels).report(),
        "device": str(device),
        **request.seed_report(),
        "melody": melody.report(),
        "mel": restoration.made.report() if restoration and restoration.made else None,
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


# ---------------------------------------------------------------------------- networks
# The networks of a request: which are loaded, and with whose sampling values.


@dataclass(frozen=True)
class Networks:
    """What makes a vocal: a voice, an inpainter, or the one after the other."""

    voice: Voice | None
    inpainter: Loaded | None
    mels: MelInpainter | None = None
    wordless: Loaded | None = None  # the PostNet of a vocal without words
    sampled: Hyperparams = field(default_factory=Hyperparams)  # how that is used

    @property
    def hyperparams(self) -> Hyperparams:
        """Those of the last stage."""
        last = self.inpainter or self.voice or self.mels
        assert last is not None, "one of the three is there"
        return last.hyperparams

    def report(self) -> dict[str, Any]:
        """Describe the networks for report.json."""
        inpainter, mels, postnet = self.inpainter, self.mels, self.wordless
        wordless = {}
        if postnet is not None:
            wordless["postnet"] = {"path": str(postnet.path), "step": postnet.step}
            wordless["synthesis"] = asdict(self.sampled.synthesis)
        return {
            "mel_inpainter": mels and {"path": str(mels.loaded.path), "step": mels.loaded.step},
            "mel_inpainting": mels and asdict(mels.config),
            **wordless,
            "inpainter": inpainter and {"path": str(inpainter.path), "step": inpainter.step},
            **(self.voice.report() if self.voice else {}),
            "inpainting": inpainter and asdict(inpainter.hyperparams.inpainting),
        }


def load_networks(request: SongRequest, device: torch.device) -> Networks:
    """Load the inpainter, and the voice when there are words; ValueError for an odd pair."""
    inpainter = None
    if request.inpainter is not None:
        inpainter = load_network(resolve(request.inpainter, "inpainter"), "inpainter", device)
        announce(inpainter, "inpainter", "--inpainter")
        if inpainter.hyperparams.unet.mel:
            raise ValueError(
                f"{inpainter.path} is an inpainter on mels: name it with --mel-inpainter; "
                "--inpainter is one of audio, or none"
            )
        inpainter.hyperparams = sampling_hyperparams(request, inpainter, "inpainter")
    has_words = request.has_words
    if request.mel_inpainter is not None:
        has_words = sings_words(request)
    voice = requested_voice(request, device) if has_words else None
    mels = requested_mels(request, device, voice)
    if inpainter is None and voice is None and mels is None:
        raise ValueError(f"--inpainter {NONE}: without --lyrics there is nothing to sing")
    if inpainter and voice:
        check_pair(voice.transformer, inpainter)
    if mels is None or voice is not None:
        return Networks(voice, inpainter, mels)
    postnet = load_network(resolve(request.postnet, "postnet"), "postnet", device)
    announce(postnet, "postnet", "--postnet")
    for network in (postnet, *((inpainter,) if inpainter else ())):
        check_spectrograms(network, mels.hyperparams, mels.loaded.path)
    sampled = sampling_hyperparams(request, postnet, "postnet")
    return Networks(None, inpainter, mels, postnet, sampled)


def requested_mels(
    request: SongRequest, device: torch.device, voice: Voice | None
) -> MelInpainter | None:
    """Load the inpainter on mels; None where one that ships is not for words.

    Raises ValueError for one that does not go with the voice.
    """
    if request.mel_inpainter is None:
        if not voice:
            return None
        if not request.is_chosen and voice.hyperparams.synthesis.restore:
            print("no inpainter on mels: the transformer's mels as they are", file=sys.stderr)
        return None
    if voice and not request.is_chosen and not voice.hyperparams.synthesis.restore:
        return None
    loaded = load_network(resolve(request.mel_inpainter, "inpainter"), "inpainter", device)
    announce(loaded, "mel inpainter", "--mel-inpainter")
    if loaded.hyperparams.unet.mel:
        loaded.hyperparams = sampling_hyperparams(request, loaded, "inpainter")
    from singing.mels import MelInpainter

    mels = MelInpainter(loaded)
    if voice:
        mels.check_voice(voice.transformer)
    return mels


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
    voice = load_voice(transformer, postnet, device, request.voice)
    announce(voice.transformer, "transformer", "--checkpoint")
    announce(voice.postnet, "postnet", "--postnet")
    voice.hyperparams = sampling_hyperparams(request, voice.transformer, "transformer")
    few = request.files is None and len(request.lyrics or ()) <= FEW_PHRASES
    voice.keeps_attention = request.pictures or few
    return voice


def announce(loaded: Loaded, kind: str, flag: str) -> None:
    """Say on standard error which weights are used, and whether the user has others."""
    note = ""
    if loaded.path.parent == DEMO:
        runs = sorted(SAVE.glob(f"{kind}/*/last.pt"), key=lambda path: path.stat().st_mtime)
        note = ", ships with the repository"
        note += f"; your own newest run: {flag} {runs[-1].parent.name}" if runs else ""
    print(f"{kind}: {loaded.path}, step {loaded.step}{note}", file=sys.stderr)
