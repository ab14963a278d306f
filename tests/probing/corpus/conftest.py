"""A cluster of two processes with one thread each, for what is spread over workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cloudpickle
import dask
import distributed
import pytest

from tests.probing.corpus.scan import test_scan


@pytest.fixture(scope="module")
def client(request: pytest.FixtureRequest) -> Iterator[distributed.Client]:
    held = {test_scan, request.module}
    for one in held:
        cloudpickle.register_pickle_by_value(one)  # or each worker imports this module's imports
    options: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    once = dask.config.set({"distributed.scheduler.allowed-failures": 1})
    with once, distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as made:
        yield made
    for one in held:
        cloudpickle.unregister_pickle_by_value(one)
