"""The voice: lyrics are spoken and phrases of a score are sung by the same two networks.

Symbols (and notes) → mel (TransformerTTS) → linear (PostNet) → waveform (fast Griffin-Lim), or →
waveform by a PostNet with a source, whose F0 the notes give.
Shapes: B phrases, N symbols, T frames, H heads, S samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from music.inputs import ScoreTracks, collate_scores, items_to_sing
from network import Generated, TransformerTTS
from singing.chain import (
    AttentionHealth,
    attention_health,
    f0_of_mel,
    generate_mel,
    guided_alignment,
    linear_of,
    sharpened,
    source_waveform,
    waveform,
    without_postfilter,
)
from singing.performance import (
    Performance,
    contour_of_pitch,
    f0_of_notes,
    performances,
    with_loudness,
)
from singing.request import ProgressBar, own_range, sung_range, voice_names, voice_number
from text.symbols import word_spans
from utils import scratch
from utils.loading import Loaded, check_pair, load_network

if TYPE_CHECKING:
    from hyperparams import Composer, Hyperparams, Synthesis
    from music.score import Underlay
    from text.frontend import Pronouncer
    from text.lyrics import LyricLine
    from utils.metrics import TimedNote

BATCH = 32  # phrases decoded together: memory does not grow with the song

# All phrases of a song → the same with other mels, before they get a sound.
Refine = Callable[["Sequence[RenderedPhrase]"], "list[RenderedPhrase]"]


@dataclass(frozen=True)
class Phrase:
    """What is rendered as one: its symbols, its words, and its notes when it is sung."""

    text: str
    line_number: int  # of the lyrics file; of the melody's lines when that carries the words
    symbols: tuple[str, ...]
    words: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]  # first and last symbol of each word, inclusive
    guessed: tuple[str, ...]  # words whose pronunciation is not in the lexicon
    score: dict[str, list[Any]] | None = None  # see music.score_batch.collate_scores
    start: float | None = None  # s, where in the song it begins; None: anywhere
    performance: Performance | None = None  # how its notes are sung, where they say it

    @property
    def notes(self) -> list[TimedNote] | None:
        """Its notes, onset s, offset s and MIDI number; None when it is spoken."""
        return None if self.score is None else self.score["notes"]


@dataclass(frozen=True)
class RenderedPhrase:
    """The sound of a phrase, and how it was decoded."""

    phrase: Phrase
    wav: Tensor  # (S,)
    mel: Tensor  # (T, M) natural log
    symbols: Tensor  # (T,) int64, the symbol that sounds at each frame
    pitch: Tensor | None  # (T,) int64, MIDI note numbers, 0 = none; None when spoken
    attention: list[Tensor]  # one (H, steps, N) per decoder layer; none where it is not drawn
    health: AttentionHealth
    ended_by: str
    seed: int

    def report(self, sample_rate: int) -> dict[str, Any]:
        """Describe the phrase for report.json."""
        words = self.phrase.words
        return {
            "text": self.phrase.text,
            "line_number": self.phrase.line_number,
            "seconds": len(self.wav) / sample_rate,
            "seed": self.seed,
            "ended_by": self.ended_by,
            "symbols": list(self.phrase.symbols),
            "guessed_words": list(self.phrase.guessed),
            "attention": self.health.as_dict()
            | {
                "skipped_words": [words[i] for i in self.health.skipped],
                "repeated_words": [words[i] for i in self.health.repeated],
            },
        }


@dataclass
class Voice:
    """The two networks that speak and sing, and the knobs they are used with."""

    transformer: Loaded
    postnet: Loaded
    hyperparams: Hyperparams
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    keeps_attention: bool = True  # of every phrase, to be drawn
    number: int = 0  # who sings, of the transformer's voices

    @property
    def network(self) -> TransformerTTS:
        """The acoustic model."""
        return cast(TransformerTTS, self.transformer.network)

    @property
    def path(self) -> Path:
        """The checkpoint of the transformer."""
        return self.transformer.path

    @property
    def composer(self) -> Composer:
        """The knobs of a melody composed for it."""
        return self.hyperparams.composer

    @property
    def symbol_ids(self) -> dict[str, int]:
        """Map each symbol that the transformer was trained with to its id."""
        return {symbol: index for index, symbol in enumerate(self.transformer.data["symbols"])}

    @property
    def follows_pitch(self) -> bool:
        """Whether vibrato and glides are heard: a network of it is told its pitch."""
        return self.network.hp.contour or self.postnet.hyperparams.postnet.kind == "source"

    @property
    def pitch_range(self) -> tuple[int, int] | None:
        """Lowest and highest note (MIDI) of its training; None when it only speaks."""
        return self.own_range or sung_range(self.transformer.data)

    @property
    def own_range(self) -> tuple[int, int] | None:
        """The same of the one singer; None where the checkpoint does not tell singers apart."""
        return own_range(self.transformer.data, self.number)

    def log_mel(self, mel: Tensor) -> Tensor:
        """Return log mels of the transformer's standardised ones (B, T, M)."""
        return self.transformer.standardiser("mel").inverse(mel)

    @torch.inference_mode()
    def sounds(
        self,
        mel: Tensor,
        mel_lengths: Tensor,
        notes: Sequence[Sequence[TimedNote] | None],
        seeds: Sequence[int],
        performances: Sequence[Performance | None] | None = None,
    ) -> list[Tensor]:
        """Map log mels (B, T, M) to waveforms (S,).

        notes: of each item, from which a PostNet with a source draws F0; None: it is heard in the
        mel. seeds: of each item's phases and noise. performances: how its notes are sung.
        """
        performances = performances or [None] * len(notes)
        lengths, audio = mel_lengths.tolist(), self.hyperparams.audio
        knobs = self.hyperparams.synthesis
        if self.postnet.hyperparams.postnet.kind != "source":
            linear = linear_of(self.postnet, mel, mel_lengths)
            parts = zip(linear, lengths, seeds, strict=True)
            wavs = [waveform(row[:n], audio, knobs, seed).cpu() for row, n, seed in parts]
        else:
            wavs = []
            for row, n, sung, seed, how in zip(
                mel, lengths, notes, seeds, performances, strict=True
            ):
                if sung:
                    styles = how.styles if how else ()
                    f0 = f0_of_notes(sung, n, audio.frame_rate, knobs, seed, styles)
                else:
                    f0 = f0_of_mel(row[:n], audio, knobs, seed)
                wavs.append(source_waveform(self.postnet, row[:n], f0, knobs, seed).cpu())
        for place, (sung, how) in enumerate(zip(notes, performances, strict=True)):
            if sung:
                wavs[place] = with_loudness(wavs[place], sung, how, knobs, audio.sample_rate)
        return wavs

    def report(self) -> dict[str, Any]:
        """Describe the networks for report.json."""
        return {
            "transformer": {"path": str(self.transformer.path), "step": self.transformer.step},
            "voice": voice_names(self.transformer.data)[self.number],
            "postnet": {"path": str(self.postnet.path), "step": self.postnet.step},
            "synthesis": asdict(self.hyperparams.synthesis),
        }


