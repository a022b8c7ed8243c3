"""This project beside others that do the same work, alternated on one machine.

    python benchmark.py --peers
    python benchmark.py --peers --rows griffin

Peers are optional packages; one that is not installed is skipped by name. Times are seconds of
processor time of one thread on a CPU, of the clock on a GPU. A b a b …: a ratio is the median over
pairs of runs, so that a busy machine slows both. All networks have random weights and the sizes of
a preset, as far as the peer's parts allow: widths, layers, heads, inner widths and the reduction
factor are equal, numbers of parameters are printed.
"""

from __future__ import annotations

import logging
import statistics
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from text.symbols import SYMBOLS
from training.costs import SPOKEN, convergence, harmonic_wav
from utils import config
from utils.audio import Features, griffin_lim, mel_filterbank
from utils.flags import describe_device, start_on
from utils.loading import build_transformer

if TYPE_CHECKING:
    from hyperparams import Hyperparams
    from network import TransformerTTS

PAIRS = 5  # of alternated runs
SYMBOLS_READ, FRAMES_MADE = 60, 200  # of a decoded sentence
BATCH, FRAMES = 8, 300  # of a training step
SHORTEST = 0.82  # of FRAMES in a bucket of real lengths, 9 % of which are padding


@dataclass(frozen=True)
class Side:
    """One of two works to compare: what runs it, and what is worth knowing about it."""

    run: Callable[[], object]
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """The same work here and in a peer's package; making the peer may import it, late."""

    work: str
    peer: str
    package: str
    ours: Callable[[Hyperparams, torch.device], Side]
    theirs: Callable[[Hyperparams, torch.device], Side]


def spectrogram(hp: Hyperparams, device: torch.device) -> Tensor:
    """Return the log magnitudes (1, T, F) of SPOKEN seconds of harmonics with vibrato."""
    return Features(hp.audio).to(device).linear(harmonic_wav(hp).to(device))


def our_griffin_lim(hp: Hyperparams, device: torch.device) -> Side:
    """Recover phases in 32 iterations with momentum 0.99."""
    linear = spectrogram(hp, device)
    error = convergence(griffin_lim(linear, hp.audio), linear, hp)
    return Side(lambda: griffin_lim(linear, hp.audio), f"{error:.1f} dB")


def torchaudio_griffin_lim(hp: Hyperparams, device: torch.device) -> Side:
    """Run torchaudio's GriffinLim with the same iterations and momentum."""
    from torchaudio.transforms import GriffinLim

    audio, linear = hp.audio, spectrogram(hp, device)
    sizes = (audio.n_fft, 32, audio.win_length, audio.hop_length)
    transform = GriffinLim(*sizes, power=1.0, momentum=0.99).to(device)
    magnitude = linear.exp().transpose(1, 2).contiguous()
    error = convergence(transform(magnitude), linear, hp)
    return Side(lambda: transform(magnitude), f"{error:.1f} dB")


def librosa_griffin_lim(hp: Hyperparams, device: torch.device) -> Side:
    """Run librosa's griffinlim with the same iterations and momentum, on the CPU."""
    import librosa

    audio, linear = hp.audio, spectrogram(hp, torch.device("cpu"))
    magnitude = linear[0].exp().T.numpy()
    sizes = {name: getattr(audio, name) for name in ("hop_length", "win_length", "n_fft")}

    def run() -> Any:
        return librosa.griffinlim(magnitude, n_iter=32, momentum=0.99, random_state=0, **sizes)

    return Side(run, f"{convergence(torch.from_numpy(run())[None], linear, hp):.1f} dB")


def our_features(hp: Hyperparams, device: torch.device) -> Side:
    """Compute mel and linear spectrogram."""
    features, wav = Features(hp.audio).to(device), harmonic_wav(hp).to(device)
    return Side(lambda: features(wav))


def torchaudio_features(hp: Hyperparams, device: torch.device) -> Side:
    """Compute the same by torchaudio's Spectrogram and MelScale."""
    from torchaudio.transforms import MelScale, Spectrogram

    audio, wav = hp.audio, harmonic_wav(hp).to(device)
    magnitude = Spectrogram(audio.n_fft, hop_length=audio.hop_length, power=1.0).to(device)
    scale = MelScale(
        audio.n_mels,
        audio.sample_rate,
        n_stft=audio.n_linear,
        norm="slaney",
        mel_scale="slaney",
    ).to(device)

    def run() -> tuple[Tensor, Tensor]:
        linear = magnitude(wav)
        return scale(linear).clamp(min=1e-5).log(), linear.clamp(min=1e-5).log()

    return Side(run)


