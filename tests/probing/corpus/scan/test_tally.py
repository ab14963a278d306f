"""What is counted block by block is what a count of all values gives, by numpy and compiled."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]
from torch import nn

from grulens.errors import ScanError
from grulens.probing.corpus.scan import bits, compiled
from grulens.probing.corpus.scan import tally as module
from grulens.probing.corpus.scan.bits import COMPILED
from grulens.probing.corpus.scan.codes import Code
from grulens.probing.corpus.scan.found_by import label_columns
from grulens.probing.corpus.scan.part import packed
from grulens.probing.corpus.scan.tally import Combinations, Tally
from tests.probing.corpus.scan.test_scan import LABELS, Reader, same, scan, texts


@dataclass(frozen=True)
class Signal:
    name: str
    low: float
    high: float


def installed(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    """Have everything compiled from the first value on, or nothing, as if numba were not there."""
    monkeypatch.setattr(module, "PAYS", 0)
    monkeypatch.setattr(module, "find_spec", lambda name: name if there else None)
    assert (module.compiled(0) is None) == (not there)


def run(
    values: np.ndarray, mask: np.ndarray, labels: list[np.ndarray], bounds: tuple[float, float]
) -> tuple[Any, dict[str, np.ndarray]]:
    """Statistics and index of one run, given twice."""
    names = [str(i) for i in range(len(labels))]
    counts = Tally("l0", Signal("h", *bounds), values.shape[-1], names, 0.1)
    combinations = Combinations(len(labels), counts.room)
    for _ in range(2):
        found = counts.add(values, mask, combinations.of(labels, mask))
    return counts.statistics(combinations), found


def case(rows: int, steps: int, full: bool) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(steps)
    values = np.tanh(rng.standard_normal((steps, rows, 5)) * 3).astype(np.float32)
    lengths = rng.integers(1, steps + 1, rows)
    mask = np.arange(steps) < (np.full((rows, 1), steps) if full else lengths[:, None])
    labels = [mask & (rng.random(mask.shape) < share) for share in (0.5, 0.1, 0.9)]
    return values.transpose(1, 0, 2), mask, labels  # as torch gives them: steps first


@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (-np.inf, np.inf)])
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize(("rows", "steps"), [(1, 1), (3, 200), (1, 1500), (40, 64), (17, 130)])
@pytest.mark.parametrize("fast", [True, False])
def test_blocks_are_all_values(
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
    steps: int,
    full: bool,
    bounds: tuple[float, float],
    fast: bool,
) -> None:
    installed(monkeypatch, fast)
    values, mask, labels = case(rows, steps, full)
    if bounds[0] == -np.inf:
        values[..., :2] *= values[..., :2] > 0  # as a relu: 0, and -0
    stats, found = run(values, mask, labels, bounds)
    h = np.concatenate([values[mask]] * 2)
    assert stats.steps == len(h)
    np.testing.assert_allclose(stats.mean, h.mean(0, dtype=float), atol=1e-6)
    np.testing.assert_allclose(stats.covariance, np.cov(h.T, bias=True), atol=1e-6)
    on = (h > np.float32(0.1)).astype(int)
    assert torch.equal(stats.on_together, torch.from_numpy(on.T @ on))
    codes = Code(*bounds).of(values)
    for counts, held in zip(stats.counts, [mask, *labels], strict=True):
        for unit in range(5):
            exact = 2 * np.bincount(codes[held][:, unit], minlength=Code(*bounds).bins)
            np.testing.assert_array_equal(counts[unit], exact)
    np.testing.assert_array_equal(found["on"], packed((values > 0.1) & mask[..., None]))
    for name, worst, pick in (("low", np.inf, np.minimum), ("high", -np.inf, np.maximum)):
        windows = range(0, steps, 64)
        whole = np.where(mask[..., None], values, np.float32(worst))
        ends = np.stack([pick.reduce(whole[:, i : i + 64], axis=1) for i in windows], -1)
        np.testing.assert_array_equal(found[name], ends.transpose(1, 0, 2))


def test_a_scan_is_the_same_bit_for_bit_with_numba_and_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Reader(nn.LSTM, num_layers=2).eval()
    made = []
    for fast in (True, False):
        installed(monkeypatch, fast)
        out = tmp_path / str(fast)
        made.append(scan(model, texts(), out, labels=LABELS, gates=True, batch=2))
    for layer in made[0].layers:
        assert same(made[0].stats(layer), made[1].stats(layer))
    files = [
        {str(file.relative_to(one.path)): file.read_bytes() for file in one.path.rglob("*.*")
         if file.is_file()}
        for one in made
    ]  # fmt: skip
    assert files[0] == files[1]


def test_what_is_compiled_is_loaded_when_it_pays_and_used_once_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, COMPILED)
    assert module.compiled(module.PAYS - 1) is None
    assert module.compiled(module.PAYS).__name__ == COMPILED
    assert module.compiled(0).__name__ == COMPILED


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("far", [1e4, 1e29])
@pytest.mark.parametrize("first", [True, False])
def test_one_value_far_from_all_others_leaves_the_moments_right(
    monkeypatch: pytest.MonkeyPatch, fast: bool, far: float, first: bool
) -> None:
    installed(monkeypatch, fast)
    values = np.random.default_rng(0).standard_normal((1, 3000, 3)).astype(np.float32)
    values[0, 1500 if first else 7, 0] = far  # that by which all are measured, or another
    stats, _ = run(values, np.ones((1, 3000), bool), [], (-np.inf, np.inf))
    h = np.concatenate([values[0]] * 2).astype(float)
    np.testing.assert_allclose(stats.covariance, np.cov(h.T, bias=True), rtol=1e-5)
    np.testing.assert_allclose(stats.std, h.std(0), rtol=1e-6)


def test_numba_that_cannot_be_imported_is_said_and_numpy_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(name: str) -> Any:
        raise ImportError("Numba needs NumPy 2.2 or less")

    monkeypatch.setattr(bits, "import_module", broken)
    monkeypatch.setattr(bits, "_broken", [])
    monkeypatch.setattr(module, "PAYS", 0)
    with pytest.warns(UserWarning, match=r"cannot be imported \('Numba needs .*numpy counts"):
        assert module.compiled(0) is None
    assert bits.quickest(bits.PAYS) is bits  # without a word: it has been said


def test_what_cannot_be_kept_on_disk_is_compiled_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def njit(**options: Any) -> Any:
        asked.append(options.get("cache", False))
        if asked[-1]:
            raise RuntimeError("no locator available")
        return numba.njit(**options)

    monkeypatch.setattr(compiled, "njit", njit)
    found = np.zeros((2, 2), np.int64)
    compiled.Compiled(compiled._both)(np.array([[3], [6]], np.uint64), found)
    assert asked == [True, False]
    assert found.tolist() == [[2, 1], [0, 2]]


def test_labels_in_more_combinations_than_there_is_room_for_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    values, mask, _ = case(3, 200, False)
    labels = [mask & (rng.random(mask.shape) < 0.5) for _ in range(40)]
    plenty, _ = run(values, mask, labels, (-1.0, 1.0))
    monkeypatch.setattr(module, "MOST", 5 * 804 * 4 * 7)
    few, _ = run(values, mask, labels, (-1.0, 1.0))
    assert torch.equal(few.counts, plenty.counts)
    for label, counts in zip(labels, few.counts[1:], strict=True):
        assert counts.sum(-1).tolist() == [2 * label.sum()] * 5


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_where_there_is_a_step(wrong: float) -> None:
    values, mask, labels = case(3, 200, False)
    values = values.copy()
    assert not mask[:, -1].all()
    values[~mask] = wrong  # no step is there
    run(values, mask, labels, (-1.0, 1.0))
    values[0, 0, 3] = wrong
    with pytest.raises(ScanError, match="signal 'h' of layer 'l0' is NaN or infinite"):
        run(values, mask, labels, (-1.0, 1.0))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (-np.inf, np.inf)])
def test_a_unit_that_never_moves_ties_and_one_that_hardly_does_is_not_known(
    monkeypatch: pytest.MonkeyPatch, bounds: tuple[float, float], fast: bool
) -> None:
    installed(monkeypatch, fast)
    values = np.zeros((2, 130, 6), np.float32)
    values[..., 1] = np.float32(0.3)
    values[:, ::2, 2] = 1e-30  # whose square is 0
    values[..., 3] = np.where(np.arange(130) % 3, -1e-28, 1e-28)
    values[..., 4] = np.float32(0.9)
    values[1, 7, 4] = np.nextafter(np.float32(0.9), np.float32(1))
    held = np.arange(130) % 2 == np.zeros((2, 1))
    values[..., 5] = np.where(held, 0.7, -0.7) + np.arange(130) / 500
    mask, labels = np.ones((2, 130), bool), [held, np.zeros_like(held)]
    stats, _ = run(values, mask, labels, bounds)
    for found in (stats, stats + stats):
        assert found.still.tolist() == [True, True, False, False, False, False]
        assert found.auc[0, :2].tolist() == [0.5, 0.5]
        assert found.half_width[0, :2].tolist() == [0, 0]
        assert found.auc[1].isnan().all()
        assert found.half_width[1].isnan().all()
        for unit in range(2, 6):
            exact = roc_auc_score(held.ravel(), values[..., unit].ravel())
            assert abs(float(found.auc[0, unit]) - exact) <= float(found.half_width[0, unit])
    moved, _ = run(values + np.float32(0.5), mask, labels, (-np.inf, np.inf))
    if not np.isfinite(bounds[0]):  # two parts in which it stands still, each elsewhere
        assert not (stats + moved).still.any()
    columns = label_columns(stats)
    assert columns["found_by"][:2].tolist() == ["", ""]
    assert columns["found_by"][5] == "0"
