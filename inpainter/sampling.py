"""From noise to a vocal: steps, inpainting methods and guidance around one contract.

    denoise(x (B, C, S), sigma) -> x0 (B, C, S)             all that a step sees
    model(x, sigma, is_known or None) -> x0                 all that a method sees

A step takes the state from one noise level to the next (registry STEPS), a method wraps any step
so that the known samples are respected (registry METHODS), `inpaint` walks the levels down to an
explicit 0. Notation of EDM (2206.00364) and DPM-Solver++ (2211.01095); λ = −ln σ, h = λ' − λ.
Shapes: B batch, C channels (vocal, accompaniment), S samples. Levels σ are plain floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
from torch import Tensor

from inpainter.diffusion import ACCOMPANIMENT, VOCAL, Denoiser, drop_accompaniment, sampling_sigmas
from utils.seeds import torch_generator

if TYPE_CHECKING:
    from hyperparams import Inpainting
    from inpainter.context import Context
    from inpainter.windows import Generate, Job

Denoise = Callable[[Tensor, float], Tensor]
Model = Callable[[Tensor, float, "Tensor | None"], Tensor]
Noise = Callable[[], Tensor]
T = TypeVar("T")


class Past(NamedTuple):
    """Memory of a multistep method: its last evaluation."""

    denoised: Tensor  # (B, C, S)
    sigma: float


State = Past | None
Step = Callable[[Denoise, Tensor, float, float, Noise, State], tuple[Tensor, State]]
Transition = Callable[[Tensor, float, float, State], tuple[Tensor, State]]


# ---------------------------------------------------------------------------- randomness


class ItemNoise:
    """Draw standard normal noise (B, C, S), each item from its own generator."""

    def __init__(self, generators: Sequence[torch.Generator], like: Tensor) -> None:
        if len(generators) != like.shape[0]:
            raise ValueError(f"{len(generators)} generators for a batch of {like.shape[0]} items")
        self.generators = list(generators)
        self.shape, self.dtype, self.device = like.shape[1:], like.dtype, like.device

    def __call__(self) -> Tensor:
        """Draw anew."""
        drawn = [
            torch.randn(self.shape, generator=g, device=g.device, dtype=self.dtype)
            for g in self.generators
        ]
        return torch.stack(drawn).to(self.device)  # (B, C, S)


# ---------------------------------------------------------------------------- steps


def euler(
    denoise: Denoise, x: Tensor, sigma: float, sigma_next: float, noise: Noise, state: State
) -> tuple[Tensor, State]:
    """Take an Euler step of dx/dσ = (x − D)/σ (EDM eq. 1): first order, one evaluation."""
    slope = (x - denoise(x, sigma)) / sigma
    return x + (sigma_next - sigma) * slope, None


def heun(
    denoise: Denoise, x: Tensor, sigma: float, sigma_next: float, noise: Noise, state: State
) -> tuple[Tensor, State]:
    """Take Heun's step (EDM algorithm 1 without churn): second order, two evaluations."""
    slope = (x - denoise(x, sigma)) / sigma
    x_next = x + (sigma_next - sigma) * slope
    slope_next = (x_next - denoise(x_next, sigma_next)) / sigma_next
    return x + (sigma_next - sigma) * 0.5 * (slope + slope_next), None


def ancestral_levels(sigma: float, sigma_next: float) -> tuple[float, float]:
    """Return (σ_down, σ_up): go to σ_down, add noise σ_up, be at σ_next (2011.13456, app. F)."""
    sigma_up = sigma_next * math.sqrt(max(0.0, 1.0 - (sigma_next / sigma) ** 2))
    return sigma_next**2 / sigma, sigma_up


