"""How far a rendered voice is from its score: pitch in cents, vowel onsets in milliseconds."""

from __future__ import annotations

import librosa
import numpy as np

from music.score import Score

# After these the vowel begins at a clear rise of low-band power: voiceless obstruents.
CLEAR_CONSONANTS = ("P", "T", "K", "CH", "F", "TH", "S", "SH")
HOP_SECONDS = 0.0025


def pitch_errors(wav: np.ndarray, sample_rate: int, score: Score) -> np.ndarray:
    """Return, per note of at least 0.15 s, the median of F0 over its middle minus the score, cents.

    wav (S,), its time 0 that of the score. Notes without three voiced frames are left out.
    """
    hop = sample_rate // 100
    frame = 4 * hop
    f0 = librosa.yin(wav, fmin=70, fmax=700, sr=sample_rate, frame_length=frame, hop_length=hop)
    power = librosa.feature.rms(y=wav, frame_length=frame, hop_length=hop)[0]
    is_voiced = power > 0.1 * np.percentile(power, 90)
    errors = []
    for note in score.notes:
        if note.duration < 0.15:
            continue
        margin = min(0.06, note.duration / 4)
        first, last = (note.onset + margin) * 100, (note.offset - margin) * 100
        frames = slice(round(first), round(last))
        voiced = f0[frames][is_voiced[frames]]
        if len(voiced) >= 3:
            cents = 1200 * np.log2(voiced / 440.0) - 100 * (note.pitch - 69)
            errors.append(np.median(cents))
    return np.array(errors)


def onset_errors(wav: np.ndarray, sample_rate: int, score: Score) -> np.ndarray:
    """Return, per vowel after a voiceless consonant, the rise of its power minus the score's onset.

    In seconds. The rise is the point within 0.1 s that best parts 30 ms of low from 30 ms of high
    power between 150 and 1000 Hz; vowels without a rise of 6 dB there are left out.
    """
    hop = round(HOP_SECONDS * sample_rate)
    spectrum = np.abs(librosa.stft(wav, n_fft=sample_rate // 50, hop_length=hop)) ** 2
    bins = librosa.fft_frequencies(sr=sample_rate, n_fft=sample_rate // 50)
    band = spectrum[(bins >= 150) & (bins <= 1000)].mean(axis=0)
    level = 10 * np.log10(band + 1e-3 * np.percentile(band, 90))
    width = round(0.03 / HOP_SECONDS)
    sums = np.concatenate([[0.0], np.cumsum(level)])
    errors = []
    for syllable in score.syllables:
        nucleus = syllable.nucleus
        if not nucleus or syllable.phonemes[nucleus - 1] not in CLEAR_CONSONANTS:
            continue
        centre = round(syllable.onset / HOP_SECONDS)
        places = np.arange(centre - round(0.1 / HOP_SECONDS), centre + round(0.1 / HOP_SECONDS) + 1)
        places = places[(places >= width) & (places + width < len(level))]
        if not len(places):
            continue
        after = sums[places + width] - sums[places]
        before = sums[places] - sums[places - width]
        rise = after - before
        if rise.max() > 6.0 * width:  # dB: a clear onset
            errors.append(places[np.argmax(rise)] * HOP_SECONDS - syllable.onset)
    return np.array(errors)
