"""Credit by gradients: against slopes of another GRU, and against what it must add up to."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import InputXGradient, IntegratedGradients
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from grulens import Cell, ablate, clamp, editing, plot, record, scale
from grulens.adapters import GRUStack
from grulens.credit import (
    Credit,
    contextual_credit,
    input_x_gradient,
    integrated_gradients,
    layerwise_relevance,
)
from grulens.errors import (
    EditError,
    LayerError,
    PositionError,
    ReadoutError,
    RecordingError,
    StoppedWarning,
)
from grulens.models.instrument import given as given_run
from grulens.probing.credit.score import Score
from tests import reference
from tests.drawn import Case, cases
from tests.intact import Intact
from tests.interrupts import everywhere


def squares(output: Any) -> Tensor:
    """One number a row of every form of nn.GRU: the size of its last states."""
    h_n = output[1]
    return h_n.square().sum() if h_n.dim() == 2 else h_n.square().sum((0, 2))


def by_reference(case: Case, level: int, rows: np.ndarray, h_0: np.ndarray) -> np.ndarray:
    """`squares` of the levels from `level` on, by the other GRU, from that level's input."""
    directions = 2 if case.module.bidirectional else 1
    score = np.zeros(len(rows))
    for upper in range(level, case.module.num_layers):
        outputs = []
        for way in range(directions):
            weights = reference.weights(case.module, f"_l{upper}{'_reverse' if way else ''}")
            first = h_0[upper * directions + way]
            found = reference.layer(weights, rows, first, case.lengths, backwards=bool(way))
            outputs.append(found["h"])
            score += (found["last"] ** 2).sum(1)
        rows = np.concatenate(outputs, 2)
    return score


@pytest.mark.parametrize("steps", [1, 5, 32])
def test_shares_are_those_of_captum_where_it_can_reach(steps: int) -> None:
    """Captum reaches what the whole model reads; not a layer in the middle of it."""
    rnn = nn.GRU(3, 5, batch_first=True).double()
    x, h_0 = torch.randn(4, 7, 3).double(), torch.randn(4, 1, 5).double()
    start = torch.randn(4, 7, 3).double()

    def score(x: Tensor, h_0: Tensor) -> Tensor:
        return rnn(x, h_0.transpose(0, 1))[0][:, -1].square().sum(1)

    given: dict[str, Any] = {"readout": lambda output: output[0][:, -1].square().sum(1)}
    along = integrated_gradients(
        rnn, x, h_0.transpose(0, 1), baseline=start, steps=steps, progress=False, **given
    )
    theirs = IntegratedGradients(score).attribute(
        (x, h_0), (start, torch.zeros_like(h_0)), n_steps=steps
    )
    # Captum keeps its weights in float32
    torch.testing.assert_close((along.inputs, along.initial[:, None]), theirs, rtol=0, atol=1e-6)
    here = input_x_gradient(rnn, x, h_0.transpose(0, 1), **given)
    there = InputXGradient(score).attribute((x.requires_grad_(), h_0.requires_grad_()))
    torch.testing.assert_close((here.inputs, here.initial[:, None]), there)


@settings(max_examples=30)
@given(cases(dtypes=(torch.float64,)), st.data())
def test_input_x_gradient_is_the_slope_of_another_gru(case: Case, data: st.DataObject) -> None:
    """Shares weighed by s are the slope of the score along s * x: two runs of the reference."""
    place = data.draw(st.integers(0, len(case.names) - 1))
    directions = 2 if case.module.bidirectional else 1
    name, level = case.names[place], place // directions
    found = input_x_gradient(case.module, *case.args, readout=squares, input_of=name)
    held = record(case.module, *case.args)[name]
    count = len(case.names)
    start = torch.zeros(count, len(case.rows), case.module.hidden_size).double()
    start = start if case.h_0 is None else case.h_0
    s_x, s_h = torch.randn_like(held.x), torch.randn_like(found.initial)

    def at(step: float) -> np.ndarray:
        h_0 = start.clone()
        h_0[place] = h_0[place] * (1 + step * s_h)
        return by_reference(case, level, (held.x * (1 + step * s_x)).numpy(), h_0.numpy())

    slope = (at(1e-5) - at(-1e-5)) / 2e-5
    shares = (found.inputs * s_x).sum((1, 2)) + (found.initial * s_h).sum(1)
    np.testing.assert_allclose(shares, slope, atol=1e-6, rtol=1e-6)
    assert found.inputs[~held.mask].eq(0).all()
    assert found.bias.eq(0).all()


