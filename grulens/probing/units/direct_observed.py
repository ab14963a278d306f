"""Direct effects of an observed cell: what an edit does to the answer by the states it makes alone.

Every step makes its state of the unedited run's state before it, with the edit; and that state is
what the step hands on. So the model's code runs twice. In the first run each state is put back as
soon as it is made, which leaves the next step the unedited one, and what was made is kept. In the
second run what was kept is handed on in place of each state, whatever its step makes: all that
reads the state outside of the recurrence reads that. An edit of the state itself needs no first
run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor

from grulens.errors import GrulensError
from grulens.models.call.place import EditLike
from grulens.models.instrument.editing import ran
from grulens.models.instrument.undisturbed import as_it_was
from grulens.models.instrument.watch import Watch
from grulens.models.observe.reading.observing import Put
from grulens.models.observed import ObservedLayer
from grulens.probing.edits.edit import scale
from grulens.probing.units.experiment import Experiment

Change = Callable[[Tensor], Tensor]
States = dict[str, list[Tensor]]
"""By the name of a state what it is after each step, in the shape that it has in the code."""


class NotDirectError(Exception):
    """A run of other steps than the unedited one. No user sees it: direct effects are unknown."""


def direct_output(
    experiment: Experiment, edits: Sequence[EditLike], run: Callable[[], Any], copies: int = 1
) -> Any:
    """What the model returns where only what reads the states feels an edit.

    Args:
        experiment: the model, its input, the layer and its unedited run.
        edits: what is changed.
        run: runs the model.
        copies: how often each row stands in that run.

    Raises:
        NotDirectError: an edited run has other steps than the unedited one.
    """
    known = _unedited(experiment, copies)
    *_, carried = known
    made: States = {name: [] for name in known}

    if carried == "h" and all(edit.signal == "h" for edit in edits):
        # what is edited is the state itself
        return _run(experiment, edits, run, lambda name, step, value, edit: edit(
            _at(known, name, step, value)
        ))  # fmt: skip

    def put_back(name: str, step: int, value: Tensor, edit: Change) -> Tensor:
        made[name].append(edit(value).clone())
        return _at(known, name, step, value)

    _run(experiment, edits, run, put_back)
    if carried != "h":
        made["h"] = _h_of(experiment, edits, run, known, made[carried])
    if any(len(made[name]) != len(known[name]) for name in known):
        raise NotDirectError
    return _run(experiment, (), run, lambda name, step, value, _: _at(made, name, step, value))


def _h_of(
    experiment: Experiment,
    edits: Sequence[EditLike],
    run: Callable[[], Any],
    known: States,
    made: list[Tensor],
) -> list[Tensor]:
    """The h that is made of an edited c, where all before that step is as it was.

    The edited c is handed on at every second step: the one before it is the unedited one.
    """
    *_, carried = known
    found: list[list[Tensor]] = [[], []]
    for turn in (0, 1):

        def put(name: str, step: int, value: Tensor, edit: Change, turn: int = turn) -> Tensor:
            if name != carried:
                found[turn].append(edit(value).clone())
            elif step % 2 == turn and step < len(made):
                return made[step]
            return _at(known, name, step, value)

        _run(experiment, edits, run, put)
    if len(found[0]) != len(found[1]):
        raise NotDirectError
    return [found[step % 2][step] for step in range(len(found[0]))]


def reads_signals(experiment: Experiment) -> bool:
    """Whether the answer reads signals of the cell by another way than by its states.

    All its signals are scaled, and each state is put back: nothing may change. It is tried once.
    """
    if experiment not in _READS:
        _READS[experiment] = _reads_signals(experiment)
    return _READS[experiment]


_READS: WeakKeyDictionary[Experiment, bool] = WeakKeyDictionary()


def _reads_signals(experiment: Experiment) -> bool:
    layer, known = experiment.recording, _unedited(experiment, 1)
    assert isinstance(layer, ObservedLayer), "asked of observed cells alone"
    first = layer.segments[0].read
    names = [one.name for one in layer.cell.signals if one.name not in known]
    edits = [
        scale(layer.name, name, by=0.875) for name in names if first[name][0].is_floating_point()
    ]
    try:
        output = _run(
            experiment, edits, experiment.run,
            lambda name, step, value, _: _at(known, name, step, value),
        )  # fmt: skip
        read = experiment.read(output, edits)
    except (NotDirectError, GrulensError):
        return True
    return not read.equal(experiment.baseline)


def _unedited(experiment: Experiment, copies: int) -> States:
    """The states of the unedited run."""
    layer = experiment.recording
    assert isinstance(layer, ObservedLayer), "asked of observed cells alone"

    def of(value: Tensor) -> Tensor:
        return value if copies == 1 else value.repeat_interleave(copies, 0)

    names = layer.cell.states
    return {name: [of(one) for part in layer.segments for one in part.read[name]] for name in names}


def _at(states: States, name: str, step: int, value: Tensor) -> Tensor:
    """A state in place of the one that a step has made."""
    if step >= len(states[name]) or states[name][step].shape != value.shape:
        raise NotDirectError
    return states[name][step].clone()  # the code may write over it


def _run(
    experiment: Experiment,
    edits: Sequence[EditLike],
    run: Callable[[], Any],
    put: Put,
) -> Any:
    watch = Watch(experiment.watchable, edits, puts={experiment.layer: put})
    with as_it_was(experiment.model):
        return ran(run, watch)
