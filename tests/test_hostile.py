"""Hostile input for every public name: each call gives a documented error or a right answer.

Run without the checks of annotations, as users have it. An error is documented if it is one of
grulens' own tree; if it is what the user's own function or torch raised, which the call cannot
know better; or if it is what traitlets says of a value that a trait cannot hold.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import numpy as np
import pytest
import torch
import traitlets as tl
from hypothesis import given, note, settings
from hypothesis import strategies as st
from IPython.testing.globalipapp import start_ipython
from torch import nn

import grulens
from grulens import (
    Cell,
    Edit,
    Lens,
    Session,
    ablate,
    editing,
    errors,
    layers,
    record,
    recording,
    scale,
)
from grulens.adapters import (
    GRUStack,
    RecurrentCell,
    SequenceAdapter,
    Signal,
    StepAdapter,
    activated,
    activations,
    kinds,
    register,
)
from grulens.errors import EditError, GrulensError, NonFiniteWarning, shown
from grulens.results import Result
from tests.intact import Intact
from tests.junk import TEXTS, Mute, Thing, things
from tests.public import HOME, public

pytestmark = pytest.mark.unchecked

Draw = Callable[[Any], Thing]
EDITS = {"ablate": "to", "clamp": "value", "scale": "by", "shift": "by", "patch": "source"}


class Tagger(nn.Module):
    """A text or class numbers in, logits out."""

    labels = tuple("abcd")

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(4, 3)
        self.rnn = nn.GRU(3, 4, batch_first=True)
        self.out = nn.Linear(4, 4)

    def encode(self, text: str) -> torch.Tensor:
        return torch.tensor([["abcd".index(c) for c in text]])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(self.embed(ids))[0])


torch.manual_seed(0)
RNN, X = nn.GRU(3, 4, batch_first=True), torch.randn(2, 5, 3)
TAGGER = Tagger().eval()
SOURCE = record(RNN, X)
STATES = SOURCE["l0"].h.clone()


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NonFiniteWarning)
        yield


def documented(call: Callable[[], Any], *also: type[Exception], drawn: Any = ()) -> Any:
    """What a call gives; None if it raised an error that is documented for it."""
    try:
        return call()
    except GrulensError as error:
        words = str(error)
    except also:
        return None
    except Exception as error:
        raise AssertionError(f"{type(error).__name__} is not documented for {drawn}") from error
    assert 10 < len(words) < 2500  # it says something, and no more than can be read
    return None


# a person's part: what is tried on each public name


def an_edit(kind: str) -> Callable[[Draw], None]:
    def attempt(draw: Draw) -> None:
        layer, signal = draw(things(l0="l0", x="nope")), draw(things(z="z", h="h"))
        units, at = draw(things(one=1, all=None)), draw(things(last=-1, all=None))
        rows, amount = draw(things(first=0)), draw(things(half=0.5, mean="mean", source=SOURCE))
        given = (layer, signal, units, at, rows, amount)
        where = {"units": units.value, "at": at.value, "rows": rows.value}
        args = (layer.value,) if kind == "ablate" else (layer.value, signal.value)
        make = public(kind)
        edit = documented(lambda: make(*args, **{EDITS[kind]: amount.value}, **where), drawn=given)
        if edit is not None:
            is_right(edit)

    return attempt


def is_right(edit: Edit) -> None:
    again = Edit.from_dict(json.loads(json.dumps(edit.to_dict())))
    assert again == edit
    assert hash(again) == hash(edit)
    assert edit.layer in edit._repr_html_() or edit.layer != "l0"
    assert isinstance(edit.words(), str)
    intact = Intact(RNN)
    run = documented(lambda: record(RNN, X, edits=edit))
    assert intact.broken() == []
    if run is None:
        return
    with torch.no_grad(), editing(RNN, edit):
        assert torch.equal(RNN(X)[0], run.output[0]) or run.output[0].isnan().any()
    if run.output[0].isfinite().all() and run["l0"].n.isfinite().all():
        assert run.residual < 1e-4 * max(1.0, float(run["l0"].n.abs().max()))


def a_stored_edit(draw: Draw) -> None:
    anything = draw(things())
    documented(lambda: Edit.from_dict(anything.value), drawn=anything)
    held = ablate("l0", [1], at=slice(1, 3)).to_dict()
    key = draw(st.sampled_from(sorted(held)))
    edit = documented(lambda: Edit.from_dict(held | {key: anything.value}), drawn=(key, anything))
    if edit is not None:
        is_right(edit)


def a_recording(draw: Draw) -> None:
    x, h_0 = draw(things(x=X, rows=X[:0], half=X.half())), draw(things(none=None))
    layer, edits = draw(things(none=None, l0="l0")), draw(things(none=(), one=ablate("l0", 1)))
    try:
        plain, refused = RNN(x.value, h_0.value), None
    except Exception as error:
        plain, refused = None, type(error)
    also = () if refused is None else (refused,)
    intact = Intact(RNN)
    given = (x, h_0, layer, edits)
    options = {"layers": layer.value, "edits": edits.value}
    run = documented(lambda: record(RNN, x.value, h_0.value, **options), *also, drawn=given)
    assert intact.broken() == []
    if run is None:
        return
    assert plain is not None
    assert run.residual < 1e-5 or not run.output[0].isfinite().all()
    if not run.edits:
        assert torch.equal(run.output[0], plain[0]) or plain[0].isnan().any()


def a_model(draw: Draw) -> None:
    model = draw(things())
    intact = Intact(RNN)
    documented(lambda: layers(model.value), drawn=model)
    documented(lambda: record(model.value, X), drawn=model)
    assert intact.broken() == []


def a_block(draw: Draw) -> None:
    edits = [draw(things(one=ablate("l0", 1))) for _ in range(2)]
    intact = Intact(RNN)

    def use() -> None:
        with editing(RNN, *(edit.value for edit in edits)):
            RNN(X)

    documented(use, drawn=edits)
    assert intact.broken() == []
    assert torch.equal(RNN(X)[0], STATES)


def a_recorded_block(draw: Draw) -> None:
    edits = [draw(things(one=ablate("l0", 1))) for _ in range(2)]
    layers_ = draw(things(none=None, l0="l0"))
    intact = Intact(RNN)

    def use() -> None:
        with recording(RNN, *(edit.value for edit in edits), layers=layers_.value) as runs:
            RNN(X)
        assert [run["l0"].shape for run in runs] == [SOURCE["l0"].shape]

    documented(use, drawn=[*edits, layers_])
    assert intact.broken() == []


def a_look(draw: Draw) -> None:
    name = draw(things(l0="l0", z="z"))
    documented(lambda: SOURCE[name.value], drawn=name)
    documented(lambda: SOURCE["l0"].signal(name.value), drawn=name)
    documented(lambda: type(SOURCE).load(name.value), OSError, drawn=name)
    assert torch.equal(SOURCE["l0"].h, STATES)


def a_cell(draw: Draw) -> None:
    weights = [draw(things(right=torch.zeros(12, n))) for n in (3, 4)]
    biases = [draw(things(none=None, right=torch.zeros(12))) for _ in range(2)]
    # a function of the user's own may raise what it likes, so those that fit are drawn alone
    good = st.sampled_from([torch.sigmoid, torch.tanh]).map(lambda f: Thing("function", f))
    bad = things().filter(lambda thing: not callable(thing.value))
    gate, after = draw(good | bad), draw(things(true=True, false=False))
    given = (*weights, *biases, gate, after)
    values = [thing.value for thing in (*weights, *biases)]
    cell = documented(lambda: Cell(*values, gate=gate.value, reset_after=after.value), drawn=given)
    if cell is not None:
        assert (cell.input_size, cell.hidden_size) == tuple(w.value.shape[1] for w in weights)
        documented(cell.z_swapped)
        x = torch.zeros(1, 2, cell.input_size, dtype=cell.weight_hh.dtype)
        assert GRUStack(cell)(x)[0].shape == (1, 2, cell.hidden_size)
    array, option = draw(things()), draw(bad)
    documented(lambda: Cell.from_keras(array.value), drawn=array)
    documented(lambda: Cell.from_keras([array.value] * 3), drawn=array)
    kernels = [torch.zeros(3, 12), torch.zeros(4, 12)]
    for name in ("activation", "recurrent_activation", "keras_version", "reset_after"):
        documented(lambda n=name: Cell.from_keras(kernels, **{n: option.value}), drawn=option)
    documented(lambda: Cell.from_onnx(array.value), OSError, drawn=array)


def a_stack(draw: Draw) -> None:
    cell = Cell(torch.zeros(12, 3), torch.zeros(12, 4), None, None, reset_after=False)
    anything = draw(things(cell=cell))
    for cells in (anything.value, [anything.value], [(cell, anything.value)]):
        documented(lambda cells=cells: GRUStack(cells), drawn=anything)
    documented(lambda: GRUStack(cell)(anything.value), drawn=anything)
    documented(lambda: GRUStack(cell)(X, anything.value), drawn=anything)


def an_adapter(kind: type) -> Callable[[Draw], None]:
    def attempt(draw: Draw) -> None:
        class Mine(nn.Linear):
            pass

        cells, part, given = draw(things()), draw(things()), draw(st.booleans())
        options = {"arguments": lambda *_, **__: part.value} if given else {}
        made = cells.value if draw(st.booleans()) else lambda _: cells.value
        adapter = documented(lambda: kind(made, **options), drawn=(cells, part))
        module = Mine(3, 4)
        try:
            documented(lambda: register(Mine, adapter), drawn=(cells, part))
            intact = Intact(module)
            documented(lambda: record(module, X), drawn=(cells, part))
            assert intact.broken() == []
        finally:
            register(Mine, None)

    return attempt


def a_kind_of_cell(draw: Draw) -> None:
    weights = [draw(things(right=torch.zeros(4, n))) for n in (3, 4)]
    biases = [draw(things(none=None, right=torch.zeros(4))) for _ in range(2)]
    values = [thing.value for thing in (*weights, *biases)]
    cell = documented(lambda: kinds.RNN(*values), drawn=(weights, biases))
    if cell is not None:
        assert isinstance(cell, RecurrentCell)
        assert all(isinstance(signal, Signal) for signal in cell.signals)
        assert (cell.input_size, cell.hidden_size) == tuple(w.value.shape[1] for w in weights)


def an_activated_signal(draw: Draw) -> None:
    name, pre = draw(things(z="z")), STATES[0]
    before, after = activated(name.value, pre, torch.sigmoid, None)
    assert torch.equal(before, pre)
    assert torch.equal(after, pre.sigmoid())
    edited = activated(name.value, pre, torch.sigmoid, lambda _, value, before: value + before)
    assert torch.equal(edited[0], pre + 1)
    assert torch.equal(edited[1], (pre + 1).sigmoid())


def an_activation(draw: Draw) -> None:
    kind = draw(st.sampled_from(["Affine", "Clipped", "Elu", "HardSigmoid", "LeakyRelu"]))
    anything = draw(things(half=0.5).filter(lambda thing: not callable(thing.value)))
    numbers = kind != "Clipped"
    values = [anything.value] if numbers else [activations.identity, anything.value]
    gate = getattr(activations, kind)(*values, **({"beta": 0.0} if kind == "Affine" else {}))
    weights = (torch.zeros(12, 3), torch.zeros(12, 4), None, None)
    cell = documented(lambda: Cell(*weights, gate=gate), drawn=(kind, anything))
    if cell is not None and anything.name == "half":
        assert cell.gate is gate


def a_registration(draw: Draw) -> None:
    one, other = draw(things(linear=nn.Linear)), draw(things())
    documented(lambda: register(one.value, other.value), drawn=(one, other))
    register(nn.Linear, None)


READOUTS: dict[str, Any] = {
    "itself": lambda out: out,
    "last": lambda out: out[:, -1],
    "one": lambda out: out[..., 0],
    "nan": lambda out: out * float("nan"),
    "infinite": lambda out: out * float("inf"),
    "negative": lambda out: -out.softmax(-1),
    "half": lambda out: out.half(),
    "bfloat16": lambda out: out.bfloat16(),
    "with a graph": lambda out: out.clone().requires_grad_(),
    "longer": lambda out: out.repeat(1, 3, 1),
    "wide": lambda out: out[..., :1].expand(-1, -1, 9),
    "int": lambda out: out.long(),
    "bool": lambda out: out > 0,
    "complex": lambda out: out.to(torch.complex64),
    "no step": lambda out: out[:, :0],
    "no class": lambda out: out[..., :0],
    "number": lambda out: out.sum(),
    "4-d": lambda out: out[None],
    "list": lambda out: [out],
    "None": lambda out: None,
    "rows": lambda out: out.repeat(3, 1, 1),
    "meta": lambda out: out.to("meta"),
    "sparse": lambda out: out.to_sparse(),
}


def a_widget(name: str) -> Callable[[Draw], None]:
    def attempt(draw: Draw) -> None:
        kind = public(name)
        text = draw(st.sampled_from(sorted(TEXTS)))
        several = {"tokens": [TEXTS[text]] * 6, "labels": [TEXTS[text]] * 4}
        scales = things(logits="logits", probability="probability", value="value")
        # as above: any other function may raise what it likes
        readout = things(**READOUTS).filter(lambda t: t.name in READOUTS or not callable(t.value))
        choices = {
            "tokens": things(texts=several["tokens"]), "labels": things(texts=several["labels"]),
            "readout": readout, "scale": scales, "layer": things(name="rnn.l0"),
            "truth": things(one=[1], name=["c"], unknown=[None], text=[TEXTS[text]]),
        }  # fmt: skip
        asked = draw(st.lists(st.sampled_from(sorted(choices)), max_size=3, unique=True))
        drawn = {option: draw(choices[option]) for option in asked}
        options = {option: thing.value for option, thing in drawn.items()}
        intact = Intact(TAGGER)
        made = documented(lambda: kind(TAGGER, "abcdab", **options), drawn=(text, drawn))
        getattr(made, "wait", lambda: None)()  # until nothing runs in the background
        assert intact.broken() == []
        if made is not None:
            documented(lambda: it_works(made), drawn=(text, drawn))
            getattr(made, "close", lambda: None)()
            getattr(made, "wait", lambda: None)()

    return attempt


def it_works(made: Any) -> None:
    session = made if isinstance(made, Session) else made.session
    session.add(ablate("rnn.l0", 1))
    assert float(session.now.h[..., 1].abs().max()) == 0
    session.moved, session.top(0), session.code(), session.effect(session.on[0])
    if made is session:
        return
    pages = [made.still(), str(made._repr_mimebundle_())]
    if isinstance(made, Lens):
        panels = (made, made.gates, made.table, made.toggles)
        assert [panel._errors.value for panel in panels] == [""] * 4
        path = Path(pytest.temporary) / "lens.html"  # type: ignore[attr-defined]
        pages.append(made.save(path).read_text(encoding="utf-8"))
    for page in pages:
        assert "<script>alert" not in page
        assert "<img src=x onerror" not in page


def last(out: Any) -> torch.Tensor:
    return out[0][:, -1].sum(1)


CLOSE = grulens.close_up(SOURCE, "l0", step=1, unit=2)
COMPARED = grulens.compare(SOURCE, SOURCE, "l0", rows=(0, 1))
SWEEP = grulens.sweep(RNN, X, layer="l0", readout=last, progress=False)
TRACE = grulens.trace_patch(RNN, X, X.flip(1), "l0", last, progress=False)


ATTENTION, TIMESCALES = grulens.memory.attention(SOURCE), grulens.memory.timescales(SOURCE)


def a_sweep(draw: Draw) -> None:
    good = {
        "layer": {"l0": "l0"}, "units": {"all": None, "groups": [[0, 1], 2]},
        "times": {"none": None, "last": -1}, "method": {"exact": "exact", "gradient": "gradient"},
        "sample": {"two": 2}, "memory": {"little": 1}, "x": {"x": X, "half": X.half()},
    }  # fmt: skip
    drawn = {name: draw(things(**fit)) for name, fit in good.items()}
    # as above: a function of one's own may raise what it likes
    for name in ("make_edit", "readout"):
        drawn[name] = draw(things().filter(lambda thing: not callable(thing.value)))
        if draw(st.booleans()):
            fit = ablate if name == "make_edit" else last
            drawn[name] = Thing("one that fits", fit)
    if draw(st.booleans()):
        drawn["make_edit"] = Thing("gives", lambda *_, v=drawn["sample"].value, **__: v)
    options = {name: thing.value for name, thing in drawn.items()}
    x = options.pop("x")
    also = refused(x)
    intact = Intact(RNN)
    found = documented(lambda: grulens.sweep(RNN, x, progress=False, **options), *also, drawn=drawn)
    assert intact.broken() == []
    if found is not None:
        assert bool(found.done.all())
        assert torch.equal(found.baseline, last(RNN(x)))
        assert torch.allclose(found.direct + found.recurrent, found.effect, equal_nan=True)


def a_trace(draw: Draw) -> None:
    good = {"clean": {"x": X}, "corrupted": {"x": X.flip(1)}, "layer": {"l0": "l0"},
            "readout": {"last": last}}  # fmt: skip
    drawn = {name: draw(things(**fit)) for name, fit in good.items()}
    if callable(drawn["readout"].value):
        drawn["readout"] = Thing("last", last)
    more = {name: draw(things(none=None)) for name in ("units", "times", "block")}
    more |= {"signal": draw(things(z="z")), "memory": draw(things(some=2**20))}
    values = {name: thing.value for name, thing in (drawn | more).items()}
    also = (*refused(values["clean"]), *refused(values["corrupted"]))
    intact = Intact(RNN)
    documented(
        lambda: grulens.trace_patch(RNN, **values, progress=False), *also, drawn=(drawn, more)
    )
    assert intact.broken() == []


def some_mathematics(name: str) -> Callable[[Draw], None]:
    """A function of a cell and numbers: `Cell` in, a result or CellError out."""
    fits: dict[str, dict[str, Any]] = {
        "jacobian": {"x": X[:, 0], "h": STATES[:, 0]},
        "find_fixed_points": {"x": X[0, 0], "starts": STATES[0], "tol": 1e-9, "memory": 1},
        "lyapunov": {"x": X[0], "h": STATES[0, 0], "skip": 1},
        "trajectories": {"x": X[0, 0], "h": STATES[0], "steps": 3},
        "unstable_directions": {"x": X[0, 0], "h": STATES[0, 0], "count": 1},
    }

    def attempt(draw: Draw) -> None:
        drawn = {"cell": draw(things(cell=SOURCE["l0"].cell))}
        drawn |= {key: draw(things(fits=value)) for key, value in fits[name].items()}
        values = {key: thing.value for key, thing in drawn.items()}
        more = {"progress": False} if name == "find_fixed_points" else {}
        found = documented(lambda: public(name)(**values, **more), drawn=drawn)
        if isinstance(found, torch.Tensor):
            assert found.dtype == torch.float64
            assert found.shape[-1] == 4
        elif found is not None:
            assert name.replace("find_", "").split("_")[0] in repr(found).lower()

    return attempt


FLOW = grulens.memory.gradient_flow(SOURCE)


def a_flow(draw: Draw) -> None:
    run, layer, toward = draw(things(run=SOURCE)), draw(things(l0="l0")), draw(things(none=None))
    t, k, row = (draw(things(one=1)) for _ in range(3))
    documented(lambda: grulens.memory.gradient_flow(run.value, layer.value), drawn=(run, layer))
    documented(lambda: FLOW.at(t.value, toward=toward.value), drawn=(t, toward))
    documented(lambda: FLOW.map(toward=toward.value), drawn=toward)
    documented(lambda: FLOW.product(t.value, k.value, row=row.value), drawn=(t, k, row))


class Loop(nn.Module):
    """A cell of nobody's kind, which is observed."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.new = nn.Linear(7, 4), nn.Linear(7, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x.new_zeros(len(x), 4)
        for x_t in x.unbind(1):
            both = torch.cat([x_t, h], 1)
            u = torch.sigmoid(self.gate(both))
            h = u * h + (1 - u) * torch.tanh(self.new(both))
        return h


