"""The %grulens magic: from a name in the notebook to a screen, and one line when that fails."""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from keyword import iskeyword
from tokenize import TokenError
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from IPython.display import display
from torch import nn

from grulens.errors import GrulensError, ModelError, NoLayerError
from grulens.models.adapters.closed import look, sentences
from grulens.models.call.invocation import way_in
from grulens.models.layers import Layers, layers
from grulens.models.restore import added
from grulens.tables import html_table

VIEWS = {
    "lens": ("grulens.widgets.lens", "Lens"),
    "gates": ("grulens.widgets.gates.sliders", "GateSliders"),
    "neurons": ("grulens.widgets.units.table", "NeuronTable"),
    "ablation": ("grulens.widgets.edits.toggles", "AblationToggles"),
    "cell": ("grulens.widgets.units.cell_view", "CellView"),
    "compare": ("grulens.widgets.comparison.compare_view", "CompareView"),
    "memory": ("grulens.widgets.memory.screen", "GateMemory"),
    "motion": ("grulens.widgets.dynamics.portrait", "PhasePortrait"),
    "credit": ("grulens.widgets.credit.screen", "CreditBars"),
    "phrases": ("grulens.widgets.phrases.tree", "PhraseTree"),
    "corpus": ("grulens.widgets.corpus.study", "CorpusStudy"),
}
#: Options of the line whose values are names in the notebook; screens take them as arguments.
NAMES = ("tokens", "labels", "readout", "truth")


class Models(dict[str, Layers]):
    """The models of a notebook that hold a recurrent layer, by name, and their layers.

    Attributes:
        closed: of those that cannot be opened, by name, why.
    """

    def __init__(self) -> None:
        super().__init__()
        self.closed: dict[str, str] = {}

    def __repr__(self) -> str:
        lines = []
        for name, found in self.items():
            lines.append(f"{name}: {_names(found)}")
            lines += [f"    not opened: {_first(said)}" for said in sentences(found.closed)]
        lines += [f"{name} cannot be opened: {why}" for name, why in self.closed.items()]
        return "\n".join(lines) or "no model with a recurrent layer in this notebook yet"

    def _repr_html_(self) -> str:
        rows: list[tuple[object, ...]] = [
            (name, one.name, one.kind, one.input_size, one.hidden_size, one.direction)
            for name, found in self.items() for one in found
        ]  # fmt: skip
        rows += [
            (name, one.name, f"{one.kind}, {one.equation or one.words}", "", "", "")
            for name, found in self.items() for one in found.observed
        ]  # fmt: skip
        head = ("model", "layer", "kind", "input", "hidden", "direction")
        rows += [
            (name, _first(said), "not opened", "", "", "")
            for name, found in self.items() for said in sentences(found.closed)
        ]  # fmt: skip
        rows += [(name, why, "cannot be opened", "", "", "") for name, why in self.closed.items()]
        return html_table(head, rows) if rows else f"<p>{self!r}</p>"


def models_in(namespace: Mapping[str, Any]) -> Models:
    """The models with a recurrent layer among the public names of a namespace.

    >>> models_in({"net": nn.GRU(2, 3), "_hidden": nn.GRU(2, 3), "x": 1})
    net: l0
    """
    found = Models()
    for name, value in list(namespace.items()):
        if isinstance(value, nn.Module) and not name.startswith("_"):
            try:
                held = layers(value)
                if held or held.observed or not held.closed:
                    found[name] = held
                else:
                    found.closed[name] = _first("; ".join(sentences(held.closed)))
            except NoLayerError:
                if closed := look(value).closed:
                    found.closed[name] = _first("; ".join(sentences(closed)))
            except ModelError as error:
                found.closed[name] = _first(str(error))
    return found


def lookup(expression: str, namespace: Mapping[str, Any]) -> Any:
    """What a name, a path of attributes or subscripts, or a literal stands for.

    Nothing else is evaluated: no call, no operator.

    >>> lookup("batch['x'][-1]", {"batch": {"x": [1, 2]}}), lookup("'text'", {})
    (2, 'text')

    Raises:
        UsageError: it is none of these, or not there.
    """
    try:
        node = ast.parse(expression, mode="eval").body
        if isinstance(node, ast.Tuple) and not expression.lstrip().startswith("("):
            apart = " ".join(ast.unparse(item) for item in node.elts)
            raise UsageError(
                f"{expression!r} has a comma: what stands in this line is parted by spaces alone, "
                f"so write {apart}"
            )
        return _value(node, namespace)
    except SyntaxError as error:
        raise UsageError(
            f"{expression!r} is no name, attribute, subscript or literal (a space ends it)"
        ) from error
    except (KeyError, IndexError, AttributeError, TypeError) as error:
        raise UsageError(f"{expression!r}: {type(error).__name__}: {error}") from error


