"""The inpainter's U-Net: its start, its lengths, its context, its precision, its size."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import TINY as HP
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from hyperparams import Audio, Hyperparams, UNet
from inpainter.context import Context, ContextEncoder
from inpainter.diffusion import Denoiser
from inpainter.spectral import ModifiedCosineTransform, NoiseShape, SpectralUNet1d
from inpainter.unet import (
    Conv1d,
    ConvTranspose1d,
    GroupNorm,
    SelfAttention,
    TransformerBlock1d,
    UNet1d,
    as_row,
)
from legacy.patches import PatchUNet1d
from utils import config

torch.set_num_threads(1)
TINY = HP.unet
SPECTRAL = replace(
    TINY,
    mdct=64,
    multipliers=(1, 1, 2),
    factors=(4, 2),
    num_blocks=(1, 1),
    attentions=(False, True),
)
AT_THE_HOP = replace(  # the context enters before the levels
    TINY,
    mdct=256,
    noise_width=8,
    multipliers=(1, 1),
    factors=(2,),
    num_blocks=(1,),
    attentions=(True,),
)
SHAPED = replace(AT_THE_HOP, mdct=512, noise_exponent=0.6)  # two hops to a position
EACH = pytest.mark.parametrize(
    "hp",
    [TINY, SPECTRAL, AT_THE_HOP, SHAPED],
    ids=["patches", "mdct", "mdct_at_the_hop", "mdct_shaped"],
)
SAMPLES = 1024  # two positions at the deepest level of TINY
FRAMES = SAMPLES // 256


def unet_of(hp: UNet, **sizes: int) -> UNet1d:
    """The network of a section, by its front end."""
    return (SpectralUNet1d if hp.mdct else PatchUNet1d)(hp, **sizes)


def make_unet(hp: UNet = TINY, awake: bool = True) -> UNet1d:
    """A tiny network; awake: nothing is zero any more, as after some training."""
    torch.manual_seed(0)
    network = unet_of(hp, num_phonemes=30).eval()
    if awake:
        for parameter in network.parameters():
            if not parameter.detach().any():
                nn.init.normal_(parameter, std=0.2)
    return network


def make_input(batch: int = 2, samples: int = SAMPLES) -> tuple[torch.Tensor, torch.Tensor]:
    """A signal with its mask, and a noise level."""
    generator = torch.Generator().manual_seed(1)
    signal = torch.randn(batch, 2, samples, generator=generator)
    is_known = (torch.rand(batch, 2, samples, generator=generator) < 0.5).float()
    return torch.cat([signal, is_known], 1), torch.linspace(-1.5, 0.2, batch)


def make_context(batch: int = 2, frames: int = FRAMES, samples: int = SAMPLES) -> Context:
    """All parts."""
    generator = torch.Generator().manual_seed(2)
    return Context(
        mel=torch.randn(batch, frames, 80, generator=generator),
        phoneme=torch.randint(0, 30, (batch, frames), generator=generator),
        pitch=60 + 5 * torch.rand(batch, frames, generator=generator),
        voicing=torch.rand(batch, frames, generator=generator),
        wav=torch.randn(batch, samples, generator=generator),
    )


def count_parameters(hp: UNet) -> int:
    """Parameters of a network, without making their memory."""
    with torch.device("meta"):
        return sum(p.numel() for p in unet_of(hp, num_phonemes=80).parameters())


def test_sizes_of_the_presets() -> None:
    assert count_parameters(config.preset("legacy").unet) == 101_575_520
    # In half precision under 20 MB.
    assert 9e6 < count_parameters(config.preset("small").unet) < 10e6
    assert count_parameters(TINY) < 0.3e6


def test_denoiser_starts_as_c_skip_times_x() -> None:
    denoiser = Denoiser(make_unet(awake=False), sigma_data=0.1)
    x = torch.randn(2, 2, SAMPLES)
    sigma = torch.tensor([0.05, 1.0])
    s = sigma[:, None, None]
    with torch.no_grad():
        denoised = denoiser(x, sigma, None, make_context())
    torch.testing.assert_close(denoised, x * 0.1**2 / (s**2 + 0.1**2))


@EACH
@torch.no_grad()
def test_any_length_and_padding_is_known_silence(hp: UNet) -> None:
    network = make_unet(hp)
    x, c_noise = make_input(samples=700)
    out = network(x, c_noise, make_context(frames=3, samples=700))
    assert out.shape == (2, 2, 700)
    silence = torch.cat([torch.zeros(2, 2, 324), torch.ones(2, 2, 324)], 1)
    padded = torch.cat([x, silence], 2)
    torch.testing.assert_close(network(x, c_noise), network(padded, c_noise)[:, :, :700])


@EACH
@torch.no_grad()
def test_an_item_does_not_depend_on_its_batch(hp: UNet) -> None:
    network, context = make_unet(hp), make_context()
    x, c_noise = make_input()
    together = network(x, c_noise, context)
    alone = network(x[1:], c_noise[1:], context.map(lambda part: part[1:]))
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-5)


@EACH
@torch.no_grad()
def test_every_input_is_used(hp: UNet) -> None:
    network, context = make_unet(hp), make_context()
    x, c_noise = make_input()
    out = network(x, c_noise, context)
    louder = x.clone()
    louder[:, 0] *= 1.1
    forgotten = x.clone()
    forgotten[:, 2:] = 0
    others = [
        network(louder, c_noise, context),
        network(forgotten, c_noise, context),
        network(x, c_noise + 0.1, context),
    ]
    others += [network(x, c_noise, context.without(part)) for part in Context.PARTS]
    for other in others:
        assert (other - out).abs().mean() > 1e-4 * out.abs().mean()


@torch.no_grad()
@pytest.mark.parametrize("part", Context.PARTS)
@EACH
def test_a_dropped_part_is_a_missing_part_for_that_item_only(hp: UNet, part: str) -> None:
    network, context = make_unet(hp), make_context()
    x, c_noise = make_input()
    is_dropped = {part: torch.tensor([True, False])}
    dropped = network(x, c_noise, replace(context, is_dropped=is_dropped))
    missing = network(x, c_noise, context.without(part))
    whole = network(x, c_noise, context)
    torch.testing.assert_close(dropped[0], missing[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dropped[1], whole[1], rtol=1e-4, atol=1e-5)


@EACH
@torch.no_grad()
def test_no_context_is_every_part_missing(hp: UNet) -> None:
    network = make_unet(hp)
    x, c_noise = make_input()
    torch.testing.assert_close(network(x, c_noise), network(x, c_noise, make_context().without()))


def test_context_acts_where_it_stands_in_time() -> None:
    torch.manual_seed(0)
    encoder = ContextEncoder(16, (4,), n_mels=80, num_phonemes=30, num_pitches=128)
    nn.init.normal_(encoder.to_film.weight)
    context = make_context(1, 40)
    context.mel.requires_grad_()
    scale, shift = encoder(context, 1, 40)[0]
    (scale[0, ..., 20].sum() + shift[0, ..., 20].sum()).backward()
    reached = context.mel.grad[0].abs().sum(1).nonzero().flatten()
    assert reached.min() == 17 and reached.max() == 23  # kernels of 5 and 3 frames


def test_pitch_between_two_notes() -> None:
    encoder = ContextEncoder(16, (4,), n_mels=80, num_phonemes=30, num_pitches=128)
    notes = encoder.embed("pitch", torch.tensor([[60, 61, 500]]))[0]
    between = encoder.embed("pitch", torch.tensor([[60.25]]))[0, 0]
    torch.testing.assert_close(between, 0.75 * notes[0] + 0.25 * notes[1])
    torch.testing.assert_close(notes[2], encoder.pitch.weight[127])


def test_context_of_a_wrong_size_is_named() -> None:
    network = make_unet()
    x, c_noise = make_input()
    with pytest.raises(ValueError, match=r"context\.mel is \(2, 5, 80\).* 4 frames"):
        network(x, c_noise, make_context(frames=5))
    with pytest.raises(ValueError, match="no context part"):
        make_context().without("lyrics")
    with pytest.raises(ValueError, match="2 channels, expected 4"):
        network(x[:, :2], c_noise)
    bare = make_unet(replace(TINY, context_width=0))
    with pytest.raises(ValueError, match="has mel, phoneme, pitch, voicing, but"):
        bare(x, c_noise, make_context())
    with pytest.raises(ValueError, match=r"context\.wav is \(2, 700\).* 1024 samples"):
        network(x, c_noise, make_context(samples=700))
    with pytest.raises(ValueError, match="waveform of a draft"):
        make_unet(replace(TINY, draft_input=False))(x, c_noise, make_context())


def test_impossible_networks_are_named() -> None:
    with pytest.raises(ValueError, match=r"no level .* stride 200.*\[64, 256, 512\]"):
        unet_of(TINY, hop_length=200)
    with pytest.raises(ValueError, match="stride 300"):
        Hyperparams(audio=Audio(hop_length=300, win_length=600))
    with pytest.raises(ValueError, match=r"unet\.num_blocks has 2 entries, but 3 factors"):
        replace(TINY, num_blocks=(1, 1))
    with pytest.raises(ValueError, match=r"unet\.groups = 5"):
        replace(TINY, groups=5)


@torch.no_grad()
def test_group_normalisation_keeps_its_statistics_in_float32() -> None:
    norm = GroupNorm(2, 4)
    x = 300 + torch.randn(1, 4, 5000)  # bfloat16 holds 300 in steps of 2
    expected = F.group_norm(x, 2)
    torch.testing.assert_close(norm(x), expected, rtol=0, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert (norm(x) - expected).abs().max() < 1e-4


@EACH
@torch.no_grad()
def test_bfloat16_follows_float32(hp: UNet) -> None:
    network, context = make_unet(hp), make_context()
    x, c_noise = make_input()
    full = network(x, c_noise, context)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(x, c_noise, context)
    assert half.isfinite().all()
    assert (half - full).norm() < 0.05 * full.norm()


@torch.no_grad()
def test_attention_is_softmax_attention_and_order_blind() -> None:
    torch.manual_seed(0)
    attention = SelfAttention(12, heads=3, head_width=5)
    x = torch.randn(2, 7, 12)
    normed = attention.norm(x)
    query, key, value = (
        part.reshape(2, 7, 3, 5).transpose(1, 2)
        for part in (attention.to_query(normed), *attention.to_key_value(normed).chunk(2, 2))
    )
    weights = (query @ key.transpose(2, 3) / 5**0.5).softmax(3)
    expected = attention.project((weights @ value).transpose(1, 2).reshape(2, 7, 15))
    torch.testing.assert_close(attention(x), attention.project_norm(expected))
    block = TransformerBlock1d(12, heads=3, head_width=5, multiplier=2)
    signal, order = as_row(x.transpose(1, 2)), torch.randperm(7)  # (B, C, 1, S)
    torch.testing.assert_close(block(signal)[..., order], block(signal[..., order]))


def test_rows_are_convolved_and_normalised_as_signals_are() -> None:
    """The layout is for speed: values and gradients, also of the first layer, are torch's."""
    torch.manual_seed(0)
    x, probe = torch.randn(2, 6, 40), torch.randn(2, 4, 1, 20)
    down, up = Conv1d(6, 8, 5, stride=2, padding=2), ConvTranspose1d(8, 4, 2, padding=1)
    norm = GroupNorm(2, 6)
    rows = up(down(norm(as_row(x))))
    (rows * probe[..., : rows.shape[3]]).sum().backward()
    found = [p.grad.clone() for p in (*norm.parameters(), *down.parameters(), *up.parameters())]
    for module in (norm, down, up):
        module.zero_grad()
    h = F.group_norm(x, 2, norm.weight, norm.bias)
    h = nn.Conv1d.forward(down, h)
    h = nn.ConvTranspose1d.forward(up, h)
    torch.testing.assert_close(rows.squeeze(2), h)
    (h * probe[:, :, 0, : h.shape[2]]).sum().backward()
    expected = [p.grad for p in (*norm.parameters(), *down.parameters(), *up.parameters())]
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_the_mdct_is_orthogonal_and_begins_and_ends_with_the_signal() -> None:
    transform = ModifiedCosineTransform(8)
    matrix = transform(torch.eye(40)).flatten(1)  # (S, P·N)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(40), atol=1e-5, rtol=0)
    x = torch.randn(2, 3, 640, generator=torch.Generator().manual_seed(0))
    coefficients = transform(x)
    assert coefficients.shape == (2, 3, 80, 8)
    torch.testing.assert_close(transform.inverse(coefficients), x, atol=1e-5, rtol=0)