LOOP = Loop().eval()


class OverSpace(nn.Module):
    """The same with a state over space."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.new = (nn.Conv2d(3, 2, 3, padding=1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x.new_zeros(len(x), 2, 3, 4)
        for x_t in x.unbind(1):
            both = torch.cat([x_t, h], 1)
            u = torch.sigmoid(self.gate(both))
            h = u * h + (1 - u) * torch.tanh(self.new(both))
        return h


FRAMES = grulens.record(OverSpace().eval(), torch.ones(2, 4, 1, 3, 4))["cell"]


def an_observed_step(draw: Draw) -> None:
    model, layer, t, row = (
        draw(things(model=LOOP)), draw(things(cell="cell")), draw(things(two=2)),
        draw(things(one=1)),
    )  # fmt: skip
    values = [thing.value for thing in (model, layer, t, row)]
    documented(
        lambda: grulens.dynamics.observed_step(
            values[0], X, layer=values[1], t=values[2], row=values[3]
        ),
        drawn=(model, layer, t, row),
    )
    starts, still = draw(things(starts=STATES[0])), draw(things(nothing=None))
    step = grulens.dynamics.observed_step(LOOP, X, t=1)
    documented(
        lambda: grulens.dynamics.find_fixed_points(
            step, starts=starts.value, x=still.value, progress=False
        ),
        drawn=(starts, still),
    )
    documented(
        lambda: grulens.dynamics.unstable_directions(step, starts.value, x=still.value),
        drawn=(starts, still),
    )


def a_recorded_row(draw: Draw) -> None:
    run, layer = draw(things(run=SOURCE)), draw(things(l0="l0"))
    row, skip = draw(things(one=1)), draw(things(none=None))
    documented(
        lambda: grulens.dynamics.lyapunov_along(
            run.value, layer.value, row=row.value, skip=skip.value
        ),
        drawn=(run, layer, row, skip),
    )


def a_recorded_step(draw: Draw) -> None:
    run, t, layer, rows = (
        draw(things(run=SOURCE)), draw(things(last=-1)), draw(things(l0="l0")), draw(things(one=1))
    )  # fmt: skip
    documented(
        lambda: grulens.dynamics.jacobian_at(run.value, t.value, layer.value, rows=rows.value),
        drawn=(run, t, layer, rows),
    )


PORTRAIT = grulens.dynamics.portrait(SOURCE)


def a_portrait(draw: Draw) -> None:
    run, layer, components = draw(things(run=SOURCE)), draw(things(l0="l0")), draw(things(two=2))
    documented(
        lambda: grulens.dynamics.portrait(run.value, layer.value, components=components.value),
        drawn=(run, layer, components),
    )
    first, second, through = (draw(things(one=1)) for _ in range(3))
    states = draw(things(states=STATES))
    documented(lambda: PORTRAIT.project(states.value), drawn=states)
    documented(
        lambda: PORTRAIT.plane(first.value, second.value, through=through.value),
        drawn=(first, second, through),
    )


def a_head(draw: Draw) -> None:
    model, layer = draw(things(tagger=TAGGER)), draw(things(l0="rnn.l0"))
    ids = draw(things(ids=torch.tensor([[0, 1, 2]])))
    intact = Intact(TAGGER)
    also: tuple[type[Exception], ...] = ()
    try:
        TAGGER(ids.value)
    except Exception as error:
        also = (type(error),)
    head = documented(
        lambda: grulens.credit.head_of(model.value, ids.value, layer=layer.value),
        *also,
        drawn=(model, ids),
    )
    assert intact.broken() == []
    if head is not None:
        assert head.weight.shape == (4, 4)


def a_credit(name: str) -> Callable[[Draw], None]:
    def attempt(draw: Draw) -> None:
        drawn = {"input_of": draw(things(none=None, l0="l0"))}
        drawn["x"] = draw(things(x=X, half=X.half()))
        also = raised(lambda: RNN(drawn["x"].value))
        # as above: a function of one's own may raise what it likes
        drawn["readout"] = draw(things().filter(lambda thing: not callable(thing.value)))
        if draw(st.booleans()):
            drawn["readout"] = Thing("one that fits", last)
        if draw(st.booleans()):
            drawn["readout"] = Thing("none", None)
            drawn["target"], drawn["step"] = draw(things(one=1)), draw(things(two=2))
        if name == "integrated_gradients":
            drawn["baseline"] = draw(things(half=0.5, row=X[0, 0]))
            drawn["steps"] = Thing("few", 2) if draw(st.booleans()) else draw(things())
        options = {key: thing.value for key, thing in drawn.items()}
        x = options.pop("x")
        more = {"progress": False} if name == "integrated_gradients" else {}
        intact = Intact(RNN)
        found = documented(lambda: public(name)(RNN, x, **options, **more), *also, drawn=drawn)
        assert intact.broken() == []
        if found is not None:
            assert found.inputs.shape == (*RNN(x)[0].shape[:2], 3)
            assert "Credit(" in repr(found)
            assert "<table" in found._repr_html_()

    return attempt


CREDIT = grulens.credit.input_x_gradient(RNN, X, readout=last)
READ = nn.Linear(4, 3)
LENS = grulens.credit.logit_lens(RNN, X, head=READ)


def a_lens(draw: Draw) -> None:
    layer, x = draw(things(none=None, l0="l0")), draw(things(x=X))
    head = draw(things(linear=READ).filter(lambda t: t.name == "linear" or not callable(t.value)))
    intact = Intact(RNN)
    found = documented(
        lambda: grulens.credit.logit_lens(RNN, x.value, layer=layer.value, head=head.value),
        *raised(lambda: RNN(x.value)),
        drawn=(layer, x, head),
    )
    assert intact.broken() == []
    if found is not None:
        assert found.logits.shape[2] == 3
    anything = draw(things(one=1))
    for use in (LENS.share, LENS.top, lambda k: LENS.top(0, k), LENS.to_frame):
        documented(lambda use=use: use(anything.value), drawn=anything)


def raised(call: Callable[[], Any]) -> tuple[type[Exception], ...]:
    """What a call of torch itself raises, if it does."""
    try:
        call()
    except Exception as error:
        return (type(error),)
    return ()


def refused(x: Any) -> tuple[type[Exception], ...]:
    """What torch itself raises for an input, if it does."""
    args = x if type(x) is tuple else (x,)
    try:
        RNN(*args, **{}) if not isinstance(x, dict) else RNN(**x)
    except Exception as error:
        return (type(error),)
    return ()


def an_attention(draw: Draw) -> None:
    run, layer, rows = draw(things(run=SOURCE)), draw(things(l0="l0")), draw(things(all=None))
    found = documented(lambda: grulens.memory.attention(run.value, layer.value, rows=rows.value),
                       drawn=(run, layer, rows))  # fmt: skip
    found = ATTENTION if found is None else found
    t, toward, units = draw(things(last=-1)), draw(things(none=None)), draw(things(all=None))
    given = (t, toward, units)
    options = {"toward": toward.value, "units": units.value}
    documented(lambda: found.at(t.value), drawn=given)
    documented(lambda: found.query(t.value, **options), drawn=given)
    made = documented(lambda: (found.map(**options), found.initial(**options)), drawn=given)
    if made is not None and toward.value is None:
        assert torch.allclose(made[0].sum(2) + made[1], torch.ones(1))


def a_timescale(draw: Draw) -> None:
    run, layer, rows = draw(things(run=SOURCE)), draw(things(l0="l0")), draw(things(all=None))
    more = {
        name: draw(things(**{name: fit}))
        for name, fit in {"low": 0.2, "high": 1, "quantiles": [0, 1], "bins": 7}.items()
    }
    options = {name: thing.value for name, thing in more.items()}
    found = documented(
        lambda: grulens.memory.timescales(run.value, layer.value, rows=rows.value, **options),
        drawn=(run, layer, rows, more),
    )
    found = TIMESCALES if found is None else found
    gate, units = draw(things(z="z")), draw(things(all=None))
    parts = documented(lambda: found.histogram(gate.value, units.value), drawn=(gate, units))
    assert parts is None or float(parts.sum()) in (0.0, pytest.approx(1.0))
    assert len(found.to_frame()) == len(found) == 4
    assert "l0" in found._repr_html_()


def a_comparison(draw: Draw) -> None:
    a, b = (draw(things(run=SOURCE, layer=SOURCE["l0"])) for _ in range(2))
    tokens = draw(things(none=None, right=("abcd", "abXd"), short=("abc", "ab")))
    drawn = {
        "layer": draw(things(l0="l0", none=None)), "rows": draw(things(two=(0, 1), last=(-1, 0))),
        "align": draw(things(steps="steps", tokens="tokens")), "tokens": tokens,
        "readout": draw(things(none=None, last=lambda out: out[0])),
        "scale": draw(things(none=None, value="value")),
    }  # fmt: skip
    options = {name: thing.value for name, thing in drawn.items()}
    found = documented(lambda: grulens.compare(a.value, b.value, **options), drawn=(a, b, drawn))
    found = COMPARED if found is None else found
    signal = draw(things(z="z"))
    change = documented(lambda: found.difference(signal.value), drawn=signal)
    assert change is None or len(change) == len(found.steps)
    documented(lambda: found.ranked(signal.value), drawn=signal)
    documented(lambda: found.answer_difference, drawn=(a, b, drawn))
    assert "Comparison" in found._repr_html_()


def a_close_up(draw: Draw) -> None:
    run, layer = draw(things(run=SOURCE)), draw(things(l0="l0", none=None))
    step, unit, row = (draw(things(first=0, last=-1)) for _ in range(3))
    found = documented(
        lambda: grulens.close_up(
            run.value, layer.value, step=step.value, unit=unit.value, row=row.value
        ),
        drawn=(run, layer, step, unit, row),
    )
    found = CLOSE if found is None else found
    signal = draw(things(z="z"))
    parts = documented(lambda: found.parts(signal.value), drawn=signal)
    documented(lambda: found.total(signal.value), drawn=signal)
    assert parts is None or len(parts) == len(found.x) + len(found.h_prev) + 2
    assert "l0" in found._repr_html_()


def a_cell_page(draw: Draw) -> None:
    anything = draw(things())
    option = draw(st.sampled_from(["units", "title", "about", "language", "layer", "tokens"]))
    page = documented(lambda: grulens.CellPage(RNN, X, **{option: anything.value}), drawn=anything)
    documented(lambda: grulens.CellPage(anything.value, X), drawn=anything)
    assert page is None or "CellPage" in repr(page)


def a_sweeps_use(draw: Draw) -> None:
    anything = draw(things(effect="effect"))
    documented(lambda: SWEEP.size(anything.value), drawn=anything)
    documented(lambda: SWEEP.order(anything.value), drawn=anything)
    documented(lambda: type(SWEEP).load(anything.value), OSError, drawn=anything)
    for found in (CREDIT, ATTENTION, FLOW):
        documented(lambda found=found: found.to_frame(anything.value), drawn=anything)


HEAD = nn.Linear(4, 3)
TREE = grulens.phrases.agglomerate(RNN, X, target=0, head=HEAD, progress=False)


def of_phrases(name: str) -> Callable[[Draw], None]:
    def attempt(draw: Draw) -> None:
        good: dict[str, dict[str, Any]] = {
            "target": {"one": 1, "two": (0, 2)}, "step": {"last": -1, "final": "final"},
            "layer": {"l0": "l0", "none": None}, "head": {"head": HEAD}, "dtype": {"none": None},
            "phrases": {"two": [slice(0, 2), [1, 3]], "each": None}, "pairs": {"all": "all"},
            "row": {"first": 0}, "by": {"score": "score"}, "eps": {"small": 1e-3},
        }  # fmt: skip
        taken = {
            "agglomerate": ("target", "row", "by", "step", "layer", "head", "dtype"),
            "contextual_credit": ("target", "step", "layer", "head", "dtype"),
            "contextual_decomposition": ("phrases", "layer", "head", "dtype"),
            "interactions": ("target", "phrases", "pairs", "step", "layer", "head", "dtype"),
            "layerwise_relevance": ("target", "step", "layer", "head", "eps", "dtype"),
        }[name]
        hostile = draw(st.sampled_from([*taken, "x"]))
        x = draw(things(x=X, half=X.half()) if hostile == "x" else st.just(Thing("x", X)))
        drawn = {
            option: draw(things(**good[option]) if option == hostile else
                         st.sampled_from([Thing(n, v) for n, v in good[option].items()]))
            for option in taken
        }  # fmt: skip
        options = {option: thing.value for option, thing in drawn.items()}
        if name in ("agglomerate", "interactions"):
            options["progress"] = False
        intact = Intact(RNN)
        ask = public(name)
        found = documented(lambda: ask(RNN, x.value, **options), *refused((x.value,)),
                           drawn=(x, drawn))  # fmt: skip
        assert intact.broken() == []
        if found is not None:
            assert len(repr(found)) < 300
            assert "<script>alert" not in found._repr_html_()

    return attempt


def a_tree(draw: Draw) -> None:
    first, stop = draw(things(two=2)), draw(things(four=4))
    documented(lambda: TREE.at(first.value, stop.value), drawn=(first, stop))


CELL = SOURCE["l0"].cell
FURTHER = {
    "portrait": grulens.dynamics.portrait(SOURCE),
    "points": grulens.dynamics.find_fixed_points(CELL, starts=torch.rand(5, 4), progress=False),
    "exponents": grulens.dynamics.lyapunov(CELL, X[0].detach()),
    "jacobian": grulens.dynamics.jacobian(CELL, X[:, 0].detach(), torch.rand(len(X), 4)),
    "flow": grulens.memory.gradient_flow(SOURCE),
    "head": grulens.phrases.contextual_decomposition(RNN, X, head=HEAD).head,
    "parts": grulens.phrases.contextual_decomposition(RNN, X, head=HEAD),
    "together": grulens.phrases.interactions(RNN, X, target=0, head=HEAD, progress=False),
}


def a_plot(draw: Draw) -> None:
    results = {"sweep": SWEEP, "trace": TRACE, "attention": ATTENTION, "timescales": TIMESCALES,
               "tree": TREE, "credit": CREDIT, "lens": LENS, "automaton": FOUND,
               "statistics": SCAN.stats(), "top": SCAN.top(1), "match": SCAN.match([0, 1], 2),
               "probe": PROBED, "close": CLOSE, **FURTHER}  # fmt: skip
    found, options = draw(things(**results)), dict[str, Thing]()
    if draw(st.booleans()):
        fit = {"tokens": {"texts": [TEXTS["html"]] * 5}, "output": {}, "row": {}, "toward": {}}
        options = {name: draw(things(none=None, **more)) for name, more in fit.items()}
    made = documented(
        lambda: grulens.plot(found.value, **{name: thing.value for name, thing in options.items()}),
        drawn=(found, options),
    )
    if made is not None:
        page = str(made._repr_mimebundle_())
        assert "<script>alert" not in page
        assert "<img src=x onerror" not in page
        made.close()


def an_error(draw: Draw) -> None:
    anything = draw(things())
    assert len(shown(anything.value)) <= 301
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, GrulensError):
            assert TEXTS["html"] in str(kind(TEXTS["html"]))


def a_language(draw: Draw) -> None:
    name = draw(things())
    before = grulens.language()
    documented(lambda: grulens.language(name.value), drawn=name)
    assert grulens.language() == before


def an_extension(draw: Draw) -> None:
    shell = start_ipython() or get_ipython()  # type: ignore[name-defined]
    anything = draw(things())
    grulens.unload_ipython_extension(anything.value)  # what was not loaded is not there to unload
    grulens.load_ipython_extension(shell)
    grulens.load_ipython_extension(shell)
    grulens.unload_ipython_extension(shell)
    assert "grulens" not in shell.magics_manager.magics["line"]


def a_layer(draw: Draw) -> None:
    a_look(draw)
    space, signal = draw(things(place=(1, 3))), draw(things(z="z"))
    documented(lambda: FRAMES.folded(space.value, signal.value), drawn=(space, signal))


class Counts(nn.Module):
    """It accepts words with an even number of ones."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(1, 2, batch_first=True)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        self.rnn(ids[..., None].float())
        return 1.0 - 2.0 * (ids.sum(1) % 2)


