"""Phoneme-informed transcriber of singing (Yong et al. 2023, 2304.05917)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import librosa
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    import hyperparams


class DecibelMel(nn.Module):
    """Power mel spectrogram in decibels: Slaney bands, Hann window, centred frames.

    The spectrum is a convolution with windowed sines, as the legacy transcriber was trained on:
    a fast transform rounds otherwise, which moves soft bands by up to 2e-4 dB.
    """

    waves: Tensor  # (2F, 1, W)
    filterbank: Tensor  # (M, F)

    def __init__(
        self,
        sample_rate: int,
        win_length: int,
        hop_length: int,
        n_mels: int,
        fmin: float,
        fmax: float,
        top_db: float = 80.0,
    ) -> None:
        """Build the filterbank; fmin, fmax in Hz; top_db: range kept below the loudest point."""
        super().__init__()
        self.win_length, self.hop_length, self.top_db = win_length, hop_length, top_db
        filterbank = librosa.filters.mel(
            sr=sample_rate, n_fft=win_length, n_mels=n_mels, fmin=fmin, fmax=fmax
        )  # (M, F), of double precision inside, which torchaudio's is not
        with torch.device("cpu"):  # values, wanted also where the weights are `meta`
            waves = windowed_waves(win_length)
            self.register_buffer("waves", waves, persistent=False)  # (2F, 1, W)
            self.register_buffer("filterbank", torch.from_numpy(filterbank), persistent=False)

    def forward(self, wav: Tensor) -> Tensor:
        """Map wav (B, S) → (B, T, M) dB, T = 1 + S // hop_length; float32 under autocast too."""
        with torch.autocast(wav.device.type, enabled=False):
            half = self.win_length // 2
            padded = F.pad(wav.float()[:, None], (half, half), mode="reflect")  # (B, 1, S + W)
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                spectrum = F.conv1d(padded, self.waves, stride=self.hop_length)  # (B, 2F, T)
            real, imaginary = spectrum.chunk(2, dim=1)
            mel = self.filterbank @ (real.square() + imaginary.square())  # (B, M, T)
            decibel = 10 * mel.clamp(min=1e-10).log10().transpose(1, 2)  # (B, T, M)
            return torch.maximum(decibel, decibel.amax((1, 2), keepdim=True) - self.top_db)


def windowed_waves(size: int) -> Tensor:
    """Return the real discrete Fourier transform of windowed samples as kernels, (2F, 1, size).

    F = size // 2 + 1 cosines, then the sines, times a Hann window; made in double precision,
    rounded as wave and window and then multiplied.
    """
    time = np.arange(size)
    phase = 2 * np.pi * time * np.arange(size // 2 + 1)[:, None] / size  # (F, size)
    window = (0.5 - 0.5 * np.cos(2 * np.pi * time / size)).astype(np.float32)
    waves = np.concatenate([np.cos(phase), np.sin(phase)]).astype(np.float32) * window
    return torch.from_numpy(waves)[:, None]


class SpectrogramStack(nn.Module):
    """Three 3 x 3 convolutions over time and frequency, the frequency axis pooled twice."""

    def __init__(self, bins: int, width: int, dilation: int = 1) -> None:
        """Build the stack for (T, bins); dilation: of the first convolution, along time."""
        super().__init__()
        channels = width // 16
        self.conv1 = nn.Conv2d(1, channels, 3, padding=(dilation, 1), dilation=(dilation, 1))
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.norm3 = nn.BatchNorm2d(2 * channels)
        self.pool = nn.Sequential(nn.MaxPool2d((1, 2)), nn.Dropout(0.25))
        self.linear = nn.Linear(2 * channels * (bins // 4), width)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, T, F) → (B, T, D)."""
        x = F.relu(self.norm1(self.conv1(x[:, None])))  # (B, C, T, F)
        x = self.pool(F.relu(self.norm2(self.conv2(x))))  # (B, C, T, F / 2)
        x = self.pool(F.relu(self.norm3(self.conv3(x))))  # (B, 2C, T, F / 4)
        return self.dropout(self.linear(x.transpose(1, 2).flatten(2)))  # (B, T, D)


@dataclass
class Transcription:
    """Logits of each frame."""

    phoneme: Tensor  # (B, T, 39), the last class is silence
    note: Tensor  # (B, T, 3): onset, offset, activation


class TranscriberNet(nn.Module):
    """Singing → phonemes and notes (Yong et al. 2023, 2304.05917).

    One mel goes to a phoneme recogniser; its logits and a second mel each go through a dilated
    stack and an LSTM; a combined LSTM predicts onsets, offsets and activation.
    """

    def __init__(self, hp: hyperparams.Transcriber, sample_rate: int) -> None:
        super().__init__()
        self.hop_length = hp.hop_length
        self.phoneme_mel = DecibelMel(
            sample_rate,
            hp.phoneme_win_length,
            hp.hop_length,
            hp.phoneme_n_mels,
            hp.phoneme_fmin,
            hp.phoneme_fmax,
        )
        self.phoneme_stack = SpectrogramStack(hp.phoneme_n_mels, hp.phoneme_width)
        self.phoneme_rnn = self.lstm(hp.phoneme_width, hp.phoneme_width)
        self.phoneme_output = nn.Linear(hp.phoneme_width, hp.num_phonemes)
        self.mel = DecibelMel(
            sample_rate, hp.win_length, hp.hop_length, hp.n_mels, hp.fmin, hp.fmax
        )
        self.pitch_stack = SpectrogramStack(hp.n_mels, hp.width, dilation=2)
        self.pitch_rnn = self.lstm(hp.width, hp.width)
        self.logit_stack = SpectrogramStack(hp.num_phonemes, hp.width, dilation=2)
        self.logit_rnn = self.lstm(hp.width, hp.width)
        self.combined_rnn = self.lstm(2 * hp.width, hp.width)
        self.output = nn.Linear(hp.width, 3)

    @staticmethod
    def lstm(in_width: int, width: int) -> nn.LSTM:
        """Build a bidirectional LSTM; both directions together are `width` wide."""
        return nn.LSTM(in_width, width // 2, batch_first=True, bidirectional=True)

    def recognise(self, wav: Tensor) -> Tensor:
        """Map wav (B, S) → phoneme logits (B, T, 39), T = 1 + S // hop_length."""
        x = self.phoneme_stack(self.phoneme_mel(wav))
        return self.phoneme_output(self.phoneme_rnn(x)[0])

    def forward(self, wav: Tensor) -> Transcription:
        """Map wav (B, S) in [-1, 1] → logits of phonemes and notes, T = 1 + S // hop_length."""
        phoneme = self.recognise(wav)
        x_pitch, _ = self.pitch_rnn(self.pitch_stack(self.mel(wav)))
        x_phoneme, _ = self.logit_rnn(self.logit_stack(phoneme))
        x, _ = self.combined_rnn(torch.cat([x_pitch, x_phoneme], dim=2))
        return Transcription(phoneme, self.output(x))
