"""A problem with a known answer: jointly Gaussian vocal and accompaniment, the exact denoiser.

Vocal and accompaniment are `size` samples each, x ~ N(0, Σ) with

    Σ = σ_data²·[[1, c], [c, 1]] ⊗ A,   A_ij = ρ^|i−j|   (σ_data 0.1, c 0.6, ρ 0.7, size 8),

two correlated AR(1) signals: a spectrum of 15 dB, and a vocal that its accompaniment determines in
part (posterior variance 1 − c² = 0.64 of the prior). An orthogonal change of basis in time leaves
white noise alone, so only A's spectrum matters: sizes 8, 16 and 32 give the same errors. The
posterior mean of x given x̃ = x + diag(s)·L·n is Σ(Σ + diag(s)·LLᵀ·diag(s))⁻¹x̃ for any noise
levels per element, s = 0 where known, and any shape L of the noise, I if it is white; so the joint
and the conditional model are both at hand, exactly.

A sampler's error is the squared Wasserstein-2 distance between the vocals that it makes and the
posterior p(vocal | known), averaged over known signals and divided by the posterior's trace. With
this denoiser most samplers are *linear* in their noise and in the known signal: `exact_error` feeds
unit vectors through the very code that is used on audio and has mean and covariance of the
result without any sampling noise. Gradient methods scale themselves per item, which is not linear:
`monte_carlo_error` estimates them from draws (its bias is about 2·size/draws).

`python evaluate.py samplers` prints the table and draws the curves (some seconds).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from inpainter.diffusion import karras_sigmas
from inpainter.sampling import Model, inpaint

SIGMA_DATA = 0.1


def levels(num_steps: int) -> list[float]:
    """Return the default schedule."""
    return karras_sigmas(num_steps, 3e-3, 3.0, 7.0)


class GaussianProblem:
    """Vocal and accompaniment (2, size); `is_known` is one mask for all, default: vocal unknown.

    `shape` is L (size, size) of the vocal's noise, default: white; that of the accompaniment is.
    """

    def __init__(
        self,
        size: int = 8,
        rho: float = 0.7,
        cross: float = 0.6,
        is_known: Tensor | None = None,
        shape: Tensor | None = None,
    ) -> None:
        time = torch.arange(size, dtype=torch.float64)
        channels = torch.tensor([[1.0, cross], [cross, 1.0]], dtype=torch.float64)
        smooth = rho ** (time[:, None] - time).abs()
        self.size = size
        self.covariance = SIGMA_DATA**2 * torch.kron(channels, smooth)
        if is_known is None:
            is_known = torch.zeros(2, size, dtype=torch.bool)
            is_known[1] = True
        self.is_known = is_known
        self.known = is_known.flatten()
        self.unknown = ~self.known
        known_covariance = self.covariance[self.known][:, self.known]
        self.root = torch.linalg.cholesky(known_covariance)
        self.gain = torch.linalg.solve(
            known_covariance, self.covariance[self.known][:, self.unknown]
        ).T  # posterior mean = gain @ known
        self.posterior = (
            self.covariance[self.unknown][:, self.unknown]
            - self.gain @ self.covariance[self.known][:, self.unknown]
        )
        self.cache: dict[tuple[float, bool], Tensor] = {}
        self.shape = torch.eye(2 * size, dtype=torch.float64)
        if shape is not None:
            self.shape[:size, :size] = shape

    def colour(self, noise: Tensor) -> Tensor:
        """Colour white noise: L·n (B, 2, size)."""
        return (noise.flatten(1) @ self.shape.T).view_as(noise)

    def noise_covariance(self, x: Tensor) -> Tensor:
        """Apply L·Lᵀ to x (B, 2, size)."""
        return self.colour((x.flatten(1) @ self.shape).view_as(x))

    def model(self, x: Tensor, sigma: float, is_known: Tensor | None) -> Tensor:
        """Compute E[x | x̃] exactly: conditional with a mask, joint without."""
        key = (sigma, is_known is None)
        if key not in self.cache:
            s = torch.full((2 * self.size,), sigma, dtype=torch.float64)
            if is_known is not None:
                s = torch.where(self.known, 0.0, s)
            root = s[:, None] * self.shape
            noisy = self.covariance + root @ root.T
            self.cache[key] = torch.linalg.solve(noisy, self.covariance)
        return (x.flatten(1) @ self.cache[key]).view_as(x)

    def error(self, mean: Tensor, covariance: Tensor) -> float:
        """Average W2²/trace over known signals; mean (K, U): responses to the columns of `root`."""
        values, vectors = torch.linalg.eigh(self.posterior)
        root = vectors @ torch.diag(values.clamp_min(0).sqrt()) @ vectors.T
        both = torch.linalg.eigvalsh(root @ covariance @ root).clamp_min(0).sqrt().sum()
        distance = (mean - (self.gain @ self.root).T).square().sum()
        distance = distance + covariance.trace() + self.posterior.trace() - 2 * both
        return float(distance / self.posterior.trace())

    def exact_error(
        self, sigmas: list[float], model: Model | None = None, **options
    ) -> tuple[int, float]:
        """Return (network evaluations, error) of a sampler that is linear in noise and signal."""
        model = model or self.model
        width, num_known, draws = 2 * self.size, int(self.known.sum()), 0

        def silence() -> Tensor:
            nonlocal draws
            draws += 1
            return torch.zeros(1, 2, self.size, dtype=torch.float64)

        result = inpaint(model, silence(), self.is_known[None], sigmas, silence, **options)
        draws -= 1
        batch = draws * width + num_known
        known = torch.zeros(batch, width, dtype=torch.float64)
        known[draws * width :, self.known] = self.root.T
        rows = iter(range(0, draws * width, width))

        def unit() -> Tensor:
            out = torch.zeros(batch, width, dtype=torch.float64)
            out[(row := next(rows)) : row + width] = torch.eye(width, dtype=torch.float64)
            return self.colour(out.view(batch, 2, self.size))

        mask = self.is_known.expand(batch, -1, -1)
        x = inpaint(model, known.view(batch, 2, self.size), mask, sigmas, unit, **options).x
        x = x.flatten(1)[:, self.unknown]
        response = x[: draws * width]
        return result.evaluations, self.error(x[draws * width :], response.T @ response)

    def monte_carlo_error(
        self, sigmas: list[float], draws: int = 4096, **options
    ) -> tuple[int, float]:
        """Estimate (network evaluations, error) from draws, each with its own accompaniment."""
        generator = torch.Generator().manual_seed(0)

        def normal(*shape: int) -> Tensor:
            return torch.randn(draws, *shape, generator=generator, dtype=torch.float64)

        source = normal(int(self.known.sum()))
        known = torch.zeros(draws, 2 * self.size, dtype=torch.float64)
        known[:, self.known] = source @ self.root.T
        x, evaluations = inpaint(
            self.model,
            known.view(draws, 2, self.size),
            self.is_known.expand(draws, -1, -1),
            sigmas,
            lambda: self.colour(normal(2, self.size)),
            covariance=self.noise_covariance,
            **options,
        )
        x = x.flatten(1)[:, self.unknown]
        mean = torch.linalg.lstsq(source, x).solution
        rest = x - source @ mean
        covariance = rest.T @ rest / (draws - source.shape[1])
        return evaluations, self.error(mean, covariance)


# What a README may show: (title, method, step, steps, the most that the error may be).
TABLE: tuple[tuple[str, str, str, int, float], ...] = (
    ("conditional, Euler, 20", "conditional", "euler", 20, 0.012),
    ("conditional, Heun, 20", "conditional", "heun", 20, 0.0035),
    ("conditional, DPM++ 2M, 6", "conditional", "dpmpp_2m", 6, 0.0096),
    ("conditional, DPM++ 2M, 20", "conditional", "dpmpp_2m", 20, 0.0035),
    ("conditional, DPM++ 2M SDE, 40", "conditional", "dpmpp_2m_sde", 40, 0.0016),
    ("conditional, 2nd-order ancestral, 20", "conditional", "dpm2_ancestral", 20, 0.0021),
    ("replacement, 2nd-order ancestral, 40", "replacement", "dpm2_ancestral", 40, 0.15),
    ("RePaint, 2nd-order ancestral, 40 × 5", "repaint", "dpm2_ancestral", 40, 0.018),
    ("RePaint, DPM++ 2M SDE, 40 × 5", "repaint", "dpmpp_2m_sde", 40, 0.018),
    ("MCG, 2nd-order ancestral, 40", "mcg", "dpm2_ancestral", 40, 0.01),
    ("MCG, 2nd-order ancestral, 200", "mcg", "dpm2_ancestral", 200, 0.01),
    ("guided, DPM++ 2M SDE, 40", "guided", "dpmpp_2m_sde", 40, 0.01),
)


def measure(problem: GaussianProblem, method: str, step: str, num_steps: int) -> tuple[int, float]:
    """Return (network evaluations, error) of a row of TABLE, exactly where that is possible."""
    is_linear = method not in ("mcg", "guided")
    run: Callable = problem.exact_error if is_linear else problem.monte_carlo_error
    return run(levels(num_steps), method=method, step=step)


# What the picture shows: {title: (method, step, options, the steps that are tried)}.
CURVES: dict[str, tuple[str, str, dict[str, Any], tuple[int, ...]]] = {
    "conditional, DPM++ 2M": ("conditional", "dpmpp_2m", {}, (4, 6, 10, 20, 40, 80)),
    "conditional, DPM++ 2M SDE": ("conditional", "dpmpp_2m_sde", {}, (6, 10, 20, 40, 80, 160)),
    "conditional, Heun": ("conditional", "heun", {}, (3, 5, 10, 20, 40)),
    "conditional, Euler": ("conditional", "euler", {}, (6, 10, 20, 40, 80, 160)),
    "conditional, 2nd-order ancestral": (
        "conditional",
        "dpm2_ancestral",
        {},
        (5, 10, 20, 40, 80),
    ),
    "replacement": ("replacement", "dpm2_ancestral", {}, (10, 20, 40, 80)),
    "RePaint, 5 resamplings": (
        "repaint",
        "dpm2_ancestral",
        {"num_resamples": 5},
        (5, 10, 20, 40),
    ),
}


def error_curves() -> dict[str, list[tuple[int, float]]]:
    """Return [(network evaluations, error), ...] of each curve, exactly."""
    problem = GaussianProblem()
    return {
        title: [
            problem.exact_error(levels(steps), method=method, step=step, **options)
            for steps in tried
        ]
        for title, (method, step, options, tried) in CURVES.items()
    }


def markdown_table() -> str:
    """Measure TABLE and return it in markdown."""
    lines = ["| method | network evaluations | error |", "|---|---|---|"]
    for title, method, step, num_steps, _ in TABLE:
        evaluations, error = measure(GaussianProblem(), method, step, num_steps)
        lines.append(f"| {title} | {evaluations} | {error:.4f} |")
    return "\n".join(lines)
