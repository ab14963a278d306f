"""Whoever goes on with a scan with another encode, decode or other labels is told so."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from grulens.corpus import Scan
from grulens.corpus import scan as scanned
from grulens.errors import ScanError
from tests.probing.corpus.scan.test_given import IDS, Named
from tests.probing.corpus.scan.test_scan import LABELS, LETTERS, Reader, texts


def scan(*args: Any, **kwargs: Any) -> Scan:
    return scanned(*args, progress=False, **kwargs)


def told(text: str) -> list[int]:
    return [LETTERS.index(c) for c in text]


def turned(text: str) -> list[int]:
    """The same for all texts but short ones."""
    return told(text)[:: -1 if len(text) == 10 else 1]


def rare(rule: Any) -> Any:
    """The same label for all texts but short ones."""
    return lambda text: ~rule(text) if len(text) == 10 else rule(text)


def words(ids: Any) -> list[str]:
    return [LETTERS[i] for i in ids]


def capitals(ids: Any) -> list[str]:
    return [LETTERS[i].upper() for i in ids]


@pytest.mark.filterwarnings("ignore:`decode` gives None")
def test_another_encode_decode_or_label_is_seen_in_any_input_of_the_first_part(
    tmp_path: Path,
) -> None:
    model, parts = Reader().eval(), texts()
    given: dict[str, Any] = {"encode": told, "decode": words, "labels": LABELS, "batch": 1}
    scan(model, parts[:2], tmp_path / "s", **given)
    for other, said in (
        (
            {"encode": turned},
            r"part 0 of .* other inputs than it has now: .*`encode` or `input_of`",
        ),
        ({"decode": capitals}, r"other names of ids .*'a', and is called 'A' now\): `decode`"),
        ({"decode": lambda ids: None}, r"is called None now\)"),
        ({"labels": LABELS | {"space": rare(LABELS["space"])}}, r"are given now \(space\)\. Parts"),
        ({"labels": {name: rare(one) for name, one in LABELS.items()}}, r"\(space, after_dot\)"),
    ):
        with pytest.raises(ScanError, match=said):
            scan(model, parts, tmp_path / "s", **(given | other))
    long, mid, short = parts[0]
    for first in ([long, mid], [*parts[0], "ab"], [long, mid[1:], short], [long, mid, f"{short}a"]):
        with pytest.raises(ScanError, match="other inputs than it has now: they are others, or"):
            scan(model, [first, *parts[1:]], tmp_path / "s", **given)
    assert len(scan(model, parts, tmp_path / "s", **given).parts) == 3


def test_what_a_text_alone_says_of_ids_is_compared(tmp_path: Path) -> None:
    model = Reader().eval()
    lower: dict[str, Any] = {"encode": lambda text: told(text.lower())}
    scan(model, [["abab", "xyz"]], tmp_path / "s", **lower)
    with pytest.raises(ScanError, match=r"other names .* was called 'x', and is called 'X' now"):
        scan(model, [["abab", "Xyz"], "a"], tmp_path / "s", **lower)
    assert len(scan(model, [["abab", "xyz"], "a"], tmp_path / "s", **lower).parts) == 2


VOWELS = {"a"}


def vowel(text: str) -> Any:
    return np.array([c in VOWELS for c in text])


class Starts:
    """A label that is told by an object."""

    def __init__(self, letter: str) -> None:
        self.letter = letter

    def __call__(self, text: str) -> Any:
        return np.array([c == self.letter for c in text])


def is_(letter: str) -> Any:
    return lambda text: np.array([c == letter for c in text])


def test_functions_that_are_others_are_compared_in_every_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each says the same of the first part, and what it says now of the second is refused."""
    model, asked = Reader().eval(), []

    def part(number: int) -> Any:
        return lambda: [asked.append(number), [["abab"], ["xyxy"], ["baba"]][number]][1]

    def made(labels: Any, many: int) -> Any:
        asked.clear()
        return scan(model, [part(n) for n in range(many)], tmp_path / "s", labels=labels)

    kinds = {"global": vowel, "closure": is_("a"), "object": Starts("a"),
             "partial": partial(lambda k, text: np.array([c == k for c in text]), "a"),
             "method": Starts("a").__call__}  # fmt: skip
    made(kinds, 2)
    again = kinds | {"closure": is_("a"), "object": Starts("a")}
    made(again, 2)
    assert set(asked) == {0}  # they are what they were: the second is not read
    more = lambda text: np.array([c in "ax" for c in text])  # noqa: E731
    for name, other in (
        ("closure", more), ("object", more), ("method", more), ("partial", partial(more)),
    ):  # fmt: skip
        with pytest.raises(ScanError, match=rf"part 1 of .* other labels than .* \({name}\)\."):
            made(again | {name: other}, 3)
    with monkeypatch.context() as patch:
        patch.setitem(globals(), "VOWELS", {"a", "y"})
        with pytest.raises(ScanError, match=r"part 1 of .* other labels .* \(global\)"):
            made(again, 3)
    # others that say the same go on, and are known from then on
    made(again | {"closure": lambda text: np.array([c in "a" for c in text])}, 3)
    assert set(asked) == {0, 1, 2}
    made(again | {"closure": lambda text: np.array([c in "a" for c in text])}, 3)
    assert set(asked) == {0}


