"""The denoiser's equations, its loss and the data that it trains on."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from hyperparams import Diffusion, Inpainting
from inpainter.context import Context
from inpainter.diffusion import (
    MASK_KINDS,
    SPECTRAL_FLOOR,
    Denoiser,
    NoiseColour,
    add_noise,
    bin_loss_terms,
    corrupt_known,
    degrade_mel,
    denoising_loss,
    draw_dropouts,
    draw_masks,
    draw_sigma,
    element_sigma,
    karras_sigmas,
    log_spectral_error,
    loss_terms,
    precondition,
    sampling_sigmas,
    sigma_bin_edges,
)
from inpainter.spectral import ModifiedCosineTransform, NoiseShape
from utils.metrics import LINEAR_FLOOR

SIGMA_DATA = 0.1
CONFIG = Diffusion()


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed))


class Recorder(nn.Module):
    """A network that keeps what it was given and answers with a fixed tensor (default: zeros)."""

    def __init__(self, answer: Tensor | None = None) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor, c_noise: Tensor, context: object) -> Tensor:
        self.x, self.c_noise, self.context = x, c_noise, context
        return x.new_zeros(len(x), 2, x.shape[2]) if self.answer is None else self.answer


# ------------------------------------------------------------------------------- preconditioning


@pytest.mark.parametrize("sigma", [1e-4, 0.03, 0.1, 3.0, 80.0])
def test_preconditioning_is_that_of_edm(sigma: float) -> None:
    """Table 1 as printed, and what it is for: input and target of variance 1, weight 1/c_out²."""
    c_skip, c_out, c_in = (float(c) for c in precondition(torch.tensor(sigma).double(), SIGMA_DATA))
    total = sigma**2 + SIGMA_DATA**2
    assert c_skip == pytest.approx(SIGMA_DATA**2 / total)
    assert c_out == pytest.approx(sigma * SIGMA_DATA / math.sqrt(total))
    assert c_in == pytest.approx(1 / math.sqrt(total))
    assert c_in**2 * total == pytest.approx(1)
    target_variance = ((1 - c_skip) ** 2 * SIGMA_DATA**2 + c_skip**2 * sigma**2) / c_out**2
    assert target_variance == pytest.approx(1)
    one = torch.ones(1, 1, 1)
    weight, _ = loss_terms(one, 0 * one, torch.tensor([sigma]), one.bool(), SIGMA_DATA)
    assert float(weight) * c_out**2 == pytest.approx(1, rel=1e-4)


def test_known_elements_pass_bit_by_bit_and_are_input_at_unit_variance() -> None:
    x, answer = normal(3, 2, 50), normal(3, 2, 50, seed=1)
    is_known = normal(3, 2, 50, seed=2) > 0
    network = Recorder(answer)
    sigma = torch.tensor([0.01, 0.5, 3.0])
    denoised = Denoiser(network, SIGMA_DATA)(x, sigma, is_known)
    assert torch.equal(denoised[is_known], x[is_known])
    assert network.x.shape == (3, 4, 50)
    assert torch.equal(network.x[:, 2:], is_known.float())
    torch.testing.assert_close(network.x[:, :2][is_known], x[is_known] / SIGMA_DATA)
    torch.testing.assert_close(network.c_noise, sigma.log() / 4)
    s = sigma[:, None, None].expand_as(x)
    expected = x * SIGMA_DATA**2 / (s**2 + SIGMA_DATA**2)
    expected = expected + answer * s * SIGMA_DATA / (s**2 + SIGMA_DATA**2).sqrt()
    torch.testing.assert_close(denoised[~is_known], expected[~is_known])


def test_float_masks_no_mask_and_no_mask_input_agree() -> None:
    x, answer, sigma = normal(2, 2, 30), normal(2, 2, 30, seed=1), torch.tensor([0.2, 0.02])
    nothing = torch.zeros(2, 2, 30)
    with_mask, without = Recorder(answer), Recorder(answer)
    results = [
        Denoiser(with_mask, SIGMA_DATA)(x, sigma, nothing),
        Denoiser(with_mask, SIGMA_DATA)(x, sigma, nothing.bool()),
        Denoiser(with_mask, SIGMA_DATA)(x, sigma),
        Denoiser(without, SIGMA_DATA, mask_input=False)(x, sigma),
    ]
    assert all(torch.equal(result, results[0]) for result in results)
    assert without.x.shape == (2, 2, 30)
    assert torch.equal(with_mask.x[:, 2:], nothing)


def test_no_noise_at_all_is_safe_and_low_precision_networks_do_not_lower_the_signal() -> None:
    x = normal(2, 2, 30)
    denoiser = Denoiser(Recorder(normal(2, 2, 30, seed=1).bfloat16()), SIGMA_DATA)
    denoised = denoiser(x, torch.zeros(2))
    assert torch.equal(denoised, x) and denoised.dtype == torch.float32
    assert torch.isfinite(denoiser.network.c_noise).all()


def test_context_is_handed_on_and_shapes_are_checked() -> None:
    network, context = Recorder(), Context(pitch=normal(2, 4), wav=SIGMA_DATA * normal(2, 8))
    Denoiser(network, SIGMA_DATA)(normal(2, 2, 8), torch.ones(2), None, context)
    assert network.context.pitch is context.pitch
    torch.testing.assert_close(network.context.wav, normal(2, 8))
    with pytest.raises(ValueError, match="one level per item"):
        Denoiser(network, SIGMA_DATA)(normal(2, 2, 8), torch.ones(1))
    with pytest.raises(ValueError, match="sigma_data = 0"):
        Denoiser(network, 0.0)


# ------------------------------------------------------------------------------- loss


def test_loss_of_a_silent_network_is_one_at_every_level() -> None:
    """F = 0 is the best linear guess for white data: the weight makes its loss 1 in every bin."""
    batch = 4000
    x = SIGMA_DATA * normal(batch, 2, 64)
    sigma = draw_sigma(batch, CONFIG.p_mean, CONFIG.p_std, generator(1))
    masks = draw_masks(batch, 64, replace(CONFIG, mask_accompaniment=0.0), generator(2))
    sums, counts = denoising_loss(
        Denoiser(Recorder(), SIGMA_DATA), x, sigma, normal(batch, 2, 64, seed=3), masks.is_known
    )
    edges = sigma_bin_edges(CONFIG.p_mean, CONFIG.p_std, 5)
    bin_sums, bin_counts = bin_loss_terms(sums, counts, sigma, edges)
    assert bin_sums.shape == (5,)
    torch.testing.assert_close(bin_sums / bin_counts, torch.ones(5), atol=0.03, rtol=0)
    assert float(bin_sums.sum() / sums.sum()) == pytest.approx(1, rel=1e-4)


def test_loss_counts_only_unknown_elements_and_adds_up_over_ranks() -> None:
    x, noise = normal(6, 2, 40), normal(6, 2, 40, seed=1)
    is_known = normal(6, 2, 40, seed=2) > 0.5
    is_known[5] = True
    sigma = torch.linspace(0.01, 1.0, 6)
    answer = normal(6, 2, 40, seed=3)
    sums, counts = denoising_loss(Denoiser(Recorder(answer), 0.1), x, sigma, noise, is_known)
    changed = torch.where(is_known, answer + 7.0, answer)
    again, _ = denoising_loss(Denoiser(Recorder(changed), 0.1), x, sigma, noise, is_known)
    torch.testing.assert_close(sums, again)
    assert torch.equal(counts, (~is_known).sum((1, 2)))
    assert sums[5] == 0 and counts[5] == 0 and torch.isfinite(sums).all()
    parts = [
        denoising_loss(Denoiser(Recorder(answer[r]), 0.1), x[r], sigma[r], noise[r], is_known[r])
        for r in (slice(0, 2), slice(2, 6))
    ]
    torch.testing.assert_close(torch.cat([part[0] for part in parts]), sums)


def test_nothing_is_clipped_inside_the_loss() -> None:
    """The legacy system's threshold squeezed D into [−1, 1]: loud estimates had no gradient."""
    denoised = torch.tensor([[[5.0, 10.0]]], requires_grad=True)
    x, scored = torch.zeros(1, 1, 2), torch.ones(1, 1, 2, dtype=torch.bool)
    sums, _ = loss_terms(denoised, x, torch.tensor([0.1]), scored, SIGMA_DATA)
    sums.sum().backward()
    assert float(denoised.grad[0, 0, 1] / denoised.grad[0, 0, 0]) == pytest.approx(2)
    clipped = denoised.detach().clamp(-1, 1).requires_grad_(True)
    loss_terms(clipped, x, torch.tensor([0.1]), scored, SIGMA_DATA)[0].sum().backward()
    assert float(clipped.grad[0, 0, 1] / clipped.grad[0, 0, 0]) == pytest.approx(1)


