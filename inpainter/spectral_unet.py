"""The U-Net of waveforms with a spectral front end: it works on their MDCT.

Shapes: B batch, C channels, S samples, P positions, N coefficients of a position, K spectra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from inpainter.spectral import ModifiedCosineTransform, NoiseShape, SpectralPatch, SpectralUnpatch
from inpainter.unet import UNet1d

if TYPE_CHECKING:
    import hyperparams


class SpectralUNet1d(UNet1d):
    """The U-Net on the MDCT of waveforms, its noise in the spectral envelope of a draft."""

    def __init__(self, hp: hyperparams.UNet, *args: Any, **kwargs: Any) -> None:
        """hp.mdct: samples per position; the others as UNet1d."""
        super().__init__(hp, *args, **kwargs)
        self.transform = ModifiedCosineTransform(hp.mdct)
        if hp.noise_exponent:
            self.noise_shape = NoiseShape(
                self.transform, hp.stride, hp.noise_exponent, hp.noise_gain, hp.noise_floor
            )
        sizes = (hp.mdct, hp.mdct_blocks, hp.groups, self.mapping_width)
        signals = hp.signal_channels + hp.draft_input
        self.spectral_patch = SpectralPatch(
            signals, self.read_channels - signals, hp.channels, *sizes
        )
        self.spectral_unpatch = SpectralUnpatch(
            hp.channels,
            hp.signal_channels,
            2 if hp.draft_input else 1,  # noisy signal; draft
            *sizes,
            hp.mdct_width,
            hp.mdct_dilations,
        )

    def encode(
        self, x: Tensor, draft: Tensor, c_noise: Tensor, mapping: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Encode what the levels read (B, C, 1, P) by the MDCT, and what `decode` needs besides.

        That is the spectra of noisy signal and draft in units of the noise, their power
        (B, K, P, N), and the gains of the noise (B, C, P, N).
        With these units D = c_skip·x̃ + c_out·F is a shrunk x̃ for F = −weight·(c_skip/c_out)·x̃,
        and is the draft y for F = y/c_out - …: c_skip/c_out = c_in·σ_data/σ, 1/c_out =
        √(1 + σ_data²/σ²) in the units of the network's input (EDM table 1).
        """
        ratio = self.sigma_data * (-4.0 * c_noise.float()).exp()[:, None, None, None]  # σ_data / σ
        signal, marks = x.tensor_split([self.signal_channels], dim=1)
        wav, has_draft = draft[:, :1], draft[:, 1:]
        noisy, noisy_power = self.transform.with_power(signal)
        drafted, drafted_power = self.transform.with_power(wav)
        gains = torch.ones_like(noisy)  # 1 = white
        if self.noise_shape is not None:
            gains[:, :1] = self.noise_shape.gains(drafted_power, has_draft[:, 0, 0] > 0)
        own = ratio / gains
        of_draft = (1.0 + ratio.square()).sqrt() / gains[:, : wav.shape[1]]
        spectra = torch.cat([own * noisy, of_draft * drafted], dim=1)
        power = torch.cat([own.square() * noisy_power, of_draft.square() * drafted_power], dim=1)
        marks = torch.cat([marks, has_draft], dim=1)
        x = self.spectral_patch(spectra[:, : self.signal_channels], drafted_power, marks, mapping)
        return x, (spectra, power, gains)

    def decode(self, x: Tensor, mapping: Tensor, state: tuple[Tensor, ...]) -> Tensor:
        """Weigh the spectra, and transform back: (B, C, 1, P) → (B, C, S)."""
        spectra, power, gains = state
        return self.transform.inverse(gains * self.spectral_unpatch(x, mapping, spectra, power))
