"""Train TransformerTTS: lyrics, with notes where the corpus has them, → mel spectrogram.

    python prepare_data.py songbook DIR --name songbook
    python prepare_data.py ljspeech DIR --name ljspeech
    python train_transformer.py --data songbook,ljspeech --preset small --run voice

One network sings what has notes and speaks what has none; either corpus will do alone. The same
command resumes. `best.pt` is best by free-running renderings of a few validation phrases: the
teacher-forced loss misleads, because it never hears the network's own mistakes.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from corpora.stores import open_features
from evaluation.score_metrics import frame_distance, mel_level
from hyperparams import Hyperparams
from module import corrupt_history, has_times, interval_log_prior, padding_mask
from network import Generated, TransformerTTS
from preprocess import FeatureStore, TextMelBatch, TextMelBatches
from singing.chain import generate_mel, guided_alignment, linear_from_mel, waveform
from text.symbols import word_spans
from training.losses import (
    duration_loss,
    guided_attention_loss,
    masked_l1,
    onset_loss,
    stop_loss,
    structure_loss,
)
from training.trainer import StepContext, Term, Trainer
from utils import checkpoint, config, distributed, plotting
from utils.loading import build_transformer
from utils.metrics import (
    aligned_distance,
    attention_health,
    frame_difference_ratio,
)
from utils.pitch import f0_track, raw_pitch_accuracy

QUICK_ITERATIONS = 12  # of Griffin-Lim where only the pitch is listened to
PHRASE_SEED = 1000  # dropout seeds of the free-running phrases: the same at every validation


class Objective:
    """What the network is trained on and judged by."""

    def __init__(self, hp: Hyperparams, store: FeatureStore) -> None:
        self.hp = hp
        self.symbols = store.symbols
        self.mel_statistics = store.standardiser("mel")
        self.batches = TextMelBatches(store, "train", hp.transformer_training)
        self.validation = TextMelBatches(store, "validation", hp.transformer_training)
        self.phrases = self.validation.fixed(hp.transformer.free_running_phrases)
        self.true_pitch: dict[int, np.ndarray] = {}  # F0 (T,) in Hz of sung phrases, made once

    def terms(
        self, network: nn.Module, batch: TextMelBatch, context: StepContext
    ) -> Mapping[str, Term]:
        """L1 of the mel before and after its postnet and its contrast, the stop head, the times of
        the symbols, the guided heads."""
        hp = self.hp.transformer
        if context.training and hp.stretch_max:
            draw = torch.rand((), generator=context.generator).item()
            batch = stretched(batch, 1.0 + hp.stretch_max * (2.0 * draw - 1.0))
        history = batch.mel
        if context.training:
            ramp = min(1.0, context.step / max(hp.history_steps, 1))
            history = corrupt_history(
                batch.mel,
                ramp * hp.history_zero_max,
                ramp * hp.history_noise_max,
                context.generator,
            )
        phoneme_times = self.phoneme_times_for(batch, context)
        guidance = max(hp.guided_floor, hp.guided_weight * (1.0 - context.step / hp.guided_steps))
        out = network(
            batch.symbols,
            batch.symbol_lengths,
            history,
            batch.mel_lengths,
            batch.score,
            phoneme_times,
            guided=guidance > 0,
        )
        r = hp.reduction_factor
        terms = {
            "mel_before": Term(*masked_l1(out.mel_before, batch.mel, batch.mel_lengths)),
            "mel": Term(*masked_l1(out.mel, batch.mel, batch.mel_lengths)),
            "stop": Term(*stop_loss(out.stop_logits, batch.mel_lengths, r, hp.stop_pos_weight)),
        }
        if hp.structure_weight:
            total, count = structure_loss(out.mel, batch.mel, batch.mel_lengths)
            terms["structure"] = Term(total, count, hp.structure_weight)
        times = batch.phoneme_times
        if times is None:
            times = torch.zeros(*batch.symbols.shape, 2, device=batch.mel.device)
        slots = torch.zeros_like(times) if batch.score is None else batch.score.interval
        timing = batch.symbol_lengths, 1.0 / self.hp.audio.frame_rate
        said_alone = times * spoken(batch)[:, None, None]
        terms["duration"] = Term(*duration_loss(out.log_durations, said_alone, *timing))
        total, count = onset_loss(out.onset_shifts, slots, times, *timing)
        terms["onset"] = Term(total, count, hp.onset_weight)
        if guidance > 0:
            total, count = guided_attention_loss(
                out.guided,
                -(-batch.mel_lengths // r),
                batch.symbol_lengths,
                hp.guided_sigma,
                applies=spoken(batch),
                log_prior=self.said_prior(batch, out.stop_logits.shape[1]),
            )
            terms["guided"] = Term(total, count, guidance)
        return terms

    def counts(self, batch: TextMelBatch) -> dict[str, float]:
        """What each term is averaged over: makes accumulated batches count like one large one."""
        hp = self.hp.transformer
        frames = float(batch.mel_lengths.sum())
        steps = -(-batch.mel_lengths // hp.reduction_factor)
        heads = hp.guided_heads * hp.guided_layers
        is_spoken = spoken(batch)
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
        """The times that hold the attention: all but a share of the items have them, the others
        must learn to do without (sung ones have the slots of their score)."""
        if batch.phoneme_times is None or not context.training:
            return batch.phoneme_times
        draws = torch.rand(len(batch.ids), generator=context.generator).to(
            batch.phoneme_times.device
        )
        return (
            batch.phoneme_times
            * (draws >= self.hp.transformer.phoneme_times_dropout)[:, None, None]
        )

    def said_prior(self, batch: TextMelBatch, steps: int) -> Tensor | None:
        """Log prior (B, steps, N) of the measured phoneme times, None for a corpus without them."""
        if batch.phoneme_times is None:
            return None
        r, rate = self.hp.transformer.reduction_factor, self.hp.audio.frame_rate
        centre = torch.arange(steps, device=batch.phoneme_times.device) * r + (r - 1) / 2
        return interval_log_prior(
            batch.phoneme_times, centre / rate, self.hp.transformer.phoneme_times_width
        )

    def validate(self, network: TransformerTTS) -> dict[str, float]:
        """Teacher-forced losses over validation batches and free-running scores of the phrases."""
        sums: dict[str, list[float]] = {}
        device = next(network.parameters()).device
        context = StepContext(0, torch.Generator(), device, training=False)
        for batch in self.validation.head(self.hp.transformer_training.validate_batches):
            for name, term in self.terms(network, batch.to(device), context).items():
                entry = sums.setdefault(name, [0.0, 0.0])
                entry[0] += float(term.total)
                entry[1] += float(term.count)
        result = {name: total / max(count, 1.0) for name, (total, count) in sums.items()}
        return result | self.free_running(network, self.sing(network))

    def sing(self, network: TransformerTTS) -> Generated:
        """Render the fixed phrases from their text (and notes) alone."""
        batch = self.phrases.to(next(network.parameters()).device)
        return generate_mel(
            network,
            batch.symbols,
            batch.symbol_lengths,
            [PHRASE_SEED + i for i in range(len(batch.ids))],
            self.hp.synthesis,
            batch.score,
            need_weights=True,
        )

    def free_running(self, network: TransformerTTS, sung: Generated) -> dict[str, float]:
        """Distance to the truth, sharpness, length, attention health and, for songs, pitch and
        level: means over the phrases.

        `distance`: with notes frame by frame, without them along the best time alignment.
        `pitch`: raw pitch accuracy, in shares of what the true mel reaches through the same path.
        `score`, smaller is better: distance + share of words not read + |ln length ratio|, because
        a mean spectrum of any length is never very far from speech, + share of pitch missed.
        """
        batch = self.phrases
        rows = []
        for i, length in enumerate(batch.mel_lengths.tolist()):
            frames = int(sung.mel_lengths[i])
            generated, target = sung.mel[i, :frames].cpu(), batch.mel[i, :length]
            mel, truth = generated.numpy(), target.numpy()
            row: dict[str, float] = {}
            if spoken(batch)[i]:
                distance = aligned_distance(mel, truth)
            else:
                distance = frame_distance(mel, truth)
                row = {
                    "pitch": self.pitch_ratio(i, generated),
                    "level": abs(self.level(generated) - self.level(target)),  # dB
                }
            names = [self.symbols[s] for s in batch.symbols[i, : batch.symbol_lengths[i]].tolist()]
            weights = guided_alignment(network, sung, i)[:, : len(names)].cpu().numpy()
            health = attention_health(weights, word_spans(names))
            missed = 1.0 - min(row.get("pitch", 1.0), 1.0)
            lost = 1.0 - health.coverage + abs(math.log(frames / length)) + missed
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
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}

    def pitch_ratio(self, index: int, mel: Tensor) -> float:
        """Raw pitch accuracy of a phrase's mel (T, M) over that of its true mel; 1 without any."""
        if index not in self.true_pitch:
            true_mel = self.phrases.mel[index, : self.phrases.mel_lengths[index]]
            self.true_pitch[index] = self.pitch(true_mel)
        true = self.true_pitch[index]
        notes = self.phrases.score.frame_pitch[index, : len(true)].numpy()
        is_note = (notes > 0) & (true > 0)
        ceiling = raw_pitch_accuracy(true, notes, is_note)
        found = np.zeros(len(true))
        heard = self.pitch(mel)[: len(true)]
        found[: len(heard)] = heard
        return raw_pitch_accuracy(found, notes, is_note) / ceiling if ceiling > 0 else 1.0

    def pitch(self, mel: Tensor) -> np.ndarray:
        """F0 (T,) in Hz of what a standardised mel (T, M) sounds like."""
        audio = self.hp.audio
        knobs = replace(self.hp.synthesis, griffin_lim_iterations=QUICK_ITERATIONS)
        linear = linear_from_mel(self.mel_statistics.inverse(mel)[None].float(), audio)[0]
        wav = waveform(linear, audio, knobs, PHRASE_SEED)
        return f0_track(wav, audio.sample_rate, audio.hop_length).numpy()[: len(mel)]

    def level(self, mel: Tensor) -> float:
        """Level of a standardised mel (T, M) in dB."""
        return mel_level(self.mel_statistics.inverse(mel.float()).numpy())

    def preview(self, network: TransformerTTS, writer: SummaryWriter, step: int) -> None:
        """Attention of every layer and head, predicted and true mel, the sound of a phrase."""
        hp, audio = self.hp, self.hp.audio
        sung, batch = self.sing(network), self.phrases
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


