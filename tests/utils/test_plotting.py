"""Pictures: right shapes, labelled axes, no global state, errors for wrong shapes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from hyperparams import Audio
from training.curves import alpha_curves, learning_curves, noise_level_curves
from utils import plotting

AUDIO = Audio()
SYMBOLS = ["HH", "AH0", "L", "OW1", " ", "W", "ER1", "L", "D", "."]


def visible(figure: Figure) -> list:
    return [axes for axes in figure.axes if axes.get_visible()]


def test_attention_has_a_panel_per_layer_with_heads_phonemes_and_seconds() -> None:
    layers = [torch.softmax(torch.randn(heads, 20, 10), -1) for heads in (4, 2)]
    figure = plotting.attention_grid(layers, SYMBOLS, seconds_per_step=0.032, title="attention")
    first, last = visible(figure)
    titles = [text.get_text() for axes in (first, last) for text in axes.texts]
    assert len(titles) == 6 and titles[1].startswith("layer 1, head 2 (max 0.")
    labels = [label.get_text().strip() for label in first.get_yticklabels()]
    assert labels == [symbol for symbol in SYMBOLS if symbol != " "]
    times = [float(label.get_text()) for label in first.get_xticklabels()]
    assert times.count(0.0) == 4 and max(times) <= 20 * 0.032  # every head has its own seconds
    assert last.get_xlabel() == "time (s)"
    image = plotting.figure_to_image(figure)
    assert image.dtype == np.uint8 and image.shape[0] == 3
    assert image.min() < 50 and image.max() == 255


def test_every_head_is_as_bright_as_its_own_maximum() -> None:
    layer = torch.rand(3, 20, 10) * torch.tensor([0.1, 1.0, 0.5])[:, None, None]
    picture = np.ma.filled(plotting.attention_grid([layer]).axes[0].images[0].get_array(), np.nan)
    heads = np.split(picture[:, ~np.isnan(picture).all(0)], 3, axis=1)
    for head, weights in zip(heads, layer, strict=True):
        np.testing.assert_allclose(head, (weights / weights.max()).T, rtol=1e-5)


def test_the_brightest_place_of_the_picture_is_the_attended_symbol() -> None:
    weights = torch.zeros(1, 5, 10)
    weights[0, :, 7] = 1.0
    panel = plotting.attention_grid([weights], SYMBOLS).axes[0]
    picture = panel.images[0].get_array()  # (N, T), origin below
    assert picture.shape == (10, 5) and (picture.argmax(axis=0) == 7).all()
    assert panel.images[0].origin == "lower"


def test_long_texts_keep_readable_labels() -> None:
    figure = plotting.attention_grid([torch.rand(1, 30, 400)], ["AH0"] * 400)
    assert 20 < len(figure.axes[0].get_yticks()) < 150
    assert "one of" in figure.axes[0].get_ylabel()


@pytest.mark.parametrize("bins", [AUDIO.n_mels, AUDIO.n_linear])
def test_spectrograms_share_one_scale_and_name_hertz(bins: int) -> None:
    true = torch.randn(50, bins)
    figure = plotting.spectrogram_pair(true[:40] + 1.0, true, AUDIO)
    panels = figure.axes[:3]
    assert panels[0].images[0].get_clim() == panels[1].images[0].get_clim()
    assert panels[2].get_xlim() == pytest.approx((0, 50 / AUDIO.frame_rate))
    assert all("Hz" in panel.get_ylabel() for panel in panels)
    one_neper = 20 / np.log(10)
    np.testing.assert_allclose(panels[2].images[0].get_array(), one_neper, rtol=1e-4)
    assert f"{one_neper:.1f} dB" in panels[2].get_title()


def test_a_tone_lies_at_its_frequency_on_the_mel_axis() -> None:
    from utils.audio import Features

    wav = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / AUDIO.sample_rate)
    mel, _ = Features(AUDIO)(wav[None])
    panel = plotting.spectrogram_pair(mel[0], mel[0], AUDIO).axes[0]
    loudest = int(np.asarray(panel.images[0].get_array())[:, 30].argmax()) + 0.5
    ticks = dict(
        zip((t.get_text() for t in panel.get_yticklabels()), panel.get_yticks(), strict=True)
    )
    assert abs(loudest - ticks["1000"]) <= 1.0


def test_an_inpainters_losses_are_drawn_by_noise_level() -> None:
    lines = [
        {"step": s, "time": 0.0, "train/sigma_0.03": 0.1 * s, "train/sigma_2": 0.2 * s}
        for s in range(1, 31)
    ]
    validation = {"validation/sigma_0.03": 0.3, "validation/sigma_2": 0.5}
    lines += [{"step": s, **validation, "validation/shuffle_gap": 1e-3 * s} for s in (10, 20, 30)]
    train, checked, gap, names = noise_level_curves(lines).axes
    assert [line.get_label() for line in train.lines] == ["σ = 0.03", "σ = 2"]  # by level, not name
    means = train.lines[0].get_ydata()
    assert len(means) == 30 - 8 and means[0] == pytest.approx(0.1 * 5)  # of the steps 1 to 9
    assert list(checked.lines[1].get_ydata()) == [0.5] * 3
    assert list(gap.lines[0].get_ydata()) == pytest.approx([0.01, 0.02, 0.03])
    legend = [text.get_text() for text in names.get_legend().get_texts()]
    assert legend == ["σ = 0.03", "σ = 2"]
    assert checked.get_legend() is None  # beside the curves, not over them
    with pytest.raises(ValueError, match="not a run of an inpainter"):
        noise_level_curves(lines[:3])


def test_curves_come_from_stats(tmp_path: Path) -> None:
    lines = [
        {
            "step": s,
            "time": 0.0,
            "train/loss": 1 / s,
            "train/learning_rate": 1e-3,
            "alpha/encoder": s,
        }
        for s in (1, 2, 3)
    ] + [{"step": 3, "time": 0.0, "validation/loss": 0.5, "validation/score": None}]
    figure = learning_curves(lines)
    titles = {axes.get_title() for axes in visible(figure)}
    assert titles == {"loss", "learning rate"}
    loss = next(axes for axes in figure.axes if axes.get_title() == "loss")
    assert [len(line.get_xdata()) for line in loss.lines] == [3, 1]
    alphas = alpha_curves(lines).axes[0]
    assert list(alphas.lines[0].get_ydata()) == [1, 2, 3]
    comparison = learning_curves({"a": lines, "b": lines})
    assert len(comparison.axes[0].lines) == 4
    path = plotting.save_figure(figure, tmp_path / "png" / "curves.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="alpha"):
        alpha_curves(lines[3:])
    with pytest.raises(FileNotFoundError, match=r"stats\.jsonl"):
        learning_curves(tmp_path)


def test_four_panels_are_drawn_of_many_scalars_and_all_on_request() -> None:
    names = ("stop", "mel", "loss", "guided", "structure", "onset", "gradient_norm")
    lines = [{"step": s, "time": 0.0, **{f"train/{n}": 1.0 for n in names}} for s in (1, 2)]
    lines += [{"step": 2, "time": 0.0, "validation/score": 0.5}]
    titles = [axes.get_title() for axes in visible(learning_curves(lines))]
    assert titles == ["loss", "score", "mel", "guided"]
    figure = learning_curves(lines, panels=0)
    assert len(visible(figure)) == len(names) + 1
    odd = visible(learning_curves(lines, panels=3))  # each column ends with the steps
    assert [bool(axes.get_xlabel()) for axes in odd] == [False, True, True]


def test_pictures_fit_a_page() -> None:
    tracks = {str(number): torch.randn(8000) for number in range(7)}
    grid = plotting.track_picture(tracks, AUDIO, {"1": [(0.1, 0.2)]})
    assert len(visible(grid)) == 7 and grid.get_figheight() * 120 <= 700
    loudest = [axes.images[0].get_array().max() for axes in visible(grid)]
    assert max(loudest) == pytest.approx(0) and min(loudest) < 0  # one scale for all


def test_masked_regions_are_marked_in_seconds() -> None:
    figure = plotting.masked_waveform(torch.zeros(32000), AUDIO, [(0.5, 1.0)], "a gap")
    region = figure.axes[0].patches[0]
    assert (region.get_x(), region.get_width()) == pytest.approx((0.5, 0.5))
    assert figure.axes[1].get_xlim() == pytest.approx((0, 2.0))


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(3, 4\)"):
        plotting.attention_grid([torch.zeros(3, 4)])
    with pytest.raises(ValueError, match="expected"):
        plotting.spectrogram_pair(torch.zeros(3, 4), torch.zeros(3, 5), AUDIO)
    with pytest.raises(ValueError, match=r"\(2, 8\)"):
        plotting.masked_waveform(torch.zeros(2, 8), AUDIO)


def test_pyplot_and_its_global_state_stay_away() -> None:
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )
