"""The mathematics of the inpainter: one denoiser, a noise level per element, its loss and its data.

The signal is x ∈ R^{2×S}, channels (vocal, accompaniment); m = is_known. With s = σ(1 − m),

    x̃ = x + s·L·n,    D(x̃; σ, m, c) = c_skip(s)·x̃ + c_out(s)·F([c_in(s)·x̃ ; m], c_noise(σ), c)

the preconditioning is that of EDM (Karras et al. 2022, 2206.00364, table 1) element by element. A
known accompaniment is Palette's conditioning (2111.05826), nothing known is the joint model. n is
white; L = I, or the shape that a draft gives to the noise (spectral.NoiseShape).
Shapes: B batch, C channels, S samples, T frames, M mels. Every random draw takes its generator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from hyperparams import Diffusion, Inpainting
    from inpainter.context import Context
    from inpainter.spectral import NoiseShape

VOCAL, ACCOMPANIMENT = 0, 1
SPECTRAL_FLOOR = 1e-2  # linear magnitude, that of utils.metrics.LINEAR_FLOOR
MASK_KINDS = ("vocal", "prefix", "gaps", "accompaniment", "nothing")


# ---------------------------------------------------------------------------- preconditioning


class Preconditioning(NamedTuple):
    """Coefficients c_skip, c_out and c_in, of the shape of the noise level."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor


def precondition(s: Tensor, sigma_data: float) -> Preconditioning:
    """Compute c_* of EDM table 1 for levels s of any shape; exactly (1, 0, 1/σ_data) at s = 0."""
    ratio = (s / sigma_data).square() + 1.0  # (σ² + σ_data²)/σ_data²: exactly 1 at s = 0
    return Preconditioning(
        c_skip=ratio.reciprocal(), c_out=s * ratio.rsqrt(), c_in=ratio.rsqrt() / sigma_data
    )


def c_noise(sigma: Tensor) -> Tensor:
    """Encode the noise level for the network, ln(σ)/4 (EDM table 1); finite at σ = 0."""
    return sigma.clamp_min(1e-20).log() / 4.0


def element_sigma(sigma: Tensor, is_known: Tensor | None, like: Tensor) -> Tensor:
    """Compute s = σ(1 − m) (B, C, S) of σ (B,); without a mask σ (B, 1, 1), which broadcasts."""
    s = sigma.to(like.dtype)[:, None, None]  # (B, 1, 1)
    return s if is_known is None else s * (1.0 - is_known.to(like.dtype))  # (B, C, S)


class NoiseColour:
    """The shape L of the vocal's noise under one context (spectral.NoiseShape)."""

    def __init__(self, shape: NoiseShape, gains: Tensor, has_draft: Tensor) -> None:
        """gains: G (B, 1, P, N) or (N,); has_draft (B,) bool: whose context has a draft."""
        self.shape, self.gains, self.has_draft = shape, gains, has_draft

    def __call__(self, noise: Tensor) -> Tensor:
        """Colour white noise: L·n (B, C, S)."""
        return self.shape(noise, self.gains)

    def whiten(self, error: Tensor) -> Tensor:
        """Whiten the vocal's error in e (B, C, S): W·L⁻¹·e (B, 1, P, N), in units of its noise."""
        return self.shape.transform(self.shape.pad(error[:, :1])) / self.gains

    def covariance(self, x: Tensor) -> Tensor:
        """Apply the covariance of the noise, L·Lᵀ·x (B, C, S)."""
        return self.shape(x, self.gains.square())