def shaped_errors(loudness: float, huber: float) -> tuple[torch.Tensor, float]:
    """Losses of one error where the noise has the shape of a draft and where it is white, and λ."""
    shape = NoiseShape(ModifiedCosineTransform(16), 64, exponent=1.0, gain=1.0, floor=1e-6)
    wav = normal(2, 1, 256, seed=2)  # in units of sigma_data
    has_draft = torch.tensor([True, False])
    colour = NoiseColour(shape, shape.gains(shape.power(wav), has_draft), has_draft)
    error = loudness * colour(normal(2, 2, 256, seed=3))
    error[:, 1] = 0.0  # the accompaniment is known
    scored, sigma = torch.ones(2, 2, 256, dtype=torch.bool), torch.full((2,), 0.3)
    sums, _ = loss_terms(error, 0 * error, sigma, scored, SIGMA_DATA, colour, huber)
    return sums, float((0.3**2 + SIGMA_DATA**2) / (0.3 * SIGMA_DATA) ** 2)


def test_shaped_errors_count_in_units_of_their_noise() -> None:
    sums, weight = shaped_errors(1.0, huber=0.0)
    power = normal(2, 2, 256, seed=3)[:, 0].square().sum(1)  # of the white noise that was shaped
    torch.testing.assert_close(sums, weight * power, rtol=1e-4, atol=0)


