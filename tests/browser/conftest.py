"""A real JupyterLab and a real Notebook 7 in a real browser: what no mock can stand in for.

One server shows both; a browser a module; every test gets its own page and kernel. The browser's
resolver knows no host but this one, so everything here is also a test of working offline.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import nbformat
import pytest

from tests.browser.jupyter import Notebook, Server, chromium, serve

_names = (f"t{i}.ipynb" for i in itertools.count())


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("served")) as made:
        yield made


# a browser a module: playwright's event loop must not be running when nbval's turn comes
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as made:
        yield made


@pytest.fixture(params=["lab", "notebook"])
def flavour(request: pytest.FixtureRequest) -> str:
    """Which front end; a test that asks for it runs in both."""
    name: str = request.param
    return name


Open = Callable[..., Notebook]


@pytest.fixture
def open_notebook(server: Server, browser: Any, flavour: str) -> Iterator[Open]:
    """Open a notebook with the given cells; at the end, no page may have raised an error."""
    opened: list[Notebook] = []

    def open_(*cells: str, path: str | None = None, **options: Any) -> Notebook:
        if path is None:
            path = next(_names)
            made = nbformat.v4.new_notebook(
                cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
                metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
            )
            nbformat.write(made, server.root / path)
        opened.append(Notebook(server, browser, flavour, path, **options))
        return opened[-1]

    yield open_
    errors = [error for notebook in opened for error in notebook.errors]
    for notebook in opened:
        notebook.close()
    assert not errors
