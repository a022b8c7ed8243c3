"""The networks, assembled from the blocks of module.py. Each receives its own section of the
hyperparameters and the sizes that the data dictate.

Legend: B batch, N symbols, T mel frames, r frames per decoder step, M mels, F linear bins,
H heads, D width. Spectrograms are standardised (utils/audio.py) on both sides of every network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from module import (
    Bottleneck1d,
    Context,
    ContextEncoder,
    Conv1d,
    ConvBank,
    ConvStack,
    DecibelMel,
    DecoderLayer,
    DecoderLayerStep,
    DecoderPrenet,
    DownLevel,
    Dropout,
    EncoderLayer,
    FrameNotes,
    Highway,
    MaskedConv,
    MelPostnet,
    ModifiedCosineTransform,
    NoiseEmbedding,
    NoiseShape,
    PaddedGRU,
    PatchBlock,
    ScaledPositions,
    SelfAttention,
    SpectralPatch,
    SpectralUnpatch,
    SpectrogramStack,
    TransformerBlock1d,
    UnpatchBlock,
    UpLevel,
    as_row,
    has_times,
    interval_log_prior,
    padding_mask,
    place_in_interval,
    sounding_symbols,
)

if TYPE_CHECKING:
    import hyperparams
    from utils.scores import ScoreBatch


TYPICAL_SECONDS = 0.08  # of a spoken phoneme: where the predicted durations start


@dataclass
class AttentionMaps:
    """Attention weights by layer, on request: encoder (B, h, N, N), decoder (B, h, T/r, T/r),
    cross (B, h, T/r, N)."""

    encoder: list[Tensor] = field(default_factory=list)
    decoder: list[Tensor] = field(default_factory=list)
    cross: list[Tensor] = field(default_factory=list)


@dataclass
class TransformerOutput:
    """A teacher-forced pass: mel before and after the mel postnet (B, T, M), a stop logit per
    decoder step (B, T/r), of every symbol ln(1 + frames) and the frames it begins after its slot
    in the score (B, N), the weights of the guided heads (one (B, h, T/r, N) per guided layer) and,
    on request, all attention maps."""

    mel_before: Tensor
    mel: Tensor
    stop_logits: Tensor
    log_durations: Tensor
    onset_shifts: Tensor
    guided: list[Tensor]
    attention: AttentionMaps


@dataclass
class Generated:
    """A free-running rendering: mel before and after the mel postnet (B, T, M), its valid lengths
    (B,), what ended each item (`stop head`, `score`, `durations` or `maximum`), the bytes of the
    key/value cache, and the maps of the cross-attention on request."""

    mel_before: Tensor
    mel: Tensor
    mel_lengths: Tensor
    ended_by: list[str]
    cache_bytes: int
    attention: AttentionMaps


class TransformerTTS(nn.Module):
    """Lyrics, with or without notes, → mel spectrogram (Li et al. 2018, 1809.08895).

    With a score, every symbol carries its note, every frame its current note, and a prior from
    the note times holds the cross-attention. Speech has no score: there the encoder predicts how
    long each symbol lasts, and the same prior holds the attention to these times; a network that
    never saw measured times, or is asked not to use them, finds its way by attention alone. One set
    of weights serves all.
    """

    def __init__(
        self,
        hp: hyperparams.Transformer,
        num_symbols: int,
        n_mels: int,
        frame_seconds: float,
    ) -> None:
        super().__init__()
        self.hp = hp
        self.n_mels = n_mels
        self.frame_seconds = frame_seconds
        self.reduction_factor = hp.reduction_factor
        inner = hp.feedforward_multiplier * hp.width
        layer = (hp.width, hp.heads, inner, hp.concat_attention, hp.dropout)

        self.symbol = nn.Embedding(num_symbols, hp.width, padding_idx=0)
        self.symbol_pitch = nn.Embedding(hp.num_pitches, hp.width)
        self.symbol_position = nn.Embedding(hp.max_symbol_position + 1, hp.width)
        self.symbol_slur = nn.Embedding(2, hp.width)
        self.symbol_duration = nn.Linear(1, hp.width)
        self.encoder_prenet = ConvStack(
            [hp.width] * (hp.encoder_prenet_layers + 1),
            hp.encoder_prenet_kernel,
            hp.dropout,
            nn.ReLU,
        )
        self.encoder_prenet_out = nn.Linear(hp.width, hp.width)
        self.encoder_positions = ScaledPositions(hp.width)
        self.encoder = nn.ModuleList(EncoderLayer(*layer) for _ in range(hp.encoder_layers))
        self.encoder_norm = nn.LayerNorm(hp.width)

        self.duration = ConvStack([hp.width, hp.width], 3, hp.dropout, nn.ReLU)
        self.duration_out = nn.Linear(hp.width, 1)
        nn.init.constant_(self.duration_out.bias, math.log(1.0 + TYPICAL_SECONDS / frame_seconds))
        self.register_buffer("knows_durations", torch.tensor(False))  # set by training on times
        self.onset_shift_out = nn.Linear(hp.width, 1)  # of the duration predictor's hidden layer
        nn.init.zeros_(self.onset_shift_out.weight)
        nn.init.zeros_(self.onset_shift_out.bias)
        self.register_buffer("knows_onsets", torch.tensor(False))  # set by training on sung times

        self.decoder_prenet = DecoderPrenet(
            hp.reduction_factor * n_mels, hp.prenet_width, hp.width, hp.prenet_dropout
        )
        self.frame_notes = FrameNotes(hp.num_pitches, hp.reduction_factor, hp.width)
        self.decoder_positions = ScaledPositions(hp.width)
        self.decoder = nn.ModuleList(DecoderLayer(*layer) for _ in range(hp.decoder_layers))
        self.decoder_norm = nn.LayerNorm(hp.width)
        self.to_mel = nn.Linear(hp.width, hp.reduction_factor * n_mels)
        self.to_stop = nn.Linear(hp.width, 1)
        self.mel_postnet = MelPostnet(
            n_mels,
            hp.width,
            hp.num_pitches,
            hp.postnet_width,
            hp.postnet_layers,
            hp.postnet_kernel,
            hp.dropout,
        )
        self.dropout = Dropout(hp.dropout)

    # -- the symbols ---------------------------------------------------------------------------

    def encode(
        self,
        symbols: Tensor,
        symbol_lengths: Tensor,
        score: ScoreBatch | None = None,
        weight_heads: int = 0,
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """symbols (B, N) → memory (B, N, D), is_padding (B, N), self-attention weights."""
        is_padding = padding_mask(symbol_lengths, symbols.shape[1])  # (B, N)
        x = self.symbol(symbols)  # (B, N, D)
        if score is None:
            zero = torch.zeros_like(symbols)
            pitch, position, slur, duration = zero, zero, zero, zero.to(x.dtype)
        else:
            pitch, position, slur = score.pitch, score.position, score.slur
            duration = torch.log1p(score.duration)  # log(1 + seconds): 0 stays 0, spoken
        x = x + self.symbol_pitch(pitch) + self.symbol_slur(slur)
        x = x + self.symbol_position(position.clamp_max(self.hp.max_symbol_position))
        x = x + self.symbol_duration(duration[..., None].to(x.dtype))
        x = self.encoder_prenet_out(self.encoder_prenet(x, is_padding))
        x = self.dropout(self.encoder_positions(x))
        may_attend = ~is_padding[:, None, None, :]  # (B, 1, 1, N)
        maps = []
        for layer in self.encoder:
            x, weights = layer(x, may_attend, weight_heads)
            if weights is not None:
                maps.append(weights)
        return self.encoder_norm(x), is_padding, maps

    def predict_timing(self, memory: Tensor, is_padding: Tensor) -> tuple[Tensor, Tensor]:
        """memory (B, N, D) → what is learnt of the symbols' times, twice (B, N), 0 on padding:

        ln(1 + frames) each lasts when it is spoken, and the frames by which it begins after its
        slot in a score, which says where vowels begin but not how long a consonant takes.
        """
        hidden = self.duration(memory, is_padding)
        heads = self.duration_out(hidden), self.onset_shift_out(hidden)
        log_durations, shifts = (
            head.squeeze(-1).float().masked_fill(is_padding, 0.0) for head in heads
        )
        return log_durations, shifts

    def said_intervals(self, log_durations: Tensor) -> Tensor:
        """Predicted durations laid end to end: ln(1 + frames) (B, N) → (B, N, 2) s."""
        end = torch.expm1(log_durations.clamp_min(0.0)).cumsum(1) * self.frame_seconds
        return torch.stack([F.pad(end, (1, 0))[:, :-1], end], dim=-1)

    def sung_intervals(self, score: ScoreBatch, shifts: Tensor, is_padding: Tensor) -> Tensor:
        """Slots of a score, moved: shifts (B, N) in frames → (B, N, 2) s.

        Each symbol lasts until the next begins, the last one as long as the score.
        """
        end = score.interval[..., 1].masked_fill(is_padding, 0.0).amax(1, keepdim=True)  # (B, 1)
        onset = score.interval[..., 0] + shifts * self.frame_seconds
        onset = onset.clamp_min(0.0).minimum(end).masked_fill(is_padding, 0.0)
        onset = onset.cummax(1).values  # (B, N)
        following = torch.cat([onset[:, 1:], end], dim=1)
        is_last = ~is_padding & F.pad(is_padding, (0, 1), value=True)[:, 1:]
        offset = torch.where(is_last, end, following)
        return torch.stack([onset, offset], dim=-1).masked_fill(is_padding[..., None], 0.0)

    def predicted_times(
        self, memory: Tensor, is_padding: Tensor, score: ScoreBatch | None
    ) -> Tensor | None:
        """When the symbols sound, by what has been learnt of it: (B, N, 2) s.

        Zero for items of a kind (sung, spoken) whose times training never knew; None for speech
        alone then.
        """
        log_durations, shifts = self.predict_timing(memory, is_padding)
        said = self.said_intervals(log_durations) if self.knows_durations else None
        if score is None:
            return said
        sung = torch.zeros_like(score.interval)
        said = torch.zeros_like(sung) if said is None else said
        if self.knows_onsets:
            sung = self.sung_intervals(score, shifts, is_padding)
        return torch.where(has_times(score.interval)[:, None, None], sung, said)

    def times(self, score: ScoreBatch | None, said: Tensor | None) -> tuple[Tensor, Tensor] | None:
        """Intervals (B, N, 2) s and widths (B,) s of the prior: those of `said` where an item has
        them, else its score's; None when there is neither."""
        if score is None:
            return None if said is None else (said, said.new_full((len(said),), self.hp.said_width))
        has_score = has_times(score.interval)  # (B,)
        width = torch.where(has_score, self.hp.prior_width, self.hp.said_width)
        if said is None:
            return score.interval, width
        return torch.where(has_times(said)[:, None, None], said, score.interval), width

    def cross_mask(
        self, is_padding: Tensor, times: tuple[Tensor, Tensor] | None, start: int, steps: int
    ) -> Tensor:
        """Additive mask of decoder steps start … start + steps − 1 onto the symbols.

        −∞ on padded symbols, plus the log prior of the times: (B, 1, steps or 1, N).
        """
        mask = torch.zeros(is_padding.shape, device=is_padding.device)
        mask = mask.masked_fill(is_padding, -torch.inf)[:, None, None, :]  # (B, 1, 1, N)
        if times is None:
            return mask
        step = torch.arange(start, start + steps, device=is_padding.device)
        centre = step * self.reduction_factor + (self.reduction_factor - 1) / 2
        prior = interval_log_prior(times[0], centre * self.frame_seconds, times[1])
        return mask + prior[:, None]  # (B, 1, steps, N)

    # -- the frames, teacher-forced ------------------------------------------------------------

    def forward(
        self,
        symbols: Tensor,
        symbol_lengths: Tensor,
        history: Tensor,
        mel_lengths: Tensor,
        score: ScoreBatch | None = None,
        said: Tensor | None = None,
        keep: Tensor | None = None,
        guided: bool = False,
        need_weights: bool = False,
    ) -> TransformerOutput:
        """Predict every frame from the frames before it.

        symbols (B, N), symbol_lengths (B,); history (B, T, M): the true mel, possibly corrupted
        (frame group k is predicted from groups 0 … k − 1); mel_lengths (B,); score
        with symbols (B, N) and frames (B, T); said (B, N, 2) s: measured times of the symbols, zero
        for items that shall do without; keep (B, steps, 2, prenet) dropout masks or None.
        `guided` asks for the guided heads' weights, `need_weights` for all maps.
        """
        hp, r = self.hp, self.reduction_factor
        heads = hp.heads if need_weights else 0
        frames = history.shape[1]
        steps = -(-frames // r)
        memory, symbol_padding, encoder_maps = self.encode(symbols, symbol_lengths, score, heads)
        previous = F.pad(history, (0, 0, r, (steps - 1) * r - frames))  # mean frames first
        previous = previous.reshape(len(history), steps, r * self.n_mels)  # (B, steps, r·M)
        times = self.times(score, said)
        notes = self.step_notes(score, times, 0, steps, len(history))
        x = self.dropout(self.decoder_positions(self.decoder_prenet(previous, keep) + notes))
        mask = self.cross_mask(symbol_padding, times, 0, steps).to(x.dtype)
        maps = AttentionMaps(encoder=encoder_maps)
        guided_maps = []
        for index, layer in enumerate(self.decoder):
            is_guided = guided and index >= hp.decoder_layers - hp.guided_layers
            cross_heads = hp.heads if need_weights else hp.guided_heads * is_guided
            x, weights = layer(
                x,
                memory,
                mask,
                own_heads=heads,
                cross_heads=cross_heads,
            )
            if need_weights:
                maps.decoder.append(weights.own)
                maps.cross.append(weights.cross)
            if is_guided:
                guided_maps.append(weights.cross[:, : hp.guided_heads])
        x = self.decoder_norm(x)
        mel_before = self.to_mel(x).float().reshape(len(x), steps * r, self.n_mels)[:, :frames]
        return TransformerOutput(
            mel_before,
            self.refine(mel_before, mel_lengths, memory, symbol_padding, times, score),
            self.to_stop(x).squeeze(-1),
            *self.predict_timing(memory, symbol_padding),
            guided_maps,
            maps,
        )

    def step_notes(
        self,
        score: ScoreBatch | None,
        times: tuple[Tensor, Tensor] | None,
        start: int,
        steps: int,
        batch: int,
    ) -> Tensor:
        """What the steps start … start + steps − 1 know beforehand, (B, steps, D).

        The current note and the place in it; for speech note 0 and the place in the symbol.
        """
        r = self.reduction_factor
        first, last = start * r, (start + steps) * r
        device = self.to_mel.weight.device
        pitch = torch.zeros(batch, last - first, dtype=torch.long, device=device)
        place = pitch.float()
        if times is not None:
            frame = torch.arange(first, last, device=device)
            place = place_in_interval(times[0], frame * self.frame_seconds)
        if score is not None:
            pad = (0, max(0, last - score.frame_pitch.shape[1]))
            pitch = F.pad(score.frame_pitch, pad)[:, first:last]
            has_score = has_times(score.interval)  # (B,)
            sung = F.pad(score.frame_position, pad)[:, first:last]
            place = torch.where(has_score[:, None], sung, place)
        return self.frame_notes(pitch, place)

    def refine(
        self,
        mel_before: Tensor,
        mel_lengths: Tensor,
        memory: Tensor,
        symbol_padding: Tensor,
        times: tuple[Tensor, Tensor] | None,
        score: ScoreBatch | None,
    ) -> Tensor:
        """The mel postnet's residual over a whole mel: (B, T, M) → (B, T, M).

        A decoder step makes r frames at once; the postnet is told of each frame what sounds then:
        memory (B, N, D) at the `times` of the symbols, and the note.
        """
        frames = mel_before.shape[1]
        is_padding = padding_mask(mel_lengths, frames)
        frame_times = torch.arange(frames, device=memory.device) * self.frame_seconds
        sounding = memory.new_zeros(len(memory), frames, memory.shape[-1] + 2)
        if times is not None:
            sounding = sounding_symbols(memory, symbol_padding, times[0], frame_times)
        pitch = torch.zeros(len(memory), frames, dtype=torch.long, device=memory.device)
        if score is not None:
            pad = (0, max(0, frames - score.frame_pitch.shape[1]))
            pitch = F.pad(score.frame_pitch, pad)[:, :frames]
        return mel_before + self.mel_postnet(mel_before, sounding, pitch, is_padding)

    # -- the frames, free-running --------------------------------------------------------------

    @torch.inference_mode()
    def generate(
        self,
        symbols: Tensor,
        symbol_lengths: Tensor,
        seeds: Sequence[int],
        max_frames: Tensor,
        min_frames: Tensor | None = None,
        score: ScoreBatch | None = None,
        stop_threshold: float = 0.5,
        monotonic_window: int = 0,
        predict_durations: bool = True,
        need_weights: bool = False,
    ) -> Generated:
        """Decode a batch with cached keys and values; the encoder and the mel postnet run once.

        symbols (B, N), symbol_lengths (B,); one seed per item for the prenet's dropout, so an
        item does not depend on its batch; max_frames (B,): with a score its exact length,
        without one a maximum before which the stop head may end the item, but not before
        min_frames (B,). predict_durations: speech follows the predicted times and ends with them,
        if the network has learnt such. Without them, monotonic_window > 0 lets the guided heads
        look from one symbol behind to that many ahead of where they are (speech only).
        """
        was_training = self.training
        self.eval()
        try:
            state = _DecodingState(
                self, symbols, symbol_lengths, seeds, score, predict_durations, monotonic_window
            )
            r = self.reduction_factor
            if state.said_frames is not None:
                low = torch.ones_like(max_frames) if min_frames is None else min_frames
                said = state.said_frames.maximum(low).minimum(max_frames)
                max_frames = torch.where(state.has_score, max_frames, said)
            max_steps = -(-max_frames // r)
            min_steps = torch.zeros_like(max_steps) if min_frames is None else -(-min_frames // r)
            end = max_steps.clone()  # (B,) decoder steps of each item, as known so far
            groups = []
            previous = torch.zeros(len(symbols), r * self.n_mels, device=symbols.device)
            step, last = 0, int(end.max())
            stop_logit_threshold = torch.logit(torch.tensor(stop_threshold)).item()
            while step < last:
                previous, stop_logit = state.step(previous, need_weights)
                groups.append(previous)
                step += 1
                if state.may_stop and bool((wants := stop_logit > stop_logit_threshold).any()):
                    stops = wants & (step >= min_steps) & (step < end) & ~state.has_times
                    end = torch.where(stops, step, end)
                    last = int(end.max())
            mel_before = torch.stack(groups, dim=1).view(len(symbols), -1, self.n_mels)
            mel_lengths = torch.minimum(end * r, max_frames)
            mel_before = mel_before[:, : int(mel_lengths.max())]
            untimed = "durations" if state.said_frames is not None else "maximum"
            ended = ["score" if sung else untimed for sung in state.has_score.tolist()]
            return Generated(
                mel_before,
                self.refine(
                    mel_before,
                    mel_lengths,
                    state.memory,
                    state.symbol_padding,
                    state.times,
                    score,
                ),
                mel_lengths,
                [
                    by if stop == longest else "stop head"
                    for by, stop, longest in zip(
                        ended, end.tolist(), max_steps.tolist(), strict=True
                    )
                ],
                sum(layer.cache.num_bytes for layer in state.layers),
                AttentionMaps(cross=state.cross_maps()),
            )
        finally:
            self.train(was_training)


class _DecodingState:
    """What lives from one decoder step to the next: caches, dropout streams, attended position."""

    BLOCK = 64  # steps whose dropout masks, positions, notes and priors are made at once

    def __init__(
        self,
        network: TransformerTTS,
        symbols: Tensor,
        symbol_lengths: Tensor,
        seeds: Sequence[int],
        score: ScoreBatch | None,
        predict_durations: bool,
        monotonic_window: int,
    ) -> None:
        if len(seeds) != len(symbols):
            raise ValueError(f"{len(seeds)} seeds for {len(symbols)} items: give one per item")
        self.network = network
        self.score = score
        memory, self.symbol_padding, _ = network.encode(symbols, symbol_lengths, score)
        self.memory = memory
        self.has_score = torch.zeros(len(symbols), dtype=torch.bool, device=symbols.device)
        if score is not None:
            self.has_score = has_times(score.interval)  # (B,)
        said, self.said_frames = None, None
        if predict_durations:
            said = network.predicted_times(memory, self.symbol_padding, score)
        if said is not None and network.knows_durations and not self.has_score.all():
            seconds = said[..., 1].amax(1)  # (B,)
            self.said_frames = (seconds / network.frame_seconds).round().long().clamp_min(1)
        self.times = network.times(score, said)
        self.has_times = self.has_score
        if self.said_frames is not None:
            self.has_times = torch.ones_like(self.has_score)
        self.may_stop = not bool(self.has_times.all())
        self.window = 0 if self.times is not None else monotonic_window
        self.layers = [DecoderLayerStep(layer, memory) for layer in network.decoder]
        heads = (network.to_mel, network.to_stop)  # one product for both
        self.out = tuple(torch.cat([getattr(h, n) for h in heads]) for n in ("weight", "bias"))
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.attended = torch.zeros(len(symbols), dtype=torch.long, device=symbols.device)
        self.recorded: list[list[Tensor]] = [[] for _ in network.decoder]
        self.position = 0

    def _prepare_block(self) -> None:
        """Everything the next BLOCK steps need and that no output changes."""
        network, steps = self.network, self.BLOCK
        device = self.symbol_padding.device
        draw = network.decoder_prenet.draw_keep
        self.keep = torch.stack([draw(steps, g) for g in self.generators]).to(device)
        codes = network.decoder_positions.codes(self.position, steps)
        batch = len(self.generators)
        notes = network.step_notes(self.score, self.times, self.position, steps, batch)
        self.ahead = (notes + codes).unbind(1)  # of each step, (B, D)
        masks = network.cross_mask(self.symbol_padding, self.times, self.position, steps)
        if self.times is not None:
            self.masks = masks.unbind(2)  # of each step, (B, 1, N)
        else:
            is_free = not self.window and not bool(self.symbol_padding.any())
            self.masks = [None if is_free else masks[:, :, 0]] * steps

    def step(self, previous: Tensor, need_weights: bool) -> tuple[Tensor, Tensor]:
        """previous (B, r·M) → the next r frames (B, r·M) and their stop logit (B,)."""
        network, hp = self.network, self.network.hp
        k = self.position % self.BLOCK
        if k == 0:
            self._prepare_block()
        x = network.decoder_prenet(previous[:, None], self.keep[:, k : k + 1])[:, 0]
        x = x + self.ahead[k]
        mask = None if self.masks[k] is None else self.masks[k][:, :, None]  # (B, 1, 1, N)
        guided_mask = self._monotonic(mask) if self.window else mask
        first_guided = hp.decoder_layers - hp.guided_layers
        for index, layer in enumerate(self.layers):
            is_guided = index >= first_guided
            is_last = index == hp.decoder_layers - 1
            heads = hp.heads if need_weights else hp.guided_heads * bool(self.window) * is_last
            x, weights = layer(x, guided_mask if is_guided else mask, heads)
            if need_weights:
                self.recorded[index].append(weights)
        if self.window:
            self.attended = weights[:, : hp.guided_heads, 0].mean(1).argmax(-1)
        self.position += 1
        out = F.linear(network.decoder_norm(x), *self.out)  # (B, r·M + 1)
        return out[:, :-1], out[:, -1]

    def _monotonic(self, mask: Tensor) -> Tensor:
        """Keep the guided heads from one symbol behind to `window` ahead: (B, H, 1, N)."""
        hp = self.network.hp
        place = torch.arange(mask.shape[-1], device=mask.device)[None]  # (1, N)
        behind = place < self.attended[:, None] - 1
        ahead = place > self.attended[:, None] + self.window
        is_guided = torch.arange(hp.heads, device=mask.device) < hp.guided_heads  # (H,)
        outside = (behind | ahead)[:, None, None] & is_guided[None, :, None, None]
        return mask.masked_fill(outside, -torch.inf)

    def cross_maps(self) -> list[Tensor]:
        """Recorded cross-attention, one (B, H, steps, N) per layer; empty when not asked for."""
        return [torch.cat(layer, dim=2) for layer in self.recorded if layer]


class PostNet(nn.Module):
    """Mel → linear spectrogram: the CBHG of Tacotron (Wang et al. 2017, 1703.10135).

    A bank of convolutions sees the mel in parallel, two projections return to M channels and add
    the input, highways and a bidirectional GRU read along time.
    """

    def __init__(self, hp: hyperparams.Postnet, n_mels: int, n_linear: int) -> None:
        super().__init__()
        self.bank = ConvBank(n_mels, hp.width, hp.bank_kernels)
        self.projection = ConvStack([hp.bank_kernels * hp.width, hp.width], 3, hp.dropout, nn.ReLU)
        self.projection_out = MaskedConv(hp.width, n_mels, 3)
        self.to_highway = nn.Linear(n_mels, hp.width)
        self.highways = nn.Sequential(*(Highway(hp.width) for _ in range(hp.highway_layers)))
        self.gru = PaddedGRU(hp.width, hp.gru_width)
        self.to_linear = nn.Linear(2 * hp.gru_width, n_linear)

    def forward(self, mel: Tensor, mel_lengths: Tensor | None = None) -> Tensor:
        """mel (B, T, M), mel_lengths (B,) or None when nothing is padded → linear (B, T, F)."""
        is_padding = None if mel_lengths is None else padding_mask(mel_lengths, mel.shape[1])
        x = self.projection(self.bank(mel, is_padding), is_padding)
        x = mel + self.projection_out(x, is_padding)
        x = self.highways(self.to_highway(x))
        return self.to_linear(self.gru(x, mel_lengths))


class UNet1d(nn.Module):
    """F of the inpainter's denoiser: the 1-d U-Net of Moûsai's first releases (2301.11757).

    Patches of the waveform, strided levels of residual blocks that the noise level modulates,
    attention in the deep levels, skips scaled by 2^-1/2. The preset `published` is the network of
    the earlier system, parameter for parameter; the others add the mask as input, the per-frame
    context where one position is one hop, and a last convolution that starts at zero.
    """

    def __init__(
        self,
        hp: hyperparams.UNet,
        hop_length: int = 256,
        n_mels: int = 80,
        num_phonemes: int = 1,
        num_pitches: int = 128,
        sigma_data: float = 0.1,
    ) -> None:
        """hop_length in samples: distance of two context frames; sigma_data: of the denoiser."""
        super().__init__()
        self.signal_channels = hp.signal_channels
        self.in_channels = hp.signal_channels * (2 if hp.mask_input else 1)
        self.draft_input = hp.draft_input
        read_channels = self.in_channels + (2 if hp.draft_input else 0)
        self.hop_length = hop_length
        self.stride = hp.stride
        out_channels = read_channels if hp.output_kernel else hp.signal_channels
        noise_width = hp.noise_width or hp.channels
        factor, mapping = hp.patch_factor, 4 * noise_width
        patch_blocks = 0 if hp.mdct else hp.patch_blocks
        widths = [hp.channels * m for m in hp.multipliers]

        def transformer(level: int) -> TransformerBlock1d | None:
            if not hp.attentions[level]:
                return None
            return TransformerBlock1d(
                widths[level + 1],
                hp.attention_heads,
                hp.attention_head_width,
                hp.attention_multiplier,
            )

        self.noise_embedding = NoiseEmbedding(noise_width)
        patched = [read_channels * factor**i for i in range(patch_blocks)] + [hp.channels]
        self.patches = nn.ModuleList(
            PatchBlock(patched[i], patched[i + 1], factor, mapping) for i in range(patch_blocks)
        )
        self.downs = nn.ModuleList(
            DownLevel(
                widths[i],
                widths[i + 1],
                hp.factors[i],
                hp.downsample_kernel_multiplier,
                hp.num_blocks[i],
                hp.groups,
                mapping,
                transformer(i),
            )
            for i in range(len(hp.factors))
        )
        attention = SelfAttention(widths[-1], hp.attention_heads, hp.attention_head_width)
        self.bottleneck = Bottleneck1d(
            widths[-1],
            hp.groups,
            mapping,
            attention if hp.bottleneck_attention else None,
        )
        self.ups = nn.ModuleList(
            UpLevel(
                widths[i + 1],
                widths[i],
                hp.factors[i],
                hp.num_blocks[i] + hp.attentions[i],
                hp.groups,
                mapping,
                transformer(i),
            )
            for i in reversed(range(len(hp.factors)))
        )
        unpatched = [hp.channels] + [
            out_channels * factor**i for i in reversed(range(patch_blocks))
        ]
        self.unpatches = nn.ModuleList(
            UnpatchBlock(unpatched[i], unpatched[i + 1], factor, mapping)
            for i in range(patch_blocks)
        )
        self.context_level = None
        self.context = None
        if hp.context_width:
            self.context_level = hp.level_of_stride(hop_length)
            self.context_pool = max(1, hp.first_stride // hop_length)  # frames per position
            width = widths[self.context_level + 1]
            self.context = ContextEncoder(
                hp.context_width, (width, width), n_mels, num_phonemes, num_pitches
            )
        self.mdct, self.sigma_data = bool(hp.mdct), sigma_data
        self.noise_shape = None
        if hp.mdct:
            self.transform = ModifiedCosineTransform(hp.mdct)
            if hp.noise_exponent:
                self.noise_shape = NoiseShape(
                    self.transform, hp.stride, hp.noise_exponent, hp.noise_gain, hp.noise_floor
                )
            sizes = (hp.mdct, hp.mdct_blocks, hp.groups, mapping)
            signals = hp.signal_channels + hp.draft_input
            self.spectral_patch = SpectralPatch(
                signals, read_channels - signals, hp.channels, *sizes
            )
            self.spectral_unpatch = SpectralUnpatch(
                hp.channels,
                hp.signal_channels,
                2 if hp.draft_input else 1,  # noisy signal; draft
                *sizes,
                hp.mdct_width,
                hp.mdct_dilations,
            )
        self.output = nn.Identity()
        if hp.output_kernel and not hp.mdct:
            kernel = hp.output_kernel
            self.output = Conv1d(out_channels, hp.signal_channels, kernel, padding=kernel // 2)
            nn.init.zeros_(self.output.weight)
            nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor, c_noise: Tensor, context: Context | None = None) -> Tensor:
        """x (B, C_in, S), c_noise (B,) → F (B, C, S).

        x is the scaled signal and, with `mask_input`, its mask behind it, 1 = known (C_in = 2C).
        context has T = ceil(S / hop_length) frames, and its waveform, in the scale of the signal,
        S samples; None means that every part is missing. Any S: what the strides do not divide is
        padded with known silence and cropped again. ValueError for another number of channels, or
        a context of another size.
        """
        if x.shape[1] != self.in_channels:
            raise ValueError(
                f"the U-Net got {x.shape[1]} channels, expected {self.in_channels}: "
                f"{self.signal_channels} of the signal"
                + (" and as many of its mask" if self.in_channels > self.signal_channels else "")
            )
        samples = x.shape[2]
        film_down, film_up = self.films(context, len(x), samples)
        x = self.pad(x)
        draft = self.draft(context, x, samples) if self.draft_input else x[:, :0]
        mapping = self.noise_embedding(c_noise).to(x.dtype)

        if self.mdct:
            x, spectra, power, gains = self.read_spectra(x, draft, c_noise, mapping)
        else:
            x = torch.cat([x, draft], dim=1)[:, :, None]  # (B, C_in, 1, S)
            for patch in self.patches:
                x = patch(x, mapping)
            x = as_row(x.squeeze(2))
        if film_down is not None and self.context_level < 0:
            x = torch.addcmul(film_down[1], x, film_down[0] + 1)
        first, skips = x, []
        for level, down in enumerate(self.downs):
            x, level_skips = down(x, mapping, film_down if level == self.context_level else None)
            skips.append(level_skips)
        x = self.bottleneck(x, mapping)
        for level, up in zip(reversed(range(len(self.ups))), self.ups, strict=True):
            x = up(x, skips.pop(), mapping, film_up if level == self.context_level else None)
        x = x + first
        if film_up is not None and self.context_level < 0:
            x = torch.addcmul(film_up[1], x, film_up[0] + 1)
        if self.mdct:
            spectrum = gains * self.spectral_unpatch(x, mapping, spectra, power)
            return self.transform.inverse(spectrum)[:, :, :samples]
        for unpatch in self.unpatches:
            x = unpatch(x, mapping)
        return self.output(x).squeeze(2)[:, :, :samples].contiguous()

    def read_spectra(
        self, x: Tensor, draft: Tensor, c_noise: Tensor, mapping: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x (B, C_in, S), draft and its mark (B, 2 or 0, S), c_noise (B,) and mapping (B, W) of the
        noise level → what the levels read (B, C, 1, P), spectra of noisy signal and draft in units
        of the noise, their power (B, K, P, N), and the gains of the noise (B, C, P, N), 1 = white.

        With these units D = c_skip·x̃ + c_out·F is a shrunk x̃ for F = −weight·(c_skip/c_out)·x̃,
        and is the draft y for F = y/c_out - …: c_skip/c_out = c_in·σ_data/σ, 1/c_out =
        √(1 + σ_data²/σ²) in the units of the network's input (EDM table 1).
        """
        ratio = self.sigma_data * (-4.0 * c_noise.float()).exp()[:, None, None, None]  # σ_data / σ
        signal, marks = x.tensor_split([self.signal_channels], dim=1)
        wav, is_told = draft[:, :1], draft[:, 1:]
        noisy, noisy_power = self.transform.with_power(signal)
        drafted, drafted_power = self.transform.with_power(wav)
        gains = torch.ones_like(noisy)
        if self.noise_shape is not None:
            gains[:, :1] = self.noise_shape.gains(drafted_power, is_told[:, 0, 0] > 0)
        own = ratio / gains
        of_draft = (1.0 + ratio.square()).sqrt() / gains[:, : wav.shape[1]]
        spectra = torch.cat([own * noisy, of_draft * drafted], dim=1)
        power = torch.cat([own.square() * noisy_power, of_draft.square() * drafted_power], dim=1)
        marks = torch.cat([marks, is_told], dim=1)
        x = self.spectral_patch(spectra[:, : self.signal_channels], drafted_power, marks, mapping)
        return x, spectra, power, gains

    def pad(self, x: Tensor) -> Tensor:
        """x (B, C, S) → the next multiple of the stride; padding is silence, marked as known."""
        missing = -x.shape[2] % self.stride
        if not missing:
            return x
        signal = F.pad(x[:, : self.signal_channels], (0, missing))
        mask = F.pad(x[:, self.signal_channels :], (0, missing), value=1.0)
        return torch.cat([signal, mask], dim=1)

    def draft(self, context: Context | None, x: Tensor, samples: int) -> Tensor:
        """The draft's waveform, and 1 where there is one: (B, 2, S) of x (B, C, S), padded."""
        wav = None if context is None else context.wav
        if wav is None:
            return x.new_zeros(len(x), 2, x.shape[2])
        if wav.shape != (len(x), samples):
            raise ValueError(
                f"context.wav is {tuple(wav.shape)}: expected {len(x)} items of {samples} samples, "
                "as many as the signal has"
            )
        draft = torch.stack([wav.to(x.dtype), torch.ones_like(wav, dtype=x.dtype)], dim=1)
        if "wav" in context.is_dropped:
            draft = torch.where(context.is_dropped["wav"][:, None, None], 0.0, draft)
        return F.pad(draft, (0, x.shape[2] - samples))

    def films(
        self, context: Context | None, batch: int, samples: int
    ) -> tuple[tuple[Tensor, Tensor] | None, ...]:
        """Scale and shift (B, C, 1, T) at one frame per hop, for the way down and the way up."""
        told = [] if context is None else list(context.present())
        if "wav" in told and not self.draft_input:
            raise ValueError(
                "the context has the waveform of a draft, but this network takes none "
                "(unet.draft_input = false): leave it out, or train a network that does"
            )
        if self.context is None:
            frames = [name for name in told if name != "wav"]
            if frames:
                raise ValueError(
                    f"the context has {', '.join(frames)}, but this network takes none "
                    "(unet.context_width = 0): use a preset with a context"
                )
            return None, None
        frames = -(-samples // self.hop_length)
        padded = -(-samples // self.stride) * self.stride // self.hop_length
        films = self.context(context or Context(), batch, frames, padded - frames)
        if self.context_pool == 1:
            return tuple(films)
        window = (1, self.context_pool)
        return tuple(tuple(F.avg_pool2d(part, window) for part in film) for film in films)


@dataclass
class Transcription:
    """What the transcriber hears, per frame; all are logits."""

    phoneme: Tensor  # (B, T, 39), the last class is silence
    note: Tensor  # (B, T, 3): onset, offset, activation


class Transcriber(nn.Module):
    """Singing → phonemes and notes (Yong et al. 2023, 2304.05917).

    A phoneme recogniser listens to one mel; a second mel and the recogniser's logits pass through
    dilated stacks and LSTMs of their own and meet in a last LSTM that marks notes.
    """

    def __init__(self, hp: hyperparams.Transcriber, sample_rate: int) -> None:
        super().__init__()
        self.hop_length = hp.hop_length
        self.phoneme_mel = DecibelMel(
            sample_rate,
            hp.phoneme_win_length,
            hp.hop_length,
            hp.phoneme_n_mels,
            hp.phoneme_fmin,
            hp.phoneme_fmax,
        )
        self.phoneme_stack = SpectrogramStack(hp.phoneme_n_mels, hp.phoneme_width)
        self.phoneme_rnn = self.lstm(hp.phoneme_width, hp.phoneme_width)
        self.phoneme_output = nn.Linear(hp.phoneme_width, hp.num_phonemes)
        self.mel = DecibelMel(
            sample_rate, hp.win_length, hp.hop_length, hp.n_mels, hp.fmin, hp.fmax
        )
        self.pitch_stack = SpectrogramStack(hp.n_mels, hp.width, dilation=2)
        self.pitch_rnn = self.lstm(hp.width, hp.width)
        self.logit_stack = SpectrogramStack(hp.num_phonemes, hp.width, dilation=2)
        self.logit_rnn = self.lstm(hp.width, hp.width)
        self.combined_rnn = self.lstm(2 * hp.width, hp.width)
        self.output = nn.Linear(hp.width, 3)

    @staticmethod
    def lstm(in_width: int, width: int) -> nn.LSTM:
        """Both directions together are `width` wide."""
        return nn.LSTM(in_width, width // 2, batch_first=True, bidirectional=True)

    def recognise(self, wav: Tensor) -> Tensor:
        """wav (B, S) → phoneme logits (B, T, 39), T = 1 + S // hop_length."""
        x = self.phoneme_stack(self.phoneme_mel(wav))
        return self.phoneme_output(self.phoneme_rnn(x)[0])

    def forward(self, wav: Tensor) -> Transcription:
        """wav (B, S) in [-1, 1] → logits of phonemes and notes, T = 1 + S // hop_length frames."""
        phoneme = self.recognise(wav)
        x_pitch, _ = self.pitch_rnn(self.pitch_stack(self.mel(wav)))
        x_phoneme, _ = self.logit_rnn(self.logit_stack(phoneme))
        x, _ = self.combined_rnn(torch.cat([x_pitch, x_phoneme], dim=2))
        return Transcription(phoneme, self.output(x))


def count_flops(network: nn.Module, *inputs: Tensor) -> int:
    """Floating-point operations of `network(*inputs)`: products and sums of matrix products,
    convolutions and attention, two per multiplication; pointwise work is not counted."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(*inputs)
    return counter.get_total_flops()