def test_the_mdct_finds_frequencies() -> None:
    """A sine of the k-th band has its power in the bands around k, as torch's own FFT says."""
    size, band = 32, 12
    tone = torch.cos(torch.pi * (band + 0.5) / size * torch.arange(2048))
    power = ModifiedCosineTransform(size)(tone).square().mean(0)  # (N,)
    assert int(power.argmax()) == band
    assert power[band - 2 : band + 3].sum() > 0.98 * power.sum()


def test_the_power_of_a_steady_tone_is_steady() -> None:
    """Its coefficients come and go with its phase; noise of variance 1 has the power 1."""
    transform = ModifiedCosineTransform(64)
    coefficients, power = transform.with_power(torch.cos(0.3 * torch.arange(4096)))
    torch.testing.assert_close(coefficients, transform(torch.cos(0.3 * torch.arange(4096))))
    loudest = int(power[8].argmax())
    assert power[2:-2, loudest].std() < 1e-3 * power[8, loudest]
    assert coefficients[2:-2, loudest].square().std() > 0.3 * power[8, loudest]
    noise = torch.randn(65536, generator=torch.Generator().manual_seed(0))
    assert transform.with_power(noise)[1].mean() == pytest.approx(1.0, abs=0.01)


def test_shaped_noise_is_as_loud_as_the_draft_and_can_be_whitened() -> None:
    shape = NoiseShape(ModifiedCosineTransform(64), 256, exponent=1.0, gain=1.0, floor=1e-6)
    generator = torch.Generator().manual_seed(0)
    loudness = torch.tensor([1.0, 1e-2]).repeat_interleave(4096)
    draft = loudness * torch.randn(3, 8192, generator=generator)
    gains = shape.gains(shape.power(draft[:, None]), torch.tensor([True, True, False]))
    noise = torch.randn(3, 2, 8192, generator=generator)
    shaped = shape(noise, gains)
    assert torch.equal(shaped[:, 1], noise[:, 1])  # the accompaniment's
    torch.testing.assert_close(shaped[2], noise[2], atol=1e-5, rtol=0)  # none: white at first
    level = shaped[:2, 0].unflatten(1, (2, -1))[..., 256:-256].square().mean(2).sqrt()
    torch.testing.assert_close(level, torch.tensor([[1.0, 1e-2]] * 2), rtol=0.1, atol=0)
    torch.testing.assert_close(shape(shaped, gains.reciprocal()), noise, atol=1e-4, rtol=0)
    twice = shape(shape(noise, gains), gains)  # L = Lᵀ
    torch.testing.assert_close(shape(noise, gains.square()), twice, atol=1e-4, rtol=0)
    # Padded to the stride: what is near its end differs.
    alone = shape.gains(shape.power(draft[1:2, None, :8190]))
    torch.testing.assert_close(alone[..., :-2, :], gains[1:2, :, :-2], rtol=1e-4, atol=1e-6)