def load_voice(
    transformer: Path, postnet: Path, device: torch.device, name: str | None = None
) -> Voice:
    """Load both checkpoints; they carry the hyperparameters that they were trained with.

    name: of one of the transformer's voices, None: its first. ValueError lists those that it has.
    """
    first = load_network(transformer, "transformer", device)
    second = load_network(postnet, "postnet", device)
    check_pair(first, second)
    number = voice_number(first.data, name, first.path)
    return Voice(first, second, first.hyperparams, device, number=number)


# ---------------------------------------------------------------------------- phrases


def spoken_phrases(lyrics: Sequence[LyricLine], pronouncer: Pronouncer) -> list[Phrase]:
    """Pronounce lines to be spoken; ValueError names line and place of what cannot be."""
    phrases = []
    for lyric in lyrics:
        said = pronouncer.pronounce(lyric.text, lyric.line_number)
        phrases.append(
            Phrase(
                lyric.text,
                lyric.line_number,
                said.symbols,
                tuple(word.text for word in said.words),
                tuple((word.first_symbol, word.last_symbol) for word in said.words),
                said.guessed,
                start=lyric.start,
            )
        )
    return phrases


def sung_phrases(
    underlay: Underlay, line_numbers: Sequence[int], frame_seconds: float
) -> list[Phrase]:
    """Cut a score into breaths to be sung, each beginning on a frame.

    line_numbers: of the lyrics file, by line of the score; empty when the melody has the words.
    """
    phrases = []
    items = items_to_sing(underlay.score, frame_seconds)
    sung = performances([item.score for item in items], underlay.score)
    for item, performance in zip(items, sung, strict=True):
        inputs = item.inputs()
        words = tuple("".join(part.text for part in word) for word in item.score.words())
        line = item.score.syllables[0].line
        phrases.append(
            Phrase(
                " ".join(words),
                line_numbers[line] if line < len(line_numbers) else line + 1,
                inputs.symbols,
                words,
                tuple(word_spans(inputs.symbols)),
                tuple(word for word in dict.fromkeys(words) if word in underlay.guessed),
                inputs.to_dict(),
                item.start,
                performance,
            )
        )
    return phrases


