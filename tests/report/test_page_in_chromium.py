"""The page in a real browser: a headless Chromium driven over its debugging pipe, without port, driver or network."""

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BINARIES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS = 60.0
# The browser reads commands from descriptor 3 and answers on 4; 10 and above are safe from each other's place.
TRAMPOLINE = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(read, 3)
os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def binary() -> str | None:
    return next((found for name in BINARIES if (found := shutil.which(name))), None)


class Browser:
    """One page of a browser; `problems` collects what its console and its security policy complain about."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._reader = os.fdopen(read_fd, "rb", buffering=0)
        self._writer = os.fdopen(write_fd, "wb", buffering=0)
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self._loaded = False
        self.problems: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._writer.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def open(self, page: Path, width: int, height: int, scheme: str) -> None:
        """Load a file as a device of that size whose owner prefers `scheme`, light or dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._loaded = False
        self.call("Page.navigate", url=page.as_uri())
        while not self._loaded:
            self._receive()

    def evaluate(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def screenshot(self, path: Path, whole: bool = False) -> None:
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            piece = self._reader.read(1 << 16)
            if not piece or time.monotonic() > deadline:
                raise RuntimeError("Chromium closed its pipe or does not answer")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(line)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, parameters: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(parameters["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.problems.append(json.dumps(parameters["args"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.problems.append(parameters["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])


@contextmanager
def running_browser(profile: Path) -> Iterator[Browser]:
    """A running browser with a fresh profile; it is ended when the block ends."""
    program = binary()
    assert program is not None
    command_read, command_write = os.pipe()
    answer_read, answer_write = os.pipe()
    arguments = [
        program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--disable-dev-shm-usage", f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", TRAMPOLINE, str(command_read), str(answer_write), *arguments],
        pass_fds=(command_read, answer_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(command_read)
    os.close(answer_write)
    try:
        yield Browser(answer_read, command_write)
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if binary() is None:
        pytest.skip(f"needs a Chromium: none of {', '.join(BINARIES)} is installed")
    with running_browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def clean_browser(browser: Browser) -> Browser:
    browser.problems.clear()
    browser.requests.clear()
    return browser


# Elements that stick out of the page to the right or left, unless a box that scrolls by itself holds them.
OVERFLOWING = """
[...document.querySelectorAll("body *")].filter((element) => {
  const box = element.getBoundingClientRect();
  if (!box.width || !box.height || element.closest(".skip, .scroll, pre, .contents ol, svg")) return false;
  return box.right > document.documentElement.clientWidth + 0.5 || box.left < -0.5;
}).map((element) => element.tagName + "." + element.className)
"""
SCROLLS_SIDEWAYS = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
VISIBLE_DRAWINGS = """
[...document.querySelectorAll("figure")].map((figure) =>
  [...figure.querySelectorAll("svg")].filter((drawing) => drawing.getBoundingClientRect().width).length)
"""
CLIPPED_TEXT = """
[...document.querySelectorAll("svg text")].filter((text) => {
  const box = text.getBoundingClientRect(), frame = text.closest("svg").getBoundingClientRect();
  return box.width && (box.right > frame.right + 1 || box.left < frame.left - 1);
}).map((text) => text.textContent)
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(360, 800), (800, 600), (1280, 900)])
def test_fits_the_screen_and_asks_nobody(
    clean_browser: Browser, written: Path, width: int, height: int, scheme: str
) -> None:
    page = written / "report.html"
    clean_browser.open(page, width, height, scheme)
    assert clean_browser.evaluate(SCROLLS_SIDEWAYS) is False
    assert clean_browser.evaluate(OVERFLOWING) == []
    assert clean_browser.evaluate(CLIPPED_TEXT) == []
    assert clean_browser.problems == []
    assert [url for url in clean_browser.requests if url != page.as_uri() and not url.startswith("data:")] == []


def test_a_hostile_run_fits_the_screen_and_runs_no_script(clean_browser: Browser, hostile: Path) -> None:
    clean_browser.open(hostile / "report.html", 360, 800, "light")
    assert clean_browser.evaluate(SCROLLS_SIDEWAYS) is False
    assert clean_browser.evaluate(OVERFLOWING) == []
    assert clean_browser.evaluate("document.querySelectorAll('script').length") == 1
    assert clean_browser.evaluate("document.querySelectorAll('img, b').length") == 0
    assert clean_browser.problems == []


def test_the_policy_stops_a_script_that_is_not_ours(clean_browser: Browser, written: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(
        (written / "report.html").read_text().replace("</main>", "</main><script>document.title = 'taken'</script>")
    )
    clean_browser.open(page, 1280, 900, "light")
    assert clean_browser.evaluate("document.title") == "resnet20_cifar10 on cifar10"
    assert any("Content Security Policy" in problem for problem in clean_browser.problems)


def test_light_and_dark_follow_the_system_and_the_button(clean_browser: Browser, written: Path) -> None:
    page = written / "report.html"
    background = "getComputedStyle(document.body).backgroundColor"
    fill = "getComputedStyle([...document.querySelectorAll('svg text')].find((text) => text.textContent)).fill"
    seen = {}
    for scheme in ("light", "dark"):
        clean_browser.open(page, 1280, 900, scheme)
        seen[scheme] = clean_browser.evaluate(background), clean_browser.evaluate(fill)
    assert seen["light"][0] == "rgb(255, 255, 255)"
    assert seen["dark"][0] == "rgb(20, 24, 28)"
    assert seen["light"][1] != seen["dark"][1]
    clean_browser.evaluate("document.querySelector('.theme').click()")
    assert clean_browser.evaluate(background) == seen["light"][0]
    clean_browser.evaluate("document.querySelector('.theme').click()")
    assert clean_browser.evaluate(background) == seen["dark"][0]


def test_a_table_is_sorted_by_the_numbers_behind_its_text(clean_browser: Browser, written: Path) -> None:
    clean_browser.open(written / "report.html", 1280, 900, "light")
    order = """(() => {
      const table = document.querySelector("#table-layers");
      const heads = [...table.tHead.rows[0].cells];
      const index = heads.findIndex((head) => head.textContent === "MACs");
      heads[index].querySelector("button").click();
      return [...table.tBodies[0].rows].map((row) => Number(row.cells[index].dataset.value));
    })()"""
    rising = clean_browser.evaluate(order)
    assert rising == sorted(rising)
    assert len(set(rising)) > 2
    falling = clean_browser.evaluate(order)
    assert falling == rising[::-1]
    foot = clean_browser.evaluate("document.querySelector('#table-layers tfoot th').textContent")
    assert foot == "total"


def test_reads_without_javascript(clean_browser: Browser, written: Path) -> None:
    page = written / "report.html"
    clean_browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        clean_browser.open(page, 360, 800, "dark")
        assert clean_browser.evaluate("getComputedStyle(document.querySelector('.theme')).display") == "none"
        assert clean_browser.evaluate("document.querySelectorAll('tbody tr').length") > 50
        assert clean_browser.evaluate(SCROLLS_SIDEWAYS) is False
    finally:
        clean_browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_fits_a_printed_sheet_in_light_colours(clean_browser: Browser, written: Path) -> None:
    clean_browser.open(written / "report.html", 718, 1000, "dark")
    clean_browser.call("Emulation.setEmulatedMedia", media="print", features=[])
    try:
        assert clean_browser.evaluate(SCROLLS_SIDEWAYS) is False
        assert clean_browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert clean_browser.evaluate("document.querySelector('nav').getBoundingClientRect().width") == 0
    finally:
        clean_browser.call("Emulation.setEmulatedMedia", media="")


def test_one_chart_is_shown_at_each_width(clean_browser: Browser, written: Path) -> None:
    page = written / "report.html"
    for width in (360, 1280):
        clean_browser.open(page, width, 900, "light")
        assert clean_browser.evaluate(VISIBLE_DRAWINGS) == [1, 1, 1]
