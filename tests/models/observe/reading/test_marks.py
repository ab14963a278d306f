"""What marks read in a copy of a forward's code is what a mode reads in the code itself."""

from __future__ import annotations

import importlib
import inspect
import linecache
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization
from torch.overrides import TorchFunctionMode

from grulens import clamp, record, recording
from grulens.errors import RecordingError
from grulens.models.observe.paths import Paths
from grulens.models.observe.reading.marks import Marks
from grulens.models.observe.reading.reading import BEGAN, Reading


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.new = nn.Linear(7, 4), nn.Linear(7, 4)
        self.act = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 4)
        for t in range(x.shape[1]):
            both = torch.cat([x[:, t], h], 1)
            z = torch.sigmoid(self.gate(both))
            h = z * h + (1 - z) * torch.tanh(self.new(both))
        return h


class Methods(Plain):
    def forward(self, x: Tensor, *, first: int = 0) -> Tensor:
        h = x.new_zeros(len(x), 4)
        for t in range(first, x.shape[1]):
            both = torch.cat([x[:, t], h], 1)
            z = self.gate(both).sigmoid()
            h = h.mul(z).add((1 - z).mul(self.new(both).tanh()))
        return h


class Named(Plain):
    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 4)
        for t in range(x.shape[1]):
            both = torch.cat([x[:, t], h], 1)
            n = torch.tanh(self.new(both))
            h = torch.lerp(input=n, weight=self.act(self.gate(both)), end=h)
        return h


class NumberFirst(Plain):
    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 4)
        for t in range(x.shape[1]):
            share = 0.75
            both = torch.cat([x[:, t], h], 1)
            h = share * h + 0.25 * torch.tanh(self.new(both))
        return h


def enclosed(size: int) -> type[Plain]:
    class Enclosed(Plain):
        def forward(self, x: Tensor) -> Tensor:
            h = torch.zeros_like(super().forward(x[:, :0]))[:, :size]
            for now in x.unbind(1):
                both = torch.cat([now, h], 1)
                z = torch.sigmoid(self.gate(both))
                h = z * h + (1 - z) * torch.tanh(self.new(both))
            return h

    return Enclosed


class Step(Plain):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        both = torch.cat([x, h], 1)
        z = torch.sigmoid(self.gate(both))
        return z * h + (1 - z) * torch.tanh(self.new(both))


class Stepped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = Step()

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 4)
        for now in x.unbind(1):
            h = self.cell(now, h)
        return h


class TwoWays(Stepped):
    def forward(self, x: Tensor) -> Tensor:
        h = k = x.new_zeros(len(x), 4)
        for now in x.unbind(1):
            h = self.cell(now, h)
            k = self.cell(2 * now, k)
        return h + k


class Looks(Plain):
    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 4)
        for t in range(x.shape[1]):
            both = torch.cat([x[:, t], h], 1)
            z = torch.sigmoid(self.gate(both))
            h = z * h + (1 - z) * torch.tanh(self.new(both))
        return h + len(locals())


class Helped(Plain):
    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 4)
        for t in range(x.shape[1]):
            h = self.step(x[:, t], h)
        return h

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        both = torch.cat([x, h], 1)
        z = torch.sigmoid(self.gate(both))
        return z * h + (1 - z) * torch.tanh(self.new(both))


class Decorated(Plain):
    forward = torch.no_grad()(Plain.forward)


class Hooked(Named):
    def __init__(self) -> None:
        super().__init__()
        self.act.register_forward_hook(lambda module, args, output: output * 0.5)


class Same(Plain):
    """Its own sigmoid is none of torch's."""

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 4)
        for t in range(x.shape[1]):
            both = torch.cat([x[:, t], h], 1)
            z = self.sigmoid(self.gate(both))
            h = z * h + (1 - z) * torch.tanh(self.new(both))
        return h

    def sigmoid(self, x: Tensor) -> Tensor:
        return 1 - torch.sigmoid(x)


