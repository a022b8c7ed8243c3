"""What does the code cost beside the limits of the machine? Networks, features, samplers, timed.

The limit of a row is the longer of two times: its floating-point operations at the matrix-product
rate measured just before, and its unavoidable memory traffic at the copy rate measured just before.
The ratio is measured time over limit; machines differ in both, so quote ratios.
"""

from __future__ import annotations

import math
import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from hyperparams import Hyperparams
from inpainter.diffusion import ACCOMPANIMENT, Denoiser, denoising_loss
from inpainter.sampling import sample
from network import Generated, TransformerTTS
from source_filter import render
from text.symbols import SYMBOLS
from training.launches import count_launches
from training.losses import spectral_loss
from training.runlog import peak_memory
from utils import config
from utils.audio import Features, griffin_lim
from utils.flags import describe_device, start_on
from utils.loading import build_postnet, build_transformer, build_unet, denoiser_of

SPOKEN = 5.0  # s of audio in the rows that work on a waveform


@dataclass(frozen=True)
class Machine:
    """Measured limits: matrix products in FLOP/s and copies in bytes/s."""

    device: torch.device
    dtype: torch.dtype
    flop_rate: float
    byte_rate: float
    compiles: bool = False  # are networks measured compiled as well?
    bfloat16_rate: float = 0.0  # FLOP/s of bfloat16 products on a CUDA device; 0 elsewhere

    def limit(self, flops: float, bytes_moved: float) -> float:
        """Return the least seconds that the work takes."""
        return max(flops / self.flop_rate, bytes_moved / self.byte_rate)


@dataclass(frozen=True)
class Cost:
    """A measured cost, one line of the table."""

    name: str
    seconds: float
    flops: float
    bytes_moved: float
    note: str = ""


