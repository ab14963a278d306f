"""A real JupyterLab and a real Notebook 7 in a real browser: what no mock can stand in for.

One server shows both; a browser a module. A test's cells are its own; the page and the kernel they
run in are those of the test before, emptied, unless that failed or this one asks for fresh ones: to
load JupyterLab and to import torch takes longer than most tests do. The browser's resolver knows
no host but this one, so everything here is also a test of working offline.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator
from typing import Any

import nbformat
import pytest

from tests.browser.jupyter import Notebook, Server, chromium, notebook_of, serve

_passed = pytest.StashKey[bool]()
_opened = pytest.StashKey[list[Notebook]]()
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


@pytest.fixture(scope="module")
def kept(server: Server, browser: Any) -> Iterator[dict[str, Notebook]]:
    """The notebook in each front end that the next test of this file may write over."""
    notebooks: dict[str, Notebook] = {}
    yield notebooks
    for notebook in notebooks.values():
        notebook.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember whether a test has passed: what a failed one leaves, no other test gets.

    What its notebooks show and said goes with the report of its failure.
    """
    report = yield
    item.stash[_passed] = report.passed
    if report.when == "call" and report.failed:
        for notebook in item.stash.get(_opened, []):
            report.sections.append((f"{notebook.flavour}: {notebook.path}", notebook.told()))
    return report


Open = Callable[..., Notebook]


@pytest.fixture
def open_notebook(
    server: Server,
    browser: Any,
    flavour: str,
    kept: dict[str, Notebook],
    request: pytest.FixtureRequest,
) -> Iterator[Open]:
    """Open a notebook with the given cells; at the end, no page may have raised an error.

    `fresh` is a page and a kernel of its own, which no other test gets; so is what is opened by its
    path, or after another one.
    """
    opened: list[Notebook] = []
    request.node.stash[_opened] = opened

    def open_(*cells: str, path: str | None = None, fresh: bool = False) -> Notebook:
        keep = not (path or fresh or opened)
        if keep and (last := kept.pop(flavour, None)):
            opened.append(last)
            last.rewrite(cells)
            return last
        if path is None:
            path = next(_names)
            nbformat.write(notebook_of(cells), server.root / path)
        opened.append(Notebook(server, browser, flavour, path, keep=keep))
        return opened[-1]

    yield open_
    errors = [error for notebook in opened for error in notebook.errors]
    for notebook in opened:
        if notebook.keep and not errors and request.node.stash[_passed]:
            kept[flavour] = notebook
        else:
            notebook.close()
    assert not errors
