"""What a kind of cell says of itself is looked at, and so is what its `compute` makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import grulens
from grulens import clamp, record
from grulens.adapters import RecurrentCell, Signal, StepAdapter, register
from grulens.cells.signal import NAMED
from grulens.errors import CellError
from tests.kinds import Loop, Step

GATE = Signal("q", "gate of my own", 0.0, 1.0, "keep")
STATE = Signal("h", "state", -1.0, 1.0, "state", activated=False)


WRONG = Signal("q", "gate of my own", 0.0, 1.0, "keep")
# past the checks of annotations, which users do not have
object.__setattr__(WRONG, "role", "keeps")


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("q", "mask", "h"):
        monkeypatch.setitem(NAMED, name, NAMED.get(name, ()))


def kind_of(compute: Any = None, **said: Any) -> type[RecurrentCell]:
    """A kind of one gate."""

    def own(pre: Tensor, edit: Any) -> dict[str, Tensor]:
        q = torch.sigmoid(pre)
        return {"q": q if edit is None else edit("q", edit("q", pre, True).sigmoid(), False)}

    body: dict[str, Any] = {
        "kind": "mine",
        "blocks": ("q",),
        "signals": (GATE, STATE),
        "compute": lambda self, products, state, edit=None: (compute or own)(
            products + state @ self.weight_hh.T, edit
        ),
        "output": lambda self, signals, state: self.read(signals) * state
        + 1 - self.read(signals),
        "read": staticmethod(lambda signals: next(iter(signals.values()))),
    }  # fmt: skip
    return dataclass(frozen=True, eq=False, repr=False)(
        type("Mine", (RecurrentCell,), {k: v for k, v in (body | said).items() if v is not None})
    )


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"signals": None}, "signals must be a tuple of Signal, got None"),
        ({"signals": ("q", "h")}, "signals must be a tuple of Signal"),
        ({"signals": (STATE, GATE)}, "the last of Mine.signals must be h.* they are h, q and h"),
        ({"signals": (GATE,)}, "the last of Mine.signals must be h"),
        ({"states": ("h", "c")}, "and Mine.states h and signals of it"),
        ({"signals": (GATE, GATE, STATE)}, "another one's name already"),
        ({"signals": (Signal("x", "gate", 0.0, 1.0, "keep"), STATE)}, "has a signal 'x'"),
        (
            {"signals": (WRONG, STATE)},
            "the role of 'q' of Mine must be one of reset, keep, .* got 'keeps'",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_where_the_class_is_made(said: Any, words: str) -> None:
    with pytest.raises(CellError, match=words):
        kind_of(**said)


def loop_of(kind: type[RecurrentCell]) -> Loop:
    return Loop(kind(torch.randn(3, 2), torch.randn(3, 3), None, None))


@pytest.fixture
def opened() -> Any:
    register(Step, StepAdapter(lambda module: module.of))
    yield
    register(Step, None)


@pytest.mark.usefixtures("opened")
def test_an_edit_that_compute_does_not_ask_for_is_an_error() -> None:
    x = torch.randn(1, 4, 2)
    deaf = loop_of(kind_of(lambda pre, edit: {"q": torch.sigmoid(pre)}))
    assert record(deaf, x)["cell"].q.shape == (1, 4, 3)
    with pytest.raises(CellError, match="`compute` of Mine does not let 'q' be edited once it is"):
        record(deaf, x, edits=clamp("cell", "q", 1, value=0.0))
    with pytest.raises(CellError, match="does not let 'q' be edited before its activation"):
        record(deaf, x, edits=grulens.shift("cell", "q", 1, by=1.0))
    heard = loop_of(kind_of())
    run = record(heard, x, edits=clamp("cell", "q", 1, value=0.0))
    assert bool((run["cell"].q[..., 1] == 0).all())


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize(
    ("made", "came"),
    [(lambda q: {"other": q}, "no such signal"), (lambda q: {"q": q[..., :1]}, r"\(1, \d, 1\)")],
)
def test_a_signal_that_compute_does_not_make_is_an_error(made: Any, came: str) -> None:
    model = loop_of(kind_of(lambda pre, edit: made(torch.sigmoid(pre))))
    with pytest.raises(CellError, match=f"must give 'q' for every step and unit, .* gives {came}"):
        _ = record(model, torch.randn(1, 4, 2))["cell"].q


@pytest.mark.usefixtures("opened")
def test_a_signal_may_be_called_mask() -> None:
    gate = Signal("mask", "mask of my own", 0.0, 1.0, "keep")

    def compute(pre: Tensor, edit: Any) -> Mapping[str, Tensor]:
        return {"mask": torch.sigmoid(pre)}

    layer = record(loop_of(kind_of(compute, signals=(gate, STATE))), torch.randn(1, 4, 2))["cell"]
    assert layer.mask.dtype is torch.bool
    assert layer.signal("mask").is_floating_point()
    assert "mask" in layer.names
