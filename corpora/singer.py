"""A singing voice out of a speaking one: the songbook's engine.

The hibari-tts package holds a small English voice (Apache-2.0) as an ONNX graph whose token
durations and F0 are explicit tensors. Both are cut out of the graph and fed from a score: a phrase
is spoken at its natural timing, the vowel nuclei are found in the spectrum, time is warped so that
each nucleus begins on its note, and F0 follows the notes.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from music.score import Score
from singing.performance import VoiceStyle, pitch_drift, sung_pitch
from text.symbols import is_vowel

SAMPLE_RATE = 24000  # Hz of the voice
FRAME_RATE = 80.0  # Hz of its spectra and F0
FRAMES_PER_TICK = 2  # a token's duration counts 25 ms
DURATION_TENSOR = "/Clip_output_0"  # predicted token durations inside the graph
VOICED_F0 = 60.0  # Hz; the voice predicts less where it is voiceless
LATENCY = 4  # frames, 50 ms, that a token is late for its sound (measured at S beside vowels)
NUCLEUS_DROP = 6.0  # dB below its peak a nucleus ends
RISE_FRAMES = 1.6  # 20 ms: the -6 dB point lies this far behind the start of the vowel (measured)
LAST_CONSONANTS = 6  # frames, 75 ms, of what is spoken behind the last nucleus that its note holds
REST_DROP = 5.0  # nepers, 43 dB: out of hearing
FADE_DROP = 6.0 / 8.686  # nepers, 6 dB: under the median nucleus that a sung one may lie
LAST_DROP = 0.0  # nepers: the same of the last nucleus, where speech fades and a song does not
FADE_LIFT = 3.0  # nepers, 26 dB: at most that a faded one is lifted
NATURAL_F0 = (150.0, 280.0)  # Hz the voice was trained on: its spectra are asked for in here
INSTALL = "pip install -r requirements-songbook.txt"

# ARPAbet in the voice's alphabet; a stress mark goes before the vowel.
VOICE_ALPHABET = {
    **{"AA": "ɑ", "AE": "æ", "AH": "ʌ", "AO": "ɔ", "AW": "W", "AY": "I", "EH": "ɛ", "ER": "ɜɹ"},
    **{"EY": "A", "IH": "ɪ", "IY": "i", "OW": "O", "OY": "Y", "UH": "ʊ", "UW": "u"},
    **{"B": "b", "CH": "ʧ", "D": "d", "DH": "ð", "F": "f", "G": "ɡ", "HH": "h", "JH": "ʤ"},
    **{"K": "k", "L": "l", "M": "m", "N": "n", "NG": "ŋ", "P": "p", "R": "ɹ", "S": "s", "SH": "ʃ"},
    **{"T": "t", "TH": "θ", "V": "v", "W": "w", "Y": "j", "Z": "z", "ZH": "ʒ"},
}
UNSTRESSED = {"AH": "ə", "ER": "əɹ"}
SONORANTS = "mnŋlɹwj"
STRESS_MARKS = {"0": "", "1": "ˈ", "2": "ˌ"}


@dataclass(frozen=True)
class Manner:
    """How a take is sung."""

    vibrato_cents: float = 20.0  # depth, from the mean
    vibrato_rate: float = 5.5  # Hz
    vibrato_delay: float = 0.25  # s into a note until it starts
    glide_seconds: float = 0.09  # from note to note
    breathiness: float = 0.0  # nepers on the noise branch
    drift_cents: float = 0.0  # slow random deviation (std)
    note_dynamics: float = 0.0  # dB (std) of notes against each other
    phrase_dynamics: float = 0.0  # dB by which a phrase swells to its middle
    breath_seconds: float = 0.0  # of a breath before phrases
    breath_level: float = -14.0  # dB of it against the voice
    seed: int = 0  # of the noise


@dataclass(frozen=True)
class SungPhrase:
    """A phrase as it was sung.

    Audio (S,) at SAMPLE_RATE, and in seconds of it the time of the score's first onset and, for
    each syllable, onset and offset of its phonemes; F0 (T,) in Hz as it was asked for, at
    FRAME_RATE.
    """

    wav: np.ndarray
    lead: float
    times: list[list[tuple[float, float]]]
    f0: np.ndarray


def missing_packages() -> str | None:
    """Say what the voice lacks to run, None when nothing."""
    for name in ("hibari", "onnx", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            return f"the songbook's voice needs the package {name} ({error}): {INSTALL}"
    return None


class Singer:
    """The voice, loaded once; raises RuntimeError naming the command when packages are missing."""

    def __init__(self) -> None:
        missing = missing_packages()
        if missing:
            raise RuntimeError(missing)
        self.session = _controlled_session()
        self.synthesise = importlib.import_module("hibari.dsp").synth
        self.vocabulary = _vocabulary()

    def sing(self, score: Score, manner: Manner) -> SungPhrase:
        """Sing a phrase without long rests; its notes must follow one another.

        Raises ValueError when the score is empty.
        """
        if not score.syllables:
            raise ValueError("a phrase without syllables cannot be sung")
        tokens = _Tokens(score, self.vocabulary)
        spoken = _Spoken(self, tokens)
        nuclei = spoken.nuclei(tokens.vowels)
        starts = [(s.onset - score.syllables[0].onset) * FRAME_RATE for s in score.syllables]
        ends = [(s.offset - score.syllables[0].onset) * FRAME_RATE for s in score.syllables]
        targets, sources = _time_map(nuclei, starts, ends, spoken.speech_end, spoken.num_frames)
        lead = nuclei[0][0]
        num_frames = round(targets[-1])
        f0 = _pitch_curve(score, lead, num_frames, manner)
        source = np.interp(np.arange(num_frames) + 0.5, targets, sources) - 0.5
        source = np.clip(source, 0, spoken.num_frames - 1)
        voice = spoken.coloured(np.interp(np.arange(spoken.num_frames), source, f0))
        voiced = np.zeros(spoken.num_frames, bool)
        for first, last in nuclei:
            voiced[first:last] = True
        voice = _sung_on_harmonics(voice, voiced, nuclei[-1][0])
        wav = self._render(voice, source, f0, spoken.is_voiced | voiced, manner)
        frames = np.interp(spoken.phoneme_frames(tokens, nuclei), sources, targets)  # (P, 2)
        spans = iter((frames / FRAME_RATE).tolist())
        times = [[tuple(next(spans)) for _ in s.phonemes] for s in score.syllables]
        return SungPhrase(wav, lead / FRAME_RATE, times, f0)

    def _render(
        self,
        voice: Sequence[np.ndarray],
        source: np.ndarray,
        f0: np.ndarray,
        is_voiced: np.ndarray,
        manner: Manner,
    ) -> np.ndarray:
        """Warp the voice's spectra (F, T) to the frames `source` and synthesise with the F0."""
        nearest = np.round(source).astype(int)
        left = np.floor(source).astype(int)
        right = np.minimum(left + 1, len(is_voiced) - 1)
        weight = (source - left).astype(np.float32)
        harmonic, theta, noise, rest = (
            (part[:, left] * (1 - weight) + part[:, right] * weight).astype(np.float32)
            for part in voice[:4]
        )
        # Fewer harmonics at a higher F0: their level keeps the power constant.
        harmonic += 0.5 * np.log(np.maximum(f0, VOICED_F0) / 200.0)[None].astype(np.float32)
        f0 = np.where(is_voiced[nearest], f0, 0.0).astype(np.float32)
        generator = np.random.default_rng(manner.seed)
        noise += np.float32(manner.breathiness)
        phase = voice[4][:, nearest]
        return self.synthesise(harmonic, theta, noise, rest, phase, f0, generator)

    def speak(
        self, ids: np.ndarray, durations: np.ndarray | None, f0: np.ndarray | None
    ) -> list[np.ndarray]:
        """Run the graph: token durations (N,) and F0 (T,) Hz → spectra.

        Returns five spectra (F, T), F0 (T,) and the durations that the voice itself would choose
        (N,).
        """
        durations = np.ones(len(ids)) if durations is None else durations
        frames = int(FRAMES_PER_TICK * durations.sum())
        inputs = {
            "ids": ids[None].astype(np.int64),
            "speed": np.ones(1, np.float32),
            "durations": durations.astype(np.float32),
            "f0_curve": (np.full(frames, 200.0) if f0 is None else f0)[None].astype(np.float32),
        }
        *spectra, f0, natural = self.session.run(None, inputs)
        return [*(part[0] for part in spectra), f0.ravel(), natural.ravel()]


