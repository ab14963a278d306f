"""What every result can do: be a table and a figure, and come back from a file as it was."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import grulens
from grulens.cells.activations import HARD_SIGMOID_KERAS2
from grulens.cells.kinds.rnn import RNN
from grulens.credit import Credit, logit_lens
from grulens.dynamics import Jacobian, find_fixed_points
from grulens.errors import FileError, GrulensError, MissingPackageError, PositionError
from grulens.phrases import Hierarchy, contextual_decomposition, interactions
from tests.test_reprs import NAMES as REPRS
from tests.test_reprs import Named
from tests.test_reprs import results as reprs

X = torch.randn(2, 6, 2)


def last(output: Any) -> torch.Tensor:
    return output[:, -1, 0]


@cache
def results() -> dict[str, Any]:
    torch.manual_seed(0)
    model = Named()
    (layer,) = grulens.record(model, X)
    given = {"layer": layer, "readout": lambda out: out[:, -1], "progress": False}
    traced = {"layer": layer, "readout": last, "progress": False}
    return {
        **reprs(),
        "Sweep": grulens.sweep(model, X, units=[[0, 1], 2], times=[1, -1], **given),
        "Trace": grulens.trace_patch(model, X, X.flip(1), units=[0, 1], **traced),
        "LogitLens": logit_lens(model, X),
    }


ALL = (*REPRS, "Sweep", "Trace", "LogitLens")


def same(one: Any, other: Any) -> None:
    """Two values are of one kind and equal, down to the last bit."""
    assert type(one) is type(other) or isinstance(one, Mapping)
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        torch.testing.assert_close(other, one.detach(), rtol=0, atol=0, equal_nan=True)
    elif is_dataclass(one):
        for field in fields(one):
            same(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, Mapping):
        assert list(one) == list(other)
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, tuple | list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
    elif isinstance(one, float):
        assert one == other or (one != one and other != other)  # noqa: PLR0124
    else:
        assert one == other


@pytest.mark.parametrize("name", ALL)
def test_a_result_comes_back_from_a_file_as_it_was(name: str, tmp_path: Path) -> None:
    found = results()[name]
    path = found.save(tmp_path / "result.safetensors")
    again = type(found).load(str(path))
    same(found, again)
    assert repr(again) == repr(found)
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["grulens"])["kind"] == type(found).__name__


@pytest.mark.parametrize("name", ALL)
def test_a_result_is_a_table(name: str) -> None:
    frame = results()[name].to_frame()
    assert len(frame) > 0
    assert len(frame.columns) > 0


def test_tables_hold_the_numbers() -> None:
    found = results()
    flow = found["GradientFlow"].to_frame(1)
    assert flow.loc[5, 5] == pytest.approx(1.0)
    assert (flow.index.name, flow.columns.name) == ("query", "key")
    shares = found["GateAttention"].to_frame(1)
    assert shares.to_numpy() == pytest.approx(found["GateAttention"].map()[1].numpy())
    assert list(found["Lyapunov"].to_frame()["exponent"]) == found["Lyapunov"].exponents.tolist()
    points = found["FixedPoints"].to_frame()
    assert list(points["kind"]) == list(found["FixedPoints"].kinds)
    slopes = found["Jacobian"].to_frame()
    whole = slopes[["leak", "update", "candidate", "reset"]].sum(axis=1)
    assert whole.to_numpy() == pytest.approx(slopes["total"].to_numpy())
    states = found["Portrait"].to_frame()
    assert len(states) == 12
    assert states["component_0"][7] == pytest.approx(float(found["Portrait"].points[1, 1, 0]))
    together = found["Interactions"].to_frame(1)
    assert together["together"][0] == pytest.approx(float(found["Interactions"].values[0, 1]))
    parts = found["Decomposition"].to_frame(1)
    beta = found["Decomposition"].beta[0, 1, 1].norm()
    assert parts["beta"][1] == pytest.approx(float(beta))
    assert found["Head"].to_frame().shape == (2, 3)


@pytest.mark.parametrize(
    "name", ["Credit", "Interactions", "Decomposition", "GateAttention", "GradientFlow", "Jacobian"]
)
def test_a_table_is_of_a_row_that_is_there(name: str) -> None:
    found = results()[name]
    with pytest.raises(PositionError, match=r"row must be a whole number below [12], got 2"):
        found.to_frame(2)
    assert found.to_frame(-1).equals(found.to_frame(0 if name == "Jacobian" else 1))


def test_a_table_without_pandas_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingPackageError, match="to_frame needs pandas: pip install pandas"):
        results()["Credit"].to_frame()


def test_plot_is_the_plot_of_it() -> None:
    view = results()["Credit"].plot(row=1)
    assert repr(view) == f"plot of {results()['Credit']!r}"
    view.close()
    with pytest.raises(GrulensError, match="row 5 is out of range"):
        results()["Credit"].plot(row=5)


def test_an_activation_is_written_by_name_and_one_of_the_users_own_is_not(tmp_path: Path) -> None:
    points = results()["FixedPoints"]
    hard = replace(points, cell=replace(points.cell, gate=HARD_SIGMOID_KERAS2))
    again = type(points).load(hard.save(tmp_path / "hard"))
    assert again.cell.gate == HARD_SIGMOID_KERAS2
    own = replace(points, cell=replace(points.cell, gate=lambda a: a.sigmoid()))
    with pytest.raises(FileError, match=r"cell/gate is .* which no file can hold"):
        own.save(tmp_path / "own")


def test_a_class_reads_its_own_kinds_and_a_cell_stays_what_it_was(tmp_path: Path) -> None:
    jacobian = results()["Jacobian"]
    assert type(jacobian) is not Jacobian
    same(jacobian, Jacobian.load(jacobian.save(tmp_path / "jacobian")))
    cell = RNN(torch.eye(2), 0.5 * torch.eye(2), None, None)
    points = find_fixed_points(cell, starts=torch.rand(4, 2), progress=False)
    again = type(points).load(points.save(tmp_path / "points"))
    assert type(again.cell) is RNN
    same(points, again)


def rewritten(path: Path, change: Any, **tensors: torch.Tensor) -> Path:
    """A saved result with its head changed, and some tensors."""
    with safe_open(path, framework="pt") as file:
        held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        head = json.loads(file.metadata()["grulens"])
    save_file(held | tensors, path, {"grulens": json.dumps(change(head))})
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda head: None, "holds no result of grulens, or one of another version"),
        (lambda head: head | {"format": 2}, "or one of another version"),
        (lambda head: head | {"kind": "Sweep"}, "holds a 'Sweep', not a Credit"),
        (lambda head: head | {"fields": 3}, "a Credit has the fields method, layer, score"),
        (lambda head: head | {"fields": {"method": "m"}}, "these are others"),
        (lambda head: head | {"fields": head["fields"] | {"layer": 3}}, "the layer of a Credit"),
        (lambda head: head | {"fields": head["fields"] | {"score": 3.0}}, "the score of a Credit"),
        (lambda head: head | {"fields": head["fields"] | {"score": {"tensor": "no"}}},
         "no value of this version of grulens is written as"),
        (lambda head: head | {"fields": head["fields"] | {"score": {"function": "tanh"}}},
         "the score of a Credit"),
        (lambda head: head | {"fields": head["fields"] | {"layer": {"made": ["Credit", {}]}}},
         "no value of this version of grulens is written as"),
        (lambda head: head | {"fields": head["fields"] | {"score": {"tensor": "inputs"}}},
         "the score of a Credit"),
        (lambda head: head | {"fields": head["fields"] | {"others": {"dict": {"a": 1}}}},
         "the others of a Credit"),
    ],
)  # fmt: skip
def test_a_file_that_was_changed_is_refused(tmp_path: Path, change: Any, words: str) -> None:
    path = rewritten(results()["Credit"].save(tmp_path / "credit"), change)
    with pytest.raises(FileError, match=words):
        Credit.load(path)


@pytest.mark.unchecked
def test_sizes_must_fit_together(tmp_path: Path) -> None:
    path = results()["Credit"].save(tmp_path / "credit")
    rewritten(path, lambda head: head, score=torch.zeros(3))
    with pytest.raises(FileError, match="of a Credit is not"):
        Credit.load(path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "text"
    other.write_bytes(b"not a file of tensors")
    with pytest.raises(FileError, match="holds no Credit: "):
        Credit.load(other)
    torn = results()["Credit"].save(tmp_path / "torn")
    torn.write_bytes(torn.read_bytes()[:-9])
    with pytest.raises(FileError, match="holds no Credit: "):
        Credit.load(torn)
    plain = tmp_path / "plain"
    save_file({"score": torch.zeros(2)}, plain)
    with pytest.raises(FileError, match="holds no result of grulens"):
        Credit.load(plain)
    deep = {"grulens": '{"format":1,"kind":"Credit","fields":' + "[" * 9000 + "]" * 9000 + "}"}
    save_file({}, tmp_path / "deep", deep)
    with pytest.raises(FileError):
        Credit.load(tmp_path / "deep")
    with pytest.raises(FileNotFoundError):
        Credit.load(tmp_path / "nowhere")


@pytest.mark.unchecked
@pytest.mark.parametrize("path", [None, 3, "a\0b"])
def test_what_names_no_file_is_refused(path: Any) -> None:
    for use in (Credit.load, results()["Credit"].save):
        with pytest.raises(FileError, match="path must be the name of a file"):
            use(path)


def test_what_was_interrupted_or_unusual_comes_back_too(tmp_path: Path) -> None:
    rnn, head, x = nn.GRU(2, 3, batch_first=True), nn.Linear(3, 2), torch.randn(1, 4, 2)
    mask = torch.tensor([True, False, True, False])
    phrases = [slice(0, 2), [0, 3], mask, -1]
    for found in (
        contextual_decomposition(rnn, x, phrases=phrases),  # without a head
        interactions(rnn, x, phrases=phrases, target=(0, 1), head=head, progress=False),
        Hierarchy("l0", 0, (0, 1), "score", (), float("nan"), float("-inf"), False),
    ):
        same(found, type(found).load(found.save(tmp_path / "one")))