class NoiseLaw:
    """The noise that a diffusion adds: white, or coloured by a `NoiseShape` and the context."""

    def __init__(self, sigma_data: float, shape: NoiseShape | None = None) -> None:
        """shape: that of the network, whose buffers it shares; None: white noise."""
        self.sigma_data, self.shape = sigma_data, shape

    def colour(self, context: Context | None, batch: int) -> NoiseColour | None:
        """Return the colour of the noise of B items with this context; None: white."""
        shape = self.shape
        if shape is None:
            return None
        nobody = torch.zeros(batch, dtype=torch.bool, device=shape.mean_power.device)
        if context is None or context.wav is None:
            return NoiseColour(shape, shape.mean_power.sqrt(), nobody)
        has_draft = ~context.is_dropped.get("wav", nobody)
        power = shape.power(context.wav[:, None] / self.sigma_data)
        return NoiseColour(shape, shape.gains(power, has_draft), has_draft)


class Denoiser(nn.Module):
    """D(x̃; σ, m, c): a network F wrapped so that its input, output and target have unit variance.

    `network(x_in (B, C_in, S), c_noise (B,), context) -> (B, C, S)`; C_in = 2C with `mask_input`
    (scaled signal, then mask), C for a network that sees no mask. `noise_shape` belongs to the
    network, too: it is declared here because F may be wrapped (DistributedDataParallel, compiled).
    """

    def __init__(
        self,
        network: nn.Module,
        sigma_data: float,
        mask_input: bool = True,
        noise_shape: NoiseShape | None = None,
    ) -> None:
        super().__init__()
        if sigma_data <= 0:
            raise ValueError(f"sigma_data = {sigma_data}: expected the positive RMS of the signal")
        self.network = network
        self.sigma_data = sigma_data
        self.mask_input = mask_input
        self.noise_law = NoiseLaw(sigma_data, noise_shape)  # no module: adds no second state

    def forward(
        self,
        x_noisy: Tensor,
        sigma: Tensor,
        is_known: Tensor | None = None,
        context: Context | None = None,
    ) -> Tensor:
        """Estimate the clean signal (B, C, S), equal to `x_noisy` bit by bit where it is known.

        x_noisy (B, C, S); sigma (B,); is_known (B, C, S) bool or float, 1 = known, None = nothing
        known; context is handed to the network, its waveform in units of σ_data.
        """
        if sigma.shape != x_noisy.shape[:1]:
            raise ValueError(
                f"sigma has shape {tuple(sigma.shape)}, expected one level per item: "
                f"({x_noisy.shape[0]},)"
            )
        s = element_sigma(sigma, is_known, x_noisy)
        c_skip, c_out, c_in = precondition(s, self.sigma_data)
        network_input = c_in * x_noisy
        if self.mask_input:
            mask = x_noisy.new_zeros(()) if is_known is None else is_known.to(x_noisy.dtype)
            network_input = torch.cat([network_input, mask.expand_as(x_noisy)], 1)  # (B, 2C, S)
        if context is not None and context.wav is not None:
            context = replace(context, wav=context.wav / self.sigma_data)
        output = self.network(network_input, c_noise(sigma).to(x_noisy.dtype), context)
        return c_skip * x_noisy + c_out * output.to(x_noisy.dtype)


# ---------------------------------------------------------------------------- loss


def draw_sigma(
    batch: int,
    p_mean: float,
    p_std: float,
    generator: torch.Generator,
    stratified: bool = True,
) -> Tensor:
    """Draw σ ~ LogNormal(p_mean, p_std) (B,), EDM eq. 25, on the generator's device.

    Stratified: one level from each of B equally likely slices, in random order (a batch's loss
    then varies less; each level alone still has the exact distribution).
    """
    device = generator.device
    exact = torch.device("cpu") if device.type == "mps" else device  # has double precision
    u = torch.rand(batch, generator=generator, device=device).to(exact).double()
    if stratified:
        order = torch.randperm(batch, generator=generator, device=device).to(exact)
        u = (order + u) / batch
    z = torch.special.ndtri(u.clamp(1e-9, 1 - 1e-9))
    return (p_mean + p_std * z).exp().float().to(device)


def add_noise(x: Tensor, sigma: Tensor, noise: Tensor, is_known: Tensor | None = None) -> Tensor:
    """Return x̃ = x + σ(1 − m)·n (B, C, S) of x and noise (B, C, S), sigma (B,)."""
    return x + element_sigma(sigma, is_known, x) * noise


