"""Names and pins of units are kept with the scan; what is none, or cannot be kept, is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

from grulens.corpus import Scan, open_scan, scan
from grulens.errors import ScanError
from grulens.probing.corpus.scan.notes import Notes


@pytest.fixture
def made(tmp_path: Path) -> Scan:
    model = nn.GRU(3, 4, batch_first=True)
    return scan(model, [torch.randn(1, 9, 3)], tmp_path / "s", progress=False)


@pytest.mark.unchecked
def test_what_is_no_name_and_no_unit_is_refused(made: Scan) -> None:
    for ask, words in (
        (lambda: made.name(4, "a"), "unit 4 is none of layer 'l0'"),
        (lambda: made.name(0, 3), "the name of a unit is a text, got 3"),
        (lambda: made.pin(0, "yes"), "True or False, got 'yes'"),
        (lambda: made.names("x"), "layer 'x' was not scanned"),
        (lambda: made.name(0, "\ud800"), "cannot be written"),
        (lambda: made.name("x", "a"), "direction 'x' of layer 'l0' was not scanned"),
        (lambda: made.contexts(3), "places are a list"),
    ):
        with pytest.raises(ScanError, match=words):
            ask()
    assert made.names() == {}


def test_two_that_are_open_see_what_the_other_writes(made: Scan) -> None:
    other = open_scan(made.path)
    made.name(1, "a" * 80)
    assert other.names() == {1: "a" * 80}
    other.pin(2)
    assert made.pins() == open_scan(made.path).pins() == (2,)
    other.name(1, "")
    (made.path / "units.json").unlink()
    assert (made.names(), made.pins()) == ({}, ())


def test_a_name_that_is_too_long_is_refused_and_not_cut(made: Scan) -> None:
    made.name(1, f" {'a' * 80}  ")
    with pytest.raises(ScanError, match=r"80 characters at most, and this one has 81: 'b+.*Give a"):
        made.name(1, "b" * 81)
    assert made.names() == {1: "a" * 80}


def test_a_direction_has_a_name_of_its_own_and_places_run_again_side_by_side(
    tmp_path: Path,
) -> None:
    model, x = nn.GRU(3, 4, batch_first=True), [torch.randn(2, 300, 3) for _ in range(2)]
    weights = {"2": torch.ones(4)}
    made = scan(model, x, tmp_path / "s", directions=weights, progress=False)
    made.name("2", "all")
    made.name(2, "one")
    made.pin("2")
    assert (made.names(), made.pins()) == ({2: "one", "2": "all"}, ("2",))
    places = made.top("2", 7).places
    found = made.contexts(places, "2")
    for one, place in zip(found, places, strict=True):
        h = model(x[place.part])[0].detach()[place.batch_row, place.start : place.stop]
        assert torch.allclose(torch.tensor(one.values), h.sum(-1), atol=1e-4)
    assert made.contexts([]) == ()


@pytest.mark.parametrize("held", ["[", '{"names": {"l0": [1]}}', '{"pinned": {"l0": ["a"]}}'])
def test_a_damaged_file_is_named_and_stops_no_question(made: Scan, held: str) -> None:
    made.name(1, "up")
    file = made.path / "units.json"
    whole = file.read_text()
    file.write_text(held)
    with pytest.warns(UserWarning, match=r"units\.json, .* is damaged.* or delete it\. Until then"):
        again = open_scan(made.path)
    assert (again.names(), again.pins()) == ({}, ())
    assert again.stats().steps == 9
    with pytest.warns(UserWarning, match="is damaged"):
        assert made.names() == {1: "up"}  # what it was before, to the one who saw it
    for note in (lambda: again.name(2, "down"), lambda: made.pin(2)):
        with pytest.raises(ScanError, match=r"units\.json, .* is damaged"):
            note()
    assert file.read_text() == held
    file.write_text(whole)
    again.name(2, "down")
    assert made.names() == {1: "up", 2: "down"}


def test_names_that_are_given_at_once_are_all_kept(tmp_path: Path) -> None:
    others = [Notes(tmp_path) for _ in range(4)]

    def give(at: int) -> None:
        for unit in range(at, 40, len(others)):
            others[at].name("l0", unit, f"named {unit}")

    with ThreadPoolExecutor(len(others)) as pool:
        [*pool.map(give, range(len(others)))]
    assert Notes(tmp_path).names("l0") == {unit: f"named {unit}" for unit in range(40)}