def dpm2_ancestral(
    denoise: Denoise, x: Tensor, sigma: float, sigma_next: float, noise: Noise, state: State
) -> tuple[Tensor, State]:
    """Take DPM-Solver-2 (2206.00927) to σ_down, add noise: second order, two evaluations."""
    sigma_down, sigma_up = ancestral_levels(sigma, sigma_next)
    sigma_middle = math.sqrt(sigma * sigma_down)  # the middle of λ
    slope = (x - denoise(x, sigma)) / sigma
    x_middle = x + (sigma_middle - sigma) * slope
    slope_middle = (x_middle - denoise(x_middle, sigma_middle)) / sigma_middle
    return x + (sigma_down - sigma) * slope_middle + sigma_up * noise(), None


def extrapolated(denoised: Tensor, sigma: float, h: float, state: State) -> Tensor:
    """Extrapolate D to the middle of the coming step h through this and the last evaluation."""
    if state is None:
        return denoised
    h_last = math.log(state.sigma / sigma)
    return denoised + (0.5 * h / h_last) * (denoised - state.denoised)


def dpmpp_2m(
    denoise: Denoise, x: Tensor, sigma: float, sigma_next: float, noise: Noise, state: State
) -> tuple[Tensor, State]:
    """Take a DPM-Solver++(2M) step (2211.01095, algorithm 2): second order, one evaluation."""
    denoised = denoise(x, sigma)
    h = math.log(sigma / sigma_next)
    x_next = math.exp(-h) * x - math.expm1(-h) * extrapolated(denoised, sigma, h, state)
    return x_next, Past(denoised, sigma)


def dpmpp_2m_sde(
    denoise: Denoise, x: Tensor, sigma: float, sigma_next: float, noise: Noise, state: State
) -> tuple[Tensor, State]:
    """Take an SDE-DPM-Solver++(2M) step (2211.01095, eq. 19): one evaluation, fresh noise."""
    denoised = denoise(x, sigma)
    h = math.log(sigma / sigma_next)
    x_next = math.exp(-2 * h) * x - math.expm1(-2 * h) * extrapolated(denoised, sigma, h, state)
    return x_next + sigma_next * math.sqrt(-math.expm1(-2 * h)) * noise(), Past(denoised, sigma)


STEPS: dict[str, Step] = {
    "euler": euler,
    "heun": heun,
    "dpm2_ancestral": dpm2_ancestral,
    "dpmpp_2m": dpmpp_2m,
    "dpmpp_2m_sde": dpmpp_2m_sde,
}


def advance(
    step: Step,
    denoise: Denoise,
    x: Tensor,
    sigma: float,
    sigma_next: float,
    noise: Noise,
    state: State,
) -> tuple[Tensor, State]:
    """Take `step`, or its limit at σ_next = 0, which is the denoised signal for all of them."""
    if sigma_next == 0.0:
        return denoise(x, sigma), None
    return step(denoise, x, sigma, sigma_next, noise, state)


# ---------------------------------------------------------------------------- methods


@dataclass(frozen=True)
class Task:
    """Inputs of an inpainting method."""

    model: Model
    known: Tensor  # (B, C, S); only its known elements are read
    is_known: Tensor  # (B, C, S) bool
    noise: Noise
    num_resamples: int = 5
    reconstruction_weight: float = 1.0
    covariance: Callable[[Tensor], Tensor] | None = None  # L·Lᵀ of the noise, None: white

    def impose(self, x: Tensor, sigma: float) -> Tensor:
        """Replace the known elements of x by known + σ·n, n drawn for this call."""
        if sigma == 0.0:
            return torch.where(self.is_known, self.known, x)
        return torch.where(self.is_known, self.known + sigma * self.noise(), x)

    def joint(self, x: Tensor, sigma: float) -> Tensor:
        """Evaluate the model with nothing known: every element at the level σ."""
        return self.model(x, sigma, None)

    def reconstruct(self, x: Tensor, sigma: float) -> Tensor:
        """Move D towards the known samples: D + w·a·Jᵀr, r = known − D, J = ∂D/∂x.

        Reconstruction guidance (2204.03458, eq. 16). σ²J is the posterior covariance (σ²JLLᵀ, where
        the noise has the shape L), so the exact correction solves J a = r on the known part;
        a = ⟨r, Jr⟩/⟨Jr, Jr⟩ is the best single step towards it, per item.
        It belongs to D, not to the step: more steps do not make it larger.
        """
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            denoised = self.joint(x, sigma)
            residual = torch.where(self.is_known, self.known - denoised, 0.0).detach()
            (gradient,) = torch.autograd.grad((denoised * residual).sum(), x)
        if self.covariance is not None:
            gradient = self.covariance(gradient)
        seen = torch.where(self.is_known, gradient, 0.0)
        dims = tuple(range(1, x.ndim))
        power = seen.square().sum(dims, keepdim=True)
        scale = (residual * seen).sum(dims, keepdim=True) / power.clamp_min(1e-30)
        return denoised.detach() + self.reconstruction_weight * scale * gradient