COUNTS = Counts()
EVEN = grulens.corpus.DFA("01", [[0, 1], [1, 0]], [True, False])
SMALL: dict[str, Any] = {
    "lengths": (4,), "sample": 9, "tries": 9, "budget": 90, "clusters": 2, "progress": False
}  # fmt: skip
FOUND = grulens.corpus.automaton(COUNTS, "01", **SMALL)


def an_automaton(draw: Draw) -> None:
    good: dict[str, dict[str, Any]] = {
        "method": {"lstar": "lstar", "clusters": "clusters"}, "encode": {"none": None},
        "accepts": {"sign": lambda out: out}, "empty": {"none": None, "yes": True},
        "words": {"some": ["0110", ""]}, "lengths": {"two": (3, 5)}, "sample": {"few": 5},
        "threshold": {"half": 0.5}, "budget": {"small": 50}, "tries": {"few": 5},
        "states": {"three": 3}, "clusters": {"two": 2}, "layer": {"none": None, "rnn": "rnn.l0"},
        "call": {"none": None}, "batch_dim": {"first": 0}, "seed": {"one": 1},
    }  # fmt: skip
    chosen = draw(st.sampled_from([*good, "alphabet", "model"]))
    # a function of the user's own may raise what it likes
    thing = draw(things(**good.get(chosen, {})).filter(
        lambda t: t.name in good.get(chosen, {}) or not callable(t.value)
    ))  # fmt: skip
    model = thing.value if chosen == "model" else COUNTS
    alphabet = thing.value if chosen == "alphabet" else "01"
    options = dict(SMALL) if chosen in ("model", "alphabet") else {**SMALL, chosen: thing.value}
    intact = Intact(COUNTS)
    found = documented(
        lambda: grulens.corpus.automaton(model, alphabet, **options), drawn=(chosen, thing)
    )
    assert intact.broken() == []
    if found is not None:
        assert "<script>alert" not in found._repr_html_()
        assert len(repr(found)) < 300
        documented(lambda: found.dfa)