def test_large_errors_count_in_proportion_where_a_draft_tells() -> None:
    small, large, larger = (shaped_errors(loudness, 1.0)[0] for loudness in (1e-4, 1e3, 2e3))
    torch.testing.assert_close(small, shaped_errors(1e-4, 0.0)[0], rtol=1e-3, atol=0)
    torch.testing.assert_close(larger / large, torch.tensor([2.0, 4.0]), rtol=1e-2, atol=0)


def test_log_spectra_are_compared_in_nepers_above_a_floor() -> None:
    wav = 0.1 * normal(3, 4096)
    error = log_spectral_error(wav * torch.tensor([[1.0], [2.0], [0.5]]), wav)
    expected = torch.tensor([0.0, math.log(2), math.log(2)])
    torch.testing.assert_close(error, expected, rtol=1e-3, atol=1e-6)
    assert log_spectral_error(1e-7 * wav, 1e-6 * wav).max() < 1e-4  # both are silence
    assert math.log(SPECTRAL_FLOOR) == pytest.approx(LINEAR_FLOOR)  # as it is measured
    item = log_spectral_error(wav[1:2], 0.3 * wav[:1])
    pair = log_spectral_error(wav[[1, 2]], 0.3 * wav[[0, 1]])
    torch.testing.assert_close(item, pair[:1])


