"""A row that is shorter than its batch ends where it ends: on screens, in lists, in figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import grulens
from grulens import plot
from grulens.credit import (
    CreditBars,
    contextual_credit,
    input_x_gradient,
    layerwise_relevance,
    logit_lens,
)
from grulens.memory import GateMemory, attention, gradient_flow
from grulens.models.record import record
from grulens.views.figure.raster import own_steps
from grulens.widgets.jupyter.bokeh_view import BokehView
from grulens.widgets.session.session import Session

NAMES = ["<pad>", "a", "b", "c", "d", "e"]
IDS = torch.tensor([[1, 2, 3, 4, 5, 1], [2, 3, 4, 0, 0, 0]])
LENGTHS = torch.tensor([6, 3])


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Embedding(6, 3), nn.GRU(3, 4, batch_first=True)
        self.out = nn.Linear(4, 2)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embed(ids), lengths, batch_first=True, enforce_sorted=False
        )
        states = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]
        answer: Tensor = self.out(states)
        return answer


def named(ids: Tensor) -> list[str]:
    return [NAMES[i] for i in ids]


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Tagger().eval()


@pytest.fixture
def session(model: nn.Module) -> Session:
    return Session(model, IDS, LENGTHS, decode=named, labels=["no", "yes"])


def shown_by(root: Any) -> str:
    """All that the sources and titles under a figure hold."""
    return " ".join(str(one.properties_with_values()) for one in root.references())


def steps_in(root: Any) -> int:
    """How long the longest column of steps is."""
    data = [getattr(one, "data", {}) for one in root.references()]
    return max(len(one[name]) for one in data for name in ("step", "key", "token") if name in one)


def test_a_row_is_as_long_as_its_last_step() -> None:
    assert own_steps(np.array([True, True, False, False])) == 2
    assert own_steps(np.array([False, True, True, False])) == 3, "padding before it stays"
    assert own_steps(np.array([False, False])) == 2


@pytest.mark.parametrize("view", ["attention", "gradient"])
def test_the_memory_is_of_the_row_s_own_steps(session: Session, view: str) -> None:
    screen = GateMemory(session)
    screen.view = view
    assert screen.wait(20.0)
    one = getattr(screen, view)
    assert one.step.max == 5
    assert "&lt;pad" not in screen.still()
    session.row = 1
    assert screen.wait(20.0)
    assert one.step.max == one.step.value == 2
    root = one.picture.document.roots[0]
    assert "<pad>" not in shown_by(root)
    assert steps_in(root) == 3
    assert "&lt;pad" not in screen.still()
    session.row = 0
    assert screen.wait(20.0)
    assert one.step.max == 5
    screen.close()


@pytest.mark.parametrize("view", ["credit", "logit lens"])
def test_credit_is_of_the_row_s_own_steps(session: Session, view: str) -> None:
    session.row = 1
    screen = CreditBars(session)
    screen.view = view
    assert screen.wait(20.0)
    assert screen.step.max == screen.step.value == 2
    root = screen.views[view].figure.root
    assert "<pad>" not in shown_by(root)
    assert steps_in(root) == 3
    assert "&lt;pad" not in screen.still()
    session.row = 0
    assert screen.wait(20.0)
    assert screen.step.max == 5
    assert steps_in(root) == 6
    screen.close()


class Twice(Tagger):
    """Reads the first half and then the second: a row may end in both."""

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        halves = zip(ids.split(3, 1), lengths.unbind(1), strict=True)
        return torch.cat([super(Twice, self).forward(*half) for half in halves], 1)


def test_padding_between_a_row_s_steps_is_no_step_either() -> None:
    lengths = torch.tensor([[3, 3], [1, 3]])
    session = Session(Twice().eval(), IDS, lengths, decode=named, labels=["no", "yes"])
    session.row, session.step = 1, 1
    assert session.now.mask[1].tolist() == [True, False, False, True, True, True]
    screen = CreditBars(session)
    screen.view = "logit lens"
    assert screen.wait(20.0)
    assert "Step 1 is padding in this row." in screen.still()
    session.step = 3
    assert screen.wait(20.0)
    assert "after step 3 the likeliest is" in screen.still()
    screen.close()


class Translator(Tagger):
    """Only the encoder's rows are packed, and the decoder takes as many steps as that."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.GRU(3, 4, batch_first=True)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embed(ids), lengths, batch_first=True, enforce_sorted=False
        )
        answer: Tensor = self.out(self.decoder(self.embed(ids.flip(1)), self.rnn(packed)[1])[0])
        return answer


@pytest.mark.parametrize("layer", ["rnn.l0", "decoder.l0"])
def test_a_decoder_s_answer_goes_on_where_its_encoder_ends(layer: str) -> None:
    torch.manual_seed(0)
    lens = grulens.Lens(Translator().eval(), IDS, LENGTHS, labels=["no", "yes"])
    session = lens.session
    session.layer, session.row = layer, 1
    session.add(grulens.scale("rnn.l0", "z", by=0.5))
    assert session.answered.tolist() == [True] * 6
    assert len(session.moved) == 6
    assert float(session.moved[3:].max()) > 0
    (drawn,) = [
        one.data["divergence"]
        for one in lens.gates.picture.document.models
        if "divergence" in getattr(one, "data", {})
    ]
    assert np.isfinite(drawn).all()
    alone = session.effect(session.slots[0].edit)
    assert alone == pytest.approx(float(session.moved.mean()))
    # what is padding in every layer is no answer
    session = Session(Tagger().eval(), IDS, LENGTHS, labels=["no", "yes"])
    session.row = 1
    assert session.answered.tolist() == [True] * 3 + [False] * 3
    lens.close()


def test_plots_are_of_the_row_s_own_steps(model: nn.Module) -> None:
    run = record(model, IDS, LENGTHS)
    tokens = named(IDS[1])
    lens = logit_lens(model, IDS, LENGTHS, layer="rnn.l0")
    given = model, IDS, LENGTHS
    credits = [method(*given, target=1) for method in (input_x_gradient, layerwise_relevance)]
    alone = contextual_credit(*given, target=1)
    for found in (attention(run), gradient_flow(run), lens, *credits, alone):
        view = plot(found, row=1, tokens=tokens)
        assert isinstance(view, BokehView)
        assert "<pad>" not in shown_by(view.document.roots[0])
        assert steps_in(view.document.roots[0]) == 3


def test_credit_to_an_argument_hides_nothing(model: nn.Module) -> None:
    class Floats(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            packed = nn.utils.rnn.pack_padded_sequence(
                x, lengths, batch_first=True, enforce_sorted=False
            )
            states = nn.utils.rnn.pad_packed_sequence(model.rnn(packed)[0], batch_first=True)[0]
            answer: Tensor = model.out(states)
            return answer

    x = torch.randn(2, 6, 3)
    of_layer = input_x_gradient(Floats(), x, LENGTHS, target=1)
    of_argument = input_x_gradient(Floats(), x, LENGTHS, target=1, input_of="x")
    assert of_layer.mask is not None
    assert of_layer.mask.sum(1).tolist() == [6, 3]
    # what is padding of an argument, only the model knows
    assert of_argument.mask is None
    for found, shown in ((of_layer, 3), (of_argument, 6)):
        view = plot(found, row=1)
        assert isinstance(view, BokehView)
        assert steps_in(view.document.roots[0]) == shown
