"""The hyperparameters of the tests, for code (TINY) and for command lines (TINY_FLAGS)."""

from __future__ import annotations

from pathlib import Path

from utils import config

FILE = Path(__file__).with_name("tiny.yaml")
TINY = config.build("base", FILE, (), config.presets())
TINY_FLAGS = ("--config", str(FILE))
