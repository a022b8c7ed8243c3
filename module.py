"""Blocks of the networks: attention, prenets, convolution stacks, CBHG parts, 1-d U-Net parts.

A block receives plain integers and knows nothing of hyperparameters or data.
Legend: B batch, N symbols, T frames (or decoder steps), C channels, H heads, D width, M mels.
Sequences are (B, T, C) at every boundary; convolutions transpose inside. Signals of the U-Net are
(B, C, S), S positions at the level's own stride.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import ClassVar

import librosa
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

# ---------------------------------------------------------------------------------------------
# Sequences: masks, positions, convolutions that ignore padding
# ---------------------------------------------------------------------------------------------


def padding_mask(lengths: Tensor, size: int) -> Tensor:
    """True where a position is padding: (B,) lengths → (B, size)."""
    return torch.arange(size, device=lengths.device)[None, :] >= lengths[:, None]


def sinusoid(positions: Tensor, width: int) -> Tensor:
    """Sinusoidal position codes (Vaswani et al. 2017, 1706.03762, section 3.5).

    positions: (T,) float. Returns (T, width); even columns are sines, odd ones cosines. There is
    no table, hence no longest sequence.
    """
    rates = torch.exp(
        torch.arange(0, width, 2, device=positions.device) * (-math.log(10_000.0) / width)
    )
    angles = positions[:, None].float() * rates[None, :]  # (T, D/2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]  # (T, D)


class ScaledPositions(nn.Module):
    """x + α·PE with a learned α (Li et al. 2018, 1809.08895, eq. 3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.alpha = nn.Parameter(torch.ones(()))

    def codes(self, start: int, length: int) -> Tensor:
        """α·PE of positions start … start + length − 1: (length, D)."""
        positions = torch.arange(start, start + length, device=self.alpha.device)
        return self.alpha * sinusoid(positions, self.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        return x + self.codes(0, x.shape[1]).to(x.dtype)


def dropout(x: Tensor, p: float) -> Tensor:
    """Zero a share p of the values and scale up the rest, the mean unchanged.

    On a CPU torch draws one random number per value, an eighth of a training step; here one draw
    serves eight values, p being rounded to a multiple of 1/256.
    """
    if x.device.type != "cpu":
        return F.dropout(x, p)
    threshold = round(p * 256)
    if threshold == 0:
        return x
    words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
    is_kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= threshold
    # One product, forwards and backwards: a product with booleans converts on every pass.
    return x * is_kept.to(x.dtype).mul_(256.0 / (256 - threshold))


class Dropout(nn.Module):
    """`dropout` in training, nothing otherwise."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return dropout(x, self.p) if self.training else x


class MaskedConv(nn.Module):
    """A 1-d convolution of the same length over (B, T, C) for which padding is silence.

    Padded positions are zeroed before the kernel sees them, so an item gives the same result
    alone and in a batch of longer ones. Even kernels look one position further back than ahead;
    causal ones look only back.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, causal: bool = False
    ) -> None:
        super().__init__()
        ahead = 0 if causal else (kernel_size - 1) // 2
        self.pad = (kernel_size - 1 - ahead, ahead)
        self.conv = nn.Conv1d(in_channels, out_channels, kernel_size)

    def forward(self, x: Tensor, is_padding: Tensor | None = None) -> Tensor:
        """x (B, T, C), is_padding (B, T) or None → (B, T, C_out)."""
        if is_padding is not None:
            x = x.masked_fill(is_padding[..., None], 0.0)
        x = F.pad(x.transpose(1, 2), self.pad)  # (B, C, T + kernel - 1)
        return self.conv(x).transpose(1, 2)  # (B, T, C_out)


class ConvStack(nn.Module):
    """Convolution → layer norm → activation → dropout, several times over.

    Layer norm stands where Tacotron has batch norm: it needs no statistics of the batch, so
    padding, batch size and the number of processes cannot leak into an item.
    """

    def __init__(
        self,
        sizes: list[int],
        kernel_size: int,
        dropout: float,
        activation: type[nn.Module],
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            MaskedConv(a, b, kernel_size, causal) for a, b in pairwise(sizes)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in sizes[1:])
        self.activation = activation()
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, is_padding: Tensor | None = None) -> Tensor:
        """x (B, T, sizes[0]) → (B, T, sizes[-1])."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.dropout(self.activation(norm(conv(x, is_padding))))
        return x


# ---------------------------------------------------------------------------------------------
# Attention
# ---------------------------------------------------------------------------------------------


@dataclass
class KeyValueCache:
    """Keys and values of the steps decoded so far, of one self-attention layer.

    Storage doubles when it is full: appending is amortised O(1) and memory is at most twice
    what the sequence needs. `stored`: (2, B, H, capacity, D/H), keys first.
    """

    length: int = 0
    stored: Tensor | None = None

    def append(self, new: Tensor) -> tuple[Tensor, Tensor]:
        """Store the next step's keys and values (2, B, H, D/H); return all of both, each
        (B, H, length, D/H)."""
        if self.stored is None or self.length == self.stored.shape[3]:
            self._grow(new)
        self.stored[:, :, :, self.length] = new
        self.length += 1
        return self.stored[:, :, :, : self.length].unbind()

    def _grow(self, new: Tensor) -> None:
        grown = new.new_empty(*new.shape[:3], max(64, 2 * self.length), new.shape[3])
        if self.stored is not None:
            grown[:, :, :, : self.length] = self.stored
        self.stored = grown

    @property
    def num_bytes(self) -> int:
        """Bytes held."""
        return 0 if self.stored is None else self.stored.numel() * self.stored.element_size()


class Attention(nn.Module):
    """Multi-head scaled dot-product attention whose output projection also sees the query.

    With `concat`, out = W [input; context] (the earlier system's form); without it, W context.
    """

    def __init__(self, width: int, heads: int, concat: bool) -> None:
        super().__init__()
        self.heads = heads
        self.concat = concat
        self.to_query = nn.Linear(width, width)
        self.to_key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(2 * width if concat else width, width)

    def split(self, x: Tensor) -> Tensor:
        """(B, T, D) → (B, H, T, D/H)."""
        batch, steps, width = x.shape
        return x.view(batch, steps, self.heads, width // self.heads).transpose(1, 2)

    def keys_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Memory (B, N, D) → keys and values, each (B, H, N, D/H)."""
        keys, values = self.to_key_value(memory).chunk(2, dim=-1)
        return self.split(keys), self.split(values)

    def forward(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None = None,
        is_causal: bool = False,
        weight_heads: int = 0,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from x to the keys.

        x (B, T, D); keys, values (B, H, N, D/H); mask broadcastable to (B, H, T, N): boolean
        (True = may attend) or an additive log prior. Returns the output (B, T, D) and, for the
        first `weight_heads` heads, their weights (B, weight_heads, T, N) or None.
        """
        query = self.split(self.to_query(x))  # (B, H, T, D/H)
        context = attend(query, keys, values, mask, is_causal)  # (B, H, T, D/H)
        context = context.transpose(1, 2).flatten(2)  # (B, T, D)
        weights = None
        if weight_heads:
            weights = attention_weights(
                query[:, :weight_heads], keys[:, :weight_heads], mask, is_causal
            )
        return self.out(torch.cat([x, context], dim=-1) if self.concat else context), weights


def attend(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, is_causal: bool
) -> Tensor:
    """SDPA: (B, H, T, d) onto (B, H, N, d) → (B, H, T, d) in the query's dtype.

    On a CPU it runs in float32 also under autocast: the backward of its bfloat16 kernel takes three
    times as long.
    """
    dtype = query.dtype
    if query.device.type != "cpu" or dtype == torch.float32:
        return F.scaled_dot_product_attention(query, keys, values, mask, is_causal=is_causal)
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.float()
    with torch.autocast("cpu", enabled=False):
        context = F.scaled_dot_product_attention(
            query.float(), keys.float(), values.float(), mask, is_causal=is_causal
        )
    return context.to(dtype)


def attention_weights(query: Tensor, keys: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor:
    """Softmax weights that SDPA does not return: (B, h, T, d), (B, h, N, d) → (B, h, T, N)."""
    scores = query @ keys.transpose(-1, -2) / math.sqrt(query.shape[-1])  # (B, h, T, N)
    if mask is not None:
        if mask.shape[1] > 1:
            mask = mask[:, : query.shape[1]]
        additive = mask.dtype != torch.bool
        scores = scores + mask if additive else scores.masked_fill(~mask, -torch.inf)
    if is_causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(future, -torch.inf)
    return scores.float().softmax(-1)


class FeedForward(nn.Module):
    """Position-wise network: D → inner → D."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.expand = nn.Linear(width, inner)
        self.contract = nn.Linear(inner, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        return self.contract(self.dropout(F.relu(self.expand(x))))


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each normalised first and added to its input."""

    def __init__(self, width: int, heads: int, inner: int, concat: bool, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, concat)
        self.feedforward_norm = nn.LayerNorm(width)
        self.feedforward = FeedForward(width, inner, dropout)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Tensor, may_attend: Tensor, weight_heads: int = 0
    ) -> tuple[Tensor, Tensor | None]:
        """x (B, N, D), may_attend (B, 1, 1, N) → (B, N, D) and weights on request."""
        normed = self.attention_norm(x)
        keys, values = self.attention.keys_values(normed)
        context, weights = self.attention(
            normed, keys, values, may_attend, weight_heads=weight_heads
        )
        x = x + self.dropout(context)
        return x + self.dropout(self.feedforward(self.feedforward_norm(x))), weights


@dataclass
class LayerWeights:
    """Attention weights of one decoder layer: own (B, h, T, T), cross (B, h, T, N)."""

    own: Tensor | None
    cross: Tensor | None


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the symbols, feed-forward; pre-norm, residual."""

    def __init__(self, width: int, heads: int, inner: int, concat: bool, dropout: float) -> None:
        super().__init__()
        self.own_norm = nn.LayerNorm(width)
        self.own = Attention(width, heads, concat)
        self.cross_norm = nn.LayerNorm(width)
        self.cross = Attention(width, heads, concat)
        self.feedforward_norm = nn.LayerNorm(width)
        self.feedforward = FeedForward(width, inner, dropout)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        cross_mask: Tensor,
        own_heads: int = 0,
        cross_heads: int = 0,
    ) -> tuple[Tensor, LayerWeights]:
        """The whole sequence at once; `DecoderLayerStep` goes step by step.

        x (B, T, D); memory (B, N, D), the encoded symbols; cross_mask broadcastable to
        (B, H, T, N), additive. Returns (B, T, D) and the weights of the first own_heads /
        cross_heads heads.
        """
        normed = self.own_norm(x)
        keys, values = self.own.keys_values(normed)
        context, own = self.own(normed, keys, values, is_causal=True, weight_heads=own_heads)
        x = x + self.dropout(context)
        context, cross = self.cross(
            self.cross_norm(x),
            *self.cross.keys_values(memory),
            cross_mask,
            weight_heads=cross_heads,
        )
        x = x + self.dropout(context)
        x = x + self.dropout(self.feedforward(self.feedforward_norm(x)))
        return x, LayerWeights(own, cross)


class DecoderLayerStep:
    """A trained `DecoderLayer` that takes one step at a time, for inference.

    A step is bound by the number of operations and by reading the weights once. What depends on
    the same input is therefore one product: [query; key; value; W_x] x, where the output
    projection W [x; context] = W_x x + W_c context is split into its halves.
    """

    def __init__(self, layer: DecoderLayer, memory: Tensor) -> None:
        """memory (B, N, D): the encoded symbols; their keys and values are made here, once."""
        self.layer, self.cache = layer, KeyValueCache()
        self.heads, self.width = layer.own.heads, memory.shape[-1]
        keys_values = (layer.own.to_query, layer.own.to_key_value)
        self.own_in, self.own_out = self._split(layer.own, keys_values)
        self.cross_in, self.cross_out = self._split(layer.cross, (layer.cross.to_query,))
        self.keys, self.values = (t.contiguous() for t in layer.cross.keys_values(memory))

    def _split(
        self, attention: Attention, projections: Sequence[nn.Linear]
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """(weight, bias) of all that sees the input, and W_c transposed, of one attention."""
        out = attention.out.weight
        seen = out[:, : self.width] if attention.concat else torch.zeros_like(out)
        weight = torch.cat([*(part.weight for part in projections), seen])
        bias = torch.cat([*(part.bias for part in projections), attention.out.bias])
        return (weight, bias), out[:, -self.width :].T.contiguous()

    def __call__(
        self, x: Tensor, cross_mask: Tensor | None, cross_heads: int = 0
    ) -> tuple[Tensor, Tensor | None]:
        """x (B, D) → (B, D) and the weights (B, cross_heads, 1, N) of the first heads.

        cross_mask: additive, broadcastable to (B, H, 1, N), None = all symbols alike.
        """
        layer, batch = self.layer, len(x)
        depth = self.width // self.heads
        seen = F.linear(layer.own_norm(x), *self.own_in)  # (B, 4·D)
        new = seen[:, self.width : 3 * self.width].view(batch, 2, self.heads, depth)
        query = seen[:, : self.width].view(batch, self.heads, 1, depth)
        keys, values = self.cache.append(new.transpose(0, 1))
        context = F.scaled_dot_product_attention(query, keys, values).view(batch, -1)
        x = torch.addmm(x + seen[:, 3 * self.width :], context, self.own_out)

        seen = F.linear(layer.cross_norm(x), *self.cross_in)  # (B, 2·D)
        query = seen[:, : self.width].view(batch, self.heads, 1, depth)
        context = F.scaled_dot_product_attention(query, self.keys, self.values, cross_mask)
        x = torch.addmm(x + seen[:, self.width :], context.view(batch, -1), self.cross_out)

        expand, contract = layer.feedforward.expand, layer.feedforward.contract
        inner = F.linear(layer.feedforward_norm(x), expand.weight, expand.bias).relu_()
        x = x + F.linear(inner, contract.weight, contract.bias)
        if not cross_heads:
            return x, None
        keys = self.keys[:, :cross_heads]
        return x, attention_weights(query[:, :cross_heads], keys, cross_mask, is_causal=False)


# ---------------------------------------------------------------------------------------------
# The way in and out of the decoder
# ---------------------------------------------------------------------------------------------


class DecoderPrenet(nn.Module):
    """Bottleneck on the previous frames (Shen et al. 2018, 1712.05884): dropout never sleeps.

    The dropout masks may be given, so that an item's rendering depends on its own seed alone
    and cached decoding can be compared with a full pass.
    """

    LAYERS = 2

    def __init__(self, in_features: int, hidden: int, width: int, dropout: float) -> None:
        super().__init__()
        self.hidden = hidden
        self.dropout = dropout
        self.layers = nn.ModuleList([nn.Linear(in_features, hidden), nn.Linear(hidden, hidden)])
        self.out = nn.Linear(hidden, width)

    def draw_keep(self, steps: int, generator: torch.Generator) -> Tensor:
        """Dropout masks for some steps of one item: (steps, 2, hidden), values 0 or 1/(1−p)."""
        shape = (steps, self.LAYERS, self.hidden)
        kept = torch.rand(shape, generator=generator) >= self.dropout
        return kept.float() / (1.0 - self.dropout)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """x (B, T, M), keep (B, T, 2, hidden) or None (drawn anew) → (B, T, D)."""
        for index, layer in enumerate(self.layers):
            x = F.relu(layer(x))
            x = dropout(x, self.dropout) if keep is None else x * keep[:, :, index]
        return self.out(x)


class FrameNotes(nn.Module):
    """What a decoder step knows of the score: the notes of its r frames and the place in them.

    The earlier notes of a phrase reach the decoder through its own history; these tell it what
    to sing now.
    """

    EMBEDDING = 64

    def __init__(self, num_pitches: int, reduction_factor: int, width: int) -> None:
        super().__init__()
        self.reduction_factor = reduction_factor
        self.pitch = nn.Embedding(num_pitches, self.EMBEDDING)
        self.hidden = nn.Linear(reduction_factor * (self.EMBEDDING + 1), width)
        self.out = nn.Linear(width, width)

    def forward(self, frame_pitch: Tensor, frame_position: Tensor) -> Tensor:
        """frame_pitch (B, T) MIDI, 0 = none; frame_position (B, T) in the note, 0 … 1; T = r·steps.

        Returns (B, steps, D).
        """
        batch, frames = frame_pitch.shape
        x = torch.cat([self.pitch(frame_pitch), frame_position[..., None]], dim=-1)
        x = x.reshape(batch, frames // self.reduction_factor, -1)  # (B, steps, r·(E + 1))
        return self.out(F.relu(self.hidden(x)))


def has_times(interval: Tensor) -> Tensor:
    """Which items know when their symbols sound: intervals (B, N, 2) s that are not all zero, (B,).

    A score's intervals say in this way which items of a batch are sung.
    """
    return interval.amax(dim=(1, 2)) > 0


def interval_log_prior(interval: Tensor, frame_times: Tensor, width: Tensor | float) -> Tensor:
    """Additive attention prior from times: −distance² / 2w² to a symbol's interval.

    interval (B, N, 2) s; frame_times (T,) s; width w in s, one for all or (B,). Returns (B, T, N).
    Inside its interval a symbol has distance 0 (a plateau: a long vowel is as likely at its end as
    at its start). An item whose intervals are all zero has no times and gets no prior.
    """
    times = frame_times[None, :, None]
    start, end = interval[:, None, :, 0], interval[:, None, :, 1]  # (B, 1, N)
    distance = (start - times).clamp_min(0.0) + (times - end).clamp_min(0.0)  # (B, T, N)
    width = torch.as_tensor(width, device=interval.device).reshape(-1, 1, 1)
    return torch.where(has_times(interval)[:, None, None], -(distance**2) / (2.0 * width**2), 0.0)


def place_in_interval(interval: Tensor, frame_times: Tensor) -> Tensor:
    """How far each frame is through the symbol that sounds then, 0 … 1: (B, N, 2), (T,) → (B, T).

    0 where no symbol sounds.
    """
    times = frame_times[None, :, None]
    start, end = interval[:, None, :, 0], interval[:, None, :, 1]  # (B, 1, N)
    sounds = (start <= times) & (times < end)  # (B, T, N)
    place = (times - start) / (end - start).clamp_min(1e-6)
    return (place * sounds).sum(-1).clamp(0.0, 1.0)


SOUNDING_WIDTH = 0.02  # s around a bound in which both symbols are heard: a frame either way
BOUND_WIDTH = 0.05  # s over which the nearness of a bound fades: the length of a consonant


def sounding_symbols(
    memory: Tensor, is_padding: Tensor, interval: Tensor, frame_times: Tensor
) -> Tensor:
    """The symbols at the frames: memory (B, N, D) at interval (B, N, 2) s → (B, T, D + 2).

    The last two features say how near the symbol's beginning and end are, 1 … 0 (is_padding (B, N),
    frame_times (T,) s). Around a bound both neighbours are heard, over SOUNDING_WIDTH. Items
    without times get zeros.
    """
    prior = interval_log_prior(interval, frame_times, SOUNDING_WIDTH)  # (B, T, N)
    share = prior.masked_fill(is_padding[:, None], -torch.inf).softmax(-1)
    since = (frame_times[None, :, None] - interval[:, None, :, 0]).clamp_min(0.0)  # (B, T, N)
    until = (interval[:, None, :, 1] - frame_times[None, :, None]).clamp_min(0.0)
    near = [(share * (-distance / BOUND_WIDTH).exp()).sum(-1) for distance in (since, until)]
    heard = share.to(memory.dtype) @ memory  # (B, T, D)
    sounding = torch.cat([heard, torch.stack(near, dim=-1).to(heard.dtype)], dim=-1)
    return sounding * has_times(interval)[:, None, None]


class MelPostnet(nn.Module):
    """What is added to a decoder's mel, frame by frame (the postnet of Shen et al. 2018, told of
    the symbol and the note of each frame).

    Causal in the mel, because a decoder that is taught on true frames has seen those before: a look
    ahead would give the answer away. The score is known beforehand: its stream looks both ways.
    """

    def __init__(
        self,
        n_mels: int,
        symbol_width: int,
        num_pitches: int,
        width: int,
        layers: int,
        kernel_size: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.mel = nn.Linear(n_mels, width)
        self.symbol = nn.Linear(symbol_width + 2, width)
        self.pitch = nn.Embedding(num_pitches, width)
        self.context = MaskedConv(width, width, kernel_size)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.convs = nn.ModuleList(
            MaskedConv(width, width, kernel_size, causal=True) for _ in range(layers)
        )
        self.dropout = Dropout(dropout)
        self.out = nn.Linear(width, n_mels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, mel: Tensor, sounding: Tensor, pitch: Tensor, is_padding: Tensor) -> Tensor:
        """mel (B, T, M), sounding (B, T, D + 2), pitch (B, T), is_padding (B, T) → (B, T, M)."""
        score = F.gelu(self.symbol(sounding) + self.pitch(pitch))
        x = self.mel(mel) + self.context(score, is_padding)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = x + self.dropout(F.gelu(conv(norm(x), is_padding)))
        return self.out(x).float()


def corrupt_history(
    mel: Tensor, zero_max: float, noise_max: float, generator: torch.Generator
) -> Tensor:
    """Spoil the frames the decoder is taught on, as its own output will be spoilt.

    mel (B, T, M), standardised. Per item, a share of frames drawn from U(0, zero_max) becomes zero
    (the mean) and Gaussian noise of a standard deviation drawn from U(0, noise_max) is added.
    Against exposure bias: a decoder that cannot trust its history reads the text and the score.
    """
    batch, frames, _ = mel.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).to(mel.device)

    is_zeroed = uniform(batch, frames) < zero_max * uniform(batch, 1)  # (B, T)
    noise = torch.randn(mel.shape, generator=generator).to(mel.device)
    noisy = mel + noise_max * uniform(batch, 1, 1) * noise
    return noisy.masked_fill(is_zeroed[..., None], 0.0)


# ---------------------------------------------------------------------------------------------
# CBHG parts (Wang et al. 2017, 1703.10135, section 3.1)
# ---------------------------------------------------------------------------------------------


class ConvBank(nn.Module):
    """Convolutions of widths 1 … K side by side on one input, then max-pooled over two steps."""

    def __init__(self, in_channels: int, channels: int, kernels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            MaskedConv(in_channels, channels, k) for k in range(1, kernels + 1)
        )
        self.norm = nn.LayerNorm(kernels * channels)

    def forward(self, x: Tensor, is_padding: Tensor | None = None) -> Tensor:
        """(B, T, C_in) → (B, T, K·C)."""
        x = torch.cat([conv(x, is_padding) for conv in self.convs], dim=-1)  # (B, T, K·C)
        x = F.relu(self.norm(x))
        if is_padding is not None:
            x = x.masked_fill(is_padding[..., None], 0.0)
        following = F.pad(x[:, 1:], (0, 0, 0, 1))  # one step ahead; ReLU output ≥ 0, so 0 pads
        return torch.maximum(x, following)


class Highway(nn.Module):
    """Gated identity: g·relu(Wx) + (1 − g)·x (Srivastava et al. 2015, 1505.00387)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.transform = nn.Linear(width, width)
        self.gate = nn.Linear(width, width)
        nn.init.constant_(self.gate.bias, -1.0)  # starts as the identity

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        gate = torch.sigmoid(self.gate(x))
        return torch.lerp(x, F.relu(self.transform(x)), gate)


class PaddedGRU(nn.Module):
    """A bidirectional GRU whose backward direction starts at each item's last valid frame."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(width, hidden, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """x (B, T, D), lengths (B,) or None when nothing is padded → (B, T, 2·hidden)."""
        if lengths is None or bool((lengths == x.shape[1]).all()):
            return self.gru(x)[0]
        packed = nn.utils.rnn.pack_padded_sequence(
            x, lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        out, _ = nn.utils.rnn.pad_packed_sequence(
            self.gru(packed)[0], batch_first=True, total_length=x.shape[1]
        )
        return out


# ---------------------------------------------------------------------------------------------
# 1-d U-Net: signals are pictures one row high, (B, C, 1, S), because only pictures may keep their
# channels side by side in memory (`as_row`); attention takes them as (B, S, C)
# ---------------------------------------------------------------------------------------------

KAISER_BETA = 4.0 * math.pi  # of the MDCT's windows: what is loud stays out of bands far away
LEAST_POWER = 1e-5  # of a draft, in units of σ_data²: what is softer is silence
NOISE_BOUND = 6.0  # standard deviations of the noise: what a spectral gain works on stays within


def as_row(x: Tensor) -> Tensor:
    """x (B, C, S) → (B, C, 1, S), in the order in memory that convolutions are fastest in.

    In half precision, and on a GPU, that is channels side by side; in float32 on a CPU it is not.
    """
    is_half = x.dtype != torch.float32 or torch.is_autocast_enabled("cpu")
    if is_half or x.device.type != "cpu":
        return x[:, :, None].contiguous(memory_format=torch.channels_last)
    return x[:, :, None].contiguous()


class Conv1d(nn.Conv1d):
    """nn.Conv1d, weights and all, of signals (B, C, 1, S)."""

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C_in, 1, S) → (B, C_out, 1, S')."""
        weight = self.weight[:, :, None]  # (C_out, C_in, 1, K)
        return F.conv2d(x, weight, self.bias, (1, *self.stride), (0, *self.padding))


class ConvTranspose1d(nn.ConvTranspose1d):
    """nn.ConvTranspose1d, weights and all, of signals (B, C, 1, S)."""

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C_in, 1, S) → (B, C_out, 1, S')."""
        return F.conv_transpose2d(
            x,
            self.weight[:, :, None],  # (C_in, C_out, 1, K)
            self.bias,
            (1, *self.stride),
            (0, *self.padding),
            (0, *self.output_padding),
        )


class GroupNorm(nn.GroupNorm):
    """Group normalisation (Wu and He 2018); its kernels sum in float32 whatever the type."""

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, ...) any float type → the same shape and type."""
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        if torch.is_grad_enabled() and not x.requires_grad:
            # Side by side, torch 2.11 writes a gradient of x that nobody asked for, into nothing.
            x = x.contiguous()
        return F.group_norm(x, self.num_groups, weight, bias, self.eps)


class NoiseEmbedding(nn.Module):
    """c_noise → a vector that every residual block reads: learned Fourier features and an MLP."""

    def __init__(self, width: int) -> None:
        """width: features of the sinusoids, twice the number of frequencies; output 4 * width."""
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(width // 2))
        self.project = nn.Linear(width + 1, 4 * width)
        self.mapping = nn.Sequential(
            nn.Linear(4 * width, 4 * width), nn.GELU(), nn.Linear(4 * width, 4 * width), nn.GELU()
        )

    def forward(self, c_noise: Tensor) -> Tensor:
        """c_noise (B,) → (B, 4 * width); the phases are float32, for noise levels lie close."""
        c_noise = c_noise.float()[:, None]  # (B, 1)
        phase = 2 * math.pi * c_noise * self.frequencies  # (B, width / 2)
        features = torch.cat([c_noise, phase.sin(), phase.cos()], dim=1)
        return F.silu(self.mapping(F.gelu(self.project(features))))


class ResidualBlock1d(nn.Module):
    """Two normalised convolutions; the noise level scales and shifts between them."""

    def __init__(self, in_channels: int, out_channels: int, groups: int, mapping: int) -> None:
        """groups: of both normalisations; mapping: width of the noise embedding."""
        super().__init__()
        self.norm1 = GroupNorm(groups, in_channels)
        self.conv1 = Conv1d(in_channels, out_channels, 3, padding=1)
        self.scale_shift = nn.Linear(mapping, 2 * out_channels)
        self.norm2 = GroupNorm(groups, out_channels)
        self.conv2 = Conv1d(out_channels, out_channels, 3, padding=1)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else Conv1d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, mapping: Tensor) -> Tensor:
        """x (B, C_in, 1, S), mapping (B, W) → (B, C_out, 1, S)."""
        h = self.conv1(F.silu(self.norm1(x)))
        film = self.scale_shift(mapping)[:, :, None, None]
        scale, shift = film.chunk(2, dim=1)  # (B, C_out, 1, 1)
        h = torch.addcmul(shift, self.norm2(h), scale + 1)
        return self.conv2(F.silu(h)) + self.shortcut(x)


class PatchBlock(nn.Module):
    """A residual block, then `factor` neighbouring samples become channels."""

    def __init__(self, in_channels: int, out_channels: int, factor: int, mapping: int) -> None:
        super().__init__()
        self.factor = factor
        groups = math.gcd(factor, in_channels)
        self.block = ResidualBlock1d(in_channels, out_channels // factor, groups, mapping)

    def forward(self, x: Tensor, mapping: Tensor) -> Tensor:
        """x (B, C_in, 1, S) → (B, C_out, 1, S / factor); channel c of sample p: c * factor + p."""
        x = self.block(x, mapping).squeeze(2)
        x = x.unflatten(2, (-1, self.factor))  # (B, C_out / factor, S / factor, factor)
        return x.transpose(2, 3).flatten(1, 2)[:, :, None]  # (B, C_out, 1, S / factor)


class UnpatchBlock(nn.Module):
    """The way back of `PatchBlock`: channels become neighbouring samples, then the block."""

    def __init__(self, in_channels: int, out_channels: int, factor: int, mapping: int) -> None:
        super().__init__()
        self.factor = factor
        groups = math.gcd(factor, out_channels)
        self.block = ResidualBlock1d(in_channels // factor, out_channels, groups, mapping)

    def forward(self, x: Tensor, mapping: Tensor) -> Tensor:
        """x (B, C_in, 1, S) → (B, C_out, 1, S * factor)."""
        x = x.squeeze(2).unflatten(1, (-1, self.factor))  # (B, C_in / factor, factor, S)
        x = x.transpose(2, 3).flatten(2, 3)  # (B, C_in / factor, S * factor)
        return self.block(x[:, :, None], mapping)


class ModifiedCosineTransform(nn.Module):
    """Signal ↔ N real coefficients for every N samples, orthogonal (MDCT, Princen & Bradley 1986).

    Frame p of 2N samples is centred on the p-th stretch of N, under a Kaiser-Bessel-derived window;
    the outer halves of the first and the last frame begin and end with the signal. So S samples
    make S coefficients, white noise stays white, and the transform's transpose is its inverse.
    It computes in float32 whatever autocast says: what is 80 dB softer than its neighbour counts.
    """

    def __init__(self, size: int) -> None:
        """size: N."""
        super().__init__()
        self.size = size
        n = torch.arange(2 * size, dtype=torch.float64)[None] + 0.5
        k = torch.arange(size, dtype=torch.float64)[:, None] + 0.5
        phase = torch.pi / size * (n + size / 2) * k
        waves = (2 / size) ** 0.5 * torch.stack([phase.cos(), phase.sin()])
        rise = torch.kaiser_window(size + 1, False, KAISER_BETA, dtype=torch.float64).cumsum(0)
        rise = (rise[:-1] / rise[-1]).sqrt()
        window = torch.cat([rise, rise.flip(0)])
        edge = (torch.arange(size) >= size // 2).float()  # the signal's start within a frame
        self.register_buffer("waves", waves.float(), persistent=False)  # (2, N, 2N)
        self.register_buffer("window", window.float(), persistent=False)  # (2N,)
        self.register_buffer("edge", edge, persistent=False)  # (N,)

    def windows(self, count: int) -> Tensor:
        """The windows of all frames, (P, 2N)."""
        windows = self.window.repeat(count, 1)
        windows[0, : self.size] = self.edge
        windows[-1, self.size :] = self.edge.flip(0)
        return windows

    def forward(self, x: Tensor) -> Tensor:
        """x (..., S), S a multiple of N → coefficients (..., P, N), P = S / N."""
        with torch.autocast(x.device.type, enabled=False):
            return self.frames(x) @ self.waves[0].T

    def with_power(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The coefficients, and the power around each whatever its phase: (..., P, N) both.

        The mean of the squares of cosine and sine: a steady tone's coefficients come and go with
        its phase, their power stays.
        """
        with torch.autocast(x.device.type, enabled=False):
            frames = self.frames(x)
            cosine, sine = (frames @ wave.T for wave in self.waves)
            return cosine, 0.5 * (cosine.square() + sine.square())

    def frames(self, x: Tensor) -> Tensor:
        """Windowed frames (..., P, 2N) of x (..., S), float32."""
        half = self.size // 2
        frames = F.pad(x.float(), (half, half)).unfold(-1, 2 * self.size, self.size)
        return frames * self.windows(frames.shape[-2])

    def inverse(self, coefficients: Tensor) -> Tensor:
        """coefficients (..., P, N) → x (..., S), float32."""
        with torch.autocast(coefficients.device.type, enabled=False):
            frames = coefficients.float() @ self.waves[0]
            frames = frames * self.windows(frames.shape[-2])
            first, second = frames.split(self.size, dim=-1)  # (..., P, N) each
            wav = F.pad(first, (0, 0, 0, 1)) + F.pad(second, (0, 0, 1, 0))  # (..., P + 1, N)
            half = self.size // 2
            return wav.flatten(-2)[..., half:-half]


class NoiseShape(nn.Module):
    """Noise as loud as a vocal is expected to be: Σ = σ²·L·Lᵀ, L = Wᵀ·diag(G)·W, W the MDCT.

    White noise hides what is soft long before what is loud, so a white process makes the soft parts
    last, in few levels and under the errors of the loud ones. Noise with the envelope of the draft
    (SpecGrad, 2203.16749) brings every coefficient to the same signal-to-noise ratio at every
    level. With p the draft's power around a coefficient, in units of σ_data²,

        G² = gain·p^exponent + floor,

    the mean power of the true coefficient where a draft says p: an exponent below 1, for a draft
    errs. Without a draft G² is the mean power of the vocals trained on, one value per coefficient.
    """

    def __init__(
        self,
        transform: ModifiedCosineTransform,
        stride: int,
        exponent: float,
        gain: float,
        floor: float,
    ) -> None:
        """stride: windows are padded to its multiples, as the network's."""
        super().__init__()
        self.transform = transform
        self.stride, self.exponent, self.gain, self.floor = stride, exponent, gain, floor
        self.register_buffer("mean_power", torch.ones(transform.size))  # white until measured

    def power(self, x: Tensor) -> Tensor:
        """x (..., S) in units of σ_data → p (..., P, N)."""
        return self.transform.with_power(self.pad(x))[1]

    def measure(self, vocals: Tensor) -> None:
        """Take the mean power of vocals (B, S), in units of σ_data, for all without a draft."""
        self.mean_power.copy_(self.power(vocals).mean((0, 1)) + self.floor)

    def gains(self, power: Tensor, is_told: Tensor | None = None) -> Tensor:
        """G (B, 1, P, N) of drafts' power p (B, 1, P, N); is_told (B,) bool, False = no draft."""
        gains = (self.gain * power.pow(self.exponent) + self.floor).sqrt()
        if is_told is None:
            return gains
        return torch.where(is_told[:, None, None, None], gains, self.mean_power.sqrt())

    def forward(self, x: Tensor, gains: Tensor) -> Tensor:
        """L·x of the first channel of x (B, C, S), the vocal; with 1 / G it is L⁻¹·x."""
        vocal = self.transform.inverse(gains * self.transform(self.pad(x[:, :1])))
        return torch.cat([vocal[..., : x.shape[-1]].to(x.dtype), x[:, 1:]], dim=1)

    def pad(self, x: Tensor) -> Tensor:
        """Silence up to the next multiple of the stride."""
        return F.pad(x, (0, -x.shape[-1] % self.stride))


class SpectralPatch(nn.Module):
    """What is known of each frame, side by side, then residual blocks.

    The blocks read coefficients in units of the noise, compressed: those of the noise have variance
    1 at every level, a loud voice is a few times that, and neither hides the other. Of a draft they
    read the level of each band: what its phases mean, only a coefficient's own neighbours tell.
    """

    MARKS = 16  # values that a mark has in a frame

    def __init__(
        self,
        signals: int,
        marks: int,
        out_channels: int,
        size: int,
        num_blocks: int,
        groups: int,
        mapping: int,
    ) -> None:
        """signals, marks: channels of each, a draft among them; size: N of the spectra."""
        super().__init__()
        self.size = size
        widths = [signals * size + marks * self.MARKS] + [out_channels] * num_blocks
        self.blocks = nn.ModuleList(
            ResidualBlock1d(a, b, groups, mapping) for a, b in pairwise(widths)
        )

    def forward(self, spectra: Tensor, power: Tensor, marks: Tensor, mapping: Tensor) -> Tensor:
        """spectra (B, C, P, N), noise = 1; power (B, 1 or 0, P, N) of a draft in units of σ_data²;
        marks (B, M, S) in [0, 1]; mapping (B, W) of the noise level → (B, C_out, 1, P)."""
        marks = F.avg_pool1d(marks, self.size // self.MARKS)  # (B, M, P·16)
        marks = marks.unflatten(2, (-1, self.MARKS))
        parts = (spectra.asinh(), 0.25 * (power + LEAST_POWER).log(), marks)
        rows = torch.cat([part.transpose(1, 2).flatten(2) for part in parts], dim=2)
        x = as_row(rows.transpose(1, 2))  # (B, K·N + M·16, 1, P)
        for block in self.blocks:
            x = block(x, mapping)
        return x


class SpectralUnpatch(nn.Module):
    """Residual blocks, then for every coefficient an offset and the weights of its sources.

    A denoiser shrinks the coefficients of the noisy signal, takes over those of a draft, and adds
    what is missing: all of it begins at zero. In units of the noise the weights lie between -1
    (nothing is left) and 0 (all is kept) at every level; a source is bounded, for a coefficient far
    above the noise needs next to no change, and must not make a small error of its weight a large
    one. What the levels know of a frame decides the weights coarsely; whether a coefficient stands
    out of the noise is seen around it, where convolutions over time and frequency look.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        sources: int,
        size: int,
        num_blocks: int,
        groups: int,
        mapping: int,
        width: int,
        dilations: Sequence[int],
    ) -> None:
        """sources: spectra that a coefficient may be taken from, of the noisy signal (out_channels)
        and of a draft (1 or 0); width: channels of the convolutions over time and frequency;
        dilations: of those that look farther."""
        super().__init__()
        self.terms = (1 + sources, out_channels, size)
        self.blocks = nn.ModuleList(
            ResidualBlock1d(in_channels, in_channels, groups, mapping) for _ in range(num_blocks)
        )
        self.output = Conv1d(in_channels, math.prod(self.terms), 1)
        terms = (1 + sources) * out_channels
        seen = 2 * (out_channels + sources - 1)
        self.look = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1)
            for a, b in ((terms + seen, width), (width, width), (width, terms))
        )
        self.far = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
            for dilation in dilations
        )
        for convolutions in (self.look, self.far):
            convolutions.to(memory_format=torch.channels_last)  # twice as fast on a CPU
        for layer in (self.output, self.look[-1], *self.far):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, mapping: Tensor, spectra: Tensor, power: Tensor) -> Tensor:
        """x (B, C_in, 1, P) → coefficients (B, C_out, P, N) in units of the network's output.

        mapping (B, W) of the noise level; spectra (B, C_out + 1 or 0, P, N): of the noisy signal
        and a draft, noise = 1; power, of the same shape: theirs, whatever the phase.
        """
        for block in self.blocks:
            x = block(x, mapping)
        rows = self.output(x).squeeze(2).transpose(1, 2)  # (B, P, outputs)
        rows = rows.unflatten(2, (-1, self.terms[-1])).transpose(1, 2)  # (B, terms, P, N)
        h = torch.cat([rows, spectra.asinh().to(rows.dtype), power.log1p().to(rows.dtype)], dim=1)
        h = h.contiguous(memory_format=torch.channels_last)
        for layer in self.look[:-1]:
            h = F.silu(layer(h))
        for layer in self.far:
            h = h + layer(F.silu(h))
        rows = rows + self.look[-1](h)
        total, *weights = rows.float().unflatten(1, self.terms[:2]).unbind(1)  # (B, C_out, P, N)
        spectra = NOISE_BOUND * (spectra / NOISE_BOUND).tanh()
        sources = spectra.tensor_split([self.terms[1]], dim=1)
        for weight, source in zip(weights, sources, strict=False):  # without a draft, one source
            total = torch.addcmul(total, weight, source)
        return total


class SelfAttention(nn.Module):
    """Normalised multi-head self-attention with a normalised output, without positions."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, bias=False)
        self.to_query = nn.Linear(width, heads * head_width, bias=False)
        self.to_key_value = nn.Linear(width, 2 * heads * head_width, bias=False)
        self.project = nn.Linear(heads * head_width, width, bias=False)
        self.project_norm = nn.LayerNorm(width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, S, C) → (B, S, C); the residual sum is the caller's."""
        x = self.norm(x)
        query, key, value = (
            y.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, H, S, D)
            for y in (self.to_query(x), *self.to_key_value(x).chunk(2, dim=2))
        )
        y = F.scaled_dot_product_attention(query, key, value)
        return self.project_norm(self.project(y.transpose(1, 2).flatten(2)))  # (B, S, C)


class TransformerBlock1d(nn.Module):
    """Self-attention and a position-wise network, each with its residual sum."""

    def __init__(self, width: int, heads: int, head_width: int, multiplier: int) -> None:
        """multiplier: inner width of the position-wise network, in widths."""
        super().__init__()
        self.attention = SelfAttention(width, heads, head_width)
        self.norm1 = nn.LayerNorm(width, bias=False)
        self.linear1 = nn.Linear(width, multiplier * width, bias=False)
        self.norm2 = nn.LayerNorm(multiplier * width, bias=False)
        self.linear2 = nn.Linear(multiplier * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, 1, S) → (B, C, 1, S)."""
        x = x.squeeze(2).transpose(1, 2)  # (B, S, C)
        x = self.attention(x) + x
        h = F.gelu(self.linear1(self.norm1(x)))
        x = self.linear2(self.norm2(h)) + x
        return as_row(x.transpose(1, 2))


class Bottleneck1d(nn.Module):
    """Two residual blocks; the attention between them replaces the signal, it is not added."""

    def __init__(
        self, channels: int, groups: int, mapping: int, attention: nn.Module | None
    ) -> None:
        super().__init__()
        self.before = ResidualBlock1d(channels, channels, groups, mapping)
        self.attention = attention
        self.after = ResidualBlock1d(channels, channels, groups, mapping)

    def forward(self, x: Tensor, mapping: Tensor) -> Tensor:
        """x (B, C, 1, S), mapping (B, W) of the noise level → (B, C, 1, S)."""
        x = self.before(x, mapping)
        if self.attention is not None:
            x = as_row(self.attention(x.squeeze(2).transpose(1, 2)).transpose(1, 2))
        return self.after(x, mapping)


class DownLevel(nn.Module):
    """Strided convolution, residual blocks, attention; what each block gives is also a skip."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        factor: int,
        kernel_multiplier: int,
        num_blocks: int,
        groups: int,
        mapping: int,
        transformer: nn.Module | None,
    ) -> None:
        super().__init__()
        self.downsample = Conv1d(
            in_channels,
            out_channels,
            factor * kernel_multiplier + 1,
            stride=factor,
            padding=factor * (kernel_multiplier // 2),
        )
        self.blocks = nn.ModuleList(
            ResidualBlock1d(out_channels, out_channels, groups, mapping) for _ in range(num_blocks)
        )
        self.transformer = transformer

    def forward(
        self,
        x: Tensor,
        mapping: Tensor,
        film: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """x (B, C_in, 1, S) → (B, C_out, 1, S / factor) and the skips of that shape.

        mapping (B, W) of the noise level; film: the context's scale and shift (B, C_out, 1,
        S / factor) each.
        """
        x = self.downsample(x)
        if film is not None:
            x = torch.addcmul(film[1], x, film[0] + 1)
        skips = []
        for block in self.blocks:
            x = block(x, mapping)
            skips.append(x)
        if self.transformer is not None:
            x = self.transformer(x)
            skips.append(x)
        return x, skips


class UpLevel(nn.Module):
    """Residual blocks that each take one skip, attention, transposed convolution."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        factor: int,
        num_blocks: int,
        groups: int,
        mapping: int,
        transformer: nn.Module | None,
        skip_scale: float = 2**-0.5,
    ) -> None:
        super().__init__()
        self.skip_scale = skip_scale
        self.blocks = nn.ModuleList(
            ResidualBlock1d(2 * in_channels, in_channels, groups, mapping)
            for _ in range(num_blocks)
        )
        self.transformer = transformer
        self.upsample = ConvTranspose1d(
            in_channels,
            out_channels,
            2 * factor,
            stride=factor,
            padding=factor // 2 + factor % 2,
            output_padding=factor % 2,
        )

    def forward(
        self,
        x: Tensor,
        skips: list[Tensor],
        mapping: Tensor,
        film: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """x (B, C_in, 1, S), skips of the same shape → (B, C_out, 1, S * factor).

        mapping (B, W) of the noise level; film: the context's scale and shift (B, C_in, 1, S) each.
        """
        if film is not None:
            x = torch.addcmul(film[1], x, film[0] + 1)
        for block, skip in zip(self.blocks, reversed(skips), strict=True):
            x = block(torch.cat([x, skip * self.skip_scale], dim=1), mapping)
        if self.transformer is not None:
            x = self.transformer(x)
        return self.upsample(x)


@dataclass(frozen=True)
class Context:
    """What the inpainter may be told of the vocal it makes; any part may be missing.

    Per frame (one per hop): mel: (B, T, M) standardised log mel of the draft; phoneme: (B, T) int64
    symbol ids; pitch: (B, T) MIDI note numbers, whole or fractional, 0 = no note; voicing: (B, T)
    in [0, 1]. Per sample: wav: (B, S), the waveform of the draft.
    is_dropped: part name → (B,) bool, True = this item does not see this part, which is how
    classifier-free guidance (2207.12598) learns to do without it.
    """

    mel: Tensor | None = None
    phoneme: Tensor | None = None
    pitch: Tensor | None = None
    voicing: Tensor | None = None
    wav: Tensor | None = None
    is_dropped: Mapping[str, Tensor] = field(default_factory=dict)

    FRAMES: ClassVar[tuple[str, ...]] = ("mel", "phoneme", "pitch", "voicing")
    PARTS: ClassVar[tuple[str, ...]] = (*FRAMES, "wav")

    def present(self) -> dict[str, Tensor]:
        """The parts that are there, by name."""
        parts = {name: getattr(self, name) for name in self.PARTS}
        return {name: part for name, part in parts.items() if part is not None}

    def frames(self) -> dict[str, Tensor]:
        """Those of them that are per frame."""
        return {name: part for name, part in self.present().items() if name in self.FRAMES}

    def without(self, *names: str) -> Context:
        """The same context with these parts missing for every item (no names: all of them)."""
        unknown = set(names) - set(self.PARTS)
        if unknown:
            raise ValueError(f"no context part {sorted(unknown)}: there are {list(self.PARTS)}")
        return replace(self, **dict.fromkeys(names or self.PARTS))

    def map(self, function: Callable[[Tensor], Tensor]) -> Context:
        """`function` applied to every tensor: to(device), a slice of the batch, a repetition."""
        parts = {name: function(part) for name, part in self.present().items()}
        is_dropped = {name: function(which) for name, which in self.is_dropped.items()}
        return Context(**parts, is_dropped=is_dropped)


class ContextEncoder(nn.Module):
    """Frames of a context → scales and shifts (FiLM, Perez et al. 2018) of the levels at one frame
    per hop."""

    def __init__(
        self,
        width: int,
        channels: tuple[int, ...],
        n_mels: int,
        num_phonemes: int,
        num_pitches: int,
    ) -> None:
        """channels: of each level that takes a scale and a shift."""
        super().__init__()
        self.channels = channels
        self.mel = nn.Linear(n_mels, width)
        self.phoneme = nn.Embedding(num_phonemes, width)
        self.pitch = nn.Embedding(num_pitches, width)
        self.voicing = nn.Linear(1, width)
        self.null = nn.Parameter(torch.randn(len(Context.FRAMES), width))
        self.conv = nn.Conv1d(width, width, 5, padding=2)
        self.to_film = nn.Conv1d(width, 2 * sum(channels), 3, padding=1)
        nn.init.zeros_(self.to_film.weight)
        nn.init.zeros_(self.to_film.bias)

    def forward(
        self, context: Context, batch: int, frames: int, padding: int = 0
    ) -> list[tuple[Tensor, Tensor]]:
        """context of B items of T frames → per level scale, shift (B, C, 1, T + padding).

        Every part is missing on the padding. ValueError for a part of another B or T.
        """
        total = self.null.new_zeros(batch, frames, self.null.shape[1])
        present = context.present()
        for index, name in enumerate(Context.FRAMES):
            null = self.null[index].expand_as(total)
            if name not in present:
                total = total + null
                continue
            part = present[name]
            if part.shape[:2] != (batch, frames):
                raise ValueError(
                    f"context.{name} is {tuple(part.shape)}: expected {batch} items of {frames} "
                    f"frames, one per hop of the signal"
                )
            embedded = self.embed(name, part)
            if name in context.is_dropped:
                is_dropped = context.is_dropped[name][:, None, None]  # (B, 1, 1)
                embedded = torch.where(is_dropped, null, embedded)
            total = total + embedded
        if padding:
            nothing = self.null.sum(0).expand(batch, padding, -1)
            total = torch.cat([total, nothing], dim=1)  # (B, T + padding, W)
        h = F.silu(total.transpose(1, 2) / len(Context.FRAMES) ** 0.5)  # (B, W, T)
        films = self.to_film(F.silu(self.conv(h))).split([2 * c for c in self.channels], 1)
        return [tuple(map(as_row, film.chunk(2, dim=1))) for film in films]

    def embed(self, name: str, part: Tensor) -> Tensor:
        """One part (B, T) or (B, T, M) → (B, T, W); a fractional pitch lies between two notes."""
        if name == "mel":
            return self.mel(part)
        if name == "phoneme":
            return self.phoneme(part)
        if name == "voicing":
            return self.voicing(part.to(self.null.dtype)[..., None])
        pitch = part.to(self.null.dtype).clamp(0, self.pitch.num_embeddings - 1)
        below, above = pitch.floor().long(), pitch.ceil().long()
        return torch.lerp(self.pitch(below), self.pitch(above), (pitch - below)[..., None])


# ---------------------------------------------------------------------------------------------
# Transcriber: spectrograms as pictures (B, 1, T, F)
# ---------------------------------------------------------------------------------------------


class DecibelMel(nn.Module):
    """Power mel spectrogram in decibels: Slaney bands, Hann window, centred frames.

    The spectrum is a convolution with windowed sines, as the earlier transcriber was trained on:
    a fast transform rounds otherwise, which moves soft bands by up to 2e-4 dB.
    """

    def __init__(
        self,
        sample_rate: int,
        win_length: int,
        hop_length: int,
        n_mels: int,
        fmin: float,
        fmax: float,
        top_db: float = 80.0,
    ) -> None:
        """fmin, fmax in Hz; top_db: range kept below the loudest point of an item."""
        super().__init__()
        self.win_length, self.hop_length, self.top_db = win_length, hop_length, top_db
        filterbank = librosa.filters.mel(
            sr=sample_rate, n_fft=win_length, n_mels=n_mels, fmin=fmin, fmax=fmax
        )  # (M, F), of double precision inside, which torchaudio's is not
        with torch.device("cpu"):  # values, wanted also where the weights are `meta`
            waves = windowed_waves(win_length)
            self.register_buffer("waves", waves, persistent=False)  # (2F, 1, W)
            self.register_buffer("filterbank", torch.from_numpy(filterbank), persistent=False)

    def forward(self, wav: Tensor) -> Tensor:
        """wav (B, S) → (B, T, M) dB, T = 1 + S // hop_length; float32 under autocast too."""
        with torch.autocast(wav.device.type, enabled=False):
            half = self.win_length // 2
            padded = F.pad(wav.float()[:, None], (half, half), mode="reflect")  # (B, 1, S + W)
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                spectrum = F.conv1d(padded, self.waves, stride=self.hop_length)  # (B, 2F, T)
            real, imaginary = spectrum.chunk(2, dim=1)
            mel = self.filterbank @ (real.square() + imaginary.square())  # (B, M, T)
            decibel = 10 * mel.clamp(min=1e-10).log10().transpose(1, 2)  # (B, T, M)
            return torch.maximum(decibel, decibel.amax((1, 2), keepdim=True) - self.top_db)


def windowed_waves(size: int) -> Tensor:
    """The real discrete Fourier transform of a Hann window's samples as kernels: (2F, 1, size).

    First the F = size // 2 + 1 cosines, then the sines; made in double precision, rounded as
    wave and window and then multiplied.
    """
    time = np.arange(size)
    phase = 2 * np.pi * time * np.arange(size // 2 + 1)[:, None] / size  # (F, size)
    window = (0.5 - 0.5 * np.cos(2 * np.pi * time / size)).astype(np.float32)
    waves = np.concatenate([np.cos(phase), np.sin(phase)]).astype(np.float32) * window
    return torch.from_numpy(waves)[:, None]


class SpectrogramStack(nn.Module):
    """Three 3 x 3 convolutions over time and frequency, the frequency axis pooled twice."""

    def __init__(self, bins: int, width: int, dilation: int = 1) -> None:
        """dilation: of the first convolution, along time."""
        super().__init__()
        channels = width // 16
        self.conv1 = nn.Conv2d(1, channels, 3, padding=(dilation, 1), dilation=(dilation, 1))
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.norm3 = nn.BatchNorm2d(2 * channels)
        self.pool = nn.Sequential(nn.MaxPool2d((1, 2)), nn.Dropout(0.25))
        self.linear = nn.Linear(2 * channels * (bins // 4), width)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, F) → (B, T, D)."""
        x = F.relu(self.norm1(self.conv1(x[:, None])))  # (B, C, T, F)
        x = self.pool(F.relu(self.norm2(self.conv2(x))))  # (B, C, T, F / 2)
        x = self.pool(F.relu(self.norm3(self.conv3(x))))  # (B, 2C, T, F / 4)
        return self.dropout(self.linear(x.transpose(1, 2).flatten(2)))  # (B, T, D)