def test_log_spectra_count_where_a_draft_tells_and_noise_hides() -> None:
    shape = NoiseShape(ModifiedCosineTransform(16), 64, exponent=1.0, gain=1.0, floor=1e-6)
    x, noise = SIGMA_DATA * normal(2, 2, 2048), normal(2, 2, 2048, seed=1)
    is_known = torch.zeros(2, 2, 2048, dtype=torch.bool)
    context = Context(wav=x[:, 0], is_dropped={"wav": torch.tensor([False, True])})
    denoiser = Denoiser(Recorder(), SIGMA_DATA, noise_shape=shape)
    added = []
    for level in (0.01 * SIGMA_DATA, 100 * SIGMA_DATA):
        sigma = torch.full((2,), level)
        plain, with_it = (
            denoising_loss(denoiser, x, sigma, noise, is_known, context, spectral=w)
            for w in (0.0, 1.0)
        )
        added.append((with_it[0] - plain[0]) / plain[1])
    assert all(part[1] == 0 for part in added)  # without a draft
    assert 0 < added[0][0] < 1e-3 * added[1][0]


def test_corrupted_known_samples_are_input_but_never_target() -> None:
    x, noise, sigma = normal(1, 2, 20), normal(1, 2, 20, seed=1), torch.tensor([0.3])
    is_known = torch.zeros(1, 2, 20, dtype=torch.bool)
    is_known[:, :, :10] = True
    network = Recorder()
    given = torch.full_like(x, 0.5)
    sums, _ = denoising_loss(Denoiser(network, SIGMA_DATA), x, sigma, noise, is_known, given=given)
    plain, _ = denoising_loss(Denoiser(Recorder(), SIGMA_DATA), x, sigma, noise, is_known)
    torch.testing.assert_close(network.x[:, :2, :10], given[:, :, :10] / SIGMA_DATA)
    torch.testing.assert_close(sums, plain)


def test_dropped_accompaniment_is_silent_unmarked_and_not_scored() -> None:
    x, noise, sigma = normal(3, 2, 20), normal(3, 2, 20, seed=1), torch.full((3,), 0.3)
    is_known = torch.zeros(3, 2, 20, dtype=torch.bool)
    is_known[:2, 1] = True
    network = Recorder(normal(3, 2, 20, seed=4))
    is_dropped = torch.tensor([True, False, True])
    _, counts = denoising_loss(
        Denoiser(network, SIGMA_DATA), x, sigma, noise, is_known, is_dropped=is_dropped
    )
    assert counts.tolist() == [20, 20, 20]
    assert not network.x[is_dropped][:, [1, 3]].any()
    assert network.x[1, 3].all() and network.x[:, 0].all()


def test_noise_goes_only_where_nothing_is_known() -> None:
    x, noise = normal(2, 2, 20), normal(2, 2, 20, seed=1)
    is_known = normal(2, 2, 20, seed=2) > 0
    sigma = torch.tensor([0.5, 2.0])
    noisy = add_noise(x, sigma, noise, is_known)
    assert torch.equal(noisy[is_known], x[is_known])
    expected = x + sigma[:, None, None] * noise
    torch.testing.assert_close(noisy[~is_known], expected[~is_known])
    assert element_sigma(sigma, None, x).shape == (2, 1, 1)


@pytest.mark.parametrize("stratified", [True, False])
def test_sigma_is_lognormal(stratified: bool) -> None:
    draws = [draw_sigma(16, -3.0, 1.0, generator(seed), stratified) for seed in range(500)]
    z = torch.cat(draws).log() + 3.0
    expected = torch.special.ndtri(torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9]))
    found = torch.quantile(z, torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9]))
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)
    assert torch.equal(draws[3], draw_sigma(16, -3.0, 1.0, generator(3), stratified))
    spread = torch.stack([(draw.log() + 3.0).mean() for draw in draws]).std()
    assert (spread < 0.1) == stratified
    first = torch.stack([draw[0] for draw in draws]).log() + 3.0
    assert first.std() == pytest.approx(1.0, abs=0.12)  # no position is tied to a slice


def test_sigma_bins_are_equally_likely() -> None:
    sigma = draw_sigma(4000, -3.0, 1.0, generator(), stratified=False)
    ones = torch.ones(4000)
    _, counts = bin_loss_terms(ones, ones, sigma, sigma_bin_edges(-3.0, 1.0, 4))
    assert (counts / 4000 - 0.25).abs().max() < 0.03


# ------------------------------------------------------------------------------- schedules


