"""The run that is shown, as Python that makes that very run in the user's own namespace."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from inspect import signature
from typing import Any, Final

import torch
from torch import Tensor, nn

from grulens.models.call.invocation import Given
from grulens.models.record import record
from grulens.models.recording import LayerRecording, Recording
from grulens.probing.corpus.scan.excerpt import Excerpt
from grulens.probing.edits.edit import Edit
from grulens.probing.edits.sources import Source
from grulens.widgets.session.names import Names

#: Numbers of a tensor that code may hold; a larger one needs a name.
MOST: Final = 512
#: The names that `record` takes for itself.
OPTIONS: Final = frozenset(signature(record).parameters) - {"args", "kwargs"}


class Code:
    """Writes one session's run.

    Args:
        names: what the user calls things.
        model: the model.

    Attributes:
        notes: what could not be written, a sentence each.
    """

    def __init__(self, names: Names, model: nn.Module) -> None:
        self.names = names
        self.notes: list[str] = []
        self.uses: set[str] = set()
        self.model = names.of(model) or self._missing("model", f"the {type(model).__name__} shown")

    def run(
        self,
        given: Given | None,
        edits: Sequence[Edit],
        *,
        text: str | None = None,
        encode: Any = None,
        listed: bool = False,
        call: str | None = None,
    ) -> list[str]:
        """The lines that make the edits and the run.

        Args:
            given: the model's arguments; None is those of `excerpt`.
            edits: those that are on.
            text: the text that the only argument was encoded from, if it was.
            encode: what encoded it.
            listed: whether that gives a list of ids.
            call: the model's method that is the run, or None.
        """
        args, kwargs = ((), {}) if given is None else given
        if given is None:
            words = ["inputs=excerpt.given"]
        elif text is not None:
            words = [f"{self._encoder(encode)}({text!r})"]
            if listed:
                self.uses.add("torch")
                words = [f"torch.tensor([{words[0]}])"]
        else:
            words = [self._argument(v, "x" if i == 0 else f"x{i}") for i, v in enumerate(args)]
        named = {name: self._argument(v, name) for name, v in kwargs.items()}
        if named.keys() & OPTIONS:
            pairs = ", ".join(f"{name!r}: {v}" for name, v in named.items())
            words = [f"inputs=(({''.join(f'{word}, ' for word in words)}), {{{pairs}}})"]
        else:
            words += [f"{name}={v}" for name, v in named.items()]
        words += [] if call is None else [f"call={call!r}"]
        lines = [f"    {line}," for edit in edits if (line := self._edit(edit)) is not None]
        lines = ["edits = [", *lines, "]"] if lines else []
        written = ", ".join([self.model, *words, *(["edits=edits"] if lines else [])])
        return [*lines, f"run = record({written})"]

    def value(self, thing: Any) -> str | None:
        """An object as an expression: its name, else a literal; None if it has neither."""
        plain = thing is None or type(thing) in (bool, int, str)
        named = None if plain else self.names.of(thing)
        if named is not None or plain:
            return repr(thing) if named is None else named
        if type(thing) is float and math.isfinite(thing):
            return repr(thing)
        if isinstance(thing, torch.dtype | torch.device):
            self.uses.add("torch")
            return f"torch.{thing!r}" if isinstance(thing, torch.device) else repr(thing)
        if type(thing) in (list, tuple):
            items = [self.value(item) for item in thing]
            if None in items:
                return None
            inside = ", ".join(map(str, items))
            comma = "," if type(thing) is tuple and len(items) == 1 else ""
            return f"[{inside}]" if type(thing) is list else f"({inside}{comma})"
        if type(thing) is dict and all(type(key) in (str, int) for key in thing):
            pairs = {repr(key): self.value(item) for key, item in thing.items()}
            listed = ", ".join(f"{key}: {item}" for key, item in pairs.items())
            return None if None in pairs.values() else f"{{{listed}}}"
        return self._tensor(thing)

    def _tensor(self, thing: Any) -> str | None:
        if type(thing) is not Tensor or thing.numel() > MOST or thing.layout is not torch.strided:
            return None
        if thing.is_meta or thing.is_quantized or thing.is_complex() or thing.numel() == 0:
            return None
        if thing.is_floating_point() and not bool(torch.isfinite(thing).all()):
            return None
        self.uses.add("torch")
        device = "" if thing.device.type == "cpu" else f", device={str(thing.device)!r}"
        return f"torch.tensor({thing.detach().tolist()!r}, dtype={thing.dtype}{device})"

    def _argument(self, thing: Any, name: str) -> str:
        return self.value(thing) or self._missing(name, _about(thing))

    def _encoder(self, encode: Any) -> str:
        if getattr(encode, "__self__", None) is not None:
            owner = self.names.of(encode.__self__)
            if owner is not None:
                return f"{owner}.{encode.__name__}"
            if isinstance(encode.__self__, nn.Module):
                return f"{self.model}.{encode.__name__}"
        return self.names.of(encode) or self._missing("encode", "what encodes a text here")

    def _missing(self, name: str, what: str) -> str:
        self.notes.append(f"{name}: {what}; it has no name where this screen was made")
        return name

    def _edit(self, edit: Edit) -> str | None:
        amount: str | None = None
        if isinstance(edit.amount, Source):
            amount = self._source(edit, edit.amount)
        elif isinstance(edit.amount, Tensor):
            amount = self.value(edit.amount)
        if amount is None and isinstance(edit.amount, Source | Tensor):
            whole = next((name for name, held in self.names.those(Edit) if held is edit), None)
            if whole is not None:
                return whole
            self.notes.append(
                f"left out, because what it puts in has no name here: {edit.words()} · {edit.layer}"
            )
            return None
        self.uses.add(edit.kind)
        return edit.code(amount)

    def _source(self, edit: Edit, source: Source) -> str | None:
        """The name of a recording that holds what a patch puts in."""
        for kind in (Recording, LayerRecording):
            for name, held in self.names.those(kind):
                layer = held.get(edit.layer) if isinstance(held, Recording) else held
                if layer is None or layer.shape != source.signal.shape:
                    continue
                if torch.equal(layer.signal(edit.signal), source.signal):
                    return name
        return None


def write(session: Any) -> str:
    """The Python that makes the run that a session shows.

    What cannot be written so that it makes this very run stands in a comment above it.
    """
    code = Code(session.names, session.model)
    coder = session.coder
    excerpt: Excerpt | None = session.excerpt
    lines = code.run(
        session.given if excerpt is None else None, session.on, text=session.typed,
        encode=coder.encode, listed=coder.listed, call=session.call,
    )  # fmt: skip
    model = code.model
    imports = ["import torch"] if "torch" in code.uses else []
    before: list[str] = []
    if session.evaluate and any(part.training for part in session.model.modules()):
        imports.append("import copy")
        before = [f"in_eval = copy.deepcopy({code.model}).eval()  # as the run shown"]
        lines[-1] = lines[-1].replace(f"record({code.model}", "record(in_eval", 1)
        model = "in_eval"
    elif session.runs.random is not None:
        code.notes.append("the model draws random numbers (dropout): no other run is this very one")
    precision = session.runs.precision
    if isinstance(precision, partial) and precision.keywords.get("enabled", True):
        imports = sorted({*imports, "import torch"})
        kind, dtype = precision.args[0], precision.keywords["dtype"]
        lines[-1:] = [f"with torch.autocast({kind!r}, dtype={dtype}):", f"    {lines[-1]}"]
    if excerpt is not None:
        imports.append("from grulens.corpus import Place, open_scan")
        place = f"excerpt({excerpt.asked!r}, {excerpt.around})"
        before.append(f"excerpt = open_scan({str(excerpt.scan)!r}, {model}).{place}")
        held = max(i for i, line in enumerate(lines) if not line.startswith("    "))
        lines[held:] = ["with excerpt.first():", *(f"    {one}" for one in lines[held:])]
    names = ", ".join(sorted({"record", *code.uses} - {"torch"}))
    notes = [f"# {' '.join(note.split())}" for note in code.notes]
    head = [*imports, f"from grulens import {names}", ""]
    return "\n".join([*notes, *head, *before, *lines])


def _about(thing: Any) -> str:
    if isinstance(thing, Tensor):
        kind = str(thing.dtype).removeprefix("torch.")
        return f"a tensor of {tuple(thing.shape)}, {kind}"
    return f"a {type(thing).__name__}"
