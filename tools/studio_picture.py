"""The picture of the studio in the README: lenslet looks at a photograph that comes with Netloupe.

python tools/studio_picture.py [--out FILE]
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from selenium import webdriver

from netloupe.core.files import write_atomically
from netloupe.render.pictures import encode

OUT = Path(__file__).resolve().parent.parent / "docs" / "images" / "studio.jpg"
SCREEN = (1440, 1272)  # px
BAR = 143  # px of the window that are not the page's
PHOTO = "coffee"


def until(there: Callable[[], Any], seconds: float = 300) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = there()
        if found:
            return found
        time.sleep(0.1)
    raise SystemExit("the page never came so far")


def browser() -> Any:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome")
    window = f"--window-size={SCREEN[0]},{SCREEN[1] + BAR}"
    for flag in ("--headless=new", "--hide-scrollbars", "--no-sandbox", "--disable-gpu", window):
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))


def walked(page: Any, address: str) -> bytes:
    """The page as PNG once the photo was tried."""

    def run(script: str) -> Any:
        return page.execute_script(script)

    def text(selector: str) -> str:
        found: str = run(f"return document.querySelector('{selector}')?.innerText ?? ''")
        return found

    page.get(f"{address}#/try")
    photo = f"document.querySelector('[data-sample=sample-{PHOTO}]')"
    until(lambda: run(f"return {photo}?.firstChild.complete"))
    run(f"{photo}.click()")
    until(lambda: text("#try-then .bars") and text("#try-pixels-status"))
    run("document.querySelector('[aria-labelledby=try-pixels-title]').scrollIntoView()")
    until(lambda: not run("return document.body.classList.contains('working')"))
    time.sleep(0.5)  # until it is drawn
    found: bytes = page.get_screenshot_as_png()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    out = parser.parse_args().out
    serving = [sys.executable, "-m", "netloupe", "studio", "--port", "0"]
    with subprocess.Popen(serving, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        page = browser()
        try:
            shot = walked(page, server.stdout.readline().split("#")[0])
        finally:
            page.quit()
            server.terminate()
    with Image.open(io.BytesIO(shot)) as image:
        write_atomically(out, encode(np.asarray(image.convert("RGB")), "JPEG", 80, whole_color=True))


if __name__ == "__main__":
    main()
