"""Run a model over a whole corpus once, and keep an index to ask afterwards, not the states.

The states of ten million steps fill a disk; what is asked of them is a few hundred moments. So a
scan keeps, for each unit, a bit a step (is it on?), its least and largest value in every window of
64 steps, statistics that add up, and the states of every 256th step. What else is wanted is made
again by a run from there: `Scan.replay`.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from operator import length_hint
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from grulens.arguments import (
    Decode,
    DirectionsLike,
    Encode,
    Integer,
    LabelsLike,
    LayerNames,
    MethodName,
    Number,
)
from grulens.errors import ScanError, shown
from grulens.job import Job, tell
from grulens.models.adapters.closed import look
from grulens.models.call.invocation import positional
from grulens.models.recording import Recording
from grulens.models.restore.mode import evaluated
from grulens.probing.coder import Coder
from grulens.probing.corpus.cluster import check_client
from grulens.probing.corpus.making import sweep, unfinished
from grulens.probing.corpus.numbers import as_number, whole
from grulens.probing.corpus.scan.abreast import ROWS, room_of
from grulens.probing.corpus.scan.aligned import check_places, way_round
from grulens.probing.corpus.scan.anew import Seen, check_alone, ran
from grulens.probing.corpus.scan.compared import compare, compare_states, more_than
from grulens.probing.corpus.scan.manifest import NAME, Manifest
from grulens.probing.corpus.scan.part import Part
from grulens.probing.corpus.scan.scan_part import manifest_of, oriented, scan_part, settled
from grulens.probing.corpus.scan.scanned import PARTS, Scan, folder_of, numbers_in
from grulens.probing.corpus.scan.sequences import Labelled, Reader, Run, labelled
from grulens.probing.corpus.scan.shorter import first_steps
from grulens.probing.corpus.scan.spread import spread
from grulens.probing.corpus.scan.table import ROWS as PART
from grulens.probing.corpus.scan.table import asked_by_number, grouped
from grulens.probing.corpus.scan.taken import are_ids, rows_of
from grulens.words import so_many

#: A state above this is on, unless another value is given.
ON: Final = 0.3
#: What a system or a notebook leaves in a folder that a person calls empty.
LEFT: Final = (".DS_Store", ".directory", "Thumbs.db", "desktop.ini", ".ipynb_checkpoints")


def scan(
    model: nn.Module,
    parts: Iterable[Any] | Dataset[Any],
    out: str | os.PathLike[str],
    *,
    layers: LayerNames = None,
    labels: LabelsLike = None,
    directions: DirectionsLike = None,
    gates: bool = False,
    on: Number = ON,
    encode: Encode = None,
    decode: Decode = None,
    column: str | None = None,
    input_of: str | None = None,
    call: MethodName = None,
    steps: Integer = 2048,
    batch: Integer | None = None,
    client: Any = None,
    progress: bool = True,
) -> Scan:
    """Run a model over a corpus, in eval mode, and keep an index of what its units did.

    Each input finds the model as the scan did: what a run changes in it, in its input, or in what
    its code and hooks name is put back. A model whose states hang on its last input is refused, and
    so is one in which those of a row hang on the rows that the scan puts beside it.

    Ctrl-C keeps the parts that are done; the same call goes on with the others. A part is written
    whole or not at all, so nothing is lost by a process that is killed.

    Args:
        model: any module that `record` opens.
        parts: the pieces of the corpus; each is an input, a list of inputs, or a function that
            gives either or an iterator of inputs. An input is a text, a `Path` of a text file, a
            tensor or a list of ids (step,), what the model itself takes (batch, step, ...), a tuple
            of several arguments, or a mapping; an empty text or tensor holds no step. The rows of a
            data frame are mappings, and those of one of its columns what stands there: 256 of them
            are a part, or fewer that are long; a frame within a list of parts is one part. So it is
            with the items of a data set, which has a length and is asked by number, if they are
            mappings. All steps that the layers take count, padding too.
            Each is some hundred thousand steps at best: small ones cost space, large ones memory.
            A part is known by its place in the sequence: of a corpus that has changed since, only
            the first part with a step is read again and compared (its ids, its labels, and what
            its ids are called), and labels that are arrays; all parts are, where labels are told
            by functions that are not what they were: their code, what of your own it reads, and so
            on from there. What they take from elsewhere (an installed library, a file) is not
            looked at. A batch of a
            `DataLoader` that has several columns is a tuple of arguments, too. What stands at each
            step is kept, ids or up to 16 numbers, so that rows can run again.
        out: the folder of the scan.
        layers: the names of the layers; None is all.
        labels: by name, a function from an input (its text, its ids (step,), or what it holds at
            each step (step, input), both as arrays of numpy) to a bool for each step; or the name
            of a column, for inputs that are mappings; or a list with an entry for each part: an
            array of bools (step,), or (row, step) for a batch, a list of one a row where rows have
            lengths of their own (a packed input), or a list of these where the part is a list of
            inputs.
        directions: vectors (unit,) by name in the state space of the scanned layer, such as the
            weights of a probe. How far the states go along each, h · weights, is counted as the
            signal "directions", and `Scan.top` finds where that is furthest. Where several layers
            are scanned, these by the name of the layer. Values from 2^-12 to 2^12 are told apart
            in the histograms, in sixteen steps an octave: scale the vectors to suit.
        gates: whether gates are counted, too; that takes about as long again.
        on: above which value a state counts as on.
        encode: from a text to ids; None is the model's own.
        decode: from ids to a text, to say what each was; None is the model's own. The names are
            kept with the scan.
        column: the name under which an input that is a mapping holds its text or its ids; None
            where a mapping holds the model's named arguments.
        input_of: the name of the argument of the model that holds what stands at each step, where
            an input has several: its labels, contexts and controls are of that, in all inputs. None
            is the first that may in the first input, and is no mask; where others may, too, that is
            said. Texts and ids are the first argument of the model.
        call: the name of the method that is the run.
        steps: texts and ids are cut into rows of so many steps at most; each row begins with the
            state that the model itself begins with.
        batch: how many rows run side by side. Memory goes with it, and not with the corpus. None
            is 64, or fewer where so many steps of the model would take more than a gigabyte (of a
            GRU of 512 units, 32 rows of 2,048 steps); and it is what a scan in the folder has.
        client: a `dask.distributed.Client`: its workers scan the parts, and what comes out is the
            same bit for bit. `out` is a folder that all workers share. None scans here.
        progress: whether to show a progress bar.

    Raises:
        ScanError: the folder holds a scan that was made otherwise; an input, a label, a direction
            or a layer does not fit; the model does something else when it runs again; the disk is
            full; or the workers of `client` do not stay alive.

    Warns:
        StoppedWarning: Ctrl-C came before all parts were done.
        UserWarning: the folder holds more parts than the corpus has now; several arguments may
            hold what stands at each step; a layer reads it later than at its own step, or goes by
            another argument; an argument says that steps are padding, which the layers
            take; or `decode` gives no text for an id.
    """
    folder = folder_of(out)
    try:
        _check_folder(folder)
    except OSError as error:  # its name is too long, say
        raise ScanError(
            f"{shown(str(folder))} cannot be read: {error.strerror or error}"
        ) from error
    look(model)
    if client is not None:
        check_client(client)
    rules = {} if labels is None else labels
    if not isinstance(rules, Mapping) or not all(
        isinstance(name, str) and name and (callable(rule) or isinstance(rule, str | list | tuple))
        for name, rule in rules.items()
    ):
        raise ScanError(
            "labels must be functions by name, such as {'upper': lambda text: ...}, names of "
            f"columns, or lists with the bools of each part; got {shown(labels)}"
        )
    if column is not None and not isinstance(column, str):
        raise ScanError(f"column must be the name of a column, got {shown(column)}")
    if input_of is not None and not isinstance(input_of, str):
        raise ScanError(
            f"input_of must be the name of an argument of the model, got {shown(input_of)}"
        )
    above = as_number(on)
    if above is None or not math.isfinite(above):
        raise ScanError(f"on must be a finite number, got {shown(on)}")
    if not isinstance(gates, bool):
        raise ScanError(f"gates must be True or False, got {shown(gates)}")
    if isinstance(layers, str | list | tuple | set | frozenset) and not layers:
        raise ScanError(
            f"layers must name one layer or more, or be None for all; got {shown(layers)}"
        )
    rows, room = _abreast(batch, folder)
    told = {
        n: rule if callable(rule) or isinstance(rule, str) else None for n, rule in rules.items()
    }
    reader = Reader(
        Coder.of(model, encode, decode, None), told,
        whole(steps, "steps"), rows, column, input_of, tuple(positional(model, call)), room or 0,
    )  # fmt: skip
    table = rows_of(parts)
    if are_ids(table):
        raise ScanError(
            f"parts is a {type(parts).__name__} of numbers, which are the ids of one input: give "
            "it as a part, [series]"
        )
    if table is not None:
        parts = [*grouped(labelled(table, rules))]
    every, in_rows = asked_by_number(parts, _each(parts))
    many = length_hint(parts)
    if table is None:
        every = labelled(every, rules)
    if in_rows:  # which are made one after another: how many parts they are is known at the end
        every, many = grouped(every), -(-many // PART)
    job: Job[Scan] = Job("scan", "part", many)
    with evaluated(model):
        begun, run, further = _begun(every, reader)
        try:
            given = few = run.few
            recording = ran(model, few, layers, call, checked=True)
            check_alone(model, few, layers, call, recording)
            cut = first_steps(
                few, recording, lambda other: ran(model, other, layers, call), known=False
            )
            reader, few = replace(reader, shorter=cut is not few), cut
            few = oriented(model, few, recording, call)
            first_run = settled(few, reader, recording)
            check_places(
                few, first_run, recording, reader.arguments,
                lambda other: ran(model, other, layers, call),
            )  # fmt: skip
            if room is None and (room := room_of(recording, rows, reader.steps)):
                reader = replace(reader, room=room)
                further = reader.runs(begun[-1])
                run = next(further)
            # how far states go may be another thing in each row
            if len(few.documents) < len(run.documents) and not _from_zero(recording):
                given, recording = run, ran(model, run, layers, call)
            seen = Seen.of(given, recording)
            # of what is given as it is all has run; of texts and ids rows and labels are known
            run, first_run = (few, first_run) if few.ready else (run, run)
            # of all inputs it is the same argument, whichever fits, the same way round
            reader = replace(reader, input_of=first_run.by, turned=way_round(first_run))
            manifest = manifest_of(
                model, first_run, reader, recording, gates, above, call, directions
            )
            told_by = manifest.rules
            del recording
        except Exception as error:
            error.add_note(f"in part {len(begun) - 1} of the scan")
            raise
        _make(folder / PARTS)
        if not manifest.begin(folder):
            made = Manifest.read(folder)
            made.check(manifest, folder)
            told_by, manifest = manifest.rules, made
            first = folder / PARTS / f"{len(begun) - 1:06d}"
            if first.exists():
                compare(Part(first), chain([run], further), reader)
                again = ran(model, run, [one.name for one in made.layers], call)
                compare_states(Part(first), again, run, reader, made)
                del again
        with job.watched(bar=progress):
            others = told_by != manifest.rules
            done = _done(
                client, model, chain(begun, every), folder, reader, manifest, others,
                {len(begun) - 1: seen},
            )  # fmt: skip
            for _ in done:
                job.advance()
            job.total = job.done  # of an iterator, it is known only now
            _end(manifest, folder, job.done, told_by)
    for one in (folder, folder / PARTS):
        sweep(one)
    if client is not None and job.note:  # what workers wrote, and had not said by then, counts
        there = len(numbers_in(folder))
        job.done = max(job.done, min(there, job.total) if job.total else there)
    if job.note or not job.done:
        note = job.note or "stopped before a part was done"
        tell("the scan", note if client is None else f"{note}, and workers end those they are at")
    found = Scan(folder, model)
    if not job.note:
        with suppress(KeyboardInterrupt, ScanError):  # else they are added up when asked for
            _add_up(found)
    return found


def _done(
    client: Any,
    model: nn.Module,
    parts: Iterable[Any],
    folder: Path,
    reader: Reader,
    manifest: Manifest,
    others: bool,
    seen: Mapping[int, Seen | None],
) -> Iterator[str]:
    """Scan parts, here or on a cluster; gives the name of each when it is there.

    `others` is whether labels are told by other functions than before; `seen` is the first run of a
    part, where that has been made.
    """
    places = _places(folder.resolve() / PARTS, parts, reader, others)
    if client is not None:
        yield from spread(client, model, places, reader, manifest, folder)
        return
    for place, part in places:
        if not place.exists():
            scan_part(model, part, place, reader, manifest, seen.get(int(place.name)))
        yield place.name


def _places(
    folder: Path, parts: Iterable[Any], reader: Reader, others: bool
) -> Iterator[tuple[Path, Any]]:
    """The folder of each part, and the part; one that is there is read again where it must be."""
    for number, part in enumerate(parts):
        place = folder / f"{number:06d}"
        if place.exists():
            there = Part(place)
            if isinstance(part, Labelled):
                there.check_labels(part.held)
            if others or more_than(there, part):
                compare(there, reader.runs(part), reader)
        yield place, part


def _check_folder(folder: Path) -> None:
    """Raise where a folder holds what no scan has written: it stays as it is.

    Raises:
        ScanError: it does; or it holds a scan that cannot be read.
    """
    if (folder / NAME).exists():
        Manifest.read(folder)
        return
    if not folder.is_dir():
        return
    foreign = [
        one.name for one in folder.iterdir()
        if one.name not in (PARTS, *LEFT) and not unfinished(one, NAME)
    ]  # fmt: skip
    if (folder / PARTS).is_dir():  # its manifest is written before any part of a scan
        foreign += [
            f"{PARTS}/{one.name}" for one in (folder / PARTS).iterdir() if one.name not in LEFT
        ]
    elif (folder / PARTS).exists():
        foreign.append(PARTS)
    foreign.sort()
    if foreign and not (folder / NAME).exists():  # another process may have begun meanwhile
        raise ScanError(
            f"out must be a new or empty folder, or that of a scan, and {folder} holds "
            f"{', '.join(foreign[:3])}{', …' * (len(foreign) > 3)} and no {NAME}: name another "
            "folder, one in it, say"
        )


def _abreast(batch: Any, folder: Path) -> tuple[int, int | None]:
    """How many rows run side by side, and steps; None where that is to be found out."""
    if batch is not None:
        return whole(batch, "batch"), 0
    if not (folder / NAME).exists():
        return ROWS, None
    made = Manifest.read(folder)
    return made.batch, made.room


def _from_zero(recording: Recording) -> bool:
    """Whether all layers begin with a state of zeros."""
    return not any(bool(layer.segments[0].h_0.any()) for layer in recording.values())


def _end(manifest: Manifest, folder: Path, many: int, rules: str) -> None:
    """Write how many parts the corpus has, so that one that goes missing is missed.

    And by which functions all of them have been labelled, or compared.
    """
    there = max([*numbers_in(folder), -1]) + 1
    if there > many:
        warnings.warn(
            f"{folder} holds {so_many(there, 'part')}, and the corpus has {many} now: those "
            "that were scanned before are in every answer, too. Scan into another folder, if they "
            "should not be",
            stacklevel=3,
        )
    if (manifest.parts, manifest.rules) != (max(many, there), rules):
        replace(manifest, parts=max(many, there), rules=rules).write(folder)


def _add_up(found: Scan) -> None:
    """Add up the statistics of all parts, so that who opens the scan finds their sums on disk."""
    for layer in found.manifest.layers if len(found.parts) > 1 else ():
        for signal in layer.signals:
            found.stats(layer.name, signal.name)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, UnicodeError) as error:
        raise ScanError(f"{shown(str(folder))} cannot be made: {shown(str(error))}") from error


def _each(parts: Any) -> Iterator[Any]:
    """The parts, one after another."""
    if not isinstance(parts, str | bytes | Mapping | os.PathLike | Tensor):
        if isinstance(parts, DataLoader):  # what it gives as a list are the columns of a batch
            return (tuple(one) if isinstance(one, list) else one for one in parts)
        with suppress(Exception):
            if not isinstance(parts, Iterable):  # a data set may say where it ends by len() alone
                return map(parts.__getitem__, range(len(parts)))
            return iter(parts)
    raise ScanError(
        "parts must be a sequence of the parts of a corpus, each an input, a list of inputs or a "
        f"function that gives them; got {shown(parts)}"
    )


def _begun(parts: Iterator[Any], reader: Reader) -> tuple[list[Any], Run, Iterator[Run]]:
    """The parts up to the first that holds a step, its first run, and the further ones."""
    begun = []
    for part in parts:
        begun.append(part)
        runs = reader.runs(part)
        run = next(runs, None)
        if run is not None:
            return begun, run, runs
    if not begun:
        raise ScanError("a scan needs at least one part, and there is none")
    raise ScanError("the corpus holds no input that has a step")
