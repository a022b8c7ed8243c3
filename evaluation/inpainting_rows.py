"""The rows of `evaluate.py inpainting`: how a vocal is made anew, and which pairs are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyperparams import Hyperparams, UNet

WALK = {"draft_steps": 0}  # as many noise levels as without a draft
REPAINT = {
    **WALK,
    "method": "repaint",
    "step": "dpm2_ancestral",
    "num_steps": 40,
    "num_resamples": 5,
}
REPAINT_EQUAL = {"method": "repaint", "step": "euler", "num_steps": 6, "num_resamples": 4}
GAP = (0.3, 0.7)  # share of a window
REFINE = {"strength": 0.5, "draft_share": 0.0}  # the last half of the schedule, on the waveform
PARTS = {"": (0.0, 1.0), "gap_": GAP}  # prefix of a row's name → what of the window is judged
FLOORS = ("silence", "other_vocal")


@dataclass(frozen=True)
class InpaintingRow:
    """One way to make a part of a vocal anew; `changes` of the checkpoint's sampling knobs."""

    note: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    unknown: tuple[float, float] = (0.0, 1.0)  # share of the window
    draft: bool = False  # condition on a draft made of the true vocal
    own: bool = True  # its own accompaniment, or another song's
    diffuse: bool = True  # False: the draft itself, through PostNet and Griffin-Lim
    start: bool = False  # begin at that waveform, at the noise of `strength`

    def is_possible(self, hp: Hyperparams) -> bool:
        """Return whether a network of these hyperparameters can do it."""
        method = self.changes.get("method", hp.inpainting.method)
        sees = hp.unet.mask_input or method != "conditional"
        return sees and (bool(hp.unet.context_width) or not self.draft)

    def needs_waveform(self, unet: UNet) -> bool:
        """Return whether it needs the waveform of a draft, which takes a PostNet."""
        return self.start or not self.diffuse or (self.draft and unet.draft_input)


_WHOLE = {
    "default": InpaintingRow("all of the vocal, from the accompaniment"),
    "repaint": InpaintingRow("the same by RePaint 40×5, between the same levels", REPAINT),
    "shuffled": InpaintingRow("the same from another song's accompaniment", own=False),
}
_DRAFTED = {
    "draft": InpaintingRow("all of the vocal, from accompaniment and draft"),
    "draft_unmixed": InpaintingRow("without the draft's own waveform", {"draft_share": 0.0}),
    "draft_walked": InpaintingRow("by as many levels as without a draft", WALK),
    "draft_repaint": InpaintingRow("by RePaint 40×5", REPAINT),
    "draft_shuffled": InpaintingRow("from another accompaniment and the draft", own=False),
    "draft_griffin_lim": InpaintingRow("the draft by PostNet, Griffin-Lim", diffuse=False),
    "draft_refined": InpaintingRow("from Griffin-Lim's, half the schedule", REFINE, start=True),
}
_GAP = {
    "gap": InpaintingRow("a gap in the vocal, from what is around it"),
    "gap_repaint": InpaintingRow("the same by RePaint 40×5", REPAINT),
    "gap_replacement": InpaintingRow("by replacement", {"method": "replacement"}),
    "gap_repaint_equal": InpaintingRow("by RePaint, evaluations as the default", REPAINT_EQUAL),
    "gap_mcg": InpaintingRow("by manifold-constrained gradient", {"method": "mcg"}),
    "gap_guided": InpaintingRow("by reconstruction guidance", {"method": "guided"}),
}
INPAINTING_ROWS = {
    **_WHOLE,
    **{name: replace(row, draft=True) for name, row in _DRAFTED.items()},
    **{name: replace(row, unknown=GAP) for name, row in _GAP.items()},
}
DEFAULT_ROWS = (
    *("default", "repaint", "shuffled", "draft", "draft_repaint", "draft_shuffled"),
    *("gap", "gap_repaint"),
)
# Pairs of rows of which the second should be farther from the truth, and what that would mean.
CONTROLS = (
    ("default", "shuffled", "the accompaniment is listened to"),
    ("draft", "draft_shuffled", "the accompaniment is listened to beside a draft"),
    ("draft", "default", "a draft helps"),
    ("draft", "draft_unmixed", "a share of the draft's own waveform brings it nearer"),
    ("draft", "draft_walked", "with a draft few levels are enough"),
    ("draft", "draft_repaint", "the default beats the earlier default with a draft"),
    ("draft", "draft_griffin_lim", "the inpainter beats Griffin-Lim as the last stage"),
    ("draft_refined", "draft_griffin_lim", "refining Griffin-Lim's waveform brings it nearer"),
    ("default", "repaint", "the default beats the earlier default"),
    ("gap", "gap_repaint", "the default beats the earlier default in a gap"),
    ("gap", "gap_repaint_equal", "it does with as many evaluations"),
    ("gap", "gap_replacement", "it beats replacement"),
    ("gap", "gap_mcg", "it beats the manifold-constrained gradient"),
    ("gap", "gap_guided", "it beats reconstruction guidance"),
    ("default", "other_vocal", "it beats another vocal"),
)


def choose_rows(names: list[str] | None, hp: Hyperparams, network: str) -> list[str]:
    """Resolve `--rows`: names, `all` that are possible, or None for the default ones.

    Raises ValueError for an unknown name, or one that the network cannot do.
    """
    possible = [name for name, row in INPAINTING_ROWS.items() if row.is_possible(hp)]
    if names is None:
        return [name for name in DEFAULT_ROWS if name in possible]
    if names == ["all"]:
        return possible
    if unknown := sorted(set(names) - set(INPAINTING_ROWS)):
        raise ValueError(
            f"--rows {' '.join(unknown)}: choose from {', '.join(INPAINTING_ROWS)}, all"
        )
    if impossible := sorted(set(names) - set(possible)):
        raise ValueError(
            f"--rows {' '.join(impossible)}: {network} takes no context or sees no mask; it can do "
            f"{', '.join(possible)}"
        )
    return names


def whole_rows(names: list[str]) -> list[str]:
    """Return the rows that make all of a window anew, the floors first."""
    return [*FLOORS, *(name for name in names if INPAINTING_ROWS[name].unknown == PARTS[""])]
