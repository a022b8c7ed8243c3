"""Ids, splits and the adaptor of LJ Speech's layout."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora.ljspeech import read_ljspeech
from corpora.records import Split, id_fault, read_index
from utils import files


@pytest.mark.parametrize("id", ["LJ001-0001", "a b", "Ärger_2", "song (live), take 2"])
def test_plain_names_are_ids(id: str) -> None:
    assert id_fault(id) is None


@pytest.mark.parametrize(
    "id",
    ["", "../x", "a/b", "a\\b", ".hidden", "..", "/etc/passwd", "a\0b", "a\nb", " a", "x" * 201],
)
def test_paths_and_odd_names_are_not(id: str) -> None:
    assert id_fault(id)


@given(st.lists(st.text(min_size=1), unique=True, min_size=1), st.integers(0, 5))
def test_an_item_stays_in_its_split_whatever_else_is_there(ids: list[str], seed: int) -> None:
    split = Split(seed, 0.3, 0.3)
    assert [split.of(id) for id in ids] == [Split(seed, 0.3, 0.3).of(id) for id in ids]


def test_shares_are_met_and_the_seed_matters() -> None:
    ids = [f"item-{number}" for number in range(4000)]
    splits = [Split(1, 0.1, 0.2).of(id) for id in ids]
    assert splits.count("validation") / 4000 == pytest.approx(0.1, abs=0.02)
    assert splits.count("test") / 4000 == pytest.approx(0.2, abs=0.02)
    assert splits != [Split(2, 0.1, 0.2).of(id) for id in ids]


def test_a_larger_validation_share_never_takes_from_test() -> None:
    ids = [f"item-{number}" for number in range(500)]
    for id in ids:
        if Split(0, 0.1, 0.1).of(id) == "test":
            assert Split(0, 0.3, 0.1).of(id) == "test"


@pytest.mark.parametrize("shares", [(-0.1, 0.1), (0.5, 0.5), (0.9, 0.4)])
def test_shares_that_leave_nothing_to_train_on_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="leaves something to train on"):
        Split(0, *shares)


def test_every_faulty_row_is_reported_and_the_good_ones_are_read(tmp_path: Path) -> None:
    (tmp_path / "wavs").mkdir()
    for name in (
        "good.wav",
        "bom.wav",
        "crlf.wav",
        "other.flac",
        "few.wav",
        "latin.wav",
        "mute.wav",
    ):
        (tmp_path / "wavs" / name).write_bytes(b"")
    rows = [
        b"\xef\xbb\xbfbom|first row|first row\n",
        b"good|Dr. No|doctor no\n",
        b"crlf|one|one\r\n",
        b"\n",
        b"other|only raw text|\n",
        b"good|again|again\n",
        b"few|one|two|columns\n",
        b"../x|path|path\n",
        b"gone|no recording|no recording\n",
        b"latin|caf\xe9|caf\xe9\n",
        b"mute||\n",
        b"|no id|no id",
    ]
    (tmp_path / "metadata.csv").write_bytes(b"".join(rows))
    utterances, rejections = read_ljspeech(tmp_path)
    assert [(u.id, u.normalised, u.row) for u in utterances] == [
        ("bom", "first row", 1),
        ("good", "doctor no", 2),
        ("crlf", "one", 3),
        ("other", "only raw text", 5),
    ]
    assert utterances[1].text == "Dr. No"
    assert utterances[3].wav_path.name == "other.flac"
    reasons = {(r.id, r.reason) for r in rejections}
    assert reasons == {
        ("good", "metadata.csv row 6: the id stands already in row 2"),
        ("few", "metadata.csv row 7: 4 columns, expected 3 (id|text|normalised) or 2 (id|text)"),
        ("../x", "metadata.csv row 8: the id is a path; expected a plain name"),
        ("gone", "metadata.csv row 9: no recording wavs/gone.wav"),
        ("latin", "metadata.csv row 10: the text is not UTF-8"),
        ("mute", "metadata.csv row 11: the text is empty"),
        ("", "metadata.csv row 12: the id is empty"),
    }


def test_tables_as_people_write_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Suffixes in capitals, ids with folder and suffix, two columns with a remark."""
    (tmp_path / "wavs").mkdir()
    for name in ("a.WAV", "b.wav", "v1.2.Flac", "c.Mp3"):
        (tmp_path / "wavs" / name).write_bytes(b"")
    rows = "a|Mr. A|mister a\nb.wav|Mr. B\nwavs/v1.2.flac|C|c\n./wavs/c.MP3|D\nnone.wav|E\n"
    (tmp_path / "metadata.csv").write_text(rows)
    utterances, rejections = read_ljspeech(tmp_path)
    assert [(u.id, u.wav_path.name, u.normalised) for u in utterances] == [
        ("a", "a.WAV", "mister a"),
        ("b", "b.wav", "Mr. B"),
        ("v1.2", "v1.2.Flac", "c"),
        ("c", "c.Mp3", "D"),
    ]
    assert [(r.id, r.reason) for r in rejections] == [
        ("none", "metadata.csv row 5: no recording wavs/none.wav")
    ]
    assert "2 rows of two columns" in caplog.text


def test_a_folder_of_another_layout_is_described(tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    with pytest.raises(FileNotFoundError, match=r"expected metadata\.csv .* found audio"):
        read_ljspeech(tmp_path)
    with pytest.raises(FileNotFoundError, match="found nothing"):
        read_ljspeech(tmp_path / "absent")


def test_an_index_that_is_missing_damaged_or_of_another_version_says_what_to_do(
    tmp_path: Path,
) -> None:
    files.write_bytes(tmp_path / "index.json", b"{}")
    with pytest.raises(FileNotFoundError, match=r"prepare_data\.py ljspeech DIR --name other"):
        read_index(tmp_path / "other")
    with pytest.raises(ValueError, match="not an index of prepared features"):
        read_index(tmp_path)
    files.write_json(tmp_path / "index.json", {"version": 99, "kind": "speech"})
    with pytest.raises(ValueError, match="version 99"):
        read_index(tmp_path)
