"""Every edit against the slow reference, and edits as values."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import grulens
from grulens import Edit, ablate, clamp, patch, scale, shift
from grulens.errors import EditError, PositionError, SignalError, SourceError
from tests import reference
from tests.drawn import Case, cases

SIGNALS = ("r", "z", "n", "h")


def chosen(index: Any, size: int) -> np.ndarray:
    """Which positions an index means in a row of `size`, in plain numpy."""
    mask = np.zeros(size, bool)
    if index is None or isinstance(index, slice):
        mask[index or slice(None)] = True
    elif isinstance(index, list) and isinstance(index[0], bool):
        mask[:] = index[:size]
    else:
        for item in [index] if isinstance(index, int) else index:
            if -size <= item < size:
                mask[item] = True
    return mask


@st.composite
def indices(draw: st.DrawFn, size: int) -> Any:
    """An index in any of its forms, in range."""
    inside = st.integers(-size, size - 1)
    return draw(
        st.one_of(
            st.none(),
            inside,
            st.lists(inside, min_size=1, max_size=4),
            st.lists(st.booleans(), min_size=size, max_size=size),
            st.builds(slice, st.none() | inside, st.none() | inside),
        )
    )


@st.composite
def drawn_edits(draw: st.DrawFn, case: Case) -> dict[str, Any]:
    """What an edit is to be: kind, layer, signal, where, and the shape of its amount."""
    units, steps, batch = case.module.hidden_size, case.rows.shape[1], len(case.rows)
    kind = draw(st.sampled_from(["ablate", "clamp", "scale", "shift", "patch"]))
    return {
        "kind": kind,
        "layer": draw(st.sampled_from(case.names)),
        "signal": "h" if kind == "ablate" else draw(st.sampled_from(SIGNALS)),
        "units": draw(indices(units)),
        "at": draw(indices(steps)),
        "rows": draw(indices(batch)),
        "shape": draw(st.sampled_from([(), (units,), (steps, units), (batch, steps, units)])),
        "source rows": draw(st.sampled_from([1, batch])),
    }


def both(what: dict[str, Any], case: Case) -> tuple[Edit, reference.Change]:
    """The edit, and what it means to the reference."""
    units, steps, batch = case.module.hidden_size, case.rows.shape[1], len(case.rows)
    kind, layer, signal = what["kind"], what["layer"], what["signal"]
    where = {name: what[name] for name in ("units", "at", "rows")}
    amount: Any = torch.randn(what["shape"], dtype=torch.float64)
    if kind == "patch":
        other = torch.randn(what["source rows"], steps, case.rows.shape[2]).double()
        plain = nn.GRU(case.module.input_size, units, batch_first=True).double()
        source = grulens.record(plain, other)["l0"]
        edit = patch(layer, signal, source=source, **where)
        amount = source.signal(signal)
    elif kind == "ablate":
        edit = ablate(layer, to=amount, **where)
    elif kind == "clamp":
        edit = clamp(layer, signal, value=amount, **where)
    else:
        edit = {"scale": scale, "shift": shift}[kind](layer, signal, by=amount, **where)
    full = amount.expand(batch, steps, units).numpy()

    def touched(row: int, time: int) -> np.ndarray:
        # positions are those of the row itself: a row of a packed batch has its own end
        at = chosen(where["at"], case.lengths[row])[time]
        return chosen(where["units"], units) & bool(at and chosen(where["rows"], batch)[row])

    name = {"scale": "multiply", "shift": "add"}.get(kind, "set")
    return edit, reference.Change(name, signal, touched, lambda row, time: full[row, time])


@settings(max_examples=120)
@given(data=st.data(), case=cases(dtypes=[torch.float64]))
def test_edits_equal_the_reference(data: st.DataObject, case: Case) -> None:
    drawn = data.draw(st.lists(drawn_edits(case), min_size=1, max_size=3))
    pairs = [both(what, case) for what in drawn]
    changes: dict[str, list[reference.Change]] = {}
    for edit, change in pairs:
        changes.setdefault(edit.layer, []).append(change)
    expected = reference.model(case.module, case.rows, case.h_0, case.lengths, changes)
    run = grulens.record(case.module, *case.args, edits=[edit for edit, _ in pairs])
    for name, signals in expected.items():
        for signal in ("h_prev", "r", "z", "n", "h"):
            found = run[name].signal(signal).numpy()
            np.testing.assert_allclose(
                found, signals[signal], atol=1e-9, err_msg=f"{name} {signal}"
            )
    assert run.residual < 1e-9
    ends = np.stack([signals["last"] for signals in expected.values()])
    h_n = run.output[1].numpy()
    np.testing.assert_allclose(h_n.reshape(ends.shape), ends, atol=1e-9)


@given(case=cases(dtypes=[torch.float64]))
def test_the_mean_is_that_of_the_unedited_states_on_the_input_received(case: Case) -> None:
    first, last = case.names[0], case.names[-1]
    halved = scale(first, "h", by=0.5)
    before = grulens.record(case.module, *case.args, edits=[halved] if first != last else [])
    mean = before[last].h[before[last].mask].mean(0)
    edits = [ablate(last, to="mean")]
    if first != last:
        edits.insert(0, halved)
    run = grulens.record(case.module, *case.args, edits=edits)
    valid = run[last].h[run[last].mask]
    torch.testing.assert_close(valid, mean.expand_as(valid))


def test_no_edit_is_the_identity() -> None:
    module, x = nn.GRU(3, 4, 2, bidirectional=True), torch.randn(5, 2, 3)
    with grulens.editing(module):
        assert torch.equal(module(x)[0], nn.GRU.forward(module, x)[0])


def test_the_order_of_edits_is_the_order_given() -> None:
    module, x = nn.GRU(3, 4), torch.randn(5, 2, 3)
    one, two = clamp("l0", "h", 1, value=0.5), scale("l0", "h", 1, by=0.5)
    assert float(grulens.record(module, x, edits=[one, two])["l0"].h[0, 0, 1]) == 0.25
    assert float(grulens.record(module, x, edits=[two, one])["l0"].h[0, 0, 1]) == 0.5


def test_a_gate_is_edited_before_what_follows_from_it() -> None:
    module, x = nn.GRU(3, 4, batch_first=True).double(), torch.randn(1, 5, 3).double()
    run = grulens.record(module, x, edits=clamp("l0", "r", value=0.0))["l0"]
    assert float(run.r.abs().max()) == 0
    w, b = module.weight_ih_l0[8:], module.bias_ih_l0[8:]
    torch.testing.assert_close(run.n, torch.tanh(x @ w.T + b).detach())


def test_gradients_flow_through_edits() -> None:
    module = nn.GRU(2, 3, 2, batch_first=True).double()
    by = torch.zeros(1, 4, 3, dtype=torch.float64, requires_grad=True)
    value = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    x = torch.randn(1, 4, 2, dtype=torch.float64, requires_grad=True)

    def run(x: torch.Tensor, by: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        edits = shift("l0", "z", by=by), clamp("l1", "n", 1, value=value, at=[1, 2])
        with grulens.editing(module, *edits):
            return module(x)[0]

    assert torch.autograd.gradcheck(run, (x, by, value))
    with torch.no_grad():
        assert not run(x, by, value).requires_grad


# edits as values

EDITS = [
    ablate("l0"),
    ablate("l0", 3, to="mean"),
    ablate("a.b.l0_reverse", slice(1, 9, 2), to=0.1, at=-1),
    clamp("l0", "z", [1, 2], value=1, at=slice(None, -3), rows=0),
    clamp("l0", "n", [True, False, True], value=[0.5, 0.25, 0.125]),
    scale("l0", "r", np.array([4, 2]), by=0.5, at=(3, 4)),
    shift("l0", "h", by=torch.tensor([[1.5], [2.5]])),
]


@pytest.mark.parametrize("edit", EDITS, ids=repr)
def test_repr_is_the_call_and_json_brings_it_back(edit: Edit) -> None:
    names = {"torch": torch, "tensor": torch.tensor, **vars(grulens), **{
        f.__name__: f for f in (ablate, clamp, scale, shift)}}  # fmt: skip
    again = eval(repr(edit), names)
    assert again.to_dict().keys() == edit.to_dict().keys()
    assert repr(again) == repr(edit)
    thawed = Edit.from_dict(json.loads(json.dumps(edit.to_dict())))
    assert thawed == edit
    assert hash(thawed) == hash(edit)
    assert edit != ablate("other")
    assert edit.words()


def test_a_patch_travels_with_its_values() -> None:
    module, x = nn.GRU(3, 4), torch.randn(5, 2, 3)
    run = grulens.record(module, torch.randn(5, 2, 3))
    edit = patch("l0", "h", 1, source=run)
    thawed = Edit.from_dict(json.loads(json.dumps(edit.to_dict())))
    assert thawed == edit
    one, other = (grulens.record(module, x, edits=e)["l0"].h for e in (edit, thawed))
    assert torch.equal(one, other)
    assert torch.equal(one[..., 1], run["l0"].h[..., 1])


def test_edits_are_frozen() -> None:
    with pytest.raises(AttributeError):
        ablate("l0").layer = "l1"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: clamp("l0", "x", value=1), SignalError, "signal 'x' cannot be edited; it must be"),
        (lambda: patch("l0", "a b", source=None), SignalError, "signal 'a b' cannot be edited"),
        (lambda: clamp("l0", "z", value="high"), EditError, "value must be a number or a tensor"),
        (lambda: clamp("l0", "z", value=None), EditError, "got None"),
        (lambda: clamp("l0", "z", value=True), EditError, "got True"),
        (lambda: scale("l0", "z", by=float("nan")), EditError, "by must be finite, got nan"),
        (lambda: shift("l0", "z", by=[1.0, float("inf")]), EditError, "by must be finite"),
        (lambda: ablate("l0", to="median"), EditError, 'to must be a number, "mean" or a tensor'),
        (lambda: ablate("l0", "3"), PositionError, "units must be an int, a slice, a sequence"),
        (lambda: ablate("l0", 1.5), PositionError, "got 1.5"),
        (lambda: ablate("l0", at={1}), PositionError, "at must be an int"),
        (lambda: ablate("l0", slice(0, 3, 0)), PositionError, "units must be an int"),
        (lambda: patch("l0", "h", source=3), SourceError, "must be a Recording or a Layer"),
        (lambda: Edit.from_dict({"kind": "ablate"}), EditError, "this describes no edit"),
        (lambda: Edit.from_dict(ablate("l0").to_dict() | {"kind": "cut"}), EditError, "'cut'"),
    ],
)  # fmt: skip
def test_what_can_be_known_at_once_is_refused_at_once(
    make: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as raised:
        make()
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("edit", "error", "message"),
    [
        (
            ablate("l0", 4),
            PositionError,
            "unit 4 is out of range for layer 'l0', which has 4 units",
        ),
        (ablate("l0", [0, -5]), PositionError, "unit -5 is out of range"),
        (ablate("l0", [True] * 3), PositionError, "a bool mask of 3 units does not fit layer 'l0'"),
        (ablate("l0", at=6), PositionError, "time 6 is out of range for this run of layer 'l0'"),
        (ablate("l0", at=-7), PositionError, "time -7 is out of range"),
        (ablate("l0", at=[True] * 5), PositionError, "a bool mask of 5 times"),
        (ablate("l0", rows=2), PositionError, "row 2 is out of range"),
        (clamp("l0", "z", value=[1.0] * 3), EditError, "of shape (3,) does not fit layer"),
        (clamp("l0", "z", value=torch.zeros(5, 4)), PositionError, "5 times"),
        (clamp("l0", "z", value=torch.zeros(1, 1, 1, 4)), EditError, "does not fit"),
    ],
)
def test_what_depends_on_a_size_is_refused_when_it_is_known(
    edit: Edit, error: type[Exception], message: str
) -> None:
    module, x = nn.GRU(3, 4, batch_first=True), torch.randn(2, 6, 3)
    before = dict(vars(module))
    with pytest.raises(error) as raised:
        grulens.record(module, x, edits=edit)
    assert message in str(raised.value)
    assert dict(vars(module)) == before


def test_a_source_must_fit() -> None:
    module, x = nn.GRU(3, 4, batch_first=True), torch.randn(2, 6, 3)
    shorter = grulens.record(module, torch.randn(1, 5, 3))
    longer = grulens.record(module, torch.randn(1, 7, 3))
    more = grulens.record(module, torch.randn(3, 6, 3))
    wider = grulens.record(nn.GRU(3, 5, batch_first=True), x)
    two = grulens.record(nn.GRU(3, 4, 2, batch_first=True), x)
    with pytest.raises(SourceError, match="holds no such layer; it has l0"):
        patch("l1", "h", source=shorter)
    for source, message in (
        (shorter, "has 5 steps"),
        (longer, "has 7 steps"),
        (more, "has 3 rows"),
        (wider, "has 5 units"),
    ):
        with pytest.raises(SourceError, match=message):
            grulens.record(module, x, edits=patch("l0", "h", source=source))
    run = grulens.record(module, x, edits=patch("l0", "h", source=two["l1"]))
    assert torch.equal(run["l0"].h, two["l1"].h)


def test_shifts_add_up() -> None:
    module, x = nn.GRU(3, 4).double(), torch.randn(5, 2, 3).double()
    one = grulens.record(module, x, edits=[shift("l0", "z", by=0.5), shift("l0", "z", 1, by=0.25)])
    by = torch.tensor([0.5, 0.75, 0.5, 0.5], dtype=torch.float64)
    other = grulens.record(module, x, edits=shift("l0", "z", by=by))
    torch.testing.assert_close(one["l0"].h, other["l0"].h)


def test_the_mean_leaves_padding_out() -> None:
    module = nn.GRU(3, 4, batch_first=True)
    packed = pack_padded_sequence(torch.randn(2, 6, 3), [6, 1], batch_first=True)
    before = grulens.record(module, packed)["l0"]
    run = grulens.record(module, packed, edits=ablate("l0", to="mean"))["l0"]
    valid = run.h[run.mask]
    torch.testing.assert_close(valid, before.h[before.mask].mean(0).expand_as(valid))