def test_without_a_draft_noise_has_the_mean_spectrum_of_the_vocals() -> None:
    """It is measured, it goes with the weights, and white noise is as loud as before on average."""
    shape = NoiseShape(ModifiedCosineTransform(64), 256, exponent=1.0, gain=1.0, floor=0.0)
    noise = torch.randn(8, 65536, generator=torch.Generator().manual_seed(0))
    dull = noise[:, 1:] + 0.9 * noise[:, :-1]  # |1 + 0.9 exp(-iw)|^2
    shape.measure(dull[:, :65280])
    frequency = torch.pi * (torch.arange(64) + 0.5) / 64
    expected = 1.81 + 1.8 * frequency.cos()
    torch.testing.assert_close(shape.mean_power, expected, rtol=0.1, atol=0.03)
    made = shape(noise[:, None, :65536], shape.mean_power.sqrt())[:, :, 64:-64]
    level = shape.transform.with_power(made)[1].mean((0, 1, 2))
    torch.testing.assert_close(level[1:-1], shape.mean_power[1:-1], rtol=0.1, atol=0.03)
    other = NoiseShape(ModifiedCosineTransform(64), 256, exponent=1.0, gain=1.0, floor=0.0)
    other.load_state_dict(shape.state_dict())
    assert torch.equal(other.mean_power, shape.mean_power)