def a_dfa(draw: Draw) -> None:
    anything = draw(things(word="0110"))
    parts = [draw(things(right=right)) for right in ("01", [[0, 1], [1, 0]], [True, False], 0)]
    made = documented(lambda: grulens.corpus.DFA(*(p.value for p in parts)), drawn=parts)
    for dfa in (EVEN, made or EVEN):
        for use in (dfa.accepts, dfa.run, dfa.difference, dfa.product, dfa.from_dict):
            documented(lambda use=use: use(anything.value), drawn=anything)
        documented(lambda dfa=dfa: dfa.load(anything.value), OSError, drawn=anything)
        assert "<script>alert" not in dfa._repr_html_()
        assert dfa.difference(dfa.minimised()) is None


def an_agreement(draw: Draw) -> None:
    words = draw(st.integers(1, 10**9))
    agree = draw(st.integers(0, words))
    found = grulens.corpus.Agreement(2, 5, "near", words, agree, draw(st.booleans()))
    assert 0 <= found.interval[0] <= found.share <= found.interval[1] <= 1


def letters_of(ids: Any) -> str:
    return "".join("abcd"[i] for i in ids)


def is_a(text: Any) -> Any:
    return np.array([c == "a" for c in text])


SCAN = grulens.corpus.scan(
    TAGGER, ["abcd" * 40, ["dab", "cc"], "cab"], mkdtemp(), decode=letters_of, progress=False,
    labels={"a": is_a}, on=0.0,
)  # fmt: skip
PROBED = grulens.corpus.probe(SCAN, progress=False)