def drop_accompaniment(
    x_noisy: Tensor, is_known: Tensor, is_dropped: Tensor
) -> tuple[Tensor, Tensor]:
    """Withhold the accompaniment of items `is_dropped` (B,): exact zeros, and not marked known.

    No other input looks like that (an unknown channel carries noise, a known silence its mark),
    so the network learns it as "no accompaniment": the null condition of classifier-free guidance.
    """
    keep = torch.ones_like(is_known)
    keep[:, ACCOMPANIMENT] = ~is_dropped[:, None]  # (B, S)
    return torch.where(keep, x_noisy, 0.0), is_known & keep


def loss_terms(
    denoised: Tensor,
    x: Tensor,
    sigma: Tensor,
    is_scored: Tensor,
    sigma_data: float,
    colour: NoiseColour | None = None,
    huber: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Sum the weighted squared error over the scored elements (B,), and count these (B,).

    λ(σ)·Σ (D − x)² with λ = (σ² + σ_data²)/(σ·σ_data)², EDM eq. 2 and table 1; nothing is
    clipped. sum/count is an item's loss: Σ sum / Σ count over any set of items, batches and ranks
    is the mean over unknown elements. is_scored (B, C, S) bool, as a rule ~is_known.

    Where the noise has a `colour` the vocal's error is whitened, coefficient by coefficient. Where
    a draft has said how loud each is to be, u = √λ·e counts 2δ²·(√(1 + u²/δ²) − 1) for δ = `huber`
    above 0: as u² below δ, in proportion above. Sounds that a draft does not have at all, up to
    forty times as loud as it says, would else be most of the loss; D then lies between the mean and
    the median of the posterior.
    """
    weight = (sigma.square() + sigma_data**2) / (sigma * sigma_data).square()
    error = torch.where(is_scored, (denoised - x).float(), 0.0)
    white = error if colour is None else error[:, ACCOMPANIMENT:]
    total = weight * white.square().sum((1, 2))
    if colour is not None:
        square = weight[:, None, None, None] * colour.whiten(error).square()
        if huber:
            ratio = square / huber**2
            bounded = 2.0 * huber**2 * ratio / (1.0 + (1.0 + ratio).sqrt())
            square = torch.where(colour.has_draft[:, None, None, None], bounded, square)
        total = total + square.sum((1, 2, 3))
    return total, is_scored.sum((1, 2))


def log_spectral_error(denoised: Tensor, x: Tensor) -> Tensor:
    """Compute the mean |difference| of log magnitudes of vocals (B, S): (B,), natural logs.

    At two resolutions, 1024 and 512 samples with hops of a quarter; what is below the floor of
    the log-spectral distance hardly counts.
    """
    errors = []
    with torch.autocast(x.device.type, enabled=False):
        for size in (1024, 512):
            window = torch.hann_window(size, device=x.device)
            floor = (SPECTRAL_FLOOR * size / 1024) ** 2
            logs = []
            for wav in (denoised.float(), x.float()):
                spectrum = torch.stft(wav, size, size // 4, window=window, return_complex=True)
                power = torch.view_as_real(spectrum).square().sum(-1)
                logs.append(0.5 * (power + floor).log())
            errors.append((logs[0] - logs[1]).abs().mean((1, 2)))
    return torch.stack(errors).mean(0)


def denoising_loss(
    denoiser: Denoiser,
    x: Tensor,
    sigma: Tensor,
    noise: Tensor,
    is_known: Tensor,
    context: Context | None = None,
    given: Tensor | None = None,
    is_dropped: Tensor | None = None,
    huber: float = 0.0,
    spectral: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Compute EDM's training loss as (sum (B,), count (B,)), see `loss_terms`.

    x, noise (B, 2, S); sigma (B,); is_known (B, 2, S) bool; `given` (B, 2, S) replaces x at known
    elements in the input (a corrupted prefix); `is_dropped` (B,) withholds the accompaniment;
    noise is white: where the context shapes it, it is shaped here, and the error is whitened: what
    the network is told decides the weights, so its optimum stays the posterior mean (but for
    `huber`, see `loss_terms`, and `spectral`). `spectral` weighs the `log_spectral_error` of what
    is unknown of vocals with a draft, times σ²/(σ² + σ_data²): where noise hides what a draft does
    not tell, a mean of many vocals is softer than each, and the right loudness of every band is
    worth more.
    """
    colour = denoiser.noise_law.colour(context, len(x))
    if colour is not None:
        noise = colour(noise)
    source = x if given is None else torch.where(is_known, given, x)
    x_noisy = add_noise(source, sigma, noise, is_known)
    is_scored = ~is_known
    if is_dropped is not None:
        x_noisy, is_known = drop_accompaniment(x_noisy, is_known, is_dropped)
        is_scored = is_scored.clone()
        is_scored[:, ACCOMPANIMENT] &= ~is_dropped[:, None]
    denoised = denoiser(x_noisy, sigma, is_known, context)
    sums, counts = loss_terms(denoised, x, sigma, is_scored, denoiser.sigma_data, colour, huber)
    if spectral and colour is not None:
        share = sigma.square() / (sigma.square() + denoiser.sigma_data**2) * colour.has_draft
        scored = is_scored[:, VOCAL]  # (B, S)
        made = torch.where(scored, denoised[:, VOCAL], x[:, VOCAL])
        error = log_spectral_error(made, x[:, VOCAL]) / scored.float().mean(1).clamp_min(0.01)
        sums = sums + spectral * share * error * counts
    return sums, counts


def sigma_bin_edges(p_mean: float, p_std: float, bins: int) -> Tensor:
    """Return the inner edges (bins − 1,) of equally likely bins of LogNormal(p_mean, p_std)."""
    u = torch.arange(1, bins, dtype=torch.float64) / bins
    return (p_mean + p_std * torch.special.ndtri(u)).exp().float()


def bin_medians(p_mean: float, p_std: float, bins: int) -> list[float]:
    """Return the medians of the same bins."""
    return sigma_bin_edges(p_mean, p_std, 2 * bins)[::2].tolist()


def bin_loss_terms(
    sums: Tensor, counts: Tensor, sigma: Tensor, edges: Tensor
) -> tuple[Tensor, Tensor]:
    """Add `loss_terms` of B items per bin of σ: (K,) and (K,); ranks and batches add too."""
    bins = torch.bucketize(sigma.to(sums.device), edges.to(sums.device))
    zeros = sums.new_zeros(len(edges) + 1)
    return (
        zeros.index_add(0, bins, sums.detach()),
        zeros.index_add(0, bins, counts.to(zeros.dtype)),
    )


# ---------------------------------------------------------------------------- schedules


def karras_sigmas(
    num_steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0
) -> list[float]:
    """Return σ_0 = σ_max > … > σ_{n−1} = σ_min, then an explicit 0 (EDM eq. 5): n + 1 levels.

    The preset `legacy` has ρ = 9, σ 1e-4…3.
    """
    if num_steps < 1 or not 0 < sigma_min < sigma_max:
        raise ValueError(
            f"num_steps = {num_steps}, sigma_min = {sigma_min}, sigma_max = {sigma_max}: "
            "expected at least one step and 0 < sigma_min < sigma_max"
        )
    ramp = np.linspace(1.0, 0.0, num_steps) if num_steps > 1 else np.ones(1)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return [float(sigma) for sigma in (low + ramp * (high - low)) ** rho] + [0.0]


def sampling_sigmas(config: Inpainting, has_draft: bool = False) -> list[float]:
    """Return the levels of an `Inpainting` section; a strength below 1 starts at a lower σ₀.

    `strength` is the share of the full schedule that is walked: a draft enters at its level, at
    least one below the first. With `draft_start` all of the levels lie below that one, where the
    walk begins with a draft (shallow diffusion, 2105.02446). ValueError for what cannot be walked.
    has_draft: is the network told a draft, for which `draft_steps` levels may do?
    """
    if not 0 < config.strength <= 1:
        raise ValueError(f"strength = {config.strength}: expected a share in (0, 1]")
    num_steps = config.num_steps
    if has_draft and config.draft_steps and config.strength == 1:
        num_steps = config.draft_steps
    highest = config.draft_start if has_draft and config.draft_start else config.sigma_max
    if highest != config.sigma_max and highest <= config.sigma_min:
        raise ValueError(
            f"draft_start = {config.draft_start}: expected a level above sigma_min = "
            f"{config.sigma_min}, or 0 to begin with noise"
        )
    sigmas = karras_sigmas(num_steps, config.sigma_min, highest, config.rho)
    if config.strength == 1:
        return sigmas
    if num_steps < 2:
        raise ValueError(
            f"strength = {config.strength} starts below the first of num_steps = {num_steps} "
            "levels: take two or more, or leave the strength at 1"
        )
    return sigmas[max(1, round((1.0 - config.strength) * (num_steps - 1))) :]


# ---------------------------------------------------------------------------- training data


class Masks(NamedTuple):
    """A batch of masks and the kind of each (an index into MASK_KINDS)."""

    is_known: Tensor  # (B, 2, S) bool
    kind: Tensor  # (B,) int64


def draw_masks(
    batch: int, length: int, config: Diffusion, generator: torch.Generator, step: int = 1
) -> Masks:
    """Draw masks of the training mixture, on the generator's device.

    They change at multiples of `step`: the bands of a frame of a mel are known together.

    vocal: accompaniment known, vocal not. prefix: and the vocal's beginning known (the L-shaped
    mask of sliding windows). gaps: all known but 1–3 stretches of the vocal. accompaniment: vocal
    known, accompaniment not. nothing: the joint model.
    """
    device = generator.device
    length //= step

    def uniform(*shape: int) -> Tensor:
        return torch.rand(batch, *shape, generator=generator, device=device)

    weights = torch.tensor([getattr(config, f"mask_{kind}") for kind in MASK_KINDS])
    edges = (weights.cumsum(0) / weights.sum())[:-1].to(device, non_blocking=True)
    kind = torch.bucketize(uniform(), edges)  # (B,)

    time = torch.arange(length, device=device)
    low, high = config.prefix_min, config.prefix_max
    prefix = (low + (high - low) * uniform(1)) * length
    num_gaps = 1 + (uniform(1) * 3).long().clamp_max(2)  # (B, 1)
    gap = config.gap_min + (config.gap_max - config.gap_min) * uniform(3)
    gap = (gap * length).clamp_min(1.0)  # (B, 3)
    start = uniform(3) * (length - gap)
    is_gap = (time >= start[..., None].floor()) & (time < (start + gap)[..., None])  # (B, 3, S)
    is_gap &= (torch.arange(3, device=device) < num_gaps)[..., None]

    def is_kind(name: str) -> Tensor:
        return (kind == MASK_KINDS.index(name))[:, None]  # (B, 1)

    vocal = (is_kind("prefix") & (time < prefix)) | (is_kind("gaps") & ~is_gap.any(1))
    vocal = vocal | is_kind("accompaniment")  # (B, S)
    accompaniment = ~(is_kind("accompaniment") | is_kind("nothing")).expand(-1, length)
    is_known = torch.stack([vocal, accompaniment], 1)  # (B, 2, S / step)
    return Masks(is_known.repeat_interleave(step, 2) if step > 1 else is_known, kind)


def vocal_unknown(x: Tensor) -> Tensor:
    """Mask all of the vocal: is_known (B, 2, S) of x (B, 2, S), the accompaniment known."""
    is_known = torch.zeros_like(x, dtype=torch.bool)
    is_known[:, ACCOMPANIMENT] = True
    return is_known


def corrupt_known(x: Tensor, masks: Masks, config: Diffusion, generator: torch.Generator) -> Tensor:
    """Corrupt some known vocals of prefixes and gaps of x (B, 2, S), as sampled ones will be.

    With probability `corrupt_probability` an item's known vocal gets a gain of up to
    ±`corrupt_gain` dB and white noise of a level up to `corrupt_sigma`, log-uniform over a decade
    and a half: what a sampler leaves behind. The accompaniment is always given clean.
    """
    u = torch.rand(3, x.shape[0], generator=generator, device=generator.device)
    noise = torch.randn(x[:, 0].shape, generator=generator, device=generator.device)
    u, noise = u.to(x), noise.to(x)
    part = (masks.kind == MASK_KINDS.index("prefix")) | (masks.kind == MASK_KINDS.index("gaps"))
    is_corrupted = part.to(x.device) & (u[0] < config.corrupt_probability)  # (B,)
    gain = 10.0 ** ((2.0 * u[1] - 1.0) * config.corrupt_gain / 20.0)
    sigma = config.corrupt_sigma * 10.0 ** (-1.5 * u[2])
    vocal = gain[:, None] * x[:, VOCAL] + sigma[:, None] * noise
    out = x.clone()
    out[:, VOCAL] = torch.where(
        is_corrupted[:, None] & masks.is_known[:, VOCAL], vocal, x[:, VOCAL]
    )
    return out


def draw_dropouts(
    batch: int, probabilities: Mapping[str, float], generator: torch.Generator
) -> dict[str, Tensor]:
    """Draw which items (B,) bool lose which part of the context, independently (2207.12598)."""
    u = torch.rand(len(probabilities), batch, generator=generator, device=generator.device)
    return {name: row < p for row, (name, p) in zip(u, probabilities.items(), strict=True)}


def blur(x: Tensor, width: Tensor) -> Tensor:
    """Smooth x (B, R, T) along T by a Gaussian of standard deviation (B,) in steps of T."""
    reach = 8
    offset = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (offset / width.to(x.dtype).clamp_min(1e-3)[:, None]).square())
    kernel = kernel / kernel.sum(1, keepdim=True)  # (B, 17)
    padded = F.pad(x, (reach, reach), mode="replicate").transpose(0, 1)  # (R, B, T + 16)
    return F.conv1d(padded, kernel[:, None], groups=x.shape[0]).transpose(0, 1)  # (B, R, T)