@pytest.mark.parametrize("num_steps", [1, 2, 20])
def test_schedules_fall_from_maximum_to_minimum_to_an_explicit_zero(num_steps: int) -> None:
    sigmas = karras_sigmas(num_steps, 1e-4, 3.0, 9.0)
    assert len(sigmas) == num_steps + 1 and sigmas[-1] == 0.0
    assert sigmas[0] == pytest.approx(3.0)
    if num_steps > 1:
        assert sigmas[-2] == pytest.approx(1e-4)
    assert all(a > b for a, b in pairwise(sigmas))
    with pytest.raises(ValueError, match="sigma_min"):
        karras_sigmas(num_steps, 3.0, 1.0)


def test_karras_schedule_is_equation_5() -> None:
    sigmas = karras_sigmas(5, 0.01, 2.0, 7.0)
    for i, sigma in enumerate(sigmas[:-1]):
        expected = (2.0 ** (1 / 7) + i / 4 * (0.01 ** (1 / 7) - 2.0 ** (1 / 7))) ** 7
        assert sigma == pytest.approx(expected)


def test_a_draft_is_walked_from_its_own_level() -> None:
    knobs = Inpainting(num_steps=9, draft_steps=4, draft_start=0.7)
    levels = sampling_sigmas(knobs, has_draft=True)
    assert levels[0] == pytest.approx(0.7) and levels[-2] == pytest.approx(knobs.sigma_min)
    assert len(levels) == 5 and levels[-1] == 0.0
    assert sampling_sigmas(knobs) == sampling_sigmas(Inpainting(num_steps=9))  # without one
    with pytest.raises(ValueError, match=r"draft_start = 0\.01: expected a level above sigma_min"):
        sampling_sigmas(replace(knobs, draft_start=0.01), has_draft=True)


def test_strength_walks_the_end_of_the_same_schedule() -> None:
    full = sampling_sigmas(Inpainting())
    half = sampling_sigmas(Inpainting(strength=0.5))
    assert half == full[-len(half) :] and abs(len(half) - len(full) / 2) <= 1
    assert len(sampling_sigmas(Inpainting(strength=0.01))) == 2
    few = Inpainting(draft_steps=2)
    assert len(sampling_sigmas(few, has_draft=True)) == 3
    without_draft_steps = sampling_sigmas(Inpainting(draft_steps=0), has_draft=True)
    assert sampling_sigmas(few) == full == without_draft_steps
    assert sampling_sigmas(replace(few, strength=0.5), has_draft=True) == half
    with pytest.raises(ValueError, match="strength = 0"):
        sampling_sigmas(Inpainting(strength=0.0))


# ------------------------------------------------------------------------------- training data


def test_mask_mixture_has_its_shares_and_shapes() -> None:
    masks = draw_masks(8000, 200, CONFIG, generator())
    assert masks.is_known.shape == (8000, 2, 200) and masks.is_known.dtype == torch.bool
    shares = torch.bincount(masks.kind, minlength=5) / 8000
    expected = torch.tensor([0.45, 0.25, 0.10, 0.10, 0.10])
    torch.testing.assert_close(shares, expected, atol=0.02, rtol=0)
    vocal, accompaniment = masks.is_known[:, 0], masks.is_known[:, 1]
    kinds = {name: masks.kind == i for i, name in enumerate(MASK_KINDS)}
    assert not vocal[kinds["vocal"]].any() and accompaniment[kinds["vocal"]].all()
    prefix = vocal[kinds["prefix"]].int()
    assert (prefix.diff(dim=1) <= 0).all() and accompaniment[kinds["prefix"]].all()
    share = prefix.float().mean(1)
    assert (
        share.min() >= 0.04 and share.max() <= 0.76 and share.mean() == pytest.approx(0.4, abs=0.02)
    )
    gaps = ~vocal[kinds["gaps"]]
    starts = gaps[:, 0].int() + (gaps.int().diff(dim=1) > 0).sum(1)
    assert set(starts.tolist()) == {1, 2, 3} and gaps.any(1).all()
    assert accompaniment[kinds["gaps"]].all()
    assert vocal[kinds["accompaniment"]].all() and not accompaniment[kinds["accompaniment"]].any()
    assert not masks.is_known[kinds["nothing"]].any()


