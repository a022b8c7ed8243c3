"""Losses against hand-computed cases; padding must not be able to change them."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from module import interval_log_prior
from training.losses import (
    CONTRAST_FLOOR,
    WINDOW_REACH,
    WINDOW_STD,
    diagonal_penalty,
    guided_attention_loss,
    masked_l1,
    onset_loss,
    stop_loss,
    structure_loss,
)


def test_masked_l1_is_the_mean_over_valid_values() -> None:
    target, prediction = torch.zeros(2, 4, 3), torch.ones(2, 4, 3)
    prediction[1, 2:] = 1e6  # padding of the second item
    total, count = masked_l1(prediction, target, torch.tensor([4, 2]))
    assert total.item() == 18 and count.item() == 18


def test_padding_gets_no_gradient_from_any_loss() -> None:
    lengths = torch.tensor([6, 3])
    prediction = torch.randn(2, 6, 3, requires_grad=True)
    masked_l1(prediction, torch.randn(2, 6, 3), lengths)[0].backward()
    assert prediction.grad[1, 3:].abs().max() == 0 and prediction.grad[1, :3].abs().min() > 0
    logits = torch.randn(2, 3, requires_grad=True)
    stop_loss(logits, lengths, reduction_factor=2, pos_weight=5.0)[0].backward()
    assert logits.grad[1, 2] == 0 and (logits.grad[1, :2] != 0).all()


def test_stop_loss_by_hand() -> None:
    """Three frames at r = 2 end on step 1; logits 0 cost log 2 each, the positive one 5 log 2."""
    total, count = stop_loss(torch.zeros(1, 4), torch.tensor([3]), 2, pos_weight=5.0)
    assert count.item() == 2
    assert math.isclose(total.item(), 6 * math.log(2), rel_tol=1e-6)


def test_diagonal_is_free_and_corners_cost() -> None:
    penalty = diagonal_penalty(torch.tensor([10, 5]), torch.tensor([10, 5]), 0.2, (10, 10))
    assert penalty[0].diagonal().abs().max() < 1e-6
    assert penalty[0, 0, 9] > 0.99 and penalty[0, 9, 0] > 0.99
    assert penalty[1, 5:].abs().max() == 0 and penalty[1, :, 5:].abs().max() == 0


def test_guided_loss_prefers_the_diagonal_and_spares_scored_items() -> None:
    steps = symbols = torch.tensor([8, 8])
    diagonal = torch.eye(8).expand(2, 1, 8, 8)
    uniform = torch.full((2, 1, 8, 8), 1 / 8)
    both, first = torch.tensor([True, True]), torch.tensor([True, False])
    low, count = guided_attention_loss([diagonal], steps, symbols, 0.2, both)
    high, _ = guided_attention_loss([uniform], steps, symbols, 0.2, both)
    assert low < 1e-5 < 0.1 < high / count
    half, half_count = guided_attention_loss([uniform], steps, symbols, 0.2, first)
    torch.testing.assert_close(half * 2, high)
    assert half_count * 2 == count


def test_measured_times_take_the_diagonals_place() -> None:
    """Attention on the symbol that is being spoken costs nothing, the plain diagonal then does."""
    interval = torch.tensor([[[0.0, 0.6], [0.6, 0.7], [0.7, 0.8]], [[0.0, 0.0]] * 3])
    prior = interval_log_prior(interval, torch.arange(8) * 0.1 + 0.05, 0.02)  # (B, T, N)
    phoneme_times = torch.eye(3)[torch.tensor([0, 0, 0, 0, 0, 0, 1, 2])].expand(2, 1, 8, 3)
    straight = torch.eye(3)[torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])].expand(2, 1, 8, 3)
    sizes = torch.tensor([8, 8]), torch.tensor([3, 3]), 0.2
    for item, wanted in ((0, phoneme_times), (1, straight)):
        only = torch.arange(2) == item
        losses = [
            guided_attention_loss([w], *sizes, only, prior)[0] for w in (phoneme_times, straight)
        ]
        best = min(losses)
        assert best == guided_attention_loss([wanted], *sizes, only, prior)[0]
        assert best < 0.5 * max(losses)


def test_onset_loss_counts_the_frames_of_sung_symbols_with_times_alone() -> None:
    """The first item is sung and timed, the second spoken, the third sung without times."""
    slots = torch.tensor([[[0.0, 0.2], [0.2, 0.4]], [[0.0, 0.0]] * 2, [[0.0, 0.1], [0.1, 0.2]]])
    phoneme_times = torch.tensor(
        [[[0.1, 0.2], [0.2, 0.4]], [[0.3, 0.4], [0.4, 0.5]], [[0.0, 0.0]] * 2]
    )
    shifts = torch.tensor([[8.0, -3.0], [5.0, 5.0], [5.0, 5.0]])
    total, count = onset_loss(shifts, slots, phoneme_times, torch.tensor([2, 2, 2]), 0.01)
    torch.testing.assert_close(total, torch.tensor(2.0 + 3.0))  # 10 and 0 frames late
    assert count == 2
    total, count = onset_loss(shifts, slots, phoneme_times, torch.tensor([1, 2, 2]), 0.01)
    torch.testing.assert_close(total, torch.tensor(2.0))
    assert count == 1


def test_structure_wants_all_the_contrast_of_what_can_be_known() -> None:
    """Of a target that is half knowable, L1 is least for a pale prediction, structure for one as
    contrasted as the target; neither level nor padding matters."""
    generator = torch.Generator().manual_seed(0)
    known, unknown = torch.randn(2, 1, 200, 40, generator=generator)
    target, length = (known + unknown) / math.sqrt(2), torch.tensor([200])
    gains = torch.linspace(0.2, 1.4, 13).tolist()
    pale = [masked_l1(gain * known, target, length)[0].item() for gain in gains]
    structural = [structure_loss(gain * known, target, length)[0].item() for gain in gains]
    assert gains[pale.index(min(pale))] < 0.8
    assert 0.9 <= gains[structural.index(min(structural))] <= 1.1
    total, count = structure_loss(target, target, length)
    torch.testing.assert_close(total / count, torch.tensor(0.0), atol=1e-4, rtol=0)
    spoilt = torch.cat([target, 9 * torch.randn(1, 50, 40, generator=generator)], 1)
    longer = torch.cat([target, torch.zeros(1, 50, 40)], 1)
    again, same = structure_loss(spoilt, longer, length)
    torch.testing.assert_close(again / same, torch.tensor(0.0), atol=1e-4, rtol=0)


def test_the_structure_of_quiet_frames_is_exact_under_autocast() -> None:
    """In bfloat16 the local variances of a nearly constant mel far from zero would be noise."""
    torch.manual_seed(0)
    target = -1.7 + 0.1 * torch.randn(2, 40, 20)
    length = torch.tensor([40, 33])
    mel = (target + 0.05 * torch.randn(2, 40, 20)).requires_grad_()
    results = []
    for enabled in (False, True):
        mel.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            total, _ = structure_loss(mel, target, length)
        total.backward()
        results.append((total.detach(), mel.grad.clone()))
    torch.testing.assert_close(results[0], results[1])


def test_structure_is_that_of_the_whole_gaussian_window() -> None:
    """Products block by block give what one convolution gives, its gradient too."""
    lengths = torch.tensor([130, 54, 109])  # more than two blocks, one, and one frame more
    prediction = torch.randn(3, 130, 20, requires_grad=True)
    target = torch.randn(3, 130, 20)
    place = torch.arange(-WINDOW_REACH, WINDOW_REACH + 1)
    line = torch.exp(-(place**2) / (2 * WINDOW_STD**2))
    kernel = (line[:, None] * line / line.sum() ** 2)[None, None]

    def mean(maps: torch.Tensor) -> torch.Tensor:
        return F.conv2d(maps[:, None], kernel, padding=WINDOW_REACH)[:, 0]

    is_valid = torch.arange(130) < lengths[:, None]
    x, y = (mel * is_valid[..., None] for mel in (prediction, target))
    covariance = mean(x * y) - mean(x) * mean(y)
    variances = sum((mean(z * z) - mean(z) ** 2).clamp_min(0) for z in (x, y))
    contrast = (2 * covariance + CONTRAST_FLOOR) / (variances + CONTRAST_FLOOR)
    expected = ((1 - contrast) * is_valid[..., None]).sum()
    with torch.autocast("cpu", dtype=torch.bfloat16):  # whose variances would be too coarse
        total, count = structure_loss(prediction, target, lengths)
    assert count.item() == int(lengths.sum()) * 20
    torch.testing.assert_close(total, expected, rtol=1e-4, atol=1e-2)
    found, wanted = (torch.autograd.grad(t, prediction)[0] for t in (total, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
