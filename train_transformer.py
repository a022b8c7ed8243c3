"""Train TransformerTTS: lyrics, with notes where the corpus has them, → mel spectrogram.

    python prepare_data.py songbook DIR --name songbook
    python prepare_data.py ljspeech DIR --name ljspeech
    python train_transformer.py --data songbook,ljspeech --preset small --run voice

One network sings what has notes and speaks what has none; either corpus will do alone. The same
command resumes. `best.pt` is chosen by free-running renderings of a few validation phrases, by
pitch, distance and, where Whisper is installed, words: the teacher-forced loss never sees the
network's own errors.
"""

from __future__ import annotations

import math
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from utils.config import answer_early

if __name__ == "__main__":  # --help and a wrong flag do not wait for torch
    answer_early(__doc__)

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from corpora.stores import open_features
from hyperparams import Hyperparams
from module import corrupt_history, has_times, interval_log_prior
from network import Generated, TransformerOutput, TransformerTTS, build_transformer
from preprocess import FeatureStore, TextMelBatch, TextMelBatches
from singing.chain import (
    attention_health,
    generate_mel,
    guided_alignment,
    linear_from_mel,
    waveform,
)
from text.symbols import word_spans
from training.batching import Position
from training.experiment import Experiment, StepContext, Term, starting_data
from training.losses import (
    duration_loss,
    guided_attention_loss,
    masked_l1,
    onset_loss,
    stop_loss,
    structure_loss,
)
from training.trainer import train
from utils import plotting
from utils.checkpoint import FIRST_VOICE
from utils.distributed import World
from utils.metrics import (
    aligned_distance,
    f0_track,
    frame_difference_ratio,
    frame_distance,
    mel_level,
    raw_pitch_accuracy,
    word_errors,
)

if TYPE_CHECKING:
    from evaluation.recognisers import Recogniser

QUICK_ITERATIONS = 12  # of Griffin-Lim for the free-running phrases of a validation
PHRASE_SEED = 1000  # dropout seeds of the free-running phrases: the same at every validation