def stretched(batch: TextMelBatch, factor: float) -> TextMelBatch:
    """The same phrases at another tempo: mels interpolated along time, note times scaled."""
    frames = max(1, round(batch.mel.shape[1] * factor))
    mel = F.interpolate(batch.mel.transpose(1, 2), size=frames, mode="linear").transpose(1, 2)
    lengths = (batch.mel_lengths * factor).round().long().clamp(1, frames)
    score = batch.score
    if score is not None:
        nearest = (torch.arange(frames, device=mel.device) / factor).long()
        nearest = nearest.clamp_max(batch.mel.shape[1] - 1)  # (T',) frame that sounded then
        score = replace(
            score,
            duration=score.duration * factor,
            interval=score.interval * factor,
            frame_pitch=score.frame_pitch[:, nearest],
            frame_position=score.frame_position[:, nearest],
        )
    is_padding = padding_mask(lengths, frames)
    mel = mel.masked_fill(is_padding[..., None], 0.0)
    phoneme_times = None if batch.phoneme_times is None else batch.phoneme_times * factor
    return replace(batch, mel=mel, mel_lengths=lengths, score=score, phoneme_times=phoneme_times)


def spoken(batch: TextMelBatch) -> Tensor:
    """True for items without a score, (B,)."""
    if batch.score is None:
        return torch.ones(len(batch.ids), dtype=torch.bool, device=batch.mel.device)
    return ~has_times(batch.score.interval)


