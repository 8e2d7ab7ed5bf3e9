"""Databases to test on: a fresh SQLite file, and PostgreSQL where its server is installed."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from celery import Celery
from sqlalchemy import text

from jobs import files, ids, records
from jobs.database import Database, migrate, open_database
from jobs.queue import make_app
from jobs.schemas.settings import JobSettings
from jobs.settings import Settings
from jobs.store import Store, open_store
from jobs.tables import Base, JobRow

OWNER = "alice"


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "adtn.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a migrated database without rows."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path / "adtn.db")
        return f"sqlite:///{tmp_path}/adtn.db"
    url: str = request.getfixturevalue("migrated_postgres")
    database = open_database(url)
    with database.begin() as session:
        session.execute(text(f"TRUNCATE {', '.join(Base.metadata.tables)}"))
    database.close()
    return url


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    database = open_database(database_url)
    yield database
    database.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the store keeps its objects."""
    return tmp_path / "with space" / "objects"


@pytest.fixture
def store(folder: Path) -> Store:
    """An empty store."""
    return open_store(f"file://{str(folder).replace(' ', '%20')}")


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    """Publishes to an empty Redis."""
    celery = make_app(Settings(broker_url=redis_url))
    yield celery
    celery.close()


@pytest.fixture
def add_file(db: Database) -> Callable[..., str]:
    """Adds an upload and returns its id."""

    def add(*, ready: bool = True, purpose: str = "checkpoint", owner: str = OWNER) -> str:
        file_id = ids.new_id("file")
        with db.begin() as session:
            files.create(
                session, file_id, owner=owner, filename="m.safetensors", purpose=purpose, size=8, sha256="0" * 64
            )
        if ready:
            files.mark_ready(
                db, file_id, format="safetensors", summary={}, layers=[], aliases={}, checked_key=f"files/{file_id}/c"
            )
        return file_id

    return add


@pytest.fixture
def add_job(db: Database, add_file: Callable[..., str]) -> Callable[..., JobRow]:
    """Queues a job."""

    def add(*, checkpoint: str | None = None, dataset: str | None = None, max_attempts: int = 3) -> JobRow:
        settings = JobSettings(checkpoint=checkpoint or add_file(), dataset=dataset, architecture="lenet5")
        with db.begin() as session:
            return records.create(session, owner=OWNER, settings=settings, max_attempts=max_attempts)

    return add
