"""The plane of a phase portrait: what is drawn where, and what a click means."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from bokeh.core.serialization import Serializer
from bokeh.events import Tap

from grulens.cells import kinds
from grulens.views.dynamics.phase_figure import HEIGHT, WIDTH
from grulens.views.dynamics.phase_portrait import CLASSES, DOTS, PhasePlot
from grulens.views.dynamics.spectrum import Spectrum
from grulens.views.figure.palette import COLORS
from grulens.views.still.portrait import portrait

_, Z, _, H = kinds.GRU.signals

KINDS = ["stable", "unstable in 2", "marginal in 1"]
HOSTILE = "</b><img src=x onerror=alert(1)>"


def plot(points: np.ndarray, **options: Any) -> PhasePlot:
    made = PhasePlot()
    given: dict[str, Any] = {
        "values": np.zeros(points.shape[:2]), "colors": "time", "ends": (0.0, 1.0), "measure": "t",
    }  # fmt: skip
    made.states(points, **given | options)
    return made


def walk(rows: int = 2, steps: int = 5) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, steps, 2))


def test_every_step_is_a_dot_and_padding_is_none() -> None:
    points = walk()
    points[1, 3:] = np.nan
    made = plot(points, tokens=[list("abcde"), list("xyz")])
    dots = made.layers.dots.data
    assert list(zip(dots["row"], dots["step"], strict=True))[-1] == (1, 2)
    assert len(dots["x"]) == 8
    assert dots["token"] == ["a", "b", "c", "d", "e", "x", "y", "z"]
    assert [len(x) for x in made.layers.paths.data["xs"]] == [5, 3]


def test_more_than_can_be_told_apart_is_thinned() -> None:
    made = plot(walk(40, 1000))
    assert DOTS / 2 < len(made.layers.dots.data["x"]) <= DOTS
    assert sum(len(x) for x in made.layers.paths.data["xs"]) < 2 * DOTS


def test_the_legend_says_words_and_names_no_field() -> None:
    made = plot(walk())
    marks = {"residual": np.zeros(1), "slowest": np.ones(1), "ways": np.array([0])}
    made.points(np.zeros((1, 2)), kinds=["marginal in 1"], **marks)
    items = [Serializer().serialize(item).content for item in made._figure.entries.values()]
    labels = [item["attributes"]["label"] for item in items]
    assert {label["type"] for label in labels} == {"value"}
    assert any("diamond: marginal" in label["value"] for label in labels)


def test_a_unit_is_as_long_in_both_directions_and_all_are_in_sight() -> None:
    made = plot(walk() * np.array([10.0, 1.0]))
    made.points(
        np.array([[40.0, 3.0]]),
        np.array([0]),
        kinds=["stable"],
        residual=np.zeros(1),
        slowest=np.ones(1),
    )
    x, y = made.root.x_range, made.root.y_range
    assert (x.end - x.start) / WIDTH == pytest.approx((y.end - y.start) / HEIGHT)
    assert x.end > 40 > x.start
    x.update(start=-1, end=1)  # a person zooms
    made.states(
        walk() * np.array([10.0, 1.0]), np.zeros((2, 5)), colors=H, ends=(-1.0, 1.0), measure="h"
    )
    assert (x.start, x.end) == (-1, 1)


def test_colours_are_those_of_the_signal_or_of_the_classes() -> None:
    made = plot(walk(), colors=Z, ends=(0.0, 1.0), measure="z 3")
    mapper, bar = made._figure.mapper, made._figure.bar
    assert (tuple(mapper.palette), mapper.low, mapper.high) == (COLORS[Z], 0, 1)
    assert bar.title == "z 3"
    labels = ["on", HOSTILE, *"abcdefgh"]
    made.states(walk(), np.zeros((2, 5)), colors=labels, ends=(0.0, 1.0), measure="class")
    assert mapper.palette == list(CLASSES)
    assert bar.major_label_overrides[0] == "on"
    assert bar.major_label_overrides[len(CLASSES) - 1] == "others"


def test_stable_and_unstable_points_differ_in_more_than_colour() -> None:
    made = plot(walk())
    places = np.array([[0.0, 0.0], [1.0, 1.0], [0.5, 0.5]])
    given: Any = {"residual": np.array([0.0, 5e-16, 0.25]),
                  "slowest": np.array([3.0, 4.0, np.inf])}  # fmt: skip
    made.points(places, np.array([0, 2, 0]), kinds=KINDS, **given)
    fixed = made.layers.fixed.data
    assert fixed["ways"] == ["", "2", ""]
    assert fixed["kind"] == KINDS
    assert fixed["shape"] == ["circle", "circle", "diamond"]
    assert len(set(fixed["fill"])) == 3
    assert fixed["residual"] == ["0", "5e−16", "0.25"]
    assert fixed["slowest"] == ["3 steps", "4 steps", "for ever"]
    assert "diamond: marginal" in str(made._figure.entries["fixed"].label)
    assert made._figure.entries["fixed"].visible
    assert not made._figure.entries["slow"].visible
    made.points(
        places[:2], np.array([0, 2]), kinds=KINDS[:2], residual=np.zeros(2), slowest=np.ones(2),
        slow=places,
    )  # fmt: skip
    assert made._figure.entries["slow"].visible
    assert "marginal" not in str(made._figure.entries["fixed"].label)


def test_ways_out_go_both_ways_and_arrows_point_along_them() -> None:
    made = plot(walk())
    made.choose((1.0, 0.0), np.array([[0.0, 1.0]]))
    ways = made.layers.ways.data
    assert (ways["to_y"] == -ways["to_y"][::-1]).all()
    assert ways["to_y"][0] > 0
    assert ways["angle"].tolist() == [0.0, -np.pi]
    made.choose(None)
    assert made.layers.ways.data["x"].tolist() == made.layers.chosen.data["x"] == []


def test_the_field_is_fainter_where_it_leads_out_of_the_plane() -> None:
    made = plot(walk())
    grid = made.grid(5)
    assert grid.shape == (25, 2)
    made.field(grid, np.ones((25, 2)), np.linspace(0, 1, 25))
    alpha = made.layers.field.data["alpha"]
    assert alpha[0] == 1
    assert alpha[-1] == pytest.approx(0.15)
    assert (np.diff(alpha) < 0).all()
    made.field(grid[:0], grid[:0], np.zeros(0))
    assert len(made.layers.field.data["x"]) == 0
    made.field(grid, 0 * grid, np.zeros(25))
    assert np.isfinite(made.layers.field.data["to_x"]).all()


def test_a_click_means_what_is_nearest_in_pixels() -> None:
    made = plot(np.array([[[0.0, 0.0], [1.0, 0.0]]]))
    made.points(
        np.array([[0.0, 1.0]]),
        np.array([0]),
        kinds=["stable"],
        residual=np.zeros(1),
        slowest=np.ones(1),
    )
    told: list[Any] = []
    made.on_tap(told.append, lambda *at: told.append(at), lambda *at: told.append(at))
    pixel = made._pixel()

    def tap(x: float, y: float) -> Any:
        made.root._trigger_event(Tap(made.root, x=x, y=y))
        return told.pop()

    assert tap(0, 1 + 9 * pixel) == 0
    assert tap(1 + 4 * pixel, 0) == (0, 1)
    assert tap(0, 1 + 12 * pixel) == (0.0, 1 + 12 * pixel)
    assert tap(1 + 6 * pixel, 0) == (1 + 6 * pixel, 0.0)


def test_the_spectrum_says_how_long_and_how_it_turns() -> None:
    made = Spectrum()
    assert not made.root.visible
    values = np.array([1.25, 0.5j, -0.5j, 1e-3])
    made.update(values, np.zeros(4, bool), "spectrum of point 1")
    data: Any = made.source.data
    assert data["steps"][0] == "4.48 steps"
    assert data["shape"] == ["circle"] * 4
    assert data["turn"] == ["none", "4.0 steps", "4.0 steps", "none"]
    assert data["color"][0] != data["color"][1] == data["color"][2]
    assert made.root.x_range.end > 1.25
    assert made.root.title.text == "spectrum of point 1"
    made.update(values, np.array([True, False, False, False]))
    other: Any = made.source.data
    assert other["shape"] == ["diamond", "circle", "circle", "circle"]
    assert other["steps"][0] == "no end"
    assert other["color"][0] not in data["color"]


def test_the_still_picture_shows_the_same_and_says_it() -> None:
    html = portrait(
        walk(), np.zeros((2, 2)), [0, 1], kinds=["stable", "unstable in 1"], axes=("PC 1", "PC 2"),
        title=f"states of {HOSTILE}",
    )  # fmt: skip
    assert "2 fixed points, 1 stable" in html
    assert HOSTILE not in html
    assert html.startswith('<img src="data:image/svg+xml;base64,')
    assert portrait(walk()[:0], np.zeros((0, 2)), [], kinds=[], axes=("", ""), title="") == ""
    kinds = ["stable", "unstable in 1", "marginal in 1"]
    html = portrait(walk(), np.zeros((3, 2)), [0, 1, 0], kinds=kinds, axes=("", ""), title="states")
    assert "3 fixed points, 1 stable, 1 marginal (diamonds)" in html
    svg = base64.b64decode(html.split("base64,")[1].split('"')[0]).decode()
    assert (svg.count("<polygon"), svg.count('r="7"')) == (1, 2)
