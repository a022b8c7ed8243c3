"""Every knob of the system, in one place: frozen sections, one `Hyperparams` of them, presets.

A line is `name: type = value  # unit, why`. Derived values are properties, cross-checks stand in
`__post_init__`. Scripts read this file; a network receives its own section and the sizes that the
data dictate; a block receives plain integers. Change a value here, or from the shell with
`--set section.name=value` or `--config FILE.yaml` (see utils/config.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


def check_numbers(section: object, least: Mapping[str, float], below: float = math.inf) -> None:
    """Raise ValueError for a knob that is less than its least value, or not below `below`."""
    for name, lowest in least.items():
        value = getattr(section, name)
        if not lowest <= value < below:
            limits = f"{lowest} or more" + (f", below {below}" if below < math.inf else "")
            raise ValueError(f"{name} = {value}: expected {limits}")


@dataclass(frozen=True)
class Data:
    """What the scripts work on when they are called without arguments; flags win."""

    data_path: str = "LJSpeech-1.1"  # folder of the corpus as it was unpacked
    layout: str = "ljspeech"  # ljspeech | stems | songbook | singing: of prepare_data.py
    name: str = "ljspeech"  # of its folder below feature/, which the training scripts read
    run: str = "main"  # folder below save/KIND/ that they write, and synthesis.py reads
    text: str = "the rain is over and the sun comes out again"  # that synthesis.py speaks

    def __post_init__(self) -> None:
        """Raise ValueError for a layout that prepare_data.py does not know."""
        layouts = ("ljspeech", "stems", "songbook", "singing")
        if self.layout not in layouts:
            raise ValueError(f"data.layout = {self.layout!r} is not one of {', '.join(layouts)}")


@dataclass(frozen=True)
class Audio:
    """Waveforms and the spectrograms made of them. Shared by every network and every cache."""

    sample_rate: int = 16000  # Hz; the one place where a rate is written
    n_fft: int = 1024  # samples, 64 ms: resolves the harmonics of a low voice (15.6 Hz per bin)
    win_length: int = 1024  # samples, Hann
    hop_length: int = 256  # samples, 16 ms: the stride of the inpainter's deepest level
    n_mels: int = 80  # Slaney bands from 0 Hz to Nyquist
    log_floor: float = 1e-5  # magnitude below which the natural log is cut (-100 dB)

    def __post_init__(self) -> None:
        if self.n_fft < self.win_length:
            raise ValueError(
                f"audio.n_fft = {self.n_fft} is smaller than audio.win_length = {self.win_length}"
            )
        if self.win_length % self.hop_length:
            raise ValueError(
                f"audio.win_length = {self.win_length} is not a multiple of "
                f"audio.hop_length = {self.hop_length}"
            )

    @property
    def n_linear(self) -> int:
        """Bins of the linear spectrogram, F."""
        return self.n_fft // 2 + 1

    @property
    def frame_rate(self) -> float:
        """Spectrogram frames per second."""
        return self.sample_rate / self.hop_length


@dataclass(frozen=True)
class Transformer:
    """TransformerTTS: phonemes (and notes) → mel, after Li et al. 2018 (1809.08895).

    Their decoder hears the frames before each one; `history` false leaves that out, with all that
    served it: prenet, history noise.
    """

    width: int = 256  # D
    heads: int = 4  # H
    encoder_layers: int = 3  # of self-attention over symbols
    decoder_layers: int = 3  # of self-attention over frames and cross-attention to symbols
    feedforward_multiplier: int = 4  # inner width of the position-wise network, in widths
    concat_attention: bool = True  # project [input; context]: found essential early on
    dropout: float = 0.1  # of position codes, attention output and feed-forward
    encoder_prenet_layers: int = 3  # convolutions over symbols: local context of a phoneme
    encoder_prenet_kernel: int = 5  # symbols
    prenet_width: int = 256  # bottleneck on the previous frames: forces a look at the text
    prenet_dropout: float = 0.5  # kept at inference (seeded), as in Tacotron 2
    reduction_factor: int = 2  # r, mel frames per decoder step: shorter loops, firmer attention
    history: bool = False  # true: a frame hears those before it; false: all are made at once
    postnet_layers: int = 8  # residual refinement of the mel, told of symbol, note and F0
    postnet_width: int = 512  # channels
    postnet_kernel: int = 7  # frames; with a history causal, else ConvNeXt blocks both ways
    num_pitches: int = 128  # MIDI note numbers; 0 = spoken
    voices: int = 0  # singers beside the first, each an embedding; 0 = one voice, and none
    max_symbol_position: int = 8  # a symbol's place in its syllable, clipped here
    contour: bool = True  # frames are told their pitch against the note: vibrato, glides, drift
    prior_width: float = 0.05  # s, w of the score prior exp(-distance²/2w²); 0.12 loses short words
    history_zero_max: float = 1.0  # share of a phrase's history frames zeroed ~ U(0, this)
    history_noise_max: float = 0.4  # noise on the history, in standard deviations ~ U(0, this)
    history_steps: int = 1000  # both grow linearly to these: alignment is learnt from a clean one
    structure_weight: float = 0.5  # of the mel's local contrast beside its L1: less blur
    stop_pos_weight: float = 8.0  # one stop frame against hundreds of others
    guided_layers: int = 2  # last decoder layers with guided heads (1710.08969, section 4.1)
    guided_heads: int = 2  # heads of each of them pulled to the diagonal when there is no score
    guided_sigma: float = 0.2  # relative width g of the diagonal band
    phoneme_times_width: float = 0.05  # s, w for the times of spoken phonemes, shorter than notes
    phoneme_times_dropout: float = 0.0  # share of items without the times of their phonemes
    onset_weight: float = 0.1  # per frame that a sung phoneme is expected too early or late
    guided_weight: float = 4.0  # λ at step 0
    guided_floor: float = 0.5  # λ never falls below this
    free_running_phrases: int = 16  # validation phrases sung freely: `best` means best by them
    guided_steps: int = 5000  # λ falls linearly to 0 here

    def __post_init__(self) -> None:
        sizes = "width", "heads", "reduction_factor", "prenet_width", "postnet_kernel"
        steps = "guided_steps", "free_running_phrases", "encoder_prenet_kernel"
        check_numbers(self, dict.fromkeys((*sizes, *steps), 1))
        check_numbers(self, dict.fromkeys(("dropout", "prenet_dropout"), 0), below=1)
        if self.width % self.heads:
            raise ValueError(
                f"transformer.width = {self.width} is not a multiple of "
                f"transformer.heads = {self.heads}"
            )
        check_numbers(self, {"voices": 0})
        if self.guided_heads > self.heads or self.guided_layers > self.decoder_layers:
            raise ValueError(
                f"transformer.guided_heads = {self.guided_heads} of {self.heads} heads and "
                f"transformer.guided_layers = {self.guided_layers} of {self.decoder_layers} "
                "layers: more guided than there are"
            )


@dataclass(frozen=True)
class Postnet:
    """PostNet: the CBHG of Tacotron (Wang et al. 2017, 1703.10135), mel → linear magnitude.

    Or, by `kind`, a source-filter network, mel and F0 → waveform.
    """

    kind: str = "cbhg"  # cbhg | source: learnt from a corpus of stems
    width: int = 256  # channels of the bank, the highways and the output of the projections
    bank_kernels: int = 16  # K: kernels 1..K side by side on the same input
    highway_layers: int = 4  # gated layers between the bank and the GRU
    gru_width: int = 128  # per direction
    dropout: float = 0.1  # of the projection behind the bank
    source_blocks: int = 8  # of the source-filter network, which has `width` channels
    source_inner: int = 1024  # inner width of a block
    source_subframes: int = 4  # its noise filters in a frame, 16 ms long, 4 ms apart: plosives
    source_degraded: float = 0.5  # share of its training mels that are blurred as drafts are
    adversarial_weight: float = 0.0  # of its discriminators beside the STFT loss; 0 = none
    feature_weight: float = 0.0  # of the distance of the discriminators' features
    adversarial_steps: int = 300  # both grow linearly to these: untrained discriminators say little
    adversarial_channels: int = 16  # of the discriminators' convolutions

    def __post_init__(self) -> None:
        if self.kind not in ("cbhg", "source"):
            raise ValueError(f"postnet.kind = {self.kind!r} is not one of cbhg, source")
        if self.kind == "cbhg" and (self.adversarial_weight or self.feature_weight):
            raise ValueError(
                "postnet.adversarial_weight and postnet.feature_weight are of discriminators of "
                "waveforms, which a PostNet of kind cbhg does not make: 0 for it, or kind source"
            )


@dataclass(frozen=True)
class Synthesis:
    """What may be changed when a trained network is used: nothing here touches a weight."""

    stop_threshold: float = 0.5  # probability at which the stop head ends an item
    max_seconds_per_symbol: float = 0.35  # s; the longest rendering scales with the text
    min_seconds_per_symbol: float = 0.03  # s; a stop before this is not believed
    predict_durations: bool = True  # speech follows predicted times; false: attention alone
    griffin_lim_iterations: int = 32  # fast Griffin-Lim; 16 already equal 60 plain iterations
    griffin_lim_momentum: float = 0.99  # Perraudin et al. 2013
    spectral_contrast: float = 1.7  # of harmonics against the valleys between them; 1 = as they are
    contrast_bins: int = 24  # bins either way, 375 Hz: the envelope that the contrast leaves alone
    sharpening: float = 0.0  # of the mel along time, for one that regression has smoothed
    presence: float = 0.1  # standard deviations that what is sung gains above 3 kHz, of a mel
    sharpening_frames: float = 2.0  # frames (std), changes slower than this are left as they are
    glide_seconds: float = 0.085  # s from note to note, of the F0 that a source PostNet sings
    vibrato_cents: float = 15.0  # depth of its vibrato, from the mean
    vibrato_rate: float = 5.6  # Hz
    vibrato_delay: float = 0.3  # s into a note until it starts
    dynamics: float = 1.0  # of velocities: 40 · this · log10(velocity / median) dB; 0 = all alike
    phrase_dynamics: float = 0.0  # dB by which every phrase swells to its middle; 0 = level
    breath_seconds: float = 0.0  # s of a breath before phrases where a rest has room; 0 = none
    breath_level: float = -14.0  # dB of it against the voice
    drift_cents: float = 4.0  # of its slow random deviation (std): no held note is a straight line
    restored_sharpening: float = 0.3  # of restored mels: without noise they are as smooth
    restore: bool = False  # words by the inpainter on mels, unasked: not yet understood better
    vocalise: str = "la"  # syllable of vocals without words; none: the inpainter on mels chooses
    level: float = -23.0  # dBFS RMS over voiced samples: free-running level drifts upward


@dataclass(frozen=True)
class UNet:
    """The 1-d U-Net of the inpainter: levels, and a front end for each kind of signal."""

    signal_channels: int = 2  # vocal, accompaniment
    mask_input: bool = True  # a channel more per signal channel: 1 = known
    draft_input: bool = True  # two channels more: the draft, and 1 = there is one
    channels: int = 256  # C before the levels
    noise_width: int = 32  # a quarter of the noise level's embedding; 0 = channels
    mel: int = 0  # bands; the signal is a mel spectrogram of so many, frame by frame; 0 = audio
    mel_blocks: int = 3  # residual blocks at one position per frame, before and after the levels
    harmonics: bool = False  # tell an inpainter on mels the mel of the harmonics of its notes
    mdct: int = 512  # samples; hop of the MDCT that the network works on; 0 = patches of samples
    mdct_blocks: int = 2  # residual blocks at its resolution, before and after the levels
    mdct_width: int = 32  # channels of the convolutions over time and frequency behind them
    mdct_dilations: tuple[int, ...] = (2, 4, 2)  # of the residual ones among them
    noise_exponent: float = 0.55  # of a draft's power: the vocal's noise follows it; 0 = white
    noise_gain: float = 2.0  # power of that noise where draft and noise are as loud as sigma_data
    noise_floor: float = 5e-5  # its least: 43 dB under white noise; all three fitted to true vocals
    multipliers: tuple[int, ...] = (1, 1, 2)  # widths of the levels, in channels
    factors: tuple[int, ...] = (4, 2)  # strides of the levels
    num_blocks: tuple[int, ...] = (2, 2)  # residual blocks per level
    attentions: tuple[bool, ...] = (True, True)  # a position of the first level is 128 ms
    bottleneck_attention: bool = True  # below the deepest level, where it costs least
    attention_heads: int = 8  # H, at every level that attends
    attention_head_width: int = 64  # channels of a head, whatever the level's width
    attention_multiplier: int = 2  # inner width of the position-wise network, in widths
    groups: int = 8  # of every group normalisation below the patches
    downsample_kernel_multiplier: int = 2  # kernel of a strided convolution = this * factor + 1
    context_width: int = 256  # of the per-frame context; 0 = the network takes none
    patch_blocks: int = 4  # legacy: each turns patch_factor neighbouring samples into channels
    patch_factor: int = 2  # legacy: samples per step of patching
    output_kernel: int = 7  # legacy: samples of a last convolution, zero at the start; 0 = none

    def __post_init__(self) -> None:
        levels = len(self.factors)
        expectations = {"multipliers": levels + 1, "num_blocks": levels, "attentions": levels}
        for name, expected in expectations.items():
            if len(getattr(self, name)) != expected:
                raise ValueError(
                    f"unet.{name} has {len(getattr(self, name))} entries, but {levels} factors "
                    f"need {expected}"
                )
        if self.output_kernel and self.output_kernel % 2 == 0:
            raise ValueError(f"unet.output_kernel = {self.output_kernel} is even: it must be odd")
        if self.noise_exponent and not (self.mdct and self.draft_input):
            raise ValueError(
                f"unet.noise_exponent = {self.noise_exponent} shapes the noise as a draft is on "
                "an MDCT: it needs unet.mdct and unet.draft_input, or 0"
            )
        if self.harmonics and not (self.mel and self.context_width and self.draft_input):
            raise ValueError(
                "unet.harmonics tells an inpainter on mels the harmonics of its notes: it needs "
                "unet.mel, unet.context_width and unet.draft_input, or false"
            )
        if self.mel and self.noise_exponent:
            raise ValueError(
                "unet.noise_exponent shapes the noise of audio: 0 where unet.mel is set"
            )
        if any(self.channels * m % self.groups for m in self.multipliers):
            raise ValueError(
                f"unet.groups = {self.groups} does not divide every width of the levels: "
                f"{[self.channels * m for m in self.multipliers]}"
            )

    @property
    def first_stride(self) -> int:
        """Samples per position before the levels."""
        return self.mel or self.mdct or self.patch_factor**self.patch_blocks

    @property
    def strides(self) -> tuple[int, ...]:
        """Samples per position of each level, the first after the patches and one convolution."""
        first = self.first_stride
        return tuple(first * math.prod(self.factors[: i + 1]) for i in range(len(self.factors)))

    @property
    def stride(self) -> int:
        """Samples per position of the deepest level: windows are padded to its multiples."""
        return self.strides[-1]

    def level_of_stride(self, stride: int) -> int:
        """The level at which one position is `stride` samples.

        -1 is what comes before the levels, where a position may also be several strides.
        """
        if self.first_stride % stride == 0:
            return -1
        if stride not in self.strides:
            raise ValueError(
                f"no level of the U-Net has stride {stride}, where the context enters: they have "
                f"{list(self.strides)}; change unet.factors or unet.patch_blocks"
            )
        return self.strides.index(stride)


@dataclass(frozen=True)
class Diffusion:
    """Noise levels, masks and impairments that the inpainter trains on."""

    sigma_data: float = 0.1  # RMS of the audio
    p_mean: float = -1.2  # ln σ ~ N(p_mean, p_std): levels where a draft is all there is to go by
    p_std: float = 1.8  # of ln σ: nine draws in ten lie within a factor 20 of the median
    stratified: bool = True  # one σ from each of B equally likely slices: a steadier loss
    loss_bins: int = 5  # equally likely bins of σ in which the loss is logged
    mask_vocal: float = 0.45  # weight of: accompaniment known, vocal not
    mask_prefix: float = 0.25  # and the vocal's beginning known, as in sliding windows
    mask_gaps: float = 0.10  # all known but 1-3 stretches of the vocal
    mask_accompaniment: float = 0.10  # vocal known, accompaniment not
    mask_nothing: float = 0.10  # the joint model, for replacement, repaint, mcg and guided
    prefix_min: float = 0.05  # share of the window
    prefix_max: float = 0.75  # share of the window
    gap_min: float = 0.05  # share of the window
    gap_max: float = 0.50  # share of the window
    corrupt_probability: float = 0.5  # of impairing the known vocal of a prefix or gap mask
    corrupt_sigma: float = 0.01  # noise on it at most: 20 dB under sigma_data
    corrupt_gain: float = 1.0  # dB either way at most
    dropout: float = 0.15  # of each part of the context: the null of classifier-free guidance
    draft_dropout: float = 0.4  # of a draft, and all else with it: singing without one is harder
    words_dropout: float = 0.0  # of all but the notes together, where mels are the signal
    alone_share: float = 0.0  # of a batch, where mels are the signal: the accompaniment and no more
    alone_tempo: float = 0.15  # its stems are faster or slower by a factor of e to this at most,
    alone_pitch: float = 2.0  # and higher or lower by so many semitones at most, both alike
    alone_level: float = 0.15  # standard deviations (std) of its level, and of its tilt over bands
    alone_noise: float = 0.15  # standard deviations at most, on it as it is given
    degrade_blur_frames: float = 2.0  # frames (std) at most: frame differences fall to 0.70
    degrade_blur_bands: float = 1.0  # bands (std) at most
    degrade_level: float = 0.3  # standard deviations at most: drafts are sung too loud
    degrade_noise: float = 0.1  # standard deviations at most
    degrade_drop: float = 0.06  # share of frames repeated, and of bands lost, at most
    draft_huber: float = 1.0  # errors above it count in proportion where a draft tells; 0 = squared
    draft_spectral: float = 1.0  # weight of the error of log spectra where a draft is all there is
    draft_iterations: int = 4  # of Griffin-Lim on the degraded mel, begun near the true phases
    draft_phase: float = 0.3  # rad (std), at most, by which they are off
    draft_gain: float = 3.0  # dB either way at most, of the draft against the vocal

    def __post_init__(self) -> None:
        if not 0 <= self.alone_share <= 1:
            raise ValueError(
                f"diffusion.alone_share = {self.alone_share}: expected a share of the batch"
            )
        weights = ("vocal", "prefix", "gaps", "accompaniment", "nothing")
        values = [getattr(self, f"mask_{name}") for name in weights]
        if min(values) < 0 or sum(values) <= 0:
            raise ValueError(f"diffusion.mask_* = {values}: expected weights >= 0, one above 0")
        for name in ("prefix", "gap"):
            low, high = getattr(self, f"{name}_min"), getattr(self, f"{name}_max")
            if not 0 <= low <= high <= 1:
                raise ValueError(
                    f"diffusion.{name}_min = {low}, diffusion.{name}_max = {high}: "
                    "expected shares, 0 <= min <= max <= 1"
                )


@dataclass(frozen=True)
class Inpainting:
    """How a trained inpainter is sampled: nothing here touches a weight."""

    method: str = "conditional"  # conditional | replacement | repaint | mcg | guided
    step: str = "dpmpp_2m_sde"  # euler | heun | dpm2_ancestral | dpmpp_2m | dpmpp_2m_sde
    num_steps: int = 20  # one network evaluation each with the dpmpp steps
    draft_steps: int = 1  # the same with a draft, where more add foreign sounds; 0 = num_steps
    draft_share: float = 0.9  # of the draft's own waveform in a vocal that it was told for
    sigma_min: float = 5e-2  # half of sigma_data; what is left there one evaluation removes
    sigma_max: float = 3.0  # 30 sigma_data: next to nothing of the signal is left
    rho: float = 7.0  # bends the levels towards small sigmas (2206.00364, eq. 5)
    num_resamples: int = 5  # repaint: passes over each step
    reconstruction_weight: float = 1.0  # mcg, guided: 1 = the posterior's own scale
    accompaniment_guidance: float = 1.0  # classifier-free; 1 = none, at no cost
    lyrics_guidance: float = 1.0  # classifier-free; 1 = none, at no cost
    strength: float = 1.0  # share of the schedule that a draft is taken through; 1 = from noise
    draft_start: float = 0.0  # σ of the noise on a draft that the walk begins at; 0 = from noise
    draft_temperature: float = 1.0  # of the noise of such a walk; 0 = none, the least is lost
    temperature: float = 1.0  # of the noise of any other; below 1 nearer to the mean
    dynamic_threshold: float = 0.0  # quantile (2205.11487), 0 = off
    overlap: int = 20480  # samples that neighbouring windows share, 1.28 s
    fade: int = 1024  # samples at the end of the overlap that both generate and cross-fade
    batch_size: int = 4  # independent windows rendered together; 1 on a CPU, where that is faster

    def __post_init__(self) -> None:
        if not 0 <= self.draft_share <= 1:
            raise ValueError(
                f"inpainting.draft_share = {self.draft_share}: expected a share in [0, 1]"
            )
        check_numbers(self, dict.fromkeys(("draft_start", "draft_temperature", "temperature"), 0))


@dataclass(frozen=True)
class Mixing:
    """How a new vocal is put over its accompaniment; each of the last three is off at 0."""

    balance: float = 3.0  # LU of the vocal over the accompaniment while it sings
    dip: float = 4.0  # dB at most that the accompaniment gives way, 1-4 kHz, under the voice
    presence: float = 2.0  # dB of the voice above 2.5 kHz
    room: float = 0.1  # level of a small room around the voice against the voice: -20 dB

    def __post_init__(self) -> None:
        wrong = {name: v for name, v in vars(self).items() if name != "balance" and v < 0}
        if wrong:
            listed = ", ".join(f"mixing.{name} = {value}" for name, value in wrong.items())
            raise ValueError(f"{listed}: expected 0 (off) or more")


@dataclass(frozen=True)
class Composer:
    """A melody for lyrics on an accompaniment's harmony (composer/compose.py)."""

    low: int = 53  # MIDI, F3: lowest note of the voice
    high: int = 72  # MIDI, C5: highest note
    density: float = 0.0  # syllables per beat; 0 = what the tempo makes of syllable_rate
    syllable_rate: float = 1.7  # syllables per second: an easy pace to sing and to follow
    fill: str = "repeat"  # repeat | spread | rest: what a song longer than the lyrics gets
    breath: float = 0.35  # s of rest between lines at least
    shortest: float = 0.14  # s a syllable lasts at least: seven a second is a fast singer
    max_leap: int = 9  # semitones between notes of a phrase at most, a major sixth
    temperature: float = 0.8  # 1 = as varied as the songs counted, towards 0 = the likeliest
    interval_weight: float = 1.0  # exponents of the experts: melodic intervals,
    chord_weight: float = 2.5  # tones of the chord on strong places and held notes,
    passing_weight: float = 0.5  # and elsewhere, where notes pass by,
    degree_weight: float = 0.5  # degrees of the key (says in part what the chord says),
    cadence_weight: float = 1.0  # degrees that end phrases,
    stress_weight: float = 1.0  # word stress on strong places
    repeat_bias: float = -1.2  # log units for a repeated pitch: chords favour it as well
    repetition: float = 1.5  # log units for each onset and pitch kept when a line takes up another


