"""Does the inpainter use the accompaniment? The loss with its own, and with another song's.

The vocal, all unknown, is denoised from both with the same noise; no sampling blurs the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from corpora.records import song_of
from evaluation import statistics
from evaluation.statistics import PairedTest
from inpainter.diffusion import bin_medians, denoising_loss, vocal_unknown
from inpainter.sampling import ItemNoise
from utils.files import Journal
from utils.loading import Loaded, denoiser_of
from utils.seeds import torch_generator

if TYPE_CHECKING:
    from inpainter.context import Context
    from preprocess import StemBatch

KINDS = {"alone": "the accompaniment alone", "draft": "the accompaniment beside a draft"}
ALL = "all"  # the mean over the levels


class ShuffleJudge:
    """Measure the losses of held-out windows by kind and noise level, own and other."""

    def __init__(
        self,
        loaded: Loaded,
        batches: Sequence[StemBatch],
        seed: int,
        context_of: Callable[[StemBatch, int], Context] | None,
    ) -> None:
        """Take the noise levels of validation; context_of(batch, first window): drafts or None."""
        self.loaded, self.batches, self.seed = loaded, batches, seed
        self.context_of = context_of
        self.device = next(loaded.network.parameters()).device
        d = loaded.hyperparams.diffusion
        self.levels = bin_medians(d.p_mean, d.p_std, d.loss_bins)  # as training validates

    @torch.no_grad()
    def judge(self, number: str) -> dict[str, Any]:
        """Measure a batch: kind → level → (own, other) losses of its windows."""
        batch = self.batches[int(number)].to(self.device)
        first = sum(len(before.ids) for before in self.batches[: int(number)])
        denoiser = denoiser_of(self.loaded.network, self.loaded.hyperparams)
        generators = [torch_generator(self.seed, first + row, 2) for row in range(len(batch.ids))]
        noise = ItemNoise(generators, batch.wav)()
        is_known = vocal_unknown(batch.wav)
        contexts: dict[str, Context | None] = {"alone": None}
        if self.context_of is not None:
            contexts["draft"] = self.context_of(batch, first)
        losses: dict[str, dict[str, list[list[float]]]] = {}
        for kind, context in contexts.items():
            losses[kind] = {}
            for level in self.levels:
                sigma = torch.full((len(batch.ids),), level, device=self.device)
                pair = []
                for x in (batch.wav, batch.shuffled()):
                    sums, counts = denoising_loss(denoiser, x, sigma, noise, is_known, context)
                    pair.append((sums / counts).tolist())
                losses[kind][f"{level:.3g}"] = pair
        return {"songs": [song_of(id) for id in batch.ids], "losses": losses}


def shuffle_control(
    loaded: Loaded,
    batches: Sequence[StemBatch],
    seed: int,
    context_of: Callable[[StemBatch, int], Context] | None,
    settings: Mapping[str, Any],
    out: Path,
) -> tuple[dict[str, Any], list[str]]:
    """Run the control; return its tests as plain values, and one line per kind.

    Interrupted, it continues from shuffle.jsonl in `out`; settings: what else decides the numbers.
    """
    judge = ShuffleJudge(loaded, batches, seed, context_of)
    ids = [batch.ids for batch in batches]
    journal = Journal(out / "shuffle.jsonl", {**settings, "windows": ids})
    records = journal.complete(map(str, range(len(batches))), judge.judge, "batch")
    found = shuffle_tests(records)
    plain = {
        kind: {level: test.as_dict() for level, test in tests.items()}
        for kind, tests in found.items()
    }
    return plain, lines(found, sum(map(len, ids)))


def shuffle_tests(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, PairedTest]]:
    """Test (other − own) over songs: kind → noise level or ALL → paired test."""
    songs = [song for record in records for song in record["songs"]]
    found: dict[str, dict[str, PairedTest]] = {}
    for kind, levels in records[0]["losses"].items():
        pairs = {
            level: [
                [loss for record in records for loss in record["losses"][kind][level][which]]
                for which in (1, 0)
            ]
            for level in levels
        }
        pairs[ALL] = [
            [sum(values) / len(values) for values in zip(*parts, strict=True)]
            for parts in zip(*pairs.values(), strict=True)
        ]
        found[kind] = {
            level: statistics.paired_test(other, own, songs)
            for level, (other, own) in pairs.items()
        }
    return found


def lines(found: Mapping[str, Mapping[str, PairedTest]], windows: int) -> list[str]:
    """Lay out the tests, one line per kind."""
    shown = []
    for kind, tests in found.items():
        by_level = ", ".join(
            f"σ {level}: {part.difference.value:+.4f}"
            for level, part in tests.items()
            if level != ALL
        )
        shown.append(
            f"shuffle control of the loss, {KINDS[kind]}, {windows} windows: "
            f"other - own {tests[ALL]} ({by_level})"
        )
    return shown
