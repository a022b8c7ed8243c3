"""Per-frame conditions of the inpainter: draft, symbols, notes, voicing (B, T, ...)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inpainter.blocks import as_row


@dataclass(frozen=True)
class Context:
    """What the inpainter may be told of the vocal it makes; any part may be missing.

    Per frame (one per hop): mel: (B, T, M) standardised log mel of the draft; phoneme: (B, T) int64
    symbol ids; pitch: (B, T) MIDI note numbers, whole or fractional, 0 = no note; voicing: (B, T)
    in [0, 1]. Per sample: wav: (B, S), the waveform of the draft.
    is_dropped: part name → (B,) bool, True = this item does not see this part, which is how
    classifier-free guidance (2207.12598) learns to do without it.
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
        """The parts that are there, by name."""
        parts = {name: getattr(self, name) for name in self.PARTS}
        return {name: part for name, part in parts.items() if part is not None}

    def frames(self) -> dict[str, Tensor]:
        """Those of them that are per frame."""
        return {name: part for name, part in self.present().items() if name in self.FRAMES}

    def without(self, *names: str) -> Context:
        """The same context with these parts missing for every item (no names: all of them)."""
        unknown = set(names) - set(self.PARTS)
        if unknown:
            raise ValueError(f"no context part {sorted(unknown)}: there are {list(self.PARTS)}")
        return replace(self, **dict.fromkeys(names or self.PARTS))

    def map(self, function: Callable[[Tensor], Tensor]) -> Context:
        """`function` applied to every tensor: to(device), a slice of the batch, a repetition."""
        parts = {name: function(part) for name, part in self.present().items()}
        is_dropped = {name: function(which) for name, which in self.is_dropped.items()}
        return Context(**parts, is_dropped=is_dropped)


class ContextEncoder(nn.Module):
    """Frames of a context → scales and shifts (FiLM, Perez et al. 2018) of the levels at one frame
    per hop."""

    def __init__(
        self,
        width: int,
        channels: tuple[int, ...],
        n_mels: int,
        num_phonemes: int,
        num_pitches: int,
    ) -> None:
        """channels: of each level that takes a scale and a shift."""
        super().__init__()
        self.channels = channels
        self.mel = nn.Linear(n_mels, width)
        self.phoneme = nn.Embedding(num_phonemes, width)
        self.pitch = nn.Embedding(num_pitches, width)
        self.voicing = nn.Linear(1, width)
        self.null = nn.Parameter(torch.randn(len(Context.FRAMES), width))
        self.conv = nn.Conv1d(width, width, 5, padding=2)
        self.to_film = nn.Conv1d(width, 2 * sum(channels), 3, padding=1)
        nn.init.zeros_(self.to_film.weight)
        nn.init.zeros_(self.to_film.bias)

    def forward(
        self, context: Context, batch: int, frames: int, padding: int = 0
    ) -> list[tuple[Tensor, Tensor]]:
        """context of B items of T frames → per level scale, shift (B, C, 1, T + padding).

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
        return [tuple(map(as_row, film.chunk(2, dim=1))) for film in films]

    def embed(self, name: str, part: Tensor) -> Tensor:
        """One part (B, T) or (B, T, M) → (B, T, W); a fractional pitch lies between two notes."""
        if name == "mel":
            return self.mel(part)
        if name == "phoneme":
            return self.phoneme(part)
        if name == "voicing":
            return self.voicing(part.to(self.null.dtype)[..., None])
        pitch = part.to(self.null.dtype).clamp(0, self.pitch.num_embeddings - 1)
        below, above = pitch.floor().long(), pitch.ceil().long()
        return torch.lerp(self.pitch(below), self.pitch(above), (pitch - below)[..., None])
