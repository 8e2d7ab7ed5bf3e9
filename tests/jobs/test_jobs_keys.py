"""API keys and workers' signs of life."""

import pytest
from sqlalchemy import text

from jobs import keys, workers
from jobs.database import Database
from jobs.problems import ProblemError


def test_a_key_opens_what_its_owner_has_until_it_is_revoked(db: Database) -> None:
    key, record = keys.create(db, owner="alice", name="laptop")
    assert keys.owner_of(db, key) == "alice"
    assert keys.owner_of(db, key + "x") is None
    assert keys.revoke(db, record.id).revoked_at is not None
    assert keys.owner_of(db, key) is None


def test_the_key_itself_is_not_stored(db: Database) -> None:
    key, _ = keys.create(db, owner="alice", name="laptop")
    with db.read() as session:
        row = session.execute(text("SELECT * FROM api_keys")).one()
    assert key not in str(row)
    assert len(key) > 40


def test_a_key_that_is_not_there_cannot_be_revoked(db: Database) -> None:
    with pytest.raises(ProblemError, match="no key"):
        keys.revoke(db, "key_none")


def test_workers_count_on_their_queue_while_they_give_signs_of_life(db: Database) -> None:
    workers.beat(db, "w1", queues=["jobs"], hostname="here")
    workers.beat(db, "w1", queues=["jobs"], hostname="here")
    workers.beat(db, "w2", queues=["jobs", "files"], hostname="there", device="cuda")
    assert (workers.alive(db, "jobs", 60), workers.alive(db, "files", 60)) == (2, 1)
    assert workers.alive(db, "jobs", -60) == 0
