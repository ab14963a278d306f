"""A sweep is one edited run a unit, whatever way it takes there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import grulens
from grulens import ablate, clamp, editing, patch, record, scale, shift
from grulens.errors import (
    EditError,
    LayerError,
    PositionError,
    ReadoutError,
    RecordingError,
    StoppedWarning,
)
from grulens.probing.readout.readout import first_tensor
from grulens.probing.units import batched_runs
from grulens.probing.units.batched_runs import runs_at_once
from grulens.probing.units.experiment import prepare
from grulens.probing.units.grid import Grid


def sweep(*args: Any, **kwargs: Any) -> grulens.Sweep:
    return grulens.sweep(*args, progress=False, **kwargs)


class Tagger(nn.Module):
    """Embedding, two bidirectional levels, a head."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 3)
        self.rnn = nn.GRU(3, 4, 2, bidirectional=True, **options)
        self.head = nn.Linear(8, 2)

    def forward(self, tokens: Tensor, h_0: Tensor | None = None) -> Tensor:
        return self.head(self.rnn(self.embed(tokens), h_0)[0])


class Decoder(nn.Module):
    """A loop of cells whose outputs are fed back, and a GRU called once a step."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 5)
        self.rnn = nn.GRU(5, 3, batch_first=True)

    def forward(self, x: Tensor, steps: int = 6) -> dict[str, Any]:
        h, state, out = torch.zeros(len(x), 5, dtype=x.dtype), None, []
        for _ in range(steps):
            h = self.cell(x, h)
            y, state = self.rnn(h[:, None], state)
            x = y[:, 0] + 0.5 * x
            out.append(x)
        return {"all": torch.stack(out), "last": h}


class Packs(nn.Module):
    """Packs by itself, from lengths that must be sorted."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 4, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, lengths: Any) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True)
        return pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]


