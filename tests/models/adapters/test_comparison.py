"""What a module computes is compared with what is said of it: at every step of every run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import grulens
from grulens import Cell, Session, ablate, clamp, editing, record, scale, sweep, trace_patch
from grulens.adapters import SequenceAdapter, StepAdapter, register
from grulens.errors import (
    AdapterError,
    NonFiniteWarning,
    NotComparedWarning,
    RecordingError,
    UnsupportedLayerError,
)
from grulens.models.adapters.again import replaced

BATCH, STEPS, INPUTS, UNITS = 3, 9, 4, 6


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(5)
    return torch.randn(BATCH, STEPS, INPUTS)


@pytest.fixture
def taught() -> Iterator[Callable[..., None]]:
    kinds = []

    def teach(kind: type[nn.Module], adapter: Any) -> None:
        kinds.append(kind)
        register(kind, adapter)

    yield teach
    for kind in kinds:
        register(kind, None)


def cell_of(m: Any) -> Cell:
    return Cell(m.weight_ih, m.weight_hh, m.bias_ih, m.bias_hh)


def level(m: nn.GRU, suffix: str = "_l0") -> Cell:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return Cell(*(getattr(m, name + suffix) for name in names))


# what classes do beside their cell, where a number m says so; nothing where it is 1
MORE: dict[str, tuple[Callable[[Any, Tensor, Tensor, Tensor], Tensor], str]] = {
    "mask": (lambda f, x, h, m: torch.where(m < 1, h, f(x, h)), "keeps the state before it"),
    "done": (lambda f, x, h, m: f(x, h * (m == 1)), "starts from a state of zeros"),
    "zero": (lambda f, x, h, m: f(x, h) * (m == 1), "sets the state to 0"),
    "clip": (
        lambda f, x, h, m: f(x, h).clamp(-m / 10 - 9 * (m == 1), m / 10 + 9 * (m == 1)),
        "clips the state at 0.05",
    ),
    "scale": (lambda f, x, h, m: f(x, h) * m, "multiplies the state by 0.5"),
    "decay": (lambda f, x, h, m: f(x, h * m), "No convention that grulens knows fits"),
    "zoneout": (
        lambda f, x, h, m: torch.where((m < 1) & (torch.arange(UNITS) % 2 == 0), h, f(x, h)),
        "keeps some units' state before it, as zoneout does",
    ),
    "dropout": (
        lambda f, x, h, m: f(x, h) * torch.where(m < 1, torch.arange(UNITS) % 2 * 2.0, 1.0),
        "as dropout does",
    ),
    "rounded": (
        lambda f, x, h, m: torch.where(m < 1, f(x, h).bfloat16().float(), f(x, h)),
        "No convention",
    ),
}


class More(nn.GRUCell):
    """A step that does more than its cell, at times."""

    kind = ""

    def forward(self, x: Tensor, h: Tensor, m: Tensor) -> Tensor:
        return MORE[self.kind][0](super().forward, x, h, m[:, None])


class Loop(nn.Module):
    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, *more: Tensor) -> Tensor:
        h, states = x.new_zeros(len(x), UNITS), []
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h, *(one[:, t] for one in more))
            states.append(h)
        return torch.stack(states, 1)


class Sequence(nn.Module):
    """The same over a sequence, in one call."""

    def __init__(self, cell: More) -> None:
        super().__init__()
        self.loop = Loop(cell)

    def forward(self, x: Tensor, m: Tensor) -> Tensor:
        return self.loop(x, m)


def last(output: Any) -> Tensor:
    states: Tensor = output[0] if isinstance(output, tuple) else output
    return states[:, -1]


def at_the_seventh_step(row: int = 2) -> Tensor:
    m = torch.ones(BATCH, STEPS)
    m[row, 6] = 0.5
    return m


USES: dict[str, Callable[[nn.Module, str, tuple[Tensor, ...]], Any]] = {
    "record": lambda m, name, given: record(m, *given),
    "edited": lambda m, name, given: record(m, *given, edits=ablate(name, 1, at=2)),
    "mean": lambda m, name, given: record(m, *given, edits=ablate(name, 1, to="mean")),
    "sweep": lambda m, name, given: sweep(
        m, *given, layer=name, readout=last, units=[1, 2], progress=False
    ),
    "trace": lambda m, name, given: trace_patch(
        m, given, (given[0] + 1, *given[1:]), name, lambda o: last(o).sum(1), progress=False
    ),
    "session": lambda m, name, given: Session(m, *given, layer=name, readout=last),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", ["mask", "decay"])
@pytest.mark.parametrize("form", ["step", "sequence"])
def test_what_was_idle_in_one_run_is_found_in_the_next(
    taught: Any, x: Tensor, use: str, kind: str, form: str
) -> None:
    cell = More(INPUTS, UNITS)
    cell.kind = kind
    if form == "step":
        taught(More, StepAdapter(cell_of, arguments=lambda c, x, h, m: (x, h)))
        model, name = Loop(cell), "cell"
    else:
        adapter = SequenceAdapter(
            lambda s: cell_of(s.loop.cell),
            arguments=lambda s, x, m: (x, None),
            result=lambda s, h, h_n: h,
        )
        taught(Sequence, adapter)
        model, name = Sequence(cell), "l0"
    idle = torch.ones(BATCH, STEPS)
    assert record(model, x, idle).residual < 1e-6
    with editing(model, scale(name, "h", by=1.0)):
        same = model(x, idle)
    assert torch.allclose(same, model(x, idle), atol=1e-6)
    with pytest.raises(AdapterError) as raised:
        USES[use](model, name, (x, at_the_seventh_step()))
    text = str(raised.value)
    assert f"does not say what the module computes: at layer {name!r}, step 6, row 2" in text
    assert MORE[kind][1] in text
    assert "forward" not in vars(cell)
    assert "forward" not in vars(model)


@pytest.mark.parametrize("kind", MORE)
def test_what_a_class_does_beside_its_cell_is_said(taught: Any, x: Tensor, kind: str) -> None:
    cell = More(INPUTS, UNITS)
    cell.kind = kind
    taught(More, StepAdapter(cell_of, arguments=lambda c, x, h, m: (x, h)))
    for edits in ([], scale("cell", "h", by=1.0)):
        with pytest.raises(AdapterError) as raised:
            record(Loop(cell), x, at_the_seventh_step(1), edits=edits)
        assert "step 6, row 1, the states differ by" in str(raised.value)
        assert MORE[kind][1] in str(raised.value)


def test_an_edit_at_another_step_does_not_hide_it(taught: Any, x: Tensor) -> None:
    cell = More(INPUTS, UNITS)
    cell.kind = "mask"
    taught(More, StepAdapter(cell_of, arguments=lambda c, x, h, m: (x, h)))
    model = Loop(cell)
    with pytest.raises(AdapterError, match="step 6, row 0"), editing(model, ablate("cell", at=0)):
        model(x, at_the_seventh_step(0))
    with editing(model, ablate("cell", at=0)):
        model(x, torch.ones(BATCH, STEPS))


def test_arguments_can_say_what_is_made_of_the_state(taught: Any, x: Tensor) -> None:
    """A time gap: the state is decayed before the cell reads it."""
    cell = More(INPUTS, UNITS)
    cell.kind = "decay"
    taught(More, StepAdapter(cell_of, arguments=lambda c, x, h, m: (x, h * m[:, None])))
    m = torch.rand(BATCH, STEPS) / 2 + 0.5
    model = Loop(cell)
    assert record(model, x, m).residual < 1e-6
    with torch.no_grad(), editing(model, clamp("cell", "h", 1, value=0.3, at=4)):
        edited = model(x, m)
        h = torch.zeros(BATCH, UNITS)
    for t in range(STEPS):
        with torch.no_grad():
            h = cell(x[:, t], h, m[:, t])
        if t == 4:
            h[:, 1] = 0.3
        assert torch.allclose(edited[:, t], h, atol=1e-6)


class Clipped(nn.GRU):
    """No state of a GRU reaches 1; an edit does."""

    def forward(self, input: Any, hx: Tensor | None = None) -> Any:
        output, h_n = super().forward(input, hx)
        return output.clamp(-1, 1), h_n.clamp(-1, 1)


class ClippedStep(nn.GRUCell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return super().forward(x, h).clamp(-1, 1)


def test_where_an_edit_leads_is_compared_too(x: Tensor) -> None:
    far = {"value": 4.0, "at": 3}
    model = Clipped(INPUTS, UNITS, batch_first=True)
    assert record(model, x, edits=clamp("l0", "h", 2, value=0.9, at=3)).residual < 1e-6
    with pytest.raises(AdapterError) as raised:
        record(model, x, edits=clamp("l0", "h", 2, **far))
    text = r"step 4, row \d, the states differ by .*, from a state that an edit led to.*clips the"
    assert raised.match(text)
    step = Loop(ClippedStep(INPUTS, UNITS))
    assert record(step, x, edits=clamp("cell", "h", 2, value=0.9, at=3)).residual < 1e-6
    with pytest.raises(AdapterError, match=r"step 4, row \d.*There it clips the state at 1"):
        record(step, x, edits=clamp("cell", "h", 2, **far))


@pytest.mark.parametrize("options", [{"num_layers": 2}, {"bidirectional": True}])
def test_it_is_in_every_level_and_direction(x: Tensor, options: dict[str, Any]) -> None:
    model = Clipped(INPUTS, UNITS, batch_first=True, **options)
    names = [layer.name for layer in grulens.layers(model)]
    for name in names:
        assert record(model, x, edits=scale(name, "z", 1, by=0.5)).residual < 1e-6
    with pytest.raises(AdapterError, match=f"at layer '{names[-1]}', step"):
        record(model, x, edits=clamp(names[-1], "h", value=4.0, at=4))


def test_where_it_cannot_be_compared_that_is_said(x: Tensor) -> None:
    class NoState(nn.GRU):
        def forward(self, input: Tensor) -> Any:
            return super().forward(input)

    model = NoState(INPUTS, UNITS, batch_first=True)
    run = record(model, x, edits=scale("l0", "h", by=0.5, at=3))
    assert run.residual < 1e-6
    with pytest.warns(NotComparedWarning, match="layer 'l0' to states of up to 4, where this NoSt"):
        record(model, x, edits=clamp("l0", "h", 1, value=4.0, at=3))


def test_a_module_that_fails_at_one_step_is_named(x: Tensor) -> None:
    class Long(nn.GRU):
        def forward(self, input: Tensor, hx: Tensor | None = None) -> Any:
            if input.shape[1] < 3:
                raise ValueError("too short")
            return super().forward(input, hx)

    model = Long(INPUTS, UNITS, batch_first=True)
    assert record(model, x).residual < 1e-6
    with pytest.raises(AdapterError, match=r"sequences of one step.*ValueError: too short"):
        record(model, x, edits=scale("l0", "z", by=0.5))


class Calls(nn.GRU):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return super().forward(*args, **kwargs)


def set_on_it(**options: Any) -> nn.GRU:
    gru = nn.GRU(INPUTS, UNITS, batch_first=True, **options)
    plain = gru.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        return plain(*args, **kwargs)

    gru.forward = forward
    return gru


MADE: dict[str, Callable[..., nn.GRU]] = {
    "subclass": lambda **options: Calls(INPUTS, UNITS, batch_first=True, **options),
    "on the instance": set_on_it,
}


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "bidirectional": True}, {"num_layers": 2, "dropout": 0.5}]
)
def test_a_forward_that_changes_nothing_is_opened(
    x: Tensor, made: str, options: dict[str, Any]
) -> None:
    model, plain = MADE[made](**options), nn.GRU(INPUTS, UNITS, batch_first=True, **options)
    plain.load_state_dict(model.state_dict())
    own = vars(model).get("forward")
    assert [one.name for one in grulens.layers(model)] == [
        one.name for one in grulens.layers(plain)
    ]
    name = grulens.layers(plain)[-1].name
    packed = pack_padded_sequence(x, torch.tensor([9, 5, 2]), batch_first=True)
    for given in (x, x[0], packed):
        for edits in ([], [scale(name, "z", 2, by=0.5), ablate(name, 1, at=slice(0, 2))]):
            runs = []
            for one in (model, plain):
                torch.manual_seed(3)
                runs.append(record(one, given, edits=edits))
                after = torch.get_rng_state()
            for layer in runs[1]:
                assert torch.allclose(runs[0][layer].h, runs[1][layer].h, atol=1e-6)
                assert torch.allclose(runs[0][layer].z, runs[1][layer].z, atol=1e-6)
            torch.manual_seed(3)
            record(model, given, edits=edits)
            assert torch.equal(torch.get_rng_state(), after)
    model.eval(), plain.eval()
    found, expected = (
        sweep(one, x, layer=name, readout=last, progress=False) for one in (model, plain)
    )
    assert torch.allclose(found.effect, expected.effect, atol=1e-5)
    assert vars(model).get("forward") is own


def test_a_wrapped_cell_is_opened(x: Tensor) -> None:
    class Wrapped(nn.GRUCell):
        def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
            return super().forward(input, hx)

    model = Loop(Wrapped(INPUTS, UNITS))
    plain = Loop(nn.GRUCell(INPUTS, UNITS))
    plain.load_state_dict(model.state_dict())
    edits = [clamp("cell", "h", 1, value=0.3, at=4)]
    for chosen in ([], edits):
        run, other = (record(one, x, edits=chosen) for one in (model, plain))
        assert torch.allclose(run["cell"].h, other["cell"].h, atol=1e-6)
        assert torch.allclose(run["cell"].r, other["cell"].r, atol=1e-6)


def clamped_on_it() -> nn.Module:
    gru = nn.GRU(INPUTS, UNITS, batch_first=True)
    plain = gru.forward
    gru.forward = lambda *a: (plain(*a)[0].clamp(-0.1, 0.1), plain(*a)[1])
    return gru


def replaced_in_the_class(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    plain = nn.GRU.forward
    other = lambda self, *a: (0.5 * plain(self, *a)[0], plain(self, *a)[1])  # noqa: E731
    monkeypatch.setattr(nn.GRU, "forward", other)
    return nn.GRU(INPUTS, UNITS, batch_first=True)


class Noisy(nn.GRU):
    def forward(self, input: Tensor, hx: Tensor | None = None) -> Any:
        output, h_n = super().forward(input, hx)
        return output + 0.01 * torch.randn_like(output), h_n


class Backwards(nn.GRU):
    def forward(self, input: Tensor, hx: Tensor | None = None) -> Any:
        return super().forward(input.flip(1), hx)


class StatesOnly(nn.GRU):
    def forward(self, input: Tensor) -> Any:
        return super().forward(input)[0]


class LastOnly(nn.GRU):
    """Its states are torch's, its h_n is not."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Any:
        output, h_n = super().forward(input, hx)
        return output, 2 * h_n


