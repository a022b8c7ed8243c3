"""Accompaniments and nothing else, at other tempi and pitches: what little data is stretched to.

An inpainter that always has notes, phonemes or a draft need not listen to the accompaniment. A
share of each batch therefore loses all of these, and its stems are moved together, so that more
songs are heard than there are. Shapes: B batch, K moved items, T frames, M mels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from inpainter.diffusion import ACCOMPANIMENT
from training.resident_mels import STEMS

if TYPE_CHECKING:
    from hyperparams import Audio, Diffusion
    from inpainter.mel_unet import MelSignal
    from training.resident_mels import ResidentSongs

LINEAR_HZ, LINEAR_MELS = 1000.0, 15.0  # Slaney's scale is linear below, logarithmic above
PER_MEL = math.log(6.4) / 27  # of the logarithm of the frequency


def count_alone(share: float, batch: int, step: int) -> int:
    """Return how many items of a batch get an accompaniment alone: `share` of them on average."""
    return math.floor(share * batch * (step + 1)) - math.floor(share * batch * step)


def hz_to_mel(hz: Tensor) -> Tensor:
    """Convert frequencies to Slaney's mels, 15 of them per kHz below 1 kHz."""
    linear = hz * LINEAR_MELS / LINEAR_HZ
    return torch.where(
        hz < LINEAR_HZ, linear, LINEAR_MELS + (hz.clamp_min(LINEAR_HZ) / LINEAR_HZ).log() / PER_MEL
    )


def mel_to_hz(mel: Tensor) -> Tensor:
    """Convert Slaney's mels to frequencies."""
    linear = mel * LINEAR_HZ / LINEAR_MELS
    above = LINEAR_HZ * (PER_MEL * (mel.clamp_min(LINEAR_MELS) - LINEAR_MELS)).exp()
    return torch.where(mel < LINEAR_MELS, linear, above)


def moved_bands(semitones: Tensor, audio: Audio) -> Tensor:
    """Return the place (K, M) among the bands from which each band of a moved mel is read.

    semitones (K,): upwards, what sounded a fraction lower comes there.
    """
    top = hz_to_mel(torch.tensor(audio.sample_rate / 2, device=semitones.device))
    bands = torch.arange(1, audio.n_mels + 1, device=semitones.device)
    centre = mel_to_hz(bands * top / (audio.n_mels + 1))
    place = hz_to_mel(centre * 2 ** (-semitones[:, None] / 12)) * (audio.n_mels + 1) / top - 1
    return place.clamp(0, audio.n_mels - 1)


def moved_windows(
    songs: ResidentSongs,
    signal: MelSignal,
    ids: Sequence[str],
    frames: Sequence[int],
    length: int,
    knobs: Diffusion,
    audio: Audio,
    generator: torch.Generator,
) -> Tensor:
    """Cut the signal (K, 2, T·M) of windows from `frames` of songs on, moved in tempo and pitch.

    Vocal and accompaniment together: time by cubic (Catmull-Rom), bands by linear interpolation. A
    window that would end behind its song begins earlier.
    """
    device = songs.device
    u = 2 * torch.rand(2, len(ids), generator=generator, device=device) - 1
    rate, semitones = (knobs.alone_tempo * u[0]).exp(), knobs.alone_pitch * u[1]
    places = zip(ids, frames, strict=True)
    bounds = [(songs.first[id], songs.last[id], songs.first[id] + frame) for id, frame in places]
    first, last, begin = torch.tensor(bounds).to(device, non_blocking=True).unbind(1)  # (K,) rows
    begin = torch.minimum(begin, last - ((length - 1) * rate).ceil().long()).maximum(first)
    ahead = torch.arange(length, device=device) * rate[:, None]  # (K, T) frames of the song
    ahead = ahead.minimum((last - begin)[:, None].to(ahead))
    whole, t = ahead.floor().long(), (ahead - ahead.floor())[..., None]
    rows = [
        (begin[:, None] + whole + k).maximum(first[:, None]).minimum(last[:, None])
        for k in (-1, 0, 1, 2)
    ]
    place = moved_bands(semitones, audio)
    below = place.floor().long().clamp_max(audio.n_mels - 2)
    share, index = (place - below)[:, None], below[:, None].expand(-1, length, -1)
    channels = []
    for name in STEMS:
        a, b, c, d = (songs.mel(name, r) for r in rows)
        x = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
        x = torch.lerp(x.gather(2, index), x.gather(2, index + 1), share)
        x = x.clamp_min(math.log(audio.log_floor))
        channels.append(getattr(signal, name)(x).flatten(1))
    return torch.stack(channels, 1)


def impaired(
    given: Tensor, count: int, knobs: Diffusion, bands: int, generator: torch.Generator
) -> Tensor:
    """Give the accompaniments of the first `count` items (B, 2, T·M) other levels and some noise.

    So as they are heard, not as they are to be made: a level, a tilt over the bands, white noise.
    """
    shape, device = (count, 1, 1), given.device
    level, tilt = knobs.alone_level * torch.randn(2, *shape, generator=generator, device=device)
    spread = knobs.alone_noise * torch.rand(shape, generator=generator, device=device)
    heard = given[:count, ACCOMPANIMENT].unflatten(1, (-1, bands))
    noise = torch.randn(heard.shape, generator=generator, device=device)
    heard = heard + level + tilt * torch.linspace(-1, 1, bands, device=device) + spread * noise
    given = given.clone()
    given[:count, ACCOMPANIMENT] = heard.flatten(1)
    return given
