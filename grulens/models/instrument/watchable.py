"""What of a model can be watched: known before it runs, or shown by a run made for that."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import nn

from grulens.models.adapters.closed import Found, look
from grulens.models.call.invocation import Given, fresh, invocation
from grulens.models.instrument.lock import locked
from grulens.models.layers import not_observed, not_opened
from grulens.models.observe.candidates import has_unopened
from grulens.models.observe.form import ObservedForm
from grulens.models.observe.look import Look, beside, known_forms, look_at, looked
from grulens.models.observe.loops import may_carry
from grulens.models.restore.compiler import eagerly


class Watchable(NamedTuple):
    """What of a model can be watched.

    Attributes:
        model: the model.
        found: its parts that are opened by their weights, or like such.
        observed: the cells that are read in their module's own forward.
        new: whether they were looked for in this very run, and not in an earlier one.
        output: what the model returned when they were looked for; None where that is not known.
    """

    model: nn.Module
    found: Found
    observed: tuple[ObservedForm, ...] = ()
    new: bool = False
    output: object = None

    @classmethod
    def of(cls, model: nn.Module) -> Watchable:
        """What is known before a run: of the observed cells those that runs have shown."""
        found = look(model)
        return cls(model, found, known_forms(model, found.opened.values()))

    @classmethod
    def in_run(
        cls, model: nn.Module, given: Given, call: Any = None, observe: bool | None = None
    ) -> Watchable:
        """What can be watched in a run, with the observed cells that the run shows.

        Args:
            model: the model.
            given: what the run is given; it is made once more where its cells are not known yet.
            call: the name of the way in.
            observe: whether to look for them; None is where a module may carry a state and holds
                no layer that is opened otherwise.

        Raises:
            NoLayerError, UnsupportedLayerError: there is no layer at all, and no state obeys such
                an equation.
            ModelError: it is no `torch.nn.Module`.
            RecordingError: it has no such way in.
        """
        found = look(model)
        if observe is None and not any(map(may_carry, model.modules())):
            return cls(model, found)  # nearly every record comes by here
        opened = tuple(found.opened.values())
        if observe is None:
            observe = has_unopened(model, opened)
        if not observe:
            if not found.opened:
                raise not_opened(model, found)
            return cls(model, found)
        parts = [*model.modules()]
        run, name = invocation(model, fresh(given), call), call if isinstance(call, str) else None
        before = looked(model)
        try:
            with locked(), eagerly():
                seen = look_at(model, run, name, opened)
        except NotImplementedError:  # torch's word for a module that has no forward
            if opened:
                return cls(model, found)
            seen = Look((), (), dict.fromkeys(dict(model.named_modules()), 0))
        if [*model.modules()] != parts:
            found = look(model)  # some are made in a first run
        if not seen.forms and not found.opened:
            raise not_observed(model, found, seen)
        forms = beside(seen.forms, model, found.opened.values())
        return cls(model, found, forms, not any(seen is one for one in before), seen.output)
