"""The table's selection means units: sorting, filtering and new data do not change it."""

import numpy as np
import pytest
from bokeh.models.widgets import HTMLTemplateFormatter, StringFormatter

from grulens.cells import kinds
from grulens.views.units.columns import BARS, bars
from grulens.views.units.table import ROW, UnitTable

Z = kinds.GRU.signals[1]

UNITS = np.array([4, 9, 2, 7])


def table() -> tuple[UnitTable, list[tuple[int, ...]]]:
    view = UnitTable()
    view.update(
        {
            "mean_z": np.array([0.1, 0.9, np.nan, 0.5]),
            "note": ["String", "comment", "", "in string"],
        },
        units=UNITS,
        h=np.zeros((4, 9)),
        signals=[Z],
    )
    told: list[tuple[int, ...]] = []
    view.on_units(told.append)
    return view, told


def choose(view: UnitTable, rows: list[int]) -> None:
    view.source.selected.indices = rows


def test_columns_have_titles_and_formats() -> None:
    view, _ = table()
    formats = {column.field: column.formatter for column in view.root.columns}
    assert isinstance(formats["note"], StringFormatter)
    assert ".toFixed(0)" in formats["unit"].template
    assert ".toFixed(2)" in formats["mean_z"].template
    assert 'replace("-", "−")' in formats["mean_z"].template
    assert all(column.sortable for column in view.root.columns if column.field != "bars")
    assert ">mean z<" in view.root.columns[1].title
    assert "1 keeps the memory" in view.root.columns[1].title
    # above words at their left, above numbers at their right
    assert ['class="words"' in column.title for column in view.root.columns] == [
        column.field in ("note", "bars") for column in view.root.columns
    ]
    assert view.root.reorderable is False


def test_numbers_that_would_not_fit_or_seem_zero_have_a_format_of_their_own() -> None:
    view, _ = table()
    view.put({"effect": np.array([0.0, 4e-5, 0.5, np.nan])})
    formats = {column.field: column.formatter for column in view.root.columns}
    assert isinstance(formats["effect"], HTMLTemplateFormatter)
    assert "toExponential" in formats["effect"].template
    assert "toExponential" not in formats["mean_z"].template
    for far, powers in ((-1e9, True), (9.0, False)):
        view.update({"mean_z": np.array([far, 0.9, np.nan, 0.5])}, units=UNITS, signals=[Z])
        assert ("toExponential" in view.root.columns[1].formatter.template) is powers


def test_a_column_name_from_data_is_not_html() -> None:
    view = UnitTable()
    view.update({"<img src=x>": np.zeros(1)}, units=np.arange(1))
    assert view.root.columns[1].title == "&lt;img src=x&gt;"


def test_choosing_rows_tells_units() -> None:
    view, told = table()
    choose(view, [1, 2])
    assert told == [(2, 9)]
    assert view.units == (2, 9)


def test_select_tells_nobody_and_a_second_report_of_it_neither() -> None:
    view, told = table()
    view.select([7, 4])
    assert view.source.selected.indices == [0, 3]
    choose(view, [3, 0])
    assert told == []


def test_selected_units_survive_another_order_of_the_rows() -> None:
    view, told = table()
    view.select([9])
    view.update({"mean_z": np.zeros(3)}, units=np.array([9, 4, 1]))
    assert view.source.selected.indices == [0]
    assert (view.units, told) == ((9,), [])


def test_a_range_filters_numbers_and_never_passes_nan() -> None:
    view, _ = table()
    view.filter(ranges={"mean_z": (0.4, None)})
    assert view.shown == (9, 7)
    view.filter(ranges={"mean_z": (None, 0.5)})
    assert view.shown == (4, 7)
    view.filter()
    assert view.shown == (4, 9, 2, 7)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("string", (4, 7)),
        ("7", (7,)),
        ("2, 4", (4, 2)),
        ("3-8", (4, 7)),
        ("nothing", ()),
        (" ", (4, 9, 2, 7)),
    ],
)
def test_text_finds_units_and_words(text: str, shown: tuple[int, ...]) -> None:
    view, _ = table()
    view.filter(text)
    assert view.shown == shown


