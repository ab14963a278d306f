"""The parts of a scan on the workers of a dask cluster: each writes its parts, and says so.

Nothing but the names of parts comes back, so it does not matter which worker made which. A worker
that is killed loses the part it was at, which another one makes.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import torch
from torch import nn

from grulens.errors import ScanError, shown
from grulens.extras import need
from grulens.models.restore.mode import evaluated
from grulens.probing.corpus.scan.manifest import Manifest
from grulens.probing.corpus.scan.scan_part import scan_part
from grulens.probing.corpus.scan.sequences import Reader

#: So many parts a worker are handed out ahead.
AHEAD: Final = 2
#: A model is run by one thread of a process at a time.
_ALONE: Final = threading.Lock()


def check_client(client: Any) -> None:
    """Raise unless this is a client of dask.distributed.

    Raises:
        MissingPackageError: dask.distributed is not installed.
        ScanError: it is no client.
    """
    need("corpus", "client=", "distributed")
    import distributed  # noqa: PLC0415 - an extra

    if not isinstance(client, distributed.Client) or client.asynchronous:
        raise ScanError(f"client must be a dask.distributed.Client, got {shown(client)}")


def spread(
    client: Any,
    model: nn.Module,
    parts: Iterable[tuple[Path, Any]],
    reader: Reader,
    manifest: Manifest,
    folder: Path,
) -> Iterator[str]:
    """Have parts scanned by the workers of a cluster; gives the name of each when it is there.

    Args:
        client: a client of the cluster.
        model: the model.
        parts: the folder and the inputs of each part.
        reader: how they are read.
        manifest: what the scan is made with.
        folder: the folder of the scan.

    Raises:
        ScanError: a part cannot be scanned, or no worker stays alive for it; or workers write to
            another disk.
    """
    import cloudpickle  # noqa: PLC0415 - it comes with distributed

    workers = max(1, len(client.scheduler_info()["workers"]))
    # on the disk that all share: what one worker holds for the others is gone when it is killed
    shared = folder.resolve() / f".model-{uuid4().hex}"
    written, waiting = cloudpickle.dumps((model, reader, manifest)), dict[Any, Path]()
    try:
        _write(shared, written)
        for place, part in parts:
            if place.exists():
                yield place.name
                continue
            waiting[client.submit(_scan, shared, part, place, pure=False)] = place
            if len(waiting) >= AHEAD * workers:
                yield from _first(waiting)
        while waiting:
            yield from _first(waiting)
    finally:
        client.cancel(list(waiting))
        shared.unlink(missing_ok=True)


def _write(place: Path, what: bytes) -> None:
    try:
        place.write_bytes(what)
    except OSError as error:
        raise ScanError(
            f"the model cannot be written to {place.parent}, where workers read it: "
            f"{error.strerror or error}; the parts that are there stay as they are"
        ) from error


def _first(waiting: dict[Any, Path]) -> Iterator[str]:
    """Wait until a part is there, or more; gives their names."""
    import distributed  # noqa: PLC0415 - an extra

    wait: Any = distributed.wait
    with _of_the_cluster("some parts were"):
        done, _ = wait(list(waiting), return_when="FIRST_COMPLETED")
    for future in done:
        yield _name(future, waiting.pop(future))


@contextmanager
def _of_the_cluster(what: str) -> Iterator[None]:
    """What goes wrong with the cluster itself is a ScanError; all else stays what it is."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.split(".")[0] not in ("distributed", "concurrent", "asyncio"):
            raise
        raise ScanError(
            f"{what} not scanned: {error}. The parts that are there stay as they are: scan again"
        ) from error


def _name(future: Any, place: Path) -> str:
    """The name of a part that is done."""
    with _of_the_cluster(f"part {place.name} was"):
        name: str = future.result()
    if not place.is_dir():
        raise ScanError(
            f"a worker wrote part {name} to {place}, which is not there: `out` must be a folder "
            "that all workers share"
        )
    return name


@lru_cache(maxsize=1)
def _read(shared: Path) -> tuple[nn.Module, Reader, Manifest]:
    """The model of a scan, and how its parts are read; once in each worker."""
    found: tuple[nn.Module, Reader, Manifest] = pickle.loads(shared.read_bytes())
    if found[2].torch != torch.__version__:
        raise ScanError(
            f"a worker has torch {torch.__version__}, and the scan is made with {found[2].torch}, "
            "which may round in another way: give the workers that version, or scan here"
        )
    return found


def _scan(shared: Path, part: Any, place: Path) -> str:
    """Scan a part in a worker."""
    if place.exists():
        return place.name
    with _ALONE:
        model, reader, manifest = _read(shared)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # workers with several threads each stand in each other's way
        try:
            with evaluated(model):
                scan_part(model, part, place, reader, manifest)
        finally:
            torch.set_num_threads(threads)
    return place.name
