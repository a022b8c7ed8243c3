"""The networks of a request: which are loaded, and with whose sampling values."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from hyperparams import Diffusion, Hyperparams
from singing.facts import sampling_hyperparams
from singing.output import FEW_PHRASES
from singing.request import NONE, SongRequest
from singing.song import SongAudio, open_song
from singing.voice import Voice, load_voice
from utils.checkpoint import load_facts, resolve
from utils.loading import Loaded, check_pair, check_spectrograms, load_network
from utils.paths import DEMO, SAVE

if TYPE_CHECKING:
    from singing.mels import MelInpainter


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
        from singing.wordless import sings_words

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
    """Load the inpainter on mels; None, in a line, where it is not for words.

    Raises ValueError for one that does not go with the voice.
    """
    if request.mel_inpainter is None:
        if not voice:
            return None
        if not request.is_chosen and voice.hyperparams.synthesis.restore:
            print("no inpainter on mels: the transformer's mels as they are", file=sys.stderr)
        return None
    if voice and not request.is_chosen and not voice.hyperparams.synthesis.restore:
        print(
            f"words without {request.mel_inpainter} (synthesis.restore): --mel-inpainter "
            f"{request.mel_inpainter} takes it for them, too",
            file=sys.stderr,
        )
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
