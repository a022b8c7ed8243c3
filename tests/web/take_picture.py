"""Draw png/web.png: the page in a browser, with the weights that ship, after a part was sung again.

    python tests/web/take_picture.py png/web.png

Needs playwright and chromium; serves the page on a free port meanwhile.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
WIDTH, TALLEST = 940, 700  # px
HEIGHTS = {"roll": 180, "wave": 122}  # px
REGION = (12.0, 16.0)  # s, of the example: the first line of its chorus


def until(page: Page, expression: str) -> None:
    """Wait until JavaScript is true."""
    for _ in range(6000):
        if page.evaluate(expression):
            return
        time.sleep(0.02)
    raise TimeoutError(f"{expression}: {page.text_content('#message')}")


def use(page: Page, address: str) -> None:
    """Plan, sing, and sing a part again."""
    page.goto(address)
    until(page, "document.body.dataset.ready === 'true'")
    page.click("#example")
    until(page, "document.querySelectorAll('#strip span').length > 1")
    page.fill("#seed", "3")
    page.click("#compose")
    until(page, "toplainer.state.plan !== null")
    for name, height in HEIGHTS.items():  # all of it on TALLEST pixels
        page.evaluate(f"document.getElementById('{name}').style.height = '{height}px'")
    page.evaluate("document.getElementById('roll').scrollLeft = 11.4 * toplainer.roll.scale")
    page.click("#start")
    until(page, "document.body.dataset.wave === '1'")
    page.evaluate(f"toplainer.wave.mark([[{REGION[0]}, {REGION[1]}]])")
    page.click("#sing-again")
    until(page, "document.body.dataset.wave === '2'")
    page.evaluate("toplainer.player.seek(14.2)")
    page.evaluate("document.getElementById('plan-time').textContent = ''")  # of this machine


def main(target: Path) -> None:
    """Serve the page, use it, and keep what is seen from the plan to the players."""
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [sys.executable, "app.py", "--port", "0", "--out", folder],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None
            address = re.search(r"http://\S+", server.stdout.readline())
            assert address, "the server says where it is"
            with sync_playwright() as driver:
                browser = driver.chromium.launch(
                    executable_path=shutil.which("chromium"), args=["--no-sandbox"]
                )
                page = browser.new_page(viewport={"width": WIDTH, "height": 1500})
                use(page, address[0])
                boxes = [page.locator(f"#{name}").bounding_box() for name in ("plan", "listening")]
                top = boxes[0]["y"] - 6
                bottom = min(boxes[1]["y"] + boxes[1]["height"] + 6, top + TALLEST)
                clip = {"x": 0, "y": top, "width": WIDTH, "height": bottom - top}
                page.screenshot(path=target, clip=clip, full_page=True)
                browser.close()
        finally:
            server.terminate()
            server.wait(20)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
