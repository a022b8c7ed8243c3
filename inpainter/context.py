"""Conditioning of the inpainter: draft, phonemes, notes, voicing; its maker and its encoder.

Shapes: B batch, S samples, T frames (one per hop), M mels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from text.symbols import is_voiced
from utils.audio import Features, Standardiser

if TYPE_CHECKING:
    from hyperparams import Audio, UNet

MEL_ONLY = ("mel",)  # parts of checkpoints from before they were stored


@dataclass(frozen=True)
class Context:
    """Conditioning inputs of a batch of windows; each part may be missing.

    Per frame: mel: (B, T, M) standardised log mel of the draft; phoneme: (B, T) int64 symbol ids;
    pitch: (B, T) MIDI note numbers, whole or fractional, 0 = no note; voicing: (B, T) in [0, 1].
    Per sample: wav: (B, S), the draft's waveform.
    is_dropped: part name → (B,) bool, True = withheld from this item, as classifier-free guidance
    (2207.12598) requires in training and for its null evaluations.
    """

    mel: Tensor | None = None
    phoneme: Tensor | None = None
    pitch: Tensor | None = None
    voicing: Tensor | None = None
    wav: Tensor | None = None
    is_dropped: Mapping[str, Tensor] = field(default_factory=dict)

    FRAMES: ClassVar[tuple[str, ...]] = ("mel", "phoneme", "pitch", "voicing")
    PARTS: ClassVar[tuple[str, ...]] = (*FRAMES, "wav")

    def present(self) -> dict[str, Tensor]:
        """Return the parts that are given, by name."""
        parts = {name: getattr(self, name) for name in self.PARTS}
        return {name: part for name, part in parts.items() if part is not None}

    def frames(self) -> dict[str, Tensor]:
        """Return the given parts that are per frame, by name."""
        return {name: part for name, part in self.present().items() if name in self.FRAMES}

    def without(self, *names: str) -> Context:
        """Return the context with these parts missing for every item (no names: all parts)."""
        unknown = set(names) - set(self.PARTS)
        if unknown:
            raise ValueError(f"no context part {sorted(unknown)}: there are {list(self.PARTS)}")
        missing: dict[str, Any] = dict.fromkeys(names or self.PARTS)
        return replace(self, **missing)

    def map(self, function: Callable[[Tensor], Tensor]) -> Context:
        """Apply `function` to every tensor: to(device), a slice of the batch, a repetition."""
        parts = {name: function(part) for name, part in self.present().items()}
        is_dropped = {name: function(which) for name, which in self.is_dropped.items()}
        return Context(**parts, is_dropped=is_dropped)


def context_parts(unet: UNet, has_scores: bool) -> tuple[str, ...]:
    """List the parts that a network of this section trains with on a corpus.

    Phonemes, notes and voicing need a score of every song. Where the signal is a mel, so is the
    draft: it has no waveform.
    """
    frames: tuple[str, ...] = ()
    if unet.context_width:
        frames = Context.FRAMES if has_scores else MEL_ONLY
    return (*frames, "wav") if unet.draft_input and not unet.mel else frames


def window_mel(features: Features, wav: Tensor) -> Tensor:
    """Compute the log mel (B, T, M) of windows (B, S), T = S // hop_length.

    Centred frames are one more: the last, centred on the window's end, belongs to what follows.
    """
    return features.mel(wav)[:, : wav.shape[1] // features.hop_length]


@dataclass(frozen=True)
class Condition:
    """Conditioning inputs of a whole song, from which those of its windows are cut."""

    wav: Tensor  # (S,) the draft where there is one, else the known vocal
    phoneme: Tensor | None = None  # (T,) int64, ids of the inpainter's own symbols
    pitch: Tensor | None = None  # (T,) MIDI note numbers, 0 = no note


class ContextMaker:
    """Make the context of windows from drafts and scores, for training, synthesis and evaluation.

    There is no other way to a `Context` in the project, so a network is never used with conditions
    that differ from those that it was trained with.
    """

    def __init__(
        self, audio: Audio, data: Mapping[str, Any], device: torch.device | str = "cpu"
    ) -> None:
        """data: of the checkpoint: `context` (its parts), `symbols`, `statistics` of the mel."""
        self.parts: tuple[str, ...] = tuple(data.get("context", MEL_ONLY))
        self.features = Features(audio).to(device)
        self.standardise = Standardiser.from_statistics(data["statistics"]["mel"]).to(device)
        voiced = [float(is_voiced(symbol)) for symbol in data["symbols"]]
        self.is_voiced = torch.tensor(voiced, device=device)

    def mel(self, wav: Tensor) -> Tensor:
        """Compute the standardised mel (B, T, M) of windows (B, S), always in float32."""
        with torch.autocast(wav.device.type, enabled=False):
            return self.standardise(window_mel(self.features, wav))

    def __call__(
        self,
        wav: Tensor | None = None,
        mel: Tensor | None = None,
        phoneme: Tensor | None = None,
        pitch: Tensor | None = None,
    ) -> Context:
        """Return the context of B windows; what is not among `parts` is left out.

        wav (B, S): drafts; mel (B, T, M): theirs, standardised, computed from `wav` where it is not
        given; phoneme, pitch (B, T): see `Context`. Voicing is that of the phonemes.
        """
        if mel is None and wav is not None and "mel" in self.parts:
            mel = self.mel(wav)
        has_voicing = phoneme is not None and "voicing" in self.parts
        voicing = self.is_voiced[phoneme] if has_voicing else None
        made: dict[str, Any] = {
            "mel": mel,
            "phoneme": phoneme,
            "pitch": pitch,
            "voicing": voicing,
            "wav": wav,
        }
        return Context(**{name: part for name, part in made.items() if name in self.parts})


class WindowContexts:
    """Cut the contexts of windows of a song from its `Condition`."""

    def __init__(self, maker: ContextMaker, condition: Condition, hop_length: int) -> None:
        """hop_length in samples: windows begin and end on its multiples."""
        self.maker, self.condition, self.hop_length = maker, condition, hop_length

    def __call__(self, spans: Sequence[tuple[int, int]]) -> Context:
        """Return the context of windows [start, stop) in samples; silence follows a song's end."""
        frames = [(start // self.hop_length, stop // self.hop_length) for start, stop in spans]
        condition = self.condition
        return self.maker(
            wav=cut(condition.wav, spans),
            phoneme=None if condition.phoneme is None else cut(condition.phoneme, frames),
            pitch=None if condition.pitch is None else cut(condition.pitch, frames),
        )


def cut(song: Tensor, spans: Sequence[tuple[int, int]]) -> Tensor:
    """Stack equally long stretches [start, stop) of a song (..., S), zeros behind its end."""
    parts = [song[..., start:stop] for start, stop in spans]
    return torch.stack(
        [
            F.pad(part, (0, stop - start - part.shape[-1]))
            for part, (start, stop) in zip(parts, spans, strict=True)
        ]
    )


CONTEXT_MODULES = {  # of a ContextEncoder, by the part that they embed
    "mel": ("mel",),
    "phoneme": ("phoneme", "previous", "following", "phoneme_place"),
    "pitch": ("pitch", "note_place"),
    "voicing": ("voicing",),
}


class ContextEncoder(nn.Module):
    """Encode frames as FiLM scales and shifts (Perez et al. 2018) of the levels at one per hop."""

    def __init__(
        self,
        width: int,
        channels: tuple[int, ...],
        n_mels: int,
        num_phonemes: int,
        num_pitches: int,
        has_places: bool = False,
    ) -> None:
        """channels: of each level that takes a scale and a shift.

        has_places: embed each phoneme with those before and behind it, and the place in phoneme and
        note.
        """
        super().__init__()
        self.channels = channels
        self.mel = nn.Linear(n_mels, width)
        self.phoneme = nn.Embedding(num_phonemes, width)
        self.pitch = nn.Embedding(num_pitches, width)
        self.voicing = nn.Linear(1, width)
        self.null = nn.Parameter(torch.randn(len(Context.FRAMES), width))
        self.conv = nn.Conv1d(width, width, 5, padding=2)
        self.to_film = nn.Conv1d(width, 2 * sum(channels), 3, padding=1)
        for parameter in self.to_film.parameters():
            nn.init.zeros_(parameter)  # untrained, the context changes nothing
        self.has_places = has_places
        if has_places:
            self.previous = nn.Embedding(num_phonemes, width)
            self.following = nn.Embedding(num_phonemes, width)
            self.phoneme_place = nn.Linear(2, width)
            self.note_place = nn.Linear(2, width)

    def forward(
        self, context: Context, batch: int, frames: int, padding: int = 0
    ) -> list[tuple[Tensor, ...]]:
        """Encode B items of T frames → per level scale, shift (B, C, T + padding).

        Every part is missing on the padding. ValueError for a part of another B or T.
        """
        total = self.null.new_zeros(batch, frames, self.null.shape[1])
        present = context.present()
        for index, name in enumerate(Context.FRAMES):
            null = self.null[index].expand_as(total)
            if name not in present:
                total = total + null
                continue
            part = present[name]
            if part.shape[:2] != (batch, frames):
                raise ValueError(
                    f"context.{name} is {tuple(part.shape)}: expected {batch} items of {frames} "
                    f"frames, one per hop of the signal"
                )
            embedded = self.embed(name, part)
            if name in context.is_dropped:
                is_dropped = context.is_dropped[name][:, None, None]  # (B, 1, 1)
                embedded = torch.where(is_dropped, null, embedded)
            total = total + embedded
        if padding:
            nothing = self.null.sum(0).expand(batch, padding, -1)
            total = torch.cat([total, nothing], dim=1)  # (B, T + padding, W)
        h = F.silu(total.transpose(1, 2) / len(Context.FRAMES) ** 0.5)  # (B, W, T)
        films = self.to_film(F.silu(self.conv(h))).split([2 * c for c in self.channels], 1)
        return [film.chunk(2, dim=1) for film in films]

    def embed(self, name: str, part: Tensor) -> Tensor:
        """Embed one part (B, T) or (B, T, M) → (B, T, W), a fractional pitch between two notes."""
        if name == "mel":
            return self.mel(part)
        if name == "phoneme":
            embedded = self.phoneme(part)
            if self.has_places:
                previous, following = neighbours(part)
                embedded = embedded + self.previous(previous) + self.following(following)
                embedded = embedded + self.phoneme_place(places(part))
            return embedded
        if name == "voicing":
            return self.voicing(part.to(self.null.dtype)[..., None])
        pitch = part.to(self.null.dtype).clamp(0, self.pitch.num_embeddings - 1)
        below, above = pitch.floor().long(), pitch.ceil().long()
        embedded = torch.lerp(self.pitch(below), self.pitch(above), (pitch - below)[..., None])
        if self.has_places:
            embedded = embedded + self.note_place(places(part).to(embedded.dtype))
        return embedded


def runs(track: Tensor) -> tuple[Tensor, Tensor]:
    """Return start and stop frame (B, T) of the run of equal values that each frame lies in."""
    frames = track.shape[1]
    time = torch.arange(frames, device=track.device).expand_as(track)
    is_first = torch.ones_like(track, dtype=torch.bool)
    is_first[:, 1:] = track[:, 1:] != track[:, :-1]
    start = torch.where(is_first, time, 0).cummax(1).values
    is_last = torch.ones_like(is_first)
    is_last[:, :-1] = is_first[:, 1:]
    stop = torch.where(is_last, time + 1, frames).flip(1).cummin(1).values.flip(1)
    return start, stop


def neighbours(track: Tensor) -> tuple[Tensor, Tensor]:
    """Return the values (B, T) of the runs before and behind that of each frame; 0 = none."""
    start, stop = runs(track)
    before = track.gather(1, (start - 1).clamp_min(0))
    behind = track.gather(1, stop.clamp_max(track.shape[1] - 1))
    return (
        torch.where(start > 0, before, 0),
        torch.where(stop < track.shape[1], behind, 0),
    )


def places(track: Tensor) -> Tensor:
    """Return each frame's place in its run, 0 to 1, and the log of the run's frames, (B, T, 2)."""
    start, stop = runs(track)
    length = (stop - start).float()
    time = torch.arange(track.shape[1], device=track.device).expand_as(track)
    return torch.stack([(time - start + 0.5) / length, length.log()], dim=2)
