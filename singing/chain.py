"""Steps from symbols to sound, each by one network or algorithm.

Used by synthesis, by the previews of training and by evaluation, so that all three run the same
chain: symbols → mel (TransformerTTS) → linear (PostNet) → waveform (fast Griffin-Lim), or with a
PostNet that has a source symbols → mel → waveform.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from module import padding_mask
from music.inputs import SHORT_REST, breaths
from music.performance import (
    SWELL,
    NoteStyle,
    VoiceStyle,
    arch_curve,
    gain_curve,
    pitch_drift,
    sung_pitch,
    velocity_gains,
)
from network import Generated, TransformerTTS
from text.remarks import remark
from utils.audio import active_level, griffin_lim, levelled, local_contrast, mel_filterbank
from utils.products import product
from utils.seeds import numpy_generator

if TYPE_CHECKING:
    from hyperparams import Audio, Synthesis
    from music.inputs import ScoreBatch
    from music.score import Score
    from utils.loading import Loaded
    from utils.metrics import TimedNote


logger = logging.getLogger(__name__)

DIAGONAL_WIDTH = 0.2  # relative width of the band that counts as diagonal (1710.08969)
REPEAT_STEPS = 2  # decoder steps on an earlier word that make a repetition, not a wobble


def frame_limits(
    symbol_lengths: Tensor, synthesis: Synthesis, frame_rate: float
) -> tuple[Tensor, Tensor]:
    """Shortest and longest rendering in frames, (B,) each: they scale with the text."""
    frames = symbol_lengths * frame_rate
    shortest = (frames * synthesis.min_seconds_per_symbol).long()
    longest = (frames * synthesis.max_seconds_per_symbol).long().clamp_min(1)
    return shortest, longest


def generate_mel(
    network: TransformerTTS,
    symbols: Tensor,
    symbol_lengths: Tensor,
    seeds: Sequence[int],
    synthesis: Synthesis,
    score: ScoreBatch | None = None,
    need_weights: bool = False,
    voice: Tensor | None = None,
) -> Generated:
    """Decode the mels of a batch, free-running and standardised.

    An item with notes ends with them, one without by predicted durations or by the stop head.
    voice (B,): who sings, 0 or None = the first voice.
    """
    low, high = frame_limits(symbol_lengths, synthesis, 1.0 / network.frame_seconds)
    if score is not None:
        end = score.interval[..., 1].amax(1)  # (B,) s, 0 for an item without notes
        high = torch.where(end > 0, (end / network.frame_seconds).ceil().long(), high)
    # In full precision: small products gain nothing from half of it, validation hears what ships.
    with torch.autocast(symbols.device.type, enabled=False):
        generated = network.generate(
            symbols,
            symbol_lengths,
            seeds,
            high,
            low,
            score,
            synthesis.stop_threshold,
            synthesis.predict_durations,
            need_weights,
            voice,
        )
    return replace(generated, mel=postfiltered(generated.mel, generated.mel_lengths, synthesis))


def postfiltered(mel: Tensor, mel_lengths: Tensor, synthesis: Synthesis) -> Tensor:
    """Sharpen a mel (B, T, M) that the transformer made as the knobs ask for."""
    return sharpened(mel, mel_lengths, synthesis.sharpening, synthesis.sharpening_frames)


def sharpened(mel: Tensor, mel_lengths: Tensor, amount: float, width: float) -> Tensor:
    """Give a mel (B, T, M) back the quick changes that regression has averaged away.

    x + amount · (x − smooth(x)), smooth being a Gaussian of `width` frames that ends where the item
    does: the gain on quick modulations of Takamichi et al. 2014 (a postfilter of the modulation
    spectrum), one for all bands. Padding stays as it is.
    """
    if not amount:
        return mel
    reach = math.ceil(3 * width)
    offsets = torch.arange(-reach, reach + 1, device=mel.device)
    kernel = torch.exp(-(offsets**2) / (2 * width**2))
    is_valid = ~padding_mask(mel_lengths, mel.shape[1])[:, :, None]  # (B, T, 1)
    parts = torch.cat([mel * is_valid, is_valid.to(mel.dtype)], 2)  # (B, T, M + 1)
    rows = parts.transpose(1, 2).flatten(0, 1)[:, None]  # (B·(M + 1), 1, T)
    summed = F.conv1d(rows, kernel[None, None].to(mel.dtype), padding=reach)
    summed = summed.view(len(mel), -1, mel.shape[1]).transpose(1, 2)  # (B, T, M + 1)
    smooth = summed[:, :, :-1] / summed[:, :, -1:].clamp_min(1e-6)
    return torch.where(is_valid, mel + amount * (mel - smooth), mel)


def guided_alignment(network: TransformerTTS, generated: Generated, item: int) -> Tensor:
    """Return the alignment of one item: the mean of the last layer's guided heads, (steps, N)."""
    weights = generated.attention.cross[-1][item, : max(network.hp.guided_heads, 1)].mean(0)
    steps = -(-int(generated.mel_lengths[item]) // network.reduction_factor)
    return weights[:steps]


@dataclass(frozen=True)
class AttentionHealth:
    """Does the rendering read the text once, in order, to its end?

    focus: mean over steps of the largest weight (Ren et al. 2019, 1905.09263, section 3.2), 1 =
    sharp. diagonality: attention mass near the straight path, 1 = on it. coverage: share of words
    that were read, 1 = all. skipped, repeated: positions of words never read, and of words read
    again after the attention had gone on to a later word.
    """

    focus: float
    diagonality: float
    coverage: float
    skipped: tuple[int, ...]
    repeated: tuple[int, ...]

    def as_dict(self) -> dict[str, object]:
        """Plain values for report.json."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def attention_health(weights: np.ndarray, words: Sequence[tuple[int, int]]) -> AttentionHealth:
    """Judge one alignment.

    weights (T, N): attention of each decoder step over the valid symbols, rows sum to 1; words:
    (first, last) symbol of each word, inclusive, in order. Raises ValueError on an empty matrix.
    """
    steps, symbols = weights.shape
    if not steps or not symbols:
        raise ValueError(f"attention of {steps} steps over {symbols} symbols: nothing to judge")
    n, t = np.arange(symbols) / symbols, np.arange(steps) / steps
    band = np.exp(-((n[None] - t[:, None]) ** 2) / (2 * DIAGONAL_WIDTH**2))  # (T, N)
    word_of = np.full(symbols, -1)
    for index, (first, last) in enumerate(words):
        word_of[first : last + 1] = index
    path = word_of[weights.argmax(-1)]  # (T,) word read at each step, −1 between words
    path = path[path >= 0]
    read = set(path.tolist())
    furthest = np.maximum.accumulate(path) if len(path) else path
    behind, counts = np.unique(path[path < furthest], return_counts=True)
    return AttentionHealth(
        focus=float(weights.max(-1).mean()),
        diagonality=float((weights * band).sum(-1).mean()),
        coverage=len(read) / len(words) if words else 1.0,
        skipped=tuple(i for i in range(len(words)) if i not in read),
        repeated=tuple(int(w) for w, c in zip(behind, counts, strict=True) if c >= REPEAT_STEPS),
    )


@torch.no_grad()
def linear_of(postnet: Loaded, mel: Tensor, mel_lengths: Tensor | None = None) -> Tensor:
    """Log mel (B, T, M) → log linear spectrogram (B, T, F), by a PostNet of kind cbhg.

    Raises ValueError for one with a source: it makes waveforms.
    """
    if postnet.hyperparams.postnet.kind == "source":
        raise ValueError(
            f"{postnet.path} is a PostNet with a source, and Griffin-Lim needs one of kind cbhg: "
            "name another with --postnet FILE"
        )
    linear = postnet.network(postnet.standardiser("mel")(mel), mel_lengths)
    return postnet.standardiser("linear").inverse(linear)


@lru_cache(maxsize=8)
def _filterbank_inverse(audio: Audio, device: torch.device) -> Tensor:
    """Return the pseudo-inverse of the mel filterbank, (M, F)."""
    with torch.autocast("cpu", enabled=False):  # it is kept, for whoever asks next
        return torch.linalg.pinv(mel_filterbank(audio)).to(device)


def linear_from_mel(mel: Tensor, audio: Audio) -> Tensor:
    """Invert the filterbank by its pseudo-inverse: log mel (B, T, M) → log linear (B, T, F).

    The baseline of a PostNet; previews of the transformer alone use it.
    """
    inverse = _filterbank_inverse(audio, mel.device)  # (M, F)
    with torch.autocast(mel.device.type, enabled=False):
        return product(mel.float().exp(), inverse).clamp_min(audio.log_floor).log()


def contrasted(linear: Tensor, synthesis: Synthesis) -> Tensor:
    """Apply the spectral contrast that the knobs ask for to log magnitudes (..., F)."""
    return local_contrast(linear, synthesis.spectral_contrast, synthesis.contrast_bins)


def waveform(linear: Tensor, audio: Audio, synthesis: Synthesis, seed: int) -> Tensor:
    """Log magnitudes (T, F) → waveform (S,) at the level that the knobs ask for."""
    return at_voice_level(unlevelled(linear, audio, synthesis, seed), audio, synthesis)


def unlevelled(linear: Tensor, audio: Audio, synthesis: Synthesis, seed: int) -> Tensor:
    """Log magnitudes (T, F) → waveform (S,) at their own level."""
    return griffin_lim(
        contrasted(linear, synthesis)[None],
        audio,
        synthesis.griffin_lim_iterations,
        synthesis.griffin_lim_momentum,
        seed,
    )[0]


@torch.no_grad()
def source_waveform(
    postnet: Loaded,
    mel: Tensor,
    f0: Tensor,
    synthesis: Synthesis,
    seed: int,
    is_levelled: bool = True,
) -> Tensor:
    """Log mel (T, M) and F0 (T,) in Hz → waveform (S,), by a PostNet with a source.

    is_levelled: at the level that the knobs ask for, else at its own.
    """
    from source_filter import render  # late: the other kind of PostNet does without

    audio, device = postnet.hyperparams.audio, mel.device
    f0 = f0.to(device)[None]
    standard = postnet.standardiser("mel")(mel[None])
    filters = postnet.network(standard, f0, linear_from_mel(mel[None], audio))
    wav = render(filters, f0, audio, torch.Generator().manual_seed(seed))[0]
    return at_voice_level(wav, audio, synthesis) if is_levelled else wav


def at_voice_level(wav: Tensor, audio: Audio, synthesis: Synthesis) -> Tensor:
    """Bring a waveform (S,) to the level that the knobs ask for."""
    if not wav.any():
        logger.warning("a rendering is silent: its level was left alone")
        return wav
    return levelled(wav, synthesis.level, audio.hop_length)


UNHEARD = 200.0  # Hz, where no pitch is found in a whole item
HEARD_ITERATIONS = 12  # of Griffin-Lim where F0 is heard in a mel


def f0_of_notes(
    notes: Sequence[TimedNote],
    num_frames: int,
    frame_rate: float,
    knobs: Synthesis,
    seed: int,
    styles: Sequence[NoteStyle | None] = (),
) -> Tensor:
    """Draw F0 (T,) in Hz: the notes, joined by glides, with a delayed vibrato and a drift.

    styles: how each note is sung, where any says it. A rest keeps the note before it, the time
    before the first note that one. Raises ValueError without a note.
    """
    if not notes:
        raise ValueError("F0 of no note is asked for")
    times = np.arange(num_frames) / frame_rate
    drift = knobs.drift_cents * pitch_drift(num_frames, frame_rate, seed)
    if any(styles):
        midi = sung_pitch(notes, styles, times, VoiceStyle.of(knobs))
        return torch.from_numpy(440.0 * 2 ** ((midi + drift / 100 - 69) / 12)).float()
    onsets, _, pitches = np.array(sorted(tuple(note) for note in notes), float).T
    current = np.clip(np.searchsorted(onsets, times, side="right") - 1, 0, len(onsets) - 1)
    half = max(1, round(0.5 * knobs.glide_seconds * frame_rate))
    kernel = np.hanning(2 * half + 3)[1:-1]
    midi = np.convolve(np.pad(pitches[current], half, mode="edge"), kernel / kernel.sum(), "valid")
    age = np.maximum(0.0, times - onsets[current])
    swell = np.clip((age - knobs.vibrato_delay) / SWELL, 0.0, 1.0)
    cents = knobs.vibrato_cents * swell * np.sin(2 * np.pi * knobs.vibrato_rate * age)
    cents += drift
    return torch.from_numpy(440.0 * 2 ** ((midi + cents / 100 - 69) / 12)).float()


def f0_of_mel(mel: Tensor, audio: Audio, knobs: Synthesis, seed: int) -> Tensor:
    """Hear F0 (T,) in Hz in a log mel (T, M): YIN on a quick Griffin-Lim rendering of it."""
    quick = replace(knobs, griffin_lim_iterations=HEARD_ITERATIONS)
    wav = waveform(linear_from_mel(mel[None], audio)[0], audio, quick, seed)
    from utils.metrics import f0_track  # late: only a PostNet with a source asks for it

    return filled(f0_track(wav.cpu(), audio.sample_rate, audio.hop_length)[: len(mel)])


def filled(f0: Tensor) -> Tensor:
    """Carry F0 (T,) in Hz through the frames without pitch, on straight lines in cents."""
    is_voiced = (f0 > 0).numpy()
    if not is_voiced.any():
        return torch.full_like(f0, UNHEARD)
    frames = np.arange(len(f0))
    logs = np.interp(frames, frames[is_voiced], np.log(f0.numpy()[is_voiced]))
    return torch.from_numpy(np.exp(logs)).to(f0)


# ---------------------------------------------------------------------------- loudness
# Pitch (vibrato, glides) goes into the F0 of a PostNet with a source and into the contour of a
# transformer that was trained on one; loudness and breaths go on the waveform, for every voice.
# Shapes: K notes, T frames, S samples.

CONTROL = 64  # samples between two values of a gain
BREATH_GAP = 0.12  # s between a breath and the note behind it: its consonants
SHORTEST_BREATH = 0.08  # s; where a rest leaves less, none is heard
BREATH_BANDS = (  # Hz, width in octaves, dB: an inhaled breath through an open mouth
    (500.0, 1.0, -6.0),
    (1600.0, 1.0, 0.0),
    (3400.0, 1.0, -6.0),
)


@dataclass(frozen=True)
class Performance:
    """How the notes of a phrase are sung: (K,) each."""

    styles: tuple[NoteStyle | None, ...]
    gains: tuple[float, ...]  # dB of each note by its velocity, against the song's median


def performances(parts: Sequence[Score], whole: Score) -> list[Performance | None]:
    """Return the performance of each part of a score; None where no note says anything."""
    notes = whole.notes
    if not any(note.style for note in notes):
        return [None] * len(parts)
    velocities = [note.style.velocity if note.style else None for note in notes]
    gains = {note.onset: gain for note, gain in zip(notes, velocity_gains(velocities), strict=True)}
    return [
        Performance(
            tuple(note.style for note in part.notes),
            tuple(gains[note.onset] for note in part.notes),
        )
        for part in parts
    ]


PITCHED = ("vibrato", "glide")  # what a PostNet without a source takes from the mel as it is


def unsung_remarks(
    phrases: Sequence[Performance | None], changes: Sequence[str], follows_pitch: bool
) -> list[str]:
    """Return a remark on vibrato and glides that are asked for and that a voice does not sing.

    changes: SECTION.NAME=VALUE of the request; follows_pitch: whether the voice is told its F0.
    """
    if follows_pitch:
        return []
    knobs = [c for c in changes if c.startswith(tuple(f"synthesis.{name}" for name in PITCHED))]
    styles = [style for phrase in phrases if phrase for style in phrase.styles if style]
    count = sum(any(n.startswith(PITCHED) for n in style.as_dict()) for style in styles)
    asked = [f"of {count} notes"] * bool(count) + [f"by {knob}" for knob in knobs]
    if not asked:
        return []
    text = f"vibrato and glides asked for {' and '.join(asked)}: --postnet source sings them"
    return [remark("not sung", text)]


def contour_of_pitch(
    f0: np.ndarray, notes: Sequence[TimedNote], frame_rate: float
) -> dict[str, Any]:
    """Return F0 (T,) in Hz against the notes, as music.inputs.collate_scores reads it."""
    times = np.arange(len(f0)) / frame_rate
    cents = np.zeros(len(f0))
    for onset, offset, pitch in notes:
        inside = (times >= onset) & (times < offset)
        cents[inside] = 1200 * np.log2(f0[inside] / 440.0) - 100 * (pitch - 69)
    return {"rate": frame_rate, "cents": cents.tolist()}


def with_loudness(
    wav: Tensor,
    notes: Sequence[TimedNote],
    performance: Performance | None,
    knobs: Synthesis,
    sample_rate: int,
) -> Tensor:
    """Give a phrase (S,) its loudness: by velocity, and a swell in every breath, as the knobs ask.

    Unchanged, sample by sample, where neither is asked for.
    """
    gains = () if performance is None else performance.gains
    by_velocity = knobs.dynamics != 0 and any(gains)
    if not notes or not (by_velocity or knobs.phrase_dynamics):
        return wav
    places = np.arange(0, len(wav) + CONTROL, CONTROL)
    times = places / sample_rate
    curve = np.zeros(len(times))
    if by_velocity:
        curve += gain_curve(notes, [knobs.dynamics * gain for gain in gains], times)
    if knobs.phrase_dynamics:
        for start, end in _breath_spans(notes):
            inside = (times >= start) & (times < end)
            curve[inside] += arch_curve(start, end, times[inside], knobs.phrase_dynamics)
    fine = np.interp(np.arange(len(wav)), places, 10 ** (curve / 20))
    return wav * torch.from_numpy(fine).to(wav)


def _breath_spans(notes: Sequence[TimedNote]) -> list[tuple[float, float]]:
    """Return the stretches that are sung without a rest; the time between belongs to the later."""
    edges = [0.0]
    for left, right in pairwise(notes):
        if right[0] - left[1] >= SHORT_REST:
            edges.append(left[1])
    return list(pairwise([*edges, notes[-1][1] + SHORT_REST]))


def with_breaths(wav: Tensor, score: Score, knobs: Synthesis, audio: Audio, seed: int) -> Tensor:
    """Add a breath before every phrase of a song (S,) whose rest has room, as the knobs ask.

    Unchanged, sample by sample, where none is asked for.
    """
    level = active_level(wav, audio.hop_length)
    if not knobs.breath_seconds or not np.isfinite(level):
        return wav
    phrases, wav, free = breaths(score), wav.clone(), 0.0
    for number, phrase in enumerate(phrases):
        onset = phrase.syllables[0].onset
        end = onset - BREATH_GAP
        seconds = min(knobs.breath_seconds, end - free)
        free = phrase.duration
        if seconds < SHORTEST_BREATH:
            continue
        sound = breath(seconds, audio.sample_rate, seed, number)
        gain = 10 ** ((level + knobs.breath_level) / 20)
        start = round((end - seconds) * audio.sample_rate)
        length = max(0, min(len(sound), len(wav) - start))
        wav[start : start + length] += gain * sound[:length]
    return wav


def breath(seconds: float, sample_rate: int, seed: int, number: int) -> Tensor:
    """Return a breath drawn in (S,), of RMS 1 at its loudest: noise in bands that swells."""
    size = round(seconds * sample_rate)
    noise = numpy_generator(seed, "breath", number).standard_normal(size)
    octave = np.log2(np.maximum(np.fft.rfftfreq(size, 1 / sample_rate), 1.0))
    shape = sum(
        10 ** (gain / 20) * np.exp(-0.5 * ((octave - np.log2(centre)) / width) ** 2)
        for centre, width, gain in BREATH_BANDS
    )
    sound = np.fft.irfft(np.fft.rfft(noise) * shape, size)
    place = np.linspace(0.0, 1.0, size)
    envelope = np.sin(np.pi * place**1.5) ** 2  # loudest behind the middle, then it stops
    return torch.from_numpy(sound / np.sqrt(np.square(sound).mean()) * envelope).float()
