"""What a page is told of a network, and what it cannot be told."""

from __future__ import annotations

import base64
import re
from importlib.resources import files

import numpy as np
import pytest
import torch
from torch import nn

from grulens.cells import activations
from grulens.cells.kinds.gru import Cell
from grulens.cells.kinds.ugrnn import UGRNN
from grulens.errors import CellError
from grulens.widgets.session.described import BY_NAME, WITH_NUMBERS, Stacked, activation, describe


def test_the_engine_knows_every_activation_that_is_told_by_name() -> None:
    script = (files("grulens.views.page") / "engine.js").read_text(encoding="utf-8")
    table = re.search(r"const ACTIVATIONS = \{(.*?)\n  \};", script, re.S)
    assert table
    known = set(re.findall(r"^    (\w+): ", table[1], re.M))
    assert known == {*BY_NAME.values(), *(kind.__name__ for kind in WITH_NUMBERS), "Clipped"}


def test_every_activation_of_the_house_is_told() -> None:
    house = {
        value
        for value in vars(activations).values()
        if isinstance(value, type) and value.__module__ == activations.__name__
    }
    assert house == {*WITH_NUMBERS, activations.Clipped}
    assert activation(activations.Elu(2.0)) == {"name": "Elu", "alpha": 2.0}


def test_what_the_page_does_not_know_is_refused_by_name() -> None:
    cell = Cell(torch.zeros(3, 1), torch.zeros(3, 1), None, None, gate=nn.Softplus())
    with pytest.raises(CellError, match="does not know the activation Softplus; it knows Affine"):
        describe([Stacked("l0", cell)], 1)
    ugrnn = UGRNN(torch.zeros(2, 1), torch.zeros(2, 1), None, None)
    with pytest.raises(CellError, match="knows GRU, RNN and LSTM; this layer's cell is UGRNN"):
        describe([Stacked("l0", ugrnn)], 1)
    inner = activations.Clipped(torch.erf, 1.0)
    with pytest.raises(CellError, match="does not know the activation erf"):
        activation(inner)


def test_arrays_are_packed_as_they_are() -> None:
    cell = Cell(torch.arange(3.0)[:, None], torch.ones(3, 1) / 3, None, torch.zeros(3))
    made = describe([Stacked("l0", cell)], 1)
    assert made.network["layers"][0]["bias_ih"] is None
    assert (made.size("f4"), made.size("f2")) == (36, 18)
    packed = made.packed("f2")["l0 weight_hh"]
    values = np.frombuffer(base64.b64decode(packed["data"]), "<f2")
    np.testing.assert_array_equal(values, np.full(3, 1 / 3, np.float16))
