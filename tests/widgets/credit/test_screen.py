"""The panel of credit: its numbers are those of the functions, and it follows its session."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import grulens
from grulens import Session, ablate
from grulens.credit import (
    CreditBars,
    contextual_credit,
    input_x_gradient,
    integrated_gradients,
    layerwise_relevance,
    logit_lens,
)
from grulens.errors import GrulensError, PositionError
from grulens.phrases import PhraseTree
from grulens.probing.credit.credit import Credit
from grulens.views.figure.tokens import number
from grulens.widgets.credit import credit_view
from grulens.widgets.credit.methods import METHODS, Method
from grulens.widgets.credit.screen import LENS
from grulens.widgets.session import class_list
from tests.widgets.conftest import Tagger
from tests.widgets.observed_cells import FRAMES, ConvGRU


@pytest.fixture
def panel(session: Session) -> Iterator[CreditBars]:
    made = CreditBars(session)
    assert made.wait(20.0)
    yield made
    made.close()
    assert made.wait(10.0)


def drawn(panel: CreditBars) -> Any:
    return panel._credit.figure.bars.source.data["credit"]


def same(panel: CreditBars, want: Credit) -> None:
    assert panel.wait(20.0)
    assert panel.credit is not None
    assert panel._errors.value == ""
    for name in ("score", "inputs", "bias"):
        assert torch.allclose(getattr(panel.credit, name), getattr(want, name), atol=1e-6)
    np.testing.assert_allclose(drawn(panel), want.tokens[0], atol=1e-6)


def test_it_shows_what_the_function_gives(panel: CreditBars, session: Session) -> None:
    args, step = session.args, session.step
    best = int(session.model(args[0])[0, step].argmax())
    given: dict[str, Any] = {"input_of": "rnn.l0", "progress": False}
    same(panel, integrated_gradients(session.model, *args, **given,
                                     readout=lambda out: out[:, step, best]))  # fmt: skip
    name = session.labels[best] if session.labels else ""
    assert f"logit of “{name}” at step {step}: " in panel._status.value
    assert " + h_0 0 + bias " in panel._status.value
    assert "gap" in panel._status.value
    panel.target.control.value = 2
    session.step = 3
    same(panel, integrated_gradients(session.model, *args, **given,
                                     readout=lambda out: out[:, 3, 2]))  # fmt: skip
    panel.method = "input × gradient"
    session.layer = "rnn.l1"
    same(panel, input_x_gradient(session.model, *args, input_of="rnn.l1",
                                 readout=lambda out: out[:, 3, 2]))  # fmt: skip
    edit = ablate("rnn.l0", 1)
    session.add(edit)
    same(panel, input_x_gradient(session.model, *args, input_of="rnn.l1", edits=edit,
                                 readout=lambda out: out[:, 3, 2]))  # fmt: skip
    assert "of the model with the edits" in panel._status.value


@pytest.mark.parametrize(
    ("method", "function"),
    [("relevance (LRP)", layerwise_relevance), ("contextual decomposition", contextual_credit)],
)
def test_what_takes_the_linear_readout_apart_knows_no_edits(
    panel: CreditBars, session: Session, method: str, function: Any
) -> None:
    session.add(ablate("rnn.l0", 1))
    panel.method = method
    panel.target.control.value = 3
    session.step = 2
    same(panel, function(session.model, *session.args, target=3, step=2))
    assert "logit of “d” at step 2: " in panel._status.value
    assert "of the model without the edits" in panel._status.value
    other = CreditBars(session.model, "abcdab", readout=lambda out: out[..., :2])
    assert other.wait(20.0)
    other.method = method
    assert other.wait(20.0)
    assert "session&#x27;s readout has 2 classes" in other._errors.value
    other.close()


class Translator(nn.Module):
    """Six numbers are read by one layer, and two written by another."""

    def __init__(self) -> None:
        super().__init__()
        self.enc = nn.GRU(3, 4, batch_first=True)
        self.dec = nn.GRU(3, 4, batch_first=True)
        self.out = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, h = self.enc(x)
        written: torch.Tensor = self.out(self.dec(x[:, :2], h)[0])
        return written


@pytest.mark.parametrize("method", ["relevance (LRP)", "contextual decomposition"])
def test_credit_of_the_layer_that_the_readout_reads_stands_over_its_own_steps(method: str) -> None:
    read, written = list("abcdef"), ["x", "y"]
    tokens = {"enc": read, "dec": written}
    session = Session(Translator().eval(), torch.randn(2, 6, 3), layer="enc.l0", tokens=tokens)
    panel = CreditBars(session)
    assert panel.wait(20.0)
    bars = panel._credit.figure.bars
    assert list(bars.source.data["token"]) == read
    session.row, session.times = 1, (4, 5)
    panel.method = method
    assert panel.wait(20.0)
    assert panel._errors.value == ""
    assert panel.credit is not None
    assert panel.credit.layer == "dec.l0"
    assert list(bars.source.data["token"]) == written
    np.testing.assert_allclose(drawn(panel), panel.credit.tokens[1], atol=1e-9)
    assert "explains dec.l0" in panel._status.value
    assert "layer shown is enc.l0" in panel._status.value
    for listener in bars._listeners:
        listener((1,))
    assert (session.times, bars.times) == ((4, 5), ())
    session.layer = "dec.l0"
    assert panel.wait(20.0)
    assert "explains" not in panel._status.value
    for listener in bars._listeners:
        listener((1,))
    assert session.times == bars.times == (1,)
    panel.close()
    assert panel.wait(10.0)


def test_taps_select_steps_and_the_selection_is_seen(panel: CreditBars, session: Session) -> None:
    bars = panel._credit.figure.bars
    assert bars.marked.data["step"] == [session.step]
    for listener in bars._listeners:
        listener((1, 2))
    assert session.times == (1, 2)
    assert bars.times == (1, 2)
    session.times = ()
    assert bars.times == ()
    panel.step.value = 2
    assert session.step == 2
    assert panel.wait(20.0)
    assert bars.marked.data["step"] == [2]


def test_the_lens_shows_the_run_and_a_tap_moves_the_step(
    panel: CreditBars, session: Session
) -> None:
    session.layer = "rnn.l1"
    panel.view = LENS
    assert panel.wait(20.0)
    assert panel.lens is not None
    lines = panel._lens.figure.lines
    want = logit_lens(session.model, *session.args, layer="rnn.l1")
    best = int(want.top(session.step, 1)[0][0, 0])
    np.testing.assert_allclose(
        lines.source.data["line 0"], want.probability[0, :, best].numpy(), atol=1e-6
    )
    for listener in lines._listeners:
        listener(2)
    assert session.step == 2
    assert panel.wait(20.0)
    assert "after step 2 the likeliest is" in panel._status.value
    parts = panel._lens.figure.shares.source.data
    klass = panel.target.klass
    assert parts["value"][-1] == pytest.approx(float(want.logits[0, 2, klass]), abs=1e-5)
    np.testing.assert_allclose(parts["value"][:-1].sum(), parts["value"][-1], atol=1e-9)
    session.add(ablate("rnn.l1", 3))
    assert panel.wait(20.0)
    assert panel.lens.h[..., 3].eq(0).all()
    session.layer = "rnn.l0"
    assert panel.wait(20.0)
    assert panel.lens is None
    assert "No logit lens: no nn.Linear of this model reads" in panel._status.value
    assert "head=" not in panel._status.value
    assert panel._errors.value == ""
    assert panel.views[LENS].picture.layout.display == "none"


def test_the_lens_names_units_by_their_places_in_space() -> None:
    class Read(ConvGRU):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(24, 2)

        def read(self, h: Tensor) -> Tensor:
            return h.flatten(1)

    panel = CreditBars(Session(Read(), FRAMES))
    panel.view = LENS
    assert panel.wait(20.0)
    names = panel._lens.figure.shares.source.data["label"]
    assert all(name.startswith("channel ") for name in names[:3]), names
    panel.close()
    assert panel.wait(10.0)


def test_a_newer_question_ends_an_older_one(
    panel: CreditBars, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, turns = threading.Event(), threading.Event(), list[int]()

    def endless(_: Session, step: int, klass: int, told: Any) -> Credit:
        while True:
            turns.append(step)
            begun.set()
            assert go_on.wait(10)
            told(1)

    monkeypatch.setitem(METHODS, "input × gradient", Method(endless))
    panel.method = "input × gradient"
    assert begun.wait(10)
    # the lock is free: others may use the model meanwhile
    session.add(ablate("rnn.l0", 1))
    panel.method = "integrated gradients"
    go_on.set()
    assert panel.wait(20.0)
    assert len(turns) < 3
    assert panel.credit is not None
    assert panel.credit.method == "integrated gradients"


def test_asleep_it_computes_nothing_and_awake_what_it_missed(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def waiting(*given: Any) -> Credit:
        begun.set()
        assert go_on.wait(10)
        return plain(*given)

    plain = METHODS["input × gradient"].find
    monkeypatch.setitem(METHODS, "integrated gradients", Method(waiting))
    panel = CreditBars(session)
    assert begun.wait(10)
    panel.sleep()
    session.set_input("dcb")  # what is under way would not fit any more
    go_on.set()
    assert panel.wait(20.0)
    assert panel.credit is None
    panel.wake()
    assert panel.wait(20.0)
    assert panel._errors.value == ""
    assert panel.credit is not None
    assert panel.credit.inputs.shape[1] == 3
    found = panel.credit
    panel.sleep()
    panel.wake()
    assert panel.wait(20.0)
    assert panel.credit is found, "nothing has changed"
    panel.close()


def test_closing_ends_what_runs(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()

    def endless(*given: Any) -> Credit:
        while True:
            begun.set()
            given[-1](1)

    monkeypatch.setattr(credit_view, "PAUSE", 0.001)
    monkeypatch.setitem(METHODS, "integrated gradients", Method(endless))
    panel = CreditBars(session)
    assert begun.wait(10)
    panel.close()
    panel.close()
    assert panel.wait(10.0)


def test_an_error_is_shown_and_goes_with_the_next_success(model: Tagger) -> None:
    session = Session(model, "abcdab", readout=lambda out: out.detach())
    panel = CreditBars(session)
    assert panel.wait(20.0)
    assert "needs a readout that gradients flow through" in panel._errors.value
    assert panel.credit is None
    assert panel.still() == grulens.widgets.session.panel.Panel.still(panel)  # type: ignore[attr-defined]
    session.answers.readout = lambda out: out
    session.step = 1
    assert panel.wait(20.0)
    assert panel._errors.value == ""
    assert panel.credit is not None
    panel.close()


def test_outputs_of_one_step_and_of_one_number() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(3, 4, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.rnn(x)[1][0].sum(1, keepdim=True)

    panel = CreditBars(Last(), torch.randn(2, 5, 3))
    assert panel.wait(20.0)
    assert panel.step.layout.display == panel.target.control.layout.display == "none"
    assert ">output: " in panel._status.value
    assert panel._credit.figure.bars.marked.data["step"] == []
    panel.session.row = 1
    assert panel.wait(20.0)
    assert panel.credit is not None
    np.testing.assert_allclose(drawn(panel), panel.credit.tokens[1], atol=1e-9)
    panel.close()


def test_of_many_classes_the_likeliest_are_offered(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_list, "CLASSES", 3)
    monkeypatch.setattr(class_list, "OFFERED", 2)
    panel = CreditBars(session)
    order = session.answer_now.values[session.step].argsort(descending=True).tolist()
    listed = [value for _, value in panel.target.control.options]
    assert listed == [class_list.NO_CLASS, *order[:2]]
    panel.target.control.value = order[1]
    session.step = 0
    assert order[1] in [value for _, value in panel.target.control.options]
    assert panel.target.klass == order[1]
    panel.close()
    assert panel.wait(20.0)


HOSTILE = "<img src=x onerror=alert(1)>"


def test_strange_names_are_only_text(model: Tagger) -> None:
    panel = CreditBars(model, "abcdab", tokens=[HOSTILE] * 6, labels=[HOSTILE] * 4, layer="rnn.l1")
    assert panel.wait(20.0)
    pages = [panel.still(), panel._status.value]
    panel.view = LENS
    assert panel.wait(20.0)
    pages += [panel.still(), panel._status.value]
    assert not any("<img" in page for page in pages)
    assert "<svg" in pages[2]
    panel.close()


def test_plot_shows_credit_and_a_lens(model: Tagger) -> None:
    ids = model.encode("abcdab")
    found = integrated_gradients(model, ids, readout=lambda out: out[:, -1, 1], progress=False)
    view = grulens.plot(found, tokens="abcdab")
    bars, _ = view.document.roots[0].children
    data = bars.children[0].renderers[1].data_source.data
    np.testing.assert_allclose(data["credit"], found.tokens[0].double())
    assert "integrated gradients · rnn.l0" in view._html()
    lens = logit_lens(model, ids)
    chart = grulens.plot(lens, tokens="abcdab", output=2)
    lines, strip, shares = chart.document.roots[0].children
    at = next(r for r in lines.renderers if "line 0" in r.data_source.data).data_source.data
    np.testing.assert_allclose(at["line 0"], lens.probability[0, :, 2].double())
    assert strip.renderers[0].data_source.data["name"] == ["logit"]
    whole = shares.renderers[0].data_source.data["value"][-1]
    assert whole == pytest.approx(float(lens.logits[0, -1, 2]), abs=1e-5)
    for wrong, error in (
        ({"tokens": "ab"}, GrulensError), ({"row": 1}, PositionError), ({"row": "x"}, PositionError)
    ):  # fmt: skip
        for result in (found, lens):
            with pytest.raises(error):
                grulens.plot(result, **wrong)
    with pytest.raises(PositionError, match="class 4 is out of range"):
        grulens.plot(lens, output=4)


class Dropping(nn.Module):
    """A tagger with dropout between its GRU and its readout."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.drop = nn.GRU(3, 4, batch_first=True), nn.Dropout(rate)
        self.out = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.drop(self.rnn(x)[0]))


