"""A recorded run comes back from a file: its signals, what it returned, and what is asked of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from grulens import Recording, Sweep, ablate, patch, record
from grulens.errors import FileError, RecordingError
from grulens.memory import attention, gradient_flow, timescales
from tests import loops
from tests.drawn import Case, cases
from tests.widgets.observed_cells import made


def same(run: Recording, again: Recording) -> None:
    assert list(run) == list(again)
    for name, layer in run.items():
        other = again[name]
        assert (layer.names, layer.shape, layer.calls, layer.rows) == (
            other.names, other.shape, other.calls, other.rows
        )  # fmt: skip
        for signal in layer.names:
            here, there = layer.signal(signal).detach(), other.signal(signal)
            # with a graph other products are made than without, and rounded otherwise
            exact = signal in ("x", "h", "h_prev")
            size = 0 if exact else 4 * torch.finfo(here.dtype).eps
            close = {"rtol": size, "atol": size}
            torch.testing.assert_close(here, there, **close, equal_nan=True)
        assert torch.equal(layer.mask, other.mask)


@settings(max_examples=25)
@given(cases(), st.booleans())
def test_every_signal_comes_back_as_it_was(case: Case, grad: bool) -> None:
    folder = Path(pytest.temporary)  # type: ignore[attr-defined]
    run = record(case.module, *case.args, grad=grad)
    again = Recording.load(run.save(folder / "run", output=False))
    same(run, again)
    assert again.residual == pytest.approx(run.residual, abs=0.02, nan_ok=True)
    with pytest.raises(RecordingError, match="what this run returned was not saved with it"):
        _ = again.output


@pytest.fixture(autouse=True)
def _folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest, "temporary", tmp_path_factory.mktemp("saved"), raising=False)


class Loop(nn.Module):
    """A decoder loop, and an LSTM and an RNN beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.GRUCell(3, 4), nn.Linear(4, 2)
        self.lstm, self.rnn = nn.LSTM(3, 4, batch_first=True), nn.RNN(4, 4, batch_first=True)
        self.closed = nn.LSTM(3, 4, proj_size=2)

    def forward(self, x: Tensor) -> dict[str, Any]:
        h = x.new_zeros(len(x), 4)
        for step in x.unbind(1):
            h = self.cell(step, h)
        return {"logits": (self.out(h),), "states": [self.rnn(self.lstm(x)[0])[0]], "n": 3}


def test_cells_of_every_kind_what_was_returned_and_what_is_closed(tmp_path: Path) -> None:
    model, x = Loop(), torch.randn(2, 5, 3)
    run = record(model, x)
    path = run.save(tmp_path / "run")
    again = Recording.load(path)
    same(run, again)
    assert torch.equal(again.output["logits"][0], run.output["logits"][0])
    assert torch.equal(again.output["states"][0], run.output["states"][0])
    assert again.output["n"] == 3
    assert again.closed == run.closed != ()
    with safe_open(path, framework="pt") as file:
        held = [name for name in file.keys() if name.endswith("weight_hh")]  # noqa: SIM118
    assert len(held) == 3  # the loop's weights are written once


def test_what_is_asked_of_a_run_is_asked_of_a_saved_one(tmp_path: Path) -> None:
    rnn, x = nn.GRU(3, 4, batch_first=True), torch.randn(2, 5, 3)
    run = record(rnn, x)
    again = Recording.load(run.save(tmp_path / "run"))
    torch.testing.assert_close(attention(again).map(), attention(run).map())
    edited = [record(rnn, x.flip(1), edits=patch("l0", "h", 1, source=s)) for s in (run, again)]
    torch.testing.assert_close(edited[0]["l0"].h, edited[1]["l0"].h)


def test_what_a_file_cannot_hold_is_refused(tmp_path: Path) -> None:
    rnn, x = nn.GRU(3, 4, batch_first=True), torch.randn(2, 5, 3)
    with pytest.raises(FileError, match="layer 'l0' ran with an edit: save the unedited run"):
        record(rnn, x, edits=ablate("l0", 1)).save(tmp_path / "run")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        run = record(rnn, x)
    with pytest.raises(FileError, match="layer 'l0' ran under autocast"):
        run.save(tmp_path / "run")
    run = record(rnn, x, grad=True)
    with torch.no_grad():
        rnn.weight_hh_l0.add_(1)
    with pytest.raises(FileError, match="has weights that were changed in place since it ran"):
        run.save(tmp_path / "run")

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = rnn

        def forward(self, x: Tensor) -> object:
            self.rnn(x)
            return object()

    run = record(Odd(), x)
    with pytest.raises(FileError, match=r"output/0 is .*, which no file can hold"):
        run.save(tmp_path / "run")
    assert list(Recording.load(run.save(tmp_path / "run", output=False))) == ["rnn.l0"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("layers/0/calls/0/x", torch.zeros(2, 5, 4), "does not fit its cell"),
        ("layers/0/calls/0/h", torch.zeros(2, 6, 4), "does not fit its cell|not"),
        ("layers/0/calls/0/h_0", torch.zeros(3, 4), "does not fit its cell|not"),
        ("layers/0/cells/0/weight_hh", torch.zeros(11, 4), "rows"),
        ("layers/0/calls/0/x", torch.zeros(2, 5, 3, dtype=torch.int64), "holds no|is not"),
    ],
)
@pytest.mark.unchecked
def test_a_file_that_was_changed_is_refused(
    tmp_path: Path, name: str, value: Tensor, words: str
) -> None:
    path = record(nn.GRU(3, 4, batch_first=True), torch.randn(2, 5, 3)).save(tmp_path / "run")
    with safe_open(path, framework="pt") as file:
        held = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        head = file.metadata()
    assert name in held
    save_file(held | {name: value}, path, head)
    with pytest.raises(FileError, match=words):
        Recording.load(path)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = record(nn.GRU(3, 4, batch_first=True), torch.randn(2, 5, 3)).save(tmp_path / "run")
    with pytest.raises(FileError, match="holds a 'SavedRun', not a Sweep"):
        Sweep.load(path)
    with safe_open(path, framework="pt") as file:
        held = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        head = json.loads(file.metadata()["grulens"])
    head["fields"]["layers"] = {"tuple": []}
    save_file(held, path, {"grulens": json.dumps(head)})
    with pytest.raises(FileError, match="holds no whole run"):
        Recording.load(path)
    head["fields"]["layers"] = {"tuple": [{"made": ["SavedLayer", {"name": "l0"}]}]}
    save_file(held, path, {"grulens": json.dumps(head)})
    with pytest.raises(FileError, match="a SavedLayer has the fields name, cells, calls"):
        Recording.load(path)


