"""Every kind of result has a figure that shows its numbers, and a picture for a saved notebook."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from bokeh.events import Tap
from bokeh.models import HoverTool
from torch import nn

import grulens
from grulens.cells.kinds.lstm import LSTM
from grulens.corpus import DFA
from grulens.dynamics import Jacobian, find_fixed_points, jacobian, lyapunov, portrait
from grulens.errors import GrulensError, PositionError, ReadoutError
from grulens.memory import gradient_flow
from grulens.phrases import contextual_decomposition, interactions
from grulens.results import Result
from grulens.views.dynamics.phase_figure import STABLE, UNSTABLE
from grulens.views.figure.tokens import number
from grulens.widgets.memory import flow as memory_flow
from grulens.widgets.plot import registry
from tests.cells.dynamics.test_fixed_points import switches
from tests.test_results import ALL, results

X = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))


class Tagger(nn.Module):
    """A GRU and a linear readout of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 5, batch_first=True)
        self.out = nn.Linear(5, 4)

    def forward(self, x: Any) -> torch.Tensor:
        states = self.rnn(x)[0]
        if isinstance(states, nn.utils.rnn.PackedSequence):
            states = nn.utils.rnn.pad_packed_sequence(states, batch_first=True)[0]
        return self.out(states)


@pytest.fixture
def model() -> Tagger:
    torch.manual_seed(0)
    return Tagger()


def figures(view: Any) -> list[Any]:
    """The figures of a view, from the top."""
    return _below(view.document.roots[0])


def _below(root: Any) -> list[Any]:
    if hasattr(root, "renderers"):
        return [root]
    return [figure for child in root.children for figure in _below(child)]


def image(figure: Any) -> dict[str, Any]:
    return next(r for r in figure.renderers if "image" in r.data_source.data).data_source.data


def shown(figure: Any) -> np.ndarray:
    """The numbers that the colours of a picture stand for."""
    data = image(figure)
    low, high = data["low"][0], data["high"][0]
    return low + data["image"][0] / 252 * (high - low)


def still(view: Any) -> str:
    html = view._repr_mimebundle_()[0]["text/html"]
    assert "<b>x</b>" not in html
    return html


@pytest.mark.parametrize("name", ALL)
def test_a_figure_of_every_result(name: str) -> None:
    found = results()[name]
    view = found.plot()
    assert repr(view) == f"plot of {found!r}"
    drawn = figures(view)
    assert drawn
    if name != "Timescales":  # its axes and legends say what it is
        assert drawn[0].title.text
    assert all(figure.name for figure in drawn)
    assert still(view)
    view.close()


def test_no_result_is_without_a_figure() -> None:
    kinds = {kind for kind in Result.__subclasses__() if kind.__module__.startswith("grulens.")}
    without = {kind.__name__ for kind in kinds if kind not in registry._DRAWS}
    assert without == {"SavedRun"}


@pytest.fixture
def scanned(tmp_path: Any) -> Any:
    torch.manual_seed(0)
    ids = torch.randint(3, (400,))
    net = nn.Sequential(nn.Embedding(3, 4), nn.GRU(4, 5, batch_first=True))
    labels = {"one": lambda ids: ids == 1, "none": lambda ids: ids == 9}
    return grulens.corpus.scan(net, [ids], tmp_path / "s", labels=labels, progress=False, on=0.0)


def test_statistics_are_a_map_of_labels_by_units(scanned: Any, tmp_path: Any) -> None:
    stats = scanned.stats()
    view = grulens.plot(stats)
    (figure,) = figures(view)
    half = image(figure)["high"][0] / 252
    codes = image(figure)["image"][0]
    assert (codes[1] == 253).all()  # a label that holds nowhere has no area
    np.testing.assert_allclose(shown(figure)[0], stats.auc[0] - 0.5, atol=2 * half)
    assert (figure.yaxis[0].axis_label, figure.xaxis[0].axis_label) == ("label", "unit")
    assert "AUC − 0.5 · h of 1.l0, 400 steps, each within 0.0" in figure.title.text
    assert "2 labels by 5 units" in still(view)
    bare = grulens.corpus.scan(scanned.model, [torch.arange(90) % 3], tmp_path / "t",
                               progress=False).stats()  # fmt: skip
    (figure,) = figures(grulens.plot(bare))
    assert (figure.yaxis[0].axis_label, figure.xaxis[0].axis_label) == ("unit", "unit")
    np.testing.assert_allclose(shown(figure), bare.correlation, atol=0.01)


