"""Pieces of long work on the workers of a dask cluster, each handed out once and given back.

What all pieces need, such as the model, is written once to a disk that all workers share: what one
worker holds for the others is gone when it is killed. A worker that is killed loses the piece it
was at, which another one does.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from pickle import PicklingError
from types import TracebackType
from typing import Any, Final

import torch

from grulens.errors import ScanError, shown
from grulens.extras import need
from grulens.probing.corpus.making import beside

#: So many pieces a worker are handed out ahead.
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
    if client.status in ("closed", "closing"):
        raise ScanError(
            "client must be connected to its cluster, and this one is closed: make another one, "
            "distributed.Client(...), or leave client= out"
        )


class Workers:
    """The workers of a cluster, to which pieces of work are handed out.

    Args:
        client: a client of the cluster.
        folder: a folder on a disk that all workers share.
        shared: what all pieces need; it lies in the folder as long as the `with` block lasts.
        again: what is said of work that the cluster did not do: what was to be done with a part,
            and what to do now.
    """

    def __init__(self, client: Any, folder: Path, shared: Any, again: tuple[str, str]) -> None:
        self._client, self._what, self._again = client, shared, again
        self._shared = beside(folder.resolve() / "model")
        self._many = max(1, len(client.scheduler_info()["workers"]))
        self._waiting: dict[Any, tuple[int, Any]] = {}

    def __enter__(self) -> Workers:
        import cloudpickle  # noqa: PLC0415 - it comes with distributed

        try:
            written = cloudpickle.dumps((torch.__version__, self._what))
        except Exception as error:
            raise ScanError(
                "what workers need must be pickled, the model and the functions that read the "
                f"corpus, and cannot be: {shown(str(error))}. Make of it what can be, or leave "
                "client= out"
            ) from error
        try:
            self._shared.write_bytes(written)
        except OSError as error:
            self._shared.unlink(missing_ok=True)
            raise ScanError(
                f"the model cannot be written to {self._shared.parent}, where workers read it: "
                f"{error.strerror or error}; what is there stays as it is"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self._client.cancel(list(self._waiting))
        self._shared.unlink(missing_ok=True)

    @property
    def full(self) -> bool:
        """Whether as many pieces are handed out as should be at a time."""
        return len(self._waiting) >= AHEAD * self._many

    @property
    def busy(self) -> bool:
        """Whether there are pieces that have not come back."""
        return bool(self._waiting)

    def hand_out(self, part: int, key: Any, do: Callable[..., Any], *given: Any) -> None:
        """Have a worker call `do` with the path of what is shared, and what is given here.

        Args:
            part: the number of the part that it is about, for messages.
            key: what `first` gives back with the result.
            do: a function of a module that workers import.
            given: its further arguments.

        Raises:
            ScanError: they cannot be sent to a worker.
        """
        try:
            future = self._client.submit(do, self._shared, *given, pure=False)
        except (TypeError, ValueError, AttributeError, PicklingError) as error:
            raise ScanError(
                f"part {part} must be pickled to go to a worker, and cannot be: {_first(error)}. "
                "Give what can be, such as a path, or a function of a module that reads the part "
                "there; or leave client= out"
            ) from error
        self._waiting[future] = part, key

    def first(self) -> Iterator[tuple[Any, Any]]:
        """Wait until a piece is done, or more; gives their keys and results.

        Raises:
            ScanError: no worker stays alive for one; what a piece raises is raised as it is.
        """
        import distributed  # noqa: PLC0415 - an extra

        wait: Any = distributed.wait
        with self._of_the_cluster("some parts were"):
            done, _ = wait(list(self._waiting), return_when="FIRST_COMPLETED")
        for future in done:
            part, key = self._waiting.pop(future)
            with self._of_the_cluster(f"part {part:06d} was"):
                result = future.result()
            yield key, result

    @contextmanager
    def _of_the_cluster(self, what: str) -> Iterator[None]:
        """What goes wrong with the cluster itself is a ScanError; all else stays what it is."""
        try:
            yield
        except Exception as error:
            if type(error).__module__.split(".")[0] not in ("distributed", "concurrent", "asyncio"):
                raise
            done, now = self._again
            raise ScanError(f"{what} not {done}: {error}. {now}") from error


def _first(error: BaseException) -> str:
    """What was said first of those errors that led to this one."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return shown(str(error))


@lru_cache(maxsize=1)
def _read(shared: Path) -> Any:
    """What is shared; read once in each worker."""
    version, what = pickle.loads(shared.read_bytes())
    if version != torch.__version__:
        raise ScanError(
            f"a worker has torch {torch.__version__}, and the work is begun with {version}, which "
            "may round in another way: give the workers that version, or do it here"
        )
    return what


@contextmanager
def alone_with(shared: Path) -> Iterator[Any]:
    """In a worker: what is shared, for a block that runs the model by itself, in one thread.

    Raises:
        ScanError: the worker has another version of torch.
    """
    with _ALONE:
        what = _read(shared)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # workers with several threads each stand in each other's way
        try:
            yield what
        finally:
            torch.set_num_threads(threads)
