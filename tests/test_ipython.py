"""The extension in a real IPython shell."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from torch import nn

import grulens
from grulens import AblationToggles, GateSliders, Lens, NeuronTable
from grulens.magics import VIEWS


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


def state(shell: InteractiveShell) -> Any:
    hooks = shell.strdispatchers["complete_command"].strs
    return (
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
    before = state(shell)
    assert not run(shell, "%load_ext grulens")
    assert "already loaded" in run(shell, "%load_ext grulens")
    once = state(shell)
    assert not run(shell, "%reload_ext grulens")
    assert state(shell) == once
    run(shell, "%unload_ext grulens")
    assert {*state(shell)[0]["line"]} == {*before[0]["line"]}
    assert "not found" in run(shell, "%grulens")


def test_without_arguments_it_lists_the_models(loaded: InteractiveShell) -> None:
    assert run(loaded, "%grulens").endswith("model: l0, l1")
    del loaded.user_ns["model"]
    assert run(loaded, "%grulens").endswith("no model with a GRU in this notebook yet")


def test_a_model_alone_lists_its_layers(loaded: InteractiveShell) -> None:
    assert "l1: GRU, input 4, hidden 4, forward" in run(loaded, "%grulens model")


@pytest.mark.parametrize(
    ("view", "kind"),
    [
        ("lens", Lens),
        ("gates", GateSliders),
        ("neurons", NeuronTable),
        ("ablation", AblationToggles),
    ],
)
def test_a_screen_on_an_input(loaded: InteractiveShell, view: str, kind: type) -> None:
    outputs = shown(loaded, f"%grulens model x --view {view} --layer l1 --as screen")
    screen = loaded.user_ns["screen"]
    assert type(screen) is kind
    assert screen.session.layer == "l1"
    assert any("widget-view" in mime for output in outputs for mime in output.data)
    assert not any(value is screen for value in loaded.user_ns["_oh"].values())


def test_inputs_are_paths_and_tokens_a_name(loaded: InteractiveShell) -> None:
    loaded.user_ns |= {"batch": {"x": [torch.ones(1, 3, 3)]}, "words": ["a", "b", "c"]}
    run(loaded, "%grulens model batch['x'][-1] --tokens words --as screen")
    assert loaded.user_ns["screen"].session.tokens == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("%grulens modle x", "no 'modle' in this notebook; models with a GRU here: model (l0, l1)"),
        ("%grulens model y", "no 'y' in this notebook"),
        ("%grulens net x", "holds no nn.GRU and no nn.GRUCell; it holds 1 Linear"),
        ("%grulens x", "'x' is a Tensor, not a model; models with a GRU here: model (l0, l1)"),
        ("%grulens model x --layer l9", "layer 'l9' did not run on this input; what ran is l0, l1"),
        ("%grulens model x.sum()", "'x.sum()' is no name, path or literal"),
        ("%grulens model x[9][9]", "IndexError"),
        ("%grulens model x --view all", "invalid choice: 'all'"),
        ("%%grulens\n1", "%%grulens needs a model; models with a GRU here: model (l0, l1)"),
        ("%%grulens model x\n1", "takes the input from the cell"),
        ("%%grulens model\n1", "the cell ran, but not the forward of 'model'"),
    ],
)
def test_what_goes_wrong_is_one_line(loaded: InteractiveShell, code: str, message: str) -> None:
    said = run(loaded, code)
    assert message in said
    assert "Traceback" not in said
    if "choice" not in message:
        assert (
            len([line for line in said.splitlines() if "UsageError" in line or message in line])
            == 1
        )


def test_the_cell_magic_shows_the_last_run(loaded: InteractiveShell) -> None:
    code = "%%grulens model --as screen\ny, _ = model(x)\nlast = torch.zeros(1, 2, 3)\nmodel(last)"
    said = run(loaded, code)
    assert "model ran 2 times in this cell; the last run is shown" in said
    assert loaded.user_ns["screen"].session.steps == 2
    assert loaded.user_ns["y"].shape == (1, 6, 4)
    assert not loaded.user_ns["model"]._forward_pre_hooks


def test_an_error_in_the_cell_is_its_own(loaded: InteractiveShell) -> None:
    said = run(loaded, "%%grulens model --as screen\nmodel(x)\n1 / 0")
    assert "ZeroDivisionError" in said
    assert "screen" not in loaded.user_ns
    assert not loaded.user_ns["model"]._forward_pre_hooks


@pytest.mark.filterwarnings("ignore:.*Completer.complete.*:PendingDeprecationWarning")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("%grulens mo", "model"),
        ("%grulens model x --view ga", "gates"),
        ("%grulens model x --layer l", "l1"),
        ("%grulens model x --to", "--tokens"),
        ("%%grulens mo", "model"),
    ],
)
def test_completion(loaded: InteractiveShell, line: str, expected: str) -> None:
    _, matches = loaded.complete(line.rsplit(maxsplit=1)[-1], line, len(line))
    assert expected in matches


def test_help_names_every_option(loaded: InteractiveShell) -> None:
    text = loaded.magics_manager.magics["line"]["grulens"].__doc__
    for word in ("--layer", "--tokens", "--view", "--as", *VIEWS):
        assert word in text


def test_a_gru_shows_as_a_table_while_loaded(loaded: InteractiveShell) -> None:
    formatter = loaded.display_formatter
    data, _ = formatter.format(nn.GRU(3, 4, 2))
    assert "<td>l1</td>" in data["text/html"]
    assert "parameters" in data["text/html"]
    assert data["text/plain"] == "GRU(3, 4, num_layers=2)"
    grulens.unload_ipython_extension(loaded)
    assert "text/html" not in formatter.format(nn.GRU(3, 4))[0]
