"""Idempotency keys: the work is done once, and its answer is kept with it."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from jobs import idempotency
from jobs.database import Database, now
from jobs.idempotency import Answer, Claim
from jobs.problems import ProblemError
from jobs.tables import IdempotencyRow

CLAIM = Claim("alice", "POST /v1/jobs", "key-1")
ANSWER = Answer(202, "job_1", {"id": "job_1"})


def grow_old(db: Database, age: timedelta) -> None:
    with db.begin() as session:
        session.execute(update(IdempotencyRow).values(created_at=now(session) - age))


def answer(db: Database) -> None:
    with db.begin() as session:
        idempotency.answered(session, CLAIM, ANSWER)


def test_the_second_request_gets_the_answer_of_the_first(db: Database) -> None:
    assert idempotency.claim(db, CLAIM, "f") is None
    answer(db)
    assert idempotency.claim(db, CLAIM, "f") == ANSWER


def test_a_request_while_the_first_is_in_flight_is_told_so(db: Database) -> None:
    idempotency.claim(db, CLAIM, "f")
    with pytest.raises(ProblemError) as error:
        idempotency.claim(db, CLAIM, "f")
    assert error.value.code == "idempotency_in_flight"


def test_a_key_for_another_content_is_refused(db: Database) -> None:
    idempotency.claim(db, CLAIM, "f")
    answer(db)
    with pytest.raises(ProblemError) as error:
        idempotency.claim(db, CLAIM, "g")
    assert error.value.code == "idempotency_key_reused"


@pytest.mark.parametrize(
    "other", [Claim("bob", CLAIM.route, CLAIM.key), Claim(CLAIM.owner, "POST /v1/other", CLAIM.key)]
)
def test_keys_of_other_owners_and_routes_are_other_keys(other: Claim, db: Database) -> None:
    idempotency.claim(db, CLAIM, "f")
    assert idempotency.claim(db, other, "g") is None


def test_a_claim_that_was_given_up_can_be_made_again(db: Database) -> None:
    idempotency.claim(db, CLAIM, "f")
    idempotency.give_up(db, CLAIM)
    assert idempotency.claim(db, CLAIM, "g") is None


def test_an_answer_that_is_kept_cannot_be_given_up(db: Database) -> None:
    idempotency.claim(db, CLAIM, "f")
    answer(db)
    idempotency.give_up(db, CLAIM)
    assert idempotency.claim(db, CLAIM, "f") == ANSWER


def test_the_claim_of_a_process_that_died_is_forgotten_after_a_minute(db: Database) -> None:
    idempotency.claim(db, CLAIM, "f")
    grow_old(db, timedelta(seconds=61))
    assert idempotency.claim(db, CLAIM, "f") is None


def test_an_answer_is_kept_for_a_day(db: Database) -> None:
    idempotency.claim(db, CLAIM, "f")
    answer(db)
    grow_old(db, timedelta(hours=23))
    idempotency.forget_old(db)
    assert idempotency.claim(db, CLAIM, "f") == ANSWER
    grow_old(db, timedelta(hours=25))
    assert idempotency.claim(db, CLAIM, "g") is None
