"""Requests with an `Idempotency-Key`: claimed before the work, answered in the transaction of the work itself."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from jobs.database import Database, now
from jobs.problems import ProblemError
from jobs.tables import IdempotencyRow

KEPT = timedelta(hours=24)
# A claim without an answer that is older was left by a process that died before it did anything: a plan for many layers
# takes minutes.
ABANDONED = timedelta(minutes=5)


@dataclass(frozen=True)
class Claim:
    """A wish to be the request that does the work."""

    owner: str
    route: str
    key: str


@dataclass(frozen=True)
class Granted:
    """The right to be that request. It ends when it is old and another request is granted it."""

    claim: Claim
    created_at: datetime


@dataclass(frozen=True)
class Answer:
    """What the first request was answered."""

    status: int
    job_id: str
    body: dict[str, Any]


def claim(db: Database, claim: Claim, fingerprint: str) -> Granted | Answer:
    """Claim a key.

    Args:
        db: The database.
        claim: Whose key, for which method and path.
        fingerprint: A digest of the request's content.

    Returns:
        The right to do the work where the caller is the first, else the first's answer.

    Raises:
        ProblemError: idempotency_key_reused where the first had another content, idempotency_in_flight where it has
            not been answered yet.
    """
    for _ in range(2):
        try:
            with db.begin() as session:
                session.execute(delete(IdempotencyRow).where(*_is(claim), *_over(session)))
                found = session.scalars(select(IdempotencyRow).where(*_is(claim))).one_or_none()
                if found is not None:
                    return _answer(found, fingerprint)
                granted = Granted(claim, now(session))
                session.add(
                    IdempotencyRow(
                        owner=claim.owner,
                        route=claim.route,
                        key=claim.key,
                        fingerprint=fingerprint,
                        created_at=granted.created_at,
                    )
                )
            return granted
        except IntegrityError:
            # Another request with the key came in between (PostgreSQL only): now it is found.
            continue
    raise ProblemError("idempotency_in_flight", "the first request with this key is still in flight")


def _answer(row: IdempotencyRow, fingerprint: str) -> Answer:
    if row.fingerprint != fingerprint:
        raise ProblemError("idempotency_key_reused", "the first request with this key had another content")
    if row.status is None or row.job_id is None or row.body is None:
        raise ProblemError("idempotency_in_flight", "the first request with this key is still in flight")
    return Answer(row.status, row.job_id, row.body)


def answered(session: Session, granted: Granted, answer: Answer) -> None:
    """Keep the answer, in the transaction that did the work.

    Raises:
        ProblemError: idempotency_in_flight where the work took so long that another request does it now.
    """
    kept = session.scalars(
        update(IdempotencyRow)
        .where(*_was(granted))
        .values(status=answer.status, job_id=answer.job_id, body=answer.body)
        .returning(IdempotencyRow.key),
        execution_options={"synchronize_session": False},
    ).one_or_none()
    if kept is None:
        raise ProblemError("idempotency_in_flight", "a later request with this key has taken over")


def give_up(db: Database, granted: Granted) -> None:
    """Withdraw what was granted to a request that did nothing, so that a corrected one may use the key."""
    with db.begin() as session:
        session.execute(delete(IdempotencyRow).where(*_was(granted), IdempotencyRow.status.is_(None)))


def forget_old(db: Database) -> None:
    """Remove answers that are older than a day."""
    with db.begin() as session:
        session.execute(delete(IdempotencyRow).where(IdempotencyRow.created_at < now(session) - KEPT))


def _is(claim: Claim) -> tuple[Any, ...]:
    return (
        IdempotencyRow.owner == claim.owner,
        IdempotencyRow.route == claim.route,
        IdempotencyRow.key == claim.key,
    )


def _was(granted: Granted) -> tuple[Any, ...]:
    return (*_is(granted.claim), IdempotencyRow.created_at == granted.created_at)


def _over(session: Session) -> tuple[Any, ...]:
    """Matches a row that no longer counts."""
    time = now(session)
    return (
        (IdempotencyRow.created_at < time - KEPT)
        | (IdempotencyRow.status.is_(None) & (IdempotencyRow.created_at < time - ABANDONED)),
    )
