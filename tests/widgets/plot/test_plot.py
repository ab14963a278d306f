"""A result becomes a figure: every number where it belongs, and a picture for a saved notebook."""

from typing import Any

import numpy as np
import pytest
import torch
from bokeh.events import Tap
from torch import nn

import grulens
from grulens import ablate, plot, sweep, trace_patch
from grulens.corpus import automaton
from grulens.demo import last_capital
from grulens.errors import (
    EditError,
    GrulensError,
    PositionError,
    ReadoutError,
    StoppedWarning,
)
from grulens.views.figure.canvas import frame
from grulens.widgets.plot import registry


@pytest.fixture
def rnn() -> nn.GRU:
    torch.manual_seed(0)
    return nn.GRU(3, 5, batch_first=True)


X = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))


def bars(view: Any) -> Any:
    return view.document.roots[0].renderers[0].data_source.data


def picture(view: Any) -> Any:
    figure = view.document.roots[0].children[0]
    return next(r for r in figure.renderers if "image" in r.data_source.data).data_source.data


def test_one_number_is_shown_with_its_sign(rnn: nn.GRU) -> None:
    found = sweep(rnn, X, layer="l0", readout=lambda out: out[0][0, -1, 0], progress=False)
    view = grulens.plot(found)
    assert bars(view)["unit"] == [str(unit) for unit in found.order()]
    at = found.effect[list(found.order())].double().numpy()
    np.testing.assert_allclose(bars(view)["effect"], at)
    assert repr(view) == "plot of Sweep('l0', 5 units, readout ())"
    html = view._repr_mimebundle_()[0]["text/html"]
    assert "effect of each unit · l0" in html
    assert f">{found.order()[0]}<" in html
    view.close()


def test_of_several_numbers_the_mean_size_or_the_one_asked_for(rnn: nn.GRU) -> None:
    found = sweep(rnn, X, layer="l0", readout=lambda out: out[0][:, -1], progress=False)
    view = grulens.plot(found)
    assert bars(view)["unit"] == [str(unit) for unit in found.order()]
    np.testing.assert_allclose(bars(view)["effect"], np.sort(found.size())[::-1])
    assert (bars(view)["recurrent_from"] == 0).all(), "sizes do not add: none follows another"
    one = grulens.plot(found, output=(1, 2))
    want = found.effect[:, 1, 2].double().numpy()
    np.testing.assert_allclose(sorted(bars(one)["effect"]), sorted(want))
    by_time = sweep(rnn, X, layer="l0", units=[0], times=[1, 4], progress=False)
    with pytest.raises(GrulensError, match="2 tokens for a figure of 5 steps"):
        grulens.plot(by_time, tokens="ab")
    for output in (2, (0, 5), (0, 0, 0), 1.5, True):
        with pytest.raises(ReadoutError, match=r"names no number of a readout of shape \(2, 5\)"):
            grulens.plot(found, output=output)


def test_groups_are_named(rnn: nn.GRU) -> None:
    found = sweep(rnn, X, layer="l0", units=[[0, 1, 2], [4, 3], None], progress=False)
    assert set(bars(grulens.plot(found))["unit"]) == {"units 0 to 2", "units 4, 3", "all units"}


def test_over_time_each_value_stands_at_its_step(rnn: nn.GRU) -> None:
    found = sweep(
        rnn, X, layer="l0", readout=lambda out: out[0][0, -1, 0], times=[4, 1], progress=False
    )
    view = grulens.plot(found, tokens="abcdef")
    drawn = picture(view)
    image = drawn["image"][0]
    assert (image == 254).all(0).tolist() == [True, False, True, True, False, True]
    values = drawn["low"][0] + image / 252 * (drawn["high"][0] - drawn["low"][0])
    half = (drawn["high"][0] - drawn["low"][0]) / 252
    np.testing.assert_allclose(values[:, [4, 1]], found.effect.numpy(), atol=half)
    html = view._html()
    assert "data:image/png" in html
    assert all(f">{token}<" in html for token in "be")


def test_times_from_each_rows_end_have_no_axis(rnn: nn.GRU) -> None:
    packed = nn.utils.rnn.pack_padded_sequence(X, [6, 3], batch_first=True)
    found = sweep(rnn, packed, layer="l0", times=[-1], make_edit=ablate, progress=False)
    with pytest.raises(PositionError, match="count from each row's own end"):
        grulens.plot(found)


def test_a_trace_of_one_block_is_a_line_and_of_several_a_picture(rnn: nn.GRU) -> None:
    def last(output: Any) -> torch.Tensor:
        return output[1][0].sum(1)

    one = trace_patch(rnn, X, X.flip(1), "l0", last, progress=False)
    line = grulens.plot(one, tokens=list("abcdef")).document.roots[0].children[0]
    shown = line.renderers[0].data_source.data["value"]
    np.testing.assert_allclose(shown, one.share.mean(2)[0], rtol=1e-5)
    row = grulens.plot(one, output=1).document.roots[0].children[0]
    np.testing.assert_allclose(row.renderers[0].data_source.data["value"], one.share[0, :, 1])
    with pytest.raises(GrulensError, match="2 tokens for a figure of 6 steps"):
        grulens.plot(one, tokens="ab")
    several = trace_patch(rnn, X, X.flip(1), "l0", last, block=2, progress=False)
    drawn = picture(grulens.plot(several))
    assert drawn["image"][0].shape == (3, 6)
    assert drawn["high"][0] >= 1.0, "a whole share is never beyond the colours"


