"""Half-lives, saturation and histograms against plain loops, over every form of recording."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from grulens import clamp, record, scale
from grulens.cells.memory.timescales import half_life
from grulens.errors import GrulensError, LayerError, PositionError, RecordingError, SignalError
from grulens.models.recording import LayerRecording
from grulens.probing.memory.timescales import Timescales, timescales
from grulens.probing.units.statistics import neurons
from tests.drawn import cases


def steps_until_half(z: float) -> float:
    """One number at a time, with its two special cases written out."""
    return math.inf if z >= 1 else 0.0 if z <= 0 else math.log(0.5) / math.log(z)


def agrees(found: Timescales, layer: LayerRecording, rows: list[int], edges: list[float]) -> None:
    """Every number of `found`, counted step by step."""
    for unit in range(layer.shape[2]):
        seen: dict[str, list[float]] = {"r": [], "z": []}
        for row in rows:
            for step in range(layer.shape[1]):
                if layer.mask[row, step]:
                    for gate, values in seen.items():
                        values.append(float(layer.signal(gate)[row, step, unit]))
        assert found.steps == len(seen["z"])
        mean = math.fsum(seen["z"]) / len(seen["z"])
        assert float(found.half_life[unit]) == pytest.approx(steps_until_half(mean), rel=1e-9)
        for place, share in enumerate(found.quantiles):
            at = float(np.quantile(seen["z"], share))
            want = steps_until_half(at)
            assert float(found.spread[unit, place]) == pytest.approx(want, rel=1e-9)
        for gate, values in seen.items():
            for word, count in (
                ("low", sum(v < found.low for v in values)),
                ("high", sum(v > found.high for v in values)),
            ):
                got = float(getattr(found, f"{gate}_{word}")[unit])
                assert got == pytest.approx(count / len(values), abs=1e-15)
            histogram = getattr(found, f"{gate}_counts")[unit]
            inner = [sum(low <= v < high for v in values) for low, high in edges]
            inner[-1] += sum(v == 1 for v in values)
            assert histogram.tolist() == inner
    total = found.z_counts.sum(0).double()
    assert torch.equal(found.histogram("z"), total / total.sum())


@settings(max_examples=25, deadline=None)
@given(cases(dtypes=(torch.float64,)), st.data())
def test_every_number_is_that_of_a_loop(case: Any, data: st.DataObject) -> None:
    """Packed rows, reverse layers, all thresholds; padding never counts."""
    low, high = sorted(data.draw(st.tuples(st.floats(0, 1), st.floats(0, 1))))
    bins = data.draw(st.sampled_from([1, 2, 4, 8]))
    edges = [(i / bins, (i + 1) / bins) for i in range(bins)]
    row = data.draw(st.none() | st.integers(0, len(case.rows) - 1))
    rows = list(range(len(case.rows))) if row is None else [row]
    for layer in record(case.module, *case.args).values():
        found = timescales(layer, rows=row, low=low, high=high, bins=bins)
        assert torch.equal(found.edges[:-1], torch.tensor([a for a, _ in edges]).double())
        agrees(found, layer, rows, edges)


def test_several_calls_are_one_run() -> None:
    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.zeros(len(x), 3, dtype=x.dtype)
            for t in range(x.shape[1]):
                h = self.cell(x[:, t], h)
            return h

    layer = record(Decoder().double(), torch.randn(2, 7, 2).double())["cell"]
    agrees(timescales(layer, bins=2), layer, [0, 1], [(0, 0.5), (0.5, 1)])


def test_gates_at_their_ends_are_exact() -> None:
    ends = torch.tensor([0.0, 1.0, 0.5, -0.25, 1.5, float("nan")])
    assert half_life(ends).tolist()[:5] == [0.0, math.inf, 1.0, 0.0, math.inf]
    assert half_life(ends)[5].isnan()
    model, x = nn.GRU(2, 3, batch_first=True), torch.randn(2, 6, 2)
    held = record(model, x, edits=[clamp("l0", "z", 0, value=1.0), clamp("l0", "z", 1, value=0.0)])
    found = timescales(held)
    assert found.half_life[:2].tolist() == [math.inf, 0.0]
    assert found.spread[0].tolist() == [math.inf] * 3
    assert found.spread[1].tolist() == [0.0] * 3
    assert found.z_counts[0].tolist() == [0] * 19 + [12]
    assert found.z_counts[1].tolist() == [12] + [0] * 19
    assert (found.z_high[0], found.z_low[1]) == (1.0, 1.0)
    assert neurons(held["l0"]).half_life[:2].tolist() == [math.inf, 0.0]
    # half of the time held, half of it let go: the median lies between, and is finite
    shut = clamp("l0", "z", value=0.0, at=[0, 1, 2])
    mixed = record(model, x, edits=[clamp("l0", "z", value=1.0), shut])
    assert timescales(mixed, quantiles=[0.5]).spread.tolist() == [[1.0]] * 3
    beyond = timescales(record(model, x, edits=scale("l0", "z", by=9.0)))
    assert int(beyond.z_counts.sum()) == 36


@pytest.mark.filterwarnings("ignore::grulens.errors.NonFiniteWarning")
def test_nan_is_counted_in_no_part_and_stays() -> None:
    model, x = nn.GRU(2, 3, batch_first=True), torch.randn(1, 4, 2)
    x[0, 3] = float("nan")
    found = timescales(record(model, x))
    assert found.z_counts.sum(1).tolist() == [3, 3, 3]
    assert bool(found.half_life.isnan().all() and found.spread.isnan().all())


def test_a_result_says_what_it_is() -> None:
    torch.manual_seed(0)
    run = record(nn.GRU(2, 12, num_layers=2), torch.randn(5, 3, 2))
    found = timescales(run, "l1", quantiles=(0.25, 1))
    assert repr(found) == "Timescales('l1', 12 units, 15 steps)"
    frame = found.to_frame()
    assert list(frame) == [
        "half_life", "half_life_0.25", "half_life_1", "r_low", "r_high", "z_low", "z_high",
    ]  # fmt: skip
    assert frame.index.name == "unit"
    html = found._repr_html_()
    assert "l1: the 10 of 12 units with the longest half-lives" in html
    assert html.index(f"<td>{int(found.half_life.argmax())}</td>") < html.index("</tr><tr>", 300)
    one, other = found.histogram("r", 3), found.histogram("r", [3, 4])
    assert not torch.equal(one, other)
    assert torch.equal(found.histogram("r", []), torch.zeros(20).double())


def test_what_does_not_fit_is_named() -> None:
    run = record(nn.GRU(2, 3, num_layers=2), torch.randn(5, 1, 2))
    with pytest.raises(RecordingError, match="say which layer: l0, l1"):
        timescales(run)
    with pytest.raises(LayerError, match="layer 'l2' is not in this recording; it has l0, l1"):
        timescales(run, "l2")
    with pytest.raises(PositionError, match=r"rows=\[\] leaves no step of layer 'l0'"):
        timescales(run, "l0", rows=[])
    with pytest.raises(SignalError, match="gate must be one of r, z, got 'n'"):
        timescales(run, "l0").histogram("n")
    for option in ({"low": "x"}, {"high": float("nan")}, {"quantiles": [2]}, {"quantiles": 0.5}):
        with pytest.raises(GrulensError, match=r"must be (a finite number|numbers in)"):
            timescales(run, "l0", **option)
    for bins in (0, True, 2.0, 1001):
        with pytest.raises(GrulensError, match="bins must be an int from 1 to 1000"):
            timescales(run, "l0", bins=bins)
