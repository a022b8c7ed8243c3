"""The voice: lines that are spoken and phrases that are sung, rendered by the same two networks.

Symbols (and notes) → mel (TransformerTTS) → linear (PostNet) → waveform (fast Griffin-Lim).
Shapes: B phrases, N symbols, T frames, S samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from music.phrasing import items_to_sing
from music.score_batch import collate_scores
from singing.chain import generate_mel, guided_alignment, linear_of, waveform
from text.symbols import word_spans
from utils.loading import Loaded, check_pair, load
from utils.metrics import AttentionHealth, attention_health

if TYPE_CHECKING:
    from hyperparams import Hyperparams
    from music.score import Score
    from music.underlay import Underlay
    from text.frontend import Pronouncer
    from text.lyrics import LyricLine

BATCH = 32  # phrases decoded together: memory does not grow with the song


@dataclass(frozen=True)
class Phrase:
    """What is rendered as one: its symbols, its words, and its notes when it is sung."""

    text: str
    line_number: int  # of the lyrics file; of the melody's lines when that carries the words
    symbols: tuple[str, ...]
    words: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]  # first and last symbol of each word, inclusive
    guessed: tuple[str, ...]
    score: dict[str, list[Any]] | None = None  # see preprocess.collate_scores
    start: float | None = None  # s, where in the song a sung phrase begins


@dataclass
class Line:
    """One rendered phrase: its sound and what is known about it."""

    phrase: Phrase
    wav: Tensor  # (S,)
    mel: Tensor  # (T, M) natural log
    alignment: Tensor  # (steps, N)
    attention: list[Tensor]  # one (H, steps, N) per decoder layer
    health: AttentionHealth
    ended_by: str
    seed: int

    def report(self, sample_rate: int) -> dict[str, Any]:
        """What report.json says of the line."""
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

    @property
    def pitch_range(self) -> tuple[int, int] | None:
        """Lowest and highest note (MIDI) that it was trained on; None when it only speaks."""
        known = self.transformer.data.get("pitch_range")
        return (known[0], known[1]) if known else None

    def spectrograms(self, mel: Tensor, mel_lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The transformer's standardised mel (B, T, M) → natural logs, mel and linear (B, T, F)."""
        mel = self.transformer.standardiser("mel").inverse(mel)
        return mel, linear_of(self.postnet, mel, mel_lengths)

    def report(self) -> dict[str, Any]:
        """What report.json says of the networks."""
        return {
            "transformer": {"path": str(self.transformer.path), "step": self.transformer.step},
            "postnet": {"path": str(self.postnet.path), "step": self.postnet.step},
            "synthesis": asdict(self.hyperparams.synthesis),
        }


def load_voice(transformer: Path, postnet: Path, device: torch.device) -> Voice:
    """Load both checkpoints; they carry the hyperparameters that they were trained with."""
    first = load(transformer, "transformer", device)
    second = load(postnet, "postnet", device)
    check_pair(first, second)
    return Voice(first, second, first.hyperparams, device)


def spoken_phrases(lyrics: Sequence[LyricLine], pronouncer: Pronouncer) -> list[Phrase]:
    """Lines to be spoken; ValueError for text that cannot be pronounced, naming line and place."""
    phrases = []
    for lyric in lyrics:
        said = pronouncer.pronounce(lyric.text, lyric.line_number)
        words = tuple(word.text for word in said.words)
        spans = tuple((word.first_symbol, word.last_symbol) for word in said.words)
        phrases.append(
            Phrase(lyric.text, lyric.line_number, said.symbols, words, spans, said.guessed)
        )
    return phrases


def sung_phrases(
    underlay: Underlay, line_numbers: Sequence[int], frame_seconds: float
) -> list[Phrase]:
    """A score in breaths to be sung, each beginning on a frame.

    line_numbers: of the lyrics file, by line of the score; empty when the melody has the words.
    """
    phrases = []
    for item in items_to_sing(underlay.score, frame_seconds):
        inputs = item.inputs()
        words = tuple(word_text(word) for word in item.score.words())
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
            )
        )
    return phrases


def word_text(word: Sequence[Any]) -> str:
    """The spelling of a word of syllables."""
    return "".join(syllable.text for syllable in word)


def out_of_range(score: Score, voice: Voice) -> str | None:
    """A remark on notes that the voice was not trained on, and the octave that would suit it."""
    known = voice.pitch_range
    outside = score.outside(*known) if known else ()
    if not outside:
        return None
    return (
        f"{len(outside)} of {len(score.notes)} notes are outside the voice's range, MIDI "
        f"{known[0]} to {known[1]}: they are sung as written; --transpose N moves all"
    )


@torch.inference_mode()
def render(voice: Voice, phrases: Sequence[Phrase], seed: int = 0) -> list[Line]:
    """Render phrases; phrase i draws its dropout from seed + i, whatever is rendered beside it."""
    lines: list[Line] = []
    with tqdm(total=len(phrases), desc="voice", unit="phrase") as bar:
        for first in range(0, len(phrases), BATCH):
            batch = phrases[first : first + BATCH]
            for line in _render_batch(voice, batch, seed + first):
                lines.append(line)
                bar.update()
    return lines


def _render_batch(voice: Voice, phrases: Sequence[Phrase], seed: int) -> list[Line]:
    table = {symbol: index for index, symbol in enumerate(voice.transformer.data["symbols"])}
    ids = [torch.tensor([table[symbol] for symbol in phrase.symbols]) for phrase in phrases]
    symbols = pad_sequence(ids, batch_first=True).to(voice.device)  # (B, N)
    lengths = torch.tensor([len(i) for i in ids], device=voice.device)
    network, hp = voice.transformer.network, voice.hyperparams
    seeds = [seed + i for i in range(len(phrases))]
    scores = [phrase.score for phrase in phrases]
    ends = [max(score["offset"]) for score in scores if score is not None]
    frames = math.ceil(max(ends, default=0.0) / network.frame_seconds)
    score = collate_scores(scores, symbols.shape[1], frames, network.frame_seconds)
    generated = generate_mel(
        network,
        symbols,
        lengths,
        seeds,
        hp.synthesis,
        None if score is None else score.to(voice.device),
        need_weights=True,
    )
    mel, linear = voice.spectrograms(generated.mel, generated.mel_lengths)
    lines = []
    for i, phrase in enumerate(phrases):
        length, count = int(generated.mel_lengths[i]), len(phrase.symbols)
        steps = -(-length // network.reduction_factor)
        alignment = guided_alignment(network, generated, i)[:, :count].cpu()
        lines.append(
            Line(
                phrase=phrase,
                wav=waveform(linear[i, :length], hp.audio, hp.synthesis, seeds[i]).cpu(),
                mel=mel[i, :length].cpu(),
                alignment=alignment,
                attention=[a[i, :, :steps, :count].cpu() for a in generated.attention.cross],
                health=attention_health(alignment.numpy(), phrase.spans),
                ended_by=generated.ended_by[i],
                seed=seeds[i],
            )
        )
    return lines
