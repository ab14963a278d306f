"""Numbers are taken as people have them; what is no number is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from grulens.corpus import automaton, probe, scan
from grulens.errors import AutomatonError, ScanError
from grulens.probing.corpus.numbers import as_number, as_whole


@pytest.mark.parametrize("one", [3, np.int64(3), np.array(3), torch.tensor(3)])
def test_whole_numbers_of_any_kind_are_taken(one: Any) -> None:
    assert as_whole(one) == 3
    assert as_number(one) == 3.0


@pytest.mark.parametrize(
    "one",
    [True, np.bool_(True), np.array(True), torch.tensor(True), "3", None, [3], np.array([3]),
     torch.tensor([3]), 3.0, np.float64(3), torch.tensor(3.0)],
)  # fmt: skip
def test_what_is_no_whole_number_is_none(one: Any) -> None:
    assert as_whole(one) is None


@pytest.mark.parametrize("one", [True, torch.tensor(True), np.bool_(True), "1", [1.0], None, 1j])
def test_what_is_no_number_is_none(one: Any) -> None:
    assert as_number(one) is None


@pytest.mark.unchecked
def test_every_number_of_a_scan_and_a_probe_may_be_one_of_numpy_or_torch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 3), nn.GRU(3, 4, batch_first=True)).eval()
    parts = [torch.randint(5, (90,)) for _ in range(3)]
    labels = {"two": lambda ids: ids == 2}
    options: dict[str, Any] = {"labels": labels, "progress": False}
    plain = scan(model, parts, tmp_path / "a", on=0.5, steps=40, batch=2, **options)
    again = scan(
        model, parts, tmp_path / "a", on=np.float32(0.5), steps=np.int64(40),
        batch=torch.tensor(2), **options,
    )  # fmt: skip
    assert again.steps == plain.steps
    two = torch.tensor(2)
    assert plain.top(two, np.int64(3)).values == plain.top(2, 3).values
    assert plain.match(np.array([0, 2]), two, at_least=np.int8(1)).found == (
        plain.match([0, 2], 2, at_least=1).found
    )
    place = plain.top(2, 1).places[0]
    assert plain.context(place, two).values == plain.context(place, 2).values
    seeds = [probe(plain, seed=seed, progress=False).bits for seed in (np.int64(1), 1)]
    assert torch.equal(*seeds)
    for ask in (
        lambda: plain.top(1.5), lambda: plain.match([1.5]), lambda: plain.top(0, 2.0),
        lambda: plain.context(place, 1.0),
    ):  # fmt: skip
        with pytest.raises(ScanError, match=r"unit 1\.\d is none|k must be a whole number"):
            ask()


class Parity(nn.Module):
    """Accepts words with an even number of b."""

    def forward(self, ids: Tensor) -> Tensor:
        return 1.0 - 2.0 * (ids.sum(1) % 2)


@pytest.mark.unchecked
def test_numbers_of_an_automaton() -> None:
    small: dict[str, Any] = {"sample": 20, "tries": 50, "progress": False}
    one = automaton(Parity(), "ab", lengths=np.array([3, 5]), seed=np.int64(0), **small)
    assert one.hypothesis == automaton(Parity(), "ab", lengths=(3, 5), **small).hypothesis
    with pytest.raises(AutomatonError, match="lengths must be whole numbers"):
        automaton(Parity(), "ab", lengths=[2.5], **small)


def test_an_automaton_has_no_more_states_than_it_may() -> None:
    found = automaton(Parity(), "ab", states=1, lengths=(3, 5), progress=False)
    assert found.hypothesis is None
    assert "of more than 1 states was needed" in found.why_not
    assert automaton(Parity(), "ab", states=2, lengths=(3, 5), progress=False).hypothesis


def test_a_layer_means_nothing_to_lstar() -> None:
    with pytest.raises(AutomatonError, match=r"layer= says whose states .* got 'zz'"):
        automaton(Parity(), "ab", layer="zz", progress=False)