def a_scan(draw: Draw) -> None:
    good: dict[str, dict[str, Any]] = {
        "layers": {"none": None, "rnn": ["rnn.l0"]}, "gates": {"yes": True}, "on": {"half": 0.5},
        "labels": {"none": None, "a": {"a": is_a}, "short": {"a": [[True] * 4]}},
        "encode": {"none": None}, "decode": {"none": None}, "column": {"none": None},
        "call": {"none": None}, "steps": {"few": 3}, "batch": {"two": 2},
        "input_of": {"none": None},
    }  # fmt: skip
    chosen = draw(st.sampled_from([*good, "parts", "model", "out"]))
    thing = draw(things(**good.get(chosen, {})).filter(
        lambda t: t.name in good.get(chosen, {}) or not callable(t.value)
    ))  # fmt: skip
    with TemporaryDirectory() as folder:
        model = thing.value if chosen == "model" else TAGGER
        parts = thing.value if chosen == "parts" else ["abca", ["bb", "d"]]
        out = thing.value if chosen == "out" else folder
        if chosen == "out" and isinstance(out, str):
            return  # a folder somewhere
        options = {} if chosen in ("model", "parts", "out") else {chosen: thing.value}
        intact = Intact(TAGGER)
        found = documented(
            lambda: grulens.corpus.scan(model, parts, out, progress=False, **options),
            drawn=(chosen, thing),
        )
        assert intact.broken() == []
        if found is not None:
            assert "<script>alert" not in found._repr_html_()
            assert found.stats().steps == found.steps
            documented(lambda: grulens.corpus.open_scan(out, draw(things(model=TAGGER)).value))


