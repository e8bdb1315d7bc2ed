"""A little of what `python -m tests.service.chaos` does at length."""

from __future__ import annotations

import pytest

from tests.judges import needs
from tests.service import chaos

pytestmark = needs("Orthanc")


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_doubled(tmp_path):
    chaos.run(tmp_path, good=6, kills=12, seed=3)
