"""Lists, a page at a time, newest first."""

from typing import TypeVar

from sqlalchemy import Select, select, tuple_
from sqlalchemy.orm import Session

from jobs.problems import Fault, ProblemError
from jobs.tables import FileRow, JobRow

Row = TypeVar("Row", FileRow, JobRow)


def page(
    session: Session, table: type[Row], rows: Select[Row], owner: str, limit: int, after: str | None
) -> tuple[list[Row], bool]:
    """The next `limit` of `rows` that are older than the one with id `after`, and whether there are more.

    Raises:
        ProblemError: validation_failed when `after` is not the id of one of the owner's rows.
    """
    if after is not None:
        last = session.execute(
            select(table.created_at, table.id).where(table.id == after, table.owner == owner)
        ).one_or_none()
        if last is None:
            fault = Fault("/after", f"there is no object {after!r}", "unknown_cursor")
            raise ProblemError("validation_failed", fault.detail, [fault])
        rows = rows.where(tuple_(table.created_at, table.id) < tuple_(last.created_at, last.id))
    found = list(session.scalars(rows.order_by(table.created_at.desc(), table.id.desc()).limit(limit + 1)))
    return found[:limit], len(found) > limit
