"""What every test shares: one Hypothesis profile, and the same random numbers each time."""

import os

import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile(
    "grulens",
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
# to look harder than a check of every change can: GRULENS_EXAMPLES=1000 pytest tests/gru
settings.register_profile(
    "search",
    settings.get_profile("grulens"),
    derandomize=False,
    max_examples=int(os.environ.get("GRULENS_EXAMPLES", "25")),
)
settings.load_profile("search" if "GRULENS_EXAMPLES" in os.environ else "grulens")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave tests marked `unchecked` to the run without checks, which test_unchecked.py starts."""
    if config.getoption("jaxtyping_packages", None):
        here = [item for item in items if "unchecked" not in item.keywords]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(here)])
        items[:] = here


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    torch.manual_seed(0)