def librosa_features(hp: Hyperparams, device: torch.device) -> Side:
    """Compute the same by librosa's stft, on the CPU."""
    import librosa
    import numpy as np

    audio, wav = hp.audio, harmonic_wav(hp)[0].numpy()
    bank = mel_filterbank(audio).T.numpy()

    def run() -> Any:
        linear = np.abs(librosa.stft(wav, n_fft=audio.n_fft, hop_length=audio.hop_length))
        return np.log(np.maximum(bank @ linear, 1e-5)), np.log(np.maximum(linear, 1e-5))

    return Side(run)


def millions(network: nn.Module) -> str:
    """Return the number of parameters in words."""
    return f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f} M parameters"


def as_published(hp: Hyperparams) -> Hyperparams:
    """Return the sizes with the decoder and mel postnet that the peers have too."""
    sizes = replace(
        hp.transformer,
        history=True,
        contour=False,
        postnet_layers=5,
        postnet_width=256,
        postnet_kernel=5,
    )
    return replace(hp, transformer=sizes)


def our_decoding(hp: Hyperparams, device: torch.device) -> Side:
    """Decode a sentence with cached keys and values."""
    network = build_transformer(hp, len(SYMBOLS)).to(device).eval()
    nn.init.constant_(network.to_stop.bias, -50.0)  # exactly as long as asked
    symbols = torch.randint(1, len(SYMBOLS), (1, SYMBOLS_READ), device=device)
    lengths = torch.tensor([SYMBOLS_READ], device=device)
    limit = torch.tensor([FRAMES_MADE], device=device)
    return Side(lambda: network.generate(symbols, lengths, [0], limit), millions(network))


def speecht5_network(hp: Hyperparams) -> Any:
    """Return SpeechT5 of transformers, text to mel, of the same sizes."""
    from transformers import SpeechT5Config, SpeechT5ForTextToSpeech

    sizes, inner = hp.transformer, hp.transformer.feedforward_multiplier * hp.transformer.width
    section = SpeechT5Config(
        vocab_size=100,
        hidden_size=sizes.width,
        encoder_layers=sizes.encoder_layers,
        encoder_attention_heads=sizes.heads,
        encoder_ffn_dim=inner,
        decoder_layers=sizes.decoder_layers,
        decoder_attention_heads=sizes.heads,
        decoder_ffn_dim=inner,
        num_mel_bins=hp.audio.n_mels,
        reduction_factor=sizes.reduction_factor,
        speech_decoder_prenet_units=sizes.prenet_width,
        speech_decoder_postnet_layers=sizes.postnet_layers,
        speech_decoder_postnet_units=sizes.postnet_width,
        speaker_embedding_dim=16,
    )
    return SpeechT5ForTextToSpeech(section)


def speecht5_decoding(hp: Hyperparams, device: torch.device) -> Side:
    """Decode as many frames by SpeechT5 of transformers, with its cache."""
    network = speecht5_network(hp).to(device).eval()
    nn.init.constant_(network.speech_decoder_postnet.prob_out.bias, -50.0)
    symbols = torch.randint(5, 99, (1, SYMBOLS_READ), device=device)
    speaker = torch.zeros(1, 16, device=device)
    ratio = FRAMES_MADE / SYMBOLS_READ

    @torch.no_grad()
    def run() -> Any:
        return network.generate_speech(symbols, speaker, minlenratio=0.0, maxlenratio=ratio)

    return Side(run, f"{run().shape[0]} frames, {millions(network)}")


def speecht5_training(hp: Hyperparams, device: torch.device) -> Side:
    """Take a training step by SpeechT5 and its own loss, guided attention on."""
    network = speecht5_network(hp).to(device).train()
    symbols, _, mel, _ = training_inputs(99, hp, device)
    mask, speaker = torch.ones_like(symbols), torch.zeros(BATCH, 16, device=device)

    def loss() -> Tensor:
        told = {"attention_mask": mask, "speaker_embeddings": speaker}
        return network(input_ids=symbols, labels=mel, **told).loss

    return Side(step_of(network, loss, device), millions(network))