@settings(max_examples=10)
@given(cases(dtypes=(torch.float64,)), st.data())
def test_shares_of_a_path_add_up(case: Case, data: st.DataObject) -> None:
    """To the score less that of the baseline, which the reference computes too."""
    place = data.draw(st.integers(0, len(case.names) - 1))
    directions = 2 if case.module.bidirectional else 1
    name, level = case.names[place], place // directions
    number = data.draw(st.sampled_from([0.0, 0.5]))
    found = integrated_gradients(
        case.module, *case.args, readout=squares, input_of=name, baseline=number, progress=False
    )
    output = case.module(*case.args)
    assert torch.allclose(found.score, squares(output).detach().reshape(-1), atol=1e-12)
    # what float32 weights of the sum leave, and what 64 points do
    assert float(found.gap.abs().max()) < 1e-4 * (1 + float(found.score.abs().max()))
    held = record(case.module, *case.args)[name]
    rows = torch.full_like(held.x, number).masked_fill(~held.mask[..., None], 0).numpy()
    start = torch.zeros(len(case.names), *found.initial.shape).double()
    start = start if case.h_0 is None else case.h_0.clone()
    lower = (start * 0).numpy() if level == 0 else None
    start[place] = 0
    there = by_reference(case, level, rows, start.numpy())
    if lower is None:  # the levels below run as they did
        run = reference.model(case.module, case.rows, case.h_0, case.lengths)
        there += sum((run[n]["last"] ** 2).sum(1) for n in case.names[: level * directions])
    np.testing.assert_allclose(found.bias, there, atol=1e-9)
    if case.h_0 is None:
        assert found.initial.eq(0).all()


def last(output: Any) -> Tensor:
    """One number a row of a batch-first nn.GRU."""
    return output[0][:, -1, 0]


class Tagger(nn.Module):
    """Answers at every step, or once a row."""

    def __init__(self, once: bool = False) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 3)
        self.once = once

    def forward(self, x: Tensor) -> Tensor:
        states = self.rnn(x)[0]
        return self.out(states[:, -1] if self.once else states)


METHODS = (integrated_gradients, input_x_gradient, contextual_credit, layerwise_relevance)


@pytest.mark.parametrize("target", [2, -1, (0, 1)])
@pytest.mark.parametrize(("once", "step"), [(False, 3), (False, -2), (True, -1), (True, "final")])
def test_every_method_is_asked_alike_and_explains_the_same_number(
    target: Any, once: bool, step: Any
) -> None:
    model, x = Tagger(once).double(), torch.randn(2, 6, 3).double()
    answer = model(x).detach()
    classes = (answer if once else answer[:, step]).T
    want = classes[target[0]] - classes[target[1]] if isinstance(target, tuple) else classes[target]
    for method in METHODS:
        found = method(model, x, target=target, step=step)
        torch.testing.assert_close(found.score, want, msg=method.__name__)
    by_readout = input_x_gradient(model, x, readout=lambda out: (
        (out if once else out[:, step]).T[target] if not isinstance(target, tuple)
        else (out if once else out[:, step]).T[0] - (out if once else out[:, step]).T[1]
    ))  # fmt: skip
    torch.testing.assert_close(by_readout.inputs, input_x_gradient(
        model, x, target=target, step=step).inputs)  # fmt: skip


