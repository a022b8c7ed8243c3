"""Pictures of a transcription hold what was heard; silence and nothing can be drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from transcription.note_decoding import TranscribedNote
from transcription.pictures import transcription_picture
from transcription.transcribe import Transcribed
from utils.plotting import figure_to_image


def heard(frames: int, notes: list[TranscribedNote]) -> Transcribed:
    phoneme = torch.zeros(frames, 39)
    phoneme[:, 38] = 1.0
    return Transcribed(phoneme, torch.zeros(frames, 3), torch.zeros(frames), notes, 0.02)


@pytest.mark.parametrize("frames", [1, 100])
def test_silence_is_drawn(frames: int) -> None:
    image = figure_to_image(transcription_picture(heard(frames, [])))
    assert image.shape[0] == 3 and image.std() > 0


def test_notes_heard_and_notes_of_the_score_are_bars() -> None:
    notes = [TranscribedNote(0.1, 0.5, 60.0), TranscribedNote(0.5, 1.0, 62.0)]
    classes = np.full(100, 38)
    classes[5:20] = 3
    figure = transcription_picture(heard(100, notes), classes, [(0.1, 0.6, 60)], "a title")
    upper, lower = figure.axes
    assert upper.get_title() == "a title" and lower.get_xlabel() == "seconds"
    bars = [(patch.get_x(), patch.get_y(), patch.get_width()) for patch in lower.patches]
    assert np.allclose(bars, [(0.1, 59.5, 0.5), (0.1, 59.5, 0.4), (0.5, 61.5, 0.5)])
    low, high = lower.get_ylim()
    assert low <= 58 and high >= 64
    (line,) = upper.lines
    assert np.nanmax(line.get_ydata()) == 3 and np.isnan(line.get_ydata()).sum() == 85