@dataclass(frozen=True)
class Transcriber:
    """The network that judges a rendering: singing → phonemes and notes (2304.05917)."""

    hop_length: int = 320  # samples, 20 ms: the resolution of a note's onset
    win_length: int = 512  # samples, Hann, of the mel that notes are heard in
    n_mels: int = 80  # Slaney bands between fmin and fmax
    fmin: float = 30.0  # Hz, below any voice
    fmax: float = 8000.0  # Hz, Nyquist
    width: int = 256  # D of its stacks and LSTMs, a multiple of 16
    phoneme_win_length: int = 512  # samples, of the phoneme recogniser's own mel
    phoneme_n_mels: int = 80  # its bands
    phoneme_fmin: float = 30.0  # Hz, of its bands
    phoneme_fmax: float = 8000.0  # Hz, of its bands
    phoneme_width: int = 256  # a multiple of 16
    num_phonemes: int = 39  # classes; the last is silence
    onset_threshold: float = 0.3  # probability at which a peak begins a note
    offset_threshold: float = 0.3  # and ends one
    activation_threshold: float = 0.5  # probability below which nothing is sung
    pitch_summary: str = "weighted_median"  # of the F0 in a note; or median, weighted_mean
    chunk_seconds: float = 20.0  # s of a recording heard at once: any length in flat memory
    margin_seconds: float = 2.0  # s heard before and after each chunk, as context
    note_width: float = 0.05  # s, targets of onsets and offsets fall linearly to 0 over this
    note_pos_weight: float = 3.0  # an onset's or offset's frame against the many without
    note_weight: float = 1.0  # of the three note losses, against the phonemes' cross-entropy
    speech_share: float = 0.25  # of a batch's windows that are speech, where a corpus is given
    gain_max: float = 15.0  # dB either way, of every training window
    shift_probability: float = 0.5  # of playing a window faster and higher, or slower and lower
    shift_max: float = 1.5  # semitones either way; vowels move along: 9 % is between two singers
    reverb_probability: float = 0.3  # of a room around the vocal
    reverb_min: float = 0.1  # s until the room's sound has fallen by 60 dB, at least
    reverb_max: float = 1.2  # s, at most
    reverb_level: float = -4.0  # dB of the room against the vocal at most, 20 dB less at least
    mix_probability: float = 0.4  # of hearing the accompaniment too
    mix_min: float = -3.0  # dB of the vocal over the accompaniment, at least
    mix_max: float = 20.0  # dB, at most
    noise_probability: float = 0.3  # of white noise
    noise_min: float = 10.0  # dB of the signal over the noise, at least
    noise_max: float = 45.0  # dB, at most

    def __post_init__(self) -> None:
        for name in ("width", "phoneme_width"):
            if getattr(self, name) % 16:
                raise ValueError(
                    f"transcriber.{name} = {getattr(self, name)} is not a multiple of 16"
                )
        for name in ("shift", "reverb", "mix", "noise"):
            probability = getattr(self, f"{name}_probability")
            if not 0 <= probability <= 1:
                raise ValueError(f"transcriber.{name}_probability = {probability}: expected 0 to 1")
        if self.chunk_seconds <= 0 or self.margin_seconds < 0:
            raise ValueError(
                f"transcriber.chunk_seconds = {self.chunk_seconds}, transcriber.margin_seconds = "
                f"{self.margin_seconds}: expected above 0, and not below 0"
            )
        summaries = ("weighted_median", "median", "weighted_mean")
        if self.pitch_summary not in summaries:
            raise ValueError(
                f"transcriber.pitch_summary = {self.pitch_summary!r} is not one of "
                f"{', '.join(summaries)}"
            )


