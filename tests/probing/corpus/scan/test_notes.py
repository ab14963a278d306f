"""Names and pins of units are kept with the scan; what is none, or cannot be kept, is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from grulens.corpus import Scan, open_scan, scan
from grulens.errors import ScanError


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
    ):
        with pytest.raises(ScanError, match=words):
            ask()
    assert made.names() == {}


def test_two_that_are_open_write_beside_each_other(made: Scan) -> None:
    other = open_scan(made.path)
    made.name(1, "a" * 100)
    other.pin(2)
    assert open_scan(made.path).names() == {1: "a" * 80}
    assert open_scan(made.path).pins() == (2,)


@pytest.mark.parametrize("held", ["[", '{"names": {"l0": [1]}}', '{"pinned": {"l0": ["a"]}}'])
def test_a_damaged_file_is_named(made: Scan, held: str) -> None:
    (made.path / "units.json").write_text(held)
    with pytest.raises(ScanError, match=r"units\.json is damaged.*Delete it"):
        open_scan(made.path)
