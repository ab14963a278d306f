"""Descriptions of edits that came from anywhere: an edit that works, or an EditError."""

from __future__ import annotations

import copy
import json
import math
import warnings
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from grulens import Edit, ablate, clamp, patch, record, scale, shift
from grulens.errors import EditError, GrulensError, NonFiniteWarning

torch.manual_seed(0)
RNN, X = nn.GRU(3, 4, batch_first=True), torch.randn(2, 5, 3)
HELD: list[dict[str, Any]] = [
    edit.to_dict()
    for edit in (
        ablate("l0", [1, 2], to="mean", at=slice(1, 3), rows=0),
        clamp("l0", "z", [True, False, True, False], value=0.5, at=-1),
        scale("l0", "r", 3, by=torch.linspace(0, 1, 4).double()),
        shift("l0", "n", by=torch.ones(2, 5, 4), at=[0, -1]),
        patch("l0", "h", source=record(RNN, X), at=2),
    )
]
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 3, 0.5, -0.0, 1e308, 10**30, -(10**400), 2**63, math.nan,
    math.inf, "", "l0", "mean", "h", "patch", "float32", "int64", "bool", "complex64", "nn",
    "Tensor", "\ud800", [], [0], [[]], [[0.5]], [True, 1], [None], ["0"], [10**400],
    [[1.0], [1.0, 2.0]], {}, {"slice": 3}, {"slice": [1, 2]}, {"slice": [None, None, 0]},
    {"slice": ["a", {}, []]}, {"slice": "abc"}, {"slice": [10**400, None, None]},
    {"slice": [1, 10**30, None]},
    {"tensor": [1.0]}, {"tensor": None, "dtype": "float32"},
    {"tensor": [[[1.0] * 4] * 5] * 3, "dtype": "float16"}, {"tensor": [1], "dtype": 3},
    {"source": None}, {"source": {}},
    {"source": {"name": 3, "dtype": "float32", "values": [[[1.0]]]}},
    {"source": {"name": "a", "dtype": "float32", "values": 1.0}},
    {"source": {"name": "a", "dtype": "int8", "values": [[[1] * 4] * 5]}},
    {"source": {"name": "a", "dtype": "complex64", "values": [[[1.0] * 4] * 5]}},
    {"source": {"name": "a", "dtype": "float32", "values": [[[math.nan] * 4] * 5]}},
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a nest of dicts and lists."""
    if not isinstance(value, dict | list):
        return [path]
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    return [path, *(p for key, held in inner for p in places(held, (*path, key)))][:200]


def mutated(random: Random) -> Any:
    """A description with one to three places changed, dropped or put elsewhere."""
    data: Any = copy.deepcopy(random.choice(HELD))
    for _ in range(random.choice([1, 1, 2, 3])):
        *path, last = random.choice(places(data)) or (None,)
        if last is None:
            data = random.choice(VALUES)
            break
        place = data
        for key in path:
            place = place[key]
        match random.choice(["change", "drop", "swap", "nest"]):
            case "drop":
                del place[last]
            case "swap":
                place[last] = copy.deepcopy(random.choice(list(random.choice(HELD).values())))
            case "nest":
                place[last] = random.choice([[place[last]], {"slice": place[last]}])
            case _:
                place[last] = copy.deepcopy(random.choice(VALUES))
        if not isinstance(data, dict | list) or not data:
            break
    return data


def answers(data: Any) -> None:
    """Raise AssertionError unless it is an edit that works, or an EditError."""
    before = repr(data)
    try:
        edit = Edit.from_dict(data)
    except EditError as error:
        edit, words = None, str(error)
    if edit is None:
        assert 10 < len(words) < 2500
        return
    assert repr(data) == before
    again = Edit.from_dict(json.loads(json.dumps(edit.to_dict())))
    assert again == edit
    assert hash(again) == hash(edit)
    assert edit.kind in repr(edit)
    assert edit.words()
    assert "<code>" in edit._repr_html_()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NonFiniteWarning)  # 1e308 in float32
            run = record(RNN, X, edits=edit)
    except GrulensError:
        return
    assert run["l0"].h.shape == (2, 5, 4)


@pytest.mark.parametrize("value", range(len(VALUES)))
@pytest.mark.parametrize("held", range(len(HELD)))
def test_each_value_at_each_place(value: int, held: int) -> None:
    answers(VALUES[value])
    for key in HELD[held]:
        answers(HELD[held] | {key: VALUES[value]})
    amount = HELD[held]["amount"]
    for key in amount if isinstance(amount, dict) else ():
        answers(HELD[held] | {"amount": amount | {key: VALUES[value]}})
    source = amount.get("source", {}) if isinstance(amount, dict) else {}
    for key in source:
        answers(HELD[held] | {"amount": {"source": source | {key: VALUES[value]}}})


@given(st.integers(0, 2**32))
def test_descriptions_with_mutations(seed: int) -> None:
    random = Random(seed)
    for _ in range(80):
        data = mutated(random)
        try:
            answers(data)
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error} for {data!r:.2000}") from error