def test_the_top_is_lines_of_tokens(scanned: Any) -> None:
    found = scanned.top(2, 3, where="one")
    view = grulens.plot(found)
    (figure,) = figures(view)
    data = figure.renderers[0].data_source.data
    assert data["token"] == [token for one in found.contexts for token in one.tokens]
    names = [f"{number(value, '.4f')} · one" for value in found.values]
    assert list(figure.yaxis[0].major_label_overrides.values()) == names
    assert figure.title.text == "unit 2 of 1.l0, high where one"
    assert all(name in still(view) for name in names)
    (figure,) = figures(grulens.plot(replace(found, near=0.03)))
    assert figure.title.text == "unit 2 of 1.l0, high where one, values to 0.03"
    with pytest.raises(GrulensError, match="the label holds nowhere"):
        grulens.plot(scanned.top(2, 3, where="none"))


def test_probes_are_a_map_of_labels_by_what_units_add(scanned: Any, tmp_path: Any) -> None:
    made = grulens.corpus.scan(
        scanned.model, [torch.randint(3, (90,)) for _ in range(3)], tmp_path / "t",
        labels={"one": lambda ids: ids == 1}, progress=False,
    )  # fmt: skip
    found = grulens.corpus.probe(made, progress=False)
    view = grulens.plot(found)
    (figure,) = figures(view)
    half = image(figure)["high"][0] / 252
    np.testing.assert_allclose(shown(figure), found.contributions, atol=2 * half)
    control = found.control_accuracy
    assert control is not None
    name = f"one {float(found.accuracy[0]):.3f}, control {float(control[0]):.3f}"
    assert "probes of 1.l0, 90 steps tested" in figure.title.text
    assert name in still(view)
    alone = grulens.plot(grulens.corpus.probe(made, control=None, progress=False))
    assert "control" not in still(alone)


def test_matches_are_the_lift_of_labels_and_lines_of_tokens(scanned: Any, tmp_path: Any) -> None:
    found = scanned.match([0, 1, 3], 2, at_least=2)
    view = grulens.plot(found)
    bars, lines = figures(view)
    data = bars.renderers[0].data_source.data
    assert data["label"] == ["one"]
    np.testing.assert_allclose(data["log"], found.lift[:1].log2())
    assert "1 nowhere in the corpus" in bars.title.text
    data = lines.renderers[0].data_source.data
    first = found.contexts[0]
    assert data["token"][: len(first.tokens)] == list(first.tokens)
    assert data["value"][: len(first.tokens)] == list(first.values)
    assert f"{found.together[0]} on" in lines.yaxis[0].major_label_overrides[0]
    assert f"{float(found.share[0]):.3f}" in still(view)
    with pytest.raises(GrulensError, match="nowhere on together"):
        grulens.plot(scanned.match([0, 1, 2, 3, 4], 64))
    bare = grulens.corpus.scan(scanned.model, [torch.arange(90) % 3], tmp_path / "t", on=-1,
                               progress=False).match([0])  # fmt: skip
    (lines,) = figures(grulens.plot(bare))
    title = "the first place of 1 of 1 units of 1.l0 on for 5 steps: 1 place"
    assert lines.title.text.startswith(title)


def test_what_has_no_figure_says_what_to_show_instead(model: Tagger) -> None:
    run = grulens.record(model, X)
    for found in (run, run["rnn.l0"]):
        with pytest.raises(GrulensError, match=r"a run is shown by Lens\(model, x\)"):
            grulens.plot(found)
    with pytest.raises(GrulensError, match=r"Graphviz draws dfa.to_dot\(\)"):
        grulens.plot(DFA("a", [[0]], [True]))
    with pytest.raises(GrulensError, match=r"a Cell has no figure; portrait\(run\), find_fix"):
        grulens.plot(run["rnn.l0"].cell)


