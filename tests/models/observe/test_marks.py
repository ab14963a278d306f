"""What marks read in a copy of a forward's code is what a mode reads in the code itself."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from grulens import clamp, record, recording
from grulens.errors import RecordingError
from grulens.models.observe.marks import Marks
from grulens.models.observe.paths import Paths
from grulens.models.observe.reading import BEGAN, Reading


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


MARKED = [Plain, Methods, Named, NumberFirst, Stepped, TwoWays]
NOT_MARKED = [Looks, Helped, Decorated, Hooked, Same]


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
    if kind not in (Stepped, TwoWays):
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
            self.inner: Any = None

        def forward(self, x: Tensor) -> Tensor:
            if self.inner is None:
                return self.cell(x)
            with self.inner:
                return self.cell(x)

    model, x = Outer(), torch.randn(2, 5, 3)
    record(model, x)
    model.inner = Reading([], Paths({}), BEGAN, is_here=lambda: False)
    with pytest.raises(RecordingError, match="a block of its own"):
        record(model, x)
    assert "forward" not in vars(model.cell)
