"""The one table: ratios to the ceiling, medians over all values, and what was not measured."""

from __future__ import annotations

import pytest

from evaluation import table as evaluation_table
from evaluation.table import METRICS

ROWS = ("ceiling", "made", "floor")


def record(song: str, **rows: dict[str, object]) -> dict[str, object]:
    return {"song": song, "rows": rows}


RECORDS = [
    record(
        "a",
        ceiling={"pitch_accuracy": 0.8, "level_difference": 0.0, "onset_deviation": [0.01]},
        made={"pitch_accuracy": 0.4, "level_difference": -2.0, "onset_deviation": [0.1, -0.3]},
        floor={"pitch_accuracy": 0.0},
    ),
    record(
        "b",
        ceiling={"pitch_accuracy": 1.0, "level_difference": 0.0, "onset_deviation": []},
        made={"pitch_accuracy": 0.5, "level_difference": 4.0, "onset_deviation": [0.2]},
        floor={"pitch_accuracy": None},
    ),
]


def test_values_ratios_and_medians() -> None:
    found = evaluation_table.estimates(RECORDS, ROWS, "ceiling")
    assert found["pitch_accuracy"]["made"]["value"].value == pytest.approx(45)
    ratio = found["pitch_accuracy"]["made"]["ratio"]
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((0.5, 0.5, 0.5))
    assert "ratio" not in found["pitch_accuracy"]["ceiling"]
    assert found["pitch_accuracy"]["floor"]["value"].count == 1
    assert found["level_difference"]["made"]["value"].value == pytest.approx(3)
    assert found["onset_deviation"]["made"]["value"].value == pytest.approx(200)
    assert found["mcd"] == {}
    assert evaluation_table.plain(found)["onset_deviation"]["made"]["value"]["count"] == 3


def test_errors_are_weighed_by_what_can_be_wrong() -> None:
    """A phrase of one word that is missed is one word of ten, not half of the phrases."""
    pairs = {"a": (1, 1), "b": (0, 9), "c": None}
    records = [record(song, made={"word_errors": pair}) for song, pair in pairs.items()]
    rate = evaluation_table.estimates(records, ("made",), "ceiling")["word_errors"]["made"]["value"]
    assert rate.value == pytest.approx(10) and rate.count == 2


def test_no_metric_disappears_without_a_word() -> None:
    found = evaluation_table.estimates(RECORDS, ROWS, "ceiling")
    missing = {"transcriber": "train one", "accompaniment": "none"}
    cells = evaluation_table.cells(found, ROWS, "made", missing)
    lines = evaluation_table.layout(cells)
    assert lines[0].split() == ["ceiling", "made", "floor", "made", "/", "ceiling"]
    text = "\n".join(lines)
    needy = [metric.title for metric in METRICS.values() if "transcriber" in metric.needs]
    assert all(title in text for title in needy)
    assert text.count("not measured: train one") == len(
        [metric for metric in METRICS.values() if metric.needs.startswith("transcriber")]
    )
    assert "45.0 [40.0, 50.0]" in text and "0.500 [0.500, 0.500]" in text


def test_shuffle_control_compares_the_same_items() -> None:
    records = [
        record(str(k), made={"chord_tones": 0.8 + k / 100, "chord_tones_shuffled": 0.5})
        for k in range(12)
    ]
    found = evaluation_table.shuffle_controls(records, "made")
    assert found["chord_tones"].difference.value == pytest.approx(0.355)
    assert found["chord_tones"].p_value < 0.01
    assert "beat_deviation" not in found
    assert evaluation_table.shuffle_controls(RECORDS, "made") == {}


def test_a_metric_of_nothing_but_nan_is_not_a_row_of_numbers() -> None:
    records = [record("a", made={"mcd": None, "lsd": 3.0})]
    found = evaluation_table.estimates(records, ("made",), "ceiling")
    cells = {line[0]: line for line in evaluation_table.cells(found, ("made",), "made", {})}
    assert cells["mel-cepstral distortion (dB)"][1].startswith("not measured")
    assert cells["log-spectral distance (dB)"][1] == "3.00 [3.00, 3.00]"
    assert "nan" not in str(cells)


def test_one_is_not_many() -> None:
    assert evaluation_table.counted(1, "recording") == "1 recording"
    assert evaluation_table.counted(0, "song") == "0 songs"
