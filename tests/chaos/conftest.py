"""A stack of the test's own, with short leases: what is broken on purpose is broken for nobody else."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.digits import write_lenet
from support.stack import Stack, start_stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    running = start_stack(
        tmp_path_factory.mktemp("chaos"),
        ADTN_LEASE_S="4",
        ADTN_RECONCILE_S="0.5",
        ADTN_REPUBLISH_S="2",
        ADTN_CANCEL_GRACE_S="3",
    )
    yield running
    running.stop()


@pytest.fixture
def api(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        yield client


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lenet(tmp_path_factory.mktemp("checkpoints"))