def timed(work: Callable[[], object], device: torch.device, seconds: float = 1.0) -> float:
    """Return the median seconds of one call, after a warm-up, repeated for about `seconds`."""

    def once() -> float:
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    once()
    times = [once()]
    while sum(times) < seconds and len(times) < 50:
        times.append(once())
    if device.type == "cuda":  # work that does not wait is queued: one wait for several calls
        times = [queued(work, device, times[-1], seconds)]
    return sorted(times)[len(times) // 2]


def queued(work: Callable[[], object], device: torch.device, one: float, seconds: float) -> float:
    """Return the seconds of a call on a CUDA device among several that it is given at once."""
    count = max(2, min(50, int(seconds / max(one, 1e-6))))
    began = time.perf_counter()
    for _ in range(count):
        work()
    torch.cuda.synchronize(device)
    return (time.perf_counter() - began) / count


def count_operations(work: Callable[[], object]) -> int:
    """Count the floating-point operations of products, convolutions and attention in a call."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def measure_machine(device: torch.device, dtype: torch.dtype) -> Machine:
    """Time a large matrix product and a large copy."""
    size = 8192 if device.type == "cuda" else 1536
    a = torch.randn(size, size, device=device, dtype=dtype)
    out = torch.empty_like(a)
    product = timed(lambda: torch.mm(a, a, out=out), device)
    source = torch.zeros(2**26, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = timed(lambda: target.copy_(source), device)
    flop_rate, peak = 2 * size**3 / product, 0.0
    if device.type == "cuda":
        b = a.bfloat16()
        halves = torch.empty_like(b)
        peak = 2 * size**3 / timed(lambda: torch.mm(b, b, out=halves), device)
    byte_rate = 2 * source.numel() / copy
    return Machine(device, dtype, flop_rate, byte_rate, bfloat16_rate=peak)


def compiled(network: nn.Module, machine: Machine) -> nn.Module:
    """Compile; on a CPU with the weights laid out once as its convolutions need them."""
    from torch._inductor import config as inductor  # half a second: only where it is needed

    # torch.compile(options=...) ignores it.
    inductor.freezing = machine.device.type == "cpu"
    return cast(nn.Module, torch.compile(network))


def weight_bytes(*modules: nn.Module) -> int:
    """Return the bytes of the parameters of some modules."""
    return sum(p.numel() * p.element_size() for m in modules for p in m.parameters())


# ---------------------------------------------------------------------------------------------
# Rows
# ---------------------------------------------------------------------------------------------


def features_row(hp: Hyperparams, machine: Machine) -> list[Cost]:
    """Time mel and linear spectrogram per second of audio."""
    features = Features(hp.audio).to(machine.device)
    samples = int(SPOKEN * hp.audio.sample_rate)
    wav = 0.1 * torch.randn(1, samples, device=machine.device)
    frames = features.num_frames(samples) / SPOKEN
    fft = 2.5 * hp.audio.n_fft * math.log2(hp.audio.n_fft)  # of a real signal
    flops = frames * (fft + 2 * hp.audio.n_linear * hp.audio.n_mels)
    moved = frames * 4 * (hp.audio.hop_length + hp.audio.n_linear + hp.audio.n_mels)
    seconds = timed(lambda: features(wav), machine.device) / SPOKEN
    return [Cost("features, 1 s of audio", seconds, flops, moved)]


def harmonic_wav(hp: Hyperparams) -> Tensor:
    """Return SPOKEN seconds of a harmonic sound with vibrato, (1, S)."""
    time_axis = torch.arange(int(SPOKEN * hp.audio.sample_rate)) / hp.audio.sample_rate
    vibrato = 220 * time_axis + 3 * torch.sin(2 * math.pi * 5 * time_axis)
    harmonics = torch.stack([torch.sin(2 * math.pi * k * vibrato) / k for k in range(1, 12)])
    return 0.1 * harmonics.sum(0, keepdim=True)


def convergence(wav: Tensor, linear: Tensor, hp: Hyperparams) -> float:
    """Return the spectral convergence of wav (1, S) to log magnitudes (1, T, F), in dB."""
    found = Features(hp.audio).to(wav.device).linear(wav).exp()
    frames = min(found.shape[1], linear.shape[1])
    error = found[:, :frames] - linear.exp()[:, :frames]
    return 20 * math.log10(float(error.norm() / linear.exp().norm()))


def griffin_lim_row(hp: Hyperparams, machine: Machine) -> list[Cost]:
    """Time phase recovery per second of audio at the default number of iterations."""
    features = Features(hp.audio).to(machine.device)
    linear = features.linear(harmonic_wav(hp).to(machine.device))
    iterations, momentum = hp.synthesis.griffin_lim_iterations, hp.synthesis.griffin_lim_momentum

    def work() -> Tensor:
        return griffin_lim(linear, hp.audio, iterations, momentum)

    frames = linear.shape[1] / SPOKEN
    per_frame = 2.5 * hp.audio.n_fft * math.log2(hp.audio.n_fft)
    flops = 2 * iterations * frames * per_frame
    moved = iterations * frames * 8 * 6 * hp.audio.n_linear  # six passes over complex values
    seconds = timed(work, machine.device) / SPOKEN
    error = convergence(work(), linear, hp)
    note = f"{iterations} iterations, spectral convergence {error:.1f} dB"
    return [Cost("Griffin-Lim, 1 s of audio", seconds, flops, moved, note)]


def training_step(
    network: nn.Module, loss: Callable[[], Tensor], machine: Machine
) -> Callable[[], None]:
    """Return a training step: forward under autocast, backward, AdamW."""
    fused = machine.device.type in ("cuda", "cpu")  # as training.optimizer
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=fused)

    def step() -> None:
        enabled = machine.dtype != torch.float32
        with torch.autocast(machine.device.type, dtype=torch.bfloat16, enabled=enabled):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def training_rows(
    name: str,
    network: nn.Module,
    loss: Callable[[nn.Module], Tensor],
    m: Machine,
    dynamic: bool | None = None,
) -> list[Cost]:
    """Time a training step; on a GPU with `--compile` a compiled one as well.

    loss: of the network that it is given. dynamic: of torch.compile, whether sizes may change.
    """
    network.train()
    step = training_step(network, lambda: loss(network), m)
    moved = 7 * weight_bytes(network)  # weight, gradient and two moments, read or written
    rows = [Cost(name, 0.0, count_operations(step), moved)]
    rows[0] = measured_step(rows[0], step, m)
    if m.compiles and m.device.type == "cuda":
        torch._dynamo.reset()
        counters = torch._dynamo.utils.counters
        counters.clear()
        fast = cast(nn.Module, torch.compile(network, dynamic=dynamic))
        row = replace(rows[0], name=f"{name}, compiled")
        row = measured_step(row, training_step(network, lambda: loss(fast), m), m)
        graphs, breaks = counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())
        rows.append(replace(row, note=f"{row.note}, {graphs} graphs, {breaks} breaks"))
    return rows


def measured_step(row: Cost, step: Callable[[], None], machine: Machine) -> Cost:
    """Time a step and count its operations; on a GPU with share of the peak, waits and memory."""
    operations = f"{count_launches(step, machine.device)} operations"
    if machine.device.type != "cuda":
        return replace(row, seconds=timed(step, machine.device), note=operations)
    step()
    torch.cuda.reset_peak_memory_stats(machine.device)
    seconds = timed(step, machine.device)
    share = row.flops / seconds / machine.bfloat16_rate
    waits, memory = count_waits(step), peak_memory(machine.device)
    note = f"{share:.1%} of the bfloat16 peak, {operations}, waits {waits} times"
    note += f", peak {memory:.2f} GiB"
    return replace(row, seconds=seconds, note=note)


def count_waits(work: Callable[[], object]) -> int:
    """Count how often the host waits for a CUDA device in a call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(warning.message) for warning in caught)