X = torch.randn(2, 70, 3, generator=torch.Generator().manual_seed(0))
UP = X[..., 0] > 0
PACKED = pack_padded_sequence(X, torch.tensor([70, 66]), batch_first=True)
FORMS: dict[str, tuple[Any, list[Any], dict[str, Any]]] = {
    "numbers": (nn.GRU(3, 4, batch_first=True), [X, -X], {"up": lambda x: x[:, 0] > 0}),
    "steps first": (nn.GRU(3, 4), [X.transpose(0, 1)] * 2, {"up": lambda x: x[:, 0] > 0}),
    "arrays": (nn.GRU(3, 4, batch_first=True), [X, -X], {"up": [[UP, ~UP]] * 2}),
    "one row alone": (nn.GRU(3, 4), [X[0], X[1]], {"up": lambda x: x[:, 0] > 0}),
    "packed": (
        nn.GRU(3, 4, batch_first=True), [PACKED, X], {"up": [[[UP[0], UP[1, :66]], UP]] * 2}
    ),
    "wide": (nn.GRU(20, 4, batch_first=True), [torch.ones(2, 9, 20)] * 2,
             {"up": lambda x: x[:, 0] > 0}),
    "columns": (
        Named(), [{"ids": IDS, "two": (IDS == 2).numpy(), "mask": torch.ones_like(IDS)}] * 2,
        {"t": "two"},
    ),
    "a row a column": (
        nn.Sequential(nn.Embedding(9, 4), nn.GRU(4, 5, batch_first=True)),
        [{"ids": IDS[0], "two": IDS[0] == 2}] * 2, {"t": "two"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_what_is_the_same_goes_on_and_another_label_does_not(name: str, tmp_path: Path) -> None:
    model, part, labels = FORMS[name]
    model.eval()
    options: dict[str, Any] = {"column": "ids", "batch": 1} if name == "a row a column" else {}
    scan(model, [part], tmp_path / "s", **options, labels={n: o[:1] if isinstance(o, list) else o
                                                           for n, o in labels.items()})  # fmt: skip
    made = scan(model, [part] * 2, tmp_path / "s", labels=labels, **options)
    assert len(made.parts) == 2
    if name in {"arrays", "packed"}:
        return  # the digest of each part says that they are others
    changed = [part[0], dict(part[1])] if isinstance(part[1], dict) else part
    if "t" in labels:
        changed[1]["two"] = ~np.asarray(part[1]["two"])
    else:
        calls: list[int] = []
        rows = {"one row alone": 1}.get(name, 2)

        def later(x: Any) -> Any:
            calls.append(1)
            return (x[:, 0] > 0) ^ (len(calls) > 2 * rows)  # the first input is read twice

        labels = {"up": later}
    with pytest.raises(ScanError, match="scanned with other labels than are given now"):
        scan(model, [changed] * 2, tmp_path / "s", labels=labels, **options)


def test_other_numbers_are_seen_and_a_damaged_part_is_none_to_compare(tmp_path: Path) -> None:
    model = nn.GRU(3, 4, batch_first=True).eval()
    made = scan(model, [[X, X]], tmp_path / "s")
    with pytest.raises(ScanError, match="other inputs than it has now"):
        scan(model, [[X, X + 1], X], tmp_path / "s")
    file = made.parts[0].place / "inputs.npy"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.warns(UserWarning, match=r"left out of every answer \(0\)"):
        scan(model, [[X, X + 1], X], tmp_path / "s")