def conditional(step: Step, task: Task) -> Transition:
    """Condition the model on what is known (level 0 there), as Palette (2111.05826)."""

    def denoise(x: Tensor, sigma: float) -> Tensor:
        return task.model(task.impose(x, 0.0), sigma, task.is_known)

    def transition(x: Tensor, sigma: float, sigma_next: float, state: State):
        return advance(step, denoise, x, sigma, sigma_next, task.noise, state)

    return transition


def replacement(step: Step, task: Task) -> Transition:
    """Renew known elements of the joint model at the state's level (2011.13456, app. I.2)."""

    def transition(x: Tensor, sigma: float, sigma_next: float, state: State):
        x, state = advance(step, task.joint, x, sigma, sigma_next, task.noise, state)
        return task.impose(x, sigma_next), state

    return transition


def repaint(step: Step, task: Task) -> Transition:
    """Repeat each replacement step `num_resamples` times with noise between (2201.09865)."""
    once = replacement(step, task)

    def transition(x: Tensor, sigma: float, sigma_next: float, state: State):
        out, state_next = once(x, sigma, sigma_next, state)
        for _ in range(task.num_resamples - 1 if sigma_next > 0 else 0):
            back = math.sqrt(sigma**2 - sigma_next**2)
            # A multistep memory is of another path now: start again.
            out, state_next = once(out + back * task.noise(), sigma, sigma_next, None)
        return out, state_next

    return transition


def guided(step: Step, task: Task) -> Transition:
    """Guide every evaluation of the joint model towards the known samples by its gradient."""

    def transition(x: Tensor, sigma: float, sigma_next: float, state: State):
        return advance(step, task.reconstruct, x, sigma, sigma_next, task.noise, state)

    return transition


def mcg(step: Step, task: Task) -> Transition:
    """Guide by the manifold-constrained gradient (2206.00941, algorithm 1), then replace."""

    def transition(x: Tensor, sigma: float, sigma_next: float, state: State):
        x, state = advance(step, task.reconstruct, x, sigma, sigma_next, task.noise, state)
        return task.impose(x, sigma_next), state

    return transition


METHODS: dict[str, Callable[[Step, Task], Transition]] = {
    "conditional": conditional,
    "replacement": replacement,
    "repaint": repaint,
    "mcg": mcg,
    "guided": guided,
}


# ---------------------------------------------------------------------------- guidance


def repeat_context(context: Context, times: int, null_last: bool) -> Context:
    """Repeat the batch `times`; with `null_last` the last copy sees no frames of the context.

    The waveform of a draft stays: it shapes the noise of all copies alike.
    """
    repeated = context.map(lambda part: torch.cat([part] * times))
    if not null_last:
        return repeated
    is_dropped = dict(repeated.is_dropped)
    for name, part in repeated.frames().items():
        is_null = torch.arange(len(part), device=part.device) >= len(part) - len(part) // times
        is_dropped[name] = is_null | is_dropped[name] if name in is_dropped else is_null
    return replace(repeated, is_dropped=is_dropped)


