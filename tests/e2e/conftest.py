"""One stack and one trained checkpoint for all tests of whole jobs."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from safetensors.torch import save_file
from support.digits import DigitsLeNet, trained_lenet
from support.stack import Stack, start_stack

from worker.datasets import Dataset, load


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    running = start_stack(tmp_path_factory.mktemp("stack"))
    yield running
    running.stop()


@pytest.fixture
def api(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        yield client


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load("digits", None)


@pytest.fixture(scope="session")
def trained(digits: Dataset) -> DigitsLeNet:
    return trained_lenet(digits)


@pytest.fixture(scope="session")
def checkpoint(trained: DigitsLeNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoints") / "lenet.safetensors"
    save_file(trained.state_dict(), path)
    return path
