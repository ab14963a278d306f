"""A sweep and a trace as figures, in real JupyterLab and Notebook 7."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.jupyter import settled

pytestmark = pytest.mark.browser

SETUP = """
import grulens, torch
from grulens.demo import load
model, encode, decode = load()
text, other = "def f(name):\\n    print(name)\\n", "def f(word):\\n    print(name)\\n"
found = grulens.sweep(model, encode(text), layer="rnn.l0",
                      readout=lambda out: out[0, 20, 5], progress=False)
traced = grulens.trace_patch(model, encode(text), encode(other), "rnn.l0",
                             lambda out: out[:, 22, 5], block=64, progress=False)
"""


@pytest.mark.parametrize(("flavour", "theme"), [("lab", "light"), ("notebook", "dark")])
def test_figures_have_names_and_the_chart_is_dragged_to_the_rest(
    open_notebook: Any, theme: str
) -> None:
    notebook = open_notebook(SETUP + "\nview = grulens.plot(found)\nview",
                             "grulens.plot(traced, tokens=other)")  # fmt: skip
    notebook.run_all()
    notebook.theme(theme)
    page = notebook.page
    page.set_viewport_size({"width": 968, "height": 1900})
    name = "effect of every unit: effect of each unit · rnn.l0"
    chart = page.get_by_role("figure", name=name, exact=True)
    chart.wait_for()
    for name in (
        "recovered share by unit and step: recovered share · rnn.l0",
        "tokens, coloured by the largest of each step",
    ):
        page.get_by_role("figure", name=name, exact=True).wait_for()
    settled(chart)
    notebook.screenshot(f"plot-{theme}", of=notebook.cell(0))
    notebook.screenshot(f"trace-{theme}", of=notebook.cell(1))
    top = "print(round(view.document.roots[0].y_range.end, 1))"
    assert notebook.kernel(top) == "-0.5"
    box = chart.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y + 150)
    page.mouse.down()
    for step in range(1, 6):
        page.mouse.move(x, y + 150 - 50 * step)
    page.mouse.up()
    notebook.until(f"{top[:-1]} > 3)", "True")


def test_a_saved_notebook_keeps_the_picture(open_notebook: Any) -> None:
    notebook = open_notebook(SETUP + "\ngrulens.plot(found)")
    notebook.run_all()
    saved = notebook.save().cells[0].outputs
    html = "".join(output.data.get("text/html", "") for output in saved)
    assert "effect of each unit · rnn.l0" in html
    strongest = notebook.kernel("print(found.order()[0])")
    assert f">{strongest}<" in html


KINDS = """
from grulens import dynamics, memory, phrases, credit
run = grulens.record(model, encode(text), layers=["rnn.l0"])
torch.manual_seed(0)
cell = grulens.Cell(torch.randn(60, 2), 0.6 * torch.randn(60, 20), None, None)
two = grulens.Cell(torch.zeros(6, 1), torch.zeros(6, 2), None, None)
two.weight_hh[4:] = 4 * torch.eye(2)       # two switches that stay where they are put
parts = [slice(0, 3), slice(3, 6), slice(6, 12)]
results = {
    "portrait": dynamics.portrait(run),
    "points": dynamics.find_fixed_points(two, starts=2 * torch.rand(200, 2) - 1, progress=False),
    "lyapunov": dynamics.lyapunov(cell, torch.randn(200, 2)),
    "jacobian": dynamics.jacobian(cell, torch.randn(1, 2), torch.rand(1, 20)),
    "flow": memory.gradient_flow(run),
    "interactions": phrases.interactions(model, encode(text), target=3, phrases=parts,
                                         pairs="all", progress=False),
    "decomposition": phrases.contextual_decomposition(model, encode(text), phrases=parts),
    "head": credit.head_of(model, encode(text)),
}
"""
#: The name of the first figure of each, for those who do not see it.
FIGURES = {
    "portrait": "states, and where the network stands still: states of rnn.l0",
    "points": "states, and where the network stands still: fixed points",
    "lyapunov": "Lyapunov exponents: Lyapunov exponents",
    "jacobian": "derivative, new unit by old unit: derivative · the next state by the one before",
    "flow": "gain of every state before: gain, all directions · state after step 28",
    "interactions": "interaction of each pair: together beyond each alone · rnn.l0",
    "decomposition": "part of class 5 by phrase and step: part of class 5 · rnn.l0",
    "head": "weight, class by unit: weight · readout of rnn.l0",
}


@pytest.mark.parametrize(("flavour", "theme"), [("lab", "light"), ("notebook", "dark")])
def test_each_kind_of_result_is_drawn(open_notebook: Any, theme: str) -> None:
    options = dict.fromkeys(("portrait", "flow", "interactions", "decomposition"), ", tokens=text")
    options["decomposition"] += ", output=5"
    cells = [f"grulens.plot(results[{name!r}]{options.get(name, '')})" for name in FIGURES]
    notebook = open_notebook(SETUP + KINDS, *cells)
    notebook.run_all()
    notebook.theme(theme)
    page = notebook.page
    page.set_viewport_size({"width": 1280, "height": 4800})
    for name in FIGURES.values():
        page.get_by_role("figure", name=name, exact=True).wait_for()
    for place, name in enumerate(FIGURES):
        settled(notebook.cell(place + 1))
        notebook.screenshot(f"plot-{name}-{theme}", of=notebook.cell(place + 1))
