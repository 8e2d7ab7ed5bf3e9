"""Where there is an accelerator, jobs compute on it."""

from pathlib import Path

from support.accelerated import passed_on_accelerator


def test_jobs_run_on_an_accelerator() -> None:
    assert passed_on_accelerator(Path(__file__).with_name("jobs_on_accelerator.py")) == 7