def degrade_mel(mel: Tensor, config: Diffusion, generator: torch.Generator) -> Tensor:
    """Degrade a true vocal's mel to resemble a draft's, (B, T, M) → (B, T, M).

    Standardised log mel in and out, nothing moves in time. Per item, with a random severity:
    smoothing over time and over bands (drafts are over-smoothed: frame differences about 0.7 of
    the truth's), a level error, noise, a few repeated frames and a few bands at the mean.
    """
    batch, frames, bands = mel.shape

    def uniform(*shape: int) -> Tensor:
        u = torch.rand(batch, *shape, generator=generator, device=generator.device)
        return u.to(mel)

    out = blur(mel.transpose(1, 2), config.degrade_blur_frames * uniform()).transpose(1, 2)
    out = blur(out, config.degrade_blur_bands * uniform())
    out = out + config.degrade_level * (2.0 * uniform(1, 1) - 1.0)
    noise = torch.randn(mel.shape, generator=generator, device=generator.device).to(mel)
    out = out + config.degrade_noise * uniform(1, 1) * noise
    is_repeated = uniform(frames) < config.degrade_drop * uniform(1)
    is_repeated[:, 0] = False
    frame = torch.arange(frames, device=mel.device).expand(batch, -1)
    source = torch.where(is_repeated, 0, frame).cummax(1).values  # last frame that was kept
    out = out.gather(1, source[..., None].expand(-1, -1, bands))
    is_lost = uniform(1, bands) < config.degrade_drop * uniform(1, 1)
    return torch.where(is_lost, 0.0, out)