class Inward(Plain):
    """Its functions are called of what no tensor is."""

    def __init__(self) -> None:
        super().__init__()
        self.tanh = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        import torch.nn.functional as own

        cell, h = self, x.new_zeros(len(x), 4)
        for t in range(x.shape[1]):
            both = torch.cat([x[:, t], h], 1)
            z = own.sigmoid(cell.gate(both))
            h = z * h + (1 - z) * cell.tanh(self.new(both))
        return h


class Asks(Stepped):
    """Its forward asks what its cell's takes."""

    def forward(self, x: Tensor) -> Tensor:
        takes = inspect.signature(self.cell.forward).parameters
        h = x.new_ones(len(x), 4) * (len(takes) + inspect.ismethod(self.cell.forward))
        for now in x.unbind(1):
            h = self.cell(now, h)
        return h


class LooksAtItsFrame(Plain):
    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 4)
        for t in range(x.shape[1]):
            both = torch.cat([x[:, t], h], 1)
            z = torch.sigmoid(self.gate(both))
            h = z * h + (1 - z) * torch.tanh(self.new(both))
        return h + len(sys._getframe().f_locals)


class Twofold(Plain):
    """What is in a `finally` is compiled for each way into it."""

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 4)
        for t in range(x.shape[1]):
            both = torch.cat([x[:, t], h], 1)
            try:
                if t % 2:
                    continue
                both = 2 * both
            finally:
                z = torch.sigmoid(self.gate(both))
                h = z * h + (1 - z) * torch.tanh(self.new(both))
        return h


MARKED = [Plain, Methods, Named, NumberFirst, Stepped, TwoWays, Inward, Asks]
NOT_MARKED = [Looks, Helped, Decorated, Hooked, Same, LooksAtItsFrame]