def test_a_network_is_told_the_noise_that_its_context_shapes() -> None:
    """In units of the noise a loud and a soft place look alike: D is as good at both."""
    hp = replace(AT_THE_HOP, noise_exponent=1.0, noise_gain=1.0)
    network = make_unet(hp, awake=False)
    denoiser = Denoiser(network, 0.1, noise_shape=network.noise_shape)
    loudness = torch.tensor([0.3, 3e-3]).repeat_interleave(4096)
    wav = loudness * torch.randn(2, 8192, generator=torch.Generator().manual_seed(0))
    context = Context(wav=wav, is_dropped={"wav": torch.tensor([False, True])})
    colour = denoiser.noise_law.colour(context, 2)
    noise = 0.1 * torch.randn(2, 2, 8192, generator=torch.Generator().manual_seed(1))
    spectra = []

    def keep(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        spectra.append(inputs[2])

    network.spectral_unpatch.register_forward_pre_hook(keep)
    with torch.no_grad():
        denoised = denoiser(colour(noise), torch.tensor([0.1, 0.1]), None, context)
    seen = spectra[0][:, :2].unflatten(2, (2, -1)).square().mean((3, 4)).sqrt()  # (B, C, 2)
    torch.testing.assert_close(seen, torch.full_like(seen, 0.5**0.5), rtol=0.1, atol=0)
    torch.testing.assert_close(denoised, 0.5 * colour(noise))  # c_skip
    untold = denoiser.noise_law.colour(Context(), 2)
    assert not untold.has_draft.any()
    torch.testing.assert_close(untold(noise), noise)  # white until measured
    assert Denoiser(make_unet(AT_THE_HOP), 0.1).noise_law.colour(context, 2) is None


def test_products_of_the_legacy_network() -> None:
    counter = FlopCounterMode(display=False)
    with torch.device("meta"), torch.no_grad(), counter:
        unet_of(config.preset("legacy").unet)(torch.zeros(1, 2, 81920), torch.zeros(1))
    assert counter.get_total_flops() == pytest.approx(19.6e9, rel=0.005)


@EACH
def test_it_learns_what_the_noise_hides(hp: UNet) -> None:
    network = make_unet(hp, awake=False).train()
    generator = torch.Generator().manual_seed(3)
    tone = torch.sin(torch.arange(SAMPLES) * 0.1).expand(2, 2, SAMPLES)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        noisy = tone + torch.randn(tone.shape, generator=generator)
        x = torch.cat([noisy, torch.zeros_like(noisy)], 1)
        loss = F.mse_loss(network(x, torch.zeros(2)), tone)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