def a_question(draw: Draw) -> None:
    anything = [draw(things(one=1, units=[0, 2], a="a", low="low", none=None)) for _ in range(4)]
    one, two, three, four = (thing.value for thing in anything)
    for ask in (
        lambda: SCAN.top(one, two, where=three, end=four),
        lambda: SCAN.top(0, 2, layer=one),
        lambda: SCAN.match(one, two, at_least=three, layer=four),
        lambda: SCAN.match([0, 1], 2, limit=one),
        lambda: SCAN.stats(one, two),
        lambda: SCAN.stats().quantile(one),
        lambda: SCAN.name(one, two, layer=three),
        lambda: SCAN.pin(one, two, layer=three),
        lambda: (SCAN.names(one), SCAN.pins(one)),
        lambda: SCAN.contexts(one, two, layer=three),
    ):
        found = documented(ask, drawn=anything)
        if isinstance(found, Result):
            assert "<script>alert" not in found._repr_html_()
            assert len(repr(found)) < 300


def a_place(draw: Draw) -> None:
    parts = [draw(things(none=0)).value for _ in range(6)]
    documented(lambda: SCAN.replay(grulens.corpus.Place(*parts)), drawn=parts)
    around = draw(things(one=1, none=0)).value
    documented(lambda: SCAN.excerpt(grulens.corpus.Place(*parts), around), drawn=[*parts, around])
    for ask in (SCAN.replay, SCAN.excerpt, SCAN.given, SCAN.inputs, SCAN.lost):
        documented(lambda ask=ask: ask(parts[0]), drawn=parts)


