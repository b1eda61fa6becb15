"""Take the screenshots of the documentation: `python docs/take_screenshots.py RUN`, a finished quickstart.

The page, and the report wide and narrow, dark and light, in headless Chromium. It needs `pip install gradio playwright`
and a chromium, and ends with an error if the browser asks any other host.
"""

import contextlib
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

DOCS = Path(__file__).parent
PROMPT = "a red circle above a blue square"
MOST_BYTES = 150_000
VIEWS = {"wide": (1400, 900), "narrow": (400, 800)}


def main() -> None:
    """Write docs/page-wide.png, docs/report-wide.png and docs/report-narrow.png."""
    run = Path(sys.argv[1]).resolve()
    asked: set[str] = set()
    with page_of(run / "model") as url, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])

        def opened(address: str, view: str, scheme: str) -> Page:
            width, height = VIEWS[view]
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.set_default_timeout(300_000)
            page.on("request", lambda request: asked.add(request.url.split("/")[2] if "//" in request.url else ""))
            page.goto(address)
            return page

        report = (run / "report.html").as_uri()
        page = opened(report, "wide", "dark")
        take(page, "report-wide")
        page.close()
        page = opened(report, "narrow", "light")
        chart = page.locator("svg.chart").first
        chart.scroll_into_view_if_needed()
        chart.locator("g.value rect").nth(8).hover()
        take(page, "report-narrow")
        page.close()
        page = opened(url, "wide", "light")
        draw(page)
        take(page, "page-wide")
        browser.close()
    others = asked - {url.split("/")[2], ""}
    if others:
        sys.exit(f"error: the browser asked {', '.join(sorted(others))}")


@contextlib.contextmanager
def page_of(model: Path) -> Iterator[str]:
    """Start `lavit ui` and give its address."""
    command = [sys.executable, "-m", "lavit_cli", "ui", str(model), "--port", "0"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        yield re.findall(r"http://\S+", child.stdout.readline())[0]
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait()


def draw(page: Page) -> None:
    """Draw four images."""
    page.get_by_label("Prompt").first.fill(PROMPT)
    page.get_by_role("button", name="Draw", exact=True).click()
    page.get_by_text("seed 0 to 3, guidance").wait_for()


def take(page: Page, name: str) -> None:
    """Write what the window shows, in at most 256 colours. Ends with an error if it is too large for a repository."""
    file = DOCS / f"{name}.png"
    page.wait_for_timeout(1000)
    page.screenshot(path=file)
    Image.open(file).convert("RGB").quantize(256).save(file, optimize=True)
    if file.stat().st_size > MOST_BYTES:
        sys.exit(f"error: {file} has {file.stat().st_size} bytes, expected at most {MOST_BYTES}")


if __name__ == "__main__":
    main()
