"""The inpainter on mels in the chain: the mel of a song's vocal, whole or in parts.

With words it restores what regression has averaged out of the transformer's mels, from little noise
(shallow diffusion: DiffSinger, 2105.02446); without words it makes the mel from notes, or from the
accompaniment alone. Mels here are natural logs, at the level of training.
Shapes: S samples, T frames (one per hop), M mels; frame t of channel c is [c, t·M : (t + 1)·M].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from inpainter.context import Context, ContextMaker, cut, window_mel
from inpainter.diffusion import VOCAL, Denoiser, drop_accompaniment, sampling_sigmas
from inpainter.mel_unet import MelSignal
from inpainter.sampling import check_request, window_sampler
from inpainter.windows import (
    Job,
    Window,
    batches,
    inpaint_song,
    merge_ranges,
    plan_windows,
    read_from,
)
from singing.inpaint import Evaluations, check_symbols, spans
from singing.request import ProgressBar
from utils.loading import Loaded, check_spectrograms, denoiser_of

if TYPE_CHECKING:
    from hyperparams import Inpainting
    from singing.voice import RenderedPhrase

Range = tuple[int, int]  # frames [start, stop)
BLOCK = 8192  # frames whose spectra are computed together, two minutes


@dataclass(frozen=True)
class MelTracks:
    """What a vocal is to sing, frame by frame; each part may be missing."""

    draft: Tensor | None = None  # (T, M) log mel of a transformer
    phoneme: Tensor | None = None  # (T,) int64, ids of the inpainter's own symbols, 0 = none
    pitch: Tensor | None = None  # (T,) MIDI note numbers, 0 = none


@dataclass(frozen=True)
class InpaintedMel:
    """The mel of a vocal, and what it took to generate."""

    mel: Tensor  # (T, M) log mel, known frames bit by bit
    windows: int
    evaluations: int  # of the network, counted per window
    conditions: tuple[str, ...] = ()  # parts of the context that were given

    def report(self) -> dict[str, Any]:
        """Describe it for report.json."""
        return {
            "windows": self.windows,
            "network_evaluations": self.evaluations,
            "conditions": list(self.conditions),
        }


class UnaccompaniedDenoiser(Denoiser):
    """A denoiser that sees no accompaniment, as items of training that it was withheld from."""

    def forward(
        self,
        x_noisy: Tensor,
        sigma: Tensor,
        is_known: Tensor | None = None,
        context: Context | None = None,
    ) -> Tensor:
        """Estimate the clean signal (B, C, S); its accompaniment means nothing."""
        mask = torch.zeros_like(x_noisy, dtype=torch.bool) if is_known is None else is_known
        everyone = torch.ones(len(x_noisy), dtype=torch.bool, device=x_noisy.device)
        withheld, mask = drop_accompaniment(x_noisy, mask, everyone)
        return super().forward(withheld, sigma, mask, context)


class MelInpainter:
    """An inpainter on mels, ready for songs."""

    def __init__(self, loaded: Loaded) -> None:
        """Check it: ValueError for an inpainter of audio, or of parts that cannot be sampled."""
        hp = loaded.hyperparams
        if not hp.unet.mel:
            raise ValueError(
                f"{loaded.path} is an inpainter of audio, expected one of mels: train it with "
                "train_inpainter.py --preset mel, or name it with --inpainter"
            )
        if "accompaniment_mel" not in loaded.data["statistics"]:
            raise ValueError(
                f"{loaded.path} has no statistics of the accompaniment's mel: train it again with "
                "train_inpainter.py --preset mel"
            )
        self.loaded, self.hyperparams = loaded, hp
        device = next(loaded.network.parameters()).device
        self.maker = ContextMaker(hp.audio, loaded.data, device)
        self.signal = MelSignal(hp.audio, loaded.data["statistics"], device)
        self.device, self.bands, self.hop = device, hp.audio.n_mels, hp.audio.hop_length
        self.silence = math.log(hp.audio.log_floor)
        check_request(self.config, hp.unet.mask_input, True, True, True, str(loaded.path))

    @property
    def config(self) -> Inpainting:
        """How it is sampled."""
        return self.hyperparams.mel_inpainting

    def check_voice(self, network: Loaded[Any]) -> None:
        """Refuse networks of other spectrograms, and transformers with symbols unknown to it."""
        check_spectrograms(network, self.hyperparams, self.loaded.path)
        if "phoneme" in self.maker.parts and "symbols" in network.data:
            check_symbols(set(network.data["symbols"]), self.loaded)

    def own_ids(self, phoneme: Tensor, table: Sequence[str]) -> Tensor:
        """Translate symbol ids (T,) of a table to its own; 0 (nothing) stays."""
        own = {symbol: index for index, symbol in enumerate(self.loaded.data["symbols"])}
        ids = [own.get(symbol, 0) for symbol in table]
        return torch.tensor([0, *ids[1:]])[phoneme]

    def mel_of(self, wav: Tensor, num_frames: int) -> Tensor:
        """Compute the log mel (T, M) of a waveform (S,), silence behind its end.

        In blocks with what their windows reach: the memory of spectra does not grow with the song.
        """
        reach = -(-self.hyperparams.audio.win_length // self.hop)  # frames
        padded = F.pad(wav, (0, max(0, num_frames * self.hop - len(wav))))
        blocks = []
        for first in range(0, num_frames, BLOCK):
            before, stop = min(first, reach), min(first + BLOCK, num_frames)
            part = padded[(first - before) * self.hop : (stop + reach) * self.hop]
            mel = window_mel(self.maker.features, part[None].to(self.device))[0]
            blocks.append(mel[before : before + stop - first].cpu())
        return torch.cat(blocks)

    @torch.no_grad()
    def __call__(
        self,
        tracks: MelTracks,
        num_frames: int,
        accompaniment: Tensor | None = None,
        vocal: Tensor | None = None,
        ranges: Sequence[Range] | None = None,
        seed: int = 0,
        quiet: bool = False,
    ) -> InpaintedMel:
        """Make the mel (T, M) of a song's vocal, in `ranges` of its frames (default: all).

        accompaniment, vocal (S,) at the level of training; None: withheld; all unknown. Frames
        outside of the ranges come back as the vocal has them.
        """
        bands, config = self.bands, self.config
        ranges = [(0, num_frames)] if ranges is None else ranges
        plan = self._plan(num_frames, ranges)
        total = max([num_frames * bands, *(window.stop for window in plan)]) // bands
        known = self._known(accompaniment, vocal, total)  # (2, T·M)
        is_known = torch.ones_like(known, dtype=torch.bool)
        for start, stop in ranges:
            is_known[VOCAL, start * bands : stop * bands] = False
        parts = self._parts(tracks, total)
        start_from = None
        if "mel" in parts:
            start_from = known.clone()
            start_from[VOCAL] = parts["mel"].flatten()
        levels = len(sampling_sigmas(config, start_from is not None and bool(config.draft_start)))
        steps = len(list(batches(plan, config.batch_size))) * (levels - 1)
        name = f"mel, {len(plan)} windows"
        with (
            ProgressBar("inpaint the mel", steps, "step", name, quiet) as bar,
            Evaluations(self.loaded) as evaluations,
        ):

            def report_level(done: int, levels: int) -> None:
                bar.update()

            generate = window_sampler(
                self._denoiser(accompaniment is not None),
                config,
                seed,
                (lambda jobs: self._context(parts, jobs)) if parts else None,
                None if start_from is None else lambda jobs: cut(start_from, spans(jobs)),
                report_level,
            )
            read = read_from(known, is_known)
            pieces = inpaint_song(read, total * bands, plan, generate, 0, config.batch_size)
            made = torch.cat([piece[VOCAL] for piece in pieces])
        mel = self._log_mel(made.view(-1, bands)[:num_frames])
        if vocal is not None:  # the logarithms themselves, not what standardising leaves of them
            true = self.mel_of(vocal, num_frames)
            mel = torch.where(frame_mask(ranges, num_frames)[:, None], mel, true)
        return InpaintedMel(mel, len(plan), evaluations.count, tuple(parts))

    def _plan(self, num_frames: int, ranges: Sequence[Range]) -> list[Window]:
        """Plan windows, in elements of the signal, around ranges of frames."""
        window, bands = self.hyperparams.inpainter_training.segment_frames, self.bands
        overlap = min(self.config.overlap // self.hop, window // 2)
        parts = [(start * bands, stop * bands) for start, stop in ranges]
        sizes = (num_frames * bands, window * bands, overlap * bands)
        return plan_windows(*sizes, parts, align=bands)

    def _denoiser(self, has_accompaniment: bool) -> Denoiser:
        denoiser = denoiser_of(self.loaded.network, self.hyperparams)
        if has_accompaniment:
            return denoiser
        return UnaccompaniedDenoiser(denoiser.network, denoiser.sigma_data, denoiser.mask_input)

    def _known(self, accompaniment: Tensor | None, vocal: Tensor | None, frames: int) -> Tensor:
        """Return both channels (2, T·M), silence where there is nothing."""
        channels = []
        for wav, standardise in (
            (vocal, self.signal.vocal),
            (accompaniment, self.signal.accompaniment),
        ):
            mel = self.mel_of(torch.zeros(0) if wav is None else wav, frames)
            channels.append(standardise(mel.to(self.device)).flatten().cpu())
        return torch.stack(channels)

    def _parts(self, tracks: MelTracks, frames: int) -> dict[str, Tensor]:
        """Return the tracks that the network reads, to `frames`, the draft's mel standardised."""
        parts: dict[str, Tensor] = {}
        if tracks.draft is not None and "mel" in self.maker.parts:
            silence = torch.full((frames - len(tracks.draft), self.bands), self.silence)
            draft = torch.cat([tracks.draft.float().cpu(), silence])
            parts["mel"] = self.maker.standardise(draft.to(self.device)).cpu()
        for name, track in (("phoneme", tracks.phoneme), ("pitch", tracks.pitch)):
            if track is not None and name in self.maker.parts:
                parts[name] = F.pad(track, (0, frames - len(track)))
        return parts

    def _context(self, parts: dict[str, Tensor], jobs: Sequence[Job]) -> Context:
        frames = [(start // self.bands, stop // self.bands) for start, stop in spans(jobs)]
        rows = {
            name: cut(part.T if name == "mel" else part, frames).to(self.device)
            for name, part in parts.items()
        }
        if "mel" in rows:
            rows["mel"] = rows["mel"].transpose(1, 2)  # (B, T, M)
        return self.maker(**rows)

    def _log_mel(self, frames: Tensor) -> Tensor:
        """Return frames (T, M) of the signal as natural logs, none below the floor."""
        return self.maker.standardise.inverse(frames.to(self.device)).cpu().clamp_min(self.silence)


class Restoration:
    """Give phrases that are sung at their times the mels that the inpainter makes of theirs."""

    def __init__(
        self,
        inpainter: MelInpainter,
        table: Sequence[str],
        accompaniment: Tensor | None = None,
        vocal: Tensor | None = None,
        parts: Sequence[Range] | None = None,
        seed: int = 0,
    ) -> None:
        """table: symbols that the ids of phrases mean; accompaniment (S,): of their song.

        vocal (S,): a take, of which only `parts`, ranges of frames, are sung again.
        """
        self.inpainter, self.table, self.seed = inpainter, table, seed
        self.accompaniment, self.vocal, self.parts = accompaniment, vocal, parts
        self.made: InpaintedMel | None = None

    def __call__(self, phrases: Sequence[RenderedPhrase]) -> list[RenderedPhrase]:
        """Return the phrases with their new mels, still without a sound."""
        inpainter = self.inpainter
        rate = inpainter.hyperparams.audio.frame_rate
        starts = [round((phrase.phrase.start or 0.0) * rate) for phrase in phrases]
        stops = [start + len(p.mel) for start, p in zip(starts, phrases, strict=True)]
        frames = max(stops)
        if self.accompaniment is not None:
            frames = max(frames, -(-len(self.accompaniment) // inpainter.hop))
        draft = torch.full((frames, inpainter.bands), inpainter.silence)
        symbols, pitch = (torch.zeros(frames, dtype=torch.int64) for _ in range(2))
        for phrase, start, stop in zip(phrases, starts, stops, strict=True):
            assert phrase.pitch is not None, "a sung phrase has notes"
            draft[start:stop], symbols[start:stop] = phrase.mel, phrase.symbols
            pitch[start:stop] = phrase.pitch
        tracks = MelTracks(draft, inpainter.own_ids(symbols, self.table), pitch)
        ranges = merge_ranges(list(zip(starts, stops, strict=True)), frames, 1)
        if self.parts is not None:
            ranges = overlaps(ranges, self.parts)
        made = inpainter(tracks, frames, self.accompaniment, self.vocal, ranges, self.seed)
        self.made = made
        return [
            replace(phrase, mel=made.mel[start:stop])
            for phrase, start, stop in zip(phrases, starts, stops, strict=True)
        ]


def overlaps(first: Sequence[Range], second: Sequence[Range]) -> list[Range]:
    """Return what lies both in a range of the first and in one of the second."""
    both = [(max(a, c), min(b, d)) for a, b in first for c, d in second]
    return sorted((start, stop) for start, stop in both if start < stop)


def frame_mask(ranges: Sequence[Range], num_frames: int) -> Tensor:
    """Return which frames (T,) bool lie in ranges."""
    mask = torch.zeros(num_frames, dtype=torch.bool)
    for start, stop in ranges:
        mask[start:stop] = True
    return mask


def frames_touching(
    ranges: Sequence[Range], hop_length: int, win_length: int, num_frames: int
) -> list[Range]:
    """Return the frames whose windows reach into ranges of samples: none of the others hears them.

    Frame t is centred on sample t·hop.
    """
    half = win_length // 2
    touching = [
        (
            max(0, (start - half) // hop_length + 1),
            min(num_frames, -(-(stop + half) // hop_length)),
        )
        for start, stop in ranges
    ]
    return merge_ranges([part for part in touching if part[0] < part[1]], num_frames, 1)