def test_a_step_counts_from_each_rows_own_end() -> None:
    rnn, x = nn.GRU(3, 4, batch_first=True), torch.randn(2, 6, 3)
    packed = pack_padded_sequence(x, [6, 4], batch_first=True)
    padded = rnn(x)[0]
    found = input_x_gradient(rnn, packed, target=1)
    torch.testing.assert_close(found.score, torch.stack([padded[0, 5, 1], padded[1, 3, 1]]))
    assert found.inputs[1, 4:].eq(0).all()
    with pytest.raises(PositionError, match="step 5 is past row 1, which has 4 steps"):
        input_x_gradient(rnn, packed, target=1, step=5)


@pytest.mark.parametrize(
    ("once", "given", "words"),
    [
        (False, {}, "give target=..., a class of the model's answer, or readout=..., a function"),
        (False, {"target": 1, "readout": last}, "one of them"),
        (False, {"readout": last, "step": 2}, "step=2 goes with target="),
        (False, {"target": 3}, "target must be a class, or a pair .* of 0 to 2; got 3"),
        (False, {"target": 0, "step": 6}, "step 6 is out of range for the model's answer"),
        (False, {"target": 0, "step": "final"}, "answers at every step: step must be an int"),
        (True, {"target": 0, "step": 1}, 'answers once a row: step must be -1 or "final", got 1'),
    ],
)
def test_what_names_no_one_number_is_refused(once: bool, given: Any, words: str) -> None:
    with pytest.raises((ReadoutError, PositionError), match=words):
        input_x_gradient(Tagger(once), torch.randn(2, 6, 3), **given)


def test_more_steps_leave_a_smaller_gap_and_a_line_none() -> None:
    rnn, x = nn.GRU(3, 5, batch_first=True).double(), 4 * torch.randn(2, 7, 3).double()

    def gap(steps: int) -> float:
        found = integrated_gradients(rnn, x, readout=last, steps=steps, progress=False)
        return float(found.gap.abs().max())

    assert gap(1) > 1e-3
    assert gap(64) < 1e-3 * gap(1)
    weight = torch.cat([torch.zeros(8, 3), torch.randn(4, 3)])  # z = 1/2, and n = W x
    cell = Cell(weight, torch.zeros(12, 4), None, None, candidate=lambda pre: pre)
    line, h_0 = GRUStack(cell).double(), torch.randn(1, 2, 4).double()
    for found in (
        integrated_gradients(line, x, h_0, readout=last, steps=1, progress=False),
        integrated_gradients(line, x, h_0, readout=last, steps=9, progress=False),
        input_x_gradient(line, x, h_0, readout=last),
    ):
        assert float(found.gap.abs().max()) < 1e-6
        assert torch.allclose(found.initial[:, 0], h_0[0, :, 0] / 2**7, atol=1e-6)
        assert found.initial[:, 1:].abs().max() < 1e-12