def dynamic_threshold(x0: Tensor, quantile: float) -> Tensor:
    """Squeeze what exceeds [−1, 1] back into it, per item (Imagen, 2205.11487, 2.3)."""
    limits = [torch.quantile(item.abs().flatten().float(), quantile) for item in x0]
    limit = torch.stack(limits).clamp_min(1.0).to(x0.dtype)[:, None, None]  # (B, 1, 1)
    return x0.clamp(-limit, limit) / limit


class GuidedModel:
    """A denoiser with its context bound, and classifier-free guidance (2207.12598) if asked for.

    D = D(a, l) + (w_a − 1)·(D(a, l) − D(∅, l)) + (w_l − 1)·(D(a, l) − D(a, ∅)) for accompaniment a
    and lyrics l, the frames of `context`. A weight of 1 costs nothing; another adds an evaluation,
    in the same batched forward. The waveform of a draft is told to all evaluations.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        context: Context | None = None,
        accompaniment_guidance: float = 1.0,
        lyrics_guidance: float = 1.0,
        threshold: float = 0.0,
    ) -> None:
        self.denoiser = denoiser
        self.context = context
        self.accompaniment_guidance = accompaniment_guidance
        self.lyrics_guidance = lyrics_guidance
        self.threshold = threshold

    @property
    def weights(self) -> tuple[float, ...]:
        """Return the weights of the null evaluations, in their order."""
        both = (self.accompaniment_guidance, self.lyrics_guidance)
        return tuple(weight - 1.0 for weight in both if weight != 1.0)

    @property
    def evaluations_per_call(self) -> int:
        """Return the network evaluations that one call costs an item."""
        return 1 + len(self.weights)

    def __call__(self, x: Tensor, sigma: float, is_known: Tensor | None) -> Tensor:
        """x0 (B, C, S) of x (B, C, S) at the level σ; known elements come back as they are."""
        batch, times = x.shape[0], self.evaluations_per_call
        mask = torch.zeros_like(x, dtype=torch.bool) if is_known is None else is_known
        is_null = torch.zeros(times, dtype=torch.bool, device=x.device)  # without accompaniment
        if self.accompaniment_guidance != 1.0:
            assert is_known is not None, "check_request refuses this guidance of a joint model"
            is_null[1] = True
        context = self.context
        if context is not None and times > 1:
            context = repeat_context(context, times, null_last=self.lyrics_guidance != 1.0)
        rows, masks = drop_accompaniment(
            x.repeat(times, 1, 1), mask.repeat(times, 1, 1), is_null.repeat_interleave(batch)
        )
        levels = torch.full((times * batch,), sigma, dtype=x.dtype, device=x.device)
        full, *nulls = self.denoiser(rows, levels, masks, context).chunk(times)
        denoised = full
        for weight, null in zip(self.weights, nulls, strict=True):
            denoised = denoised + weight * (full - null)
        if self.threshold:
            denoised = dynamic_threshold(denoised, self.threshold)
        return torch.where(mask, x, denoised)


# ---------------------------------------------------------------------------- the loop


class Inpainted(NamedTuple):
    """A batch of results and what each item cost."""

    x: Tensor  # (B, C, S)
    evaluations: int  # network evaluations (NFE), guidance included


def registered(kind: str, name: str, registry: Mapping[str, T]) -> T:
    """Look up a step or method; ValueError naming those that there are."""
    if name not in registry:
        raise ValueError(f"inpainting.{kind} = {name!r} is not one of {', '.join(registry)}")
    return registry[name]


def check_request(
    config: Inpainting,
    sees_mask: bool,
    takes_frames: bool,
    has_frames: bool,
    has_draft: bool,
    network: str = "this network",
) -> None:
    """Refuse what a network cannot be asked for: ValueError, before any work.

    sees_mask, takes_frames: what the network reads (unet.mask_input, unet.context_width);
    has_frames: frame-level conditions are given (lyrics, or a draft's mel); has_draft: there is a
    waveform that a strength below 1 can start from; network: its name in messages.
    """
    registered("method", config.method, METHODS)
    registered("step", config.step, STEPS)
    for with_draft in (False, True):
        sampling_sigmas(config, with_draft)
    if config.accompaniment_guidance != 1 and config.method != "conditional":
        raise ValueError(
            f"accompaniment_guidance = {config.accompaniment_guidance} needs a model conditioned "
            f"on the accompaniment, and method = {config.method} is not: take method = "
            "conditional, or set the weight to 1"
        )
    if config.lyrics_guidance != 1 and not (has_frames and takes_frames):
        raise ValueError(
            f"lyrics_guidance = {config.lyrics_guidance}, but there is no frame-level condition to "
            "guide with: give --lyrics and an inpainter that takes them, or set the weight to 1"
        )
    if config.method == "conditional" and not sees_mask:
        raise ValueError(
            f"{network} sees no mask (unet.mask_input), which method = conditional needs: take "
            "--method repaint, mcg, guided or replacement"
        )
    if config.strength < 1 and not has_draft:
        raise ValueError(
            f"strength = {config.strength} starts from a draft, and there is none: give --lyrics, "
            "or a --vocal to be changed, or leave the strength at 1"
        )
    if has_frames and not takes_frames and config.strength == 1:
        raise ValueError(
            f"{network} takes no context (unet.context_width = 0), so lyrics cannot steer it: "
            "start from their draft with --strength below 1, or leave --lyrics out"
        )


def check_task(known: Tensor, is_known: Tensor, sigmas: Sequence[float]) -> None:
    """Raise ValueError for masks, levels or signals that no method could honour."""
    if known.ndim != 3 or is_known.shape != known.shape or is_known.dtype != torch.bool:
        raise ValueError(
            f"known {tuple(known.shape)} and is_known {tuple(is_known.shape)} of "
            f"{is_known.dtype}: expected (B, C, S) both, the mask torch.bool"
        )
    if not torch.isfinite(known[is_known]).all():
        raise ValueError("known samples hold NaN or infinity: expected finite audio")
    if len(sigmas) < 2 or sigmas[-1] != 0 or any(a <= b for a, b in pairwise(sigmas)):
        raise ValueError(
            f"sigmas = {list(sigmas)}: expected strictly falling levels that end in an explicit 0"
        )


@torch.no_grad()
def inpaint(
    model: Model,
    known: Tensor,
    is_known: Tensor,
    sigmas: Sequence[float],
    noise: Noise,
    step: str = "dpmpp_2m",
    method: str = "conditional",
    draft: Tensor | None = None,
    num_resamples: int = 5,
    reconstruction_weight: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
    covariance: Callable[[Tensor], Tensor] | None = None,
) -> Inpainted:
    """Fill the unknown elements of `known` (B, C, S); the known come back bit by bit.

    is_known (B, C, S) bool; sigmas fall to an explicit 0; `draft` (B, C, S) starts the walk at
    draft + σ₀·n instead of pure noise; `progress(done, total)` is called after every level. Noise
    that is not white comes with its `covariance`, x → L·Lᵀ·x.
    """
    take, wrap = registered("step", step, STEPS), registered("method", method, METHODS)
    check_task(known, is_known, sigmas)
    calls = 0

    def counted(x: Tensor, sigma: float, mask: Tensor | None) -> Tensor:
        nonlocal calls
        calls += 1
        return model(x, sigma, mask)

    task = Task(counted, known, is_known, noise, num_resamples, reconstruction_weight, covariance)
    transition = wrap(take, task)
    mean = torch.zeros_like(known) if draft is None else draft
    x, state = torch.where(is_known, known, mean) + sigmas[0] * noise(), None
    for done, (sigma, sigma_next) in enumerate(pairwise(sigmas), start=1):
        x, state = transition(x, sigma, sigma_next, state)
        if progress is not None:
            progress(done, len(sigmas) - 1)
    return Inpainted(task.impose(x, 0.0), calls * getattr(model, "evaluations_per_call", 1))


def sample(
    denoiser: Denoiser,
    known: Tensor,
    is_known: Tensor,
    config: Inpainting,
    generators: Sequence[torch.Generator],
    context: Context | None = None,
    draft: Tensor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Inpainted:
    """Run `inpaint` as an `Inpainting` section says, with one generator per item.

    draft (B, C, S): what a strength below 1, or a `draft_start`, begins with. ValueError for what
    `check_request` refuses.
    """
    has_frames = context is not None and bool(context.frames())
    check_request(config, denoiser.mask_input, True, has_frames, draft is not None)
    model = GuidedModel(
        denoiser,
        context,
        config.accompaniment_guidance,
        config.lyrics_guidance,
        config.dynamic_threshold,
    )
    noise, colour = ItemNoise(generators, known), denoiser.noise_law.colour(context, len(known))
    starts_from_draft = draft is not None and config.draft_start > 0
    has_draft = starts_from_draft or (context is not None and context.wav is not None)
    draw: Noise = noise if colour is None else lambda: colour(noise())
    temperature = config.draft_temperature if starts_from_draft else config.temperature
    made = inpaint(
        model,
        known,
        is_known,
        sampling_sigmas(config, has_draft),
        draw if temperature == 1 else lambda: temperature * draw(),
        config.step,
        config.method,
        draft if config.strength < 1 or starts_from_draft else None,
        config.num_resamples,
        config.reconstruction_weight,
        progress,
        None if colour is None else colour.covariance,
    )
    if config.draft_share and context is not None and context.wav is not None:
        mixed = blend(made.x, is_known, context.wav, context.is_dropped, config.draft_share)
        return made._replace(x=mixed)
    return made


def blend(
    x: Tensor, is_known: Tensor, draft: Tensor, is_dropped: Mapping[str, Tensor], share: float
) -> Tensor:
    """Mix a share of the draft into the unknown vocals of x (B, 2, S).

    draft (B, S): the waveforms; is_dropped["wav"] (B,): items without one.
    The network takes over the phases of a draft, so the two add up like two estimates of one
    signal: what only one of them has, an error of either, is halved at a share of one half.
    """
    shares = torch.full_like(draft, share)  # (B, S)
    if "wav" in is_dropped:
        shares = torch.where(is_dropped["wav"][:, None], 0.0, shares)
    shares = torch.where(is_known[:, VOCAL], 0.0, shares)
    vocal = torch.lerp(x[:, VOCAL], draft.to(x.dtype), shares)
    return torch.cat([vocal[:, None], x[:, ACCOMPANIMENT:]], dim=1)


def window_sampler(
    denoiser: Denoiser,
    config: Inpainting,
    seed: int,
    context_of: Callable[[Sequence[Job]], Context] | None = None,
    draft_of: Callable[[Sequence[Job]], Tensor] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Generate:
    """Make `sample` generate windows of a song (inpainter/windows.py), a batch at a time.

    A window draws from (seed, its start), so a song sounds the same for every batch size;
    `context_of(jobs)` and `draft_of(jobs) -> (B, C, S)` give what belongs to the windows.
    """
    device = next(denoiser.parameters()).device

    def generate(jobs: Sequence[Job]) -> Sequence[Tensor]:
        context = context_of(jobs) if context_of else None
        draft = draft_of(jobs) if draft_of else None
        made = sample(
            denoiser,
            torch.stack([job.known for job in jobs]).to(device),
            torch.stack([job.is_known for job in jobs]).to(device),
            config,
            [torch_generator(seed, job.window.start) for job in jobs],
            context.map(lambda part: part.to(device)) if context else None,
            draft if draft is None else draft.to(device),
            progress,
        ).x.to(jobs[0].known.device)
        return list(made)

    return generate
