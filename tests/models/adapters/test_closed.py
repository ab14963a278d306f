"""What a model holds beside its layers and cannot be opened is named, wherever layers are."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import grulens
from grulens import Lens, Session, ablate, record, sweep
from grulens.credit import head_of
from grulens.errors import LayerError, NoLayerError, UnsupportedLayerError
from grulens.magics import models_in
from grulens.models.observe.candidates import may_carry


def quiet(make: Callable[[], Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scripting and dynamic quantization are deprecated
        return make()


class Zoned(nn.GRU):
    """Computes something else than torch does."""

    def forward(self, x: Tensor, h: Tensor | None = None) -> Any:
        output = x.cumsum(0)[..., :1].expand(*x.shape[:-1], self.hidden_size)
        return output, output[-1:]


class Alike(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(3, 12), nn.Linear(4, 12)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        return self.x(x) + self.h(hidden)


class Doubled(nn.LSTM):
    def forward(self, input: Tensor, hx: Any = None) -> Any:
        return super().forward(2 * input, hx)


def quantized(kind: type[nn.Module]) -> nn.Module:
    model = nn.ModuleDict({"in": kind(3, 4)})
    return torch.ao.quantization.quantize_dynamic(model, {kind})["in"]


class Cells(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.cell = kind(3, 4)

    def forward(self, x: Tensor) -> Any:
        return self.cell(x)


def exported(kind: type[nn.Module]) -> nn.Module:
    return torch.export.export(Cells(kind), (torch.randn(2, 3),)).module()


KINDS: dict[str, tuple[Callable[[], nn.Module], str, bool]] = {
    "subclass": (lambda: Zoned(3, 4), "is a Zoned, a subclass of nn.GRU", True),
    "scripted": (lambda: torch.jit.script(nn.GRU(3, 4)), "is a scripted GRU, whose code", True),
    "quantized": (lambda: quantized(nn.GRU), "is a quantized GRU, whose weights are int", True),
    "exported": (lambda: exported(nn.GRUCell), "is an exported graph, in which the GRU", True),
    "alike": (Alike, "(Alike) looks like a GRU of 4 units: it has weights of 3 x 4 rows", True),
    "projected": (lambda: nn.LSTM(3, 4, proj_size=2), "is an LSTM with projections (proj", True),
    "own lstm": (lambda: Doubled(3, 4), "is a Doubled, an LSTM with a forward of its own", True),
    "scripted lstm": (lambda: torch.jit.script(nn.LSTM(3, 4)), "is a scripted LSTM", True),
    "scripted rnn": (lambda: torch.jit.script(nn.RNNCell(3, 4)), "is a scripted RNN", True),
    "quantized lstm": (lambda: quantized(nn.LSTM), "is a quantized LSTM, whose weights", True),
    "quantized rnn": (lambda: quantized(nn.RNNCell), "is a quantized RNN, whose weights", True),
    "exported lstm": (lambda: exported(nn.LSTM), "is an exported graph, in which the LSTM", True),
}  # fmt: skip


class Model(nn.Module):
    """A GRU, and a part that does not run; nested, so that names are paths."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(3, 5, batch_first=True), nn.Linear(5, 2)
        self.parts = nn.Sequential(nn.Identity(), part)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0])