def test_units_hidden_by_a_filter_stay_selected() -> None:
    view, told = table()
    view.select([4, 9])
    view.filter("9")
    assert view.source.selected.indices == [1]
    assert (view.units, told) == ((4, 9), [])
    choose(view, [])
    assert told == [(4,)]
    view.filter()
    assert view.source.selected.indices == [0]


def test_no_row_is_selected_while_the_filter_changes() -> None:
    # BokehJS would keep a row it hides and bring it back after it was deselected
    view, _ = table()
    view.select([4])
    seen: list[list[int]] = []
    view.filter_model.on_change(
        "indices", lambda attr, old, new: seen.append(list(view.source.selected.indices))
    )
    view.filter("9")
    assert seen == [[]]


def test_a_filter_follows_new_numbers() -> None:
    view, _ = table()
    view.filter(ranges={"mean_z": (0.4, None)})
    view.update({"mean_z": np.array([0.9, 0.0, 0.0, 0.0])}, units=UNITS)
    assert view.shown == (4,)


def test_update_keeps_its_models() -> None:
    view, _ = table()
    before = {model.id for model in view.root.references()}
    view.update(
        {"mean_z": np.zeros(4), "note": [""] * 4}, units=UNITS, h=np.ones((4, 5)), signals=[Z]
    )
    assert {model.id for model in view.root.references()} == before


def test_bars_are_letters_whatever_the_numbers() -> None:
    h = np.array([[-1.0, 0.0, 1.0], [np.nan, np.inf, -5.0]])
    assert bars(h) == ["A]y", "!yA"]
    assert bars(h, np.array([True, True, False])) == ["A] ", "!y "]
    long = bars(np.random.default_rng(0).normal(size=(3, 1000)))
    assert {len(text) for text in long} == {BARS}
    assert all(text.isascii() and not set(text) & set("<>&\"'") for text in long)


def test_ten_thousand_rows_stay_small() -> None:
    view = UnitTable()
    h = np.zeros((10_000, 300), np.float32)
    columns = {name: np.zeros(10_000) for name in ("mean_h", "spread_h", "mean_z", "r_low")}
    view.update(columns, units=np.arange(10_000), h=h)
    assert view.source.data["mean_h"].dtype == np.float32
    assert sum(len(text) for text in view.source.data["bars"]) <= 10_000 * BARS
    view.filter("10-20")
    assert len(view.shown) == 11


def test_the_order_of_the_rows_is_the_pages() -> None:
    view, _ = table()

    def units() -> list[int]:
        found: list[int] = UNITS[view.ordered].tolist()
        return found

    assert units() == [4, 9, 2, 7]
    view.root.view.tags = [["mean_z", False]]  # as the page says it
    assert (view.sorted_by, units()) == ((("mean_z", False),), [9, 7, 4, 2])
    view.sort("mean_z", ascending=True)
    assert units() == [4, 7, 9, 2]  # what is no number stands last
    view.sort("note", ascending=True)
    assert units() == [2, 9, 7, 4]
    view.filter(ranges={"mean_z": (0.4, None)})
    assert units() == [9, 7]
    view.put({"effect": np.arange(4.0)})
    assert units() == [9, 7]
    view.root.view.tags = ["nonsense", ["elsewhere", True], [1], ["effect", False]]
    assert (view.sorted_by, units()) == ((("effect", False),), [7, 9])


def test_what_says_least_folds_away_first_and_the_unit_never() -> None:
    view, _ = table()
    view.put({"effect": np.zeros(4), "z_low": np.zeros(4), "auc_<b>": np.zeros(4)})
    folds = {column.field: column.tags[0] for column in view.root.columns}
    assert folds["unit"] == folds["effect"] == 0
    assert folds["mean_z"] < folds["bars"] < folds["z_low"] < folds["auc_<b>"]


def test_a_table_is_as_high_as_its_rows_up_to_a_limit() -> None:
    table = UnitTable(rows=5)
    heights = []
    for count in (2, 5, 40, 2):
        table.update({"mean_h": np.zeros(count)}, units=np.arange(count))
        heights.append(table.root.height)
    assert heights[0] == heights[3] < heights[1] == heights[2]
    assert heights[1] - heights[0] == 3 * ROW
