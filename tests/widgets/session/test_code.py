"""What a screen gives as code makes the very run that is shown, with the user's own names."""

from __future__ import annotations

import linecache
from itertools import count
from typing import Any

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from torch import nn

import grulens
from grulens import Session, ablate, clamp, patch, record
from grulens.widgets.session.names import Names, expressions, value

_cells = count()

START = """
import torch, grulens
from torch import nn
from types import SimpleNamespace
from grulens import *
from tests.widgets.conftest import Tagger
torch.manual_seed(0)

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)
    def forward(self, x, h=None, *, factor=1.0, how="plain", parts=()):
        out = self.rnn(x * factor, h)[0]
        return {"logits": self.out(out) + sum(parts), "how": how}
    def choose(self, x, *, labels=0, edits=1.0):
        return self.out(self.rnn(x * edits)[0])[..., labels:]

net, tagger = Two().eval(), Tagger().eval()
x, h = torch.randn(2, 5, 3), torch.randn(1, 2, 4)
exp = SimpleNamespace(net=Two().eval(), data={"x": torch.randn(3, 5, 3)})
models = {"small": Two().eval()}
worder = nn.Sequential(nn.Embedding(2, 3), nn.GRU(3, 4, batch_first=True)).eval()
def spell(text):
    return ["ab".index(word) for word in text.split()]
"""


def user(source: str) -> dict[str, Any]:
    """The names of a user after this code; Python can show its lines, as in a notebook."""
    name = f"<cell {next(_cells)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, name, "exec"), names)
    return names


def outputs(output: Any) -> list[torch.Tensor]:
    if isinstance(output, dict):
        return [part for part in output.values() if isinstance(part, torch.Tensor)]
    return [output] if isinstance(output, torch.Tensor) else list(output)


def again(names: dict[str, Any], session: Session) -> str:
    """Run a session's code with the user's names only: it makes the very same run."""
    code = session.code()
    others = {name: held for name, held in names.items() if not isinstance(held, Session)}
    for given in ("torch", "grulens", *grulens.__all__, "ablate", "clamp", "record", "copy"):
        others.pop(given, None)  # the code brings its own
    exec(code, others)
    now, then = outputs(others["run"].output), outputs(session.edited.output)
    assert len(now) == len(then) > 0
    assert all(torch.equal(one, other) for one, other in zip(now, then, strict=True)), code
    return code


EDITS = """
s.add(clamp(s.layer, "z", [0, 2], value=0.75, at=slice(1, 3)))
s.add(ablate(s.layer, 1, to="mean", at=[2, 3, 4]))
"""


TEXT_EDIT = """
s.add(ablate(s.layer, 1, to="mean", at=[2, 3]))
"""


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ("Session(net, x)", "record(net, x, edits=edits)"),
        ("Lens(net, x).session", "record(net, x, edits=edits)"),
        ("Session(\n    net,\n    x[:1],\n)", "record(net, x[:1], edits=edits)"),
        ("Session(exp.net, exp.data['x'])", "record(exp.net, exp.data['x'], edits=edits)"),
        ("Session(models['small'], x[0:1, -5:])", "record(models['small'], x[0:1, -5:]"),
        ("Session(net, x, h)", "record(net, x, h, edits=edits)"),
        ("Session(net, x, h, how='ünï')", "record(net, x, h, how='ünï', edits=edits)"),
        ("Session(net, x, h=h, factor=2.5)", "record(net, x, h=h, factor=2.5, edits=edits)"),
        ("Session(net, x, None, parts=[1, 0.5])", "record(net, x, None, parts=[1, 0.5]"),
        ("Session(net, x, parts=(h.sum(),))", "parts=(torch.tensor("),
        ("Session(net, torch.randn(1, 5, 3))", "record(net, torch.tensor([[["),
        ("Session(*(net, x))", "record(net, x, edits=edits)"),
        ("Session(tagger, 'abcdab')", "record(tagger, tagger.encode('abcdab'), edits=edits)"),
        (
            "Session(worder, 'b a b a a', encode=spell)",
            "torch.tensor([spell('b a b a a')])",
        ),
        ("Session(net, x, call='choose')", "record(net, x, call='choose', edits=edits)"),
        (
            "Session(net, call='choose', inputs=((x,), {'edits': 0.5, 'labels': 1}))",
            "record(net, inputs=((x, ), {'edits': 0.5, 'labels': 1}), call='choose', edits=edits)",
        ),
        ("(lambda n, b: Session(n, b))(net, x)", "record(net, x, edits=edits)"),
        ("GateSliders(net.double(), x.double()).session", "record(net, torch.tensor([[["),
    ],
)
def test_the_code_makes_the_very_run(made: str, expected: str) -> None:
    names = user(f"{START}\ns = {made}\n{EDITS}")
    code = again(names, names["s"])
    assert expected in code
    assert "ablate('" in code
    assert "at=slice(2, 5))" in code
    assert "#" not in code


def test_another_text_is_the_one_that_runs() -> None:
    names = user(START + "s = Session(tagger, 'abcdab')\ns.set_input('ddcc')" + TEXT_EDIT)
    assert "tagger.encode('ddcc')" in again(names, names["s"])
    lens = grulens.Lens(names["s"])
    lens.text.value = "dab\ud83d"[:3] + "a"
    lens.run.click()
    assert "tagger.encode('daba')" in again(names, names["s"])


def test_a_name_that_means_something_else_now_is_not_used() -> None:
    names = user(START + "s = Session(net, x)")
    names["x"] = torch.zeros(2, 5, 3)
    code = again(names, names["s"])
    assert "record(net, torch.tensor(" in code
    names["net"] = nn.Linear(2, 2)
    assert "# model: the Two shown; it has no name where this screen was made" in names["s"].code()