class TransformerExperiment(Experiment[TransformerTTS, TextMelBatch]):
    """Lyrics and notes → mel; judged by free-running renderings of a few phrases."""

    kind = "transformer"
    structure = ("audio", "transformer")
    corpus_buffers = ("knows_durations", "knows_onsets")
    growing = ("voice.weight",)
    descriptions: ClassVar = {
        "train/mel": "L1 of the standardised mel, teacher-forced",
        "train/mel_before": "the same before the mel postnet",
        "train/structure": "1 - contrast-structure of the mel: blur",
        "train/stop": "binary cross-entropy of the stop head",
        "train/duration": "error of ln(1 + frames) of spoken symbols",
        "train/onset": "error of the onsets of sung symbols, frames",
        "train/guided": "-log(attention mass near the diagonal or the measured times)",
        "validation/distance": "free-running: L1 to the true mel, standard deviations",
        "validation/sharpness": "free-running: ratio of frame differences to the true ones",
        "validation/length_ratio": "free-running: frames over true frames",
        "validation/coverage": "free-running: share of the words that were attended to",
        "validation/words": "free-running: word errors by Whisper, at most 1 a word",
        "validation/pitch": "free-running: raw pitch accuracy, shares of what the true mel reaches",
        "alpha/encoder": "learned scale of the encoder's position codes",
        "alpha/decoder": "learned scale of the decoder's position codes",
    }

    dynamic_shapes = True  # a graph for batches of any size

    def __init__(
        self,
        hyperparams: Hyperparams,
        store: FeatureStore,
        recogniser: Recogniser | None = None,
        start: Mapping[str, Any] | None = None,
    ) -> None:
        """Build the network and open the batches.

        recogniser: judges the words of the free-running phrases; None leaves them unjudged.
        start: `data` of the weights to begin with: their voices keep numbers and ranges.
        """
        self.recogniser = recogniser
        self.hyperparams = self.hp = hyperparams
        self.model = build_transformer(hyperparams, len(store.symbols))
        self.data = store.for_checkpoint()
        if hyperparams.transformer.voices:
            known = (start or {}).get("voices", ())
            self.data["voices"] = numbered_voices(
                store.voices(), hyperparams.transformer.voices, known
            )
            self.data["pitch_ranges"] = ranges_by_voice(store.pitch_ranges(), start or {})
        self.symbols = store.symbols
        self.mel_statistics = store.standardiser("mel")
        training = hyperparams.transformer_training
        self.training_batches = TextMelBatches(store, "train", training)
        self.validation = TextMelBatches(store, "validation", training)
        for batches in (self.training_batches, self.validation):
            batches.dataset.use_voices(self.data.get("voices", ()))
        self.phrases = self.validation.fixed(hyperparams.transformer.free_running_phrases)
        self.words: list[list[str]] = []  # of the phrases, where there is somebody to judge them
        if recogniser is not None:
            from evaluation.recognisers import spoken_words  # late: the judge is optional

            texts = (store.entries[id]["text"] for id in self.phrases.ids)
            self.words = [spoken_words(text) for text in texts]
        self.true_pitch: dict[int, np.ndarray] = {}  # F0 (T,) in Hz of sung phrases, made once
        sung_kinds = self.training_batches.dataset.timed_kinds()
        self.model.knows_durations.fill_(False in sung_kinds)
        self.model.knows_onsets.fill_(True in sung_kinds)

    @classmethod
    def from_arguments(
        cls, arguments: Namespace, hyperparams: Hyperparams, directory: Path, world: World
    ) -> TransformerExperiment:
        """Open the corpora of --data."""
        store = open_features(arguments.feature_dir, arguments.data)
        store.check_audio(hyperparams.audio)
        start = starting_data(arguments, directory, cls.kind)
        if start is not None:
            store.adopt_statistics(start["statistics"])
        recogniser = None
        if world.is_main:
            from evaluation.recognisers import WhisperRecogniser  # late: the judge is optional

            try:
                recogniser = WhisperRecogniser()
            except ImportError as error:
                print(f"`best` is chosen without the words that are understood: {error}")
        experiment = cls(hyperparams, store, recogniser, start)
        if hyperparams.transformer_training.corpus_on_device:
            experiment.training_batches.dataset.keep_on(world.device)
        return experiment

    def batches(
        self, position: Position, rank: int = 0, world_size: int = 1
    ) -> Iterator[tuple[TextMelBatch, Position]]:
        """Yield shuffled batches of items of similar length."""
        return self.training_batches(position, rank, world_size)

    def loss(self, model: nn.Module, batch: TextMelBatch, context: StepContext) -> dict[str, Term]:
        """Return L1 of the mel and its contrast, the stop head, durations, onsets, guided heads."""
        hp = self.hp.transformer
        guidance = max(hp.guided_floor, hp.guided_weight * (1.0 - context.step / hp.guided_steps))
        out = model(
            batch.symbols,
            batch.symbol_lengths,
            self.history(batch, context),
            batch.mel_lengths,
            batch.score,
            self.phoneme_times_for(batch, context),
            guided=guidance > 0,
            voice=batch.voice,
        )
        lengths, r = batch.mel_lengths, hp.reduction_factor
        terms = {
            "mel_before": Term(*masked_l1(out.mel_before, batch.mel, lengths)),
            "mel": Term(*masked_l1(out.mel, batch.mel, lengths)),
            "stop": Term(*stop_loss(out.stop_logits, lengths, r, hp.stop_pos_weight)),
        }
        if hp.structure_weight:
            total, count = structure_loss(out.mel, batch.mel, lengths)
            terms["structure"] = Term(total, count, hp.structure_weight)
        terms |= self.timing_terms(out, batch)
        if guidance > 0:
            total, count = guided_attention_loss(
                out.guided,
                -(-lengths // r),
                batch.symbol_lengths,
                hp.guided_sigma,
                applies=~batch.is_sung,
                log_prior=self.phoneme_time_prior(batch, out.stop_logits.shape[1]),
            )
            terms["guided"] = Term(total, count, guidance)
        return terms

    def timing_terms(self, out: TransformerOutput, batch: TextMelBatch) -> dict[str, Term]:
        """Return the errors of durations (spoken items) and of onsets (sung ones)."""
        times = batch.phoneme_times
        if times is None:
            times = torch.zeros(*batch.symbols.shape, 2, device=batch.mel.device)
        slots = torch.zeros_like(times) if batch.score is None else batch.score.interval
        timing = batch.symbol_lengths, 1.0 / self.hp.audio.frame_rate
        spoken_times = times * ~batch.is_sung[:, None, None]
        total, count = onset_loss(out.onset_shifts, slots, times, *timing)
        return {
            "duration": Term(*duration_loss(out.log_durations, spoken_times, *timing)),
            "onset": Term(total, count, self.hp.transformer.onset_weight),
        }

    def history(self, batch: TextMelBatch, context: StepContext) -> Tensor:
        """Return the frames that the decoder is given, (B, T, M): in training, corrupted ones.

        Zeroed frames and noise, both ramping up, teach it to do without a perfect history.
        """
        hp = self.hp.transformer
        if not context.training or not hp.history:
            return batch.mel
        ramp = min(1.0, context.step / max(hp.history_steps, 1))
        zeroed, noise = ramp * hp.history_zero_max, ramp * hp.history_noise_max
        return corrupt_history(batch.mel, zeroed, noise, context.generator)

    def counts(self, batch: TextMelBatch) -> dict[str, float]:
        """Return what each term is averaged over: accumulated batches count like one large one."""
        hp = self.hp.transformer
        frames = float(batch.mel_lengths.sum())
        steps = -(-batch.mel_lengths // hp.reduction_factor)
        heads = hp.guided_heads * hp.guided_layers
        is_spoken = ~batch.is_sung
        timed = torch.zeros(len(batch.ids), dtype=torch.bool)
        if batch.phoneme_times is not None:
            timed = has_times(batch.phoneme_times)
        symbols = batch.symbol_lengths
        return {
            "mel_before": frames * self.hp.audio.n_mels,
            "mel": frames * self.hp.audio.n_mels,
            "structure": frames * self.hp.audio.n_mels,
            "stop": float(steps.sum()),
            "duration": max(1.0, float(symbols[timed & is_spoken].sum())),
            "onset": max(1.0, float(symbols[timed & ~is_spoken].sum())),
            "guided": max(1.0, float(steps[is_spoken].sum()) * heads),
        }

    def phoneme_times_for(self, batch: TextMelBatch, context: StepContext) -> Tensor | None:
        """Return the times that the attention prior is made of, dropped for a share of the items.

        These learn to do without (sung ones have the slots of their score).
        """
        if batch.phoneme_times is None or not context.training:
            return batch.phoneme_times
        draws = torch.rand(len(batch.ids), generator=context.generator)
        draws = draws.to(batch.phoneme_times.device, non_blocking=True)
        return (
            batch.phoneme_times
            * (draws >= self.hp.transformer.phoneme_times_dropout)[:, None, None]
        )

    def phoneme_time_prior(self, batch: TextMelBatch, steps: int) -> Tensor | None:
        """Return the log prior (B, steps, N) of measured phoneme times; None without any."""
        if batch.phoneme_times is None:
            return None
        r, rate = self.hp.transformer.reduction_factor, self.hp.audio.frame_rate
        centre = torch.arange(steps, device=batch.phoneme_times.device) * r + (r - 1) / 2
        return interval_log_prior(
            batch.phoneme_times, centre / rate, self.hp.transformer.phoneme_times_width
        )

    def validate(self, network: TransformerTTS) -> dict[str, float]:
        """Return teacher-forced losses of validation batches and free-running scores of phrases."""
        sums: dict[str, list[float]] = {}
        device = next(network.parameters()).device
        context = StepContext(0, torch.Generator(), device, training=False)
        for batch in self.validation.head(self.hp.transformer_training.validate_batches):
            for name, term in self.loss(network, batch.to(device), context).items():
                entry = sums.setdefault(name, [0.0, 0.0])
                entry[0] += float(term.total)
                entry[1] += float(term.count)
        result = {name: total / max(count, 1.0) for name, (total, count) in sums.items()}
        return result | self.free_running(network)

    def sing(self, network: TransformerTTS, number: int) -> Generated:
        """Render a fixed phrase from its text (and notes) alone.

        One at a time, which an item does not notice: the weights of all heads over all phrases
        would be the most memory of a training.
        """
        phrase = self.phrases.select(number).to(next(network.parameters()).device)
        return generate_mel(
            network,
            phrase.symbols,
            phrase.symbol_lengths,
            [PHRASE_SEED + number],
            self.hp.synthesis,
            phrase.score,
            need_weights=True,
            voice=phrase.voice,
        )

    def free_running(self, network: TransformerTTS) -> dict[str, float]:
        """Score the free-running phrases; means over them.

        Distance to the truth, sharpness, length, attention health and, for songs, pitch and level.
        `distance`: with notes frame by frame, without them along the best time alignment.
        `pitch`: raw pitch accuracy, in shares of what the true mel reaches through the same path.
        `score`, smaller is better: distance + share of words not attended to + |ln length ratio| +
        share of pitch missed + `words`, a recogniser's errors per word, at most 1 for a phrase,
        where there is one; distance alone would favour a mean spectrum of any length.
        """
        batch = self.phrases
        rows = []
        for i, length in enumerate(batch.mel_lengths.tolist()):
            sung = self.sing(network, i)
            frames = int(sung.mel_lengths[0])
            generated, target = sung.mel[0, :frames].cpu(), batch.mel[i, :length]
            mel, truth = generated.numpy(), target.numpy()
            row: dict[str, float] = {}
            if not batch.is_sung[i]:
                distance = aligned_distance(mel, truth)
            else:
                distance = frame_distance(mel, truth)
                row = {"level": abs(self.level(generated) - self.level(target))}  # dB
            row |= self.heard(i, generated)
            names = [self.symbols[s] for s in batch.symbols[i, : batch.symbol_lengths[i]].tolist()]
            weights = guided_alignment(network, sung, 0)[:, : len(names)].cpu().numpy()
            health = attention_health(weights, word_spans(names))
            missed = 1.0 - min(row.get("pitch", 1.0), 1.0)
            lost = 1.0 - health.coverage + abs(math.log(frames / length)) + missed
            lost += row.get("words", 0.0)
            rows.append(
                {
                    "score": distance + lost,
                    "distance": distance,
                    "sharpness": frame_difference_ratio(mel, truth),
                    "length_ratio": frames / length,
                    "focus": health.focus,
                    "diagonality": health.diagonality,
                    "coverage": health.coverage,
                    "repeated_words": float(len(health.repeated)),
                    **row,
                }
            )
        keys = dict.fromkeys(key for row in rows for key in row)
        return {key: float(np.mean([row[key] for row in rows if key in row])) for key in keys}

    def heard(self, index: int, mel: Tensor) -> dict[str, float]:
        """Score the sound of a phrase's mel (T, M): `pitch` where sung, `words` where judged."""
        is_sung = bool(self.phrases.is_sung[index])
        recogniser = self.recogniser if self.words and self.words[index] else None
        if not is_sung and recogniser is None:
            return {}
        wav, found = self.sound(mel), {}
        if is_sung:
            found["pitch"] = self.pitch_ratio(index, wav)
        if recogniser is not None:
            words = recogniser.words(wav, self.hp.audio.sample_rate)
            errors, count = word_errors(words, self.words[index])
            found["words"] = min(1.0, errors / count)
        return found

    def pitch_ratio(self, index: int, wav: Tensor) -> float:
        """Return raw pitch accuracy of a phrase's waveform (S,) over that of its true mel."""
        assert self.phrases.score is not None
        if index not in self.true_pitch:
            true_mel = self.phrases.mel[index, : self.phrases.mel_lengths[index]]
            self.true_pitch[index] = self.pitch(self.sound(true_mel))
        true = self.true_pitch[index]
        notes = self.phrases.score.frame_pitch[index, : len(true)].numpy()
        is_note = (notes > 0) & (true > 0)
        ceiling = raw_pitch_accuracy(true, notes, is_note)
        found = np.zeros(len(true))
        predicted = self.pitch(wav)[: len(true)]
        found[: len(predicted)] = predicted
        return raw_pitch_accuracy(found, notes, is_note) / ceiling if ceiling > 0 else 1.0

    def sound(self, mel: Tensor) -> Tensor:
        """Render a standardised mel (T, M) quickly, without a PostNet: (S,)."""
        audio = self.hp.audio
        knobs = replace(self.hp.synthesis, griffin_lim_iterations=QUICK_ITERATIONS)
        linear = linear_from_mel(self.mel_statistics.inverse(mel)[None].float(), audio)[0]
        return waveform(linear, audio, knobs, PHRASE_SEED)

    def pitch(self, wav: Tensor) -> np.ndarray:
        """Estimate F0 (T,) in Hz of a waveform (S,)."""
        return f0_track(wav, self.hp.audio.sample_rate, self.hp.audio.hop_length).numpy()

    def level(self, mel: Tensor) -> float:
        """Return the level of a standardised mel (T, M) in dB."""
        return mel_level(self.mel_statistics.inverse(mel.float()).numpy())

    def preview(self, network: TransformerTTS, writer: SummaryWriter, step: int) -> None:
        """Write attention of all layers and heads, predicted and true mel, audio of a phrase."""
        hp, audio = self.hp, self.hp.audio
        sung, batch = self.sing(network, 0), self.phrases
        symbols = batch.symbols[0, : batch.symbol_lengths[0]].tolist()
        names = [self.symbols[s] for s in symbols]
        frames = int(sung.mel_lengths[0])
        steps = -(-frames // hp.transformer.reduction_factor)
        seconds = hp.transformer.reduction_factor / audio.frame_rate
        cross = [layer[0, :, :steps, : len(names)].cpu() for layer in sung.attention.cross]
        figures = {"attention/cross": plotting.attention_grid(cross, names, seconds)}
        one = self.phrases.select(0).to(next(network.parameters()).device)
        forced = network(
            one.symbols,
            one.symbol_lengths,
            one.mel,
            one.mel_lengths,
            one.score,
            one.phoneme_times,
            need_weights=True,
            voice=one.voice,
        )
        for name in ("encoder", "decoder"):
            layers = [layer[0].cpu() for layer in getattr(forced.attention, name)]
            figures[f"attention/{name}"] = plotting.attention_grid(layers)
        mel = self.mel_statistics.inverse(sung.mel[0, :frames].cpu())
        truth = self.mel_statistics.inverse(batch.mel[0, : batch.mel_lengths[0]])
        figures["mel/free_running"] = plotting.spectrogram_pair(mel, truth, audio)
        taught = self.mel_statistics.inverse(forced.mel[0].cpu())
        figures["mel/teacher_forced"] = plotting.spectrogram_pair(taught, truth, audio)
        for name, figure in figures.items():
            writer.add_image(name, plotting.figure_to_image(figure), step)
        for name, spectrogram in {"free_running": mel, "truth": truth}.items():
            wav = waveform(linear_from_mel(spectrogram[None], audio)[0], audio, hp.synthesis, 0)
            writer.add_audio(f"audio/{name}", wav, step, audio.sample_rate)

    def monitor(self, model: TransformerTTS) -> dict[str, float]:
        """Return the learned scales of the position codes."""
        return {
            "alpha/encoder": model.encoder_positions.alpha.item(),
            "alpha/decoder": model.decoder_positions.alpha.item(),
        }


def numbered_voices(names: Sequence[str], most: int, known: Sequence[str] = ()) -> list[str]:
    """Return the names of voices 1, 2, ...: those that are known keep their numbers.

    Raises ValueError where there are more than the network has room for.
    """
    voices = list(dict.fromkeys((*known, *names)))
    if len(voices) > most:
        raise ValueError(
            f"{len(voices)} voices ({', '.join(voices)}) beside the first, transformer.voices = "
            f"{most}: --set transformer.voices={len(voices)}"
        )
    return voices


def ranges_by_voice(
    ranges: Mapping[str, Sequence[int]], start: Mapping[str, Any]
) -> dict[str, list[int]]:
    """Return the lowest and the highest note (MIDI) that each voice has learnt to sing.

    ranges: of the corpus by name, "" = the first voice; start: `data` of the weights to begin with,
    whose voices have sung their own songs as well.
    """
    known = dict(start.get("pitch_ranges", {}))
    if not known and start.get("pitch_range") and not start.get("voices"):
        known = {FIRST_VOICE: start["pitch_range"]}  # there was but one
    for name, (low, high) in ranges.items():
        before = known.get(name or FIRST_VOICE, (low, high))
        known[name or FIRST_VOICE] = (min(low, before[0]), max(high, before[1]))
    return {name: list(both) for name, both in known.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Train from the shell; return the exit code."""
    return train(TransformerExperiment, __doc__ or "", argv)


if __name__ == "__main__":
    sys.exit(main())