def test_a_portrait_is_of_all_states_in_two_components(model: Tagger) -> None:
    found = portrait(grulens.record(model, X))
    view = grulens.plot(found)
    (plane,) = figures(view)
    dots = next(r.data_source.data for r in plane.renderers if "step" in r.data_source.data)
    np.testing.assert_allclose(dots["x"], found.points[..., 0].flatten())
    np.testing.assert_allclose(dots["y"], found.points[..., 1].flatten())
    assert list(dots["step"]) == list(dots["value"]) == [*range(6), *range(6)]
    shares = [f"PC {i + 1} ({float(found.explained[i]):.0%} of the variance)" for i in (0, 1)]
    assert [plane.xaxis.axis_label, plane.yaxis.axis_label] == shares
    assert "states of rnn.l0" in still(view)
    (other,) = figures(grulens.plot(found, output=(2, 0)))
    turned = next(r.data_source.data for r in other.renderers if "step" in r.data_source.data)
    np.testing.assert_allclose(turned["x"], found.points[..., 2].flatten())
    np.testing.assert_allclose(turned["y"], dots["x"])
    with pytest.raises(ReadoutError, match=r"output=3: of a portrait it is two components"):
        grulens.plot(found, output=3)
    with pytest.raises(PositionError, match="two different components from 0 to 2"):
        grulens.plot(found, output=(0, 7))
    with pytest.raises(GrulensError, match="tokens name the steps of one row; this portrait has 2"):
        grulens.plot(found, tokens="abcdef")
    one = grulens.plot(portrait(grulens.record(model, X[:1])), tokens="abcdef")
    (plane,) = figures(one)
    dots = next(r.data_source.data for r in plane.renderers if "step" in r.data_source.data)
    assert dots["token"] == list("abcdef")