def test_what_an_interrupt_left_is_not_drawn(rnn: nn.GRU) -> None:
    seen = 0

    def readout(output: Any) -> torch.Tensor:
        nonlocal seen
        seen += 1
        if seen > 30:
            raise KeyboardInterrupt
        return output[0][0, -1, 0]

    with pytest.warns(StoppedWarning):
        found = sweep(
            rnn, X, layer="l0", readout=readout, units=list(range(5)) * 8, memory=1, progress=False
        )
    assert 0 < int(found.done.sum()) < 40
    view = grulens.plot(found)
    assert len(bars(view)["unit"]) == int(found.done.sum())
    assert f"stopped after {int(found.done.sum())} of 40 units" in view.document.roots[0].title.text


def test_attention_is_a_map_of_which_a_tap_chooses_a_state(rnn: nn.GRU) -> None:
    found = grulens.memory.attention(grulens.record(rnn, X))
    view = grulens.plot(found, tokens="abcdef", row=1)
    drawn, bars_ = picture(view), view.document.roots[0].children[1].children[1]
    image = drawn["image"][0]
    assert (image[np.triu_indices(6, 1)] == 254).all(), "what is later is in nobody's past"
    weights = (image / 252 * drawn["high"][0]) ** 2
    want = found.map()[1].numpy()
    at = np.tril_indices(6)
    np.testing.assert_allclose(weights[at], want[at], atol=0.01)

    def shown() -> np.ndarray:
        return bars_.renderers[0].data_source.data["weight"]

    np.testing.assert_allclose(shown(), want[5], atol=1e-6)
    figure = view.document.roots[0].children[0]
    figure._trigger_event(Tap(figure, x=0, y=2.2))
    np.testing.assert_allclose(shown(), want[2], atol=1e-6)
    assert "state after step 2" in view._html()
    assert "data:image/png" in view._html()
    view.close()


def test_attention_toward_a_direction_has_two_signs(rnn: nn.GRU) -> None:
    found, toward = grulens.memory.attention(grulens.record(rnn, X)), torch.randn(5)
    drawn = picture(grulens.plot(found, toward=toward))
    low, high = drawn["low"][0], drawn["high"][0]
    assert low == -high
    at = np.tril_indices(6)
    values = low + drawn["image"][0] / 252 * (high - low)
    want = found.map(toward)[0].numpy()
    np.testing.assert_allclose(values[at], want[at], atol=(high - low) / 252)
    with pytest.raises(GrulensError, match="2 tokens for a layer of 6 steps"):
        grulens.plot(found, tokens="ab")
    with pytest.raises(PositionError, match="row 2 is out of range for this attention"):
        grulens.plot(found, row=2)
    with pytest.raises(EditError, match=r"toward must be a real tensor \(unit,\) = \(5,\)"):
        grulens.plot(found, toward=torch.zeros(4))


def test_timescales_mark_units_in_all_their_figures(rnn: nn.GRU) -> None:
    found = grulens.memory.timescales(grulens.record(rnn, X), quantiles=[0.25])
    view = grulens.plot(found)
    assert repr(view) == "plot of Timescales('l0', 5 units, 12 steps)"
    top, lives = view.document.roots[0].children
    saturation = top.children[0]
    assert "half-lives" in view._html()
    lives._trigger_event(Tap(lives, x=0, y=1))
    ring = saturation.renderers[-1].data_source.data
    unit = int(found.half_life.argmax())
    assert ring["open"] == [float(found.r_high[unit]), float(found.z_high[unit])]
    view.close()


class Numbers:
    """A result from outside."""

    layer = "l0"

    def __repr__(self) -> str:
        return "Numbers()"


class MoreNumbers(Numbers):
    """One that derives from it."""


def test_a_result_from_outside_is_drawn_by_what_is_registered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "_DRAWS", dict(registry._DRAWS))
    with pytest.raises(
        GrulensError, match=r"plot shows an Automaton, CKA, CloseUp, Comp.* or \w+; got Numbers\(\)"
    ):
        grulens.plot(Numbers())
    asked = []

    @registry.draws(Numbers)
    def draw_numbers(found: Numbers, options: registry.PlotOptions) -> registry.Figure:
        asked.append(options)
        root = frame(height=100, title=f"numbers of {found.layer}")
        return root, lambda: "<p>numbers</p>"

    for found in (Numbers(), MoreNumbers()):
        view = grulens.plot(found, tokens="ab", row=3, output=1, toward=X)
        assert view.document.roots[0].title.text == "numbers of l0"
        assert repr(view) == "plot of Numbers()"
        assert "<p>numbers</p>" in view._repr_mimebundle_()[0]["text/html"]
        view.close()
        assert (asked[-1].tokens, asked[-1].row, asked[-1].output) == (["a", "b"], 3, 1)
        assert asked[-1].toward is X
    with pytest.raises(GrulensError, match="Numbers is drawn by draw_numbers already"):
        registry.draws(Numbers)
    for wrong in (3, "Numbers", object):
        with pytest.raises(GrulensError, match="draws takes the class of a result, got"):
            registry.draws(wrong)


def test_an_automaton_of_the_network_is_drawn_and_a_guess_is_not() -> None:
    def asks_b(answers: torch.Tensor) -> torch.Tensor:
        return answers[:, -1].argmax(-1) == 2

    model = last_capital.load()
    given: dict[str, Any] = {"accepts": asks_b, "lengths": (8,), "progress": False}
    found = automaton(model, "aAB?", **given)
    guess = automaton(model, "aAB?", method="clusters", clusters=1, **given)
    assert (found.why_not, bool(guess.why_not)) == ("", True)
    drawn, not_drawn = (plot(one)._repr_mimebundle_()[0]["text/html"] for one in (found, guess))
    assert drawn.count("<circle") == len(found.dfa) + sum(found.dfa.accepting)
    assert "<circle" not in not_drawn
