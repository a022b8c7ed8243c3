"""Simulate Griffin-Lim drafts and their contexts from ground-truth vocals (inpainter training).

Shapes: B batch, S samples, T frames, M mels, F linear bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from inpainter.context import Context, ContextMaker
from inpainter.diffusion import degrade_mel, draw_dropouts
from singing.chain import contrasted, linear_from_mel, linear_of
from utils.audio import frame_spectrum, griffin_lim

if TYPE_CHECKING:
    from hyperparams import Audio, Diffusion
    from music.inputs import ScoreTracks
    from network import PostNet
    from utils.loading import Loaded


class DraftSimulator:
    """Render mels as the chain does, mel → linear → waveform, from the phases of the true vocal.

    Griffin-Lim's own phases are arbitrary: its waveform would not match the true one sample by
    sample, and a network could learn nothing from the first about the second. From near the true
    phases, few iterations keep the alignment and add Griffin-Lim's artefacts. In synthesis the
    draft's phases are the true ones by definition.
    """

    def __init__(
        self, audio: Audio, config: Diffusion, postnet: Loaded[PostNet] | None = None
    ) -> None:
        """Without a PostNet, the filterbank's pseudo-inverse makes the linear spectrogram."""
        self.audio, self.config, self.postnet = audio, config, postnet

    @torch.no_grad()
    def __call__(self, mel: Tensor, wav: Tensor, generator: torch.Generator) -> Tensor:
        """Render mel (B, T, M), natural logs, T = S // hop_length, of vocals wav (B, S) → (B, S).

        The result has the power of its window within `draft_gain` dB; its phases are off by a
        random spread per item.
        """
        batch, samples = wav.shape
        frames = 1 + samples // self.audio.hop_length
        linear = self.linear(mel)
        linear = F.pad(linear.transpose(1, 2), (0, frames - mel.shape[1]), mode="replicate")
        u = torch.rand(2, batch, generator=generator, device=generator.device).to(wav)
        shape = (batch, frames, self.audio.n_linear)
        noise = torch.randn(shape, generator=generator, device=generator.device).to(wav)
        shift = self.config.draft_phase * u[0, :, None, None] * noise
        spectrum = frame_spectrum(wav, self.audio)  # (B, T, F)
        made = griffin_lim(
            linear.transpose(1, 2),
            self.audio,
            self.config.draft_iterations,
            start=spectrum * torch.polar(torch.ones_like(shift), shift),
        )
        made = F.pad(made, (0, samples - made.shape[1]))
        gain = 10.0 ** (self.config.draft_gain * (2.0 * u[1] - 1.0) / 20.0)
        gain = gain * wav.norm(dim=1) / made.norm(dim=1).clamp_min(1e-6)
        return gain[:, None] * made

    def linear(self, mel: Tensor) -> Tensor:
        """Convert log mel (B, T, M) → log linear (B, T, F), as Griffin-Lim reads it."""
        if self.postnet is None:
            return linear_from_mel(mel, self.audio)
        return contrasted(linear_of(self.postnet, mel), self.postnet.hyperparams.synthesis)


class SimulatedContexts:
    """Make contexts of ground-truth vocals as synthesis makes those of its drafts.

    The vocal's mel is degraded like a draft's; where the network reads a draft's waveform it is
    rendered from that mel, and the context has the mel of the rendering, as in synthesis.
    """

    draft_part = "wav"  # the part that is dropped with `draft_dropout`

    def __init__(
        self,
        maker: ContextMaker,
        audio: Audio,
        config: Diffusion,
        tracks: ScoreTracks | None = None,
        postnet: Loaded[PostNet] | None = None,
    ) -> None:
        """Take phonemes and notes from `tracks`, where the network reads them.

        postnet: see `DraftSimulator`.
        """
        self.maker, self.audio, self.config, self.tracks = maker, audio, config, tracks
        self.simulate = DraftSimulator(audio, config, postnet) if "wav" in maker.parts else None

    def __call__(
        self, vocal: Tensor, ids: Sequence[str], starts: Tensor, generator: torch.Generator
    ) -> Context:
        """Return the context of vocals (B, S), from samples `starts` (B,) of songs `ids` on."""
        if not self.maker.parts:
            return Context()
        wav = None
        # In full precision: synthesis makes its drafts so.
        with torch.autocast(vocal.device.type, enabled=False):
            degraded = degrade_mel(self.maker.mel(vocal), self.config, generator)
            if self.simulate is not None:
                wav = self.simulate(self.maker.standardise.inverse(degraded), vocal, generator)
        # With a waveform the mel is that of the waveform, as in synthesis.
        mel = degraded if wav is None else None
        frames = vocal.shape[1] // self.audio.hop_length
        phoneme, pitch = self.score(ids, starts, frames)
        device = vocal.device
        return self.maker(
            wav,
            mel,
            None if phoneme is None else phoneme.to(device, non_blocking=True),
            None if pitch is None else pitch.to(device, non_blocking=True),
        )

    def score(
        self, ids: Sequence[str], starts: Tensor, frames: int
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return phoneme ids and MIDI notes (B, T) of windows, None where they are not taken."""
        if self.tracks is None:
            return None, None
        seconds = (starts.double() / self.audio.sample_rate).tolist()
        step = 1 / self.audio.frame_rate
        rows = [
            self.tracks.window(id, start, step, frames)
            for id, start in zip(ids, seconds, strict=True)
        ]
        phonemes, pitches = zip(*rows, strict=True)
        return torch.stack(phonemes), torch.stack(pitches)

    def draw_dropouts(
        self, batch: int, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Draw the items (B,) that lose each part of the context, and the accompaniment.

        For classifier-free guidance. Each frame-level part is dropped on its own with `dropout`,
        and all of them together with the same probability (the null of guidance). A draft is all
        or nothing: an item without its waveform has no frame-level parts either.
        """
        frames = [part for part in self.maker.parts if part in Context.FRAMES]
        shares = dict.fromkeys((*frames, "accompaniment"), self.config.dropout)
        if len(frames) > 1:
            shares["frames"] = self.config.dropout
        if self.draft_part in self.maker.parts:
            shares[self.draft_part] = self.config.draft_dropout
        dropped = draw_dropouts(batch, shares, generator)
        accompaniment = dropped.pop("accompaniment")
        nobody = torch.zeros_like(accompaniment)
        all_frames = dropped.pop("frames", nobody) | dropped.get("wav", nobody)
        for part in frames:
            dropped[part] = dropped[part] | all_frames
        return dropped, accompaniment
