"""A database and a store in a folder of the test's own, and a job in them that is ready to run."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.digits import write_lenet
from support.worker_jobs import add_file, without_verification

from jobs import records
from jobs.database import Database, migrate
from jobs.queue import make_app
from jobs.schemas.settings import JobSettings
from jobs.settings import Settings
from worker.resources import Resources, open_resources


@pytest.fixture
def seeded() -> Iterator[None]:
    """The same random numbers in every order of the tests."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session")
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the digits' LeNet-5."""
    return write_lenet(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def inspected(checkpoint_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A data folder in which that checkpoint was inspected, which takes seconds; and its id."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("inspected"))
    migrate(settings.database_url)
    opened = open_resources(make_app(settings), settings)
    file_id = add_file(opened, checkpoint_file, "checkpoint")
    opened.db.close()
    return settings.data_dir, file_id


@pytest.fixture
def resources(inspected: tuple[Path, str], tmp_path: Path) -> Iterator[Resources]:
    """A copy of that folder."""
    settings = Settings(data_dir=tmp_path / "data")
    shutil.copytree(inspected[0], settings.data_dir)
    opened = open_resources(make_app(settings), settings)
    yield opened
    opened.db.close()


@pytest.fixture
def db(resources: Resources) -> Database:
    return resources.db


@pytest.fixture
def checkpoint_id(resources: Resources, inspected: tuple[Path, str]) -> str:
    """The checkpoint that every database holds."""
    return inspected[1]


@pytest.fixture
def unverified() -> Iterator[None]:
    """For jobs about something else: see `support.worker_jobs.without_verification`."""
    with without_verification():
        yield


@pytest.fixture
def job_id(db: Database, checkpoint_id: str) -> str:
    """A queued job that fine-tunes for one epoch."""
    settings = {
        "checkpoint": checkpoint_id,
        "architecture": "lenet5",
        "dataset": "digits",
        "fit": {"steps": 5},
        "fine_tune": {"epochs": 1},
    }
    with db.begin() as session:
        row = records.create(session, owner="local", settings=JobSettings.model_validate(settings), max_attempts=3)
        return row.id
