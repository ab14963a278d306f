"""Models as they are met: compiled, wrapped, shared, and no modules any more."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import grulens
from grulens import ablate, clamp, editing, record
from grulens.errors import LayerError, NoGRUError, UnsupportedGRUError


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
        with pytest.raises(UnsupportedGRUError, match=said):
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


# what no longer runs as a module


def quiet(make: Any) -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scripting and dynamic quantization are deprecated
        return make()


def looped() -> nn.Module:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.cell(x)

    return Loop().eval()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: torch.jit.script(looped()), "'cell' is a scripted GRU"),
        (lambda: torch.jit.script(nn.GRU(3, 4)), "'the model itself' is a scripted GRU"),
        (lambda: torch.jit.trace(nn.GRU(3, 4), torch.randn(5, 2, 3)), "itself' is a scripted GRU"),
        (lambda: torch.jit.freeze(torch.jit.script(looped())), "'the model itself' is a scripted"),
        (lambda: torch.export.export(looped(), (torch.randn(2, 3),)).module(),
         "'the model itself' is an exported graph, in which the GRU is an operation"),
        (lambda: torch.ao.quantization.quantize_dynamic(looped(), {nn.GRUCell}),
         "'cell' is a quantized GRU"),
    ],
)  # fmt: skip
def test_a_gru_that_is_no_module_any_more_is_refused_by_name(make: Any, said: str) -> None:
    model = quiet(make)
    for use in (grulens.layers, lambda m: record(m, torch.randn(2, 3))):
        with pytest.raises(UnsupportedGRUError, match=said) as raised:
            use(model)
        assert "use the " in str(raised.value)


def test_scripted_and_exported_models_without_a_gru_hold_none() -> None:
    linear, x = nn.Sequential(nn.Linear(3, 3)), torch.randn(2, 3)
    for make in (
        lambda: torch.jit.script(linear),
        lambda: torch.export.export(linear, (x,)).module(),
    ):
        with pytest.raises(NoGRUError):
            grulens.layers(quiet(make))


def test_a_graph_of_fx_holds_the_modules_themselves(x: Tensor) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.GRU(3, 4, batch_first=True))
    run = record(torch.fx.symbolic_trace(model), x)
    assert torch.equal(run.output[0], model(x)[0])
    assert run["1.l0"].residual < 1e-6
