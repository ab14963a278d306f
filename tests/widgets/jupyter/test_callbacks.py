"""An error's title on a screen."""

from __future__ import annotations

import pytest

from grulens import errors, words
from grulens.widgets.jupyter.callbacks import title_of


@pytest.fixture
def chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_set", "zh")


@pytest.mark.usefixtures("chinese")
@pytest.mark.parametrize(
    ("error", "title"),
    [
        (errors.PositionError("no unit 9"), "超出范围 · PositionError: no unit 9"),
        # the class above it
        (errors.NoLayerError("no layer"), "模型有问题 · NoLayerError: no layer"),
        # not ours
        (ValueError("no"), "运行的代码出错 · ValueError: no"),
        (MemoryError("40 GB"), "内存不足 · MemoryError: 40 GB"),
    ],
)
def test_a_title_says_in_the_language_of_the_screen_what_is_wrong(
    error: Exception, title: str
) -> None:
    assert title_of(error) == title


@pytest.mark.usefixtures("chinese")
def test_every_error_of_ours_has_a_title() -> None:
    ours = [
        one for one in vars(errors).values()
        if isinstance(one, type) and issubclass(one, errors.GrulensError)
    ]  # fmt: skip
    for one in ours:
        kind = title_of(one("x")).split(" · ")[0]
        assert any("\u4e00" <= letter <= "\u9fff" for letter in kind), one


def test_in_english_its_own_words_say_enough() -> None:
    assert title_of(errors.PositionError("no unit 9")) == "PositionError: no unit 9"
