"""The hyperparameters of the tests, for code (TINY) and for command lines (TINY_FLAGS)."""

from __future__ import annotations

from pathlib import Path

from utils import config

FILE = Path(__file__).with_name("tiny.yaml")
TINY = config.build("base", FILE, (), config.presets())
TINY_FLAGS = ("--config", str(FILE))
PUBLISHED_TRANSCRIBER = {  # as a checkpoint of the earlier project describes its network
    "sample_rate": 16000,
    "win_length": 512,
    "hop_length": 320,
    "n_mels": 20,
    "fmin": 30,
    "fmax": 8000,
    "model_complexity": 1,
    "pitch_sum": "median",
    "onset_threshold": 0.4,
    "offset_threshold": 0.2,
    "lang_model_config": {
        "sample_rate": 16000,
        "win_length": 1024,
        "hop_length": 320,
        "n_mels": 24,
        "fmin": 0,
        "fmax": 8000,
        "model_complexity": 2,
        "num_lbl": 40,
    },
}
