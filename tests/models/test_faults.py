"""Exceptions from everywhere, threads, nested blocks, generators: the model is as before."""

from __future__ import annotations

import asyncio
import copy
import gc
import io
import pickle
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest
import torch
from torch import nn

from grulens import ablate, clamp, editing, record, scale
from grulens.cells.changes import Change
from grulens.errors import EditError, PositionError
from grulens.models.call.place import Place
from tests.intact import Intact

MEAN = ablate("rnn.l0", 1, to="mean")
EDITS = (MEAN, scale("rnn.l1", "z", by=0.5, at=-1))


class Model(nn.Module):
    """A GRU between two linear maps."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(3, 3)
        self.rnn = nn.GRU(3, 4, 2, batch_first=True)
        self.out = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(self.into(x))[0])


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 5, 3)


def use_record(model: nn.Module, x: torch.Tensor) -> None:
    record(model, x)


def use_edited(model: nn.Module, x: torch.Tensor) -> None:
    record(model, x, edits=EDITS)


def use_editing(model: nn.Module, x: torch.Tensor) -> None:
    with editing(model, *EDITS):
        model(x)


def use_nested(model: nn.Module, x: torch.Tensor) -> None:
    with editing(model, EDITS[0]), editing(model, EDITS[1]):
        record(model, x, grad=True)


USES = pytest.mark.parametrize("use", [use_record, use_edited, use_editing, use_nested])


def fail(*_: Any) -> None:
    raise ZeroDivisionError("the user's own")


def fails_the_second_time() -> Callable[..., None]:
    calls: SimpleQueue[None] = SimpleQueue()  # what it holds is not put back behind a run
    return lambda *_: calls.put(None) or (fail() if calls.qsize() == 2 else None)


FAULTS: dict[str, Callable[[Model], Any]] = {
    "before the GRU": lambda m: m.into.register_forward_hook(fail),
    "after the GRU": lambda m: m.out.register_forward_pre_hook(fail),
    "pre-hook of the GRU": lambda m: m.rnn.register_forward_pre_hook(fail),
    "hook of the GRU": lambda m: m.rnn.register_forward_hook(fail),
    "pre-hook of the model": lambda m: m.register_forward_pre_hook(fail),
    "hook of the model": lambda m: m.register_forward_hook(fail),
    "after the unedited run": lambda m: m.into.register_forward_hook(fails_the_second_time()),
}


@USES
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_users_own_comes_out_and_leaves_nothing(
    model: Model, x: torch.Tensor, use: Any, fault: str
) -> None:
    right = record(model, x)
    handle = FAULTS[fault](model)
    intact = Intact(model)
    twice = fault != "after the unedited run" or use is not use_record
    for _ in range(1 if twice else 2):
        try:
            use(model, x)
        except ZeroDivisionError as error:
            assert str(error) == "the user's own"  # noqa: PT017 - a hook may fail the second time
            break
    else:
        pytest.fail("the fault did not come out")
    assert intact.broken() == []
    handle.remove()
    again = record(model, x)
    for name, layer in right.items():
        assert torch.equal(again[name].z, layer.z)


class Custom:
    """An edit of a person's own, which fails where it is told to."""

    layer = "rnn.l0"
    signal = "h"
    relative = False

    def __init__(self, where: str) -> None:
        self.where = where

    def check_units(self, units: int) -> None:
        if self.where == "units":
            fail()

    def check_steps(self, steps: int) -> None:
        if self.where == "steps":
            fail()

    def change(self, place: Place) -> Any:
        if self.where == "change":
            fail()
        if self.where == "junk":
            return 3
        # broadcasts over no (batch, time, unit) of this model
        where, one = torch.ones(1, 1, 7, dtype=torch.bool), torch.ones(1, 1, 7)
        return Change("h", where, one, one)


@pytest.mark.parametrize("where", ["units", "steps", "change", "junk", "shape"])
@pytest.mark.parametrize("outer", [False, True])
def test_an_edit_of_ones_own_that_fails_leaves_nothing(
    model: Model, x: torch.Tensor, where: str, outer: bool
) -> None:
    intact = Intact(model)
    plain = model(x)
    kinds = (ZeroDivisionError, AttributeError, RuntimeError, TypeError)
    with pytest.raises(kinds), editing(model, *([MEAN] if outer else [])):
        record(model, x, edits=Custom(where))
    assert intact.broken() == []
    assert torch.equal(model(x), plain)