# ---------------------------------------------------------------------------- rendering


def seeds_of(seed: int | Sequence[int], count: int) -> list[int]:
    """Return the seed of each of `count` phrases: seed + i, or those that are given one by one."""
    if isinstance(seed, int):
        return [seed + i for i in range(count)]
    if len(seed) != count:
        raise ValueError(f"{len(seed)} seeds for {count} phrases")
    return list(seed)


@torch.inference_mode()
def render_phrases(
    voice: Voice, phrases: Sequence[Phrase], seed: int | Sequence[int] = 0
) -> list[RenderedPhrase]:
    """Render phrases; phrase i draws its dropout from seed + i, whatever is rendered beside it.

    seed: a number, or the own seed of each phrase.
    """
    all_seeds = seeds_of(seed, len(phrases))
    rendered: list[RenderedPhrase] = []
    with ProgressBar("voice", len(phrases), "phrase") as bar:
        for first in range(0, len(phrases), BATCH):
            batch = phrases[first : first + BATCH]
            seeds = all_seeds[first : first + BATCH]
            generated = _decode(voice, batch, seeds)
            mel = voice.log_mel(generated.mel)
            wavs = voice.sounds(
                mel,
                generated.mel_lengths,
                [phrase.notes for phrase in batch],
                seeds,
                [phrase.performance for phrase in batch],
            )
            for i, phrase in enumerate(batch):
                rendered.append(_rendered(voice, phrase, generated, mel, wavs[i], i, seeds[i]))
                bar.update()
            scratch.forget()
    return rendered


@torch.inference_mode()
def render_refined(
    voice: Voice, phrases: Sequence[Phrase], seed: int | Sequence[int], refine: Refine
) -> list[RenderedPhrase]:
    """Render phrases whose mels are refined before they get a sound; else as `render_phrases`.

    The mels to be refined are the transformer's own, without the postfilter: it sharpens what is
    not restored; then as `restored_sharpening` says.
    """
    audio, knobs = voice.hyperparams.audio, voice.hyperparams.synthesis
    plain = replace(voice.hyperparams, synthesis=without_postfilter(knobs))
    decoder, inverse = replace(voice, hyperparams=plain), voice.transformer.standardiser("mel")
    all_seeds = seeds_of(seed, len(phrases))
    rendered: list[RenderedPhrase] = []
    for first in range(0, len(phrases), BATCH):
        batch = phrases[first : first + BATCH]
        seeds = all_seeds[first : first + BATCH]
        generated = _decode(decoder, batch, seeds)
        mel = inverse.inverse(generated.mel)
        for i, phrase in enumerate(batch):
            silence = torch.zeros(max(0, int(generated.mel_lengths[i]) - 1) * audio.hop_length)
            rendered.append(_rendered(voice, phrase, generated, mel, silence, i, seeds[i]))
        scratch.forget()
    refined = [sharper(phrase, knobs) for phrase in refine(rendered)]
    with ProgressBar("voice", len(refined), "phrase") as bar:
        for first in range(0, len(refined), BATCH):
            part = refined[first : first + BATCH]
            lengths = torch.tensor([len(phrase.mel) for phrase in part], device=voice.device)
            mels = pad_sequence([phrase.mel for phrase in part], batch_first=True)
            scores = [phrase.phrase.score for phrase in part]
            notes = [None if score is None else score["notes"] for score in scores]
            seeds = [phrase.seed for phrase in part]
            sung = [phrase.phrase.performance for phrase in part]
            wavs = voice.sounds(mels.to(voice.device), lengths, notes, seeds, sung)
            for i, wav in enumerate(wavs):
                refined[first + i] = replace(part[i], wav=scratch.kept(wav))
                bar.update()
            scratch.forget()
    return refined


