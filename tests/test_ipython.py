"""The extension in a real IPython shell."""

import asyncio
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from torch import nn

import grulens
from grulens import AblationToggles, CellView, CompareView, GateSliders, Lens, NeuronTable
from grulens.credit import CreditBars
from grulens.dynamics import PhasePortrait
from grulens.magics import VIEWS, models_in, runs_of
from grulens.memory import GateMemory
from grulens.phrases import PhraseTree
from grulens.widgets.studies import STUDIES
from tests.widgets.observed_cells import made

OPTIONS = [
    "--layer", "--tokens", "--labels", "--readout", "--truth", "--call", "--view", "--as",
]  # fmt: skip


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    InteractiveShell.clear_instance()
    made = InteractiveShell.instance()
    torch.manual_seed(0)
    made.user_ns |= {
        "model": nn.ModuleDict({"rnn": nn.GRU(3, 4, 2, batch_first=True)})["rnn"],
        "net": nn.Sequential(nn.Linear(2, 2)),
        "x": torch.ones(1, 6, 3),
        "torch": torch,
    }
    yield made
    grulens.unload_ipython_extension(made)
    made.history_manager.end_session()
    InteractiveShell.clear_instance()


@pytest.fixture
def loaded(shell: InteractiveShell) -> InteractiveShell:
    grulens.load_ipython_extension(shell)
    return shell


def run(shell: InteractiveShell, code: str) -> str:
    """What a cell prints, to either stream."""
    with capture_output(display=False) as out:
        shell.run_cell(code)
    return (out.stdout + out.stderr).strip()


def shown(shell: InteractiveShell, code: str) -> list[Any]:
    with capture_output() as out:
        shell.run_cell(code)
    return out.outputs