@pytest.mark.parametrize("name", ["norm", "decay", "two", "conv", "zoneout", "clipped", "masked"])
@pytest.mark.parametrize("grad", [False, True])
def test_an_observed_cell_comes_back_with_its_equation(
    name: str, grad: bool, tmp_path: Path
) -> None:
    others = {"zoneout": loops.Zoneout, "clipped": loops.Clipped, "masked": loops.Masked}
    if name in others:
        torch.manual_seed(0)
        model, x = others[name](), torch.randn(2, 6, loops.INPUTS)
    else:
        model, x = made(name)
    run = record(model, x, grad=grad)
    again = Recording.load(run.save(tmp_path / "run"))
    again = Recording.load(again.save(tmp_path / "again"))
    same(run, again)
    assert again.residual == run.residual
    assert torch.equal(again.output, run.output)
    layer, other = run["cell"], again["cell"]
    assert (layer.form, layer.explain()) == (other.form, other.explain())  # type: ignore[attr-defined]
    assert (layer.cell.signals, repr(layer.cell)) == (other.cell.signals, repr(other.cell))
    assert layer.cell.convention == other.cell.convention
    if name == "conv":
        assert torch.equal(layer.folded("max", "z"), other.folded("max", "z"))  # type: ignore[attr-defined]
        assert other.cell.unit_name(15) == "channel 1 at (0, 3)"  # type: ignore[attr-defined]
    if name != "clipped":
        assert torch.equal(timescales(again).half_life, timescales(run).half_life)
    if name == "norm":
        assert torch.equal(attention(again).map(), attention(run).map())
        with pytest.raises(RecordingError, match="grad=True"):
            gradient_flow(again)


def test_a_first_state_of_one_row_that_serves_for_all_is_kept_in_a_file(tmp_path: Path) -> None:
    class Learned(loops.Lines):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Parameter(torch.randn(1, loops.UNITS))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h: torch.Tensor = self.first
            for now in x.unbind(1):
                z = torch.sigmoid(self.one(torch.cat([now, h.expand(len(x), -1)], 1)))
                h = z * h + (1 - z) * torch.tanh(now[:, :1])
            return h

    run = record(Learned(), torch.randn(3, 5, loops.INPUTS))
    again = Recording.load(run.save(tmp_path / "run"))
    same(run, again)
    assert torch.equal(again["cell"].h_prev, run["cell"].h_prev)


def test_an_observed_cell_that_no_file_holds_or_that_is_no_longer_itself(tmp_path: Path) -> None:
    model, x = made("norm")
    with pytest.raises(FileError, match="layer 'cell' ran with an edit: save the unedited run"):
        record(model, x, edits=ablate("cell", 1)).save(tmp_path / "run")
    path = record(model, x).save(tmp_path / "run")
    with safe_open(path, framework="pt") as file:
        held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    place = next(name for name in held if name.endswith("/z"))
    for wrong, why in (
        (held[place] + 0.25, "does not obey h = "),
        (held[place][:-1], "does not fit its cell"),
        (held[place][..., :-1], "does not fit its cell"),
    ):
        save_file(held | {place: wrong.contiguous()}, path, metadata)
        with pytest.raises(FileError, match=f"a call of layer 'cell' {why}"):
            Recording.load(path)
    head = json.loads(metadata["grulens"])
    (saved,) = head["fields"]["layers"]["tuple"]
    for field, value in (("carried", "q"), ("shape", {"tuple": [5]}), ("calls", {"tuple": []})):
        changed = json.loads(json.dumps(saved))
        changed["made"][1][field] = value
        other = json.loads(metadata["grulens"])
        other["fields"]["layers"]["tuple"] = [changed]
        save_file(held, path, {"grulens": json.dumps(other)})
        with pytest.raises(FileError):
            Recording.load(path)
