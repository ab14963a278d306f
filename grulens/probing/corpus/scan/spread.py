"""The parts of a scan on the workers of a dask cluster: each writes its parts, and says so.

Nothing but the names of parts comes back, so it does not matter which worker made which.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from torch import nn

from grulens.errors import ScanError
from grulens.models.restore.mode import evaluated
from grulens.probing.corpus.cluster import Workers, alone_with
from grulens.probing.corpus.scan.manifest import Manifest
from grulens.probing.corpus.scan.scan_part import scan_part
from grulens.probing.corpus.scan.sequences import Reader

AGAIN: Final = "scanned", "The parts that are there stay as they are: scan again"


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
    with Workers(client, folder, (model, reader, manifest), AGAIN) as workers:
        for place, part in parts:
            if place.exists():
                yield place.name
                continue
            workers.hand_out(int(place.name), place, _scan, part, place)
            if workers.full:
                yield from _written(workers)
        while workers.busy:
            yield from _written(workers)


def _written(workers: Workers) -> Iterator[str]:
    """The names of the next parts that are done."""
    for place, name in workers.first():
        if not place.is_dir():
            raise ScanError(
                f"a worker wrote part {name} to {place}, which is not there: `out` must be a "
                "folder that all workers share"
            )
        yield name


def _scan(shared: Path, part: Any, place: Path) -> str:
    """Scan a part in a worker."""
    if not place.exists():
        with alone_with(shared) as (model, reader, manifest), evaluated(model):
            scan_part(model, part, place, reader, manifest)
    return place.name
