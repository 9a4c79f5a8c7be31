"""How hypothesis runs the laws: the same examples each time, so that a red build is red for a reason.

`pytest tests/core --hypothesis-profile=long` looks further, with new examples each time.
"""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("core", derandomize=True, database=None, deadline=None, max_examples=100)
settings.register_profile("long", database=None, deadline=None, max_examples=3_000)


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("--hypothesis-profile"):
        settings.load_profile("core")
