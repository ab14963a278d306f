"""The widgets over models as they are met: compiled, wrapped, with outputs of any shape."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from grulens import Lens, Session, ablate, record


@dataclass
class Output:
    number: int
    logits: Tensor
    states: tuple[Tensor, ...]


Named = namedtuple("Named", ["ids", "logits"])

OUTPUTS: dict[str, Callable[[Tensor], Any]] = {
    "tensor": lambda y: y,
    "tuple": lambda y: (y, {"state": y[:, -1]}),
    "list": lambda y: [None, y],
    "dict": lambda y: {"ids": y.argmax(-1), "logits": y},
    "ordered dict": lambda y: OrderedDict(inner={"logits": y}),
    "dataclass": lambda y: Output(3, y, (y, y)),
    "named tuple": lambda y: Named(y.argmax(-1), y),
}


class Model(nn.Module):
    def __init__(self, output: Callable[[Tensor], Any] = OUTPUTS["tensor"]) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 4, batch_first=True)
        self.head = nn.Linear(4, 2)
        self.output = output

    def forward(self, x: Tensor) -> Any:
        return self.output(self.head(self.rnn(x)[0]))


class Rounded(Model):
    """It chooses its own precision."""

    def forward(self, x: Tensor) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x)


class First(nn.Module):
    def forward(self, result: tuple[Tensor, Tensor]) -> Tensor:
        return result[0]


def sequential() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 3), nn.GRU(3, 4, batch_first=True), First(), nn.Linear(4, 2))


def normed() -> nn.Module:
    model = Model()
    parametrizations.weight_norm(model.rnn, "weight_hh_l0")
    return model


MODELS: dict[str, tuple[Callable[[], Any], str]] = {
    "sequential": (sequential, "1.l0"),
    "data parallel": (lambda: nn.DataParallel(Model()), "module.rnn.l0"),
    "compiled": (lambda: torch.compile(Model().requires_grad_(False), backend="eager"), "rnn.l0"),
    "weight norm": (normed, "rnn.l0"),
    "autocast": (Rounded, "rnn.l0"),
    "a bare GRU": (lambda: nn.GRU(3, 2, batch_first=True), "l0"),
    "float16": (lambda: Model().half(), "rnn.l0"),
    "bfloat16": (lambda: Model().bfloat16(), "rnn.l0"),
    "float64": (lambda: Model().double(), "rnn.l0"),
}


def used(model: nn.Module, layer: str) -> None:
    """A session on it, after an edit and back: what every screen does."""
    x = torch.randn(2, 6, 3, dtype=next(model.parameters()).dtype)
    session = Session(model, x)
    assert session.layer == layer
    assert session.answer_before.values.shape == (6, 2)
    before = session.answer_before.values
    session.add(ablate(layer, 1, at=2))
    assert float(session.now.h[:, 2, 1].abs().max()) == 0
    assert session.divergence[:2].abs().max() <= 1e-2 * before.abs().max()
    assert session.divergence[2:].abs().max() > 0
    session.undo()
    assert torch.equal(session.answer_now.values, before)


@pytest.mark.parametrize("kind", OUTPUTS)
def test_an_output_of_any_shape(kind: str) -> None:
    used(Model(OUTPUTS[kind]), "rnn.l0")


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_of_any_kind(kind: str) -> None:
    make, layer = MODELS[kind]
    model = make()
    if kind == "compiled":
        model(torch.randn(2, 6, 3))
    used(model, layer)
    lens = Lens(model, torch.randn(2, 6, 3, dtype=next(model.parameters()).dtype))
    assert f", {layer}, " in repr(lens)
    lens.close()


def test_what_was_begun_under_autocast_goes_on_under_it() -> None:
    model, x = Model(), torch.randn(1, 6, 3)
    with torch.autocast("cpu", torch.bfloat16):
        session = Session(model, x)
        expected = record(model, x, edits=ablate("rnn.l0", 1)).output
    session.add(ablate("rnn.l0", 1))  # as a click does, in another thread or a later cell
    assert torch.equal(session.edited.output, expected)
    plain = Session(model, x)
    with torch.autocast("cpu", torch.bfloat16):
        plain.add(ablate("rnn.l0", 1))
    assert torch.equal(plain.edited.output, record(model, x, edits=ablate("rnn.l0", 1)).output)
    assert not torch.equal(plain.edited.output, expected)
