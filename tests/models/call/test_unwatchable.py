"""Calls that cannot be watched: refused by name, and the model is as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from grulens import ablate, editing, record
from grulens.errors import RecordingError

KINDS = {
    "GRU": (lambda **where: nn.GRU(3, 4, batch_first=True, **where), "l0"),
    "GRUCell": (lambda **where: nn.GRUCell(3, 4, **where), "cell"),
}
EVERY = pytest.mark.parametrize("kind", KINDS)
EDITED = pytest.mark.parametrize("edited", [False, True])


def given(kind: str) -> Tensor:
    return torch.randn(2, 3) if kind == "GRUCell" else torch.randn(2, 5, 3)


# devices; "meta" stands for any other


@EVERY
@EDITED
def test_a_model_on_another_device_than_its_input_says_so(kind: str, edited: bool) -> None:
    make, layer = KINDS[kind]
    edits = [ablate(layer)] if edited else []
    x, state = given(kind), torch.zeros((2, 4) if kind == "GRUCell" else (1, 2, 4))
    for module, args, said in (
        (make(device="meta"), (x,), "weights on meta, its input on cpu: move the model or the inp"),
        (make(), (x.to("meta"),), "weights on cpu, its input on meta: move the model or the input"),
        (make(), (x, state.to("meta")), "on cpu, its input on cpu and its first state on meta: mo"),
    ):
        before = dict(vars(module))
        with pytest.raises(RecordingError, match=f"layer '{layer}' has its .*{said}"):
            record(module, *args, edits=edits)
        assert vars(module) == before


@EVERY
def test_on_the_meta_device_there_are_no_numbers(kind: str) -> None:
    make, layer = KINDS[kind]
    said = f"layer '{layer}' runs on the meta device, where tensors hold no numbers: give the model"
    with pytest.raises(RecordingError, match=said):
        record(make(device="meta"), given(kind).to("meta"))


def test_weights_given_later_are_read() -> None:
    gru = nn.GRU(3, 4, device="meta").to_empty(device="cpu")
    gru.reset_parameters()
    assert record(gru, torch.randn(5, 2, 3)).residual < 1e-6
    skipped = nn.utils.skip_init(nn.GRUCell, 3, 4)
    with torch.no_grad():
        for parameter in skipped.parameters():
            parameter.uniform_()
    assert record(skipped, torch.randn(2, 3)).residual < 1e-6


# torch.func


def losses(model: nn.Module, layer: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The sum of what a model returns, by its parameters: edited inside, and by itself."""

    def plain(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        out = torch.func.functional_call(model, parameters, (x,))
        return (out[0] if isinstance(out, tuple) else out).sum()

    def edited(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        with editing(model, ablate(layer, 1)):
            return plain(parameters, x)

    return edited, plain


@EVERY
def test_a_functional_gradient_goes_through_an_edit(kind: str) -> None:
    make, layer = KINDS[kind]
    model, x = make(), given(kind)
    edited, plain = losses(model, layer)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    found = torch.func.grad(edited)(parameters, x)
    with editing(model, ablate(layer, 1)):
        plain(dict(model.named_parameters()), x).backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(found[name], p.grad)
    in_x = torch.func.grad(lambda v: record(model, v, grad=True)[layer].z.sum())(x)
    leaf = x.clone().requires_grad_()
    record(model, leaf, grad=True)[layer].z.sum().backward()
    torch.testing.assert_close(in_x, leaf.grad)


@pytest.mark.parametrize("per_row", [False, True])
def test_vmap_is_refused(per_row: bool) -> None:
    model, x = nn.GRUCell(3, 4), torch.randn(6, 2, 3)
    edited, _ = losses(model, "cell")
    parameters = dict(model.named_parameters())
    if per_row:  # gradients of each row
        edited = torch.func.grad(edited)
    said = "layer 'cell' runs inside torch.vmap, .* give it one batch with all rows"
    with pytest.raises(RecordingError, match=said):
        torch.vmap(edited, in_dims=(None, 0))(parameters, x)
    assert "forward" not in vars(model)
    with pytest.raises(RecordingError, match=said):
        torch.vmap(lambda v: record(model, v)["cell"].z)(x)


# gradient checkpointing: its part of the forward runs again in backward, outside of any block


class Checkpointed(nn.Module):
    def __init__(self, kind: str, use_reentrant: bool) -> None:
        super().__init__()
        self.rnn = KINDS[kind][0]()
        self.use_reentrant = use_reentrant

    def forward(self, x: Tensor) -> Tensor:
        out = checkpoint(self.rnn, x, use_reentrant=self.use_reentrant)
        return out[0] if isinstance(out, tuple) else out


@EVERY
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_is_refused_where_gradients_would_be_wrong(
    kind: str, use_reentrant: bool
) -> None:
    model, x = Checkpointed(kind, use_reentrant), given(kind).requires_grad_()
    layer = {"GRU": "rnn.l0", "GRUCell": "rnn"}[kind]
    said = f"layer '{layer}' runs inside torch.utils.checkpoint, which runs it a second time in"
    with pytest.raises(RecordingError, match=said), editing(model, ablate(layer, 1)):
        model(x)
    for edits in ([], [ablate(layer, 1)]):
        with pytest.raises(RecordingError, match=said):
            record(model, x, edits=edits, grad=True)
    # a forward from before the block is not edited in its backward either
    loss = model(x).sum()
    with pytest.raises(RecordingError, match=said), editing(model, ablate(layer, 1)):
        loss.backward()


@EVERY
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_is_no_matter_without_gradients(kind: str, use_reentrant: bool) -> None:
    model, x = Checkpointed(kind, use_reentrant), given(kind).requires_grad_()
    layer = {"GRU": "rnn.l0", "GRUCell": "rnn"}[kind]
    plain = model(x)
    plain.pow(2).sum().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    run = record(model, x)
    assert torch.equal(run.output, plain)
    with torch.no_grad(), editing(model, ablate(layer, 1)):
        assert model(x)[..., 1].eq(0).all()
    assert record(model, x, edits=ablate(layer, 1)).output[..., 1].eq(0).all()
    model.zero_grad()
    model(x).pow(2).sum().backward()
    assert all(torch.equal(p.grad, e) for p, e in zip(model.parameters(), expected, strict=True))


@EVERY
def test_a_layer_outside_the_checkpoint_is_edited(kind: str) -> None:
    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = Checkpointed(kind, False), nn.GRUCell(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.outer(self.inner(x).reshape(-1, 4))

    model, x = Beside(), given(kind).requires_grad_()
    run = record(model, x, layers="outer", edits=ablate("outer", 1), grad=True)
    run["outer"].h.sum().backward()
    assert x.grad is not None
    assert run["outer"].h[..., 1].eq(0).all()