class _Tokens:
    """A score in the voice's alphabet, with the token span of every phoneme, and of the vowels."""

    def __init__(self, score: Score, vocabulary: dict[str, int]) -> None:
        text, phonemes, vowels = "", [], []
        for index, syllable in enumerate(score.syllables):
            if index and syllable.starts_word:
                text += " "
            for place, phoneme in enumerate(syllable.phonemes):
                start = len(text) + 1  # behind the first pad
                text += _in_voice_alphabet(phoneme)
                phonemes.append((start, len(text) + 1))
                if place == syllable.nucleus:
                    vowels.append(phonemes[-1])
        self.end = len(text)  # of the last phoneme
        self.signs = text + "."
        self.ids = np.array([0, *(vocabulary[sign] for sign in self.signs), 0])
        self.phonemes, self.vowels = phonemes, vowels


def _in_voice_alphabet(phoneme: str) -> str:
    """Return the signs of one ARPAbet phoneme."""
    if not is_vowel(phoneme):
        return VOICE_ALPHABET[phoneme]
    vowel, stress = phoneme[:-1], phoneme[-1]
    sign = UNSTRESSED.get(vowel) if stress == "0" else None
    return STRESS_MARKS[stress] + (sign or VOICE_ALPHABET[vowel])


class _Spoken:
    """A phrase at its natural timing: where its vowels are, and its spectra at any pitch."""

    def __init__(self, singer: Singer, tokens: _Tokens) -> None:
        self.singer, self.ids = singer, tokens.ids
        self.durations = np.maximum(1, np.round(singer.speak(tokens.ids, None, None)[-1]))
        bounds = np.concatenate([[0], np.cumsum(FRAMES_PER_TICK * self.durations)])
        self.bounds = bounds.astype(int)  # frame at which each token starts
        self.num_frames = int(self.bounds[-1])
        self.speech_end = int(self.bounds[tokens.end + 1])
        own_f0 = singer.speak(self.ids, self.durations, None)[5][: self.num_frames]
        self.is_voiced = self._sung_voicing(own_f0 > VOICED_F0, tokens.vowels)
        own_f0 = np.maximum(own_f0, NATURAL_F0[0])
        voice = singer.speak(self.ids, self.durations, np.where(self.is_voiced, own_f0, 0.0))
        self.power = self._vowel_power(voice[0])

    def _sung_voicing(self, is_voiced: np.ndarray, vowels: Sequence[tuple[int, int]]) -> np.ndarray:
        """Return the voicing with every vowel voiced: speech whispers the last of a phrase."""
        for first, last in vowels:
            span = slice(self.bounds[first], self.bounds[last])
            if is_voiced[span].mean() < 0.5:
                is_voiced[span] = True
        return is_voiced

    def _vowel_power(self, harmonic: np.ndarray) -> np.ndarray:
        """Return the voiced power per frame in dB, 100 Hz to 4 kHz, smoothed over three frames."""
        power = np.where(self.is_voiced, 20 / np.log(10) * _level(harmonic), -60.0)
        return _smoothed(power)

    def nuclei(self, vowels: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return the frames [start, end) of each vowel.

        Token durations are only rough, so the power's peak near the vowel's tokens is taken with
        all that is at most 6 dB below it.
        """
        found: list[tuple[int, int]] = []
        for first, last in vowels:
            start, end = self.bounds[first] - 2, self.bounds[last] + 3
            start = max(start, found[-1][1] + 2 if found else 0)
            start = min(start, self.num_frames - 5)
            end = min(max(end, start + 4), self.num_frames - 1)
            peak = left = right = start + int(np.argmax(self.power[start:end]))
            while left > start and self.power[left - 1] > self.power[peak] - NUCLEUS_DROP:
                left -= 1
            while right + 1 < end and self.power[right + 1] > self.power[peak] - NUCLEUS_DROP:
                right += 1
            found.append((left, right + 1))
        return found

    def phoneme_frames(self, tokens: _Tokens, nuclei: Sequence[tuple[int, int]]) -> np.ndarray:
        """Return the spoken frames (P, 2) at which each phoneme begins and ends.

        A vowel begins where its note will, at the foot of its rise, and ends with its nucleus or,
        where a sonorant follows that is as loud, in it; elsewhere the tokens' bounds hold, which
        are late.
        """
        bounds = np.maximum(0.0, self.bounds - LATENCY)
        heard = {bounds[1]: bounds[1]}  # by bound of a token
        for (first, last), (start, end) in zip(tokens.vowels, nuclei, strict=True):
            heard[bounds[first]] = max(0.0, start - RISE_FRAMES)
            least = (start + end) / 2 if tokens.signs[last - 1] in SONORANTS else end
            heard[bounds[last]] = max(bounds[last], least)
        heard[bounds[tokens.end + 1]] = bounds[tokens.end + 1]
        frames = np.maximum.accumulate(list(heard.values()))
        return np.interp(bounds, list(heard), frames)[np.array(tokens.phonemes)]

    def coloured(self, f0: np.ndarray) -> list[np.ndarray]:
        """Return the five spectra (F, T) as the voice makes them for this F0 (T,) in Hz."""
        curve = np.where(self.is_voiced, np.clip(f0, *NATURAL_F0), 0.0)
        return self.singer.speak(self.ids, self.durations, curve)[:5]


def _sung_on_harmonics(
    voice: Sequence[np.ndarray], is_nucleus: np.ndarray, last: int
) -> list[np.ndarray]:
    """Let the harmonics carry the frames (T,) of the nuclei, the part of fixed phase being silent.

    last: the frame at which the last nucleus begins.

    The voice adds harmonics, noise and a rest whose phases it predicts frame by frame. Speech hides
    the rest; in a vowel that is held, its frames come again and again, a buzz at the frame rate.
    Speech fades before a full stop, where a song holds its note: faded nuclei are lifted.
    """
    harmonic, theta, noise, rest, phase = (part.copy() for part in voice)
    held = rest[:, is_nucleus]
    harmonic[:, is_nucleus] = np.logaddexp(2 * harmonic[:, is_nucleus], 2 * held) / 2
    rest[:, is_nucleus] = held - REST_DROP
    level = _level(harmonic)
    drop = np.where(np.arange(len(level)) < last, FADE_DROP, LAST_DROP)
    missing = np.median(level[is_nucleus]) - drop - level
    lift = _smoothed(np.where(is_nucleus, np.clip(missing, 0.0, FADE_LIFT), 0.0))
    lift = lift.astype(harmonic.dtype)
    return [harmonic + lift, theta, noise + lift, rest, phase]


def _level(harmonic: np.ndarray) -> np.ndarray:
    """Return the level per frame (T,) in nepers of harmonics (F, T), 100 Hz to 4 kHz."""
    return 0.5 * np.log(np.exp(2 * np.minimum(harmonic[5:200], 7.0)).mean(axis=0) + 1e-8)


def _smoothed(frames: np.ndarray) -> np.ndarray:
    """Return values per frame (T,) smoothed over three of them."""
    return np.convolve(np.pad(frames, 1, mode="edge"), [0.25, 0.5, 0.25], "valid")


def _time_map(
    nuclei: Sequence[tuple[int, int]],
    starts: Sequence[float],
    ends: Sequence[float],
    speech_end: int,
    num_frames: int,
) -> tuple[list[float], list[float]]:
    """Return the corners (sung frame, spoken frame) of the piecewise linear warp of time.

    A nucleus begins with its note (the rise to it included); its first and last third (at most
    50 ms) keep their speed and the middle is stretched; the consonants after it keep their natural
    length, at most half of the note, and end where the next nucleus begins. Behind the last nucleus
    speech fades for several hundred milliseconds: its note holds LAST_CONSONANTS of them at most,
    the rest follows the note at natural speed.
    """
    lead = nuclei[0][0] + RISE_FRAMES
    targets, sources = [0.0], [0.0]
    for index, (first, last) in enumerate(nuclei):
        begin = lead + starts[index]
        is_last = index + 1 == len(nuclei)
        end = lead + (ends[index] if is_last else starts[index + 1])
        fade = min(speech_end, last + LAST_CONSONANTS)
        following = fade if is_last else nuclei[index + 1][0]
        consonants = min(max(0, following - last), 0.5 * (end - begin))
        edge = min((last - first) / 3, 4.0, (end - begin - consonants) / 3)
        targets += [begin, begin + edge, end - consonants - edge, end - consonants]
        sources += [first, first + edge, last - edge, last]
        if is_last:
            targets.append(end)
            sources.append(max(last, following))
    targets.append(targets[-1] + num_frames - sources[-1])
    sources.append(num_frames)
    return _increasing(targets, sources)


def _increasing(targets: list[float], sources: list[float]) -> tuple[list[float], list[float]]:
    """Drop corners that do not go forward in sung time."""
    kept = [0]
    for index in range(1, len(targets)):
        if targets[index] > targets[kept[-1]] + 1e-6:
            kept.append(index)
    return [targets[k] for k in kept], [sources[k] for k in kept]


def _pitch_curve(score: Score, lead: int, num_frames: int, manner: Manner) -> np.ndarray:
    """Return F0 (T,) in Hz: the notes, joined by short glides, with a delayed vibrato."""
    times = (np.arange(num_frames) - lead) / FRAME_RATE + score.syllables[0].onset
    notes = score.notes
    if manner.drift_cents or any(note.style for note in notes):
        voice = VoiceStyle(
            manner.vibrato_cents, manner.vibrato_rate, manner.vibrato_delay, manner.glide_seconds
        )
        rows = [(note.onset, note.offset, note.pitch) for note in notes]
        midi = sung_pitch(rows, [note.style for note in notes], times, voice)
        midi += manner.drift_cents / 100 * pitch_drift(num_frames, FRAME_RATE, manner.seed)
        return 440.0 * 2 ** ((midi - 69) / 12)
    onsets = np.array([note.onset for note in notes])
    current = np.clip(np.searchsorted(onsets, times, side="right") - 1, 0, len(notes) - 1)
    pitch = np.array([note.pitch for note in notes], float)[current]
    half = max(1, round(0.5 * manner.glide_seconds * FRAME_RATE))
    kernel = np.hanning(2 * half + 3)[1:-1]
    pitch = np.convolve(np.pad(pitch, half, mode="edge"), kernel / kernel.sum(), "valid")
    age = np.maximum(0.0, times - onsets[current])
    swell = np.clip((age - manner.vibrato_delay) / 0.25, 0.0, 1.0)
    vibrato = manner.vibrato_cents / 100 * np.sin(2 * np.pi * manner.vibrato_rate * age)
    return 440.0 * 2 ** ((pitch + swell * vibrato - 69) / 12)


def _vocabulary() -> dict[str, int]:
    """Return the voice's alphabet."""
    return json.loads((_assets() / "vocab.json").read_text(encoding="utf-8"))


def _assets() -> Path:
    return Path(str(importlib.import_module("hibari").__file__)).parent / "assets"


def _controlled_graph() -> bytes:
    """Return the voice's graph with token durations and F0 as inputs, durations as an output."""
    onnx: Any = importlib.import_module("onnx")
    model = onnx.load(str(_assets() / "hibari.onnx"))
    graph, replaced = model.graph, {"durations": 0, "f0_curve": 0}
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == DURATION_TENSOR:
                node.input[index] = "durations"
                replaced["durations"] += 1
            elif name == "f0" and node.op_type == "Relu":
                node.input[index] = "f0_curve"
                replaced["f0_curve"] += 1
    if not all(replaced.values()):
        raise RuntimeError(f"hibari-tts holds another voice than this engine knows: {INSTALL}")
    floating = onnx.TensorProto.FLOAT
    make = onnx.helper.make_tensor_value_info
    graph.input.append(make("durations", floating, ["L"]))
    graph.input.append(make("f0_curve", floating, [1, "F"]))
    graph.output.append(make(DURATION_TENSOR, floating, ["L"]))
    return model.SerializeToString()


def _controlled_session() -> Any:
    """Return an inference session of one thread: processes are the parallelism."""
    onnxruntime: Any = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        _controlled_graph(), options, providers=["CPUExecutionProvider"]
    )
