"""A real Jupyter server and a notebook in a real page: for the browser tests and for benchmarks."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pytest

SHOTS = Path(__file__).parent / "shots"
NO_CHROMIUM = "no Chromium found: `apt-get install chromium`, or set CHROMIUM to where one is"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]
# Notebook 7 logs the first two by itself, the first whenever any ipywidget is shown. The third is
# anywidget's, of a script that took it more than two seconds to load: see heard.js.
KNOWN_ERRORS = (
    "reading 'schema'",
    "'filebrowser:open-path' not registered",
    "[anywidget] Failed to initialize model.",
)
# what Python writes under a cell where ipykernel has ended a subshell beside it
DROPPED_TASK = "Task was destroyed but it is pending!"
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "docmanager-extension/plugin": {"autosave": False},
}
# What a kernel imports while its page still loads: most tests begin with it, and on a machine with
# two cores it is had for nothing. No name is left behind.
WARM = """
def _warm():
    import importlib
    for name in ("torch", "bokeh.plotting", "grulens.widgets.lens"):
        importlib.import_module(name)
_warm()
del _warm
"""
# What a kernel forgets before the next test's cells: names, outputs, widgets. Modules stay loaded.
EMPTY = """
def _empty():
    from ipywidgets import Widget
    from ipywidgets.widgets.widget import _instances
    from grulens.widgets.session.panel import Panel
    for panel in [one for one in list(_instances.values()) if isinstance(one, Panel)]:
        panel.close()
    Widget.close_all()
    get_ipython().reset()
