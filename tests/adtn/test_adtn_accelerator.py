"""What the library computes on an accelerator is what it computes on the CPU."""

from pathlib import Path

from support.accelerated import passed_on_accelerator


def test_the_library_runs_on_an_accelerator() -> None:
    assert passed_on_accelerator(Path(__file__).with_name("library_on_accelerator.py")) == 10
