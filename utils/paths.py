"""Folders of a checkout that several scripts name."""

from __future__ import annotations

from pathlib import Path

SAVE = Path("save")  # runs, save/KIND/RUN
DEMO = SAVE / "demo"  # weights that come with the repository
LEGACY_AUDIO = Path("feature/inpainting/mackenzie_unet_diffusion_inpainter_audio")  # if put there