def transformer_step_row(hp: Hyperparams, machine: Machine) -> list[Cost]:
    """Time a step on 32 phrases of 100 symbols and 600 frames, guided attention on."""
    network = build_transformer(hp, len(SYMBOLS)).to(machine.device)
    symbols = torch.randint(1, len(SYMBOLS), (32, 100), device=machine.device)
    mel = torch.randn(32, 600, hp.audio.n_mels, device=machine.device)
    lengths = torch.full((32,), 100, device=machine.device)
    mel_lengths = torch.full((32,), 600, device=machine.device)

    def loss(network: nn.Module) -> Tensor:
        out = network(symbols, lengths, mel, mel_lengths, guided=True)
        attention = torch.stack([w.square().mean() for w in out.guided]).sum()
        return (out.mel - mel).abs().mean() + out.stop_logits.square().mean() + attention

    name = "transformer, training step 32 × (100, 600)"
    return training_rows(name, network, loss, machine, dynamic=True)


def postnet_step_row(hp: Hyperparams, machine: Machine) -> list[Cost]:
    """Time a step on 32 segments of 200 frames."""
    network = build_postnet(hp).to(machine.device)
    mel = torch.randn(32, 200, hp.audio.n_mels, device=machine.device)
    linear = torch.randn(32, 200, hp.audio.n_linear, device=machine.device)

    def loss(network: nn.Module) -> Tensor:
        return (network(mel) - linear).abs().mean()

    return training_rows("postnet, training step 32 × 200", network, loss, machine)


def source_step_row(hp: Hyperparams, machine: Machine) -> list[Cost]:
    """Time a step of the PostNet with a source on 16 windows of 100 frames."""
    hp = replace(hp, postnet=replace(hp.postnet, kind="source"))
    network, device = build_postnet(hp).to(machine.device), machine.device
    mel = torch.randn(16, 100, hp.audio.n_mels, device=device)
    f0 = torch.full((16, 100), 220.0, device=device)
    base = torch.randn(16, 100, hp.audio.n_linear, device=device) - 4.0
    wav = 0.1 * torch.randn(16, 99 * hp.audio.hop_length, device=device)
    generator = torch.Generator(device)

    def loss(network: nn.Module) -> Tensor:
        made = render(network(mel, f0, base), f0, hp.audio, generator)
        return spectral_loss(made, wav)[0]

    return training_rows("source postnet, training step 16 × 100", network, loss, machine)


def inpainter_step_row(hp: Hyperparams, machine: Machine) -> list[Cost]:
    """Time a step of the preset's inpainter: 4 windows, on a GPU as many as it trains with."""
    batch = hp.inpainter_training.batch_size if machine.device.type == "cuda" else 4
    denoiser, x, is_known = unet_of(hp, machine)
    name = f"inpainter, training step {batch} × {hp.window / hp.audio.sample_rate:.1f} s"
    return unet_training_rows(name, hp, denoiser, x, is_known, machine, batch)


