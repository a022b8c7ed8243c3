"""Samplers and inpainting methods against a problem with a known answer; the old faults stay out.

Each fault of the earlier samplers that could return stands here as a faulty variant, and the number
that guards against it is shown to tell the two apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from evaluation.gaussian_posterior import TABLE, GaussianProblem, levels, measure
from hyperparams import Inpainting
from inpainter import sampling
from inpainter.context import Context
from inpainter.diffusion import Denoiser, karras_sigmas
from inpainter.sampling import (
    METHODS,
    STEPS,
    GuidedModel,
    ItemNoise,
    Task,
    blend,
    dynamic_threshold,
    inpaint,
    sample,
    window_sampler,
)
from inpainter.windows import inpaint_song, plan_windows, read_from
from utils.seeds import torch_generator

SIGMA_DATA = 0.1


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def problem() -> GaussianProblem:
    return GaussianProblem()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class TinyNetwork(nn.Module):
    """A fixed random convolution that hears its context: enough to see who influences whom."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.3 * normal(2, 4, 9))

    def forward(self, x: Tensor, c_noise: Tensor, context: Context | None) -> Tensor:
        out = nn.functional.conv1d(x, self.weight, padding=4) + 0.1 * c_noise[:, None, None]
        if context is not None and context.mel is not None:
            said = context.mel.mean((1, 2))
            if "mel" in context.is_dropped:
                said = torch.where(context.is_dropped["mel"], 0.0, said)
            out = out + said[:, None, None]
        return torch.tanh(out)


def tiny_task(batch: int = 3, samples: int = 64) -> tuple[Denoiser, Tensor, Tensor]:
    """A denoiser, a known signal and a mask: accompaniment and a prefix of the vocal known."""
    known = SIGMA_DATA * normal(batch, 2, samples, seed=1)
    is_known = torch.ones(batch, 2, samples, dtype=torch.bool)
    is_known[:, 0, 20:] = False
    return Denoiser(TinyNetwork(), SIGMA_DATA).eval(), known, is_known


def generators(items: range | list[int], seed: int = 0) -> list[torch.Generator]:
    return [torch_generator(seed, item) for item in items]


# ------------------------------------------------------------------------------- known answer


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_known_answer(problem: GaussianProblem, row: tuple[str, str, str, int, float]) -> None:
    """Every sampler and method reaches the error of the design's table."""
    _, method, step, num_steps, limit = row
    evaluations, error = measure(problem, method, step, num_steps)
    assert error < limit
    per_step = 2 if step in ("heun", "dpm2_ancestral") else 1
    passes = 5 if method == "repaint" else 1
    assert evaluations == (num_steps - 1) * per_step * passes + 1


def test_every_pair_of_step_and_method_beats_ignoring_the_accompaniment(
    problem: GaussianProblem,
) -> None:
    def deaf(x: Tensor, sigma: float, is_known: Tensor | None) -> Tensor:
        return x * SIGMA_DATA**2 / (SIGMA_DATA**2 + sigma**2)

    _, floor = problem.exact_error(levels(20), model=deaf)
    for method in METHODS:
        for step in STEPS:
            if method in ("mcg", "guided"):
                run = problem.monte_carlo_error(levels(12), 1024, method=method, step=step)
            else:
                run = problem.exact_error(levels(12), method=method, step=step, num_resamples=3)
            assert run[1] < 0.5 * floor, (method, step, run, floor)


SMOOTH = 0.7 ** (torch.arange(8)[:, None] - torch.arange(8)).abs().double()  # A of the problem


@pytest.mark.parametrize(("step", "num_steps"), [("dpmpp_2m", 20), ("dpmpp_2m_sde", 40)])
def test_shaped_noise_reaches_the_same_posterior(step: str, num_steps: int) -> None:
    """Noise of any spectrum, here of twice the signal's range in dB, leads where white noise does.

    The error is that of TABLE.
    """
    row = next(row for row in TABLE if row[1:4] == ("conditional", step, num_steps))
    assert measure(GaussianProblem(shape=SMOOTH), *row[1:4])[1] < row[4]


def test_noise_in_the_shape_of_the_signal_needs_fewer_levels() -> None:
    """All directions then have one signal-to-noise ratio, and none is left to the last levels."""
    white, shaped = (
        GaussianProblem(shape=shape).exact_error(levels(6))[1]
        for shape in (None, torch.linalg.cholesky(SMOOTH))
    )
    assert shaped < 0.5 * white