class Reader(nn.Module):
    """A model of text; it keeps what it read."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(1, 4, batch_first=True)
        self.read: list[str] = []

    def encode(self, text: str) -> torch.Tensor:
        self.read.append(text)
        return torch.tensor([[[float(ord(letter))] for letter in text]])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rnn(x)[0]


class Doubled(nn.GRU):
    """A GRU with a forward of its own, which grulens does not open."""

    def forward(self, x: torch.Tensor, h: Any = None) -> Any:
        return super().forward(2 * x, h)


def state(shell: InteractiveShell) -> Any:
    hooks = shell.strdispatchers["complete_command"].strs
    return (
        [*shell.Completer.custom_matchers],
        [*shell.Completer.matchers][1:],
        {kind: sorted(table) for kind, table in shell.magics_manager.magics.items()},
        sorted(shell.magics_manager.registry),
        {key: len(chain.chain) for key, chain in hooks.items()},
        sorted(map(str, shell.display_formatter.formatters["text/html"].type_printers)),
        sorted(shell.user_ns),
        len(shell.configurables),
    )


def test_unloading_leaves_the_shell_as_it_was(shell: InteractiveShell) -> None:
    before = state(shell)
    grulens.load_ipython_extension(shell)
    once = state(shell)
    grulens.load_ipython_extension(shell)
    assert state(shell) == once != before
    grulens.unload_ipython_extension(shell)
    assert state(shell) == before
    grulens.unload_ipython_extension(shell)
    assert state(shell) == before


def test_the_shells_own_commands_load_and_reload(shell: InteractiveShell) -> None:
    run(shell, "%unload_ext grulens")  # IPython registers these commands when first used
    before = state(shell)
    assert not run(shell, "%load_ext grulens")
    assert "already loaded" in run(shell, "%load_ext grulens")
    once = state(shell)
    assert not run(shell, "%reload_ext grulens")
    assert state(shell)[2:] == once[2:]
    assert len(state(shell)[0]) == len(once[0]) == 1
    run(shell, "%unload_ext grulens")
    assert state(shell) == before
    assert "not found" in run(shell, "%grulens")


def test_without_arguments_it_lists_the_models(loaded: InteractiveShell) -> None:
    assert run(loaded, "%grulens").endswith("model: l0, l1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        loaded.user_ns["fast"] = torch.jit.script(nn.Sequential(nn.GRU(3, 4)))
    loaded.user_ns["no_gru"] = nn.Linear(3, 4)
    said = "fast cannot be opened: '0' is a scripted GRU, whose code no longer runs in Python: use"
    shown = run(loaded, "%grulens")
    assert "model: l0, l1\n" in shown
    assert said in shown
    assert "no_gru" not in shown
    assert "&#x27;0&#x27; is a scripted GRU" in models_in(loaded.user_ns)._repr_html_()
    del loaded.user_ns["model"]
    assert said in run(loaded, "%grulens nothing")
    del loaded.user_ns["fast"]
    assert run(loaded, "%grulens").endswith("no model with a recurrent layer in this notebook yet")


def test_a_model_alone_lists_its_layers(loaded: InteractiveShell) -> None:
    assert "l1: GRU, input 4, hidden 4, forward" in run(loaded, "%grulens model")


@pytest.mark.parametrize(
    ("view", "kind"),
    [
        ("lens", Lens),
        ("gates", GateSliders),
        ("neurons", NeuronTable),
        ("ablation", AblationToggles),
        ("cell", CellView),
        ("compare", CompareView),
        ("memory", GateMemory),
        ("motion", PhasePortrait),
        ("credit", CreditBars),
        ("phrases", PhraseTree),
    ],
)
def test_a_screen_on_an_input(loaded: InteractiveShell, view: str, kind: type) -> None:
    outputs = shown(loaded, f"%grulens model x --view {view} --layer l1 --as screen")
    screen = loaded.user_ns["screen"]
    assert type(screen) is kind
    assert screen.session.layer == "l1"
    assert any("widget-view" in mime for output in outputs for mime in output.data)
    assert not any(value is screen for value in loaded.user_ns["_oh"].values())


def test_what_a_lens_can_look_into_is_a_screen_of_its_own() -> None:
    assert {name: ":".join(VIEWS[name]) for name in STUDIES} == {
        name: study.screen for name, study in STUDIES.items()
    }


@pytest.mark.parametrize("text", ["d = {1 + 1}", "$x of 'x'", "a  b"])
def test_a_text_is_read_as_it_stands(loaded: InteractiveShell, text: str) -> None:
    reader = loaded.user_ns["reader"] = Reader()
    run(loaded, f'%grulens reader "{text}" --as screen')
    assert reader.read[0] == text
    assert loaded.user_ns["screen"].session.tokens == list(text)


def test_inputs_are_paths_and_tokens_a_name(loaded: InteractiveShell) -> None:
    loaded.user_ns |= {"batch": {"x": [torch.ones(1, 3, 3)]}, "words": ["a", "b", "c"]}
    run(loaded, "%grulens model batch['x'][-1] --tokens words --as screen")
    assert loaded.user_ns["screen"].session.tokens == ["a", "b", "c"]


@pytest.mark.parametrize("view", VIEWS)
def test_labels_readout_and_truth_are_names(loaded: InteractiveShell, view: str) -> None:
    loaded.user_ns |= {
        "words": ["yes", "no"], "right": ["no"], "last": lambda output: output[0][:, -1, :2],
    }  # fmt: skip
    line = f"%grulens model x --view {view} --labels words --readout last --truth right --as screen"
    run(loaded, line)
    session = loaded.user_ns["screen"].session
    assert session.labels == ["yes", "no"]
    assert session.answer_before.values.shape == (1, 2)
    assert session.truth == ["no"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "%grulens modle x",
            "no 'modle' in this notebook; models with a recurrent layer here: model (l0, l1)",
        ),
        ("%grulens model y", "no 'y' in this notebook"),
        ("%grulens model the film", "no 'the' in this notebook; put a text in quotes"),
        ("%grulens model x --as 1x", "--as 1x: '1x' is no name that Python takes"),
        ("%grulens model x --as class", "'class' is no name that Python takes"),
        ("%grulens model x --call __class__", "'__class__' begins with an underscore; GRU has "),
        ("%grulens net x", "holds no nn.GRU, nn.LSTM or nn.RNN; it holds 1 Linear"),
        (
            "%grulens x",
            "'x' is a Tensor, not a model; models with a recurrent layer here: model (l0, l1)",
        ),
        ("%grulens model x --layer l9", "layer 'l9' did not run on this input; what ran is l0, l1"),
        ("%grulens model x.sum()", "'x.sum()' is no name, path or literal"),
        ("%grulens model x[0, 0]", "'x[0,' is no name, attribute, subscript or literal (a space"),
        (
            "%grulens model x, x",
            "'x,' has a comma: what stands in this line is parted by spaces alone",
        ),
        ("%grulens model x,x[0]", "parted by spaces alone, so write x x[0]"),
        ("%grulens model, x", "'model,' has a comma"),
        ("%grulens model x --truth x", "truth must have one item a row"),
        ("%grulens model x --truth nowhere", "'nowhere'"),
        ("%grulens model x --labels nowhere", "'nowhere'"),
        ("%grulens model x --readout nowhere", "'nowhere'"),
        ("%grulens model x --shout", "unrecognized arguments: --shout"),
        ("%grulens model x[9][9]", "IndexError"),
        ("%grulens model x --view all", "invalid choice: 'all'"),
        (
            "%%grulens\ny = 1",
            "%%grulens needs a model; models with a recurrent layer here: model (l0, l1)",
        ),
        ("%%grulens model x\ny = 1", "takes the input from the cell"),
        ("%%grulens model\ny = 1", "the cell ran, but not the forward of 'model'"),
    ],
)
def test_what_goes_wrong_is_one_line(loaded: InteractiveShell, code: str, message: str) -> None:
    said = [line for line in run(loaded, code).splitlines() if line]
    assert len(said) == 1
    assert said[0].startswith("UsageError: ")
    assert message in said[0]


def test_the_cell_magic_shows_the_last_run(loaded: InteractiveShell) -> None:
    code = "%%grulens model --as screen\ny, _ = model(x)\nlast = torch.zeros(1, 2, 3)\nmodel(last)"
    said = run(loaded, code)
    assert "model ran 2 times in this cell; the last run is shown" in said
    assert loaded.user_ns["screen"].session.steps == 2
    assert loaded.user_ns["y"].shape == (1, 6, 4)
    assert not loaded.user_ns["model"]._forward_pre_hooks


def test_the_last_call_is_noted_as_its_caller_made_it() -> None:
    model = nn.GRU(3, 4)
    model.register_forward_pre_hook(lambda _, args: (args[0] * 2,))
    x, h = torch.ones(2, 3), torch.ones(1, 4)
    with runs_of(model) as ran:
        model(torch.zeros(2, 3))
        model(x, hx=h)
    assert ran.times == 2
    assert ran.args[0] is x
    assert ran.kwargs["hx"] is h
    assert len(model._forward_pre_hooks) == 1


SPEAKS = """
class Speaks(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = torch.nn.GRUCell(3, 4)
    def generate(self, x, layers=4):
        h, states = x.new_zeros(1, 4), []
        for _ in range(layers):
            h = self.cell(x, h)
            states.append(h)
        return torch.stack(states, 1)
speaks, one = Speaks(), torch.ones(1, 3)
"""


def test_a_method_is_looked_at_by_name(loaded: InteractiveShell) -> None:
    run(loaded, SPEAKS)
    run(loaded, "%grulens speaks one --call generate --as screen")
    session = loaded.user_ns["screen"].session
    assert (session.call, session.steps) == ("generate", 4)
    cell = "speaks.generate(one, layers=7)"
    run(loaded, f"%%grulens speaks --call generate --as other\n{cell}")
    other = loaded.user_ns["other"].session
    assert other.steps == 7
    assert "record(speaks, inputs=((one, ), {'layers': 7}), call='generate')" in other.code()
    assert "generate" not in vars(loaded.user_ns["speaks"])
    said = run(loaded, "%%grulens speaks --call generate\n3")
    assert "the cell ran, but not the method of 'speaks': call speaks.generate(...) in it" in said
    said = run(loaded, "%grulens speaks one --call speak")
    assert "Speaks has no method or part 'speak'; it has generate" in said


@pytest.mark.parametrize(
    ("cell", "error"),
    [("model(x)\n1 / 0", "ZeroDivisionError"), ("model(x", "SyntaxError")],
)
def test_an_error_in_the_cell_is_its_own(loaded: InteractiveShell, cell: str, error: str) -> None:
    said = run(loaded, f"%%grulens model --as screen\n{cell}")
    assert said.count(error) >= 1
    assert "magics.py" not in said
    assert said.splitlines()[-1] == "UsageError: the cell failed, so there is nothing to show"
    assert "screen" not in loaded.user_ns
    assert not loaded.user_ns["model"]._forward_pre_hooks
    # what makes Run All stop here, as after any other cell that failed
    assert not loaded.run_cell(f"%%grulens model\n{cell}").success


def test_a_semicolon_silences_the_cell_as_usual(loaded: InteractiveShell) -> None:
    assert "tensor" in run(loaded, "%%grulens model\nmodel(x)")
    assert "tensor" not in run(loaded, "%%grulens model\nmodel(x);")


def completions(shell: InteractiveShell, line: str) -> list[str]:
    """What a front end offers at the end of a line."""
    with provisionalcompleter():
        return [found.text for found in shell.Completer.completions(line, len(line))]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("%grulens ", ["model"]),
        ("%%grulens mo", ["model"]),
        ("%grulens --view gates ", ["model"]),
        ("%grulens model x --view ", [*VIEWS]),
        ("%grulens model x --view=ga", ["gates"]),
        ("%grulens model x --view m", ["memory", "motion"]),
        ("%grulens model x --layer ", ["l0", "l1"]),
        ("%grulens reader x --layer rnn.", ["rnn.l0"]),
        ("%grulens --layer rnn", []),
        ("%grulens model x --", OPTIONS),
        ("%grulens reader x --call for", ["forward"]),
        ("%grulens --call forward ", ["model"]),
        ("%grulens model x --to", ["--tokens"]),
        ("%grulens model x --tokens wo", ["words"]),
        ("%grulens model x --labels wo", ["words"]),
        ("%grulens model --readout words x --truth wo", ["words"]),
        ("%grulens model wo", ["words"]),
        ("x = 1\n%grulens mo", ["model"]),
    ],
)
def test_completion_offers_what_fits_and_nothing_else(
    loaded: InteractiveShell, line: str, expected: list[str]
) -> None:
    loaded.user_ns["words"] = ["a"]
    if "reader" in line:
        loaded.user_ns["reader"] = Reader()
    assert completions(loaded, line) == expected


def test_completion_elsewhere_is_ipythons_own(loaded: InteractiveShell) -> None:
    lines = ["tor", "%grulen", "%grulens model.weight_h", "%lsmag", "model.batch_f"]
    now = [completions(loaded, line) for line in lines]
    assert "weight_hh_l0" in str(now[2])
    grulens.unload_ipython_extension(loaded)
    before = [completions(loaded, line) for line in lines]
    assert [*now[:1], *now[2:]] == [*before[:1], *before[2:]]


def test_help_names_every_option(loaded: InteractiveShell) -> None:
    text = loaded.magics_manager.magics["line"]["grulens"].__doc__
    for word in (*OPTIONS, *VIEWS):
        assert word in text


@pytest.mark.parametrize(
    ("kind", "caption"),
    [
        (nn.GRU, "GRU · 228 parameters · reset after the product"),
        (nn.LSTM, "LSTM · 304 parameters"),
        (nn.RNN, "RNN · 76 parameters"),
    ],
)
def test_a_layer_shows_as_a_table_while_loaded(
    loaded: InteractiveShell, kind: type[nn.RNNBase], caption: str
) -> None:
    formatter = loaded.display_formatter
    data, _ = formatter.format(kind(3, 4, 2))
    assert "<td>l1</td>" in data["text/html"]
    assert f">{caption}<" in data["text/html"]
    assert data["text/plain"] == f"{kind.__name__}(3, 4, num_layers=2)"
    grulens.unload_ipython_extension(loaded)
    assert "text/html" not in formatter.format(kind(3, 4))[0]


def test_a_gru_that_cannot_be_opened_shows_as_torch_has_it(loaded: InteractiveShell) -> None:
    with capture_output() as out:
        data, _ = loaded.display_formatter.format(Doubled(3, 4))
    assert data == {"text/plain": "Doubled(3, 4)"}
    assert not out.stdout + out.stderr


AWAITS = "import asyncio\nawait asyncio.sleep(0)\ny = model(x)"


def test_a_cell_that_awaits_is_refused_by_name_where_a_loop_runs(loaded: InteractiveShell) -> None:
    async def as_in_a_kernel() -> str:
        return run(loaded, f"%%grulens model --as screen\n{AWAITS}")

    said = asyncio.run(as_in_a_kernel())
    assert said.startswith("UsageError: %%grulens cannot run a cell with a top-level await")
    assert "then %grulens model INPUT" in said
    assert "screen" not in loaded.user_ns
    assert "y" not in loaded.user_ns


def test_a_cell_that_awaits_runs_where_none_does(loaded: InteractiveShell) -> None:
    run(loaded, f"%%grulens model --as screen\n{AWAITS}")
    assert loaded.user_ns["screen"].session.steps == 6


def test_in_a_terminal_a_screen_says_what_can_be_done_with_it(loaded: InteractiveShell) -> None:
    code = "import grulens\nlens = grulens.Lens(model, x)\n"
    run(loaded, code)
    said = run(loaded, "lens")
    assert "Lens(GRU, l0, 0 of 0 edits on)" in said
    assert ".save('lens.html') writes a page for any browser" in said
    assert "print(.session.code())" in said
    typed = code.replace("model, x", "torch.nn.GRU(3, 4), torch.ones(5, 1, 3)")
    typed = f"import torch\n{typed}lens\n"
    command = [sys.executable, "-W", "ignore", "-i", "-q"]
    done = subprocess.run(command, input=typed, capture_output=True, text=True, check=False)
    assert "Lens(GRU, l0, 0 of 0 edits on)\nA screen for JupyterLab and Notebook 7." in done.stdout


def test_a_model_of_an_observed_cell_is_listed_and_looked_into(loaded: InteractiveShell) -> None:
    net, x = made("norm")
    loaded.user_ns |= {"mine": net, "x": x}
    assert "mine: cell (takes a state, 'h'" in run(loaded, "%grulens")
    run(loaded, "%grulens mine x --as screen")
    assert type(loaded.user_ns["screen"]) is Lens
    assert "mine: cell (observed: h = (1 - z) h_prev + z n)" in run(loaded, "%grulens")
    assert "h = (1 - z) h_prev + z n" in models_in(loaded.user_ns)._repr_html_()
    run(loaded, "%%grulens mine --as again\nmine(x[:1, :4])")
    assert loaded.user_ns["again"].session.before.shape == (1, 4, 4)
