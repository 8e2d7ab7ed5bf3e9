"""API keys: shown once when they are made, stored as digests."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from jobs.database import Database, now
from jobs.ids import new_id
from jobs.problems import ProblemError
from jobs.tables import KeyRow

PREFIX = "adtn_"


@dataclass(frozen=True)
class KeyRecord:
    """A key, but for the key itself."""

    id: str
    owner: str
    name: str
    created_at: datetime
    revoked_at: datetime | None


def create(db: Database, *, owner: str, name: str) -> tuple[str, KeyRecord]:
    """Make a key; only now it is seen.

    Args:
        db: The database.
        owner: Whose objects it opens; several keys may open the same.
        name: To tell keys apart.
    """
    key = PREFIX + secrets.token_urlsafe(32)
    with db.begin() as session:
        row = KeyRow(id=new_id("key"), owner=owner, name=name, sha256=_digest(key), created_at=now(session))
        session.add(row)
        session.flush()
        return key, _record(row)


def list_all(db: Database) -> list[KeyRecord]:
    """Every key, oldest first."""
    with db.read() as session:
        return [_record(row) for row in session.scalars(select(KeyRow).order_by(KeyRow.created_at, KeyRow.id))]


def revoke(db: Database, key_id: str) -> KeyRecord:
    """End a key; from now on it opens nothing. Revoking twice changes nothing.

    Raises:
        ProblemError: not_found.
    """
    with db.begin() as session:
        row = session.get(KeyRow, key_id)
        if row is None:
            raise ProblemError("not_found", f"there is no key {key_id!r}")
        row.revoked_at = row.revoked_at or now(session)
        return _record(row)


def owner_of(db: Database, key: str) -> str | None:
    """Whose key it is, or None if it is none or was revoked."""
    # Keys are long and random, so a plain fast digest hides them; looking up the digest tells nothing of the key.
    digest = _digest(key)
    with db.read() as session:
        row = session.scalars(select(KeyRow).where(KeyRow.sha256 == digest)).one_or_none()
    if row is None or row.revoked_at is not None or not hmac.compare_digest(row.sha256, digest):
        return None
    return row.owner


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _record(row: KeyRow) -> KeyRecord:
    return KeyRecord(row.id, row.owner, row.name, row.created_at, row.revoked_at)
