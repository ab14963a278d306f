"""Relevance through whole models: the ledger closes, and a linear model gives input x gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from grulens import Cell
from grulens.adapters import GRUStack
from grulens.cells.activations import Affine, identity
from grulens.credit import contextual_credit
from grulens.errors import CellError, EditError, PositionError, ReadoutError
from grulens.probing.credit.relevance import layerwise_relevance
from tests.drawn import Case, cases
from tests.intact import Intact


@settings(max_examples=25)
@given(cases(dtypes=(torch.float64,)), st.sampled_from([0.0, 1e-3, 0.5]), st.booleans())
def test_the_ledger_adds_up_to_the_score(case: Case, eps: float, joined: bool) -> None:
    module = case.module
    wide = module.hidden_size * (1 + (joined and module.bidirectional))
    head = nn.Linear(wide, 3).double()
    credit = layerwise_relevance(
        module, *case.args, target=1, step="final", head=head, eps=eps,
        layer=f"l{module.num_layers - 1}",
    )  # fmt: skip
    size = max(1.0, float(credit.inputs.abs().max()), float(credit.initial.abs().max()))
    assert float(credit.gap.abs().max()) < 1e-9 * size
    h_n = module(*case.args)[1]
    h_n = h_n[:, None] if h_n.dim() == 2 else h_n
    if joined and module.bidirectional:
        last = torch.cat([h_n[-2], h_n[-1]], 1)
    else:
        last = h_n[-1 - module.bidirectional]
    torch.testing.assert_close(credit.score, head(last)[:, 1].detach())
    ends = torch.tensor(case.lengths)[:, None]
    assert credit.inputs[torch.arange(case.rows.shape[1]) >= ends].eq(0).all()


class Flat(nn.Module):
    """Two levels in both directions whose gates stand still: linear, and without biases."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        still = Affine(0.0, 0.3)
        levels = [
            tuple(
                Cell(torch.randn(9, width).double(), torch.randn(9, 3).double(), None, None,
                     gate=still, candidate=identity, reset_after=after)
                for after in (True, False)
            )
            for width in (2, 6)
        ]  # fmt: skip
        self.rnn, self.out = GRUStack(levels), nn.Linear(6, 2, bias=False).double()

    def forward(self, x: Any, h_0: Tensor) -> Tensor:
        return self.out(torch.cat(list(self.rnn(x, h_0)[1][-2:]), 1))


def test_of_a_linear_model_it_is_input_times_gradient() -> None:
    model = Flat()
    x = torch.randn(2, 5, 2).double().requires_grad_()
    h_0 = torch.randn(4, 2, 3).double().requires_grad_()
    packed = pack_padded_sequence(x, torch.tensor([3, 5]), True, enforce_sorted=False)
    score = model(packed, h_0)[:, 1] - model(packed, h_0)[:, 0]
    of_x, of_h = torch.autograd.grad(score.sum(), (x, h_0))
    intact = Intact(model)
    with torch.no_grad():
        credit = layerwise_relevance(
            model, packed, h_0, target=(1, 0), step="final", eps=0.0, layer="rnn.l1"
        )
    assert intact.broken() == []
    torch.testing.assert_close(credit.inputs, of_x * x.detach())
    want = (of_h * h_0.detach()).transpose(0, 1).flatten(1)
    torch.testing.assert_close(credit.initial, want)
    torch.testing.assert_close(credit.score, score.detach())


def test_a_loop_of_calls_is_one_run() -> None:
    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(2, 3, num_layers=2, batch_first=True).double()

        def forward(self, x: Tensor) -> Any:
            h = None
            for part in x.split(2, 1):
                out, h = self.rnn(part, h)
            return out

    torch.manual_seed(0)
    decoder, head, x = Decoder(), nn.Linear(3, 2).double(), torch.randn(2, 6, 2).double()
    loop = layerwise_relevance(decoder, x, target=0, head=head)
    one = layerwise_relevance(decoder.rnn, x, target=0, head=head)
    for name in ("inputs", "initial", "bias", "score"):
        torch.testing.assert_close(getattr(loop, name), getattr(one, name))
    torch.testing.assert_close(loop.others["absorbed"], one.others["absorbed"])
    early = layerwise_relevance(decoder, x, target=0, head=head, step=1)
    assert early.inputs[:, 2:].eq(0).all()
    torch.testing.assert_close(
        early.inputs[:, :2], layerwise_relevance(decoder.rnn, x[:, :2], target=0, head=head).inputs
    )


def test_every_option_changes_something() -> None:
    torch.manual_seed(0)
    rnn, head = nn.GRU(2, 3, num_layers=2, batch_first=True), nn.Linear(3, 3)
    x = torch.randn(1, 5, 2)

    def of(**options: Any) -> Tensor:
        given_: dict[str, Any] = {"target": 1, "head": head, **options}
        return layerwise_relevance(rnn, x, **given_).inputs

    plain = of()
    changes: list[dict[str, Any]] = [
        {"target": 2}, {"target": (1, 0)}, {"step": 2}, {"layer": "l0"}, {"eps": 0.3},
        {"head": nn.Linear(3, 3)},
    ]  # fmt: skip
    for change in changes:
        assert not torch.allclose(of(**change), plain), change
    assert of(dtype=torch.float64).dtype is torch.float64
    for eps in (-1, float("nan"), float("inf"), "a", True):
        with pytest.raises(EditError, match="eps must be a number of 0 or more"):
            of(eps=eps)
    with pytest.raises(ReadoutError, match="target must be a class, or a pair"):
        of(target=3)
    with pytest.raises(PositionError, match="step 5 is out of range"):
        of(step=5)


class Both(nn.Module):
    """An LSTM of two levels in both directions, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.rnn(x)[0][:, -1])
        return out


@pytest.mark.parametrize("ask", [contextual_credit, layerwise_relevance])
@pytest.mark.parametrize("layer", ["rnn.l1", "rnn.l1_reverse"])
def test_the_layer_that_is_no_gru_is_the_one_that_was_asked_for(ask: Any, layer: str) -> None:
    words = f"layer '{layer}' is an LSTM. integrated_gradients and input_x_gradient credit"
    with pytest.raises(CellError, match=words):
        ask(Both(), torch.randn(1, 5, 3), layer=layer, target=0)
