"""What is counted in words is what a count of the steps gives, by numpy and compiled."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from grulens.probing.corpus.scan import bits, compiled
from grulens.probing.corpus.scan.match import _best
from grulens.probing.corpus.scan.part import packed, unpacked
from tests.probing.corpus.scan.test_scan import LABELS, Reader, scan, texts


def words(on: np.ndarray) -> np.ndarray:
    """(unit, step) as (unit, window)."""
    return packed(on.T[None])[:, 0]


@pytest.mark.parametrize("count", [bits.levels, compiled.levels])
@pytest.mark.parametrize(("units", "least"), [(1, 1), (2, 1), (3, 2), (7, 7), (8, 3), (16, 16)])
def test_levels_are_counts_of_units(count: Any, units: int, least: int) -> None:
    rng = np.random.default_rng(0)
    on = rng.random((20, 64 * 5000)) < 0.7
    index = words(on)
    chosen = rng.permutation(20)[:units].tolist()
    found = count(index, chosen, [*range(least, units + 1)])
    many = on[chosen].sum(0)
    assert found.shape == (units + 1 - least, 5000)
    for level in range(len(found)):
        np.testing.assert_array_equal(unpacked(found[level]), many >= least + level)


@pytest.mark.parametrize("words_of", [bits, compiled])
@pytest.mark.parametrize("length", [1, 2, 5, 63, 64])
def test_what_lasts_stays_in_its_row(words_of: Any, length: int) -> None:
    rng = np.random.default_rng(1)
    windows = 2 * bits.BLOCK + 10
    on = rng.random(64 * windows) < 0.99 ** (5 / length)
    follows = rng.random(windows) < 0.8
    follows[[0, bits.BLOCK]] = False
    follows[2 * bits.BLOCK] = True
    mask = words(on[None])[0]
    row = np.repeat(np.cumsum(~follows), 64)
    padded = np.concatenate([on, np.zeros(length, bool)])
    rows = np.concatenate([row, np.full(length, -1)])
    lasts = np.ones(len(on), bool)
    for more in range(length):
        lasts &= padded[more : more + len(on)] & (rows[more : more + len(on)] == row)
    found = words_of.lasting(mask, length, follows)
    np.testing.assert_array_equal(unpacked(found), lasts)
    np.testing.assert_array_equal(bits.positions(found), np.flatnonzero(lasts))
    covered = np.zeros(len(on), bool)
    for more in range(length):
        covered[more:] |= lasts[: len(on) - more]
    np.testing.assert_array_equal(unpacked(words_of.spread(found, length, follows)), covered)
    before = np.concatenate([[False], on[:-1] & (row[1:] == row[:-1])])
    np.testing.assert_array_equal(unpacked(words_of.begun(mask, follows)), on & ~before)
    any_mask = words((rng.random(64 * windows) < 0.01)[None])[0]
    spread = np.zeros(len(on), bool)
    for more in range(length):
        same = row[more:] == row[: len(on) - more]
        spread[more:] |= unpacked(any_mask)[: len(on) - more] & same
    np.testing.assert_array_equal(unpacked(words_of.spread(any_mask, length, follows)), spread)


def test_the_last_step_before_is_found_over_any_number_of_words() -> None:
    on = np.zeros(64 * 40, bool)
    on[[0, 63, 64, 117, 118, 119, 1000, 64 * 40 - 1]] = True
    steps = np.arange(len(on))
    found = bits.last_before(words(on[None])[0], steps)
    np.testing.assert_array_equal(found, np.maximum.accumulate(np.where(on, steps, 0)))
    full = bits.last_before(words(np.ones((1, 128), bool))[0], np.arange(128))
    np.testing.assert_array_equal(full, np.arange(128))


@pytest.mark.parametrize("limit", [1, 7, 40, 10**6])
def test_the_best_places_are_the_first_of_all(tmp_path: Path, limit: int) -> None:
    torch.manual_seed(0)
    parts = [[text * 3 for text in inputs] for seed in range(4) for inputs in texts(seed)]
    made = scan(Reader(nn.LSTM).eval(), parts, tmp_path / "s", on=0.0, steps=100)
    every = made.match([0, 2, 3, 5], 2, at_least=1, limit=10**6)
    few = made.match([0, 2, 3, 5], 2, at_least=1, limit=limit)
    keys = [(-n, p.part, p.row, p.start) for n, p in zip(every.together, every.places, strict=True)]
    assert keys == sorted(keys)
    assert len(keys) == every.found == few.found > 100
    assert few.places == every.places[:limit]
    assert few.together == every.together[:limit]


@pytest.mark.parametrize("module", [bits, compiled])
@pytest.mark.parametrize("length", [1, 5, 64])
@pytest.mark.parametrize("often", [0.1, 0.9])  # few windows are looked at, or all
def test_the_places_with_the_most_units_on_are_those_of_a_count_of_all(
    module: Any, length: int, often: float
) -> None:
    rng = np.random.default_rng(2)
    windows, units = 600, 12
    share = np.repeat(np.where(rng.random(windows) < often, rng.random(windows), 0.01), 64)
    index = words(rng.random((units, 64 * windows)) < (share / 2) ** (1 / length))
    follows = rng.random(windows) < 0.8
    follows[0] = False
    chosen = rng.permutation(units)[:11].tolist()
    least = 3
    levels = bits.levels(index, chosen, range(least, 12))
    lasts = [bits.lasting(level, length, follows) for level in levels]
    begins = bits.positions(lasts[0] & bits.begun(levels[0], follows))
    place = np.searchsorted(begins, np.arange(64 * windows), side="right") - 1
    most = np.zeros(len(begins), int)
    for level, each in enumerate(lasts, least):
        most[place[unpacked(each)]] = level
    expected = sorted(zip((-most).tolist(), begins.tolist(), strict=True))
    assert len({many for many, _ in expected}) > 3
    for limit in (1, len(begins) // 2, len(begins), 10**6):
        found = _best(module, index, chosen, begins, lasts[0], least, length, follows, limit)
        assert found == [(-many, step) for many, step in expected[:limit]]


@pytest.mark.parametrize("module", [bits, compiled])
def test_planes_are_the_count_in_binary(module: Any) -> None:
    on = np.random.default_rng(4).random((9, 64 * (bits.BLOCK + 3))) < 0.8
    counted = module.planes(words(on), [8, 0, 3, 4, 1, 2, 5])
    many = on[[8, 0, 3, 4, 1, 2, 5]].sum(0)
    assert len(counted) == 3
    np.testing.assert_array_equal(sum(unpacked(one) << i for i, one in enumerate(counted)), many)
    assert bits.highest(counted) == many.max() == 7
    assert bits.highest(module.planes(words(on[:, :64] & False), [0, 1])) == 0


def test_a_stretch_holds_a_step_from_its_first_to_the_next_one_s() -> None:
    rng = np.random.default_rng(5)
    on = rng.random(64 * 50) < 0.02
    on[64 * 20 : 64 * 30] = False
    mask = words(on[None])[0]
    begins = np.flatnonzero(rng.random(len(on)) < 0.02)
    truth = [on[a:b].any() for a, b in zip(begins, [*begins[1:], len(on)], strict=True)]
    for windows in (np.arange(50), np.flatnonzero(mask)):
        found = bits.Stretches(begins, windows).hold(mask[windows])
        np.testing.assert_array_equal(found, truth)
        assert not bits.Stretches(begins, windows).hold(mask[windows] * np.uint64(0)).any()


def test_matches_are_the_same_with_numba_and_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = scan(Reader(nn.LSTM).eval(), texts(), tmp_path / "s", labels=LABELS, on=0.0)
    monkeypatch.setattr(bits, "find_spec", lambda name: None)
    assert bits.quickest(bits.PAYS) is bits
    plain = made.match([0, 3, 5], 4, at_least=2)
    monkeypatch.undo()
    monkeypatch.setattr(bits, "PAYS", 0)
    assert bits.quickest(0) is compiled
    fast = made.match([0, 3, 5], 4, at_least=2)
    assert fast.places == plain.places
    assert (fast.together, fast.found, fast.steps) == (plain.together, plain.found, plain.steps)
    assert fast.found > 3


def test_what_is_compiled_is_loaded_when_it_pays_and_used_once_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, bits.COMPILED)
    assert bits.quickest(bits.PAYS - 1) is bits
    assert bits.quickest(bits.PAYS).__name__ == bits.COMPILED
    assert bits.quickest(0).__name__ == bits.COMPILED


def test_what_is_compiled_is_ready_before_the_first_match(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = scan(Reader().eval(), texts(), tmp_path / "s", on=0.0)
    monkeypatch.delitem(sys.modules, bits.COMPILED)
    assert bits.ahead(bits.PAYS - 1) is None
    thread = bits.ahead(bits.PAYS)
    assert thread is not None
    assert thread.is_alive() or bits.COMPILED in sys.modules
    thread.join()
    assert bits.ahead(bits.PAYS) is None
    now = sys.modules[bits.COMPILED]
    functions = [now._levels, now._begun, now._lasting, now._spread]
    kinds = [list(one._made.signatures) for one in functions]
    assert made.match([0, 3, 5], 4, at_least=2).found > 3
    assert [list(one._made.signatures) for one in functions] == kinds  # none is compiled for it
