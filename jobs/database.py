"""The database: SQLite by default, PostgreSQL by URL. Reads and writes are blocks; a write block is one transaction."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session, sessionmaker

BUSY_TIMEOUT_S = 30
# Any number, the same for all who migrate.
MIGRATION_LOCK = 0x4144544E


class Database:
    """A pool of connections.

    Example:
        >>> with db.begin() as session:  # doctest: +SKIP
        ...     session.add(row)
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._readers = sessionmaker(engine, expire_on_commit=False)
        self._writers = sessionmaker(engine.execution_options(write=True), expire_on_commit=False)

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """A transaction that may write; committed at the end of the block, rolled back when it raises."""
        with self._writers.begin() as session:
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading; what it loads stays usable after the block."""
        with self._readers() as session:
            yield session

    def close(self) -> None:
        """Close the connections that are not in use."""
        self.engine.dispose()


def open_database(url: str) -> Database:
    """Open the database behind a SQLAlchemy URL; nothing is created or migrated, see `migrate`."""
    return Database(_engine(url))


def now(session: Session) -> datetime:
    """The time by which leases are judged: the database server's, so that the clocks of workers need not agree."""
    if session.get_bind().dialect.name == "postgresql":
        time: datetime = session.scalars(select(func.clock_timestamp())).one()
        return time.astimezone(UTC)
    return datetime.now(UTC)


def migrate(url: str) -> None:
    """Bring the tables up to date. Safe when several processes start at once: one migrates, the others wait."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "jobs:migrations")
    config.set_main_option("path_separator", "os")
    path = _sqlite_path(url)
    if path is not None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = _engine(url)
    try:
        with _file_lock(path) if path else nullcontext(), engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": MIGRATION_LOCK})
                connection.commit()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
    finally:
        # Ends the connection, and with it the advisory lock.
        engine.dispose()


def _engine(url: str) -> Engine:
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=30)
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}, pool_size=10, max_overflow=30)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver would begin transactions on its own, and too late: see _begin_sqlite.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads and then writes fails at once when another wrote in between, whatever the busy timeout;
    # one that takes the write lock first waits for its turn.
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _sqlite_path(url: str) -> Path | None:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return None
    return Path(parsed.database)


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    with path.with_name(f"{path.name}.migrate.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
