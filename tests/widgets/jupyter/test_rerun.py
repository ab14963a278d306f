"""A cell that runs again closes what its earlier run made, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from grulens.widgets.jupyter import rerun as module
from grulens.widgets.jupyter.rerun import CellRun, Rerun, cell_run


class Thing:
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Cells:
    def __init__(self) -> None:
        self.now: CellRun | None = None

    def __call__(self) -> CellRun | None:
        return self.now


def test_a_second_run_closes_all_of_the_first() -> None:
    cells = Cells()
    rerun = Rerun(cells)
    first, second, third, other = Thing(), Thing(), Thing(), Thing()
    cells.now = CellRun("a", "1")
    rerun.replace(first)
    rerun.replace(second)
    rerun.replace(second)
    cells.now = CellRun("b", "2")
    rerun.replace(other)
    assert (first.closed, second.closed) == (0, 0)
    cells.now = CellRun("a", "3")
    rerun.replace(third)
    assert (first.closed, second.closed, third.closed, other.closed) == (1, 1, 0, 0)
    cells.now = CellRun("a", "4")
    rerun.replace(third)  # the same one, shown by the next run
    assert (first.closed, third.closed) == (1, 0)


def test_outside_of_a_cell_nothing_is_closed() -> None:
    rerun = Rerun(lambda: None)
    things = [Thing(), Thing()]
    for thing in things:
        rerun.replace(thing)
    assert [thing.closed for thing in things] == [0, 0]


@pytest.mark.parametrize(
    ("message", "run"),
    [
        (
            {
                "header": {"msg_type": "execute_request", "msg_id": "m"},
                "metadata": {"cellId": "c"},
            },
            CellRun("c", "m"),
        ),
        ({"header": {"msg_type": "comm_msg", "msg_id": "m"}, "metadata": {"cellId": "c"}}, None),
        ({"header": {"msg_type": "execute_request", "msg_id": "m"}, "metadata": {}}, None),
        ({}, None),
        (None, None),
    ],
)
def test_the_running_cell(monkeypatch: pytest.MonkeyPatch, message: Any, run: Any) -> None:
    class Shell:
        class kernel:  # noqa: N801
            @staticmethod
            def get_parent() -> Any:
                return message

    monkeypatch.setattr(module, "get_ipython", lambda: Shell)
    assert cell_run() == run
