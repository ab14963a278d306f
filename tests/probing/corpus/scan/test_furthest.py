"""The windows that a scan keeps of each unit and label are those that go furthest, ties and all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy import ndarray

from grulens.corpus import Scan, open_scan
from grulens.corpus import scan as scanned
from grulens.errors import ScanError
from grulens.probing.corpus.scan import furthest as module
from grulens.probing.corpus.scan.furthest import Furthest, bound, places
from grulens.probing.corpus.scan.part import packed
from tests.probing.corpus.scan.test_begin import Scaled
from tests.probing.corpus.scan.test_damage import change

LABELS = {"two": lambda ids: ids == 2, "every": lambda ids: ids >= 0}


def scan(*args: Any, **kwargs: Any) -> Scan:
    return scanned(*args, progress=False, on=0.0, labels=LABELS, **kwargs)


@pytest.mark.parametrize("compiled", [False, True])
def test_what_is_kept_goes_furthest_and_comes_first(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = pytest.importorskip("grulens.probing.corpus.scan.compiled") if compiled else None
    monkeypatch.setattr(module, "KEPT", 4)
    monkeypatch.setattr(module, "SHARE", 1)
    rng = np.random.default_rng(0)
    found, seen, begun = Furthest(3, 2), [], 0
    for rows, steps in ((5, 150), (1, 64), (7, 30)):
        # few values, so that many windows go as far; some rows end early
        values = (rng.integers(-2, 3, (rows, steps, 3)) / 4).astype(np.float32)
        mask = np.arange(steps) < rng.integers(steps // 2, steps + 1, rows)[:, None]
        held = [(rng.random((rows, steps)) < share) & mask for share in (0.05, 0.9)]
        held[1][0] = mask[0]  # at all steps
        words = packed(np.stack([*held, mask], -1))
        order = rng.permutation(40)[:rows]
        spans = words.shape[-1]
        first = begun + np.arange(rows) * spans
        begun += rows * spans
        by = places(order // 7, order % 7)
        found.add(values[..., :], words[:-1], words[-1], by, first, fast)
        seen += [
            (label, unit, row, span, values, held[label], mask, by, first)
            for label in range(2) for unit in range(3) for row in range(rows)
            for span in range(spans)
        ]  # fmt: skip
    number = rng.permutation(begun)
    written = found.written(number)
    assert written is not None
    far, at = written
    assert far.shape == (3, 2, 2, 4)
    for label in range(2):
        for unit in range(3):
            for end, sign in ((0, 1), (1, -1)):
                every = []
                for one, other, row, span, values, held_at, mask, by, first in seen:
                    cut = slice(span * 64, span * 64 + 64)
                    inside = held_at[row, cut]
                    if (one, other) == (label, unit) and inside.any():
                        if (inside == mask[row, cut]).all():
                            continue
                        best = (sign * values[row, cut, unit][inside]).max()
                        every.append((-best, by[row], first[row] + span))
                expected = sorted(every)[:4]
                assert len(expected) == 4
                assert far[unit, label, end].tolist() == [-sign * value for value, _, _ in expected]
                assert at[unit, label, end].tolist() == [
                    number[window] for _, _, window in expected
                ]
                assert not np.signbit(far[far == 0]).any()


@pytest.fixture
def parts() -> list[Any]:
    """Rows of several lengths, of which many are the same, so that as many windows go as far."""
    torch.manual_seed(3)
    one, other = torch.randint(5, (300,)), torch.randint(5, (130,))
    return [[other, one, other[:70], one], [one[:200], torch.randint(5, (900,)), one], [other]]


def test_a_top_is_the_same_with_what_is_kept_and_by_runs(
    parts: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, way = Scaled().eval(), {"way": torch.tensor([1.0, -1.0, 0.5, 0.0])}
    made = []
    for share in (2, 1000):
        monkeypatch.setattr(module, "KEPT", 3)
        monkeypatch.setattr(module, "SHARE", share)
        made.append(scan(model, parts, tmp_path / str(share), directions=way, batch=3))
    kept, plain = made
    assert (kept.parts[0].place / "0" / "furthest.npy").exists()
    assert not (kept.parts[2].place / "0" / "furthest.npy").exists()  # too short for any
    assert not (plain.parts[0].place / "0" / "furthest.npy").exists()
    asked: tuple[tuple[int | str, str], ...] = ((0, "high"), ("way", "low"))
    for unit, end in asked:
        every = plain.top(unit, 60, where="two", end=end)
        far = dict(zip(every.places, every.values, strict=True))
        found = kept.top(unit, 7, where="two", end=end)
        # of windows that go as far, a run of others may make another one go further
        np.testing.assert_allclose(found.values, every.values[:7], atol=1e-5)
        np.testing.assert_allclose(found.values, [far[at] for at in found.places], atol=1e-5)
        assert (len({*found.places}), found.windows) == (7, every.windows)


def test_what_is_kept_needs_no_run(
    parts: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT", 3)
    monkeypatch.setattr(module, "SHARE", 2)
    made = scan(Scaled().eval(), parts[:2], tmp_path / "s", batch=3)
    alone = open_scan(tmp_path / "s")
    found = alone.top(1, 3, where="two")
    assert found.values == made.top(1, 3, where="two").values
    # of two that go as far the first of the corpus comes first: the rows are the same
    keys = [(-v, p.part, p.row, p.start) for v, p in zip(found.values, found.places, strict=True)]
    assert keys == sorted(keys)
    with pytest.raises(ScanError, match="windows are run again, which takes the model"):
        alone.top(1, 60, where="two")
    file = made.parts[0].place / "0" / "furthest_at.npy"
    change(file, file.stat().st_size - 1)
    with pytest.raises(ScanError, match=r"0/furthest_at\.npy has changed"):
        open_scan(tmp_path / "s").top(3, 3, where="two")


def test_one_that_was_not_kept_comes_after_the_last_that_was() -> None:
    far = np.array([3.0, 2.0, 2.0, 1.5], np.float32)
    cut = np.array([True, True, True, False])
    kept: tuple[ndarray, ndarray] = np.array([1.0], np.float32), np.array([2], np.int32)
    found, known, after = bound(far, cut, np.float32(1), kept)
    assert found.tolist() == [1.0, 1.0, 1.0, 1.5]
    assert known.tolist() == [False, False, True, False]
    assert after.tolist() == [2, 2, 2, 3]
    few: tuple[ndarray, ndarray] = np.array([1.0, 9.0], np.float32), np.array([2, -1], np.int32)
    assert bound(far, cut, np.float32(1), few)[0].tolist() == [3.0, 2.0, 1.0, 1.5]


@pytest.mark.parametrize(("kind", "said"), [(torch.float32, ""), (torch.bfloat16, "to 0.03")])
def test_that_half_precision_is_rounded_otherwise_in_a_run_again_is_said(
    kind: torch.dtype, said: str, tmp_path: Path
) -> None:
    model = Scaled().to(kind).eval()
    ids = torch.randint(5, (90,), generator=torch.Generator().manual_seed(0))
    made = scan(model, [ids], tmp_path / "s")
    ran, known = made.top(0, k=2, where="two"), made.top(0, k=2)
    assert (known.near, known.note) == (0, "")
    assert ran.near == (0.001 if kind is torch.float32 else 0.03)
    assert said in ran.note
    assert bool(ran.note) == bool(said)
    assert ("values to 0.03" in repr(ran)) == bool(said)
    assert ("either may come first" in ran._repr_html_()) == bool(said)
