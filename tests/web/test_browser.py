"""The page in a real browser: planned, changed by dragging, sung, a part sung again, compared.

Skips by name where there is no playwright or no chromium (Debian: apt-get install chromium).
With PAGE_PICTURES=DIR every state is kept there as a picture; that is how png/web.png is made.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
from page_client import ROOT, PageClient
from tiny_chain import integers, write

playwright = pytest.importorskip(
    "playwright.sync_api", reason="no playwright: pip install playwright"
)
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
pytestmark = [
    pytest.mark.usefixtures("no_picture"),
    pytest.mark.skipif(BROWSER is None, reason="no browser: apt-get install chromium"),
]
PICTURES = os.environ.get("PAGE_PICTURES")
PLAN_SECONDS = 3.0  # of processor time, from the analysed song to its plan on the page
WORDS = "come home to me\nthe night is long"


class Window:
    """A page of the browser, and what a person does with it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.faults: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("requestfailed", self._failed)
        page.on(
            "console",
            lambda line: self.faults.append(line.text) if line.type == "error" else None,
        )

    def _failed(self, request: Any) -> None:
        """Note a request without an answer, unless a reload of the page ended it."""
        if request.failure != "net::ERR_ABORTED":
            self.faults.append(f"failed: {request.url}: {request.failure}")

    def until(self, expression: str, seconds: float = 60.0) -> float:
        """Wait until JavaScript is true; return the seconds that it took."""
        began = time.perf_counter()
        while not self.page.evaluate(expression):
            said = self.page.text_content("#message")
            assert time.perf_counter() - began < seconds and not said, (expression, said)
            time.sleep(0.02)
        return time.perf_counter() - began

    def drag(self, x: float, y: float, to_x: float, to_y: float) -> None:
        mouse = self.page.mouse
        mouse.move(x, y)
        mouse.down()
        mouse.move((x + to_x) / 2, (y + to_y) / 2)
        mouse.move(to_x, to_y)
        mouse.up()

    def picture(self, name: str) -> None:
        if PICTURES:
            self.page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)


@pytest.fixture
def window(serve: Callable[..., PageClient]) -> Iterator[Window]:
    client = serve()
    with playwright.sync_playwright() as driver:
        # Without its sandbox: root has none, as in containers.
        browser = driver.chromium.launch(
            executable_path=BROWSER,
            args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"],
        )
        page = browser.new_page(viewport={"width": 1000, "height": 1400}, accept_downloads=True)
        page.goto(f"http://127.0.0.1:{client.port}/")
        window = Window(page)
        window.until("document.body.dataset.ready === 'true'")
        yield window
        browser.close()
    assert not window.faults


@pytest.fixture
def song(tmp_path: Path) -> Path:
    wav, rate = soundfile.read(ROOT / "examples" / "evening-sun.ogg", frames=6 * 22050)
    return write(tmp_path / "song.wav", wav, rate)


