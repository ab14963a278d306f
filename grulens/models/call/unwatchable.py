"""Calls that cannot be watched, each refused by name before anything of it runs.

torch would run most of them; what would be recorded or edited would not be what it ran.
"""

from __future__ import annotations

import sys

import torch
import torch.utils.checkpoint
from torch import nn
from torch._C._functorch import TransformType, get_interpreter_stack

from grulens.cells.precision import autocast
from grulens.errors import DropoutMaskError, EmptySequenceError, RecordingError
from grulens.models.call.call import Call

NO_AUTOCAST = (nn.LSTM, nn.LSTMCell, nn.RNN, nn.RNNCell)
"""Modules of which it is not known what autocast rounds."""


def check_call(
    call: Call, module: nn.Module, name: str, *, vouched: bool, differentiated: bool
) -> None:
    """Raise unless a call can be watched.

    Args:
        call: the call.
        module: the module that is called.
        name: its layer, for messages.
        vouched: whether its cells are known and need no comparison.
        differentiated: whether what grulens adds to the call is to be part of a gradient.

    Raises:
        EmptySequenceError, DropoutMaskError, RecordingError: it cannot, and why.
    """
    where = call.body.device
    weight = next(module.parameters(), call.body)
    state = call.h_0.device
    if not weight.device == where == state:
        also = "" if state == where else f" and its first state on {state}"
        raise RecordingError(
            f"layer {name!r} has its weights on {weight.device}, its input on {where}{also}: move "
            "the model or the input, so that they are on one device"
        )
    if where.type == "meta":
        raise RecordingError(
            f"layer {name!r} runs on the meta device, where tensors hold no numbers: give the "
            "model weights first, with model.to_empty(device=...) and load_state_dict"
        )
    if not call.steps:
        raise EmptySequenceError(
            f"layer {name!r} was called with a sequence of no steps: input of shape "
            f"{tuple(call.body.shape)} (time, batch, input); expected at least one"
        )
    if call.dropout and call.body.is_cuda:
        raise DropoutMaskError(
            f"layer {name!r} runs in training mode with dropout {call.dropout} between "
            "its layers; cuDNN draws those masks where nobody can see them. Record in "
            "model.eval(), with dropout 0, or on the CPU"
        )
    if autocast(where) and isinstance(module, NO_AUTOCAST):
        raise RecordingError(
            f"layer {name!r} is an {type(module).__name__} under torch.autocast, and what that "
            "rounds in it is not known: record it without autocast"
        )
    if autocast(where):
        check_rounding(where.type, name, "" if vouched else type(module).__name__)
    if any(level.key() == TransformType.Vmap for level in get_interpreter_stack() or ()):
        raise RecordingError(
            f"layer {name!r} runs inside torch.vmap, where tensors cannot be looked at: give it "
            "one batch with all rows instead"
        )
    if differentiated and _checkpointed():
        raise RecordingError(
            f"layer {name!r} runs inside torch.utils.checkpoint, which runs it a second time in "
            "backward, where no edit and no recording follows: switch the checkpointing off for "
            "this run, or run it without gradients"
        )


def check_rounding(device: str, name: str, registered: str = "") -> None:
    """Raise RecordingError unless it is known what autocast rounds in a call.

    Elsewhere than on the CPU it is not: cuDNN's GRU rounds weights and input to float16, whatever
    precision autocast names, and torch's own kernel there does otherwise.

    Args:
        device: the kind of device.
        name: the layer, for messages.
        registered: the module's class, if it is a registered one.
    """
    if device == "cpu" and not registered:
        return
    where = f"on {device}" if device != "cpu" else f"and {registered} is a registered class"
    raise RecordingError(
        f"layer {name!r} runs under torch.autocast {where}: what is rounded in it is not known. "
        f"Run it in torch.autocast({device!r}, enabled=False), or with model.to(torch.bfloat16) if "
        "that is the precision wanted"
    )


def _checkpointed() -> bool:
    """Whether torch.utils.checkpoint called the code that runs; nothing but the frames says it."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_globals.get("__name__") == torch.utils.checkpoint.__name__:
            return True
    return False
