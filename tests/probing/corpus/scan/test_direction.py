"""A direction of a layer's state space is counted and found as a unit is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from grulens.errors import ScanError
from grulens.probing.corpus.scan.scanned import open_scan
from tests.probing.corpus.scan.test_scan import LABELS, Reader, scan, texts

ONE, TWO = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0, 1.0]), np.array([0, 0, 0, 1, 0, 0])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("scan") / "s"
    return scan(
        Reader().eval(), texts(), out, labels=LABELS, directions={"one": ONE, "two": TWO}, steps=150
    )


def values(made: Any) -> list[tuple[Any, np.ndarray]]:
    """The states along `ONE` of all rows, run again."""
    found = []
    for part in made.parts:
        for row in range(len(part.rows)):
            place = made.row_of(part.in_row(row, 0, 1))
            again = made.replay(place).recording[made.layers[0]].h[0]
            found.append((place, (again.double() @ ONE.double()).numpy()))
    return found


def test_a_direction_is_counted_as_a_unit_is(made: Any) -> None:
    assert made.directions == {"rnn.l0": ("one", "two")}
    found, every = made.stats(signal="directions"), np.concatenate([v for _, v in values(made)])
    assert found.mean.shape == (2,)
    assert found.on_together is None
    np.testing.assert_allclose(found.mean[0], every.mean(), atol=1e-5)
    np.testing.assert_allclose(found.std[0], every.std(), atol=1e-5)
    low, high = found.quantile(0.5)[:, 0]
    assert low - 1e-5 <= np.quantile(every, 0.5, method="inverted_cdf") <= high + 1e-5
    # one that is a unit has its numbers
    np.testing.assert_allclose(found.mean[1], made.stats().mean[3], atol=1e-6)
    units = made.stats()
    apart = (found.auc[:, 1] - units.auc[:, 3]).abs()
    assert bool((apart <= found.half_width[:, 1] + units.half_width[:, 3] + 1e-12).all())
    assert list(made.manifest.layers[0].directions[0].weights) == ONE.tolist()


@pytest.mark.parametrize("end", ["high", "low"])
@pytest.mark.parametrize("where", [None, "space", "after_dot"])
def test_the_windows_where_a_direction_goes_furthest(made: Any, end: str, where: str) -> None:
    sign = 1 if end == "high" else -1
    far = []
    for place, along in values(made):
        held = np.ones(len(along), bool)
        if where is not None:
            held = made.holds(place).numpy()[made.labels.index(where)]
        for start in range(0, len(along), 64):
            window = sign * along[start : start + 64][held[start : start + 64]]
            if len(window):
                far.append(window.max())
    found = made.top("one", 7, end=end, where=where)
    assert (found.windows, found.unit) == (len(far), "one")
    np.testing.assert_allclose(sign * np.array(found.values), sorted(far)[::-1][:7], atol=1e-5)
    assert repr(found).startswith("Top('rnn.l0', direction 'one', 7 windows")
    place = found.places[0]
    if where is None:
        again = made.context(place, "one").values
        assert (max(again) if end == "high" else min(again)) == pytest.approx(found.values[0])
        ends = made.extremes(place, "one")[:, 0].tolist()
        assert ends[end == "high"] == found.values[0]


def test_other_directions_need_another_folder(made: Any, tmp_path: Path) -> None:
    assert open_scan(made.path).top("two", 3).values == made.top(3, 3).values
    with pytest.raises(ScanError, match=r"made otherwise: directions \(their vectors or names"):
        scan(made.model, texts(), made.path, labels=LABELS, directions={"one": ONE}, steps=150)


def test_several_layers_say_of_which_a_direction_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.GRU(2, 3, num_layers=2, batch_first=True).eval()
    parts = [torch.randn(2, 70, 2)]
    made = scan(model, parts, tmp_path / "s", directions={"l0": {"up": [1, 1, 0]}})
    assert made.directions == {"l0": ("up",)}
    assert made.top("up", 2, layer="l0").places
    with pytest.raises(ScanError, match="'up' of layer 'l1' was not scanned; what was is none"):
        made.top("up", 2, layer="l1")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"a": [1.0, 2.0]}, r"direction 'a' has shape \(2,\), layer 'rnn.l0' has units \(6,\)"),
        ({"a": [0.0] * 6}, "must be finite, and not 0 everywhere"),
        ({"a": [float("inf")] * 6}, "must be finite"),
        ({"a": "abc"}, "must be numbers, got 'abc'"),
        ({"a": object()}, "must be numbers"),
        ({"": [1.0] * 6}, "the name of a direction is a text"),
        ({3: [1.0] * 6}, "the name of a direction is a text"),
        ({}, "directions must be vectors"),
        ([1.0] * 6, "directions must be vectors"),
        ({"x": {"a": [1.0] * 6}}, "layer 'x' is not scanned"),
    ],
)
def test_what_is_no_direction_is_refused(tmp_path: Path, given: Any, words: str) -> None:
    with pytest.raises(ScanError, match=words):
        scan(Reader().eval(), texts()[:1], tmp_path / "s", directions=given)
    assert not (tmp_path / "s" / "scan.json").exists()


def test_a_scan_of_several_layers_asks_of_which_layer(tmp_path: Path) -> None:
    model = nn.GRU(2, 3, num_layers=2, batch_first=True).eval()
    with pytest.raises(ScanError, match="several layers are scanned, so say of which"):
        scan(model, [torch.randn(1, 5, 2)], tmp_path / "s", directions={"a": [1.0, 1.0, 1.0]})