def test_fixed_points_lie_in_their_own_plane_and_a_tap_shows_the_modes_of_one() -> None:
    starts = torch.rand(60, 2, generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    found = find_fixed_points(switches(2), starts=starts, progress=False)
    view = grulens.plot(found)
    plane, spectrum = figures(view)
    points = next(r.data_source.data for r in plane.renderers if "kind" in r.data_source.data)
    assert points["kind"] == list(found.kinds)
    # two units: the plane holds all of it, so distances are those of the states
    places = torch.tensor(np.stack([points["x"], points["y"]], 1))
    torch.testing.assert_close(torch.cdist(places, places), torch.cdist(found.states, found.states))
    marks = [STABLE.fill if kind == "stable" else UNSTABLE.fill for kind in found.kinds]
    assert list(points["fill"]) == marks
    modes = next(r.data_source for r in spectrum.renderers if "modulus" in r.data_source.data)
    np.testing.assert_allclose(modes.data["modulus"], found.eigenvalues[0].abs())
    last = len(found) - 1
    plane._trigger_event(Tap(plane, x=float(places[last, 0]), y=float(places[last, 1])))
    np.testing.assert_allclose(modes.data["modulus"], found.eigenvalues[last].abs())
    assert spectrum.title.text == f"point {last}: {found.kinds[last]}"
    assert all(f"<td>{kind}</td>" in still(view) for kind in found.kinds)


def test_one_fixed_point_is_its_modes_and_none_is_an_error() -> None:
    cell = grulens.Cell(torch.zeros(3, 1), torch.zeros(3, 1), None, None)
    one = find_fixed_points(cell, starts=torch.zeros(1, 1), progress=False)
    (spectrum,) = figures(grulens.plot(one))
    assert spectrum.title.text == "point 0: stable"
    two = find_fixed_points(switches(1), starts=torch.tensor([[-1.0], [0], [1]]), progress=False)
    plane, _ = figures(grulens.plot(two))
    points = next(r.data_source.data for r in plane.renderers if "kind" in r.data_source.data)
    assert len(points["x"]) == 3, "one unit is drawn as a line"
    assert not np.any(points["y"])
    none = find_fixed_points(cell, starts=torch.zeros(0, 1), progress=False)
    with pytest.raises(GrulensError, match=r"no point to draw; .* found\.slow\(1e-3\)"):
        grulens.plot(none)


def test_exponents_have_their_band_and_what_is_gone_is_counted() -> None:
    torch.manual_seed(0)
    cell = LSTM(torch.randn(12, 2), torch.randn(12, 3), None, None)
    found = lyapunov(cell, torch.randn(60, 2))
    view = grulens.plot(found)
    (figure,) = figures(view)
    data = figure.renderers[0].data_source.data
    there = found.exponents.isfinite()
    np.testing.assert_allclose(data["value"], found.exponents[there])
    np.testing.assert_allclose(np.subtract(data["high"], data["low"]), 2 * found.band[there])
    assert still(view).count("<circle") == int(there.sum())
    gone = int((~there).sum())
    assert (f"{gone} are −∞" in still(view)) == (gone > 0)


def test_a_jacobian_is_a_matrix_of_a_row_and_a_part(model: Tagger) -> None:
    cell = grulens.record(model, X)["rnn.l0"].cell
    found = jacobian(cell, torch.randn(2, 3), torch.rand(2, 5))
    view = grulens.plot(found, row=1)
    (figure,) = figures(view)
    half = image(figure)["high"][0] / 252
    np.testing.assert_allclose(shown(figure), found.total[1].detach(), atol=2 * half)
    assert (figure.xaxis[0].axis_label, figure.yaxis[0].axis_label) == (
        "old unit", "new unit",
    )  # fmt: skip
    assert "row 1" in figure.title.text
    assert "5 new units by 5 old units" in still(view)
    (leak,) = figures(grulens.plot(found, output="leak"))
    np.testing.assert_allclose(shown(leak), found.parts["leak"][0].detach(), atol=2 * half)
    with pytest.raises(ReadoutError, match="the parts of this Jacobian are leak, update, candid"):
        grulens.plot(found, output="forget")
    with pytest.raises(ReadoutError, match="the parts of this Jacobian are total"):
        grulens.plot(Jacobian(found.total), output="leak")
    with pytest.raises(PositionError, match="row 2 is out of range"):
        grulens.plot(found, row=2)


def test_gradient_flow_is_a_map_and_the_state_that_is_tapped(
    model: Tagger, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = gradient_flow(grulens.record(model, X))
    view = grulens.plot(found, row=1, tokens="abcdef")
    gains, line, paths = figures(view)
    at = line.renderers[0].data_source
    np.testing.assert_allclose(at.data["gain"], found.at(5)[0][1])
    sizes = paths.renderers[0].data_source.data
    np.testing.assert_allclose(sizes["leak"], found.paths()["leak"][1])
    gains._trigger_event(Tap(gains, x=0.0, y=3.0))
    np.testing.assert_allclose(at.data["gain"], found.at(3)[0][1][:4])
    assert "after step 3" in still(view)
    some = torch.ones(5)
    toward = grulens.plot(found, row=1, toward=some)
    np.testing.assert_allclose(
        figures(toward)[1].renderers[0].data_source.data["gain"],
        found.at(5, toward=some)[0][1],
    )
    with pytest.raises(GrulensError, match="2 tokens for a layer of 6 steps"):
        grulens.plot(found, tokens="ab")
    part = gradient_flow(grulens.record(model, X), rows=0)
    with pytest.raises(PositionError, match=r"row 1 was not followed: gradient_flow\(\.\.\., rows"):
        grulens.plot(part, row=1)
    monkeypatch.setattr(memory_flow, "MOST", 1.0)
    without = grulens.plot(found)
    assert not figures(without)[0].visible
    assert "No map of 6 steps" in still(without)


def test_gradient_flow_of_h_and_c_is_drawn_as_that_of_h(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    found = gradient_flow(grulens.record(torch.nn.LSTM(3, 5, batch_first=True), X))
    gains, line, paths = figures(grulens.plot(found, row=1))
    at = line.renderers[0].data_source.data["gain"]
    np.testing.assert_allclose(at, found.at(5)[0][1])
    assert (gains.visible, paths.visible) == (True, False)
    monkeypatch.setattr(memory_flow, "MOST", 9 * 6.0 * 10**2 * 6 * 6 / 2)
    some = grulens.plot(found, row=1)
    assert "Estimated from 16 random directions" in still(some)
    at = figures(some)[1].renderers[0].data_source.data["gain"]
    np.testing.assert_allclose(at, found.at(5)[0][1], rtol=0.8)
    assert at[-1] == 1


def test_interactions_are_bars_of_pairs(model: Tagger) -> None:
    parts = [0, slice(1, 3), (4, 5)]
    found = interactions(model, X, target=1, phrases=parts, pairs="all", progress=False)
    view = grulens.plot(found, row=1)
    bars, strip = figures(view)
    data = next(r.data_source.data for r in bars.renderers if "credit" in r.data_source.data)
    np.testing.assert_allclose(data["credit"], found.values[:, 1], rtol=1e-6)
    assert data["token"][0] == "step 0 + steps 1, 2"
    assert bars.xaxis[0].axis_label == "pair"
    assert bars.yaxis.axis_label == "change of the score"
    assert bars.select_one(HoverTool).tooltips[0] == ("phrases", "@token")
    assert strip.name == "tokens, coloured by their credit"
    assert "<td>steps 4, 5</td>" in still(view)
    (named, _) = figures(grulens.plot(found, tokens=["ab", "not", "<b>", "c", " ", "e"]))
    data = next(r.data_source.data for r in named.renderers if "credit" in r.data_source.data)
    assert data["token"] == ["ab + not <b>", "ab + ␣e", "not <b> + ␣e"]
    with pytest.raises(GrulensError, match="2 tokens for a figure of 6 steps"):
        grulens.plot(found, tokens="ab")
    alone = interactions(model, X, target=1, phrases=[0], progress=False)
    with pytest.raises(GrulensError, match="no pair to draw"):
        grulens.plot(alone)
    ends = interactions(model, X, target=1, phrases=[-1, slice(-3, -1)], progress=False)
    (bars, _) = figures(grulens.plot(ends, tokens="abcdef"))
    data = next(r.data_source.data for r in bars.renderers if "credit" in r.data_source.data)
    assert data["token"] == ["step -1 + steps -3:-1:1"], "each row has its own end"


def test_a_decomposition_is_what_each_phrase_adds_to_a_class_at_every_step(model: Tagger) -> None:
    packed = nn.utils.rnn.pack_padded_sequence(X, [6, 4], batch_first=True)
    found = contextual_decomposition(model, packed, phrases=[0, slice(1, 3)])
    likeliest = int(found.logits[1, 3].argmax())
    for output, klass in ((None, likeliest), (2, 2), (-1, 3)):
        view = grulens.plot(found, row=1, output=output, tokens="abcdef")
        heat, _ = figures(view)
        want = found.scores[:, 1, :, klass].detach()
        half = image(heat)["high"][0] / 252
        np.testing.assert_allclose(shown(heat)[:, :4], want[:, :4], atol=2 * half)
        assert (image(heat)["image"][0] == 254).all(0).tolist() == [False] * 4 + [True] * 2
        assert heat.title.text == f"part of class {klass} · rnn.l0"
        assert heat.yaxis.axis_label == "phrase"
    one = contextual_decomposition(model, X, phrases=[0])
    line, _ = figures(grulens.plot(one, output=1))
    np.testing.assert_allclose(
        line.renderers[0].data_source.data["value"], one.scores[0, 0, :, 1].detach(), rtol=1e-5
    )
    with pytest.raises(PositionError, match="class 9 is out of range"):
        grulens.plot(found, output=9)
    bare = contextual_decomposition(model.rnn, X, phrases=[0, 1])
    assert bare.head is None
    heat, _ = figures(grulens.plot(bare))
    half = image(heat)["high"][0] / 252
    np.testing.assert_allclose(shown(heat), bare.beta[:, 0].norm(dim=-1).detach(), atol=2 * half)
    with pytest.raises(ReadoutError, match="output=1: "):
        grulens.plot(bare, output=1)


def test_a_readout_is_the_weight_of_each_unit_in_each_class(model: Tagger) -> None:
    found = grulens.credit.head_of(model, X)
    view = grulens.plot(found)
    (figure,) = figures(view)
    half = image(figure)["high"][0] / 252
    np.testing.assert_allclose(shown(figure), found.weight.detach(), atol=2 * half)
    assert figure.title.text == "weight · out of rnn.l0"
    assert ">class 0<" in still(view)
    assert "4 classes by 5 units" in still(view)
    (one,) = figures(grulens.plot(found, output=2))
    np.testing.assert_allclose(shown(one), found.weight[2:3].detach(), atol=2 * half)
    with pytest.raises(PositionError, match="class 4 is out of range"):
        grulens.plot(found, output=4)