def test_gradients_know_the_shape_of_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = GaussianProblem(shape=SMOOTH)
    right = measure(problem, "guided", "dpmpp_2m_sde", 40)[1]
    monkeypatch.setattr(GaussianProblem, "noise_covariance", None)
    assert right < 0.5 * measure(problem, "guided", "dpmpp_2m_sde", 40)[1]


def test_partly_known_vocal() -> None:
    """A prefix of the vocal and all of the accompaniment known: the windows' case."""
    is_known = torch.ones(2, 8, dtype=torch.bool)
    is_known[0, 3:] = False
    problem = GaussianProblem(is_known=is_known)
    assert problem.exact_error(levels(20))[1] < 0.0035
    assert problem.exact_error(levels(40), step="dpmpp_2m_sde")[1] < 0.0016
    replaced = problem.exact_error(levels(40), step="dpm2_ancestral", method="replacement")[1]
    sde = {"step": "dpmpp_2m_sde", "method": "repaint", "num_resamples": 5}
    assert problem.exact_error(levels(40), **sde)[1] < 0.25 * replaced
    guided = problem.monte_carlo_error(levels(40), step="dpmpp_2m_sde", method="guided")[1]
    assert guided < 0.25 * replaced


def test_more_resamples_and_more_steps_help(problem: GaussianProblem) -> None:
    options = {"step": "dpmpp_2m_sde", "method": "repaint"}
    errors = [problem.exact_error(levels(20), num_resamples=n, **options)[1] for n in (1, 2, 5)]
    assert errors[0] > 1.5 * errors[1] > 2 * errors[2]
    errors = [problem.exact_error(levels(n), step="dpmpp_2m_sde")[1] for n in (10, 20, 40)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


@pytest.mark.parametrize(
    ("step", "order"), [("euler", 1), ("heun", 2), ("dpmpp_2m", 2), ("dpm2_ancestral", 2)]
)
def test_convergence_order(step: str, order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On dx/dσ = (x − D)/σ with x ~ N(0, v) the path is x·√((v + σ²)/(v + σ₀²)), exactly."""
    monkeypatch.setattr(sampling, "ancestral_levels", lambda sigma, sigma_next: (sigma_next, 0.0))
    variance, errors = 0.04, []
    for num_steps in (16, 32, 64, 128):
        sigmas = [10 ** (-2 * i / num_steps) for i in range(num_steps + 1)]
        x, state = torch.ones(1, 1, 1, dtype=torch.float64), None
        for sigma, sigma_next in pairwise(sigmas):
            x, state = STEPS[step](
                lambda x, sigma: x * variance / (variance + sigma**2),
                x,
                sigma,
                sigma_next,
                lambda: torch.zeros(1, 1, 1, dtype=torch.float64),
                state,
            )
        errors.append(abs(float(x) - math.sqrt((variance + 1e-4) / (variance + 1))))
    slopes = [math.log2(a / b) for a, b in pairwise(errors)]
    assert slopes[-1] == pytest.approx(order, abs=0.25)


def test_stochastic_steps_arrive_at_the_next_level() -> None:
    """Pure noise (D = 0) of level σ becomes pure noise of level σ_next, for every step."""
    for name, step in STEPS.items():
        noise = lambda: normal(1, 1, 200_000, seed=2)  # noqa: E731
        x = 1.5 * normal(1, 1, 200_000, seed=1)
        arrived, _ = step(lambda x, sigma: torch.zeros_like(x), x, 1.5, 0.7, noise, None)
        assert float(arrived.std()) == pytest.approx(0.7, rel=0.01), name


# ------------------------------------------------------------------------------- old faults


def test_fault_heun_correction_over_no_distance(
    problem: GaussianProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faulty: x + (σ − σ̂)·(slopes) with σ̂ = σ, so the correction never denoises."""

    def faulty(denoise, x, sigma, sigma_next, noise, state):
        slope = (x - denoise(x, sigma)) / sigma
        x_next = x + (sigma_next - sigma) * slope
        slope_next = (x_next - denoise(x_next, sigma_next)) / sigma_next
        return x + (sigma - sigma) * 0.5 * (slope + slope_next), None

    right = problem.exact_error(levels(20), step="heun")[1]
    monkeypatch.setitem(STEPS, "heun", faulty)
    assert right < 0.0035 < 1.0 < problem.exact_error(levels(20), step="heun")[1]


def known_noise(num_resamples: int) -> list[tuple[float, Tensor]]:
    """RePaint with Euler steps, seen by its model: (σ, noise of the known region) of every call."""
    calls = []
    is_known = torch.tensor([[False], [True]]).expand(1, 2, 50_000)

    def model(x: Tensor, sigma: float, _: Tensor | None) -> Tensor:
        calls.append((sigma, x[is_known] - 1.0))
        return x * SIGMA_DATA**2 / (SIGMA_DATA**2 + sigma**2)

    known = torch.ones(1, 2, 50_000)
    options = {"step": "euler", "method": "repaint", "num_resamples": num_resamples}
    inpaint(model, known, is_known, levels(6), ItemNoise(generators([0]), known), **options)
    return calls


def level_errors() -> list[float]:
    """How far the known region is from the level that the model is told, call by call."""
    return [abs(float(noise.std()) / sigma - 1) for sigma, noise in known_noise(2)]


def resample_correlations() -> list[float]:
    """Of the known region's noise between successive passes over the same step."""
    pairs = pairwise(known_noise(3))
    same = [torch.stack([a[1], b[1]]) for a, b in pairs if a[0] == b[0]]
    return [abs(float(torch.corrcoef(noise)[0, 1])) for noise in same]


def test_fault_known_region_at_the_level_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faulty: the state is at σ_{i+1}, its known part is renewed at σ_i.

    Seen at the model: the error of the known answer is nearly blind to it (0.0266 for 0.0264).
    """

    def faulty(step, task):
        def transition(x, sigma, sigma_next, state):
            x, state = sampling.advance(step, task.joint, x, sigma, sigma_next, task.noise, state)
            return task.impose(x, sigma), state

        return transition

    assert max(level_errors()) < 0.02
    monkeypatch.setattr(sampling, "replacement", faulty)
    assert max(level_errors()) > 0.3


def test_fault_noise_of_the_known_region_reused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faulty: one noise for the known region, drawn once, at every resample."""
    kept: dict[int, Tensor] = {}

    def faulty(self: Task, x: Tensor, sigma: float) -> Tensor:
        if id(self) not in kept:
            kept[id(self)] = self.noise()
        return torch.where(self.is_known, self.known + sigma * kept[id(self)], x)

    assert max(resample_correlations()) < 0.02
    monkeypatch.setattr(Task, "impose", faulty)
    assert max(resample_correlations()) > 0.05


def test_fault_noisy_known_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faulty: the last renewal of the known region adds noise as every other."""
    denoiser, known, is_known = tiny_task()
    config = Inpainting(method="replacement", num_steps=4)
    right = sample(denoiser, known, is_known, config, generators(range(3))).x
    noisy = lambda self, x, s: torch.where(  # noqa: E731
        self.is_known, self.known + max(s, 3e-3) * self.noise(), x
    )
    monkeypatch.setattr(Task, "impose", noisy)
    wrong = sample(denoiser, known, is_known, config, generators(range(3))).x
    assert torch.equal(right[is_known], known[is_known])
    assert not torch.equal(wrong[is_known], known[is_known])


def plain_gradient(norm: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """MCG as it was: x moves by the gradient of a norm, whatever the level and step."""

    def faulty(step, task):
        def transition(x, sigma, sigma_next, state):
            with torch.enable_grad():
                leaf = x.detach().requires_grad_(True)
                residual = torch.where(task.is_known, task.known - task.joint(leaf, sigma), 0.0)
                (gradient,) = torch.autograd.grad(norm(residual).sum(), leaf)
            x, state = sampling.advance(step, task.joint, x, sigma, sigma_next, task.noise, state)
            return task.impose(x - gradient, sigma_next), state

        return transition

    return faulty


def test_fault_gradient_whose_error_grows_with_the_steps(
    problem: GaussianProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def errors() -> list[float]:
        options = {"step": "dpm2_ancestral", "method": "mcg"}
        return [problem.monte_carlo_error(levels(n), 2048, **options)[1] for n in (20, 40, 160)]

    right = errors()
    monkeypatch.setitem(METHODS, "mcg", plain_gradient(lambda r: r.flatten(1).norm(dim=1)))
    wrong = errors()
    assert max(right) < 0.015  # ± 0.003 by the draws
    assert wrong[0] < wrong[1] < wrong[2] and wrong[2] > 10 * right[2]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("step", STEPS)
def test_items_do_not_depend_on_their_batch_and_known_samples_are_exact(
    method: str, step: str
) -> None:
    denoiser, known, is_known = tiny_task()
    config = Inpainting(method=method, step=step, num_steps=5, num_resamples=2)
    together = sample(denoiser, known, is_known, config, generators(range(3)))
    assert torch.equal(together.x[is_known], known[is_known])
    assert torch.isfinite(together.x).all()
    for item in (2, 0):
        only = slice(item, item + 1)
        alone = sample(denoiser, known[only], is_known[only], config, generators([item]))
        torch.testing.assert_close(alone.x, together.x[only], atol=1e-5, rtol=1e-4)
        assert alone.evaluations == together.evaluations


def test_fault_norm_over_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above tells a norm over the batch from one per item."""
    denoiser, known, is_known = tiny_task()
    known = known * torch.tensor([1.0, 10.0, 0.1])[:, None, None]
    config = Inpainting(method="mcg", step="euler", num_steps=5)

    def difference() -> float:
        together = sample(denoiser, known, is_known, config, generators(range(3))).x
        alone = sample(denoiser, known[2:], is_known[2:], config, generators([2])).x
        return float((together[2:] - alone).abs().max())

    assert difference() < 1e-5
    monkeypatch.setitem(METHODS, "mcg", plain_gradient(lambda r: r.norm()))
    assert difference() > 1e-3


# ------------------------------------------------------------------------------- contract


def test_gradients_stay_inside_and_weights_get_none() -> None:
    denoiser, known, is_known = tiny_task()
    for method in METHODS:
        config = Inpainting(method=method, num_steps=3)
        result = sample(denoiser, known, is_known, config, generators(range(3)))
        assert not result.x.requires_grad
    assert denoiser.network.weight.grad is None and torch.is_grad_enabled()


def test_unknown_elements_of_the_input_are_never_read() -> None:
    denoiser, known, is_known = tiny_task()
    hidden = torch.where(is_known, known, torch.nan)
    for method in METHODS:
        config = Inpainting(method=method, num_steps=4)
        results = [
            sample(denoiser, signal, is_known, config, generators(range(3))).x
            for signal in (known, hidden)
        ]
        assert torch.equal(*results), method


def test_progress_reports_every_level_and_the_same_seed_gives_the_same_result() -> None:
    denoiser, known, is_known = tiny_task()
    seen: list[tuple[int, int]] = []
    config = Inpainting(num_steps=6)
    first, again, other = (
        sample(
            denoiser,
            known,
            is_known,
            config,
            generators(range(3), seed),
            progress=lambda done, total: seen.append((done, total)),
        )
        for seed in (0, 0, 1)
    )
    assert seen[:6] == [(i, 6) for i in range(1, 7)]
    assert torch.equal(first.x, again.x) and not torch.equal(first.x, other.x)
    assert first.evaluations == 6


def test_strength_decides_how_much_of_the_draft_remains(problem: GaussianProblem) -> None:
    draft = torch.zeros(64, 2, 8, dtype=torch.float64)
    draft[:, 0] = 0.2
    known = 0.1 * normal(64, 2, 8).double()
    is_known = problem.is_known.expand(64, -1, -1)
    distances = []
    for sigma in (0.01, 0.1, 1.0):
        sigmas = karras_sigmas(20, 3e-3, sigma)
        noise = ItemNoise(generators(range(64)), known)
        x = inpaint(problem.model, known, is_known, sigmas, noise, draft=draft).x
        distances.append(float((x - draft)[:, 0].square().mean().sqrt()))
    assert distances[0] < 0.03 < distances[1] < distances[2]
    denoiser, known, is_known = tiny_task()
    with pytest.raises(ValueError, match="starts from a draft"):
        sample(denoiser, known, is_known, Inpainting(strength=0.5), generators(range(3)))


def test_dynamic_threshold_is_per_item_and_spares_quiet_ones() -> None:
    x0 = normal(2, 2, 500)
    x0[0] *= 0.1
    squeezed = dynamic_threshold(x0, 0.95)
    assert torch.equal(squeezed[0], x0[0])
    assert squeezed[1].abs().max() == 1.0
    torch.testing.assert_close(dynamic_threshold(x0[1:], 0.95), squeezed[1:])


def test_bad_tasks_are_refused() -> None:
    denoiser, known, is_known = tiny_task()
    model, noise = GuidedModel(denoiser), ItemNoise(generators(range(3)), known)
    sigmas = karras_sigmas(3, 0.01, 1.0)
    with pytest.raises(ValueError, match="euler, heun, dpm2_ancestral"):
        inpaint(model, known, is_known, sigmas, noise, step="ddim")
    with pytest.raises(ValueError, match="conditional, replacement, repaint, mcg, guided"):
        inpaint(model, known, is_known, sigmas, noise, method="magic")
    with pytest.raises(ValueError, match=r"torch\.bool"):
        inpaint(model, known, is_known.float(), sigmas, noise)
    with pytest.raises(ValueError, match="explicit 0"):
        inpaint(model, known, is_known, sigmas[:-1], noise)
    with pytest.raises(ValueError, match="NaN"):
        inpaint(model, known * torch.nan, is_known, sigmas, noise)
    with pytest.raises(ValueError, match="2 generators for a batch of 3"):
        ItemNoise(generators(range(2)), known)


# ------------------------------------------------------------------------------- guidance


def test_guidance_is_its_formula_in_one_batched_forward() -> None:
    denoiser, x, is_known = tiny_task()
    is_known[:, 0] = False
    context = Context(mel=normal(3, 5, 4, seed=3))
    levels_ = torch.full((3,), 0.2)
    forwards = []
    denoiser.register_forward_hook(lambda *_: forwards.append(1))
    model = GuidedModel(denoiser, context, 1.5, 3.0)
    with torch.no_grad():
        found = model(x, 0.2, is_known)
        assert len(forwards) == 1 and model.evaluations_per_call == 3
        full = denoiser(x, levels_, is_known, context)
        silent, unmarked = x.clone(), is_known.clone()
        silent[:, 1], unmarked[:, 1] = 0.0, False
        no_accompaniment = denoiser(silent, levels_, unmarked, context)
        no_lyrics = denoiser(x, levels_, is_known, context.without())
        expected = full + 0.5 * (full - no_accompaniment) + 2.0 * (full - no_lyrics)
        torch.testing.assert_close(found[:, 0], expected[:, 0])
        assert torch.equal(found[is_known], x[is_known])
        torch.testing.assert_close(GuidedModel(denoiser, context)(x, 0.2, is_known), full)


def test_guidance_keeps_the_parts_that_an_item_never_had() -> None:
    denoiser, x, is_known = tiny_task()
    is_dropped = {"mel": torch.tensor([True, False, False])}
    context = Context(mel=normal(3, 5, 4, seed=3), is_dropped=is_dropped)
    with torch.no_grad():
        plain = GuidedModel(denoiser, context)(x, 0.2, is_known)
        guided = GuidedModel(denoiser, context, lyrics_guidance=4.0)(x, 0.2, is_known)
    torch.testing.assert_close(plain[0], guided[0])
    assert (plain[1:] - guided[1:]).abs().max() > 1e-3


def test_a_share_of_the_draft_stays_where_it_was_told() -> None:
    x = normal(3, 2, 50)
    is_known = torch.zeros(3, 2, 50, dtype=torch.bool)
    is_known[:, 1], is_known[:, 0, :20] = True, True
    context = Context(
        wav=normal(3, 50, seed=1), is_dropped={"wav": torch.tensor([True, False, False])}
    )
    mixed = blend(x, is_known, context.wav, context.is_dropped, 0.25)
    assert torch.equal(mixed[is_known], x[is_known]) and torch.equal(mixed[0], x[0])
    expected = 0.75 * x[1:, 0, 20:] + 0.25 * context.wav[1:, 20:]
    torch.testing.assert_close(mixed[1:, 0, 20:], expected)
    with pytest.raises(ValueError, match="draft_share = 2"):
        Inpainting(draft_share=2.0)


def test_guidance_counts_its_evaluations_and_says_what_it_needs() -> None:
    denoiser, known, is_known = tiny_task()
    config = Inpainting(num_steps=4, accompaniment_guidance=2.0)
    assert sample(denoiser, known, is_known, config, generators(range(3))).evaluations == 8
    with pytest.raises(ValueError, match="method = conditional"):
        sample(denoiser, known, is_known, replace(config, method="repaint"), generators(range(3)))
    with pytest.raises(ValueError, match=r"unet\.mask_input"):
        blind = Denoiser(TinyNetwork(), SIGMA_DATA, mask_input=False)
        sample(blind, known, is_known, Inpainting(), generators(range(3)))
    with pytest.raises(ValueError, match="no frame-level condition to guide with"):
        sample(denoiser, known, is_known, Inpainting(lyrics_guidance=2.0), generators(range(3)))


# ------------------------------------------------------------------------------- long songs


@pytest.mark.parametrize("ranges", [None, [(50, 70), (200, 210), (300, 480)]])
def test_windows_alone_and_in_batches_are_the_same_song(
    ranges: list[tuple[int, int]] | None,
) -> None:
    length = 517
    known = SIGMA_DATA * normal(2, length, seed=5)
    is_known = torch.ones(2, length, dtype=torch.bool)
    for start, stop in ranges or [(0, length)]:
        is_known[0, start:stop] = False
    plan = plan_windows(length, 64, 16, ranges, align=8)
    denoiser = Denoiser(TinyNetwork(), SIGMA_DATA).eval()
    config = Inpainting(num_steps=4, strength=0.7, lyrics_guidance=2.0)
    songs = []
    for batch_size in (1, 4):
        generate = window_sampler(
            denoiser,
            config,
            seed=3,
            context_of=lambda jobs: Context(
                mel=torch.stack([normal(8, 4, seed=job.window.start) for job in jobs])
            ),
            draft_of=lambda jobs: torch.stack([0.1 * job.is_known for job in jobs]),
        )
        read = read_from(torch.where(is_known, known, torch.nan), is_known)
        songs.append(torch.cat(list(inpaint_song(read, length, plan, generate, 8, batch_size)), 1))
    assert songs[0].shape == (2, length)
    assert torch.equal(songs[0][is_known], known[is_known])
    torch.testing.assert_close(songs[0], songs[1], atol=1e-5, rtol=1e-4)


def test_long_songs_have_the_statistics_of_the_posterior() -> None:
    """Windows with the exact denoiser: seams are as smooth as the rest and nothing known moves."""
    size, length, songs = 32, 150, 64
    known = torch.zeros(songs, 2, length, dtype=torch.float64)
    smooth = 0.9 ** (torch.arange(length)[:, None] - torch.arange(length)).abs().double()
    root = SIGMA_DATA * torch.linalg.cholesky(smooth)
    known[:, 1] = normal(songs, length, seed=4).double() @ root.T
    is_known = torch.tensor([[False], [True]]).expand(-1, length)
    out = torch.empty_like(known)
    problems: dict[tuple, GaussianProblem] = {}
    plan = plan_windows(length, size, 12)
    for song in range(songs):

        def generate(jobs, song=song):
            results = []
            for job in jobs:
                key = tuple(job.is_known.flatten().tolist())
                if key not in problems:
                    problems[key] = GaussianProblem(size, 0.9, 0.6, job.is_known)
                noise = ItemNoise(generators([job.window.start], song), job.known[None])
                mask = job.is_known[None]
                x = inpaint(problems[key].model, job.known[None], mask, levels(12), noise).x
                results.append(x[0])
            return results

        read = read_from(known[song], is_known)
        out[song] = torch.cat(list(inpaint_song(read, length, plan, generate, 4, 3)), 1)
    assert torch.equal(out[:, 1], known[:, 1])
    vocal = out[:, 0]
    assert float(vocal.std()) == pytest.approx(SIGMA_DATA, rel=0.1)
    relation = torch.corrcoef(torch.stack([vocal.flatten(), known[:, 1].flatten()]))[0, 1]
    assert float(relation) == pytest.approx(0.6, abs=0.06)
    energy = vocal.diff(n=2).square().mean(0)
    seams = [p for w in plan[1:] for p in range(w.start - 1, min(w.start + 12, len(energy)))]
    inside = torch.ones(len(energy), dtype=torch.bool)
    inside[seams] = False
    assert 0.6 < float(energy[seams].mean() / energy[inside].mean()) < 1.4