def test_masks_are_a_function_of_the_generator() -> None:
    first, again = (draw_masks(64, 100, CONFIG, generator(5)) for _ in range(2))
    other = draw_masks(64, 100, CONFIG, generator(6))
    assert torch.equal(first.is_known, again.is_known)
    assert not torch.equal(first.is_known, other.is_known)


def test_only_known_vocals_of_prefixes_and_gaps_are_corrupted() -> None:
    x = SIGMA_DATA * normal(2000, 2, 100)
    masks = draw_masks(2000, 100, CONFIG, generator())
    corrupted = corrupt_known(x, masks, CONFIG, generator(1))
    changed = (corrupted != x).flatten(1).any(1)
    assert torch.equal(corrupted[:, 1], x[:, 1])
    assert torch.equal(corrupted[~masks.is_known], x[~masks.is_known])
    part = (masks.kind == 1) | (masks.kind == 2)
    assert not changed[~part].any()
    assert changed[part].float().mean() == pytest.approx(0.5, abs=0.06)
    assert (corrupted - x).square().mean().sqrt() < 0.2 * SIGMA_DATA


def test_context_parts_are_dropped_independently() -> None:
    dropped = draw_dropouts(20_000, {"mel": 0.15, "phoneme": 0.3}, generator())
    both = torch.stack([dropped["mel"], dropped["phoneme"]]).float()
    torch.testing.assert_close(both.mean(1), torch.tensor([0.15, 0.3]), atol=0.015, rtol=0)
    assert float(both.prod(0).mean()) == pytest.approx(0.15 * 0.3, abs=0.005)
    assert not draw_dropouts(100, {"mel": 0.0}, generator())["mel"].any()


def syllables(batch: int, frames: int, bands: int) -> Tensor:
    """A standardised stand-in for a mel: smooth over some 4 frames and 3 bands, (B, T, M)."""
    white = normal(batch, frames + 8, bands + 4)
    mel = white.unfold(1, 9, 1) @ torch.hann_window(9, periodic=False)
    mel = mel.unfold(2, 5, 1) @ torch.hann_window(5, periodic=False)
    return (mel - mel.mean()) / mel.std()


def test_degraded_mels_are_smoother_than_the_truth_by_what_drafts_are() -> None:
    mel = syllables(256, 200, 40)
    degraded = degrade_mel(mel, CONFIG, generator())
    assert degraded.shape == mel.shape
    assert torch.equal(degraded, degrade_mel(mel, CONFIG, generator()))
    change = [m.diff(dim=1).abs().mean((1, 2)) for m in (degraded, mel)]
    ratio = change[0] / change[1]
    assert 0.6 < ratio.mean() < 0.8
    assert ratio.std() > 0.08  # every severity occurs
    assert 0.7 < torch.corrcoef(torch.stack([degraded.flatten(), mel.flatten()]))[0, 1] < 0.99


def test_degradation_moves_nothing_in_time() -> None:
    mel = torch.zeros(64, 101, 8)
    mel[:, 50] = 5.0
    config = replace(CONFIG, degrade_noise=0.0, degrade_level=0.0, degrade_drop=0.0)
    degraded = degrade_mel(mel, config, generator())
    assert (degraded.mean(2).argmax(1) == 50).all()
    torch.testing.assert_close(degraded, degraded.flip(1))
    clean = replace(config, degrade_blur_frames=0.0, degrade_blur_bands=0.0)
    torch.testing.assert_close(degrade_mel(mel, clean, generator()), mel)


def test_impossible_mixtures_are_refused() -> None:
    with pytest.raises(ValueError, match="mask_"):
        Diffusion(mask_vocal=-1.0)
    with pytest.raises(ValueError, match="prefix_min"):
        Diffusion(prefix_min=0.9)