def downloaded(window: Window, selector: str, folder: Path) -> Path:
    with window.page.expect_download() as download:
        window.page.click(selector)
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_plan_drag_sing_and_sing_again(window: Window, song: Path, tmp_path: Path) -> None:
    page = window.page
    window.picture("0-empty")
    page.fill("#lyrics", WORDS + "\nzyxqua")
    page.set_input_files("#accompaniment", song)
    window.until("document.querySelectorAll('#strip span').length > 1")
    window.until("document.querySelectorAll('#words .guessed').length === 1")
    assert page.text_content("#syllables").endswith("in 3 lines")
    assert page.text_content("#words .guessed") == "zyxqua"
    page.fill("#lyrics", WORDS)
    window.until("document.querySelectorAll('#words .guessed').length === 0")
    window.picture("1-words")

    began = time.process_time()  # the server runs in this process
    page.click("#compose")
    window.until("toplainer.state.plan !== null")
    assert time.process_time() - began < PLAN_SECONDS
    notes = page.evaluate("toplainer.state.plan.notes")
    assert [n["text"] for n in notes if n["text"]][:4] == ["come", "home", "to", "me"]
    window.picture("2-plan")

    # The second note goes five semitones up and one beat's quarter later.
    box = page.evaluate("toplainer.roll.box(1)")
    x, y = box["left"] + min(8, box["width"] / 3), box["top"] + box["row"] / 2
    window.drag(x, y, x, y - 5 * box["row"])
    window.until("toplainer.state.plan.is_edited")
    changed = page.evaluate("toplainer.state.plan.notes")
    assert changed[1]["pitch"] == notes[1]["pitch"] + 5
    assert abs(changed[1]["onset"] - notes[1]["onset"]) < 2e-3
    assert [n["pitch"] for n in changed[2:]] == [n["pitch"] for n in notes[2:]]
    # Another word under the third, by a double click.
    box = page.evaluate("toplainer.roll.box(2)")
    page.mouse.dblclick(box["left"] + box["width"] / 2, box["top"] + box["row"] / 2)
    page.keyboard.type("for")
    page.keyboard.press("Enter")
    window.until("toplainer.state.plan.notes[2].text === 'for'")
    # Deleted with the key, and taken back.
    box = page.evaluate("toplainer.roll.box(3)")
    page.mouse.click(box["left"] + box["width"] / 2, box["top"] + box["row"] / 2)
    page.keyboard.press("Delete")
    window.until(f"toplainer.state.plan.notes.length === {len(notes) - 1}")
    page.click("#undo")
    window.until(f"toplainer.state.plan.notes.length === {len(notes)}")
    planned = page.evaluate("toplainer.state.plan.notes")
    window.picture("3-edited")

    page.click("#start")
    window.until("document.querySelectorAll('#stages progress').length > 0")
    window.picture("4-singing")
    window.until("document.body.dataset.wave === '1'")
    window.picture("5-sung")
    first = downloaded(window, "a[download='take-1-vocal.wav']", tmp_path)
    from music.midi_tracks import read_midi

    sung = read_midi(downloaded(window, "a[download='take-1-topline.mid']", tmp_path))
    assert [note.pitch for note in sung.notes] == [n["pitch"] for n in planned]
    assert [x.text for x in sung.lyrics if x][:4] == ["come", "home", "for", "me"]

    # A part of it again: dragged over the waveform.
    wave = page.locator("#wave").bounding_box()
    seconds = soundfile.info(first).duration
    start, end = planned[1]["onset"] - 0.05, planned[2]["offset"]
    at = [wave["x"] + wave["width"] * edge / seconds for edge in (start, end)]
    window.drag(at[0], wave["y"] + 40, at[1], wave["y"] + 40)
    window.until("toplainer.wave.regions.length === 1")
    (region,) = page.evaluate("toplainer.wave.regions")
    assert abs(region[0] - start) < 0.05 and abs(region[1] - end) < 0.05
    window.picture("6-region")
    page.fill("#again-seed", "9")
    page.click("#sing-again")
    window.until("document.body.dataset.wave === '2'")
    assert "the same bit by bit" in page.text_content("article[data-take='2']")
    second = downloaded(window, "a[download='take-2-vocal.wav']", tmp_path)
    before, after = integers(first), integers(second)
    rate = soundfile.info(first).samplerate
    low, high = (round(edge * rate) for edge in region)
    assert (before[:low] == after[:low]).all() and (before[high:] == after[high:]).all()
    assert (before[low:high] != after[low:high]).any()
    window.picture("7-again")


def test_takes_are_compared_while_they_play(window: Window, song: Path) -> None:
    page = window.page
    page.fill("#lyrics", WORDS)
    page.set_input_files("#accompaniment", song)
    window.until("document.querySelectorAll('#strip span').length > 1")
    page.click("#compose")
    window.until("toplainer.state.plan !== null")
    page.click("#checkpoints summary")
    page.select_option("#inpainter", "none")
    for number in (1, 2):
        page.fill("#sing-seed", str(number))
        page.click("#start")
        window.until(f"document.body.dataset.wave === '{number}'")
    assert page.input_value("#take-a") == "2" and page.input_value("#take-b") == "1"
    heard = (
        "toplainer.player.sources.filter((s) => s.gain.gain.value > 0.5)"
        ".map((s) => s.side + s.track)"
    )
    page.click("#play")
    window.until(f"String({heard}) === 'amix'")
    page.check("input[name=ab][value=b]")
    window.until(f"String({heard}) === 'bmix'")
    place = page.evaluate("toplainer.player.place()")
    page.click("[data-track=solo-vocal]")
    window.until(f"String({heard}) === 'bvocal'")
    page.click("[data-track=solo-vocal]")
    page.click("[data-track=mute-mix]")
    window.until(f"String({heard}) === ''")
    page.locator("#balance").fill("6")
    window.until(f"String({heard}.sort()) === 'baccompaniment,bvocal'")
    assert page.evaluate("toplainer.player.place()") > place  # it has gone on
    window.picture("8-mixer")
    page.click("#play")
    assert not page.evaluate("toplainer.player.isPlaying")


def test_faults_are_said_and_the_page_comes_back(
    window: Window, tmp_path: Path, song: Path
) -> None:
    page = window.page
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound")
    page.set_input_files("#accompaniment", broken)
    page.wait_for_selector("#message:not([hidden])")
    assert page.text_content("#message").startswith("broken.wav: not readable as audio")
    window.faults.clear()  # the browser names the answer 400 in its console
    page.set_input_files("#accompaniment", song)
    window.until("document.querySelectorAll('#strip span').length > 1")
    page.fill("#lyrics", WORDS)
    page.click("#compose")
    window.until("toplainer.state.plan !== null")
    plan = page.evaluate("toplainer.state.plan.notes")
    page.reload()
    window.until("document.body.dataset.ready === 'true'")
    assert page.evaluate("toplainer.state.plan.notes") == plan
    assert page.input_value("#lyrics") == WORDS