class Masked(nn.GRUCell):
    def forward(self, x: Tensor, h: Tensor, m: Tensor) -> Tensor:
        return torch.where(m > 0, super().forward(x, h), h)


class Permuted(nn.GRU):
    def permute_hidden(self, hx: Tensor, permutation: Tensor | None) -> Tensor:
        return 2 * super().permute_hidden(hx, permutation)


CLOSED: dict[str, tuple[Callable[[pytest.MonkeyPatch], nn.Module], str]] = {
    "on the instance": (lambda _: clamped_on_it(), "another forward has been set, which does not "
                        "compute what torch's does (it clips the state at 0.1)"),
    "in the class": (replaced_in_the_class, "whose forward has been replaced in its class, which "
                     "does not compute what torch's does (it multiplies the state by 0.5)"),
    "noise": (lambda _: Noisy(INPUTS, UNITS), "(the states differ by 0.0"),
    "order": (lambda _: Backwards(INPUTS, UNITS, batch_first=True), "does not compute what torch"),
    "output": (lambda _: StatesOnly(INPUTS, UNITS), "returns a tensor (3, 2, 6), where torch's re"),
    "h_n": (lambda _: LastOnly(INPUTS, UNITS), "returns other values than torch's"),
    "arguments": (lambda _: Masked(INPUTS, UNITS), "takes other arguments than torch's does"),
    "method": (lambda _: Permuted(INPUTS, UNITS), "does not compute what torch's does"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CLOSED)
def test_a_forward_that_changes_something_is_refused_by_name(
    kind: str, monkeypatch: pytest.MonkeyPatch, x: Tensor
) -> None:
    make, reason = CLOSED[kind]
    part = make(monkeypatch)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    model = nn.ModuleDict({"part": part})
    with pytest.raises(UnsupportedLayerError) as raised:
        record(model, x)
    told = [str(raised.value)]
    try:
        told.append(repr(grulens.layers(model)))  # it may be found in a run, and is listed
    except UnsupportedLayerError as error:
        told.append(str(error))
    for text in told:
        assert f"'part' is a {type(part).__name__}" in text
        assert reason in text
    assert torch.equal(torch.get_rng_state(), before)


def test_a_mode_or_a_forward_that_changes_is_tried_anew(x: Tensor) -> None:
    class Dropping(nn.GRU):
        def forward(self, input: Tensor, hx: Tensor | None = None) -> Any:
            output, h_n = super().forward(input, hx)
            return nn.functional.dropout(output, 0.5, self.training), h_n

    model = Dropping(INPUTS, UNITS, batch_first=True)
    with pytest.raises(UnsupportedLayerError, match="as dropout does"):
        record(model, x)
    assert record(model.eval(), x).residual < 1e-6
    model.forward = lambda *args: (0 * x, None)
    with pytest.raises(UnsupportedLayerError, match="another forward has been set"):
        record(model, x)
    del model.forward
    assert record(model, x).residual < 1e-6


def test_what_a_trial_cannot_know_is_found_in_the_run(x: Tensor) -> None:
    class Sometimes(nn.GRU):
        def forward(self, input: Tensor, hx: Tensor | None = None) -> Any:
            output, h_n = super().forward(input, hx)
            return torch.where(input[..., :1] > 1.5, 0 * output, output), h_n

    model = Sometimes(INPUTS, UNITS, batch_first=True)
    assert record(model, x.clamp(-1, 1)).residual < 1e-6
    with pytest.raises(
        AdapterError, match=r"at layer 'l0', step .* There it (sets|keeps) the state"
    ):
        record(model, x + 1)


@pytest.mark.parametrize("given", ["a third argument", "another width"])
def test_what_torch_does_not_take_is_refused_and_not_run_plainly(x: Tensor, given: str) -> None:
    class Takes(nn.GRU):
        def forward(self, *args: Tensor) -> Any:
            return super().forward(args[0][..., :INPUTS], *args[1:2])

    model = Takes(INPUTS, UNITS, batch_first=True)
    args = (
        (x, torch.zeros(1, BATCH, UNITS), x)
        if given == "a third argument"
        else (x.repeat(1, 1, 2),)
    )
    model(*args)
    for edits in ([], [ablate("l0", 1)]):
        with pytest.raises(AdapterError, match="of this Takes is not torch's own and takes"):
            record(model, *args, edits=edits)


def test_hooks_parametrizations_and_weight_norm_are_as_before(x: Tensor) -> None:
    gru = nn.GRU(INPUTS, UNITS, batch_first=True)
    gru.register_forward_hook(lambda m, given, out: (out[0].clamp(-0.1, 0.1), out[1]))
    run = record(gru, x)
    assert run.residual < 1e-6
    assert run.output[0].abs().max() <= 0.1 < run["l0"].h.abs().max()
    normed = nn.utils.parametrizations.weight_norm(nn.GRU(INPUTS, UNITS), "weight_hh_l0")
    assert record(normed, x).residual < 1e-6
    with torch.autocast("cpu"):
        assert record(normed, x)["l0"].h.shape == (STEPS, BATCH, UNITS)
    with torch.autocast("cpu"), pytest.raises(RecordingError, match="runs under torch"):
        record(Calls(INPUTS, UNITS), x)


def test_no_number_is_no_difference(x: Tensor) -> None:
    x[1, 2] = float("nan")
    model = Calls(INPUTS, UNITS, batch_first=True)
    with pytest.warns(NonFiniteWarning, match="row 1, step 2"):
        run = record(model, x)
    assert torch.equal(run["l0"].h[1, 2:].isnan(), torch.ones(STEPS - 2, UNITS, dtype=torch.bool))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(x: Tensor, dtype: torch.dtype) -> None:
    model = Calls(INPUTS, UNITS, batch_first=True).to(dtype)
    run = record(model, x.to(dtype), edits=scale("l0", "z", 1, by=0.5))
    assert run.residual < 4 * torch.finfo(dtype).eps


def test_rounding_is_measured_by_the_size_of_what_is_added_up(x: Tensor) -> None:
    """Large products that cancel are as far off as their own rounding, and no further."""
    model, residual = Calls(INPUTS, UNITS, batch_first=True), 0.0
    same = x[:1, :1].expand(-1, STEPS, -1) + 1e-4 * x
    while residual < 5e-6:  # where that is hangs on the processor
        with torch.no_grad():
            model.weight_ih_l0.mul_(2)
            model.bias_ih_l0.copy_(-(model.weight_ih_l0 @ x[0, 0]))
        residual = record(model, same).residual
    assert residual < 5e-3


def test_what_a_module_does_in_place_spoils_nothing(x: Tensor) -> None:
    class InPlace(nn.GRUCell):
        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return h.copy_(super().forward(x, h))

    model, plain = Loop(InPlace(INPUTS, UNITS)), Loop(nn.GRUCell(INPUTS, UNITS))
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        run, other = record(model, x), record(plain, x)
        assert run.residual < 1e-6
        assert torch.allclose(run["cell"].h_prev, other["cell"].h_prev, atol=1e-6)
        # what stands in its place would not write
        with pytest.raises(AdapterError, match="writes into its arguments"):
            record(model, x, edits=clamp("cell", "z", 1, value=0.2, at=3))


def test_the_comparison_leaves_nothing_behind(x: Tensor) -> None:
    calls: SimpleQueue[None] = SimpleQueue()  # what it holds is not put back behind a run

    class Counts(nn.GRU):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, input: Tensor, hx: Tensor | None = None) -> Any:
            calls.put(None)
            self.seen += 1
            torch.rand(1)
            return super().forward(input, hx)

    model = Counts(INPUTS, UNITS, batch_first=True)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    record(model, x, edits=scale("l0", "z", 1, by=0.5))
    assert calls.qsize() > 0
    assert float(model.seen) == 0
    assert torch.equal(torch.get_rng_state(), before)
    record(model, x)
    assert float(model.seen) == 1


