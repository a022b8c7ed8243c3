"""Sequence blocks of the networks: attention, prenets, convolution stacks, parts of the CBHG.

A block receives plain integers and knows nothing of hyperparameters or data.
Legend: B batch, N symbols, T frames (or decoder steps), C channels, H heads, D width, M mels.
Sequences are (B, T, C) at every boundary; convolutions transpose inside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from utils.kernels import (
    Ragged,
    convnext,
    dropout,
    dropped_relu,
    dropped_sum,
    gru,
    packed,
    surrounded,
    unpacked,
)
from utils.minimal_filtering import is_filtered, minimal_filtering, tiled_length

# ---------------------------------------------------------------------------------------------
# Sequences: masks, positions, convolutions that ignore padding
# ---------------------------------------------------------------------------------------------


def padding_mask(lengths: Tensor, size: int) -> Tensor:
    """Mark padded positions True: lengths (B,) → (B, size)."""
    return torch.arange(size, device=lengths.device)[None, :] >= lengths[:, None]


def sinusoid(positions: Tensor, width: int) -> Tensor:
    """Return sinusoidal position codes (Vaswani et al. 2017, 1706.03762, section 3.5).

    positions: (T,) float. Returns (T, width): even columns are sines, odd ones cosines. Computed,
    not looked up: sequences may have any length.
    """
    rates = torch.exp(
        torch.arange(0, width, 2, device=positions.device) * (-math.log(10_000.0) / width)
    )
    angles = positions[:, None].float() * rates[None, :]  # (T, D/2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]  # (T, D)


class ScaledPositions(nn.Module):
    """Add position codes scaled by a learned α: x + α·PE (Li et al. 2018, 1809.08895, eq. 3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.alpha = nn.Parameter(torch.ones(()))

    def codes(self, start: int, length: int) -> Tensor:
        """Return α·PE of positions start … start + length − 1: (length, D)."""
        positions = torch.arange(start, start + length, device=self.alpha.device)
        return self.alpha * sinusoid(positions, self.width)

    def forward(self, x: Tensor, rows: Ragged | None = None) -> Tensor:
        """Map (B, T, D) → (B, T, D)."""
        if rows is None:
            return x + self.codes(0, x.shape[1]).to(x.dtype)
        codes = sinusoid(torch.arange(rows.shape[1]), self.width)[rows.position]  # (R, D)
        return x + (self.alpha * codes).to(x.dtype)


class Dropout(nn.Module):
    """Apply `dropout` in training, nothing otherwise."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Map a tensor of any shape."""
        return dropout(x, self.p) if self.training else x

    def relu(self, x: Tensor) -> Tensor:
        """Return dropout(relu(x))."""
        return dropped_relu(x, self.p) if self.training else F.relu(x)

    def added(self, x: Tensor, y: Tensor) -> Tensor:
        """Return x + dropout(y)."""
        return dropped_sum(x, y, self.p) if self.training else x + y


class MaskedConv(nn.Module):
    """Convolve (B, T, C) along T, padded positions counting as zeros; the length stays.

    An item gives the same result alone and in a batch of longer ones. Even kernels look one
    position further back than ahead; causal ones look only back.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, causal: bool = False
    ) -> None:
        super().__init__()
        ahead = 0 if causal else (kernel_size - 1) // 2
        self.pad = (kernel_size - 1 - ahead, ahead)
        self.conv = nn.Conv1d(in_channels, out_channels, kernel_size)

    def forward(self, x: Tensor, is_padding: Tensor | None = None) -> Tensor:
        """Map x (B, T, C), is_padding (B, T) or None → (B, T, C_out)."""
        weight, bias = self.conv.weight, self.conv.bias
        assert bias is not None  # of the constructor above
        frames, (before, ahead) = x.shape[1], self.pad
        # Only in training: else a frame depends on what the kernel sees, to the last bit.
        in_tiles = self.training and is_filtered(x, weight)
        if in_tiles:
            ahead += tiled_length(frames, weight.shape[2]) - frames
        if is_padding is not None and not torch.compiler.is_compiling():
            x = surrounded(x, (~is_padding)[..., None].to(x.dtype), before, ahead)
        else:  # a compiler makes one pass of it by itself
            x = x if is_padding is None else x.masked_fill(is_padding[..., None], 0.0)
            x = F.pad(x, (0, 0, before, ahead))  # (B, T + kernel - 1, C)
        if in_tiles:
            return minimal_filtering(x, weight, bias)[:, :frames]
        # As an image of height 1 whose channels come last in memory: nothing is transposed.
        image = x.transpose(1, 2).unsqueeze(2)  # (B, C, 1, T + kernel - 1)
        made = F.conv2d(image, weight.unsqueeze(2), bias)
        return made.squeeze(2).transpose(1, 2)  # (B, T, C_out)


class ConvStack(nn.Module):
    """Apply convolution → layer norm → ReLU → dropout, several times.

    Layer norm in place of Tacotron's batch norm: an item does not depend on padding, batch size or
    the number of processes.
    """

    def __init__(
        self,
        sizes: list[int],
        kernel_size: int,
        dropout: float,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            MaskedConv(a, b, kernel_size, causal) for a, b in pairwise(sizes)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in sizes[1:])
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, is_padding: Tensor | None = None) -> Tensor:
        """Map x (B, T, sizes[0]) → (B, T, sizes[-1])."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.dropout.relu(norm(conv(x, is_padding)))
        return x


# ---------------------------------------------------------------------------------------------
# Attention
# ---------------------------------------------------------------------------------------------


@dataclass
class KeyValueCache:
    """Keys and values of the steps decoded so far, of one self-attention layer.

    stored: (2, B, H, capacity, D/H), keys first. The capacity doubles when it is used up:
    appending is amortised O(1), and memory is at most twice what the sequence needs.
    """

    length: int = 0
    stored: Tensor | None = None

    def append(self, new: Tensor) -> tuple[Tensor, Tensor]:
        """Append a step's keys and values (2, B, H, D/H); return all, (B, H, length, D/H) each."""
        if self.stored is None or self.length == self.stored.shape[3]:
            self.stored = self._grown(new)
        self.stored[:, :, :, self.length] = new
        self.length += 1
        keys, values = self.stored[:, :, :, : self.length].unbind()
        return keys, values

    def _grown(self, new: Tensor) -> Tensor:
        """Return storage of twice the capacity, or the first, with what is stored so far."""
        grown = new.new_empty(*new.shape[:3], max(64, 2 * self.length), new.shape[3])
        if self.stored is not None:
            grown[:, :, :, : self.length] = self.stored
        return grown

    @property
    def num_bytes(self) -> int:
        """Size of the storage in bytes."""
        return 0 if self.stored is None else self.stored.numel() * self.stored.element_size()


class StaticKeyValueCache:
    """Keys and values of one self-attention layer in storage of fixed size.

    stored: (2, B, H, capacity, D/H), keys first, zeros where no step has been. The position is a
    tensor, no shape depends on it: a step is one graph, which a GPU replays.
    """

    def __init__(self, capacity: int, like: Tensor) -> None:
        """like: keys (B, H, any, D/H) of another layer, for the sizes, kind and device."""
        batch, heads, _, depth = like.shape
        self.stored = like.new_zeros(2, batch, heads, capacity, depth)

    def put(self, new: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Store new (2, B, H, D/H) at position (1,); return keys and values of all steps."""
        self.stored.index_copy_(3, position, new[:, :, :, None])
        keys, values = self.stored.unbind()
        return keys, values

    @property
    def num_bytes(self) -> int:
        """Size of the storage in bytes."""
        return self.stored.numel() * self.stored.element_size()


class Attention(nn.Module):
    """Multi-head scaled dot-product attention.

    With `concat`, the output projection sees the input too: out = W [input; context]; without it,
    out = W context.
    """

    def __init__(self, width: int, heads: int, concat: bool) -> None:
        super().__init__()
        self.heads = heads
        self.concat = concat
        self.to_query = nn.Linear(width, width)
        self.to_key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(2 * width if concat else width, width)

    def split(self, x: Tensor) -> Tensor:
        """Split (B, T, D) into heads (B, H, T, D/H)."""
        batch, steps, width = x.shape
        return x.view(batch, steps, self.heads, width // self.heads).transpose(1, 2)

    def keys_values(self, memory: Tensor, rows: Ragged | None = None) -> tuple[Tensor, Tensor]:
        """Project memory (B, N, D), or in `rows`, to keys and values, (B, H, N, D/H) each."""
        keys, values = unpacked(rows, self.to_key_value(memory)).chunk(2, dim=-1)
        return self.split(keys), self.split(values)

    def forward(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None = None,
        is_causal: bool = False,
        weight_heads: int = 0,
        rows: Ragged | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from x to the keys.

        x (B, T, D), or in `rows`; keys, values (B, H, N, D/H); mask broadcastable to (B, H, T, N):
        boolean (True = may attend) or an additive log prior. Returns the output like x and, for
        the first `weight_heads` heads, their weights (B, weight_heads, T, N) or None.
        """
        query = self.split(unpacked(rows, self.to_query(x)))  # (B, H, T, D/H)
        context = attend(query, keys, values, mask, is_causal)  # (B, H, T, D/H)
        context = packed(rows, context.transpose(1, 2).flatten(2))  # (B, T, D)
        weights = None
        if weight_heads:
            weights = attention_weights(
                query[:, :weight_heads], keys[:, :weight_heads], mask, is_causal
            )
        return self.out(torch.cat([x, context], dim=-1) if self.concat else context), weights


def attend(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, is_causal: bool
) -> Tensor:
    """Apply SDPA to (B, H, T, d) and (B, H, N, d) → (B, H, T, d) in the query's dtype.

    On a CPU in float32 even under autocast: the backward of the bfloat16 kernel takes three times
    as long.
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
    """Compute the weights that SDPA keeps to itself: (B, h, T, d), (B, h, N, d) → (B, h, T, N)."""
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
    """Position-wise feed-forward network, D → inner → D."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.expand = nn.Linear(width, inner)
        self.contract = nn.Linear(inner, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, D) → (B, T, D)."""
        return self.contract(self.dropout.relu(self.expand(x)))


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, pre-norm, residual."""

    def __init__(self, width: int, heads: int, inner: int, concat: bool, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, concat)
        self.feedforward_norm = nn.LayerNorm(width)
        self.feedforward = FeedForward(width, inner, dropout)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        may_attend: Tensor,
        weight_heads: int = 0,
        rows: Ragged | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Map x (B, N, D), or in `rows`, and may_attend (B, 1, 1, N) → the same, and weights."""
        normed = self.attention_norm(x)
        keys, values = self.attention.keys_values(normed, rows)
        context, weights = self.attention(
            normed, keys, values, may_attend, weight_heads=weight_heads, rows=rows
        )
        x = self.dropout.added(x, context)
        return self.dropout.added(x, self.feedforward(self.feedforward_norm(x))), weights


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
        rows: Ragged | None = None,
        memory_rows: Ragged | None = None,
    ) -> tuple[Tensor, LayerWeights]:
        """Decode a whole sequence at once; `DecoderLayerStep` goes step by step.

        x (B, T, D), or in `rows`; memory (B, N, D), or in `memory_rows`, the encoded symbols;
        cross_mask broadcastable to (B, H, T, N), additive. Returns x decoded and the weights of
        the first own_heads / cross_heads heads.
        """
        normed = self.own_norm(x)
        keys, values = self.own.keys_values(normed, rows)
        context, own = self.own(
            normed, keys, values, is_causal=True, weight_heads=own_heads, rows=rows
        )
        x = self.dropout.added(x, context)
        context, cross = self.cross(
            self.cross_norm(x),
            *self.cross.keys_values(memory, memory_rows),
            cross_mask,
            weight_heads=cross_heads,
            rows=rows,
        )
        x = self.dropout.added(x, context)
        x = self.dropout.added(x, self.feedforward(self.feedforward_norm(x)))
        return x, LayerWeights(own, cross)


class DecoderLayerStep:
    """Run a trained `DecoderLayer` one step at a time, for inference.

    A step is bound by the number of operations and by reading the weights once, so all products
    with the same input are one: [query; key; value; W_x] x, with the output projection
    W [x; context] = W_x x + W_c context split into its halves.
    """

    def __init__(self, layer: DecoderLayer, memory: Tensor, capacity: int = 0) -> None:
        """Compute the keys and values of memory (B, N, D), the encoded symbols, once.

        capacity: steps of a cache of fixed size; 0 = one that grows.
        """
        self.layer = layer
        self.heads, self.width = layer.own.heads, memory.shape[-1]
        keys_values = (layer.own.to_query, layer.own.to_key_value)
        self.own_in, self.own_out = self._split(layer.own, keys_values)
        self.cross_in, self.cross_out = self._split(layer.cross, (layer.cross.to_query,))
        self.keys, self.values = (t.contiguous() for t in layer.cross.keys_values(memory))
        self.cache: KeyValueCache | StaticKeyValueCache
        self.cache = StaticKeyValueCache(capacity, self.keys) if capacity else KeyValueCache()

    def _split(
        self, attention: Attention, projections: Sequence[nn.Linear]
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Return (weight, bias) of the products with the input, and W_c transposed."""
        out = attention.out.weight
        of_input = out[:, : self.width] if attention.concat else torch.zeros_like(out)  # W_x
        weight = torch.cat([*(part.weight for part in projections), of_input])
        bias = torch.cat([*(part.bias for part in projections), attention.out.bias])
        return (weight, bias), out[:, -self.width :].T.contiguous()

    def __call__(
        self,
        x: Tensor,
        cross_mask: Tensor | None,
        cross_heads: int = 0,
        position: Tensor | None = None,
        is_past: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Map x (B, D) → (B, D), and the weights (B, cross_heads, 1, N) of the first heads.

        cross_mask: additive, broadcastable to (B, H, 1, N), None = all symbols alike. For a cache
        of fixed size position (1,) and is_past (1, 1, 1, capacity), the steps to attend to.
        """
        layer, batch = self.layer, len(x)
        depth = self.width // self.heads
        # Causal self-attention: one product gives query, key, value and W_x x.
        products = F.linear(layer.own_norm(x), *self.own_in)  # (B, 4·D)
        new = products[:, self.width : 3 * self.width].view(batch, 2, self.heads, depth)
        query = products[:, : self.width].view(batch, self.heads, 1, depth)
        if isinstance(self.cache, KeyValueCache):
            keys, values = self.cache.append(new.transpose(0, 1))
        else:
            assert position is not None
            keys, values = self.cache.put(new.transpose(0, 1), position)
        context = F.scaled_dot_product_attention(query, keys, values, is_past).view(batch, -1)
        x = torch.addmm(x + products[:, 3 * self.width :], context, self.own_out)

        # Attention to the symbols.
        products = F.linear(layer.cross_norm(x), *self.cross_in)  # (B, 2·D)
        query = products[:, : self.width].view(batch, self.heads, 1, depth)
        context = F.scaled_dot_product_attention(query, self.keys, self.values, cross_mask)
        x = torch.addmm(x + products[:, self.width :], context.view(batch, -1), self.cross_out)

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
    """Decoder prenet of Tacotron 2 (Shen et al. 2018, 1712.05884): a bottleneck with dropout.

    Dropout stays active at inference. Its masks may be given, so that an item depends on its own
    seed alone and cached decoding can be compared with a full pass.
    """

    LAYERS = 2

    def __init__(self, in_features: int, hidden: int, width: int, dropout: float) -> None:
        super().__init__()
        self.hidden = hidden
        self.dropout = dropout
        self.layers = nn.ModuleList([nn.Linear(in_features, hidden), nn.Linear(hidden, hidden)])
        self.out = nn.Linear(hidden, width)

    def draw_keep(self, steps: int, generator: torch.Generator) -> Tensor:
        """Draw dropout masks for the steps of an item: (steps, 2, hidden), 0 or 1/(1 − p)."""
        shape = (steps, self.LAYERS, self.hidden)
        kept = torch.rand(shape, generator=generator) >= self.dropout
        return kept.float() / (1.0 - self.dropout)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Map x (B, T, M), keep (B, T, 2, hidden) or None (drawn anew) → (B, T, D)."""
        for index, layer in enumerate(self.layers):
            x = layer(x)
            x = dropped_relu(x, self.dropout) if keep is None else F.relu(x) * keep[:, :, index]
        return self.out(x)


class FrameNotes(nn.Module):
    """Embed the notes of a decoder step's r frames and the position in them."""

    EMBEDDING = 64

    def __init__(self, num_pitches: int, reduction_factor: int, width: int) -> None:
        super().__init__()
        self.pitch = nn.Embedding(num_pitches, self.EMBEDDING)
        self.hidden = nn.Linear(reduction_factor * (self.EMBEDDING + 1), width)
        self.out = nn.Linear(width, width)

    def forward(self, frame_pitch: Tensor, frame_position: Tensor) -> Tensor:
        """Map frame_pitch and frame_position (B, steps, r) → (B, steps, D).

        frame_pitch: MIDI number, 0 = none; frame_position: in the note, 0 … 1.
        """
        x = torch.cat([self.pitch(frame_pitch), frame_position[..., None]], dim=-1)
        return self.out(F.relu(self.hidden(x.flatten(2))))  # from (B, steps, r·(E + 1))


def has_times(interval: Tensor) -> Tensor:
    """Mark the items whose intervals (B, N, 2) in s are not all zero: (B,)."""
    return interval.amax(dim=(1, 2)) > 0


def interval_log_prior(interval: Tensor, frame_times: Tensor, width: Tensor | float) -> Tensor:
    """Return the log prior of attention from times: −distance² / 2w² to a symbol's interval.

    interval (B, N, 2) s; frame_times (T,) s; width w in s, one for all or (B,). Returns (B, T, N).
    Inside its interval a symbol has distance 0 (a plateau: a long vowel is as likely at its end as
    at its start). An item whose intervals are all zero has no times and gets no prior.
    """
    times = frame_times[None, :, None]
    start, end = interval[:, None, :, 0], interval[:, None, :, 1]  # (B, 1, N)
    distance = (start - times).clamp_min(0.0) + (times - end).clamp_min(0.0)  # (B, T, N)
    if not isinstance(width, Tensor):  # filled, not copied, which would wait for the device
        width = torch.full((1,), width, device=interval.device)
    width = width.reshape(-1, 1, 1)
    return torch.where(has_times(interval)[:, None, None], -(distance**2) / (2.0 * width**2), 0.0)


def place_in_interval(interval: Tensor, frame_times: Tensor) -> Tensor:
    """Return each frame's position in its symbol, 0 … 1: (B, N, 2), (T,) → (B, T).

    0 where no symbol sounds.
    """
    times = frame_times[None, :, None]
    start, end = interval[:, None, :, 0], interval[:, None, :, 1]  # (B, 1, N)
    sounds = (start <= times) & (times < end)  # (B, T, N)
    place = (times - start) / (end - start).clamp_min(1e-6)
    return (place * sounds).sum(-1).clamp(0.0, 1.0)


OVERLAP_WIDTH = 0.02  # s around a boundary in which both symbols count: a frame either way
BOUNDARY_WIDTH = 0.05  # s over which the nearness of a boundary fades: a consonant's length


def symbol_shares(is_padding: Tensor, interval: Tensor, frame_times: Tensor) -> Tensor:
    """Return which symbols sound at the frames, and how near their bounds are: (B, T, N + 2).

    is_padding (B, N); interval (B, N, 2) s; frame_times (T,) s. Shares of the symbols sum to 1;
    around a boundary both neighbours are mixed, over OVERLAP_WIDTH. The last two features are the
    nearness of the symbol's onset and offset, 1 … 0. Items without times get zeros.
    """
    prior = interval_log_prior(interval, frame_times, OVERLAP_WIDTH)  # (B, T, N)
    share = prior.masked_fill(is_padding[:, None], -torch.inf).softmax(-1)
    since = (frame_times[None, :, None] - interval[:, None, :, 0]).clamp_min(0.0)  # (B, T, N)
    until = (interval[:, None, :, 1] - frame_times[None, :, None]).clamp_min(0.0)
    near = [(share * (-distance / BOUNDARY_WIDTH).exp()).sum(-1) for distance in (since, until)]
    shares = torch.cat([share, torch.stack(near, dim=-1)], dim=-1)  # (B, T, N + 2)
    return shares * has_times(interval)[:, None, None].to(shares.dtype)


def looked_up(
    linear: nn.Linear, memory: Tensor, shares: Tensor, memory_rows: Ragged | None = None
) -> Tensor:
    """Apply a layer to the symbols that sound at each frame, and their bounds: → (B, T, width).

    linear: of D + 2 inputs, and more that are zero here; memory (B, N, D), or in `memory_rows`;
    shares (B, T, N + 2): of `symbol_shares`. The symbols are projected, not each frame's mixture of
    them: there are more frames than symbols.
    """
    weight, depth = linear.weight, memory.shape[-1]
    symbols = unpacked(memory_rows, F.linear(memory, weight[:, :depth]))  # (B, N, width)
    bounds = weight[:, depth : depth + 2].T.to(symbols.dtype).expand(len(symbols), -1, -1)
    told = torch.cat([symbols, bounds], dim=1)  # (B, N + 2, width)
    return torch.baddbmm(linear.bias.to(told.dtype), shares.to(told.dtype), told)


class MelPostnet(nn.Module):
    """Residual of a decoder's mel from the mel, the symbol and the note of each frame.

    The postnet of Shen et al. 2018, conditioned. Causal in the mel: under teacher forcing a frame
    ahead has seen the true frame before it and would give the answer away. The symbols and notes
    are known beforehand, so their convolution looks both ways.
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
        self.reach = kernel_size - 1  # frames that a convolution sees
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

    def forward(self, mel: Tensor, symbols: Tensor, pitch: Tensor, is_padding: Tensor) -> Tensor:
        """Map mel (B, T, M), symbols (B, T, width), pitch, is_padding (B, T) → (B, T, M).

        symbols: of `looked_up` by `symbol`.
        """
        score = F.gelu(symbols + self.pitch(pitch))
        x = self.mel(mel) + self.context(score, is_padding)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = self.dropout.added(x, F.gelu(conv(norm(x), is_padding)))
        return self.out(x).float()


class ConvNextBlock(nn.Module):
    """Residual block of ConvNeXt along time (Liu et al. 2022, 2201.03545, figure 4).

    Depthwise convolution → layer norm → linear, GELU, linear.
    """

    def __init__(self, width: int, inner: int, kernel_size: int) -> None:
        super().__init__()
        self.reach = kernel_size // 2
        self.depthwise = nn.Parameter(torch.empty(kernel_size, width))
        nn.init.normal_(self.depthwise, std=kernel_size**-0.5)
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, inner)
        self.out = nn.Linear(inner, width)
        nn.init.zeros_(self.out.weight)  # a block begins as the identity
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, is_valid: Tensor) -> Tensor:
        """Map x (B, T, C), is_valid (B, T, 1) of the dtype of x → (B, T, C)."""
        if torch.compiler.is_compiling():
            return self.pointwise(x, self.by_shifts(x * is_valid))
        if x.device.type != "cpu":
            return self.pointwise(x, self.by_convolution(x * is_valid))
        layers = (self.norm, self.hidden, self.out)
        weights = [part for layer in layers for part in (layer.weight, layer.bias)]
        return convnext(x, is_valid, (self.depthwise, *weights))

    def by_shifts(self, x: Tensor) -> Tensor:
        """Convolve x (B, T, C) along T as a sum of products: a compiler makes one pass of it."""
        frames = x.shape[1]
        padded = F.pad(x, (0, 0, self.reach, self.reach))
        y = padded[:, :frames] * self.depthwise[0]
        for shift in range(1, len(self.depthwise)):
            y = y + padded[:, shift : shift + frames] * self.depthwise[shift]
        return y

    def by_convolution(self, x: Tensor) -> Tensor:
        """Convolve x (B, T, C) along T in float32, in one launch of a GPU instead of a dozen."""
        weight = self.depthwise.T.unsqueeze(1)  # (C, 1, K)
        with torch.autocast(x.device.type, enabled=False):
            channels = x.transpose(1, 2).to(weight.dtype).contiguous()  # what its kernels take
            y = F.conv1d(channels, weight, padding=self.reach, groups=len(weight))
        return y.transpose(1, 2)

    def pointwise(self, x: Tensor, y: Tensor) -> Tensor:
        """Add to x what the layers behind the convolution make of y."""
        return x + self.out(F.gelu(self.hidden(self.norm(y)), approximate="tanh"))


LOWEST_HARMONICS, HIGHEST_HARMONICS, HARMONICS_STEP = 36.0, 96.0, 0.05  # MIDI pitch


def harmonic_mels(
    filterbank: Tensor, sample_rate: int, window_length: int, floor: float = 1e-3
) -> Tensor:
    """Return the log mels of steady harmonics of equal amplitude, standardised as a whole: (P, M).

    filterbank (F, M) of magnitudes; pitches from LOWEST_HARMONICS in steps of HARMONICS_STEP. A
    harmonic is the transform of the Hann window around it, powers add:
    sinc(x) + (sinc(x - 1) + sinc(x + 1)) / 2 = sin(πx) / (πx (1 - x²)).
    """
    count = round((HIGHEST_HARMONICS - LOWEST_HARMONICS) / HARMONICS_STEP) + 1
    pitch = LOWEST_HARMONICS + HARMONICS_STEP * torch.arange(count, dtype=torch.float64)
    f0 = (440.0 * 2 ** ((pitch - 69) / 12))[:, None]  # (P, 1) Hz
    per_hertz = window_length / sample_rate  # bins of the window's transform
    hertz = torch.linspace(0, sample_rate / 2, len(filterbank), dtype=torch.float64)
    nearest = (hertz / f0).round_()  # (P, F)
    # Bins off the nearest harmonic; the formula has no value at -1, 0 and 1, its limit is 1e-7 off.
    x = torch.addcmul(hertz, nearest, f0, value=-1.0).mul_(per_hertz).add_(1e-7)
    sine, cosine = x.mul(math.pi).sin_(), x.mul(math.pi).cos_()
    power = torch.zeros_like(x)
    for neighbour in (-1, 0, 1):  # the window hides what is farther
        apart = neighbour * per_hertz * f0  # (P, 1) bins
        shift = math.pi * apart  # sin(π(x - apart)) from one sine and one cosine
        hann = (sine * shift.cos()).addcmul_(cosine, shift.sin(), value=-1.0)
        off = x - apart
        hann.div_(off.mul_(math.pi).mul_((x - apart).square_().neg_().add_(1.0)))
        number = nearest + neighbour
        is_heard = (number > 0) & (number * f0 < sample_rate / 2)
        power.add_(hann.square_().mul_(is_heard))
    mel = (power.sqrt_().float() @ filterbank).clamp_min(floor * filterbank.amax()).log()
    return (mel - mel.mean()) / mel.std()


class ConvNextPostnet(nn.Module):
    """Residual of a mel that was made without a history, from all that a frame is told.

    That mel holds nothing of the true one, so the convolutions look both ways, which those of
    `MelPostnet` may not. Sung frames are also told the mel of the harmonics of their pitch
    (`harmonic_mels`): where these lie follows from F0 and need not be learnt.
    """

    EXPANSION = 2  # inner width of a block, in widths

    def __init__(
        self,
        n_mels: int,
        symbol_width: int,
        num_pitches: int,
        width: int,
        layers: int,
        kernel_size: int,
        harmonics: Tensor,
    ) -> None:
        super().__init__()
        self.reach = kernel_size // 2  # frames that a convolution sees, either way
        self.harmonics: Tensor
        self.register_buffer("harmonics", harmonics, persistent=False)  # (P, M)
        self.mel = nn.Linear(2 * n_mels, width)
        self.frame = nn.Linear(symbol_width + 5, width)
        self.pitch = nn.Embedding(num_pitches, width)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            ConvNextBlock(width, self.EXPANSION * width, kernel_size) for _ in range(layers)
        )
        self.out_norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, n_mels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        mel: Tensor,
        symbols: Tensor,
        pitch: Tensor,
        place: Tensor,
        contour: Tensor,
        is_padding: Tensor,
    ) -> Tensor:
        """Map mel (B, T, M) and what each frame is told → (B, T, M).

        symbols (B, T, width): of `looked_up` by `symbol`; pitch (B, T): MIDI number, 0 = none;
        place (B, T): in the note or symbol, 0 … 1; contour (B, T, 2): semitones above the note, 1
        where known; is_padding (B, T).
        """
        told = torch.cat([place[..., None], contour], -1)  # (B, T, 3)
        symbols = symbols + F.linear(told, self.frame.weight[:, -told.shape[-1] :])
        sung = torch.where(pitch > 0, pitch + contour[..., 0].float(), 0.0)
        mel = torch.cat([mel, harmonics_at(self.harmonics, sung).to(mel.dtype)], -1)
        x = self.norm(self.mel(mel) + symbols + self.pitch(pitch))
        is_valid = (~is_padding[..., None]).to(x.dtype)
        for block in self.blocks:
            x = block(x, is_valid)
        return self.out(self.out_norm(x)).float()

    @property
    def symbol(self) -> nn.Linear:
        """The layer that is told the symbols, and last the place and the contour."""
        return self.frame


def harmonics_at(harmonics: Tensor, pitch: Tensor) -> Tensor:
    """Look up mels of `harmonic_mels` (P, M) at pitches (B, T), whole or fractional → (B, T, M).

    Zero where nothing is sung (pitch 0).
    """
    row = (pitch - LOWEST_HARMONICS) / HARMONICS_STEP
    row = row.clamp(0, len(harmonics) - 1.001)
    left = row.floor().long()
    mel = torch.lerp(harmonics[left], harmonics[left + 1], (row - left)[..., None])
    return mel * (pitch > 0)[..., None]


def corrupt_history(
    mel: Tensor, zero_max: float, noise_max: float, generator: torch.Generator
) -> Tensor:
    """Corrupt the true frames given to the decoder, against exposure bias.

    mel (B, T, M), standardised. Per item, a share ~ U(0, zero_max) of the frames becomes zero (the
    mean), and Gaussian noise of standard deviation ~ U(0, noise_max) is added: a decoder that
    cannot rely on its history attends to the text and the score.
    """
    batch, frames, _ = mel.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).to(mel.device, non_blocking=True)

    is_zeroed = uniform(batch, frames) < zero_max * uniform(batch, 1)  # (B, T)
    noise = torch.randn(mel.shape, generator=generator).to(mel.device, non_blocking=True)
    noisy = mel + noise_max * uniform(batch, 1, 1) * noise
    return noisy.masked_fill(is_zeroed[..., None], 0.0)


# ---------------------------------------------------------------------------------------------
# CBHG parts (Wang et al. 2017, 1703.10135, section 3.1)
# ---------------------------------------------------------------------------------------------


class ConvBank(nn.Module):
    """Convolutions of widths 1 … K in parallel on one input, max-pooled over two steps."""

    def __init__(self, in_channels: int, channels: int, kernels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            MaskedConv(in_channels, channels, k) for k in range(1, kernels + 1)
        )
        self.norm = nn.LayerNorm(kernels * channels)

    def forward(self, x: Tensor, is_padding: Tensor | None = None) -> Tensor:
        """Map (B, T, C_in) → (B, T, K·C)."""
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
        """Map (B, T, D) → (B, T, D)."""
        gate = torch.sigmoid(self.gate(x))
        return torch.lerp(x, F.relu(self.transform(x)), gate)


class PaddedGRU(nn.Module):
    """A bidirectional GRU whose backward direction starts at each item's last valid frame.

    Zeros where padded. On a CPU by packed sequences; elsewhere, and under torch.compile, by two
    passes over the padded batch (`masked`): packing would wait for the device to know the lengths.
    Equal to rounding.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gru = GRUWeights(width, hidden)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map x (B, T, D), lengths (B,) or None (nothing padded) → (B, T, 2·hidden)."""
        if torch.compiler.is_compiling() or x.device.type != "cpu":
            return self.masked(x, lengths)
        state = x.new_zeros(2, x.shape[0], self.gru.hidden_size)
        weights = self.gru.of("", "_reverse")
        # biases, one layer, no dropout, training or not, both directions
        options = (True, 1, 0.0, self.training, True)
        if lengths is None or bool((lengths == x.shape[1]).all()):
            return torch.gru(x, state, weights, *options, True)[0]
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        data = torch.gru(packed.data, packed.batch_sizes, state, weights, *options)[0]
        out = PackedSequence(data, *packed[1:])
        return pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])[0]

    def masked(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map as `forward` does, each direction on frames that begin with the item's own."""
        time = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])  # (B, T)
        if lengths is None:
            lengths = torch.full_like(time[:, 0], x.shape[1])
        is_valid = time < lengths[:, None]
        # Its own inverse: valid frames backwards, padding as it lies.
        turned = torch.where(is_valid, lengths[:, None] - 1 - time, time)
        ahead = gru(x, self.gru.of(""))
        back = _gathered(gru(_gathered(x, turned), self.gru.of("_reverse")), turned)
        return torch.cat([ahead, back], dim=-1) * is_valid[..., None].to(x.dtype)


class GRUWeights(nn.Module):
    """The weights of a bidirectional nn.GRU of one layer, by its names: a compiler refuses that."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.hidden_size = hidden
        for name, weight in nn.GRU(width, hidden, bidirectional=True).named_parameters():
            self.register_parameter(name, weight)

    def of(self, *suffixes: str) -> list[Tensor]:
        """Return the four weights of each direction: "" ahead, "_reverse" back."""
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return [getattr(self, f"{kind}_l0{suffix}") for suffix in suffixes for kind in kinds]


def _gathered(x: Tensor, frames: Tensor) -> Tensor:
    """Take frames (B, T) of x (B, T, D) along time."""
    return x.gather(1, frames[..., None].expand(-1, -1, x.shape[2]))