def conformer_training(hp: Hyperparams, device: torch.device) -> Side:
    """Take a step of a network without a history by FastSpeech2Conformer of transformers.

    Its blocks have a convolution and a second feed-forward part besides, and it decodes frame by
    frame: with a reduction factor above 1 it does not train.
    """
    from transformers import FastSpeech2ConformerConfig, FastSpeech2ConformerModel

    sizes, inner = hp.transformer, hp.transformer.feedforward_multiplier * hp.transformer.width
    section = FastSpeech2ConformerConfig(
        hidden_size=sizes.width,
        vocab_size=100,
        num_mel_bins=hp.audio.n_mels,
        encoder_num_attention_heads=sizes.heads,
        encoder_layers=sizes.encoder_layers,
        encoder_linear_units=inner,
        decoder_num_attention_heads=sizes.heads,
        decoder_layers=sizes.decoder_layers,
        decoder_linear_units=inner,
        speech_decoder_postnet_layers=sizes.postnet_layers,
        speech_decoder_postnet_units=sizes.postnet_width,
        reduction_factor=1,
        duration_predictor_channels=sizes.width,
        pitch_predictor_channels=sizes.width,
        energy_predictor_channels=sizes.width,
    )
    network = FastSpeech2ConformerModel(section).to(device).train()
    symbols, _, mel, _ = training_inputs(99, hp, device)
    # Frames of each symbol, and a pitch and an energy.
    durations = torch.full_like(symbols, FRAMES // SYMBOLS_READ)
    durations[:, -1] += FRAMES % SYMBOLS_READ
    told = torch.randn(BATCH, SYMBOLS_READ, 1, device=device)
    labels = {"spectrogram_labels": mel, "duration_labels": durations}
    labels |= {"pitch_labels": told, "energy_labels": told}

    def loss() -> Tensor:
        return network(symbols, attention_mask=torch.ones_like(symbols), **labels).loss

    return Side(step_of(network, loss, device), millions(network))


def espnet_network(hp: Hyperparams) -> Any:
    """Return ESPnet2's TTS Transformer of the same sizes."""
    from espnet2.tts.transformer.transformer import Transformer

    sizes, inner = hp.transformer, hp.transformer.feedforward_multiplier * hp.transformer.width
    return Transformer(
        idim=100,
        odim=hp.audio.n_mels,
        embed_dim=sizes.width,
        eprenet_conv_layers=sizes.encoder_prenet_layers,
        eprenet_conv_chans=sizes.width,
        eprenet_conv_filts=sizes.encoder_prenet_kernel,
        dprenet_layers=2,
        dprenet_units=sizes.prenet_width,
        elayers=sizes.encoder_layers,
        eunits=inner,
        adim=sizes.width,
        aheads=sizes.heads,
        dlayers=sizes.decoder_layers,
        dunits=inner,
        postnet_layers=sizes.postnet_layers,
        postnet_chans=sizes.postnet_width,
        postnet_filts=sizes.postnet_kernel,
        reduction_factor=sizes.reduction_factor,
        use_guided_attn_loss=True,
    )


def espnet_decoding(hp: Hyperparams, device: torch.device) -> Side:
    """Decode as many frames by ESPnet2, with its cache."""
    network = espnet_network(hp).to(device).eval()
    symbols = torch.randint(1, 99, (SYMBOLS_READ,), device=device)
    ratio = FRAMES_MADE / (SYMBOLS_READ + 1)  # it adds an end of sentence

    @torch.no_grad()
    def run() -> Any:
        return network.inference(symbols, threshold=2.0, minlenratio=0.0, maxlenratio=ratio)

    return Side(run, f"{run()['feat_gen'].shape[0]} frames, {millions(network)}")


def training_inputs(
    num_symbols: int, hp: Hyperparams, device: torch.device, shortest: float = 1.0
) -> tuple[Tensor, ...]:
    """Return symbols (B, N) below `num_symbols`, their number (B,), mels (B, T, M), T (B,).

    Lengths lie evenly between a share `shortest` of FRAMES and FRAMES, whole decoder steps each.
    """
    r = hp.transformer.reduction_factor
    mel_lengths = torch.linspace(shortest * FRAMES, FRAMES, BATCH).long() // r * r
    return (
        torch.randint(1, num_symbols, (BATCH, SYMBOLS_READ), device=device),
        torch.full((BATCH,), SYMBOLS_READ, device=device),
        torch.randn(BATCH, FRAMES, hp.audio.n_mels, device=device),
        mel_lengths.to(device),
    )


def our_training(hp: Hyperparams, device: torch.device, shortest: float = 1.0) -> Side:
    """Take a training step: L1, stop head, guided attention, backward, clipping, AdamW."""
    network: TransformerTTS = build_transformer(hp, len(SYMBOLS)).to(device).train()
    symbols, lengths, mel, mel_lengths = training_inputs(len(SYMBOLS), hp, device, shortest)

    def loss() -> Tensor:
        out = network(symbols, lengths, mel, mel_lengths, guided=True)
        guided = torch.stack([w.square().mean() for w in out.guided]).sum()
        errors = (out.mel - mel).abs().mean() + (out.mel_before - mel).abs().mean()
        return errors + out.stop_logits.square().mean() + guided

    return Side(step_of(network, loss, device), millions(network))


def espnet_training(hp: Hyperparams, device: torch.device, shortest: float = 1.0) -> Side:
    """Take the same step by ESPnet2 and its own loss."""
    network = espnet_network(hp).to(device).train()
    symbols, lengths, mel, mel_lengths = training_inputs(99, hp, device, shortest)

    def loss() -> Tensor:
        return network(symbols, lengths, mel, mel_lengths)[0]

    return Side(step_of(network, loss, device), millions(network))


def espnet_parallel_training(hp: Hyperparams, device: torch.device, shortest: float = 1.0) -> Side:
    """Take a step of a network without a history by ESPnet2's FastSpeech2 and its own loss."""
    from espnet2.tts.fastspeech2 import FastSpeech2

    sizes, inner = hp.transformer, hp.transformer.feedforward_multiplier * hp.transformer.width
    r = sizes.reduction_factor
    network = FastSpeech2(
        idim=100,
        odim=hp.audio.n_mels,
        adim=sizes.width,
        aheads=sizes.heads,
        elayers=sizes.encoder_layers,
        eunits=inner,
        dlayers=sizes.decoder_layers,
        dunits=inner,
        postnet_layers=sizes.postnet_layers,
        postnet_chans=sizes.postnet_width,
        postnet_filts=sizes.postnet_kernel,
        reduction_factor=r,
        duration_predictor_chans=sizes.width,
        pitch_predictor_chans=sizes.width,
        energy_predictor_chans=sizes.width,
    )
    network = network.to(device).train()
    symbols, lengths, mel, mel_lengths = training_inputs(99, hp, device, shortest)
    # Decoder steps of each symbol, of which it adds an end of sentence, and a pitch and an energy.
    steps, symbols_told = mel_lengths // r, SYMBOLS_READ + 1
    durations = (steps // symbols_told)[:, None].repeat(1, symbols_told)
    durations[:, -1] += steps % symbols_told
    told = torch.randn(BATCH, symbols_told, 1, device=device)
    known = lengths + 1

    def loss() -> Tensor:
        parts = durations, known, told, known, told, known
        return network(symbols, lengths, mel, mel_lengths, *parts)[0]

    return Side(step_of(network, loss, device), millions(network))


def espnet_fastspeech2_training(hp: Hyperparams, device: torch.device) -> Side:
    """Take the same step by FastSpeech2 with the postnet and the steps of its own defaults."""
    own = replace(
        hp.transformer, postnet_layers=5, postnet_width=512, postnet_kernel=5, reduction_factor=1
    )
    return espnet_parallel_training(replace(hp, transformer=own), device)


def in_bucket(training: Callable[..., Side]) -> Callable[[Hyperparams, torch.device], Side]:
    """Return a training step of phrases of several lengths."""
    return partial(training, shortest=SHORTEST)


def step_of(
    network: nn.Module, loss: Callable[[], Tensor], device: torch.device
) -> Callable[[], None]:
    """Return forward, backward, clipping of the gradient and AdamW; on a GPU in bfloat16."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        on_gpu = device.type == "cuda"
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=on_gpu):
            value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    return step


GRIFFIN_LIM = f"Griffin-Lim, 32 iterations, {SPOKEN:g} s"
SPECTROGRAMS = f"features, {SPOKEN:g} s"
DECODING = f"decoding {FRAMES_MADE} frames"
TRAINING = f"training step, {BATCH} × {FRAMES} frames"
AT_ONCE = f"{TRAINING}, at once"  # without a history: all frames in one pass
BUCKET = f"training step, {BATCH} × {SHORTEST * FRAMES:.0f}–{FRAMES} frames"
BUCKET_AT_ONCE = f"{BUCKET}, at once"
COMPARISONS = (
    Comparison(
        GRIFFIN_LIM, "torchaudio GriffinLim", "torchaudio", our_griffin_lim, torchaudio_griffin_lim
    ),
    Comparison(GRIFFIN_LIM, "librosa griffinlim", "librosa", our_griffin_lim, librosa_griffin_lim),
    Comparison(SPECTROGRAMS, "torchaudio", "torchaudio", our_features, torchaudio_features),
    Comparison(SPECTROGRAMS, "librosa", "librosa", our_features, librosa_features),
    Comparison(
        DECODING, "SpeechT5 of transformers", "transformers", our_decoding, speecht5_decoding
    ),
    Comparison(DECODING, "ESPnet2 Transformer", "espnet2", our_decoding, espnet_decoding),
    Comparison(
        TRAINING, "SpeechT5 of transformers", "transformers", our_training, speecht5_training
    ),
    Comparison(TRAINING, "ESPnet2 Transformer", "espnet2", our_training, espnet_training),
    Comparison(AT_ONCE, "FastSpeech2Conformer", "transformers", our_training, conformer_training),
    Comparison(AT_ONCE, "ESPnet2 FastSpeech2", "espnet2", our_training, espnet_parallel_training),
    Comparison(
        AT_ONCE,
        "FastSpeech2, own postnet",
        "espnet2",
        our_training,
        espnet_fastspeech2_training,
    ),
    Comparison(
        BUCKET,
        "ESPnet2 Transformer",
        "espnet2",
        in_bucket(our_training),
        in_bucket(espnet_training),
    ),
    Comparison(
        BUCKET_AT_ONCE,
        "ESPnet2 FastSpeech2",
        "espnet2",
        in_bucket(our_training),
        in_bucket(espnet_parallel_training),
    ),
)


def alternated(
    first: Callable[[], object], second: Callable[[], object], device: torch.device, pairs: int
) -> tuple[list[float], list[float]]:
    """Run both in turn, once to warm up; return the seconds of each run."""

    def seconds(work: Callable[[], object]) -> float:
        clock = time.perf_counter if device.type == "cuda" else time.process_time
        began = clock()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return clock() - began

    both = first, second
    for work in both:
        seconds(work)
    times: tuple[list[float], list[float]] = [], []
    for _ in range(pairs):
        for work, found in zip(both, times, strict=True):
            found.append(seconds(work))
    return times


def peer_lines(
    hp: Hyperparams, device: torch.device, rows: str, pairs: int = PAIRS
) -> Iterator[str]:
    """Yield the lines of the table; peers that are not installed are named."""
    head = f"{'work':<42}{'ours':>9}  {'peer':<26}{'seconds':>9}  {'peer / ours':<22}notes"
    yield head
    yield "-" * len(head)
    for comparison in COMPARISONS:
        if rows.lower() not in comparison.work.lower():
            continue
        if find_spec(comparison.package) is None:
            yield f"{comparison.work:<42}{'':>9}  {comparison.peer:<26}skipped: not installed"
            continue
        torch.manual_seed(0)
        equal = as_published(hp) if comparison.work in (DECODING, TRAINING, BUCKET) else hp
        if comparison.work in (AT_ONCE, BUCKET_AT_ONCE):
            equal = replace(hp, transformer=replace(hp.transformer, history=False))
        ours, theirs = comparison.ours(equal, device), comparison.theirs(equal, device)
        times = alternated(ours.run, theirs.run, device, pairs)
        ratios = [b / a for a, b in zip(*times, strict=True)]
        spread = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
        notes = "; ".join(filter(None, [ours.note, theirs.note]))
        medians = [statistics.median(found) for found in times]
        yield (
            f"{comparison.work:<42}{medians[0]:>9.4f}  {comparison.peer:<26}{medians[1]:>9.4f}  "
            f"{spread:<22}{notes}"
        )


def measure_peers(arguments: Namespace) -> None:
    """Print the table of benchmark.py --peers."""
    torch.set_num_threads(arguments.threads or 1)
    device = start_on(arguments.device)
    logging.getLogger().setLevel(logging.WARNING)  # peers describe every layer of theirs
    steps = "; training steps bfloat16" if device.type == "cuda" else ""
    print(f"{describe_device(device)}; preset {arguments.preset}; float32{steps}")
    for line in peer_lines(config.preset(arguments.preset), device, arguments.rows):
        print(line, flush=True)