@pytest.mark.filterwarnings("ignore::grulens.errors.NothingRanWarning")
@pytest.mark.parametrize(
    ("edit", "error"),
    [(ablate("rnn.l0", rows=7), PositionError), (ablate("rnn.l0", at=7), PositionError),
     (clamp("rnn.l1", "z", value=torch.zeros(3, 5, 4)), EditError)],
)  # fmt: skip
def test_an_edit_that_does_not_fit_the_run_leaves_the_outer_block_as_it_is(
    model: Model, x: torch.Tensor, edit: Any, error: type[Exception]
) -> None:
    expected = record(model, x, edits=MEAN).output
    with torch.no_grad(), editing(model, MEAN):
        inside = Intact(model)
        for _ in range(2):
            with pytest.raises(error), editing(model, edit):
                model(x)
            assert inside.broken() == []
            assert torch.equal(model(x), expected)
    assert Intact(model).broken() == []


def test_blocks_of_one_layer_act_from_the_outside_in(model: Model, x: torch.Tensor) -> None:
    one, other = clamp("rnn.l1", "h", 0, value=0.5), scale("rnn.l1", "h", 0, by=0.5)
    with editing(model, one), editing(model, other):
        assert float(record(model, x)["rnn.l1"].h[0, 0, 0]) == 0.25
    with editing(model, other), editing(model, one):
        run = record(model, x)
    assert float(run["rnn.l1"].h[0, 0, 0]) == 0.5
    assert run.edits == (other, one)


def test_a_block_opened_inside_the_forward_ends_there(x: torch.Tensor) -> None:
    class Inside(Model):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with editing(self.rnn, ablate("l1")):
                silent = self.rnn(x)[0]
            assert float(silent.abs().max()) == 0
            return super().forward(x)

    model = Inside()
    intact = Intact(model)
    plain = Model.forward(model, x)
    run = record(model, x, layers="rnn.l1")
    assert torch.equal(run.output, plain)
    assert intact.broken() == []


# threads


def test_two_threads_record_one_model(model: Model, x: torch.Tensor) -> None:
    inputs = [x + i for i in range(4)]
    right = [record(model, one, edits=EDITS)["rnn.l1"].z for one in inputs]
    intact, wrong = Intact(model), []

    def work(number: int) -> None:
        for _ in range(5):
            found = record(model, inputs[number], edits=EDITS)["rnn.l1"].z
            if not torch.equal(found, right[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    work(0)
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert intact.broken() == []


def test_a_thread_that_fails_lets_the_next_one_in(model: Model, x: torch.Tensor) -> None:
    right = record(model, x)["rnn.l1"].z
    seen: list[bool] = []

    def failing() -> None:
        try:
            with editing(model, MEAN):
                fail()
        except ZeroDivisionError:
            seen.append(True)

    thread = threading.Thread(target=failing)
    thread.start()
    thread.join(10)
    assert seen == [True]
    assert Intact(model).broken() == []
    assert torch.equal(record(model, x)["rnn.l1"].z, right)


# blocks that nobody closes


def test_a_generator_that_is_let_go_closes_its_block(model: Model, x: torch.Tensor) -> None:
    def steps() -> Iterator[torch.Tensor]:
        with editing(model, ablate("rnn.l1")):
            while True:
                yield model(x)

    intact, plain = Intact(model), model(x)
    going = steps()
    assert not torch.equal(next(going), plain)
    assert not torch.equal(model(x), plain)  # it is open for whoever runs the model here
    del going
    gc.collect()
    assert intact.broken() == []
    assert torch.equal(model(x), plain)


def test_a_task_that_is_cancelled_closes_its_block(model: Model, x: torch.Tensor) -> None:
    intact = Intact(model)

    async def waiting() -> None:
        with editing(model, MEAN):
            await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.ensure_future(waiting())
        await asyncio.sleep(0)
        assert "forward" in vars(model.rnn)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert intact.broken() == []


# what is saved or copied inside a block is the original


@pytest.mark.filterwarnings("ignore::grulens.errors.NothingRanWarning")
@pytest.mark.parametrize(
    "save",
    [
        lambda m: pickle.loads(pickle.dumps(m)),
        copy.deepcopy,
        lambda m: (twin := Model(), twin.load_state_dict(m.state_dict()))[0],
        lambda m: _through_torch(m),  # noqa: PLW0108 - it is defined below
    ],
    ids=["pickle", "deepcopy", "state_dict", "torch.save"],
)
def test_what_is_saved_inside_a_block_is_the_original(
    model: Model, x: torch.Tensor, save: Callable[[Model], Model]
) -> None:
    plain, names = model(x), list(model.state_dict())
    with editing(model, *EDITS), editing(model, ablate("rnn.l0")):
        twin = save(model)
        assert list(model.state_dict()) == names
        assert torch.equal(twin(x), plain)  # also while the block is open
    assert torch.equal(twin(x), plain)
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin(x), plain)
    assert record(twin, x).residual < 1e-6


def _through_torch(model: Model) -> Model:
    held = io.BytesIO()
    torch.save(model, held)
    held.seek(0)
    loaded: Model = torch.load(held, weights_only=False)
    return loaded