@magics_class
class GrulensMagics(Magics):
    """%grulens and %%grulens."""

    shell: Any

    # IPython would evaluate every {…} and $… in the line, and an input text may hold them
    @no_var_expand
    @magic_arguments("%grulens")
    @argument("model", nargs="?", help="the model: a name, or a path such as parts.encoder")
    @argument(
        "inputs",
        nargs="*",
        help="the model's arguments: names, paths, or a text in quotes if the model has encode",
    )
    @argument("--layer", help="the layer to begin with; the first one that runs if left out")
    @argument("--tokens", help="a name: what to call each step (a text, or a list of texts)")
    @argument("--labels", help="a name: what the classes of the answer are called")
    @argument("--readout", help="a name: the function from the model's output to the answer")
    @argument("--truth", help="a name: what each row's answer should be, one class a row")
    @argument("--call", help="the model's method that is the run: generate; the model if left out")
    @argument("--view", choices=tuple(VIEWS), default="lens", help="the screen; lens if left out")
    @argument("--as", dest="name", metavar="NAME", help="keep the screen under this name")
    @line_cell_magic
    def grulens(self, line: str, cell: str | None = None) -> Models | Layers | None:
        """See into the recurrent layers of this notebook.

        %grulens                  the models with recurrent layers, and these
        %grulens MODEL            the layers of one
        %grulens MODEL INPUT ...  a screen on MODEL(INPUT, ...)
        %%grulens MODEL           run the cell, then the screen on the last MODEL(...) in it
        %grulens MODEL INPUT --call generate       on MODEL.generate(INPUT)
        """
        options = parse_argstring(self.grulens, line)
        name = options.name
        if name is not None and (not name.isidentifier() or iskeyword(name)):
            raise UsageError(f"--as {name}: {name!r} is no name that Python takes, such as lens")
        try:
            return self._answer(options, cell)
        except GrulensError as error:
            raise UsageError(_first(str(error))) from error

    def _answer(self, options: Any, cell: str | None) -> Models | Layers | None:
        names = self.shell.user_ns
        if options.model is None:
            if cell is not None:
                raise UsageError(f"%%grulens needs a model; {self._here()}")
            return models_in(names)
        model = self._model(options.model)
        if cell is None and not options.inputs:
            return layers(model)
        if cell is None:
            given = [lookup(text, names) for text in options.inputs]
            self._show(model, given, {}, options)
            return None
        if options.inputs:
            raise UsageError("%%grulens takes the input from the cell; give only the model")
        layers(model)  # says why it cannot be opened before the cell runs
        ran = self._run(model, options, cell)
        self._show(model, ran.args, ran.kwargs, options, cell)
        return None

    def _model(self, expression: str) -> nn.Module:
        root = re.split(r"[.\[]", expression, maxsplit=1)[0]
        if root.isidentifier() and root not in self.shell.user_ns:
            raise UsageError(f"no {root!r} in this notebook; {self._here()}")
        model = lookup(expression, self.shell.user_ns)
        if not isinstance(model, nn.Module):
            kind = type(model).__name__
            raise UsageError(f"{expression!r} is a {kind}, not a model; {self._here()}")
        return model

    def _here(self) -> str:
        found = models_in(self.shell.user_ns)
        listed = ", ".join(f"{name} ({_names(held)})" for name, held in found.items())
        return f"models with a recurrent layer here: {listed}" if found else repr(found)

    def _run(self, model: nn.Module, options: Any, cell: str) -> Ran:
        """Run a cell, and note the last run of the model in it."""
        name, what = options.model, "the forward"
        if self._awaits(cell) and _in_a_loop():
            raise UsageError(
                "%%grulens cannot run a cell with a top-level await: the notebook's own loop waits "
                f"for this cell. Await in a cell without it, then %grulens {name} INPUT"
            )
        if options.call is not None:
            way_in(model, options.call)
            name, what = f"{name}.{options.call}", "the method"
        with runs_of(model, options.call) as ran:
            result = self.shell.run_cell(cell, store_history=False, silent=self._silenced(cell))
        if not result.success:
            # its traceback stands above; without an error of its own, Run All would go on
            raise UsageError("the cell failed, so there is nothing to show")
        if not ran.times:
            raise UsageError(
                f"the cell ran, but not {what} of {options.model!r}: call {name}(...) in it"
            )
        if ran.times > 1:
            print(f"{name} ran {ran.times} times in this cell; the last run is shown")
        return ran

    def _awaits(self, cell: str) -> bool:
        """Whether the cell awaits outside of any function."""
        try:
            plain = self.shell.transform_cell(cell)
        except SyntaxError:  # running it says what is wrong
            return False
        return bool(self.shell.should_run_async(cell, transformed_cell=plain))

    def _silenced(self, cell: str) -> bool:
        """Whether the cell ends in a semicolon; IPython looks for it in the history only."""
        try:
            return bool(self.shell.displayhook.semicolon_at_end_of_expression(cell))
        except (TokenError, SyntaxError):  # running it says what is wrong
            return False

    def _show(
        self, model: nn.Module, args: Iterable[Any], kwargs: Any, options: Any, cell: str = ""
    ) -> None:
        from importlib import import_module  # noqa: PLC0415 - the widgets only when asked for

        module, kind = VIEWS[options.view]
        named = {
            option: lookup(text, self.shell.user_ns)
            for option in NAMES if (text := getattr(options, option))
        }  # fmt: skip
        names = import_module("grulens.widgets.session.names")
        written = [options.model, *options.inputs, *names.expressions(cell)]
        make = getattr(import_module(module), kind)
        with names.called(self.shell.user_ns, written):
            screen = make(
                model, layer=options.layer, call=options.call, inputs=(tuple(args), kwargs), **named
            )
        if options.name:
            self.shell.user_ns[options.name] = screen
        # shown here, not returned: IPython would keep every one of them in Out
        display(screen)