def alphas(network: TransformerTTS) -> dict[str, float]:
    """The learned scales of the position codes."""
    return {
        "alpha/encoder": network.encoder_positions.alpha.item(),
        "alpha/decoder": network.decoder_positions.alpha.item(),
    }


def build(arguments: argparse.Namespace, world: distributed.World) -> Trainer:
    """Corpus, network and objective of the command line, in a trainer."""
    hp = config.from_arguments(arguments, config.presets(), "transformer_training")
    directory = checkpoint.run_directory(arguments.save_dir, "transformer", arguments.run)
    store = open_features(arguments.feature_dir, arguments.data)
    store.check_audio(hp.audio)
    for line in config.differences(config.preset(arguments.preset), hp):
        print(line)
    torch.manual_seed(hp.transformer_training.seed)
    network = build_transformer(hp, len(store.symbols))
    objective = Objective(hp, store)
    if arguments.start_from is not None:
        for line in checkpoint.start_from(network, arguments.start_from, "transformer"):
            print(line)
    sung = objective.batches.dataset.timed_kinds()
    network.knows_durations.fill_(False in sung)
    network.knows_onsets.fill_(True in sung)
    return Trainer(
        kind="transformer",
        directory=directory,
        model=network,
        loss_terms=objective.terms,
        batches=objective.batches,
        training=hp.transformer_training,
        hyperparams=hp,
        data=store.for_checkpoint(),
        world=world,
        validate=objective.validate,
        preview=objective.preview,
        monitor=alphas,
        # A stretched batch has other counts than it was loaded with: there batches are averaged.
        term_counts=None if hp.transformer.stretch_max else objective.counts,
        fresh=arguments.fresh,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Train from the shell; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    config.add_run_arguments(parser, config.presets())
    return distributed.run_script(build, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
