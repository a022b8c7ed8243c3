"""The whole chain of synthesis.py, run on held-out songs as on a user's files.

Shapes: S samples, T frames, M mels.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from corpora.records import song_of
from evaluation.naturalness import DNSMOS
from preprocess import StemStore
from singing.request import NONE, MelodyRequest, SongFiles, SongRequest
from singing.sing import sing_song
from singing.voice import load_voice
from transcription.listening import Listener
from transcription.transcribe import load_transcriber
from utils.audio import Features, read_audio, write_wav
from utils.checkpoint import resolve
from utils.flags import MEL_INPAINTER

if TYPE_CHECKING:
    from singing.voice import Voice
    from utils.loading import Loaded


class WholeChain:
    """The chain of a command line, and the songs that it is tried on."""

    def __init__(self, arguments: Namespace, device: torch.device) -> None:
        """Load what judges; ValueError for songs of another rate."""
        self.is_chosen = arguments.mel_inpainter is not None  # else as it ships, for its own notes
        ships = MEL_INPAINTER if MEL_INPAINTER.exists() else None
        named = {
            "transformer": arguments.checkpoint,
            "postnet": arguments.postnet,
            "inpainter": arguments.inpainter,
            "mel_inpainter": arguments.mel_inpainter if self.is_chosen else ships,
        }
        self.paths: dict[str, Path] = {
            name: resolve(path, "inpainter" if "inpainter" in name else name)
            for name, path in named.items()
            if path is not None and str(path) != NONE
        }
        self.device, self.seed = device, arguments.seed
        self.voice: Voice = load_voice(self.paths["transformer"], self.paths["postnet"], device)
        path = resolve(arguments.transcriber, "transcriber")
        self.transcriber: Loaded = load_transcriber(path, device)
        self.hear = Listener(path, device)
        self.store = StemStore(arguments.feature_dir / arguments.data)
        self.audio = self.voice.hyperparams.audio
        self.store.check_audio(self.audio)
        self.features = Features(self.audio)
        self.standard = self.voice.transformer.standardiser("mel").cpu()
        items = {song_of(item["id"]): item for item in self.store.items(arguments.split)}
        self.items = list(items.values())  # one take of each song
        self.dnsmos: DNSMOS | None = None
        self.missing: dict[str, str] = {}
        try:
            self.dnsmos = DNSMOS()
        except ImportError as error:
            self.missing["dnsmos"] = str(error)

    @property
    def finds_notes(self) -> bool:
        """Whether there is an inpainter on mels, which sings notes of its own."""
        return "mel_inpainter" in self.paths

    @property
    def rate(self) -> int:
        """Sample rate in Hz."""
        return self.audio.sample_rate

    def sing(
        self,
        backing: Tensor,
        take: Tensor | None = None,
        inpaint: str | None = None,
        extend: float | None = None,
        melody: str | None = None,
    ) -> Tensor:
        """Run the chain on waveforms (S,) as on files; return its vocal (S,)."""
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            write_wav(place / "backing.wav", backing, self.rate)
            if take is not None:
                write_wav(place / "take.wav", take, self.rate)
            request = SongRequest(
                place / "out",
                self.paths["transformer"],
                self.paths["postnet"],
                self.paths.get("inpainter"),
                self.paths.get("mel_inpainter"),
                self.is_chosen,
                files=SongFiles(
                    place / "backing.wav",
                    place / "take.wav" if take is not None else None,
                    inpaint,
                    extend,
                ),
                melody=MelodyRequest(melody),
                seed=self.seed,
            )
            said = io.StringIO()
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                sing_song(request, self.device, self.hear)
            wav, _ = read_audio(place / "out" / "vocal.wav")
        return wav[0]

    def mel(self, wav: Tensor) -> Tensor:
        """Compute the log mel (T, M) of a waveform (S,)."""
        return self.features(wav[None])[0][0]

    def rendered(self, mel: Tensor) -> Tensor:
        """Give a log mel (T, M) a sound (S,) by PostNet and Griffin-Lim, as loud as it is."""
        lengths = torch.tensor([len(mel)], device=self.device)
        [wav] = self.voice.sounds(mel[None].to(self.device), lengths, [None], [self.seed])
        level = (self.mel(wav).exp().square().mean() + 1e-12).sqrt()
        return wav * float((mel.exp().square().mean() + 1e-12).sqrt() / level)
