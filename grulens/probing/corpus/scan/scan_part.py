"""Scan one part of a corpus: run its inputs, count what the layers did, write an index of it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from grulens.errors import ScanError
from grulens.models.recording import LayerRecording, Recording
from grulens.probing.corpus.scan.anew import Seen, check_alone, check_weights, ran, weights
from grulens.probing.corpus.scan.direction import DIRECTION, ENDS, SIGNAL, along, told
from grulens.probing.corpus.scan.furthest import Furthest, places
from grulens.probing.corpus.scan.manifest import Manifest, ScannedLayer, hash_of, weights_of
from grulens.probing.corpus.scan.part import ANCHOR, extremes, packed
from grulens.probing.corpus.scan.rules import rules_of
from grulens.probing.corpus.scan.sequences import Labelled, Reader, Run, one_name, one_off
from grulens.probing.corpus.scan.shorter import first_steps
from grulens.probing.corpus.scan.tally import Combinations, Steps, Tally, compiled
from grulens.probing.corpus.scan.writer import Writer
from grulens.words import so_many


def scan_part(
    model: nn.Module,
    part: Any,
    place: Path,
    reader: Reader,
    manifest: Manifest,
    seen: Seen | None = None,
) -> None:
    """Scan one part, and write it, unless it is there by now.

    Args:
        model: the model, in eval mode.
        part: the part.
        place: the folder to write.
        reader: how it is read.
        manifest: what the scan is made with.
        seen: its first run, where that has been made.

    Raises:
        ScanError: it cannot be scanned, or not be written; it says which part it is.
    """
    try:
        _scanned(model, part, reader, manifest, int(place.name), seen).write(place)
    except ScanError as error:
        raise ScanError(f"part {int(place.name)}: {error}") from error
    except Exception as error:
        error.add_note(f"in part {int(place.name)} of the scan")
        raise


def _scanned(
    model: nn.Module, part: Any, reader: Reader, manifest: Manifest, place: int, seen: Seen | None
) -> Writer:
    """What is to be written of a part."""
    writer = Writer(len(manifest.layers), part.held if isinstance(part, Labelled) else None)
    tallies, combinations = _tallies(manifest)
    furthest = _furthest(manifest)
    before = weights(model) if _doubled(place) else None
    beside = before is None
    for at, given in enumerate(reader.runs(part)):
        # the very first run of a corpus has been seen before
        checked = before is not None and _doubled(at) and place + at > 0
        recording = None if seen is None or at else seen.on(given)
        alone = given.beside and not beside and place + at > 0
        beside = beside or given.beside
        _take(
            model, given, checked, alone, recording, reader, manifest, writer, tallies,
            combinations, furthest,
        )  # fmt: skip
    if before is not None:
        check_weights(model, before)
    writer.names |= reader.names(writer.unnamed())
    if writer.any:
        for (number, _), tally in tallies.items():
            writer.count(number, tally.statistics(combinations))
        for (number, signal), found in furthest.items():
            writer.furthest(number, DIRECTION if signal == SIGNAL else "", found)
    return writer


def _doubled(number: int) -> bool:
    """Whether a number is 0, 1, 2, 4, 8, ...: some of the first, and few of many."""
    return number & (number - 1) == 0


def _take(
    model: nn.Module,
    given: Run,
    checked: bool,
    alone: bool,
    recording: Recording | None,
    reader: Reader,
    manifest: Manifest,
    writer: Writer,
    tallies: Mapping[tuple[int, str], Tally],
    combinations: Combinations,
    furthest: Mapping[tuple[int, str], Furthest],
) -> None:
    """Add one run; all that it holds is given back before the next one."""
    names = [layer.name for layer in manifest.layers]
    if recording is None:
        recording = ran(model, given, names, manifest.call, checked=checked)
    _one_shape(recording, names)
    if alone:
        check_alone(model, given, names, manifest.call, recording)

    def again(other: Run) -> Recording:
        return ran(model, other, names, manifest.call)

    given = first_steps(given, recording, again, reader.shorter)
    mask = recording[names[0]].mask.cpu().numpy()
    run = reader.settled(oriented(model, given, recording, manifest.call), mask)
    if len(run.documents) != len(mask) or (
        run.read is not None and run.read.shape[:2] != mask.shape
    ):
        off = "" if run.read is None else one_off(mask.shape[1], run.read.shape[1])
        raise ScanError(
            f"layer {names[0]!r} has {so_many(mask.shape[0], 'row')} of "
            f"{so_many(mask.shape[1], 'step')} for ids of "
            f"{so_many(len(run.documents), 'row')}: a scan needs a layer that takes a step "
            f"for each of the input{_turned(run, mask) or off}"
        )
    if run.padded:
        _say_padded(run.padded, manifest.first)
    labels = [run.labels[name] & mask for name in manifest.labels]
    lengths = mask.sum(1).tolist()
    writer.names = one_name(chain(writer.names.items(), run.names.items()))
    words = packed(np.stack([*labels, mask], -1))
    first = writer.rows(
        run.documents, run.starts, lengths, mask.shape[1], run.read, words[:-1], run.form
    )
    at = words[:-1], words[-1], places(np.array(run.documents), np.array(run.starts)), first
    groups = combinations.of(labels, mask)
    for number, layer in enumerate(manifest.layers):
        _add(writer, number, layer, recording[layer.name], mask, groups, tallies, furthest, at)


def oriented(model: nn.Module, run: Run, recording: Recording, call: str | None) -> Run:
    """A run of as many rows as steps, with what a run of one column less says of which is which.

    That a layer has its rows first does not say it: a model may turn its input before.

    Args:
        model: the model.
        run: the run.
        recording: what its layers did in it.
        call: the name of the method that is the run.
    """
    name, layer = next(iter(recording.items()))
    rows, steps = layer.mask.shape
    given = [one for one in tree_leaves((run.args, run.kwargs)) if isinstance(one, Tensor)]
    one = next(iter(run.ready.values()), None)
    if not (rows == steps > 1 and len(given) == 1 and given[0] is one and one.dim() > 1):
        return run
    if tuple(one.shape[:2]) != (rows, steps):
        return run
    args, kwargs = tree_map(lambda of: of[:, :-1] if of is one else of, (run.args, run.kwargs))
    try:
        less = ran(model, replace(run, args=args, kwargs=kwargs), [name], call)[name].mask
    except Exception:  # the model wants so many
        return run
    known = {(rows, steps - 1): False, (steps - 1, rows): True}
    return replace(run, turned=known.get((len(less), less.shape[1])))


@cache
def _say_padded(name: str, first: str) -> None:
    """Say once a scan, which is known by its first input, that padding counts."""
    warnings.warn(
        f"argument {name!r} says which steps of an input are padding, and the layers take these, "
        "too: they count as steps. Scan rows without padding: texts or ids of their own lengths, "
        "or packed inputs",
        stacklevel=3,
    )


def _turned(run: Run, mask: Bool[ndarray, "row step"]) -> str:
    """What to give a model that took the steps of a sequence of ids for rows, in words."""
    if run.read is None or run.read.shape[:2] != mask.T.shape:
        return ""
    return (
        ". The model takes steps first, and texts and sequences of ids, (step,) or (1, step), are "
        "run as (row, step): give ids as it takes them, (step, row), with two steps or more; or in "
        "a tuple, (ids,)"
    )


def _tallies(manifest: Manifest) -> tuple[dict[tuple[int, str], Tally], Combinations]:
    """What counts each signal of a part, and the combinations of its labels."""
    tallies, room = {}, []
    for number, layer in enumerate(manifest.layers):
        for signal in layer.signals:
            on = manifest.on if signal.name == "h" else None
            many = len(layer.directions) if signal.name == SIGNAL else layer.units
            tally = Tally(layer.name, signal, many, manifest.labels, on, manifest.zero)
            tallies[number, signal.name] = tally
            room.append(tally.room)
    return tallies, Combinations(len(manifest.labels), min(room))


def _furthest(manifest: Manifest) -> dict[tuple[int, str], Furthest]:
    """What finds the windows in which units and directions go furthest under labels."""
    return {
        (number, signal.name): Furthest(
            len(layer.directions) if signal.name == SIGNAL else layer.units, len(manifest.labels)
        )
        for number, layer in enumerate(manifest.layers) if manifest.labels
        for signal in layer.signals if signal.name in ("h", SIGNAL)
    }  # fmt: skip


def _add(
    writer: Writer,
    number: int,
    scanned: ScannedLayer,
    layer: LayerRecording,
    mask: Bool[ndarray, "row step"],
    groups: Sequence[tuple[int, Steps]],
    tallies: Mapping[tuple[int, str], Tally],
    furthest: Mapping[tuple[int, str], Furthest],
    at: tuple[ndarray, ndarray, ndarray, ndarray],
) -> None:
    index: dict[str, Any] = {}
    states = numbers(layer.signal("h"))
    asked = {signal.name for signal in scanned.signals} - {"h", SIGNAL}
    gates = layer.gates() if asked else {}
    for signal in scanned.signals:
        if signal.name == SIGNAL:
            values = along(states, scanned.directions)
            index |= zip(ENDS.values(), extremes(values, mask), strict=True)
        else:
            values = states if signal.name == "h" else numbers(gates.pop(signal.name))
        index |= tallies[number, signal.name].add(values, mask, groups)
        if (number, signal.name) in furthest:
            fast = compiled(tallies[number, signal.name].values)
            furthest[number, signal.name].add(values, *at, fast)
    writer.layer(number, index, mask, _states(scanned, layer, states))


def _states(
    scanned: ScannedLayer, layer: LayerRecording, values: Float[ndarray, "row step unit"]
) -> Float[ndarray, "row kept state"]:
    """All that the next step of a layer reads; nothing where no step is kept."""
    rows, steps, units = values.shape
    if steps <= ANCHOR:
        return np.zeros((rows, 0, units * len(scanned.states)), np.float32)
    if len(scanned.states) == 1:
        return values
    return np.concatenate([numbers(layer.signal(name)) for name in scanned.states], -1)


def numbers(signal: Tensor) -> Float[ndarray, "row step unit"]:
    """A signal as float32 numbers (row, step, unit)."""
    found: ndarray = signal.detach().float().cpu().numpy()
    return found


def _one_shape(recording: Recording, names: Sequence[str]) -> None:
    """Raise unless all layers have the same rows and steps."""
    first = recording[names[0]]
    for name in names:
        recording[name].check_one_batch("a scan")
        if not torch.equal(recording[name].mask, first.mask):
            raise ScanError(
                f"layers {names[0]!r} and {name!r} have other rows or steps in one run: scan each "
                "by itself, layers=[...]"
            )


def settled(run: Run, reader: Reader, recording: Recording) -> Run:
    """The first run of a scan with its rows and labels."""
    return reader.settled(run, _there(run, recording))


def _there(run: Run, recording: Recording) -> Bool[ndarray, "row step"]:
    """Which steps of a run there are; a few of its rows may have been recorded."""
    mask: ndarray = next(iter(recording.values())).mask.cpu().numpy()
    few = not run.ready and run.read is not None and run.read.shape[:2] != mask.shape
    return np.ones(run.read.shape[:2], bool) if few and run.read is not None else mask


def manifest_of(
    model: nn.Module,
    run: Run,
    reader: Reader,
    recording: Recording,
    gates: bool,
    on: float,
    call: str | None,
    directions: Any,
) -> Manifest:
    """What a scan of a corpus is made with; its layers are those that run in its first run.

    Args:
        model: the model.
        run: the first run, with its rows and labels.
        reader: how the corpus is read.
        recording: what the layers do in it.
        gates: see `corpus.scan`, as all that follows.
        on: the same.
        call: the same.
        directions: the same.
    """
    scanned = tuple(ScannedLayer.of(layer, gates) for layer in recording.values())
    along_them = told(directions, {one.name: one.units for one in scanned})
    scanned = tuple(one.following(along_them.get(one.name, ())) for one in scanned)
    # a model may have a `decode` of its own that is of something else than ids
    given_one = reader.coder.decode != getattr(model, "decode", None)
    if given_one and (why := reader.unnamed(run.read, _there(run, recording))):
        warnings.warn(f"{why}: ids without a text are shown as numbers", stacklevel=3)
    if run.among:
        warnings.warn(
            f"{', '.join(map(repr, run.among))} may each be what stands at each step of an input, "
            f"and {run.among[0]!r} is taken: labels, contexts and controls are of that. Say which "
            "is meant, input_of=",
            stacklevel=3,
        )
    given = tree_leaves((run.args, run.kwargs))
    first = hash_of(
        [("", one) for one in given if isinstance(one, Tensor)]
        + [(name, torch.from_numpy(run.labels[name])) for name in reader.labels]
    )
    _say_padded.cache_clear()
    if run.padded:
        _say_padded(run.padded, first)
    return Manifest(
        type(model).__qualname__, weights_of(model), scanned, tuple(reader.labels), on,
        gates, reader.steps, reader.batch, call, first, room=reader.room,
        rules=rules_of(reader.labels), zero=True,
    )  # fmt: skip
