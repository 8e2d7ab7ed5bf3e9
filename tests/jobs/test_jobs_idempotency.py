"""Idempotency keys: the work is done once, and its answer is kept with it."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from jobs import idempotency
from jobs.database import Database, now
from jobs.idempotency import Answer, Claim, Granted
from jobs.problems import ProblemError
from jobs.tables import IdempotencyRow

CLAIM = Claim("alice", "POST /v1/jobs", "key-1")
ANSWER = Answer(202, "job_1", {"id": "job_1"})


def grow_old(db: Database, age: timedelta) -> None:
    with db.begin() as session:
        session.execute(update(IdempotencyRow).values(created_at=now(session) - age))


def claim(db: Database, fingerprint: str = "f") -> Granted:
    granted = idempotency.claim(db, CLAIM, fingerprint)
    assert isinstance(granted, Granted)
    return granted


def answer(db: Database, granted: Granted) -> None:
    with db.begin() as session:
        idempotency.answered(session, granted, ANSWER)


def test_the_second_request_gets_the_answer_of_the_first(db: Database) -> None:
    answer(db, claim(db))
    assert idempotency.claim(db, CLAIM, "f") == ANSWER


def test_a_request_while_the_first_is_in_flight_is_told_so(db: Database) -> None:
    idempotency.claim(db, CLAIM, "f")
    with pytest.raises(ProblemError) as error:
        idempotency.claim(db, CLAIM, "f")
    assert error.value.code == "idempotency_in_flight"


def test_a_key_for_another_content_is_refused(db: Database) -> None:
    answer(db, claim(db))
    with pytest.raises(ProblemError) as error:
        idempotency.claim(db, CLAIM, "g")
    assert error.value.code == "idempotency_key_reused"


@pytest.mark.parametrize(
    "other", [Claim("bob", CLAIM.route, CLAIM.key), Claim(CLAIM.owner, "POST /v1/other", CLAIM.key)]
)
def test_keys_of_other_owners_and_routes_are_other_keys(other: Claim, db: Database) -> None:
    idempotency.claim(db, CLAIM, "f")
    assert isinstance(idempotency.claim(db, other, "g"), Granted)


def test_a_claim_that_was_given_up_can_be_made_again(db: Database) -> None:
    idempotency.give_up(db, claim(db))
    claim(db, "g")


def test_an_answer_that_is_kept_cannot_be_given_up(db: Database) -> None:
    granted = claim(db)
    answer(db, granted)
    idempotency.give_up(db, granted)
    assert idempotency.claim(db, CLAIM, "f") == ANSWER


def test_the_claim_of_a_process_that_died_is_forgotten_after_minutes(db: Database) -> None:
    claim(db)
    grow_old(db, timedelta(minutes=6))
    claim(db)


def test_only_the_last_of_two_slow_requests_does_the_work(db: Database) -> None:
    slow = claim(db)
    grow_old(db, timedelta(minutes=6))
    granted = claim(db)
    idempotency.give_up(db, slow)
    with pytest.raises(ProblemError) as error:
        answer(db, slow)
    assert error.value.code == "idempotency_in_flight"
    answer(db, granted)
    assert idempotency.claim(db, CLAIM, "f") == ANSWER


def test_an_answer_is_kept_for_a_day(db: Database) -> None:
    answer(db, claim(db))
    grow_old(db, timedelta(hours=23))
    idempotency.forget_old(db)
    assert idempotency.claim(db, CLAIM, "f") == ANSWER
    grow_old(db, timedelta(hours=25))
    claim(db, "g")
