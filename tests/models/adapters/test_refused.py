"""GRUs that are no modules any more, scripted, exported or quantized: refused by name."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import grulens
from grulens import record
from grulens.errors import NoLayerError, UnsupportedLayerError


def quiet(make: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scripting and dynamic quantization are deprecated
        return make()


def looped() -> nn.Module:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.cell(x)

    return Loop().eval()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: torch.jit.script(looped()), "'cell' is a scripted GRU"),
        (lambda: torch.jit.script(nn.GRU(3, 4)), "'the model itself' is a scripted GRU"),
        (lambda: torch.jit.trace(nn.GRU(3, 4), torch.randn(5, 2, 3)), "itself' is a scripted GRU"),
        (lambda: torch.jit.freeze(torch.jit.script(looped())), "'the model itself' is a scripted"),
        (lambda: torch.export.export(looped(), (torch.randn(2, 3),)).module(),
         "'the model itself' is an exported graph, in which the GRU is an operation"),
        (lambda: torch.ao.quantization.quantize_dynamic(looped(), {nn.GRUCell}),
         "'cell' is a quantized GRU"),
    ],
)  # fmt: skip
def test_a_gru_that_is_no_module_any_more_is_refused_by_name(make: Any, said: str) -> None:
    model = quiet(make)
    for use in (grulens.layers, lambda m: record(m, torch.randn(2, 3))):
        with pytest.raises(UnsupportedLayerError, match=said) as raised:
            use(model)
        assert "use the " in str(raised.value)


def test_scripted_and_exported_models_without_a_gru_hold_none() -> None:
    linear, x = nn.Sequential(nn.Linear(3, 3)), torch.randn(2, 3)
    for make in (
        lambda: torch.jit.script(linear),
        lambda: torch.export.export(linear, (x,)).module(),
    ):
        with pytest.raises(NoLayerError):
            grulens.layers(quiet(make))


def test_a_graph_of_fx_holds_the_modules_themselves() -> None:
    x = torch.randn(2, 5, 3)
    model = nn.Sequential(nn.Linear(3, 3), nn.GRU(3, 4, batch_first=True))
    run = record(torch.fx.symbolic_trace(model), x)
    assert torch.equal(run.output[0], model(x)[0])
    assert run["1.l0"].residual < 1e-6
