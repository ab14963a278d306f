"""The `grulens` command: the tour in JupyterLab, or the same tour as a page without a browser."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

NAME = "01_tour.ipynb"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
LAB_OPTIONS = {
    "--no-browser": "do not open a browser window",
    "--allow-root": "run JupyterLab as root, which it refuses otherwise",
}
INSTALL = "pip install 'grulens[lab]'"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: its arguments; None takes the process's own.

    Returns:
        The exit code: 0, 1 for what failed (said in one line), 2 for a call that makes no sense.
    """
    parser = argparse.ArgumentParser(
        prog="grulens", description="Open the gates of any GRU, LSTM or RNN."
    )
    parser.add_argument("--version", action="version", version=f"grulens {version('grulens')}")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="the tour of the bundled model")
    demo.add_argument("--html", type=Path, metavar="PAGE", help="run the tour and leave a page")
    demo.add_argument("--fresh", action="store_true", help="replace the copy you may have changed")
    for name, why in LAB_OPTIONS.items():
        demo.add_argument(name, dest="lab", action="append_const", const=name, help=why)
    demo.add_argument(
        "--dir", type=Path, default=Path("grulens-tour"), help="where your copy is kept"
    )
    options = parser.parse_args(argv)
    wanted = ("nbconvert", "ipykernel") if options.html else ("jupyterlab",)
    missing = [name for name in wanted if find_spec(name) is None]
    if missing:
        print(f"{' and '.join(missing)} not installed: {INSTALL}", file=sys.stderr)
        return 1
    try:
        if options.html:
            return _page(options.html)
        return _lab(copy_tour(options.dir, fresh=options.fresh), options.lab or [])
    except OSError as error:
        print(error, file=sys.stderr)
        return 1


def tour() -> Path:
    """The tour: in the package where it was installed, in the repository where it is developed."""
    package = Path(__file__).parent
    for folder in (package / "demo", package.parent / "notebooks"):
        if (folder / NAME).is_file():
            return folder / NAME
    raise FileNotFoundError(f"{NAME} is neither in the package nor in the repository")


def copy_tour(folder: Path, *, fresh: bool = False) -> Path:
    """The user's own copy of the tour; one that is there already stays unless `fresh`."""
    copy = folder / NAME
    if copy.exists() and not fresh:
        print(f"opening your copy of the tour, {copy}; --fresh makes a new one")
        return copy
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(tour(), copy)
    return copy


def _lab(notebook: Path, options: Sequence[str]) -> int:
    # the address that JupyterLab prints is all there is when it opens no browser
    address = f"--LabApp.default_url=/lab/tree/{notebook.name}"
    command = [sys.executable, "-m", "jupyterlab", str(notebook), address, *options]
    with subprocess.Popen(command) as lab:
        while True:
            try:
                return lab.wait()
            except KeyboardInterrupt:
                # JupyterLab got it too: it asks whether it was meant, then stops its kernels
                continue


def _page(path: Path) -> int:
    """Run the tour in a fresh kernel and write it as one page that asks the network for nothing."""
    # the converters are slow to import, and only this needs them
    import nbformat  # noqa: PLC0415
    from nbclient import NotebookClient  # noqa: PLC0415
    from nbclient.exceptions import CellExecutionError, DeadKernelError  # noqa: PLC0415
    from nbconvert import HTMLExporter  # noqa: PLC0415

    if path.is_dir() or not path.parent.is_dir():
        print(f"cannot write {path}: give a file in a folder that exists", file=sys.stderr)
        return 1
    notebook: Any = nbformat.read(tour(), as_version=4)
    print("running the tour ...", flush=True)
    # a kernel writes what went wrong while it ended, which means something only where it dies
    with TemporaryFile("w+", encoding="utf-8") as log:
        try:
            NotebookClient(notebook, timeout=600, kernel_name="python3").execute(stderr=log)
        except CellExecutionError as error:
            print(f"the tour failed: {error.ename}: {error.evalue}", file=sys.stderr)
            return 1
        except DeadKernelError as error:
            log.seek(0)
            print(f"{log.read()}the tour failed: {error}", file=sys.stderr)
            return 1
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            # without a kernel a live view is an empty place; the still picture stands beside it
            output.get("data", {}).pop(WIDGET_VIEW, None)
    notebook.metadata.pop("widgets", None)
    remote = {name: "" for name in HTMLExporter.class_trait_names() if name.endswith("_url")}
    title = {"metadata": {"name": "grulens: the tour"}}
    body, _ = HTMLExporter(embed_images=True, **remote).from_notebook_node(notebook, title)
    path.write_text(body, encoding="utf-8")
    print(f"the tour is in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