@settings(max_examples=15)
@given(cases(dtypes=(torch.float64,)), st.data())
def test_without_the_kernel_the_numbers_are_the_same(case: Case, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(case.names))
    score = Score(case.module, (case.args, {}), readout=squares, input_of=name)
    fused = score.gradients(score.x, score.h_0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(given_run, "kernel_has_gradients", lambda _: False)
        patch.setattr(torch._VF, "gru", _never)
        unrolled = score.gradients(score.x, score.h_0)
    for one, other in zip(fused, unrolled, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


def _never(*_: Any) -> Any:
    raise AssertionError("torch's kernel ran")


OPENED = (
    "probing/credit/score.py",
    "probing/credit/gradients.py",
    "models/instrument/given.py",
)


class Two(nn.Module):
    """A GRU upon another one: neither may run by a kernel that has no gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.below, self.above = (nn.GRU(3, 3, batch_first=True) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.above(self.below(x)[0])[0][:, -1].sum(1)


def test_what_the_kernel_cannot_is_decided_by_device_for_every_module(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert given_run.kernel_has_gradients(torch.device("cpu"))
    assert not given_run.kernel_has_gradients(torch.device("cuda:0"))
    model, x = Two().double(), torch.randn(2, 4, 3).double()
    found = input_x_gradient(model, x, readout=lambda out: out)
    score = Score(model, ((x,), {}), readout=lambda out: out)
    monkeypatch.setattr(given_run, "kernel_has_gradients", lambda _: False)
    monkeypatch.setattr(torch._VF, "gru", _never)
    of_x, _ = score.gradients(score.x, score.h_0)
    assert torch.allclose(of_x * x, found.inputs, atol=1e-10)


def test_both_directions_read_what_is_credited() -> None:
    rnn = nn.GRU(3, 4, bidirectional=True, batch_first=True).double()
    x, h_0 = torch.randn(2, 5, 3).double(), torch.randn(2, 2, 4).double()
    ways = [
        input_x_gradient(rnn, x, h_0, readout=squares, input_of=n) for n in ("l0", "l0_reverse")
    ]
    assert torch.equal(ways[0].inputs, ways[1].inputs)
    leaf, start = x.clone().requires_grad_(), h_0.clone().requires_grad_()
    of_x, of_h_0 = torch.autograd.grad(squares(rnn(leaf, start)).sum(), (leaf, start))
    assert torch.allclose(ways[0].inputs, x * of_x, atol=1e-12)
    for way, found in enumerate(ways):
        assert torch.allclose(found.initial, (h_0 * of_h_0)[way], atol=1e-12)


class Decoder(nn.Module):
    """A loop of cells; with `feed` each step reads what the one before answered."""

    def __init__(self, feed: bool = False, until: float = 9.0) -> None:
        super().__init__()
        self.cell, self.feed, self.until = nn.GRUCell(2, 2), feed, until

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        for t in range(x.shape[1]):
            h = self.cell(h if self.feed and t else x[:, t], h)
            if h.sum() > self.until:
                break
        return h.sum(1)


@pytest.mark.parametrize("feed", [False, True])
def test_the_calls_of_a_loop_are_one_time_axis(feed: bool) -> None:
    model = Decoder(feed).double()
    x, h_0 = torch.randn(3, 6, 2).double(), torch.randn(3, 2).double()
    found = integrated_gradients(model, x, h_0, readout=lambda out: out, progress=False)
    assert (found.layer, found.inputs.shape) == ("cell", (3, 6, 2))
    assert float(found.gap.abs().max()) < 1e-6
    assert found.initial.abs().min() > 0
    assert torch.allclose(found.bias, model(x * 0, h_0 * 0) if not feed else found.bias, atol=1e-12)
    if not feed:
        leaf = x.clone().requires_grad_()
        (of_x,) = torch.autograd.grad(model(leaf, h_0).sum(), leaf)
        slope = input_x_gradient(model, x, h_0, readout=lambda out: out)
        assert torch.allclose(slope.inputs, x * of_x, atol=1e-12)


def test_a_loop_that_ends_elsewhere_on_the_way_is_refused() -> None:
    torch.manual_seed(1)
    model = Decoder(until=0.3)
    x = 3 * torch.randn(1, 40, 2)
    assert record(model, x, torch.zeros(1, 2))["cell"].shape[1] < 40
    with pytest.raises(RecordingError, match="calls layer 'cell' another number of times"):
        integrated_gradients(
            model, x, torch.zeros(1, 2), readout=lambda out: out, baseline=-3.0, progress=False
        )


def test_credit_is_that_of_the_edited_model() -> None:
    rnn, x = nn.GRU(3, 4, num_layers=2, batch_first=True).double(), torch.randn(2, 6, 3).double()
    edits = [clamp("l1", "z", 0, value=0.3, at=2), scale("l0", "h", by=0.5)]
    found = integrated_gradients(rnn, x, readout=last, edits=edits, progress=False)
    with torch.no_grad(), editing(rnn, *edits):
        assert torch.allclose(found.score, last(rnn(x)), atol=1e-12)
        assert torch.allclose(found.bias, last(rnn(0 * x)), atol=1e-12)
        around = integrated_gradients(rnn, x, readout=last, progress=False)
    assert torch.allclose(found.inputs, around.inputs, atol=1e-12)
    assert float(found.gap.abs().max()) < 1e-6
    plain = integrated_gradients(rnn, x, readout=last, progress=False)
    assert not torch.allclose(plain.inputs, found.inputs, atol=1e-4)


def test_a_mean_that_an_edit_refers_to_stays_that_of_the_run() -> None:
    """It is a mean over rows: moving with them, it would hand credit from row to row."""
    rnn, x = nn.GRU(3, 4, num_layers=2, batch_first=True).double(), torch.randn(2, 6, 3).double()
    mean = record(rnn, x)["l0"].mean()
    one, other = (
        integrated_gradients(
            rnn, x, readout=last, edits=ablate("l0", 1, to=to), progress=False, input_of="l0"
        )
        for to in ("mean", mean)
    )
    for name in ("score", "inputs", "bias"):
        assert torch.allclose(getattr(one, name), getattr(other, name), atol=1e-12)
    assert float(one.gap.abs().max()) < 1e-6


def test_the_path_is_one_run_at_a_time_and_can_be_left() -> None:
    rnn, x = nn.GRU(3, 4, batch_first=True), torch.randn(2, 5, 3)
    told = list[int]()
    seen: SimpleQueue[int] = SimpleQueue()  # what it holds is not put back behind a run
    rnn.register_forward_pre_hook(lambda _, args: seen.put(len(args[0])))
    options: dict[str, Any] = {"readout": last, "steps": 7}
    integrated_gradients(rnn, x, progress=told.append, **options)
    assert {seen.get() for _ in range(seen.qsize())} == {2}
    assert told == [1] * 7
    intact = Intact(rnn)

    def enough(_: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        integrated_gradients(rnn, x, progress=enough, **options)
    assert intact.broken() == []


def test_an_interrupt_keeps_an_estimate_by_the_points_that_are_done() -> None:
    torch.manual_seed(0)
    rnn, x = nn.GRU(3, 4, batch_first=True), 2 * torch.randn(2, 5, 3)
    intact = Intact(rnn)
    whole = integrated_gradients(rnn, x, readout=last, steps=32, progress=False)
    assert whole.note == ""

    def stopped_after(count: int) -> Credit:
        told = list[int]()

        def enough(one: int) -> None:
            told.append(one)
            if len(told) == count:
                raise KeyboardInterrupt

        with pytest.warns(StoppedWarning, match=f"stopped after {count} of 32 points; what was"):
            return integrated_gradients(rnn, x, readout=last, steps=32, progress=enough)

    found = stopped_after(9)
    assert found.note == "stopped after 9 of 32 points"
    assert repr(found).endswith(", stopped after 9 of 32 points)")
    assert "(stopped after 9 of 32 points)" in found._repr_html_()
    view = plot(found)
    assert "(stopped after 9 of 32 points)" in view._repr_mimebundle_()[0]["text/html"]
    view.close()
    # the points lie all over the way: less would be known of them were they its beginning
    size = float(whole.inputs.abs().max())
    assert 0 < float((found.inputs - whole.inputs).abs().max()) < 0.15 * size
    assert float(found.gap.abs().max()) > float(whole.gap.abs().max())
    assert torch.equal(found.bias, whole.bias)

    def at_once(output: Any) -> Tensor:
        if torch.is_grad_enabled():
            raise KeyboardInterrupt
        return last(output)

    with pytest.raises(KeyboardInterrupt):
        integrated_gradients(rnn, x, readout=at_once, progress=False)
    assert intact.broken() == []


def test_a_bar_is_shown_if_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    rnn, x = nn.GRU(3, 4, batch_first=True), torch.randn(2, 5, 3)
    for wanted in (False, True):
        integrated_gradients(rnn, x, readout=last, steps=3, progress=wanted)
        assert ("integrated gradients" in capsys.readouterr().err) == wanted


@pytest.mark.unchecked
def test_an_interrupt_leaves_the_model_as_it_was() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(2, 3, batch_first=True)
            self.register_buffer("runs", torch.zeros(1))
            self.drop = nn.Dropout()

        def forward(self, x: Tensor) -> Tensor:
            self.runs += 1
            return self.drop(self.rnn(x)[0])[:, -1].sum(1)

    model, x = Model(), torch.randn(1, 3, 2)
    intact = Intact(model)

    def credited() -> None:
        found = input_x_gradient(model, x, readout=lambda out: out)
        assert torch.isfinite(found.score).all()

    places = list[str]()
    for place in everywhere(credited, stride=29, often=OPENED):
        assert intact.broken() == [], place
        places.append(place.where)
    assert len(places) > 60
    assert any(place.startswith("models/instrument/given.py") for place in places)
    credited()
    assert intact.broken() == []


RNN, X = nn.GRU(3, 4, num_layers=2, batch_first=True), torch.randn(2, 5, 3)
WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"readout": lambda out: out[0]}, ReadoutError, r"must return \(2,\) .*returned \(2, 5, 4\)"),
    ({"readout": lambda out: out[0].sum()}, ReadoutError, r"returned \(\)"),
    ({"readout": lambda out: 3}, ReadoutError, "floating tensor, got int"),
    ({"readout": lambda out: out[0][:, 0, 0].detach()}, ReadoutError, "gradients flow through"),
    ({"readout": 3}, ReadoutError, "must be a function of the output, got 3"),
    ({"input_of": "l2"}, LayerError, "layer 'l2' is not in this model; it has l0, l1"),
    ({"edits": ablate("l2")}, LayerError, "layer 'l2' is not in this model"),
]
PATHS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"baseline": torch.zeros(4)}, EditError, r"time, input\) = \(2, 5, 3\); got shape \(4,\)"),
    ({"baseline": "mean"}, EditError, "got 'mean'"),
    ({"baseline": float("nan")}, EditError, "must be a finite number"),
    ({"steps": 0}, EditError, "steps must be an int from 1 to 100000, got 0"),
    ({"steps": 2.5}, EditError, "got 2.5"),
]


@pytest.mark.parametrize(("options", "error", "words"), [*WRONG, *PATHS])
def test_what_does_not_fit_is_named(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    intact, given_ = Intact(RNN), {"readout": last, **options}
    with pytest.raises(error, match=words):
        integrated_gradients(RNN, X, progress=False, **given_)
    if (options, error, words) in WRONG:
        with pytest.raises(error, match=words):
            input_x_gradient(RNN, X, **given_)
    assert intact.broken() == []


def test_a_baseline_may_be_a_vector_and_one_row_one_number() -> None:
    rnn, x = nn.GRU(3, 4, batch_first=True).double(), torch.randn(1, 5, 3).double()
    mean = x.mean((0, 1))
    number: Callable[[Any], Tensor] = lambda out: out[0].sum()  # noqa: E731
    found = integrated_gradients(rnn, x, readout=number, baseline=mean, progress=False)
    assert isinstance(found, Credit)
    assert torch.allclose(found.bias, number(rnn(mean.expand(1, 5, 3))).detach(), atol=1e-12)
    assert float(found.gap.abs().max()) < 1e-6


class Truncated(nn.Module):
    """A loop that may cut its graph before a step (as for truncated training), or at its end."""

    def __init__(self, where: int | None) -> None:
        super().__init__()
        self.cell, self.head, self.where = nn.GRUCell(3, 4), nn.Linear(4, 2), where

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 4)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
            if t == self.where:
                h = h.detach()
        return self.head(h)


@pytest.mark.parametrize("method", [integrated_gradients, input_x_gradient])
def test_a_graph_that_the_model_cuts_is_refused(method: Callable[..., Credit]) -> None:
    options = {"target": 1} | ({"progress": False} if method is integrated_gradients else {})
    x = torch.randn(2, 5, 3)
    with pytest.raises(RecordingError, match="what call 3 of layer 'cell' reads moves with layer"):
        method(Truncated(1), x, **options)
    with pytest.raises(RecordingError, match=r"the score moves .* ask what asks for no gradient"):
        method(Truncated(4), x, **options)
    assert bool(method(Truncated(None), x, **options).tokens.all())
    # what asks for no gradient takes it as it is
    assert float(contextual_credit(Truncated(1), x, target=1).gap.abs().max()) < 1e-5