X = torch.linspace(-1, 1, 2 * 6 * 3).reshape(2, 6, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_named_beside_what_is_opened(kind: str) -> None:
    make, reason, is_layer = KINDS[kind]
    part = quiet(make)
    found = grulens.layers(Model(part))
    assert [layer.name for layer in found] == ["rnn.l0"]
    (closed,) = found.closed
    assert (closed.name, closed.kind, closed.is_layer) == ("parts.1", type(part).__name__, is_layer)
    assert reason in closed.reason
    assert f"not opened: 'parts.1' {closed.reason}" in repr(found)
    assert "<td>parts.1</td>" in found._repr_html_()
    assert models_in({"net": Model(part)}).closed == {}
    assert f"not opened: 'parts.1' {reason}" in repr(models_in({"net": Model(part)}))
    assert "parts.1" in models_in({"net": Model(part)})._repr_html_()
    assert pickle.loads(pickle.dumps(found)).closed == found.closed


@pytest.mark.parametrize("kind", KINDS)
def test_alone_it_is_named_in_the_error(kind: str) -> None:
    make, reason, is_layer = KINDS[kind]
    model = nn.ModuleDict({"it": quiet(make)})
    error = UnsupportedLayerError if is_layer else NoLayerError
    for use in (lambda m: record(m, X), lambda m: Session(m, X)):
        with pytest.raises(error) as raised:
            use(model)
        assert f"'it' {reason}" in str(raised.value)
    if may_carry(model["it"]):
        # it may be found in a run, so it is listed, with the reason beside it
        assert [part.name for part in grulens.layers(model).observed] == ["it"]
        assert f"not opened: 'it' {reason}" in repr(grulens.layers(model))
    else:
        with pytest.raises(error, match=re.escape(f"'it' {reason}")):
            grulens.layers(model)
    assert f"'it' {reason}" in repr(models_in({"net": model}))


USES: dict[str, Callable[[nn.Module, str], Any]] = {
    "record": lambda m, name: record(m, X, layers=[name]),
    "edit": lambda m, name: record(m, X, edits=[ablate(name, 1)]),
    "sweep": lambda m, name: sweep(m, X, layer=name, progress=False),
    "recording": lambda m, name: record(m, X)[name],
    "session": lambda m, name: Session(m, X, layer=name),
    "head": lambda m, name: head_of(m, X, layer=name),
}


@pytest.mark.parametrize("use", USES)
def test_every_error_about_a_layer_that_is_not_there_names_it(use: str) -> None:
    model = Model(nn.ModuleDict({"a": nn.LSTM(3, 4, proj_size=2), "b": Zoned(3, 4)}))
    with pytest.raises(LayerError) as raised:
        USES[use](model, "nothing")
    text = str(raised.value)
    assert "'nothing'" in text
    assert "rnn.l0" in text
    assert "'parts.1.a' is an LSTM" in text
    assert "'parts.1.b' is a Zoned, a subclass of nn.GRU" in text
    with pytest.raises(LayerError) as raised:
        USES[use](model, "parts.1.a.l0")  # as it would be called: only that one is meant
    assert "'parts.1.a' is an LSTM" in str(raised.value)
    assert "Zoned" not in str(raised.value)


def test_the_chooser_of_a_lens_names_it() -> None:
    lens = Lens(Model(nn.ModuleDict({"<i>": nn.LSTM(3, 4, proj_size=2)})), X)
    assert "1 not opened" in lens._closed.value
    assert "parts.1.&lt;i&gt;&#x27; is an LSTM" in lens._closed.value
    assert lens._closed.layout.display is None
    plain = Lens(Model(nn.Identity()), X)
    assert plain._closed.layout.display == "none"
    assert plain.session.baseline.closed == ()
    lens.close()
    plain.close()


def test_a_line_says_where_the_lines_that_register_a_class_are() -> None:
    said = "If it is one, layers(model) prints the lines that say so"
    assert repr(models_in({"net": Alike()})).endswith(said)
    assert repr(models_in({"net": Model(Alike())})).endswith(said)


def test_many_of_one_kind_are_one_sentence() -> None:
    closed = (nn.LSTM(4, 4, proj_size=2) for _ in range(6))
    found = grulens.layers(nn.Sequential(nn.GRU(3, 4), *closed))
    assert repr(found).splitlines()[1:] == [
        "not opened: '1', '2', '3' and 3 more: each is an LSTM with projections (proj_size=2), "
        "whose output is no state of its units: use proj_size=0 and an nn.Linear behind it"
    ]
    assert len(found.closed) == 6


def test_they_stand_in_the_order_of_the_model_without_the_parts_of_a_part() -> None:
    parts = {
        "a": Alike(),
        "quantizable": torch.ao.nn.quantizable.LSTM(3, 4),
        "b": Alike(),
        "rnn": nn.GRU(3, 4),
        "c": nn.LSTM(3, 4, proj_size=2),
    }
    found = grulens.layers(nn.ModuleDict(parts))
    assert [part.name for part in found.closed] == ["a", "quantizable", "b", "c"]
    assert "not opened: 'a', 'b': each (Alike) looks like a GRU of 4 units" in repr(found)


def test_what_holds_a_layer_is_no_layer_itself() -> None:
    class Decoder(Alike):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(3, 4)

    assert grulens.layers(Decoder()).closed == ()
    assert grulens.layers(nn.ModuleList([nn.GRU(3, 4), nn.Linear(3, 12)])).closed == ()


def test_what_is_registered_is_opened_and_its_parts_are_not_listed() -> None:
    grulens.adapters.register(
        Alike,
        grulens.adapters.StepAdapter(
            lambda m: grulens.Cell(m.x.weight, m.h.weight, m.x.bias, m.h.bias)
        ),
    )
    try:
        assert grulens.layers(Model(Alike())).closed == ()
    finally:
        grulens.adapters.register(Alike, None)