_empty()
print("emptied")
"""
VIEWPORT = {"width": 1200, "height": 900}
# how long anything may take on a machine that does other things too; nothing waits for it to pass
PATIENCE = 60
FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
# the notebook in front, in either front end
PANEL = "window.jupyterapp.shell.currentWidget"


class Server(NamedTuple):
    """A running Jupyter server: where it listens, its token, the folder it serves."""

    url: str
    token: str
    root: Path

    def ask(self, path: str, method: str = "GET", content: Any = None) -> Any:
        """Ask its REST interface; `content` goes along as JSON."""
        request = urllib.request.Request(
            f"{self.url}/{path}", method=method, headers={"Authorization": f"token {self.token}"},
            data=json.dumps(content).encode() if content else None,
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=5) as answer:
            text = answer.read()
        return json.loads(text) if text else None


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """A JupyterLab, which shows Notebook 7 too, with all its files in `folder`."""
    root, home = folder / "notebooks", folder / "jupyter"
    root.mkdir()
    home.mkdir()
    for name, values in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    startup = home / "ipython" / "profile_default" / "startup" / "00-warm.py"
    startup.parent.mkdir(parents=True)
    startup.write_text(WARM)
    folders = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTER_DATA_DIR": "data",
        "IPYTHONDIR": "ipython",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    }
    # the kernels must not wait for each other's threads on a small machine
    env = os.environ | {name: str(home / folder) for name, folder in folders.items()}
    env |= {"OMP_NUM_THREADS": "1"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser"),
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        "--ServerApp.ip=127.0.0.1",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={root}",
        "--LabApp.expose_app_in_browser=True",
        "--JupyterNotebookApp.expose_app_in_browser=True",
        "--LabApp.extension_manager=readonly",
        "--ServerApp.log_level=WARN",
    ]
    if hasattr(os, "getuid") and os.getuid() == 0:
        command.append("--allow-root")
    made = Server(f"http://127.0.0.1:{port}", token, root)
    log = home / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=env, stdout=out, stderr=out, cwd=root)
        try:
            wait_until(lambda: answers(made, process, log), 2 * PATIENCE, "the Jupyter server")
            yield made
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answers(server: Server, process: subprocess.Popen[bytes], log: Path) -> bool:
    if process.poll() is not None:
        pytest.fail(f"the Jupyter server ended:\n{log.read_text()[-3000:]}")
    with contextlib.suppress(OSError):
        server.ask("api/status")
        return True
    return False


def wait_until(reached: Callable[[], object], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > end:
            pytest.fail(f"{what}: not within {seconds} s")
        time.sleep(0.1)


def until(page: Any, reached: Callable[[], Any], what: str) -> Any:
    """What `reached` gives as soon as that is true; it is asked again with every frame drawn."""
    end = time.monotonic() + PATIENCE
    while not (found := reached()):
        if time.monotonic() > end:
            pytest.fail(f"{what}: not within {PATIENCE} s")
        page.evaluate(FRAMES)
    return found


def into_view(locator: Any) -> None:
    """Scroll to an element, at once: a table draws its rows anew while it waits for them to stand.

    Playwright's own scrolling fails where the element it has found is taken from the page.
    """
    locator.evaluate("element => element.scrollIntoViewIfNeeded()")


def settled(of: Any) -> bytes:
    """The picture of a locator once it stands still: three in a row are the same."""
    seen: list[bytes] = []

    def still() -> bool:
        picture = of.screenshot()
        seen[:] = [*seen, picture] if picture in seen[:1] else [picture]
        return len(seen) == 3

    until(of.page, still, "a picture that stands still")
    return seen[0]


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Debian's Chromium; without one the tests skip, or fail where they must run."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None or not Path(path).exists():
        if os.environ.get("GRULENS_REQUIRE_BROWSER") == "1":
            pytest.fail(NO_CHROMIUM)
        pytest.skip(NO_CHROMIUM)
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        yield made
        made.close()


def notebook_of(cells: Iterable[str]) -> Any:
    """A notebook of these cells, nothing of it run."""
    return nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )


class Notebook:
    """A notebook open in a page, with its kernel.

    Attributes:
        keep: whether another test may write its own cells over it.
        page: playwright's page.
        errors: what the page raised, without what is known of Notebook 7 and anywidget.
        said: the last that the page raised, known or not, or wrote to its console as an error.
        outside: the requests that left this machine, or tried to.
    """

    def __init__(
        self, server: Server, browser: Any, flavour: str, path: str, *, keep: bool = False
    ) -> None:
        self.server, self.flavour, self.path, self.keep = server, flavour, path, keep
        kernel = {
            "path": path,
            "kernel": {"name": "python3"},
            "name": Path(path).name,
            "type": "notebook",
        }
        # before the page asks for it: it finds the kernel under its own path
        server.ask("api/sessions", "POST", kernel)
        self.page = browser.new_page(viewport=VIEWPORT)
        self.page.set_default_timeout(1000 * PATIENCE)
        self.errors: list[str] = []
        self.said: deque[str] = deque(maxlen=20)
        self.outside: list[str] = []
        self.page.on("pageerror", self._failed)
        self.page.on("console", self._wrote)
        self.page.on("request", self._requested)
        self._themed = False
        self.load()

    def _wrote(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.said.append(message.text)

    def _failed(self, error: Any) -> None:
        self.said.append(str(error))
        if not any(known in str(error) for known in KNOWN_ERRORS):
            self.errors.append(str(error))

    def _requested(self, request: Any) -> None:
        if not request.url.startswith((self.server.url, "data:", "blob:", "ws://127.0.0.1")):
            self.outside.append(request.url)

    def load(self) -> None:
        """Open the page, or load it again; the kernel, once there, is kept."""
        place = {"lab": "lab/tree", "notebook": "notebooks"}[self.flavour]
        reset = "&reset" if self.flavour == "lab" else ""
        self.page.goto(f"{self.server.url}/{place}/{self.path}?token={self.server.token}{reset}")
        self.page.wait_for_function(f"window.jupyterapp && {PANEL}", timeout=1000 * PATIENCE)
        self.page.evaluate("window.jupyterapp.restored.then(() => null)")
        self.page.locator(".jp-Notebook .jp-Cell").first.wait_for()
        self.ready()

    def rewrite(self, cells: Iterable[str]) -> None:
        """Put other cells in place of those here; page and kernel begin as if they were new."""
        if self._themed:
            self.theme("light")
            self._themed = False
        said = self.kernel(EMPTY)
        assert said.endswith("emptied"), said
        self.page.mouse.move(0, 0)
        self.page.set_viewport_size(VIEWPORT)
        self.page.evaluate(f"made => {PANEL}.context.model.fromJSON(made)", notebook_of(cells))
        figures = 'globalThis[Symbol.for("grulens.bokehjs")]?.scope.Bokeh?.documents.length'
        self.page.wait_for_function(f"!({figures})")
        self.outside.clear()
        self.ready()

    def ready(self) -> None:
        """Wait for a kernel with nothing to do."""
        status = f"{PANEL}?.context?.sessionContext?.session?.kernel?.status"
        self.page.wait_for_function(f"{status} === 'idle'", timeout=1000 * PATIENCE)

    def command(self, name: str, **args: Any) -> None:
        """One of the front end's own commands."""
        self.page.evaluate(
            "async ([name, args]) => { await window.jupyterapp.commands.execute(name, args) }",
            [name, args],
        )

    def run_all(self) -> None:
        """Run every cell, and wait for the last."""
        self.command("notebook:run-all-cells")
        self.ready()

    def run_cell(self, index: int) -> None:
        """Run one cell, and wait for it."""
        self.page.evaluate(f"i => {{ {PANEL}.content.activeCellIndex = i }}", index)
        self.command("notebook:run-cell")
        self.ready()

    def save(self) -> Any:
        """Save, and return the notebook as it is on disk, without what ipykernel says of its tasks.

        Where the front end ends a subshell of the kernel, ipykernel drops a task that still waits,
        and Python writes so to stderr: under the cell that runs then, whichever it is.
        """
        self.command("docmanager:save")
        saved = nbformat.read(self.server.root / self.path, as_version=4)
        for cell in saved.cells:
            if cell.cell_type == "code":
                cell.outputs = [
                    one for one in cell.outputs if DROPPED_TASK not in one.get("text", "")
                ]
        return saved

    def cell(self, index: int) -> Any:
        """The locator of a cell."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def kernel(self, code: str) -> str:
        """What `code` prints in the notebook's kernel, or the error it raises there."""
        out: str = self.page.evaluate(
            f"""async code => {{
              const kernel = {PANEL}.context.sessionContext.session.kernel;
              const future = kernel.requestExecute({{ code, store_history: false }});
              let out = '';
              future.onIOPub = ({{ header, content }}) => {{
                // what Python says of a task that another test left behind is no answer
                if (header.msg_type === 'stream' && content.name === 'stdout') out += content.text;
                if (header.msg_type === 'error') out += content.ename + ': ' + content.evalue;
              }};
              await future.done;
              return out;
            }}""",
            code,
        )
        return out.strip()

    def until(self, code: str, want: str, seconds: float = PATIENCE) -> None:
        """Run `code` in the kernel until it prints `want`."""
        end = time.monotonic() + seconds
        while (got := self.kernel(code)) != want:
            assert time.monotonic() < end, f"{code!r} prints {got!r}, not {want!r}"
            self.page.evaluate(FRAMES)

    def restart(self) -> None:
        """Restart the kernel."""
        self.page.evaluate(
            f"async () => {{ await {PANEL}.context.sessionContext.session.kernel.restart() }}"
        )
        self.ready()

    def theme(self, name: str) -> None:
        """Change to the "light" or the "dark" theme."""
        title = f"JupyterLab {name.title()}"
        self._themed = True
        self.command("apputils:change-theme", theme=title)
        self.page.wait_for_function(f"document.body.dataset.jpThemeName === {title!r}")

    def told(self) -> str:
        """What a person would look at after a failure: cells, outputs, the kernel, the console."""
        look = f"""() => {{
          const {{ content, context }} = {PANEL};
          const cells = context.model.toJSON().cells.map(({{ source, outputs }}) => [source, ...(
            outputs ?? []).map(one => one.text ?? one.traceback ?? Object.keys(one.data ?? {{}}))]);
          const {{ kernel }} = context.sessionContext.session;
          const seen = content.node.innerText;
          return JSON.stringify({{ cells, kernel: kernel.status, seen }}, null, 1);
        }}"""
        try:
            seen = self.page.evaluate(look)
        except Exception as error:  # a page that is gone has nothing to say, and its test failed
            seen = repr(error)
        return "\n".join([seen, *self.said])[-8000:]

    def screenshot(self, name: str, of: Any = None) -> bytes:
        """A picture of the page, or of a locator in it; kept in tests/browser/shots."""
        SHOTS.mkdir(exist_ok=True)
        png: bytes = (of or self.page).screenshot(path=str(SHOTS / f"{name}-{self.flavour}.png"))
        return png

    def close(self) -> None:
        """Close the page and end its kernel."""
        if self._themed:
            with contextlib.suppress(Exception):
                self.theme("light")
        self.page.close()
        for session in self.server.ask("api/sessions"):
            if session["path"] == self.path:
                self.server.ask(f"api/sessions/{session['id']}", "DELETE")
