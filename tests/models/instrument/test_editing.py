"""The user's model: what it computes while it is watched, and what is left of that: nothing."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import grulens
from grulens import ablate, clamp, editing, record, scale
from grulens.cells import unroll as unroll_file
from grulens.errors import (
    EmptySequenceError,
    GrulensError,
    LayerError,
    ModelError,
    NoLayerError,
    OtherThreadWarning,
    PositionError,
    RecordingError,
    UnsupportedLayerError,
)


class Tagger(nn.Module):
    """Two GRUs, a batch norm that counts, and dropout that draws."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.GRU(3, 4, 2, batch_first=True, dropout=0.3)
        self.norm = nn.BatchNorm1d(4)
        self.second = nn.GRU(4, 5, batch_first=True, bidirectional=True)
        self.fail: BaseException | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, _ = self.first(x)
        h = self.norm(h.transpose(1, 2)).transpose(1, 2)
        if self.fail is not None:
            raise self.fail
        return self.second(h)[0]


class Loop(nn.Module):
    """A cell stepped by hand, and a GRU called once a step: two decoder loops."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 4)
        self.rnn = nn.GRU(4, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, state, out = None, None, []
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
            y, state = self.rnn(h[:, None], state)
            out.append(y)
        return torch.cat(out, 1)


@pytest.fixture
def model() -> Tagger:
    return Tagger().train()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 6, 3)


def state(model: nn.Module) -> Any:
    """Everything that a watch may not change."""
    tensors = {k: v.clone() for k, v in model.state_dict().items()}
    return {
        "hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for m in model.modules()
        ],
        "attributes": [sorted(vars(m)) for m in model.modules()],
        "modes": [m.training for m in model.modules()],
        "flags": [p.requires_grad for p in model.parameters()],
        "grads": [p.grad for p in model.parameters()],
        "tensors": {k: v.tolist() for k, v in tensors.items()},
        "random": torch.get_rng_state().tolist(),
    }


def use_record(model: nn.Module, x: torch.Tensor) -> None:
    record(model, x, edits=[ablate("second.l0", 1, to="mean"), scale("second.l0", "z", by=0.5)])


def use_editing(model: nn.Module, x: torch.Tensor) -> None:
    with editing(model, clamp("second.l0_reverse", "n", value=0.5, at=-1)):
        model(x)


USES = pytest.mark.parametrize("use", [use_record, use_editing])


@USES
def test_a_run_leaves_what_an_ordinary_run_leaves(model: Tagger, x: torch.Tensor, use: Any) -> None:
    twin = copy.deepcopy(model)
    torch.manual_seed(3)
    with torch.no_grad():
        twin(x)
    expected = state(twin)
    torch.manual_seed(3)
    use(model, x)
    assert state(model) == expected


@USES
@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), RuntimeError("cuda")])
def test_an_error_inside_the_model_leaves_nothing(
    model: Tagger, x: torch.Tensor, use: Any, error: BaseException
) -> None:
    model.eval()
    model.fail = error
    before = state(model)
    with pytest.raises(type(error)):
        use(model, x)
    assert state(model) == before
    model.fail = None
    assert torch.equal(model(x), model(x))


@USES
def test_ctrl_c_inside_the_recurrence_leaves_nothing(
    model: Tagger, x: torch.Tensor, use: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    model.eval()
    before = state(model)
    monkeypatch.setattr(unroll_file, "unroll", interrupted)
    with pytest.raises(KeyboardInterrupt):
        use(model, x)
    assert state(model) == before


def test_the_users_own_hooks_and_forward_stay(x: torch.Tensor) -> None:
    seen: list[str] = []
    rnn = nn.GRU(3, 4, batch_first=True)
    rnn.register_forward_hook(lambda m, a, out: seen.append("hook"))
    rnn.register_forward_pre_hook(lambda m, a: (a[0] * 2,))
    own = rnn.forward
    rnn.forward = partial(own)  # type: ignore[method-assign]
    mine = rnn.forward
    layer = record(rnn, x)["l0"]
    assert torch.equal(layer.x, x * 2)  # what the user's pre-hook let through
    assert seen == ["hook"]
    assert rnn.forward is mine


def test_nested_blocks_compose(model: Tagger, x: torch.Tensor) -> None:
    model.eval()
    outer, inner = clamp("first.l0", "h", 0, value=0.5), scale("first.l0", "h", 0, by=0.5)
    expected = record(model, x, edits=[outer, inner])
    with editing(model, outer):
        run = record(model, x, edits=inner)
        with editing(model, inner):
            assert torch.equal(model(x).detach(), expected.output)
    assert torch.equal(run.output, expected.output)
    assert run.edits == (outer, inner)
    assert run.residual < 1e-6
    assert "forward" not in vars(model.first)


@pytest.mark.filterwarnings("ignore::grulens.errors.OtherThreadWarning")
def test_another_thread_sees_and_records_the_plain_model(model: Tagger, x: torch.Tensor) -> None:
    model.eval()
    plain = model(x).detach()
    with editing(model, ablate("first.l0")), ThreadPoolExecutor(1) as pool, torch.no_grad():
        assert torch.equal(pool.submit(model, x).result(10).detach(), plain)
        assert torch.equal(pool.submit(record, model, x).result(10).output, plain)
        assert not torch.equal(model(x), plain)


def test_a_call_from_another_thread_is_said_not_to_be_edited(
    model: Tagger, x: torch.Tensor
) -> None:
    words = (
        r"'first\.l0' ran in another thread or task .* block of editing: that call is not edited"
    )
    with editing(model, ablate("first.l0")), ThreadPoolExecutor(1) as pool:
        with pytest.warns(OtherThreadWarning, match=words):
            pool.submit(model, x).result(10)
        pool.submit(model, x).result(10)  # said once a block


@pytest.mark.filterwarnings("ignore::grulens.errors.NothingRanWarning")
def test_copies_made_inside_a_block_are_not_edited(model: Tagger, x: torch.Tensor) -> None:
    model.eval()
    plain = model(x)
    with editing(model, ablate("first.l0")):
        saved = model.state_dict()
        copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    for twin in copies:
        assert torch.equal(twin(x), plain)
    twin = Tagger().eval()
    twin.load_state_dict(saved)
    assert torch.equal(twin(x), plain)


# loops: a module that is called many times in one forward


def test_loops_have_one_time_axis(x: torch.Tensor) -> None:
    model = Loop()
    plain = model(x)
    run = record(model, x)
    assert torch.equal(run.output, plain)
    assert list(run) == ["cell", "rnn.l0"]
    for layer in run.values():
        assert layer.calls == tuple(range(6))
        assert layer.h.shape == (2, 6, 4)
        assert layer.residual < 1e-6
    assert torch.equal(run["rnn.l0"].x, run["cell"].h)
    assert torch.equal(run["cell"].h_prev[:, 1:], run["cell"].h[:, :-1])


@pytest.mark.parametrize("layer", ["cell", "rnn.l0"])
def test_edits_of_a_loop_count_along_its_calls(x: torch.Tensor, layer: str) -> None:
    model = Loop()
    before = record(model, x)
    run = record(model, x, edits=[ablate(layer, 1, at=[2, -1])])[layer]
    assert run.h[0, :, 1].eq(0).tolist() == [False, False, True, False, False, True]
    assert torch.equal(run.h[:, :2], before[layer].h[:, :2])
    mean = record(model, x, edits=ablate(layer, to="mean"))[layer]
    torch.testing.assert_close(mean.h, before[layer].h.mean((0, 1)).expand(2, 6, 4))
    with pytest.raises(PositionError, match="time 6 is out of range"):
        record(model, x, edits=ablate(layer, at=6))
    with pytest.raises(PositionError, match="a bool mask of 5 times"):
        record(model, x, edits=ablate(layer, at=[True] * 5))


def test_the_unedited_run_that_a_mean_needs_leaves_no_trace(model: Tagger, x: torch.Tensor) -> None:
    twin = copy.deepcopy(model)
    torch.manual_seed(5)
    with torch.no_grad():
        twin(x)
    torch.manual_seed(5)
    record(model, x, edits=ablate("second.l0", to="mean", at=-1))
    assert torch.equal(model.norm.running_mean, twin.norm.running_mean)
    assert model.norm.num_batches_tracked == twin.norm.num_batches_tracked


# what cannot be opened, or is asked wrongly


def quantized() -> nn.Module:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.GRU(3, 4)), {nn.GRU})


def scripted() -> nn.Module:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(nn.Sequential(nn.GRU(3, 4)))


class Own(nn.GRU):
    def forward(self, *args: Any) -> Any:
        return super().forward(args[0] + 1, *args[1:])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.Conv1d(2, 2, 1)), NoLayerError,
         "this model (Sequential) holds no nn.GRU, nn.LSTM or nn.RNN; it holds 1 Linear, 1 Conv1d"),
        (lambda: nn.Linear(2, 2), NoLayerError, "it holds no other module"),
        (quantized, UnsupportedLayerError, "use the float model it was made from"),
        (scripted, UnsupportedLayerError, "use the model as it was before torch.jit.script"),
        (lambda: Own(3, 4), UnsupportedLayerError,
         "a subclass of nn.GRU with a forward of its own"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_opened_is_refused_by_name(
    make: Callable[[], nn.Module], error: type[Exception], message: str
) -> None:
    model = make()
    for use in (grulens.layers, lambda m: record(m, torch.randn(5, 2, 3))):
        with pytest.raises(error) as raised:
            use(model)
        assert message in str(raised.value)
        assert isinstance(raised.value, ModelError)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda m, x: record(m, x, layers="first.l7"), "layer 'first.l7' is not in this model; it"),
        (lambda m, x: record(m, x, edits=ablate("third.l0")), "layer 'third.l0' is not in this"),
        (lambda m, x: record(m, x)["first"], "layer 'first' is not in this recording; it has"),
    ],
)  # fmt: skip
def test_a_layer_that_is_not_there(model: Tagger, x: torch.Tensor, ask: Any, message: str) -> None:
    before = [sorted(vars(m)) for m in model.modules()]
    with pytest.raises(LayerError) as raised:
        ask(model, x)
    assert message in str(raised.value)
    assert "second.l0_reverse" in str(raised.value)
    assert [sorted(vars(m)) for m in model.modules()] == before


def test_a_layer_that_did_not_run() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.GRU(3, 4), nn.GRU(3, 4)

        def forward(self, x: torch.Tensor) -> Any:
            return self.a(x)

    x = torch.randn(5, 2, 3)
    assert list(record(Half(), x)) == ["a.l0"]
    with pytest.raises(LayerError, match=r"layer 'b\.l0' did not run in this forward, so ablate"):
        record(Half(), x, edits=ablate("b.l0"))
    with pytest.raises(RecordingError, match="none of the layers to record ran"):
        record(Half(), x, layers="b.l0")


@pytest.mark.parametrize("edited", [False, True])
def test_an_empty_sequence_is_named(edited: bool) -> None:
    edits = [ablate("l0")] if edited else []
    with pytest.raises(EmptySequenceError, match=r"layer 'l0' .* no steps: input of shape \(0, 2"):
        record(nn.GRU(3, 4), torch.randn(0, 2, 3), edits=edits)


@pytest.mark.parametrize(
    "args",
    [
        (torch.randn(5, 2, 4),),
        (torch.randn(5),),
        (torch.randn(5, 2, 3), torch.zeros(1, 3, 4)),
        (torch.randn(5, 2, 3), torch.zeros(2, 4)),
        (torch.randn(5, 2, 3).double(),),
        (pack_padded_sequence(torch.randn(5, 2, 3), [5, 2]), torch.zeros(1, 1, 4)),
    ],
)
def test_a_wrong_shape_gets_torchs_own_error_also_when_edited(args: Any) -> None:
    rnn = nn.GRU(3, 4)
    with pytest.raises((RuntimeError, ValueError)) as plain:
        rnn(*args)
    for edits in ([], [ablate("l0")]):
        with pytest.raises(type(plain.value)) as raised:
            record(rnn, *args, edits=edits)
        assert str(raised.value) == str(plain.value)
        assert not isinstance(raised.value, GrulensError)


def test_layers_names_every_direction() -> None:
    model = nn.ModuleDict({"enc": nn.GRU(3, 4, 2, bidirectional=True), "dec": nn.GRUCell(4, 5)})
    found = grulens.layers(model)
    assert [layer.name for layer in found] == [
        "enc.l0", "enc.l0_reverse", "enc.l1", "enc.l1_reverse", "dec",
    ]  # fmt: skip
    assert [layer.input_size for layer in found] == [3, 3, 8, 8, 4]
    assert [layer.direction for layer in found][:2] == ["forward", "reverse"]
    with suppress(NoLayerError):
        grulens.layers(nn.ModuleDict())
