"""Debian's headless Chromium, asked over a pipe: what a page looks like, and what it complains of.

The pipe is the browser's own (``--remote-debugging-pipe``): JSON, with a zero byte behind each
message.  No port is opened, and a browser whose pipe is closed ends.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

NAMES = ("chromium-headless-shell", "chromium")
TIMEOUT_S = 60.0
_ENDS_WITHIN_S = 10.0
_WATCHED = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
# The sandbox of the browser needs another user than root; the page is our own.
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run",
    "--disable-dev-shm-usage", "--hide-scrollbars", "about:blank",
)  # fmt: skip


class Browser:
    """One tab.  ``complaints``: of its console; ``requested``: addresses it asked for."""

    def __init__(self, to: int, back: int) -> None:
        self._to = to
        self._back = back
        self._left = b""
        self._number = 0
        self.complaints: list[str] = []
        self.requested: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        found = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session: str | None = found["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    _session: str | None = None

    def open(self, path: Path, *, width: int, scheme: str = "light", height: int = 900) -> None:
        """Show a file in a window so wide, to who prefers ``scheme``: light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.complaints.clear()
        self.requested.clear()
        self.call("Page.navigate", url=path.as_uri())
        deadline = time.monotonic() + TIMEOUT_S
        while self.ask("document.readyState") != "complete" or not self.ask("document.title"):
            assert time.monotonic() < deadline, "the page did not load"

    def ask(self, expression: str) -> Any:
        """The value of an expression of JavaScript."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def picture(self, path: Path) -> None:
        """All of the page as a PNG."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def close(self) -> None:
        """Have the browser end."""
        self._session = None
        self._call("Browser.close")

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Of the tab."""
        return self._call(method, **arguments)

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": arguments}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._hear()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("method") in _WATCHED:
            self.complaints.append(json.dumps(event["params"]))
        if event.get("method") == "Network.requestWillBeSent":
            self.requested.append(event["params"]["request"]["url"])

    def _hear(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            assert select.select([self._back], [], [], TIMEOUT_S)[0], "the browser says nothing"
            more = os.read(self._back, 1 << 16)
            assert more, "the browser ended"
            self._left += more
        line, _, self._left = self._left.partition(b"\0")
        found: dict[str, Any] = json.loads(line)
        return found


def program() -> str:
    """Its path; scripts/install test brings it."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    assert found, "no Chromium: sudo scripts/install test"
    return found


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser with an empty profile, which ends with this."""
    theirs_in, to = os.pipe()
    back, theirs_out = os.pipe()
    with tempfile.TemporaryDirectory() as profile:
        command = [program(), f"--user-data-dir={profile}", *_OPTIONS]
        process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "browser", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(theirs_in, theirs_out),
        )
        try:
            os.close(theirs_in)
            os.close(theirs_out)
            found = Browser(to, back)
            yield found
            found.close()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_ENDS_WITHIN_S)
        finally:
            os.close(to)
            os.close(back)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