@dataclass
class Ran:
    """How often a model ran, and the arguments of the last time; the earlier ones are let go."""

    times: int = 0
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


@contextmanager
def runs_of(model: nn.Module, call: str | None = None) -> Iterator[Ran]:
    """Note the runs of a model, by its call or by a method, as their callers made them."""
    ran = Ran()

    def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ran.times, ran.args, ran.kwargs = ran.times + 1, args, kwargs

    if call is not None:
        path, _, name = call.rpartition(".")
        owner, method = model.get_submodule(path), way_in(model, call)

        inside = False

        def noted(*args: Any, **kwargs: Any) -> Any:
            nonlocal inside
            if inside:  # a run is the outermost call
                return method(*args, **kwargs)
            note(model, args, kwargs)
            inside = True
            try:
                return method(*args, **kwargs)
            finally:
                inside = False

        if isinstance(method, nn.Module):
            model = method
        else:
            undo = added.put(owner, name, noted)
            try:
                yield ran
            finally:
                undo()
            return
    # before the model's own pre-hooks: they act again when the screen runs the model
    handle = model.register_forward_pre_hook(note, with_kwargs=True, prepend=True)
    try:
        yield ran
    finally:
        handle.remove()


def _first(text: str) -> str:
    """Its first line: a table has no room for the others, which register a class."""
    line, more, _ = text.partition("\n")
    return line.replace("say so:", "layers(model) prints the lines that say so") if more else line


def _in_a_loop() -> bool:
    """Whether an asyncio loop runs in this thread: as in a kernel, and not in a terminal."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _names(found: Layers) -> str:
    """The layers that a model holds; of observed cells, whether a run has shown them yet."""
    own = (
        f"{one.name} (observed: {one.equation})" if one.equation else f"{one.name} ({one.words})"
        for one in found.observed
    )
    return ", ".join([*(layer.name for layer in found), *own])


def _value(node: ast.AST, namespace: Mapping[str, Any]) -> Any:
    match node:
        case ast.Name(id=name):
            if name not in namespace:
                raise UsageError(f"no {name!r} in this notebook; put a text in quotes")
            return namespace[name]
        case ast.Attribute(value=inner, attr=name):
            return getattr(_value(inner, namespace), name)
        case ast.Subscript(value=inner, slice=index):
            return _value(inner, namespace)[_index(index)]
    return _index(node)


def _index(node: ast.AST) -> Any:
    if isinstance(node, ast.Slice):
        parts = (node.lower, node.upper, node.step)
        return slice(*(None if part is None else _index(part) for part in parts))
    if isinstance(node, ast.Tuple):
        return tuple(_index(item) for item in node.elts)
    try:
        return ast.literal_eval(ast.unparse(node))
    except (ValueError, SyntaxError) as error:
        raise UsageError(f"{ast.unparse(node)!r} is no name, path or literal") from error
