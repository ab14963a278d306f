"""What each row answers, and whether it is true."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from grulens import Session, record
from grulens.errors import GrulensError
from grulens.widgets.session.answers import Answers
from grulens.widgets.session.row_answers import row_answers, truth_of


class Echo(nn.Module):
    """Answers at each step what stands there."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(2, 3, batch_first=True)

    def forward(self, x: Any) -> Tensor:
        states = self.rnn(x)[0]
        if not isinstance(x, Tensor):
            x, states = pad_packed_sequence(x, batch_first=True)[0], 0
        return x * 9 + 0 * (states.sum() if isinstance(states, Tensor) else 0)


X = torch.tensor([[[1.0, 0], [0, 1], [0, 1]], [[0, 1], [1, 0], [0, 0]]])
NAMED = Answers(None, None, ["left", "right"])


def test_a_padded_row_answers_at_its_own_end() -> None:
    run = record(Echo(), pack_padded_sequence(X, [3, 2], batch_first=True))
    found = row_answers(NAMED, run, run["rnn.l0"], ["left", "left"])
    assert found.names == ["right", "left"]
    assert found.right == [False, True]
    assert found.truths == ["left", "left"]
    assert found.is_share
    np.testing.assert_allclose(found.values, 1 / (1 + np.exp(-9)), rtol=1e-6)


def test_truths_are_numbers_names_or_not_known() -> None:
    run = record(Echo(), X)
    found = row_answers(NAMED, run, run["rnn.l0"], truth_of(torch.tensor([1, 0])))
    assert found.right == [True, True]  # of two alike the first
    found = row_answers(NAMED, run, run["rnn.l0"], [None, "right"])
    assert (found.right, found.truths) == ([None, False], ["", "right"])


def test_of_one_number_it_is_said_how_far_off_it_is() -> None:
    run = record(Echo(), X)
    one = Answers(lambda out: out[:, -1, 1], "value", None)
    found = row_answers(one, run, run["rnn.l0"], [8.0, None])
    assert found.right is None
    assert found.off is not None
    np.testing.assert_allclose(found.off, [1.0, np.nan])
    with pytest.raises(GrulensError, match="truth of row 1, 'left', is no number"):
        row_answers(one, run, run["rnn.l0"], [8.0, "left"])


def test_a_session_takes_a_truth_that_fits_and_no_other() -> None:
    session = Session(Echo(), X, labels=["left", "right"], truth=["left", 1])
    assert session.truth == ["left", 1]
    for wrong, said in (
        ([0], "truth has 1 item, and this run has 2 rows"),
        ([0, 2], "truth of row 1, 2, is no class: there are 2, 0 to 1; None where"),
        ([0, "up"], "truth of row 1, 'up', is no class: 'left', 'right'"),
        ([0, 0.5], "truth of row 1, 0.5, is no class"),
        ("01", "truth must have one item a row: .* got '01'"),
        ([0, []], r"that of row 1 is \[\]"),
    ):
        with pytest.raises(GrulensError, match=said):
            Session(Echo(), X, labels=["left", "right"], truth=wrong)
        with pytest.raises(GrulensError, match=said):
            session.truth = wrong
        assert session.truth == ["left", 1]
    session.set_input(X[:1])
    assert session.truth is None
    session.set_input(X, truth=[0, 0])
    assert session.truth == [0, 0]
