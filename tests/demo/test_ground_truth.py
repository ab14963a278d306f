import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grulens.demo import corpus
from grulens.demo.ground_truth import GroundTruth, ground_truth
from grulens.errors import DemoError


def drawn(mask) -> str:
    """A bool mask as text, to stand under the source it belongs to."""
    return "".join("^" if yes else "." for yes in mask)


def digits(counts) -> str:
    return "".join(str(count) for count in counts)


@pytest.mark.parametrize(
    ("source", "strings"),
    [
        ("x = 'a' + b", "....^^....."),
        ("x = ''", "....^."),
        ("x = rb'a' ", "......^^.."),
        ("f'a{b[0]}c'", ".^^^^^^^^^."),
        ("f'{x!r:>{w}}'+y", ".^^^^^^^^^^^..."),
        ("F'{d[\"k\"]}' 'z'", ".^^^^^^^^^..^^."),
        ("'''a\n'b'\n'''", "^^^^^^^^^^^."),
        ('"it\'s # no"', "^^^^^^^^^^."),
        ("'a\\'b'", "^^^^^."),
        ("# 'a'", "....."),
        ("", ""),
    ],
)
def test_strings(source, strings):
    assert drawn(ground_truth(source).in_string) == strings


@pytest.mark.parametrize(
    ("source", "comments"),
    [
        ("x # y\nz", "..^^^.."),
        ("#\n#", "^.^"),
        ("'# no' # yes", ".......^^^^^"),
    ],
)
def test_comments(source, comments):
    assert drawn(ground_truth(source).in_comment) == comments


@pytest.mark.parametrize(
    ("source", "depths"),
    [
        ("f(a[{1: 2}])", "011233333210"),
        ("(\n[\n]\n)", "1122110"),
        ("'(' + f'{[1]}'", "0" * 14),
        ("x # ((", "0" * 6),
        ("a(')')", "011110"),
    ],
)
def test_bracket_depth(source, depths):
    assert digits(ground_truth(source).depth) == depths


def test_column_and_indentation():
    truth = ground_truth("if x:\n  y(1,\n    2)\n   \nz\n")
    assert digits(truth.column) == "012345" + "0123456" + "0123456" + "0123" + "01"
    assert digits(truth.indentation) == "000000" + "2222222" + "4444444" + "0000" + "00"


def test_text_is_strings_and_comments():
    assert drawn(ground_truth("x = 'a'  # b\n").in_text) == "....^^...^^^."


def test_results_are_arrays_with_one_entry_a_character():
    truth = ground_truth("é = 'ü'  # ñ\n")
    assert drawn(truth.in_string) == "....^^......."
    assert drawn(truth.in_comment) == ".........^^^."
    for name, dtype in (("in_string", bool), ("in_comment", bool), ("depth", np.int64)):
        assert getattr(truth, name).shape == (13,)
        assert getattr(truth, name).dtype == dtype
    assert repr(truth) == "GroundTruth(13 characters)"
    assert isinstance(truth, GroundTruth)


@pytest.mark.parametrize("source", ["x = 'a", "x = '''a\n", "(", "if x:\n  y\n z\n", "a $ b"])
def test_source_that_does_not_tokenize_says_so(source):
    with pytest.raises(DemoError, match="this is not Python source that tokenizes"):
        ground_truth(source)


def test_an_unopened_bracket_is_placed():
    # Python's tokenizer itself refuses it from 3.12 on
    with pytest.raises(DemoError, match=r"closes at line 2, column 1|unmatched"):
        ground_truth("x\n1)(\n")


@settings(max_examples=10)
@given(st.integers(0, 400))
def test_a_comment_in_front_changes_nothing_behind_it(skip):
    source = corpus.read_sources(["fractions.py"])["fractions.py"]
    front = "#" * (skip + 1) + "\n"
    plain, moved = ground_truth(source), ground_truth(front + source)
    for name in ("in_string", "in_comment", "depth", "column", "indentation"):
        assert (getattr(moved, name)[len(front) :] == getattr(plain, name)).all()