def test_what_is_advised_can_be_done_on_a_screen() -> None:
    session = Session(Dropping(0.5).train(), torch.randn(1, 5, 3))
    bars, tree = CreditBars(session), PhraseTree(session)
    bars.method = "relevance (LRP)"
    assert bars.wait(20.0)
    tree.build.click()
    assert tree.wait(20.0)
    advice = "switch to “run in eval mode”; otherwise credit by integrated gradients"
    for said in (bars._status.value, tree._built.value):
        assert advice in said
        assert "head=" not in said
    assert bars._errors.value == tree._errors.value == ""
    bars.view = LENS
    assert bars.wait(20.0)
    assert advice in bars._status.value
    session.evaluate = True  # as advised
    assert bars.wait(20.0)
    assert bars.lens is not None
    bars.view = "credit"
    assert bars.wait(20.0)
    assert bars.credit is not None
    assert bars._errors.value == ""
    tree.build.click()
    assert tree.wait(20.0)
    assert tree.tree is not None


def test_in_eval_mode_no_switch_is_advised(session: Session) -> None:
    session.layer = "rnn.l0"
    tree = PhraseTree(session)
    tree.build.click()
    assert tree.wait(20.0)
    assert "; credit by integrated gradients needs no linear readout" in tree._built.value
    assert "eval" not in tree._built.value
    assert tree._errors.value == ""


