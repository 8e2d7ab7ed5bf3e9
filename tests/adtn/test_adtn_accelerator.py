"""What the library computes on an accelerator is what it computes on the CPU."""

from pathlib import Path

import pytest
from support.accelerated import require_passes_on_accelerator


@pytest.mark.timeout(600)
def test_the_library_runs_on_an_accelerator() -> None:
    require_passes_on_accelerator(Path(__file__).with_name("library_on_accelerator.py"))
