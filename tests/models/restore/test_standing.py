"""A model's standing: every way in which a model changes is noticed, and nothing else is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from grulens.models.instrument.first_states import FirstStates
from grulens.models.restore.standing import LOOK, Standing


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 4, batch_first=True)
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(4, 2)
        self.last: torch.Tensor | None = None
        self.temperature = 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.rnn(x)[0][:, -1]
        self.last = h
        return self.out(self.drop(self.norm(h))) / self.temperature


X = torch.randn(5, 6, 3)


def step(net: Net, kind: type[torch.optim.Optimizer], **options: Any) -> None:
    optimizer = kind(net.parameters(), lr=0.1, **options)  # type: ignore[call-arg]
    net(X).sum().backward()
    optimizer.step()


def put(net: Net, name: str, value: Any) -> None:
    setattr(net, name, value)


WAYS: dict[str, Callable[[Net], Any]] = {
    "an optimizer": lambda net: step(net, torch.optim.SGD),
    "one that does all at once": lambda net: step(net, torch.optim.Adam, foreach=True),
    "a fused one, which torch does not count": lambda net: step(net, torch.optim.Adam, fused=True),
    "load_state_dict": lambda net: net.load_state_dict(Net().state_dict()),
    "load_state_dict that assigns": lambda net: net.load_state_dict(
        Net().state_dict(), assign=True
    ),
    "a new Parameter": lambda net: put(net.out, "bias", nn.Parameter(torch.ones(2))),
    "a new module": lambda net: put(net, "out", nn.Linear(4, 2)),
    "a write to .data": lambda net: net.out.weight.data.mul_(2),
    "a copy to .data": lambda net: net.out.weight.data.copy_(torch.ones(2, 4)),
    "other .data": lambda net: put(net.out.weight, "data", torch.ones(2, 4)),
    "a numpy view": lambda net: net.out.weight.detach().numpy().fill(3),
    "one number": lambda net: net.rnn.weight_hh_l0.data[3, 2].add_(1e-3),
    "two rows that change places": lambda net: net.out.weight.data.copy_(net.out.weight.flip(0)),
    "a buffer": lambda net: net.norm.running_mean.add_(1),  # type: ignore[operator]
    "what batch norm counts": lambda net: net(X),
    "another precision": lambda net: net.double(),
    "the mode": lambda net: net.eval(),
    "the mode of a part": lambda net: net.drop.eval(),
    "a hook": lambda net: net.out.register_forward_hook(lambda m, a, out: 2 * out),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_changing_is_noticed(way: str) -> None:
    net = Net()
    standing = Standing(net)
    assert standing.same_weights(net)
    assert standing.same(net)
    WAYS[way](net)
    assert not standing.same_weights(net)
    assert not standing.same(net)


def test_what_changes_nothing_is_no_change() -> None:
    net = Net().eval()
    standing = Standing(net)
    copy.deepcopy(net)
    net(X).sum().backward()
    net.zero_grad()
    net.out.requires_grad_(False)
    net.state_dict()
    list(net.rnn.children())
    net.rnn.flatten_parameters()
    net.rnn.train()  # which acts on no mode: it has no dropout
    assert standing.same_weights(net)


def test_hooks_that_grulens_put_in_are_no_change() -> None:
    net = Net()
    standing = Standing(net)
    with FirstStates({net.rnn: (torch.zeros(1, 4),)})():
        assert net.rnn._forward_pre_hooks
        assert standing.same(net)


def test_what_modules_keep_is_part_of_it_where_that_is_asked() -> None:
    net = Net().eval()
    net(X)
    standing = Standing(net)
    net(X)
    assert standing.same(net)  # another tensor of the same values
    net(X + 1)
    assert standing.same_weights(net)
    assert not standing.same(net)
    other = Standing(net)
    net.temperature = 2.0
    assert not other.same(net)
    net.temperature = float("nan")
    assert Standing(net).same(net)


def test_the_mode_can_be_left_out() -> None:
    net = Net()
    standing = Standing(net, mode=False)
    net.eval()
    assert standing.same_weights(net)
    net.out.bias.data.add_(1)
    assert not standing.same_weights(net)


def test_of_a_large_model_every_kth_number_is_looked_at() -> None:
    net = nn.Sequential(nn.Embedding(3 * LOOK // 8, 8), nn.GRU(8, 4))
    standing = Standing(net)
    net[0].weight.data.view(-1)[1] += 1  # between two that are looked at, and past torch's count
    assert standing.same_weights(net)
    net[0].weight.data.add_(1)
    assert not standing.same_weights(net)
    counted = Standing(net)
    with torch.no_grad():
        net[0].weight.view(-1)[1] += 1
    assert not counted.same_weights(net)


def test_nan_is_like_nan_and_a_lazy_model_is_looked_at_when_it_is_made() -> None:
    net = nn.GRU(2, 3)
    net.bias_hh_l0.data.fill_(torch.nan)
    standing = Standing(net)
    assert standing.same_weights(net)
    net.bias_hh_l0.data[0] = 0
    assert not standing.same_weights(net)
    lazy = nn.Sequential(nn.LazyLinear(3))
    standing = Standing(lazy)
    assert standing.lazy
    assert standing.same_weights(lazy)
    lazy(torch.ones(1, 2))
    assert not standing.same_weights(lazy)


def test_it_keeps_no_model_alive() -> None:
    import gc
    import weakref

    net = Net()
    alive, standing = weakref.ref(net), Standing(net)
    del net
    gc.collect()
    assert alive() is None
    assert not standing.same_weights(Net())