class Regressor(nn.Module):
    """A GRU and a linear readout of values at every step."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.out = nn.GRU(3, 4, batch_first=True), nn.Linear(4, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(x)[0])


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_regressor_has_values_and_no_probabilities(outputs: int) -> None:
    model = Regressor(outputs)
    session = Session(model, torch.randn(1, 5, 3), scale="value")
    bars = CreditBars(session)
    bars.view = LENS
    assert bars.wait(20.0)
    output = model(*session.args)[0, session.step].detach()
    klass = int(output.argmax())
    name = "output" if outputs == 1 else f"“class {klass}”"
    value = number(float(output[klass]), ".3g")
    assert f"after step {session.step} the value of {name} is {value}" in bars._status.value
    figure = bars._lens.figure
    assert figure.lines.root.yaxis.axis_label == "value"
    assert figure.lines.source.data["line 0"][-1] == pytest.approx(float(output[klass]), abs=1e-6)
    for word in ("likeliest", "probability", "logit of"):
        assert word not in bars._status.value
        assert word not in bars.still()
    bars.view, bars.method = "credit", "relevance (LRP)"
    assert bars.wait(20.0)
    assert "logit" not in bars._status.value
    assert f"{name} at step {session.step}: {value} = " in bars._status.value
    assert bars.target.control.options[0][0] == "the largest"


def test_a_lens_of_one_output_is_plotted_as_a_value() -> None:
    lens = logit_lens(Regressor(1), torch.randn(1, 5, 3))
    said = grulens.plot(lens)._html()
    assert "probability" not in said
    assert "the value of output" in said
    assert "likeliest" not in lens._repr_html_()
