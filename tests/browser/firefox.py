"""Firefox, driven by WebDriver BiDi, which it speaks by itself: Playwright drives none but its own.

`apt-get install firefox-esr` is all it takes. A page is asked as with Playwright, by `evaluate`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import subprocess
import threading
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests.browser.jupyter import PATIENCE

NO_FIREFOX: Final = (
    "no Firefox found: `apt-get install firefox-esr`, or set FIREFOX to where one is"
)
#: Most that Firefox says in one message: a screenshot.
LARGEST: Final = 64 << 20
#: How WebDriver calls the keys that are no letters.
KEYS: Final = {
    "Home": "\ue011", "End": "\ue010", "ArrowLeft": "\ue012", "ArrowRight": "\ue014",
    "Enter": "\ue007", "Tab": "\ue004",
}  # fmt: skip


class Page:
    """The one page of a Firefox."""

    def __init__(self, socket: WebSocketClientConnection, loop: asyncio.AbstractEventLoop) -> None:
        self._socket, self._loop, self._numbers = socket, loop, itertools.count(1)
        self.version: str = self._ask("session.new", capabilities={})["capabilities"][
            "browserVersion"
        ]
        self._ask("session.subscribe", events=["log.entryAdded"])
        self._context = self._ask("browsingContext.getTree")["contexts"][0]["context"]
        #: What the page has logged or raised.
        self.errors: list[str] = []

    def _ask(self, method: str, **params: Any) -> Any:
        return self._loop.run_until_complete(self._answer(method, params))

    async def _answer(self, method: str, params: dict[str, Any]) -> Any:
        number = next(self._numbers)
        await self._socket.write_message(
            json.dumps({"id": number, "method": method, "params": params})
        )
        while True:
            text = await asyncio.wait_for(self._socket.read_message(), PATIENCE)
            assert text is not None, "Firefox has ended"
            said = json.loads(text)
            if said.get("method") == "log.entryAdded":
                self.errors.append(str(said["params"]["text"]))
            if said.get("id") == number:
                assert said["type"] == "success", said
                return said["result"]

    def goto(self, url: str) -> None:
        """Open an address, and wait until it is there."""
        self._ask("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def evaluate(self, function: str) -> Any:
        """What a function without arguments returns, as JSON has it."""
        found = self._ask(
            "script.evaluate", target={"context": self._context}, awaitPromise=True,
            expression=f"(async () => JSON.stringify((await ({function})()) ?? null))()",
        )  # fmt: skip
        assert found["type"] == "success", found.get("exceptionDetails", {}).get("text")
        return json.loads(found["result"]["value"])

    def press(self, selector: str, *keys: str) -> None:
        """Give an element the focus, and press keys."""
        self.evaluate(f"() => document.querySelector({json.dumps(selector)}).focus()")
        actions = [
            {"type": kind, "value": KEYS.get(key, key)}
            for key in keys
            for kind in ("keyDown", "keyUp")
        ]
        self._ask("input.performActions", context=self._context,
                  actions=[{"type": "key", "id": "keyboard", "actions": actions}])  # fmt: skip

    def click(self, selector: str) -> None:
        """Click in the middle of an element."""
        x, y = self.evaluate(
            f"""() => {{
              const one = document.querySelector({json.dumps(selector)});
              one.scrollIntoView({{block: "center"}});
              const box = one.getBoundingClientRect();
              return [box.x + box.width / 2, box.y + box.height / 2];
            }}"""
        )
        actions = [
            {"type": "pointerMove", "x": round(x), "y": round(y)},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        self._ask("input.performActions", context=self._context,
                  actions=[{"type": "pointer", "id": "mouse", "actions": actions}])  # fmt: skip

    def screenshot(self, path: Path) -> None:
        """A picture of what is seen."""
        found = self._ask("browsingContext.captureScreenshot", context=self._context)
        path.write_bytes(b64decode(found["data"]))

    def size(self, width: int, height: int) -> None:
        """Set how large the page is."""
        self._ask("browsingContext.setViewport", context=self._context,
                  viewport={"width": width, "height": height})  # fmt: skip


@contextlib.contextmanager
def firefox(folder: Path) -> Iterator[Page]:
    """A Firefox with a new profile in a folder; without one the test skips."""
    path = os.environ.get("FIREFOX") or shutil.which("firefox-esr") or shutil.which("firefox")
    if path is None or not Path(path).exists():
        pytest.skip(NO_FIREFOX)
    # it may ask for nothing: no network is a part of what is tested
    (folder / "user.js").write_text('user_pref("network.proxy.type", 1);\n'
                                    'user_pref("network.proxy.http", "127.0.0.1");\n'
                                    'user_pref("network.proxy.ssl", "127.0.0.1");\n')  # fmt: skip
    command = [path, "--headless", "--no-remote", "--profile", str(folder),
               "--remote-debugging-port", "0"]  # fmt: skip
    process = subprocess.Popen(
        command, env=os.environ | {"HOME": str(folder)}, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    loop = asyncio.new_event_loop()
    try:
        address = _address(process)
        socket = loop.run_until_complete(_connected(f"{address}/session"))
        yield Page(socket, loop)
        socket.close()
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stderr is not None:
            process.stderr.close()
        loop.close()


async def _connected(address: str) -> WebSocketClientConnection:
    return await websocket_connect(address, max_message_size=LARGEST)


def _address(process: subprocess.Popen[str]) -> str:
    """Where it says that it listens; what it says further is read, so that it never waits."""
    assert process.stderr is not None
    end = threading.Timer(PATIENCE, process.kill)
    end.start()
    said = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"listening on (ws://\S+)", line):
            end.cancel()
            threading.Thread(target=_drain, args=[process.stderr], daemon=True).start()
            return found[1]
    end.cancel()
    pytest.fail(f"Firefox does not listen:\n{''.join(said)[-2000:]}")


def _drain(said: Any) -> None:
    with contextlib.suppress(ValueError):
        for _ in said:
            pass
