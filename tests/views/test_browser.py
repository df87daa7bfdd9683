"""The live page in a real browser, at the width of a desktop and of a phone."""

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
import toy

from foretune.files import write_atomic
from foretune.running.presence import running
from foretune.study.study import Step, Study
from foretune.views.comparison import comparison_page
from foretune.views.server import LiveServer

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# a folder in which to keep the pictures, for people to look at
PICTURES = os.environ.get("FORETUNE_TEST_PICTURES")


# how many tables show only a part of themselves
CUT = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).length"


class Browser:
    """A page of a headless Chromium, over its debugging protocol."""

    def __init__(self, profile):
        from websockets.sync.client import connect

        self.process = subprocess.Popen(
            [
                CHROMIUM,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--remote-debugging-port=0",
                f"--user-data-dir={profile}",
                "about:blank",
            ],
            stderr=subprocess.DEVNULL,
        )
        port = profile / "DevToolsActivePort"
        until(port.exists)
        until(lambda: len(port.read_text(encoding="utf-8").splitlines()) == 2)
        where = f"http://127.0.0.1:{port.read_text(encoding='utf-8').splitlines()[0]}/json"
        with urlopen(where, timeout=30) as answer:
            pages = [page for page in json.load(answer) if page["type"] == "page"]
        self.socket = connect(pages[0]["webSocketDebuggerUrl"], max_size=None)
        self.calls = 0

    def __call__(self, method, **params):
        """The result of a command; dialogs that open meanwhile are accepted."""
        self.calls += 1
        mine = self.calls
        self.socket.send(json.dumps({"id": mine, "method": method, "params": params}))
        while True:
            told = json.loads(self.socket.recv(timeout=60))
            if told.get("method") == "Page.javascriptDialogOpening":
                accept = {"method": "Page.handleJavaScriptDialog", "params": {"accept": True}}
                self.socket.send(json.dumps({"id": 10**6, **accept}))
            if told.get("id") == mine:
                assert "error" not in told, told
                return told["result"]

    def value(self, expression):
        """What an expression of JavaScript is."""
        return self("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get(
            "value", ""
        )

    def size(self, width, height):
        """Show the page in a window of this size."""
        shape = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self("Emulation.setDeviceMetricsOverride", **shape)

    def picture(self, name):
        """Keep a picture of the page where pictures are wanted."""
        shot = self("Page.captureScreenshot", captureBeyondViewport=True)
        if PICTURES:
            write_atomic(Path(PICTURES) / f"{name}.png", base64.b64decode(shot["data"]))


def until(what, seconds=60):
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.1)


@contextmanager
def ending(process):
    """A process that does not outlive the test."""
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def browser(tmp_path):
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed here")
    pytest.importorskip("websockets")
    browser = Browser(tmp_path / "profile")
    yield browser
    browser.socket.close()
    browser.process.terminate()
    browser.process.wait(30)


@pytest.mark.slow
def test_the_page_follows_a_run_on_every_screen_and_stops_it(tmp_path, browser):
    folder = tmp_path / "cats"
    folder.mkdir()
    run = [sys.executable, toy.__file__, str(folder), "--workers", "2", "--seconds", "0.5"]
    with ending(subprocess.Popen(run)) as process:
        until(lambda: running(folder) is not None and Study.load(folder).spent > 3)
        with LiveServer(folder) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            browser("Page.enable")
            browser("Page.navigate", url=server.address)
            text = "document.body.innerText"
            until(lambda: "Being trained now" in browser.value(text))
            for width, height in ((1300, 900), (360, 800)):
                browser.size(width, height)
                # nothing is wider than the screen, and the button can be reached
                assert browser.value("document.documentElement.scrollWidth") <= width
                assert browser.value(CUT) == 0
                button = "document.getElementById('stop').getBoundingClientRect()"
                assert (
                    0 <= browser.value(f"{button}.left") < browser.value(f"{button}.right") <= width
                )
                browser.picture(f"watch-{width}")
            epochs = "document.querySelectorAll('.tile b')[1].innerText"
            before = int(browser.value(epochs))
            until(lambda: int(browser.value(epochs)) > before)  # it follows by itself
            browser.value("setTimeout(() => document.getElementById('stop').click(), 0)")
            until(lambda: "stopped: the command" in browser.value(text))
            assert process.wait(30) == 130
            assert browser.value("document.getElementById('stop').hidden") is True
            server.shutdown()
            thread.join()
        until(lambda: "foretune watch has ended" in browser.value(text))


@pytest.mark.slow
def test_studies_of_long_names_fit_beside_each_other(tmp_path, browser):
    studies = {}
    for k in range(4):
        name = f"study-{k}-of-the-very-same-images-with-other-settings-and-a-long-name"
        folder = tmp_path / name
        with toy.toy_study(folder, toy.toy_pool(12), 20, seed=k) as study:
            for i in range(3):
                study.tell(Step(i, 0, 3), [0.1 * k, 0.2, 0.3 + 0.1 * i])
            studies[name] = study
    page = tmp_path / "page.html"
    page.write_text(comparison_page(studies), encoding="utf-8")
    browser("Page.enable")
    for width in (1300, 360):
        browser.size(width, 900)
        browser("Page.navigate", url=page.as_uri())
        until(lambda: "4 studies" in browser.value("document.body.innerText"))
        assert browser.value("document.documentElement.scrollWidth") <= width
        assert browser.value(CUT) == 0
        # the lines' names leave the chart its room
        shown = "[...document.querySelectorAll('.legend')].some(e => e.offsetParent !== null)"
        assert browser.value(shown) is True
        browser.picture(f"compare-{width}")
