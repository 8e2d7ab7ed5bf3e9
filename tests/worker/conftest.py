"""A database and a store in a folder of the test's own, and a job in them that is ready to run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.digits import DigitsLeNet
from support.worker_jobs import add_file

from jobs import records
from jobs.database import Database, migrate
from jobs.queue import make_app
from jobs.schemas.settings import JobSettings
from jobs.settings import Settings
from worker.resources import Resources, open_resources


@pytest.fixture
def resources(tmp_path: Path) -> Iterator[Resources]:
    settings = Settings(data_dir=tmp_path / "data")
    migrate(settings.database_url)
    opened = open_resources(make_app(settings), settings)
    yield opened
    opened.db.close()


@pytest.fixture
def db(resources: Resources) -> Database:
    return resources.db


@pytest.fixture
def checkpoint_id(resources: Resources, tmp_path: Path) -> str:
    """A checkpoint of the digits' LeNet-5, uploaded and inspected."""
    torch.manual_seed(0)
    path = tmp_path / "lenet.safetensors"
    save_file(DigitsLeNet().state_dict(), path)
    return add_file(resources, path, "checkpoint")


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
