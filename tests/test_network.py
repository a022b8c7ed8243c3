"""Properties of TransformerTTS and PostNet: causality, padding, batching, caching, the prior."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch._dynamo
from no_waiting import NoReading
from tiny import TINY

from module import HARMONICS_STEP, LOWEST_HARMONICS, ConvNextBlock, harmonic_mels, symbol_shares
from music.inputs import ScoreBatch
from network import PostNet, TransformerTTS, _DecodingState
from utils import kernels

N_MELS, N_LINEAR, NUM_SYMBOLS, FRAME = 20, 65, 30, 0.016


@pytest.fixture(params=[(1, True), (2, True), (3, True), (3, False)])
def network(request: pytest.FixtureRequest) -> TransformerTTS:
    torch.manual_seed(0)
    r, history = request.param
    hp = replace(TINY.transformer, reduction_factor=r, history=history)
    network = TransformerTTS(hp, NUM_SYMBOLS, N_MELS, FRAME).eval()
    with torch.no_grad():  # a stop head that never fires: lengths are the test's business
        network.to_stop.bias.fill_(-20.0)
        network.mel_postnet.out.weight.normal_(std=0.2)  # it begins as nothing
        for block in getattr(network.mel_postnet, "blocks", ()):  # and these as the identity
            block.out.weight.normal_(std=0.2)
    return network


def keep_masks(network: TransformerTTS, seeds: list[int], steps: int) -> torch.Tensor | None:
    """The dropout masks that `generate` draws for these seeds, (B, steps, 2, hidden)."""
    if network.decoder_prenet is None:
        return None
    masks = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        blocks = [network.decoder_prenet.draw_keep(64, generator) for _ in range(-(-steps // 64))]
        masks.append(torch.cat(blocks)[:steps])
    return torch.stack(masks)


def random_score(symbols: torch.Tensor, frames: int) -> ScoreBatch:
    """Notes that share the time equally among the symbols of each item."""
    batch, count = symbols.shape
    edges = torch.linspace(0, frames * FRAME, count + 1).expand(batch, -1)
    interval = torch.stack([edges[:, :-1], edges[:, 1:]], dim=-1)
    return ScoreBatch(
        pitch=torch.randint(50, 70, (batch, count)),
        duration=interval[..., 1] - interval[..., 0],
        position=torch.randint(0, 4, (batch, count)),
        slur=torch.randint(0, 2, (batch, count)),
        interval=interval,
        frame_pitch=torch.randint(50, 70, (batch, frames)),
        frame_position=torch.rand(batch, frames),
    )


def test_decoder_is_causal_by_gradient(network: TransformerTTS) -> None:
    """Frames of decoder step k depend on the history before their group and on nothing after."""
    if not network.hp.history:
        pytest.skip("a network without a history")
    r = network.reduction_factor
    frames, step = 8 * r, 4
    history = torch.randn(1, frames, N_MELS, requires_grad=True)
    symbols = torch.randint(1, NUM_SYMBOLS, (1, 7))
    out = network(
        symbols,
        torch.tensor([7]),
        history,
        torch.tensor([frames]),
        keep=torch.ones(1, 8, 2, network.hp.prenet_width),
    )
    out.mel_before[:, step * r : (step + 1) * r].sum().backward()
    seen = history.grad.abs().sum(-1)[0] > 0
    assert not seen[step * r :].any()
    assert seen[: step * r].all()


def test_without_a_history_no_frame_hears_another(network: TransformerTTS) -> None:
    """Only the length of the history counts, and the mel postnet looks both ways."""
    if network.hp.history:
        pytest.skip("a network with a history")
    symbols = torch.randint(1, NUM_SYMBOLS, (1, 7))
    given = symbols, torch.tensor([7]), torch.randn(1, 30, N_MELS), torch.tensor([30])
    score = random_score(symbols, 30)
    score.frame_position.requires_grad_()
    out = network(*given, score)
    other = network(given[0], given[1], 5.0 * torch.randn(1, 30, N_MELS), given[3], score)
    assert torch.equal(out.mel, other.mel)
    (gradient,) = torch.autograd.grad(out.mel[:, 15].sum(), score.frame_position)
    assert (gradient[0, 13:18].abs() > 0).all()


def predicted_by(
    network: TransformerTTS,
    symbols: torch.Tensor,
    lengths: torch.Tensor,
    score: ScoreBatch | None = None,
) -> torch.Tensor | None:
    """The times that the network predicts for its symbols, (B, N, 2), None when it knows none."""
    memory, is_padding, _ = network.encode(symbols, lengths, score)
    phoneme_times = network.predicted_times(memory, is_padding, score)
    return None if phoneme_times is None else phoneme_times.detach()


MODES = ["free", "durations", "score", "sung times"]


def learn_times(network: TransformerTTS, mode: str) -> None:
    """Let a network know times of a kind, and predict other ones than those of the score."""
    network.knows_durations.fill_(mode == "durations")
    network.knows_onsets.fill_(mode == "sung times")
    with torch.no_grad():
        network.duration_out.bias.fill_(2.5)  # a dozen frames for a symbol
        network.onset_shift_out.weight.normal_(std=0.5)


def two_phrases(
    network: TransformerTTS, mode: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, ScoreBatch | None]:
    """Symbols, their lengths, frames and score of two phrases, for a network that knows a mode."""
    symbols = torch.randint(1, NUM_SYMBOLS, (2, 9))
    symbols[1, 6:] = 0
    score = random_score(symbols, 211) if mode in ("score", "sung times") else None
    learn_times(network, mode)
    return symbols, torch.tensor([9, 6]), torch.tensor([211, 150]), score


@pytest.mark.parametrize("mode", MODES)
def test_cached_decoding_equals_full_pass(network: TransformerTTS, mode: str) -> None:
    symbols, lengths, frames, score = two_phrases(network, mode)
    phoneme_times = predicted_by(network, symbols, lengths, score)
    if mode == "sung times":
        assert (phoneme_times[..., 0] - score.interval[..., 0]).abs().max() > FRAME
    out = network.generate(symbols, lengths, [3, 4], frames, score=score, need_weights=True)
    steps = -(-out.mel_before.shape[1] // network.reduction_factor)
    full = network(
        symbols,
        lengths,
        out.mel_before,
        out.mel_lengths,
        score,
        phoneme_times,
        keep=keep_masks(network, [3, 4], steps),
        need_weights=True,
    )
    for i, length in enumerate(out.mel_lengths.tolist()):
        valid = -(-length // network.reduction_factor)
        torch.testing.assert_close(out.mel[i, :length], full.mel[i, :length], atol=1e-5, rtol=1e-5)
        for cached, whole in zip(out.attention.cross, full.attention.cross, strict=True):
            torch.testing.assert_close(
                cached[i, :, :valid], whole[i, :, :valid], atol=1e-5, rtol=1e-5
            )
    if mode == "durations":
        assert out.ended_by == ["durations", "durations"]
        expected = (phoneme_times[..., 1].amax(1) / FRAME).round().tolist()
        assert out.mel_lengths.tolist() == expected
    else:
        assert out.mel_lengths.tolist() == [211, 150]


@pytest.mark.parametrize("mode", MODES)
def test_a_cache_of_fixed_size_decodes_the_same(network: TransformerTTS, mode: str) -> None:
    symbols, lengths, frames, score = two_phrases(network, mode)
    if mode == "free":  # one item ends by the stop head, between two looks at it
        with torch.no_grad():
            network.to_stop.weight.normal_(std=2.0)
            network.to_stop.bias.fill_(-3.0)
    growing, static = (
        network.generate(
            *(symbols, lengths, [3, 4], frames, torch.tensor([37, 37])),
            score=score,
            need_weights=True,
            static_cache=is_static,
        )
        for is_static in (False, True)
    )
    assert growing.ended_by == static.ended_by
    assert ("stop head" in growing.ended_by) == (mode == "free")
    assert torch.equal(growing.mel_lengths, static.mel_lengths)
    torch.testing.assert_close(growing.mel, static.mel, atol=1e-5, rtol=1e-5)
    steps = -(-growing.mel.shape[1] // network.reduction_factor)
    for a, b in zip(growing.attention.cross, static.attention.cross, strict=True):
        torch.testing.assert_close(a[:, :, :steps], b[:, :, :steps], atol=1e-5, rtol=1e-5)


def test_a_static_step_is_one_graph_that_reads_nothing() -> None:
    """Neither its shapes nor its code depend on the position: a GPU can replay it."""
    torch.manual_seed(0)
    network = TransformerTTS(TINY.transformer, NUM_SYMBOLS, N_MELS, FRAME).eval()
    symbols = torch.randint(1, NUM_SYMBOLS, (2, 9))
    inputs = symbols, torch.tensor([9, 6]), [3, 4], random_score(symbols, 400), True
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    with torch.inference_mode():
        plain, compiled = (_DecodingState(network, *inputs) for _ in range(2))
        for state in (plain, compiled):
            state.prepare(100, need_weights=True)
        step = torch.compile(compiled.static_step, backend="eager", fullgraph=True)
        for _ in range(5):
            with NoReading():
                frames, stop, _ = plain.static_step()
            same, again, _ = step()
            torch.testing.assert_close(frames, same)
            torch.testing.assert_close(stop, again)
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]
    assert plain.position.item() == compiled.position.item() == 5


@pytest.mark.parametrize("mode", MODES)
def test_an_item_does_not_depend_on_its_batch(network: TransformerTTS, mode: str) -> None:
    symbols = torch.randint(1, NUM_SYMBOLS, (3, 12))
    lengths, frames = torch.tensor([12, 5, 8]), torch.tensor([60, 25, 90])
    symbols[1, 5:] = symbols[2, 8:] = 0
    learn_times(network, mode)
    score = random_score(symbols, 90) if mode in ("score", "sung times") else None
    phoneme_times = predicted_by(network, symbols, lengths, score)
    if score is not None:  # a collated batch holds no note past an item's end
        is_past = torch.arange(90)[None] >= frames[:, None]
        score.frame_pitch[is_past], score.frame_position[is_past] = 0, 0.0
    together = network.generate(symbols, lengths, [7, 8, 9], frames, score=score)
    history = torch.randn(3, 90, N_MELS)
    keep = keep_masks(network, [7, 8, 9], -(-90 // network.reduction_factor))
    forced = network(symbols, lengths, history, frames, score, phoneme_times, keep=keep)
    for i, (n, t) in enumerate(zip(lengths.tolist(), frames.tolist(), strict=True)):
        own = None if score is None else score.select(i, n, t)
        one = symbols[i : i + 1, :n], lengths[i : i + 1]
        alone = network.generate(*one, [7 + i], frames[i : i + 1], score=own)
        assert together.mel_lengths[i] == alone.mel_lengths[0]
        sung = int(alone.mel_lengths[0])
        torch.testing.assert_close(together.mel[i, :sung], alone.mel[0], atol=1e-5, rtol=1e-4)
        steps = -(-t // network.reduction_factor)
        single = network(
            *one,
            history[i : i + 1, :t],
            frames[i : i + 1],
            own,
            None if phoneme_times is None else phoneme_times[i : i + 1, :n],
            keep=None if keep is None else keep[i : i + 1, :steps],
        )
        torch.testing.assert_close(forced.mel[i, :t], single.mel[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("history", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_items_in_a_row_are_the_padded_batch(
    mode: str, history: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU padding is left out: outputs and gradients are those of the padded batch."""
    torch.manual_seed(0)
    hp = replace(TINY.transformer, reduction_factor=2, voices=2, contour=True, postnet_kernel=5)
    hp = replace(hp, history=history)
    network = TransformerTTS(hp, NUM_SYMBOLS, N_MELS, FRAME).eval()
    with torch.no_grad():
        for weight in (network.mel_postnet.out.weight, network.voice.weight):
            weight.normal_(std=0.2)
        network.contour.weight.normal_(std=0.2)
        for block in getattr(network.mel_postnet, "blocks", ()):
            block.out.weight.normal_(std=0.2)
    symbols, lengths = torch.randint(1, NUM_SYMBOLS, (3, 12)), torch.tensor([12, 5, 8])
    frames, history = torch.tensor([60, 25, 90]), torch.randn(3, 90, N_MELS)
    learn_times(network, mode)
    score = random_score(symbols, 90) if mode in ("score", "sung times") else None
    if score is not None:
        score = replace(score, frame_contour=torch.randn(3, 90, 2))
    times = predicted_by(network, symbols, lengths, score)
    times = None if times is None else times.detach()
    keep = keep_masks(network, [7, 8, 9], 45)
    is_valid = torch.arange(90) < frames[:, None]  # (B, T)
    steps = is_valid[:, ::2]
    found = []
    for rows in (True, False):
        if not rows:
            monkeypatch.setattr("network.ragged", lambda *_, **__: None)
        network.zero_grad()
        voice = torch.tensor([0, 1, 2])
        arguments = (symbols, lengths, history, frames, score, times, keep)
        out = network(*arguments, guided=True, voice=voice)
        values = [out.mel * is_valid[..., None], out.mel_before * is_valid[..., None]]
        values += [out.stop_logits * steps, out.log_durations, out.onset_shifts]
        values += [weights * steps[:, None, :, None] for weights in out.guided]
        sum(value.square().mean() for value in values).backward()
        found.append((values, {name: p.grad for name, p in network.named_parameters()}))
    for a, b in zip(found[0][0], found[1][0], strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(gradient, found[1][1][name], atol=1e-5, rtol=1e-4)


def test_dropout_of_the_prenet_is_seeded_and_never_sleeps(network: TransformerTTS) -> None:
    if not network.hp.history:
        pytest.skip("a network without a history")
    one = torch.randint(1, NUM_SYMBOLS, (1, 5)), torch.tensor([5])
    limit = torch.tensor([30])
    mel = [network.generate(*one, [seed], limit).mel for seed in (1, 1, 2)]
    assert torch.equal(mel[0], mel[1])
    assert not torch.allclose(mel[0], mel[2])


def test_the_stop_head_ends_items_one_by_one(network: TransformerTTS) -> None:
    symbols, lengths = torch.randint(1, NUM_SYMBOLS, (2, 6)), torch.tensor([6, 6])
    low, high = torch.tensor([12, 24]), torch.tensor([60, 60])
    with torch.no_grad():
        network.to_stop.bias.fill_(20.0)  # wants to stop at once: min_frames must hold it
    out = network.generate(symbols, lengths, [0, 1], high, min_frames=low)
    assert out.mel_lengths.tolist() == [12, 24]
    assert out.ended_by == ["stop head", "stop head"]
    with torch.no_grad():
        network.to_stop.bias.fill_(-20.0)
    out = network.generate(symbols, lengths, [0, 1], high, min_frames=low)
    assert out.mel_lengths.tolist() == [60, 60]
    assert out.ended_by == ["maximum", "maximum"]


def test_the_score_prior_holds_attention_on_the_sung_symbol(network: TransformerTTS) -> None:
    """With intervals of half a second, w = 0.12 s leaves no weight on symbols a second away."""
    symbols = torch.randint(1, NUM_SYMBOLS, (1, 8))
    frames = 250
    score = random_score(symbols, frames)
    out = network(
        symbols,
        torch.tensor([8]),
        torch.randn(1, frames, N_MELS),
        torch.tensor([frames]),
        score,
        need_weights=True,
    )
    step = torch.arange(-(-frames // network.reduction_factor))
    time = (step * network.reduction_factor + (network.reduction_factor - 1) / 2) * FRAME
    centre = score.interval[0].mean(-1)
    far = (time[:, None] - centre[None]).abs() > 1.25
    for weights in out.attention.cross:
        assert weights[0, :, far].max() < 1e-3


def test_the_postnet_of_the_mel_cannot_see_the_future(network: TransformerTTS) -> None:
    """A look ahead would see, through teacher forcing, the very frames that are to be predicted."""
    if not network.hp.history:
        pytest.skip("a network without a history")
    mel = torch.randn(1, 20, N_MELS, requires_grad=True)
    symbols, length = torch.randint(1, NUM_SYMBOLS, (1, 6)), torch.tensor([6])
    score = random_score(symbols, 20)
    memory, is_padding, _ = network.encode(symbols, length, score)
    times = network.times(score, None)
    refined = network.refine(mel, torch.tensor([20]), memory, is_padding, times, score)
    refined[0, 11].sum().backward()
    seen = mel.grad.abs().sum(-1)[0] > 0
    assert seen[9:12].all() and not seen[12:].any()


def test_the_postnet_of_the_mel_knows_what_sounds_at_its_frame(network: TransformerTTS) -> None:
    """Of two symbols the one that sounds at a frame moves it, its neighbour only around the bound;
    without times none does."""
    memory = torch.randn(1, 2, network.hp.width)
    padding = torch.zeros(1, 2, dtype=torch.bool)
    interval = torch.tensor([[[0.0, 0.5], [0.5, 1.0]]])
    times = torch.arange(50) * 0.02
    shares = symbol_shares(padding, interval, times)
    heard = torch.cat([shares[..., :-2] @ memory, shares[..., -2:]], -1)
    torch.testing.assert_close(heard[0, 2, :-2], memory[0, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(heard[0, 45, :-2], memory[0, 1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(heard[0, 25, :-2], memory[0].mean(0), atol=0.1, rtol=0.1)
    since, until = heard[0, :, -2], heard[0, :, -1]
    assert since[0] > 0.9 and until[0] < 0.01 and until[24] > 0.4 and since[20] < 0.01
    assert not symbol_shares(padding, torch.zeros(1, 2, 2), times).any()


def test_predicted_durations_lie_end_to_end(network: TransformerTTS) -> None:
    symbols, lengths = torch.randint(1, NUM_SYMBOLS, (2, 9)), torch.tensor([9, 5])
    learn_times(network, "durations")
    phoneme_times = predicted_by(network, symbols, lengths)
    torch.testing.assert_close(phoneme_times[:, 1:, 0], phoneme_times[:, :-1, 1])
    assert (phoneme_times[..., 1] >= phoneme_times[..., 0]).all() and phoneme_times[0, 0, 0] == 0
    assert phoneme_times[1, 4:, 1].unique().numel() == 1  # padding lasts no time


def test_sung_symbols_keep_the_score_from_its_first_to_its_last_time(
    network: TransformerTTS,
) -> None:
    """Shifted slots follow one another without gaps, in order, and end with the score."""
    symbols, lengths = torch.randint(1, NUM_SYMBOLS, (2, 9)), torch.tensor([9, 5])
    symbols[1, 5:] = 0
    score = random_score(symbols, 200)
    is_padding = symbols == 0
    score.interval[is_padding] = 0.0
    shifts = 20 * torch.randn(2, 9)
    sung = network.sung_intervals(score, shifts, is_padding)
    for item, length in enumerate(lengths.tolist()):
        onset, offset = sung[item, :length].unbind(-1)
        assert (onset >= 0).all() and (onset.diff() >= 0).all()
        torch.testing.assert_close(offset[:-1], onset[1:])
        assert offset[-1] == score.interval[item, :, 1].max()
    assert not sung[is_padding].any()
    still = network.sung_intervals(score, torch.zeros(2, 9), is_padding)
    ordered = score.interval[0, :, 0].cummax(0).values
    torch.testing.assert_close(still[0, :, 0], ordered)


@pytest.mark.parametrize("predict", [True, False])
def test_a_batch_of_song_and_speech_decodes_as_its_items(
    network: TransformerTTS, predict: bool
) -> None:
    """Notes hold the first item, predicted durations (or the stop head) the second."""
    network.knows_durations.fill_(True)
    with torch.no_grad():
        network.duration_out.bias.fill_(2.0)
    symbols, lengths = torch.randint(1, NUM_SYMBOLS, (2, 8)), torch.tensor([8, 8])
    is_sung = torch.tensor([1, 0])  # the second item has no notes
    parts = [part for part in vars(random_score(symbols, 60)).values() if part is not None]
    score = ScoreBatch(*(part * is_sung.view(-1, *[1] * (part.dim() - 1)) for part in parts))
    limits = torch.tensor([60, 90])
    together = network.generate(
        symbols, lengths, [5, 6], limits, score=score, predict_durations=predict
    )
    for item, alone_score in ((0, score.select(0, 8, 60)), (1, None)):
        alone = network.generate(
            symbols[item : item + 1],
            lengths[:1],
            [5 + item],
            limits[item : item + 1],
            score=alone_score,
            predict_durations=predict,
        )
        length = int(alone.mel_lengths[0])
        assert int(together.mel_lengths[item]) == length
        assert together.ended_by[item] == alone.ended_by[0]
        torch.testing.assert_close(together.mel[item, :length], alone.mel[0], atol=1e-5, rtol=1e-4)
    assert together.ended_by[0] == "score"


def test_attention_without_the_input_beside_the_context_also_decodes() -> None:
    """concat_attention = False: cached still equals full."""
    torch.manual_seed(0)
    hp = replace(TINY.transformer, concat_attention=False)
    network = TransformerTTS(hp, NUM_SYMBOLS, N_MELS, FRAME).eval()
    with torch.no_grad():
        network.to_stop.bias.fill_(-20.0)
    symbols, lengths = torch.randint(1, NUM_SYMBOLS, (1, 5)), torch.tensor([5])
    out = network.generate(symbols, lengths, [1], torch.tensor([40]))
    full = network(
        symbols, lengths, out.mel_before, out.mel_lengths, keep=keep_masks(network, [1], 20)
    )
    torch.testing.assert_close(out.mel_before, full.mel_before, atol=1e-5, rtol=1e-4)


def test_no_length_is_too_long(network: TransformerTTS) -> None:
    """Beyond 1,024 decoder steps: there is no table to fall off."""
    frames = 1100 * network.reduction_factor
    out = network.generate(
        torch.randint(1, NUM_SYMBOLS, (1, 4)), torch.tensor([4]), [0], torch.tensor([frames])
    )
    assert out.mel.shape == (1, frames, N_MELS) and out.mel.isfinite().all()
    per_step = 2 * network.hp.width * 4 * network.hp.decoder_layers
    assert out.cache_bytes <= 2 * 2 * 1100 * per_step


def test_layers_start_from_different_weights() -> None:
    network = TransformerTTS(TINY.transformer, NUM_SYMBOLS, N_MELS, FRAME)
    first, second = (layer.own.to_query.weight for layer in network.decoder)
    assert not torch.allclose(first, second)


def test_every_parameter_is_trained() -> None:
    """A scored batch reaches all parameters: none is dead, none would stall DDP."""
    torch.manual_seed(0)
    hp = replace(TINY.transformer, contour=True, voices=1)
    network = TransformerTTS(hp, NUM_SYMBOLS, N_MELS, FRAME)
    symbols, lengths = torch.randint(1, NUM_SYMBOLS, (2, 6)), torch.tensor([6, 6])
    mel, frames, voice = torch.randn(2, 24, N_MELS), torch.tensor([24, 24]), torch.tensor([0, 0])
    for score in (random_score(symbols, 24), None):
        network.zero_grad()
        out = network(symbols, lengths, mel, frames, score, voice=voice)
        timing = out.log_durations.sum() + out.onset_shifts.sum()
        (out.mel.sum() + out.stop_logits.sum() + timing).backward()
        unused = [name for name, p in network.named_parameters() if p.grad is None]
        assert not unused


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_gives_finite_output_and_gradients(dtype: torch.dtype) -> None:
    network = TransformerTTS(TINY.transformer, NUM_SYMBOLS, N_MELS, FRAME).train()
    symbols = torch.randint(1, NUM_SYMBOLS, (2, 6))
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        out = network(
            symbols,
            torch.tensor([6, 4]),
            torch.randn(2, 24, N_MELS),
            torch.tensor([24, 20]),
            random_score(symbols, 24),
            guided=True,
        )
    assert out.mel.isfinite().all() and out.stop_logits.isfinite().all()
    assert all(w.isfinite().all() for w in out.guided)
    timing = out.log_durations.sum() + out.onset_shifts.sum()
    (out.mel.sum() + out.stop_logits.float().sum() + timing).backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_postnet_ignores_padding() -> None:
    torch.manual_seed(0)
    postnet = PostNet(TINY.postnet, N_MELS, N_LINEAR).eval()
    mel, lengths = torch.randn(3, 40, N_MELS), torch.tensor([40, 17, 29])
    together = postnet(mel, lengths)
    assert together.shape == (3, 40, N_LINEAR)
    for i, length in enumerate(lengths.tolist()):
        alone = postnet(mel[i : i + 1, :length])
        torch.testing.assert_close(together[i, :length], alone[0], atol=1e-5, rtol=1e-4)


def test_postnet_bank_sees_the_input_in_parallel() -> None:
    """Every kernel of the bank reads the mel itself: its receptive field is its own width."""
    bank = PostNet(TINY.postnet, N_MELS, N_LINEAR).bank
    for kernel, conv in enumerate(bank.convs, start=1):
        mel = torch.randn(1, 31, N_MELS, requires_grad=True)
        conv(mel)[0, 15].sum().backward()
        reached = (mel.grad.abs().sum(-1)[0] > 0).nonzero().flatten()
        assert len(reached) == kernel and 15 in reached


def test_a_contour_begins_as_no_input_and_is_then_heard(network: TransformerTTS) -> None:
    """A network that goes on from one without a contour sings as before; cached equals full."""
    told = TransformerTTS(replace(network.hp, contour=True), NUM_SYMBOLS, N_MELS, 0.016).eval()
    missing, unexpected = told.load_state_dict(network.state_dict(), strict=False)
    assert missing == ["contour.weight"] and not unexpected
    symbols = torch.randint(1, NUM_SYMBOLS, (2, 8))
    lengths = torch.tensor([8, 6])
    frames = 70 * network.reduction_factor  # more than a block of decoding steps
    score = random_score(symbols, frames)
    contour = torch.stack([torch.randn(2, frames), torch.ones(2, frames)], 2)
    limits = torch.tensor([frames, frames - 5])

    def sung(net: TransformerTTS, scored: ScoreBatch) -> torch.Tensor:
        return net.generate(symbols, lengths, [1, 2], limits, score=scored).mel_before

    with_contour = replace(score, frame_contour=contour)
    before = sung(network, score)
    assert torch.equal(before, sung(network, with_contour))  # a network without one ignores it
    assert torch.equal(before, sung(told, with_contour))
    with torch.no_grad():
        told.contour.weight.normal_(std=0.5)
    moved = sung(told, with_contour)
    assert torch.equal(before, sung(told, score)) and not torch.allclose(moved, before, atol=1e-3)
    shifted = contour.clone()
    shifted[:, frames // 2 :] += 1.0
    later = sung(told, replace(score, frame_contour=shifted))
    r = network.reduction_factor
    first = (frames // 2) // r * r
    assert torch.equal(later[:, :first], moved[:, :first])  # no frame hears a later pitch
    steps = frames // r
    whole = told.step_notes(with_contour, None, 0, steps, 2)
    parts = [told.step_notes(with_contour, None, k, 10, 2) for k in range(0, steps, 10)]
    torch.testing.assert_close(torch.cat(parts, 1), whole)


def test_a_convnext_block_in_pieces_equals_its_operations(monkeypatch) -> None:
    """Results and all gradients: to rounding in float64, to that of the products in bfloat16."""
    monkeypatch.setattr(kernels, "PIECE", 16)
    for dtype, autocast, tolerance in (
        (torch.float64, False, 1e-12),
        (torch.float32, True, 1e-2),
    ):
        torch.manual_seed(0)
        block = ConvNextBlock(24, 48, 7).to(dtype)
        torch.nn.init.normal_(block.out.weight, std=0.2)
        x = torch.randn(2, 45, 24, dtype=dtype)
        is_valid = (torch.rand(2, 45, 1) > 0.2).to(dtype)
        upstream, found = torch.randn_like(x), []
        for convolve in (None, block.by_shifts, block.by_convolution):
            block.zero_grad()
            own = x.clone().requires_grad_()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                if convolve is None:
                    made = block(own, is_valid)
                else:
                    made = block.pointwise(own, convolve(own * is_valid))
            made.backward(upstream)
            found.append([made.detach(), own.grad, *(p.grad for p in block.parameters())])
        ours, *others = found
        for other in others:
            for a, b in zip(ours, other, strict=True):
                assert (a - b).norm() <= tolerance * b.norm()
        with torch.no_grad():
            alone = block(x[1:], is_valid[1:])
            torch.testing.assert_close(block(x, is_valid)[1:], alone, rtol=0, atol=1e-6)


def test_harmonics_are_transforms_of_the_hann_window() -> None:
    """The closed formula equals the three sinc functions of the window around each harmonic."""
    rate, length = 16000, 1024
    bank = torch.eye(length // 2 + 1)
    found = harmonic_mels(bank, rate, length, floor=0.0).double()
    rows = torch.tensor([0, 180, 601, 660, 1200])  # 180: A2, 110 Hz; 660: A4
    f0 = 440.0 * 2 ** ((LOWEST_HARMONICS + HARMONICS_STEP * rows.double()[:, None] - 69) / 12)
    hertz = torch.linspace(0, rate / 2, length // 2 + 1, dtype=torch.float64)
    power = torch.zeros(len(rows), len(hertz), dtype=torch.float64)
    for neighbour in (-1, 0, 1):
        number = (hertz / f0).round() + neighbour
        x = (hertz - number * f0) * length / rate
        hann = torch.sinc(x) + 0.5 * (torch.sinc(x - 1) + torch.sinc(x + 1))
        power += hann**2 * ((number > 0) & (number * f0 < rate / 2))
    is_heard = power > 1e-9
    expected = power[is_heard].log() / 2
    heard = found[rows][is_heard]
    scale = expected.std() / heard.std()  # the table is standardised as a whole
    torch.testing.assert_close(
        (heard - heard.mean()) * scale, expected - expected.mean(), rtol=0, atol=1e-4
    )