def recomputed(network: TransformerTTS, symbols: Tensor, lengths: Tensor, frames: int) -> Tensor:
    """Decode without a cache: encoder, whole prefix and mel postnet at every step."""
    r = network.reduction_factor
    mel = torch.zeros(1, 0, network.n_mels, device=symbols.device)
    while mel.shape[1] < frames:
        prefix = F.pad(mel, (0, 0, 0, r))
        known = torch.tensor([prefix.shape[1]], device=symbols.device)
        out = network(symbols, lengths, prefix, known)
        mel = torch.cat([mel, out.mel_before[:, -r:]], dim=1)
    return out.mel


@torch.inference_mode()
def decoding_rows(hp: Hyperparams, machine: Machine) -> list[Cost]:
    """Time synthesis of 400 and 2,000 frames; with a history cached and, of 400, recomputed."""
    network = build_transformer(hp, len(SYMBOLS)).to(machine.device).eval()
    nn.init.constant_(network.to_stop.bias, -50.0)  # decode exactly as long as asked
    symbols = torch.randint(1, len(SYMBOLS), (1, 60), device=machine.device)
    lengths = torch.tensor([60], device=machine.device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small operations: threads cost more than they give
    r, rows, per_frame = network.reduction_factor, [], {}
    how = "cached" if hp.transformer.history else "at once"
    prenet = [] if network.decoder_prenet is None else [network.decoder_prenet]
    step_bytes = weight_bytes(network.decoder, network.to_mel, *prenet)
    for frames in (400, 2000):
        limit = torch.tensor([frames], device=machine.device)

        def decode(limit: Tensor = limit) -> Generated:
            return network.generate(symbols, lengths, [0], limit)

        seconds = timed(decode, machine.device)
        per_frame[frames] = seconds / frames
        cache = decode().cache_bytes / 2**20
        note = f"{1e3 * seconds / frames:.2f} ms per frame, cache {cache:.1f} MiB"
        moved = step_bytes * (frames / r if hp.transformer.history else 1)
        name = f"decoding {frames} frames, {how}"
        rows.append(Cost(name, seconds, count_operations(decode), moved, note))
    if not hp.transformer.history:
        torch.set_num_threads(threads)
        return rows
    whole = timed(lambda: recomputed(network, symbols, lengths, 400), machine.device, seconds=0.0)
    torch.set_num_threads(threads)
    flops = count_operations(lambda: recomputed(network, symbols, lengths, 400))
    note = (
        f"cached is {whole / rows[0].seconds:.1f} times faster; 2,000 frames cost "
        f"{per_frame[2000] / per_frame[400]:.2f} of 400 frames, per frame"
    )
    moved = step_bytes * 400 / r
    return [*rows, Cost("decoding 400 frames, recomputed", whole, flops, moved, note)]


def unet_of(hp: Hyperparams, machine: Machine) -> tuple[Denoiser, Tensor, Tensor]:
    """Build a denoiser, a window (1, 2, S) of noise, and its mask: the vocal is unknown."""
    torch.manual_seed(0)
    network = build_unet(hp, len(SYMBOLS)).to(machine.device)
    x = 0.1 * torch.randn(1, 2, hp.window, device=machine.device)
    is_known = torch.zeros_like(x, dtype=torch.bool)
    is_known[:, ACCOMPANIMENT] = True
    return denoiser_of(network, hp), x, is_known


def unet_rows(preset: str, _: Hyperparams, machine: Machine) -> list[Cost]:
    """Time an inpainter: an evaluation of a window, a whole window, a training step of four."""
    hp = config.preset(preset)
    denoiser, x, is_known = unet_of(hp, machine)
    network = denoiser.network
    count = sum(p.numel() for p in network.parameters())
    sigma = torch.full((1,), 0.1, device=machine.device)
    enabled = machine.dtype != torch.float32
    autocast = torch.autocast(machine.device.type, dtype=torch.bfloat16, enabled=enabled)

    def evaluate(denoiser: Denoiser = denoiser) -> Tensor:
        with torch.no_grad(), autocast:
            return denoiser(x, sigma, is_known)

    network.eval()
    window = hp.window / hp.audio.sample_rate
    title = f"U-Net {preset}"
    note = f"{count / 1e6:.1f} M parameters, {window:.2f} s of stereo"
    flops = count_operations(evaluate)
    seconds = timed(evaluate, machine.device)
    rows = [Cost(f"{title}, one evaluation", seconds, flops, weight_bytes(network), note)]
    if machine.compiles:
        quick = denoiser_of(compiled(network, machine), hp)
        seconds = timed(lambda: evaluate(quick), machine.device)
        rows.append(replace(rows[0], name=f"{title}, compiled", seconds=seconds))

    def render() -> Tensor:
        generators = [torch.Generator().manual_seed(0)]
        known = torch.where(is_known, x, 0.0)
        return sample(denoiser, known, is_known, hp.inpainting, generators).x

    if hp.unet.mask_input:  # the default method conditions on a mask
        with torch.no_grad(), autocast:
            made = timed(render, machine.device, seconds=0.0)
        evaluations = hp.inpainting.num_steps
        note = f"{evaluations} evaluations, {made / window:.2f} s per second of audio"
        moved = evaluations * weight_bytes(network)
        rows.append(Cost(f"{title}, one window", made, evaluations * flops, moved, note))
    name = f"{title}, training step of 4"
    return [*rows, *unet_training_rows(name, hp, denoiser, x, is_known, machine)]


def unet_training_rows(
    name: str,
    hp: Hyperparams,
    denoiser: Denoiser,
    x: Tensor,
    is_known: Tensor,
    machine: Machine,
    count: int = 4,
) -> list[Cost]:
    """Time a training step on copies of a window (1, 2, S); on a CPU the note is its memory."""
    batch, known = x.repeat(count, 1, 1), is_known.repeat(count, 1, 1)
    sigma = torch.full((count,), 0.1, device=machine.device)

    def loss(network: nn.Module) -> Tensor:
        whole, noise = denoiser_of(network, hp), torch.randn_like(batch)
        sums, counts = denoising_loss(whole, batch, sigma, noise, known)
        return (sums / counts.clamp_min(1)).mean()

    before = peak_memory(machine.device)
    rows = training_rows(name, denoiser.network, loss, machine)
    if machine.device.type != "cuda":
        rows = [replace(row, note=memory_note(machine.device, before)) for row in rows]
    return rows


def memory_note(device: torch.device, before: float) -> str:
    """Format the peak memory of the process so far, and how much of it a row has added."""
    peak = peak_memory(device)
    return f"peak {peak:.2f} GiB, {peak - before:.2f} more than before"


COSTS: dict[str, Callable[[Hyperparams, Machine], list[Cost]]] = {
    "features": features_row,
    "griffin-lim": griffin_lim_row,
    "transformer step": transformer_step_row,
    "postnet step": postnet_step_row,
    "source step": source_step_row,
    "inpainter step": inpainter_step_row,
    "decoding": decoding_rows,
    "unet legacy": partial(unet_rows, "legacy"),
    "unet small": partial(unet_rows, "small"),
}


def cost_table(rows: Sequence[Cost], machine: Machine) -> str:
    """Lay out the rows, each beside its limit."""
    head = f"{'work':<44}{'GFLOP':>9}{'seconds':>10}{'limit':>10}{'ratio':>7}  note"
    lines = [head, "-" * len(head)]
    for row in rows:
        limit = machine.limit(row.flops, row.bytes_moved)
        lines.append(
            f"{row.name:<44}{row.flops / 1e9:>9.3g}{row.seconds:>10.4g}{limit:>10.3g}"
            f"{row.seconds / limit:>7.1f}  {row.note}"
        )
    return "\n".join(lines)


def measure_costs(arguments: Namespace) -> None:
    """Measure the machine, then the rows of benchmark.py's command line; print the table."""
    rows, preset, precision = arguments.rows, arguments.preset, arguments.precision
    groups = {name: measure for name, measure in COSTS.items() if rows in name}
    if not groups:
        raise ValueError(f"--rows {rows}: expected part of {', '.join(COSTS)}")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    where = start_on(arguments.device)
    machine = measure_machine(where, getattr(torch, precision))
    machine = replace(machine, compiles=arguments.compile)
    print(
        f"{describe_device(where)}, {precision}: matrix products "
        f"{machine.flop_rate / 1e9:.0f} GFLOP/s, copies {machine.byte_rate / 1e9:.1f} GB/s"
        + (f", bfloat16 peak {peak / 1e12:.0f} TFLOP/s" if (peak := machine.bfloat16_rate) else "")
        + f"; preset {preset}"
    )
    torch.manual_seed(0)
    hp = config.preset(preset)
    print(cost_table([row for measure in groups.values() for row in measure(hp, machine)], machine))
