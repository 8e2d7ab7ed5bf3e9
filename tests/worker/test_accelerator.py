"""Where there is an accelerator, jobs compute on it."""

from pathlib import Path

import pytest
from support.accelerated import require_passes_on_accelerator


@pytest.mark.timeout(600)
def test_jobs_run_on_an_accelerator() -> None:
    require_passes_on_accelerator(Path(__file__).with_name("jobs_on_accelerator.py"))