@pytest.fixture
def read_by(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """By what the runs are read from now on."""
    found: list[str] = []

    def noted(kind: Any, name: str) -> None:
        original = getattr(kind, name)

        def note(self: Any, *args: Any) -> Any:
            found.append(kind.__name__)
            return original(self, *args)

        monkeypatch.setattr(kind, name, note)

    noted(Marks, "follow")
    noted(Reading, "__enter__")
    return found


@pytest.mark.parametrize("kind", [*MARKED, *NOT_MARKED, enclosed(4)])
def test_marks_read_what_a_mode_reads(kind: type[nn.Module], read_by: list[str]) -> None:
    torch.manual_seed(0)
    model, x = kind(), torch.randn(2, 5, 3)
    expected = model(x)
    run = record(model, x)
    expected_by = "Reading" if kind in NOT_MARKED else "Marks"
    assert read_by == ["Reading", expected_by]  # the run that tries is read by a mode
    with recording(model) as runs:
        model(x)
    if kind not in (Stepped, TwoWays, Asks):
        assert read_by[2:] == ["Reading"]  # the forward of the model itself is the block's own
    assert torch.equal(run.output, expected)
    assert list(run) == list(runs[0])
    for one, other in zip(run.values(), runs[0].values(), strict=True):
        assert one.names == other.names
        assert [part.steps for part in one.segments] == [part.steps for part in other.segments]
        for name in one.names:
            assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert all("forward" not in vars(module) for module in model.modules())


def test_a_run_of_the_forward_itself_is_read_by_a_mode(read_by: list[str]) -> None:
    model, x = Plain(), torch.randn(2, 5, 3)
    assert record(model, x, call="forward")["cell"].z.shape == (2, 5, 4)
    assert read_by == ["Reading", "Reading"]


def test_edits_are_made_by_a_mode(read_by: list[str]) -> None:
    model, x = Plain(), torch.randn(2, 5, 3)
    record(model, x)
    run = record(model, x, edits=clamp("cell", "z", [0], value=0.5))
    assert read_by == ["Reading", "Marks", "Reading"]
    assert bool((run["cell"].z[..., 0] == 0.5).all())


def test_what_marks_read_has_gradients() -> None:
    torch.manual_seed(0)
    model, x = Plain(), torch.randn(2, 5, 3)
    run = record(model, x, grad=True)
    (by_z,) = torch.autograd.grad(run.output.sum(), run["cell"].z)
    assert by_z.shape == (2, 5, 4)
    assert bool(by_z.any())


def test_an_error_in_a_marked_forward_is_its_own() -> None:
    model, x = Plain(), torch.randn(2, 5, 3)
    record(model, x)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        record(model, torch.randn(2, 5, 2))
    assert "forward" not in vars(model)
    assert record(model, x)["cell"].shape == (2, 5, 4)


def test_another_thread_runs_the_forward_as_it_is() -> None:
    class Threaded(Stepped):
        apart: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            def run() -> None:
                self.apart = self.cell(x[:, 0], x.new_ones(len(x), 4))

            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
            return super().forward(x)

    model, x = Threaded(), torch.randn(2, 5, 3)
    record(model, x)
    layer = record(model, x)["cell"]
    assert layer.shape == (2, 5, 4)
    assert not bool(layer.h_prev[:, 0].any())


def test_a_mode_of_the_users_own_stays_in_force() -> None:
    class Doubled(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            made = func(*args, **(kwargs or {}))
            return made * 0.5 if func is torch.tanh else made

    model, x = Plain(), torch.randn(2, 5, 3)
    record(model, x)
    with Doubled():
        run = record(model, x)
        assert torch.equal(run.output, model(x))
    assert run["cell"].n.abs().max() <= 0.5


def test_what_a_mode_inside_the_run_reads_is_not_read_by_marks_too() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = Plain()
            self.inner: Any = nullcontext()

        def forward(self, x: Tensor) -> Tensor:
            with self.inner:
                return self.cell(x)

    model, x = Outer(), torch.randn(2, 5, 3)
    record(model, x)
    model.inner = Reading([], Paths({}), BEGAN, is_here=lambda: False)
    with pytest.raises(RecordingError, match="a block of its own"):
        record(model, x)
    assert "forward" not in vars(model.cell)


def test_a_record_of_another_part_inside_the_run_is_its_own() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.other = Plain(), Plain()
            self.found: Any = None

        def forward(self, x: Tensor) -> Tensor:
            if self.found is not None:
                self.found = record(self.other, x)
            return self.cell(x) + self.other(x)

    model, x = Both(), torch.randn(2, 5, 3)
    first = record(model, x)
    model.found = ()
    again = record(model, x)
    for name in ("cell", "other"):
        assert torch.equal(again[name].z, first[name].z)


def test_a_cell_of_a_notebook_that_another_one_imports_for_is_marked(
    monkeypatch: pytest.MonkeyPatch, read_by: list[str]
) -> None:
    source = SOURCE.replace("import torch\nfrom torch import nn\n", "")
    name = "<a cell of a notebook>"
    lines = len(source), None, source.splitlines(keepends=True), name
    monkeypatch.setitem(linecache.cache, name, lines)
    held: dict[str, Any] = {"torch": torch, "nn": nn, "__name__": "__main__"}
    exec(compile(source, name, "exec"), held)
    model, x = held["Cells"](), torch.randn(2, 5, 3)
    assert torch.equal(record(model, x).output, model(x))
    assert read_by == ["Reading", "Marks"]


def test_a_run_that_does_not_come_by_a_cell_is_refused_in_words() -> None:
    class Early(Stepped):
        def forward(self, x: Tensor) -> Tensor:
            return x if len(x) == 1 else super().forward(x)

    model, x = Early(), torch.randn(2, 5, 3)
    record(model, x)
    with pytest.raises(RecordingError, match="none of the sites"):
        record(model, x[:1])
    assert record(model, x)["cell"].shape == (2, 5, 4)


def test_what_is_compiled_twice_is_read_by_a_mode(read_by: list[str]) -> None:
    model, x = Twofold(), torch.randn(2, 6, 3)
    assert torch.equal(record(model, x).output, model(x))
    assert read_by == ["Reading", "Reading"]


def test_no_property_of_a_module_is_asked_for_before_its_run() -> None:
    class Counted(Plain):
        count = 0

        @property
        def squash(self) -> nn.Module:
            self.count += 1
            return self.act

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(len(x), 4)
            for t in range(x.shape[1]):
                both = torch.cat([x[:, t], h], 1)
                z = self.squash(self.gate(both))
                h = z * h + (1 - z) * torch.tanh(self.new(both))
            return h

    model, x = Counted(), torch.randn(2, 5, 3)
    record(model, x)
    assert model.count == 5


def test_no_parametrization_draws_a_number_before_its_run() -> None:
    class Noise(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return weight + torch.randn_like(weight)

    class Leak(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.leak = nn.Parameter(torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(len(x), 4)
            for t in range(x.shape[1]):
                z = self.leak.sigmoid()
                h = z * h + (1 - z) * torch.tanh(self.new(torch.cat([x[:, t], h], 1)))
            return h

    model, x = Leak(), torch.randn(2, 5, 3)
    register_parametrization(model, "leak", Noise())
    for _ in range(2):
        torch.manual_seed(0)
        run = record(model, x, observe=True)
        torch.manual_seed(0)
        assert torch.equal(run.output, model(x))


def test_what_stands_in_the_place_of_a_module_is_looked_at_anew() -> None:
    model, x = Named(), torch.randn(2, 5, 3)
    record(model, x)
    model.act = nn.Tanh()  # type: ignore[assignment]
    with pytest.raises(RecordingError, match="0 times in 5 steps"), recording(model):
        model(x)
    model = Named()
    record(model, x)
    model.act = nn.Tanh()  # type: ignore[assignment]
    layer = record(model, x)["cell"]
    assert torch.equal(layer.h[:, -1], model(x))


def test_a_method_of_something_else_is_no_error_that_the_code_could_catch() -> None:
    class Unsure(Plain):
        other: Any = None

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(len(x), 4)
            for t in range(x.shape[1]):
                both = torch.cat([x[:, t], h], 1)
                made = self.gate(both) if self.other is None else self.other
                try:
                    z = made.sigmoid()
                except RecordingError:
                    z = torch.zeros_like(h)
                h = z * h + (1 - z) * torch.tanh(self.new(both))
            return h

    class Own:
        def sigmoid(self) -> Tensor:
            return torch.full((2, 4), 0.5)

    model, x = Unsure(), torch.randn(2, 5, 3)
    record(model, x)
    model.other = Own()
    assert record(model, x)["cell"].z.unique().tolist() == [0.5]


SOURCE = """
import torch
from torch import nn

class Cells(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.new = nn.Linear(7, 4), nn.Linear(7, 4)
        self.late, self.last = nn.Linear(7, 4), nn.Linear(7, 4)

    def forward(self, x):
        h = k = x.new_zeros(len(x), 4)
        for t in range(x.shape[1]):
            both = torch.cat([x[:, t], h], 1)
            z = torch.sigmoid(self.gate(both))
            h = z * h + (1 - z) * torch.tanh(self.new(both))
            each = torch.cat([x[:, t], k], 1)
            f = torch.sigmoid(self.late(each))
            k = f * k + (1 - f) * torch.tanh(self.last(each))
        return (h + k) / torch.full((4,), 100) // torch.full((4,), 0.01)
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "grulens_cells_of_a_file", raising=False)
    return tmp_path / "grulens_cells_of_a_file.py"


def _imported(file: Path, source: str = SOURCE) -> ModuleType:
    file.write_text(source)
    importlib.invalidate_caches()
    return importlib.import_module(file.stem)


def _changed(file: Path, was: str, is_: str) -> None:
    file.write_text(SOURCE.replace(was, is_) + "\n")
    linecache.checkcache()


def test_a_file_that_was_changed_after_its_code_was_compared_is_not_run(file: Path) -> None:
    model, x = _imported(file).Cells(), torch.randn(2, 5, 3)
    names = list(record(model, x))
    _changed(file, "0.01", "7.01")
    run = record(model, x, layers=names[:1])
    assert torch.equal(run.output, model(x))


def test_a_number_of_another_kind_makes_another_code(file: Path, read_by: list[str]) -> None:
    # trees of equal code are known already
    model, x = _imported(file, SOURCE.replace("100", "200")).Cells(), torch.randn(2, 5, 3)
    _changed(file, "100", "2e2")
    run = record(model, x)
    assert read_by == ["Reading", "Reading"]
    assert torch.equal(run.output, model(x))


class Mapped(Stepped):
    def forward(self, x: Tensor) -> Tensor:
        self.h = x.new_zeros(len(x), 4)
        return list(map(self.step, x.unbind(1)))[-1]

    def step(self, x: Tensor) -> Tensor:
        self.h = self.cell(x, self.h)
        return self.h


class Generated(Stepped):
    def forward(self, x: Tensor) -> Tensor:
        return list(self.states(x))[-1]

    def states(self, x: Tensor) -> Iterator[Tensor]:
        h = x.new_zeros(len(x), 4)
        for now in x.unbind(1):
            h = self.cell(now, h)
            yield h


@pytest.mark.parametrize("kind", [Mapped, Generated])
def test_a_call_is_the_same_however_often_python_has_made_it(kind: type[nn.Module]) -> None:
    model, x = kind(), torch.randn(2, 5, 3)
    expected = model(x)
    for _ in range(10):
        assert torch.equal(record(model, x)["cell"].h[:, -1], expected)
    edit = clamp("cell", "z", [0], value=0.5)
    assert bool((record(model, x, edits=edit)["cell"].z[..., 0] == 0.5).all())


ANOTHER = """
import torch
from torch import nn

class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.new = nn.Linear(7, 4), nn.Linear(7, 4)

    def forward(self, x{given}):
        {before}
        h = x.new_zeros(len(x), 4)
        for now in x.unbind(1):
            {inside}
            both = torch.cat([now, h], 1)
            z, n = torch.sigmoid(self.gate(both)), torch.tanh(self.new(both))
            h = {mix}
        return h
"""
OPERATORS = "op.add(op.mul(z, h), op.mul(1 - z, n))"
BY_NAME = [
    ("", "T = torch", "", "T.lerp(n, h, z)"),
    ("", "", "T = torch", "T.lerp(n, h, z)"),
    ("", "import torch as T", "U = T", "U.lerp(n, h, z)"),
    ("", "T, rest = torch, ()", "", "T.lerp(n, h, z)"),
    (", T=torch", "", "", "T.lerp(n, h, z)"),
    (", *, T=torch", "", "", "T.lerp(n, h, z)"),
    ("", "", "import operator as op", OPERATORS),
    ("", "import operator; op = operator", "", OPERATORS),
]


@pytest.mark.parametrize(("given", "before", "inside", "mix"), BY_NAME)
def test_a_name_of_the_codes_own_may_stand_for_a_module(
    given: str, before: str, inside: str, mix: str, file: Path
) -> None:
    text = ANOTHER.format(given=given, before=before, inside=inside, mix=mix)
    model, x = _imported(file, text).Cell(), torch.randn(2, 5, 3)
    layer = record(model, x)["cell"]
    assert layer.cell.equation == "h = z h_prev + (1 - z) n"
    assert torch.equal(layer.h[:, -1], model(x))


@pytest.mark.parametrize(
    ("before", "mix"),
    [
        ("T = {0: torch}", "T[0].lerp(n, h, z)"),
        ("op = __import__('operator')", OPERATORS),
    ],
)
def test_a_module_that_the_code_does_not_name_is_said_once(
    before: str, mix: str, file: Path
) -> None:
    text = ANOTHER.format(given="", before=before, inside="", mix=mix)
    model, x = _imported(file, text).Cell(), torch.randn(2, 5, 3)
    with pytest.raises(RecordingError, match=r"is no method of a tensor, .* Record once more"):
        record(model, x)
    for _ in range(2):
        layer = record(model, x)["cell"]
        assert layer.cell.equation == "h = z h_prev + (1 - z) n"
        assert torch.equal(layer.h[:, -1], model(x))
