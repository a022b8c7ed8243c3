"""Drafts: which lines are sung where, and what is read at each frame."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_chain import rendered_phrase

from singing.inpaint import draft_track, symbol_track
from singing.spoken import lines_within, place_spoken
from singing.voice import RenderedPhrase, frame_symbols
from text.lyrics import parse_lyrics

HOP, FRAME_RATE = 100, 10.0  # a frame is 0.1 s


def line(frames: int, start: float | None = None, number: int = 1) -> RenderedPhrase:
    """A line that sounds like its number, and reads a symbol of that number at each frame."""
    wav = torch.full((frames * HOP,), float(number))
    return rendered_phrase(wav, torch.full((frames + 1,), number), None, number, start)


def place(lines: list[RenderedPhrase], regions: list[tuple[float, float]]) -> list[int]:
    return [p.frame for p in place_spoken(lines, regions, FRAME_RATE, HOP, 0.2)]


def test_lines_without_times_have_equal_rests() -> None:
    assert place([line(10), line(20)], [(0.0, 6.0)]) == [10, 30]
    assert place([line(10)], [(0.0, 1.0)]) == [0]


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    widths=st.lists(st.integers(1, 60), min_size=1, max_size=4),
)
def test_lines_stay_in_their_regions_in_order_and_apart(
    lengths: list[int], widths: list[int]
) -> None:
    regions, position = [], 0
    for width in widths:
        regions.append((position / FRAME_RATE, (position + width) / FRAME_RATE))
        position += width + 7
    lines = [line(n) for n in lengths]
    try:
        frames = place(lines, regions)
    except ValueError as error:
        assert "does not fit" in str(error)
        # Never when one region alone would hold them all.
        assert sum(lengths) > max(widths)
        return
    ends = [frame + n for frame, n in zip(frames, lengths, strict=True)]
    assert all(end <= start for end, start in zip(ends, frames[1:], strict=False))
    for frame, end in zip(frames, ends, strict=True):
        assert any(
            a * FRAME_RATE - 1e-6 <= frame and end <= b * FRAME_RATE + 1e-6 for a, b in regions
        )


def test_times_are_kept_and_a_long_line_delays_the_next() -> None:
    lines = [line(10, 1.0, 1), line(10, 1.5, 2), line(5, None, 3), line(5, 6.0, 4)]
    placed = place_spoken(lines, [(0.0, 10.0)], FRAME_RATE, HOP, 0.2)
    assert [p.frame for p in placed] == [10, 20, 32, 60]
    assert [p.late for p in placed] == [0, 5, 0, 0]


def test_drafts_longer_than_the_song_are_refused() -> None:
    with pytest.raises(ValueError, match=r"draft of 2 lines lasts 4.00 s .* fit into 3.00 s"):
        place([line(20), line(20)], [(0.0, 3.0)])
    with pytest.raises(ValueError, match=r"line 7 would sound from 2.00 to 4.00 s"):
        place([line(20, 2.0, 7)], [(0.0, 3.0)])


def test_only_the_lines_of_the_parts_are_sung() -> None:
    lyrics = parse_lyrics("[00:01.00]one\nstill one\n[00:05.00]two\n[00:09.00]three")
    kept = lines_within(lyrics, [(4.0, 6.0)], 10.0)
    assert [lyric.text for lyric in kept] == ["two"]
    kept = lines_within(lyrics, [(0.0, 2.0)], 10.0)
    assert [lyric.text for lyric in kept] == ["one", "still one"]
    with pytest.raises(ValueError, match="no line of the lyrics starts within 6-7 s"):
        lines_within(lyrics, [(6.0, 7.0)], 10.0)
    with pytest.raises(ValueError, match=r"line 4 starts at 9.00 s, but the song ends at 8.00 s"):
        lines_within(lyrics, [(0.0, 8.0)], 8.0)
    plain = parse_lyrics("one\ntwo")
    assert lines_within(plain, [(0.0, 0.1)], 1.0) == plain


def test_tracks_put_sound_and_symbols_at_the_same_frames() -> None:
    placed = place_spoken([line(3, 0.5, 4), line(2, 1.0, 5)], [(0.0, 2.0)], FRAME_RATE, HOP, 0.2)
    wav = draft_track(placed, 1950, HOP)
    symbols = symbol_track(placed, 20)
    assert len(wav) == 1950
    heard = [int(wav[t * HOP + 50]) if t < 19 else 0 for t in range(20)]
    assert heard[5:8] == [4, 4, 4] == symbols[5:8].tolist()
    assert heard[10:12] == [5, 5] == symbols[10:12].tolist()
    assert not any(heard[:5]) and not symbols[:5].any()


def test_the_symbol_of_a_frame_is_the_one_attended_to() -> None:
    alignment = torch.eye(4)[[0, 0, 2, 3]]
    assert frame_symbols(alignment, [9, 8, 7, 6], 2, 7).tolist() == [9, 9, 9, 9, 7, 7, 6]
