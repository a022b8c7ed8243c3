"""TransformerTTS and PostNet, assembled from the blocks of module.py.

Each receives its own section of the hyperparameters and the sizes that the data dictate.

Legend: B batch, N symbols, T mel frames, r frames per decoder step, M mels, F linear bins,
H heads, D width. Spectrograms are standardised (utils/audio.py) on both sides of every network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from module import (
    ConvBank,
    ConvNextPostnet,
    ConvStack,
    DecoderLayer,
    DecoderLayerStep,
    DecoderPrenet,
    Dropout,
    EncoderLayer,
    FrameNotes,
    Highway,
    MaskedConv,
    MelPostnet,
    PaddedGRU,
    ScaledPositions,
    harmonic_mels,
    has_times,
    interval_log_prior,
    looked_up,
    padding_mask,
    place_in_interval,
    symbol_shares,
)
from utils.audio import mel_filterbank
from utils.kernels import Ragged, packed, ragged, unpacked

if TYPE_CHECKING:
    import hyperparams
    from music.inputs import ScoreBatch
    from source_filter import SourcePostNet


TYPICAL_SECONDS = 0.08  # of a spoken phoneme: where the predicted durations start


@dataclass
class AttentionMaps:
    """Attention weights by layer, where they were asked for."""

    encoder: list[Tensor] = field(default_factory=list)  # (B, h, N, N) each
    decoder: list[Tensor] = field(default_factory=list)  # (B, h, T/r, T/r) each
    cross: list[Tensor] = field(default_factory=list)  # (B, h, T/r, N) each


@dataclass
class TransformerOutput:
    """A teacher-forced pass."""

    mel_before: Tensor  # (B, T, M), before the mel postnet
    mel: Tensor  # (B, T, M)
    stop_logits: Tensor  # (B, T/r)
    log_durations: Tensor  # (B, N), ln(1 + frames) of each symbol
    onset_shifts: Tensor  # (B, N), frames by which a symbol begins after its slot in the score
    guided: list[Tensor]  # weights of the guided heads, (B, h, T/r, N) per guided layer
    attention: AttentionMaps  # all weights, where they were asked for


@dataclass
class Generated:
    """A free-running rendering."""

    mel_before: Tensor  # (B, T, M), before the mel postnet
    mel: Tensor  # (B, T, M)
    mel_lengths: Tensor  # (B,), valid frames
    ended_by: list[str]  # of each item: `stop head`, `score`, `durations` or `maximum`
    cache_bytes: int  # of keys and values
    attention: AttentionMaps  # cross-attention, where it was asked for


class TransformerTTS(nn.Module):
    """Lyrics, with or without notes, → mel spectrogram (Li et al. 2018, 1809.08895).

    With a score, symbols and frames carry their notes, and a prior from the note times restricts
    the cross-attention. For speech the encoder predicts durations, and the same prior applies to
    these; without measured times in training (or with predict_durations off) attention is free. One
    set of weights serves all.
    """

    def __init__(
        self,
        hp: hyperparams.Transformer,
        num_symbols: int,
        n_mels: int,
        frame_seconds: float,
        harmonics: Tensor | None = None,
    ) -> None:
        """Harmonics (P, M): of `harmonic_mels`, which a network without a history is told."""
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
        )
        self.encoder_prenet_out = nn.Linear(hp.width, hp.width)
        self.encoder_positions = ScaledPositions(hp.width)
        self.encoder = nn.ModuleList(EncoderLayer(*layer) for _ in range(hp.encoder_layers))
        self.encoder_norm = nn.LayerNorm(hp.width)

        self.duration = ConvStack([hp.width, hp.width], 3, hp.dropout)
        self.duration_out = nn.Linear(hp.width, 1)
        nn.init.constant_(self.duration_out.bias, math.log(1.0 + TYPICAL_SECONDS / frame_seconds))
        self.knows_durations: Tensor
        self.knows_onsets: Tensor
        self.register_buffer("knows_durations", torch.tensor(False))  # set by training on times
        self.onset_shift_out = nn.Linear(hp.width, 1)  # of the duration predictor's hidden layer
        nn.init.zeros_(self.onset_shift_out.weight)
        nn.init.zeros_(self.onset_shift_out.bias)
        self.register_buffer("knows_onsets", torch.tensor(False))  # set by training on sung times

        self.decoder_prenet = (
            DecoderPrenet(
                hp.reduction_factor * n_mels, hp.prenet_width, hp.width, hp.prenet_dropout
            )
            if hp.history
            else None
        )
        self.frame_notes = FrameNotes(hp.num_pitches, hp.reduction_factor, hp.width)
        if hp.contour:  # begins as no input: a network that goes on from another sings as before
            self.contour = nn.Linear(2 * hp.reduction_factor, hp.width, bias=False)
            nn.init.zeros_(self.contour.weight)
        self.decoder_positions = ScaledPositions(hp.width)
        self.decoder = nn.ModuleList(DecoderLayer(*layer) for _ in range(hp.decoder_layers))
        self.decoder_norm = nn.LayerNorm(hp.width)
        self.to_mel = nn.Linear(hp.width, hp.reduction_factor * n_mels)
        self.to_stop = nn.Linear(hp.width, 1)
        sizes = (n_mels, hp.width, hp.num_pitches, hp.postnet_width, hp.postnet_layers)
        self.mel_postnet: MelPostnet | ConvNextPostnet = (
            MelPostnet(*sizes, hp.postnet_kernel, hp.dropout)
            if hp.history
            else ConvNextPostnet(
                *sizes,
                hp.postnet_kernel,
                torch.zeros(2, n_mels) if harmonics is None else harmonics,
            )
        )
        self.dropout = Dropout(hp.dropout)
        # Drawn last, and zero: every voice begins as the network without voices would.
        self.voice = nn.Embedding(1 + hp.voices, hp.width, padding_idx=0) if hp.voices else None
        if self.voice is not None:
            nn.init.zeros_(self.voice.weight)

    # -- the symbols ---------------------------------------------------------------------------

    def encode(
        self,
        symbols: Tensor,
        symbol_lengths: Tensor,
        score: ScoreBatch | None = None,
        weight_heads: int = 0,
        voice: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Encode symbols (B, N) → memory (B, N, D), is_padding (B, N), self-attention weights.

        voice (B,): who sings, 0 or None = the first voice.
        """
        memory, rows, is_padding, maps = self._encode(
            symbols, symbol_lengths, score, weight_heads, voice
        )
        return unpacked(rows, memory), is_padding, maps

    def _encode(
        self,
        symbols: Tensor,
        symbol_lengths: Tensor,
        score: ScoreBatch | None,
        weight_heads: int,
        voice: Tensor | None,
    ) -> tuple[Tensor, Ragged | None, Tensor, list[Tensor]]:
        """Encode as `encode` does; the memory is in the rows that are returned, if any."""
        is_padding = padding_mask(symbol_lengths, symbols.shape[1])  # (B, N)
        gap = max(self.hp.encoder_prenet_kernel // 2, 1)  # what the convolutions see
        rows = ragged(symbol_lengths, symbols.shape[1], gap)
        x = self.symbol(packed(rows, symbols))  # (B, N, D)
        if score is None:
            zero = torch.zeros(x.shape[:2], dtype=torch.long, device=x.device)
            pitch, position, slur, duration = zero, zero, zero, zero.to(x.dtype)
        else:
            parts = (score.pitch, score.position, score.slur, score.duration)
            pitch, position, slur, duration = (packed(rows, part) for part in parts)
            duration = torch.log1p(duration)  # log(1 + seconds): 0 stays 0, spoken
        x = x + self.symbol_pitch(pitch) + self.symbol_slur(slur)
        x = x + self.symbol_position(position.clamp_max(self.hp.max_symbol_position))
        x = x + self.symbol_duration(duration[..., None].to(x.dtype))
        no_symbol = is_padding if rows is None else rows.is_padding
        x = self.encoder_prenet_out(self.encoder_prenet(x, no_symbol))
        x = self.dropout(self.encoder_positions(x, rows))
        may_attend = ~is_padding[:, None, None, :]  # (B, 1, 1, N)
        maps = []
        for layer in self.encoder:
            x, weights = layer(x, may_attend, weight_heads, rows)
            if weights is not None:
                maps.append(weights)
        return self.with_voice(self.encoder_norm(x), voice, rows), rows, is_padding, maps

    def with_voice(self, x: Tensor, voice: Tensor | None, rows: Ragged | None = None) -> Tensor:
        """Add the embedding of voices (B,) to x (B, T, D); the first one's, 0, is zero for good."""
        if self.voice is None or voice is None:
            return x
        number = voice[:, None]  # (B, 1)
        if rows is not None:
            number = rows.pack(number.expand(rows.shape))
        return x + self.voice(number).to(x.dtype)

    def predict_timing(
        self, memory: Tensor, is_padding: Tensor, rows: Ragged | None = None
    ) -> tuple[Tensor, Tensor]:
        """Predict log-durations (speech) and onset shifts (song) from memory (B, N, D), or in rows.

        ln(1 + frames) of each symbol, and the frames by which it begins after its slot in the
        score, which places vowels but not consonants: (B, N) each, 0 on padding (B, N).
        """
        hidden = self.duration(memory, is_padding if rows is None else rows.is_padding)
        heads = self.duration_out(hidden), self.onset_shift_out(hidden)
        log_durations, shifts = (
            unpacked(rows, head).squeeze(-1).float().masked_fill(is_padding, 0.0) for head in heads
        )
        return log_durations, shifts

    def predicted_intervals(self, log_durations: Tensor) -> Tensor:
        """Lay predicted durations end to end: ln(1 + frames) (B, N) → (B, N, 2) s."""
        end = torch.expm1(log_durations.clamp_min(0.0)).cumsum(1) * self.frame_seconds
        return torch.stack([F.pad(end, (1, 0))[:, :-1], end], dim=-1)

    def sung_intervals(self, score: ScoreBatch, shifts: Tensor, is_padding: Tensor) -> Tensor:
        """Shift the slots of a score: shifts (B, N) in frames → (B, N, 2) s.

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
        """Predict the intervals of the symbols, (B, N, 2) s.

        Zero for items of a kind (sung, spoken) that had no measured times in training; None for a
        batch of speech alone then.
        """
        log_durations, shifts = self.predict_timing(memory, is_padding)
        phoneme_times = self.predicted_intervals(log_durations) if self.knows_durations else None
        if score is None:
            return phoneme_times
        sung = torch.zeros_like(score.interval)
        phoneme_times = torch.zeros_like(sung) if phoneme_times is None else phoneme_times
        if self.knows_onsets:
            sung = self.sung_intervals(score, shifts, is_padding)
        return torch.where(score.is_sung[:, None, None], sung, phoneme_times)

    def times(
        self, score: ScoreBatch | None, phoneme_times: Tensor | None
    ) -> tuple[Tensor, Tensor] | None:
        """Return intervals (B, N, 2) s and widths (B,) s of the prior.

        Those of `phoneme_times` where an item has them, else its score's; None without either.
        """
        if score is None:
            return (
                None
                if phoneme_times is None
                else (
                    phoneme_times,
                    phoneme_times.new_full((len(phoneme_times),), self.hp.phoneme_times_width),
                )
            )
        has_score = score.is_sung  # (B,)
        width = torch.where(has_score, self.hp.prior_width, self.hp.phoneme_times_width)
        if phoneme_times is None:
            return score.interval, width
        return torch.where(
            has_times(phoneme_times)[:, None, None], phoneme_times, score.interval
        ), width

    def cross_mask(
        self, is_padding: Tensor, times: tuple[Tensor, Tensor] | None, start: int, steps: int
    ) -> Tensor:
        """Return the additive mask of decoder steps start … start + steps − 1 on the symbols.

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
        phoneme_times: Tensor | None = None,
        keep: Tensor | None = None,
        guided: bool = False,
        need_weights: bool = False,
        voice: Tensor | None = None,
    ) -> TransformerOutput:
        """Predict every frame from the frames before it, or all of them without a history.

        symbols (B, N), symbol_lengths (B,); history (B, T, M): the true mel, possibly corrupted
        (frame group k is predicted from groups 0 … k − 1; only its length counts for a network
        without a history); mel_lengths (B,); score
        with symbols (B, N) and frames (B, T); phoneme_times (B, N, 2) s: measured times of the
        symbols, zero for items that shall do without; keep (B, steps, 2, prenet) dropout masks or
        None. voice (B,): who sings, 0 or None = the first voice.
        `guided` asks for the guided heads' weights, `need_weights` for all maps.
        """
        hp, r = self.hp, self.reduction_factor
        heads = hp.heads if need_weights else 0
        frames = history.shape[1]
        steps = -(-frames // r)
        memory, symbol_rows, symbol_padding, encoder_maps = self._encode(
            symbols, symbol_lengths, score, heads, voice
        )
        times = self.times(score, phoneme_times)
        rows = ragged(-(-mel_lengths // r), steps)
        previous = F.pad(history, (0, 0, r, (steps - 1) * r - frames))  # mean frames first
        x, guided_maps, maps = self.decode(
            previous.reshape(len(history), steps, r * self.n_mels),  # (B, steps, r·M)
            (memory, symbol_padding, times, score),
            keep,
            voice,
            hp.guided_heads * guided,
            heads,
            (rows, symbol_rows),
        )
        maps.encoder = encoder_maps
        mel_before = unpacked(rows, self.to_mel(x).float())  # (B, steps, r·M)
        mel_before = mel_before.reshape(len(history), steps * r, self.n_mels)[:, :frames]
        context = memory, symbol_padding, times, score, symbol_rows
        return TransformerOutput(
            mel_before,
            self.refine(mel_before, mel_lengths, *context),
            unpacked(rows, self.to_stop(x)).squeeze(-1),
            *self.predict_timing(memory, symbol_padding, symbol_rows),
            guided_maps,
            maps,
        )

    def decode(
        self,
        previous: Tensor,
        context: tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None, ScoreBatch | None],
        keep: Tensor | None = None,
        voice: Tensor | None = None,
        guided_heads: int = 0,
        heads: int = 0,
        rows: tuple[Ragged | None, Ragged | None] = (None, None),
    ) -> tuple[Tensor, list[Tensor], AttentionMaps]:
        """Run the decoder on all steps: previous (B, steps, r·M) → (B, steps, D).

        context: memory (B, N, D), its padding (B, N), `times`, the score; of `previous` a network
        without a history uses the shape alone. rows: of the result, and of the memory. Also
        returns the cross-attention of the guided heads by guided layer, and the weights of `heads`
        heads by layer.
        """
        memory, symbol_padding, times, score = context
        batch, steps = previous.shape[:2]
        own_rows, memory_rows = rows
        notes = self.step_notes(score, times, 0, steps, batch, own_rows)
        x = self.with_voice(notes, voice, own_rows)
        if self.decoder_prenet is not None:
            keep = None if keep is None else packed(own_rows, keep)
            x = self.decoder_prenet(packed(own_rows, previous), keep) + x
        x = self.dropout(self.decoder_positions(x, own_rows))
        mask = self.cross_mask(symbol_padding, times, 0, steps).to(x.dtype)
        maps = AttentionMaps()
        guided_maps = []
        for index, layer in enumerate(self.decoder):
            is_guided = guided_heads and index >= self.hp.decoder_layers - self.hp.guided_layers
            cross_heads = heads or guided_heads * is_guided
            x, weights = layer(x, memory, mask, heads, cross_heads, own_rows, memory_rows)
            if heads:
                maps.decoder.append(weights.own)
                maps.cross.append(weights.cross)
            if is_guided:
                guided_maps.append(weights.cross[:, :guided_heads])
        return self.decoder_norm(x), guided_maps, maps

    def step_notes(
        self,
        score: ScoreBatch | None,
        times: tuple[Tensor, Tensor] | None,
        start: int,
        steps: int,
        batch: int,
        rows: Ragged | None = None,
    ) -> Tensor:
        """Embed the notes of the steps start … start + steps − 1: (B, steps, D), or in `rows`.

        The current note and the position in it; for speech, note 0 and the position in the symbol.
        With `contour` also the pitch against the note, where the score says it.
        """
        r = self.reduction_factor
        frames = start * r, (start + steps) * r
        pitch, place, contour = self.frame_score(score, times, *frames, batch)
        by_step = (packed(rows, part.view(batch, steps, r)) for part in (pitch, place))
        notes = self.frame_notes(*by_step)
        if contour is not None:
            contour = packed(rows, contour.reshape(batch, steps, -1))
            notes = notes + self.contour(contour.to(notes.dtype))
        return notes

    def frame_score(
        self,
        score: ScoreBatch | None,
        times: tuple[Tensor, Tensor] | None,
        first: int,
        last: int,
        batch: int,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return what sounds in the frames first … last − 1, T of them.

        Pitch (B, T), MIDI number, 0 = none; place (B, T) in the note or, for speech, in the symbol,
        0 … 1; contour (B, T, 2), semitones above the note and 1 where known, None when the network
        is told none.
        """
        device = self.to_mel.weight.device
        pitch = torch.zeros(batch, last - first, dtype=torch.long, device=device)
        place, contour = pitch.float(), None
        if times is not None:
            frame = torch.arange(first, last, device=device)
            place = place_in_interval(times[0], frame * self.frame_seconds)
        if score is not None:
            pad = (0, max(0, last - score.frame_pitch.shape[1]))
            pitch = F.pad(score.frame_pitch, pad)[:, first:last]
            has_score = score.is_sung  # (B,)
            sung = F.pad(score.frame_position, pad)[:, first:last]
            place = torch.where(has_score[:, None], sung, place)
        if self.hp.contour:  # zeros where none is known: ranks share its gradient in every step
            contour = torch.zeros(batch, last - first, 2, device=device)
            if score is not None and score.frame_contour is not None:
                missing = max(0, last - score.frame_contour.shape[1])
                contour = F.pad(score.frame_contour, (0, 0, 0, missing))[:, first:last]
        return pitch, place, contour

    def refine(
        self,
        mel_before: Tensor,
        mel_lengths: Tensor,
        memory: Tensor,
        symbol_padding: Tensor,
        times: tuple[Tensor, Tensor] | None,
        score: ScoreBatch | None,
        memory_rows: Ragged | None = None,
    ) -> Tensor:
        """Add the mel postnet's residual to a whole mel: (B, T, M) → (B, T, M).

        A decoder step makes r frames at once from one context; the postnet sees the symbol (memory
        (B, N, D), or in `memory_rows`, at its `times`) and the note of each frame.
        """
        batch, frames, _ = mel_before.shape
        rows = ragged(mel_lengths, frames, gap=self.mel_postnet.reach)
        is_padding = padding_mask(mel_lengths, frames) if rows is None else rows.is_padding
        if times is None:
            shares = memory.new_zeros(batch, frames, symbol_padding.shape[1] + 2)
        else:
            frame_times = torch.arange(frames, device=memory.device) * self.frame_seconds
            shares = symbol_shares(symbol_padding, times[0], frame_times)
        symbols = looked_up(self.mel_postnet.symbol, memory, shares, memory_rows)
        pitch, place, contour = self.frame_score(score, times, 0, frames, batch)
        told = [mel_before, symbols, pitch]
        if isinstance(self.mel_postnet, ConvNextPostnet):
            told += [place, memory.new_zeros(*pitch.shape, 2) if contour is None else contour]
        residual = self.mel_postnet(*(packed(rows, part) for part in told), is_padding)
        return mel_before + unpacked(rows, residual)

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
        predict_durations: bool = True,
        need_weights: bool = False,
        voice: Tensor | None = None,
        static_cache: bool | None = None,
    ) -> Generated:
        """Decode a batch with cached keys and values; the encoder and the mel postnet run once.

        symbols (B, N), symbol_lengths (B,); one seed per item for the prenet's dropout, so an
        item does not depend on its batch; max_frames (B,): with a score its exact length,
        without one a maximum before which the stop head may end the item, but not before
        min_frames (B,). predict_durations: speech follows the predicted times and ends with them,
        if the network has learnt such. voice (B,): who sings, 0 or None = the first voice.
        static_cache: keys and values in storage of fixed size, for which a step has one shape; on
        a CUDA device it is captured as a graph and replayed. None: there alone, since a CPU is
        faster with a cache that grows. Equal to rounding.
        """
        was_training = self.training
        self.eval()
        try:
            state = _DecodingState(
                self, symbols, symbol_lengths, seeds, score, predict_durations, voice
            )
            is_static = symbols.device.type == "cuda" if static_cache is None else static_cache
            low = torch.ones_like(max_frames) if min_frames is None else min_frames
            if state.predicted_frames is not None:
                spoken_frames = state.predicted_frames.maximum(low).minimum(max_frames)
                max_frames = torch.where(state.has_score, max_frames, spoken_frames)
            r = self.reduction_factor
            min_steps, max_steps = -(-low // r), -(-max_frames // r)  # (B,) each
            if self.hp.history:
                state.prepare(int(max_steps.max()) if is_static else 0, need_weights)
                mel_before, end = state.run(min_steps, max_steps, stop_threshold)
            else:
                made = state.run_at_once(min_steps, max_steps, stop_threshold, need_weights)
                mel_before, end = made
            mel_lengths = torch.minimum(end * r, max_frames)
            mel_before = mel_before[:, : int(mel_lengths.max())]
            context = state.memory, state.symbol_padding, state.times, score
            return Generated(
                mel_before,
                self.refine(mel_before, mel_lengths, *context),
                mel_lengths,
                state.ended_by(end, max_steps),
                sum(layer.cache.num_bytes for layer in state.layers),
                AttentionMaps(cross=state.cross_maps()),
            )
        finally:
            self.train(was_training)


class _DecodingState:
    """State between decoder steps: caches, dropout streams, recorded weights."""

    BLOCK = 64  # steps whose dropout masks, positions, notes and priors are made at once
    STEPS_UNREAD = 16  # after which static steps look whether all items have ended

    def __init__(
        self,
        network: TransformerTTS,
        symbols: Tensor,
        symbol_lengths: Tensor,
        seeds: Sequence[int],
        score: ScoreBatch | None,
        predict_durations: bool,
        voice: Tensor | None = None,
    ) -> None:
        if len(seeds) != len(symbols):
            raise ValueError(f"{len(seeds)} seeds for {len(symbols)} items: give one per item")
        self.network = network
        self.score, self.voice = score, voice
        memory, self.symbol_padding, _ = network.encode(symbols, symbol_lengths, score, 0, voice)
        self.memory = memory
        self.has_score = torch.zeros(len(symbols), dtype=torch.bool, device=symbols.device)
        if score is not None:
            self.has_score = score.is_sung  # (B,)
        phoneme_times, self.predicted_frames = None, None
        if predict_durations:
            phoneme_times = network.predicted_times(memory, self.symbol_padding, score)
        if phoneme_times is not None and network.knows_durations and not self.has_score.all():
            seconds = phoneme_times[..., 1].amax(1)  # (B,)
            self.predicted_frames = (seconds / network.frame_seconds).round().long().clamp_min(1)
        self.times = network.times(score, phoneme_times)
        self.has_times = self.has_score
        if self.predicted_frames is not None:
            self.has_times = torch.ones_like(self.has_score)
        self.may_stop = not bool(self.has_times.all())
        self.seeds = seeds
        self.recorded: list[list[Tensor]] = [[] for _ in network.decoder]
        self.layers: list[DecoderLayerStep] = []

    def prepare(self, capacity: int, need_weights: bool) -> None:
        """Make the caches: of a capacity in steps, or growing ones for 0.

        need_weights: record the cross-attention of all heads.
        """
        network, batch = self.network, len(self.seeds)
        heads = (network.to_mel, network.to_stop)  # one product for both
        self.out = tuple(torch.cat([getattr(h, n) for h in heads]) for n in ("weight", "bias"))
        self.generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]
        capacity = -(-capacity // self.BLOCK) * self.BLOCK
        self.layers = [
            DecoderLayerStep(cast("DecoderLayer", layer), self.memory, capacity)
            for layer in network.decoder
        ]
        self.weight_heads = network.hp.heads if need_weights else 0
        self.is_static, self.count = capacity > 0, 0  # steps so far
        width = network.reduction_factor * network.n_mels
        device = self.memory.device
        self.previous = torch.zeros(batch, width, device=device)  # mean frames first
        if self.is_static:
            self.position = torch.zeros(1, dtype=torch.long, device=device)
            self.places = torch.arange(capacity, device=device)
            self._fill_block()
            self.take_step = self.static_step
            if device.type == "cuda":
                self.take_step = _Replayed(self.static_step, self._rewind)
        else:
            self.take_step = self.step

    def _rewind(self) -> None:
        """Go back to the first step, after steps whose results do not count."""
        self.position.zero_()
        self.previous.zero_()

    def _block(self) -> tuple[Tensor, Tensor, Tensor]:
        """Compute what the next BLOCK steps need and no output changes.

        Dropout masks (B, BLOCK, 2, hidden), positions and notes (B, BLOCK, D), and the additive
        masks of the symbols (B, 1, BLOCK or 1, N).
        """
        network, steps = self.network, self.BLOCK
        draw = cast("DecoderPrenet", network.decoder_prenet).draw_keep
        keep = torch.stack([draw(steps, g) for g in self.generators])
        keep = keep.to(self.memory.device, non_blocking=True)
        codes = network.decoder_positions.codes(self.count, steps)
        batch = len(self.generators)
        notes = network.step_notes(self.score, self.times, self.count, steps, batch)
        ahead = network.with_voice(notes, self.voice) + codes
        return keep, ahead, network.cross_mask(self.symbol_padding, self.times, self.count, steps)

    def run(
        self, min_steps: Tensor, max_steps: Tensor, stop_threshold: float
    ) -> tuple[Tensor, Tensor]:
        """Decode until every item has ended: mel (B, steps · r, M) and the items' steps (B,).

        An item ends at its max_steps (B,), or earlier by the stop head, not before min_steps (B,).
        """
        network, batch = self.network, len(max_steps)
        end = max_steps.clone()  # (B,), as known so far
        groups = []
        threshold = torch.logit(torch.tensor(stop_threshold)).item()
        last = int(end.max())
        # Whether all have ended is read from the device, which a replayed step does not wait for.
        every = self.STEPS_UNREAD if self.is_static else 1
        while self.count < last:
            frames, stop_logit, recorded = self.take_step()
            groups.append(frames.clone() if self.is_static else frames)
            for layer, weights in zip(self.recorded, recorded, strict=False):
                layer.append(weights.clone() if self.is_static else weights)
            self.count += 1
            if self.may_stop:
                wants = stop_logit > threshold
                if self.is_static or bool(wants.any()):
                    wants = wants & (self.count >= min_steps) & (self.count < end)
                    end = torch.where(wants & ~self.has_times, self.count, end)
                if self.count % every == 0:
                    last = int(end.max())
            if self.is_static and self.count % self.BLOCK == 0 and self.count < last:
                self._fill_block()
        return torch.stack(groups, dim=1).view(batch, -1, network.n_mels), end

    def run_at_once(
        self, min_steps: Tensor, max_steps: Tensor, stop_threshold: float, need_weights: bool
    ) -> tuple[Tensor, Tensor]:
        """Return what `run` does, of a network without a history: all steps in one pass."""
        network, batch, steps = self.network, len(max_steps), int(max_steps.max())
        width = network.reduction_factor * network.n_mels
        previous = torch.zeros(1, 1, 1, device=max_steps.device).expand(batch, steps, width)
        context = self.memory, self.symbol_padding, self.times, self.score
        heads = network.hp.heads if need_weights else 0
        x, _, maps = network.decode(previous, context, voice=self.voice, heads=heads)
        self.recorded = [[weights] for weights in maps.cross]
        step = torch.arange(1, steps + 1, device=x.device)  # (steps,)
        wants = network.to_stop(x).squeeze(-1) > torch.logit(torch.tensor(stop_threshold))
        wants &= (step >= min_steps[:, None]) & ~self.has_times[:, None]  # (B, steps)
        end = torch.where(wants, step, steps).amin(1).minimum(max_steps)
        return network.to_mel(x).view(batch, -1, network.n_mels), end

    def ended_by(self, end: Tensor, max_steps: Tensor) -> list[str]:
        """Say what ended each item after `end` (B,) steps of max_steps (B,)."""
        untimed = "durations" if self.predicted_frames is not None else "maximum"
        limits = ["score" if sung else untimed for sung in self.has_score.tolist()]
        is_limit = (end == max_steps).tolist()
        return [by if at else "stop head" for by, at in zip(limits, is_limit, strict=True)]

    def step(self) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Decode r frames: (B, r·M), their stop logit (B,) and the cross-attention asked for."""
        k = self.count % self.BLOCK
        if k == 0:
            self.keep, ahead, masks = self._block()
            self.ahead = ahead.unbind(1)  # of each step, (B, D)
            is_free = self.times is None and not bool(self.symbol_padding.any())
            self.masks = (
                (None,) * self.BLOCK if is_free else masks.expand(-1, -1, self.BLOCK, -1).unbind(2)
            )  # of each step, (B, 1, N)
        mask = self.masks[k]
        mask = None if mask is None else mask[:, :, None]  # (B, 1, 1, N)
        return self._decoded(self.keep[:, k : k + 1], self.ahead[k], mask)

    def static_step(self) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Decode r frames as `step` does, with the position on the device: one shape for all."""
        k = self.position % self.BLOCK  # (1,)
        made = self._decoded(
            self.block_keep.index_select(1, k),
            self.block_ahead.index_select(1, k)[:, 0],
            self.block_masks.index_select(2, k),
            self.position,
            (self.places <= self.position)[None, None, None],
        )
        self.position.add_(1)
        return made

    def _fill_block(self) -> None:
        """Write what the next BLOCK steps need to where static steps read it."""
        keep, ahead, masks = self._block()
        masks = masks.expand(-1, -1, self.BLOCK, -1)
        if self.count == 0:
            self.block_keep, self.block_ahead = keep.clone(), ahead.clone()
            self.block_masks = masks.clone(memory_format=torch.contiguous_format)
            return
        self.block_keep.copy_(keep)
        self.block_ahead.copy_(ahead)
        self.block_masks.copy_(masks)

    def _decoded(
        self,
        keep: Tensor,
        ahead: Tensor,
        mask: Tensor | None,
        position: Tensor | None = None,
        is_past: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Run the decoder for a step: keep (B, 1, 2, hidden), ahead (B, D), mask (B, 1, 1, N)."""
        network = self.network
        prenet = cast("DecoderPrenet", network.decoder_prenet)
        x = prenet(self.previous[:, None], keep)[:, 0] + ahead
        recorded = []
        for layer in self.layers:
            x, weights = layer(x, mask, self.weight_heads, position, is_past)
            if weights is not None:
                recorded.append(weights)
        out = F.linear(network.decoder_norm(x), *self.out)  # (B, r·M + 1)
        if position is None:
            self.previous = out[:, :-1]
        else:
            self.previous.copy_(out[:, :-1])
        return out[:, :-1], out[:, -1], recorded

    def cross_maps(self) -> list[Tensor]:
        """Return the recorded cross-attention, (B, H, steps, N) per layer, if any."""
        return [torch.cat(layer, dim=2) for layer in self.recorded if layer]


class _Replayed:
    """A step of fixed shapes, captured as a CUDA graph: one launch instead of a hundred.

    It reads and writes the same memory each time; its results are overwritten by the next.
    """

    WARM_UP = 3  # steps in which libraries choose their kernels, before the capture

    def __init__(self, step: Callable[[], Any], rewind: Callable[[], None]) -> None:
        """rewind: undo steps whose results do not count."""
        ahead = torch.cuda.Stream()
        ahead.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(ahead):
            for _ in range(self.WARM_UP):
                step()
        torch.cuda.current_stream().wait_stream(ahead)
        rewind()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.made = step()

    def __call__(self) -> Any:
        """Take the step; return what it makes."""
        self.graph.replay()
        return self.made


class PostNet(nn.Module):
    """CBHG of Tacotron, mel → linear spectrogram (Wang et al. 2017, 1703.10135).

    A bank of convolutions in parallel on the mel, two projections back to M channels plus the
    input, highway layers, and a bidirectional GRU along time.
    """

    def __init__(self, hp: hyperparams.Postnet, n_mels: int, n_linear: int) -> None:
        super().__init__()
        self.bank = ConvBank(n_mels, hp.width, hp.bank_kernels)
        self.projection = ConvStack([hp.bank_kernels * hp.width, hp.width], 3, hp.dropout)
        self.projection_out = MaskedConv(hp.width, n_mels, 3)
        self.to_highway = nn.Linear(n_mels, hp.width)
        self.highways = nn.Sequential(*(Highway(hp.width) for _ in range(hp.highway_layers)))
        self.gru = PaddedGRU(hp.width, hp.gru_width)
        self.to_linear = nn.Linear(2 * hp.gru_width, n_linear)

    def forward(self, mel: Tensor, mel_lengths: Tensor | None = None) -> Tensor:
        """Map mel (B, T, M), mel_lengths (B,) or None (nothing padded) → linear (B, T, F)."""
        is_padding = None if mel_lengths is None else padding_mask(mel_lengths, mel.shape[1])
        x = self.projection(self.bank(mel, is_padding), is_padding)
        x = mel + self.projection_out(x, is_padding)
        x = self.highways(self.to_highway(x))
        return self.to_linear(self.gru(x, mel_lengths))


def build_transformer(hp: hyperparams.Hyperparams, num_symbols: int) -> TransformerTTS:
    """Return an untrained transformer of these sizes."""
    audio, harmonics = hp.audio, None
    if not hp.transformer.history:
        harmonics = harmonic_mels(mel_filterbank(audio), audio.sample_rate, audio.win_length)
    sizes = num_symbols, audio.n_mels, 1.0 / audio.frame_rate
    return TransformerTTS(hp.transformer, *sizes, harmonics)


def build_postnet(hp: hyperparams.Hyperparams) -> PostNet | SourcePostNet:
    """Return an untrained PostNet of this kind and these sizes."""
    if hp.postnet.kind == "source":
        from source_filter import SourcePostNet  # late: the other kind does without

        return SourcePostNet(hp.postnet, hp.audio.n_mels, hp.audio.n_linear)
    return PostNet(hp.postnet, hp.audio.n_mels, hp.audio.n_linear)
