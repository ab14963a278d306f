"""What is closed, by hand or by a cell that runs again, leaves nothing behind."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from ipywidgets.widgets.widget import _instances
from torch import nn

from grulens import Lens, NeuronTable, ablate, patch, record
from grulens.credit import CreditBars
from grulens.dynamics import PhasePortrait
from grulens.phrases import PhraseTree
from grulens.widgets.jupyter import rerun
from grulens.widgets.jupyter.rerun import CellRun
from grulens.widgets.session import screen as screens
from grulens.widgets.session.after_cells import AfterCells
from grulens.widgets.session.latest import Latest
from tests.widgets.conftest import Tagger
from tests.widgets.test_screens import SCREENS


class Steps(nn.Module):
    """Numbers in, two classes out, every step; no text."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.out(self.rnn(x)[0])
        return out


class Classes(Steps):
    """One answer a row."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.out(self.rnn(x)[1][-1])
        return out


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "grulens-latest"]


def used(kind: type, model: nn.Module, given: Any, page: Path | None = None) -> list[Any]:
    """Make a screen, do what a person does, close it: weak references to what was in it."""
    screen = kind(model, given)
    session = screen.session
    name = session.layer
    screen.still()
    session.units, session.times = (1, 3), (0, 1)
    session.add(ablate(name, 0))
    session.add(patch(name, "h", source=record(model, *session.args), at=slice(0, 2)))
    session.undo()
    for study in ("memory", "motion", "credit", "phrases") if kind is Lens else ():
        screen.studies.shown = study
    if page is not None:
        screen.save(page)
    seen = [model, session, session.baseline, session.edited, screen]
    if kind is Lens:
        seen += [screen.gates.picture.document, *screen.studies.opened.values()]
    found = [weakref.ref(thing) for thing in seen]
    del seen
    screen.close()
    screen.close()
    return found


@pytest.mark.parametrize(
    ("kind", "model"),
    [*((kind, Steps) for kind in SCREENS), (Lens, Classes), (Lens, Tagger), (CreditBars, Classes)],
)
def test_a_closed_screen_lets_go_of_everything(kind: type, model: type, tmp_path: Path) -> None:
    given = "abcd" if model is Tagger else torch.ones(1, 5, 3)
    page = tmp_path / "page.html" if kind is Lens else None
    used(kind, model().eval(), given, page)  # what a first time makes for good
    gc.collect()
    before = set(_instances)
    left = used(kind, model().eval(), given, page)
    gc.collect()
    assert [ref() for ref in left if ref() is not None] == []
    assert [_instances[key] for key in set(_instances) - before] == []
    assert workers() == []


@pytest.mark.parametrize("kind", [NeuronTable, PhasePortrait, CreditBars, PhraseTree])
def test_what_is_under_way_ends_with_its_screen(kind: type) -> None:
    torch.manual_seed(0)
    model = Steps().eval()
    screen = kind(model, torch.randn(1, 60, 3))
    start = {NeuronTable: "measure", PhasePortrait: "find", PhraseTree: "build"}.get(kind)
    if start is not None:
        getattr(screen, start).click()
    screen.close()
    assert workers() == []
    if start is not None:
        getattr(screen, start).click()  # by a page that does not know yet
    assert workers() == []


def test_a_closed_one_computes_nothing_any_more() -> None:
    going, go_on, stopped = threading.Event(), threading.Event(), []
    seen: list[int] = []

    def slow(value: int) -> None:
        seen.append(value)
        going.set()
        assert go_on.wait(10)

    def stop() -> None:
        stopped.append(True)
        go_on.set()

    latest: Latest[int] = Latest(slow, on_error=print, stop=stop)
    latest.later(1)
    assert going.wait(10)
    latest.later(2)
    latest.close()
    assert (seen, stopped) == ([1], [True])
    assert workers() == []
    latest.later(3)
    latest.now(4)
    assert seen == [1]


def test_closing_does_not_wait_for_ever() -> None:
    going, go_on = threading.Event(), threading.Event()
    latest: Latest[int] = Latest(lambda _: (going.set(), go_on.wait(10)), on_error=print)
    latest.later(1)
    assert going.wait(10)
    latest.close(timeout=0.01)
    assert len(workers()) == 1
    go_on.set()
    latest.close()
    assert workers() == []


def test_a_computation_may_close_its_own_screen() -> None:
    errors: list[Exception] = []
    latest: Latest[int] = Latest(lambda _: latest.close(), on_error=errors.append)
    latest.later(1)
    assert latest.wait(10.0)
    assert errors == []


# IPython


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    InteractiveShell.clear_instance()
    made = InteractiveShell.instance()
    yield made
    made.history_manager.end_session()
    InteractiveShell.clear_instance()


def run(shell: InteractiveShell, code: str) -> None:
    with capture_output():
        assert shell.run_cell(code, store_history=True).success


SETUP = """import torch, weakref, grulens
from torch import nn
made = []
"""
CELL = """model = nn.GRU(3, 4, batch_first=True)
lens = grulens.{kind}(model, torch.ones(1, 6, 3))
made.append((weakref.ref(model), weakref.ref(lens)))
{end}"""
PLOT = """import numpy as np
from bokeh.plotting import figure
from grulens.widgets.jupyter.bokeh_view import BokehView
lens = BokehView(figure())
made.append((weakref.ref(lens.document), weakref.ref(lens)))
lens"""


def alive(shell: InteractiveShell) -> list[bool]:
    gc.collect()
    return [any(ref() is not None for ref in refs) for refs in shell.user_ns["made"]]


@pytest.mark.parametrize(
    "cell",
    [
        CELL.format(kind="Lens", end="lens"),
        CELL.format(kind="Lens", end="display(lens)"),
        CELL.format(kind="Lens", end="lens.session.add(grulens.ablate('l0', 1))\nlens"),
        CELL.format(kind="memory.GateMemory", end="lens"),
        PLOT,
    ],
)
def test_a_cell_that_runs_again_leaves_one(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, cell: str
) -> None:
    monkeypatch.setattr(rerun.RERUN, "_now", lambda: CellRun("cell", str(shell.execution_count)))
    run(shell, SETUP)
    widgets = []
    for _ in range(4):
        run(shell, cell)
        gc.collect()
        widgets.append(len(_instances))
    assert alive(shell) == [False, False, False, True]
    assert widgets[1:] == [widgets[1]] * 3
    run(shell, "lens.close(); del lens; model = None")
    assert alive(shell) == [False] * 4


def test_out_lets_go_of_what_is_closed_and_keeps_the_rest(shell: InteractiveShell) -> None:
    run(shell, SETUP + "41 + 1")
    run(shell, CELL.format(kind="Lens", end="lens"))
    first = shell.execution_count - 1
    assert f"_{first}" in shell.user_ns
    run(shell, "'between'")
    run(shell, "lens")
    run(shell, "lens.close()\ndel lens, model")
    assert alive(shell) == [False]
    names = shell.user_ns
    assert 42 in names["Out"].values()
    assert "between" in names["Out"].values()
    assert names["_"] == ""
    assert names["__"] == "between"
    assert f"_{first}" not in names
    # IPython goes on as before: a name of its own that somebody else has set it leaves alone
    run(shell, "'after'")
    assert (names["_"], names["__"], names["___"]) == ("after", "", "between")


def test_what_is_closed_says_so_and_is_let_go_of(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    # that of this shell: other tests leave screens open in theirs
    monkeypatch.setattr(screens, "AFTER_CELLS", AfterCells())
    run(shell, SETUP)
    run(shell, CELL.format(kind="Lens", end="lens.close()"))
    with capture_output() as seen:
        assert shell.run_cell("lens", store_history=True).success
    assert [shown.data for shown in seen.outputs] == [{"text/plain": "Lens(closed)"}]
    assert seen.stderr == ""
    run(shell, "del lens; model = None")
    assert alive(shell) == [False]


# the end of a process

SCREENS_AT_WORK = """
import torch, grulens
torch.set_num_threads(1)

def gru(units):
    return torch.nn.GRU(3, units, batch_first=True)

memory = grulens.memory.GateMemory(gru(64), torch.randn(1, 2500, 3))
gradient = grulens.memory.GateMemory(gru(32), torch.randn(1, 99, 3))
gradient.view = "gradient"
credit = grulens.credit.CreditBars(gru(32), torch.randn(1, 300, 3))
motion = grulens.dynamics.PhasePortrait(gru(64), torch.randn(1, 300, 3))
motion.find.click()
table = grulens.NeuronTable(gru(64), torch.randn(1, 300, 3))
table.measure.click()
"""


@pytest.mark.parametrize("end", ["", "raise SystemExit(3)"])
def test_a_script_that_made_a_screen_ends_in_order(end: str) -> None:
    """While they compute: torch ends a process with an error if its threads run to the last."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCREENS_AT_WORK + end],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (3 if "Exit" in end else 0, "")
