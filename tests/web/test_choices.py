"""The request of a choice is the one that synthesis.py makes of the command that is shown."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as limits
from hypothesis import strategies as st

import synthesis
from web.choices import (
    LEXICON,
    LYRICS,
    PLAN,
    Again,
    Choice,
    RenderOptions,
    SessionFiles,
    shell_arguments,
    shell_command,
    song_request,
)

RUNS = {
    kind: {"demo": Path(f"save/demo/{kind}.pt"), "mine": Path("mine")}
    for kind in ("transformer", "postnet", "inpainter")
}
RUNS["postnet"]["source"] = Path("save/demo/source.pt")
RUNS["mel_inpainter"] = {"demo": Path("save/demo/mel_inpainter.pt")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session's folder, from which the command would be run."""
    folder = tmp_path_factory.mktemp("session")
    (folder / LYRICS).write_text("la la\nla")
    (folder / LEXICON).write_text("la  L AA1\n")
    for name in (PLAN, "my song.wav", "a tune.mid", "vocal.wav"):
        (folder / name).write_bytes(b"")
    (folder / "save" / "demo").mkdir(parents=True)
    for name in ("inpainter", "mel_inpainter"):  # else there is none by default
        (folder / "save" / "demo" / f"{name}.pt").write_bytes(b"")
    return folder


choices = st.builds(
    Choice,
    lyrics=st.sampled_from(("la la\nla", "")),
    melody=st.sampled_from(("compose", "file", "none")),
    transpose=st.integers(-12, 12),
    tempo=st.none() | st.sampled_from(("auto", "90")),
    seed=st.just(0),
)
manners = st.builds(
    RenderOptions,
    quality=st.sampled_from(("standard", "draft", "best")),
    seed=st.integers(0, 99),
    transformer=st.sampled_from(("demo", "mine")),
    inpainter=st.sampled_from(("demo", "mine", "none")),
    mel_inpainter=st.sampled_from(("demo", "none")),
)


@limits(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    choice=choices,
    manner=manners,
    planned=st.booleans(),
    again=st.booleans(),
    has_song=st.booleans(),
    span=st.none() | st.tuples(st.integers(40, 60), st.integers(61, 90)),
    density=st.none() | st.floats(0.5, 4.0),
    chords=st.none() | st.just("C | Am | F G"),
)
@example(  # notes that the inpainter on mels finds are sung, too
    choice=Choice(lyrics="", melody="none"),
    manner=RenderOptions(),
    planned=False,
    again=False,
    has_song=True,
    span=None,
    density=None,
    chords=None,
)
def test_the_command_makes_the_request(
    folder: Path,
    choice: Choice,
    manner: RenderOptions,
    planned: bool,
    again: bool,
    has_song: bool,
    span: tuple[int, int] | None,
    density: float | None,
    chords: str | None,
) -> None:
    if choice.melody == "compose" and has_song:
        low, high = span or (None, None)
        choice = replace(choice, low=low, high=high, density=density, chords=chords)
    before = Path.cwd()
    os.chdir(folder)
    try:
        files = SessionFiles(Path(), Path("my song.wav") if has_song else None, Path("a tune.mid"))
        part = Again(1, Path("vocal.wav"), ((1.0, 2.5), (3.0, 4.0)), "la" if planned else None)
        rest = (choice, manner, files, RUNS)
        asked = {"planned": planned, "again": part if again else None}
        faults, made = [], []
        for make in (
            lambda: song_request(*rest, Path("out/song"), **asked),
            lambda: synthesis.request_from(
                synthesis.parse_arguments(shell_arguments(*rest, "out/song", **asked))
            ),
        ):
            try:
                made.append(make())
            except ValueError as error:
                faults.append(str(error))
        assert len(made) in (0, 2), (made, faults)
        if made:
            page, shell = (replace(one, lexicon=None) for one in made)
            assert list(page.lyrics or ()) == list(shell.lyrics or ())
            assert replace(page, lyrics=shell.lyrics) == shell
            assert made[0].lexicon == made[1].lexicon == Path(LEXICON)
    finally:
        os.chdir(before)


def test_a_command_is_quoted() -> None:
    assert shell_command(["--lyrics", "a'b; rm -rf x"]).endswith("""'a'"'"'b; rm -rf x'""")