@dataclass(frozen=True)
class Training:
    """One training run. Each network has its own copy, named after it."""

    steps: int = 100_000  # of the whole run
    seed: int = 0  # with the step, the origin of all randomness of a run
    batch_frames: int = 12_000  # mel frames a batch may hold, padding included
    batch_size: int = 32  # items a batch may hold
    segment_frames: int = 0  # random fixed-length crops; 0 = whole items
    batch_workers: int = -1  # processes that make batches; 0 = a thread of this one; -1 = by device
    corpus_on_device: bool = False  # spectrograms stay in a GPU's memory, batches are cut there
    learning_rate: float = 1e-3  # peak
    schedule: str = "noam"  # noam | cosine | constant, each after the warm-up
    warmup_steps: int = 4000  # steps to the peak of the learning rate
    weight_decay: float = 0.0  # of matrices; biases, norms and embeddings never decay
    adam_beta1: float = 0.9  # memory of the gradient: 10 steps
    adam_beta2: float = 0.98  # memory of its square: 50 steps, short as in 1706.03762
    adam_epsilon: float = 1e-9  # as in 1706.03762
    clip_norm: float = 1.0  # gradient norm
    ema_decay: float = 0.0  # 0 = no moving average of the weights
    accumulate: int = 1  # batches per optimiser step
    precision: str = "auto"  # auto (the faster here) | float32 (on GPUs TF32) | bfloat16 (autocast)
    compile: bool = False  # torch.compile: minutes at the start, faster steps on a GPU
    log_every: int = 50  # steps
    validate_every: int = 1000  # steps; previews too
    save_every: int = 1000  # steps; `last`
    keep: int = 3  # last validated steps that stay as numbered checkpoints, weights only
    keep_every: int = 0  # steps; numbered checkpoints that stay for good; 0 = none
    validate_batches: int = 8  # spread over the validation split

    def __post_init__(self) -> None:
        allowed = {
            "schedule": ("noam", "cosine", "constant"),
            "precision": ("auto", "float32", "bfloat16"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ValueError(
                    f"{name} = {getattr(self, name)!r} is not one of {', '.join(values)}"
                )
        check_numbers(
            self, {"accumulate": 1, "batch_frames": 1, "batch_size": 1, "batch_workers": -1}
        )
        counts = "steps", "segment_frames", "warmup_steps", "log_every", "validate_every", "keep"
        check_numbers(self, dict.fromkeys((*counts, "save_every", "keep_every"), 0))
        check_numbers(self, dict.fromkeys(("validate_batches", "learning_rate", "clip_norm"), 0))
        check_numbers(self, dict.fromkeys(("weight_decay", "adam_epsilon"), 0))
        check_numbers(self, dict.fromkeys(("adam_beta1", "adam_beta2", "ema_decay"), 0), below=1)
        if self.corpus_on_device and self.batch_workers > 0:
            raise ValueError(
                f"corpus_on_device with batch_workers = {self.batch_workers}: other processes "
                "would need a corpus each; choose one of the two"
            )


@dataclass(frozen=True)
class Hyperparams:
    """All sections. `--set` addresses a knob as `section.name`, the section named as here."""

    data: Data = field(default_factory=Data)
    audio: Audio = field(default_factory=Audio)
    transformer: Transformer = field(default_factory=Transformer)
    postnet: Postnet = field(default_factory=Postnet)
    synthesis: Synthesis = field(default_factory=Synthesis)
    unet: UNet = field(default_factory=UNet)
    transcriber: Transcriber = field(default_factory=Transcriber)
    diffusion: Diffusion = field(default_factory=Diffusion)
    inpainting: Inpainting = field(default_factory=Inpainting)
    mel_inpainting: Inpainting = field(
        default_factory=lambda: Inpainting(
            draft_steps=8,  # from the transformer's mel
            draft_share=0.0,
            draft_start=0.2,  # in standard deviations of a mel
            draft_temperature=0.0,  # noise costs words
            temperature=0.9,  # without a draft: as lively as the songs, with nearly their rests
            step="dpmpp_2m",  # fresh noise is not yet learnt well enough
            sigma_max=20.0,  # standardised mels: sigma_data is 1
            fade=0,  # log mels have no power to cross-fade
        )
    )
    composer: Composer = field(default_factory=Composer)
    mixing: Mixing = field(default_factory=Mixing)
    transformer_training: Training = field(
        default_factory=lambda: Training(schedule="cosine", ema_decay=0.999)
    )
    postnet_training: Training = field(
        default_factory=lambda: Training(
            segment_frames=200,
            schedule="cosine",
            warmup_steps=500,
            steps=50_000,
            precision="float32",  # bfloat16 was not tried
        )
    )
    inpainter_training: Training = field(
        default_factory=lambda: Training(
            segment_frames=320,  # the window: 5.12 s, a phrase with its chord change
            batch_size=16,
            learning_rate=3e-4,
            schedule="cosine",
            warmup_steps=1000,
            adam_beta2=0.99,
            adam_epsilon=1e-8,
            ema_decay=0.9995,
            steps=300_000,
            validate_every=2000,
            validate_batches=2,
        )
    )

    transcriber_training: Training = field(
        default_factory=lambda: Training(
            segment_frames=250,  # of the transcriber, 5 s: some words with their rests
            batch_size=16,
            schedule="cosine",
            warmup_steps=500,
            adam_beta2=0.99,
            adam_epsilon=1e-8,
            weight_decay=0.01,
            ema_decay=0.999,
            steps=40_000,
            validate_every=2000,
            validate_batches=22,  # songs
            precision="float32",  # bfloat16 was not tried
        )
    )

    def __post_init__(self) -> None:
        if self.transcriber_training.segment_frames < 1:
            raise ValueError(
                f"transcriber_training.segment_frames = {self.transcriber_training.segment_frames}:"
                " expected the frames of a window"
            )
        if self.unet.context_width:
            self.unet.level_of_stride(self.signal_hop)
        if self.unet.mel not in (0, self.audio.n_mels):
            raise ValueError(
                f"unet.mel = {self.unet.mel}: expected audio.n_mels = {self.audio.n_mels}, or 0 "
                "for an inpainter of audio"
            )
        if self.inpainter_training.segment_frames < 1:
            raise ValueError(
                f"inpainter_training.segment_frames = {self.inpainter_training.segment_frames}: "
                "expected the frames of a window"
            )
        if self.diffusion.alone_share and not (
            self.unet.mel and self.inpainter_training.corpus_on_device
        ):
            raise ValueError(
                f"diffusion.alone_share = {self.diffusion.alone_share} moves mels of songs that "
                "stay in memory: it needs unet.mel and inpainter_training.corpus_on_device=true, "
                "or 0"
            )
        without = {"transcriber": self.transcriber_training}
        if not self.unet.mel:
            without["inpainter"] = self.inpainter_training
        if self.postnet.kind == "source":
            without["postnet"] = self.postnet_training
            parts, audio = self.postnet.source_subframes, self.audio
            if parts < 1 or audio.n_fft % (2 * parts) or audio.hop_length % parts:
                raise ValueError(
                    f"postnet.source_subframes = {parts}: expected a number that divides half of "
                    f"audio.n_fft = {audio.n_fft} and audio.hop_length = {audio.hop_length}"
                )
        for name, training in without.items():
            if training.corpus_on_device:
                raise ValueError(
                    f"{name}_training.corpus_on_device: only transformer, PostNet (kind cbhg) and "
                    "the inpainter on mels learn from spectrograms that can stay there"
                )

    @property
    def sampling(self) -> Inpainting:
        """How the inpainter of these hyperparameters is sampled: that of mels, or of audio."""
        return self.mel_inpainting if self.unet.mel else self.inpainting

    @property
    def signal_hop(self) -> int:
        """Elements of the inpainter's signal per frame: samples of audio, or bands of a mel."""
        return self.unet.mel or self.audio.hop_length

    @property
    def window(self) -> int:
        """Samples of audio that the inpainter sees at once, a multiple of the hop."""
        return self.inpainter_training.segment_frames * self.audio.hop_length


# Knobs of older versions, as checkpoints store them: utils/config.py translates.
RENAMED = {  # section.name: today's section.name
    "transformer.said_width": "transformer.phoneme_times_width",
    "transformer.said_dropout": "transformer.phoneme_times_dropout",
}
SUPERSEDED = {  # section.name of a sampling value: what does its work, whatever the value was
    "synthesis.magnitude_power": "synthesis.spectral_contrast",
    "inpainting.balance": "mixing.balance",
}
REMOVED: dict[str, object] = {  # section.name: the value at which it did nothing
    "transformer.stretch_max": 0.0,
    "synthesis.monotonic_window": 0,
    "inpainting.schedule": "karras",
    "inpainting.order": "sequential",
}

ADDED: dict[str, object] = {  # section.name: what checkpoints from before it did
    "transformer.history": True,
    "transformer.contour": False,
    "unet.harmonics": False,
    "postnet.source_subframes": 1,
}

_MEL: tuple[str, ...] = (
    "unet.mel=80",
    "unet.mdct=0",
    "unet.noise_exponent=0",
    "unet.channels=192",
    "unet.mel_blocks=2",
    "unet.harmonics=true",
    "unet.noise_width=24",
    "unet.multipliers=1,1,1",
    "unet.factors=2,2",
    "unet.num_blocks=1,1",
    "unet.attentions=false,true",  # a position of the second level is 64 ms
    "unet.attention_heads=4",
    "unet.context_width=128",
    "diffusion.sigma_data=1",  # standardised mels
    "diffusion.p_mean=0.3",  # without words what is sung is decided in much noise
    "diffusion.p_std=1.5",
    "diffusion.mask_vocal=0.55",
    "diffusion.mask_prefix=0.2",
    "diffusion.mask_gaps=0.15",
    "diffusion.mask_accompaniment=0.05",
    "diffusion.mask_nothing=0.05",
    "diffusion.corrupt_sigma=0.1",
    "diffusion.corrupt_gain=0",  # a gain is no factor of a log mel
    "diffusion.draft_dropout=0.3",  # there phonemes and notes alone must do, or nothing
    "diffusion.words_dropout=0.1",  # and there notes alone
    "diffusion.alone_share=0.25",  # else the accompaniment is hardly listened to
    "diffusion.draft_huber=0",
    "diffusion.draft_spectral=0",
    "inpainter_training.segment_frames=512",  # 8.19 s
    "inpainter_training.corpus_on_device=true",  # an hour of songs with drafts takes 144 MB
    "inpainter_training.steps=20000",
    "inpainter_training.batch_size=8",
    "inpainter_training.learning_rate=6e-4",
    "inpainter_training.warmup_steps=200",
    "inpainter_training.precision=bfloat16",
    "inpainter_training.ema_decay=0.999",
    "inpainter_training.validate_every=500",
    "inpainter_training.save_every=200",
    "inpainter_training.validate_batches=4",
)

_SMALL: tuple[str, ...] = (
    "transformer.width=192",
    "transformer.encoder_layers=2",
    "transformer.prenet_width=128",
    "transformer.postnet_layers=7",
    "transformer.postnet_width=384",
    "transformer.reduction_factor=3",
    "transformer.dropout=0",  # hours of two CPU cores underfit: training and validation are alike
    "postnet.width=128",
    "postnet.bank_kernels=8",
    "postnet.gru_width=96",
    "unet.noise_width=24",  # 9.9 M parameters: under 20 MB in half precision
    "unet.multipliers=1,1",
    "unet.factors=4",
    "unet.num_blocks=1",
    "unet.attentions=true",
    "unet.attention_heads=4",
    "unet.context_width=128",
    "transcriber.width=128",
    "transcriber.phoneme_width=192",
    "transformer_training.steps=12000",
    "transformer_training.warmup_steps=500",
    "transformer_training.validate_every=500",
    "transformer_training.save_every=250",
    "transformer_training.batch_frames=4000",
    "postnet_training.steps=6000",
    "postnet_training.batch_size=16",
    "postnet_training.segment_frames=128",
    "inpainter_training.steps=6000",
    "inpainter_training.batch_size=4",
    "inpainter_training.learning_rate=6e-4",
    "inpainter_training.warmup_steps=200",
    "inpainter_training.ema_decay=0.999",
    "inpainter_training.validate_every=900",
    "inpainter_training.save_every=200",
    "inpainter_training.validate_batches=6",
    "transcriber_training.steps=5000",
    "transcriber_training.batch_size=8",
    "transcriber_training.learning_rate=2e-3",
    "transcriber_training.warmup_steps=200",
    "transcriber_training.ema_decay=0.998",
    "transcriber_training.validate_every=500",
    "transcriber_training.save_every=250",
    "transcriber_training.validate_batches=8",
)

# Differences from the defaults above, in the notation of --set; utils/config.py reads them.
PRESETS: dict[str, tuple[str, ...]] = {
    "base": (),  # the best configuration known, at the size of one GPU
    "small": _SMALL,  # the weights that ship: hours of song and speech, two CPU cores
    "mel": _MEL,  # the inpainter of mels on two CPU cores, 5 M parameters
    "mel-base": (  # the same at the size of one GPU, 32 M parameters
        *_MEL,
        "unet.channels=512",
        "unet.mel_blocks=3",
        "unet.context_width=256",
        "inpainter_training.batch_size=32",
        "inpainter_training.learning_rate=3e-4",
        "inpainter_training.ema_decay=0.9995",
        "inpainter_training.steps=200000",
        "inpainter_training.warmup_steps=1000",
        "inpainter_training.validate_every=2000",
        "inpainter_training.save_every=1000",
    ),
    "source": (  # a PostNet with a source for the small voice: 3.7 M parameters, an hour of CPU
        "postnet.kind=source",
        "postnet.width=192",
        "postnet_training.steps=14000",
        "postnet_training.batch_size=8",
        "postnet_training.segment_frames=48",
        "postnet_training.learning_rate=1e-3",
        "postnet_training.warmup_steps=50",
        "postnet_training.adam_beta1=0.8",
        "postnet_training.adam_beta2=0.99",
        "postnet_training.adam_epsilon=1e-8",
        "postnet_training.ema_decay=0.998",
        "postnet_training.validate_every=500",
        "postnet_training.save_every=250",
    ),
    "finetune": (  # ten minutes of another singer on the weights that ship: docs/your_voice.md
        *_SMALL,
        "transformer.history_steps=0",  # the weights know how to do without a clean history
        "transformer.guided_weight=0.5",
        "transformer_training.steps=700",
        "transformer_training.learning_rate=4e-4",
        "transformer_training.warmup_steps=50",
        "transformer_training.ema_decay=0.99",
        "transformer_training.validate_every=350",
        "postnet_training.steps=500",
        "postnet_training.learning_rate=3e-4",
        "postnet_training.warmup_steps=50",
        "postnet_training.validate_every=250",
        "postnet_training.save_every=250",
        "inpainter_training.steps=600",
        "inpainter_training.learning_rate=2e-4",
        "inpainter_training.warmup_steps=50",
        "inpainter_training.ema_decay=0.995",
        "inpainter_training.validate_every=200",
    ),
    "legacy": (  # the earlier project's inpainter, all 101,575,520 parameters: legacy/weights.py
        "unet.mask_input=false",
        "unet.draft_input=false",
        "unet.channels=128",
        "unet.noise_width=0",
        "unet.mdct=0",
        "unet.noise_exponent=0",
        "unet.multipliers=1,2,4,4,4,4,4",
        "unet.factors=4,4,4,2,2,2",
        "unet.num_blocks=2,2,2,2,2,2",
        "unet.attentions=false,false,false,true,true,true",
        "unet.context_width=0",
        "unet.output_kernel=0",
        "inpainter_training.learning_rate=1e-4",
        "diffusion.p_mean=-3",
        "diffusion.p_std=1",
        "diffusion.mask_vocal=0",  # it sees no mask: trained as the joint model,
        "diffusion.mask_prefix=0",
        "diffusion.mask_gaps=0",
        "diffusion.mask_accompaniment=0",
        "diffusion.mask_nothing=1",  # with its known samples imposed in sampling
        "diffusion.draft_dropout=0.15",
        "diffusion.draft_huber=0",
        "diffusion.draft_spectral=0",
        "inpainting.method=repaint",
        "inpainting.step=dpm2_ancestral",
        "inpainting.num_steps=40",
        "inpainting.draft_steps=0",
        "inpainting.draft_share=0",
        "inpainting.sigma_min=1e-4",
        "inpainting.rho=9",
        "inpainting.dynamic_threshold=0.95",
    ),
}
PRESETS["source-base"] = (  # the same with discriminators and the steps of one GPU
    *PRESETS["source"],
    "postnet.adversarial_weight=1",
    "postnet.feature_weight=2",
    "postnet.adversarial_channels=32",
    "postnet_training.steps=50000",
    "postnet_training.batch_size=32",
    "postnet_training.segment_frames=64",
    "postnet_training.learning_rate=5e-4",
    "postnet_training.warmup_steps=500",
    "postnet_training.ema_decay=0.999",
    "postnet_training.validate_every=2000",
    "postnet_training.save_every=1000",
)
PRESETS["autoregressive"] = (  # a small transformer as Li et al. have it: frame after frame
    *PRESETS["small"],
    "transformer.history=true",
    "transformer.contour=false",
    "transformer.postnet_layers=4",
    "transformer.postnet_width=192",
    "transformer.postnet_kernel=3",
    "transformer.dropout=0.1",
    "transformer.phoneme_times_dropout=0.2",  # it also reads by attention alone
    "synthesis.sharpening=0.3",
)
PRESET_ALIASES = {"published": "legacy", "performance": "small"}  # names that earlier versions gave
