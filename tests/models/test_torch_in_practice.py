"""Models as they are met: compiled, wrapped, shared, in training, in any dtype."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import grulens
from grulens import ablate, clamp, editing, record
from grulens.errors import LayerError, UnsupportedLayerError


class Both(nn.Module):
    """Two levels of a GRU, and a cell stepped over their output."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 4, 2, batch_first=True)
        self.cell = nn.GRUCell(4, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for h in self.rnn(x)[0].unbind(1):
            state = self.cell(h, state)
        return self.head(state)


LAYERS = ["rnn.l0", "rnn.l1", "cell"]


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 5, 3)


# torch.compile


class Counted:
    """A backend that counts the graphs it is given."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Any, _: Any) -> Any:
        self.graphs += 1
        return graph.forward


@pytest.fixture
def counted() -> Iterator[Counted]:
    torch._dynamo.reset()
    torch.compiler.set_stance("default")  # a screen of a test before may be at work still
    yield Counted()
    torch._dynamo.reset()


def compiled(how: str, model: Both, backend: Any) -> nn.Module:
    if how == "wrapped":
        return torch.compile(model, backend=backend)  # type: ignore[return-value]
    if how == "in place":
        model.compile(backend=backend)
    else:
        model.head.compile(backend=backend)
        model.cell = torch.compile(model.cell, backend=backend)  # type: ignore[assignment]
    return model


@pytest.mark.parametrize("how", ["wrapped", "in place", "its parts"])
def test_a_compiled_model_is_watched_as_it_was_written(
    how: str, x: Tensor, counted: Counted
) -> None:
    model = Both().requires_grad_(False)
    plain = model(x)
    edits = [ablate("rnn.l1", 1, to="mean"), clamp("cell", "z", 0, value=0.5, at=-1)]
    expected = record(model, x, edits=edits)
    fast = compiled(how, model, counted)
    torch.testing.assert_close(fast(x), plain)
    graphs = counted.graphs
    assert [layer.name for layer in grulens.layers(fast)] == LAYERS
    for _ in range(10):  # more than the compiler's limit of attempts
        run = record(fast, x)
        assert list(run) == LAYERS
        assert torch.equal(run.output, plain)
    assert run.residual < 1e-6
    edited = record(fast, x, edits=edits)
    assert torch.equal(edited.output, expected.output)
    with editing(fast, *edits):
        assert torch.equal(fast(x), expected.output)
    assert counted.graphs == graphs
    torch.testing.assert_close(fast(x), plain)  # compiled as before, and no graph is new
    assert counted.graphs == graphs


def test_the_graphs_of_a_compiled_cell_are_used_before_and_after(
    x: Tensor, counted: Counted
) -> None:
    cell = nn.GRUCell(3, 4).requires_grad_(False)
    fast = torch.compile(cell, backend=counted)
    fast(x[:, 0])
    assert counted.graphs == 1
    assert list(record(fast, x[:, 0])) == ["cell"]
    with torch.compiler.set_stance("fail_on_recompile"):
        fast(x[:, 0])


def test_blocks_that_overlap_leave_the_compiler_on(x: Tensor, counted: Counted) -> None:
    cell = nn.GRUCell(3, 4).requires_grad_(False)
    fast = torch.compile(cell, backend=counted)
    first, second = editing(cell), editing(cell)
    with ExitStack() as inner:
        with ExitStack() as outer:
            outer.enter_context(first)
            inner.enter_context(second)
        fast(x[:, 0])
        assert counted.graphs == 0  # the second block is open still
    fast(x[:, 0])
    assert counted.graphs == 1


def test_a_model_compiled_inside_a_block_is_plain_after_it(x: Tensor, counted: Counted) -> None:
    model = nn.GRUCell(3, 4).requires_grad_(False)
    plain = model(x[:, 0])
    with editing(model, ablate("cell", 1)):
        fast = torch.compile(model, backend=counted)
        assert fast(x[:, 0])[:, 1].eq(0).all()
    torch.testing.assert_close(fast(x[:, 0]), plain)


# wrappers


def test_data_parallel_on_one_device(x: Tensor) -> None:
    model = Both()
    wrapped = nn.DataParallel(model)
    run = record(wrapped, x)
    assert list(run) == [f"module.{name}" for name in LAYERS]
    assert torch.equal(run.output, model(x))
    expected = record(model, x, edits=ablate("rnn.l0", 1, to="mean")).output
    assert torch.equal(
        record(wrapped, x, edits=ablate("module.rnn.l0", 1, to="mean")).output, expected
    )


def test_data_parallel_on_several_devices_is_refused(x: Tensor) -> None:
    wrapped = nn.DataParallel(Both())
    wrapped.device_ids = [0, 1]
    said = r"'the model itself' is an nn.DataParallel over 2 devices, .* use the model in it"
    for use in (grulens.layers, lambda model: record(model, x)):
        with pytest.raises(UnsupportedLayerError, match=said):
            use(wrapped)
    beside = nn.ModuleDict({"eyes": wrapped, "gru": nn.GRU(3, 4)})
    assert [layer.name for layer in grulens.layers(beside)] == ["gru.l0"]


def test_distributed_data_parallel(x: Tensor) -> None:
    with tempfile.TemporaryDirectory() as place:
        store = torch.distributed.FileStore(str(Path(place) / "store"), 1)
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        try:
            model = Both()
            wrapped = nn.parallel.DistributedDataParallel(model)
            plain = wrapped(x)
            run = record(wrapped, x)
            assert list(run) == [f"module.{name}" for name in LAYERS]
            assert torch.equal(run.output, plain)
            with editing(wrapped, ablate("module.cell", 1)):
                wrapped(x).sum().backward()
            found = [p.grad.clone() for p in model.parameters()]
            model.zero_grad()
            with editing(model, ablate("cell", 1)):
                model(x).sum().backward()
            for one, p in zip(found, model.parameters(), strict=True):
                torch.testing.assert_close(one, p.grad)
            wrapped(x).sum().backward()  # its own bookkeeping is in order
        finally:
            torch.distributed.destroy_process_group()


# one module at two places


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.GRU(3, 3, batch_first=True)
        self.second = self.first

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)[0])[0]


def test_a_module_at_two_places_has_one_name_and_one_time_axis(x: Tensor) -> None:
    model = Shared()
    assert repr(grulens.layers(model)).endswith("after the product; also second.l0")
    assert "second.l0" in grulens.layers(model)._repr_html_()
    run = record(model, x)
    assert list(run) == ["first.l0"]
    assert run["first.l0"].calls == (0, 5)
    assert torch.equal(run["first.l0"].h[:, 5:], run.output)
    assert torch.equal(run["first.l0"].x[:, 5:], run["first.l0"].h[:, :5])
    said = "layer 'second.l0' is layer 'first.l0': the model holds one module at both places; use"
    for ask in ({"layers": "second.l0"}, {"edits": ablate("second.l0")}):
        with pytest.raises(LayerError, match=said):
            record(model, x, **ask)
    with pytest.raises(LayerError, match=r"'third.l0' is not in this model; it has first.l0$"):
        record(model, x, layers="third.l0")


# as it is met in training


def test_a_recorded_step_of_training_is_the_plain_one(x: Tensor) -> None:
    grads = []
    for recorded in (True, False):
        torch.manual_seed(0)
        model = nn.ModuleDict({"rnn": nn.GRU(3, 4, 2, batch_first=True, dropout=0.5)}).train()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(3):
            optimizer.zero_grad()
            rnn = model["rnn"]
            output = record(rnn, x, grad=True).output[0] if recorded else rnn(x)[0]
            output.pow(2).mean().backward()
            optimizer.step()
        grads.append([*model.parameters()])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


def test_an_edited_model_is_trained_around_its_edit(x: Tensor) -> None:
    model = Both()
    with editing(model, ablate("cell", [0, 1, 2])):
        model(x).sum().backward()
    head = model.head.weight.grad
    assert head is not None
    assert head[:, :3].eq(0).all()
    assert head[:, 3].ne(0).all()
    assert model.rnn.weight_ih_l0.grad is not None
    assert model.rnn.weight_ih_l0.grad.ne(0).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_models_of_other_dtypes(dtype: torch.dtype, x: Tensor) -> None:
    model = Both().to(dtype)
    run = record(model, x.to(dtype))
    assert torch.equal(run.output, model(x.to(dtype)))
    assert run.residual < 4 * torch.finfo(dtype).eps
    assert run["cell"].z.dtype == dtype
    edited = record(model, x.to(dtype), edits=ablate("rnn.l0", 1, to="mean"))
    assert edited["rnn.l0"].h[..., 1].std() <= torch.finfo(dtype).eps


class Titled(nn.GRU):
    """A subclass that adds no forward."""


def test_a_subclass_without_a_forward_of_its_own_is_a_gru(x: Tensor) -> None:
    model = Titled(3, 4, batch_first=True)
    assert grulens.layers(model)[0].kind == "Titled"
    assert torch.equal(record(model, x).output[0], model(x)[0])


def test_a_lazy_module_before_a_gru_is_made_by_the_recorded_run(x: Tensor) -> None:
    model = nn.Sequential(nn.LazyLinear(3), nn.GRU(3, 4, batch_first=True))
    run = record(model, x)
    assert torch.equal(run.output[0], model(x)[0])
