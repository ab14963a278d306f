"""CSV: every number reads back to its last bit, every text as it was, and none is a formula."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grulens.csv import text_of, written
from grulens.errors import FileError


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


@given(st.lists(st.integers(0, 2**32 - 1), max_size=20))
def test_numbers_read_back_to_the_bit(bits: list[int]) -> None:
    given = np.array(bits, np.uint32).view(np.float32)
    found = [np.float32(line[0]) for line in read(text_of({"h": given}))[1:]]
    np.testing.assert_array_equal(np.array(found, np.float32), given)
    wide = given.astype(np.float64) / 3
    back = [float(line[0]) for line in read(text_of({"h": wide}))[1:]]
    np.testing.assert_array_equal(np.array(back), wide)


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1), max_size=9))
def test_texts_read_back_without_their_mark(given: list[str]) -> None:
    lines = read(text_of({"n": np.arange(len(given)), "token": given}))[1:]
    assert [line[1].removeprefix("'") for line in lines] == given


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@a", "\uff1d1", "\t=1", "\r=1", '=HYPERLINK("a","b")']
)
def test_no_text_is_a_formula(text: str) -> None:
    assert read(text_of({text: [text]})) == [[f"'{text}"], [f"'{text}"]]


def test_numbers_are_left_alone() -> None:
    numbers: dict[str, Any] = {"a": np.array([-1.5, np.nan], np.float32), "b": np.array([-3, 4])}
    assert text_of(numbers) == "a,b\r\n-1.5,-3\r\nnan,4\r\n"


def test_it_stands_in_a_file_in_utf_8(tmp_path: Path) -> None:
    text = text_of({"token": ["字", "\ud800", "a,\n"]})
    assert written(text, tmp_path / "a.csv") == text
    assert (tmp_path / "a.csv").read_bytes() == 'token\r\n字\r\n\ufffd\r\n"a,\n"\r\n'.encode()
    with pytest.raises(FileError, match="path must be the name of a file, got 'a\\\\x00b'"):
        written(text, "a\0b")