def double(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model.double().eval()


def rows(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def packed(sorted_rows: bool) -> PackedSequence:
    lengths = [5, 3, 2] if sorted_rows else [3, 5, 2]
    return pack_padded_sequence(
        rows(3, 5, 3), lengths, batch_first=True, enforce_sorted=sorted_rows
    )


CASES: dict[str, Callable[[], tuple[nn.Module, tuple[Any, ...], list[str]]]] = {
    "batch first": lambda: (
        double(Tagger(batch_first=True)),
        (torch.randint(7, (2, 5)),),
        ["rnn.l0", "rnn.l0_reverse", "rnn.l1", "rnn.l1_reverse"],
    ),
    "time first, as many rows as steps": lambda: (
        double(Tagger()), (torch.randint(7, (3, 3)),), ["rnn.l0", "rnn.l1_reverse"]
    ),
    "h_0": lambda: (
        double(Tagger(batch_first=True)),
        (torch.randint(7, (4, 5)), rows(4, 4, 4)),
        ["rnn.l0_reverse", "rnn.l1"],
    ),
    "one row": lambda: (double(nn.GRU(3, 6)), (rows(5, 1, 3),), ["l0"]),
    "packed": lambda: (
        double(nn.GRU(3, 4, 2, bidirectional=True)), (packed(False),), ["l0", "l0_reverse", "l1"]
    ),
    "packed, sorted": lambda: (double(nn.GRU(3, 4, bias=False)), (packed(True),), ["l0"]),
    "packs, a list of lengths": lambda: (
        double(Packs()), (rows(3, 5, 3), [5, 3, 2]), ["rnn.l0", "rnn.l0_reverse"]
    ),
    "packs, a tensor of lengths": lambda: (
        double(Packs()), (rows(3, 5, 3), torch.tensor([5, 3, 2])), ["rnn.l0_reverse"]
    ),
    "decoder": lambda: (double(Decoder()), (rows(2, 3),), ["cell", "rnn.l0"]),
    "reset before, hard sigmoid, relu": lambda: (
        grulens.adapters.GRUStack(
            grulens.Cell(
                rows(12, 3), rows(12, 4), rows(12), rows(12), reset_after=False,
                gate=nn.functional.hardsigmoid, candidate=torch.relu,
            )
        ),
        (rows(2, 5, 3),),
        ["l0"],
    ),
}  # fmt: skip
EDITS: dict[str, Callable[..., Any]] = {
    "ablate": ablate,
    "mean": lambda layer, unit, **at: ablate(layer, unit, to="mean", **at),
    "reset": lambda layer, unit, **at: shift(layer, "r", unit, by=2, **at),
    "update": lambda layer, unit, **at: clamp(layer, "z", unit, value=0.9, **at),
    "candidate": lambda layer, unit, **at: scale(layer, "n", unit, by=-1, **at),
    "several": lambda layer, unit, **at: [
        shift(layer, "z", unit, by=1, at=slice(1, 3)),
        shift(layer, "n", unit, by=1, rows=0),
        scale(layer, "r", unit, by=0.5, **at),
        ablate(layer, unit, to=0.3, at=-1),
        scale(layer, "h", unit, by=2),
    ],
    "by unit": lambda layer, unit, **at: (
        ablate(layer, unit, **at) if unit % 2 else clamp(layer, "r", unit, value=0, **at)
    ),
}


def by_hand(
    model: nn.Module, args: tuple[Any, ...], edits: Any, readout: Callable[[Any], Tensor]
) -> Tensor:
    edits = edits if isinstance(edits, list) else [edits]
    with torch.no_grad():
        plain = readout(model(*args))
        with editing(model, *edits):
            return readout(model(*args)) - plain


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("case", CASES)
def test_it_equals_one_edited_run_a_unit(case: str, edit: str) -> None:
    model, args, layers = CASES[case]()
    for layer in layers:
        found = sweep(model, *args, layer=layer, make_edit=EDITS[edit])
        assert found.batched
        assert bool(found.done.all())
        for place, unit in enumerate(found.units):
            expected = by_hand(model, args, EDITS[edit](layer, unit), first_tensor)
            torch.testing.assert_close(found.effect[place], expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(found.recurrent, found.effect - found.direct)


@pytest.mark.parametrize("edit", ["ablate", "update"])
@pytest.mark.parametrize("case", ["batch first", "packed", "decoder"])
def test_a_run_for_each_unit_and_time(case: str, edit: str) -> None:
    model, args, layers = CASES[case]()
    for layer in layers:
        found = sweep(
            model, *args, layer=layer, make_edit=EDITS[edit], units=[2, 0], times=[3, -1, 1]
        )
        assert found.effect.shape[:2] == (2, 3)
        for i, unit in enumerate(found.units):
            for j, time in enumerate([3, -1, 1]):
                expected = by_hand(model, args, EDITS[edit](layer, unit, at=time), first_tensor)
                torch.testing.assert_close(found.effect[i, j], expected, rtol=1e-9, atol=1e-12)


def test_float32_differs_by_rounding_only() -> None:
    model = nn.Sequential(nn.GRU(8, 32, batch_first=True)).eval()
    x = torch.randn(3, 40, 8)
    found = sweep(model, x, layer="0.l0")
    for unit in range(0, 32, 5):
        expected = by_hand(model, (x,), ablate("0.l0", unit), first_tensor)
        torch.testing.assert_close(found.effect[unit], expected, rtol=0, atol=1e-5)


def hooked(model: nn.GRU, x: Tensor, unit: int) -> Tensor:
    """What an ordinary forward hook on a one-layer GRU shows."""

    def hook(_: nn.Module, __: Any, output: Any) -> Any:
        h, h_n = output[0].clone(), output[1].clone()
        h[..., unit] = 0
        h_n[..., unit] = 0
        return h, h_n

    handle = model.register_forward_hook(hook)
    try:
        with torch.no_grad():
            h, h_n = model(x)
    finally:
        handle.remove()
    return torch.cat([h, h_n.transpose(0, 1)], 1)


@pytest.mark.parametrize("batch", [1, 3])
def test_direct_is_what_an_ordinary_hook_shows(batch: int) -> None:
    model, x = double(nn.GRU(3, 4, batch_first=True)), rows(batch, 5, 3)
    both = lambda output: torch.cat([output[0], output[1].transpose(0, 1)], 1)  # noqa: E731
    found = sweep(model, x, layer="l0", readout=both)
    for unit in range(4):
        expected = hooked(model, x, unit) - found.baseline
        torch.testing.assert_close(found.direct[unit], expected)
    assert float(found.recurrent.abs().max()) > 1e-3


@pytest.mark.parametrize("edit", ["reset", "update", "candidate", "several"])
@pytest.mark.parametrize("case", ["batch first", "packed", "decoder"])
def test_direct_recomputes_each_state_from_the_unedited_one(case: str, edit: str) -> None:
    model, args, layers = CASES[case]()
    for layer in layers:
        found = sweep(model, *args, layer=layer, make_edit=EDITS[edit])
        experiment = prepare(model, (args, {}), layer, first_tensor)
        for place, unit in enumerate(found.units):
            made = EDITS[edit](layer, unit)
            made = made if isinstance(made, list) else [made]
            alone = batched_runs.direct_alone(experiment, made) - found.baseline
            torch.testing.assert_close(found.direct[place], alone, rtol=1e-9, atol=1e-12)


def test_direct_of_a_gate_by_the_formula() -> None:
    model, x = double(nn.GRU(3, 4, batch_first=True)), rows(1, 5, 3)
    found = sweep(model, x, layer="l0", make_edit=EDITS["update"])
    layer = record(model, x)["l0"]
    for unit in range(4):
        h = layer.h.clone()
        h[..., unit] = 0.1 * layer.n[..., unit] + 0.9 * layer.h_prev[..., unit]
        torch.testing.assert_close(found.direct[unit], h - layer.h)


def test_an_edit_of_the_last_step_has_no_recurrent_part() -> None:
    model = nn.GRU(3, 8, batch_first=True).eval()
    x = torch.randn(2, 5, 3)
    for edit in ("ablate", "update"):
        found = sweep(model, x, layer="l0", make_edit=EDITS[edit], times=-1)
        assert float(found.effect.abs().max()) > 1e-3
        assert float(found.recurrent.abs().max()) <= (0 if edit == "ablate" else 1e-6)


def test_units_and_groups() -> None:
    model, x = double(nn.GRU(3, 4)), rows(5, 2, 3)
    of = lambda units: sweep(model, x, layer="l0", units=units)  # noqa: E731
    every = of(None)
    assert every.units == (0, 1, 2, 3)
    assert of(slice(1, 3)).units == (1, 2)
    assert of(-1).units == (3,)
    assert of([True, False, False, True]).units == (0, 3)
    assert of(np.array([2, 0])).units == (2, 0)
    torch.testing.assert_close(of([2, 0]).effect, every.effect[[2, 0]])
    groups = of([(0, 1), slice(2, None), 3, None])
    assert groups.units == ((0, 1), slice(2, None), 3, None)
    for place, units in enumerate(groups.units):
        expected = by_hand(model, (x,), ablate("l0", units), first_tensor)
        torch.testing.assert_close(groups.effect[place], expected)
    assert repr(groups) == "Sweep('l0', 4 units, readout (5, 2, 4))"


def test_one_run_a_time() -> None:
    model, x = double(nn.GRU(3, 4, batch_first=True)), rows(2, 5, 3)
    source = record(model, rows(2, 5, 3))
    found = sweep(
        model, x, layer="l0", units=[None], times=slice(None),
        make_edit=lambda layer, unit, at: patch(layer, "h", unit, source=source, at=at),
    )  # fmt: skip
    assert found.times == (0, 1, 2, 3, 4)
    assert found.batched
    for time in range(5):
        expected = by_hand(model, (x,), patch("l0", "h", source=source, at=time), first_tensor)
        torch.testing.assert_close(found.effect[0, time], expected)


@dataclass
class Out:
    logits: Tensor
    more: Any


class Wrapped(nn.Module):
    def __init__(self, wrap: Callable[..., Any]) -> None:
        super().__init__()
        self.rnn, self.wrap = nn.GRU(3, 4, batch_first=True), wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(*self.rnn(x))


WRAPS: dict[str, tuple[Callable[..., Any], Callable[[Any], Tensor]]] = {
    "dict": (lambda h, h_n: {"a": [h_n], "b": h}, lambda out: out["a"][0][0] + out["b"][:, -1]),
    "dataclass": (Out, lambda out: out.logits[:, -1] * out.more[0]),
    "tuple in tuple": (lambda h, h_n: (None, (h_n, h.mean(1))), lambda out: out[1][1]),
    "time first": (lambda h, h_n: h.transpose(0, 1), lambda out: out[-1, :, :2]),
    "flat": (lambda h, h_n: h.flatten(0, 1), lambda out: out),
}


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_readout_sees_one_ordinary_output(wrap: str, batch: int) -> None:
    build, readout = WRAPS[wrap]
    model, x = double(Wrapped(build)), rows(batch, 5, 3)
    seen = set()

    def looked(out: Any) -> Tensor:
        seen.add((type(out), tuple(first_tensor(out).shape)))
        return readout(out)

    found = sweep(model, x, layer="rnn.l0", readout=looked)
    assert len(seen) == 1
    assert found.batched
    for unit in range(4):
        expected = by_hand(model, (x,), ablate("rnn.l0", unit), readout)
        torch.testing.assert_close(found.effect[unit], expected)


class Couples(nn.Module):
    """What one row is depends on the others."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.rnn, self.how = nn.GRU(3, 4, batch_first=True, dropout=0.0), how
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Any) -> Tensor:
        if self.how == "list":
            return self.rnn(nn.utils.rnn.pad_sequence(x, batch_first=True))[0]
        h = self.rnn(x)[0]
        match self.how:
            case "norm":
                return self.norm(h[:, -1])
            case "mean":
                return h - h.mean(0)
            case "loss":
                return h.pow(2).mean()
            case "noise":
                return h + torch.rand_like(h)
            case "batch in a shape":
                return h.reshape(2, 5, 4)
        return h


@pytest.mark.parametrize(
    "how", ["norm", "mean", "loss", "noise", "batch in a shape", "list", "unbatched"]
)
def test_where_rows_cannot_be_repeated_it_runs_one_after_another(how: str) -> None:
    model = double(Couples(how)).train()
    x: Any = rows(2, 5, 3)
    x = list(x) if how == "list" else x[0] if how == "unbatched" else x
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(3)
    found = sweep(model, x, layer="rnn.l0", units=[0, 1, 2])
    assert not found.batched
    assert "one run after another" in repr(found)
    assert float(found.effect.abs().max()) > 1e-3
    for unit in range(3):
        # every run draws the same random numbers
        outputs = []
        for edits in ([], [ablate("rnn.l0", unit)]):
            torch.manual_seed(3)
            with torch.no_grad(), editing(model, *edits):
                outputs.append(first_tensor(model(x)))
            model.load_state_dict(before)
        torch.testing.assert_close(found.effect[unit], outputs[1] - outputs[0])


def test_inside_an_open_editing_the_outer_edits_act_too() -> None:
    model, x = double(Tagger(batch_first=True)), torch.randint(7, (2, 5))
    with editing(model, scale("rnn.l0", "z", by=0.5, rows=1)):
        for edit in ("ablate", "update"):
            found = sweep(model, x, layer="rnn.l0", make_edit=EDITS[edit])
            assert not found.batched
            for unit in range(4):
                expected = by_hand(model, (x,), EDITS[edit]("rnn.l0", unit), first_tensor)
                torch.testing.assert_close(found.effect[unit], expected)


class Interrupts:
    """A readout that Ctrl-C reaches at its nth call."""

    def __init__(self, at: int) -> None:
        self.calls, self.at = 0, at

    def __call__(self, out: Any) -> Tensor:
        self.calls += 1
        if self.calls == self.at:
            raise KeyboardInterrupt
        return first_tensor(out)


def test_interrupted_it_returns_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batched_runs, "runs_at_once", lambda *_: 2)
    model, x = double(nn.GRU(3, 6, batch_first=True)), rows(2, 5, 3)
    whole = sweep(model, x, layer="l0")
    before = (sorted(vars(model)), torch.get_rng_state().tolist())
    # the unedited run, three runs twice, the check, and of the second two both edited and a direct
    with pytest.warns(StoppedWarning, match="sweep stopped after 3 of 6 units; what was done"):
        found = sweep(model, x, layer="l0", readout=Interrupts(1 + 6 + 1 + 3 + 1))
    assert found.done.tolist() == [True, True, True, False, False, False]
    torch.testing.assert_close(found.effect[:3], whole.effect[:3])
    assert bool(found.effect[3:].isnan().all())
    assert found.note == "stopped after 3 of 6 units"
    assert found.note in repr(found)
    assert found.note in found._repr_html_()
    assert set(found.order()[:3]) == {0, 1, 2}
    assert (sorted(vars(model)), torch.get_rng_state().tolist()) == before


def test_interrupted_among_the_exact_runs_estimates_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batched_runs, "runs_at_once", lambda *_: 2)
    model, x = double(nn.GRU(3, 6, batch_first=True)), rows(2, 5, 3)
    stops = Interrupts(1 + 1 + 6 + 1 + 2 + 1)  # one run more: that with a graph
    with pytest.warns(StoppedWarning, match=r"sweep stopped after \d of 6 exact runs"):
        found = sweep(model, x, layer="l0", readout=stops, method="gradient", sample=6)
    assert bool(found.done.all())
    assert 0 < len(found.sample) < 6
    assert f"stopped after {len(found.sample)} of 6 exact runs" in repr(found)
    whole = sweep(model, x, layer="l0", method="gradient", sample=6)
    assert "stopped" not in whole.note


@pytest.mark.parametrize("how", ["batched", "one by one"])
def test_interrupted_inside_the_model(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batched_runs, "runs_at_once", lambda *_: 2)
    x = rows(2, 5, 3)
    calls: SimpleQueue[None] = SimpleQueue()  # what it holds is not put back behind a run

    class Stops(Couples):
        def forward(self, x: Any) -> Tensor:
            calls.put(None)
            if calls.qsize() == (5 if how == "batched" else 9):
                raise KeyboardInterrupt
            return super().forward(x)

    model = double(Stops("mean" if how == "one by one" else "")).train()
    with pytest.warns(StoppedWarning, match="of 4 units"):
        found = sweep(model, x, layer="rnn.l0", make_edit=EDITS["update"])
    assert 0 < int(found.done.sum()) < 4
    assert bool(found.effect[~found.done].isnan().all())
    assert "forward" not in vars(model.rnn)
    assert not model._forward_hooks


def test_nothing_of_the_model_is_different_afterwards() -> None:
    model = Couples("norm").train()
    x = torch.randn(2, 5, 3)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    versions = [p._version for p in model.parameters()]
    random = torch.get_rng_state()
    for method in ("exact", "gradient"):
        sweep(model, x, layer="rnn.l0", method=method)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [p._version for p in model.parameters()] == versions
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    assert model.training
    assert all("forward" not in vars(m) and not m._forward_hooks for m in model.modules())


def test_memory_decides_how_many_runs_there_are_at_a_time() -> None:
    model, x = nn.GRU(3, 8, batch_first=True), torch.randn(2, 5, 3)
    experiment = prepare(model, ((x,), {}), "l0", first_tensor)
    counts = [runs_at_once(experiment, memory, 99) for memory in (1, 20_000, 40_000, 2**28)]
    assert counts[0] == 1
    assert 1 < counts[1] < counts[2] < counts[3]
    assert runs_at_once(experiment, 2**28, 5) == 5
    seen: SimpleQueue[int] = SimpleQueue()  # what it holds is not put back behind a run

    def looked(module: nn.Module, args: Any) -> None:
        seen.put(len(args[0]))

    handle = model.register_forward_pre_hook(looked)
    some = sweep(model, x, layer="l0", memory=20_000)
    handle.remove()
    assert max(seen.get_nowait() for _ in range(seen.qsize())) <= 2 * (counts[1] + 1)
    torch.testing.assert_close(some.effect, sweep(model, x, layer="l0").effect)


MEASURE = """
import sys, torch
from torch import nn
import grulens
torch.set_num_threads(1)
class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(4, 16, batch_first=True)
    def forward(self, x):
        h = self.rnn(x)[0]
        return (h @ h.transpose(1, 2)).softmax(-1) @ h
def kilobytes(name):
    return int(next(l for l in open("/proc/self/status") if l.startswith(name)).split()[1])
model, x = Attends(), torch.randn(1, 1000, 4)
run = lambda units, memory: grulens.sweep(model, x, layer="rnn.l0", units=units, memory=memory,
    readout=lambda out: out[:, -1], progress=False)
run([0], 1)
open("/proc/self/clear_refs", "w").write("5")
before = kilobytes("VmRSS")
found = run(None, int(sys.argv[1]))
print(kilobytes("VmHWM") - before, found.batched)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux counts for us")
def test_memory_is_held() -> None:
    used = {}
    for megabytes in (48, 256):
        out = subprocess.run(
            [sys.executable, "-c", MEASURE, str(megabytes * 2**20)],
            capture_output=True, text=True, check=True,
            # what is freed goes back at once: else the allocator's own reserve is measured
            env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
        ).stdout.split()  # fmt: skip
        used[megabytes] = int(out[0]) / 1024
        assert out[1] == "True"
    # attention's weights, which only a measurement finds, are 8 MB a run
    assert 16 < used[48] <= 48
    assert 100 < used[256] <= 256


def test_gradient_knows_its_error() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.GRU(3, 24, batch_first=True))
    x = torch.randn(2, 12, 3)
    readout = lambda out: out[0][:, -1].sum()  # noqa: E731
    exact = sweep(model, x, layer="0.l0", readout=readout)
    found = sweep(model, x, layer="0.l0", readout=readout, method="gradient")
    assert found.method == "gradient"
    assert len(found.sample) == 16
    assert 0.5 < found.rank_correlation <= 1
    assert f"rank correlation with 16 exact effects {found.rank_correlation:.2f}" in repr(found)
    assert f"{found.rank_correlation:.2f}" in found._repr_html_()
    few = sweep(model, x, layer="0.l0", readout=readout, method="gradient", sample=5)
    assert few.sample == ((0,), (6,), (12,), (17,), (23,))
    torch.testing.assert_close(few.effect, found.effect)
    assert not torch.allclose(found.effect, exact.effect, rtol=1e-3)
    # an edit of h is affine, and so is this readout in the states of one step
    torch.testing.assert_close(found.direct, exact.direct, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("edit", ["h", "r", "z", "n", "pre r", "pre n", "two"])
@pytest.mark.parametrize("case", ["batch first", "packed", "decoder"])
def test_gradient_is_exact_for_small_edits(case: str, edit: str) -> None:
    tiny = 1e-7
    makes: dict[str, Callable[..., Any]] = {
        "h": lambda layer, unit: shift(layer, "h", unit, by=tiny),
        "r": lambda layer, unit: scale(layer, "r", unit, by=1 + tiny),
        "z": lambda layer, unit: scale(layer, "z", unit, by=1 + tiny, at=slice(1, 3)),
        "n": lambda layer, unit: scale(layer, "n", unit, by=1 + tiny),
        "pre r": lambda layer, unit: shift(layer, "r", unit, by=tiny),
        "pre n": lambda layer, unit: shift(layer, "n", unit, by=tiny, rows=0),
        "two": lambda layer, unit: [
            shift(layer, "h", unit, by=tiny), scale(layer, "h", unit, by=1 + tiny)
        ],
    }  # fmt: skip
    model, args, layers = CASES[case]()
    readout = lambda out: first_tensor(out).flatten()[-4:]  # noqa: E731
    for layer in layers:
        options = {"layer": layer, "make_edit": makes[edit], "readout": readout}
        exact = sweep(model, *args, **options)
        found = sweep(model, *args, **options, method="gradient")
        for name in ("effect", "direct"):
            one, other = getattr(found, name), getattr(exact, name)
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-11)


def hands_on(how: str) -> Callable[[Tensor], Tensor]:
    """Ways in which a loop hands its state on without its graph."""
    return {
        "detach": Tensor.detach,
        "data": lambda h: h.data,
        "through numpy": lambda h: torch.from_numpy(h.detach().numpy().copy()),
        "changed": lambda h: 0.5 * h.detach(),
    }[how]


class Truncated(nn.Module):
    """A loop whose graph is cut before one of its steps, or around all of them."""

    def __init__(self, cut: Callable[[Tensor], Tensor], where: str = "state") -> None:
        super().__init__()
        self.cut, self.where = cut, where
        self.cell, self.upper = nn.GRUCell(3, 5), nn.GRU(5, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        h, state = x.new_zeros(len(x), 5), None
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
            read = h
            if t == 2:
                h = self.cut(h) if self.where == "state" else h
                read = self.cut(h) if self.where == "input" else read
                state = self.cut(state) if self.where == "upper" else state
            y, state = self.upper(read[:, None], state)
        return self.cut(y[:, 0]) + 0 * h.sum() if self.where == "end" else y[:, 0]


READS = {
    "state": "what call 4 of layer 'cell' reads",
    "input": "what call 3 of layer 'upper.l0' reads",
    "upper": "what call 3 of layer 'upper.l0' reads",
}


@pytest.mark.parametrize("how", ["detach", "data", "through numpy", "changed"])
@pytest.mark.parametrize("where", READS)
def test_gradient_is_refused_where_the_model_cuts_its_graph(where: str, how: str) -> None:
    model, x = Truncated(hands_on(how), where).double(), rows(2, 6, 3)
    words = f"{READS[where]} moves with layer 'cell', .* without its graph.*; use method=\"exact\""
    with pytest.raises(RecordingError, match=words):
        sweep(model, x, layer="cell", method="gradient")
    exact = sweep(model, x, layer="cell")
    whole = Truncated(lambda h: 0.5 * h if how == "changed" else h, where).double()
    whole.load_state_dict(model.state_dict())
    torch.testing.assert_close(exact.effect, sweep(whole, x, layer="cell").effect)
    assert sweep(whole, x, layer="cell", method="gradient").rank_correlation > 0


def test_gradient_is_refused_where_the_readout_was_cut_off() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.GRU(3, 5, batch_first=True), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                h = self.rnn(x)[0]
            return self.head(h[:, -1])

    with pytest.raises(RecordingError, match=r"the readout moves with layer 'rnn.l0'"):
        sweep(Frozen(), torch.randn(2, 6, 3), layer="rnn.l0", method="gradient")


def test_gradient_takes_a_model_that_detaches_what_does_not_move() -> None:
    class Chooses(nn.Module):
        """Feeds its choice back, and reads a second sequence from a state of its own."""

        def __init__(self) -> None:
            super().__init__()
            self.embed, self.cell = nn.Embedding(7, 3), nn.GRUCell(3, 5)
            self.head = nn.Linear(5, 7)

        def forward(self, first: Tensor) -> Tensor:
            answers = []
            for _ in range(2):
                h, token = torch.zeros(len(first), 5), first
                for _ in range(5):
                    h = self.cell(self.embed(token), h)
                    token = self.head(h).argmax(1).detach()
                answers.append(self.head(h))
                first = (first + 1) % 7
            return torch.stack(answers)

    found = sweep(Chooses(), torch.tensor([1, 2]), layer="cell", method="gradient")
    assert found.method == "gradient"
    assert bool(found.effect.any())


def test_what_a_sweep_shows() -> None:
    model, x = double(nn.GRU(3, 12, batch_first=True)), rows(1, 5, 3)
    last = lambda out: out[0][:, -1, :2]  # noqa: E731
    found = sweep(model, x, layer="l0", readout=last, times=[0, 4])
    assert repr(found) == "Sweep('l0', 12 units, 2 times, readout (1, 2))"
    html = found._repr_html_()
    assert html.count("<tr>") == 11
    assert "the 10 largest of 12 units, over 2 times" in html
    frame = found.to_frame()
    assert list(frame.columns) == ["unit", "time", "output_1", "effect", "direct", "recurrent"]
    assert len(frame) == 12 * 2 * 2
    row = frame[(frame.unit == 3) & (frame.time == 4) & (frame.output_1 == 1)]
    assert row.effect.item() == pytest.approx(float(found.effect[3, 1, 0, 1]))
    groups = sweep(model, x, layer="l0", readout=last, units=[(0, 1), 5]).to_frame()
    assert set(groups.unit) == {(0, 1), 5}
    sizes = found.effect.abs().mean((1, 2, 3))
    assert found.order() == tuple(sizes.argsort(descending=True).tolist())
    assert found.order("direct") != found.order("recurrent")
    with pytest.raises(EditError, match="by must be one of effect, direct, recurrent, got 'size'"):
        found.order("size")
    nothing = sweep(model, x, layer="l0", units=[])
    assert nothing.effect.shape == (0, 1, 5, 12)
    assert nothing.order() == ()


def test_the_progress_bar_counts_runs(capsys: pytest.CaptureFixture[str]) -> None:
    model, x = nn.GRU(3, 4), torch.randn(5, 2, 3)
    grulens.sweep(model, x, layer="l0")
    assert "4/4" in capsys.readouterr().err
    sweep(model, x, layer="l0")
    assert capsys.readouterr().err == ""


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "layer": ({"layer": "l7"}, LayerError, "layer 'l7' is not in this model; it has l0"),
    "unit": ({"units": [4]}, PositionError, "unit 4 is out of range for layer 'l0', which has 4"),
    "group": ({"units": [(0, 9)]}, PositionError, "unit 9 is out of range for layer 'l0'"),
    "mask": ({"units": [True]}, PositionError, "a bool mask of 1 unit does not fit layer 'l0'"),
    "time": ({"times": 5}, PositionError, "time 5 is out of range for this run of layer 'l0'"),
    "no time": ({"times": []}, PositionError, r"times=\[\] names no time"),
    "method": ({"method": "guess"}, EditError, "method must be one of exact, gradient"),
    "memory": ({"memory": 0}, EditError, "memory must be a positive int, got 0"),
    "sample": ({"method": "gradient", "sample": 0}, EditError, "sample must be a positive int"),
    "no edit": (
        {"make_edit": lambda layer, unit: 3}, EditError,
        r"make_edit\('l0', 0\) must give an edit .* got 3",
    ),
    "another layer": (
        {"make_edit": lambda layer, unit: ablate("l1", unit)}, EditError,
        r"gave ablate\('l1', 0, to=0.0\), of another layer; expected 'l0'",
    ),
    "no tensor": (
        {"readout": lambda out: 3.0}, ReadoutError,
        "a readout must return a floating tensor, got float",
    ),
    "integers": (
        {"readout": lambda out: out[0].argmax(-1)}, ReadoutError,
        "a readout must return a floating tensor, got torch.int64",
    ),
    "no graph": (
        {"method": "gradient", "readout": lambda out: out[0].detach()}, ReadoutError,
        "needs a readout that gradients flow through",
    ),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_what_makes_no_sense_is_refused(bad: str) -> None:
    options, error, words = BAD[bad]
    with pytest.raises(error, match=words):
        sweep(nn.GRU(3, 4), torch.randn(5, 2, 3), **({"layer": "l0"} | options))


def test_a_readout_of_several_shapes_is_refused() -> None:
    calls = iter(range(99))
    with pytest.raises(ReadoutError, match=r"returned \(0,\) for the unedited run and \(\d+,\)"):
        sweep(
            nn.GRU(3, 4), torch.randn(5, 2, 3), layer="l0",
            readout=lambda out: torch.zeros(next(calls)),
        )  # fmt: skip


def test_an_edit_that_does_not_fit_is_refused_at_its_run() -> None:
    make = lambda layer, unit: ablate(layer, unit, at=unit + 3)  # noqa: E731
    with pytest.raises(PositionError, match="time 5 is out of range"):
        sweep(nn.GRU(3, 4), torch.randn(5, 2, 3), layer="l0", make_edit=make)


def test_each_edit_is_made_once() -> None:
    made = []

    def make(layer: str, unit: int) -> Any:
        made.append(unit)
        return ablate(layer, unit)

    layer = record(nn.GRU(3, 4), torch.randn(5, 2, 3))["l0"]
    grid = Grid.of(layer, None, None, make)
    for run in (0, 1, 0, 1):
        grid.edits(run)
    assert made == [0, 1]


def test_a_readout_that_is_zero_unedited_is_no_reason_to_go_one_by_one() -> None:
    """A divergence from the unedited answer: what is left of it there is rounding."""

    class Headed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.GRU(6, 96, batch_first=True), nn.Linear(96, 50)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0]).log_softmax(-1)

    model, x = Headed(), torch.randn(1, 41, 6)
    with torch.no_grad():
        before = model(x)

    def divergence(after: Tensor) -> Tensor:
        return (before.exp() * (before - after)).sum(-1).abs().mean()

    found = sweep(model, x, layer="rnn.l0", readout=divergence)
    assert found.baseline == 0
    assert found.batched
    assert found.effect.min() > 0
    # here the copy's rounding may be that of the run alone; where it is not, the effects say
    # what is large
    rounded, zero = torch.tensor(1e-9), torch.tensor(0.0)
    assert batched_runs._close(rounded, zero, float(found.effect.max()))
    assert not batched_runs._close(rounded, zero, 0.0)