def test_patches_are_written_by_the_name_of_their_recording() -> None:
    source = """
clean = record(net, x)
s = Session(net, x * 0.5)
s.add(patch("rnn.l0", "h", [1], source=clean, at=[1, 2]))
s.add(patch("rnn.l0", "z", source=clean["rnn.l0"], at=0, rows=[1]))
"""
    names = user(START + source)
    code = again(names, names["s"])
    assert "patch('rnn.l0', 'h', [1], source=clean, at=slice(1, 3))" in code
    del names["clean"]
    code = names["s"].code()
    assert code.count("# left out, because what it puts in has no name here: state of unit 1") == 1
    names["mine"] = names["s"].slots[0].edit
    assert "    mine,\n" in names["s"].code()


def test_tensors_in_edits_are_written_whole_or_by_their_name() -> None:
    source = """
held = torch.randn(5, 4, dtype=torch.float64)
s = Session(net, x)
s.add(clamp("rnn.l0", "r", value=torch.rand(4)))
s.add(shift("rnn.l0", "z", by=held))
"""
    names = user(START + source)
    code = again(names, names["s"])
    assert "import torch\n" in code
    assert "value=torch.tensor([" in code


def test_what_cannot_be_written_is_said_in_a_comment() -> None:
    names = user(START + "s = Session(net, torch.randn(40, 5, 3))\ns.add(ablate('rnn.l0', 1))")
    code = names["s"].code()
    assert code.startswith("# x: a tensor of (40, 5, 3), float32; it has no name where this screen")
    names["x"] = names["s"].args[0]  # as the comment says
    exec(code, names)
    assert torch.equal(names["run"].output["logits"], names["s"].edited.output["logits"])


def test_dropout_autocast_and_eval_are_in_the_code() -> None:
    names = user(
        START
        + """
drop = nn.GRU(3, 4, 2, dropout=0.5, batch_first=True).train()
s = Session(drop, x, readout=lambda out: out[0])
"""
    )
    session = names["s"]
    assert "# the model draws random numbers (dropout)" in session.code()
    session.evaluate = True
    assert "in_eval = copy.deepcopy(drop).eval()" in session.code()
    others = {"drop": names["drop"], "x": names["x"]}
    exec(session.code(), others)
    assert torch.equal(others["run"].output[0], session.edited.output[0])
    assert names["drop"].training
    names = user(START + "with torch.autocast('cpu'):\n    s = Session(net, x)\n")
    assert "with torch.autocast('cpu', dtype=torch.bfloat16):" in again(names, names["s"])


def test_in_a_function_its_own_names_serve() -> None:
    mine, given = nn.GRU(3, 4, batch_first=True), torch.randn(2, 6, 3)
    session = Session(mine, given)
    assert session.code().endswith("run = record(mine, given)")


def test_steps_in_a_row_are_a_slice() -> None:
    session = Session(nn.GRU(3, 4, batch_first=True), torch.ones(1, 12, 3))
    for at, written in (
        ([5, 3, 4], "at=slice(3, 6)"),
        ([False] * 10 + [True] * 2, "at=slice(10, 12)"),
        ([3], "at=[3]"),
        ([3, 5], "at=[3, 5]"),
        ([-2, -1], "at=[-2, -1]"),
        (slice(None, 8, 2), "at=slice(None, 8, 2)"),
    ):
        session.set_slots(())
        edit = ablate("l0", 3, at=at)
        session.add(edit)
        assert written in session.code()
        again_ = eval(edit.code(), {"ablate": ablate})
        alone = record(session.model, *session.args, edits=[again_])
        assert torch.equal(alone["l0"].h, session.now.h)


# the magics


@pytest.fixture
def shell() -> Any:
    InteractiveShell.clear_instance()
    made = InteractiveShell.instance()
    grulens.load_ipython_extension(made)
    made.run_cell(START)
    yield made
    grulens.unload_ipython_extension(made)
    made.history_manager.end_session()
    InteractiveShell.clear_instance()


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("%grulens exp.net exp.data['x'] --as s", "record(exp.net, exp.data['x'])"),
        ("%grulens net x h --as s", "record(net, x, h)"),
        ("%grulens tagger 'abca' --as s", "record(tagger, tagger.encode('abca'))"),
        ("%%grulens net --as s\nnet(x[1:], factor=0.5)", "record(net, x[1:], factor=0.5)"),
        ("%%grulens exp.net --as s\nfor one in [x]:\n    exp.net(one)", "record(exp.net, one)"),
    ],
)
def test_the_magics_names_are_the_users(shell: Any, cell: str, expected: str) -> None:
    with capture_output():
        shell.run_cell(cell)
    names = dict(shell.user_ns)
    session = names.pop("s").session
    assert expected in again(names, session)


# names


def test_names_come_from_paths_only_and_evaluate_nothing_else() -> None:
    called: list[bool] = []
    space = {"f": lambda: called.append(True), "x": [1, 2]}
    for text in ("f()", "x + x", "[*x]", "x[f()]", "lambda: 1", "x[", ""):
        assert value(text, space) is None
    assert called == []
    assert value("x[-1]", space) == 2
    assert expressions("net(a.b[0], *c, k='x')")[0] == "a.b[0]"
    assert expressions("net(") == []


def test_large_dicts_are_not_looked_through() -> None:
    inside = object()
    assert Names({"d": {"k": inside}}).of(inside) == "d['k']"
    assert Names({"d": {str(i): inside for i in range(999)}}).of(inside) is None
    assert Names({"_hidden": inside}).of(inside) is None
    assert patch is grulens.patch
    assert clamp is grulens.clamp
