"""The database: migrations that may meet, and transactions that wait for each other."""

import multiprocessing
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError

from jobs.database import Database, migrate, now, open_database
from jobs.tables import Base, WorkerRow


def migrate_together(url: str, barrier: Any, errors: Any) -> None:
    barrier.wait()
    try:
        migrate(url)
        errors.put(None)
    except Exception as error:
        errors.put(repr(error))


def test_processes_that_start_at_once_migrate_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new/adtn.db"
    context = multiprocessing.get_context("spawn")
    barrier, errors = context.Barrier(3), context.Queue()
    processes = [context.Process(target=migrate_together, args=(url, barrier, errors)) for _ in range(3)]
    for process in processes:
        process.start()
    assert [errors.get(timeout=60) for _ in processes] == [None, None, None]
    for process in processes:
        process.join()
    db = open_database(url)
    assert set(inspect(db.engine).get_table_names()) == {*Base.metadata.tables, "alembic_version"}
    db.close()


def test_migrating_twice_changes_nothing(database_url: str) -> None:
    migrate(database_url)


def test_the_migrations_make_the_tables_that_the_code_declares(db: Database) -> None:
    with db.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_a_migration_that_fails_leaves_nothing_half_done(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/adtn.db"
    db = open_database(url)
    with db.begin() as session:
        # In the way of a table that is made late.
        session.execute(text("CREATE TABLE idempotency (x INTEGER)"))
    with pytest.raises(Exception, match="already exists"):
        migrate(url)
    assert "files" not in inspect(db.engine).get_table_names()
    db.close()


def test_transactions_that_read_and_then_write_wait_for_each_other(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/adtn.db"
    db = open_database(url)
    with db.begin() as session:
        session.execute(text("CREATE TABLE counters (n INTEGER)"))
        session.execute(text("INSERT INTO counters VALUES (0)"))

    def count() -> None:
        for _ in range(25):
            with db.begin() as session:
                n = session.execute(text("SELECT n FROM counters")).scalar_one()
                session.execute(text("UPDATE counters SET n = :n"), {"n": n + 1})

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with db.read() as session:
        assert session.execute(text("SELECT n FROM counters")).scalar_one() == 100
    db.close()


def test_a_block_that_raises_writes_nothing(db: Database) -> None:
    def write_and_stop() -> None:
        with db.begin() as session:
            session.add(WorkerRow(id="w", queue="q", hostname="h", seen_at=now(session)))
            session.flush()
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_and_stop()
    with db.read() as session:
        assert session.get(WorkerRow, ("w", "q")) is None


@pytest.mark.parametrize(
    ("column", "value"),
    [("status", "'exploded'"), ("status", "'running'"), ("status", "'succeeded'"), ("lease_until", "'2026-01-01'")],
)
def test_the_database_itself_refuses_states_that_make_no_sense(
    column: str, value: str, db: Database, add_job: Any
) -> None:
    job = add_job()
    with pytest.raises(IntegrityError), db.begin() as session:
        session.execute(text(f"UPDATE jobs SET {column} = {value} WHERE id = :id"), {"id": job.id})


def test_a_new_folder_is_for_this_user_alone(tmp_path: Path) -> None:
    migrate(f"sqlite:///{tmp_path}/data/adtn.db")
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
