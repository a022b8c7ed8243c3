"""The inpainter on mels: its signal x ∈ R^{2×M×T}, and the front end of its U-Net.

The signal is laid out frame by frame, (B, C, S) with S = T·M: element t·M + m is band m of frame t.
Masks, noise, denoiser, samplers and windows are then those of audio at M elements per frame.
Shapes: B batch, C channels (vocal, accompaniment), T frames, M mels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from inpainter.context import Context, window_mel
from inpainter.unet import Conv1d, ResidualBlock1d, UNet1d, as_row, zeroed
from module import harmonics_at
from utils.audio import Features, Standardiser

if TYPE_CHECKING:
    import hyperparams


class MelSignal:
    """Convert between windows of audio, log mels, and the inpainter's signal."""

    def __init__(
        self,
        audio: hyperparams.Audio,
        statistics: Mapping[str, Any],
        device: torch.device | str = "cpu",
    ) -> None:
        """statistics: `mel` of the vocals and `accompaniment_mel`, of the checkpoint's data."""
        self.bands = audio.n_mels
        self.features = Features(audio).to(device)
        self.vocal = Standardiser.from_statistics(statistics["mel"]).to(device)
        self.accompaniment = Standardiser.from_statistics(statistics["accompaniment_mel"]).to(
            device
        )

    def of_audio(self, wav: Tensor) -> Tensor:
        """Convert stems (B, 2, S) to the signal (B, 2, T·M), T = S // hop_length."""
        return torch.stack([self.of_vocal(wav[:, 0]), self.of_accompaniment(wav[:, 1])], dim=1)

    def of_vocal(self, wav: Tensor) -> Tensor:
        """Convert vocals (B, S) to their channel (B, T·M)."""
        return self.vocal(window_mel(self.features, wav)).flatten(1)

    def of_accompaniment(self, wav: Tensor) -> Tensor:
        """Convert accompaniments (B, S) to their channel (B, T·M)."""
        return self.accompaniment(window_mel(self.features, wav)).flatten(1)

    def frames(self, channel: Tensor) -> Tensor:
        """Lay a channel (B, T·M) out in frames (B, T, M), standardised as it is."""
        return channel.unflatten(1, (-1, self.bands))


class MelUNet1d(UNet1d):
    """The U-Net on mel spectrograms, one position per frame, beside the mel of a draft.

    With `hp.harmonics` also beside the mel of the harmonics of the notes, as the transformer's
    postnet (`module.ConvNextPostnet`): where these lie follows from F0 and need not be learnt.
    """

    def __init__(
        self,
        hp: hyperparams.UNet,
        *args: Any,
        harmonics: Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        """hp.mel: bands; harmonics (P, M): of `module.harmonic_mels`; the others as UNet1d."""
        super().__init__(hp, *args, **kwargs)
        self.bands = hp.mel
        self.harmonics: Tensor | None
        self.register_buffer("harmonics", harmonics, persistent=False)
        signals = hp.signal_channels + hp.draft_input
        marks = self.read_channels - signals  # per frame: the mask, and whether there is a draft
        signals += harmonics is not None
        sizes = (hp.channels, hp.channels, hp.groups, self.mapping_width)
        self.mel_input = Conv1d(signals * hp.mel + marks, hp.channels, 1)
        self.mel_before, self.mel_after = (
            nn.ModuleList(ResidualBlock1d(*sizes) for _ in range(hp.mel_blocks)) for _ in range(2)
        )
        self.mel_output = zeroed(Conv1d(hp.channels, hp.signal_channels * hp.mel, 1))

    def draft(self, context: Context | None, x: Tensor, samples: int) -> Tensor:
        """Stack the draft's mel and 1 where there is one, (B, 2, S) of x (B, C, S), padded.

        With harmonics (B, 3, S): their mel at the context's pitch, zero where that is missing.
        """
        draft = x.new_zeros(len(x), 2, x.shape[2])
        if context is not None and context.mel is not None:
            draft[:, 0, :samples] = context.mel.flatten(1).to(x.dtype) / self.sigma_data
            draft[:, 1, :samples] = 1.0
            if "mel" in context.is_dropped:
                draft = torch.where(context.is_dropped["mel"][:, None, None], 0.0, draft)
        if self.harmonics is None:
            return draft
        sung = x.new_zeros(len(x), 1, x.shape[2])
        if context is not None and context.pitch is not None:
            sung[:, 0, :samples] = (
                harmonics_at(self.harmonics, context.pitch).flatten(1).to(x.dtype)
            )
            if "pitch" in context.is_dropped:
                sung = torch.where(context.is_dropped["pitch"][:, None, None], 0.0, sung)
        return torch.cat([draft, sung], dim=1)

    def encode(
        self, x: Tensor, draft: Tensor, c_noise: Tensor, mapping: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Encode the frames of signal and draft (B, C, 1, T); state: what F is of the draft alone.

        With a draft y as the signal's mean, D = y + c_skip·(x̃ − y) before anything is learnt: F is
        y·(1 − c_skip)/c_out = y/σ_data / √(1 + (σ_data/σ)²) (EDM table 1).
        """
        signal, mask = x.tensor_split([self.signal_channels], dim=1)
        beside = torch.cat([draft[:, :1], draft[:, 2:]], dim=1)
        spectra = torch.cat([signal, beside], dim=1).unflatten(2, (-1, self.bands))
        marks = torch.cat([mask, draft[:, 1:2]], dim=1).unflatten(2, (-1, self.bands)).mean(3)
        rows = spectra.transpose(2, 3).flatten(1, 2)  # (B, K·M, T)
        h = self.mel_input(as_row(torch.cat([rows, marks], dim=1)))
        for block in self.mel_before:
            h = block(h, mapping)
        ratio = self.sigma_data * (-4.0 * c_noise.float()).exp()[:, None]  # σ_data / σ
        mean = draft[:, :1].squeeze(1).float() * (1.0 + ratio.square()).rsqrt()  # (B, S) or (B, 0)
        return h, (mean if self.draft_input else torch.zeros_like(signal[:, 0]),)

    def decode(self, x: Tensor, mapping: Tensor, state: tuple[Tensor, ...]) -> Tensor:
        """Decode frames (B, C, 1, T) to F (B, C, T·M), the draft's part added to the vocal."""
        for block in self.mel_after:
            x = block(x, mapping)
        bands = self.mel_output(x).squeeze(2).float().unflatten(1, (-1, self.bands))  # (B, C, M, T)
        made = bands.transpose(2, 3).flatten(2)  # (B, C, T·M)
        return torch.cat([made[:, :1] + state[0][:, None], made[:, 1:]], dim=1)
