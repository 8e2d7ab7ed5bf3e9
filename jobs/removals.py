"""Objects that are to leave the store: written down before they are written, or with the row that named them.

So none is left that nobody can delete, whatever process is killed in between and however long the store is away. They
are removed twice: whoever was writing them and does not know yet that they are to go may write after the first time.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, delete, update
from sqlalchemy.orm import Session

from jobs.database import Database, now
from jobs.problems import ProblemError
from jobs.store import Store
from jobs.tables import RemovalRow

log = logging.getLogger(__name__)

LONGEST_UPLOAD = timedelta(days=7)
UNSURE = timedelta(days=1)
"""How long a process that holds no lease any more, or whose file is deleted, may still be writing."""
GIVEN_UP = datetime(1970, 1, 1, tzinfo=UTC)
"""When objects are due that nobody may claim any more: earlier than whatever anybody takes for the present."""


def reserve(db: Database, prefix: str) -> None:
    """Announce objects that have no row yet: they go after a week, unless one claims them."""
    with db.begin() as session:
        session.add(RemovalRow(prefix=prefix, due_at=now(session) + LONGEST_UPLOAD))


def claim(session: Session, prefix: str) -> None:
    """Keep the objects that were announced, in the transaction that writes their row.

    Raises:
        ProblemError: internal_error where they are gone, or about to.
    """
    claimed = session.scalars(
        delete(RemovalRow)
        .where(RemovalRow.prefix == prefix, RemovalRow.due_at > now(session), RemovalRow.removed_at.is_(None))
        .returning(RemovalRow.prefix)
    ).one_or_none()
    if claimed is None:
        raise ProblemError("internal_error", f"the upload was given up before it became a file: {prefix}")


def condemn(session: Session, prefix: str) -> None:
    """Let objects go, in the transaction that deletes their row; `carry_out` follows."""
    session.add(RemovalRow(prefix=prefix, due_at=GIVEN_UP))


def give_up(db: Database, store: Store, prefix: str) -> None:
    """Remove objects that were announced; nothing happens if they have been claimed, or removed before."""
    with db.begin() as session:
        announced = _let_go(session, RemovalRow.prefix == prefix, RemovalRow.removed_at.is_(None))
    for found in announced:
        carry_out(db, store, found)


def carry_out(db: Database, store: Store, prefix: str) -> None:
    """Remove objects that are due, the first time or the second. If the store fails, `carry_out_due` tries again."""
    try:
        store.delete(prefix)
    except Exception:
        log.exception("%s stays in the store for now", prefix)
        return
    with db.begin() as session:
        _note_removal(session, prefix)


def _note_removal(session: Session, prefix: str) -> None:
    """Make objects due once more, or forget them if that was the second time.

    Where two processes removed them at once for the first time, only one makes them due again, and the other one does
    not take that for the second time: they are not due before a day has passed.
    """
    time = now(session)
    row = RemovalRow.prefix == prefix
    session.execute(delete(RemovalRow).where(row, RemovalRow.removed_at.is_not(None), RemovalRow.due_at <= time))
    session.execute(
        update(RemovalRow).where(row, RemovalRow.removed_at.is_(None)).values(removed_at=time, due_at=time + UNSURE),
        execution_options={"synchronize_session": False},
    )


def carry_out_due(db: Database, store: Store) -> None:
    """Remove all objects that are due."""
    with db.begin() as session:
        due = _let_go(session, RemovalRow.due_at <= now(session))
    for prefix in due:
        carry_out(db, store, prefix)


def _let_go(session: Session, *which: ColumnElement[bool]) -> Sequence[str]:
    """Let nobody claim objects any more; their prefixes."""
    return session.scalars(
        update(RemovalRow).where(*which).values(due_at=GIVEN_UP).returning(RemovalRow.prefix),
        execution_options={"synchronize_session": False},
    ).all()