def sharper(phrase: RenderedPhrase, knobs: Synthesis) -> RenderedPhrase:
    """Sharpen the log mel of a refined phrase as `restored_sharpening` asks for."""
    lengths = torch.tensor([len(phrase.mel)])
    mel = sharpened(phrase.mel[None], lengths, knobs.restored_sharpening, knobs.sharpening_frames)
    return replace(phrase, mel=mel[0])


def _decode(voice: Voice, phrases: Sequence[Phrase], seeds: Sequence[int]) -> Generated:
    """Decode a batch of phrases to standardised mels."""
    table, network = voice.symbol_ids, voice.network
    ids = [torch.tensor([table[symbol] for symbol in phrase.symbols]) for phrase in phrases]
    symbols = pad_sequence(ids, batch_first=True).to(voice.device)  # (B, N)
    lengths = torch.tensor([len(i) for i in ids], device=voice.device)
    scores = [phrase.score for phrase in phrases]
    if network.hp.contour:
        scores = [_with_contour(voice, *pair) for pair in zip(phrases, seeds, strict=True)]
    ends = [max(score["offset"]) for score in scores if score is not None]
    frames = math.ceil(max(ends, default=0.0) / network.frame_seconds)
    score = collate_scores(scores, symbols.shape[1], frames, network.frame_seconds)
    return generate_mel(
        network,
        symbols,
        lengths,
        seeds,
        voice.hyperparams.synthesis,
        None if score is None else score.to(voice.device),
        need_weights=True,
        voice=torch.full_like(lengths, voice.number),
    )


def _with_contour(voice: Voice, phrase: Phrase, seed: int) -> dict[str, Any] | None:
    """Return the score of a phrase with the pitch that it is to be sung at."""
    score = phrase.score
    if score is None:
        return None
    rate = voice.hyperparams.audio.frame_rate
    frames = math.ceil(max(score["offset"]) * rate)
    styles = phrase.performance.styles if phrase.performance else ()
    f0 = f0_of_notes(score["notes"], frames, rate, voice.hyperparams.synthesis, seed, styles)
    return {**score, "contour": contour_of_pitch(f0.numpy(), score["notes"], rate)}


def _rendered(
    voice: Voice,
    phrase: Phrase,
    generated: Generated,
    mel: Tensor,
    wav: Tensor,
    item: int,
    seed: int,
) -> RenderedPhrase:
    """Take one item, of waveform (S,), out of a decoded batch."""
    network = voice.network
    length, count = int(generated.mel_lengths[item]), len(phrase.symbols)
    steps = -(-length // network.reduction_factor)
    alignment = guided_alignment(network, generated, item)[:, :count].cpu()
    symbols, pitch = _frame_tracks(voice, phrase, alignment, length)
    kept = generated.attention.cross if voice.keeps_attention else ()
    return RenderedPhrase(
        phrase=phrase,
        wav=scratch.kept(wav),
        mel=scratch.kept(mel[item, :length].cpu().clone()),
        symbols=symbols,
        pitch=pitch,
        attention=[a[item, :, :steps, :count].cpu().clone() for a in kept],
        health=attention_health(alignment.numpy(), phrase.spans),
        ended_by=generated.ended_by[item],
        seed=seed,
    )


def _frame_tracks(
    voice: Voice, phrase: Phrase, alignment: Tensor, frames: int
) -> tuple[Tensor, Tensor | None]:
    """Return symbol ids and MIDI notes at each frame, (T,) int64 both; no notes when spoken.

    A sung symbol sounds in its interval of the score, a spoken one where attention reads it.
    """
    table = voice.symbol_ids
    if phrase.score is not None:
        item = {"id": "phrase", "symbols": phrase.symbols, "score": phrase.score}
        step = 1.0 / voice.hyperparams.audio.frame_rate
        return ScoreTracks([item], table).window("phrase", 0.0, step, frames)
    ids = [table[symbol] for symbol in phrase.symbols]
    return frame_symbols(alignment, ids, voice.network.reduction_factor, frames), None


def frame_symbols(alignment: Tensor, ids: Sequence[int], reduction: int, frames: int) -> Tensor:
    """Map alignment (steps, N) to the symbol that each frame attends to most, (frames,) int64."""
    read = torch.tensor(ids)[alignment.argmax(1).cpu()]  # (steps,)
    return read.repeat_interleave(reduction)[:frames]