def a_probe(draw: Draw) -> None:
    good: dict[str, dict[str, Any]] = {
        "scan": {"scan": SCAN}, "labels": {"a": "a", "list": ["a"]}, "control": {"type": "type"},
        "context": {"two": 2}, "layer": {"none": None}, "strengths": {"one": [0.1]},
        "seed": {"one": 1}, "client": {"none": None},
    }  # fmt: skip
    chosen = draw(st.sampled_from([*good]))
    thing = draw(things(**good[chosen]))
    options = {"scan": SCAN, "control": "context", chosen: thing.value}
    found = documented(
        lambda: grulens.corpus.probe(**options, progress=False), drawn=(chosen, thing)
    )
    if found is not None:
        assert "<script>alert" not in found._repr_html_()
        assert len(repr(found)) < 300


def a_cka(draw: Draw) -> None:
    good: dict[str, dict[str, Any]] = {
        "scan": {"scan": SCAN}, "other": {"scan": SCAN},
        "layers": {"none": None, "rnn": ["rnn.l0"]},
        "others": {"none": None, "rnn": ["rnn.l0"]}, "client": {"none": None},
    }  # fmt: skip
    chosen = draw(st.sampled_from([*good]))
    thing = draw(things(**good[chosen]))
    options = {"scan": SCAN, "other": SCAN, chosen: thing.value}
    found = documented(lambda: grulens.corpus.cka(**options, progress=False), drawn=(chosen, thing))
    if found is not None:
        assert float(found.value) == pytest.approx(1, abs=1e-5)
        assert "<script>alert" not in found._repr_html_()


def a_corpus(draw: Draw) -> None:
    scan, layer = draw(things(scan=SCAN)), draw(things(none=None, rnn="rnn.l0"))
    screen = documented(lambda: grulens.corpus.Corpus(scan.value, layer.value), drawn=(scan, layer))
    if screen is None:
        return
    given = draw(things(one=1, units=[0, 2], none=None))
    for trait in ("units", "unit", "layer"):
        documented(lambda trait=trait: setattr(screen, trait, given.value), tl.TraitError,
                   drawn=given)  # fmt: skip
    documented(lambda: screen.open_place(given.value), drawn=given)
    screen.view.contexts._received(None, given.value, [])
    assert "<script>alert" not in screen.still()
    screen.close()


