import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grulens.demo import corpus
from grulens.errors import DemoError


def test_the_vocabulary_is_printable_ascii_newline_and_one_replacement():
    assert len(corpus.VOCABULARY) == len(set(corpus.VOCABULARY)) == 97
    assert set(corpus.VOCABULARY[:-1]) == {"\n", *map(chr, range(32, 127))}
    assert corpus.VOCABULARY[-1] == corpus.REPLACEMENT


def test_labels_can_all_be_seen():
    assert len(corpus.LABELS) == len(set(corpus.LABELS)) == 97
    assert corpus.LABELS[corpus.VOCABULARY.index("\n")] == "\\n"
    assert corpus.LABELS[corpus.VOCABULARY.index(" ")] == "␣"
    assert all(label.isprintable() and label.strip() for label in corpus.LABELS)


@given(st.text(alphabet=corpus.VOCABULARY))
def test_encode_and_decode_are_inverse_on_the_vocabulary(text):
    assert corpus.decode(corpus.encode(text)) == text


@given(st.text())
def test_every_text_becomes_one_class_a_character(text):
    ids = corpus.encode(text)
    assert ids.shape == (len(text),)
    assert ids.dtype == torch.int64
    back = corpus.decode(ids)
    for given_character, shown in zip(text, back, strict=True):
        known = given_character == "\n" or 32 <= ord(given_character) < 127
        expected = given_character if known else corpus.REPLACEMENT
        assert shown == (" " if given_character == "\t" else expected)


def test_decode_takes_one_row_only():
    with pytest.raises(DemoError, match=r"decode takes one row.*got \(2, 3\)"):
        corpus.decode(torch.zeros(2, 3, dtype=torch.int64))


@pytest.mark.parametrize("wrong", [-1, 97])
def test_decode_names_a_class_that_is_not_there(wrong):
    with pytest.raises(DemoError, match=f"class {wrong} is not in the vocabulary of 97 characters"):
        corpus.decode(torch.tensor([1, wrong]))


def test_no_file_is_both_learned_and_held_out():
    names = corpus.TRAIN_FILES + corpus.HELD_OUT_FILES
    assert len(set(names)) == len(names)
    assert list(corpus.TRAIN_FILES) == sorted(corpus.TRAIN_FILES)


def test_every_named_file_is_in_this_python():
    texts = corpus.read_sources(corpus.TRAIN_FILES + corpus.HELD_OUT_FILES)
    assert tuple(texts) == corpus.TRAIN_FILES + corpus.HELD_OUT_FILES
    assert all(text and "\t" not in text and "\r" not in text for text in texts.values())


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(DemoError, match=r"csv\.py of the standard library cannot be read in .*"):
        corpus.read_sources(["csv.py"], root=tmp_path)


def test_newlines_and_tabs_are_made_one_kind(tmp_path: Path):
    (tmp_path / "a.py").write_bytes(b"if x:\r\n\ty\r\n  \t\xff\n")
    texts = corpus.read_sources(["a.py"], root=tmp_path)
    assert texts == {"a.py": "if x:\n        y\n        \N{REPLACEMENT CHARACTER}\n"}


def test_the_root_is_the_running_pythons():
    assert "csv.py" in corpus.read_sources(["csv.py"])
    assert sys.version_info >= (3, 11)