def test_a_sweep_side_by_side_is_of_a_run_that_was_compared(taught: Any, x: Tensor) -> None:
    """The module is compared in the unedited run and in the runs of their own, not in each copy."""
    seen: SimpleQueue[Any] = SimpleQueue()  # as above

    class Counted(nn.GRU):
        def forward(self, input: Tensor, hx: Tensor | None = None) -> Any:
            seen.put(input.shape[:2])
            return super().forward(input, hx)

    model = Counted(INPUTS, UNITS, batch_first=True)
    swept = sweep(model, x, layer="l0", readout=last, progress=False)
    assert swept.effect.abs().max() > 0
    rows = [seen.get() for _ in range(seen.qsize())]
    assert 0 < len(rows) < 30
    assert all(count in (BATCH, BATCH * STEPS, 2) for count, _ in rows)


class WithLengths(nn.Module):
    """Rows of several lengths, which only the call's own arguments tell."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(INPUTS, UNITS, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.gru(packed)[0], batch_first=True)[0]


def test_states_and_result_are_given_the_calls_own_arguments(taught: Any, x: Tensor) -> None:
    def packed(m: Any, sequence: Tensor, lengths: Tensor) -> Any:
        return pack_padded_sequence(sequence, lengths, batch_first=True, enforce_sorted=False)

    taught(WithLengths, SequenceAdapter(
        lambda m: level(m.gru),
        arguments=lambda m, x, lengths: (packed(m, x, lengths), None),
        states=lambda m, out, x, lengths: packed(m, out, lengths),
        result=lambda m, h, h_n, x, lengths: pad_packed_sequence(h, batch_first=True)[0],
    ))  # fmt: skip
    model, lengths = WithLengths(), torch.tensor([4, 9, 6])
    edits = [ablate("l0", 1, at=slice(0, 3)), scale("l0", "z", 2, by=0.5)]
    for chosen in ([], edits):
        run = record(model, x, lengths=lengths, edits=chosen)
        other = record(model.gru, packed(None, x, lengths), edits=chosen)
        assert torch.equal(run["l0"].mask.sum(1), lengths)
        assert torch.allclose(run["l0"].h, other["l0"].h, atol=1e-6)
        assert run.output.shape == (BATCH, STEPS, UNITS)


def test_state_and_result_of_a_step_are_given_them_too(taught: Any, x: Tensor) -> None:
    class Slots(nn.GRUCell):
        """Its state is kept in one slot of a table, which it returns."""

        def forward(self, x: Tensor, table: Tensor, slot: int) -> Tensor:
            table = table.clone()
            table[slot] = super().forward(x, table[slot])
            return table

    def put(c: Any, h: Tensor, x: Tensor, table: Tensor, slot: int) -> Tensor:
        table = table.clone()
        table[slot] = h
        return table

    taught(Slots, StepAdapter(
        cell_of, arguments=lambda c, x, table, slot: (x, table[slot]),
        state=lambda c, out, x, table, slot: out[slot], result=put,
    ))  # fmt: skip
    model, table = Slots(INPUTS, UNITS), torch.randn(3, BATCH, UNITS)
    with torch.no_grad():
        expected = model(x[:, 0], table, slot=1)
    run = record(model, x[:, 0], table, slot=1, edits=ablate("cell", 2))
    assert torch.equal(run.output[:, :, 2], torch.where(
        torch.tensor([[False], [True], [False]]), 0, table[:, :, 2]))  # fmt: skip
    expected[1, :, 2] = 0
    assert torch.allclose(run.output, expected, atol=1e-6)


def test_calls_without_a_batch(taught: Any, x: Tensor) -> None:
    class Step(nn.GRUCell):
        pass

    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(INPUTS, UNITS, num_layers=2, batch_first=True)

        def forward(self, x: Tensor, h_0: Tensor | None = None) -> Any:
            return self.gru(x, h_0)

    taught(Step, StepAdapter(cell_of))
    taught(Wrapper, SequenceAdapter(lambda m: [level(m.gru), level(m.gru, "_l1")]))
    step, wrapper, h_0 = Step(INPUTS, UNITS), Wrapper(), torch.randn(2, UNITS)
    for edits in ([], ablate("cell", 1)):
        one = record(step, x[0, 0], h_0[0], edits=edits)
        all_ = record(step, x[:1, 0], h_0[:1], edits=edits)
        assert one.output.shape == (UNITS,)
        assert torch.allclose(one.output, all_.output[0], atol=1e-6)
        assert torch.allclose(one["cell"].z, all_["cell"].z, atol=1e-6)
    for edits in ([], ablate("l1", 1)):
        one = record(wrapper, x[0], h_0, edits=edits)
        all_ = record(wrapper, x[:1], h_0[:, None], edits=edits)
        assert [t.shape for t in one.output] == [(STEPS, UNITS), (2, UNITS)]
        for mine, other in zip(one.output, all_.output, strict=True):
            assert torch.allclose(mine.flatten(), other.flatten(), atol=1e-6)
        for name in one:
            assert torch.allclose(one[name].r, all_[name].r, atol=1e-6)


READS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], bool]] = {
    "first two": (lambda m, x, h=None: (x, h), (0,), {}, True),
    "named": (lambda m, x, *, start=None: (x.transpose(0, 1), start), (1,), {}, True),
    "given": (lambda m, x, s: (x, s), (0, 2), {}, True),
    "one level": (lambda m, x, s: (x, s[None]), (0, 3), {}, True),
    "in a dict": (lambda m, d: (d["x"], d.get("h")), ({"x": 0, "h": 2},), {}, True),
    "no state": (lambda m, x: (x, None), (0,), {}, False),
    "a mask": (lambda m, x, mask, h=None: (x, h), (0, 4), {}, False),
    "made": (lambda m, x, h=None: (2 * x, h), (0,), {}, False),
}


@pytest.mark.parametrize("form", READS)
def test_arguments_are_found_the_other_way_round(form: str) -> None:
    read, places, kwargs, found = READS[form]
    tensors = [torch.randn(2, 5, INPUTS), torch.randn(5, 2, INPUTS), torch.randn(1, 2, UNITS),
               torch.randn(2, UNITS), torch.ones(2, 5)]  # fmt: skip

    def given(place: Any) -> Any:
        if isinstance(place, dict):
            return {name: tensors[index] for name, index in place.items()}
        return tensors[place]

    x, h_0 = torch.randn(7, 1, INPUTS), torch.randn(1, 7, UNITS)
    args = tuple(given(place) for place in places)
    made = replaced(read, None, args, kwargs, x, h_0)
    assert (made is not None) == found
    if made is not None:
        new_x, new_h = read(None, *made[0], **made[1])
        assert torch.equal(new_x, x)
        assert torch.equal(new_h, h_0)