ATTEMPTS: dict[str, Callable[[Draw], None]] = {
    "Agreement": an_agreement,
    "CKA": a_cka,
    "Context": a_question,
    "Corpus": a_corpus,
    "Excerpt": a_place,
    "Match": a_question,
    "Place": a_place,
    "Probe": a_probe,
    "Replay": a_place,
    "Scan": a_question,
    "Statistics": a_question,
    "Top": a_question,
    "open_scan": a_scan,
    "cka": a_cka,
    "probe": a_probe,
    "scan": a_scan,
    "Automaton": a_plot,
    "DFA": a_dfa,
    "automaton": an_automaton,
    "Credit": a_plot,
    "LogitLens": a_lens,
    "input_x_gradient": a_credit("input_x_gradient"),
    "integrated_gradients": a_credit("integrated_gradients"),
    "logit_lens": a_lens,
    "FixedPoints": some_mathematics("find_fixed_points"),
    "GradientFlow": a_flow,
    "Head": a_head,
    "Jacobian": some_mathematics("jacobian"),
    "PhasePortrait": a_widget("PhasePortrait"),
    "Portrait": a_portrait,
    "portrait": a_portrait,
    "Lyapunov": some_mathematics("lyapunov"),
    "find_fixed_points": some_mathematics("find_fixed_points"),
    "gradient_flow": a_flow,
    "head_of": a_head,
    "jacobian": some_mathematics("jacobian"),
    "jacobian_at": a_recorded_step,
    "lyapunov_along": a_recorded_row,
    "observed_step": an_observed_step,
    "ObservedStep": an_observed_step,
    "lyapunov": some_mathematics("lyapunov"),
    "trajectories": some_mathematics("trajectories"),
    "unstable_directions": some_mathematics("unstable_directions"),
    **{kind: an_edit(kind) for kind in EDITS},
    **{name: a_widget(name) for name in
        ("Session", "Lens", "GateSliders", "NeuronTable", "AblationToggles", "CreditBars",
        "CellView", "CompareView", "GateMemory", "PhraseTree")},
    "Cell": a_cell,
    "CellPage": a_cell_page,
    "CloseUp": a_close_up,
    "Comparison": a_comparison,
    "close_up": a_close_up,
    "compare": a_comparison,
    "Edit": a_stored_edit,
    "GRUStack": a_stack,
    "GateAttention": an_attention,
    "LayerRecording": a_layer,
    "Recording": a_look,
    "SequenceAdapter": an_adapter(SequenceAdapter),
    "Sweep": a_sweeps_use,
    "Timescales": a_timescale,
    "Trace": a_plot,
    "attention": an_attention,
    "plot": a_plot,
    "Decomposition": of_phrases("contextual_decomposition"),
    "Hierarchy": a_tree,
    "Interactions": of_phrases("interactions"),
    **{name: of_phrases(name) for name in
       ("agglomerate", "contextual_credit", "contextual_decomposition", "interactions",
        "layerwise_relevance")},
    "sweep": a_sweep,
    "timescales": a_timescale,
    "trace_patch": a_trace,
    "StepAdapter": an_adapter(StepAdapter),
    "RecurrentCell": a_kind_of_cell,
    "Signal": a_kind_of_cell,
    "activated": an_activated_signal,
    "activations": an_activation,
    "editing": a_block,
    "errors": an_error,
    "kinds": a_kind_of_cell,
    "language": a_language,
    "layers": a_model,
    "load_ipython_extension": an_extension,
    "record": a_recording,
    "recording": a_recorded_block,
    "register": a_registration,
    "unload_ipython_extension": an_extension,
}  # fmt: skip


def test_every_public_name_is_tried() -> None:
    assert sorted(ATTEMPTS) == sorted(HOME)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest, "temporary", tmp_path, raising=False)


@pytest.mark.parametrize("name", ATTEMPTS)
def test_documented_or_right(name: str) -> None:
    examples = 80 if name in EDITS else 15 if name in ("Lens", "GateSliders", "CreditBars") else 30

    @settings(max_examples=max(examples, settings.default.max_examples))  # type: ignore[union-attr]
    @given(data=st.data())
    def attempt(data: st.DataObject) -> None:
        ATTEMPTS[name](data.draw)

    attempt()


# nothing is lost: after an error the edits, the runs and the selection are those of before


ACTS: dict[str, Callable[[Lens, Any], object]] = {
    "add": lambda lens, v: lens.session.add(v),
    "put": lambda lens, v: lens.session.put(None, v),
    "put for": lambda lens, v: lens.session.put(v, v),
    "remove": lambda lens, v: lens.session.remove(v),
    "move": lambda lens, v: lens.session.move(v, 1),
    "move by": lambda lens, v: lens.session.move(lens.session.slots[0].key, v),
    "set slots": lambda lens, v: lens.session.set_slots(v),
    "effect": lambda lens, v: lens.session.effect(v),
    "top": lambda lens, v: lens.session.top(v),
    "sort": lambda lens, v: lens.table.sort(v),
    "tokens": lambda lens, v: lens.session.set_input("abcdab", tokens=v),
    "layer of input": lambda lens, v: lens.session.set_input("abcdab", layer=v),
    **{f"session.{trait}": (lambda lens, v, t=trait: setattr(lens.session, t, v))  # type: ignore[misc]
       for trait in ("slots", "layer", "units", "unit", "times", "row", "step", "truth",
                     "other")},
    **{f"gates.{trait}": (lambda lens, v, t=trait: setattr(lens.gates, t, v))  # type: ignore[misc]
       for trait in ("signal", "difference", "order")},
    "toggles.to": lambda lens, v: setattr(lens.toggles, "to", v),
    "slider": lambda lens, v: setattr(lens.gates.controls.sliders["z"], "value", v),
    "find": lambda lens, v: setattr(lens.table.find, "value", v),
    "low": lambda lens, v: setattr(lens.table.low, "value", v),
    "row box": lambda lens, v: setattr(lens.row, "value", v),
    "text": lambda lens, v: (setattr(lens.text, "value", v), lens.run.click()),
}  # fmt: skip
MUTE_OR_ARRAY = ("mute", "numpy", "tensor", "packed")
"""Things that traitlets itself trips over when it compares or prints them."""


def state(session: Session) -> tuple[Any, ...]:
    return (session.slots, id(session.edited), id(session.baseline), session.layer, session.units,
            session.unit, session.times, session.row, session.step, session.truth)  # fmt: skip


@settings(max_examples=40)
@given(act=st.sampled_from(sorted(ACTS)), thing=things())
def test_an_error_loses_nothing(act: str, thing: Thing) -> None:
    lens = Lens(TAGGER, "abcdab")
    session = lens.session
    session.add(ablate("rnn.l0", 1))
    session.add(scale("rnn.l0", "z", by=0.5))
    session.units, session.times = (2,), (1, 2)
    before, intact = state(session), Intact(TAGGER)
    strange = thing.name.startswith(MUTE_OR_ARRAY)
    also = (tl.TraitError, *((ValueError, RuntimeError, TypeError) if strange else ()))
    done = documented(lambda: [ACTS[act](lens, thing.value)], *also, drawn=(act, thing))
    note(f"{act} {thing}: {'done' if done else 'refused'}")
    if done is None:
        assert state(session) == before
    assert intact.broken() == []
    # whatever came of it, the screen lives and the way back is there
    assert isinstance(lens.still(), str)
    assert float(session.divergence.sum()) >= 0
    if session.slots == before[0]:
        session.undo()
        assert session.on == [ablate("rnn.l0", 1)]
        session.undo()
        assert session.edited is session.baseline
        session.redo()
    session.add(ablate("rnn.l0", 3))
    assert float(session.now.h[..., 3].abs().max()) == 0
    lens.close()


def test_the_helper_finds_what_is_not_documented() -> None:
    with pytest.raises(AssertionError, match="KeyError is not documented for <mute>"):
        documented(lambda: {}["x"], drawn=Thing("mute", Mute()))
    assert documented(lambda: Edit.from_dict({})) is None
    with pytest.raises(EditError, match="Mute that cannot be shown"):
        ablate("l0", to=Mute())
